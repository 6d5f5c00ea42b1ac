//! The head of a response.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::response::Parts;
use http::{HeaderName, HeaderValue, Response, StatusCode, Version};
use o28m_core::limits;

use super::InvalidResponse;
use crate::incoming::{Framing, Incoming};
use crate::spelling::{ReceivedHead, value_in};

/// Header lines of nearly all heads.
const LINES: usize = 64;
/// Fields that are added on the way to the client without growing the map: that costs more than the room.
const ROOM: usize = 6;

/// A response head.
pub(super) struct Head {
    pub(super) parts: Parts,
    /// What follows it.
    pub(super) incoming: Incoming,
    /// The upstream keeps the connection open.
    pub(super) keep_alive: bool,
}

/// Finds heads in what was read; every byte is searched once however it is cut into reads.
#[derive(Default)]
pub(super) struct HeadReader {
    searched: usize,
}

impl HeadReader {
    /// Takes a whole head off `input`; `bodyless` when it answers `HEAD`.
    pub(super) fn read(
        &mut self,
        input: &mut BytesMut,
        bodyless: bool,
    ) -> Result<Option<Head>, InvalidResponse> {
        const START: &[u8; 7] = b"HTTP/1.";
        if input.is_empty() {
            return Ok(None);
        }
        if !input.starts_with(START) && !START.starts_with(input) {
            return Err(InvalidResponse::NotHttp);
        }
        let Some(length) = self.end(input) else {
            return if input.len() > limits::RESPONSE_HEAD_BYTES_MAX {
                Err(InvalidResponse::TooLarge)
            } else {
                Ok(None)
            };
        };
        if length > limits::RESPONSE_HEAD_BYTES_MAX {
            return Err(InvalidResponse::TooLarge);
        }
        self.searched = 0;
        let head = input.split_to(length).freeze();
        let mut lines = [const { MaybeUninit::uninit() }; LINES];
        match parse(&head, &mut lines, bodyless) {
            Err(InvalidResponse::Malformed(httparse::Error::TooManyHeaders)) => {
                parse_wide(&head, bodyless).map(Some)
            }
            result => result.map(Some),
        }
    }

    /// Where the empty line that ends the head ends.
    fn end(&mut self, input: &[u8]) -> Option<usize> {
        loop {
            let rest = input.get(self.searched..)?;
            let line_end = memchr::memchr(b'\n', rest);
            let Some(line_end) = line_end else {
                self.searched = input.len();
                return None;
            };
            let next = self.searched + line_end + 1;
            match input.get(next..)? {
                [b'\n', ..] => return Some(next + 1),
                [b'\r', b'\n', ..] => return Some(next + 2),
                // What follows decides; this line end is looked at again.
                [] | [b'\r'] => {
                    self.searched = next - 1;
                    return None;
                }
                _ => self.searched = next,
            }
        }
    }
}

#[cold]
fn parse_wide(head: &Bytes, bodyless: bool) -> Result<Head, InvalidResponse> {
    let mut lines = [const { MaybeUninit::uninit() }; limits::HEADER_LINES_MAX];
    parse(head, &mut lines, bodyless)
}

fn parse<'a>(
    head: &'a Bytes,
    lines: &mut [MaybeUninit<httparse::Header<'a>>],
    bodyless: bool,
) -> Result<Head, InvalidResponse> {
    let mut raw = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let parsed = config.parse_response_with_uninit_headers(&mut raw, head, lines);
    if parsed.map_err(InvalidResponse::Malformed)?.is_partial() {
        return Err(InvalidResponse::NotHttp);
    }
    let status =
        StatusCode::from_u16(raw.code.unwrap_or_default()).map_err(|_| InvalidResponse::NotHttp)?;
    let mut parts = Response::new(()).into_parts().0;
    parts.status = status;
    let is_11 = raw.version == Some(1);
    if !is_11 {
        parts.version = Version::HTTP_10;
    }
    parts.headers.reserve(raw.headers.len() + ROOM);
    let mut facts = Facts::default();
    for line in raw.headers.iter() {
        let name =
            HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| InvalidResponse::NotHttp)?;
        let value = value_in(head, line.value).ok_or(InvalidResponse::NotHttp)?;
        facts.note(&name, &value)?;
        parts.headers.append(name, value);
    }
    let bodyless = bodyless
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let mut keep_alive = facts.keeps_alive(is_11);
    if facts.chunked {
        // The length would be passed on and believed beside the coding.
        let both = parts.headers.remove(CONTENT_LENGTH).is_some();
        keep_alive &= !both && is_11;
    } else if facts.lengths > 1
        && let Some(length) = facts.length
    {
        parts
            .headers
            .insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    parts.extensions = ReceivedHead::extensions(head.clone());
    let framing = if bodyless {
        Framing::Length(0)
    } else {
        facts.framing()
    };
    Ok(Head {
        parts,
        keep_alive: keep_alive && framing != Framing::Close,
        incoming: Incoming::of_upstream(framing),
    })
}

/// What the header lines say of the message (RFC 9112 sections 6 and 9.3).
#[derive(Default)]
struct Facts {
    length: Option<u64>,
    /// Lengths given, equal ones.
    lengths: usize,
    chunked: bool,
    close: bool,
    kept: bool,
}

