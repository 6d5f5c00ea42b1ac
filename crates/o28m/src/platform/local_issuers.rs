//! Issuers whose keys are in this process: the gateway verifies their tokens without a network.

use std::sync::Arc;

use o28m_gateway::LocalIssuers;
use o28m_iris::Iris;
use o28m_jose::JwkSet;
use o28m_jose::slots::SharedKeys;
use o28m_net::BoxFuture;

use super::keys::Keys;
use crate::config::Config;

/// The identity provider's realms and the gateway's own tokens.
pub(super) struct PlatformIssuers {
    /// With the prefix of its issuers, which ends in `/realms/`.
    iris: Option<(String, Arc<Iris>)>,
    /// With the prefix of the gateway's issuers.
    gateway: Option<(String, SharedKeys)>,
}

impl PlatformIssuers {
    /// The identity provider counts when its public URL is fixed; one that takes its name from each
    /// request has no issuer that could be recognised.
    pub(super) fn new(config: &Config, iris: Option<Arc<Iris>>, keys: Option<&Keys>) -> Self {
        let hostname = config.text("identity.hostname").trim_end_matches('/');
        let url = hostname
            .starts_with("http")
            .then(|| format!("{hostname}/realms/"));
        let own = config.text("jumper.issuer_url").trim_end_matches('/');
        Self {
            iris: url.zip(iris),
            gateway: keys.map(|keys| (format!("{own}/"), keys.shared())),
        }
    }
}

impl LocalIssuers for PlatformIssuers {
    fn key_set<'a>(&'a self, issuer: &'a str) -> BoxFuture<'a, Option<Arc<JwkSet>>> {
        Box::pin(async move {
            if let Some((prefix, iris)) = &self.iris
                && let Some(realm) = realm(issuer, prefix)
            {
                return match iris.jwk_set(realm).await {
                    Ok(keys) => keys,
                    Err(error) => {
                        let error = anyhow::Error::new(error);
                        tracing::warn!(error = %format!("{error:#}"), "realm keys not available");
                        None
                    }
                };
            }
            let (prefix, keys) = self.gateway.as_ref()?;
            let _realm = realm(issuer, prefix)?;
            Some(keys.load().jwk_set.clone())
        })
    }
}

fn realm<'a>(issuer: &'a str, prefix: &str) -> Option<&'a str> {
    issuer
        .strip_prefix(prefix)
        .filter(|realm| !realm.is_empty() && !realm.contains('/'))
}
