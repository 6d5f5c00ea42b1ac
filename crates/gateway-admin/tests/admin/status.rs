use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use o28m_gateway_admin::{Readiness, Settings, StatusSources, status, status_of};
use o28m_telemetry::metrics::Registry;
use serde_json::json;

use crate::harness::{self, Admin, Reply, send};

#[derive(Default)]
struct Switch(AtomicBool);

impl Readiness for Switch {
    fn not_ready(&self) -> Option<String> {
        let is_ready = self.0.load(Ordering::Relaxed);
        (!is_ready).then(|| "router builds not yet complete".to_owned())
    }
}

#[tokio::test]
async fn admin_case_071_ready_follows_the_process() {
    let (store, _dir) = harness::store(None).await;
    let switch = Arc::new(Switch::default());
    let (address, _stop) = harness::serve(status(
        Arc::clone(&switch) as Arc<dyn Readiness>,
        Some(store),
    ));
    let get = async |path: &str| -> Reply { send(address, "GET", path, &[], b"").await };

    let reply = get("/status/ready").await.expect(503);
    assert_eq!(reply.message(), "router builds not yet complete");
    switch.0.store(true, Ordering::Relaxed);
    let reply = get("/status/ready").await.expect(200);
    assert_eq!(reply.value(), json!({"message": "ready"}));

    let body = get("/status").await.expect(200).value();
    assert_eq!(body["database"], json!({"reachable": true}));
    assert!(body["memory"].is_object());
    assert!(body["server"].is_object());
    let bytes = get("/status?unit=b").await.expect(200).value();
    assert!(
        bytes["memory"]["workers_lua_vms"][0]["http_allocated_gc"]
            .as_u64()
            .unwrap()
            > 0
    );
    let reply = get("/status?unit=V").await.expect(400);
    assert_eq!(
        reply.message(),
        "invalid unit 'V' (expected 'k/K', 'm/M', or 'g/G')"
    );
    let _ = get("/services").await.expect(404);
    let _ = get("/status/dns").await.expect(501);

    let form = [("content-type", "application/x-www-form-urlencoded")];
    let _ = send(address, "POST", "/status/ready", &form, b"status=other")
        .await
        .expect(400);
    let _ = send(address, "POST", "/status/ready", &form, b"status=draining")
        .await
        .expect(204);
    let reply = get("/status/ready").await.expect(503);
    assert_eq!(reply.message(), "draining");
}

#[tokio::test]
async fn as_in_kong_a_lost_database_may_end_readiness() {
    let (store, _dir) = harness::store(None).await;
    let registry = Registry::default();
    registry
        .counter("o28m_test_total", "For this test.", &[])
        .add(3);
    let listener = |ready_needs_database| {
        let switch = Switch::default();
        switch.0.store(true, Ordering::Relaxed);
        let sources = StatusSources {
            store: Some(store.clone()),
            metrics: Some(registry.clone()),
            ready_needs_database,
            ..StatusSources::default()
        };
        harness::serve(status_of(Arc::new(switch), sources))
    };
    let ((strict, _stop), (tolerant, _also)) = (listener(true), listener(false));
    let ready = async |address| send(address, "GET", "/status/ready", &[], b"").await;
    let _ = ready(strict).await.expect(200);
    store.close().await;
    let lost = store.version().await;
    assert!(lost.is_err());
    let reply = ready(strict).await.expect(503);
    assert_eq!(reply.message(), "failed to connect to database");
    let _ = ready(tolerant).await.expect(200);

    let metrics = send(strict, "GET", "/metrics", &[], b"").await.expect(200);
    assert!(
        metrics.body.contains("o28m_test_total 3"),
        "{}",
        metrics.body
    );
    assert!(metrics.header("content-type").starts_with("text/plain"));
    let _ = send(strict, "POST", "/metrics", &[], b"").await.expect(405);
}

#[tokio::test]
async fn without_a_database_the_status_has_a_hash_instead() {
    let settings = Settings {
        db_less: true,
        ..harness::settings()
    };
    let admin = Admin::with(None, settings).await;
    let sources = StatusSources {
        store: Some(admin.store.clone()),
        admin: Some(Arc::clone(&admin.service)),
        ..StatusSources::default()
    };
    let (address, _stop) = harness::serve(status_of(Arc::new(Switch::default()), sources));
    let listener = send(address, "GET", "/status", &[], b"")
        .await
        .expect(200)
        .value();
    for body in [listener, admin.get("/status").await.expect(200).value()] {
        assert_eq!(body["configuration_hash"], "0".repeat(32));
        assert!(body.get("database").is_none(), "{body}");
    }
    let _ = send(address, "GET", "/metrics", &[], b"").await.expect(404);
}
