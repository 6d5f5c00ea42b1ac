//! Users through the Admin REST API.

use serde_json::json;

use crate::harness::World;

#[tokio::test]
async fn iris_case_043_users() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    let url = world.admin_url("/r/users");
    let body = json!({"username": "U1", "enabled": true, "email": "U@Example.com", "attributes": {"k": ["v"]}});
    let id = admin
        .json("POST", &url, body.clone())
        .await
        .expect(201)
        .id();
    let one = format!("{url}/{id}");
    let user = admin.get(&one).await.expect(200).json();
    assert_eq!(
        (&user["username"], &user["email"]),
        (&json!("u1"), &json!("u@example.com"))
    );
    assert_eq!(user["attributes"], json!({"k": ["v"]}));
    admin
        .json("POST", &url, body)
        .await
        .message(409, "User exists with same username");
    let same = json!({"username": "u2", "email": "u@example.com"});
    admin
        .json("POST", &url, same)
        .await
        .message(409, "User exists with same email");
    admin
        .json("POST", &url, json!({"enabled": true}))
        .await
        .message(400, "User name is missing");
    let reset = format!("{one}/reset-password");
    let empty = json!({"type": "password", "temporary": false});
    admin
        .json("PUT", &reset, empty)
        .await
        .prose(400, "No password provided");
    assert_eq!(
        admin
            .get(&format!("{url}?username=u&exact=true"))
            .await
            .json(),
        json!([])
    );
    assert_eq!(
        admin
            .get(&format!("{url}?username=u"))
            .await
            .json()
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(admin.get(&format!("{url}/count")).await.json(), json!(1));
    let _ = admin
        .json("PUT", &one, json!({"firstName": "F"}))
        .await
        .expect(204);
    let changed = admin.get(&one).await.json();
    assert_eq!(
        (&changed["firstName"], &changed["attributes"]),
        (&json!("F"), &json!({"k": ["v"]}))
    );
    let _ = admin.json("PUT", &one, changed.clone()).await.expect(204);
    assert_eq!(admin.get(&one).await.json(), changed);

    let password = json!({"type": "password", "value": "new", "temporary": false});
    let _ = admin.json("PUT", &reset, password).await.expect(204);
    world
        .client(
            &admin,
            "r",
            json!({"clientId": "c", "directAccessGrantsEnabled": true}),
        )
        .await;
    let form =
        "grant_type=password&client_id=c&client_secret=s&username=u@example.com&password=new";
    let _ = world.token("r", form).await.expect(200);
    let groups = json!({"username": "g", "groups": ["/x"]});
    admin
        .json("POST", &url, groups)
        .await
        .message(400, "users: group /x does not exist");
    let hashed = json!({"username": "h", "credentials": [{"type": "password", "secretData": "{}", "credentialData": "{}"}]});
    admin.json("POST", &url, hashed).await.message(
        400,
        "A credential has an unknown algorithm or asks for too much work",
    );
    let otp = json!({"username": "h", "credentials": [{"type": "otp", "secretData": "{}"}]});
    admin
        .json("POST", &url, otp)
        .await
        .message(400, "Importing credentials is not supported");
    let _ = admin.send("DELETE", &one, "").await.expect(204);
    admin.get(&one).await.prose(404, "User not found");
    let gone = world.token("r", form).await;
    gone.refused(401, "invalid_grant", "Invalid user credentials");
}

