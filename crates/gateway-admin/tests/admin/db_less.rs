//! The mode without a database: `/config` and refused writes.

use serde_json::{Value, json};

use crate::harness::{Admin, Reply, settings};

const YAML: (&str, &str) = ("content-type", "text/yaml");

async fn admin() -> Admin {
    let mut settings = settings();
    settings.db_less = true;
    Admin::with(Some("sqlite::memory:"), settings).await
}

async fn post(admin: &Admin, path: &str, yaml: &str) -> Reply {
    admin.raw("POST", path, &[YAML], yaml.as_bytes()).await
}

fn services(names: &[&str]) -> String {
    let mut yaml = "_format_version: \"3.0\"\nservices:\n".to_owned();
    for name in names {
        yaml.push_str(&format!("- {{name: {name}, host: h}}\n"));
    }
    yaml
}

#[tokio::test]
async fn admin_case_068_with_a_database_there_is_no_config() {
    let admin = Admin::start().await;
    let text = "this endpoint is only available when Kong is configured to not use a database";
    let reply = post(&admin, "/config", &services(&["a"])).await.expect(400);
    assert_eq!(reply.value(), json!({"message": text}));
}

#[tokio::test]
async fn admin_case_069_config_replaces_and_writes_are_refused() {
    let admin = admin().await;
    let loaded = post(&admin, "/config", &services(&["my-service"])).await;
    let loaded = loaded.expect(201).value();
    let service = &loaded["services"]["0855b320-0dd2-547d-891d-601e9b38647f"];
    assert_eq!(service["name"], "my-service");
    let read = admin.get("/services/my-service").await.expect(200).value();
    assert_eq!(&read, service);

    let reply = admin
        .post("/services", json!({"name": "x", "host": "h"}))
        .await;
    let expected = json!({
        "code": 12, "name": "operation unsupported",
        "message": "cannot create 'services' entities when not using a database",
    });
    assert_eq!(reply.expect(405).value(), expected);

    let id = "0855b320-0dd2-547d-891d-601e9b38647f";
    for (method, path, message) in [
        (
            "POST",
            "/services/my-service/routes",
            "cannot create 'routes' entities",
        ),
        (
            "PUT",
            "/services/x",
            "cannot create or update 'services' entities by 'name'",
        ),
        (
            "PUT",
            &format!("/services/{id}"),
            "cannot create or update 'services' entities",
        ),
        (
            "PATCH",
            "/services/my-service",
            "cannot update 'services' entities by 'name'",
        ),
        (
            "DELETE",
            &format!("/services/{id}"),
            "cannot remove 'services' entities",
        ),
        (
            "DELETE",
            "/consumers/x",
            "cannot remove 'consumers' entities by 'username'",
        ),
        (
            "PUT",
            "/routes/r/service",
            "cannot create or update 'services' entities",
        ),
    ] {
        let reply = admin.json(method, path, json!({})).await.expect(405);
        assert_eq!(
            reply.message(),
            format!("{message} when not using a database"),
            "{method} {path}"
        );
    }
    assert_eq!(admin.get("/services").await.value()["data"], json!([read]));
    let body = json!({"name": "x", "host": "h"});
    admin
        .post("/schemas/services/validate", body)
        .await
        .expect(200);
}

