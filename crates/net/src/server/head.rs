//! The strict, resumable reader of one request head (RFC 9112 sections 2 to 6, nginx 1.25 limits).

use std::ops::Range;

use bytes::Bytes;
use http::StatusCode;

use super::{HeadLimits, request};
use crate::Rejection;
use crate::incoming::Framing;

/// Header lines whose places are kept from one head to the next.
const KEPT_LINES_MAX: usize = 64;

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Status to answer.
    pub(crate) status: StatusCode,
    /// Text for the log.
    pub(crate) reason: &'static str,
}

/// What reading on gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The head is not complete.
    Partial,
    /// The head is sound.
    Complete(Sound),
    /// The head is refused; it is not handed on.
    Refused(Refusal),
}

/// What a sound head says of its message and its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sound {
    /// Bytes of the head.
    pub(super) length: usize,
    /// What follows.
    pub(super) framing: Framing,
    /// HTTP/1.1, not 1.0.
    pub(super) version_11: bool,
    /// The client takes another response on this connection.
    pub(super) keep_alive: bool,
    /// The client asks to leave HTTP after this request.
    pub(super) upgrade: bool,
    /// The client waits for 100 before it sends the body.
    pub(super) expects_continue: bool,
    /// The client takes trailers.
    pub(super) trailers: bool,
}

/// Where the parts of a header line lie in the head.
#[derive(Clone, Copy, Debug)]
struct Line {
    name: u32,
    name_end: u32,
    value: u32,
    value_end: u32,
}

pub(crate) type Checked<T> = Result<T, Refusal>;

pub(crate) const fn bad(reason: &'static str) -> Refusal {
    Refusal {
        status: StatusCode::BAD_REQUEST,
        reason,
    }
}

pub(crate) const TOO_LARGE: Refusal = bad(Rejection::TOO_LARGE);

/// Reads a head line by line; every byte is looked at once however it is cut into reads.
#[derive(Default)]
pub(super) struct HeadReader {
    /// Method and target.
    method: Range<usize>,
    target: Range<usize>,
    fields: Vec<Line>,
    /// Start of the line being read.
    line_start: usize,
    /// Bytes already searched for the end of the line.
    searched: usize,
    /// Header lines so far; `None` before the request line.
    lines: Option<usize>,
    /// An empty line before the request line was skipped.
    skipped: bool,
    version_11: bool,
    has_authority: bool,
    has_host: bool,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
    expects_continue: bool,
    trailers: bool,
    close: bool,
    stay: bool,
    quote: bool,
}

impl HeadReader {
    /// Begins another head.
    pub(super) fn renew(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        if fields.capacity() > KEPT_LINES_MAX {
            fields = Vec::new();
        }
        fields.clear();
        *self = Self {
            fields,
            ..Self::default()
        };
    }

    /// Reads on in `bytes`, which begin with the first byte of the head and are those of the last
    /// call and more.
    pub(super) fn advance(&mut self, bytes: &[u8], limits: &HeadLimits) -> Step {
        match self.lines_of(bytes, limits) {
            Ok(step) => step,
            Err(refusal) => Step::Refused(refusal),
        }
    }

    fn lines_of(&mut self, bytes: &[u8], limits: &HeadLimits) -> Checked<Step> {
        loop {
            let unread = bytes.get(self.searched..).unwrap_or_default();
            let Some(at) = memchr::memchr(b'\n', unread) else {
                self.searched = bytes.len();
                self.check_partial(bytes, limits)?;
                return Ok(Step::Partial);
            };
            let end = self.searched + at;
            let line = bytes.get(self.line_start..end).unwrap_or_default();
            self.check_length(line.len() + 1, end + 1, limits)?;
            let Some(line) = line.strip_suffix(b"\r") else {
                return Err(bad("line ends without carriage return"));
            };
            if self.line(line, limits)? {
                return self.complete(end + 1);
            }
            self.line_start = end + 1;
            self.searched = end + 1;
        }
    }

    /// Refuses early what cannot become a sound head, so that nobody waits for the rest.
    fn check_partial(&self, bytes: &[u8], limits: &HeadLimits) -> Checked<()> {
        let line = bytes.get(self.line_start..).unwrap_or_default();
        self.check_length(line.len(), bytes.len(), limits)?;
        match line {
            [first, ..]
                if self.lines.is_none()
                    && !(is_method(*first) || (*first == b'\r' && !self.skipped)) =>
            {
                Err(bad("invalid method"))
            }
            _ => Ok(()),
        }
    }

