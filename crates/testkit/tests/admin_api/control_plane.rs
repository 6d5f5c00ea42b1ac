//! The sequences of calls of the control plane's gateway operator, in its order and with its quirks
//! (spec gateway-admin 17.3), by the way it takes: through the proxy, with a token.

use o28m_testkit::{Client, Database, Platform, Reply};
use serde_json::{Value, json};

use crate::platform;

/// The operator's client.
struct Operator {
    client: Client,
    base: String,
}

impl Operator {
    async fn new(platform: &Platform) -> Self {
        let token = platform.rover_token().await;
        Self {
            client: platform.http.bearer(&token),
            base: platform.gateway("/admin-api"),
        }
    }

    async fn send(&self, method: &str, path: &str, body: Value) -> Reply {
        let url = format!("{}{path}", self.base);
        if body.is_null() {
            self.client.send(method, &url, "").await
        } else {
            self.client.json(method, &url, body).await
        }
    }

    async fn put(&self, path: &str, body: Value) -> Value {
        self.send("PUT", path, body).await.expect(200).json()
    }

    async fn get(&self, path: &str) -> Value {
        self.send("GET", path, json!(null)).await.expect(200).json()
    }

    /// Finds a plugin as the operator does: by the id it knows, then by tags.
    async fn find(&self, known: &str, query: &str) -> Vec<Value> {
        let reply = self
            .send("GET", &format!("/plugins/{known}"), json!(null))
            .await;
        assert!(
            matches!(reply.status.as_u16(), 200 | 404),
            "{}",
            reply.text()
        );
        let found = self.get(&format!("/plugins?tags={query}")).await;
        found["data"].as_array().unwrap().clone()
    }
}

const KNOWN: &str = "0d1eb6e7-4b19-4b4c-9d35-ebb7a2a0a3f7";
const TAGS: &str = "env--dev,plugin--acl,route--orders,consumer--none";

fn tags(plugin: &str, consumer: &str) -> Value {
    json!([
        "env--dev",
        format!("plugin--{plugin}"),
        "route--orders",
        format!("consumer--{consumer}")
    ])
}

async fn sequences(platform: Platform) {
    let it = Operator::new(&platform).await;
    route(&it).await;
    consumer(&it).await;
    plugins(&it).await;
    circuit_breaker(&it).await;
    clean_up(&it).await;
}

/// A service and a route, with an upstream URL that has no path.
async fn route(it: &Operator) {
    let service = json!({
        "enabled": true, "name": "orders", "host": "localhost", "path": "", "protocol": "http",
        "port": 8080, "tags": ["env--dev", "route--orders"],
    });
    let service = it.put("/services/orders", service).await;
    assert_eq!(service["path"], Value::Null);
    let route = json!({
        "name": "orders", "protocols": ["http", "https"], "paths": ["/orders"], "hosts": ["gw"],
        "service": {"id": service["id"]}, "request_buffering": true, "response_buffering": true,
        "preserve_host": false, "https_redirect_status_code": 426, "tags": ["env--dev", "route--orders"],
    });
    let made = it.put("/routes/orders", route.clone()).await;
    assert!(made["id"].is_string());
    // Every reconcile sends everything again; nothing changes.
    assert_eq!(it.put("/routes/orders", route).await, made);
}

/// A consumer without a user name of its own, and its group.
async fn consumer(it: &Operator) {
    let consumer =
        json!({"custom_id": "shop", "username": "", "tags": ["env--dev", "consumer--shop"]});
    let made = it.put("/consumers/shop", consumer.clone()).await;
    assert_eq!(
        (&made["username"], &made["custom_id"]),
        (&json!("shop"), &json!("shop"))
    );
    assert_eq!(it.put("/consumers/shop", consumer).await["id"], made["id"]);
    let groups = it.get("/consumers/shop/acls").await;
    assert_eq!(groups["data"], json!([]));
    let group = json!({"group": "shop"});
    let _ = it
        .send("POST", "/consumers/shop/acls", group.clone())
        .await
        .expect(201);
    let groups = it.get("/consumers/shop/acls").await;
    assert_eq!(groups["data"][0]["group"], "shop");
    let _ = it
        .send("POST", "/consumers/shop/acls", group)
        .await
        .expect(409);
}

