//! Building responses and the headers every one of them carries.

use std::time::Instant;

use http::header::{self, HeaderName};
use http::{HeaderValue, Response, StatusCode};
use o28m_net::Body;
use serde_json::Value;

use crate::KONG_VERSION;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const LATENCY: HeaderName = HeaderName::from_static("x-kong-admin-latency");

/// A JSON body.
pub(crate) fn json(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::full(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

/// A body of another type.
pub(crate) fn text(status: StatusCode, kind: &'static str, body: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// No body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    response
}

/// Plain text that is made for the request.
pub(crate) fn plain(kind: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// What every response of a listener carries or does not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Style {
    pub(crate) headers: Headers,
    /// Origins whose pages may use the API; every origin when there are none.
    pub(crate) origins: Vec<HeaderValue>,
    /// The version of Kong to claim; unset is [`KONG_VERSION`].
    pub(crate) version: Option<String>,
}

impl Style {
    pub(crate) fn version(&self) -> &str {
        self.version.as_deref().unwrap_or(KONG_VERSION)
    }

    /// The value of `Access-Control-Allow-Origin`: as in Kong, the first origin for strangers.
    fn allowed_origin(&self, asked: Option<HeaderValue>) -> HeaderValue {
        match self.origins.first() {
            None => asked.unwrap_or(HeaderValue::from_static("*")),
            Some(first) => asked
                .filter(|origin| self.origins.contains(origin))
                .unwrap_or_else(|| first.clone()),
        }
    }
}

/// The origin of a page at this URL.
pub(crate) fn origin(url: &str) -> Option<HeaderValue> {
    let (scheme, rest) = url.trim().split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    if authority.is_empty() {
        return None;
    }
    HeaderValue::try_from(format!("{scheme}://{authority}").to_ascii_lowercase()).ok()
}

/// Headers of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// `Server`
    pub server: bool,
    /// `X-Kong-Admin-Latency`
    pub latency: bool,
}

impl Default for Headers {
    fn default() -> Self {
        Self {
            server: true,
            latency: true,
        }
    }
}

impl Headers {
    /// Those that Kong's setting `headers` names; `off` stands for none.
    #[must_use]
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut headers = Self {
            server: false,
            latency: false,
        };
        for name in names {
            match name.to_ascii_lowercase().as_str() {
                "server_tokens" | "server" => headers.server = true,
                "latency_tokens" | "x-kong-admin-latency" => headers.latency = true,
                _ => {}
            }
        }
        headers
    }
}

/// What the answer depends on besides its content.
pub(crate) struct Asked {
    /// When the request came in.
    pub(crate) since: Instant,
    /// Its `Origin`.
    pub(crate) origin: Option<HeaderValue>,
    /// It was a HEAD.
    pub(crate) head: bool,
}

/// Adds length, server, latency and cross-origin headers; takes the body off the answer to a HEAD.
pub(crate) fn finish(mut response: Response<Body>, asked: Asked, style: &Style) -> Response<Body> {
    let length = match response.body() {
        Body::Empty => Some(0),
        Body::Full(bytes) => Some(bytes.as_ref().map_or(0, |bytes| bytes.len())),
        Body::Stream(_) => None,
    };
    let has_length = response.status() != StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    if let Some(length) = length.filter(|_| has_length) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    let server = HeaderValue::try_from(format!("kong/{}", style.version()));
    if let (true, Ok(server)) = (style.headers.server, server) {
        headers.insert(header::SERVER, server);
    }
    if style.headers.latency {
        let millis = u64::try_from(asked.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        headers.insert(LATENCY, HeaderValue::from(millis));
    }
    let origin = style.allowed_origin(asked.origin);
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
        HeaderValue::from_static("true"),
    );
    if asked.head {
        *response.body_mut() = Body::Empty;
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_named_as_in_kong() {
        let all = Headers::default();
        assert_eq!(
            Headers::named(["server_tokens", "latency_tokens", "X-Kong-Request-Id"]),
            all
        );
        let latency = Headers::named(["X-Kong-Admin-Latency"]);
        assert!(latency.latency && !latency.server);
        let none = Headers::named(["off"]);
        assert!(!none.latency && !none.server);
    }

    #[test]
    fn pages_have_origins() {
        for (url, expected) in [
            (
                "https://Admin.example.com:8445/manager?x",
                Some("https://admin.example.com:8445"),
            ),
            (" http://localhost:8002 ", Some("http://localhost:8002")),
            ("localhost:8002", None),
            ("http://", None),
        ] {
            let expected = expected.map(HeaderValue::from_static);
            assert_eq!(origin(url), expected, "{url}");
        }
    }
}
