//! What the installation guide has people type, against a platform that `o28m up` set up.

use o28m_testkit::{Platform, on_every_database};
use serde_json::{Value, json};

fn claims(token: &str) -> Value {
    let jws = o28m_jose::CompactJws::parse(token).unwrap();
    serde_json::from_slice(&jws.payload).unwrap()
}

on_every_database! {
    async fn the_rover_client_reads_consumers_through_the_proxy(platform: Platform) {
        let token = platform.rover_token().await;
        let url = platform.gateway("/admin-api/consumers");
        let reply = platform.http.bearer(&token).get(&url).await.expect(200).json();
        assert_eq!(reply["data"][0]["username"], "rover");
        assert_eq!(reply["data"][0]["custom_id"], "rover");
    }
}

on_every_database! {
    async fn tokens_carry_exactly_the_published_issuer(platform: Platform) {
        let token = claims(&platform.rover_token().await);
        assert_eq!(token["iss"], platform.iris("/realms/rover"));
        assert_eq!(token["clientId"], "rover");
        let url = platform.iris("/realms/rover/.well-known/openid-configuration");
        let discovery = platform.http.get(&url).await.expect(200).json();
        assert_eq!(discovery["issuer"], token["iss"]);
    }
}

on_every_database! {
    async fn only_good_tokens_of_members_pass(platform: Platform) {
        let url = platform.gateway("/admin-api/consumers");
        let refused = platform.http.get(&url).await.expect(401);
        assert_eq!(refused.json()["message"], "Unauthorized");

        let token = platform.rover_token().await;
        let (signed, _) = token.rsplit_once('.').unwrap();
        let forged = format!("{signed}.{}", o28m_jose::base64url(&[7; 256]));
        let reply = platform.http.bearer(&forged).get(&url).await.expect(401);
        assert_eq!(reply.json()["message"], "Invalid token signature");

        let none = format!("{}.{}.", o28m_jose::base64url(br#"{"alg":"none"}"#), "e30");
        let _ = platform.http.bearer(&none).get(&url).await.expect(401);

        // A token of the same issuer for a consumer that is not in the group.
        let admin = platform.realm_admin().await;
        let client = json!({
            "clientId": "stranger", "secret": "s", "serviceAccountsEnabled": true,
            "standardFlowEnabled": false,
        });
        let clients = platform.iris("/admin/realms/rover/clients");
        let _ = admin.json("POST", &clients, client).await.expect(201);
        let _ = platform
            .admin("PUT", "/consumers/stranger", json!({"custom_id": "stranger"}))
            .await
            .expect(200);
        let _ = platform
            .admin("POST", "/consumers/stranger/acls", json!({"group": "strangers"}))
            .await
            .expect(201);
        platform.applied().await;
        let stranger = platform.token("rover", "stranger", "s").await;
        let reply = platform.http.bearer(&stranger).get(&url).await.expect(403);
        assert_eq!(reply.json()["message"], "You cannot consume this service");
    }
}

on_every_database! {
    async fn expired_tokens_are_refused(platform: Platform) {
        let admin = platform.realm_admin().await;
        let url = platform.iris("/admin/realms/rover/clients?clientId=rover");
        let found = admin.get(&url).await.expect(200).json();
        let id = found[0]["id"].as_str().unwrap();
        let body = json!({"attributes": {"access.token.lifespan": "1"}});
        let client = platform.iris(&format!("/admin/realms/rover/clients/{id}"));
        let _ = admin.json("PUT", &client, body).await.expect(204);
        let token = platform.rover_token().await;
        assert_eq!(claims(&token)["exp"].as_i64(), claims(&token)["iat"].as_i64().map(|at| at + 1));
        let url = platform.gateway("/admin-api/consumers");
        let reply = o28m_testkit::eventually("the token to expire", async || {
            let reply = platform.http.bearer(&token).get(&url).await;
            (reply.status == 401).then_some(reply)
        })
        .await;
        assert_eq!(reply.json()["message"], "Token claims invalid: [\"exp\"]=\"token expired\"");
    }
}

on_every_database! {
    async fn scopes_and_mappers_are_made_by_rest(platform: Platform) {
        let admin = platform.realm_admin().await;
        let realms = platform.iris("/admin/realms");
        let _ = admin.json("POST", &realms, json!({"realm": "teams", "enabled": true})).await.expect(201);
        let scopes = format!("{realms}/teams/client-scopes");
        let scope = json!({"name": "client-origin", "protocol": "openid-connect"});
        let created = admin.json("POST", &scopes, scope).await.expect(201);
        let id = created.header("location").rsplit('/').next().unwrap().to_owned();
        for (name, value) in [("originZone", "z9"), ("originStargate", "https://gw.example.com")] {
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
        let default = format!("{realms}/teams/default-default-client-scopes/{id}");
        let _ = admin.send("PUT", &default, "").await.expect(204);
        let client = json!({"clientId": "c", "secret": "s", "serviceAccountsEnabled": true});
        let _ = admin.json("POST", &format!("{realms}/teams/clients"), client).await.expect(201);
        let token = claims(&platform.token("teams", "c", "s").await);
        assert_eq!(token["originZone"], "z9");
        assert_eq!(token["originStargate"], "https://gw.example.com");
    }
}
