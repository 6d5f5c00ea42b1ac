//! Either end of a connection, byte by byte, and an upstream made of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::PATIENCE;

/// One end of a connection.
pub struct Wire {
    /// The socket.
    pub stream: TcpStream,
    /// Read and not used.
    pub input: Vec<u8>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The peer said that nothing follows.
    Finished,
    /// The peer tore it down.
    Reset,
}

/// A message as it was on the wire.
#[derive(Debug)]
pub struct Message {
    /// First line and header lines, with their ends.
    pub head: String,
    /// Content, as far as it came.
    pub body: Vec<u8>,
    /// How the connection ended before the message did; `None` for a whole message.
    pub broken: Option<Ended>,
}

impl Message {
    /// Status of a response.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn status(&self) -> u16 {
        let status = self.head.split(' ').nth(1).unwrap();
        status
            .trim()
            .parse()
            .unwrap_or_else(|_| panic!("no status in {self:?}"))
    }

    /// Every value of a header, joined.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let lines = self.head.lines().skip(1);
        let lines = lines.filter_map(|line| line.split_once(':'));
        let values = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        let values: Vec<_> = values.map(|(_, value)| value.trim()).collect();
        (!values.is_empty()).then(|| values.join("|"))
    }

    /// Method and target of a request.
    #[must_use]
    pub fn line(&self) -> String {
        let words: Vec<_> = self.head.split(' ').take(2).collect();
        words.join(" ")
    }
}

/// How far a message was read.
enum Step {
    More,
    Whole(Message, usize),
}

impl Wire {
    /// An accepted connection.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            input: Vec::new(),
        }
    }

    /// A connection to a URL's host and port.
    ///
    /// # Panics
    /// When nobody listens there.
    pub async fn connect(url: &str) -> Self {
        Self::try_connect(url).await.unwrap()
    }

    /// A connection to a URL's host and port.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn try_connect(url: &str) -> std::io::Result<Self> {
        let address: SocketAddr = url.strip_prefix("http://").unwrap().parse().unwrap();
        TcpStream::connect(address).await.map(Self::new)
    }

    /// Sends bytes; whether the peer took them.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Ends sending.
    pub async fn finish(&mut self) {
        drop(self.stream.shutdown().await);
    }

    /// Tears the connection down.
    pub fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// Reads once; how the connection ended, if it did.
    pub async fn read(&mut self) -> Option<Ended> {
        match self.stream.read_buf(&mut self.input).await {
            Ok(0) => Some(Ended::Finished),
            Ok(_) => None,
            Err(_) => Some(Ended::Reset),
        }
    }

    /// Reads until the input has this text, and gives everything up to its end.
    ///
    /// # Panics
    /// When the connection ends before.
    pub async fn until(&mut self, wanted: &str) -> String {
        let wanted = wanted.as_bytes();
        let reading = async {
            loop {
                let found = self.input.windows(wanted.len()).position(|it| it == wanted);
                if let Some(at) = found {
                    let read: Vec<u8> = self.input.drain(..at + wanted.len()).collect();
                    return String::from_utf8_lossy(&read).into_owned();
                }
                let ended = self.read().await;
                assert_eq!(ended, None, "{}", self.input.escape_ascii());
            }
        };
        patiently("bytes", reading).await
    }

    /// Reads to the end of the connection.
    pub async fn end(&mut self) -> Ended {
        patiently("the end of the connection", async {
            loop {
                if let Some(ended) = self.read().await {
                    return ended;
                }
            }
        })
        .await
    }

    /// The next request; `None` when the connection ends before it is whole.
    pub async fn request(&mut self) -> Option<Message> {
        loop {
            match step(&self.input, Kind::Request, None) {
                Step::Whole(message, used) => {
                    self.input.drain(..used);
                    return Some(message);
                }
                Step::More => {
                    if self.read().await.is_some() {
                        return None;
                    }
                }
            }
        }
    }

    /// The next response, whole or broken; `None` when the connection ends before one begins.
    pub async fn answer(&mut self, method: &str) -> Option<Message> {
        let kind = match method {
            "HEAD" => Kind::HeadResponse,
            _ => Kind::Response,
        };
        let reading = async {
            let mut ended = None;
            loop {
                match step(&self.input, kind, ended) {
                    Step::Whole(message, used) => {
                        self.input.drain(..used);
                        return Some(message);
                    }
                    Step::More if ended.is_some() => return None,
                    Step::More => ended = self.read().await,
                }
            }
        };
        patiently("an answer", reading).await
    }

    /// Sends a request and reads the answer.
    ///
    /// # Panics
    /// When there is none.
    pub async fn ask(&mut self, request: &str) -> Message {
        assert!(self.send(request).await);
        let method = request.split(' ').next().unwrap();
        let answer = self.answer(method).await;
        answer.unwrap_or_else(|| panic!("no answer to {request:?}"))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Request,
    Response,
    HeadResponse,
}

