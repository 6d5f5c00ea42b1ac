use super::delivery::CUSTOM_FIELDS;
use crate::plugins::PluginSchema;
use crate::schema::{Check, Complaint, Field, Kind, Literal};

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "file-log",
    version: "3.9.3",
    priority: 9,
    fields: &[Field::new("config", Kind::Record(CONFIG)).required()],
    checks: &[],
};

const CONFIG: &[Field] = &[
    Field::new("path", Kind::String)
        .checks(&[Check::Text(filename)])
        .required(),
    Field::new("reopen", Kind::Boolean)
        .default(Literal::Boolean(false))
        .required(),
    CUSTOM_FIELDS,
];

fn filename(text: &str) -> Complaint {
    text.contains(['*', '&', '%', '\\', '`'])
        .then(|| "not a valid filename".into())
}
