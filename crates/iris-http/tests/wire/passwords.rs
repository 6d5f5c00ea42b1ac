//! Password policies, imported hashes and brute force protection.

use serde_json::{Value, json};

use crate::harness::{Client, World};

const FORM: &str = "grant_type=password&client_id=c&client_secret=s&username=u&password=";

async fn world_with(policy: Value) -> (World, Client, String) {
    let world = World::start().await;
    let admin = world.realm("r").await;
    let _ = admin
        .json("PUT", &world.admin_url("/r"), policy)
        .await
        .expect(204);
    let client = json!({"clientId": "c", "directAccessGrantsEnabled": true});
    let _ = world.client(&admin, "r", client).await;
    let user = json!({"username": "u", "email": "u@example.com", "enabled": true});
    let url = world.admin_url("/r/users");
    let user = admin.json("POST", &url, user).await.expect(201).id();
    (world, admin, user)
}

async fn login(world: &World, password: &str) -> u16 {
    let reply = world.token("r", &format!("{FORM}{password}")).await;
    reply.status.as_u16()
}

#[tokio::test]
async fn iris_case_043_passwords_follow_the_policy() {
    let policy = "length(8) and digits(1) and notUsername(undefined) and passwordHistory(2)";
    let (world, admin, user) = world_with(json!({"passwordPolicy": policy})).await;
    let reset = world.admin_url(&format!("/r/users/{user}/reset-password"));
    let set = async |value: &str| {
        let body = json!({"type": "password", "value": value, "temporary": false});
        admin.json("PUT", &reset, body).await
    };
    let text = "Invalid password: minimum length 8.";
    set("a1")
        .await
        .refused(400, "invalidPasswordMinLengthMessage", text);
    let text = "Invalid password: must contain at least 1 numerical digits.";
    set("abcdefgh")
        .await
        .refused(400, "invalidPasswordMinDigitsMessage", text);
    let _ = set("abcdefg1").await.expect(204);
    let _ = set("abcdefg2").await.expect(204);
    let text = "Invalid password: must not be equal to any of last 2 passwords.";
    for used in ["abcdefg1", "abcdefg2"] {
        set(used)
            .await
            .refused(400, "invalidPasswordHistoryMessage", text);
    }
    let _ = set("abcdefg3").await.expect(204);
    let _ = set("abcdefg1").await.expect(204);
    assert_eq!(login(&world, "abcdefg1").await, 200);
    let body = json!({"username": "v", "credentials": [{"type": "password", "value": "x"}]});
    let refused = admin.json("POST", &world.admin_url("/r/users"), body).await;
    refused.message(400, "Password policy not met");
    let bad = json!({"passwordPolicy": "nosuch(1)"});
    let bad = admin.json("PUT", &world.admin_url("/r"), bad).await;
    bad.message(400, "Password policy nosuch is not supported");
}

#[tokio::test]
async fn an_old_password_must_be_changed_first() {
    let policy = json!({"passwordPolicy": "forceExpiredPasswordChange(1)"});
    let (world, admin, user) = world_with(policy).await;
    let reset = world.admin_url(&format!("/r/users/{user}/reset-password"));
    let body = json!({"type": "password", "value": "pw"});
    let _ = admin.json("PUT", &reset, body).await.expect(204);
    assert_eq!(login(&world, "pw").await, 200);
    world.clock.advance(86_402);
    let late = world.token("r", &format!("{FORM}pw")).await;
    late.refused(400, "invalid_grant", "Account is not fully set up");
    let admin = world.admin().await;
    let found = admin
        .get(&world.admin_url(&format!("/r/users/{user}")))
        .await
        .json();
    assert_eq!(found["requiredActions"], json!(["UPDATE_PASSWORD"]));
}

#[tokio::test]
async fn imported_hashes_are_verified_and_made_anew() {
    let (world, admin, _) = world_with(json!({})).await;
    // PBKDF2-HMAC-SHA256, "password", "saltsaltsaltsalt", 1000 rounds, 64 bytes.
    let mut hash = [0_u8; 64];
    aws_lc_rs::pbkdf2::derive(
        aws_lc_rs::pbkdf2::PBKDF2_HMAC_SHA256,
        std::num::NonZeroU32::new(1000).unwrap(),
        b"saltsaltsaltsalt",
        b"password",
        &mut hash,
    );
    let secret = json!({
        "value": o28m_jose::base64std(&hash), "salt": o28m_jose::base64std(b"saltsaltsaltsalt"),
        "additionalParameters": {},
    });
    let data =
        json!({"hashIterations": 1000, "algorithm": "pbkdf2-sha256", "additionalParameters": {}});
    let body = json!({
        "username": "old", "enabled": true,
        "credentials": [{
            "type": "password", "createdDate": 5, "credentialData": data.to_string(),
            "secretData": secret.to_string(),
        }],
    });
    let id = admin
        .json("POST", &world.admin_url("/r/users"), body)
        .await
        .expect(201)
        .id();
    let credentials = world.admin_url(&format!("/r/users/{id}/credentials"));
    let algorithm = async || {
        let all = admin.get(&credentials).await.json();
        let data: Value = serde_json::from_str(all[0]["credentialData"].as_str().unwrap()).unwrap();
        data["algorithm"].as_str().unwrap().to_owned()
    };
    assert_eq!(algorithm().await, "pbkdf2-sha256");
    let form = "grant_type=password&client_id=c&client_secret=s&username=old&password=";
    let wrong = world.token("r", &format!("{form}wrong")).await;
    wrong.refused(401, "invalid_grant", "Invalid user credentials");
    let _ = world
        .token("r", &format!("{form}password"))
        .await
        .expect(200);
    assert_eq!(algorithm().await, "argon2");
    let _ = world
        .token("r", &format!("{form}password"))
        .await
        .expect(200);
    // A policy that asks for another hash is followed at the next login.
    let policy = json!({"passwordPolicy": "hashAlgorithm(pbkdf2-sha512) and hashIterations(10)"});
    let _ = admin
        .json("PUT", &world.admin_url("/r"), policy)
        .await
        .expect(204);
    let _ = world
        .token("r", &format!("{form}password"))
        .await
        .expect(200);
    assert_eq!(algorithm().await, "pbkdf2-sha512");
    let _ = world
        .token("r", &format!("{form}password"))
        .await
        .expect(200);
}

