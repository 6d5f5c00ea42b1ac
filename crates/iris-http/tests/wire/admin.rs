//! Realms, client scopes, mappers, and who may administrate.

use serde_json::{Value, json};

use crate::harness::{World, claims};

#[tokio::test]
async fn iris_case_030_who_may_use_the_admin_api() {
    let world = World::start().await;
    let admin = world.realm("a").await;
    let _ = world.realm("b").await;
    world.client(&admin, "a", json!({"clientId": "c"})).await;
    let realm = world.admin_url("/a");
    world
        .http
        .get(&realm)
        .await
        .prose(401, "HTTP 401 Unauthorized");
    world
        .http
        .bearer("garbage")
        .get(&realm)
        .await
        .prose(401, "HTTP 401 Unauthorized");
    let token = world.service_token("a", "c").await["access_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let nobody = world.http.bearer(&token);
    nobody.get(&realm).await.prose(403, "HTTP 403 Forbidden");
    nobody
        .get(&world.admin_url("/b"))
        .await
        .prose(401, "HTTP 401 Unauthorized");
    nobody
        .get(&world.admin_url(""))
        .await
        .prose(403, "HTTP 403 Forbidden");
    for client in [&world.http, &nobody, &admin] {
        client
            .get(&world.admin_url("/nosuch"))
            .await
            .prose(404, "Realm not found.");
    }
    world.clock.advance(61);
    admin.get(&realm).await.prose(401, "HTTP 401 Unauthorized");
}

#[tokio::test]
async fn a_realms_own_administrator_has_the_rights_of_their_roles() {
    let world = World::start().await;
    let admin = world.realm("a").await;
    let id = world.client(&admin, "a", json!({"clientId": "c"})).await;
    let user = admin
        .get(&world.admin_url(&format!("/a/clients/{id}/service-account-user")))
        .await
        .json();
    let management = admin
        .get(&world.admin_url("/a/clients?clientId=realm-management"))
        .await
        .json();
    let management = management[0]["id"].as_str().unwrap();
    let role = admin
        .get(&world.admin_url(&format!("/a/clients/{management}/roles/view-clients")))
        .await
        .json();
    let url = world.admin_url(&format!(
        "/a/users/{}/role-mappings/clients/{management}",
        user["id"].as_str().unwrap()
    ));
    let _ = admin.json("POST", &url, json!([role])).await.expect(204);
    let token = world.service_token("a", "c").await["access_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let viewer = world.http.bearer(&token);
    let _ = viewer.get(&world.admin_url("/a/clients")).await.expect(200);
    let created = viewer
        .json(
            "POST",
            &world.admin_url("/a/clients"),
            json!({"clientId": "x"}),
        )
        .await;
    created.prose(403, "HTTP 403 Forbidden");
    let brief = viewer.get(&world.admin_url("/a")).await.expect(200).json();
    assert!(brief.get("accessTokenLifespan").is_none() && brief["realm"] == "a");
    let rename = json!({"name": "x"});
    let view = world.admin_url(&format!("/a/clients/{management}/roles/view-clients"));
    admin
        .json("PUT", &view, rename)
        .await
        .message(400, "view-clients is built in and keeps its name");
    let client = world.admin_url(&format!("/a/clients/{management}"));
    let reply = admin.json("PUT", &client, json!({"clientId": "x"})).await;
    reply.message(400, "realm-management is built in and keeps its name");
    // Whoever may change the realm may still not make themselves more than that.
    let role = admin
        .get(&world.admin_url(&format!("/a/clients/{management}/roles/manage-realm")))
        .await
        .json();
    let _ = admin.json("POST", &url, json!([role])).await.expect(204);
    let _ = viewer
        .json("PUT", &world.admin_url("/a"), json!({"displayName": "A"}))
        .await
        .expect(204);
    let all = admin
        .get(&world.admin_url(&format!("/a/clients/{management}/roles/realm-admin")))
        .await
        .json();
    viewer
        .json("POST", &url, json!([all]))
        .await
        .prose(403, "HTTP 403 Forbidden");
    viewer
        .get(&world.admin_url("/a/users"))
        .await
        .prose(403, "HTTP 403 Forbidden");
}

#[tokio::test]
async fn iris_case_031_creating_realms() {
    let world = World::start().await;
    let admin = world.admin().await;
    let url = world.admin_url("/");
    let body = json!({"enabled": true, "realm": "x"});
    let reply = admin.json("POST", &url, body.clone()).await.expect(201);
    assert!(reply.header("location").ends_with("/admin/realms/x"));
    assert_eq!(reply.header("content-length"), "0");
    admin
        .json("POST", &url, body)
        .await
        .message(409, "Realm x already exists");
    admin
        .json("POST", &url, json!({}))
        .await
        .message(400, "Realm name cannot be empty");
    let json = admin.with("content-type", "application/json");
    json.send("POST", &url, "nope")
        .await
        .message(400, "unable to read contents from stream");
    json.send("POST", &url, "")
        .await
        .message(400, "unable to read contents from stream");
    let text = "The content-type header value did not match the value in @Consumes";
    admin
        .send("POST", &url, "{\"realm\":\"y\"}")
        .await
        .prose(415, text);
    let _ = admin
        .json("POST", &url, json!({"realm": "z"}))
        .await
        .expect(201);
    assert_eq!(
        admin.get(&world.admin_url("/z")).await.json()["enabled"],
        false
    );
    for name in ["a/b", "a b", "..", "a\\b", "a?b"] {
        let _ = admin
            .json("POST", &url, json!({"realm": name}))
            .await
            .expect(400);
    }
    let block = json!({"realm": "q", "applications": [{"name": "u"}]});
    admin
        .json("POST", &url, block)
        .await
        .message(400, "Importing applications is not supported");
    let names: Vec<Value> = admin
        .get(&format!("{url}?briefRepresentation=true"))
        .await
        .json()
        .as_array()
        .unwrap()
        .iter()
        .map(|realm| realm["realm"].clone())
        .collect();
    assert_eq!(names.len(), 3);
}

#[tokio::test]
async fn iris_case_032_updating_and_deleting_realms() {
    let world = World::start().await;
    let admin = world.realm("x").await;
    let _ = world.realm("y").await;
    let url = world.admin_url("/x");
    let before = admin.get(&url).await.expect(200).json();
    assert!(
        before.as_object().unwrap().len() > 95,
        "{}",
        before.as_object().unwrap().len()
    );
    assert_eq!(before["defaultRole"]["name"], "default-roles-x");
    let _ = admin.json("PUT", &url, before.clone()).await.expect(204);
    assert_eq!(admin.get(&url).await.json(), before);
    let _ = admin.json("PUT", &url, json!({})).await.expect(204);
    assert_eq!(admin.get(&url).await.json(), before);
    let unknown = admin
        .json("PUT", &url, json!({"nosuchfield": 1}))
        .await
        .expect(400)
        .json();
    let text = unknown["error"].as_str().unwrap();
    assert!(text.starts_with("Invalid json representation for RealmRepresentation. Unrecognized field \"nosuchfield\" at line 1 column"), "{text}");
    let wrong = admin.json("PUT", &url, json!({"enabled": "maybe"})).await;
    wrong.refused(400, "unknown_error", "Cannot parse the JSON");
    let json = admin.with("content-type", "application/json");
    json.send("PUT", &url, "{")
        .await
        .refused(400, "invalid_request", "Cannot parse the JSON");
    admin
        .json("PUT", &url, json!({"realm": "y"}))
        .await
        .message(409, "Realm with same name exists");
    let master = world.admin_url("/master");
    admin
        .json("PUT", &master, json!({"realm": "m"}))
        .await
        .message(400, "Can't rename master realm");
    admin
        .send("DELETE", &master, "")
        .await
        .message(400, "Can't remove master realm");

    world.client(&admin, "x", json!({"clientId": "c"})).await;
    world.service_token("x", "c").await;
    let _ = admin
        .json("PUT", &url, json!({"realm": "w", "displayName": "W"}))
        .await
        .expect(204);
    admin.get(&url).await.prose(404, "Realm not found.");
    let renamed = world.admin_url("/w");
    assert_eq!(admin.get(&renamed).await.json()["displayName"], "W");
    world.service_token("w", "c").await;
    let _ = admin.send("DELETE", &renamed, "").await.expect(204);
    admin.get(&renamed).await.prose(404, "Realm not found.");
    let grant = "grant_type=client_credentials&client_id=c&client_secret=s";
    world
        .token("w", grant)
        .await
        .prose(404, "Realm does not exist");
    let again = json!({"realm": "w", "enabled": true});
    let _ = admin
        .json("POST", &world.admin_url(""), again)
        .await
        .expect(201);
    assert_eq!(
        admin
            .get(&world.admin_url("/w/clients?clientId=c"))
            .await
            .json(),
        json!([])
    );
}

fn mapper(name: &str, claim: &str) -> Value {
    json!({
        "name": name, "protocol": "openid-connect",
        "protocolMapper": "oidc-hardcoded-claim-mapper",
        "config": {"claim.name": claim, "claim.value": "v", "jsonType.label": "String", "access.token.claim": "true"},
    })
}

#[tokio::test]
async fn iris_case_037_client_scopes_and_their_mappers() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    let url = world.admin_url("/r/client-scopes");
    let body = json!({
        "name": "s", "protocol": "openid-connect", "description": "d",
        "attributes": {"include.in.token.scope": "true"},
        "protocolMappers": [mapper("one", "a"), mapper("two", "b")],
    });
    let id = admin
        .json("POST", &url, body.clone())
        .await
        .expect(201)
        .id();
    admin
        .json("POST", &url, body.clone())
        .await
        .message(409, "Client Scope s already exists");
    admin
        .json("POST", &url, json!({"name": "t"}))
        .await
        .message(400, "Unexpected protocol");
    let spaced = json!({"name": "a b", "protocol": "openid-connect"});
    admin
        .json("POST", &url, spaced)
        .await
        .message(400, "Unexpected name \"a b\" for ClientScope");
    let one = format!("{url}/{id}");
    let read = admin.get(&one).await.expect(200).json();
    let keys: Vec<&String> = read.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "id",
            "name",
            "description",
            "protocol",
            "attributes",
            "protocolMappers"
        ]
    );
    assert_eq!(
        read["protocolMappers"][0]["config"],
        mapper("one", "a")["config"]
    );

    let mut changed = read.clone();
    changed["protocolMappers"] = json!([mapper("three", "c")]);
    changed["description"] = json!("e");
    let _ = admin.json("PUT", &one, changed).await.expect(204);
    let after = admin.get(&one).await.json();
    assert_eq!(
        (&after["protocolMappers"], &after["description"]),
        (&read["protocolMappers"], &json!("e"))
    );

    let models = format!("{one}/protocol-mappers/models");
    admin
        .json("POST", &models, mapper("one", "z"))
        .await
        .message(409, "Protocol mapper exists with same name");
    let unknown =
        json!({"name": "n", "protocol": "openid-connect", "protocolMapper": "oidc-nosuch-mapper"});
    admin
        .json("POST", &models, unknown)
        .await
        .prose(404, "ProtocolMapper provider not found");
    let odd = json!({"name": "bools", "protocol": "openid-connect", "protocolMapper": "oidc-sub-mapper", "config": {"access.token.claim": true, "n": 5}});
    let reply = admin.json("POST", &models, odd).await.expect(201);
    let mapper_url = format!("{models}/{}", reply.id());
    assert_eq!(reply.header("location"), mapper_url);
    let mut stored = admin.get(&mapper_url).await.expect(200).json();
    assert_eq!(
        stored["config"],
        json!({"access.token.claim": "true", "n": "5"})
    );
    stored["name"] = json!("renamed");
    let _ = admin
        .json("PUT", &mapper_url, stored.clone())
        .await
        .expect(204);
    assert_eq!(admin.get(&mapper_url).await.json(), stored);
    let _ = admin.send("DELETE", &mapper_url, "").await.expect(204);
    admin.get(&mapper_url).await.prose(404, "Model not found");
    admin
        .send("DELETE", &mapper_url, "")
        .await
        .prose(404, "Model not found");
    let list = admin.get(&models).await.json();
    assert_eq!(list.as_array().unwrap().len(), 2);
    let _ = admin.send("DELETE", &one, "").await.expect(204);
    admin
        .get(&one)
        .await
        .prose(404, "Could not find client scope");
}

