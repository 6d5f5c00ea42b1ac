//! The platform's access log: one JSON line for each request (spec gateway-proxy 13.1).

use std::fmt::Write as _;
use std::path::Path;

use http::header::HOST;
use o28m_core::Timestamp;
use o28m_telemetry::lines::{Lines, push_iso8601};
use o28m_telemetry::metrics::Counter;

use crate::{Error, Exchange};

/// A running access log; dropping it writes what is queued.
pub(crate) struct AccessLog(Lines);

impl AccessLog {
    pub(crate) fn open(path: &Path, dropped: Counter) -> Result<Self, Error> {
        match Lines::open("access log", path, dropped) {
            Ok(lines) => Ok(Self(lines)),
            Err(source) => Err(Error::AccessLog {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Queues the line of a finished exchange.
    pub(crate) fn log(&self, exchange: &Exchange, now: Timestamp) {
        // What did not fit is counted.
        let _queued = self.0.write(line(exchange, now));
    }
}

/// The line, with the original's keys, order and spaces.
fn line(exchange: &Exchange, now: Timestamp) -> String {
    let headers = &exchange.request.headers;
    let event = exchange.security_event;
    let header = |name: &str| {
        let value = headers.get(name);
        value.map_or("-".into(), |it| String::from_utf8_lossy(it.as_bytes()))
    };
    let host = headers.get(HOST).and_then(|it| it.to_str().ok());
    let host = host.map(|it| crate::request::bare_host(it).to_ascii_lowercase());
    let status = exchange
        .status
        .map_or("-".to_owned(), |it| it.as_u16().to_string());
    let statuses: Vec<_> = exchange
        .upstream_statuses
        .iter()
        .map(|it| it.as_str())
        .collect();
    let upstream_status = if statuses.is_empty() {
        "-".to_owned()
    } else {
        statuses.join(", ")
    };
    let mut line = String::with_capacity(512);
    line.push_str("{ \"@timestamp\": \"");
    push_iso8601(&mut line, now.seconds());
    line.push_str("\", \"@service\": \"proxy\", \"@fields\": { ");
    let fields = [
        ("source", header("x-original-forwarded-for")),
        ("source_internal", header("x-real-ip")),
        ("status", status.into()),
        ("request_method", exchange.request.method.as_str().into()),
        ("request_path", exchange.path.as_str().into()),
        ("hostname_ingress", host.map_or("-".into(), Into::into)),
        ("hostname_upstream", header("remote_api_url")),
        ("X-B3-TraceId", header("x-b3-traceid")),
        ("upstream_status", upstream_status.into()),
        (
            "gateway_consumer",
            exchange
                .gateway_consumer
                .as_deref()
                .unwrap_or_default()
                .into(),
        ),
        ("eventclassid", event.map_or("", |it| it.class_id).into()),
        ("event_details", event.map_or("", |it| it.details).into()),
    ];
    for (at, (key, value)) in fields.into_iter().enumerate() {
        let separator = if at == 0 { "" } else { ", " };
        // nginx escapes in a way that is no JSON; ours is the same for ordinary values.
        let value = serde_json::Value::from(value);
        let _infallible = write!(line, "{separator}\"{key}\": {value}");
    }
    line.push_str(" } }\n");
    line
}
