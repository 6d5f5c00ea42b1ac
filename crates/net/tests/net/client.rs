//! The upstream pool against raw upstreams.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use o28m_net::Body;
use o28m_net::client::{Pool, SendError, Target};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Answers every request head of a connection with the same bytes.
async fn answer_all(mut stream: TcpStream, answer: &str) {
    loop {
        let mut head = String::new();
        while !head.contains("\r\n\r\n") {
            let mut buffer = [0; 4096];
            match tokio::io::AsyncReadExt::read(&mut stream, &mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(read) => head.push_str(&String::from_utf8_lossy(&buffer[..read])),
            }
        }
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn connections_are_kept_and_reused() {
    let upstream = RawUpstream::start(|stream, _| answer_all(stream, OK)).await;
    let pool = Pool::new();
    for _ in 0..5 {
        let response = pool
            .send(&upstream.target(), get("/"), &patient())
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(text(response).await, "ok");
    }
    assert_eq!(upstream.count(), 1);
    assert_eq!(pool.idle(), 1);
}

#[tokio::test]
async fn streamed_bodies_give_the_connection_back_at_their_end() {
    let chunks =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n";
    let upstream = RawUpstream::start(move |stream, _| answer_all(stream, chunks)).await;
    let pool = Pool::new();
    for _ in 0..3 {
        let response = pool
            .send(&upstream.target(), get("/"), &patient())
            .await
            .unwrap();
        assert_eq!(pool.idle(), 0);
        assert_eq!(text(response).await, "abcdef");
        assert_eq!(pool.idle(), 1);
    }
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_dropped_body_closes_the_connection() {
    let upstream = RawUpstream::start(|mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
            .await
            .unwrap();
        assert_eq!(read_all(&mut stream).await, "");
    })
    .await;
    let pool = Pool::new();
    let response = pool
        .send(&upstream.target(), get("/"), &patient())
        .await
        .unwrap();
    drop(response);
    assert_eq!(pool.idle(), 0);
}

#[tokio::test]
async fn a_cancelled_send_closes_the_connection() {
    let upstream = RawUpstream::start(|mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        assert_eq!(read_all(&mut stream).await, "");
        stream.write_all(b"x").await.unwrap();
    })
    .await;
    let pool = Pool::new();
    let (target, limits) = (upstream.target(), patient());
    let send = pool.send(&target, get("/"), &limits);
    assert!(
        tokio::time::timeout(Duration::from_millis(100), send)
            .await
            .is_err()
    );
    assert_eq!((upstream.count(), pool.idle()), (1, 0));
}

#[tokio::test]
async fn proxy_case_045_idle_connections_and_requests_per_connection_are_limited() {
    let all = Arc::new(tokio::sync::Barrier::new(600));
    let upstream = Server::start(move |request, connection| {
        let all = all.clone();
        async move {
            all.wait().await;
            echo(request, connection).await
        }
    });
    let (pool, target, limits) = (Pool::new(), upstream.target(), patient());
    let sends = (0..600).map(|_| pool.send(&target, get("/"), &limits));
    let answers = patiently("answers", futures_util::future::join_all(sends)).await;
    assert!(answers.iter().all(Result::is_ok));
    drop(answers);
    assert_eq!(pool.idle(), 512);

    let upstream = RawUpstream::start(|stream, _| answer_all(stream, OK)).await;
    let pool = Pool::new();
    for _ in 0..10_000 {
        let response = pool.send(&upstream.target(), get("/"), &patient()).await;
        assert_eq!(response.unwrap().status(), 200);
    }
    assert_eq!((upstream.count(), pool.idle()), (1, 0));
    let response = pool.send(&upstream.target(), get("/"), &patient()).await;
    assert_eq!(response.unwrap().status(), 200);
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn connection_close_is_obeyed() {
    let upstream = RawUpstream::start(|stream, _| {
        answer_all(
            stream,
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        )
    })
    .await;
    let pool = Pool::new();
    for _ in 0..2 {
        let response = pool
            .send(&upstream.target(), get("/"), &patient())
            .await
            .unwrap();
        assert_eq!(text(response).await, "ok");
    }
    assert_eq!((upstream.count(), pool.idle()), (2, 0));
}

#[tokio::test]
async fn both_lengths_in_a_response_are_not_believed() {
    let upstream = RawUpstream::start(|stream, _| {
        answer_all(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        )
    })
    .await;
    let pool = Pool::new();
    for _ in 0..2 {
        let response = pool
            .send(&upstream.target(), get("/"), &patient())
            .await
            .unwrap();
        assert!(response.headers().get("content-length").is_none());
        assert_eq!(text(response).await, "abc");
    }
    assert_eq!((upstream.count(), pool.idle()), (2, 0));
}

#[tokio::test]
async fn what_is_not_a_response_is_invalid() {
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(70_000));
    let cases = [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na".to_owned(),
        "SSH-2.0-x\r\n\r\n".to_owned(),
        long,
    ];
    for answer in cases {
        let shared: Arc<str> = answer.as_str().into();
        let upstream = RawUpstream::start(move |stream, _| {
            let answer = shared.clone();
            async move { answer_all(stream, &answer).await }
        })
        .await;
        let error = Pool::new()
            .send(&upstream.target(), get("/"), &patient())
            .await
            .unwrap_err();
        assert!(
            matches!(error, SendError::Invalid { .. }),
            "{answer:.60}: {error:?}"
        );
    }
}

#[tokio::test]
async fn proxy_case_051_large_response_heads_pass() {
    let answer: Arc<str> = format!(
        "HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n",
        (0..30)
            .map(|n| format!("X-{n}: {}\r\n", "y".repeat(1000)))
            .collect::<String>()
    )
    .into();
    let upstream = RawUpstream::start(move |stream, _| {
        let answer = answer.clone();
        async move { answer_all(stream, &answer).await }
    })
    .await;
    let response = Pool::new()
        .send(&upstream.target(), get("/"), &patient())
        .await
        .unwrap();
    assert_eq!(response.headers().len(), 31);
}

#[tokio::test]
async fn an_early_close_says_whether_the_connection_was_reused() {
    let upstream = RawUpstream::start(|mut stream, number| async move {
        if number == 0 {
            read_until(&mut stream, "\r\n\r\n").await;
            stream.write_all(OK.as_bytes()).await.unwrap();
        }
        read_until(&mut stream, "\r\n\r\n").await;
    })
    .await;
    let pool = Pool::new();
    let response = pool
        .send(&upstream.target(), get("/1"), &patient())
        .await
        .unwrap();
    assert_eq!(text(response).await, "ok");
    for wanted in [true, false] {
        let error = pool
            .send(&upstream.target(), get("/2"), &patient())
            .await
            .unwrap_err();
        let SendError::Closed { reused, unsent, .. } = error else {
            panic!("{error:?}");
        };
        assert_eq!((reused, unsent), (wanted, false));
    }
}

#[tokio::test]
async fn closed_idle_connections_are_noticed_before_reuse() {
    let (closed, mut closes) = tokio::sync::mpsc::channel(1);
    let upstream = RawUpstream::start(move |mut stream, _| {
        let closed = closed.clone();
        async move {
            read_until(&mut stream, "\r\n\r\n").await;
            stream.write_all(OK.as_bytes()).await.unwrap();
            drop(stream);
            closed.send(()).await.unwrap();
        }
    })
    .await;
    let pool = Pool::new();
    for _ in 0..20 {
        let post = request("POST", "/", Body::full("not replayable"));
        let response = pool
            .send(&upstream.target(), post, &patient())
            .await
            .unwrap();
        assert_eq!(text(response).await, "ok");
        // The kernel is asked, so it does not matter whether this runtime has seen the close.
        closes.recv().await.unwrap();
    }
    assert_eq!(upstream.count(), 20);
}

#[tokio::test]
async fn bytes_nobody_asked_for_are_not_taken_for_an_answer() {
    let twice = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let upstream = RawUpstream::start(move |stream, _| answer_all(stream, twice)).await;
    let pool = Pool::new();
    for _ in 0..3 {
        let response = pool
            .send(&upstream.target(), get("/"), &patient())
            .await
            .unwrap();
        assert_eq!(text(response).await, "ok");
    }
    assert_eq!(upstream.count(), 3);
}

#[tokio::test]
async fn timeouts_are_told_apart() {
    let silent = RawUpstream::start(|mut stream, _| async move {
        read_all(&mut stream).await;
    })
    .await;
    let pool = Pool::new();
    let error = pool
        .send(&silent.target(), get("/"), &timeouts(50))
        .await
        .unwrap_err();
    assert!(matches!(error, SendError::Timeout { .. }), "{error:?}");

    // It takes no bytes: the write stalls once the buffers of the kernel are full.
    let deaf = RawUpstream::start(|stream, _| async move {
        tokio::time::sleep(PATIENCE).await;
        drop(stream);
    })
    .await;
    let mut limits = patient();
    limits.write = Duration::from_millis(50);
    let post = request("POST", "/", Body::full(vec![0; 64 * 1024 * 1024]));
    let error = patiently("timeout", pool.send(&deaf.target(), post, &limits))
        .await
        .unwrap_err();
    assert!(matches!(error, SendError::Timeout { .. }), "{error:?}");

    let stalls = RawUpstream::start(|mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc";
        stream.write_all(head).await.unwrap();
        read_all(&mut stream).await;
    })
    .await;
    let response = pool
        .send(&stalls.target(), get("/"), &timeouts(50))
        .await
        .unwrap();
    let error = response.into_body().collect(100).await.unwrap_err();
    assert!(
        matches!(
            error,
            o28m_net::TooLarge::Read(o28m_net::BodyError::Timeout)
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn slow_but_moving_bodies_do_not_time_out() {
    let upstream = RawUpstream::start(|mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
            .await
            .unwrap();
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(60)).await;
            stream.write_all(b"x").await.unwrap();
        }
    })
    .await;
    let response = Pool::new()
        .send(&upstream.target(), get("/"), &timeouts(400))
        .await
        .unwrap();
    assert_eq!(text(response).await, "xxxxxxxxxx");
}

