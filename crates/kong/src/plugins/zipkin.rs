use serde_json::Value;

use super::delivery::{members, queue, timeout};
use super::tracing::{FORMATS, HEADER_TYPES, PROPAGATION, RESPONSE_HEADER};
use crate::formats;
use crate::plugins::PluginSchema;
use crate::schema::{Check, Complaint, Field, Kind, Literal};

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "zipkin",
    version: "3.9.3",
    priority: 100_000,
    fields: &[Field::new("config", Kind::Record(CONFIG)).required()],
    checks: &[],
};

const CONFIG: &[Field] = &[
    Field::new("local_service_name", Kind::String)
        .default(Literal::String("kong"))
        .required(),
    Field::new("local_component_name", Kind::String),
    Field::new("http_endpoint", Kind::String).checks(&[Check::Text(formats::url)]),
    Field::new("sample_ratio", Kind::Number)
        .default(Literal::Number(0.001))
        .checks(&[Check::Between(0, 1)]),
    Field::new("force_sample", Kind::Boolean)
        .default(Literal::Boolean(false))
        .required(),
    Field::new("default_service_name", Kind::String),
    Field::new("environment", Kind::String),
    Field::new("zone", Kind::String),
    Field::new("include_credential", Kind::Boolean)
        .default(Literal::Boolean(true))
        .required(),
    Field::new("traceid_byte_count", Kind::Integer)
        .default(Literal::Integer(16))
        .checks(&[Check::OneOfIntegers(&[8, 16])])
        .required(),
    Field::new("header_type", Kind::String)
        .default(Literal::String("preserve"))
        .checks(&[Check::OneOf(HEADER_TYPES)])
        .required(),
    Field::new("default_header_type", Kind::String)
        .default(Literal::String("b3"))
        .checks(&[Check::OneOf(FORMATS)])
        .required(),
    Field::new("tags_header", Kind::String)
        .default(Literal::String("Zipkin-Tags"))
        .checks(&[Check::Text(formats::header_name)])
        .required(),
    Field::new("static_tags", Kind::Array(&STATIC_TAG)).checks(&[Check::Value(repeated)]),
    Field::new("http_span_name", Kind::String)
        .default(Literal::String("method"))
        .checks(&[Check::OneOf(&["method", "method_path"])])
        .required(),
    timeout("connect_timeout", 2000),
    timeout("send_timeout", 5000),
    timeout("read_timeout", 5000),
    RESPONSE_HEADER,
    Field::new("phase_duration_flavor", Kind::String)
        .default(Literal::String("annotations"))
        .checks(&[Check::OneOf(&["annotations", "tags"])])
        .required(),
    queue(&QUEUE),
    PROPAGATION,
];

static QUEUE: [Field; 8] = members(1);

const STATIC_TAG: Field = Field::element(
    Kind::Record(&[
        Field::new("name", Kind::String)
            .checks(&[Check::Text(own_name)])
            .required(),
        Field::new("value", Kind::String).required(),
    ]),
    &[],
);

/// Tags that say what happened; nobody else may write them.
const PROTECTED: &[&str] = &[
    "error",
    "http.method",
    "http.path",
    "http.status_code",
    "kong.balancer.state",
    "kong.balancer.try",
    "kong.consumer",
    "kong.credential",
    "kong.node.id",
    "kong.route",
    "kong.service",
    "lc",
    "peer.hostname",
];

fn own_name(name: &str) -> Complaint {
    PROTECTED
        .contains(&name)
        .then(|| format!("must not be one of: {}", PROTECTED.join(", ")).into())
}

fn repeated(tags: &Value) -> Complaint {
    let tags = tags.as_array()?.iter();
    let mut seen = std::collections::HashSet::new();
    let mut names = tags.filter_map(|tag| tag.get("name")?.as_str());
    names
        .find(|name| !seen.insert(*name))
        .map(|name| format!("repeated tags are not allowed: {name}").into())
}
