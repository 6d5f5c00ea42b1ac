use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use o28m_telemetry::metrics::{Counter, Registry};
use serde::Deserialize;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Again, Deliver, Deliveries, Shared};

/// Deliveries at once of a queue without limit: Kong starts as many as there are entries.
const CONCURRENT_MAX: usize = 64;
/// Bytes that wait in a queue without a limit of its own: clients decide how long entries are.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// How often entries that were dropped are reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// The record `queue` of a configuration.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Entries of one call.
    pub(crate) max_batch_size: usize,
    /// Seconds that a batch may wait to become full.
    pub(crate) max_coalescing_delay: f64,
    max_entries: usize,
    max_bytes: Option<i64>,
    /// Seconds.
    max_retry_time: f64,
    /// Seconds.
    initial_retry_delay: f64,
    /// Seconds.
    max_retry_delay: f64,
    concurrency_limit: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_batch_size: 1,
            max_coalescing_delay: 1.0,
            max_entries: 10_000,
            max_bytes: None,
            max_retry_time: 60.0,
            initial_retry_delay: 0.01,
            max_retry_delay: 60.0,
            concurrency_limit: 1,
        }
    }
}

impl Settings {
    /// For entries that go to their receiver as soon as it takes them, many at once where they pile up.
    pub(crate) fn without_delay() -> Self {
        Self {
            max_batch_size: 1000,
            max_coalescing_delay: 0.0,
            ..Self::default()
        }
    }

    /// The defaults, except for the entries of a batch.
    pub(crate) fn of_batches(max_batch_size: usize) -> Self {
        Self {
            max_batch_size,
            ..Self::default()
        }
    }
}

fn seconds(number: f64) -> Duration {
    Duration::try_from_secs_f64(number).unwrap_or_default()
}

/// A queue of one plugin instance. When it is dropped, what waits is still sent.
pub(crate) struct Queue {
    waiting: Arc<Waiting>,
    deliver: Arc<dyn Deliver>,
    shared: Weak<Shared>,
}

/// What waits.
pub(super) struct Waiting {
    plugin: &'static str,
    /// Id of the instance, for the log.
    instance: String,
    settings: Settings,
    bytes_max: usize,
    state: Mutex<State>,
    /// There is a first entry, a full batch, or an end.
    news: Notify,
    counts: Counts,
}

#[derive(Default)]
struct State {
    entries: VecDeque<Bytes>,
    bytes: usize,
    /// Somebody works on it.
    running: bool,
    /// Nothing will come any more.
    closed: bool,
    /// It was said that it is nearly full.
    warned: bool,
    /// Entries dropped since that was reported, and when.
    unreported: u64,
    reported: Option<Instant>,
}

/// `o28m_queue_*`.
struct Counts {
    sent: Counter,
    full: Counter,
    too_large: Counter,
    retries: Counter,
    refused: Counter,
    shutdown: Counter,
}

impl Counts {
    fn new(metrics: &Registry, plugin: &str) -> Self {
        let dropped = |reason| {
            let help = "Entries that were not sent.";
            let labels = [("plugin", plugin), ("reason", reason)];
            metrics.counter("o28m_queue_dropped_total", help, &labels)
        };
        let help = "Entries that their receiver took.";
        Self {
            sent: metrics.counter("o28m_queue_sent_total", help, &[("plugin", plugin)]),
            full: dropped("full"),
            too_large: dropped("too_large"),
            retries: dropped("retries"),
            refused: dropped("refused"),
            shutdown: dropped("shutdown"),
        }
    }
}

impl Queue {
    /// An empty queue; nothing runs before the first entry comes.
    pub(crate) fn new(
        deliveries: &Deliveries,
        plugin: &'static str,
        instance: &str,
        settings: Settings,
        deliver: Arc<dyn Deliver>,
    ) -> Self {
        let shared = &deliveries.0;
        let bytes_max = settings.max_bytes;
        let bytes_max = bytes_max.map_or(BYTES_MAX, |it| usize::try_from(it).unwrap_or(0));
        let waiting = Arc::new(Waiting {
            plugin,
            instance: instance.to_owned(),
            settings,
            bytes_max,
            state: Mutex::default(),
            news: Notify::new(),
            counts: Counts::new(&shared.metrics, plugin),
        });
        shared.add(&waiting);
        Self {
            waiting,
            deliver,
            shared: Arc::downgrade(shared),
        }
    }

