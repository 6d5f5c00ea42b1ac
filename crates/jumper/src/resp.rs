//! The little of Redis' protocol (RESP 2) that a subscriber needs.

/// Longest reply that is read.
pub(crate) const REPLY_BYTES_MAX: usize = 64 * 1024;
/// Most items of an array.
const ITEMS_MAX: usize = 16;

/// A reply of the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// `+OK`, or a bulk string.
    Text(Vec<u8>),
    /// `-ERR …`.
    Error(String),
    /// `:1`.
    Number,
    /// A null string or array.
    Null,
    /// `*2 …`.
    Array(Vec<Reply>),
}

/// The server does not speak the protocol, or says too much.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("reply of the server cannot be read")]
pub(crate) struct Broken;

/// A command with its arguments.
pub(crate) fn command(parts: &[&str]) -> Vec<u8> {
    let mut text = format!("*{}\r\n", parts.len());
    for part in parts {
        text.push_str(&format!("${}\r\n{part}\r\n", part.len()));
    }
    text.into_bytes()
}

/// The first reply in `bytes` and how long it is; `None` when it is not complete yet.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Reply, usize)>, Broken> {
    let mut cursor = Cursor { bytes, at: 0 };
    let reply = cursor.reply(0)?;
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
    fn reply(&mut self, depth: usize) -> Result<Option<Reply>, Broken> {
        let Some(line) = self.line() else {
            return Ok(None);
        };
        let (kind, rest) = line.split_first().ok_or(Broken)?;
        match kind {
            b'+' => Ok(Some(Reply::Text(rest.to_vec()))),
            b'-' => {
                let text = String::from_utf8_lossy(rest).into_owned();
                Ok(Some(Reply::Error(text)))
            }
            b':' => Ok(Some(Reply::Number)),
            b'$' => match length(rest)? {
                None => Ok(Some(Reply::Null)),
                Some(length) if length > REPLY_BYTES_MAX => Err(Broken),
                Some(length) => Ok(self.bulk(length)),
            },
            b'*' if depth == 0 => match length(rest)? {
                None => Ok(Some(Reply::Null)),
                Some(length) if length > ITEMS_MAX => Err(Broken),
                Some(length) => self.array(length),
            },
            _ => Err(Broken),
        }
    }

    fn array(&mut self, length: usize) -> Result<Option<Reply>, Broken> {
        let mut items = Vec::with_capacity(length);
        for _ in 0..length {
            match self.reply(1)? {
                Some(item) => items.push(item),
                None => return Ok(None),
            }
        }
        Ok(Some(Reply::Array(items)))
    }

    fn bulk(&mut self, length: usize) -> Option<Reply> {
        let text = self.bytes.get(self.at..self.at + length)?.to_vec();
        self.bytes.get(self.at + length..self.at + length + 2)?;
        self.at += length + 2;
        Some(Reply::Text(text))
    }

    fn line(&mut self) -> Option<&'a [u8]> {
        let rest = self.bytes.get(self.at..)?;
        let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        self.at += end + 2;
        rest.get(..end)
    }
}

fn length(digits: &[u8]) -> Result<Option<usize>, Broken> {
    match digits {
        b"-1" => Ok(None),
        _ => std::str::from_utf8(digits)
            .ok()
            .and_then(|digits| digits.parse().ok())
            .map(Some)
            .ok_or(Broken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_when_they_are_whole() {
        let message = b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\n{}\r\n+OK\r\n";
        let (reply, length) = parse(message).unwrap().unwrap();
        let text = |text: &[u8]| Reply::Text(text.to_vec());
        let items = vec![text(b"message"), text(b"c"), text(b"{}")];
        assert_eq!(reply, Reply::Array(items));
        assert_eq!(parse(&message[length..]), Ok(Some((text(b"OK"), 5))));
        for end in 0..length {
            assert_eq!(parse(&message[..end]), Ok(None), "{end}");
        }
        assert_eq!(parse(b"$-1\r\n"), Ok(Some((Reply::Null, 5))));
        for bad in [
            &b"\r\n"[..],
            b"?\r\n",
            b"$x\r\n",
            b"$99999999\r\n",
            b"*99\r\n",
            b"*1\r\n*1\r\n",
        ] {
            assert_eq!(parse(bad), Err(Broken));
        }
        assert_eq!(parse(&vec![b'+'; REPLY_BYTES_MAX]), Err(Broken));
    }
}
