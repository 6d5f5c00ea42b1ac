//! Which headers pass: hop-by-hop and identity headers of requests, hop-by-hop and internal ones of
//! responses (spec gateway-proxy 4.4, 5.2, 12.5).

use http::header::{CONNECTION, Entry, HeaderMap, HeaderName, HeaderValue, TE, UPGRADE};

/// A field that the gateway sets: its name, and how that is spelled on HTTP/1.
pub(crate) struct Field {
    pub(crate) name: HeaderName,
    pub(crate) spelled: &'static str,
}

impl Field {
    const fn new(name: HeaderName, spelled: &'static str) -> Self {
        Self { name, spelled }
    }

    const fn own(lower: &'static str, spelled: &'static str) -> Self {
        Self::new(HeaderName::from_static(lower), spelled)
    }
}

/// Fields of requests to upstreams.
pub(crate) mod fields {
    use http::header::{CONNECTION, HOST, TE, UPGRADE};

    use super::{Field, REQUEST_ID};

    pub(crate) static OF_HOST: Field = Field::new(HOST, "Host");
    pub(crate) static OF_TE: Field = Field::new(TE, "TE");
    pub(crate) static OF_CONNECTION: Field = Field::new(CONNECTION, "Connection");
    pub(crate) static OF_UPGRADE: Field = Field::new(UPGRADE, "Upgrade");
    pub(crate) static OF_REQUEST_ID: Field = Field::new(REQUEST_ID, "X-Kong-Request-Id");
    pub(crate) static FORWARDED_FOR: Field = Field::own("x-forwarded-for", "X-Forwarded-For");
    pub(crate) static FORWARDED_PROTO: Field = Field::own("x-forwarded-proto", "X-Forwarded-Proto");
    pub(crate) static FORWARDED_HOST: Field = Field::own("x-forwarded-host", "X-Forwarded-Host");
    pub(crate) static FORWARDED_PORT: Field = Field::own("x-forwarded-port", "X-Forwarded-Port");
    pub(crate) static FORWARDED_PATH: Field = Field::own("x-forwarded-path", "X-Forwarded-Path");
    pub(crate) static FORWARDED_PREFIX: Field =
        Field::own("x-forwarded-prefix", "X-Forwarded-Prefix");
    pub(crate) static REAL_IP: Field = Field::own("x-real-ip", "X-Real-IP");
}

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-kong-request-id");
pub(crate) const UPSTREAM_STATUS: HeaderName = HeaderName::from_static("x-kong-upstream-status");
pub(crate) const UPSTREAM_LATENCY: HeaderName = HeaderName::from_static("x-kong-upstream-latency");
pub(crate) const PROXY_LATENCY: HeaderName = HeaderName::from_static("x-kong-proxy-latency");
pub(crate) const RESPONSE_LATENCY: HeaderName = HeaderName::from_static("x-kong-response-latency");
pub(crate) const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
pub(crate) const KEEP_ALIVE: HeaderValue = HeaderValue::from_static("keep-alive");
pub(crate) const KEEP_ALIVE_UPGRADE: HeaderValue = HeaderValue::from_static("keep-alive, Upgrade");
pub(crate) const UPGRADE_ONLY: HeaderValue = HeaderValue::from_static("upgrade");
pub(crate) const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

/// Only plugins may say who the caller is.
const IDENTITY: &[&str] = &[
    "x-consumer-id",
    "x-consumer-custom-id",
    "x-consumer-username",
    "x-consumer-groups",
    "x-credential-identifier",
    "x-anonymous-consumer",
    "x-authenticated-groups",
];

/// Kong's means to look into a single request, which end at it.
const DEBUG: &[&str] = &[
    "x-kong-request-debug",
    "x-kong-request-debug-token",
    "x-kong-request-debug-log",
];

/// What a client's `Connection` header cannot name away: we frame and route by them.
const ESSENTIAL: &[&str] = &["host", "content-length", "expect"];

/// What the client asked of its connection to us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// It understands trailers.
    pub(crate) trailers: bool,
    /// It wants a WebSocket.
    pub(crate) websocket: bool,
}

