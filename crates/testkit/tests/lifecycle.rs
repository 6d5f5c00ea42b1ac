//! Starting, stopping and losing things.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use o28m_testkit::{Database, Platform, Upstream, on_every_database};
use serde_json::json;

on_every_database! {
    async fn a_restart_keeps_everything(platform: Platform) {
        let provider = Upstream::ok();
        platform.route("echo", &provider.url(), json!({"paths": ["/echo"]})).await;
        let secret = platform.credential("ROVER_CLIENT_SECRET").to_owned();
        let before = platform.admin("GET", "/plugins", json!(null)).await.expect(200).json();
        let platform = platform.restart().await;
        assert_eq!(platform.credential("ROVER_CLIENT_SECRET"), secret);
        let _ = platform.rover_token().await;
        let _ = platform.http.get(&platform.gateway("/echo")).await.expect(200);
        let after = platform.admin("GET", "/plugins", json!(null)).await.expect(200).json();
        // The issuer's address is made from the port, which the operating system picked anew.
        let ids = |list: &serde_json::Value| -> Vec<String> {
            list["data"].as_array().unwrap().iter().map(|it| it["id"].to_string()).collect()
        };
        assert_eq!(ids(&before), ids(&after));
    }
}

on_every_database! {
    async fn ready_says_when_all_roles_are_ready(platform: Platform) {
        let url = format!("{}/status/ready", platform.credential("STATUS_URL"));
        let reply = platform.http.get(&url).await.expect(200);
        assert_eq!(reply.json(), json!({"message": "ready"}));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_platform_on_the_same_directory_is_refused() {
    let platform = Platform::start(Database::Sqlite).await.unwrap();
    let options = o28m::up::Options {
        data_dir: platform.dir.path().to_owned(),
        ports: o28m::up::Ports::Any,
        zone: "zone1".to_owned(),
        sources: Default::default(),
    };
    let error = o28m::up::start(options, o28m::ambient::system())
        .await
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("is in use by another o28m"),
        "{error}"
    );
}

/// Two gateway processes on one database: a change on one is live on the other within a second, and
/// no request of a constant load through both fails meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_reach_the_other_replica_without_a_failed_request() {
    let Some(first) = Platform::start(Database::Postgres).await else {
        return;
    };
    let second = first.replica().await;
    let provider = Upstream::ok();
    first
        .route("load", &provider.url(), json!({"paths": ["/load"]}))
        .await;
    second.applied().await;

    let stop = Arc::new(AtomicBool::new(false));
    let (sent, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut load = Vec::new();
    for platform in [&first, &second] {
        for _ in 0..4 {
            let (client, url) = (platform.http.clone(), platform.gateway("/load"));
            let (stop, sent, failed) = (stop.clone(), sent.clone(), failed.clone());
            load.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let reply = client.try_send(http::Method::GET, &url, "").await;
                    sent.fetch_add(1, Ordering::Relaxed);
                    if reply.is_err() || reply.is_ok_and(|reply| reply.status != 200) {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }));
        }
    }

    let mut slowest = Duration::ZERO;
    for round in 0..20 {
        let (name, writer, reader) = match round % 2 {
            0 => (format!("r{round}"), &first, &second),
            _ => (format!("r{round}"), &second, &first),
        };
        let service = format!("/services/{name}");
        let _ = writer
            .admin("PUT", &service, json!({"url": provider.url()}))
            .await
            .expect(200);
        let route = json!({"paths": [format!("/{name}")]});
        let _ = writer
            .admin("PUT", &format!("{service}/routes/{name}"), route)
            .await
            .expect(200);
        let written = Instant::now();
        let url = reader.gateway(&format!("/{name}"));
        o28m_testkit::eventually("the change to arrive", async || {
            (reader.http.get(&url).await.status == 200).then_some(())
        })
        .await;
        slowest = slowest.max(written.elapsed());
    }
    stop.store(true, Ordering::Relaxed);
    for task in load {
        task.await.unwrap();
    }
    assert!(
        slowest < Duration::from_secs(1),
        "slowest change took {slowest:?}"
    );
    assert!(sent.load(Ordering::Relaxed) > 100);
    assert_eq!(
        failed.load(Ordering::Relaxed),
        0,
        "of {}",
        sent.load(Ordering::Relaxed)
    );
}
