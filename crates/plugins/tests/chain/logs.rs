//! Log plugins over the wire.

use std::collections::BTreeSet;
use std::time::Duration;

use super::observability::{Collector, eventually};
use super::*;

/// Every log goes through these requests; gives what is logged of the first.
async fn requests(platform: &Platform) {
    let lines = "Cookie: c=1\r\nX-Two: a\r\nX-Two: b\r\nContent-Length: 3\r\n\r\nabc";
    let target = "POST /example/a?b=2&apikey=secret&c&b=3";
    let (status, _) = platform.send(target, "rover", lines).await;
    assert_eq!(status, 200);
    let anonymous = "GET /example HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let (status, _) = platform.exchange(anonymous).await;
    assert_eq!(status, 401);
}

fn check(entry: &Value) {
    let request = &entry["request"];
    assert_eq!(request["method"], "POST");
    assert_eq!(request["uri"], "/example/a?b=2&apikey=REDACTED&c&b=3");
    let querystring = json!({"b": ["2", "3"], "apikey": "REDACTED", "c": true});
    assert_eq!(request["querystring"], querystring);
    assert!(
        request["url"]
            .as_str()
            .unwrap()
            .starts_with("http://api.example.com:")
    );
    assert_eq!(request["headers"]["authorization"], "REDACTED");
    assert_eq!(request["headers"]["cookie"], "REDACTED");
    assert_eq!(request["headers"]["x-two"], json!(["a", "b"]));
    assert_eq!(request["id"].as_str().unwrap().len(), 32);
    assert!(request["size"].as_u64().unwrap() > 100);
    assert_eq!(entry["response"]["status"], 200);
    assert!(entry["response"]["headers"]["x-kong-request-id"].is_string());
    assert!(entry["response"]["size"].as_u64().unwrap() > 100);
    assert_eq!(entry["upstream_uri"], "/base/a?b=2&apikey=REDACTED&c&b=3");
    assert_eq!(entry["upstream_status"], "200");
    assert_eq!(entry["tries"].as_array().unwrap().len(), 1);
    assert_eq!(entry["tries"][0]["ip"], "127.0.0.1");
    assert_eq!(entry["route"]["name"], "r");
    assert_eq!(entry["service"]["name"], "s");
    assert_eq!(entry["consumer"]["username"], "rover");
    assert_eq!(entry["client_ip"], "127.0.0.1");
    assert_eq!(entry["started_at"], NOW_S * 1000);
    assert_eq!(entry["source"], "upstream");
    let keys: BTreeSet<_> = entry["latencies"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    assert_eq!(
        keys,
        ["kong", "proxy", "receive", "request"]
            .map(str::to_owned)
            .into()
    );
    assert!(!entry.to_string().contains("secret"));
}

fn check_refused(entry: &Value) {
    assert_eq!(entry["response"]["status"], 401);
    assert_eq!(entry["source"], "kong");
    assert_eq!(entry["latencies"]["proxy"], -1);
    assert_eq!(entry["upstream_uri"], "");
    assert!(entry.get("tries").is_none() && entry.get("consumer").is_none());
}

#[tokio::test]
async fn http_log_sends_entries_to_a_server() {
    let collector = Collector::start(true);
    let endpoint = collector
        .url("/logs")
        .replace("http://", "http://user:p%40ss@");
    let config = json!({
        "http_endpoint": endpoint, "method": "PUT", "headers": {"X-Key": "k"},
        "custom_fields_by_lua": {
            "service": "return nil", "zone": "return 'zone1'",
            "extra.two": "return kong.request.get_header('X-Two')",
            "extra.expression": "return 'x' .. (headers['x-two'] or '')",
            "response.headers.server": "return nil",
        },
    });
    let platform = Platform::start_with(vec![plugin(81, "http-log", false, config)]).await;
    requests(&platform).await;
    let received = || collector.take();
    let mut all = Vec::new();
    eventually("two entries", || {
        all.extend(received());
        all.len() == 2
    })
    .await;
    let request = &all[0];
    assert_eq!(request.method(), "PUT");
    assert_eq!(request.headers()["authorization"], "Basic dXNlcjpwQHNz");
    assert_eq!(request.headers()["x-key"], "k");
    assert_eq!(request.headers()["content-type"], "application/json");
    let mut entry: Value = serde_json::from_slice(request.body()).unwrap();
    assert_eq!(entry["zone"], "zone1");
    assert_eq!(entry["extra"], json!({"two": "a", "expression": "xa"}));
    assert!(entry.get("service").is_none());
    assert!(entry["response"]["headers"].get("server").is_none());
    entry["service"] = json!({"name": "s"});
    check(&entry);
    check_refused(&serde_json::from_slice(all[1].body()).unwrap());
}

#[tokio::test]
async fn batches_of_http_log_are_arrays() {
    let collector = Collector::start(true);
    let config = json!({
        "http_endpoint": collector.url("/"), "queue_size": 2, "flush_timeout": 3600,
    });
    let platform = Platform::start_with(vec![plugin(81, "http-log", false, config)]).await;
    requests(&platform).await;
    let mut all = Vec::new();
    eventually("a batch", || {
        all.extend(collector.take());
        !all.is_empty()
    })
    .await;
    let entries: Vec<Value> = serde_json::from_slice(all[0].body()).unwrap();
    assert_eq!(entries.len(), 2);
    check(&entries[0]);
}

#[tokio::test]
async fn file_log_appends_lines() {
    let directory = tempfile::tempdir().unwrap();
    let (kept, moved) = (
        directory.path().join("kept"),
        directory.path().join("moved"),
    );
    for (reopen, lines_after) in [(false, 0), (true, 2)] {
        let config = json!({"path": kept, "reopen": reopen});
        let platform = Platform::start_with(vec![plugin(81, "file-log", false, config)]).await;
        let text = || std::fs::read_to_string(&kept).unwrap_or_default();
        requests(&platform).await;
        eventually("two lines", || text().lines().count() == 2).await;
        let entries: Vec<Value> = text()
            .lines()
            .map(|it| serde_json::from_str(it).unwrap())
            .collect();
        check(&entries[0]);
        check_refused(&entries[1]);
        std::fs::rename(&kept, &moved).unwrap();
        requests(&platform).await;
        platform.deliveries.flush(Duration::from_secs(20)).await;
        assert_eq!(text().lines().count(), lines_after, "{reopen}");
    }
}

#[tokio::test]
async fn tcp_log_keeps_its_connection_and_finds_out_when_it_is_gone() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = json!({"host": "127.0.0.1", "port": listener.local_addr().unwrap().port()});
    let platform = Platform::start_with(vec![plugin(81, "tcp-log", false, config)]).await;
    for _ in 0..2 {
        requests(&platform).await;
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut text = String::new();
        while text.lines().count() < 2 || !text.ends_with('\n') {
            let mut bytes = vec![0; 65536];
            let length = stream.read(&mut bytes).await.unwrap();
            assert!(length > 0, "{text}");
            text.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
        }
        let mut lines = text
            .lines()
            .map(|it| serde_json::from_str::<Value>(it).unwrap());
        check(&lines.next().unwrap());
        check_refused(&lines.next().unwrap());
    }
}

#[tokio::test]
async fn udp_log_sends_datagrams() {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let config = json!({"host": "localhost", "port": socket.local_addr().unwrap().port()});
    let platform = Platform::start_with(vec![plugin(81, "udp-log", false, config)]).await;
    requests(&platform).await;
    let mut entries = Vec::new();
    for _ in 0..2 {
        let mut bytes = vec![0; 65536];
        let received = tokio::time::timeout(Duration::from_secs(20), socket.recv(&mut bytes));
        let length = received.await.unwrap().unwrap();
        entries.push(serde_json::from_slice::<Value>(&bytes[..length]).unwrap());
    }
    check(&entries[0]);
    check_refused(&entries[1]);
}
