//! The token endpoint, introspection, revocation, userinfo and logout.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::harness::{World, claims, header, words};

fn members(body: &Value) -> Vec<&str> {
    body.as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

const CLIENT_TEXT: &str = "Invalid client or Invalid client credentials";

#[tokio::test]
async fn iris_case_001_a_realm_made_with_a_client_serves_it_with_a_generated_secret() {
    let world = World::start().await;
    let admin = world.admin().await;
    let realm = json!({"realm": "rover", "enabled": true, "clients": [{
        "clientId": "rover", "standardFlowEnabled": false, "directAccessGrantsEnabled": false,
        "serviceAccountsEnabled": true, "publicClient": false,
    }]});
    let _ = admin
        .json("POST", &world.admin_url(""), realm)
        .await
        .expect(201);
    let found = admin
        .get(&world.admin_url("/rover/clients?clientId=rover"))
        .await
        .expect(200)
        .json();
    let secret = found[0]["secret"].as_str().unwrap();
    assert_eq!(secret.len(), 32);
    let form = format!("grant_type=client_credentials&client_id=rover&client_secret={secret}");
    let reply = world.token("rover", &form).await.expect(200);
    assert_eq!(reply.header("cache-control"), "no-store");
    assert_eq!(reply.header("pragma"), "no-cache");
    assert_eq!(reply.header("content-type"), "application/json");
    let body = reply.json();
    let expected = [
        "access_token",
        "expires_in",
        "refresh_expires_in",
        "token_type",
        "not-before-policy",
        "scope",
    ];
    assert_eq!(members(&body), expected);
    assert_eq!(
        (&body["expires_in"], &body["refresh_expires_in"]),
        (&json!(300), &json!(0))
    );
}

#[tokio::test]
async fn iris_case_002_claims_of_a_full_scope_service_account() {
    let world = World::start().await;
    let admin = world.realm("rover").await;
    world
        .client(&admin, "rover", json!({"clientId": "rover"}))
        .await;
    let body = world.service_token("rover", "rover").await;
    let token = claims(&body["access_token"]);
    let leading: Vec<&str> = members(&token).into_iter().take(12).collect();
    let order = [
        "exp",
        "iat",
        "jti",
        "iss",
        "aud",
        "sub",
        "typ",
        "azp",
        "acr",
        "realm_access",
        "resource_access",
        "scope",
    ];
    assert_eq!(leading, order);
    assert_eq!(token["iss"], world.at("/realms/rover"));
    assert_eq!(
        (&token["azp"], &token["client_id"]),
        (&json!("rover"), &json!("rover"))
    );
    assert_eq!(token["preferred_username"], "service-account-rover");
    assert_eq!(
        (&token["typ"], &token["acr"], &token["aud"]),
        (&json!("Bearer"), &json!("1"), &json!("account"))
    );
    assert_eq!(
        token["realm_access"]["roles"],
        json!(["default-roles-rover", "offline_access", "uma_authorization"])
    );
    assert_eq!(
        token["resource_access"]["account"]["roles"],
        json!(["manage-account", "manage-account-links", "view-profile"])
    );
    assert_eq!(token["email_verified"], false);
    assert!(token.get("sid").is_none());
    assert_eq!(
        token["exp"].as_i64().unwrap() - token["iat"].as_i64().unwrap(),
        300
    );
    assert_eq!(
        (&token["clientHost"], &token["clientAddress"]),
        (&json!("127.0.0.1"), &json!("127.0.0.1"))
    );
    assert_eq!(words(&token["scope"]), ["email", "profile"]);
    assert!(token["jti"].as_str().unwrap().starts_with("trrtcc:"));
    assert_eq!(header(&body["access_token"])["alg"], "RS256");
}

#[tokio::test]
async fn iris_case_003_the_guides_rover_client_has_its_notes_and_no_roles() {
    let world = World::start().await;
    let admin = world.realm("rover").await;
    let note = |name: &str, note: &str| {
        json!({
            "name": name, "protocol": "openid-connect", "consentRequired": false,
            "protocolMapper": "oidc-usersessionmodel-note-mapper",
            "config": {
                "user.session.note": note, "id.token.claim": "true", "access.token.claim": "true",
                "claim.name": note, "jsonType.label": "String",
            },
        })
    };
    let body = json!({
        "clientId": "rover", "publicClient": false, "fullScopeAllowed": false,
        "standardFlowEnabled": false, "implicitFlowEnabled": false, "protocol": "openid-connect",
        "directAccessGrantsEnabled": false, "clientAuthenticatorType": "client-secret",
        "nodeReRegistrationTimeout": -1,
        "protocolMappers": [
            note("Client Host", "clientHost"), note("Client IP Address", "clientAddress"),
            note("Client ID", "clientId"),
        ],
        "defaultClientScopes": ["web-origins", "client-origin", "profile", "roles", "email"],
        "optionalClientScopes": [
            "address", "phone", "open-telekom-integration-platform", "offline_access",
            "microprofile-jwt",
        ],
        "access": {"view": true, "configure": true, "manage": true},
    });
    let id = world.client(&admin, "rover", body).await;
    let token = claims(&world.service_token("rover", "rover").await["access_token"]);
    assert_eq!(
        (&token["clientId"], &token["client_id"]),
        (&json!("rover"), &json!("rover"))
    );
    assert_eq!(token["clientHost"], "127.0.0.1");
    assert!(token.get("aud").is_none() && token.get("realm_access").is_none());
    let stored = admin
        .get(&world.admin_url(&format!("/rover/clients/{id}")))
        .await
        .expect(200)
        .json();
    let scopes = stored["defaultClientScopes"].as_array().unwrap();
    assert!(!scopes.contains(&json!("client-origin")) && scopes.contains(&json!("profile")));
    assert!(scopes.contains(&json!("service_account")));
}

#[tokio::test]
async fn iris_case_004_scopes_of_the_installation_guide() {
    let world = World::start().await;
    let admin = world.realm("default").await;
    let scopes = world.admin_url("/default/client-scopes");
    let plain = json!({"name": "open-telekom-integration-platform", "protocol": "openid-connect"});
    let optional = admin.json("POST", &scopes, plain).await.expect(201).id();
    let origin = json!({"name": "client-origin", "protocol": "openid-connect"});
    let id = admin.json("POST", &scopes, origin).await.expect(201).id();
    for (name, value) in [
        ("originZone", "z1"),
        ("originStargate", "https://gw.example"),
    ] {
        let mapper = json!({
            "name": name, "protocol": "openid-connect",
            "protocolMapper": "oidc-hardcoded-claim-mapper",
            "config": {
                "claim.name": name, "claim.value": value, "jsonType.label": "String",
                "id.token.claim": "true", "access.token.claim": "true",
                "userinfo.token.claim": "true", "access.tokenResponse.claim": "false",
            },
        });
        let models = format!("{scopes}/{id}/protocol-mappers/models");
        let _ = admin.json("POST", &models, mapper).await.expect(201);
    }
    let lists = world.admin_url("/default");
    let _ = admin
        .send(
            "PUT",
            &format!("{lists}/default-default-client-scopes/{id}"),
            "",
        )
        .await
        .expect(204);
    let _ = admin
        .send(
            "PUT",
            &format!("{lists}/default-optional-client-scopes/{optional}"),
            "",
        )
        .await
        .expect(204);
    world
        .client(&admin, "default", json!({"clientId": "c"}))
        .await;
    let body = world.service_token("default", "c").await;
    let token = claims(&body["access_token"]);
    assert_eq!(
        (&token["originZone"], &token["originStargate"]),
        (&json!("z1"), &json!("https://gw.example"))
    );
    assert!(words(&body["scope"]).contains(&"client-origin".to_owned()));

    let ask = async |scope: &str| {
        let form =
            format!("grant_type=client_credentials&client_id=c&client_secret=s&scope={scope}");
        world.token("default", &form).await
    };
    let asked = ask("open-telekom-integration-platform")
        .await
        .expect(200)
        .json();
    assert!(words(&asked["scope"]).contains(&"open-telekom-integration-platform".to_owned()));
    let openid = ask("openid").await.expect(200).json();
    assert!(openid["scope"].as_str().unwrap().starts_with("openid"));
    let id_token = claims(&openid["id_token"]);
    assert_eq!(
        (&id_token["typ"], &id_token["aud"]),
        (&json!("ID"), &json!("c"))
    );
    assert!(id_token["at_hash"].is_string());
}

#[tokio::test]
async fn iris_case_005_a_scope_the_client_does_not_have() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    world.client(&admin, "r", json!({"clientId": "c"})).await;
    let ask = async |scope: &str| {
        let form =
            format!("grant_type=client_credentials&client_id=c&client_secret=s&scope={scope}");
        world.token("r", &form).await
    };
    for (asked, shown) in [
        ("nosuch", "nosuch"),
        ("openid+nosuch+email", "openid nosuch email"),
    ] {
        let text = format!("Invalid scopes: {shown}");
        ask(asked).await.refused(400, "invalid_scope", &text);
    }
    // A scope of the realm that the client was not given is no scope of the client, either.
    let scope = json!({"name": "others", "protocol": "openid-connect"});
    let scopes = world.admin_url("/r/client-scopes");
    let _ = admin.json("POST", &scopes, scope).await.expect(201);
    ask("others")
        .await
        .refused(400, "invalid_scope", "Invalid scopes: others");
    // An empty parameter counts as none, a default scope changes nothing.
    let plain = ask("").await.expect(200).json();
    assert_eq!(words(&plain["scope"]), ["email", "profile"]);
    assert_eq!(
        ask("email").await.expect(200).json()["scope"],
        plain["scope"]
    );
}

