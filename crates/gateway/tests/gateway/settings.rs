//! What settings change (spec gateway-proxy 2, 5 to 9).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use o28m_gateway::{AccessLogFormat, Error, ErrorForms, Gateway, Headers, Settings};
use o28m_net::client::TlsPolicy;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::*;
use crate::tls::certificate;

fn setup(change: impl FnOnce(&mut Settings)) -> Setup {
    let mut setup = Setup::default();
    change(&mut setup.settings);
    setup
}

/// An upstream with a name, and a status that plugins and clients see.
fn named() -> Upstream {
    Upstream::start(|request| {
        let status = match request.uri().path() {
            "/teapot" => 418,
            _ => 200,
        };
        let response = Response::builder().status(status).header("server", "mine");
        response.body(Bytes::from_static(b"hello")).unwrap()
    })
}

const OURS: [&str; 6] = [
    "server",
    "x-kong-proxy-latency",
    "x-kong-upstream-latency",
    "x-kong-response-latency",
    "x-kong-upstream-status",
    "x-kong-request-id",
];

fn present(reply: &Reply) -> Vec<&'static str> {
    let there = |name: &&str| reply.header(name).is_some();
    OURS.into_iter().filter(there).collect()
}

#[tokio::test]
async fn proxy_case_029_only_the_chosen_headers_are_added() {
    let upstream = named();
    let all = [
        "server_tokens",
        "latency_tokens",
        "X-Kong-Request-Id",
        "x-kong-upstream-status",
    ];
    for (names, proxied, missed) in [
        (&[][..], &["server"][..], &[][..]),
        (
            &["X-Kong-Upstream-Status"],
            &["server", "x-kong-upstream-status"],
            &[],
        ),
        (&["Via"], &["server"], &[]),
        (&["SERVER"], &["server"], &["server"]),
        (
            &["x-kong-proxy-latency"],
            &["server", "x-kong-proxy-latency"],
            &[],
        ),
        (
            &["X-Kong-Upstream-Latency"],
            &["server", "x-kong-upstream-latency"],
            &[],
        ),
        (
            &["X-Kong-Response-Latency"],
            &["server"],
            &["x-kong-response-latency"],
        ),
        (
            &all,
            &[
                "server",
                "x-kong-proxy-latency",
                "x-kong-upstream-latency",
                "x-kong-upstream-status",
                "x-kong-request-id",
            ],
            &["server", "x-kong-response-latency", "x-kong-request-id"],
        ),
    ] {
        let headers = Headers::named(names.iter().copied());
        let running = start_for(&upstream, setup(|it| it.headers = headers)).await;
        let reply = running.get("/teapot").await;
        assert_eq!(present(&reply), proxied, "{names:?}");
        assert_eq!(reply.header("server").as_deref(), Some("mine"), "{names:?}");
        assert_eq!(reply.header("via"), None);
        let status = reply.header("x-kong-upstream-status");
        assert!(status.is_none_or(|it| it == "418"));
        running.delete("routes", "r").await;
        let reply = running.get("/").await;
        assert_eq!(reply.status, 404);
        assert_eq!(present(&reply), missed, "{names:?}");
    }
}

#[tokio::test]
async fn the_upstreams_status_is_told_although_a_plugin_changed_it() {
    let (address, _) = misbehaving(|stream, _| async move { drop(stream) }).await;
    let upstream = named();
    let (mut setup, _) = crate::plugins::setup();
    setup.settings.headers = Headers::named(["x-kong-upstream-status"]);
    let running = start_for(&upstream, setup).await;
    let teapot = plugin("p", "late", json!({"do": "teapot"}), json!({}));
    running.put(&[("plugins", teapot)]).await;
    let reply = running.get("/").await;
    assert_eq!(reply.status, 418);
    assert_eq!(
        reply.header("x-kong-upstream-status").as_deref(),
        Some("200")
    );
    // What stands for the answer that did not come counts as one.
    let down = service("s", address.port(), json!({"retries": 0}));
    running.put(&[("services", down)]).await;
    let reply = running.get("/").await;
    assert_eq!(
        reply.header("x-kong-upstream-status").as_deref(),
        Some("502")
    );
}

#[tokio::test]
async fn the_product_has_another_name() {
    let upstream = Upstream::ok();
    let token = || Some("gateway/1".parse().unwrap());
    let running = start_for(&upstream, setup(|it| it.server_token = token())).await;
    for target in ["/", "/../"] {
        let reply = running.get(target).await;
        assert_eq!(
            reply.header("server").as_deref(),
            Some("gateway/1"),
            "{target}"
        );
    }
}

