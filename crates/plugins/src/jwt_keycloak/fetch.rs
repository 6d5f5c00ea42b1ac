//! Reading an issuer's discovery document and JWK Set over the network.

use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, CACHE_CONTROL, HOST, HeaderMap, HeaderValue, USER_AGENT};
use http::{Request, StatusCode};
use o28m_core::limits;
use o28m_jose::JwkSet;
use o28m_net::client::{Pool, SendError, Target, Timeouts, TlsPolicy, parse_url};
use o28m_net::{Body, Scheme, TooLarge};
use serde::Deserialize as _;
use serde_json::Value;

/// How long a fetch may take.
#[derive(Clone, Copy)]
pub(super) struct Deadlines {
    /// TCP and TLS.
    pub(super) connect: Duration,
    /// Until the response head, and between two reads of its body.
    pub(super) read: Duration,
    /// Discovery and key set together.
    pub(super) total: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            read: Duration::from_secs(3),
            total: Duration::from_secs(5),
        }
    }
}

/// Why an issuer's keys could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("{url} is not an http or https URL")]
    Url { url: String },
    #[error("failed to request {url}")]
    Send {
        url: String,
        #[source]
        source: SendError,
    },
    #[error("{url} answered {status}")]
    Status { url: String, status: StatusCode },
    #[error("failed to read the answer of {url}")]
    Read {
        url: String,
        #[source]
        source: TooLarge,
    },
    #[error("{url} did not answer with JSON")]
    Json {
        url: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("the document at {url} has no usable {member}")]
    Member { url: String, member: &'static str },
    #[error("timed out after {} ms", after.as_millis())]
    Timeout { after: Duration },
}

/// A key set as it was published.
pub(super) struct Fetched {
    pub(super) set: JwkSet,
    /// What `Cache-Control: max-age` of the key set says, in seconds.
    pub(super) max_age_s: Option<i64>,
}

/// Reads the key set that the discovery document names.
///
/// # Errors
/// [`FetchError`].
pub(super) async fn fetch(
    pool: &Arc<Pool>,
    discovery_url: &str,
    tls: &TlsPolicy,
    deadlines: Deadlines,
) -> Result<Fetched, FetchError> {
    let both = async {
        let (discovery, _) = get(pool, discovery_url, tls, deadlines).await?;
        let jwks_uri = discovery.get("jwks_uri").and_then(Value::as_str);
        let jwks_uri = jwks_uri.ok_or_else(|| missing(discovery_url, "jwks_uri"))?;
        let (document, headers) = get(pool, jwks_uri, tls, deadlines).await?;
        let set = JwkSet::deserialize(document).map_err(|_| missing(jwks_uri, "keys"))?;
        Ok(Fetched {
            set,
            max_age_s: max_age_s(&headers),
        })
    };
    let after = deadlines.total;
    match tokio::time::timeout(after, both).await {
        Ok(fetched) => fetched,
        Err(_) => Err(FetchError::Timeout { after }),
    }
}

fn missing(url: &str, member: &'static str) -> FetchError {
    let url = url.to_owned();
    FetchError::Member { url, member }
}

async fn get(
    pool: &Arc<Pool>,
    url: &str,
    tls: &TlsPolicy,
    deadlines: Deadlines,
) -> Result<(Value, HeaderMap), FetchError> {
    let url = || url.to_owned();
    let (target, request) = request(&url(), tls).ok_or_else(|| FetchError::Url { url: url() })?;
    let timeouts = Timeouts {
        connect: deadlines.connect,
        write: deadlines.connect,
        read: deadlines.read,
    };
    let response = pool.send(&target, request, &timeouts).await;
    let response = response.map_err(|source| FetchError::Send { url: url(), source })?;
    let (head, body) = response.into_parts();
    if head.status != StatusCode::OK {
        let status = head.status;
        return Err(FetchError::Status { url: url(), status });
    }
    let bytes = body.collect(limits::JWKS_BYTES_MAX).await;
    let bytes = bytes.map_err(|source| FetchError::Read { url: url(), source })?;
    let document = serde_json::from_slice(&bytes);
    let document = document.map_err(|source| FetchError::Json { url: url(), source })?;
    Ok((document, head.headers))
}

fn request(url: &str, tls: &TlsPolicy) -> Option<(Target, Request<Body>)> {
    let (mut target, path) = parse_url(url)?;
    target.tls = tls.clone();
    let request = Request::get(path)
        .header(HOST, host(&target)?)
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, "o28m")
        .body(Body::Empty);
    Some((target, request.ok()?))
}

/// The `Host` of a request to `target`: brackets around IPv6 addresses, no default port.
fn host(target: &Target) -> Option<HeaderValue> {
    let name = if target.host.contains(':') {
        format!("[{}]", target.host)
    } else {
        target.host.to_string()
    };
    let is_default = match target.scheme {
        Scheme::Http => target.port == 80,
        Scheme::Https => target.port == 443,
    };
    let text = if is_default {
        name
    } else {
        format!("{name}:{}", target.port)
    };
    HeaderValue::try_from(text).ok()
}

fn max_age_s(headers: &HeaderMap) -> Option<i64> {
    let directives = headers.get_all(CACHE_CONTROL).iter();
    directives
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .find_map(|directive| {
            let directive = directive.trim();
            if directive.eq_ignore_ascii_case("no-cache")
                || directive.eq_ignore_ascii_case("no-store")
            {
                return Some(0);
            }
            let (name, value) = directive.split_once('=')?;
            let is_age = name.trim().eq_ignore_ascii_case("max-age");
            is_age.then(|| value.trim().trim_matches('"').parse().ok())?
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_age_a_key_set_may_reach() {
        for (value, age) in [
            ("max-age=60", Some(60)),
            ("public, Max-Age=\"5\"", Some(5)),
            ("no-store", Some(0)),
            ("private", None),
            ("max-age=soon", None),
        ] {
            let headers = [(CACHE_CONTROL, HeaderValue::from_static(value))];
            assert_eq!(max_age_s(&headers.into_iter().collect()), age, "{value}");
        }
    }
}
