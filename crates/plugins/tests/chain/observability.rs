//! prometheus, zipkin and opentelemetry over the wire, with a collector that reads what arrives.

use std::collections::BTreeMap;
use std::sync::Mutex;

use bytes::Bytes;
use http::StatusCode;
use tokio::sync::Semaphore;

use super::*;

/// A collector of spans.
pub(super) struct Collector {
    address: SocketAddr,
    service: Arc<Collecting>,
    _stop: DropGuard,
}

struct Collecting {
    received: Mutex<Vec<Request<Bytes>>>,
    /// Answers wait for it.
    gate: Semaphore,
}

impl HttpService for Collecting {
    fn call<'a>(
        &'a self,
        request: Request<Body>,
        _: &'a Connection,
    ) -> BoxFuture<'a, Response<Body>> {
        Box::pin(async move {
            self.gate.acquire().await.unwrap().forget();
            let (head, body) = request.into_parts();
            let body = body.collect(1 << 24).await.unwrap();
            let request = Request::from_parts(head, body);
            self.received.lock().unwrap().push(request);
            let mut response = Response::new(Body::Empty);
            *response.status_mut() = StatusCode::ACCEPTED;
            response
        })
    }
}

impl Collector {
    pub(super) fn start(open: bool) -> Self {
        let stop = CancellationToken::new();
        let service = Arc::new(Collecting {
            received: Mutex::default(),
            gate: Semaphore::new(if open { 1_000_000 } else { 0 }),
        });
        Self {
            address: super::start(service.clone(), &stop),
            service,
            _stop: stop.drop_guard(),
        }
    }

    /// Every request so far, taken out.
    pub(super) fn take(&self) -> Vec<Request<Bytes>> {
        std::mem::take(&mut *self.service.received.lock().unwrap())
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// So many spans in Zipkin's form, by kind and request.
    async fn zipkin(&self, count: usize) -> Vec<Value> {
        let spans = || -> Vec<Value> {
            let received = self.service.received.lock().unwrap();
            let bodies = received.iter().map(|it| it.body());
            let arrays = bodies.map(|it| serde_json::from_slice::<Vec<Value>>(it).unwrap());
            arrays.flatten().collect()
        };
        eventually("spans", || spans().len() >= count).await;
        assert_eq!(spans().len(), count);
        spans()
    }
}

pub(super) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let outcome = tokio::time::timeout(Duration::from_secs(20), wait).await;
    assert!(outcome.is_ok(), "gave up waiting for {what}");
}

/// A route of its own without plugins.
fn route(number: u32, name: &str, path: &str) -> Write {
    let body = json!({
        "id": id(number), "name": name, "protocols": ["http", "https"], "paths": [path],
        "https_redirect_status_code": 426, "regex_priority": 0, "strip_path": true,
        "preserve_host": false, "request_buffering": true, "response_buffering": true,
        "service": {"id": id(1)},
    });
    object("routes", body)
}

/// Consumers that may call `/example`.
fn consumer(number: u32, username: &str, custom_id: &str) -> [Write; 2] {
    let body = json!({"id": id(number), "username": username, "custom_id": custom_id});
    let group = json!({
        "id": id(number + 1), "group": "rover", "consumer": {"id": id(number)},
    });
    [object("consumers", body), object("acls", group)]
}

fn prometheus() -> Write {
    let config = json!({
        "status_code_metrics": true, "latency_metrics": true, "upstream_health_metrics": true,
        "bandwidth_metrics": true, "per_consumer": true,
    });
    plugin(31, "prometheus", false, config)
}

/// What the chart's job sends.
fn zipkin(collector: &str, changes: Value) -> Write {
    let mut config = json!({
        "http_endpoint": collector, "sample_ratio": 1, "include_credential": true,
        "default_service_name": "stargate", "local_component_name": "stargate",
        "environment": "qa", "zone": "zone1", "force_sample": true, "header_type": "b3",
    });
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    plugin(32, "zipkin", false, config)
}

impl Platform {
    /// `GET` of a path without credentials.
    async fn get(&self, path: &str, lines: &str) -> (u16, String) {
        let head = format!("GET {path} HTTP/1.1\r\nHost: Api.example.com:80\r\nConnection: close");
        self.exchange(&format!("{head}\r\n{lines}\r\n")).await
    }

