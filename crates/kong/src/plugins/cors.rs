use crate::declared::{HTTP_PROTOCOLS, NO_CONSUMER};
use crate::formats;
use crate::plugins::PluginSchema;
use crate::schema::{Check, Complaint, Field, Kind, Literal};

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "cors",
    version: "3.9.3",
    priority: 2000,
    fields: &[
        NO_CONSUMER,
        HTTP_PROTOCOLS,
        Field::new("config", Kind::Record(CONFIG)).required(),
    ],
    checks: &[],
};

const METHODS: &[&str] = &[
    "GET", "HEAD", "PUT", "PATCH", "POST", "DELETE", "OPTIONS", "TRACE", "CONNECT",
];

const ORIGIN: Field = Field::element(Kind::String, &[Check::Text(origin)]);
const HEADER: Field = Field::element(Kind::String, &[Check::Text(formats::header_value)]);
const METHOD: Field = Field::element(Kind::String, &[Check::OneOf(METHODS)]);

const CONFIG: &[Field] = &[
    Field::new("origins", Kind::Array(&ORIGIN)),
    Field::new("headers", Kind::Array(&HEADER)),
    Field::new("exposed_headers", Kind::Array(&HEADER)),
    Field::new("methods", Kind::Array(&METHOD)).default(Literal::Strings(METHODS)),
    Field::new("max_age", Kind::Number),
    flag("credentials", false),
    flag("private_network", false),
    flag("preflight_continue", false),
    flag("allow_origin_absent", true),
];

const fn flag(name: &'static str, default: bool) -> Field {
    Field::new(name, Kind::Boolean)
        .default(Literal::Boolean(default))
        .required()
}

fn origin(text: &str) -> Complaint {
    (text != "*" && !formats::is_regex(text))
        .then(|| format!("'{text}' is not a valid regex").into())
}
