//! The stream of one client connection, and the request body that is read from it.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body::{Frame, SizeHint};
use tokio::io::AsyncWrite as _;

use crate::incoming::{Incoming, Next};
use crate::spelling::push_field;
use crate::timer::Timer;
use crate::transport::Transport;
use crate::{BodyError, Interim};

/// Bytes asked for at once.
const READ_BYTES_MAX: usize = 64 * 1024;
/// Bytes read ahead while a request is served.
const AHEAD_BYTES_MAX: usize = 16 * 1024;
/// Bytes of an unread body that are thrown away to keep a connection.
const DISCARD_BYTES_MAX: usize = 256 * 1024;
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// Interim responses of one request that are passed on.
const INTERIM_MAX: u8 = 8;
/// Bytes of interim responses that wait for the client.
const INTERIM_BYTES_MAX: usize = 16 * 1024;

/// Shared by the connection and the body of the request it serves, which a service may hand to another
/// task. Nothing is called while it is locked.
pub(super) type SharedStream = Arc<Mutex<Stream>>;

/// A client's stream.
pub(super) struct Stream {
    /// Gone once the connection leaves HTTP or ends.
    transport: Option<Transport>,
    /// Read and not used.
    pub(super) input: BytesMut,
    /// What is still to come of the request's body.
    pub(super) incoming: Incoming,
    /// The client finished sending.
    pub(super) finished: bool,
    /// The request's body did not come as it should: nobody can tell where the next request begins.
    pub(super) astray: bool,
    /// Requests so far: the body of a former one reads nothing any more.
    requests: u64,
    /// The client sends its body when it is told to.
    expects: bool,
    /// What is left to write of interim responses; the first of them may be begun.
    interim: BytesMut,
    /// Interim responses that may still be passed on to this request.
    interim_left: u8,
}

impl Stream {
    pub(super) fn new(transport: Transport) -> SharedStream {
        Arc::new(Mutex::new(Self {
            transport: Some(transport),
            input: BytesMut::new(),
            incoming: Incoming::Ended,
            finished: false,
            astray: false,
            requests: 0,
            expects: false,
            interim: BytesMut::new(),
            interim_left: 0,
        }))
    }

    /// A request with a body that is not read yet.
    pub(super) fn begin(&mut self, incoming: Incoming, expects_continue: bool) {
        self.requests += 1;
        self.incoming = incoming;
        self.expects = expects_continue;
        self.interim_left = INTERIM_MAX;
    }

    /// The response begins: nobody is asked for a body any more, and interim responses are over.
    pub(super) fn answer(&mut self) -> Result<&mut Transport, io::Error> {
        self.expects = false;
        self.interim_left = 0;
        self.transport()
    }

    /// Interim responses wait for the client.
    pub(super) fn has_interim(&self) -> bool {
        !self.interim.is_empty()
    }

    /// What is left of them, for whoever writes ahead of the response.
    pub(super) fn take_interim(&mut self) -> BytesMut {
        std::mem::take(&mut self.interim)
    }

    pub(super) fn transport(&mut self) -> Result<&mut Transport, io::Error> {
        let gone = || io::ErrorKind::NotConnected.into();
        self.transport.as_mut().ok_or_else(gone)
    }

    /// Takes the stream out of HTTP.
    pub(super) fn leave(&mut self) -> Option<(Transport, BytesMut)> {
        self.requests += 1;
        let input = std::mem::take(&mut self.input);
        self.transport.take().map(|transport| (transport, input))
    }

    /// Reads once; `false` at the end of the stream.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        limit_bytes: usize,
    ) -> Poll<io::Result<bool>> {
        let Some(transport) = &mut self.transport else {
            return Poll::Ready(Ok(false));
        };
        let input = &mut self.input;
        let reading = transport.poll_read_with(context, limit_bytes, |bytes| {
            input.extend_from_slice(bytes);
            !bytes.is_empty()
        });
        let more = ready!(reading)?;
        self.finished = !more;
        Poll::Ready(Ok(more))
    }

    /// Tells the client to send its body, if it waits for that.
    fn poll_continue(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.expects {
            self.expects = false;
            self.interim.extend_from_slice(CONTINUE);
        }
        if self.interim.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.poll_interim(context)
    }

    /// Writes interim responses.
    pub(super) fn poll_interim(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        let transport = self.transport.as_mut().ok_or_else(gone)?;
        while !self.interim.is_empty() {
            let count = ready!(Pin::new(&mut *transport).poll_write(context, &self.interim))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.interim.advance(count);
        }
        Pin::new(transport).poll_flush(context)
    }

    /// Looks whether the client left while its request is served. What it sends ahead is kept, as far
    /// as that is not too much.
    pub(super) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.has_interim()
            && let Poll::Ready(Err(_)) = self.poll_interim(context)
        {
            return Poll::Ready(());
        }
        loop {
            if !self.incoming.is_ended() || self.input.len() >= AHEAD_BYTES_MAX {
                return Poll::Pending;
            }
            let limit_bytes = AHEAD_BYTES_MAX - self.input.len();
            match ready!(self.poll_read(context, limit_bytes)) {
                Ok(true) => {}
                Ok(false) | Err(_) => return Poll::Ready(()),
            }
        }
    }

    /// Throws away what arrived of an unread body; whether the next request is behind it.
    pub(super) fn discard_body(&mut self) -> bool {
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut left = DISCARD_BYTES_MAX;
        loop {
            match self.incoming.next(&mut self.input) {
                Ok(Next::End) => return true,
                Ok(Next::Frame(frame)) => {
                    let length = frame.data_ref().map_or(0, Bytes::len);
                    let Some(rest) = left.checked_sub(length) else {
                        return false;
                    };
                    left = rest;
                }
                Ok(Next::More) => match self.poll_read(&mut context, READ_BYTES_MAX) {
                    Poll::Ready(Ok(true)) => {}
                    Poll::Ready(Ok(false) | Err(_)) | Poll::Pending => return false,
                },
                Err(_) => return false,
            }
        }
    }
}

