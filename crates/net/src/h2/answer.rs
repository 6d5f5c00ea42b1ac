//! The head of a response on a stream, and what follows it.

use ::h2::SendStream;
use ::h2::server::SendResponse;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, DATE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version};
use http_body::Body as _;

use crate::Body;
use crate::server::date;

/// Fields of a connection, which a stream is not (RFC 9113 section 8.2.2).
const OF_CONNECTION: [HeaderName; 5] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    UPGRADE,
];

/// What the request says of its response.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    /// `HEAD`: no body.
    pub(super) bodyless: bool,
    /// Trailers are welcome.
    pub(super) trailers: bool,
}

/// What is still to be sent behind a head.
pub(super) struct Rest {
    pub(super) stream: SendStream<Bytes>,
    pub(super) body: Body,
    pub(super) length: Option<u64>,
    pub(super) trailers: bool,
}

/// Sends the head; what follows it, if anything does.
pub(super) fn begin(
    response: Response<Body>,
    asked: Asked,
    respond: &mut SendResponse<Bytes>,
) -> Result<Option<Rest>, ::h2::Error> {
    let (mut parts, body) = response.into_parts();
    let bodyless = asked.bodyless || has_no_body(parts.status);
    parts.version = Version::HTTP_2;
    strip_connection(&mut parts.headers);
    let stated = stated(&parts.headers);
    let length = body.size_hint().exact();
    let told = match length {
        _ if bodyless => stated.or(length.filter(|it| *it > 0)),
        // An empty body needs no length: the head ends the stream.
        Some(0) => stated.map(|_| 0),
        known => known.or(stated),
    };
    parts.headers.remove(CONTENT_LENGTH);
    if let Some(told) = told.filter(|_| parts.status != StatusCode::NO_CONTENT) {
        parts
            .headers
            .insert(CONTENT_LENGTH, HeaderValue::from(told));
    }
    if !parts.headers.contains_key(DATE)
        && let Ok(now) = date::with(HeaderValue::from_str)
    {
        parts.headers.insert(DATE, now);
    }
    let trailers = asked.trailers || is_grpc(&parts.headers);
    let ended = bodyless || body.is_end_stream();
    let stream = respond.send_response(Response::from_parts(parts, ()), ended)?;
    Ok((!ended).then_some(Rest {
        stream,
        body,
        length: length.or(stated),
        trailers,
    }))
}

/// Removes what a stream must not have.
pub(super) fn strip_connection(headers: &mut HeaderMap) {
    for name in &OF_CONNECTION {
        headers.remove(name);
    }
}

/// Trailers are what a gRPC call ends with, whether they were asked for or not.
fn is_grpc(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE);
    value.is_some_and(|it| it.as_bytes().starts_with(b"application/grpc"))
}

fn has_no_body(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

fn stated(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
