//! Interim responses of upstreams, and how long connections on both sides are kept.

use std::time::Duration;

use o28m_net::client::{Pool, PoolSettings, Target, Way};
use o28m_net::server::{Limits, Timeouts};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::*;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const LAST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// A gateway that passes interim responses on.
fn gateway(target: Target) -> Server {
    Server::start(move |request, connection| {
        let target = target.clone();
        async move {
            let interim = connection.interim.clone();
            let pass = |head: http::response::Parts| {
                interim.as_ref().unwrap().send(head.status, &head.headers);
            };
            let way = Way {
                interim: Some(&pass),
                ..Way::default()
            };
            let limits = patient();
            let sent = connection
                .pool
                .send_by(&target, request.into(), &limits, way)
                .await;
            sent.unwrap_or_else(|error| panic!("{error:?}"))
        }
    })
}

#[tokio::test]
async fn early_hints_come_before_the_response() {
    let (tell, told) = tokio::sync::oneshot::channel::<()>();
    let told = std::sync::Mutex::new(Some(told));
    let upstream = RawUpstream::start(move |mut stream, _| {
        let told = told.lock().unwrap().take();
        async move {
            read_until(&mut stream, "\r\n\r\n").await;
            let hint =
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";
            stream.write_all(hint).await.unwrap();
            if let Some(told) = told {
                told.await.unwrap();
            }
            let last = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            stream.write_all(last).await.unwrap();
        }
    })
    .await;
    let gateway = gateway(upstream.target());
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(GET).await.unwrap();
    // While the upstream still thinks.
    let hint = read_until(&mut stream, "\r\n\r\n").await;
    assert_eq!(hint, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n");
    tell.send(()).unwrap();
    let answer = read_until(&mut stream, "ok").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    // The next request of the connection is none the wiser.
    stream.write_all(LAST).await.unwrap();
    let answer = patiently("end", read_all(&mut stream)).await;
    assert!(
        answer.starts_with("HTTP/1.1 103 ") && answer.ends_with("ok"),
        "{answer}"
    );
}

#[tokio::test]
async fn early_hints_are_bounded() {
    let upstream = RawUpstream::start(|mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let huge = "x".repeat(20_000);
        let mut answer = format!("HTTP/1.1 103 Early Hints\r\nX-Huge: {huge}\r\n\r\n");
        for at in 0..12 {
            answer.push_str(&format!("HTTP/1.1 103 Early Hints\r\nX-{at}: 1\r\n\r\n"));
        }
        answer.push_str("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let gateway = gateway(upstream.target());
    let answer = raw(gateway.address, LAST).await;
    assert_eq!(answer.matches("HTTP/1.1 103 ").count(), 7, "{answer}");
    assert!(
        !answer.contains("X-Huge") && answer.ends_with("ok"),
        "{answer}"
    );
}

#[tokio::test]
async fn connections_end_behind_their_last_request() {
    let with = |change: fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        Server::start_with(limits, None, echo)
    };
    for (server, answers) in [
        (with(|it| it.requests_max = 2), 2),
        (with(|it| it.requests_max = 0), 1),
        (with(|it| it.age_max = Duration::ZERO), 1),
        (
            with(|it| {
                it.timeouts = Timeouts {
                    idle: Duration::ZERO,
                    ..Timeouts::default()
                };
            }),
            1,
        ),
    ] {
        let answer = raw(server.address, &GET.repeat(3)).await;
        assert_eq!(
            answer.matches("HTTP/1.1 200 OK").count(),
            answers,
            "{answer}"
        );
        assert_eq!(answer.matches("Connection: close").count(), 1, "{answer}");
    }
}

#[tokio::test]
async fn a_pool_keeps_connections_as_it_is_told() {
    let upstream = Server::start(echo);
    let target = upstream.target();
    let send = async |pool: &std::sync::Arc<Pool>| {
        let response = pool.send(&target, get("/"), &patient()).await.unwrap();
        drop(text(response).await);
    };
    let pool = Pool::with_settings(PoolSettings {
        requests_max: 2,
        ..PoolSettings::default()
    });
    for idle in [1, 0, 1, 0] {
        send(&pool).await;
        assert_eq!(pool.idle(), idle);
    }
    let short = Pool::with_settings(PoolSettings {
        idle_timeout: Some(Duration::from_millis(200)),
        ..PoolSettings::default()
    });
    let unlimited = Pool::with_settings(PoolSettings {
        requests_max: 0,
        idle_timeout: None,
        ..PoolSettings::default()
    });
    for pool in [&short, &unlimited] {
        send(pool).await;
        assert_eq!(pool.idle(), 1);
    }
    until("the end of the idle one", || short.idle() == 0).await;
    assert_eq!(unlimited.idle(), 1);
}