impl Interim for Mutex<Stream> {
    fn send(&self, status: StatusCode, headers: &HeaderMap) {
        let mut stream = lock(self);
        if stream.interim_left == 0 || stream.interim.len() > INTERIM_BYTES_MAX {
            return;
        }
        stream.interim_left -= 1;
        let mut head = Vec::with_capacity(256);
        head.extend_from_slice(b"HTTP/1.1 ");
        head.extend_from_slice(status.as_str().as_bytes());
        head.push(b' ');
        let reason = status.canonical_reason().unwrap_or_default();
        head.extend_from_slice(reason.as_bytes());
        head.extend_from_slice(b"\r\n");
        for (name, value) in headers {
            push_field(&mut head, name, value);
        }
        head.extend_from_slice(b"\r\n");
        // One that is larger than all may be: it is left out, the response goes on.
        if head.len() <= INTERIM_BYTES_MAX {
            stream.interim.extend_from_slice(&head);
        }
    }
}

pub(super) fn lock(stream: &Mutex<Stream>) -> MutexGuard<'_, Stream> {
    stream.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The body of a request, read from the connection when it is asked for; every read is timed.
pub(super) struct RequestBody {
    stream: SharedStream,
    request: u64,
    patience: Duration,
    timer: Option<Timer>,
}

impl RequestBody {
    /// The body that [`Stream::begin`] began.
    pub(super) fn new(stream: &SharedStream, patience: Duration) -> Self {
        Self {
            request: lock(stream).requests,
            stream: stream.clone(),
            patience,
            timer: None,
        }
    }

    fn poll_stream(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut stream = lock(&self.stream);
        let stream = &mut *stream;
        if stream.requests != self.request {
            return broken(io::ErrorKind::NotConnected.into());
        }
        loop {
            match stream.incoming.next(&mut stream.input) {
                Ok(Next::Frame(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(Next::End) => return Poll::Ready(None),
                Ok(Next::More) => {}
                Err(_) => {
                    let message = "malformed chunked request body";
                    return broken(io::Error::new(io::ErrorKind::InvalidData, message));
                }
            }
            if let Err(error) = ready!(stream.poll_continue(context)) {
                return broken(error);
            }
            match ready!(stream.poll_read(context, READ_BYTES_MAX)) {
                Ok(true) => {}
                Ok(false) => return broken(io::ErrorKind::UnexpectedEof.into()),
                Err(error) => return broken(error),
            }
        }
    }
}

fn broken<T>(error: io::Error) -> Poll<Option<Result<T, BodyError>>> {
    Poll::Ready(Some(Err(BodyError::Broken(error))))
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let next = this.poll_stream(context);
        if let Poll::Ready(next) = next {
            this.timer = None;
            if let Some(Err(_)) = &next {
                lock(&this.stream).astray = true;
            }
            return Poll::Ready(next);
        }
        let patience = this.patience;
        let timer = this.timer.get_or_insert_with(|| Timer::new(patience));
        if timer.is_due(context) {
            lock(&this.stream).astray = true;
            return Poll::Ready(Some(Err(BodyError::Timeout)));
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        let stream = lock(&self.stream);
        stream.requests == self.request && stream.incoming.is_ended()
    }

    fn size_hint(&self) -> SizeHint {
        let stream = lock(&self.stream);
        match &stream.incoming {
            Incoming::Length(left) if stream.requests == self.request => {
                SizeHint::with_exact(*left)
            }
            Incoming::Ended if stream.requests == self.request => SizeHint::with_exact(0),
            _ => SizeHint::default(),
        }
    }
}
