//! From a configuration and what is stored to the steps of one transaction.
//!
//! Rows whose unique values or targets move between entities are deleted and made again in the same
//! transaction, children first and parents first: no order of updates alone would do.

use std::collections::{HashMap, HashSet};

use o28m_kong::{Context, Document, Entity, OnDelete, declarative, entities};
use o28m_store::{Everything, Object, Write};
use serde_json::{Value, json};

use super::surroundings::{Id, Present, Stored, Target, keys};
use super::{Action, Change, DeclarativeError, Mode, Rules};
use crate::object::object;

/// Kind of the one object that every import writes, so that two of them never mix.
pub(super) const LOCK_KIND: &str = "declarative_imports";
const LOCK_ID: &str = "last";

/// What an import does.
pub(super) struct Plan {
    pub(super) changes: Vec<Change>,
    /// Nothing when nothing changes.
    pub(super) writes: Vec<Write>,
    /// The version it was made for.
    pub(super) version: i64,
}

/// Whether the entity has all of these tags.
pub(super) fn has_tags(document: &Document, tags: &[String]) -> bool {
    let own = document.get("tags").and_then(Value::as_array);
    tags.iter()
        .all(|tag| own.is_some_and(|own| own.iter().any(|it| it == tag)))
}

/// Compares the configuration with everything that is stored.
pub(super) fn plan(
    everything: Everything,
    document: Document,
    mode: Mode,
    rules: &Rules,
) -> Result<Plan, DeclarativeError> {
    let version = everything.version;
    let present = Present::new(everything);
    let select_tags = select_tags(&document);
    let target = Target {
        present: &present,
        mode,
        select_tags: &select_tags,
        rules,
    };
    let context = Context {
        ambient: &rules.ambient,
        enabled_plugins: &rules.enabled_plugins,
    };
    let configuration = declarative::read(document, &context, &target)?;
    let wanted = Wanted::new(&target, configuration.entities, rules)?;
    let freed = wanted.freed(&present)?;
    let changes = wanted.changes(&present);
    if changes.is_empty() {
        return Ok(Plan {
            changes,
            writes: Vec::new(),
            version,
        });
    }
    let mut writes = vec![lock(&present, rules)];
    writes.append(&mut wanted.writes(&present, &freed));
    Ok(Plan {
        changes,
        writes,
        version,
    })
}

/// The tags of a document that has not been checked yet.
fn select_tags(document: &Document) -> Vec<String> {
    let tags = document
        .get("_info")
        .and_then(|info| info.get("select_tags")?.as_array());
    let tags = tags.into_iter().flatten().filter_map(Value::as_str);
    tags.map(str::to_owned).collect()
}

fn lock(present: &Present, rules: &Rules) -> Write {
    let object = Object {
        kind: LOCK_KIND,
        id: LOCK_ID.to_owned(),
        owner: String::new(),
        keys: Vec::new(),
        references: Vec::new(),
        tags: Vec::new(),
        body: json!({"at": rules.ambient.now().seconds()}),
    };
    match present.lock {
        Some(version) => Write::Update {
            object,
            if_version: Some(version),
        },
        None => Write::Insert(object),
    }
}

/// Position of a kind: parents before children.
fn rank(kind: &str) -> usize {
    let mut all = entities().iter();
    all.position(|entity| entity.name == kind)
        .unwrap_or(usize::MAX)
}

/// The ids an entity points to, and what a deletion there does to it.
fn targets(entity: &'static Entity, body: &Document) -> Vec<(Id, OnDelete)> {
    let foreign = entity.foreign.iter();
    foreign
        .filter_map(|foreign| {
            let id = body.get(foreign.field)?.get("id")?.as_str()?;
            Some(((foreign.entity, id.to_owned()), foreign.on_delete))
        })
        .collect()
}

