//! Several zones behind one route.

use o28m_core::Secret;
use o28m_jumper::ZoneFeed;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::harness::{Call, ISSUER_URL, Peer, World, header};

fn call(world: &World, zone: &Peer) -> Call {
    world
        .real()
        .without("realm")
        .without("environment")
        .routing(json!([
            {"remoteApiUrl": zone.url(), "apiBasePath": "/a", "realm": "sit",
             "environment": "prod", "targetZoneName": "A", "mesh": true},
            {"remoteApiUrl": world.provider.url(), "apiBasePath": "/x", "realm": "sit",
             "environment": "prod", "oauth": {"default": {"scopes": "read"}}},
        ]))
}

async fn in_zone(world: &World, zone: &Peer, call: &Call) -> Value {
    let _ = world.call(call).await.expect(200);
    let received = zone.only();
    assert!(!received.headers().contains_key("routing_config"));
    assert!(world.provider.take().is_empty());
    world.verified(&received).await
}

#[tokio::test]
async fn jumper_case_048_a_healthy_zone_gets_a_mesh_token() {
    let (world, zone) = (World::start(), Peer::ok());
    let claims = in_zone(&world, &zone, &call(&world, &zone)).await;
    assert_eq!(claims["azp"], "gateway");
    assert_eq!(claims["env"], "prod");
    // The realm of an entry is not looked at, as in the original.
    assert_eq!(claims["iss"], format!("{ISSUER_URL}/default"));
}

#[tokio::test]
async fn jumper_case_049_a_skipped_zone_means_the_provider() {
    let (world, zone) = (World::start(), Peer::ok());
    let call = call(&world, &zone).with("x-failover-skip-zone", "a");
    let received = world.forwarded(&call).await;
    let claims = world.verified(&received).await;
    assert_eq!(claims["azp"], "stargate");
    assert_eq!(claims["requestPath"], "/x/callback");
    assert_eq!(claims["scope"], "read");
    assert_eq!(header(received.headers(), "realm"), "default");
    assert_eq!(header(received.headers(), "environment"), "prod");
    assert!(zone.take().is_empty());
}

#[tokio::test]
async fn jumper_case_050_news_about_zones_count_at_once() {
    let (world, zone) = (World::start(), Peer::ok());
    let call = call(&world, &zone);
    let news = |status: &str| {
        let message = json!({"zone": "A", "status": status}).to_string();
        world.jumper.zones().apply(message.as_bytes()).unwrap();
    };
    news("UNHEALTHY");
    assert_eq!(world.claims(&call).await["azp"], "stargate");
    news("HEALTHY");
    assert_eq!(in_zone(&world, &zone, &call).await["azp"], "gateway");
}

/// A server with one channel: answers a subscriber and sends what it is told.
async fn channel(listener: &TcpListener, commands: usize, messages: &[Value]) -> TcpStream {
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut lines = BufReader::new(&mut socket);
    let mut asked = Vec::new();
    while asked.len() < commands {
        let mut line = String::new();
        lines.read_line(&mut line).await.unwrap();
        let items: usize = line.trim().trim_start_matches('*').parse().unwrap();
        let mut command = Vec::new();
        for _ in 0..items {
            let mut item = String::new();
            lines.read_line(&mut item).await.unwrap();
            item.clear();
            lines.read_line(&mut item).await.unwrap();
            command.push(item.trim().to_owned());
        }
        lines.get_mut().write_all(b"+OK\r\n").await.unwrap();
        asked.push(command.join(" "));
    }
    let expected = ["AUTH geheim", "SELECT 2", "SUBSCRIBE stargate-zone-status"];
    assert_eq!(asked, expected);
    for message in messages {
        let text = message.to_string();
        let length = text.len();
        let reply = format!(
            "*3\r\n$7\r\nmessage\r\n$20\r\nstargate-zone-status\r\n${length}\r\n{text}\r\n"
        );
        socket.write_all(reply.as_bytes()).await.unwrap();
    }
    socket
}

#[tokio::test]
async fn zones_are_heard_of_through_a_channel() {
    let (world, zone) = (World::start(), Peer::ok());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let feed = ZoneFeed {
        host: "127.0.0.1".to_owned(),
        port: listener.local_addr().unwrap().port(),
        password: Some(Secret::new("geheim".to_owned())),
        ..ZoneFeed::default()
    };
    let stop = CancellationToken::new();
    let jumper = world.jumper.clone();
    let following = tokio::spawn({
        let stop = stop.clone();
        async move { jumper.follow_zones(feed, stop).await }
    });
    let news = [
        json!("nonsense"),
        json!({"status": "UNHEALTHY"}),
        json!({"zone": "A", "status": "UNHEALTHY", "more": 1}),
    ];
    let _socket = channel(&listener, 3, &news).await;
    while world.metric("zone_health_status") != "0" {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.metric("zone_health_redis_connection"), "1");
    let call = call(&world, &zone);
    assert_eq!(world.claims(&call).await["azp"], "stargate");
    stop.cancel();
    following.await.unwrap();
    assert_eq!(world.metric("zone_health_redis_connection"), "0");
}

#[tokio::test]
async fn jumper_case_052_no_zone_is_left() {
    let world = World::start_with(|settings| settings.zones_healthy_by_default = false);
    let call = world.real().routing(json!([
        {"remoteApiUrl": "http://a", "targetZoneName": "A"},
        {"remoteApiUrl": "http://b", "targetZoneName": "B"},
    ]));
    let reply = world.call(&call).await.expect(503);
    assert_eq!(reply.message(), "Non of defined failover zones available");
}

#[tokio::test]
async fn an_entry_needs_a_target() {
    let world = World::start();
    let call = world.real().routing(json!([{"targetZoneName": ""}]));
    let reply = world.call(&call).await.expect(500);
    assert_eq!(
        reply.message(),
        "missing routing information jc.remoteApiUrl / jc.loadBalancing"
    );
}
