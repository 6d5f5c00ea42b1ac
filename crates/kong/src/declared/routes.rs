//! Routes, whose fields depend on the flavour of the router (spec gateway-admin 9.2).

use serde_json::Value;

use super::{CREATED_AT, ID, NAME, PROTOCOL, TAGS, TEXT, UNIQUE_NAME, UPDATED_AT, flag, is_http};
use crate::entity::{BASE, Document, Entity, Foreign, OnDelete, Overlay, Violations};
use crate::expression::{Expression, MAX_PRIORITY};
use crate::formats;
use crate::schema::{Arm, Check, EntityCheck, Field, Kind, Literal, Unsupported, When, is_blank};

pub(super) const ENTITY: Entity = Entity {
    name: "routes",
    path: "routes",
    nested_path: "routes",
    endpoint_key: Some("name"),
    foreign: &[SERVICE],
    unique: &[UNIQUE_NAME],
    fields: FIELDS,
    overlay,
    checks: CHECKS,
    unsupported: UNSUPPORTED,
    ..BASE
};

/// Names of servers have no wildcards.
pub(super) const TRADITIONAL: Entity = Entity {
    fields: TRADITIONAL_FIELDS,
    ..ENTITY
};

/// With `expression` and `priority`.
pub(super) const EXPRESSIONS: Entity = Entity {
    fields: EXPRESSIONS_FIELDS,
    overlay: expressions_overlay,
    checks: EXPRESSIONS_CHECKS,
    ..ENTITY
};

const SERVICE: Foreign = Foreign {
    field: "service",
    entity: "services",
    on_delete: OnDelete::Restrict,
};

const METHOD: Field = Field::element(Kind::String, &[Check::Match("^%u+$", formats::is_method)]);
const HOST: Field = Field::element(Kind::String, &[Check::Text(formats::route_host)]);
const PATH: Field = Field::element(Kind::String, &[Check::Text(formats::route_path)]);
const HEADER: Field = Field::element(Kind::String, &[Check::Text(formats::route_header_name)]);
const TEXTS: Field = Field::element(Kind::Array(&TEXT), &[]);
const SNI: Field = Field::element(Kind::String, &[Check::Text(formats::wildcard_host)]);
const PLAIN_SNI: Field = Field::element(Kind::String, &[Check::Text(formats::server_name)]);
const SNIS: Field = Field::new("snis", Kind::Set(&SNI));
const ENDPOINT: Field = Field::element(
    Kind::Record(&[
        Field::new("ip", Kind::String).checks(&[Check::Text(formats::ip_or_cidr)]),
        Field::new("port", Kind::Integer).checks(&[Check::Between(0, 65_535)]),
    ]),
    &[],
)
.record_checks(&[EntityCheck::AtLeastOneOf(&["ip", "port"])]);

const SOURCES: Field = Field::new("sources", Kind::Set(&ENDPOINT));
const DESTINATIONS: Field = Field::new("destinations", Kind::Set(&ENDPOINT));
const FIELDS: &[Field] = without_expression(&fields(SNIS));
const TRADITIONAL_FIELDS: &[Field] =
    without_expression(&fields(Field::new("snis", Kind::Set(&PLAIN_SNI))));
const EXPRESSIONS_FIELDS: &[Field] = &fields(SNIS);

/// The two that only the flavour `expressions` knows come last.
const fn without_expression(all: &[Field; 23]) -> &[Field] {
    match all.split_first_chunk::<21>() {
        Some((fields, _)) => fields,
        None => &[],
    }
}