#[tokio::test]
async fn iris_case_038_realm_defaults_reach_new_clients_only() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    let scopes = world.admin_url("/r/client-scopes");
    let body = json!({"name": "late", "protocol": "openid-connect", "protocolMappers": [mapper("m", "late")]});
    let id = admin.json("POST", &scopes, body).await.expect(201).id();
    world.client(&admin, "r", json!({"clientId": "old"})).await;
    let url = world.admin_url(&format!("/r/default-default-client-scopes/{id}"));
    let _ = admin.send("PUT", &url, "").await.expect(204);
    admin
        .send("PUT", &url, "")
        .await
        .refused(409, "conflict", "Duplicate resource error");
    let new = world.client(&admin, "r", json!({"clientId": "new"})).await;
    assert_eq!(
        claims(&world.service_token("r", "new").await["access_token"])["late"],
        "v"
    );
    assert!(
        claims(&world.service_token("r", "old").await["access_token"])
            .get("late")
            .is_none()
    );
    let listed = admin
        .get(&world.admin_url("/r/default-default-client-scopes"))
        .await
        .json();
    assert!(
        listed
            .as_array()
            .unwrap()
            .contains(&json!({"id": id, "name": "late", "protocol": "openid-connect"}))
    );
    let _ = admin.send("DELETE", &url, "").await.expect(204);
    let nosuch = world.admin_url("/r/default-default-client-scopes/nosuch");
    admin
        .send("PUT", &nosuch, "")
        .await
        .prose(404, "Client scope not found");
    // Moving it between the client's lists, then deleting it, takes effect at once.
    let of_client = world.admin_url(&format!("/r/clients/{new}/optional-client-scopes/{id}"));
    let _ = admin.send("PUT", &of_client, "").await.expect(204);
    assert!(
        claims(&world.service_token("r", "new").await["access_token"])
            .get("late")
            .is_none()
    );
    let _ = admin
        .send("DELETE", &format!("{scopes}/{id}"), "")
        .await
        .expect(204);
    let client = admin
        .get(&world.admin_url(&format!("/r/clients/{new}")))
        .await
        .json();
    assert!(
        !client["optionalClientScopes"]
            .as_array()
            .unwrap()
            .contains(&json!("late"))
    );
}

