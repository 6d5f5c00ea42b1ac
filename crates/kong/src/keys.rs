//! Keys and certificates as they stand in entities: read to check them, never used here.

use std::ops::RangeInclusive;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeyPairComponents, PublicKeyComponents};
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, EcdsaVerificationAlgorithm, Ed25519KeyPair,
    KeyPair as _, ParsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::entity::Document;
use crate::schema::Complaint;

/// Bytes of a modulus of RSA in public keys: 1024 to 8192 bits.
const RSA_BYTES: RangeInclusive<usize> = 128..=1024;

/// Characters of a member of a JWK: as many as the longest modulus takes.
const JWK_MEMBER_BYTES_MAX: usize = 1400;

/// Certificates in one text; longer chains are refused.
const CHAIN_MAX: usize = 32;

/// Why a text is no usable key or certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("no block of that kind in PEM format")]
    Pem,
    #[error("not readable")]
    Der,
    #[error("encrypted keys are not supported, remove the passphrase")]
    Encrypted,
    #[error("not a key of RSA (2048 to 8192 bits), EC (P-256, P-384, P-521) or Ed25519")]
    Kind,
    #[error("too many certificates in one text")]
    Chain,
}

/// The public half of a key pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublicHalf {
    /// DER of its `SubjectPublicKeyInfo`.
    der: Vec<u8>,
}

/// What a certificate says that entities are checked for.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    pub(crate) public: PublicHalf,
    /// Object identifier of the kind of its key.
    pub(crate) kind: String,
    /// Seconds.
    pub(crate) not_after: i64,
    /// It may sign others.
    pub(crate) is_authority: bool,
    /// SHA-256 of its DER in hexadecimal digits.
    pub(crate) digest: String,
}

struct Curve {
    /// Its name in a JWK (RFC 7518 section 6.2.1.1).
    name: &'static str,
    /// Bytes of a coordinate.
    bytes: usize,
    signing: &'static EcdsaSigningAlgorithm,
    verifying: &'static EcdsaVerificationAlgorithm,
}

const CURVES: &[Curve] = &[
    Curve {
        name: "P-256",
        bytes: 32,
        signing: &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        verifying: &signature::ECDSA_P256_SHA256_FIXED,
    },
    Curve {
        name: "P-384",
        bytes: 48,
        signing: &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
        verifying: &signature::ECDSA_P384_SHA384_FIXED,
    },
    Curve {
        name: "P-521",
        bytes: 66,
        signing: &signature::ECDSA_P521_SHA512_FIXED_SIGNING,
        verifying: &signature::ECDSA_P521_SHA512_FIXED,
    },
];

fn public_half(key: &impl AsDer<PublicKeyX509Der<'static>>) -> Result<PublicHalf, Unusable> {
    let der = key.as_der().map_err(|_| Unusable::Der)?;
    Ok(PublicHalf {
        der: der.as_ref().to_vec(),
    })
}

/// The first certificate of a text; those after it, a chain, must be readable.
pub(crate) fn certificate(pem: &str) -> Result<Certificate, Unusable> {
    let mut first = None;
    let blocks = Pem::iter_from_buffer(pem.as_bytes()).filter(|block| {
        block
            .as_ref()
            .map_or(true, |block| block.label == "CERTIFICATE")
    });
    for (at, block) in blocks.enumerate() {
        if at >= CHAIN_MAX {
            return Err(Unusable::Chain);
        }
        let block = block.map_err(|_| Unusable::Pem)?;
        let read = read_certificate(&block.contents)?;
        first.get_or_insert(read);
    }
    first.ok_or(Unusable::Pem)
}

fn read_certificate(der: &[u8]) -> Result<Certificate, Unusable> {
    let (rest, parsed) = X509Certificate::from_der(der).map_err(|_| Unusable::Der)?;
    if !rest.is_empty() {
        return Err(Unusable::Der);
    }
    let key = parsed.public_key();
    let constraints = parsed.basic_constraints().ok().flatten();
    let digest = digest(&SHA256, der);
    let hex = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
    Ok(Certificate {
        public: PublicHalf {
            der: key.raw.to_vec(),
        },
        kind: key.algorithm.algorithm.to_id_string(),
        not_after: parsed.validity().not_after.timestamp(),
        is_authority: constraints.is_some_and(|it| it.value.ca),
        digest: hex.collect(),
    })
}

/// How many certificates begin in the text.
pub(crate) fn certificates(pem: &str) -> usize {
    pem.matches("-----BEGIN CERTIFICATE-----").count()
}

