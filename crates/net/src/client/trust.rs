//! Which certificates of upstreams are accepted.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{ASN1Time, FromDer as _, X509Certificate};

/// Verifiers kept; each distinct bundle is one.
const VERIFIERS_MAX: usize = 256;

/// Whom to believe.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Trust {
    /// Any certificate.
    Anyone,
    /// Chains to the system's roots, with so many intermediate certificates.
    System(Option<u8>),
    /// Chains to one of these certificates.
    Bundle(Arc<str>, Option<u8>),
}

static VERIFIERS: LazyLock<Mutex<HashMap<Trust, Arc<dyn ServerCertVerifier>>>> =
    LazyLock::new(Mutex::default);

/// What verifies like that, made when it is first needed: parses many certificates.
pub(super) fn verifier(
    trust: &Trust,
    provider: &Arc<CryptoProvider>,
) -> io::Result<Arc<dyn ServerCertVerifier>> {
    let lock = || VERIFIERS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = lock().get(trust) {
        return Ok(known.clone());
    }
    let made: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Anyone => Arc::new(Anyone(provider.clone())),
        Trust::System(depth) => {
            Arc::new(Chain::new(system_roots()?, Vec::new(), *depth, provider)?)
        }
        Trust::Bundle(pem, depth) => {
            let (roots, certificates) = bundle(pem)?;
            Arc::new(Chain::new(roots, certificates, *depth, provider)?)
        }
    };
    let mut verifiers = lock();
    if verifiers.len() >= VERIFIERS_MAX {
        verifiers.clear();
    }
    Ok(verifiers.entry(trust.clone()).or_insert(made).clone())
}

/// What stands for the system's roots, when the process was told so.
static OWN_ROOTS: OnceLock<Vec<CertificateDer<'static>>> = OnceLock::new();

/// Lets every connection of this process that would trust the system's roots trust these certificates,
/// in PEM, and with `system` the system's roots as well. Only the first call counts, and it has to come
/// before the first connection.
///
/// # Errors
/// When there is no certificate, or one that cannot be trusted.
pub fn trust_instead_of_system(pem: &str, system: bool) -> io::Result<()> {
    let (_, mut certificates) = bundle(pem)?;
    if system {
        certificates.extend(rustls_native_certs::load_native_certs().certs);
    }
    // Platforms of one process are told the same.
    let _known = OWN_ROOTS.set(certificates);
    Ok(())
}

fn system_roots() -> io::Result<RootCertStore> {
    if let Some(own) = OWN_ROOTS.get() {
        let mut roots = RootCertStore::empty();
        let (added, ignored) = roots.add_parsable_certificates(own.iter().cloned());
        tracing::debug!(added, ignored, "loaded configured root certificates");
        return Ok(roots);
    }
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

fn bundle(pem: &str) -> io::Result<(RootCertStore, Vec<CertificateDer<'static>>)> {
    let mut roots = RootCertStore::empty();
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(invalid)?;
        roots.add(certificate.clone()).map_err(invalid)?;
        certificates.push(certificate);
    }
    if roots.is_empty() {
        return Err(invalid("CA bundle holds no certificate"));
    }
    Ok((roots, certificates))
}

pub(super) fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The path to a trusted certificate has more intermediate ones than are allowed.
#[derive(Debug, thiserror::Error)]
#[error("the certificate chain is longer than the verification depth {0}")]
struct TooDeep(u8);

/// Accepts chains to trusted certificates.
#[derive(Debug)]
struct Chain {
    common: Arc<WebPkiServerVerifier>,
    roots: Arc<RootCertStore>,
    /// The trusted certificates, where they were named one by one.
    certificates: Vec<CertificateDer<'static>>,
    depth: Option<u8>,
    provider: Arc<CryptoProvider>,
}

impl Chain {
    fn new(
        roots: RootCertStore,
        certificates: Vec<CertificateDer<'static>>,
        depth: Option<u8>,
        provider: &Arc<CryptoProvider>,
    ) -> io::Result<Self> {
        let roots = Arc::new(roots);
        let common = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone());
        Ok(Self {
            common: common.build().map_err(invalid)?,
            roots,
            certificates,
            depth,
            provider: provider.clone(),
        })
    }

    /// Whether there is a path with so few intermediate certificates. The chain is known to be sound.
    fn is_within(
        &self,
        depth: u8,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> bool {
        if intermediates.len() <= usize::from(depth) {
            return true;
        }
        let Ok(certificate) = webpki::EndEntityCert::try_from(end_entity) else {
            return false;
        };
        let few = |path: &webpki::VerifiedPath<'_>| {
            let between = path.intermediate_certificates().count();
            match between <= usize::from(depth) {
                true => Ok(()),
                false => Err(webpki::Error::UnknownIssuer),
            }
        };
        let path = certificate.verify_for_usage(
            self.provider.signature_verification_algorithms.all,
            &self.roots.roots,
            intermediates,
            now,
            webpki::KeyUsage::server_auth(),
            None,
            Some(&few),
        );
        path.is_ok()
    }

    /// A certificate of an authority that is its own end entity, as self-signed upstreams have, is
    /// accepted when it is itself trusted: as OpenSSL does.
    fn is_itself_trusted(
        &self,
        end_entity: &CertificateDer<'_>,
        server_name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<bool, Error> {
        if !self.certificates.contains(end_entity) {
            return Ok(false);
        }
        let Ok((_, certificate)) = X509Certificate::from_der(end_entity) else {
            return Ok(false);
        };
        if certificate.subject() != certificate.issuer() {
            return Ok(false);
        }
        let now = i64::try_from(now.as_secs()).ok();
        let now = now.and_then(|it| ASN1Time::from_timestamp(it).ok());
        if !now.is_some_and(|it| certificate.validity().is_valid_at(it)) {
            return Err(CertificateError::Expired.into());
        }
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        Ok(true)
    }
}

fn is_authority_as_end_entity(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(OtherError(cause))) = error else {
        return false;
    };
    matches!(
        cause.downcast_ref::<webpki::Error>(),
        Some(webpki::Error::CaUsedAsEndEntity)
    )
}

impl ServerCertVerifier for Chain {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let common = &self.common;
        match common.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        {
            Ok(verified) => match self.depth {
                Some(depth) if !self.is_within(depth, end_entity, intermediates, now) => {
                    let cause = OtherError(Arc::new(TooDeep(depth)));
                    Err(CertificateError::Other(cause).into())
                }
                _ => Ok(verified),
            },
            Err(error)
                if is_authority_as_end_entity(&error)
                    && self.is_itself_trusted(end_entity, server_name, now)? =>
            {
                Ok(ServerCertVerified::assertion())
            }
            Err(error) => Err(error),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let common = &self.common;
        common.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let common = &self.common;
        common.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.common.supported_verify_schemes()
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
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
