//! The numbers of one thread for one set of labels. Only that thread adds to them; whoever renders
//! metrics reads them at the same time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use http::{Method, StatusCode};

/// Upper bounds of the platform's latency histograms, in milliseconds.
pub(super) const BOUNDS: [f64; 15] = [
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0,
    30_000.0, 60_000.0,
];
/// A count for each bound, and one for what is over all of them.
pub(super) const BUCKETS: usize = BOUNDS.len() + 1;

/// Outcomes that are found without a lock; most routes have few.
const OUTCOMES_FAST: usize = 6;

/// What a request's series is distinguished by besides service, route and consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Outcome {
    pub(super) status: StatusCode,
    pub(super) method: &'static str,
    pub(super) from_upstream: bool,
}

/// The method as a label: a closed set, whatever clients send.
pub(super) fn method_name(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "OTHER",
    }
}

/// Milliseconds of one request.
pub(super) struct Latencies {
    pub(super) request: f64,
    /// To the head of the upstream's response.
    pub(super) upstream: Option<f64>,
    /// Before the upstream was asked.
    pub(super) kong: f64,
}

/// A number with one writer: no other processor is asked for it.
#[derive(Debug, Default)]
struct Number(AtomicU64);

impl Number {
    fn add(&self, amount: u64) {
        self.0
            .store(self.get().wrapping_add(amount), Ordering::Relaxed);
    }

    fn add_float(&self, amount: f64) {
        let sum = f64::from_bits(self.get()) + amount;
        self.0.store(sum.to_bits(), Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A histogram's counts and the sum of its values.
#[derive(Debug, Default)]
struct Histogram {
    counts: [Number; BUCKETS],
    sum: Number,
}

impl Histogram {
    fn observe(&self, value: f64) {
        let place = BOUNDS.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(place) {
            count.add(1);
        }
        self.sum.add_float(value);
    }
}

/// Counts of outcomes; a place is taken once and for all.
type Outcomes = [OnceLock<(Outcome, Number)>; OUTCOMES_FAST];

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Block {
    outcomes: OnceLock<Box<Outcomes>>,
    /// The rest.
    more_outcomes: Mutex<HashMap<Outcome, u64>>,
    ingress: Number,
    egress: Number,
    /// Of whole requests, of the upstream, of the gateway.
    latencies: OnceLock<Box<[Histogram; 3]>>,
}

impl Block {
    /// Counts a request; false when `admits` refuses a series that is new to this thread.
    pub(super) fn count(&self, outcome: Outcome, admits: impl Fn() -> bool) -> bool {
        for place in self.outcomes.get_or_init(Box::default).iter() {
            if place.get().is_none() && !admits() {
                return false;
            }
            let (known, count) = place.get_or_init(|| (outcome, Number::default()));
            if *known == outcome {
                count.add(1);
                return true;
            }
        }
        let more = self.more_outcomes.lock();
        let mut more = more.unwrap_or_else(PoisonError::into_inner);
        if !more.contains_key(&outcome) && !admits() {
            return false;
        }
        *more.entry(outcome).or_default() += 1;
        true
    }

    pub(super) fn add_traffic(&self, ingress: u64, egress: u64) {
        self.ingress.add(ingress);
        self.egress.add(egress);
    }

    pub(super) fn observe(&self, latencies: &Latencies) {
        let [request, upstream, kong] = &**self.latencies.get_or_init(Box::default);
        request.observe(latencies.request);
        if let Some(latency) = latencies.upstream {
            upstream.observe(latency);
        }
        kong.observe(latencies.kong);
    }

    /// Adds what was counted so far to `sums`.
    pub(super) fn add_to(&self, sums: &mut Sums) {
        let outcomes = self.outcomes.get().map(|it| it.iter());
        for (outcome, count) in outcomes.into_iter().flatten().filter_map(OnceLock::get) {
            *sums.outcomes.entry(*outcome).or_default() += count.get();
        }
        let more = self.more_outcomes.lock();
        for (outcome, count) in &*more.unwrap_or_else(PoisonError::into_inner) {
            *sums.outcomes.entry(*outcome).or_default() += count;
        }
        sums.ingress += self.ingress.get();
        sums.egress += self.egress.get();
        let Some(latencies) = self.latencies.get() else {
            return;
        };
        for (from, (counts, sum)) in latencies.iter().zip(&mut sums.latencies) {
            for (from, count) in from.counts.iter().zip(counts) {
                *count += from.get();
            }
            *sum += f64::from_bits(from.sum.get());
        }
    }
}

/// The numbers of all threads.
#[derive(Default)]
pub(super) struct Sums {
    pub(super) outcomes: std::collections::BTreeMap<Outcome, u64>,
    pub(super) ingress: u64,
    pub(super) egress: u64,
    /// Counts and sum of each histogram.
    pub(super) latencies: [([u64; BUCKETS], f64); 3],
}
