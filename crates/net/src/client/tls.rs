//! TLS towards upstreams: one configuration per policy, shared by all pools.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::sign::SingleCertAndKey;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::trust::{Trust, invalid, verifier};
use super::{Target, TlsPolicy};
use crate::tls::Identity;

/// Policies kept; each distinct CA bundle and each identity is one.
const POLICIES_MAX: usize = 2048;
/// Sessions kept for resumption by policies that few upstreams share.
const OWN_SESSIONS_MAX: usize = 16;

/// What decides about a configuration.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    trust: Trust,
    identity: Option<Arc<Identity>>,
}

static CONFIGS: LazyLock<Mutex<HashMap<Key, Arc<ClientConfig>>>> = LazyLock::new(Mutex::default);

/// The configuration of a policy, made at its first use off the I/O threads: that parses many
/// certificates. Other protocols than HTTP use it too, so that trust is decided in one place.
///
/// # Errors
/// When the trusted certificates cannot be read or there are none.
pub async fn config(policy: &TlsPolicy) -> io::Result<Arc<ClientConfig>> {
    let key = Key {
        trust: match (&policy.ca_pem, policy.verify) {
            (_, false) => Trust::Anyone,
            (Some(pem), true) => Trust::Bundle(pem.clone(), policy.verify_depth),
            (None, true) => Trust::System(policy.verify_depth),
        },
        identity: policy.identity.clone(),
    };
    let known = CONFIGS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&key)
        .cloned();
    if let Some(config) = known {
        return Ok(config);
    }
    let made = tokio::task::spawn_blocking({
        let key = key.clone();
        move || make(&key)
    });
    let config = made.await.map_err(io::Error::other)??;
    let mut configs = CONFIGS.lock().unwrap_or_else(PoisonError::into_inner);
    if configs.len() >= POLICIES_MAX {
        configs.clear();
    }
    Ok(configs.entry(key).or_insert(config).clone())
}

/// Sessions are kept per configuration: one that was made with other trust, or by somebody else, is
/// never resumed.
fn make(key: &Key) -> io::Result<Arc<ClientConfig>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = verifier(&key.trust, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &key.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(
            identity.certified().clone(),
        ))),
    };
    if key.identity.is_some() || matches!(key.trust, Trust::Bundle(..)) {
        config.resumption = Resumption::in_memory_sessions(OWN_SESSIONS_MAX);
    }
    Ok(Arc::new(config))
}

/// Encrypts a connection of another protocol than HTTP to `host`, with the same trust as towards
/// upstreams.
///
/// # Errors
/// When the certificate is not accepted, the host is no name, or the connection breaks.
pub async fn handshake(
    socket: TcpStream,
    host: &str,
    policy: &TlsPolicy,
) -> io::Result<TlsStream<TcpStream>> {
    let config = config(policy).await?;
    let name = policy.server_name.as_deref().unwrap_or(host).to_owned();
    let name = ServerName::try_from(name)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    TlsConnector::from(config).connect(name, socket).await
}

/// The name for SNI and verification; an address is verified as such and sends no SNI.
pub(super) fn server_name(target: &Target, address: IpAddr) -> io::Result<ServerName<'static>> {
    let name = target.tls.server_name.as_ref().unwrap_or(&target.host);
    let name = name.strip_suffix('.').unwrap_or(name);
    match ServerName::try_from(name.to_owned()) {
        Ok(name) => Ok(name),
        Err(error) if target.tls.verify => Err(invalid(error)),
        // Nothing is verified, so a name that TLS cannot express is left out.
        Err(_) => Ok(ServerName::IpAddress(address.into())),
    }
}
