//! The set-up jobs of the gateway's chart for metrics and traces, and what they are for.

use bytes::Bytes;
use http::Response;
use o28m_testkit::{Platform, Upstream, eventually, on_every_database};
use serde_json::{Value, json};

const PROMETHEUS: &str = "/plugins/3d232d3c-dc2b-4705-aa8d-4e07c4e0ff4c";
const ZIPKIN: &str = "/plugins/e8ff1211-816f-4d93-9011-a4b194586073";
const OPENTELEMETRY: &str = "/plugins/7b1d3f9a-2c84-4d6e-9f10-5a3b8c2e7d41";
const SIZE_LIMIT: &str = "/plugins/1e199eee-f592-4afa-8371-6b61dcbd1904";

fn prometheus() -> Value {
    json!({
        "name": "prometheus", "tags": ["tardis", "prometheus", "eni-prometheus"],
        "config": {
            "status_code_metrics": true, "latency_metrics": true, "upstream_health_metrics": true,
            "bandwidth_metrics": true, "per_consumer": true,
        },
    })
}

fn zipkin(collector: &Upstream) -> Value {
    json!({
        "name": "zipkin", "tags": ["tardis", "zipkin", "eni-zipkin"],
        "config": {
            "http_endpoint": format!("{}/api/v2/spans", collector.url()), "sample_ratio": 1,
            "include_credential": true, "default_service_name": "stargate",
            "local_component_name": "stargate", "environment": "playground", "zone": "zone1",
            "force_sample": true, "header_type": "b3",
        },
    })
}

fn opentelemetry(endpoint: &str) -> Value {
    json!({
        "name": "opentelemetry", "tags": ["tardis", "otel", "eni-opentelemetry"],
        "config": {
            "traces_endpoint": endpoint, "sampling_rate": 1,
            "resource_attributes": {"service.name": "stargate"}, "local_service_name": "stargate",
            "environment": "playground", "zone": "zone1", "header_type": "b3",
        },
    })
}

/// A service and a route to `upstream`.
async fn route(platform: &Platform, upstream: &Upstream) {
    let service = json!({"url": upstream.url()});
    let _ = platform
        .admin("PUT", "/services/plain", service)
        .await
        .expect(200);
    let route = json!({"paths": ["/plain"], "service": {"name": "plain"}});
    let _ = platform
        .admin("PUT", "/routes/plain", route)
        .await
        .expect(200);
    platform.applied().await;
}

on_every_database! {
    async fn the_charts_jobs_are_carried_out(platform: Platform) {
        let (collector, upstream) = (Upstream::ok(), Upstream::ok());
        let size_limit = json!({
            "name": "request-size-limiting", "tags": ["tardis", "request-size-limiting"],
            "config": {
                "allowed_payload_size": 10, "size_unit": "megabytes",
                "require_content_length": false,
            },
        });
        for _ in 0..2 {
            let enabled = platform.admin("GET", "/", Value::Null).await.expect(200).json();
            for name in ["prometheus", "zipkin", "opentelemetry"] {
                let about = &enabled["plugins"]["available_on_server"][name];
                assert!(about["priority"].is_number(), "{name}");
            }
            for (path, body) in [
                (PROMETHEUS, prometheus()),
                (SIZE_LIMIT, size_limit.clone()),
                (ZIPKIN, zipkin(&collector)),
            ] {
                let stored = platform.admin("PUT", path, body.clone()).await.expect(200).json();
                assert_eq!(path, format!("/plugins/{}", stored["id"].as_str().unwrap()));
                for (field, value) in body["config"].as_object().unwrap() {
                    assert_eq!(&stored["config"][field], value, "{field}");
                }
            }
            let _ = platform.admin("DELETE", OPENTELEMETRY, Value::Null).await.expect(204);
        }
        route(&platform, &upstream).await;
        let reply = platform.http.get(&platform.gateway("/plain/a")).await.expect(200);
        let received = upstream.take();
        let sent = received[0].headers();
        assert_eq!(sent["x-b3-sampled"], "1");
        assert_eq!(sent["x-b3-traceid"].len(), 32);
        assert_eq!(sent["x-tardis-traceid"], reply.header("x-tardis-traceid"));
        assert_eq!(reply.header("via"), "");
        assert!(!sent.contains_key("via"));
        let mut spans = Vec::new();
        eventually("two spans", async || {
            let arrays = collector.take().into_iter();
            spans.extend(arrays.flat_map(|it| serde_json::from_slice::<Vec<Value>>(it.body()).unwrap()));
            (spans.len() == 2).then_some(())
        })
        .await;
        for span in &spans {
            assert_eq!(span["localEndpoint"]["serviceName"], "stargate");
        }
        assert_eq!(spans[1]["tags"]["environment"], "playground");
        for path in [PROMETHEUS, ZIPKIN, OPENTELEMETRY] {
            let _ = platform.admin("DELETE", path, Value::Null).await.expect(204);
            let _ = platform.admin("GET", path, Value::Null).await.expect(404);
        }
        platform.applied().await;
        let reply = platform.http.get(&platform.gateway("/plain/a")).await.expect(200);
        assert_eq!(reply.header("x-tardis-traceid"), "");
    }
}

