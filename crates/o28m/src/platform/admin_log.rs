//! The Admin API's access log: one JSON line for each request (spec gateway-admin 2.5). Neither bodies
//! nor credentials get into it; of these only the user's name.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, Request, Response, StatusCode};
use o28m_core::{Ambient, Timestamp};
use o28m_net::{Body, BoxFuture, Connection, HttpService, Rejection};
use o28m_telemetry::lines::{Lines, push_iso8601};
use o28m_telemetry::metrics::Registry;

/// Logs what a service answers.
pub(super) struct AdminLog {
    service: Arc<dyn HttpService>,
    lines: Lines,
    ambient: Ambient,
}

/// What a line says of a request.
struct Asked {
    method: String,
    path: String,
    source: String,
    source_internal: String,
    remote_user: String,
    host: String,
}

impl AdminLog {
    /// # Errors
    /// When the log cannot be opened.
    pub(super) fn open(
        service: Arc<dyn HttpService>,
        path: &Path,
        metrics: &Registry,
        ambient: Ambient,
    ) -> std::io::Result<Self> {
        let dropped = metrics.counter(
            "o28m_admin_log_lines_dropped_total",
            "Lines of the Admin API's access log that were not written.",
            &[],
        );
        Ok(Self {
            service,
            lines: Lines::open("admin access log", path, dropped)?,
            ambient,
        })
    }

    fn write(&self, asked: &Asked, status: StatusCode) {
        let _dropped_is_counted = self.lines.write(line(asked, status, self.ambient.now()));
    }
}

impl HttpService for AdminLog {
    fn call<'a>(
        &'a self,
        request: Request<Body>,
        connection: &'a Connection,
    ) -> BoxFuture<'a, Response<Body>> {
        let asked = asked(request.method().as_str(), request.uri(), request.headers());
        Box::pin(async move {
            let response = self.service.call(request, connection).await;
            self.write(&asked, response.status());
            response
        })
    }

    fn reject(&self, rejection: &Rejection, connection: &Connection) -> Response<Body> {
        let response = self.service.reject(rejection, connection);
        let asked = match &rejection.head {
            Some(head) => asked(head.method.as_str(), &head.uri, &head.headers),
            None => asked("-", &http::Uri::default(), &HeaderMap::new()),
        };
        self.write(&asked, response.status());
        response
    }
}

fn asked(method: &str, uri: &http::Uri, headers: &HeaderMap) -> Asked {
    let header = |name: &str| {
        let value = headers.get(name);
        value.map_or("-".to_owned(), |it| {
            String::from_utf8_lossy(it.as_bytes()).into_owned()
        })
    };
    let host = headers.get(HOST).and_then(|it| it.to_str().ok());
    Asked {
        method: method.to_owned(),
        path: uri.path().to_owned(),
        source: header("x-original-forwarded-for"),
        source_internal: header("x-real-ip"),
        remote_user: user(headers).unwrap_or("-".to_owned()),
        host: host.map_or("-".to_owned(), |it| without_port(it).to_ascii_lowercase()),
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// The name in basic credentials, whether they are right or not.
fn user(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(encoded.trim()).ok()?;
    let end = decoded.iter().position(|byte| *byte == b':')?;
    let name = String::from_utf8_lossy(decoded.get(..end)?).into_owned();
    Some(name).filter(|name| !name.is_empty())
}

/// The line, with the original's keys, order and spaces.
fn line(asked: &Asked, status: StatusCode, now: Timestamp) -> String {
    let mut line = String::with_capacity(384);
    line.push_str("{ \"@timestamp\": \"");
    push_iso8601(&mut line, now.seconds());
    line.push_str("\", \"@service\": \"admin\", \"@fields\": { ");
    let fields = [
        ("source", asked.source.as_str()),
        ("source_internal", &asked.source_internal),
        ("remote_user", &asked.remote_user),
        ("status", status.as_str()),
        ("request_method", &asked.method),
        ("request_path", &asked.path),
        ("hostname_ingress", &asked.host),
        ("eventclassid", ""),
        ("event_details", ""),
    ];
    for (at, (key, value)) in fields.into_iter().enumerate() {
        let separator = if at == 0 { "" } else { ", " };
        let value = serde_json::Value::from(value);
        let _infallible = write!(line, "{separator}\"{key}\": {value}");
    }
    line.push_str(" } }\n");
    line
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_line_has_the_users_name_and_no_secret() {
        let mut headers = HeaderMap::new();
        let secret = STANDARD.encode("admin:hunter2");
        let basic = HeaderValue::try_from(format!("Basic {secret}")).unwrap();
        headers.insert(AUTHORIZATION, basic);
        headers.insert(HOST, HeaderValue::from_static("Admin.example.com:8001"));
        headers.insert("x-real-ip", HeaderValue::from_static("10.0.0.1\"x"));
        let uri = "/services/a?apikey=hunter3".parse().unwrap();
        let asked = asked("GET", &uri, &headers);
        let line = line(&asked, StatusCode::OK, Timestamp::from_seconds(0));
        assert!(line.ends_with('\n') && !line.contains("hunter") && !line.contains(&secret));
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["@timestamp"], "1970-01-01T00:00:00+00:00");
        assert_eq!(line["@service"], "admin");
        let fields = line["@fields"].as_object().unwrap();
        let keys: Vec<&str> = fields.keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            [
                "source",
                "source_internal",
                "remote_user",
                "status",
                "request_method",
                "request_path",
                "hostname_ingress",
                "eventclassid",
                "event_details"
            ]
        );
        for (key, value) in [
            ("source", "-"),
            ("source_internal", "10.0.0.1\"x"),
            ("remote_user", "admin"),
            ("status", "200"),
            ("request_path", "/services/a"),
            ("hostname_ingress", "admin.example.com"),
        ] {
            assert_eq!(fields[key], value, "{key}");
        }
    }

    #[test]
    fn other_credentials_name_nobody() {
        for value in ["Bearer abc", "Basic !", "Basic", "Basic Om5vbmU="] {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_static(value));
            assert_eq!(user(&headers), None, "{value}");
        }
    }
}
