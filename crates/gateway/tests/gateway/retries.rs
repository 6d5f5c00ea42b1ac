//! Attempts and time (spec gateway-proxy 7).

use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::*;

async fn close(stream: TcpStream, _: usize) {
    drop(stream);
}

async fn running_for(port: u16, service_changes: Value, route_changes: Value) -> Running {
    let running = start(Setup::default()).await;
    let mut changes = json!({"paths": ["/"]});
    for (key, value) in route_changes.as_object().unwrap() {
        changes[key] = value.clone();
    }
    let route = route("r", "s", changes);
    running
        .put(&[
            ("services", service("s", port, service_changes)),
            ("routes", route),
        ])
        .await;
    running
}

#[tokio::test]
async fn proxy_case_042_idempotent_requests_are_tried_again() {
    for (retries, head, attempts) in [
        (3, "GET / HTTP/1.1\r\nHost: a", 4),
        (3, "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0", 4),
        (3, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0", 1),
        (3, "PATCH / HTTP/1.1\r\nHost: a\r\nContent-Length: 0", 1),
        (0, "GET / HTTP/1.1\r\nHost: a", 1),
    ] {
        let (address, count) = misbehaving(|mut stream, number| async move {
            read_until(&mut stream, "\r\n\r\n").await;
            close(stream, number).await;
        })
        .await;
        let running = running_for(address.port(), json!({"retries": retries}), json!({})).await;
        assert_eq!(running.send(head).await.status, 502);
        assert_eq!(count.load(Ordering::SeqCst), attempts, "{head}");
    }
}

#[tokio::test]
async fn the_attempt_that_succeeds_answers() {
    let (address, _) = misbehaving(|mut stream, number| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        if number == 2 {
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            stream.write_all(answer).await.unwrap();
        }
    })
    .await;
    let running = running_for(address.port(), json!({}), json!({})).await;
    let reply = running.get("/").await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "ok"));
    assert!(
        running
            .metrics
            .render()
            .contains("o28m_gateway_upstream_retries_total 2")
    );
}

#[tokio::test]
async fn proxy_case_043_timeouts_are_retried_and_end_as_504() {
    let (address, count) = misbehaving(|stream, _| async move {
        let _held = stream;
        std::future::pending().await
    })
    .await;
    let changes = json!({"read_timeout": 20, "retries": 5});
    let running = running_for(address.port(), changes, json!({})).await;
    assert_eq!(running.get("/").await.status, 504);
    assert_eq!(count.load(Ordering::SeqCst), 6);
}

#[tokio::test]
async fn garbage_is_not_asked_for_again() {
    let (address, count) = misbehaving(|mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        stream.write_all(b"nonsense\r\n\r\n").await.unwrap();
    })
    .await;
    let running = running_for(address.port(), json!({}), json!({})).await;
    assert_eq!(running.get("/").await.status, 502);
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn statuses_are_answers_and_not_retried() {
    let upstream = Upstream::start(|_| {
        http::Response::builder()
            .status(500)
            .body(bytes::Bytes::new())
            .unwrap()
    });
    let running = start_for(&upstream, Setup::default()).await;
    assert_eq!(running.get("/").await.status, 500);
    assert_eq!(upstream.take().len(), 1);
}

#[tokio::test]
async fn proxy_case_044_buffered_bodies_are_replayed_and_streamed_ones_are_not() {
    let body: String = (0..5 * 1024)
        .map(|at| format!("{:x}", at % 16).repeat(1024))
        .collect();
    let request = |target: &str| {
        let head = format!(
            "PUT {target} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close"
        );
        format!("{head}\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
    };
    let length = body.len();
    for (buffered, status, attempts) in [(true, 200, 2), (false, 502, 1)] {
        let (address, count) = misbehaving(move |mut stream, number| async move {
            let head = read_until(&mut stream, "\r\n\r\n")
                .await
                .to_ascii_lowercase();
            assert_eq!(
                head.contains(&format!("content-length: {length}\r\n")),
                buffered,
                "{head}"
            );
            assert_eq!(
                head.contains("transfer-encoding: chunked"),
                !buffered,
                "{head}"
            );
            if number == 0 {
                return;
            }
            let mut body = vec![0; length];
            tokio::io::AsyncReadExt::read_exact(&mut stream, &mut body)
                .await
                .unwrap();
            let sum: u64 = body.iter().map(|it| u64::from(*it)).sum();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{sum:010}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        })
        .await;
        let changes = json!({"request_buffering": buffered});
        let running = running_for(address.port(), json!({}), changes).await;
        let reply = raw(running.address, request("/").as_bytes()).await;
        assert_eq!(reply.status, status);
        assert_eq!(count.load(Ordering::SeqCst), attempts);
        if buffered {
            let sum: u64 = body.bytes().map(u64::from).sum();
            assert_eq!(reply.body, format!("{sum:010}"));
        }
    }
}
