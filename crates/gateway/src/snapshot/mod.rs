//! Everything a request needs to know of the configuration: immutable, swapped as a whole, updated
//! incrementally with structural sharing.

mod certificates;
mod consumers;
mod credentials;
mod divergences;
mod instances;
mod interned;
mod plugins;
mod references;
mod services;
mod skipped;
#[cfg(test)]
mod tests;
mod update;
mod upstreams;

pub(crate) use certificates::{Certificates, UpstreamTls};
pub(crate) use plugins::{Instance, Kinds, Scopes};
pub use references::Variables;
pub(crate) use services::{Balanced, Destination, EnginePorts, RouteEntry, ServiceEntry};
pub use update::TARGET_HEALTH;
pub(crate) use update::{Compiler, ENTITY_KINDS, FIRST_KINDS, Update, is_costly};

use std::sync::Arc;

use o28m_core::id::number;
use o28m_kong::{Consumer, RouterFlavor};
use o28m_router::{Calculation, Router};
use rpds::{HashTrieMapSync, RedBlackTreeSetSync};

use consumers::Consumers;
use credentials::Credentials;
pub use credentials::StoredCredential;
use plugins::Plugins;
use references::References;
use skipped::Skipped;
use upstreams::Upstreams;

use crate::balance::{Balancer, Balancing};

/// Id of an entity as a number: cheaper to hash and compare than its text.
type Id = u128;

/// Hashes the keys that every request looks up, several times: a quarter of what the standard one costs.
type QuickHash = foldhash::fast::RandomState;

/// The configuration of the data plane at one version.
#[derive(Clone, Default)]
pub struct Snapshot {
    version: i64,
    router: Router,
    routes: HashTrieMapSync<Id, Arc<RouteEntry>, QuickHash>,
    services: HashTrieMapSync<Id, Arc<ServiceEntry>, QuickHash>,
    /// Routes by service: what has to be looked at when a service changes.
    routes_of_service: HashTrieMapSync<Id, RedBlackTreeSetSync<Id>>,
    consumers: Consumers,
    credentials: Credentials,
    plugins: Plugins,
    upstreams: Upstreams,
    certificates: Certificates,
    references: References,
    skipped: Skipped,
}

impl Snapshot {
    /// No configuration; routes that are added are matched as `flavor` says and ranked by `calculation`.
    pub(crate) fn empty(flavor: RouterFlavor, calculation: Calculation) -> Self {
        Self {
            router: Router::with(flavor, calculation),
            ..Self::default()
        }
    }

    /// The consumer of that id.
    #[must_use]
    pub fn consumer(&self, id: &str) -> Option<&Arc<Consumer>> {
        self.consumers.by_id.get(id)
    }

    /// The consumer of that custom id.
    #[must_use]
    pub fn consumer_by_custom_id(&self, custom_id: &str) -> Option<&Arc<Consumer>> {
        self.consumers.by_custom_id.get(custom_id)
    }

    /// The consumer of that user name.
    #[must_use]
    pub fn consumer_by_username(&self, username: &str) -> Option<&Arc<Consumer>> {
        self.consumers.by_username.get(username)
    }

    /// ACL groups of a consumer, in the order they were made.
    #[must_use]
    pub fn groups(&self, consumer_id: &str) -> &[Arc<str>] {
        self.consumers.groups(consumer_id)
    }

    /// The credential of that kind (such as `keyauth_credentials`) that `name` stands for: a key, or a
    /// user name.
    #[must_use]
    pub fn credential(&self, kind: &str, name: &str) -> Option<&Arc<StoredCredential>> {
        self.credentials.find(kind, name)
    }

    /// A snapshot of Kong documents with their kinds (such as `consumers`), for tests of plugins.
    /// Plugin instances are left out.
    #[must_use]
    pub fn of_documents(documents: Vec<(&'static str, serde_json::Value)>) -> Self {
        let records = documents.into_iter().map(|(kind, body)| {
            let id = body.get("id").and_then(serde_json::Value::as_str);
            Update::from(o28m_store::Record {
                kind: kind.to_owned(),
                id: id.unwrap_or_default().to_owned(),
                owner: String::new(),
                version: 0,
                body,
            })
        });
        let compiler = Compiler {
            kinds: Kinds::new(Vec::new()),
            engine_ports: EnginePorts::default(),
            upstream_tls: UpstreamTls::default(),
            flavor: RouterFlavor::default(),
            calculation: Calculation::default(),
            balancing: Arc::new(Balancing::default()),
            variables: Variables::default(),
        };
        Self::default().apply(&compiler, records.collect(), 0, None)
    }

    pub(crate) fn set_version(&mut self, version: i64) {
        self.version = version;
    }

    /// The version of the store's change log that this is the state of.
    #[must_use]
    pub fn version(&self) -> i64 {
        self.version
    }

    pub(crate) fn router(&self) -> &Router {
        &self.router
    }

    /// What was compiled for a route that the router gave.
    pub(crate) fn route(&self, key: Id) -> Option<&Arc<RouteEntry>> {
        self.routes.get(&key)
    }

    /// The service of a route.
    pub(crate) fn service_of(&self, route: &RouteEntry) -> Option<&Arc<ServiceEntry>> {
        self.services.get(&route.service?)
    }

    /// What balances over the targets of an upstream.
    pub(crate) fn balancer(&self, upstream: u128) -> Option<&Arc<Balancer>> {
        self.upstreams.balancer(upstream)
    }

    pub(crate) fn balancer_of(&self, upstream_id: &str) -> Option<&Arc<Balancer>> {
        self.balancer(number(upstream_id))
    }

    pub(crate) fn balancers(&self) -> impl Iterator<Item = &Arc<Balancer>> {
        self.upstreams.balancers()
    }

    pub(crate) fn plugins(&self) -> &Plugins {
        &self.plugins
    }

    pub(crate) fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// How many entities of a kind cannot be used.
    pub(crate) fn skipped(&self, kind: &str) -> usize {
        self.skipped.count(kind)
    }
}
