//! Clients through the Admin REST API, and roles in their tokens.

use serde_json::{Value, json};

use crate::harness::{World, claims};

fn contains(list: &Value, wanted: &[&str]) -> bool {
    wanted
        .iter()
        .all(|it| list.as_array().unwrap().contains(&json!(it)))
}

#[tokio::test]
async fn iris_case_033_defaults_of_a_created_client() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    let url = world.admin_url("/r/clients");
    let config = json!({
        "user.session.note": "clientId", "id.token.claim": "true", "access.token.claim": "true",
        "userinfo.token.claim": "false", "claim.name": "clientId", "jsonType.label": "String",
    });
    let mut body = json!({
        "clientId": "c", "enabled": true, "serviceAccountsEnabled": true, "fullScopeAllowed": false,
        "standardFlowEnabled": false, "secret": "s",
        "protocolMappers": [{
            "name": "Client ID", "protocol": "openid-connect",
            "protocolMapper": "oidc-usersessionmodel-note-mapper", "config": config,
        }],
    });
    let id = admin
        .json("POST", &url, body.clone())
        .await
        .expect(201)
        .id();
    let client = admin.get(&format!("{url}/{id}")).await.expect(200).json();
    assert_eq!(client["id"], id);
    assert_eq!(
        (&client["publicClient"], &client["secret"]),
        (&json!(false), &json!("s"))
    );
    assert_eq!(
        (&client["protocol"], &client["directAccessGrantsEnabled"]),
        (&json!("openid-connect"), &json!(false))
    );
    assert_eq!(client["protocolMappers"][0]["config"], config);
    assert!(contains(
        &client["defaultClientScopes"],
        &[
            "basic",
            "email",
            "profile",
            "roles",
            "web-origins",
            "service_account"
        ]
    ));
    assert_eq!(client["attributes"]["realm_client"], "false");
    assert!(client["attributes"]["client.secret.creation.time"].is_string());
    let keys: Vec<&String> = client.as_object().unwrap().keys().collect();
    assert_eq!(keys[..2], ["id", "clientId"]);
    assert_eq!(keys.last().unwrap().as_str(), "access");

    body["clientId"] = json!("d");
    body["protocol"] = json!("openid-connect");
    body.as_object_mut().unwrap().remove("secret");
    let id = admin.json("POST", &url, body).await.expect(201).id();
    let public = admin.get(&format!("{url}/{id}")).await.json();
    assert_eq!(
        (
            &public["publicClient"],
            &public["directAccessGrantsEnabled"]
        ),
        (&json!(true), &json!(true))
    );
    assert!(public.get("secret").is_none());
}

