//! A consumer's call through the whole chain, configured as a control plane configures it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use o28m_jose::{Algorithm, CompactJws, JwkSet, VerifyingKey};
use o28m_testkit::{Client, Platform, Upstream, on_every_database};
use serde_json::{Value, json};

const CLIENT: &str = "eni--hyperion--shop";

/// Creates the consumer's client in realm `default` and gives its token.
async fn consumer_token(platform: &Platform) -> String {
    let admin = platform.realm_admin().await;
    let client = json!({
        "clientId": CLIENT, "name": CLIENT, "enabled": true, "fullScopeAllowed": false,
        "serviceAccountsEnabled": true, "standardFlowEnabled": false, "secret": "topsecret",
        "protocolMappers": [{
            "name": "Client ID", "protocol": "openid-connect",
            "protocolMapper": "oidc-usersessionmodel-note-mapper",
            "config": {
                "user.session.note": "clientId", "id.token.claim": "true",
                "access.token.claim": "true", "userinfo.token.claim": "false",
                "claim.name": "clientId", "jsonType.label": "String",
            },
        }],
    });
    let url = platform.iris("/admin/realms/default/clients");
    let _ = admin.json("POST", &url, client).await.expect(201);
    platform.token("default", CLIENT, "topsecret").await
}

/// Writes the objects of one real route, call by call as the control plane does.
async fn real_route(platform: &Platform, provider: &str) {
    let put = async |path: &str, body: Value| {
        let _ = platform.admin("PUT", path, body).await.expect(200);
    };
    let jumper = json!({
        "enabled": true, "name": "shop-orders-v1", "host": "localhost", "path": "/proxy",
        "port": 8080, "protocol": "http", "tags": ["env--dev", "route--shop-orders-v1"],
    });
    let reply = platform
        .admin("PUT", "/services/shop-orders-v1", jumper)
        .await
        .expect(200);
    let route = json!({
        "name": "shop-orders-v1", "paths": ["/shop/orders/v1"], "preserve_host": false,
        "protocols": ["http", "https"], "request_buffering": true, "response_buffering": true,
        "https_redirect_status_code": 426, "service": {"id": reply.json()["id"]},
        "tags": ["env--dev", "route--shop-orders-v1"],
    });
    put("/routes/shop-orders-v1", route).await;
    put(
        &format!("/consumers/{CLIENT}"),
        json!({"custom_id": CLIENT, "username": "", "tags": []}),
    )
    .await;
    let acls = format!("/consumers/{CLIENT}/acls");
    let _ = platform
        .admin("POST", &acls, json!({"group": CLIENT}))
        .await
        .expect(201);
    let plugins = [
        (
            "94de6976-4bc9-4dc6-bab6-9a16794d41d5",
            "jwt-keycloak",
            json!({
                "allowed_iss": [platform.iris("/realms/default")], "consumer_match": true,
                "consumer_match_claim": "azp", "consumer_match_claim_custom_id": true,
                "consumer_match_ignore_not_found": false,
            }),
        ),
        (
            "dd040ebc-47bc-4e9d-9323-f170abd5f9ea",
            "acl",
            json!({
                "allow": [CLIENT], "deny": [], "hide_groups_header": false,
            }),
        ),
        (
            "5ad4f40f-4139-4bde-b9f8-731ea6ec2e19",
            "request-transformer",
            json!({
                "add": {"headers": ["environment:dev", "realm:default"]},
                "append": {"headers": [
                    format!("remote_api_url:{provider}/api"), "api_base_path:/api",
                    "access_token_forwarding:false",
                    format!("jumper_config:{}", STANDARD.encode(
                        json!({"oauth": {CLIENT: {"scopes": "read write"}}}).to_string()
                    )),
                ]},
                "remove": {"headers": ["consumer-token"]},
                "rename": {},
                "replace": {"headers": [
                    "environment:dev", "realm:default",
                    "Authorization:$(headers['consumer-token'] or headers['Authorization'])",
                ]},
            }),
        ),
    ];
    for (id, name, config) in plugins {
        let body = json!({
            "enabled": true, "name": name, "config": config, "protocols": ["http"],
            "route": {"name": "shop-orders-v1"},
            "tags": ["env--dev", format!("plugin--{name}"), "route--shop-orders-v1", "consumer--none"],
        });
        put(&format!("/routes/shop-orders-v1/plugins/{id}"), body).await;
    }
    platform.applied().await;
}

