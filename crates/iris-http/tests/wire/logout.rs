//! Logout that a client asks the browser for.

use serde_json::json;

use crate::visitor::{CALLBACK, Site, Visitor, encode, form, text};

#[tokio::test]
async fn a_client_logs_out_with_its_id_token() {
    let site = Site::start().await;
    let mut anna = Visitor::new(&site.world);
    let code = site.code(&mut anna, "app", &[]).await;
    let tokens = site.redeem("app", &code, &[]).await.expect(200).json();
    // Long expired: it still says who asks.
    site.world.clock.advance(1000);
    let hint = tokens["id_token"].as_str().unwrap();
    let pairs = [
        ("id_token_hint", hint),
        ("post_logout_redirect_uri", CALLBACK),
        ("state", "bye now"),
    ];
    let url = format!("{}?{}", site.world.protocol("r", "logout"), form(&pairs));
    let back = anna.get(&url).await.expect(302);
    assert_eq!(
        back.header("location"),
        format!("{CALLBACK}?state=bye%20now")
    );
    assert!(!anna.cookies.contains_key("KEYCLOAK_IDENTITY"));
    site.refresh("app", &tokens)
        .await
        .refused(400, "invalid_grant", "Session not active");
    assert!(!site.is_active(&tokens["access_token"]).await);
    // Again: nothing is left to end, and the way back is the same.
    let _ = anna.get(&url).await.expect(302);

    let code = site.code(&mut anna, "app", &[]).await;
    let tokens = site.redeem("app", &code, &[]).await.expect(200).json();
    let fields = [("id_token_hint", tokens["id_token"].as_str().unwrap())];
    let page = anna
        .post(&site.world.protocol("r", "logout"), &fields)
        .await
        .expect(200);
    assert!(text(&page).contains("You are logged out"));
    site.refresh("app", &tokens)
        .await
        .refused(400, "invalid_grant", "Session not active");
}

#[tokio::test]
async fn without_an_id_token_the_person_is_asked() {
    let site = Site::start().await;
    let mut anna = Visitor::new(&site.world);
    let code = site.code(&mut anna, "app", &[]).await;
    let tokens = site.redeem("app", &code, &[]).await.expect(200).json();
    let pairs = [("client_id", "app"), ("post_logout_redirect_uri", CALLBACK)];
    let url = format!("{}?{}", site.world.protocol("r", "logout"), form(&pairs));
    let page = anna.get(&url).await.expect(200);
    assert!(text(&page).contains("Do you want to log out?"));
    let _ = site.refresh("app", &tokens).await.expect(200);
    // Another site cannot answer for the person.
    let mut other = Visitor::new(&site.world);
    other.cookies.insert(
        "KEYCLOAK_IDENTITY".to_owned(),
        anna.cookies["KEYCLOAK_IDENTITY"].clone(),
    );
    let _ = other.submit(&page, &[]).await.expect(400);
    let _ = site.refresh("app", &tokens).await.expect(200);
    let back = anna
        .submit(&page, &[("confirmLogout", "true")])
        .await
        .expect(302);
    assert_eq!(back.header("location"), CALLBACK);
    assert!(!anna.cookies.contains_key("KEYCLOAK_IDENTITY"));
    site.refresh("app", &tokens)
        .await
        .refused(400, "invalid_grant", "Session not active");
    // Nobody is logged in: there is nothing to ask.
    let _ = anna.get(&url).await.expect(302);
    let page = anna
        .get(&site.world.protocol("r", "logout"))
        .await
        .expect(200);
    assert!(text(&page).contains("You are logged out"));
}

#[tokio::test]
async fn a_logout_leads_only_to_registered_places() {
    let site = Site::start().await;
    let id = site
        .client(json!({"clientId": "two", "redirectUris": [CALLBACK],
        "attributes": {"post.logout.redirect.uris": "https://bye.example/*##https://x.example/"}}))
        .await;
    let mut anna = Visitor::new(&site.world);
    let code = site.code(&mut anna, "two", &[]).await;
    let tokens = site.redeem("two", &code, &[]).await.expect(200).json();
    let hint = tokens["id_token"].as_str().unwrap();
    let access = tokens["access_token"].as_str().unwrap();
    let at =
        |pairs: &[(&str, &str)]| format!("{}?{}", site.world.protocol("r", "logout"), form(pairs));
    let place = "post_logout_redirect_uri";
    for (pairs, expected) in [
        (
            &[(place, CALLBACK)][..],
            "Missing parameters: id_token_hint",
        ),
        (
            &[(place, CALLBACK), ("client_id", "nosuch")],
            "Invalid redirect uri",
        ),
        (
            &[(place, CALLBACK), ("client_id", "two")],
            "Invalid redirect uri",
        ),
        (
            &[(place, "https://evil.example/"), ("id_token_hint", hint)],
            "Invalid redirect uri",
        ),
        (
            &[
                (place, "https://bye.example.evil/"),
                ("id_token_hint", hint),
            ],
            "Invalid redirect uri",
        ),
        (
            &[("id_token_hint", "x.y.z")],
            "Invalid parameter: id_token_hint",
        ),
        (
            &[("id_token_hint", access)],
            "Invalid parameter: id_token_hint",
        ),
        (
            &[("id_token_hint", hint), ("client_id", "app")],
            "Invalid parameter: client_id",
        ),
    ] {
        let page = anna.get(&at(pairs)).await.expect(400);
        assert!(text(&page).contains(expected), "{pairs:?}: {}", text(&page));
    }
    let _ = site.refresh("two", &tokens).await.expect(200);
    site.change_client(
        &id,
        json!({"attributes": {"post.logout.redirect.uris": "-"}}),
    )
    .await;
    let none = at(&[(place, "https://bye.example/"), ("id_token_hint", hint)]);
    let _ = anna.get(&none).await.expect(400);
    site.change_client(
        &id,
        json!({"attributes": {"post.logout.redirect.uris": "+##https://bye.example/*"}}),
    )
    .await;
    let back = anna
        .get(&at(&[
            (place, "https://bye.example/x"),
            ("id_token_hint", hint),
        ]))
        .await;
    assert_eq!(back.expect(302).header("location"), "https://bye.example/x");
    let url = at(&[(place, CALLBACK), ("id_token_hint", hint)]);
    assert!(url.contains(&encode(CALLBACK)));
    let _ = anna.get(&url).await.expect(302);
}
