//! Compiles Kong routes to a matcher and matches a request head to a route. Pure: no I/O, no clock.
//!
//! All of Kong's flavours are here. In `traditional_compatible` and `expressions` the winner equals that
//! of a scan over all routes in order of priority, in `traditional` that of a search through lists of
//! routes; it is found through an index instead: host, then a trie of path prefixes, then the remaining
//! conditions of the few candidates. But for expressions that say so, it does not look at protocols:
//! which scheme a route demands is checked after the match.

mod candidates;
mod conditions;
mod divergence;
mod entry;
mod expression;
mod host;
mod index;
mod path;
mod pattern;
mod priority;
#[cfg(feature = "testing")]
pub mod testing;
mod traditional;
mod trie;

pub use divergence::Divergence;
pub use path::{
    BadPath, normalise_path, upstream_path, write_upstream_path, write_upstream_path_v1,
};
pub use priority::Calculation;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

pub use o28m_kong::PathHandling;
use o28m_kong::{Route, RouterFlavor};
use rpds::HashTrieMapSync;

use entry::{Entry, PathHit};
use host::Host;
use index::{Index, Lookup};
use traditional::Traditional;

/// The part of a request that routes look at.
#[derive(Clone, Copy)]
pub struct RequestHead<'a> {
    /// Method token.
    pub method: &'a str,
    /// `Host` value as sent, with port if sent; empty when there is none.
    pub host: &'a str,
    /// Port the client is thought to have connected to, for route hosts with a port and for
    /// `net.dst.port`.
    pub port: u16,
    /// Normalised path, see [`normalise_path`].
    pub path: &'a str,
    /// Query as sent, without its question mark.
    pub query: &'a str,
    /// TLS server name, empty when the client sent none; `None` on plain connections, where
    /// conditions on it count as met.
    pub server_name: Option<&'a str>,
    /// Header lookup: every value of the (lower-case) name.
    pub headers: &'a dyn Headers,
    /// Address and port of the client, for `net.src.*`; port 0 when it is not known.
    pub source: Option<SocketAddr>,
    /// Address the client has connected to, for `net.dst.ip`.
    pub destination: Option<IpAddr>,
}

impl RequestHead<'_> {
    fn source_port(&self) -> Option<i64> {
        let port = self.source.map(|it| it.port()).filter(|port| *port != 0);
        port.map(i64::from)
    }
}

/// Access to request headers.
pub trait Headers {
    /// Calls `visit` with each value of `name` until it returns true; true when one did. Dashes and
    /// underscores in names are the same.
    fn any(&self, name: &str, visit: &mut dyn FnMut(&str) -> bool) -> bool;
}

/// A route that fits a request.
pub struct Match {
    /// The route, as given to [`Router::insert`].
    pub route: Arc<Route>,
    /// Its id as a number, see [`o28m_core::id::number`].
    pub key: u128,
    /// Bytes of the normalised path that the route's path matched; 0 without paths.
    pub prefix_length: usize,
    /// Captures of a regex path by number (`"0"` is the whole match) and name; empty when no group took
    /// part in the match.
    pub captures: HashMap<String, String>,
    /// How the upstream path is put together: by [`write_upstream_path`] or [`write_upstream_path_v1`].
    pub path_handling: PathHandling,
}

/// A route that cannot be compiled.
#[derive(Debug, thiserror::Error)]
#[error("route {id} cannot be matched")]
pub struct BadRoute {
    /// Its id.
    pub id: String,
    /// Why.
    #[source]
    pub source: Problem,
}

