//! The database goes away and comes back.

use std::net::SocketAddr;

use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::*;

/// Forwards connections to `target` while the switch is on.
async fn link(target: SocketAddr, on: watch::Receiver<bool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut on = on.clone();
            tokio::spawn(async move {
                if !*on.borrow_and_update() {
                    return;
                }
                let mut server = TcpStream::connect(target).await.unwrap();
                tokio::select! {
                    _ended = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                    _cut = on.wait_for(|on| !on) => {}
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxy_case_061_changes_wait_for_the_database_and_traffic_does_not() {
    let Some(url) = o28m_store::testing::postgres_url().await else {
        return;
    };
    let (user, rest) = url.split_once('@').unwrap();
    let (server, name) = rest.split_once('/').unwrap();
    let (switch, on) = watch::channel(true);
    let address = link(server.parse().unwrap(), on).await;
    let elsewhere = open_store(url.clone()).await;
    let upstream = Upstream::ok();
    let setup = Setup {
        store: Some(open_store(format!("{user}@{address}/{name}")).await),
        ..Setup::default()
    };
    let running = start_for(&upstream, setup).await;
    let added = |name: &str| {
        let paths = json!({"paths": [format!("/{name}")], "strip_path": false});
        upserts(&[("routes", route(name, "s", paths))])
    };
    // Another process changes the configuration.
    running
        .applied(elsewhere.write(added("first")).await.unwrap())
        .await;
    switch.send_replace(false);
    let version = elsewhere.write(added("second")).await.unwrap();
    eventually("the store to notice", || !running.store.is_reachable()).await;
    for _ in 0..5 {
        assert_eq!(running.get("/first").await.status, 200);
    }
    assert!(running.gateway.snapshot().version() < version);
    switch.send_replace(true);
    running.applied(version).await;
    upstream.take();
    running.get("/second").await;
    let request = upstream.one();
    assert_eq!(request.uri().path(), "/second");
    assert_eq!(header(&request, "x-forwarded-prefix"), None);
}
