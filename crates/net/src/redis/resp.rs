//! Redis' protocol (RESP 2): commands out, replies in.

/// Longest line of a reply.
const LINE_BYTES_MAX: usize = 4096;
/// Longest string in a reply.
const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Most items of an array.
const ITEMS_MAX: usize = 64;
/// Longest reply.
pub(super) const REPLY_BYTES_MAX: usize = 2 * TEXT_BYTES_MAX;

/// A reply of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A simple or bulk string.
    Text(Vec<u8>),
    /// A whole number.
    Integer(i64),
    /// A null string or array.
    Null,
    /// Items that are no arrays themselves.
    Array(Vec<Reply>),
    /// What the server refuses with.
    Error(String),
}

/// The server does not speak the protocol, or says too much.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// A command with its arguments.
pub(super) fn command(parts: &[&str]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len() + 16).sum();
    let mut bytes = Vec::with_capacity(length + 8);
    bytes.extend_from_slice(format!("*{}\r\n", parts.len()).as_bytes());
    for part in parts {
        bytes.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
        bytes.extend_from_slice(part.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// The first reply in `bytes` and how long it is; `None` when it is not complete yet.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Reply, usize)>, Broken> {
    let mut cursor = Cursor { bytes, at: 0 };
    let reply = cursor.reply()?;
    if reply.is_none() && bytes.len() >= REPLY_BYTES_MAX {
        return Err(Broken);
    }
    Ok(reply.map(|reply| (reply, cursor.at)))
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn reply(&mut self) -> Result<Option<Reply>, Broken> {
        let Some(line) = self.line()? else {
            return Ok(None);
        };
        let Some(count) = line.strip_prefix(b"*") else {
            return self.scalar(line);
        };
        let Some(count) = length(count, ITEMS_MAX)? else {
            return Ok(Some(Reply::Null));
        };
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            let Some(line) = self.line()? else {
                return Ok(None);
            };
            match self.scalar(line)? {
                Some(item) => items.push(item),
                None => return Ok(None),
            }
        }
        Ok(Some(Reply::Array(items)))
    }

    fn scalar(&mut self, line: &[u8]) -> Result<Option<Reply>, Broken> {
        let (kind, rest) = line.split_first().ok_or(Broken)?;
        let reply = match kind {
            b'+' => Reply::Text(rest.to_vec()),
            b'-' => Reply::Error(String::from_utf8_lossy(rest).into_owned()),
            b':' => Reply::Integer(number(rest)?),
            b'$' => match length(rest, TEXT_BYTES_MAX)? {
                None => Reply::Null,
                Some(length) => return self.bulk(length),
            },
            _ => return Err(Broken),
        };
        Ok(Some(reply))
    }

    fn bulk(&mut self, length: usize) -> Result<Option<Reply>, Broken> {
        let end = self.at + length;
        let (Some(text), Some(after)) =
            (self.bytes.get(self.at..end), self.bytes.get(end..end + 2))
        else {
            return Ok(None);
        };
        if after != b"\r\n" {
            return Err(Broken);
        }
        self.at = end + 2;
        Ok(Some(Reply::Text(text.to_vec())))
    }

    fn line(&mut self) -> Result<Option<&'a [u8]>, Broken> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let window = rest.get(..LINE_BYTES_MAX).unwrap_or(rest);
        let Some(end) = memchr::memchr(b'\n', window) else {
            let is_long = rest.len() >= LINE_BYTES_MAX;
            return if is_long { Err(Broken) } else { Ok(None) };
        };
        self.at += end + 1;
        let line = rest.get(..end).and_then(|it| it.strip_suffix(b"\r"));
        line.map(Some).ok_or(Broken)
    }
}

fn number<T: std::str::FromStr>(digits: &[u8]) -> Result<T, Broken> {
    let digits = std::str::from_utf8(digits).map_err(|_| Broken)?;
    digits.parse().map_err(|_| Broken)
}

fn length(digits: &[u8], most: usize) -> Result<Option<usize>, Broken> {
    if digits == b"-1" {
        return Ok(None);
    }
    let length = number(digits)?;
    (length <= most).then_some(Some(length)).ok_or(Broken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Reply {
        Reply::Text(text.as_bytes().to_vec())
    }

    #[test]
    fn replies_are_read_when_they_are_whole() {
        for (bytes, expected) in [
            (&b"+OK\r\n"[..], text("OK")),
            (b":-7\r\n", Reply::Integer(-7)),
            (b"$-1\r\n", Reply::Null),
            (b"*-1\r\n", Reply::Null),
            (b"$4\r\na\r\nb\r\n", text("a\r\nb")),
            (b"-ERR no\r\n", Reply::Error("ERR no".into())),
            (
                b"*2\r\n:1\r\n$1\r\nx\r\n",
                Reply::Array(vec![Reply::Integer(1), text("x")]),
            ),
            (
                b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\n{}\r\n",
                Reply::Array(vec![text("message"), text("c"), text("{}")]),
            ),
        ] {
            let more = [bytes, b"+more\r\n"].concat();
            assert_eq!(parse(&more), Ok(Some((expected, bytes.len()))));
            for end in 0..bytes.len() {
                assert_eq!(parse(&bytes[..end]), Ok(None), "{bytes:?} to {end}");
            }
        }
    }

    #[test]
    fn what_is_no_reply_or_too_large_is_refused() {
        let endless = vec![b'+'; LINE_BYTES_MAX];
        let mut large = b"*3\r\n".to_vec();
        for _ in 0..2 {
            large.extend(b"$65536\r\n");
            large.extend(vec![b'x'; TEXT_BYTES_MAX]);
            large.extend(b"\r\n");
        }
        for bytes in [
            &b"\r\n"[..],
            b"?\r\n",
            b"+OK\n",
            b":x\r\n",
            b"$x\r\n",
            b"$99999999\r\n",
            b"$2\r\nab??",
            b"*65\r\n",
            b"*1\r\n*1\r\n:1\r\n",
            &endless,
            &large,
        ] {
            assert_eq!(
                parse(bytes),
                Err(Broken),
                "{:?}",
                &bytes[..5.min(bytes.len())]
            );
        }
    }

    #[test]
    fn arguments_are_counted_in_bytes() {
        assert_eq!(
            command(&["GET", "ä\r\n"]),
            "*2\r\n$3\r\nGET\r\n$4\r\nä\r\n\r\n".as_bytes()
        );
    }

    proptest! {
        #[test]
        fn replies_of_any_kind_are_refused_or_read(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
            likely in "[*$:+-][0-9]{0,3}(\r\n){0,2}[*$:+-]?[a-z0-9]{0,4}\r\n",
        ) {
            for bytes in [bytes.as_slice(), likely.as_bytes()] {
                if let Ok(Some((_, length))) = parse(bytes) {
                    prop_assert!(length <= bytes.len());
                }
            }
        }
    }
}
