//! The built-in plugins, one module each.
//!
//! Names, fields, messages and order of work are those of Kong 3.9.3 and kong-plugin-jwt-keycloak
//! 1.8.1; what differs is in `docs/compat/kong-plugins.md`. Schemas, defaults and validation of the
//! configurations live in `o28m-kong`; this crate executes what passed them.

mod acl;
mod basic_auth;
mod config;
mod correlation_id;
mod cors;
mod delivery;
#[cfg(test)]
mod hostile;
mod identity;
mod ip_restriction;
mod jwt_keycloak;
mod key_auth;
mod log;
mod opentelemetry;
mod prometheus;
mod rate_limiting;
mod redact;
mod redis;
mod request_size_limiting;
mod request_termination;
mod request_transformer;
mod response_transformer;
#[cfg(test)]
mod testing;
mod tracing;
mod zipkin;

use std::sync::Arc;

pub use delivery::Deliveries;
pub use opentelemetry::Instrumentations;

use o28m_core::Ambient;
use o28m_gateway::{LocalIssuers, PluginKind};
use o28m_telemetry::metrics::Registry;

/// What plugins need from the process.
pub struct Dependencies {
    /// Clock and random source.
    pub ambient: Ambient,
    /// Key sets of issuers in this process.
    pub local_issuers: Arc<dyn LocalIssuers>,
    /// Issuers that jwt-keycloak refuses on every route.
    pub blocked_issuers: Vec<String>,
    /// Overrides jwt-keycloak's priority of 1005.
    pub jwt_keycloak_priority: Option<i32>,
    /// What sends spans and log lines on.
    pub deliveries: Deliveries,
    /// What opentelemetry makes spans of.
    pub instrumentations: Instrumentations,
    /// Id of this process, as the Admin API shows it.
    pub node_id: String,
    /// Name of this machine.
    pub hostname: String,
}

impl Dependencies {
    /// What every process has. The rest is as in a process without settings, and nobody looks at its
    /// metrics.
    #[must_use]
    pub fn new(ambient: Ambient, local_issuers: Arc<dyn LocalIssuers>) -> Self {
        Self {
            ambient,
            local_issuers,
            blocked_issuers: Vec::new(),
            jwt_keycloak_priority: None,
            deliveries: Deliveries::new(&Registry::default()),
            instrumentations: Instrumentations::default(),
            node_id: String::new(),
            hostname: String::new(),
        }
    }
}

/// Every plugin this build executes.
#[must_use]
pub fn kinds(dependencies: Dependencies) -> Vec<Arc<dyn PluginKind>> {
    let ambient = dependencies.ambient.clone();
    let deliveries = dependencies.deliveries.clone();
    let tardis = Arc::new(tracing::Tardis::new(&ambient));
    let hostname: Arc<str> = dependencies.hostname.as_str().into();
    let opentelemetry = opentelemetry::Kind {
        ambient: ambient.clone(),
        deliveries: deliveries.clone(),
        tardis: tardis.clone(),
        hostname: hostname.clone(),
        node_id: dependencies.node_id.as_str().into(),
        instrumentations: dependencies.instrumentations.clone(),
    };
    let zipkin = zipkin::Kind {
        ambient: ambient.clone(),
        deliveries: deliveries.clone(),
        tardis,
        hostname,
    };
    vec![
        Arc::new(opentelemetry),
        Arc::new(zipkin),
        Arc::new(log::http(&deliveries)),
        Arc::new(log::file(&deliveries)),
        Arc::new(log::tcp(&deliveries)),
        Arc::new(log::udp(&deliveries)),
        Arc::new(prometheus::Kind::new(dependencies.deliveries.metrics())),
        Arc::new(jwt_keycloak::Kind::new(dependencies)),
        Arc::new(acl::Kind),
        Arc::new(basic_auth::Kind),
        Arc::new(cors::Kind),
        Arc::new(correlation_id::Kind::new(ambient.clone())),
        Arc::new(ip_restriction::Kind),
        Arc::new(key_auth::Kind(ambient.clone())),
        Arc::new(rate_limiting::merged::Kind::new(ambient.clone())),
        Arc::new(rate_limiting::stock::Kind::new(ambient)),
        Arc::new(request_size_limiting::Kind),
        Arc::new(request_termination::Kind),
        Arc::new(request_transformer::Kind::default()),
        Arc::new(response_transformer::Kind),
    ]
}
