//! Response bodies: read in place, or by a task while the request body is still on its way.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::Timeouts;
use super::connection::Upstream;
use super::pool::Pool;
use crate::BodyError;
use crate::incoming::Incoming;

/// A response body and the connection it comes from.
pub(super) struct Download {
    /// `None` once the body is complete, or broken.
    upstream: Option<Box<Upstream>>,
    first: Option<Frame<Bytes>>,
    timeouts: Timeouts,
    pool: Arc<Pool>,
}

impl Download {
    pub(super) fn new(
        upstream: Box<Upstream>,
        first: Option<Frame<Bytes>>,
        timeouts: Timeouts,
        pool: Arc<Pool>,
    ) -> Self {
        let mut download = Self {
            upstream: Some(upstream),
            first,
            timeouts,
            pool,
        };
        download.check_end();
        download
    }

    /// Moves the request body on while nobody reads the response; why it cannot is told to whoever
    /// reads on.
    fn drive(&mut self, context: &mut Context<'_>) -> Result<(), BodyError> {
        match &mut self.upstream {
            Some(upstream) => upstream.send(context),
            None => Ok(()),
        }
    }

    /// Frees the connection when the body is complete.
    fn check_end(&mut self) {
        let upstream = self.upstream.as_ref();
        if upstream.is_some_and(|it| it.incoming().is_ended())
            && let Some(upstream) = self.upstream.take()
        {
            upstream.release(&self.pool);
        }
    }
}

impl http_body::Body for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(frame) = this.first.take() {
            return Poll::Ready(Some(Ok(frame)));
        }
        let Some(upstream) = &mut this.upstream else {
            return Poll::Ready(None);
        };
        let next = upstream.poll_body(context, &this.timeouts);
        match &next {
            Poll::Ready(Some(Ok(_))) => this.check_end(),
            Poll::Ready(Some(Err(_)) | None) => this.upstream = None,
            Poll::Pending => {}
        }
        next
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.upstream.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().and_then(Frame::data_ref);
        let first = first.map_or(0, Bytes::len) as u64;
        let mut hint = SizeHint::new();
        hint.set_lower(first);
        let incoming = self.upstream.as_ref().map(|upstream| upstream.incoming());
        if let Some(Incoming::Length(left)) = incoming {
            hint.set_exact(first + left);
        }
        hint
    }
}

/// What the task of a [`Pumped`] body hands over; `None` is the sound end.
type Item = Option<Result<Frame<Bytes>, BodyError>>;

/// The body of a response that began before its request was sent whole. A task of its own drives the
/// connection: a client that sends everything before it reads anything would otherwise wait for us,
/// and we for it.
pub(super) struct Pumped {
    items: mpsc::Receiver<Item>,
    task: AbortHandle,
    hint: SizeHint,
    ended: bool,
}

impl Pumped {
    pub(super) fn new(download: Download) -> Self {
        let hint = download.size_hint();
        let (sender, items) = mpsc::channel(1);
        let task = tokio::spawn(pump(download, sender));
        Self {
            items,
            task: task.abort_handle(),
            hint,
            ended: false,
        }
    }
}

impl Drop for Pumped {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Owned by the body that reads from it: ends with it.
async fn pump(mut download: Download, sender: mpsc::Sender<Item>) {
    loop {
        let mut room = pin!(sender.reserve());
        let mut failed = None;
        let permit = std::future::poll_fn(|context| {
            let permit = room.as_mut().poll(context);
            if permit.is_pending() && failed.is_none() {
                failed = download.drive(context).err();
            }
            permit
        })
        .await;
        let Ok(permit) = permit else {
            return;
        };
        let item = match failed {
            Some(error) => Some(Err(error)),
            None => {
                std::future::poll_fn(|context| Pin::new(&mut download).poll_frame(context)).await
            }
        };
        let last = !matches!(item, Some(Ok(_)));
        permit.send(item);
        if last {
            return;
        }
    }
}

impl http_body::Body for Pumped {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let item = match this.items.poll_recv(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(item)) => item,
            // The task went away without an end: the body is not whole.
            Poll::Ready(None) => Some(Err(BodyError::Timeout)),
        };
        match &item {
            Some(Ok(frame)) => {
                let taken = frame.data_ref().map_or(0, Bytes::len) as u64;
                let upper = this.hint.upper();
                this.hint = SizeHint::default();
                if let Some(upper) = upper {
                    this.hint.set_upper(upper.saturating_sub(taken));
                }
            }
            Some(Err(_)) | None => this.ended = true,
        }
        Poll::Ready(item)
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}
