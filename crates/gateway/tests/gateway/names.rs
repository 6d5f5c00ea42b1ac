//! Names of services and of targets, with a name server in the test process (spec gateway-proxy 10.6).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use o28m_gateway::{Resolution, Settings, UpstreamHealth};
use o28m_net::dns::testing::{Data, Mood, NameServer};
use o28m_net::dns::{Resolver, Settings as Dns};
use o28m_net::server::Listener;
use serde_json::{Value, json};

use crate::balancing::stored;
use crate::support::*;

/// A gateway that asks the server, in the search domain `ns.test`.
async fn asking(server: &NameServer) -> Running {
    let directory = tempfile::tempdir().unwrap();
    let resolv_conf = directory.path().join("resolv.conf");
    let text = "search ns.test\noptions ndots:2 timeout:1 attempts:1";
    std::fs::write(&resolv_conf, text).unwrap();
    let resolver = Resolver::new(Dns {
        servers: vec![server.address],
        hosts_file: None,
        resolv_conf: Some(resolv_conf),
        ..Dns::default()
    });
    let running = start(Setup {
        settings: Settings {
            resolver: Some(resolver.clone()),
            ..Settings::default()
        },
        ..Setup::default()
    })
    .await;
    // Read once, so that the directory may go.
    let _found = resolver.find(&Arc::from("warm.up.test.")).await;
    let _asked = server.take();
    running
}

/// Upstreams that tell their address, at the same port.
fn servers(addresses: &[[u8; 4]]) -> (u16, Vec<Upstream>) {
    'port: loop {
        let mut listeners = Vec::new();
        let mut port = 0;
        for address in addresses {
            let ip = IpAddr::from(*address);
            let Ok(listener) = Listener::bind("upstream", (ip, port).into()) else {
                continue 'port;
            };
            port = listener.address().port();
            listeners.push((listener, ip.to_string()));
        }
        let serve = |(listener, text): (Listener, String)| {
            Upstream::serve(listener, move |_| {
                Response::new(Bytes::from(text.clone().into_bytes()))
            })
        };
        return (port, listeners.into_iter().map(serve).collect());
    }
}

async fn put_service(running: &Running, host: &str, port: u16) {
    let service = service("s", port, json!({"host": host}));
    let route = route("r", "s", json!({"paths": ["/"]}));
    running
        .put(&[("services", service), ("routes", route)])
        .await;
}

async fn put_upstream(running: &Running, changes: Value, target: &str) {
    let mut up = json!({"id": id("up"), "name": "up.example"});
    for (key, value) in changes.as_object().unwrap() {
        up[key] = value.clone();
    }
    let target =
        json!({"id": id("t"), "target": target, "weight": 10, "upstream": {"id": id("up")}});
    put_service(running, "up.example", 80).await;
    running
        .put(&[
            ("upstreams", stored("upstreams", up)),
            ("targets", stored("targets", target)),
        ])
        .await;
}

fn health(running: &Running) -> UpstreamHealth {
    running.gateway.health_of(&id("up")).unwrap()
}

fn addresses(running: &Running) -> Vec<String> {
    let health = health(running);
    let addresses = health.targets[0].addresses.iter();
    addresses
        .map(|it| format!("{}:{} {}", it.ip, it.port, it.weight))
        .collect()
}

#[tokio::test]
async fn proxy_case_039_no_such_name_is_503_and_no_answer_is_500() {
    let server = NameServer::start().await.unwrap();
    let running = asking(&server).await;
    server.set("empty.example.test", 60, &[]);
    for host in ["none.example.test", "empty.example.test", "none.invalid"] {
        put_service(&running, host, 80).await;
        let reply = running.get("/").await;
        assert_eq!(reply.status, 503, "{host}");
        assert_eq!(reply.json()["message"], "name resolution failed");
        assert_eq!(reply.header("x-kong-upstream-latency"), None);
    }
    let begins = "failed the initial dns/balancer resolve for";
    server.behave(Mood::Failing);
    put_service(&running, "one.example.test", 80).await;
    let reply = running.get("/").await;
    assert_eq!(reply.status, 500, "{reply:?}");
    let message = format!("{begins} 'one.example.test' with: dns server error: 2 server failure");
    assert_eq!(reply.json()["message"], message);
    server.behave(Mood::Silent);
    put_service(&running, "two.example.test", 80).await;
    let reply = running.get("/").await;
    assert_eq!(reply.status, 500, "{reply:?}");
    let reason = format!(
        "failed to receive reply from UDP server {}: timeout",
        server.address
    );
    let message = format!("{begins} 'two.example.test' with: {reason}");
    assert_eq!(reply.json()["message"], message);
}

