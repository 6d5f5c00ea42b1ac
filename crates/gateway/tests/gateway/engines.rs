//! Components of this process behind well-known ports (spec jumper 21).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use o28m_gateway::{Access, BadConfig, Exchange, LocalEngine, Plugin, PluginKind};
use o28m_net::client::{Target, Timeouts, TlsPolicy};
use o28m_net::{Body, BoxFuture, Connection, HttpService, Scheme};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::*;

async fn running_with(
    service_of_port: Arc<dyn HttpService>,
    changes: serde_json::Value,
) -> Running {
    let engines = vec![LocalEngine {
        port: 8080,
        listens_on: None,
        service: service_of_port,
        private_headers: &["routing_config"],
    }];
    let running = start(Setup {
        engines,
        ..Setup::default()
    })
    .await;
    let route = route("r", "s", json!({"paths": ["/api"]}));
    running
        .put(&[("services", service("s", 8080, changes)), ("routes", route)])
        .await;
    running
}

#[tokio::test]
async fn an_engine_gets_what_the_wire_would_have_carried() {
    let engine = Scripted::new(|_| {
        let response = Response::builder()
            .status(201)
            .header("connection", "x-secret");
        let response = response.header("x-secret", "1").header("x-kept", "1");
        response.body(Bytes::from_static(b"made")).unwrap()
    });
    let running = running_with(
        engine.clone(),
        json!({"host": "localhost", "path": "/proxy"}),
    )
    .await;
    let request = "POST /api/a%20b?x=%20 HTTP/1.1\r\nHost: a.example.com\r\nConnection: close\r\nTE: trailers\r\n\
        X-Forwarded-For: 10.0.0.1\r\nContent-Length: 3\r\nX-Multi: 1\r\nX-Multi: 2\r\n\r\nabc";
    let reply = raw(running.address, request.as_bytes()).await;
    assert_eq!((reply.status, reply.body.as_str()), (201, "made"));
    assert_eq!(reply.header("x-secret"), None);
    assert_eq!(reply.header("x-kept").as_deref(), Some("1"));
    assert!(reply.header("x-kong-upstream-latency").is_some());
    let request = engine.take().remove(0);
    assert_eq!(request.uri().to_string(), "/proxy/a%20b?x=%20");
    assert_eq!(request.body(), "abc");
    for (name, value) in [
        ("host", Some("localhost:8080")),
        ("connection", None),
        ("content-length", Some("3")),
        ("x-multi", Some("1|2")),
        ("x-forwarded-for", Some("10.0.0.1, 127.0.0.1")),
        ("x-forwarded-prefix", Some("/api")),
        ("x-real-ip", Some("127.0.0.1")),
    ] {
        assert_eq!(header(&request, name).as_deref(), value, "{name}");
    }
    assert_eq!(
        header(&request, "x-kong-request-id"),
        reply.header("x-kong-request-id")
    );
}

#[tokio::test]
async fn only_loopback_names_and_plain_http_mean_an_engine() {
    let engine = Scripted::new(|_| Response::new(Bytes::from_static(b"engine")));
    let running = running_with(engine.clone(), json!({})).await;
    for host in ["localhost", "127.0.0.1", "::1", "[::1]"] {
        running
            .put(&[("services", service("s", 8080, json!({"host": host})))])
            .await;
        assert_eq!(running.get("/api").await.body, "engine", "{host}");
    }
    let upstream = Upstream::ok();
    running
        .put(&[("services", service("s", upstream.address.port(), json!({})))])
        .await;
    assert_eq!(running.get("/api").await.body, "hello");
    engine.take();
    let other = json!({"protocol": "https", "retries": 0, "connect_timeout": 500});
    running
        .put(&[("services", service("s", 8080, other))])
        .await;
    assert_ne!(running.get("/api").await.status, 200);
    assert!(engine.take().is_empty());
}

/// Never answers, or panics.
struct Broken {
    calls: AtomicUsize,
    panics: bool,
    dropped: Arc<AtomicUsize>,
}

struct OnDrop(Arc<AtomicUsize>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl HttpService for Broken {
    fn call<'a>(&'a self, _: Request<Body>, _: &'a Connection) -> BoxFuture<'a, Response<Body>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let guard = OnDrop(self.dropped.clone());
        Box::pin(async move {
            let _guard = guard;
            assert!(!self.panics, "as told");
            std::future::pending().await
        })
    }
}

