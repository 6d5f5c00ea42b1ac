//! Pages that look into or act on the running node (spec gateway-admin 12.5).

use std::time::Duration;

use http::{Response, StatusCode};
use o28m_core::id;
use o28m_net::Body;
use serde_json::json;
use tokio::runtime::Handle;

use crate::api::Api;
use crate::body::Members;
use crate::list::Arguments;
use crate::object::kinds;
use crate::problem::Problem;
use crate::reply;

/// How long a new look at the whole configuration may take.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Endpoints of operations.
#[derive(Clone, Copy)]
pub(crate) enum Operation {
    /// `/timers`
    Timers,
    /// `/cache`
    Cache,
    /// `/cache/{key}`
    CacheKey,
    /// `/debug/node/log-level`
    LogLevel,
    /// `/debug/node/log-level/{log_level}` and `/debug/cluster/log-level/{log_level}`
    SetLogLevel { all_nodes: bool },
    /// `/metrics`
    Metrics,
}

impl Operation {
    pub(crate) const fn methods(self) -> &'static [&'static str] {
        match self {
            Self::Timers | Self::LogLevel | Self::Metrics => &["GET"],
            Self::Cache => &["DELETE"],
            Self::CacheKey => &["DELETE", "GET"],
            Self::SetLogLevel { .. } => &["PUT"],
        }
    }
}

/// What the process does besides requests: tasks that are there, as Kong's running timers.
pub(crate) fn tasks() -> usize {
    Handle::try_current().map_or(0, |handle| handle.metrics().num_alive_tasks())
}

impl Api {
    /// Carries out an operation; `parameter` is the last segment of its path.
    pub(crate) async fn operation(
        &self,
        operation: Operation,
        method: &str,
        parameter: &str,
        arguments: &Arguments,
        members: &Members,
    ) -> Result<Response<Body>, Problem> {
        match operation {
            Operation::Timers => {
                let body = json!({"worker": {"id": 0, "count": tasks()}, "stats": {}});
                Ok(reply::json(StatusCode::OK, &body))
            }
            Operation::Cache => self.drop_caches().await,
            Operation::CacheKey if method == "GET" => self.cached(parameter).await,
            Operation::CacheKey => self.drop_caches().await,
            Operation::LogLevel => Ok(self.get_log_level()),
            Operation::SetLogLevel { all_nodes } => {
                self.put_log_level(parameter, all_nodes, arguments, members)
                    .await
            }
            Operation::Metrics => self.metrics_page(),
        }
    }

    /// Forgets who proved a password, and makes the data plane read its configuration anew.
    async fn drop_caches(&self) -> Result<Response<Body>, Problem> {
        if let Some(guard) = self.guard() {
            guard.forget();
        }
        if let Some(gateway) = self.data_plane() {
            let load = gateway.load(self.store());
            match tokio::time::timeout(RELOAD_TIMEOUT, load).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the configuration could not be read anew");
                    return Err(Problem::Unavailable);
                }
                Err(_) => return Err(Problem::Busy),
            }
        }
        Ok(reply::empty(StatusCode::NO_CONTENT))
    }

    /// An entity by Kong's cache key, which begins with its kind and id: the data plane holds every
    /// entity that there is.
    async fn cached(&self, key: &str) -> Result<Response<Body>, Problem> {
        let mut parts = key.split(':');
        let kind = parts.next().unwrap_or_default();
        let id = parts.next().unwrap_or_default();
        if !kinds().contains(&kind) || !id::is_uuid(id) {
            return Err(Problem::NotFound);
        }
        let found = self.store().get(kind, &id.to_ascii_lowercase()).await?;
        let record = found.ok_or(Problem::NotFound)?;
        Ok(reply::json(StatusCode::OK, &record.body))
    }

    /// The metrics of the process, when plugin `prometheus` is there.
    fn metrics_page(&self) -> Result<Response<Body>, Problem> {
        let is_loaded = self.enabled_plugins().iter().any(|it| it == "prometheus");
        match self.metrics().filter(|_| is_loaded) {
            Some(metrics) => {
                let kind = o28m_telemetry::metrics::CONTENT_TYPE;
                Ok(reply::plain(kind, metrics.registry.render()))
            }
            None => Err(Problem::NotFound),
        }
    }
}
