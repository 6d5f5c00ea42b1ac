//! Large bodies, slow readers and many connections: memory stays where it is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use o28m_testkit::{Client, RawUpstream, Wire, eventually, pattern};
use serde_json::{Value, json};

use crate::get;
use crate::restarts::Node;

/// Bytes of a body that would be missed if it were kept in memory.
const LARGE_BYTES: u64 = 128 * 1024 * 1024;
/// What a process may grow by beside it.
const GROWTH_BYTES_MAX: u64 = 48 * 1024 * 1024;
/// Connections that do nothing.
const IDLE_CONNECTIONS: usize = 3000;
/// Bytes of each of them at most; the aim is 3 KiB (spec gateway-proxy 16.4).
const IDLE_BYTES_MAX: u64 = 6 * 1024;

/// Resident bytes of a process, now and at most so far.
fn resident(pid: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap();
        let number = line.split_whitespace().next().unwrap();
        number.parse::<u64>().unwrap() * 1024
    };
    (field("VmRSS:"), field("VmHWM:"))
}

/// Bytes of a piece of a large body.
const PIECE_BYTES: usize = 64 * 1024;
const PIECES: u64 = LARGE_BYTES / PIECE_BYTES as u64;

/// A piece of a large body, by its number.
fn piece(number: u64) -> Vec<u8> {
    static SAME: LazyLock<Vec<u8>> = LazyLock::new(|| pattern(7, PIECE_BYTES - 8));
    [&number.to_be_bytes(), SAME.as_slice()].concat()
}

/// Follows a large body: how much of it came, as it must be.
#[derive(Default)]
struct Follower {
    pieces: u64,
    rest: Vec<u8>,
}

impl Follower {
    /// Takes what came; false when it is something else.
    fn take(&mut self, bytes: &[u8]) -> bool {
        self.rest.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(whole) = self.rest.get(at..at + PIECE_BYTES) {
            if whole != piece(self.pieces) {
                return false;
            }
            self.pieces += 1;
            at += PIECE_BYTES;
        }
        self.rest.drain(..at);
        true
    }
}

/// A node of its own process with routes `/buffered` and `/live`, without a limit of bodies.
async fn node_to(dir: &std::path::Path, upstream: &str) -> Node {
    let node = Node::start(dir, "").await;
    let known = &node.known;
    let admin = Client::default().basic(
        &known["GATEWAY_ADMIN_USERNAME"],
        &known["GATEWAY_ADMIN_PASSWORD"],
    );
    let at = |path: &str| format!("{}{path}", known["GATEWAY_ADMIN_URL"]);
    let plugins = admin.get(&at("/plugins")).await.expect(200).json();
    for plugin in plugins["data"].as_array().unwrap() {
        if plugin["name"] == "request-size-limiting" {
            let path = format!("/plugins/{}", plugin["id"].as_str().unwrap());
            let _ = admin.send("DELETE", &at(&path), "").await.expect(204);
        }
    }
    let put = async |path: &str, body: Value| {
        let _ = admin.json("PUT", &at(path), body).await.expect(200);
    };
    for (name, buffering) in [("live", false), ("buffered", true)] {
        put(&format!("/services/{name}"), json!({"url": upstream})).await;
        let route = json!({"paths": [format!("/{name}")], "request_buffering": buffering});
        put(&format!("/services/{name}/routes/{name}"), route).await;
    }
    eventually("the routes", async || {
        let mut wire = Wire::connect(node.proxy()).await;
        (wire.ask(&get("/buffered/small")).await.status() == 200).then_some(())
    })
    .await;
    node
}

