//! From nested collections to a flat list of entities.

use serde_json::Value;

use super::invalid::{Invalid, Step};
use super::root::Rules;
use crate::entity::{Document, Entity, Foreign, entities};

/// Entities of one configuration.
const ENTITIES_MAX: usize = 1_000_000;

/// An entity as it stands in the configuration.
pub(super) struct Item {
    pub(super) entity: &'static Entity,
    /// The steps from the root.
    pub(super) place: Vec<Step>,
    /// Position in the list of the entity it is nested in, and the key that points there.
    pub(super) parent: Option<(usize, &'static Foreign)>,
    /// What was sent, without the entities nested in it.
    pub(super) sent: Document,
    /// The same with what the root adds.
    pub(super) document: Document,
}

/// Collections of Kong 3.9 whose entities are not declared here.
const ABSENT: &[&str] = &["filter_chains", "oauth2_authorization_codes"];

/// The singular of an entity's name, such as `service`.
pub(super) fn singular(entity: &Entity) -> &'static str {
    entity.name.strip_suffix('s').unwrap_or(entity.name)
}

/// Every entity, those nested after the ones they are nested in.
pub(super) fn items(mut root: Document, rules: &Rules, invalid: &mut Invalid) -> Vec<Item> {
    let mut collector = Collector {
        rules,
        invalid,
        items: Vec::new(),
    };
    for entity in entities() {
        if let Some(collection) = root.remove(entity.name) {
            let place = vec![Step::Member(entity.name)];
            collector.collection(entity, collection, place, None);
        }
    }
    for name in root.keys() {
        let is_known = ABSENT.contains(&name.as_str());
        let text = if is_known {
            "not supported by this build"
        } else {
            "unknown field"
        };
        collector.invalid.at_root(name, text);
    }
    collector.items
}

struct Collector<'a> {
    rules: &'a Rules,
    invalid: &'a mut Invalid,
    items: Vec<Item>,
}

impl Collector<'_> {
    fn collection(
        &mut self,
        entity: &'static Entity,
        collection: Value,
        place: Vec<Step>,
        parent: Option<(usize, &'static Foreign)>,
    ) {
        let elements = match collection {
            Value::Array(elements) => elements,
            Value::Null => return,
            // Lua's empty table is an empty array as well.
            Value::Object(members) if members.is_empty() => return,
            _ => return self.invalid.at(&place, "expected an array"),
        };
        for (at, element) in elements.into_iter().enumerate() {
            if self.items.len() >= ENTITIES_MAX || at >= ENTITIES_MAX {
                let text = format!("more than {ENTITIES_MAX} entities");
                return self.invalid.at_root("error", &text);
            }
            let mut place = place.clone();
            place.push(Step::Index(at));
            match element {
                Value::Object(members) => self.item(entity, members, place, parent),
                _ => self.invalid.at(&place, "expected a record"),
            }
        }
    }

    fn item(
        &mut self,
        entity: &'static Entity,
        mut sent: Document,
        place: Vec<Step>,
        parent: Option<(usize, &'static Foreign)>,
    ) {
        for free in ["_comment", "_ignore"] {
            sent.shift_remove(free);
        }
        let nested: Vec<_> = children(entity)
            .filter(|(child, _)| !entity.stores(child.name))
            .filter_map(|(child, foreign)| Some((child, foreign, sent.shift_remove(child.name)?)))
            .map(|(child, foreign, nested)| (child, foreign, with_names(entity, child, nested)))
            .collect();
        let position = self.items.len();
        self.items.push(Item {
            entity,
            place: place.clone(),
            parent,
            document: self.completed(entity, &sent),
            sent,
        });
        for (child, foreign, collection) in nested {
            let mut place = place.clone();
            place.push(Step::Member(child.name));
            self.collection(child, collection, place, Some((position, foreign)));
        }
    }

    /// The document with the defaults and tags that the root gives to all of its kind.
    fn completed(&self, entity: &Entity, sent: &Document) -> Document {
        let mut document = sent.clone();
        let defaults = self.rules.defaults.get(singular(entity));
        for (name, value) in defaults.and_then(Value::as_object).into_iter().flatten() {
            document
                .entry(name.clone())
                .or_insert_with(|| value.clone());
        }
        if !self.rules.select_tags.is_empty() {
            let tags = document.entry("tags").or_insert(Value::Null);
            if tags.is_null() {
                *tags = Value::Array(Vec::new());
            }
            if let Value::Array(tags) = tags {
                let added = self
                    .rules
                    .select_tags
                    .iter()
                    .map(|tag| Value::from(tag.as_str()));
                tags.extend(added);
            }
        }
        document
    }
}

/// Entities that are a field of `parent` as well may be given by name there.
fn with_names(parent: &Entity, child: &Entity, mut nested: Value) -> Value {
    let key = child.endpoint_key.filter(|_| parent.has_field(child.name));
    if let (Some(key), Value::Array(elements)) = (key, &mut nested) {
        for element in elements.iter_mut().filter(|it| it.is_string()) {
            let name = element.take();
            *element = Value::Object([(key.to_owned(), name)].into_iter().collect());
        }
    }
    nested
}

/// The entities that point to `parent`, and how.
fn children(parent: &'static Entity) -> impl Iterator<Item = (&'static Entity, &'static Foreign)> {
    entities().iter().filter_map(|child| {
        let foreign = child.foreign.iter().find(|it| it.entity == parent.name)?;
        Some((child, foreign))
    })
}
