//! The request body on its way to the upstream: read whole before connecting, so that attempts can
//! be repeated, or passed through.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use o28m_net::{Body, BodyError};
use tokio::task::JoinHandle;

/// Bytes of one body kept in memory unless settings say otherwise; the rest of a larger one goes to an
/// unlinked temporary file.
pub(crate) const MEMORY_BYTES_MAX: usize = 1024 * 1024;
const CHUNK_BYTES: usize = 64 * 1024;

/// A body that can be sent, and where possible sent again.
pub(crate) enum Outgoing {
    /// No body.
    Empty,
    /// Read whole, in memory.
    Memory(Bytes),
    /// Read whole, in an unlinked file.
    File(Arc<File>, u64),
    /// Passed through as it arrives; can be sent again only while nothing was taken from it.
    Live(Arc<Mutex<Live>>),
}

/// A body that is shared between attempts.
pub(crate) struct Live {
    body: Body,
    touched: bool,
}

/// Why a body could not be buffered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    /// The client failed or sent too much.
    #[error("failed to read request body")]
    Read(#[from] BodyError),
    /// The temporary file failed.
    #[error("failed to buffer request body on disk")]
    Disk(#[from] std::io::Error),
}

impl Outgoing {
    /// Passes `body` through.
    pub(crate) fn live(body: Body) -> Self {
        if body.is_end_stream() {
            return Self::Empty;
        }
        match body {
            Body::Full(Some(bytes)) => Self::Memory(bytes),
            body => Self::Live(Arc::new(Mutex::new(Live {
                body,
                touched: false,
            }))),
        }
    }

    /// Reads `body` to its end, keeping up to so many bytes in memory.
    pub(crate) async fn buffer(body: Body, memory_bytes_max: usize) -> Result<Self, SpoolError> {
        Self::buffer_with(body, memory_bytes_max, tempfile::tempfile).await
    }

    async fn buffer_with(
        body: Body,
        memory_bytes_max: usize,
        create: Create,
    ) -> Result<Self, SpoolError> {
        let mut body = match body {
            Body::Full(Some(bytes)) => return Ok(Self::Memory(bytes)),
            body if body.is_end_stream() => return Ok(Self::Empty),
            body => body,
        };
        // Most bodies are one piece, which is kept as it is.
        let mut first = Bytes::new();
        let mut memory = BytesMut::new();
        while let Some(data) = next_data(&mut body).await? {
            if memory.len() + first.len() + data.len() > memory_bytes_max {
                return spill([&*first, &memory, &data].concat(), body, create).await;
            }
            if first.is_empty() && memory.is_empty() {
                first = data;
            } else {
                if memory.is_empty() {
                    memory.extend_from_slice(&std::mem::take(&mut first));
                }
                memory.extend_from_slice(&data);
            }
        }
        Ok(match (first.is_empty(), memory.is_empty()) {
            (true, true) => Self::Empty,
            (false, _) => Self::Memory(first),
            (true, false) => Self::Memory(memory.freeze()),
        })
    }

    /// The body for one more attempt; `None` when it is gone.
    pub(crate) fn again(&self) -> Option<Body> {
        match self {
            Self::Empty => Some(Body::Empty),
            Self::Memory(bytes) => Some(Body::Full(Some(bytes.clone()))),
            Self::File(file, length) => Some(Body::Stream(Box::pin(FileBody {
                file: file.clone(),
                offset: 0,
                length: *length,
                reading: None,
            }))),
            Self::Live(live) => {
                let touched = live.lock().unwrap_or_else(PoisonError::into_inner).touched;
                (!touched).then(|| Body::Stream(Box::pin(LiveBody(live.clone()))))
            }
        }
    }
}

/// Makes a file that has no name.
type Create = fn() -> std::io::Result<File>;

/// Writes what was read and the rest of `body` to a file. Where none can be made, the body is
/// passed through instead: sending it once is better than not at all.
async fn spill(read: Vec<u8>, mut body: Body, create: Create) -> Result<Outgoing, SpoolError> {
    let mut file = match on_disk(create).await {
        Ok(file) => file,
        Err(error) => {
            tracing::warn!(%error, "no temporary file for a large request body: it is not buffered");
            let first = Some(Bytes::from(read));
            let body = Body::Stream(Box::pin(Prefixed { first, rest: body }));
            return Ok(Outgoing::live(body));
        }
    };
    let mut length = 0;
    let mut next = Some(Bytes::from(read));
    while let Some(data) = next {
        length += data.len() as u64;
        file = on_disk(move || {
            file.write_all(&data)?;
            Ok(file)
        })
        .await?;
        next = next_data(&mut body).await?;
    }
    Ok(Outgoing::File(Arc::new(file), length))
}

/// The next piece of data; trailers are left out.
async fn next_data(body: &mut Body) -> Result<Option<Bytes>, BodyError> {
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// A body whose beginning was read already.
struct Prefixed {
    first: Option<Bytes>,
    rest: Body,
}

impl http_body::Body for Prefixed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(Frame::data(first)))),
            None => Pin::new(&mut self.rest).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().map_or(0, Bytes::len) as u64;
        match self.rest.size_hint().exact() {
            Some(rest) => SizeHint::with_exact(first + rest),
            None => SizeHint::default(),
        }
    }
}

