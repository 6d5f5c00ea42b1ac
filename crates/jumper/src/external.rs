//! Tokens of external identity providers: which credentials, how to ask, and keeping the answer.

use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use o28m_core::{Ambient, Secret, Timestamp};
use o28m_net::Body;
use o28m_net::client::{Pool, SendError, Timeouts};
use o28m_telemetry::metrics::{Counter, Registry};
use serde::Serialize;
use serde_json::Value;

use crate::cache::{Cache, Flights};
use crate::credentials::{TokenKey, TokenRequest, client_key};
use crate::signer::{CpuPool, SignError, sign_foreign};
use crate::target::{Destination, destination};
use crate::trace::Trace;
use crate::transport::{error_text, status_name};

/// Bytes of an identity provider's answer.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Attempts to reach the identity provider.
const ATTEMPTS_MAX: u32 = 3;
/// Wait before the second attempt; doubles for each further one.
const BACKOFF: Duration = Duration::from_millis(200);
/// Seconds a client assertion is valid.
const ASSERTION_TTL_S: i64 = 60;

/// How long tokens are kept and how long is waited for them.
#[derive(Clone, Copy, Debug)]
pub struct TokenCacheSettings {
    /// A token is not used in the last seconds of its life.
    pub ttl_offset: Duration,
    /// Tokens that are kept.
    pub entries_max: usize,
    /// Tokens are forgotten after this time even when they are still valid.
    pub expire_after_write: Duration,
    /// Longest wait for an identity provider's answer.
    pub timeout: Duration,
}

