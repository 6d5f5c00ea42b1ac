//! Durations of requests, as `http_server_requests_seconds`: the histogram, and the longest of the last
//! minutes, as Micrometer tells it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use o28m_telemetry::metrics::{Collect, Histogram, Registry, Samples};

/// Upper bounds of request durations in seconds (the chart's `KC_HTTP_METRICS_SLOS`).
const BOUNDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// The longest request is forgotten after one to two of these.
const WINDOW: Duration = Duration::from_secs(60);

/// Method, status and endpoint: all of closed sets.
type Key = (&'static str, u16, &'static str);

struct Entry {
    histogram: Histogram,
    window: Instant,
    longest: f64,
    /// Of the window before.
    before: f64,
}

impl Entry {
    /// Ends windows that are over.
    fn turn(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.window);
        if passed < WINDOW {
            return;
        }
        self.before = if passed < WINDOW * 2 {
            self.longest
        } else {
            0.0
        };
        self.longest = 0.0;
        self.window = now;
    }
}

type Entries = Arc<Mutex<HashMap<Key, Entry>>>;

/// Requests by what they asked for and what came of them.
pub(crate) struct Requests {
    metrics: Registry,
    entries: Entries,
}

/// What is read of them when metrics are; apart from the registry, which keeps it.
struct Longest(Entries);

fn outcome(status: u16) -> &'static str {
    match status / 100 {
        2 => "SUCCESS",
        3 => "REDIRECTION",
        4 => "CLIENT_ERROR",
        _ => "SERVER_ERROR",
    }
}

impl Requests {
    pub(crate) fn new(metrics: Registry) -> Self {
        let entries = Entries::default();
        metrics.collect(Longest(Arc::clone(&entries)));
        Self { metrics, entries }
    }

    /// Counts a request.
    pub(crate) fn count(
        &self,
        endpoint: &'static str,
        method: &Method,
        status: StatusCode,
        started: Instant,
    ) {
        const METHODS: [&str; 7] = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"];
        let known = METHODS.into_iter().find(|name| *name == method.as_str());
        let key = (known.unwrap_or("OTHER"), status.as_u16(), endpoint);
        let now = Instant::now();
        let seconds = now.saturating_duration_since(started).as_secs_f64();
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.entry(key).or_insert_with(|| Entry {
            histogram: self.histogram(key),
            window: now,
            longest: 0.0,
            before: 0.0,
        });
        entry.turn(now);
        entry.longest = entry.longest.max(seconds);
        entry.histogram.observe(seconds);
    }

    fn histogram(&self, key: Key) -> Histogram {
        let help = "Requests served by the identity provider.";
        let name = "http_server_requests_seconds";
        let status = key.1.to_string();
        self.metrics
            .histogram(name, help, &labels(key, &status), BOUNDS)
    }
}

fn labels((method, code, uri): Key, status: &str) -> [(&'static str, &str); 4] {
    [
        ("method", method),
        ("outcome", outcome(code)),
        ("status", status),
        ("uri", uri),
    ]
}

impl Collect for Longest {
    fn collect(&self, into: &mut Samples) {
        let now = Instant::now();
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, entry) in entries.iter_mut() {
            entry.turn(now);
            let help = "The longest request of the last minutes.";
            let name = "http_server_requests_seconds_max";
            let status = key.1.to_string();
            into.gauge(
                name,
                help,
                &labels(*key, &status),
                entry.longest.max(entry.before),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_request_is_forgotten_after_a_while() {
        let metrics = Registry::default();
        let requests = Requests::new(metrics.clone());
        let Some(earlier) = Instant::now().checked_sub(Duration::from_secs(3)) else {
            return;
        };
        requests.count("token", &Method::POST, StatusCode::OK, earlier);
        requests.count("token", &Method::POST, StatusCode::OK, Instant::now());
        let line = |text: &str| {
            let mut lines = text.lines();
            let found = lines.find(|line| line.starts_with("http_server_requests_seconds_max{"));
            found
                .unwrap()
                .rsplit(' ')
                .next()
                .unwrap()
                .parse::<f64>()
                .unwrap()
        };
        assert!(line(&metrics.render()) >= 3.0);
        let mut entries = requests.entries.lock().unwrap();
        let entry = entries.values_mut().next().unwrap();
        let start = entry.window;
        entry.turn(start + WINDOW);
        assert!(entry.longest.max(entry.before) >= 3.0);
        entry.turn(start + WINDOW * 2);
        assert!(entry.longest.max(entry.before) < 3.0);
    }
}