async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}

/// Reads a buffered body from its file, independently of other readers.
struct FileBody {
    file: Arc<File>,
    offset: u64,
    length: u64,
    reading: Option<JoinHandle<std::io::Result<Bytes>>>,
}

impl http_body::Body for FileBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let (offset, left) = (self.offset, self.length.saturating_sub(self.offset));
        if left == 0 {
            return Poll::Ready(None);
        }
        let file = self.file.clone();
        let reading = self.reading.get_or_insert_with(|| {
            tokio::task::spawn_blocking(move || {
                let size = usize::try_from(left).map_or(CHUNK_BYTES, |it| it.min(CHUNK_BYTES));
                let mut chunk = vec![0; size];
                file.read_exact_at(&mut chunk, offset)?;
                Ok(chunk.into())
            })
        });
        let read = ready!(Pin::new(reading).poll(context));
        self.reading = None;
        match read {
            Ok(Ok(chunk)) => {
                self.offset += chunk.len() as u64;
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
            Ok(Err(error)) => broken(&error),
            Err(error) => broken(&error),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.offset >= self.length
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length.saturating_sub(self.offset))
    }
}

/// Ends the body before its length, which fails the attempt: what is missing cannot be made up.
fn broken(error: &dyn std::error::Error) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
    tracing::error!(%error, "failed to read a buffered request body back");
    Poll::Ready(None)
}

/// One attempt's view of a body that is passed through. The lock is never contended: attempts
/// follow one another.
struct LiveBody(Arc<Mutex<Live>>);

impl LiveBody {
    fn with<T>(&self, use_it: impl FnOnce(&mut Live) -> T) -> T {
        use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl http_body::Body for LiveBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.with(|live| {
            let polled = Pin::new(&mut live.body).poll_frame(context);
            live.touched |= polled.is_ready();
            polled
        })
    }

    fn is_end_stream(&self) -> bool {
        self.with(|live| live.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.with(|live| live.body.size_hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(pieces: Vec<Bytes>) -> Body {
        let frames = pieces.into_iter().map(|it| Ok(Frame::data(it)));
        let stream = futures_util::stream::iter(frames);
        Body::Stream(Box::pin(http_body_util::StreamBody::new(stream)))
    }

    #[tokio::test]
    async fn buffered_bodies_of_any_size_are_sent_again() {
        for (count, on_disk) in [(0, false), (1, false), (5, false), (40, true)] {
            let piece = Bytes::from((0..CHUNK_BYTES).map(|it| it as u8).collect::<Vec<_>>());
            let outgoing = Outgoing::buffer(pieces(vec![piece.clone(); count]), MEMORY_BYTES_MAX)
                .await
                .unwrap();
            assert_eq!(matches!(outgoing, Outgoing::File(..)), on_disk, "{count}");
            for _ in 0..2 {
                let body = outgoing.again().unwrap();
                assert_eq!(body.size_hint().exact(), Some((count * CHUNK_BYTES) as u64));
                let bytes = body.collect(usize::MAX).await.unwrap();
                assert_eq!(bytes, piece.repeat(count));
            }
        }
    }

    #[tokio::test]
    async fn without_a_place_for_files_large_bodies_are_passed_through() {
        let piece = Bytes::from(vec![7; CHUNK_BYTES]);
        let body = pieces(vec![piece.clone(); 40]);
        let nowhere: Create = || Err(std::io::ErrorKind::ReadOnlyFilesystem.into());
        let outgoing = Outgoing::buffer_with(body, MEMORY_BYTES_MAX, nowhere)
            .await
            .unwrap();
        let bytes = outgoing.again().unwrap().collect(usize::MAX).await.unwrap();
        assert_eq!(bytes, piece.repeat(40));
        assert!(outgoing.again().is_none());
    }

    #[tokio::test]
    async fn a_full_disk_is_an_error() {
        let body = pieces(vec![Bytes::from(vec![7; MEMORY_BYTES_MAX + 1])]);
        let full: Create = || File::options().write(true).open("/dev/full");
        let outcome = Outgoing::buffer_with(body, MEMORY_BYTES_MAX, full).await;
        assert!(matches!(outcome, Err(SpoolError::Disk(_))));
    }

    #[tokio::test]
    async fn a_live_body_is_given_again_until_it_was_read() {
        let outgoing = Outgoing::live(pieces(vec![Bytes::from_static(b"abc")]));
        drop(outgoing.again().unwrap());
        let bytes = outgoing.again().unwrap().collect(10).await.unwrap();
        assert_eq!(bytes, "abc");
        assert!(outgoing.again().is_none());
    }
}
