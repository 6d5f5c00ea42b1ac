//! Upstreams: what balances over targets (spec gateway-admin 9.4).

use serde_json::{Value, json};

use super::{CREATED_AT, ID, TAGS, TEXT, UNIQUE_NAME, UPDATED_AT, flag};
use crate::entity::{BASE, Document, Entity, Foreign, OnDelete};
use crate::formats;
use crate::schema::{Check, EntityCheck, Field, KEY_BYTES_MAX, Kind, Literal};

pub(super) const ENTITY: Entity = Entity {
    name: "upstreams",
    path: "upstreams",
    nested_path: "upstreams",
    endpoint_key: Some("name"),
    foreign: &[CLIENT_CERTIFICATE],
    unique: &[UNIQUE_NAME],
    fields: FIELDS,
    checks: CHECKS,
    ..BASE
};

const CLIENT_CERTIFICATE: Foreign = Foreign {
    field: "client_certificate",
    entity: "certificates",
    on_delete: OnDelete::Restrict,
};

const HASH_INPUTS: &[&str] = &[
    "none",
    "consumer",
    "ip",
    "header",
    "cookie",
    "path",
    "query_arg",
    "uri_capture",
];

const FIELDS: &[Field] = &[
    ID,
    CREATED_AT,
    UPDATED_AT,
    Field::new("name", Kind::String)
        .checks(&[
            Check::LengthMax(KEY_BYTES_MAX),
            Check::Text(formats::upstream_name),
        ])
        .required()
        .unique(),
    Field::new("algorithm", Kind::String)
        .default(Literal::String("round-robin"))
        .checks(&[Check::OneOf(&[
            "consistent-hashing",
            "least-connections",
            "round-robin",
            "latency",
        ])]),
    hash_input("hash_on"),
    hash_input("hash_fallback"),
    header("hash_on_header"),
    header("hash_fallback_header"),
    Field::new("hash_on_cookie", Kind::String).checks(&[Check::Text(formats::cookie_name)]),
    Field::new("hash_on_cookie_path", Kind::String)
        .default(Literal::String("/"))
        .checks(&[Check::StartsWith("/"), Check::Text(formats::path)]),
    text("hash_on_query_arg"),
    text("hash_fallback_query_arg"),
    text("hash_on_uri_capture"),
    text("hash_fallback_uri_capture"),
    Field::new("slots", Kind::Integer)
        .default(Literal::Integer(10_000))
        .checks(&[Check::Between(10, 65_536)]),
    Field::new("healthchecks", Kind::Record(HEALTHCHECKS)).required(),
    TAGS,
    Field::new("host_header", Kind::String).checks(&[Check::Text(formats::host_and_port)]),
    Field::new("client_certificate", Kind::Foreign(&CLIENT_CERTIFICATE)),
    Field::new("use_srv_name", Kind::Boolean).default(Literal::Boolean(false)),
];

const fn hash_input(name: &'static str) -> Field {
    Field::new(name, Kind::String)
        .default(Literal::String("none"))
        .checks(&[Check::OneOf(HASH_INPUTS)])
}

const fn header(name: &'static str) -> Field {
    Field::new(name, Kind::String).checks(&[Check::Text(formats::header_name)])
}

const fn text(name: &'static str) -> Field {
    Field::new(name, Kind::String).checks(&[Check::LengthMin(1)])
}

const HEALTHCHECKS: &[Field] = &[
    Field::new("active", Kind::Record(ACTIVE)).required(),
    Field::new("passive", Kind::Record(PASSIVE)).required(),
    Field::new("threshold", Kind::Number)
        .default(Literal::Integer(0))
        .checks(&[Check::Between(0, 100)]),
];

