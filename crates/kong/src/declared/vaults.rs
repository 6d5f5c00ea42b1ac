//! Vaults: where secrets come from that entities refer to (spec gateway-admin 9.7).

use super::{CREATED_AT, ID, TAGS, UPDATED_AT, single};
use crate::describe;
use crate::entity::{BASE, Document, Entity, Overlay, Violations};
use crate::schema::{Check, Field, KEY_BYTES_MAX, Kind};
use crate::vault::ENV;
use serde_json::Value;

pub(super) const ENTITY: Entity = Entity {
    name: "vaults",
    path: "vaults",
    nested_path: "vaults",
    endpoint_key: Some("prefix"),
    unique: &[single("prefix", &["prefix"])],
    cache_key: &["prefix"],
    fields: &[
        ID,
        Field::new("prefix", Kind::String)
            .checks(&[
                Check::LengthMax(KEY_BYTES_MAX),
                Check::NotOneOf(&[ENV]),
                Check::Match("^[a-z][a-z%d-]-[a-z%d]+$", is_prefix),
            ])
            .required()
            .unique(),
        Field::new("name", Kind::String).required(),
        Field::new("description", Kind::String),
        // The fields of the configuration come from the kind of the vault, see `overlay`.
        Field::new("config", Kind::Record(&[])),
        CREATED_AT,
        UPDATED_AT,
        TAGS,
    ],
    overlay,
    ..BASE
};

/// The configuration of the vault `env`.
const ENV_CONFIG: &[Field] = &[Field::new(
    "config",
    Kind::Record(&[Field::new("prefix", Kind::String)
        .checks(&[Check::Match("^[%a_-][%a%d_-]*$", is_variable_prefix)])]),
)];

/// The body of `GET /schemas/vaults/<name>`; `None` for a vault that is not there.
#[must_use]
pub fn vault_schema(name: &str) -> Option<Value> {
    (name == ENV).then(|| describe::schema(ENV_CONFIG, &[]))
}

fn overlay(vault: &Document, _: &[String]) -> Result<Overlay, Violations> {
    match vault.get("name") {
        Some(Value::String(name)) if name == ENV => Ok(Overlay {
            fields: ENV_CONFIG,
            checks: &[],
        }),
        Some(Value::String(name)) => Err(Violations::on(
            "name",
            format!("vault '{name}' is not installed"),
        )),
        _ => Ok(Overlay::default()),
    }
}

/// Kong's pattern: a letter, then letters, digits and dashes, no dash at the end.
fn is_prefix(text: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() >= 2
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|byte| fine(byte) || byte == b'-')
        && text.bytes().last().is_some_and(fine)
}

fn is_variable_prefix(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || "_-".contains(first))
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}
