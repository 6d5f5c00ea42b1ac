use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use o28m_gateway_admin::{Readiness, status};
use serde_json::json;

use crate::harness::{self, Reply, send};

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
