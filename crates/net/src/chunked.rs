//! The strict reader of a chunked body (RFC 9112 section 7.1), from clients and from upstreams.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::server::head::{is_field, split_header};

/// Bytes of all chunk extensions of one body.
const EXTENSION_BYTES_MAX: usize = 8 * 1024;
/// Bytes of all trailer lines of one body.
const TRAILER_BYTES_MAX: usize = 8 * 1024;
/// Digits of a chunk size; 15 cannot overflow 64 bits.
const SIZE_DIGITS_MAX: u8 = 15;

/// The body broke the rules; nothing after it can be trusted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Violation;

/// What the next bytes of a body are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// This many bytes delimit chunks.
    Framing(usize),
    /// This many bytes are content.
    Data(usize),
    /// This many bytes, up to the end of the body, delimit chunks.
    End(usize),
}

/// Where in the body the next byte is.
#[derive(Debug)]
enum Place {
    Size { value: u64, digits: u8 },
    Padding { size: u64 },
    Extension { size: u64 },
    SizeEnd { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    Trailer,
}

/// Follows a chunked body.
#[derive(Debug)]
pub(crate) struct ChunkReader {
    place: Place,
    /// Trailers, where they are asked for.
    trailers: Option<HeaderMap>,
    extension_bytes: usize,
    trailer_bytes: usize,
    /// The trailer line being read, without its end.
    line: Vec<u8>,
}

impl ChunkReader {
    /// For the body of a request: trailers are only checked.
    pub(crate) fn of_client() -> Self {
        Self {
            place: Place::Size {
                value: 0,
                digits: 0,
            },
            trailers: None,
            extension_bytes: 0,
            trailer_bytes: 0,
            line: Vec::new(),
        }
    }

    /// For the body of a response: trailers are kept, and chunk sizes may be padded with spaces, as
    /// some servers write them.
    pub(crate) fn of_upstream() -> Self {
        Self {
            trailers: Some(HeaderMap::new()),
            ..Self::of_client()
        }
    }

    /// Trailers so far.
    pub(crate) fn take_trailers(&mut self) -> HeaderMap {
        self.trailers.take().unwrap_or_default()
    }

    /// What `bytes` begin with.
    pub(crate) fn next(&mut self, bytes: &[u8]) -> Result<Piece, Violation> {
        if let Place::Data { left } = &mut self.place {
            let taken = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
            *left -= taken as u64;
            if *left == 0 {
                self.place = Place::DataCr;
            }
            return Ok(Piece::Data(taken));
        }
        self.framing(bytes)
    }

    /// Reads bytes that delimit chunks, up to the next content.
    pub(crate) fn framing(&mut self, bytes: &[u8]) -> Result<Piece, Violation> {
        let mut at = 0;
        for byte in bytes {
            if matches!(self.place, Place::Data { .. }) {
                break;
            }
            at += 1;
            if self.byte(*byte)? {
                return Ok(Piece::End(at));
            }
        }
        Ok(Piece::Framing(at))
    }

    /// Takes one byte that is not chunk data; `true` when it was the last of the body.
    fn byte(&mut self, byte: u8) -> Result<bool, Violation> {
        self.place = match (&self.place, byte) {
            (Place::Size { value, digits }, _) => self.size(*value, *digits, byte)?,
            (Place::Padding { size }, b' ' | b'\t') => {
                self.extension_bytes += 1;
                if self.extension_bytes > EXTENSION_BYTES_MAX {
                    return Err(Violation);
                }
                Place::Padding { size: *size }
            }
            (Place::Padding { size }, b';') => Place::Extension { size: *size },
            (Place::Extension { size } | Place::Padding { size }, b'\r') => {
                Place::SizeEnd { size: *size }
            }
            (Place::Extension { size }, byte) if is_field(byte) => {
                let size = *size;
                self.extension_bytes += 1;
                if self.extension_bytes > EXTENSION_BYTES_MAX {
                    return Err(Violation);
                }
                Place::Extension { size }
            }
            (Place::SizeEnd { size: 0 }, b'\n') => Place::Trailer,
            (Place::SizeEnd { size }, b'\n') => Place::Data { left: *size },
            (Place::DataCr, b'\r') => Place::DataLf,
            (Place::DataLf, b'\n') => Place::Size {
                value: 0,
                digits: 0,
            },
            (Place::Trailer, byte) => {
                if self.trailer(byte)? {
                    return Ok(true);
                }
                Place::Trailer
            }
            _ => return Err(Violation),
        };
        Ok(false)
    }

