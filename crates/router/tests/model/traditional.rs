//! The flavour `traditional` (spec gateway-proxy 3.4).

use std::sync::Arc;

use o28m_kong::{Route, RouterFlavor};
use o28m_router::{Calculation, PathHandling, Router};

use super::{Lines, Request, find, get, head, list, route, winner};

fn traditional(routes: &[Route]) -> Router {
    let mut router = Router::with(RouterFlavor::Traditional, Calculation::Original);
    for route in routes {
        router.add(Arc::new(route.clone())).unwrap();
    }
    router
}

/// Unlike later flavours: more kinds of conditions win whatever the hosts are like.
#[test]
fn more_kinds_win() {
    let router = traditional(&[
        Route {
            hosts: list(&["a.example.com"]),
            ..route(9)
        },
        Route {
            paths: list(&["/x"]),
            methods: list(&["GET"]),
            ..route(1)
        },
    ]);
    assert_eq!(winner(&router, &get("a.example.com", "/x")), Some(1));
    assert_eq!(winner(&router, &get("a.example.com", "/y")), Some(9));
}

#[test]
fn the_older_of_two_alike_wins() {
    let same = |id, created_at| Route {
        paths: list(&["/same"]),
        created_at,
        ..route(id)
    };
    assert_eq!(
        winner(&traditional(&[same(1, 20), same(2, 10)]), &get("", "/same")),
        Some(2)
    );
    assert_eq!(
        winner(&traditional(&[same(1, 10), same(2, 20)]), &get("", "/same")),
        Some(1)
    );
}

#[test]
fn hosts_are_compared_as_sent_and_bare() {
    let fits = |pattern: &str, value: &str| {
        // A route for every host beside it keeps the search from ending early.
        let router = traditional(&[
            Route {
                hosts: list(&[pattern]),
                paths: list(&["/"]),
                ..route(1)
            },
            Route {
                paths: list(&["/"]),
                ..route(2)
            },
        ]);
        winner(&router, &get(value, "/")) == Some(1)
    };
    assert!(fits("a.example.com", "a.example.com:9000"));
    assert!(fits("a.example.com", "A.example.com"));
    assert!(fits("a.example.com:9000", "a.example.com:9000"));
    assert!(!fits("a.example.com:9000", "a.example.com"));
    assert!(fits("::1", "[::1]:8000"));
    assert!(fits("::1", "[::1]"));
    assert!(fits("*.example.com", "a.b.example.com:9000"));
    assert!(!fits("*.example.com", "example.com"));
    assert!(!fits("*.example.com:9000", "a.example.com:9001"));
    assert!(fits("*.example.com:80", "a.example.com"));
    assert!(fits("a.*", "a.b.c:1"));
    assert!(!fits("a.*", "b.a.c"));
}

#[test]
fn expressions_in_headers_stand_alone() {
    let with = |values: &[&str]| {
        let headers = [("x-tier".to_owned(), list(values).unwrap())].into();
        traditional(&[Route {
            headers: Some(headers),
            ..route(1)
        }])
    };
    let gold = Request {
        headers: vec![("x-tier".to_owned(), "Gold".to_owned())],
        ..get("", "/")
    };
    assert_eq!(winner(&with(&["~*^g"]), &gold), Some(1));
    assert_eq!(winner(&with(&["~*^g", "silver"]), &gold), None);
    assert_eq!(winner(&with(&["gold", "silver"]), &gold), Some(1));
}

#[test]
fn server_names_are_exact() {
    let router = traditional(&[Route {
        snis: list(&["a.example.com."]),
        methods: list(&["GET"]),
        ..route(1)
    }]);
    let tls = |name: &str| Request {
        server_name: Some(name.to_owned()),
        ..get("", "/")
    };
    assert_eq!(winner(&router, &tls("a.example.com")), Some(1));
    assert_eq!(winner(&router, &tls("b.example.com")), None);
    assert_eq!(winner(&router, &get("", "/")), Some(1));
}

/// The longest path of all routes is the one a request seems to be meant for; the rest of the category
/// is searched as well.
#[test]
fn the_hit_path_comes_first_and_the_category_after_it() {
    let router = traditional(&[
        Route {
            paths: list(&["/a/b"]),
            methods: list(&["POST"]),
            ..route(1)
        },
        Route {
            paths: list(&["/a"]),
            methods: list(&["GET"]),
            ..route(2)
        },
    ]);
    assert_eq!(find(&router, &get("", "/a/b")).unwrap().1, 2);
    assert_eq!(winner(&router, &get("", "/a/b")), Some(2));
}

#[test]
fn paths_are_handled_as_the_route_says() {
    let lines = Lines(vec![]);
    let with = |path_handling: Option<PathHandling>| Route {
        paths: list(&["~/w/(?<id>[a-z]+)"]),
        path_handling,
        ..route(1)
    };
    for (version, expected) in [
        (Some(PathHandling::V1), PathHandling::V1),
        (Some(PathHandling::V0), PathHandling::V0),
        (None, PathHandling::V0),
    ] {
        let found = traditional(&[with(version)])
            .find(&head(&lines, "/w/foo/x"))
            .unwrap();
        assert_eq!(found.path_handling, expected);
        assert_eq!(found.captures.get("0").unwrap(), "/w/foo/x");
        assert_eq!(found.captures.get("id").unwrap(), "foo");
    }
    let later = super::matcher(&[with(Some(PathHandling::V1))])
        .find(&head(&lines, "/w/foo/x"))
        .unwrap();
    assert_eq!(later.path_handling, PathHandling::V0);
}

#[test]
fn routes_with_an_expression_are_refused() {
    for flavor in [
        RouterFlavor::Traditional,
        RouterFlavor::TraditionalCompatible,
    ] {
        let expression = Route {
            expression: Some(r#"http.path == "/""#.to_owned()),
            ..route(1)
        };
        assert!(
            Router::with(flavor, Calculation::Original)
                .add(Arc::new(expression))
                .is_err()
        );
    }
}
