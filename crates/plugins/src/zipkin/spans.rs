//! Spans of a request in Zipkin's JSON form, version 2.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use o28m_gateway::{Exchange, Source};
use serde::{Serialize, Serializer};

use super::{Flavor, Recorded, SpanName, State, Tag};
use crate::tracing::{self, Environment, cut, text};

/// Tags that a client may add to one span.
const CLIENT_TAGS_MAX: usize = 32;
/// Prefix of the service's own protected names.
const PROTECTED: [&str; 2] = ["error", "kong."];

/// What an instance puts into its spans.
pub(super) struct Report {
    /// The tag `lc`.
    pub(super) local_service: String,
    pub(super) component: String,
    pub(super) default_service: Option<String>,
    pub(super) environment: Environment,
    pub(super) zone: Option<String>,
    pub(super) include_credential: bool,
    pub(super) static_tags: Vec<Tag>,
    pub(super) span_name: SpanName,
    pub(super) flavor: Flavor,
    pub(super) hostname: Arc<str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Span<'a> {
    trace_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_id: Option<String>,
    id: String,
    kind: &'static str,
    name: String,
    /// Microseconds.
    timestamp: u64,
    duration: u64,
    local_endpoint: Local<'a>,
    remote_endpoint: Option<Remote<'a>>,
    tags: Tags<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    annotations: Vec<Annotation>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Local<'a> {
    service_name: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Remote<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    service_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ipv4: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ipv6: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
}

impl<'a> Remote<'a> {
    fn new(service_name: Option<&'a str>, ip: Option<IpAddr>, port: Option<u16>) -> Option<Self> {
        (service_name.is_some() || port.is_some()).then(|| Self {
            service_name,
            ipv4: ip.filter(IpAddr::is_ipv4),
            ipv6: ip.filter(IpAddr::is_ipv6),
            port,
        })
    }
}

#[derive(Serialize)]
struct Annotation {
    value: Cow<'static, str>,
    timestamp: u64,
}

/// Names and values, in the order they came; empty values are left out.
#[derive(Default)]
struct Tags<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Tags<'a> {
    /// A tag of ours: each name comes once.
    fn set(&mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) {
        let value = value.into();
        if !value.is_empty() {
            self.0.push((name.into(), value));
        }
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }
}

impl Serialize for Tags<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// The clock of one request: its start as a date, everything else by a monotonic clock.
struct Times {
    started_us: u64,
    begun: Instant,
}

impl Times {
    fn at(&self, moment: Instant) -> u64 {
        let passed = moment.saturating_duration_since(self.begun).as_micros();
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        self.started_us.saturating_add(passed)
    }

    fn annotation(&self, value: impl Into<Cow<'static, str>>, moment: Instant) -> Annotation {
        Annotation {
            value: value.into(),
            timestamp: self.at(moment),
        }
    }
}

/// Microseconds; Zipkin takes zero for unknown.
fn length(from: Instant, to: Instant) -> u64 {
    let length = to.saturating_duration_since(from).as_micros();
    u64::try_from(length).unwrap_or(u64::MAX).max(1)
}

fn millis(length: Duration) -> String {
    length.as_millis().to_string()
}

/// Moments of a request; phases that did not run are where they would have been.
struct Phases {
    begun: Instant,
    access_begun: Instant,
    access_ended: Instant,
    head_begun: Instant,
    head_ended: Instant,
    ended: Instant,
}

impl Phases {
    fn new(exchange: &Exchange, recorded: &Recorded) -> Self {
        let ended = Instant::now();
        let observed = &exchange.observed;
        let head_begun = recorded.head_begun.unwrap_or(ended);
        let access_begun = recorded.access_begun.unwrap_or(head_begun);
        Self {
            begun: observed.begun,
            access_begun,
            access_ended: observed.access_ended.unwrap_or(access_begun),
            head_begun,
            head_ended: observed.head_ended.unwrap_or(head_begun),
            ended,
        }
    }
}

