//! Keys read over the wire.

use super::*;

#[tokio::test]
async fn plugins_case_015_016_issuers_are_compared_literally_and_before_any_request() {
    let issuer = WireIssuer::publishing(&["a"]);
    let bench = Bench::new();
    for allowed in [
        "https://other.example.com/auth/realms/x".to_owned(),
        issuer.iss().replace('.', "%."),
        issuer.iss().replace("default", "DEFAULT"),
        format!("{}/", issuer.iss()),
        issuer.iss().replace("127.0.0.1", "127x0.0.1"),
    ] {
        let plugin = bench.plugin(json!({"allowed_iss": [allowed]}));
        let expected = refusal(401, "Token issuer not allowed");
        assert_eq!(answer(&plugin, &issuer.token("a").sign()).await, expected);
    }
    let plugin = bench.local(json!({}));
    let nobody = Token::new("a").without("iss").sign();
    assert_eq!(answer(&plugin, &nobody).await.1, "Token issuer not allowed");
    assert_eq!(issuer.fetches(), 0);
}

#[tokio::test]
async fn plugins_case_018_fetches_keys_over_the_wire_once() {
    let issuer = WireIssuer::publishing(&["a"]);
    let bench = Bench::new();
    let plugin = bench.wire(&issuer);
    for subject in ["1", "2", "3"] {
        let token = issuer.token("a").claim("sub", subject).sign();
        assert_eq!(answer(&plugin, &token).await, passed());
    }
    assert_eq!(issuer.fetches(), 1);
    let keys = [key("a").public_jwk(), EC_KEY.public_jwk()];
    issuer.now(Script::Publishes(keys.to_vec()));
    let plugin = Bench::new().wire(&issuer);
    let token = Token::ec().claim("iss", issuer.iss()).sign();
    assert_eq!(answer(&plugin, &token).await, passed());
}

#[tokio::test]
async fn odd_keys_of_a_fetched_set_leave_the_others_usable() {
    let document = json!({"keys": [
        {"kty": 5, "kid": "a"}, "key", null,
        {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "ed",
         "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
        {"kty": "OKP", "crv": "Ed448", "kid": "a", "x": "AA"},
        key("a").public_jwk(), EC_KEY.public_jwk(),
    ]});
    let issuer = WireIssuer::publishing(&[]);
    issuer.now(Script::AnswersJwks(document.to_string().into_bytes()));
    let bench = Bench::new();
    let plugin = bench.wire(&issuer);
    assert_eq!(answer(&plugin, &issuer.token("a").sign()).await, passed());
    let token = Token::ec().claim("iss", issuer.iss()).sign();
    assert_eq!(answer(&plugin, &token).await, passed());
}

#[tokio::test]
async fn plugins_case_020_a_rotated_key_is_found_after_the_grace_period() {
    let issuer = WireIssuer::publishing(&["a"]);
    let bench = Bench::new();
    let plugin = bench.wire(&issuer);
    assert_eq!(answer(&plugin, &issuer.token("a").sign()).await, passed());
    issuer.now(publishes(&["b"]));
    bench.clock.advance_s(9);
    let token = issuer.token("b").sign();
    let expected = refusal(401, "Unable to find public key for token kid");
    assert_eq!(answer(&plugin, &token).await, expected);
    assert_eq!(issuer.fetches(), 1);
    bench.clock.advance_s(1);
    assert_eq!(answer(&plugin, &token).await, passed());
    assert_eq!(issuer.fetches(), 2);
    // What the old key verified is forgotten with it.
    assert_eq!(answer(&plugin, &issuer.token("a").sign()).await, expected);
    assert_eq!(issuer.fetches(), 2);
}

#[tokio::test]
async fn plugins_case_021_a_storm_of_unknown_kids_causes_one_fetch_per_grace_period() {
    let issuer = WireIssuer::publishing(&["a"]);
    let bench = Bench::new();
    let plugin = bench.wire(&issuer);
    let storm = |round: usize| {
        let (plugin, issuer) = (&plugin, &issuer);
        join_all((0..200).map(move |number| async move {
            let token = issuer.token("b").kid(&format!("{round}-{number}")).sign();
            answer(plugin, &token).await
        }))
    };
    let expected = refusal(401, "Unable to find public key for token kid");
    for (round, fetches) in [(0, 1), (1, 1)] {
        assert!(storm(round).await.iter().all(|it| *it == expected));
        assert_eq!(issuer.fetches(), fetches);
    }
    bench.clock.advance_s(10);
    assert!(storm(2).await.iter().all(|it| *it == expected));
    assert_eq!(issuer.fetches(), 2);
}

#[tokio::test]
async fn plugins_case_022_keys_that_cannot_be_read() {
    let padding = " ".repeat(limits::JWKS_BYTES_MAX);
    let oversize = json!({"keys": [key("a").public_jwk()], "padding": padding}).to_string();
    for script in [
        Script::Fails(500),
        Script::Fails(404),
        Script::Fails(302),
        Script::AnswersJwks(b"<html>".to_vec()),
        Script::AnswersJwks(b"{}".to_vec()),
        Script::AnswersJwks(oversize.into_bytes()),
        Script::Hangs,
    ] {
        let issuer = WireIssuer::start(script);
        let bench = Bench::new();
        let plugin = bench.wire(&issuer);
        let expected = refusal(403, "Unable to get public key for issuer");
        let tokens = ["1", "2", "3"].map(|it| issuer.token("a").claim("sub", it).sign());
        let answers = join_all(tokens.iter().map(|token| answer(&plugin, token))).await;
        assert!(answers.iter().all(|it| *it == expected), "{answers:?}");
        assert_eq!(answer(&plugin, &tokens[0]).await, expected);
        assert_eq!(issuer.fetches(), 1, "the failure is remembered");
        bench.clock.advance_s(1);
        issuer.now(publishes(&["a"]));
        assert_eq!(answer(&plugin, &tokens[0]).await, passed());
    }
}

#[tokio::test]
async fn an_issuer_that_is_down_is_no_reason_to_let_anyone_in() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let iss = format!("http://{}/realm", listener.local_addr().unwrap());
    drop(listener);
    let plugin = Bench::new().plugin(json!({"allowed_iss": [iss], "anonymous": "rover"}));
    let token = Token::new("a").claim("iss", iss).sign();
    let expected = refusal(403, "Unable to get public key for issuer");
    assert_eq!(answer(&plugin, &token).await, expected);
}

