//! Questions over UDP, and over TCP where an answer does not fit or cannot be believed.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use super::message::{Question, Reply, Unfit};
use super::system::Servers;
use super::{Failure, Kind};

/// Questions on their way at once; more wait.
const QUESTIONS_MAX: usize = 256;
/// Bytes of an answer over UDP: none that were not asked for more is larger (RFC 1035 section 4.2.1).
const UDP_BYTES_MAX: usize = 4096;
/// Datagrams that answer something else before TCP is used: somebody may be guessing.
const FOREIGN_MAX: usize = 16;

/// Asks name servers.
pub(super) struct Exchange {
    room: Semaphore,
    /// Which server is asked first, with `rotate`.
    turn: AtomicUsize,
}

impl Exchange {
    pub(super) fn new() -> Self {
        Self {
            room: Semaphore::new(QUESTIONS_MAX),
            turn: AtomicUsize::new(0),
        }
    }

    /// Asks one server after the other until one knows.
    pub(super) async fn ask(
        &self,
        servers: &Servers,
        name: &str,
        kind: Kind,
    ) -> Result<Reply, Failure> {
        let _room = self.room.acquire().await;
        let first = match servers.rotate {
            true => self.turn.fetch_add(1, Ordering::Relaxed),
            false => 0,
        };
        let count = servers.addresses.len();
        let mut failure = Failure::NoServer;
        for _ in 0..servers.attempts {
            let mut silent = false;
            let from = first.checked_rem(count).unwrap_or(0);
            let turn = servers.addresses.iter().cycle().skip(from).take(count);
            for server in turn {
                let asking = ask_one(*server, name, kind);
                failure = match tokio::time::timeout(servers.timeout, asking).await {
                    Ok(Ok(Reply::Unable(failure))) => failure,
                    Ok(Ok(reply)) => return Ok(reply),
                    Ok(Err(error)) => {
                        silent = true;
                        Failure::Unreachable(*server, error.kind())
                    }
                    Err(_) => {
                        silent = true;
                        Failure::Timeout(*server)
                    }
                };
            }
            if !silent {
                break;
            }
        }
        Err(failure)
    }
}

async fn ask_one(server: SocketAddr, name: &str, kind: Kind) -> io::Result<Reply> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let question = Question::new(name, kind).ok_or_else(invalid)?;
    let message = question.bytes().ok_or_else(invalid)?;
    match over_udp(server, &question, &message).await? {
        Ok(reply) => Ok(reply),
        Err(Unfit::Foreign | Unfit::Case | Unfit::Truncated) => {
            over_tcp(server, &question, &message).await
        }
    }
}

/// From a new port each time, and from nobody but the server.
async fn over_udp(
    server: SocketAddr,
    question: &Question,
    message: &[u8],
) -> io::Result<Result<Reply, Unfit>> {
    let own: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(own).await?;
    socket.connect(server).await?;
    socket.send(message).await?;
    let mut buffer = vec![0; UDP_BYTES_MAX];
    for _ in 0..FOREIGN_MAX {
        let length = socket.recv(&mut buffer).await?;
        match question.read(buffer.get(..length).unwrap_or_default(), true) {
            Err(Unfit::Foreign) => {}
            outcome => return Ok(outcome),
        }
    }
    Ok(Err(Unfit::Foreign))
}

async fn over_tcp(server: SocketAddr, question: &Question, message: &[u8]) -> io::Result<Reply> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    // Nobody but the server can write into a connection: servers that do not keep the case are fine.
    let reply = question.read(&answer, false);
    reply.map_err(|_| io::ErrorKind::InvalidData.into())
}
