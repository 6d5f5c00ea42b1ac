//! The identity provider's endpoints, shaped like Keycloak's.
//!
//! Everything here translates: requests into commands of `o28m-iris`, its results and errors into the
//! original's bodies. It holds no state and decides nothing about tokens or realms.

mod admin;
mod base;
mod browser;
mod client_auth;
mod cors;
mod errors;
mod login_events;
mod management;
mod metadata;
mod protocol;
mod reply;
mod requests;
mod router;
mod service;
mod web;

use std::sync::Arc;

use o28m_core::limits;
use o28m_iris::Iris;
use o28m_net::HttpService;
use o28m_net::server::HeadLimits;
use o28m_telemetry::metrics::Registry;

/// What its listeners take of request heads.
pub const HEAD_LIMITS: HeadLimits = HeadLimits {
    line_bytes_max: limits::IDENTITY_HEAD_BYTES_MAX,
    head_bytes_max: limits::IDENTITY_HEAD_BYTES_MAX,
    lines_max: limits::HEADER_LINES_MAX,
};

/// Settings of the surface.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Path under which everything is served, such as `/auth`.
    pub relative_path: String,
    /// Public URL (with path) or host name; unset takes it from each request.
    pub hostname: Option<String>,
    /// Believe `X-Forwarded-*`.
    pub proxy_headers: bool,
    /// Count how clients authenticate with their secrets: `keycloak_client_auth_method_basic_total`,
    /// `…_post_total` and `…_postbasic_total` by client, realm and path.
    pub client_auth_metrics: bool,
}

/// The public listener: OIDC endpoints and the Admin REST API, counting their requests as
/// `http_server_requests_seconds` and logins as `keycloak_user_events_total`.
#[must_use]
pub fn service(iris: Arc<Iris>, settings: Settings, metrics: Registry) -> Arc<dyn HttpService> {
    iris.use_web(Arc::new(web::Web::new()));
    let counted = metrics.clone();
    iris.on_event(move |realm, event| login_events::count(&counted, realm, event));
    Arc::new(service::Public::new(iris, settings, metrics))
}

/// The management listener: health and metrics.
#[must_use]
pub fn management(iris: Arc<Iris>, settings: Settings, metrics: Registry) -> Arc<dyn HttpService> {
    Arc::new(management::Management::new(iris, &settings, metrics))
}