/// Reads a message as literally as can be.
fn step(input: &[u8], kind: Kind, ended: Option<Ended>) -> Step {
    let Some(end) = input.windows(4).position(|it| it == b"\r\n\r\n") else {
        return match ended {
            // Half a head is a broken message, not none.
            Some(_) if !input.is_empty() => {
                let head = String::from_utf8_lossy(input).into_owned();
                let (body, broken) = (Vec::new(), ended);
                Step::Whole(Message { head, body, broken }, input.len())
            }
            _ => Step::More,
        };
    };
    let (head, rest) = input.split_at(end + 4);
    let text = String::from_utf8_lossy(head).into_owned();
    let mut message = Message {
        head: text,
        body: Vec::new(),
        broken: None,
    };
    let bodyless = match kind {
        Kind::Request => false,
        Kind::HeadResponse => true,
        Kind::Response => matches!(message.status(), 100..=199 | 204 | 304),
    };
    let length = message.header("content-length");
    let coding = message.header("transfer-encoding");
    let used = match (length, coding) {
        _ if bodyless => Some(0),
        (Some(length), None) => {
            let length = length.parse().unwrap();
            message.body = rest[..rest.len().min(length)].to_vec();
            (rest.len() >= length).then_some(length)
        }
        (None, Some(coding)) if coding == "chunked" => {
            let (body, used) = dechunk(rest);
            message.body = body;
            used
        }
        (None, None) if kind == Kind::Request => Some(0),
        (None, None) => {
            message.body = rest.to_vec();
            (ended == Some(Ended::Finished)).then_some(rest.len())
        }
        framings => panic!("{framings:?} in {message:?}"),
    };
    match (used, ended) {
        (Some(used), _) => Step::Whole(message, head.len() + used),
        (None, None) => Step::More,
        (None, Some(_)) => {
            message.broken = ended;
            Step::Whole(message, input.len())
        }
    }
}

/// Content of a chunked body, and its bytes when it is whole.
fn dechunk(bytes: &[u8]) -> (Vec<u8>, Option<usize>) {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let rest = &bytes[at..];
        let Some(line) = rest.windows(2).position(|it| it == b"\r\n") else {
            return (body, None);
        };
        let digits = String::from_utf8_lossy(&rest[..line]).into_owned();
        let digits = digits.split(';').next().unwrap().trim().to_owned();
        let size = usize::from_str_radix(&digits, 16);
        let size = size.unwrap_or_else(|_| panic!("chunk of {digits:?} bytes"));
        let data = &rest[line + 2..];
        if size == 0 {
            // Trailers, up to an empty line.
            let end = match data {
                [b'\r', b'\n', ..] => Some(2),
                _ => data
                    .windows(4)
                    .position(|it| it == b"\r\n\r\n")
                    .map(|it| it + 4),
            };
            return (body, end.map(|end| at + line + 2 + end));
        }
        body.extend_from_slice(&data[..data.len().min(size)]);
        if data.len() < size + 2 {
            return (body, None);
        }
        assert_eq!(&data[size..size + 2], b"\r\n", "chunk end");
        at += line + 2 + size + 2;
    }
}

async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("gave up waiting for {what}"))
}

/// An upstream of raw connections; stops when dropped.
pub struct RawUpstream {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    _stop: DropGuard,
}

impl RawUpstream {
    /// Starts an upstream that does `talk` with each connection, given its number from 0.
    ///
    /// # Panics
    /// When no port can be bound.
    pub async fn start<F>(talk: impl Fn(Wire, usize) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let serving = async move {
            let mut talks = JoinSet::new();
            loop {
                tokio::select! {
                    Ok((stream, _)) = listener.accept() => {
                        let number = count.fetch_add(1, Ordering::SeqCst);
                        talks.spawn(talk(Wire::new(stream), number));
                    }
                    Some(ended) = talks.join_next() => ended.unwrap(),
                }
            }
        };
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(serving));
        Self {
            address,
            connections,
            _stop: stop.drop_guard(),
        }
    }

    /// Its URL without a path.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Connections of this machine that are established to a port, as the kernel lists them.
///
/// # Panics
/// When there is no such list.
#[must_use]
pub fn established_to(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let suffix = format!(":{port:04X}");
    let lines = table.lines().skip(1);
    let lines = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines
        .filter(|words| words.len() > 3 && words[2].ends_with(&suffix) && words[3] == "01")
        .count()
}

/// Bytes that are never the same at another place: what is missing, doubled or moved shows.
#[must_use]
pub fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
