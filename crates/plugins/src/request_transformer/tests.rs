use http::Request;
use serde_json::json;

use super::*;
use crate::testing::{access, exchange, outcome};

fn plugin(config: &Value) -> Arc<dyn Plugin> {
    Kind::default().configure(config).unwrap()
}

fn request(uri: &str, headers: &[(&str, &str)], body: &'static str) -> Exchange {
    let mut request = Request::builder().method("POST").uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    exchange(request.body(Body::full(body)).unwrap())
}

async fn transformed(config: Value, mut exchange: Exchange) -> Exchange {
    let verdict = access(plugin(&config).as_ref(), &mut exchange).await;
    assert!(matches!(verdict, Verdict::Continue), "{verdict:?}");
    exchange
}

fn lines(exchange: &Exchange, name: &str) -> Vec<String> {
    let values = exchange.request.headers.get_all(name).iter();
    values.map(|it| it.to_str().unwrap().to_owned()).collect()
}

async fn text(exchange: Exchange) -> String {
    let body = exchange.body.collect(1 << 20).await.unwrap();
    String::from_utf8(body.to_vec()).unwrap()
}

fn primary() -> Value {
    json!({
        "http_method": null,
        "remove": {"headers": ["consumer-token"], "querystring": [], "body": []},
        "rename": {"headers": [], "querystring": [], "body": []},
        "replace": {"uri": null, "querystring": [], "body": [], "headers": [
            "environment:integration", "realm:default",
            "Authorization:$(headers['consumer-token'] or headers['Authorization'])",
        ]},
        "add": {"headers": ["environment:integration", "realm:default"], "querystring": [], "body": []},
        "append": {"querystring": [], "body": [], "headers": [
            "remote_api_url:https://host.example.com:443/path", "api_base_path:/path",
            "access_token_forwarding:false", "jumper_config:e30=",
        ]},
    })
}

#[tokio::test]
async fn plugins_case_054_the_primary_route_of_the_control_plane() {
    let bearer = ("authorization", "Bearer t");
    let sent = transformed(primary(), request("/", &[bearer], "")).await;
    for (name, value) in [
        ("authorization", "Bearer t"),
        ("remote_api_url", "https://host.example.com:443/path"),
        ("api_base_path", "/path"),
        ("access_token_forwarding", "false"),
        ("environment", "integration"),
        ("realm", "default"),
        ("jumper_config", "e30="),
    ] {
        assert_eq!(lines(&sent, name), [value], "{name}");
    }
    let mesh = request("/", &[bearer, ("Consumer-Token", "Bearer c")], "");
    let sent = transformed(primary(), mesh).await;
    assert_eq!(lines(&sent, "authorization"), ["Bearer c"]);
    assert!(lines(&sent, "consumer-token").is_empty());
}

#[tokio::test]
async fn plugins_case_056_a_replaced_header_has_one_line() {
    let twice = request("/", &[("realm", "x"), ("realm", "y")], "");
    let sent = transformed(primary(), twice).await;
    assert_eq!(lines(&sent, "realm"), ["default"]);
}

#[tokio::test]
async fn plugins_case_057_dynamic_upstream() {
    let config = json!({
        "append": {"headers": ["remote_api_url:$(query_params.target-url)"]},
        "remove": {"querystring": ["target-url"]},
    });
    let uri = "/p?target-url=https%3A%2F%2Fa.example.com%2Fv1&b=2&a=1";
    let sent = transformed(config, request(uri, &[], "")).await;
    assert_eq!(lines(&sent, "remote_api_url"), ["https://a.example.com/v1"]);
    assert_eq!(sent.request.uri, "/p?a=1&b=2");
}

#[tokio::test]
async fn headers_are_renamed_with_all_their_lines_and_empty_entries_do_nothing() {
    let config = json!({
        "rename": {"headers": ["x-old:x-new", "x-same:X-Same", "host:x-host"]},
        "add": {"headers": ["x-empty:", "host:evil"]},
        "append": {"headers": ["x-list:2", "x-none:$(nil)", "host:evil"]},
        "replace": {"headers": ["x-absent:1", "x-kept:", "host:upstream.example.com"]},
    });
    let headers = [
        ("host", "h"),
        ("x-old", "1"),
        ("x-old", "2"),
        ("x-new", "0"),
        ("x-same", "s"),
        ("x-list", "1"),
        ("x-kept", "k"),
    ];
    let sent = transformed(config, request("/", &headers, "")).await;
    assert_eq!(lines(&sent, "x-new"), ["1", "2"]);
    assert_eq!(lines(&sent, "x-list"), ["1", "2"]);
    assert_eq!(lines(&sent, "x-none"), [""]);
    assert_eq!(lines(&sent, "host"), ["upstream.example.com"]);
    for (name, value) in [("x-same", "s"), ("x-kept", "k")] {
        assert_eq!(lines(&sent, name), [value], "{name}");
    }
    for name in ["x-old", "x-empty", "x-absent", "x-host"] {
        assert!(lines(&sent, name).is_empty(), "{name}");
    }
}

