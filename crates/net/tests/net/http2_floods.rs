//! Clients that keep an HTTP/2 connection busy with nothing: each is answered once and closed, and costs
//! a bounded amount of work.

use std::time::Duration;

use http::Response;
use o28m_net::Body;
use o28m_net::server::{Limits, Timeouts};

use crate::frames::*;
use crate::support::{Server, echo, patiently, quick, until};

/// `ENHANCE_YOUR_CALM`.
const CALM: &str = "away 11";

/// Sends `bytes` again and again, up to so many times, and reads what the server says until it closes.
async fn flood(
    server: &Server,
    first: Vec<u8>,
    mut bytes: impl FnMut(u32) -> Vec<u8> + Send + 'static,
) -> Vec<String> {
    let mut peer = Peer::open(server.address).await;
    peer.send(first).await;
    let (mut reader, mut writer) = peer.split();
    let writing = tokio::spawn(async move {
        for round in 0..20_000 {
            if !writer.send(bytes(round)).await {
                return;
            }
        }
        // Nobody stopped it: the reader finds no end.
        std::future::pending::<()>().await;
    });
    let seen = reader.rest().await;
    writing.abort();
    seen
}

#[tokio::test]
async fn frames_that_move_nothing_are_stopped() {
    let server = Server::start_http2(echo);
    let open = || frame(HEADERS, END_HEADERS, 1, request("POST", "/", &[]));
    let floods: [(&str, Vec<u8>, Vec<u8>); 10] = [
        ("PING", vec![], frame(PING, 0, 0, [0; 8])),
        ("PING nobody asked for", vec![], frame(PING, ACK, 0, [0; 8])),
        ("SETTINGS", vec![], settings(&[])),
        (
            "SETTINGS that change every stream",
            open(),
            settings(&[(4, 70_000)]),
        ),
        ("PRIORITY", vec![], frame(PRIORITY, 0, 3, [0, 0, 0, 1, 9])),
        (
            "PRIORITY of streams that never come",
            vec![],
            frame(PRIORITY, 0, 0x7fff_ffff, [0x7f, 0xff, 0xff, 0xfd, 9]),
        ),
        ("WINDOW_UPDATE", vec![], window_update(0, 1)),
        ("empty DATA", open(), frame(DATA, 0, 1, [])),
        ("DATA of padding alone", open(), frame(DATA, PADDED, 1, [0])),
        ("unknown frames", vec![], frame(0xee, 0, 0, [])),
    ];
    for (name, first, bytes) in floods {
        let seen = flood(&server, first, move |_| bytes.repeat(10)).await;
        assert_eq!(seen, [CALM], "{name}");
    }
}

#[tokio::test]
async fn header_blocks_without_end_are_stopped() {
    let server = Server::start_http2(echo);
    let begin = || frame(HEADERS, END_STREAM, 1, request("GET", "/", &[]));
    for (name, piece) in [
        ("fields", block(&[("x", "y")])),
        ("one long value", [0, 1, b'x', 127, 0x80, 0x80, 0x40].into()),
        ("nothing", vec![]),
    ] {
        let piece = frame(CONTINUATION, 0, 1, piece);
        let seen = flood(&server, begin(), move |_| piece.clone()).await;
        assert_eq!(seen.len(), 1, "{name}: {seen:?}");
        assert!(seen[0] == CALM || seen[0] == "away 1", "{name}: {seen:?}");
    }
    assert_eq!(server.calls(), 0);
}

#[tokio::test]
async fn rapid_resets_are_stopped() {
    let server = Server::start_http2(|_, _| std::future::pending::<Response<Body>>());
    let seen = flood(&server, vec![], |round| {
        let stream = round * 2 + 1;
        [get(stream), reset(stream)].concat()
    });
    assert_eq!(seen.await, [CALM]);
    assert!(server.calls() < 1000, "{}", server.calls());
    // In one piece, before anybody looked at any of them.
    let mut peer = Peer::open(server.address).await;
    let burst = (0..2000).flat_map(|at| [get(at * 2 + 1), reset(at * 2 + 1)].concat());
    peer.send(burst.collect::<Vec<_>>()).await;
    assert_eq!(peer.rest().await, [CALM]);
}

#[tokio::test]
async fn streams_that_the_server_has_to_reset_are_stopped() {
    let server = Server::start_http2(echo);
    let seen = flood(&server, vec![], |round| {
        let block = request("POST", "/", &[("content-length", "1")]);
        let stream = round * 2 + 1;
        let head = frame(HEADERS, END_HEADERS, stream, block);
        [head, frame(DATA, END_STREAM, stream, "too long")].concat()
    });
    let seen = seen.await;
    assert_eq!(seen.last().unwrap(), CALM);
    assert!(server.calls() < 2000, "{}", server.calls());
}