#[tokio::test]
async fn the_request_id_may_stay_here() {
    let upstream = Upstream::ok();
    let running = start_for(&upstream, setup(|it| it.hides_request_id = true)).await;
    let reply = running.get("/").await;
    assert!(reply.header("x-kong-request-id").is_some());
    assert_eq!(header(&upstream.one(), "x-kong-request-id"), None);
    let theirs = "GET / HTTP/1.1\r\nHost: a\r\nX-Kong-Request-Id: abc";
    assert_ne!(
        running
            .send(theirs)
            .await
            .header("x-kong-request-id")
            .as_deref(),
        Some("abc")
    );
    assert_eq!(
        header(&upstream.one(), "x-kong-request-id").as_deref(),
        Some("abc")
    );
}

#[tokio::test]
async fn identity_headers_of_clients_may_pass() {
    let upstream = Upstream::ok();
    let running = start_for(&upstream, setup(|it| it.keeps_identity_headers = true)).await;
    let head = "GET / HTTP/1.1\r\nHost: a\r\nX-Consumer-ID: 1\r\nX-Kong-Request-Debug: 1";
    running.send(head).await;
    let request = upstream.one();
    assert_eq!(header(&request, "x-consumer-id").as_deref(), Some("1"));
    assert_eq!(header(&request, "x-kong-request-debug"), None);
}

/// A head that asks to be told to continue.
fn expecting(target: &str, length: usize) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {length}")
}

#[tokio::test]
async fn proxy_case_038_bodies_over_the_limit_are_refused() {
    let upstream = Upstream::ok();
    let running = start_for(&upstream, setup(|it| it.body_bytes_max = Some(1024))).await;
    for buffering in [true, false] {
        let changes = json!({"paths": ["/"], "request_buffering": buffering});
        running.put(&[("routes", route("r", "s", changes))]).await;
        // Told by its length: refused before a byte of it, and before routing.
        for target in ["/", "/../nowhere"] {
            let reply = running.send(&expecting(target, 2048)).await;
            assert_eq!(reply.status, 413, "{target}");
            assert!(
                reply.body.starts_with("Payload too large\nrequest_id: "),
                "{reply:?}"
            );
            assert_eq!(
                reply.header("content-type").as_deref(),
                Some("text/plain; charset=utf-8")
            );
        }
        assert!(upstream.take().is_empty());
        // In chunks: refused where it becomes too long.
        let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
        let head =
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
        let reply = raw(
            running.address,
            format!("{head}{chunk}{chunk}0\r\n\r\n").as_bytes(),
        )
        .await;
        assert_eq!(reply.status, 413, "{reply:?}");
        assert!(reply.body.starts_with("Payload too large\n"), "{reply:?}");
        // An upstream that got the begin of a streamed body got no whole one.
        assert!(upstream.take().iter().all(|it| it.body().is_empty()));
        // As long as it may be.
        let reply = raw(
            running.address,
            format!("{head}{chunk}0\r\n\r\n").as_bytes(),
        )
        .await;
        assert_eq!(
            (reply.status, upstream.take().pop().unwrap().body().len()),
            (200, 1024)
        );
        let whole = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1024\r\n\r\n{}",
            "x".repeat(1024)
        );
        assert_eq!(raw(running.address, whole.as_bytes()).await.status, 200);
        assert_eq!(upstream.take().pop().unwrap().body().len(), 1024);
    }
}

fn forms(change: impl FnOnce(&mut ErrorForms)) -> Setup {
    setup(|it| change(&mut it.errors))
}

#[tokio::test]
async fn proxy_case_041_error_templates_have_two_places() {
    let json = "{\"status\":\"error\",\"text\":\"%s\",\"id\":\"%s\"}";
    let running = start(forms(|it| {
        it.json = Some(json.to_owned());
        it.plain = Some("100%: %s".to_owned());
    }))
    .await;
    let reply = running.get("/").await;
    let id = reply.header("x-kong-request-id").unwrap();
    assert_eq!(
        reply.json(),
        json!({"status": "error", "text": "no Route matched with those values", "id": id})
    );
    assert_eq!(
        reply.header("content-length"),
        Some(reply.body.len().to_string())
    );
    assert_eq!(
        reply.header("content-type").as_deref(),
        Some("application/json; charset=utf-8")
    );
    // Errors of the server underneath as well; formats without a template keep Kong's form.
    assert_eq!(
        running.send("GET / HTTP/1.1").await.body,
        "100%: Bad request"
    );
    let html = running
        .send("GET / HTTP/1.1\r\nHost: a\r\nAccept: text/html")
        .await;
    assert!(html.body.starts_with("<!doctype html>"), "{html:?}");
    let head = running.send("HEAD / HTTP/1.1\r\nHost: a").await;
    assert_eq!((head.status, head.body.as_str()), (404, ""));
    let three = forms(|it| it.json = Some("%s %s %s".to_owned())).settings;
    let metrics = o28m_telemetry::metrics::Registry::default();
    let gateway = Gateway::new(three, vec![], vec![], &metrics, ambient());
    let Some(Error::ErrorTemplate {
        format: "json",
        count: 3,
    }) = gateway.err()
    else {
        panic!("three places for two values");
    };
}

