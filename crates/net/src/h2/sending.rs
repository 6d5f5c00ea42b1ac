//! Bodies that are written to a stream, in either direction.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::h2::SendStream;
use bytes::Bytes;
use http_body::Body as _;

use super::SEND_BUFFER_BYTES;
use super::wire::Signals;
use crate::outgoing::may_trail;
use crate::timer::Timer;
use crate::{Body, BodyError};

/// A frame of content that is smaller than this, and not because there is no more, is no progress.
const WORTH_BYTES: usize = 64;

/// Why a message was not sent whole.
#[derive(Debug)]
pub(super) enum Stopped {
    /// Its body failed.
    Body(BodyError),
    /// The peer took nothing for too long.
    Timeout,
    /// The peer, or the connection, ended the stream.
    Reset(::h2::Error),
}

/// What a message waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Nothing: it is sent.
    Done,
    /// The source of its body.
    Body,
    /// The peer.
    Peer,
}

/// A body on its way.
pub(super) struct Sending {
    stream: SendStream<Bytes>,
    body: Body,
    /// Taken from the body and not sent.
    piece: Bytes,
    /// Bytes to come, where they were announced.
    left: Option<u64>,
    /// The peer takes trailers.
    trailers: bool,
    /// Something was taken from the body.
    touched: bool,
    wait: Wait,
    patience: Duration,
    timer: Option<Timer>,
    /// Of the client that gets it.
    signals: Option<Arc<Signals>>,
}

impl Sending {
    pub(super) fn new(
        stream: SendStream<Bytes>,
        body: Body,
        left: Option<u64>,
        trailers: bool,
        patience: Duration,
    ) -> Self {
        Self {
            stream,
            body,
            piece: Bytes::new(),
            left,
            trailers,
            touched: false,
            wait: Wait::Body,
            patience,
            timer: None,
            signals: None,
        }
    }

    /// Frames of content count for this client.
    pub(super) fn count_for(mut self, signals: &Arc<Signals>) -> Self {
        self.signals = Some(signals.clone());
        self
    }

    /// What the last call waited for.
    pub(super) fn wait(&self) -> Wait {
        self.wait
    }

    /// The body again, when nothing was taken from it.
    pub(super) fn into_untouched(self) -> Option<Body> {
        (!self.touched).then_some(self.body)
    }

    /// Ends the stream without an end of the message.
    pub(super) fn give_up(&mut self, reason: ::h2::Reason) {
        self.stream.send_reset(reason);
    }

    /// Moves on until somebody blocks; `Ready` when the message is through.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        loop {
            if self.wait == Wait::Done {
                return Poll::Ready(Ok(()));
            }
            if !self.piece.is_empty() {
                match self.poll_piece(context) {
                    Poll::Ready(Ok(())) => continue,
                    Poll::Ready(Err(stopped)) => return Poll::Ready(Err(stopped)),
                    Poll::Pending => {}
                }
                self.wait = Wait::Peer;
                let patience = self.patience;
                let timer = self.timer.get_or_insert_with(|| Timer::new(patience));
                if timer.is_due(context) {
                    return Poll::Ready(Err(Stopped::Timeout));
                }
                return Poll::Pending;
            }
            self.wait = Wait::Body;
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.touched = true;
                    match frame.into_data() {
                        Ok(bytes) => self.begin_piece(bytes)?,
                        Err(frame) => self.end(frame.into_trailers().ok())?,
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    self.touched = true;
                    return Poll::Ready(Err(Stopped::Body(error)));
                }
                Poll::Ready(None) => self.end(None)?,
                Poll::Pending => return self.poll_reset(context),
            }
        }
    }

    /// Whether the peer ended the stream meanwhile.
    fn poll_reset(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        match self.stream.poll_reset(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(reason)) => Poll::Ready(Err(Stopped::Reset(reason.into()))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(Stopped::Reset(error))),
        }
    }

    fn begin_piece(&mut self, bytes: Bytes) -> Result<(), Stopped> {
        if let Some(left) = &mut self.left {
            *left = left
                .checked_sub(bytes.len() as u64)
                .ok_or_else(|| wrong_length("longer"))?;
        }
        self.piece = bytes;
        Ok(())
    }

    /// Sends as much of the piece as the peer takes.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        self.stream
            .reserve_capacity(self.piece.len().min(SEND_BUFFER_BYTES));
        let mut room = self.stream.capacity();
        if room == 0 {
            match self.stream.poll_capacity(context) {
                Poll::Ready(Some(Ok(granted))) => room = granted,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(Stopped::Reset(error))),
                Poll::Ready(None) => {
                    let gone = io::Error::from(io::ErrorKind::BrokenPipe);
                    return Poll::Ready(Err(Stopped::Body(BodyError::Broken(gone))));
                }
                Poll::Pending => return self.poll_reset(context),
            }
        }
        let length = room.min(self.piece.len());
        if length == 0 {
            return Poll::Pending;
        }
        let bytes = self.piece.split_to(length);
        let whole = self.piece.is_empty();
        let last = whole && self.body.is_end_stream() && self.left.is_none_or(|it| it == 0);
        self.timer = None;
        if let Some(signals) = self
            .signals
            .as_ref()
            .filter(|_| whole || length >= WORTH_BYTES)
        {
            signals.count_sent();
        }
        self.stream.send_data(bytes, last).map_err(Stopped::Reset)?;
        if last {
            self.finished();
        }
        Poll::Ready(Ok(()))
    }

    /// Ends the message.
    fn end(&mut self, trailers: Option<http::HeaderMap>) -> Result<(), Stopped> {
        if self.left.is_some_and(|it| it > 0) {
            return Err(wrong_length("shorter"));
        }
        let mut fields = trailers.filter(|_| self.trailers).unwrap_or_default();
        let doomed: Vec<_> = fields.keys().filter(|it| !may_trail(it)).cloned().collect();
        for name in doomed {
            fields.remove(name);
        }
        let sent = if fields.is_empty() {
            self.stream.send_data(Bytes::new(), true)
        } else {
            self.stream.send_trailers(fields)
        };
        sent.map_err(Stopped::Reset)?;
        self.finished();
        Ok(())
    }

    fn finished(&mut self) {
        self.wait = Wait::Done;
        self.body = Body::Empty;
    }
}

fn wrong_length(how: &str) -> Stopped {
    let message = format!("message body is {how} than its Content-Length");
    Stopped::Body(BodyError::Broken(io::Error::new(
        io::ErrorKind::InvalidData,
        message,
    )))
}