#[tokio::test]
async fn iris_case_006_where_client_credentials_come_from() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    world.client(&admin, "r", json!({"clientId": "c"})).await;
    world
        .client(&admin, "r", json!({"clientId": "a:b c"}))
        .await;
    let url = world.protocol("r", "token");
    let basic = |pair: &str| {
        let text = o28m_jose::base64std(pair.as_bytes());
        world.http.with("authorization", &format!("Basic {text}"))
    };
    let grant = "grant_type=client_credentials";
    let _ = basic("c:s").form(&url, grant).await.expect(200);
    let _ = basic("a%3Ab%20c:s").form(&url, grant).await.expect(200);
    let form_wins = format!("{grant}&client_id=c&client_secret=s");
    let _ = basic("c:wrong").form(&url, &form_wins).await.expect(200);
    let negotiate = world.http.with("authorization", "Negotiate abc");
    let _ = negotiate.form(&url, &form_wins).await.expect(200);
}

#[tokio::test]
async fn iris_case_007_clients_that_do_not_authenticate() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    for body in [
        json!({"clientId": "c"}),
        json!({"clientId": "off", "enabled": false}),
        json!({"clientId": "bearer", "bearerOnly": true}),
    ] {
        world.client(&admin, "r", body).await;
    }
    let url = world.protocol("r", "token");
    let basic = |pair: &str| {
        let text = o28m_jose::base64std(pair.as_bytes());
        world.http.with("authorization", &format!("Basic {text}"))
    };
    let grant = "grant_type=client_credentials";
    let _ = basic("c:s").form(&url, grant).await.expect(200);
    let form = format!("{grant}&client_id=c&client_secret=wrong");
    world
        .token("r", &form)
        .await
        .refused(401, "unauthorized_client", CLIENT_TEXT);
    basic("c:wrong")
        .form(&url, grant)
        .await
        .refused(401, "unauthorized_client", CLIENT_TEXT);
    basic("c:")
        .form(&url, grant)
        .await
        .refused(401, "unauthorized_client", CLIENT_TEXT);
    basic("nosuch:s")
        .form(&url, grant)
        .await
        .refused(401, "invalid_client", CLIENT_TEXT);
    basic("off:s")
        .form(&url, grant)
        .await
        .refused(401, "invalid_client", CLIENT_TEXT);
    world
        .token("r", grant)
        .await
        .refused(401, "invalid_client", CLIENT_TEXT);
    let bearer = basic("bearer:s").form(&url, grant).await;
    bearer.refused(400, "invalid_client", "Bearer-only not allowed");
}

