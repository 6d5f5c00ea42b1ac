//! The entities this build serves, field by field (Kong 3.9.3, spec gateway-admin 9 to 11).

use serde_json::Value;

use crate::entity::{
    Document, Entity, Foreign, OnDelete, Overlay, Shorthand, Unique, Violations, plugin_overlay,
};
use crate::formats;
use crate::schema::{
    Arm, Auto, Check, EntityCheck, Field, KEY_BYTES_MAX, Kind, Literal, Unsupported, When,
};

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

/// A timeout of a service in milliseconds.
const fn timeout(name: &'static str) -> Field {
    Field::new(name, Kind::Integer)
        .default(Literal::Integer(60_000))
        .checks(&[Check::Between(1, 2_147_483_646)])
}

const fn flag(name: &'static str, default: bool) -> Field {
    Field::new(name, Kind::Boolean)
        .default(Literal::Boolean(default))
        .required()
}

pub(crate) static ENTITIES: &[Entity] = &[
    Entity {
        name: "services",
        path: "services",
        nested_path: "services",
        endpoint_key: Some("name"),
        nested_key: None,
        search_key: None,
        foreign: &[],
        unique: &[UNIQUE_NAME],
        fields: SERVICE_FIELDS,
        shorthand: Some(&URL),
        overlay: Overlay::none,
        checks: SERVICE_CHECKS,
        unsupported: SERVICE_UNSUPPORTED,
    },
    Entity {
        name: "routes",
        path: "routes",
        nested_path: "routes",
        endpoint_key: Some("name"),
        nested_key: None,
        search_key: None,
        foreign: &[ROUTE_SERVICE],
        unique: &[UNIQUE_NAME],
        fields: ROUTE_FIELDS,
        shorthand: None,
        overlay: route_overlay,
        checks: ROUTE_CHECKS,
        unsupported: ROUTE_UNSUPPORTED,
    },
    Entity {
        name: "consumers",
        path: "consumers",
        nested_path: "consumers",
        endpoint_key: Some("username"),
        nested_key: None,
        search_key: Some("custom_id"),
        foreign: &[],
        unique: &[
            single("username", &["username"]),
            single("custom_id", &["custom_id"]),
        ],
        fields: CONSUMER_FIELDS,
        shorthand: None,
        overlay: Overlay::none,
        checks: &[EntityCheck::AtLeastOneOf(&["custom_id", "username"])],
        unsupported: &[],
    },
    Entity {
        name: "plugins",
        path: "plugins",
        nested_path: "plugins",
        endpoint_key: Some("instance_name"),
        nested_key: None,
        search_key: None,
        foreign: &[PLUGIN_ROUTE, PLUGIN_SERVICE, PLUGIN_CONSUMER],
        unique: &[
            Unique {
                name: "scope",
                fields: &["name", "route", "service", "consumer"],
                nulls_equal: true,
            },
            single("instance_name", &["instance_name"]),
        ],
        fields: PLUGIN_FIELDS,
        shorthand: None,
        overlay: plugin_overlay,
        checks: &[],
        unsupported: &[],
    },
    Entity {
        name: "acls",
        path: "acls",
        nested_path: "acls",
        endpoint_key: None,
        nested_key: Some("group"),
        search_key: None,
        foreign: &[ACL_CONSUMER],
        unique: &[Unique {
            name: "consumer_group",
            fields: &["consumer", "group"],
            nulls_equal: false,
        }],
        fields: ACL_FIELDS,
        shorthand: None,
        overlay: Overlay::none,
        checks: &[],
        unsupported: &[],
    },
];

// Services

const CLIENT_CERTIFICATE: Foreign = Foreign {
    field: "client_certificate",
    entity: "certificates",
    on_delete: OnDelete::Restrict,
};

