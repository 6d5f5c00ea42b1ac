//! Services behind an upstream: choice of targets and health (spec gateway-proxy 10 and 11).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use bytes::Bytes;
use http::Response;
use o28m_gateway::{
    Access, BadConfig, Exchange, LocalEngine, Plugin, PluginKind, TARGET_HEALTH, Verdict,
};
use o28m_kong::{Context, entity};
use o28m_net::Body;
use serde_json::{Value, json};

use crate::support::*;

/// A document as the Admin API would store it.
pub(crate) fn stored(kind: &str, body: Value) -> Value {
    let Value::Object(body) = body else {
        panic!("not an object")
    };
    let context = Context {
        ambient: &ambient(),
        enabled_plugins: &[],
    };
    let document = entity(kind).unwrap().insert(body, &context);
    Value::Object(document.unwrap_or_else(|error| panic!("{}", error.message())))
}

/// Upstream `up` at the host `up.example`.
fn upstream(changes: Value) -> Value {
    let mut body = json!({"id": id("up"), "name": "up.example"});
    for (key, value) in changes.as_object().unwrap() {
        body[key] = value.clone();
    }
    stored("upstreams", body)
}

fn target(address: &str, weight: u32) -> (&'static str, Value) {
    let body = json!({
        "id": id(address), "target": address, "weight": weight, "upstream": {"id": id("up")},
    });
    ("targets", stored("targets", body))
}

/// Passive checks as the control plane's circuit breaker has them.
fn breaker() -> Value {
    json!({"healthchecks": {"passive": {
        "healthy": {"successes": 30},
        "unhealthy": {"http_failures": 10, "tcp_failures": 10, "timeouts": 10},
    }}})
}

