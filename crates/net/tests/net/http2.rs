//! The server side of HTTP/2: the same requests, answers, times and drain as HTTP/1.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Frame as BodyFrame;
use http_body_util::StreamBody;
use o28m_net::tls::ListenerSettings;
use o28m_net::{Body, BodyError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::frames::*;
use crate::support::{Server, echo, patiently, quick, raw, read_until, until};

/// A client of the library's own.
async fn connect(server: &Server) -> h2::client::SendRequest<Bytes> {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender.ready().await.unwrap()
}

async fn send(
    sender: &h2::client::SendRequest<Bytes>,
    request: Request<()>,
    body: &[&'static str],
) -> (http::response::Parts, Bytes, Option<HeaderMap>) {
    let mut sender = sender.clone().ready().await.unwrap();
    let (response, mut out) = sender.send_request(request, body.is_empty()).unwrap();
    for (at, piece) in body.iter().enumerate() {
        out.send_data(Bytes::from_static(piece.as_bytes()), at + 1 == body.len())
            .unwrap();
    }
    let response = patiently("a response", response).await.unwrap();
    let (head, mut stream) = response.into_parts();
    let mut whole = Vec::new();
    while let Some(data) = patiently("a body", stream.data()).await {
        let data = data.unwrap();
        stream.flow_control().release_capacity(data.len()).unwrap();
        whole.extend(data);
    }
    let trailers = stream.trailers().await.unwrap();
    (head, whole.into(), trailers)
}

fn get_of(uri: &str) -> Request<()> {
    Request::get(uri).body(()).unwrap()
}

/// A body of frames.
fn streamed(frames: Vec<Result<BodyFrame<Bytes>, BodyError>>) -> Body {
    Body::Stream(Box::pin(StreamBody::new(stream::iter(frames))))
}

fn data(text: &'static str) -> Result<BodyFrame<Bytes>, BodyError> {
    Ok(BodyFrame::data(Bytes::from_static(text.as_bytes())))
}

fn trailer() -> Result<BodyFrame<Bytes>, BodyError> {
    let mut fields = HeaderMap::new();
    fields.insert("grpc-status", HeaderValue::from_static("0"));
    fields.insert("content-length", HeaderValue::from_static("9"));
    Ok(BodyFrame::trailers(fields))
}

#[tokio::test]
async fn one_port_speaks_both() {
    let server = Server::start_http2(echo);
    let answer = raw(
        server.address,
        b"GET /one HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert!(answer.ends_with("GET /one host=a body=0:"), "{answer}");
    // A method that begins as the preface does, in pieces.
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    for piece in [
        "P",
        "OST / HTTP/1.1\r\nHost: a\r\n",
        "Content-Length: 1\r\n\r\nx",
    ] {
        stream.write_all(piece.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    read_until(&mut stream, "body=1:x").await;
    let mut peer = Peer::connect(server.address).await;
    for byte in [PREFACE, &settings(&[]), &get(1)].concat() {
        peer.send([byte]).await;
    }
    assert_eq!(peer.outcome().await, ["1: 200"]);
    let (head, body, _) = send(&connect(&server).await, get_of("http://b:1/two?x"), &[]).await;
    assert_eq!(head.status, 200);
    assert_eq!(body, "GET /two?x host=b:1 body=0:");
}

#[tokio::test]
async fn tls_clients_choose() {
    let made = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
    let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let identity = o28m_net::tls::Identity::from_pem(pem.as_bytes(), key.as_bytes()).unwrap();
    let identities: o28m_net::tls::Identities = [identity].into();
    let settings = ListenerSettings::default().with_http2(true);
    let config = o28m_net::tls::listener_config(vec![Arc::new(identities)], &settings).unwrap();
    let server = Server::start_all(
        o28m_net::server::Limits::default(),
        Some(config),
        true,
        echo,
    );
    for (offered, chosen) in [
        (&[&b"h2"[..], b"http/1.1"][..], Some(&b"h2"[..])),
        (&[b"http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let policy = o28m_net::client::TlsPolicy::default();
        let mut config = o28m_net::client::tls_config(&policy).await.unwrap();
        let protocols = offered.iter().map(|it| it.to_vec());
        Arc::make_mut(&mut config).alpn_protocols = protocols.collect();
        let stream = TcpStream::connect(server.address).await.unwrap();
        let name = "a".try_into().unwrap();
        let connector = tokio_rustls::TlsConnector::from(config);
        let mut stream = connector.connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), chosen);
        if chosen == Some(b"h2") {
            let (sender, connection) = h2::client::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            let (head, _, _) = send(&sender, get_of("https://a/"), &[]).await;
            assert_eq!(head.status, 200);
        } else {
            stream
                .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                .await
                .unwrap();
            read_until(&mut stream, "GET / host=a body=0:").await;
        }
    }
}

#[tokio::test]
async fn bodies_arrive_whole_and_answers_tell_what_they_are() {
    let server = Server::start_http2(echo);
    let sender = connect(&server).await;
    let post = || Request::post("http://a/x").body(()).unwrap();
    for (pieces, wanted) in [
        (&["abc"][..], "POST /x host=a body=3:abc"),
        (&["a", "", "b"], "POST /x host=a body=2:ab"),
    ] {
        let (head, body, _) = send(&sender, post(), pieces).await;
        assert_eq!(body, wanted);
        assert_eq!(head.headers["content-length"], wanted.len().to_string());
        assert!(head.headers.contains_key("date"));
    }
    let head = Request::head("http://a/").body(()).unwrap();
    let (head, body, _) = send(&sender, head, &[]).await;
    assert_eq!(
        (body.len(), &head.headers["content-length"]),
        (0, &HeaderValue::from(21))
    );
    let large: &'static str = "z".repeat(3_000_000).leak();
    let mut ready = sender.clone().ready().await.unwrap();
    let (response, mut out) = ready.send_request(post(), false).unwrap();
    let mut left = large;
    while !left.is_empty() {
        out.reserve_capacity(left.len().min(30_000));
        let granted = std::future::poll_fn(|context| out.poll_capacity(context));
        let granted = patiently("room", granted).await.unwrap().unwrap();
        let (piece, rest) = left.split_at(granted.min(left.len()));
        left = rest;
        out.send_data(Bytes::from_static(piece.as_bytes()), left.is_empty())
            .unwrap();
    }
    let response = patiently("a response", response).await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn answers_lose_what_is_of_connections_and_keep_trailers_where_they_are_wanted() {
    let server = Server::start_http2(|request, _| async move {
        let mut response = Response::new(streamed(vec![data("a"), data("b"), trailer()]));
        let headers = response.headers_mut();
        for name in [
            "connection",
            "keep-alive",
            "proxy-connection",
            "transfer-encoding",
            "upgrade",
            "x",
        ] {
            headers.insert(name, HeaderValue::from_static("x"));
        }
        if request.uri().path() == "/grpc" {
            headers.insert(
                "content-type",
                HeaderValue::from_static("application/grpc+proto"),
            );
        }
        response
    });
    let sender = connect(&server).await;
    let asking = Request::get("http://a/")
        .header("te", "trailers")
        .body(())
        .unwrap();
    for (request, wanted) in [
        (get_of("http://a/"), 0),
        (asking, 1),
        (get_of("http://a/grpc"), 1),
    ] {
        let (head, body, trailers) = send(&sender, request, &[]).await;
        let mut names: Vec<_> = head.headers.keys().map(|it| it.as_str()).collect();
        names.retain(|it| *it != "content-type");
        assert_eq!(names, ["x", "date"]);
        assert_eq!(body, "ab");
        let trailers = trailers.unwrap_or_default();
        assert_eq!(trailers.len(), wanted);
        assert_eq!(trailers.contains_key("grpc-status"), wanted == 1);
    }
}

#[tokio::test]
async fn request_trailers_come_to_the_service() {
    let server = Server::start_http2(|request, _| async move {
        let collected = http_body_util::BodyExt::collect(request.into_body())
            .await
            .unwrap();
        let trailers = collected.trailers().cloned().unwrap_or_default();
        Response::new(Body::full(format!("{trailers:?}")))
    });
    let mut peer = Peer::open(server.address).await;
    peer.send(frame(HEADERS, END_HEADERS, 1, request("POST", "/", &[])))
        .await;
    peer.send(frame(DATA, 0, 1, "abc")).await;
    peer.send(frame(HEADERS, 5, 1, block(&[("x-sum", "7")])))
        .await;
    let answer = peer.wait_for(DATA).await;
    assert_eq!(
        String::from_utf8_lossy(&answer.payload),
        "{\"x-sum\": \"7\"}"
    );
}

#[tokio::test]
async fn failures_cost_their_stream_alone() {
    let server = Server::start_http2(|request, _| async move {
        let broken = || {
            Err(BodyError::Broken(
                std::io::ErrorKind::ConnectionReset.into(),
            ))
        };
        let mut response = match request.uri().path() {
            "/panic" => panic!("on purpose"),
            "/switch" => {
                let mut response = Response::new(Body::Empty);
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                response
            }
            "/broken" => Response::new(streamed(vec![data("a"), broken()])),
            "/short" | "/long" => Response::new(streamed(vec![data("abc")])),
            _ => Response::new(Body::full("fine")),
        };
        let length = match request.uri().path() {
            "/short" => Some(4),
            "/long" => Some(2),
            _ => None,
        };
        if let Some(length) = length {
            response
                .headers_mut()
                .insert("content-length", HeaderValue::from(length));
        }
        response
    });
    let mut peer = Peer::open(server.address).await;
    for (at, (path, wanted)) in [
        ("/panic", &["500"][..]),
        ("/switch", &["500"]),
        ("/broken", &["reset 2"]),
        ("/short", &["reset 2"]),
        ("/long", &["reset 2"]),
        ("/fine", &["200"]),
    ]
    .into_iter()
    .enumerate()
    {
        let stream = at as u32 * 2 + 1;
        peer.send(frame(HEADERS, 5, stream, request("GET", path, &[])))
            .await;
        let wanted: Vec<_> = wanted.iter().map(|it| format!("{stream}: {it}")).collect();
        assert_eq!(peer.outcome().await, wanted, "{path}");
    }
}

#[tokio::test]
async fn refused_heads_reach_the_services_log() {
    let server = Server::start_http2(echo);
    let mut peer = Peer::open(server.address).await;
    let head = frame(
        HEADERS,
        5,
        1,
        request("TRACE", "/x?y", &[("accept", "text/html")]),
    );
    peer.send(head).await;
    assert_eq!(peer.outcome().await, ["1: 405"]);
    peer.send(get(3)).await;
    assert_eq!(peer.outcome().await, ["3: 200"]);
    let seen = server.rejections();
    let wanted = (405, "method not allowed", Some("TRACE /x?y 1".to_owned()));
    assert_eq!(seen, [wanted]);
}

#[tokio::test]
async fn clients_that_wait_for_100_get_it_when_the_body_is_read() {
    let server = Server::start_http2(|request, connection| async move {
        if request.uri().path() == "/no" {
            let mut response = Response::new(Body::Empty);
            *response.status_mut() = StatusCode::FORBIDDEN;
            return response;
        }
        echo(request, connection).await
    });
    let mut peer = Peer::open(server.address).await;
    let expecting = |path| request("POST", path, &[("expect", "100-Continue")]);
    peer.send(frame(HEADERS, END_HEADERS, 1, expecting("/")))
        .await;
    assert_eq!(peer.wait_for(HEADERS).await.status(), 100);
    peer.send(frame(DATA, END_STREAM, 1, "abc")).await;
    assert_eq!(peer.wait_for(HEADERS).await.status(), 200);
    peer.send(frame(HEADERS, END_HEADERS, 3, expecting("/no")))
        .await;
    assert_eq!(peer.wait_for(HEADERS).await.status(), 403);
}

#[tokio::test]
async fn interim_responses_come_before_the_final_one() {
    let server = Server::start_http2(|_, connection| async move {
        let interim = connection.interim.unwrap();
        for at in 0..10 {
            let mut headers = HeaderMap::new();
            headers.insert("link", HeaderValue::from(at));
            headers.insert("connection", HeaderValue::from_static("x"));
            interim.send(StatusCode::EARLY_HINTS, &headers);
            tokio::task::yield_now().await;
        }
        Response::new(Body::Empty)
    });
    let mut peer = Peer::open(server.address).await;
    peer.send(get(1)).await;
    assert_eq!(peer.wait_for(HEADERS).await.status(), 103);
    let mut heads = 1;
    while peer.wait_for(HEADERS).await.flags & END_STREAM == 0 {
        heads += 1;
    }
    assert_eq!(heads, 8);
}

#[tokio::test]
async fn bodies_that_do_not_come_time_out() {
    let server = Server::start_all(quick(), None, true, echo);
    let mut peer = Peer::open(server.address).await;
    peer.send(frame(HEADERS, END_HEADERS, 1, request("POST", "/", &[])))
        .await;
    peer.send(frame(DATA, 0, 1, "abc")).await;
    assert_eq!(peer.wait_for(HEADERS).await.status(), 400);
    assert_eq!(
        peer.wait_for(DATA).await.payload,
        b"failed to read message body"
    );
}

#[tokio::test]
async fn a_request_that_is_taken_back_is_cancelled() {
    struct Dropped(Arc<AtomicUsize>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let count = dropped.clone();
    let server = Server::start_http2(move |request, _| {
        let guard = Dropped(count.clone());
        async move {
            let _guard = guard;
            if request.uri().path() == "/fine" {
                return Response::new(Body::Empty);
            }
            std::future::pending().await
        }
    });
    let mut peer = Peer::open(server.address).await;
    peer.send([get(1), get(3)].concat()).await;
    until("two calls", || server.calls() == 2).await;
    peer.send(reset(1)).await;
    until("one to be cancelled", || {
        dropped.load(Ordering::SeqCst) == 1
    })
    .await;
    peer.send(frame(HEADERS, 5, 5, request("GET", "/fine", &[])))
        .await;
    assert_eq!(peer.wait_for(HEADERS).await.stream, 5);
    drop(peer);
    until("the rest to be cancelled", || {
        dropped.load(Ordering::SeqCst) == 3
    })
    .await;
}

#[tokio::test]
async fn a_drain_finishes_what_has_begun() {
    let (begin, begun) = tokio::sync::watch::channel(false);
    let mut server = Server::start_http2(move |_, _| {
        let mut begun = begun.clone();
        async move {
            begun.wait_for(|it| *it).await.unwrap();
            Response::new(Body::full("late"))
        }
    });
    let mut busy = Peer::open(server.address).await;
    busy.send(get(1)).await;
    until("the call", || server.calls() == 1).await;
    let mut idle = Peer::open(server.address).await;
    assert!(idle.outcome().await.is_empty());
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let fresh = connect(&server).await;
    server.drain.cancel();
    // Neither answers pings: they are let go all the same.
    assert_eq!(idle.rest().await.last().unwrap(), "away 0");
    assert_eq!(silent.read(&mut [0]).await.unwrap(), 0);
    let away = busy.wait_for(GOAWAY).await;
    assert_eq!(away.payload, [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    // What is on its way to the server meanwhile is served.
    busy.send(get(3)).await;
    until("the second call", || server.calls() == 2).await;
    begin.send(true).unwrap();
    let mut heads = Vec::new();
    while heads.len() < 2 {
        let frame = busy.read().await.unwrap();
        if frame.kind == HEADERS {
            heads.push((frame.stream, frame.status()));
        }
    }
    heads.sort_unstable();
    assert_eq!(heads, [(1, 200), (3, 200)]);
    assert_eq!(busy.rest().await.last().unwrap(), "away 0");
    drop((busy, idle, fresh));
    let serving = server.serving.take().unwrap();
    patiently("the drain", serving).await.unwrap();
}

#[tokio::test]
async fn what_does_not_finish_is_cut_when_the_drain_is_over() {
    let mut server = Server::start_http2(|_, _| std::future::pending::<Response<Body>>());
    let mut peer = Peer::open(server.address).await;
    peer.send(get(1)).await;
    until("the call", || server.calls() == 1).await;
    server.drain.cancel();
    peer.wait_for(GOAWAY).await;
    server.stop.cancel();
    patiently("the stop", server.serving.take().unwrap())
        .await
        .unwrap();
    peer.rest().await;
}

#[tokio::test]
async fn a_connection_serves_so_many_requests() {
    let limits = o28m_net::server::Limits {
        requests_max: 100,
        ..o28m_net::server::Limits::default()
    };
    let server = Server::start_all(limits, None, true, |_, _| async {
        Response::new(Body::Empty)
    });
    let sender = connect(&server).await;
    let mut served = 0;
    loop {
        let Ok(mut ready) = sender.clone().ready().await else {
            break;
        };
        let Ok((response, _)) = ready.send_request(get_of("http://a/"), true) else {
            break;
        };
        drop(ready);
        let response = tokio::time::timeout(Duration::from_secs(20), response);
        assert_eq!(response.await.unwrap().unwrap().status(), 200);
        served += 1;
    }
    assert!((100..110).contains(&served), "{served}");
}
