//! Start and stop: which thread serves which listener, and in which order everything ends.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use o28m_gateway_admin::StatusSources;
use o28m_net::HttpService;
use o28m_net::client::{Pool, PoolSettings};
use o28m_net::server::{self, HeadLimits, Limits, Listener, Timeouts};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::metrics::Metrics;
use super::readiness::State;
use super::{Platform, open};
use crate::config::Config;

/// Time for tasks to end once they were cut.
const CUT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for what plugins send on, whatever is left of the drain timeout.
const FLUSH_MIN: Duration = Duration::from_secs(1);
const FLUSH_MAX: Duration = Duration::from_secs(5);

/// What runs and how it is told to end.
#[derive(Default)]
pub(super) struct Serving {
    state: Arc<State>,
    /// Cancelled first: the data plane stops accepting and finishes what it has.
    drain_proxy: CancellationToken,
    /// Cancelled when the data plane is done: everything it hands requests to.
    drain_rest: CancellationToken,
    /// Cancelled when the drain timeout is over: whatever still runs is cut.
    stop: CancellationToken,
    proxies: TaskTracker,
    rest: TaskTracker,
}

impl Platform {
    /// Loads the data plane's configuration and serves every listener.
    ///
    /// # Errors
    /// When the configuration cannot be loaded or a thread cannot be started.
    pub async fn start(mut self) -> Result<Self> {
        if let Some(gateway) = &self.gateway {
            gateway.load(&self.entities).await?;
            let follow = gateway
                .clone()
                .follow(self.entities.clone(), self.serving.drain_rest.clone());
            self.serving.rest.spawn(follow);
            self.serving.rest.spawn(announce(
                gateway.applied(),
                self.announce.clone(),
                self.serving.drain_rest.clone(),
            ));
        }
        if let Some(keys) = &self.keys {
            self.serving
                .rest
                .spawn(keys.clone().follow(self.serving.drain_rest.clone()));
        }
        if let Some((jumper, feed)) = self.jumper.clone().zip(open::zone_feed(&self.config)) {
            let stop = self.serving.drain_rest.clone();
            self.serving
                .rest
                .spawn(async move { jumper.follow_zones(feed, stop).await });
        }
        self.serve_proxy()?;
        let state = self.serving.state.clone();
        if let Some(admin) = &self.admin {
            let follow = admin.clone().follow(self.serving.drain_rest.clone());
            self.serving.rest.spawn(follow);
        }
        let has_prometheus = open::enabled_plugins(&self.config)
            .iter()
            .any(|name| name == "prometheus");
        let sources = StatusSources {
            store: Some(self.store.clone()),
            metrics: has_prometheus.then(|| self.metrics.clone()),
            admin: self.admin.clone(),
            ready_needs_database: self.config.boolean("status.ready_needs_database"),
        };
        let status = o28m_gateway_admin::status_of(state, sources);
        self.serve("status", Some(status));
        let path = self.config.text("metrics.path").to_owned();
        let metrics = Metrics {
            registry: self.metrics.clone(),
            path,
        };
        self.serve("metrics", Some(Arc::new(metrics)));
        let as_service = |service: Arc<dyn HttpService>| service;
        self.serve("admin", self.admin_door.clone());
        self.serve("jumper", self.jumper.clone().map(|it| as_service(it)));
        self.serve("issuer", self.issuer.clone().map(|it| as_service(it)));
        if let Some(doors) = &self.identity {
            let (public, management) = (doors.public.clone(), doors.management.clone());
            self.serve("identity", Some(public));
            self.serve("management", Some(management));
        }
        self.serving.state.started();
        tracing::info!(node.roles = %self.config.text("node.roles"), "platform started");
        Ok(self)
    }

    /// Serves a listener on the ordinary runtime.
    fn serve(&mut self, name: &str, service: Option<Arc<dyn HttpService>>) {
        let Some(service) = service else {
            return;
        };
        for listener in self.bound.take(name) {
            let (drain, stop) = (self.serving.drain_rest.clone(), self.serving.stop.clone());
            let limits = match name {
                "identity" => o28m_iris_http::HEAD_LIMITS,
                _ => HeadLimits::default(),
            };
            let serving =
                server::serve(listener, service.clone(), Pool::new(), limits, drain, stop);
            self.serving.rest.spawn(serving);
        }
    }

    /// Serves the proxy's listeners on one thread per core, each with its own sockets and pool.
    fn serve_proxy(&mut self) -> Result<()> {
        let Some(gateway) = self.gateway.clone() else {
            return Ok(());
        };
        let bound = self.bound.take("proxy");
        let mut shares = Vec::new();
        for _ in 1..worker_threads(&self.config) {
            let share: Result<Vec<_>, _> = bound.iter().map(Listener::sibling).collect();
            shares.push(share?);
        }
        shares.push(bound);
        shares
            .into_iter()
            .try_for_each(|share| self.spawn_worker(share, gateway.clone()))
    }

