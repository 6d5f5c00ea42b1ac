//! What of all routes' conditions a request meets: it decides where the search begins.

use std::cmp::Reverse;
use std::sync::Arc;

use rpds::HashTrieMapSync;

use super::hosts::{Asked, HostForm};
use super::{Categorised, HEADER, HOST, KINDS, METHOD, Ordered, PATH, Property, SERVER_NAME};
use crate::RequestHead;
use crate::entry::{Entry, Matcher};
use crate::host::Name;
use crate::priority::Rank;
use crate::trie::{KEY_BYTES_MAX, Trie};

type Counts = HashTrieMapSync<Box<str>, usize>;

/// Conditions of all categories together.
#[derive(Clone, Default)]
pub(crate) struct Globals {
    hosts: Counts,
    methods: Counts,
    server_names: Counts,
    headers: HashTrieMapSync<Box<str>, Ordered>,
    /// By key; `None` for those that cannot be looked up.
    wildcards: HashTrieMapSync<Option<Name>, HashTrieMapSync<Box<str>, Ordered>>,
    plain_paths: Trie,
    regex_paths: Trie,
}

/// What a request meets.
pub(crate) struct Hits<'a> {
    /// The category it seems to be meant for.
    pub(crate) category: u8,
    /// The wildcard host that fits, when no plain one does.
    pub(crate) wildcard: Option<&'a str>,
    header: Option<&'a str>,
    path: Option<&'a str>,
}

fn count(counts: &mut Counts, text: &str, adds: bool) {
    let old = counts.get(text).copied().unwrap_or(0);
    if adds {
        counts.insert_mut(text.into(), old + 1);
    } else if old > 1 {
        counts.insert_mut(text.into(), old - 1);
    } else {
        counts.remove_mut(text);
    }
}

impl Globals {
    pub(crate) fn insert(&mut self, entry: &Arc<Entry>, categorised: &Categorised) {
        self.change(entry, categorised, true);
    }

    pub(crate) fn remove(&mut self, entry: &Arc<Entry>, categorised: &Categorised) {
        self.change(entry, categorised, false);
    }

    #[cfg(feature = "testing")]
    pub(crate) fn is_empty(&self) -> bool {
        let counts = [&self.hosts, &self.methods, &self.server_names];
        counts.into_iter().all(Counts::is_empty)
            && self.headers.is_empty()
            && self.wildcards.is_empty()
            && self.plain_paths.is_empty()
            && self.regex_paths.is_empty()
    }

    fn change(&mut self, entry: &Arc<Entry>, it: &Categorised, adds: bool) {
        let rank = entry.rank;
        for (at, host) in it.hosts.iter().enumerate() {
            match host {
                HostForm::Plain(text) => count(&mut self.hosts, text, adds),
                HostForm::Wildcard { .. } => self.change_wildcard(host, rank, at, adds),
            }
        }
        for method in &it.methods {
            count(&mut self.methods, method, adds);
        }
        for name in &it.server_names {
            count(&mut self.server_names, name, adds);
        }
        for (at, header) in it.headers.iter().enumerate() {
            let mut order = self
                .headers
                .get(header.name.as_str())
                .cloned()
                .unwrap_or_default();
            change_order(&mut order, rank, at, adds);
            if order.is_empty() {
                self.headers.remove_mut(header.name.as_str());
            } else {
                self.headers.insert_mut(header.name.as_str().into(), order);
            }
        }
        if it.path.is_some() {
            let paths = if it.is_regex() {
                &mut self.regex_paths
            } else {
                &mut self.plain_paths
            };
            for key in it.paths.keys() {
                if adds {
                    paths.insert(key.as_bytes(), entry);
                } else {
                    paths.remove(key.as_bytes(), rank);
                }
            }
        }
    }

    fn change_wildcard(&mut self, host: &HostForm, rank: Rank, at: usize, adds: bool) {
        let key = host.key();
        let mut patterns = self.wildcards.get(&key).cloned().unwrap_or_default();
        let mut order = patterns.get(host.text()).cloned().unwrap_or_default();
        change_order(&mut order, rank, at, adds);
        if order.is_empty() {
            patterns.remove_mut(host.text());
        } else {
            patterns.insert_mut(host.text().into(), order);
        }
        if patterns.is_empty() {
            self.wildcards.remove_mut(&key);
        } else {
            self.wildcards.insert_mut(key, patterns);
        }
    }

