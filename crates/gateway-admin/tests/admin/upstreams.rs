//! Upstreams and their targets (spec gateway-admin 9.4 and 9.5).

use std::sync::Arc;

use o28m_core::Ambient;
use o28m_gateway::{Gateway, TARGET_HEALTH};
use o28m_gateway_admin::TargetPost;
use serde_json::{Value, json};

use crate::harness::{Admin, ambient, on_every_database};

/// The control plane's circuit breaker, as it sends it.
fn breaker(name: &str) -> Value {
    json!({
        "algorithm": "round-robin", "name": name, "tags": ["env--dev", format!("upstream--{name}")],
        "healthchecks": {
            "active": {
                "healthy": {"http_statuses": [302, 200]}, "type": "http",
                "unhealthy": {"http_statuses": [429, 404, 500, 501, 502, 503, 504, 505]},
            },
            "passive": {
                "healthy": {
                    "http_statuses": [
                        200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303, 304, 305, 306, 307, 308,
                    ],
                    "successes": 30,
                },
                "type": "http",
                "unhealthy": {
                    "http_failures": 10, "http_statuses": [429, 500, 503], "tcp_failures": 10, "timeouts": 10,
                },
            },
        },
    })
}

async fn refused(admin: &Admin, body: Value, message: &str) {
    let reply = admin.post("/upstreams", body).await.expect(400);
    assert_eq!(reply.message(), message);
}

on_every_database! {
    async fn admin_case_061_the_control_planes_circuit_breaker(admin: Admin) {
        let made = admin.put("/upstreams/r", breaker("r")).await.expect(200).value();
        let checks = &made["healthchecks"];
        assert_eq!(checks["passive"]["healthy"]["successes"], 30);
        assert_eq!(checks["passive"]["unhealthy"]["http_failures"], 10);
        assert_eq!(checks["threshold"], 0);
        let mut active = checks["active"].clone();
        active["healthy"]["http_statuses"].take();
        active["unhealthy"]["http_statuses"].take();
        assert_eq!(active, json!({
            "type": "http", "timeout": 1, "concurrency": 10, "http_path": "/", "https_sni": null,
            "https_verify_certificate": true, "headers": null,
            "healthy": {"interval": 0, "http_statuses": null, "successes": 0},
            "unhealthy": {
                "interval": 0, "http_statuses": null, "tcp_failures": 0, "timeouts": 0, "http_failures": 0,
            },
        }));
        for (field, value) in [
            ("hash_on", json!("none")), ("hash_fallback", json!("none")), ("hash_on_cookie_path", json!("/")),
            ("slots", json!(10_000)), ("host_header", Value::Null), ("client_certificate", Value::Null),
            ("use_srv_name", json!(false)), ("algorithm", json!("round-robin")),
        ] {
            assert_eq!(made[field], value, "{field}");
        }
        let again = admin.put("/upstreams/r", breaker("r")).await.expect(200).value();
        assert_eq!(again, made);
        // The whole sequence of the control plane: every answer is a 200 with the target.
        admin.service.answer_target_posts(TargetPost::Always200);
        let target = json!({"tags": ["env--dev"], "target": "localhost:8080", "weight": 100});
        let first = admin.post("/upstreams/r/targets", target.clone()).await.expect(200).value();
        let second = admin.post("/upstreams/r/targets", target).await.expect(200).value();
        assert!(first["id"].is_string());
        assert_eq!(second["id"], first["id"]);
        let path = format!("/upstreams/r/targets/{}", first["id"].as_str().unwrap());
        let _ = admin.delete(&path).await.expect(204);
        let _ = admin.delete(&path).await.expect(404);
        let _ = admin.delete("/upstreams/r").await.expect(204);
        let _ = admin.delete("/upstreams/r").await.expect(204);
        let _ = admin.delete(&path).await.expect(404);
    }
}

on_every_database! {
    async fn admin_case_062_posting_a_target_again(admin: Admin) {
        let _ = admin.put("/upstreams/r", breaker("r")).await.expect(200);
        let target = json!({"target": "localhost", "weight": 100});
        let made = admin.post("/upstreams/r/targets", target.clone()).await.expect(201).value();
        assert_eq!(made["target"], "localhost:8000");
        assert!(made["created_at"].is_f64() && made["updated_at"].is_f64());
        let target = json!({"target": "localhost", "weight": 7, "tags": ["a"]});
        let again = admin.post("/upstreams/r/targets", target).await.expect(200).value();
        assert_eq!((&again["id"], &again["weight"]), (&made["id"], &json!(7)));
        assert_eq!(again["tags"], json!(["a"]));
        assert_eq!(again["upstream"], made["upstream"]);
    }
}