#[tokio::test]
async fn iris_case_008_who_has_no_service_account() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    world
        .client(
            &admin,
            "r",
            json!({"clientId": "p", "publicClient": true, "serviceAccountsEnabled": false}),
        )
        .await;
    world
        .client(
            &admin,
            "r",
            json!({"clientId": "c", "serviceAccountsEnabled": false}),
        )
        .await;
    let grant = "grant_type=client_credentials";
    let public = world.token("r", &format!("{grant}&client_id=p")).await;
    public.refused(
        401,
        "unauthorized_client",
        "Public client not allowed to retrieve service account",
    );
    let off = world
        .token("r", &format!("{grant}&client_id=c&client_secret=s"))
        .await;
    off.refused(
        401,
        "unauthorized_client",
        "Client not enabled to retrieve service account",
    );

    let id = world.client(&admin, "r", json!({"clientId": "gone"})).await;
    let user = admin
        .get(&world.admin_url(&format!("/r/clients/{id}/service-account-user")))
        .await;
    let user = world.admin_url(&format!("/r/users/{}", user.json()["id"].as_str().unwrap()));
    let _ = admin
        .json("PUT", &user, json!({"enabled": false}))
        .await
        .expect(204);
    let form = format!("{grant}&client_id=gone&client_secret=s");
    let disabled = world.token("r", &form).await;
    disabled.refused(
        401,
        "invalid_request",
        "User 'service-account-gone' disabled",
    );
    let _ = admin.send("DELETE", &user, "").await.expect(204);
    let text = "The associated service account for the client does not exist";
    world
        .token("r", &form)
        .await
        .refused(401, "invalid_request", text);
}

