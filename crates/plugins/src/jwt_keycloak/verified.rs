//! Tokens that were verified before, by the SHA-256 of their text.
//!
//! An entry says which state of a key set verified it; whoever reads it must compare that with the
//! issuer's present keys. Full shards forget entries that were not read lately (second chance).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::digest;

use super::claims::Claims;

/// The SHA-256 of a token.
pub(super) type Fingerprint = [u8; 32];

/// Few threads, many tokens: enough shards that threads seldom meet.
const SHARDS: usize = 32;
/// Entries looked at for a victim before one is taken that was read lately.
const SECOND_CHANCES: usize = 8;

/// A token that was verified.
#[derive(Clone, Debug)]
pub(super) struct Verified {
    pub(super) claims: Arc<Claims>,
    /// See `KeySet::epoch`.
    pub(super) epoch: u64,
}

struct Slot {
    fingerprint: Fingerprint,
    verified: Verified,
    read_lately: AtomicBool,
}

#[derive(Default)]
struct Shard {
    places: HashMap<Fingerprint, usize>,
    slots: Vec<Slot>,
    hand: usize,
}

/// A bounded cache for all threads.
pub(super) struct VerifiedTokens {
    shards: [RwLock<Shard>; SHARDS],
    slots_max: usize,
}

/// The fingerprint of `token`.
pub(super) fn fingerprint(token: &str) -> Fingerprint {
    let mut fingerprint = [0; 32];
    let digest = digest::digest(&digest::SHA256, token.as_bytes());
    fingerprint.copy_from_slice(digest.as_ref());
    fingerprint
}

impl VerifiedTokens {
    /// A cache of at most about `entries_max` tokens.
    pub(super) fn new(entries_max: usize) -> Self {
        Self {
            shards: std::array::from_fn(|_| RwLock::default()),
            slots_max: (entries_max / SHARDS).max(1),
        }
    }

    fn shard(&self, fingerprint: &Fingerprint) -> &RwLock<Shard> {
        let [first, ..] = fingerprint;
        let [default, ..] = &self.shards;
        let at = usize::from(*first) % SHARDS;
        self.shards.get(at).unwrap_or(default)
    }

    /// What is known of the token.
    pub(super) fn get(&self, fingerprint: &Fingerprint) -> Option<Verified> {
        let shard = self.shard(fingerprint).read();
        let shard = shard.unwrap_or_else(PoisonError::into_inner);
        let slot = shard.slots.get(*shard.places.get(fingerprint)?)?;
        if !slot.read_lately.load(Ordering::Relaxed) {
            slot.read_lately.store(true, Ordering::Relaxed);
        }
        Some(slot.verified.clone())
    }

    /// Remembers a verified token.
    pub(super) fn put(&self, fingerprint: Fingerprint, verified: Verified) {
        let slot = Slot {
            fingerprint,
            verified,
            read_lately: AtomicBool::new(false),
        };
        let shard = self.shard(&fingerprint).write();
        let replaced = shard
            .unwrap_or_else(PoisonError::into_inner)
            .put(slot, self.slots_max);
        // Freed after the lock is released.
        drop(replaced);
    }
}

impl Shard {
    fn put(&mut self, slot: Slot, slots_max: usize) -> Option<Slot> {
        let at = match self.places.get(&slot.fingerprint) {
            Some(known) => *known,
            None if self.slots.len() < slots_max => {
                self.places.insert(slot.fingerprint, self.slots.len());
                self.slots.push(slot);
                return None;
            }
            None => self.victim(),
        };
        let place = self.slots.get_mut(at)?;
        self.places.remove(&place.fingerprint);
        self.places.insert(slot.fingerprint, at);
        Some(std::mem::replace(place, slot))
    }

    fn victim(&mut self) -> usize {
        for _ in 0..SECOND_CHANCES {
            let at = self.step();
            let slot = self.slots.get(at);
            if slot.is_none_or(|slot| !slot.read_lately.swap(false, Ordering::Relaxed)) {
                return at;
            }
        }
        self.step()
    }

    fn step(&mut self) -> usize {
        let at = self.hand;
        self.hand = (at + 1) % self.slots.len().max(1);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::super::claims::Decoded;
    use super::*;

    fn verified(epoch: u64) -> Verified {
        let token = format!("{}.e30.AQ", o28m_jose::base64url(br#"{"alg":"RS256"}"#));
        let claims = Arc::new(Decoded::parse(&token).unwrap().claims);
        Verified { claims, epoch }
    }

    #[test]
    fn remembers_and_replaces() {
        let cache = VerifiedTokens::new(64);
        let key = fingerprint("token");
        assert!(cache.get(&key).is_none());
        cache.put(key, verified(1));
        cache.put(key, verified(2));
        assert_eq!(cache.get(&key).unwrap().epoch, 2);
        assert!(cache.get(&fingerprint("tokeN")).is_none());
    }

    #[test]
    fn never_holds_more_than_its_limit_and_keeps_what_is_read() {
        let cache = VerifiedTokens::new(SHARDS * 4);
        let read = fingerprint("read");
        cache.put(read, verified(1));
        let entry = verified(2);
        for number in 0..5000 {
            assert!(cache.get(&read).is_some(), "after {number} others");
            cache.put(fingerprint(&number.to_string()), entry.clone());
        }
        for shard in &cache.shards {
            let shard = shard.read().unwrap();
            assert_eq!(shard.slots.len(), 4);
            assert_eq!(shard.places.len(), 4);
            for (key, at) in &shard.places {
                assert_eq!(&shard.slots[*at].fingerprint, key);
            }
        }
    }
}
