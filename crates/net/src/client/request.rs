//! The head of a request, and how its body is told.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, Method};
use http_body::Body as _;

use crate::Body;
use crate::outgoing::{Coding, Outgoing, push_decimal, push_field};

/// Room for most heads.
const HEAD_BYTES: usize = 1024;

/// A request on its way, from its head on. Trailers of requests are not sent, as at nginx.
pub(super) fn outgoing(parts: &Parts, body: Body) -> Outgoing {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    let coding = write_head(&mut head, parts, &body);
    Outgoing::new(head, coding, body)
}

/// Writes the head with the field that frames the body.
fn write_head(out: &mut Vec<u8>, parts: &Parts, body: &Body) -> Coding {
    out.extend_from_slice(parts.method.as_str().as_bytes());
    out.push(b' ');
    let target = parts.uri.path_and_query().map_or("/", |it| it.as_str());
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in &parts.headers {
        if *name != CONTENT_LENGTH && *name != TRANSFER_ENCODING {
            push_field(out, name, value);
        }
    }
    let length = body.size_hint().exact().or_else(|| stated(&parts.headers));
    match length {
        Some(0) if !expects_body(&parts.method) => {}
        Some(length) => {
            out.extend_from_slice(b"content-length: ");
            push_decimal(out, length);
            out.extend_from_slice(b"\r\n");
        }
        None => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    out.extend_from_slice(b"\r\n");
    length.map_or(Coding::CHUNKED, Coding::Length)
}

/// The length that the request states of a body that does not know its own.
fn stated(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(CONTENT_LENGTH)?.to_str().ok()?;
    value.parse().ok()
}

/// Methods whose missing body is worth a word (RFC 9110 section 8.6).
fn expects_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}
