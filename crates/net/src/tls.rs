//! TLS for listeners.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::ResolvesServerCert;
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Why certificate and key make no TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The certificate file is not PEM.
    #[error("failed to read certificate chain")]
    Certificate(#[source] pem::Error),
    /// The certificate file holds no certificate.
    #[error("certificate chain is empty")]
    NoCertificate,
    /// The key file holds no private key in PKCS#8, PKCS#1 or SEC1 form.
    #[error("failed to read private key")]
    Key(#[source] pem::Error),
    /// Key and certificate do not fit together, or are of a kind or with a provider that is not
    /// supported.
    #[error("certificate and private key cannot be used")]
    Pair(#[source] rustls::Error),
}

/// A certificate chain with its key, ready for a resolver.
///
/// # Errors
/// [`ConfigError`].
pub fn certified_key(
    certificates_pem: &[u8],
    key_pem: &[u8],
) -> Result<Arc<rustls::sign::CertifiedKey>, ConfigError> {
    let chain = CertificateDer::pem_slice_iter(certificates_pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(ConfigError::Certificate)?;
    if chain.is_empty() {
        return Err(ConfigError::NoCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(ConfigError::Key)?;
    let provider = aws_lc_rs::default_provider();
    rustls::sign::CertifiedKey::from_der(chain, key, &provider)
        .map(Arc::new)
        .map_err(ConfigError::Pair)
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
    server_config_with(Arc::new(rustls::sign::SingleCertAndKey::from(key)))
}

/// A configuration whose certificate is chosen for each handshake: TLS 1.2 and 1.3, ALPN `http/1.1`.
///
/// # Errors
/// [`ConfigError`].
pub fn server_config_with(
    resolver: Arc<dyn ResolvesServerCert>,
) -> Result<Arc<ServerConfig>, ConfigError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(ConfigError::Pair)?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Resumption without memory of each session, with keys that change by themselves.
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(ConfigError::Pair)?;
    Ok(Arc::new(config))
}
