//! Discovery and JWK Set for the tokens the gateway signs. It holds no private key.
//!
//! Not for issuing anything, and not for loading keys: it publishes whatever key ring the process
//! has at the moment (gateway-issuer-service-go 2.3).

mod documents;
mod published;
mod route;

use arc_swap::ArcSwap;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, SERVER};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use o28m_jose::slots::SharedKeys;
use o28m_net::{Body, BoxFuture, Connection, HttpService, Rejection};
use std::sync::Arc;

use crate::documents::Discovery;
use crate::published::Published;
use crate::route::{Found, Route};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const SERVER_NAME: HeaderValue = HeaderValue::from_static("issuer-service");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const NOT_AN_ENDPOINT: &str =
    "Not a valid endpoint. Please contact gateway support if you are experiencing issues.";

/// Settings of the issuer.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Prefix of the short routes, such as `/api/v1`.
    pub base_path: String,
    /// Inserted after the host in discovery documents.
    pub path_prefix: String,
    /// Issuer URL without the realm; wins over the request's host when set.
    pub public_url: Option<String>,
}

/// The issuer as a service; the listener and the gateway's in-process door share it.
pub struct Issuer {
    settings: Settings,
    keys: SharedKeys,
    published: ArcSwap<Published>,
}

impl Issuer {
    /// An issuer over the process's keys.
    #[must_use]
    pub fn new(mut settings: Settings, keys: SharedKeys) -> Self {
        let url = settings.public_url.take();
        settings.public_url = url
            .map(|url| url.trim_end_matches('/').to_owned())
            .filter(|url| !url.is_empty());
        let published = Published::new(keys.load_full());
        Self {
            settings,
            keys,
            published: ArcSwap::from_pointee(published),
        }
    }

    /// The bodies of the current key ring; made anew only when the ring was swapped.
    fn published(&self) -> Arc<Published> {
        let ring = self.keys.load();
        let published = self.published.load_full();
        if published.is_of(&ring) {
            return published;
        }
        let published = Arc::new(Published::new(Arc::clone(&ring)));
        self.published.store(Arc::clone(&published));
        published
    }

    fn answer(&self, request: &Request<Body>) -> Response<Body> {
        let path = request.uri().path();
        let method = request.method();
        if !is_known(method) {
            return text(StatusCode::BAD_REQUEST, "Invalid http method");
        }
        let Some(found) = route::find(path, &self.settings.base_path) else {
            return documents::not_found(method, path);
        };
        if method != Method::GET && method != Method::HEAD {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
            let allowed = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(ALLOW, allowed);
            return response;
        }
        self.document(&found, request)
    }

    fn document(&self, found: &Found<'_>, request: &Request<Body>) -> Response<Body> {
        let realm = found.realm;
        match found.route {
            Route::Health if self.published().is_empty() => {
                text(StatusCode::SERVICE_UNAVAILABLE, "no keys")
            }
            Route::Health => text(StatusCode::OK, "OK"),
            Route::NoEndpoint => text(StatusCode::NOT_IMPLEMENTED, NOT_AN_ENDPOINT),
            Route::Certs => json(StatusCode::OK, self.published().jwks()),
            Route::Realm => match self.published().public_key() {
                Some(key) => json(StatusCode::OK, documents::realm(realm, key)),
                None => failure(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "no active signing key available",
                ),
            },
            Route::Discovery => {
                let forwarded = request.headers().get(X_FORWARDED_HOST);
                match documents::issuer(&self.settings, forwarded, realm) {
                    Ok(issuer) => json(StatusCode::OK, Discovery::of(&issuer)),
                    Err(error) => failure(StatusCode::BAD_REQUEST, &error.to_string()),
                }
            }
        }
    }
}

impl HttpService for Issuer {
    fn call<'a>(
        &'a self,
        request: Request<Body>,
        _: &'a Connection,
    ) -> BoxFuture<'a, Response<Body>> {
        let mut response = self.answer(&request);
        if request.method() == Method::HEAD {
            // The length stays that of the GET (RFC 9110 section 9.3.2).
            *response.body_mut() = Body::Empty;
        }
        Box::pin(std::future::ready(response))
    }

    fn reject(&self, rejection: &Rejection, _: &Connection) -> Response<Body> {
        let phrase = rejection.status.canonical_reason().unwrap_or_default();
        text(rejection.status, phrase)
    }
}

/// The methods the original's HTTP library knows; another token is not a method to it.
fn is_known(method: &Method) -> bool {
    const KNOWN: [Method; 9] = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::CONNECT,
        Method::OPTIONS,
        Method::TRACE,
        Method::PATCH,
    ];
    KNOWN.contains(method)
}

fn text(status: StatusCode, body: &str) -> Response<Body> {
    respond(status, TEXT, body.as_bytes().to_vec())
}

fn json(status: StatusCode, body: impl Into<bytes::Bytes>) -> Response<Body> {
    respond(status, JSON, body)
}

fn failure(status: StatusCode, message: &str) -> Response<Body> {
    json(status, documents::failure(status, message))
}

fn respond(
    status: StatusCode,
    content_type: HeaderValue,
    body: impl Into<bytes::Bytes>,
) -> Response<Body> {
    let body = body.into();
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(SERVER, SERVER_NAME);
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    *response.body_mut() = Body::full(body);
    response
}
