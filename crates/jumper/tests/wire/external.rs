//! Tokens of external identity providers.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response};
use o28m_jose::{Algorithm, CompactJws, SigningKey, VerifyingKey, base64std};
use serde_json::{Value, json};

use crate::harness::{CONSUMER, Call, NOW_S, Peer, RawPeer, World, closed_url, header};

const CONFIGURED: &str = "client_id=id&client_secret=secret&grant_type=client_credentials";

fn idp() -> Peer {
    Peer::json(200, json!({"access_token": "T", "expires_in": 300}))
}

/// A call whose route has credentials at an identity provider.
fn call(world: &World, endpoint: &str, credentials: Value) -> Call {
    world
        .real()
        .with("token_endpoint", endpoint)
        .config(json!({"oauth": {"default": credentials}}))
}

fn client() -> Value {
    json!({"clientId": "id", "clientSecret": "secret"})
}

/// What the identity provider was asked for, after a call that ends with `status`.
async fn asked(world: &World, idp: &Peer, call: &Call) -> (String, String) {
    let _ = world.call(call).await.expect(200);
    let received = world.provider.only();
    assert_eq!(header(received.headers(), "authorization"), "Bearer T");
    assert_eq!(header(received.headers(), "token_endpoint"), "");
    let request = idp.only();
    assert_eq!(
        header(request.headers(), "content-type"),
        "application/x-www-form-urlencoded"
    );
    let body = String::from_utf8(request.body().to_vec()).unwrap();
    (header(request.headers(), "authorization").to_owned(), body)
}

#[tokio::test]
async fn jumper_case_022_client_credentials_without_grant_type() {
    let (world, idp) = (World::start(), idp());
    let call = call(&world, &idp.url(), client());
    let asked = asked(&world, &idp, &call).await;
    assert_eq!(asked, (String::new(), CONFIGURED.to_owned()));
}

#[tokio::test]
async fn jumper_case_023_configured_scopes_are_asked_for() {
    let (world, idp) = (World::start(), idp());
    let mut credentials = client();
    credentials["scopes"] = json!("scope_configured");
    let call = call(&world, &idp.url(), credentials);
    let (_, body) = asked(&world, &idp, &call).await;
    assert_eq!(body, format!("{CONFIGURED}&scope=scope_configured"));
}

#[tokio::test]
async fn jumper_case_024_the_consumers_own_credentials_win() {
    let (world, idp) = (World::start(), idp());
    let own = [
        ("x-spacegate-client-id", "mine"),
        ("x-spacegate-client-secret", "my secret"),
        ("x-spacegate-scope", "my/scope"),
    ];
    let call = own
        .iter()
        .fold(call(&world, &idp.url(), client()), |call, (name, value)| {
            call.with(name, value)
        });
    let _ = world.call(&call).await.expect(200);
    let received = world.provider.only();
    for (name, _) in own {
        assert!(!received.headers().contains_key(name), "{name}");
    }
    assert_eq!(
        idp.only().body(),
        "client_id=mine&client_secret=my+secret&grant_type=client_credentials&scope=my%2Fscope"
    );
}

#[tokio::test]
async fn jumper_case_025_a_grant_type_moves_the_client_into_the_header() {
    let (world, idp) = (World::start(), idp());
    let mut credentials = client();
    credentials["grantType"] = json!("client_credentials");
    let call = call(&world, &idp.url(), credentials);
    let (basic, body) = asked(&world, &idp, &call).await;
    assert_eq!(basic, format!("Basic {}", base64std(b"id:secret")));
    assert_eq!(body, "grant_type=client_credentials");
}

#[tokio::test]
async fn jumper_case_026_unless_the_body_is_asked_for() {
    let (world, idp) = (World::start(), idp());
    let mut credentials = client();
    credentials["grantType"] = json!("client_credentials");
    credentials["tokenRequest"] = json!("BODY");
    let call = call(&world, &idp.url(), credentials);
    let asked = asked(&world, &idp, &call).await;
    assert_eq!(asked, (String::new(), CONFIGURED.to_owned()));
}

