//! Login in a browser: pages, responses, single sign-on, required actions.

use serde_json::json;

use crate::harness::{World, claims};
use crate::visitor::{
    CALLBACK, Site, VERIFIER, Visitor, attribute, challenge, encode, form, parameters, text,
};

#[tokio::test]
async fn a_person_logs_in_and_the_client_gets_tokens() {
    let site = Site::start().await;
    let mut anna = Visitor::new(&site.world);
    let url = site.auth_url(
        "app",
        &[
            ("state", "a&b=c d"),
            ("nonce", "n-1"),
            ("code_challenge", &challenge()),
            ("code_challenge_method", "S256"),
        ],
    );
    let page = anna.get(&url).await.expect(200);
    let html = text(&page);
    assert_eq!(page.header("content-type"), "text/html;charset=utf-8");
    assert!(
        page.header("content-security-policy")
            .starts_with("default-src 'none'")
    );
    assert!(page.header("cache-control").contains("no-store"));
    assert_eq!(page.header("x-frame-options"), "SAMEORIGIN");
    assert_eq!(page.header("referrer-policy"), "no-referrer");
    assert!(html.starts_with("<!DOCTYPE html>\n<html lang=\"en\">") && !html.contains("<script"));
    assert!(html.contains("Sign in to your account") && html.contains("The App"));
    assert!(html.contains("<label for=\"username\">") && html.contains("<label for=\"password\">"));
    let cookie = page.header_text("set-cookie");
    assert!(cookie.starts_with("AUTH_SESSION_ID="), "{cookie}");
    assert!(
        cookie.ends_with("; Path=/auth/realms/r/; HttpOnly; SameSite=Lax"),
        "{cookie}"
    );
    let style = attribute(&html, "rel=\"stylesheet\"", "href");
    let sheet = site.world.http.get(&style).await.expect(200);
    assert!(
        text(&sheet).contains(":root {") && sheet.header("content-type").starts_with("text/css")
    );

    let fields = [("username", "Anna"), ("password", "secret")];
    let back = anna.submit(&page, &fields).await.expect(302);
    let location = back.header_text("location");
    assert!(location.starts_with(&format!("{CALLBACK}?")), "{location}");
    let cookie = back.header_text("set-cookie");
    assert!(
        cookie.starts_with("KEYCLOAK_IDENTITY=") && cookie.contains("; HttpOnly"),
        "{cookie}"
    );
    assert!(!cookie.contains("Max-Age"), "{cookie}");
    let sent = parameters(&location);
    assert_eq!(sent["state"], "a&b=c d");
    assert_eq!(sent["iss"], site.world.at("/realms/r"));
    assert_eq!(sent["code"].split('.').count(), 3);

    let verifier = [("code_verifier", VERIFIER)];
    let reply = site
        .redeem("app", &sent["code"], &verifier)
        .await
        .expect(200);
    assert_eq!(reply.header("cache-control"), "no-store");
    let tokens = reply.json();
    assert_eq!(tokens["session_state"], json!(sent["session_state"]));
    let (access, id) = (claims(&tokens["access_token"]), claims(&tokens["id_token"]));
    assert_eq!(
        (&id["nonce"], &id["aud"], &id["acr"]),
        (&json!("n-1"), &json!("app"), &json!("1"))
    );
    assert_eq!(id["auth_time"], json!(1_800_000_000));
    assert_eq!(
        (&id["sid"], &access["sid"]),
        (&tokens["session_state"], &tokens["session_state"])
    );
    assert!(access.get("nonce").is_none() && access["acr"] == "1");
    assert!(access["jti"].as_str().unwrap().starts_with("onrtac:"));
    let who = site
        .world
        .http
        .bearer(tokens["access_token"].as_str().unwrap());
    let user = who
        .get(&site.world.protocol("r", "userinfo"))
        .await
        .expect(200)
        .json();
    assert_eq!(
        (&user["sub"], &user["preferred_username"]),
        (&id["sub"], &json!("anna"))
    );
    let next = site.refresh("app", &tokens).await.expect(200).json();
    assert_eq!(
        claims(&next["access_token"])["sid"],
        tokens["session_state"]
    );

    // The second client needs no password; the login and its session are the same.
    let again = anna
        .get(&site.auth_url("web", &[("prompt", "none")]))
        .await
        .expect(302);
    let sent = parameters(again.header("location"));
    assert_eq!(
        sent["session_state"],
        tokens["session_state"].as_str().unwrap()
    );
    let other = site
        .redeem("web", &sent["code"], &[])
        .await
        .expect(200)
        .json();
    assert_eq!(claims(&other["id_token"])["acr"], "0");
    assert_eq!(claims(&other["id_token"])["auth_time"], 1_800_000_000);
    let _ = site.refresh("app", &next).await.expect(200);
    let _ = site.refresh("web", &other).await.expect(200);
}

