//! What each administration role may do, and that nobody makes themselves more than they are.

use serde_json::{Value, json};

use crate::harness::{Client, World};

/// A service account of realm `of` with roles of client `management`, as a client of the API.
async fn holder(
    world: &World,
    admin: &Client,
    of: &str,
    name: &str,
    roles: &[(&str, &str)],
) -> Client {
    let id = world.client(admin, of, json!({"clientId": name})).await;
    let at = |path: &str| world.admin_url(&format!("/{of}{path}"));
    let user = admin
        .get(&at(&format!("/clients/{id}/service-account-user")))
        .await
        .json();
    let user = user["id"].as_str().unwrap().to_owned();
    for (management, role) in roles {
        let client = admin
            .get(&at(&format!("/clients?clientId={management}")))
            .await
            .json();
        let client = client[0]["id"].as_str().unwrap().to_owned();
        let role = admin
            .get(&at(&format!("/clients/{client}/roles/{role}")))
            .await
            .expect(200)
            .json();
        let url = at(&format!("/users/{user}/role-mappings/clients/{client}"));
        let _ = admin.json("POST", &url, json!([role])).await.expect(204);
    }
    let token = world.service_token(of, name).await;
    world.http.bearer(token["access_token"].as_str().unwrap())
}

/// Calls and the roles of which one suffices for each.
const CALLS: &[(&str, &str, &[&str])] = &[
    (
        "GET",
        "/clients",
        &["view-clients", "manage-clients", "query-clients"],
    ),
    ("POST", "/clients", &["manage-clients"]),
    (
        "GET",
        "/client-scopes",
        &["view-clients", "manage-clients", "query-clients"],
    ),
    ("POST", "/client-scopes", &["manage-clients"]),
    (
        "GET",
        "/users",
        &["view-users", "manage-users", "query-users"],
    ),
    ("POST", "/users", &["manage-users"]),
    (
        "GET",
        "/groups",
        &["view-users", "manage-users", "query-groups"],
    ),
    ("POST", "/groups", &["manage-users"]),
    ("POST", "/roles", &["manage-realm"]),
    (
        "GET",
        "/roles/offline_access",
        &["view-realm", "manage-realm"],
    ),
    ("GET", "/keys", &["view-realm", "manage-realm"]),
    ("GET", "/components", &["view-realm", "manage-realm"]),
    ("PUT", "/client-policies/profiles", &["manage-realm"]),
    ("GET", "/events", &["view-events", "manage-events"]),
    ("DELETE", "/events", &["manage-events"]),
    (
        "GET",
        "/identity-provider/instances",
        &["view-identity-providers", "manage-identity-providers"],
    ),
    (
        "GET",
        "/client-session-stats",
        &["view-realm", "manage-realm"],
    ),
    ("POST", "/logout-all", &["manage-users"]),
    ("POST", "/partialImport", &["manage-realm"]),
    ("POST", "/partial-export", &["manage-realm"]),
    (
        "DELETE",
        "/attack-detection/brute-force/users",
        &["manage-users"],
    ),
];

const ROLES: &[&str] = &[
    "view-clients",
    "manage-clients",
    "query-clients",
    "view-users",
    "manage-users",
    "query-users",
    "query-groups",
    "view-realm",
    "manage-realm",
    "view-events",
    "manage-events",
    "view-identity-providers",
    "manage-identity-providers",
    "impersonation",
];

#[tokio::test]
async fn iris_case_030_each_role_may_what_it_says() {
    let world = World::start().await;
    let admin = world.realm("a").await;
    for role in ROLES {
        let mut held = vec![*role];
        // Composites of the built-in roles.
        match *role {
            "view-clients" => held.push("query-clients"),
            "view-users" => held.extend(["query-users", "query-groups"]),
            _ => {}
        }
        let caller = holder(&world, &admin, "a", role, &[("realm-management", role)]).await;
        let _ = caller.get(&world.admin_url("/a")).await.expect(200);
        for (method, path, needed) in CALLS {
            let url = world.admin_url(&format!("/a{path}"));
            let body = match *method {
                "GET" | "DELETE" => String::new(),
                _ => "{".to_owned(),
            };
            let json = caller.with("content-type", "application/json");
            let status = json.send(method, &url, body).await.status.as_u16();
            let may = needed.iter().any(|it| held.contains(it));
            assert_eq!(status != 403, may, "{role}: {method} {path} gave {status}");
        }
    }
}

