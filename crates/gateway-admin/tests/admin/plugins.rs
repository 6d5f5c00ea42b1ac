use std::sync::Arc;

use serde_json::{Value, json};

use crate::harness::{Admin, on_every_database};

const ONE: &str = "3fd1eea1-885a-4011-b986-289943ff8177";
const TWO: &str = "5fd1eea1-885a-4011-b986-289943ff8177";

async fn route(admin: &Admin) -> String {
    let body = json!({"paths": ["/a"]});
    let route = admin.put("/routes/r", body).await.expect(200).value();
    route["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn admin_case_046_an_acl_needs_a_list() {
    let admin = Admin::start().await;
    let body = json!({"name": "acl", "config": {}});
    let reply = admin
        .put(&format!("/plugins/{ONE}"), body)
        .await
        .expect(400);
    assert_eq!(
        reply.message(),
        "2 schema violations (exactly one of these fields must be non-empty: 'config.allow', 'config.deny'; at least one of these fields must be non-empty: 'config.allow', 'config.deny')"
    );
}

on_every_database! {
    async fn admin_case_047_and_054_one_plugin_of_a_name_in_a_scope(admin: Admin) {
        let id = route(&admin).await;
        let body = json!({"name": "acl", "config": {"allow": ["g"]}});
        let path = format!("/routes/r/plugins/{ONE}");
        let plugin = admin.put(&path, body.clone()).await.expect(200).value();
        assert_eq!((&plugin["id"], &plugin["route"]["id"]), (&json!(ONE), &json!(id)));
        let reply = admin.put(&format!("/routes/r/plugins/{TWO}"), body.clone()).await.expect(409);
        assert_eq!(
            reply.message(),
            format!("UNIQUE violation detected on '{{consumer=null,name=\"acl\",route={{id=\"{id}\"}},service=null}}'")
        );
        assert_eq!(
            reply.value()["fields"],
            json!({"consumer": null, "name": "acl", "route": {"id": id}, "service": null})
        );
        // Another scope is another matter, but there is one global instance only.
        let _ = admin.post("/plugins", body.clone()).await.expect(201);
        let reply = admin.post("/plugins", body).await.expect(409);
        assert_eq!(reply.value()["fields"]["route"], Value::Null);

        let _ = admin.delete("/routes/r").await.expect(204);
        let _ = admin.get(&format!("/plugins/{ONE}")).await.expect(404);
    }
}

on_every_database! {
    async fn admin_case_048_the_path_decides_on_the_consumer(admin: Admin) {
        let _ = route(&admin).await;
        let consumer = admin.put("/consumers/c1", json!({})).await.expect(200).value();
        let limits = json!({"service": {"second": 10}});
        let body = json!({
            "enabled": true, "name": "rate-limiting-merged", "consumer": "c1", "protocols": ["http"],
            "route": {"name": "r"}, "config": {"limits": limits}, "tags": ["env--t"],
        });
        let path = format!("/consumers/c1/plugins/{ONE}");
        let plugin = admin.put(&path, body.clone()).await.expect(200).value();
        assert_eq!(plugin["consumer"]["id"], consumer["id"]);
        assert!(plugin["route"]["id"].is_string());
        assert_eq!(plugin["config"]["omit_consumer"], "gateway");
        assert_eq!(plugin["config"]["policy"], "local");
        assert_eq!(plugin["config"]["limits"]["service"], json!({"second": 10, "minute": null, "hour": null}));
        assert_eq!(admin.put(&path, body).await.expect(200).value(), plugin);
        let via = admin.get(&format!("/plugins/{ONE}/consumer")).await.expect(200).value();
        assert_eq!(via, consumer);
    }
}

#[tokio::test]
async fn admin_case_049_and_050_only_enabled_plugins_with_sound_configuration() {
    let admin = Admin::start().await;
    let reply = admin
        .post("/plugins", json!({"name": "nope"}))
        .await
        .expect(400);
    assert_eq!(
        reply.message(),
        "schema violation (name: plugin 'nope' not enabled; add it to the 'plugins' configuration property)"
    );
    let body = json!({"name": "jwt-keycloak", "config": {}});
    let reply = admin.post("/plugins", body).await.expect(400);
    assert_eq!(
        reply.message(),
        "schema violation (config.allowed_iss: required field missing)"
    );
    assert_eq!(
        reply.value()["fields"],
        json!({"config": {"allowed_iss": "required field missing"}})
    );
    // Known to Kong, not executed here: never accepted and ignored.
    let reply = admin
        .post("/plugins", json!({"name": "hmac-auth"}))
        .await
        .expect(400);
    assert!(reply.message().contains("plugin 'hmac-auth' not enabled"));
}

on_every_database! {
    async fn admin_case_051_tracing_takes_the_environment(admin: Admin) {
        let path = "/plugins/7b1d3f9a-2c84-4d6e-9f10-5a3b8c2e7d41";
        let config = json!({"traces_endpoint": "http://collector:4318/v1/traces", "environment": "prod"});
        let body = json!({"name": "opentelemetry", "config": config, "tags": ["tardis", "otel"]});
        let plugin = admin.put(path, body).await.expect(200).value();
        assert_eq!(plugin["config"]["environment"], "prod");
        assert_eq!(plugin["config"]["propagation"]["default_format"], "b3");
        assert_eq!(plugin["config"]["header_type"], "b3");
        assert_eq!(plugin["config"]["endpoint"], "http://collector:4318/v1/traces");
    }
}

on_every_database! {
    async fn a_plugin_of_the_platform_is_stored_whole(admin: Admin) {
        let _ = route(&admin).await;
        let path = format!("/routes/r/plugins/{ONE}");
        let config = json!({"replace": {"headers": ["Authorization:Basic x"]}, "append": {}});
        let body = json!({"name": "request-transformer", "config": config});
        let plugin = admin.put(&path, body.clone()).await.expect(200).value();
        let nothing = json!({"body": [], "headers": [], "querystring": []});
        for part in ["remove", "rename", "add", "append"] {
            assert_eq!(plugin["config"][part], nothing, "{part}");
        }
        assert_eq!(plugin["config"]["replace"]["uri"], Value::Null);
        assert_eq!(admin.put(&path, body).await.expect(200).value(), plugin);
        let config = json!({"add": {"headers": ["x y:1"], "body": ["a"]}});
        let reply = admin.patch(&path, json!({"config": config})).await.expect(400);
        assert_eq!(
            reply.message(),
            "schema violation (config.add: {\n  body = {\n    \"key 'a' has no value\"\n  },\n  headers = {\n    \"'x y' is not a valid header\"\n  }\n})"
        );
    }
}

on_every_database! {
    async fn protocols_of_a_plugin_are_those_of_its_route(admin: Admin) {
        let https = json!({"paths": ["/a"], "protocols": ["https"]});
        let _ = admin.put("/routes/secure", https).await.expect(200);
        let body = json!({"name": "acl", "config": {"allow": ["g"]}, "protocols": ["http"]});
        let reply = admin.post("/routes/secure/plugins", body.clone()).await.expect(400);
        assert_eq!(
            reply.message(),
            "schema violation (protocols: must match the associated route's protocols)"
        );
        let plugin = admin.post("/plugins", body).await.expect(201).value();
        let path = format!("/plugins/{}", plugin["id"].as_str().unwrap());
        // Moving a plugin to a route is checked as well.
        let reply = admin.patch(&path, json!({"route": {"name": "secure"}})).await.expect(400);
        assert_eq!(
            reply.message(),
            "schema violation (protocols: must match the associated route's protocols)"
        );
        let both = json!({"route": {"name": "secure"}, "protocols": ["https"]});
        let _ = admin.patch(&path, both).await.expect(200);
    }
}

#[tokio::test]
async fn admin_case_052_deleting_nothing_is_done() {
    let admin = Admin::start().await;
    let _ = admin.delete(&format!("/plugins/{ONE}")).await.expect(204);
}

#[tokio::test]
async fn admin_case_053_a_form_patch_knows_the_stored_plugin() {
    let admin = Admin::start().await;
    let body = json!({"name": "jwt-keycloak", "config": {"allowed_iss": ["https://i"]}});
    let path = format!("/plugins/{ONE}");
    let _ = admin.put(&path, body).await.expect(200);
    let form = "config.consumer_match=true&config.scope[]=p&config.iss_key_grace_period=20";
    let plugin = admin.form("PATCH", &path, form).await.expect(200).value();
    assert_eq!(plugin["config"]["consumer_match"], true);
    assert_eq!(plugin["config"]["scope"], json!(["p"]));
    assert_eq!(plugin["config"]["iss_key_grace_period"], 20);
    assert_eq!(plugin["config"]["allowed_iss"], json!(["https://i"]));
    let reply = admin
        .patch(&format!("/plugins/{TWO}"), json!({"enabled": false}))
        .await
        .expect(404);
    assert_eq!(reply.body, r#"{"message":"Not found"}"#);

    let form = "name=jwt-keycloak&config.allowed_iss=https://i&instance_name=x";
    let _ = admin.delete(&path).await.expect(204);
    let plugin = admin
        .form("POST", "/plugins", form)
        .await
        .expect(201)
        .value();
    assert_eq!(plugin["config"]["allowed_iss"], json!(["https://i"]));
    let _ = admin.get("/plugins/x").await.expect(200);
}

on_every_database! {
    async fn protocols_must_meet_those_of_the_routes(admin: Admin) {
        let body = json!({"paths": ["/a"], "protocols": ["https"]});
        let _ = admin.put("/services/s", json!({"host": "h"})).await.expect(200);
        let acl = |protocols: Value| json!({"name": "acl", "config": {"allow": ["g"]}, "protocols": protocols});
        let reply = admin.put(&format!("/services/s/plugins/{ONE}"), acl(json!(["http"]))).await;
        // No route yet, nothing to compare with.
        let _ = reply.expect(200);
        let _ = admin.put("/services/s/routes/r", body).await.expect(200);
        let reply = admin.put(&format!("/routes/r/plugins/{TWO}"), acl(json!(["http"]))).await.expect(400);
        assert_eq!(
            reply.message(),
            "schema violation (protocols: must match the associated route's protocols)"
        );
        let reply = admin.put(&format!("/services/s/plugins/{ONE}"), acl(json!(["grpc"]))).await.expect(400);
        assert_eq!(
            reply.message(),
            "schema violation (protocols: must match the protocols of at least one route pointing to this Plugin's service)"
        );
        let _ = admin.put(&format!("/routes/r/plugins/{TWO}"), acl(json!(["https"]))).await.expect(200);
    }
}

struct Picky;

impl o28m_gateway::PluginKind for Picky {
    fn name(&self) -> &'static str {
        "request-transformer"
    }

    fn priority(&self) -> i32 {
        801
    }

    fn configure(
        &self,
        _: &Value,
    ) -> Result<Arc<dyn o28m_gateway::Plugin>, o28m_gateway::BadConfig> {
        Err(o28m_gateway::BadConfig("bad template".to_owned()))
    }
}

#[tokio::test]
async fn what_a_plugin_cannot_compile_is_refused_on_write() {
    let admin = Admin::start().await;
    let body = json!({"name": "request-transformer"});
    let _ = admin
        .put(&format!("/plugins/{ONE}"), body.clone())
        .await
        .expect(200);
    admin.service.check_plugins_with(vec![Arc::new(Picky)]);
    let reply = admin
        .put(&format!("/plugins/{ONE}"), body)
        .await
        .expect(400);
    assert_eq!(reply.message(), "schema violation (config: bad template)");
    let body = json!({"name": "acl", "config": {"allow": ["g"]}});
    let _ = admin
        .put(&format!("/plugins/{TWO}"), body)
        .await
        .expect(200);
}

on_every_database! {
    async fn sets_in_another_order_are_no_change(admin: Admin) {
        let path = "/plugins/0d1eb6e7-4b19-4b4c-9d35-ebb7a2a0a3f7";
        let body = |headers: [&str; 2], tags: [&str; 2]| {
            json!({
                "name": "request-transformer", "tags": tags, "protocols": ["http", "https"],
                "config": {"add": {"headers": headers}},
            })
        };
        let first = admin.put(path, body(["a:1", "b:2"], ["x", "y"])).await.expect(200);
        let version = admin.get("/config-version").await.value()["version"].clone();
        let again = admin.put(path, body(["b:2", "a:1"], ["y", "x"])).await.expect(200);
        assert_eq!(again.value(), first.value());
        assert_eq!(again.header("etag"), first.header("etag"));
        assert_eq!(admin.get("/config-version").await.value()["version"], version);
        let changed = admin.put(path, body(["b:2", "a:3"], ["y", "x"])).await.expect(200);
        assert_eq!(changed.value()["config"]["add"]["headers"], json!(["b:2", "a:3"]));
    }
}
