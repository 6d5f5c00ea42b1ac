use std::fmt;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{
    self, ED25519_PUBLIC_KEY_LEN, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair,
    KeyPair as _, RsaKeyPair, UnparsedPublicKey,
};
use aws_lc_rs::{digest, hmac};

use crate::{Algorithm, Jwk, base64url, from_base64url, x509};

/// Bytes of an Ed25519 signature (RFC 8032 section 5.1.6).
const ED25519_SIGNATURE_BYTES: usize = 64;

/// Why key material cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The bytes are not a private key of the kind the algorithm needs.
    #[error("not a usable private key for {0}")]
    PrivateKey(Algorithm),
    /// The text has no private key in PEM.
    #[error("no private key found in PEM text")]
    Pem,
    /// RSA moduli below 2048 bits are refused (RFC 7518 section 3.3).
    #[error("RSA key is shorter than 2048 bits")]
    Weak,
    /// The key generator failed.
    #[error("key generation failed for {0}")]
    Generation(Algorithm),
    /// The JWK lacks members, or has ones that do not fit the algorithm.
    #[error("JWK does not hold a public key usable with {0}")]
    Jwk(Algorithm),
}

/// The signature does not fit the message and key.
#[derive(Debug, thiserror::Error)]
#[error("signature is invalid")]
pub struct SignatureInvalid;

enum Private {
    Rsa(RsaKeyPair, &'static signature::RsaSignatureEncoding),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    /// Boxed: it is twenty times the size of the others.
    Hmac(Box<hmac::Key>),
}

/// A private or symmetric key bound to one algorithm and one key id.
pub struct SigningKey {
    kid: String,
    algorithm: Algorithm,
    private: Private,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SigningKey({}, {})", self.algorithm, self.kid)
    }
}

