//! Random route sets and requests over few words, so that they meet.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use o28m_kong::{Endpoint, Route, RouterFlavor};
use uuid::Uuid;

use crate::{Headers, RequestHead};

/// Gives a number below the one it gets.
pub type Choose<'a> = dyn FnMut(usize) -> usize + 'a;
/// A set of routes.
pub type Routes = Vec<Arc<Route>>;

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
    "*.com",
    "[::1]",
    "::1",
    "*.a.example.com",
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
    "/a.b",
    "/caf\u{e9}",
    "~/a/[a-z]+",
    "~/a|/b",
    "~/(?<x>[ab])/b",
    "~.*c",
    "~/ab?",
    r"~/a/b/\w",
    "~(?i)/A/B",
    "~/a",
];
const METHODS: &[&str] = &["GET", "POST", "PUT"];
const SNIS: &[&str] = &["a.example.com", "b.org", "c.example.com."];
const WILDCARD_SNIS: &[&str] = &["a.example.com", "*.example.com", "b.*"];
const HEADERS: &[&str] = &["x-tier", "x-env"];
const VALUES: &[&str] = &["gold", "Silver", "~*^g", r"~*\D"];
const REGEX_PRIORITIES: &[i64] = &[0, 1, 2, 100, -1, 4096, 8192];
const PROTOCOLS: &[&[&str]] = &[&["http", "https"], &["http"], &["https"]];
const PREDICATES: &[&str] = &[
    r#"http.host == "a.example.com""#,
    r#"http.host =^ ".example.com""#,
    r#"http.host ^= "a.""#,
    r#"lower(http.host) == "a.example.com""#,
    r#"http.host != "example.com""#,
    r#"http.host contains "example""#,
    r#"http.path ^= "/a""#,
    r#"http.path == "/a/b""#,
    r#"http.path =^ "b""#,
    r#"http.path ~ "^/a/(?<x>[a-z]+)""#,
    r#"http.path ~ "b""#,
    r#"http.path ~ "^/a|/b""#,
    r#"lower(http.path) ^= "/a/b""#,
    r#"http.path.segments.0 == "a""#,
    r#"http.path.segments.0 ^= "a""#,
    r#"http.path.segments.0_1 == "a/b""#,
    r#"http.path.segments.1 ~ "^[a-c]$""#,
    "http.path.segments.len == 2",
    "http.path.segments.len > 2",
    r#"http.method == "GET""#,
    r#"http.method != "PUT""#,
    r#"tls.sni == "a.example.com""#,
    r#"net.protocol == "https""#,
    r#"http.headers.x_tier == "gold""#,
    r#"any(lower(http.headers.x_tier)) == "gold""#,
    r#"any(http.headers.x_env) ~ "^g""#,
    r#"http.queries.q == "1""#,
    r#"any(http.queries.q) == "2""#,
    r#"http.queries.q != "1""#,
    "net.src.ip in 10.0.0.0/8",
    "net.src.ip == 10.0.0.1",
    "net.src.ip not in 10.0.0.0/8",
    "net.dst.port == 8000",
    "net.dst.port < 8443",
    "net.src.port >= 1024",
    "net.dst.ip == ::1",
    r#"http.path.segments.4_1 != "x""#,
];

fn pick<T: Copy>(choose: &mut Choose<'_>, items: &[T]) -> Option<T> {
    items.get(choose(items.len().max(1))).copied()
}

fn texts(
    choose: &mut Choose<'_>,
    items: &[&str],
    most: usize,
    one_in: usize,
) -> Option<Vec<String>> {
    if choose(one_in) != 0 {
        return None;
    }
    let count = choose(most + 1);
    let picked = (0..count).filter_map(|_| pick(choose, items));
    Some(picked.map(str::to_owned).collect())
}

fn expression(choose: &mut Choose<'_>, depth: usize) -> String {
    let kind = if depth == 0 { 0 } else { choose(5) };
    let parts = |separator: &str, choose: &mut Choose<'_>| {
        let count = 2 + choose(2);
        let parts: Vec<_> = (0..count).map(|_| expression(choose, depth - 1)).collect();
        format!("({})", parts.join(separator))
    };
    match kind {
        1 | 2 => parts(" && ", choose),
        3 => parts(" || ", choose),
        4 => format!("!({})", expression(choose, depth - 1)),
        _ => pick(choose, PREDICATES).unwrap_or_default().to_owned(),
    }
}

/// Up to `most` routes that the flavour takes.
pub fn routes(choose: &mut Choose<'_>, flavor: RouterFlavor, most: usize) -> Routes {
    let count = choose(most + 1);
    (0..count)
        .map(|number| Arc::new(route(choose, flavor, number)))
        .collect()
}

