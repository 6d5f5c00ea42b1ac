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
        .message(400, "Importing groups is not supported");
    let hashed = json!({"username": "h", "credentials": [{"type": "password", "secretData": "{}", "credentialData": "{}"}]});
    admin
        .json("POST", &url, hashed)
        .await
        .message(400, "Importing credentials is not supported");
    let _ = admin.send("DELETE", &one, "").await.expect(204);
    admin.get(&one).await.prose(404, "User not found");
    let gone = world.token("r", form).await;
    gone.refused(401, "invalid_grant", "Invalid user credentials");
}
