//! References, ids, validation and uniqueness of the collected entities.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use o28m_core::id::is_uuid;
use serde_json::{Value, json};

use super::collect::Item;
use super::identity;
use super::invalid::{Broken, Invalid};
use super::root::Rules;
use super::{Surroundings, compact};
use crate::entity::{Context, Document, Entity, Foreign, Unique, entities as declared, entity};

/// Stands for a reference that leads nowhere and was reported already.
const NOWHERE: &str = "00000000-0000-0000-0000-000000000000";

/// The entities, whole and valid, parents before children; problems go to `invalid`.
pub(super) fn entities(
    items: Vec<Item>,
    rules: &Rules,
    context: &Context<'_>,
    surroundings: &dyn Surroundings,
    invalid: &mut Invalid,
) -> Vec<(&'static Entity, Document)> {
    let mut resolver = Resolver {
        rules,
        context,
        surroundings,
        ids: vec![String::new(); items.len()],
        given: items.iter().filter_map(given_id).collect(),
        met: HashMap::new(),
        taken: HashSet::new(),
        unique: HashMap::new(),
    };
    let mut items: Vec<(usize, Item)> = items.into_iter().enumerate().collect();
    let rank = |item: &Item| declared().iter().position(|it| it.name == item.entity.name);
    items.sort_by_key(|(_, item)| rank(item));
    let mut found = Vec::with_capacity(items.len());
    for (position, mut item) in items {
        let document = std::mem::take(&mut item.document);
        let mut broken = Broken {
            entity: item.entity,
            place: std::mem::take(&mut item.place),
            sent: std::mem::take(&mut item.sent),
            errors: Document::new(),
            whole: None,
        };
        let document = resolver.item(position, &item, document, &mut broken);
        if !broken.errors.is_empty() || broken.whole.is_some() {
            invalid.entity(broken);
        } else if let Some(document) = document {
            found.push((item.entity, document));
        }
    }
    found
}

