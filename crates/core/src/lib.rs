//! Words every other crate uses: time, randomness, secrets, identifiers and limits.
//!
//! Nothing here performs I/O, reads a clock or draws random bits: [`Clock`] and [`Rng`] are traits
//! whose real implementations live in the binary's wiring, so that tests are deterministic.

pub mod id;
pub mod limits;
mod rng;
mod secret;
mod time;

pub use rng::Rng;
pub use secret::Secret;
pub use time::{Clock, Timestamp};

use std::sync::Arc;

/// The two ambient sources a component may need, handed down from the wiring.
#[derive(Clone)]
pub struct Ambient {
    /// Where "now" comes from.
    pub clock: Arc<dyn Clock>,
    /// Where random bytes come from; must be cryptographically secure outside tests.
    pub rng: Arc<dyn Rng>,
}

impl Ambient {
    /// The current time of [`Ambient::clock`].
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A random version-4 UUID in its 36-character lower-case form.
    #[must_use]
    pub fn uuid(&self) -> String {
        id::uuid_v4(self.rng.as_ref())
    }
}