const ACTIVE: &[Field] = &[
    CHECK_TYPE,
    Field::new("timeout", Kind::Number)
        .default(Literal::Integer(1))
        .checks(SECONDS),
    Field::new("concurrency", Kind::Integer)
        .default(Literal::Integer(10))
        .checks(&[Check::Between(1, 2_147_483_648)]),
    Field::new("http_path", Kind::String)
        .default(Literal::String("/"))
        .checks(&[Check::StartsWith("/"), Check::Text(formats::path)]),
    Field::new("https_sni", Kind::String).checks(&[Check::Text(formats::server_name)]),
    flag("https_verify_certificate", true),
    Field::new(
        "headers",
        Kind::Map {
            keys: &HEADER,
            values: &HEADER_VALUES,
        },
    ),
    Field::new(
        "healthy",
        Kind::Record(&[interval(), statuses(&[200, 302]), counter("successes")]),
    )
    .required(),
    Field::new(
        "unhealthy",
        Kind::Record(&[
            interval(),
            statuses(&[429, 404, 500, 501, 502, 503, 504, 505]),
            counter("tcp_failures"),
            counter("timeouts"),
            counter("http_failures"),
        ]),
    )
    .required(),
];

const PASSIVE: &[Field] = &[
    CHECK_TYPE,
    Field::new(
        "healthy",
        Kind::Record(&[
            statuses(&[
                200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303, 304, 305,
                306, 307, 308,
            ]),
            counter("successes"),
        ]),
    )
    .required(),
    Field::new(
        "unhealthy",
        Kind::Record(&[
            statuses(&[429, 500, 503]),
            counter("tcp_failures"),
            counter("timeouts"),
            counter("http_failures"),
        ]),
    )
    .required(),
];

const CHECK_TYPE: Field = Field::new("type", Kind::String)
    .default(Literal::String("http"))
    .checks(&[Check::OneOf(&["tcp", "http", "https", "grpc", "grpcs"])]);
const HEADER: Field = Field::element(Kind::String, &[Check::Text(formats::header_name)]);
const HEADER_VALUES: Field = Field::element(Kind::Array(&TEXT), &[]);
const STATUS: Field = Field::element(Kind::Integer, &[Check::Between(100, 999)]);
const SECONDS: &[Check] = &[Check::Between(0, 65_535)];

const fn interval() -> Field {
    Field::new("interval", Kind::Number)
        .default(Literal::Integer(0))
        .checks(SECONDS)
}

const fn statuses(default: &'static [i64]) -> Field {
    Field::new("http_statuses", Kind::Array(&STATUS)).default(Literal::Integers(default))
}

const fn counter(name: &'static str) -> Field {
    Field::new(name, Kind::Integer)
        .default(Literal::Integer(0))
        .checks(&[Check::Between(0, 255)])
}

const CHECKS: &[EntityCheck] = &[
    EntityCheck::Custom(&["hash_on", "hash_on_header"], |it, messages, added| {
        needs(it, "hash_on", "header", "hash_on_header", messages, added);
    }),
    EntityCheck::Custom(&["hash_on", "hash_on_cookie"], |it, messages, added| {
        needs(it, "hash_on", "cookie", "hash_on_cookie", messages, added);
    }),
    EntityCheck::Custom(
        &["hash_fallback", "hash_fallback_header"],
        |it, messages, added| {
            let field = "hash_fallback_header";
            needs(it, "hash_fallback", "header", field, messages, added);
        },
    ),
    EntityCheck::Custom(
        &["hash_fallback", "hash_on_cookie"],
        |it, messages, added| {
            needs(
                it,
                "hash_fallback",
                "cookie",
                "hash_on_cookie",
                messages,
                added,
            );
        },
    ),
    EntityCheck::Custom(&["hash_on", "hash_fallback"], fallback_fits),
    EntityCheck::Custom(
        &["hash_on_header", "hash_fallback_header"],
        |it, messages, _| distinct(it, "hash_on_header", "hash_fallback_header", messages),
    ),
    EntityCheck::Custom(&["hash_on", "hash_on_query_arg"], |it, messages, added| {
        needs(
            it,
            "hash_on",
            "query_arg",
            "hash_on_query_arg",
            messages,
            added,
        );
    }),
    EntityCheck::Custom(
        &["hash_fallback", "hash_fallback_query_arg"],
        |it, messages, added| {
            let field = "hash_fallback_query_arg";
            needs(it, "hash_fallback", "query_arg", field, messages, added);
        },
    ),
    EntityCheck::Custom(
        &["hash_on_query_arg", "hash_fallback_query_arg"],
        |it, messages, _| distinct(it, "hash_on_query_arg", "hash_fallback_query_arg", messages),
    ),
    EntityCheck::Custom(
        &["hash_on", "hash_on_uri_capture"],
        |it, messages, added| {
            let field = "hash_on_uri_capture";
            needs(it, "hash_on", "uri_capture", field, messages, added);
        },
    ),
    EntityCheck::Custom(
        &["hash_fallback", "hash_fallback_uri_capture"],
        |it, messages, added| {
            let field = "hash_fallback_uri_capture";
            needs(it, "hash_fallback", "uri_capture", field, messages, added);
        },
    ),
    EntityCheck::Custom(
        &["hash_on_uri_capture", "hash_fallback_uri_capture"],
        |it, messages, _| {
            let fallback = "hash_fallback_uri_capture";
            distinct(it, "hash_on_uri_capture", fallback, messages);
        },
    ),
];

