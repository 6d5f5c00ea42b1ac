//! The client side of HTTP/2 against upstreams of the library's own, and of raw frames.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame as BodyFrame;
use http_body_util::{BodyExt, StreamBody};
use o28m_net::client::{InvalidResponse, Pool, SendError, Target, Timeouts, TlsPolicy};
use o28m_net::{Body, BodyError, Scheme};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::frames::*;
use crate::support::{RawUpstream, get, patient, patiently, request, text, timeouts, until};

type Respond = SendResponse<Bytes>;

/// An upstream that does what `answer` does with each request; streams of one connection at most.
async fn upstream<F>(
    streams: u32,
    answer: impl Fn(Request<RecvStream>, Respond) -> F + Clone + Send + Sync + 'static,
) -> RawUpstream
where
    F: Future<Output = ()> + Send + 'static,
{
    RawUpstream::start(move |stream, _| {
        let answer = answer.clone();
        async move {
            let mut builder = Builder::new();
            builder.max_concurrent_streams(streams);
            let mut connection = builder.handshake::<_, Bytes>(stream).await.unwrap();
            let mut calls = tokio::task::JoinSet::new();
            while let Some(Ok((request, respond))) = connection.accept().await {
                calls.spawn(answer(request, respond));
            }
        }
    })
    .await
}

async fn echo(request: Request<RecvStream>, mut respond: Respond) {
    let (head, mut body) = request.into_parts();
    let mut whole = Vec::new();
    while let Some(Ok(data)) = body.data().await {
        body.flow_control().release_capacity(data.len()).unwrap();
        whole.extend(data);
    }
    let mut out = respond.send_response(Response::new(()), false).unwrap();
    let told = format!("{} {} {}", head.method, head.uri, whole.len());
    out.send_data(told.into(), false).unwrap();
    let mut trailers = body.trailers().await.unwrap().unwrap_or_default();
    trailers.insert("x-end", HeaderValue::from_static("1"));
    out.send_trailers(trailers).unwrap();
}

async fn send(
    pool: &Arc<Pool>,
    target: &Target,
    request: Request<Body>,
    timeouts: &Timeouts,
) -> Result<Response<Body>, SendError> {
    patiently(
        "a response",
        pool.send_http2(target, request, timeouts, false),
    )
    .await
}

fn streamed(items: mpsc::Receiver<Bytes>) -> Body {
    let items = futures_util::stream::unfold(items, |mut items| async move {
        let next = items.recv().await?;
        Some((Ok::<_, BodyError>(BodyFrame::data(next)), items))
    });
    Body::Stream(Box::pin(StreamBody::new(items)))
}

#[tokio::test]
async fn requests_share_a_connection_and_trailers_pass() {
    let upstream = upstream(100, echo).await;
    let pool = Pool::new();
    let target = upstream.target();
    let timeouts = patient();
    let asked = (0..50).map(|at| {
        let (pool, target) = (&pool, &target);
        let timeouts = &timeouts;
        async move {
            let path = format!("/{at}?x");
            let body = Body::full(vec![7; at * 5000]);
            let request = request("POST", &path, body);
            let response = send(pool, target, request, timeouts).await.unwrap();
            let collected = response.into_body().collect_all().await;
            let wanted = format!("POST http://upstream.example{path} {}", at * 5000);
            assert_eq!(collected.0, wanted);
            assert_eq!(collected.1["x-end"], "1");
        }
    });
    futures_util::future::join_all(asked).await;
    assert_eq!(upstream.count(), 1);
    // The same target over HTTP/1 is another connection.
    let error = pool.send(&target, get("/"), &timeouts).await.unwrap_err();
    assert!(matches!(error, SendError::Invalid { .. }), "{error:?}");
    assert_eq!(upstream.count(), 2);
}

trait CollectAll {
    async fn collect_all(self) -> (Bytes, HeaderMap);
}

