use http::{Request, Response};
use o28m_gateway::{Credential, Verdict};
use o28m_net::Body;
use serde_json::json;

use super::*;
use crate::redis::testing::{Behaviour, Server as Redis};
use crate::testing::{access, ambient, exchange};

fn plugin(config: Value) -> Arc<dyn Plugin> {
    Kind::new(ambient().0).configure(&config).unwrap()
}

async fn send(plugin: &dyn Plugin, mut exchange: Exchange, upstream: u16) -> Response<String> {
    let response = match access(plugin, &mut exchange).await {
        Verdict::Continue => {
            let response = Response::builder().status(upstream);
            response.body(Body::Empty).unwrap()
        }
        Verdict::Respond(response) => response,
    };
    let (mut head, body) = response.into_parts();
    plugin.header_filter(&mut exchange, &mut head);
    let body = body.collect(1 << 20).await.unwrap();
    Response::from_parts(head, String::from_utf8(body.to_vec()).unwrap())
}

fn request(header: &str) -> Exchange {
    let request = Request::get("/").header("x-tenant", header);
    exchange(request.body(Body::Empty).unwrap())
}

/// The value of a header; `-` when it is not there.
fn header<'a>(response: &'a Response<String>, name: &str) -> &'a str {
    let value = response.headers().get(name);
    value.map_or("-", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn limits_are_told_and_kept_whatever_the_upstream_says() {
    let plugin = plugin(json!({"minute": 2, "day": 100, "second": null}));
    let first = send(plugin.as_ref(), request(""), 200).await;
    for (name, value) in [
        ("X-RateLimit-Limit-Minute", "2"),
        ("X-RateLimit-Remaining-Minute", "1"),
        ("X-RateLimit-Limit-Day", "100"),
        ("X-RateLimit-Remaining-Day", "99"),
        ("RateLimit-Limit", "2"),
        ("RateLimit-Remaining", "1"),
        ("RateLimit-Reset", "60"),
        ("Retry-After", "-"),
    ] {
        assert_eq!(header(&first, name), value, "{name}");
    }
    let second = send(plugin.as_ref(), request(""), 429).await;
    assert_eq!(header(&second, "RateLimit-Remaining"), "0");
    let third = send(plugin.as_ref(), request(""), 200).await;
    assert_eq!(third.status(), 429);
    assert!(
        third
            .body()
            .contains("\"message\":\"API rate limit exceeded\"")
    );
    assert_eq!(header(&third, "Retry-After"), "60");
    assert_eq!(header(&third, "X-RateLimit-Remaining-Day"), "98");
}

#[tokio::test]
async fn plugins_case_052_hidden_headers_are_not_told() {
    let plugin = plugin(json!({
        "minute": 1, "hide_client_headers": true, "error_code": 503, "error_message": "later",
    }));
    for status in [200, 503] {
        let answer = send(plugin.as_ref(), request(""), 200).await;
        assert_eq!(answer.status(), status);
        let told = answer
            .headers()
            .keys()
            .any(|name| name.as_str().contains("ratelimit") || name.as_str() == "retry-after");
        assert!(!told, "{:?}", answer.headers());
    }
    let answer = send(plugin.as_ref(), request(""), 200).await;
    assert!(answer.body().contains("\"message\":\"later\""));
}

#[tokio::test]
async fn callers_are_told_apart_by_what_is_configured() {
    let consumer = |name: Option<&str>, credential: Option<&str>| {
        let mut exchange = request("");
        let known = name.and_then(|name| exchange.snapshot.consumer_by_username(name).cloned());
        exchange.consumer = known;
        exchange.credential = credential.map(|id| Credential {
            id: Some(id.to_owned()),
            identifier: None,
        });
        exchange
    };
    let from = |address: &str| {
        let mut exchange = request("");
        exchange.client_ip = address.parse().unwrap();
        exchange
    };
    let path = |path: &str, address: &str| {
        let mut exchange = from(address);
        exchange.path = path.to_owned();
        exchange
    };
    let by = |limit_by: &str| {
        plugin(json!({"hour": 1, "limit_by": limit_by, "header_name": "X-Tenant", "path": "/a"}))
    };
    // Requests of each way of telling them apart, and which of them are above the limit.
    for (limit_by, requests, refused) in [
        (
            "consumer",
            vec![
                consumer(Some("rover"), Some("1")),
                consumer(Some("rover"), Some("2")),
                consumer(Some("lonely"), None),
                consumer(None, Some("1")),
                consumer(None, None),
                consumer(None, None),
            ],
            vec![1, 5],
        ),
        (
            "credential",
            vec![
                consumer(Some("rover"), Some("1")),
                consumer(Some("rover"), Some("2")),
                consumer(Some("rover"), None),
                consumer(None, None),
            ],
            vec![3],
        ),
        (
            "ip",
            vec![from("10.0.0.1"), from("10.0.0.2"), from("10.0.0.1")],
            vec![2],
        ),
        (
            "header",
            vec![request("a"), request("b"), request("a")],
            vec![2],
        ),
        (
            "path",
            vec![
                path("/a", "10.0.0.1"),
                path("/a", "10.0.0.2"),
                path("/b", "10.0.0.1"),
                path("/c", "10.0.0.1"),
            ],
            vec![1, 3],
        ),
        ("service", vec![request(""), request("")], vec![1]),
    ] {
        let plugin = by(limit_by);
        for (at, exchange) in requests.into_iter().enumerate() {
            let status = send(plugin.as_ref(), exchange, 200).await.status();
            let expected = if refused.contains(&at) { 429 } else { 200 };
            assert_eq!(status, expected, "{limit_by} {at}");
        }
    }
}

#[test]
fn long_values_are_told_apart_and_kept_short() {
    let long = "a".repeat(4000);
    assert_eq!(short(&long.as_bytes()[..128]), long[..128]);
    let (one, other) = (short(long.as_bytes()), short(&long.as_bytes()[1..]));
    assert_ne!(one, other);
    assert_eq!((one.len(), other.len()), (43, 43));
    assert_ne!(short(b"\xff"), short(b"\xfe"));
}

#[tokio::test]
async fn redis_counts_for_all_replicas() {
    let redis = Redis::start(Behaviour::default()).await;
    let server = json!({"host": "127.0.0.1", "port": redis.address.port(), "timeout": 10_000});
    let config = json!({"month": 2, "policy": "redis", "redis": server});
    let replicas = [plugin(config.clone()), plugin(config)];
    for (at, status) in [200, 200, 429, 429].into_iter().enumerate() {
        let answer = send(replicas[at % 2].as_ref(), request(""), 200).await;
        assert_eq!(answer.status(), status);
    }
    let counters = redis.counters();
    let (key, counted) = counters.iter().next().unwrap();
    assert!(key.ends_with(":127.0.0.1:1798761600000:month"), "{key}");
    assert_eq!(*counted, (2, "2592000".to_owned()));
}

#[tokio::test]
async fn redis_is_asked_over_tls_and_verified_when_that_is_said() {
    let redis = Redis::start_tls(Behaviour::default(), "redis.example").await;
    let over = |verify: bool| {
        let server = json!({
            "host": "127.0.0.1", "port": redis.address.port(), "timeout": 10_000,
            "ssl": true, "ssl_verify": verify, "server_name": "redis.example",
        });
        let config = json!({"month": 1, "policy": "redis", "redis": server});
        plugin(config)
    };
    let verified = over(true);
    for _ in 0..2 {
        // Nothing is counted on a server that nobody vouches for.
        let answer = send(verified.as_ref(), request(""), 200).await;
        assert_eq!(answer.status(), 200);
    }
    assert!(redis.commands().is_empty());
    let trusting = over(false);
    for status in [200, 429] {
        let answer = send(trusting.as_ref(), request(""), 200).await;
        assert_eq!(answer.status(), status);
    }
    assert_eq!(redis.counters().len(), 1);
}

#[test]
fn plugins_case_050_what_cannot_be_carried_out_is_refused() {
    let kind = Kind::new(ambient().0);
    for config in [
        json!({}),
        json!({"minute": 1, "limit_by": "header"}),
        json!({"minute": 1, "limit_by": "path"}),
        json!({"minute": 1, "policy": "cluster"}),
        json!({"minute": 1, "sync_rate": 1}),
        json!({"minute": 1, "error_code": 1e9}),
    ] {
        assert!(kind.configure(&config).is_err(), "{config}");
    }
}
