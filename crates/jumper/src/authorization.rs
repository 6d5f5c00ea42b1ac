//! Which authorization a request gets, and the ones that need no waiting.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

use crate::config::{BasicCredentials, keyed};
use crate::plan::Plan;

/// The issuer of this gateway, whose routes get no token.
const ISSUER_URL: &str = "http://localhost:8081/api/v1";

/// How a request is authorised; exactly one applies.
pub(crate) enum Scenario<'a> {
    /// The issuer's public routes: the incoming value stays.
    Bypass,
    /// Another gateway: a mesh token.
    Mesh,
    /// A consumer from the internet brings the provider's token itself.
    Exchange(HeaderValue),
    /// User name and password.
    Basic(&'a BasicCredentials),
    /// A token of the provider's identity provider.
    External(&'a str),
    /// The gateway's own token.
    OneToken,
}

impl<'a> Scenario<'a> {
    /// The first that applies, in this order. `exchange` counts only in zones that face the
    /// internet.
    pub(crate) fn choose(
        plan: &'a Plan,
        consumer: Option<&str>,
        exchange: Option<&HeaderValue>,
        faces_internet: bool,
    ) -> Self {
        if plan.remote_url.starts_with(ISSUER_URL) {
            return Self::Bypass;
        }
        if plan.mesh {
            return Self::Mesh;
        }
        if let Some(token) = exchange.filter(|_| faces_internet) {
            return Self::Exchange(token.clone());
        }
        if let Some(credentials) = keyed(&plan.config.basic_auth, consumer) {
            return Self::Basic(credentials);
        }
        match &plan.token_endpoint {
            Some(endpoint) => Self::External(endpoint),
            None => Self::OneToken,
        }
    }
}

/// Basic credentials that cannot be sent.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BasicError {
    #[error("Username must not contain a colon")]
    Colon,
    #[error("Username must not be null")]
    NoUsername,
    #[error("Password must not be null")]
    NoPassword,
}

/// The `Basic` value (RFC 7617, UTF-8).
///
/// # Errors
/// [`BasicError`].
pub(crate) fn basic(credentials: &BasicCredentials) -> Result<HeaderValue, BasicError> {
    let username = credentials.username.as_deref();
    let username = username.ok_or(BasicError::NoUsername)?;
    let password = credentials.password.as_ref();
    let password = password.ok_or(BasicError::NoPassword)?;
    if username.contains(':') {
        return Err(BasicError::Colon);
    }
    let pair = STANDARD.encode(format!("{username}:{}", password.expose()));
    // Base64 is always a header value.
    let value = HeaderValue::try_from(format!("Basic {pair}"));
    let mut value = value.map_err(|_| BasicError::Colon)?;
    value.set_sensitive(true);
    Ok(value)
}
