//! Consumers, anonymous access and the configuration.

use super::*;

#[tokio::test]
async fn plugins_case_030_consumers_are_matched_by_a_claim() {
    let bench = Bench::new();
    let config = |ignore: bool| {
        bench.local(json!({
            "consumer_match": true, "consumer_match_claim_custom_id": true,
            "consumer_match_ignore_not_found": ignore, "consumer_match_claim": "azp",
        }))
    };
    let mut exchange = bearer(&Token::new("a").claim("azp", "rover-id").sign());
    assert_eq!(answered(&config(false), &mut exchange).await, passed());
    assert_eq!(exchange.header("x-consumer-custom-id"), Some("rover-id"));
    assert_eq!(exchange.header("x-consumer-username"), Some("rover"));
    assert_eq!(exchange.header("x-anonymous-consumer"), Some("true"));
    assert_eq!(exchange.header("x-credential-identifier"), None);
    assert_eq!(exchange.credential, None);
    let consumer = exchange.consumer.clone().unwrap();
    assert_eq!(exchange.header("x-consumer-id"), Some(consumer.id.as_str()));

    let failed = refusal(403, "Consumer match failed");
    for token in [
        Token::new("a").claim("azp", "nobody"),
        Token::new("a").claim("azp", "rover"),
        Token::new("a").without("azp"),
        Token::new("a").claim("azp", 7),
    ] {
        assert_eq!(answer(&config(false), &token.sign()).await, failed);
        let mut exchange = bearer(&token.sign());
        assert_eq!(answered(&config(true), &mut exchange).await, passed());
        assert_eq!(exchange.header("x-consumer-id"), None);
        assert!(exchange.consumer.is_none());
    }
    let by_name = bench.local(json!({"consumer_match": true}));
    for name in ["rover", consumer.id.as_str()] {
        let token = Token::new("a").claim("azp", name).sign();
        assert_eq!(answer(&by_name, &token).await, passed(), "{name}");
    }
}

#[tokio::test]
async fn without_consumer_match_no_consumer_is_set() {
    let plugin = Bench::new().local(json!({}));
    let mut exchange = bearer(&Token::new("a").claim("azp", "rover").sign());
    assert_eq!(answered(&plugin, &mut exchange).await, passed());
    assert!(exchange.consumer.is_none());
    assert_eq!(exchange.header("x-anonymous-consumer"), None);
    assert_eq!(exchange.gateway_consumer.as_deref(), Some("anonymous"));
    assert!(exchange.header("authorization").is_some());
}

#[tokio::test]
async fn the_client_id_is_what_the_access_log_reads() {
    let plugin = Bench::new().local(json!({}));
    let mut exchange = bearer(&Token::new("a").claim("clientId", "app-1").sign());
    assert_eq!(answered(&plugin, &mut exchange).await, passed());
    assert_eq!(exchange.gateway_consumer.as_deref(), Some("app-1"));
    let mut forged = bearer(&Token::new("b").kid("a").claim("clientId", "app-1").sign());
    assert_eq!(answered(&plugin, &mut forged).await.0, 401);
    assert_eq!(forged.gateway_consumer, None);
}

#[tokio::test]
async fn only_the_mesh_consumer_may_bring_a_consumer_token() {
    let bench = Bench::new();
    let plugin = bench.local(json!({
        "consumer_match": true, "consumer_match_claim_custom_id": true,
    }));
    for (azp, is_kept) in [("gateway", true), ("rover-id", false)] {
        let mut exchange = bearer(&Token::new("a").claim("azp", azp).sign());
        let forwarded = http::HeaderValue::from_static("Bearer c");
        exchange.request.headers.insert(CONSUMER_TOKEN, forwarded);
        assert_eq!(answered(&plugin, &mut exchange).await, passed());
        assert_eq!(
            exchange.header("consumer-token").is_some(),
            is_kept,
            "{azp}"
        );
    }
}

#[tokio::test]
async fn plugins_case_033_preflight_requests_can_be_let_through() {
    let bench = Bench::new();
    let preflight = || exchange(Request::options("/").body(Body::Empty).unwrap());
    let lets_through = bench.local(json!({"run_on_preflight": false}));
    assert_eq!(answered(&lets_through, &mut preflight()).await, passed());
    assert_eq!(
        answered(&bench.local(json!({})), &mut preflight()).await.0,
        401
    );
    let mut get = exchange(Request::get("/").body(Body::Empty).unwrap());
    assert_eq!(answered(&lets_through, &mut get).await.0, 401);
}

#[tokio::test]
async fn an_anonymous_consumer_stands_in_for_failures_but_not_for_bad_signatures() {
    let bench = Bench::new();
    let plugin = bench.local(json!({"anonymous": "lonely"}));
    let mut stranger = exchange(Request::get("/").body(Body::Empty).unwrap());
    assert_eq!(answered(&plugin, &mut stranger).await, passed());
    assert_eq!(stranger.header("x-consumer-username"), Some("lonely"));
    assert_eq!(stranger.header("x-anonymous-consumer"), Some("true"));
    let forged = Token::new("b").kid("a").sign();
    assert_eq!(answer(&plugin, &forged).await.1, "Invalid token signature");

    let mut known = exchange(Request::get("/").body(Body::Empty).unwrap());
    known.credential = Some(Credential {
        id: None,
        identifier: None,
    });
    assert_eq!(answered(&plugin, &mut known).await, passed());
    assert!(known.consumer.is_none());

    let missing = bench.local(json!({"anonymous": "ghost"}));
    let mut stranger = exchange(Request::get("/").body(Body::Empty).unwrap());
    let (status, body) = outcome(missing.as_ref(), &mut stranger).await;
    assert_eq!(status, 500);
    assert!(body.contains("anonymous consumer ghost is configured but doesn't exist"));
}

#[test]
fn the_full_configuration_of_the_admin_api_is_read() {
    let config = json!({
        "uri_param_names": ["jwt"], "cookie_names": [], "header_names": ["authorization"],
        "claims_to_verify": ["exp"], "maximum_expiration": 0, "anonymous": null,
        "run_on_preflight": true, "algorithm": "RS256", "allowed_iss": [ISSUER],
        "iss_key_grace_period": 10, "well_known_template": "%s/.well-known/openid-configuration",
        "scope": null, "roles": null, "realm_roles": null, "client_roles": null,
        "consumer_match": true, "consumer_match_claim": "azp",
        "consumer_match_claim_custom_id": true, "consumer_match_ignore_not_found": false,
        "cafile": "/no/such/file",
    });
    let kind = Bench::new().kind;
    assert!(kind.configure(&config).is_ok());
    assert!(kind.configure(&json!({"allowed_iss": "x"})).is_err());
    assert!(kind.configure(&json!({"leeway": 5})).is_err());
    assert_eq!((kind.name(), kind.priority()), ("jwt-keycloak", 1005));
}

#[test]
fn a_cafile_is_a_regular_file_of_moderate_size() {
    assert!(certificates("/dev/zero").is_none());
    assert!(certificates("/").is_none());
    assert!(certificates(env!("CARGO_MANIFEST_PATH")).is_some());
}
