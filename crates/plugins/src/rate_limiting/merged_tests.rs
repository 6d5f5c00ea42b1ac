use http::{Request, Response};
use o28m_gateway::Verdict;
use o28m_kong::ForeignKey;
use o28m_net::Body;
use serde_json::json;

use super::*;
use crate::redis::testing::{Behaviour, Server as Redis};
use crate::testing::{NOW_S, TestClock, access, ambient, exchange};

const ROUTE: &str = "00000000-0000-4000-8000-0000000000aa";
const SERVICE: &str = "00000000-0000-4000-8000-0000000000bb";
const NO_SERVICE: &str = "00000000-0000-0000-0000-000000000000";

struct Bench {
    kind: Kind,
    clock: Arc<TestClock>,
    plugin: Arc<dyn Plugin>,
}

impl Bench {
    fn new(config: Value) -> Self {
        let (ambient, clock) = ambient();
        let kind = Kind::new(ambient);
        let plugin = instance(&kind, config);
        Self {
            kind,
            clock,
            plugin,
        }
    }

    /// A request of `consumer` that the upstream answers with `status` and `headers`.
    async fn send(
        &self,
        consumer: Option<&str>,
        status: u16,
        headers: &[(&str, &str)],
    ) -> Response<String> {
        send(self.plugin.as_ref(), consumer, status, headers).await
    }

    async fn get(&self, consumer: Option<&str>) -> Response<String> {
        self.send(consumer, 200, &[]).await
    }
}

fn instance(kind: &Kind, config: Value) -> Arc<dyn Plugin> {
    let entity = PluginEntity {
        id: "p".into(),
        name: "rate-limiting-merged".into(),
        enabled: true,
        config,
        service: None,
        route: Some(ForeignKey { id: ROUTE.into() }),
        consumer: None,
    };
    kind.instantiate(&entity).unwrap()
}

fn service() -> o28m_kong::Service {
    let document = json!({
        "id": SERVICE, "name": "s", "enabled": true, "protocol": "http", "host": "h", "port": 80,
        "retries": 0, "connect_timeout": 1, "write_timeout": 1, "read_timeout": 1,
    });
    serde_json::from_value(document).unwrap()
}

async fn send(
    plugin: &dyn Plugin,
    consumer: Option<&str>,
    status: u16,
    headers: &[(&str, &str)],
) -> Response<String> {
    let mut exchange = exchange(Request::get("/").body(Body::Empty).unwrap());
    exchange.service = Some(Arc::new(service()));
    exchange.consumer = consumer.map(|name| {
        let known = exchange.snapshot.consumer_by_username(name);
        known.unwrap().clone()
    });
    let response = match access(plugin, &mut exchange).await {
        Verdict::Continue => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(*name, *value);
            }
            response.body(Body::Empty).unwrap()
        }
        Verdict::Respond(response) => response,
    };
    let (mut head, body) = response.into_parts();
    plugin.header_filter(&mut exchange, &mut head);
    let body = body.collect(1 << 20).await.unwrap();
    Response::from_parts(head, String::from_utf8(body.to_vec()).unwrap())
}

/// The value of a header; `-` when it is not there.
fn header<'a>(response: &'a Response<String>, name: &str) -> &'a str {
    let value = response.headers().get(name);
    value.map_or("-", |value| value.to_str().unwrap())
}

fn per_service(limits: Value) -> Value {
    json!({"policy": "local", "limits": {"service": limits}})
}

#[tokio::test]
async fn plugins_case_040_the_first_request_is_told_its_limits() {
    let bench = Bench::new(per_service(
        json!({"second": null, "minute": 200, "hour": 1000}),
    ));
    bench.clock.advance_s(20);
    let response = bench.get(None).await;
    for (name, value) in [
        ("X-RateLimit-Limit-Minute", "200"),
        ("X-RateLimit-Remaining-Minute", "199"),
        ("X-RateLimit-Limit-Hour", "1000"),
        ("X-RateLimit-Remaining-Hour", "999"),
        ("RateLimit-Limit", "200"),
        ("RateLimit-Remaining", "199"),
        ("RateLimit-Reset", "40"),
        ("Retry-After", "-"),
        ("X-RateLimit-Limit-Second", "-"),
    ] {
        assert_eq!(header(&response, name), value, "{name}");
    }
}

