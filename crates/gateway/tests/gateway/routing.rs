//! Matching and what follows it (spec gateway-proxy 3).

use bytes::Bytes;
use http::Response;
use o28m_gateway::{Calculation, RouterFlavor, Settings};
use serde_json::json;

use crate::support::*;

#[tokio::test]
async fn proxy_case_001_no_route_is_404_in_kongs_form() {
    let upstream = Upstream::ok();
    let running = start(Setup::default()).await;
    let hosts = json!({"hosts": ["a.example.com"]});
    let service = service("s", upstream.address.port(), json!({}));
    running
        .put(&[("services", service), ("routes", route("r", "s", hosts))])
        .await;
    assert_eq!(running.get("/").await.status, 200);
    assert_eq!(
        running
            .send("GET / HTTP/1.1\r\nHost: a.example.com:8000")
            .await
            .status,
        200
    );
    let reply = running.send("GET / HTTP/1.1\r\nHost: b.example.com").await;
    assert_eq!(reply.status, 404);
    assert_eq!(
        reply.json()["message"],
        "no Route matched with those values"
    );
    assert_eq!(
        reply.json()["request_id"].as_str(),
        reply.header("x-kong-request-id").as_deref()
    );
    assert_eq!(
        reply.header("content-type").as_deref(),
        Some("application/json; charset=utf-8")
    );
    assert!(reply.header("x-kong-response-latency").is_some());
    assert_eq!(reply.header("server").as_deref(), Some("kong/3.9.3"));
    for absent in ["x-kong-upstream-latency", "x-kong-proxy-latency", "via"] {
        assert_eq!(reply.header(absent), None, "{absent}");
    }
}

#[tokio::test]
async fn proxy_case_012_routing_headers_count_at_any_position() {
    let upstream = Upstream::ok();
    let running = start_for(&upstream, Setup::default()).await;
    let only = json!({"paths": ["/"], "headers": {"x-last": ["yes"]}});
    running.put(&[("routes", route("r", "s", only))]).await;
    let many: String = (0..100).map(|at| format!("\r\nX-{at}: 1")).collect();
    let head = format!("GET / HTTP/1.1\r\nHost: a{many}");
    assert_eq!(running.send(&head).await.status, 404);
    assert_eq!(
        running.send(&format!("{head}\r\nX_Last: YES")).await.status,
        200
    );
}

#[tokio::test]
async fn proxy_case_014_upstream_sees_the_normalised_path() {
    let upstream = Upstream::ok();
    let running = start_for(&upstream, Setup::default()).await;
    running
        .put(&[("routes", route("r", "s", json!({"paths": ["/foo/bar"]})))])
        .await;
    for target in [
        "/foo/a/../bar/x",
        "/foo//bar/x",
        "/foo/./bar/x",
        "/foo/b%61r/x",
    ] {
        assert_eq!(running.get(target).await.status, 200, "{target}");
        let request = upstream.one();
        assert_eq!(request.uri().path(), "/x");
        assert_eq!(
            header(&request, "x-forwarded-path").as_deref(),
            Some(target)
        );
        assert_eq!(
            header(&request, "x-forwarded-prefix").as_deref(),
            Some("/foo/bar")
        );
    }
}

#[tokio::test]
async fn proxy_case_015_escapes_and_query_pass_unchanged() {
    let upstream = Upstream::ok();
    let running = start_for(&upstream, Setup::default()).await;
    running
        .put(&[(
            "routes",
            route("r", "s", json!({"paths": ["/"], "strip_path": false})),
        )])
        .await;
    running.get("/a%2fb%20c%7Cd?x=%7B%22").await;
    assert_eq!(upstream.one().uri().to_string(), "/a%2Fb%20c%7Cd?x=%7B%22");
}

#[tokio::test]
async fn paths_that_climb_or_hide_are_refused() {
    let upstream = Upstream::ok();
    let running = start_for(&upstream, Setup::default()).await;
    for target in ["/../x", "/%2e%2e/x", "/%00", "/%zz", "*"] {
        let reply = running.get(target).await;
        assert_eq!(reply.status, 400, "{target}");
        assert!(
            reply.body.starts_with("Bad request\nrequest_id: "),
            "{reply:?}"
        );
    }
    assert!(upstream.take().is_empty());
}

#[tokio::test]
async fn proxy_case_017_bare_question_mark_is_kept() {
    let upstream = Upstream::ok();
    let running = start_for(&upstream, Setup::default()).await;
    for target in ["/p?", "/p?hello", "/p"] {
        running.get(target).await;
        assert_eq!(upstream.one().uri().to_string(), target);
    }
}