    /// Waits for a line of the metrics; the log phase comes after the response.
    async fn shows(&self, line: &str) {
        let shown = || self.metrics.render().lines().any(|it| it == line);
        let wait = eventually(line, shown);
        wait.await;
    }
}

/// The value of a header of an answer or, in the echoed request, of a line.
fn line<'a>(answer: &'a str, name: &str) -> Vec<&'a str> {
    let lines = answer.lines();
    lines
        .filter_map(|it| it.split_once(": "))
        .filter(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
        .collect()
}

#[tokio::test]
async fn plugins_case_063_064_067_requests_are_counted_by_route_and_consumer() {
    let odd = "a\"b\\c\nd";
    let mut writes = vec![prometheus()];
    writes.extend(consumer(41, "eventstore", "eventstore"));
    writes.extend(consumer(43, odd, "odd"));
    let platform = Platform::start_with(writes).await;
    for _ in 0..2 {
        let (status, _) = platform.send("GET /example", "rover", "\r\n").await;
        assert_eq!(status, 200);
    }
    let event = "X-Pubsub-Subscriber-Id: sub1\r\nContent-Length: 3\r\n\r\nabc";
    platform.send("PURGE /example", "eventstore", event).await;
    platform.send("GET /example", "odd", "\r\n").await;
    platform.get("/example", "").await;
    let requests = |code: u16, source: &str, consumer: &str, method: &str, count: u32| {
        format!(
            "kong_http_requests_total{{service=\"s\",route=\"r\",code=\"{code}\",\
             source=\"{source}\",workspace=\"default\",consumer=\"{consumer}\",\
             method=\"{method}\"}} {count}"
        )
    };
    platform
        .shows(&requests(200, "service", "rover", "GET", 2))
        .await;
    platform
        .shows(&requests(200, "service", "eventstore:sub1", "OTHER", 1))
        .await;
    platform
        .shows(&requests(200, "service", "a\\\"b\\\\c\\nd", "GET", 1))
        .await;
    platform
        .shows(&requests(401, "kong", "anonymous", "GET", 1))
        .await;
    let text = platform.metrics.render();
    let bounds: Vec<_> = text
        .lines()
        .filter(|it| it.starts_with("kong_request_latency_ms_bucket") && it.contains("rover"))
        .map(|it| it.split("le=\"").nth(1).unwrap().split('"').next().unwrap())
        .collect();
    let platforms = "1 2 5 10 20 50 100 200 500 1000 2000 5000 10000 30000 60000 +Inf";
    assert_eq!(bounds.join(" "), platforms);
    let labels = "service=\"s\",route=\"r\",workspace=\"default\",consumer=\"anonymous\"";
    assert!(text.contains(&format!("kong_kong_latency_ms_count{{{labels}}} 1\n")));
    // It never came to the upstream.
    assert!(!text.contains(&format!("kong_upstream_latency_ms_count{{{labels}}}")));
    for direction in ["ingress", "egress"] {
        let start = format!(
            "kong_bandwidth_bytes{{service=\"s\",route=\"r\",direction=\"{direction}\",\
             workspace=\"default\",consumer=\"rover\"}} "
        );
        let sum = text.lines().find_map(|it| it.strip_prefix(start.as_str()));
        assert!(sum.unwrap().parse::<u64>().unwrap() > 100, "{start}");
    }
    assert!(text.contains("kong_nginx_metric_errors_total 0\n"));
    // Each family once, and no line without a name.
    let families: Vec<_> = text.lines().filter(|it| it.starts_with("# TYPE")).collect();
    let mut distinct = families.clone();
    distinct.dedup();
    assert_eq!(families, distinct);
}

