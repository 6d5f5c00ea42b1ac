//! What people allow clients to do.

use serde_json::{Value, json};

use crate::harness::words;
use crate::visitor::{CALLBACK, Site, Visitor, form, parameters, text};

async fn site() -> (Site, String) {
    let site = Site::start().await;
    let scopes = site.world.admin_url("/r/client-scopes");
    let body = json!({"name": "orders", "protocol": "openid-connect",
        "attributes": {"consent.screen.text": "Your <orders>", "display.on.consent.screen": "true"}});
    let scope = site
        .admin
        .json("POST", &scopes, body)
        .await
        .expect(201)
        .id();
    let body = json!({"clientId": "shop", "name": "The Shop", "redirectUris": [CALLBACK],
        "consentRequired": true});
    let id = site.client(body).await;
    let url = site
        .world
        .admin_url(&format!("/r/clients/{id}/optional-client-scopes/{scope}"));
    let _ = site.admin.send("PUT", &url, "").await.expect(204);
    (site, id)
}

/// Logs in and gives the page that came after it.
async fn enter(site: &Site, anna: &mut Visitor, more: &[(&str, &str)]) -> crate::harness::Reply {
    let url = site.auth_url("shop", more);
    anna.log_in(&url, "anna", "secret").await
}

async fn consents(site: &Site, user: &str) -> Value {
    let url = site.world.admin_url(&format!("/r/users/{user}/consents"));
    site.admin.get(&url).await.expect(200).json()
}

#[tokio::test]
async fn a_client_gets_what_it_was_allowed() {
    let (site, _) = site().await;
    let user = site.user("bob", json!({})).await;
    let anna_id = site
        .admin
        .get(&site.world.admin_url("/r/users?username=anna"))
        .await;
    let anna_id = anna_id.json()[0]["id"].as_str().unwrap().to_owned();
    let mut anna = Visitor::new(&site.world);
    let page = enter(&site, &mut anna, &[]).await.expect(200);
    let html = text(&page);
    for shown in [
        "Grant access",
        "The Shop",
        "Email address",
        "User profile",
        "User roles",
    ] {
        assert!(html.contains(shown), "{shown}: {html}");
    }
    assert!(!html.contains("orders") && !html.contains("basic"));
    // Refused: the client hears of it, and is asked for again.
    let back = anna.submit(&page, &[("cancel", "true")]).await.expect(302);
    let sent = parameters(back.header("location"));
    assert_eq!(sent["error"], "access_denied");
    assert_eq!(consents(&site, &anna_id).await, json!([]));
    let silent = anna
        .get(&site.auth_url("shop", &[("prompt", "none")]))
        .await;
    let sent = parameters(silent.expect(302).header("location"));
    assert_eq!(sent["error"], "consent_required");
    let page = anna
        .get(&site.auth_url("shop", &[("state", "x")]))
        .await
        .expect(200);
    // Another browser cannot answer for the person.
    let mut thief = Visitor::new(&site.world);
    let _ = thief.submit(&page, &[("accept", "true")]).await.expect(400);
    let back = anna.submit(&page, &[("accept", "true")]).await.expect(302);
    let sent = parameters(back.header("location"));
    assert_eq!(sent["state"], "x");
    let tokens = site
        .redeem("shop", &sent["code"], &[])
        .await
        .expect(200)
        .json();
    assert_eq!(words(&tokens["scope"]), ["email", "openid", "profile"]);
    // Once allowed it is not asked again, but for more it is.
    let code = site.code(&mut anna, "shop", &[("prompt", "none")]).await;
    let _ = site.redeem("shop", &code, &[]).await.expect(200);
    let more = [("scope", "openid orders")];
    let page = anna.get(&site.auth_url("shop", &more)).await.expect(200);
    let html = text(&page);
    assert!(html.contains("Your &lt;orders&gt;") && !html.contains("Email address"));
    let back = anna.submit(&page, &[("accept", "true")]).await.expect(302);
    let code = parameters(back.header("location"))["code"].clone();
    let tokens = site.redeem("shop", &code, &[]).await.expect(200).json();
    assert!(words(&tokens["scope"]).contains(&"orders".to_owned()));
    // Asked for by the client.
    let page = anna
        .get(&site.auth_url("shop", &[("prompt", "consent")]))
        .await
        .expect(200);
    assert!(text(&page).contains("Email address"));
    // A client that requires none may ask all the same.
    let page = anna
        .get(&site.auth_url("web", &[("prompt", "consent")]))
        .await
        .expect(200);
    let _ = anna.submit(&page, &[("accept", "true")]).await.expect(302);
    assert_eq!(consents(&site, &user).await, json!([]));
}

