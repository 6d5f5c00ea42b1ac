use crate::declared::HTTP_PROTOCOLS;
use crate::plugins::PluginSchema;
use crate::schema::{Check, Field, Kind, Literal};

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "request-size-limiting",
    version: "3.9.3",
    priority: 951,
    fields: &[
        HTTP_PROTOCOLS,
        Field::new("config", Kind::Record(CONFIG)).required(),
    ],
    checks: &[],
};

const CONFIG: &[Field] = &[
    Field::new("allowed_payload_size", Kind::Integer).default(Literal::Integer(128)),
    Field::new("size_unit", Kind::String)
        .default(Literal::String("megabytes"))
        .checks(&[Check::OneOf(&["megabytes", "kilobytes", "bytes"])])
        .required(),
    Field::new("require_content_length", Kind::Boolean)
        .default(Literal::Boolean(false))
        .required(),
];
