//! Clients hear of logouts: by calls to them, and in frames of the browser.

use serde_json::{Value, json};

use crate::harness::{Other, claims, header};
use crate::visitor::{CALLBACK, Site, Visitor, attribute, form, text};

/// The only logout token that arrived; gives it with the path it came to.
fn token(other: &Other) -> (String, Value) {
    let received = other.received();
    let [(line, body)] = &received[..] else {
        panic!("{received:?}");
    };
    let token = body.strip_prefix("logout_token=").unwrap();
    (line.clone(), json!(token))
}

async fn tokens(site: &Site, anna: &mut Visitor, client: &str) -> Value {
    let code = site.code(anna, client, &[]).await;
    site.redeem(client, &code, &[]).await.expect(200).json()
}

#[tokio::test]
async fn a_client_is_called_when_a_login_of_its_ends() {
    let site = Site::start().await;
    let other = Other::start();
    let url = format!("{}/out", other.url);
    let attributes = |required: &str| {
        json!({"backchannel.logout.url": url, "backchannel.logout.session.required": required,
            "post.logout.redirect.uris": "+"})
    };
    let body =
        json!({"clientId": "told", "redirectUris": [CALLBACK], "attributes": attributes("true")});
    let id = site.client(body).await;
    let mut anna = Visitor::new(&site.world);
    let got = tokens(&site, &mut anna, "told").await;
    let (sid, sub) = (&got["session_state"], &claims(&got["id_token"])["sub"]);

    // The browser's logout, asked for by another client of the same login.
    let app = tokens(&site, &mut anna, "app").await;
    let hint = app["id_token"].as_str().unwrap();
    let pairs = [
        ("id_token_hint", hint),
        ("post_logout_redirect_uri", CALLBACK),
    ];
    let logout = site.world.protocol("r", "logout");
    let _ = anna
        .get(&format!("{logout}?{}", form(&pairs)))
        .await
        .expect(302);
    let (line, sent) = token(&other);
    assert_eq!(line, "POST /out");
    assert_eq!(header(&sent)["typ"], "logout+jwt");
    let keys = site
        .world
        .http
        .get(&site.world.protocol("r", "certs"))
        .await;
    let keys = keys.json()["keys"].as_array().unwrap().clone();
    assert!(keys.iter().any(|key| key["kid"] == header(&sent)["kid"]));
    let told = claims(&sent);
    assert_eq!(
        (
            &told["iss"],
            &told["aud"],
            &told["sub"],
            &told["sid"],
            &told["typ"]
        ),
        (
            &json!(site.world.at("/realms/r")),
            &json!("told"),
            sub,
            sid,
            &json!("Logout")
        )
    );
    let event = "http://schemas.openid.net/event/backchannel-logout";
    assert_eq!(told["events"], json!({event: {}}));
    assert_eq!(
        told["exp"].as_i64().unwrap() - told["iat"].as_i64().unwrap(),
        120
    );
    assert!(told["jti"].is_string() && told.get("nonce").is_none());
    // It is a token for the client alone.
    assert!(!site.is_active(&sent).await);
    let userinfo = site.world.http.bearer(sent.as_str().unwrap());
    let _ = userinfo
        .get(&site.world.protocol("r", "userinfo"))
        .await
        .expect(401);

    // A program's logout; the client does not want the session id.
    site.change_client(&id, json!({"attributes": attributes("false")}))
        .await;
    let got = tokens(&site, &mut anna, "told").await;
    let fields = form(&[
        ("client_id", "told"),
        ("client_secret", "s"),
        ("refresh_token", got["refresh_token"].as_str().unwrap()),
    ]);
    let _ = site.world.http.form(&logout, &fields).await.expect(204);
    let (_, sent) = token(&other);
    assert!(claims(&sent).get("sid").is_none());

    // An administrator's, of a session and of a user.
    for by_user in [false, true] {
        let got = tokens(&site, &mut anna, "told").await;
        let sid = got["session_state"].as_str().unwrap();
        let reply = if by_user {
            let user = claims(&got["id_token"])["sub"].as_str().unwrap().to_owned();
            let url = site.world.admin_url(&format!("/r/users/{user}/logout"));
            site.world.clock.advance(1);
            site.admin.send("POST", &url, "").await
        } else {
            let url = site.world.admin_url(&format!("/r/sessions/{sid}"));
            site.admin.send("DELETE", &url, "").await
        };
        let _ = reply.expect(204);
        let (_, sent) = token(&other);
        assert_eq!(claims(&sent)["aud"], "told");
        site.world.clock.advance(1);
    }
}