#[tokio::test]
async fn iris_case_009_grant_type_is_looked_at_before_the_client() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    world.client(&admin, "r", json!({"clientId": "c"})).await;
    let wrong = "client_id=c&client_secret=wrong";
    let text = "Missing form parameter: grant_type";
    world
        .token("r", wrong)
        .await
        .refused(400, "invalid_request", text);
    for grant in [
        "foo",
        "urn:ietf:params:oauth:grant-type:token-exchange",
        "urn:ietf:params:oauth:grant-type:device_code",
    ] {
        let form = format!("{wrong}&grant_type={grant}");
        let reply = world.token("r", &form).await;
        reply.refused(400, "unsupported_grant_type", "Unsupported grant_type");
    }
    let twice = "grant_type=client_credentials&client_id=c&client_secret=s&scope=email&scope=email";
    world
        .token("r", twice)
        .await
        .refused(400, "invalid_request", "duplicated parameter");
}

#[tokio::test]
async fn iris_case_010_unknown_and_disabled_realms() {
    let world = World::start().await;
    let admin = world.admin().await;
    let _ = admin
        .json("POST", &world.admin_url(""), json!({"realm": "off"}))
        .await
        .expect(201);
    let grant = "grant_type=client_credentials";
    world
        .token("nosuch", grant)
        .await
        .prose(404, "Realm does not exist");
    world
        .token("off", grant)
        .await
        .refused(403, "access_denied", "Realm not enabled");
    let remote = world.http.with("x-forwarded-for", "203.0.113.9");
    let reply = remote.form(&world.protocol("master", "token"), grant).await;
    reply.refused(403, "invalid_request", "HTTPS required");
}

#[tokio::test]
async fn iris_case_011_bodies_of_the_wrong_kind() {
    let world = World::start().await;
    let url = world.protocol("master", "token");
    let reply = world
        .http
        .json("POST", &url, json!({"grant_type": "client_credentials"}))
        .await;
    let _ = reply.expect(415).json();
    let _ = world
        .http
        .send("POST", &url, "grant_type=password")
        .await
        .expect(415)
        .json();
    let huge = format!("client_id={}", "x".repeat(2 * 1024 * 1024));
    let _ = world.http.form(&url, &huge).await.expect(413).json();
    for odd in ["client_id=%00", "client_id=%ff"] {
        let form = format!("grant_type=client_credentials&{odd}");
        let _ = world.token("master", &form).await.expect(400).json();
    }
    let _ = world.http.send("POST", &url, "").await.expect(400).json();
    let wrong = world.http.get(&url).await.expect(405);
    assert_eq!(wrong.header("allow"), "POST");
}

#[tokio::test]
async fn iris_case_012_the_administrators_login() {
    let world = World::start().await;
    let body = world.login().await;
    assert_eq!(
        (&body["expires_in"], &body["refresh_expires_in"]),
        (&json!(60), &json!(1800))
    );
    let order = [
        "access_token",
        "expires_in",
        "refresh_expires_in",
        "refresh_token",
        "token_type",
        "not-before-policy",
        "session_state",
        "scope",
    ];
    assert_eq!(members(&body), order);
    let basic = world.http.with("authorization", "Basic YWRtaW4tY2xpOg==");
    let form = "grant_type=password&username=admin&password=pw";
    let _ = basic
        .form(&world.protocol("master", "token"), form)
        .await
        .expect(200);
}

