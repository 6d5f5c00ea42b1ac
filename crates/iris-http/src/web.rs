//! Calls to other servers: bounded in time and size, and made for nobody but the identity provider.

use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request, StatusCode};
use o28m_iris::{WebCall, WebError};
use o28m_net::client::{Pool, Target, Timeouts, parse_url};
use o28m_net::{Body, Scheme, TooLarge};

const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(2),
    write: Duration::from_secs(2),
    read: Duration::from_secs(3),
};
/// A whole call, whatever its parts take.
const CALL: Duration = Duration::from_secs(5);
/// What is read of an answer that nobody looks at.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Other servers over HTTP.
pub(crate) struct Web {
    pool: Arc<Pool>,
}

impl Web {
    /// Each call has a connection of its own: calls are rare, and come from any runtime.
    pub(crate) fn new() -> Self {
        Self {
            pool: Pool::with_idle_max(0),
        }
    }

    async fn call(
        &self,
        method: Method,
        url: &str,
        form: Option<String>,
        bytes_max: usize,
    ) -> Result<Vec<u8>, WebError> {
        let (target, path) = parse_url(url).ok_or(WebError::Url)?;
        let mut request =
            Request::new(form.map_or(Body::Empty, |form| Body::full(form.into_bytes())));
        *request.uri_mut() = path.parse().map_err(|_| WebError::Url)?;
        let headers = request.headers_mut();
        headers.insert(HOST, host(&target).ok_or(WebError::Url)?);
        headers.insert(
            ACCEPT,
            HeaderValue::from_static("application/json, */*;q=0.1"),
        );
        if method == Method::POST {
            let kind = "application/x-www-form-urlencoded";
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        *request.method_mut() = method;
        let sent = self.pool.send(&target, request, &TIMEOUTS).await;
        let response = sent.map_err(|error| {
            tracing::debug!(%error, "call to another server failed");
            WebError::Silent
        })?;
        if response.status() >= StatusCode::MULTIPLE_CHOICES {
            return Err(WebError::Status(response.status().as_u16()));
        }
        match response.into_body().collect(bytes_max).await {
            Ok(bytes) => Ok(bytes.to_vec()),
            Err(TooLarge::Limit) => Err(WebError::TooLong),
            Err(TooLarge::Read(_)) => Err(WebError::Silent),
        }
    }

    async fn within(
        &self,
        method: Method,
        url: &str,
        form: Option<String>,
        bytes_max: usize,
    ) -> Result<Vec<u8>, WebError> {
        let call = self.call(method, url, form, bytes_max);
        let whole = tokio::time::timeout(CALL, Box::pin(call)).await;
        whole.unwrap_or(Err(WebError::Silent))
    }
}

fn host(target: &Target) -> Option<HeaderValue> {
    let default = match target.scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
    };
    let name = if target.host.contains(':') {
        format!("[{}]", target.host)
    } else {
        target.host.to_string()
    };
    let text = if target.port == default {
        name
    } else {
        format!("{name}:{}", target.port)
    };
    HeaderValue::from_str(&text).ok()
}

impl o28m_iris::Web for Web {
    fn get<'a>(&'a self, url: &'a str, bytes_max: usize) -> WebCall<'a, Vec<u8>> {
        Box::pin(self.within(Method::GET, url, None, bytes_max))
    }

    fn post<'a>(&'a self, url: &'a str, form: String) -> WebCall<'a, ()> {
        Box::pin(async move {
            let answer = self.within(Method::POST, url, Some(form), ANSWER_BYTES_MAX);
            answer.await.map(|_| ())
        })
    }
}
