//! The index gives what a scan over all routes in order of priority gives.

#![expect(
    clippy::unwrap_used,
    reason = "a failed assumption of a test is a failed test"
)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use o28m_kong::Route;
use o28m_router::{Calculation, Headers, RequestHead, Router};
use proptest::prelude::*;
use regex::Regex;
use uuid::Uuid;

mod divergences;
mod expressions;
mod random;
mod traditional;

struct Lines(Vec<(String, String)>);

impl Headers for Lines {
    fn any(&self, name: &str, visit: &mut dyn FnMut(&str) -> bool) -> bool {
        self.0
            .iter()
            .any(|(key, value)| key.eq_ignore_ascii_case(name) && visit(value))
    }
}

fn route(id: u128) -> Route {
    Route {
        id: Uuid::from_u128(id).to_string(),
        protocols: vec!["http".to_owned()],
        https_redirect_status_code: 426,
        strip_path: true,
        request_buffering: true,
        response_buffering: true,
        ..Route::default()
    }
}

struct Request {
    method: String,
    host: String,
    path: String,
    server_name: Option<String>,
    headers: Vec<(String, String)>,
}

/// The specification, word by word, over one route and one request.
mod model {
    use super::*;

    /// Compiling is by far the slowest part of the model; each pattern is compiled once.
    fn regex(pattern: String) -> Regex {
        thread_local! {
            static COMPILED: RefCell<BTreeMap<String, Regex>> = RefCell::default();
        }
        COMPILED.with_borrow_mut(|known| {
            let entry = known.entry(pattern);
            let compile = |pattern: &String| Regex::new(pattern).unwrap();
            entry.or_insert_with_key(compile).clone()
        })
    }

    fn host_fits(pattern: &str, value: &str, listener_port: u16) -> bool {
        let split = |text: &str| match text.split_once(':') {
            Some((name, port)) if port.parse::<u64>().is_ok() => {
                (name.to_owned(), Some(port.to_owned()))
            }
            _ => (text.to_owned(), None),
        };
        let (name, port) = split(&value.to_lowercase());
        let (wanted, wanted_port) = split(&pattern.to_lowercase());
        let name = name.strip_suffix('.').unwrap_or(&name).to_owned();
        let port = port.unwrap_or(listener_port.to_string());
        let name_fits = if let Some(suffix) = wanted.strip_prefix("*") {
            name.ends_with(suffix)
        } else if let Some(prefix) = wanted.strip_suffix("*") {
            name.starts_with(prefix)
        } else {
            name == wanted
        };
        name_fits && wanted_port.is_none_or(|wanted| wanted == port)
    }

    fn sni_fits(pattern: &str, name: &str) -> bool {
        if let Some(suffix) = pattern.strip_prefix("*") {
            name.ends_with(suffix)
        } else if let Some(prefix) = pattern.strip_suffix("*") {
            name.starts_with(prefix)
        } else {
            name == pattern
        }
    }

    fn groups(paths: &[String]) -> Vec<Vec<String>> {
        let mut groups: Vec<(Option<usize>, Vec<String>)> = Vec::new();
        for path in paths {
            let key = if path.starts_with('~') {
                None
            } else {
                Some(path.len())
            };
            match groups.iter_mut().find(|(known, _)| *known == key) {
                Some((_, list)) => list.push(path.clone()),
                None => groups.push((key, vec![path.clone()])),
            }
        }
        if groups.is_empty() {
            return vec![vec![]];
        }
        groups.into_iter().map(|(_, list)| list).collect()
    }

