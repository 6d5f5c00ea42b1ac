use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// A message body in either direction: bytes in memory or a stream.
#[derive(Default)]
pub enum Body {
    /// No body; for a response this is `Content-Length: 0`.
    #[default]
    Empty,
    /// One piece held in memory; `None` once it was taken.
    Full(Option<Bytes>),
    /// A stream.
    Stream(Pin<Box<dyn http_body::Body<Data = Bytes, Error = BodyError> + Send>>),
}

/// Why a body could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The body broke off, or is not framed as it must be.
    #[error("message body is not whole")]
    Broken(#[source] std::io::Error),
    /// The peer sent nothing for too long.
    #[error("timed out reading message body")]
    Timeout,
    /// More bytes than allowed.
    #[error("message body exceeds {limit_bytes} bytes")]
    TooLarge {
        /// The limit that was crossed.
        limit_bytes: usize,
    },
}

/// A body was larger than the caller allows, or could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TooLarge {
    /// More than the allowed bytes.
    #[error("message body exceeds the limit")]
    Limit,
    /// Reading failed.
    #[error("failed to read message body")]
    Read(#[from] BodyError),
}

impl Body {
    /// A body of bytes in memory.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() {
            Self::Empty
        } else {
            Self::Full(Some(bytes))
        }
    }

    /// Reads the whole body, at most `limit_bytes`.
    ///
    /// A body that says it is longer is not read at all.
    ///
    /// # Errors
    /// [`TooLarge`] when the limit is crossed (the rest is left unread) or the peer fails.
    pub async fn collect(self, limit_bytes: usize) -> Result<Bytes, TooLarge> {
        use http_body::Body as _;
        use http_body_util::BodyExt as _;
        if self.size_hint().lower() > limit_bytes as u64 {
            return Err(TooLarge::Limit);
        }
        let this = match self {
            Self::Empty => return Ok(Bytes::new()),
            Self::Full(bytes) => return Ok(bytes.unwrap_or_default()),
            other @ Self::Stream(_) => other,
        };
        let limited = http_body_util::Limited::new(this, limit_bytes);
        match limited.collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) => match error.downcast::<BodyError>() {
                Ok(error) => Err(TooLarge::Read(*error)),
                Err(_) => Err(TooLarge::Limit),
            },
        }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Empty => "Body(empty)",
            Self::Full(_) => "Body(in memory)",
            Self::Stream(_) => "Body(stream)",
        })
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(stream) => stream.as_mut().poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_none(),
            Self::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Stream(stream) => stream.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn collects_up_to_the_limit() {
        let streamed = |pieces: &'static [&'static str]| {
            let frames = pieces
                .iter()
                .map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes()))));
            Body::Stream(Box::pin(http_body_util::StreamBody::new(
                futures_util::stream::iter(frames),
            )))
        };
        assert_eq!(Body::Empty.collect(0).await.unwrap(), "");
        assert_eq!(Body::full("abc").collect(3).await.unwrap(), "abc");
        assert!(matches!(
            Body::full("abc").collect(2).await,
            Err(TooLarge::Limit)
        ));
        assert_eq!(streamed(&["ab", "c"]).collect(3).await.unwrap(), "abc");
        assert!(matches!(
            streamed(&["ab", "c"]).collect(2).await,
            Err(TooLarge::Limit)
        ));
        assert!(matches!(Body::full(""), Body::Empty));
    }
}
