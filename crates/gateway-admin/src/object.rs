//! From validated documents to what the store keeps and enforces.

use o28m_kong::{Document, Entity, OnDelete, entities};
use o28m_store::{Key, Object, Reference};
use serde_json::Value;

/// The store's kinds of all gateway entities, parents before children.
#[must_use]
pub fn kinds() -> Vec<&'static str> {
    entities().iter().map(|entity| entity.name).collect()
}

/// The object of a validated document: its unique keys, references and tags follow from the
/// declaration of its entity.
#[must_use]
pub fn object(entity: &Entity, document: &Document) -> Object {
    let text = |value: Option<&Value>| {
        value
            .and_then(Value::as_str)
            .map(str::to_owned)
            .unwrap_or_default()
    };
    let unique = entity.unique.iter().filter_map(|unique| {
        let value = unique.value(document)?;
        Some(Key {
            name: unique.name,
            value,
        })
    });
    let id = text(document.get("id"));
    let keys = unique
        .chain(listed(entity, document, &id))
        .chain(ending(entity, document, &id));
    let references = entity.foreign.iter().filter_map(|foreign| {
        let id = document.get(foreign.field)?.get("id")?.as_str()?;
        Some(Reference {
            field: foreign.field,
            kind: foreign.entity,
            id: id.to_owned(),
            on_delete: match foreign.on_delete {
                OnDelete::Restrict => o28m_store::OnDelete::Restrict,
                OnDelete::Cascade => o28m_store::OnDelete::Cascade,
            },
        })
    });
    let tags = document.get("tags").and_then(Value::as_array);
    let tags = tags.into_iter().flatten().filter_map(Value::as_str);
    let mut body = document.clone();
    entity.strip(&mut body);
    Object {
        kind: entity.name,
        owner: String::new(),
        keys: keys.collect(),
        id,
        references: references.collect(),
        tags: tags.map(str::to_owned).collect(),
        body: Value::Object(body),
    }
}

/// Index of the ends of life times, the earliest first.
pub(crate) const ENDS: &str = "ends";

/// The value of an index for an id of a list: the id, then the holder's.
pub(crate) fn listed_value(listed: &str, holder: &str) -> String {
    format!("{listed} {holder}")
}

/// The ids that an entity lists, as values of an index named after the field.
fn listed<'a>(
    entity: &'a Entity,
    document: &'a Document,
    id: &'a str,
) -> impl Iterator<Item = Key> + 'a {
    entity.lists.iter().flat_map(move |list| {
        let ids = document.get(list.field).and_then(Value::as_array);
        let ids = ids.into_iter().flatten().filter_map(Value::as_str);
        ids.map(move |listed| Key {
            name: list.field,
            value: listed_value(listed, id),
        })
    })
}

/// When the entity ends, as a value of an index.
fn ending<'a>(entity: &Entity, document: &Document, id: &'a str) -> impl Iterator<Item = Key> + 'a {
    let end = end_s(entity, document);
    end.into_iter().map(move |end| Key {
        name: ENDS,
        value: format!("{} {id}", ends_before(end)),
    })
}

/// What the values of [`ENDS`] begin with whose time is this one, in seconds.
pub(crate) fn ends_before(seconds: i64) -> String {
    format!("{:020}", seconds.max(0))
}

/// The second in which an entity ends; `None` for those that stay.
pub(crate) fn end_s(entity: &Entity, document: &Document) -> Option<i64> {
    let number = |name: &str| document.get(name).and_then(Value::as_i64);
    let ttl = number("ttl").filter(|ttl| entity.has_life_time && *ttl > 0)?;
    Some(number("created_at").unwrap_or_default().saturating_add(ttl))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_references_and_tags_follow_from_the_declaration() {
        let Value::Object(plugin) = json!({
            "id": "p", "name": "acl", "instance_name": null, "route": {"id": "r"},
            "service": null, "consumer": null, "tags": ["a"],
        }) else {
            panic!()
        };
        let object = object(o28m_kong::entity("plugins").unwrap(), &plugin);
        assert_eq!(object.keys.len(), 1);
        assert_eq!(object.keys[0].value, r#"["acl","r",null,null]"#);
        assert_eq!(object.references.len(), 1);
        assert_eq!(object.references[0].kind, "routes");
        assert_eq!(object.tags, ["a"]);
    }
}