    fn spawn_worker(&self, listeners: Vec<Listener>, service: Arc<dyn HttpService>) -> Result<()> {
        let (drain, stop) = (self.serving.drain_proxy.clone(), self.serving.stop.clone());
        let limits = limits(&self.config);
        let settings = pool_settings(&self.config);
        let resolver = self.resolver.clone();
        let work = self.serving.proxies.track_future(async move {
            let pool = Pool::with_resolver(settings, resolver);
            let serving = listeners.into_iter().map(|listener| {
                let (service, pool) = (service.clone(), pool.clone());
                server::serve_with(listener, service, pool, limits, drain.clone(), stop.clone())
            });
            futures_util::future::join_all(serving).await;
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = std::thread::Builder::new().name("proxy".to_owned());
        let _detached = thread
            .spawn(move || runtime.block_on(work))
            .context("cannot start a data plane thread")?;
        Ok(())
    }

    /// Stops: readiness goes false, the data plane drains, then everything it depends on. Gives false
    /// when requests in flight had to be cut.
    pub async fn shutdown(self) -> bool {
        let serving = &self.serving;
        serving.state.draining();
        if let Some(jumper) = &self.jumper {
            jumper.drain();
        }
        tokio::time::sleep(self.config.duration("node.shutdown_delay")).await;
        let timeout = self.config.duration("node.drain_timeout");
        let deadline = tokio::time::Instant::now() + timeout;
        serving.drain_proxy.cancel();
        serving.proxies.close();
        serving.rest.close();
        let proxies = tokio::time::timeout_at(deadline, serving.proxies.wait()).await;
        tracing::info!(drain.complete = proxies.is_ok(), "data plane drained");
        serving.drain_rest.cancel();
        let rest = tokio::time::timeout_at(deadline, serving.rest.wait()).await;
        if let Some(jumper) = &self.jumper {
            let _late = tokio::time::timeout_at(deadline, jumper.flushed()).await;
        }
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        self.deliveries
            .flush(left.clamp(FLUSH_MIN, FLUSH_MAX))
            .await;
        serving.stop.cancel();
        let ended = async { tokio::join!(serving.proxies.wait(), serving.rest.wait()) };
        let ended = tokio::time::timeout(CUT_TIMEOUT, ended).await;
        tracing::info!(drain.complete = rest.is_ok(), "components drained");
        self.entities.close().await;
        self.store.close().await;
        tracing::info!("database closed");
        proxies.is_ok() && rest.is_ok() && ended.is_ok()
    }
}

/// A platform that is dropped ends: its threads must not outlive it.
impl Drop for Serving {
    fn drop(&mut self) {
        self.drain_proxy.cancel();
        self.drain_rest.cancel();
        self.stop.cancel();
    }
}

/// Passes on what the data plane applied, to an Admin API that was made before it.
async fn announce(
    mut applied: watch::Receiver<i64>,
    announce: watch::Sender<i64>,
    stop: CancellationToken,
) {
    loop {
        let version = *applied.borrow_and_update();
        let _previous = announce.send_replace(version);
        tokio::select! {
            () = stop.cancelled() => return,
            changed = applied.changed() => if changed.is_err() { return },
        }
    }
}

/// What the proxy takes of clients.
fn limits(config: &Config) -> Limits {
    let number = |key: &str| u64::try_from(config.integer(key)).unwrap_or_default();
    Limits {
        head: head_limits(config),
        timeouts: Timeouts {
            head: config.duration("proxy.head_timeout"),
            idle: config.duration("proxy.keepalive_timeout"),
            body: config.duration("proxy.body_timeout"),
            write: config.duration("proxy.send_timeout"),
            farewell: config.duration("node.drain_timeout") / 2,
        },
        connections_max: usize::try_from(number("proxy.connections_max")).unwrap_or(usize::MAX),
        requests_max: number("proxy.keepalive_requests"),
        age_max: config.duration("proxy.keepalive_time"),
    }
}

/// How long connections to upstreams are kept.
fn pool_settings(config: &Config) -> PoolSettings {
    let idle_timeout = config.duration("upstream.keepalive_idle_timeout");
    PoolSettings {
        idle_max: usize::try_from(config.integer("upstream.keepalive_max")).unwrap_or(0),
        requests_max: u32::try_from(config.integer("upstream.keepalive_requests")).unwrap_or(0),
        idle_timeout: Some(idle_timeout).filter(|it| !it.is_zero()),
    }
}

/// What the proxy takes of request heads; one line is never more than all of them.
fn head_limits(config: &Config) -> HeadLimits {
    let bytes = |key: &str| usize::try_from(config.integer(key)).unwrap_or_default();
    let first = bytes("proxy.head_buffer_bytes");
    let line_bytes_max = bytes("proxy.head_line_bytes_max").max(first);
    HeadLimits {
        line_bytes_max,
        head_bytes_max: bytes("proxy.head_bytes_max").max(line_bytes_max),
        ..HeadLimits::default()
    }
}

/// The configured number of data plane threads, or one per core.
fn worker_threads(config: &Config) -> usize {
    match usize::try_from(config.integer("node.worker_threads")) {
        Ok(threads) if threads > 0 => threads,
        _ => std::thread::available_parallelism().map_or(1, usize::from),
    }
}
