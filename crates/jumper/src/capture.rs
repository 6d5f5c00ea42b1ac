//! A copy of a body that passes by.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Frame, SizeHint};
use o28m_net::{Body, BodyError};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Bytes of one body that are shown in an event.
pub(crate) const BODY_BYTES_MAX: usize = 12_582_912;
/// Bytes of all bodies that are held for events.
const TOTAL_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Types whose text is embedded as JSON.
const JSON_TYPES: [&str; 5] = [
    "application/json",
    "application/merge-patch+json",
    "application/json-patch+json",
    "application/json-patch-query+json",
    "application/problem+json",
];

/// How much memory copies may take.
pub(crate) struct Budget(Arc<Semaphore>);

impl Budget {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(TOTAL_BYTES_MAX)))
    }
}

/// Wraps `body` so that its bytes arrive at the receiver when it ends; `None` for one without
/// bytes, and for one that is too long or breaks off.
pub(crate) fn captured(
    body: Body,
    headers: &HeaderMap,
    budget: &Budget,
) -> (Body, oneshot::Receiver<Option<Bytes>>) {
    let (done, bytes) = oneshot::channel();
    let length = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<usize>().ok());
    if length.is_some_and(|length| length > BODY_BYTES_MAX) {
        return (body, bytes);
    }
    if http_body::Body::is_end_stream(&body) {
        // Nothing to copy; the receiver learns it from the sender that goes away.
        return (body, bytes);
    }
    let tee = Tee {
        body,
        copy: Some(BytesMut::new()),
        paid: None,
        budget: Arc::clone(&budget.0),
        done: Some(done),
    };
    (Body::Stream(Box::pin(tee)), bytes)
}

struct Tee {
    body: Body,
    copy: Option<BytesMut>,
    paid: Option<OwnedSemaphorePermit>,
    budget: Arc<Semaphore>,
    done: Option<oneshot::Sender<Option<Bytes>>>,
}

impl Tee {
    /// Copies a piece, or gives up and frees what was copied.
    fn copy(&mut self, piece: &Bytes) {
        let Some(copy) = &mut self.copy else { return };
        let fits = copy.len() + piece.len() <= BODY_BYTES_MAX;
        let cost = u32::try_from(piece.len()).ok().filter(|_| fits);
        let paid = cost.and_then(|cost| {
            let budget = Arc::clone(&self.budget);
            budget.try_acquire_many_owned(cost).ok()
        });
        let Some(paid) = paid else {
            self.copy = None;
            self.paid = None;
            return;
        };
        copy.extend_from_slice(piece);
        match &mut self.paid {
            Some(all) => all.merge(paid),
            None => self.paid = Some(paid),
        }
    }

    fn end(&mut self) {
        if let Some(done) = self.done.take() {
            let copy = self.copy.take().map(BytesMut::freeze);
            // Nobody waits when the process is about to end.
            drop(done.send(copy.filter(|copy| !copy.is_empty())));
        }
    }
}

impl http_body::Body for Tee {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(piece) = frame.data_ref() {
                    let piece = piece.clone();
                    self.copy(&piece);
                }
                // Who knows the length does not ask for the end.
                if self.body.is_end_stream() {
                    self.end();
                }
            }
            Poll::Ready(None) => self.end(),
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The payload of an event: JSON, text, or base64, by content type.
pub(crate) fn payload(bytes: &[u8], content_type: Option<&str>) -> Value {
    let essence = content_type.unwrap_or_default().split(';').next();
    let essence = essence.unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = JSON_TYPES.contains(&essence.as_str());
    if !is_json && !essence.starts_with("text/") && essence != "application/xml" {
        return Value::from(STANDARD.encode(bytes));
    }
    let text = String::from_utf8_lossy(bytes);
    if is_json && let Ok(value) = serde_json::from_str(&text) {
        return value;
    }
    Value::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn payloads_follow_the_content_type() {
        for (content_type, body, value) in [
            (
                Some("application/json;charset=utf-8"),
                "{\"a\":1}",
                json!({"a": 1}),
            ),
            (Some("application/json"), "{", json!("{")),
            (Some("text/plain"), "{\"a\":1}", json!("{\"a\":1}")),
            (Some("application/unknownorbinary"), "hi", json!("aGk=")),
            (None, "hi", json!("aGk=")),
        ] {
            assert_eq!(payload(body.as_bytes(), content_type), value);
        }
    }

    #[tokio::test]
    async fn a_body_is_copied_up_to_its_limits() {
        let headers = HeaderMap::new();
        let budget = Budget::new();
        let (body, copy) = captured(Body::full("hello"), &headers, &budget);
        assert_eq!(body.collect(100).await.unwrap(), "hello");
        assert_eq!(copy.await.unwrap().unwrap(), "hello");
        assert_eq!(budget.0.available_permits(), TOTAL_BYTES_MAX);

        let long = vec![0; BODY_BYTES_MAX + 1];
        let (body, copy) = captured(Body::full(long.clone()), &headers, &budget);
        assert_eq!(body.collect(long.len()).await.unwrap().len(), long.len());
        assert_eq!(copy.await.unwrap(), None);

        let (body, copy) = captured(Body::full("cut"), &headers, &budget);
        drop(body);
        assert!(copy.await.is_err());
    }
}
