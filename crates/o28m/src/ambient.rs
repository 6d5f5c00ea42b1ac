//! The real clock and random source: the only place that reads them.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use o28m_core::{Ambient, Clock, Rng, Timestamp};

struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the clock"
    )]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

struct SystemRng(SystemRandom);

impl Rng for SystemRng {
    fn fill(&self, bytes: &mut [u8]) {
        // Ids and secrets made of anything but random bits would be a silent security hole.
        if self.0.fill(bytes).is_err() {
            std::process::abort();
        }
    }
}

/// The operating system's clock and random source.
#[must_use]
pub fn system() -> Ambient {
    Ambient {
        clock: Arc::new(SystemClock),
        rng: Arc::new(SystemRng(SystemRandom::new())),
    }
}
