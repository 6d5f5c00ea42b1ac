use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::admission::Admission;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

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

/// How a socket listens.
#[derive(Clone, Copy, Debug, Default)]
pub struct SocketOptions {
    /// Connections waiting to be accepted; unset is Kong's 16384. The kernel may cap it.
    pub backlog: Option<i32>,
    /// On an IPv6 address: take IPv6 only, or IPv4 as well; unset is the operating system's default.
    pub ipv6_only: Option<bool>,
    /// TCP keep-alive of accepted connections; unset is the operating system's default.
    pub keepalive: Option<Keepalive>,
}

/// TCP keep-alive probes.
#[derive(Clone, Copy, Debug)]
pub enum Keepalive {
    /// None are sent.
    Off,
    /// They are sent; unset parts are the operating system's.
    On {
        /// Quiet time before the first one.
        idle: Option<Duration>,
        /// Time between two.
        interval: Option<Duration>,
        /// Probes without an answer until the connection is given up.
        retries: Option<u32>,
    },
}

impl Keepalive {
    fn apply(self, socket: &Socket) -> io::Result<()> {
        let Self::On {
            idle,
            interval,
            retries,
        } = self
        else {
            return socket.set_keepalive(false);
        };
        socket.set_keepalive(true)?;
        let mut parameters = TcpKeepalive::new();
        if let Some(idle) = idle {
            parameters = parameters.with_time(idle);
        }
        if let Some(interval) = interval {
            parameters = parameters.with_interval(interval);
        }
        if let Some(retries) = retries {
            parameters = parameters.with_retries(retries);
        }
        socket.set_tcp_keepalive(&parameters)
    }
}

/// A bound socket that has not accepted anything yet.
pub struct Listener {
    /// Its name in logs and errors.
    pub name: &'static str,
    /// The socket.
    pub socket: std::net::TcpListener,
    /// Terminate TLS with this configuration.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Every connection begins with a header of the PROXY protocol; those without one are closed.
    pub proxy_protocol: bool,
    /// What limits the connections of one address, over all sockets that share it.
    pub admission: Option<Arc<Admission>>,
    /// Take HTTP/2 as well: over TLS from clients that choose it there, which the configuration has to
    /// offer, else from those that begin with its preface.
    pub http2: bool,
    address: SocketAddr,
    options: SocketOptions,
}

impl Listener {
    /// Binds `address`; port 0 picks a free port. Fails when another process has the port, even if
    /// that process would share it.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(name: &'static str, address: SocketAddr) -> Result<Self, BindError> {
        Self::bind_with(name, address, SocketOptions::default())
    }

    /// [`Listener::bind`] with everything about the socket given.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind_with(
        name: &'static str,
        address: SocketAddr,
        options: SocketOptions,
    ) -> Result<Self, BindError> {
        Self::open(name, address, options, None).map_err(|source| BindError {
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
        let tls = Some(self.tls.clone());
        let opened = Self::open(name, address, self.options, tls);
        let mut sibling = opened.map_err(|source| BindError {
            name,
            address,
            source,
        })?;
        sibling.http2 = self.http2;
        sibling.proxy_protocol = self.proxy_protocol;
        sibling.admission.clone_from(&self.admission);
        Ok(sibling)
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
        options: SocketOptions,
        sibling: Option<Option<Arc<rustls::ServerConfig>>>,
    ) -> io::Result<Self> {
        let kind = Type::STREAM.nonblocking();
        let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if sibling.is_some() {
            socket.set_reuse_port(true)?;
        }
        if let Some(only) = options.ipv6_only.filter(|_| address.is_ipv6()) {
            socket.set_only_v6(only)?;
        }
        if let Some(keepalive) = options.keepalive {
            // Accepted sockets take it over.
            keepalive.apply(&socket)?;
        }
        socket.bind(&address.into())?;
        // The first socket is bound alone, so a port that somebody has is refused, and shares
        // only from here on. The kernel looks at the flag when the next one binds.
        SockRef::from(&socket).set_reuse_port(true)?;
        socket.listen(options.backlog.unwrap_or(BACKLOG))?;
        let socket = std::net::TcpListener::from(socket);
        Ok(Self {
            name,
            address: socket.local_addr()?,
            socket,
            tls: sibling.flatten(),
            proxy_protocol: false,
            admission: None,
            http2: false,
            options,
        })
    }
}
