//! The usable keys of one issuer at one time, and which of them a token asks for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use o28m_jose::{Algorithm, Jwk, JwkSet, VerifyingKey};

use super::claims::Decoded;
use super::failure::Failure;

/// What jwt-keycloak verifies with; everything else is refused whatever a key says.
const ALGORITHMS: [Algorithm; 6] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::ES512,
];

struct Key {
    kid: Option<String>,
    /// One for each algorithm that the key's type and its `alg` permit.
    verifiers: Vec<(Algorithm, VerifyingKey)>,
}

/// A parsed key set.
pub(super) struct KeySet {
    /// Differs between any two key sets of this process with different content.
    pub(super) epoch: u64,
    source: Arc<JwkSet>,
    keys: Vec<Key>,
}

impl KeySet {
    /// Parses `source`, leaving out what cannot verify a signature; gives `known` back when nothing
    /// changed, so that tokens it verified stay verified.
    pub(super) fn adopt(source: Arc<JwkSet>, known: Option<Arc<Self>>) -> Arc<Self> {
        static EPOCHS: AtomicU64 = AtomicU64::new(0);
        if let Some(known) = known
            && (Arc::ptr_eq(&known.source, &source) || known.source == source)
        {
            return known;
        }
        Arc::new(Self {
            epoch: EPOCHS.fetch_add(1, Ordering::Relaxed),
            keys: source.keys.iter().filter_map(Key::usable).collect(),
            source,
        })
    }

    /// Verifies the signature with the key that the token's header asks for.
    pub(super) fn verify(&self, token: &Decoded<'_>) -> Result<(), Failure> {
        let algorithm = token.algorithm.ok_or(Failure::AlgorithmNotAllowed)?;
        self.select(token.kid.as_deref(), algorithm)?
            .verify(token.signing_input.as_bytes(), &token.signature)
            .map_err(|_| Failure::SignatureInvalid)
    }

    fn select(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<&VerifyingKey, Failure> {
        if self.keys.is_empty() {
            return Err(Failure::NoKeys);
        }
        if let Some(kid) = kid {
            let mut keys = self.keys.iter();
            let key = keys.find(|key| key.kid.as_deref() == Some(kid));
            let key = key.ok_or(Failure::UnknownKid)?;
            return key.verifier(algorithm).ok_or(Failure::SignatureInvalid);
        }
        let mut fitting = self.keys.iter().filter_map(|key| key.verifier(algorithm));
        match (fitting.next(), fitting.next()) {
            (None, _) => Err(Failure::NoFittingKey),
            (Some(key), None) => Ok(key),
            (Some(_), Some(_)) => Err(Failure::AmbiguousKey),
        }
    }
}

impl Key {
    fn usable(jwk: &Jwk) -> Option<Self> {
        if jwk.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return None;
        }
        let verifiers: Vec<_> = ALGORITHMS
            .into_iter()
            .filter(|algorithm| jwk.alg.as_deref().is_none_or(|alg| alg == algorithm.name()))
            .filter_map(|algorithm| Some((algorithm, VerifyingKey::from_jwk(jwk, algorithm).ok()?)))
            .collect();
        (!verifiers.is_empty()).then(|| Self {
            kid: jwk.kid.clone(),
            verifiers,
        })
    }