#[tokio::test]
async fn what_goes_wrong_before_the_client_is_known_is_a_page() {
    let site = Site::start().await;
    site.client(json!({"clientId": "off", "enabled": false, "redirectUris": [CALLBACK]}))
        .await;
    let mut anna = Visitor::new(&site.world);
    for (client, more, expected) in [
        ("", &[][..], "Missing parameters: client_id"),
        ("nosuch", &[], "Client not found."),
        ("off", &[], "Client disabled."),
        (
            "app",
            &[("redirect_uri", "https://evil.example/cb")],
            "Invalid parameter: redirect_uri",
        ),
        (
            "app",
            &[("redirect_uri", "https://app.example/cb/x")],
            "Invalid parameter: redirect_uri",
        ),
        (
            "app",
            &[("redirect_uri", "javascript:alert(1)")],
            "Invalid parameter: redirect_uri",
        ),
        (
            "app",
            &[("redirect_uri", "")],
            "Invalid parameter: redirect_uri",
        ),
    ] {
        let url = site.auth_url(client, more);
        let url = url.replace("client_id=&", "");
        let page = anna.get(&url).await.expect(400);
        let html = text(&page);
        assert!(html.contains(expected), "{expected}: {html}");
        assert_eq!(page.header("location"), "");
    }
    let url = site.auth_url("realm-management", &[]);
    let page = anna.get(&url).await.expect(403);
    assert!(text(&page).contains("Bearer-only"));
    let url = site.world.at("/realms/nosuch/protocol/openid-connect/auth");
    assert!(text(&anna.get(&url).await.expect(404)).contains("Realm does not exist"));
    let german = Visitor {
        http: site.world.http.with("accept-language", "de-DE,en;q=0.5"),
        ..anna.clone()
    };
    let page = german
        .clone()
        .get(&site.auth_url("nosuch", &[]))
        .await
        .expect(400);
    assert!(
        text(&page).contains("<html lang=\"de\">")
            && text(&page).contains("Client nicht gefunden.")
    );
    let broken = format!("{}&state=%ff", site.auth_url("app", &[]));
    assert!(text(&anna.get(&broken).await.expect(400)).contains("Invalid Request"));

    let remote = Visitor {
        http: site.world.http.with("x-forwarded-for", "203.0.113.1"),
        ..anna.clone()
    };
    let page = remote
        .clone()
        .get(&site.auth_url("app", &[]))
        .await
        .expect(400);
    assert!(text(&page).contains("HTTPS required"));
    let remote = Visitor {
        http: remote.http.with("x-forwarded-proto", "https"),
        ..anna.clone()
    };
    let page = remote
        .clone()
        .get(&site.auth_url("app", &[]))
        .await
        .expect(200);
    let cookie = page.header_text("set-cookie");
    assert!(
        cookie.ends_with("; HttpOnly; Secure; SameSite=None"),
        "{cookie}"
    );
    site.change_realm(json!({"enabled": false})).await;
    let page = anna.get(&site.auth_url("app", &[])).await.expect(400);
    assert!(text(&page).contains("Realm not enabled"));
}

