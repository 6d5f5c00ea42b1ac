//! Keeps requests away from a server that just failed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long a server that failed is left alone.
const REST_MS: u64 = 1000;

/// Closed as long as the server answers. After a failure nobody asks for a while; then one request
/// at a time finds out whether it answers again. Times are milliseconds since any fixed moment.
#[derive(Default)]
pub(super) struct Breaker {
    /// When the server may be asked again; zero while it answers.
    asked_again_ms: AtomicU64,
}

impl Breaker {
    /// Whether a request may ask the server. `probe` is how long it may take to find out.
    pub(super) fn admits(&self, now_ms: u64, probe: Duration) -> bool {
        let at = self.asked_again_ms.load(Ordering::Acquire);
        if at == 0 {
            return true;
        }
        let probe_ms = u64::try_from(probe.as_millis()).unwrap_or(u64::MAX);
        let next = now_ms.saturating_add(probe_ms).max(1);
        now_ms >= at
            && self
                .asked_again_ms
                .compare_exchange(at, next, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
    }

    /// Gives whether that is news.
    pub(super) fn failed(&self, now_ms: u64) -> bool {
        let until = now_ms.saturating_add(REST_MS);
        self.asked_again_ms.swap(until, Ordering::AcqRel) == 0
    }

    /// Gives whether that is news.
    pub(super) fn succeeded(&self) -> bool {
        self.asked_again_ms.load(Ordering::Acquire) != 0
            && self.asked_again_ms.swap(0, Ordering::AcqRel) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_finds_out_after_a_rest() {
        let breaker = Breaker::default();
        let admits = |now| breaker.admits(now, Duration::from_millis(200));
        assert!(admits(0) && admits(0));
        assert!(breaker.failed(0));
        assert!(!breaker.failed(0), "no news");
        assert!(!admits(999));
        assert!(admits(1000));
        assert!(!admits(1000), "somebody is finding out");
        assert!(admits(1200), "who wanted to find out never did");
        assert!(!breaker.failed(1300));
        assert!(!admits(1400));
        assert!(admits(2300));
        assert!(breaker.succeeded());
        assert!(!breaker.succeeded());
        assert!(admits(2300) && admits(2300));
    }
}