impl Facts {
    fn note(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), InvalidResponse> {
        if *name == CONTENT_LENGTH {
            for part in value.as_bytes().split(|byte| *byte == b',') {
                let length = decimal(part.trim_ascii()).ok_or(InvalidResponse::Length)?;
                if self.length.is_some_and(|known| known != length) {
                    return Err(InvalidResponse::Length);
                }
                self.length = Some(length);
                self.lengths += 1;
            }
        } else if *name == TRANSFER_ENCODING {
            // Behind another coding the content would not be what its fields say.
            if self.chunked || !value.as_bytes().eq_ignore_ascii_case(b"chunked") {
                return Err(InvalidResponse::Coding);
            }
            self.chunked = true;
        } else if *name == CONNECTION {
            for token in value.as_bytes().split(|byte| *byte == b',') {
                let token = token.trim_ascii();
                self.close |= token.eq_ignore_ascii_case(b"close");
                self.kept |= token.eq_ignore_ascii_case(b"keep-alive");
            }
        }
        Ok(())
    }

    fn keeps_alive(&self, is_11: bool) -> bool {
        !self.close && (is_11 || self.kept)
    }

    fn framing(&self) -> Framing {
        match self.length {
            _ if self.chunked => Framing::Chunked,
            Some(length) => Framing::Length(length),
            None => Framing::Close,
        }
    }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok()?;
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], step: usize) -> Result<Option<(Head, BytesMut)>, InvalidResponse> {
        let (mut reader, mut input) = (HeadReader::default(), BytesMut::new());
        let mut pieces = bytes.chunks(step);
        while let Some(piece) = pieces.next() {
            input.extend_from_slice(piece);
            if let Some(head) = reader.read(&mut input, false)? {
                pieces.for_each(|piece| input.extend_from_slice(piece));
                return Ok(Some((head, input)));
            }
        }
        Ok(None)
    }

    /// Status, framing, keep-alive and what follows, however the bytes are cut.
    fn outcome(bytes: &str) -> String {
        let mut first = None;
        for step in 1..=bytes.len() {
            let outcome = match read(bytes.as_bytes(), step) {
                Ok(Some((head, rest))) => format!(
                    "{} {} {} {}",
                    head.parts.status.as_u16(),
                    match head.incoming {
                        Incoming::Length(length) => length.to_string(),
                        Incoming::Chunked(_) => "chunked".to_owned(),
                        Incoming::Close => "close".to_owned(),
                        Incoming::Trailers(_) => "trailers".to_owned(),
                        Incoming::Ended => "none".to_owned(),
                    },
                    if head.keep_alive { "kept" } else { "once" },
                    String::from_utf8_lossy(&rest),
                ),
                Ok(None) => "partial".to_owned(),
                Err(error) => error.to_string(),
            };
            let first = first.get_or_insert_with(|| outcome.clone());
            assert_eq!(*first, outcome, "{bytes:?} by {step}");
        }
        first.unwrap()
    }

    #[test]
    fn heads_say_what_follows() {
        let cases = [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                "200 2 kept ok",
            ),
            (
                "HTTP/1.1 200\r\ncontent-length: 2, 2\r\n\r\nok",
                "200 2 kept ok",
            ),
            ("HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "200 2 kept ok"),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
                "200 2 once ok",
            ),
            (
                "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n",
                "200 2 kept ",
            ),
            (
                "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\n",
                "200 2 once ",
            ),
            ("HTTP/1.1 200 OK\r\n\r\nrest", "200 close once rest"),
            (
                "HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n",
                "204 none kept ",
            ),
            ("HTTP/1.1 100 Go\r\n\r\nHTTP", "100 none kept HTTP"),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n",
                "200 chunked kept ",
            ),
            (
                "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                "200 chunked once ",
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                "200 chunked once ",
            ),
            ("HTTP/1.1 200 OK\r\nX: y\r\n", "partial"),
        ];
        for (bytes, wanted) in cases {
            assert_eq!(outcome(bytes), wanted, "{bytes:?}");
        }
        for broken in [
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: y\r\n folded\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
            "HTTP/1.1 2x0 OK\r\n\r\n",
            "HTTP/2 200\r\n\r\n",
            "\r\nHTTP/1.1 200 OK\r\n\r\n",
            "SSH-2.0",
        ] {
            let outcome = outcome(broken);
            assert!(
                !outcome.contains(" kept") && !outcome.contains(" once"),
                "{broken:?}: {outcome}"
            );
            assert_ne!(outcome, "partial", "{broken:?}");
        }
    }

    #[test]
    fn many_lines_are_taken_and_too_many_refused() {
        let head = |lines: usize| {
            let lines: String = (0..lines).map(|n| format!("X-{n}: y\r\n")).collect();
            format!("HTTP/1.1 200 OK\r\n{lines}\r\n")
        };
        let count = |lines| {
            let head = head(lines);
            let read = read(head.as_bytes(), head.len());
            read.map(|it| it.unwrap().0.parts.headers.len())
        };
        assert_eq!(count(LINES).unwrap(), LINES);
        assert_eq!(count(1000).unwrap(), 1000);
        assert!(matches!(count(1001), Err(InvalidResponse::Malformed(_))));
    }
}
