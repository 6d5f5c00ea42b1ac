//! The identity provider: realms, clients, client scopes, protocol mappers, grants and tokens.
//! It speaks no HTTP.
//!
//! Administration reads and writes the store directly; what tokens are made of is compiled once and
//! kept in memory until something it was made of changes, on whichever replica.

mod admin;
mod authority;
mod cache;
mod cpu;
mod dpop;
mod error;
mod events;
mod grant;
mod keys;
mod load;
mod lockout;
mod login;
mod mapper;
mod model;
mod new_realm;
mod password;
mod policy;
pub mod representation;
pub mod schema;
mod session;
mod sessions;
mod token;
mod verify;
mod web;

use std::sync::{Arc, OnceLock};

use o28m_core::{Ambient, Secret};
use o28m_jose::JwkSet;
use o28m_store::{Store, Write};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

pub use admin::clients::ClientFilter;
pub use admin::evaluate::Example;
pub use admin::export::Export;
pub use admin::files::ImportError;
pub use admin::groups::GroupFilter;
pub use admin::mappers::MapperHolder;
pub use admin::realms::RealmFilter;
pub use admin::roles::{RoleContainer, RoleFilter, RoleHolder};
pub use admin::scopes::{ScopeAssignment, ScopeHolder};
pub use admin::users::UserFilter;
pub use authority::{Caller, Permission, Realms, Unauthorized};
pub use cpu::Busy;
pub use dpop::{ProofProblem, Proven};
pub use error::{
    AssertionProblem, CodeProblem, DeviceProblem, Error, ExchangeProblem, GrantError, Invalid,
    RefreshProblem, Thing,
};
pub use events::{AdminEvent, Event, EventFilter};
pub use grant::Grant;
pub use keys::provider::ids as key_providers;
pub use keys::{Error as KeyMakingError, Keys};
pub use login::code::Redemption;
pub use login::device::DeviceForm;
pub use login::exchange::Exchange;
pub use login::{
    Browser, ConsentForm, ConsentItem, DeviceAuthorization, Identity, LoginError, LoginForm,
    LoginProblem, LoginStep, LogoutForm, LogoutFrame, LogoutStep, NewPasswordProblem, Outcome,
    Page, PasswordForm, PushRefused, Pushed, ResponseMode, Return,
};
pub use mapper::TYPES as MAPPER_TYPES;
pub use model::{Client, Realm, Rep, User};
pub use policy::PasswordProblem;
pub use sessions::SessionsOf;
pub use token::{Origin, Tokens};
pub use verify::{MissingScope, Revocation};
pub use web::{Web, WebCall, WebError};

use cache::{Cache, Changed, group};
use cpu::Cpu;
use login::client_keys::ClientKeys;
use login::farewell;
use model::{Group, Role};

/// Name of the realm of administrators.
pub const MASTER: &str = "master";

/// The version whose behaviour is offered, as clients read it.
pub const KEYCLOAK_VERSION: &str = "26.5.7";

/// Compiled realms in memory at most: with their scopes and keys, each takes about 100 KiB.
const REALMS_MAX: usize = 1_000;
/// Compiled clients in memory at most.
const CLIENTS_MAX: usize = 20_000;
/// Compiled users in memory at most; every service account is one.
const USERS_MAX: usize = 20_000;
/// Compiled roles in memory at most.
const ROLES_MAX: usize = 20_000;
/// Compiled groups in memory at most.
const GROUPS_MAX: usize = 10_000;

/// Signatures waiting or made at once: a third of a second of work on two processors.
const SIGNING_MAX: usize = 512;
/// Password checks waiting or made at once: about a second of work on two processors.
const HASHING_MAX: usize = 64;

/// Settings of the identity provider.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Administrator made in the master realm when there is none yet.
    pub admin_user: Option<String>,
    /// Its password.
    pub admin_password: Option<Secret<String>>,
    /// Client with the rights of an administrator, made in the master realm with the administrator or
    /// instead of it.
    pub admin_client: Option<String>,
    /// Its secret.
    pub admin_client_secret: Option<Secret<String>>,
}

