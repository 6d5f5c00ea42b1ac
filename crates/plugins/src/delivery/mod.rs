//! What plugins send on: bounded queues with batches and retries, off the request path (spec
//! gateway-plugins 1.7).
//!
//! A request hands over a few encoded bytes and goes on. Whatever the receiver does, memory stays
//! bounded and requests do not wait: what cannot be kept is dropped, oldest first, and counted.

mod http;
mod queue;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use o28m_net::BoxFuture;
use o28m_net::client::Pool;
use o28m_telemetry::metrics::{Collect, Registry, Samples};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use http::{Calls, Endpoint, json_array};
pub(crate) use queue::{Queue, Settings};

use bytes::Bytes;
use queue::Waiting;

/// Takes batches to where they go.
pub(crate) trait Deliver: Send + Sync + 'static {
    /// Takes one batch there; it may be called again with the same one.
    fn deliver<'a>(&'a self, batch: &'a [Bytes]) -> BoxFuture<'a, Result<(), Failure>>;
}

/// Why a batch did not arrive.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct Failure {
    /// For the log; never the batch itself.
    reason: String,
    again: Again,
}

impl Failure {
    /// It will never arrive.
    pub(crate) fn lasting(reason: impl std::fmt::Display) -> Self {
        Self {
            reason: reason.to_string(),
            again: Again::Never,
        }
    }

    /// It did not arrive, for a reason that may pass.
    pub(crate) fn passing(reason: impl std::fmt::Display) -> Self {
        Self {
            reason: reason.to_string(),
            again: Again::After(None),
        }
    }
}

/// Whether sending it once more may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    /// After the usual delay, or after the one the receiver asks for.
    After(Option<Duration>),
    /// The receiver will never take it.
    Never,
}

/// Every queue of the process and what works on them. Cheap to clone.
#[derive(Clone)]
pub struct Deliveries(Arc<Shared>);

struct Shared {
    /// Where deliveries run: not on the threads of the data plane.
    runtime: Option<Handle>,
    tasks: TaskTracker,
    /// What waits is sent at once, without another chance.
    stopping: CancellationToken,
    /// Time is up.
    cut: CancellationToken,
    /// Connections of all deliveries.
    pool: Arc<Pool>,
    metrics: Registry,
    queues: Mutex<Vec<Weak<Waiting>>>,
}

impl Deliveries {
    /// Deliveries that run on the runtime of the caller; outside of one nothing is sent.
    #[must_use]
    pub fn new(metrics: &Registry) -> Self {
        let shared = Arc::new(Shared {
            runtime: Handle::try_current().ok(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            cut: CancellationToken::new(),
            pool: Pool::new(),
            metrics: metrics.clone(),
            queues: Mutex::default(),
        });
        metrics.collect(Lengths(Arc::downgrade(&shared)));
        Self(shared)
    }

    /// The metrics of the process.
    pub(crate) fn metrics(&self) -> &Registry {
        &self.0.metrics
    }

    /// Sends what is still waiting and ends; what is not out after `within` is dropped. Called when no
    /// request is in flight any more.
    pub async fn flush(&self, within: Duration) {
        let shared = &self.0;
        shared.stopping.cancel();
        shared.tasks.close();
        let done = tokio::time::timeout(within, shared.tasks.wait()).await;
        shared.cut.cancel();
        if done.is_err() {
            tracing::warn!("deliveries were cut: their receivers are too slow");
        }
        for queue in self.0.queues() {
            queue.give_up();
        }
    }
}

/// A process that goes away without flushing must not leave work behind.
impl Drop for Shared {
    fn drop(&mut self) {
        self.cut.cancel();
    }
}

impl Shared {
    fn queues(&self) -> Vec<Arc<Waiting>> {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.iter().filter_map(Weak::upgrade).collect()
    }

    fn add(&self, queue: &Arc<Waiting>) {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|queue| queue.strong_count() > 0);
        queues.push(Arc::downgrade(queue));
    }
}

/// How many entries wait, by plugin.
struct Lengths(Weak<Shared>);

impl Collect for Lengths {
    fn collect(&self, into: &mut Samples) {
        let Some(shared) = self.0.upgrade() else {
            return;
        };
        let mut lengths = std::collections::BTreeMap::new();
        for queue in shared.queues() {
            *lengths.entry(queue.plugin()).or_insert(0) += queue.len();
        }
        for (plugin, length) in lengths {
            let help = "Entries that wait to be sent.";
            let labels = [("plugin", plugin)];
            #[expect(clippy::cast_precision_loss, reason = "a metric is a float")]
            into.gauge("o28m_queue_length", help, &labels, length as f64);
        }
    }
}
