use std::path::Path;

use o28m_gateway_admin::{Settings, htpasswd};
use o28m_net::Body;
use serde_json::{Value, json};

use crate::harness::{self, Admin, on_every_database};

/// The lines that have arrived, once there are so many.
async fn lines(path: &Path, count: usize) -> Vec<Value> {
    let read = async {
        loop {
            let text = std::fs::read_to_string(path).unwrap();
            let lines: Vec<Value> = text
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok())
                .collect();
            if lines.len() >= count {
                return lines;
            }
            tokio::task::yield_now().await;
        }
    };
    let patience = std::time::Duration::from_secs(20);
    tokio::time::timeout(patience, read).await.unwrap()
}

on_every_database! {
    async fn every_change_is_noted_with_what_it_changed(admin: Admin) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        admin.service.audit_to(&path).unwrap();
        let _ = admin.put("/services/s", json!({"host": "a"})).await.expect(200);
        let _ = admin.put("/services/s", json!({"host": "a"})).await.expect(200);
        let _ = admin.patch("/services/s", json!({"host": "b", "tags": ["t"]})).await.expect(200);
        let _ = admin.put("/services/s", json!({"host": "a b"})).await.expect(400);
        let version = admin.get("/config-version").await.value()["version"].clone();
        let _ = admin.delete("/services/s").await.expect(204);
        let _ = admin.delete("/services/s").await.expect(204);
        let transformer = json!({"name": "request-transformer", "config": {"add": {"headers": ["authorization:Bearer s3cret"]}}});
        let _ = admin.post("/plugins", transformer).await.expect(201);

        let lines = lines(&path, 4).await;
        assert_eq!(lines.len(), 4, "{lines:#?}");
        let actions: Vec<_> = lines.iter().map(|it| it["action"].as_str().unwrap()).collect();
        assert_eq!(actions, ["create", "update", "delete", "create"]);
        let update = &lines[1];
        assert_eq!(update["changes"], json!([
            {"field": "host", "before": "a", "after": "b"},
            {"field": "tags", "before": null, "after": ["t"]},
        ]));
        assert_eq!((&update["entity"], &update["name"]), (&json!("services"), &json!("s")));
        assert_eq!((&update["method"], &update["path"]), (&json!("PATCH"), &json!("/services/s")));
        assert_eq!(update["version"], version);
        assert_eq!(update["client_address"], "127.0.0.1");
        assert!(update["timestamp"].as_str().unwrap().starts_with("20"));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("authorization:******") && !text.contains("s3cret"), "{text}");
    }
}

#[tokio::test]
async fn the_log_says_who_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let users = dir.path().join(".htpasswd");
    let line = htpasswd::line(
        "admin",
        "key",
        htpasswd::Scheme::Sha,
        harness::ambient().rng.as_ref(),
    );
    std::fs::write(&users, line.unwrap()).unwrap();
    let settings = Settings {
        htpasswd_file: Some(users),
        ..harness::settings()
    };
    let admin = Admin::with(None, settings).await;
    let path = dir.path().join("audit.log");
    admin.service.audit_to(&path).unwrap();
    let request = |path: &str| {
        http::Request::put(path)
            .header("authorization", "Basic YWRtaW46a2V5")
            .header("content-type", "application/json")
            .header("x-consumer-custom-id", "rover")
            .header("x-real-ip", "192.0.2.7")
            .body(Body::full(r#"{"host":"h"}"#))
            .unwrap()
    };
    // Our own proxy says which consumer it let in.
    let service = admin.service.as_ref();
    let reply = harness::in_process(service, request("/services/proxied")).await;
    assert_eq!(reply.status(), 200);
    // Anyone else could say so too, and is not believed.
    let headers = [
        ("authorization", "Basic YWRtaW46a2V5"),
        ("content-type", "application/json"),
        ("x-consumer-custom-id", "forged"),
        ("x-real-ip", "192.0.2.8"),
    ];
    let body = br#"{"host":"h"}"#;
    let _ = admin
        .raw("PUT", "/services/direct", &headers, body)
        .await
        .expect(200);
    admin
        .service
        .put("/services/own", json!({"host": "h"}))
        .await
        .unwrap();

    let lines = lines(&path, 3).await;
    let who = |at: usize| {
        let line: &Value = &lines[at];
        ["user", "consumer", "client_address", "process"].map(|name| line[name].clone())
    };
    assert_eq!(
        who(0),
        [
            json!("admin"),
            json!("rover"),
            json!("192.0.2.7"),
            Value::Null
        ]
    );
    assert_eq!(
        who(1),
        [json!("admin"), Value::Null, json!("127.0.0.1"), Value::Null]
    );
    assert_eq!(who(2), [Value::Null, Value::Null, Value::Null, json!(true)]);
}

#[tokio::test]
async fn a_loaded_configuration_is_noted_as_one_change() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let settings = Settings {
        db_less: true,
        ..harness::settings()
    };
    let admin = Admin::with(None, settings).await;
    admin.service.audit_to(&path).unwrap();
    let text = json!({"_format_version": "3.0", "services": [{"name": "a", "host": "h"}, {"name": "b", "host": "h"}]});
    let _ = admin.post("/config", text).await.expect(201);
    let lines = lines(&path, 1).await;
    assert_eq!(
        (&lines[0]["action"], &lines[0]["count"]),
        (&json!("import"), &json!(2))
    );
    assert_eq!(lines[0]["changes"][0]["entity"], "services");
    assert!(
        admin
            .service
            .audit_to(Path::new("/nowhere/audit.log"))
            .is_err()
    );
}
