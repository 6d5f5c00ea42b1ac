//! Entry points of the fuzz targets: each takes any bytes and panics when a promise is broken. The same
//! functions run over the committed inputs in an ordinary test.

use bytes::{Bytes, BytesMut};

use crate::incoming::{Framing, Incoming, Next};

pub use crate::client::fuzz::response;
pub use crate::h2::fuzz::http2;
pub use crate::server::fuzz::{Arrived, Ending, head, read_all};

/// What takes an input; it panics when a promise is broken.
pub type Entry = fn(&[u8]);

/// Name and entry point of each target.
pub const TARGETS: &[(&str, Entry)] = &[
    ("head", head),
    ("http2", http2),
    ("response", response),
    ("proxyprotocol", proxy_protocol),
];

/// A header of the PROXY protocol and what follows it.
///
/// # Panics
/// When what follows changes how the header is read, when it is read before it is whole, or when it
/// says something else than its text.
pub fn proxy_protocol(data: &[u8]) {
    use crate::proxy_protocol::parse;
    let outcome = parse(data);
    for length in 0..data.len().min(600) {
        let start = parse(data.get(..length).unwrap_or_default());
        match (&outcome, start) {
            (Ok(Some(header)), start) if length < header.length => assert_eq!(start, Ok(None)),
            (Ok(None), start) => assert_eq!(start, Ok(None)),
            (Ok(Some(_)), start) => assert_eq!(start, outcome),
            (Err(_), start) => assert!(!matches!(start, Ok(Some(_))), "{start:?}"),
        }
    }
    let Ok(Some(header)) = outcome else {
        return;
    };
    let text = data.get(..header.length).unwrap_or_default();
    if let (Some(source), Ok(text)) = (header.source, std::str::from_utf8(text))
        && text.starts_with("PROXY ")
    {
        let words: Vec<&str> = text.trim_end().split(' ').collect();
        let places = (words.get(2), words.get(4));
        let ip = places.0.and_then(|ip| ip.parse().ok());
        assert_eq!(ip, Some(source.ip()), "{words:?}");
        let port = source.port().to_string();
        assert_eq!(places.1, Some(&port.as_str()), "{words:?}");
    }
}

/// Bytes of a piece at most, so that short inputs come in several.
const PIECE_BYTES_MAX: u64 = 24;

/// Cuts bytes into pieces as a seed says.
pub(crate) struct Cuts(u64);

impl Cuts {
    /// The same seed cuts alike.
    pub(crate) fn new(seed: u8) -> Self {
        Self(u64::from(seed) | 1 << 32)
    }

    /// Takes the next piece off.
    pub(crate) fn take<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
        if bytes.is_empty() {
            return None;
        }
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let length = usize::try_from(1 + (self.0 >> 33) % PIECE_BYTES_MAX).unwrap_or(1);
        let (piece, rest) = bytes.split_at(length.min(bytes.len()));
        *bytes = rest;
        Some(piece)
    }
}

/// How far a body was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// More must come.
    More,
    /// It ended, and so many bytes are behind it.
    End(usize),
    /// It broke the rules.
    Broken,
}

/// Reads a body out of pieces: its content, and where it stopped.
pub(crate) fn content<'a>(
    mut incoming: Incoming,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Vec<u8>, Stop) {
    let (mut content, mut input) = (Vec::new(), BytesMut::new());
    let mut pieces = pieces.fuse();
    loop {
        match incoming.next(&mut input) {
            Ok(Next::Frame(frame)) => {
                let data = frame.into_data().unwrap_or_default();
                content.extend_from_slice(&data);
            }
            Ok(Next::End) => {
                let behind = input.len() + pieces.map(<[u8]>::len).sum::<usize>();
                return (content, Stop::End(behind));
            }
            Ok(Next::More) => match pieces.next() {
                Some(piece) => input.extend_from_slice(piece),
                None => return (content, Stop::More),
            },
            Err(_) => return (content, Stop::Broken),
        }
    }
}

/// Checks that a body is read alike however it is cut, and as another reader reads it; the content and
/// where it stopped.
///
/// # Panics
/// When it is not.
pub(crate) fn check_body(make: fn(Framing) -> Incoming, framing: Framing, bytes: &[u8], seed: u8) {
    let (whole, stop) = content(make(framing), std::iter::once(bytes));
    let (mut cuts, mut left) = (Cuts::new(seed), bytes);
    let pieces = std::iter::from_fn(|| cuts.take(&mut left));
    let (cut, cut_stop) = content(make(framing), pieces);
    assert_eq!(stop, cut_stop, "the cut decides");
    match stop {
        // What came just before the violation may not have been handed on.
        Stop::Broken => assert!(cut.starts_with(&whole) || whole.starts_with(&cut)),
        Stop::More | Stop::End(_) => assert_eq!(whole, cut),
    }
    let Stop::End(behind) = stop else {
        return;
    };
    let used = bytes.get(..bytes.len() - behind).unwrap_or_default();
    match framing {
        Framing::Length(length) => {
            assert_eq!(used, whole);
            assert_eq!(length, whole.len() as u64);
        }
        Framing::Chunked => assert_eq!(dechunked(used), whole, "another reader reads another body"),
        Framing::Close => assert_eq!(used.len(), 0),
    }
}

/// The content of a whole chunked body, as `httparse` reads it.
///
/// # Panics
/// When it is no whole chunked body.
fn dechunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    loop {
        let parsed = httparse::parse_chunk_size(bytes);
        let Ok(httparse::Status::Complete((start, size))) = parsed else {
            assert_eq!(parsed, Ok(httparse::Status::Complete((0, 0))));
            return content;
        };
        bytes = bytes.get(start..).unwrap_or_default();
        if size == 0 {
            break;
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let (data, rest) = bytes.split_at_checked(size).unwrap_or_default();
        content.extend_from_slice(data);
        bytes = rest.strip_prefix(b"\r\n").unwrap_or_default();
    }
    let mut lines = [httparse::EMPTY_HEADER; 2048];
    let trailers = httparse::parse_headers(bytes, &mut lines);
    let whole = httparse::Status::Complete(bytes.len());
    let length = match trailers {
        Ok(httparse::Status::Complete((length, _))) => httparse::Status::Complete(length),
        _ => httparse::Status::Partial,
    };
    assert_eq!(length, whole, "another reader finds another end");
    content
}

/// Header lines in an order that does not depend on how they were kept.
pub(crate) fn sorted<'a>(
    lines: impl Iterator<Item = (&'a str, &'a [u8])>,
) -> Vec<(String, Vec<u8>)> {
    let owned = lines.map(|(name, value)| (name.to_ascii_lowercase(), value.to_vec()));
    let mut lines: Vec<_> = owned.collect();
    lines.sort();
    lines
}

/// Header lines of a map, without those of some names.
pub(crate) fn lines_of(headers: &http::HeaderMap, without: &[&str]) -> Vec<(String, Vec<u8>)> {
    let lines = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()));
    sorted(lines.filter(|(name, _)| !without.contains(name)))
}

/// Bytes that outlive the input.
pub(crate) fn shared(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// What the fuzz targets promise holds for every committed input.
    #[test]
    fn committed_inputs_break_nothing() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
        for (target, entry) in super::TARGETS {
            let mut count = 0;
            for file in std::fs::read_dir(corpus.join(target)).unwrap() {
                let path = file.unwrap().path();
                let data = std::fs::read(&path).unwrap();
                let ran = std::panic::catch_unwind(|| entry(&data));
                assert!(ran.is_ok(), "{}", path.display());
                count += 1;
            }
            assert!(count > 5, "{target} has {count} inputs");
        }
    }
}
