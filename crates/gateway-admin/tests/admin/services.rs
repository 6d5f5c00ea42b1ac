use serde_json::{Value, json};

use crate::harness::{Admin, on_every_database};

const ID: &str = "3fd1eea1-885a-4011-b986-289943ff8177";
const OTHER: &str = "5fd1eea1-885a-4011-b986-289943ff8177";

on_every_database! {
    async fn admin_case_016_and_017_names_are_unique(admin: Admin) {
        let body = json!({"name": "s", "host": "up.example.com"});
        let service = admin.post("/services", body.clone()).await.expect(201).value();
        assert_eq!(service.as_object().unwrap().len(), 18);
        assert!(service["created_at"].is_i64());
        let reply = admin.post("/services", body).await.expect(409);
        assert_eq!(
            reply.value(),
            json!({
                "code": 5, "name": "unique constraint violation",
                "message": "UNIQUE violation detected on '{name=\"s\"}'", "fields": {"name": "s"},
            })
        );
        let read = admin.get("/services/s").await.expect(200).value();
        assert_eq!(read, service);
        let id = service["id"].as_str().unwrap();
        assert_eq!(admin.get(&format!("/services/{id}")).await.expect(200).value(), service);
        let upper = id.to_ascii_uppercase();
        assert_eq!(admin.get(&format!("/services/{upper}")).await.expect(200).value(), service);

        let again = json!({"id": id, "host": "h"});
        let reply = admin.post("/services", again).await.expect(400);
        assert_eq!(reply.value()["code"], 3);
        assert_eq!(reply.message(), format!("primary key violation on key '{{id=\"{id}\"}}'"));
    }
}

#[tokio::test]
async fn admin_case_018_and_019_url_stands_for_its_parts() {
    let admin = Admin::start().await;
    let body = json!({"name": "a", "url": "https://u.example.com:8443/base"});
    let service = admin.post("/services", body).await.expect(201).value();
    assert_eq!(service["port"], 8443);
    let body = json!({"url": "http://v.example.com"});
    let service = admin.patch("/services/a", body).await.expect(200).value();
    assert_eq!(
        (&service["port"], &service["path"]),
        (&json!(80), &Value::Null)
    );
}

#[tokio::test]
async fn admin_case_020_to_023_violations_over_the_wire() {
    let admin = Admin::start().await;
    let reply = admin
        .post("/services", json!({"name": "x"}))
        .await
        .expect(400);
    assert_eq!(
        reply.value(),
        json!({
            "code": 2, "name": "schema violation",
            "message": "schema violation (host: required field missing)",
            "fields": {"host": "required field missing"},
        })
    );
    let body = json!({"host": "h", "protocol": "tcp", "path": "/x"});
    let reply = admin.post("/services", body).await.expect(400);
    assert_eq!(
        reply.value()["fields"],
        json!({
            "@entity": ["failed conditional validation given value of field 'protocol'"],
            "path": "value must be null",
        })
    );
}

on_every_database! {
    async fn admin_case_024_the_same_put_twice_changes_nothing(admin: Admin) {
        let first = admin.put("/services/new", json!({"host": "h"})).await.expect(200).value();
        assert_eq!(first["name"], "new");
        let version = admin.store.version().await.unwrap();
        let second = admin.put("/services/new", json!({"host": "h"})).await.expect(200).value();
        assert_eq!(first, second);
        assert_eq!(admin.store.version().await.unwrap(), version);

        let third = admin.put("/services/new", json!({"host": "i"})).await.expect(200).value();
        assert_eq!(third["id"], first["id"]);
        assert_eq!(third["created_at"], first["created_at"]);
        assert_ne!(third["updated_at"], first["updated_at"]);
        assert!(admin.store.version().await.unwrap() > version);
    }
}

#[tokio::test]
async fn admin_case_025_the_id_of_the_path_wins() {
    let admin = Admin::start().await;
    let body = json!({"id": OTHER, "host": "h"});
    let service = admin
        .put(&format!("/services/{ID}"), body)
        .await
        .expect(200)
        .value();
    assert_eq!(service["id"], ID);
}

on_every_database! {
    async fn a_put_by_name_cannot_take_the_id_of_another(admin: Admin) {
        let taken = admin.put("/services/a", json!({"host": "h"})).await.expect(200).value();
        let body = json!({"id": taken["id"], "host": "h"});
        let reply = admin.put("/services/b", body.clone()).await.expect(400);
        assert_eq!(reply.value()["code"], 3);
        // On its own name the id in the body is ignored.
        let made = admin.put("/services/b", json!({"host": "h"})).await.expect(200).value();
        let kept = admin.put("/services/b", body).await.expect(200).value();
        assert_eq!(kept["id"], made["id"]);
    }
}

