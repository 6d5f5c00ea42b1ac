//! What clients may not do in HTTP/2 (RFC 9113, RFC 7541), each with the answer it gets.

use http::Response;
use o28m_net::Body;

use crate::frames::*;
use crate::support::{Server, echo};

/// A violation, what is sent behind preface and settings, and what the server says until it answers a
/// ping or closes.
type Case = (&'static str, Vec<u8>, &'static [&'static str]);

fn head(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, block(fields))
}

fn with(more: &[(&str, &str)]) -> Vec<u8> {
    frame(
        HEADERS,
        END_HEADERS | END_STREAM,
        1,
        request("GET", "/", more),
    )
}

/// A request whose body is still to come.
fn open(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, request("POST", "/", &[]))
}

fn framing() -> Vec<Case> {
    let whole = request("GET", "/", &[]);
    let (first, second) = whole.split_at(9);
    let mut padded = vec![200];
    padded.extend(&whole);
    let mut on_itself = 1_u32.to_be_bytes().to_vec();
    on_itself.push(0);
    let mut with_priority = on_itself.clone();
    with_priority.extend(&whole);
    vec![
        (
            "frame larger than SETTINGS_MAX_FRAME_SIZE",
            frame(DATA, 0, 1, vec![0; 16_385]),
            &["away 6", "closed"],
        ),
        (
            "HEADERS on stream 0",
            frame(HEADERS, 5, 0, &whole),
            &["away 1", "closed"],
        ),
        (
            "HEADERS on a stream of the server's",
            get(2),
            &["away 1", "closed"],
        ),
        (
            "stream id that goes back",
            [get(5), get(3)].concat(),
            &["away 1", "closed"],
        ),
        (
            "padding longer than the frame",
            frame(HEADERS, 5 | PADDED, 1, padded),
            &["away 1", "closed"],
        ),
        (
            "HEADERS depends on itself",
            frame(HEADERS, 5 | PRIORITISED, 1, with_priority),
            &["1: reset 1"],
        ),
        (
            "PRIORITY depends on itself",
            frame(PRIORITY, 0, 1, on_itself),
            &["1: reset 1"],
        ),
        (
            "PRIORITY on stream 0",
            frame(PRIORITY, 0, 0, [0; 5]),
            &["away 1", "closed"],
        ),
        (
            "DATA on stream 0",
            frame(DATA, 0, 0, "x"),
            &["away 1", "closed"],
        ),
        (
            "DATA on an idle stream",
            frame(DATA, 0, 1, "x"),
            &["away 1", "closed"],
        ),
        (
            "DATA with padding longer than it",
            [open(1), frame(DATA, PADDED, 1, [9, 1])].concat(),
            &["away 1", "closed"],
        ),
        (
            "DATA behind END_STREAM",
            [
                open(1),
                frame(DATA, END_STREAM, 1, "x"),
                frame(DATA, 0, 1, "x"),
            ]
            .concat(),
            &["away 1", "closed"],
        ),
        (
            "RST_STREAM on stream 0",
            frame(RST_STREAM, 0, 0, [0; 4]),
            &["away 1", "closed"],
        ),
        (
            "RST_STREAM on an idle stream",
            reset(1),
            &["away 1", "closed"],
        ),
        (
            "RST_STREAM of 3 bytes",
            [open(1), frame(RST_STREAM, 0, 1, [0; 3])].concat(),
            &["away 1", "closed"],
        ),
        (
            "SETTINGS on a stream",
            frame(SETTINGS, 0, 1, []),
            &["away 1", "closed"],
        ),
        (
            "SETTINGS of 5 bytes",
            frame(SETTINGS, 0, 0, [0; 5]),
            &["away 1", "closed"],
        ),
        (
            "SETTINGS acknowledgement with payload",
            frame(SETTINGS, ACK, 0, [0; 6]),
            &["away 1", "closed"],
        ),
        (
            "SETTINGS_ENABLE_PUSH of 2",
            settings(&[(2, 2)]),
            &["away 1", "closed"],
        ),
        (
            "SETTINGS_INITIAL_WINDOW_SIZE over 2^31-1",
            settings(&[(4, 1 << 31)]),
            &["away 1", "closed"],
        ),
        (
            "SETTINGS_MAX_FRAME_SIZE too small",
            settings(&[(5, 1)]),
            &["away 1", "closed"],
        ),
        (
            "SETTINGS_MAX_FRAME_SIZE too large",
            settings(&[(5, 1 << 24)]),
            &["away 1", "closed"],
        ),
        ("unknown setting", settings(&[(0xff, 1)]), &[]),
        (
            "PUSH_PROMISE",
            frame(PUSH_PROMISE, END_HEADERS, 1, [0, 0, 0, 2]),
            &["away 1", "closed"],
        ),
        (
            "PING on a stream",
            frame(PING, 0, 1, [0; 8]),
            &["away 1", "closed"],
        ),
        (
            "PING of 6 bytes",
            frame(PING, 0, 0, [0; 6]),
            &["away 1", "closed"],
        ),
        (
            "GOAWAY on a stream",
            frame(GOAWAY, 0, 1, [0; 8]),
            &["away 1", "closed"],
        ),
        (
            "WINDOW_UPDATE of 0 on the connection",
            window_update(0, 0),
            &["away 1", "closed"],
        ),
        (
            "WINDOW_UPDATE of 0 on a stream",
            [open(1), window_update(1, 0)].concat(),
            &["away 1", "closed"],
        ),
        (
            "WINDOW_UPDATE of 3 bytes",
            frame(WINDOW_UPDATE, 0, 0, [0; 3]),
            &["away 1", "closed"],
        ),
        (
            "WINDOW_UPDATE on an idle stream",
            window_update(1, 1),
            &["away 1", "closed"],
        ),
        (
            "WINDOW_UPDATE overflows the connection",
            window_update(0, (1 << 31) - 1),
            &["away 3", "closed"],
        ),
        (
            "WINDOW_UPDATE overflows a stream",
            [open(1), window_update(1, (1 << 31) - 1)].concat(),
            &["1: reset 3"],
        ),
        (
            "CONTINUATION out of nothing",
            frame(CONTINUATION, END_HEADERS, 1, &whole),
            &["away 1", "closed"],
        ),
        (
            "CONTINUATION behind END_HEADERS",
            [get(1), frame(CONTINUATION, END_HEADERS, 1, &whole)].concat(),
            &["away 1", "closed"],
        ),
        (
            "CONTINUATION of another stream",
            [
                frame(HEADERS, 1, 1, first),
                frame(CONTINUATION, END_HEADERS, 3, second),
            ]
            .concat(),
            &["away 1", "closed"],
        ),
        (
            "other frame within a header block",
            [frame(HEADERS, 1, 1, first), frame(PING, 0, 0, [0; 8])].concat(),
            &["away 1", "closed"],
        ),
        (
            "header block in two pieces",
            [
                frame(HEADERS, 1, 1, first),
                frame(CONTINUATION, END_HEADERS, 1, second),
            ]
            .concat(),
            &["1: 200"],
        ),
        ("unknown frame", frame(0xee, 0xff, 7, [0; 100]), &[]),
        (
            "unknown frame within a header block",
            [frame(HEADERS, 1, 1, first), frame(0xee, 0, 1, [0; 8])].concat(),
            &["away 1", "closed"],
        ),
        (
            "header block that is no HPACK",
            frame(HEADERS, 5, 1, [0xff; 20]),
            &["away 1", "closed"],
        ),
        (
            "index 0 of HPACK",
            frame(HEADERS, 5, 1, [0x80]),
            &["away 1", "closed"],
        ),
        (
            "table larger than allowed",
            frame(HEADERS, 5, 1, [0x3f, 0xff, 0xff, 0x03]),
            &["away 1", "closed"],
        ),
        (
            "second HEADERS without END_STREAM",
            [
                open(1),
                frame(HEADERS, END_HEADERS, 1, block(&[("x", "y")])),
            ]
            .concat(),
            &["1: reset 1"],
        ),
        (
            "HEADERS behind END_STREAM",
            [get(1), get(1)].concat(),
            &["away 1", "closed"],
        ),
    ]
}

