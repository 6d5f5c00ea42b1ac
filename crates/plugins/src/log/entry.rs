//! What an entry says of a request, in Kong's form. What would let its reader act as the client is
//! hidden.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use http::HeaderMap;
use o28m_gateway::{Exchange, Source};
use o28m_kong::{Consumer, Route, Service};
use serde_json::{Map, Value, json};

use crate::redact::{HIDDEN, hidden, is_secret_argument, is_secret_header, target};

/// The entry of a finished exchange.
pub(super) fn of(exchange: &Exchange) -> Value {
    let observed = &exchange.observed;
    let traffic = observed.traffic().unwrap_or_default();
    let uri = target(&exchange.request.uri);
    let connection = &exchange.connection;
    let host = exchange.header("host").unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.bytes().all(|it| it.is_ascii_digit()) {
            name
        } else {
            host
        }
    });
    let scheme = connection.scheme.name();
    let port = connection.local.port();
    let statuses: Vec<_> = exchange
        .upstream_statuses
        .iter()
        .map(|it| it.as_str())
        .collect();
    let mut entry = json!({
        "request": {
            "id": exchange.request_id.as_str(),
            "uri": uri,
            "url": format!("{scheme}://{host}:{port}{uri}"),
            "querystring": arguments(exchange.request.uri.query().unwrap_or_default()),
            "method": exchange.request.method.as_str(),
            "headers": headers(&exchange.request.headers),
            "size": traffic.0,
        },
        "upstream_uri": observed.upstream_uri.as_deref().map_or_else(String::new, hidden),
        "upstream_status": statuses.join(", "),
        "response": {
            "status": exchange.status.map(|it| it.as_u16()),
            "headers": observed.response_headers.as_deref().map(headers).unwrap_or_default(),
            "size": traffic.1,
        },
        "latencies": latencies(exchange),
        "client_ip": exchange.client_ip.to_string(),
        "started_at": exchange.started.millis(),
        "source": if exchange.source == Source::Service { "upstream" } else { "kong" },
        "workspace_name": "default",
    });
    let Value::Object(members) = &mut entry else {
        return entry;
    };
    let mut add = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            members.insert(name.to_owned(), value);
        }
    };
    add("tries", tries(exchange));
    add("authenticated_entity", authenticated(exchange));
    add("route", exchange.route.as_deref().map(route));
    add("service", exchange.service.as_deref().map(service));
    add("consumer", exchange.consumer.as_deref().map(consumer));
    entry
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

fn latencies(exchange: &Exchange) -> Value {
    let (observed, now) = (&exchange.observed, Instant::now());
    let between = |from: Instant, to: Instant| millis(to.saturating_duration_since(from));
    match observed.upstream {
        Some(attempt) => json!({
            "kong": between(observed.begun, attempt.begun),
            "proxy": between(attempt.begun, attempt.ended),
            "request": between(observed.begun, now),
            "receive": between(attempt.ended, now),
        }),
        None => json!({
            "kong": between(observed.begun, now),
            "proxy": -1,
            "request": between(observed.begun, now),
            "receive": 0,
        }),
    }
}

fn tries(exchange: &Exchange) -> Option<Value> {
    let observed = &exchange.observed;
    let count = observed.tries.len();
    let tries = observed.tries.iter().enumerate().map(|(at, attempt)| {
        let since = attempt
            .attempt
            .begun
            .saturating_duration_since(observed.begun);
        let start = exchange
            .started
            .millis()
            .saturating_add_unsigned(millis(since));
        let mut shown =
            json!({"balancer_start": start, "ip": &*attempt.host, "port": attempt.port});
        let failed = at + 1 < count || exchange.source != Source::Service;
        if let (true, Value::Object(members)) = (failed, &mut shown) {
            members.insert("state".to_owned(), json!("failed"));
            let code = exchange.upstream_statuses.get(at).map(|it| it.as_u16());
            members.insert("code".to_owned(), json!(code));
        }
        shown
    });
    (count > 0).then(|| tries.collect())
}

fn authenticated(exchange: &Exchange) -> Option<Value> {
    let credential = exchange.credential.as_ref()?;
    let consumer = exchange.consumer.as_ref().map(|it| &it.id);
    Some(json!({"id": credential.id, "consumer_id": consumer}))
}

fn route(route: &Route) -> Value {
    json!({
        "id": route.id, "name": route.name, "protocols": route.protocols,
        "methods": route.methods, "hosts": route.hosts, "paths": route.paths,
        "headers": route.headers, "snis": route.snis, "regex_priority": route.regex_priority,
        "https_redirect_status_code": route.https_redirect_status_code,
        "strip_path": route.strip_path, "preserve_host": route.preserve_host,
        "request_buffering": route.request_buffering,
        "response_buffering": route.response_buffering,
        "service": route.service.as_ref().map(|it| json!({"id": it.id})),
    })
}

fn service(service: &Service) -> Value {
    json!({
        "id": service.id, "name": service.name, "enabled": service.enabled,
        "protocol": service.protocol, "host": service.host, "port": service.port,
        "path": service.path, "retries": service.retries,
        "connect_timeout": service.connect_timeout, "write_timeout": service.write_timeout,
        "read_timeout": service.read_timeout,
    })
}

fn consumer(consumer: &Consumer) -> Value {
    json!({"id": consumer.id, "username": consumer.username, "custom_id": consumer.custom_id})
}

/// Names and values; what comes several times is a list.
fn collect<'a>(pairs: impl Iterator<Item = (Cow<'a, str>, Value)>) -> Map<String, Value> {
    let mut members = Map::new();
    for (name, value) in pairs {
        match members.get_mut(&*name) {
            None => {
                members.insert(name.into_owned(), value);
            }
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = json!([first.take(), value]),
        }
    }
    members
}

fn headers(headers: &HeaderMap) -> Map<String, Value> {
    collect(headers.iter().map(|(name, value)| {
        let value = if is_secret_header(name.as_str()) {
            HIDDEN.into()
        } else {
            String::from_utf8_lossy(value.as_bytes())
        };
        (Cow::Borrowed(name.as_str()), Value::from(value))
    }))
}

fn arguments(query: &str) -> Map<String, Value> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    collect(pairs.map(|pair| {
        let mut decoded = form_urlencoded::parse(pair.as_bytes());
        let (name, value) = decoded.next().unwrap_or_default();
        let value = match pair.contains('=') {
            _ if is_secret_argument(&name) => Value::from(HIDDEN),
            true => Value::from(value),
            // As the original shows an argument without a value.
            false => Value::Bool(true),
        };
        (name, value)
    }))
}
