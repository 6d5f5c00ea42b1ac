//! Kinds of Kong that are described by the schema endpoints although they are no entities here: tags
//! follow from the entities that have them, and there is one workspace.

use serde_json::Value;

use super::{CREATED_AT, ID, TAG, UPDATED_AT};
use crate::describe;
use crate::entity::entity;
use crate::formats;
use crate::schema::{Check, Field, Kind};

/// The body of `GET /schemas/<name>` for entities, tags and workspaces; `None` for anything else.
#[must_use]
pub fn schema(name: &str) -> Option<Value> {
    match name {
        "tags" => Some(describe::schema(TAGS, &[])),
        "workspaces" => Some(describe::schema(WORKSPACES, &[])),
        name => entity(name).map(crate::Entity::describe),
    }
}

const TAGS: &[Field] = &[
    Field {
        name: "tag",
        ..TAG.required()
    },
    Field::new("entity_name", Kind::String).required(),
    Field {
        name: "entity_id",
        ..ID.required()
    },
];

const WORKSPACES: &[Field] = &[
    ID,
    Field::new("name", Kind::String)
        .checks(&[Check::Text(formats::name)])
        .unique()
        .required(),
    Field::new("comment", Kind::String),
    CREATED_AT,
    UPDATED_AT,
    Field::new("meta", Kind::Record(&[])),
    Field::new("config", Kind::Record(&[])),
];
