//! The public listener: where a request goes, and what every response has.

use std::sync::Arc;
use std::time::Instant;

use http::{Method, Request, StatusCode};
use o28m_core::limits::{REALM_BODY_BYTES_MAX, TOKEN_BODY_BYTES_MAX};
use o28m_iris::Iris;
use o28m_net::{Body, BoxFuture, Connection, HttpService, TooLarge};
use o28m_telemetry::metrics::Registry;

use crate::base::Base;
use crate::reply::{self, Reply};
use crate::requests::Requests;
use crate::router::{self, BadPath};
use crate::{Settings, admin, browser, protocol};

/// The public listener.
pub(crate) struct Public {
    iris: Arc<Iris>,
    settings: Settings,
    metrics: Registry,
    requests: Requests,
}

/// A request without its body, which is handed on apart: it cannot be shared between threads.
pub(crate) struct Call<'a> {
    pub(crate) iris: &'a Iris,
    /// Where clients that authenticate are counted, if they are.
    pub(crate) client_auth: Option<&'a Registry>,
    pub(crate) base: Base,
    pub(crate) method: Method,
    pub(crate) headers: http::HeaderMap,
    pub(crate) query: Option<String>,
}

impl Call<'_> {
    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The access token of the request, bound to a key or not.
    pub(crate) fn token(&self) -> Option<&str> {
        let (scheme, token) = self.header("authorization")?.split_once(' ')?;
        let is_token = ["bearer", "dpop"]
            .iter()
            .any(|it| scheme.eq_ignore_ascii_case(it));
        is_token.then(|| token.trim()).filter(|it| !it.is_empty())
    }

    /// The bearer token of the request.
    pub(crate) fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self.header("authorization")?.split_once(' ')?;
        scheme
            .eq_ignore_ascii_case("bearer")
            .then(|| token.trim())
            .filter(|it| !it.is_empty())
    }

    /// The media type of the body, without parameters, in lower case.
    pub(crate) fn media_type(&self) -> Option<String> {
        let value = self.header("content-type")?;
        Some(value.split(';').next()?.trim().to_ascii_lowercase())
    }
}

/// Reads a body, or makes the response that refuses it.
pub(crate) async fn read(body: Body, bytes_max: usize) -> Result<bytes::Bytes, Reply> {
    match body.collect(bytes_max).await {
        Ok(bytes) => Ok(bytes),
        Err(TooLarge::Limit) => Err(reply::too_large()),
        Err(TooLarge::Read(_)) => {
            let text = "Request body could not be read";
            Err(reply::oauth(
                StatusCode::BAD_REQUEST,
                "invalid_request",
                text,
            ))
        }
    }
}

/// A request body of a protocol endpoint.
pub(crate) async fn read_form(body: Body) -> Result<bytes::Bytes, Reply> {
    read(body, TOKEN_BODY_BYTES_MAX).await
}

/// A request body of the Admin REST API.
pub(crate) async fn read_json(body: Body) -> Result<bytes::Bytes, Reply> {
    read(body, REALM_BODY_BYTES_MAX).await
}

impl Public {
    pub(crate) fn new(iris: Arc<Iris>, settings: Settings, metrics: Registry) -> Self {
        Self {
            iris,
            settings,
            requests: Requests::new(metrics.clone()),
            metrics,
        }
    }

    /// The segments below the relative path; `None` outside of it.
    fn below(&self, path: &str) -> Result<Option<Vec<String>>, BadPath> {
        let mut segments = router::segments(path)?;
        let own = self.settings.relative_path.trim_matches('/');
        if own.is_empty() {
            return Ok(Some(segments));
        }
        let own: Vec<&str> = own.split('/').collect();
        let is_below = segments.iter().take(own.len()).eq(&own);
        Ok(is_below.then(|| segments.split_off(own.len())))
    }

    async fn answer(
        &self,
        request: Request<Body>,
        connection: &Connection,
    ) -> (&'static str, Reply) {
        let (parts, body) = request.into_parts();
        let segments = match self.below(parts.uri.path()) {
            Ok(Some(segments)) => segments,
            Ok(None) => return ("other", reply::unknown_path()),
            Err(BadPath::NotNormalized) => {
                let text = "Request path not normalized";
                let reply = reply::oauth(StatusCode::BAD_REQUEST, "missingNormalization", text);
                return ("other", reply);
            }
            Err(BadPath::NotText) => return ("other", reply::unknown_path()),
        };
        let call = Call {
            iris: &self.iris,
            client_auth: self.settings.client_auth_metrics.then_some(&self.metrics),
            base: Base::of(&self.settings, &parts.headers, connection),
            query: parts.uri.query().map(str::to_owned),
            method: parts.method,
            headers: parts.headers,
        };
        match segments.split_first() {
            None => (
                "root",
                reply::redirect(&format!("{}/admin/", call.base.url)),
            ),
            Some((first, rest)) if first == "realms" => protocol::answer(call, body, rest).await,
            Some((first, rest)) if first == "admin" => {
                ("admin", admin::answer(call, body, rest).await)
            }
            Some((first, rest)) if first == "resources" => {
                ("resources", browser::assets::answer(rest))
            }
            Some(_) => ("other", reply::unknown_path()),
        }
    }
}

impl HttpService for Public {
    fn call<'a>(
        &'a self,
        request: Request<Body>,
        connection: &'a Connection,
    ) -> BoxFuture<'a, http::Response<Body>> {
        Box::pin(async move {
            let started = Instant::now();
            let method = request.method().clone();
            let (endpoint, mut reply) = self.answer(request, connection).await;
            self.requests
                .count(endpoint, &method, reply.status(), started);
            if method == Method::HEAD {
                *reply.body_mut() = Body::Empty;
            }
            reply::secure(reply)
        })
    }
}
