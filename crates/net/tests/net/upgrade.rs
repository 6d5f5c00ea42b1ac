//! From HTTP to raw bytes and back again when the upstream declines.

use std::time::Duration;

use o28m_net::Body;
use o28m_net::client::Target;
use o28m_net::server::{self, Limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::*;

const UPGRADE: &str =
    "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";

/// A gateway that passes everything to one upstream.
fn gateway(target: Target, read_ms: u64) -> Server {
    Server::start(move |request, connection| {
        let target = target.clone();
        async move {
            let sent = connection
                .pool
                .send(&target, request, &timeouts(read_ms))
                .await;
            sent.unwrap_or_else(|error| panic!("{error:?}"))
        }
    })
}

async fn websocket(mut stream: TcpStream, _: usize) {
    let head = read_until(&mut stream, "\r\n\r\n").await;
    assert!(
        head.to_ascii_lowercase().contains("upgrade: websocket"),
        "{head}"
    );
    let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello";
    stream.write_all(answer).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    drop(tokio::io::copy(&mut reader, &mut writer).await);
    writer.write_all(b"bye").await.unwrap_or_default();
}

#[tokio::test]
async fn proxy_case_048_an_upgraded_connection_carries_bytes_both_ways() {
    let upstream = RawUpstream::start(websocket).await;
    let gateway = gateway(upstream.target(), 20_000);
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    // Bytes behind the request wait for the 101; they are not judged as a request.
    stream.write_all(UPGRADE.as_bytes()).await.unwrap();
    stream.write_all(b"\x81\x05early").await.unwrap();
    let head = read_until(&mut stream, "early").await;
    assert!(
        head.starts_with("HTTP/1.1 101 ") && head.contains("hello"),
        "{head}"
    );
    stream.write_all(b"later").await.unwrap();
    read_until(&mut stream, "later").await;
    stream.shutdown().await.unwrap();
    assert_eq!(patiently("end", read_all(&mut stream)).await, "bye");
}

#[tokio::test]
async fn an_idle_upgraded_connection_is_closed() {
    let upstream = RawUpstream::start(websocket).await;
    let gateway = gateway(upstream.target(), 200);
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(UPGRADE.as_bytes()).await.unwrap();
    read_until(&mut stream, "hello").await;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        stream.write_all(b"ping").await.unwrap();
        read_until(&mut stream, "ping").await;
    }
    assert_eq!(patiently("end", read_all(&mut stream)).await, "");
}

#[tokio::test]
async fn a_declined_upgrade_leaves_http_going() {
    let upstream = Server::start(echo);
    let gateway = gateway(upstream.target(), 20_000);
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let two = format!("{UPGRADE}GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
    stream.write_all(two.as_bytes()).await.unwrap();
    let answer = read_until(&mut stream, "GET /next").await;
    assert!(answer.contains("GET /ws"), "{answer}");
}

#[tokio::test]
async fn bytes_of_an_unanswered_upgrade_are_bounded() {
    let server = Server::start(|_, _| std::future::pending());
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(UPGRADE.as_bytes()).await.unwrap();
    // Far more than the kernel's buffers: the write stalls because the guard stops reading.
    let flood = vec![0; 64 * 1024 * 1024];
    let written = stream.write_all(&flood);
    assert!(
        tokio::time::timeout(Duration::from_millis(300), written)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_101_nobody_asked_for_is_not_followed() {
    let upstream = RawUpstream::start(|mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let answer =
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        read_all(&mut stream).await;
    })
    .await;
    let gateway = gateway(upstream.target(), 20_000);
    let answer = raw(gateway.address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
}

#[tokio::test]
async fn a_101_before_the_end_of_the_body_is_not_followed() {
    let upstream = RawUpstream::start(|mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let answer =
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        read_all(&mut stream).await;
    })
    .await;
    let gateway = gateway(upstream.target(), 20_000);
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 5\r\n\r\nab";
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = read_until(&mut stream, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
}

#[tokio::test]
async fn a_101_of_the_service_itself_is_an_error() {
    let server = Server::start(|_, _| async {
        let mut response = http::Response::new(Body::Empty);
        *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
        response
    });
    let answer = raw(server.address, UPGRADE.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
}

/// A gateway whose drain says goodbye to WebSockets soon.
fn leaving(target: Target) -> Server {
    let limits = Limits {
        timeouts: server::Timeouts {
            farewell: Duration::from_millis(50),
            ..server::Timeouts::default()
        },
        ..Limits::default()
    };
    Server::start_with(limits, None, move |request, connection| {
        let target = target.clone();
        async move {
            let sent = connection.pool.send(&target, request, &patient()).await;
            sent.unwrap_or_else(|error| panic!("{error:?}"))
        }
    })
}

#[tokio::test]
async fn websockets_are_told_to_leave_during_a_drain() {
    let closed = std::sync::Arc::new(tokio::sync::Notify::new());
    let seen = closed.clone();
    let upstream = RawUpstream::start(move |mut stream, _| {
        let seen = seen.clone();
        async move {
            read_until(&mut stream, "\r\n\r\n").await;
            let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            // Half of a frame; the rest comes when the client has had time to be told, wrongly.
            stream.write_all(b"\x81\x05he").await.unwrap();
            tokio::time::sleep(Duration::from_millis(150)).await;
            stream.write_all(b"llo").await.unwrap();
            // The client's answer to the farewell.
            let mut close = [0; 8];
            stream.read_exact(&mut close).await.unwrap();
            assert_eq!(close, [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9]);
            seen.notify_one();
        }
    })
    .await;
    let mut gateway = leaving(upstream.target());
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(UPGRADE.as_bytes()).await.unwrap();
    read_until(&mut stream, "he").await;
    gateway.drain.cancel();
    let mut rest = [0; 7];
    patiently("farewell", stream.read_exact(&mut rest))
        .await
        .unwrap();
    assert_eq!(&rest, b"llo\x88\x02\x03\xe9");
    let close = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9];
    stream.write_all(&close).await.unwrap();
    patiently("the upstream", closed.notified()).await;
    assert_eq!(patiently("end", read_all(&mut stream)).await, "");
    drop(stream);
    patiently("drain", gateway.serving.take().unwrap())
        .await
        .unwrap();
}
