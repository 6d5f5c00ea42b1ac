//! Finds the winner without looking at every route: by host first, then by path prefix.

use std::collections::BTreeSet;
use std::sync::Arc;

use rpds::HashTrieMapSync;

use crate::RequestHead;
use crate::entry::{Entry, PathHit};
use crate::host::{Host, Name};
use crate::trie::Trie;

/// Longest name that is looked up; DNS knows none beyond 253 bytes. It bounds the work that a long
/// `Host` value of many labels can cause.
const NAME_BYTES_MAX: usize = 255;

type Table = HashTrieMapSync<Box<str>, Trie>;

/// Tries of path prefixes, by what the route says about the host.
#[derive(Clone, Default)]
pub(crate) struct Index {
    exact: Table,
    suffix: Table,
    prefix: Table,
    any: Trie,
}

impl Index {
    pub(crate) fn insert(&mut self, entry: &Arc<Entry>) {
        self.change(entry, |trie, key| trie.insert(key, entry));
    }

    pub(crate) fn remove(&mut self, entry: &Arc<Entry>) {
        self.change(entry, |trie, key| trie.remove(key, entry.rank));
    }

    fn change(&mut self, entry: &Entry, apply: impl Fn(&mut Trie, &[u8])) {
        let keys = entry.paths.keys();
        let apply = |trie: &mut Trie| keys.iter().for_each(|key| apply(trie, key.as_bytes()));
        if entry.hosts.is_empty() {
            apply(&mut self.any);
        }
        let names: BTreeSet<_> = entry
            .hosts
            .iter()
            .map(|host| table_key(&host.name))
            .collect();
        for (kind, name) in names {
            let table = match kind {
                Kind::Exact => &mut self.exact,
                Kind::Suffix => &mut self.suffix,
                Kind::Prefix => &mut self.prefix,
            };
            if let Some(trie) = table.get_mut(name) {
                apply(trie);
                if trie.is_empty() {
                    table.remove_mut(name);
                }
            } else {
                let mut trie = Trie::default();
                apply(&mut trie);
                table.insert_mut(name.into(), trie);
            }
        }
    }

    pub(crate) fn find(&self, head: &RequestHead<'_>) -> Option<(&Arc<Entry>, PathHit)> {
        let host = Host::parse(head.host, head.port);
        let mut best = Best {
            head,
            host: &host,
            found: None,
        };
        if host.name.len() <= NAME_BYTES_MAX {
            self.by_name(&host.name, &mut best);
        }
        best.search(&self.any);
        best.found
    }

    fn by_name<'a>(&'a self, name: &str, best: &mut Best<'a, '_>) {
        // Hashing a name costs more than the rest of a search, so empty tables are not asked.
        let mut search = |table: &'a Table, key: &str| {
            if !table.is_empty()
                && let Some(trie) = table.get(key)
            {
                best.search(trie);
            }
        };
        search(&self.exact, name);
        if self.suffix.is_empty() && self.prefix.is_empty() {
            return;
        }
        for (at, _) in name.match_indices('.') {
            search(&self.suffix, name.get(at..).unwrap_or_default());
            search(&self.prefix, name.get(..=at).unwrap_or_default());
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Exact,
    Suffix,
    Prefix,
}

fn table_key(name: &Name) -> (Kind, &str) {
    match name {
        Name::Exact(name) => (Kind::Exact, name),
        Name::Suffix(name) => (Kind::Suffix, name),
        Name::Prefix(name) => (Kind::Prefix, name),
    }
}

/// The best match so far.
struct Best<'a, 'b> {
    head: &'b RequestHead<'b>,
    host: &'b Host<'b>,
    found: Option<(&'a Arc<Entry>, PathHit)>,
}

impl<'a> Best<'a, '_> {
    fn search(&mut self, trie: &'a Trie) {
        trie.walk(self.head.path.as_bytes(), |candidates| {
            candidates.descend(|entry| {
                if self.found.is_some_and(|(best, _)| best.rank >= entry.rank) {
                    return false;
                }
                let Some(hit) = entry.matches(self.head, self.host) else {
                    return true;
                };
                self.found = Some((entry, hit));
                false
            });
        });
    }
}
