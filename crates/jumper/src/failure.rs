//! Everything that can go wrong with a request, and the one place that turns it into a response.

use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use o28m_core::Timestamp;
use o28m_net::client::SendError;
use o28m_net::{Body, BodyError};
use serde::Serialize;

use crate::admission::Refused;
use crate::authorization::BasicError;
use crate::claims::AudienceError;
use crate::external::ExternalError;
use crate::incoming::TokenError;
use crate::plan::PlanError;
use crate::signer::SignError;
use crate::target::InvalidUrl;
use crate::time::{iso, iso_duration};
use crate::transport::{ForwardError, error_text};

/// Why a request gets no answer of a provider. The texts are those that clients of the original
/// know.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("no route for this path")]
    NoRoute,
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Audience(#[from] AudienceError),
    #[error(transparent)]
    Basic(#[from] BasicError),
    #[error(transparent)]
    Url(#[from] InvalidUrl),
    #[error(transparent)]
    Sign(#[from] SignError),
    #[error(transparent)]
    External(#[from] ExternalError),
    #[error(
        "Plaintext HTTP connection blocked by gateway security policy. Only HTTPS connections are allowed."
    )]
    Plaintext,
    #[error("provider switched protocols without being asked")]
    Unasked,
    #[error("{0}")]
    Event(&'static str),
    #[error(transparent)]
    Forward(#[from] ForwardError),
}

impl Failure {
    fn status(&self) -> StatusCode {
        match self {
            Self::Refused(_) | Self::Event(_) => StatusCode::BAD_REQUEST,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::Plan(error) => match error {
                PlanError::Config(_) | PlanError::NoTarget | PlanError::NoFailoverTarget => {
                    StatusCode::INTERNAL_SERVER_ERROR
                }
                PlanError::NoWeight => StatusCode::BAD_GATEWAY,
                PlanError::NoZone => StatusCode::SERVICE_UNAVAILABLE,
            },
            Self::Token(_) | Self::Audience(_) | Self::Basic(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Self::Url(_) | Self::Plaintext | Self::Unasked => StatusCode::BAD_GATEWAY,
            Self::Sign(error) => sign_status(*error),
            Self::External(error) => external_status(error),
            Self::Forward(error) => forward_status(error),
        }
    }

    fn message(&self, response_timeout: Duration) -> String {
        match self {
            Self::Forward(
                ForwardError::ResponseTimeout | ForwardError::Send(SendError::Timeout { .. }),
            ) => format!(
                "Response took longer than timeout: {}",
                iso_duration(response_timeout)
            ),
            Self::Forward(ForwardError::Send(error)) => error_text(error),
            _ => self.to_string(),
        }
    }

    /// Seconds after which trying again makes sense.
    const fn retry_after_s(&self) -> Option<u32> {
        match self {
            Self::Forward(ForwardError::Send(SendError::Resolve { .. })) => Some(30),
            Self::Sign(SignError::Busy) | Self::External(ExternalError::Sign(SignError::Busy)) => {
                Some(1)
            }
            _ => None,
        }
    }

    /// The provider, the identity provider or our own keys are the cause, not the request.
    const fn is_operational(&self) -> bool {
        matches!(self, Self::Sign(_) | Self::External(_) | Self::Forward(_))
    }

    /// The text may tell about the inside of the platform.
    const fn is_unexpected(&self) -> bool {
        match self {
            Self::Forward(ForwardError::Send(error)) => matches!(
                error,
                SendError::Tls { .. } | SendError::Invalid { .. } | SendError::Connect { .. }
            ),
            _ => false,
        }
    }
}

const fn sign_status(error: SignError) -> StatusCode {
    match error {
        SignError::NoKey | SignError::Busy => StatusCode::SERVICE_UNAVAILABLE,
        SignError::Weak => StatusCode::UNAUTHORIZED,
        SignError::Failed => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

const fn external_status(error: &ExternalError) -> StatusCode {
    match error {
        ExternalError::NoCredentials { .. }
        | ExternalError::InvalidKey(_)
        | ExternalError::Refused { .. }
        | ExternalError::Unreachable { .. } => StatusCode::UNAUTHORIZED,
        ExternalError::Sign(error) => sign_status(*error),
        ExternalError::Timeout { .. } => StatusCode::GATEWAY_TIMEOUT,
        ExternalError::Empty { .. } | ExternalError::Unusable { .. } => StatusCode::NOT_ACCEPTABLE,
        ExternalError::InvalidUrl => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

const fn forward_status(error: &ForwardError) -> StatusCode {
    match error {
        ForwardError::ResponseTimeout => StatusCode::GATEWAY_TIMEOUT,
        ForwardError::Send(error) => match error {
            SendError::Resolve { .. } => StatusCode::SERVICE_UNAVAILABLE,
            SendError::Connect { .. }
            | SendError::ConnectTimeout { .. }
            | SendError::Timeout { .. } => StatusCode::GATEWAY_TIMEOUT,
            SendError::RequestBody { source, .. } => match source {
                BodyError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
                BodyError::Timeout => StatusCode::REQUEST_TIMEOUT,
                BodyError::Broken(_) => StatusCode::BAD_REQUEST,
            },
            SendError::Tls { .. } | SendError::Closed { .. } | SendError::Invalid { .. } => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        },
    }
}

/// What an error body tells about its request.
pub(crate) struct Subject {
    method: Method,
    trace_id: Option<HeaderValue>,
    tardis_trace_id: Option<HeaderValue>,
}

impl Subject {
    /// Of a request's method and headers.
    pub(crate) fn of(method: &Method, headers: &HeaderMap) -> Self {
        Self {
            method: method.clone(),
            trace_id: headers.get("x-b3-traceid").cloned(),
            tardis_trace_id: headers.get("x-tardis-traceid").cloned(),
        }
    }
}

/// How error bodies are written.
pub(crate) struct Style<'a> {
    pub(crate) service: &'a str,
    pub(crate) verbose: bool,
    pub(crate) response_timeout: Duration,
    pub(crate) now: Timestamp,
}

/// The response for a failure; logs those that an operator can do something about.
pub(crate) fn respond(failure: &Failure, subject: &Subject, style: &Style<'_>) -> Response<Body> {
    let status = failure.status();
    if failure.is_operational() {
        let cause = chain(failure);
        tracing::warn!(http.status = status.as_u16(), error = %cause, "request not forwarded");
    } else {
        tracing::debug!(http.status = status.as_u16(), error = %failure, "request refused");
    }
    if matches!(failure, Failure::Plaintext) {
        let mut response = Response::new(Body::full(failure.to_string()));
        *response.status_mut() = status;
        return response;
    }
    let message = if failure.is_unexpected() && !style.verbose {
        status.canonical_reason().unwrap_or_default().to_owned()
    } else {
        failure.message(style.response_timeout)
    };
    let mut response = body(status, &message, subject, style);
    if let Some(seconds) = failure.retry_after_s() {
        let value = HeaderValue::from(seconds);
        response.headers_mut().insert(RETRY_AFTER, value);
    }
    response
}

/// An error body with all its eight members.
pub(crate) fn body(
    status: StatusCode,
    message: &str,
    subject: &Subject,
    style: &Style<'_>,
) -> Response<Body> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct ErrorBody<'a> {
        service: &'a str,
        timestamp: String,
        message: &'a str,
        error: &'a str,
        status: u16,
        method: &'a str,
        trace_id: &'a str,
        tardis_trace_id: &'a str,
    }
    let header = |value: &'_ Option<HeaderValue>| -> String {
        let value = value.as_ref().map(|value| crate::headers::text(value));
        value.unwrap_or_default().into_owned()
    };
    let json = serde_json::to_vec(&ErrorBody {
        service: style.service,
        timestamp: iso(style.now),
        message,
        error: status.canonical_reason().unwrap_or_default(),
        status: status.as_u16(),
        method: subject.method.as_str(),
        trace_id: &header(&subject.trace_id),
        tardis_trace_id: &header(&subject.tardis_trace_id),
    });
    // A struct of strings and numbers always serialises.
    let mut response = Response::new(Body::full(json.unwrap_or_default()));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
