//! Spans of a request as OTLP has them.

use std::sync::Arc;
use std::time::Instant;

use o28m_core::Rng;
use o28m_gateway::{Exchange, Source, Try};

use super::State;
use super::protobuf::Message;
use crate::redact;
use crate::tracing::{self, Captured, Environment, cut};

/// `SpanKind`.
const SERVER: u64 = 2;
const CLIENT: u64 = 3;
/// `StatusCode`.
const ERROR: u64 = 2;
/// Field of `Span` that holds attributes.
const ATTRIBUTES: u64 = 9;

/// What an instance puts into its spans.
pub(super) struct Report {
    /// The attribute `lc`.
    pub(super) local_service: String,
    pub(super) environment: Environment,
    pub(super) zone: Option<String>,
    pub(super) hostname: Arc<str>,
}

/// The ids, name, kind and times of a span.
struct Frame<'a> {
    trace_id: u128,
    id: u64,
    parent_id: Option<u64>,
    name: &'a str,
    kind: u64,
    begun: Instant,
    ended: Instant,
}

impl Frame<'_> {
    fn begin(&self, exchange: &Exchange) -> Message {
        let started = u64::try_from(exchange.started.millis()).unwrap_or_default();
        let nanos = |moment: Instant| {
            let passed = moment.saturating_duration_since(exchange.observed.begun);
            let passed = u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX);
            started.saturating_mul(1_000_000).saturating_add(passed)
        };
        let mut span = Message::default();
        span.bytes(1, &self.trace_id.to_be_bytes());
        span.bytes(2, &self.id.to_be_bytes());
        if let Some(parent_id) = self.parent_id {
            span.bytes(4, &parent_id.to_be_bytes());
        }
        span.bytes(5, self.name.as_bytes());
        span.number(6, self.kind);
        span.fixed(7, nanos(self.begun));
        span.fixed(8, nanos(self.ended));
        span
    }
}

impl Report {
    /// The root span, and one for each attempt to reach the upstream where those are wanted.
    pub(super) fn spans(
        &self,
        exchange: &Exchange,
        state: &State,
        captured: &Captured,
        rng: &dyn Rng,
    ) -> Vec<Vec<u8>> {
        let ended = Instant::now();
        let mut spans = vec![self.root(exchange, state, captured, ended)];
        let Some(last_id) = state.attempt_id else {
            return spans;
        };
        let tries = &exchange.observed.tries;
        for (at, attempt) in tries.iter().enumerate() {
            let is_last = at + 1 == tries.len();
            let id = if is_last {
                last_id
            } else {
                tracing::span_id(rng)
            };
            let name = format!("{} (proxy)", captured.method);
            let frame = Frame {
                trace_id: state.trace_id,
                id,
                parent_id: Some(state.root_id),
                name: if is_last { &name } else { "kong.balancer" },
                kind: CLIENT,
                begun: attempt.attempt.begun,
                ended: if is_last {
                    ended
                } else {
                    attempt.attempt.ended
                },
            };
            spans.push(self.attempt(exchange, &frame, at, attempt));
        }
        spans
    }

    fn root(
        &self,
        exchange: &Exchange,
        state: &State,
        captured: &Captured,
        ended: Instant,
    ) -> Vec<u8> {
        let mut span = Frame {
            trace_id: state.trace_id,
            id: state.root_id,
            parent_id: state.parent_id,
            name: captured.method.as_str(),
            kind: SERVER,
            begun: exchange.observed.begun,
            ended,
        }
        .begin(exchange);
        let connection = &exchange.connection;
        let mut text = |key: &str, value: &str| span.text_attribute(ATTRIBUTES, key, value);
        let host = captured.host();
        let scheme = connection.scheme.name();
        let target = redact::target(&exchange.request.uri);
        text("http.method", captured.method.as_str());
        text("http.url", cut(&format!("{scheme}://{host}{target}")));
        text("http.host", &host);
        text("http.scheme", scheme);
        text("http.flavor", captured.version);
        text("http.client_ip", &exchange.client_ip.to_string());
        text(
            "net.peer.ip",
            &connection.peer.ip().to_canonical().to_string(),
        );
        text("kong.request.id", &exchange.request_id);
        let route = exchange.route.as_ref();
        let path = route.and_then(|it| it.paths.as_ref()?.first());
        text("http.route", path.map_or("", String::as_str));
        text("x-tardis-traceid", state.tardis.text());
        text("lc", &self.local_service);
        captured.header_tags(|name, value| text(name, &value));
        text("http.path", tracing::path(exchange));
        text("http.protocol", &format!("HTTP/{}", captured.version));
        let consumer = exchange.consumer.as_ref();
        let custom_id = consumer.and_then(|it| it.custom_id.as_deref());
        text("kong.consumer", custom_id.unwrap_or_default());
        text("kong.pod", &self.hostname);
        text(
            "environment",
            self.environment.of(exchange).unwrap_or_default(),
        );
        let service = exchange.service.as_ref();
        let service = service.and_then(|it| it.name.as_deref());
        text("kong.service", service.unwrap_or_default());
        text("peer.service", service.unwrap_or(&self.local_service));
        text("zone", self.zone.as_deref().unwrap_or_default());
        if state.tardis.is_ours {
            span.truth_attribute(ATTRIBUTES, "x-tardis-consumer-side", true);
        }
        let port = connection.peer.port();
        span.double_attribute(ATTRIBUTES, "net.peer.port", port.into());
        if let Some(status) = exchange.status {
            span.whole_attribute(ATTRIBUTES, "http.status_code", status.as_u16());
        }
        span.into_bytes()
    }

    fn attempt(&self, exchange: &Exchange, frame: &Frame<'_>, at: usize, attempt: &Try) -> Vec<u8> {
        let mut span = frame.begin(exchange);
        let is_last = at + 1 == exchange.observed.tries.len();
        let number = u32::try_from(at + 1).unwrap_or(u32::MAX);
        span.double_attribute(ATTRIBUTES, "try_count", number.into());
        if attempt.host.parse::<std::net::IpAddr>().is_ok() {
            span.text_attribute(ATTRIBUTES, "net.peer.ip", &attempt.host);
        }
        span.double_attribute(ATTRIBUTES, "net.peer.port", attempt.port.into());
        let host = exchange.service.as_ref().map_or("", |it| cut(&it.host));
        span.text_attribute(ATTRIBUTES, "net.peer.name", host);
        if is_last {
            span.text_attribute(ATTRIBUTES, "peer.hostname", host);
            span.text_attribute(ATTRIBUTES, "peer.service", &self.local_service);
        }
        if !is_last || exchange.source != Source::Service {
            if let Some(status) = exchange.upstream_statuses.get(at) {
                span.whole_attribute(ATTRIBUTES, "http.status_code", status.as_u16());
            }
            let mut status = Message::default();
            status.number(3, ERROR);
            span.bytes(15, &status.into_bytes());
        }
        span.into_bytes()
    }
}
