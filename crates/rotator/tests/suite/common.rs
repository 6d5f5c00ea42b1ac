//! A clock to set, random bits that need not be random, and keys that are made once.

use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};
use std::sync::{Arc, LazyLock};

use o28m_core::{Ambient, Clock, Rng, Timestamp};
use o28m_jose::slots::Slot;
use o28m_rotator::generate_slot;

pub(crate) struct Time(pub(crate) AtomicI64);

impl Clock for Time {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(self.0.load(Ordering::Relaxed))
    }
}

struct Counter(AtomicU8);

impl Rng for Counter {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill_with(|| self.0.fetch_add(1, Ordering::Relaxed));
    }
}

pub(crate) fn ambient() -> (Ambient, Arc<Time>) {
    let clock = Arc::new(Time(AtomicI64::new(1_800_000_000)));
    let ambient = Ambient {
        clock: clock.clone(),
        rng: Arc::new(Counter(AtomicU8::new(0))),
    };
    (ambient, clock)
}

/// Five different slots.
pub(crate) static SLOTS: LazyLock<[Slot; 5]> =
    LazyLock::new(|| [(); 5].map(|()| generate_slot(&ambient().0, "Stargate").unwrap()));
