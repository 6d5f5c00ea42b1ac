//! Changes of the configuration while requests flow (spec gateway-proxy 14).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::Response;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxy_case_060_no_request_fails_because_routes_are_added() {
    let upstream = Upstream::ok();
    let running = Arc::new(start_for(&upstream, Setup::default()).await);
    let done = Arc::new(AtomicBool::new(false));
    let traffic = tokio::spawn({
        let (running, done) = (running.clone(), done.clone());
        async move {
            let mut count = 0;
            while !done.load(Ordering::SeqCst) {
                assert_eq!(running.get("/").await.status, 200);
                count += 1;
            }
            count
        }
    });
    for at in 0..30 {
        let name = format!("r{at}");
        let path = format!("/added/{at}");
        let added = route(&name, "s", json!({"paths": [path], "strip_path": false}));
        running.put(&[("routes", added)]).await;
        assert_eq!(running.get(&path).await.status, 200);
        let seen = upstream.take();
        assert!(seen.iter().any(|it| it.uri().path() == path), "{seen:?}");
    }
    done.store(true, Ordering::SeqCst);
    assert!(traffic.await.unwrap() > 0);
}

#[tokio::test]
async fn a_request_keeps_the_snapshot_it_began_with() {
    let (release, released) = tokio::sync::watch::channel(false);
    let (address, count) = misbehaving(move |mut stream, _| {
        let mut released = released.clone();
        async move {
            read_until(&mut stream, "\r\n\r\n").await;
            released.wait_for(|it| *it).await.unwrap();
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            stream.write_all(answer).await.unwrap();
        }
    })
    .await;
    let running = start(Setup::default()).await;
    let service = service("s", address.port(), json!({}));
    let route = route("r", "s", json!({"paths": ["/"]}));
    running
        .put(&[("services", service), ("routes", route)])
        .await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    eventually("the upstream", || count.load(Ordering::SeqCst) == 1).await;
    running.delete("routes", "r").await;
    running.delete("services", "s").await;
    assert_eq!(running.get("/").await.status, 404);
    release.send_replace(true);
    read_until(&mut stream, "\r\n\r\nok").await;
}

#[tokio::test]
async fn proxy_case_061_traffic_survives_the_database() {
    let upstream = Upstream::ok();
    let running = start_for(&upstream, Setup::default()).await;
    running.store.close().await;
    for _ in 0..3 {
        assert_eq!(running.get("/").await.status, 200);
    }
}

#[tokio::test]
async fn proxy_case_064_broken_entities_are_left_out() {
    let upstream = Upstream::ok();
    let running = start_for(&upstream, Setup::default()).await;
    let skipped = |kind: &str, count: u32| {
        let line = format!("o28m_config_skipped_entities{{kind=\"{kind}\"}} {count}\n");
        let metrics = running.metrics.render();
        assert!(metrics.contains(&line), "{line}{metrics}");
    };
    let bad = route("bad", "s", json!({"paths": ["~/("]}));
    let odd = json!({"id": id("odd"), "name": 7, "username": 7});
    let kinds = [
        "services",
        "consumers",
        "acls",
        "keyauth_credentials",
        "upstreams",
        "targets",
        "certificates",
        "snis",
        "ca_certificates",
        "vaults",
    ];
    let mut documents = vec![("routes", bad)];
    documents.extend(kinds.map(|kind| (kind, odd.clone())));
    running.put(&documents).await;
    for _ in 0..2 {
        assert_eq!(running.get("/").await.status, 200);
        for kind in kinds {
            skipped(kind, 1);
        }
        skipped("routes", 1);
        skipped("plugins", 0);
        running.gateway.load(&running.store).await.unwrap();
    }
    let good = route("bad", "s", json!({"paths": ["~/(x)"]}));
    running.put(&[("routes", good)]).await;
    skipped("routes", 0);
    running.delete("services", "odd").await;
    skipped("services", 0);
}

#[tokio::test]
async fn the_name_of_a_broken_upstream_is_not_looked_up() {
    let upstream = Upstream::ok();
    let running = start(Setup::default()).await;
    let service = service("s", upstream.address.port(), json!({"host": "localhost"}));
    let broken = json!({"id": id("u"), "name": "localhost", "slots": "many"});
    let route = route("r", "s", json!({"paths": ["/"]}));
    let documents = [
        ("services", service),
        ("routes", route),
        ("upstreams", broken),
    ];
    running.put(&documents).await;
    assert_eq!(running.get("/").await.status, 503);
    assert!(upstream.take().is_empty());
    running.delete("upstreams", "u").await;
    assert_eq!(running.get("/").await.status, 200);
}

#[tokio::test]
async fn many_changes_at_once_become_one_snapshot() {
    let upstream = Upstream::ok();
    let running = start_for(&upstream, Setup::default()).await;
    let routes: Vec<_> = (0..600)
        .map(|at| {
            (
                "routes",
                route(
                    &format!("r{at}"),
                    "s",
                    json!({"paths": [format!("/many/{at}")]}),
                ),
            )
        })
        .collect();
    running.put(&routes).await;
    assert_eq!(running.get("/many/599").await.status, 200);
    assert!(running.metrics.render().contains("o28m_config_routes 601"));
    assert_eq!(
        *running.gateway.applied().borrow(),
        running.gateway.snapshot().version()
    );
}

#[tokio::test]
async fn other_kinds_of_objects_move_the_version_only() {
    let upstream = Upstream::start(|_| Response::new(Bytes::new()));
    let running = start_for(&upstream, Setup::default()).await;
    let before = running.gateway.snapshot().version();
    running.put(&[("realm", json!({"id": id("realm")}))]).await;
    assert!(running.gateway.snapshot().version() > before);
    assert_eq!(running.get("/").await.status, 200);
}

#[tokio::test]
async fn consumers_and_groups_are_found_by_every_name() {
    let running = start(Setup::default()).await;
    let consumer = json!({"id": id("c"), "username": "shop", "custom_id": "eni--shop"});
    let acl = |name: &str, group: &str, created_at: i64| {
        let body = json!({
            "id": id(name), "group": group, "consumer": {"id": id("c")}, "created_at": created_at,
        });
        ("acls", body)
    };
    let documents = [
        ("consumers", consumer),
        acl("1", "second", 20),
        acl("2", "first", 10),
    ];
    running.put(&documents).await;
    let snapshot = running.gateway.snapshot();
    let found = snapshot.consumer_by_custom_id("eni--shop").unwrap();
    assert_eq!(found.id, id("c"));
    assert_eq!(snapshot.consumer_by_username("shop").unwrap().id, found.id);
    assert_eq!(snapshot.consumer(&found.id).unwrap().id, found.id);
    let groups: Vec<_> = snapshot
        .groups(&found.id)
        .iter()
        .map(|it| it.to_string())
        .collect();
    assert_eq!(groups, ["first", "second"]);
    running.delete("acls", "2").await;
    let snapshot = running.gateway.snapshot();
    assert_eq!(snapshot.groups(&id("c")).len(), 1);
    assert!(snapshot.consumer("nobody").is_none());
}