const fn fields(snis: Field) -> [Field; 23] {
    [
        ID,
        CREATED_AT,
        UPDATED_AT,
        NAME,
        Field::new("protocols", Kind::Set(&PROTOCOL))
            .default(Literal::Strings(&["http", "https"]))
            .checks(&[
                Check::LengthMin(1),
                Check::Exclusive(&[
                    &["http", "https"],
                    &["tcp", "tls", "udp"],
                    &["tls_passthrough"],
                    &["grpc", "grpcs"],
                ]),
            ])
            .required(),
        Field::new("https_redirect_status_code", Kind::Integer)
            .default(Literal::Integer(426))
            .checks(&[Check::OneOfIntegers(&[426, 301, 302, 307, 308])])
            .required(),
        STRIP_PATH,
        flag("preserve_host", false),
        flag("request_buffering", true),
        flag("response_buffering", true),
        TAGS,
        Field::new("service", Kind::Foreign(&SERVICE)),
        snis,
        SOURCES,
        DESTINATIONS,
        Field::new("methods", Kind::Set(&METHOD)),
        Field::new("hosts", Kind::Array(&HOST)),
        Field::new("paths", Kind::Array(&PATH)).upgrade(mark_expressions),
        Field::new(
            "headers",
            Kind::Map {
                keys: &HEADER,
                values: &TEXTS,
            },
        ),
        Field::new("regex_priority", Kind::Integer).default(Literal::Integer(0)),
        Field::new("path_handling", Kind::String)
            .default(Literal::String("v0"))
            .checks(&[Check::OneOf(&["v0", "v1"])]),
        Field::new("expression", Kind::String),
        Field::new("priority", Kind::Integer)
            .default(Literal::Integer(0))
            .checks(&[Check::Between(0, MAX_PRIORITY)])
            .required(),
    ]
}

const STRIP_PATH: Field = flag("strip_path", true);

const SNIS_NEED_TLS: EntityCheck = EntityCheck::Conditional {
    field: "protocols",
    when: When::HoldsNone(&["grpcs", "https", "tls", "tls_passthrough"]),
    then_field: "snis",
    then: &[Check::LengthIs(0)],
    message: Some(
        "'snis' can only be set when 'protocols' is 'grpcs', 'https', 'tls' or 'tls_passthrough'",
    ),
};

const CHECKS: &[EntityCheck] = &[
    SNIS_NEED_TLS,
    EntityCheck::Custom(&["paths", "headers"], dialect),
];

const EXPRESSIONS_CHECKS: &[EntityCheck] = &[
    SNIS_NEED_TLS,
    EntityCheck::Custom(
        &[
            "id",
            "protocols",
            "snis",
            "sources",
            "destinations",
            "methods",
            "hosts",
            "paths",
            "headers",
            "expression",
            "regex_priority",
            "priority",
        ],
        expression,
    ),
];

const HTTP: Overlay = Overlay {
    fields: &[
        Field::new("sources", Kind::Set(&ENDPOINT)).checks(&[Check::Null(Some(
            "cannot set 'sources' when 'protocols' is 'http' or 'https'",
        ))]),
        Field::new("destinations", Kind::Set(&ENDPOINT)).checks(&[Check::Null(Some(
            "cannot set 'destinations' when 'protocols' is 'http' or 'https'",
        ))]),
    ],
    checks: &[EntityCheck::OneOfPerMember {
        field: "protocols",
        arms: &[
            Arm {
                member: "https",
                fields: &["methods", "hosts", "headers", "paths", "snis"],
                message: "must set one of 'methods', 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'https'",
            },
            Arm {
                member: "http",
                fields: &["methods", "hosts", "headers", "paths"],
                message: "must set one of 'methods', 'hosts', 'headers', 'paths' when 'protocols' is 'http'",
            },
        ],
    }],
};

const STREAM_ONE_OF: &str =
    "must set one of 'sources', 'destinations', 'snis' when 'protocols' is 'tcp', 'tls' or 'udp'";

const fn stream_arm(member: &'static str) -> Arm {
    Arm {
        member,
        fields: &["sources", "destinations", "snis"],
        message: STREAM_ONE_OF,
    }
}

const STREAM: Overlay = Overlay {
    fields: &[
        Field::new("methods", Kind::Set(&METHOD)).checks(&[Check::Null(Some(
            "cannot set 'methods' when 'protocols' is 'tcp', 'tls', 'tls_passthrough' or 'udp'",
        ))]),
        Field::new("hosts", Kind::Array(&HOST)).checks(&[Check::Null(Some(
            "cannot set 'hosts' when 'protocols' is 'tcp', 'tls', 'tls_passthrough' or 'udp'",
        ))]),
        Field::new("paths", Kind::Array(&PATH)).checks(&[Check::Null(Some(
            "cannot set 'paths' when 'protocols' is 'tcp', 'tls', 'tls_passthrough' or 'udp'",
        ))]),
        Field::new(
            "headers",
            Kind::Map {
                keys: &HEADER,
                values: &TEXTS,
            },
        )
        .checks(&[Check::Null(Some(
            "cannot set 'headers' when 'protocols' is 'tcp', 'tls', 'tls_passthrough' or 'udp'",
        ))]),
    ],
    checks: &[EntityCheck::OneOfPerMember {
        field: "protocols",
        arms: &[
            stream_arm("tcp"),
            stream_arm("tls"),
            stream_arm("udp"),
            Arm {
                member: "tls_passthrough",
                fields: &["snis"],
                message: "must set snis when 'protocols' is 'tls_passthrough'",
            },
        ],
    }],
};

