//! The body of a message as it is read, in either direction.

use bytes::{Buf as _, Bytes, BytesMut};
use http_body::Frame;

use crate::chunked::{ChunkReader, Piece, Violation};

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// This many bytes follow.
    Length(u64),
    /// A chunked body follows.
    Chunked,
    /// The body ends with the connection.
    Close,
}

/// What is still to come of a body.
pub(crate) enum Incoming {
    /// This many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Box<ChunkReader>),
    /// Everything until the connection ends.
    Close,
    /// The trailers.
    Trailers(http::HeaderMap),
    /// Nothing.
    Ended,
}

/// What was read holds this of a body.
pub(crate) enum Next {
    /// A part of it.
    Frame(Frame<Bytes>),
    /// Its end.
    End,
    /// Nothing: more must be read.
    More,
}

impl Incoming {
    /// The body of a request.
    pub(crate) fn of_client(framing: Framing) -> Self {
        Self::new(framing, ChunkReader::of_client)
    }

    /// The body of a response.
    pub(crate) fn of_upstream(framing: Framing) -> Self {
        Self::new(framing, ChunkReader::of_upstream)
    }

    fn new(framing: Framing, chunks: fn() -> ChunkReader) -> Self {
        match framing {
            Framing::Length(0) => Self::Ended,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Box::new(chunks())),
            Framing::Close => Self::Close,
        }
    }

    /// Takes the next part of the body off `input`.
    pub(crate) fn next(&mut self, input: &mut BytesMut) -> Result<Next, Violation> {
        self.settle(input)?;
        let length = match self {
            Self::Length(left) => {
                let taken =
                    usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                *left -= taken as u64;
                if *left == 0 {
                    *self = Self::Ended;
                }
                taken
            }
            Self::Chunked(reader) if !input.is_empty() => match reader.next(input)? {
                Piece::Data(length) => length,
                Piece::Framing(_) | Piece::End(_) => return Err(Violation),
            },
            Self::Chunked(_) => 0,
            Self::Close => input.len(),
            Self::Trailers(trailers) => {
                let trailers = std::mem::take(trailers);
                *self = Self::Ended;
                return Ok(Next::Frame(Frame::trailers(trailers)));
            }
            Self::Ended => return Ok(Next::End),
        };
        if length == 0 {
            return Ok(Next::More);
        }
        let data = input.split_to(length).freeze();
        // The end may have come along: whoever reads on is told at once.
        self.settle(input)?;
        Ok(Next::Frame(Frame::data(data)))
    }

    /// Takes what delimits chunks off `input`.
    fn settle(&mut self, input: &mut BytesMut) -> Result<(), Violation> {
        let Self::Chunked(reader) = self else {
            return Ok(());
        };
        match reader.framing(input)? {
            Piece::End(length) => {
                input.advance(length);
                let trailers = reader.take_trailers();
                *self = if trailers.is_empty() {
                    Self::Ended
                } else {
                    Self::Trailers(trailers)
                };
            }
            Piece::Framing(length) | Piece::Data(length) => input.advance(length),
        }
        Ok(())
    }

    /// The connection ended: whether that is a sound end of the body.
    pub(crate) fn may_end(&self) -> bool {
        matches!(self, Self::Close | Self::Ended)
    }

    /// Nothing is to come.
    pub(crate) fn is_ended(&self) -> bool {
        matches!(self, Self::Ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_chunks_is_known_with_their_last_bytes() {
        let mut incoming = Incoming::of_upstream(Framing::Chunked);
        let mut input = BytesMut::from(&b"3\r\nabc\r\n0\r\n\r\nrest"[..]);
        let Ok(Next::Frame(frame)) = incoming.next(&mut input) else {
            panic!("no frame");
        };
        assert_eq!(frame.into_data().unwrap(), "abc");
        assert!(incoming.is_ended());
        assert_eq!(input, "rest");
    }
}
