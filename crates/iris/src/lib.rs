//! The identity provider: realms, clients, client scopes, protocol mappers, grants and tokens.
//! It speaks no HTTP.

use std::sync::Arc;

use o28m_core::{Ambient, Secret};
use o28m_jose::JwkSet;
use o28m_store::Store;
use serde_json::Value;

/// Settings of the identity provider.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Administrator made in the master realm when there is none yet.
    pub admin_user: Option<String>,
    /// Its password.
    pub admin_password: Option<Secret<String>>,
}

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {}

/// How a client scope is assigned in its realm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScopeAssignment {
    /// New clients get it as a default client scope.
    Default,
    /// New clients get it as an optional client scope.
    Optional,
    /// Not assigned to new clients.
    None,
}

/// The identity provider. Cheap to share.
pub struct Iris {}

impl Iris {
    /// Opens the identity provider on a migrated store: makes the master realm and the administrator
    /// where they are missing, and starts following changes made by other processes.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn open(
        store: Store,
        settings: Settings,
        ambient: Ambient,
    ) -> Result<Arc<Self>, Error> {
        let _ = (store, settings, ambient);
        todo!()
    }

    /// Makes the realm of this representation unless it exists; an existing one is left as it is.
    ///
    /// # Errors
    /// When the representation is invalid or the store fails.
    pub async fn ensure_realm(&self, representation: &Value) -> Result<(), Error> {
        let _ = representation;
        todo!()
    }

    /// Makes the client scope or updates an existing one's mappers to the given ones, and assigns it.
    ///
    /// # Errors
    /// When the realm is missing, the representation is invalid or the store fails.
    pub async fn ensure_client_scope(
        &self,
        realm: &str,
        representation: &Value,
        assignment: ScopeAssignment,
    ) -> Result<(), Error> {
        let _ = (realm, representation, assignment);
        todo!()
    }

    /// Makes the client unless it exists; an existing one keeps everything but its secret, which is set.
    ///
    /// # Errors
    /// When the realm is missing, the representation is invalid or the store fails.
    pub async fn ensure_client(&self, realm: &str, representation: &Value) -> Result<(), Error> {
        let _ = (realm, representation);
        todo!()
    }

    /// The published keys of a realm, by name; from memory once loaded.
    ///
    /// # Errors
    /// When the store fails; `Ok(None)` for a realm that does not exist.
    pub async fn jwk_set(&self, realm: &str) -> Result<Option<Arc<JwkSet>>, Error> {
        let _ = realm;
        todo!()
    }
}