impl SigningKey {
    /// Generates PKCS#8 DER for `algorithm`: RSA with 2048 bits, or the algorithm's curve.
    ///
    /// # Errors
    /// [`KeyError::Generation`] for symmetric algorithms and when the generator fails.
    pub fn generate_pkcs8(algorithm: Algorithm) -> Result<Vec<u8>, KeyError> {
        let failed = |_| KeyError::Generation(algorithm);
        match algorithm.key_type() {
            "RSA" => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
                let der = aws_lc_rs::encoding::AsDer::<Pkcs8V1Der<'_>>::as_der(&pair);
                Ok(der.map_err(failed)?.as_ref().to_vec())
            }
            "EC" => {
                let signing = ecdsa_signing(algorithm).ok_or(KeyError::Generation(algorithm))?;
                let document = EcdsaKeyPair::generate_pkcs8(signing, &SystemRandom::new());
                Ok(document.map_err(failed)?.as_ref().to_vec())
            }
            "OKP" => {
                // Version 1 of PKCS#8, without the public half: what others read.
                let document = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new());
                Ok(document.map_err(failed)?.as_ref().to_vec())
            }
            _ => Err(KeyError::Generation(algorithm)),
        }
    }

    /// A key pair from PKCS#8 DER.
    ///
    /// # Errors
    /// [`KeyError::PrivateKey`] when the bytes do not fit the algorithm, [`KeyError::Weak`] for short RSA.
    pub fn from_pkcs8(
        kid: impl Into<String>,
        algorithm: Algorithm,
        der: &[u8],
    ) -> Result<Self, KeyError> {
        let unusable = KeyError::PrivateKey(algorithm);
        let private = if let Some(encoding) = rsa_encoding(algorithm) {
            let Ok(pair) = RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der))
            else {
                return Err(unusable);
            };
            if pair.public_modulus_len() < 256 {
                return Err(KeyError::Weak);
            }
            Private::Rsa(pair, encoding)
        } else if let Some(signing) = ecdsa_signing(algorithm) {
            Private::Ec(EcdsaKeyPair::from_pkcs8(signing, der).map_err(|_| unusable)?)
        } else if algorithm == Algorithm::EdDSA {
            Private::Ed(Ed25519KeyPair::from_pkcs8(der).map_err(|_| unusable)?)
        } else {
            return Err(unusable);
        };
        Ok(Self {
            kid: kid.into(),
            algorithm,
            private,
        })
    }

    /// A key pair from PEM text: PKCS#8 (`PRIVATE KEY`) or PKCS#1 (`RSA PRIVATE KEY`).
    ///
    /// # Errors
    /// [`KeyError::Pem`] without such a block, otherwise as [`SigningKey::from_pkcs8`].
    pub fn from_pem(
        kid: impl Into<String>,
        algorithm: Algorithm,
        pem: &str,
    ) -> Result<Self, KeyError> {
        let der = x509::private_key_der(pem).ok_or(KeyError::Pem)?;
        Self::from_pkcs8(kid, algorithm, &der)
    }

    /// A symmetric key for one of the `HS` algorithms.
    ///
    /// # Errors
    /// [`KeyError::PrivateKey`] for any other algorithm.
    pub fn from_secret(
        kid: impl Into<String>,
        algorithm: Algorithm,
        secret: &[u8],
    ) -> Result<Self, KeyError> {
        let hash = hmac_hash(algorithm).ok_or(KeyError::PrivateKey(algorithm))?;
        let private = Private::Hmac(Box::new(hmac::Key::new(hash, secret)));
        Ok(Self {
            kid: kid.into(),
            algorithm,
            private,
        })
    }

    /// The key id that tokens signed by this key name.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The only algorithm this key signs with.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Signs `message`; ES signatures have the raw r‖s form (RFC 7518 section 3.4).
    ///
    /// RSA takes around half a millisecond of CPU: call it off the request path where that matters.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.private {
            Private::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                // Fails only when the buffer has another length than the modulus, which it has not.
                if pair
                    .sign(*encoding, &SystemRandom::new(), message, &mut signature)
                    .is_err()
                {
                    signature.clear();
                }
                signature
            }
            Private::Ec(pair) => pair
                .sign(&SystemRandom::new(), message)
                .map(|signature| signature.as_ref().to_vec())
                .unwrap_or_default(),
            Private::Ed(pair) => pair
                .try_sign(message)
                .map(|signature| signature.as_ref().to_vec())
                .unwrap_or_default(),
            Private::Hmac(key) => hmac::sign(key, message).as_ref().to_vec(),
        }
    }

    /// Verifies a signature made by this key, in constant time for symmetric keys.
    ///
    /// # Errors
    /// [`SignatureInvalid`].
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureInvalid> {
        if let Private::Hmac(key) = &self.private {
            return hmac::verify(key, message, signature).map_err(|_| SignatureInvalid);
        }
        let key = VerifyingKey::from_jwk(&self.public_jwk(), self.algorithm);
        key.map_err(|_| SignatureInvalid)?
            .verify(message, signature)
    }

    /// The public half as DER SubjectPublicKeyInfo; empty for symmetric keys.
    #[must_use]
    pub fn public_der(&self) -> Vec<u8> {
        let der = match &self.private {
            Private::Rsa(pair, _) => pair.public_key().as_der().ok(),
            Private::Ec(pair) => pair.public_key().as_der().ok(),
            Private::Ed(pair) => pair.public_key().as_der().ok(),
            Private::Hmac(_) => None,
        };
        der.map(|der: PublicKeyX509Der<'_>| der.as_ref().to_vec())
            .unwrap_or_default()
    }

    /// The public half as a JWK with `kid`, `kty`, `alg` and `use`; no key members if symmetric.
    #[must_use]
    pub fn public_jwk(&self) -> Jwk {
        let mut jwk = Jwk {
            kid: Some(self.kid.clone()),
            kty: Some(self.algorithm.key_type().to_owned()),
            alg: Some(self.algorithm.name().to_owned()),
            usage: Some("sig".to_owned()),
            ..Jwk::default()
        };
        match &self.private {
            Private::Rsa(pair, _) => {
                let key = pair.public_key();
                jwk.n = Some(base64url(key.modulus().big_endian_without_leading_zero()));
                jwk.e = Some(base64url(key.exponent().big_endian_without_leading_zero()));
            }
            Private::Ec(pair) => {
                // Uncompressed point: 0x04, x, y, both already padded to the curve's length.
                let point = pair.public_key().as_ref().get(1..).unwrap_or_default();
                let (x, y) = point.split_at(point.len() / 2);
                jwk.crv = self.algorithm.curve().map(str::to_owned);
                jwk.x = Some(base64url(x));
                jwk.y = Some(base64url(y));
            }
            Private::Ed(pair) => {
                jwk.crv = self.algorithm.curve().map(str::to_owned);
                jwk.x = Some(base64url(pair.public_key().as_ref()));
            }
            Private::Hmac(_) => {}
        }
        jwk
    }
}

