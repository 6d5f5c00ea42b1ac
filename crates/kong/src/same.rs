//! Whether two documents of an entity mean the same (spec gateway-admin 6.3): a control plane that sends
//! everything again and again writes sets in another order each time.

use std::collections::HashSet;

use serde_json::Value;

use crate::declared;
use crate::entity::{Document, Entity};
use crate::schema::{Field, Kind};

/// Plugins whose lists have no order, in entries such as `name:value` as long as no name comes twice.
const UNORDERED: &[&str] = &["request-transformer", "acl", "ip-restriction"];

impl Entity {
    /// Whether two whole documents mean the same but for the time of the last write: sets have no order.
    #[must_use]
    pub fn means_same(&self, one: &Document, other: &Document) -> bool {
        let overlay = declared::stored_overlay(self, other);
        let plugin = other.get("name").and_then(Value::as_str);
        let is_unordered = plugin.is_some_and(|it| UNORDERED.contains(&it));
        let lists_are_sets = self.name == "plugins" && is_unordered;
        let fields = |name: &str| {
            let mut all = overlay.fields.iter().chain(self.fields);
            all.find(|field| field.name == name)
        };
        one.len() == other.len()
            && one.iter().all(|(name, value)| {
                name == "updated_at"
                    || other.get(name).is_some_and(|other| {
                        let kind = fields(name).map(|field| field.kind);
                        same(kind, lists_are_sets, value, other)
                    })
            })
    }
}

fn same(kind: Option<Kind>, lists_are_sets: bool, one: &Value, other: &Value) -> bool {
    if one == other {
        return true;
    }
    match (kind, one, other) {
        (Some(Kind::Set(_)), Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().all(|element| other.contains(element))
        }
        (Some(Kind::Array(_)), Value::Array(one), Value::Array(other)) if lists_are_sets => {
            same_entries(one, other)
        }
        (Some(Kind::Record(fields)), Value::Object(one), Value::Object(other)) => {
            let kind = |name: &str| {
                let field = fields.iter().find(|field: &&Field| field.name == name);
                field.map(|field| field.kind)
            };
            one.len() == other.len()
                && one.iter().all(|(name, value)| {
                    let other = other.get(name);
                    other.is_some_and(|other| same(kind(name), lists_are_sets, value, other))
                })
        }
        _ => false,
    }
}

/// Whether both hold the same entries, in which no name comes twice.
fn same_entries(one: &[Value], other: &[Value]) -> bool {
    let texts = |entries: &[Value]| -> Option<HashSet<String>> {
        let texts = entries
            .iter()
            .map(|entry| entry.as_str().map(str::to_owned));
        texts.collect()
    };
    let (Some(own), Some(others)) = (texts(one), texts(other)) else {
        return false;
    };
    let names: HashSet<String> = own
        .iter()
        .filter_map(|entry| entry.split(':').next())
        .map(str::to_ascii_lowercase)
        .collect();
    names.len() == one.len() && one.len() == other.len() && own == others
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::entity;

    fn plugin(name: &str, config: serde_json::Value) -> crate::Document {
        let document = json!({
            "id": "1", "updated_at": 1, "name": name, "protocols": ["http", "https"], "tags": ["a", "b"],
            "config": config,
        });
        document.as_object().cloned().unwrap()
    }

    #[test]
    fn sets_have_no_order_and_arrays_have_one() {
        let same = |name: &str, one, other| {
            let (one, mut other) = (plugin(name, one), plugin(name, other));
            other.insert("updated_at".to_owned(), json!(2));
            other.insert("protocols".to_owned(), json!(["https", "http"]));
            other.insert("tags".to_owned(), json!(["b", "a"]));
            entity("plugins").unwrap().means_same(&one, &other)
        };
        assert!(same(
            "jwt-keycloak",
            json!({"allowed_iss": ["a", "b"]}),
            json!({"allowed_iss": ["b", "a"]})
        ));
        assert!(!same(
            "jwt-keycloak",
            json!({"allowed_iss": ["a", "b"]}),
            json!({"allowed_iss": ["a", "c"]})
        ));
        assert!(same(
            "acl",
            json!({"allow": ["a", "b"]}),
            json!({"allow": ["b", "a"]})
        ));
        assert!(!same(
            "key-auth",
            json!({"key_names": ["a", "b"]}),
            json!({"key_names": ["b", "a"]})
        ));
        let headers = |list: &[&str]| json!({"add": {"headers": list}});
        let it = "request-transformer";
        assert!(same(it, headers(&["a:1", "b:2"]), headers(&["b:2", "a:1"])));
        assert!(!same(
            it,
            headers(&["a:1", "b:2"]),
            headers(&["b:2", "a:2"])
        ));
        assert!(!same(
            it,
            headers(&["a:1", "A:2"]),
            headers(&["A:2", "a:1"])
        ));
        assert!(!same(
            it,
            headers(&["a:1"]),
            json!({"add": {"headers": ["a:1"], "body": []}})
        ));
    }
}
