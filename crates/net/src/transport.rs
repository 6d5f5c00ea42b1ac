//! The byte stream under HTTP: plain TCP or TLS, either side.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes read from a socket at once.
const READ_BYTES_MAX: usize = 64 * 1024;
/// Bytes in several pieces that are copied together before they are written: below this the copy is
/// cheaper than a vectored system call (about 3 % of a small proxied request).
const GATHER_BYTES_MAX: usize = 8 * 1024;

thread_local! {
    /// One read buffer for all connections of a thread: an idle connection holds none.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A connected stream.
pub(crate) enum Transport {
    /// TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<tokio_rustls::TlsStream<TcpStream>>),
}

impl Transport {
    /// The socket below.
    pub(crate) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    /// Reads at most `limit_bytes` and hands them to `take` together with the result's place; no
    /// bytes means the peer finished.
    pub(crate) fn poll_read_with<T>(
        &mut self,
        context: &mut Context<'_>,
        limit_bytes: usize,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Poll<io::Result<T>> {
        let mut scratch = scratch();
        let length = limit_bytes.clamp(1, READ_BYTES_MAX);
        let room = scratch.get_mut(..length).unwrap_or_default();
        let mut buffer = ReadBuf::new(room);
        let result = Pin::new(self)
            .poll_read(context, &mut buffer)
            .map_ok(|()| take(buffer.filled()));
        SCRATCH.set(scratch);
        result
    }
}

/// Buffers for what is written next. A small message is written at once and gives its buffer back before
/// the next one needs it, so that all connections of a thread write from the same few bytes.
pub(crate) mod spare {
    use std::cell::RefCell;

    /// Room for most heads.
    const BYTES: usize = 1024;
    /// Larger ones are not kept.
    const BYTES_MAX: usize = 16 * 1024;
    /// Buffers that a thread keeps.
    const COUNT_MAX: usize = 8;

    thread_local! {
        /// Those used last on top.
        static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    }

    /// An empty buffer.
    pub(crate) fn take() -> Vec<u8> {
        let spare = SPARE.with_borrow_mut(Vec::pop);
        spare.unwrap_or_else(|| Vec::with_capacity(BYTES))
    }

    /// Takes a buffer back; what it holds is gone.
    pub(crate) fn give(mut buffer: Vec<u8>) {
        if !(BYTES..=BYTES_MAX).contains(&buffer.capacity()) {
            return;
        }
        buffer.clear();
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < COUNT_MAX {
                spare.push(buffer);
            }
        });
    }
}

/// Takes the thread's buffer; whoever does gives it back.
fn scratch() -> Vec<u8> {
    let mut scratch = SCRATCH.take();
    if scratch.is_empty() {
        scratch.resize(READ_BYTES_MAX, 0);
    }
    scratch
}

/// Writes pieces to a socket with the cheapest system call that can.
fn poll_write_pieces(
    mut stream: Pin<&mut TcpStream>,
    context: &mut Context<'_>,
    slices: &[io::IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let mut pieces = slices.iter().filter(|slice| !slice.is_empty());
    let (Some(first), second) = (pieces.next(), pieces.next()) else {
        return stream.poll_write(context, &[]);
    };
    if second.is_none() {
        return stream.poll_write(context, first);
    }
    let total: usize = slices.iter().map(|slice| slice.len()).sum();
    if total > GATHER_BYTES_MAX {
        return stream.poll_write_vectored(context, slices);
    }
    let mut scratch = scratch();
    let mut length = 0;
    for slice in slices {
        if let Some(room) = scratch.get_mut(length..length + slice.len()) {
            room.copy_from_slice(slice);
            length += slice.len();
        }
    }
    let gathered = scratch.get(..length).unwrap_or_default();
    let result = stream.as_mut().poll_write(context, gathered);
    SCRATCH.set(scratch);
    result
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => poll_write_pieces(Pin::new(stream), context, slices),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(context),
        }
    }
}
