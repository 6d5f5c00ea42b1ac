//! Tokens of an issuer in memory.

use super::*;

#[tokio::test]
async fn plugins_case_011_no_token() {
    let plugin = Bench::new().local(json!({}));
    let mut exchange = exchange(Request::get("/").body(Body::Empty).unwrap());
    let verdict = access(plugin.as_ref(), &mut exchange).await;
    let Verdict::Respond(response) = verdict else {
        panic!("passes without a token");
    };
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers()["www-authenticate"], "Bearer");
    assert_eq!(
        response.headers()["content-type"],
        "application/json; charset=utf-8"
    );
    let body = response.into_body().collect(1000).await.unwrap();
    assert_eq!(body, r#"{"message":"Unauthorized"}"#);
}

#[tokio::test]
async fn plugins_case_014_algorithms_that_are_never_accepted() {
    let plugin = Bench::new().local(json!({}));
    for name in ["HS256", "HS512", "PS256", "EdDSA"] {
        let mut token = Token::new("a");
        token.header["alg"] = name.into();
        let expected = refusal(401, "Invalid algorithm");
        assert_eq!(answer(&plugin, &token.sign()).await, expected, "{name}");
    }
}

#[tokio::test]
async fn a_public_key_is_no_shared_secret() {
    let plugin = Bench::new().local(json!({}));
    let public = serde_json::to_vec(&key("a").public_jwk()).unwrap();
    let secret = o28m_jose::SigningKey::from_secret("a", o28m_jose::Algorithm::HS256, &public);
    let header = json!({"alg": "HS256", "kid": "a"}).to_string();
    let claims = Token::new("a").claims.to_string();
    let forged = o28m_jose::sign(header.as_bytes(), claims.as_bytes(), &secret.unwrap());
    let expected = refusal(401, "Invalid algorithm");
    assert_eq!(answer(&plugin, &forged).await, expected);
    // The same signature under the name of an algorithm that is accepted.
    let header = json!({"alg": "RS256", "kid": "a"}).to_string();
    let secret = o28m_jose::SigningKey::from_secret("a", o28m_jose::Algorithm::HS256, &public);
    let forged = o28m_jose::sign(header.as_bytes(), claims.as_bytes(), &secret.unwrap());
    let expected = refusal(401, "Invalid token signature");
    assert_eq!(answer(&plugin, &forged).await, expected);
}

#[tokio::test]
async fn plugins_case_017_blocked_issuers_are_refused_even_if_allowed() {
    let blocked = format!(" {ISSUER} ");
    let bench = Bench::with(Memory::default(), &["https://a", &blocked]);
    let plugin = bench.local(json!({}));
    let expected = refusal(401, "Token issuer is blocked");
    assert_eq!(answer(&plugin, &Token::new("a").sign()).await, expected);
}

