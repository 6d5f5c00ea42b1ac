//! Headers in both directions (spec gateway-proxy 4 and 5).

use bytes::Bytes;
use http::Response;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::*;

const SPOOFED: &str = "GET /real?q HTTP/1.1\r\nHost: Real.example.com:1234\r\nX-Forwarded-For: 10.0.0.1\r\n\
    X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 80\r\nX-Forwarded-Path: /x\r\n\
    X-Forwarded-Prefix: /y\r\nX-Real-IP: 1.1.1.1";

#[tokio::test]
async fn proxy_case_023_untrusted_forwarding_headers_are_replaced() {
    let upstream = Upstream::ok();
    let running = start_for(&upstream, Setup::default()).await;
    running.send(SPOOFED).await;
    let request = upstream.one();
    let port = running.address.port().to_string();
    for (name, value) in [
        ("x-forwarded-for", Some("10.0.0.1, 127.0.0.1")),
        ("x-forwarded-proto", Some("http")),
        ("x-forwarded-host", Some("real.example.com")),
        ("x-forwarded-port", Some(port.as_str())),
        ("x-forwarded-path", Some("/real")),
        ("x-forwarded-prefix", None),
        ("x-real-ip", Some("127.0.0.1")),
        ("via", None),
    ] {
        assert_eq!(header(&request, name).as_deref(), value, "{name}");
    }
}

#[tokio::test]
async fn proxy_case_024_trusted_forwarding_headers_are_kept() {
    let upstream = Upstream::ok();
    let mut setup = Setup::default();
    setup.settings.trusted_ips = vec!["127.0.0.1".to_owned()];
    let running = start_for(&upstream, setup).await;
    running.send(SPOOFED).await;
    let request = upstream.one();
    for (name, value) in [
        ("x-forwarded-for", "10.0.0.1, 127.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil"),
        ("x-forwarded-port", "80"),
        ("x-forwarded-path", "/x"),
        ("x-forwarded-prefix", "/y"),
        ("x-real-ip", "1.1.1.1"),
    ] {
        assert_eq!(header(&request, name).as_deref(), Some(value), "{name}");
    }
}

#[tokio::test]
async fn proxy_case_025_every_forwarded_for_line_survives() {
    let upstream = Upstream::ok();
    let running = start_for(&upstream, Setup::default()).await;
    running
        .send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: a\r\nX-Forwarded-For: b")
        .await;
    let request = upstream.one();
    assert_eq!(
        header(&request, "x-forwarded-for").as_deref(),
        Some("a, b, 127.0.0.1")
    );
    running.get("/").await;
    assert_eq!(
        header(&upstream.one(), "x-forwarded-for").as_deref(),
        Some("127.0.0.1")
    );
}

#[tokio::test]
async fn proxy_case_026_prefix_is_told_only_when_it_was_stripped() {
    let upstream = Upstream::ok();
    let running = start_for(&upstream, Setup::default()).await;
    let head = "GET /foo/x HTTP/1.1\r\nHost: a\r\nX-Forwarded-Prefix: /mine";
    for (changes, prefix) in [
        (json!({"paths": ["/foo"]}), Some("/foo")),
        (json!({"paths": ["/foo"], "strip_path": false}), None),
        (json!({"paths": ["/"]}), None),
    ] {
        running.put(&[("routes", route("r", "s", changes))]).await;
        running.send(head).await;
        assert_eq!(
            header(&upstream.one(), "x-forwarded-prefix").as_deref(),
            prefix
        );
    }
}

#[tokio::test]
async fn proxy_case_027_hop_by_hop_headers_end_here() {
    let upstream = Upstream::ok();
    let running = start_for(&upstream, Setup::default()).await;
    let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Foo, X-Bar\r\nX-Foo: 1\r\nX-Bar: 1\r\nTE: trailers, deflate\r\n\
        Upgrade: example/1\r\nProxy: x\r\nProxy-Connection: x\r\nKeep-Alive: x\r\nProxy-Authorization: Basic eA==";
    running.send(head).await;
    let request = upstream.one();
    for gone in [
        "x-foo",
        "x-bar",
        "upgrade",
        "proxy",
        "proxy-connection",
        "keep-alive",
    ] {
        assert_eq!(header(&request, gone), None, "{gone}");
    }
    assert_eq!(header(&request, "te").as_deref(), Some("trailers"));
    assert_eq!(
        header(&request, "connection").as_deref(),
        Some("keep-alive")
    );
    assert_eq!(
        header(&request, "proxy-authorization").as_deref(),
        Some("Basic eA==")
    );
}

#[tokio::test]
async fn identity_headers_of_clients_do_not_pass() {
    let upstream = Upstream::ok();
    let running = start_for(&upstream, Setup::default()).await;
    let head = "GET / HTTP/1.1\r\nHost: a\r\nX-Consumer-ID: 1\r\nX-Consumer-Username: admin\r\n\
        X_Consumer_Groups: admin\r\nX-Credential-Identifier: 1\r\nremote_api_url: http://b";
    running.send(head).await;
    let request = upstream.one();
    for gone in [
        "x-consumer-id",
        "x-consumer-username",
        "x_consumer_groups",
        "x-credential-identifier",
    ] {
        assert_eq!(header(&request, gone), None, "{gone}");
    }
    assert_eq!(
        header(&request, "remote_api_url").as_deref(),
        Some("http://b")
    );
}