    fn priority(route: &Route, group: &[String], calculation: Calculation) -> (u64, [i64; 6]) {
        let set = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|it| !it.is_empty());
        let headers = route.headers.as_ref().map_or(0, BTreeMap::len).min(255) as i64;
        let kinds = i64::from(set(&route.methods))
            + i64::from(set(&route.hosts))
            + i64::from(set(&route.paths))
            + i64::from(set(&route.snis))
            + i64::from(headers > 0);
        let plain = route
            .hosts
            .as_ref()
            .is_some_and(|it| it.iter().all(|host| !host.contains('*')));
        let regex = group.first().is_some_and(|path| path.starts_with('~'));
        let rp = if regex { route.regex_priority } else { 0 };
        let length = if regex {
            0
        } else {
            group.first().map_or(0, String::len) as i64
        };
        let sx32 = |value: i64| i64::from(value as u32 as i32) as u64;
        match calculation {
            Calculation::Original => (
                sx32(kinds << 29)
                    | sx32(headers << 20)
                    | sx32(rp << 19)
                    | (length as u64 & 0x7FFFF)
                    | (u64::from(plain) << 60)
                    | (u64::from(regex) << 51),
                [0; 6],
            ),
            Calculation::Strict => (
                0,
                [
                    kinds,
                    i64::from(plain),
                    headers,
                    i64::from(regex),
                    rp,
                    length,
                ],
            ),
        }
    }

    pub(super) fn find(
        routes: &[Route],
        request: &Request,
        calculation: Calculation,
    ) -> Option<(String, usize)> {
        let namespace = Uuid::parse_str("7f145bf9-0dce-4f91-98eb-debbce4b9f6b").unwrap();
        let mut found = Vec::new();
        for route in routes {
            let groups = groups(route.paths.as_deref().unwrap_or_default());
            let many = groups.len() > 1;
            for (at, group) in groups.iter().enumerate() {
                let id = if many {
                    Uuid::new_v5(&namespace, format!("{}#{}", route.id, at + 1).as_bytes())
                        .to_string()
                } else {
                    route.id.clone()
                };
                if let Some(length) = fits(route, group, request) {
                    found.push((
                        priority(route, group, calculation),
                        id,
                        route.id.clone(),
                        length,
                    ));
                }
            }
        }
        found
            .into_iter()
            .max()
            .map(|(_, _, route, length)| (route, length))
    }

    fn fits(route: &Route, group: &[String], request: &Request) -> Option<usize> {
        let empty = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
        let any = |list: &Option<Vec<String>>, test: &dyn Fn(&str) -> bool| {
            empty(list) || list.iter().flatten().any(|it| test(it))
        };
        let head = any(&route.methods, &|it| it == request.method)
            && any(&route.hosts, &|it| host_fits(it, &request.host, 8000))
            && request
                .server_name
                .as_ref()
                .is_none_or(|name| any(&route.snis, &|it| sni_fits(it, name)))
            && route.headers.iter().flatten().all(|(name, values)| {
                request.headers.iter().any(|(key, value)| {
                    key == name
                        && values.iter().any(|wanted| match wanted.strip_prefix("~*") {
                            Some(pattern) => regex(format!("(?i){pattern}")).is_match(value),
                            None => wanted.to_lowercase() == value.to_lowercase(),
                        })
                })
            });
        if !head {
            return None;
        }
        if group.is_empty() {
            return Some(0);
        }
        group.iter().find_map(|path| match path.strip_prefix('~') {
            Some(pattern) => regex(format!("^(?:{pattern})"))
                .find(&request.path)
                .map(|it| it.end()),
            None => request
                .path
                .starts_with(path.as_str())
                .then_some(path.len()),
        })
    }
}

fn pick<T: Clone + std::fmt::Debug + 'static>(items: &'static [T]) -> impl Strategy<Value = T> {
    prop::sample::select(items)
}

const HOSTS: &[&str] = &[
    "a.example.com",
    "b.example.com",
    "example.com",
    "*.example.com",
    "a.*",
    "A.Example.com:8443",
    "*.example.com:8443",
    "b.example.com:8000",
    "example.*:9000",
    "[::1]",
];
const PATHS: &[&str] = &[
    "/",
    "/a",
    "/a/",
    "/a/b",
    "/ab",
    "/a/b/c",
    "/b",
    "/c/d/e/f",
    "~/a/[a-z]+",
    "~/a|/b",
    "~/(?<x>[ab])/b",
    "~.*c",
    "~/ab?",
    "~/a/b/\\w",
    "~(?i)/A/B",
];
const METHODS: &[&str] = &["GET", "POST", "PUT"];
const SNIS: &[&str] = &["a.example.com", "*.example.com", "b.*"];
const VALUES: &[&str] = &["gold", "Silver", "~*^g", "~*\\D"];

fn texts(
    items: &'static [&'static str],
    most: usize,
) -> impl Strategy<Value = Option<Vec<String>>> {
    prop::option::of(prop::collection::vec(
        pick(items).prop_map(str::to_owned),
        0..=most,
    ))
}

fn headers() -> impl Strategy<Value = Option<BTreeMap<String, Vec<String>>>> {
    let name = pick(&["x-tier", "x-env"]).prop_map(str::to_owned);
    let values = prop::collection::vec(pick(VALUES).prop_map(str::to_owned), 1..3);
    prop::option::weighted(0.3, prop::collection::btree_map(name, values, 1..3))
}

