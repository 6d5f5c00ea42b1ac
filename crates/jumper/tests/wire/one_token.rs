//! The gateway's own token towards providers.

use serde_json::json;

use crate::harness::{CONSUMER, ISSUER_URL, NOW_S, World, header, ring};

#[tokio::test]
async fn jumper_case_001_the_provider_gets_a_verifiable_one_token() {
    let world = World::start();
    let received = world.forwarded(&world.real()).await;
    assert_eq!(received.uri(), "/callback");
    assert_eq!(
        world.verified(&received).await.to_string(),
        json!({
            "typ": "Bearer", "azp": "stargate", "sub": "6c0", "operation": "GET",
            "clientId": CONSUMER, "originZone": "localZone",
            "originStargate": "https://zone.example.com",
            "requestPath": "/eni/test/v1/callback", "env": "localEnv",
            "iss": format!("{ISSUER_URL}/default"), "exp": NOW_S + 300, "iat": NOW_S,
        })
        .to_string()
    );
}

#[tokio::test]
async fn jumper_case_006_the_last_realm_counts() {
    let world = World::start();
    let call = world.real().without("realm");
    let call = ["foo", "huhuhu", "default"]
        .iter()
        .fold(call, |call, realm| call.and("realm", realm));
    let claims = world.claims(&call).await;
    assert_eq!(claims["iss"], format!("{ISSUER_URL}/default"));
}

#[tokio::test]
async fn jumper_case_007_also_within_one_line() {
    let world = World::start();
    let call = world.real().with("realm", "foo,huhuhu,default");
    let claims = world.claims(&call).await;
    assert_eq!(claims["iss"], format!("{ISSUER_URL}/default"));
}

#[tokio::test]
async fn jumper_case_008_publisher_and_subscriber_become_claims() {
    let world = World::start();
    let call = world
        .real()
        .with("x-pubsub-publisher-id", "testPublisher")
        .with("x-pubsub-subscriber-id", "testSubscriber");
    let claims = world.claims(&call).await;
    assert_eq!(claims["publisherId"], "testPublisher");
    assert_eq!(claims["subscriberId"], "testSubscriber");
    assert_eq!(claims["aud"], "testSubscriber");
}

#[tokio::test]
async fn jumper_case_009_the_incoming_audience_goes_before_the_subscriber() {
    let world = World::start();
    for (incoming, outgoing) in [
        (json!("a"), json!("a")),
        (json!(["a"]), json!("a")),
        (json!(["a", "b"]), json!(["a", "b"])),
    ] {
        let call = world
            .real()
            .with("x-pubsub-subscriber-id", "testSubscriber")
            .token(&world.token(json!({"aud": incoming})));
        assert_eq!(world.claims(&call).await["aud"], outgoing);
    }
}

#[tokio::test]
async fn jumper_case_010_configured_scopes_become_a_claim() {
    let world = World::start();
    let call = world
        .real()
        .config(json!({"oauth": {CONSUMER: {"scopes": "scope1 scope2"}}}));
    let claims = world.claims(&call).await;
    assert_eq!(claims["scope"], "scope1 scope2");
    assert_eq!(claims["azp"], "stargate");
}

#[tokio::test]
async fn jumper_case_011_a_configured_audience_wins() {
    let world = World::start();
    let call = |rule| {
        world
            .real()
            .config(json!({"claims": {"default": [rule]}}))
            .token(&world.token(json!({"aud": "a"})))
    };
    let literal = call(json!({"key": "aud", "value": "x"}));
    assert_eq!(world.claims(&literal).await["aud"], "x");
    let consumer = call(json!({"key": "aud", "valueFrom": "ConsumerClientId"}));
    assert_eq!(world.claims(&consumer).await["aud"], CONSUMER);
    let both = call(json!({"key": "aud", "value": "x", "valueFrom": "ConsumerClientId"}));
    let reply = world.call(&both).await.expect(500);
    assert_eq!(
        reply.message(),
        "Invalid aud claim configuration: exactly one of value or valueFrom must be set"
    );
}

#[tokio::test]
async fn jumper_case_045_an_expired_token_counts_for_an_hour() {
    let world = World::start();
    let expired = |seconds| world.token(json!({"exp": NOW_S - seconds}));
    let claims = world.claims(&world.real().token(&expired(1800))).await;
    assert_eq!(claims["exp"], NOW_S - 1800);
    let late = world.real().token(&expired(7200));
    let reply = world.call(&late).await.expect(500);
    assert!(reply.message().starts_with("JWT expired "));
}

#[tokio::test]
async fn jumper_case_063_another_key_signs_from_the_next_request_on() {
    let world = World::start();
    let kid = async || {
        let received = world.forwarded(&world.real()).await;
        let _ = world.verified(&received).await;
        let token = header(received.headers(), "authorization").to_owned();
        let jws = o28m_jose::CompactJws::parse(token.trim_start_matches("Bearer ")).unwrap();
        let parsed: serde_json::Value = serde_json::from_slice(&jws.header).unwrap();
        parsed["kid"].clone()
    };
    assert_eq!(kid().await, "first");
    let next = ring(1, Some(&world.keys.load()));
    world.keys.store(next.into());
    assert_eq!(kid().await, "second");
    let gone = o28m_jose::slots::KeyRing::new(Default::default(), Some(&world.keys.load()));
    world.keys.store(gone.into());
    let reply = world.call(&world.real()).await.expect(503);
    assert_eq!(reply.message(), "no signing key available");
    assert_eq!(world.metric("jumper_keyinfo_load_status"), "0");
}

#[tokio::test]
async fn jumper_case_069_equal_tokens_are_signed_once() {
    let world = World::start();
    let misses = || world.metric("o28m_jumper_lms_cache_misses_total");
    for _ in 0..200 {
        let _ = world.call(&world.real()).await.expect(200);
    }
    assert_eq!(misses(), "1");
    let tokens: std::collections::HashSet<String> = world
        .provider
        .take()
        .iter()
        .map(|request| header(request.headers(), "authorization").to_owned())
        .collect();
    assert_eq!(tokens.len(), 1);
    let _ = world
        .call(&world.real().at("/proxy/other"))
        .await
        .expect(200);
    assert_eq!(misses(), "2");
    world.clock.advance(301);
    let _ = world.call(&world.real()).await.expect(200);
    assert_eq!(misses(), "3");
}