#[tokio::test]
async fn bytes_of_requests_and_responses_are_those_on_the_wire() {
    let platform = Platform::start_with(vec![prometheus(), route(51, "plain", "/plain")]).await;
    let announced = "POST /plain HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n12345";
    let chunked = "POST /plain HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
        5\r\n12345\r\n0\r\n\r\n";
    let mut sizes = (0, 0);
    for request in [announced, chunked] {
        let request = request.replacen("\r\n\r\n", "\r\nconnection: close\r\n\r\n", 1);
        let (_, answer) = platform.exchange(&request).await;
        // Chunks have a frame of their own, which is not counted.
        sizes.0 += request.len() - if request.contains("chunked") { 10 } else { 0 };
        sizes.1 += answer.len();
    }
    let count = |direction: &str| {
        let start = format!(
            "kong_bandwidth_bytes{{service=\"s\",route=\"plain\",direction=\"{direction}\",\
             workspace=\"default\",consumer=\"anonymous\"}} "
        );
        let text = platform.metrics.render();
        let mut lines = text.lines();
        let sum = lines.find_map(|it| it.strip_prefix(start.as_str()));
        sum.map_or(0, |it| it.parse::<usize>().unwrap())
    };
    eventually("the bytes", || count("ingress") == sizes.0).await;
    // Ours are without the few lines that frame a connection.
    let sent = count("egress");
    assert!(
        sent <= sizes.1 && sent + 150 > sizes.1,
        "{sent} of {}",
        sizes.1
    );
}

#[tokio::test]
async fn plugins_case_065_streams_have_no_latency() {
    let platform = Platform::start_with(vec![
        prometheus(),
        route(51, "horizon-sse-v1", "/sse"),
        route(52, "my-ssl-api", "/ssl"),
    ])
    .await;
    platform.get("/sse", "").await;
    platform.get("/ssl", "").await;
    let labels = "workspace=\"default\",consumer=\"anonymous\"";
    let latency = |route: &str| {
        format!("kong_request_latency_ms_count{{service=\"s\",route=\"{route}\",{labels}}} 1")
    };
    platform.shows(&latency("my-ssl-api")).await;
    let counted = "route=\"horizon-sse-v1\",code=\"200\"";
    eventually("the count", || platform.metrics.render().contains(counted)).await;
    assert!(
        !platform
            .metrics
            .render()
            .contains("latency_ms_count{service=\"s\",route=\"horizon")
    );
}

#[tokio::test]
async fn without_an_instance_nothing_is_counted() {
    let platform = Platform::start_with(vec![route(51, "plain", "/plain")]).await;
    platform.get("/plain", "").await;
    let text = platform.metrics.render();
    for family in [
        "kong_http_requests",
        "kong_bandwidth",
        "latency_ms",
        "target_health",
    ] {
        assert!(!text.contains(family), "{text}");
    }
}

#[tokio::test]
async fn health_of_targets_is_shown_where_an_instance_asks_for_it() {
    let upstream = json!({
        "id": id(61), "name": "pool", "algorithm": "round-robin", "slots": 100,
        "hash_on": "none", "hash_fallback": "none", "hash_on_cookie_path": "/",
        "healthchecks": {
            "threshold": 0,
            "active": {
                "type": "http", "timeout": 1, "concurrency": 10, "http_path": "/",
                "https_verify_certificate": true,
                "healthy": {"interval": 0, "successes": 0, "http_statuses": [200]},
                "unhealthy": {"interval": 0, "tcp_failures": 0, "timeouts": 0,
                    "http_failures": 0, "http_statuses": [500]},
            },
            "passive": {
                "type": "http",
                "healthy": {"successes": 1, "http_statuses": [200]},
                "unhealthy": {"tcp_failures": 1, "timeouts": 0, "http_failures": 0,
                    "http_statuses": [500]},
            },
        },
    });
    let target = json!({
        "id": id(62), "target": "127.0.0.1:9", "weight": 100, "upstream": {"id": id(61)},
    });
    let writes = vec![
        prometheus(),
        object("upstreams", upstream),
        object("targets", target),
    ];
    let platform = Platform::start_with(writes).await;
    let state = |state: &str, value: u8| {
        format!(
            "kong_upstream_target_health{{upstream=\"pool\",target=\"127.0.0.1:9\",\
             address=\"127.0.0.1:9\",state=\"{state}\",subsystem=\"http\"}} {value}"
        )
    };
    for (name, value) in [
        ("healthchecks_off", 0),
        ("healthy", 1),
        ("unhealthy", 0),
        ("dns_error", 0),
    ] {
        platform.shows(&state(name, value)).await;
    }
}

