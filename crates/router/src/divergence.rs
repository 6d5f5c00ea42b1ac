//! Pairs of routes of which Kong's arithmetic prefers the one and its documentation the other.

use std::collections::BTreeSet;
use std::sync::Arc;

use o28m_kong::{Route, RouterFlavor};

use crate::Router;
use crate::entry::{Classic, Entry, Matcher, Paths, weights};
use crate::host::Name;
use crate::index::Lookup;
use crate::priority::Calculation;

/// Routes that are compared with one route; those of the highest rank come first.
const COMPARED_MAX: usize = 64;

/// Two routes that both match some request, which goes to another one than the documented order says.
#[derive(Clone, Debug)]
pub struct Divergence {
    /// The winner under [`Calculation::Original`].
    pub original: Arc<Route>,
    /// The winner under [`Calculation::Strict`].
    pub strict: Arc<Route>,
}

impl Router {
    /// Up to `most` pairs of routes whose winner depends on the calculation, among those that one of
    /// `ids` takes part in. It finds those whose overlap can be shown by a host and a path that one of
    /// them names (a route for every host is compared with those of one host from their side), and
    /// looks at a limited number of others for each: what it costs is in proportion to the number of
    /// ids.
    #[must_use]
    pub fn divergences<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a str>,
        most: usize,
    ) -> Vec<Divergence> {
        let mut found = Vec::new();
        let mut pairs = BTreeSet::new();
        if self.flavor == RouterFlavor::Traditional {
            return found;
        }
        let entries = ids.into_iter().filter_map(|id| self.routes.get(id));
        for entry in entries.flat_map(|entries| entries.iter()) {
            if found.len() == most {
                break;
            }
            self.compare(entry, most, &mut pairs, &mut found);
        }
        found
    }

    /// All of [`Router::divergences`].
    #[must_use]
    pub fn all_divergences(&self, most: usize) -> Vec<Divergence> {
        self.divergences(self.routes.keys().map(|it| &**it), most)
    }

    fn compare(
        &self,
        entry: &Arc<Entry>,
        most: usize,
        pairs: &mut BTreeSet<(u128, u128)>,
        found: &mut Vec<Divergence>,
    ) {
        let Matcher::Classic(own) = &entry.matcher else {
            return;
        };
        let mut left = COMPARED_MAX;
        for (name, path) in places(own) {
            let lookup = Lookup {
                names: [&name, ""],
                labels: &name,
                path: &path,
            };
            self.index.visit(lookup, |other| {
                left = left.saturating_sub(1);
                if let Some(divergence) = diverge(entry, other, &name, &path) {
                    let ids = (entry.rank.id, other.rank.id);
                    if pairs.insert((ids.0.min(ids.1), ids.0.max(ids.1))) {
                        found.push(divergence);
                    }
                }
                left > 0 && found.len() < most
            });
        }
    }
}

/// Hosts and paths at which requests for the route may arrive.
fn places(classic: &Classic) -> Vec<(String, String)> {
    let host = classic.hosts.iter().map(|host| match &host.name {
        Name::Exact(name) => name.clone(),
        Name::Suffix(suffix) => format!("a{suffix}"),
        Name::Prefix(prefix) => format!("{prefix}a"),
    });
    let mut hosts: Vec<_> = host.collect();
    if hosts.is_empty() {
        hosts.push(String::new());
    }
    let paths: Vec<_> = match &classic.paths {
        Paths::Any => vec!["/"],
        Paths::Plain { prefixes, .. } => prefixes.iter().map(String::as_str).collect(),
        Paths::Regex(_) => classic.paths.keys(),
    };
    let pairs = hosts
        .iter()
        .flat_map(|host| paths.iter().map(move |path| (host, path)));
    pairs
        .map(|(host, path)| (host.clone(), (*path).to_owned()))
        .collect()
}

fn diverge(one: &Arc<Entry>, other: &Arc<Entry>, name: &str, path: &str) -> Option<Divergence> {
    let (Matcher::Classic(own), Matcher::Classic(its)) = (&one.matcher, &other.matcher) else {
        return None;
    };
    if one.route.id == other.route.id {
        return None;
    }
    let order = |calculation| {
        let of = |entry: &Entry, paths| {
            (
                weights(&entry.route, paths).priority(calculation),
                entry.rank.id,
            )
        };
        of(one, &own.paths).cmp(&of(other, &its.paths))
    };
    let original = order(Calculation::Original);
    if original == order(Calculation::Strict) || !overlap(one, other, name, path) {
        return None;
    }
    let (original, strict) = if original.is_gt() {
        (one, other)
    } else {
        (other, one)
    };
    Some(Divergence {
        original: original.route.clone(),
        strict: strict.route.clone(),
    })
}

/// Whether some request to the host fits both, to the path or to one that `other` names. Conditions on
/// headers are taken to be compatible: each can be met by a line of its own.
fn overlap(one: &Entry, other: &Entry, name: &str, path: &str) -> bool {
    let (Matcher::Classic(own), Matcher::Classic(its)) = (&one.matcher, &other.matcher) else {
        return false;
    };
    let common = |first: &Option<Vec<String>>, second: &Option<Vec<String>>| {
        let (first, second) = (first.as_deref(), second.as_deref());
        let (first, second) = (first.unwrap_or_default(), second.unwrap_or_default());
        first.is_empty() || second.is_empty() || first.iter().any(|it| second.contains(it))
    };
    let at = |classic: &Classic| {
        classic.hosts.is_empty() || classic.hosts.iter().any(|it| it.name.matches(name))
    };
    let fit = |path: &str| own.paths.compare(path).is_some() && its.paths.compare(path).is_some();
    common(&one.route.methods, &other.route.methods)
        && common(&one.route.snis, &other.route.snis)
        && at(own)
        && at(its)
        && (fit(path) || its.paths.keys().into_iter().any(fit))
}
