//! Fields of plugins that send something on: the queue, and the limits of calls.

use crate::schema::{Check, Field, Kind, Literal};

/// The record `queue` (spec gateway-plugins 1.7) of members that [`members`] gave.
pub(super) const fn queue(members: &'static [Field]) -> Field {
    Field::new("queue", Kind::Record(members)).required()
}

/// Members of a queue that sends `batch` entries in one call unless told otherwise.
pub(super) const fn members(batch: i64) -> [Field; 8] {
    const DELAY: &[Check] = &[Check::Between(0, 1_000_000), Check::Value(not_too_short)];
    [
        Field::new("max_batch_size", Kind::Integer)
            .default(Literal::Integer(batch))
            .checks(&[Check::Between(1, 1_000_000)]),
        Field::new("max_coalescing_delay", Kind::Number)
            .default(Literal::Integer(1))
            .checks(&[Check::Between(0, 3600)]),
        Field::new("max_entries", Kind::Integer)
            .default(Literal::Integer(10_000))
            .checks(&[Check::Between(1, 1_000_000)]),
        Field::new("max_bytes", Kind::Integer),
        Field::new("max_retry_time", Kind::Number).default(Literal::Integer(60)),
        Field::new("initial_retry_delay", Kind::Number)
            .default(Literal::Number(0.01))
            .checks(DELAY),
        Field::new("max_retry_delay", Kind::Number)
            .default(Literal::Integer(60))
            .checks(DELAY),
        Field::new("concurrency_limit", Kind::Integer)
            .default(Literal::Integer(1))
            .checks(&[Check::OneOfIntegers(&[-1, 1])]),
    ]
}

fn not_too_short(value: &serde_json::Value) -> crate::schema::Complaint {
    value
        .as_f64()
        .is_some_and(|seconds| seconds < 0.001)
        .then(|| "value should be between 0.001 and 1000000".into())
}

/// More members of the entries of a log, or fewer: a name, and what Lua code would return for it.
pub(super) const CUSTOM_FIELDS: Field = Field::new(
    "custom_fields_by_lua",
    Kind::Map {
        keys: &Field::element(Kind::String, &[]),
        values: &Field::element(Kind::String, &[]),
    },
);

/// A limit in milliseconds that Kong takes as any number.
pub(super) const fn limit(name: &'static str, default: i64) -> Field {
    Field::new(name, Kind::Number)
        .default(Literal::Integer(default))
        .checks(&[Check::Between(0, 2_147_483_646)])
}

/// A required TCP or UDP port.
pub(super) const PORT: Field = Field::new("port", Kind::Integer)
    .checks(&[Check::Between(0, 65535)])
    .required();

/// A limit in milliseconds.
pub(super) const fn timeout(name: &'static str, default: i64) -> Field {
    Field::new(name, Kind::Integer)
        .default(Literal::Integer(default))
        .checks(&[Check::Between(0, 2_147_483_646)])
}
