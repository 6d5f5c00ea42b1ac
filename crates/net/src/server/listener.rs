use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Connections waiting to be accepted (Kong `backlog=16384`); the kernel may cap it.
const BACKLOG: i32 = 16_384;

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
    address: SocketAddr,
}

impl Listener {
    /// Binds `address`; port 0 picks a free port. Fails when another process has the port, even if
    /// that process would share it.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(name: &'static str, address: SocketAddr) -> Result<Self, BindError> {
        Self::open(name, address, None).map_err(|source| BindError {
            name,
            address,
            source,
        })
    }

    /// A second socket on the same port for another thread (`SO_REUSEPORT`).
    ///
    /// # Errors
    /// [`BindError`].
    pub fn sibling(&self) -> Result<Self, BindError> {
        let (name, address) = (self.name, self.address);
        Self::open(name, address, Some(self.tls.clone())).map_err(|source| BindError {
            name,
            address,
            source,
        })
    }

    /// The address the socket is bound to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Opens the first socket of a port, or with the first one's TLS another.
    fn open(
        name: &'static str,
        address: SocketAddr,
        sibling: Option<Option<Arc<rustls::ServerConfig>>>,
    ) -> io::Result<Self> {
        let kind = Type::STREAM.nonblocking();
        let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if sibling.is_some() {
            socket.set_reuse_port(true)?;
        }
        socket.bind(&address.into())?;
        // The first socket is bound alone, so a port that somebody has is refused, and shares
        // only from here on. The kernel looks at the flag when the next one binds.
        SockRef::from(&socket).set_reuse_port(true)?;
        socket.listen(BACKLOG)?;
        let socket = std::net::TcpListener::from(socket);
        Ok(Self {
            name,
            address: socket.local_addr()?,
            socket,
            tls: sibling.flatten(),
        })
    }
}
