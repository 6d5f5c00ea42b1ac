//! Targets of upstreams (spec gateway-admin 9.5).

use serde_json::{Value, json};

use super::{ID, TAGS};
use crate::entity::{BASE, Document, Entity, Foreign, OnDelete, Unique};
use crate::formats;
use crate::schema::{Auto, Check, Field, KEY_BYTES_MAX, Kind, Literal};

pub(super) const ENTITY: Entity = Entity {
    name: "targets",
    path: "targets",
    nested_path: "targets",
    nested_key: Some("target"),
    foreign: &[UPSTREAM],
    unique: &[Unique {
        name: "upstream_target",
        fields: &["upstream", "target"],
        nulls_equal: false,
    }],
    cache_key: &["upstream", "target"],
    fields: FIELDS,
    ..BASE
};

const UPSTREAM: Foreign = Foreign {
    field: "upstream",
    entity: "upstreams",
    on_delete: OnDelete::Cascade,
};

const FIELDS: &[Field] = &[
    ID,
    // Unlike those of other entities these have fractions: they order the list.
    Field::new("created_at", Kind::Number)
        .checks(&[Check::Timestamp])
        .auto(Auto::Created),
    Field::new("updated_at", Kind::Number)
        .checks(&[Check::Timestamp])
        .auto(Auto::Updated),
    Field::new("upstream", Kind::Foreign(&UPSTREAM)).required(),
    Field::new("target", Kind::String)
        .checks(&[
            // Together with the id of the upstream it is one value of an index.
            Check::LengthMax(KEY_BYTES_MAX / 2),
            Check::Text(|text| {
                formats::target(text).is_none().then(|| {
                    format!("Invalid target ('{text}'); not a valid hostname or ip address").into()
                })
            }),
        ])
        .required(),
    Field::new("weight", Kind::Integer)
        .default(Literal::Integer(100))
        .checks(&[Check::Between(0, 65_535)]),
    TAGS,
];

/// Gives the target a client sent its normal form.
pub(super) fn normalise(input: &mut Document) {
    let normal = input
        .get("target")
        .and_then(Value::as_str)
        .and_then(formats::target);
    if let Some(normal) = normal {
        input.insert("target".to_owned(), json!(normal));
    }
}