#[tokio::test]
async fn streams_over_the_limit_are_refused_and_then_all() {
    let server = Server::start_http2(|_, _| std::future::pending::<Response<Body>>());
    let mut peer = Peer::open(server.address).await;
    let streams = (0..200).flat_map(|at| get(at * 2 + 1));
    peer.send(streams.collect::<Vec<_>>()).await;
    let seen = peer.outcome().await;
    let refused: Vec<_> = (128..200)
        .map(|at| format!("{}: reset 7", at * 2 + 1))
        .collect();
    assert_eq!(seen, refused);
    assert_eq!(server.calls(), 128);
    let seen = flood(&server, vec![], |round| get(round * 2 + 1)).await;
    assert_eq!(seen.last().unwrap(), CALM);
}

#[tokio::test]
async fn header_lists_that_grow_when_they_are_decoded_are_stopped() {
    let server = Server::start_http2(echo);
    // One field of 4000 bytes goes into the table; each further byte stands for it again.
    let bomb = |times: usize| {
        let mut bytes = request("GET", "/", &[]);
        bytes.extend([0x40, 1, b'x', 127, 0xa1, 0x1e]);
        bytes.extend([b'y'; 4000]);
        bytes.resize(bytes.len() + times, 0xbe);
        frame(HEADERS, END_HEADERS | END_STREAM, 1, bytes)
    };
    for (times, wanted) in [
        (1, &["1: 200"][..]),
        (10, &["1: 400"]),
        // The library's own limit, with its own answer.
        (30, &["1: 431"]),
        (1000, &[CALM, "closed"]),
    ] {
        let mut peer = Peer::open(server.address).await;
        peer.send(bomb(times)).await;
        assert_eq!(peer.outcome().await, wanted, "{times}");
    }
    let rejections = server.rejections();
    assert_eq!(rejections.len(), 1);
    assert_eq!(rejections[0].1, "request header or cookie too large");
}

/// Answers with a megabyte.
fn large() -> Response<Body> {
    Response::new(Body::full(vec![7; 1024 * 1024]))
}

#[tokio::test]
async fn windows_that_are_opened_by_single_bytes_are_stopped() {
    let server = Server::start_http2(|_, _| async { large() });
    let first = [settings(&[(4, 1)]), get(1)].concat();
    let seen = flood(&server, first, |_| window_update(1, 1)).await;
    assert_eq!(seen, ["1: 200", CALM]);
}

#[tokio::test]
async fn clients_that_take_nothing_lose_the_stream() {
    let server = Server::start_all(quick(), None, true, |_, _| async { large() });
    let mut peer = Peer::open(server.address).await;
    peer.send([settings(&[(4, 0)]), get(1)].concat()).await;
    let head = peer.wait_for(HEADERS).await;
    assert_eq!(head.status(), 200);
    assert_eq!(peer.wait_for(RST_STREAM).await.payload, [0, 0, 0, 8]);
}

#[tokio::test]
async fn clients_that_read_nothing_lose_the_connection() {
    let limits = Limits {
        timeouts: Timeouts {
            idle: Duration::from_secs(600),
            ..quick().timeouts
        },
        ..Limits::default()
    };
    let mut server = Server::start_all(limits, None, true, |_, _| async { large() });
    let mut peer = Peer::open(server.address).await;
    peer.send(settings(&[(4, (1 << 31) - 1)])).await;
    peer.send(window_update(0, 1 << 30)).await;
    for at in 0..100 {
        peer.send(get(at * 2 + 1)).await;
    }
    until("the calls", || server.calls() == 100).await;
    // Nothing is left that a drain would wait for.
    server.drain.cancel();
    patiently("the end", server.serving.take().unwrap())
        .await
        .unwrap();
    drop(peer);
}

#[tokio::test]
async fn heads_that_do_not_end_in_time_are_cut() {
    let server = Server::start_all(quick(), None, true, echo);
    let first = request("GET", "/", &[]);
    for (name, bytes) in [
        ("no END_HEADERS", frame(HEADERS, END_STREAM, 1, &first)),
        ("half a frame", get(1)[..12].to_vec()),
        ("half a preface", vec![]),
    ] {
        let mut peer = Peer::connect(server.address).await;
        if name == "half a preface" {
            peer.send(&PREFACE[..10]).await;
        } else {
            peer.send([PREFACE, &settings(&[]), &bytes].concat()).await;
        }
        assert!(peer.rest().await.is_empty(), "{name}");
    }
    assert_eq!(server.calls(), 0);
    // One that does nothing is told so.
    let mut peer = Peer::open(server.address).await;
    assert_eq!(peer.rest().await, ["away 0"]);
}
