use super::delivery::{CUSTOM_FIELDS, PORT, limit};
use crate::formats;
use crate::plugins::PluginSchema;
use crate::schema::{Check, Field, Kind};

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "udp-log",
    version: "3.9.3",
    priority: 8,
    fields: &[Field::new("config", Kind::Record(CONFIG)).required()],
    checks: &[],
};

const CONFIG: &[Field] = &[
    Field::new("host", Kind::String)
        .checks(&[Check::Text(formats::host)])
        .required(),
    PORT,
    limit("timeout", 10_000),
    CUSTOM_FIELDS,
];
