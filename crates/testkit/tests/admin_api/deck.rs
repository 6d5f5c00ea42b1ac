//! What decK sent, recorded from the real tool, sent again (spec gateway-admin 18).

use std::collections::BTreeMap;

use o28m_testkit::{Platform, on_every_database};
use serde_json::{Value, json};

const CALLS: &str = include_str!("../data/deck-calls.jsonl");
/// Requests that decK has under way at the same time.
const PARALLEL: usize = 10;

/// One recorded request.
#[derive(Clone)]
struct Call {
    method: String,
    path: String,
    body: Value,
    status: u16,
}

impl Call {
    /// The collection of a path that ends with an id.
    fn collection(&self) -> &str {
        self.path.rsplit('/').nth(1).unwrap_or_default()
    }
}

/// The calls of each command, in order.
fn commands() -> Vec<(String, Vec<Call>)> {
    let mut commands: Vec<(String, Vec<Call>)> = Vec::new();
    for line in CALLS.lines() {
        let parts: Vec<Value> = serde_json::from_str(line).unwrap();
        let text = |at: usize| parts[at].as_str().unwrap().to_owned();
        if parts[0] == "#" {
            commands.push((text(1), Vec::new()));
            continue;
        }
        let call = Call {
            method: text(0),
            path: text(1),
            body: parts[2].clone(),
            status: u16::try_from(parts[3].as_u64().unwrap()).unwrap(),
        };
        commands.last_mut().unwrap().1.push(call);
    }
    commands
}

/// What decK believes to have made, by id, and what it saw.
#[derive(Default)]
struct Client {
    sent: BTreeMap<String, Value>,
    seen: BTreeMap<String, Value>,
}

impl Client {
    async fn send(&mut self, platform: &Platform, call: &Call) {
        let reply = platform
            .admin(&call.method, &call.path, call.body.clone())
            .await;
        let what = format!("{} {} {}", call.method, call.path, call.body);
        assert_eq!(reply.status, call.status, "{what}: {}", reply.text());
        let is_writing = matches!(call.method.as_str(), "PUT" | "POST");
        if is_writing && !call.path.starts_with("/schemas/") && call.status < 300 {
            let id = call.body["id"].as_str().unwrap();
            self.sent.insert(id.to_owned(), call.body.clone());
        } else if call.method == "DELETE" {
            self.sent.remove(call.path.rsplit('/').next().unwrap());
        } else if call.method == "GET" && call.status == 200 {
            let body = reply.json();
            for entity in body["data"].as_array().into_iter().flatten() {
                let id = entity["id"].as_str().unwrap();
                self.seen.insert(id.to_owned(), entity.clone());
            }
        }
    }

    /// Whether decK finds nothing to change: all that it sent is there as it was sent.
    fn check_converged(&self) {
        assert!(self.sent.len() > 20);
        for (id, sent) in &self.sent {
            let seen = self
                .seen
                .get(id)
                .unwrap_or_else(|| panic!("{sent} is not listed"));
            assert!(covers(sent, seen), "sent {sent}\nseen {seen}");
        }
    }
}

/// Whether everything that was sent is shown.
fn covers(sent: &Value, seen: &Value) -> bool {
    match (sent, seen) {
        (Value::Object(sent), Value::Object(seen)) => sent.iter().all(|(name, sent)| {
            let seen = seen.get(name).unwrap_or(&Value::Null);
            // A pointer is its id; a password is shown as its hash.
            let is_pointer = sent.get("id").is_some_and(|id| seen == &json!({"id": id}));
            is_pointer || name == "password" || covers(sent, seen)
        }),
        (Value::Array(sent), Value::Array(seen)) => {
            sent.len() == seen.len() && sent.iter().zip(seen).all(|(sent, seen)| covers(sent, seen))
        }
        (Value::Number(sent), Value::Number(seen)) => sent.as_f64() == seen.as_f64(),
        _ => sent == seen,
    }
}

/// Deletes in parallel whatever is of one collection, as decK does.
async fn reset(platform: &Platform, calls: &[Call]) {
    let mut rest = calls;
    while let Some(first) = rest.first() {
        let same = rest
            .iter()
            .take_while(|it| it.collection() == first.collection());
        let (batch, others) = rest.split_at(same.count().clamp(1, PARALLEL));
        rest = others;
        let sending = batch.iter().map(|call| async move {
            let reply = platform.admin("DELETE", &call.path, json!(null)).await;
            assert_eq!(reply.status, call.status, "{}: {}", call.path, reply.text());
        });
        futures_util::future::join_all(sending).await;
    }
}

on_every_database! {
    async fn admin_case_070_what_deck_sent_is_answered_as_it_expects(platform: Platform) {
        // The recording begins with an empty gateway.
        for path in ["/routes/admin-api", "/routes/issuer", "/services/admin-api", "/services/issuer", "/consumers/rover"] {
            let _ = platform.admin("DELETE", path, json!(null)).await.expect(204);
        }
        let plugins = platform.admin("GET", "/plugins", json!(null)).await.expect(200).json();
        for plugin in plugins["data"].as_array().unwrap() {
            let path = format!("/plugins/{}", plugin["id"].as_str().unwrap());
            let _ = platform.admin("DELETE", &path, json!(null)).await.expect(204);
        }
        let mut client = Client::default();
        let mut names = Vec::new();
        for (name, calls) in commands() {
            if name == "reset" {
                let (reads, deletions): (Vec<_>, Vec<_>) = calls.into_iter().partition(|it| it.method == "GET");
                for call in &reads {
                    client.send(&platform, call).await;
                }
                assert!(deletions.iter().all(|it| it.method == "DELETE") && deletions.len() > 20);
                reset(&platform, &deletions).await;
            } else {
                client.seen.clear();
                for call in &calls {
                    client.send(&platform, call).await;
                }
            }
            if name.starts_with("diff") {
                assert!(calls_nothing_but_reads(&name), "{name} changed something");
                client.check_converged();
            }
            names.push(name);
        }
        let expected = ["validate", "sync", "diff", "change", "diff after change", "dump", "dump by tag", "reset"];
        assert_eq!(names, expected);
        let left = crate::state::of(&platform).await;
        assert!(left.is_empty(), "{left:?}");
        // What went with its parent is gone for whoever deletes it again.
        for path in ["/plugins", "/routes", "/acls", "/key-auths", "/snis"] {
            let path = format!("{path}/0d1eb6e7-4b19-4b4c-9d35-ebb7a2a0a3f7");
            let _ = platform.admin("DELETE", &path, json!(null)).await.expect(204);
        }
    }
}

/// Whether the command of that name only reads, which for a comparison means that it found nothing.
fn calls_nothing_but_reads(name: &str) -> bool {
    let commands = commands();
    let (_, calls) = commands.iter().find(|(it, _)| it == name).unwrap();
    let is_read = |it: &Call| it.method == "GET" || it.path.starts_with("/schemas/");
    calls.iter().all(is_read)
}