#[tokio::test]
async fn iris_case_034_finding_and_updating_clients() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    let url = world.admin_url("/r/clients");
    let note = |name: &str| {
        json!({
            "name": name, "protocol": "openid-connect", "protocolMapper": "oidc-hardcoded-claim-mapper",
            "config": {"claim.name": name, "claim.value": "1"},
        })
    };
    let body = json!({"clientId": "c", "attributes": {"k": "v", "l": "w"}, "protocolMappers": [note("a"), note("b")]});
    let id = world.client(&admin, "r", body).await;
    world.client(&admin, "r", json!({"clientId": "cc"})).await;
    admin
        .json("POST", &url, json!({"clientId": "c"}))
        .await
        .message(409, "Client c already exists");
    for query in ["clientId=C", "clientId=zz"] {
        assert_eq!(
            admin
                .get(&format!("{url}?{query}"))
                .await
                .expect(200)
                .json(),
            json!([])
        );
    }
    let found = admin
        .get(&format!("{url}?clientId=c&search=false&viewableOnly=true"))
        .await
        .json();
    assert_eq!(
        (found.as_array().unwrap().len(), &found[0]["secret"]),
        (1, &json!("s"))
    );
    let search = admin
        .get(&format!("{url}?clientId=C&search=true&first=0&max=50"))
        .await
        .json();
    assert!(search.as_array().unwrap().len() >= 2);
    let page = admin.get(&format!("{url}?first=1&max=2")).await.json();
    assert_eq!(page.as_array().unwrap().len(), 2);
    let random = format!("{url}/0855b320-0dd2-547d-891d-601e9b38647f");
    admin.get(&random).await.prose(404, "Could not find client");
    admin
        .get(&format!("{url}/c"))
        .await
        .prose(404, "Could not find client");

    let one = format!("{url}/{id}");
    let before = admin.get(&one).await.json();
    let keep = before["protocolMappers"][0].clone();
    let change =
        json!({"protocolMappers": [keep], "attributes": {"k": ""}, "defaultClientScopes": []});
    let _ = admin.json("PUT", &one, change).await.expect(204);
    let after = admin.get(&one).await.json();
    assert_eq!(after["protocolMappers"], json!([keep]));
    assert!(after["attributes"].get("k").is_none() && after["attributes"]["l"] == "w");
    assert_eq!(after["defaultClientScopes"], before["defaultClientScopes"]);
    let _ = admin.json("PUT", &one, after.clone()).await.expect(204);
    assert_eq!(admin.get(&one).await.json(), after);
    admin
        .json("PUT", &one, json!({"clientId": "cc"}))
        .await
        .message(409, "Client already exists");
    let _ = admin
        .json("PUT", &one, json!({"clientId": "Renamed"}))
        .await
        .expect(204);
    let user = admin
        .get(&format!("{one}/service-account-user"))
        .await
        .expect(200)
        .json();
    assert_eq!(user["username"], "service-account-renamed");
    world.service_token("r", "Renamed").await;
    let _ = admin.send("DELETE", &one, "").await.expect(204);
    admin
        .send("DELETE", &one, "")
        .await
        .prose(404, "Could not find client");
    let grant = "grant_type=client_credentials&client_id=Renamed&client_secret=s";
    let _ = world.token("r", grant).await.expect(401);
}

#[tokio::test]
async fn iris_case_035_reading_and_renewing_the_secret() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    let id = world.client(&admin, "r", json!({"clientId": "c"})).await;
    let url = world.admin_url(&format!("/r/clients/{id}/client-secret"));
    assert_eq!(
        admin.get(&url).await.expect(200).json(),
        json!({"type": "secret", "value": "s"})
    );
    world.service_token("r", "c").await;
    let new = admin.send("POST", &url, "").await.expect(200).json();
    let value = new["value"].as_str().unwrap();
    assert_eq!((value.len(), &new["type"]), (32, &json!("secret")));
    let token = async |secret: &str| {
        let form = format!("grant_type=client_credentials&client_id=c&client_secret={secret}");
        world.token("r", &form).await.status
    };
    assert_eq!(
        (token("s").await.as_u16(), token(value).await.as_u16()),
        (401, 200)
    );
    admin
        .get(&format!("{url}/rotated"))
        .await
        .prose(404, "Client does not have a rotated secret");
    let public = json!({"clientId": "p", "publicClient": true, "serviceAccountsEnabled": false, "secret": null});
    let id = world.client(&admin, "r", public).await;
    let url = world.admin_url(&format!("/r/clients/{id}/client-secret"));
    assert_eq!(
        admin.get(&url).await.expect(200).json(),
        json!({"type": "secret"})
    );
}

