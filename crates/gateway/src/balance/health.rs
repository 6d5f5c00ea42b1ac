//! What is known of one address: its health and how busy and fast it is.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use o28m_kong::Counters;

/// Seconds in which a measured time loses most of its weight.
const DECAY_S: f64 = 10.0;

const HEALTHY: u8 = 0;
const MOSTLY_HEALTHY: u8 = 1;
const MOSTLY_UNHEALTHY: u8 = 2;
const UNHEALTHY: u8 = 3;

/// Something that happened to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    Success,
    Http,
    Tcp,
    Timeout,
}

/// Reports since the last of the other kind.
#[derive(Default)]
struct Counts {
    successes: u8,
    http: u8,
    tcp: u8,
    timeouts: u8,
    /// When reports made it unavailable; not when it was set so by hand.
    tripped: Option<Instant>,
}

/// State of an address, from healthy to unhealthy; the first two get requests.
#[derive(Default)]
pub(crate) struct PeerState {
    /// Written only with the counts locked.
    state: AtomicU8,
    counts: Mutex<Counts>,
    active: AtomicU32,
    latency: Mutex<Option<Latency>>,
}

/// A moving average in milliseconds, and when it was last added to.
#[derive(Clone, Copy)]
struct Latency {
    millis: f64,
    at: Instant,
}

impl Latency {
    /// The average after `now`, when nothing was measured since.
    fn at(self, now: Instant) -> f64 {
        self.millis * decay(self.at, now)
    }
}

