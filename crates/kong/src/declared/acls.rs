//! ACL groups of consumers (spec gateway-admin 11).

use super::{CREATED_AT, ID, TAGS};
use crate::entity::{BASE, Entity, Foreign, OnDelete, Unique};
use crate::schema::{Check, Field, KEY_BYTES_MAX, Kind};

pub(super) const ENTITY: Entity = Entity {
    name: "acls",
    path: "acls",
    nested_path: "acls",
    nested_key: Some("group"),
    foreign: &[CONSUMER],
    unique: &[Unique {
        name: "consumer_group",
        fields: &["consumer", "group"],
        nulls_equal: false,
    }],
    cache_key: &["consumer", "group"],
    fields: FIELDS,
    ..BASE
};

const CONSUMER: Foreign = Foreign {
    field: "consumer",
    entity: "consumers",
    on_delete: OnDelete::Cascade,
};

const FIELDS: &[Field] = &[
    ID,
    CREATED_AT,
    Field::new("consumer", Kind::Foreign(&CONSUMER)).required(),
    Field::new("group", Kind::String)
        // Together with the id of the consumer it is one value of an index.
        .checks(&[Check::LengthMax(KEY_BYTES_MAX / 2)])
        .required(),
    TAGS,
];
