use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};

use super::{ConfigError, Identity, ListenerSettings, certified_key};

/// The certificates to choose from by what a client can verify, such as one with an RSA key and one
/// with an ECDSA key.
pub type Identities = Arc<[Arc<Identity>]>;

/// Where a listener finds the certificates of the name a client asks for. Asked in every handshake:
/// answers from memory.
pub trait CertificateSource: Send + Sync {
    /// What to show; `None` when this source has nothing for the name. `server_name` is in lower case
    /// and without a final dot, and absent when the client names none.
    fn find(&self, server_name: Option<&str>) -> Option<Identities>;
}

/// Certificates for whatever is asked for.
impl CertificateSource for Identities {
    fn find(&self, _: Option<&str>) -> Option<Identities> {
        Some(self.clone())
    }
}

/// A configuration that shows what the first of `sources` has that knows the name a client asks for:
/// ALPN `http/1.1`, everything else as in `settings`. Handshakes that no source has something for fail.
///
/// # Errors
/// [`ConfigError::Pair`] when the settings do not make a configuration.
pub fn listener_config(
    sources: Vec<Arc<dyn CertificateSource>>,
    settings: &ListenerSettings,
) -> Result<Arc<ServerConfig>, ConfigError> {
    make(Arc::new(Resolver(sources)), settings)
}

/// A configuration that always shows one certificate: TLS 1.2 and 1.3, ALPN `http/1.1`.
///
/// # Errors
/// [`ConfigError`].
pub fn server_config(
    certificates_pem: &[u8],
    key_pem: &[u8],
) -> Result<Arc<ServerConfig>, ConfigError> {
    let key = certified_key(certificates_pem, key_pem)?;
    server_config_with(Arc::new(SingleCertAndKey::from(key)))
}

/// A configuration whose certificate is chosen for each handshake: TLS 1.2 and 1.3, ALPN `http/1.1`.
///
/// # Errors
/// [`ConfigError`].
pub fn server_config_with(
    resolver: Arc<dyn ResolvesServerCert>,
) -> Result<Arc<ServerConfig>, ConfigError> {
    make(resolver, &ListenerSettings::default())
}

fn make(
    resolver: Arc<dyn ResolvesServerCert>,
    settings: &ListenerSettings,
) -> Result<Arc<ServerConfig>, ConfigError> {
    let provider = CryptoProvider {
        cipher_suites: settings.cipher_suites.clone(),
        ..aws_lc_rs::default_provider()
    };
    let versions: &[_] = match (settings.tls12, settings.tls13) {
        (true, false) => &[&TLS12],
        (false, true) => &[&TLS13],
        _ => &[&TLS13, &TLS12],
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .map_err(ConfigError::Pair)?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    if settings.http2 {
        config.alpn_protocols.push(b"h2".to_vec());
    }
    config.alpn_protocols.push(b"http/1.1".to_vec());
    config.ignore_client_order = settings.prefers_own_order;
    if settings.session_tickets {
        // Resumption without memory of each session, with keys that change by themselves.
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(ConfigError::Pair)?;
    } else {
        config.send_tls13_tickets = 0;
    }
    Ok(Arc::new(config))
}

/// Chooses by server name, then by the client's signature algorithms.
struct Resolver(Vec<Arc<dyn CertificateSource>>);

impl Resolver {
    fn find(&self, server_name: Option<&str>) -> Option<Identities> {
        let found = self.0.iter().filter_map(|it| it.find(server_name));
        found.into_iter().find(|it| !it.is_empty())
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Resolver").finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name();
        let name = name.map(|it| it.strip_suffix('.').unwrap_or(it));
        let identities = match name {
            Some(name) if name.bytes().any(|it| it.is_ascii_uppercase()) => {
                self.find(Some(&name.to_ascii_lowercase()))
            }
            name => self.find(name),
        };
        choose(&identities?, &hello)
    }
}

/// The first identity that can sign in the way the client likes best.
fn choose(identities: &[Arc<Identity>], hello: &ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
    if let [only] = identities {
        return Some(only.certified().clone());
    }
    let can_sign = |it: &&Arc<Identity>, scheme| {
        let key = &it.certified().key;
        key.choose_scheme(std::slice::from_ref(scheme)).is_some()
    };
    let schemes = hello.signature_schemes().iter();
    let mut fitting =
        schemes.filter_map(|scheme| identities.iter().find(|it| can_sign(it, scheme)));
    fitting.next().map(|it| it.certified().clone())
}
