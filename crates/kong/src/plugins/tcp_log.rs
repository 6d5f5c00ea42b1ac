use super::delivery::{CUSTOM_FIELDS, PORT, limit};
use crate::formats;
use crate::plugins::PluginSchema;
use crate::schema::{Check, Field, Kind, Literal};

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "tcp-log",
    version: "3.9.3",
    priority: 7,
    fields: &[Field::new("config", Kind::Record(CONFIG)).required()],
    checks: &[],
};

const CONFIG: &[Field] = &[
    Field::new("host", Kind::String)
        .checks(&[Check::Text(formats::host)])
        .required(),
    PORT,
    limit("timeout", 10_000),
    limit("keepalive", 60_000),
    Field::new("tls", Kind::Boolean)
        .default(Literal::Boolean(false))
        .required(),
    Field::new("tls_sni", Kind::String).checks(&[Check::Text(formats::server_name)]),
    CUSTOM_FIELDS,
];