#[tokio::test]
async fn plugins_case_025_registered_claims() {
    let plugin = Bench::new().local(json!({"claims_to_verify": ["exp", "nbf"]}));
    let token = || Token::new("a").claim("nbf", NOW_S);
    assert_eq!(answer(&plugin, &token().sign()).await, passed());
    for (token, claims) in [
        (token().claim("exp", NOW_S), r#"["exp"]="token expired""#),
        (token().claim("exp", -1), r#"["exp"]="token expired""#),
        (
            token().claim("exp", "soon"),
            r#"["exp"]="must be a number""#,
        ),
        (token().without("exp"), r#"["exp"]="must be a number""#),
        (
            token().claim("nbf", NOW_S + 1),
            r#"["nbf"]="token not valid yet""#,
        ),
        (
            token().without("exp").claim("nbf", NOW_S + 1),
            r#"["exp"]="must be a number",["nbf"]="token not valid yet""#,
        ),
    ] {
        let expected = refusal(401, &format!("Token claims invalid: {claims}"));
        assert_eq!(answer(&plugin, &token.sign()).await, expected);
    }
}

#[tokio::test]
async fn a_remembered_token_expires_all_the_same() {
    let bench = Bench::new();
    let plugin = bench.local(json!({}));
    let token = Token::new("a").sign();
    assert_eq!(answer(&plugin, &token).await, passed());
    bench.clock.advance_s(3599);
    assert_eq!(answer(&plugin, &token).await, passed());
    bench.clock.advance_s(1);
    let expected = refusal(401, r#"Token claims invalid: ["exp"]="token expired""#);
    assert_eq!(answer(&plugin, &token).await, expected);
}

#[tokio::test]
async fn a_remembered_token_goes_with_the_key_that_verified_it() {
    for is_slow in [false, true] {
        let memory = Memory {
            is_slow,
            ..Memory::default()
        };
        let bench = Bench::with(memory, &[]);
        let plugin = bench.local(json!({}));
        let token = Token::new("a").sign();
        assert_eq!(answer(&plugin, &token).await, passed());
        assert!(
            bench
                .kind
                .shared
                .verified
                .get(&fingerprint(&token))
                .is_some()
        );
        assert_eq!(answer(&plugin, &token).await, passed());
        bench.memory.publish(vec![key("b").public_jwk()]);
        let expected = refusal(401, "Unable to find public key for token kid");
        assert_eq!(answer(&plugin, &token).await, expected);
        // Another instance that does not allow the issuer does not profit from the memory either.
        bench.memory.publish(vec![key("a").public_jwk()]);
        assert_eq!(answer(&plugin, &token).await, passed());
        let other = bench.plugin(json!({"allowed_iss": []}));
        assert_eq!(answer(&other, &token).await.1, "Token issuer not allowed");
    }
}

#[tokio::test]
async fn a_remembered_token_is_decided_at_once() {
    let plugin = Bench::new().local(json!({}));
    let token = Token::new("a").sign();
    assert_eq!(answer(&plugin, &token).await, passed());
    let mut exchange = bearer(&token);
    assert!(matches!(
        plugin.access(&mut exchange),
        Access::Now(Verdict::Continue)
    ));
}

#[tokio::test]
async fn plugins_case_024_tampered_tokens_are_never_remembered() {
    let bench = Bench::new();
    let plugin = bench.local(json!({}));
    let token = Token::new("a").sign();
    assert_eq!(answer(&plugin, &token).await, passed());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, _) = signed.split_once('.').unwrap();
    let claims = Token::new("a").claim("azp", "admin").claims.to_string();
    let claims = o28m_jose::base64url(claims.as_bytes());
    let tampered = format!("{header}.{claims}.{signature}");
    for _ in 0..2 {
        let expected = refusal(401, "Invalid token signature");
        assert_eq!(answer(&plugin, &tampered).await, expected);
    }
    let empty = format!("{signed}.");
    assert_eq!(answer(&plugin, &empty).await.1, "Invalid token signature");
}

#[tokio::test]
async fn plugins_case_026_maximum_expiration() {
    let plugin = Bench::new().local(json!({"maximum_expiration": 60}));
    let message = r#"Token claims invalid: ["exp"]="exceeds maximum allowed expiration""#;
    let long = Token::new("a").sign();
    assert_eq!(answer(&plugin, &long).await, refusal(403, message));
    let short = Token::new("a").claim("exp", NOW_S + 60).sign();
    assert_eq!(answer(&plugin, &short).await, passed());
    let plugin = Bench::new().local(json!({"maximum_expiration": 60, "claims_to_verify": []}));
    let endless = Token::new("a").without("exp").sign();
    assert_eq!(answer(&plugin, &endless).await, refusal(403, message));
}

#[tokio::test]
async fn plugins_case_027_to_029_scopes_and_roles() {
    let bench = Bench::new();
    let token = || {
        Token::new("a")
            .claim("scope", "email profile")
            .claim("realm_access", json!({"roles": ["offline_access"]}))
            .claim(
                "resource_access",
                json!({"account": {"roles": ["manage-account"]}, "app": {"roles": ["x"]}}),
            )
    };
    let bare = || Token::new("a").without("azp");
    for (config, token, reason) in [
        (json!({"scope": ["profile"]}), token(), ""),
        (json!({"scope": ["nope", "profile"]}), token(), ""),
        (
            json!({"scope": ["admin"]}),
            token(),
            "Missing required scope",
        ),
        (
            json!({"scope": ["prof"]}),
            token(),
            "Missing required scope",
        ),
        (
            json!({"scope": ["profile"]}),
            bare(),
            "Missing required scope claim",
        ),
        (json!({"scope": [], "roles": null}), bare(), ""),
        (json!({"realm_roles": ["offline_access"]}), token(), ""),
        (
            json!({"realm_roles": ["super-admin"]}),
            token(),
            "Missing required realm role",
        ),
        (
            json!({"realm_roles": ["super-admin"]}),
            bare(),
            "Missing required realm_access.roles claim",
        ),
        (
            json!({"client_roles": ["account:manage-account"]}),
            token(),
            "",
        ),
        (
            json!({"client_roles": ["account:super-admin"]}),
            token(),
            "Missing required role",
        ),
        (
            json!({"client_roles": ["account:x"]}),
            bare(),
            "Missing required resource_access claim",
        ),
        (json!({"roles": ["x"]}), token(), ""),
        (json!({"roles": ["y"]}), token(), "Missing required role"),
        (
            json!({"roles": ["x"]}),
            bare(),
            "Missing required azp claim",
        ),
        (
            json!({"scope": ["profile"], "realm_roles": ["super-admin"]}),
            token(),
            "Missing required realm role",
        ),
    ] {
        let expected = match reason {
            "" => passed(),
            reason => refusal(
                403,
                &format!("Access token does not have the required scope/role: {reason}"),
            ),
        };
        let plugin = bench.local(config.clone());
        assert_eq!(answer(&plugin, &token.sign()).await, expected, "{config}");
    }
}

#[tokio::test]
async fn plugins_case_034_oversize_tokens_are_not_looked_at() {
    let plugin = Bench::new().local(json!({}));
    let token = Token::new("a").claim("padding", "x".repeat(limits::TOKEN_BYTES_MAX));
    let expected = refusal(401, "Bad token; invalid JSON");
    assert_eq!(answer(&plugin, &token.sign()).await, expected);
    assert_eq!(answer(&plugin, &"a.b.c".repeat(200_000)).await, expected);
}

#[test]
fn plugins_case_036_security_events_name_the_check_that_failed() {
    for (failure, event) in [
        (Failure::NoToken, ("ua200", "ua, token not provided")),
        (Failure::Scope("x"), ("ua222", "ua, validate_scope failed")),
        (Failure::Roles("x"), ("ua222", "ua, validate_roles failed")),
        (Failure::LivesTooLong, ("ua202", "ua, token timed out")),
        (
            Failure::UnknownKid,
            ("ua221", "ua, public key for kid not available"),
        ),
    ] {
        assert_eq!(failure.event(), event);
    }
}
