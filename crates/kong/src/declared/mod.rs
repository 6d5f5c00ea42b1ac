//! The entities this build serves, field by field (Kong 3.9.3, spec gateway-admin 9 to 11).

mod acls;
mod certificates;
mod consumers;
mod credentials;
mod described;
mod keys;
mod oauth2;
mod plugins;
mod routes;
mod services;
mod targets;
mod upstreams;
mod vaults;

pub use described::schema;
pub(crate) use plugins::{HTTP_AND_STREAM_PROTOCOLS, HTTP_PROTOCOLS, NO_CONSUMER};
pub use vaults::vault_schema;

use serde_json::Value;

use crate::entity::{Document, Entity, Overlay, Unique};
use crate::formats;
use crate::schema::{Auto, Check, Field, KEY_BYTES_MAX, Kind, Literal};

/// Parents before children.
pub(crate) static ENTITIES: &[Entity] = &all(routes::ENTITY);
pub(crate) static TRADITIONAL_ENTITIES: &[Entity] = &all(routes::TRADITIONAL);
pub(crate) static EXPRESSIONS_ENTITIES: &[Entity] = &all(routes::EXPRESSIONS);

const fn all(routes: Entity) -> [Entity; 19] {
    [
        certificates::CERTIFICATES,
        certificates::SNIS,
        certificates::CA_CERTIFICATES,
        vaults::ENTITY,
        keys::KEY_SETS,
        keys::KEYS,
        services::ENTITY,
        routes,
        consumers::ENTITY,
        plugins::ENTITY,
        acls::ENTITY,
        credentials::BASIC_AUTH,
        credentials::KEY_AUTH,
        credentials::JWT,
        credentials::HMAC_AUTH,
        oauth2::CREDENTIALS,
        oauth2::TOKENS,
        upstreams::ENTITY,
        targets::ENTITY,
    ]
}

/// What an entity makes of a client's input before defaults and checks; see `Entity::prepare`.
pub(crate) fn preparation(entity: &str, transform: bool) -> Option<fn(&mut Document)> {
    match entity {
        // A PATCH of one of the two fields may have left them uncoupled.
        "upstreams" if transform => Some(upstreams::couple),
        "targets" => Some(targets::normalise),
        "ca_certificates" => Some(certificates::digest),
        _ => None,
    }
}

/// The overlay of a stored document, whatever is enabled now.
pub(crate) fn stored_overlay(entity: &Entity, document: &Document) -> Overlay {
    let plugin = match document.get("name") {
        Some(Value::String(name)) => vec![name.clone()],
        _ => Vec::new(),
    };
    (entity.overlay)(document, &plugin).unwrap_or_default()
}

/// Protocols of services and routes, in the order of Kong's message.
const PROTOCOLS: &[&str] = &[
    "grpc",
    "grpcs",
    "http",
    "https",
    "tcp",
    "tls",
    "tls_passthrough",
    "udp",
];

const ID: Field = Field::new("id", Kind::String)
    .checks(&[Check::Uuid])
    .auto(Auto::Uuid);
const CREATED_AT: Field = Field::new("created_at", Kind::Integer)
    .checks(&[Check::Timestamp])
    .auto(Auto::Created);
const UPDATED_AT: Field = Field::new("updated_at", Kind::Integer)
    .checks(&[Check::Timestamp])
    .auto(Auto::Updated);
const NAME: Field = Field::new("name", Kind::String)
    .checks(&[Check::LengthMax(KEY_BYTES_MAX), Check::Text(formats::name)])
    .unique();
const TAG: Field = Field::element(
    Kind::String,
    &[Check::LengthMax(KEY_BYTES_MAX), Check::Text(formats::tag)],
);
const TAGS: Field = Field::new("tags", Kind::Set(&TAG));
/// A plain text as an element.
pub(crate) const TEXT: Field = Field::element(Kind::String, &[]);
const UUID: Field = Field::element(Kind::String, &[Check::Uuid]);
const PROTOCOL: Field = Field::element(Kind::String, &[Check::OneOf(PROTOCOLS)]);

const UNIQUE_NAME: Unique = single("name", &["name"]);

const fn single(name: &'static str, fields: &'static [&'static str]) -> Unique {
    Unique {
        name,
        fields,
        nulls_equal: false,
    }
}

const fn flag(name: &'static str, default: bool) -> Field {
    Field::new(name, Kind::Boolean)
        .default(Literal::Boolean(default))
        .required()
}

/// Whether the data plane speaks the protocol.
fn is_http(value: &Value) -> bool {
    matches!(value.as_str(), Some("http" | "https" | "grpc" | "grpcs"))
}