#[tokio::test]
async fn plugins_case_006_068_the_charts_zipkin_tells_of_every_request() {
    let collector = Collector::start(true);
    let platform =
        Platform::start_with(vec![zipkin(&collector.url("/api/v2/spans"), json!({}))]).await;
    let lines = "X-Request-Id: r1\r\nX-Pubsub-Publisher-Id: p\r\nX-Pubsub-Subscriber-Id: s\r\n\
        Zipkin-Tags: team=red; lc=evil; kong.service=evil; broken\r\n\r\n";
    let (status, answer) = platform.send("GET /example/a?b=2", "rover", lines).await;
    assert_eq!(status, 200);
    let (head, echoed) = answer.split_once("\r\n\r\n").unwrap();
    let [trace_id] = line(echoed, "x-b3-traceid")[..] else {
        panic!("{echoed}")
    };
    let [tardis] = line(echoed, "x-tardis-traceid")[..] else {
        panic!("{echoed}")
    };
    assert!(trace_id.len() == 32 && trace_id.bytes().all(|it| it.is_ascii_hexdigit()));
    assert_eq!(line(echoed, "x-b3-sampled"), ["1"]);
    assert_eq!(line(head, "x-tardis-traceid"), [tardis]);
    let spans = collector.zipkin(2).await;
    let (client, server) = (&spans[0], &spans[1]);
    assert_eq!(server["kind"], "SERVER");
    assert_eq!(server["name"], "GET");
    assert_eq!(client["kind"], "CLIENT");
    assert_eq!(client["name"], "GET (proxy)");
    assert_eq!(server["traceId"], trace_id);
    assert_eq!(client["traceId"], trace_id);
    assert_eq!(client["id"], line(echoed, "x-b3-spanid")[0]);
    assert_eq!(client["parentId"], server["id"]);
    assert_eq!(server["id"], line(echoed, "x-b3-parentspanid")[0]);
    assert_eq!(server.get("parentId"), None);
    assert_eq!(server["localEndpoint"], json!({"serviceName": "stargate"}));
    assert_eq!(server["remoteEndpoint"]["serviceName"], "s");
    assert_eq!(server["remoteEndpoint"]["ipv4"], "127.0.0.1");
    assert_eq!(client["remoteEndpoint"]["ipv4"], "127.0.0.1");
    assert_eq!(server["timestamp"], NOW_S * 1_000_000);
    assert!(server["duration"].as_u64().unwrap() > 0);
    let expected = json!({
        "x-tardis-traceid": tardis, "x-tardis-consumer-side": "true", "lc": "kong",
        "http.method": "GET", "http.host": "api.example.com", "http.path": "/example/a",
        "http.protocol": "HTTP/1.1", "zone": "zone1", "x-request-id": "r1", "publisher": "p",
        "subscriber": "s", "http.status_code": "200", "kong.consumer": "rover",
        "kong.pod": "pod", "kong.service": "s", "environment": "playground", "team": "red",
    });
    assert_eq!(server["tags"], expected);
    let tags = json!({"x-tardis-traceid": tardis, "peer.hostname": "127.0.0.1"});
    assert_eq!(client["tags"], tags);
    let names = |span: &Value| {
        let annotations = span["annotations"].as_array().unwrap().iter();
        let names: Vec<_> = annotations
            .map(|it| it["value"].as_str().unwrap().to_owned())
            .collect();
        names.join(" ")
    };
    assert_eq!(names(server), "krf krs");
    assert_eq!(names(client), "kas kaf khs khf kbs kbf bts.1 btf.1");
    // A refusal has the platform's id as well, and is an error.
    let (status, answer) = platform.get("/example", "").await;
    assert_eq!(status, 401);
    assert_eq!(line(&answer, "x-tardis-traceid").len(), 1);
    let refused = &collector.zipkin(4).await[3];
    assert_eq!(refused["tags"]["error"], "true");
    assert_eq!(refused["tags"]["http.status_code"], "401");
    // So has what matches no route.
    let (status, answer) = platform.get("/nowhere", "").await;
    assert_eq!((status, line(&answer, "x-tardis-traceid").len()), (404, 1));
    assert_eq!(
        collector.zipkin(6).await[5]["remoteEndpoint"]["serviceName"],
        "stargate"
    );
    let request = collector.service.received.lock().unwrap().remove(0);
    assert_eq!(request.headers()["content-type"], "application/json");
    assert_eq!(request.uri(), "/api/v2/spans");
}

