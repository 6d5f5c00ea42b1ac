//! Routes of the flavour `traditional_compatible` (spec gateway-admin 9.2).

use serde_json::Value;

use super::{CREATED_AT, ID, NAME, PROTOCOL, TAGS, TEXT, UNIQUE_NAME, UPDATED_AT, flag, is_http};
use crate::entity::{BASE, Document, Entity, Foreign, OnDelete, Overlay, Violations};
use crate::formats;
use crate::schema::{Arm, Check, EntityCheck, Field, Kind, Literal, Unsupported, When};

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
const ENDPOINT: Field = Field::element(
    Kind::Record(&[
        Field::new("ip", Kind::String).checks(&[Check::Text(formats::ip_or_cidr)]),
        Field::new("port", Kind::Integer).checks(&[Check::Between(0, 65_535)]),
    ]),
    &[],
)
.record_checks(&[EntityCheck::AtLeastOneOf(&["ip", "port"])]);

const FIELDS: &[Field] = &[
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
    Field::new("snis", Kind::Set(&SNI)),
    Field::new("sources", Kind::Set(&ENDPOINT)),
    Field::new("destinations", Kind::Set(&ENDPOINT)),
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
];

const STRIP_PATH: Field = flag("strip_path", true);

const CHECKS: &[EntityCheck] = &[
    EntityCheck::Conditional {
        field: "protocols",
        when: When::HoldsNone(&["grpcs", "https", "tls", "tls_passthrough"]),
        then_field: "snis",
        then: &[Check::LengthIs(0)],
        message: Some(
            "'snis' can only be set when 'protocols' is 'grpcs', 'https', 'tls' or 'tls_passthrough'",
        ),
    },
    EntityCheck::Custom(&["paths", "headers"], expression),
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

const GRPC: Overlay = Overlay {
    fields: &[
        Field::new("strip_path", Kind::Boolean)
            .default(Literal::Boolean(false))
            .checks(&[Check::NotTrue(
                "cannot set 'strip_path' when 'protocols' is 'grpc' or 'grpcs'",
            )])
            .required(),
        Field::new("methods", Kind::Set(&METHOD)).checks(&[Check::Null(Some(
            "cannot set 'methods' when 'protocols' is 'grpc' or 'grpcs'",
        ))]),
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
fn expression(route: &Document, messages: &mut Vec<String>, _: &mut Document) {
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

const UNSUPPORTED: &[Unsupported] = &[
    Unsupported {
        field: "protocols",
        supported: all_http,
        message: "not supported by this build, which serves http, https, grpc and grpcs routes",
    },
    Unsupported {
        field: "path_handling",
        supported: is_v0,
        message: "v1 is not supported by this build",
    },
];

fn all_http(value: &Value) -> bool {
    value
        .as_array()
        .is_some_and(|protocols| protocols.iter().all(is_http))
}

fn is_v0(value: &Value) -> bool {
    value == "v0"
}
