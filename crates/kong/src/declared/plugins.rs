//! Plugins (spec gateway-admin 10); their configurations are declared in `crate::plugins`.

use serde_json::Value;

use super::{CREATED_AT, ID, PROTOCOL, TAGS, UPDATED_AT, flag, single};
use crate::entity::{BASE, Document, Entity, Foreign, OnDelete, Overlay, Unique, Violations};
use crate::formats;
use crate::plugins::plugin;
use crate::schema::{Check, Field, KEY_BYTES_MAX, Kind, Literal};

pub(super) const ENTITY: Entity = Entity {
    name: "plugins",
    path: "plugins",
    nested_path: "plugins",
    endpoint_key: Some("instance_name"),
    foreign: &[ROUTE, SERVICE, CONSUMER],
    unique: &[
        Unique {
            name: "scope",
            fields: &["name", "route", "service", "consumer"],
            nulls_equal: true,
        },
        single("instance_name", &["instance_name"]),
    ],
    cache_key: &["name", "route", "service", "consumer"],
    fields: FIELDS,
    overlay,
    ..BASE
};

const ROUTE: Foreign = Foreign {
    field: "route",
    entity: "routes",
    on_delete: OnDelete::Cascade,
};
const SERVICE: Foreign = Foreign {
    field: "service",
    entity: "services",
    on_delete: OnDelete::Cascade,
};
/// The consumer a plugin is for.
const CONSUMER: Foreign = Foreign {
    field: "consumer",
    entity: "consumers",
    on_delete: OnDelete::Cascade,
};

/// Protocols of a plugin, unless it narrows them.
const HTTP_FAMILY: &[&str] = &["grpc", "grpcs", "http", "https"];
/// One of the protocols of the http family.
const HTTP_PROTOCOL: Field = Field::element(Kind::String, &[Check::OneOf(HTTP_FAMILY)]);
/// `protocols` of a plugin that runs for the http family only.
pub(crate) const HTTP_PROTOCOLS: Field = Field::new("protocols", Kind::Set(&HTTP_PROTOCOL))
    .default(Literal::Strings(HTTP_FAMILY))
    .required();
/// `protocols` of a plugin that Kong also runs for streams.
pub(crate) const HTTP_AND_STREAM_PROTOCOLS: Field = Field::new("protocols", Kind::Set(&PROTOCOL))
    .default(Literal::Strings(&[
        "http", "https", "tcp", "tls", "grpc", "grpcs",
    ]))
    .required();
/// `consumer` of a plugin that cannot be bound to one.
pub(crate) const NO_CONSUMER: Field =
    Field::new("consumer", Kind::Foreign(&CONSUMER)).checks(&[Check::Null(None)]);

const FIELDS: &[Field] = &[
    ID,
    Field::new("name", Kind::String).required(),
    Field::new("instance_name", Kind::String)
        .checks(&[Check::LengthMax(KEY_BYTES_MAX), Check::Text(formats::name)])
        .unique(),
    CREATED_AT,
    UPDATED_AT,
    Field::new("route", Kind::Foreign(&ROUTE)),
    Field::new("service", Kind::Foreign(&SERVICE)),
    Field::new("consumer", Kind::Foreign(&CONSUMER)),
    // The fields of the configuration come from the plugin, see `overlay`.
    Field::new("config", Kind::Record(&[])).required(),
    Field::new("protocols", Kind::Set(&PROTOCOL))
        .default(Literal::Strings(HTTP_FAMILY))
        .required(),
    flag("enabled", true),
    TAGS,
];

/// What the plugin named decides on; an unknown or disabled name is reported alone.
fn overlay(document: &Document, enabled_plugins: &[String]) -> Result<Overlay, Violations> {
    let Some(Value::String(name)) = document.get("name") else {
        return Ok(Overlay::default());
    };
    match plugin(name) {
        Some(plugin) if enabled_plugins.iter().any(|enabled| enabled == name) => Ok(Overlay {
            fields: plugin.fields,
            checks: plugin.checks,
        }),
        _ => Err(Violations::on(
            "name",
            format!("plugin '{name}' not enabled; add it to the 'plugins' configuration property"),
        )),
    }
}