#[tokio::test]
async fn plugins_case_069_who_is_sampled() {
    let collector = Collector::start(true);
    let spans = collector.url("/");
    let admin = route(51, "admin", "/admin-api");
    let platform = Platform::start_with(vec![
        zipkin(
            &spans,
            json!({"http_response_header_for_traceid": "X-Trace"}),
        ),
        admin,
        route(52, "plain", "/plain"),
    ])
    .await;
    let trace = "80f198ee56343ba864fe8b2a57d3eff7";
    let refused = format!(
        "x-b3-traceid: {trace}\r\nx-b3-spanid: 05e3ac9a4f6e3b90\r\nx-b3-sampled: 0\r\n\
         x-tardis-traceid: xyz\r\n"
    );
    let (_, answer) = platform.get("/plain", &refused).await;
    assert_eq!(line(&answer, "x-b3-sampled"), ["1"]);
    assert_eq!(line(&answer, "x-b3-parentspanid"), ["05e3ac9a4f6e3b90"]);
    assert_eq!(line(&answer, "x-trace"), [trace]);
    let ids = line(&answer, "x-tardis-traceid");
    assert!(
        ids.len() == 2 && ids[0] == ids[1] && ids[0] != "xyz",
        "{ids:?}"
    );
    let spans = collector.zipkin(2).await;
    assert_eq!(spans[1]["id"], "05e3ac9a4f6e3b90");
    assert_eq!(spans[1]["traceId"], trace);
    assert_eq!(spans[1]["tags"]["x-tardis-consumer-side"], "true");
    let (_, answer) = platform
        .get("/admin-api/routes", "x-tardis-traceid: aBc1\r\n")
        .await;
    assert_eq!(line(&answer, "x-b3-sampled"), ["0"]);
    assert_eq!(line(&answer, "x-tardis-traceid"), ["aBc1", "aBc1"]);
    // The next request is the next to be told of: nothing was in between.
    platform.get("/plain", "").await;
    assert_eq!(collector.zipkin(4).await[3]["tags"]["http.path"], "/plain");
}

#[tokio::test]
async fn decisions_of_callers_count_where_nothing_is_forced() {
    let collector = Collector::start(true);
    let changes = json!({"force_sample": false, "sample_ratio": 0, "header_type": "preserve"});
    let writes = vec![
        zipkin(&collector.url("/"), changes),
        route(52, "plain", "/plain"),
    ];
    let platform = Platform::start_with(writes).await;
    let parent = "80f198ee56343ba864fe8b2a57d3eff7-05e3ac9a4f6e3b90";
    for (flags, told) in [("00", 0), ("01", 2)] {
        let lines = format!("traceparent: 00-{parent}-{flags}\r\n");
        let (_, answer) = platform.get("/plain", &lines).await;
        let sent = line(&answer, "traceparent")[0].to_owned();
        assert!(
            sent.ends_with(flags) && sent.starts_with("00-80f198ee"),
            "{sent}"
        );
        assert!(!sent.contains("05e3ac9a4f6e3b90"), "{sent}");
        let spans = collector.zipkin(told).await;
        if let Some(server) = spans.get(1) {
            assert_eq!(server["parentId"], "05e3ac9a4f6e3b90");
        }
    }
    // Nobody decided: the ratio does.
    let (_, answer) = platform.get("/plain", "").await;
    assert_eq!(line(&answer, "x-b3-sampled"), ["0"]);
}

