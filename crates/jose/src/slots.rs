//! The gateway's signing keys as three slots: next (published), active (signs), previous (published).
//!
//! The format is that of the `kubernetes.io/tls` secret which the platform's key rotator writes.

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
    pub jwk_set: JwkSet,
    /// Changes when another key signs, so that caches of signed tokens start anew.
    pub epoch: u64,
}

impl KeyRing {
    /// Parses `slots`. The epoch follows `previous` and rises only when the signing key is another.
    #[must_use]
    pub fn new(slots: Slots, previous: Option<&Self>) -> Self {
        let signing = slots.signing().and_then(|slot| slot.signing_key().ok());
        let kid = |key: &Option<SigningKey>| key.as_ref().map(|key| key.kid().to_owned());
        let epoch = previous.map_or(1, |previous| {
            previous.epoch + u64::from(kid(&previous.signing) != kid(&signing))
        });
        Self {
            jwk_set: slots.jwk_set(),
            slots,
            signing,
            epoch,
        }
    }
}

/// The current key ring of the process, swapped as a whole when keys are read again.
pub type SharedKeys = std::sync::Arc<arc_swap::ArcSwap<KeyRing>>;
