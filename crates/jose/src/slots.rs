//! The gateway's signing keys as three slots: next (published), active (signs), previous (published).
//!
//! The format is that of the `kubernetes.io/tls` secret which the platform's key rotator writes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::x509::{Certificate, CertificateError};
use crate::{Algorithm, JwkSet, KeyError, SigningKey};

/// One slot: a certificate, its key id and, where it is held, the private key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Opaque key id, byte for byte as it appears in tokens.
    pub kid: String,
    /// PEM certificate.
    pub certificate: String,
    /// PEM private key; absent where only public parts are mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Slot({})", self.kid)
    }
}

impl Slot {
    /// Reads the slot's certificate.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn certificate(&self) -> Result<Certificate, CertificateError> {
        Certificate::from_pem(&self.certificate)
    }

    /// The slot's RS256 signing key.
    ///
    /// # Errors
    /// [`KeyError::Pem`] when the slot holds no private key, otherwise as [`SigningKey::from_pem`].
    pub fn signing_key(&self) -> Result<SigningKey, KeyError> {
        let pem = self.key.as_deref().ok_or(KeyError::Pem)?;
        SigningKey::from_pem(self.kid.as_str(), Algorithm::RS256, pem)
    }
}

/// The three slots; an empty slot is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slots {
    /// Published, becomes active at the next rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Slot>,
    /// Signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<Slot>,
    /// Published until the tokens it signed are gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Slot>,
}

impl Slots {
    /// The slot that signs: active, or next on a fresh secret that has no active key yet.
    #[must_use]
    pub fn signing(&self) -> Option<&Slot> {
        self.active.as_ref().or(self.next.as_ref())
    }

    /// The JWK Set: next, active, previous, each key id once, active winning over previous over next.
    ///
    /// Slots whose certificate cannot be read are left out.
    #[must_use]
    pub fn jwk_set(&self) -> JwkSet {
        let kid_of = |slot: &Option<Slot>| slot.as_ref().map(|slot| slot.kid.clone());
        let (active, previous) = (kid_of(&self.active), kid_of(&self.previous));
        let next = self.next.as_ref().filter(|slot| {
            active.as_ref() != Some(&slot.kid) && previous.as_ref() != Some(&slot.kid)
        });
        let older = self
            .previous
            .as_ref()
            .filter(|slot| active.as_ref() != Some(&slot.kid));
        let keys = [next, self.active.as_ref(), older]
            .into_iter()
            .flatten()
            .filter_map(|slot| Some(slot.certificate().ok()?.jwk(&slot.kid)))
            .collect();
        JwkSet { keys }
    }
}

/// A key set ready for use: the parsed signing key and the published JWK Set of the same slots.
#[derive(Debug, Default)]
pub struct KeyRing {
    /// The slots it was made of.
    pub slots: Slots,
    /// The key that signs; `None` where no slot holds a usable private key.
    pub signing: Option<SigningKey>,
    /// What is published.
    pub jwk_set: Arc<JwkSet>,
    /// Changes when another key signs, so that caches of signed tokens start anew.
    pub epoch: u64,
}

impl KeyRing {
    /// Parses `slots`. The epoch follows `previous` and rises only when the signing key is another:
    /// another key id, or another key under the same id.
    #[must_use]
    pub fn new(slots: Slots, previous: Option<&Self>) -> Self {
        let signing = slots.signing().and_then(|slot| slot.signing_key().ok());
        let identity = |key: &Option<SigningKey>| {
            key.as_ref()
                .map(|key| (key.kid().to_owned(), key.public_der()))
        };
        let epoch = previous.map_or(1, |previous| {
            previous.epoch + u64::from(identity(&previous.signing) != identity(&signing))
        });
        Self {
            jwk_set: Arc::new(slots.jwk_set()),
            slots,
            signing,
            epoch,
        }
    }
}

/// The current key ring of the process, swapped as a whole when keys are read again.
pub type SharedKeys = Arc<arc_swap::ArcSwap<KeyRing>>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x509;

    fn slot(kid: &str) -> Slot {
        let der = SigningKey::generate_pkcs8(Algorithm::RS256).unwrap();
        let made = x509::self_signed(&der, "gateway", &[], 2100).unwrap();
        Slot {
            kid: kid.to_owned(),
            certificate: made.certificate_pem,
            key: Some(made.key_pem),
        }
    }

    fn active(slot: Slot) -> Slots {
        Slots {
            active: Some(slot),
            ..Slots::default()
        }
    }

    #[test]
    fn the_epoch_rises_with_the_key_not_with_the_reading() {
        let first = slot("a");
        let ring = KeyRing::new(active(first.clone()), None);
        assert_eq!(KeyRing::new(active(first), Some(&ring)).epoch, ring.epoch);
        assert_eq!(
            KeyRing::new(active(slot("b")), Some(&ring)).epoch,
            ring.epoch + 1
        );
        assert_eq!(
            KeyRing::new(active(slot("a")), Some(&ring)).epoch,
            ring.epoch + 1
        );
    }

    #[test]
    fn the_next_key_signs_while_there_is_no_active_one() {
        let slots = Slots {
            next: Some(slot("n")),
            ..Slots::default()
        };
        let ring = KeyRing::new(slots, None);
        assert_eq!(ring.signing.unwrap().kid(), "n");
        assert_eq!(ring.jwk_set.keys.len(), 1);
    }
}
