//! A client that sends given bytes and reads answers with a parser of its own.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long an answer, or the end of a connection, may be in coming.
const PATIENCE: Duration = Duration::from_secs(15);

/// What came back.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Statuses of whole answers, without interim ones.
    pub(super) statuses: Vec<u16>,
    /// The server left HTTP after the last one.
    pub(super) switched: bool,
    /// What is no answer.
    pub(super) odd: Option<&'static str>,
    /// Bytes of an answer that is not whole.
    pub(super) left: Vec<u8>,
    /// The server closed the connection.
    pub(super) ended: bool,
}

/// What a client sends.
pub(super) struct Script<'a> {
    pub(super) pieces: Vec<&'a [u8]>,
    /// Methods of the requests in it.
    pub(super) methods: Vec<&'a str>,
    /// Answers to wait for before the client finishes sending.
    pub(super) wanted: usize,
}

impl Answers {
    /// Takes whole answers off.
    fn take(&mut self, methods: &[&str], closed: bool) {
        while self.odd.is_none() && !self.switched {
            match take(
                &self.left,
                methods.get(self.statuses.len()).copied(),
                closed,
            ) {
                Ok(Some((status, used))) => {
                    self.left.drain(..used);
                    self.switched = status == 101;
                    if status >= 200 || self.switched {
                        self.statuses.push(status);
                    }
                }
                Ok(None) => return,
                Err(why) => self.odd = Some(why),
            }
        }
    }
}

/// Status and bytes of the first answer.
fn take(
    bytes: &[u8],
    method: Option<&str>,
    closed: bool,
) -> Result<Option<(u16, usize)>, &'static str> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut lines = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut lines);
    let length = match response.parse(bytes).map_err(|_| "no response")? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => return Ok(None),
    };
    let status = response.code.unwrap_or_default();
    let mut lengths = Vec::new();
    let mut chunked = 0;
    for line in response.headers.iter() {
        if line.name.eq_ignore_ascii_case("content-length") {
            let value = std::str::from_utf8(line.value).ok();
            lengths.push(
                value
                    .and_then(|it| it.parse::<usize>().ok())
                    .ok_or("length")?,
            );
        } else if line.name.eq_ignore_ascii_case("transfer-encoding") {
            chunked += 1;
        }
    }
    if lengths.len() + chunked > 1 {
        return Err("more than one framing");
    }
    let rest = bytes.get(length..).unwrap_or_default();
    let bodyless = method == Some("HEAD") || status < 200 || matches!(status, 204 | 304);
    let body = match lengths.first() {
        _ if bodyless => 0,
        // The head of a refused request may be one of HEAD.
        Some(_) if method.is_none() && closed && rest.is_empty() => 0,
        Some(length) if rest.len() < *length => return Ok(None),
        Some(length) => *length,
        None if chunked == 1 => match rest.windows(5).position(|it| it == b"0\r\n\r\n") {
            Some(at) => at + 5,
            None => return trailed(rest, length, status),
        },
        None if closed => rest.len(),
        None => return Ok(None),
    };
    Ok(Some((status, length + body)))
}

/// A chunked body with trailers, as the upstream sends it.
fn trailed(rest: &[u8], head: usize, status: u16) -> Result<Option<(u16, usize)>, &'static str> {
    let end = b"\r\n0\r\nx-sum: 1\r\n\r\n";
    let at = rest
        .windows(end.len())
        .position(|it| it.eq_ignore_ascii_case(end));
    Ok(at.map(|at| (status, head + at + end.len())))
}

/// Sends, reads, and ends the connection.
pub(super) async fn talk(address: SocketAddr, script: &Script<'_>) -> io::Result<Answers> {
    let mut stream = TcpStream::connect(address).await?;
    // Connections are many and short: none of them may leave its port in use.
    stream.set_zero_linger()?;
    stream.set_nodelay(true)?;
    let mut answers = Answers::default();
    for piece in &script.pieces {
        if stream.write_all(piece).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    while answers.statuses.len() < script.wanted && !answers.switched && !answers.ended {
        match tokio::time::timeout(PATIENCE, stream.read_buf(&mut answers.left)).await {
            Ok(Ok(0) | Err(_)) => answers.ended = true,
            Ok(Ok(_)) => answers.take(&script.methods, false),
            Err(_) => break,
        }
    }
    let _finished = stream.shutdown().await;
    let ending = async {
        while !answers.ended {
            match stream.read_buf(&mut answers.left).await {
                Ok(0) | Err(_) => answers.ended = true,
                Ok(_) => answers.take(&script.methods, false),
            }
        }
    };
    let _ended = tokio::time::timeout(PATIENCE, ending).await;
    answers.take(&script.methods, true);
    Ok(answers)
}
