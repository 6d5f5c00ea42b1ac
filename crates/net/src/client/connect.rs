//! A new connection to an upstream.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;

use super::aim::Aim;
use super::connection::Upstream;
use super::{SendError, Target, Timeouts, tls};
use crate::Scheme;
use crate::transport::Transport;

/// How long one address is waited for before the next one is tried as well (RFC 8305 section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

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

/// Connects to one of the addresses and shakes hands, all within the connect timeout.
pub(super) async fn connect(
    aim: &Aim,
    target: &Target,
    timeouts: &Timeouts,
    reach: Reach,
) -> Result<Box<Upstream>, SendError> {
    let dial = Dial {
        aim,
        target,
        timeouts,
        reach,
    };
    let connecting = async {
        let (transport, address) = dial.establish(&[]).await?;
        Ok(Upstream::new(transport, target, address))
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
    pub(crate) aim: &'a Aim,
    pub(crate) target: &'a Target,
    pub(crate) timeouts: &'a Timeouts,
    pub(crate) reach: Reach,
}

impl Dial<'_> {
    /// Connects to one of the addresses and shakes hands, however long that takes. Over TLS, `protocols`
    /// are what the connection is made for (ALPN).
    pub(crate) async fn establish(
        &self,
        protocols: &[&[u8]],
    ) -> Result<(Transport, SocketAddr), SendError> {
        let target = self.target;
        let mut addresses = self.aim.addresses(target.port);
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
        Ok((transport, address))
    }
}

/// The first address that answers: the next one is tried when one fails or takes its time.
async fn tcp(
    target: &Target,
    addresses: &[SocketAddr],
) -> Result<(TcpStream, SocketAddr), SendError> {
    let mut last = io::ErrorKind::AddrNotAvailable.into();
    let mut rest = addresses.iter();
    let mut dialled = FuturesUnordered::new();
    loop {
        match rest.next() {
            Some(address) => dialled.push(dial(*address)),
            None if dialled.is_empty() => break,
            None => {}
        }
        let ended = match rest.len() {
            0 => Ok(dialled.next().await),
            _ => tokio::time::timeout(ATTEMPT_DELAY, dialled.next()).await,
        };
        match ended {
            Ok(Some(Ok(connected))) => return Ok(connected),
            Ok(Some(Err(error))) => last = error,
            Ok(None) | Err(_) => {}
        }
    }
    Err(SendError::Connect {
        target: target.to_string(),
        source: last,
    })
}

async fn dial(address: SocketAddr) -> io::Result<(TcpStream, SocketAddr)> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok((stream, address))
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