#[tokio::test]
async fn what_goes_wrong_later_is_told_to_the_client() {
    let site = Site::start().await;
    let id = site
        .client(json!({"clientId": "strict", "redirectUris": [CALLBACK],
        "attributes": {"pkce.code.challenge.method": "S256"}}))
        .await;
    site.client(json!({"clientId": "machine", "redirectUris": [CALLBACK],
        "standardFlowEnabled": false}))
        .await;
    site.client(json!({"clientId": "asks", "redirectUris": [CALLBACK], "consentRequired": true}))
        .await;
    let mut anna = Visitor::new(&site.world);
    let long = "x".repeat(5000);
    let hash = challenge();
    let flow = "Client is not allowed to initiate browser login with given response_type. ";
    let standard = format!("{flow}Standard flow is disabled for the client.");
    let implicit = format!("{flow}Implicit flow is disabled for the client.");
    for (client, more, error, description) in [
        (
            "app",
            &[("response_type", "")][..],
            "invalid_request",
            "Missing parameter: response_type",
        ),
        (
            "app",
            &[("response_type", "foo")],
            "unsupported_response_type",
            "",
        ),
        (
            "app",
            &[("response_type", "id_token token")],
            "unauthorized_client",
            &implicit,
        ),
        ("machine", &[], "unauthorized_client", &standard),
        (
            "app",
            &[("response_mode", "jwt")],
            "invalid_request",
            "Invalid parameter: response_mode",
        ),
        (
            "app",
            &[("scope", "openid nosuch")],
            "invalid_scope",
            "Invalid scopes: openid nosuch",
        ),
        ("app", &[("prompt", "none")], "login_required", ""),
        (
            "app",
            &[("prompt", "none login")],
            "invalid_request",
            "Invalid parameter: prompt",
        ),
        (
            "app",
            &[("prompt", "none consent")],
            "invalid_request",
            "Invalid parameter: prompt",
        ),
        (
            "app",
            &[("max_age", "x")],
            "invalid_request",
            "Invalid parameter: max_age",
        ),
        (
            "app",
            &[("login_hint", &long[..300])],
            "invalid_request",
            "Invalid parameter: login_hint",
        ),
        (
            "app",
            &[("nonce", &long)],
            "invalid_request",
            "Request parameters are too long",
        ),
        (
            "app",
            &[("request", "x.y.z")],
            "request_not_supported",
            "Parameter request is not supported",
        ),
        (
            "app",
            &[("request_uri", "https://a.example")],
            "request_uri_not_supported",
            "Parameter request_uri is not supported",
        ),
        (
            "app",
            &[("code_challenge_method", "S256")],
            "invalid_request",
            "Missing parameter: code_challenge",
        ),
        (
            "app",
            &[("code_challenge", "short")],
            "invalid_request",
            "Invalid parameter: code_challenge",
        ),
        (
            "app",
            &[("code_challenge", &hash), ("code_challenge_method", "S512")],
            "invalid_request",
            "Invalid parameter: code_challenge_method",
        ),
        (
            "strict",
            &[],
            "invalid_request",
            "Missing parameter: code_challenge_method",
        ),
        (
            "strict",
            &[("code_challenge_method", "S256")],
            "invalid_request",
            "Missing parameter: code_challenge",
        ),
        (
            "strict",
            &[
                ("code_challenge", &hash),
                ("code_challenge_method", "plain"),
            ],
            "invalid_request",
            "Invalid parameter: code challenge method is not matching the configured one",
        ),
    ] {
        let mut all = more.to_vec();
        if !more.iter().any(|(_, value)| value.len() > 4000) {
            all.push(("state", "s1"));
        }
        let reply = anna.get(&site.auth_url(client, &all)).await.expect(302);
        let sent = parameters(reply.header("location"));
        assert_eq!(sent["error"], error, "{more:?}");
        let text = sent.get("error_description").map_or("", String::as_str);
        assert_eq!(text, description, "{more:?}");
        assert_eq!(sent["iss"], site.world.at("/realms/r"));
        assert_eq!(sent.get("state").map_or("s1", String::as_str), "s1");
        assert!(!sent.contains_key("code"));
    }
    let twice = format!("{}&scope=email", site.auth_url("app", &[]));
    let reply = anna.get(&twice).await.expect(302);
    assert_eq!(
        parameters(reply.header("location"))["error_description"],
        "duplicated parameter"
    );
    site.change_client(
        &id,
        json!({"attributes": {
        "exclude.issuer.from.auth.response": "true",
        "exclude.session.state.from.auth.response": "true"}}),
    )
    .await;
    let more = [
        ("code_challenge", hash.as_str()),
        ("code_challenge_method", "S256"),
    ];
    let reply = anna
        .log_in(&site.auth_url("strict", &more), "anna", "secret")
        .await
        .expect(302);
    let names: Vec<_> = parameters(reply.header("location")).into_keys().collect();
    assert_eq!(names, ["code"]);
}

#[tokio::test]
async fn responses_come_in_the_mode_asked_for() {
    let site = Site::start().await;
    let mut anna = Visitor::new(&site.world);
    let url = site.auth_url("app", &[("response_mode", "fragment"), ("state", "s")]);
    let reply = anna.log_in(&url, "anna", "secret").await.expect(302);
    let location = reply.header_text("location");
    assert!(
        location.starts_with(&format!("{CALLBACK}#state=s&")),
        "{location}"
    );
    assert!(parameters(&location).contains_key("code"));

    let state = "\"><script>alert(1)</script>";
    let url = site.auth_url("app", &[("response_mode", "form_post"), ("state", state)]);
    let page = anna.get(&url).await.expect(200);
    let html = text(&page);
    assert_eq!(attribute(&html, "<form", "action"), CALLBACK);
    assert_eq!(attribute(&html, "name=\"state\"", "value"), state);
    assert!(!html.contains("<script>") && html.contains("<button type=\"submit\">"));
    assert!(
        page.header("content-security-policy")
            .contains("script-src 'self'")
    );
    let script = attribute(&html, "<script", "src");
    let _ = site.world.http.get(&script).await.expect(200);
    let code = attribute(&html, "name=\"code\"", "value");
    let _ = site.redeem("app", &code, &[]).await.expect(200);
    // A state as long as the original takes comes back.
    let long = "s".repeat(4000);
    let mut bert = Visitor::new(&site.world);
    let url = site.auth_url("app", &[("state", &long)]);
    let reply = bert.log_in(&url, "anna", "secret").await.expect(302);
    assert_eq!(parameters(reply.header("location"))["state"], long);
    // Errors as well, and requests that are posted.
    let fields = [
        ("client_id", "app"),
        ("response_type", "code"),
        ("redirect_uri", CALLBACK),
        ("scope", "nosuch"),
        ("response_mode", "form_post"),
    ];
    let page = anna
        .post(&site.world.protocol("r", "auth"), &fields)
        .await
        .expect(200);
    assert_eq!(
        attribute(&text(&page), "name=\"error\"", "value"),
        "invalid_scope"
    );
}

