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
    let keys = entity.unique.iter().filter_map(|unique| {
        let value = unique.value(document)?;
        Some(Key {
            name: unique.name,
            value,
        })
    });
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
    Object {
        kind: entity.name,
        id: text(document.get("id")),
        owner: String::new(),
        keys: keys.collect(),
        references: references.collect(),
        tags: tags.map(str::to_owned).collect(),
        body: Value::Object(document.clone()),
    }
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
