//! Bodies, tunnels and clients that leave.

use bytes::Bytes;
use http::Response;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::*;

#[tokio::test]
async fn proxy_case_049_expectations_are_met_by_us() {
    let upstream = Upstream::ok();
    let running = start_for(&upstream, Setup::default()).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let body = "x".repeat(1024 * 1024);
    let head = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    read_until(&mut stream, "HTTP/1.1 100 Continue\r\n\r\n").await;
    stream.write_all(body.as_bytes()).await.unwrap();
    read_until(&mut stream, "HTTP/1.1 200 OK\r\n").await;
    let request = upstream.one();
    assert_eq!(header(&request, "expect"), None);
    assert_eq!(request.body().len(), body.len());
}

#[tokio::test]
async fn a_refused_request_is_not_told_to_continue() {
    let running = start(Setup::default()).await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5";
    assert_eq!(running.send(head).await.status, 404);
}

#[tokio::test]
async fn lengths_are_right_for_every_kind_of_body() {
    let upstream = Upstream::ok();
    let running = start_for(&upstream, Setup::default()).await;
    for (request, length, body) in [
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            None,
            "",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            Some("0"),
            "",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc",
            Some("3"),
            "abc",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
            Some("5"),
            "abcde",
        ),
    ] {
        assert_eq!(raw(running.address, request.as_bytes()).await.status, 200);
        let received = upstream.one();
        assert_eq!(
            header(&received, "content-length").as_deref(),
            length,
            "{request}"
        );
        assert_eq!(received.body(), body);
    }
}

#[tokio::test]
async fn proxy_case_051_large_response_heads_pass() {
    let upstream = Upstream::start(|_| {
        let mut response = Response::new(Bytes::new());
        for at in 0..30 {
            let name: http::HeaderName = format!("x-{at}").parse().unwrap();
            response
                .headers_mut()
                .insert(name, "x".repeat(1024).parse().unwrap());
        }
        response
    });
    let running = start_for(&upstream, Setup::default()).await;
    let reply = running.get("/").await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("x-29").unwrap().len(), 1024);
}

#[tokio::test]
async fn responses_are_passed_on_as_they_come() {
    let (address, _) = misbehaving(|mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n";
        stream.write_all(head).await.unwrap();
        read_until(&mut stream, "never sent").await;
    })
    .await;
    let running = start(Setup::default()).await;
    let service = service("s", address.port(), json!({}));
    let route = route("r", "s", json!({"paths": ["/"]}));
    running
        .put(&[("services", service), ("routes", route)])
        .await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    read_until(&mut stream, "first").await;
}

#[tokio::test]
async fn proxy_case_048_websockets_are_carried() {
    let (address, _) = misbehaving(|mut stream, _| async move {
        let head = read_until(&mut stream, "\r\n\r\n").await.to_ascii_lowercase();
        assert!(head.contains("connection: keep-alive, upgrade\r\n"), "{head}");
        assert!(head.contains("upgrade: websocket\r\n"), "{head}");
        assert!(head.contains("sec-websocket-key: x\r\n"), "{head}");
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        let (mut reader, mut writer) = stream.split();
        tokio::io::copy(&mut reader, &mut writer).await.unwrap();
    })
    .await;
    let running = start(Setup::default()).await;
    let service = service("s", address.port(), json!({}));
    let route = route("r", "s", json!({"paths": ["/"]}));
    running
        .put(&[("services", service), ("routes", route)])
        .await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: x\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let head = read_until(&mut stream, "\r\n\r\n")
        .await
        .to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(
        head.contains("upgrade: websocket\r\n") && head.contains("connection: upgrade\r\n"),
        "{head}"
    );
    stream.write_all(b"ping").await.unwrap();
    read_until(&mut stream, "ping").await;
}

#[tokio::test]
async fn an_upstream_cannot_switch_protocols_unasked() {
    let (address, _) = misbehaving(|mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        read_until(&mut stream, "never sent").await;
    })
    .await;
    let running = start(Setup::default()).await;
    let service = service("s", address.port(), json!({"retries": 0}));
    let route = route("r", "s", json!({"paths": ["/"]}));
    running
        .put(&[("services", service), ("routes", route)])
        .await;
    assert_eq!(running.get("/").await.status, 502);
}

#[tokio::test]
async fn trailers_pass_to_clients_that_want_them() {
    let (address, _) = misbehaving(|mut stream, _| async move {
        let answer = b"HTTP/1.1 200 OK\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n\
            2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n";
        for _ in 0..2 {
            read_until(&mut stream, "\r\n\r\n").await;
            stream.write_all(answer).await.unwrap();
        }
    })
    .await;
    let running = start(Setup::default()).await;
    let service = service("s", address.port(), json!({}));
    let route = route("r", "s", json!({"paths": ["/"]}));
    running
        .put(&[("services", service), ("routes", route)])
        .await;
    for (wants, end) in [
        ("TE: trailers\r\n", "0\r\nX-Sum: 7\r\n\r\n"),
        ("", "0\r\n\r\n"),
    ] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{wants}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, end).await.to_ascii_lowercase();
        assert_eq!(
            answer.contains("trailer: x-sum"),
            !wants.is_empty(),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_client_that_leaves_during_its_upload_never_reaches_a_buffered_upstream() {
    let upstream = Upstream::ok();
    let running = start_for(&upstream, Setup::default()).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf";
    stream.write_all(head).await.unwrap();
    drop(stream);
    let ended = || running.gateway.requests() == (1, 0);
    eventually("the end of the request", ended).await;
    assert!(upstream.take().is_empty());
}