/// Takes any body and tells how many pieces of a large one it was; `/large` is answered with a large body.
async fn following() -> (RawUpstream, Arc<AtomicU64>) {
    let sent = Arc::new(AtomicU64::new(0));
    let told = sent.clone();
    let upstream = RawUpstream::start(move |mut wire, _| {
        let told = told.clone();
        async move {
            let head = wire.until("\r\n\r\n").await;
            let length = head.to_ascii_lowercase();
            let length = length
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            let mut left: usize = length.map_or(0, |it| it.parse().unwrap());
            let mut follower = Follower::default();
            loop {
                let input = std::mem::take(&mut wire.input);
                left -= input.len();
                if !follower.take(&input) || (left > 0 && wire.read().await.is_some()) {
                    return;
                }
                if left == 0 {
                    break;
                }
            }
            if !head.contains("/large") {
                let answer = format!("{} pieces", follower.pieces);
                let length = answer.len();
                let close = "Connection: close";
                let head =
                    format!("HTTP/1.1 200 OK\r\n{close}\r\nContent-Length: {length}\r\n\r\n");
                wire.send(head + &answer).await;
                return;
            }
            wire.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {LARGE_BYTES}\r\n\r\n"
            ))
            .await;
            for number in 0..PIECES {
                if !wire.send(piece(number)).await {
                    return;
                }
                told.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    (upstream.await, sent)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_pass_through_little_memory() {
    let (upstream, _) = following().await;
    let dir = tempfile::tempdir().unwrap();
    let node = node_to(dir.path(), &upstream.url()).await;
    let (before, _) = resident(node.pid());
    for (path, chunked) in [("/live", false), ("/buffered", false), ("/buffered", true)] {
        let mut wire = Wire::connect(node.proxy()).await;
        let framing = match chunked {
            true => "Transfer-Encoding: chunked".to_owned(),
            false => format!("Content-Length: {LARGE_BYTES}"),
        };
        let head = format!("PUT {path}/body HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n");
        assert!(wire.send(head).await);
        for number in 0..PIECES {
            let piece = piece(number);
            let piece = match chunked {
                true => [b"10000\r\n", &*piece, b"\r\n"].concat(),
                false => piece,
            };
            assert!(wire.send(piece).await);
        }
        if chunked {
            assert!(wire.send("0\r\n\r\n").await);
        }
        let answer = wire.answer("PUT").await.unwrap();
        let told = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(told, format!("{PIECES} pieces"), "{path}");
    }
    let mut wire = Wire::connect(node.proxy()).await;
    assert!(wire.send(get("/buffered/large")).await);
    wire.until("\r\n\r\n").await;
    let mut follower = Follower::default();
    loop {
        let input = std::mem::take(&mut wire.input);
        assert!(follower.take(&input), "other bytes");
        if follower.pieces == PIECES {
            break;
        }
        assert_eq!(wire.read().await, None);
    }
    let (_, most) = resident(node.pid());
    let growth = most.saturating_sub(before);
    println!("grew by {} MiB at most", growth / 1024 / 1024);
    assert!(growth < GROWTH_BYTES_MAX, "grew by {growth} bytes");
    assert!(node.stop().await.success());
}

/// Readers that take nothing, of large answers: what is held for each of them is bounded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_stall_hold_little_memory() {
    const READERS: usize = 50;
    let (upstream, sent) = following().await;
    let dir = tempfile::tempdir().unwrap();
    let node = node_to(dir.path(), &upstream.url()).await;
    let (before, _) = resident(node.pid());
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut wire = Wire::connect(node.proxy()).await;
        assert!(wire.send(get("/buffered/large")).await);
        wire.until("\r\n\r\n").await;
        readers.push(wire);
    }
    let (mut last, mut same) = (0, 0);
    eventually("the upstream to be held back", async || {
        let now = sent.load(Ordering::SeqCst);
        same = if now == last { same + 1 } else { 0 };
        last = now;
        (same == 100).then_some(())
    })
    .await;
    let (_, most) = resident(node.pid());
    let growth = most.saturating_sub(before) / READERS as u64;
    println!("{growth} bytes for each reader that stalls");
    assert!(growth < 1024 * 1024, "{growth} bytes for each reader");
    drop(readers);
    assert!(node.stop().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_hold_little_memory() {
    let (upstream, _) = following().await;
    let dir = tempfile::tempdir().unwrap();
    let node = node_to(dir.path(), &upstream.url()).await;
    let mut open = Vec::new();
    // What a request costs for the first time is not what a connection holds.
    for _ in 0..50 {
        let mut wire = Wire::connect(node.proxy()).await;
        assert_eq!(wire.ask(&get("/nowhere")).await.status(), 404);
        open.push(wire);
    }
    let mut sizes = Vec::new();
    for asks in [false, true] {
        let (before, _) = resident(node.pid());
        for _ in 0..IDLE_CONNECTIONS {
            let mut wire = Wire::connect(node.proxy()).await;
            if asks {
                assert_eq!(wire.ask(&get("/nowhere")).await.status(), 404);
            }
            open.push(wire);
        }
        // All of them were accepted when the last of them is served.
        let last = open.last_mut().unwrap();
        assert_eq!(last.ask(&get("/nowhere")).await.status(), 404);
        let (after, _) = resident(node.pid());
        sizes.push(after.saturating_sub(before) / IDLE_CONNECTIONS as u64);
    }
    println!("{sizes:?} bytes for a connection without and with a request before");
    assert!(sizes.iter().all(|it| *it < IDLE_BYTES_MAX), "{sizes:?}");
    drop(open);
    assert!(node.stop().await.success());
}
