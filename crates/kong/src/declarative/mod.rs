//! Kong's declarative format: a whole configuration as one document, in YAML or JSON (spec
//! gateway-admin 14.2). Its collections, nesting and references follow from the declared entities.

mod collect;
mod compact;
mod identity;
mod invalid;
mod resolve;
mod root;

use serde_json::Value;

use crate::entity::{Context, Document, Entity, Violations, entities};
use crate::yaml;

pub use compact::compact;
pub use invalid::Invalid;

/// A valid configuration.
#[derive(Debug)]
pub struct Configuration {
    /// Its entities, whole and with ids, parents before children.
    pub entities: Vec<(&'static Entity, Document)>,
    /// Tags of decK's `_info.select_tags`: every entity has them, and the configuration says nothing
    /// about entities that do not.
    pub select_tags: Vec<String>,
}

/// What a configuration meets where it is read for.
pub trait Surroundings {
    /// Id of the existing entity that this one without id is about: it shares a unique value.
    fn existing(&self, _entity: &'static Entity, _document: &Document) -> Option<String> {
        None
    }

    /// Whether the id made of an entity's name belongs to an existing entity that is another one, such as
    /// one that had the name before.
    fn is_taken(&self, _entity: &'static Entity, _id: &str) -> bool {
        false
    }

    /// When the entity of that id was created, for one that does not say so.
    fn created_at(&self, _entity: &'static Entity, _id: &str) -> Option<Value> {
        None
    }

    /// Id of an existing entity that a reference may point to although the configuration does not have
    /// it; `key` holds its id or another unique field.
    fn referable(&self, _entity: &'static Entity, _key: &Document) -> Option<String> {
        None
    }

    /// Refuses an entity that is valid by its declaration.
    ///
    /// # Errors
    /// [`Violations`].
    fn accept(&self, _entity: &'static Entity, _document: &Document) -> Result<(), Violations> {
        Ok(())
    }
}

/// The document of a text in JSON or YAML.
///
/// # Errors
/// [`Invalid`] when it is neither, or no object.
pub fn parse(text: &str) -> Result<Document, Invalid> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let json = text.trim_start().starts_with('{');
    let json = json.then(|| serde_json::from_str(text).ok()).flatten();
    match json.map_or_else(|| yaml::read(text), Ok) {
        Ok(Value::Object(document)) => Ok(document),
        Ok(_) => Err(Invalid::unreadable("expected an object")),
        Err(error) => Err(Invalid::unreadable(&error.to_string())),
    }
}

/// Reads a whole configuration.
///
/// # Errors
/// [`Invalid`] with every problem of it.
pub fn read(
    document: Document,
    context: &Context<'_>,
    surroundings: &dyn Surroundings,
) -> Result<Configuration, Invalid> {
    let mut invalid = Invalid::default();
    let (rules, collections) = root::read(document, &mut invalid);
    let items = collect::items(collections, &rules, &mut invalid);
    let entities = resolve::entities(items, &rules, context, surroundings, &mut invalid);
    if invalid.is_empty() {
        Ok(Configuration {
            entities,
            select_tags: rules.select_tags,
        })
    } else {
        Err(invalid)
    }
}

/// The document of these entities, given by name of their kind: collections in the order of the
/// declarations, entities in the order given, references as ids, nulls left out.
#[must_use]
pub fn document<'a>(
    given: impl IntoIterator<Item = (&'a str, &'a Document)>,
    select_tags: &[String],
) -> Document {
    let mut collections: Vec<(&Entity, Vec<Value>)> =
        entities().iter().map(|it| (it, Vec::new())).collect();
    for (name, document) in given {
        let found = collections
            .iter_mut()
            .find(|(entity, _)| entity.name == name);
        if let Some((entity, collection)) = found {
            collection.push(exported(entity, document));
        }
    }
    let mut root = Document::new();
    root.insert("_format_version".to_owned(), Value::from("3.0"));
    root.insert("_transform".to_owned(), Value::from(false));
    if !select_tags.is_empty() {
        root.insert(
            "_info".to_owned(),
            serde_json::json!({"select_tags": select_tags}),
        );
    }
    for (entity, collection) in collections {
        if !collection.is_empty() {
            root.insert(entity.name.to_owned(), Value::Array(collection));
        }
    }
    root
}

fn exported(entity: &Entity, document: &Document) -> Value {
    let mut exported = document.clone();
    for foreign in entity.foreign {
        if let Some(key) = exported.get_mut(foreign.field)
            && let Some(id) = key.get("id").cloned()
        {
            *key = id;
        }
    }
    without_nulls(Value::Object(exported))
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name, without_nulls(value)))
            .collect::<Document>()
            .into(),
        Value::Array(elements) => elements.into_iter().map(without_nulls).collect(),
        leaf => leaf,
    }
}