fn heads() -> Vec<Case> {
    let (method, scheme, path, authority) = (
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "a"),
    );
    vec![
        (
            "sound",
            head(&[method, scheme, path, authority]),
            &["1: 200"],
        ),
        (
            "no method",
            head(&[scheme, path, authority]),
            &["1: reset 1"],
        ),
        (
            "no scheme",
            head(&[method, path, authority]),
            &["1: reset 1"],
        ),
        (
            "no path",
            head(&[method, scheme, authority]),
            &["1: reset 1"],
        ),
        (
            "empty path",
            head(&[method, scheme, (":path", ""), authority]),
            &["1: reset 1"],
        ),
        (
            "no authority and no host",
            head(&[method, scheme, path]),
            &["1: 400"],
        ),
        (
            "host alone",
            head(&[method, scheme, path, ("host", "a")]),
            &["1: 200"],
        ),
        ("host that differs", with(&[("host", "b")]), &["1: 400"]),
        (
            "two hosts",
            with(&[("host", "a"), ("host", "a")]),
            &["1: 400"],
        ),
        (
            "user info",
            head(&[method, scheme, path, (":authority", "u@a")]),
            &["1: 400"],
        ),
        (
            "authority that is none",
            head(&[method, scheme, path, (":authority", "a b")]),
            &["1: reset 1"],
        ),
        (
            "other scheme",
            head(&[method, (":scheme", "ftp"), path, authority]),
            &["1: 400"],
        ),
        (
            "method twice",
            head(&[method, method, scheme, path, authority]),
            &["1: reset 1"],
        ),
        (
            "path twice",
            head(&[method, scheme, path, path, authority]),
            &["1: reset 1"],
        ),
        (
            "authority twice",
            head(&[method, scheme, path, authority, authority]),
            &["1: reset 1"],
        ),
        (
            "unknown pseudo header",
            head(&[method, scheme, path, authority, (":x", "y")]),
            &["away 1", "closed"],
        ),
        (
            "status",
            head(&[method, scheme, path, authority, (":status", "200")]),
            &["1: reset 1"],
        ),
        (
            "protocol",
            head(&[method, scheme, path, authority, (":protocol", "websocket")]),
            &["1: reset 1"],
        ),
        (
            "pseudo header behind a field",
            head(&[method, scheme, ("x", "y"), path, authority]),
            &["1: reset 1"],
        ),
        (
            "upper-case name",
            with(&[("X-Y", "z")]),
            &["away 1", "closed"],
        ),
        (
            "space in a name",
            with(&[("x y", "z")]),
            &["away 1", "closed"],
        ),
        ("empty name", with(&[("", "z")]), &["away 1", "closed"]),
        (
            "line end in a value",
            with(&[("x", "y\r\nz: 1")]),
            &["away 1", "closed"],
        ),
        (
            "zero byte in a value",
            with(&[("x", "y\0")]),
            &["away 1", "closed"],
        ),
        ("space before a value", with(&[("x", " y")]), &["1: 400"]),
        (
            "connection",
            with(&[("connection", "close")]),
            &["1: reset 1"],
        ),
        ("keep-alive", with(&[("keep-alive", "5")]), &["1: reset 1"]),
        (
            "proxy-connection",
            with(&[("proxy-connection", "close")]),
            &["1: reset 1"],
        ),
        (
            "transfer-encoding",
            with(&[("transfer-encoding", "chunked")]),
            &["1: reset 1"],
        ),
        (
            "upgrade",
            with(&[("upgrade", "websocket")]),
            &["1: reset 1"],
        ),
        ("te: gzip", with(&[("te", "gzip")]), &["1: reset 1"]),
        ("te: trailers", with(&[("te", "trailers")]), &["1: 200"]),
        (
            "CONNECT",
            head(&[(":method", "CONNECT"), authority]),
            &["1: 405"],
        ),
        (
            "TRACE",
            head(&[(":method", "TRACE"), scheme, path, authority]),
            &["1: 405"],
        ),
        (
            "lower-case method",
            head(&[(":method", "get"), scheme, path, authority]),
            &["1: 400"],
        ),
        (
            "asterisk",
            head(&[(":method", "OPTIONS"), scheme, (":path", "*"), authority]),
            &["1: 400"],
        ),
        (
            "path that is a URL",
            head(&[method, scheme, (":path", "http://b/"), authority]),
            &["1: reset 1"],
        ),
        (
            "space in the path",
            head(&[method, scheme, (":path", "/a b"), authority]),
            &["1: reset 1"],
        ),
        (
            "quote in the path",
            head(&[method, scheme, (":path", "/\""), authority]),
            &["1: 200"],
        ),
        (
            "angle bracket in the path",
            head(&[method, scheme, (":path", "/<"), authority]),
            &["1: reset 1"],
        ),
        (
            "quote in the query",
            head(&[method, scheme, (":path", "/?\""), authority]),
            &["1: reset 1"],
        ),
        (
            "UTF-8 in the path",
            head(&[method, scheme, (":path", "/\u{e9}"), authority]),
            &["1: 200"],
        ),
        (
            "control character in the path",
            head(&[method, scheme, (":path", "/\u{7f}"), authority]),
            &["1: reset 1"],
        ),
        (
            "fragment",
            head(&[method, scheme, (":path", "/a#b"), authority]),
            &["1: 200"],
        ),
        (
            "content-length that is no number",
            with(&[("content-length", "+1")]),
            &["1: reset 1"],
        ),
        (
            "two content-lengths",
            with(&[("content-length", "0"), ("content-length", "0")]),
            &["1: 400"],
        ),
        (
            "two content-lengths that differ",
            with(&[("content-length", "0"), ("content-length", "1")]),
            &["1: reset 1"],
        ),
        (
            "content-length and no body",
            with(&[("content-length", "1")]),
            &["1: reset 1"],
        ),
        (
            "path over 8 KiB",
            head(&[
                method,
                scheme,
                (":path", &format!("/{}", "x".repeat(9000))),
                authority,
            ]),
            &["1: 414"],
        ),
        (
            "header over 8 KiB",
            with(&[("x", &"y".repeat(9000))]),
            &["1: 400"],
        ),
    ]
}

