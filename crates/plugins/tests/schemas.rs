//! What the Admin API stores is what the plugins read.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed assumption of a test is a failed test"
)]

use std::sync::Arc;

use o28m_core::{Ambient, Clock, Rng, Timestamp};
use o28m_gateway::{LocalIssuers, PluginKind};
use o28m_jose::JwkSet;
use o28m_kong::{Context, entity};
use o28m_net::BoxFuture;
use o28m_plugins::Dependencies;
use serde_json::{Value, json};

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(1_800_000_000)
    }
}

impl Rng for Fixed {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

struct Nobody;

impl LocalIssuers for Nobody {
    fn key_set<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Option<Arc<JwkSet>>> {
        Box::pin(std::future::ready(None))
    }
}

fn ambient() -> Ambient {
    Ambient {
        clock: Arc::new(Fixed),
        rng: Arc::new(Fixed),
    }
}

fn kinds() -> Vec<Arc<dyn PluginKind>> {
    o28m_plugins::kinds(Dependencies::new(ambient(), Arc::new(Nobody)))
}

/// The configuration as it is stored, or what the Admin API answers.
fn stored(name: &str, config: &Value) -> Result<Value, String> {
    let (ambient, enabled) = (ambient(), [name.to_owned()]);
    let context = Context {
        ambient: &ambient,
        enabled_plugins: &enabled,
    };
    let document = json!({"name": name, "config": config});
    let Value::Object(document) = document else {
        panic!("an object is expected");
    };
    let plugin = entity("plugins").unwrap().insert(document, &context);
    let plugin = plugin.map_err(|violations| violations.message())?;
    Ok(plugin["config"].clone())
}

#[test]
fn every_kind_reads_what_its_schema_lets_through() {
    let issuer = "https://iris.example.com/auth/realms/default";
    for (name, config) in [
        ("jwt-keycloak", json!({"allowed_iss": [issuer]})),
        (
            "jwt-keycloak",
            json!({
                "allowed_iss": [issuer], "consumer_match": true, "scope": ["a"], "roles": ["b"],
                "realm_roles": ["c"], "client_roles": ["d:e"], "claims_to_verify": ["exp", "nbf"],
                "maximum_expiration": 60, "iss_key_grace_period": 1.5, "anonymous": "x",
                "algorithm": "ES256", "cafile": "/no/such/file",
            }),
        ),
        ("acl", json!({"allow": ["a"], "deny": []})),
        ("acl", json!({"deny": ["a"], "hide_groups_header": true})),
        ("request-size-limiting", json!({})),
        (
            "request-size-limiting",
            json!({"allowed_payload_size": 1, "size_unit": "bytes", "require_content_length": true}),
        ),
        (
            "ip-restriction",
            json!({"allow": [], "deny": ["10.0.0.0/8", "::1"], "status": 404, "message": "no"}),
        ),
        ("rate-limiting", json!({"minute": 1})),
        (
            "rate-limiting",
            json!({
                "second": 1, "year": 2, "limit_by": "header", "header_name": "x-a",
                "policy": "redis", "redis_host": "h", "redis_timeout": 10, "error_code": 503,
                "error_message": "m", "hide_client_headers": true, "fault_tolerant": false,
                "redis": {"port": 6380, "ssl": true, "server_name": "n", "password": ""},
            }),
        ),
        (
            "rate-limiting",
            json!({"hour": 1, "limit_by": "path", "path": "/a", "redis_host": null}),
        ),
        (
            "rate-limiting-merged",
            json!({"limits": {"service": {"minute": 1.0}, "consumer": {"hour": 2.5}}}),
        ),
        (
            "rate-limiting-merged",
            json!({
                "policy": "redis", "redis_host": "valkey.example.com", "redis_port": 6380,
                "redis_password": "", "redis_username": "u", "redis_ssl": true,
                "redis_ssl_verify": true, "redis_server_name": "valkey", "redis_timeout": 10,
                "redis_database": 1, "hide_client_headers": true, "fault_tolerant": false,
                "omit_consumer": "x", "sync_rate": -1, "limits": {"service": {"second": 1}},
            }),
        ),
        ("correlation-id", json!({})),
        (
            "correlation-id",
            json!({"header_name": "x_id", "generator": "tracker", "echo_downstream": true}),
        ),
        ("basic-auth", json!({})),
        (
            "basic-auth",
            json!({"anonymous": "a", "hide_credentials": true, "realm": "r"}),
        ),
        ("key-auth", json!({})),
        (
            "key-auth",
            json!({
                "key_names": ["a", "b_c"], "hide_credentials": true, "anonymous": "a",
                "key_in_header": false, "key_in_query": false, "key_in_body": false,
                "run_on_preflight": false, "realm": "r",
            }),
        ),
        ("response-transformer", json!({})),
        (
            "response-transformer",
            json!({
                "remove": {"headers": ["a"]}, "rename": {"headers": ["a:b"], "json": []},
                "add": {"headers": ["a:b:c", "d:"]}, "append": {"headers": ["x-a_b:1"]},
            }),
        ),
        ("cors", json!({})),
        (
            "cors",
            json!({
                "origins": ["*", "a\\.test", "http://b.test:8080"], "headers": ["A"],
                "exposed_headers": ["B"], "methods": ["GET"], "max_age": 3600,
                "credentials": true, "private_network": true, "preflight_continue": true,
                "allow_origin_absent": false,
            }),
        ),
        ("request-termination", json!({})),
        (
            "request-termination",
            json!({"status_code": 200, "content_type": "text/plain", "body": "x", "trigger": "t"}),
        ),
        ("prometheus", json!({})),
        (
            "prometheus",
            json!({
                "per_consumer": true, "status_code_metrics": true, "ai_metrics": true,
                "latency_metrics": true, "bandwidth_metrics": true,
                "upstream_health_metrics": true, "wasm_metrics": true,
            }),
        ),
        ("zipkin", json!({})),
        (
            "zipkin",
            json!({
                "http_endpoint": "http://[::1]:9411/api/v2/spans?x=1", "sample_ratio": 0.5,
                "force_sample": true, "default_service_name": "a", "local_component_name": "b",
                "environment": "qa", "zone": "z", "traceid_byte_count": 8, "header_type": "ignore",
                "default_header_type": "b3-single", "tags_header": "x_tags", "queue": {},
                "static_tags": [{"name": "a", "value": "b"}], "http_span_name": "method_path",
                "connect_timeout": 0, "http_response_header_for_traceid": "X-Trace",
                "phase_duration_flavor": "tags", "propagation": {"extract": ["gcp"], "clear": ["a_b"],
                "inject": ["preserve", "b3-single", "datadog"], "default_format": "ot"},
            }),
        ),
        (
            "opentelemetry",
            json!({"traces_endpoint": "https://a.example.com/v1/traces"}),
        ),
        (
            "opentelemetry",
            json!({
                "endpoint": "http://a:4318/v1/traces", "headers": {"X-Key": "k"},
                "resource_attributes": {"service.name": "s"}, "batch_span_count": 5,
                "batch_flush_delay": 1, "sampling_rate": 1, "environment": "e", "zone": "z",
                "local_service_name": "l", "header_type": "w3c", "send_timeout": 1,
                "queue": {"max_batch_size": 3, "max_coalescing_delay": 0.5, "max_entries": 9,
                "max_bytes": 100, "max_retry_time": 0, "initial_retry_delay": 0.001,
                "max_retry_delay": 1.5, "concurrency_limit": -1},
                "http_response_header_for_traceid": "X-Trace",
                "propagation": {"default_format": "w3c"},
            }),
        ),
        (
            "http-log",
            json!({"http_endpoint": "https://u:p%40@a.example.com/logs?x=1", "method": "PUT"}),
        ),
        (
            "http-log",
            json!({
                "http_endpoint": "http://a/", "content_type": "application/json; charset=utf-8",
                "timeout": 1, "keepalive": 1, "retry_count": 10, "queue_size": 3,
                "flush_timeout": 0.5, "headers": {"Authorization": "x"}, "queue": {},
                "custom_fields_by_lua": {
                    "a.b": "return nil", "c": "return 'x'", "d": "return headers.x or 'y';",
                    "e": "return kong.request.get_header('X-A')", "f": "return -1.5",
                },
            }),
        ),
        ("file-log", json!({"path": "/dev/stdout", "reopen": true})),
        (
            "tcp-log",
            json!({
                "host": "::1", "port": 1, "timeout": 1, "keepalive": 0, "tls": true,
                "tls_sni": "a.example.com",
            }),
        ),
        ("udp-log", json!({"host": "a", "port": 514, "timeout": 10})),
        ("request-transformer", json!({})),
        (
            "request-transformer",
            json!({
                "http_method": "GET", "replace": {"uri": "/x", "headers": ["a:$(headers.b)"]},
                "remove": {"headers": ["a"]}, "rename": {"body": ["a:b"]},
                "add": {"querystring": ["a:b"]}, "append": {"headers": ["a:"]},
            }),
        ),
    ] {
        let kinds = kinds();
        let kind = kinds.iter().find(|kind| kind.name() == name).unwrap();
        let stored = stored(name, &config).unwrap();
        if let Err(error) = kind.configure(&stored) {
            panic!("{name} {config}: {error}");
        }
    }
}

#[test]
fn priorities_are_those_of_the_schemas() {
    for kind in kinds() {
        let schema = o28m_kong::plugin(kind.name()).unwrap();
        assert_eq!(kind.priority(), schema.priority, "{}", kind.name());
    }
    assert_eq!(kinds().len(), o28m_kong::plugins().len());
}

#[test]
fn plugins_case_035_037_049_058_075_079_the_schema_refuses_before_the_plugin_does() {
    for (name, config) in [
        ("jwt-keycloak", json!({})),
        (
            "jwt-keycloak",
            json!({"allowed_iss": ["x"], "iss_key_grace_period": 0}),
        ),
        (
            "jwt-keycloak",
            json!({"allowed_iss": ["x"], "claims_to_verify": ["iat"]}),
        ),
        ("acl", json!({"allow": [], "deny": []})),
        ("ip-restriction", json!({"allow": [], "deny": []})),
        ("ip-restriction", json!({"allow": ["nonsense"]})),
        ("ip-restriction", json!({"allow": ["::1"], "status": 200})),
        ("acl", json!({"allow": ["a"], "deny": ["b"]})),
        ("rate-limiting-merged", json!({"limits": {}})),
        ("rate-limiting-merged", json!({})),
        (
            "rate-limiting-merged",
            json!({"limits": {"consumer": {"hour": 1, "minute": 5}}}),
        ),
        (
            "rate-limiting-merged",
            json!({"limits": {"foo": {"minute": 5}}}),
        ),
        (
            "rate-limiting-merged",
            json!({"limits": {"service": {"second": 0}}}),
        ),
        ("rate-limiting-merged", json!({"limits": {"service": {}}})),
        (
            "rate-limiting-merged",
            json!({"limits": {"service": {"second": 1}}, "policy": "cluster"}),
        ),
        ("key-auth", json!({"key_names": ["a b"]})),
        ("key-auth", json!({"key_in_body": true})),
        (
            "response-transformer",
            json!({"add": {"headers": ["just_a_key"]}}),
        ),
        ("response-transformer", json!({"add": {"headers": [":b"]}})),
        (
            "response-transformer",
            json!({"rename": {"headers": ["a:b c"]}}),
        ),
        ("response-transformer", json!({"add": {"json": ["a:b"]}})),
        (
            "response-transformer",
            json!({"remove": {"headers": ["Content-Length"]}}),
        ),
        ("cors", json!({"origins": ["("]})),
        ("cors", json!({"methods": ["FOO"]})),
        ("correlation-id", json!({"generator": "x"})),
        ("correlation-id", json!({"header_name": "a b"})),
        ("request-termination", json!({"message": "a", "body": "b"})),
        ("request-termination", json!({"content_type": "a"})),
        ("request-termination", json!({"status_code": 600})),
        ("request-termination", json!({"status_code": 101})),
        ("request-termination", json!({"echo": true})),
        ("http-log", json!({})),
        ("http-log", json!({"http_endpoint": "a/b"})),
        (
            "http-log",
            json!({"http_endpoint": "http://a/", "headers": {"content-type": "x"}}),
        ),
        (
            "http-log",
            json!({"http_endpoint": "http://u:p@a/", "headers": {"authorization": "x"}}),
        ),
        ("file-log", json!({"path": "a*"})),
        ("tcp-log", json!({"host": "a"})),
        ("udp-log", json!({"host": "a b", "port": 1})),
        ("zipkin", json!({"http_endpoint": ""})),
        ("zipkin", json!({"http_endpoint": "localhost:9411"})),
        ("zipkin", json!({"http_endpoint": "ftp://a/"})),
        ("zipkin", json!({"sample_ratio": 1.5})),
        ("zipkin", json!({"traceid_byte_count": 12})),
        ("zipkin", json!({"header_type": "instana"})),
        (
            "zipkin",
            json!({"static_tags": [{"name": "lc", "value": "x"}]}),
        ),
        (
            "zipkin",
            json!({"static_tags": [{"name": "a", "value": "x"}, {"name": "a", "value": "y"}]}),
        ),
        ("zipkin", json!({"queue": {"concurrency_limit": 2}})),
        ("zipkin", json!({"queue": {"initial_retry_delay": 0.0001}})),
        ("zipkin", json!({"propagation": {"extract": ["b3-single"]}})),
        ("opentelemetry", json!({})),
        (
            "opentelemetry",
            json!({"logs_endpoint": "http://a/v1/logs"}),
        ),
        (
            "opentelemetry",
            json!({"traces_endpoint": "http://a/", "endpoint": "http://b/"}),
        ),
        (
            "opentelemetry",
            json!({"traces_endpoint": "http://a/", "headers": {"Content-Length": "1"}}),
        ),
        ("prometheus", json!({"per_consumer": "x"})),
        (
            "request-transformer",
            json!({"add": {"headers": ["just_a_key"]}}),
        ),
        ("request-transformer", json!({"remove": {"headers": null}})),
    ] {
        assert!(stored(name, &config).is_err(), "{name} {config}");
    }
}
