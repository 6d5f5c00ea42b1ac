//! Compiles Kong routes to a matcher and matches a request head to a route. Pure: no I/O, no clock.
//!
//! The flavour is Kong's `traditional_compatible`. The winner equals that of a scan over all routes
//! in order of priority; it is found through an index instead: host, then a trie of path prefixes,
//! then the remaining conditions of the few candidates. It does not look at protocols: which scheme
//! a route demands is checked after the match.

mod candidates;
mod entry;
mod host;
mod index;
mod path;
mod priority;
mod trie;

pub use path::{BadPath, normalise_path, upstream_path, write_upstream_path};
pub use priority::Calculation;

use std::collections::HashMap;
use std::sync::Arc;

use o28m_kong::Route;
use rpds::HashTrieMapSync;

use entry::Entry;
use index::Index;

/// The part of a request that routes look at.
pub struct RequestHead<'a> {
    /// Method token.
    pub method: &'a str,
    /// `Host` value as sent, with port if sent; empty when there is none.
    pub host: &'a str,
    /// Port the client is thought to have connected to, for route hosts with a port.
    pub port: u16,
    /// Normalised path, see [`normalise_path`].
    pub path: &'a str,
    /// TLS server name, empty when the client sent none; `None` on plain connections, where
    /// conditions on it count as met.
    pub server_name: Option<&'a str>,
    /// Header lookup: every value of the (lower-case) name.
    pub headers: &'a dyn Headers,
}

/// Access to request headers.
pub trait Headers {
    /// Calls `visit` with each value of `name` until it returns true; true when one did.
    fn any(&self, name: &str, visit: &mut dyn FnMut(&str) -> bool) -> bool;
}

/// A route that fits a request.
pub struct Match {
    /// The route, as given to [`Router::insert`].
    pub route: Arc<Route>,
    /// Bytes of the normalised path that the route's path matched; 0 without paths.
    pub prefix_length: usize,
    /// Captures of a regex path by number (`"0"` is the whole match) and name; empty when the
    /// expression has no groups.
    pub captures: HashMap<String, String>,
}

/// A route that cannot be compiled.
#[derive(Debug, thiserror::Error)]
#[error("route {id} has an unusable path or header expression")]
pub struct BadRoute {
    /// Its id.
    pub id: String,
    /// The regular expression's error.
    #[source]
    pub source: Box<regex::Error>,
}

/// An immutable matcher. Insert and remove give a new one that shares structure with the old; what
/// they cost depends on the route, not on how many there are.
#[derive(Clone, Default)]
pub struct Router {
    calculation: Calculation,
    routes: HashTrieMapSync<Arc<str>, Arc<[Arc<Entry>]>>,
    index: Index,
}

impl Router {
    /// An empty matcher that ranks routes by `calculation`; the default is Kong 3.9.3's.
    #[must_use]
    pub fn new(calculation: Calculation) -> Self {
        Self {
            calculation,
            ..Self::default()
        }
    }

    /// With `route` added, replacing the one of the same id.
    ///
    /// # Errors
    /// [`BadRoute`] when a path or header expression does not compile.
    pub fn insert(&self, route: Arc<Route>) -> Result<Self, BadRoute> {
        let mut router = self.clone();
        router.add(route)?;
        Ok(router)
    }

    /// Without the route of that id.
    #[must_use]
    pub fn remove(&self, id: &str) -> Self {
        let mut router = self.clone();
        router.take_out(id);
        router
    }

    /// [`Router::insert`] in place, which is cheaper for many routes.
    ///
    /// # Errors
    /// [`BadRoute`]; the matcher is unchanged then.
    pub fn add(&mut self, route: Arc<Route>) -> Result<(), BadRoute> {
        let entries = entry::compile(&route, self.calculation).map_err(|source| BadRoute {
            id: route.id.clone(),
            source: Box::new(source),
        })?;
        self.take_out(&route.id);
        for entry in &entries {
            self.index.insert(entry);
        }
        self.routes
            .insert_mut(Arc::from(route.id.as_str()), entries.into());
        Ok(())
    }

    /// [`Router::remove`] in place.
    pub fn take_out(&mut self, id: &str) {
        let Some(entries) = self.routes.get(id) else {
            return;
        };
        for entry in entries.iter() {
            self.index.remove(entry);
        }
        self.routes.remove_mut(id);
    }

    /// How many routes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.routes.size()
    }

    /// Whether there is no route.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// The winning route of Kong's `traditional_compatible` flavour.
    #[must_use]
    pub fn find(&self, head: &RequestHead<'_>) -> Option<Match> {
        let (entry, hit) = self.index.find(head)?;
        Some(Match {
            route: entry.route.clone(),
            prefix_length: hit.length,
            captures: entry.captures(hit, head.path),
        })
    }
}