#[tokio::test]
async fn administrators_see_and_take_back_consents() {
    let (site, shop) = site().await;
    let found = site
        .admin
        .get(&site.world.admin_url("/r/users?username=anna"))
        .await;
    let user = found.json()[0]["id"].as_str().unwrap().to_owned();
    let mut anna = Visitor::new(&site.world);
    let page = enter(&site, &mut anna, &[]).await.expect(200);
    let back = anna.submit(&page, &[("accept", "true")]).await.expect(302);
    let code = parameters(back.header("location"))["code"].clone();
    let tokens = site.redeem("shop", &code, &[]).await.expect(200).json();
    // An offline token, for which the person is asked by its scope.
    let offline = [("scope", "openid offline_access")];
    let page = anna.get(&site.auth_url("shop", &offline)).await.expect(200);
    assert!(text(&page).contains("Offline access"));
    let back = anna.submit(&page, &[("accept", "true")]).await.expect(302);
    let code = parameters(back.header("location"))["code"].clone();
    let kept = site.redeem("shop", &code, &[]).await.expect(200).json();

    let all = consents(&site, &user).await;
    let one = &all[0];
    assert_eq!(
        (all.as_array().unwrap().len(), &one["clientId"]),
        (1, &json!("shop"))
    );
    let mut names: Vec<_> = one["grantedClientScopes"].as_array().unwrap().clone();
    names.sort_by_key(ToString::to_string);
    assert_eq!(
        json!(names),
        json!(["email", "offline_access", "profile", "roles"])
    );
    assert_eq!(
        one["additionalGrants"],
        json!([{"client": shop, "key": "Offline Token"}])
    );
    assert_eq!(one["createdDate"], one["lastUpdatedDate"]);
    assert_eq!(one["createdDate"].as_i64().unwrap() / 1000, 1_800_000_000);

    let url = |client: &str| {
        let path = format!("/r/users/{user}/consents/{client}");
        site.world.admin_url(&path)
    };
    let none = site.admin.send("DELETE", &url("web"), "").await;
    none.prose(404, "Consent nor offline token not found");
    let unknown = site.admin.send("DELETE", &url("nosuch"), "").await;
    unknown.prose(404, "Could not find client");
    let _ = site
        .admin
        .send("DELETE", &url("shop"), "")
        .await
        .expect(204);
    assert_eq!(consents(&site, &user).await, json!([]));
    site.refresh("shop", &kept).await.refused(
        400,
        "invalid_grant",
        "Offline user session not found",
    );
    let gone = "Session doesn't have required client";
    site.refresh("shop", &tokens)
        .await
        .refused(400, "invalid_grant", gone);
    assert!(!site.is_active(&tokens["access_token"]).await);
    // The person is still logged in, and is asked again.
    let page = anna.get(&site.auth_url("shop", &[])).await.expect(200);
    assert!(text(&page).contains("Grant access"));

    // Consents go with their client and their user.
    let _ = anna.submit(&page, &[("accept", "true")]).await.expect(302);
    assert_eq!(consents(&site, &user).await.as_array().unwrap().len(), 1);
    let client = site.world.admin_url(&format!("/r/clients/{shop}"));
    let _ = site.admin.send("DELETE", &client, "").await.expect(204);
    assert_eq!(consents(&site, &user).await, json!([]));
}

#[tokio::test]
async fn without_consent_no_token_is_renewed() {
    let (site, shop) = site().await;
    site.change_client(&shop, json!({"consentRequired": false}))
        .await;
    let mut anna = Visitor::new(&site.world);
    let code = site.code(&mut anna, "shop", &[]).await;
    let tokens = site.redeem("shop", &code, &[]).await.expect(200).json();
    let late = site.code(&mut anna, "shop", &[]).await;
    site.change_client(&shop, json!({"consentRequired": true}))
        .await;
    let text = "Client no longer has requested consent from user";
    site.refresh("shop", &tokens)
        .await
        .refused(400, "invalid_scope", text);
    site.redeem("shop", &late, &[])
        .await
        .refused(400, "invalid_scope", text);
    let fields = form(&[
        ("grant_type", "password"),
        ("client_id", "shop"),
        ("client_secret", "s"),
        ("username", "anna"),
        ("password", "secret"),
    ]);
    site.change_client(&shop, json!({"directAccessGrantsEnabled": true}))
        .await;
    let reply = site.world.token("r", &fields).await;
    reply.refused(400, "invalid_client", "Client requires user consent");
}
