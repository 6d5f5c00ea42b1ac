//! request-size-limiting: refuses requests with large bodies (Kong 3.9.3).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT};
use http::{HeaderMap, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use o28m_gateway::{Access, BadConfig, Exchange, Plugin, PluginKind, Verdict};
use o28m_net::{Body, BodyError};
use serde::Deserialize;
use serde_json::Value;

use crate::{config, identity};

/// What is answered to a body that is too large, also by the gateway while it streams one.
pub(crate) const TOO_LARGE: &str = "Request size limit exceeded";

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Unit {
    Megabytes,
    Kilobytes,
    Bytes,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    allowed_payload_size: i64,
    size_unit: Unit,
    require_content_length: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            allowed_payload_size: 128,
            size_unit: Unit::Megabytes,
            require_content_length: false,
        }
    }
}

pub(crate) struct Kind;

impl PluginKind for Kind {
    fn name(&self) -> &'static str {
        "request-size-limiting"
    }

    fn is_shareable(&self) -> bool {
        true
    }

    fn priority(&self) -> i32 {
        951
    }

    fn configure(&self, config: &Value) -> Result<Arc<dyn Plugin>, BadConfig> {
        let config: Config = config::read(config)?;
        if config.allowed_payload_size < 0 {
            tracing::warn!("request-size-limiting with a negative size refuses every request");
        }
        let unit = match config.size_unit {
            Unit::Megabytes => 1 << 20,
            Unit::Kilobytes => 1 << 10,
            Unit::Bytes => 1,
        };
        Ok(Arc::new(RequestSizeLimiting {
            allowed_bytes: config.allowed_payload_size.saturating_mul(unit),
            require_content_length: config.require_content_length,
        }))
    }
}

struct RequestSizeLimiting {
    allowed_bytes: i64,
    require_content_length: bool,
}

/// What the head says of the body's size.
enum Announced {
    Bytes(u64),
    Chunked,
    Nothing,
}