fn decay(from: Instant, to: Instant) -> f64 {
    (-to.saturating_duration_since(from).as_secs_f64() / DECAY_S).exp()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PeerState {
    /// Whether it gets requests.
    pub(crate) fn is_available(&self) -> bool {
        self.state.load(Ordering::Acquire) <= MOSTLY_HEALTHY
    }

    /// Counts a report; `limit` reports change the state, 0 ignores them. Gives whether it is
    /// available, when that changed (spec gateway-proxy 11.2).
    pub(crate) fn report(&self, report: Report, limit: u8) -> Option<bool> {
        let is_success = report == Report::Success;
        let settled = if is_success { HEALTHY } else { UNHEALTHY };
        if limit == 0 || self.state.load(Ordering::Acquire) == settled {
            return None;
        }
        let mut counts = locked(&self.counts);
        let state = self.state.load(Ordering::Acquire);
        if state == settled {
            return None;
        }
        if is_success {
            *counts = Counts {
                successes: counts.successes,
                tripped: counts.tripped,
                ..Counts::default()
            };
        } else {
            counts.successes = 0;
        }
        let counter = match report {
            Report::Success => &mut counts.successes,
            Report::Http => &mut counts.http,
            Report::Tcp => &mut counts.tcp,
            Report::Timeout => &mut counts.timeouts,
        };
        *counter = counter.saturating_add(1);
        let next = match state {
            _ if *counter >= limit => settled,
            HEALTHY => MOSTLY_HEALTHY,
            UNHEALTHY => MOSTLY_UNHEALTHY,
            other => other,
        };
        self.state.store(next, Ordering::Release);
        let (before, after) = (state <= MOSTLY_HEALTHY, next <= MOSTLY_HEALTHY);
        if before != after {
            counts.tripped = (!after).then(Instant::now);
        }
        (before != after).then_some(after)
    }

    /// Lets requests try an address again that reports made unavailable so long ago: the next failure
    /// of any kind that is limited makes it unavailable again. Gives whether it is one.
    pub(crate) fn try_again(&self, after: Duration, limits: &Counters) -> bool {
        if self.is_available() {
            return false;
        }
        let mut counts = locked(&self.counts);
        if counts.tripped.is_none_or(|it| it.elapsed() < after) {
            return false;
        }
        *counts = Counts {
            http: limits.http_failures.saturating_sub(1),
            tcp: limits.tcp_failures.saturating_sub(1),
            timeouts: limits.timeouts.saturating_sub(1),
            ..Counts::default()
        };
        self.state.store(MOSTLY_HEALTHY, Ordering::Release);
        true
    }

    /// Sets the state and forgets the reports.
    pub(crate) fn force(&self, healthy: bool) {
        let mut counts = locked(&self.counts);
        *counts = Counts::default();
        let state = if healthy { HEALTHY } else { UNHEALTHY };
        self.state.store(state, Ordering::Release);
    }

    /// Requests that are on their way.
    pub(crate) fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// The average time to answer in milliseconds; `None` before the first.
    pub(crate) fn latency(&self, now: Instant) -> Option<f64> {
        (*locked(&self.latency)).map(|it| it.at(now))
    }

    /// What a new address begins with.
    pub(crate) fn begin_latency(&self, millis: f64, now: Instant) {
        locked(&self.latency).get_or_insert(Latency { millis, at: now });
    }

    /// Adds a measured time. That of a request without an answer counts only when it is a long one:
    /// an address that refuses at once is not a fast one.
    fn measured(&self, took: Duration, answered: bool) {
        let now = Instant::now();
        let took = took.as_secs_f64() * 1000.0;
        let mut latency = locked(&self.latency);
        if !answered && latency.is_none_or(|it| took < it.at(now)) {
            return;
        }
        let millis = latency.map_or(took, |it| {
            let weight = decay(it.at, now);
            it.millis.mul_add(weight, took * (1.0 - weight))
        });
        *latency = Some(Latency { millis, at: now });
    }
}

/// A request on its way to an address; dropping it, for whatever reason, says that it is over.
pub(crate) struct Held {
    state: Arc<PeerState>,
    begun: Instant,
    /// How long the answer took.
    took: Option<Duration>,
}

impl Held {
    pub(super) fn new(state: Arc<PeerState>) -> Self {
        state.active.fetch_add(1, Ordering::Relaxed);
        Self {
            state,
            begun: Instant::now(),
            took: None,
        }
    }

    /// The answer is there; a client that is slow to take it says nothing of the address.
    pub(crate) fn answered(&mut self) {
        self.took = Some(self.begun.elapsed());
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.state.active.fetch_sub(1, Ordering::Relaxed);
        let took = self.took.unwrap_or_else(|| self.begun.elapsed());
        self.state.measured(took, self.took.is_some());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reports(state: &PeerState, report: Report, limit: u8, times: usize) -> Vec<bool> {
        let each = (0..times).filter_map(|_| state.report(report, limit));
        each.collect()
    }

    #[test]
    fn failures_in_a_row_make_it_unhealthy_and_successes_healthy() {
        let state = PeerState::default();
        assert!(reports(&state, Report::Http, 3, 2).is_empty());
        assert!(state.is_available());
        assert_eq!(reports(&state, Report::Http, 3, 2), [false]);
        assert!(reports(&state, Report::Success, 2, 1).is_empty());
        assert!(!state.is_available());
        // A failure in between begins the count again.
        assert!(reports(&state, Report::Tcp, 3, 1).is_empty());
        assert!(reports(&state, Report::Success, 2, 1).is_empty());
        assert_eq!(reports(&state, Report::Success, 2, 1), [true]);
    }

    #[test]
    fn a_success_resets_failures_only_when_successes_count() {
        let state = PeerState::default();
        for _ in 0..2 {
            assert!(reports(&state, Report::Http, 10, 9).is_empty());
            assert!(reports(&state, Report::Success, 30, 1).is_empty());
        }
        assert!(reports(&state, Report::Http, 10, 9).is_empty());
        let _ignored = reports(&state, Report::Success, 0, 1);
        assert_eq!(reports(&state, Report::Http, 10, 1), [false]);
    }

    #[test]
    fn kinds_of_failures_are_counted_apart_and_a_limit_of_zero_never() {
        let state = PeerState::default();
        assert!(reports(&state, Report::Http, 2, 1).is_empty());
        assert!(reports(&state, Report::Tcp, 2, 1).is_empty());
        assert!(reports(&state, Report::Timeout, 0, 500).is_empty());
        assert_eq!(reports(&state, Report::Tcp, 2, 1), [false]);
        state.force(true);
        assert!(state.is_available());
        assert!(reports(&state, Report::Tcp, 2, 1).is_empty());
        assert!(reports(&state, Report::Tcp, 255, 253).is_empty());
        assert_eq!(reports(&state, Report::Tcp, 255, 1), [false]);
    }

    fn limits(http_failures: u8, tcp_failures: u8) -> Counters {
        Counters {
            http_statuses: Vec::new(),
            successes: 0,
            tcp_failures,
            timeouts: 0,
            http_failures,
        }
    }

    #[test]
    fn what_reports_made_unavailable_is_tried_again_and_what_was_set_by_hand_is_not() {
        let state = PeerState::default();
        assert_eq!(reports(&state, Report::Http, 3, 3), [false]);
        assert!(!state.try_again(Duration::from_secs(3600), &limits(3, 3)));
        assert!(state.try_again(Duration::ZERO, &limits(3, 3)));
        assert!(state.is_available());
        assert_eq!(reports(&state, Report::Tcp, 3, 1), [false]);
        assert!(state.try_again(Duration::ZERO, &limits(3, 3)));
        assert!(reports(&state, Report::Success, 2, 2).is_empty());
        assert!(reports(&state, Report::Http, 3, 2).is_empty());
        state.force(false);
        assert!(!state.try_again(Duration::ZERO, &limits(3, 3)));
    }

    #[test]
    fn whoever_refuses_at_once_is_not_fast() {
        let state = Arc::new(PeerState::default());
        let now = Instant::now();
        drop(Held::new(state.clone()));
        assert_eq!(state.latency(now), None);
        state.begin_latency(50.0, now);
        drop(Held::new(state.clone()));
        assert!(state.latency(now).is_some_and(|it| it >= 49.0));
        let mut slow = Held::new(state.clone());
        slow.took = Some(Duration::from_secs(50));
        assert_eq!(state.active(), 1);
        drop(slow);
        assert_eq!(state.active(), 0);
        let mut long = Held::new(state.clone());
        long.answered();
        assert!(long.took.is_some());
    }
}