    fn check_length(&self, line: usize, head: usize, limits: &HeadLimits) -> Checked<()> {
        if line > limits.line_bytes_max {
            return Err(if self.lines.is_none() {
                Refusal {
                    status: StatusCode::URI_TOO_LONG,
                    reason: "request line too long",
                }
            } else {
                TOO_LARGE
            });
        }
        if head > limits.head_bytes_max {
            return Err(TOO_LARGE);
        }
        Ok(())
    }

    /// Takes one line without its end; `true` for the empty line that ends the head.
    fn line(&mut self, line: &[u8], limits: &HeadLimits) -> Checked<bool> {
        let Some(lines) = self.lines else {
            if line.is_empty() && !self.skipped {
                self.skipped = true;
            } else {
                self.request_line(line)?;
                self.lines = Some(0);
            }
            return Ok(false);
        };
        if line.is_empty() {
            return Ok(true);
        }
        if lines >= limits.lines_max {
            return Err(TOO_LARGE);
        }
        self.lines = Some(lines + 1);
        self.header(line)?;
        Ok(false)
    }

    fn request_line(&mut self, line: &[u8]) -> Checked<()> {
        let mut parts = line.split(|byte| *byte == b' ');
        let method = parts.next().unwrap_or_default();
        if method.is_empty() || !method.iter().copied().all(is_method) {
            return Err(bad("invalid method"));
        }
        let (Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(bad("malformed request line"));
        };
        self.version_11 = version_11(version)?;
        if matches!(method, b"CONNECT" | b"TRACE") {
            return Err(Refusal {
                status: StatusCode::METHOD_NOT_ALLOWED,
                reason: "method not allowed",
            });
        }
        self.has_authority = check_target(target)?;
        self.quote = target.iter().copied().any(is_quoted);
        self.method = self.line_start..self.line_start + method.len();
        let start = self.method.end + 1;
        self.target = start..start + target.len();
        Ok(())
    }

    fn header(&mut self, line: &[u8]) -> Checked<()> {
        let (name, value) = split_header(line)?;
        self.note(name, value)?;
        let place = |part: &[u8]| {
            let at = part.as_ptr().addr().saturating_sub(line.as_ptr().addr());
            u32::try_from(self.line_start + at).unwrap_or(u32::MAX)
        };
        let length = |part: &[u8]| u32::try_from(part.len()).unwrap_or(u32::MAX);
        let (name_at, value_at) = (place(name), place(value));
        self.fields.push(Line {
            name: name_at,
            name_end: name_at.saturating_add(length(name)),
            value: value_at,
            value_end: value_at.saturating_add(length(value)),
        });
        Ok(())
    }

    /// Takes what a line says of the message and the connection.
    fn note(&mut self, name: &[u8], value: &[u8]) -> Checked<()> {
        match name.len() {
            2 if name.eq_ignore_ascii_case(b"te") => {
                self.trailers |= lists(value, b"trailers");
                Ok(())
            }
            6 if name.eq_ignore_ascii_case(b"expect") => {
                self.expects_continue |= value.eq_ignore_ascii_case(b"100-continue");
                Ok(())
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                self.close |= lists(value, b"close");
                self.stay |= lists(value, b"keep-alive");
                Ok(())
            }
            4 if name.eq_ignore_ascii_case(b"host") => self.host(value),
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                self.upgrade = true;
                Ok(())
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => self.content_length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.transfer_encoding(value),
            _ => Ok(()),
        }
    }

    fn host(&mut self, value: &[u8]) -> Checked<()> {
        if self.has_host {
            return Err(bad("more than one Host"));
        }
        if !is_authority(value) {
            return Err(bad("invalid Host"));
        }
        self.has_host = true;
        Ok(())
    }

    fn content_length(&mut self, value: &[u8]) -> Checked<()> {
        if self.length.is_some() {
            return Err(bad("more than one Content-Length"));
        }
        if self.chunked {
            return Err(bad("both Content-Length and Transfer-Encoding"));
        }
        self.length = Some(decimal(value).ok_or(bad("invalid Content-Length"))?);
        Ok(())
    }

    fn transfer_encoding(&mut self, value: &[u8]) -> Checked<()> {
        if !self.version_11 {
            return Err(bad("Transfer-Encoding in HTTP/1.0"));
        }
        if self.length.is_some() {
            return Err(bad("both Content-Length and Transfer-Encoding"));
        }
        if self.chunked {
            return Err(bad("more than one Transfer-Encoding"));
        }
        if !value.eq_ignore_ascii_case(b"chunked") {
            let list = value.contains(&b',') || value.is_empty();
            return Err(if list || !value.iter().copied().all(is_token) {
                bad("Transfer-Encoding is not a single chunked")
            } else {
                Refusal {
                    status: StatusCode::NOT_IMPLEMENTED,
                    reason: "unknown transfer coding",
                }
            });
        }
        self.chunked = true;
        Ok(())
    }

