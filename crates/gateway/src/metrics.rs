//! What the data plane counts. Handles are kept where they are used: the request path only adds.

use std::sync::OnceLock;

use http::{Method, StatusCode};
use o28m_telemetry::metrics::{Counter, Registry};

use crate::snapshot::{RouteEntry, ServiceEntry};
use crate::{Exchange, Source};

/// Counters of the whole data plane.
pub(crate) struct Metrics {
    registry: Registry,
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
            registry: registry.clone(),
        }
    }

    /// Counts a finished request of a route.
    pub(crate) fn count(
        &self,
        exchange: &Exchange,
        route: &RouteEntry,
        service: Option<&ServiceEntry>,
    ) {
        let Some(status) = exchange.status else {
            return;
        };
        let key = Key {
            status,
            method: method_name(&exchange.request.method),
            from_upstream: exchange.source == Source::Service,
            service: service.map_or(0, |it| it.serial),
        };
        route
            .counters
            .add(key, || self.requests(key, route, service));
    }

    fn requests(&self, key: Key, route: &RouteEntry, service: Option<&ServiceEntry>) -> Counter {
        let entity = &route.route;
        let service = service.map_or("", |it| {
            it.service.name.as_ref().unwrap_or(&it.service.host)
        });
        let labels = [
            ("service", service),
            ("route", entity.name.as_ref().unwrap_or(&entity.id)),
            ("code", key.status.as_str()),
            ("source", if key.from_upstream { "service" } else { "kong" }),
            ("workspace", "default"),
            ("consumer", "anonymous"),
            ("method", key.method),
        ];
        let help = "HTTP status codes per service/route in Kong";
        self.registry
            .counter("kong_http_requests_total", help, &labels)
    }
}

/// The method as a label: a closed set, whatever clients send.
fn method_name(method: &Method) -> &'static str {
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

/// What distinguishes the counters of one route.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    status: StatusCode,
    method: &'static str,
    from_upstream: bool,
    /// Serial of the service entry, whose name is a label.
    service: u64,
}

/// Handles of one route that are found without a lock. What does not fit is looked up each time.
const HANDLES_MAX: usize = 16;

type Handles = [OnceLock<(Key, Counter)>; HANDLES_MAX];

/// The counters of one route, made when they are first needed.
#[derive(Default)]
pub(crate) struct RouteCounters(OnceLock<Box<Handles>>);

impl RouteCounters {
    fn add(&self, key: Key, make: impl Fn() -> Counter) {
        for handle in self.0.get_or_init(Box::default).iter() {
            let (known, counter) = handle.get_or_init(|| (key, make()));
            if *known == key {
                counter.add(1);
                return;
            }
        }
        make().add(1);
    }
}
