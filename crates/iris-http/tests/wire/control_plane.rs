//! The control plane's calls, in its order, as its generated client makes them.

use serde_json::{Value, json};

use crate::harness::{Client, World, claims};

/// Sends writes and counts them.
struct Plane<'a> {
    world: &'a World,
    client: Client,
    writes: usize,
}

impl Plane<'_> {
    fn url(&self, path: &str) -> String {
        self.world.admin_url(path)
    }

    async fn read(&self, path: &str) -> (u16, Value) {
        let reply = self.client.get(&self.url(path)).await;
        let body = serde_json::from_slice(&reply.body).unwrap_or_default();
        (reply.status.as_u16(), body)
    }

    async fn write(&mut self, method: &str, path: &str, body: Value, status: u16) -> String {
        self.writes += 1;
        let url = self.url(path);
        let reply = if body.is_null() {
            self.client.send(method, &url, "").await
        } else {
            self.client.json(method, &url, body).await
        };
        let reply = reply.expect(status);
        if status == 201 {
            reply.id()
        } else {
            String::new()
        }
    }

    async fn realm(&mut self) {
        let (status, realm) = self.read("/zone").await;
        let wanted = json!({"enabled": true, "realm": "zone"});
        if status != 200 {
            self.write("POST", "/", wanted, 201).await;
        } else if realm["enabled"] != true || realm["realm"] != "zone" {
            self.write("PUT", "/zone", wanted, 204).await;
        }
    }

    async fn rotation_off(&mut self) {
        for list in ["profiles", "policies"] {
            let (status, body) = self.read(&format!("/zone/client-policies/{list}")).await;
            assert_eq!(status, 200);
            assert_eq!(body[list], json!([]));
        }
    }

    async fn claims_scope(&mut self) {
        let mapper = |claim: &str, of: &str, key: &str, value: &str| {
            json!({
                "name": format!("controlplane-claim-{claim}"), "protocol": "openid-connect",
                "protocolMapper": of,
                "config": {
                    "claim.name": claim, key: value, "jsonType.label": "String",
                    "id.token.claim": "true", "access.token.claim": "true",
                    "userinfo.token.claim": "false",
                },
            })
        };
        let wanted = [
            mapper(
                "originZone",
                "oidc-hardcoded-claim-mapper",
                "claim.value",
                "zone",
            ),
            mapper(
                "originStargate",
                "oidc-hardcoded-claim-mapper",
                "claim.value",
                "https://gw",
            ),
            mapper(
                "clientId",
                "oidc-usersessionmodel-note-mapper",
                "user.session.note",
                "clientId",
            ),
        ];
        let (_, scopes) = self.read("/zone/client-scopes").await;
        let known = scopes
            .as_array()
            .unwrap()
            .iter()
            .find(|it| it["name"] == "controlplane-claims");
        let Some(known) = known else {
            let body = json!({
                "name": "controlplane-claims", "description": "d", "protocol": "openid-connect",
                "protocolMappers": wanted,
            });
            let id = self.write("POST", "/zone/client-scopes", body, 201).await;
            let (status, assigned) = self.read("/zone/default-default-client-scopes").await;
            assert_eq!(status, 200);
            assert!(!assigned.as_array().unwrap().iter().any(|it| it["id"] == id));
            let path = format!("/zone/default-default-client-scopes/{id}");
            self.write("PUT", &path, Value::Null, 204).await;
            return;
        };
        let id = known["id"].as_str().unwrap();
        for mapper in &wanted {
            let stored = known["protocolMappers"].as_array().unwrap().iter();
            let stored = stored
                .clone()
                .find(|it| it["name"] == mapper["name"])
                .unwrap();
            if stored["config"] != mapper["config"] {
                let path = format!(
                    "/zone/client-scopes/{id}/protocol-mappers/models/{}",
                    stored["id"]
                );
                self.write("PUT", &path, mapper.clone(), 204).await;
            }
        }
    }

    async fn client(&mut self) {
        let config = json!({
            "user.session.note": "clientId", "id.token.claim": "true",
            "access.token.claim": "true", "userinfo.token.claim": "false",
            "claim.name": "clientId", "jsonType.label": "String",
        });
        let (status, _) = self
            .read("/zone/clients/00000000-0000-4000-8000-000000000000")
            .await;
        assert_eq!(status, 404);
        let (status, found) = self
            .read("/zone/clients?clientId=eni--team--app&search=false&viewableOnly=true")
            .await;
        assert_eq!(status, 200);
        let Some(found) = found.get(0) else {
            let body = json!({
                "clientId": "eni--team--app", "name": "eni--team--app", "enabled": true,
                "fullScopeAllowed": false, "serviceAccountsEnabled": true,
                "standardFlowEnabled": false, "secret": "topsecret",
                "protocolMappers": [{
                    "name": "Client ID", "protocol": "openid-connect",
                    "protocolMapper": "oidc-usersessionmodel-note-mapper", "config": config,
                }],
            });
            self.write("POST", "/zone/clients", body, 201).await;
            return;
        };
        let mapper = &found["protocolMappers"][0];
        let same = found["secret"] == "topsecret" && mapper["config"] == config;
        let same =
            same && found["fullScopeAllowed"] == false && found["standardFlowEnabled"] == false;
        if !same {
            let path = format!("/zone/clients/{}", found["id"].as_str().unwrap());
            self.write("PUT", &path, found.clone(), 204).await;
        }
    }
}