/// The public half of the first private key of a text.
pub(crate) fn private_key(pem: &str) -> Result<PublicHalf, Unusable> {
    if pem.contains("BEGIN ENCRYPTED PRIVATE KEY") || pem.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(Unusable::Encrypted);
    }
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| Unusable::Pem)?;
    let der = key.secret_der();
    let rsa = RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der));
    if let Ok(pair) = rsa {
        return public_half(pair.public_key());
    }
    let of_curve = |curve: &Curve| EcdsaKeyPair::from_private_key_der(curve.signing, der).ok();
    if let Some(pair) = CURVES.iter().find_map(of_curve) {
        return public_half(pair.public_key());
    }
    match Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
        Ok(pair) => public_half(pair.public_key()),
        Err(_) => Err(Unusable::Kind),
    }
}

/// A public key: `SubjectPublicKeyInfo` or, of RSA, PKCS#1.
pub(crate) fn public_key(pem: &str) -> Result<PublicHalf, Unusable> {
    let labels = ["PUBLIC KEY", "RSA PUBLIC KEY"];
    let block = Pem::iter_from_buffer(pem.as_bytes())
        .filter_map(Result::ok)
        .find(|block| labels.contains(&block.label.as_str()))
        .ok_or(Unusable::Pem)?;
    let of_curves = CURVES
        .iter()
        .map(|curve| curve.verifying as &'static dyn VerificationAlgorithm);
    let others: [&'static dyn VerificationAlgorithm; 2] = [
        &signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
        &signature::ED25519,
    ];
    let key = others
        .into_iter()
        .chain(of_curves)
        .find_map(|algorithm| ParsedPublicKey::new(algorithm, &block.contents).ok());
    public_half(&key.ok_or(Unusable::Kind)?)
}

/// Checks a field that holds certificates.
pub(crate) fn certificate_text(pem: &str) -> Complaint {
    let error = certificate(pem).err()?;
    Some(format!("invalid certificate: {error}").into())
}

/// Checks a field that holds a private key.
pub(crate) fn private_key_text(pem: &str) -> Complaint {
    let error = private_key(pem).err()?;
    Some(format!("invalid key: {error}").into())
}

/// Whether a JWK holds a key: the members of its kind are there, and make a key together (RFC 7518
/// section 6, RFC 8037 section 2). Symmetric keys are none.
pub(crate) fn is_jwk(jwk: &Document) -> bool {
    match jwk.get("kty").and_then(Value::as_str) {
        Some("RSA") => is_rsa_jwk(jwk),
        Some("EC") => is_ec_jwk(jwk).unwrap_or(false),
        Some("OKP") => is_okp_jwk(jwk).unwrap_or(false),
        _ => false,
    }
}

/// The bytes of a member; `None` when it is not there, longer than those of any key, or not base64url.
fn bytes(jwk: &Document, name: &str) -> Option<Vec<u8>> {
    let text = jwk.get(name)?.as_str()?;
    if text.len() > JWK_MEMBER_BYTES_MAX {
        return None;
    }
    URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()
}

fn is_rsa_jwk(jwk: &Document) -> bool {
    let unsigned = |name| {
        let bytes = bytes(jwk, name)?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Some(bytes.into_iter().skip(zeros).collect::<Vec<u8>>())
    };
    let (Some(n), Some(e)) = (unsigned("n"), unsigned("e")) else {
        return false;
    };
    if !RSA_BYTES.contains(&n.len()) {
        return false;
    }
    let public_key = PublicKeyComponents { n, e };
    if jwk.get("d").is_none_or(Value::is_null) {
        let algorithm = &signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY;
        return public_key.to_parsed_public_key(algorithm).is_ok();
    }
    let private = |name| bytes(jwk, name).unwrap_or_default();
    let components = KeyPairComponents {
        public_key,
        d: private("d"),
        p: private("p"),
        q: private("q"),
        dP: private("dp"),
        dQ: private("dq"),
        qInv: private("qi"),
    };
    RsaKeyPair::from_components(&components).is_ok()
}

fn is_ec_jwk(jwk: &Document) -> Option<bool> {
    let name = jwk.get("crv")?.as_str()?;
    let curve = CURVES.iter().find(|curve| curve.name == name)?;
    let (x, y) = (bytes(jwk, "x")?, bytes(jwk, "y")?);
    if x.len() != curve.bytes || y.len() != curve.bytes {
        return None;
    }
    let point = [&[4], x.as_slice(), y.as_slice()].concat();
    if jwk.get("d").is_none_or(Value::is_null) {
        return Some(ParsedPublicKey::new(curve.verifying, &point).is_ok());
    }
    let d = bytes(jwk, "d")?;
    Some(EcdsaKeyPair::from_private_key_and_public_key(curve.signing, &d, &point).is_ok())
}

fn is_okp_jwk(jwk: &Document) -> Option<bool> {
    if jwk.get("crv")?.as_str()? != "Ed25519" {
        return None;
    }
    let x = bytes(jwk, "x")?;
    if jwk.get("d").is_none_or(Value::is_null) {
        return Some(ParsedPublicKey::new(&signature::ED25519, &x).is_ok());
    }
    let d = bytes(jwk, "d")?;
    Some(Ed25519KeyPair::from_seed_and_public_key(&d, &x).is_ok())
}