    pub(crate) fn hits<'a>(&'a self, head: &RequestHead<'_>, asked: &Asked<'_>) -> Hits<'a> {
        let plain_host = !asked.raw.is_empty()
            && (self.hosts.contains_key(asked.with_port.as_str())
                || self.hosts.contains_key(asked.bare()));
        let wildcard = if plain_host {
            None
        } else {
            self.wildcard(asked)
        };
        let header = self.header(head);
        let path = self
            .regex_path(head.path)
            .or_else(|| self.plain_path(head.path));
        let method = self.methods.contains_key(head.method);
        let server_name = head.server_name.unwrap_or_default();
        let server_name = self.server_names.contains_key(server_name);
        let met = [
            (HOST, plain_host || wildcard.is_some()),
            (HEADER, header.is_some()),
            (PATH, path.is_some()),
            (METHOD, method),
            (SERVER_NAME, server_name),
        ];
        let met = met.into_iter().filter(|(_, is_met)| *is_met);
        Hits {
            category: met.fold(0, |all, (kind, _)| all | kind),
            wildcard,
            header,
            path,
        }
    }

    /// The wildcard host of the first route with one that fits.
    fn wildcard(&self, asked: &Asked<'_>) -> Option<&str> {
        if self.wildcards.is_empty() || asked.raw.is_empty() {
            return None;
        }
        let labels = asked.labels();
        let mut best: Option<((Rank, Reverse<usize>), &str)> = None;
        let mut look = |key: Option<Name>| {
            for (text, order) in self
                .wildcards
                .get(&key)
                .into_iter()
                .flat_map(|it| it.iter())
            {
                let Some((first, ())) = order.last() else {
                    continue;
                };
                if best.is_none_or(|(known, _)| known < *first)
                    && HostForm::parse(text).wildcard_fits(&asked.with_port)
                {
                    best = Some((*first, text));
                }
            }
        };
        look(None);
        for (at, _) in labels.match_indices('.') {
            let (suffix, prefix) = (labels.get(at..), labels.get(..=at));
            look(suffix.map(|it| Name::Suffix(it.to_owned())));
            look(prefix.map(|it| Name::Prefix(it.to_owned())));
        }
        best.map(|(_, text)| text)
    }

    /// The first header of the first route that asks for one the request has.
    fn header(&self, head: &RequestHead<'_>) -> Option<&str> {
        let mut best: Option<(&(Rank, Reverse<usize>), &str)> = None;
        for (name, order) in &self.headers {
            let first = order.last().map(|(first, ())| first);
            if best.map(|(known, _)| known) < first && head.headers.any(name, &mut |_| true) {
                best = first.map(|first| (first, &**name));
            }
        }
        best.map(|(_, name)| name)
    }

    /// The expression of the first route with one that matches.
    fn regex_path(&self, path: &str) -> Option<&str> {
        let mut best: Option<(Rank, &str)> = None;
        self.regex_paths.walk(path.as_bytes(), |candidates| {
            candidates.descend(|entry| {
                if best.is_some_and(|(known, _)| known >= entry.rank) {
                    return false;
                }
                let Matcher::Traditional(it) = &entry.matcher else {
                    return true;
                };
                if it.paths.find(path).is_none() {
                    return true;
                }
                best = it.path.as_deref().map(|text| (entry.rank, text));
                false
            });
        });
        best.map(|(_, text)| text)
    }

    /// The longest plain path that the request's begins with.
    fn plain_path(&self, path: &str) -> Option<&str> {
        let mut best: Option<&str> = None;
        self.plain_paths.walk(path.as_bytes(), |candidates| {
            candidates.descend(|entry| {
                let Matcher::Traditional(it) = &entry.matcher else {
                    return true;
                };
                let text = it.path.as_deref().unwrap_or_default();
                if best.map_or(0, str::len) <= text.len() && path.starts_with(text) {
                    best = Some(text);
                }
                // Under one key stands one path, unless the key is not all of it.
                text.len() > KEY_BYTES_MAX.saturating_sub(4)
            });
        });
        best
    }
}

fn change_order(order: &mut Ordered, rank: Rank, at: usize, adds: bool) {
    if adds {
        order.insert_mut((rank, Reverse(at)), ());
    } else {
        order.remove_mut(&(rank, Reverse(at)));
    }
}

impl Hits<'_> {
    /// The property by which the fewest routes of a category come into question: a header always, else
    /// the one of the shortest list. `length` gives the length of a list that there is.
    pub(crate) fn telling<'b>(
        &'b self,
        category: u8,
        head: &'b RequestHead<'_>,
        asked: &'b Asked<'_>,
        length: impl Fn(Property<'_>) -> Option<usize>,
    ) -> Option<Property<'b>> {
        let mut best: Option<(usize, Property<'b>)> = None;
        for kind in KINDS.into_iter().filter(|kind| category & kind != 0) {
            let property = match kind {
                HOST => Some(Property::Host(self.wildcard.unwrap_or(&asked.raw))),
                HEADER => self.header.map(Property::Header),
                PATH => self.path.map(Property::Path),
                METHOD => Some(Property::Method(head.method)),
                _ => head.server_name.map(Property::ServerName),
            };
            let Some(property) = property else {
                continue;
            };
            let Some(length) = length(property) else {
                continue;
            };
            if kind == HEADER {
                return Some(property);
            }
            if best.is_none_or(|(known, _)| length < known) {
                best = Some((length, property));
            }
        }
        best.map(|(_, property)| property)
    }
}
