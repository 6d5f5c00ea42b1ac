//! The keys of a realm: generated, stored, compiled for signing and verifying, and published.

pub(crate) mod provider;

use std::sync::Arc;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use o28m_core::{Ambient, Timestamp};
use o28m_jose::{
    Algorithm, CompactJws, Jwk, JwkSet, KeyError, SignatureInvalid, SigningKey, VerifyingKey,
    base64std, base64url, x509,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use provider::Provider;

/// Years a generated certificate is valid (Keycloak 26.5).
const CERTIFICATE_YEARS: i64 = 10;
/// Priority of a key that was made because an algorithm had none.
const FALLBACK_PRIORITY: i64 = -100;
/// Priority of the keys of a new realm.
const PRIORITY: i64 = 100;
/// Bytes of an HS512 secret.
const HMAC_BYTES: usize = 128;
/// Bytes of an AES secret.
const AES_BYTES: usize = 16;

/// Why a key could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The generator or the key material failed.
    #[error("key could not be made")]
    Key(#[from] KeyError),
    /// The certificate could not be made.
    #[error("certificate could not be made")]
    Certificate(#[from] x509::CertificateError),
}

/// A key as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KeyBody {
    pub(crate) id: String,
    pub(crate) realm: String,
    pub(crate) name: String,
    pub(crate) provider: String,
    pub(crate) priority: i64,
    pub(crate) enabled: bool,
    pub(crate) active: bool,
    pub(crate) algorithm: String,
    #[serde(rename = "use")]
    pub(crate) usage: Usage,
    pub(crate) kid: String,
    pub(crate) created_ms: i64,
    /// Base64 of PKCS#8 DER, or of the secret of a symmetric key.
    pub(crate) material: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) certificate: Option<String>,
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Usage {
    /// Signatures.
    Sig,
    /// Encryption.
    Enc,
}

/// A part of a new realm's keys, so that the slow ones are made side by side.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    /// The RS256 key.
    Signing,
    /// The RSA encryption key.
    Encryption,
    /// The symmetric keys, and one for the realm's default algorithm unless it is among the others.
    Rest,
}

/// A part of the keys of a new realm. Takes tenths of a second: call it on a blocking thread.
///
/// # Errors
/// [`Error`].
pub(crate) fn of_new_realm(
    part: Part,
    realm_id: &str,
    realm: &str,
    default_algorithm: &str,
    ambient: &Ambient,
) -> Result<Vec<KeyBody>, Error> {
    let make = |id: &str| {
        let provider = Provider::named(id);
        let provider = provider.ok_or(KeyError::Generation(Algorithm::RS256))?;
        let algorithm = provider.algorithm.to_owned();
        generate(provider, algorithm, PRIORITY, realm_id, realm, ambient)
    };
    match part {
        Part::Signing => Ok(vec![make("rsa-generated")?]),
        Part::Encryption => Ok(vec![make("rsa-enc-generated")?]),
        Part::Rest => {
            let mut keys = vec![make("hmac-generated-hs512")?, make("aes-generated")?];
            let made = |key: &KeyBody| key.algorithm == default_algorithm;
            if let Ok(algorithm) = default_algorithm.parse()
                && algorithm != Algorithm::RS256
                && !keys.iter().any(made)
            {
                keys.push(fallback(algorithm, realm_id, realm, ambient)?);
            }
            Ok(keys)
        }
    }
}

/// A key for an algorithm the realm has none for (Keycloak 26.5: component `fallback-<ALG>`).
///
/// # Errors
/// [`Error`].
pub(crate) fn fallback(
    algorithm: Algorithm,
    realm_id: &str,
    realm: &str,
    ambient: &Ambient,
) -> Result<KeyBody, Error> {
    let provider = Provider::making(algorithm).ok_or(KeyError::Generation(algorithm))?;
    let name = algorithm.name();
    let mut key = generate(
        provider,
        name.to_owned(),
        FALLBACK_PRIORITY,
        realm_id,
        realm,
        ambient,
    )?;
    key.name = format!("fallback-{name}");
    Ok(key)
}

/// A self-signed certificate of an RSA key, as base64 of its DER.
pub(crate) fn certificate(der: &[u8], realm: &str, ambient: &Ambient) -> Result<String, Error> {
    let made = x509::self_signed(der, realm, &[], certificate_year(ambient.now()))?;
    Ok(base64std(&made.certificate_der))
}