#[tokio::test]
async fn iris_case_039_the_control_planes_second_run_writes_nothing() {
    let world = World::start().await;
    // Its token library tries Basic with an empty secret first, and refreshes later.
    let basic = world.http.with("authorization", "Basic YWRtaW4tY2xpOg==");
    let url = world.protocol("master", "token");
    let login = "grant_type=password&username=admin&password=pw";
    let token = basic.form(&url, login).await.expect(200).json();
    let refresh = format!(
        "grant_type=refresh_token&refresh_token={}",
        token["refresh_token"].as_str().unwrap()
    );
    let token = basic.form(&url, &refresh).await.expect(200).json();
    for member in ["access_token", "token_type", "expires_in", "refresh_token"] {
        assert!(token.get(member).is_some(), "{member}");
    }
    let client = world.http.bearer(token["access_token"].as_str().unwrap());
    let mut plane = Plane {
        world: &world,
        client,
        writes: 0,
    };
    for expected in [4, 0] {
        plane.writes = 0;
        plane.realm().await;
        plane.rotation_off().await;
        plane.claims_scope().await;
        plane.client().await;
        assert_eq!(plane.writes, expected);
    }
    let form = "grant_type=client_credentials&client_id=eni--team--app&client_secret=topsecret";
    let body = world.token("zone", form).await.expect(200).json();
    let token = claims(&body["access_token"]);
    assert_eq!(
        (&token["clientId"], &token["client_id"]),
        (&json!("eni--team--app"), &json!("eni--team--app"))
    );
    assert_eq!(
        (&token["originZone"], &token["originStargate"]),
        (&json!("zone"), &json!("https://gw"))
    );
    for absent in ["aud", "realm_access", "resource_access", "sid"] {
        assert!(token.get(absent).is_none(), "{absent}");
    }
    assert_eq!(
        crate::harness::words(&body["scope"]),
        ["controlplane-claims", "email", "profile"]
    );
    plane.write("DELETE", "/zone", Value::Null, 204).await;
    plane.write("DELETE", "/zone", Value::Null, 404).await;
}

