//! Compiles Kong routes to a matcher and matches a request head to a route. Pure: no I/O, no clock.

use std::collections::HashMap;
use std::sync::Arc;

use o28m_kong::Route;

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
    /// TLS server name; `None` on plain connections.
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
    /// Captures of a regex path by number (`"0"` is the whole match) and name; empty otherwise.
    pub captures: HashMap<String, String>,
}

/// A route that cannot be compiled.
#[derive(Debug, thiserror::Error)]
#[error("route {id} has an unusable path expression")]
pub struct BadRoute {
    /// Its id.
    pub id: String,
    /// The regular expression's error.
    #[source]
    pub source: Box<regex::Error>,
}

/// An immutable matcher. Insert and remove give a new one that shares structure with the old.
#[derive(Clone, Default)]
pub struct Router {}

impl Router {
    /// With `route` added, replacing the one of the same id.
    ///
    /// # Errors
    /// [`BadRoute`] when a path or header expression does not compile.
    pub fn insert(&self, route: Arc<Route>) -> Result<Self, BadRoute> {
        let _ = route;
        todo!()
    }

    /// Without the route of that id.
    #[must_use]
    pub fn remove(&self, id: &str) -> Self {
        let _ = id;
        todo!()
    }

    /// The winning route of Kong's `traditional_compatible` flavour.
    #[must_use]
    pub fn find(&self, head: &RequestHead<'_>) -> Option<Match> {
        let _ = head;
        todo!()
    }
}

/// The path cannot be normalised: bad percent escape, NUL, or it climbs above the root.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("path cannot be normalised")]
pub struct BadPath;

/// Kong's path normalisation (spec gateway-proxy 3.2).
///
/// # Errors
/// [`BadPath`].
pub fn normalise_path(raw: &str) -> Result<std::borrow::Cow<'_, str>, BadPath> {
    let _ = raw;
    todo!()
}

/// The path to send upstream, escaped (spec gateway-proxy 3.2 and 3.7, `path_handling` v0).
#[must_use]
pub fn upstream_path(service_path: Option<&str>, path: &str, matched: &str, strip: bool) -> String {
    let _ = (service_path, path, matched, strip);
    todo!()
}
