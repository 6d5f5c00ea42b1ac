//! Every way a request can fail, with what the client reads and what the log says.

use http::header::{HeaderValue, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use o28m_gateway::errors;
use o28m_net::Body;
use serde_json::json;

/// Why a request is not let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    NoToken,
    SeveralTokens,
    NotJson,
    UnknownAlgorithm,
    ClaimsNotAnObject,
    SignatureNotEncoded,
    IssuerBlocked,
    IssuerNotAllowed,
    AlgorithmNotAllowed,
    /// Discovery or JWK Set could not be read.
    KeysUnavailable,
    NoKeys,
    UnknownKid,
    NoFittingKey,
    AmbiguousKey,
    SignatureInvalid,
    /// The registered claims that do not hold, as the client reads them.
    ClaimsInvalid(String),
    LivesTooLong,
    ConsumerNotFound,
    Scope(&'static str),
    RealmRoles(&'static str),
    Roles(&'static str),
    ClientRoles(&'static str),
}

/// RFC 6750 section 3: the `WWW-Authenticate` value of a refusal.
enum Challenge {
    Bare,
    InvalidToken,
    InsufficientScope,
    None,
}

impl Failure {
    /// Answered even when an anonymous consumer is configured: the original sends these directly.
    pub(super) fn is_final(&self) -> bool {
        matches!(
            self,
            Self::KeysUnavailable
                | Self::NoKeys
                | Self::UnknownKid
                | Self::NoFittingKey
                | Self::AmbiguousKey
                | Self::SignatureInvalid
        )
    }

    /// A newer key set may cure it.
    pub(super) fn may_be_stale_keys(&self) -> bool {
        self.is_final() && *self != Self::KeysUnavailable
    }

    /// What the client reads as `message`.
    pub(super) fn message(&self) -> String {
        let text = match self {
            Self::NoToken => "Unauthorized",
            Self::SeveralTokens => "Multiple tokens provided",
            Self::NotJson => "Bad token; invalid JSON",
            Self::UnknownAlgorithm => "Bad token; invalid alg",
            Self::ClaimsNotAnObject => "Bad token; invalid claims",
            Self::SignatureNotEncoded => "Bad token; invalid signature",
            Self::IssuerBlocked => "Token issuer is blocked",
            Self::IssuerNotAllowed => "Token issuer not allowed",
            Self::AlgorithmNotAllowed => "Invalid algorithm",
            Self::KeysUnavailable => "Unable to get public key for issuer",
            Self::NoKeys => "No public keys available",
            Self::UnknownKid => "Unable to find public key for token kid",
            Self::NoFittingKey => "No matching public key found for token algorithm",
            Self::AmbiguousKey => "kid header required: multiple keys match token algorithm",
            Self::SignatureInvalid => "Invalid token signature",
            Self::ClaimsInvalid(claims) => return format!("Token claims invalid: {claims}"),
            Self::LivesTooLong => {
                r#"Token claims invalid: ["exp"]="exceeds maximum allowed expiration""#
            }
            Self::ConsumerNotFound => "Consumer match failed",
            Self::Scope(reason)
            | Self::RealmRoles(reason)
            | Self::Roles(reason)
            | Self::ClientRoles(reason) => {
                return format!("Access token does not have the required scope/role: {reason}");
            }
        };
        text.to_owned()
    }

    /// Code and details of the security event.
    pub(super) fn event(&self) -> (&'static str, &'static str) {
        match self {
            Self::NoToken => ("ua200", "ua, token not provided"),
            Self::SeveralTokens => ("ua200", "ua, multiple tokens provided"),
            Self::NotJson
            | Self::UnknownAlgorithm
            | Self::ClaimsNotAnObject
            | Self::SignatureNotEncoded
            | Self::AlgorithmNotAllowed => ("ua201", "ua, token integrity wrong"),
            Self::ClaimsInvalid(_) | Self::LivesTooLong => ("ua202", "ua, token timed out"),
            Self::ConsumerNotFound => ("ua207", "ua, consumer_match failed"),
            Self::KeysUnavailable => ("ua221", "ua, public key not available"),
            Self::UnknownKid => ("ua221", "ua, public key for kid not available"),
            Self::NoFittingKey => ("ua221", "ua, no matching public key for algorithm"),
            Self::AmbiguousKey => ("ua221", "ua, kid required when multiple keys match"),
            Self::NoKeys => ("ua221", "ua, no public keys available"),
            Self::SignatureInvalid => ("ua222", "ua, invalid token signature"),
            Self::IssuerBlocked => ("ua222", "ua, issuer is blocked"),
            Self::IssuerNotAllowed => ("ua222", "ua, incorrect issuer"),
            Self::Scope(_) => ("ua222", "ua, validate_scope failed"),
            Self::RealmRoles(_) => ("ua222", "ua, validate_realm_roles failed"),
            Self::Roles(_) => ("ua222", "ua, validate_roles failed"),
            Self::ClientRoles(_) => ("ua222", "ua, validate_client_roles failed"),
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::KeysUnavailable
            | Self::LivesTooLong
            | Self::ConsumerNotFound
            | Self::Scope(_)
            | Self::RealmRoles(_)
            | Self::Roles(_)
            | Self::ClientRoles(_) => StatusCode::FORBIDDEN,
            Self::NoToken
            | Self::SeveralTokens
            | Self::NotJson
            | Self::UnknownAlgorithm
            | Self::ClaimsNotAnObject
            | Self::SignatureNotEncoded
            | Self::IssuerBlocked
            | Self::IssuerNotAllowed
            | Self::AlgorithmNotAllowed
            | Self::NoKeys
            | Self::UnknownKid
            | Self::NoFittingKey
            | Self::AmbiguousKey
            | Self::SignatureInvalid
            | Self::ClaimsInvalid(_) => StatusCode::UNAUTHORIZED,
        }
    }

    fn challenge(&self) -> Challenge {
        match self {
            Self::NoToken => Challenge::Bare,
            Self::Scope(_) | Self::RealmRoles(_) | Self::Roles(_) | Self::ClientRoles(_) => {
                Challenge::InsufficientScope
            }
            Self::KeysUnavailable | Self::ConsumerNotFound => Challenge::None,
            Self::SeveralTokens
            | Self::NotJson
            | Self::UnknownAlgorithm
            | Self::ClaimsNotAnObject
            | Self::SignatureNotEncoded
            | Self::IssuerBlocked
            | Self::IssuerNotAllowed
            | Self::AlgorithmNotAllowed
            | Self::NoKeys
            | Self::UnknownKid
            | Self::NoFittingKey
            | Self::AmbiguousKey
            | Self::SignatureInvalid
            | Self::ClaimsInvalid(_)
            | Self::LivesTooLong => Challenge::InvalidToken,
        }
    }

    /// The answer (style X), with the challenge of RFC 6750.
    pub(super) fn response(&self) -> Response<Body> {
        let mut response = errors::exit(self.status(), &json!({"message": self.message()}));
        let challenge = match self.challenge() {
            Challenge::Bare => "Bearer",
            Challenge::InvalidToken => r#"Bearer error="invalid_token""#,
            Challenge::InsufficientScope => r#"Bearer error="insufficient_scope""#,
            Challenge::None => return response,
        };
        let challenge = HeaderValue::from_static(challenge);
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        response
    }
}
