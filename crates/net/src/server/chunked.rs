//! The strict reader of a chunked body (RFC 9112 section 7.1): it only looks for the end and for
//! violations, the bytes themselves are decoded behind it.

use super::head::{is_field, split_header};

/// Bytes of all chunk extensions of one body.
const EXTENSION_BYTES_MAX: usize = 8 * 1024;
/// Bytes of all trailer lines of one body.
const TRAILER_BYTES_MAX: usize = 8 * 1024;
/// Digits of a chunk size; 15 cannot overflow 64 bits.
const SIZE_DIGITS_MAX: u8 = 15;

/// The body broke the rules; nothing after it can be trusted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Violation;

/// Where in the body the next byte is.
#[derive(Debug)]
enum Place {
    Size { value: u64, digits: u8 },
    Extension { size: u64 },
    SizeEnd { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    Trailer,
}

/// Follows a chunked body.
#[derive(Debug)]
pub(super) struct ChunkReader {
    place: Place,
    extension_bytes: usize,
    trailer_bytes: usize,
    /// The trailer line being read, without its end.
    line: Vec<u8>,
}

impl ChunkReader {
    pub(super) fn new() -> Self {
        Self {
            place: Place::Size {
                value: 0,
                digits: 0,
            },
            extension_bytes: 0,
            trailer_bytes: 0,
            line: Vec::new(),
        }
    }

    /// Reads on; gives how many of `bytes` belong to the body and whether it is complete.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<(usize, bool), Violation> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            if let Place::Data { left } = &mut self.place {
                let available = bytes.len() - at;
                let taken = usize::try_from(*left).map_or(available, |left| left.min(available));
                *left -= taken as u64;
                at += taken;
                if *left == 0 {
                    self.place = Place::DataCr;
                }
                continue;
            }
            at += 1;
            if self.byte(*byte)? {
                return Ok((at, true));
            }
        }
        Ok((at, false))
    }

    /// Takes one byte that is not chunk data; `true` when it was the last of the body.
    fn byte(&mut self, byte: u8) -> Result<bool, Violation> {
        self.place = match (&self.place, byte) {
            (Place::Size { value, digits }, _) => self.size(*value, *digits, byte)?,
            (Place::Extension { size }, b'\r') => Place::SizeEnd { size: *size },
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
        split_header(line).map_err(|_| Violation)?;
        self.line.clear();
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the body ends, or that it is broken, reading in pieces of `step` bytes.
    fn end(bytes: &[u8], step: usize) -> Option<Result<usize, Violation>> {
        let mut reader = ChunkReader::new();
        let mut at = 0;
        for piece in bytes.chunks(step) {
            match reader.advance(piece) {
                Ok((length, true)) => return Some(Ok(at + length)),
                Ok((length, false)) => at += length,
                Err(violation) => return Some(Err(violation)),
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
}
