//! opentelemetry as the platform's image has it: trace headers, the platform's trace id, and spans over
//! OTLP/HTTP in protobuf (spec gateway-plugins 4.10).

mod protobuf;
mod spans;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use o28m_core::Ambient;
use o28m_gateway::{Access, BadConfig, Exchange, Plugin, PluginKind};
use o28m_kong::PluginEntity;
use o28m_net::BoxFuture;
use serde::Deserialize;
use serde_json::Value;

use crate::config;
use crate::delivery::{self, Calls, Deliver, Deliveries, Endpoint, Failure, Queue};
use crate::tracing::{
    self, Captured, Environment, Outgoing, Propagation, PropagationConfig, Tardis, TardisId,
};

const NAME: &str = "opentelemetry";
const VERSION: &str = "3.9.3";

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    traces_endpoint: Option<String>,
    /// The deprecated name of the former; always the same.
    endpoint: Option<String>,
    headers: BTreeMap<String, String>,
    resource_attributes: BTreeMap<String, String>,
    queue: delivery::Settings,
    batch_span_count: Option<usize>,
    batch_flush_delay: Option<f64>,
    connect_timeout: u64,
    send_timeout: u64,
    read_timeout: u64,
    http_response_header_for_traceid: Option<String>,
    header_type: String,
    sampling_rate: Option<f64>,
    propagation: PropagationConfig,
    zone: Option<String>,
    environment: Option<String>,
    local_service_name: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            traces_endpoint: None,
            endpoint: None,
            headers: BTreeMap::new(),
            resource_attributes: BTreeMap::new(),
            queue: delivery::Settings::of_batches(200),
            batch_span_count: None,
            batch_flush_delay: None,
            connect_timeout: 1000,
            send_timeout: 5000,
            read_timeout: 5000,
            http_response_header_for_traceid: None,
            header_type: "b3".to_owned(),
            sampling_rate: None,
            propagation: PropagationConfig::default(),
            zone: None,
            environment: None,
            local_service_name: "kong".to_owned(),
        }
    }
}

/// What the process's own settings say of tracing (Kong's `tracing_*`).
#[derive(Clone, Debug, Default)]
pub struct Instrumentations {
    /// Requests get spans; without it opentelemetry only passes headers on.
    pub request: bool,
    /// Attempts to reach the upstream get spans too.
    pub balancer: bool,
    /// Part of the traces that are exported, 0 to 1, unless an instance has a rate of its own.
    pub sampling_rate: f64,
}

pub(crate) struct Kind {
    pub(crate) ambient: Ambient,
    pub(crate) deliveries: Deliveries,
    pub(crate) tardis: Arc<Tardis>,
    /// Name of this machine.
    pub(crate) hostname: Arc<str>,
    /// Id of this process.
    pub(crate) node_id: Arc<str>,
    pub(crate) instrumentations: Instrumentations,
}

impl Kind {
    fn make(&self, id: &str, config: &Value) -> Result<Arc<dyn Plugin>, BadConfig> {
        let config: Config = config::read(config)?;
        let url = config.traces_endpoint.or(config.endpoint);
        let url = url.ok_or_else(|| BadConfig("traces_endpoint is missing".into()))?;
        let calls = Calls {
            connect: config.connect_timeout,
            send: config.send_timeout,
            read: config.read_timeout,
        };
        let headers = headers(&config.headers)?;
        let exporter = Exporter {
            endpoint: Endpoint::new(&self.deliveries, &url, headers, calls)?,
            resource: self.resource(&config.resource_attributes),
        };
        let mut queue = config.queue;
        // The deprecated fields count unless they have Kong's former defaults.
        if let Some(count) = config.batch_span_count.filter(|it| *it != 200) {
            queue.max_batch_size = count;
        }
        if let Some(delay) = config.batch_flush_delay.filter(|it| *it != 3.0) {
            queue.max_coalescing_delay = delay;
        }
        let queue = Queue::new(&self.deliveries, NAME, id, queue, Arc::new(exporter));
        let response_header = config.http_response_header_for_traceid.as_deref();
        let rate = config.sampling_rate;
        Ok(Arc::new(OpenTelemetry {
            propagation: Propagation::new(config.propagation, &config.header_type, None)?,
            rate: rate.unwrap_or(self.instrumentations.sampling_rate),
            request: self.instrumentations.request,
            balancer: self.instrumentations.balancer,
            response_header: response_header.map(config::header_name).transpose()?,
            report: spans::Report {
                local_service: config.local_service_name,
                environment: Environment(config.environment),
                zone: config.zone,
                hostname: self.hostname.clone(),
            },
            queue,
            ambient: self.ambient.clone(),
            tardis: self.tardis.clone(),
        }))
    }

    /// The resource that spans are of, encoded.
    fn resource(&self, own: &BTreeMap<String, String>) -> Vec<u8> {
        let mut attributes = BTreeMap::from([
            ("service.name", "kong"),
            ("service.instance.id", &*self.node_id),
            ("service.version", VERSION),
        ]);
        attributes.extend(
            own.iter()
                .map(|(key, value)| (key.as_str(), value.as_str())),
        );
        let mut resource = protobuf::Message::default();
        for (key, value) in attributes {
            resource.text_attribute(1, key, value);
        }
        resource.into_bytes()
    }
}

fn headers(configured: &BTreeMap<String, String>) -> Result<HeaderMap, BadConfig> {
    let mut headers = HeaderMap::new();
    for (name, value) in configured {
        let bad = |_| BadConfig(format!("header '{name}' cannot be sent"));
        let value = HeaderValue::try_from(value).map_err(bad)?;
        headers.insert(config::header_name(name)?, value);
    }
    let protobuf = HeaderValue::from_static("application/x-protobuf");
    headers.entry(CONTENT_TYPE).or_insert(protobuf);
    Ok(headers)
}

