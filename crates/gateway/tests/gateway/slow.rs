//! Clients that are slow on purpose: each of them is let go in time, and nobody else waits for them.

use std::time::Duration;

use http::Response;
use o28m_net::server::{Limits, Timeouts};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::*;

/// How long a client may take for anything.
const PATIENCE_OF_SERVER: Duration = Duration::from_millis(400);
/// Between two bytes of a client that keeps moving.
const PACE: Duration = Duration::from_millis(40);

fn impatient() -> Setup {
    Setup {
        limits: Limits {
            timeouts: Timeouts {
                head: PATIENCE_OF_SERVER,
                idle: PATIENCE_OF_SERVER,
                body: PATIENCE_OF_SERVER,
                write: PATIENCE_OF_SERVER,
                ..Timeouts::default()
            },
            ..Limits::default()
        },
        ..Setup::default()
    }
}

/// A connection that sent these bytes.
async fn sent(running: &Running, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

/// Everything that comes until the server ends the connection.
async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _reset = patiently("the end", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends byte after byte for ever, until the server takes no more.
async fn trickle(stream: &mut TcpStream, bytes: &[u8]) {
    let mut pace = tokio::time::interval(PACE);
    for byte in bytes.iter().cycle() {
        pace.tick().await;
        if stream.write_all(&[*byte]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_head_has_its_time_however_it_trickles() {
    let upstream = Upstream::ok();
    let running = start_for(&upstream, impatient()).await;
    let begin = b"GET / HTTP/1.1\r\nHost: a\r\n";
    let mut slow = JoinSet::new();
    for _ in 0..200 {
        let mut stream = sent(&running, begin).await;
        slow.spawn(async move {
            let (mut read, mut write) = stream.split();
            let mut answer = Vec::new();
            let reading = async { drop(read.read_to_end(&mut answer).await) };
            let writing = async {
                let mut pace = tokio::time::interval(PACE);
                for byte in b"X: yyyyyyyy\r\n".iter().cycle() {
                    pace.tick().await;
                    if write.write_all(&[*byte]).await.is_err() {
                        break;
                    }
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = reading => {}
                () = writing => {}
            }
            String::from_utf8_lossy(&answer).into_owned()
        });
    }
    // Nobody waits for them.
    for _ in 0..20 {
        assert_eq!(running.get("/").await.status, 200);
    }
    while let Some(answer) = patiently("all of them", slow.join_next()).await {
        let answer = answer.unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains("Request timeout"), "{answer}");
    }
    assert_eq!(upstream.take().len(), 20);
    eventually("the end of all requests", || {
        running.gateway.requests().1 == 0
    })
    .await;
}

#[tokio::test]
async fn a_body_that_stalls_is_408_and_never_sent_on() {
    let upstream = Upstream::ok();
    let running = start_for(&upstream, impatient()).await;
    for framing in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
        let half = if framing.starts_with('C') {
            "half"
        } else {
            "4\r\nhalf\r\n"
        };
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{half}");
        let mut stream = sent(&running, head.as_bytes()).await;
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(
            answer.to_ascii_lowercase().contains("connection: close"),
            "{answer}"
        );
    }
    assert!(upstream.take().is_empty());
    assert_eq!(running.gateway.requests(), (2, 0));
}

#[tokio::test]
async fn a_streamed_body_that_stalls_ends_the_upstream_request() {
    let (ended, mut over) = tokio::sync::watch::channel(0);
    let (address, _) = misbehaving(move |mut stream, _| {
        let ended = ended.clone();
        async move {
            read_until(&mut stream, "half").await;
            let mut rest = Vec::new();
            let _reset = stream.read_to_end(&mut rest).await;
            ended.send_modify(|it| *it += 1);
        }
    })
    .await;
    let running = start(impatient()).await;
    let service = service("s", address.port(), json!({}));
    let route = route(
        "r",
        "s",
        json!({"paths": ["/"], "request_buffering": false}),
    );
    running
        .put(&[("services", service), ("routes", route)])
        .await;
    let head = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf";
    let mut stream = sent(&running, head).await;
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    patiently("the upstream", over.wait_for(|it| *it == 1))
        .await
        .unwrap();
}

/// Time is counted between bytes: a large upload over a slow line is none of an attacker.
#[tokio::test]
async fn a_body_that_keeps_moving_may_take_long() {
    let upstream = Upstream::start(|request| Response::new(request.body().clone()));
    let running = start_for(&upstream, impatient()).await;
    let body = "a body of many small pieces";
    let head = format!(
        "PUT / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = sent(&running, head.as_bytes()).await;
    let mut pace = tokio::time::interval(PACE);
    let begun = std::time::Instant::now();
    for byte in body.bytes() {
        pace.tick().await;
        stream.write_all(&[byte]).await.unwrap();
    }
    assert!(begun.elapsed() > PATIENCE_OF_SERVER * 2);
    let answer = rest(&mut stream).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(body),
        "{answer}"
    );
}

#[tokio::test]
async fn a_client_that_does_not_read_is_let_go() {
    let (ended, mut over) = tokio::sync::watch::channel(0);
    let (address, _) = misbehaving(move |mut stream, _| {
        let ended = ended.clone();
        async move {
            read_until(&mut stream, "\r\n\r\n").await;
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n";
            stream.write_all(head).await.unwrap();
            while stream.write_all(&[7; 65536]).await.is_ok() {}
            ended.send_modify(|it| *it += 1);
        }
    })
    .await;
    let running = start(impatient()).await;
    let service = service("s", address.port(), json!({}));
    let route = route("r", "s", json!({"paths": ["/"]}));
    running
        .put(&[("services", service), ("routes", route)])
        .await;
    let mut open = Vec::new();
    for _ in 0..20 {
        open.push(sent(&running, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await);
    }
    patiently("the upstream", over.wait_for(|it| *it == 20))
        .await
        .unwrap();
    eventually("the end of all requests", || {
        running.gateway.requests() == (20, 0)
    })
    .await;
}

#[tokio::test]
async fn thousands_of_idle_connections_close_silently() {
    let upstream = Upstream::ok();
    let running = start_for(&upstream, impatient()).await;
    let mut open = Vec::new();
    for number in 0..2000 {
        let mut stream = sent(&running, b"").await;
        if number % 4 == 0 {
            stream
                .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                .await
                .unwrap();
            read_until(&mut stream, "hello").await;
        }
        open.push(stream);
    }
    assert_eq!(running.get("/").await.status, 200);
    for mut stream in open {
        assert_eq!(rest(&mut stream).await, "");
    }
    assert_eq!(running.get("/").await.status, 200);
}

/// A body that nobody reads does not keep a connection: the rest of it is taken in for a while only.
#[tokio::test]
async fn a_refused_upload_that_trickles_is_let_go() {
    let upstream = Upstream::ok();
    let running = start_for(&upstream, impatient()).await;
    running.delete("routes", "r").await;
    let head = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
    let mut stream = sent(&running, head).await;
    patiently("the end", trickle(&mut stream, b"x")).await;
    let answer = rest(&mut stream).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 404 "),
        "{answer}"
    );
}
