//! The flavour `expressions` (spec gateway-proxy 3.5).

use std::sync::Arc;

use o28m_kong::{Endpoint, Route, RouterFlavor};
use o28m_router::{Calculation, RequestHead, Router};

use super::{Lines, get, head, list, route, winner};

fn router(routes: &[Route]) -> Router {
    let mut router = Router::with(RouterFlavor::Expressions, Calculation::Original);
    for route in routes {
        router.add(Arc::new(route.clone())).unwrap();
    }
    router
}

fn with(expression: &str) -> Route {
    Route {
        protocols: vec!["http".to_owned(), "https".to_owned()],
        expression: Some(expression.to_owned()),
        ..route(1)
    }
}

#[track_caller]
fn fits(expression: &str, head: &RequestHead<'_>, expected: bool) {
    let found = router(&[with(expression)]).find(head);
    assert_eq!(found.is_some(), expected, "{expression}");
}

#[test]
fn fields_are_those_of_the_request() {
    let lines = [("x-tier", "Gold"), ("x-tier", "silver"), ("x-one", "1")];
    let lines = Lines(
        lines
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .to_vec(),
    );
    let head = RequestHead {
        host: "a.example.com:8443",
        server_name: Some("a.example.com"),
        query: "a=1&b=2&b=3&c&d=%2f+x",
        source: "10.1.2.3:4000".parse().ok(),
        destination: "10.0.0.1".parse().ok(),
        ..head(&lines, "/foo/bar/baz/")
    };
    for (expression, expected) in [
        (r#"net.protocol == "https""#, true),
        (r#"tls.sni =^ ".example.com""#, true),
        (r#"http.method == "GET""#, true),
        (r#"http.host == "a.example.com""#, true),
        (r#"http.path ^= "/foo/""#, true),
        (r#"http.path.segments.0 == "foo""#, true),
        (r#"http.path.segments.0_1 == "foo/bar""#, true),
        (r#"http.path.segments.1_2 == "bar/baz""#, true),
        (r#"http.path.segments.1_3 != "x""#, false),
        (r#"http.path.segments.3 != "x""#, false),
        ("http.path.segments.len == 3", true),
        (r#"http.headers.x_tier == "Gold""#, false),
        (r#"any(http.headers.x_tier) == "Gold""#, true),
        (r#"any(lower(http.headers.x_tier)) == "gold""#, true),
        (r#"lower(http.headers.X_TIER) ~ "gold|silver""#, true),
        (r#"http.headers.x_none != "x""#, false),
        (r#"!(http.headers.x_none == "x")"#, true),
        (r#"http.queries.a == "1""#, true),
        (r#"http.queries.b == "2""#, false),
        (r#"any(http.queries.b) == "3""#, true),
        (r#"http.queries.c == """#, true),
        (r#"http.queries.d == "/ x""#, true),
        ("net.src.ip in 10.0.0.0/8", true),
        ("net.src.ip not in 10.0.0.0/8", false),
        ("net.dst.ip == 10.0.0.1", true),
        ("net.src.port == 4000", true),
        ("net.dst.port == 8443", true),
        ("net.port > 8442 && net.port < 8444", true),
    ] {
        fits(expression, &head, expected);
    }
    let plain = RequestHead {
        server_name: None,
        host: "a",
        ..head
    };
    fits("net.dst.port == 80", &plain, true);
    fits(r#"tls.sni != "x""#, &plain, false);
}

#[test]
fn or_binds_tighter_than_and() {
    let lines = Lines(vec![]);
    let head = head(&lines, "/a");
    fits(
        r#"http.path == "/x" && http.method == "GET" || http.method == "GET""#,
        &head,
        false,
    );
    fits(
        r#"(http.path == "/x" && http.method == "GET") || http.method == "GET""#,
        &head,
        true,
    );
}

#[test]
fn priority_ranks_expressions_and_they_rank_above_the_others() {
    let expression = |id: u128, priority| Route {
        priority: Some(priority),
        id: route(id).id,
        ..with(r#"http.path ^= "/a""#)
    };
    let classic = Route {
        hosts: list(&["h"]),
        paths: list(&["/a"]),
        ..route(7)
    };
    let all = [expression(1, 5), expression(2, 4), classic.clone()];
    assert_eq!(winner(&router(&all), &get("h", "/a")), Some(1));
    assert_eq!(winner(&router(&all[1..]), &get("h", "/a")), Some(2));
    assert_eq!(winner(&router(&[classic]), &get("h", "/a")), Some(7));
}

#[test]
fn protocols_are_a_condition_but_for_tls_alone() {
    let lines = Lines(vec![]);
    let plain = head(&lines, "/");
    let tls = RequestHead {
        server_name: Some(""),
        ..plain
    };
    for (protocols, over_plain, over_tls) in [
        (&["http"][..], true, false),
        (&["https"], true, true),
        (&["http", "https"], true, true),
    ] {
        for expression in [true, false] {
            let route = Route {
                protocols: list(protocols).unwrap(),
                expression: expression.then(|| r#"http.path ^= "/""#.to_owned()),
                paths: list(&["/"]).filter(|_| !expression),
                ..route(1)
            };
            let router = router(&[route]);
            assert_eq!(router.find(&plain).is_some(), over_plain, "{protocols:?}");
            assert_eq!(router.find(&tls).is_some(), over_tls, "{protocols:?}");
        }
    }
}

#[test]
fn classic_routes_may_have_sources_and_destinations() {
    let lines = Lines(vec![]);
    let endpoint = |ip: Option<&str>, port| Endpoint {
        ip: ip.map(str::to_owned),
        port,
    };
    let router = router(&[Route {
        paths: list(&["/"]),
        sources: Some(vec![endpoint(Some("10.0.0.0/8"), None)]),
        destinations: Some(vec![endpoint(None, Some(80))]),
        ..route(1)
    }]);
    let inside = RequestHead {
        source: "10.1.1.1:1".parse().ok(),
        ..head(&lines, "/")
    };
    assert!(router.find(&inside).is_some());
    assert!(router.find(&RequestHead { port: 81, ..inside }).is_none());
    assert!(
        router
            .find(&RequestHead {
                source: "11.1.1.1:1".parse().ok(),
                ..inside
            })
            .is_none()
    );
    assert!(
        router
            .find(&RequestHead {
                source: None,
                ..inside
            })
            .is_none()
    );
}

#[test]
fn the_path_that_matched_is_stripped_and_groups_are_captured() {
    let lines = Lines(vec![]);
    let found = |expression: &str, path: &str| {
        router(&[with(expression)])
            .find(&head(&lines, path))
            .unwrap()
    };
    assert_eq!(found(r#"http.path ^= "/foo""#, "/foo/bar").prefix_length, 4);
    assert_eq!(
        found(r#"http.method == "GET""#, "/foo/bar").prefix_length,
        0
    );
    let captured = found(
        r#"http.method == "GET" && http.path ~ "^/w/(?<id>[a-z]+)""#,
        "/w/foo/x",
    );
    assert_eq!(captured.prefix_length, 6);
    assert_eq!(captured.captures.get("id").unwrap(), "foo");
    assert_eq!(captured.captures.get("1").unwrap(), "foo");
    assert!(
        found(r#"http.path ~ "^/w""#, "/w/foo/x")
            .captures
            .is_empty()
    );
}

#[test]
fn unsound_expressions_are_refused() {
    for bad in [
        "",
        "http.path",
        "http.nothing == 1",
        "http.path == 1",
        r#"http.path ~ "a{99999}{9999}""#,
    ] {
        let mut router = router(&[]);
        assert!(router.add(Arc::new(with(bad))).is_err(), "{bad}");
    }
    // Kong takes these when they are stored already; they have no value.
    fits(
        r#"http.path.segments.4_1 == "a""#,
        &head(&Lines(vec![]), "/a"),
        false,
    );
}
