//! Responses in the original's shape.

use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LOCATION, PRAGMA,
    RETRY_AFTER,
};
use http::{Response, StatusCode};
use o28m_net::Body;
use serde::Serialize;
use serde_json::{Value, json};

/// A response being made.
pub(crate) type Reply = Response<Body>;

/// Content type of successful protocol responses and of every error.
const JSON: &str = "application/json";
/// Content type of successful Admin REST API responses.
const ADMIN_JSON: &str = "application/json;charset=UTF-8";
/// Seconds after which an overloaded server may be asked again.
const RETRY_S: u64 = 1;

/// Headers of every response (Keycloak's defaults of `browserSecurityHeaders`).
const SECURITY: [(&str, &str); 5] = [
    ("referrer-policy", "no-referrer"),
    (
        "strict-transport-security",
        "max-age=31536000; includeSubDomains",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "SAMEORIGIN"),
    ("x-robots-tag", "none"),
];

/// Marks a page that any site may show in a frame.
#[derive(Clone, Copy)]
struct Framed;

/// Lets any site show a page in a frame.
pub(crate) fn framed(mut reply: Reply) -> Reply {
    reply.extensions_mut().insert(Framed);
    reply
}

/// Adds the security headers.
pub(crate) fn secure(mut reply: Reply) -> Reply {
    let framed = reply.extensions_mut().remove::<Framed>().is_some();
    for (name, value) in SECURITY {
        if framed && name == "x-frame-options" {
            continue;
        }
        reply.headers_mut().insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    reply
}

/// A response without a body.
pub(crate) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Body::Empty);
    *reply.status_mut() = status;
    reply
}

/// Sets a header; a value that cannot be one is left out.
pub(crate) fn with(mut reply: Reply, name: HeaderName, value: &str) -> Reply {
    if let Ok(value) = HeaderValue::from_str(value) {
        reply.headers_mut().insert(name, value);
    }
    reply
}

fn body(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Reply {
    let mut reply = Response::new(Body::full(body));
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

fn text(value: &impl Serialize) -> Vec<u8> {
    // Our bodies are plain data with text keys, which always have a JSON form.
    serde_json::to_vec(value).unwrap_or_default()
}

/// A JSON response of a protocol endpoint, or an error.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    body(status, JSON, text(value))
}

/// A successful JSON response of the Admin REST API.
pub(crate) fn admin_json(value: &impl Serialize) -> Reply {
    with(
        body(StatusCode::OK, ADMIN_JSON, text(value)),
        CACHE_CONTROL,
        "no-cache",
    )
}

/// A JSON document that clients may keep and ask again for with its tag.
pub(crate) fn tagged(value: &impl Serialize, if_none_match: Option<&str>) -> Reply {
    let bytes = text(value);
    let tag = format!("\"{}\"", o28m_core::id::hex(&digest(&bytes)));
    let same = if_none_match.is_some_and(|sent| {
        sent.split(',')
            .any(|it| it.trim().trim_start_matches("W/") == tag)
    });
    let reply = if same {
        empty(StatusCode::NOT_MODIFIED)
    } else {
        body(StatusCode::OK, JSON, bytes)
    };
    with(with(reply, ETAG, &tag), CACHE_CONTROL, "no-cache")
}

/// A name for a version of a text.
pub(crate) fn tag_of(text: &str) -> String {
    let digest = digest(text.as_bytes());
    digest
        .iter()
        .take(8)
        .map(|it| format!("{it:02x}"))
        .collect()
}

/// FNV-1a of 128 bits: tells documents apart, protects nothing.
fn digest(bytes: &[u8]) -> [u8; 16] {
    let offset = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128;
    let prime = 0x0000_0000_0100_0000_0000_0000_0000_013b_u128;
    let hash = bytes.iter().fold(offset, |hash, byte| {
        (hash ^ u128::from(*byte)).wrapping_mul(prime)
    });
    hash.to_be_bytes()
}

/// 201 with the new object's URL.
pub(crate) fn created(url: &str) -> Reply {
    with(empty(StatusCode::CREATED), LOCATION, url)
}

/// 204.
pub(crate) fn no_content() -> Reply {
    empty(StatusCode::NO_CONTENT)
}

/// 302.
pub(crate) fn redirect(url: &str) -> Reply {
    with(empty(StatusCode::FOUND), LOCATION, url)
}

/// Error with code and description.
pub(crate) fn oauth(status: StatusCode, error: &str, description: &str) -> Reply {
    json(
        status,
        &json!({"error": error, "error_description": description}),
    )
}

/// Error in prose.
pub(crate) fn prose(status: StatusCode, error: &str) -> Reply {
    json(status, &json!({"error": error}))
}

/// Error of the Admin REST API.
pub(crate) fn admin_error(status: StatusCode, message: &str) -> Reply {
    json(status, &json!({"errorMessage": message}))
}

/// Nothing is served at this path.
pub(crate) fn unknown_path() -> Reply {
    prose(
        StatusCode::NOT_FOUND,
        "Unable to find matching target resource method",
    )
}

/// The path serves other methods.
pub(crate) fn wrong_method(allowed: &str) -> Reply {
    with(
        prose(
            StatusCode::METHOD_NOT_ALLOWED,
            "HTTP 405 Method Not Allowed",
        ),
        ALLOW,
        allowed,
    )
}

/// The body has no or another content type.
pub(crate) fn wrong_content_type() -> Reply {
    let text = "The content-type header value did not match the value in @Consumes";
    prose(StatusCode::UNSUPPORTED_MEDIA_TYPE, text)
}

/// The body is larger than the limit.
pub(crate) fn too_large() -> Reply {
    oauth(
        StatusCode::PAYLOAD_TOO_LARGE,
        "invalid_request",
        "Request body is too large",
    )
}

/// Try again later.
pub(crate) fn unavailable(description: &str) -> Reply {
    let reply = oauth(
        StatusCode::SERVICE_UNAVAILABLE,
        "temporarily_unavailable",
        description,
    );
    with(reply, RETRY_AFTER, &RETRY_S.to_string())
}

/// Marks a response of an overloaded server as one to ask again for.
pub(crate) fn retry_later(reply: Reply) -> Reply {
    if reply.status() != StatusCode::SERVICE_UNAVAILABLE {
        return reply;
    }
    with(reply, RETRY_AFTER, &RETRY_S.to_string())
}

/// Headers of token responses, successful or not (RFC 6749 section 5.1).
pub(crate) fn never_stored(reply: Reply) -> Reply {
    with(with(reply, CACHE_CONTROL, "no-store"), PRAGMA, "no-cache")
}

/// An object with its members in order.
pub(crate) fn members(pairs: Vec<(&str, Value)>) -> serde_json::Map<String, Value> {
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
