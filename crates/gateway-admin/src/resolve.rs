//! From what a path or a document names to what the store has.

use o28m_core::id;
use o28m_kong::{Document, Entity, Unique, entity};
use o28m_store::{Record, Store};
use serde_json::{Value, json};

use crate::problem::{Problem, Unresolved};

/// How a path addresses an entity.
#[derive(Clone, Debug)]
pub(crate) enum Selector {
    /// By id, in lower case.
    Id(String),
    /// By a unique constraint that `field` belongs to.
    Key {
        unique: &'static Unique,
        field: &'static str,
        /// The value of the field.
        text: String,
        /// The value of the constraint.
        value: String,
    },
}

impl Selector {
    /// The id of an entity, or the value of the field that may stand for it; `parent` is field and id
    /// of the entity in front in the path.
    pub(crate) fn new(
        entity: &'static Entity,
        text: &str,
        parent: Option<(&'static str, &str)>,
    ) -> Result<Self, Problem> {
        if id::is_uuid(text) {
            return Ok(Self::Id(text.to_ascii_lowercase()));
        }
        if let Some((field, unique)) = entity
            .endpoint_key
            .and_then(|field| Some((field, entity.unique_field(field)?)))
        {
            if let Some(message) = entity.key_complaint(text) {
                return Err(Problem::InvalidUnique { field, message });
            }
            return Ok(Self::Key {
                unique,
                field,
                text: text.to_owned(),
                value: text.to_owned(),
            });
        }
        if let (Some(field), Some((above, parent_id))) = (entity.nested_key, parent)
            && let Some(unique) = entity
                .unique
                .iter()
                .find(|unique| unique.fields.contains(&field) && unique.fields.contains(&above))
        {
            let mut key = Document::new();
            key.insert(field.to_owned(), json!(text));
            key.insert(above.to_owned(), json!({"id": parent_id}));
            return Ok(Self::Key {
                unique,
                field,
                text: text.to_owned(),
                value: unique.value(&key).unwrap_or_default(),
            });
        }
        Err(Problem::InvalidId)
    }

    /// How messages name the entity.
    pub(crate) fn document(&self) -> Document {
        let (name, value) = match self {
            Self::Id(id) => ("id", id),
            Self::Key { field, text, .. } => (*field, text),
        };
        [(name.to_owned(), json!(value))].into_iter().collect()
    }

    /// The entity, if there is one.
    pub(crate) async fn find(
        &self,
        store: &Store,
        entity: &Entity,
    ) -> Result<Option<Record>, Problem> {
        let found = match self {
            Self::Id(id) => store.get(entity.name, id).await?,
            Self::Key { unique, value, .. } => {
                store
                    .get_by_key(entity.name, "", unique.name, value)
                    .await?
            }
        };
        Ok(found)
    }
}

/// Replaces foreign keys given by a unique field of their target with ids; `fixed` is the field that
/// the path decides.
pub(crate) async fn foreign_keys(
    store: &Store,
    entity_: &Entity,
    document: &mut Document,
    fixed: Option<&str>,
) -> Result<(), Problem> {
    let mut unresolved = Vec::new();
    for foreign in entity_.foreign.iter().filter(|it| Some(it.field) != fixed) {
        let Some(target) = entity(foreign.entity) else {
            continue;
        };
        let Some((member, value)) = document
            .get(foreign.field)
            .and_then(|value| by_unique(target, value))
        else {
            continue;
        };
        match store.get_by_key(target.name, "", member, &value).await? {
            Some(record) => {
                document.insert(foreign.field.to_owned(), json!({"id": record.id}));
            }
            None => unresolved.push(Unresolved {
                field: foreign.field,
                member: member.to_owned(),
                value,
                entity: foreign.entity,
            }),
        }
    }
    if unresolved.is_empty() {
        Ok(())
    } else {
        Err(Problem::Unresolved(unresolved))
    }
}

/// Name and value of the unique field in a foreign key without id.
fn by_unique(target: &'static Entity, key: &Value) -> Option<(&'static str, String)> {
    if key.get("id").is_some_and(|id| !id.is_null()) {
        return None;
    }
    target.unique.iter().find_map(|unique| {
        let value = key.get(unique.name)?.as_str()?;
        (unique.fields == [unique.name] && is_storable(value))
            .then(|| (unique.name, value.to_owned()))
    })
}

/// Whether a database can be asked for the text at all.
pub(crate) fn is_storable(text: &str) -> bool {
    !text.is_empty() && !text.contains('\0')
}
