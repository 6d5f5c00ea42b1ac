use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
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
    /// A certificate cannot be trusted as an authority.
    #[error("certificate cannot be trusted")]
    Authority(#[source] rustls::Error),
    /// Key and certificate do not fit together, or are of a kind or with a provider that is not
    /// supported.
    #[error("certificate and private key cannot be used")]
    Pair(#[source] rustls::Error),
}

/// A certificate chain with its private key: what one side of a connection proves itself with.
///
/// Identities are equal when their chains are: a key fits one certificate only.
pub struct Identity {
    certified: Arc<CertifiedKey>,
    /// Of the chain, so that hash tables need not read it.
    hash: u64,
}

impl Identity {
    /// Reads a chain, the end entity's certificate first, and its key.
    ///
    /// # Errors
    /// [`ConfigError`]; it never holds a part of the key.
    pub fn from_pem(certificates_pem: &[u8], key_pem: &[u8]) -> Result<Arc<Self>, ConfigError> {
        let certified = certified_key(certificates_pem, key_pem)?;
        let mut hasher = DefaultHasher::new();
        certified.cert.hash(&mut hasher);
        Ok(Arc::new(Self {
            certified,
            hash: hasher.finish(),
        }))
    }

    /// The form that TLS configurations take.
    #[must_use]
    pub fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.certified, &other.certified)
            || (self.hash == other.hash && self.certified.cert == other.certified.cert)
    }
}

impl Eq for Identity {}

impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

impl std::fmt::Debug for Identity {
    /// Tells identities apart; shows nothing of the key.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Identity({:016x})", self.hash)
    }
}

/// A certificate chain with its key, ready for a resolver.
///
/// # Errors
/// [`ConfigError`].
pub fn certified_key(
    certificates_pem: &[u8],
    key_pem: &[u8],
) -> Result<Arc<CertifiedKey>, ConfigError> {
    let chain = CertificateDer::pem_slice_iter(certificates_pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(ConfigError::Certificate)?;
    if chain.is_empty() {
        return Err(ConfigError::NoCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(ConfigError::Key)?;
    let provider = aws_lc_rs::default_provider();
    CertifiedKey::from_der(chain, key, &provider)
        .map(Arc::new)
        .map_err(ConfigError::Pair)
}

/// Whether the certificates of a text can be trusted as authorities.
///
/// # Errors
/// [`ConfigError::Certificate`], [`ConfigError::NoCertificate`], [`ConfigError::Authority`].
pub fn check_authority(certificates_pem: &[u8]) -> Result<(), ConfigError> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(certificates_pem) {
        let certificate = certificate.map_err(ConfigError::Certificate)?;
        roots.add(certificate).map_err(ConfigError::Authority)?;
    }
    if roots.is_empty() {
        return Err(ConfigError::NoCertificate);
    }
    Ok(())
}