#[tokio::test]
async fn a_new_realm_contains_what_keycloaks_does() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    let names = async |path: &str, field: &str| {
        let list = admin.get(&world.admin_url(path)).await.expect(200).json();
        let mut names: Vec<String> = list
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it[field].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(
        names("/r/clients", "clientId").await,
        [
            "account",
            "account-console",
            "admin-cli",
            "broker",
            "realm-management",
            "security-admin-console"
        ]
    );
    assert_eq!(
        names("/r/roles", "name").await,
        ["default-roles-r", "offline_access", "uma_authorization"]
    );
    assert_eq!(
        names("/r/client-scopes", "name").await,
        [
            "address",
            "basic",
            "email",
            "microprofile-jwt",
            "offline_access",
            "phone",
            "profile",
            "roles",
            "service_account",
            "web-origins",
        ]
    );
    assert_eq!(
        names("/r/default-default-client-scopes", "name").await,
        ["basic", "email", "profile", "roles", "web-origins"]
    );
    assert_eq!(
        names("/r/default-optional-client-scopes", "name").await,
        ["address", "microprofile-jwt", "offline_access", "phone"]
    );
    assert_eq!(names("/r/users", "username").await, Vec::<String>::new());
    assert_eq!(
        names("/master/roles", "name").await,
        [
            "admin",
            "create-realm",
            "default-roles-master",
            "offline_access",
            "uma_authorization"
        ]
    );
    let management = admin
        .get(&world.admin_url("/r/clients?clientId=realm-management"))
        .await
        .json();
    let id = management[0]["id"].as_str().unwrap();
    assert_eq!(
        names(&format!("/r/clients/{id}/roles"), "name").await.len(),
        22
    );
    let delete = admin
        .send("DELETE", &world.admin_url(&format!("/r/clients/{id}")), "")
        .await;
    delete.refused(400, "invalid_request", "Could not delete client");
}

