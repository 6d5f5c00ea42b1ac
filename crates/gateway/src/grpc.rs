//! Errors as gRPC clients understand them (spec gateway-proxy 6.3).

use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version};
use o28m_net::Body;
use serde_json::Value;

pub(crate) const MEDIA_TYPE: &str = "application/grpc";
pub(crate) const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Marks an error whose form the request decides; for gRPC its text is that of the code.
#[derive(Clone, Copy)]
pub(crate) struct Negotiated;

/// Codes by number.
const NAMES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// Whether headers say that the message is one of gRPC.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE);
    value.is_some_and(|it| it.as_bytes().starts_with(MEDIA_TYPE.as_bytes()))
}

/// Whether the request is a gRPC call that can be answered as one.
pub(crate) fn is_call(request: &http::request::Parts) -> bool {
    request.version == Version::HTTP_2 && is_grpc(&request.headers)
}

/// Whether what the server underneath says to this call is gRPC: `Accept` counts before the media type.
pub(crate) fn server_speaks_it(request: &http::request::Parts) -> bool {
    let accept = request.headers.get(ACCEPT);
    is_call(request) && accept.is_none_or(|it| it.as_bytes().starts_with(MEDIA_TYPE.as_bytes()))
}

/// An error that routing or plugins decided.
pub(crate) fn refuse(status: StatusCode) -> Response<Body> {
    let code = code(status);
    respond(status, code, name(code))
}

/// An error with a message of its own.
pub(crate) fn error(status: StatusCode, message: &str) -> Response<Body> {
    respond(status, code(status), message)
}

/// A response without body that ends a call.
pub(crate) fn respond(status: StatusCode, code: usize, message: &str) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    tell(response.headers_mut(), code, message);
    response
}

/// What a plugin answers to a call: of a message in JSON the text is kept.
pub(crate) fn of_plugin(response: Response<Body>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    let negotiated = parts.extensions.remove::<Negotiated>().is_some();
    let media_type = parts.headers.get(CONTENT_TYPE);
    let is_json = media_type.is_none_or(|it| it.as_bytes().starts_with(b"application/json"));
    if !negotiated && !is_json {
        return Response::from_parts(parts, body);
    }
    let message = if negotiated { None } else { message_in(&body) };
    let code = code(parts.status);
    let message = message.as_deref().unwrap_or(name(code));
    // What was known of the body that is gone.
    parts.extensions.clear();
    tell(&mut parts.headers, code, message);
    Response::from_parts(parts, Body::Empty)
}

fn message_in(body: &Body) -> Option<String> {
    let Body::Full(Some(bytes)) = body else {
        return None;
    };
    let body: Value = serde_json::from_slice(bytes).ok()?;
    Some(body.get("message")?.as_str()?.to_owned())
}

fn tell(headers: &mut HeaderMap, code: usize, message: &str) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
    headers.insert(STATUS, HeaderValue::from(code));
    if let Ok(message) = HeaderValue::try_from(encoded(message)) {
        headers.insert(MESSAGE, message);
    }
}

/// `%` and everything but visible ASCII and spaces escaped, as the protocol demands of messages.
fn encoded(message: &str) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(message.len());
    for byte in message.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            text.push(char::from(byte));
        } else {
            let _infallible = write!(text, "%{byte:02X}");
        }
    }
    text
}

fn name(code: usize) -> &'static str {
    NAMES.get(code).copied().unwrap_or("Unknown")
}

/// The code that stands for a status.
fn code(status: StatusCode) -> usize {
    match status.as_u16() {
        401 => 16,
        403 => 7,
        404 => 5,
        409 => 6,
        429 => 8,
        499 => 1,
        501 => 12,
        503 => 14,
        504 => 4,
        _ if status.is_success() => 0,
        _ if status.is_client_error() => 3,
        _ if status.is_server_error() => 13,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errors;
    use serde_json::json;

    #[test]
    fn statuses_have_codes_and_codes_have_names() {
        for (status, code_wanted, name_wanted) in [
            (200, 0, "OK"),
            (204, 0, "OK"),
            (302, 2, "Unknown"),
            (400, 3, "InvalidArgument"),
            (401, 16, "Unauthenticated"),
            (403, 7, "PermissionDenied"),
            (404, 5, "NotFound"),
            (409, 6, "AlreadyExists"),
            (415, 3, "InvalidArgument"),
            (429, 8, "ResourceExhausted"),
            (499, 1, "Canceled"),
            (500, 13, "Internal"),
            (501, 12, "Unimplemented"),
            (502, 13, "Internal"),
            (503, 14, "Unavailable"),
            (504, 4, "DeadlineExceeded"),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let found = code(status);
            assert_eq!((found, name(found)), (code_wanted, name_wanted), "{status}");
        }
    }

    #[test]
    fn plugins_answers_become_grpc_and_keep_their_text_where_it_is_theirs() {
        let told = |response: Response<Body>| {
            let headers = response.headers().clone();
            let text = |name: &str| headers[name].to_str().unwrap().to_owned();
            assert_eq!(text("content-length"), "0");
            assert_eq!(text("content-type"), "application/grpc");
            (text("grpc-status"), text("grpc-message"))
        };
        let forbidden = StatusCode::FORBIDDEN;
        let exit = errors::exit(forbidden, &json!({"message": "not for 100 % of you\n"}));
        let wanted = ("7".to_owned(), "not for 100 %25 of you%0A".to_owned());
        assert_eq!(told(of_plugin(exit)), wanted);
        let other = errors::exit(forbidden, &json!({"error": 1}));
        let wanted = ("7".to_owned(), "PermissionDenied".to_owned());
        assert_eq!(told(of_plugin(other)), wanted);
        let accept = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("text/html"))]);
        let decided = errors::respond(forbidden, "mine", &accept, "id");
        let decided = of_plugin(decided);
        assert!(decided.extensions().is_empty());
        assert_eq!(told(decided), wanted);
        let mut page = Response::new(Body::full("<p>"));
        let html = HeaderValue::from_static("text/html");
        page.headers_mut().insert(CONTENT_TYPE, html.clone());
        assert_eq!(of_plugin(page).headers()[CONTENT_TYPE], html);
    }
}
