//! What is to happen with a request, resolved once from its control headers.

use std::borrow::Cow;
use std::sync::Arc;

use http::HeaderMap;
use o28m_core::{Ambient, Secret, Timestamp};

use crate::balance::{self, ZoneHealth};
use crate::config::{ConfigError, Decoder, LoadBalancing, RouteConfig};
use crate::headers::{first, last, last_line, last_url};

/// Why there is no plan.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlanError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("missing routing information remote_api_url / jc.loadBalancing")]
    NoTarget,
    #[error("missing routing information jc.remoteApiUrl / jc.loadBalancing")]
    NoFailoverTarget,
    #[error("can not calculate upstream")]
    NoWeight,
    #[error("Non of defined failover zones available")]
    NoZone,
}

/// Credentials for an external identity provider that do not come from the keyed configuration.
#[derive(Default)]
pub(crate) struct Client {
    pub(crate) id: Option<String>,
    pub(crate) secret: Option<Secret<String>>,
    pub(crate) scope: Option<String>,
}

/// Everything the pipeline needs to know of the control headers.
pub(crate) struct Plan {
    pub(crate) remote_url: String,
    pub(crate) mesh: bool,
    pub(crate) api_base_path: String,
    pub(crate) environment: Option<String>,
    pub(crate) realm: String,
    /// OAuth and basic credentials, headers to remove, claims.
    pub(crate) config: Arc<RouteConfig>,
    /// Consumers whose traffic is published; always of the `jumper_config` header.
    pub(crate) listeners: Arc<RouteConfig>,
    pub(crate) token_endpoint: Option<String>,
    /// The provider's credentials for all consumers.
    pub(crate) provider_client: Client,
    /// The consumer's own credentials.
    pub(crate) consumer_client: Client,
    /// The last resort of a failover was taken.
    pub(crate) secondary: bool,
}

/// Reads the control headers.
///
/// # Errors
/// [`PlanError`].
pub(crate) fn resolve(
    headers: &HeaderMap,
    decoder: &Decoder,
    zones: &ZoneHealth,
    ambient: &Ambient,
    now: Timestamp,
) -> Result<Plan, PlanError> {
    let encoded = last_line(headers, "jumper_config");
    let object = decoder.object(encoded.as_deref(), now)?;
    if headers.contains_key("routing_config") {
        let encoded = last_line(headers, "routing_config");
        let entries = decoder.array(encoded.as_deref(), now)?;
        let skip = first(headers, "x-failover-skip-zone");
        let chosen = balance::choose(&entries, skip.as_deref(), zones);
        let (entry, secondary) = chosen.ok_or(PlanError::NoZone)?;
        return of_entry(headers, Arc::clone(entry), object, secondary, ambient);
    }
    of_headers(headers, object, ambient)
}

fn of_headers(
    headers: &HeaderMap,
    config: Arc<RouteConfig>,
    ambient: &Ambient,
) -> Result<Plan, PlanError> {
    let remote_url = match last_url(headers, "remote_api_url") {
        Some(url) => url.into_owned(),
        None => balanced(config.load_balancing.as_ref(), ambient)?.ok_or(PlanError::NoTarget)?,
    };
    let issuer = last_url(headers, "issuer");
    let owned = |name| last(headers, name).map(Cow::into_owned);
    let secret = |name| owned(name).map(Secret::new);
    Ok(Plan {
        remote_url,
        mesh: config.mesh || issuer.is_some(),
        api_base_path: owned("api_base_path").unwrap_or_default(),
        environment: owned("environment"),
        realm: realm(headers, issuer.as_deref()),
        listeners: Arc::clone(&config),
        config,
        token_endpoint: last_url(headers, "token_endpoint").map(Cow::into_owned),
        provider_client: Client {
            id: owned("client_id"),
            secret: secret("client_secret"),
            scope: owned("scopes"),
        },
        consumer_client: Client {
            id: owned("x-spacegate-client-id"),
            secret: secret("x-spacegate-client-secret"),
            scope: owned("x-spacegate-scope"),
        },
        secondary: false,
    })
}

fn of_entry(
    headers: &HeaderMap,
    entry: Arc<RouteConfig>,
    listeners: Arc<RouteConfig>,
    secondary: bool,
    ambient: &Ambient,
) -> Result<Plan, PlanError> {
    let remote_url = match balanced(entry.load_balancing.as_ref(), ambient)? {
        Some(url) => url,
        None => present(entry.remote_api_url.as_ref()).ok_or(PlanError::NoFailoverTarget)?,
    };
    Ok(Plan {
        remote_url,
        mesh: entry.mesh || entry.issuer.is_some(),
        api_base_path: entry.api_base_path.clone().unwrap_or_default(),
        environment: entry.environment.clone(),
        realm: realm(headers, entry.issuer.as_deref()),
        listeners,
        token_endpoint: present(entry.external_token_endpoint.as_ref()),
        provider_client: Client {
            id: entry.client_id.clone(),
            secret: entry.client_secret.clone(),
            scope: entry.scopes.clone(),
        },
        consumer_client: Client {
            id: entry.x_spacegate_client_id.clone(),
            secret: entry.x_spacegate_client_secret.clone(),
            scope: entry.x_spacegate_scope.clone(),
        },
        config: entry,
        secondary,
    })
}

/// A server of the list; `None` when there is no list.
fn balanced(
    balancing: Option<&LoadBalancing>,
    ambient: &Ambient,
) -> Result<Option<String>, PlanError> {
    let Some(balancing) = balancing.filter(|it| !it.servers.is_empty()) else {
        return Ok(None);
    };
    let fraction = balance::fraction(ambient.rng.as_ref());
    let server = balance::pick(&balancing.servers, fraction).ok_or(PlanError::NoWeight)?;
    // A server without URL cannot be called: the same as no target.
    Ok(Some(server.upstream.clone().unwrap_or_default()))
}

fn present(value: Option<&String>) -> Option<String> {
    value.filter(|value| !value.trim().is_empty()).cloned()
}

/// The realm of tokens: the header, else what follows `realms/` in the issuer, else `default`. A
/// realm in the configuration is ignored, as in the original.
fn realm(headers: &HeaderMap, issuer: Option<&str>) -> String {
    if let Some(realm) = last(headers, "realm") {
        return realm.into_owned();
    }
    let issuer = issuer.filter(|issuer| !issuer.trim().is_empty());
    issuer.map_or_else(
        || "default".to_owned(),
        |issuer| realm_of(issuer).to_owned(),
    )
}

/// What follows the last `realms/`, or everything.
pub(crate) fn realm_of(issuer: &str) -> &str {
    issuer
        .rsplit_once("realms/")
        .map_or(issuer, |(_, realm)| realm)
}