fn text_of<'a>(upstream: &'a Document, field: &str) -> Option<&'a str> {
    upstream.get(field).and_then(Value::as_str)
}

fn failed(field: &str, messages: &mut Vec<String>) {
    messages.push(format!(
        "failed conditional validation given value of field '{field}'"
    ));
}

/// When `field` is `value`, `then` must be set.
fn needs(
    upstream: &Document,
    field: &str,
    value: &str,
    then: &str,
    messages: &mut Vec<String>,
    added: &mut Document,
) {
    if text_of(upstream, field) == Some(value) && text_of(upstream, then).is_none() {
        failed(field, messages);
        added.insert(then.to_owned(), json!("required field missing"));
    }
}

/// What the fallback may be depends on what is hashed first; the lists are in the order of Kong's
/// messages.
fn fallback_fits(upstream: &Document, messages: &mut Vec<String>, added: &mut Document) {
    let allowed: &[&str] = match text_of(upstream, "hash_on") {
        Some("none" | "cookie") => &["none"],
        Some("consumer") => &[
            "none",
            "ip",
            "header",
            "cookie",
            "path",
            "query_arg",
            "uri_capture",
        ],
        Some("ip") => &[
            "none",
            "consumer",
            "header",
            "cookie",
            "path",
            "query_arg",
            "uri_capture",
        ],
        Some("path") => &[
            "none",
            "consumer",
            "header",
            "cookie",
            "query_arg",
            "ip",
            "uri_capture",
        ],
        _ => return,
    };
    if text_of(upstream, "hash_fallback").is_some_and(|it| !allowed.contains(&it)) {
        failed("hash_on", messages);
        let message = format!("expected one of: {}", allowed.join(", "));
        added.insert("hash_fallback".to_owned(), json!(message));
    }
}

fn distinct(upstream: &Document, one: &str, other: &str, messages: &mut Vec<String>) {
    let value = text_of(upstream, one);
    if value.is_some() && value == text_of(upstream, other) {
        messages.push(format!(
            "values of these fields must be distinct: '{one}', '{other}'"
        ));
    }
}

/// Kong's coupling of `algorithm` and `hash_on`, of what a client sent.
pub(super) fn couple(input: &mut Document) {
    let unhashed = matches!(
        text_of(input, "algorithm"),
        Some("least-connections" | "latency")
    );
    if unhashed {
        input.insert("hash_on".to_owned(), json!("none"));
        return;
    }
    let algorithm = match input.get("hash_on") {
        None => return,
        Some(Value::Null) => {
            input.insert("hash_on".to_owned(), json!("none"));
            return;
        }
        Some(Value::String(none)) if none == "none" => "round-robin",
        Some(_) => "consistent-hashing",
    };
    input.insert("algorithm".to_owned(), json!(algorithm));
}
