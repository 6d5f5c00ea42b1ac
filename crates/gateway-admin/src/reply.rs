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
pub(crate) fn finish(mut response: Response<Body>, asked: Asked) -> Response<Body> {
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
    if let Ok(server) = HeaderValue::try_from(format!("kong/{KONG_VERSION}")) {
        headers.insert(header::SERVER, server);
    }
    let millis = u64::try_from(asked.since.elapsed().as_millis()).unwrap_or(u64::MAX);
    headers.insert(LATENCY, HeaderValue::from(millis));
    let origin = asked.origin.unwrap_or(HeaderValue::from_static("*"));
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