/// Verifies a One Token by `kid` against the issuer's published keys, as a provider does.
async fn verified(platform: &Platform, token: &str) -> Value {
    let jws = CompactJws::parse(token).unwrap();
    let header: Value = serde_json::from_slice(&jws.header).unwrap();
    let claims: Value = serde_json::from_slice(&jws.payload).unwrap();
    let discovery = format!(
        "{}/.well-known/openid-configuration",
        claims["iss"].as_str().unwrap()
    );
    let discovery = platform.http.get(&discovery).await.expect(200).json();
    assert_eq!(discovery["issuer"], claims["iss"]);
    let jwks = platform
        .http
        .get(discovery["jwks_uri"].as_str().unwrap())
        .await
        .expect(200);
    let keys: JwkSet = serde_json::from_slice(&jwks.body).unwrap();
    let key = keys.by_kid(header["kid"].as_str().unwrap()).unwrap();
    let key = VerifyingKey::from_jwk(key, Algorithm::RS256).unwrap();
    key.verify(jws.signing_input.as_bytes(), &jws.signature)
        .unwrap();
    claims
}

on_every_database! {
    async fn the_provider_receives_a_verifiable_one_token(platform: Platform) {
        let provider = Upstream::ok();
        let token = consumer_token(&platform).await;
        real_route(&platform, &provider.url()).await;

        let url = platform.gateway("/shop/orders/v1/items/7?full=1");
        let client = platform.http.bearer(&token);
        let _ = client.get(&url).await.expect(200);

        let received = provider.take();
        let [request] = received.as_slice() else { panic!("{} requests", received.len()) };
        assert_eq!(request.uri(), "/api/items/7?full=1");
        let header = |name: &str| {
            request.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned()
        };
        for control in ["remote_api_url", "api_base_path", "jumper_config", "x-consumer-id"] {
            assert_eq!(header(control), "", "{control} must not reach the provider");
        }
        assert_eq!(header("x-origin-zone"), "zone1");
        assert_eq!(header("x-origin-stargate"), platform.gateway(""));
        assert_eq!(header("realm"), "default");

        let one_token = header("authorization");
        let one_token = one_token.strip_prefix("Bearer ").unwrap();
        let claims = verified(&platform, one_token).await;
        let incoming = CompactJws::parse(&token).unwrap();
        let incoming: Value = serde_json::from_slice(&incoming.payload).unwrap();
        assert_eq!(claims, json!({
            "typ": "Bearer", "azp": "stargate", "sub": incoming["sub"], "operation": "GET",
            "clientId": CLIENT, "originZone": "zone1", "originStargate": platform.gateway(""),
            "requestPath": "/api/items/7", "env": "dev", "scope": "read write",
            "iss": format!("{}/default", platform.credential("ISSUER_URL")),
            "exp": incoming["exp"], "iat": incoming["iat"],
        }));
    }
}

on_every_database! {
    async fn jumper_case_066_plugins_case_055_clients_cannot_steer_the_token_gateway(
        platform: Platform
    ) {
        let provider = Upstream::ok();
        let stranger = Upstream::ok();
        let token = consumer_token(&platform).await;
        real_route(&platform, &provider.url()).await;
        let client = steering(&platform, &token, &stranger);
        let _ = client.get(&platform.gateway("/shop/orders/v1")).await.expect(200);
        assert!(stranger.take().is_empty());
        let received = provider.take();
        assert_eq!(received.len(), 1);
        for name in ["issuer", "token_endpoint", "x-consumer-id"] {
            assert!(!received[0].headers().contains_key(name), "{name}");
        }
        let one_token = received[0].headers()["authorization"].to_str().unwrap();
        let claims = verified(&platform, one_token.strip_prefix("Bearer ").unwrap()).await;
        assert_eq!(claims["azp"], "stargate");
    }
}