async fn plugins(it: &Operator) {
    assert_eq!(it.find(KNOWN, TAGS).await, Vec::<Value>::new());
    let acl = json!({
        "enabled": true, "name": "acl", "protocols": ["http"], "route": {"name": "orders"},
        "config": {"allow": ["shop"], "deny": [], "hide_groups_header": false},
        "tags": tags("acl", "none"),
    });
    let made = it
        .put(&format!("/routes/orders/plugins/{KNOWN}"), acl.clone())
        .await;
    assert_eq!(made["id"], KNOWN);
    let found = it.find(KNOWN, TAGS).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0], made);
    // Someone who did not look makes an id of its own, which is refused and names the scope.
    let other = "/routes/orders/plugins/1d1eb6e7-4b19-4b4c-9d35-ebb7a2a0a3f7";
    let refused = it.send("PUT", other, acl).await.expect(409).json();
    assert_eq!(refused["fields"]["service"], Value::Null);

    // Empty records, and a consumer that is a text because the path decides.
    let transformer = json!({
        "enabled": true, "name": "request-transformer", "protocols": ["http"],
        "route": {"name": "orders"}, "tags": tags("request-transformer", "none"),
        "config": {
            "add": {"headers": ["environment:dev"]}, "append": {}, "rename": {},
            "remove": {"headers": ["consumer-token"]},
            "replace": {"headers": ["Authorization:$(headers['consumer-token'] or headers['Authorization'])"]},
        },
    });
    let path = "/routes/orders/plugins/2d1eb6e7-4b19-4b4c-9d35-ebb7a2a0a3f7";
    let made = it.put(path, transformer).await;
    assert_eq!(
        made["config"]["append"],
        json!({"body": [], "headers": [], "querystring": []})
    );
    let limit = json!({
        "enabled": true, "name": "rate-limiting-merged", "consumer": "shop", "protocols": ["http"],
        "route": {"name": "orders"}, "config": {"limits": {"consumer": {"minute": 5}}, "policy": "local"},
        "tags": tags("rate-limiting-merged", "shop"),
    });
    let path = "/consumers/shop/plugins/3d1eb6e7-4b19-4b4c-9d35-ebb7a2a0a3f7";
    let made = it.put(path, limit).await;
    assert!(
        made["consumer"]["id"].is_string() && made["route"]["id"].is_string(),
        "{made}"
    );
    let addresses = json!({
        "enabled": true, "name": "ip-restriction", "consumer": "shop", "protocols": ["http"],
        "config": {"allow": [], "deny": ["192.0.2.0/24"]},
        "tags": ["env--dev", "plugin--ip-restriction", "consumer--shop"],
    });
    let _ = it
        .put(
            "/consumers/shop/plugins/4d1eb6e7-4b19-4b4c-9d35-ebb7a2a0a3f7",
            addresses,
        )
        .await;

    let of_route = it.get("/plugins?tags=env--dev,route--orders").await;
    assert_eq!(of_route["data"].as_array().unwrap().len(), 3);
    // The older operator asks below the route.
    let older = it.get(&format!("/routes/orders/plugins?tags={TAGS}")).await;
    assert_eq!(older["data"][0]["id"], KNOWN);
}