/// Removes what concerns only the connection to the client, and what only plugins may set unless
/// clients may as well. `Expect` stays for plugins to see; the upstream request goes without.
pub(crate) fn strip_request(headers: &mut HeaderMap, keeps_identity: bool) -> Asked {
    let doomed: Vec<_> = headers
        .keys()
        .filter(|it| goes(it.as_str(), keeps_identity))
        .cloned()
        .collect();
    // Most requests have nothing of all that.
    if doomed.is_empty() {
        return Asked::default();
    }
    let asked = Asked {
        trailers: lists(headers, &TE, "trailers"),
        websocket: lists(headers, &UPGRADE, "websocket") && lists(headers, &CONNECTION, "upgrade"),
    };
    for name in take_connection(headers).into_iter().chain(doomed) {
        headers.remove(name);
    }
    asked
}

fn goes(name: &str, keeps_identity: bool) -> bool {
    match name {
        "connection" | "keep-alive" | "proxy" | "proxy-connection" | "transfer-encoding" | "te"
        | "upgrade" | "trailer" => true,
        _ if name.starts_with('x') && is_ours(name, keeps_identity) => true,
        _ => !name.bytes().all(is_name_byte),
    }
}

/// nginx drops lines whose name has other characters, so nothing behind a gateway expects them.
const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

fn is_ours(name: &str, keeps_identity: bool) -> bool {
    !keeps_identity && is_identity(name) || DEBUG.contains(&name)
}

/// Many servers cannot tell `_` from `-`, so neither may a client choose.
fn is_identity(name: &str) -> bool {
    let same = |left: u8, right: u8| left == right || (left == b'_' && right == b'-');
    IDENTITY.iter().any(|it| {
        it.len() == name.len()
            && name
                .bytes()
                .zip(it.bytes())
                .all(|(left, right)| same(left, right))
    })
}

/// Removes what concerns only the upstream connection, and nginx's instructions, which we never act
/// on.
pub(crate) fn strip_response(headers: &mut HeaderMap, asked: Asked) {
    // Most responses have this one and no other.
    let mut doomed = take_connection(headers);
    let goes = |name: &HeaderName| match name.as_str() {
        "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade" => true,
        "trailer" => !asked.trailers,
        name => {
            name.starts_with("x-")
                && matches!(
                    name,
                    "x-pad"
                        | "x-accel-expires"
                        | "x-accel-redirect"
                        | "x-accel-limit-rate"
                        | "x-accel-buffering"
                        | "x-accel-charset"
                )
        }
    };
    doomed.extend(headers.keys().filter(|it| goes(it)).cloned());
    for name in doomed {
        headers.remove(name);
    }
}

/// Removes `Connection`; gives the headers that it lists besides its own options.
fn take_connection(headers: &mut HeaderMap) -> Vec<HeaderName> {
    let mut named = Vec::new();
    if let Entry::Occupied(lines) = headers.entry(CONNECTION) {
        lines
            .iter()
            .for_each(|line| push_named(&mut named, line.as_bytes()));
        lines.remove();
    }
    named
}

/// Adds the headers that a line of `Connection` lists.
fn push_named(named: &mut Vec<HeaderName>, line: &[u8]) {
    let is_option = |token: &[u8]| {
        let options = [&b"keep-alive"[..], b"close", b"upgrade", b""];
        options.iter().any(|it| token.eq_ignore_ascii_case(it))
    };
    if is_option(line) {
        return;
    }
    for token in line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
        if let Ok(name) = HeaderName::from_bytes(token)
            && !is_option(token)
            && !ESSENTIAL.contains(&name.as_str())
        {
            named.push(name);
        }
    }
}

