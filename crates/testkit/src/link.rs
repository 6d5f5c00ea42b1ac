//! A TCP link to a server that a test can cut and mend, to take a database away, or make lose what
//! PostgreSQL says.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

/// What a link does.
#[derive(Clone, Copy, Default)]
struct State {
    cut: bool,
    deaf: bool,
    holding: bool,
}

/// Forwards connections to a server while it is whole.
pub struct Link {
    address: SocketAddr,
    state: Arc<watch::Sender<State>>,
    _stop: DropGuard,
}

impl Link {
    /// A whole link to `target`.
    ///
    /// # Panics
    /// When no port can be bound.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(watch::Sender::new(State::default()));
        let stop = CancellationToken::new();
        let forwarding = forward(listener, target, state.subscribe());
        tokio::spawn(stop.clone().run_until_cancelled_owned(forwarding));
        Self {
            address,
            state,
            _stop: stop.drop_guard(),
        }
    }

    /// Where to connect instead of the server.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every connection and lets no new one through.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cut = true);
    }

    /// Lets connections through again.
    pub fn mend(&self) {
        self.state.send_modify(|state| state.cut = false);
    }

    /// Loses PostgreSQL's notifications from now on, and nothing else. Connections must not be
    /// encrypted.
    pub fn deafen(&self) {
        self.state.send_modify(|state| state.deaf = true);
    }

    /// From now on keeps PostgreSQL's answer to a COMMIT back for ever: it happens, and the client does
    /// not learn of it.
    pub fn hold_commits(&self) {
        self.state.send_modify(|state| state.holding = true);
    }
}

async fn forward(listener: TcpListener, target: SocketAddr, state: watch::Receiver<State>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        let state = state.clone();
        connections.spawn(async move {
            if state.borrow().cut {
                return;
            }
            let Ok(server) = TcpStream::connect(target).await else {
                return;
            };
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            let held = watch::Sender::new(false);
            let mut until_cut = state.clone();
            tokio::select! {
                _ended = requests(from_client, to_server, &state, &held) => {}
                _ended = answers(from_server, to_client, &state, held.subscribe()) => {}
                _cut = until_cut.wait_for(|state| state.cut) => {}
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn requests(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    state: &watch::Receiver<State>,
    held: &watch::Sender<bool>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        let sent = &buffer[..length];
        if state.borrow().holding && sent.windows(6).any(|it| it == b"COMMIT") {
            held.send_replace(true);
        }
        to.write_all(sent).await?;
    }
}

/// Messages of PostgreSQL are a letter and a length that counts itself, before what they say.
async fn answers(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    state: &watch::Receiver<State>,
    held: watch::Receiver<bool>,
) -> std::io::Result<()> {
    const NOTIFICATION: u8 = b'A';
    let mut buffer = vec![0; 64 * 1024];
    let mut unread = Vec::new();
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        if *held.borrow() {
            std::future::pending::<()>().await;
        }
        if !state.borrow().deaf && unread.is_empty() {
            to.write_all(&buffer[..length]).await?;
            continue;
        }
        unread.extend_from_slice(&buffer[..length]);
        while let Some(size) = unread.get(1..5) {
            let size = 1 + u32::from_be_bytes(size.try_into().unwrap()) as usize;
            if unread.len() < size {
                break;
            }
            let message: Vec<u8> = unread.drain(..size).collect();
            if message[0] != NOTIFICATION {
                to.write_all(&message).await?;
            }
        }
    }
}