const GRPC_STRIP_PATH: Field = Field::new("strip_path", Kind::Boolean)
    .default(Literal::Boolean(false))
    .checks(&[Check::NotTrue(
        "cannot set 'strip_path' when 'protocols' is 'grpc' or 'grpcs'",
    )])
    .required();
const GRPC_METHODS: Field = Field::new("methods", Kind::Set(&METHOD)).checks(&[Check::Null(Some(
    "cannot set 'methods' when 'protocols' is 'grpc' or 'grpcs'",
))]);

const GRPC: Overlay = Overlay {
    fields: &[
        GRPC_STRIP_PATH,
        GRPC_METHODS,
        Field::new("sources", Kind::Set(&ENDPOINT)).checks(&[Check::Null(Some(
            "cannot set 'sources' when 'protocols' is 'grpc' or 'grpcs'",
        ))]),
        Field::new("destinations", Kind::Set(&ENDPOINT)).checks(&[Check::Null(Some(
            "cannot set 'destinations' when 'protocols' is 'grpc' or 'grpcs'",
        ))]),
    ],
    checks: &[EntityCheck::OneOfPerMember {
        field: "protocols",
        arms: &[
            Arm {
                member: "grpcs",
                fields: &["hosts", "headers", "paths", "snis"],
                message: "must set one of 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'grpcs'",
            },
            Arm {
                member: "grpc",
                fields: &["hosts", "headers", "paths"],
                message: "must set one of 'hosts', 'headers', 'paths' when 'protocols' is 'grpc'",
            },
        ],
    }],
};

/// Under the flavour `expressions` connections are conditions of HTTP routes too, and an expression
/// stands for all of them.
fn expressions_overlay(route: &Document, enabled: &[String]) -> Result<Overlay, Violations> {
    // The first protocol is one that has an overlay.
    overlay(route, enabled)?;
    let first = route.get("protocols").and_then(|it| it.get(0)?.as_str());
    Ok(match first.unwrap_or("http") {
        "grpc" | "grpcs" => EXPRESSIONS_GRPC,
        "tcp" | "tls" | "udp" | "tls_passthrough" => EXPRESSIONS_STREAM,
        _ => EXPRESSIONS_HTTP,
    })
}

const EXPRESSIONS_HTTP: Overlay = Overlay {
    fields: &[],
    checks: &[EntityCheck::OneOfPerMember {
        field: "protocols",
        arms: &[
            Arm {
                member: "https",
                fields: &["methods", "hosts", "headers", "paths", "snis", "expression"],
                message: "must set one of 'methods', 'hosts', 'headers', 'paths', 'snis', 'expression' when 'protocols' is 'https'",
            },
            Arm {
                member: "http",
                fields: &["methods", "hosts", "headers", "paths", "expression"],
                message: "must set one of 'methods', 'hosts', 'headers', 'paths', 'expression' when 'protocols' is 'http'",
            },
        ],
    }],
};

const fn expressions_stream_arm(member: &'static str) -> Arm {
    Arm {
        member,
        fields: &["sources", "destinations", "snis", "expression"],
        message: "must set one of 'sources', 'destinations', 'snis', 'expression' when 'protocols' is 'tcp', 'tls' or 'udp'",
    }
}

const EXPRESSIONS_STREAM: Overlay = Overlay {
    fields: STREAM.fields,
    checks: &[EntityCheck::OneOfPerMember {
        field: "protocols",
        arms: &[
            expressions_stream_arm("tcp"),
            expressions_stream_arm("tls"),
            expressions_stream_arm("udp"),
            Arm {
                member: "tls_passthrough",
                fields: &["snis", "expression"],
                message: "must set snis when 'protocols' is 'tls_passthrough'",
            },
        ],
    }],
};

const EXPRESSIONS_GRPC: Overlay = Overlay {
    fields: &[GRPC_STRIP_PATH, GRPC_METHODS],
    checks: &[EntityCheck::OneOfPerMember {
        field: "protocols",
        arms: &[
            Arm {
                member: "grpcs",
                fields: &["hosts", "headers", "paths", "snis", "expression"],
                message: "must set one of 'hosts', 'headers', 'paths', 'snis', 'expression' when 'protocols' is 'grpcs'",
            },
            Arm {
                member: "grpc",
                fields: &["hosts", "headers", "paths", "expression"],
                message: "must set one of 'hosts', 'headers', 'paths', 'expression' when 'protocols' is 'grpc'",
            },
        ],
    }],
};

