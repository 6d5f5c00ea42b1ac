//! Listeners: bind, accept, TLS, strict HTTP/1, drain.

mod admission;
pub(crate) mod connection;
pub(crate) mod counts;
pub(crate) mod date;
mod drain;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod fuzz;
pub(crate) mod head;
mod listener;
mod request;
mod response;
mod stream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use o28m_core::limits;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::HttpService;
use crate::client::Pool;
pub use admission::Admission;
use connection::Common;
pub use counts::{connections, flooding_connections, refused_connections};
use drain::Drain;
pub use listener::{BindError, Keepalive, Listener, SocketOptions};
#[cfg(any(test, feature = "testing"))]
pub(crate) use response::printed;

/// Pause after an accept error that a retry cannot cure, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a listener enforces on heads; defaults are those of `o28m_core::limits`.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes of the request line or of one header line.
    pub line_bytes_max: usize,
    /// Bytes of the whole head.
    pub head_bytes_max: usize,
    /// Header lines.
    pub lines_max: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self {
            line_bytes_max: limits::HEAD_LINE_BYTES_MAX,
            head_bytes_max: limits::HEAD_BYTES_MAX,
            lines_max: limits::HEADER_LINES_MAX,
        }
    }
}

/// How long a client may take; defaults are those of nginx and `o28m_core::limits`.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a header of the PROXY protocol, the TLS handshake, the first byte, and a whole head.
    pub head: Duration,
    /// Between two requests of a connection; zero closes it after each one.
    pub idle: Duration,
    /// Between two reads of a request body.
    pub body: Duration,
    /// Between two writes of a response.
    pub write: Duration,
    /// From the begin of a drain until WebSockets are told to end.
    pub farewell: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(limits::HEAD_TIMEOUT_S),
            idle: Duration::from_secs(limits::CLIENT_IDLE_TIMEOUT_S),
            body: Duration::from_secs(60),
            write: Duration::from_secs(60),
            farewell: Duration::from_secs(30),
        }
    }
}

/// Everything a listener enforces.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// On request heads.
    pub head: HeadLimits,
    /// On clients' time.
    pub timeouts: Timeouts,
    /// Connections served at once; more wait in the accept queue.
    pub connections_max: usize,
    /// Requests of one connection, which is closed behind the last one.
    pub requests_max: u64,
    /// Age of a connection that is closed behind its next response.
    pub age_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: HeadLimits::default(),
            timeouts: Timeouts::default(),
            connections_max: limits::CONNECTIONS_MAX,
            requests_max: limits::CLIENT_REQUESTS_MAX,
            age_max: Duration::from_secs(limits::CLIENT_AGE_MAX_S),
        }
    }
}

/// Serves until `drain` is cancelled, then stops accepting, closes idle connections and finishes
/// requests in flight; returns when the last one is done or `stop` is cancelled.
pub async fn serve(
    listener: Listener,
    service: Arc<dyn HttpService>,
    pool: Arc<Pool>,
    limits: HeadLimits,
    drain: CancellationToken,
    stop: CancellationToken,
) {
    let limits = Limits {
        head: limits,
        ..Limits::default()
    };
    serve_with(listener, service, pool, limits, drain, stop).await;
}

/// [`serve`] with every limit given.
pub async fn serve_with(
    listener: Listener,
    service: Arc<dyn HttpService>,
    pool: Arc<Pool>,
    limits: Limits,
    drain: CancellationToken,
    stop: CancellationToken,
) {
    let name = listener.name;
    let tls = listener.tls.clone().map(tokio_rustls::TlsAcceptor::from);
    let socket = match TcpListener::from_std(listener.socket) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(listener = name, %error, "listener cannot be served");
            return;
        }
    };
    let common = Arc::new(Common {
        service,
        pool,
        limits: limits.head,
        timeouts: limits.timeouts,
        requests_max: match limits.timeouts.idle {
            Duration::ZERO => 0,
            _ => limits.requests_max,
        },
        age_max: limits.age_max,
        tls,
        http2: listener.http2,
        proxy_protocol: listener.proxy_protocol,
        admission: listener.admission,
        drain: Drain::default(),
    });
    let mut connections = JoinSet::new();
    tokio::select! {
        biased;
        () = stop.cancelled() => return,
        () = drain.cancelled() => common.drain.begin(),
        () = accept(name, &socket, &common, limits.connections_max, &mut connections) => {}
    }
    accept_waiting(
        name,
        socket,
        &common,
        limits.connections_max,
        &mut connections,
    );
    tokio::select! {
        () = stop.cancelled() => {}
        () = async { while connections.join_next().await.is_some() {} } => {}
    }
}

/// Accepts for ever.
async fn accept(
    name: &'static str,
    socket: &TcpListener,
    common: &Arc<Common>,
    connections_max: usize,
    connections: &mut JoinSet<()>,
) {
    loop {
        while let Some(ended) = connections.try_join_next() {
            report(name, ended);
        }
        if connections.len() >= connections_max {
            if let Some(ended) = connections.join_next().await {
                report(name, ended);
            }
            continue;
        }
        match socket.accept().await {
            Ok((stream, peer)) => begin(name, stream, peer, common, connections),
            Err(error) if is_of_one_client(&error) => {}
            Err(error) => {
                tracing::warn!(listener = name, %error, "failed to accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Takes in what the kernel has accepted already, and stops listening: closing over it would reset
/// connections whose clients may have sent a request.
fn accept_waiting(
    name: &'static str,
    socket: TcpListener,
    common: &Arc<Common>,
    connections_max: usize,
    connections: &mut JoinSet<()>,
) {
    let Ok(socket) = socket.into_std() else {
        return;
    };
    while connections.len() < connections_max {
        let Ok((stream, peer)) = socket.accept() else {
            return;
        };
        let stream = stream.set_nonblocking(true).map(|()| stream);
        match stream.and_then(TcpStream::from_std) {
            Ok(stream) => begin(name, stream, peer, common, connections),
            Err(error) => tracing::debug!(listener = name, %peer, %error, "client is not served"),
        }
    }
}

/// Serves a connection in a task of its own.
fn begin(
    name: &'static str,
    stream: TcpStream,
    peer: SocketAddr,
    common: &Arc<Common>,
    connections: &mut JoinSet<()>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(listener = name, %peer, %error, "client left before it was served");
        return;
    }
    let open = counts::Open::new();
    connections.spawn(connection::run(common.clone(), stream, peer, open));
}

/// The client left while it waited: the next one can be accepted at once.
fn is_of_one_client(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted
    )
}

fn report(name: &'static str, ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(listener = name, %error, "connection task panicked");
    }
}