#[tokio::test]
async fn failed_attempts_are_told_one_by_one() {
    let collector = Collector::start(true);
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let service = object(
        "services",
        json!({
            "id": id(71), "name": "away", "enabled": true, "protocol": "http",
            "host": "127.0.0.1", "port": closed.port(), "path": null, "retries": 1,
            "connect_timeout": 5000, "write_timeout": 5000, "read_timeout": 5000,
        }),
    );
    let route = object(
        "routes",
        json!({
            "id": id(72), "name": "away", "protocols": ["http"], "paths": ["/away"],
            "https_redirect_status_code": 426, "regex_priority": 0, "strip_path": true,
            "preserve_host": false, "request_buffering": true, "response_buffering": true,
            "service": {"id": id(71)},
        }),
    );
    let changes = json!({"phase_duration_flavor": "tags", "environment": "dev"});
    let otel = opentelemetry(&collector.url("/v1/traces"));
    let zipkin = zipkin(&collector.url("/zipkin"), changes);
    let platform = Platform::start_with(vec![zipkin, otel, service, route]).await;
    let (status, _) = platform.get("/away", "").await;
    assert_eq!(status, 502);
    platform.deliveries.flush(Duration::from_secs(20)).await;
    let received = std::mem::take(&mut *collector.service.received.lock().unwrap());
    let client = received
        .iter()
        .filter(|it| it.uri() == "/zipkin")
        .map(|it| serde_json::from_slice::<Value>(it.body()).unwrap()[0].clone())
        .find(|it| it["kind"] == "CLIENT")
        .unwrap();
    let tags = &client["tags"];
    for (name, value) in [
        ("error", "true"),
        ("kong.balancer.state.1", "failed"),
        ("http.status_code.1", "502"),
        ("kong.balancer.state.2", "failed"),
        ("http.status_code.2", "502"),
    ] {
        assert_eq!(tags[name], value, "{tags}");
    }
    assert!(tags["kong.access.duration_ms"].is_string(), "{tags}");
    let exported = received.iter().find(|it| it.uri() == "/v1/traces").unwrap();
    let spans = otlp(exported.body()).1;
    let names: Vec<_> = spans.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["GET", "kong.balancer", "GET (proxy)"]);
    assert!(spans[1].is_error && spans[2].is_error && !spans[0].is_error);
    assert_eq!(spans[1].attributes["try_count"], "1");
    assert_eq!(spans[2].attributes["try_count"], "2");
}

fn opentelemetry(endpoint: &str) -> Write {
    let config = json!({
        "traces_endpoint": endpoint, "endpoint": endpoint, "sampling_rate": 1,
        "resource_attributes": {"service.name": "gateway"}, "local_service_name": "stargate",
        "environment": "dev", "zone": "zone1", "header_type": "b3", "headers": {"X-Key": "k"},
    });
    plugin(33, "opentelemetry", false, config)
}