#[tokio::test]
async fn prompt_and_max_age_ask_again() {
    let site = Site::start().await;
    site.user("bert", json!({})).await;
    let mut anna = Visitor::new(&site.world);
    let hint = "\"><script>";
    let page = anna
        .get(&site.auth_url("app", &[("login_hint", hint)]))
        .await
        .expect(200);
    let html = text(&page);
    assert!(!html.contains("<script>"));
    assert_eq!(attribute(&html, "id=\"username\"", "value"), hint);
    let code = site.code(&mut anna, "app", &[]).await;
    let first = site.redeem("app", &code, &[]).await.expect(200).json();
    site.world.clock.advance(100);
    let _ = anna
        .get(&site.auth_url("app", &[("max_age", "100")]))
        .await
        .expect(302);
    let _ = anna
        .get(&site.auth_url("app", &[("max_age", "99")]))
        .await
        .expect(200);
    let none = [("max_age", "99"), ("prompt", "none")];
    let reply = anna.get(&site.auth_url("app", &none)).await.expect(302);
    assert_eq!(
        parameters(reply.header("location"))["error"],
        "login_required"
    );
    let page = anna
        .get(&site.auth_url("app", &[("prompt", "login")]))
        .await
        .expect(200);
    assert_eq!(attribute(&text(&page), "id=\"username\"", "value"), "anna");
    let fields = [("username", "anna"), ("password", "secret")];
    let reply = anna.submit(&page, &fields).await.expect(302);
    let code = parameters(reply.header("location"))["code"].clone();
    let second = site.redeem("app", &code, &[]).await.expect(200).json();
    assert_eq!(second["session_state"], first["session_state"]);
    let id = claims(&second["id_token"]);
    assert_eq!(
        (&id["auth_time"], &id["acr"]),
        (&json!(1_800_000_100), &json!("1"))
    );

    // Somebody else at the same browser: the login before ends.
    let url = site.auth_url("app", &[("prompt", "login")]);
    let reply = anna
        .log_in(&url, "bert@example.com", "secret")
        .await
        .expect(302);
    let sent = parameters(reply.header("location"));
    assert_ne!(
        sent["session_state"],
        first["session_state"].as_str().unwrap()
    );
    site.refresh("app", &second)
        .await
        .refused(400, "invalid_grant", "Session not active");
}

#[tokio::test]
async fn wrong_passwords_are_told_in_the_persons_language() {
    let site = Site::start().await;
    let id = site.user("off", json!({"enabled": false})).await;
    let mut anna = Visitor::new(&site.world);
    for (name, password) in [
        ("anna", "wrong"),
        ("nobody", "secret"),
        ("", ""),
        ("off", "wrong"),
        ("service-account-web", "secret"),
    ] {
        let url = site.auth_url("app", &[("state", "s")]);
        let page = anna.log_in(&url, name, password).await.expect(200);
        let html = text(&page);
        assert!(html.contains("Invalid username or password."), "{html}");
        assert!(html.contains("aria-invalid=\"true\"") && html.contains("role=\"alert\""));
        assert!(!anna.cookies.contains_key("KEYCLOAK_IDENTITY") && !html.contains(">secret"));
    }
    let url = site.auth_url("app", &[("ui_locales", "fr de")]);
    let page = anna.log_in(&url, "anna", "wrong").await.expect(200);
    assert!(text(&page).contains("Ungültiger Benutzername oder Passwort."));
    // The page shown again works.
    let fields = [("username", "anna"), ("password", "secret")];
    let _ = anna.clone().submit(&page, &fields).await.expect(302);
    let page = anna
        .log_in(&site.auth_url("app", &[]), "off", "secret")
        .await
        .expect(200);
    assert!(text(&page).contains("Account is disabled"));
    let url = site.world.admin_url(&format!("/r/users/{id}"));
    let _ = site
        .admin
        .json("PUT", &url, json!({"enabled": true}))
        .await
        .expect(204);
    let _ = anna
        .log_in(&site.auth_url("app", &[]), "off", "secret")
        .await
        .expect(302);
}