    fn complete(&self, length: usize) -> Checked<Step> {
        if self.version_11 && !self.has_host && !self.has_authority {
            return Err(bad("missing Host"));
        }
        if self.version_11 && !self.has_host {
            return Err(bad("missing Host beside absolute-form target"));
        }
        let framing = if self.chunked {
            Framing::Chunked
        } else {
            Framing::Length(self.length.unwrap_or(0))
        };
        Ok(Step::Complete(Sound {
            length,
            framing,
            version_11: self.version_11,
            keep_alive: !self.close && (self.version_11 || self.stay),
            upgrade: self.upgrade && self.version_11,
            expects_continue: self.expects_continue && self.version_11,
            trailers: self.trailers,
        }))
    }

    /// Whether the refused head began with `HEAD`, so that its answer has no body.
    pub(super) fn is_head_request(bytes: &[u8]) -> bool {
        bytes.starts_with(b"HEAD ") || bytes.starts_with(b"\r\nHEAD ")
    }

    /// The sound lines before the refused one, for logs and content negotiation.
    pub(super) fn sound_parts(&self, bytes: &[u8]) -> Option<http::request::Parts> {
        let _begun = self.lines?;
        let sound = Bytes::copy_from_slice(bytes.get(..self.line_start)?);
        request::parts(sound, self)
    }

    /// HTTP/1.1, not 1.0.
    pub(super) fn is_version_11(&self) -> bool {
        self.version_11
    }

    /// The method of a sound request line.
    pub(super) fn method<'a>(&self, head: &'a [u8]) -> Option<&'a [u8]> {
        head.get(self.method.clone())
    }

    /// The target of a sound request line, and whether it has bytes that a URI must escape: then
    /// [`quoted`] is to be handed on.
    pub(super) fn target<'a>(&self, head: &'a [u8]) -> Option<(&'a [u8], bool)> {
        Some((head.get(self.target.clone())?, self.quote))
    }

    /// Names and values of the sound header lines.
    pub(super) fn fields<'a>(
        &self,
        head: &'a [u8],
    ) -> impl ExactSizeIterator<Item = Option<(&'a [u8], &'a [u8])>> {
        let part = |from: u32, to: u32| head.get(from as usize..to as usize);
        self.fields
            .iter()
            .map(move |line| part(line.name, line.name_end).zip(part(line.value, line.value_end)))
    }
}

/// A sound target with `"`, `<`, `>`, back quote and everything beyond ASCII escaped. nginx takes such
/// targets, and browsers and `curl` differ in whether they escape them; behind this point all are alike.
pub(super) fn quoted(target: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(target.len() + 64);
    for byte in target {
        if is_quoted(*byte) {
            let digit = |value: u8| b"0123456789ABCDEF".get(usize::from(value)).copied();
            out.push(b'%');
            out.extend(digit(byte >> 4));
            out.extend(digit(byte & 15));
        } else {
            out.push(*byte);
        }
    }
    out
}

/// Whether a list of tokens holds `token`, in lower case.
fn lists(value: &[u8], token: &[u8]) -> bool {
    value
        .split(|byte| *byte == b',')
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(token))
}

/// Splits a header or trailer line into its name and its value without surrounding whitespace.
pub(crate) fn split_header(line: &[u8]) -> Checked<(&[u8], &[u8])> {
    if matches!(line, [b' ' | b'\t', ..]) {
        return Err(bad("folded header line"));
    }
    let colon = line.iter().position(|byte| !is_token(*byte));
    let (name, rest) = line
        .split_at_checked(colon.unwrap_or(line.len()))
        .ok_or(bad("header line"))?;
    let [b':', value @ ..] = rest else {
        return Err(bad("invalid character in header name"));
    };
    if name.is_empty() {
        return Err(bad("empty header name"));
    }
    if !is_field_text(value) {
        return Err(bad("control character in header value"));
    }
    Ok((name, value.trim_ascii()))
}

fn version_11(version: &[u8]) -> Checked<bool> {
    match version {
        b"HTTP/1.1" => Ok(true),
        b"HTTP/1.0" => Ok(false),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(Refusal {
                status: StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                reason: "HTTP version not supported",
            })
        }
        _ => Err(bad("malformed HTTP version")),
    }
}