#[tokio::test]
async fn a_configuration_comes_in_every_form() {
    let admin = admin().await;
    let yaml = services(&["a"]);
    let names = |reply: Reply| {
        let loaded = reply.expect(201).value();
        let mut names: Vec<String> = loaded["services"]
            .as_object()
            .unwrap()
            .values()
            .map(|service| service["name"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(post(&admin, "/config", &yaml).await), ["a"]);
    let whole = json!({"_format_version": "3.0", "services": [{"name": "b", "host": "h"}]});
    assert_eq!(names(admin.post("/config", whole.clone()).await), ["b"]);
    let member = json!({"config": yaml});
    assert_eq!(names(admin.post("/config", member).await), ["a"]);
    let member = json!({"config": whole.to_string()});
    assert_eq!(names(admin.post("/config", member).await), ["b"]);
    let form = form_urlencoded(&services(&["c", "d"]));
    assert_eq!(
        names(admin.form("POST", "/config", &form).await),
        ["c", "d"]
    );
    let part = format!(
        "--x\r\ncontent-disposition: form-data; name=\"config\"\r\n\r\n{yaml}\r\n--x--\r\n"
    );
    let headers = [("content-type", "multipart/form-data; boundary=x")];
    assert_eq!(
        names(
            admin
                .raw("POST", "/config", &headers, part.as_bytes())
                .await
        ),
        ["a"]
    );

    for reply in [
        admin.raw("POST", "/config", &[], b"").await,
        admin.post("/config", json!({"a": 1})).await,
        post(&admin, "/config", "").await,
    ] {
        let expected = "expected a declarative configuration";
        assert_eq!(reply.expect(400).message(), expected);
    }
    let headers = [("content-type", "text/plain")];
    let reply = admin.raw("POST", "/config", &headers, yaml.as_bytes());
    reply.await.expect(415);
    let reply = admin.raw("POST", "/schemas/services/validate", &[YAML], b"a: b");
    reply.await.expect(415);
}

fn form_urlencoded(yaml: &str) -> String {
    let mut text = "config=".to_owned();
    for byte in yaml.bytes() {
        text.push_str(&format!("%{byte:02x}"));
    }
    text
}

#[tokio::test]
async fn an_unchanged_configuration_is_recognised() {
    let admin = admin().await;
    let hash = |status: Value| status["configuration_hash"].as_str().unwrap().to_owned();
    let none = hash(admin.get("/status").await.value());
    assert_eq!(none, "00000000000000000000000000000000");
    let yaml = services(&["a"]);
    post(&admin, "/config?check_hash=1", &yaml)
        .await
        .expect(201);
    assert_ne!(hash(admin.get("/status").await.value()), none);
    let version = admin.store.version().await.unwrap();
    assert_eq!(
        post(&admin, "/config?check_hash=1", &yaml)
            .await
            .expect(304)
            .body,
        ""
    );
    post(&admin, "/config", &yaml).await.expect(201);
    assert_eq!(admin.store.version().await.unwrap(), version);
    post(&admin, "/config?check_hash=1", &services(&["b"]))
        .await
        .expect(201);
}

#[tokio::test]
async fn a_wrong_configuration_leaves_the_one_in_use() {
    let admin = admin().await;
    post(&admin, "/config", &services(&["a"])).await.expect(201);
    let wrong = "_format_version: \"3.0\"\nservices:\n- {name: b, host: h}\n- {name: c}\nroutes:\n- name: r\n  service: nope\n  paths: [/]\n";
    let reply = post(&admin, "/config", wrong).await.expect(400).value();
    assert_eq!(reply["code"], 14);
    assert_eq!(reply["name"], "invalid declarative configuration");
    let message = r#"declarative config is invalid: {routes={{service="invalid reference 'service: nope' (no such entry in 'services')"}},services={[2]={host="required field missing"}}}"#;
    assert_eq!(reply["message"], message);
    assert_eq!(
        reply["fields"]["services"],
        json!([null, {"host": "required field missing"}])
    );
    assert!(reply.get("flattened_errors").is_none());

    let reply = post(&admin, "/config?flatten_errors=on", wrong)
        .await
        .expect(400)
        .value();
    assert_eq!(reply["fields"], json!({}));
    let expected = json!([
        {
            "entity_type": "service", "entity_name": "c", "entity": {"name": "c"},
            "errors": [{"type": "field", "field": "host", "message": "required field missing"}],
        },
        {
            "entity_type": "route", "entity_name": "r",
            "entity": {"name": "r", "service": "nope", "paths": ["/"]},
            "errors": [{
                "type": "field", "field": "service",
                "message": "invalid reference 'service: nope' (no such entry in 'services')",
            }],
        },
    ]);
    assert_eq!(reply["flattened_errors"], expected);

    post(&admin, "/config", "- not\n- an object")
        .await
        .expect(400);
    post(&admin, "/config", &"[".repeat(100_000))
        .await
        .expect(400);
    let found = admin.get("/services").await.value();
    assert_eq!(found["data"].as_array().unwrap().len(), 1);
    assert_eq!(found["data"][0]["name"], "a");
}

#[tokio::test]
async fn the_configuration_in_use_can_be_loaded_again() {
    let admin = admin().await;
    let yaml = "_format_version: \"3.0\"\nservices:\n- name: s\n  host: h\n  routes:\n  - paths: [/]\n    plugins:\n    - {name: acl, config: {allow: [g]}}\n";
    post(&admin, "/config", yaml).await.expect(201);
    let dumped = admin.get("/config").await.expect(200).value();
    let dumped = dumped["config"].as_str().unwrap();
    assert!(
        dumped.starts_with("_format_version: \"3.0\"\n_transform: false\n"),
        "{dumped}"
    );
    let version = admin.store.version().await.unwrap();
    post(&admin, "/config", dumped).await.expect(201);
    assert_eq!(admin.store.version().await.unwrap(), version);
    assert_eq!(
        admin.get("/").await.value()["configuration"]["database"],
        "off"
    );
}

#[tokio::test]
async fn a_file_is_loaded_by_the_process_itself() {
    let admin = admin().await;
    admin.service.load(&services(&["a"])).await.unwrap();
    admin.get("/services/a").await.expect(200);
    let error = admin.service.load("_format_version: 5").await.unwrap_err();
    let text = "the declarative configuration is invalid: _format_version: expected a string";
    assert_eq!(error.to_string(), text);
    Admin::start().await.service.load("{}").await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configurations_loaded_at_once_never_mix() {
    let admin = admin().await;
    let first: Vec<String> = (0..40).map(|at| format!("a{at}")).collect();
    let second: Vec<String> = (0..40).map(|at| format!("b{at}")).collect();
    let text = |names: &[String]| services(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let (first, second) = (text(&first), text(&second));
    for _ in 0..5 {
        let (a, b) = tokio::join!(
            post(&admin, "/config", &first),
            post(&admin, "/config", &second)
        );
        for reply in [&a, &b] {
            assert!(matches!(reply.status, 201 | 429), "{reply:?}");
            if reply.status == 429 {
                assert_eq!(reply.header("retry-after"), "1");
                assert_eq!(reply.message(), "Currently loading previous configuration");
            }
        }
        assert!(a.status == 201 || b.status == 201);
        let found = admin.get("/services?size=1000").await.value();
        let names: Vec<&str> = found["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|service| service["name"].as_str().unwrap())
            .collect();
        assert_eq!(names.len(), 40);
        assert!(
            names.iter().all(|name| name.starts_with(&names[0][..1])),
            "{names:?}"
        );
    }
}

#[tokio::test]
async fn upstreams_with_targets_are_loaded_and_their_health_can_be_set() {
    let admin = admin().await;
    let yaml = "_format_version: \"3.0\"\nupstreams:\n- name: up\n  healthchecks:\n    passive:\n      \
        unhealthy: {http_failures: 1}\n  targets:\n  - target: localhost\n  - target: 10.0.0.1:80\n    weight: 7\n";
    let first = post(&admin, "/config", yaml).await.expect(201).value();
    let targets = first["targets"].as_object().unwrap();
    assert_eq!(targets.len(), 2);
    let names: Vec<_> = targets.values().map(|it| it["target"].clone()).collect();
    assert!(names.contains(&json!("localhost:8000")) && names.contains(&json!("10.0.0.1:80")));
    let again = yaml.replace("target: localhost", "target: localhost:8000");
    let again = post(&admin, "/config", &again).await.expect(201).value();
    let ids = |loaded: &Value| -> Vec<String> {
        let targets = loaded["targets"].as_object().unwrap();
        targets.keys().cloned().collect()
    };
    // The id is made of the target as it is written, as Kong does it.
    let same: Vec<_> = ids(&again)
        .into_iter()
        .filter(|id| ids(&first).contains(id))
        .collect();
    assert_eq!((ids(&again).len(), same.len()), (2, 1));
    let last = post(&admin, "/config", yaml).await.expect(201).value();
    assert_eq!(ids(&last), ids(&first));
    let path = "/upstreams/up/targets";
    let listed = admin.get(path).await.expect(200).value();
    assert_eq!(listed["data"].as_array().unwrap().len(), 2);
    let _ = admin.get("/upstreams/up/health").await.expect(200);
    for (method, path, message) in [
        ("POST", path.to_owned(), "cannot create 'targets' entities"),
        (
            "PUT",
            format!("{path}/localhost"),
            "cannot create or update 'targets' entities by 'target'",
        ),
        (
            "DELETE",
            format!("{path}/{}", ids(&first)[0]),
            "cannot remove 'targets' entities",
        ),
    ] {
        let reply = admin.json(method, &path, json!({})).await.expect(405);
        let text = format!("{message} when not using a database");
        assert_eq!(reply.message(), text);
    }
    let _ = admin
        .put(&format!("{path}/localhost/unhealthy"), json!({}))
        .await
        .expect(204);
    let emptied = "_format_version: \"3.0\"\n";
    let _ = post(&admin, "/config", emptied).await.expect(201);
    let _ = admin.get("/upstreams/up/health").await.expect(404);
}
