//! Acceptance cases that are one exchange each.

use serde_json::{Value, json};

use crate::harness::Admin;

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

async fn refused(path: &str, body: Value) -> String {
    let admin = Admin::start().await;
    let service = json!({"name": "s", "host": "h"});
    let _ = admin.post("/services", service).await.expect(201);
    admin.post(path, body).await.expect(400).message()
}

#[tokio::test]
async fn admin_case_011_an_empty_json_body_cannot_be_parsed() {
    let admin = Admin::start().await;
    let reply = admin.raw("POST", "/services", &JSON, b"").await.expect(400);
    assert_eq!(reply.body, r#"{"message":"Cannot parse JSON body"}"#);
}

#[tokio::test]
async fn admin_case_012_plain_text_is_no_body() {
    let admin = Admin::start().await;
    let text = [("content-type", "text/plain")];
    let reply = admin
        .raw("POST", "/services", &text, b"x")
        .await
        .expect(415);
    assert_eq!(reply.body, "");
}

#[tokio::test]
async fn admin_case_015_scalars_and_arrays_are_the_clients_fault() {
    let admin = Admin::start().await;
    for body in ["5", "null", "[]"] {
        let reply = admin.raw("POST", "/services", &JSON, body.as_bytes()).await;
        assert_eq!(reply.status, 400, "{body}");
    }
}

#[tokio::test]
async fn admin_case_017_a_name_is_taken_once() {
    let admin = Admin::start().await;
    let service = json!({"name": "s", "host": "h"});
    let _ = admin.post("/services", service.clone()).await.expect(201);
    assert_eq!(
        admin.post("/services", service).await.expect(409).value(),
        json!({
            "code": 5, "name": "unique constraint violation",
            "message": "UNIQUE violation detected on '{name=\"s\"}'", "fields": {"name": "s"},
        })
    );
}

#[tokio::test]
async fn admin_case_019_a_new_url_replaces_port_and_path() {
    let admin = Admin::start().await;
    let service = json!({"name": "a", "url": "https://u.example.com:8443/base"});
    let _ = admin.post("/services", service).await.expect(201);
    let url = json!({"url": "http://v.example.com"});
    let changed = admin.patch("/services/a", url).await.expect(200).value();
    assert_eq!(
        (&changed["port"], &changed["path"]),
        (&json!(80), &Value::Null)
    );
}

#[tokio::test]
async fn admin_case_021_every_violation_is_named() {
    let body = json!({"name": "x", "host": "h", "port": 70000, "protocol": "ftp", "retries": -1, "foo": 1});
    assert_eq!(
        refused("/services", body).await,
        "4 schema violations (foo: unknown field; port: value should be between 0 and 65535; \
         protocol: expected one of: grpc, grpcs, http, https, tcp, tls, tls_passthrough, udp; \
         retries: value should be between 0 and 32767)"
    );
}

#[tokio::test]
async fn admin_case_022_host_comes_before_name() {
    let message = refused("/services", json!({"name": "a b", "host": "x y"})).await;
    assert!(
        message.starts_with("2 schema violations (host: "),
        "{message}"
    );
    assert!(message.contains("; name: "), "{message}");
}

#[tokio::test]
async fn admin_case_023_tcp_has_no_path() {
    let body = json!({"host": "h", "protocol": "tcp", "path": "/x"});
    assert_eq!(
        refused("/services", body).await,
        "2 schema violations (failed conditional validation given value of field 'protocol'; \
         path: value must be null)"
    );
}

#[tokio::test]
async fn admin_case_028_deleting_nothing_is_done() {
    let admin = Admin::start().await;
    let _ = admin.delete("/services/none").await.expect(204);
}

#[tokio::test]
async fn admin_case_030_a_used_service_stays() {
    let admin = Admin::start().await;
    let service = json!({"name": "s", "host": "h"});
    let _ = admin.post("/services", service).await.expect(201);
    let route = json!({"name": "r", "paths": ["/a"], "service": {"name": "s"}});
    let _ = admin.post("/routes", route).await.expect(201);
    let reply = admin.delete("/services/s").await.expect(400);
    assert_eq!(reply.value()["code"], 4);
    assert_eq!(reply.value()["fields"], json!({"@referenced_by": "routes"}));
}

#[tokio::test]
async fn admin_case_032_each_path_has_its_message() {
    let admin = Admin::start().await;
    let body = json!({"paths": ["/a", "/b//c", "/%zz"]});
    let reply = admin.post("/routes", body).await.expect(400);
    let wanted = json!([
        null,
        "must not have empty segments",
        "invalid url-encoded value: '%zz'"
    ]);
    assert_eq!(reply.value()["fields"]["paths"], wanted);
}

#[tokio::test]
async fn admin_case_033_paths_begin_with_a_slash() {
    assert_eq!(
        refused("/routes", json!({"paths": ["foo"]})).await,
        "schema violation (paths.1: should start with: / (fixed path) or ~/ (regex path))"
    );
}

#[tokio::test]
async fn admin_case_034_protocols_of_two_families_exclude_each_other() {
    let body = json!({"paths": ["/a"], "protocols": ["http", "tcp"]});
    assert_eq!(
        refused("/routes", body).await,
        "schema violation (protocols: these sets are mutually exclusive: ('http', 'https'), \
         ('tcp', 'tls', 'udp'))"
    );
}

#[tokio::test]
async fn admin_case_035_a_service_is_an_object() {
    let body = json!({"paths": ["/a"], "service": "s"});
    let wanted = "schema violation (service.id: missing primary key)";
    assert_eq!(refused("/routes", body).await, wanted);
}

#[tokio::test]
async fn admin_case_037_a_named_service_must_exist() {
    let admin = Admin::start().await;
    let body = json!({"paths": ["/a"], "service": {"name": "zz"}});
    let reply = admin.post("/routes", body).await.expect(400);
    assert_eq!(reply.value()["code"], 13);
}

#[tokio::test]
async fn admin_case_038_the_host_header_has_a_field_of_its_own() {
    let body = json!({"paths": ["/a"], "headers": {"Host": ["x"]}});
    assert_eq!(
        refused("/routes", body).await,
        "schema violation (headers: cannot contain 'host' header, which must be specified in the \
         'hosts' attribute)"
    );
}

#[tokio::test]
async fn admin_case_040_maybe_is_no_boolean() {
    let admin = Admin::start().await;
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let body = b"paths[]=/f&strip_path=maybe";
    let reply = admin.raw("POST", "/routes", &form, body).await.expect(400);
    assert_eq!(
        reply.message(),
        "schema violation (strip_path: expected a boolean)"
    );
}

#[tokio::test]
async fn admin_case_050_jwt_keycloak_needs_its_issuers() {
    let body = json!({"name": "jwt-keycloak", "config": {}});
    let wanted = "schema violation (config.allowed_iss: required field missing)";
    assert_eq!(refused("/plugins", body).await, wanted);
}

#[tokio::test]
async fn admin_case_058_offsets_are_read_or_refused() {
    let admin = Admin::start().await;
    for offset in ["***", "Zm9v"] {
        let path = format!("/services?offset={offset}");
        let reply = admin.get(&path).await.expect(400);
        assert_eq!(reply.value()["code"], 7, "{offset}");
    }
}

#[tokio::test]
async fn admin_case_067_validation_stores_nothing() {
    let admin = Admin::start().await;
    let path = "/schemas/services/validate";
    let reply = admin.post(path, json!({"host": "h"})).await.expect(200);
    assert_eq!(reply.message(), "schema validation successful");
    let reply = admin.post(path, json!({})).await.expect(400);
    assert_eq!(reply.value()["code"], 2);
    let stored = admin.get("/services").await.expect(200).value();
    assert_eq!(stored["data"], json!([]));
}

#[tokio::test]
async fn admin_case_054_plugins_go_with_their_route() {
    let admin = Admin::start().await;
    let route = json!({"name": "r", "paths": ["/a"]});
    let _ = admin.post("/routes", route).await.expect(201);
    let plugin = json!({"name": "acl", "config": {"allow": ["g"]}});
    let made = admin
        .post("/routes/r/plugins", plugin)
        .await
        .expect(201)
        .value();
    let path = format!("/plugins/{}", made["id"].as_str().unwrap());
    let _ = admin.get(&path).await.expect(200);
    let _ = admin.delete("/routes/r").await.expect(204);
    let _ = admin.get(&path).await.expect(404);
}