fn bodies() -> Vec<Case> {
    let post = |length: &str| {
        let block = request("POST", "/", &[("content-length", length)]);
        frame(HEADERS, END_HEADERS, 1, block)
    };
    let data = |flags, text: &str| frame(DATA, flags, 1, text);
    let trailers =
        |flags, fields: &[(&str, &str)]| frame(HEADERS, END_HEADERS | flags, 1, block(fields));
    vec![
        (
            "as long as announced",
            [post("3"), data(1, "abc")].concat(),
            &["1: 200"],
        ),
        (
            "longer than announced",
            [post("3"), data(1, "abcd")].concat(),
            &["1: reset 1"],
        ),
        (
            "shorter than announced",
            [post("3"), data(1, "ab")].concat(),
            &["1: reset 1"],
        ),
        (
            "shorter than announced, with trailers",
            [post("3"), data(0, "ab"), trailers(1, &[("x", "y")])].concat(),
            &["1: reset 1"],
        ),
        (
            "trailers",
            [open(1), data(0, "ab"), trailers(1, &[("x", "y")])].concat(),
            &["1: 200"],
        ),
        (
            "trailers with a pseudo header",
            [open(1), data(0, "ab"), trailers(1, &[(":path", "/")])].concat(),
            &["1: 200"],
        ),
        (
            "trailers that do not end the stream",
            [open(1), data(0, "ab"), trailers(0, &[("x", "y")])].concat(),
            &["1: reset 1"],
        ),
        (
            "trailers with an upper-case name",
            [open(1), data(0, "ab"), trailers(1, &[("X", "y")])].concat(),
            &["away 1", "closed"],
        ),
    ]
}

