//! A message on its way out, in either direction: its head, then its body as it is framed.

use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, HeaderName};
use http_body::Body as _;
use tokio::io::AsyncWrite as _;

use crate::spelling::push_field;
use crate::transport::{Transport, spare};
use crate::{Body, BodyError};

/// Bytes of a body copied behind the head or its chunk size: below this the copy is cheaper than a
/// write of its own.
const COPY_BYTES_MAX: usize = 8 * 1024;
/// Why a message was not sent whole.
pub(crate) enum Stopped {
    /// Its body failed.
    Body(BodyError),
    /// The peer takes no more.
    Io(io::Error),
}

/// How the end of a body is told.
#[derive(Clone, Copy)]
pub(crate) enum Coding {
    /// This many bytes are still to come.
    Length(u64),
    /// Chunks.
    Chunked {
        /// The line end behind a chunk is owed.
        open: bool,
        /// The peer wants trailers.
        trailers: bool,
    },
    /// By the end of the connection.
    Close,
}

impl Coding {
    /// Chunks without trailers.
    pub(crate) const CHUNKED: Self = Self::Chunked {
        open: false,
        trailers: false,
    };
}

/// One message on its way.
pub(crate) struct Outgoing {
    /// Written first: the head, chunk sizes and what is small.
    out: Vec<u8>,
    /// Bytes of `out` that are written.
    written: usize,
    /// Written after it, from where it lies.
    piece: Bytes,
    coding: Coding,
    body: Body,
    /// Nothing more comes from the body.
    ended: bool,
    /// The transport may hold bytes back.
    unflushed: bool,
    /// Bytes of the message were written.
    begun: bool,
    blocked: bool,
    progress: u32,
}

impl Outgoing {
    /// Nothing to send.
    pub(crate) fn none() -> Self {
        Self {
            out: Vec::new(),
            written: 0,
            piece: Bytes::new(),
            coding: Coding::Length(0),
            body: Body::Empty,
            ended: true,
            unflushed: false,
            begun: false,
            blocked: false,
            progress: 0,
        }
    }

    /// A message whose rest nobody takes.
    pub(crate) fn given_up() -> Self {
        Self {
            begun: true,
            ..Self::none()
        }
    }

    /// A message, from its head on. The length of a body in memory is that of its coding.
    pub(crate) fn new(head: Vec<u8>, coding: Coding, body: Body) -> Self {
        let mut outgoing = Self {
            out: head,
            coding,
            ..Self::none()
        };
        match &body {
            Body::Full(Some(bytes)) => {
                let bytes = bytes.clone();
                outgoing.append(bytes);
            }
            Body::Empty | Body::Full(None) => {}
            Body::Stream(_) => outgoing.ended = false,
        }
        outgoing.body = body;
        outgoing
    }

