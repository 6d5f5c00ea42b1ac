//! Credentials of consumers by what proves or names them.

use std::sync::Arc;

use o28m_kong::ForeignKey;
use rpds::HashTrieMapSync;
use serde_json::Value;

/// A credential of a consumer, as it is stored.
pub struct StoredCredential {
    /// Id of the entity.
    pub id: String,
    /// Id of the consumer it belongs to.
    pub consumer_id: String,
    /// All of its fields.
    pub document: Value,
}

/// The credentials of one kind.
#[derive(Clone)]
struct Index {
    kind: &'static str,
    /// The field that is looked up.
    field: &'static str,
    by_name: HashTrieMapSync<Arc<str>, Arc<StoredCredential>>,
    /// Name of each entity.
    names: HashTrieMapSync<Arc<str>, Arc<str>>,
}

#[derive(Clone)]
pub(super) struct Credentials([Index; 2]);

impl Default for Credentials {
    fn default() -> Self {
        let index = |(kind, field)| Index {
            kind,
            field,
            by_name: HashTrieMapSync::default(),
            names: HashTrieMapSync::default(),
        };
        Self(
            [
                ("basicauth_credentials", "username"),
                ("keyauth_credentials", "key"),
            ]
            .map(index),
        )
    }
}

impl Credentials {
    pub(super) fn find(&self, kind: &str, name: &str) -> Option<&Arc<StoredCredential>> {
        let index = self.0.iter().find(|it| it.kind == kind)?;
        index.by_name.get(name)
    }

    fn index(&mut self, kind: &str) -> Option<&mut Index> {
        self.0.iter_mut().find(|it| it.kind == kind)
    }

    /// Takes a credential in; other kinds of objects are none of its business.
    pub(super) fn put(&mut self, kind: &str, document: Value) -> Result<(), serde_json::Error> {
        let Some(index) = self.index(kind) else {
            return Ok(());
        };
        let member = |name: &str| document.get(name).cloned().unwrap_or_default();
        let id: String = serde_json::from_value(member("id"))?;
        let name: String = serde_json::from_value(member(index.field))?;
        let consumer: ForeignKey = serde_json::from_value(member("consumer"))?;
        let name: Arc<str> = Arc::from(name);
        let credential = Arc::new(StoredCredential {
            id,
            consumer_id: consumer.id,
            document,
        });
        let id = Arc::from(credential.id.as_str());
        index.by_name.insert_mut(name.clone(), credential);
        index.names.insert_mut(id, name);
        Ok(())
    }

    pub(super) fn remove(&mut self, kind: &str, id: &str) {
        let Some(index) = self.index(kind) else {
            return;
        };
        let Some(name) = index.names.get(id).cloned() else {
            return;
        };
        index.names.remove_mut(id);
        index.by_name.remove_mut(&name);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn credentials_are_found_by_name_until_they_are_gone() {
        let kind = "keyauth_credentials";
        let document = |id: &str, key: &str| json!({"id": id, "key": key, "consumer": {"id": "c"}});
        let mut credentials = Credentials::default();
        credentials.put(kind, document("1", "a")).unwrap();
        credentials.put(kind, document("2", "b")).unwrap();
        credentials.put("other", document("3", "a")).unwrap();
        assert_eq!(credentials.find(kind, "a").unwrap().consumer_id, "c");
        assert!(credentials.find("basicauth_credentials", "a").is_none());
        credentials.remove(kind, "1");
        credentials.remove(kind, "1");
        assert!(credentials.find(kind, "a").is_none());
        assert!(credentials.find(kind, "b").is_some());
        assert!(credentials.put(kind, json!({"id": "3"})).is_err());
    }
}
