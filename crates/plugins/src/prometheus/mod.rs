//! prometheus: counts requests, bytes and latencies by route and consumer (spec gateway-plugins 4.8).

mod block;
mod store;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::HeaderName;
use o28m_gateway::{BadConfig, Exchange, Needs, Plugin, PluginKind, Source};
use o28m_telemetry::metrics::{Registry, Samples};
use serde::Deserialize;
use serde_json::Value;

use crate::config;
use block::{Latencies, Outcome, method_name};
use store::{Caller, Store};

/// The consumer that fetches events for others, and the header that says for whom.
const EVENT_STORE: &str = "eventstore";
const SUBSCRIBER: HeaderName = HeaderName::from_static("x-pubsub-subscriber-id");

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    per_consumer: bool,
    status_code_metrics: bool,
    /// Nothing here calls a language model, so that there is nothing to count.
    #[serde(rename = "ai_metrics")]
    _ai_metrics: bool,
    latency_metrics: bool,
    bandwidth_metrics: bool,
    upstream_health_metrics: bool,
    /// There are no such filters here.
    #[serde(rename = "wasm_metrics")]
    _wasm_metrics: bool,
}

pub(crate) struct Kind(Arc<Store>);

impl Kind {
    pub(crate) fn new(metrics: &Registry) -> Self {
        Self(Arc::new(Store::new(metrics)))
    }
}

impl PluginKind for Kind {
    fn name(&self) -> &'static str {
        "prometheus"
    }

    fn priority(&self) -> i32 {
        13
    }

    fn configure(&self, config: &Value) -> Result<Arc<dyn Plugin>, BadConfig> {
        Ok(Arc::new(Prometheus {
            config: config::read(config)?,
            store: self.0.clone(),
        }))
    }

    fn collect(&self, into: &mut Samples) {
        self.0.collect(into);
    }
}

struct Prometheus {
    config: Config,
    store: Arc<Store>,
}

impl Plugin for Prometheus {
    fn needs(&self) -> Needs {
        Needs {
            traffic: self.config.bandwidth_metrics,
            upstream_health: self.config.upstream_health_metrics,
        }
    }

    fn log(&self, exchange: &Exchange) {
        let config = self.config;
        let counts =
            config.status_code_metrics || config.latency_metrics || config.bandwidth_metrics;
        let Some(route) = exchange.route.as_ref().filter(|_| counts) else {
            return;
        };
        let caller = self.caller(exchange);
        let service = exchange.service.as_ref();
        self.store.count(route, service, caller, |entry, block| {
            if let Some(status) = exchange.status.filter(|_| config.status_code_metrics) {
                let outcome = Outcome {
                    status,
                    method: method_name(&exchange.request.method),
                    from_upstream: exchange.source == Source::Service,
                };
                if !block.count(outcome, || entry.admits(outcome)) {
                    self.store.drop_one("kong_http_requests_total");
                }
            }
            if config.bandwidth_metrics
                && let Some((request, response)) = exchange.observed.traffic()
            {
                block.add_traffic(request, response);
            }
            if config.latency_metrics && !entry.is_stream() {
                block.observe(&latencies(exchange));
            }
        });
    }
}

impl Prometheus {
    fn caller<'a>(&self, exchange: &'a Exchange) -> Caller<'a> {
        let consumer = exchange.consumer.as_ref();
        let Some(consumer) = consumer.filter(|_| self.config.per_consumer) else {
            return Caller::Anonymous;
        };
        let subscriber = match consumer.username.as_deref() {
            Some(EVENT_STORE) => exchange.request.headers.get(SUBSCRIBER),
            _ => None,
        };
        Caller::Known {
            consumer,
            subscriber: subscriber.map_or(&b""[..], |it| it.as_bytes()),
        }
    }
}

fn latencies(exchange: &Exchange) -> Latencies {
    let now = Instant::now();
    let observed = &exchange.observed;
    let millis = |length: Duration| length.as_secs_f64() * 1000.0;
    let total = now.saturating_duration_since(observed.begun);
    match &observed.upstream {
        Some(attempt) => Latencies {
            request: millis(total),
            upstream: Some(millis(
                attempt.ended.saturating_duration_since(attempt.begun),
            )),
            kong: millis(attempt.begun.saturating_duration_since(observed.begun)),
        },
        None => Latencies {
            request: millis(total),
            upstream: None,
            kong: millis(total),
        },
    }
}