#[tokio::test]
async fn who_may_only_query_sees_empty_lists_and_who_may_only_view_sees_no_secrets() {
    let world = World::start().await;
    let admin = world.realm("a").await;
    let query = holder(
        &world,
        &admin,
        "a",
        "q",
        &[
            ("realm-management", "query-clients"),
            ("realm-management", "query-users"),
        ],
    )
    .await;
    assert_eq!(
        query.get(&world.admin_url("/a/clients")).await.json(),
        json!([])
    );
    assert_eq!(
        query.get(&world.admin_url("/a/users")).await.json(),
        json!([])
    );
    assert_eq!(
        query.get(&world.admin_url("/a/users/count")).await.json(),
        json!(0)
    );
    let view = holder(
        &world,
        &admin,
        "a",
        "v",
        &[("realm-management", "view-clients")],
    )
    .await;
    let found = view
        .get(&world.admin_url("/a/clients?clientId=v"))
        .await
        .json();
    assert_eq!(found[0]["secret"], "**********");
    let id = found[0]["id"].as_str().unwrap();
    let secret = view
        .get(&world.admin_url(&format!("/a/clients/{id}/client-secret")))
        .await
        .json();
    assert_eq!(secret["value"], "**********");
}

#[tokio::test]
async fn nobody_gives_away_rights_they_do_not_have() {
    let world = World::start().await;
    let admin = world.realm("a").await;
    let at = |path: &str| world.admin_url(&format!("/a{path}"));
    let manager = holder(
        &world,
        &admin,
        "a",
        "m",
        &[
            ("realm-management", "manage-users"),
            ("realm-management", "view-clients"),
            ("realm-management", "view-realm"),
        ],
    )
    .await;
    let management = admin
        .get(&at("/clients?clientId=realm-management"))
        .await
        .json();
    let management = management[0]["id"].as_str().unwrap().to_owned();
    let role = async |name: &str| {
        admin
            .get(&at(&format!("/clients/{management}/roles/{name}")))
            .await
            .json()
    };
    let user = manager
        .json("POST", &at("/users"), json!({"username": "u"}))
        .await
        .expect(201)
        .id();
    let mapping = at(&format!("/users/{user}/role-mappings/clients/{management}"));
    let forbidden = "HTTP 403 Forbidden";
    for name in ["realm-admin", "manage-realm", "manage-clients"] {
        manager
            .json("POST", &mapping, json!([role(name).await]))
            .await
            .prose(403, forbidden);
    }
    // What they have themselves they may give.
    let _ = manager
        .json("POST", &mapping, json!([role("view-realm").await]))
        .await
        .expect(204);
    // Neither through a composite, a group, nor the body of a new user.
    let _ = admin
        .json("POST", &at("/roles"), json!({"name": "outer"}))
        .await
        .expect(201);
    let outer = admin.get(&at("/roles/outer")).await.json();
    let composites = at("/roles/outer/composites");
    let _ = admin
        .json("POST", &composites, json!([role("realm-admin").await]))
        .await
        .expect(204);
    let realm_mapping = at(&format!("/users/{user}/role-mappings/realm"));
    manager
        .json("POST", &realm_mapping, json!([outer]))
        .await
        .prose(403, forbidden);
    let group = admin
        .json("POST", &at("/groups"), json!({"name": "g"}))
        .await
        .expect(201)
        .id();
    let of_group = at(&format!("/groups/{group}/role-mappings/realm"));
    let _ = admin
        .json("POST", &of_group, json!([outer]))
        .await
        .expect(204);
    let join = at(&format!("/users/{user}/groups/{group}"));
    manager.send("PUT", &join, "").await.prose(403, forbidden);
    for body in [
        json!({"username": "v", "groups": ["/g"]}),
        json!({"username": "v", "realmRoles": ["outer"]}),
        json!({"username": "v", "clientRoles": {"realm-management": ["realm-admin"]}}),
    ] {
        manager
            .json("POST", &at("/users"), body)
            .await
            .prose(403, forbidden);
    }
    let importer = holder(
        &world,
        &admin,
        "a",
        "i",
        &[("realm-management", "manage-realm")],
    )
    .await;
    for body in [
        json!({"users": [{"username": "v", "realmRoles": ["outer"]}]}),
        json!({"users": [{"username": "v", "groups": ["/g"]}]}),
        json!({"groups": [{"name": "h", "clientRoles": {"realm-management": ["manage-users"]}}]}),
        json!({"roles": {"realm": [{"name": "z", "composites": {"realm": ["outer"]}}]}}),
    ] {
        importer
            .json("POST", &at("/partialImport"), body)
            .await
            .prose(403, forbidden);
    }
    importer
        .json("POST", &composites, json!([role("manage-users").await]))
        .await
        .prose(403, forbidden);
}

