//! Access log and metrics (spec gateway-proxy 13).

use serde_json::{Value, json};

use crate::support::*;

const KEYS: [&str; 12] = [
    "source",
    "source_internal",
    "status",
    "request_method",
    "request_path",
    "hostname_ingress",
    "hostname_upstream",
    "X-B3-TraceId",
    "upstream_status",
    "gateway_consumer",
    "eventclassid",
    "event_details",
];

#[tokio::test]
async fn proxy_case_062_access_log_lines_are_json_with_the_platforms_keys() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let upstream = Upstream::ok();
    let mut setup = Setup::default();
    setup.settings.access_log = Some(path.clone());
    let running = start_for(&upstream, setup).await;
    let head = "GET /a%22b?q=1 HTTP/1.1\r\nHost: Shop.example.com:80\r\nX-Real-IP: 1.2.3.4\r\n\
        X-Original-Forwarded-For: 9.9.9.9\r\nremote_api_url: http://p\r\nX-B3-TraceId: abc";
    running.send(head).await;
    running.send("GET / HTTP/1.1").await;
    let lines = || std::fs::read_to_string(&path).unwrap();
    eventually("two lines", || lines().lines().count() == 2).await;
    let text = lines();
    let mut parsed = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let routed = parsed.next().unwrap();
    assert_eq!(routed["@service"], "proxy");
    assert_eq!(routed["@timestamp"], "2026-11-24T07:00:16+00:00");
    let fields = routed["@fields"].as_object().unwrap();
    assert_eq!(fields.keys().collect::<Vec<_>>(), KEYS);
    let values: Vec<_> = fields.values().map(|it| it.as_str().unwrap()).collect();
    let expected = [
        "9.9.9.9",
        "1.2.3.4",
        "200",
        "GET",
        "/a\"b",
        "shop.example.com",
        "http://p",
        "abc",
        "200",
        "",
        "",
        "",
    ];
    assert_eq!(values, expected);
    let start = "{ \"@timestamp\": \"2026-11-24T07:00:16+00:00\", \"@service\": \"proxy\", \"@fields\": { \"source\": ";
    assert!(text.starts_with(start), "{text}");
    let refused = parsed.next().unwrap();
    assert_eq!(refused["@fields"]["status"], "400");
    assert_eq!(refused["@fields"]["upstream_status"], "-");
    assert_eq!(refused["@fields"]["source"], "-");
}

#[tokio::test]
async fn failed_attempts_are_listed_in_the_access_log() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let (address, _) = misbehaving(|mut stream, number| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        if number > 0 {
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer)
                .await
                .unwrap();
        }
    })
    .await;
    let mut setup = Setup::default();
    setup.settings.access_log = Some(path.clone());
    let running = start(setup).await;
    let service = service("s", address.port(), json!({}));
    let route = route("r", "s", json!({"paths": ["/"]}));
    running
        .put(&[("services", service), ("routes", route)])
        .await;
    running.get("/").await;
    let text = || std::fs::read_to_string(&path).unwrap();
    eventually("the line", || !text().is_empty()).await;
    assert!(
        text().contains("\"upstream_status\": \"502, 200\""),
        "{}",
        text()
    );
}

#[test]
fn an_access_log_that_cannot_be_opened_is_an_error() {
    let settings = o28m_gateway::Settings {
        access_log: Some("/no/such/directory/access.log".into()),
        ..o28m_gateway::Settings::default()
    };
    let metrics = o28m_telemetry::metrics::Registry::default();
    let gateway = o28m_gateway::Gateway::new(settings, vec![], vec![], &metrics, ambient());
    assert!(matches!(
        gateway.err().unwrap(),
        o28m_gateway::Error::AccessLog { .. }
    ));
}

#[tokio::test]
async fn requests_are_counted_as_they_come_and_go() {
    let upstream = Upstream::ok();
    let running = start_for(&upstream, Setup::default()).await;
    for _ in 0..3 {
        running.get("/secret").await;
    }
    running.delete("routes", "r").await;
    running.get("/secret").await;
    let text = || running.metrics.render();
    let unmatched = "o28m_gateway_unmatched_requests_total 1\n";
    eventually("the counter", || text().contains(unmatched)).await;
    eventually("the end of all", || running.gateway.requests() == (4, 0)).await;
    assert!(!text().contains("secret") && !text().contains("kong_http_requests_total"));
    assert!(text().contains("o28m_config_snapshot_age_seconds 0"));
}
