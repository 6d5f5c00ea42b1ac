//! Frames in which pages of clients watch the login (what `keycloak-js` does by default).

use serde_json::json;

use crate::harness::claims;
use crate::visitor::{CALLBACK, Site, Visitor, attribute, encode, text};

#[tokio::test]
async fn a_frame_of_a_client_can_watch_the_login() {
    let site = Site::start().await;
    let frame = site.world.protocol("r", "login-status-iframe.html");
    let known = site
        .world
        .http
        .get(&site.world.at("/realms/r/.well-known/openid-configuration"))
        .await
        .json();
    assert_eq!(known["check_session_iframe"], frame);
    let page = site
        .world
        .http
        .get(&format!("{frame}?version=abc"))
        .await
        .expect(200);
    assert_eq!(page.header("x-frame-options"), "");
    let policy = page.header_text("content-security-policy");
    assert!(policy.contains("frame-ancestors *") && policy.contains("default-src 'none'"));
    let script = attribute(&text(&page), "<script", "src");
    let script = site.world.http.get(&script).await.expect(200);
    assert_eq!(
        script.header("content-type"),
        "text/javascript;charset=utf-8"
    );
    let script = text(&script);
    assert!(script.contains("KEYCLOAK_SESSION") && script.contains("postMessage"));
    // Every other page stays out of foreign frames.
    let login = site
        .world
        .http
        .get(&site.auth_url("app", &[]))
        .await
        .expect(200);
    assert_eq!(login.header("x-frame-options"), "SAMEORIGIN");

    let may = async |client: &str, origin: &str| {
        let query = format!("client_id={}&origin={}", encode(client), encode(origin));
        let url = format!("{frame}/init?{query}");
        site.world.http.get(&url).await.status.as_u16()
    };
    assert_eq!(may("app", "https://app.example").await, 204);
    let own = site.world.url.strip_suffix("/auth").unwrap();
    assert_eq!(may("web", own).await, 204);
    for (client, origin) in [
        ("app", "https://evil.example"),
        ("nosuch", "https://app.example"),
        ("", ""),
    ] {
        assert_eq!(may(client, origin).await, 403, "{client} {origin}");
    }
    for (step, needle) in [("step1", "KEYCLOAK_3P_COOKIE"), ("step2", "unsupported")] {
        let url = site.world.protocol("r", &format!("3p-cookies/{step}.html"));
        let page = site.world.http.get(&url).await.expect(200);
        assert_eq!(page.header("x-frame-options"), "");
        let script = attribute(&text(&page), "<script", "src");
        let script = site.world.http.get(&script).await.expect(200);
        assert!(text(&script).contains(needle));
    }
}

#[tokio::test]
async fn the_cookie_of_the_frame_names_the_login_without_telling_it() {
    let site = Site::start().await;
    let mut anna = Visitor::new(&site.world);
    let page = anna.get(&site.auth_url("app", &[])).await.expect(200);
    let fields = [("username", "anna"), ("password", "secret")];
    let back = anna.submit(&page, &fields).await.expect(302);
    let lines: Vec<_> = back.headers.get_all("set-cookie").iter().collect();
    let find = |name: &str| {
        let mut texts = lines.iter().map(|line| line.to_str().unwrap());
        texts
            .find(|text| text.starts_with(name))
            .unwrap()
            .to_owned()
    };
    assert!(!find("KEYCLOAK_SESSION=").contains("HttpOnly"));
    assert!(find("KEYCLOAK_IDENTITY=").contains("HttpOnly"));
    let sent = crate::visitor::parameters(back.header("location"));
    let tokens = site
        .redeem("app", &sent["code"], &[])
        .await
        .expect(200)
        .json();
    let sid = claims(&tokens["access_token"])["sid"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(sent["session_state"], sid);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, sid.as_bytes());
    assert_eq!(
        anna.cookies["KEYCLOAK_SESSION"],
        o28m_jose::base64url(digest.as_ref())
    );
    // It is nothing but a mark: with it alone nobody is logged in.
    anna.cookies.remove("KEYCLOAK_IDENTITY");
    let silent = anna
        .get(&site.auth_url("app", &[("prompt", "none")]))
        .await
        .expect(302);
    let sent = crate::visitor::parameters(silent.header("location"));
    assert_eq!(json!(sent["error"]), "login_required");
    assert!(silent.header("location").starts_with(CALLBACK));
}
