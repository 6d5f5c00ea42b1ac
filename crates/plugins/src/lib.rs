//! The built-in plugins, one module each.

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
    let _ = dependencies;
    todo!()
}
