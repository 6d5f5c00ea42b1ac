//! The stream under the library: timed, metered, and closed so that the peer can read the last frame.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::meter::Meter;
use crate::timer::Timer;
use crate::transport::Transport;

/// How long unread bytes are taken in after the last frame.
const LINGER: Duration = Duration::from_secs(2);
/// Bytes taken in meanwhile.
const LINGER_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes read at once meanwhile.
const LINGER_READ_BYTES: usize = 64 * 1024;

/// What the wire and whoever serves the connection tell each other.
#[derive(Default)]
pub(super) struct Signals {
    flooded: AtomicBool,
    /// Frames of content sent since the meter looked.
    sent: AtomicU32,
}

impl Signals {
    /// The client went over its budget: nothing more is read of it.
    pub(super) fn is_flooded(&self) -> bool {
        self.flooded.load(Ordering::Relaxed)
    }

    /// A frame of content goes out.
    pub(super) fn count_sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }
}

/// How long a peer may take.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    /// For a whole header block.
    pub(super) head: Duration,
    /// Between two writes.
    pub(super) write: Duration,
}

/// A metered stream.
pub(super) struct Wire {
    transport: Transport,
    /// Read before HTTP/2 was known to be spoken.
    ahead: BytesMut,
    patience: Patience,
    /// Of clients.
    metered: Option<(Meter, Arc<Signals>)>,
    head: Option<Timer>,
    stall: Option<Timer>,
    /// Since our end was closed, with the bytes that came after it.
    closing: Option<(Timer, usize)>,
}

impl Wire {
    /// The stream of a client; `ahead` was read of it already.
    pub(super) fn of_client(
        transport: Transport,
        ahead: BytesMut,
        patience: Patience,
        signals: Arc<Signals>,
    ) -> Self {
        Self {
            transport,
            ahead,
            patience,
            metered: Some((Meter::new(Instant::now()), signals)),
            head: None,
            stall: None,
            closing: None,
        }
    }

    /// The stream of an upstream.
    pub(super) fn of_upstream(transport: Transport, patience: Patience) -> Self {
        Self {
            transport,
            ahead: BytesMut::new(),
            patience,
            metered: None,
            head: None,
            stall: None,
            closing: None,
        }
    }

    fn poll_bytes(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.transport).poll_read(context, buffer);
        }
        let count = self.ahead.len().min(buffer.remaining());
        buffer.put_slice(self.ahead.get(..count).unwrap_or_default());
        self.ahead.advance(count);
        if self.ahead.is_empty() {
            self.ahead = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Fails when a header block that has begun does not come to its end.
    fn check_head(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let in_head = self.metered.as_ref().is_some_and(|(it, _)| it.is_in_head());
        if !in_head {
            self.head = None;
            return Poll::Pending;
        }
        let patience = self.patience.head;
        let timer = self.head.get_or_insert_with(|| Timer::new(patience));
        if timer.is_due(context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }

    /// Fails a write that waits for too long.
    fn timed<T>(
        &mut self,
        context: &mut Context<'_>,
        writing: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if writing.is_ready() {
            self.stall = None;
            return writing;
        }
        let patience = self.patience.write;
        let timer = self.stall.get_or_insert_with(|| Timer::new(patience));
        if timer.is_due(context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // The connection's task looks at the flag and closes.
        if this.metered.as_ref().is_some_and(|(_, it)| it.is_flooded()) {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        if this.poll_bytes(context, buffer)?.is_pending() {
            return this.check_head(context);
        }
        let Some((meter, signals)) = &mut this.metered else {
            return Poll::Ready(Ok(()));
        };
        meter.sent(signals.sent.swap(0, Ordering::Relaxed));
        let bytes = buffer.filled().get(before..).unwrap_or_default();
        if meter.take(bytes, Instant::now()).is_err() {
            signals.flooded.store(true, Ordering::Relaxed);
            buffer.set_filled(before);
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if !meter.is_in_head() {
            this.head = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let writing = Pin::new(&mut this.transport).poll_write(context, bytes);
        this.timed(context, writing)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let writing = Pin::new(&mut this.transport).poll_write_vectored(context, slices);
        this.timed(context, writing)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushing = Pin::new(&mut this.transport).poll_flush(context);
        this.timed(context, flushing)
    }

    /// Closes our end, and of a client takes in for a while what it still sends: closing over unread
    /// bytes would destroy the last frames on their way.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.closing.is_none() {
            let closing = Pin::new(&mut this.transport).poll_shutdown(context);
            ready!(this.timed(context, closing))?;
        }
        if this.metered.is_none() {
            return Poll::Ready(Ok(()));
        }
        let (timer, taken) = this.closing.get_or_insert_with(|| (Timer::new(LINGER), 0));
        while *taken < LINGER_BYTES_MAX {
            let reading = this
                .transport
                .poll_read_with(context, LINGER_READ_BYTES, <[u8]>::len);
            match reading {
                Poll::Ready(Ok(count @ 1..)) => *taken += count,
                Poll::Ready(Ok(_) | Err(_)) => break,
                Poll::Pending if timer.is_due(context) => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }
}
