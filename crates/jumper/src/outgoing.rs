//! The headers of a request to a provider and of the response to the consumer.

use http::header::{CACHE_CONTROL, EXPIRES, PRAGMA, REFERRER_POLICY};
use http::header::{X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS, X_XSS_PROTECTION};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::incoming::Claims;
use crate::target::host_of;

const X_ORIGIN_STARGATE: HeaderName = HeaderName::from_static("x-origin-stargate");
const X_ORIGIN_ZONE: HeaderName = HeaderName::from_static("x-origin-zone");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Tells the provider where the consumer entered the platform.
pub(crate) fn set_origin(headers: &mut HeaderMap, claims: &Claims) {
    let stargate = claims.origin_stargate.as_deref();
    set_or_remove(headers, X_ORIGIN_STARGATE, stargate);
    set_or_remove(headers, X_ORIGIN_ZONE, claims.origin_zone.as_deref());
    match stargate.map(host_of) {
        None => {}
        Some(Ok(host)) => set_or_remove(headers, X_FORWARDED_HOST, host),
        Some(Err(_)) => tracing::error!("originStargate of the incoming token is not a URL"),
    }
    headers.insert(X_FORWARDED_PORT, HeaderValue::from_static("443"));
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
}

/// A claim that is no header value must not become one: the header goes, whoever sent it.
fn set_or_remove(headers: &mut HeaderMap, name: HeaderName, value: Option<&str>) {
    match value.map(|value| HeaderValue::from_bytes(value.as_bytes())) {
        Some(Ok(value)) => {
            headers.insert(name, value);
        }
        Some(Err(_)) | None => {
            headers.remove(name);
        }
    }
}

/// Removes what only a trusted peer may say about the client.
pub(crate) fn remove_forwarded(headers: &mut HeaderMap) {
    let forwarded: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-forwarded-"))
        .cloned()
        .collect();
    for name in forwarded {
        headers.remove(name);
    }
}

/// The headers that the original's security layer adds to every response.
pub(crate) fn add_security(headers: &mut HeaderMap, status: StatusCode) {
    let cacheable = [CACHE_CONTROL, PRAGMA, EXPIRES]
        .iter()
        .any(|name| headers.contains_key(name));
    if !cacheable && status != StatusCode::NOT_MODIFIED {
        let value = "no-cache, no-store, max-age=0, must-revalidate";
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(value));
        headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
        headers.insert(EXPIRES, HeaderValue::from_static("0"));
    }
    for (name, value) in [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (X_XSS_PROTECTION, "0"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
}