#[tokio::test]
async fn forms_belong_to_one_browser_and_hold_for_a_while() {
    let site = Site::start().await;
    let mut anna = Visitor::new(&site.world);
    let page = anna.get(&site.auth_url("app", &[])).await.expect(200);
    let fields = [("username", "anna"), ("password", "secret")];
    let mut blank = Visitor::new(&site.world);
    let refused = blank.submit(&page, &fields).await.expect(400);
    assert!(text(&refused).contains("Cookie not found"));
    let mut other = Visitor::new(&site.world);
    let _ = other.get(&site.auth_url("app", &[])).await.expect(200);
    let refused = other.submit(&page, &fields).await.expect(400);
    assert!(text(&refused).contains("Page has expired"));
    assert!(!other.cookies.contains_key("KEYCLOAK_IDENTITY"));
    // A cookie somebody planted is replaced, not used.
    let mut planted = Visitor::new(&site.world);
    planted
        .cookies
        .insert("AUTH_SESSION_ID".to_owned(), "chosen".to_owned());
    let _ = planted.get(&site.auth_url("app", &[])).await.expect(200);
    assert_ne!(planted.cookies["AUTH_SESSION_ID"], "chosen");
    // Two tabs.
    let second = anna
        .get(&site.auth_url("app", &[("state", "2")]))
        .await
        .expect(200);
    assert_eq!(second.header("set-cookie"), "");
    let reload = attribute(&text(&second), "<form", "action");
    assert!(text(&anna.get(&reload).await.expect(200)).contains("id=\"username\""));
    let _ = anna.submit(&page, &fields).await.expect(302);
    let reply = anna.submit(&second, &fields).await.expect(302);
    assert_eq!(parameters(reply.header("location"))["state"], "2");

    let action = attribute(&text(&page), "<form", "action");
    for forged in [
        action.replace("session_code=", "session_code=x"),
        site.world.at("/realms/r/login-actions/authenticate"),
        format!(
            "{}?session_code={}",
            site.world.at("/realms/r/login-actions/authenticate"),
            encode(&anna.cookies["KEYCLOAK_IDENTITY"])
        ),
    ] {
        let refused = anna.post(&forged, &fields).await.expect(400);
        assert!(text(&refused).contains("Page has expired"), "{forged}");
    }
    site.world.clock.advance(1801);
    let refused = anna.submit(&page, &fields).await.expect(400);
    assert!(text(&refused).contains("Page has expired"));
    // Another realm's ticket.
    let _ = site.world.realm("s").await;
    let refused = anna
        .post(&action.replace("/realms/r/", "/realms/s/"), &fields)
        .await
        .expect(400);
    assert!(text(&refused).contains("Page has expired"));
}

#[tokio::test]
async fn a_temporary_password_is_changed_at_the_first_login() {
    let site = Site::start().await;
    let temporary =
        json!({"credentials": [{"type": "password", "value": "secret", "temporary": true}]});
    site.user("cora", temporary).await;
    let mut cora = Visitor::new(&site.world);
    let page = cora
        .log_in(&site.auth_url("app", &[]), "cora", "secret")
        .await
        .expect(200);
    assert!(
        text(&page).contains("Update password")
            && text(&page).contains("autocomplete=\"new-password\"")
    );
    assert!(!cora.cookies.contains_key("KEYCLOAK_IDENTITY"));
    for (new, again, expected) in [
        ("", "", "Please specify password."),
        ("new-1", "new-2", "Passwords don&#39;t match."),
        (
            "secret",
            "secret",
            "The new password must differ from the old one.",
        ),
    ] {
        let fields = [("password-new", new), ("password-confirm", again)];
        let page = cora.submit(&page, &fields).await.expect(200);
        assert!(text(&page).contains(expected), "{}", text(&page));
    }
    let long = "x".repeat(5000);
    let fields = [("password-new", long.as_str()), ("password-confirm", &long)];
    let again = cora.submit(&page, &fields).await.expect(200);
    assert!(text(&again).contains("too long"));
    let fields = [("password-new", "new-1"), ("password-confirm", "new-1")];
    let mut thief = Visitor::new(&site.world);
    let _ = thief.get(&site.auth_url("app", &[])).await;
    let _ = thief.submit(&page, &fields).await.expect(400);
    let back = cora.submit(&page, &fields).await.expect(302);
    let code = parameters(back.header("location"))["code"].clone();
    let _ = site.redeem("app", &code, &[]).await.expect(200);
    // The ticket changes the password once.
    let fields = [("password-new", "new-2"), ("password-confirm", "new-2")];
    assert!(text(&cora.submit(&page, &fields).await.expect(400)).contains("expired"));
    let mut next = Visitor::new(&site.world);
    let _ = next
        .log_in(&site.auth_url("app", &[]), "cora", "secret")
        .await
        .expect(200);
    let _ = next
        .log_in(&site.auth_url("app", &[]), "cora", "new-1")
        .await
        .expect(302);

    let id = site
        .user("dora", json!({"requiredActions": ["CONFIGURE_TOTP"]}))
        .await;
    let mut dora = Visitor::new(&site.world);
    let page = dora
        .log_in(&site.auth_url("app", &[]), "dora", "secret")
        .await
        .expect(400);
    assert!(text(&page).contains("CONFIGURE_TOTP"));
    // An action that comes up during a login is asked for too, and told when nothing may be shown.
    let url = site.world.admin_url(&format!("/r/users/{id}"));
    let change = async |actions: serde_json::Value| {
        let _ = site
            .admin
            .json("PUT", &url, json!({"requiredActions": actions}))
            .await
            .expect(204);
    };
    change(json!([])).await;
    let _ = dora
        .log_in(&site.auth_url("app", &[]), "dora", "secret")
        .await
        .expect(302);
    change(json!(["UPDATE_PASSWORD"])).await;
    let silent = dora
        .get(&site.auth_url("app", &[("prompt", "none")]))
        .await
        .expect(302);
    assert_eq!(
        parameters(silent.header("location"))["error"],
        "interaction_required"
    );
    let page = dora.get(&site.auth_url("app", &[])).await.expect(200);
    let fields = [("password-new", "new"), ("password-confirm", "new")];
    let _ = dora.submit(&page, &fields).await.expect(302);
}