#[tokio::test]
async fn iris_case_013_a_lightweight_token_still_administrates() {
    let world = World::start().await;
    let body = world.login().await;
    let token = claims(&body["access_token"]);
    assert_eq!(
        (&token["azp"], &token["sid"]),
        (&json!("admin-cli"), &body["session_state"])
    );
    assert!(token.get("sub").is_none() && token.get("realm_access").is_none());
    let admin = world.http.bearer(body["access_token"].as_str().unwrap());
    let users = admin
        .get(&world.admin_url("/master/users"))
        .await
        .expect(200)
        .json();
    assert_eq!(users[0]["username"], "admin");
    assert_eq!(
        users[0]["attributes"]["is_temporary_admin"],
        json!(["true"])
    );
}

#[tokio::test]
async fn iris_case_014_refused_passwords() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    world.client(&admin, "r", json!({"clientId": "no"})).await;
    world
        .client(
            &admin,
            "r",
            json!({"clientId": "c", "directAccessGrantsEnabled": true}),
        )
        .await;
    let users = world.admin_url("/r/users");
    for (name, enabled, temporary) in [
        ("u", true, false),
        ("todo", true, true),
        ("off", false, false),
    ] {
        let body = json!({
            "username": name, "enabled": enabled,
            "credentials": [{"type": "password", "value": "pw", "temporary": temporary}],
        });
        let _ = admin.json("POST", &users, body).await.expect(201);
    }
    let login = async |client: &str, user: &str, password: &str| {
        let form = format!(
            "grant_type=password&client_id={client}&client_secret=s&username={user}&password={password}"
        );
        world.token("r", &form).await
    };
    let body = login("c", "U", "pw").await.expect(200).json();
    assert_eq!(claims(&body["access_token"])["sid"], body["session_state"]);
    assert!(claims(&body["access_token"])["sub"].is_string());
    for (user, password) in [
        ("u", "wrong"),
        ("nobody", "pw"),
        ("service-account-c", "pw"),
        ("u", ""),
    ] {
        login("c", user, password)
            .await
            .refused(401, "invalid_grant", "Invalid user credentials");
    }
    login("c", "todo", "pw")
        .await
        .refused(400, "invalid_grant", "Account is not fully set up");
    login("c", "off", "pw")
        .await
        .refused(400, "invalid_grant", "Account disabled");
    let text = "Client not allowed for direct access grants";
    login("no", "u", "pw")
        .await
        .refused(400, "unauthorized_client", text);
    let missing = "grant_type=password&client_id=c&client_secret=s&password=pw";
    world
        .token("r", missing)
        .await
        .refused(401, "invalid_request", "Missing parameter: username");
}

#[tokio::test]
async fn iris_case_015_refreshing_and_logging_out() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    let first = world.login().await;
    let refresh = async |token: &Value| {
        let form = format!(
            "grant_type=refresh_token&client_id=admin-cli&refresh_token={}",
            token.as_str().unwrap()
        );
        world.token("master", &form).await
    };
    world.clock.advance(30);
    let second = refresh(&first["refresh_token"]).await.expect(200).json();
    assert_eq!(second["session_state"], first["session_state"]);
    assert_ne!(second["access_token"], first["access_token"]);
    // The old one stays usable unless the realm revokes refresh tokens.
    let _ = refresh(&first["refresh_token"]).await.expect(200);
    refresh(&json!("garbage"))
        .await
        .refused(400, "invalid_grant", "Invalid refresh token");
    refresh(&first["access_token"])
        .await
        .refused(400, "invalid_grant", "Invalid refresh token");
    world
        .token("master", "grant_type=refresh_token&client_id=admin-cli")
        .await
        .refused(400, "invalid_request", "No refresh token");
    world
        .client(&admin, "master", json!({"clientId": "other"}))
        .await;
    let stolen = format!(
        "grant_type=refresh_token&client_id=other&client_secret=s&refresh_token={}",
        first["refresh_token"].as_str().unwrap()
    );
    let text = "Invalid refresh token. Token client and authorized client don't match";
    world
        .token("master", &stolen)
        .await
        .refused(400, "invalid_grant", text);

    let logout = world.protocol("master", "logout");
    let form = format!(
        "client_id=admin-cli&refresh_token={}",
        second["refresh_token"].as_str().unwrap()
    );
    let _ = world.http.form(&logout, &form).await.expect(204);
    refresh(&second["refresh_token"])
        .await
        .refused(400, "invalid_grant", "Session not active");
    let gone = world.http.bearer(second["access_token"].as_str().unwrap());
    gone.get(&world.admin_url("/r"))
        .await
        .prose(401, "HTTP 401 Unauthorized");
    world
        .http
        .form(&logout, "client_id=admin-cli&refresh_token=x")
        .await
        .refused(400, "invalid_grant", "Invalid refresh token");
}

