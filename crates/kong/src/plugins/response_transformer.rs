use crate::declared::HTTP_PROTOCOLS;
use crate::formats::is_header_name;
use crate::plugins::PluginSchema;
use crate::schema::{Check, Complaint, Field, Kind, Literal};

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "response-transformer",
    version: "3.9.3",
    priority: 800,
    fields: &[
        HTTP_PROTOCOLS,
        Field::new("config", Kind::Record(CONFIG)).required(),
    ],
    checks: &[],
};

const CONFIG: &[Field] = &[
    Field::new("remove", Kind::Record(REMOVE)).required(),
    Field::new("rename", Kind::Record(RENAME)).required(),
    Field::new("replace", Kind::Record(SET)).required(),
    Field::new("add", Kind::Record(SET)).required(),
    Field::new("append", Kind::Record(SET)).required(),
];

const JSON: Field = Field::element(Kind::String, &[Check::Text(no_body)]);
const JSON_TYPE: Field = Field::element(
    Kind::String,
    &[
        Check::OneOf(&["boolean", "number", "string"]),
        Check::Text(no_body),
    ],
);
const NAME: Field = Field::element(Kind::String, &[Check::Text(name)]);
const NAMES: Field = Field::element(
    Kind::String,
    &[Check::Match("^[^:]+:.*$", is_pair), Check::Text(names)],
);
const LINE: Field = Field::element(
    Kind::String,
    &[Check::Match("^[^:]+:.*$", is_pair), Check::Text(line)],
);

const REMOVE: &[Field] = &[list("headers", &NAME), list("json", &JSON)];
const RENAME: &[Field] = &[list("headers", &NAMES), list("json", &JSON)];
const SET: &[Field] = &[
    list("headers", &LINE),
    list("json", &JSON),
    list("json_types", &JSON_TYPE),
];

/// Headers that say where a message ends: whoever sends it decides on them.
const FRAMING: &[&str] = &[
    "connection",
    "content-length",
    "keep-alive",
    "transfer-encoding",
    "upgrade",
];

const fn list(name: &'static str, element: &'static Field) -> Field {
    Field::new(name, Kind::Array(element))
        .default(Literal::Strings(&[]))
        .required()
}

fn no_body(_: &str) -> Complaint {
    Some("bodies of responses cannot be transformed".into())
}

fn is_pair(entry: &str) -> bool {
    entry.find(':').is_some_and(|at| at > 0) && !entry.contains('\n')
}

fn split(entry: &str) -> (&str, &str) {
    let (name, value) = entry.split_once(':').unwrap_or((entry, ""));
    (name, value.trim_start_matches(':'))
}

fn name(text: &str) -> Complaint {
    if !is_header_name(text) {
        return Some(format!("'{text}' is not a valid header").into());
    }
    let is_framing = FRAMING.iter().any(|it| it.eq_ignore_ascii_case(text));
    is_framing.then(|| format!("header '{text}' cannot be changed").into())
}

fn names(entry: &str) -> Complaint {
    let (old, new) = split(entry);
    name(old).or_else(|| name(new))
}

fn line(entry: &str) -> Complaint {
    let (header, value) = split(entry);
    name(header).or_else(|| crate::formats::header_value(value))
}
