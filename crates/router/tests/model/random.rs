//! Random route sets against the slow models, in every flavour.

use std::sync::Arc;

use o28m_kong::{Route, RouterFlavor};
use o28m_router::testing::{Request, Slow, fuzz, request, routes};
use o28m_router::{Calculation, Router};

use super::route;

/// A sequence of numbers that looks random, and is the same every time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % most
    }
}

fn found(router: &Router, request: &Request) -> Option<(String, usize)> {
    let found = router.find(&request.head())?;
    Some((found.route.id.clone(), found.prefix_length))
}

/// `sets` route sets and 30 requests for each, compared in each calculation: in full, without half of the
/// routes, and after these came back in another order.
fn compare(flavor: RouterFlavor, calculations: &[Calculation], sets: u64) {
    for seed in 0..sets {
        let mut numbers = Numbers(seed);
        let mut choose = |below: usize| numbers.below(below);
        let set = routes(&mut choose, flavor, 30);
        let requests: Vec<_> = (0..15).map(|_| request(&mut choose)).collect();
        for calculation in calculations {
            let mut router = Router::with(flavor, *calculation);
            let mut set = set.clone();
            set.retain(|route| router.add(route.clone()).is_ok());
            let slow = Slow::new(&set, flavor, *calculation);
            let check = |router: &Router, slow: &Slow, requests: &[Request]| {
                for request in requests {
                    let expected = slow.find(&request.head());
                    assert_eq!(
                        found(router, request),
                        expected,
                        "{flavor:?} {calculation:?} {request:?} {set:#?}"
                    );
                }
            };
            let (first, others) = requests.split_at(5);
            let (second, third) = others.split_at(5);
            check(&router, &slow, &requests);
            let before = router.clone();
            let mut away: Vec<_> = set
                .iter()
                .filter(|_| numbers.below(2) == 0)
                .cloned()
                .collect();
            for route in &away {
                router.take_out(&route.id);
            }
            let rest = slow.among(&|id| away.iter().all(|away| away.id != id));
            check(&router, &rest, first);
            while !away.is_empty() {
                router
                    .add(away.swap_remove(numbers.below(away.len())))
                    .unwrap();
            }
            check(&router, &slow, second);
            check(&before, &slow, third);
        }
    }
}

const BOTH: &[Calculation] = &[Calculation::Original, Calculation::Strict];

#[test]
fn index_equals_the_linear_matcher_on_100_000_requests() {
    compare(RouterFlavor::TraditionalCompatible, BOTH, 1700);
}

#[test]
fn the_flavour_traditional_equals_the_lists() {
    compare(RouterFlavor::Traditional, &[Calculation::Original], 600);
}

#[test]
fn the_flavour_expressions_equals_the_linear_matcher() {
    compare(RouterFlavor::Expressions, BOTH, 600);
}