/// Why a route cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// A path or header expression, or a pattern in an expression.
    #[error("a regular expression is unusable")]
    Regex(#[source] Box<regex::Error>),
    /// The text is no expression.
    #[error("the expression cannot be read")]
    Syntax(#[from] Box<o28m_kong::expression::Error>),
    /// The expression compares what cannot be compared.
    #[error("the expression cannot be evaluated")]
    Expression(#[from] o28m_kong::expression::Invalid),
    /// An element of `sources` or `destinations`.
    #[error("an address is none")]
    Endpoint,
    /// It has an expression, which only the flavour `expressions` evaluates.
    #[error("expressions need the router flavor `expressions`")]
    Flavor,
}

impl From<regex::Error> for Problem {
    fn from(error: regex::Error) -> Self {
        Self::Regex(Box::new(error))
    }
}

/// An immutable matcher. Insert and remove give a new one that shares structure with the old; what
/// they cost depends on the route, not on how many there are.
#[derive(Clone, Default)]
pub struct Router {
    flavor: RouterFlavor,
    calculation: Calculation,
    routes: HashTrieMapSync<Arc<str>, Arc<[Arc<Entry>]>>,
    index: Index,
    /// Instead of the index, in the flavour `traditional`.
    traditional: Traditional,
}

impl Router {
    /// An empty matcher of the flavour `traditional_compatible` that ranks routes by `calculation`; the
    /// default is Kong 3.9.3's.
    #[must_use]
    pub fn new(calculation: Calculation) -> Self {
        Self::with(RouterFlavor::TraditionalCompatible, calculation)
    }

    /// An empty matcher. The flavour `traditional` has an order of its own, whatever `calculation` is.
    #[must_use]
    pub fn with(flavor: RouterFlavor, calculation: Calculation) -> Self {
        Self {
            flavor,
            calculation,
            ..Self::default()
        }
    }

    /// With `route` added, replacing the one of the same id.
    ///
    /// # Errors
    /// [`BadRoute`] when it does not compile.
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
        let entries = entry::compile(&route, self.flavor, self.calculation)?;
        self.take_out(&route.id);
        for entry in &entries {
            match self.flavor {
                RouterFlavor::Traditional => self.traditional.insert(entry),
                RouterFlavor::TraditionalCompatible | RouterFlavor::Expressions => {
                    self.index.insert(entry);
                }
            }
        }
        self.routes
            .insert_mut(Arc::from(route.id.as_str()), entries.into());
        Ok(())
    }

    /// Whether `route` could be added.
    ///
    /// # Errors
    /// [`BadRoute`] when it does not compile.
    pub fn check(&self, route: &Arc<Route>) -> Result<(), BadRoute> {
        entry::compile(route, self.flavor, self.calculation).map(|_| ())
    }

    /// [`Router::remove`] in place.
    pub fn take_out(&mut self, id: &str) {
        let Some(entries) = self.routes.get(id) else {
            return;
        };
        for entry in entries.iter() {
            match self.flavor {
                RouterFlavor::Traditional => self.traditional.remove(entry),
                RouterFlavor::TraditionalCompatible | RouterFlavor::Expressions => {
                    self.index.remove(entry);
                }
            }
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

    /// The winning route.
    #[must_use]
    pub fn find(&self, head: &RequestHead<'_>) -> Option<Match> {
        let host = Host::parse(head.host, head.port);
        let (entry, hit) = match self.flavor {
            RouterFlavor::Traditional => self.traditional.find(head)?,
            RouterFlavor::TraditionalCompatible | RouterFlavor::Expressions => {
                let matches = |entry: &Entry| entry.matches(head, &host);
                self.index.find(lookup(head, &host), matches)?
            }
        };
        Some(self.matched(entry, hit, head, &host))
    }

    /// Whether nothing of routes that were taken out is left behind.
    #[cfg(feature = "testing")]
    pub(crate) fn is_clean(&self) -> bool {
        self.index.is_empty() && self.traditional.is_empty()
    }

    fn matched(
        &self,
        entry: &Entry,
        hit: PathHit,
        head: &RequestHead<'_>,
        host: &Host<'_>,
    ) -> Match {
        let path_handling = match self.flavor {
            RouterFlavor::Traditional => entry.route.path_handling.unwrap_or_default(),
            RouterFlavor::TraditionalCompatible | RouterFlavor::Expressions => PathHandling::V0,
        };
        Match {
            route: entry.route.clone(),
            key: entry.key,
            prefix_length: hit.length,
            captures: entry.captures(hit, head, host),
            path_handling,
        }
    }
}

fn lookup<'a>(head: &RequestHead<'a>, host: &'a Host<'_>) -> Lookup<'a> {
    Lookup {
        names: [&host.name, ""],
        labels: &host.name,
        path: head.path,
    }
}