struct Resolver<'a> {
    rules: &'a Rules,
    context: &'a Context<'a>,
    surroundings: &'a dyn Surroundings,
    /// By position of the item.
    ids: Vec<String>,
    /// Kinds and ids that the configuration gives away itself.
    given: HashSet<(&'static str, String)>,
    /// How often a content was met that nothing else tells apart, by the first id made of it.
    met: HashMap<String, usize>,
    /// Kinds and ids.
    taken: HashSet<(&'static str, String)>,
    /// Kind, constraint and value, with the id of their entity.
    unique: HashMap<(&'static str, &'static str, String), String>,
}

impl Resolver<'_> {
    /// The valid document; otherwise messages are left in `broken`.
    fn item(
        &mut self,
        position: usize,
        item: &Item,
        mut document: Document,
        broken: &mut Broken,
    ) -> Option<Document> {
        let entity = item.entity;
        let mut unresolved = Document::new();
        for foreign in entity.foreign {
            let nested = item.parent.filter(|(_, it)| it.field == foreign.field);
            let nested = nested.and_then(|(at, _)| self.ids.get(at)).cloned();
            if let Err(message) = self.reference(foreign, nested, &mut document) {
                document.insert(foreign.field.to_owned(), json!({"id": NOWHERE}));
                unresolved.insert(foreign.field.to_owned(), Value::from(message));
            }
        }
        if self.rules.is_legacy {
            entity.upgrade(&mut document);
        }
        entity.prepare(&mut document, self.rules.transform);
        self.identify(entity, &mut document, &broken.sent);
        if let Some(Value::String(id)) = document.get("id")
            && let Some(own) = self.ids.get_mut(position)
        {
            id.clone_into(own);
        }
        if let Some(id) = document.get("id").and_then(Value::as_str)
            && let Some(created_at) = self.surroundings.created_at(entity, id)
        {
            document.entry("created_at").or_insert(created_at);
        }
        broken.whole = self.claim(entity, &document);
        let checked = entity.declare(document, self.rules.transform, self.context);
        let checked = checked.and_then(|document| {
            self.surroundings.accept(entity, &document)?;
            Ok(document)
        });
        match checked {
            Ok(document) => {
                broken.errors = unresolved;
                Some(document)
            }
            Err(violations) => {
                broken.errors = violations.fields;
                broken.errors.extend(unresolved);
                None
            }
        }
    }

    /// Makes a foreign key hold an id; `nested` is the one that the place decides.
    fn reference(
        &self,
        foreign: &'static Foreign,
        nested: Option<String>,
        document: &mut Document,
    ) -> Result<(), String> {
        let given = document.get(foreign.field).filter(|key| !key.is_null());
        let id = match (given, nested) {
            (None, None) => return Ok(()),
            (None, Some(nested)) => nested,
            (Some(given), nested) => match (self.target(foreign, given)?, nested) {
                // Not a key at all: the schema has a message for that.
                (None, _) => return Ok(()),
                (Some(id), Some(nested)) if id != nested => {
                    return Err("must be the entity it is nested in".to_owned());
                }
                (Some(id), _) => id,
            },
        };
        let id = if id.is_empty() {
            NOWHERE.to_owned()
        } else {
            id
        };
        document.insert(foreign.field.to_owned(), json!({"id": id}));
        Ok(())
    }

    /// The id a key leads to; `None` when it is no key.
    fn target(&self, foreign: &Foreign, given: &Value) -> Result<Option<String>, String> {
        let Some(target) = entity(foreign.entity) else {
            return Ok(None);
        };
        let (field, text) = match given {
            Value::String(text) if is_uuid(text) => ("id", text.to_ascii_lowercase()),
            Value::String(text) => match target.endpoint_key {
                Some(field) => (field, text.clone()),
                None => return Ok(None),
            },
            Value::Object(members) => match member(target, members) {
                Some(found) => found,
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        let found = if field == "id" {
            let key = (target.name, text.clone());
            self.taken.contains(&key).then(|| text.clone())
        } else {
            self.unique
                .get(&(target.name, field, text.clone()))
                .cloned()
        };
        let outside = || {
            let key = [(field.to_owned(), Value::from(text.as_str()))];
            self.surroundings
                .referable(target, &key.into_iter().collect())
        };
        match found.or_else(outside) {
            Some(id) => Ok(Some(id)),
            None => Err(format!(
                "invalid reference '{}: {text}' (no such entry in '{}')",
                foreign.field, foreign.entity
            )),
        }
    }

    /// Gives the document an id unless it has one.
    fn identify(&mut self, entity: &'static Entity, document: &mut Document, sent: &Document) {
        match document.get_mut("id") {
            Some(Value::String(id)) => {
                id.make_ascii_lowercase();
                return;
            }
            None | Some(Value::Null) => {}
            Some(_) => return,
        }
        document.remove("id");
        let id = self
            .surroundings
            .existing(entity, document)
            .filter(|id| !self.given.contains(&(entity.name, id.clone())))
            .or_else(|| {
                identity::of_unique_value(entity, document, sent).filter(|id| {
                    !self.given.contains(&(entity.name, id.clone()))
                        && !self.surroundings.is_taken(entity, id)
                })
            })
            .or_else(|| self.of_content(entity, document));
        if let Some(id) = id {
            document.insert("id".to_owned(), Value::String(id));
        }
    }

    fn of_content(&mut self, entity: &'static Entity, document: &Document) -> Option<String> {
        let first = identity::of_content(entity, document, 1)?;
        let met = self.met.entry(first.clone()).or_default();
        *met += 1;
        match *met {
            1 => Some(first),
            ordinal => identity::of_content(entity, document, ordinal),
        }
    }

    /// Takes id and unique values; a message when another entity has them.
    fn claim(&mut self, entity: &'static Entity, document: &Document) -> Option<String> {
        let id = document.get("id")?.as_str()?.to_owned();
        let mut taken = None;
        for unique in entity.unique {
            let Some(value) = unique.value(document) else {
                continue;
            };
            let key = (entity.name, unique.name, value);
            match self.unique.entry(key) {
                Entry::Vacant(free) => {
                    free.insert(id.clone());
                }
                Entry::Occupied(_) => {
                    taken = taken.or_else(|| Some(shown(unique, document)));
                }
            }
        }
        if !self.taken.insert((entity.name, id.clone())) {
            taken = taken.or_else(|| Some(("primary key".to_owned(), id)));
        }
        let (fields, value) = taken?;
        Some(format!(
            "uniqueness violation: '{}' entity with {fields} set to '{value}' already declared",
            entity.name
        ))
    }
}

/// Kind and id of an item that brings one.
fn given_id(item: &Item) -> Option<(&'static str, String)> {
    let id = item.document.get("id")?.as_str()?;
    Some((item.entity.name, id.to_ascii_lowercase()))
}

/// Names and values of a constraint's fields.
fn shown(unique: &Unique, document: &Document) -> (String, String) {
    let values =
        unique
            .fields
            .iter()
            .map(|field| match document.get(*field).unwrap_or(&Value::Null) {
                Value::String(text) => text.clone(),
                other => compact(other),
            });
    (
        unique.fields.join(","),
        values.collect::<Vec<_>>().join(","),
    )
}

/// The member of a foreign key that leads to its target: the id, or another unique field.
fn member(target: &Entity, key: &Document) -> Option<(&'static str, String)> {
    let text = |name: &str| key.get(name)?.as_str().map(str::to_owned);
    if let Some(id) = text("id") {
        return is_uuid(&id).then(|| ("id", id.to_ascii_lowercase()));
    }
    target
        .unique
        .iter()
        .filter(|unique| unique.fields == [unique.name])
        .find_map(|unique| Some((unique.name, text(unique.name)?)))
}
