//! A small metric registry with the Prometheus text format.

use std::sync::Arc;

/// Every metric of the process. Cheap to clone.
#[derive(Clone, Default)]
pub struct Registry {}

/// A number that only grows.
#[derive(Clone, Default)]
pub struct Counter(Arc<std::sync::atomic::AtomicU64>);

impl Counter {
    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0
            .fetch_add(amount, std::sync::atomic::Ordering::Relaxed);
    }
}

impl Registry {
    /// The counter of that name and label values, made when it is new. Labels must come from closed
    /// sets or configured names, never from raw input.
    #[must_use]
    pub fn counter(&self, name: &str, help: &str, labels: &[(&str, &str)]) -> Counter {
        let _ = (name, help, labels);
        todo!()
    }

    /// A gauge read when the metrics are rendered.
    pub fn gauge(
        &self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        let _ = (name, help, labels, read);
        todo!()
    }

    /// A histogram with these upper bounds (seconds), for durations.
    #[must_use]
    pub fn histogram(
        &self,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
        bounds: &'static [f64],
    ) -> Histogram {
        let _ = (name, help, labels, bounds);
        todo!()
    }

    /// The Prometheus text format (version 0.0.4) of every metric, ordered by name and labels.
    #[must_use]
    pub fn render(&self) -> String {
        todo!()
    }
}

/// Counts of observed values by upper bound.
#[derive(Clone)]
pub struct Histogram {}

impl Histogram {
    /// Records one value.
    pub fn observe(&self, value: f64) {
        let _ = value;
        todo!()
    }
}