    /// Adds an entry; where there is no room the oldest ones go.
    pub(crate) fn push(&self, entry: Bytes) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let Some(runtime) = &shared.runtime else {
            return;
        };
        if self.waiting.push(entry) {
            let (waiting, deliver) = (self.waiting.clone(), self.deliver.clone());
            let (stopping, cut) = (shared.stopping.clone(), shared.cut.clone());
            let work = Work {
                waiting,
                deliver,
                stopping,
            };
            let work = cut.run_until_cancelled_owned(work.run());
            let _owned_by_the_tracker = shared.tasks.spawn_on(work, runtime);
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.waiting.lock().closed = true;
        self.waiting.news.notify_one();
    }
}

impl Waiting {
    pub(super) fn plugin(&self) -> &'static str {
        self.plugin
    }

    pub(super) fn len(&self) -> usize {
        self.lock().entries.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an entry; true when nobody works on the queue yet.
    fn push(&self, entry: Bytes) -> bool {
        let entries_max = self.settings.max_entries;
        if entry.len() > self.bytes_max {
            self.counts.too_large.add(1);
            self.report_dropped(&mut self.lock(), 1);
            return false;
        }
        let mut state = self.lock();
        let mut dropped = 0;
        while state.entries.len() >= entries_max || state.bytes > self.bytes_max - entry.len() {
            let Some(oldest) = state.entries.pop_front() else {
                break;
            };
            state.bytes -= oldest.len();
            dropped += 1;
        }
        if dropped > 0 {
            self.counts.full.add(dropped);
            self.report_dropped(&mut state, dropped);
        }
        state.bytes += entry.len();
        state.entries.push_back(entry);
        let length = state.entries.len();
        self.warn_when_nearly_full(&mut state, length, entries_max);
        if length == 1 || length == self.settings.max_batch_size {
            self.news.notify_one();
        }
        !std::mem::replace(&mut state.running, true)
    }

    /// Says once that four fifths of the room are used.
    fn warn_when_nearly_full(&self, state: &mut State, length: usize, entries_max: usize) {
        let nearly = length.saturating_mul(5) >= entries_max.saturating_mul(4) && entries_max > 1;
        if nearly && !state.warned {
            tracing::warn!(
                plugin.name = self.plugin,
                plugin.id = %self.instance,
                queue.length = length,
                "delivery queue is nearly full"
            );
        }
        state.warned = nearly;
    }

    fn report_dropped(&self, state: &mut State, dropped: u64) {
        state.unreported += dropped;
        let now = Instant::now();
        if state
            .reported
            .is_some_and(|it| now.duration_since(it) < REPORT_INTERVAL)
        {
            return;
        }
        state.reported = Some(now);
        let dropped = std::mem::take(&mut state.unreported);
        tracing::error!(
            plugin.name = self.plugin,
            plugin.id = %self.instance,
            queue.dropped = dropped,
            "delivery queue has no room: entries were dropped"
        );
    }

    /// Drops what waits; the process ends, or the receiver of a former configuration is away.
    pub(super) fn give_up(&self) {
        let mut state = self.lock();
        let left = std::mem::take(&mut state.entries).len();
        state.bytes = 0;
        if left > 0 {
            self.counts.shutdown.add(left as u64);
            tracing::error!(
                plugin.name = self.plugin,
                plugin.id = %self.instance,
                queue.dropped = left,
                "delivery queue ended before its entries were sent"
            );
        }
    }

    fn take(&self) -> Vec<Bytes> {
        let mut state = self.lock();
        let count = state.entries.len().min(self.settings.max_batch_size);
        let batch: Vec<Bytes> = state.entries.drain(..count).collect();
        state.bytes -= batch.iter().map(Bytes::len).sum::<usize>();
        batch
    }
}