/// The id of a key by its public half (Keycloak `KeyUtils.createKeyId`).
pub(crate) fn key_id(public_der: &[u8]) -> String {
    base64url(digest::digest(&digest::SHA256, public_der).as_ref())
}

/// A new key of a provider, called as it. Takes tenths of a second for RSA: call it on a blocking
/// thread.
///
/// # Errors
/// [`Error`].
pub(crate) fn generate(
    provider: &Provider,
    algorithm: String,
    priority: i64,
    realm_id: &str,
    realm: &str,
    ambient: &Ambient,
) -> Result<KeyBody, Error> {
    let mut body = KeyBody {
        id: ambient.uuid(),
        realm: realm_id.to_owned(),
        name: provider.id.to_owned(),
        provider: provider.id.to_owned(),
        priority,
        enabled: true,
        active: true,
        algorithm,
        usage: provider.usage,
        kid: ambient.uuid(),
        created_ms: ambient.now().millis(),
        material: String::new(),
        certificate: None,
    };
    match body.key_algorithm() {
        Some(algorithm) if algorithm.key_type() != "oct" => {
            let der = SigningKey::generate_pkcs8(algorithm)?;
            let public = SigningKey::from_pkcs8("", algorithm, &der)?.public_der();
            body.kid = key_id(&public);
            if algorithm.key_type() == "RSA" {
                body.certificate = Some(certificate(&der, realm, ambient)?);
            }
            body.material = STANDARD.encode(der);
        }
        secret => {
            let mut bytes = vec![
                0;
                if secret.is_some() {
                    HMAC_BYTES
                } else {
                    AES_BYTES
                }
            ];
            ambient.rng.fill(&mut bytes);
            body.material = STANDARD.encode(bytes);
        }
    }
    Ok(body)
}

/// The calendar year in which a certificate made now ends, close enough for a validity of years.
fn certificate_year(now: Timestamp) -> i32 {
    const SECONDS_PER_YEAR: i64 = 31_556_952;
    i32::try_from(1970 + now.seconds() / SECONDS_PER_YEAR + CERTIFICATE_YEARS).unwrap_or(9999)
}

impl KeyBody {
    /// The signature algorithm its material fits; RSA encryption keys count as RS256, AES has none.
    pub(crate) fn key_algorithm(&self) -> Option<Algorithm> {
        if self.algorithm.starts_with("RSA-OAEP") {
            return Some(Algorithm::RS256);
        }
        self.algorithm.parse().ok()
    }
}

/// A compiled key.
pub(crate) struct RealmKey {
    pub(crate) body: KeyBody,
    signing: Option<SigningKey>,
    verifying: Option<VerifyingKey>,
    jwk: Option<Jwk>,
    /// The encoded header of most tokens it signs.
    header: String,
}

/// `typ` of most tokens.
const JWT: &str = "JWT";

fn header(algorithm: Algorithm, typ: &str, kid: &str) -> String {
    let header = json!({"alg": algorithm.name(), "typ": typ, "kid": kid}).to_string();
    base64url(header.as_bytes())
}

impl RealmKey {
    /// Parses the stored material.
    ///
    /// # Errors
    /// [`KeyError`].
    pub(crate) fn compile(body: KeyBody) -> Result<Self, KeyError> {
        let mut key = Self {
            signing: None,
            verifying: None,
            jwk: None,
            header: String::new(),
            body,
        };
        let Some(algorithm) = key.body.key_algorithm() else {
            return Ok(key);
        };
        let unusable = || KeyError::PrivateKey(algorithm);
        let material = STANDARD
            .decode(&key.body.material)
            .map_err(|_| unusable())?;
        let kid = key.body.kid.as_str();
        key.header = header(algorithm, JWT, kid);
        if algorithm.key_type() == "oct" {
            key.signing = Some(SigningKey::from_secret(kid, algorithm, &material)?);
            return Ok(key);
        }
        let signing = SigningKey::from_pkcs8(kid, algorithm, &material)?;
        let mut jwk = signing.public_jwk();
        jwk.alg = Some(key.body.algorithm.clone());
        jwk.usage = Some(
            if key.body.usage == Usage::Sig {
                "sig"
            } else {
                "enc"
            }
            .to_owned(),
        );
        if let Some(certificate) = &key.body.certificate {
            let der = STANDARD.decode(certificate).map_err(|_| unusable())?;
            x509::add_certificate(&mut jwk, &der);
        }
        key.jwk = Some(jwk);
        if key.body.usage == Usage::Sig {
            key.verifying = Some(VerifyingKey::from_jwk(&signing.public_jwk(), algorithm)?);
            key.signing = Some(signing);
        }
        Ok(key)
    }

