//! The recorded calls of the control plane, replayed.

use std::collections::BTreeMap;

use http::StatusCode;
use o28m_testkit::{Client, Database, Platform, Reply};
use serde_json::{Value, json};

use crate::{platform, state};

const CALLS: &str = include_str!("../data/control-plane-gateway-calls.jsonl");

/// What the control plane remembers between two calls.
#[derive(Default)]
struct Memory {
    /// Ids the server chose, by path.
    ids: BTreeMap<String, String>,
    /// The plugin that the last search found.
    found: Option<String>,
}

/// One pass over the recording; `first` when nothing is there yet.
async fn replay(client: &Client, base: &str, first: bool) -> usize {
    let mut memory = Memory::default();
    let mut calls = 0;
    for line in CALLS.lines() {
        let (method, path, body): (String, String, Value) = serde_json::from_str(line).unwrap();
        if path.starts_with("/plugins/CASE-") {
            continue;
        }
        let (path, body) = memory.adjust(&method, path, body);
        let url = format!("{base}{path}");
        let reply = if body.is_null() {
            client.send(&method, &url, "").await
        } else {
            client.json(&method, &url, body.clone()).await
        };
        check(&method, &path, &body, &reply, first);
        memory.learn(&method, &path, &reply);
        calls += 1;
    }
    calls
}

impl Memory {
    /// Puts our ids in the place of those of the recorded server.
    fn adjust(&mut self, method: &str, path: String, mut body: Value) -> (String, Value) {
        if let Some(service) = body.get_mut("service") {
            let own = self.ids.get("/services/shop-orders-v1").unwrap();
            *service = json!({"id": own});
        }
        // The control plane makes an id only for a plugin that its search did not find.
        let is_plugin = method == "PUT" && path.contains("/plugins/");
        match self.found.take().filter(|_| is_plugin) {
            Some(id) => {
                let (parent, _recorded) = path.rsplit_once('/').unwrap();
                (format!("{parent}/{id}"), body)
            }
            None => (path, body),
        }
    }

    fn learn(&mut self, method: &str, path: &str, reply: &Reply) {
        let id = |value: &Value| value["id"].as_str().map(str::to_owned);
        if path.starts_with("/plugins?tags=") && path.contains("plugin--") {
            self.found = id(&reply.json()["data"][0]);
        } else if method == "PUT" && !reply.body.is_empty() {
            let id = id(&reply.json()).unwrap();
            self.ids.insert(path.to_owned(), id);
        }
    }
}

/// Each call's status and what the control plane reads of the answer (spec gateway-admin 17.3).
fn check(method: &str, path: &str, body: &Value, reply: &Reply, first: bool) {
    let what = format!("{method} {path} {body}: {} {}", reply.status, reply.text());
    let is_search = path.starts_with("/plugins?");
    let is_new_group = method == "POST" && path.ends_with("/acls");
    let allowed: &[u16] = match method {
        "GET" if !is_search && path.starts_with("/plugins/") => &[200, 404],
        "POST" if is_new_group && first => &[201],
        "POST" if is_new_group => &[409],
        _ => &[200],
    };
    let is_allowed = |status: &u16| StatusCode::from_u16(*status).unwrap() == reply.status;
    assert!(allowed.iter().any(is_allowed), "{what}");
    if is_search || path.ends_with("/acls") && method == "GET" {
        let found = reply.json()["data"].as_array().unwrap().len();
        assert!(found < 100, "{what}");
        assert!(!path.contains("plugin--") || found < 2, "{what}");
    }
    if method == "PUT" {
        let answer = reply.json();
        assert!(answer["id"].is_string(), "{what}");
        let last = path.rsplit('/').next().unwrap();
        let is_named = ["id", "name", "username"]
            .iter()
            .any(|it| answer[*it] == last);
        assert!(is_named, "{what}");
        assert_eq!(answer["tags"], body["tags"], "{what}");
    }
    if path.ends_with("/targets") {
        let answer = reply.json();
        assert!(answer["id"].is_string(), "{what}");
        assert_eq!(answer["target"], body["target"], "{what}");
    }
}

async fn replayed(platform: Platform) {
    let client = platform.http.basic(
        platform.credential("GATEWAY_ADMIN_USERNAME"),
        platform.credential("GATEWAY_ADMIN_PASSWORD"),
    );
    let base = platform.credential("GATEWAY_ADMIN_URL").to_owned();
    // The recording calls for plugins of its consumer before it makes it.
    let consumer = json!({"custom_id": "web--ui--cart", "username": "", "tags": ["env--dev", "consumer--web--ui--cart"]});
    let _ = platform
        .admin("PUT", "/consumers/web--ui--cart", consumer)
        .await
        .expect(200);

    let calls = replay(&client, &base, true).await;
    assert!(calls > 140, "{calls}");
    let first = state::of(&platform).await;
    let of_route = first
        .values()
        .filter(|it| it["tags"].to_string().contains("route--shop-orders-v1"));
    // The route, its service, upstream and target, four plugins, and one of the consumer.
    assert_eq!(of_route.count(), 9, "{first:#?}");

    // The second time as the control plane reaches the Admin API: through the proxy, with a token.
    platform.applied().await;
    let token = platform.rover_token().await;
    let base = platform.gateway("/admin-api");
    assert_eq!(
        replay(&platform.http.bearer(&token), &base, false).await,
        calls
    );
    state::assert_same(&first, &state::of(&platform).await);
}

const SETTINGS: &[(&str, &str)] = &[("admin.target_post", "always200")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_control_planes_recording_replays_to_the_same_state_on_sqlite() {
    replayed(platform(Database::Sqlite, SETTINGS).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_control_planes_recording_replays_to_the_same_state_on_postgres() {
    if let Some(platform) = platform(Database::Postgres, SETTINGS).await {
        replayed(platform).await;
    }
}
