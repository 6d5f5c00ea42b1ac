//! Realms that come in whole and go out again.

use serde_json::{Value, json};

use crate::harness::{World, claims};

fn names(list: &Value) -> Vec<&str> {
    let list = list.as_array().unwrap().iter();
    let mut names: Vec<&str> = list.map(|it| it["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

/// A realm as an older Keycloak exports it.
fn whole() -> Value {
    json!({
        "realm": "old", "enabled": true, "displayName": "Old", "keycloakVersion": "24.0.5",
        "defaultRole": {"name": "default-roles-old"},
        "roles": {
            "realm": [
                {"name": "default-roles-old", "composite": true,
                 "composites": {"realm": ["reader"], "client": {"app": ["user"]}}},
                {"name": "reader", "attributes": {"k": ["v"]}},
                {"name": "uma_authorization"}, {"name": "offline_access"},
            ],
            "client": {"app": [{"name": "user", "clientRole": true}], "account": []},
        },
        "groups": [
            {"name": "staff", "path": "/staff", "realmRoles": ["reader"], "attributes": {"x": ["1"]},
             "subGroups": [{"name": "night", "clientRoles": {"app": ["user"]}}]},
        ],
        "defaultGroups": ["/staff"],
        "clientScopes": [
            {"name": "profile", "protocol": "openid-connect", "protocolMappers": [
                {"name": "username", "protocol": "openid-connect",
                 "protocolMapper": "oidc-usermodel-attribute-mapper",
                 "config": {"user.attribute": "username", "claim.name": "preferred_username",
                            "jsonType.label": "String", "access.token.claim": "true"}}]},
            {"name": "roles", "protocol": "openid-connect", "attributes": {"include.in.token.scope": "false"},
             "protocolMappers": [
                {"name": "realm roles", "protocol": "openid-connect",
                 "protocolMapper": "oidc-usermodel-realm-role-mapper",
                 "config": {"claim.name": "realm_access.roles", "multivalued": "true",
                            "access.token.claim": "true"}}]},
            {"name": "role_list", "protocol": "saml", "protocolMappers": [
                {"name": "role list", "protocol": "saml", "protocolMapper": "saml-role-list-mapper",
                 "config": {"single": "false"}}]},
        ],
        "defaultDefaultClientScopes": ["profile", "roles", "role_list"],
        "defaultOptionalClientScopes": [],
        "clients": [
            {"clientId": "app", "secret": "s", "protocol": "openid-connect", "publicClient": false,
             "bearerOnly": false, "directAccessGrantsEnabled": true, "serviceAccountsEnabled": true,
             "fullScopeAllowed": true, "defaultClientScopes": ["profile", "roles"]},
            {"clientId": "account", "protocol": "openid-connect", "publicClient": true,
             "description": "mine", "fullScopeAllowed": false},
        ],
        "scopeMappings": [{"clientScope": "profile", "roles": []}],
        "clientScopeMappings": {"account": [{"client": "account-console", "roles": ["manage-account"]}]},
        "users": [
            {"username": "anna", "enabled": true, "groups": ["/staff/night"], "realmRoles": ["default-roles-old"],
             "credentials": [{"type": "password", "value": "pw"}]},
            {"username": "service-account-app", "enabled": true, "serviceAccountClientId": "app",
             "realmRoles": ["reader"]},
        ],
        "components": {
            "org.keycloak.keys.KeyProvider": [
                {"name": "rsa-generated", "providerId": "rsa-generated",
                 "config": {"priority": ["100"], "algorithm": ["RS256"]}},
                {"name": "hmac-generated-hs512", "providerId": "hmac-generated-hs512",
                 "config": {"priority": ["100"], "algorithm": ["HS512"], "kid": ["hk"],
                            "secret": ["c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"]}},
                // As Java writes it; the key of RFC 8037 appendix A.
                {"name": "eddsa-generated", "providerId": "eddsa-generated",
                 "config": {"priority": ["100"], "eddsaEllipticCurveKey": ["Ed25519"],
                            "eddsaPrivateKey": ["MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g"],
                            "eddsaPublicKey": ["MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="]}},
            ],
            "org.keycloak.userprofile.UserProfileProvider": [
                {"providerId": "declarative-user-profile", "config": {}}],
        },
        "authenticationFlows": [{"alias": "browser", "builtIn": true}],
        "requiredActions": [{"alias": "UPDATE_PASSWORD"}],
        "identityProviders": [],
    })
}

#[tokio::test]
async fn a_whole_realm_is_imported_with_everything_that_hangs_together() {
    let world = World::start().await;
    let admin = world.admin().await;
    let _ = admin
        .json("POST", &world.admin_url(""), whole())
        .await
        .expect(201);
    let at = |path: &str| world.admin_url(&format!("/old{path}"));
    let scopes = admin.get(&at("/client-scopes")).await.json();
    assert_eq!(
        names(&scopes),
        ["basic", "profile", "role_list", "roles", "service_account"]
    );
    let account = admin.get(&at("/clients?clientId=account")).await.json();
    assert_eq!(account[0]["description"], "mine");
    let id = account[0]["id"].as_str().unwrap();
    let roles = admin.get(&at(&format!("/clients/{id}/roles"))).await.json();
    assert!(names(&roles).contains(&"manage-account"));
    let form = "grant_type=password&client_id=app&client_secret=s&username=anna&password=pw";
    let got = claims(&world.token("old", form).await.expect(200).json()["access_token"]);
    let roles = got["realm_access"]["roles"].as_array().unwrap();
    assert!(
        roles.contains(&json!("reader")) && roles.contains(&json!("default-roles-old")),
        "{got}"
    );
    assert!(got["sub"].is_string() && got["preferred_username"] == "anna");
    assert_eq!(got["scope"], "profile");
    let own = world
        .token(
            "old",
            "grant_type=client_credentials&client_id=app&client_secret=s",
        )
        .await;
    let got = claims(&own.expect(200).json()["access_token"]);
    assert_eq!(got["realm_access"]["roles"], json!(["reader"]));
    let groups = admin.get(&at("/groups?search=night")).await.json();
    assert_eq!(groups[0]["subGroups"][0]["path"], "/staff/night");
    assert_eq!(
        names(&admin.get(&at("/default-groups")).await.json()),
        ["staff"]
    );
    let keys = admin.get(&at("/keys")).await.json();
    assert_eq!(keys["active"]["HS512"], "hk");
    let mut listed = keys["keys"].as_array().unwrap().iter();
    let ed25519 = listed.find(|it| it["algorithm"] == "EdDSA").unwrap();
    assert_eq!(
        ed25519["publicKey"],
        "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
    );
    let later = world
        .client(&admin, "old", json!({"clientId": "later"}))
        .await;
    let later = admin.get(&at(&format!("/clients/{later}"))).await.json();
    assert!(
        !later["defaultClientScopes"]
            .as_array()
            .unwrap()
            .contains(&json!("role_list"))
    );
}

#[tokio::test]
async fn what_an_import_names_must_exist() {
    let world = World::start().await;
    let admin = world.admin().await;
    for (field, value, text) in [
        (
            "defaultGroups",
            json!(["/nosuch"]),
            "defaultGroups: group /nosuch does not exist",
        ),
        (
            "groups",
            json!([{"name": "g", "realmRoles": ["nosuch"]}]),
            "groups: realm role nosuch does not exist",
        ),
        (
            "users",
            json!([{"username": "u", "clientRoles": {"x": ["y"]}}]),
            "users: role y of client x does not exist",
        ),
        (
            "roles",
            json!({"client": {"nosuch": []}}),
            "roles: client nosuch does not exist",
        ),
        (
            "components",
            json!({"org.keycloak.keys.KeyProvider": [{"providerId": "java-keystore", "config": {}}]}),
            "Keys in Java key stores are not supported: import them as rsa",
        ),
        (
            "components",
            json!({"org.keycloak.keys.KeyProvider": [{"providerId": "rsa", "config": {"privateKey": ["x"]}}]}),
            "The private key or secret cannot be read",
        ),
    ] {
        let body = json!({"realm": "x", "enabled": true, field: value});
        admin
            .json("POST", &world.admin_url(""), body)
            .await
            .message(400, text);
        admin
            .get(&world.admin_url("/x"))
            .await
            .prose(404, "Realm not found.");
    }
}

#[tokio::test]
async fn an_export_is_imported_to_the_same_realm() {
    let world = World::start().await;
    let admin = world.admin().await;
    let _ = admin
        .json("POST", &world.admin_url(""), whole())
        .await
        .expect(201);
    let realm = world.iris.realm("old").await.unwrap().unwrap();
    let what = o28m_iris::Export {
        clients: true,
        groups_and_roles: true,
        users: true,
        secrets: true,
    };
    let before = Value::Object(world.iris.export_realm(realm.id(), what).await.unwrap());
    let key = |export: &Value| export["components"]["org.keycloak.keys.KeyProvider"].clone();
    let rsa = key(&before)
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["providerId"] == "rsa-generated")
        .cloned();
    assert!(
        rsa.unwrap()["config"]["privateKey"][0]
            .as_str()
            .unwrap()
            .len()
            > 1000
    );
    let form = "grant_type=password&client_id=app&client_secret=s&username=anna&password=pw";
    let token = world.token("old", form).await.expect(200).json();
    let _ = admin
        .send("DELETE", &world.admin_url("/old"), "")
        .await
        .expect(204);
    let _ = admin
        .json("POST", &world.admin_url(""), before.clone())
        .await
        .expect(201);
    let realm = world.iris.realm("old").await.unwrap().unwrap();
    let after = Value::Object(world.iris.export_realm(realm.id(), what).await.unwrap());
    for (field, value) in before.as_object().unwrap() {
        assert_eq!(&after[field], value, "{field}");
    }
    assert_eq!(after, before);
    // Keys survive, and with them every token that needs no login.
    let form = "grant_type=password&client_id=app&client_secret=s&username=anna&password=pw";
    let again = world.token("old", form).await.expect(200).json();
    let kid = |token: &Value| crate::harness::header(&token["access_token"])["kid"].clone();
    assert_eq!(kid(&token), kid(&again));
}

#[tokio::test]
async fn a_partial_export_hides_secrets() {
    let world = World::start().await;
    let admin = world.admin().await;
    let _ = admin
        .json("POST", &world.admin_url(""), whole())
        .await
        .expect(201);
    let url = world.admin_url("/old/partial-export");
    let bare = admin.send("POST", &url, "").await.expect(200).json();
    assert!(
        bare.get("clients").is_none() && bare.get("roles").is_none() && bare.get("users").is_none()
    );
    assert!(bare["clientScopes"].is_array());
    let full = admin
        .send(
            "POST",
            &format!("{url}?exportClients=true&exportGroupsAndRoles=true"),
            "",
        )
        .await;
    let full = full.expect(200).json();
    let app = full["clients"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["clientId"] == "app")
        .unwrap();
    assert_eq!(app["secret"], "**********");
    let keys = full["components"]["org.keycloak.keys.KeyProvider"]
        .as_array()
        .unwrap();
    let key = keys
        .iter()
        .find(|it| it["providerId"] == "rsa-generated")
        .unwrap();
    assert_eq!(key["config"]["privateKey"], json!(["**********"]));
    let key = keys
        .iter()
        .find(|it| it["providerId"] == "eddsa-generated")
        .unwrap();
    assert_eq!(key["config"]["eddsaPrivateKey"], json!(["**********"]));
    let public = "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    assert_eq!(key["config"]["eddsaPublicKey"], json!([public]));
    assert_eq!(full["users"][0]["username"], "service-account-app");
    assert_eq!(
        full["groups"][0]["subGroups"][0]["clientRoles"],
        json!({"app": ["user"]})
    );
    assert_eq!(full["authenticationFlows"][0]["alias"], "browser");
    // What was hidden is made anew.
    let mut copy = full.clone();
    copy["realm"] = json!("copy");
    copy.as_object_mut().unwrap().remove("id");
    let _ = admin
        .send("DELETE", &world.admin_url("/old"), "")
        .await
        .expect(204);
    let _ = admin
        .json("POST", &world.admin_url(""), copy)
        .await
        .expect(201);
    let app = admin
        .get(&world.admin_url("/copy/clients?clientId=app"))
        .await
        .json();
    assert_eq!(app[0]["secret"].as_str().unwrap().len(), 32);
}

#[tokio::test]
async fn a_partial_import_fails_skips_or_overwrites() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    let url = world.admin_url("/r/partialImport");
    let body = |policy: &str| {
        json!({
            "ifResourceExists": policy,
            "clients": [{"clientId": "c", "secret": "s"}],
            "roles": {"realm": [{"name": "x", "description": policy}], "client": {"c": [{"name": "y"}]}},
            "groups": [{"name": "g", "realmRoles": ["x"], "subGroups": [{"name": "h"}]}],
            "users": [{"username": "u", "groups": ["/g/h"], "realmRoles": ["x"], "clientRoles": {"c": ["y"]}}],
        })
    };
    let first = admin
        .json("POST", &url, body("FAIL"))
        .await
        .expect(200)
        .json();
    assert_eq!(
        (&first["added"], &first["skipped"], &first["overwritten"]),
        (&json!(5), &json!(0), &json!(0))
    );
    let kinds: Vec<&Value> = first["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["resourceType"])
        .collect();
    assert_eq!(
        kinds,
        ["CLIENT", "REALM_ROLE", "CLIENT_ROLE", "GROUP", "USER"]
    );
    let mut more = body("FAIL");
    more["roles"]["realm"] = json!([{"name": "new"}, {"name": "x"}]);
    more["clients"] = json!([]);
    let again = admin.json("POST", &url, more).await;
    again.message(409, "x already exists");
    admin
        .get(&world.admin_url("/r/roles/new"))
        .await
        .prose(404, "Could not find role");
    let skipped = admin
        .json("POST", &url, body("SKIP"))
        .await
        .expect(200)
        .json();
    assert_eq!(
        (&skipped["added"], &skipped["skipped"]),
        (&json!(0), &json!(5))
    );
    let role = world.admin_url("/r/roles/x");
    assert_eq!(admin.get(&role).await.json()["description"], "FAIL");
    let over = admin
        .json("POST", &url, body("OVERWRITE"))
        .await
        .expect(200)
        .json();
    assert_eq!(
        over["overwritten"].as_u64().unwrap() + over["added"].as_u64().unwrap(),
        5
    );
    assert_eq!(admin.get(&role).await.json()["description"], "OVERWRITE");
    let user = admin
        .get(&world.admin_url("/r/users?username=u&exact=true"))
        .await
        .json();
    let user = user[0]["id"].as_str().unwrap();
    let groups = admin
        .get(&world.admin_url(&format!("/r/users/{user}/groups")))
        .await
        .json();
    assert_eq!(groups[0]["path"], "/g/h");
    let wrong = json!({"ifResourceExists": "MAYBE"});
    let wrong = admin.json("POST", &url, wrong).await;
    wrong.message(400, "ifResourceExists must be FAIL, SKIP or OVERWRITE");
}

#[tokio::test]
async fn iris_case_045_a_directory_is_imported_once() {
    let world = World::start().await;
    let directory = std::env::temp_dir().join(format!("o28m-import-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("realms.json");
    let body = json!([
        {"realm": "rover", "enabled": true, "displayName": "${NAME}", "clients": [
            {"clientId": "rover", "standardFlowEnabled": false, "serviceAccountsEnabled": true,
             "directAccessGrantsEnabled": false, "publicClient": false}]},
    ]);
    std::fs::write(&file, body.to_string()).unwrap();
    let variable = |name: &str| (name == "NAME").then(|| "from outside".to_owned());
    let import = async || world.iris.import_directory(&directory, &variable).await;
    assert_eq!(
        import().await.unwrap(),
        (vec!["rover".to_owned()], Vec::new())
    );
    let admin = world.admin().await;
    let client = async || {
        admin
            .get(&world.admin_url("/rover/clients?clientId=rover"))
            .await
            .json()
    };
    let secret = client().await[0]["secret"].as_str().unwrap().to_owned();
    assert_eq!(secret.len(), 32);
    assert_eq!(
        admin.get(&world.admin_url("/rover")).await.json()["displayName"],
        "from outside"
    );
    let id = client().await[0]["id"].as_str().unwrap().to_owned();
    let changed = json!({"secret": "changed"});
    let _ = admin
        .json(
            "PUT",
            &world.admin_url(&format!("/rover/clients/{id}")),
            changed,
        )
        .await
        .expect(204);
    assert_eq!(
        import().await.unwrap(),
        (Vec::new(), vec!["rover".to_owned()])
    );
    assert_eq!(client().await[0]["secret"], "changed");
    std::fs::write(&file, "[{\n \"realm\": }]").unwrap();
    let error = import().await.unwrap_err();
    assert!(error.to_string().contains("realms.json"), "{error}");
    let cause = std::error::Error::source(&error)
        .and_then(|it| it.source())
        .unwrap()
        .to_string();
    assert!(cause.contains("line 2"), "{cause}");
    std::fs::remove_dir_all(&directory).unwrap();
    let nothing = world
        .iris
        .import_directory(&directory, &variable)
        .await
        .unwrap();
    assert_eq!(nothing, (Vec::new(), Vec::new()));
}
