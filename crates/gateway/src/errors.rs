//! The one place that turns failures into response bodies (spec gateway-proxy 6).

use http::{HeaderMap, Response, StatusCode};
use o28m_net::Body;

/// A core or plugin error in the form the request's `Accept` asks for, JSON without one (path A).
#[must_use]
pub fn respond(
    status: StatusCode,
    message: &str,
    request_headers: &HeaderMap,
    request_id: &str,
) -> Response<Body> {
    let _ = (status, message, request_headers, request_id);
    todo!()
}

/// What a plugin answers by itself: compact JSON without request id (style X).
#[must_use]
pub fn exit(status: StatusCode, body: &serde_json::Value) -> Response<Body> {
    let _ = (status, body);
    todo!()
}
