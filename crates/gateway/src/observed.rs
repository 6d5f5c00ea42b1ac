//! What the gateway notes of a request for those who log, count or trace it. Only what costs next to
//! nothing is noted always; the rest when an instance asks for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Version};
use http_body::{Body as _, Frame, SizeHint};
use o28m_net::{Body, BodyError};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Moments and sizes of one request.
#[derive(Debug)]
pub struct Observed {
    /// The head was complete.
    pub begun: Instant,
    /// The last attempt to reach the upstream; known from header_filter on.
    pub upstream: Option<Attempt>,
    /// Set by a plugin in its access phase: what follows is noted too.
    pub closely: bool,
    /// The access phases were over.
    pub access_ended: Option<Instant>,
    /// The response head was ready.
    pub head_ended: Option<Instant>,
    /// Each attempt to reach the upstream with where it went, oldest first. Those that ended with a
    /// status have it at the same place of `Exchange::upstream_statuses`.
    pub tries: Vec<Try>,
    /// Path and query of the upstream request.
    pub upstream_uri: Option<String>,
    /// Set by a plugin in header_filter: the head of the response is kept as the client gets it.
    pub wants_head: bool,
    /// That head's headers.
    pub response_headers: Option<Box<HeaderMap>>,
    traffic: Option<Box<Traffic>>,
}

/// Times of an attempt to reach the upstream.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// The peer was selected.
    pub begun: Instant,
    /// The response head arrived, or the attempt failed.
    pub ended: Instant,
}

/// An attempt and where it went.
#[derive(Clone, Debug)]
pub struct Try {
    /// Address or name.
    pub host: Arc<str>,
    /// TCP port.
    pub port: u16,
    /// When.
    pub attempt: Attempt,
}

/// Bytes between client and gateway, without those of TLS.
#[derive(Debug, Default)]
struct Traffic {
    request: u64,
    /// Of a body whose length was not announced.
    streamed: Option<Arc<AtomicU64>>,
    response: u64,
    /// Those of `response` that are its body.
    response_body: u64,
}

impl Observed {
    pub(crate) fn new() -> Self {
        Self {
            begun: Instant::now(),
            upstream: None,
            closely: false,
            access_ended: None,
            head_ended: None,
            tries: Vec::new(),
            upstream_uri: None,
            wants_head: false,
            response_headers: None,
            traffic: None,
        }
    }

    /// Bytes of the request and of the response: heads and bodies as far as they went. `None` unless
    /// an instance needs them, see [`crate::Needs`].
    #[must_use]
    pub fn traffic(&self) -> Option<(u64, u64)> {
        let traffic = self.traffic.as_ref()?;
        let streamed = traffic.streamed.as_ref();
        let streamed = streamed.map_or(0, |it| it.load(Ordering::Relaxed));
        Some((traffic.request + streamed, traffic.response))
    }

    /// Bytes of the response's body as far as they went; 0 unless they are counted.
    pub(crate) fn response_body_bytes(&self) -> u64 {
        self.traffic.as_ref().map_or(0, |it| it.response_body)
    }

    pub(crate) fn is_counting(&self) -> bool {
        self.traffic.is_some()
    }

    /// Begins to count; the body counts itself if it has to.
    pub(crate) fn count_request(&mut self, head: &http::request::Parts, body: &mut Body) {
        let line = head.method.as_str().len() + uri_length(&head.uri);
        let line = line + " HTTP/1.1\r\n ".len();
        let mut traffic = Traffic {
            request: (line + fields_length(&head.headers)) as u64,
            ..Traffic::default()
        };
        match body.size_hint().exact() {
            Some(length) => traffic.request += length,
            None => {
                let count = Arc::new(AtomicU64::new(0));
                let inner = std::mem::take(body);
                *body = Body::Stream(Box::pin(Counted {
                    inner,
                    count: count.clone(),
                }));
                traffic.streamed = Some(count);
            }
        }
        self.traffic = Some(Box::new(traffic));
    }

    /// Counts the response head, and a body that is there already.
    pub(crate) fn count_response(&mut self, head: &http::response::Parts, body: &Body) {
        let Some(traffic) = &mut self.traffic else {
            return;
        };
        let version = if head.version == Version::HTTP_10 {
            "HTTP/1.0"
        } else {
            "HTTP/1.1"
        };
        let reason = head.status.canonical_reason().unwrap_or_default();
        let line = version.len() + " 200 \r\n".len() + reason.len();
        traffic.response += (line + fields_length(&head.headers)) as u64;
        if let Body::Full(Some(bytes)) = body {
            traffic.response += bytes.len() as u64;
            traffic.response_body += bytes.len() as u64;
        }
    }

    /// Counts a piece of a response body.
    pub(crate) fn count_piece(&mut self, length: usize) {
        if let Some(traffic) = &mut self.traffic {
            traffic.response += length as u64;
            traffic.response_body += length as u64;
        }
    }
}

/// Bytes of the target in its usual form; written nowhere.
fn uri_length(uri: &http::Uri) -> usize {
    let target = uri.path_and_query();
    target.map_or(1, |it| it.as_str().len())
}

/// Bytes of header lines and of the empty line.
fn fields_length(headers: &HeaderMap) -> usize {
    let lines = headers.iter();
    let lines = lines.map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    lines.sum::<usize>() + "\r\n".len()
}

/// A body that counts its bytes.
struct Counted {
    inner: Body,
    count: Arc<AtomicU64>,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(bytes) = frame.data_ref()
        {
            self.count.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
