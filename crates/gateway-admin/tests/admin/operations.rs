use std::sync::Arc;

use o28m_core::{Ambient, Clock, Timestamp};
use o28m_gateway_admin::{AdminService, Headers, Settings};
use o28m_net::HttpService;
use o28m_store::{Object, Write};
use o28m_telemetry::metrics::Registry;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::harness::{self, Admin, on_every_database};

#[tokio::test]
async fn the_log_level_changes_for_a_while() {
    o28m_telemetry::init("error", o28m_telemetry::Format::Json).unwrap();
    let admin = Admin::start().await;
    let word = async || {
        admin
            .get("/debug/node/log-level")
            .await
            .expect(200)
            .message()
    };
    let put = async |path: &str| admin.put(path, json!({})).await;
    assert_eq!(word().await, "log level: error");
    let reply = put("/debug/node/log-level/error").await.expect(200);
    assert_eq!(reply.message(), "log level is already error");
    let reply = put("/debug/node/log-level/notice?timeout=0")
        .await
        .expect(200);
    assert_eq!(reply.message(), "log level changed");
    assert_eq!(word().await, "log level: notice");
    assert_eq!(o28m_telemetry::level().unwrap().to_string(), "info");
    // The level before comes back by itself, not the one in between.
    let reply = admin
        .form("PUT", "/debug/node/log-level/debug", "timeout=0.05")
        .await;
    assert_eq!(reply.expect(200).message(), "log level changed");
    let back = async { while word().await != "log level: error" {} };
    tokio::time::timeout(std::time::Duration::from_secs(20), back)
        .await
        .unwrap();
    assert_eq!(o28m_telemetry::level().unwrap().to_string(), "error");

    let reply = put("/debug/node/log-level/loud").await.expect(400);
    assert_eq!(reply.message(), "unknown log level: loud");
    let reply = put("/debug/node/log-level/info?timeout=-1")
        .await
        .expect(400);
    assert_eq!(
        reply.message(),
        "timeout must be greater than or equal to 0"
    );
    let _ = admin
        .post("/debug/node/log-level", json!({}))
        .await
        .expect(405);
    let _ = admin.get("/debug/node/log-level/info").await.expect(405);

    let settings = Settings {
        db_less: true,
        ..harness::settings()
    };
    let admin = Admin::with(None, settings).await;
    for path in [
        "/debug/node/log-level/info",
        "/debug/cluster/log-level/info",
    ] {
        let reply = admin.put(path, json!({})).await.expect(405);
        assert_eq!(
            reply.message(),
            "cannot change log level when not using a database"
        );
    }
    let _ = admin.get("/debug/node/log-level").await.expect(200);
}

/// A clock that stands still: the others of these tests pass minutes within a moment.
struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(1_700_000_000)
    }
}

on_every_database! {
    async fn nodes_tell_what_they_have_applied_and_leave(admin: Admin) {
        let ambient = Ambient {
            clock: Arc::new(Stopped),
            ..harness::ambient()
        };
        let applied = watch::Sender::new(7);
        let node = |applied| {
            AdminService::new(admin.store.clone(), harness::settings(), applied, ambient.clone())
        };
        let (first, second) = (node(None), node(Some(applied.subscribe())));
        let (address, _stop) = harness::serve(Arc::clone(&first) as Arc<dyn HttpService>);
        let stop = CancellationToken::new();
        let following = [first, second].map(|node| tokio::spawn(node.follow(stop.clone())));
        let seen = async || -> Vec<Value> {
            let reply = harness::send(address, "GET", "/config-version", &[], b"").await;
            let body = reply.expect(200).value();
            let replicas = body["replicas"].as_array().unwrap();
            replicas.iter().map(|node| node["applied"].clone()).collect()
        };
        let wait = async |wanted: &[Value]| {
            let there = async {
                loop {
                    let seen = seen().await;
                    if seen.len() == wanted.len() && wanted.iter().all(|it| seen.contains(it)) {
                        return;
                    }
                }
            };
            let patience = std::time::Duration::from_secs(20);
            tokio::time::timeout(patience, there).await.unwrap();
        };
        wait(&[Value::Null, json!(7)]).await;
        applied.send_replace(8);
        wait(&[Value::Null, json!(8)]).await;
        stop.cancel();
        for node in following {
            node.await.unwrap();
        }
        wait(&[]).await;
    }
}

