//! What the data plane counts. Handles are kept where they are used: the request path only adds.

use std::sync::{Arc, Weak};

use o28m_net::dns::Resolver;
use o28m_telemetry::metrics::{Collect, Counter, Registry, Samples, Sharded};

use crate::balance::Balancing;
use crate::feed::Feed;
use crate::{PluginKind, Snapshot, UpstreamHealth};

/// Counters of the whole data plane.
pub(crate) struct Metrics {
    /// Requests that came in.
    pub(crate) begun: Sharded,
    /// Requests that are over.
    pub(crate) ended: Sharded,
    /// Requests that matched no route.
    pub(crate) unmatched: Counter,
    /// Requests refused before routing.
    pub(crate) rejected: Counter,
    /// Requests whose client went away before the response head.
    pub(crate) aborted: Counter,
    /// Attempts after the first one.
    pub(crate) retries: Counter,
    /// Plugin phases that panicked.
    pub(crate) panics: Counter,
    /// Access log lines that found the queue full.
    pub(crate) log_lines_dropped: Counter,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        let counter = |name, help| registry.counter(name, help, &[]);
        Self {
            unmatched: counter(
                "o28m_gateway_unmatched_requests_total",
                "Requests that matched no route.",
            ),
            rejected: counter(
                "o28m_gateway_rejected_requests_total",
                "Requests refused before routing.",
            ),
            aborted: counter(
                "o28m_gateway_aborted_requests_total",
                "Requests whose client went away before the response.",
            ),
            retries: counter(
                "o28m_gateway_upstream_retries_total",
                "Attempts to reach an upstream after the first one.",
            ),
            panics: counter(
                "o28m_gateway_plugin_panics_total",
                "Plugin phases that panicked.",
            ),
            log_lines_dropped: counter(
                "o28m_gateway_access_log_dropped_total",
                "Access log lines dropped because the writer was too slow.",
            ),
            begun: Sharded::default(),
            ended: Sharded::default(),
        }
    }
}

/// Metrics of what the configuration in use has: its kinds of plugins, and targets where an instance
/// asks for their health.
pub(crate) struct Configured {
    /// The registry lives as long as the process; it must not keep the data plane alive.
    feed: Weak<Feed>,
    balancing: Arc<Balancing>,
    kinds: Vec<Arc<dyn PluginKind>>,
}

impl Configured {
    pub(crate) fn new(
        feed: &Arc<Feed>,
        balancing: &Arc<Balancing>,
        kinds: &[Arc<dyn PluginKind>],
    ) -> Self {
        Self {
            feed: Arc::downgrade(feed),
            balancing: balancing.clone(),
            kinds: kinds.to_vec(),
        }
    }
}

impl Collect for Configured {
    fn collect(&self, into: &mut Samples) {
        let Some(feed) = self.feed.upgrade() else {
            return;
        };
        let snapshot = feed.current();
        for kind in &self.kinds {
            if snapshot.plugins().has(kind.name()) {
                kind.collect(into);
            }
        }
        if snapshot.plugins().needs_upstream_health() {
            health(&snapshot, &self.balancing, into);
        }
    }
}

/// What the resolver counts.
pub(crate) struct Resolving(pub(crate) Arc<Resolver>);

impl Collect for Resolving {
    #[expect(clippy::cast_precision_loss, reason = "a metric is a float")]
    fn collect(&self, into: &mut Samples) {
        let counts = self.0.counts();
        for (name, help, value) in [
            (
                "o28m_dns_lookups_total",
                "Names that were looked up.",
                counts.lookups,
            ),
            (
                "o28m_dns_failures_total",
                "Names that no server could tell anything of.",
                counts.failures,
            ),
            (
                "o28m_dns_stale_total",
                "Such names of which the last good answer is used instead.",
                counts.stale,
            ),
        ] {
            into.counter(name, help, &[], value);
        }
        let help = "Names whose answers are remembered.";
        into.gauge("o28m_dns_names", help, &[], counts.names as f64);
    }
}

/// The states of an address, as Kong names them.
const STATES: [&str; 4] = ["healthchecks_off", "healthy", "unhealthy", "dns_error"];

fn health(snapshot: &Snapshot, balancing: &Balancing, into: &mut Samples) {
    for balancer in snapshot.balancers() {
        let upstream = balancer.upstream.name.as_str();
        let UpstreamHealth { targets, .. } = balancer.health(balancing);
        for target in targets {
            let host = if target.host.contains(':') {
                format!("[{}]", target.host)
            } else {
                target.host
            };
            let name = format!("{host}:{}", target.port);
            if target.addresses.is_empty() {
                state(upstream, &name, "", "dns_error", into);
            }
            for address in target.addresses {
                let now = match address.available {
                    _ if !balancer.checked => "healthchecks_off",
                    true => "healthy",
                    false => "unhealthy",
                };
                let at = format!("{}:{}", address.ip, address.port);
                state(upstream, &name, &at, now, into);
            }
        }
    }
}

fn state(upstream: &str, target: &str, address: &str, now: &str, into: &mut Samples) {
    for state in STATES {
        let labels = [
            ("upstream", upstream),
            ("target", target),
            ("address", address),
            ("state", state),
            ("subsystem", "http"),
        ];
        let help = "Health status of targets of upstream. States = \
            healthchecks_off|healthy|unhealthy|dns_error, value is 1 when state is populated.";
        let value = f64::from(u8::from(state == now));
        into.gauge("kong_upstream_target_health", help, &labels, value);
    }
}