fn routes(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Route>> {
    let one = (
        texts(HOSTS, 3),
        texts(PATHS, 4),
        prop::option::weighted(0.3, Just(())),
        texts(METHODS, 2),
        texts(SNIS, 2),
        headers(),
        pick(&[0_i64, 1, 2, 100, -1, 4096, 8192]),
    );
    let one = one.prop_map(
        |(hosts, paths, narrow, methods, snis, headers, regex_priority)| Route {
            hosts,
            paths,
            methods: methods.filter(|_| narrow.is_some()),
            snis: snis.filter(|_| narrow.is_some()),
            headers,
            regex_priority,
            ..route(0)
        },
    );
    prop::collection::vec((any::<u128>(), one), count).prop_map(|list| {
        let named = list.into_iter().map(|(id, one)| Route {
            id: route(id).id,
            ..one
        });
        named.collect()
    })
}

fn request() -> impl Strategy<Value = Request> {
    let host = pick(&[
        "a.example.com",
        "A.EXAMPLE.com",
        "b.example.com:8443",
        "a.example.com:8443",
        "c.d.example.com",
        "example.com",
        "example.org:9000",
        "a.org",
        "",
        "[::1]",
        "[::1]:80",
        "a.example.com.",
    ]);
    let path = pick(&[
        "/",
        "/a",
        "/a/b",
        "/a/b/c/d",
        "/ab",
        "/abc",
        "/b",
        "/b/b",
        "/c/d/e/f/g",
        "/x",
        "/A/B",
    ]);
    let name = prop::option::of(pick(&["a.example.com", "b.org", ""]));
    let header = (
        pick(&["x-tier", "x-env", "x-other"]),
        pick(&["gold", "GOLD", "silver", "1"]),
    );
    (
        host,
        path,
        name,
        pick(METHODS),
        prop::collection::vec(header, 0..3),
    )
        .prop_map(|(host, path, name, method, headers)| Request {
            method: method.to_owned(),
            host: host.to_owned(),
            path: path.to_owned(),
            server_name: name.map(str::to_owned),
            headers: headers
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        })
}

fn find(router: &Router, request: &Request) -> Option<(String, usize)> {
    let found = router.find(&RequestHead {
        method: &request.method,
        host: &request.host,
        port: 8000,
        path: &request.path,
        query: "",
        server_name: request.server_name.as_deref(),
        headers: &Lines(request.headers.clone()),
        source: None,
        destination: None,
    })?;
    Some((found.route.id.clone(), found.prefix_length))
}

impl std::fmt::Debug for Request {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "{} {:?} {:?} sni {:?} {:?}",
            self.method, self.host, self.path, self.server_name, self.headers
        )
    }
}

