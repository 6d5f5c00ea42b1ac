use crate::declared::HTTP_PROTOCOLS;
use crate::formats;
use crate::plugins::PluginSchema;
use crate::schema::{Check, Field, Kind, Literal};

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "correlation-id",
    version: "3.9.3",
    priority: 100_001,
    fields: &[
        HTTP_PROTOCOLS,
        Field::new("config", Kind::Record(CONFIG)).required(),
    ],
    checks: &[],
};

const CONFIG: &[Field] = &[
    Field::new("header_name", Kind::String)
        .default(Literal::String("Kong-Request-ID"))
        // Kong takes any text and fails at run time on one that names no header.
        .checks(&[Check::Text(formats::header_name)]),
    Field::new("generator", Kind::String)
        .default(Literal::String("uuid#counter"))
        .checks(&[Check::OneOf(&["uuid", "uuid#counter", "tracker"])])
        .required(),
    Field::new("echo_downstream", Kind::Boolean)
        .default(Literal::Boolean(false))
        .required(),
];