#[tokio::test]
async fn brute_force_locks_for_a_time_that_grows() {
    let settings = json!({
        "bruteForceProtected": true, "failureFactor": 2, "waitIncrementSeconds": 60,
        "maxFailureWaitSeconds": 900, "quickLoginCheckMilliSeconds": 0,
    });
    let (world, admin, user) = world_with(settings).await;
    let reset = world.admin_url(&format!("/r/users/{user}/reset-password"));
    let body = json!({"type": "password", "value": "right"});
    let _ = admin.json("PUT", &reset, body).await.expect(204);
    let status = async || {
        let url = world.admin_url(&format!("/r/attack-detection/brute-force/users/{user}"));
        world.admin().await.get(&url).await.expect(200).json()
    };
    assert_eq!(status().await["numFailures"], 0);
    assert_eq!(login(&world, "wrong").await, 401);
    world.clock.advance(2);
    assert_eq!(login(&world, "wrong").await, 401);
    let locked = status().await;
    assert_eq!(
        (
            &locked["numFailures"],
            &locked["disabled"],
            &locked["lastIPFailure"]
        ),
        (&json!(2), &json!(true), &json!("127.0.0.1"))
    );
    // The right password is refused in the same words.
    let refused = world.token("r", &format!("{FORM}right")).await;
    refused.refused(401, "invalid_grant", "Invalid user credentials");
    world.clock.advance(61);
    assert_eq!(login(&world, "wrong").await, 401);
    assert_eq!(status().await["numFailures"], 3);
    world.clock.advance(61);
    assert_eq!(login(&world, "wrong").await, 401);
    // Four failures are twice the factor: the wait has doubled.
    world.clock.advance(61);
    assert_eq!(login(&world, "right").await, 401);
    world.clock.advance(60);
    assert_eq!(login(&world, "right").await, 200);
    assert_eq!(status().await["numFailures"], 0);
}

#[tokio::test]
async fn failures_faster_than_people_type_lock_at_once() {
    let settings = json!({"bruteForceProtected": true, "minimumQuickLoginWaitSeconds": 30});
    let (world, admin, user) = world_with(settings).await;
    let reset = world.admin_url(&format!("/r/users/{user}/reset-password"));
    let body = json!({"type": "password", "value": "right"});
    let _ = admin.json("PUT", &reset, body).await.expect(204);
    assert_eq!(login(&world, "wrong").await, 401);
    assert_eq!(login(&world, "wrong").await, 401);
    assert_eq!(login(&world, "right").await, 401);
    let one = world.admin_url(&format!("/r/attack-detection/brute-force/users/{user}"));
    let _ = admin.send("DELETE", &one, "").await.expect(204);
    assert_eq!(login(&world, "right").await, 200);
}

#[tokio::test]
async fn a_permanent_lock_disables_the_user() {
    let settings = json!({
        "bruteForceProtected": true, "permanentLockout": true, "failureFactor": 2,
        "quickLoginCheckMilliSeconds": 0,
    });
    let (world, admin, user) = world_with(settings).await;
    let reset = world.admin_url(&format!("/r/users/{user}/reset-password"));
    let body = json!({"type": "password", "value": "right"});
    let _ = admin.json("PUT", &reset, body).await.expect(204);
    for _ in 0..2 {
        assert_eq!(login(&world, "wrong").await, 401);
    }
    let one = world.admin_url(&format!("/r/users/{user}"));
    assert_eq!(admin.get(&one).await.json()["enabled"], false);
    let refused = world.token("r", &format!("{FORM}right")).await;
    refused.refused(400, "invalid_grant", "Account disabled");
    let all = world.admin_url("/r/attack-detection/brute-force/users");
    let _ = admin.send("DELETE", &all, "").await.expect(204);
    let _ = admin
        .json("PUT", &one, json!({"enabled": true}))
        .await
        .expect(204);
    assert_eq!(login(&world, "right").await, 200);
}

#[tokio::test]
async fn guessing_at_the_same_time_counts_every_guess() {
    let settings = json!({
        "bruteForceProtected": true, "failureFactor": 30, "quickLoginCheckMilliSeconds": 0,
    });
    let (world, admin, user) = world_with(settings).await;
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (http, url) = (world.http.clone(), world.protocol("r", "token"));
        all.spawn(async move { http.form(&url, &format!("{FORM}wrong")).await.status });
    }
    while let Some(status) = all.join_next().await {
        assert_eq!(status.unwrap().as_u16(), 401);
    }
    let url = world.admin_url(&format!("/r/attack-detection/brute-force/users/{user}"));
    assert_eq!(admin.get(&url).await.json()["numFailures"], 8);
}