async fn check(cases: Vec<Case>) {
    let server = Server::start_http2(echo);
    let mut wrong = Vec::new();
    for (name, bytes, wanted) in cases {
        let mut peer = Peer::open(server.address).await;
        peer.send(bytes).await;
        let seen = peer.outcome().await;
        if seen != wanted {
            wrong.push(format!("{name}: {seen:?}, not {wanted:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn frames_that_break_the_rules_end_the_stream_or_the_connection() {
    check(framing()).await;
}

#[tokio::test]
async fn heads_are_sound_or_refused() {
    check(heads()).await;
}

#[tokio::test]
async fn bodies_are_as_long_as_announced_and_end_with_trailers_at_most() {
    check(bodies()).await;
}

#[tokio::test]
async fn what_is_no_preface_is_not_served() {
    let server = Server::start_http2(|_, _| async { Response::new(Body::full("no")) });
    for bytes in [
        &b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..],
        b"PRI * HTTP/2.0\r\n\r\n\r\n\r\n\r\n\r\n\r\n",
    ] {
        let mut peer = Peer::connect(server.address).await;
        peer.send(bytes).await;
        let seen = peer.rest().await;
        assert!(seen.is_empty() || seen == ["away 1"], "{seen:?}");
    }
    assert_eq!(server.calls(), 0);
}