    /// What is published of it; nothing of symmetric keys.
    pub(crate) fn jwk(&self) -> Option<&Jwk> {
        self.jwk.as_ref()
    }

    /// Base64 of the public half; nothing of symmetric and encryption keys.
    pub(crate) fn public_key(&self) -> Option<String> {
        let der = self.signing.as_ref().map(SigningKey::public_der)?;
        (!der.is_empty()).then(|| base64std(&der))
    }

    /// The algorithm its signatures have.
    pub(crate) fn algorithm(&self) -> Option<Algorithm> {
        self.signing.as_ref().map(SigningKey::algorithm)
    }

    /// What its signature of a token of type `typ` covers (RFC 7515 section 5.1).
    pub(crate) fn signing_input(&self, typ: &str, payload: &[u8]) -> Option<String> {
        let algorithm = self.algorithm()?;
        let mut input = if typ == JWT {
            self.header.clone()
        } else {
            header(algorithm, typ, &self.body.kid)
        };
        input.push('.');
        input.push_str(&base64url(payload));
        Some(input)
    }

    /// Signs a signing input, which takes long for RSA; gives the whole token.
    pub(crate) fn sign(&self, mut input: String) -> Option<String> {
        let signature = self.signing.as_ref()?.sign(input.as_bytes());
        input.push('.');
        input.push_str(&base64url(&signature));
        Some(input)
    }

    /// Verifies a signature made by this key.
    pub(crate) fn verify(&self, jws: &CompactJws<'_>) -> Result<(), SignatureInvalid> {
        let message = jws.signing_input.as_bytes();
        match (&self.verifying, &self.signing) {
            (Some(key), _) => key.verify(message, &jws.signature),
            (None, Some(key)) => key.verify(message, &jws.signature),
            (None, None) => Err(SignatureInvalid),
        }
    }
}

/// The keys of a realm, best first.
pub struct Keys {
    pub(crate) all: Vec<Arc<RealmKey>>,
    /// What is published: every enabled asymmetric key.
    pub(crate) jwk_set: Arc<JwkSet>,
}

impl Keys {
    /// Compiles stored keys: higher priority first, newer first among equals.
    ///
    /// # Errors
    /// [`KeyError`] for unusable material.
    pub(crate) fn compile(mut bodies: Vec<KeyBody>) -> Result<Self, KeyError> {
        bodies.retain(|body| body.enabled);
        bodies.sort_by_key(|body| std::cmp::Reverse((body.priority, body.created_ms)));
        let compiled = bodies
            .into_iter()
            .map(|body| RealmKey::compile(body).map(Arc::new));
        let all: Vec<_> = compiled.collect::<Result<_, _>>()?;
        let keys = all.iter().filter_map(|key| key.jwk.clone()).collect();
        Ok(Self {
            jwk_set: Arc::new(JwkSet { keys }),
            all,
        })
    }

    /// The key that signs with `algorithm`.
    pub(crate) fn signing(&self, algorithm: Algorithm) -> Option<&Arc<RealmKey>> {
        let usable = |key: &&Arc<RealmKey>| key.body.active && key.algorithm() == Some(algorithm);
        self.all.iter().find(usable)
    }

    /// The enabled signing key of that id.
    pub(crate) fn by_kid(&self, kid: &str) -> Option<&Arc<RealmKey>> {
        self.all
            .iter()
            .find(|key| key.body.kid == kid && key.signing.is_some())
    }

    /// Base64 of the public half of the active RS256 key, for the public realm document.
    #[must_use]
    pub fn rsa_public_key(&self) -> Option<String> {
        let key = self.signing(Algorithm::RS256)?;
        key.signing.as_ref().map(|key| base64std(&key.public_der()))
    }
}
