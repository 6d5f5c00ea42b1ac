//! What the data plane does when peers die, stall, lie or change under load: nothing that looks whole is
//! wrong, nothing that may be repeated is lost, nothing leaks (spec gateway-proxy 4.5, 6.4, 7, 8, 14, 15).

mod answers;
mod changes;
mod clients;
mod memory;
mod requests;
mod restarts;
mod upstreams;

use o28m_testkit::{Database, Platform, eventually};
use serde_json::{Value, json};

/// A platform with routes `/buffered` and `/live` to one upstream, which is asked again `retries` times.
async fn platform_to(upstream: &str, retries: u32) -> Platform {
    let platform = Platform::start(Database::Sqlite).await.unwrap();
    for (name, buffering) in [("buffered", true), ("live", false)] {
        let path = format!("/{name}");
        let route = json!({"paths": [path], "request_buffering": buffering});
        platform.route(name, upstream, route).await;
        let service = format!("/services/{name}");
        change(&platform, "PATCH", &service, json!({"retries": retries})).await;
    }
    platform
}

/// Writes over the Admin API, waits until it counts, and gives the entity.
async fn change(platform: &Platform, method: &str, path: &str, body: Value) -> Value {
    let reply = platform.admin(method, path, body).await;
    let text = reply.text();
    assert!(reply.status.is_success(), "{}: {text}", reply.status);
    platform.applied().await;
    match reply.body.is_empty() {
        true => Value::Null,
        false => reply.json(),
    }
}

/// Waits until the proxy has no request left.
async fn quiet(platform: &Platform) {
    eventually("the end of all requests", async || {
        (platform.in_flight().await == 0).then_some(())
    })
    .await;
}

/// A request without a body.
fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// A request with a body of a known length.
fn with_body(method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}")
}
