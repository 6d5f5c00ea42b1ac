//! A configuration that holds every kind of entity goes from one instance to another unchanged.

use o28m_gateway_admin::declarative::{self, Declarative, Mode};
use o28m_kong::entities;
use serde_json::Value;

use crate::harness::{Admin, ambient, on_every_database, settings, store};
use crate::material::fill;

fn everything() -> String {
    fill(include_str!(
        "../../../kong/tests/fixtures/every-entity.yaml"
    ))
}

fn over(store: &o28m_store::Store) -> Declarative {
    Declarative::new(store.clone(), ambient(), &settings().enabled_plugins, &[])
}

/// Every page of a collection.
async fn all(admin: &Admin, path: &str) -> Vec<Value> {
    let mut found = Vec::new();
    let mut next = format!("{path}?size=2");
    loop {
        let page = admin.get(&next).await.expect(200).value();
        found.extend(page["data"].as_array().unwrap().iter().cloned());
        match page["next"].as_str() {
            Some(path) => path.clone_into(&mut next),
            None => return found,
        }
    }
}

on_every_database! {
    async fn an_export_of_every_entity_imports_to_an_equal_one(admin: Admin) {
        let first = over(&admin.store);
        let document = declarative::parse(&everything()).unwrap();
        first.import(document.clone(), Mode::Replace).await.unwrap();
        let exported = first.export(&[]).await.unwrap();
        for entity in entities() {
            assert!(exported.contains_key(entity.name), "no {} in the fixture", entity.name);
        }
        let again = first.import(document, Mode::Replace).await.unwrap();
        assert_eq!(again.changes, [], "the same file changes nothing");

        let (other, _dir) = store(None).await;
        let second = over(&other);
        let text = declarative::to_yaml(exported.clone());
        let parsed = declarative::parse(&text).unwrap();
        assert_eq!(parsed, exported);
        second.import(parsed, Mode::Replace).await.unwrap();
        assert_eq!(second.export(&[]).await.unwrap(), exported);
        assert_eq!(second.diff(exported.clone(), Mode::Replace).await.unwrap(), []);
        assert_eq!(first.diff(exported, Mode::Replace).await.unwrap(), []);
    }
}

on_every_database! {
    async fn every_entity_is_read_and_written_back_unchanged(admin: Admin) {
        let document = declarative::parse(&everything()).unwrap();
        over(&admin.store).import(document, Mode::Replace).await.unwrap();
        for entity in entities().iter().filter(|it| it.name != "targets") {
            let path = format!("/{}", entity.path);
            let found = all(&admin, &path).await;
            assert!(!found.is_empty(), "{path}");
            for shown in found {
                let single = format!("{path}/{}", shown["id"].as_str().unwrap());
                let mut body = shown.clone();
                // What a client read it writes back; passwords are hashed again, as by Kong.
                let is_hash = entity.name == "basicauth_credentials";
                if is_hash {
                    body["password"] = "hunter2".into();
                }
                let mut written = admin.put(&single, body).await.expect(200).value();
                if entity.has_life_time {
                    let left = shown["ttl"].as_i64().unwrap() - written["ttl"].as_i64().unwrap();
                    assert!((0..60).contains(&left), "{single}");
                    written["ttl"] = shown["ttl"].clone();
                }
                assert_eq!(written, shown, "{single}");
            }
        }
        let tagged = admin.get("/tags/cred").await.expect(200).value();
        assert_eq!(tagged["data"].as_array().unwrap().len(), 5);
    }
}

#[tokio::test]
async fn without_a_database_every_entity_is_shown_and_loaded_again() {
    let loaded = async || {
        let settings = o28m_gateway_admin::Settings {
            db_less: true,
            ..settings()
        };
        Admin::with(None, settings).await
    };
    let (first, second) = (loaded().await, loaded().await);
    let headers = [("content-type", "text/yaml")];
    let reply = first
        .raw("POST", "/config", &headers, everything().as_bytes())
        .await;
    let by_kind = reply.expect(201).value();
    for entity in entities() {
        assert!(by_kind[entity.name].is_object(), "{}", entity.name);
    }
    let config = first.get("/config").await.expect(200).value();
    let text = config["config"].as_str().unwrap();
    let reply = second
        .raw("POST", "/config", &headers, text.as_bytes())
        .await;
    assert_eq!(reply.expect(201).value(), by_kind);
    assert_eq!(second.get("/config").await.expect(200).value(), config);
    let found = second
        .get("/certificates/api.example.com")
        .await
        .expect(200)
        .value();
    assert_eq!(
        found["snis"],
        serde_json::json!(["*.example.org", "api.example.com"])
    );
    let reply = second
        .post("/certificates", serde_json::json!({}))
        .await
        .expect(405);
    assert_eq!(reply.value()["code"], 12);
}

#[tokio::test]
async fn problems_of_nested_entities_are_listed_one_by_one() {
    let settings = o28m_gateway_admin::Settings {
        db_less: true,
        ..settings()
    };
    let admin = Admin::with(None, settings).await;
    let config = r#"
_format_version: "3.0"
certificates:
- cert: x
  key: y
  snis: [a.*.test, {name: ok.test}]
consumers:
- username: u
  jwt_secrets:
  - {algorithm: RS256}
key_sets:
- name: s
  keys: [{kid: k}]
"#;
    let headers = [("content-type", "text/yaml")];
    let path = "/config?flatten_errors=1";
    let reply = admin
        .raw("POST", path, &headers, config.as_bytes())
        .await
        .expect(400);
    let errors = reply.value()["flattened_errors"].clone();
    let kinds: Vec<_> = errors
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["entity_type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["certificate", "sni", "key", "jwt_secret"]);
    assert_eq!(
        errors[1]["errors"],
        serde_json::json!([{
            "type": "field", "field": "name",
            "message": "wildcard must be leftmost or rightmost character",
        }])
    );
    assert_eq!(errors[1]["entity"], serde_json::json!({"name": "a.*.test"}));
    assert_eq!(errors[1]["entity_name"], "a.*.test");
}