#[tokio::test]
async fn proxy_case_018_disabled_service_is_not_routed_and_missing_one_is_503() {
    let upstream = Upstream::ok();
    let running = start_for(&upstream, Setup::default()).await;
    let port = upstream.address.port();
    running
        .put(&[("services", service("s", port, json!({"enabled": false})))])
        .await;
    assert_eq!(running.get("/").await.status, 404);
    running
        .put(&[("services", service("s", port, json!({})))])
        .await;
    assert_eq!(running.get("/").await.status, 200);
    running
        .put(&[("routes", route("r", "", json!({"paths": ["/"]})))])
        .await;
    let reply = running.get("/").await;
    assert_eq!(reply.status, 503);
    assert_eq!(
        reply.json()["message"],
        "no Service found with those values"
    );
    assert!(reply.header("x-kong-response-latency").is_some());
}

#[tokio::test]
async fn proxy_case_013_plain_requests_match_whatever_the_server_name() {
    let upstream = Upstream::ok();
    let running = start_for(&upstream, Setup::default()).await;
    let only = json!({"protocols": ["https"], "snis": ["s.example.com"], "paths": ["/r"]});
    running.put(&[("routes", route("r", "s", only))]).await;
    assert_eq!(running.get("/r").await.status, 426);
    assert_eq!(running.get("/other").await.status, 404);
    assert!(upstream.take().is_empty());
}

#[tokio::test]
async fn proxy_case_020_routes_for_tls_send_plain_requests_away() {
    let upstream = Upstream::ok();
    let running = start_for(&upstream, Setup::default()).await;
    let only = json!({"protocols": ["https"], "paths": ["/r"]});
    running.put(&[("routes", route("r", "s", only))]).await;
    let reply = running.get("/r").await;
    assert_eq!(reply.status, 426);
    assert_eq!(reply.json()["message"], "Please use HTTPS protocol");
    assert_eq!(
        reply.header("upgrade").as_deref(),
        Some("TLS/1.2, HTTP/1.1")
    );
    assert!(
        reply
            .header("connection")
            .unwrap()
            .to_ascii_lowercase()
            .contains("upgrade")
    );
    for status in [301, 302, 307, 308] {
        let moved =
            json!({"protocols": ["https"], "paths": ["/r"], "https_redirect_status_code": status});
        running.put(&[("routes", route("r", "s", moved))]).await;
        let reply = running
            .send("GET /r?foo=bar HTTP/1.1\r\nHost: Example.com:8000")
            .await;
        assert_eq!(reply.status, status);
        assert_eq!(
            reply.header("location").as_deref(),
            Some("https://example.com/r?foo=bar")
        );
        assert_eq!(reply.body, "");
    }
    assert!(upstream.take().is_empty());
}

#[tokio::test]
async fn proxy_case_021_only_trusted_peers_vouch_for_tls() {
    let upstream = Upstream::ok();
    let only = || route("r", "s", json!({"protocols": ["https"], "paths": ["/"]}));
    let head = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https";
    let running = start_for(&upstream, Setup::default()).await;
    running.put(&[("routes", only())]).await;
    assert_eq!(running.send(head).await.status, 426);
    let mut setup = Setup::default();
    setup.settings.trusted_ips = vec!["127.0.0.0/8".to_owned()];
    let running = start_for(&upstream, setup).await;
    running.put(&[("routes", only())]).await;
    assert_eq!(running.send(head).await.status, 200);
    assert_eq!(running.send(&format!("{head}a")).await.status, 426);
}

#[tokio::test]
async fn grpc_routes_send_http1_away() {
    let upstream = Upstream::ok();
    let running = start_for(&upstream, Setup::default()).await;
    let grpc = json!({"protocols": ["grpc"], "paths": ["/"]});
    running.put(&[("routes", route("r", "s", grpc))]).await;
    let reply = running.get("/").await;
    assert_eq!(reply.status, 415);
    assert_eq!(
        reply.json()["message"],
        "Non-gRPC request matched gRPC route"
    );
    let reply = running.send(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc+proto\r\nContent-Length: 0",
    );
    let reply = reply.await;
    assert_eq!(reply.status, 426);
    assert_eq!(reply.json()["message"], "Please use HTTP2 protocol");
    assert_eq!(reply.header("upgrade").as_deref(), Some("HTTP/2"));
}

#[tokio::test]
async fn services_of_other_protocols_are_refused_clearly() {
    let upstream = Upstream::ok();
    let running = start_for(&upstream, Setup::default()).await;
    let tcp = service("s", upstream.address.port(), json!({"protocol": "tcp"}));
    running.put(&[("services", tcp)]).await;
    let reply = running.get("/").await;
    assert_eq!(reply.status, 501);
    assert_eq!(
        reply.json()["message"],
        "service protocol tcp is not supported"
    );
}

