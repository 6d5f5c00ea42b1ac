//! What operators see of the node: Kong's node metrics, and what tracing needs to know of the process.

use std::sync::{Arc, Weak};

use o28m_gateway::Gateway;
use o28m_gateway_admin::KONG_VERSION;
use o28m_net::server::{connections, flooding_connections, refused_connections};
use o28m_plugins::Instrumentations;
use o28m_store::Store;
use o28m_telemetry::metrics::{Collect, Samples};

use crate::config::Config;

/// Name of this machine.
pub(super) fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// What plugin opentelemetry makes spans of.
pub(super) fn instrumentations(config: &Config) -> Instrumentations {
    let names = config.list("tracing.instrumentations");
    let has = |name: &str| names.iter().any(|it| it == name);
    let any = names.iter().any(|name| name != "off");
    let made = ["off", "all", "request", "balancer"];
    for name in names.iter().filter(|it| !made.contains(&it.as_str())) {
        tracing::warn!(tracing.instrumentation = %name, "there are no spans of this kind");
    }
    Instrumentations {
        request: any,
        balancer: has("balancer") || has("all"),
        sampling_rate: config.text("tracing.sampling_rate").parse().unwrap_or(0.0),
    }
}

/// Kong's metrics of a node, under its names: dashboards ask for them.
pub(super) struct NodeMetrics {
    node_id: String,
    store: Store,
    /// The registry lives as long as the process; it must not keep the data plane alive.
    gateway: Weak<Gateway>,
}

impl NodeMetrics {
    pub(super) fn new(node_id: String, store: Store, gateway: Option<&Arc<Gateway>>) -> Self {
        Self {
            node_id,
            store,
            gateway: gateway.map(Arc::downgrade).unwrap_or_default(),
        }
    }
}

impl Collect for NodeMetrics {
    #[expect(clippy::cast_precision_loss, reason = "a metric is a float")]
    fn collect(&self, into: &mut Samples) {
        let node = ("node_id", self.node_id.as_str());
        let (requests, in_flight) = self.gateway.upgrade().map_or((0, 0), |it| it.requests());
        let (accepted, open) = connections();
        for (state, number) in [
            ("accepted", accepted),
            ("handled", accepted),
            ("total", requests),
            ("active", open),
            ("reading", 0),
            ("writing", in_flight.min(open)),
            ("waiting", open.saturating_sub(in_flight)),
        ] {
            let labels = [node, ("subsystem", "http"), ("state", state)];
            let help = "Number of connections by subsystem";
            into.gauge("kong_nginx_connections_total", help, &labels, number as f64);
        }
        let help = "Connections closed at once: too many of one address, or no PROXY protocol.";
        let refused = refused_connections();
        into.counter("o28m_net_refused_connections_total", help, &[], refused);
        let flooding = flooding_connections();
        let help = "HTTP/2 connections closed because their client flooded them.";
        into.counter("o28m_net_flooding_connections_total", help, &[], flooding);
        let labels = [node, ("subsystem", "http")];
        let help = "Number of requests total";
        into.gauge("kong_nginx_requests_total", help, &labels, requests as f64);
        let runtime = tokio::runtime::Handle::try_current();
        let tasks = runtime.map_or(0, |it| it.metrics().num_alive_tasks());
        for (state, number) in [("running", tasks), ("pending", 0)] {
            let help = "Number of nginx timers";
            let labels = [("state", state)];
            into.gauge("kong_nginx_timers", help, &labels, number as f64);
        }
        let reachable = f64::from(u8::from(self.store.is_reachable()));
        let help = "Datastore reachable from Kong, 0 is unreachable";
        into.gauge("kong_datastore_reachable", help, &[], reachable);
        let labels = [node, ("version", KONG_VERSION)];
        into.gauge(
            "kong_node_info",
            "Kong Node metadata information",
            &labels,
            1.0,
        );
        let pid = std::process::id().to_string();
        let labels = [node, ("pid", &pid), ("kong_subsystem", "http")];
        let help = "Allocated bytes in worker Lua VM";
        let bytes = o28m_gateway_admin::resident_bytes();
        into.gauge(
            "kong_memory_workers_lua_vms_bytes",
            help,
            &labels,
            bytes as f64,
        );
    }
}