    /// What is written before anything of a body that is not in memory.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn head(&self) -> &[u8] {
        &self.out
    }

    /// Has these bytes written ahead of a message that nothing was written of.
    pub(crate) fn precede(&mut self, bytes: &[u8]) {
        self.out.splice(..0, bytes.iter().copied());
    }

    /// The whole message was handed to the peer.
    pub(crate) fn is_done(&self) -> bool {
        self.ended && !self.unflushed && !self.has_bytes()
    }

    /// The body's source has nothing at the moment, and the peer has all that came.
    pub(crate) fn waits_for_body(&self) -> bool {
        !self.ended && !self.blocked
    }

    /// The peer takes no bytes at the moment.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Successful writes so far, around the clock of 32 bits.
    pub(crate) fn progress(&self) -> u32 {
        self.progress
    }

    /// Bytes of the message were written.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Only the end of the connection tells the peer that the body is whole.
    pub(crate) fn ends_by_close(&self) -> bool {
        matches!(self.coding, Coding::Close)
    }

    /// Moves on until somebody blocks; `Ready` when the message is through.
    pub(crate) fn poll(
        &mut self,
        context: &mut Context<'_>,
        transport: &mut Transport,
    ) -> Poll<Result<(), Stopped>> {
        loop {
            ready!(self.poll_write(context, transport)).map_err(Stopped::Io)?;
            match self.poll_body(context) {
                Poll::Ready(more) => {
                    if !more? {
                        return self.poll_flush(context, transport).map_err(Stopped::Io);
                    }
                }
                Poll::Pending => {
                    ready!(self.poll_flush(context, transport)).map_err(Stopped::Io)?;
                    return Poll::Pending;
                }
            }
        }
    }

    /// Takes the next part of the body, once everything before it is written; `false` when there is
    /// none.
    pub(crate) fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, Stopped>> {
        if self.ended {
            return Poll::Ready(Ok(false));
        }
        match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(bytes) => self.take(bytes)?,
                Err(frame) => self.end(&frame.into_trailers().unwrap_or_default())?,
            },
            Some(Err(error)) => return Poll::Ready(Err(Stopped::Body(error))),
            None => self.end(&HeaderMap::new())?,
        }
        Poll::Ready(Ok(true))
    }

    fn has_bytes(&self) -> bool {
        self.written < self.out.len() || !self.piece.is_empty()
    }

    /// Writes what is there.
    pub(crate) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        transport: &mut Transport,
    ) -> Poll<io::Result<()>> {
        while self.has_bytes() {
            let out = self.out.get(self.written..).unwrap_or_default();
            let slices = [IoSlice::new(out), IoSlice::new(&self.piece)];
            let writing = Pin::new(&mut *transport).poll_write_vectored(context, &slices);
            self.blocked = writing.is_pending();
            let count = ready!(writing)?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.begun = true;
            self.unflushed = true;
            self.progress = self.progress.wrapping_add(1);
            let of_out = count.min(out.len());
            self.written += of_out;
            self.piece.advance(count - of_out);
        }
        self.written = 0;
        if self.ended {
            spare::give(std::mem::take(&mut self.out));
        } else {
            self.out.clear();
        }
        Poll::Ready(Ok(()))
    }

    /// Has the transport send what it holds.
    pub(crate) fn poll_flush(
        &mut self,
        context: &mut Context<'_>,
        transport: &mut Transport,
    ) -> Poll<io::Result<()>> {
        if self.unflushed {
            let flushing = Pin::new(transport).poll_flush(context);
            self.blocked = flushing.is_pending();
            ready!(flushing)?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes a piece of the body.
    fn take(&mut self, bytes: Bytes) -> Result<(), Stopped> {
        if bytes.is_empty() {
            return Ok(());
        }
        match &mut self.coding {
            Coding::Length(left) => {
                *left = left
                    .checked_sub(bytes.len() as u64)
                    .ok_or_else(|| wrong_length("longer"))?;
            }
            Coding::Close => {}
            Coding::Chunked { open, .. } => {
                let line_end = if *open { "\r\n" } else { "" };
                write!(self.out, "{line_end}{:x}\r\n", bytes.len()).map_err(Stopped::Io)?;
                *open = true;
            }
        }
        self.append(bytes);
        Ok(())
    }

    fn append(&mut self, bytes: Bytes) {
        if bytes.len() <= COPY_BYTES_MAX {
            self.out.extend_from_slice(&bytes);
        } else {
            self.piece = bytes;
        }
    }

    /// Ends the body.
    fn end(&mut self, fields: &HeaderMap) -> Result<(), Stopped> {
        match self.coding {
            Coding::Length(0) | Coding::Close => {}
            Coding::Length(_) => return Err(wrong_length("shorter")),
            Coding::Chunked { open, trailers } => {
                let line_end: &[u8] = if open { b"\r\n" } else { b"" };
                self.out.extend_from_slice(line_end);
                self.out.extend_from_slice(b"0\r\n");
                for (name, value) in fields.iter().filter(|_| trailers) {
                    if may_trail(name) {
                        push_field(&mut self.out, name, value);
                    }
                }
                self.out.extend_from_slice(b"\r\n");
            }
        }
        self.ended = true;
        self.body = Body::Empty;
        Ok(())
    }
}

fn wrong_length(how: &str) -> Stopped {
    let message = format!("message body is {how} than its Content-Length");
    let error = io::Error::new(io::ErrorKind::InvalidData, message);
    Stopped::Body(BodyError::Broken(error))
}

/// Fields that frame, route or describe a message are no trailers (RFC 9110 section 6.5.1).
pub(crate) fn may_trail(name: &HeaderName) -> bool {
    use http::header::{
        AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
        CONTENT_TYPE, HOST, MAX_FORWARDS, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING,
    };
    !matches!(
        *name,
        AUTHORIZATION
            | CACHE_CONTROL
            | CONNECTION
            | CONTENT_ENCODING
            | CONTENT_LENGTH
            | CONTENT_RANGE
            | CONTENT_TYPE
            | HOST
            | MAX_FORWARDS
            | SET_COOKIE
            | TE
            | TRAILER
            | TRANSFER_ENCODING
    )
}

pub(crate) fn push_decimal(out: &mut Vec<u8>, value: u64) {
    let mut digits = [0; 20];
    let mut left = value;
    let mut count = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (left % 10) as u8;
        left /= 10;
        count += 1;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - count..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals() {
        for value in [0, 7, 10, 4096, u64::MAX] {
            let mut out = Vec::new();
            push_decimal(&mut out, value);
            assert_eq!(out, value.to_string().into_bytes());
        }
    }
}