#[tokio::test]
async fn a_truncated_body_is_an_error() {
    for head in [
        "Content-Length: 10\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        let upstream = RawUpstream::start(move |mut stream, _| async move {
            read_until(&mut stream, "\r\n\r\n").await;
            let answer = format!("HTTP/1.1 200 OK\r\n{head}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        })
        .await;
        let response = Pool::new()
            .send(&upstream.target(), get("/"), &patient())
            .await
            .unwrap();
        let error = response.into_body().collect(100).await.unwrap_err();
        assert!(matches!(error, o28m_net::TooLarge::Read(_)), "{error:?}");
    }
}

#[tokio::test]
async fn failures_to_reach_are_told_apart() {
    let pool = Pool::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = target(free.local_addr().unwrap());
    drop(free);
    let error = pool.send(&refused, get("/"), &patient()).await.unwrap_err();
    assert!(matches!(error, SendError::Connect { .. }), "{error:?}");

    let unknown = Target {
        host: "no.such.name.invalid".into(),
        ..refused.clone()
    };
    let error = pool.send(&unknown, get("/"), &patient()).await.unwrap_err();
    assert!(
        matches!(error, SendError::Resolve { source: None, .. }),
        "{error:?}"
    );

    // A backlog of one that nobody empties: further handshakes get no answer.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let mut waiting = Vec::new();
    let error = loop {
        let pool = Pool::new();
        let connecting = TcpStream::connect(address);
        match tokio::time::timeout(Duration::from_millis(50), connecting).await {
            Ok(stream) => waiting.push(stream.unwrap()),
            Err(_) => {
                break pool
                    .send(&target(address), get("/"), &timeouts(50))
                    .await
                    .unwrap_err();
            }
        }
        assert!(waiting.len() < 100);
    };
    assert!(
        matches!(error, SendError::ConnectTimeout { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn localhost_is_the_loopback_address() {
    let upstream = RawUpstream::start(|stream, _| answer_all(stream, OK)).await;
    let named = Target {
        host: "localhost".into(),
        ..upstream.target()
    };
    let response = Pool::new()
        .send(&named, get("/"), &patient())
        .await
        .unwrap();
    assert_eq!(text(response).await, "ok");
}

#[tokio::test]
async fn requests_are_framed_by_what_they_carry() {
    let upstream = Server::start(|request, _| async move {
        let lengths = request.headers().get_all("content-length").iter().count();
        let length = request
            .headers()
            .get("content-length")
            .map_or("-", |v| v.to_str().unwrap())
            .to_owned();
        let coding = request
            .headers()
            .get("transfer-encoding")
            .map_or("-", |v| v.to_str().unwrap())
            .to_owned();
        let body = request.into_body().collect(1000).await.unwrap();
        http::Response::new(Body::full(format!(
            "{lengths} {length} {coding} {}",
            body.len()
        )))
    });
    let unknown = || {
        let frames = http_body_util::StreamBody::new(futures_util::stream::iter([
            Ok(http_body::Frame::data(Bytes::from_static(b"abc"))),
            Ok(http_body::Frame::data(Bytes::from_static(b"de"))),
        ]));
        Body::Stream(Box::pin(frames))
    };
    let pool = Pool::new();
    let cases = [
        ("GET", Body::Empty, None, "0 - - 0"),
        ("DELETE", Body::Empty, None, "0 - - 0"),
        ("POST", Body::Empty, None, "1 0 - 0"),
        ("PUT", Body::Empty, Some("7"), "1 0 - 0"),
        ("GET", Body::Empty, Some("7"), "0 - - 0"),
        ("POST", Body::full("abc"), None, "1 3 - 3"),
        ("POST", Body::full("abc"), Some("7"), "1 3 - 3"),
        ("POST", unknown(), None, "0 - chunked 5"),
        ("POST", unknown(), Some("5"), "1 5 - 5"),
        ("GET", unknown(), None, "0 - chunked 5"),
    ];
    for (method, body, length, wanted) in cases {
        let mut request = request(method, "/", body);
        if let Some(length) = length {
            request
                .headers_mut()
                .insert("content-length", length.parse().unwrap());
        }
        let response = pool
            .send(&upstream.target(), request, &patient())
            .await
            .unwrap();
        assert_eq!(text(response).await, wanted, "{method} {length:?}");
    }
}

#[tokio::test]
async fn a_failing_request_body_is_told_from_a_failing_upstream() {
    let upstream = RawUpstream::start(|mut stream, _| async move {
        read_all(&mut stream).await;
    })
    .await;
    let frames = futures_util::stream::iter([
        Ok(http_body::Frame::data(Bytes::from_static(b"abc"))),
        Err(o28m_net::BodyError::Timeout),
    ]);
    let body = Body::Stream(Box::pin(http_body_util::StreamBody::new(frames)));
    let error = Pool::new()
        .send(&upstream.target(), request("POST", "/", body), &patient())
        .await
        .unwrap_err();
    assert!(
        matches!(
            error.request_body_error(),
            Some(o28m_net::BodyError::Timeout)
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn answers_before_the_end_of_the_request_arrive() {
    let upstream = RawUpstream::start(|mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let answer = b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig";
        stream.write_all(answer).await.unwrap();
        tokio::io::copy(&mut stream, &mut tokio::io::sink())
            .await
            .unwrap();
    })
    .await;
    let post = request("POST", "/", Body::full(vec![0; 16 * 1024 * 1024]));
    let response = Pool::new()
        .send(&upstream.target(), post, &patient())
        .await
        .unwrap();
    assert_eq!(response.status(), 413);
    assert_eq!(text(response).await, "big");
}

#[tokio::test]
async fn head_and_bodyless_statuses_keep_their_length_and_the_connection() {
    let upstream = RawUpstream::start(|stream, _| {
        answer_all(
            stream,
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        )
    })
    .await;
    let pool = Pool::new();
    for method in ["HEAD", "GET"] {
        let response = pool
            .send(
                &upstream.target(),
                request(method, "/", Body::Empty),
                &patient(),
            )
            .await
            .unwrap();
        assert_eq!(response.headers()["content-length"], "5");
        assert!(matches!(response.body(), Body::Empty));
        assert_eq!(pool.idle(), 1);
    }
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn informational_responses_are_skipped() {
    let upstream = RawUpstream::start(|stream, _| {
        answer_all(
            stream,
            "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        )
    })
    .await;
    let response = Pool::new()
        .send(&upstream.target(), get("/"), &patient())
        .await
        .unwrap();
    assert_eq!(text(response).await, "ok");
}

#[tokio::test]
async fn trailers_arrive() {
    let upstream = RawUpstream::start(|stream, _| {
        answer_all(
            stream,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n",
        )
    })
    .await;
    let pool = Pool::new();
    let response = pool
        .send(&upstream.target(), get("/"), &patient())
        .await
        .unwrap();
    let collected = response.into_body().collect_frames().await;
    assert_eq!(collected, Some("7".to_owned()));
    assert_eq!(pool.idle(), 1);
}

trait CollectFrames {
    async fn collect_frames(self) -> Option<String>;
}

impl CollectFrames for Body {
    async fn collect_frames(self) -> Option<String> {
        let collected = http_body_util::BodyExt::collect(self).await.unwrap();
        let trailers = collected.trailers()?;
        Some(trailers.get("x-sum")?.to_str().unwrap().to_owned())
    }
}

#[tokio::test]
async fn large_bodies_stream_both_ways_in_bounded_pieces() {
    const LENGTH: usize = 48 * 1024 * 1024;
    let upstream =
        Server::start(|request, _| async move { http::Response::new(request.into_body()) });
    let pieces = futures_util::stream::iter(
        (0..LENGTH / 65_536)
            .map(|n| Ok(http_body::Frame::data(Bytes::from(vec![n as u8; 65_536])))),
    );
    let body = Body::Stream(Box::pin(http_body_util::StreamBody::new(pieces)));
    let post = request("POST", "/", body);
    let pool = Pool::new();
    let mut response = pool
        .send(&upstream.target(), post, &patient())
        .await
        .unwrap();
    let (mut length, mut largest) = (0, 0);
    while let Some(frame) = patiently("frame", response.body_mut().frame()).await {
        let data = frame.unwrap().into_data().unwrap();
        largest = largest.max(data.len());
        for (offset, byte) in data.iter().enumerate().step_by(4096) {
            assert_eq!(*byte, ((length + offset) / 65_536) as u8);
        }
        length += data.len();
    }
    assert_eq!(length, LENGTH);
    assert!(largest <= 512 * 1024, "a frame of {largest} bytes");
}

#[tokio::test]
async fn a_client_that_only_reads_after_it_sent_all_is_served() {
    const LENGTH: usize = 24 * 1024 * 1024;
    let upstream = RawUpstream::start(|mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let (mut reader, mut writer) = stream.split();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n");
        let answer = async {
            writer.write_all(head.as_bytes()).await.unwrap();
            writer.write_all(&vec![b'x'; LENGTH]).await.unwrap();
        };
        tokio::join!(answer, async {
            drop(tokio::io::copy(&mut reader, &mut tokio::io::sink()).await);
        });
    })
    .await;
    let target = upstream.target();
    let gateway = Server::start(move |request, connection| {
        let target = target.clone();
        async move {
            let sent = connection.pool.send(&target, request, &patient()).await;
            sent.unwrap()
        }
    });
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {LENGTH}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let sent = patiently("sending", async {
        for _ in 0..LENGTH / 65_536 {
            stream.write_all(&[b'y'; 65_536]).await.unwrap();
        }
    });
    Box::pin(sent).await;
    let answer = patiently("answer", read_all(&mut stream)).await;
    assert!(answer.starts_with("HTTP/1.1 200 "));
    assert!(answer.len() > LENGTH, "{}", answer.len());
}
