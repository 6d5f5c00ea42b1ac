//! Slows down whoever guesses passwords: each wrong one costs a credit of its source address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Wrong passwords in a row that cost nothing but their hash.
const CREDITS_MAX: u32 = 20;
/// Time after which an address has one credit more.
const REFILL: Duration = Duration::from_secs(1);
/// Addresses remembered. When more fail at the same time, those longest ago are forgotten.
const SOURCES_MAX: usize = 4096;

/// Failures by source address.
#[derive(Default)]
pub(crate) struct Throttle {
    sources: Mutex<HashMap<IpAddr, Source>>,
}

#[derive(Clone, Copy)]
struct Source {
    /// Credits used, less what has come back since.
    used: u32,
    since: Instant,
}

impl Source {
    fn used_at(&self, now: Instant) -> u32 {
        let refilled = now.saturating_duration_since(self.since).as_secs() / REFILL.as_secs();
        self.used
            .saturating_sub(u32::try_from(refilled).unwrap_or(u32::MAX))
    }
}

impl Throttle {
    /// Whether a password of this source is looked at.
    pub(crate) fn allows(&self, source: IpAddr, now: Instant) -> bool {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let known = sources.get(&network(source));
        known.is_none_or(|it| it.used_at(now) < CREDITS_MAX)
    }

    /// A password of this source was wrong.
    pub(crate) fn failed(&self, source: IpAddr, now: Instant) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let source = network(source);
        let used = sources.get(&source).map_or(0, |it| it.used_at(now));
        if sources.len() >= SOURCES_MAX && !sources.contains_key(&source) {
            sources.retain(|_, it| it.used_at(now) > 0);
            let oldest = sources.iter().min_by_key(|(_, it)| it.since);
            let oldest = oldest.map(|(source, _)| *source);
            if let Some(oldest) = oldest.filter(|_| sources.len() >= SOURCES_MAX) {
                sources.remove(&oldest);
            }
        }
        let used = (used + 1).min(CREDITS_MAX);
        sources.insert(source, Source { used, since: now });
    }
}

/// One customer of an IPv6 provider has at least a /64 to choose addresses from.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => {
            let bits = address.to_bits() >> 64 << 64;
            IpAddr::V6(bits.into())
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn credits_run_out_and_come_back() {
        let throttle = Throttle::default();
        let (guesser, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let now = Instant::now();
        for _ in 0..CREDITS_MAX {
            assert!(throttle.allows(guesser, now));
            throttle.failed(guesser, now);
        }
        assert!(!throttle.allows(guesser, now));
        assert!(!throttle.allows(address("::ffff:192.0.2.1"), now));
        assert!(throttle.allows(other, now));
        assert!(throttle.allows(guesser, now + REFILL));
        throttle.failed(guesser, now + REFILL);
        assert!(!throttle.allows(guesser, now + REFILL));
    }

    #[test]
    fn one_network_is_one_source_and_many_are_bounded() {
        let throttle = Throttle::default();
        let now = Instant::now();
        for at in 0..CREDITS_MAX {
            throttle.failed(address(&format!("2001:db8::{at:x}")), now);
        }
        assert!(!throttle.allows(address("2001:db8::ffff:1"), now));
        assert!(throttle.allows(address("2001:db8:0:1::1"), now));
        for at in 0..u32::try_from(SOURCES_MAX).unwrap() * 2 {
            throttle.failed(IpAddr::V4(at.into()), now);
        }
        let sources = throttle.sources.lock().unwrap();
        assert!(sources.len() <= SOURCES_MAX);
    }
}