enum Public {
    Rsa(
        &'static signature::RsaParameters,
        PublicKeyComponents<Vec<u8>>,
    ),
    /// With the bytes of a signature.
    Curve(UnparsedPublicKey<Vec<u8>>, usize),
}

/// A public key bound to the one algorithm it verifies.
pub struct VerifyingKey {
    public: Public,
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("VerifyingKey")
    }
}

impl VerifyingKey {
    /// Binds the public key of `jwk` to `algorithm`. A JWK without `kty` but with `n` and `e` is RSA;
    /// an EC key without `crv` is P-256 (both as kong-plugin-jwt-keycloak 1.8 does).
    ///
    /// # Errors
    /// [`KeyError::Jwk`] when the JWK does not fit the algorithm; symmetric algorithms never fit.
    pub fn from_jwk(jwk: &Jwk, algorithm: Algorithm) -> Result<Self, KeyError> {
        let unusable = || KeyError::Jwk(algorithm);
        let member = |value: &Option<String>| {
            value
                .as_deref()
                .and_then(from_base64url)
                .ok_or_else(unusable)
        };
        let key_type = jwk.kty.as_deref().unwrap_or("RSA");
        if key_type != algorithm.key_type() {
            return Err(unusable());
        }
        if let Some(parameters) = rsa_parameters(algorithm) {
            let components = PublicKeyComponents {
                n: member(&jwk.n)?,
                e: member(&jwk.e)?,
            };
            let public = Public::Rsa(parameters, components);
            return Ok(Self { public });
        }
        let default = (key_type == "EC").then_some("P-256");
        if jwk.crv.as_deref().or(default) != algorithm.curve() {
            return Err(unusable());
        }
        let x = member(&jwk.x)?;
        let public = if let Some((verification, length)) = ecdsa_verification(algorithm) {
            let y = member(&jwk.y)?;
            if x.len() > length || y.len() > length {
                return Err(unusable());
            }
            let mut point = vec![4_u8];
            for coordinate in [x, y] {
                point.resize(point.len() + length - coordinate.len(), 0);
                point.extend_from_slice(&coordinate);
            }
            Public::Curve(UnparsedPublicKey::new(verification, point), length * 2)
        } else {
            // Anything longer would be read as another encoding.
            if x.len() != ED25519_PUBLIC_KEY_LEN {
                return Err(unusable());
            }
            let key = UnparsedPublicKey::new(&signature::ED25519, x);
            Public::Curve(key, ED25519_SIGNATURE_BYTES)
        };
        Ok(Self { public })
    }

    /// Verifies `signature` over `message`.
    ///
    /// # Errors
    /// [`SignatureInvalid`], also for signatures on curves of another length than theirs.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureInvalid> {
        let verified = match &self.public {
            Public::Rsa(parameters, components) => {
                components.verify(parameters, message, signature)
            }
            Public::Curve(_, length) if signature.len() != *length => return Err(SignatureInvalid),
            Public::Curve(key, _) => key.verify(message, signature),
        };
        verified.map_err(|_| SignatureInvalid)
    }
}

