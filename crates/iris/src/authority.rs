//! Who may use the Admin REST API for what.

use std::collections::{BTreeSet, HashSet};

use o28m_jose::CompactJws;

use crate::admin::roles::MASTER_ROLES;
use crate::dpop::bound_to;
use crate::mapper::Granted;
use crate::model::{Fields as _, Realm, Rep, Role};
use crate::{Error, Iris, MASTER};

/// Client of a realm whose roles give rights over that realm.
const REALM_MANAGEMENT: &str = "realm-management";

/// What a call needs (Keycloak 26.5 `AdminPermissionEvaluator` without fine-grained permissions).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are Keycloak's role names")]
pub enum Permission {
    /// Whoever is signed in; the entry decides what they see.
    SignedIn,
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
    QueryGroups,
    ViewEvents,
    ManageEvents,
    ViewIdentityProviders,
    /// Making realms.
    CreateRealm,
}

impl Permission {
    /// The roles of which one suffices: whoever may manage may view, whoever may view may query.
    #[must_use]
    pub const fn roles(self) -> &'static [&'static str] {
        match self {
            Self::SignedIn => &[],
            Self::Any => &[
                "view-realm",
                "manage-realm",
                "view-clients",
                "manage-clients",
                "query-clients",
                "create-client",
                "view-users",
                "manage-users",
                "query-users",
                "query-groups",
                "query-realms",
                "view-events",
                "manage-events",
                "view-identity-providers",
                "manage-identity-providers",
                "view-authorization",
                "manage-authorization",
                "impersonation",
            ],
            Self::ViewRealm => &["view-realm", "manage-realm"],
            Self::ManageRealm => &["manage-realm"],
            Self::ViewClients => &["view-clients", "manage-clients"],
            Self::ManageClients => &["manage-clients"],
            Self::QueryClients => &["query-clients", "view-clients", "manage-clients"],
            Self::ViewUsers => &["view-users", "manage-users"],
            Self::ManageUsers => &["manage-users"],
            Self::QueryUsers => &["query-users", "view-users", "manage-users"],
            Self::QueryGroups => &["query-groups", "view-users", "manage-users"],
            Self::ViewEvents => &["view-events", "manage-events"],
            Self::ManageEvents => &["manage-events"],
            Self::ViewIdentityProviders => {
                &["view-identity-providers", "manage-identity-providers"]
            }
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
    /// Every role in the token's scope, of the realm that issued it.
    granted: Granted,
    realm_id: String,
    realm: String,
    user_id: String,
    client_id: String,
    origins: Vec<String>,
}

/// Realms somebody may know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Realms {
    /// Every one.
    All,
    /// These, by name.
    Named(Vec<String>),
}

impl Caller {
    /// Whether the caller may make a call that needs `permission`.
    #[must_use]
    pub fn may(&self, permission: Permission) -> bool {
        self.full
            || permission == Permission::SignedIn
            || permission
                .roles()
                .iter()
                .any(|role| self.roles.contains(*role))
    }

    /// The user behind the token.
    #[must_use]
    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    /// Id of the realm that issued the token.
    #[must_use]
    pub fn realm_id(&self) -> &str {
        &self.realm_id
    }

    /// The `clientId` the token was issued to.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The origins whose pages the client runs on; `*` stands for any.
    #[must_use]
    pub fn web_origins(&self) -> &[String] {
        &self.origins
    }

