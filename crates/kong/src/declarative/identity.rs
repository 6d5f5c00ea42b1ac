//! Ids of entities that do not bring one: the same for the same entity, whoever reads it.

use o28m_core::id::uuid_v5;
use serde_json::Value;

use crate::entity::{Document, Entity};

/// Namespace of the kinds of entities (Kong 3.9).
const NAMESPACE: &str = "fd02801f-0957-4a15-a55a-c8d9606f30b5";

/// The id made of an entity's cache key, its name or, lacking both, of another unique value of it; foreign
/// keys must be resolved. `sent` is what the configuration says: Kong puts the texts of references into
/// the key as they stand there. `None` when nothing tells the entity from others.
pub(super) fn of_unique_value(
    entity: &Entity,
    document: &Document,
    sent: &Document,
) -> Option<String> {
    if !entity.cache_key.is_empty() {
        return of_parts(entity, entity.cache_key, document, Some(sent));
    }
    let name = entity
        .endpoint_key
        .filter(|field| entity.unique_field(field).is_some())
        .and_then(|field| document.get(field)?.as_str());
    if let Some(name) = name.filter(|name| !name.is_empty()) {
        return of_key(entity, name);
    }
    let unique = entity
        .unique
        .iter()
        .find(|unique| unique.value(document).is_some())?;
    of_parts(entity, unique.fields, document, None)
}

/// `None` when a required part is missing.
fn of_parts(
    entity: &Entity,
    fields: &[&str],
    document: &Document,
    sent: Option<&Document>,
) -> Option<String> {
    let mut key = format!("{}:*", entity.name);
    for field in fields {
        let as_sent = sent
            .and_then(|sent| sent.get(*field))
            .filter(|it| it.is_string());
        let value = as_sent.or_else(|| document.get(*field));
        let value = value.unwrap_or(&Value::Null);
        let part = value.get("id").unwrap_or(value);
        key.push(':');
        match part {
            Value::Null if entity.requires(field) => return None,
            Value::Null => {}
            Value::String(text) => key.push_str(text),
            other => key.push_str(&other.to_string()),
        }
    }
    of_key(entity, &key)
}

/// The id made of everything an entity says; `ordinal` tells equal ones apart.
pub(super) fn of_content(entity: &Entity, document: &Document, ordinal: usize) -> Option<String> {
    let mut members: Vec<_> = document.iter().collect();
    members.sort_by(|a, b| a.0.cmp(b.0));
    let content: Vec<_> = members
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    of_key(
        entity,
        &format!("{}#{ordinal}:{}", entity.name, content.join(",")),
    )
}

fn of_key(entity: &Entity, key: &str) -> Option<String> {
    let space = uuid_v5(NAMESPACE, entity.name.as_bytes())?;
    uuid_v5(&space, key.as_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::entity::entity;

    fn id(name: &str, document: Value) -> Option<String> {
        let Value::Object(document) = document else {
            panic!("not an object")
        };
        of_unique_value(entity(name).unwrap(), &document, &Document::new())
    }

    /// Vectors of Kong 3.9.
    #[test]
    fn ids_are_those_of_kong() {
        let cases = [
            (
                "services",
                json!({"name": "my-service"}),
                "0855b320-0dd2-547d-891d-601e9b38647f",
            ),
            (
                "routes",
                json!({"name": "my-route"}),
                "481a9539-f49c-51b6-b2e2-fe99ee68866c",
            ),
            (
                "consumers",
                json!({"username": "my-user"}),
                "4b1b701d-de2b-5588-9aa2-3b97061d9f52",
            ),
        ];
        for (name, document, expected) in cases {
            assert_eq!(id(name, document).as_deref(), Some(expected));
        }
    }

    #[test]
    fn without_a_name_the_unique_values_count() {
        let acls = entity("acls").unwrap();
        let consumer = json!({"id": "c"});
        assert_eq!(
            id("acls", json!({"group": "g", "consumer": consumer})),
            of_key(acls, "acls:*:c:g")
        );
        let credentials = entity("basicauth_credentials").unwrap();
        assert_eq!(
            id("basicauth_credentials", json!({"username": "u"})),
            of_key(credentials, "basicauth_credentials:*:u")
        );
        let plugins = entity("plugins").unwrap();
        assert_eq!(
            id("plugins", json!({"name": "acl", "route": {"id": "r"}})),
            of_key(plugins, "plugins:*:acl:r::")
        );
        assert_eq!(id("routes", json!({"paths": ["/"]})), None);
        let keys = entity("keys").unwrap();
        assert_eq!(
            id("keys", json!({"name": "n", "kid": "k"})),
            of_key(keys, "keys:*:k:")
        );
        let named = json!({"name": "acl", "instance_name": "i"});
        assert_eq!(id("plugins", named), of_key(plugins, "plugins:*:acl:::"));
        let vaults = entity("vaults").unwrap();
        assert_eq!(
            id("vaults", json!({"prefix": "my-vault"})),
            of_key(vaults, "vaults:*:my-vault")
        );
    }

    #[test]
    fn references_count_as_they_are_written() {
        let consumer = json!({"group": "g", "consumer": {"id": "c"}});
        let (Value::Object(resolved), Value::Object(sent)) =
            (consumer, json!({"group": "g", "consumer": "bob"}))
        else {
            panic!("not objects")
        };
        let acls = entity("acls").unwrap();
        assert_eq!(
            of_unique_value(acls, &resolved, &sent),
            of_key(acls, "acls:*:bob:g")
        );
    }
}
