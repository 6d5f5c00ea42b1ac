//! TLS towards servers of other protocols than HTTP, such as Redis, with the same trust as towards upstreams.

use std::io;

use o28m_net::client::{TlsPolicy, tls_config};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Tls;

/// Encrypts a connection to `host`.
pub(crate) async fn handshake(
    socket: TcpStream,
    host: &str,
    policy: &Tls,
) -> io::Result<TlsStream<TcpStream>> {
    let trust = TlsPolicy {
        verify: policy.verify,
        ..TlsPolicy::default()
    };
    let config = tls_config(&trust).await?;
    let name = policy.server_name.as_deref().unwrap_or(host).to_owned();
    let name = ServerName::try_from(name)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    TlsConnector::from(config).connect(name, socket).await
}