/// 100,000 routes of every kind on many hosts.
#[test]
fn proxy_case_019_index_equals_linear_reference_for_100_000_routes() {
    let mut numbers = Numbers(19);
    let set: Vec<_> = (0..100_000_u128)
        .map(|number| {
            let host = format!("h{}.example.com", numbers.below(2000));
            let wildcard = format!("*.d{}.com", numbers.below(50));
            let path = format!("/p{}/{}", numbers.below(30), numbers.below(30));
            let some =
                |items: &[&str]| Some(items.iter().map(|&it| it.to_owned()).collect::<Vec<_>>());
            let methods = some(&["GET"]).filter(|_| numbers.below(4) == 0);
            Arc::new(match numbers.below(40) % 16 {
                0 => Route {
                    hosts: some(&[&host]),
                    methods,
                    ..route(number)
                },
                1 => Route {
                    hosts: some(&[&host]),
                    paths: some(&[&format!("~{path}/[a-c]")]),
                    regex_priority: numbers.below(3) as i64,
                    ..route(number)
                },
                2 => Route {
                    hosts: some(&[&wildcard]),
                    paths: some(&[&path]),
                    methods,
                    ..route(number)
                },
                // Few routes are for every host: the reference looks at all of them.
                3 if number % 1000 == 0 => Route {
                    paths: some(&[&path]),
                    ..route(number)
                },
                _ => Route {
                    hosts: some(&[&host, &wildcard]),
                    paths: some(&[&path, "/p1"]),
                    methods,
                    ..route(number)
                },
            })
        })
        .collect();
    for calculation in BOTH {
        let mut router = Router::new(*calculation);
        for route in &set {
            router.add(route.clone()).unwrap();
        }
        let slow = SlowByHost::new(&set, *calculation);
        let mut hits = 0;
        for _ in 0..10_000 {
            let host = match numbers.below(4) {
                0 => format!("x.d{}.com", numbers.below(60)),
                1 => "other".to_owned(),
                _ => format!("h{}.example.com", numbers.below(2100)),
            };
            let path = format!(
                "/p{}/{}/{}",
                numbers.below(32),
                numbers.below(32),
                ["a", "b", "x"][numbers.below(3)]
            );
            let mut request = request(&mut |_| 0);
            let method = ["GET", "PUT"][numbers.below(2)];
            request.headers.clear();
            let head = o28m_router::RequestHead {
                method,
                host: &host,
                path: &path,
                ..request.head()
            };
            let found = router
                .find(&head)
                .map(|it| (it.route.id.clone(), it.prefix_length));
            hits += usize::from(found.is_some());
            assert_eq!(found, slow.find(&head), "{host} {path}");
        }
        assert!(
            (2_000..9_999).contains(&hits),
            "{hits} requests found a route"
        );
    }
}

/// The linear matcher over the routes of a host's last labels: those of others cannot match, which
/// makes 10,000 requests affordable.
struct SlowByHost(std::collections::HashMap<String, Slow>);

impl SlowByHost {
    fn new(set: &[Arc<Route>], calculation: Calculation) -> Self {
        let mut by_host: std::collections::HashMap<String, Vec<Arc<Route>>> = Default::default();
        let anywhere: Vec<_> = set
            .iter()
            .filter(|it| it.hosts.is_none())
            .cloned()
            .collect();
        for route in set {
            for host in route.hosts.iter().flatten() {
                by_host
                    .entry(host.replace('*', "x"))
                    .or_insert_with(|| anywhere.clone())
                    .push(route.clone());
            }
        }
        by_host.insert(String::new(), anywhere);
        let slow =
            |routes: Vec<_>| Slow::new(&routes, RouterFlavor::TraditionalCompatible, calculation);
        Self(
            by_host
                .into_iter()
                .map(|(host, routes)| (host, slow(routes)))
                .collect(),
        )
    }

    fn find(&self, head: &o28m_router::RequestHead<'_>) -> Option<(String, usize)> {
        let own = self.0.get(head.host).or_else(|| self.0.get(""));
        own?.find(head)
    }
}

#[test]
fn committed_fuzz_inputs_break_nothing() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for (name, target) in fuzz::TARGETS {
        let inputs: Vec<_> = std::fs::read_dir(corpus.join(name)).unwrap().collect();
        assert!(!inputs.is_empty(), "{name} has no inputs");
        for input in inputs {
            target(&std::fs::read(input.unwrap().path()).unwrap());
        }
    }
}

#[test]
fn random_bytes_break_nothing() {
    let mut numbers = Numbers(7);
    for _ in 0..300 {
        let bytes: Vec<u8> = (0..numbers.below(200))
            .map(|_| numbers.below(256) as u8)
            .collect();
        fuzz::router(&bytes);
        let letters: Vec<u8> = bytes
            .iter()
            .map(|it| b"/.%2eEfF5\n:*[]a"[usize::from(*it) % 15])
            .collect();
        fuzz::path(&letters);
        fuzz::host(&letters);
        fuzz::expression(&letters);
    }
}
