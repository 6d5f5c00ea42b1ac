//! Logins as administrators see and end them, and previews of tokens.

use serde_json::json;

use crate::harness::World;

const FORM: &str = "grant_type=password&client_id=c&client_secret=s&username=u&password=pw";

#[tokio::test]
async fn logins_are_listed_counted_and_ended() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    let at = |path: &str| world.admin_url(&format!("/r{path}"));
    let body = json!({"clientId": "c", "directAccessGrantsEnabled": true});
    let client = world.client(&admin, "r", body).await;
    let user = json!({"username": "u", "enabled": true, "credentials": [{"value": "pw"}]});
    let user = admin
        .json("POST", &at("/users"), user)
        .await
        .expect(201)
        .id();
    let first = world.token("r", FORM).await.expect(200).json();
    world.clock.advance(5);
    let second = world.token("r", FORM).await.expect(200).json();
    let offline = world
        .token("r", &format!("{FORM}&scope=offline_access"))
        .await
        .expect(200)
        .json();
    let list = admin
        .get(&at(&format!("/users/{user}/sessions")))
        .await
        .json();
    assert_eq!(list.as_array().unwrap().len(), 2);
    let one = list
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["id"] == first["session_state"])
        .unwrap();
    assert_eq!(
        (
            &one["username"],
            &one["userId"],
            &one["ipAddress"],
            &one["clients"]
        ),
        (
            &json!("u"),
            &json!(user),
            &json!("127.0.0.1"),
            &json!({&client: "c"})
        )
    );
    assert_eq!(one["start"], one["lastAccess"]);
    let count = at(&format!("/clients/{client}/session-count"));
    assert_eq!(admin.get(&count).await.json(), json!({"count": 2}));
    let count_offline = at(&format!("/clients/{client}/offline-session-count"));
    assert_eq!(admin.get(&count_offline).await.json(), json!({"count": 1}));
    let of_client = at(&format!("/clients/{client}/user-sessions?first=1&max=5"));
    assert_eq!(
        admin.get(&of_client).await.json().as_array().unwrap().len(),
        1
    );
    let stats = admin.get(&at("/client-session-stats")).await.json();
    assert_eq!(
        stats,
        json!([{"id": client, "clientId": "c", "active": "2", "offline": "1"}])
    );
    // Using a login moves its last access.
    world.clock.advance(5);
    let refresh = |tokens: &serde_json::Value| {
        let token = tokens["refresh_token"].as_str().unwrap();
        format!("grant_type=refresh_token&client_id=c&client_secret=s&refresh_token={token}")
    };
    let _ = world.token("r", &refresh(&first)).await.expect(200);
    let list = admin
        .get(&at(&format!("/users/{user}/sessions")))
        .await
        .json();
    let used = list
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["id"] == first["session_state"]);
    let used = used.unwrap();
    assert_eq!(
        used["lastAccess"].as_i64().unwrap() - used["start"].as_i64().unwrap(),
        10_000
    );
    let id = first["session_state"].as_str().unwrap();
    let _ = admin
        .send("DELETE", &at(&format!("/sessions/{id}")), "")
        .await
        .expect(204);
    let again = admin
        .send("DELETE", &at(&format!("/sessions/{id}")), "")
        .await;
    again.prose(404, "Session not found");
    let gone = world.token("r", &refresh(&first)).await;
    gone.refused(400, "invalid_grant", "Session not active");
    assert_eq!(admin.get(&count).await.json(), json!({"count": 1}));
    let _ = admin
        .send("POST", &at(&format!("/users/{user}/logout")), "")
        .await
        .expect(204);
    assert_eq!(admin.get(&count).await.json(), json!({"count": 0}));
    let _ = world.token("r", &refresh(&second)).await.expect(400);
    // An offline login outlives the logout of its user, but not what was issued before it.
    assert_eq!(admin.get(&count_offline).await.json(), json!({"count": 1}));
    drop(offline);
    let _ = admin.send("POST", &at("/logout-all"), "").await.expect(200);
    let consents = admin.get(&at(&format!("/users/{user}/consents"))).await;
    let consents = consents.expect(200).json();
    assert_eq!(consents.as_array().unwrap().len(), 1);
    assert_eq!(consents[0]["grantedClientScopes"], json!([]));
    assert_eq!(consents[0]["additionalGrants"][0]["key"], "Offline Token");
    assert_eq!(
        admin
            .get(&at(&format!("/users/{user}/federated-identity")))
            .await
            .json(),
        json!([])
    );
}

#[tokio::test]
async fn a_realm_made_anew_knows_nothing_of_the_old_one() {
    let world = World::start().await;
    let admin = world.admin().await;
    let body = json!({"realm": "r", "enabled": true, "id": "11111111-2222-3333-4444-555555555555", "eventsEnabled": true});
    for _ in 0..2 {
        let _ = admin
            .json("POST", &world.admin_url(""), body.clone())
            .await
            .expect(201);
        assert_eq!(
            admin.get(&world.admin_url("/r/events")).await.json(),
            json!([])
        );
        let _ = world.client(&admin, "r", json!({"clientId": "c"})).await;
        let _ = world.service_token("r", "c").await;
        let events = admin.get(&world.admin_url("/r/events")).await.json();
        assert_eq!(events.as_array().unwrap().len(), 1);
        let _ = admin
            .send("DELETE", &world.admin_url("/r"), "")
            .await
            .expect(204);
    }
}

#[tokio::test]
async fn tokens_are_previewed() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    let at = |path: &str| world.admin_url(&format!("/r{path}"));
    let body = json!({"clientId": "c", "fullScopeAllowed": false});
    let client = world.client(&admin, "r", body).await;
    let user = json!({"username": "u", "enabled": true, "firstName": "F"});
    let user = admin
        .json("POST", &at("/users"), user)
        .await
        .expect(201)
        .id();
    let base = at(&format!("/clients/{client}/evaluate-scopes"));
    let mappers = admin
        .get(&format!("{base}/protocol-mappers?scope=phone"))
        .await
        .json();
    let has = |name: &str| {
        mappers
            .as_array()
            .unwrap()
            .iter()
            .any(|it| it["mapperName"] == name)
    };
    assert!(has("full name") && has("phone number") && !has("address"));
    let token = format!("{base}/generate-example-access-token?scope=openid&userId={user}");
    let claims = admin.get(&token).await.expect(200).json();
    assert_eq!(
        (
            &claims["preferred_username"],
            &claims["given_name"],
            &claims["azp"],
            &claims["typ"]
        ),
        (&json!("u"), &json!("F"), &json!("c"), &json!("Bearer"))
    );
    let id = format!("{base}/generate-example-id-token?userId={user}");
    assert_eq!(admin.get(&id).await.json()["aud"], "c");
    let info = format!("{base}/generate-example-userinfo?userId={user}");
    assert_eq!(admin.get(&info).await.json()["sub"], json!(user));
    let _ = admin
        .get(&format!("{base}/generate-example-userinfo"))
        .await
        .expect(404);
    let granted = admin
        .get(&format!("{base}/scope-mappings/r/granted"))
        .await
        .json();
    assert_eq!(granted, json!([]));
    let others = admin
        .get(&format!("{base}/scope-mappings/r/not-granted"))
        .await
        .json();
    assert_eq!(others.as_array().unwrap().len(), 3);
}
