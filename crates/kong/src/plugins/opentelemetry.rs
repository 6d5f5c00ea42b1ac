use serde_json::Value;

use super::delivery::{members, queue, timeout};
use super::tracing::{HEADER_TYPES, PROPAGATION, RESPONSE_HEADER};
use crate::declared::HTTP_PROTOCOLS;
use crate::formats;
use crate::plugins::PluginSchema;
use crate::schema::{Alias, Check, Complaint, EntityCheck, Field, Kind, Literal};

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "opentelemetry",
    version: "3.9.3",
    priority: 14,
    fields: &[
        HTTP_PROTOCOLS,
        Field::new("config", Kind::Record(CONFIG))
            .aliases(&[Alias {
                name: "endpoint",
                record: "",
                member: "traces_endpoint",
            }])
            .required(),
    ],
    checks: &[EntityCheck::AtLeastOneOf(&[
        "config.traces_endpoint",
        "config.logs_endpoint",
    ])],
};

const CONFIG: &[Field] = &[
    Field::new("traces_endpoint", Kind::String)
        .checks(&[Check::Text(formats::url)])
        .referenceable(),
    Field::new("logs_endpoint", Kind::String).checks(&[Check::Text(no_logs)]),
    Field::new(
        "headers",
        Kind::Map {
            keys: &Field::element(
                Kind::String,
                &[Check::Text(formats::header_name), Check::Text(own_header)],
            ),
            values: &Field::element(Kind::String, &[Check::Text(formats::header_value)])
                .referenceable(),
        },
    ),
    Field::new(
        "resource_attributes",
        Kind::Map {
            keys: &Field::element(Kind::String, &[]),
            values: &Field::element(Kind::String, &[]),
        },
    ),
    queue(&QUEUE),
    Field::new("batch_span_count", Kind::Integer).checks(&[Check::Value(positive)]),
    Field::new("batch_flush_delay", Kind::Integer).checks(&[Check::Between(0, 3600)]),
    timeout("connect_timeout", 1000),
    timeout("send_timeout", 5000),
    timeout("read_timeout", 5000),
    RESPONSE_HEADER,
    Field::new("header_type", Kind::String)
        .default(Literal::String("b3"))
        .checks(&[Check::OneOf(HEADER_TYPES)]),
    Field::new("sampling_rate", Kind::Number).checks(&[Check::Between(0, 1)]),
    PROPAGATION,
    Field::new("zone", Kind::String),
    // The original's plugin reads it, but its schema refuses it.
    Field::new("environment", Kind::String),
    Field::new("local_service_name", Kind::String)
        .default(Literal::String("kong"))
        .required(),
];

static QUEUE: [Field; 8] = members(200);

fn no_logs(_: &str) -> Complaint {
    Some("logs are not exported: only traces_endpoint is supported".into())
}

/// Whoever sends a message decides where it ends.
fn own_header(name: &str) -> Complaint {
    ["connection", "content-length", "transfer-encoding"]
        .iter()
        .any(|it| it.eq_ignore_ascii_case(name))
        .then(|| format!("header '{name}' cannot be set").into())
}

fn positive(value: &Value) -> Complaint {
    (value.as_i64() < Some(1)).then(|| "value should be between 1 and 1000000".into())
}