#[tokio::test]
async fn plugins_case_041_the_request_above_the_limit_is_refused() {
    let bench = Bench::new(per_service(json!({"minute": 2})));
    for status in [200, 200, 429] {
        assert_eq!(bench.get(None).await.status(), status);
    }
    bench.clock.advance_s(59);
    let response = bench.get(None).await;
    assert_eq!(response.status(), 429);
    assert!(
        response
            .body()
            .contains("\"message\":\"API rate limit exceeded\""),
        "{}",
        response.body()
    );
    assert!(
        response
            .body()
            .contains("\"request_id\":\"0123456789abcdef")
    );
    assert_eq!(header(&response, "X-RateLimit-Limit-Minute"), "2");
    assert_eq!(header(&response, "X-RateLimit-Remaining-Minute"), "0");
    assert_eq!(header(&response, "RateLimit-Reset"), "1");
    assert_eq!(header(&response, "Retry-After"), "1");
    bench.clock.advance_s(1);
    assert_eq!(bench.get(None).await.status(), 200);
}

#[tokio::test]
async fn plugins_case_042_parallel_requests_are_counted_exactly() {
    let bench = Bench::new(per_service(json!({"minute": 2})));
    let requests = (0..50).map(|_| bench.get(None));
    let answers = futures_util::future::join_all(requests).await;
    let passed = answers.iter().filter(|it| it.status() == 200).count();
    assert_eq!(passed, 2);
}

#[tokio::test]
async fn plugins_case_043_the_mesh_consumer_has_no_limit_and_others_keep_theirs() {
    let bench = Bench::new(json!({"limits": {"consumer": {"minute": 1}}}));
    for _ in 0..3 {
        let response = bench.get(Some("gateway")).await;
        assert_eq!(response.status(), 200);
        assert_eq!(header(&response, "RateLimit-Limit"), "-");
    }
    assert_eq!(bench.get(Some("rover")).await.status(), 200);
    assert_eq!(bench.get(Some("rover")).await.status(), 429);
    assert_eq!(bench.get(Some("lonely")).await.status(), 200);
    for _ in 0..3 {
        assert_eq!(bench.get(None).await.status(), 200, "nobody is no consumer");
    }
}

#[tokio::test]
async fn plugins_case_044_what_the_next_gateway_refused_does_not_count() {
    let bench = Bench::new(per_service(json!({"minute": 5})));
    for _ in 0..10 {
        let response = bench.send(None, 429, &[("ratelimit-limit", "1")]).await;
        assert_eq!(response.status(), 429);
        assert_eq!(header(&response, "RateLimit-Limit"), "1");
        assert_eq!(header(&response, "X-RateLimit-Limit-Minute"), "-");
    }
    let response = bench.send(None, 502, &[]).await;
    assert_eq!(header(&response, "RateLimit-Remaining"), "4");
    assert_eq!(header(&bench.get(None).await, "RateLimit-Remaining"), "3");
}

#[tokio::test]
async fn plugins_case_045_the_smaller_announcement_is_told() {
    let bench = Bench::new(per_service(json!({"minute": 11})));
    let upstream = [
        ("RateLimit-Remaining", "7"),
        ("RateLimit-Remaining", "3"),
        ("RateLimit-Limit", "abc"),
        ("X-RateLimit-Limit-Minute", "400"),
        ("X-RateLimit-Limit-Hour", "9"),
    ];
    let response = bench.send(None, 200, &upstream).await;
    assert_eq!(header(&response, "RateLimit-Remaining"), "3");
    let lines = response.headers().get_all("RateLimit-Remaining");
    assert_eq!(lines.iter().count(), 1);
    assert_eq!(header(&response, "RateLimit-Limit"), "11");
    assert_eq!(header(&response, "X-RateLimit-Limit-Minute"), "11");
    assert_eq!(header(&response, "X-RateLimit-Limit-Hour"), "9");
    for odd in ["NaN", "inf", "-1e999", ""] {
        let response = bench.send(None, 200, &[("RateLimit-Limit", odd)]).await;
        assert_eq!(header(&response, "RateLimit-Limit"), "11", "{odd}");
    }
}

