//! Consumers by every name they have, and their ACL groups.

use std::sync::Arc;

use o28m_kong::{Acl, Consumer};
use rpds::HashTrieMapSync;

#[derive(Clone, Default)]
pub(super) struct Consumers {
    pub(super) by_id: HashTrieMapSync<Arc<str>, Arc<Consumer>>,
    pub(super) by_custom_id: HashTrieMapSync<Arc<str>, Arc<Consumer>>,
    pub(super) by_username: HashTrieMapSync<Arc<str>, Arc<Consumer>>,
    /// Consumer id of each ACL entity.
    acls: HashTrieMapSync<Arc<str>, Arc<str>>,
    groups: HashTrieMapSync<Arc<str>, Arc<Groups>>,
}

/// The groups of one consumer.
#[derive(Clone, Default)]
struct Groups {
    /// Creation time and id of the ACL entity that gave each group; ascending.
    origins: Vec<(i64, Arc<str>)>,
    /// In the same order.
    names: Vec<Arc<str>>,
}

/// An empty user name or custom id names nobody.
fn key(name: Option<&String>) -> Option<Arc<str>> {
    name.filter(|it| !it.is_empty())
        .map(|it| Arc::from(it.as_str()))
}

impl Consumers {
    pub(super) fn groups(&self, consumer_id: &str) -> &[Arc<str>] {
        let groups = self.groups.get(consumer_id);
        groups.map_or(&[], |it| it.names.as_slice())
    }

    pub(super) fn put(&mut self, consumer: Consumer) {
        let consumer = Arc::new(consumer);
        if let Some(custom_id) = key(consumer.custom_id.as_ref()) {
            self.by_custom_id.insert_mut(custom_id, consumer.clone());
        }
        if let Some(username) = key(consumer.username.as_ref()) {
            self.by_username.insert_mut(username, consumer.clone());
        }
        self.by_id
            .insert_mut(Arc::from(consumer.id.as_str()), consumer);
    }

    pub(super) fn remove(&mut self, id: &str) {
        let Some(consumer) = self.by_id.get(id).cloned() else {
            return;
        };
        self.by_id.remove_mut(id);
        if let Some(custom_id) = key(consumer.custom_id.as_ref()) {
            self.by_custom_id.remove_mut(&custom_id);
        }
        if let Some(username) = key(consumer.username.as_ref()) {
            self.by_username.remove_mut(&username);
        }
    }

    pub(super) fn put_acl(&mut self, acl: &Acl, created_at: i64) {
        let id: Arc<str> = Arc::from(acl.id.as_str());
        let consumer: Arc<str> = Arc::from(acl.consumer.id.as_str());
        if !self.groups.contains_key(&consumer) {
            self.groups.insert_mut(consumer.clone(), Arc::default());
        }
        if let Some(groups) = self.groups.get_mut(&consumer) {
            let groups = Arc::make_mut(groups);
            let origin = (created_at, id.clone());
            let at = groups.origins.partition_point(|it| *it < origin);
            groups.origins.insert(at, origin);
            groups.names.insert(at, Arc::from(acl.group.as_str()));
        }
        self.acls.insert_mut(id, consumer);
    }

    pub(super) fn remove_acl(&mut self, id: &str) {
        let Some(consumer) = self.acls.get(id).cloned() else {
            return;
        };
        self.acls.remove_mut(id);
        let Some(groups) = self.groups.get_mut(&consumer) else {
            return;
        };
        let groups = Arc::make_mut(groups);
        if let Some(at) = groups.origins.iter().position(|(_, it)| &**it == id) {
            groups.origins.remove(at);
            groups.names.remove(at);
        }
        if groups.names.is_empty() {
            self.groups.remove_mut(&consumer);
        }
    }
}
