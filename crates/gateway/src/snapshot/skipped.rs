//! Entities that cannot be used: what is known of them, and what that means for requests.

use o28m_kong::vault::Unresolved;
use o28m_net::tls::ConfigError;
use rpds::{HashTrieMapSync, RedBlackTreeSetSync};

use super::{ENTITY_KINDS, Id, number};
use crate::BadConfig;

/// Why an entity cannot be used. None of these texts holds a secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("the document does not have the expected form")]
    Form(#[from] serde_json::Error),
    /// As [`Broken::Form`], without the cause: it may quote a secret.
    #[error("the document does not have the expected form")]
    SecretForm,
    /// The reason is not told: it may quote a value that came from a vault.
    #[error("a value that it takes from a vault cannot be used")]
    Value,
    #[error("a reference to a vault has no value")]
    Reference(#[source] Unresolved),
    #[error(transparent)]
    Route(#[from] o28m_router::BadRoute),
    #[error("the host cannot be sent in a header")]
    Host(#[from] http::header::InvalidHeaderValue),
    #[error("the target is not of the form host:port")]
    Target,
    #[error("this build has no plugin {0}")]
    Plugin(String),
    #[error(transparent)]
    Config(#[from] BadConfig),
    #[error(transparent)]
    Certificate(ConfigError),
    /// The cause is not told: it may quote the key.
    #[error("failed to read private key")]
    Key,
    #[error("its client certificate is missing or cannot be used")]
    ClientCertificate,
    #[error("one of its CA certificates is missing or cannot be used")]
    Authority,
}

impl From<ConfigError> for Broken {
    fn from(error: ConfigError) -> Self {
        match error {
            ConfigError::Key(_) => Self::Key,
            error => Self::Certificate(error),
        }
    }
}

impl Broken {
    /// The same without quotes of what the entity holds.
    pub(super) fn discreet(self) -> Self {
        match self {
            Self::Form(_) => Self::SecretForm,
            Self::Config(_) => Self::Value,
            other => other,
        }
    }
}

/// The entities of a snapshot that cannot be used, by kind.
#[derive(Clone, Default)]
pub(super) struct Skipped(HashTrieMapSync<&'static str, RedBlackTreeSetSync<Id>>);

impl Skipped {
    pub(super) fn count(&self, kind: &str) -> usize {
        self.0.get(kind).map_or(0, RedBlackTreeSetSync::size)
    }

    /// The entity is gone, or about to be looked at anew.
    pub(super) fn forget(&mut self, kind: &str, id: &str) {
        if let Some(ids) = self.0.get_mut(kind) {
            ids.remove_mut(&number(id));
        }
    }

    /// Keeps and reports how an entity turned out.
    pub(super) fn note(&mut self, kind: &str, id: &str, outcome: Result<(), Broken>) {
        let Err(error) = outcome else {
            return self.forget(kind, id);
        };
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        tracing::error!(
            entity.kind = kind,
            entity.id = id,
            %error,
            cause = cause.unwrap_or_default(),
            "entity cannot be used: {}",
            consequence(kind, &error)
        );
        let Some(kind) = ENTITY_KINDS.iter().find(|it| **it == kind) else {
            return;
        };
        match self.0.get_mut(kind) {
            Some(ids) => ids.insert_mut(number(id)),
            None => self
                .0
                .insert_mut(kind, std::iter::once(number(id)).collect()),
        }
    }
}

/// What happens without the entity.
fn consequence(kind: &str, error: &Broken) -> &'static str {
    match (kind, error) {
        ("plugins", _) => "requests that it applies to are answered with 500",
        ("services", Broken::ClientCertificate) => "its requests are answered with 502",
        ("services", Broken::Authority) => "it trusts the others, without any its requests get 502",
        ("services", _) => "requests of its routes are answered with 503",
        ("upstreams", Broken::ClientCertificate) => "its TLS connections are refused with 502",
        ("upstreams", _) => "requests of services that name it are answered with 503",
        ("routes", _) => "it matches nothing, less specific routes may",
        ("certificates" | "snis", _) => "another certificate is shown in its place",
        _ => "it is left out",
    }
}