impl PluginKind for Kind {
    fn name(&self) -> &'static str {
        NAME
    }

    fn priority(&self) -> i32 {
        14
    }

    fn configure(&self, config: &Value) -> Result<Arc<dyn Plugin>, BadConfig> {
        self.make("", config)
    }

    fn instantiate(&self, entity: &PluginEntity) -> Result<Arc<dyn Plugin>, BadConfig> {
        self.make(&entity.id, &entity.config)
    }
}

struct OpenTelemetry {
    propagation: Propagation,
    rate: f64,
    /// There are spans of requests.
    request: bool,
    /// There are spans of attempts.
    balancer: bool,
    response_header: Option<HeaderName>,
    report: spans::Report,
    queue: Queue,
    ambient: Ambient,
    tardis: Arc<Tardis>,
}

/// The trace of one request.
#[derive(Clone)]
struct State {
    trace_id: u128,
    root_id: u64,
    /// Parent of the root span.
    parent_id: Option<u64>,
    /// The span of the last attempt.
    attempt_id: Option<u64>,
    tardis: TardisId,
    /// Only when spans are exported.
    captured: Option<Box<Captured>>,
}

/// The part of all trace ids that is exported: their first eight bytes, little-endian, decide.
#[expect(
    clippy::cast_precision_loss,
    reason = "the rate has fewer digits than that"
)]
fn is_sampled(trace_id: u128, rate: f64) -> bool {
    let [a, b, c, d, e, f, g, h, ..] = trace_id.to_be_bytes();
    let number = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    rate >= 1.0 || (number as f64) < rate * (u64::MAX as f64)
}

impl OpenTelemetry {
    /// Continues the caller's trace or begins one.
    fn begin(&self, exchange: &mut Exchange, sends: bool) -> State {
        let incoming = self.propagation.extract(&exchange.request.headers);
        let rng = self.ambient.rng.as_ref();
        let known = incoming.as_ref();
        let trace_id = known.and_then(|it| it.trace_id);
        let trace_id = trace_id.unwrap_or_else(|| tracing::trace_id(rng));
        let refused = known.is_some_and(|it| it.sampled == Some(false));
        let sampled = self.request
            && !refused
            && !tracing::is_never_sampled(exchange)
            && is_sampled(trace_id, self.rate);
        let parent_id = known.and_then(|it| it.span_id.or(it.parent_id));
        let root_id = tracing::span_id(rng);
        let attempt_id = self.balancer.then(|| tracing::span_id(rng));
        let state = State {
            trace_id,
            root_id,
            parent_id,
            attempt_id,
            tardis: self.tardis.of(&exchange.request.headers),
            captured: sampled.then(|| Box::new(Captured::new(exchange, None))),
        };
        exchange.observed.closely |= sampled;
        if sends {
            let outgoing = Outgoing {
                trace_id,
                trace_bytes: known.map_or(0, |it| it.trace_bytes),
                span_id: attempt_id.unwrap_or(root_id),
                parent_id: attempt_id.map_or(parent_id, |_| Some(root_id)),
                sampled,
            };
            let headers = &mut exchange.request.headers;
            self.propagation.inject(&outgoing, known, headers);
            state.tardis.apply(headers);
        }
        state
    }
}

impl Plugin for OpenTelemetry {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        let state = self.begin(exchange, true);
        exchange.request.extensions.insert(state);
        Access::CONTINUE
    }

    fn header_filter(&self, exchange: &mut Exchange, response: &mut http::response::Parts) {
        let state = exchange.request.extensions.remove::<State>();
        // Requests that never came to our access phase are traced as well.
        let state = state.unwrap_or_else(|| self.begin(exchange, false));
        state.tardis.apply(&mut response.headers);
        if let Some(name) = &self.response_header {
            let digits = tracing::trace_digits(state.trace_id, 16);
            if let Ok(digits) = HeaderValue::try_from(digits) {
                response.headers.insert(name.clone(), digits);
            }
        }
        exchange.request.extensions.insert(state);
    }

    fn log(&self, exchange: &Exchange) {
        if let Some(state) = exchange.request.extensions.get::<State>()
            && let Some(captured) = &state.captured
        {
            let rng = self.ambient.rng.as_ref();
            for span in self.report.spans(exchange, state, captured, rng) {
                self.queue.push(span.into());
            }
        }
    }
}

/// Takes spans to a collector.
struct Exporter {
    endpoint: Endpoint,
    resource: Vec<u8>,
}

impl Exporter {
    /// `ExportTraceServiceRequest` of encoded spans.
    fn request(&self, spans: &[Bytes]) -> Bytes {
        let mut scope = protobuf::Message::default();
        scope.bytes(1, b"kong-internal");
        scope.bytes(2, b"0.1.0");
        let mut of_scope = protobuf::Message::default();
        of_scope.bytes(1, &scope.into_bytes());
        for span in spans {
            of_scope.bytes(2, span);
        }
        let mut of_resource = protobuf::Message::default();
        of_resource.bytes(1, &self.resource);
        of_resource.bytes(2, &of_scope.into_bytes());
        let mut request = protobuf::Message::default();
        request.bytes(1, &of_resource.into_bytes());
        request.into_bytes().into()
    }
}

impl Deliver for Exporter {
    fn deliver<'a>(&'a self, batch: &'a [Bytes]) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(self.endpoint.send(Method::POST, self.request(batch)))
    }
}
