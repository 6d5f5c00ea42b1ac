//! Which authorization a request gets.

use serde_json::json;

use crate::harness::{CONSUMER, ISSUER_URL, Peer, World, header};

#[tokio::test]
async fn jumper_case_012_another_gateway_gets_a_mesh_token() {
    let world = World::start();
    let call = world
        .real()
        .config(json!({"mesh": true}))
        .without("environment");
    let received = world.forwarded(&call).await;
    let claims = world.verified(&received).await;
    assert_eq!(claims["azp"], "gateway");
    assert_eq!(claims["clientId"], CONSUMER);
    assert_eq!(claims["iss"], format!("{ISSUER_URL}/default"));
    assert!(claims.get("env").is_none() && claims.get("requestPath").is_none());
    assert!(!received.headers().contains_key("consumer-token"));
}

#[tokio::test]
async fn jumper_case_013_the_realm_header_names_the_issuer_of_mesh_tokens() {
    let world = World::start();
    let call = world
        .real()
        .config(json!({"mesh": true}))
        .with("realm", "sit");
    assert_eq!(
        world.claims(&call).await["iss"],
        format!("{ISSUER_URL}/sit")
    );
}

#[tokio::test]
async fn jumper_case_014_an_issuer_header_alone_means_mesh() {
    let world = World::start();
    let idp = Peer::ok();
    let call = world
        .real()
        .without("realm")
        .with("issuer", &format!("{}/auth/realms/sit", idp.url()))
        .with("client_id", "gateway")
        .with("client_secret", "secret");
    let received = world.forwarded(&call).await;
    let claims = world.verified(&received).await;
    assert_eq!(claims["azp"], "gateway");
    assert_eq!(claims["iss"], format!("{ISSUER_URL}/sit"));
    assert!(idp.take().is_empty());
    for control in ["issuer", "client_id", "client_secret"] {
        assert_eq!(header(received.headers(), control), "");
    }
}

#[tokio::test]
async fn jumper_case_015_consumers_from_the_internet_take_their_token_along() {
    let world = World::start();
    for (zone, passed) in [("space", true), ("SPACE", true), ("aws", false)] {
        let token = world.token(json!({"originZone": zone}));
        let call = world.real().config(json!({"mesh": true})).token(&token);
        let received = world.forwarded(&call).await;
        let expected = if passed {
            format!("Bearer {token}")
        } else {
            String::new()
        };
        assert_eq!(header(received.headers(), "x-spacegate-token"), expected);
    }
}

#[tokio::test]
async fn jumper_case_016_an_exchanged_token_counts_in_internet_facing_zones() {
    let space = World::in_zone("space");
    let call = |world: &World| world.real().with("x-token-exchange", "Bearer X");
    let received = space.forwarded(&call(&space)).await;
    assert_eq!(header(received.headers(), "authorization"), "Bearer X");
    let aws = World::in_zone("aws");
    assert_eq!(aws.claims(&call(&aws)).await["azp"], "stargate");
}

#[tokio::test]
async fn jumper_case_017_mesh_goes_before_exchange() {
    let world = World::in_zone("space");
    let call = world
        .real()
        .config(json!({"mesh": true}))
        .with("x-token-exchange", "Bearer X");
    assert_eq!(world.claims(&call).await["azp"], "gateway");
}

#[tokio::test]
async fn jumper_case_018_basic_credentials_are_the_consumers_else_the_default() {
    let world = World::start();
    let user = |name: &str| json!({"username": name, "password": "geheim"});
    for (config, expected) in [
        (
            json!({CONSUMER: user("own"), "default": user("all")}),
            "Basic b3duOmdlaGVpbQ==",
        ),
        (json!({"default": user("all")}), "Basic YWxsOmdlaGVpbQ=="),
    ] {
        let call = world.real().config(json!({"basicAuth": config}));
        let received = world.forwarded(&call).await;
        assert_eq!(header(received.headers(), "authorization"), expected);
    }
    let other = world
        .real()
        .config(json!({"basicAuth": {"other": user("x")}}));
    assert_eq!(world.claims(&other).await["azp"], "stargate");
}

#[tokio::test]
async fn jumper_case_019_exchange_goes_before_basic() {
    for (zone, expected) in [("canis", "Bearer X"), ("cetus", "Basic YTpi")] {
        let world = World::in_zone(zone);
        let config = json!({"basicAuth": {"default": {"username": "a", "password": "b"}}});
        let call = world
            .real()
            .config(config)
            .with("x-token-exchange", "Bearer X");
        let received = world.forwarded(&call).await;
        assert_eq!(header(received.headers(), "authorization"), expected);
    }
}

#[tokio::test]
async fn jumper_case_020_basic_credentials_that_cannot_be_sent() {
    let world = World::start();
    for (credentials, message) in [
        (
            json!({"username": "a:b", "password": "c"}),
            "Username must not contain a colon",
        ),
        (json!({"password": "c"}), "Username must not be null"),
        (json!({"username": "a"}), "Password must not be null"),
    ] {
        let call = world
            .real()
            .config(json!({"basicAuth": {"default": credentials}}));
        let reply = world.call(&call).await.expect(500);
        assert_eq!(reply.message(), message);
    }
    assert!(world.provider.take().is_empty());
}

#[tokio::test]
async fn jumper_case_021_headers_to_remove_include_the_one_token() {
    let world = World::start();
    let config = json!({"removeHeaders": ["dummy", "authorization"]});
    let call = world.real().config(config).with("dummy", "x");
    let received = world.forwarded(&call).await;
    for name in ["authorization", "dummy"] {
        assert!(!received.headers().contains_key(name));
    }
    let mesh = json!({"removeHeaders": ["authorization"], "mesh": true});
    assert_eq!(
        world.claims(&world.real().config(mesh)).await["azp"],
        "gateway"
    );
}
