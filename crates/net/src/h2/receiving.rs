//! Bodies that are read from a stream, in either direction.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::h2::RecvStream;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::broken;
use super::early::Early;
use crate::timer::Timer;
use crate::{Body, BodyError};

/// What is still to come of a message on a stream.
pub(super) struct Receiving {
    stream: RecvStream,
    /// Came with the head.
    first: Option<Bytes>,
    /// Bytes to come, where they were announced; the library holds the peer to them.
    left: Option<u64>,
    ended: bool,
    /// How long the peer may take for the next piece.
    patience: Duration,
    timer: Option<Timer>,
}

impl Receiving {
    /// The body on `stream`: in memory where all of it is there already.
    pub(super) fn begin(
        stream: RecvStream,
        length: Option<u64>,
        patience: Duration,
    ) -> Result<Self, Body> {
        if stream.is_end_stream() {
            return Err(Body::Empty);
        }
        let mut receiving = Self {
            first: None,
            left: length,
            ended: false,
            patience,
            timer: None,
            stream,
        };
        let mut context = Context::from_waker(std::task::Waker::noop());
        // What is wrong is found again by whoever reads on.
        if let Poll::Ready(Some(Ok(bytes))) = receiving.stream.poll_data(&mut context) {
            receiving.taken(&bytes);
            if receiving.stream.is_end_stream() {
                return Err(Body::full(bytes));
            }
            receiving.first = Some(bytes);
        }
        Ok(receiving)
    }

    /// The peer may send as much again.
    fn taken(&mut self, bytes: &Bytes) {
        // Fails on a stream that is over, where nothing more is sent anyway.
        drop(self.stream.flow_control().release_capacity(bytes.len()));
    }

    /// The next piece, if there is one; who waits for it says so by [`Receiving::wait`].
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let next = self.poll_next(context);
        if next.is_ready() {
            self.timer = None;
        }
        next
    }

    /// Fails when the peer, which is all that is waited for, takes too long.
    pub(super) fn wait(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let patience = self.patience;
        let timer = self.timer.get_or_insert_with(|| Timer::new(patience));
        if timer.is_due(context) {
            return Poll::Ready(Some(Err(BodyError::Timeout)));
        }
        Poll::Pending
    }

    /// Something else than the peer is waited for.
    pub(super) fn pause(&mut self) {
        self.timer = None;
    }

    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let data = match self.first.take() {
            Some(first) => Some(Ok(first)),
            None => {
                let data = ready!(self.stream.poll_data(context));
                if let Some(Ok(bytes)) = &data {
                    self.taken(bytes);
                }
                data
            }
        };
        match data {
            Some(Ok(bytes)) => {
                self.left = self
                    .left
                    .map(|left| left.saturating_sub(bytes.len() as u64));
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            Some(Err(error)) => {
                self.ended = true;
                return Poll::Ready(Some(Err(broken(error))));
            }
            None => {}
        }
        let trailers = ready!(self.stream.poll_trailers(context));
        self.ended = true;
        match trailers {
            Ok(Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Ok(None) => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(broken(error)))),
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.ended || (self.first.is_none() && self.stream.is_end_stream())
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match self.left {
            _ if self.is_end_stream() => SizeHint::with_exact(0),
            Some(left) => SizeHint::with_exact(left),
            None => SizeHint::default(),
        }
    }
}

/// The body of a client's request; every read is timed.
pub(super) struct RequestBody {
    receiving: Receiving,
    /// The client is told to send its body once that is waited for.
    expected: Option<Arc<Early>>,
}

impl RequestBody {
    pub(super) fn new(receiving: Receiving, expected: Option<Arc<Early>>) -> Self {
        Self {
            receiving,
            expected,
        }
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let next = this.receiving.poll(context);
        if next.is_ready() {
            this.expected = None;
            return next;
        }
        if let Some(expected) = this.expected.take() {
            expected.ask_for_body();
        }
        this.receiving.wait(context)
    }

    fn is_end_stream(&self) -> bool {
        self.receiving.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.receiving.size_hint()
    }
}