#[tokio::test]
async fn a_client_that_does_not_answer_stops_no_logout() {
    let site = Site::start().await;
    let other = Other::start();
    other.answer(500, "no");
    let nowhere = "http://127.0.0.1:1/out";
    let urls = [nowhere, "not a url", &format!("{}/out", other.url)];
    for (at, url) in urls.into_iter().enumerate() {
        let body = json!({"clientId": format!("c{at}"), "redirectUris": [CALLBACK],
            "attributes": {"backchannel.logout.url": url}});
        site.client(body).await;
    }
    let mut anna = Visitor::new(&site.world);
    let mut last = Value::Null;
    for at in 0..3 {
        last = tokens(&site, &mut anna, &format!("c{at}")).await;
    }
    let logout = site.world.protocol("r", "logout");
    let fields = form(&[
        ("client_id", "c2"),
        ("client_secret", "s"),
        ("refresh_token", last["refresh_token"].as_str().unwrap()),
    ]);
    let _ = site.world.http.form(&logout, &fields).await.expect(204);
    assert_eq!(other.received().len(), 1);
    site.refresh("c2", &last)
        .await
        .refused(400, "invalid_grant", "Session not active");
}

#[tokio::test]
async fn a_browser_loads_the_logout_pages_of_clients() {
    let site = Site::start().await;
    for (name, url, session) in [
        ("one", "https://one.example/out", "true"),
        ("two", "https://two.example:8443/out?x=1", "false"),
        ("evil", "https://evil.example/;script-src *", "true"),
    ] {
        let body = json!({"clientId": name, "redirectUris": [CALLBACK], "frontchannelLogout": true,
            "attributes": {"frontchannel.logout.url": url,
                "frontchannel.logout.session.required": session}});
        site.client(body).await;
    }
    let mut anna = Visitor::new(&site.world);
    let mut got = Value::Null;
    for name in ["one", "two", "evil"] {
        got = tokens(&site, &mut anna, name).await;
    }
    let logout = site.world.protocol("r", "logout");
    let hint = got["id_token"].as_str().unwrap();
    let pairs = [
        ("id_token_hint", hint),
        ("post_logout_redirect_uri", CALLBACK),
        ("state", "s 1"),
    ];
    let url = format!("{logout}?{}", form(&pairs));
    let page = anna.get(&url).await.expect(200);
    let policy = page.header_text("content-security-policy");
    let frames = "frame-src https://one.example https://two.example:8443";
    assert!(policy.ends_with(frames), "{policy}");
    let html = text(&page);
    let sid = got["session_state"].as_str().unwrap();
    let issuer = crate::visitor::encode(&site.world.at("/realms/r"));
    let first = attribute(&html, "title=\"one\"", "src");
    assert_eq!(
        first,
        format!("https://one.example/out?iss={issuer}&sid={sid}")
    );
    let second = attribute(&html, "title=\"two\"", "src");
    assert_eq!(second, "https://two.example:8443/out?x=1");
    assert!(!html.contains("evil.example"));
    let next = format!("{CALLBACK}?state=s%201");
    assert_eq!(attribute(&html, "id=\"kc-continue\"", "href"), next);
    assert_eq!(page.header("refresh"), format!("4;url={next}"));
    assert!(!anna.cookies.contains_key("KEYCLOAK_IDENTITY"));
    assert!(!anna.cookies.contains_key("KEYCLOAK_SESSION"));
    // Nothing is left to end.
    let _ = anna.get(&url).await.expect(302);

    // Asked first, and without a way back.
    let _ = tokens(&site, &mut anna, "two").await;
    let page = anna.get(&logout).await.expect(200);
    let page = anna
        .submit(&page, &[("confirmLogout", "true")])
        .await
        .expect(200);
    let html = text(&page);
    assert!(html.contains("two.example:8443") && html.contains("You are logged out"));
    assert_eq!(page.header("refresh"), "");
}
