//! Requests that are refused.

use http::Method;
use serde_json::json;

use crate::harness::{Call, World};

#[tokio::test]
async fn jumper_case_041_error_bodies_have_eight_members() {
    let world = World::start();
    let call = Call::get("/proxy/x")
        .with("x-b3-traceid", "abc")
        .with("x-tardis-traceid", "t");
    let reply = world.call(&call).await.expect(500);
    assert_eq!(reply.header("content-type"), "application/json");
    assert_eq!(
        reply.json(),
        json!({
            "service": "jumper", "timestamp": "2026-09-10T00:26:40.000Z",
            "message": "missing routing information remote_api_url / jc.loadBalancing",
            "error": "Internal Server Error", "status": 500, "method": "GET",
            "traceId": "abc", "tardisTraceId": "t",
        })
    );
}

#[tokio::test]
async fn jumper_case_042_a_token_is_expected() {
    let world = World::start();
    let reply = world.call(&world.real().without("authorization")).await;
    assert_eq!(
        reply.expect(500).message(),
        "Token not provided, but expected"
    );
}

#[tokio::test]
async fn jumper_case_043_tokens_must_look_like_tokens() {
    let world = World::start();
    for (value, message) in [
        ("Basic abc", "Invalid token format, Missing Bearer prefix"),
        ("Bearer abc", "Invalid token format"),
        ("Bearer a.b.c", "Invalid token payload"),
    ] {
        let call = world.real().with("authorization", value);
        assert_eq!(world.call(&call).await.expect(500).message(), message);
    }
    assert!(world.provider.take().is_empty());
}

#[tokio::test]
async fn jumper_case_044_the_scheme_is_compared_without_case() {
    let world = World::start();
    let value = format!("bearer {}", world.token(json!({})));
    let call = world.real().with("authorization", &value);
    assert_eq!(world.claims(&call).await["azp"], "stargate");
}

#[tokio::test]
async fn jumper_case_046_configurations_are_decoded_or_refused_without_echo() {
    let world = World::start();
    for (value, status, message) in [
        ("%%%", 500, "Illegal base64 character 25"),
        ("e30", 200, ""),
        ("WzE=", 500, "can not base64decode header: jumper_config"),
        ("eyJmb28iOjF9", 200, ""),
    ] {
        let call = world.real().with("jumper_config", value);
        let reply = world.call(&call).await.expect(status);
        if status == 500 {
            assert_eq!(reply.message(), message);
        }
    }
    let call = world.real().with("routing_config", "");
    let reply = world.call(&call).await.expect(500);
    assert_eq!(
        reply.message(),
        "can not base64decode header: routing_config"
    );
}

#[tokio::test]
async fn jumper_case_047_no_weight_means_no_upstream() {
    let world = World::start();
    let balanced = |servers| {
        let config = json!({"loadBalancing": {"servers": servers}});
        world.real().without("remote_api_url").config(config)
    };
    let reply = world
        .call(&balanced(json!([{"upstream": "http://h", "weight": 0}])))
        .await;
    assert_eq!(reply.expect(502).message(), "can not calculate upstream");
    let reply = world.call(&balanced(json!([]))).await.expect(500);
    assert_eq!(
        reply.message(),
        "missing routing information remote_api_url / jc.loadBalancing"
    );
    let one = balanced(json!([{"upstream": world.provider.url(), "weight": "1"}]));
    assert_eq!(world.forwarded(&one).await.uri(), "/callback");
}

#[tokio::test]
async fn jumper_case_054_unknown_and_dangerous_paths_are_refused() {
    let world = World::start();
    for (method, path, status) in [
        (Method::GET, "/proxyfoo", 404),
        (Method::GET, "/autoevent", 404),
        (Method::TRACE, "/proxy", 400),
        (Method::GET, "/proxy/a/../b", 400),
        (Method::GET, "/proxy/%00", 400),
        (Method::GET, "/proxy/a%2f..%2fb", 400),
        (Method::GET, "/proxy?a=%zz", 400),
    ] {
        let call = Call {
            method,
            ..world.real().at(path)
        };
        // Through the door: a listener may refuse some of these before anybody sees them.
        let reply = world.call_in_process(&call).await.expect(status);
        assert_eq!(reply.json()["status"], status);
    }
    assert!(world.provider.take().is_empty());
}

#[tokio::test]
async fn probes_answer_and_readiness_ends_with_the_drain() {
    let world = World::start();
    let get = async |path: &str| world.call(&Call::get(path)).await;
    for path in ["/actuator/health/liveness", "/actuator/health/readiness"] {
        let reply = get(path).await.expect(200);
        assert_eq!(reply.json(), json!({"status": "UP"}));
        assert_eq!(
            reply.header("content-type"),
            "application/vnd.spring-boot.actuator.v3+json"
        );
    }
    let reply = get("/actuator/health").await.expect(200);
    assert_eq!(reply.json()["groups"], json!(["liveness", "readiness"]));
    world.jumper.drain();
    let reply = get("/actuator/health/readiness").await.expect(503);
    assert_eq!(reply.json(), json!({"status": "OUT_OF_SERVICE"}));
    let _ = get("/actuator/health/liveness").await.expect(200);
}

#[tokio::test]
async fn errors_for_head_have_no_body() {
    let world = World::start();
    let call = Call {
        method: Method::HEAD,
        ..Call::get("/nope")
    };
    for _ in 0..2 {
        assert!(world.call(&call).await.expect(404).body.is_empty());
    }
}