on_every_database! {
    async fn admin_case_062_posting_a_target_again_as_in_kong_3_9(admin: Admin) {
        admin.service.answer_target_posts(TargetPost::Kong39);
        let up = admin.put("/upstreams/r", breaker("r")).await.expect(200).value();
        let target = json!({"target": "[::1]:80"});
        let made = admin.post("/upstreams/r/targets", target.clone()).await.expect(201).value();
        let normal = "[0000:0000:0000:0000:0000:0000:0000:0001]:80";
        assert_eq!(made["target"], normal);
        let again = admin.post("/upstreams/r/targets", target).await.expect(409).value();
        assert_eq!(again["code"], 5);
        assert_eq!(again["fields"], json!({"upstream": {"id": up["id"]}, "target": normal}));
    }
}

on_every_database! {
    async fn admin_case_063_names_and_hashing(admin: Admin) {
        let invalid = |name: &str, reason: &str| format!("schema violation (name: Invalid name ('{name}'); {reason})");
        for (name, reason) in [
            ("1.2.3.4", "no ip addresses allowed"), ("::1", "no ip addresses allowed"),
            ("a:80", "no port allowed"), ("a b", "must be a valid hostname"),
        ] {
            refused(&admin, json!({"name": name}), &invalid(name, reason)).await;
        }
        refused(&admin, json!({}), "schema violation (name: required field missing)").await;
        let by = |on: &str| format!("2 schema violations (failed conditional validation given value of field '{on}'; ");
        let missing = |on: &str, field: &str| format!("{}{field}: required field missing)", by(on));
        refused(&admin, json!({"name": "a", "hash_on": "header"}), &missing("hash_on", "hash_on_header")).await;
        refused(&admin, json!({"name": "a", "hash_on": "cookie"}), &missing("hash_on", "hash_on_cookie")).await;
        refused(
            &admin, json!({"name": "a", "hash_on": "ip", "hash_fallback": "query_arg"}),
            &missing("hash_fallback", "hash_fallback_query_arg"),
        ).await;
        refused(
            &admin, json!({"name": "a", "hash_on": "ip", "hash_fallback": "ip"}),
            &format!("{}hash_fallback: expected one of: none, consumer, header, cookie, path, query_arg, uri_capture)", by("hash_on")),
        ).await;
        refused(
            &admin, json!({"name": "a", "hash_fallback": "ip"}),
            &format!("{}hash_fallback: expected one of: none)", by("hash_on")),
        ).await;
        refused(
            &admin, json!({
                "name": "a", "hash_on": "header", "hash_on_header": "x", "hash_fallback": "header",
                "hash_fallback_header": "x",
            }),
            "schema violation (values of these fields must be distinct: 'hash_on_header', 'hash_fallback_header')",
        ).await;
        refused(&admin, json!({"name": "a", "slots": 9}), "schema violation (slots: value should be between 10 and 65536)").await;
        let reply = admin.put("/upstreams/a:80", json!({})).await.expect(400).value();
        assert_eq!((&reply["code"], &reply["name"]), (&json!(10), &json!("invalid unique name")));
        let hashed = admin.post("/upstreams", json!({"name": "a", "hash_on": "ip"})).await.expect(201).value();
        assert_eq!(hashed["algorithm"], "consistent-hashing");
        let least = admin.patch("/upstreams/a", json!({"algorithm": "least-connections"})).await.expect(200).value();
        assert_eq!((&least["algorithm"], &least["hash_on"]), (&json!("least-connections"), &json!("none")));
        let plain = admin.patch("/upstreams/a", json!({"hash_on": "none"})).await.expect(200).value();
        assert_eq!(plain["algorithm"], "round-robin");
    }
}

on_every_database! {
    async fn admin_case_064_targets_live_below_upstreams_only(admin: Admin) {
        let _ = admin.put("/upstreams/r", breaker("r")).await.expect(200);
        for path in ["/targets", "/targets/a", "/targets/a/upstream", "/upstreams/x/targets", "/upstreams/x/health"] {
            let _ = admin.get(path).await.expect(404);
        }
        for method in ["PUT", "PATCH"] {
            let _ = admin.json(method, "/upstreams/r/targets/unknown:1", json!({})).await.expect(404);
        }
        let reply = admin.post("/upstreams/r/targets", json!({"target": "a:b"})).await.expect(400);
        assert_eq!(reply.message(), "schema violation (target: Invalid target ('a:b'); not a valid hostname or ip address)");
        for target in ["one", "two:1", "three:2"] {
            let _ = admin.post("/upstreams/r/targets", json!({"target": target, "weight": 0})).await.expect(201);
        }
        for path in ["/upstreams/r/targets", "/upstreams/r/targets/all"] {
            let all = admin.get(path).await.expect(200).value();
            let names: Vec<_> = all["data"].as_array().unwrap().iter().map(|it| it["target"].clone()).collect();
            assert_eq!(names, ["three:2", "two:1", "one:8000"]);
        }
        let page = admin.get("/upstreams/r/targets?size=2").await.expect(200).value();
        let next = format!("{}&size=2", page["next"].as_str().unwrap());
        let page = admin.get(&next).await.expect(200).value();
        assert_eq!((&page["data"][0]["target"], &page["next"]), (&json!("one:8000"), &Value::Null));
        for method in ["PUT", "PATCH"] {
            let changed = admin.json(method, "/upstreams/r/targets/one", json!({"weight": 3})).await.expect(200).value();
            assert_eq!((&changed["target"], &changed["weight"]), (&json!("one:8000"), &json!(3)));
        }
        let _ = admin.get("/upstreams/r/targets/one:8000").await.expect(200);
        let _ = admin.put("/upstreams/other", json!({})).await.expect(200);
        let _ = admin.get("/upstreams/other/targets/one:8000").await.expect(404);
        let _ = admin.delete("/upstreams/r/targets/one").await.expect(204);
        let _ = admin.get("/upstreams/r/targets/one:8000").await.expect(404);
    }
}

