//! What reaches the provider and what comes back.

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt as _;
use o28m_jumper::{CONTROL_HEADERS, PlaintextMode};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Call, Peer, RawPeer, World, closed_url, header, target, timeouts};

#[tokio::test]
async fn jumper_case_002_the_provider_learns_where_the_consumer_entered() {
    let world = World::start();
    let call = world.real().with("x-origin-zone", "spoofed");
    let received = world.forwarded(&call).await;
    for (name, value) in [
        ("x-origin-stargate", "https://zone.example.com"),
        ("x-origin-zone", "localZone"),
        ("x-forwarded-host", "zone.example.com"),
        ("x-forwarded-port", "443"),
        ("x-forwarded-proto", "https"),
        ("x-b3-sampled", "1"),
        ("realm", "default"),
        ("environment", "localEnv"),
    ] {
        assert_eq!(header(received.headers(), name), value, "{name}");
    }
    assert_eq!(header(received.headers(), "x-b3-traceid").len(), 32);
    assert_eq!(header(received.headers(), "x-b3-spanid").len(), 16);
    assert_eq!(
        header(received.headers(), "host"),
        &world.provider.url()[7..]
    );

    let bare = world.token(json!({"originZone": null, "originStargate": "a\nb"}));
    let received = world.forwarded(&call.token(&bare)).await;
    for name in ["x-origin-stargate", "x-origin-zone"] {
        assert!(!received.headers().contains_key(name));
    }
}

#[tokio::test]
async fn jumper_case_003_control_and_consumer_headers_end_here() {
    let world = World::start();
    let stripped = [
        "x-consumer-id",
        "x-consumer-custom-id",
        "x-consumer-groups",
        "x-consumer-username",
        "x-anonymous-consumer",
        "x-anonymous-groups",
        "x-forwarded-prefix",
        "client_id",
        "client_secret",
    ];
    let call = stripped
        .iter()
        .fold(world.real(), |call, name| call.with(name, "dummy"));
    let received = world.forwarded(&call).await;
    for name in stripped.iter().chain(&CONTROL_HEADERS) {
        assert!(!received.headers().contains_key(*name), "{name}");
    }
}

#[tokio::test]
async fn jumper_case_004_other_headers_pass_once() {
    let world = World::start();
    let passed = [
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-path", "/documented/path"),
        ("x-custom", "v"),
        ("x-credential-identifier", "c"),
        ("via", "1.1 kong"),
        ("cookie", "a=b"),
        ("x-tardis-traceid", "t"),
    ];
    let call = passed
        .iter()
        .fold(world.real(), |call, (name, value)| call.with(name, value));
    let received = world.forwarded(&call).await;
    for (name, value) in passed {
        let lines: Vec<_> = received.headers().get_all(name).iter().collect();
        assert_eq!(lines, [value], "{name}");
    }
}

#[tokio::test]
async fn jumper_case_005_forwarded_is_removed() {
    let world = World::start();
    let call = world.real().with("forwarded", "for=1.2.3.4");
    let received = world.forwarded(&call).await;
    assert!(!received.headers().contains_key("forwarded"));
}