#[tokio::test]
async fn refresh_tokens_end_with_their_session() {
    let world = World::start().await;
    let first = world.login().await;
    let form = format!(
        "grant_type=refresh_token&client_id=admin-cli&refresh_token={}",
        first["refresh_token"].as_str().unwrap()
    );
    world.clock.advance(1801);
    world
        .token("master", &form)
        .await
        .refused(400, "invalid_grant", "Token is not active");
}

#[tokio::test]
async fn iris_case_016_a_refresh_token_used_twice_ends_the_session() {
    let world = World::start().await;
    let admin = world.admin().await;
    let body = json!({"revokeRefreshToken": true});
    let _ = admin
        .json("PUT", &world.admin_url("/master"), body)
        .await
        .expect(204);
    let first = world.login().await;
    let form = |token: &Value| {
        format!(
            "grant_type=refresh_token&client_id=admin-cli&refresh_token={}",
            token.as_str().unwrap()
        )
    };
    // Many at once: at most one may win, and a replay may end even its session (RFC 9700 section 4.14).
    let tries = (0..8).map(|_| {
        let (http, url, form) = (
            world.http.clone(),
            world.protocol("master", "token"),
            form(&first["refresh_token"]),
        );
        tokio::spawn(async move { http.form(&url, &form).await })
    });
    let mut won = 0;
    for reply in tries.collect::<Vec<_>>() {
        let reply = reply.await.unwrap();
        won += usize::from(reply.status == 200);
    }
    assert!(won <= 1, "{won}");
    let again = world
        .token("master", &form(&first["refresh_token"]))
        .await
        .expect(400)
        .json();
    assert_eq!(again["error"], "invalid_grant");

    let fresh = world.login().await;
    let next = world
        .token("master", &form(&fresh["refresh_token"]))
        .await
        .expect(200)
        .json();
    let text = "Maximum allowed refresh token reuse exceeded";
    world
        .token("master", &form(&fresh["refresh_token"]))
        .await
        .refused(400, "invalid_grant", text);
    world
        .token("master", &form(&next["refresh_token"]))
        .await
        .refused(400, "invalid_grant", "Session not active");
}

#[tokio::test]
async fn iris_case_017_lifespans_of_client_and_realm() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    let id = world.client(&admin, "r", json!({"clientId": "c"})).await;
    let body = json!({"accessTokenLifespan": 77});
    let _ = admin
        .json("PUT", &world.admin_url("/r"), body)
        .await
        .expect(204);
    assert_eq!(world.service_token("r", "c").await["expires_in"], 77);
    let body = json!({"attributes": {"access.token.lifespan": "30"}});
    let _ = admin
        .json("PUT", &world.admin_url(&format!("/r/clients/{id}")), body)
        .await
        .expect(204);
    assert_eq!(world.service_token("r", "c").await["expires_in"], 30);
}

#[tokio::test]
async fn iris_case_020_many_tokens_at_once_are_distinct_and_write_nothing() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    world.client(&admin, "r", json!({"clientId": "c"})).await;
    world.service_token("r", "c").await;
    let before = world.store.version().await.unwrap();
    let form = "grant_type=client_credentials&client_id=c&client_secret=s";
    let many = (0..200).map(|_| {
        let (http, url) = (world.http.clone(), world.protocol("r", "token"));
        tokio::spawn(async move { http.form(&url, form).await.expect(200).json() })
    });
    let mut ids = HashSet::new();
    for reply in many.collect::<Vec<_>>() {
        ids.insert(claims(&reply.await.unwrap()["access_token"])["jti"].to_string());
    }
    assert_eq!(ids.len(), 200);
    assert_eq!(world.store.version().await.unwrap(), before);
}

