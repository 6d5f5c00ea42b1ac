//! The access log: one line for each request, the platform's JSON or Kong's own (spec gateway-proxy
//! 13.1).

use std::fmt::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HOST, REFERER, USER_AGENT};
use o28m_core::Timestamp;
use o28m_telemetry::lines::{Lines, push_iso8601};
use o28m_telemetry::metrics::Counter;

use crate::{Error, Exchange};

/// What a line looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// The platform's JSON.
    #[default]
    Platform,
    /// The combined format with the id of the request, as Kong has it (`kong_log_format`).
    Kong,
}

/// A running access log; dropping it writes what is queued.
pub(crate) struct AccessLog {
    lines: Lines,
    format: AccessLogFormat,
}

impl AccessLog {
    pub(crate) fn open(
        path: &Path,
        format: AccessLogFormat,
        dropped: Counter,
    ) -> Result<Self, Error> {
        match Lines::open("access log", path, dropped) {
            Ok(lines) => Ok(Self { lines, format }),
            Err(source) => Err(Error::AccessLog {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Queues the line of a finished exchange.
    pub(crate) fn log(&self, exchange: &Exchange, now: Timestamp) {
        let line = match self.format {
            AccessLogFormat::Platform => line(exchange, now),
            AccessLogFormat::Kong => combined(exchange, now),
        };
        // What did not fit is counted.
        let _queued = self.lines.write(line);
    }

    /// Lines tell how long bodies were.
    pub(crate) fn needs_traffic(&self) -> bool {
        self.format == AccessLogFormat::Kong
    }
}

/// nginx's combined format, and the id of the request.
fn combined(exchange: &Exchange, now: Timestamp) -> String {
    let request = &exchange.request;
    let mut line = String::with_capacity(256);
    let _infallible = write!(line, "{} - ", exchange.client_ip);
    push_escaped(&mut line, user(exchange).as_deref().unwrap_or(b"-"));
    line.push_str(" [");
    push_local_time(&mut line, now.seconds());
    line.push_str("] \"");
    push_escaped(&mut line, request.method.as_str().as_bytes());
    line.push(' ');
    let target = request.uri.path_and_query();
    push_escaped(&mut line, target.map_or("/", |it| it.as_str()).as_bytes());
    let status = exchange.status.map_or(0, |it| it.as_u16());
    let bytes = exchange.observed.response_body_bytes();
    let _infallible = write!(line, " {:?}\" {status:03} {bytes} \"", request.version);
    for name in [REFERER, USER_AGENT] {
        let value = request.headers.get(name);
        push_escaped(&mut line, value.map_or(b"-", |it| it.as_bytes()));
        line.push_str("\" ");
        line.push('"');
    }
    line.pop();
    let _infallible = writeln!(line, "kong_request_id: \"{}\"", exchange.request_id);
    line
}

/// The user that basic authentication names, proved or not.
fn user(exchange: &Exchange) -> Option<Vec<u8>> {
    let value = exchange.request.headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, credentials) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let text = STANDARD.decode(credentials.trim_ascii()).ok()?;
    let user = text.split(|byte| *byte == b':').next()?;
    (!user.is_empty()).then(|| user.to_vec())
}

/// As nginx escapes: quotes, backslashes and what is not printable ASCII.
fn push_escaped(line: &mut String, bytes: &[u8]) {
    for byte in bytes {
        match byte {
            b'"' | b'\\' | ..0x20 | 0x7f.. => {
                let _infallible = write!(line, "\\x{byte:02X}");
            }
            byte => line.push(char::from(*byte)),
        }
    }
}

/// `24/Nov/2026:07:00:16 +0000`.
fn push_local_time(line: &mut String, seconds: i64) {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let mut iso = String::with_capacity(25);
    push_iso8601(&mut iso, seconds);
    let part = |from: usize, to: usize| iso.get(from..to).unwrap_or_default();
    let month = part(5, 7).parse::<usize>().unwrap_or(1);
    let month = MONTHS.get(month.saturating_sub(1)).unwrap_or(&"Jan");
    let (day, year, time) = (part(8, 10), part(0, 4), part(11, 19));
    let _infallible = write!(line, "{day}/{month}/{year}:{time} +0000");
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
