//! The identity provider's endpoints, shaped like Keycloak's.

use std::sync::Arc;

use o28m_core::Ambient;
use o28m_iris::Iris;
use o28m_net::HttpService;

/// Settings of the surface.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Path under which everything is served, such as `/auth`.
    pub relative_path: String,
    /// Public URL (with path) or host name; unset takes it from each request.
    pub hostname: Option<String>,
    /// Believe `X-Forwarded-*`.
    pub proxy_headers: bool,
}

/// The public listener: OIDC endpoints and the Admin REST API.
#[must_use]
pub fn service(iris: Arc<Iris>, settings: Settings, ambient: Ambient) -> Arc<dyn HttpService> {
    let _ = (iris, settings, ambient);
    todo!()
}

/// The management listener: health and metrics.
#[must_use]
pub fn management(
    iris: Arc<Iris>,
    settings: Settings,
    metrics: o28m_telemetry::metrics::Registry,
) -> Arc<dyn HttpService> {
    let _ = (iris, settings, metrics);
    todo!()
}
