//! Errors of ours (spec gateway-proxy 6).

use serde_json::json;

use crate::support::*;

#[tokio::test]
async fn proxy_case_033_errors_take_the_form_asked_for() {
    let running = start(Setup::default()).await;
    let head = |accept: &str| format!("GET / HTTP/1.1\r\nHost: a\r\nAccept: {accept}");
    let html = running
        .send(&head("application/json;q=0.9,text/html,text/plain;q=0.9"))
        .await;
    let id = html.header("x-kong-request-id").unwrap();
    let expected = format!(
        "<!doctype html>\n<html>\n  <head>\n    <meta charset=\"utf-8\">\n    <title>Error</title>\n  </head>\n  \
         <body>\n    <h1>Error</h1>\n    <p>no Route matched with those values.</p>\n    \
         <p>request_id: {id}</p>\n  </body>\n</html>\n"
    );
    assert_eq!(html.body, expected);
    assert_eq!(
        html.header("content-type").as_deref(),
        Some("text/html; charset=utf-8")
    );
    let xml = running.send(&head("application/xml")).await;
    assert!(xml.body.contains("<requestid>"), "{xml:?}");
    let json = running.send(&head("text/xml")).await;
    assert_eq!(json.json()["message"], "no Route matched with those values");
}

/// A port that nothing listens on.
async fn closed_port() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test]
async fn proxy_case_034_unreachable_upstream_is_502_in_plain_text() {
    let running = start(Setup::default()).await;
    let service = service("s", closed_port().await, json!({}));
    let route = route("r", "s", json!({"paths": ["/"]}));
    running
        .put(&[("services", service), ("routes", route)])
        .await;
    let message = "An invalid response was received from the upstream server";
    let reply = running.get("/").await;
    let id = reply.header("x-kong-request-id").unwrap();
    assert_eq!(reply.status, 502);
    assert_eq!(reply.body, format!("{message}\nrequest_id: {id}\n"));
    assert_eq!(
        reply.header("content-type").as_deref(),
        Some("text/plain; charset=utf-8")
    );
    assert!(reply.header("x-kong-upstream-latency").is_some());
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 0";
    assert_eq!(running.send(head).await.json()["message"], message);
    let reply = running.send("HEAD / HTTP/1.1\r\nHost: a").await;
    assert_eq!((reply.status, reply.body.as_str()), (502, ""));
}

#[tokio::test]
async fn proxy_case_034_silent_upstream_is_504() {
    let (address, _) = misbehaving(|stream, _| async move {
        let _held = stream;
        std::future::pending().await
    })
    .await;
    let running = start(Setup::default()).await;
    let quick = json!({"read_timeout": 50, "retries": 0});
    let service = service("s", address.port(), quick);
    let route = route("r", "s", json!({"paths": ["/"]}));
    running
        .put(&[("services", service), ("routes", route)])
        .await;
    let reply = running.get("/").await;
    assert_eq!(reply.status, 504);
    assert!(
        reply
            .body
            .starts_with("The upstream server is timing out\n"),
        "{reply:?}"
    );
}

#[tokio::test]
async fn proxy_case_034_an_upstream_that_takes_no_connections_is_504() {
    // A full queue: the kernel leaves further connections without an answer.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    for _ in 0..16 {
        let connecting = tokio::net::TcpStream::connect(address);
        let patience = std::time::Duration::from_millis(50);
        match tokio::time::timeout(patience, connecting).await {
            Ok(stream) => waiting.push(stream.unwrap()),
            Err(_) => break,
        }
    }
    let running = start(Setup::default()).await;
    let quick = json!({"connect_timeout": 100, "retries": 1});
    let service = service("s", address.port(), quick);
    let route = route("r", "s", json!({"paths": ["/"]}));
    running
        .put(&[("services", service), ("routes", route)])
        .await;
    let reply = running.get("/").await;
    assert_eq!(reply.status, 504);
    let id = reply.header("x-kong-request-id").unwrap();
    let message = "The upstream server is timing out";
    assert_eq!(reply.body, format!("{message}\nrequest_id: {id}\n"));
}

#[tokio::test]
async fn proxy_case_035_global_plugins_see_requests_without_a_host() {
    let (setup, journal) = crate::plugins::setup();
    let upstream = Upstream::ok();
    let running = start_for(&upstream, setup).await;
    let late = plugin("p", "late", json!({}), json!({}));
    running.put(&[("plugins", late)]).await;
    let reply = running.send("GET / HTTP/1.1").await;
    assert_eq!(reply.status, 400);
    assert_eq!(reply.header("x-filtered").as_deref(), Some("late"));
    eventually("the log phase", || {
        journal
            .lock()
            .unwrap()
            .contains(&"log 400 Error late".to_owned())
    })
    .await;
}

#[tokio::test]
async fn proxy_case_035_host_is_needed_on_http_1_1_only() {
    let upstream = Upstream::ok();
    let running = start_for(&upstream, Setup::default()).await;
    let reply = running.send("GET / HTTP/1.1").await;
    assert_eq!(reply.status, 400);
    assert!(
        reply.body.starts_with("Bad request\nrequest_id: "),
        "{reply:?}"
    );
    assert_eq!(reply.header("server").as_deref(), Some("kong/3.9.3"));
    assert!(reply.header("x-kong-request-id").is_some());
    assert_eq!(running.send("GET / HTTP/1.0").await.status, 200);
    assert_eq!(
        header(&upstream.one(), "host"),
        Some(upstream.address.to_string())
    );
}

#[tokio::test]
async fn proxy_case_036_large_heads_are_refused() {
    let upstream = Upstream::ok();
    let running = start_for(&upstream, Setup::default()).await;
    let too_large = "Request header or cookie too large\n";
    let header = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX-Big: {}",
        "x".repeat(10 * 1024)
    );
    let many: String = (0..1001).map(|at| format!("\r\nX-{at}: 1")).collect();
    for head in [header, format!("GET / HTTP/1.1\r\nHost: a{many}")] {
        let reply = running.send(&head).await;
        assert_eq!(reply.status, 400);
        assert!(reply.body.starts_with(too_large), "{reply:?}");
    }
    let line = format!("GET /{} HTTP/1.1\r\nHost: a", "x".repeat(9 * 1024));
    let reply = running.send(&line).await;
    assert_eq!(reply.status, 414);
    assert!(reply.body.starts_with("URI too long\n"), "{reply:?}");
    assert!(upstream.take().is_empty());
}

#[tokio::test]
async fn proxy_case_037_trace_and_ambiguous_framing_are_refused() {
    let upstream = Upstream::ok();
    let running = start_for(&upstream, Setup::default()).await;
    let reply = running.send("TRACE / HTTP/1.1\r\nHost: a").await;
    assert_eq!(reply.status, 405);
    assert!(reply.body.starts_with("Method not allowed\n"), "{reply:?}");
    for head in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5",
        "GET / HTTP/1.1\r\nHost: a\r\nX-A : 1",
        "GET / HTTP/1.1\nHost: a",
        "GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\nX-B: 2",
        "GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\rX-B: 2",
    ] {
        // Whatever follows on the connection is not looked at.
        let two = format!("{head}\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let reply = raw(running.address, two.as_bytes()).await;
        assert_eq!(reply.status, 400, "{head}");
        assert_eq!(
            reply.header("connection").as_deref(),
            Some("close"),
            "{head}"
        );
        assert!(!reply.body.contains("HTTP/1.1"), "{reply:?}");
    }
    assert!(upstream.take().is_empty());
}
