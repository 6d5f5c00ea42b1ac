//! More of what attackers try, by the topics of RFC 9700, RFC 8725 and the browser.

use std::time::{Duration, Instant};

use o28m_jose::{Algorithm, SigningKey};
use serde_json::{Value, json};

use crate::harness::{Other, Reply, claims, header};
use crate::visitor::{CALLBACK, Site, Visitor, encode, form, parameters, text};

/// RFC 9700 section 4.1: what is not the registered URI is no redirect at all.
#[tokio::test]
async fn no_variant_of_a_redirect_uri_leads_elsewhere() {
    let site = Site::start().await;
    let body = json!({"clientId": "wild", "redirectUris": ["https://app.example/in/*"]});
    site.client(body).await;
    let mut anna = Visitor::new(&site.world);
    for (client, uri) in [
        ("app", "https://app.example/cb/"),
        ("app", "https://app.example/cb?x=1"),
        ("app", "https://app.example/cb#x"),
        ("app", "https://app.example/CB"),
        ("app", "https://app.example/cb/../cb"),
        ("app", "https://app.example/%63b"),
        ("app", "https://app.example:8443/cb"),
        ("app", "http://app.example/cb"),
        ("app", "https://app.example.evil.example/cb"),
        ("app", "https://app.example@evil.example/cb"),
        ("app", "https://evil.example\\@app.example/cb"),
        ("app", "https://evil.example/cb?https://app.example/cb"),
        ("app", "//app.example/cb"),
        ("app", "/cb"),
        ("app", "javascript:alert(1)//https://app.example/cb"),
        ("app", "https://app.example/cb\r\nSet-Cookie: x=1"),
        ("wild", "https://app.example/in/../out"),
        ("wild", "https://app.example/in/%2e%2e/out"),
        ("wild", "https://app.example/in/..%2fout"),
        ("wild", "https://app.example/inside"),
        ("wild", "https://app.example.evil/in/x"),
    ] {
        let page = anna
            .get(&site.auth_url(client, &[("redirect_uri", uri)]))
            .await
            .expect(400);
        assert!(page.header("location").is_empty(), "{uri}");
        assert!(text(&page).contains("redirect_uri"), "{uri}");
    }
    let good = site.auth_url("wild", &[("redirect_uri", "https://app.example/in/a?b=c")]);
    let _ = anna.get(&good).await.expect(200);
}

/// RFC 6749 section 3.1: a parameter twice is an error, whichever of them a proxy may look at.
#[tokio::test]
async fn repeated_parameters_are_refused_and_do_not_redirect_elsewhere() {
    let site = Site::start().await;
    let mut anna = Visitor::new(&site.world);
    for name in [
        "scope",
        "state",
        "nonce",
        "response_type",
        "client_id",
        "redirect_uri",
    ] {
        let value = match name {
            "client_id" => "web",
            "redirect_uri" => "https://evil.example/",
            _ => "x",
        };
        let url = format!(
            "{}&{name}={}",
            site.auth_url("app", &[("state", "s"), ("nonce", "n")]),
            encode(value)
        );
        let back = anna.get(&url).await.expect(302);
        assert!(back.header("location").starts_with(CALLBACK), "{name}");
        let sent = parameters(back.header("location"));
        assert_eq!(sent["error"], "invalid_request", "{name}");
        assert_eq!(sent["error_description"], "duplicated parameter", "{name}");
    }
    let evil_first = format!(
        "{}?redirect_uri={}&{}",
        site.world.protocol("r", "auth"),
        encode("https://evil.example/"),
        site.auth_url("app", &[]).split_once('?').unwrap().1
    );
    let _ = anna.get(&evil_first).await.expect(400);
    let good = "grant_type=client_credentials&client_id=web&client_secret=s";
    for more in [
        "&client_secret=s",
        "&grant_type=password",
        "&client_id=app",
        "&scope=a&scope=b",
    ] {
        let reply = site.world.token("r", &format!("{good}{more}")).await;
        reply.refused(400, "invalid_request", "duplicated parameter");
    }
    // What stands in the URL of the token endpoint is nothing that was sent.
    let url = format!("{}?{good}", site.world.protocol("r", "token"));
    let reply = site.world.http.form(&url, "").await;
    reply.refused(400, "invalid_request", "Missing form parameter: grant_type");
}

