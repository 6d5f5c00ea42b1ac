//! What a match, the building of a matcher and a change of it cost: `cargo bench -p o28m-router`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::Criterion;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use o28m_kong::{Route, RouterFlavor};
use o28m_router::{Calculation, Headers, RequestHead, Router};

/// Time on a processor, as Linux accounts it: on a machine that does other things as well the time on the
/// wall says little.
struct ProcessorTime;

impl Measurement for ProcessorTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        // The account is brought up to date when the thread goes off its processor.
        std::thread::yield_now();
        let account = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        let nanoseconds = account.split(' ').next().and_then(|it| it.parse().ok());
        Duration::from_nanos(nanoseconds.unwrap_or_default())
    }

    fn end(&self, start: Duration) -> Duration {
        self.start().saturating_sub(start)
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

struct Lines;

impl Headers for Lines {
    fn any(&self, name: &str, visit: &mut dyn FnMut(&str) -> bool) -> bool {
        name == "x-tier" && visit("gold")
    }
}

/// As the platform's control plane makes them: a host and a path each, ten to a host.
fn plain(number: usize) -> Route {
    Route {
        id: id(number),
        protocols: vec!["http".to_owned(), "https".to_owned()],
        hosts: Some(vec![format!("api{}.example.com", number / 10)]),
        paths: Some(vec![format!("/team{}/service{}/v1", number % 10, number)]),
        strip_path: true,
        ..Route::default()
    }
}

fn id(number: usize) -> String {
    format!("5be9e150-ffe6-4b42-adfe-{number:012x}")
}

fn regex(number: usize) -> Route {
    Route {
        paths: Some(vec![format!(
            "~/team{}/service{number}/(?<id>[0-9]+)/items",
            number % 10
        )]),
        ..plain(number)
    }
}

fn one_host(number: usize) -> Route {
    Route {
        hosts: Some(vec!["api.example.com".to_owned()]),
        ..plain(number)
    }
}

fn expression(number: usize) -> Route {
    let text = format!(
        "http.host == \"api{}.example.com\" && http.path ^= \"/team{}/service{number}/v1\" && any(http.headers.x_tier) == \"gold\"",
        number / 10,
        number % 10
    );
    Route {
        hosts: None,
        paths: None,
        expression: Some(text),
        ..plain(number)
    }
}

fn build(flavor: RouterFlavor, count: usize, route: fn(usize) -> Route) -> Router {
    let mut router = Router::with(flavor, Calculation::Original);
    for number in 0..count {
        router.add(Arc::new(route(number))).unwrap_or_default();
    }
    router
}

/// Requests for routes all over the set, or for none of them; paths have ids in them, so that no two
/// are alike.
fn requests(count: usize, single_host: bool, end: &str, hit: bool) -> Vec<(String, String)> {
    let request = |number: usize| {
        let route = number.wrapping_mul(7919) % count;
        let host = if single_host {
            "api.example.com".to_owned()
        } else {
            format!("api{}.example.com", route / 10)
        };
        let name = if hit { "service" } else { "servant" };
        (
            host,
            format!("/team{}/{name}{route}/{end}/{number}", route % 10),
        )
    };
    (0..512).map(request).collect()
}

fn matches(criterion: &mut Criterion<ProcessorTime>) {
    let compatible = RouterFlavor::TraditionalCompatible;
    type Case = (
        &'static str,
        RouterFlavor,
        usize,
        fn(usize) -> Route,
        &'static str,
    );
    let cases: [Case; 8] = [
        ("plain/10k", compatible, 10_000, plain, "v1/orders"),
        ("plain/100k", compatible, 100_000, plain, "v1/orders"),
        ("one_host/10k", compatible, 10_000, one_host, "v1/orders"),
        ("one_host/100k", compatible, 100_000, one_host, "v1/orders"),
        ("regex/10k", compatible, 10_000, regex, "4711/items"),
        (
            "traditional/10k",
            RouterFlavor::Traditional,
            10_000,
            plain,
            "v1/orders",
        ),
        (
            "traditional/100k",
            RouterFlavor::Traditional,
            100_000,
            plain,
            "v1/orders",
        ),
        (
            "expressions/10k",
            RouterFlavor::Expressions,
            10_000,
            expression,
            "v1/orders",
        ),
    ];
    for (name, flavor, count, route, end) in cases {
        let router = build(flavor, count, route);
        for hit in [true, false] {
            let requests = requests(count, name.starts_with("one_host"), end, hit);
            let heads: Vec<_> = requests
                .iter()
                .map(|(host, path)| RequestHead {
                    method: "GET",
                    host,
                    port: 443,
                    path,
                    query: "",
                    server_name: Some("api.example.com"),
                    headers: &Lines,
                    source: None,
                    destination: None,
                })
                .collect();
            assert!(
                heads.iter().all(|head| router.find(head).is_some() == hit),
                "{name}"
            );
            let mut heads = heads.iter().cycle();
            let outcome = if hit { "hit" } else { "miss" };
            criterion.bench_function(&format!("match/{name}/{outcome}"), |bencher| {
                bencher.iter(|| heads.next().and_then(|head| router.find(black_box(head))));
            });
        }
    }
}

fn changes(criterion: &mut Criterion<ProcessorTime>) {
    let mut group = criterion.benchmark_group("change");
    group.sample_size(10);
    for (name, flavor) in [
        ("plain", RouterFlavor::TraditionalCompatible),
        ("traditional", RouterFlavor::Traditional),
    ] {
        group.bench_function(format!("build/{name}/100k"), |bencher| {
            bencher.iter(|| build(flavor, 100_000, plain));
        });
        let router = build(flavor, 100_000, plain);
        let mut number = 0;
        group.bench_function(format!("update/{name}/100k"), |bencher| {
            bencher.iter(|| {
                number = (number + 7919) % 100_000;
                router.insert(Arc::new(plain(number)))
            });
        });
    }
    let router = build(RouterFlavor::TraditionalCompatible, 100_000, plain);
    group.bench_function("divergences/plain/100k", |bencher| {
        bencher.iter(|| router.all_divergences(20));
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default()
        .with_measurement(ProcessorTime)
        .configure_from_args();
    matches(&mut criterion);
    changes(&mut criterion);
    criterion.final_summary();
}