/// Whether a comma-separated header lists `token` (before any parameters).
fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter();
    values
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|element| element.split(|byte| *byte == b';').next())
        .any(|element| element.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// Media types that get `charset=UTF-8` when they have none (nginx `charset` and `charset_types`).
const CHARSET_TYPES: &[&str] = &[
    "text/html",
    "text/xml",
    "text/plain",
    "text/vnd.wap.wml",
    "application/javascript",
    "application/rss+xml",
];

/// The content type with `charset` behind it, when one has to be added.
pub(crate) fn with_charset(headers: &HeaderMap, charset: &str) -> Option<HeaderValue> {
    let line = headers.get(http::header::CONTENT_TYPE)?;
    let media_type = line.as_bytes().split(|byte| *byte == b';').next()?;
    let media_type = media_type.trim_ascii();
    let eligible = CHARSET_TYPES
        .iter()
        .any(|it| it.as_bytes().eq_ignore_ascii_case(media_type));
    if !eligible {
        return None;
    }
    let value = line.to_str().ok()?;
    let parameters = value.split_once(';').map_or("", |(_, rest)| rest);
    let has_charset = || parameters.to_ascii_lowercase().contains("charset=");
    if headers.contains_key(http::header::CONTENT_ENCODING) || has_charset() {
        return None;
    }
    HeaderValue::try_from(format!("{value}{charset}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn proxy_case_027_hop_by_hop_headers_of_requests_go() {
        let mut headers = map(&[
            ("connection", "X-Foo, X-Bar, Host, close"),
            ("x-foo", "1"),
            ("x-bar", "1"),
            ("host", "a"),
            ("te", "trailers, deflate;q=0.5"),
            ("upgrade", "example/1"),
            ("proxy", "x"),
            ("proxy-connection", "x"),
            ("keep-alive", "x"),
            ("transfer-encoding", "chunked"),
            ("proxy-authorization", "x"),
            ("close", "x"),
        ]);
        let asked = strip_request(&mut headers, false);
        assert_eq!(names(&headers), ["close", "host", "proxy-authorization"]);
        assert_eq!(
            asked,
            Asked {
                trailers: true,
                websocket: false
            }
        );
    }

    #[test]
    fn clients_cannot_say_who_they_are() {
        let mut headers = map(&[
            ("x-consumer-id", "1"),
            ("x_consumer_custom_id", "1"),
            ("x-consumer-username", "1"),
            ("x-consumer-groups", "1"),
            ("x-credential-identifier", "1"),
            ("x-anonymous-consumer", "1"),
            ("x-authenticated-groups", "1"),
            ("x.consumer.id", "1"),
            ("x-consumer", "kept"),
            ("x-kong-request-debug-token", "1"),
            ("remote_api_url", "kept"),
        ]);
        let mut theirs = headers.clone();
        strip_request(&mut headers, false);
        assert_eq!(names(&headers), ["remote_api_url", "x-consumer"]);
        // Unless they may.
        strip_request(&mut theirs, true);
        assert_eq!(theirs.len(), 9);
    }

    #[test]
    fn proxy_case_032_internal_headers_of_responses_go() {
        let mut headers = map(&[
            ("connection", "X-Secret"),
            ("x-secret", "1"),
            ("x-accel-redirect", "/x"),
            ("x-pad", "1"),
            ("keep-alive", "1"),
            ("trailer", "x"),
            ("x-kept", "1"),
            ("set-cookie", "a"),
            ("set-cookie", "b"),
        ]);
        strip_response(&mut headers, Asked::default());
        assert_eq!(names(&headers), ["set-cookie", "x-kept"]);
        assert_eq!(headers.get_all("set-cookie").iter().count(), 2);
    }

    #[test]
    fn proxy_case_031_charset_is_added_where_it_is_missing() {
        let added = |lines: &[(&'static str, &'static str)]| {
            with_charset(&map(lines), "; charset=UTF-8").map(|it| it.to_str().unwrap().to_owned())
        };
        let plain = ("content-type", "text/plain");
        assert_eq!(
            added(&[plain]).as_deref(),
            Some("text/plain; charset=UTF-8")
        );
        assert_eq!(
            added(&[("content-type", "text/plain; Charset=latin1")]),
            None
        );
        assert_eq!(added(&[("content-type", "application/json")]), None);
        assert_eq!(added(&[plain, ("content-encoding", "gzip")]), None);
    }
}
