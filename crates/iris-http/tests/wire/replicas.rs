//! Two identity providers on one database, and the database away.

use std::time::Duration;

use serde_json::json;

use crate::harness::{PATIENCE, World, claims, header, store};
use crate::visitor::{CALLBACK, Site, Visitor, attribute, form, parameters, text};

/// Waits until `condition` holds.
async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !condition().await {
        assert!(
            tokio::time::Instant::now() < deadline,
            "gave up waiting for {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Two replicas on a throw-away PostgreSQL; `None` where there is no server.
async fn pair() -> Option<(World, World)> {
    let url = o28m_store::testing::postgres_url().await?;
    let (one, other) = tokio::join!(store(&url), store(&url));
    Some(tokio::join!(World::on(one), World::on(other)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn iris_case_046_two_first_starts_make_one_master_realm() {
    let Some((one, other)) = pair().await else {
        return;
    };
    let admin = one.admin().await;
    let realms = admin.get(&one.admin_url("")).await.expect(200).json();
    assert_eq!(realms.as_array().unwrap().len(), 1);
    let users = admin
        .get(&one.admin_url("/master/users"))
        .await
        .expect(200)
        .json();
    assert_eq!(users.as_array().unwrap().len(), 1);
    let keys = one.http.get(&one.protocol("master", "certs")).await.json();
    assert_eq!(
        keys,
        other
            .http
            .get(&other.protocol("master", "certs"))
            .await
            .json()
    );
    let kid = |body: &serde_json::Value| header(&body["access_token"])["kid"].clone();
    assert_eq!(kid(&one.login().await), kid(&other.login().await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_see_each_others_changes() {
    let Some((one, other)) = pair().await else {
        return;
    };
    let admin = one.realm("r").await;
    let id = one.client(&admin, "r", json!({"clientId": "c"})).await;
    // By id and by name it is there at once, on either.
    let forward = async |url: &str| {
        let host = one.url.split('/').nth(2).unwrap();
        admin
            .with("host", host)
            .get(&url.replace(&one.url, &other.url))
            .await
    };
    let _ = forward(&one.admin_url(&format!("/r/clients/{id}")))
        .await
        .expect(200);
    other.service_token("r", "c").await;

    let url = one.admin_url("/r");
    let _ = admin
        .json("PUT", &url, json!({"accessTokenLifespan": 77}))
        .await
        .expect(204);
    eventually("the lifespan on the other", async || {
        other.service_token("r", "c").await["expires_in"] == 77
    })
    .await;
    let form = "grant_type=client_credentials&client_id=c&client_secret=s";
    let _ = admin
        .send("DELETE", &one.admin_url(&format!("/r/clients/{id}")), "")
        .await
        .expect(204);
    assert_eq!(one.token("r", form).await.status, 401);
    eventually("the deletion on the other", async || {
        other.token("r", form).await.status == 401
    })
    .await;

    let session = one.login().await;
    let refresh = format!(
        "grant_type=refresh_token&client_id=admin-cli&refresh_token={}",
        session["refresh_token"].as_str().unwrap()
    );
    let host = one.url.split('/').nth(2).unwrap();
    let reply = other
        .http
        .with("host", host)
        .form(&other.protocol("master", "token"), &refresh)
        .await;
    assert_eq!(
        claims(&reply.expect(200).json()["access_token"])["sid"],
        session["session_state"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cached_clients_get_tokens_while_the_database_is_away() {
    let started = tokio::task::spawn_blocking(o28m_store::testing::Server::start)
        .await
        .unwrap();
    let Some(mut server) = started else { return };
    let world = World::on(store(&server.create_database().await).await).await;
    let admin = world.realm("r").await;
    world.client(&admin, "r", json!({"clientId": "warm"})).await;
    world.client(&admin, "r", json!({"clientId": "cold"})).await;
    world.service_token("r", "warm").await;
    server.stop();
    eventually("the outage to be noticed", async || {
        let cold = "grant_type=client_credentials&client_id=cold&client_secret=s";
        let reply = world.token("r", cold).await;
        reply.status == 503 && reply.header("retry-after") == "1"
    })
    .await;
    world.service_token("r", "warm").await;
    let write = admin
        .json(
            "POST",
            &world.admin_url("/r/clients"),
            json!({"clientId": "x"}),
        )
        .await;
    let _ = write.expect(503);
    let live = world
        .http
        .get(&format!("{}/health/live", world.management))
        .await;
    let _ = live.expect(200);
    let ready = world
        .http
        .get(&format!("{}/health/ready", world.management))
        .await;
    assert_eq!(ready.expect(200).json()["checks"][2]["status"], "DOWN");
    server.restart();
    eventually("the database to be back", async || {
        let cold = "grant_type=client_credentials&client_id=cold&client_secret=s";
        world.token("r", cold).await.status == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_page_and_search_in_the_database() {
    let Some(url) = o28m_store::testing::postgres_url().await else {
        return;
    };
    let world = World::on(store(&url).await).await;
    let admin = world.realm("r").await;
    for name in ["Team--b", "team--a", "team_c", "other"] {
        world.client(&admin, "r", json!({"clientId": name})).await;
        let user = json!({"username": name, "enabled": true});
        let _ = admin
            .json("POST", &world.admin_url("/r/users"), user)
            .await
            .expect(201);
        let _ = admin
            .json("POST", &world.admin_url("/r/roles"), json!({"name": name}))
            .await
            .expect(201);
    }
    let count = async |path: &str| {
        let list = admin.get(&world.admin_url(path)).await.expect(200).json();
        list.as_array().unwrap().len()
    };
    assert_eq!(count("/r/clients?clientId=TEAM--&search=true").await, 2);
    assert_eq!(count("/r/clients?clientId=m_c&search=true").await, 1);
    assert_eq!(
        count("/r/clients?clientId=team&search=true&first=1&max=1").await,
        1
    );
    assert_eq!(count("/r/users?username=team--").await, 2);
    assert_eq!(count("/r/users?search=t&max=2").await, 2);
    assert_eq!(count("/r/users").await, 4);
    assert_eq!(count("/r/roles?search=team").await, 3);
    // Ids of containers are hexadecimal digits, which are not searched.
    assert_eq!(count("/r/roles?search=e").await, 6);
    assert_eq!(count("/r/roles?search=team&first=1&max=1").await, 1);
    let total = admin
        .get(&world.admin_url("/r/users/count"))
        .await
        .expect(200)
        .json();
    assert_eq!(total, json!(4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_begun_on_one_replica_goes_on_on_the_other() {
    let Some((one, other)) = pair().await else {
        return;
    };
    let host = one.url.split('/').nth(2).unwrap().to_owned();
    let site = Site::on(one).await;
    // Through one name, as behind a load balancer: the other replica's port, this one's host.
    let mut anna = Visitor::new(&site.world);
    anna.http = anna.http.with("host", &host);
    let move_on = |url: &str| url.replace(&site.world.url, &other.url);
    let page = anna.get(&site.auth_url("web", &[])).await.expect(200);
    let action = attribute(&text(&page), "<form", "action");
    let fields = [("username", "anna"), ("password", "secret")];
    let back = anna.post(&move_on(&action), &fields).await.expect(302);
    let code = parameters(back.header("location"))["code"].clone();
    let tokens = site.redeem("web", &code, &[]).await.expect(200).json();
    let at_other = other.http.with("host", &host);
    let refresh = form(&[
        ("grant_type", "refresh_token"),
        ("client_id", "web"),
        ("client_secret", "s"),
        ("refresh_token", tokens["refresh_token"].as_str().unwrap()),
    ]);
    let reply = at_other.form(&other.protocol("r", "token"), &refresh).await;
    let next = reply.expect(200).json();
    assert_eq!(next["session_state"], tokens["session_state"]);
    // Signed on there, and a code of there used twice here.
    let silent = move_on(&site.auth_url("web", &[("prompt", "none")]));
    let back = anna.get(&silent).await.expect(302);
    let code = parameters(back.header("location"))["code"].clone();
    let _ = site.redeem("web", &code, &[]).await.expect(200);
    let again = form(&[
        ("grant_type", "authorization_code"),
        ("client_id", "web"),
        ("client_secret", "s"),
        ("redirect_uri", CALLBACK),
        ("code", &code),
    ]);
    let reply = at_other.form(&other.protocol("r", "token"), &again).await;
    reply.refused(400, "invalid_grant", "Code not valid");
    assert!(!site.is_active(&next["access_token"]).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_join_a_login_at_once_all_stay_in_it() {
    let Some((one, _other)) = pair().await else {
        return;
    };
    let site = Site::on(one).await;
    let mut anna = Visitor::new(&site.world);
    let first = site.code(&mut anna, "app", &[]).await;
    let _ = site.redeem("app", &first, &[]).await.expect(200);
    let mut codes = Vec::new();
    for number in 0..6 {
        let name = format!("c{number}");
        site.client(json!({"clientId": name, "redirectUris": [CALLBACK]}))
            .await;
        let code = site.code(&mut anna, &name, &[]).await;
        codes.push((name, code));
    }
    let tries = codes.into_iter().map(|(name, code)| {
        let (http, url) = (site.world.http.clone(), site.world.protocol("r", "token"));
        tokio::spawn(async move {
            let fields = form(&[
                ("grant_type", "authorization_code"),
                ("client_id", &name),
                ("client_secret", "s"),
                ("redirect_uri", CALLBACK),
                ("code", &code),
            ]);
            (name, http.form(&url, &fields).await.expect(200).json())
        })
    });
    let tries: Vec<_> = tries.collect();
    for one in tries {
        let (name, tokens) = one.await.unwrap();
        let _ = site.refresh(&name, &tokens).await.expect(200);
    }
}