#[tokio::test]
async fn a_client_cannot_name_away_headers_or_bring_hop_by_hop_ones() {
    let world = World::start();
    let call = world
        .real()
        .with(
            "connection",
            "authorization, x-origin-zone, x-hop, remote_api_url",
        )
        .with("x-hop", "1")
        .with("proxy-authorization", "Basic eA==")
        .with("te", "trailers");
    let received = world.forwarded(&call).await;
    assert_eq!(world.verified(&received).await["azp"], "stargate");
    assert_eq!(header(received.headers(), "x-origin-zone"), "localZone");
    for name in ["x-hop", "proxy-authorization", "te"] {
        assert!(!received.headers().contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn jumper_case_053_paths_and_queries_arrive_byte_for_byte() {
    let world = World::start();
    let (base, slash) = (
        world.provider.url() + "/base",
        world.provider.url() + "/base/",
    );
    let plain = world.provider.url();
    for (remote, base_path, path, upstream, claim) in [
        (&plain, "/", "/proxy", "/", "/"),
        (&plain, "/", "/proxy/", "/", "//"),
        (&plain, "/base", "/proxy", "/", "/base"),
        (&base, "/base", "/proxy", "/base", "/base"),
        (&base, "/base", "/proxy/", "/base/", "/base/"),
        (&slash, "", "/proxy/path/", "/base/path/", "/path/"),
        (
            &plain,
            "/base",
            "/proxy/path;k=v;o=w",
            "/path;k=v;o=w",
            "/base/path;k=v;o=w",
        ),
        (
            &plain,
            "/base",
            "/proxy/path/1.1.1.1%2F32?validAt=2020-11-30T23%3A00%3A00%2B01%3A00&sig=123",
            "/path/1.1.1.1%2F32?validAt=2020-11-30T23%3A00%3A00%2B01%3A00&sig=123",
            "/base/path/1.1.1.1%2F32",
        ),
    ] {
        let call = world
            .real()
            .at(path)
            .with("remote_api_url", remote)
            .with("api_base_path", base_path);
        let received = world.forwarded(&call).await;
        assert_eq!(received.uri(), upstream, "{path}");
        assert_eq!(
            world.verified(&received).await["requestPath"],
            claim,
            "{path}"
        );
    }
}

#[tokio::test]
async fn bodies_of_requests_and_responses_pass() {
    let world = World::start();
    let provider = Peer::start(|request| Response::new(request.body().clone()));
    let body = "x".repeat(3 * 1024 * 1024);
    let call = world
        .real()
        .with("remote_api_url", &provider.url())
        .post("text/plain", &body);
    let reply = world.call(&call).await.expect(200);
    assert!(reply.body == body);
    assert_eq!(provider.only().method(), Method::POST);
}

#[tokio::test]
async fn jumper_case_055_statuses_pass_and_nothing_is_repeated() {
    let world = World::start();
    for status in [401, 503, 418, 799] {
        let provider = Peer::json(status, json!({"status": status}));
        let call = world.real().with("remote_api_url", &provider.url());
        let reply = world.call(&call).await.expect(status);
        assert_eq!(reply.json(), json!({"status": status}));
        assert_eq!(provider.take().len(), 1);
    }
}

#[tokio::test]
async fn jumper_case_056_a_silent_provider_is_waited_for_only_so_long() {
    let world = World::start_with(|settings| {
        settings.response_timeout = std::time::Duration::from_millis(200);
    });
    let provider = RawPeer::start(false).await;
    let call = world.real().with("remote_api_url", &provider.url());
    let reply = world.call(&call).await.expect(504);
    assert_eq!(reply.message(), "Response took longer than timeout: PT0.2S");
    let reply = world.call(&call.post("text/plain", "x")).await.expect(504);
    assert_eq!(reply.json()["method"], "POST");
    assert_eq!(provider.calls(), 2);
}

#[tokio::test]
async fn jumper_case_057_transport_failures_have_their_own_statuses() {
    let world = World::start();
    let closing = RawPeer::start(true).await;
    let call = |url: &str| world.real().with("remote_api_url", url);
    let reply = world.call(&call(&closing.url())).await.expect(500);
    assert_eq!(
        reply.message(),
        "Connection prematurely closed BEFORE response"
    );
    assert_eq!(closing.calls(), 1);
    let url = closed_url();
    let reply = world.call(&call(&url)).await.expect(504);
    assert_eq!(
        reply.message(),
        format!("Connection refused: {}", &url[7..])
    );
    let reply = world.call(&call("http://nope.invalid")).await.expect(503);
    assert_eq!(reply.header("retry-after"), "30");
    for url in ["ftp://h", "//h", "http://user:password@h"] {
        let reply = world.call(&call(url)).await.expect(502);
        assert_eq!(reply.message(), "invalid remote_api_url");
    }
}

#[tokio::test]
async fn jumper_case_061_plain_targets_can_be_blocked() {
    let world = World::start_with(|settings| settings.plaintext = PlaintextMode::Strict);
    for path in ["/proxy/x", "/listener/x"] {
        let reply = world.call(&world.real().at(path)).await.expect(502);
        assert_eq!(
            reply.body,
            "Plaintext HTTP connection blocked by gateway security policy. Only HTTPS connections are allowed."
        );
        assert_eq!(reply.header("content-type"), "");
    }
    assert!(world.provider.take().is_empty());
    assert_eq!(world.metric("jumper_ssl_plaintext_connection_total"), "2");
}

#[tokio::test]
async fn jumper_case_062_metrics_hold_no_trace_ids() {
    let world = World::start();
    let call = world.real().with("x-tardis-traceid", "dummy");
    let _ = world.call(&call).await.expect(200);
    let reply = world
        .call(&Call::get("/actuator/prometheus"))
        .await
        .expect(200);
    let text = String::from_utf8(reply.body.to_vec()).unwrap();
    assert!(!text.contains("dummy"));
    assert!(text.contains("jumper_keyinfo_load_status 1"));
    assert!(text.contains("spring_cloud_gateway_requests_seconds_count{"));
}

#[tokio::test]
async fn jumper_case_064_security_headers_are_added_where_there_are_none() {
    let world = World::start();
    let always = [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("x-xss-protection", "0"),
        ("referrer-policy", "no-referrer"),
    ];
    for (status, own, cache, pragma) in [
        (
            200,
            None,
            "no-cache, no-store, max-age=0, must-revalidate",
            "no-cache",
        ),
        (200, Some("max-age=60"), "max-age=60", ""),
        (304, None, "", ""),
    ] {
        let provider = Peer::start(move |_| {
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            if let Some(own) = own {
                let own = http::HeaderValue::from_static(own);
                response.headers_mut().insert("cache-control", own);
            }
            response
        });
        let call = world.real().with("remote_api_url", &provider.url());
        let reply = world.call(&call).await.expect(status);
        assert_eq!(reply.header("cache-control"), cache);
        assert_eq!(reply.header("pragma"), pragma);
        for (name, value) in always {
            assert_eq!(reply.header(name), value);
        }
    }
    let error = world.call(&Call::get("/nope")).await.expect(404);
    assert_eq!(error.header("x-frame-options"), "DENY");
}

#[tokio::test]
async fn websockets_are_joined() {
    let world = World::start();
    let provider = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", provider.local_addr().unwrap());
    let serving = async {
        let (mut socket, _) = provider.accept().await.unwrap();
        let head = read_head(&mut socket).await;
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: chat\r\n\r\nhello";
        socket.write_all(answer.as_bytes()).await.unwrap();
        let mut echoed = [0; 4];
        socket.read_exact(&mut echoed).await.unwrap();
        (head, echoed)
    };
    let calling = async {
        let call = world.real().with("remote_api_url", &url);
        let mut head = "GET /proxy/ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Protocol: chat\r\n".to_owned();
        for (name, value) in &call.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let mut socket = TcpStream::connect(world.address).await.unwrap();
        socket
            .write_all(format!("{head}\r\n").as_bytes())
            .await
            .unwrap();
        let answer = read_head(&mut socket).await;
        let mut hello = [0; 5];
        socket.read_exact(&mut hello).await.unwrap();
        socket.write_all(b"ping").await.unwrap();
        (answer, hello, socket)
    };
    let ((asked, echoed), (answer, hello, _socket)) = tokio::join!(serving, calling);
    assert!(asked.starts_with("GET /ws HTTP/1.1\r\n"));
    for line in [
        "connection: upgrade\r\n",
        "upgrade: websocket\r\n",
        "authorization: bearer ",
    ] {
        assert!(asked.to_ascii_lowercase().contains(line), "{asked}");
    }
    assert!(answer.starts_with("HTTP/1.1 101 "));
    assert!(
        answer
            .to_ascii_lowercase()
            .contains("sec-websocket-protocol: chat\r\n")
    );
    assert_eq!((&hello, &echoed), (b"hello", b"ping"));
}

/// Reads byte by byte, so that nothing behind the head is taken.
async fn read_head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn response_bodies_are_passed_as_they_arrive() {
    let world = World::start();
    let provider = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", provider.local_addr().unwrap());
    let (more, go_on) = tokio::sync::oneshot::channel::<()>();
    let serving = async {
        let (mut socket, _) = provider.accept().await.unwrap();
        let _ = read_head(&mut socket).await;
        let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n";
        socket.write_all(answer.as_bytes()).await.unwrap();
        go_on.await.unwrap();
        socket.write_all(b"6\r\nsecond\r\n0\r\n\r\n").await.unwrap();
    };
    let calling = async {
        let call = world.real().with("remote_api_url", &url);
        let (target, timeouts) = (target(world.address), timeouts());
        let sent = world.pool.send(&target, call.request(), &timeouts).await;
        let mut body = sent.unwrap().into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first, "first");
        more.send(()).unwrap();
        assert_eq!(body.collect(100).await.unwrap(), "second");
    };
    tokio::join!(serving, calling);
}

#[tokio::test]
async fn unknown_certificates_are_taken_or_refused() {
    for (verify, status) in [(false, 200), (true, 500)] {
        let world = World::start_with(|settings| settings.tls_verify = verify);
        let provider = Peer::tls();
        let url = provider.url().replace("http:", "https:");
        let call = world.real().with("remote_api_url", &url);
        let reply = world.call(&call).await.expect(status);
        assert_eq!(provider.take().len(), usize::from(!verify), "{reply:?}");
    }
}

#[tokio::test]
async fn callers_learn_no_causes_when_they_should_not() {
    let world = World::start_with(|settings| settings.verbose_errors = false);
    let call = world.real().with("remote_api_url", &closed_url());
    let reply = world.call(&call).await.expect(504);
    assert_eq!(reply.message(), "Gateway Timeout");
}