#[tokio::test]
async fn iris_case_036_service_account_users() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    let id = world.client(&admin, "r", json!({"clientId": "c"})).await;
    let client = world.admin_url(&format!("/r/clients/{id}"));
    let user = admin
        .get(&format!("{client}/service-account-user"))
        .await
        .expect(200)
        .json();
    assert_eq!(user["username"], "service-account-c");
    world.service_token("r", "c").await;
    let _ = admin
        .json(
            "POST",
            &world.admin_url("/r/roles"),
            json!({"name": "extra"}),
        )
        .await
        .expect(201);
    let role = admin.get(&world.admin_url("/r/roles/extra")).await.json();
    let mappings = world.admin_url(&format!(
        "/r/users/{}/role-mappings/realm",
        user["id"].as_str().unwrap()
    ));
    let _ = admin
        .json("POST", &mappings, json!([role]))
        .await
        .expect(204);
    let token = claims(&world.service_token("r", "c").await["access_token"]);
    assert!(contains(&token["realm_access"]["roles"], &["extra"]));
    let _ = admin
        .json("PUT", &client, json!({"serviceAccountsEnabled": false}))
        .await
        .expect(204);
    let off = admin.get(&format!("{client}/service-account-user")).await;
    off.prose(400, "Service account not enabled for the client 'c'");
    let _ = admin
        .json("PUT", &client, json!({"serviceAccountsEnabled": true}))
        .await
        .expect(204);
    let token = claims(&world.service_token("r", "c").await["access_token"]);
    assert!(!contains(&token["realm_access"]["roles"], &["extra"]));
}

#[tokio::test]
async fn iris_case_044_roles_reach_a_narrow_client_only_by_scope_mapping() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    let roles = world.admin_url("/r/roles");
    for name in ["outer", "inner"] {
        let created = admin
            .json("POST", &roles, json!({"name": name}))
            .await
            .expect(201);
        assert_eq!(created.id(), name);
    }
    admin
        .json("POST", &roles, json!({"name": "inner"}))
        .await
        .message(409, "Role with name inner already exists");
    admin
        .get(&format!("{roles}/nosuch"))
        .await
        .prose(404, "Could not find role");
    let outer = admin.get(&format!("{roles}/outer")).await.json();
    let inner = admin.get(&format!("{roles}/inner")).await.json();
    let composites = format!("{roles}/outer/composites");
    let _ = admin
        .json("POST", &composites, json!([inner]))
        .await
        .expect(204);
    assert_eq!(admin.get(&composites).await.json()[0]["name"], "inner");
    assert_eq!(
        admin.get(&format!("{roles}/outer")).await.json()["composite"],
        true
    );

    let id = world
        .client(
            &admin,
            "r",
            json!({"clientId": "c", "fullScopeAllowed": false}),
        )
        .await;
    let client = world.admin_url(&format!("/r/clients/{id}"));
    let user = admin
        .get(&format!("{client}/service-account-user"))
        .await
        .json();
    let mappings = world.admin_url(&format!(
        "/r/users/{}/role-mappings",
        user["id"].as_str().unwrap()
    ));
    let _ = admin
        .json("POST", &format!("{mappings}/realm"), json!([outer]))
        .await
        .expect(204);
    let token = claims(&world.service_token("r", "c").await["access_token"]);
    assert!(token.get("realm_access").is_none());
    let _ = admin
        .json(
            "POST",
            &format!("{client}/scope-mappings/realm"),
            json!([outer]),
        )
        .await
        .expect(204);
    let token = claims(&world.service_token("r", "c").await["access_token"]);
    assert_eq!(token["realm_access"]["roles"], json!(["inner", "outer"]));
    let all = admin.get(&mappings).await.json();
    assert_eq!(all["realmMappings"].as_array().unwrap().len(), 2);
    let unknown = json!([{"id": "nosuch", "name": "nosuch"}]);
    admin
        .json("POST", &format!("{mappings}/realm"), unknown)
        .await
        .prose(404, "Could not find role");
    let _ = admin
        .json("DELETE", &composites, json!([inner]))
        .await
        .expect(204);
    let token = claims(&world.service_token("r", "c").await["access_token"]);
    assert_eq!(token["realm_access"]["roles"], json!(["outer"]));
    let _ = admin
        .send("DELETE", &format!("{roles}/outer"), "")
        .await
        .expect(204);
    let token = claims(&world.service_token("r", "c").await["access_token"]);
    assert!(token.get("realm_access").is_none());

    // A client's own roles are always in its scope.
    let own = format!("{client}/roles");
    let _ = admin
        .json("POST", &own, json!({"name": "own"}))
        .await
        .expect(201);
    let role = admin.get(&format!("{own}/own")).await.json();
    let _ = admin
        .json("POST", &format!("{mappings}/clients/{id}"), json!([role]))
        .await
        .expect(204);
    let token = claims(&world.service_token("r", "c").await["access_token"]);
    assert_eq!(token["resource_access"], json!({"c": {"roles": ["own"]}}));
    let _ = admin
        .json("PUT", &client, json!({"clientId": "k"}))
        .await
        .expect(204);
    let token = claims(&world.service_token("r", "k").await["access_token"]);
    assert_eq!(token["resource_access"], json!({"k": {"roles": ["own"]}}));
}

