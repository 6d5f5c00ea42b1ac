//! Values that entities take from vaults: put in when a snapshot is compiled (spec gateway-admin 6.11).

use std::sync::Arc;

use o28m_kong::vault::Sources;
use o28m_kong::{Document, Entity, Vault};
use o28m_store::Record;
use rpds::HashTrieMapSync;
use serde_json::Value;

use super::skipped::Broken;
use super::{Id, Update, number};

type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

/// The environment variables that vaults may read. By default there are none.
#[derive(Clone)]
pub struct Variables(Arc<Lookup>);

impl Variables {
    /// `lookup` gives the value of a variable.
    #[must_use]
    pub fn new(lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(lookup))
    }
}

impl Default for Variables {
    fn default() -> Self {
        Self::new(|_| None)
    }
}

impl std::fmt::Debug for Variables {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Variables")
    }
}

/// Kind and id of an entity.
type Name = (&'static str, Id);

/// Vaults, and the entities that take values from them.
#[derive(Clone, Default)]
pub(super) struct References {
    /// Configuration of each vault by prefix.
    vaults: HashTrieMapSync<String, Document>,
    prefixes: HashTrieMapSync<Id, String>,
    /// As they are stored, to be compiled again when a vault changes.
    users: HashTrieMapSync<Name, Arc<Record>>,
}

impl References {
    pub(super) fn put_vault(&mut self, vault: Vault) {
        let config = match vault.config {
            Some(Value::Object(config)) => config,
            _ => Document::new(),
        };
        self.vaults.insert_mut(vault.prefix.clone(), config);
        self.prefixes.insert_mut(number(&vault.id), vault.prefix);
    }

    pub(super) fn remove_vault(&mut self, id: &str) {
        let key = number(id);
        if let Some(prefix) = self.prefixes.get(&key).cloned() {
            self.prefixes.remove_mut(&key);
            self.vaults.remove_mut(&prefix);
        }
    }

    /// The entities with references that are not among `updates`: they change with a vault.
    pub(super) fn affected_by(&self, updates: &[Update]) -> Vec<Update> {
        if self.users.is_empty() || !updates.iter().any(|it| it.kind == "vaults") {
            return Vec::new();
        }
        let is_listed = |(kind, id): &Name| {
            let mut updates = updates.iter();
            updates.any(|it| it.kind == **kind && number(&it.id) == *id)
        };
        let users = self.users.iter().filter(|(name, _)| !is_listed(name));
        users
            .map(|(_, record)| Update::from(Record::clone(record)))
            .collect()
    }

    pub(super) fn forget(&mut self, kind: &str, id: &str) {
        if self.users.is_empty() {
            return;
        }
        if let Some(entity) = o28m_kong::entity(kind) {
            self.users.remove_mut(&(entity.name, number(id)));
        }
    }

    /// Puts the values of references into the record; whether there are any, which then must not be
    /// quoted. A record with a reference that has no value stays as it is.
    pub(super) fn resolve(
        &mut self,
        record: &mut Record,
        variables: &Variables,
    ) -> Result<bool, Broken> {
        let Some((entity, document)) = with_references(record) else {
            return Ok(false);
        };
        let document = document.clone();
        let name = (entity.name, number(&record.id));
        self.users.insert_mut(name, Arc::new(record.clone()));
        let sources = Sources {
            vault: &|prefix| self.vaults.get(prefix).cloned(),
            variable: &|name| (variables.0)(name),
        };
        match entity.resolve_references(document, &sources) {
            Ok(document) => {
                record.body = Value::Object(document);
                Ok(true)
            }
            Err(unresolved) => Err(unresolved
                .into_iter()
                .next()
                .map_or(Broken::Value, Broken::Reference)),
        }
    }
}

fn with_references(record: &Record) -> Option<(&'static Entity, &Document)> {
    let document = record.body.as_object()?;
    let entity = o28m_kong::entity(&record.kind)?;
    entity
        .has_references(document)
        .then_some((entity, document))
}
