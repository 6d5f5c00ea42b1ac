//! Counters in the memory of this process.
//!
//! They are bounded: when too many callers are counted at once, some counters are forgotten, as
//! in Kong's shared memory.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use o28m_core::Timestamp;

use super::window::Period;
use super::{Counter, Scope};

const SHARDS: usize = 64;
/// Identifiers counted in one shard; a million in all.
const IDENTIFIERS_MAX: usize = 16 * 1024;
/// Time between two searches of a full shard for counters that are over.
const SWEEP_MS: i64 = 1000;

/// The counters of one identifier.
#[derive(Clone, Copy, Default)]
struct Counts([Window; Period::COUNT]);

#[derive(Clone, Copy, Default)]
struct Window {
    start_ms: i64,
    count: u64,
}

impl Window {
    /// Whether a request of the window that begins at `start_ms` belongs to the next one. One of the
    /// window before is late: it counts for this one, or requests that race past the end of a window
    /// would reset each other. A clock that was set back begins anew.
    fn is_over(self, start_ms: i64, period: Period) -> bool {
        start_ms > self.start_ms || self.start_ms - start_ms > 2 * period.length_s() * 1000
    }
}

impl Counts {
    fn window(&mut self, period: Period) -> Option<&mut Window> {
        self.0.get_mut(period as usize)
    }

    fn used(&self, period: Period, start_ms: i64) -> u64 {
        let window = self.0.get(period as usize).copied().unwrap_or_default();
        if window.is_over(start_ms, period) {
            0
        } else {
            window.count
        }
    }

    fn add(&mut self, period: Period, start_ms: i64) {
        let Some(window) = self.window(period) else {
            return;
        };
        if window.is_over(start_ms, period) {
            *window = Window { start_ms, count: 0 };
        }
        window.count += 1;
    }

    fn is_over(&self, now_ms: i64) -> bool {
        const PERIODS: [Period; Period::COUNT] = [
            Period::Second,
            Period::Minute,
            Period::Hour,
            Period::Day,
            Period::Month,
            Period::Year,
        ];
        let mut windows = self.0.iter().zip(PERIODS);
        windows.all(|(window, period)| {
            window.count == 0 || now_ms - window.start_ms > 2 * period.length_s() * 1000
        })
    }
}

#[derive(Default)]
struct Shard {
    counts: HashMap<Box<str>, Counts>,
    swept_ms: i64,
}

impl Shard {
    fn entry(&mut self, key: Box<str>, now_ms: i64) -> &mut Counts {
        if self.counts.len() >= IDENTIFIERS_MAX && !self.counts.contains_key(&key) {
            self.make_room(now_ms);
        }
        self.counts.entry(key).or_default()
    }

    fn make_room(&mut self, now_ms: i64) {
        if now_ms - self.swept_ms >= SWEEP_MS {
            self.swept_ms = now_ms;
            self.counts.retain(|_, counts| !counts.is_over(now_ms));
            if self.counts.len() >= IDENTIFIERS_MAX {
                tracing::warn!("too many callers are counted at once; some counters are forgotten");
            }
        }
        if self.counts.len() >= IDENTIFIERS_MAX
            && let Some(any) = self.counts.keys().next().cloned()
        {
            self.counts.remove(&any);
        }
    }
}

/// The counters of this process.
pub(super) struct Local {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
}

impl Default for Local {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        }
    }
}

/// What was counted and can be taken back.
#[derive(Clone, Default)]
pub(super) struct Reservation(Vec<(Box<str>, Period, i64)>);

impl Local {
    /// Reads every counter and, when none has reached its limit, counts the request in all of them.
    /// Nobody else sees anything in between.
    pub(super) fn take(
        &self,
        scope: &Scope,
        counters: &[Counter],
        now: Timestamp,
    ) -> (Vec<f64>, Reservation) {
        let asked: Vec<Asked> = counters
            .iter()
            .map(|counter| self.ask(scope, counter, now))
            .collect();
        let mut guards = self.lock(&asked);
        let used: Vec<f64> = asked
            .iter()
            .map(|asked| {
                let shard = guards.iter().find(|(at, _)| *at == asked.shard);
                let counts = shard.and_then(|(_, shard)| shard.counts.get(&asked.key));
                counts.map_or(0, |it| it.used(asked.period, asked.start_ms)) as f64
            })
            .collect();
        let mut reservation = Reservation::default();
        if super::admits(counters, &used) {
            for asked in asked {
                let shard = guards.iter_mut().find(|(at, _)| *at == asked.shard);
                if let Some((_, shard)) = shard {
                    let counts = shard.entry(asked.key.clone(), now.millis());
                    counts.add(asked.period, asked.start_ms);
                }
                let taken = (asked.key, asked.period, asked.start_ms);
                reservation.0.push(taken);
            }
        }
        (used, reservation)
    }