/// SHA-1 of `bytes`: only for certificate thumbprints (`x5t`) and legacy formats.
#[must_use]
pub(crate) fn sha1(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes)
        .as_ref()
        .to_vec()
}

/// SHA-256 of `bytes`.
#[must_use]
pub(crate) fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, bytes).as_ref().to_vec()
}

const fn hmac_hash(algorithm: Algorithm) -> Option<hmac::Algorithm> {
    match algorithm {
        Algorithm::HS256 => Some(hmac::HMAC_SHA256),
        Algorithm::HS384 => Some(hmac::HMAC_SHA384),
        Algorithm::HS512 => Some(hmac::HMAC_SHA512),
        Algorithm::RS256 | Algorithm::RS384 | Algorithm::RS512 => None,
        Algorithm::PS256 | Algorithm::PS384 | Algorithm::PS512 => None,
        Algorithm::ES256 | Algorithm::ES384 | Algorithm::ES512 | Algorithm::EdDSA => None,
    }
}

fn rsa_encoding(algorithm: Algorithm) -> Option<&'static signature::RsaSignatureEncoding> {
    match algorithm {
        Algorithm::RS256 => Some(&signature::RSA_PKCS1_SHA256),
        Algorithm::RS384 => Some(&signature::RSA_PKCS1_SHA384),
        Algorithm::RS512 => Some(&signature::RSA_PKCS1_SHA512),
        Algorithm::PS256 => Some(&signature::RSA_PSS_SHA256),
        Algorithm::PS384 => Some(&signature::RSA_PSS_SHA384),
        Algorithm::PS512 => Some(&signature::RSA_PSS_SHA512),
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => None,
        Algorithm::ES256 | Algorithm::ES384 | Algorithm::ES512 | Algorithm::EdDSA => None,
    }
}

fn rsa_parameters(algorithm: Algorithm) -> Option<&'static signature::RsaParameters> {
    match algorithm {
        Algorithm::RS256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => None,
        Algorithm::ES256 | Algorithm::ES384 | Algorithm::ES512 | Algorithm::EdDSA => None,
    }
}

