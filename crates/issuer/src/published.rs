//! Bodies made once per key ring.

use std::sync::Arc;

use bytes::Bytes;
use o28m_jose::base64std;
use o28m_jose::slots::KeyRing;

/// What one key ring publishes, serialised.
pub(crate) struct Published {
    ring: Arc<KeyRing>,
    jwks: Bytes,
    public_key: Option<String>,
}

impl Published {
    /// Serialises `ring`. A signing slot whose certificate cannot be read has no public key to
    /// show.
    pub(crate) fn new(ring: Arc<KeyRing>) -> Self {
        for slot in [&ring.slots.next, &ring.slots.active, &ring.slots.previous] {
            if let Some(slot) = slot
                && let Err(error) = slot.certificate()
            {
                tracing::error!(key.kid = %slot.kid, error = %error, "key slot is not published");
            }
        }
        let certificate = ring
            .slots
            .signing()
            .and_then(|slot| slot.certificate().ok());
        let jwks = serde_json::to_vec(ring.jwk_set.as_ref()).unwrap_or_default();
        Self {
            jwks: Bytes::from(jwks),
            public_key: certificate.map(|it| base64std(it.public_key_der())),
            ring,
        }
    }

    /// Whether these are the bodies of exactly that ring. Holding the ring keeps its address its
    /// own.
    pub(crate) fn is_of(&self, ring: &Arc<KeyRing>) -> bool {
        Arc::ptr_eq(&self.ring, ring)
    }

    /// Not one key is published.
    pub(crate) fn is_empty(&self) -> bool {
        self.ring.jwk_set.keys.is_empty()
    }

    /// The JWK Set.
    pub(crate) fn jwks(&self) -> Bytes {
        self.jwks.clone()
    }

    /// The signing key's SubjectPublicKeyInfo in base64.
    pub(crate) fn public_key(&self) -> Option<&str> {
        self.public_key.as_deref()
    }
}
