use crate::declared::HTTP_AND_STREAM_PROTOCOLS;
use crate::formats;
use crate::plugins::PluginSchema;
use crate::schema::{Check, EntityCheck, Field, Kind};

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "ip-restriction",
    version: "3.9.3",
    priority: 990,
    fields: &[
        HTTP_AND_STREAM_PROTOCOLS,
        Field::new("config", Kind::Record(CONFIG)).required(),
    ],
    checks: &[EntityCheck::AtLeastOneOf(&["config.allow", "config.deny"])],
};

const ADDRESSES: Field = Field::element(Kind::String, &[Check::Text(formats::ip_or_cidr)]);

const CONFIG: &[Field] = &[
    Field::new("allow", Kind::Array(&ADDRESSES)),
    Field::new("deny", Kind::Array(&ADDRESSES)),
    // Kong takes any number and fails at run time on one that is no status of an error.
    Field::new("status", Kind::Number).checks(&[Check::Between(400, 599)]),
    Field::new("message", Kind::String),
];