/// Inserts, compares, removes some, compares again.
fn compare(
    routes: &[Route],
    removed: &[prop::sample::Index],
    requests: &[Request],
) -> Result<(), TestCaseError> {
    for calculation in [Calculation::Original, Calculation::Strict] {
        let mut routes = routes.to_vec();
        let mut router = Router::new(calculation);
        for route in &routes {
            router = router.insert(Arc::new(route.clone())).unwrap();
        }
        let full = (router.clone(), routes.clone());
        for index in removed {
            if !routes.is_empty() {
                let gone = routes.remove(index.index(routes.len()));
                router = router.remove(&gone.id);
            }
        }
        // The matcher before the removals must not have noticed them.
        for (router, routes) in [&full, &(router, routes)] {
            prop_assert_eq!(router.len(), routes.len());
            for request in requests {
                let expected = model::find(routes, request, calculation);
                prop_assert_eq!(find(router, request), expected);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn index_equals_the_specification(
        routes in routes(0..40),
        removed in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        requests in prop::collection::vec(request(), 12),
    ) {
        compare(&routes, &removed, &requests)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]
    #[test]
    fn index_equals_the_specification_for_many_routes_on_few_paths(
        routes in routes(150..300),
        removed in prop::collection::vec(any::<prop::sample::Index>(), 100..280),
        requests in prop::collection::vec(request(), 20),
    ) {
        compare(&routes, &removed, &requests)?;
    }
}

fn matcher(routes: &[Route]) -> Router {
    let mut router = Router::default();
    for route in routes {
        router.add(Arc::new(route.clone())).unwrap();
    }
    router
}

fn get(host: &str, path: &str) -> Request {
    Request {
        method: "GET".to_owned(),
        host: host.to_owned(),
        path: path.to_owned(),
        server_name: None,
        headers: vec![],
    }
}

fn list(items: &[&str]) -> Option<Vec<String>> {
    Some(items.iter().map(|&it| it.to_owned()).collect())
}

fn winner(router: &Router, request: &Request) -> Option<u128> {
    find(router, request).map(|(id, _)| Uuid::parse_str(&id).unwrap().as_u128())
}

#[test]
fn proxy_case_001_plain_host_with_any_port() {
    let router = matcher(&[Route {
        hosts: list(&["a.example.com"]),
        ..route(1)
    }]);
    assert_eq!(winner(&router, &get("a.example.com", "/")), Some(1));
    assert_eq!(winner(&router, &get("a.example.com:8000", "/")), Some(1));
    assert_eq!(winner(&router, &get("b.example.com", "/")), None);
}

#[test]
fn proxy_case_002_path_is_a_byte_prefix() {
    let router = matcher(&[Route {
        paths: list(&["/foo"]),
        ..route(1)
    }]);
    assert_eq!(winner(&router, &get("", "/foobar")), Some(1));
    assert_eq!(winner(&router, &get("", "/fo")), None);
    assert_eq!(winner(&router, &get("", "/Foo")), None);
}

#[test]
fn proxy_case_003_plain_host_beats_wildcard() {
    let router = matcher(&[
        Route {
            hosts: list(&["*.example.com"]),
            ..route(9)
        },
        Route {
            hosts: list(&["x.example.com"]),
            ..route(2)
        },
    ]);
    assert_eq!(winner(&router, &get("x.example.com", "/")), Some(2));
    assert_eq!(winner(&router, &get("y.example.com", "/")), Some(9));
    assert_eq!(winner(&router, &get("a.b.example.com", "/")), Some(9));
    assert_eq!(winner(&router, &get("example.com", "/")), None);
}

#[test]
fn proxy_case_004_host_with_port_ties_with_host_without() {
    let router = matcher(&[
        Route {
            hosts: list(&["example.com:8443"]),
            ..route(1)
        },
        Route {
            hosts: list(&["example.com"]),
            ..route(2)
        },
    ]);
    assert_eq!(winner(&router, &get("example.com:8443", "/")), Some(2));
    assert_eq!(winner(&router, &get("example.com:9000", "/")), Some(2));
}

#[test]
fn proxy_case_005_plain_host_beats_more_kinds_unless_strict() {
    let routes = [
        Route {
            hosts: list(&["a.example.com"]),
            ..route(1)
        },
        Route {
            paths: list(&["/x"]),
            methods: list(&["GET"]),
            ..route(2)
        },
    ];
    assert_eq!(
        winner(&matcher(&routes), &get("a.example.com", "/x")),
        Some(1)
    );
    let mut strict = Router::new(Calculation::Strict);
    for route in routes {
        strict.add(Arc::new(route)).unwrap();
    }
    assert_eq!(winner(&strict, &get("a.example.com", "/x")), Some(2));
}

#[test]
fn proxy_case_006_regex_priority_overlaps_header_count() {
    let header = Some(BTreeMap::from([(
        "env".to_owned(),
        vec!["prod".to_owned()],
    )]));
    let one = Route {
        paths: list(&["~/w/(?<id>[a-z]+)"]),
        regex_priority: 1,
        ..route(1)
    };
    let two = Route {
        paths: list(&["~/w/foo"]),
        regex_priority: 2,
        ..route(2)
    };
    let mut request = get("", "/w/foo");
    assert_eq!(
        winner(&matcher(&[one.clone(), two.clone()]), &request),
        Some(2)
    );
    request.headers.push(("env".to_owned(), "prod".to_owned()));
    let with = |route: Route| Route {
        headers: header.clone(),
        ..route
    };
    assert_eq!(winner(&matcher(&[with(one), with(two)]), &request), Some(1));
}

#[test]
fn proxy_case_007_negative_regex_priority_wins() {
    let router = matcher(&[
        Route {
            paths: list(&["~/a"]),
            regex_priority: -1,
            ..route(1)
        },
        Route {
            paths: list(&["~/a"]),
            regex_priority: 100,
            ..route(2)
        },
    ]);
    assert_eq!(winner(&router, &get("", "/a")), Some(1));
}

#[test]
fn proxy_case_008_greater_id_wins_a_tie() {
    let same = |id| Route {
        paths: list(&["/same"]),
        ..route(id)
    };
    assert_eq!(
        winner(&matcher(&[same(2), same(1)]), &get("", "/same")),
        Some(2)
    );
}

#[test]
fn proxy_case_009_longer_path_wins_and_regex_beats_plain() {
    let router = matcher(&[
        Route {
            paths: list(&["/a"]),
            ..route(9)
        },
        Route {
            paths: list(&["/a/b"]),
            ..route(1)
        },
    ]);
    assert_eq!(winner(&router, &get("", "/a/b/c")), Some(1));
    let router = matcher(&[
        Route {
            paths: list(&["~/a/.*"]),
            ..route(1)
        },
        Route {
            paths: list(&["/a/b/c"]),
            ..route(9)
        },
    ]);
    assert_eq!(winner(&router, &get("", "/a/b/c")), Some(1));
}

#[test]
fn proxy_case_010_path_groups_have_their_own_priority() {
    let router = matcher(&[
        Route {
            hosts: list(&["h"]),
            paths: list(&["~/some/else", "/foo"]),
            ..route(9)
        },
        Route {
            hosts: list(&["h"]),
            paths: list(&["/foo/bar"]),
            ..route(1)
        },
    ]);
    assert_eq!(winner(&router, &get("h", "/foo/bar")), Some(1));
    assert_eq!(winner(&router, &get("h", "/some/else")), Some(9));
}

#[test]
fn proxy_case_011_header_values_are_compared_line_by_line() {
    let tier = |value: &str| {
        let headers = BTreeMap::from([("x-tier".to_owned(), vec![value.to_owned()])]);
        matcher(&[Route {
            headers: Some(headers),
            ..route(1)
        }])
    };
    let with = |values: &[&str]| Request {
        headers: values
            .iter()
            .map(|it| ("X-Tier".to_owned(), (*it).to_owned()))
            .collect(),
        ..get("", "/")
    };
    assert_eq!(winner(&tier("Gold"), &with(&["gold"])), Some(1));
    assert_eq!(winner(&tier("Gold"), &with(&["silver, gold"])), None);
    assert_eq!(winner(&tier("Gold"), &with(&["silver", "gold"])), Some(1));
    assert_eq!(winner(&tier("~*^G.*"), &with(&["gold"])), Some(1));
}

fn head<'a>(lines: &'a Lines, path: &'a str) -> RequestHead<'a> {
    RequestHead {
        method: "GET",
        host: "",
        port: 80,
        path,
        query: "",
        server_name: None,
        headers: lines,
        source: None,
        destination: None,
    }
}

#[test]
fn captures_are_given_by_number_and_name() {
    let router = matcher(&[Route {
        paths: list(&["~/w/(?<id>[a-z]+)/(\\d)?"]),
        ..route(1)
    }]);
    let lines = Lines(vec![]);
    let head = head(&lines, "/w/foo/x");
    let found = router.find(&head).unwrap();
    assert_eq!(found.prefix_length, "/w/foo/".len());
    let get = |key: &str| found.captures.get(key).map(String::as_str);
    assert_eq!(
        (get("0"), get("1"), get("id"), get("2")),
        (Some("/w/foo/"), Some("foo"), Some("foo"), None)
    );
}

/// A group that took no part is not there, and the whole match alone is none.
#[test]
fn without_groups_there_are_no_captures() {
    let lines = Lines(vec![]);
    for path in ["~/w", "~/w(x)?"] {
        let router = matcher(&[Route {
            paths: list(&[path]),
            ..route(1)
        }]);
        let found = router.find(&head(&lines, "/w")).unwrap();
        assert!(found.captures.is_empty(), "{path}");
    }
}

#[test]
fn a_bad_expression_leaves_the_matcher_as_it_was() {
    let good = Route {
        paths: list(&["/a"]),
        ..route(1)
    };
    let mut router = matcher(&[good]);
    for bad in ["~/(", "~/a{99999}{9999}"] {
        let bad = Route {
            paths: list(&[bad]),
            ..route(1)
        };
        assert!(router.add(Arc::new(bad)).is_err());
        assert_eq!(winner(&router, &get("", "/a")), Some(1));
    }
}
