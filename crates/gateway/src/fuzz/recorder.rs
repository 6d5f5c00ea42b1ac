//! An upstream that reads with a parser of its own, keeps every request, and notes what is none.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What an upstream was sent.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Whole requests, in the order of their ends.
    pub(super) requests: Vec<Seen>,
    /// What was no request, and why.
    pub(super) bad: Vec<String>,
}

/// A whole request.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) target: String,
    /// Names in lower case.
    pub(super) lines: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
}

impl Seen {
    /// Every value of a header.
    pub(super) fn values(&self, name: &str) -> Vec<&[u8]> {
        let lines = self.lines.iter().filter(|(key, _)| key == name);
        lines.map(|(_, value)| &**value).collect()
    }
}

/// Serves for ever.
pub(super) async fn record(listener: TcpListener, record: Arc<Mutex<Record>>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(talk(stream, record.clone()));
    }
}

async fn talk(mut stream: TcpStream, record: Arc<Mutex<Record>>) {
    // Connections are many and short: none of them may leave its port in use.
    let _lingers = stream.set_zero_linger();
    let mut input = Vec::new();
    loop {
        let seen = match take(&mut input) {
            Ok(Some(seen)) => seen,
            Ok(None) => match stream.read_buf(&mut input).await {
                Ok(0) | Err(_) => return,
                Ok(_) => continue,
            },
            Err(why) => {
                let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
                record.bad.push(format!("{why}: {}", input.escape_ascii()));
                return;
            }
        };
        let answer = answer_to(&seen);
        let switches = !seen.values("upgrade").is_empty();
        {
            let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
            record.requests.push(seen);
        }
        if stream.write_all(answer).await.is_err() {
            return;
        }
        if switches {
            // Bytes of another protocol.
            let mut sink = tokio::io::sink();
            drop(tokio::io::copy(&mut stream, &mut sink).await);
            return;
        }
        if answer == CLOSING {
            let _ended = stream.shutdown().await;
            return;
        }
    }
}

const SWITCHING: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
const CLOSING: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it";
const LONE_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";

/// Answers of all kinds; which one is told by the length of the target.
fn answer_to(seen: &Seen) -> &'static [u8] {
    const ANSWERS: [&[u8]; 5] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
        CLOSING,
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 300\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n",
    ];
    if !seen.values("upgrade").is_empty() {
        return SWITCHING;
    }
    if seen.method == "HEAD" {
        return LONE_HEAD;
    }
    let answer = ANSWERS.get(seen.target.len() % ANSWERS.len());
    answer.copied().unwrap_or(CLOSING)
}

type Taken<T> = Result<Option<T>, &'static str>;

fn ensure(holds: bool, why: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(why) }
}

/// Takes a request off, when it is whole.
fn take(input: &mut Vec<u8>) -> Taken<Seen> {
    let Some(length) = input.windows(4).position(|it| it == b"\r\n\r\n") else {
        return Ok(None);
    };
    let (head, rest) = input.split_at(length + 4);
    let mut seen = read_head(head)?;
    let lengths = seen.values("content-length");
    let codings = seen.values("transfer-encoding");
    ensure(lengths.len() + codings.len() <= 1, "more than one framing")?;
    let (body, used) = if let Some(coding) = codings.first() {
        ensure(*coding == b"chunked", "coding")?;
        match dechunk(rest)? {
            Some(whole) => whole,
            None => return Ok(None),
        }
    } else {
        let digits = lengths.first().copied().unwrap_or(b"0");
        ensure(digits.iter().all(u8::is_ascii_digit), "length")?;
        let length = std::str::from_utf8(digits).ok();
        let length = length.and_then(|it| it.parse().ok()).ok_or("length")?;
        match rest.get(..length) {
            Some(body) => (body.to_vec(), length),
            None => return Ok(None),
        }
    };
    seen.body = body;
    let used = head.len() + used;
    input.drain(..used);
    Ok(Some(seen))
}

fn read_head(head: &[u8]) -> Result<Seen, &'static str> {
    for line in head.split(|byte| *byte == b'\n') {
        let text = line.strip_suffix(b"\r").unwrap_or(b"");
        ensure(line.is_empty() || line.ends_with(b"\r"), "bare LF")?;
        ensure(!text.contains(&b'\r'), "bare CR")?;
        ensure(!text.contains(&0), "NUL")?;
    }
    let mut lines = [httparse::EMPTY_HEADER; 1100];
    let mut request = httparse::Request::new(&mut lines);
    let parsed = request.parse(head).map_err(|_| "no request")?;
    ensure(
        parsed == httparse::Status::Complete(head.len()),
        "head ends elsewhere",
    )?;
    ensure(request.version == Some(1), "version")?;
    let target = request.path.unwrap_or_default();
    ensure(target.starts_with('/'), "target is no path")?;
    ensure(target.bytes().all(|it| it.is_ascii_graphic()), "target")?;
    ensure(!target.contains('#'), "fragment")?;
    let seen = Seen {
        method: request.method.unwrap_or_default().to_owned(),
        target: target.to_owned(),
        lines: request
            .headers
            .iter()
            .map(|line| (line.name.to_ascii_lowercase(), line.value.to_vec()))
            .collect(),
        body: Vec::new(),
    };
    check_hop_by_hop(&seen)?;
    Ok(seen)
}

fn check_hop_by_hop(seen: &Seen) -> Result<(), &'static str> {
    ensure(seen.values("host").len() == 1, "host")?;
    for name in [
        "expect",
        "keep-alive",
        "proxy",
        "proxy-connection",
        "trailer",
    ] {
        ensure(
            seen.values(name).is_empty(),
            "a header of another connection",
        )?;
    }
    let upgrade = seen.values("upgrade");
    let wanted: &[&[u8]] = match *upgrade {
        [] => &[b"keep-alive"],
        [protocol] if protocol == b"websocket" => &[b"keep-alive, Upgrade"],
        _ => return Err("upgrade"),
    };
    ensure(seen.values("connection") == wanted, "connection")?;
    ensure(seen.values("te").iter().all(|it| *it == b"trailers"), "te")?;
    ensure(seen.values("te").len() <= 1, "te twice")
}

/// Content and bytes of a whole chunked body.
fn dechunk(bytes: &[u8]) -> Taken<(Vec<u8>, usize)> {
    let (mut content, mut at) = (Vec::new(), 0);
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let (start, size) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete(it)) => it,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err("chunk size"),
        };
        let size = usize::try_from(size).map_err(|_| "chunk size")?;
        at += start;
        let Some(chunk) = bytes.get(at..at + size + 2) else {
            return Ok(None);
        };
        let (data, end) = chunk.split_at(size);
        // Nothing is sent behind the last chunk but its line end.
        ensure(end == b"\r\n", "chunk end")?;
        content.extend_from_slice(data);
        at += size + 2;
        if size == 0 {
            return Ok(Some((content, at)));
        }
    }
}