#[tokio::test]
async fn messages_in_templates_are_escaped() {
    let upstream = Upstream::ok();
    let running = start_for(
        &upstream,
        forms(|it| {
            it.json = Some("\"%s\"".to_owned());
            it.html = Some("<p>%s".to_owned());
        }),
    )
    .await;
    let odd = service("s", 80, json!({"protocol": "a\"<b>"}));
    running.put(&[("services", odd)]).await;
    let json = running.get("/").await;
    assert_eq!(json.json(), "service protocol a\"<b> is not supported");
    let html = running
        .send("GET / HTTP/1.1\r\nHost: a\r\nAccept: text/html")
        .await;
    assert_eq!(
        html.body,
        "<p>service protocol a&quot;&lt;b&gt; is not supported"
    );
}

#[tokio::test]
async fn errors_have_a_default_type() {
    for (name, start_of_body) in [
        ("application/json", "{"),
        ("application/xml", "<?xml"),
        ("text/html", "<!doctype"),
        ("text/plain", "Bad request\n"),
        ("", "Bad request\n"),
    ] {
        let running = start(forms(|it| it.default_type = name.to_owned())).await;
        let reply = running.send("GET / HTTP/1.1").await;
        assert!(reply.body.starts_with(start_of_body), "{name}: {reply:?}");
    }
    let settings = forms(|it| it.default_type = "text/css".to_owned()).settings;
    assert!(matches!(settings.check(), Err(Error::ErrorType(_))));
}

#[tokio::test]
async fn minimal_errors_name_no_hosts() {
    let running = start(forms(|it| it.minimal = true)).await;
    // No resolver is asked for what is no name; the answer to it is none of the name's absence.
    let odd = service("s", 80, json!({"host": "a".repeat(300)}));
    let route = route("r", "s", json!({"paths": ["/"]}));
    running.put(&[("services", odd), ("routes", route)]).await;
    let reply = running.get("/").await;
    assert!(matches!(reply.status, 500 | 503), "{reply:?}");
    assert!(!reply.body.contains("aaa"), "{reply:?}");
}

#[tokio::test]
async fn ports_are_those_that_clients_know() {
    let upstream = Upstream::ok();
    // The port of the listener is known when it listens: map all of them.
    let maps = (1024..=u16::MAX).map(|port| (port, 443)).collect();
    let running = start_for(&upstream, setup(|it| it.port_maps = maps)).await;
    let hosts = json!({"hosts": ["a.example.com:443"]});
    running.put(&[("routes", route("r", "s", hosts))]).await;
    assert_eq!(running.get("/").await.status, 200);
    assert_eq!(
        header(&upstream.one(), "x-forwarded-port").as_deref(),
        Some("443")
    );
    let running = start_for(&upstream, Setup::default()).await;
    let hosts = json!({"hosts": ["a.example.com:443"]});
    running.put(&[("routes", route("r", "s", hosts))]).await;
    assert_eq!(running.get("/").await.status, 404);
}

#[tokio::test]
async fn requests_learn_what_they_met_when_they_may_ask() {
    let upstream = Upstream::ok();
    let asking = "GET / HTTP/1.1\r\nHost: a\r\nKong-Debug: 1";
    let debug = |reply: &Reply| {
        let names = [
            "kong-route-id",
            "kong-route-name",
            "kong-service-id",
            "kong-service-name",
        ];
        names.map(|name| reply.header(name))
    };
    let running = start_for(&upstream, setup(|it| it.debug_headers = true)).await;
    let told = [id("r"), "r".to_owned(), id("s"), "s".to_owned()].map(Some);
    assert_eq!(debug(&running.send(asking).await), told);
    let none = [const { None }; 4];
    assert_eq!(debug(&running.get("/").await), none);
    let empty = "GET / HTTP/1.1\r\nHost: a\r\nKong-Debug:";
    assert_eq!(debug(&running.send(empty).await), none);
    let alone = route("r", "", json!({"paths": ["/"], "name": null}));
    running.put(&[("routes", alone)]).await;
    let reply = running.send(asking).await;
    assert_eq!(
        (reply.status, debug(&reply)),
        (503, [Some(id("r")), None, None, None])
    );
    let running = start_for(&upstream, Setup::default()).await;
    assert_eq!(debug(&running.send(asking).await), none);
}

