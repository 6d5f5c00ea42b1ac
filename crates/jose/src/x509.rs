//! The little X.509 the platform needs: self-signed certificates and reading PEM files.

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, date_time_ymd};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use o28m_core::Timestamp;

use crate::key::{sha1, sha256};
use crate::{Jwk, base64std, base64url};

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// No certificate block in the PEM text.
    #[error("failed to decode certificate PEM")]
    Pem,
    /// The block is not an X.509 certificate.
    #[error("failed to parse certificate")]
    Parse,
    /// The certificate's key is not RSA.
    #[error("public key is not of type RSA")]
    NotRsa,
    /// A certificate could not be made from the given key and names.
    #[error("failed to create certificate")]
    Create(#[source] rcgen::Error),
}

/// An X.509 certificate's DER and what is published of it.
#[derive(Clone, Debug)]
pub struct Certificate {
    der: Vec<u8>,
    spki: Vec<u8>,
    modulus: Vec<u8>,
    exponent: Vec<u8>,
    not_after: Timestamp,
}

impl Certificate {
    /// Reads the first certificate of `pem`. Its key must be RSA; its dates are not checked.
    ///
    /// # Errors
    /// [`CertificateError`], distinguishing text without PEM, other DER, and keys that are not RSA.
    pub fn from_pem(pem: &str) -> Result<Self, CertificateError> {
        let der =
            CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| CertificateError::Pem)?;
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|_| CertificateError::Parse)?;
        let info = parsed.public_key();
        let Ok(PublicKey::RSA(key)) = info.parsed() else {
            return Err(CertificateError::NotRsa);
        };
        let unsigned = |bytes: &[u8]| -> Vec<u8> {
            bytes
                .iter()
                .copied()
                .skip_while(|byte| *byte == 0)
                .collect()
        };
        Ok(Self {
            spki: info.raw.to_vec(),
            modulus: unsigned(key.modulus),
            exponent: unsigned(key.exponent),
            not_after: Timestamp::from_seconds(parsed.validity().not_after.timestamp()),
            der: der.to_vec(),
        })
    }

    /// The certificate itself.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Its SubjectPublicKeyInfo.
    #[must_use]
    pub fn public_key_der(&self) -> &[u8] {
        &self.spki
    }

    /// End of validity.
    #[must_use]
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The JWK under which an RS256 key with this certificate is published.
    #[must_use]
    pub fn jwk(&self, kid: &str) -> Jwk {
        let mut jwk = Jwk {
            kid: Some(kid.to_owned()),
            kty: Some("RSA".to_owned()),
            alg: Some("RS256".to_owned()),
            usage: Some("sig".to_owned()),
            n: Some(base64url(&self.modulus)),
            e: Some(base64url(&self.exponent)),
            ..Jwk::default()
        };
        add_certificate(&mut jwk, &self.der);
        jwk
    }
}

/// Adds `x5c`, `x5t` and `x5t#S256` of a certificate to a JWK (RFC 7517 sections 4.7 to 4.9).
pub fn add_certificate(jwk: &mut Jwk, der: &[u8]) {
    jwk.x5c = Some(vec![base64std(der)]);
    jwk.x5t = Some(base64url(&sha1(der)));
    jwk.x5t_s256 = Some(base64url(&sha256(der)));
}

/// A self-signed certificate over a PKCS#8 key.
pub struct SelfSigned {
    /// The certificate as PEM.
    pub certificate_pem: String,
    /// The certificate as DER.
    pub certificate_der: Vec<u8>,
    /// The private key as PKCS#8 PEM.
    pub key_pem: String,
}

/// Makes a self-signed certificate with the given common name, valid from 2020 to `not_after_year`.
///
/// The start lies in the past on purpose: a clock that is slightly behind must not refuse a new key.
///
/// # Errors
/// [`CertificateError::Create`] when the key is unusable or a name is not a host name or address.
pub fn self_signed(
    pkcs8: &[u8],
    common_name: &str,
    subject_alternative_names: &[&str],
    not_after_year: i32,
) -> Result<SelfSigned, CertificateError> {
    let names: Vec<String> = subject_alternative_names
        .iter()
        .map(|&name| name.to_owned())
        .collect();
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.to_vec()));
    let pair = KeyPair::try_from(&der).map_err(CertificateError::Create)?;
    let mut params = CertificateParams::new(names).map_err(CertificateError::Create)?;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(not_after_year, 1, 1);
    let certificate = params
        .self_signed(&pair)
        .map_err(CertificateError::Create)?;
    Ok(SelfSigned {
        certificate_pem: certificate.pem(),
        certificate_der: certificate.der().to_vec(),
        key_pem: pair.serialize_pem(),
    })
}

