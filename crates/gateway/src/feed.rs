//! Keeps the snapshot up with the store: loads everything once, then follows the change feed.

use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use o28m_core::Ambient;
use o28m_store::{Error, News, Store, Stored};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::snapshot::{Compiler, ENTITY_KINDS, FIRST_KINDS, Snapshot, Update, is_costly};

/// Changed objects that are applied to the snapshot in use; above it everything is loaded anew.
const CHANGED_MAX: usize = 50_000;
/// Objects compiled on the caller's thread; more go to a blocking one.
const INLINE_COMPILES_MAX: usize = 32;
/// Batches of objects that wait to be parsed or compiled while everything is loaded.
const BATCHES_WAITING: usize = 4;
/// Pause after a snapshot, in which changes gather for the next one (spec gateway-admin 19.3). A change
/// that comes after a longer silence does not wait.
const GATHERING_TIME: Duration = Duration::from_millis(10);
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
            current: ArcSwap::from_pointee(Snapshot::empty(compiler.flavor, compiler.calculation)),
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

    /// Reads the whole configuration. Objects are read, parsed and compiled at the same time, and only a
    /// few of them wait in between: what is in memory in the end is the snapshot.
    pub(crate) async fn load(&self, store: &Store) -> Result<(), Error> {
        loop {
            let base = self.current();
            let (into, stored) = mpsc::channel(BATCHES_WAITING);
            let (parsed_into, parsed) = mpsc::channel(BATCHES_WAITING);
            let reading = async {
                let rest = |kind: &&&str| !FIRST_KINDS.contains(kind);
                let rest: Vec<_> = ENTITY_KINDS.iter().filter(rest).copied().collect();
                let version = store.scan(FIRST_KINDS, &rest, &into).await;
                drop(into);
                version
            };
            let (compiler, previous) = (self.compiler.clone(), base.clone());
            let compiling = on_a_thread(move || {
                let mut parsed = parsed;
                let updates = std::iter::from_fn(move || parsed.blocking_recv()).flatten();
                let next = Snapshot::of(&compiler, updates, Some(&previous));
                next.warn_of_divergences(None);
                next
            });
            let (version, (), mut next) =
                tokio::join!(reading, parse(stored, parsed_into), compiling);
            next.set_version(version?);
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
        let mut gathered_until = Instant::now();
        loop {
            tokio::time::sleep_until(gathered_until).await;
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
            gathered_until = Instant::now() + GATHERING_TIME;
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
        let news = store
            .news(base.version(), ENTITY_KINDS, CHANGED_MAX)
            .await?;
        let (version, present, gone) = match news {
            News::Since {
                version,
                present,
                gone,
            } => (version, present, gone),
            News::Truncated => return self.load(store).await.map(|()| true),
        };
        if version == base.version() {
            return Ok(true);
        }
        let next = self.compile(base.clone(), present, gone, version).await;
        Ok(self.publish(&base, next))
    }

    /// Compiles off the request path: small batches here, large ones on a blocking thread.
    async fn compile(
        &self,
        base: Arc<Snapshot>,
        present: Vec<Stored>,
        gone: Vec<(String, String)>,
        version: i64,
    ) -> Snapshot {
        let compiler = self.compiler.clone();
        let costly = present.iter().any(|it| is_costly(&it.kind));
        let inline = present.len() <= INLINE_COMPILES_MAX && !costly;
        let compile = move || {
            let routes = present.iter().filter(|it| it.kind == "routes");
            let routes: Vec<_> = routes.map(|it| it.id.clone()).collect();
            let gone = gone.into_iter().map(|(kind, id)| Update {
                kind,
                id,
                record: None,
            });
            let updates = present.into_iter().map(Update::from).chain(gone);
            let next = base.apply(&compiler, updates.collect(), version, None);
            next.warn_of_divergences(Some(&routes));
            next
        };
        if inline {
            return compile();
        }
        on_a_thread(compile).await
    }

    /// Uses documents with their kinds, as if they had been stored.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn put(&self, documents: Vec<(&'static str, serde_json::Value)>) {
        let base = self.current();
        let version = base.version() + 1;
        let updates = documents.into_iter().map(|(kind, body)| {
            let id = body.get("id").and_then(serde_json::Value::as_str);
            Update::from(o28m_store::Record {
                kind: kind.to_owned(),
                id: id.unwrap_or_default().to_owned(),
                owner: String::new(),
                version,
                body,
            })
        });
        let next = base.apply(&self.compiler, updates.collect(), version, None);
        self.publish(&base, next);
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

/// Parses batches on threads of their own, several at a time, and hands them on in order.
async fn parse(mut stored: mpsc::Receiver<Vec<Stored>>, into: mpsc::Sender<Vec<Update>>) {
    let parsers = std::thread::available_parallelism().map_or(1, NonZero::get);
    let mut parsing = FuturesOrdered::new();
    loop {
        tokio::select! {
            batch = stored.recv(), if parsing.len() < parsers => match batch {
                Some(batch) => parsing.push_back(on_a_thread(|| {
                    batch.into_iter().map(Update::from).collect::<Vec<_>>()
                })),
                None => break,
            },
            Some(parsed) = parsing.next() => {
                if into.send(parsed).await.is_err() {
                    return;
                }
            }
        }
    }
    while let Some(parsed) = parsing.next().await {
        if into.send(parsed).await.is_err() {
            return;
        }
    }
}

/// Runs what takes long where nobody waits for it.
async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only the end of the runtime cancels a blocking task before it ran.
            Err(_) => std::future::pending().await,
        },
    }
}
