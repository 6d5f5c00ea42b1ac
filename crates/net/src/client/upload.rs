//! What goes to an upstream: the head of a request, then its body, framed by what it is.

use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, Method};
use http_body::Body as _;
use tokio::io::AsyncWrite as _;

use crate::transport::Transport;
use crate::{Body, BodyError};

/// Bytes of a body copied behind the head or its chunk size: below this the copy is cheaper than a
/// write of its own.
const COPY_BYTES_MAX: usize = 8 * 1024;
/// Room for most heads.
const HEAD_BYTES: usize = 1024;

/// Why a request was not sent whole.
pub(super) enum Stopped {
    /// Its body failed.
    Body(BodyError),
    /// The upstream takes no more.
    Io(io::Error),
}

/// How the end of the body is told.
#[derive(Clone, Copy)]
enum Coding {
    /// This many bytes are still to come.
    Length(u64),
    /// `open` while the line end behind a chunk is owed.
    Chunked { open: bool },
}

/// One request on its way.
pub(super) struct Upload {
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
    /// Bytes of the request were written.
    begun: bool,
    /// The upstream takes no bytes at the moment.
    pub(super) blocked: bool,
    /// Successful writes.
    pub(super) progress: u32,
}

impl Upload {
    /// Nothing to send.
    pub(super) fn none() -> Self {
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

    /// A request whose rest nobody takes.
    pub(super) fn given_up() -> Self {
        Self {
            begun: true,
            ..Self::none()
        }
    }

    /// A request, from its head on.
    pub(super) fn new(parts: &Parts, body: Body) -> Self {
        let mut upload = Self {
            out: Vec::with_capacity(HEAD_BYTES),
            ..Self::none()
        };
        let length = write_head(&mut upload.out, parts, &body);
        upload.coding = length.map_or(Coding::Chunked { open: false }, Coding::Length);
        match &body {
            Body::Full(Some(bytes)) => {
                let bytes = bytes.clone();
                upload.append(bytes);
            }
            Body::Empty | Body::Full(None) => {}
            Body::Incoming(_) | Body::Stream(_) => upload.ended = false,
        }
        upload.body = body;
        upload
    }

    /// The whole request was handed to the upstream.
    pub(super) fn is_done(&self) -> bool {
        self.ended && !self.unflushed && !self.has_bytes()
    }

    /// The body's source has nothing at the moment, and the upstream has all that came.
    pub(super) fn waits_for_body(&self) -> bool {
        !self.ended && !self.blocked
    }

    /// Bytes of the request were written.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// The body again, when [`Upload::has_begun`] says that none of it was used.
    pub(super) fn take_body(&mut self) -> Body {
        std::mem::take(&mut self.body)
    }

    /// Moves on until somebody blocks; `Ready` when the request is through.
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        transport: &mut Transport,
    ) -> Poll<Result<(), Stopped>> {
        loop {
            ready!(self.poll_write(context, transport)).map_err(Stopped::Io)?;
            if self.ended {
                return self.poll_flush(context, transport).map_err(Stopped::Io);
            }
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers of requests end here, as at nginx.
                    if let Ok(bytes) = frame.into_data() {
                        self.take(bytes).map_err(Stopped::Io)?;
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(Stopped::Body(error))),
                Poll::Ready(None) => self.end().map_err(Stopped::Io)?,
                Poll::Pending => {
                    ready!(self.poll_flush(context, transport)).map_err(Stopped::Io)?;
                    return Poll::Pending;
                }
            }
        }
    }

    fn has_bytes(&self) -> bool {
        self.written < self.out.len() || !self.piece.is_empty()
    }

    fn poll_write(
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
        self.out.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_flush(
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
    fn take(&mut self, bytes: Bytes) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        match &mut self.coding {
            Coding::Length(left) => {
                *left = left
                    .checked_sub(bytes.len() as u64)
                    .ok_or_else(|| wrong_length("longer"))?;
            }
            Coding::Chunked { open } => {
                let line_end = if *open { "\r\n" } else { "" };
                write!(self.out, "{line_end}{:x}\r\n", bytes.len())?;
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
    fn end(&mut self) -> io::Result<()> {
        match self.coding {
            Coding::Length(0) => {}
            Coding::Length(_) => return Err(wrong_length("shorter")),
            Coding::Chunked { open } => {
                let line_end: &[u8] = if open { b"\r\n" } else { b"" };
                self.out.extend_from_slice(line_end);
                self.out.extend_from_slice(b"0\r\n\r\n");
            }
        }
        self.ended = true;
        self.body = Body::Empty;
        Ok(())
    }
}

fn wrong_length(how: &str) -> io::Error {
    let message = format!("request body is {how} than its Content-Length");
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Writes the head with the field that frames the body: gives the length, `None` for chunks.
fn write_head(out: &mut Vec<u8>, parts: &Parts, body: &Body) -> Option<u64> {
    out.extend_from_slice(parts.method.as_str().as_bytes());
    out.push(b' ');
    let target = parts.uri.path_and_query().map_or("/", |it| it.as_str());
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in &parts.headers {
        if *name != CONTENT_LENGTH && *name != TRANSFER_ENCODING {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
    let length = body.size_hint().exact().or_else(|| stated(&parts.headers));
    match length {
        Some(0) if !expects_body(&parts.method) => {}
        Some(length) => {
            out.extend_from_slice(b"content-length: ");
            push_decimal(out, length);
            out.extend_from_slice(b"\r\n");
        }
        None => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    out.extend_from_slice(b"\r\n");
    length
}

/// The length that the request states of a body that does not know its own.
fn stated(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(CONTENT_LENGTH)?.to_str().ok()?;
    value.parse().ok()
}

/// Methods whose missing body is worth a word (RFC 9110 section 8.6).
fn expects_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

fn push_decimal(out: &mut Vec<u8>, value: u64) {
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
