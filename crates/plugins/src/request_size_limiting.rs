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
