//! What is in the store, as a configuration meets it.

use std::collections::HashMap;

use o28m_kong::declarative::Surroundings;
use o28m_kong::{Document, Entity, Violations, entity};
use o28m_store::Everything;
use serde_json::Value;

use super::{Mode, Rules, plan};
use crate::write::compile;

/// A stored entity.
pub(super) struct Stored {
    pub(super) entity: &'static Entity,
    pub(super) body: Document,
    /// The version of its state.
    pub(super) version: i64,
}

/// Kind and id.
pub(super) type Id = (&'static str, String);

/// Every stored entity, found by id and by unique values.
pub(super) struct Present {
    pub(super) by_id: HashMap<Id, Stored>,
    /// Kind, constraint and value.
    pub(super) by_key: HashMap<(&'static str, &'static str, String), String>,
    /// The version of the lock, once there was an import.
    pub(super) lock: Option<i64>,
}

impl Present {
    pub(super) fn new(everything: Everything) -> Self {
        let mut present = Self {
            by_id: HashMap::with_capacity(everything.records.len()),
            by_key: HashMap::new(),
            lock: None,
        };
        for record in everything.records {
            if record.kind == plan::LOCK_KIND {
                present.lock = Some(record.version);
            }
            let (Some(entity), Value::Object(body)) = (entity(&record.kind), record.body) else {
                continue;
            };
            for (name, value) in keys(entity, &body) {
                present
                    .by_key
                    .insert((entity.name, name, value), record.id.clone());
            }
            let stored = Stored {
                entity,
                body,
                version: record.version,
            };
            present.by_id.insert((entity.name, record.id), stored);
        }
        present
    }

    fn of_key(&self, entity: &'static Entity, document: &Document) -> Option<&String> {
        keys(entity, document)
            .find_map(|(name, value)| self.by_key.get(&(entity.name, name, value)))
    }
}

/// The unique values of a document, by constraint.
pub(super) fn keys<'a>(
    entity: &'static Entity,
    document: &'a Document,
) -> impl Iterator<Item = (&'static str, String)> + 'a {
    entity
        .unique
        .iter()
        .filter_map(|unique| Some((unique.name, unique.value(document)?)))
}

/// What a configuration with these tags meets when it is imported.
pub(super) struct Target<'a> {
    pub(super) present: &'a Present,
    pub(super) mode: Mode,
    pub(super) select_tags: &'a [String],
    pub(super) rules: &'a Rules,
}

impl Target<'_> {
    /// Whether a stored entity is there after the import, even if the configuration does not have it.
    pub(super) fn stays(&self, stored: &Stored) -> bool {
        self.mode == Mode::Merge
            || (!self.select_tags.is_empty() && !plan::has_tags(&stored.body, self.select_tags))
    }
}

impl Surroundings for Target<'_> {
    fn existing(&self, entity: &'static Entity, document: &Document) -> Option<String> {
        self.rules
            .match_names
            .then(|| self.present.of_key(entity, document).cloned())
            .flatten()
    }

    fn is_taken(&self, entity: &'static Entity, id: &str) -> bool {
        let id = (entity.name, id.to_owned());
        self.rules.match_names && self.present.by_id.contains_key(&id)
    }

    fn created_at(&self, entity: &'static Entity, id: &str) -> Option<Value> {
        let stored = self.present.by_id.get(&(entity.name, id.to_owned()))?;
        stored.body.get("created_at").cloned()
    }

    fn referable(&self, entity: &'static Entity, key: &Document) -> Option<String> {
        let id = match key.get("id").and_then(Value::as_str) {
            Some(id) => id.to_owned(),
            None => self.present.of_key(entity, key)?.clone(),
        };
        let stored = self.present.by_id.get(&(entity.name, id.clone()))?;
        self.stays(stored).then_some(id)
    }

    fn accept(&self, entity: &'static Entity, document: &Document) -> Result<(), Violations> {
        if entity.name == "plugins" {
            compile(&self.rules.plugin_kinds, document)?;
        }
        Ok(())
    }
}