#[tokio::test]
async fn iris_case_043_lists_are_filtered_and_paged_in_the_database() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    let url = world.admin_url("/r/users");
    for (name, first, last, enabled, team) in [
        ("anna", "Anna", "Özil", true, "red"),
        ("bert", "Bert", "Annas", false, "blue"),
        ("carla", "Carla", "100%", true, "red"),
    ] {
        let body = json!({
            "username": name, "firstName": first, "lastName": last, "enabled": enabled,
            "email": format!("{name}@example.com"), "attributes": {"team": [team, "all"]},
        });
        let _ = admin.json("POST", &url, body).await.expect(201);
    }
    let found = async |query: &str| -> Vec<String> {
        let list = admin
            .get(&format!("{url}?{query}"))
            .await
            .expect(200)
            .json();
        let count = admin
            .get(&format!("{url}/count?{query}"))
            .await
            .expect(200)
            .json();
        let names: Vec<String> = list
            .as_array()
            .unwrap()
            .iter()
            .map(|user| user["username"].as_str().unwrap().to_owned())
            .collect();
        if !query.contains("max=") {
            assert_eq!(count, json!(names.len()), "{query}");
        }
        names
    };
    for (query, wanted) in [
        ("search=ann", &["anna", "bert"][..]),
        ("search=*il", &["anna"]),
        ("search=%22anna%22", &["anna"]),
        ("search=ann+red", &[]),
        ("search=anna+%C3%B6z", &["anna"]),
        ("firstName=AR", &["carla"]),
        ("firstName=ar&exact=true", &[]),
        ("lastName=%C3%96ZIL&exact=true", &["anna"]),
        ("lastName=100%25", &["carla"]),
        ("lastName=_", &[]),
        ("enabled=false", &["bert"]),
        ("enabled=true", &["anna", "carla"]),
        ("emailVerified=true", &[]),
        ("q=team:red", &["anna", "carla"]),
        ("q=team:red+team:all&enabled=true&search=c", &["carla"]),
        ("q=te%22am:red", &[]),
        ("email=rla%40", &["carla"]),
        ("username=anna&exact=true", &["anna"]),
        ("username=anna&exact=true&enabled=false", &[]),
        ("idpAlias=x", &[]),
        ("first=1&max=1", &["bert"]),
        ("search=a&first=1&max=5", &["bert"]),
    ] {
        assert_eq!(found(query).await, wanted, "{query}");
    }
}

#[tokio::test]
async fn a_user_is_made_with_roles_and_groups_and_shows_its_credentials() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    let at = |path: &str| world.admin_url(&format!("/r{path}"));
    let _ = admin
        .json("POST", &at("/roles"), json!({"name": "x"}))
        .await
        .expect(201);
    let _ = admin
        .json("POST", &at("/groups"), json!({"name": "g"}))
        .await
        .expect(201);
    let body = json!({
        "username": "u", "enabled": true, "realmRoles": ["x"], "groups": ["/g"],
        "clientRoles": {"account": ["view-groups"]},
        "credentials": [{"type": "password", "value": "pw", "userLabel": "first"}],
    });
    let id = admin
        .json("POST", &at("/users"), body)
        .await
        .expect(201)
        .id();
    let mappings = admin
        .get(&at(&format!("/users/{id}/role-mappings")))
        .await
        .json();
    let names = |list: &serde_json::Value| -> Vec<String> {
        let list = list.as_array().unwrap().iter();
        list.map(|it| it["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert!(names(&mappings["realmMappings"]).contains(&"x".to_owned()));
    assert_eq!(
        names(&mappings["clientMappings"]["account"]["mappings"]),
        ["view-groups"]
    );
    assert_eq!(
        names(&admin.get(&at(&format!("/users/{id}/groups"))).await.json()),
        ["g"]
    );
    let one = at(&format!("/users/{id}/credentials"));
    let credentials = admin.get(&one).await.json();
    assert_eq!(credentials[0]["userLabel"], "first");
    assert!(credentials[0].get("secretData").is_none());
    let credential = credentials[0]["id"].as_str().unwrap().to_owned();
    let label = admin
        .with("content-type", "text/plain")
        .send("PUT", &format!("{one}/{credential}/userLabel"), "mine")
        .await;
    let _ = label.expect(204);
    assert_eq!(admin.get(&one).await.json()[0]["userLabel"], "mine");
    let missing = admin.send("DELETE", &format!("{one}/nosuch"), "").await;
    missing.prose(404, "Credential not found");
    let _ = admin
        .send("DELETE", &format!("{one}/{credential}"), "")
        .await
        .expect(204);
    assert_eq!(admin.get(&one).await.json(), json!([]));
}
