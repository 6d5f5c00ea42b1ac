//! The head of a response, and how its body is told (RFC 9110 section 6.4, RFC 9112 section 6).

use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::response::Parts;
use http::{HeaderMap, Response, StatusCode};
use http_body::Body as _;

use super::date;
use crate::Body;
use crate::outgoing::{Coding, Outgoing, push_decimal};
use crate::spelling::{push_fields, reclaim};
use crate::transport::spare;

/// What the request says of its response.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    /// HTTP/1.1, not 1.0.
    pub(super) version_11: bool,
    /// `HEAD`: no body.
    pub(super) bodyless: bool,
    /// Another request may follow.
    pub(super) keep_alive: bool,
    /// Trailers are welcome.
    pub(super) trailers: bool,
}

/// A response on its way, from its head on; `true` when the connection may serve another request
/// behind it.
pub(super) fn outgoing(response: Response<Body>, asked: Asked) -> (Outgoing, bool) {
    let (parts, body) = response.into_parts();
    let bodyless = asked.bodyless || has_no_body(parts.status);
    let length = body.size_hint().exact();
    // What the head states counts where the body does not know, and for a head alone.
    let stated = match length {
        Some(_) if !bodyless => None,
        _ => stated(&parts.headers),
    };
    let coding = match length.or(stated) {
        _ if bodyless => Coding::Length(0),
        Some(length) => Coding::Length(length),
        None if asked.version_11 => Coding::Chunked {
            open: false,
            trailers: asked.trailers,
        },
        None => Coding::Close,
    };
    let closes = closes(&parts.headers);
    let keep = asked.keep_alive
        && !closes
        && !matches!(coding, Coding::Close)
        && parts.status != StatusCode::SWITCHING_PROTOCOLS;
    let mut out = spare::take();
    push_head(&mut out, &parts, asked.version_11);
    // A switch of protocols and a service that closes say so themselves.
    if !closes && parts.status != StatusCode::SWITCHING_PROTOCOLS {
        push_connection(&mut out, asked.version_11, keep);
    }
    match coding {
        _ if bodyless => {
            // A head alone may tell how long the body would be.
            let told = stated.or(length.filter(|length| *length > 0));
            if let Some(length) = told.filter(|_| may_tell_length(parts.status)) {
                push_length(&mut out, length);
            }
        }
        Coding::Length(length) => push_length(&mut out, length),
        Coding::Chunked { .. } => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Coding::Close => {}
    }
    out.extend_from_slice(b"\r\n");
    reclaim(parts.extensions);
    let body = if bodyless { Body::Empty } else { body };
    (Outgoing::new(out, coding, body), keep)
}

/// The head of a response as it is sent.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn printed(response: Response<Body>, bodyless: bool, version_11: bool) -> Vec<u8> {
    let asked = Asked {
        version_11,
        bodyless,
        keep_alive: true,
        trailers: false,
    };
    outgoing(response, asked).0.head().to_vec()
}

fn push_head(out: &mut Vec<u8>, parts: &Parts, version_11: bool) {
    let version: &[u8] = if version_11 {
        b"HTTP/1.1 "
    } else {
        b"HTTP/1.0 "
    };
    out.extend_from_slice(version);
    out.extend_from_slice(parts.status.as_str().as_bytes());
    out.push(b' ');
    let reason = parts.status.canonical_reason().unwrap_or_default();
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
    let mut dated = parts.status.is_informational();
    push_fields(out, &parts.headers, &parts.extensions, |name| {
        dated |= *name == DATE;
        *name != CONTENT_LENGTH && *name != TRANSFER_ENCODING
    });
    if !dated {
        date::push(out);
    }
}

/// Tells what the version does not.
fn push_connection(out: &mut Vec<u8>, version_11: bool, keep: bool) {
    if !keep {
        out.extend_from_slice(b"Connection: close\r\n");
    } else if !version_11 {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
}

fn push_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"Content-Length: ");
    push_decimal(out, length);
    out.extend_from_slice(b"\r\n");
}

fn has_no_body(status: StatusCode) -> bool {
    status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// RFC 9110 section 8.6.
fn may_tell_length(status: StatusCode) -> bool {
    !status.is_informational() && status != StatusCode::NO_CONTENT
}

fn stated(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn closes(headers: &HeaderMap) -> bool {
    let values = headers.get_all(CONNECTION).iter();
    values
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"close"))
}
