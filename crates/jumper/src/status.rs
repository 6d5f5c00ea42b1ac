//! Health and metrics of the token gateway itself.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use o28m_core::Ambient;
use o28m_jose::slots::SharedKeys;
use o28m_net::Body;
use o28m_telemetry::metrics::{Histogram, Registry};

use crate::admission::Route;
use crate::transport::status_name;

/// Hosts that are told apart in the metric of plain targets.
const PLAIN_HOSTS_MAX: usize = 256;
const REQUEST_BOUNDS: &[f64] = &[0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0];
const UPSTREAM_BOUNDS: &[f64] = &[
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0,
];

/// Answers the probes and counts requests.
pub(crate) struct Status {
    registry: Registry,
    draining: AtomicBool,
    requests: RwLock<HashMap<(Route, Method, StatusCode), Histogram>>,
    upstream: Histogram,
    plain_hosts: Mutex<HashSet<Arc<str>>>,
}

impl Status {
    pub(crate) fn new(registry: &Registry, keys: &SharedKeys, ambient: &Ambient) -> Self {
        key_gauges(registry, keys, ambient);
        Self {
            registry: registry.clone(),
            draining: AtomicBool::new(false),
            requests: RwLock::default(),
            upstream: registry.histogram(
                "spring_cloud_gateway_http_client_requests_seconds",
                "Time to a provider's response head.",
                &[],
                UPSTREAM_BOUNDS,
            ),
            plain_hosts: Mutex::default(),
        }
    }

    /// From now on readiness fails.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// The answer of a probe or of the metrics.
    pub(crate) fn answer(&self, route: Route, headers: &HeaderMap) -> Response<Body> {
        let (status, body) = match route {
            Route::Metrics => return self.metrics(),
            Route::Readiness if self.draining.load(Ordering::Relaxed) => (
                StatusCode::SERVICE_UNAVAILABLE,
                r#"{"status":"OUT_OF_SERVICE"}"#,
            ),
            Route::Health => (
                StatusCode::OK,
                r#"{"status":"UP","groups":["liveness","readiness"]}"#,
            ),
            Route::Liveness
            | Route::Readiness
            | Route::Proxy
            | Route::Listener
            | Route::AutoEvent => (StatusCode::OK, r#"{"status":"UP"}"#),
        };
        let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
        let plain = accept.is_some_and(|accept| accept.contains("application/json"));
        let content_type = if plain {
            "application/json"
        } else {
            "application/vnd.spring-boot.actuator.v3+json"
        };
        response(status, content_type, body.to_owned())
    }

    fn metrics(&self) -> Response<Body> {
        let text = self.registry.render();
        response(
            StatusCode::OK,
            "text/plain;version=0.0.4;charset=utf-8",
            text,
        )
    }

    /// Counts a request of a traffic route; probes are not traffic.
    pub(crate) fn count(&self, route: Route, method: &Method, status: StatusCode, took: Duration) {
        if !matches!(route, Route::Proxy | Route::Listener | Route::AutoEvent) {
            return;
        }
        let key = (route, method.clone(), status);
        let requests = self.requests.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(histogram) = requests.get(&key) {
            return histogram.observe(took.as_secs_f64());
        }
        drop(requests);
        let histogram = self.histogram(route, method, status);
        histogram.observe(took.as_secs_f64());
        let mut requests = self
            .requests
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        requests.insert(key, histogram);
    }

    /// The gauge of the zone feed, which exists from now on.
    pub(crate) fn zone_feed(&self) -> Arc<AtomicBool> {
        let connected = Arc::new(AtomicBool::new(false));
        let read = Arc::clone(&connected);
        self.registry.gauge(
            "zone_health_redis_connection",
            "1 while the zone status feed is followed.",
            &[("status", "CONNECTED")],
            move || f64::from(u8::from(read.load(Ordering::Relaxed))),
        );
        connected
    }

    /// Counts a provider's response.
    pub(crate) fn count_upstream(&self, took: Duration) {
        self.upstream.observe(took.as_secs_f64());
    }

    /// Counts a request to a target without TLS. Routes may take their target from the client, so
    /// only so many hosts get a number of their own.
    pub(crate) fn count_plaintext(&self, host: &Arc<str>, action: &str, mode: &str) {
        let mut hosts = self
            .plain_hosts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if hosts.len() < PLAIN_HOSTS_MAX {
            hosts.insert(Arc::clone(host));
        }
        let known = hosts.contains(host);
        drop(hosts);
        let labels = [
            ("hostname", if known { host.as_ref() } else { "other" }),
            ("protocol", "http"),
            ("action", action),
            ("validation_mode", mode),
        ];
        let counter = self.registry.counter(
            "jumper_ssl_plaintext_connection_total",
            "Requests to providers without TLS.",
            &labels,
        );
        counter.add(1);
    }

    /// Every label is of a small closed set: admission lets seven methods pass, and statuses have
    /// three digits.
    fn histogram(&self, route: Route, method: &Method, status: StatusCode) -> Histogram {
        let route_id = match route {
            Route::Listener => "listener_route",
            Route::AutoEvent if method == Method::HEAD => "auto_event_route_head",
            Route::AutoEvent => "auto_event_route_post",
            Route::Proxy | Route::Health | Route::Liveness | Route::Readiness | Route::Metrics => {
                "jumper_route"
            }
        };
        let outcome = match status.as_u16() / 100 {
            1 => "INFORMATIONAL",
            2 => "SUCCESSFUL",
            3 => "REDIRECTION",
            4 => "CLIENT_ERROR",
            5 => "SERVER_ERROR",
            _ => "CUSTOM",
        };
        let name = status_name(status);
        let labels = [
            ("routeId", route_id),
            ("routeUri", "no://op"),
            ("outcome", outcome),
            ("status", if name.is_empty() { "CUSTOM" } else { &name }),
            ("httpStatusCode", status.as_str()),
            ("httpMethod", method.as_str()),
        ];
        self.registry.histogram(
            "spring_cloud_gateway_requests_seconds",
            "Time of requests through the token gateway.",
            &labels,
            REQUEST_BOUNDS,
        )
    }
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// Whether there is a key to sign with, and since when this set of keys is known.
fn key_gauges(registry: &Registry, keys: &SharedKeys, ambient: &Ambient) {
    let loaded = keys.clone();
    registry.gauge(
        "jumper_keyinfo_load_status",
        "1 when there is a usable signing key.",
        &[],
        move || f64::from(u8::from(loaded.load().signing.is_some())),
    );
    let (keys, ambient) = (keys.clone(), ambient.clone());
    let seen = Mutex::new((keys.load_full(), ambient.now()));
    registry.gauge(
        "jumper_keyinfo_load_last_timestamp",
        "Unix time in seconds at which the current set of keys was first seen.",
        &[],
        move || {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            let current = keys.load_full();
            if !Arc::ptr_eq(&current, &seen.0) {
                *seen = (current, ambient.now());
            }
            seen.1.seconds() as f64
        },
    );
}
