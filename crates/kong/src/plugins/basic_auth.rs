use crate::declared::{HTTP_PROTOCOLS, NO_CONSUMER};
use crate::formats;
use crate::plugins::PluginSchema;
use crate::schema::{Check, Field, Kind, Literal};

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "basic-auth",
    version: "3.9.3",
    priority: 1100,
    fields: &[
        NO_CONSUMER,
        HTTP_PROTOCOLS,
        Field::new("config", Kind::Record(CONFIG)).required(),
    ],
    checks: &[],
};

const CONFIG: &[Field] = &[
    Field::new("anonymous", Kind::String),
    Field::new("hide_credentials", Kind::Boolean)
        .default(Literal::Boolean(false))
        .required(),
    Field::new("realm", Kind::String)
        .default(Literal::String("service"))
        .checks(&[Check::Text(formats::header_value)])
        .required(),
];
