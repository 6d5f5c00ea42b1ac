//! A new connection to an upstream.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpStream;

use super::connection::Upstream;
use super::dns::Resolver;
use super::{SendError, Target, Timeouts, tls};
use crate::Scheme;
use crate::transport::Transport;

/// Where a request may go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Wherever the target is.
    Anywhere,
    /// Not to this machine's loopback addresses.
    BeyondLoopback,
}

impl Reach {
    /// Whether a connection may be used.
    pub(crate) fn covers(self, loopback: bool) -> bool {
        self == Self::Anywhere || !loopback
    }
}

/// Whether connecting to this address stays on this machine, as far as the address says.
#[must_use]
pub fn is_loopback(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || address.is_unspecified()
}

/// Resolves, connects and shakes hands, all within the connect timeout.
pub(super) async fn connect(
    resolver: &Resolver,
    target: &Target,
    timeouts: &Timeouts,
    reach: Reach,
) -> Result<Box<Upstream>, SendError> {
    let dial = Dial {
        resolver,
        target,
        timeouts,
        reach,
    };
    let connecting = async {
        let (transport, loopback) = dial.establish(&[]).await?;
        Ok(Upstream::new(transport, target, loopback))
    };
    match tokio::time::timeout(timeouts.connect, connecting).await {
        Ok(result) => result,
        Err(_) => Err(SendError::ConnectTimeout {
            target: target.to_string(),
        }),
    }
}

/// What a connection is made by.
pub(crate) struct Dial<'a> {
    pub(crate) resolver: &'a Resolver,
    pub(crate) target: &'a Target,
    pub(crate) timeouts: &'a Timeouts,
    pub(crate) reach: Reach,
}

impl Dial<'_> {
    /// Resolves, connects and shakes hands, however long that takes; `true` for a loopback address.
    /// Over TLS, `protocols` are what it is made for (ALPN).
    pub(crate) async fn establish(
        &self,
        protocols: &[&[u8]],
    ) -> Result<(Transport, bool), SendError> {
        let target = self.target;
        let mut addresses = self.resolver.resolve(&target.host, target.port).await?;
        addresses.retain(|it| self.reach.covers(is_loopback(it.ip())));
        let (stream, address) = tcp(target, &addresses).await?;
        let transport = match target.scheme {
            Scheme::Http => Transport::Plain(stream),
            Scheme::Https => {
                tls_over(target, stream, address, protocols)
                    .await
                    .map_err(|source| SendError::Tls {
                        target: target.to_string(),
                        source,
                    })?
            }
        };
        Ok((transport, is_loopback(address.ip())))
    }
}

/// The first address that answers.
async fn tcp(
    target: &Target,
    addresses: &[SocketAddr],
) -> Result<(TcpStream, SocketAddr), SendError> {
    let mut last = io::ErrorKind::AddrNotAvailable.into();
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => match stream.set_nodelay(true) {
                Ok(()) => return Ok((stream, *address)),
                Err(error) => last = error,
            },
            Err(error) => last = error,
        }
    }
    Err(SendError::Connect {
        target: target.to_string(),
        source: last,
    })
}

async fn tls_over(
    target: &Target,
    stream: TcpStream,
    address: SocketAddr,
    protocols: &[&[u8]],
) -> io::Result<Transport> {
    let mut config = tls::config(&target.tls).await?;
    if !protocols.is_empty() {
        let protocols = protocols.iter().map(|it| it.to_vec());
        Arc::make_mut(&mut config).alpn_protocols = protocols.collect();
    }
    let name = tls::server_name(target, address.ip())?;
    let connector = tokio_rustls::TlsConnector::from(config);
    let stream = connector.connect(name, stream).await?;
    Ok(Transport::Tls(Box::new(tokio_rustls::TlsStream::Client(
        stream,
    ))))
}
