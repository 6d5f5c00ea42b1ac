//! Upstreams that die, stall or answer too early.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use o28m_net::client::Pool;
use o28m_net::server::{self, Limits, Listener, serve_with};
use o28m_net::{Body, BoxFuture, Connection, HttpService};
use o28m_testkit::{Ended, Pair, RawUpstream, Wire, established_to, eventually, pattern};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{change, get, platform_to, quiet, with_body};

/// How an upstream goes away.
#[derive(Clone, Copy, Debug)]
enum Death {
    Finish,
    Reset,
}

impl Death {
    fn of(self, wire: Wire) {
        match self {
            Self::Finish => drop(wire),
            Self::Reset => wire.reset(),
        }
    }
}

const DEATHS: [Death; 2] = [Death::Finish, Death::Reset];

/// What an upstream says last, and how it goes away then.
type LastWords = Arc<Mutex<(Vec<u8>, Death)>>;

/// An upstream that answers each request with its last words.
async fn dying() -> (RawUpstream, LastWords) {
    let words: LastWords = Arc::new(Mutex::new((Vec::new(), Death::Finish)));
    let said = words.clone();
    let upstream = RawUpstream::start(move |mut wire, _| {
        let (answer, death) = said.lock().unwrap().clone();
        async move {
            if wire.request().await.is_some() && wire.send(&answer).await {
                death.of(wire);
            }
        }
    });
    (upstream.await, words)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn death_within_the_head_is_502_after_the_attempts_that_are_allowed() {
    let (upstream, words) = dying().await;
    let platform = platform_to(&upstream.url(), 2).await;
    let mut client = Wire::connect(platform.credential("GATEWAY_URL")).await;
    let mut before = 0;
    for death in DEATHS {
        *words.lock().unwrap() = (b"HTTP/1.1 200 OK\r\nContent-Le".to_vec(), death);
        for (request, attempts) in [
            (get("/buffered"), 3),
            (with_body("PUT", "/buffered", "body"), 3),
            (with_body("POST", "/buffered", "body"), 1),
            (with_body("PUT", "/live", "body"), 1),
        ] {
            let answer = client.ask(&request).await;
            assert_eq!(answer.status(), 502, "{death:?} {request}");
            assert!(answer.broken.is_none());
            assert_eq!(upstream.count() - before, attempts, "{death:?} {request}");
            before = upstream.count();
        }
        quiet(&platform).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn death_within_the_body_is_never_a_whole_answer() {
    let body = pattern(1, 3 * 1024 * 1024);
    let (upstream, words) = dying().await;
    let platform = platform_to(&upstream.url(), 2).await;
    for size in [5, 100_000, body.len()] {
        let sent = &body[..size];
        let length = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", size + 1);
        let chunk = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{size:x}\r\n");
        let half = format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n",
            size + 1
        );
        let until_close = "HTTP/1.1 200 OK\r\n\r\n";
        for (what, answer, deaths) in [
            ("length", [length.as_bytes(), sent].concat(), &DEATHS[..]),
            ("half a chunk", [half.as_bytes(), sent].concat(), &DEATHS),
            (
                "no last chunk",
                [chunk.as_bytes(), sent, b"\r\n"].concat(),
                &DEATHS,
            ),
            (
                "half a last chunk",
                [chunk.as_bytes(), sent, b"\r\n0\r\n"].concat(),
                &DEATHS,
            ),
            // A connection that ends in order is a sound end of such a body.
            (
                "until close",
                [until_close.as_bytes(), sent].concat(),
                &[Death::Reset],
            ),
        ] {
            for death in deaths {
                *words.lock().unwrap() = (answer.clone(), *death);
                for version in ["1.1", "1.0"] {
                    let case = format!("{what} of {size}, {death:?}, HTTP/{version}");
                    let mut client = Wire::connect(platform.credential("GATEWAY_URL")).await;
                    let request = format!("GET /buffered HTTP/{version}\r\nHost: a\r\n\r\n");
                    assert!(client.send(&request).await);
                    // The upstream's end may overtake its answer, and bytes that were not read.
                    let Some(answer) = client.answer("GET").await else {
                        continue;
                    };
                    if answer.status() == 502 && matches!(death, Death::Reset) {
                        continue;
                    }
                    assert_eq!(answer.status(), 200, "{case}");
                    assert!(
                        answer.broken.is_some(),
                        "{case}: {} bytes",
                        answer.body.len()
                    );
                    assert!(sent.starts_with(&answer.body), "{case}: other bytes");
                }
                quiet(&platform).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_in_order_is_the_end_of_a_body_without_a_length() {
    let body = pattern(2, 300_000);
    let answer = [b"HTTP/1.1 200 OK\r\n\r\n", &*body].concat();
    let (upstream, words) = dying().await;
    words.lock().unwrap().0 = answer;
    let platform = platform_to(&upstream.url(), 2).await;
    for version in ["1.1", "1.0"] {
        let mut client = Wire::connect(platform.credential("GATEWAY_URL")).await;
        let request = format!("GET /buffered HTTP/{version}\r\nHost: a\r\n\r\n");
        let answer = client.ask(&request).await;
        assert_eq!((answer.status(), answer.broken), (200, None));
        assert!(answer.body == body, "HTTP/{version}");
    }
}

/// Waits until no connection to a port is established any more, as the kernel of the other end sees it.
async fn all_closed(port: u16) {
    eventually("the end of idle connections", async || {
        (established_to(port) == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_idle_connections_cost_no_request() {
    for death in DEATHS {
        let upstream = RawUpstream::start(move |mut wire, _| async move {
            let Some(request) = wire.request().await else {
                return;
            };
            let length = request.body.len();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            wire.send([head.as_bytes(), &request.body].concat()).await;
            death.of(wire);
        })
        .await;
        let platform = platform_to(&upstream.url(), 0).await;
        let mut client = Wire::connect(platform.credential("GATEWAY_URL")).await;
        for round in 0..100 {
            all_closed(upstream.address().port()).await;
            let path = if round % 2 == 0 { "/buffered" } else { "/live" };
            let method = ["POST", "PUT", "DELETE", "PATCH"][round / 2 % 4];
            let body = format!("body {round}");
            let answer = client.ask(&with_body(method, path, &body)).await;
            assert_eq!(answer.status(), 200, "{death:?} {round} {method} {path}");
            assert_eq!(answer.body, body.as_bytes());
        }
        assert_eq!(upstream.count(), 100, "none was sent twice");
    }
}

struct Echo;

impl HttpService for Echo {
    fn call<'a>(
        &'a self,
        request: Request<Body>,
        _: &'a Connection,
    ) -> BoxFuture<'a, Response<Body>> {
        Box::pin(async move {
            let body = request.into_body().collect(1024 * 1024).await;
            Response::new(Body::full(body.unwrap_or_default()))
        })
    }
}

/// TLS ends with a message of its own, which lies unread in the socket.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_idle_connections_over_tls_cost_no_request() {
    let mut listener = Listener::bind("upstream", ([127, 0, 0, 1], 0).into()).unwrap();
    listener.tls = Some(Pair::root("localhost").server());
    let port = listener.address().port();
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let limits = Limits {
        timeouts: server::Timeouts {
            idle: Duration::from_millis(1),
            ..server::Timeouts::default()
        },
        ..Limits::default()
    };
    let (drain, pool) = (stop.clone(), Pool::new());
    tokio::spawn(serve_with(
        listener,
        Arc::new(Echo),
        pool,
        limits,
        drain,
        stop,
    ));
    let platform = platform_to(&format!("https://127.0.0.1:{port}"), 0).await;
    let trust = json!({"tls_verify": false});
    change(&platform, "PATCH", "/services/buffered", trust).await;
    let mut client = Wire::connect(platform.credential("GATEWAY_URL")).await;
    for round in 0..50 {
        all_closed(port).await;
        let body = format!("body {round}");
        let answer = client.ask(&with_body("POST", "/buffered", &body)).await;
        assert_eq!(
            (answer.status(), answer.body),
            (200, body.into_bytes()),
            "{round}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_504_after_the_attempts_that_are_allowed() {
    let upstream = RawUpstream::start(|mut wire, _| async move {
        wire.end().await;
    })
    .await;
    let platform = platform_to(&upstream.url(), 1).await;
    let timeout = json!({"read_timeout": 50});
    change(&platform, "PATCH", "/services/buffered", timeout).await;
    let mut client = Wire::connect(platform.credential("GATEWAY_URL")).await;
    let answer = client.ask(&get("/buffered")).await;
    assert_eq!((answer.status(), upstream.count()), (504, 2));
    let answer = client.ask(&with_body("POST", "/buffered", "x")).await;
    assert_eq!((answer.status(), upstream.count()), (504, 3));
    quiet(&platform).await;
    all_closed(upstream.address().port()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_stalls_is_broken_off() {
    let upstream = RawUpstream::start(|mut wire, _| async move {
        wire.request().await;
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
        wire.send(head).await;
        wire.end().await;
    })
    .await;
    let platform = platform_to(&upstream.url(), 1).await;
    let timeout = json!({"read_timeout": 50});
    change(&platform, "PATCH", "/services/buffered", timeout).await;
    let mut client = Wire::connect(platform.credential("GATEWAY_URL")).await;
    let answer = client.ask(&get("/buffered")).await;
    assert_eq!((answer.status(), &*answer.body), (200, &b"half"[..]));
    assert_eq!(answer.broken, Some(Ended::Finished));
    assert_eq!(
        upstream.count(),
        1,
        "an answer that was begun is not asked for again"
    );
    quiet(&platform).await;
    all_closed(upstream.address().port()).await;
}

/// The upstream has answered and gone before it took the whole request: the answer arrives, whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_before_the_end_of_the_upload_arrives() {
    let reached = Arc::new(AtomicUsize::new(0));
    let count = reached.clone();
    let upstream = RawUpstream::start(move |mut wire, _| {
        let count = count.clone();
        async move {
            wire.until("\r\n\r\n").await;
            count.fetch_add(1, Ordering::SeqCst);
            wire.send(
                "HTTP/1.1 413 Too Much\r\nContent-Length: 4\r\nConnection: close\r\n\r\nstop",
            )
            .await;
            wire.finish().await;
            wire.end().await;
        }
    })
    .await;
    let platform = platform_to(&upstream.url(), 0).await;
    let body = Bytes::from(pattern(3, 8 * 1024 * 1024));
    for round in 0..5 {
        let mut client = Wire::connect(platform.credential("GATEWAY_URL")).await;
        let head = format!(
            "POST /live HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        assert!(client.send(head).await);
        let (mut read, mut write) = client.stream.into_split();
        let body = body.clone();
        let sending = tokio::spawn(async move {
            use tokio::io::AsyncWriteExt as _;
            // The rest is of no use once the answer is there.
            drop(write.write_all(&body).await);
            write
        });
        let mut answer = Vec::new();
        let reading = async {
            use tokio::io::AsyncReadExt as _;
            while !answer.ends_with(b"\r\n\r\nstop") {
                if read.read_buf(&mut answer).await.unwrap_or(0) == 0 {
                    break;
                }
            }
        };
        tokio::time::timeout(o28m_testkit::PATIENCE, reading)
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert!(
            text.starts_with("HTTP/1.1 413 ") && text.ends_with("stop"),
            "{round}: {text}"
        );
        sending.abort();
    }
    assert_eq!(reached.load(Ordering::SeqCst), 5);
    quiet(&platform).await;
}
