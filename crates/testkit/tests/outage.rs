//! The database goes away: traffic goes on, writes are refused clearly, nothing is lost.

use std::net::SocketAddr;

use o28m_testkit::{Link, Platform, Upstream, eventually};
use serde_json::json;

/// The server's address in a `postgres://user:password@host:port/name` URL, and the URL with another.
fn through(url: &str, link: SocketAddr) -> String {
    let (before, rest) = url.split_once('@').unwrap();
    let (_, name) = rest.split_once('/').unwrap();
    format!("{before}@{link}/{name}")
}

fn server(url: &str) -> SocketAddr {
    let (_, rest) = url.split_once('@').unwrap();
    rest.split_once('/').unwrap().0.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proxy_serves_from_its_snapshot_while_the_database_is_away() {
    let Some(url) = o28m_store::testing::postgres_url().await else {
        return;
    };
    let link = Link::to(server(&url)).await;
    let platform = Platform::start_with(Some(through(&url, link.address())), &[]).await;
    let provider = Upstream::ok();
    platform
        .route("echo", &provider.url(), json!({"paths": ["/echo"]}))
        .await;
    let token = platform.rover_token().await;

    link.cut();
    let refused = eventually("writes to be refused", async || {
        let reply = platform
            .admin("PUT", "/services/late", json!({"host": "a"}))
            .await;
        (reply.status == 503).then_some(reply)
    })
    .await;
    assert_eq!(refused.header("retry-after"), "1");
    assert!(refused.json()["message"].is_string());
    for _ in 0..20 {
        let _ = platform
            .http
            .get(&platform.gateway("/echo"))
            .await
            .expect(200);
    }
    // The token is verified and the consumer found without a database; only the Admin API behind the
    // route needs it.
    let url = platform.gateway("/admin-api/consumers");
    let _ = platform.http.bearer(&token).get(&url).await.expect(503);
    let _ = platform.http.get(&url).await.expect(401);
    let ready = format!("{}/status/ready", platform.credential("STATUS_URL"));
    let _ = platform.http.get(&ready).await.expect(200);

    link.mend();
    eventually("writes to work again", async || {
        let reply = platform
            .admin("PUT", "/services/late", json!({"host": "a"}))
            .await;
        (reply.status == 200).then_some(())
    })
    .await;
    let route = json!({"paths": ["/late"]});
    platform.route("late", &provider.url(), route).await;
    let _ = platform
        .http
        .get(&platform.gateway("/late"))
        .await
        .expect(200);
    let _ = platform.rover_token().await;
}
