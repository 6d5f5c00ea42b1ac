//! Upstreams and targets of a snapshot, and the services that go to them.

use std::collections::BTreeSet;
use std::sync::Arc;

use o28m_kong::{Target, Upstream};
use rpds::{HashTrieMapSync, RedBlackTreeSetSync};

use super::skipped::Broken;
use super::{Certificates, Compiler, EnginePorts, Id, number};
use crate::balance::{Balancer, PeerIdentity, TargetEntry};

/// Upstreams, their targets, and who is called what.
#[derive(Clone, Default)]
pub(crate) struct Upstreams {
    entities: HashTrieMapSync<Id, Arc<Upstream>>,
    by_name: HashTrieMapSync<String, Id>,
    /// Names of upstreams that cannot be read.
    claims: HashTrieMapSync<Id, String>,
    targets: HashTrieMapSync<Id, Arc<TargetEntry>>,
    of_upstream: HashTrieMapSync<Id, RedBlackTreeSetSync<Id>>,
    balancers: HashTrieMapSync<Id, Arc<Balancer>>,
    services_of_host: HashTrieMapSync<String, RedBlackTreeSetSync<Id>>,
}

/// What a batch of changes touches.
#[derive(Default)]
pub(super) struct Touched {
    upstreams: BTreeSet<Id>,
    /// Names that an upstream has or had.
    pub(super) names: BTreeSet<String>,
    /// Certificates and authorities.
    pub(super) certificates: BTreeSet<Id>,
}

impl Touched {
    /// The upstream is to be compiled again.
    pub(super) fn touch(&mut self, upstream: Id) {
        self.upstreams.insert(upstream);
    }
}

impl Upstreams {
    pub(super) fn balancer(&self, key: Id) -> Option<&Arc<Balancer>> {
        self.balancers.get(&key)
    }

    pub(super) fn balancers(&self) -> impl Iterator<Item = &Arc<Balancer>> {
        self.balancers.values()
    }

    /// The upstream of that name.
    pub(super) fn named(&self, name: &str) -> Option<Id> {
        self.by_name.get(name).copied()
    }

    pub(super) fn entity(&self, key: Id) -> Option<&Arc<Upstream>> {
        self.entities.get(&key)
    }

    pub(super) fn target(&self, id: &str) -> Option<&Arc<TargetEntry>> {
        self.targets.get(&number(id))
    }

    pub(super) fn services_of(&self, host: &str) -> Vec<Id> {
        let services = self.services_of_host.get(host);
        services.into_iter().flatten().copied().collect()
    }

    pub(super) fn put_service(&mut self, host: &str, service: Id) {
        add(&mut self.services_of_host, host.to_owned(), service);
    }

    pub(super) fn remove_service(&mut self, host: &str, service: Id) {
        remove(&mut self.services_of_host, &host.to_owned(), service);
    }

    pub(super) fn remove(&mut self, id: &str, touched: &mut Touched) {
        let key = number(id);
        let name = match (self.entities.get(&key), self.claims.get(&key)) {
            (Some(old), _) => old.name.clone(),
            (None, Some(name)) => name.clone(),
            (None, None) => return,
        };
        self.entities.remove_mut(&key);
        self.claims.remove_mut(&key);
        if self.by_name.get(&name) == Some(&key) {
            self.by_name.remove_mut(&name);
        }
        touched.upstreams.insert(key);
        touched.names.insert(name);
    }

    /// Keeps the name of an upstream that cannot be used.
    pub(super) fn claim(&mut self, id: &str, name: String, touched: &mut Touched) {
        let key = number(id);
        touched.names.insert(name.clone());
        self.by_name.insert_mut(name.clone(), key);
        self.claims.insert_mut(key, name);
    }

    pub(super) fn put(&mut self, upstream: Upstream, touched: &mut Touched) {
        let key = number(&upstream.id);
        touched.upstreams.insert(key);
        touched.names.insert(upstream.name.clone());
        self.by_name.insert_mut(upstream.name.clone(), key);
        self.entities.insert_mut(key, Arc::new(upstream));
    }

    pub(super) fn remove_target(&mut self, id: &str, touched: &mut Touched) {
        let Some(old) = self.target(id).cloned() else {
            return;
        };
        self.targets.remove_mut(&old.key);
        remove(&mut self.of_upstream, &old.upstream, old.key);
        touched.upstreams.insert(old.upstream);
    }

    /// Whether the target has the form of one.
    pub(super) fn put_target(
        &mut self,
        target: &Target,
        engine_ports: &EnginePorts,
        touched: &mut Touched,
    ) -> bool {
        let (key, upstream) = (number(&target.id), number(&target.upstream.id));
        let Some(entry) = TargetEntry::new(target, key, upstream, engine_ports) else {
            return false;
        };
        self.targets.insert_mut(key, Arc::new(entry));
        add(&mut self.of_upstream, upstream, key);
        touched.upstreams.insert(upstream);
        true
    }

    /// Compiles what was touched; gives how each turned out.
    pub(super) fn settle(
        &mut self,
        compiler: &Compiler,
        certificates: &Certificates,
        touched: &Touched,
    ) -> Vec<(String, Result<(), Broken>)> {
        let mut settled = Vec::new();
        for key in &touched.upstreams {
            let Some(upstream) = self.entities.get(key) else {
                self.balancers.remove_mut(key);
                continue;
            };
            let identity = match &upstream.client_certificate {
                None => PeerIdentity::Given(compiler.upstream_tls.identity.clone()),
                Some(own) => certificates
                    .identity(&own.id)
                    .map_or(PeerIdentity::Missing, |it| PeerIdentity::Given(Some(it))),
            };
            let mut outcome = match identity {
                PeerIdentity::Given(_) => Ok(()),
                PeerIdentity::Missing => Err(Broken::ClientCertificate),
            };
            let targets = self.of_upstream.get(key).into_iter().flatten();
            let targets = targets.filter_map(|it| self.targets.get(it)).cloned();
            let (upstream, targets) = (upstream.clone(), targets.collect());
            let id = upstream.id.clone();
            match Balancer::new(compiler, *key, upstream, targets, identity) {
                Ok(balancer) => self.balancers.insert_mut(*key, Arc::new(balancer)),
                Err(error) => {
                    outcome = Err(error.into());
                    self.balancers.remove_mut(key);
                }
            }
            settled.push((id, outcome));
        }
        settled
    }
}

/// Sets of ids by something.
type Sets<K> = HashTrieMapSync<K, RedBlackTreeSetSync<Id>>;

fn add<K: Clone + Eq + std::hash::Hash>(sets: &mut Sets<K>, key: K, id: Id) {
    match sets.get_mut(&key) {
        Some(set) => set.insert_mut(id),
        None => sets.insert_mut(key, std::iter::once(id).collect()),
    }
}

fn remove<K: Clone + Eq + std::hash::Hash>(sets: &mut Sets<K>, key: &K, id: Id) {
    if let Some(set) = sets.get_mut(key) {
        set.remove_mut(&id);
        if set.is_empty() {
            sets.remove_mut(key);
        }
    }
}