/// What a queue's task has.
#[derive(Clone)]
struct Work {
    waiting: Arc<Waiting>,
    deliver: Arc<dyn Deliver>,
    stopping: tokio_util::sync::CancellationToken,
}

impl Work {
    async fn run(self) {
        if self.waiting.settings.concurrency_limit == 1 {
            while let Some(batch) = self.next().await {
                self.send(batch).await;
            }
            return;
        }
        let mut under_way = JoinSet::new();
        while let Some(batch) = self.next().await {
            for entry in batch {
                let work = self.clone();
                under_way.spawn(async move { work.send(vec![entry]).await });
            }
            while under_way.len() >= CONCURRENT_MAX {
                let _ended = under_way.join_next().await;
            }
            while under_way.try_join_next().is_some() {}
        }
        while under_way.join_next().await.is_some() {}
    }

    /// The next batch; `None` when there is and will be none.
    async fn next(&self) -> Option<Vec<Bytes>> {
        let (waiting, settings) = (&self.waiting, &self.waiting.settings);
        loop {
            {
                let mut state = waiting.lock();
                if !state.entries.is_empty() {
                    break;
                }
                if state.closed || self.stopping.is_cancelled() {
                    state.running = false;
                    return None;
                }
            }
            self.news().await;
        }
        if settings.max_batch_size > 1 {
            let deadline = Instant::now() + seconds(settings.max_coalescing_delay);
            while self.may_wait() {
                if tokio::time::timeout_at(deadline, self.news())
                    .await
                    .is_err()
                {
                    break;
                }
            }
        }
        Some(waiting.take())
    }

    fn may_wait(&self) -> bool {
        let state = self.waiting.lock();
        let full = state.entries.len() >= self.waiting.settings.max_batch_size;
        !full && !state.closed && !self.stopping.is_cancelled()
    }

    async fn news(&self) {
        tokio::select! {
            () = self.waiting.news.notified() => {}
            () = self.stopping.cancelled() => {}
        }
    }

    /// Sends a batch, again and again if that may help and there is time.
    async fn send(&self, batch: Vec<Bytes>) {
        let (waiting, settings) = (&self.waiting, &self.waiting.settings);
        let begun = Instant::now();
        let longest = seconds(settings.max_retry_delay);
        let mut delay = seconds(settings.initial_retry_delay);
        let mut failed = false;
        loop {
            // An attempt that begins after the end was announced is the last one.
            let last = self.stopping.is_cancelled();
            let failure = match self.deliver.deliver(&batch).await {
                Ok(()) => {
                    waiting.counts.sent.add(batch.len() as u64);
                    if failed {
                        tracing::info!(plugin.name = waiting.plugin, "receiver answers again");
                    }
                    return;
                }
                Err(failure) => failure,
            };
            if !failed {
                tracing::warn!(
                    plugin.name = waiting.plugin,
                    plugin.id = %waiting.instance,
                    error = %failure,
                    "delivery failed"
                );
            }
            failed = true;
            let lost = match failure.again {
                Again::Never => Some(&waiting.counts.refused),
                Again::After(_) if last => Some(&waiting.counts.shutdown),
                Again::After(_) => (begun.elapsed() > seconds(settings.max_retry_time))
                    .then_some(&waiting.counts.retries),
            };
            if let Some(count) = lost {
                count.add(batch.len() as u64);
                tracing::error!(
                    plugin.name = waiting.plugin,
                    plugin.id = %waiting.instance,
                    queue.dropped = batch.len(),
                    error = %failure,
                    "entries were dropped: they could not be delivered"
                );
                let closed = waiting.lock().closed;
                if failure.again != Again::Never && (last || closed) {
                    waiting.give_up();
                }
                return;
            }
            let asked = match failure.again {
                Again::After(asked) => asked.unwrap_or_default(),
                Again::Never => Duration::ZERO,
            };
            let wait = delay.max(asked).min(longest);
            delay = delay.saturating_mul(2).min(longest);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.stopping.cancelled() => {}
            }
        }
    }
}
