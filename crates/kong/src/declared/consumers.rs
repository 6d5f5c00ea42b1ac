//! Consumers (spec gateway-admin 9.3).

use super::{CREATED_AT, ID, TAGS, UPDATED_AT, single};
use crate::entity::{Entity, Overlay};
use crate::schema::{Check, EntityCheck, Field, KEY_BYTES_MAX, Kind};

pub(super) const ENTITY: Entity = Entity {
    name: "consumers",
    path: "consumers",
    nested_path: "consumers",
    endpoint_key: Some("username"),
    nested_key: None,
    search_key: Some("custom_id"),
    foreign: &[],
    unique: &[
        single("username", &["username"]),
        single("custom_id", &["custom_id"]),
    ],
    fields: FIELDS,
    shorthand: None,
    overlay: Overlay::none,
    checks: &[EntityCheck::AtLeastOneOf(&["custom_id", "username"])],
    unsupported: &[],
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