const SERVICE_FIELDS: &[Field] = &[
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

const SERVICE_CHECKS: &[EntityCheck] = &[
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

const SERVICE_UNSUPPORTED: &[Unsupported] = &[
    Unsupported {
        field: "protocol",
        supported: is_http,
        message: "not supported by this build, which speaks http and https to services",
    },
    Unsupported {
        field: "client_certificate",
        supported: never,
        message: "not supported by this build",
    },
    Unsupported {
        field: "tls_verify_depth",
        supported: never,
        message: "not supported by this build",
    },
    Unsupported {
        field: "ca_certificates",
        supported: never,
        message: "not supported by this build",
    },
];

fn is_http(value: &Value) -> bool {
    matches!(value.as_str(), Some("http" | "https"))
}

fn never(_: &Value) -> bool {
    false
}

const URL: Shorthand = Shorthand {
    name: "url",
    expand: expand_url,
};

/// Kong's `url` of a service: sets protocol, host, port and path, and drops everything else.
fn expand_url(url: &str, service: &mut Document) {
    let url = url.split('#').next().unwrap_or_default();
    let (scheme, rest) = match url.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (Some(scheme), rest),
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

fn is_scheme(text: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    text.starts_with(|first: char| first.is_ascii_alphanumeric()) && text.bytes().all(fine)
}

// Routes

const ROUTE_SERVICE: Foreign = Foreign {
    field: "service",
    entity: "services",
    on_delete: OnDelete::Restrict,
};

const METHOD: Field = Field::element(Kind::String, &[Check::Match("^%u+$", formats::is_method)]);
const ROUTE_HOST: Field = Field::element(Kind::String, &[Check::Text(formats::route_host)]);
const ROUTE_PATH: Field = Field::element(Kind::String, &[Check::Text(formats::route_path)]);
const ROUTE_HEADER: Field =
    Field::element(Kind::String, &[Check::Text(formats::route_header_name)]);
const TEXTS: Field = Field::element(Kind::Array(&TEXT), &[]);
const SNI: Field = Field::element(Kind::String, &[Check::Text(formats::wildcard_host)]);
const ENDPOINT: Field = Field::element(
    Kind::Record(&[
        Field::new("ip", Kind::String).checks(&[Check::Text(formats::ip_or_cidr)]),
        Field::new("port", Kind::Integer).checks(&[Check::Between(0, 65_535)]),
    ]),
    &[],
);

const ROUTE_FIELDS: &[Field] = &[
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
    Field::new("methods", Kind::Set(&METHOD)),
    Field::new("hosts", Kind::Array(&ROUTE_HOST)),
    Field::new("paths", Kind::Array(&ROUTE_PATH)),
    Field::new(
        "headers",
        Kind::Map {
            keys: &ROUTE_HEADER,
            values: &TEXTS,
        },
    ),
    Field::new("https_redirect_status_code", Kind::Integer)
        .default(Literal::Integer(426))
        .checks(&[Check::OneOfIntegers(&[426, 301, 302, 307, 308])])
        .required(),
    Field::new("regex_priority", Kind::Integer).default(Literal::Integer(0)),
    STRIP_PATH,
    Field::new("path_handling", Kind::String)
        .default(Literal::String("v0"))
        .checks(&[Check::OneOf(&["v0", "v1"])]),
    flag("preserve_host", false),
    flag("request_buffering", true),
    flag("response_buffering", true),
    Field::new("snis", Kind::Set(&SNI)),
    Field::new("sources", Kind::Set(&ENDPOINT)),
    Field::new("destinations", Kind::Set(&ENDPOINT)),
    TAGS,
    Field::new("service", Kind::Foreign(&ROUTE_SERVICE)),
];

const STRIP_PATH: Field = flag("strip_path", true);

const ROUTE_CHECKS: &[EntityCheck] = &[
    EntityCheck::Conditional {
        field: "protocols",
        when: When::HoldsNone(&["grpcs", "https", "tls", "tls_passthrough"]),
        then_field: "snis",
        then: &[Check::LengthIs(0)],
        message: Some(
            "'snis' can only be set when 'protocols' is 'grpcs', 'https', 'tls' or 'tls_passthrough'",
        ),
    },
    EntityCheck::Custom(&["paths", "headers"], route_expression),
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
        Field::new("hosts", Kind::Array(&ROUTE_HOST)).checks(&[Check::Null(Some(
            "cannot set 'hosts' when 'protocols' is 'tcp', 'tls', 'tls_passthrough' or 'udp'",
        ))]),
        Field::new("paths", Kind::Array(&ROUTE_PATH)).checks(&[Check::Null(Some(
            "cannot set 'paths' when 'protocols' is 'tcp', 'tls', 'tls_passthrough' or 'udp'",
        ))]),
        Field::new(
            "headers",
            Kind::Map {
                keys: &ROUTE_HEADER,
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

/// Kong lets the first protocol decide which fields a route may have.
fn route_overlay(route: &Document, _: &[String]) -> Result<Overlay, Violations> {
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
fn route_expression(route: &Document, messages: &mut Vec<String>, _: &mut Document) {
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

const ROUTE_UNSUPPORTED: &[Unsupported] = &[
    Unsupported {
        field: "protocols",
        supported: all_http,
        message: "not supported by this build, which serves http and https routes",
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

// Consumers, plugins, ACLs

const CONSUMER_FIELDS: &[Field] = &[
    ID,
    CREATED_AT,
    UPDATED_AT,
    Field::new("username", Kind::String)
        .checks(&[Check::LengthMax(KEY_BYTES_MAX)])
        .unique(),
    Field::new("custom_id", Kind::String)
        .checks(&[Check::LengthMax(KEY_BYTES_MAX)])
        .unique(),
    TAGS,
];

const PLUGIN_ROUTE: Foreign = Foreign {
    field: "route",
    entity: "routes",
    on_delete: OnDelete::Cascade,
};
const PLUGIN_SERVICE: Foreign = Foreign {
    field: "service",
    entity: "services",
    on_delete: OnDelete::Cascade,
};
/// The consumer a plugin is for.
pub(crate) const PLUGIN_CONSUMER: Foreign = Foreign {
    field: "consumer",
    entity: "consumers",
    on_delete: OnDelete::Cascade,
};

/// Protocols of a plugin, unless it narrows them.
const PLUGIN_PROTOCOLS: &[&str] = &["grpc", "grpcs", "http", "https"];
/// One of the protocols of the http family.
pub(crate) const HTTP_PROTOCOL: Field =
    Field::element(Kind::String, &[Check::OneOf(PLUGIN_PROTOCOLS)]);
/// `protocols` of a plugin that runs for the http family only.
pub(crate) const HTTP_PROTOCOLS: Field = Field::new("protocols", Kind::Set(&HTTP_PROTOCOL))
    .default(Literal::Strings(PLUGIN_PROTOCOLS))
    .required();
/// `consumer` of a plugin that cannot be bound to one.
pub(crate) const NO_CONSUMER: Field =
    Field::new("consumer", Kind::Foreign(&PLUGIN_CONSUMER)).checks(&[Check::Null(None)]);

const PLUGIN_FIELDS: &[Field] = &[
    ID,
    Field::new("name", Kind::String).required(),
    Field::new("instance_name", Kind::String)
        .checks(&[Check::LengthMax(KEY_BYTES_MAX), Check::Text(formats::name)])
        .unique(),
    CREATED_AT,
    UPDATED_AT,
    Field::new("route", Kind::Foreign(&PLUGIN_ROUTE)),
    Field::new("service", Kind::Foreign(&PLUGIN_SERVICE)),
    Field::new("consumer", Kind::Foreign(&PLUGIN_CONSUMER)),
    // The fields of the configuration come from the plugin, see `plugin_overlay`.
    Field::new("config", Kind::Record(&[])).required(),
    Field::new("protocols", Kind::Set(&PROTOCOL))
        .default(Literal::Strings(PLUGIN_PROTOCOLS))
        .required(),
    flag("enabled", true),
    TAGS,
];

const ACL_CONSUMER: Foreign = Foreign {
    field: "consumer",
    entity: "consumers",
    on_delete: OnDelete::Cascade,
};

const ACL_FIELDS: &[Field] = &[
    ID,
    CREATED_AT,
    Field::new("consumer", Kind::Foreign(&ACL_CONSUMER)).required(),
    Field::new("group", Kind::String)
        .checks(&[Check::LengthMax(KEY_BYTES_MAX)])
        .required(),
    TAGS,
];
