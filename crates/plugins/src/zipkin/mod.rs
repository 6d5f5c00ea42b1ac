//! zipkin as the platform's image has it: trace headers, the platform's trace id, and spans in Zipkin's
//! JSON form (spec gateway-plugins 4.9).

mod spans;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use o28m_core::Ambient;
use o28m_gateway::{Access, BadConfig, Exchange, Plugin, PluginKind, random_bytes};
use o28m_kong::PluginEntity;
use o28m_net::BoxFuture;
use serde::Deserialize;
use serde_json::Value;

use crate::config;
use crate::delivery::{self, Calls, Deliver, Deliveries, Endpoint, Failure, Queue};
use crate::tracing::{
    self, Captured, Environment, Format, Outgoing, Propagation, PropagationConfig, Tardis, TardisId,
};

const NAME: &str = "zipkin";

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    local_service_name: String,
    local_component_name: Option<String>,
    http_endpoint: Option<String>,
    sample_ratio: f64,
    force_sample: bool,
    default_service_name: Option<String>,
    environment: Option<String>,
    zone: Option<String>,
    include_credential: bool,
    traceid_byte_count: usize,
    header_type: String,
    default_header_type: Format,
    tags_header: String,
    static_tags: Vec<Tag>,
    http_span_name: SpanName,
    connect_timeout: u64,
    send_timeout: u64,
    read_timeout: u64,
    http_response_header_for_traceid: Option<String>,
    phase_duration_flavor: Flavor,
    queue: delivery::Settings,
    propagation: PropagationConfig,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tag {
    name: String,
    value: String,
}

/// What spans are called after.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SpanName {
    Method,
    MethodPath,
}

/// How spans tell the times of phases.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Flavor {
    Annotations,
    Tags,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            local_service_name: "kong".to_owned(),
            local_component_name: None,
            http_endpoint: None,
            sample_ratio: 0.001,
            force_sample: false,
            default_service_name: None,
            environment: None,
            zone: None,
            include_credential: true,
            traceid_byte_count: 16,
            header_type: "preserve".to_owned(),
            default_header_type: Format::B3,
            tags_header: "Zipkin-Tags".to_owned(),
            static_tags: Vec::new(),
            http_span_name: SpanName::Method,
            connect_timeout: 2000,
            send_timeout: 5000,
            read_timeout: 5000,
            http_response_header_for_traceid: None,
            phase_duration_flavor: Flavor::Annotations,
            queue: delivery::Settings::default(),
            propagation: PropagationConfig::default(),
        }
    }
}

pub(crate) struct Kind {
    pub(crate) ambient: Ambient,
    pub(crate) deliveries: Deliveries,
    pub(crate) tardis: Arc<Tardis>,
    /// Name of this machine.
    pub(crate) hostname: Arc<str>,
}

impl Kind {
    fn make(&self, id: &str, config: &Value) -> Result<Arc<dyn Plugin>, BadConfig> {
        let config: Config = config::read(config)?;
        let calls = Calls {
            connect: config.connect_timeout,
            send: config.send_timeout,
            read: config.read_timeout,
        };
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let endpoint = config.http_endpoint.as_deref();
        let endpoint = endpoint.map(|url| Endpoint::new(&self.deliveries, url, headers, calls));
        let queue = endpoint.transpose()?.map(|endpoint| {
            let reporter = Arc::new(Reporter(endpoint));
            Queue::new(&self.deliveries, NAME, id, config.queue, reporter)
        });
        let response_header = config.http_response_header_for_traceid.as_deref();
        Ok(Arc::new(Zipkin {
            propagation: Propagation::new(
                config.propagation,
                &config.header_type,
                Some(config.default_header_type),
            )?,
            sampler: Sampler {
                force: config.force_sample,
                ratio: config.sample_ratio,
            },
            trace_bytes: config.traceid_byte_count,
            tags_header: config::header_name(&config.tags_header)?,
            response_header: response_header.map(config::header_name).transpose()?,
            report: spans::Report {
                local_service: config.local_service_name,
                component: config
                    .local_component_name
                    .unwrap_or_else(|| "kong".to_owned()),
                default_service: config.default_service_name,
                environment: Environment(config.environment),
                zone: config.zone,
                include_credential: config.include_credential,
                static_tags: config.static_tags,
                span_name: config.http_span_name,
                flavor: config.phase_duration_flavor,
                hostname: self.hostname.clone(),
            },
            queue,
            ambient: self.ambient.clone(),
            tardis: self.tardis.clone(),
        }))
    }
}

impl PluginKind for Kind {
    fn name(&self) -> &'static str {
        NAME
    }

    fn priority(&self) -> i32 {
        100_000
    }

    fn configure(&self, config: &Value) -> Result<Arc<dyn Plugin>, BadConfig> {
        self.make("", config)
    }

    fn instantiate(&self, entity: &PluginEntity) -> Result<Arc<dyn Plugin>, BadConfig> {
        self.make(&entity.id, &entity.config)
    }
}