    /// Takes back what was counted, as far as its window is not over.
    pub(super) fn release(&self, reservation: &Reservation) {
        for (key, period, start_ms) in &reservation.0 {
            let Some(mut shard) = self.shard(self.place(key)) else {
                continue;
            };
            let counts = shard.counts.get_mut(key);
            if let Some(window) = counts.and_then(|it| it.window(*period))
                && window.start_ms == *start_ms
            {
                window.count = window.count.saturating_sub(1);
            }
        }
    }

    fn ask(&self, scope: &Scope, counter: &Counter, now: Timestamp) -> Asked {
        let key = scope.key(&counter.identifier).into_boxed_str();
        Asked {
            shard: self.place(&key),
            key,
            period: counter.period,
            start_ms: counter.period.start(now).millis(),
        }
    }

    fn place(&self, key: &str) -> usize {
        usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or_default()
    }

    fn shard(&self, at: usize) -> Option<MutexGuard<'_, Shard>> {
        let shard = self.shards.get(at)?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Locks the shards of a request in their order, so that no two requests wait for each other.
    fn lock(&self, asked: &[Asked]) -> Vec<(usize, MutexGuard<'_, Shard>)> {
        let mut places: Vec<usize> = asked.iter().map(|it| it.shard).collect();
        places.sort_unstable();
        places.dedup();
        let lock = |at| Some((at, self.shard(at)?));
        places.into_iter().filter_map(lock).collect()
    }
}

/// A counter and where it is.
struct Asked {
    shard: usize,
    key: Box<str>,
    period: Period,
    start_ms: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(identifier: &str, period: Period, limit: f64) -> Counter {
        Counter {
            identifier: identifier.into(),
            period,
            limit,
        }
    }

    const NOON: Timestamp = Timestamp::from_seconds(1_800_000_000);

    #[test]
    fn a_request_counts_everywhere_or_nowhere() {
        let local = Local::default();
        let scope = Scope::default();
        let both = [
            counter("s", Period::Hour, 10.0),
            counter("c", Period::Minute, 1.0),
        ];
        assert_eq!(local.take(&scope, &both, NOON).0, [0.0, 0.0]);
        let (used, reservation) = local.take(&scope, &both, NOON);
        assert_eq!(used, [1.0, 1.0]);
        assert!(reservation.0.is_empty());
        assert_eq!(local.take(&scope, &both[..1], NOON).0, [1.0]);
        assert_eq!(local.take(&scope, &both, NOON).0, [2.0, 1.0]);
        let other = Scope::new(Some("r"), None);
        assert_eq!(local.take(&other, &both, NOON).0, [0.0, 0.0]);
    }

    #[test]
    fn a_new_window_begins_at_zero_and_late_requests_do_not_reset_it() {
        let local = Local::default();
        let scope = Scope::default();
        let one = [counter("c", Period::Minute, 5.0)];
        let used = |seconds| local.take(&scope, &one, NOON.plus_seconds(seconds)).0;
        assert_eq!(used(59), [0.0]);
        assert_eq!(used(60), [0.0]);
        assert_eq!(used(59), [1.0]);
        assert_eq!(used(61), [2.0]);
        assert_eq!(used(-3600), [0.0], "the clock was set back");
    }

    #[test]
    fn what_was_taken_back_can_be_used_again() {
        let local = Local::default();
        let scope = Scope::default();
        let one = [counter("c", Period::Minute, 1.0)];
        let (_, reservation) = local.take(&scope, &one, NOON);
        local.release(&reservation);
        let (used, reservation) = local.take(&scope, &one, NOON);
        assert_eq!(used, [0.0]);
        let next = NOON.plus_seconds(60);
        local.take(&scope, &one, next);
        local.release(&reservation);
        assert_eq!(local.take(&scope, &one, next).0, [1.0]);
    }

    #[test]
    fn many_callers_are_forgotten_rather_than_kept() {
        let mut shard = Shard::default();
        for caller in 0..2 * IDENTIFIERS_MAX {
            let key = caller.to_string().into_boxed_str();
            shard.entry(key, 1).add(Period::Hour, 0);
        }
        assert_eq!(shard.counts.len(), IDENTIFIERS_MAX);
        let later = 3 * 3600 * 1000;
        shard.entry("x".into(), later).add(Period::Hour, later);
        assert_eq!(shard.counts.len(), 1);
    }

    #[test]
    fn threads_admit_exactly_the_limit() {
        let local = Local::default();
        let scope = Scope::default();
        let both = [
            counter("s", Period::Hour, 100.0),
            counter("c", Period::Hour, 200.0),
        ];
        let admitted: usize = std::thread::scope(|threads| {
            let run = || {
                let take = |_| local.take(&scope, &both, NOON).0;
                (0..100)
                    .map(take)
                    .filter(|used| crate::rate_limiting::admits(&both, used))
                    .count()
            };
            let running: Vec<_> = (0..4).map(|_| threads.spawn(run)).collect();
            running.into_iter().map(|it| it.join().unwrap()).sum()
        });
        assert_eq!(admitted, 100);
    }
}
