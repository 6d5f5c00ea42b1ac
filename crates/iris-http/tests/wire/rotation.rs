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

#[tokio::test]
async fn iris_case_041_and_042_rotated_secrets_live_a_while() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    configure(&world, &admin).await;
    let attributes = json!({"controlplane.secret-rotation": "true"});
    let id = world
        .client(
            &admin,
            "r",
            json!({"clientId": "c", "attributes": attributes}),
        )
        .await;
    world.client(&admin, "r", json!({"clientId": "free"})).await;
    let client = world.admin_url(&format!("/r/clients/{id}"));
    let secret = format!("{client}/client-secret");
    let number = |client: &Value, name: &str| -> i64 {
        client["attributes"][name]
            .as_str()
            .unwrap()
            .parse()
            .unwrap()
    };
    let created = admin.get(&client).await.json();
    let expires = number(&created, "client.secret.expiration.time");
    assert_eq!(
        expires - number(&created, "client.secret.creation.time"),
        1000
    );

    // The control plane's sequence: forget, force, read, put its own.
    let _ = admin
        .send("DELETE", &format!("{secret}/rotated"), "")
        .await
        .expect(204);
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
    let status = async |client: &str, secret: &str| {
        let form =
            format!("grant_type=client_credentials&client_id={client}&client_secret={secret}");
        world.token("r", &form).await.status.as_u16()
    };
    assert_eq!(
        (status("c", "s2").await, status("c", "s").await),
        (200, 200)
    );
    assert_eq!(status("c", random.as_str().unwrap()).await, 401);
    let shown = admin
        .get(&format!("{secret}/rotated"))
        .await
        .expect(200)
        .json();
    assert_eq!(shown, json!({"type": "secret", "value": "s"}));

    world.clock.advance(101);
    let admin = world.admin().await;
    assert_eq!(
        (status("c", "s").await, status("c", "s2").await),
        (401, 200)
    );
    let _ = admin
        .send("DELETE", &format!("{secret}/rotated"), "")
        .await
        .expect(204);
    let gone = admin.get(&format!("{secret}/rotated")).await;
    gone.prose(404, "Client does not have a rotated secret");

    world.clock.advance(900);
    let admin = world.admin().await;
    assert_eq!(
        (status("c", "s2").await, status("free", "s").await),
        (401, 200)
    );
    // Leaving the policy clears what the rotation left, and the secret counts again.
    let leave = json!({"attributes": {"controlplane.secret-rotation": ""}});
    let _ = admin.json("PUT", &client, leave).await.expect(204);
    let left = admin.get(&client).await.json();
    assert!(
        left["attributes"]
            .get("client.secret.expiration.time")
            .is_none()
    );
    assert_eq!(status("c", "s2").await, 200);
}