/// RFC 8725 sections 3.1 and 3.10: no key of the token's own choice verifies it.
#[tokio::test]
async fn keys_that_a_token_brings_verify_nothing() {
    let site = Site::start().await;
    let other = Other::start();
    let mut anna = Visitor::new(&site.world);
    let code = site.code(&mut anna, "web", &[]).await;
    let tokens = site.redeem("web", &code, &[]).await.expect(200).json();
    let real = claims(&tokens["access_token"]);
    let kid = header(&tokens["access_token"])["kid"].clone();
    let der = SigningKey::generate_pkcs8(Algorithm::RS256).unwrap();
    let own = SigningKey::from_pkcs8("evil", Algorithm::RS256, &der).unwrap();
    let jwk = serde_json::to_value(own.public_jwk()).unwrap();
    other.answer(200, &json!({"keys": [jwk]}).to_string());
    let url = format!("{}/keys", other.url);
    for more in [
        json!({"jwk": jwk}),
        json!({"kid": kid, "jwk": jwk}),
        json!({"kid": "evil", "jku": url}),
        json!({"kid": kid, "jku": url}),
        json!({"kid": kid, "x5u": url}),
        json!({"kid": kid, "x5c": ["MIIB"]}),
        json!({"kid": "../../../../dev/null"}),
        json!({"kid": "' OR '1'='1"}),
        json!({"kid": ""}),
        json!({"kid": [kid]}),
        json!({"kid": kid, "crit": ["exp"]}),
        json!({}),
    ] {
        let mut head = json!({"alg": "RS256", "typ": "JWT"});
        head.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let forged = o28m_jose::sign(
            head.to_string().as_bytes(),
            real.to_string().as_bytes(),
            &own,
        );
        assert!(!site.is_active(&json!(forged)).await, "{head}");
        let http = site.world.http.bearer(&forged);
        let _ = http
            .get(&site.world.protocol("r", "userinfo"))
            .await
            .expect(401);
        let _ = http.get(&site.world.admin_url("/r")).await.expect(401);
    }
    assert!(other.received().is_empty());
    // A real signature under another header or payload.
    let token = tokens["access_token"].as_str().unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (head, payload) = signed.split_once('.').unwrap();
    let mut longer = real.clone();
    longer["exp"] = json!(real["exp"].as_i64().unwrap() + 100_000);
    let longer = o28m_jose::base64url(longer.to_string().as_bytes());
    for tampered in [
        format!("{head}.{longer}.{signature}"),
        format!("{head}.{payload}."),
        format!("{head}.{payload}.{signature}."),
        format!("{head}.{payload}.{}", &signature[..signature.len() - 4]),
        format!("{head}..{signature}"),
    ] {
        assert!(!site.is_active(&json!(tampered)).await, "{tampered}");
    }
    site.world.clock.advance(301);
    assert!(!site.is_active(&tokens["access_token"]).await);
}

/// RFC 9700 section 4.8 and browser basics: whose form and whose cookie it is.
#[tokio::test]
async fn a_login_of_one_realm_is_none_of_another() {
    let site = Site::start().await;
    let _ = site.world.realm("s").await;
    let body = json!({"clientId": "app", "publicClient": true, "secret": null,
        "serviceAccountsEnabled": false, "redirectUris": [CALLBACK]});
    site.world.client(&site.admin, "s", body).await;
    let mut anna = Visitor::new(&site.world);
    let _ = site.code(&mut anna, "app", &[]).await;
    let there = |url: String| url.replace("/realms/r/", "/realms/s/");
    let silent = there(site.auth_url("app", &[("prompt", "none")]));
    let sent = anna.get(&silent).await.expect(302);
    assert_eq!(
        parameters(sent.header("location"))["error"],
        "login_required"
    );
    // The form of one realm posted to the other, with the cookies of both.
    let mut eve = Visitor::new(&site.world);
    let page = eve.get(&site.auth_url("app", &[])).await.expect(200);
    let action = there(crate::visitor::attribute(&text(&page), "<form", "action"));
    let fields = [("username", "anna"), ("password", "secret")];
    let _ = eve.post(&action, &fields).await.expect(400);
}