    fn verifier(&self, algorithm: Algorithm) -> Option<&VerifyingKey> {
        let mut verifiers = self.verifiers.iter();
        let (_, verifier) = verifiers.find(|(it, _)| *it == algorithm)?;
        Some(verifier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{EC_KEY, Token, key};

    fn set(keys: &[Jwk]) -> Arc<KeySet> {
        let keys = keys.to_vec();
        KeySet::adopt(Arc::new(JwkSet { keys }), None)
    }

    fn jwk(kid: &str) -> Jwk {
        key(kid).public_jwk()
    }

    fn ec() -> Jwk {
        EC_KEY.public_jwk()
    }

    fn verify(keys: &[Jwk], token: &Token) -> Result<(), Failure> {
        set(keys).verify(&Decoded::parse(&token.sign()).unwrap())
    }

    #[test]
    fn plugins_case_019_a_token_without_kid_needs_exactly_one_fitting_key() {
        let token = Token::new("a").without_kid();
        assert_eq!(verify(&[jwk("a"), ec()], &token), Ok(()));
        assert_eq!(
            verify(&[jwk("a"), jwk("b")], &token),
            Err(Failure::AmbiguousKey)
        );
        assert_eq!(verify(&[ec()], &token), Err(Failure::NoFittingKey));
        let encryption = Jwk {
            usage: Some("enc".into()),
            ..jwk("b")
        };
        assert_eq!(verify(&[encryption, jwk("a")], &token), Ok(()));
        let untyped = |jwk: Jwk| Jwk {
            alg: None,
            usage: None,
            ..jwk
        };
        assert_eq!(verify(&[untyped(jwk("a")), untyped(ec())], &token), Ok(()));
        assert_eq!(verify(&[], &token), Err(Failure::NoKeys));
    }

    #[test]
    fn plugins_case_018_es256_with_kid() {
        assert_eq!(verify(&[jwk("a"), ec()], &Token::ec()), Ok(()));
    }

    #[test]
    fn plugins_case_023_unusable_keys_do_not_spoil_the_set() {
        let other = |kty: &str| Jwk {
            kty: Some(kty.into()),
            kid: Some("a".into()),
            ..Jwk::default()
        };
        let ed25519 = Jwk {
            alg: Some("EdDSA".into()),
            crv: Some("Ed25519".into()),
            x: Some(o28m_jose::base64url(&[9; 32])),
            ..other("OKP")
        };
        let keys = [other("oct"), other("OKP"), ed25519, jwk("a"), ec()];
        assert_eq!(verify(&keys, &Token::new("a")), Ok(()));
        assert_eq!(verify(&keys, &Token::new("a").without_kid()), Ok(()));
        assert_eq!(verify(&keys, &Token::ec()), Ok(()));
    }

    #[test]
    fn plugins_case_024_tampered_foreign_and_short_signatures() {
        let keys = [jwk("a"), ec()];
        let forged = Token::new("b").kid("a");
        assert_eq!(verify(&keys, &forged), Err(Failure::SignatureInvalid));

        let token = Token::ec().sign();
        let mut parts: Vec<&str> = token.split('.').collect();
        let short = o28m_jose::base64url(&[7; 63]);
        parts[2] = &short;
        let short = parts.join(".");
        let decoded = Decoded::parse(&short).unwrap();
        assert_eq!(set(&keys).verify(&decoded), Err(Failure::SignatureInvalid));

        let other = o28m_jose::base64url(br#"{"iss":"x"}"#);
        parts[1] = &other;
        let tampered = parts.join(".");
        let decoded = Decoded::parse(&tampered).unwrap();
        assert_eq!(set(&keys).verify(&decoded), Err(Failure::SignatureInvalid));
    }

    #[test]
    fn a_key_id_of_another_type_or_algorithm_never_verifies() {
        let keys = [jwk("a"), ec()];
        let confused = Token::ec().kid("a");
        assert_eq!(verify(&keys, &confused), Err(Failure::SignatureInvalid));
        let bound = Jwk {
            alg: Some("RS512".into()),
            ..jwk("a")
        };
        assert_eq!(
            verify(&[bound], &Token::new("a")),
            Err(Failure::SignatureInvalid)
        );
        assert_eq!(
            verify(&keys, &Token::new("a").kid("unknown")),
            Err(Failure::UnknownKid)
        );
    }

    #[test]
    fn an_unchanged_key_set_keeps_its_epoch() {
        let first = set(&[jwk("a")]);
        let same = KeySet::adopt(Arc::new((*first.source).clone()), Some(first.clone()));
        assert_eq!(same.epoch, first.epoch);
        let other = KeySet::adopt(Arc::default(), Some(first.clone()));
        assert_ne!(other.epoch, first.epoch);
    }
}
