//! What attackers try, by the topics of RFC 9700 and RFC 8725.

use serde_json::{Value, json};

use crate::harness::{claims, header};
use crate::visitor::{CALLBACK, Site, VERIFIER, Visitor, challenge, form, parameters};

#[tokio::test]
async fn a_code_used_twice_revokes_what_came_of_it() {
    let site = Site::start().await;
    let mut anna = Visitor::new(&site.world);
    let code = site.code(&mut anna, "web", &[]).await;
    let other = site.code(&mut anna, "app", &[]).await;
    let other = site.redeem("app", &other, &[]).await.expect(200).json();
    let tokens = site.redeem("web", &code, &[]).await.expect(200).json();
    assert!(site.is_active(&tokens["access_token"]).await);
    site.redeem("web", &code, &[])
        .await
        .refused(400, "invalid_grant", "Code not valid");
    assert!(!site.is_active(&tokens["access_token"]).await);
    let problem = "Session doesn't have required client";
    site.refresh("web", &tokens)
        .await
        .refused(400, "invalid_grant", problem);
    // Other clients of the login keep theirs, and the person stays logged in.
    let _ = site.refresh("app", &other).await.expect(200);
    site.world.clock.advance(5);
    let code = site.code(&mut anna, "web", &[("prompt", "none")]).await;
    let fresh = site.redeem("web", &code, &[]).await.expect(200).json();
    assert!(site.is_active(&fresh["access_token"]).await);
    // What was revoked does not come back with the client.
    assert!(!site.is_active(&tokens["access_token"]).await);
    let problem = "Refresh toked issued before the client session started";
    site.refresh("web", &tokens)
        .await
        .refused(400, "invalid_grant", problem);

    // The same for offline tokens.
    let code = site
        .code(&mut anna, "web", &[("scope", "openid offline_access")])
        .await;
    let tokens = site.redeem("web", &code, &[]).await.expect(200).json();
    site.redeem("web", &code, &[])
        .await
        .refused(400, "invalid_grant", "Code not valid");
    let problem = "Offline user session not found";
    site.refresh("web", &tokens)
        .await
        .refused(400, "invalid_grant", problem);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_raced_for_leaves_no_tokens() {
    let site = Site::start().await;
    let mut anna = Visitor::new(&site.world);
    for _ in 0..3 {
        let code = site.code(&mut anna, "web", &[]).await;
        let tries = (0..6).map(|_| {
            let (http, code) = (site.world.http.clone(), code.clone());
            let url = site.world.protocol("r", "token");
            tokio::spawn(async move {
                let fields = form(&[
                    ("grant_type", "authorization_code"),
                    ("client_id", "web"),
                    ("client_secret", "s"),
                    ("redirect_uri", CALLBACK),
                    ("code", &code),
                ]);
                http.form(&url, &fields).await
            })
        });
        let tries: Vec<_> = tries.collect();
        let mut won = Vec::new();
        for one in tries {
            let reply = one.await.unwrap();
            if reply.status == 200 {
                won.push(reply.json());
            }
        }
        assert!(won.len() <= 1, "{} redeemed one code", won.len());
        for tokens in won {
            assert!(!site.is_active(&tokens["access_token"]).await);
        }
        site.world.clock.advance(2);
    }
}

#[tokio::test]
async fn a_code_is_bound_to_its_request() {
    let site = Site::start().await;
    let other = site
        .client(json!({"clientId": "other", "redirectUris": [CALLBACK]}))
        .await;
    drop(other);
    let mut anna = Visitor::new(&site.world);
    let hash = challenge();
    let proof = [
        ("code_challenge", hash.as_str()),
        ("code_challenge_method", "S256"),
    ];
    let malformed = "PKCE verification failed: Invalid code verifier";
    let mismatch = "PKCE verification failed: Code mismatch";
    let wrong = "w".repeat(43);
    for (request, client, redemption, problem) in [
        (
            &[][..],
            "other",
            &[][..],
            "Auth error: Found different client_id in clientSession",
        ),
        (
            &[],
            "web",
            &[("redirect_uri", "https://evil.example/cb")],
            "Incorrect redirect_uri",
        ),
        (
            &[],
            "web",
            &[("redirect_uri", "")],
            "Incorrect redirect_uri",
        ),
        (&proof, "web", &[], "PKCE code verifier not specified"),
        (&proof, "web", &[("code_verifier", "short")], malformed),
        (&proof, "web", &[("code_verifier", &wrong)], mismatch),
        // Downgraded: the hash itself as a plain verifier.
        (&proof, "web", &[("code_verifier", &hash)], mismatch),
        // Stripped: the challenge was taken out on the way.
        (
            &[],
            "web",
            &[("code_verifier", VERIFIER)],
            "PKCE code verifier specified but challenge not present in authorization",
        ),
    ] {
        let code = site.code(&mut anna, "web", request).await;
        site.redeem(client, &code, redemption)
            .await
            .refused(400, "invalid_grant", problem);
        // Whoever presented it wrongly, it is gone.
        site.redeem("web", &code, &[("code_verifier", VERIFIER)])
            .await
            .refused(400, "invalid_grant", "Code not valid");
    }
    site.redeem("web", "", &[])
        .await
        .refused(400, "invalid_request", "Missing parameter: code");
    for garbage in ["x", "a.b.c", &"x".repeat(9000)] {
        site.redeem("web", garbage, &[])
            .await
            .refused(400, "invalid_grant", "Code not valid");
    }
    let code = site.code(&mut anna, "web", &[]).await;
    site.world.clock.advance(61);
    site.redeem("web", &code, &[])
        .await
        .refused(400, "invalid_grant", "Code is expired");
    let code = site.code(&mut anna, "web", &[]).await;
    let reply = site
        .redeem("web", &code, &[("client_secret", "wrong")])
        .await;
    let text = "Invalid client or Invalid client credentials";
    reply.refused(401, "unauthorized_client", text);
    // A client that cannot authenticate does not use it up.
    let _ = site.redeem("web", &code, &[]).await.expect(200);
}

#[tokio::test]
async fn a_refresh_token_reused_ends_the_login() {
    let site = Site::start().await;
    site.change_realm(json!({"revokeRefreshToken": true, "refreshTokenMaxReuse": 0}))
        .await;
    let mut anna = Visitor::new(&site.world);
    let code = site.code(&mut anna, "app", &[]).await;
    let first = site.redeem("app", &code, &[]).await.expect(200).json();
    let second = site.refresh("app", &first).await.expect(200).json();
    let problem = "Maximum allowed refresh token reuse exceeded";
    site.refresh("app", &first)
        .await
        .refused(400, "invalid_grant", problem);
    site.refresh("app", &second)
        .await
        .refused(400, "invalid_grant", "Session not active");
    assert!(!site.is_active(&second["access_token"]).await);
    let sent = anna
        .get(&site.auth_url("app", &[("prompt", "none")]))
        .await
        .expect(302);
    assert_eq!(
        parameters(sent.header("location"))["error"],
        "login_required"
    );
}

/// A token with another header and payload, signed with a shared secret.
fn forge(alg: &str, kid: &Value, claims: &Value, secret: &[u8]) -> String {
    let head = json!({"alg": alg, "typ": "JWT", "kid": kid}).to_string();
    let payload = claims.to_string();
    if alg == "none" {
        return format!(
            "{}.",
            o28m_jose::encode(head.as_bytes(), payload.as_bytes())
        );
    }
    let key = o28m_jose::SigningKey::from_secret("", alg.parse().unwrap(), secret).unwrap();
    o28m_jose::sign(head.as_bytes(), payload.as_bytes(), &key)
}

#[tokio::test]
async fn tokens_are_what_their_keys_say_and_nothing_else() {
    let site = Site::start().await;
    let mut anna = Visitor::new(&site.world);
    let code = site.code(&mut anna, "web", &[]).await;
    let tokens = site.redeem("web", &code, &[]).await.expect(200).json();
    let (token, id) = (&tokens["access_token"], &tokens["id_token"]);
    let real = claims(token);
    let kid = header(token)["kid"].clone();
    let info = site
        .world
        .http
        .get(&site.world.at("/realms/r"))
        .await
        .json();
    let public = info["public_key"].as_str().unwrap();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{public}\n-----END PUBLIC KEY-----");
    let refresh_kid = header(&tokens["refresh_token"])["kid"].clone();
    let userinfo = site.world.protocol("r", "userinfo");
    // Another realm with a user of the same name.
    let _ = site.world.realm("s").await;
    let user = json!({"username": "anna", "enabled": true, "credentials": [{"type": "password", "value": "secret"}]});
    let _ = site
        .admin
        .json("POST", &site.world.admin_url("/s/users"), user)
        .await
        .expect(201);
    let body = json!({"clientId": "web", "directAccessGrantsEnabled": true});
    site.world.client(&site.admin, "s", body).await;
    let pairs = [
        ("grant_type", "password"),
        ("client_id", "web"),
        ("client_secret", "s"),
        ("username", "anna"),
        ("password", "secret"),
        ("scope", "openid"),
    ];
    let foreign = site
        .world
        .token("s", &form(&pairs))
        .await
        .expect(200)
        .json();
    for forged in [
        forge("none", &kid, &real, b""),
        forge("HS256", &kid, &real, pem.as_bytes()),
        forge("HS256", &kid, &real, public.as_bytes()),
        forge("HS512", &refresh_kid, &real, b"guess"),
        foreign["access_token"].as_str().unwrap().to_owned(),
        id.as_str().unwrap().to_owned(),
        tokens["refresh_token"].as_str().unwrap().to_owned(),
        anna.cookies["KEYCLOAK_IDENTITY"].clone(),
    ] {
        let reply = site
            .world
            .http
            .bearer(&forged)
            .get(&userinfo)
            .await
            .expect(401);
        assert!(
            reply.header("www-authenticate").contains("invalid_token"),
            "{forged}"
        );
        let admin = site
            .world
            .http
            .bearer(&forged)
            .get(&site.world.admin_url("/r/users"))
            .await;
        assert!(matches!(admin.status.as_u16(), 401 | 403));
        if forged != tokens["refresh_token"].as_str().unwrap() {
            assert!(!site.is_active(&json!(forged)).await, "{forged}");
        }
    }
    let refused = site.refresh("web", &foreign).await;
    refused.refused(400, "invalid_grant", "Invalid refresh token");
    let of_cookie = json!({"refresh_token": anna.cookies["KEYCLOAK_IDENTITY"]});
    site.refresh("web", &of_cookie)
        .await
        .refused(400, "invalid_grant", "Invalid refresh token");
    // No token is a login of a browser.
    for not_a_login in [
        token,
        id,
        &tokens["refresh_token"],
        &foreign["refresh_token"],
    ] {
        let mut thief = Visitor::new(&site.world);
        let value = not_a_login.as_str().unwrap().to_owned();
        thief.cookies.insert("KEYCLOAK_IDENTITY".to_owned(), value);
        let sent = thief
            .get(&site.auth_url("app", &[("prompt", "none")]))
            .await
            .expect(302);
        assert_eq!(
            parameters(sent.header("location"))["error"],
            "login_required"
        );
    }
    // A code of one realm is nothing in another.
    let code = site.code(&mut anna, "web", &[]).await;
    let pairs = [
        ("grant_type", "authorization_code"),
        ("client_id", "web"),
        ("client_secret", "s"),
        ("redirect_uri", CALLBACK),
        ("code", code.as_str()),
    ];
    let reply = site.world.token("s", &form(&pairs)).await;
    reply.refused(400, "invalid_grant", "Code not valid");
}