/// The store as it will be.
struct Wanted {
    /// New and changed entities in the configuration's order, parents before children.
    declared: Vec<(&'static Entity, Document)>,
    /// Ids of all of them, changed or not.
    declared_ids: HashSet<Id>,
    /// Stored entities that go, children before parents.
    removed: Vec<Id>,
}

impl Wanted {
    fn new(
        target: &Target<'_>,
        entities: Vec<(&'static Entity, Document)>,
        rules: &Rules,
    ) -> Result<Self, DeclarativeError> {
        let mut declared_ids = HashSet::with_capacity(entities.len());
        let mut declared = Vec::new();
        for (entity, mut document) in entities {
            let id = own_id(entity, &document);
            let stored = target.present.by_id.get(&id);
            declared_ids.insert(id);
            if stored.is_some_and(|stored| changed_fields(&document, stored).is_empty()) {
                continue;
            }
            if let Some(stored) = stored {
                touch(&mut document, stored, rules);
            }
            declared.push((entity, document));
        }
        let mut wanted = Self {
            declared,
            declared_ids,
            removed: Vec::new(),
        };
        wanted.remove(target)?;
        Ok(wanted)
    }

    /// Finds what goes: what the configuration does not have, and what hangs below that.
    fn remove(&mut self, target: &Target<'_>) -> Result<(), DeclarativeError> {
        let mut removed = HashSet::new();
        for (id, stored) in sorted(target.present) {
            if self.declared_ids.contains(id) {
                continue;
            }
            let mut goes = !target.stays(stored);
            for (other, on_delete) in targets(stored.entity, &stored.body) {
                match on_delete {
                    _ if !removed.contains(&other) => {}
                    OnDelete::Cascade => goes = true,
                    OnDelete::Restrict if goes => {}
                    OnDelete::Restrict => {
                        return Err(DeclarativeError::Conflict(format!(
                            "{} {} would be deleted, and {} {} references it",
                            other.0, other.1, id.0, id.1
                        )));
                    }
                }
            }
            if goes {
                removed.insert(id.clone());
                self.removed.push(id.clone());
            }
        }
        self.removed.reverse();
        Ok(())
    }

    /// Rows that must be deleted before anything is written: those that go, those whose unique value
    /// another entity takes over, and those that point to one of them.
    fn freed(&self, present: &Present) -> Result<HashSet<Id>, DeclarativeError> {
        let mut freed: HashSet<Id> = self.removed.iter().cloned().collect();
        let mut after: HashMap<Id, &Document> = HashMap::new();
        for (entity, document) in &self.declared {
            after.insert(own_id(entity, document), document);
        }
        for (entity, document) in &self.declared {
            let id = own_id(entity, document);
            for (name, value) in keys(entity, document) {
                let Some(holder) = present.by_key.get(&(entity.name, name, value.clone())) else {
                    continue;
                };
                let holder_id = (entity.name, holder.clone());
                if *holder == id.1 || freed.contains(&holder_id) {
                    continue;
                }
                let keeps = after.get(&holder_id).is_none_or(|document| {
                    keys(entity, document).any(|own| own == (name, value.clone()))
                });
                if keeps {
                    return Err(DeclarativeError::Conflict(format!(
                        "{} {} has the {name} {value} that {} is to have",
                        entity.name, holder, id.1
                    )));
                }
                freed.insert(holder_id);
            }
        }
        for (id, stored) in sorted(present) {
            let points = targets(stored.entity, &stored.body);
            if points.iter().any(|(other, _)| freed.contains(other)) {
                freed.insert(id.clone());
            }
        }
        Ok(freed)
    }

    fn changes(&self, present: &Present) -> Vec<Change> {
        let mut changes = Vec::new();
        for (entity, document) in &self.declared {
            let id = own_id(entity, document);
            let stored = present.by_id.get(&id);
            changes.push(Change {
                action: stored.map_or(Action::Create, |_| Action::Update),
                entity: entity.name,
                name: name(entity, document),
                id: id.1,
                fields: stored.map_or_else(Vec::new, |stored| changed_fields(document, stored)),
            });
        }
        for id in &self.removed {
            let stored = present.by_id.get(id);
            changes.push(Change {
                action: Action::Delete,
                entity: id.0,
                id: id.1.clone(),
                name: stored.and_then(|stored| name(stored.entity, &stored.body)),
                fields: Vec::new(),
            });
        }
        changes
    }

    fn writes(self, present: &Present, freed: &HashSet<Id>) -> Vec<Write> {
        let removed: HashSet<Id> = self.removed.into_iter().collect();
        let mut last = self.declared;
        let mut changed: HashSet<Id> = HashSet::new();
        for (entity, document) in &last {
            changed.insert(own_id(entity, document));
        }
        let mut writes = Vec::new();
        let mut deletes = Vec::new();
        for (id, stored) in sorted(present)
            .into_iter()
            .filter(|(id, _)| freed.contains(*id))
        {
            if !removed.contains(id) {
                // Refuses the import when someone changed it in between.
                writes.push(Write::Update {
                    object: object(stored.entity, &stored.body),
                    if_version: Some(stored.version),
                });
                if !changed.contains(id) {
                    last.push((stored.entity, stored.body.clone()));
                }
            }
            deletes.push(Write::Delete {
                kind: id.0,
                id: id.1.clone(),
            });
        }
        deletes.reverse();
        writes.append(&mut deletes);
        last.sort_by_key(|(entity, _)| rank(entity.name));
        for (entity, document) in last {
            let id = own_id(entity, &document);
            let object = object(entity, &document);
            writes.push(match present.by_id.get(&id) {
                Some(stored) if !freed.contains(&id) => Write::Update {
                    object,
                    if_version: Some(stored.version),
                },
                _ => Write::Insert(object),
            });
        }
        writes
    }
}

/// Stored entities, parents before children, then by id.
fn sorted(present: &Present) -> Vec<(&Id, &Stored)> {
    let mut all: Vec<_> = present.by_id.iter().collect();
    all.sort_by(|a, b| (rank(a.0.0), &a.0.1).cmp(&(rank(b.0.0), &b.0.1)));
    all
}

fn own_id(entity: &'static Entity, document: &Document) -> Id {
    let id = document.get("id").and_then(Value::as_str);
    (entity.name, id.unwrap_or_default().to_owned())
}

/// What people call an entity.
fn name(entity: &Entity, document: &Document) -> Option<String> {
    let fields = [entity.endpoint_key, entity.nested_key, Some("name")];
    let text = |field: &str| document.get(field)?.as_str().map(str::to_owned);
    fields.into_iter().flatten().find_map(text)
}

/// The fields in which two states differ; the time of the last write does not count.
fn changed_fields(document: &Document, stored: &Stored) -> Vec<String> {
    let is_other =
        |field: &&String| *field != "updated_at" && document.get(*field) != stored.body.get(*field);
    let gone = stored
        .body
        .keys()
        .filter(|field| !document.contains_key(*field));
    let fields = document.keys().chain(gone);
    fields.filter(is_other).cloned().collect()
}

/// A change is later than the state it changes.
fn touch(document: &mut Document, stored: &Stored, rules: &Rules) {
    let time = |document: &Document| document.get("updated_at").and_then(Value::as_i64);
    if document.contains_key("updated_at") && time(document) <= time(&stored.body) {
        let now = rules.ambient.now().seconds();
        document.insert("updated_at".to_owned(), json!(now));
    }
}