/// Checks a request target; `true` for the absolute form.
fn check_target(target: &[u8]) -> Checked<bool> {
    if !target.iter().copied().all(is_target) {
        return Err(bad("invalid character in request target"));
    }
    if target.starts_with(b"/") {
        return Ok(false);
    }
    let rest = strip_scheme(target).ok_or(bad("request target is not a path"))?;
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?'));
    let (authority, _) = rest
        .split_at_checked(end.unwrap_or(rest.len()))
        .unwrap_or_default();
    if is_authority(authority) {
        Ok(true)
    } else {
        Err(bad("invalid authority in request target"))
    }
}

fn strip_scheme(target: &[u8]) -> Option<&[u8]> {
    let at = target.iter().position(|byte| *byte == b':')?;
    let (scheme, rest) = target.split_at_checked(at)?;
    let known = scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https");
    known.then(|| rest.strip_prefix(b"://")).flatten()
}

/// `host[:port]` of RFC 3986 without user info; an empty host is refused.
pub(crate) fn is_authority(value: &[u8]) -> bool {
    let (host, port) = match value {
        [b'[', rest @ ..] => {
            let Some(end) = rest.iter().position(|byte| *byte == b']') else {
                return false;
            };
            let (address, rest) = rest.split_at_checked(end).unwrap_or_default();
            let address = std::str::from_utf8(address).unwrap_or_default();
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            (&b"v6"[..], rest.strip_prefix(b"]").unwrap_or_default())
        }
        _ => {
            let end = value.iter().position(|byte| *byte == b':');
            value
                .split_at_checked(end.unwrap_or(value.len()))
                .unwrap_or_default()
        }
    };
    let port_ok = match port {
        [] | [b':'] => true,
        [b':', digits @ ..] => decimal(digits).is_some_and(|port| port <= u64::from(u16::MAX)),
        _ => false,
    };
    !host.is_empty() && port_ok && host.iter().copied().all(is_host)
}

/// Digits only; more than 19 would not be a length anyone sends.
pub(crate) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, digit| {
        digit
            .is_ascii_digit()
            .then(|| value * 10 + u64::from(digit - b'0'))
    })
}

const METHOD: u8 = 1;
const TOKEN: u8 = 2;
const FIELD: u8 = 4;
const TARGET: u8 = 8;
const HOST: u8 = 16;
const QUOTED: u8 = 32;

/// What each byte may be part of.
static CLASSES: [u8; 256] = classes();

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated at compile time: an index out of bounds does not build"
)]
const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let byte = index as u8;
        let mut class = 0;
        // nginx: upper-case letters, `_` and `-`.
        if matches!(byte, b'A'..=b'Z' | b'_' | b'-') {
            class |= METHOD;
        }
        if byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.'
            )
            || matches!(byte, b'^' | b'_' | b'`' | b'|' | b'~')
        {
            class |= TOKEN;
        }
        if byte == b'\t' || (byte >= b' ' && byte != 0x7f) {
            class |= FIELD;
        }
        if byte > b' ' && byte != 0x7f && byte != b'#' {
            class |= TARGET;
        }
        // What `http::Uri` does not take, or takes in some places only.
        if byte > 0x7f || matches!(byte, b'"' | b'<' | b'>' | b'`') {
            class |= QUOTED;
        }
        if byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'')
            || matches!(byte, b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
        {
            class |= HOST;
        }
        table[index] = class;
        index += 1;
    }
    table
}

#[expect(
    clippy::indexing_slicing,
    reason = "a byte cannot be out of bounds of 256 entries"
)]
fn has(byte: u8, class: u8) -> bool {
    CLASSES[usize::from(byte)] & class != 0
}

pub(crate) fn is_method(byte: u8) -> bool {
    has(byte, METHOD)
}

fn is_token(byte: u8) -> bool {
    has(byte, TOKEN)
}

pub(crate) fn is_field(byte: u8) -> bool {
    has(byte, FIELD)
}

/// Whether all of them are. Looks at every byte whatever it finds, which compilers make one instruction
/// of for many of them: values such as tokens are long.
pub(crate) fn is_field_text(value: &[u8]) -> bool {
    let is_field = |byte: &u8| (*byte >= b' ' && *byte != 0x7f) || *byte == b'\t';
    value
        .iter()
        .fold(true, |sound, byte| sound & is_field(byte))
}

pub(crate) fn is_target(byte: u8) -> bool {
    has(byte, TARGET)
}

pub(crate) fn is_quoted(byte: u8) -> bool {
    has(byte, QUOTED)
}

fn is_host(byte: u8) -> bool {
    has(byte, HOST)
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