#[tokio::test]
async fn large_documents_are_validated_like_small_ones() {
    let admin = Admin::start().await;
    let paths: Vec<_> = (0..800)
        .map(|at| format!("~/p{at}/(?<id>[a-z]+)$"))
        .collect();
    let route = admin
        .post("/routes", json!({"paths": paths}))
        .await
        .expect(201)
        .value();
    assert_eq!(route["paths"].as_array().unwrap().len(), 800);
    let mut paths = paths;
    paths.push("/a//b".to_owned());
    let reply = admin
        .post("/routes", json!({"paths": paths}))
        .await
        .expect(400);
    assert_eq!(
        reply.message(),
        "schema violation (paths.801: must not have empty segments)"
    );
}

#[tokio::test]
async fn admin_case_026_a_put_replaces_everything() {
    let admin = Admin::start().await;
    let body = json!({"name": "s", "host": "h"});
    let _ = admin.post("/services", body).await.expect(201);
    let patched = admin
        .patch("/services/s", json!({"retries": 9}))
        .await
        .expect(200)
        .value();
    assert_eq!(patched["retries"], 9);
    let replaced = admin
        .put("/services/s", json!({"host": "h2"}))
        .await
        .expect(200)
        .value();
    assert_eq!(replaced["retries"], 5);
    assert_eq!(replaced["id"], patched["id"]);
    let other = admin
        .put("/services/t", json!({"host": "h"}))
        .await
        .expect(200)
        .value();
    let path = format!("/services/{}", other["id"].as_str().unwrap());
    let reply = admin
        .put(&path, json!({"name": "s", "host": "h"}))
        .await
        .expect(409);
    assert_eq!(reply.value()["fields"], json!({"name": "s"}));
}

#[tokio::test]
async fn admin_case_027_and_028_missing_entities() {
    let admin = Admin::start().await;
    let reply = admin
        .patch("/services/none", json!({"retries": 1}))
        .await
        .expect(404);
    assert_eq!(reply.value()["code"], 6);
    assert_eq!(
        reply.message(),
        "could not find the entity with '{name=\"none\"}'"
    );
    let path = format!("/services/{ID}");
    let reply = admin.patch(&path, json!({"retries": 1})).await.expect(404);
    assert_eq!(
        reply.message(),
        format!("could not find the entity with primary key '{{id=\"{ID}\"}}'")
    );
    let reply = admin.delete("/services/none").await.expect(204);
    assert_eq!(reply.body, "");
    let _ = admin.delete(&path).await.expect(204);
    let _ = admin.get(&path).await.expect(404);
}

#[tokio::test]
async fn names_may_be_any_text_of_the_alphabet() {
    let admin = Admin::start().await;
    let service = admin
        .put("/services/caf%C3%A9", json!({"host": "h"}))
        .await
        .expect(200);
    assert_eq!(service.value()["name"], "café");
    let _ = admin.get("/services/caf%c3%a9").await.expect(200);
    let reply = admin
        .put("/services/a+b", json!({"host": "h"}))
        .await
        .expect(400);
    assert!(reply.message().starts_with("invalid value 'a b'"));
    // Whatever the method, as Kong.
    for (method, path) in [
        ("GET", "/services/a+b"),
        ("PATCH", "/services/a+b"),
        ("DELETE", "/services/a+b"),
        ("GET", "/services/a+b/routes"),
    ] {
        let reply = admin.json(method, path, json!({})).await.expect(400);
        assert_eq!(reply.value()["name"], "invalid unique name");
        assert_eq!(reply.value()["code"], 10);
    }
}

on_every_database! {
    async fn keys_no_index_holds_are_refused_not_failed(admin: Admin) {
        // Text that does not compress, or the database would take it.
        let long: String = (0..4000_u32).map(|at| char::from(b'a' + (at * at % 26) as u8)).collect();
        let reply = admin.post("/services", json!({"name": long, "host": "h"})).await.expect(400);
        assert_eq!(reply.message(), "schema violation (name: length must be at most 1024)");
        let reply = admin.post("/consumers", json!({"username": "a\u{0}b"})).await.expect(400);
        assert_eq!(
            reply.message(),
            "schema violation (username: must not contain a NUL character)"
        );
        let reply = admin.get(&format!("/services/{long}")).await.expect(400);
        assert_eq!(reply.message(), "length must be at most 1024");
        let group = long.get(..1024).unwrap();
        let _ = admin.put("/consumers/c", json!({})).await.expect(200);
        let reply = admin.post("/consumers/c/acls", json!({"group": group})).await.expect(400);
        assert_eq!(reply.message(), "schema violation (group: length must be at most 512)");
    }
}