#[tokio::test]
async fn iris_case_048_bodies_that_want_to_do_harm() {
    let world = World::start().await;
    let admin = world
        .realm("r")
        .await
        .with("content-type", "application/json");
    let clients = world.admin_url("/r/clients");
    let deep = format!(
        "{{\"attributes\":{}1{}}}",
        "{\"a\":".repeat(5000),
        "}".repeat(5000)
    );
    let long = format!("{{\"clientId\":\"{}\"}}", "x".repeat(10 * 1024 * 1024));
    let bodies: [&[u8]; 12] = [
        deep.as_bytes(),
        long.as_bytes(),
        b"[]",
        b"null",
        b"{\"clientId\":\"a\",\"clientId\":\"b\"}",
        b"{\"clientId\":\"a\",\"notBefore\":99999999999999999999}",
        b"{\"clientId\":\"\\u0000\"}",
        b"{\"clientId\":\"\xff\"}",
        b"{\"clientId\":[\"a\"]}",
        b"{\"clientId\":\"a\",\"protocolMappers\":{}}",
        b"{\"clientId\":\"a\",\"redirectUris\":[\"javascript:alert(1)\"]}",
        b"{\"name\":\"no id\"}",
    ];
    for body in bodies {
        let reply = admin.send("POST", &clients, body.to_vec()).await;
        let start = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        assert_eq!(reply.status, 400, "{start}: {:?}", reply.body);
        let _ = reply.json();
    }
    let huge = vec![b' '; 33 * 1024 * 1024];
    let _ = admin.send("POST", &clients, huge).await.expect(413);
    let normal = world.at("/realms//r");
    world.http.get(&normal).await.refused(
        400,
        "missingNormalization",
        "Request path not normalized",
    );
    let unknown = "Unable to find matching target resource method";
    world
        .http
        .get(&world.at("/nosuch"))
        .await
        .prose(404, unknown);
    world
        .http
        .get(&world.at("/realms/r/nosuch"))
        .await
        .prose(404, unknown);
    admin
        .send("PATCH", &clients, "{}")
        .await
        .prose(405, "HTTP 405 Method Not Allowed");
}