impl CollectAll for Body {
    async fn collect_all(self) -> (Bytes, HeaderMap) {
        let collected = BodyExt::collect(self).await.unwrap();
        let trailers = collected.trailers().cloned().unwrap_or_default();
        (collected.to_bytes(), trailers)
    }
}

#[tokio::test]
async fn request_trailers_pass_and_bodies_go_on_while_the_answer_is_read() {
    let upstream = upstream(100, |request, mut respond| async move {
        let mut body = request.into_body();
        let mut out = respond.send_response(Response::new(()), false).unwrap();
        while let Some(Ok(data)) = body.data().await {
            body.flow_control().release_capacity(data.len()).unwrap();
            out.send_data(data, false).unwrap();
        }
        let trailers = body.trailers().await.unwrap().unwrap_or_default();
        out.send_trailers(trailers).unwrap();
    })
    .await;
    let pool = Pool::new();
    let (sender, items) = mpsc::channel(1);
    let post = request("POST", "/", streamed(items));
    sender.send("0".into()).await.unwrap();
    let response = send(&pool, &upstream.target(), post, &patient())
        .await
        .unwrap();
    let mut body = response.into_body();
    for at in 0..20 {
        let frame = patiently("an answer", body.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), at.to_string());
        sender.send((at + 1).to_string().into()).await.unwrap();
    }
    drop(sender);
    let (rest, trailers) = patiently("the end", body.collect_all()).await;
    assert_eq!((&rest[..], trailers.len()), (&b"20"[..], 0));

    let mut fields = HeaderMap::new();
    fields.insert("x-sum", HeaderValue::from_static("7"));
    let frames = [BodyFrame::data("abc".into()), BodyFrame::trailers(fields)].map(Ok);
    let body = StreamBody::new(futures_util::stream::iter(frames));
    let post = request("POST", "/", Body::Stream(Box::pin(body)));
    let response = send(&pool, &upstream.target(), post, &patient())
        .await
        .unwrap();
    let (body, trailers) = response.into_body().collect_all().await;
    assert_eq!(
        (&body[..], &trailers["x-sum"]),
        (&b"abc"[..], &HeaderValue::from(7))
    );
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_full_connection_gets_company() {
    let (open, opened) = tokio::sync::watch::channel(false);
    let upstream = upstream(2, move |request, respond| {
        let mut opened = opened.clone();
        async move {
            opened.wait_for(|it| *it).await.unwrap();
            echo(request, respond).await;
        }
    })
    .await;
    let pool = Pool::new();
    let target = upstream.target();
    // Its limit is known once it has answered.
    open.send(true).unwrap();
    let first = send(&pool, &target, get("/"), &patient()).await.unwrap();
    assert_eq!(text(first).await, "GET http://upstream.example/ 0");
    open.send(false).unwrap();
    let asked = (0..5).map(|_| {
        let (pool, target) = (pool.clone(), target.clone());
        tokio::spawn(async move { pool.send_http2(&target, get("/"), &patient(), false).await })
    });
    let asked: Vec<_> = asked.collect();
    until("three connections", || upstream.count() == 3).await;
    open.send(true).unwrap();
    for answer in asked {
        let response = patiently("an answer", answer).await.unwrap().unwrap();
        let _text = text(response).await;
    }
    assert_eq!(upstream.count(), 3);
}

/// What an upstream of frames says to the first request of a connection.
async fn say(mut stream: TcpStream, what: Vec<u8>) {
    let mut seen: Vec<u8> = Vec::new();
    let mut buffer = [0; 4096];
    crate::frames::write(&mut stream, settings(&[])).await;
    // A request's HEADERS frame ends the stream or a DATA frame does: the tests' are of few bytes.
    while !seen
        .windows(9)
        .any(|it| it[3] == HEADERS && it[..2] == [0, 0] && it[8] & 1 == 1)
    {
        let read = stream.read(&mut buffer).await.unwrap_or(0);
        if read == 0 {
            return;
        }
        seen.extend(&buffer[..read]);
    }
    crate::frames::write(&mut stream, what).await;
    let mut rest = Vec::new();
    let _closed = stream.read_to_end(&mut rest).await;
}

