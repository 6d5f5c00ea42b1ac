//! Redis' protocol (RESP 2): commands out, replies in.

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

use super::Error;

/// Longest line of a reply.
const LINE_BYTES_MAX: u64 = 4096;
/// Longest string in a reply.
const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Most items of an array.
const ITEMS_MAX: usize = 64;

/// A reply of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
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

/// Reads one reply.
pub(super) async fn read(source: &mut (impl AsyncBufRead + Unpin)) -> Result<Reply, Error> {
    let line = line(source).await?;
    let Some(count) = line.strip_prefix('*') else {
        return scalar(source, &line).await;
    };
    let Some(count) = length(count, ITEMS_MAX)? else {
        return Ok(Reply::Null);
    };
    let mut items = Vec::with_capacity(count);
    for _ in 0..count {
        let line = self::line(source).await?;
        items.push(scalar(source, &line).await?);
    }
    Ok(Reply::Array(items))
}

async fn scalar(source: &mut (impl AsyncBufRead + Unpin), line: &str) -> Result<Reply, Error> {
    let mut rest = line.chars();
    let kind = rest.next();
    let rest = rest.as_str();
    match kind {
        Some('+') => Ok(Reply::Text(rest.as_bytes().to_vec())),
        Some('-') => Ok(Reply::Error(rest.to_owned())),
        Some(':') => {
            let number = rest.parse().map_err(|_| Error::Protocol)?;
            Ok(Reply::Integer(number))
        }
        Some('$') => match length(rest, TEXT_BYTES_MAX)? {
            None => Ok(Reply::Null),
            Some(length) => bulk(source, length).await,
        },
        _ => Err(Error::Protocol),
    }
}

async fn bulk(source: &mut (impl AsyncBufRead + Unpin), length: usize) -> Result<Reply, Error> {
    let mut text = vec![0; length];
    source.read_exact(&mut text).await?;
    let mut end = [0; 2];
    source.read_exact(&mut end).await?;
    if end == *b"\r\n" {
        Ok(Reply::Text(text))
    } else {
        Err(Error::Protocol)
    }
}

async fn line(source: &mut (impl AsyncBufRead + Unpin)) -> Result<String, Error> {
    let mut bytes = Vec::new();
    let mut limited = source.take(LINE_BYTES_MAX);
    if limited.read_until(b'\n', &mut bytes).await? == 0 {
        return Err(Error::Io(std::io::ErrorKind::UnexpectedEof.into()));
    }
    let text = String::from_utf8(bytes).map_err(|_| Error::Protocol)?;
    let text = text.strip_suffix("\r\n").ok_or(Error::Protocol)?;
    Ok(text.to_owned())
}

fn length(digits: &str, most: usize) -> Result<Option<usize>, Error> {
    if digits == "-1" {
        return Ok(None);
    }
    let length: usize = digits.parse().map_err(|_| Error::Protocol)?;
    (length <= most)
        .then_some(Some(length))
        .ok_or(Error::Protocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn reply(mut bytes: &[u8]) -> Result<Reply, Error> {
        read(&mut bytes).await
    }

    #[tokio::test]
    async fn replies_are_read() {
        let text = |text: &str| Reply::Text(text.as_bytes().to_vec());
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
        ] {
            assert_eq!(reply(bytes).await.unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn what_is_no_reply_or_too_large_is_refused() {
        let endless = vec![b'+'; 8192];
        for bytes in [
            &b""[..],
            b"\r\n",
            b"?\r\n",
            b"+OK\n",
            b":x\r\n",
            b"$x\r\n",
            b"$99999999\r\n",
            b"$2\r\nab??",
            b"*65\r\n",
            b"*1\r\n*1\r\n:1\r\n",
            b"+\xff\r\n",
            b"*2\r\n:1\r\n",
            &endless,
        ] {
            assert!(reply(bytes).await.is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn arguments_are_counted_in_bytes() {
        assert_eq!(
            command(&["GET", "ä\r\n"]),
            "*2\r\n$3\r\nGET\r\n$4\r\nä\r\n\r\n".as_bytes()
        );
    }
}