    fn size(&self, value: u64, digits: u8, byte: u8) -> Result<Place, Violation> {
        match (char::from(byte).to_digit(16), byte) {
            (Some(digit), _) if digits < SIZE_DIGITS_MAX => Ok(Place::Size {
                value: value * 16 + u64::from(digit),
                digits: digits + 1,
            }),
            (None, b';') if digits > 0 => Ok(Place::Extension { size: value }),
            (None, b'\r') if digits > 0 => Ok(Place::SizeEnd { size: value }),
            (None, b' ' | b'\t') if digits > 0 && self.trailers.is_some() => {
                Ok(Place::Padding { size: value })
            }
            _ => Err(Violation),
        }
    }

    fn trailer(&mut self, byte: u8) -> Result<bool, Violation> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILER_BYTES_MAX {
            return Err(Violation);
        }
        if byte != b'\n' {
            self.line.push(byte);
            return Ok(false);
        }
        let Some(line) = self.line.strip_suffix(b"\r") else {
            return Err(Violation);
        };
        if line.is_empty() {
            return Ok(true);
        }
        let (name, value) = split_header(line).map_err(|_| Violation)?;
        if let Some(trailers) = &mut self.trailers {
            let name = HeaderName::from_bytes(name).map_err(|_| Violation)?;
            let value = HeaderValue::from_bytes(value).map_err(|_| Violation)?;
            trailers.append(name, value);
        }
        self.line.clear();
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the body ends, or that it is broken, reading in pieces of `step` bytes.
    fn end(bytes: &[u8], step: usize) -> Option<Result<usize, Violation>> {
        let mut reader = ChunkReader::of_client();
        let mut at = 0;
        for mut piece in bytes.chunks(step) {
            while !piece.is_empty() {
                let length = match reader.next(piece) {
                    Ok(Piece::Framing(length) | Piece::Data(length)) => length,
                    Ok(Piece::End(length)) => return Some(Ok(at + length)),
                    Err(violation) => return Some(Err(violation)),
                };
                at += length;
                piece = &piece[length..];
            }
        }
        None
    }

    #[test]
    fn the_end_is_found_however_the_body_is_cut() {
        let cases: &[(&str, Option<Result<usize, Violation>>)] = &[
            ("0\r\n\r\nrest", Some(Ok(5))),
            ("3\r\nabc\r\n0\r\n\r\nrest", Some(Ok(13))),
            ("00003;a=b\r\nabc\r\n000\r\nX: y\r\n\r\nr", Some(Ok(29))),
            ("a\r\n0123456789\r\n0\r\n\r\n", Some(Ok(20))),
            ("3\r\nabc\r\n", None),
            ("3\r\nabcd", Some(Err(Violation))),
            ("g\r\n", Some(Err(Violation))),
            ("1\r\r\n", Some(Err(Violation))),
            ("\r\n", Some(Err(Violation))),
            ("0\r\nX y\r\n\r\n", Some(Err(Violation))),
            ("0000000000000000\r\n\r\n", Some(Err(Violation))),
        ];
        for (body, wanted) in cases {
            for step in 1..=body.len() {
                assert_eq!(&end(body.as_bytes(), step), wanted, "{body:?} by {step}");
            }
        }
    }

    #[test]
    fn content_and_trailers_of_responses_are_told_apart() {
        let body = b"3 \t\r\nabc\r\n2;x\r\nde\r\n0\r\nX-Sum: 7\r\nx-sum: 8\r\n\r\nrest";
        for step in 1..=body.len() {
            let mut reader = ChunkReader::of_upstream();
            let (mut content, mut left, mut at) = (Vec::new(), 0, 0);
            'body: for piece in body.chunks(step) {
                let mut piece = piece;
                while !piece.is_empty() {
                    let length = match reader.next(piece).unwrap() {
                        Piece::Framing(length) => length,
                        Piece::Data(length) => {
                            content.extend_from_slice(&piece[..length]);
                            length
                        }
                        Piece::End(length) => {
                            left = body.len() - at - length;
                            break 'body;
                        }
                    };
                    at += length;
                    piece = &piece[length..];
                }
            }
            assert_eq!((content.as_slice(), left), (&b"abcde"[..], 4), "by {step}");
            let trailers = reader.take_trailers();
            let sums: Vec<_> = trailers.get_all("x-sum").iter().collect();
            assert_eq!(sums, ["7", "8"]);
        }
        let mut strict = ChunkReader::of_client();
        assert_eq!(strict.next(b"3 \r\n"), Err(Violation));
    }
}