#[tokio::test]
async fn proxy_case_028_host_is_the_services_unless_preserved() {
    let upstream = Upstream::ok();
    let running = start_for(&upstream, Setup::default()).await;
    let head = "GET / HTTP/1.1\r\nHost: Client.example.com:99";
    running.send(head).await;
    assert_eq!(
        header(&upstream.one(), "host"),
        Some(upstream.address.to_string())
    );
    let preserve = json!({"paths": ["/"], "preserve_host": true});
    running.put(&[("routes", route("r", "s", preserve))]).await;
    running.send(head).await;
    assert_eq!(
        header(&upstream.one(), "host").as_deref(),
        Some("Client.example.com:99")
    );
}

#[tokio::test]
async fn proxy_case_028_ports_that_everybody_knows_are_not_named() {
    let engine = Scripted::new(|_| Response::new(Bytes::new()));
    let ports = [80, 8080];
    let engines = ports.map(|port| o28m_gateway::LocalEngine {
        port,
        listens_on: None,
        service: engine.clone(),
        private_headers: &[],
    });
    let setup = Setup {
        engines: engines.into(),
        ..Setup::default()
    };
    let running = start(setup).await;
    for (port, host) in [(80, "localhost"), (8080, "localhost:8080")] {
        running
            .put(&[
                ("services", service("s", port, json!({"host": "localhost"}))),
                ("routes", route("r", "s", json!({"paths": ["/"]}))),
            ])
            .await;
        assert_eq!(running.get("/").await.status, 200);
        let request = engine.take().remove(0);
        assert_eq!(header(&request, "host").as_deref(), Some(host));
    }
}

#[tokio::test]
async fn proxy_case_030_request_id_is_ours_everywhere() {
    let upstream = Upstream::start(|_| {
        let response = Response::builder().header("x-kong-request-id", "theirs");
        response.body(Bytes::new()).unwrap()
    });
    let running = start_for(&upstream, Setup::default()).await;
    let reply = running
        .send("GET / HTTP/1.1\r\nHost: a\r\nX-Kong-Request-Id: abc")
        .await;
    let request_id = reply.header("x-kong-request-id").unwrap();
    assert_eq!(request_id.len(), 32);
    assert!(
        request_id
            .bytes()
            .all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'))
    );
    assert_eq!(
        header(&upstream.one(), "x-kong-request-id"),
        Some(request_id)
    );
    running.delete("routes", "r").await;
    let head = "GET / HTTP/1.1\r\nHost: a\r\nX-Kong-Request-Id: abc";
    let error = running.send(head).await;
    assert_eq!(error.header("x-kong-request-id").unwrap().len(), 32);
    assert_eq!(
        error.json()["request_id"].as_str(),
        error.header("x-kong-request-id").as_deref()
    );
}

#[tokio::test]
async fn proxied_responses_carry_latencies_and_the_upstreams_server() {
    let upstream = Upstream::start(|request| {
        let mut response = Response::new(Bytes::from_static(b"x"));
        if request.uri().path() == "/own" {
            response
                .headers_mut()
                .insert("server", "mine".parse().unwrap());
        }
        response
    });
    let running = start_for(&upstream, Setup::default()).await;
    for (target, server) in [("/own", "mine"), ("/none", "kong/3.9.3")] {
        let reply = running.get(target).await;
        assert_eq!(reply.header("server").as_deref(), Some(server));
        assert!(
            reply
                .header("x-kong-upstream-latency")
                .unwrap()
                .parse::<u64>()
                .is_ok()
        );
        assert!(
            reply
                .header("x-kong-proxy-latency")
                .unwrap()
                .parse::<u64>()
                .is_ok()
        );
        assert_eq!(reply.header("x-kong-response-latency"), None);
        assert!(reply.header("date").is_some());
        assert_eq!(reply.header("via"), None);
    }
}

#[tokio::test]
async fn proxy_case_031_text_without_a_charset_gets_one() {
    let upstream = Upstream::start(|request| {
        let content_type = match request.uri().path() {
            "/plain" => "text/plain",
            "/latin" => "text/plain; charset=latin1",
            "/html" => "Text/HTML;level=1",
            _ => "application/json",
        };
        let response = Response::builder().header("content-type", content_type);
        response.body(Bytes::from_static(b"{}")).unwrap()
    });
    let types = async |running: &Running| {
        let mut types = Vec::new();
        for target in ["/plain", "/latin", "/html", "/json"] {
            types.push(running.get(target).await.header("content-type").unwrap());
        }
        types
    };
    let running = start_for(&upstream, Setup::default()).await;
    assert_eq!(
        types(&running).await,
        [
            "text/plain; charset=UTF-8",
            "text/plain; charset=latin1",
            "Text/HTML;level=1; charset=UTF-8",
            "application/json"
        ]
    );
    for (charset, plain) in [
        ("off", "text/plain"),
        ("koi8-r", "text/plain; charset=koi8-r"),
    ] {
        let mut setup = Setup::default();
        setup.settings.charset = o28m_gateway::Charset::parse(charset).unwrap();
        let running = start_for(&upstream, setup).await;
        assert_eq!(
            types(&running).await[..2],
            [plain, "text/plain; charset=latin1"]
        );
    }
    assert!(o28m_gateway::Charset::parse("a; b").is_err());
}

