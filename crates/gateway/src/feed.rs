//! Keeps the snapshot up with the store: loads everything once, then follows the change feed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use o28m_core::Ambient;
use o28m_store::{Changes, Error, Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::snapshot::{Compiler, ENTITY_KINDS, Snapshot, Update};

/// Changed objects read one by one; above it everything is loaded at once.
const SINGLE_READS_MAX: usize = 256;
/// Objects compiled on the caller's thread; more go to a blocking one.
const INLINE_COMPILES_MAX: usize = 32;
/// Rounds of reading changes until nothing new came in between; after it everything is loaded.
const ROUNDS_MAX: usize = 8;
const RETRY_DELAY_MIN: Duration = Duration::from_millis(100);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(5);

/// The published snapshot and its announcements.
pub(crate) struct Feed {
    current: ArcSwap<Snapshot>,
    compiler: Arc<Compiler>,
    applied: watch::Sender<i64>,
    ambient: Ambient,
    /// When a known change could first not be applied, in milliseconds; 0 while up to date.
    behind_since: AtomicI64,
}

impl Feed {
    pub(crate) fn new(compiler: Compiler, ambient: Ambient) -> Self {
        Self {
            current: ArcSwap::from_pointee(Snapshot::empty(compiler.calculation)),
            compiler: Arc::new(compiler),
            applied: watch::Sender::new(0),
            ambient,
            behind_since: AtomicI64::new(0),
        }
    }

    pub(crate) fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    pub(crate) fn applied(&self) -> watch::Receiver<i64> {
        self.applied.subscribe()
    }

    /// Version of the snapshot in use, as a metric.
    #[expect(clippy::cast_precision_loss, reason = "a metric is a float")]
    pub(crate) fn version(&self) -> f64 {
        self.current.load().version() as f64
    }

    /// Routes of the snapshot in use, as a metric.
    #[expect(clippy::cast_precision_loss, reason = "a metric is a float")]
    pub(crate) fn routes(&self) -> f64 {
        self.current.load().router().len() as f64
    }

    /// Seconds that a known change has been waiting; 0 while up to date.
    pub(crate) fn age_seconds(&self) -> f64 {
        match self.behind_since.load(Ordering::Relaxed) {
            0 => 0.0,
            since => {
                let millis = self.ambient.now().millis().saturating_sub(since);
                Duration::from_millis(millis.try_into().unwrap_or(0)).as_secs_f64()
            }
        }
    }

    /// Reads the whole configuration.
    pub(crate) async fn load(&self, store: &Store) -> Result<(), Error> {
        loop {
            let base = self.current();
            let everything = store.everything(ENTITY_KINDS).await?;
            let updates = everything.records.into_iter().map(Update::from).collect();
            let next = self.compile(None, Some(base.clone()), updates, everything.version);
            let next = next.await;
            if self.publish(&base, next) {
                return Ok(());
            }
        }
    }

    /// Applies changes until `stop`; while the database is away the snapshot in use stays.
    pub(crate) async fn follow(&self, store: &Store, stop: &CancellationToken) {
        let _stopped = stop.run_until_cancelled(self.follow_for_ever(store)).await;
    }

    async fn follow_for_ever(&self, store: &Store) {
        let mut announced = store.subscribe();
        let mut delay = RETRY_DELAY_MIN;
        // Holding the replaced snapshot for a while lets this task free it instead of a request.
        let mut replaced = self.current();
        loop {
            announced.borrow_and_update();
            let before = self.current();
            let wait = match self.catch_up(store).await {
                Ok(()) => {
                    if self.behind_since.swap(0, Ordering::Relaxed) != 0 {
                        tracing::info!("configuration changes are applied again");
                    }
                    delay = RETRY_DELAY_MIN;
                    None
                }
                Err(error) => {
                    self.fall_behind(&error);
                    delay = (delay * 2).min(RETRY_DELAY_MAX);
                    Some(delay)
                }
            };
            drop(std::mem::replace(&mut replaced, before));
            match wait {
                Some(delay) => tokio::time::sleep(delay).await,
                None if announced.changed().await.is_ok() => {}
                // The store was closed: nothing will come any more.
                None => return,
            }
        }
    }

    fn fall_behind(&self, error: &Error) {
        let now = self.ambient.now().millis();
        let behind = &self.behind_since;
        let first = behind.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        if first.is_ok() {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            tracing::warn!(
                %error,
                cause = cause.unwrap_or_default(),
                "configuration changes cannot be read; the configuration in use stays"
            );
        }
    }

    /// Applies everything that changed since the current snapshot, as one step.
    async fn catch_up(&self, store: &Store) -> Result<(), Error> {
        while !self.step(store).await? {}
        Ok(())
    }

    /// Tries to; false when somebody else published a snapshot meanwhile.
    async fn step(&self, store: &Store) -> Result<bool, Error> {
        let base = self.current();
        let mut version = base.version();
        let mut changed = BTreeMap::new();
        // What is read may belong to later changes: only when no more are found do the objects of
        // different kinds fit together.
        for _ in 0..ROUNDS_MAX {
            let changes = match store.changes_since(version).await? {
                Changes::Since(changes) => changes,
                Changes::Truncated => return self.load(store).await.map(|()| true),
            };
            let Some(last) = changes.last() else {
                if version == base.version() {
                    return Ok(true);
                }
                let updates = changed.into_values().collect();
                let next = self.compile(Some(base.clone()), None, updates, version);
                let next = next.await;
                return Ok(self.publish(&base, next));
            };
            version = last.version;
            let relevant = changes.into_iter();
            let relevant = relevant.filter(|it| ENTITY_KINDS.contains(&it.kind.as_str()));
            let keys: BTreeMap<_, _> = relevant
                .map(|change| ((change.kind, change.id), change.deleted))
                .collect();
            if keys.len() > SINGLE_READS_MAX {
                return self.load(store).await.map(|()| true);
            }
            for ((kind, id), deleted) in keys {
                let record = if deleted {
                    None
                } else {
                    store.get(&kind, &id).await?
                };
                let update = Update {
                    kind: kind.clone(),
                    id: id.clone(),
                    record,
                };
                changed.insert((kind, id), update);
            }
        }
        self.load(store).await.map(|()| true)
    }

    /// Compiles off the request path: small batches here, large ones on a blocking thread.
    async fn compile(
        &self,
        base: Option<Arc<Snapshot>>,
        previous: Option<Arc<Snapshot>>,
        updates: Vec<Update>,
        version: i64,
    ) -> Snapshot {
        let compiler = self.compiler.clone();
        let empty = || Arc::new(Snapshot::empty(self.compiler.calculation));
        let base = base.unwrap_or_else(empty);
        let inline = updates.len() <= INLINE_COMPILES_MAX && !updates.iter().any(Update::is_costly);
        let compile = move || base.apply(&compiler, updates, version, previous.as_deref());
        if inline {
            return compile();
        }
        match tokio::task::spawn_blocking(compile).await {
            Ok(next) => next,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Only the end of the runtime cancels a blocking task before it ran.
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// Swaps `next` in unless somebody else replaced `base` meanwhile.
    fn publish(&self, base: &Arc<Snapshot>, next: Snapshot) -> bool {
        let version = next.version();
        let found = self.current.compare_and_swap(base, Arc::new(next));
        let done = Arc::ptr_eq(&found, base);
        if done {
            tracing::debug!(config.version = version, "configuration applied");
            self.applied.send_replace(version);
        }
        done
    }
}