/// A response without body.
fn ok(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, [0x88])
}

fn away(last: u32, code: u32) -> Vec<u8> {
    frame(
        GOAWAY,
        0,
        0,
        [last.to_be_bytes(), code.to_be_bytes()].concat(),
    )
}

#[tokio::test]
async fn what_was_not_looked_at_is_sent_again() {
    for (name, first, connections) in [
        ("GOAWAY below the stream", away(0, 0), 2),
        ("GOAWAY with an error below the stream", away(0, 11), 2),
        ("GOAWAY above the stream", [away(1, 0), ok(1)].concat(), 1),
    ] {
        let upstream = RawUpstream::start(move |stream, number| {
            let what = if number == 0 { first.clone() } else { ok(1) };
            say(stream, what)
        })
        .await;
        let (pool, target) = (Pool::new(), upstream.target());
        let post = request("POST", "/", Body::full("x"));
        let response = send(&pool, &target, post, &patient()).await;
        assert_eq!(response.unwrap().status(), 200, "{name}");
        assert_eq!(upstream.count(), connections, "{name}");
    }
    let count = Arc::new(AtomicUsize::new(0));
    let upstream = upstream(100, move |request, mut respond| {
        let count = count.clone();
        async move {
            if count.fetch_add(1, Ordering::SeqCst) < 2 {
                respond.send_reset(Reason::REFUSED_STREAM);
            } else {
                echo(request, respond).await;
            }
        }
    })
    .await;
    let (pool, target) = (Pool::new(), upstream.target());
    let post = request("POST", "/", Body::full("abc"));
    let response = send(&pool, &target, post, &patient()).await.unwrap();
    assert_eq!(text(response).await, "POST http://upstream.example/ 3");
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn what_is_refused_for_good_says_that_it_was_not_looked_at() {
    let upstream = upstream(100, |_, mut respond| async move {
        respond.send_reset(Reason::REFUSED_STREAM);
    })
    .await;
    let (pool, target) = (Pool::new(), upstream.target());
    let (sender, items) = mpsc::channel(1);
    sender.send("used".into()).await.unwrap();
    for body in [Body::Empty, streamed(items)] {
        let error = send(&pool, &target, request("POST", "/", body), &patient()).await;
        let error = error.unwrap_err();
        assert!(
            matches!(error, SendError::Closed { unsent: true, .. }),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn failures_are_told_apart() {
    let code = |code: u32| frame(RST_STREAM, 0, 1, code.to_be_bytes());
    let large = block(&[(":status", "200"), ("x", &"y".repeat(15_000))]);
    let too_large = || {
        let mut frames = frame(HEADERS, 0, 1, &large);
        for _ in 0..5 {
            frames.extend(frame(
                CONTINUATION,
                0,
                1,
                block(&[("x", &"y".repeat(15_000))]),
            ));
        }
        frames.extend(frame(CONTINUATION, END_HEADERS, 1, []));
        frames
    };
    type Wanted = fn(&SendError) -> bool;
    let invalid: Wanted = |it| {
        let SendError::Invalid { source, .. } = it else {
            return false;
        };
        matches!(source, InvalidResponse::Http2(_))
    };
    let closed: Wanted = |it| matches!(it, SendError::Closed { unsent: false, .. });
    let timeout: Wanted = |it| matches!(it, SendError::Timeout { .. });
    let cases: [(&str, Vec<u8>, Wanted); 9] = [
        ("internal error", code(2), invalid),
        ("cancelled", code(8), invalid),
        (
            "no status",
            frame(HEADERS, 5, 1, block(&[("x", "y")])),
            invalid,
        ),
        (
            "status that is none",
            frame(HEADERS, 5, 1, block(&[(":status", "20")])),
            invalid,
        ),
        ("head over 64 KiB", too_large(), invalid),
        (
            "HTTP/1",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(),
            invalid,
        ),
        ("frame on stream 0", frame(HEADERS, 5, 0, [0x88]), invalid),
        (
            "pushed",
            frame(PUSH_PROMISE, 4, 1, [0, 0, 0, 2, 0x88]),
            invalid,
        ),
        ("nothing", vec![], timeout),
    ];
    for (name, what, wanted) in cases {
        let upstream = RawUpstream::start(move |stream, _| say(stream, what.clone())).await;
        let pool = Pool::new();
        let waiting = if name == "nothing" {
            timeouts(300)
        } else {
            patient()
        };
        let error = send(&pool, &upstream.target(), get("/"), &waiting).await;
        let error = error.err().unwrap_or_else(|| panic!("{name}: a response"));
        assert!(wanted(&error), "{name}: {error:?}");
    }
    let upstream = RawUpstream::start(|mut stream, _| async move {
        crate::frames::write(&mut stream, settings(&[])).await;
        let _read = stream.read(&mut [0; 4096]).await;
        tokio::task::yield_now().await;
    })
    .await;
    let error = send(&Pool::new(), &upstream.target(), get("/"), &patient()).await;
    let error = error.err().unwrap();
    assert!(closed(&error), "{error:?}");
}

#[tokio::test]
async fn bodies_that_stop_time_out_or_break() {
    let hang = Arc::new(AtomicUsize::new(0));
    let upstream = upstream(100, move |request, mut respond| {
        let hang = hang.clone();
        async move {
            let path = request.uri().path().to_owned();
            let mut body = request.into_body();
            if path == "/deaf" {
                hang.fetch_add(1, Ordering::SeqCst);
                std::future::pending::<()>().await;
            }
            let mut out = respond.send_response(Response::new(()), false).unwrap();
            out.send_data("ab".into(), false).unwrap();
            match path.as_str() {
                "/hang" => std::future::pending().await,
                "/reset" => {
                    // Behind what was sent.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    out.send_reset(Reason::INTERNAL_ERROR);
                }
                _ => drop(body.data().await),
            }
        }
    })
    .await;
    let pool = Pool::new();
    let target = upstream.target();
    let quick = timeouts(200);
    let response = send(&pool, &target, get("/hang"), &quick).await.unwrap();
    let error = patiently("the end", BodyExt::collect(response.into_body()))
        .await
        .unwrap_err();
    assert!(matches!(error, BodyError::Timeout), "{error:?}");
    let response = send(&pool, &target, get("/reset"), &patient())
        .await
        .unwrap();
    let error = patiently("the end", BodyExt::collect(response.into_body()))
        .await
        .unwrap_err();
    assert!(matches!(error, BodyError::Broken(_)), "{error:?}");
    // An upstream that takes no more of a body than fits its window.
    let large = request("POST", "/deaf", Body::full(vec![0; 1_000_000]));
    let error = send(&pool, &target, large, &quick).await.unwrap_err();
    assert!(matches!(error, SendError::Timeout { .. }), "{error:?}");
    // A client that fails to send its own.
    let broken = || {
        Err(BodyError::Broken(
            std::io::ErrorKind::ConnectionReset.into(),
        ))
    };
    let frames = [Ok(BodyFrame::data("a".into())), broken()];
    let body = StreamBody::new(futures_util::stream::iter(frames));
    let post = request("POST", "/deaf", Body::Stream(Box::pin(body)));
    let error = send(&pool, &target, post, &patient()).await.unwrap_err();
    assert!(error.request_body_error().is_some(), "{error:?}");
}

#[tokio::test]
async fn a_response_that_nobody_reads_holds_up_nobody() {
    let upstream = upstream(200, |request, mut respond| async move {
        let mut out = respond.send_response(Response::new(()), false).unwrap();
        if request.uri().path() == "/large" {
            let _sent = out.send_data(vec![0; 1_000_000].into(), true);
            let _gone = std::future::poll_fn(|context| out.poll_reset(context)).await;
        } else {
            out.send_data("small".into(), true).unwrap();
        }
    })
    .await;
    let pool = Pool::new();
    let target = upstream.target();
    let mut unread = Vec::new();
    for _ in 0..100 {
        let response = send(&pool, &target, get("/large"), &patient()).await;
        unread.push(response.unwrap());
    }
    let response = send(&pool, &target, get("/"), &patient()).await.unwrap();
    assert_eq!(text(response).await, "small");
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_connection_whose_answer_does_not_come_gets_no_more_requests() {
    let silent = RawUpstream::start(|stream, _| say(stream, vec![])).await;
    let (pool, target) = (Pool::new(), silent.target());
    for round in 1..=3 {
        let error = send(&pool, &target, get("/"), &timeouts(100)).await;
        let error = error.unwrap_err();
        assert!(matches!(error, SendError::Timeout { .. }), "{error:?}");
        assert_eq!(silent.count(), round);
    }
}

#[tokio::test]
async fn what_http2_cannot_carry_is_refused_and_costs_no_connection() {
    let upstream = upstream(100, echo).await;
    let (pool, target) = (Pool::new(), upstream.target());
    for (name, value) in [("host", "a b"), ("connection", "x"), ("te", "gzip")] {
        let mut bad = get("/");
        bad.headers_mut()
            .insert(name, HeaderValue::from_static(value));
        let error = send(&pool, &target, bad, &patient()).await.unwrap_err();
        assert!(matches!(error, SendError::Invalid { .. }), "{error:?}");
    }
    let response = send(&pool, &target, get("/"), &patient()).await;
    assert_eq!(response.unwrap().status(), 200);
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn tls_upstreams_are_told_what_is_spoken() {
    let made = rcgen::generate_simple_self_signed(["up.example".to_owned()]).unwrap();
    let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let config = o28m_net::tls::server_config(pem.as_bytes(), key.as_bytes()).unwrap();
    for (protocols, spoken) in [
        (&[&b"h2"[..]][..], true),
        (&[b"http/1.1"], false),
        (&[], true),
    ] {
        let mut config = config.clone();
        let protocols_offered = protocols.iter().map(|it| it.to_vec());
        Arc::make_mut(&mut config).alpn_protocols = protocols_offered.collect();
        let acceptor = tokio_rustls::TlsAcceptor::from(config);
        let upstream = RawUpstream::start(move |stream, _| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::spawn(echo(request, respond));
                }
            }
        })
        .await;
        let pool = Pool::new();
        for (verify, name) in [(false, None), (true, Some("up.example"))] {
            let target = Target {
                scheme: Scheme::Https,
                tls: TlsPolicy {
                    verify,
                    server_name: name.map(Arc::from),
                    ca_pem: Some(pem.as_str().into()),
                    ..TlsPolicy::default()
                },
                ..upstream.target()
            };
            let result = send(&pool, &target, get("/x"), &patient()).await;
            if spoken {
                let wanted = "GET https://upstream.example/x 0";
                assert_eq!(text(result.unwrap()).await, wanted);
            } else {
                assert!(matches!(result, Err(SendError::Tls { .. })), "{result:?}");
            }
        }
        // What verifies never uses what did not.
        assert_eq!(upstream.count(), 2);
    }
}

#[tokio::test]
async fn loopback_is_left_out_where_it_must_be() {
    let upstream = upstream(100, echo).await;
    let pool = Pool::new();
    let response = send(&pool, &upstream.target(), get("/"), &patient()).await;
    assert_eq!(response.unwrap().status(), 200);
    let beyond = pool
        .send_http2(&upstream.target(), get("/"), &patient(), true)
        .await;
    assert!(
        matches!(beyond, Err(SendError::Connect { .. })),
        "{beyond:?}"
    );
    assert_eq!(upstream.count(), 1);
}
