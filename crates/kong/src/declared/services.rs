//! Services (spec gateway-admin 9.1).

use serde_json::Value;

use super::{CREATED_AT, ID, NAME, PROTOCOLS, TAGS, UNIQUE_NAME, UPDATED_AT, UUID, flag, is_http};
use crate::entity::{BASE, Document, Entity, Foreign, IdList, OnDelete, Shorthand};
use crate::formats;
use crate::schema::{Check, EntityCheck, Field, Kind, Literal, Unsupported, When};

pub(super) const ENTITY: Entity = Entity {
    name: "services",
    path: "services",
    nested_path: "services",
    endpoint_key: Some("name"),
    foreign: &[CLIENT_CERTIFICATE],
    unique: &[UNIQUE_NAME],
    lists: &[CA_CERTIFICATES],
    fields: FIELDS,
    shorthand: Some(&URL),
    checks: CHECKS,
    unsupported: UNSUPPORTED,
    ..BASE
};

const CLIENT_CERTIFICATE: Foreign = Foreign {
    field: "client_certificate",
    entity: "certificates",
    on_delete: OnDelete::Restrict,
};

const CA_CERTIFICATES: IdList = IdList {
    field: "ca_certificates",
    entity: "ca_certificates",
};

const FIELDS: &[Field] = &[
    ID,
    CREATED_AT,
    UPDATED_AT,
    NAME,
    Field::new("retries", Kind::Integer)
        .default(Literal::Integer(5))
        .checks(&[Check::Between(0, 32_767)]),
    Field::new("protocol", Kind::String)
        .default(Literal::String("http"))
        .checks(&[Check::OneOf(PROTOCOLS)])
        .required(),
    Field::new("host", Kind::String)
        .checks(&[Check::Text(formats::host)])
        .required(),
    Field::new("port", Kind::Integer)
        .default(Literal::Integer(80))
        .checks(&[Check::Between(0, 65_535)])
        .required(),
    Field::new("path", Kind::String)
        .checks(&[Check::StartsWith("/"), Check::Text(formats::path)])
        .empty_is_null(),
    timeout("connect_timeout"),
    timeout("write_timeout"),
    timeout("read_timeout"),
    TAGS,
    Field::new("client_certificate", Kind::Foreign(&CLIENT_CERTIFICATE)),
    Field::new("tls_verify", Kind::Boolean),
    Field::new("tls_verify_depth", Kind::Integer).checks(&[Check::Between(0, 64)]),
    Field::new("ca_certificates", Kind::Array(&UUID)),
    flag("enabled", true),
];

const NULL: &[Check] = &[Check::Null(None)];

/// `field` must be null unless the service speaks TLS.
const fn only_with_tls(field: &'static str) -> EntityCheck {
    EntityCheck::Conditional {
        field: "protocol",
        when: When::IsNot(&["https", "tls"]),
        then_field: field,
        then: NULL,
        message: None,
    }
}

const CHECKS: &[EntityCheck] = &[
    EntityCheck::Conditional {
        field: "protocol",
        when: When::Is(&["tcp", "tls", "udp", "grpc", "grpcs"]),
        then_field: "path",
        then: NULL,
        message: None,
    },
    only_with_tls("client_certificate"),
    only_with_tls("tls_verify"),
    only_with_tls("tls_verify_depth"),
    only_with_tls("ca_certificates"),
];

const UNSUPPORTED: &[Unsupported] = &[Unsupported {
    field: "protocol",
    supported: is_http,
    message: "not supported by this build, which speaks http, https, grpc and grpcs to services",
}];

const URL: Shorthand = Shorthand {
    name: "url",
    expand: expand_url,
};

/// Kong's `url` of a service: sets protocol, host, port and path, and drops everything else.
fn expand_url(url: &str, service: &mut Document) {
    let url = url.split('#').next().unwrap_or_default();
    let (scheme, rest) = match url.split_once(':') {
        Some((scheme, rest)) if formats::is_scheme(scheme) => (Some(scheme), rest),
        _ => (None, url),
    };
    let (authority, rest) = match rest.strip_prefix("//") {
        Some(rest) => {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let (authority, rest) = rest.split_at_checked(end).unwrap_or((rest, ""));
            (authority, rest)
        }
        None => ("", rest),
    };
    let path = rest.split(['?', ';']).next().unwrap_or_default();
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let port = port.filter(|port| !port.is_empty());
    let number = port.and_then(|port| port.parse::<i64>().ok());
    let protocol = scheme.unwrap_or(match number {
        Some(443) => "https",
        _ => "http",
    });
    let port = match (number, port) {
        (Some(number), _) => Value::from(number),
        (None, Some(text)) => Value::from(text),
        (None, None) if protocol == "https" => Value::from(443),
        (None, None) => Value::from(80),
    };
    let text = |text: &str| match text {
        "" => Value::Null,
        text => Value::from(text),
    };
    service.insert("protocol".to_owned(), Value::from(protocol));
    service.insert("host".to_owned(), text(host));
    service.insert("port".to_owned(), port);
    service.insert("path".to_owned(), text(path));
}

/// A timeout of a service in milliseconds.
const fn timeout(name: &'static str) -> Field {
    Field::new(name, Kind::Integer)
        .default(Literal::Integer(60_000))
        .checks(&[Check::Between(1, 2_147_483_646)])
}
