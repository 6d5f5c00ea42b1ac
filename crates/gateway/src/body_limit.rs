//! The limit of request bodies (nginx `client_max_body_size`).

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use o28m_net::{Body, BodyError};

/// Whether a body may be read: one that says it is longer may not, and one that does not say fails
/// where it becomes too long.
pub(crate) fn limit(body: &mut Body, limit_bytes: u64) -> bool {
    if let Some(length) = body.size_hint().exact() {
        return length <= limit_bytes;
    }
    let inner = std::mem::take(body);
    *body = Body::Stream(Box::pin(Limited {
        inner,
        left: limit_bytes,
        limit_bytes,
    }));
    true
}

/// A body that fails where it becomes too long.
struct Limited {
    inner: Body,
    left: u64,
    limit_bytes: u64,
}

impl http_body::Body for Limited {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = ready!(Pin::new(&mut self.inner).poll_frame(context));
        if let Some(Ok(frame)) = &polled {
            let length = frame.data_ref().map_or(0, Bytes::len) as u64;
            let Some(left) = self.left.checked_sub(length) else {
                let limit_bytes = usize::try_from(self.limit_bytes).unwrap_or(usize::MAX);
                return Poll::Ready(Some(Err(BodyError::TooLarge { limit_bytes })));
            };
            self.left = left;
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