fn ecdsa_signing(algorithm: Algorithm) -> Option<&'static EcdsaSigningAlgorithm> {
    match algorithm {
        Algorithm::ES256 => Some(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
        Algorithm::ES384 => Some(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
        Algorithm::ES512 => Some(&signature::ECDSA_P521_SHA512_FIXED_SIGNING),
        Algorithm::EdDSA => None,
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => None,
        Algorithm::RS256 | Algorithm::RS384 | Algorithm::RS512 => None,
        Algorithm::PS256 | Algorithm::PS384 | Algorithm::PS512 => None,
    }
}

/// The verification algorithm and the bytes of one coordinate.
fn ecdsa_verification(
    algorithm: Algorithm,
) -> Option<(&'static dyn signature::VerificationAlgorithm, usize)> {
    match algorithm {
        Algorithm::ES256 => Some((&signature::ECDSA_P256_SHA256_FIXED, 32)),
        Algorithm::ES384 => Some((&signature::ECDSA_P384_SHA384_FIXED, 48)),
        Algorithm::ES512 => Some((&signature::ECDSA_P521_SHA512_FIXED, 66)),
        Algorithm::EdDSA => None,
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => None,
        Algorithm::RS256 | Algorithm::RS384 | Algorithm::RS512 => None,
        Algorithm::PS256 | Algorithm::PS384 | Algorithm::PS512 => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_asymmetric_algorithm_round_trips_through_its_jwk() {
        for algorithm in Algorithm::ALL
            .into_iter()
            .filter(|it| it.key_type() != "oct")
        {
            let der = SigningKey::generate_pkcs8(algorithm).unwrap();
            let key = SigningKey::from_pkcs8("k", algorithm, &der).unwrap();
            let signature = key.sign(b"message");
            let public = VerifyingKey::from_jwk(&key.public_jwk(), algorithm).unwrap();
            assert!(public.verify(b"message", &signature).is_ok(), "{algorithm}");
            assert!(
                public.verify(b"massage", &signature).is_err(),
                "{algorithm}"
            );
            assert!(public.verify(b"message", &[]).is_err(), "{algorithm}");
        }
    }

    #[test]
    fn a_public_key_never_verifies_as_a_symmetric_secret() {
        let der = SigningKey::generate_pkcs8(Algorithm::RS256).unwrap();
        let jwk = SigningKey::from_pkcs8("k", Algorithm::RS256, &der)
            .unwrap()
            .public_jwk();
        assert!(VerifyingKey::from_jwk(&jwk, Algorithm::HS256).is_err());
        assert!(VerifyingKey::from_jwk(&jwk, Algorithm::ES256).is_err());
    }

    #[test]
    fn ed25519_is_that_of_the_standard() {
        // RFC 8037 appendix A, and the beginning of a PKCS#8 document (RFC 8410 section 7).
        let seed = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
        let mut der = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
        der.extend(from_base64url(seed).unwrap());
        let key = SigningKey::from_pkcs8("k", Algorithm::EdDSA, &der).unwrap();
        let jwk = key.public_jwk();
        assert_eq!(
            (jwk.kty.as_deref(), jwk.crv.as_deref(), jwk.x.as_deref()),
            (
                Some("OKP"),
                Some("Ed25519"),
                Some("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
            )
        );
        assert_eq!(
            jwk.thumbprint().as_deref(),
            Some("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k")
        );
        let token = crate::sign(br#"{"alg":"EdDSA"}"#, b"Example of Ed25519 signing", &key);
        assert_eq!(
            token,
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-\
             09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
        );
        assert_eq!(
            SigningKey::generate_pkcs8(Algorithm::EdDSA).unwrap().len(),
            48
        );
    }

    #[test]
    fn only_plain_ed25519_keys_verify() {
        let der = SigningKey::generate_pkcs8(Algorithm::EdDSA).unwrap();
        let key = SigningKey::from_pkcs8("k", Algorithm::EdDSA, &der).unwrap();
        let jwk = key.public_jwk();
        let with = |change: &dyn Fn(&mut Jwk)| {
            let mut jwk = jwk.clone();
            change(&mut jwk);
            VerifyingKey::from_jwk(&jwk, Algorithm::EdDSA)
        };
        assert!(with(&|_| {}).is_ok());
        assert!(with(&|jwk| jwk.crv = None).is_err());
        assert!(with(&|jwk| jwk.crv = Some("Ed448".to_owned())).is_err());
        assert!(with(&|jwk| jwk.kty = Some("EC".to_owned())).is_err());
        assert!(with(&|jwk| jwk.x = Some(base64url(&key.public_der()))).is_err());
        assert!(with(&|jwk| jwk.x = Some(base64url(&[0; 57]))).is_err());
        assert!(VerifyingKey::from_jwk(&jwk, Algorithm::ES256).is_err());
        // No point of the curve: it takes no signature.
        let nothing = with(&|jwk| jwk.x = Some(base64url(&[2; 32])));
        assert!(nothing.is_err() || nothing.unwrap().verify(b"m", &key.sign(b"m")).is_err());
    }

    #[test]
    fn symmetric_keys_sign_and_verify() {
        let key = SigningKey::from_secret("k", Algorithm::HS512, b"secret").unwrap();
        assert!(key.verify(b"m", &key.sign(b"m")).is_ok());
        assert!(key.verify(b"n", &key.sign(b"m")).is_err());
        assert!(SigningKey::from_secret("k", Algorithm::RS256, b"secret").is_err());
    }
}