struct Zipkin {
    propagation: Propagation,
    sampler: Sampler,
    /// Bytes of trace ids that we make.
    trace_bytes: usize,
    tags_header: HeaderName,
    response_header: Option<HeaderName>,
    report: spans::Report,
    /// `None` when nothing is reported.
    queue: Option<Queue>,
    ambient: Ambient,
    tardis: Arc<Tardis>,
}

struct Sampler {
    force: bool,
    ratio: f64,
}

impl Sampler {
    fn decide(&self, exchange: &Exchange, asked: Option<bool>, ambient: &Ambient) -> bool {
        if tracing::is_never_sampled(exchange) {
            return false;
        }
        match asked {
            _ if self.force || self.ratio >= 1.0 && asked.is_none() => true,
            Some(asked) => asked,
            None if self.ratio <= 0.0 => false,
            None => {
                let drawn = u32::from_be_bytes(random_bytes(ambient.rng.as_ref()));
                f64::from(drawn) < self.ratio * f64::from(u32::MAX)
            }
        }
    }
}

/// The trace of one request.
#[derive(Clone)]
struct State {
    trace_id: u128,
    /// Bytes of the trace id as spans show it.
    trace_bytes: usize,
    server_id: u64,
    /// Parent of the server span.
    parent_id: Option<u64>,
    client_id: u64,
    tardis: TardisId,
    /// Only when spans are reported.
    recorded: Option<Box<Recorded>>,
}

/// What only spans need.
#[derive(Clone)]
struct Recorded {
    captured: Captured,
    access_begun: Option<Instant>,
    head_begun: Option<Instant>,
}

impl Zipkin {
    /// Continues the caller's trace or begins one.
    fn begin(&self, exchange: &mut Exchange, sends: bool) -> State {
        let incoming = self.propagation.extract(&exchange.request.headers);
        let asked = incoming.as_ref().and_then(|it| it.sampled);
        let sampled = self.sampler.decide(exchange, asked, &self.ambient);
        let rng = self.ambient.rng.as_ref();
        let known = incoming
            .as_ref()
            .and_then(|it| it.trace_id.map(|id| (id, it)));
        let (trace_id, trace_bytes) = match known {
            Some((id, _)) => (id, 16),
            None if self.trace_bytes == 8 => (tracing::span_id(rng).into(), 8),
            None => (tracing::trace_id(rng), 16),
        };
        let (shared, parent_id) = match known {
            Some((_, it)) if it.shared_span => (it.span_id, it.parent_id),
            Some((_, it)) => (None, it.span_id),
            None => (None, None),
        };
        let recorded = sampled && self.queue.is_some();
        let state = State {
            trace_id,
            trace_bytes,
            server_id: shared.unwrap_or_else(|| tracing::span_id(rng)),
            parent_id,
            client_id: tracing::span_id(rng),
            tardis: self.tardis.of(&exchange.request.headers),
            recorded: recorded.then(|| {
                Box::new(Recorded {
                    captured: Captured::new(exchange, Some(&self.tags_header)),
                    access_begun: sends.then(Instant::now),
                    head_begun: None,
                })
            }),
        };
        exchange.observed.closely |= recorded;
        if sends {
            let outgoing = Outgoing {
                trace_id,
                trace_bytes: incoming.as_ref().map_or(0, |it| it.trace_bytes),
                span_id: state.client_id,
                parent_id: Some(state.server_id),
                sampled,
            };
            let headers = &mut exchange.request.headers;
            self.propagation
                .inject(&outgoing, incoming.as_ref(), headers);
            state.tardis.apply(headers);
        }
        state
    }
}

impl Plugin for Zipkin {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        let state = self.begin(exchange, true);
        exchange.request.extensions.insert(state);
        Access::CONTINUE
    }

    fn header_filter(&self, exchange: &mut Exchange, response: &mut http::response::Parts) {
        let state = exchange.request.extensions.remove::<State>();
        // Requests that are refused before the access phase are traced as well.
        let mut state = state.unwrap_or_else(|| self.begin(exchange, false));
        if let Some(recorded) = &mut state.recorded {
            recorded.head_begun = Some(Instant::now());
        }
        state.tardis.apply(&mut response.headers);
        if let Some(name) = &self.response_header {
            let digits = tracing::trace_digits(state.trace_id, state.trace_bytes);
            if let Ok(digits) = HeaderValue::try_from(digits) {
                response.headers.insert(name.clone(), digits);
            }
        }
        exchange.request.extensions.insert(state);
    }

    fn log(&self, exchange: &Exchange) {
        let state = exchange.request.extensions.get::<State>();
        if let Some((state, queue)) = state.zip(self.queue.as_ref())
            && let Some(recorded) = &state.recorded
        {
            for span in self.report.spans(exchange, state, recorded) {
                queue.push(span);
            }
        }
    }
}

/// Takes spans to a Zipkin server.
struct Reporter(Endpoint);

impl Deliver for Reporter {
    fn deliver<'a>(&'a self, batch: &'a [Bytes]) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(self.0.send(Method::POST, delivery::json_array(batch)))
    }
}

#[cfg(test)]
mod tests;