#[tokio::test]
async fn jumper_case_027_password_grants_with_and_without_client() {
    let (world, idp) = (World::start(), idp());
    let password = json!({"grantType": "password", "username": "username", "password": "geheim"});
    let mut with_client = client();
    with_client
        .as_object_mut()
        .unwrap()
        .extend(password.as_object().unwrap().clone());
    let expected = "username=username&password=geheim&grant_type=password";
    for (credentials, has_basic) in [(with_client, true), (password, false)] {
        let call = call(&world, &idp.url(), credentials);
        let (basic, body) = asked(&world, &idp, &call).await;
        assert_eq!(body, expected);
        assert_eq!(!basic.is_empty(), has_basic);
    }
}

#[tokio::test]
async fn jumper_case_028_a_client_key_signs_an_assertion() {
    let (world, idp) = (World::start(), idp());
    let der = SigningKey::generate_pkcs8(Algorithm::RS256).unwrap();
    let key = SigningKey::from_pkcs8("", Algorithm::RS256, &der).unwrap();
    let credentials = json!({
        "clientId": "id", "clientKey": base64std(&der), "grantType": "client_credentials",
    });
    let call = call(&world, &idp.url(), credentials);
    let (_, body) = asked(&world, &idp, &call).await;
    let fields: Vec<(String, String)> = form_urlencoded::parse(body.as_bytes())
        .into_owned()
        .collect();
    let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "client_id",
        "client_assertion",
        "client_assertion_type",
        "grant_type",
    ];
    assert_eq!(names, expected);
    assert_eq!(
        fields[2].1,
        "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    );
    let jws = CompactJws::parse(&fields[1].1).unwrap();
    assert_eq!(jws.header, br#"{"typ":"JWT","alg":"RS256"}"#);
    let public = VerifyingKey::from_jwk(&key.public_jwk(), Algorithm::RS256).unwrap();
    public
        .verify(jws.signing_input.as_bytes(), &jws.signature)
        .unwrap();
    let mut claims: Value = serde_json::from_slice(&jws.payload).unwrap();
    assert!(o28m_core::id::is_uuid(claims["jti"].as_str().unwrap()));
    claims["jti"] = json!("");
    assert_eq!(
        claims.to_string(),
        json!({"sub": "id", "aud": [idp.url()], "jti": "", "iss": "id",
               "exp": NOW_S + 60, "iat": NOW_S})
        .to_string()
    );
}

/// PKCS#8 of an RSA key with 1024 bits, made for this test.
const WEAK_KEY: &str = include_str!("weak_key.txt");

#[tokio::test]
async fn jumper_case_029_client_keys_that_cannot_be_used() {
    let world = World::start();
    let idp = Peer::json(404, json!({}));
    let weak = "Key is too weak: The JWT JWA Specification (RFC 7518, Section 3.3) states that keys used with RS256 MUST have a size >= 2048 bits.";
    let invalid = "Invalid key configuration: Last unit does not have enough valid bits".to_owned();
    let refused = format!(
        "Failed to retrieve token from {}, original status: 404 NOT_FOUND",
        idp.url()
    );
    for (key, message, calls) in [
        (WEAK_KEY.trim(), weak.to_owned(), 0),
        ("InvalidRSAKey", invalid, 0),
        ("", refused, 1),
    ] {
        let credentials =
            json!({"clientId": "id", "clientKey": key, "grantType": "client_credentials"});
        let reply = world.call(&call(&world, &idp.url(), credentials)).await;
        assert_eq!(reply.expect(401).message(), message);
        assert_eq!(idp.take().len(), calls);
    }
}

#[tokio::test]
async fn jumper_case_030_credentials_are_needed() {
    let (world, idp) = (World::start(), idp());
    let call = world.real().with("token_endpoint", &idp.url());
    let reply = world.call(&call).await.expect(401);
    assert_eq!(
        reply.message(),
        format!("Missing oauth config credentials for consumer {CONSUMER}")
    );
}

#[tokio::test]
async fn jumper_case_031_refusals_of_the_identity_provider_are_named() {
    let world = World::start();
    for (status, name) in [
        (401, "401 UNAUTHORIZED"),
        (403, "403 FORBIDDEN"),
        (404, "404 NOT_FOUND"),
        (405, "405 METHOD_NOT_ALLOWED"),
        (406, "406 NOT_ACCEPTABLE"),
        (408, "408 REQUEST_TIMEOUT"),
        (418, "418 I_AM_A_TEAPOT"),
        (502, "502 BAD_GATEWAY"),
        (503, "503 SERVICE_UNAVAILABLE"),
        (555, "555"),
    ] {
        let idp = Peer::json(status, json!({"secret": "inside"}));
        let reply = world.call(&call(&world, &idp.url(), client())).await;
        let reply = reply.expect(401);
        let message = format!(
            "Failed to retrieve token from {}, original status: {name}",
            idp.url()
        );
        assert_eq!(reply.message(), message);
        assert_eq!(reply.json()["error"], "Unauthorized");
    }
    assert!(world.provider.take().is_empty());
}

#[tokio::test]
async fn jumper_case_032_answers_that_are_no_tokens() {
    let world = World::start();
    let typed = |content_type: Option<&'static str>, body: &'static str| {
        Peer::start(move |_| {
            let mut response = Response::new(Bytes::from_static(body.as_bytes()));
            if let Some(content_type) = content_type {
                let value = HeaderValue::from_static(content_type);
                response.headers_mut().insert("content-type", value);
            }
            response
        })
    };
    let token = r#"{"access_token":"T"}"#;
    for (idp, message) in [
        (
            typed(Some("application/json"), ""),
            "Empty response while fetching token from <ep>",
        ),
        (
            typed(None, token),
            "Failed while fetching token from <ep>: Content type 'application/octet-stream' not supported for TokenInfo",
        ),
        (
            typed(Some("text/html"), token),
            "Failed while fetching token from <ep>: Content type 'text/html' not supported for TokenInfo",
        ),
        (
            typed(Some("application/json"), "{}"),
            "Failed while fetching token from <ep>: no access_token in response",
        ),
        (
            typed(
                Some("application/json"),
                r#"{"access_token":"T","expires_in":null}"#,
            ),
            "Failed while fetching token from <ep>: expires_in is not a number",
        ),
    ] {
        let reply = world.call(&call(&world, &idp.url(), client())).await;
        let message = message.replace("<ep>", &idp.url());
        assert_eq!(reply.expect(406).message(), message);
    }
}

#[tokio::test]
async fn jumper_case_033_a_silent_identity_provider_is_waited_for_only_so_long() {
    let world = World::start_with(|settings| {
        settings.token_cache.timeout = Duration::from_millis(200);
    });
    let idp = RawPeer::start(false).await;
    let reply = world.call(&call(&world, &idp.url(), client())).await;
    let message = format!("Timeout occurred while fetching token from {}", idp.url());
    assert_eq!(reply.expect(504).message(), message);
}

#[tokio::test]
async fn jumper_case_034_an_unreachable_identity_provider_is_tried_three_times() {
    let world = World::start();
    let idp = RawPeer::start(true).await;
    let reply = world.call(&call(&world, &idp.url(), client())).await;
    let message = format!(
        "Failed to connect to {}, cause: Connection prematurely closed BEFORE response",
        idp.url()
    );
    assert_eq!(reply.expect(401).message(), message);
    assert_eq!(idp.calls(), 3);
    let url = closed_url();
    let reply = world.call(&call(&world, &url, client())).await;
    let message = format!(
        "Failed to connect to {url}, cause: Connection refused: {}",
        &url[7..]
    );
    assert_eq!(reply.expect(401).message(), message);
}

#[tokio::test]
async fn jumper_case_035_a_token_without_end_is_kept() {
    let world = World::start();
    let idp = Peer::json(200, json!({"access_token": "T"}));
    for _ in 0..2 {
        let _ = world.forwarded(&call(&world, &idp.url(), client())).await;
    }
    assert_eq!(idp.take().len(), 1);
    world.clock.advance(30 * 60);
    let kept = world.token(json!({"exp": NOW_S + 9999}));
    let call = call(&world, &idp.url(), client()).token(&kept);
    let _ = world.forwarded(&call).await;
    assert_eq!(idp.take().len(), 1);
}

#[tokio::test]
async fn jumper_case_036_a_token_that_the_provider_refuses_is_forgotten() {
    let world = World::start();
    let idp = Peer::json(200, json!({"access_token": "T"}));
    for refusal in [401, 403] {
        let provider = Peer::json(refusal, json!({"why": "no"}));
        let refused = call(&world, &idp.url(), client()).with("remote_api_url", &provider.url());
        let _ = world.forwarded(&call(&world, &idp.url(), client())).await;
        assert_eq!(idp.take().len(), 1);
        let reply = world.call(&refused).await.expect(refusal);
        assert_eq!(reply.json(), json!({"why": "no"}));
        assert_eq!((provider.take().len(), idp.take().len()), (1, 0));
        let _ = world.forwarded(&call(&world, &idp.url(), client())).await;
        assert_eq!(idp.take().len(), 1);
        let _ = world.call(&refused).await.expect(refusal);
    }
}

#[tokio::test]
async fn jumper_case_037_the_last_seconds_of_a_token_do_not_count() {
    let world = World::start();
    for (expires_in, fetches) in [(json!(5), 3), (json!("10"), 3), (json!(300), 1)] {
        let idp = Peer::json(200, json!({"access_token": "T", "expires_in": expires_in}));
        for _ in 0..3 {
            let _ = world.forwarded(&call(&world, &idp.url(), client())).await;
        }
        assert_eq!(idp.take().len(), fetches, "{expires_in}");
    }
}

#[tokio::test]
async fn jumper_case_038_another_secret_is_another_token() {
    let (world, idp) = (World::start(), idp());
    for secret in ["one", "two"] {
        let credentials = json!({"clientId": "id", "clientSecret": secret});
        let _ = world
            .forwarded(&call(&world, &idp.url(), credentials))
            .await;
    }
    assert_eq!(idp.take().len(), 2);
}

#[tokio::test]
async fn jumper_case_039_consumers_never_share_tokens_of_different_credentials() {
    let world = World::start();
    let idp = Peer::start(|request| {
        let body = String::from_utf8(request.body().to_vec()).unwrap();
        let token = if body.contains("refresh_token=a") {
            "A"
        } else {
            "B"
        };
        let mut response = Response::new(Bytes::from(format!(r#"{{"access_token":"{token}"}}"#)));
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert("content-type", json);
        response
    });
    let refresh = |token: &str| {
        json!({"clientId": "id", "clientSecret": "s", "grantType": "refresh_token",
               "refreshToken": token})
    };
    let config = json!({"oauth": {"a": refresh("a"), "b": refresh("b")}});
    for (consumer, token) in [("a", "Bearer A"), ("b", "Bearer B"), ("a", "Bearer A")] {
        let call = world
            .real()
            .with("token_endpoint", &idp.url())
            .config(config.clone())
            .token(&world.token(json!({"clientId": consumer})));
        let received = world.forwarded(&call).await;
        assert_eq!(header(received.headers(), "authorization"), token);
    }
    assert_eq!(idp.take().len(), 2);
}

#[tokio::test]
async fn jumper_case_040_concurrent_calls_share_one_fetch() {
    let (world, idp) = (World::start(), idp());
    let call = call(&world, &idp.url(), client());
    let calls = futures_util::future::join_all((0..50).map(|_| world.call(&call)));
    for reply in calls.await {
        let _ = reply.expect(200);
    }
    assert_eq!(idp.take().len(), 1);
    assert_eq!(world.provider.take().len(), 50);
}