#[tokio::test]
async fn stale_keys_are_used_while_the_issuer_is_away_for_an_hour() {
    let issuer = WireIssuer::publishing(&["a"]);
    let bench = Bench::new();
    let plugin = bench.wire(&issuer);
    let token = |number: i64| {
        let token = issuer.token("a").claim("exp", NOW_S + 9000);
        token.claim("sub", number.to_string()).sign()
    };
    assert_eq!(answer(&plugin, &token(0)).await, passed());
    issuer.now(Script::Fails(503));
    for (number, seconds) in [(1, 299), (2, 1), (3, 3000)] {
        bench.clock.advance_s(seconds);
        assert_eq!(answer(&plugin, &token(number)).await, passed(), "{number}");
    }
    bench.clock.advance_s(300);
    let expected = refusal(403, "Unable to get public key for issuer");
    assert_eq!(
        answer(&plugin, &token(0)).await,
        expected,
        "verified before"
    );
    assert_eq!(answer(&plugin, &token(4)).await, expected);
}

#[tokio::test]
async fn revoked_keys_vanish_in_the_background() {
    let issuer = WireIssuer::publishing(&["a"]);
    let bench = Bench::new();
    let plugin = bench.wire(&issuer);
    let token = issuer.token("a").sign();
    assert_eq!(answer(&plugin, &token).await, passed());
    issuer.now(publishes(&["b"]));
    bench.clock.advance_s(300);
    let expected = refusal(401, "Unable to find public key for token kid");
    // The request that finds the keys old still uses them; the fetch it starts needs a moment.
    let vanished = async {
        while answer(&plugin, &token).await != expected {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), vanished)
        .await
        .unwrap();
    assert_eq!(issuer.fetches(), 2);
}

#[tokio::test]
async fn a_request_that_is_given_up_does_not_end_the_fetch() {
    let issuer = WireIssuer::publishing(&["a"]);
    let plugin = Bench::new().wire(&issuer);
    let token = issuer.token("a").sign();
    let mut given_up = bearer(&token);
    let Access::Later(waiting) = plugin.access(&mut given_up) else {
        panic!("decided without keys");
    };
    assert!(futures_util::FutureExt::now_or_never(waiting).is_none());
    assert_eq!(answer(&plugin, &token).await, passed());
    assert_eq!(issuer.fetches(), 1);
}

#[tokio::test]
async fn a_token_of_another_realm_is_not_verified_by_its_neighbours_keys() {
    let (ours, theirs) = (
        WireIssuer::publishing(&["a"]),
        WireIssuer::publishing(&["b"]),
    );
    let bench = Bench::new();
    let plugin = bench.plugin(json!({"allowed_iss": [ours.iss(), theirs.iss()]}));
    assert_eq!(answer(&plugin, &ours.token("a").sign()).await, passed());
    assert_eq!(answer(&plugin, &theirs.token("b").sign()).await, passed());
    for token in [ours.token("b").kid("a"), theirs.token("a").kid("b")] {
        let expected = refusal(401, "Invalid token signature");
        assert_eq!(answer(&plugin, &token.sign()).await, expected);
    }
}

#[tokio::test]
async fn instances_share_the_keys_of_an_issuer() {
    let issuer = WireIssuer::publishing(&["a"]);
    let bench = Bench::new();
    let first = bench.wire(&issuer);
    assert_eq!(answer(&first, &issuer.token("a").sign()).await, passed());
    let second = bench.wire(&issuer);
    assert_eq!(answer(&second, &issuer.token("a").sign()).await, passed());
    assert_eq!(issuer.fetches(), 1);
}
