use crate::declared::{HTTP_PROTOCOLS, NO_CONSUMER};
use crate::formats;
use crate::plugins::PluginSchema;
use crate::schema::{Check, Field, Kind, Literal};

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "key-auth",
    version: "3.9.3",
    priority: 1250,
    fields: &[
        NO_CONSUMER,
        HTTP_PROTOCOLS,
        Field::new("config", Kind::Record(CONFIG)).required(),
    ],
    checks: &[],
};

const NAME: Field = Field::element(Kind::String, &[Check::Text(formats::header_name)]);

const CONFIG: &[Field] = &[
    Field::new("key_names", Kind::Array(&NAME))
        .default(Literal::Strings(&["apikey"]))
        .required(),
    flag("hide_credentials", false),
    Field::new("anonymous", Kind::String),
    flag("key_in_header", true),
    flag("key_in_query", true),
    flag("key_in_body", false).checks(&[Check::NotTrue("keys in bodies are not supported")]),
    flag("run_on_preflight", true),
    Field::new("realm", Kind::String).checks(&[Check::Text(formats::header_value)]),
];

const fn flag(name: &'static str, default: bool) -> Field {
    Field::new(name, Kind::Boolean)
        .default(Literal::Boolean(default))
        .required()
}