on_every_database! {
    async fn every_kind_of_active_check_is_taken(admin: Admin) {
        for kind in ["tcp", "http", "https", "grpc", "grpcs"] {
            let checks = json!({"active": {"type": kind, "healthy": {"interval": 1}}});
            let body = json!({"name": kind, "healthchecks": checks, "use_srv_name": true});
            let made = admin.post("/upstreams", body).await.expect(201).value();
            assert_eq!(made["healthchecks"]["active"]["type"], kind);
            assert_eq!(made["use_srv_name"], true);
        }
    }
}

on_every_database! {
    async fn health_is_set_by_hand_and_needs_checks(admin: Admin) {
        let _ = admin.put("/upstreams/r", breaker("r")).await.expect(200);
        let _ = admin.put("/upstreams/plain", json!({})).await.expect(200);
        for upstream in ["r", "plain"] {
            let path = format!("/upstreams/{upstream}/targets");
            let _ = admin.post(&path, json!({"target": "127.0.0.1:9"})).await.expect(201);
        }
        let path = "/upstreams/r/targets/127.0.0.1:9";
        let _ = admin.post(&format!("{path}/healthy"), json!({})).await.expect(405);
        let _ = admin.put("/upstreams/r/targets/x:1/healthy", json!({})).await.expect(404);
        let unchecked = admin.put("/upstreams/plain/targets/127.0.0.1:9/healthy", json!({})).await.expect(400);
        assert_eq!(unchecked.message(), "no healthchecker found for plain");
        let _ = admin.put(&format!("{path}/somewhere/healthy"), json!({})).await.expect(404);
        let before = admin.get("/upstreams/r/health").await.expect(200).value();
        assert_eq!(before["data"][0]["health"], "HEALTHCHECKS_OFF", "no data plane is known");
        let gateway = gateway(&admin, ambient()).await;
        let health = async || {
            gateway.load(&admin.store).await.unwrap();
            admin.get("/upstreams/r/health").await.expect(200).value()
        };
        let seen = health().await;
        assert_eq!(seen["data"][0]["health"], "HEALTHY");
        assert!(seen["node_id"].is_string() && seen["next"].is_null());
        assert_eq!(seen["data"][0]["data"], json!({
            "host": "127.0.0.1", "port": 9, "dns": "A", "nodeWeight": 100,
            "weight": {"total": 100, "available": 100, "unavailable": 0},
            "addresses": [{"ip": "127.0.0.1", "port": 9, "weight": 100, "health": "HEALTHY"}],
        }));
        let _ = admin.put(&format!("{path}/unhealthy"), json!({})).await.expect(204);
        let seen = health().await;
        assert_eq!(seen["data"][0]["health"], "UNHEALTHY");
        assert_eq!(seen["data"][0]["data"]["weight"], json!({"total": 100, "available": 0, "unavailable": 100}));
        let whole = admin.get("/upstreams/r/health?balancer_health=1").await.expect(200).value();
        assert_eq!((&whole["data"]["health"], &whole["data"]["balancer_health"]), (&json!("UNHEALTHY"), &json!("UNHEALTHY")));
        let _ = admin.put(&format!("{path}/127.0.0.1:8/healthy"), json!({})).await.expect(204);
        assert_eq!(health().await["data"][0]["health"], "UNHEALTHY");
        let _ = admin.put(&format!("{path}/127.0.0.1:9/healthy"), json!({})).await.expect(204);
        assert_eq!(health().await["data"][0]["health"], "HEALTHY");
        let plain = admin.get("/upstreams/plain/health").await.expect(200).value();
        assert_eq!(plain["data"][0]["health"], "HEALTHCHECKS_OFF");
        // Orders end with their target.
        let _ = admin.delete("/upstreams/r").await.expect(204);
        let left = admin.store.everything(&[TARGET_HEALTH, "targets"]).await.unwrap();
        assert_eq!(left.records.len(), 1);
    }
}

/// A data plane over the same store, known to the Admin API.
async fn gateway(admin: &Admin, ambient: Ambient) -> Arc<Gateway> {
    let metrics = o28m_telemetry::metrics::Registry::default();
    let settings = o28m_gateway::Settings::default();
    let gateway = Gateway::new(settings, Vec::new(), Vec::new(), &metrics, ambient).unwrap();
    gateway.load(&admin.store).await.unwrap();
    admin.service.show_health_of(&gateway);
    gateway
}
