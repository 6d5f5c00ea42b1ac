//! Login events and admin events.

use serde_json::{Value, json};

use crate::harness::World;

#[tokio::test]
async fn login_events_are_kept_listed_and_cleared() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    let at = |path: &str| world.admin_url(&format!("/r{path}"));
    let body = json!({"clientId": "c", "directAccessGrantsEnabled": true});
    let _ = world.client(&admin, "r", body).await;
    let user = json!({"username": "u", "enabled": true, "credentials": [{"value": "pw"}]});
    let user = admin
        .json("POST", &at("/users"), user)
        .await
        .expect(201)
        .id();
    let _ = world.service_token("r", "c").await;
    assert_eq!(admin.get(&at("/events")).await.json(), json!([]));
    let config = json!({"eventsEnabled": true, "eventsExpiration": 60, "enabledEventTypes": []});
    let _ = admin
        .json("PUT", &at("/events/config"), config)
        .await
        .expect(204);
    let config = admin.get(&at("/events/config")).await.json();
    assert_eq!(
        (&config["eventsEnabled"], &config["eventsExpiration"]),
        (&json!(true), &json!(60))
    );
    let _ = world.service_token("r", "c").await;
    world.clock.advance(1);
    let form = |password: &str| {
        format!("grant_type=password&client_id=c&client_secret=s&username=u&password={password}")
    };
    let _ = world.token("r", &form("bad")).await.expect(401);
    world.clock.advance(1);
    let tokens = world.token("r", &form("pw")).await.expect(200).json();
    world.clock.advance(1);
    let _ = world
        .token(
            "r",
            "grant_type=client_credentials&client_id=c&client_secret=x",
        )
        .await
        .expect(401);
    let events = admin.get(&at("/events")).await.json();
    let kinds: Vec<&Value> = events
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["type"])
        .collect();
    assert_eq!(
        kinds,
        ["CLIENT_LOGIN_ERROR", "LOGIN", "LOGIN_ERROR", "CLIENT_LOGIN"]
    );
    let login = &events[1];
    assert_eq!(
        (
            &login["userId"],
            &login["clientId"],
            &login["sessionId"],
            &login["ipAddress"]
        ),
        (
            &json!(user),
            &json!("c"),
            &tokens["session_state"],
            &json!("127.0.0.1")
        )
    );
    assert_eq!(events[2]["error"], "invalid_user_credentials");
    assert!(!events.to_string().contains("\"pw\""));
    let some = async |query: &str| {
        admin
            .get(&at(&format!("/events?{query}")))
            .await
            .expect(200)
            .json()
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(some("type=LOGIN&type=CLIENT_LOGIN").await, 2);
    assert_eq!(some(&format!("user={user}")).await, 1);
    assert_eq!(some("client=nosuch").await, 0);
    assert_eq!(some("first=1&max=2").await, 2);
    let at_ms = events[2]["time"].as_i64().unwrap();
    assert_eq!(some(&format!("dateFrom={at_ms}&dateTo={at_ms}")).await, 1);
    assert_eq!(some("dateTo=2001-01-01").await, 0);
    assert_eq!(some("dateFrom=2027-01-15&dateTo=2027-01-15").await, 4);
    let oldest = admin.get(&at("/events?direction=asc&max=1")).await.json();
    assert_eq!(oldest[0]["type"], "CLIENT_LOGIN");
    world.clock.advance(57);
    let admin = world.admin().await;
    let left = admin.get(&at("/events")).await.json();
    assert_eq!(left.as_array().unwrap().len(), 3, "the first one expired");
    let _ = admin.send("DELETE", &at("/events"), "").await.expect(204);
    assert_eq!(admin.get(&at("/events")).await.json(), json!([]));
}

#[tokio::test]
async fn admin_events_say_who_changed_what_without_secrets() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    let at = |path: &str| world.admin_url(&format!("/r{path}"));
    let config = json!({"adminEventsEnabled": true, "adminEventsDetailsEnabled": true});
    let _ = admin
        .json("PUT", &at("/events/config"), config)
        .await
        .expect(204);
    let body = json!({"clientId": "c", "secret": "planted"});
    let client = world.client(&admin, "r", body).await;
    let user = json!({"username": "u", "credentials": [{"value": "planted"}]});
    let user = admin
        .json("POST", &at("/users"), user)
        .await
        .expect(201)
        .id();
    let reset = at(&format!("/users/{user}/reset-password"));
    let _ = admin
        .json("PUT", &reset, json!({"value": "planted"}))
        .await
        .expect(204);
    let _ = admin
        .send("DELETE", &at(&format!("/clients/{client}")), "")
        .await
        .expect(204);
    let failed = admin
        .json("POST", &at("/users"), json!({"username": "u"}))
        .await;
    let _ = failed.expect(409);
    let all = admin.get(&at("/admin-events?direction=asc")).await.json();
    let seen: Vec<(&Value, &Value, &Value)> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            (
                &it["operationType"],
                &it["resourceType"],
                &it["resourcePath"],
            )
        })
        .collect();
    let texts = [
        ("CREATE", "CLIENT", format!("clients/{client}")),
        ("CREATE", "USER", format!("users/{user}")),
        ("ACTION", "USER", format!("users/{user}/reset-password")),
        ("DELETE", "CLIENT", format!("clients/{client}")),
    ];
    let mut wanted: Vec<_> = texts
        .iter()
        .map(|(one, two, three)| (json!(one), json!(two), json!(three)))
        .collect();
    let mut seen: Vec<_> = seen
        .into_iter()
        .map(|(one, two, three)| (one.clone(), two.clone(), three.clone()))
        .collect();
    let order = |it: &(Value, Value, Value)| (it.2.to_string(), it.0.to_string());
    wanted.sort_by_key(order);
    seen.sort_by_key(order);
    assert_eq!(seen, wanted);
    let text = all.to_string();
    assert!(!text.contains("planted"), "{text}");
    let made = all
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["operationType"] == "CREATE" && it["resourceType"] == "USER")
        .unwrap();
    assert!(made["representation"].is_string());
    let who = &all[0]["authDetails"];
    assert!(
        who["userId"].is_string() && who["ipAddress"] == "127.0.0.1",
        "{who}"
    );
    let filter = at("/admin-events?operationTypes=CREATE&resourceTypes=USER&resourcePath=users/*");
    assert_eq!(admin.get(&filter).await.json().as_array().unwrap().len(), 1);
    let _ = admin
        .send("DELETE", &at("/admin-events"), "")
        .await
        .expect(204);
    let left = admin.get(&at("/admin-events")).await.json();
    assert_eq!(
        left.as_array().unwrap().len(),
        1,
        "clearing is an event itself"
    );
}

#[tokio::test]
async fn logins_are_counted_whether_they_are_stored_or_not() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    let _ = world.client(&admin, "r", json!({"clientId": "c"})).await;
    let _ = world.service_token("r", "c").await;
    for client in ["c", "nosuch"] {
        let form = format!("grant_type=client_credentials&client_id={client}&client_secret=x");
        let _ = world.token("r", &form).await.expect(401);
    }
    let url = format!("{}/metrics", world.management);
    let reply = world.http.get(&url).await.expect(200);
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    for (client, error) in [
        ("c", ""),
        ("c", "invalid_client_credentials"),
        ("", "client_not_found"),
    ] {
        let line = format!(
            "keycloak_user_events_total{{client_id=\"{client}\",error=\"{error}\",\
             event=\"client_login\",realm=\"r\"}} 1"
        );
        assert!(text.contains(&line), "{line} is not in {text}");
    }
    assert!(!text.contains("nosuch"));
}