#[tokio::test]
async fn the_master_realm_has_a_client_for_each_realm() {
    let world = World::start().await;
    let admin = world.realm("a").await;
    let _ = world.realm("b").await;
    let master = |path: &str| world.admin_url(&format!("/master{path}"));
    let found = admin.get(&master("/clients?clientId=a-realm")).await.json();
    assert_eq!(
        (&found[0]["name"], &found[0]["bearerOnly"]),
        (&json!("a Realm"), &json!(true))
    );
    let id = found[0]["id"].as_str().unwrap().to_owned();
    let roles = admin
        .get(&master(&format!("/clients/{id}/roles")))
        .await
        .json();
    assert_eq!(roles.as_array().unwrap().len(), 21);
    let text = "Could not delete client";
    let delete = admin
        .send("DELETE", &master(&format!("/clients/{id}")), "")
        .await;
    delete.refused(400, "invalid_request", text);
    let caller = holder(
        &world,
        &admin,
        "master",
        "h",
        &[("a-realm", "view-users"), ("a-realm", "manage-realm")],
    )
    .await;
    let _ = caller.get(&world.admin_url("/a/users")).await.expect(200);
    let _ = caller.get(&world.admin_url("/b/users")).await.expect(403);
    let _ = caller
        .get(&world.admin_url("/master/users"))
        .await
        .expect(403);
    let listed = caller.get(&world.admin_url("")).await.expect(200).json();
    let names: Vec<&Value> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["realm"])
        .collect();
    assert_eq!(names, ["a"]);
    let create = caller
        .json("POST", &world.admin_url(""), json!({"realm": "c"}))
        .await;
    create.prose(403, "HTTP 403 Forbidden");
    // The client follows the realm's name and goes with it.
    let _ = admin
        .json("PUT", &world.admin_url("/a"), json!({"realm": "z"}))
        .await
        .expect(204);
    let _ = caller.get(&world.admin_url("/z/users")).await.expect(200);
    assert_eq!(
        admin.get(&master("/clients?clientId=a-realm")).await.json(),
        json!([])
    );
    let _ = admin
        .send("DELETE", &world.admin_url("/z"), "")
        .await
        .expect(204);
    assert_eq!(
        admin.get(&master("/clients?clientId=z-realm")).await.json(),
        json!([])
    );
    // A client that only has the name gives no rights.
    let fake = world
        .client(&admin, "master", json!({"clientId": "fake"}))
        .await;
    let _ = admin
        .json(
            "PUT",
            &master(&format!("/clients/{fake}")),
            json!({"clientId": "b-realm"}),
        )
        .await
        .expect(409);
}

#[tokio::test]
async fn who_makes_a_realm_administrates_it() {
    let world = World::start().await;
    let admin = world.admin().await;
    let master = |path: &str| world.admin_url(&format!("/master{path}"));
    let id = world
        .client(&admin, "master", json!({"clientId": "maker"}))
        .await;
    let user = admin
        .get(&master(&format!("/clients/{id}/service-account-user")))
        .await
        .json();
    let role = admin.get(&master("/roles/create-realm")).await.json();
    let url = master(&format!(
        "/users/{}/role-mappings/realm",
        user["id"].as_str().unwrap()
    ));
    let _ = admin.json("POST", &url, json!([role])).await.expect(204);
    let token = async || {
        let token = world.service_token("master", "maker").await;
        world.http.bearer(token["access_token"].as_str().unwrap())
    };
    let maker = token().await;
    let body = json!({"realm": "mine", "enabled": true});
    let _ = maker
        .json("POST", &world.admin_url(""), body)
        .await
        .expect(201);
    let maker = token().await;
    let _ = maker.get(&world.admin_url("/mine/users")).await.expect(200);
    let listed = maker.get(&world.admin_url("")).await.json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    let _ = maker
        .get(&world.admin_url("/master/users"))
        .await
        .expect(403);
}
