//! Who may use the Admin REST API for what.

use std::collections::HashSet;

use o28m_jose::CompactJws;

use crate::model::{Fields as _, Realm, Rep};
use crate::{Error, Iris, MASTER};

/// Client of a realm whose roles give rights over that realm.
const REALM_MANAGEMENT: &str = "realm-management";

/// What a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are Keycloak's role names")]
pub enum Permission {
    /// Any administrator of the realm.
    Any,
    ViewRealm,
    ManageRealm,
    ViewClients,
    ManageClients,
    QueryClients,
    ViewUsers,
    ManageUsers,
    QueryUsers,
    /// Giving and taking roles, which could give any right over the realm.
    MapRoles,
    /// Administration of the whole installation.
    CreateRealm,
}

impl Permission {
    /// The roles of which one suffices.
    const fn roles(self) -> &'static [&'static str] {
        match self {
            Self::Any => &[
                "view-realm",
                "manage-realm",
                "view-clients",
                "manage-clients",
                "query-clients",
                "view-users",
                "manage-users",
                "query-users",
            ],
            Self::ViewRealm => &["view-realm", "manage-realm"],
            Self::ManageRealm => &["manage-realm"],
            Self::ViewClients => &["view-clients", "manage-clients"],
            Self::ManageClients => &["manage-clients"],
            Self::QueryClients => &["query-clients", "view-clients", "manage-clients"],
            Self::ViewUsers => &["view-users", "manage-users"],
            Self::ManageUsers => &["manage-users"],
            Self::QueryUsers => &["query-users", "view-users", "manage-users"],
            Self::MapRoles => &["realm-admin"],
            Self::CreateRealm => &["create-realm"],
        }
    }
}

/// The token does not stand for anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("token is missing, invalid or expired")]
pub struct Unauthorized;

/// An authenticated administrator, or somebody without any rights.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Holds `admin` of the master realm.
    full: bool,
    /// Administration roles over the target realm, and `create-realm` of the master realm.
    roles: HashSet<String>,
}

impl Caller {
    /// Whether the caller may make a call that needs `permission`.
    #[must_use]
    pub fn may(&self, permission: Permission) -> bool {
        self.full
            || permission
                .roles()
                .iter()
                .any(|role| self.roles.contains(*role))
    }
}

impl Iris {
    /// Who presents this access token, and what they may do to the target realm. `issuer_base` is what
    /// issuers start with in this request, up to the realm's name.
    ///
    /// # Errors
    /// `Ok(Err(Unauthorized))` for a token that stands for nobody; an error when the store fails.
    pub async fn authorize(
        &self,
        token: &str,
        target: Option<&Realm>,
        issuer_base: &str,
    ) -> Result<Result<Caller, Unauthorized>, Error> {
        let Some(name) = claimed_realm(token, issuer_base) else {
            return Ok(Err(Unauthorized));
        };
        let is_target = target.is_some_and(|realm| realm.name() == name);
        if name != MASTER && !is_target {
            return Ok(Err(Unauthorized));
        }
        let realm = self.realm(&name).await?.filter(|realm| realm.is_enabled());
        let Some(realm) = realm else {
            return Ok(Err(Unauthorized));
        };
        let issuer = format!("{issuer_base}{name}");
        let Ok(active) = self.active(&realm, token, &issuer).await? else {
            return Ok(Err(Unauthorized));
        };
        let scopes = active.client.body.default_scopes.iter();
        let scopes: Vec<_> = scopes
            .filter_map(|id| realm.scopes.get(id).cloned())
            .collect();
        let granted = self
            .visible_roles(&active.client, &active.user, &scopes)
            .await?;
        let mut roles = HashSet::new();
        let master = name == MASTER;
        if master && granted.realm.contains("create-realm") {
            roles.insert("create-realm".to_owned());
        }
        let management = if master {
            "master-realm"
        } else {
            REALM_MANAGEMENT
        };
        if is_target && let Some(own) = granted.clients.get(management) {
            roles.extend(own.iter().cloned());
        }
        Ok(Ok(Caller {
            full: master && granted.realm.contains("admin"),
            roles,
        }))
    }
}

/// The realm a token says it is of, not verified yet.
fn claimed_realm(token: &str, issuer_base: &str) -> Option<String> {
    if token.len() > o28m_core::limits::TOKEN_BYTES_MAX {
        return None;
    }
    let jws = CompactJws::parse(token).ok()?;
    let claims: Rep = serde_json::from_slice(&jws.payload).ok()?;
    claims
        .text("iss")?
        .strip_prefix(issuer_base)
        .map(str::to_owned)
}
