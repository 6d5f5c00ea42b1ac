//! Finds the winner without looking at every route: by host first, then by path prefix.

use std::sync::Arc;

use rpds::HashTrieMapSync;

use crate::candidates::Candidates;
use crate::entry::{Entry, PathHit};
use crate::host::Name;
use crate::trie::Trie;

/// Longest name that is looked up; DNS knows none beyond 253 bytes. It bounds the work that a long
/// `Host` value of many labels can cause.
pub(crate) const NAME_BYTES_MAX: usize = 255;

type Table = HashTrieMapSync<Box<str>, Trie>;

/// Tries of path prefixes, by what the route says about the host.
#[derive(Clone, Default)]
pub(crate) struct Index {
    exact: Table,
    suffix: Table,
    prefix: Table,
    any: Trie,
}

/// What is looked up.
#[derive(Clone, Copy)]
pub(crate) struct Lookup<'a> {
    /// Names that plain hosts may equal; empty ones count for nothing.
    pub(crate) names: [&'a str; 2],
    /// The name that wildcards are compared with.
    pub(crate) labels: &'a str,
    pub(crate) path: &'a str,
}

impl Index {
    pub(crate) fn is_empty(&self) -> bool {
        self.any.is_empty()
            && self.exact.is_empty()
            && self.suffix.is_empty()
            && self.prefix.is_empty()
    }

    pub(crate) fn insert(&mut self, entry: &Arc<Entry>) {
        self.change(entry, |trie, key| trie.insert(key, entry));
    }

    pub(crate) fn remove(&mut self, entry: &Arc<Entry>) {
        self.change(entry, |trie, key| trie.remove(key, entry.rank));
    }

    fn change(&mut self, entry: &Entry, apply: impl Fn(&mut Trie, &[u8])) {
        let keys = entry.path_keys();
        let apply = |trie: &mut Trie| keys.iter().for_each(|key| apply(trie, key.as_bytes()));
        let mut names = entry.host_keys();
        if names.is_empty() {
            apply(&mut self.any);
        }
        names.sort_unstable();
        names.dedup();
        for name in names {
            let (table, name) = match name {
                Name::Exact(name) => (&mut self.exact, name),
                Name::Suffix(name) => (&mut self.suffix, name),
                Name::Prefix(name) => (&mut self.prefix, name),
            };
            if let Some(trie) = table.get_mut(name.as_str()) {
                apply(trie);
                if trie.is_empty() {
                    table.remove_mut(name.as_str());
                }
            } else {
                let mut trie = Trie::default();
                apply(&mut trie);
                table.insert_mut(name.as_str().into(), trie);
            }
        }
    }

    /// The entry of the highest rank, among those whose keys fit, that `matches`.
    pub(crate) fn find(
        &self,
        lookup: Lookup<'_>,
        matches: impl FnMut(&Entry) -> Option<PathHit>,
    ) -> Option<(&Arc<Entry>, PathHit)> {
        let mut best = Best {
            path: lookup.path.as_bytes(),
            matches,
            found: None,
        };
        self.tries(lookup, |trie| best.search(trie));
        best.found
    }

    /// Calls `visit` with every entry whose keys fit, and those whose paths begin with the one looked
    /// up, until it returns false.
    pub(crate) fn visit<'a>(
        &'a self,
        lookup: Lookup<'_>,
        mut visit: impl FnMut(&'a Arc<Entry>) -> bool,
    ) {
        let mut going = true;
        let mut look = |candidates: &'a Candidates| {
            candidates.descend(|entry| {
                going = going && visit(entry);
                going
            });
            going
        };
        self.tries(lookup, |trie| {
            let path = lookup.path.as_bytes();
            trie.walk(path, |candidates| {
                look(candidates);
            });
            trie.below(path, &mut look);
        });
    }

    fn tries<'a>(&'a self, lookup: Lookup<'_>, mut search: impl FnMut(&'a Trie)) {
        // Hashing a name costs more than the rest of a search, so empty tables are not asked.
        let mut ask = |table: &'a Table, key: &str| {
            if !table.is_empty()
                && let Some(trie) = table.get(key)
            {
                search(trie);
            }
        };
        let names = lookup.names.into_iter();
        for name in names.filter(|it| !it.is_empty() && it.len() <= NAME_BYTES_MAX) {
            ask(&self.exact, name);
        }
        let labels = lookup.labels;
        if labels.len() <= NAME_BYTES_MAX && !(self.suffix.is_empty() && self.prefix.is_empty()) {
            for (at, _) in labels.match_indices('.') {
                ask(&self.suffix, labels.get(at..).unwrap_or_default());
                ask(&self.prefix, labels.get(..=at).unwrap_or_default());
            }
        }
        search(&self.any);
    }
}

/// The best match so far.
struct Best<'a, 'b, F> {
    path: &'b [u8],
    matches: F,
    found: Option<(&'a Arc<Entry>, PathHit)>,
}

impl<'a, F: FnMut(&Entry) -> Option<PathHit>> Best<'a, '_, F> {
    fn search(&mut self, trie: &'a Trie) {
        let Self {
            path,
            matches,
            found,
        } = self;
        trie.walk(path, |candidates| {
            candidates.descend(|entry| {
                if found.is_some_and(|(best, _)| best.rank >= entry.rank) {
                    return false;
                }
                let Some(hit) = matches(entry) else {
                    return true;
                };
                *found = Some((entry, hit));
                false
            });
        });
    }
}