fn broken(panics: bool) -> Arc<Broken> {
    Arc::new(Broken {
        calls: AtomicUsize::new(0),
        panics,
        dropped: Arc::default(),
    })
}

#[tokio::test]
async fn jumper_case_067_a_silent_engine_is_504_after_the_read_timeout() {
    let engine = broken(false);
    let running = running_with(engine.clone(), json!({"read_timeout": 50, "retries": 5})).await;
    let reply = running.get("/api").await;
    assert_eq!(reply.status, 504);
    assert!(
        reply
            .body
            .starts_with("The upstream server is timing out\n")
    );
    assert_eq!(engine.calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_engine_that_panics_is_502_once() {
    let engine = broken(true);
    let running = running_with(engine.clone(), json!({})).await;
    assert_eq!(running.get("/api").await.status, 502);
    assert_eq!(engine.calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_engine() {
    let engine = broken(false);
    let running = running_with(engine.clone(), json!({})).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let head = b"GET /api HTTP/1.1\r\nHost: a\r\n\r\n";
    stream.write_all(head).await.unwrap();
    eventually("the call", || engine.calls.load(Ordering::SeqCst) == 1).await;
    assert_eq!(engine.dropped.load(Ordering::SeqCst), 0);
    drop(stream);
    eventually("the end", || engine.dropped.load(Ordering::SeqCst) == 1).await;
}

/// Sends what it gets on to `upstream`, over the pool of the connection.
struct Forwarding {
    upstream: Target,
    idle: Duration,
}

impl HttpService for Forwarding {
    fn call<'a>(
        &'a self,
        mut request: Request<Body>,
        connection: &'a Connection,
    ) -> BoxFuture<'a, Response<Body>> {
        Box::pin(async move {
            let headers = request.headers_mut();
            assert_eq!(headers["connection"], "upgrade");
            assert_eq!(headers["upgrade"], "websocket");
            let timeouts = Timeouts {
                connect: PATIENCE,
                write: PATIENCE,
                read: self.idle,
            };
            let sent = connection.pool.send(&self.upstream, request, &timeouts);
            sent.await.unwrap()
        })
    }
}

async fn running_forwarding(upstream: std::net::SocketAddr, idle: Duration) -> Running {
    let upstream = Target {
        scheme: Scheme::Http,
        host: Arc::from("127.0.0.1"),
        port: upstream.port(),
        tls: TlsPolicy::default(),
    };
    running_with(Arc::new(Forwarding { upstream, idle }), json!({})).await
}

const UPGRADE: &[u8] =
    b"GET /api HTTP/1.1\r\nHost: a\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
    Sec-WebSocket-Key: x\r\n\r\n";

/// Agrees to a WebSocket, says hello and echoes until the client ends.
async fn echo(mut stream: TcpStream) {
    let head = read_until(&mut stream, "\r\n\r\n").await;
    assert!(head.contains("Sec-WebSocket-Key: x\r\n"), "{head}");
    let answer =
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Accept: y\r\n\r\nhello";
    stream.write_all(answer).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    tokio::io::copy(&mut reader, &mut writer).await.unwrap();
}

#[tokio::test]
async fn websockets_pass_through_an_engine() {
    let (upstream, _) = misbehaving(|stream, _| echo(stream)).await;
    let running = running_forwarding(upstream, PATIENCE).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    // Bytes behind the head wait for the 101.
    stream
        .write_all(&[UPGRADE, b"early"].concat())
        .await
        .unwrap();
    let head = read_until(&mut stream, "\r\n\r\n")
        .await
        .to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    for line in [
        "connection: upgrade\r\n",
        "upgrade: websocket\r\n",
        "sec-websocket-accept: y\r\n",
        "x-kong-upstream-latency: ",
    ] {
        assert!(head.contains(line), "{head}");
    }
    read_until(&mut stream, "hello").await;
    read_until(&mut stream, "early").await;
    stream.write_all(b"ping").await.unwrap();
    read_until(&mut stream, "ping").await;
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    patiently("the end", stream.read_to_end(&mut rest))
        .await
        .unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn an_engines_idle_limit_ends_its_websockets() {
    let (upstream, _) = misbehaving(|stream, _| echo(stream)).await;
    let running = running_forwarding(upstream, Duration::from_millis(100)).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(UPGRADE).await.unwrap();
    read_until(&mut stream, "hello").await;
    let mut rest = Vec::new();
    let _reset = patiently("the end", stream.read_to_end(&mut rest)).await;
    assert!(rest.is_empty());
}

#[tokio::test]
async fn an_engine_cannot_switch_protocols_unasked() {
    let engine = Scripted::new(|request| {
        assert_eq!(header(request, "upgrade"), None);
        let response = Response::builder()
            .status(101)
            .header("upgrade", "websocket");
        response.body(Bytes::new()).unwrap()
    });
    let running = running_with(engine, json!({})).await;
    assert_eq!(running.get("/api").await.status, 502);
}

#[tokio::test]
async fn clients_cannot_set_what_steers_an_engine() {
    let engine = Scripted::new(|request| {
        let seen = request.headers().contains_key("routing_config");
        Response::new(Bytes::from(seen.to_string()))
    });
    let changes = json!({"host": "localhost", "path": "/proxy"});
    let running = running_with(engine.clone(), changes).await;
    let head = "GET /api HTTP/1.1\r\nHost: a\r\nRouting_Config: x\r\nrouting_config: y";
    assert_eq!(running.send(head).await.body, "false");
}

/// Says what a plugin decides.
struct Steering;

impl Plugin for Steering {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        let value = http::HeaderValue::from_static("plugin");
        let headers = &mut exchange.request.headers;
        headers.insert("routing_config", value);
        Access::CONTINUE
    }
}

impl PluginKind for Steering {
    fn name(&self) -> &'static str {
        "steering"
    }

    fn priority(&self) -> i32 {
        1
    }

    fn configure(&self, _: &serde_json::Value) -> Result<Arc<dyn Plugin>, BadConfig> {
        Ok(Arc::new(Self))
    }
}

#[tokio::test]
async fn clients_cannot_steer_an_engine_that_is_reached_over_its_socket() {
    let listening = Upstream::start(|request| {
        Response::new(Bytes::from(
            header(request, "routing_config").unwrap_or_default(),
        ))
    });
    let elsewhere = Upstream::start(|request| {
        Response::new(Bytes::from(
            header(request, "routing_config").unwrap_or_default(),
        ))
    });
    let port = listening.address.port();
    let engine = Scripted::new(|_| Response::new(Bytes::from_static(b"engine")));
    let engines = vec![LocalEngine {
        port: 8080,
        listens_on: Some(port),
        service: engine.clone(),
        private_headers: &["routing_config"],
    }];
    let running = start(Setup {
        engines,
        kinds: vec![Arc::new(Steering)],
        ..Setup::default()
    })
    .await;
    let plain = route("r", "s", json!({"paths": ["/api"]}));
    let steered = route("steered", "s", json!({"paths": ["/steered"]}));
    let scope = json!({"route": {"id": id("steered")}});
    let steering = plugin("p", "steering", json!({}), scope);
    running
        .put(&[
            ("routes", plain),
            ("routes", steered),
            ("plugins", steering),
        ])
        .await;
    let ask = async |path: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nrouting_config: client");
        running.send(&head).await.body
    };
    let balanced = json!({"host": "balanced"});
    let target = |name: &str| {
        let body = json!({
            "id": id("t"), "target": format!("{name}:{port}"), "weight": 1, "upstream": {"id": id("u")},
        });
        ("targets", body)
    };
    let upstream = json!({"id": id("u"), "name": "balanced"});
    let upstream = crate::balancing::stored("upstreams", upstream);
    running.put(&[("upstreams", upstream)]).await;
    for host in ["localhost", "127.0.0.1", "LOCALHOST", "x.localhost"] {
        let named = service("s", port, json!({"host": host}));
        running.put(&[("services", named)]).await;
        assert_eq!(ask("/api").await, "", "{host}");
        assert_eq!(ask("/steered").await, "plugin", "{host}");
    }
    for name in ["localhost", "LOCALHOST"] {
        let through = service("s", port, balanced.clone());
        running.put(&[("services", through), target(name)]).await;
        assert_eq!(ask("/api").await, "", "{name}");
        assert_eq!(ask("/steered").await, "plugin", "{name}");
    }
    // At other ports nothing of the kind listens.
    let other = service("s", elsewhere.address.port(), json!({"host": "LOCALHOST"}));
    running.put(&[("services", other)]).await;
    assert_eq!(ask("/api").await, "client");
    assert!(engine.take().is_empty());
}
