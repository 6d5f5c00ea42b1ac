use serde_json::{Value, json};

use crate::harness::Admin;

#[tokio::test]
async fn admin_case_005_the_node_describes_itself() {
    let admin = Admin::start().await;
    let reply = admin.get("/").await.expect(200);
    let body = reply.value();
    assert_eq!(body["version"], "3.9.3");
    assert_eq!(body["tagline"], "Welcome to kong");
    assert_eq!(body["plugins"]["enabled_in_cluster"], json!([]));
    assert_eq!(
        body["plugins"]["available_on_server"]["acl"]["priority"],
        950
    );
    assert_eq!(body["configuration"]["pg_password"], "******");
    assert_eq!(reply.header("server"), "kong/3.9.3");
    assert!(reply.header("x-kong-admin-latency").parse::<u64>().is_ok());
    assert_eq!(
        reply.header("content-type"),
        "application/json; charset=utf-8"
    );
    assert_eq!(reply.header("content-length"), reply.body.len().to_string());

    let acl = json!({"name": "acl", "config": {"allow": ["g"]}});
    let _ = admin.post("/plugins", acl).await.expect(201);
    let body = admin.get("/").await.expect(200).value();
    assert_eq!(body["plugins"]["enabled_in_cluster"], json!(["acl"]));
}