async fn circuit_breaker(it: &Operator) {
    let upstream = json!({
        "name": "orders", "algorithm": "round-robin", "tags": ["env--dev", "route--orders"],
        "healthchecks": {
            "active": {
                "type": "http", "healthy": {"http_statuses": [302, 200]},
                "unhealthy": {"http_statuses": [429, 404, 500, 501, 502, 503, 504, 505]},
            },
            "passive": {
                "type": "http", "healthy": {"http_statuses": [200, 201], "successes": 30},
                "unhealthy": {
                    "http_statuses": [429, 500, 503], "http_failures": 10, "tcp_failures": 10,
                    "timeouts": 10,
                },
            },
        },
    });
    let made = it.put("/upstreams/orders", upstream).await;
    assert_eq!(made["healthchecks"]["passive"]["healthy"]["successes"], 30);
    let target = json!({"target": "localhost:8080", "weight": 100, "tags": ["env--dev"]});
    let path = "/upstreams/orders/targets";
    let first = it
        .send("POST", path, target.clone())
        .await
        .expect(200)
        .json();
    let again = it.send("POST", path, target).await.expect(200).json();
    assert_eq!(first["id"], again["id"]);
    let single = format!("{path}/{}", first["id"].as_str().unwrap());
    let _ = it.send("DELETE", &single, json!(null)).await.expect(204);
    let _ = it.send("DELETE", &single, json!(null)).await.expect(404);
}

/// What is no longer wanted goes; deleting again is no error.
async fn clean_up(it: &Operator) {
    let stale = it.get("/plugins?tags=env--dev,route--orders").await;
    for plugin in stale["data"].as_array().unwrap() {
        let path = format!("/plugins/{}", plugin["id"].as_str().unwrap());
        let _ = it.send("DELETE", &path, json!(null)).await.expect(204);
    }
    // The service is still in use: a refusal, not a failure.
    let _ = it
        .send("DELETE", "/services/orders", json!(null))
        .await
        .expect(400);
    for path in [
        "/routes/orders",
        "/services/orders",
        "/upstreams/orders",
        "/consumers/shop",
    ] {
        let _ = it.send("DELETE", path, json!(null)).await.expect(204);
        let _ = it.send("DELETE", path, json!(null)).await.expect(204);
    }
    let left = it.get("/tags/env--dev").await;
    assert_eq!(left["data"], json!([]));
}

const SETTINGS: &[(&str, &str)] = &[("admin.target_post", "always200")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_sequences_pass_in_order_on_sqlite() {
    sequences(platform(Database::Sqlite, SETTINGS).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_sequences_pass_in_order_on_postgres() {
    if let Some(platform) = platform(Database::Postgres, SETTINGS).await {
        sequences(platform).await;
    }
}

/// A route right after its service, each by another replica behind one address.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_read_each_others_writes_at_once() {
    let Some(first) = platform(Database::Postgres, &[]).await else {
        return;
    };
    let second = first.replica().await;
    for at in 0..20 {
        let (one, other) = if at % 2 == 0 {
            (&first, &second)
        } else {
            (&second, &first)
        };
        let path = format!("/services/s{at}");
        let service = one
            .admin("PUT", &path, json!({"host": "h"}))
            .await
            .expect(200)
            .json();
        let route = json!({"paths": ["/a"], "service": {"id": service["id"]}});
        let _ = other
            .admin("PUT", &format!("/routes/r{at}"), route)
            .await
            .expect(200);
    }
    // Each replica tells what it has applied.
    let newest = o28m_testkit::eventually("both replicas to apply everything", async || {
        let body = first
            .admin("GET", "/config-version", json!(null))
            .await
            .expect(200)
            .json();
        let replicas = body["replicas"].as_array().unwrap();
        let is_done =
            replicas.len() == 2 && replicas.iter().all(|it| it["applied"] == body["version"]);
        is_done.then(|| body["version"].clone())
    })
    .await;
    let seen = second
        .admin("GET", "/config-version", json!(null))
        .await
        .expect(200)
        .json();
    assert_eq!(seen["version"], newest);
    // An order for the whole cluster reaches the other one; both are in one test process, which has one
    // log, so only that it is carried out can be seen.
    let reply = first
        .admin("PUT", "/debug/cluster/log-level/warn", json!(null))
        .await;
    assert_eq!(reply.expect(200).json()["message"], "log level changed");
}
