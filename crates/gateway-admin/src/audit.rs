//! The audit log: one JSON line for each change, saying who made it, what it changed and which version
//! holds it. Secrets are left out.

use std::fmt::Write as _;
use std::path::Path;

use o28m_core::Timestamp;
use o28m_store::{Record, Write};
use o28m_telemetry::lines::{Lines, push_iso8601};
use o28m_telemetry::metrics::Counter;
use serde_json::{Map, Value, json};

use crate::declarative::{Action, Change};
use crate::mask;
use crate::request;

/// Members that every write changes, or that the line names already.
const UNTOLD: &[&str] = &["id", "created_at", "updated_at"];
/// Levels of records that are compared member by member; below it they are one value.
const DEPTH_MAX: usize = 3;
/// Changes of one import that are listed; more are only counted.
const LISTED_MAX: usize = 1000;

/// A running audit log.
pub(crate) struct Audit {
    lines: Lines,
}

impl Audit {
    /// # Errors
    /// When the destination cannot be opened.
    pub(crate) fn open(path: &Path, dropped: Counter) -> std::io::Result<Self> {
        let lines = Lines::open("audit log", path, dropped)?;
        Ok(Self { lines })
    }

    /// Notes a write that took place; `before` is what was stored.
    pub(crate) fn wrote(
        &self,
        write: &Write,
        before: Option<&Record>,
        version: i64,
        now: Timestamp,
    ) {
        let (kind, id, after) = match write {
            Write::Insert(object) | Write::Upsert(object) | Write::Update { object, .. } => {
                (object.kind, &object.id, Some(&object.body))
            }
            Write::Delete { kind, id } => (*kind, id, None),
        };
        let before = before.map(|record| &record.body);
        let action = match (before, after) {
            (None, None) => return,
            (None, Some(_)) => "create",
            (Some(_), Some(_)) => "update",
            (Some(_), None) => "delete",
        };
        let name = after.or(before).and_then(name);
        let mut line = Map::new();
        line.insert("action".to_owned(), json!(action));
        line.insert("entity".to_owned(), json!(kind));
        line.insert("id".to_owned(), json!(id));
        line.insert("name".to_owned(), json!(name));
        line.insert("changes".to_owned(), changes(before, after));
        self.log(line, version, now);
    }

    /// Notes that a whole configuration was loaded.
    pub(crate) fn imported(&self, changes: &[Change], version: i64, now: Timestamp) {
        let listed = changes.iter().take(LISTED_MAX).map(|change| {
            let action = match change.action {
                Action::Create => "create",
                Action::Update => "update",
                Action::Delete => "delete",
            };
            json!({
                "action": action, "entity": change.entity, "id": change.id, "name": change.name,
                "fields": change.fields,
            })
        });
        let mut line = Map::new();
        line.insert("action".to_owned(), json!("import"));
        line.insert("count".to_owned(), json!(changes.len()));
        line.insert("changes".to_owned(), listed.collect());
        self.log(line, version, now);
    }

    fn log(&self, what: Map<String, Value>, version: i64, now: Timestamp) {
        let mut line = "{\"timestamp\":\"".to_owned();
        push_iso8601(&mut line, now.seconds());
        let _infallible = write!(line, "\",\"version\":{version}");
        let who = match request::current() {
            Some(request) => json!({
                "user": request.user.get(),
                "consumer": request.consumer,
                "client_address": request.source.to_string(),
                "method": request.method.as_str(),
                "path": request.path,
            }),
            None => json!({"user": null, "process": true}),
        };
        let members = who.as_object().cloned().unwrap_or_default();
        for (name, value) in members.into_iter().chain(what) {
            let _infallible = write!(line, ",{}:{value}", json!(name));
        }
        line.push_str("}\n");
        if !self.lines.write(line) {
            tracing::error!(config.version = version, "audit log lost a line");
        }
    }
}

fn name(body: &Value) -> Option<&str> {
    const NAMES: &[&str] = &["name", "username", "custom_id", "target", "group", "prefix"];
    NAMES.iter().find_map(|name| body.get(name)?.as_str())
}

/// What differs, as `{"field": …, "before": …, "after": …}`.
fn changes(before: Option<&Value>, after: Option<&Value>) -> Value {
    let mut found = Vec::new();
    let absent = json!({});
    differences(
        "",
        before.unwrap_or(&absent),
        after.unwrap_or(&absent),
        0,
        &mut found,
    );
    Value::Array(found)
}

fn differences(path: &str, before: &Value, after: &Value, depth: usize, found: &mut Vec<Value>) {
    let (Value::Object(old), Value::Object(new)) = (before, after) else {
        return;
    };
    let removed = old.keys().filter(|name| !new.contains_key(*name));
    for name in new.keys().chain(removed) {
        let null = Value::Null;
        let pair = (
            old.get(name).unwrap_or(&null),
            new.get(name).unwrap_or(&null),
        );
        if pair.0 == pair.1 || (depth == 0 && UNTOLD.contains(&name.as_str())) {
            continue;
        }
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        if pair.0.is_object() && pair.1.is_object() && depth < DEPTH_MAX {
            differences(&path, pair.0, pair.1, depth + 1, found);
            continue;
        }
        let shown = |value: &Value| {
            let mut value = value.clone();
            if mask::is_secret(name) {
                mask::cover(&mut value);
            }
            mask::mask(&mut value);
            value
        };
        found.push(json!({"field": path, "before": shown(pair.0), "after": shown(pair.1)}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_fields_and_no_secrets() {
        let old = json!({
            "id": "1", "updated_at": 1, "retries": 5, "tags": null, "key": "old",
            "config": {"redis": {"host": "a", "password": "p"}, "allow": ["a"]},
        });
        let new = json!({
            "id": "1", "updated_at": 2, "retries": 5, "tags": ["t"], "key": "new",
            "config": {"redis": {"host": "b", "password": "q"}, "allow": ["a"]},
        });
        assert_eq!(
            changes(Some(&old), Some(&new)),
            json!([
                {"field": "tags", "before": null, "after": ["t"]},
                {"field": "key", "before": "******", "after": "******"},
                {"field": "config.redis.host", "before": "a", "after": "b"},
                {"field": "config.redis.password", "before": "******", "after": "******"},
            ])
        );
        let created = changes(None, Some(&json!({"id": "1", "tags": null, "host": "h"})));
        assert_eq!(
            created,
            json!([{"field": "host", "before": null, "after": "h"}])
        );
        let deleted = changes(Some(&json!({"secret": "s"})), None);
        assert_eq!(
            deleted,
            json!([{"field": "secret", "before": "******", "after": null}])
        );
    }
}
