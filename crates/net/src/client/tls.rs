//! TLS towards upstreams: one configuration per policy, shared by all pools.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{Target, TlsPolicy};

/// Policies kept; each distinct CA bundle is one.
const POLICIES_MAX: usize = 256;

/// What decides about a configuration.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Trust {
    Anyone,
    System,
    Bundle(Arc<str>),
}

static CONFIGS: LazyLock<Mutex<HashMap<Trust, Arc<ClientConfig>>>> = LazyLock::new(Mutex::default);

/// The configuration of a policy, made at its first use off the I/O threads: that parses many
/// certificates. Other protocols than HTTP use it too, so that trust is decided in one place.
///
/// # Errors
/// When the trusted certificates cannot be read or there are none.
pub async fn config(policy: &TlsPolicy) -> io::Result<Arc<ClientConfig>> {
    let trust = match (&policy.ca_pem, policy.verify) {
        (_, false) => Trust::Anyone,
        (Some(pem), true) => Trust::Bundle(pem.clone()),
        (None, true) => Trust::System,
    };
    let known = CONFIGS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&trust)
        .cloned();
    if let Some(config) = known {
        return Ok(config);
    }
    let made = tokio::task::spawn_blocking({
        let trust = trust.clone();
        move || make(&trust)
    });
    let config = made.await.map_err(io::Error::other)??;
    let mut configs = CONFIGS.lock().unwrap_or_else(PoisonError::into_inner);
    if configs.len() >= POLICIES_MAX {
        configs.clear();
    }
    Ok(configs.entry(trust).or_insert(config).clone())
}

fn make(trust: &Trust) -> io::Result<Arc<ClientConfig>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let config = match trust {
        Trust::Anyone => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
            .with_no_client_auth(),
        Trust::System => builder
            .with_root_certificates(system_roots()?)
            .with_no_client_auth(),
        Trust::Bundle(pem) => builder
            .with_root_certificates(bundle(pem)?)
            .with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

fn system_roots() -> io::Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(found.certs);
    tracing::debug!(added, ignored, "loaded system root certificates");
    if added == 0 {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "no usable system root certificates",
        ));
    }
    Ok(roots)
}

fn bundle(pem: &str) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(invalid)?;
        roots.add(certificate).map_err(invalid)?;
    }
    if roots.is_empty() {
        return Err(invalid("CA bundle holds no certificate"));
    }
    Ok(roots)
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
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

/// Accepts any certificate, as a service with `tls_verify` off asks for; signatures are checked.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
