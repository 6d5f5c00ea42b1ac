//! Requests as bytes, well formed and not: what they are answered with, and what of them reaches the
//! upstream. Each is sent whole, cut at its lines and byte by byte.

use std::sync::{Arc, Mutex};

use o28m_testkit::{Database, Message, PATIENCE, Platform, RawUpstream, Wire};
use serde_json::json;

use crate::{change, quiet};

mod table;

/// Follows every request: is answered unless the connection ends with the request before.
const END: &str = "GET /open/end HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
/// Longer ones are not sent byte by byte.
const BYTEWISE_MAX: usize = 700;

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// It serves another request.
    Goes,
    /// It ends.
    Ends,
    /// Either: what was not read of a body may or may not have arrived.
    Either,
    /// Nothing happens until the client finishes sending.
    Waits,
}

/// A row of the table, read.
struct Row {
    name: String,
    bytes: Vec<u8>,
    statuses: Vec<u16>,
    then: Then,
    /// Method, target and body of what reaches the upstream.
    seen: Vec<String>,
}

/// What the upstream was sent.
type Record = Arc<Mutex<Vec<Message>>>;

async fn recording() -> (RawUpstream, Record) {
    let record = Record::default();
    let into = record.clone();
    let upstream = RawUpstream::start(move |mut wire, _| {
        let into = into.clone();
        async move {
            while let Some(request) = wire.request().await {
                into.lock().unwrap().push(request);
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    .await;
            }
        }
    });
    (upstream.await, record)
}

/// Routes `/open` for everybody, `/guarded` for those with a key, `/host` for one host.
async fn platform_for(upstream: &RawUpstream) -> Platform {
    let platform = Platform::start(Database::Sqlite).await.unwrap();
    for (name, path) in [("open", "/o"), ("guarded", "/g"), ("host", "/h")] {
        let mut route = json!({"paths": [format!("/{name}")]});
        if name == "host" {
            route["hosts"] = json!(["secret.example"]);
        }
        platform
            .route(name, &format!("{}{path}", upstream.url()), route)
            .await;
    }
    let plugin = json!({"name": "key-auth"});
    change(&platform, "POST", "/routes/guarded/plugins", plugin).await;
    change(
        &platform,
        "PUT",
        "/consumers/one",
        json!({"username": "one"}),
    )
    .await;
    let key = json!({"key": "letmein"});
    change(&platform, "POST", "/consumers/one/key-auth", key).await;
    platform
}

/// The ways a request may be cut into writes.
fn cuts(bytes: &[u8]) -> Vec<Vec<&[u8]>> {
    let at_lines: Vec<_> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let at_returns: Vec<_> = bytes.split_inclusive(|byte| *byte == b'\r').collect();
    let mut all = vec![vec![bytes], at_lines, at_returns];
    if bytes.len() <= BYTEWISE_MAX {
        all.push(bytes.chunks(1).collect());
    }
    all
}

/// Sends a row in pieces; statuses of the answers.
async fn play(proxy: &str, row: &Row, pieces: &[&[u8]]) -> Result<Vec<u16>, String> {
    let mut wire = Wire::connect(proxy).await;
    for piece in pieces {
        // Who refuses early does not take the rest.
        if !wire.send(piece).await {
            break;
        }
        tokio::task::yield_now().await;
    }
    match row.then {
        Then::Waits => wire.finish().await,
        Then::Goes | Then::Ends | Then::Either => drop(wire.send(END).await),
    }
    let mut statuses = Vec::new();
    let reading = async {
        loop {
            let is_head = row.bytes.starts_with(b"HEAD ") && statuses.is_empty();
            let answer = wire.answer(if is_head { "HEAD" } else { "GET" }).await;
            let Some(answer) = answer else {
                return Ok(());
            };
            if answer.broken.is_some() {
                return Err(format!("half an answer: {answer:?}"));
            }
            if answer.status() != 100 {
                statuses.push(answer.status());
            }
        }
    };
    let read = tokio::time::timeout(PATIENCE, reading).await;
    match read.unwrap_or_else(|_| Err("the connection does not end".to_owned())) {
        Ok(()) => Ok(statuses),
        Err(why) => Err(format!("{why}, after {statuses:?}")),
    }
}

/// Method, target and body of a request.
fn told(request: &Message) -> String {
    format!(
        "{} {}",
        request.line(),
        String::from_utf8_lossy(&request.body)
    )
}

/// What is wrong with what became of a row.
fn check(row: &Row, statuses: &[u16], seen: &[Message]) -> Result<(), String> {
    let with_end = [&*row.statuses, &[200]].concat();
    let answered = match row.then {
        Then::Goes => statuses == with_end,
        Then::Ends => statuses == row.statuses,
        Then::Either => statuses == with_end || statuses == row.statuses,
        Then::Waits => matches!(statuses, [] | [400]),
    };
    if !answered {
        return Err(format!("answered {statuses:?}"));
    }
    let mut lines: Vec<_> = seen.iter().map(told).collect();
    if statuses == with_end && row.then != Then::Ends {
        match lines.pop() {
            Some(last) if last == "GET /o/end " => {}
            last => return Err(format!("{last:?} at the end")),
        }
    }
    if lines != row.seen {
        return Err(format!("the upstream saw {lines:?}"));
    }
    for request in seen {
        let key = request.header("apikey");
        let guarded = request.line().contains(" /g");
        if guarded
            && key.as_deref() != Some("letmein")
            && !request.line().contains("apikey=letmein")
        {
            return Err(format!("unauthorised: {request:?}"));
        }
        // Marks what must never arrive.
        if request.head.contains("evil") {
            return Err(format!("arrived: {}", request.head));
        }
        if request.header("host").is_none_or(|it| it.contains('|')) {
            return Err(format!("hosts: {}", request.head));
        }
        if request.header("expect").is_some() || request.header("trailer").is_some() {
            return Err(format!("hop-by-hop: {}", request.head));
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_is_answered_as_it_should_and_nothing_else_passes() {
    let rows = table::rows();
    assert!(rows.len() >= 150, "{} rows", rows.len());
    let (upstream, record) = recording().await;
    let platform = platform_for(&upstream).await;
    let proxy = platform.credential("GATEWAY_URL");
    let mut wrong = Vec::new();
    for row in &rows {
        for (way, pieces) in cuts(&row.bytes).iter().enumerate() {
            let played = play(proxy, row, pieces).await;
            if row.then == Then::Waits {
                quiet(&platform).await;
            }
            let seen = std::mem::take(&mut *record.lock().unwrap());
            if let Err(why) = played.and_then(|statuses| check(row, &statuses, &seen)) {
                wrong.push(format!("{} (cut {way}): {why}", row.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