#[tokio::test]
async fn people_are_remembered_where_the_realm_offers_it() {
    let site = Site::start().await;
    let mut anna = Visitor::new(&site.world);
    let page = anna.get(&site.auth_url("app", &[])).await.expect(200);
    assert!(!text(&page).contains("rememberMe"));
    site.change_realm(
        json!({"rememberMe": true, "ssoSessionMaxLifespanRememberMe": 500_000,
        "ssoSessionIdleTimeoutRememberMe": 400_000, "displayName": "Our <Realm>",
        "attributes": {"loginThemeVariables": "--accent: #e20074; x"}}),
    )
    .await;
    let page = anna.get(&site.auth_url("app", &[])).await.expect(200);
    assert!(text(&page).contains("Our &lt;Realm&gt;"));
    let theme = site.world.at("/realms/r/login-actions/theme.css");
    assert!(text(&page).contains(&theme));
    let theme = anna.get(&theme).await.expect(200);
    assert_eq!(text(&theme), ":root {\n  --accent: #e20074;\n}\n");
    let fields = [
        ("username", "anna"),
        ("password", "secret"),
        ("rememberMe", "on"),
    ];
    let back = anna.submit(&page, &fields).await.expect(302);
    assert!(
        back.header("set-cookie").ends_with("; Max-Age=500000"),
        "{}",
        back.header("set-cookie")
    );
    site.world.clock.advance(300_000);
    let _ = anna
        .get(&site.auth_url("app", &[("prompt", "none")]))
        .await
        .expect(302);
    let sent = anna.get(&site.auth_url("app", &[("prompt", "none")])).await;
    assert!(parameters(sent.header("location")).contains_key("code"));
    site.world.clock.advance(200_001);
    let sent = anna.get(&site.auth_url("app", &[("prompt", "none")])).await;
    assert_eq!(
        parameters(sent.header("location"))["error"],
        "login_required"
    );
}

#[tokio::test]
async fn logins_idle_out_and_clients_with_them() {
    let site = Site::start().await;
    let id = site
        .client(json!({"clientId": "brief", "redirectUris": [CALLBACK],
        "attributes": {"client.session.idle.timeout": "60"}}))
        .await;
    drop(id);
    let mut anna = Visitor::new(&site.world);
    let brief = site.code(&mut anna, "brief", &[]).await;
    let brief = site.redeem("brief", &brief, &[]).await.expect(200).json();
    let web = site.code(&mut anna, "web", &[]).await;
    let web = site.redeem("web", &web, &[]).await.expect(200).json();
    assert_eq!(
        (&brief["refresh_expires_in"], &web["refresh_expires_in"]),
        (&json!(60), &json!(1800))
    );
    site.world.clock.advance(61);
    site.refresh("brief", &brief)
        .await
        .refused(400, "invalid_grant", "Token is not active");
    assert!(!site.is_active(&brief["access_token"]).await);
    assert!(site.is_active(&web["access_token"]).await);
    let web = site.refresh("web", &web).await.expect(200).json();
    site.world.clock.advance(1801);
    site.refresh("web", &web)
        .await
        .refused(400, "invalid_grant", "Token is not active");
    let sent = anna
        .get(&site.auth_url("web", &[("prompt", "none")]))
        .await
        .expect(302);
    assert_eq!(
        parameters(sent.header("location"))["error"],
        "login_required"
    );
}

