use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{Method, Request, StatusCode, Uri};
use o28m_gateway::BadConfig;
use o28m_net::client::{Pool, SendError, Target, Timeouts, parse_url};
use o28m_net::{Body, Scheme};

use super::{Again, Deliveries, Failure};

/// Bytes of an answer that are read so that the connection can be used again.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Limits of one call, in milliseconds.
#[derive(Clone, Copy)]
pub(crate) struct Calls {
    /// For connecting.
    pub(crate) connect: u64,
    /// Between two writes.
    pub(crate) send: u64,
    /// For the answer, and between two reads.
    pub(crate) read: u64,
}

/// Where batches are sent to over HTTP.
pub(crate) struct Endpoint {
    target: Target,
    uri: Uri,
    headers: HeaderMap,
    timeouts: Timeouts,
    pool: Arc<Pool>,
}

impl Endpoint {
    /// An endpoint; `headers` go with each call. Certificates are verified.
    ///
    /// # Errors
    /// [`BadConfig`] for a URL that cannot be called.
    pub(crate) fn new(
        deliveries: &Deliveries,
        url: &str,
        mut headers: HeaderMap,
        calls: Calls,
    ) -> Result<Self, BadConfig> {
        let bad = || BadConfig(format!("'{url}' cannot be called"));
        let (target, path) = parse_url(url).ok_or_else(bad)?;
        let default_port = match target.scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        };
        let host = target.to_string();
        let host = match host.strip_suffix(&format!(":{default_port}")) {
            Some(host) if target.port == default_port => host,
            _ => &host,
        };
        let host = HeaderValue::try_from(host).map_err(|_| bad())?;
        headers.entry(HOST).or_insert(host);
        let millis = |number: u64| Duration::from_millis(number.max(1));
        Ok(Self {
            target,
            uri: path.parse().map_err(|_| bad())?,
            headers,
            timeouts: Timeouts {
                connect: millis(calls.connect),
                write: millis(calls.send),
                read: millis(calls.read),
            },
            pool: deliveries.0.pool.clone(),
        })
    }

    /// Sends a body.
    ///
    /// # Errors
    /// [`Failure`] for anything but a 2xx answer.
    pub(crate) async fn send(&self, method: Method, body: Bytes) -> Result<(), Failure> {
        let mut request = Request::new(Body::full(body));
        *request.method_mut() = method;
        request.uri_mut().clone_from(&self.uri);
        request.headers_mut().clone_from(&self.headers);
        let sent = self.pool.send(&self.target, request, &self.timeouts).await;
        let response = sent.map_err(|error| unreachable_because(&error))?;
        let status = response.status();
        if status.is_success() {
            // Read to its end, or the connection could not be used again; what it says does not count.
            let _unread = response.into_body().collect(ANSWER_BYTES_MAX).await;
            return Ok(());
        }
        let asked = response.headers().get(RETRY_AFTER);
        let asked = asked.and_then(|it| it.to_str().ok()?.parse().ok());
        Err(Failure {
            reason: format!("{} answered with status {}", self.target, status.as_u16()),
            again: if is_final(status) {
                Again::Never
            } else {
                Again::After(asked.map(Duration::from_secs))
            },
        })
    }
}

/// The same bytes will be refused again.
fn is_final(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 405 | 413 | 414 | 415 | 422 | 431)
}

fn unreachable_because(error: &SendError) -> Failure {
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        reason.push_str(": ");
        reason.push_str(&cause.to_string());
        source = cause.source();
    }
    Failure {
        reason,
        again: Again::After(None),
    }
}

/// JSON values as one array.
pub(crate) fn json_array(values: &[Bytes]) -> Bytes {
    let length = values.iter().map(|it| it.len() + 1).sum::<usize>() + 1;
    let mut array = Vec::with_capacity(length);
    array.push(b'[');
    for value in values {
        if array.len() > 1 {
            array.push(b',');
        }
        array.extend_from_slice(value);
    }
    array.push(b']');
    array.into()
}
