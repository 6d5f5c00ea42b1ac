//! Client policies and rotation of client secrets.

use serde_json::{Value, json};

use crate::harness::{Client, World};

fn profiles(expiration: i64, rotated: i64, remaining: i64) -> Value {
    json!({"profiles": [{
        "name": "controlplane-secret-rotation", "description": "d",
        "executors": [{"executor": "secret-rotation", "configuration": {
            "expiration-period": expiration, "rotated-expiration-period": rotated,
            "remaining-rotation-period": remaining,
        }}],
    }]})
}

fn policies(profile: &str) -> Value {
    json!({"policies": [{
        "name": "controlplane-secret-rotation-policy", "description": "d", "enabled": true,
        "conditions": [{"condition": "client-attributes", "configuration": {
            "is.negative.logic": false,
            "attributes": "[{\"key\":\"controlplane.secret-rotation\",\"value\":\"true\"}]",
        }}],
        "profiles": [profile],
    }]})
}

async fn configure(world: &World, admin: &Client) {
    let url = world.admin_url("/r/client-policies");
    let _ = admin
        .json("PUT", &format!("{url}/profiles"), profiles(1000, 100, 50))
        .await
        .expect(204);
    let body = policies("controlplane-secret-rotation");
    let _ = admin
        .json("PUT", &format!("{url}/policies"), body)
        .await
        .expect(204);
}

#[tokio::test]
async fn iris_case_040_profiles_and_policies_round_trip() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    let url = world.admin_url("/r/client-policies");
    assert_eq!(
        admin
            .get(&format!("{url}/profiles"))
            .await
            .expect(200)
            .json(),
        json!({"profiles": []})
    );
    assert_eq!(
        admin
            .get(&format!("{url}/policies"))
            .await
            .expect(200)
            .json(),
        json!({"policies": []})
    );
    configure(&world, &admin).await;
    assert_eq!(
        admin.get(&format!("{url}/profiles")).await.json(),
        profiles(1000, 100, 50)
    );
    assert_eq!(
        admin.get(&format!("{url}/policies")).await.json(),
        policies("controlplane-secret-rotation")
    );
    let missing = policies("nosuch");
    let text = "Policy controlplane-secret-rotation-policy contains invalid profile nosuch";
    admin
        .json("PUT", &format!("{url}/policies"), missing)
        .await
        .message(400, text);
    let mut global = profiles(1000, 100, 50);
    global["globalProfiles"] = json!([{"name": "mine"}]);
    let _ = admin
        .json("PUT", &format!("{url}/profiles"), global)
        .await
        .expect(400);
    for wrong in [
        profiles(100, 200, 50),
        profiles(0, 0, 0),
        profiles(100, 50, 200),
    ] {
        let _ = admin
            .json("PUT", &format!("{url}/profiles"), wrong)
            .await
            .expect(400);
    }
    let with_global = admin
        .get(&format!("{url}/profiles?include-global-profiles=true"))
        .await
        .json();
    assert_eq!(with_global["globalProfiles"], json!([]));
}

/// Client `c` under the policy and client `free` outside of it; gives the URL of `c`.
async fn rotating(world: &World, admin: &Client) -> String {
    configure(world, admin).await;
    let attributes = json!({"controlplane.secret-rotation": "true"});
    let body = json!({"clientId": "c", "attributes": attributes});
    let id = world.client(admin, "r", body).await;
    world.client(admin, "r", json!({"clientId": "free"})).await;
    world.admin_url(&format!("/r/clients/{id}"))
}

/// Status of a token request.
async fn status(world: &World, client: &str, secret: &str) -> u16 {
    let form = format!("grant_type=client_credentials&client_id={client}&client_secret={secret}");
    world.token("r", &form).await.status.as_u16()
}

fn number(client: &Value, name: &str) -> i64 {
    let text = client["attributes"][name].as_str();
    text.unwrap().parse().unwrap()
}

