//! Life of client connections: timeouts, drain, panics, limits.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use http::Response;
use o28m_net::server::{Limits, Listener};
use o28m_net::{Body, BodyError, TooLarge};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::support::*;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn a_slow_head_gets_408() {
    let server = Server::start_with(quick(), None, echo);
    let answer = raw(server.address, b"GET / HTTP/1.1\r\nHost: a\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(server.calls(), 0);

    // Also when a drop comes in now and then, and behind an answered request.
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(GET).await.unwrap();
    read_until(&mut stream, "body=0:").await;
    let (mut reader, mut writer) = stream.into_split();
    let dripping = tokio::spawn(async move {
        while writer.write_all(b"G").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let answer = patiently("408", read_until(&mut reader, "\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    dripping.abort();
}

#[tokio::test]
async fn idle_connections_close_silently() {
    let server = Server::start_with(quick(), None, echo);
    assert_eq!(raw(server.address, b"").await, "");
    let answer = raw(server.address, GET).await;
    assert!(answer.ends_with("body=0:"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1);
}

#[tokio::test]
async fn requests_in_pieces_share_a_connection() {
    let server = Server::start(echo);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    for round in 0..4 {
        let two = format!(
            "POST /{round} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /and HTTP/1.1\r\nHost: a\r\n\r\n"
        );
        let (one, rest) = two.as_bytes().split_at(10 * round + 1);
        stream.write_all(one).await.unwrap();
        tokio::task::yield_now().await;
        stream.write_all(rest).await.unwrap();
        let answer = read_until(&mut stream, "GET /and host=a body=0:").await;
        assert!(
            answer.contains(&format!("POST /{round} host=a body=3:abc")),
            "{answer}"
        );
    }
    stream
        .write_all(b"GET / HTTP/1.1\r\nbad\r\n\r\n")
        .await
        .unwrap();
    let answer = patiently("end", read_all(&mut stream)).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(server.calls(), 8);
}

#[tokio::test]
async fn busy_connections_are_not_idle() {
    let server = Server::start_with(quick(), None, |request, connection| async move {
        tokio::time::sleep(Duration::from_millis(900)).await;
        echo(request, connection).await
    });
    let answer = raw(server.address, GET).await;
    assert!(answer.contains("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_stalled_body_is_a_timeout_for_the_service() {
    let server = Server::start_with(quick(), None, |request, _| async move {
        let error = request.into_body().collect(100).await.unwrap_err();
        assert!(
            matches!(error, TooLarge::Read(BodyError::Timeout)),
            "{error:?}"
        );
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = http::StatusCode::REQUEST_TIMEOUT;
        response
    });
    let answer = raw(
        server.address,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut() {
    let server = Server::start_with(quick(), None, |_, _| async {
        Response::new(Body::full(vec![0; 256 * 1024 * 1024]))
    });
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(GET).await.unwrap();
    // Nothing is read until the server gave up; then the stream ends early.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let mut read = 0;
    let mut buffer = vec![0; 1024 * 1024];
    loop {
        match patiently("end", stream.read(&mut buffer)).await {
            Ok(0) | Err(_) => break,
            Ok(count) => read += count,
        }
    }
    assert!(read < 256 * 1024 * 1024);
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_request() {
    struct Cancelled(Arc<Notify>);
    impl Drop for Cancelled {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let (started, cancelled) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (start, cancel) = (started.clone(), cancelled.clone());
    let server = Server::start(move |_, _| {
        let (start, cancel) = (start.clone(), Cancelled(cancel.clone()));
        async move {
            let _cancel = cancel;
            start.notify_one();
            std::future::pending().await
        }
    });
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(GET).await.unwrap();
    patiently("start", started.notified()).await;
    drop(stream);
    patiently("cancellation", cancelled.notified()).await;
}

#[tokio::test]
async fn a_panic_costs_its_request() {
    let server = Server::start(|request, connection| async move {
        assert_ne!(request.uri().path(), "/panic", "a bug");
        echo(request, connection).await
    });
    let answer = raw(server.address, b"GET /panic HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    assert!(answer.contains("Connection: close"), "{answer}");
    let answer = raw(server.address, b"GET / HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
}

#[tokio::test]
async fn a_panic_in_a_response_body_costs_its_connection() {
    let server = Server::start(|_, _| async {
        let pieces = futures_util::stream::iter(0..2).map(|piece| {
            assert_eq!(piece, 0, "a bug");
            Ok(http_body::Frame::data(bytes::Bytes::from_static(b"first")))
        });
        Response::new(Body::Stream(Box::pin(http_body_util::StreamBody::new(
            pieces,
        ))))
    });
    for _ in 0..2 {
        let answer = raw(server.address, GET).await;
        assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
    }
    assert_eq!(server.calls(), 2);
}

#[tokio::test]
async fn proxy_case_063_drain_finishes_responses_and_closes_the_rest() {
    let (started, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (start, go) = (started.clone(), go_on.clone());
    let mut server = Server::start(move |_, _| {
        let (start, go) = (start.clone(), go.clone());
        async move {
            let pieces = futures_util::stream::unfold(0, move |piece| {
                let (start, go) = (start.clone(), go.clone());
                async move {
                    if piece == 1 {
                        start.notify_one();
                        go.notified().await;
                    }
                    (piece < 2).then(|| {
                        let data = bytes::Bytes::from(format!("piece{piece}"));
                        (Ok(http_body::Frame::data(data)), piece + 1)
                    })
                }
            });
            Response::new(Body::Stream(Box::pin(http_body_util::StreamBody::new(
                pieces,
            ))))
        }
    });
    let mut fresh = TcpStream::connect(server.address).await.unwrap();
    let mut begun = TcpStream::connect(server.address).await.unwrap();
    begun.write_all(b"GET / HT").await.unwrap();
    let mut busy = TcpStream::connect(server.address).await.unwrap();
    busy.write_all(GET).await.unwrap();
    patiently("start", started.notified()).await;
    server.drain.cancel();
    assert_eq!(patiently("fresh", read_all(&mut fresh)).await, "");
    // What is on its way has a moment, not as long as a head usually has.
    let late = patiently("begun", read_all(&mut begun)).await;
    assert!(late.starts_with("HTTP/1.1 408 "), "{late}");
    until("closed listener", || {
        std::net::TcpStream::connect(server.address).is_err()
    })
    .await;
    assert!(!server.serving.as_ref().unwrap().is_finished());
    go_on.notify_one();
    let answer = patiently("rest", read_all(&mut busy)).await;
    assert!(
        answer.contains("piece0") && answer.contains("piece1") && answer.ends_with("0\r\n\r\n"),
        "{answer}"
    );
    patiently("drain", server.serving.take().unwrap())
        .await
        .unwrap();
}

/// Established and not accepted, accepted and silent, or half sent when the drain begins: the request is
/// answered all the same.
#[tokio::test]
async fn requests_that_are_on_their_way_when_a_drain_begins_are_answered() {
    let mut server = Server::start(echo);
    let mut begun = TcpStream::connect(server.address).await.unwrap();
    begun.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();
    let mut fresh = TcpStream::connect(server.address).await.unwrap();
    let mut kept = TcpStream::connect(server.address).await.unwrap();
    kept.write_all(GET).await.unwrap();
    read_until(&mut kept, "body=0:").await;
    // On this thread nothing accepts until the drain has begun.
    let waiting: Vec<_> = (0..20)
        .map(|_| std::net::TcpStream::connect(server.address).unwrap())
        .collect();
    server.drain.cancel();
    begun.write_all(b"st: a\r\n\r\n").await.unwrap();
    fresh.write_all(GET).await.unwrap();
    let mut open = vec![begun, fresh];
    for stream in waiting {
        stream.set_nonblocking(true).unwrap();
        let mut stream = TcpStream::from_std(stream).unwrap();
        stream.write_all(GET).await.unwrap();
        open.push(stream);
    }
    for mut stream in open {
        let answer = patiently("an answer", read_all(&mut stream)).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let answer = answer.to_ascii_lowercase();
        assert!(answer.contains("connection: close"), "{answer}");
    }
    assert_eq!(patiently("kept", read_all(&mut kept)).await, "");
    patiently("drain", server.serving.take().unwrap())
        .await
        .unwrap();
}

#[tokio::test]
async fn responses_during_a_drain_say_close() {
    let (started, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (start, go) = (started.clone(), go_on.clone());
    let mut server = Server::start(move |request, connection| {
        let (start, go) = (start.clone(), go.clone());
        async move {
            start.notify_one();
            go.notified().await;
            echo(request, connection).await
        }
    });
    let mut busy = TcpStream::connect(server.address).await.unwrap();
    busy.write_all(GET).await.unwrap();
    patiently("start", started.notified()).await;
    server.drain.cancel();
    tokio::task::yield_now().await;
    go_on.notify_one();
    let answer = patiently("answer", read_all(&mut busy)).await;
    assert!(
        answer.contains("Connection: close") && answer.ends_with("body=0:"),
        "{answer}"
    );
    patiently("drain", server.serving.take().unwrap())
        .await
        .unwrap();
}

#[tokio::test]
async fn stop_cuts_what_does_not_end() {
    let mut server = Server::start(|_, _| std::future::pending());
    let mut busy = TcpStream::connect(server.address).await.unwrap();
    busy.write_all(GET).await.unwrap();
    until("call", || server.calls() == 1).await;
    server.drain.cancel();
    server.stop.cancel();
    patiently("stop", server.serving.take().unwrap())
        .await
        .unwrap();
    assert!(matches!(
        patiently("end", busy.read(&mut [0])).await,
        Ok(0) | Err(_)
    ));
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let limits = Limits {
        connections_max: 2,
        ..Limits::default()
    };
    let server = Server::start_with(limits, None, echo);
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(GET).await.unwrap();
        read_until(&mut stream, "body=0:").await;
        open.push(stream);
    }
    let mut third = TcpStream::connect(server.address).await.unwrap();
    third.write_all(GET).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(100), third.read(&mut [0; 16])).await;
    assert!(early.is_err());
    open.pop();
    read_until(&mut third, "body=0:").await;
}

#[tokio::test]
async fn http_10_closes_unless_asked_to_stay() {
    let server = Server::start(echo);
    let answer = raw(
        server.address,
        b"GET /1 HTTP/1.0\r\n\r\nGET /2 HTTP/1.0\r\n\r\n",
    )
    .await;
    assert_eq!(answer.matches("HTTP/1.0 200").count(), 1, "{answer}");
    let answer = raw(
        server.address,
        b"GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\n",
    )
    .await;
    assert_eq!(answer.matches("HTTP/1.0 200").count(), 2, "{answer}");
}

#[test]
fn a_taken_port_is_refused_even_if_it_would_be_shared() {
    let first = Listener::bind("one", ([127, 0, 0, 1], 0).into()).unwrap();
    let sibling = first.sibling().unwrap();
    assert_eq!(first.address(), sibling.address());
    let again = Listener::bind("two", first.address());
    let Err(error) = again else {
        panic!("bound a port twice");
    };
    assert_eq!(error.source.kind(), std::io::ErrorKind::AddrInUse);
    assert_eq!(
        error.to_string(),
        format!("failed to bind listener two to {}", first.address())
    );
    let foreign = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(Listener::bind("three", foreign.local_addr().unwrap()).is_err());
}

#[tokio::test]
async fn siblings_share_the_port() {
    let listener = Listener::bind("one", ([127, 0, 0, 1], 0).into()).unwrap();
    let address = listener.address();
    let mut sockets = vec![listener.sibling().unwrap(), listener];
    for listener in &sockets {
        listener.socket.set_nonblocking(true).unwrap();
    }
    let mut clients = Vec::new();
    let mut accepted = [0, 0];
    while accepted.contains(&0) {
        clients.push(TcpStream::connect(address).await.unwrap());
        for (count, listener) in accepted.iter_mut().zip(&mut sockets) {
            while listener.socket.accept().is_ok() {
                *count += 1;
            }
        }
        assert!(clients.len() < 1000);
    }
}

#[tokio::test]
async fn the_connection_is_described() {
    let server = Server::start(|_, connection| async move {
        Response::new(Body::full(format!(
            "{} {} {} {:?}",
            connection.peer,
            connection.local,
            connection.scheme.name(),
            connection.server_name
        )))
    });
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let wanted = format!(
        "{} {} http None",
        stream.local_addr().unwrap(),
        server.address
    );
    stream.write_all(GET).await.unwrap();
    read_until(&mut stream, &wanted).await;
}
