//! What a program sets up in process, as `o28m up` does.

use o28m_core::Secret;
use o28m_iris::{Error, ScopeAssignment, Thing};
use serde_json::json;

use crate::harness::{World, claims};

#[tokio::test]
async fn setting_up_twice_changes_nothing_but_what_was_asked() {
    let world = World::start().await;
    let mapper = |value: &str| {
        json!({
            "name": "originZone", "protocol": "openid-connect",
            "protocolMapper": "oidc-hardcoded-claim-mapper",
            "config": {
                "claim.name": "originZone", "claim.value": value, "jsonType.label": "String",
                "access.token.claim": "true",
            },
        })
    };
    let scope = |value: &str| json!({"name": "client-origin", "protocol": "openid-connect", "protocolMappers": [mapper(value)]});
    let client = |secret: &str| {
        json!({
            "clientId": "c", "secret": secret, "serviceAccountsEnabled": true,
            "protocol": "openid-connect", "publicClient": false, "bearerOnly": false,
            "defaultClientScopes": ["client-origin", "nosuch"],
        })
    };
    let iris = &world.iris;
    let set_up = async |zone: &str, secret: &str| {
        iris.ensure_realm(&json!({"realm": "r", "enabled": true}))
            .await
            .unwrap();
        iris.ensure_client_scope("r", &scope(zone), ScopeAssignment::Default)
            .await
            .unwrap();
        iris.ensure_client("r", &client(secret)).await.unwrap();
        world.store.version().await.unwrap()
    };
    let first = set_up("z1", "s").await;
    assert_eq!(set_up("z1", "s").await, first);
    let token = claims(&world.service_token("r", "c").await["access_token"]);
    assert_eq!(token["originZone"], "z1");
    // Another zone and another secret arrive; everything else of the client stays.
    let admin = world.admin().await;
    let url = world.admin_url("/r/clients?clientId=c");
    let before = admin.get(&url).await.json();
    set_up("z2", "s2").await;
    let mut after = admin.get(&url).await.json();
    after[0]["secret"] = json!("s");
    assert_eq!(after, before);
    let form = "grant_type=client_credentials&client_id=c&client_secret=s2";
    let body = world.token("r", form).await.expect(200).json();
    assert_eq!(claims(&body["access_token"])["originZone"], "z2");

    assert!(iris.jwk_set("r").await.unwrap().is_some());
    assert!(iris.jwk_set("nosuch").await.unwrap().is_none());
    let missing = iris.ensure_client("nosuch", &client("s")).await;
    assert!(matches!(missing, Err(Error::Missing(Thing::Realm))));
    let wrong = iris.ensure_realm(&json!({"realm": "q", "nosuch": 1})).await;
    assert!(matches!(wrong, Err(Error::Representation(_))));
}

#[tokio::test]
async fn the_first_administrator_can_be_a_client() {
    let settings = |secret: &str| o28m_iris::Settings {
        admin_client: Some("boot".to_owned()),
        admin_client_secret: Some(Secret::new(secret.to_owned())),
        ..o28m_iris::Settings::default()
    };
    let first = World::with(World::new_store().await, settings("first")).await;
    // A later start with another secret does not change the client that is there.
    let world = World::with(first.store.clone(), settings("second")).await;
    let form = |secret: &str| {
        format!("grant_type=client_credentials&client_id=boot&client_secret={secret}")
    };
    let _ = world.token("master", &form("second")).await.expect(401);
    let token = world
        .token("master", &form("first"))
        .await
        .expect(200)
        .json();
    let admin = world.http.bearer(token["access_token"].as_str().unwrap());
    let realm = json!({"realm": "r", "enabled": true});
    let made = admin.json("POST", &world.admin_url(""), realm).await;
    let _ = made.expect(201);
}

#[tokio::test]
async fn long_tokens_are_read() {
    let world = World::start().await;
    let long = world.http.bearer(&"x".repeat(60_000));
    let userinfo = world.protocol("master", "userinfo");
    assert_eq!(long.get(&userinfo).await.status, 401);
    let longer = world.http.bearer(&"x".repeat(70_000));
    assert_eq!(longer.get(&userinfo).await.status, 400);
}

#[tokio::test]
async fn iris_case_023_a_fixed_host_takes_the_scheme_of_the_proxy_only_when_trusted() {
    for (trusted, scheme, port) in [(true, "https", ""), (false, "http", ":LOCAL")] {
        let settings = o28m_iris::Settings::default();
        let store = World::new_store().await;
        let world = World::at_host(store, settings, Some("iris.example.com"), trusted).await;
        let proxied = world
            .http
            .with("x-forwarded-proto", "https")
            .with("x-forwarded-host", "evil.example")
            .with("x-forwarded-port", "443");
        let url = world.at("/realms/master/.well-known/openid-configuration");
        let document = proxied.get(&url).await.expect(200).json();
        let local = format!(":{}", url.split(['/', ':']).nth(4).unwrap());
        let port = port.replace(":LOCAL", &local);
        let issuer = format!("{scheme}://iris.example.com{port}/auth/realms/master");
        assert_eq!(document["issuer"], issuer);
        let endpoint = document["token_endpoint"].as_str().unwrap();
        assert!(endpoint.starts_with(&issuer), "{endpoint}");
    }
}
