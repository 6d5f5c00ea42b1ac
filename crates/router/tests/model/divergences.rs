//! Routes whose winner depends on the calculation.

use std::time::Instant;

use o28m_kong::Route;
use o28m_router::Router;

use super::{list, matcher, route};

fn pairs(router: &Router) -> Vec<(String, String)> {
    let found = router.all_divergences(20);
    let mut pairs: Vec<_> = found
        .iter()
        .map(|it| (it.original.id.clone(), it.strict.id.clone()))
        .collect();
    pairs.sort();
    pairs
}

#[test]
fn a_pair_is_named_once_with_both_winners() {
    let host = Route {
        hosts: list(&["a.example.com"]),
        ..route(1)
    };
    let path = Route {
        paths: list(&["/x"]),
        methods: list(&["GET"]),
        ..route(2)
    };
    assert_eq!(
        pairs(&matcher(&[host.clone(), path.clone()])),
        [(host.id.clone(), path.id.clone())]
    );
    let router = matcher(&[host.clone(), path.clone()]);
    assert_eq!(router.divergences([host.id.as_str()], 20).len(), 1);
    assert!(router.divergences(["other"], 20).is_empty());
}

#[test]
fn routes_that_never_meet_or_rank_alike_are_not_named() {
    let one = |host: &str, path: &str, method: &str| {
        let route = route(u128::from(path.as_bytes()[1]) << 8 | u128::from(host.as_bytes()[0]));
        Route {
            hosts: list(&[host]),
            paths: list(&[path]),
            methods: list(&[method]),
            ..route
        }
    };
    let router = matcher(&[
        one("a", "/a", "GET"),
        one("b", "/a", "GET"),
        one("a", "/b", "GET"),
    ]);
    assert!(pairs(&router).is_empty());
    let negative = |id: u128, priority, method: &str| Route {
        paths: list(&["~/a"]),
        methods: list(&[method]),
        regex_priority: priority,
        ..route(id)
    };
    assert_eq!(
        pairs(&matcher(&[negative(1, -1, "GET"), negative(2, 100, "GET")])).len(),
        1
    );
    assert!(pairs(&matcher(&[negative(1, -1, "GET"), negative(2, 100, "PUT")])).is_empty());
}

/// What it costs grows with the number of routes, not with its square.
#[test]
fn many_overlapping_routes_are_compared_within_limits() {
    let routes: Vec<_> = (0..20_000_u128)
        .map(|number| Route {
            paths: list(&["/"]),
            methods: list(&[["GET", "PUT"][(number % 2) as usize]]),
            regex_priority: i64::from(number as u32 % 7),
            ..route(number)
        })
        .collect();
    let router = matcher(&routes);
    let started = Instant::now();
    assert!(router.all_divergences(20).is_empty());
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
}