#[tokio::test]
async fn iris_case_041_a_rotated_secret_lives_a_while() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    let client = rotating(&world, &admin).await;
    let secret = format!("{client}/client-secret");
    let created = admin.get(&client).await.json();
    let expires = number(&created, "client.secret.expiration.time");
    assert_eq!(
        expires - number(&created, "client.secret.creation.time"),
        1000
    );

    // The control plane's sequence: forget, force, read, put its own.
    let rotated_url = format!("{secret}/rotated");
    let _ = admin.send("DELETE", &rotated_url, "").await.expect(204);
    let random = admin.send("POST", &secret, "").await.expect(200).json()["value"].clone();
    let mut rotated = admin.get(&client).await.json();
    assert_eq!(rotated["attributes"]["client.secret.rotated"], "s");
    let until = number(&rotated, "client.secret.rotated.expiration.time");
    assert_eq!(
        until - number(&rotated, "client.secret.rotated.creation.time"),
        100
    );
    rotated["secret"] = json!("s2");
    let _ = admin.json("PUT", &client, rotated).await.expect(204);
    for (secret, expected) in [("s2", 200), ("s", 200), (random.as_str().unwrap(), 401)] {
        assert_eq!(status(&world, "c", secret).await, expected, "{secret}");
    }
    let shown = admin.get(&rotated_url).await.expect(200).json();
    assert_eq!(shown, json!({"type": "secret", "value": "s"}));

    world.clock.advance(101);
    let admin = world.admin().await;
    for (secret, expected) in [("s2", 200), ("s", 401)] {
        assert_eq!(status(&world, "c", secret).await, expected, "{secret}");
    }
    // Forgotten before its time, it is refused at once.
    let _ = admin.send("POST", &secret, "").await.expect(200);
    let mut again = admin.get(&client).await.json();
    again["secret"] = json!("s3");
    let _ = admin.json("PUT", &client, again).await.expect(204);
    assert_eq!(status(&world, "c", "s2").await, 200);
    let _ = admin.send("DELETE", &rotated_url, "").await.expect(204);
    for (secret, expected) in [("s3", 200), ("s2", 401)] {
        assert_eq!(status(&world, "c", secret).await, expected, "{secret}");
    }
    let gone = admin.get(&rotated_url).await;
    gone.prose(404, "Client does not have a rotated secret");
}

#[tokio::test]
async fn iris_case_042_an_expired_secret_locks_out_until_the_policy_is_left() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    let client = rotating(&world, &admin).await;
    // A rotated secret of long life ends with the secret in its place all the same.
    let _ = admin
        .send("POST", &format!("{client}/client-secret"), "")
        .await
        .expect(200);
    let mut rotated = admin.get(&client).await.json();
    rotated["secret"] = json!("s2");
    let far = number(&rotated, "client.secret.expiration.time") + 5000;
    rotated["attributes"]["client.secret.rotated.expiration.time"] = json!(far.to_string());
    let _ = admin.json("PUT", &client, rotated).await.expect(204);
    for secret in ["s", "s2"] {
        assert_eq!(status(&world, "c", secret).await, 200, "{secret}");
    }
    world.clock.advance(1001);
    let admin = world.admin().await;
    for secret in ["s", "s2"] {
        assert_eq!(status(&world, "c", secret).await, 401, "{secret}");
    }
    assert_eq!(status(&world, "free", "s").await, 200);
    // Leaving the policy clears what the rotation left, and the secret counts again.
    let leave = json!({"attributes": {"controlplane.secret-rotation": ""}});
    let _ = admin.json("PUT", &client, leave).await.expect(204);
    let left = admin.get(&client).await.json();
    for name in ["expiration.time", "rotated", "rotated.expiration.time"] {
        let name = format!("client.secret.{name}");
        assert!(left["attributes"].get(&name).is_none(), "{name}");
    }
    let current = left["secret"].as_str().unwrap();
    assert_eq!(status(&world, "c", current).await, 200);
}