/// An attacker who sets the cookie that a victim starts with gets nothing of the login.
#[tokio::test]
async fn a_planted_cookie_gives_no_login_away() {
    let site = Site::start().await;
    let mut eve = Visitor::new(&site.world);
    let page = eve.get(&site.auth_url("app", &[])).await.expect(200);
    let mut anna = Visitor::new(&site.world);
    anna.cookies = eve.cookies.clone();
    // Even the form is the attacker's.
    let fields = [("username", "anna"), ("password", "secret")];
    let back = anna.submit(&page, &fields).await.expect(302);
    assert!(parameters(back.header("location")).contains_key("code"));
    assert_ne!(anna.cookies.get("KEYCLOAK_IDENTITY"), None);
    for url in [
        site.auth_url("app", &[("prompt", "none")]),
        site.auth_url("web", &[("prompt", "none")]),
    ] {
        let sent = eve.get(&url).await.expect(302);
        assert_eq!(
            parameters(sent.header("location"))["error"],
            "login_required"
        );
    }
    // Each login has an id that nobody knew before.
    let first = anna.cookies["KEYCLOAK_IDENTITY"].clone();
    let page = anna
        .get(&site.auth_url("app", &[("prompt", "login")]))
        .await
        .expect(200);
    anna.cookies.remove("KEYCLOAK_IDENTITY");
    let _ = anna.submit(&page, &fields).await.expect(302);
    let sid = |cookie: &str| claims(&json!(cookie))["sid"].clone();
    assert_ne!(sid(&first), sid(&anna.cookies["KEYCLOAK_IDENTITY"]));
    // A cookie that is no value of ours is replaced.
    let mut odd = Visitor::new(&site.world);
    odd.cookies
        .insert("AUTH_SESSION_ID".to_owned(), "planted".to_owned());
    let _ = odd.get(&site.auth_url("app", &[])).await.expect(200);
    assert_ne!(odd.cookies["AUTH_SESSION_ID"], "planted");
}

/// RFC 9700 sections 4.2 and 4.16: pages are in no foreign frame, in no cache, and tell no address.
#[tokio::test]
async fn pages_and_tokens_are_not_framed_cached_or_referred() {
    let site = Site::start().await;
    let body = json!({"clientId": "shop", "redirectUris": [CALLBACK], "consentRequired": true});
    site.client(body).await;
    let mut anna = Visitor::new(&site.world);
    let login = anna.get(&site.auth_url("shop", &[])).await.expect(200);
    let fields = [("username", "anna"), ("password", "secret")];
    let consent = anna.submit(&login, &fields).await.expect(200);
    let error = anna.get(&site.auth_url("nosuch", &[])).await.expect(400);
    let logout = anna
        .get(&site.world.protocol("r", "logout"))
        .await
        .expect(200);
    let post = anna
        .get(&site.auth_url("app", &[("response_mode", "form_post")]))
        .await
        .expect(200);
    for page in [&login, &consent, &error, &logout, &post] {
        assert_eq!(page.header("x-frame-options"), "SAMEORIGIN");
        assert_eq!(page.header("referrer-policy"), "no-referrer");
        assert_eq!(page.header("x-content-type-options"), "nosniff");
        assert!(page.header("cache-control").contains("no-store"));
        let policy = page.header_text("content-security-policy");
        assert!(policy.contains("default-src 'none'"), "{policy}");
        assert!(policy.contains("frame-ancestors 'self'") && policy.contains("base-uri 'none'"));
        assert!(!policy.contains("unsafe"), "{policy}");
    }
    let code = site.code(&mut anna, "web", &[]).await;
    let back = anna.get(&site.auth_url("web", &[])).await.expect(302);
    assert_eq!(back.header("referrer-policy"), "no-referrer");
    assert!(back.header("cache-control").contains("no-store"));
    let good = site.redeem("web", &code, &[]).await.expect(200);
    let bad = site.redeem("web", "x", &[]).await.expect(400);
    for reply in [good, bad] {
        assert_eq!(reply.header("cache-control"), "no-store");
        assert_eq!(reply.header("pragma"), "no-cache");
    }
    // A page of another origin reads nothing.
    let evil = site.world.http.with("origin", "https://evil.example");
    let form = "grant_type=client_credentials&client_id=web&client_secret=s";
    let reply = evil
        .form(&site.world.protocol("r", "token"), form)
        .await
        .expect(200);
    assert_eq!(reply.header("access-control-allow-origin"), "");
}