fn route(choose: &mut Choose<'_>, flavor: RouterFlavor, number: usize) -> Route {
    // The order of ids is not that of the list.
    let id = (choose(256) as u128) << 120 | number as u128;
    let protocols = pick(choose, PROTOCOLS).unwrap_or_default();
    let base = Route {
        id: Uuid::from_u128(id).to_string(),
        protocols: protocols.iter().map(|&it| it.to_owned()).collect(),
        https_redirect_status_code: 426,
        created_at: i64::try_from(choose(4)).unwrap_or_default(),
        strip_path: true,
        ..Route::default()
    };
    if flavor == RouterFlavor::Expressions && choose(3) != 0 {
        return Route {
            expression: Some(expression(choose, 3)),
            priority: u64::try_from(choose(3)).ok(),
            ..base
        };
    }
    let snis = if flavor == RouterFlavor::Traditional {
        SNIS
    } else {
        WILDCARD_SNIS
    };
    let mut headers = BTreeMap::new();
    if choose(3) == 0 {
        for name in HEADERS {
            let values = texts(choose, VALUES, 2, 2).unwrap_or_default();
            if !values.is_empty() {
                headers.insert((*name).to_owned(), values);
            }
        }
    }
    let sources = flavor == RouterFlavor::Expressions && choose(6) == 0;
    Route {
        hosts: texts(choose, HOSTS, 3, 2),
        paths: if choose(4) == 0 {
            None
        } else {
            texts(choose, PATHS, 4, 1)
        },
        methods: texts(choose, METHODS, 2, 4),
        snis: texts(choose, snis, 2, 5),
        headers: (!headers.is_empty()).then_some(headers),
        regex_priority: pick(choose, REGEX_PRIORITIES).unwrap_or_default(),
        sources: sources.then(|| {
            vec![Endpoint {
                ip: Some("10.0.0.0/8".to_owned()),
                port: None,
            }]
        }),
        ..base
    }
}

/// A request to match.
#[derive(Clone, Debug)]
pub struct Request {
    /// Method.
    pub method: &'static str,
    /// `Host`.
    pub host: &'static str,
    /// Normalised path.
    pub path: &'static str,
    /// Query.
    pub query: &'static str,
    /// TLS server name.
    pub server_name: Option<&'static str>,
    /// Lines.
    pub headers: Vec<(&'static str, &'static str)>,
    /// The client.
    pub source: Option<SocketAddr>,
}

impl Headers for Request {
    fn any(&self, name: &str, visit: &mut dyn FnMut(&str) -> bool) -> bool {
        self.headers
            .iter()
            .any(|(key, value)| *key == name && visit(value))
    }
}

impl Request {
    /// What the matcher looks at.
    #[must_use]
    pub fn head(&self) -> RequestHead<'_> {
        RequestHead {
            method: self.method,
            host: self.host,
            port: 8000,
            path: self.path,
            query: self.query,
            server_name: self.server_name,
            headers: self,
            source: self.source,
            destination: self.source.map(|_| std::net::Ipv6Addr::LOCALHOST.into()),
        }
    }
}

/// A request that may fit some of those routes.
pub fn request(choose: &mut Choose<'_>) -> Request {
    const ASKED: &[&str] = &[
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
        "::1",
        "a.example.com.",
        "a.example.com.:8443",
        "a.example.com:",
        "b.a.example.com",
        "a.",
        "x:y",
        "[a.example.com]:80",
        "example.com:99999",
    ];
    const TARGETS: &[&str] = &[
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
        "/a/",
        "/a.b",
        "/axb",
        "/caf\u{e9}",
        "/caf%E9",
        "/a/b/",
    ];
    const QUERIES: &[&str] = &["", "q=1", "q=1&q=2", "q", "q=2&x=1", "=1&q=+"];
    let lines = choose(3);
    let lines = (0..lines).filter_map(|_| {
        let name = pick(choose, &["x-tier", "x-env", "x-other"])?;
        Some((name, pick(choose, &["gold", "GOLD", "silver", "1"])?))
    });
    let headers = lines.collect();
    let server_name = match choose(2) {
        0 => None,
        _ => pick(choose, &["a.example.com", "b.org", "c.example.com", ""]),
    };
    let source = pick(
        choose,
        &[
            "10.0.0.1:4000",
            "10.9.9.9:80",
            "192.168.0.1:4000",
            "[::1]:4000",
            "",
        ],
    );
    Request {
        method: pick(choose, METHODS).unwrap_or_default(),
        host: pick(choose, ASKED).unwrap_or_default(),
        path: pick(choose, TARGETS).unwrap_or_default(),
        query: pick(choose, QUERIES).unwrap_or_default(),
        server_name,
        headers,
        source: source.and_then(|it| it.parse().ok()),
    }
}
