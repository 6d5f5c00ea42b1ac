//! Keys, their sets and vaults over the wire.

use serde_json::{Value, json};

use crate::harness::{Admin, on_every_database};
use crate::material::{ec, rsa};

on_every_database! {
    async fn keys_are_in_sets(admin: Admin) {
        let set = admin.post("/key-sets", json!({"name": "my set"})).await.expect(201).value();
        let pem = json!({"private_key": ec().key, "public_key": ec().public});
        let body = json!({"name": "a key", "kid": "k", "pem": pem});
        let key = admin.post("/key-sets/my%20set/keys", body.clone()).await.expect(201).value();
        assert_eq!(key["set"]["id"], set["id"]);
        assert_eq!(key["jwk"], Value::Null);
        assert_eq!(admin.get("/keys/a%20key").await.expect(200).value(), key);
        assert_eq!(admin.get("/keys/a%20key/set").await.expect(200).value(), set);
        let listed = admin.get("/key-sets/my%20set/keys").await.expect(200).value();
        assert_eq!(listed["data"], json!([key]));
        let twice = json!({"kid": "k", "set": {"name": "my set"}, "pem": {"public_key": rsa().public}});
        let reply = admin.post("/keys", twice).await.expect(409);
        assert_eq!(
            reply.message(),
            format!("UNIQUE violation detected on '{{kid=\"k\",set={{id={}}}}}'", set["id"])
        );
        let alone = json!({"kid": "k", "pem": {"public_key": rsa().public}});
        admin.post("/keys", alone.clone()).await.expect(201);
        let reply = admin.post("/keys", alone).await.expect(409);
        assert_eq!(reply.message(), "UNIQUE violation detected on '{kid=\"k\",set=null}'");
        admin.delete("/key-sets/my%20set").await.expect(204);
        admin.get("/keys/a%20key").await.expect(404);
        let rest = admin.get("/keys").await.value();
        assert_eq!(rest["data"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn keys_that_are_none_are_refused() {
    let admin = Admin::start().await;
    let body = json!({"name": "n", "kid": "36", "jwk": "{\"kid\": \"36\"}"});
    let reply = admin.post("/keys", body).await.expect(400);
    assert_eq!(
        reply.message(),
        "schema violation (could not load JWK, likely not a valid key)"
    );
    let body = json!({"kid": "k", "pem": {"private_key": "x"}});
    let reply = admin.post("/keys", body).await.expect(400);
    assert!(
        reply.value()["fields"]["pem"]
            .as_str()
            .unwrap()
            .starts_with("could not load private key")
    );
    assert!(!reply.body.contains("PRIVATE"), "{reply:?}");
}

on_every_database! {
    async fn vaults_are_addressed_by_prefix(admin: Admin) {
        let made = admin.put("/vaults/my-env", json!({"name": "env", "config": {"prefix": "A-"}})).await.expect(200).value();
        assert_eq!(made["prefix"], "my-env");
        assert_eq!(made["description"], Value::Null);
        let patched = admin.patch("/vaults/my-env", json!({"config": {"prefix": "CERT_"}})).await.expect(200).value();
        assert_eq!(patched["config"], json!({"prefix": "CERT_"}));
        assert_eq!(patched["name"], "env");
        for (method, body) in [("PUT", json!({"name": "env"})), ("GET", json!({}))] {
            let reply = admin.json(method, "/vaults/env", body).await.expect(400);
            assert_eq!(
                reply.value(),
                json!({"code": 10, "name": "invalid unique prefix", "message": "must not be one of: env"})
            );
        }
        let reply = admin.post("/vaults", json!({"name": "hcv", "prefix": "v"})).await.expect(400);
        assert_eq!(reply.message(), "schema violation (name: vault 'hcv' is not installed)");
        admin.get("/vaults/not-found").await.expect(404);
        admin.delete("/vaults/my-env").await.expect(204);
        admin.get("/vaults/my-env").await.expect(404);
    }
}

#[tokio::test]
async fn schemas_of_vaults_are_shown() {
    let admin = Admin::start().await;
    let schema = admin.get("/schemas/vaults/env").await.expect(200).value();
    let prefix = &schema["fields"][0]["config"]["fields"][0]["prefix"];
    assert_eq!(prefix["type"], "string");
    let reply = admin.get("/schemas/vaults/nope").await.expect(404);
    assert_eq!(reply.message(), "No vault named 'nope'");
    let reply = admin.get("/schemas/filters/nope").await.expect(404);
    assert_eq!(reply.message(), "Filter 'nope' not found");
    for (kind, field) in [("tags", "entity_id"), ("workspaces", "comment")] {
        let schema = admin
            .get(&format!("/schemas/{kind}"))
            .await
            .expect(200)
            .value();
        assert!(
            schema["fields"]
                .as_array()
                .unwrap()
                .iter()
                .any(|it| it.get(field).is_some())
        );
    }
    let fine = json!({"name": "env", "prefix": "ab"});
    admin
        .post("/schemas/vaults/validate", fine)
        .await
        .expect(200);
    let reply = admin
        .post("/schemas/vaults/validate", json!({"name": "env"}))
        .await;
    assert_eq!(
        reply.expect(400).message(),
        "schema violation (prefix: required field missing)"
    );
}

#[tokio::test]
async fn references_are_kept_as_they_are() {
    let admin = Admin::start().await;
    let body = json!({"cert": "{vault://env/cert}", "key": "{vault://mine/key/part}"});
    let made = admin.post("/certificates", body).await.expect(201).value();
    let path = format!("/certificates/{}", made["id"].as_str().unwrap());
    let found = admin.get(&path).await.expect(200).value();
    assert_eq!(found["cert"], "{vault://env/cert}");
    assert_eq!(found["key"], "{vault://mine/key/part}");
    let reply = admin
        .post("/services", json!({"host": "{vault://env/h}"}))
        .await;
    assert_eq!(
        reply.expect(400).message(),
        "schema violation (host: invalid value: {vault://env/h})"
    );
}