/// Sends a request over TLS, naming a server in the handshake.
async fn over_tls(running: &Running, server_name: &'static str, host: &str) -> String {
    let config = o28m_net::client::tls_config(&TlsPolicy::default())
        .await
        .unwrap();
    let stream = TcpStream::connect(running.address).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from(server_name).unwrap();
    let connector = tokio_rustls::TlsConnector::from(config);
    let mut stream = patiently("handshake", connector.connect(name, stream))
        .await
        .unwrap();
    let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let reading = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer);
    let _ended = patiently("answer", reading).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn hosts_have_to_be_those_of_the_handshake_when_that_is_asked_for() {
    let upstream = Upstream::ok();
    for strict in [false, true] {
        let mut setup = setup(|it| it.strict_host = strict);
        setup.tls = Some(certificate());
        let running = start_for(&upstream, setup).await;
        for (name, host, fits) in [
            ("a.example.com", "A.example.com:443", true),
            ("a.example.com", "a.example.com.", true),
            ("a.example.com", "b.example.com", false),
            ("127.0.0.1", "b.example.com", true),
        ] {
            let answer = over_tls(&running, name, host).await;
            let status = if fits || !strict { "200 OK" } else { "421 " };
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}")),
                "{name} {host}: {answer}"
            );
            assert_eq!(answer.contains("Misdirected request\n"), !fits && strict);
        }
    }
}

#[tokio::test]
async fn clients_are_named_by_the_proxy_protocol() {
    let upstream = Upstream::ok();
    let header_of = |from: &str| format!("PROXY TCP4 {from} 10.0.0.1 4711 443\r\n");
    for (trusted, header_name, client) in [
        ("127.0.0.1", "proxy_protocol", "192.0.2.7"),
        // Nobody vouches for who connects, or the client is told in another way.
        ("10.0.0.0/8", "proxy_protocol", "127.0.0.1"),
        ("127.0.0.1", "X-Real-IP", "1.1.1.1"),
    ] {
        let mut setup = setup(|it| {
            it.trusted_ips = vec![trusted.to_owned()];
            it.real_ip_header = header_name.to_owned();
        });
        setup.proxy_protocol = true;
        let running = start_for(&upstream, setup).await;
        let get = "GET / HTTP/1.1\r\nHost: a\r\nX-Real-IP: 1.1.1.1\r\nConnection: close\r\n\r\n";
        let bytes = format!("{}{get}", header_of("192.0.2.7"));
        assert_eq!(raw(running.address, bytes.as_bytes()).await.status, 200);
        let request = upstream.one();
        assert_eq!(
            header(&request, "x-real-ip").as_deref(),
            Some(client),
            "{trusted}"
        );
        assert_eq!(header(&request, "x-forwarded-for").as_deref(), Some(client));
    }
}

#[tokio::test]
async fn early_hints_pass_when_they_may() {
    let (address, _) = misbehaving(|mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let answer =
            b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\n\
            HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        stream.write_all(answer).await.unwrap();
    })
    .await;
    for (early_hints, version, hinted) in [
        (true, "1.1", true),
        (true, "1.0", false),
        (false, "1.1", false),
    ] {
        let running = start(setup(|it| it.early_hints = early_hints)).await;
        let service = service("s", address.port(), json!({}));
        let route = route("r", "s", json!({"paths": ["/"]}));
        running
            .put(&[("services", service), ("routes", route)])
            .await;
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        let head = format!("GET / HTTP/{version}\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, "\r\n\r\nok").await;
        let hint = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\n";
        assert_eq!(answer.starts_with(hint), hinted, "{answer}");
        assert_eq!(answer.contains("103"), hinted, "{answer}");
    }
}

#[tokio::test]
async fn websockets_have_a_time_of_their_own() {
    let (address, _) = misbehaving(|mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        read_until(&mut stream, "never sent").await;
    })
    .await;
    let idle = Some(Duration::from_millis(100));
    let running = start(setup(|it| it.websocket_idle_timeout = idle)).await;
    let service = service("s", address.port(), json!({}));
    let route = route("r", "s", json!({"paths": ["/"]}));
    running
        .put(&[("services", service), ("routes", route)])
        .await;
    let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    // Closed long before the read_timeout of 20 s.
    let began = std::time::Instant::now();
    assert_eq!(raw(running.address, head.as_bytes()).await.status, 101);
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn all_attempts_together_have_a_deadline() {
    let (address, count) = misbehaving(|stream, _| async move {
        let _held = stream;
        std::future::pending().await
    })
    .await;
    let limit = Some(Duration::from_millis(250));
    let running = start(setup(|it| it.request_timeout = limit)).await;
    let slow = json!({"read_timeout": 100, "retries": 50});
    let route = route("r", "s", json!({"paths": ["/"]}));
    running
        .put(&[
            ("services", service("s", address.port(), slow)),
            ("routes", route),
        ])
        .await;
    let reply = running.get("/").await;
    assert_eq!(reply.status, 504);
    assert!(reply.header("x-kong-upstream-latency").is_some());
    let tries = count.load(std::sync::atomic::Ordering::SeqCst);
    assert!((1..=3).contains(&tries), "{tries}");
}

