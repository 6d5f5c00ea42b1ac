//! http-log: entries go to an HTTP server.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Method;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use o28m_gateway::BadConfig;
use o28m_net::BoxFuture;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::Value;

use super::{Kind, Plan};
use crate::config;
use crate::delivery::{Calls, Deliver, Deliveries, Endpoint, Failure, Settings, json_array};

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    http_endpoint: String,
    method: String,
    content_type: String,
    timeout: f64,
    /// Idle connections are kept as long as those to upstreams.
    #[serde(rename = "keepalive")]
    _keepalive: f64,
    retry_count: Option<i64>,
    queue_size: Option<usize>,
    flush_timeout: Option<f64>,
    headers: BTreeMap<String, String>,
    queue: Settings,
    custom_fields_by_lua: BTreeMap<String, String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            http_endpoint: String::new(),
            method: "POST".to_owned(),
            content_type: "application/json".to_owned(),
            timeout: 10_000.0,
            _keepalive: 60_000.0,
            retry_count: None,
            queue_size: None,
            flush_timeout: None,
            headers: BTreeMap::new(),
            queue: Settings::default(),
            custom_fields_by_lua: BTreeMap::new(),
        }
    }
}

/// The kind.
pub(crate) fn kind(deliveries: &Deliveries) -> Kind {
    Kind {
        name: "http-log",
        priority: 12,
        deliveries: deliveries.clone(),
        plan,
    }
}

fn plan(deliveries: &Deliveries, config: &Value) -> Result<Plan, BadConfig> {
    let config: Config = config::read(config)?;
    let mut settings = config.queue;
    // The deprecated fields count unless they have Kong's former defaults.
    if let Some(size) = config.queue_size.filter(|it| *it != 1) {
        settings.max_batch_size = size;
    }
    if let Some(delay) = config.flush_timeout.filter(|it| *it != 2.0) {
        settings.max_coalescing_delay = delay;
    }
    if config.retry_count.is_some_and(|it| it != 10) {
        tracing::warn!("http-log: retry_count has no effect; queue.max_retry_time has");
    }
    let (url, authorization) = credentials(&config.http_endpoint)?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, value(&config.content_type)?);
    if let Some(authorization) = authorization {
        headers.insert(AUTHORIZATION, authorization);
    }
    for (name, text) in &config.headers {
        headers.insert(config::header_name(name)?, value(text)?);
    }
    let calls = super::socket::whole_millis(config.timeout);
    let calls = Calls {
        connect: calls,
        send: calls,
        read: calls,
    };
    let method = Method::from_bytes(config.method.as_bytes());
    let server = Server {
        endpoint: Endpoint::new(deliveries, &url, headers, calls)?,
        method: method.map_err(|_| BadConfig("method cannot be sent".into()))?,
        alone: settings.max_batch_size == 1,
    };
    Ok(Plan {
        settings,
        deliver: Arc::new(server),
        lines: false,
        customs: config.custom_fields_by_lua,
    })
}

fn value(text: &str) -> Result<HeaderValue, BadConfig> {
    HeaderValue::try_from(text).map_err(|_| BadConfig("a header cannot be sent".into()))
}

/// The URL without user and password, and the header that says them.
fn credentials(url: &str) -> Result<(String, Option<HeaderValue>), BadConfig> {
    let plain = || (url.to_owned(), None);
    let Some((scheme, rest)) = url.split_once("//") else {
        return Ok(plain());
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let Some((user, host)) = authority.rsplit_once('@') else {
        return Ok(plain());
    };
    let user: Vec<u8> = percent_decode_str(user).collect();
    let mut header = value(&format!("Basic {}", STANDARD.encode(user)))?;
    header.set_sensitive(true);
    Ok((format!("{scheme}//{host}{path}"), Some(header)))
}

struct Server {
    endpoint: Endpoint,
    method: Method,
    /// Each call has one entry, which is no array.
    alone: bool,
}

impl Deliver for Server {
    fn deliver<'a>(&'a self, batch: &'a [Bytes]) -> BoxFuture<'a, Result<(), Failure>> {
        let body = match batch {
            [entry] if self.alone => entry.clone(),
            entries => json_array(entries),
        };
        Box::pin(self.endpoint.send(self.method.clone(), body))
    }
}
