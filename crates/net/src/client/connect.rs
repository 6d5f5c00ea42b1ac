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
pub(super) enum Reach {
    /// Wherever the target is.
    Anywhere,
    /// Not to this machine's loopback addresses.
    BeyondLoopback,
}

impl Reach {
    /// Whether a connection may be used.
    pub(super) fn covers(self, loopback: bool) -> bool {
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
    let connecting = async {
        let mut addresses = resolver.resolve(&target.host, target.port).await?;
        addresses.retain(|it| reach.covers(is_loopback(it.ip())));
        let (stream, address) = tcp(target, &addresses).await?;
        let transport = match target.scheme {
            Scheme::Http => Transport::Plain(stream),
            Scheme::Https => {
                tls_over(target, stream, address)
                    .await
                    .map_err(|source| SendError::Tls {
                        target: target.to_string(),
                        source,
                    })?
            }
        };
        let loopback = is_loopback(address.ip());
        Ok(Upstream::new(transport, target, loopback))
    };
    match tokio::time::timeout(timeouts.connect, connecting).await {
        Ok(result) => result,
        Err(_) => Err(SendError::ConnectTimeout {
            target: target.to_string(),
        }),
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
) -> io::Result<Transport> {
    let config = tls::config(&target.tls).await?;
    let name = tls::server_name(target, address.ip())?;
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(&config));
    let stream = connector.connect(name, stream).await?;
    Ok(Transport::Tls(Box::new(tokio_rustls::TlsStream::Client(
        stream,
    ))))
}