/// What is shown of what was sent is text.
#[tokio::test]
async fn what_was_sent_is_shown_as_text() {
    let site = Site::start().await;
    let script = "\"><script>alert(1)</script>";
    let body = json!({"clientId": "evil", "name": script, "redirectUris": [CALLBACK]});
    site.client(body).await;
    let mut anna = Visitor::new(&site.world);
    let url = site.auth_url("evil", &[("login_hint", script), ("ui_locales", script)]);
    let page = anna.get(&url).await.expect(200);
    assert!(!text(&page).contains("<script"));
    let page = anna
        .submit(&page, &[("username", script), ("password", script)])
        .await
        .expect(200);
    assert!(!text(&page).contains("<script"));
    let odd = anna.get(&site.auth_url(script, &[])).await.expect(400);
    assert!(!text(&odd).contains("<script"));
    // Nor does it become a header, or another parameter.
    let state = "x\r\nset-cookie: a=b&code=evil#";
    let back = anna
        .get(&site.auth_url("app", &[("state", state), ("prompt", "none")]))
        .await
        .expect(302);
    assert_eq!(parameters(back.header("location"))["state"], state);
    assert!(back.headers.get("set-cookie").is_none());
    let posted = anna
        .get(&site.auth_url(
            "app",
            &[
                ("state", script),
                ("prompt", "none"),
                ("response_mode", "form_post"),
            ],
        ))
        .await
        .expect(200);
    assert!(!text(&posted).contains("<script>alert"));
}

/// Neither texts nor time tell whether there is a user or a client.
#[tokio::test]
async fn nobody_learns_who_is_there() {
    let site = Site::start().await;
    site.change_realm(json!({"bruteForceProtected": true, "failureFactor": 3}))
        .await;
    let body = json!({"clientId": "direct", "directAccessGrantsEnabled": true});
    site.client(body).await;
    site.user("locked", json!({})).await;
    site.user("off", json!({"enabled": false})).await;
    site.user("todo", json!({"requiredActions": ["UPDATE_PASSWORD"]}))
        .await;
    let ask = async |user: &str, password: &str| {
        let fields = form(&[
            ("grant_type", "password"),
            ("client_id", "direct"),
            ("client_secret", "s"),
            ("username", user),
            ("password", password),
        ]);
        site.world.token("r", &fields).await
    };
    for _ in 0..4 {
        let _ = ask("locked", "wrong").await.expect(401);
    }
    let shape = |reply: Reply| {
        let names: Vec<_> = reply.headers.keys().map(ToString::to_string).collect();
        (reply.status, names, reply.json())
    };
    let known = shape(ask("anna", "wrong").await);
    for (user, password) in [
        ("nobody", "wrong"),
        ("locked", "secret"),
        ("off", "wrong"),
        ("todo", "wrong"),
        ("service-account-direct", "wrong"),
        ("anna@example.com", "wrong"),
        (&"x".repeat(5000), "wrong"),
    ] {
        assert_eq!(shape(ask(user, password).await), known, "{user}");
    }
    let mut visitor = Visitor::new(&site.world);
    let mut pages = Vec::new();
    for user in ["anna", "nobody"] {
        let page = visitor
            .log_in(&site.auth_url("app", &[]), user, "wrong")
            .await
            .expect(200);
        let html = text(&page).replace(user, "user");
        let without_ticket = html.split("session_code=").next().unwrap().to_owned();
        pages.push(without_ticket);
    }
    assert_eq!(pages[0], pages[1]);
    // The shortest of some tries: a hash is computed for either.
    let quickest = async |user: &str| {
        let mut least = Duration::MAX;
        for _ in 0..6 {
            let started = Instant::now();
            let _ = ask(user, "wrong").await.expect(401);
            least = least.min(started.elapsed());
        }
        least
    };
    site.change_realm(json!({"bruteForceProtected": false}))
        .await;
    let (there, absent) = (quickest("anna").await, quickest("nobody").await);
    assert!(
        absent * 2 > there,
        "{absent:?} for nobody, {there:?} for somebody"
    );
    // A client that is not there, and one whose secret is wrong, are told apart by the code of the original
    // alone.
    let client = async |id: &str| {
        let form = format!("grant_type=client_credentials&client_id={id}&client_secret=wrong");
        site.world.token("r", &form).await.expect(401).json()
    };
    let (wrong, unknown) = (client("web").await, client("nosuch").await);
    assert_eq!(wrong["error_description"], unknown["error_description"]);
}

