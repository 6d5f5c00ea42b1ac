//! Consumers (spec gateway-admin 9.3).

use super::{CREATED_AT, ID, TAGS, UPDATED_AT, single};
use crate::entity::{BASE, Entity};
use crate::schema::{Check, EntityCheck, Field, KEY_BYTES_MAX, Kind};

pub(super) const ENTITY: Entity = Entity {
    name: "consumers",
    path: "consumers",
    nested_path: "consumers",
    endpoint_key: Some("username"),
    search_key: Some("custom_id"),
    unique: &[
        single("username", &["username"]),
        single("custom_id", &["custom_id"]),
    ],
    fields: FIELDS,
    checks: &[EntityCheck::AtLeastOneOf(&["custom_id", "username"])],
    ..BASE
};

const FIELDS: &[Field] = &[
    ID,
    CREATED_AT,
    UPDATED_AT,
    Field::new("username", Kind::String)
        .checks(&[Check::LengthMax(KEY_BYTES_MAX)])
        .unique(),
    Field::new("custom_id", Kind::String)
        .checks(&[Check::LengthMax(KEY_BYTES_MAX)])
        .unique(),
    TAGS,
];