#[tokio::test]
async fn offline_access_outlives_the_login() {
    let site = Site::start().await;
    let mut anna = Visitor::new(&site.world);
    let scope = [("scope", "openid offline_access")];
    let code = site.code(&mut anna, "web", &scope).await;
    let tokens = site.redeem("web", &code, &[]).await.expect(200).json();
    assert_eq!(claims(&tokens["refresh_token"])["typ"], "Offline");
    let hint = tokens["id_token"].as_str().unwrap();
    let code = site.code(&mut anna, "web", &[]).await;
    let online = site.redeem("web", &code, &[]).await.expect(200).json();
    let url = format!(
        "{}?id_token_hint={}",
        site.world.protocol("r", "logout"),
        online["id_token"].as_str().unwrap()
    );
    let _ = anna.get(&url).await.expect(200);
    site.refresh("web", &online)
        .await
        .refused(400, "invalid_grant", "Session not active");
    let tokens = site.refresh("web", &tokens).await.expect(200).json();
    let url = format!(
        "{}?id_token_hint={hint}",
        site.world.protocol("r", "logout")
    );
    let _ = anna.get(&url).await.expect(200);
    site.refresh("web", &tokens).await.refused(
        400,
        "invalid_grant",
        "Offline user session not found",
    );
}

#[tokio::test]
async fn clients_in_browsers_may_read_responses_from_their_origins() {
    let site = Site::start().await;
    let mut anna = Visitor::new(&site.world);
    let url = site.world.protocol("r", "token");
    let from = |origin: &str| site.world.http.with("origin", origin);
    let asked = from("https://any.example")
        .send("OPTIONS", &url, "")
        .await
        .expect(200);
    assert_eq!(
        asked.header("access-control-allow-origin"),
        "https://any.example"
    );
    assert_eq!(
        asked.header("access-control-allow-methods"),
        "POST, OPTIONS"
    );
    let code = site.code(&mut anna, "app", &[]).await;
    let fields = form(&[
        ("grant_type", "authorization_code"),
        ("client_id", "app"),
        ("redirect_uri", CALLBACK),
        ("code", &code),
    ]);
    let reply = from("https://app.example")
        .form(&url, &fields)
        .await
        .expect(200);
    assert_eq!(
        reply.header("access-control-allow-origin"),
        "https://app.example"
    );
    assert_eq!(reply.header("access-control-allow-credentials"), "true");
    let reply = from("https://evil.example")
        .form(&url, &fields)
        .await
        .expect(400);
    assert_eq!(reply.header("access-control-allow-origin"), "");
    let page = from("https://any.example")
        .send("OPTIONS", &site.world.protocol("r", "auth"), "")
        .await;
    let _ = page.expect(405);
}

#[tokio::test]
async fn pages_of_a_client_may_use_the_admin_api_with_its_tokens() {
    let site = Site::start().await;
    let body = json!({"clientId": "console", "publicClient": true, "secret": null,
        "serviceAccountsEnabled": false, "directAccessGrantsEnabled": true,
        "webOrigins": ["https://console.example"]});
    site.world.client(&site.admin, "master", body).await;
    let form = "grant_type=password&client_id=console&username=admin&password=pw";
    let tokens = site.world.token("master", form).await.expect(200).json();
    let url = site.world.admin_url("/r/clients");
    let from = |origin: &str| site.world.http.with("origin", origin);
    let asked = from("https://console.example")
        .send("OPTIONS", &url, "")
        .await;
    let methods = asked
        .expect(200)
        .header_text("access-control-allow-methods");
    assert_eq!(methods, "GET, POST, OPTIONS");
    for (origin, allowed) in [
        ("https://console.example", "https://console.example"),
        ("https://evil.example", ""),
    ] {
        let http = from(origin).bearer(tokens["access_token"].as_str().unwrap());
        let good = http.get(&url).await.expect(200);
        assert_eq!(good.header("access-control-allow-origin"), allowed);
        let bad = http.get(&format!("{url}/nosuch")).await.expect(404);
        assert_eq!(bad.header("access-control-allow-origin"), allowed);
    }
}

#[tokio::test]
async fn the_metadata_names_what_is_served() {
    let site = Site::start().await;
    let url = site.world.at("/realms/r/.well-known/openid-configuration");
    let document = site.world.http.get(&url).await.expect(200).json();
    assert_eq!(
        document["authorization_endpoint"],
        site.world.protocol("r", "auth")
    );
    assert_eq!(document["response_types_supported"], json!(["code"]));
    assert_eq!(
        document["response_modes_supported"],
        json!(["query", "fragment", "form_post"])
    );
    assert_eq!(
        document["code_challenge_methods_supported"],
        json!(["plain", "S256"])
    );
    let grants = json!([
        "authorization_code",
        "client_credentials",
        "password",
        "refresh_token"
    ]);
    assert_eq!(document["grant_types_supported"], grants);
    assert!(document.get("device_authorization_endpoint").is_none());
}

