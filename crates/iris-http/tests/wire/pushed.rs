//! Authorization requests that clients bring themselves (RFC 9126).

use serde_json::json;

use crate::harness::Reply;
use crate::visitor::{CALLBACK, Site, Visitor, form, parameters, text};

async fn push(site: &Site, client: &str, more: &[(&str, &str)]) -> Reply {
    let mut pairs = vec![
        ("client_id", client),
        ("client_secret", "s"),
        ("response_type", "code"),
        ("redirect_uri", CALLBACK),
        ("scope", "openid"),
    ];
    pairs.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
    pairs.extend(more.iter().filter(|(_, value)| !value.is_empty()));
    let url = site.world.protocol("r", "ext/par/request");
    site.world.http.form(&url, &form(&pairs)).await
}

fn by_name(site: &Site, client: &str, name: &str) -> String {
    let pairs = [("client_id", client), ("request_uri", name)];
    format!("{}?{}", site.world.protocol("r", "auth"), form(&pairs))
}

#[tokio::test]
async fn a_pushed_request_is_used_once_by_its_client() {
    let site = Site::start().await;
    let reply = push(&site, "web", &[("state", "s 1"), ("nonce", "n")])
        .await
        .expect(201);
    assert_eq!(reply.header("cache-control"), "no-store");
    let body = reply.json();
    assert_eq!(body["expires_in"], 60);
    let name = body["request_uri"].as_str().unwrap();
    assert!(name.starts_with("urn:ietf:params:oauth:request_uri:"));
    let mut anna = Visitor::new(&site.world);
    let page = anna.get(&by_name(&site, "app", name)).await.expect(400);
    assert!(text(&page).contains("Invalid parameter: request_uri"));
    // What else the browser brings does not count.
    let url = format!(
        "{}&state=evil&redirect_uri=https://evil.example",
        by_name(&site, "web", name)
    );
    let back = anna.log_in(&url, "anna", "secret").await.expect(302);
    let sent = parameters(back.header("location"));
    assert!(back.header("location").starts_with(CALLBACK));
    assert_eq!(sent["state"], "s 1");
    let tokens = site
        .redeem("web", &sent["code"], &[])
        .await
        .expect(200)
        .json();
    assert_eq!(crate::harness::claims(&tokens["id_token"])["nonce"], "n");
    let _ = anna.get(&url).await.expect(400);
    // It ends soon.
    let body = push(&site, "web", &[]).await.expect(201).json();
    site.world.clock.advance(61);
    let late = by_name(&site, "web", body["request_uri"].as_str().unwrap());
    let _ = anna.get(&late).await.expect(400);
    // Another server's document is never fetched.
    let url = by_name(&site, "web", "https://evil.example/request");
    let url = format!("{url}&response_type=code");
    let back = anna.get(&url).await.expect(302);
    let sent = parameters(back.header("location"));
    assert_eq!(sent["error"], "request_uri_not_supported");
}

#[tokio::test]
async fn a_request_that_would_be_refused_is_refused_when_it_is_pushed() {
    let site = Site::start().await;
    for (more, error, description) in [
        (
            &[("redirect_uri", "https://evil.example/")][..],
            "invalid_request",
            "Invalid parameter: redirect_uri",
        ),
        (
            &[("scope", "nosuch")],
            "invalid_scope",
            "Invalid scopes: nosuch",
        ),
        (
            &[("response_type", "")],
            "invalid_request",
            "Missing parameter: response_type",
        ),
        (
            &[("request_uri", "urn:x")],
            "invalid_request",
            "Parameter request_uri is not supported",
        ),
        (
            &[("code_challenge", "short")],
            "invalid_request",
            "Invalid parameter: code_challenge",
        ),
    ] {
        push(&site, "web", more)
            .await
            .refused(400, error, description);
    }
    let long = "login ".repeat(10_000);
    let text = "Request parameters are too long";
    for name in ["prompt", "state"] {
        let reply = push(&site, "web", &[(name, &long)]).await;
        reply.refused(400, "invalid_request", text);
    }
    let wrong = push(&site, "web", &[("client_secret", "x")]).await;
    let text = "Invalid client or Invalid client credentials";
    wrong.refused(401, "unauthorized_client", text);
    let body = json!({"clientId": "careful", "redirectUris": [CALLBACK],
        "attributes": {"require.pushed.authorization.requests": "true"}});
    site.client(body).await;
    let mut anna = Visitor::new(&site.world);
    let back = anna.get(&site.auth_url("careful", &[])).await.expect(302);
    let sent = parameters(back.header("location"));
    assert_eq!(sent["error"], "invalid_request");
    let body = push(&site, "careful", &[]).await.expect(201).json();
    let url = by_name(&site, "careful", body["request_uri"].as_str().unwrap());
    let _ = anna.log_in(&url, "anna", "secret").await.expect(302);
}