#[tokio::test]
async fn mappers_of_every_kind_write_their_claims() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    let mapper = |name: &str, of: &str, config: Value| {
        let mut all = json!({"access.token.claim": "true", "jsonType.label": "String"});
        all.as_object_mut()
            .unwrap()
            .extend(config.as_object().unwrap().clone());
        json!({"name": name, "protocol": "openid-connect", "protocolMapper": of, "config": all})
    };
    let mappers = json!([
        mapper(
            "audience",
            "oidc-audience-mapper",
            json!({"included.custom.audience": "https://api"})
        ),
        mapper(
            "number",
            "oidc-hardcoded-claim-mapper",
            json!({"claim.name": "deep.number", "claim.value": "7", "jsonType.label": "int"})
        ),
        mapper(
            "reply",
            "oidc-hardcoded-claim-mapper",
            json!({"claim.name": "extra", "claim.value": "x", "access.tokenResponse.claim": "true", "access.token.claim": "false"})
        ),
        mapper(
            "issuer",
            "oidc-hardcoded-claim-mapper",
            json!({"claim.name": "iss", "claim.value": "evil"})
        ),
        mapper(
            "role",
            "oidc-hardcoded-role-mapper",
            json!({"role": "added"})
        ),
        mapper(
            "rename",
            "oidc-role-name-mapper",
            json!({"role": "uma_authorization", "new.role.name": "other.uma"})
        ),
        mapper(
            "attribute",
            "oidc-usermodel-attribute-mapper",
            json!({"user.attribute": "team", "claim.name": "teams", "multivalued": "true"})
        ),
        mapper(
            "property",
            "oidc-usermodel-property-mapper",
            json!({"user.attribute": "username", "claim.name": "who"})
        ),
    ]);
    let id = world
        .client(
            &admin,
            "r",
            json!({"clientId": "c", "protocolMappers": mappers}),
        )
        .await;
    let user = admin
        .get(&world.admin_url(&format!("/r/clients/{id}/service-account-user")))
        .await
        .json();
    let url = world.admin_url(&format!("/r/users/{}", user["id"].as_str().unwrap()));
    let _ = admin
        .json("PUT", &url, json!({"attributes": {"team": ["a", "b"]}}))
        .await
        .expect(204);
    let body = world.service_token("r", "c").await;
    let token = claims(&body["access_token"]);
    assert_eq!(token["aud"], json!(["account", "https://api", "other"]));
    assert_eq!(token["deep"], json!({"number": 7}));
    assert_eq!((&body["extra"], token.get("extra")), (&json!("x"), None));
    assert_eq!(token["iss"], world.at("/realms/r"));
    assert!(contains(
        &token["realm_access"]["roles"],
        &["added", "offline_access"]
    ));
    assert!(!contains(
        &token["realm_access"]["roles"],
        &["uma_authorization"]
    ));
    assert_eq!(token["resource_access"]["other"]["roles"], json!(["uma"]));
    assert_eq!(
        (&token["teams"], &token["who"]),
        (&json!(["a", "b"]), &json!("service-account-c"))
    );
}
