//! The Admin API as a service of listeners, of the gateway's in-process door and of the wiring.

use std::path::Path;
use std::sync::Arc;

use http::{Method, Request, Response};
use o28m_core::Ambient;
use o28m_gateway::{Gateway, PluginKind};
use o28m_kong::Document;
use o28m_net::{Body, BoxFuture, Connection, HttpService};
use o28m_store::Store;
use o28m_telemetry::metrics::Registry;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::{Api, Call, Input};
use crate::audit::Audit;
use crate::body::Configuration;
use crate::config::NotLoaded;
use crate::declarative::DeclarativeError;
use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::targets::TargetPost;
use crate::{Error, Settings};

/// The Admin API as a service; the listener and the gateway's in-process door share it.
pub struct AdminService {
    api: Arc<Api>,
    /// Where requests of the data plane's threads are served, so that they never wait for this work.
    runtime: Option<Handle>,
}

impl AdminService {
    /// The Admin API over a migrated store. `applied` announces what this process's data plane applied.
    /// Requests handed over in process are served on the runtime this is called in.
    #[must_use]
    pub fn new(
        store: Store,
        settings: Settings,
        applied: Option<watch::Receiver<i64>>,
        ambient: Ambient,
    ) -> Arc<Self> {
        let api = Api::new(store, settings, applied, ambient);
        Arc::new(Self {
            api: Arc::new(api),
            runtime: Handle::try_current().ok(),
        })
    }

    /// From now on also refuses configurations that pass the schema but that these plugins cannot
    /// compile. Only the first call counts.
    pub fn check_plugins_with(&self, kinds: Vec<Arc<dyn PluginKind>>) {
        if self.api.plugin_kinds().set(kinds).is_err() {
            tracing::warn!("plugins of the Admin API were set twice");
        }
    }

    /// Says how a `POST` of a target is answered; [`TargetPost::Idempotent`] until then. Only the first
    /// call counts.
    pub fn answer_target_posts(&self, mode: TargetPost) {
        if self.api.target_post_cell().set(mode).is_err() {
            tracing::warn!("the answer to posted targets was set twice");
        }
    }

    /// Id of this process, as `/` shows it.
    #[must_use]
    pub fn node_id(&self) -> &str {
        self.api.node_id()
    }

    /// From now on shows the health of targets as this data plane sees it; without one it is
    /// `HEALTHCHECKS_OFF`. Only the first call counts.
    pub fn show_health_of(&self, gateway: &Arc<Gateway>) {
        // The data plane may hold this service as one of its components.
        let gateway = Arc::downgrade(gateway);
        if self.api.data_plane_cell().set(gateway).is_err() {
            tracing::warn!("the data plane of the Admin API was set twice");
        }
    }

    /// From now on counts requests and password checks in this registry, which `/metrics` shows. Only the
    /// first call counts.
    pub fn count_in(&self, registry: &Registry) {
        if self.api.metrics_cell().set(Metrics::new(registry)).is_err() {
            tracing::warn!("the metrics of the Admin API were set twice");
        }
    }

    /// From now on writes a line for each change to this file, or to `/dev/stdout` or `/dev/stderr`. Only
    /// the first call counts.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn audit_to(&self, path: &Path) -> std::io::Result<()> {
        let dropped = self.api.metrics().map(|it| it.audit_lines_dropped.clone());
        let audit = Audit::open(path, dropped.unwrap_or_default())?;
        if self.api.audit_cell().set(audit).is_err() {
            tracing::warn!("the audit log of the Admin API was set twice");
        }
        Ok(())
    }

    /// Takes part in the cluster until `stop` is cancelled: tells what this node has applied and carries
    /// out orders for all nodes.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        Arc::clone(&self.api).follow(stop).await;
    }

    /// Removes every entity whose life time is over; [`AdminService::follow`] does so from time to time.
    /// Gives how many.
    ///
    /// # Errors
    /// [`o28m_store::Error`].
    pub async fn remove_ended(&self) -> Result<usize, o28m_store::Error> {
        self.api.remove_ended().await
    }

    /// Without a database: replaces all entities by those of this declarative configuration, in YAML or
    /// JSON.
    ///
    /// # Errors
    /// [`Error::Configuration`], or [`Error::Refused`] with a database and while another one is loaded;
    /// nothing is changed then.
    pub async fn load(&self, text: &str) -> Result<(), Error> {
        let refused = |status: u16, message: &str| Error::Refused {
            status,
            message: message.to_owned(),
        };
        let Some(loaded) = self.api.loaded() else {
            return Err(refused(400, "entities are in a database"));
        };
        let configuration = Configuration::Text(text.to_owned());
        match self.api.load(loaded, configuration).await {
            Ok(_) => Ok(()),
            Err(NotLoaded::Busy) => Err(refused(429, "another configuration is being loaded")),
            Err(NotLoaded::Refused(DeclarativeError::Invalid(invalid))) => {
                Err(Error::Configuration {
                    problems: invalid.lines(),
                })
            }
            Err(NotLoaded::Refused(error)) => Err(refused(500, &error.to_string())),
        }
    }

    /// See [`Api::tell_configuration_hash`].
    pub(crate) fn tell_configuration_hash(&self, body: &mut Value) {
        self.api.tell_configuration_hash(body);
    }

    /// A `PUT` by the process itself, without authentication; for set-up.
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub async fn put(&self, path: &str, body: Value) -> Result<(), Error> {
        let members = match body {
            Value::Object(members) => members,
            _ => Document::new(),
        };
        let call = Call {
            method: Method::PUT,
            path: path.to_owned(),
            query: String::new(),
            input: Input::Given(members),
        };
        let response = match self.api.dispatch(call).await {
            Ok(response) => response,
            Err(problem) => problem.response(),
        };
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let limit = o28m_core::limits::ADMIN_BODY_BYTES_MAX;
        let bytes = response.into_body().collect(limit).await;
        let message = bytes
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok())
            .and_then(|body| Some(body.get("message")?.as_str()?.to_owned()))
            .unwrap_or_default();
        Err(Error::Refused {
            status: status.as_u16(),
            message,
        })
    }
}

impl HttpService for AdminService {
    fn call<'a>(
        &'a self,
        request: Request<Body>,
        connection: &'a Connection,
    ) -> BoxFuture<'a, Response<Body>> {
        let api = Arc::clone(&self.api);
        let peer = connection.peer;
        Box::pin(async move {
            let runtime = self.runtime.as_ref().filter(|_| connection.in_process);
            let Some(runtime) = runtime else {
                return api.respond(request, peer, connection.in_process).await;
            };
            // The set ends the task when this future is dropped.
            let mut task = JoinSet::new();
            task.spawn_on(
                async move { api.respond(request, peer, true).await },
                runtime,
            );
            match task.join_next().await {
                Some(Ok(response)) => response,
                Some(Err(_)) | None => Problem::Internal.response(),
            }
        })
    }
}
