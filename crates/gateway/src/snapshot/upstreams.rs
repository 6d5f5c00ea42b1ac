//! Upstreams and targets of a snapshot, and the services that go to them.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::header::InvalidHeaderValue;
use o28m_kong::{Target, Upstream};
use rpds::{HashTrieMapSync, RedBlackTreeSetSync};

use super::{Id, number};
use crate::balance::{Balancer, Balancing, TargetEntry};

/// Upstreams, their targets, and who is called what.
#[derive(Clone, Default)]
pub(crate) struct Upstreams {
    entities: HashTrieMapSync<Id, Arc<Upstream>>,
    by_name: HashTrieMapSync<String, Id>,
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
        let Some(old) = self.entities.get(&key).cloned() else {
            return;
        };
        self.entities.remove_mut(&key);
        if self.by_name.get(&old.name) == Some(&key) {
            self.by_name.remove_mut(&old.name);
        }
        touched.upstreams.insert(key);
        touched.names.insert(old.name.clone());
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

    pub(super) fn put_target(
        &mut self,
        target: &Target,
        engine_ports: &[u16],
        touched: &mut Touched,
    ) {
        let (key, upstream) = (number(&target.id), number(&target.upstream.id));
        let Some(entry) = TargetEntry::new(target, key, upstream, engine_ports) else {
            tracing::error!(entity.id = %target.id, "target is not of the form host:port and is left out");
            return;
        };
        self.targets.insert_mut(key, Arc::new(entry));
        add(&mut self.of_upstream, upstream, key);
        touched.upstreams.insert(upstream);
    }

    /// Compiles what was touched; gives the upstreams that cannot be used.
    pub(super) fn settle(
        &mut self,
        balancing: &Balancing,
        touched: &Touched,
    ) -> Vec<(String, InvalidHeaderValue)> {
        let mut broken = Vec::new();
        for key in &touched.upstreams {
            let Some(upstream) = self.entities.get(key) else {
                self.balancers.remove_mut(key);
                continue;
            };
            let targets = self.of_upstream.get(key).into_iter().flatten();
            let targets = targets.filter_map(|it| self.targets.get(it)).cloned();
            match Balancer::new(balancing, *key, upstream.clone(), targets.collect()) {
                Ok(balancer) => self.balancers.insert_mut(*key, Arc::new(balancer)),
                Err(error) => {
                    broken.push((upstream.id.clone(), error));
                    self.balancers.remove_mut(key);
                }
            }
        }
        broken
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