#[tokio::test]
async fn the_tighter_dimension_decides_and_all_or_nothing_counts() {
    let bench = Bench::new(json!({"limits": {
        "consumer": {"minute": 1}, "service": {"minute": 3, "hour": 100},
    }}));
    let response = bench.get(Some("rover")).await;
    assert_eq!(header(&response, "X-RateLimit-Limit-Minute"), "1");
    assert_eq!(header(&response, "RateLimit-Remaining"), "0");
    for _ in 0..5 {
        assert_eq!(bench.get(Some("rover")).await.status(), 429);
    }
    // The refused ones did not use up the service's limit.
    let response = bench.get(Some("gateway")).await;
    assert_eq!(header(&response, "X-RateLimit-Remaining-Minute"), "1");
    assert_eq!(header(&response, "X-RateLimit-Remaining-Hour"), "98");
}

#[tokio::test]
async fn counters_outlive_a_change_of_the_configuration() {
    let bench = Bench::new(per_service(json!({"minute": 1})));
    assert_eq!(bench.get(None).await.status(), 200);
    let changed = instance(&bench.kind, per_service(json!({"minute": 2})));
    let response = send(changed.as_ref(), None, 200, &[]).await;
    assert_eq!(header(&response, "RateLimit-Remaining"), "0");
    assert_eq!(send(changed.as_ref(), None, 200, &[]).await.status(), 429);
}

#[tokio::test]
async fn hidden_headers_are_not_told_and_still_count() {
    let mut config = per_service(json!({"minute": 1}));
    config["hide_client_headers"] = json!(true);
    let bench = Bench::new(config);
    for status in [200, 429] {
        let response = bench.get(None).await;
        assert_eq!(response.status(), status);
        for name in response.headers().keys() {
            let tells = name.as_str().contains("ratelimit") || name.as_str() == "retry-after";
            assert!(!tells, "{name}");
        }
    }
}

fn on_redis(port: u16, fault_tolerant: bool) -> Value {
    json!({
        "policy": "redis", "redis_host": "127.0.0.1", "redis_port": port, "redis_password": "",
        "fault_tolerant": fault_tolerant, "sync_rate": -1, "redis_timeout": 10_000,
        "limits": {"service": {"minute": 2}, "consumer": {"second": 5}},
    })
}

#[tokio::test]
async fn plugins_case_042_048_redis_counts_for_all_replicas() {
    let redis = Redis::start(Behaviour::default()).await;
    let config = on_redis(redis.address.port(), false);
    let replicas = [Bench::new(config.clone()), Bench::new(config)];
    let requests = (0..50).map(|at| replicas[at % 2].get(Some("rover")));
    let answers = futures_util::future::join_all(requests).await;
    let passed = answers.iter().filter(|it| it.status() == 200).count();
    assert_eq!(passed, 2);
    let window_ms = NOW_S * 1000;
    let minute = format!("ratelimit:{ROUTE}:{NO_SERVICE}:{SERVICE}:{window_ms}:minute");
    let rover = "00000000-0000-4000-8000-000000000001";
    let second = format!("ratelimit:{ROUTE}:{NO_SERVICE}:{rover}:{window_ms}:second");
    let counters = redis.counters();
    assert_eq!(counters[&minute], (2, "60".to_owned()));
    assert_eq!(counters[&second], (2, "1".to_owned()));
    assert_eq!(counters.len(), 2);
}

#[tokio::test]
async fn plugins_case_046_requests_pass_or_fail_while_redis_is_away() {
    let redis = Redis::start(Behaviour::default()).await;
    let port = redis.address.port();
    drop(redis);
    let bench = Bench::new(on_redis(port, true));
    for _ in 0..3 {
        let response = bench.get(None).await;
        assert_eq!(response.status(), 200);
        assert_eq!(header(&response, "RateLimit-Limit"), "-");
    }
    let response = Bench::new(on_redis(port, false)).get(None).await;
    assert_eq!(response.status(), 500);
    assert_eq!(
        response.body(),
        "{\"message\":\"An unexpected error occurred\"}"
    );
}

#[test]
fn plugins_case_049_what_cannot_be_carried_out_is_refused() {
    let (ambient, _) = ambient();
    let kind = Kind::new(ambient);
    for config in [
        json!({"limits": {"foo": {"minute": 1}}}),
        json!({"policy": "cluster", "limits": {"service": {"minute": 1}}}),
        json!({"sync_rate": 1, "limits": {"service": {"minute": 1}}}),
        json!({}),
    ] {
        assert!(kind.configure(&config).is_err(), "{config}");
    }
}
