//! The token gateway: replaces the consumer's token by one the provider trusts and forwards the
//! call.
//!
//! Compatible with the gateway's Jumper sidecar (release line 4.14). It does not verify incoming
//! tokens, that is the gateway's part before it, and it loads no keys: it signs with the key ring
//! that the process shares.

mod admission;
mod authorization;
mod balance;
mod cache;
mod capture;
mod claims;
mod config;
mod credentials;
mod external;
mod failure;
mod headers;
mod incoming;
mod outgoing;
mod pipeline;
mod plan;
#[cfg(test)]
mod properties;
mod signer;
mod spectre;
mod status;
mod target;
mod time;
mod trace;
mod transport;
mod zones;

use std::time::Duration;

use o28m_core::{Ambient, limits};
use o28m_jose::slots::SharedKeys;
use o28m_net::{Body, BoxFuture, Connection, HttpService, Rejection};
use o28m_telemetry::metrics::Registry;
use tokio_util::sync::CancellationToken;

pub use balance::{MessageError, ZoneHealth};
pub use external::TokenCacheSettings;
pub use headers::CONTROL_HEADERS;
pub use zones::ZoneFeed;

use crate::pipeline::Pipeline;

/// What happens to requests whose target is plain HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlaintextMode {
    /// Nothing.
    #[default]
    Insecure,
    /// They are logged and counted.
    Warn,
    /// They are answered with 502 and counted.
    Strict,
}

/// Settings of the token gateway.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Prefix of the `iss` claim, without the realm.
    pub issuer_url: String,
    /// Name of this zone.
    pub zone: String,
    /// Public URL of this gateway, the `source` of published events.
    pub stargate_url: String,
    /// Zones whose consumers come from the internet; compared without case.
    pub internet_facing_zones: Vec<String>,
    /// Verify certificates of providers and identity providers.
    pub tls_verify: bool,
    /// Name of the service in error bodies (`JUMPER_NAME`).
    pub name: String,
    /// What happens to plain targets (`JUMPER_SSL_PLAINTEXT_VALIDATION_MODE`).
    pub plaintext: PlaintextMode,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for a response head after the request was sent.
    pub response_timeout: Duration,
    /// Peers whose `X-Forwarded-*` headers pass; the expression must match the whole address.
    /// `None` means loopback.
    pub trusted_proxies: Option<regex::Regex>,
    /// Add the original's cache and security headers to every response.
    pub security_headers: bool,
    /// Tell callers the cause of transport errors.
    pub verbose_errors: bool,
    /// Bytes of the cache of signed tokens; 0 turns it off.
    pub signed_tokens_bytes_max: usize,
    /// Tokens of external identity providers.
    pub token_cache: TokenCacheSettings,
    /// Where events about traffic go; `ENVIRONMENT_PLACEHOLDER` in it stands for the realm
    /// (`PUBLISH_EVENT_URL`).
    pub publish_event_url: String,
    /// Health of zones nothing is known about (`ZONE_HEALTH_DEFAULT`).
    pub zones_healthy_by_default: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            issuer_url: String::new(),
            zone: "default".to_owned(),
            stargate_url: String::new(),
            internet_facing_zones: ["space", "canis", "aries"].map(str::to_owned).to_vec(),
            tls_verify: false,
            name: "jumper".to_owned(),
            plaintext: PlaintextMode::default(),
            connect_timeout: Duration::from_secs(10),
            response_timeout: Duration::from_secs(61),
            trusted_proxies: None,
            security_headers: true,
            verbose_errors: true,
            signed_tokens_bytes_max: limits::SIGNED_TOKENS_BYTES_MAX,
            token_cache: TokenCacheSettings::default(),
            publish_event_url: "http://producer.stage:8080/v1/events".to_owned(),
            zones_healthy_by_default: true,
        }
    }
}

/// The token gateway as a service; the listener and the gateway's in-process door share it.
pub struct Jumper {
    pipeline: Pipeline,
}

impl Jumper {
    /// A token gateway that signs with the process's keys.
    #[must_use]
    pub fn new(settings: Settings, keys: SharedKeys, metrics: &Registry, ambient: Ambient) -> Self {
        warn_about(&settings);
        Self {
            pipeline: Pipeline::new(settings, keys, metrics, ambient),
        }
    }

    /// Makes the readiness probe fail, before the listener stops accepting.
    pub fn drain(&self) {
        self.pipeline.status().drain();
    }

    /// Waits until events about traffic that is over have been published; part of a clean stop.
    pub async fn flushed(&self) {
        self.pipeline.spectre().flushed().await;
    }

    /// Follows the news about other zones until `stop` is cancelled. A server that is away is
    /// waited for.
    pub async fn follow_zones(&self, feed: ZoneFeed, stop: CancellationToken) {
        let connected = self.pipeline.status().zone_feed();
        zones::follow(&feed, self.zones(), &connected, &stop).await;
    }

    /// What is known of other zones; whoever hears news about them puts it here.
    #[must_use]
    pub fn zones(&self) -> &ZoneHealth {
        self.pipeline.zones()
    }
}

/// Settings that work but are probably not what was meant.
fn warn_about(settings: &Settings) {
    let url = settings.issuer_url.as_str();
    if url.ends_with('/') {
        tracing::warn!("jumper issuer URL ends with a slash: issuers of tokens get two");
    }
    if url
        .rsplit_once("/realms/")
        .is_some_and(|(_, realm)| !realm.is_empty())
    {
        tracing::warn!("jumper issuer URL ends with a realm: issuers of tokens name two realms");
    }
    if !settings.tls_verify {
        tracing::warn!("jumper does not verify certificates of providers");
    }
}

impl HttpService for Jumper {
    fn call<'a>(
        &'a self,
        request: http::Request<Body>,
        connection: &'a Connection,
    ) -> BoxFuture<'a, http::Response<Body>> {
        Box::pin(self.pipeline.answer(request, connection))
    }

    fn reject(&self, rejection: &Rejection, _: &Connection) -> http::Response<Body> {
        self.pipeline.reject(rejection)
    }
}
