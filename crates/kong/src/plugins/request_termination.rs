use serde_json::Value;

use crate::declared::HTTP_PROTOCOLS;
use crate::formats;
use crate::plugins::PluginSchema;
use crate::schema::{Check, Complaint, Field, Kind, Literal, is_blank};

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "request-termination",
    version: "3.9.3",
    priority: 2,
    fields: &[
        HTTP_PROTOCOLS,
        Field::new("config", Kind::Record(CONFIG))
            .checks(&[Check::Value(combination)])
            .required(),
    ],
    checks: &[],
};

const CONFIG: &[Field] = &[
    Field::new("status_code", Kind::Integer)
        .default(Literal::Integer(503))
        .checks(&[Check::Between(100, 599), Check::Value(is_final)])
        .required(),
    Field::new("message", Kind::String),
    Field::new("content_type", Kind::String).checks(&[Check::Text(formats::header_value)]),
    Field::new("body", Kind::String),
    Field::new("echo", Kind::Boolean)
        .default(Literal::Boolean(false))
        .required(),
    Field::new("trigger", Kind::String).checks(&[Check::Text(formats::header_name)]),
];

/// A status below 200 is no answer: clients would wait for another one.
fn is_final(status: &Value) -> Complaint {
    (status.as_i64() < Some(200)).then(|| "an informational status ends no request".into())
}

fn combination(config: &Value) -> Complaint {
    let given = |name: &str| config.get(name).is_some_and(|value| !is_blank(value));
    let echo = config.get("echo") == Some(&Value::Bool(true));
    if given("message") && (given("content_type") || given("body")) {
        return Some("message cannot be used with content_type or body".into());
    }
    if given("content_type") && !given("body") {
        return Some("content_type requires a body".into());
    }
    if echo && (given("content_type") || given("body")) {
        return Some("echo cannot be used with content_type and body".into());
    }
    echo.then(|| "echo is not supported: it would show credentials of the request".into())
}