#[tokio::test]
async fn caches_and_timers_can_be_looked_at() {
    let admin = Admin::start().await;
    let service = admin
        .put("/services/s", json!({"host": "h"}))
        .await
        .expect(200)
        .value();
    let id = service["id"].as_str().unwrap();
    let cached = admin
        .get(&format!("/cache/services:{id}:::::"))
        .await
        .expect(200);
    assert_eq!(cached.value(), service);
    for key in [
        "nope",
        "services:nope",
        "realm:0d1eb6e7-4b19-4b4c-9d35-ebb7a2a0a3f7",
    ] {
        let reply = admin.get(&format!("/cache/{key}")).await.expect(404);
        assert_eq!(reply.body, r#"{"message":"Not found"}"#);
    }
    let _ = admin.delete("/cache").await.expect(204);
    let _ = admin.delete("/cache/x").await.expect(204);
    let _ = admin.get("/cache").await.expect(405);
    let timers = admin.get("/timers").await.expect(200).value();
    assert!(timers["worker"]["count"].as_u64().unwrap() > 0, "{timers}");
    assert_eq!(timers["worker"]["id"], 0);
    let root = admin.get("/").await.value();
    assert!(root["timers"]["running"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn metrics_are_shown_with_plugin_prometheus_only() {
    let registry = Registry::default();
    for (plugin, status) in [("prometheus", 200), ("acl", 404)] {
        let settings = Settings {
            enabled_plugins: vec![plugin.to_owned()],
            ..harness::settings()
        };
        let has_it = o28m_kong::plugin(plugin).is_some();
        let admin = Admin::with(None, settings).await;
        admin.service.count_in(&registry);
        let _ = admin.get("/services/none").await.expect(404);
        let reply = admin.get("/metrics").await;
        if has_it {
            let text = reply.expect(status).body;
            let line = "endpoint=\"/services/{services}\",method=\"GET\"";
            assert!(status != 200 || text.contains(line), "{text}");
        }
    }
}

#[tokio::test]
async fn a_failure_of_ours_has_an_id() {
    let admin = Admin::start().await;
    let id = "0d1eb6e7-4b19-4b4c-9d35-ebb7a2a0a3f7";
    let broken = Object {
        kind: "services",
        id: id.to_owned(),
        owner: String::new(),
        keys: Vec::new(),
        references: Vec::new(),
        tags: Vec::new(),
        body: json!("no document"),
    };
    admin
        .store
        .write(vec![Write::Insert(broken)])
        .await
        .unwrap();
    let reply = admin
        .patch(&format!("/services/{id}"), json!({"retries": 1}))
        .await;
    let body = reply.expect(500).value();
    assert_eq!(body["message"], "An unexpected error occurred");
    assert_eq!(body["request_id"].as_str().unwrap().len(), 32);
}

#[tokio::test]
async fn headers_of_our_own_can_be_left_out() {
    let settings = Settings {
        headers: Headers::named(["latency_tokens"]),
        ..harness::settings()
    };
    let admin = Admin::with(None, settings).await;
    let reply = admin.get("/services").await.expect(200);
    assert_eq!(reply.header("server"), "");
    assert!(reply.header("x-kong-admin-latency").parse::<u64>().is_ok());
}

#[tokio::test]
async fn pages_of_the_configured_origins_may_use_it() {
    let settings = Settings {
        gui_urls: vec![
            "https://admin.example.com/manager".to_owned(),
            "http://localhost:8002".to_owned(),
        ],
        ..harness::settings()
    };
    let admin = Admin::with(None, settings).await;
    for (origin, allowed) in [
        ("http://localhost:8002", "http://localhost:8002"),
        ("https://admin.example.com", "https://admin.example.com"),
        ("https://evil.example.com", "https://admin.example.com"),
    ] {
        let reply = admin
            .raw("GET", "/services", &[("origin", origin)], b"")
            .await;
        assert_eq!(reply.header("access-control-allow-origin"), allowed);
        assert_eq!(reply.header("access-control-allow-methods"), "");
    }
    let reply = admin.get("/services").await;
    let allowed = reply.header("access-control-allow-origin");
    assert_eq!(allowed, "https://admin.example.com");
}

on_every_database! {
    async fn a_plus_in_a_path_is_a_space_or_itself(admin: Admin) {
        for name in ["a+b", "c d"] {
            let _ = admin.post("/consumers", json!({"username": name})).await.expect(201);
        }
        let name = async |path: &str| admin.get(path).await.expect(200).value()["username"].clone();
        assert_eq!(name("/consumers/a%2Bb").await, "a+b");
        assert_eq!(name("/consumers/a+b").await, "a+b");
        assert_eq!(name("/consumers/c+d").await, "c d");
        assert_eq!(name("/consumers/c%20d").await, "c d");
        let _ = admin.get("/consumers/e+f").await.expect(404);
        let _ = admin.post("/consumers/a+b/acls", json!({"group": "g"})).await.expect(201);
        // With both there, the space wins as in Kong.
        let _ = admin.post("/consumers", json!({"username": "a b"})).await.expect(201);
        assert_eq!(name("/consumers/a+b").await, "a b");
        let made = admin.put("/consumers/g+h", json!({"custom_id": "x"})).await.expect(200).value();
        assert_eq!(made["username"], "g h");
    }
}

#[tokio::test]
async fn bodies_are_limited_as_configured() {
    let settings = Settings {
        body_bytes_max: Some(64),
        ..harness::settings()
    };
    let admin = Admin::with(None, settings).await;
    let long = json!({"host": "h", "tags": ["t".repeat(64)]});
    let reply = admin.post("/services", long).await.expect(413);
    assert_eq!(
        reply.value(),
        json!({"message": "Request body is too large"})
    );
    let _ = admin
        .post("/services", json!({"host": "h"}))
        .await
        .expect(201);
}

#[tokio::test]
async fn forms_and_queries_have_at_most_a_thousand_arguments() {
    let admin = Admin::start().await;
    let many = "a=b&".repeat(1001);
    let reply = admin.form("POST", "/services", &many).await.expect(400);
    assert_eq!(reply.value(), json!({"message": "Too many arguments"}));
    let reply = admin.get(&format!("/services?{many}")).await.expect(400);
    assert_eq!(reply.value(), json!({"message": "Too many arguments"}));
    let fine = format!("host=h&{}", "tags[]=b&".repeat(999));
    let made = admin.form("POST", "/services", &fine).await.expect(201);
    assert_eq!(made.value()["tags"], json!(["b"]));
}

#[tokio::test]
async fn memory_is_shown_in_any_unit() {
    let admin = Admin::start().await;
    let memory = async |query: &str| -> Value {
        let body = admin
            .get(&format!("/status{query}"))
            .await
            .expect(200)
            .value();
        body["memory"]["workers_lua_vms"][0]["http_allocated_gc"].clone()
    };
    for (query, unit) in [
        ("", " MiB"),
        ("?unit=k", " KiB"),
        ("?unit=G&scale=4", " GiB"),
    ] {
        let text = memory(query).await;
        assert!(text.as_str().unwrap().ends_with(unit), "{text}");
    }
    assert_eq!(
        memory("?unit=g&scale=4")
            .await
            .as_str()
            .unwrap()
            .split_once('.')
            .unwrap()
            .1
            .len(),
        8
    );
    assert!(memory("?unit=b").await.is_u64());
    let reply = admin.get("/status?unit=V").await.expect(400);
    assert_eq!(
        reply.message(),
        "invalid unit 'V' (expected 'k/K', 'm/M', or 'g/G')"
    );
}

#[tokio::test]
async fn another_version_of_kong_can_be_claimed() {
    let settings = Settings {
        kong_version: Some("3.4.2".to_owned()),
        ..harness::settings()
    };
    let admin = Admin::with(None, settings).await;
    let reply = admin.get("/").await.expect(200);
    assert_eq!(reply.value()["version"], "3.4.2");
    assert_eq!(reply.header("server"), "kong/3.4.2");
}

#[tokio::test]
async fn targets_are_paged_by_position() {
    let admin = Admin::start().await;
    let _ = admin.put("/upstreams/u", json!({})).await.expect(200);
    for at in 0..5 {
        let target = json!({"target": format!("10.0.0.{at}:80")});
        let _ = admin.post("/upstreams/u/targets", target).await.expect(201);
    }
    for collection in ["targets", "targets/all", "health"] {
        let mut path = format!("/upstreams/u/{collection}?size=2");
        let mut names = Vec::new();
        for offset in ["2", "4", ""] {
            let page = admin.get(&path).await.expect(200).value();
            let targets = page["data"].as_array().unwrap().clone();
            names.extend(
                targets
                    .iter()
                    .map(|it| it["target"].as_str().unwrap().to_owned()),
            );
            match page["offset"].as_str() {
                Some(sent) => assert_eq!(sent, offset),
                None => assert_eq!((offset, &page["next"]), ("", &Value::Null)),
            }
            // Pages below a parent do not repeat the size.
            path = format!("{}&size=2", page["next"].as_str().unwrap_or_default());
        }
        let newest_first: Vec<_> = (0..5).rev().map(|at| format!("10.0.0.{at}:80")).collect();
        assert_eq!(names, newest_first, "{collection}");
    }
    let reply = admin.get("/upstreams/u/targets?offset=x").await.expect(400);
    assert_eq!(reply.message(), "'x' is not a valid offset: not a number");
}

#[tokio::test]
async fn every_kind_of_document_can_be_checked() {
    let admin = Admin::start().await;
    for (kind, body) in [
        (
            "plugins",
            json!({"name": "acl", "config": {"allow": ["a"]}}),
        ),
        ("vaults", json!({"name": "env", "prefix": "my-env"})),
        ("services", json!({"host": "h"})),
    ] {
        let path = format!("/schemas/{kind}/validate");
        let _ = admin.post(&path, body).await.expect(200);
    }
    let reply = admin
        .post("/schemas/nope/validate", json!({}))
        .await
        .expect(404);
    assert_eq!(reply.message(), "No entity named 'nope'");
}