impl Report {
    /// The client span and the server span.
    pub(super) fn spans(
        &self,
        exchange: &Exchange,
        state: &State,
        recorded: &Recorded,
    ) -> impl Iterator<Item = Bytes> {
        let times = Times {
            started_us: u64::try_from(exchange.started.millis())
                .unwrap_or_default()
                .saturating_mul(1000),
            begun: exchange.observed.begun,
        };
        let phases = Phases::new(exchange, recorded);
        let method = recorded.captured.method.as_str();
        let name = match self.span_name {
            SpanName::Method => method.to_owned(),
            SpanName::MethodPath => format!("{method} {}", tracing::path(exchange)),
        };
        let client = self.client(exchange, state, &times, &phases, &name);
        let server = self.server(exchange, state, recorded, &times, &phases, name);
        // Texts and numbers always serialise.
        let encode = |span: Span<'_>| serde_json::to_vec(&span).ok().map(Bytes::from);
        [encode(client), encode(server)].into_iter().flatten()
    }

    fn server<'a>(
        &'a self,
        exchange: &'a Exchange,
        state: &'a State,
        recorded: &'a Recorded,
        times: &Times,
        phases: &Phases,
        name: String,
    ) -> Span<'a> {
        let mut tags = self.server_tags(exchange, state, recorded);
        let mut annotations = Vec::new();
        match self.flavor {
            Flavor::Annotations => {
                annotations.push(times.annotation("krf", phases.access_begun));
                annotations.push(times.annotation("krs", phases.begun));
            }
            Flavor::Tags => {
                let rewrite = phases.access_begun.saturating_duration_since(phases.begun);
                tags.set("kong.rewrite.duration_ms", millis(rewrite));
            }
        }
        self.client_tags(recorded, &mut tags);
        let service = exchange.service.as_ref();
        let service = service.and_then(|it| it.name.as_deref());
        let service = service.or(self.default_service.as_deref());
        let port = exchange.connection.peer.port();
        Span {
            trace_id: tracing::trace_digits(state.trace_id, state.trace_bytes),
            parent_id: state.parent_id.map(|id| format!("{id:016x}")),
            id: format!("{:016x}", state.server_id),
            kind: "SERVER",
            name,
            timestamp: times.at(phases.begun),
            duration: length(phases.begun, phases.ended),
            local_endpoint: Local {
                service_name: &self.component,
            },
            remote_endpoint: Remote::new(service, Some(exchange.client_ip), Some(port)),
            tags,
            annotations,
        }
    }

    fn server_tags<'a>(
        &'a self,
        exchange: &'a Exchange,
        state: &'a State,
        recorded: &'a Recorded,
    ) -> Tags<'a> {
        let captured = &recorded.captured;
        let mut tags = Tags::default();
        tags.set("x-tardis-traceid", state.tardis.text());
        if state.tardis.is_ours {
            tags.set("x-tardis-consumer-side", "true");
        }
        tags.set("lc", self.local_service.as_str());
        tags.set("http.method", captured.method.as_str());
        tags.set("http.host", captured.host());
        tags.set("http.path", tracing::path(exchange));
        tags.set("http.protocol", format!("HTTP/{}", captured.version));
        tags.set("zone", self.zone.as_deref().unwrap_or_default());
        captured.header_tags(|name, value| tags.set(name, value));
        if let Some(status) = exchange.status {
            tags.set("http.status_code", status.as_str().to_owned());
            if status.as_u16() >= 400 {
                tags.set("error", "true");
            }
        }
        if let Some(consumer) = &exchange.consumer {
            let custom_id = consumer.custom_id.as_deref();
            tags.set("kong.consumer", custom_id.unwrap_or_default());
        }
        if let Some(credential) = exchange
            .credential
            .as_ref()
            .filter(|_| self.include_credential)
        {
            tags.set(
                "kong.credential",
                credential.id.as_deref().unwrap_or_default(),
            );
        }
        tags.set("kong.pod", &*self.hostname);
        if let Some(service) = &exchange.service {
            tags.set("kong.service", service.name.as_deref().unwrap_or_default());
        }
        let environment = self.environment.of(exchange);
        tags.set("environment", environment.unwrap_or_default());
        for tag in &self.static_tags {
            if !tags.has(&tag.name) {
                tags.set(tag.name.as_str(), tag.value.as_str());
            }
        }
        tags
    }

    /// `a=b; c=d` of the request; what is no pair, or a name that is taken, is left out.
    fn client_tags<'a>(&self, recorded: &'a Recorded, tags: &mut Tags<'a>) {
        let mut added = 0;
        for line in &recorded.captured.tags {
            let line = text(line);
            for (name, value) in line.split(';').filter_map(pair) {
                let own = PROTECTED.iter().any(|it| name.starts_with(it));
                if added < CLIENT_TAGS_MAX && !own && !tags.has(name) {
                    tags.set(name.to_owned(), value.to_owned());
                    added += 1;
                }
            }
        }
    }

    fn client<'a>(
        &'a self,
        exchange: &'a Exchange,
        state: &'a State,
        times: &Times,
        phases: &Phases,
        name: &str,
    ) -> Span<'a> {
        let mut tags = Tags::default();
        tags.set("x-tardis-traceid", state.tardis.text());
        let mut annotations = Vec::new();
        self.phases(times, phases, &mut tags, &mut annotations);
        tries(exchange, times, &mut tags, &mut annotations);
        let last = exchange.observed.tries.last();
        if let Some(service) = exchange.service.as_ref().filter(|_| last.is_some()) {
            tags.set("peer.hostname", cut(&service.host));
        }
        let remote = Remote::new(
            self.default_service.as_deref(),
            last.and_then(|it| it.host.parse().ok()),
            last.map(|it| it.port),
        );
        Span {
            trace_id: tracing::trace_digits(state.trace_id, state.trace_bytes),
            parent_id: Some(format!("{:016x}", state.server_id)),
            id: format!("{:016x}", state.client_id),
            kind: "CLIENT",
            name: format!("{name} (proxy)"),
            timestamp: times.at(phases.access_begun),
            duration: length(phases.access_begun, phases.ended),
            local_endpoint: Local {
                service_name: &self.component,
            },
            remote_endpoint: remote,
            tags,
            annotations,
        }
    }

    fn phases(
        &self,
        times: &Times,
        phases: &Phases,
        tags: &mut Tags<'_>,
        annotations: &mut Vec<Annotation>,
    ) {
        match self.flavor {
            Flavor::Annotations => annotations.extend([
                times.annotation("kas", phases.access_begun),
                times.annotation("kaf", phases.access_ended),
                times.annotation("khs", phases.head_begun),
                times.annotation("khf", phases.head_ended),
                times.annotation("kbs", phases.head_ended),
                times.annotation("kbf", phases.ended),
            ]),
            Flavor::Tags => {
                let mut length = |name: &'static str, from: Instant, to: Instant| {
                    tags.set(name, millis(to.saturating_duration_since(from)));
                };
                let Phases {
                    access_begun,
                    access_ended,
                    head_begun,
                    head_ended,
                    ended,
                    ..
                } = *phases;
                length("kong.access.duration_ms", access_begun, access_ended);
                length("kong.header_filter.duration_ms", head_begun, head_ended);
                length("kong.body_filter.duration_ms", head_ended, ended);
            }
        }
    }
}

/// When each attempt began and ended, and what became of those that failed.
fn tries<'a>(
    exchange: &'a Exchange,
    times: &Times,
    tags: &mut Tags<'a>,
    annotations: &mut Vec<Annotation>,
) {
    let tries = &exchange.observed.tries;
    for (at, attempt) in tries.iter().enumerate() {
        let number = at + 1;
        let (begun, ended) = (attempt.attempt.begun, attempt.attempt.ended);
        annotations.push(times.annotation(format!("bts.{number}"), begun));
        annotations.push(times.annotation(format!("btf.{number}"), ended));
        if number == tries.len() && exchange.source == Source::Service {
            continue;
        }
        if !tags.has("error") {
            tags.set("error", "true");
        }
        tags.set(format!("kong.balancer.state.{number}"), "failed");
        if let Some(status) = exchange.upstream_statuses.get(at) {
            tags.set(
                format!("http.status_code.{number}"),
                status.as_str().to_owned(),
            );
        }
    }
}

/// `name=value`; the name has no space, the value is not blank.
fn pair(text: &str) -> Option<(&str, &str)> {
    let (name, value) = text.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let fine = !name.is_empty() && !name.contains(char::is_whitespace) && !value.is_empty();
    fine.then_some((name, value))
}