#[tokio::test]
async fn the_query_is_left_alone_when_nothing_changes() {
    let config = json!({"remove": {"querystring": ["z"]}});
    let sent = transformed(config, request("/?b=%20&a=+", &[], "")).await;
    assert_eq!(sent.request.uri, "/?b=%20&a=+");
    let config = json!({"remove": {"querystring": ["b"]}});
    let sent = transformed(config, request("/x?b=1", &[], "")).await;
    assert_eq!(sent.request.uri, "/x");
}

#[tokio::test]
async fn replaces_path_and_method_and_copies_the_form_into_the_query() {
    let config = json!({
        "http_method": "GET",
        "replace": {"uri": "/v2/$(uri_captures.id)"},
        "remove": {"querystring": ["secret"]},
    });
    let form = ("content-type", "application/x-www-form-urlencoded");
    let mut exchange = request("/?a=1", &[form], "secret=1&b=2");
    exchange.uri_captures = vec![("id".into(), "7?x#y z".into())];
    let sent = transformed(config, exchange).await;
    assert_eq!(sent.upstream_path.as_deref(), Some("/v2/7%3Fx%23y%20z"));
    assert_eq!(sent.request.method, Method::GET);
    assert_eq!(sent.request.uri, "/?a=1&b=2");
    assert_eq!(text(sent).await, "secret=1&b=2");
}

#[tokio::test]
async fn changes_a_body_and_its_length() {
    let config = json!({"add": {"body": ["k:$(headers.x)"]}});
    let json = [
        ("content-type", "application/json"),
        ("content-length", "7"),
        ("x", "v"),
    ];
    let sent = transformed(config.clone(), request("/", &json, "{\"a\":1}")).await;
    assert_eq!(lines(&sent, "content-length"), ["15"]);
    assert_eq!(text(sent).await, r#"{"a":1,"k":"v"}"#);
    let plain = [("content-type", "text/plain"), ("content-length", "7")];
    let sent = transformed(config, request("/", &plain, "{\"a\":1}")).await;
    assert_eq!(text(sent).await, "{\"a\":1}");
}

#[tokio::test]
async fn a_compressed_body_is_left_alone() {
    let config = json!({"add": {"body": ["k:v"]}});
    let form = ("content-type", "application/x-www-form-urlencoded");
    let exchange = request("/", &[form, ("content-encoding", "gzip")], "\x1f+%8b");
    let sent = transformed(config, exchange).await;
    assert_eq!(text(sent).await, "\x1f+%8b");
}

#[tokio::test]
async fn a_large_body_is_changed_off_thread() {
    let config = json!({"add": {"body": ["k:v"]}});
    let list = format!("{{\"a\":\"{}\"}}", "x".repeat(2 * INLINE_BYTES_MAX));
    let length = list.len();
    let request = Request::post("/").header("content-type", "application/json");
    let exchange = exchange(request.body(Body::full(list)).unwrap());
    let sent = transformed(config, exchange).await;
    assert_eq!(text(sent).await.len(), length + r#","k":"v""#.len());
}

#[tokio::test]
async fn plugins_case_061_control_characters_are_refused() {
    let config = json!({"append": {"headers": ["x:$(query_params.v)"]}});
    for value in ["a%0d%0aEvil:%201", "a%00", "a%0ab"] {
        let mut exchange = request(&format!("/?v={value}"), &[], "");
        let (status, _) = outcome(plugin(&config).as_ref(), &mut exchange).await;
        assert_eq!(status, 400, "{value}");
        assert!(lines(&exchange, "x").is_empty());
    }
}

#[tokio::test]
async fn evaluation_errors_are_internal_errors() {
    for config in [
        json!({"add": {"headers": ["x:$(headers.a.b)"]}}),
        json!({"replace": {"uri": "$(query_params.missing)"}}),
    ] {
        let mut exchange = request("/", &[], "");
        let answer = outcome(plugin(&config).as_ref(), &mut exchange).await;
        let body = r#"{"message":"An unexpected error occurred"}"#.to_owned();
        assert_eq!(answer, (500, body), "{config}");
    }
}

#[tokio::test]
async fn a_body_above_the_buffer_is_refused() {
    let config = json!({"add": {"body": ["k:v"]}});
    let request = Request::post("/").header("content-type", "application/json");
    let large = Body::full(vec![b' '; limits::BODY_BUFFER_BYTES_MAX + 1]);
    let mut exchange = exchange(request.body(large).unwrap());
    let (status, _) = outcome(plugin(&config).as_ref(), &mut exchange).await;
    assert_eq!(status, 413);
}
