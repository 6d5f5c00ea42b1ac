//! Listeners: bind, accept, TLS, framing guard, hyper, drain.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::HttpService;
use crate::client::Pool;

/// A socket could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("failed to bind listener {name} to {address}")]
pub struct BindError {
    /// The listener's configured name, such as `proxy`.
    pub name: &'static str,
    /// The address asked for.
    pub address: SocketAddr,
    /// The operating system's reason.
    #[source]
    pub source: std::io::Error,
}

/// A bound socket that has not accepted anything yet.
pub struct Listener {
    /// Its name in logs and errors.
    pub name: &'static str,
    /// The socket.
    pub socket: std::net::TcpListener,
    /// Terminate TLS with this configuration.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

impl Listener {
    /// Binds `address`; port 0 picks a free port. Fails when another process has the port, even if
    /// that process would share it.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(name: &'static str, address: SocketAddr) -> Result<Self, BindError> {
        let _ = (name, address);
        todo!()
    }

    /// A second socket on the same port for another thread (`SO_REUSEPORT`).
    ///
    /// # Errors
    /// [`BindError`].
    pub fn sibling(&self) -> Result<Self, BindError> {
        todo!()
    }

    /// The address the socket is bound to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        todo!()
    }
}

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
    let _ = (listener, service, pool, limits, drain, stop);
    todo!()
}