#[tokio::test]
async fn iris_case_027_introspection() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    let _ = world.realm("other").await;
    world.client(&admin, "r", json!({"clientId": "c"})).await;
    world
        .client(&admin, "other", json!({"clientId": "c"}))
        .await;
    world.client(&admin, "r", json!({"clientId": "d"})).await;
    world
        .client(
            &admin,
            "r",
            json!({"clientId": "p", "publicClient": true, "serviceAccountsEnabled": false}),
        )
        .await;
    let token = world.service_token("r", "c").await["access_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let foreign = world.service_token("other", "c").await["access_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let introspect = async |client: &str, token: &str| {
        let form = format!("client_id={client}&client_secret=s&token={token}");
        world
            .http
            .form(&world.protocol("r", "token/introspect"), &form)
            .await
    };
    let active = introspect("c", &token).await.expect(200).json();
    assert_eq!(active["active"], true);
    assert_eq!(
        (&active["client_id"], &active["username"]),
        (&json!("c"), &json!("service-account-c"))
    );

    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (_, payload) = signed.split_once('.').unwrap();
    let b64 = |text: &str| o28m_jose::base64url(text.as_bytes());
    let kid = header(&json!(token))["kid"].as_str().unwrap().to_owned();
    let none = format!(
        "{}.{payload}.",
        b64(&format!("{{\"alg\":\"none\",\"kid\":\"{kid}\"}}"))
    );
    let confused = format!(
        "{}.{payload}.{signature}",
        b64(&format!("{{\"alg\":\"HS256\",\"kid\":\"{kid}\"}}"))
    );
    let forged = format!("{signed}.{}", o28m_jose::base64url(&[7; 256]));
    for bad in [
        none.as_str(),
        &confused,
        &forged,
        &foreign,
        "garbage",
        "a.b.c",
    ] {
        assert_eq!(
            introspect("c", bad).await.expect(200).json(),
            json!({"active": false})
        );
    }
    introspect("c", "")
        .await
        .refused(400, "invalid_request", "Token not provided");
    let wrong = world
        .http
        .form(
            &world.protocol("r", "token/introspect"),
            "client_id=c&client_secret=x&token=y",
        )
        .await;
    let _ = wrong.expect(401);
    introspect("p", &token)
        .await
        .refused(403, "invalid_request", "Client not allowed.");
    world.clock.advance(301);
    let late = introspect("c", &token).await.expect(200).json();
    assert_eq!(late, json!({"active": false}));
}

#[tokio::test]
async fn iris_case_028_revocation() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    for name in ["c", "d"] {
        world.client(&admin, "r", json!({"clientId": name})).await;
    }
    let token = world.service_token("r", "c").await["access_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let post = async |endpoint: &str, client: &str, token: &str| {
        let form = format!("client_id={client}&client_secret=s&token={token}");
        world.http.form(&world.protocol("r", endpoint), &form).await
    };
    let introspect =
        async |client: &str, token: &str| post("token/introspect", client, token).await;
    let revoke = async |client: &str, token: &str| post("revoke", client, token).await;
    assert_eq!(introspect("d", &token).await.json()["active"], true);
    revoke("d", &token)
        .await
        .refused(400, "invalid_token", "Unmatching clients");
    assert!(revoke("c", &token).await.expect(200).body.is_empty());
    assert_eq!(
        introspect("c", &token).await.expect(200).json(),
        json!({"active": false})
    );
    revoke("c", "garbage")
        .await
        .refused(200, "invalid_token", "Invalid token");
    revoke("c", "")
        .await
        .refused(400, "invalid_request", "Token not provided");
    // Twice is no error, and tokens issued since are not concerned.
    let _ = revoke("c", &token).await.expect(200);
    let fresh = world.service_token("r", "c").await["access_token"].clone();
    let fresh = introspect("c", fresh.as_str().unwrap()).await.json();
    assert_eq!(fresh["active"], true);
}