#[tokio::test]
async fn plugins_case_070_opentelemetry_exports_what_the_chart_configures() {
    let collector = Collector::start(true);
    let writes = vec![opentelemetry(&collector.url("/v1/traces"))];
    let platform = Platform::start_with(writes).await;
    let parent = "traceparent: 00-80f198ee56343ba864fe8b2a57d3eff7-05e3ac9a4f6e3b90-01\r\n\
        X-Correlation-Id: c1\r\n\r\n";
    let (_, answer) = platform
        .send("GET /example/a?b=2&apikey=k", "rover", parent)
        .await;
    let (head, echoed) = answer.split_once("\r\n\r\n").unwrap();
    let [tardis] = line(echoed, "x-tardis-traceid")[..] else {
        panic!("{echoed}")
    };
    assert_eq!(line(head, "x-tardis-traceid"), [tardis]);
    // Batches wait for more; the end of the process does not.
    platform.deliveries.flush(Duration::from_secs(20)).await;
    let received = std::mem::take(&mut *collector.service.received.lock().unwrap());
    let [request] = &received[..] else {
        panic!("{} requests", received.len())
    };
    assert_eq!(request.headers()["content-type"], "application/x-protobuf");
    assert_eq!(request.headers()["x-key"], "k");
    let (resource, spans) = otlp(request.body());
    assert_eq!(resource["service.name"], "gateway");
    assert_eq!(resource["service.instance.id"], "node");
    let [root, attempt] = &spans[..] else {
        panic!("{} spans", spans.len())
    };
    assert_eq!((root.name.as_str(), root.kind), ("GET", 2));
    assert_eq!((attempt.name.as_str(), attempt.kind), ("GET (proxy)", 3));
    assert_eq!(root.ids[0], "80f198ee56343ba864fe8b2a57d3eff7");
    assert_eq!(root.ids[2], "05e3ac9a4f6e3b90");
    assert_eq!(attempt.ids[0], root.ids[0]);
    assert_eq!(attempt.ids[2], root.ids[1]);
    assert_eq!(line(echoed, "x-b3-spanid"), [attempt.ids[1].as_str()]);
    assert_eq!(line(echoed, "x-b3-parentspanid"), [root.ids[1].as_str()]);
    let traceparent = format!("00-{}-{}-01", root.ids[0], attempt.ids[1]);
    assert_eq!(line(echoed, "traceparent"), [traceparent.as_str()]);
    for (name, value) in [
        ("http.method", "GET"),
        (
            "http.url",
            "http://api.example.com/example/a?b=2&apikey=REDACTED",
        ),
        ("http.host", "api.example.com"),
        ("http.scheme", "http"),
        ("http.flavor", "1.1"),
        ("http.client_ip", "127.0.0.1"),
        ("http.status_code", "200"),
        ("http.route", "/example"),
        ("http.path", "/example/a"),
        ("http.protocol", "HTTP/1.1"),
        ("x-tardis-traceid", tardis),
        ("x-tardis-consumer-side", "true"),
        ("x-correlation-id", "c1"),
        ("lc", "stargate"),
        ("kong.consumer", "rover"),
        ("kong.service", "s"),
        ("kong.pod", "pod"),
        ("environment", "dev"),
        ("peer.service", "s"),
        ("zone", "zone1"),
    ] {
        assert_eq!(root.attributes[name], value, "{name}");
    }
    assert!(!root.attributes.contains_key("publisher"));
    assert_eq!(attempt.attributes["net.peer.ip"], "127.0.0.1");
    assert_eq!(attempt.attributes["peer.service"], "stargate");
    assert!(root.ended >= attempt.ended && root.begun <= attempt.begun);
    assert_eq!(root.begun, u64::try_from(NOW_S).unwrap() * 1_000_000_000);
}

#[tokio::test]
async fn plugins_case_071_a_collector_that_hangs_costs_nothing_but_its_spans() {
    let collector = Collector::start(false);
    let changes = json!({"queue": {"max_entries": 4}});
    let writes = vec![
        zipkin(&collector.url("/"), changes),
        route(52, "plain", "/plain"),
    ];
    let platform = Platform::start_with(writes).await;
    for _ in 0..10 {
        let (status, _) = platform.get("/plain", "").await;
        assert_eq!(status, 200);
    }
    // One is on its way, four wait.
    platform
        .shows("o28m_queue_dropped_total{plugin=\"zipkin\",reason=\"full\"} 15")
        .await;
    platform
        .shows("o28m_queue_length{plugin=\"zipkin\"} 4")
        .await;
    collector.service.gate.add_permits(100);
    collector.zipkin(5).await;
    platform
        .shows("o28m_queue_length{plugin=\"zipkin\"} 0")
        .await;
}

#[tokio::test]
async fn whatever_clients_send_spans_stay_readable() {
    let collector = Collector::start(true);
    let otel = opentelemetry(&collector.url("/v1/traces"));
    let zipkin = zipkin(&collector.url("/zipkin"), json!({}));
    let platform = Platform::start_with(vec![zipkin, otel, route(52, "plain", "/plain")]).await;
    let long = "x".repeat(5000);
    for (path, lines) in [
        (
            "/plain/%22%0a%ff",
            "x-request-id: a\"b\\\u{e9}\tc\r\n".to_owned(),
        ),
        (
            "/plain",
            format!(
                "x-business-context: {long}\r\nZipkin-Tags: {}\r\n",
                "a=b;".repeat(900)
            ),
        ),
        (
            "/plain",
            "Zipkin-Tags: \"=\\; \u{7f}=\u{e9}; error=no; a=1; a=2\r\n".to_owned(),
        ),
        (
            "/plain",
            "b3: 1\r\ntraceparent: x\r\nuber-trace-id: ::::\r\nx-b3-flags: \u{ff}\r\n".to_owned(),
        ),
    ] {
        platform.get(path, &lines).await;
    }
    platform.deliveries.flush(Duration::from_secs(20)).await;
    let received = std::mem::take(&mut *collector.service.received.lock().unwrap());
    let mut servers = 0;
    for request in received {
        if request.uri() == "/v1/traces" {
            otlp(request.body());
            continue;
        }
        for span in serde_json::from_slice::<Vec<Value>>(request.body()).unwrap() {
            let text = span.to_string();
            assert!(text.len() < 8000, "{text}");
            servers += usize::from(span["kind"] == "SERVER");
        }
    }
    assert!(servers >= 3, "{servers}");
}

