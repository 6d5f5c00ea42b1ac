//! The token gateway: replaces the consumer's token by one the provider trusts and forwards the call.

use o28m_core::Ambient;
use o28m_jose::slots::SharedKeys;
use o28m_net::{Body, BoxFuture, Connection, HttpService};
use o28m_telemetry::metrics::Registry;

/// Settings of the token gateway.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Prefix of the `iss` claim, without the realm.
    pub issuer_url: String,
    /// Name of this zone.
    pub zone: String,
    /// Public URL of this gateway, the `originStargate` claim and header.
    pub stargate_url: String,
    /// Zones whose consumers come from the internet.
    pub internet_facing_zones: Vec<String>,
    /// Verify provider certificates.
    pub tls_verify: bool,
}

/// The token gateway as a service; the listener and the gateway's in-process door share it.
pub struct Jumper {}

impl Jumper {
    /// A token gateway that signs with the process's keys.
    #[must_use]
    pub fn new(settings: Settings, keys: SharedKeys, metrics: &Registry, ambient: Ambient) -> Self {
        let _ = (settings, keys, metrics, ambient);
        todo!()
    }
}

impl HttpService for Jumper {
    fn call<'a>(
        &'a self,
        request: http::Request<Body>,
        connection: &'a Connection,
    ) -> BoxFuture<'a, http::Response<Body>> {
        let _ = (request, connection);
        todo!()
    }
}