#[tokio::test]
async fn proxy_case_032_internal_headers_of_responses_end_here() {
    let upstream = Upstream::start(|request| {
        let response = Response::builder()
            .header("x-accel-redirect", "/x")
            .header("x-secret", "1")
            .header("x-kept", "1")
            .header("set-cookie", "a=1")
            .header("set-cookie", "b=2");
        let response = match request.uri().path() {
            // Our own listener would take it for its own word about the connection otherwise.
            "/named" => response.header("connection", "X-Secret"),
            _ => response,
        };
        response.body(Bytes::from_static(b"{}")).unwrap()
    });
    let running = start_for(&upstream, Setup::default()).await;
    for (target, secret) in [("/named", None), ("/plain", Some("1"))] {
        let reply = running.get(target).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, "{}"));
        assert_eq!(reply.header("x-secret").as_deref(), secret, "{target}");
        assert_eq!(reply.header("x-accel-redirect"), None);
        assert_eq!(reply.header("x-kept").as_deref(), Some("1"));
        assert_eq!(reply.header("set-cookie").as_deref(), Some("a=1|b=2"));
    }
    assert_eq!(upstream.take().len(), 2, "nothing was redirected");
}

#[tokio::test]
async fn errors_of_the_upstream_pass_unchanged() {
    let upstream = Upstream::start(|_| {
        Response::builder()
            .status(503)
            .body(Bytes::from_static(b"sorry"))
            .unwrap()
    });
    let running = start_for(&upstream, Setup::default()).await;
    let reply = running.get("/").await;
    assert_eq!((reply.status, reply.body.as_str()), (503, "sorry"));
    assert_eq!(upstream.take().len(), 1);
}

#[tokio::test]
async fn head_responses_keep_their_length() {
    let upstream = Upstream::ok();
    let running = start_for(&upstream, Setup::default()).await;
    let reply = running.send("HEAD / HTTP/1.1\r\nHost: a").await;
    assert_eq!(reply.header("content-length").as_deref(), Some("5"));
    assert_eq!(reply.body, "");
    assert_eq!(upstream.one().method(), "HEAD");
}

#[tokio::test]
async fn names_keep_their_letters_and_their_order_in_both_directions() {
    let (heads, mut received) = tokio::sync::mpsc::channel(8);
    let (upstream, _) = misbehaving(move |mut stream, _| {
        let heads = heads.clone();
        async move {
            let head = read_until(&mut stream, "\r\n\r\n").await;
            heads.send(head).await.unwrap();
            let answer = b"HTTP/1.1 200 OK\r\nconnection: x-gone\r\nX-ODD: 1\r\nX-Gone: 1\r\n\
                set-cookie: a\r\nETAG: \"b\"\r\nSet-Cookie: c\r\ncontent-length: 2\r\n\r\nok";
            stream.write_all(answer).await.unwrap();
        }
    })
    .await;
    let running = start(Setup::default()).await;
    let service = service("s", upstream.port(), json!({}));
    let route = route("r", "s", json!({"paths": ["/"]}));
    running
        .put(&[("services", service), ("routes", route)])
        .await;
    let mut client = TcpStream::connect(running.address).await.unwrap();
    let request = "GET / HTTP/1.1\r\nKeep-Alive: 1\r\nhOST: a\r\nX-one: 1\r\nx-TWO: 2\r\nX-ONE: 3\r\n\
        aCCept: x\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let answer = read_until(&mut client, "\r\n\r\nok").await;

    let head = received.recv().await.unwrap();
    let names = |head: &str| {
        let lines = head.lines().skip(1);
        let lines = lines.filter_map(|line| line.split_once(": "));
        lines.map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        names(&head),
        [
            "Host",
            "X-one",
            "x-TWO",
            "X-ONE",
            "aCCept",
            "Connection",
            "X-Forwarded-For",
            "X-Real-IP",
            "X-Forwarded-Proto",
            "X-Forwarded-Host",
            "X-Forwarded-Port",
            "X-Forwarded-Path",
            "X-Kong-Request-Id",
        ],
        "{head}"
    );
    assert_eq!(
        names(&answer),
        [
            "X-ODD",
            "set-cookie",
            "ETAG",
            "Set-Cookie",
            "X-Kong-Upstream-Latency",
            "X-Kong-Proxy-Latency",
            "Server",
            "X-Kong-Request-Id",
            "Date",
            "Content-Length",
        ],
        "{answer}"
    );
}
