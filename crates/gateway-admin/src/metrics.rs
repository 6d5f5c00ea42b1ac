//! What is counted of the Admin API.

use std::time::Duration;

use o28m_telemetry::metrics::{Counter, Registry};

/// Requests that take longer are slow: clients give up after ten times that.
const SLOW: Duration = Duration::from_secs(1);
/// Upper bounds of durations in seconds.
const BOUNDS_S: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0,
];

/// The metrics; everything is counted by endpoint, of which there are as many as paths are declared.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) registry: Registry,
    pub(crate) password_checks: Counter,
    pub(crate) audit_lines_dropped: Counter,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            password_checks: registry.counter(
                "o28m_admin_password_checks_total",
                "Passwords hashed to find out whether they are right.",
                &[],
            ),
            audit_lines_dropped: registry.counter(
                "o28m_admin_audit_lines_dropped_total",
                "Lines of the audit log that were lost because the writer was too slow.",
                &[],
            ),
            registry: registry.clone(),
        }
    }

    /// A request of that endpoint and method was answered.
    pub(crate) fn answered(&self, endpoint: &str, method: &str, status: u16, took: Duration) {
        let labels = [("endpoint", endpoint), ("method", known(method))];
        self.registry
            .histogram(
                "o28m_admin_request_duration_seconds",
                "Time from the head of a request to the head of its answer.",
                &labels,
                BOUNDS_S,
            )
            .observe(took.as_secs_f64());
        if took > SLOW {
            let help = "Requests that took longer than a second.";
            let slow = self
                .registry
                .counter("o28m_admin_slow_requests_total", help, &labels);
            slow.add(1);
            tracing::warn!(
                http.endpoint = endpoint,
                http.method = known(method),
                http.status = status,
                duration_ms = took.as_millis(),
                "request of the Admin API was slow"
            );
        }
    }
}

/// Labels come from closed sets; methods can be invented.
fn known(method: &str) -> &str {
    match method {
        "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS" => method,
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_requests_are_counted_by_endpoint() {
        let registry = Registry::default();
        let metrics = Metrics::new(&registry);
        metrics.answered("/services", "GET", 200, Duration::from_millis(3));
        metrics.answered("/services", "INVENTED", 405, Duration::from_secs(2));
        let text = registry.render();
        let duration =
            "o28m_admin_request_duration_seconds_count{endpoint=\"/services\",method=\"GET\"} 1";
        assert!(text.contains(duration), "{text}");
        let slow = "o28m_admin_slow_requests_total{endpoint=\"/services\",method=\"other\"} 1";
        assert!(text.contains(slow), "{text}");
    }
}