fn announced(headers: &HeaderMap, body: &Body) -> Announced {
    match content_length(headers) {
        Some(length) => Announced::Bytes(length),
        // The framing headers are gone by now: a body without a length was sent in chunks.
        None if body.is_end_stream() => Announced::Nothing,
        None => body
            .size_hint()
            .exact()
            .map_or(Announced::Chunked, Announced::Bytes),
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(CONTENT_LENGTH)?;
    value.to_str().ok()?.trim().parse().ok()
}

impl RequestSizeLimiting {
    fn is_too_large(&self, length: u64) -> bool {
        i64::try_from(length).map_or(true, |length| length > self.allowed_bytes)
    }

    fn refusal(&self, exchange: &Exchange) -> Option<(StatusCode, &'static str)> {
        let headers = &exchange.request.headers;
        let too_large = match announced(headers, &exchange.body) {
            Announced::Bytes(length) => self.is_too_large(length),
            Announced::Nothing if self.require_content_length => {
                let message = "A valid Content-Length header is required";
                return Some((StatusCode::LENGTH_REQUIRED, message));
            }
            Announced::Nothing | Announced::Chunked => self.is_too_large(0),
        };
        let waits = headers
            .get(EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        match (too_large, waits) {
            (false, _) => None,
            (true, true) => Some((StatusCode::EXPECTATION_FAILED, TOO_LARGE)),
            (true, false) => Some((StatusCode::PAYLOAD_TOO_LARGE, TOO_LARGE)),
        }
    }
}

impl Plugin for RequestSizeLimiting {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        if let Some((status, message)) = self.refusal(exchange) {
            return Access::Now(Verdict::Respond(identity::error(exchange, status, message)));
        }
        if exchange.body.size_hint().exact().is_none() {
            let limit_bytes = usize::try_from(self.allowed_bytes).unwrap_or(usize::MAX);
            let inner = std::mem::take(&mut exchange.body);
            exchange.body = Body::Stream(Box::pin(Counted {
                inner,
                limit_bytes,
                left_bytes: limit_bytes,
            }));
        }
        Access::CONTINUE
    }
}

/// A body that fails with [`BodyError::TooLarge`] once more than its limit was read.
struct Counted {
    inner: Body,
    limit_bytes: usize,
    left_bytes: usize,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        let Poll::Ready(Some(Ok(frame))) = &polled else {
            return polled;
        };
        let length = frame.data_ref().map_or(0, Bytes::len);
        match self.left_bytes.checked_sub(length) {
            Some(left) => {
                self.left_bytes = left;
                polled
            }
            None => {
                // Whoever polls again finds the end, never bytes past the limit.
                self.inner = Body::Empty;
                Poll::Ready(Some(Err(BodyError::TooLarge {
                    limit_bytes: self.limit_bytes,
                })))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use o28m_net::TooLarge;
    use serde_json::json;

    use super::*;
    use crate::testing::{exchange, outcome};

    /// A body of unknown length, such as a chunked one.
    struct Chunks(Vec<&'static [u8]>);

    impl http_body::Body for Chunks {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            let chunk = self.0.pop();
            Poll::Ready(chunk.map(|chunk| Ok(Frame::data(Bytes::from_static(chunk)))))
        }
    }

    fn chunked(chunks: &[&'static [u8]]) -> Exchange {
        let body = Body::Stream(Box::pin(Chunks(chunks.iter().rev().copied().collect())));
        exchange(Request::post("/").body(body).unwrap())
    }

    fn plugin(config: &Value) -> Arc<dyn Plugin> {
        Kind.configure(config).unwrap()
    }

    async fn status(config: Value, mut exchange: Exchange) -> u16 {
        outcome(plugin(&config).as_ref(), &mut exchange).await.0
    }

    fn announced(length: u64) -> http::request::Builder {
        Request::post("/").header("content-length", length)
    }

    #[tokio::test]
    async fn plugins_case_053_announced_lengths() {
        const MEGABYTE: u64 = 1 << 20;
        let config = json!({"allowed_payload_size": 1, "size_unit": "megabytes"});
        let plain = |length| exchange(announced(length).body(Body::Empty).unwrap());
        assert_eq!(status(config.clone(), plain(MEGABYTE)).await, 0);
        let mut over = plain(MEGABYTE + 1);
        let (code, body) = outcome(plugin(&config).as_ref(), &mut over).await;
        assert_eq!(code, 413);
        assert!(
            body.contains("\"message\":\"Request size limit exceeded\""),
            "{body}"
        );
        let waiting = announced(MEGABYTE + 1).header("expect", "100-Continue");
        let waiting = exchange(waiting.body(Body::Empty).unwrap());
        assert_eq!(status(config, waiting).await, 417);
    }

    #[tokio::test]
    async fn plugins_case_053_chunked_bodies_are_counted_while_they_stream() {
        let config = json!({"allowed_payload_size": 4, "size_unit": "bytes"});
        let mut fits = chunked(&[b"ab", b"cd"]);
        assert_eq!(outcome(plugin(&config).as_ref(), &mut fits).await.0, 0);
        assert_eq!(fits.body.collect(100).await.unwrap(), "abcd");
        let mut over = chunked(&[b"ab", b"cd", b"e"]);
        assert_eq!(outcome(plugin(&config).as_ref(), &mut over).await.0, 0);
        let error = over.body.collect(100).await.unwrap_err();
        let limit = matches!(
            error,
            TooLarge::Read(BodyError::TooLarge { limit_bytes: 4 })
        );
        assert!(limit, "{error:?}");
    }

    #[tokio::test]
    async fn plugins_case_053_a_length_can_be_required() {
        let config = json!({"require_content_length": true});
        let empty = exchange(Request::get("/").body(Body::Empty).unwrap());
        assert_eq!(status(config.clone(), empty).await, 411);
        assert_eq!(status(config, chunked(&[b"ab"])).await, 0);
    }

    #[tokio::test]
    async fn units_and_odd_sizes() {
        let plain = |length| exchange(announced(length).body(Body::Empty).unwrap());
        let kilobytes = json!({"allowed_payload_size": 1, "size_unit": "kilobytes"});
        assert_eq!(status(kilobytes.clone(), plain(1024)).await, 0);
        assert_eq!(status(kilobytes, plain(1025)).await, 413);
        let negative = json!({"allowed_payload_size": -1, "size_unit": "bytes"});
        assert_eq!(status(negative, plain(0)).await, 413);
        let huge = json!({"allowed_payload_size": i64::MAX});
        assert_eq!(status(huge, plain(u64::MAX / 4)).await, 0);
        assert!(Kind.configure(&json!({"size_unit": "gigabytes"})).is_err());
    }
}
