//! A plain HTTP client for tests, over the platform's own upstream pool.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use o28m_net::Body;
use o28m_net::client::{Pool, SendError, Timeouts, parse_url};
use serde_json::Value;

/// Largest response body a test reads, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// An HTTP client; cheap to clone.
#[derive(Clone)]
pub struct Client {
    pool: Arc<Pool>,
    headers: HeaderMap,
}

/// A whole response.
#[derive(Debug)]
pub struct Reply {
    /// Status code.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Reply {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {}: {}", self.status, self.text()))
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's first value as text; empty when absent.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// Asserts the status and returns the reply.
    ///
    /// # Panics
    /// With the body, when the status is another.
    #[must_use]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "body: {}", self.text());
        self
    }
}

impl Default for Client {
    fn default() -> Self {
        Self {
            pool: Pool::new(),
            headers: HeaderMap::new(),
        }
    }
}

impl Client {
    /// This client with a header on every request, replacing one of the same name.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut client = self.clone();
        let name: HeaderName = name.parse().unwrap();
        client
            .headers
            .insert(name, HeaderValue::from_str(value).unwrap());
        client
    }

    /// This client with a bearer token.
    #[must_use]
    pub fn bearer(&self, token: &str) -> Self {
        self.with("authorization", &format!("Bearer {token}"))
    }

    /// This client with basic credentials.
    #[must_use]
    pub fn basic(&self, user: &str, password: &str) -> Self {
        let credentials = STANDARD.encode(format!("{user}:{password}"));
        self.with("authorization", &format!("Basic {credentials}"))
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// When no answer arrives.
    pub async fn try_send(
        &self,
        method: Method,
        url: &str,
        body: impl Into<Bytes>,
    ) -> Result<Reply, SendError> {
        let (target, path) = parse_url(url).unwrap();
        let mut request = Request::new(Body::full(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().unwrap();
        *request.headers_mut() = self.headers.clone();
        let host = HeaderValue::from_str(&format!("{}:{}", target.host, target.port)).unwrap();
        request.headers_mut().entry("host").or_insert(host);
        let second = Duration::from_secs(1);
        let timeouts = Timeouts {
            connect: second * 5,
            write: second * 30,
            read: second * 30,
        };
        let response = self.pool.send(&target, request, &timeouts).await?;
        let (parts, body) = response.into_parts();
        let body = body.collect(BODY_BYTES_MAX).await.unwrap();
        Ok(Reply {
            status: parts.status,
            headers: parts.headers,
            body,
        })
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Panics
    /// When no answer arrives.
    pub async fn send(&self, method: &str, url: &str, body: impl Into<Bytes>) -> Reply {
        let method = method.parse().unwrap();
        self.try_send(method, url, body)
            .await
            .unwrap_or_else(|error| panic!("{url}: {error:?}"))
    }

    /// GET.
    pub async fn get(&self, url: &str) -> Reply {
        self.send("GET", url, Bytes::new()).await
    }

    /// A request with a JSON body.
    pub async fn json(&self, method: &str, url: &str, body: Value) -> Reply {
        self.with("content-type", "application/json")
            .send(method, url, body.to_string())
            .await
    }

    /// POST of a form.
    pub async fn form(&self, url: &str, fields: &[(&str, &str)]) -> Reply {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields);
        self.with("content-type", "application/x-www-form-urlencoded")
            .send("POST", url, form.finish())
            .await
    }
}