#[tokio::test]
async fn the_admin_console_client_has_redirects_below_the_server() {
    let world = World::start().await;
    let mut admin = Visitor::new(&world);
    let callback = world.at("/admin/master/console/");
    let pairs = [
        ("client_id", "security-admin-console"),
        ("response_type", "code"),
        ("redirect_uri", callback.as_str()),
        ("scope", "openid"),
        ("code_challenge", &challenge()),
        ("code_challenge_method", "S256"),
    ];
    let url = format!("{}?{}", world.protocol("master", "auth"), form(&pairs));
    let back = admin.log_in(&url, "admin", "pw").await.expect(302);
    assert!(back.header("location").starts_with(&callback));
}

#[tokio::test]
async fn logins_are_events_and_sessions_and_failures_lock() {
    let site = Site::start().await;
    site.change_realm(
        json!({"eventsEnabled": true, "bruteForceProtected": true, "failureFactor": 2,
        "passwordPolicy": "length(4)"}),
    )
    .await;
    let id = site.user("cora", json!({})).await;
    let mut cora = Visitor::new(&site.world);
    let _ = cora
        .log_in(&site.auth_url("app", &[]), "cora", "wrong")
        .await
        .expect(200);
    let back = cora
        .log_in(&site.auth_url("app", &[]), "cora", "secret")
        .await
        .expect(302);
    let sent = parameters(back.header("location"));
    let _ = site.redeem("app", &sent["code"], &[]).await.expect(200);
    let get = async |path: &str| {
        let url = site.world.admin_url(path);
        site.admin.get(&url).await.expect(200).json()
    };
    let sessions = get(&format!("/r/users/{id}/sessions")).await;
    assert_eq!(sessions[0]["id"], sent["session_state"]);
    assert!(
        sessions[0]["clients"]
            .as_object()
            .unwrap()
            .values()
            .any(|it| it == "app")
    );
    // A login that the administrator ended is none.
    let url = site
        .world
        .admin_url(&format!("/r/sessions/{}", sent["session_state"]));
    let _ = site.admin.send("DELETE", &url, "").await.expect(204);
    let silent = cora
        .get(&site.auth_url("app", &[("prompt", "none")]))
        .await
        .expect(302);
    assert_eq!(
        parameters(silent.header("location"))["error"],
        "login_required"
    );

    let reset = site
        .world
        .admin_url(&format!("/r/users/{id}/reset-password"));
    let body = json!({"type": "password", "value": "once-more", "temporary": true});
    let _ = site.admin.json("PUT", &reset, body).await.expect(204);
    let page = cora
        .log_in(&site.auth_url("app", &[]), "cora", "once-more")
        .await
        .expect(200);
    let short = [("password-new", "abc"), ("password-confirm", "abc")];
    let page = cora.submit(&page, &short).await.expect(200);
    assert!(text(&page).contains("minimum length 4"), "{}", text(&page));
    let good = [("password-new", "abcd"), ("password-confirm", "abcd")];
    let _ = cora.submit(&page, &good).await.expect(302);
    let page = cora
        .get(&site.world.protocol("r", "logout"))
        .await
        .expect(200);
    let _ = cora.submit(&page, &[]).await.expect(200);

    let mut guesser = Visitor::new(&site.world);
    for password in ["one", "two", "abcd"] {
        let page = guesser
            .log_in(&site.auth_url("app", &[]), "cora", password)
            .await
            .expect(200);
        assert!(text(&page).contains("Invalid username or password."));
        site.world.clock.advance(2);
    }
    site.world.clock.advance(60);
    let admin = site.world.admin().await;
    let url = site.world.admin_url("/r/events?max=50");
    let events = admin.get(&url).await.expect(200).json();
    let kinds = events.as_array().unwrap().iter();
    let mut kinds: Vec<_> = kinds.map(|event| event["type"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    let expected = [
        "CODE_TO_TOKEN",
        "LOGIN",
        "LOGIN",
        "LOGIN_ERROR",
        "LOGIN_ERROR",
        "LOGIN_ERROR",
        "LOGIN_ERROR",
        "LOGOUT",
        "UPDATE_PASSWORD",
        "USER_DISABLED_BY_TEMPORARY_LOCKOUT",
    ];
    assert_eq!(kinds, expected);
    let login = events
        .as_array()
        .unwrap()
        .iter()
        .find(|event| event["type"] == "LOGIN")
        .unwrap();
    assert_eq!(
        (&login["clientId"], &login["userId"]),
        (&json!("app"), &json!(id))
    );
    assert_eq!(login["details"]["redirect_uri"], CALLBACK);
    let _ = guesser
        .log_in(&site.auth_url("app", &[]), "cora", "abcd")
        .await
        .expect(302);
}
