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
#[cfg(test)]
mod hostile;
mod identity;
mod ip_restriction;
mod jwt_keycloak;
mod key_auth;
mod rate_limiting;
mod redis;
mod request_size_limiting;
mod request_termination;
mod request_transformer;
mod response_transformer;
#[cfg(test)]
mod testing;

use std::sync::Arc;

use o28m_core::Ambient;
use o28m_gateway::{LocalIssuers, PluginKind};

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
}

/// Every plugin this build executes.
#[must_use]
pub fn kinds(dependencies: Dependencies) -> Vec<Arc<dyn PluginKind>> {
    let ambient = dependencies.ambient.clone();
    vec![
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