/// The identity provider. Cheap to share.
pub struct Iris {
    store: Store,
    ambient: Ambient,
    changed: Arc<Changed>,
    realms: Cache<Realm>,
    clients: Cache<Client>,
    users: Cache<User>,
    roles: Cache<Role>,
    groups: Cache<Group>,
    events: events::Queue,
    listener: OnceLock<events::Listener>,
    web: OnceLock<Arc<dyn Web>>,
    /// Bounds calls to clients about logouts.
    lines: Arc<Semaphore>,
    client_keys: ClientKeys,
    signing: Cpu,
    hashing: Cpu,
    _follow: AbortOnDropHandle<()>,
}

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
        let changed = Arc::new(Changed::default());
        let version = store.version().await?;
        changed.note(version, []);
        let clock = Arc::clone(&ambient.clock);
        let follow = cache::follow(store.clone(), Arc::clone(&changed), clock, version);
        let iris = Self {
            realms: Cache::new(REALMS_MAX, &changed),
            clients: Cache::new(CLIENTS_MAX, &changed),
            users: Cache::new(USERS_MAX, &changed),
            roles: Cache::new(ROLES_MAX, &changed),
            groups: Cache::new(GROUPS_MAX, &changed),
            events: events::Queue::start(store.clone()),
            listener: OnceLock::new(),
            web: OnceLock::new(),
            lines: farewell::lines(),
            client_keys: ClientKeys::default(),
            signing: Cpu::new(SIGNING_MAX),
            hashing: Cpu::new(HASHING_MAX),
            _follow: AbortOnDropHandle::new(tokio::spawn(follow)),
            store,
            ambient,
            changed,
        };
        iris.ensure_master(&settings).await?;
        Ok(Arc::new(iris))
    }

    /// Makes the realm of this representation unless it exists; an existing one is left as it is.
    ///
    /// # Errors
    /// When the representation is invalid or the store fails.
    pub async fn ensure_realm(&self, representation: &Value) -> Result<(), Error> {
        let rep = representation::REALM.check(representation)?;
        match Box::pin(self.create_realm(rep, None)).await {
            Err(Error::Exists {
                thing: Thing::Realm,
                ..
            }) => Ok(()),
            other => other.map(|_| ()),
        }
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
        let rep = representation::CLIENT_SCOPE.check(representation)?;
        let realm = self.existing_realm(realm).await?;
        self.put_client_scope(realm.id(), rep, assignment).await
    }

    /// Makes the client unless it exists; an existing one keeps everything but its secret, which is set.
    ///
    /// # Errors
    /// When the realm is missing, the representation is invalid or the store fails.
    pub async fn ensure_client(&self, realm: &str, representation: &Value) -> Result<(), Error> {
        let rep = representation::CLIENT.check(representation)?;
        let realm = self.existing_realm(realm).await?;
        let secret = rep.get("secret").cloned();
        let client_id = rep
            .get("clientId")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        match self.create_client(realm.id(), rep).await {
            Err(Error::Exists {
                thing: Thing::Client,
                ..
            }) => {}
            other => return other.map(|_| ()),
        }
        let Some(client) = self
            .client_body_by_client_id(realm.id(), &client_id)
            .await?
        else {
            return Err(Error::Missing(Thing::Client));
        };
        if secret.is_none() || client.rep.get("secret") == secret.as_ref() {
            return Ok(());
        }
        let change = secret.map(|secret| ("secret".to_owned(), secret));
        self.update_client(realm.id(), &client.id, change.into_iter().collect())
            .await
    }

    /// The published keys of a realm, by name; from memory once loaded.
    ///
    /// # Errors
    /// When the store fails; `Ok(None)` for a realm that does not exist.
    pub async fn jwk_set(&self, realm: &str) -> Result<Option<Arc<JwkSet>>, Error> {
        let realm = self.realm(realm).await?;
        Ok(realm.map(|realm| Arc::clone(&realm.keys.jwk_set)))
    }

    /// Reads everything anew from the store when it is used next.
    pub fn forget_all(&self) {
        self.changed.forget_now();
    }

    /// Whether the database answered lately; never waits.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        self.store.is_reachable()
    }

    /// The realm, or the error that it does not exist.
    async fn existing_realm(&self, name: &str) -> Result<Arc<Realm>, Error> {
        self.realm(name).await?.ok_or(Error::Missing(Thing::Realm))
    }

    /// Writes, and makes this process see the change at once.
    async fn write(&self, realm_id: &str, steps: Vec<Write>) -> Result<(), o28m_store::Error> {
        let mut names = Vec::new();
        for step in &steps {
            let (kind, id, owner) = match step {
                Write::Insert(object) | Write::Upsert(object) | Write::Update { object, .. } => {
                    (object.kind, &object.id, object.owner.as_str())
                }
                Write::Delete { kind, id } => (*kind, id, realm_id),
            };
            names.push(group(kind, owner));
            names.push(id.clone());
        }
        let version = self.store.write(steps).await?;
        self.changed.note(version, names);
        Ok(())
    }
}