/// Spec iris 13, each step after the one before it: what the control plane does from an empty realm to an
/// empty one, with rotation of secrets.
#[tokio::test]
async fn the_control_planes_calls_from_the_first_to_the_last() {
    let world = World::start().await;
    // 1: its token library tries Basic without a client id in the form, and renews the token later.
    let basic = world.http.with("authorization", "Basic YWRtaW4tY2xpOg==");
    let url = world.protocol("master", "token");
    let login = "grant_type=password&username=admin&password=pw";
    let token = basic.form(&url, login).await.expect(200).json();
    let renew = format!(
        "grant_type=refresh_token&refresh_token={}",
        token["refresh_token"].as_str().unwrap()
    );
    let token = basic.form(&url, &renew).await.expect(200).json();
    let client = world.http.bearer(token["access_token"].as_str().unwrap());
    let mut plane = Plane {
        world: &world,
        client,
        writes: 0,
    };
    // 2: the realm, also disabled by somebody and taken back.
    assert_eq!(plane.read("/zone").await.0, 404);
    plane.realm().await;
    plane
        .write("PUT", "/zone", json!({"enabled": false}), 204)
        .await;
    plane.realm().await;
    assert_eq!(plane.read("/zone").await.1["enabled"], true);
    // 3: rotation on, and its lists filtered away again.
    let profiles = json!({"profiles": [{"name": "controlplane-secret-rotation", "description": "d",
        "executors": [{"executor": "secret-rotation", "configuration": {
            "expiration-period": 2_592_000, "rotated-expiration-period": 86_400,
            "remaining-rotation-period": 864_000}}]}]});
    let policies = json!({"policies": [{"name": "controlplane-secret-rotation-policy",
        "description": "d", "enabled": true, "conditions": [{"condition": "client-attributes",
            "configuration": {"is.negative.logic": false,
                "attributes": "[{\"key\":\"controlplane.secret-rotation\",\"value\":\"true\"}]"}}],
        "profiles": ["controlplane-secret-rotation"]}]});
    for (list, body) in [("profiles", &profiles), ("policies", &policies)] {
        let path = format!("/zone/client-policies/{list}");
        let (status, before) = plane.read(&path).await;
        assert_eq!((status, &before[list]), (200, &json!([])));
        plane.write("PUT", &path, body.clone(), 204).await;
        assert_eq!(&plane.read(&path).await.1[list], &body[list]);
    }
    // 4: the scope of claims, its mappers one by one, and its removal.
    plane.claims_scope().await;
    let (_, scopes) = plane.read("/zone/client-scopes").await;
    let found = scopes.as_array().unwrap().iter();
    let scope = found
        .clone()
        .find(|it| it["name"] == "controlplane-claims")
        .unwrap()
        .clone();
    let scope_id = scope["id"].as_str().unwrap().to_owned();
    let models = format!("/zone/client-scopes/{scope_id}/protocol-mappers/models");
    let mapper = |value: &str| {
        json!({"name": "controlplane-claim-team", "protocol": "openid-connect",
            "protocolMapper": "oidc-hardcoded-claim-mapper", "config": {
                "claim.name": "team", "claim.value": value, "jsonType.label": "String",
                "id.token.claim": "true", "access.token.claim": "true",
                "userinfo.token.claim": "false"}})
    };
    let id = plane.write("POST", &models, mapper("a"), 201).await;
    let mut changed = mapper("b");
    changed["id"] = json!(id);
    plane
        .write("PUT", &format!("{models}/{id}"), changed.clone(), 204)
        .await;
    let (_, stored) = plane.read(&format!("{models}/{id}")).await;
    assert_eq!(stored["config"], changed["config"]);
    let first = scope["protocolMappers"][1]["id"].as_str().unwrap();
    plane
        .write("DELETE", &format!("{models}/{first}"), Value::Null, 204)
        .await;
    // 5: a client, found by its name, changed with what was read, and not found any more.
    plane.client().await;
    let list = "/zone/clients?clientId=eni--team--app&search=false&viewableOnly=true";
    let found = plane.read(list).await.1[0].clone();
    let uuid = found["id"].as_str().unwrap().to_owned();
    let path = format!("/zone/clients/{uuid}");
    let mut wanted = found.clone();
    wanted["attributes"]["controlplane.secret-rotation"] = json!("true");
    plane.write("PUT", &path, wanted, 204).await;
    let (_, rotating) = plane.read(&path).await;
    let expires = rotating["attributes"]["client.secret.expiration.time"].as_str();
    assert!(expires.is_some_and(|text| text.parse::<i64>().is_ok()));
    let ask = async |secret: &str| {
        let form = format!(
            "grant_type=client_credentials&client_id=eni--team--app&client_secret={secret}"
        );
        world.token("zone", &form).await
    };
    let body = ask("topsecret").await.expect(200).json();
    assert_eq!(claims(&body["access_token"])["team"], "b");
    // 6: another secret; the old one is good for a while, and says how long.
    let rotated = format!("{path}/client-secret/rotated");
    plane.write("DELETE", &rotated, Value::Null, 204).await;
    assert_eq!(plane.read(&rotated).await.0, 404);
    let url = plane.url(&format!("{path}/client-secret"));
    let forced = plane.client.send("POST", &url, "").await.expect(200).json();
    assert_eq!(forced["type"], "secret");
    let (_, mut current) = plane.read(&path).await;
    assert_eq!(current["secret"], forced["value"]);
    current["secret"] = json!("next");
    plane.write("PUT", &path, current, 204).await;
    let (status, shown) = plane.read(&rotated).await;
    assert_eq!((status, &shown["value"]), (200, &json!("topsecret")));
    let (_, current) = plane.read(&path).await;
    for name in [
        "creation.time",
        "expiration.time",
        "rotated.creation.time",
        "rotated.expiration.time",
    ] {
        let value = current["attributes"][format!("client.secret.{name}")].as_str();
        assert!(
            value.is_some_and(|text| text.parse::<i64>().is_ok()),
            "{name}"
        );
    }
    for (secret, status) in [("next", 200), ("topsecret", 200), ("other", 401)] {
        assert_eq!(ask(secret).await.status, status, "{secret}");
    }
    // And everything back.
    plane.write("DELETE", &path, Value::Null, 204).await;
    assert_eq!(plane.read(list).await, (200, json!([])));
    let assigned = format!("/zone/default-default-client-scopes/{scope_id}");
    plane.write("DELETE", &assigned, Value::Null, 204).await;
    plane
        .write(
            "DELETE",
            &format!("/zone/client-scopes/{scope_id}"),
            Value::Null,
            204,
        )
        .await;
    for list in ["policies", "profiles"] {
        let path = format!("/zone/client-policies/{list}");
        plane.write("PUT", &path, json!({list: []}), 204).await;
    }
    plane.write("DELETE", "/zone", Value::Null, 204).await;
    assert_eq!(plane.read("/zone").await.0, 404);
}
