//! What a plugin is: a kind that compiles configurations, and instances with one hook per phase.

use std::sync::Arc;

use http::Response;
use o28m_kong::PluginEntity;
use o28m_net::{Body, BoxFuture};
use o28m_telemetry::metrics::Samples;
use serde_json::Value;

use crate::Exchange;

/// A kind of plugin, such as `acl`: one for the process.
pub trait PluginKind: Send + Sync {
    /// Kong's name of it.
    fn name(&self) -> &'static str;

    /// Higher runs earlier in every phase; ties run in descending order of names.
    fn priority(&self) -> i32;

    /// Compiles a validated configuration into an instance. Called off the request path, once for
    /// each change of the configuration.
    ///
    /// # Errors
    /// [`BadConfig`]: reported; requests that the instance applies to are answered with 500, the
    /// rest of the configuration stays.
    fn configure(&self, config: &Value) -> Result<Arc<dyn Plugin>, BadConfig>;

    /// Whether entities with equal configurations may share an instance: it keeps nothing that belongs
    /// to one of them, and is not told what it is bound to.
    fn is_shareable(&self) -> bool {
        false
    }

    /// Like [`PluginKind::configure`], for a kind whose instances must know what they are bound to,
    /// such as one whose counters outlive a change of the configuration.
    ///
    /// # Errors
    /// As [`PluginKind::configure`].
    fn instantiate(&self, entity: &PluginEntity) -> Result<Arc<dyn Plugin>, BadConfig> {
        self.configure(&entity.config)
    }

    /// Adds metrics of this kind. Called when metrics are rendered, while the configuration has an
    /// instance of it.
    fn collect(&self, into: &mut Samples) {
        let _ = into;
    }
}

/// What the gateway does for an instance besides calling its hooks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Count the bytes of each request and response, see [`crate::Observed::traffic`].
    pub traffic: bool,
    /// Show the health of upstreams' targets among the metrics.
    pub upstream_health: bool,
}

/// A configuration that passed the schema but cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("unusable plugin configuration: {0}")]
pub struct BadConfig(pub String);

/// What the access phase decided.
#[derive(Debug)]
pub enum Verdict {
    /// The next plugin's turn.
    Continue,
    /// This is the answer; nothing is sent upstream. Later phases still run.
    Respond(Response<Body>),
}

/// An access phase that is over, or has to wait for something.
pub enum Access<'a> {
    /// Decided without waiting; costs no allocation.
    Now(Verdict),
    /// Waits, such as for a key set.
    Later(BoxFuture<'a, Verdict>),
}

impl Access<'_> {
    /// [`Verdict::Continue`], decided now.
    pub const CONTINUE: Self = Self::Now(Verdict::Continue);
}

/// A configured plugin. Hooks that a plugin does not need stay at their defaults.
pub trait Plugin: Send + Sync {
    /// What this instance needs as long as it is configured.
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// Before the upstream is contacted: may change the request or answer it. A panic is answered
    /// with 500.
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        let _ = exchange;
        Access::CONTINUE
    }

    /// The response head is known, from wherever it came: may change status and headers.
    fn header_filter(&self, exchange: &mut Exchange, response: &mut http::response::Parts) {
        let _ = (exchange, response);
    }

    /// The exchange is over, or was given up by the client: runs once for every instance that was
    /// chosen for the request, whether or not its access phase ran.
    fn log(&self, exchange: &Exchange) {
        let _ = exchange;
    }
}