/// What is too long is refused, and what is large costs little.
#[tokio::test]
async fn large_parameters_are_refused_early() {
    let site = Site::start().await;
    let long = "x".repeat(100_000);
    let token = site.world.protocol("r", "token");
    for pairs in [
        &[("grant_type", "authorization_code"), ("code", &long)][..],
        &[("grant_type", "refresh_token"), ("refresh_token", &long)],
        &[("grant_type", "client_credentials"), ("scope", &long)],
        &[("grant_type", long.as_str())],
        &[
            ("grant_type", "client_credentials"),
            ("client_assertion", &long),
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ),
        ],
    ] {
        let mut all = pairs.to_vec();
        all.extend([("client_id", "web"), ("client_secret", "s")]);
        let reply = site.world.http.form(&token, &form(&all)).await;
        let is_fine =
            reply.status == 200 && pairs.iter().any(|(name, _)| *name == "client_assertion");
        assert!(reply.status == 400 || is_fine, "{}", reply.status);
    }
    let huge = "x".repeat(2 * 1024 * 1024);
    let reply = site
        .world
        .http
        .form(&token, &form(&[("client_id", &huge)]))
        .await;
    let _ = reply.expect(413);
    let many: String = (0..300).map(|at| format!("p{at}=1&")).collect();
    let _ = site.world.http.form(&token, &many).await.expect(400);
    let http = site.world.http.bearer(&"x".repeat(7_000));
    let _ = http
        .get(&site.world.protocol("r", "userinfo"))
        .await
        .expect(401);
    let mut anna = Visitor::new(&site.world);
    // Parameters of an authorization request travel in URLs; a form takes more of them.
    for name in [
        "state",
        "nonce",
        "scope",
        "login_hint",
        "code_challenge",
        "redirect_uri",
    ] {
        let mut pairs = vec![
            ("client_id", "app"),
            ("response_type", "code"),
            ("redirect_uri", CALLBACK),
            ("scope", "openid"),
        ];
        pairs.retain(|(known, _)| *known != name);
        pairs.push((name, &long));
        let reply = anna.post(&site.world.protocol("r", "auth"), &pairs).await;
        if name == "redirect_uri" {
            let _ = reply.expect(400);
            continue;
        }
        let location = reply.expect(302).header_text("location");
        let error = parameters(&location)["error"].clone();
        assert!(
            matches!(error.as_str(), "invalid_request" | "invalid_scope"),
            "{name}: {error}"
        );
    }
    let page = anna.get(&site.auth_url("app", &[])).await.expect(200);
    let back = anna
        .submit(&page, &[("username", &long), ("password", &long)])
        .await;
    let _ = back.expect(200);
}

/// RFC 9700 section 4.11: an assertion is for this server, this client and this moment.
#[tokio::test]
async fn an_assertion_for_another_is_none() {
    let site = Site::start().await;
    let body = json!({"clientId": "signer", "clientAuthenticatorType": "client-secret-jwt",
        "secret": "a secret of a length that suffices for HMAC"});
    site.client(body).await;
    let key = b"a secret of a length that suffices for HMAC";
    let key = SigningKey::from_secret("", Algorithm::HS256, key).unwrap();
    let now_s = o28m_core::Clock::now(site.world.clock.as_ref()).seconds();
    let issuer = site.world.at("/realms/r");
    let token = site.world.protocol("r", "token");
    let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let ask = async |change: &Value| {
        let mut claims = json!({"iss": "signer", "sub": "signer", "aud": issuer, "jti": "one",
            "iat": now_s, "exp": now_s + 60});
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let header = json!({"alg": "HS256"}).to_string();
        let assertion = o28m_jose::sign(header.as_bytes(), claims.to_string().as_bytes(), &key);
        let fields = form(&[
            ("grant_type", "client_credentials"),
            ("client_assertion_type", kind),
            ("client_assertion", &assertion),
        ]);
        site.world.token("r", &fields).await
    };
    for (change, text) in [
        (
            json!({"aud": site.world.at("/realms/s")}),
            "Invalid token audience",
        ),
        (
            json!({"aud": "https://evil.example"}),
            "Invalid token audience",
        ),
        (
            json!({"aud": [issuer, "https://evil.example"]}),
            "Multiple audiences not allowed",
        ),
        (
            json!({"aud": format!("{token}/evil")}),
            "Invalid token audience",
        ),
        (json!({"exp": now_s - 20}), "Token is not active"),
        (json!({"nbf": now_s + 60}), "Token is not active"),
        (json!({"iat": now_s + 60}), "Token was issued in the future"),
        (
            json!({"iss": "app"}),
            "Token issuer and subject must be the client",
        ),
        (json!({"jti": ""}), "Token jti claim is required"),
    ] {
        ask(&change).await.refused(400, "invalid_client", text);
    }
    // What was refused used nothing up; what was accepted is.
    let _ = ask(&json!({})).await.expect(200);
    ask(&json!({}))
        .await
        .refused(400, "invalid_client", "Token reuse detected");
    ask(&json!({"aud": token}))
        .await
        .refused(400, "invalid_client", "Token reuse detected");
    let _ = ask(&json!({"aud": token, "jti": "two"})).await.expect(200);
}
