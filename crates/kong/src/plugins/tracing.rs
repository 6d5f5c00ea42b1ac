//! Fields that both tracing plugins have.

use crate::formats;
use crate::schema::{Check, Field, Kind, Literal};

const EXTRACT: &[&str] = &["b3", "w3c", "jaeger", "ot", "datadog", "aws", "gcp"];
const INJECT: &[&str] = &[
    "preserve",
    "b3",
    "b3-single",
    "w3c",
    "jaeger",
    "ot",
    "datadog",
    "aws",
    "gcp",
];
/// Formats a context can be written in.
pub(super) const FORMATS: &[&str] = &[
    "b3",
    "b3-single",
    "w3c",
    "jaeger",
    "ot",
    "aws",
    "datadog",
    "gcp",
];
/// Which context is read, and in which formats it goes on.
pub(super) const HEADER_TYPES: &[&str] = &[
    "preserve",
    "ignore",
    "b3",
    "b3-single",
    "w3c",
    "jaeger",
    "ot",
    "aws",
    "datadog",
    "gcp",
];

/// The record `propagation`; what it says counts instead of `header_type` when more than its default
/// format is given.
pub(super) const PROPAGATION: Field = Field::new(
    "propagation",
    Kind::Record(&[
        Field::new("extract", Kind::Array(&one_of(&[Check::OneOf(EXTRACT)]))),
        Field::new(
            "clear",
            Kind::Array(&one_of(&[Check::Text(formats::header_name)])),
        ),
        Field::new("inject", Kind::Array(&one_of(&[Check::OneOf(INJECT)]))),
        Field::new("default_format", Kind::String)
            .default(Literal::String("b3"))
            .checks(&[Check::OneOf(FORMATS)])
            .required(),
    ]),
)
.required();

/// Response header that tells the trace id.
pub(super) const RESPONSE_HEADER: Field =
    Field::new("http_response_header_for_traceid", Kind::String)
        .checks(&[Check::Text(formats::header_name)]);

const fn one_of(checks: &'static [Check]) -> Field {
    Field::element(Kind::String, checks)
}