#[tokio::test]
async fn retries_have_a_budget() {
    let (address, count) = misbehaving(|stream, _| async move { drop(stream) }).await;
    let running = start(setup(|it| it.retry_permille = Some(500))).await;
    let tried = json!({"retries": 100});
    let route = route("r", "s", json!({"paths": ["/"]}));
    running
        .put(&[
            ("services", service("s", address.port(), tried)),
            ("routes", route),
        ])
        .await;
    let mut tries = Vec::new();
    for _ in 0..5 {
        let before = count.load(std::sync::atomic::Ordering::SeqCst);
        assert_eq!(running.get("/").await.status, 502);
        tries.push(count.load(std::sync::atomic::Ordering::SeqCst) - before);
    }
    // The reserve, and then one for every two requests.
    assert_eq!(tries, [11, 1, 2, 1, 2]);
}

#[tokio::test]
async fn the_access_log_has_kongs_own_form() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let upstream = Upstream::ok();
    let running = start_for(
        &upstream,
        setup(|it| {
            it.access_log = Some(path.clone());
            it.access_log_format = AccessLogFormat::Kong;
        }),
    )
    .await;
    let head = "GET /a?q=%22 HTTP/1.1\r\nHost: a\r\nAuthorization: Basic dXNlcjpwYXNz\r\nReferer: http://r/\r\n\
        User-Agent: x\"\\y";
    let reply = running.send(head).await;
    let id = reply.header("x-kong-request-id").unwrap();
    running.send("GET / HTTP/1.0").await;
    let lines = || std::fs::read_to_string(&path).unwrap();
    eventually("two lines", || lines().lines().count() == 2).await;
    let text = lines();
    let mut lines = text.lines();
    let wanted = format!(
        "127.0.0.1 - user [24/Nov/2026:07:00:16 +0000] \"GET /a?q=%22 HTTP/1.1\" 200 5 \"http://r/\" \
         \"x\\x22\\x5Cy\" kong_request_id: \"{id}\""
    );
    assert_eq!(lines.next(), Some(wanted.as_str()));
    let plain = lines.next().unwrap();
    let start = "127.0.0.1 - - [24/Nov/2026:07:00:16 +0000] \"GET / HTTP/1.0\" 200 5 \"-\" \"-\" kong_request_id: \"";
    assert!(plain.starts_with(start), "{plain}");
    assert!(!text.contains("pass"), "{text}");
}

#[tokio::test]
async fn trailers_pass_to_those_who_want_them() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let heads = seen.clone();
    let (address, _) = misbehaving(move |mut stream, _| {
        let heads = heads.clone();
        async move {
            let request = read_until(&mut stream, "0\r\n\r\n").await;
            heads.lock().unwrap().push(request);
            let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
                2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n";
            stream.write_all(answer).await.unwrap();
        }
    })
    .await;
    let running = start(Setup::default()).await;
    let streamed = json!({"paths": ["/"], "request_buffering": false});
    running
        .put(&[
            ("services", service("s", address.port(), json!({}))),
            ("routes", route("r", "s", streamed)),
        ])
        .await;
    for (te, trailers) in [("TE: trailers\r\n", true), ("", false)] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        let request = format!(
            "POST / HTTP/1.1\r\nHost: a\r\n{te}Transfer-Encoding: chunked\r\n\r\n\
             3\r\nabc\r\n0\r\nX-Up: 1\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let end = if trailers {
            "0\r\nX-Sum: 7\r\n\r\n"
        } else {
            "0\r\n\r\n"
        };
        let answer = read_until(&mut stream, end).await;
        assert_eq!(answer.contains("Trailer: X-Sum"), trailers, "{answer}");
    }
    // Those of requests end here.
    let seen = seen.lock().unwrap();
    assert!(
        seen.len() == 2
            && seen
                .iter()
                .all(|it| !it.to_ascii_lowercase().contains("x-up"))
    );
}
