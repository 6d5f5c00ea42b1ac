//! A persistent radix trie from byte strings to candidates: all keys that are prefixes of a text
//! are on one path through it. Changes copy that path only.

use std::sync::Arc;

use crate::candidates::Candidates;
use crate::entry::Entry;
use crate::priority::Rank;

/// Bytes of a path that the trie looks at; the rest is compared with the candidates. It bounds the
/// depth, and with it recursion.
pub(crate) const KEY_BYTES_MAX: usize = 256;

/// A node; its label is the part of the key that leads to it from its parent.
#[derive(Clone, Default)]
pub(crate) struct Trie {
    label: Box<[u8]>,
    candidates: Candidates,
    /// In order of the first byte of their labels, which differ. It stands here as well so that the
    /// search for a child does not have to look into each.
    children: Vec<(u8, Arc<Trie>)>,
}

impl Trie {
    pub(crate) fn is_empty(&self) -> bool {
        self.candidates.is_empty() && self.children.is_empty()
    }

    fn child(&self, first: u8) -> Result<usize, usize> {
        self.children
            .binary_search_by_key(&first, |(byte, _)| *byte)
    }

    pub(crate) fn insert(&mut self, key: &[u8], entry: &Arc<Entry>) {
        let Some(first) = key.first() else {
            self.candidates.insert(entry);
            return;
        };
        match self.child(*first) {
            Ok(at) => {
                if let Some((_, child)) = self.children.get_mut(at) {
                    let child = Arc::make_mut(child);
                    let shared = common_prefix(&child.label, key);
                    child.split(shared);
                    child.insert(key.get(shared..).unwrap_or_default(), entry);
                }
            }
            Err(at) => {
                let mut leaf = Self {
                    label: key.into(),
                    ..Self::default()
                };
                leaf.candidates.insert(entry);
                self.children.reserve_exact(1);
                self.children.insert(at, (*first, Arc::new(leaf)));
            }
        }
    }

    /// Makes the label end after `length` bytes, moving everything below into a child.
    fn split(&mut self, length: usize) {
        let Some((head, tail)) = self.label.split_at_checked(length) else {
            return;
        };
        let Some(first) = tail.first().copied() else {
            return;
        };
        let (head, tail) = (Box::from(head), Box::from(tail));
        let mut lower = std::mem::take(self);
        lower.label = tail;
        self.label = head;
        self.children.push((first, Arc::new(lower)));
    }

    pub(crate) fn remove(&mut self, key: &[u8], rank: Rank) {
        let Some(first) = key.first() else {
            self.candidates.remove(rank);
            return;
        };
        let Ok(at) = self.child(*first) else {
            return;
        };
        let Some((_, child)) = self.children.get_mut(at) else {
            return;
        };
        let Some(rest) = key.strip_prefix(&*child.label) else {
            return;
        };
        let child = Arc::make_mut(child);
        child.remove(rest, rank);
        if child.is_empty() {
            self.children.remove(at);
        } else {
            child.join();
        }
    }

    /// Takes the only child's place when this node holds nothing itself.
    fn join(&mut self) {
        if !self.candidates.is_empty() || self.children.len() != 1 {
            return;
        }
        if let Some((_, mut only)) = self.children.pop() {
            let label = [&*self.label, &*only.label].concat();
            let only = std::mem::take(Arc::make_mut(&mut only));
            *self = only;
            self.label = label.into();
        }
    }

    /// Visits the candidates of every key that `text` starts with, shortest key first.
    pub(crate) fn walk<'a>(&'a self, text: &[u8], mut visit: impl FnMut(&'a Candidates)) {
        let mut node = self;
        let mut rest = text;
        loop {
            visit(&node.candidates);
            let Some(first) = rest.first() else {
                return;
            };
            let child = node.child(*first).ok().and_then(|at| node.children.get(at));
            let Some((_, child)) = child else {
                return;
            };
            let Some(below) = rest.strip_prefix(&*child.label) else {
                return;
            };
            rest = below;
            node = child;
        }
    }

    /// Visits the candidates of every key that starts with `text` and is longer, until `visit` says stop.
    pub(crate) fn below<'a>(&'a self, text: &[u8], visit: &mut impl FnMut(&'a Candidates) -> bool) {
        let mut waiting = vec![(self, text)];
        while let Some((node, rest)) = waiting.pop() {
            for (_, child) in node.children.iter().rev() {
                let shared = common_prefix(&child.label, rest);
                let (label, left) = (child.label.len(), rest.len());
                if shared < label.min(left) {
                    continue;
                }
                if label > left && !visit(&child.candidates) {
                    return;
                }
                waiting.push((child, rest.get(label..).unwrap_or_default()));
            }
        }
    }
}

fn common_prefix(left: &[u8], right: &[u8]) -> usize {
    left.iter().zip(right).take_while(|(a, b)| a == b).count()
}