/// Object identifier of Ed25519 (RFC 8410 section 3).
const ED25519: &str = "1.3.101.112";

/// The public key of the first certificate or public key in `pem`: RSA, on a NIST curve, or Ed25519.
#[must_use]
pub fn public_jwk(pem: &str) -> Option<Jwk> {
    let (certificate, public);
    let info = if let Ok(der) = CertificateDer::from_pem_slice(pem.as_bytes()) {
        certificate = der;
        let (_, parsed) = X509Certificate::from_der(&certificate).ok()?;
        parsed.tbs_certificate.subject_pki
    } else {
        public = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).ok()?;
        SubjectPublicKeyInfo::from_der(&public).ok()?.1
    };
    let mut jwk = Jwk::default();
    match info.parsed().ok()? {
        PublicKey::RSA(key) => {
            let unsigned = |bytes: &[u8]| {
                let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
                base64url(bytes.get(zeros..).unwrap_or_default())
            };
            jwk.kty = Some("RSA".to_owned());
            jwk.n = Some(unsigned(key.modulus));
            jwk.e = Some(unsigned(key.exponent));
        }
        PublicKey::EC(point) => {
            // Uncompressed point: 0x04, x, y, both of the curve's length.
            let (form, rest) = point.data().split_first()?;
            let curve = match (form, rest.len()) {
                (4, 64) => "P-256",
                (4, 96) => "P-384",
                (4, 132) => "P-521",
                _ => return None,
            };
            let (x, y) = rest.split_at(rest.len() / 2);
            jwk.kty = Some("EC".to_owned());
            jwk.crv = Some(curve.to_owned());
            jwk.x = Some(base64url(x));
            jwk.y = Some(base64url(y));
        }
        PublicKey::Unknown(bytes) if info.algorithm.algorithm.to_id_string() == ED25519 => {
            jwk.kty = Some("OKP".to_owned());
            jwk.crv = Some("Ed25519".to_owned());
            jwk.x = Some(base64url(bytes));
        }
        _ => return None,
    }
    Some(jwk)
}

/// The DER of the first private key in `pem`, PKCS#8 or PKCS#1.
#[must_use]
pub fn private_key_der(pem: &str) -> Option<Vec<u8>> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .ok()
        .map(|key| key.secret_der().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Algorithm, SigningKey};

    #[test]
    fn a_self_signed_certificate_publishes_the_signing_key() {
        let der = SigningKey::generate_pkcs8(Algorithm::RS256).unwrap();
        let made = self_signed(&der, "gateway", &["gateway.example.com"], 2100).unwrap();
        let read = Certificate::from_pem(&made.certificate_pem).unwrap();
        let key = SigningKey::from_pem("k", Algorithm::RS256, &made.key_pem).unwrap();
        assert_eq!(read.der(), made.certificate_der);
        assert_eq!(read.jwk("k").n, key.public_jwk().n);
        assert_eq!(read.jwk("k").e.as_deref(), Some("AQAB"));
        assert_eq!(read.public_key_der(), key.public_der());
    }

    #[test]
    fn public_keys_are_read_from_certificates_and_bare() {
        for algorithm in [
            Algorithm::RS256,
            Algorithm::ES256,
            Algorithm::ES512,
            Algorithm::EdDSA,
        ] {
            let der = SigningKey::generate_pkcs8(algorithm).unwrap();
            let key = SigningKey::from_pkcs8("", algorithm, &der).unwrap();
            let wanted = key.public_jwk();
            let lines = base64std(&key.public_der());
            let bare = format!("-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----\n");
            let mut pems = vec![bare];
            if algorithm != Algorithm::ES512 {
                let made = self_signed(&der, "client", &[], 2100).unwrap();
                pems.push(made.certificate_pem);
            }
            for pem in pems {
                let read = public_jwk(&pem).unwrap();
                assert_eq!((&read.kty, &read.crv), (&wanted.kty, &wanted.crv));
                assert_eq!((&read.n, &read.e), (&wanted.n, &wanted.e));
                assert_eq!((&read.x, &read.y), (&wanted.x, &wanted.y));
            }
        }
        assert!(public_jwk("x").is_none());
    }

    #[test]
    fn garbage_is_named() {
        assert!(matches!(
            Certificate::from_pem("x"),
            Err(CertificateError::Pem)
        ));
        let block = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(
            Certificate::from_pem(block),
            Err(CertificateError::Parse)
        ));
    }
}