/// Before 3.0 a path with any other character than those of plain paths was an expression.
fn mark_expressions(paths: &mut Value) {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._~/%-".contains(&byte);
    for path in paths.as_array_mut().into_iter().flatten() {
        if let Value::String(path) = path
            && !path.bytes().all(is_plain)
        {
            path.insert(0, '~');
        }
    }
}

/// Kong lets the first protocol decide which fields a route may have.
fn overlay(route: &Document, _: &[String]) -> Result<Overlay, Violations> {
    let first = match route.get("protocols") {
        Some(Value::Array(protocols)) => match protocols.first() {
            Some(first) => first.as_str().unwrap_or_default(),
            None => return Err(Violations::on("protocols", "unknown type: nil")),
        },
        _ => "http",
    };
    match first {
        "http" | "https" => Ok(HTTP),
        "tcp" | "tls" | "udp" | "tls_passthrough" => Ok(STREAM),
        "grpc" | "grpcs" => Ok(GRPC),
        other => Err(Violations::on(
            "protocols",
            format!("unknown type: {other}"),
        )),
    }
}

/// Expressions that only PCRE knows are no expressions of Kong's router.
fn dialect(route: &Document, messages: &mut Vec<String>, _: &mut Document) {
    let paths = route.get("paths").and_then(Value::as_array);
    let paths = paths.into_iter().flatten().filter_map(Value::as_str);
    let from_paths = paths.filter_map(|path| path.strip_prefix('~'));
    let headers = route.get("headers").and_then(Value::as_object);
    let values = headers.into_iter().flat_map(|headers| headers.values());
    let values = values.filter_map(Value::as_array).flatten();
    let from_headers = values
        .filter_map(Value::as_str)
        .filter_map(|value| value.strip_prefix("~*"));
    if let Some(detail) = from_paths.chain(from_headers).find_map(formats::dialect) {
        messages.push(format!("Router Expression failed validation: {detail}"));
    }
}

const MATCHERS: &[&str] = &[
    "methods",
    "hosts",
    "paths",
    "headers",
    "snis",
    "sources",
    "destinations",
];

/// An expression stands alone, a priority belongs to one, and it must be one.
fn expression(route: &Document, messages: &mut Vec<String>, added: &mut Document) {
    let filled = |name: &str| route.get(name).is_some_and(|value| !is_blank(value));
    let number = |name: &str| route.get(name).and_then(Value::as_i64).unwrap_or(0);
    let text = route.get("expression").and_then(Value::as_str);
    let has_matchers = MATCHERS.iter().any(|name| filled(name));
    let problem = match text {
        None if !has_matchers => return,
        None if number("priority") != 0 => {
            "cannot set 'priority' with 'methods', 'hosts', 'paths', 'headers', 'snis', 'sources' or \
             'destinations' simultaneously"
                .to_owned()
        }
        None => return dialect(route, messages, added),
        Some(_) if has_matchers => {
            "cannot set 'expression' with 'methods', 'hosts', 'paths', 'headers', 'snis', 'sources' or \
             'destinations' simultaneously"
                .to_owned()
        }
        Some(_) if number("regex_priority") != 0 => {
            "cannot set 'regex_priority' with 'expression' simultaneously".to_owned()
        }
        Some(text) => {
            let protocols = route.get("protocols").and_then(|it| it.get(0)?.as_str());
            let is_stream = protocols.is_some_and(|it| it.starts_with("t") || it == "udp");
            let checked = match Expression::parse(text) {
                Ok(expression) => expression.check(is_stream).map_err(|it| it.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match checked {
                Ok(()) => return,
                Err(problem) => problem,
            }
        }
    };
    messages.push(format!("Router Expression failed validation: {problem}"));
}

const UNSUPPORTED: &[Unsupported] = &[Unsupported {
    field: "protocols",
    supported: all_http,
    message: "not supported by this build, which serves http, https, grpc and grpcs routes",
}];

fn all_http(value: &Value) -> bool {
    value
        .as_array()
        .is_some_and(|protocols| protocols.iter().all(is_http))
}