#[tokio::test]
async fn tokens_from_before_the_not_before_time_are_refused() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    world.client(&admin, "r", json!({"clientId": "c"})).await;
    let token = world.service_token("r", "c").await["access_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let iat = claims(&json!(token))["iat"].as_i64().unwrap();
    let _ = admin
        .json("PUT", &world.admin_url("/r"), json!({"notBefore": iat + 1}))
        .await
        .expect(204);
    let form = format!("client_id=c&client_secret=s&token={token}");
    let reply = world
        .http
        .form(&world.protocol("r", "token/introspect"), &form)
        .await;
    assert_eq!(reply.expect(200).json(), json!({"active": false}));
    assert_eq!(
        world.service_token("r", "c").await["not-before-policy"],
        iat + 1
    );
}

#[tokio::test]
async fn iris_case_029_userinfo() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    world.client(&admin, "r", json!({"clientId": "c"})).await;
    let url = world.protocol("r", "userinfo");
    let reply = world.http.get(&url).await.expect(401);
    assert_eq!(reply.header("www-authenticate"), "Bearer realm=\"r\"");
    assert!(reply.body.is_empty());
    let bad = world.http.bearer("garbage").get(&url).await.expect(401);
    assert!(
        bad.header("www-authenticate")
            .contains("error=\"invalid_token\"")
    );
    let token = world.service_token("r", "c").await;
    let narrow = world
        .http
        .bearer(token["access_token"].as_str().unwrap())
        .get(&url)
        .await
        .expect(403);
    assert!(
        narrow
            .header("www-authenticate")
            .contains("insufficient_scope")
    );
    let form = "grant_type=client_credentials&client_id=c&client_secret=s&scope=openid";
    let token = world.token("r", form).await.expect(200).json();
    let info = world
        .http
        .bearer(token["access_token"].as_str().unwrap())
        .get(&url)
        .await
        .expect(200)
        .json();
    assert_eq!(members(&info)[0], "sub");
    assert_eq!(info["preferred_username"], "service-account-c");
}

#[tokio::test]
async fn sessions_of_service_accounts_and_offline_sessions() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    let attributes = json!({"client_credentials.use_refresh_token": "true"});
    world
        .client(
            &admin,
            "r",
            json!({"clientId": "c", "attributes": attributes}),
        )
        .await;
    let body = world.service_token("r", "c").await;
    assert_eq!(claims(&body["access_token"])["sid"], body["session_state"]);
    assert_eq!(claims(&body["access_token"])["clientHost"], "127.0.0.1");
    let refresh = async |token: &Value, more: &str| {
        let token = token.as_str().unwrap();
        let form = format!(
            "grant_type=refresh_token&client_id=c&client_secret=s&refresh_token={token}{more}"
        );
        world.token("r", &form).await
    };
    let again = refresh(&body["refresh_token"], "&scope=email")
        .await
        .expect(200)
        .json();
    assert_eq!(claims(&again["access_token"])["client_id"], "c");
    let wider = refresh(&body["refresh_token"], "&scope=phone").await;
    wider.refused(400, "invalid_scope", "Invalid scopes: phone");

    let form = "grant_type=client_credentials&client_id=c&client_secret=s&scope=offline_access";
    let offline = world.token("r", form).await.expect(200).json();
    assert_eq!(offline["refresh_expires_in"], 0);
    assert_eq!(claims(&offline["refresh_token"])["typ"], "Offline");
    world.clock.advance(100_000);
    let _ = refresh(&offline["refresh_token"], "").await.expect(200);
    refresh(&body["refresh_token"], "")
        .await
        .refused(400, "invalid_grant", "Token is not active");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refreshing_while_logging_out_does_not_bring_the_session_back() {
    let world = World::start().await;
    for _ in 0..5 {
        let first = world.login().await;
        let token = first["refresh_token"].as_str().unwrap().to_owned();
        let refresh = format!("grant_type=refresh_token&client_id=admin-cli&refresh_token={token}");
        let logout = format!("client_id=admin-cli&refresh_token={token}");
        let mut calls = Vec::new();
        for at in 0..9 {
            let (url, form) = if at == 4 {
                (world.protocol("master", "logout"), logout.clone())
            } else {
                (world.protocol("master", "token"), refresh.clone())
            };
            let http = world.http.clone();
            calls.push(tokio::spawn(async move {
                http.form(&url, &form).await.status.as_u16()
            }));
        }
        for call in calls {
            assert!(matches!(call.await.unwrap(), 200 | 204 | 400));
        }
        let after = world.token("master", &refresh).await;
        after.refused(400, "invalid_grant", "Session not active");
    }
}