on_every_database! {
    async fn plugins_case_066_072_metrics_are_on_three_listeners(platform: Platform) {
        let upstream = Upstream::start(|_| Response::new(Bytes::from_static(b"hello")));
        let _ = platform.admin("PUT", PROMETHEUS, prometheus()).await.expect(200);
        route(&platform, &upstream).await;
        let _ = platform.http.get(&platform.gateway("/plain")).await.expect(200);
        let listeners = [
            format!("{}/metrics", platform.credential("STATUS_URL")),
            format!("{}/metrics", platform.credential("METRICS_URL")),
        ];
        let counted = "kong_http_requests_total{service=\"plain\",route=\"plain\",code=\"200\",\
            source=\"service\",workspace=\"default\",consumer=\"anonymous\",method=\"GET\"} 1";
        let mut families = Vec::new();
        for url in &listeners {
            let text = eventually("the count", async || {
                let reply = platform.http.get(url).await.expect(200);
                assert_eq!(reply.header("content-type"), "text/plain; charset=UTF-8");
                let text = reply.text();
                text.contains(counted).then_some(text)
            })
            .await;
            families.push(names(&text));
        }
        let reply = platform.admin("GET", "/metrics", Value::Null).await.expect(200);
        assert_eq!(reply.header("content-type"), "text/plain; charset=UTF-8");
        families.push(names(&reply.text()));
        assert!(reply.text().contains("kong_nginx_metric_errors_total 0\n"));
        let url = format!("{}/metrics", platform.credential("GATEWAY_ADMIN_URL"));
        let _ = platform.http.get(&url).await.expect(401);
        assert_eq!(families[0], families[1]);
        let without_admin = |names: &[String]| -> Vec<String> {
            // The Admin API counts the very requests that ask it.
            names.iter().filter(|it| !it.starts_with("o28m_admin")).cloned().collect()
        };
        assert_eq!(without_admin(&families[0]), without_admin(&families[2]));
        for family in [
            "kong_nginx_connections_total", "kong_nginx_requests_total", "kong_nginx_timers",
            "kong_datastore_reachable", "kong_node_info", "kong_memory_workers_lua_vms_bytes",
            "kong_bandwidth_bytes", "kong_request_latency_ms", "kong_upstream_latency_ms",
            "kong_kong_latency_ms",
        ] {
            assert!(families[0].iter().any(|it| it == family), "{family}");
        }
    }
}

/// Names of all families.
fn names(text: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|it| it.strip_prefix("# TYPE "));
    lines
        .map(|it| it.split(' ').next().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admin_case_051_plugins_case_070_the_charts_opentelemetry_job_works() {
    let (collector, upstream) = (Upstream::ok(), Upstream::ok());
    let settings = [("tracing.instrumentations", "request,balancer")];
    let platform = Platform::start_with(None, &settings).await;
    let endpoint = format!("{}/v1/traces", collector.url());
    let body = opentelemetry(&endpoint);
    let stored = platform
        .admin("PUT", OPENTELEMETRY, body)
        .await
        .expect(200)
        .json();
    let config = &stored["config"];
    assert_eq!(config["environment"], "playground");
    assert_eq!(config["traces_endpoint"], endpoint);
    assert_eq!(config["endpoint"], endpoint);
    assert_eq!(config["propagation"]["default_format"], "b3");
    assert_eq!(config["queue"]["max_batch_size"], 200);
    assert_eq!(config["queue"]["initial_retry_delay"], 0.01);
    let _ = platform
        .admin("DELETE", ZIPKIN, Value::Null)
        .await
        .expect(204);
    let refused = json!({"name": "opentelemetry", "config": {"logs_endpoint": "http://a/v1/logs"}});
    let refused = platform
        .admin("POST", "/plugins", refused)
        .await
        .expect(400)
        .json();
    assert!(
        refused["fields"]["config"]["logs_endpoint"].is_string(),
        "{refused}"
    );
    route(&platform, &upstream).await;
    let _ = platform
        .http
        .get(&platform.gateway("/plain"))
        .await
        .expect(200);
    let received = eventually("spans", async || collector.take().pop()).await;
    assert_eq!(received.uri(), "/v1/traces");
    assert_eq!(received.headers()["content-type"], "application/x-protobuf");
    for text in ["stargate", "GET (proxy)", "kong-internal", "playground"] {
        let bytes = received.body();
        assert!(
            bytes.windows(text.len()).any(|it| it == text.as_bytes()),
            "{text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_that_wait_are_sent_when_the_process_ends() {
    let (collector, upstream) = (Upstream::ok(), Upstream::ok());
    let platform = Platform::start_with(None, &[]).await;
    let mut body = zipkin(&collector);
    body["config"]["queue"] = json!({"max_batch_size": 100, "max_coalescing_delay": 3600});
    let _ = platform.admin("PUT", ZIPKIN, body).await.expect(200);
    route(&platform, &upstream).await;
    let _ = platform
        .http
        .get(&platform.gateway("/plain"))
        .await
        .expect(200);
    assert!(collector.take().is_empty());
    let platform = platform.restart().await;
    let received = collector.take();
    assert_eq!(received.len(), 1);
    let spans: Vec<Value> = serde_json::from_slice(received[0].body()).unwrap();
    assert_eq!(spans.len(), 2);
    drop(platform);
}
