//! Discovery and JWK Set for the tokens the gateway signs. It holds no private key.

use o28m_jose::slots::SharedKeys;
use o28m_net::{Body, BoxFuture, Connection, HttpService};

/// Settings of the issuer.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Prefix of the short routes, such as `/api/v1`.
    pub base_path: String,
    /// Inserted after the host in discovery documents.
    pub path_prefix: String,
    /// Issuer URL without the realm; wins over the request's host when set.
    pub public_url: Option<String>,
}

/// The issuer as a service; the listener and the gateway's in-process door share it.
pub struct Issuer {}

impl Issuer {
    /// An issuer over the process's keys.
    #[must_use]
    pub fn new(settings: Settings, keys: SharedKeys) -> Self {
        let _ = (settings, keys);
        todo!()
    }
}

impl HttpService for Issuer {
    fn call<'a>(
        &'a self,
        request: http::Request<Body>,
        connection: &'a Connection,
    ) -> BoxFuture<'a, http::Response<Body>> {
        let _ = (request, connection);
        todo!()
    }
}