/// A span as it was exported.
#[derive(Default)]
struct Span {
    name: String,
    /// Of trace, span and parent, in hexadecimal.
    ids: [String; 3],
    kind: u64,
    begun: u64,
    ended: u64,
    attributes: BTreeMap<String, String>,
    is_error: bool,
}

/// A value of a field.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a protobuf message.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            number |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return number;
            }
        }
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let value = match key & 7 {
            0 => Field::Number(varint(&mut bytes)),
            1 => {
                let (number, rest) = bytes.split_at(8);
                bytes = rest;
                Field::Number(u64::from_le_bytes(number.try_into().unwrap()))
            }
            2 => {
                let length = usize::try_from(varint(&mut bytes)).unwrap();
                let (inner, rest) = bytes.split_at(length);
                bytes = rest;
                Field::Bytes(inner)
            }
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, value));
    }
    found
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn attribute(bytes: &[u8]) -> (String, String) {
    let (mut key, mut value) = (String::new(), String::new());
    for (field, it) in fields(bytes) {
        match (field, it) {
            (1, Field::Bytes(it)) => key = text(it),
            (2, Field::Bytes(it)) => {
                for (field, it) in fields(it) {
                    value = match (field, it) {
                        (1, Field::Bytes(it)) => text(it),
                        (2, Field::Number(it)) => (it == 1).to_string(),
                        (3, Field::Number(it)) => it.to_string(),
                        (4, Field::Number(it)) => f64::from_bits(it).to_string(),
                        (field, _) => panic!("value of kind {field}"),
                    };
                }
            }
            (field, _) => panic!("field {field} of an attribute"),
        }
    }
    (key, value)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn span(bytes: &[u8]) -> Span {
    let mut span = Span::default();
    for (field, it) in fields(bytes) {
        match (field, it) {
            (1, Field::Bytes(it)) => span.ids[0] = hex(it),
            (2, Field::Bytes(it)) => span.ids[1] = hex(it),
            (4, Field::Bytes(it)) => span.ids[2] = hex(it),
            (5, Field::Bytes(it)) => span.name = text(it),
            (6, Field::Number(it)) => span.kind = it,
            (7, Field::Number(it)) => span.begun = it,
            (8, Field::Number(it)) => span.ended = it,
            (9, Field::Bytes(it)) => span.attributes.extend([attribute(it)]),
            (15, Field::Bytes(it)) => {
                let is_error = |(field, it)| field == 3 && matches!(it, Field::Number(2));
                span.is_error = fields(it).into_iter().any(is_error);
            }
            (field, _) => panic!("field {field} of a span"),
        }
    }
    span
}

/// The resource's attributes and the spans of an export request.
fn otlp(bytes: &[u8]) -> (BTreeMap<String, String>, Vec<Span>) {
    let (mut resource, mut spans) = (BTreeMap::new(), Vec::new());
    let inner = |bytes| -> Vec<(u64, &[u8])> {
        let bytes = fields(bytes).into_iter();
        bytes
            .map(|(field, it)| match it {
                Field::Bytes(it) => (field, it),
                Field::Number(it) => panic!("number {it} in field {field}"),
            })
            .collect()
    };
    for (_, of_resource) in inner(bytes) {
        for (field, it) in inner(of_resource) {
            match field {
                1 => resource.extend(inner(it).into_iter().map(|(_, it)| attribute(it))),
                _ => {
                    for (field, it) in inner(it) {
                        match field {
                            1 => assert_eq!(inner(it)[0].1, b"kong-internal"),
                            _ => spans.push(span(it)),
                        }
                    }
                }
            }
        }
    }
    (resource, spans)
}