#[tokio::test]
async fn the_order_of_routes_is_kongs_unless_the_documented_one_is_set() {
    let plain_host = json!({"hosts": ["a.example.com"]});
    let two_kinds = json!({"hosts": ["*.example.com"], "paths": ["/api"]});
    let upstream =
        Upstream::start(|request| Response::new(Bytes::from(request.uri().path().to_owned())));
    for (calculation, winner) in [
        (Calculation::Original, "/one/api"),
        (Calculation::Strict, "/two"),
    ] {
        let settings = Settings {
            route_match_calculation: calculation,
            ..Settings::default()
        };
        let running = start(Setup {
            settings,
            ..Setup::default()
        })
        .await;
        let port = upstream.address.port();
        running
            .put(&[
                ("services", service("one", port, json!({"path": "/one"}))),
                ("services", service("two", port, json!({"path": "/two"}))),
                ("routes", route("r1", "one", plain_host.clone())),
                ("routes", route("r2", "two", two_kinds.clone())),
            ])
            .await;
        assert_eq!(running.get("/api").await.body, winner);
        // The same after the whole configuration was read again.
        running.gateway.load(&running.store).await.unwrap();
        assert_eq!(running.get("/api").await.body, winner);
    }
}

async fn start_as(flavor: RouterFlavor) -> Running {
    let settings = Settings {
        router_flavor: flavor,
        ..Settings::default()
    };
    start(Setup {
        settings,
        ..Setup::default()
    })
    .await
}

fn echo_target() -> Upstream {
    Upstream::start(|request| Response::new(Bytes::from(request.uri().to_string())))
}

#[tokio::test]
async fn expressions_route_by_everything_the_request_says() {
    let upstream = echo_target();
    let running = start_as(RouterFlavor::Expressions).await;
    let port = upstream.address.port();
    let with =
        |expression: &str, priority: u64| json!({"expression": expression, "priority": priority});
    let local = "http.path ^= \"/e\" && net.src.ip in 127.0.0.0/8 && http.queries.q == \"1\" && net.protocol == \"http\"";
    running
        .put(&[
            ("services", service("one", port, json!({"path": "/one"}))),
            ("services", service("two", port, json!({"path": "/two"}))),
            ("routes", route("r1", "one", with(local, 2))),
            (
                "routes",
                route("r2", "two", with("http.path ~ \"^/e/(?<name>[a-z]+)\"", 1)),
            ),
            (
                "routes",
                route("r3", "two", json!({"paths": ["/e"], "strip_path": false})),
            ),
        ])
        .await;
    assert_eq!(running.get("/e/x?q=1").await.body, "/one/x?q=1");
    assert_eq!(running.get("/e/x/y?q=2").await.body, "/two/y?q=2");
    assert_eq!(running.get("/e").await.body, "/two/e");
    assert_eq!(running.get("/f").await.status, 404);
}

#[tokio::test]
async fn path_handling_v1_has_an_effect_under_the_flavour_traditional_only() {
    let upstream = echo_target();
    for (flavor, expected) in [
        (RouterFlavor::Traditional, ["/s/q", "/sq", "/s"]),
        (RouterFlavor::TraditionalCompatible, ["/s/q", "/s/q", "/s/"]),
    ] {
        let running = start_as(flavor).await;
        let v1 = |paths: &str| json!({"paths": [paths], "path_handling": "v1"});
        running
            .put(&[
                (
                    "services",
                    service("s", upstream.address.port(), json!({"path": "/s"})),
                ),
                ("routes", route("r1", "s", v1("/r"))),
                ("routes", route("r2", "s", v1("/t/"))),
            ])
            .await;
        for (path, expected) in ["/r/q", "/rq", "/t/"].into_iter().zip(expected) {
            assert_eq!(running.get(path).await.body, expected, "{flavor:?} {path}");
        }
    }
}

/// Kong answers 404: its engine takes texts only.
#[tokio::test]
async fn paths_that_are_no_text_are_routed_and_sent_as_they_are() {
    let upstream = echo_target();
    let running = start_as(RouterFlavor::default()).await;
    running
        .put(&[
            ("services", service("s", upstream.address.port(), json!({}))),
            (
                "routes",
                route("r", "s", json!({"paths": ["/caf"], "strip_path": false})),
            ),
        ])
        .await;
    assert_eq!(running.get("/caf%E9").await.body, "/caf%E9");
    assert_eq!(running.get("/caf%c3%a9").await.body, "/caf%C3%A9");
}