/// A gateway whose only service is behind the upstream.
async fn balanced(setup: Setup, up: Value, targets: &[(&'static str, Value)]) -> Running {
    let running = start(setup).await;
    let service = service("s", 80, json!({"host": "up.example"}));
    let route = route("r", "s", json!({"paths": ["/"]}));
    let mut documents = vec![("services", service), ("routes", route), ("upstreams", up)];
    documents.extend(targets.iter().cloned());
    running.put(&documents).await;
    running
}

/// An upstream that tells its name.
fn named(name: &'static str) -> Upstream {
    Upstream::start(move |_| Response::new(Bytes::from_static(name.as_bytes())))
}

/// An upstream that answers with this status.
fn scripted(status: &Arc<AtomicU16>) -> Upstream {
    let status = status.clone();
    Upstream::start(move |_| {
        let status = status.load(Ordering::SeqCst);
        Response::builder()
            .status(status)
            .body(Bytes::new())
            .unwrap()
    })
}

async fn statuses(running: &Running, times: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..times {
        statuses.push(running.get("/").await.status);
    }
    statuses
}

fn assert_no_peer(reply: &Reply) {
    assert_eq!(reply.status, 503);
    let message = "failure to get a peer from the ring-balancer";
    assert_eq!(reply.json()["message"], message);
    assert!(reply.header("x-kong-upstream-latency").is_none());
}

/// Writes the order that the Admin API writes for `/healthy` and `/unhealthy`.
async fn mark(running: &Running, address: &str, healthy: bool) {
    let order = json!({
        "id": id("order"), "target": {"id": id(address)}, "upstream": {"id": id("up")},
        "address": null, "healthy": healthy, "order": "1",
    });
    running.put(&[(TARGET_HEALTH, order)]).await;
}

#[tokio::test]
async fn proxy_case_052_weights_are_kept_exactly() {
    let (a, b) = (named("a"), named("b"));
    let (at_a, at_b) = (a.address.to_string(), b.address.to_string());
    let targets = [target(&at_a, 1), target(&at_b, 3)];
    let running = balanced(Setup::default(), upstream(json!({})), &targets).await;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..400 {
        *counts.entry(running.get("/").await.body).or_default() += 1;
    }
    assert_eq!(
        counts,
        [("a".to_owned(), 100), ("b".to_owned(), 300)].into()
    );
    assert_eq!(header(&a.take()[0], "host").as_deref(), Some(&*at_a));
    running.put(&[target(&at_b, 0)]).await;
    b.take();
    assert_eq!(statuses(&running, 10).await, [200; 10]);
    assert!(b.take().is_empty());
    running.put(&[target(&at_a, 0)]).await;
    assert_no_peer(&running.get("/").await);
}

#[tokio::test]
async fn services_follow_upstreams_that_come_and_go() {
    let (direct, behind) = (named("direct"), named("behind"));
    let running = start(Setup::default()).await;
    let host = json!({"host": "localhost"});
    let service = service("s", direct.address.port(), host);
    let route = route("r", "s", json!({"paths": ["/"]}));
    running
        .put(&[("services", service), ("routes", route)])
        .await;
    assert_eq!(running.get("/").await.body, "direct");
    let name = |name: &str| upstream(json!({"name": name}));
    let address = behind.address.to_string();
    running
        .put(&[target(&address, 1), ("upstreams", name("localhost"))])
        .await;
    assert_eq!(running.get("/").await.body, "behind");
    running.put(&[("upstreams", name("other"))]).await;
    assert_eq!(running.get("/").await.body, "direct");
    running.put(&[("upstreams", name("localhost"))]).await;
    assert_eq!(running.get("/").await.body, "behind");
    running.gateway.load(&running.store).await.unwrap();
    assert_eq!(running.get("/").await.body, "behind");
    running.delete("targets", &address).await;
    assert_no_peer(&running.get("/").await);
    running.delete("upstreams", "up").await;
    assert_eq!(running.get("/").await.body, "direct");
}

#[tokio::test]
async fn retries_go_to_another_target_and_the_last_failure_is_told() {
    let good = named("good");
    let (dead, _) = misbehaving(|stream, _| async move { drop(stream) }).await;
    let targets = [
        target(&dead.to_string(), 1),
        target(&good.address.to_string(), 1),
    ];
    let running = balanced(Setup::default(), upstream(json!({})), &targets).await;
    assert_eq!(statuses(&running, 8).await, [200; 8]);
    running.delete("targets", &good.address.to_string()).await;
    assert_eq!(running.get("/").await.status, 502);
    let checks = json!({"healthchecks": {"passive": {"unhealthy": {"tcp_failures": 2}}}});
    running.put(&[("upstreams", upstream(checks))]).await;
    let reply = running.get("/").await;
    // Two attempts failed; then nobody was left, after the request had begun.
    assert_eq!(reply.status, 503);
    assert_eq!(
        reply.body.lines().next(),
        Some("The upstream server is currently unavailable")
    );
    assert_no_peer(&running.get("/").await);
}

#[tokio::test]
async fn proxy_case_053_cookies_lead_back_to_the_same_target() {
    let (a, b) = (named("a"), named("b"));
    let targets = [
        target(&a.address.to_string(), 100),
        target(&b.address.to_string(), 100),
    ];
    let up = upstream(json!({"hash_on": "cookie", "hash_on_cookie": "h"}));
    let running = balanced(Setup::default(), up, &targets).await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..12 {
        let first = running.get("/").await;
        let cookie = first.header("set-cookie").unwrap();
        let (pair, rest) = cookie.split_once(';').unwrap();
        assert_eq!(rest, " Path=/; Same-Site=Lax; HttpOnly");
        assert!(o28m_core::id::is_uuid(pair.strip_prefix("h=").unwrap()));
        let head = format!("GET / HTTP/1.1\r\nHost: a.example.com\r\nCookie: x=1; {pair}");
        for _ in 0..3 {
            let again = running.send(&head).await;
            assert_eq!(again.header("set-cookie"), None);
            assert_eq!(again.body, first.body);
        }
        seen.insert(first.body);
    }
    assert_eq!(seen.len(), 2);
    let up = upstream(json!({"hash_on": "header", "hash_on_header": "x-user"}));
    running.put(&[("upstreams", up)]).await;
    a.take();
    b.take();
    assert_eq!(statuses(&running, 12).await, [200; 12]);
    let counts = [a.take().len(), b.take().len()];
    assert!(counts.contains(&12), "{counts:?}");
    for user in 0..40 {
        let head = format!("GET / HTTP/1.1\r\nHost: a.example.com\r\nX-User: {user}");
        let (one, two) = (running.send(&head).await, running.send(&head).await);
        assert_eq!(one.body, two.body);
    }
    assert!(!a.take().is_empty() && !b.take().is_empty());
}

#[tokio::test]
async fn an_open_breaker_is_tried_again_after_its_time_when_told_so() {
    let status = Arc::new(AtomicU16::new(500));
    let server = scripted(&status);
    let targets = [target(&server.address.to_string(), 100)];
    let setup = Setup {
        settings: o28m_gateway::Settings {
            recovery_time: Some(std::time::Duration::from_millis(1)),
            ..o28m_gateway::Settings::default()
        },
        ..Setup::default()
    };
    let running = balanced(setup, upstream(breaker()), &targets).await;
    assert_eq!(statuses(&running, 10).await, [500; 10]);
    let healthy = || running.gateway.health_of(&id("up")).unwrap().healthy;
    // One more failure is enough now.
    eventually("another try", healthy).await;
    assert_eq!(statuses(&running, 1).await, [500]);
    status.store(200, Ordering::SeqCst);
    eventually("another try", healthy).await;
    assert_eq!(statuses(&running, 5).await, [200; 5]);
}

#[tokio::test]
async fn requests_with_nothing_to_hash_may_be_spread() {
    let (a, b) = (named("a"), named("b"));
    let targets = [
        target(&a.address.to_string(), 100),
        target(&b.address.to_string(), 100),
    ];
    let setup = Setup {
        settings: o28m_gateway::Settings {
            hash_at_random: true,
            ..o28m_gateway::Settings::default()
        },
        ..Setup::default()
    };
    let up = upstream(json!({"hash_on": "header", "hash_on_header": "x-user"}));
    let running = balanced(setup, up, &targets).await;
    assert_eq!(statuses(&running, 40).await, [200; 40]);
    assert!(!a.take().is_empty() && !b.take().is_empty());
    let head = "GET / HTTP/1.1\r\nHost: a.example.com\r\nX-User: me";
    let first = running.send(head).await.body;
    for _ in 0..8 {
        assert_eq!(running.send(head).await.body, first);
    }
}

#[tokio::test]
async fn the_new_cookie_replaces_the_upstreams_of_the_same_name() {
    let server = Upstream::start(|_| {
        let response = Response::builder().header("set-cookie", "a=1; Path=/");
        let response = response.header("set-cookie", "h=theirs; Path=/x");
        response
            .header("set-cookie", "hh=2")
            .body(Bytes::new())
            .unwrap()
    });
    let targets = [target(&server.address.to_string(), 100)];
    let up = upstream(json!({"hash_on": "cookie", "hash_on_cookie": "h"}));
    let running = balanced(Setup::default(), up, &targets).await;
    let cookies = running.get("/").await.header("set-cookie").unwrap();
    let (new, theirs): (Vec<&str>, Vec<&str>) =
        cookies.split('|').partition(|it| it.starts_with("h="));
    assert_eq!(theirs, ["a=1; Path=/", "hh=2"]);
    assert!(
        new.len() == 1 && new[0].ends_with("; Same-Site=Lax; HttpOnly"),
        "{new:?}"
    );
    let head = "GET / HTTP/1.1\r\nHost: a.example.com\r\nCookie: h=mine";
    let cookies = running.send(head).await.header("set-cookie").unwrap();
    assert_eq!(cookies, "a=1; Path=/|h=theirs; Path=/x|hh=2");
}

#[tokio::test]
async fn proxy_case_054_the_circuit_breaker_opens_and_is_closed_by_hand() {
    let status = Arc::new(AtomicU16::new(404));
    let server = scripted(&status);
    let address = server.address.to_string();
    let targets = [target(&address, 100)];
    let running = balanced(Setup::default(), upstream(breaker()), &targets).await;
    assert_eq!(statuses(&running, 20).await, [404; 20]);
    for _ in 0..2 {
        status.store(500, Ordering::SeqCst);
        assert_eq!(statuses(&running, 9).await, [500; 9]);
        status.store(200, Ordering::SeqCst);
        assert_eq!(statuses(&running, 1).await, [200]);
    }
    status.store(500, Ordering::SeqCst);
    assert_eq!(statuses(&running, 10).await, [500; 10]);
    server.take();
    status.store(200, Ordering::SeqCst);
    assert_no_peer(&running.get("/").await);
    // Nor does a change of the configuration close it.
    running.put(&[target(&address, 50)]).await;
    running.gateway.load(&running.store).await.unwrap();
    assert_no_peer(&running.get("/").await);
    assert!(server.take().is_empty());
    let health = running.gateway.health_of(&id("up")).unwrap();
    assert!(!health.healthy && !health.targets[0].addresses[0].available);
    mark(&running, &address, true).await;
    assert_eq!(running.get("/").await.status, 200);
    mark(&running, &address, false).await;
    assert_no_peer(&running.get("/").await);
    // Loading everything again does not carry out orders again.
    mark(&running, &address, true).await;
    status.store(500, Ordering::SeqCst);
    assert_eq!(statuses(&running, 10).await, [500; 10]);
    running.gateway.load(&running.store).await.unwrap();
    assert_no_peer(&running.get("/").await);
}

/// A plugin that answers itself.
struct Refusing;

impl PluginKind for Refusing {
    fn name(&self) -> &'static str {
        "refusing"
    }

    fn priority(&self) -> i32 {
        1
    }

    fn configure(&self, _: &Value) -> Result<Arc<dyn Plugin>, BadConfig> {
        Ok(Arc::new(Self))
    }
}

impl Plugin for Refusing {
    fn access<'a>(&'a self, _: &'a mut Exchange) -> Access<'a> {
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
        Access::Now(Verdict::Respond(response))
    }
}

#[tokio::test]
async fn proxy_case_055_timeouts_of_the_upstream_count_and_answers_of_plugins_do_not() {
    let status = Arc::new(AtomicU16::new(504));
    let server = scripted(&status);
    let targets = [target(&server.address.to_string(), 100)];
    let setup = Setup {
        kinds: vec![Arc::new(Refusing)],
        ..Setup::default()
    };
    let running = balanced(setup, upstream(breaker()), &targets).await;
    let refusing = plugin("p", "refusing", json!({}), json!({}));
    running.put(&[("plugins", refusing)]).await;
    assert_eq!(statuses(&running, 30).await, [500; 30]);
    assert!(server.take().is_empty());
    running.delete("plugins", "p").await;
    assert_eq!(statuses(&running, 10).await, [504; 10]);
    assert_no_peer(&running.get("/").await);
}

#[tokio::test]
async fn proxy_case_056_half_is_not_more_than_the_threshold() {
    let (a, b) = (named("a"), named("b"));
    let (at_a, at_b) = (a.address.to_string(), b.address.to_string());
    let mut up = breaker();
    up["healthchecks"]["threshold"] = json!(50);
    let targets = [target(&at_a, 10), target(&at_b, 10)];
    let running = balanced(Setup::default(), upstream(up.clone()), &targets).await;
    assert_eq!(statuses(&running, 4).await, [200; 4]);
    mark(&running, &at_a, false).await;
    assert_no_peer(&running.get("/").await);
    up["healthchecks"]["threshold"] = json!(49);
    running.put(&[("upstreams", upstream(up))]).await;
    a.take();
    assert_eq!(statuses(&running, 6).await, [200; 6]);
    assert!(a.take().is_empty());
}

#[tokio::test]
async fn proxy_case_057_active_checks_find_out() {
    let well = Arc::new(AtomicBool::new(false));
    let answer = well.clone();
    let server = Upstream::start(move |request| {
        let is_bad = request.uri().path() == "/status" && !answer.load(Ordering::SeqCst);
        let status = if is_bad { 500 } else { 200 };
        Response::builder()
            .status(status)
            .body(Bytes::new())
            .unwrap()
    });
    let address = server.address.to_string();
    let active = json!({"healthchecks": {"active": {
        "http_path": "/status", "headers": {"x-probe": ["1", "2"]},
        "healthy": {"interval": 0.02, "successes": 2},
        "unhealthy": {"interval": 0.02, "http_failures": 2},
    }}});
    let targets = [target(&address, 100)];
    let running = balanced(Setup::default(), upstream(active), &targets).await;
    let healthy = || running.gateway.health_of(&id("up")).unwrap().healthy;
    eventually("an unhealthy target", || !healthy()).await;
    assert_no_peer(&running.get("/").await);
    let probe = server.take().remove(0);
    assert_eq!(probe.method(), "GET");
    assert_eq!(probe.uri().path(), "/status");
    let ip = address.split(':').next();
    assert_eq!(header(&probe, "host").as_deref(), ip);
    assert_eq!(header(&probe, "x-probe").as_deref(), Some("1|2"));
    well.store(true, Ordering::SeqCst);
    eventually("a healthy target", healthy).await;
    assert_eq!(running.get("/").await.status, 200);
}

#[tokio::test]
async fn active_checks_over_tcp_need_a_listener_only() {
    let server = named("a");
    let address = server.address.to_string();
    let active = json!({"healthchecks": {"active": {
        "type": "tcp", "healthy": {"interval": 0.02, "successes": 1},
        "unhealthy": {"interval": 0.02, "tcp_failures": 1},
    }}});
    let targets = [target(&address, 100)];
    let running = balanced(Setup::default(), upstream(active), &targets).await;
    let healthy = || running.gateway.health_of(&id("up")).unwrap().healthy;
    mark(&running, &address, false).await;
    eventually("a healthy target", healthy).await;
    drop(server);
    eventually("an unhealthy target", || !healthy()).await;
}

#[tokio::test]
async fn jumper_case_068_the_breaker_stands_in_front_of_an_engine() {
    let status = Arc::new(AtomicU16::new(500));
    let answer = status.clone();
    let engine = Scripted::new(move |_| {
        let status = answer.load(Ordering::SeqCst);
        Response::builder()
            .status(status)
            .body(Bytes::new())
            .unwrap()
    });
    let setup = Setup {
        engines: vec![LocalEngine {
            port: 8080,
            listens_on: None,
            service: engine.clone(),
            private_headers: &["routing_config"],
        }],
        ..Setup::default()
    };
    let targets = [target("localhost:8080", 100)];
    let running = balanced(setup, upstream(breaker()), &targets).await;
    let head = "GET / HTTP/1.1\r\nHost: a.example.com\r\nrouting_config: evil\r\nx-other: 1";
    for _ in 0..10 {
        assert_eq!(running.send(head).await.status, 500);
    }
    let asked = engine.take();
    assert_eq!(asked.len(), 10);
    assert_eq!(header(&asked[0], "host").as_deref(), Some("localhost:8080"));
    assert_eq!(header(&asked[0], "routing_config"), None);
    assert_eq!(header(&asked[0], "x-other").as_deref(), Some("1"));
    assert_no_peer(&running.get("/").await);
    assert!(engine.take().is_empty());
    // As the control plane makes routes: the body is passed on as it comes.
    let unbuffered = json!({"paths": ["/"], "request_buffering": false});
    running
        .put(&[("routes", route("r", "s", unbuffered))])
        .await;
    status.store(200, Ordering::SeqCst);
    mark(&running, "localhost:8080", true).await;
    let post = "POST / HTTP/1.1\r\nHost: a.example.com\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc";
    assert_eq!(raw(running.address, post.as_bytes()).await.status, 200);
    assert_eq!(engine.take()[0].body(), "abc");
}

#[tokio::test]
async fn control_headers_are_dropped_when_any_target_is_an_engine() {
    let engine = Scripted::new(|_| Response::new(Bytes::from_static(b"engine")));
    let server = named("server");
    let setup = Setup {
        engines: vec![LocalEngine {
            port: 8080,
            listens_on: None,
            service: engine.clone(),
            private_headers: &["routing_config"],
        }],
        ..Setup::default()
    };
    let plain = target(&server.address.to_string(), 1);
    let running = balanced(setup, upstream(json!({})), &[plain]).await;
    let head = "GET / HTTP/1.1\r\nHost: a.example.com\r\nrouting_config: evil";
    assert_eq!(running.send(head).await.body, "server");
    assert!(header(&server.one(), "routing_config").is_some());
    running.put(&[target("[::1]:8080", 1)]).await;
    let mut bodies = std::collections::BTreeSet::new();
    for _ in 0..2 {
        bodies.insert(running.send(head).await.body);
    }
    assert_eq!(bodies.len(), 2);
    assert_eq!(header(&server.one(), "routing_config"), None);
    assert_eq!(header(&engine.take()[0], "routing_config"), None);
}

#[tokio::test]
async fn busy_and_slow_targets_get_less() {
    let fast = named("fast");
    let (slow, _) = misbehaving(|mut stream, _| async move {
        use tokio::io::AsyncWriteExt as _;
        let _head = read_until(&mut stream, "\r\n\r\n").await;
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nslow";
        let _closed = stream.write_all(answer.as_bytes()).await;
    })
    .await;
    for algorithm in ["latency", "least-connections"] {
        let up = upstream(json!({"algorithm": algorithm}));
        let targets = [
            target(&fast.address.to_string(), 10),
            target(&slow.to_string(), 10),
        ];
        let running = balanced(Setup::default(), up, &targets).await;
        let running = Arc::new(running);
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..2 {
            let running = running.clone();
            callers.spawn(async move {
                let mut fast = 0;
                for _ in 0..10 {
                    let reply = running.get("/").await;
                    assert_eq!(reply.status, 200);
                    fast += usize::from(reply.body != "slow");
                }
                fast
            });
        }
        let fast: usize = callers.join_all().await.into_iter().sum();
        assert!(fast > 10, "{algorithm}: {fast}");
    }
}

#[tokio::test]
async fn names_are_looked_up_and_those_without_address_are_left_out() {
    let server = named("a");
    let (at, port) = (server.address.to_string(), server.address.port());
    let targets = [target(&format!("nothing.invalid:{port}"), 1)];
    let running = balanced(Setup::default(), upstream(json!({})), &targets).await;
    assert_no_peer(&running.get("/").await);
    let health = running.gateway.health_of(&id("up")).unwrap();
    assert!(!health.healthy && health.targets[0].addresses.is_empty());
    running.put(&[target(&at, 1)]).await;
    assert_eq!(statuses(&running, 4).await, [200; 4]);
}

#[tokio::test]
async fn the_upstreams_own_host_is_sent() {
    let server = named("a");
    let port = server.address.port();
    let up = upstream(json!({"host_header": "own.example"}));
    let targets = [target(&server.address.to_string(), 1)];
    let running = balanced(Setup::default(), up, &targets).await;
    assert_eq!(running.get("/").await.body, "a");
    let host = header(&server.one(), "host");
    assert_eq!(host, Some(format!("own.example:{port}")));
    let up = upstream(json!({"host_header": "own.example:99"}));
    running.put(&[("upstreams", up)]).await;
    assert_eq!(running.get("/").await.body, "a");
    assert_eq!(
        header(&server.one(), "host").as_deref(),
        Some("own.example:99")
    );
}

#[tokio::test]
async fn targets_and_active_checks_speak_tls() {
    let server = Upstream::start_tls(Some(crate::tls::certificate()), |_| {
        Response::new(Bytes::from_static(b"secure"))
    });
    let checks = |verify: bool| {
        upstream(json!({
            "host_header": "localhost",
            "healthchecks": {"active": {
                "type": "https", "https_verify_certificate": verify,
                "healthy": {"interval": 0.02, "successes": 1},
                "unhealthy": {"interval": 0.02, "tcp_failures": 1},
            }},
        }))
    };
    let targets = [target(&server.address.to_string(), 1)];
    let running = balanced(Setup::default(), checks(true), &targets).await;
    let https = |verify: bool| {
        let changes = json!({"protocol": "https", "host": "up.example", "tls_verify": verify});
        ("services", service("s", 80, changes))
    };
    running.put(&[https(false)]).await;
    let healthy = || running.gateway.health_of(&id("up")).unwrap().healthy;
    eventually("a certificate that is refused", || !healthy()).await;
    running.put(&[("upstreams", checks(false))]).await;
    eventually("a certificate that is accepted", healthy).await;
    assert_eq!(running.get("/").await.body, "secure");
    let probe = &server.take()[0];
    assert_eq!(header(probe, "host").as_deref(), Some("localhost"));
    running.put(&[https(true)]).await;
    assert_eq!(running.get("/").await.status, 502);
}

#[tokio::test]
async fn requests_are_hashed_by_what_they_carry() {
    let (a, b) = (named("a"), named("b"));
    let targets = [
        target(&a.address.to_string(), 100),
        target(&b.address.to_string(), 100),
    ];
    let up = |on: Value| {
        let mut body = json!({"hash_fallback": "none"});
        for (key, value) in on.as_object().unwrap() {
            body[key] = value.clone();
        }
        upstream(body)
    };
    let by_path = up(json!({"hash_on": "path"}));
    let running = balanced(Setup::default(), by_path, &targets).await;
    let with_capture = json!({"paths": ["~/(?<who>[^/?]*)"]});
    running
        .put(&[("routes", route("r", "s", with_capture))])
        .await;
    for (on, prefix) in [
        (json!({"hash_on": "path"}), "/"),
        (
            json!({"hash_on": "query_arg", "hash_on_query_arg": "u"}),
            "/?u=",
        ),
        (
            json!({"hash_on": "uri_capture", "hash_on_uri_capture": "who"}),
            "/",
        ),
        (
            json!({
                "hash_on": "header", "hash_on_header": "x-none",
                "hash_fallback": "query_arg", "hash_fallback_query_arg": "u",
            }),
            "/?x=1&u=",
        ),
    ] {
        running.put(&[("upstreams", up(on.clone()))]).await;
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..24 {
            let target = format!("{prefix}{number}");
            let (one, two) = (running.get(&target).await, running.get(&target).await);
            assert_eq!(one.body, two.body, "{on} {target}");
            seen.insert(one.body);
        }
        assert_eq!(seen.len(), 2, "{on}");
    }
    running
        .put(&[("upstreams", up(json!({"hash_on": "ip"})))])
        .await;
    let first = running.get("/").await.body;
    for number in 0..8 {
        assert_eq!(running.get(&format!("/{number}")).await.body, first);
    }
}
