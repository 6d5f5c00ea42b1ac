//! Entries of one trie node in order of rank.

use std::sync::Arc;

use rpds::RedBlackTreeMapSync;

use crate::entry::Entry;
use crate::priority::Rank;

/// Up to this many are copied on change; a tree pays only above it (it allocates twice for each entry).
const FEW_MAX: usize = 8;

/// A persistent ordered set of entries, small in the common case of one.
#[derive(Clone)]
pub(crate) enum Candidates {
    /// Ascending.
    Few(Vec<Arc<Entry>>),
    Many(RedBlackTreeMapSync<Rank, Arc<Entry>>),
}

impl Default for Candidates {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Candidates {
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Few(entries) => entries.is_empty(),
            Self::Many(entries) => entries.is_empty(),
        }
    }

    pub(crate) fn insert(&mut self, entry: &Arc<Entry>) {
        match self {
            Self::Few(entries) => match entries.binary_search_by_key(&entry.rank, |it| it.rank) {
                Ok(_) => {}
                Err(at) if entries.len() < FEW_MAX => {
                    entries.reserve_exact(1);
                    entries.insert(at, entry.clone());
                }
                Err(_) => {
                    let mut many: RedBlackTreeMapSync<_, _> =
                        entries.drain(..).map(|it| (it.rank, it)).collect();
                    many.insert_mut(entry.rank, entry.clone());
                    *self = Self::Many(many);
                }
            },
            Self::Many(entries) => {
                entries.insert_mut(entry.rank, entry.clone());
            }
        }
    }

    pub(crate) fn remove(&mut self, rank: Rank) {
        match self {
            Self::Few(entries) => entries.retain(|it| it.rank != rank),
            Self::Many(entries) => {
                entries.remove_mut(&rank);
            }
        }
    }

    /// From the best rank down, until `visit` says stop.
    pub(crate) fn descend<'a>(&'a self, mut visit: impl FnMut(&'a Arc<Entry>) -> bool) {
        match self {
            Self::Few(entries) => {
                let _all = entries.iter().rev().all(&mut visit);
            }
            Self::Many(entries) => {
                // An iterator allocates, and the best entry decides most requests.
                if entries.last().is_some_and(|(_, best)| visit(best)) {
                    let _all = entries.values().rev().skip(1).all(visit);
                }
            }
        }
    }
}
