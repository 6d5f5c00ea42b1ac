//! What stands at the root of a configuration besides its collections.

use serde_json::Value;

use super::invalid::Invalid;
use crate::entity::Document;
use crate::formats;

/// What the root says about all entities.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// Paths of routes are those of Kong before 3.0.
    pub(super) is_legacy: bool,
    pub(super) select_tags: Vec<String>,
    /// Fields for entities that lack them, by the singular name of their kind.
    pub(super) defaults: Document,
}

const VERSIONS: &[&str] = &["1.1", "2.1", "3.0"];

/// Takes everything but collections (and what is unknown) out of the root.
pub(super) fn read(mut root: Document, invalid: &mut Invalid) -> (Rules, Document) {
    let mut rules = Rules::default();
    match root.shift_remove("_format_version") {
        None | Some(Value::Null) => invalid.at_root("_format_version", "required field missing"),
        Some(Value::String(version)) if VERSIONS.contains(&version.as_str()) => {
            rules.is_legacy = version != "3.0";
        }
        Some(Value::String(_)) => {
            let text = format!("expected one of: {}", VERSIONS.join(", "));
            invalid.at_root("_format_version", &text);
        }
        Some(_) => invalid.at_root("_format_version", "expected a string"),
    }
    // No entity of this build keeps a transformed value, so either answer means the same.
    let transform = root.shift_remove("_transform").unwrap_or_default();
    if !(transform.is_null() || transform.is_boolean()) {
        invalid.at_root("_transform", "expected a boolean");
    }
    for free in ["_comment", "_ignore"] {
        root.shift_remove(free);
    }
    match root.shift_remove("_info") {
        None | Some(Value::Null) => {}
        Some(Value::Object(info)) => info_of_deck(info, &mut rules, invalid),
        Some(_) => invalid.at_root("_info", "expected a record"),
    }
    (rules, root)
}

fn info_of_deck(mut info: Document, rules: &mut Rules, invalid: &mut Invalid) {
    match info.shift_remove("select_tags") {
        None | Some(Value::Null) => {}
        Some(Value::Array(tags)) => {
            for tag in tags {
                match tag {
                    Value::String(tag) if formats::tag(&tag).is_none() => {
                        rules.select_tags.push(tag);
                    }
                    _ => invalid.at_root("_info", "select_tags: expected an array of tags"),
                }
            }
        }
        Some(_) => invalid.at_root("_info", "select_tags: expected an array of tags"),
    }
    match info.shift_remove("defaults") {
        None | Some(Value::Null) => {}
        Some(Value::Object(defaults)) if defaults.values().all(Value::is_object) => {
            rules.defaults = defaults;
        }
        Some(_) => invalid.at_root("_info", "defaults: expected records by kind of entity"),
    }
}