#[tokio::test]
async fn targets_follow_their_names_and_keep_their_addresses_through_an_outage() {
    let (port, _upstreams) = servers(&[[127, 0, 0, 1], [127, 0, 0, 2], [127, 0, 0, 3]]);
    let server = NameServer::start().await.unwrap();
    server.set_addresses("pods.ns.test", 1, &["127.0.0.2", "127.0.0.1", "::1"]);
    let running = asking(&server).await;
    put_upstream(&running, json!({}), &format!("pods:{port}")).await;
    assert_eq!(running.get("/").await.status, 200);
    let expected = [
        format!("127.0.0.1:{port} 10"),
        format!("127.0.0.2:{port} 10"),
    ];
    assert_eq!(
        addresses(&running),
        expected,
        "of the preferred family, in order"
    );
    assert_eq!(health(&running).targets[0].resolution, Resolution::A);
    let mut seen = BTreeSet::new();
    for _ in 0..4 {
        seen.insert(running.get("/").await.body);
    }
    assert_eq!(seen.len(), 2);
    server.set_addresses("pods.ns.test", 1, &["127.0.0.3"]);
    let moved = [format!("127.0.0.3:{port} 10")];
    eventually("the new address", || addresses(&running) == moved).await;
    assert_eq!(running.get("/").await.body, "127.0.0.3");
    server.behave(Mood::Failing);
    assert!(!server.take().is_empty());
    // Asked in vain, more than once.
    let mut asked = 0;
    eventually("questions", || {
        asked += server.take().len();
        asked > 4
    })
    .await;
    assert_eq!(addresses(&running), moved);
    assert_eq!(running.get("/").await.body, "127.0.0.3");
    assert!(running.metrics.render().contains("o28m_dns_stale_total "));
    server.behave(Mood::Well);
    server.remove("pods.ns.test");
    eventually("nobody", || addresses(&running).is_empty()).await;
    let reply = running.get("/").await;
    assert_eq!(reply.status, 503);
    assert_eq!(
        reply.json()["message"],
        "failure to get a peer from the ring-balancer"
    );
}

#[tokio::test]
async fn a_name_that_nobody_can_tell_has_no_addresses() {
    let server = NameServer::start().await.unwrap();
    let running = asking(&server).await;
    put_upstream(&running, json!({}), "none.example.test:80").await;
    assert_eq!(running.get("/").await.status, 503);
    let target = health(&running).targets.remove(0);
    assert!(target.addresses.is_empty());
    let Resolution::None(Some(failure)) = target.resolution else {
        panic!("{:?}", target.resolution)
    };
    assert_eq!(failure.to_string(), "dns server error: 3 name error");
    assert!(!health(&running).healthy);
}

#[tokio::test]
async fn services_of_targets_bring_weights_and_ports_and_their_names_where_told_so() {
    let (one, _first) = servers(&[[127, 0, 0, 1]]);
    let (two, second) = servers(&[[127, 0, 0, 2]]);
    let server = NameServer::start().await.unwrap();
    server.set_addresses("one.example.test", 60, &["127.0.0.1"]);
    server.set_addresses("two.example.test", 60, &["127.0.0.2"]);
    let of = |priority, weight, port, target: &str| {
        Data::Service(priority, weight, port, target.to_owned())
    };
    let records = [
        of(5, 1, one, "one.example.test"),
        of(5, 3, two, "two.example.test"),
        of(6, 90, 9, "one.example.test"),
    ];
    server.set("_web._tcp.example.test", 60, &records);
    let running = asking(&server).await;
    put_upstream(&running, json!({}), "_web._tcp.example.test:1").await;
    let mut bodies = Vec::new();
    for _ in 0..8 {
        bodies.push(running.get("/").await.body);
    }
    let of_one = bodies.iter().filter(|it| *it == "127.0.0.1").count();
    assert_eq!(of_one, 2, "{bodies:?} {:?}", addresses(&running));
    let expected = [format!("127.0.0.1:{one} 1"), format!("127.0.0.2:{two} 3")];
    assert_eq!(addresses(&running), expected);
    assert_eq!(health(&running).targets[0].resolution, Resolution::Srv);
    let host = |name: &str| Some(format!("{name}:{two}"));
    assert_eq!(
        header(&second[0].take()[0], "host"),
        host("_web._tcp.example.test")
    );
    put_upstream(
        &running,
        json!({"use_srv_name": true}),
        "_web._tcp.example.test:1",
    )
    .await;
    for _ in 0..4 {
        assert_eq!(running.get("/").await.status, 200);
    }
    assert_eq!(
        header(&second[0].take()[0], "host"),
        host("two.example.test")
    );
    let own = json!({"use_srv_name": true, "host_header": "own.example"});
    put_upstream(&running, own, "_web._tcp.example.test:1").await;
    for _ in 0..4 {
        assert_eq!(running.get("/").await.status, 200);
    }
    assert_eq!(header(&second[0].take()[0], "host"), host("own.example"));
    // As a service's host, without an upstream.
    put_service(&running, "_web._tcp.example.test", 80).await;
    let mut seen = BTreeSet::new();
    for _ in 0..4 {
        seen.insert(running.get("/").await.body);
    }
    assert_eq!(seen.len(), 2);
}
