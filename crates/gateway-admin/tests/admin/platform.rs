//! What the gateway chart and the control plane send, call by call.

use serde_json::{Value, json};

use crate::harness::{Admin, on_every_database};

/// The chart's configuration script (spec gateway-admin 17.1); gives the status of each call.
async fn configure(admin: &Admin) -> Vec<u16> {
    let calls = [
        (
            "PUT",
            "/services/admin-api",
            json!({"name": "admin-api", "host": "localhost", "protocol": "http", "port": 8001}),
        ),
        (
            "PUT",
            "/services/admin-api/plugins/e9fb4272-0aff-4208-9efa-6bfec5d9df53",
            json!({"name": "request-transformer", "config": {"replace": {"headers": ["Authorization:Basic YWRtaW46a2V5"]}}}),
        ),
        (
            "PUT",
            "/services/admin-api/routes/admin-api",
            json!({"name": "admin-api", "protocols": ["http", "https"], "hosts": ["gw.example.com"], "paths": ["/admin-api"]}),
        ),
        (
            "PUT",
            "/consumers/rover",
            json!({"username": "rover", "custom_id": "rover"}),
        ),
        (
            "PUT",
            "/routes/admin-api/plugins/bc823d55-83b5-4184-b03f-ce63cd3b75c7",
            json!({"name": "acl", "config": {"allow": ["rover"], "hide_groups_header": true}}),
        ),
        ("POST", "/consumers/rover/acls", json!({"group": "rover"})),
        (
            "PUT",
            "/routes/admin-api/plugins/b864d58b-7183-4889-8b32-0b92d6c4d513",
            json!({"name": "jwt-keycloak", "config": {
                "allowed_iss": ["https://iris.example.com/auth/realms/rover"],
                "consumer_match": true, "consumer_match_claim_custom_id": true,
            }}),
        ),
        (
            "PUT",
            "/plugins/1e199eee-f592-4afa-8371-6b61dcbd1904",
            json!({
                "name": "request-size-limiting", "tags": ["tardis", "request-size-limiting"],
                "config": {"allowed_payload_size": 10, "size_unit": "megabytes", "require_content_length": false},
            }),
        ),
    ];
    let mut statuses = Vec::new();
    for (method, path, body) in calls {
        statuses.push(admin.json(method, path, body).await.status);
    }
    statuses
}

async fn state(admin: &Admin) -> Vec<Value> {
    let mut state = Vec::new();
    // Targets have no collection of their own.
    let entities = o28m_kong::entities().iter();
    for entity in entities.filter(|entity| entity.name != "targets") {
        let path = format!("/{}", entity.path);
        state.push(admin.get(&path).await.expect(200).value());
    }
    state
}

on_every_database! {
    async fn admin_case_055_the_charts_script_runs_twice(admin: Admin) {
        assert_eq!(configure(&admin).await, [200, 200, 200, 200, 200, 201, 200, 200]);
        let first = state(&admin).await;
        assert_eq!(configure(&admin).await, [200, 200, 200, 200, 200, 409, 200, 200]);
        assert_eq!(state(&admin).await, first);
        let plugins = admin.get("/plugins").await.expect(200).value();
        assert_eq!(plugins["data"].as_array().unwrap().len(), 4);
    }
}

on_every_database! {
    async fn the_control_planes_calls_work(admin: Admin) {
        let tags = |plugin: &str, consumer: &str| {
            json!(["env--e", format!("plugin--{plugin}"), "route--r", format!("consumer--{consumer}")])
        };
        let service = json!({
            "enabled": true, "name": "r", "host": "localhost", "path": "/proxy", "protocol": "http",
            "port": 8080, "tags": ["env--e"],
        });
        let service = admin.put("/services/r", service).await.expect(200).value();
        let route = json!({
            "name": "r", "protocols": ["http", "https"], "paths": ["/a"], "hosts": ["gw"],
            "service": {"id": service["id"]}, "request_buffering": false, "response_buffering": false,
            "preserve_host": false, "https_redirect_status_code": 426, "tags": ["env--e"],
        });
        assert!(admin.put("/routes/r", route).await.expect(200).value()["id"].is_string());
        let consumer = json!({"custom_id": "c", "username": "", "tags": ["env--e"]});
        let _ = admin.put("/consumers/c", consumer).await.expect(200);
        let transformer = json!({
            "enabled": true, "name": "request-transformer", "protocols": ["http"],
            "route": {"name": "r"}, "tags": tags("request-transformer", "none"),
            "config": {
                "append": {"headers": ["remote_api_url:https://p:443/x", "jumper_config:e30="]},
                "rename": {}, "replace": {"headers": ["Authorization:$(headers['consumer-token'] or headers['Authorization'])"]},
                "add": {"headers": ["environment:e"]}, "remove": {"headers": ["consumer-token"]},
            },
        });
        let path = "/routes/r/plugins/0d1eb6e7-4b19-4b4c-9d35-ebb7a2a0a3f7";
        let _ = admin.put(path, transformer).await.expect(200);
        let acl = json!({
            "enabled": true, "name": "acl", "protocols": ["http"], "route": {"name": "r"},
            "tags": tags("acl", "none"),
            "config": {"allow": ["__deny_all__"], "deny": [], "hide_groups_header": false},
        });
        let path = "/routes/r/plugins/1d1eb6e7-4b19-4b4c-9d35-ebb7a2a0a3f7";
        let _ = admin.put(path, acl).await.expect(200);
        let found = admin.get("/plugins?tags=env--e,plugin--acl,route--r,consumer--none").await.expect(200).value();
        assert_eq!(found["data"].as_array().unwrap().len(), 1);
        assert_eq!(found["data"][0]["config"]["allow"], json!(["__deny_all__"]));
        for path in ["/plugins/1d1eb6e7-4b19-4b4c-9d35-ebb7a2a0a3f7", "/routes/r", "/services/r"] {
            let _ = admin.delete(path).await.expect(204);
            let _ = admin.delete(path).await.expect(204);
        }
    }
}