impl Default for TokenCacheSettings {
    fn default() -> Self {
        Self {
            ttl_offset: Duration::from_secs(10),
            entries_max: 10_000,
            expire_after_write: Duration::from_secs(30 * 60),
            timeout: Duration::from_secs(15),
        }
    }
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ExternalError {
    #[error("Missing oauth config credentials for consumer {consumer}")]
    NoCredentials { consumer: String },
    #[error("Invalid key configuration: {0}")]
    InvalidKey(String),
    #[error(transparent)]
    Sign(#[from] SignError),
    #[error("Failed to retrieve token from {endpoint}, original status: {status}")]
    Refused { endpoint: String, status: String },
    #[error("Timeout occurred while fetching token from {endpoint}")]
    Timeout { endpoint: String },
    #[error("Empty response while fetching token from {endpoint}")]
    Empty { endpoint: String },
    #[error("Failed while fetching token from {endpoint}: {reason}")]
    Unusable { endpoint: String, reason: String },
    #[error("Failed to connect to {endpoint}, cause: {cause}")]
    Unreachable { endpoint: String, cause: String },
    #[error("invalid token endpoint")]
    InvalidUrl,
}

#[derive(Clone)]
struct Kept {
    bearer: HeaderValue,
    /// End of the token less the offset; unknown for tokens that do not say.
    usable_until: Option<Timestamp>,
}

/// Fetches tokens and keeps them.
pub(crate) struct ExternalTokens {
    settings: TokenCacheSettings,
    connect_timeout: Duration,
    tls_verify: bool,
    cpu: Arc<CpuPool>,
    kept: Arc<Cache<TokenKey, Kept>>,
    flights: Flights<TokenKey, Result<HeaderValue, ExternalError>>,
    hits: Counter,
    misses: Counter,
    evictions: Counter,
}

impl ExternalTokens {
    pub(crate) fn new(settings: &crate::Settings, cpu: Arc<CpuPool>, metrics: &Registry) -> Self {
        const CACHE: (&str, &str) = ("cache", "cache-token-info");
        let gets = |result| {
            let labels = [CACHE, ("result", result)];
            metrics.counter("cache_gets_total", "Look-ups of a cache.", &labels)
        };
        let kept = Arc::new(Cache::new(settings.token_cache.entries_max));
        let counted = Arc::clone(&kept);
        metrics.gauge("cache_size", "Entries of a cache.", &[CACHE], move || {
            Cache::<TokenKey, Kept>::len(&counted) as f64
        });
        let help = "Entries pushed out of a cache.";
        Self {
            settings: settings.token_cache,
            connect_timeout: settings.connect_timeout,
            tls_verify: settings.tls_verify,
            cpu,
            kept,
            flights: Flights::new(),
            hits: gets("hit"),
            misses: gets("miss"),
            evictions: metrics.counter("cache_evictions_total", help, &[CACHE]),
        }
    }

    /// `Bearer` and a token: a kept one, else the answer of one call, however many wait for it.
    ///
    /// # Errors
    /// [`ExternalError`]; failures are not kept.
    pub(crate) async fn bearer(
        &self,
        request: &TokenRequest,
        key: TokenKey,
        pool: &Arc<Pool>,
        trace: &Trace,
        ambient: &Ambient,
    ) -> Result<HeaderValue, ExternalError> {
        let now = ambient.now();
        let usable = |kept: &Kept| kept.usable_until.is_none_or(|end| end > now);
        if let Some(kept) = self.kept.get(&key, now).filter(usable) {
            self.hits.add(1);
            return Ok(kept.bearer);
        }
        let work = async {
            self.misses.add(1);
            let fetched = tokio::time::timeout(
                self.settings.timeout,
                self.fetch(request, pool, trace, ambient),
            );
            let kept = fetched.await.unwrap_or_else(|_| {
                let endpoint = request.endpoint.clone();
                Err(ExternalError::Timeout { endpoint })
            })?;
            let bearer = kept.bearer.clone();
            let lifetime_s = self.settings.expire_after_write.as_secs();
            let lifetime_s = i64::try_from(lifetime_s).unwrap_or(i64::MAX);
            let expires = ambient.now().plus_seconds(lifetime_s);
            let evicted = self.kept.insert(key, kept, 1, expires);
            self.evictions.add(evicted as u64);
            Ok(bearer)
        };
        self.flights.run(key, Box::pin(work)).await
    }

    /// Forgets a token that the provider refused.
    pub(crate) fn evict(&self, key: &TokenKey) {
        self.kept.remove(key);
    }

    async fn fetch(
        &self,
        request: &TokenRequest,
        pool: &Arc<Pool>,
        trace: &Trace,
        ambient: &Ambient,
    ) -> Result<Kept, ExternalError> {
        let endpoint = &request.endpoint;
        let url = destination(endpoint, "", None, self.tls_verify)
            .map_err(|_| ExternalError::InvalidUrl)?;
        let assertion = match &request.assertion {
            Some((id, key)) => Some(self.assertion(id, key, endpoint, ambient).await?),
            None => None,
        };
        let body = request.body(assertion.as_deref());
        let mut attempt = 1;
        let response = loop {
            let sent = self.post(request, &url, &body, pool, trace, ambient).await;
            match sent {
                Ok(response) => break response,
                Err(SendError::Timeout { .. }) => {
                    let endpoint = endpoint.clone();
                    return Err(ExternalError::Timeout { endpoint });
                }
                Err(error) if attempt == ATTEMPTS_MAX => {
                    return Err(ExternalError::Unreachable {
                        endpoint: endpoint.clone(),
                        cause: error_text(&error),
                    });
                }
                Err(_) => tokio::time::sleep(BACKOFF * attempt).await,
            }
            attempt += 1;
        };
        self.read(endpoint, response, ambient).await
    }

    async fn post(
        &self,
        request: &TokenRequest,
        url: &Destination,
        body: &str,
        pool: &Arc<Pool>,
        trace: &Trace,
        ambient: &Ambient,
    ) -> Result<Response<Body>, SendError> {
        let mut post = Request::new(Body::full(body.to_owned()));
        *post.method_mut() = Method::POST;
        *post.uri_mut() = url.path_and_query.clone().into();
        let headers = post.headers_mut();
        headers.insert(HOST, url.host.clone());
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        if let Some(basic) = &request.basic
            && let Ok(mut value) = HeaderValue::from_str(basic.expose())
        {
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        trace.apply(headers, ambient.rng.as_ref());
        let timeouts = Timeouts {
            connect: self.connect_timeout,
            write: self.settings.timeout,
            read: self.settings.timeout,
        };
        pool.send(&url.target, post, &timeouts).await
    }

    /// Reads the answer. What the identity provider says about an error is not for the consumer.
    async fn read(
        &self,
        endpoint: &str,
        response: Response<Body>,
        ambient: &Ambient,
    ) -> Result<Kept, ExternalError> {
        let status = response.status();
        if status.is_client_error() || status.is_server_error() || status.as_u16() >= 600 {
            tracing::warn!(
                idp.endpoint = endpoint,
                http.status = status.as_u16(),
                "identity provider refused to give a token"
            );
            return Err(ExternalError::Refused {
                endpoint: endpoint.to_owned(),
                status: status_text(status),
            });
        }
        let content_type = response.headers().get(CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        let content_type = content_type
            .unwrap_or("application/octet-stream")
            .to_owned();
        let unusable = |reason: String| ExternalError::Unusable {
            endpoint: endpoint.to_owned(),
            reason,
        };
        let body = response.into_body().collect(ANSWER_BYTES_MAX).await;
        let body = body.map_err(|error| unusable(error.to_string()))?;
        if body.is_empty() {
            let endpoint = endpoint.to_owned();
            return Err(ExternalError::Empty { endpoint });
        }
        if !is_json(&content_type) {
            let reason = format!("Content type '{content_type}' not supported for TokenInfo");
            return Err(unusable(reason));
        }
        self.kept(&body, ambient)
            .map_err(|it| unusable(it.to_owned()))
    }

    fn kept(&self, body: &[u8], ambient: &Ambient) -> Result<Kept, &'static str> {
        let Ok(Value::Object(answer)) = serde_json::from_slice(body) else {
            return Err("response is not a JSON object");
        };
        let token = answer
            .get("access_token")
            .and_then(Value::as_str)
            .filter(|token| !token.is_empty())
            .ok_or("no access_token in response")?;
        let expires_in = match answer.get("expires_in") {
            None => None,
            Some(Value::Number(number)) => Some(number.as_f64()),
            Some(Value::String(text)) => Some(text.trim().parse().ok()),
            Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) => Some(None),
        };
        let offset_ms = i64::try_from(self.settings.ttl_offset.as_millis()).unwrap_or(i64::MAX);
        let usable_until = match expires_in {
            None => None,
            Some(None) => return Err("expires_in is not a number"),
            #[expect(clippy::cast_possible_truncation, reason = "casts of floats saturate")]
            Some(Some(seconds)) => Some(Timestamp::from_millis(
                ambient
                    .now()
                    .plus_seconds(seconds as i64)
                    .millis()
                    .saturating_sub(offset_ms),
            )),
        };
        let mut bearer = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| "access_token is not a header value")?;
        bearer.set_sensitive(true);
        Ok(Kept {
            bearer,
            usable_until,
        })
    }

    /// A fresh proof of the client's key; never kept.
    async fn assertion(
        &self,
        client_id: &str,
        key: &Secret<String>,
        endpoint: &str,
        ambient: &Ambient,
    ) -> Result<String, ExternalError> {
        #[derive(Serialize)]
        struct Assertion {
            sub: String,
            aud: [String; 1],
            jti: String,
            iss: String,
            exp: i64,
            iat: i64,
        }
        let iat = ambient.now().seconds();
        let payload = Assertion {
            sub: client_id.to_owned(),
            aud: [endpoint.to_owned()],
            jti: ambient.uuid(),
            iss: client_id.to_owned(),
            exp: iat + ASSERTION_TTL_S,
            iat,
        };
        let key = key.clone();
        let work = move || {
            let key = client_key(key.expose())?;
            Ok(sign_foreign(&payload, &key)?)
        };
        self.cpu.run(work).await?
    }
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

fn status_text(status: StatusCode) -> String {
    let name = status_name(status);
    format!("{} {name}", status.as_u16()).trim_end().to_owned()
}