    /// Holds every right over every realm.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.full
    }

    /// The realms the caller administers, in part at least.
    #[must_use]
    pub fn realms(&self) -> Realms {
        if self.full {
            return Realms::All;
        }
        if self.realm != MASTER {
            let own = self.granted.clients.contains_key(REALM_MANAGEMENT);
            return Realms::Named(own.then(|| self.realm.clone()).into_iter().collect());
        }
        let clients = self.granted.clients.keys();
        let named = clients.filter_map(|client| client.strip_suffix("-realm"));
        Realms::Named(named.map(str::to_owned).collect())
    }

    /// Whether the caller may give this role to others: administration roles only by who has the right
    /// they give (Keycloak 26.5 `RolePermissions.checkAdminRoles`). `target` is the realm's name.
    pub(crate) fn may_give(&self, role: &Role, target: &str) -> bool {
        if self.full {
            return true;
        }
        let name = role.body.name.as_str();
        let has = |client: &str| {
            let own = self.granted.clients.get(client);
            role.body.realm == self.realm_id && own.is_some_and(|own| own.contains(name))
        };
        match &role.client_id {
            Some(client) if role.administers => {
                let over_target =
                    client == REALM_MANAGEMENT || *client == management_client(target, MASTER);
                (over_target && self.roles.contains(name)) || has(client)
            }
            None if target == MASTER && MASTER_ROLES.contains(&name) => {
                self.realm == MASTER && self.granted.realm.contains(name)
            }
            _ => true,
        }
    }
}

/// The client of realm `of` whose roles give rights over `target`.
pub(crate) fn management_client(target: &str, of: &str) -> String {
    if of == MASTER {
        format!("{target}-realm")
    } else {
        REALM_MANAGEMENT.to_owned()
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
        if name != MASTER && target.is_some_and(|realm| realm.name() != name) {
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
        // No proof is looked at here, so a token bound to a key proves nothing.
        if bound_to(&active.claims).is_some() {
            return Ok(Err(Unauthorized));
        }
        let scopes = active.client.body.default_scopes.iter();
        let scopes: Vec<_> = scopes
            .filter_map(|id| realm.scopes.get(id).cloned())
            .collect();
        let granted = self
            .visible_roles(&active.client, &active.user, &scopes)
            .await?;
        let roles = self.rights(&realm, target, &granted).await?;
        Ok(Ok(Caller {
            full: name == MASTER && granted.realm.contains("admin"),
            roles,
            granted,
            realm_id: realm.id().to_owned(),
            realm: name,
            user_id: active.user.body.id.clone(),
            client_id: active.client.client_id().to_owned(),
            origins: active.client.web_origins().to_vec(),
        }))
    }

    /// What these roles of `realm` let their holder do to the target realm.
    async fn rights(
        &self,
        realm: &Realm,
        target: Option<&Realm>,
        granted: &Granted,
    ) -> Result<HashSet<String>, Error> {
        let mut rights = HashSet::new();
        if realm.name() == MASTER && granted.realm.contains("create-realm") {
            rights.insert("create-realm".to_owned());
        }
        let Some(target) = target else {
            return Ok(rights);
        };
        let management = management_client(target.name(), realm.name());
        let own: Option<&BTreeSet<String>> = granted.clients.get(&management);
        if let Some(own) = own
            && self.is_management(realm, target, &management).await?
        {
            rights.extend(own.iter().cloned());
        }
        Ok(rights)
    }

    /// Whether the client was made for administrating the target: a name alone gives no rights.
    async fn is_management(
        &self,
        realm: &Realm,
        target: &Realm,
        client_id: &str,
    ) -> Result<bool, Error> {
        if realm.id() == target.id() {
            return Ok(true);
        }
        let client = self.client(realm.id(), client_id).await?;
        Ok(client.is_some_and(|client| client.body.manages.as_deref() == Some(target.id())))
    }

    /// Refuses to give away these roles, and what they contain, unless the caller may.
    ///
    /// # Errors
    /// [`Error::Forbidden`].
    pub async fn check_may_give(
        &self,
        caller: &Caller,
        realm_id: &str,
        realm: &str,
        roles: &[String],
    ) -> Result<(), Error> {
        if caller.is_full() {
            return Ok(());
        }
        for role in self.expand(realm_id, roles).await? {
            if !caller.may_give(&role, realm) {
                return Err(Error::Forbidden);
            }
        }
        Ok(())
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
