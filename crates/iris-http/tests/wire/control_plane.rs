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