on_every_database! {
    async fn jumper_case_070_a_load_balanced_route_goes_to_its_own_servers(platform: Platform) {
        let provider = Upstream::ok();
        let stranger = Upstream::ok();
        let token = consumer_token(&platform).await;
        real_route(&platform, &provider.url()).await;
        let server = json!({"upstream": format!("{}/api", provider.url()), "weight": 1});
        let balancing = json!({"loadBalancing": {"servers": [server]}}).to_string();
        let headers = [format!("jumper_config:{}", STANDARD.encode(balancing)), "api_base_path:/api".to_owned()];
        let transformer = "/plugins/5ad4f40f-4139-4bde-b9f8-731ea6ec2e19";
        let change = json!({"config": {"append": {"headers": headers}}});
        let _ = platform.admin("PATCH", transformer, change).await.expect(200);
        platform.applied().await;
        let client = steering(&platform, &token, &stranger);
        let _ = client.get(&platform.gateway("/shop/orders/v1/items")).await.expect(200);
        assert!(stranger.take().is_empty());
        let received = provider.take();
        assert_eq!(received.len(), 1);
        assert_eq!(received[0].uri(), "/api/items");
    }
}

/// What the control plane makes of a circuit breaker, for a route that is there.
async fn circuit_breaker(platform: &Platform) {
    let name = "shop-orders-v1";
    let upstream = json!({
        "algorithm": "round-robin", "name": name, "tags": ["env--dev"],
        "healthchecks": {
            "active": {"type": "http", "healthy": {"http_statuses": [302, 200]}},
            "passive": {
                "type": "http", "healthy": {"successes": 30},
                "unhealthy": {
                    "http_failures": 10, "tcp_failures": 10, "timeouts": 10,
                    "http_statuses": [429, 500, 503],
                },
            },
        },
    });
    let path = format!("/upstreams/{name}");
    let _ = platform.admin("PUT", &path, upstream).await.expect(200);
    let target = json!({"target": "localhost:8080", "weight": 100, "tags": ["env--dev"]});
    let targets = format!("{path}/targets");
    let _ = platform.admin("POST", &targets, target).await.expect(201);
    let host = json!({"host": name});
    let service = format!("/services/{name}");
    let _ = platform.admin("PATCH", &service, host).await.expect(200);
    platform.applied().await;
}

on_every_database! {
    async fn the_control_planes_circuit_breaker_opens_and_is_closed_through_the_admin_api(
        platform: Platform
    ) {
        let broken = Arc::new(AtomicBool::new(true));
        let state = broken.clone();
        let provider = Upstream::start(move |_| {
            let status = if state.load(Ordering::SeqCst) { 500 } else { 200 };
            http::Response::builder().status(status).body(bytes::Bytes::new()).unwrap()
        });
        let token = consumer_token(&platform).await;
        real_route(&platform, &provider.url()).await;
        circuit_breaker(&platform).await;
        let client = platform.http.bearer(&token);
        let url = platform.gateway("/shop/orders/v1/items");
        for _ in 0..10 {
            let _ = client.get(&url).await.expect(500);
        }
        assert_eq!(provider.take().len(), 10);
        let refused = client.get(&url).await.expect(503).json();
        assert_eq!(refused["message"], "failure to get a peer from the ring-balancer");
        assert!(provider.take().is_empty());
        let health = async || {
            let path = "/upstreams/shop-orders-v1/health";
            platform.admin("GET", path, Value::Null).await.expect(200).json()
        };
        let seen = health().await;
        assert_eq!(seen["data"][0]["health"], "UNHEALTHY");
        assert_eq!(seen["data"][0]["data"]["weight"], json!({"total": 100, "available": 0, "unavailable": 100}));
        broken.store(false, Ordering::SeqCst);
        let path = "/upstreams/shop-orders-v1/targets/localhost:8080/healthy";
        let _ = platform.admin("PUT", path, json!({})).await.expect(204);
        platform.applied().await;
        let _ = client.get(&url).await.expect(200);
        assert_eq!(health().await["data"][0]["health"], "HEALTHY");
        assert_eq!(provider.take().len(), 1);
    }
}

/// A client that sends every header which could lead the token gateway elsewhere.
fn steering(platform: &Platform, token: &str, stranger: &Upstream) -> Client {
    let routing = json!([{"remoteApiUrl": stranger.url(), "realm": "default"}]).to_string();
    let mesh = json!({"mesh": true, "remoteApiUrl": stranger.url()}).to_string();
    platform
        .http
        .bearer(token)
        .with("routing_config", &STANDARD.encode(routing))
        .with("jumper_config", &STANDARD.encode(mesh))
        .with("remote_api_url", &stranger.url())
        .with("token_endpoint", &stranger.url())
        .with("issuer", "https://evil.example.com")
        .with("x-consumer-id", "someone-else")
}