#[tokio::test]
async fn admin_case_006_unknown_paths_are_not_found_whatever_the_method() {
    let admin = Admin::start().await;
    for method in ["GET", "OPTIONS", "POST"] {
        let reply = admin.raw(method, "/nope", &[], b"").await.expect(404);
        assert_eq!(reply.body, r#"{"message":"Not found"}"#);
    }
    let head = admin.raw("HEAD", "/nope", &[], b"").await.expect(404);
    assert_eq!(head.body, "");
    assert_eq!(head.header("content-length"), "23");
    for path in [
        "/targets",
        "/consumer_groups",
        "/workspaces",
        "/services/%00",
        "/services/%ff",
    ] {
        let _ = admin.get(path).await.expect(404);
    }
}

#[tokio::test]
async fn admin_case_007_unsupported_methods_are_not_allowed() {
    let admin = Admin::start().await;
    for (method, path) in [("DELETE", "/services"), ("FOO", "/services"), ("POST", "/")] {
        let reply = admin.raw(method, path, &[], b"").await.expect(405);
        assert_eq!(reply.body, r#"{"message":"Method not allowed"}"#);
    }
}

#[tokio::test]
async fn admin_case_008_options_tell_what_is_allowed() {
    let admin = Admin::start().await;
    for (path, allow) in [
        ("/", "GET, HEAD, OPTIONS"),
        ("/routes", "GET, HEAD, OPTIONS, POST"),
        ("/routes/x", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"),
    ] {
        let reply = admin.raw("OPTIONS", path, &[], b"").await.expect(204);
        assert_eq!(reply.header("allow"), allow);
        assert_eq!(reply.header("access-control-allow-methods"), allow);
        assert_eq!(reply.header("access-control-allow-headers"), "Content-Type");
        assert_eq!(reply.header("access-control-allow-origin"), "*");
        assert_eq!(reply.header("access-control-allow-credentials"), "true");
        assert_eq!(reply.header("content-length"), "");
        assert_eq!(reply.body, "");
    }
    let headers = [
        ("origin", "https://a.example"),
        ("access-control-request-headers", "X-A"),
    ];
    let reply = admin
        .raw("OPTIONS", "/routes", &headers, b"")
        .await
        .expect(204);
    assert_eq!(reply.header("access-control-allow-headers"), "X-A");
    assert_eq!(
        reply.header("access-control-allow-origin"),
        "https://a.example"
    );
}

#[tokio::test]
async fn admin_case_009_a_trailing_slash_changes_nothing() {
    let admin = Admin::start().await;
    let plain = admin.get("/services").await.expect(200);
    let slashed = admin.get("/services/").await.expect(200);
    assert_eq!(plain.body, slashed.body);
    assert_eq!(plain.value(), json!({"data": [], "next": null}));
}

#[tokio::test]
async fn admin_case_010_to_015_bodies_are_json_objects_or_forms() {
    let admin = Admin::start().await;
    let json_type = [("content-type", "application/json")];
    let bad = r#"{"message":"Cannot parse JSON body"}"#;
    for body in [r#"{"name":"#, "", "5", "null", "[]", "\"x\""] {
        let reply = admin
            .raw("POST", "/services", &json_type, body.as_bytes())
            .await;
        assert_eq!(reply.expect(400).body, bad, "{body}");
    }
    let text = [("content-type", "text/plain")];
    let reply = admin
        .raw("POST", "/services", &text, b"x")
        .await
        .expect(415);
    assert_eq!(reply.body, "");
    let reply = admin.raw("POST", "/services", &[], b"x").await.expect(415);
    assert_eq!(reply.body, "");
    let reply = admin.raw("POST", "/consumers", &[], b"").await.expect(400);
    assert_eq!(reply.value()["code"], 2);
    assert_eq!(
        reply.message(),
        "schema violation (at least one of these fields must be non-empty: 'custom_id', 'username')"
    );
    let two = [
        ("content-type", "application/json"),
        ("content-type", "application/json"),
    ];
    let reply = admin
        .raw("POST", "/services", &two, b"{}")
        .await
        .expect(400);
    assert_eq!(reply.message(), "Multiple Content-Type headers not allowed");
}

#[tokio::test]
async fn admin_case_014_large_bodies_are_refused() {
    let admin = Admin::start().await;
    let headers = [
        ("content-type", "application/json"),
        ("content-length", "11534336"),
    ];
    let _ = admin
        .raw("POST", "/services", &headers, b"{")
        .await
        .expect(413);
    // Without a length, only counting helps.
    let headers = [
        ("content-type", "application/json"),
        ("transfer-encoding", "chunked"),
        ("content-length", ""),
    ];
    let chunk = "x".repeat(11 * 1024 * 1024);
    let body = format!("{:x}\r\n{chunk}\r\n0\r\n\r\n", chunk.len());
    let reply = admin
        .raw("POST", "/services", &headers[..2], body.as_bytes())
        .await;
    assert!(matches!(reply.status, 400 | 413), "{reply:?}");
}

#[tokio::test]
async fn a_head_is_a_get_without_body() {
    let admin = Admin::start().await;
    let get = admin.get("/services").await.expect(200);
    let head = admin.raw("HEAD", "/services", &[], b"").await.expect(200);
    assert_eq!(head.body, "");
    assert_eq!(head.header("content-length"), get.body.len().to_string());
}

#[tokio::test]
async fn admin_case_066_and_067_schemas_come_from_the_declarations() {
    let admin = Admin::start().await;
    let reply = admin.get("/schemas/plugins/nope").await.expect(404);
    assert_eq!(reply.body, r#"{"message":"No plugin named 'nope'"}"#);
    let reply = admin.get("/schemas/nope").await.expect(404);
    assert_eq!(reply.body, r#"{"message":"No entity named 'nope'"}"#);
    let schema = admin.get("/schemas/services").await.expect(200).value();
    let fields = schema["fields"].as_array().unwrap();
    let port = fields.iter().find_map(|field| field.get("port")).unwrap();
    assert_eq!(
        port,
        &json!({"type": "integer", "required": true, "default": 80, "between": [0, 65535]})
    );
    let acl = admin.get("/schemas/plugins/acl").await.expect(200).value();
    assert_eq!(
        acl,
        admin.get("/plugins/schema/acl").await.expect(200).value()
    );

    let path = "/schemas/services/validate";
    let reply = admin.post(path, json!({"host": "h"})).await.expect(200);
    assert_eq!(reply.body, r#"{"message":"schema validation successful"}"#);
    let reply = admin.post(path, json!({})).await.expect(400);
    assert_eq!(reply.value()["code"], 2);
    let path = "/schemas/plugins/validate";
    let body = json!({"name": "acl", "config": {"allow": ["a"]}});
    let _ = admin.post(path, body).await.expect(200);
    let _ = admin.post(path, json!({"name": "acl"})).await.expect(400);
}

#[tokio::test]
async fn admin_case_068_what_needs_another_mode_says_so() {
    let admin = Admin::start().await;
    let reply = admin.post("/config", json!({})).await.expect(400);
    assert_eq!(
        reply.message(),
        "this endpoint is only available when Kong is configured to not use a database"
    );
    for (method, path) in [
        ("PUT", "/filter-chains/x"),
        ("DELETE", "/filter-chains/x"),
        ("GET", "/services/s/filter-chains"),
    ] {
        let _ = admin.json(method, path, json!({})).await.expect(400);
    }
    let reply = admin.get("/filter-chains").await.expect(400);
    assert_eq!(
        reply.message(),
        "this endpoint is only available when wasm is enabled"
    );
}

#[tokio::test]
async fn paths_and_plugins_can_be_listed() {
    let admin = Admin::start().await;
    let paths = admin.get("/endpoints").await.expect(200).value();
    let paths = paths["data"].as_array().unwrap().clone();
    assert_eq!(
        paths[..3],
        [json!("/"), json!("/acls"), json!("/acls/{acls}")]
    );
    assert!(paths.contains(&json!("/services/{services}/plugins/{plugins}")));
    let enabled = admin.get("/plugins/enabled").await.expect(200).value();
    let mut known: Vec<_> = o28m_kong::plugins().iter().map(|it| it.name).collect();
    known.sort_unstable();
    assert_eq!(enabled["enabled_plugins"], json!(known));
    let version = admin.get("/config-version").await.expect(200).value();
    assert_eq!(version["applied"], Value::Null);
    assert!(version["version"].is_i64());
}

#[tokio::test]
async fn admin_case_078_without_a_database_nothing_is_the_clients_fault() {
    let admin = Admin::start().await;
    admin.store.close().await;
    for (method, path, body) in [
        ("PUT", "/services/s", json!({"host": "h"})),
        ("POST", "/services", json!({"host": "h"})),
        ("PATCH", "/services/s", json!({"retries": 1})),
        ("DELETE", "/services/s", json!({})),
        ("GET", "/services", json!({})),
    ] {
        let reply = admin.json(method, path, body).await.expect(503);
        assert_eq!(reply.header("retry-after"), "1");
        assert_eq!(reply.body, r#"{"message":"The database is unavailable"}"#);
    }
    // The node itself still answers.
    let status = admin.get("/status").await.expect(200).value();
    assert_eq!(status["database"]["reachable"], false);
}
