//! Credentials of consumers over the wire.

use serde_json::{Value, json};

use crate::harness::{Admin, on_every_database};
use crate::material::rsa;

/// Top-level and nested path of each kind, the field that stands for the id, and what makes one.
fn kinds() -> [(&'static str, &'static str, &'static str, Value); 5] {
    [
        (
            "basic-auths",
            "basic-auth",
            "username",
            json!({"username": "u 1", "password": "p"}),
        ),
        ("key-auths", "key-auth", "key", json!({"key": "u 1"})),
        (
            "jwts",
            "jwt",
            "key",
            json!({"key": "u 1", "algorithm": "RS256", "rsa_public_key": rsa().public}),
        ),
        (
            "hmac-auths",
            "hmac-auth",
            "username",
            json!({"username": "u 1"}),
        ),
        (
            "oauth2",
            "oauth2",
            "client_id",
            json!({"client_id": "u 1", "name": "app"}),
        ),
    ]
}

on_every_database! {
    async fn every_kind_is_below_its_consumer_and_beside(admin: Admin) {
        let consumer = admin.put("/consumers/bob", json!({})).await.expect(200).value();
        admin.put("/consumers/eve", json!({})).await.expect(200);
        for (path, nested, key, body) in kinds() {
            let made = admin.post(&format!("/consumers/bob/{nested}"), body.clone()).await.expect(201).value();
            assert_eq!(made["consumer"]["id"], consumer["id"], "{path}");
            assert_eq!(made.get("updated_at"), None);
            let id = made["id"].as_str().unwrap();
            for at in [format!("/{path}/{id}"), format!("/{path}/u%201"), format!("/consumers/bob/{nested}/u%201")] {
                assert_eq!(admin.get(&at).await.expect(200).value(), made, "{at}");
            }
            assert_eq!(admin.get(&format!("/{path}/u%201/consumer")).await.expect(200).value(), consumer);
            admin.delete(&format!("/{path}/u%201/consumer")).await.expect(405);
            admin.get(&format!("/consumers/eve/{nested}/u%201")).await.expect(404);
            admin.delete(&format!("/consumers/eve/{nested}/u%201")).await.expect(404);
            let listed = admin.get(&format!("/consumers/bob/{nested}")).await.expect(200).value();
            assert_eq!(listed["data"], json!([made]));
            let twice = admin.post(&format!("/consumers/eve/{nested}"), body).await.expect(409);
            assert_eq!(twice.value()["fields"], json!({key: "u 1"}), "{path}");
            let patched = admin.patch(&format!("/{path}/{id}"), json!({"tags": ["t"]})).await.expect(200).value();
            for (name, value) in made.as_object().unwrap() {
                assert!(name == "tags" || &patched[name] == value, "{path}.{name}");
            }
            admin.post(&format!("/{path}"), json!({})).await.expect(400);
        }
        admin.delete("/consumers/bob").await.expect(204);
        for (path, ..) in kinds() {
            assert_eq!(admin.get(&format!("/{path}")).await.expect(200).value()["data"], json!([]));
        }
    }
}

on_every_database! {
    async fn what_is_made_up_is_made_anew_by_a_put(admin: Admin) {
        admin.put("/consumers/bob", json!({})).await.expect(200);
        let path = "/consumers/bob/jwt/0855b320-0dd2-547d-891d-601e9b38647f";
        let first = admin.put(path, json!({})).await.expect(200).value();
        let second = admin.put(path, json!({})).await.expect(200).value();
        assert_eq!(first["id"], second["id"]);
        assert_ne!(first["secret"], second["secret"]);
        assert_ne!(first["key"], second["key"]);
    }
}

on_every_database! {
    async fn tokens_of_clients_follow_them(admin: Admin) {
        admin.put("/consumers/bob", json!({})).await.expect(200);
        admin.put("/services/s", json!({"host": "h"})).await.expect(200);
        let client = admin.post("/consumers/bob/oauth2", json!({"name": "app", "client_id": "c"})).await.expect(201).value();
        let body = json!({"expires_in": 10, "service": {"name": "s"}, "access_token": "t"});
        let token = admin.post("/oauth2/c/oauth2_tokens", body).await.expect(201).value();
        assert_eq!(token["credential"]["id"], client["id"]);
        assert_eq!(admin.get("/oauth2_tokens/t").await.expect(200).value(), token);
        let of_service = admin.get("/services/s/oauth2_tokens").await.expect(200).value();
        assert_eq!(of_service["data"], json!([token]));
        assert_eq!(admin.get("/oauth2_tokens/t/credential").await.expect(200).value(), client);
        admin.delete("/oauth2/c").await.expect(204);
        admin.get("/oauth2_tokens/t").await.expect(404);
    }
}

on_every_database! {
    async fn keys_end_with_their_life_time(admin: Admin) {
        admin.put("/consumers/bob", json!({})).await.expect(200);
        let long = json!({"key": "long", "ttl": 1_000_000, "created_at": 1_600_000_000});
        let made = admin.post("/consumers/bob/key-auth", long).await.expect(201).value();
        let left = |value: &Value| value["ttl"].as_i64().unwrap();
        // From now on, whenever it was created; every look at the clock of this test takes a second.
        assert!((900_000..=1_000_000).contains(&left(&made)), "{made}");
        let later = admin.get("/key-auths/long").await.expect(200).value();
        assert!(left(&later) < left(&made), "{later}");
        let tagged = admin.patch("/key-auths/long", json!({"tags": ["t"]})).await.expect(200).value();
        assert!((900_000..left(&later)).contains(&left(&tagged)), "{tagged}");
        let renewed = admin.patch("/key-auths/long", json!({"ttl": 2_000_000})).await.expect(200).value();
        assert!(left(&renewed) > 1_900_000, "{renewed}");

        admin.post("/consumers/bob/key-auth", json!({"key": "short", "ttl": 1})).await.expect(201);
        admin.get("/key-auths/short").await.expect(404);
        admin.get("/key-auths/short/consumer").await.expect(404);
        admin.patch("/key-auths/short", json!({"tags": []})).await.expect(404);
        let listed = admin.get("/consumers/bob/key-auth").await.expect(200).value();
        assert_eq!(listed["data"].as_array().unwrap().len(), 1);
        // Its key is free again.
        admin.post("/consumers/bob/key-auth", json!({"key": "short", "ttl": 1})).await.expect(201);
        admin.post("/key-auths", json!({"key": "short", "ttl": 1, "consumer": {"username": "bob"}})).await.expect(201);
        let id = "0855b320-0dd2-547d-891d-601e9b38647f";
        for _ in 0..2 {
            admin.put(&format!("/key-auths/{id}"), json!({"key": "other", "ttl": 1, "consumer": {"username": "bob"}})).await.expect(200);
        }
        assert_eq!(admin.service.remove_ended().await.unwrap(), 2);
        assert_eq!(admin.service.remove_ended().await.unwrap(), 0);
        assert_eq!(admin.store.get("keyauth_credentials", id).await.unwrap(), None);
        admin.get("/key-auths/long").await.expect(200);
        let forever = admin.post("/consumers/bob/key-auth", json!({"ttl": 0})).await.expect(201).value();
        assert_eq!(forever["ttl"], Value::Null);
        for ttl in [json!(-1), json!(1.5), json!(100_000_001), json!("x")] {
            let reply = admin.post("/consumers/bob/key-auth", json!({"ttl": ttl})).await.expect(400);
            assert_eq!(
                reply.value(),
                json!({
                    "code": 11, "name": "invalid options",
                    "message": "invalid option (ttl: must be an integer between 0 and 100000000)",
                    "options": {"ttl": "must be an integer between 0 and 100000000"},
                })
            );
        }
    }
}

#[tokio::test]
async fn a_client_secret_is_hashed_when_it_shall_be() {
    let admin = Admin::start().await;
    admin.put("/consumers/bob", json!({})).await.expect(200);
    let body = json!({"name": "app", "client_id": "c", "client_secret": "s", "hash_secret": true});
    let made = admin
        .post("/consumers/bob/oauth2", body)
        .await
        .expect(201)
        .value();
    let secret = made["client_secret"].as_str().unwrap();
    assert!(
        secret.starts_with("$pbkdf2-sha512$i=10000,l=32$"),
        "{secret}"
    );
    let same = admin
        .put("/consumers/bob/oauth2/c", made.clone())
        .await
        .expect(200)
        .value();
    assert_eq!(same, made, "what was read can be written back");
}
