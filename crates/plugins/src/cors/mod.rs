//! cors: tells browsers which other origins may call (Kong 3.9.3).

mod origins;

use std::sync::Arc;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName,
    HeaderValue, ORIGIN, VARY,
};
use http::{Method, Response};
use o28m_gateway::{Access, BadConfig, Exchange, Plugin, PluginKind, Verdict};
use o28m_net::Body;
use serde::Deserialize;
use serde_json::Value;

use crate::config;
use origins::{Answer, Origins};

const ALLOW_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-allow-private-network");
const REQUEST_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-request-private-network");
const TRUE: HeaderValue = HeaderValue::from_static("true");
const ANY: HeaderValue = HeaderValue::from_static("*");
const VARY_ORIGIN: HeaderValue = HeaderValue::from_static("Origin");
const ALL_METHODS: &str = "GET,HEAD,PUT,PATCH,POST,DELETE,OPTIONS,TRACE,CONNECT";

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    origins: Vec<String>,
    headers: Vec<String>,
    exposed_headers: Vec<String>,
    methods: Option<Vec<String>>,
    max_age: Option<f64>,
    credentials: bool,
    private_network: bool,
    preflight_continue: bool,
    allow_origin_absent: Option<bool>,
}

pub(crate) struct Kind;

impl PluginKind for Kind {
    fn name(&self) -> &'static str {
        "cors"
    }

    fn is_shareable(&self) -> bool {
        true
    }

    fn priority(&self) -> i32 {
        2000
    }

    fn configure(&self, config: &Value) -> Result<Arc<dyn Plugin>, BadConfig> {
        let config: Config = config::read(config)?;
        let origins = Origins::new(&config.origins)?;
        if config.credentials && origins.is_everybody() {
            tracing::warn!("cors lets every origin call with the credentials of its users");
        }
        let methods = config.methods.map(|methods| methods.join(","));
        Ok(Arc::new(Cors {
            origins,
            headers: list(&config.headers)?,
            exposed_headers: list(&config.exposed_headers)?,
            methods: value(methods.as_deref().unwrap_or(ALL_METHODS))?,
            max_age: config
                .max_age
                .map(|seconds| value(&seconds.to_string()))
                .transpose()?,
            credentials: config.credentials,
            private_network: config.private_network,
            preflight_continue: config.preflight_continue,
            allow_origin_absent: config.allow_origin_absent.unwrap_or(true),
        }))
    }
}

fn value(text: &str) -> Result<HeaderValue, BadConfig> {
    HeaderValue::try_from(text).map_err(|_| BadConfig(format!("{text:?} is no header value")))
}

/// `None` for an empty list.
fn list(items: &[String]) -> Result<Option<HeaderValue>, BadConfig> {
    let some = (!items.is_empty()).then(|| items.join(","));
    some.map(|text| value(&text)).transpose()
}

struct Cors {
    origins: Origins,
    headers: Option<HeaderValue>,
    exposed_headers: Option<HeaderValue>,
    methods: HeaderValue,
    max_age: Option<HeaderValue>,
    credentials: bool,
    private_network: bool,
    preflight_continue: bool,
    allow_origin_absent: bool,
}

/// The response gets no headers: it is the answer to a preflight, or the upstream gives it.
#[derive(Clone, Copy)]
struct Preflight;

fn origin(exchange: &Exchange) -> Option<&str> {
    exchange.header("origin").filter(|it| !it.is_empty())
}

fn is_preflight(exchange: &Exchange) -> bool {
    let headers = &exchange.request.headers;
    let asks = |name: &HeaderName| headers.get(name).is_some_and(|it| !it.is_empty());
    exchange.request.method == Method::OPTIONS
        && asks(&ORIGIN)
        && asks(&ACCESS_CONTROL_REQUEST_METHOD)
}

impl Cors {
    /// Who may read the response, and whether with credentials.
    fn permit(&self, origin: Option<&str>, headers: &mut HeaderMap) {
        if self.origins.vary() {
            headers.append(VARY, VARY_ORIGIN);
        }
        let allowed = match self.origins.answer(origin) {
            Answer::Everybody => {
                // Credentials are not for everybody: the caller is named instead.
                let caller = origin.filter(|_| self.credentials);
                let caller = caller.and_then(|it| HeaderValue::try_from(it).ok());
                let is_named = caller.is_some();
                if is_named && !self.origins.vary() {
                    headers.append(VARY, VARY_ORIGIN);
                }
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, caller.unwrap_or(ANY));
                is_named
            }
            Answer::Only(value) => {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, value);
                true
            }
            Answer::Nobody => {
                headers.remove(ACCESS_CONTROL_ALLOW_ORIGIN);
                false
            }
        };
        if self.credentials && allowed {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
        }
    }

    fn preflight(&self, exchange: &Exchange) -> Response<Body> {
        let asked = &exchange.request.headers;
        let mut response = Response::new(Body::Empty);
        let headers = response.headers_mut();
        self.permit(origin(exchange), headers);
        let allowed = self.headers.as_ref();
        if let Some(allowed) = allowed.or_else(|| asked.get(ACCESS_CONTROL_REQUEST_HEADERS)) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed.clone());
        }
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
        if let Some(max_age) = &self.max_age {
            headers.insert(ACCESS_CONTROL_MAX_AGE, max_age.clone());
        }
        if self.private_network && asked.get(REQUEST_PRIVATE_NETWORK) == Some(&TRUE) {
            headers.insert(ALLOW_PRIVATE_NETWORK, TRUE);
        }
        response
    }
}

impl Plugin for Cors {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        if !is_preflight(exchange) {
            return Access::CONTINUE;
        }
        exchange.request.extensions.insert(Preflight);
        if self.preflight_continue {
            return Access::CONTINUE;
        }
        Access::Now(Verdict::Respond(self.preflight(exchange)))
    }

    fn header_filter(&self, exchange: &mut Exchange, response: &mut http::response::Parts) {
        let is_done = exchange.request.extensions.remove::<Preflight>().is_some();
        let origin = origin(exchange);
        if is_done || (origin.is_none() && !self.allow_origin_absent) {
            return;
        }
        self.permit(origin, &mut response.headers);
        if let Some(exposed) = &self.exposed_headers {
            let headers = &mut response.headers;
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
        }
    }
}

#[cfg(test)]
mod tests;
