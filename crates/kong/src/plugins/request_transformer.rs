use crate::declared::{HTTP_PROTOCOLS, TEXT};
use crate::formats::{is_header_name, is_method};
use crate::plugins::PluginSchema;
use crate::schema::{Check, Complaint, Field, Kind, Literal};

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "request-transformer",
    version: "3.9.3",
    priority: 801,
    fields: &[
        HTTP_PROTOCOLS,
        Field::new("config", Kind::Record(CONFIG)).required(),
    ],
    checks: &[],
};

const CONFIG: &[Field] = &[
    Field::new("http_method", Kind::String).checks(&[Check::Match("^%u+$", is_method)]),
    Field::new("remove", Kind::Record(REMOVE)).required(),
    Field::new("rename", Kind::Record(RENAME)).required(),
    Field::new("replace", Kind::Record(REPLACE)).required(),
    Field::new("add", Kind::Record(ADD)).required(),
    Field::new("append", Kind::Record(ADD)).required(),
];

const REMOVED_HEADER: Field = Field::element(Kind::String, &[Check::Text(header)]);
const RENAMED: Field = Field::element(Kind::String, &[Check::Text(pair)]);
const RENAMED_HEADER: Field = Field::element(Kind::String, &[Check::Text(header_names)]);
const SET_HEADER: Field = Field::element(Kind::String, &[Check::Text(header_line)]);

const REMOVE: &[Field] = &[
    list("body", &TEXT),
    list("headers", &REMOVED_HEADER),
    list("querystring", &TEXT),
];
const RENAME: &[Field] = &[
    list("body", &RENAMED),
    list("headers", &RENAMED_HEADER),
    list("querystring", &RENAMED),
];
const ADD: &[Field] = &[
    list("body", &RENAMED),
    list("headers", &SET_HEADER),
    list("querystring", &RENAMED),
];
const REPLACE: &[Field] = &[
    list("body", &RENAMED),
    list("headers", &SET_HEADER),
    list("querystring", &RENAMED),
    Field::new("uri", Kind::String),
];

const fn list(name: &'static str, element: &'static Field) -> Field {
    Field::new(name, Kind::Array(element))
        .default(Literal::Strings(&[]))
        .required()
}

/// Splits at the first colon; colons right after it belong to neither side.
fn split(entry: &str) -> (&str, Option<&str>) {
    match entry.split_once(':') {
        Some((name, value)) => (name, Some(value.trim_start_matches(':'))),
        None => (entry, None),
    }
}

fn header(name: &str) -> Complaint {
    (!is_header_name(name)).then(|| format!("'{name}' is not a valid header").into())
}

fn pair(entry: &str) -> Complaint {
    let (name, value) = split(entry);
    let has_value = value.is_some_and(|value| !value.is_empty());
    (!has_value).then(|| format!("key '{name}' has no value").into())
}

fn header_names(entry: &str) -> Complaint {
    let (old, Some(new)) = split(entry) else {
        return Some(format!("invalid value: {entry}").into());
    };
    header(old).or_else(|| header(new))
}

fn header_line(entry: &str) -> Complaint {
    let (name, Some(value)) = split(entry) else {
        return Some(format!("invalid value: {entry}").into());
    };
    if let Some(complaint) = header(name) {
        return Some(complaint);
    }
    // A line break would start another header line upstream.
    let fine = |c: char| !c.is_control() || c == '\t';
    (!value.chars().all(fine))
        .then(|| format!("value of header '{name}' contains control characters").into())
}
