//! Every series, and how a request finds its own: a look into a table of its thread, without a lock and
//! without an allocation, once the thread has seen such a request.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use o28m_kong::{Consumer, Route, Service};
use o28m_telemetry::metrics::{Counter, Registry, Samples};

use super::EVENT_STORE;
use super::block::{BOUNDS, Block, Outcome, Sums};

/// Series of one metric. More are not counted, which is counted.
const SERIES_MAX: usize = 50_000;
/// Sets of labels that a thread remembers; a power of two.
const REMEMBERED_MAX: usize = 8 * 1024;
/// Bytes of a subscriber's name in a label: a client chooses it.
const SUBSCRIBER_BYTES_MAX: usize = 128;

/// Every series of a process.
pub(super) struct Store {
    /// Tells the stores of one process apart, which only tests have several of.
    id: u64,
    entries: RwLock<HashMap<Labels, Arc<Entry>>>,
    /// Series of `kong_http_requests_total`.
    requests: Arc<AtomicUsize>,
    metrics: Registry,
    /// `kong_nginx_metric_errors_total`
    errors: Counter,
}

/// Who calls, as a label shows it.
#[derive(Clone, Copy)]
pub(super) enum Caller<'a> {
    Anonymous,
    Known {
        consumer: &'a Arc<Consumer>,
        /// For whom it fetches events; empty for everyone else.
        subscriber: &'a [u8],
    },
}

/// What all series of a block have in common.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Labels {
    service: String,
    route: String,
    consumer: String,
}

impl Labels {
    fn new(route: &Route, service: Option<&Arc<Service>>, caller: Caller<'_>) -> Self {
        let name = |it: &Arc<Service>| it.name.clone().unwrap_or_else(|| it.host.clone());
        Self {
            service: service.map(name).unwrap_or_default(),
            route: route.name.clone().unwrap_or_else(|| route.id.clone()),
            consumer: match caller {
                Caller::Anonymous => "anonymous".to_owned(),
                Caller::Known {
                    consumer,
                    subscriber: b"",
                } => consumer.username.clone().unwrap_or_default(),
                Caller::Known { subscriber, .. } => {
                    let subscriber = subscriber.get(..SUBSCRIBER_BYTES_MAX).unwrap_or(subscriber);
                    // Cut at the first byte that is no text, as the original does.
                    let chunk = subscriber.utf8_chunks().next();
                    let text = chunk.map_or("", |it| it.valid());
                    format!("{EVENT_STORE}:{text}")
                }
            },
        }
    }
}

/// One set of labels and the numbers of each thread.
pub(super) struct Entry {
    blocks: Mutex<Vec<(usize, Arc<Block>)>>,
    /// Outcomes that some thread counts.
    outcomes: Mutex<HashSet<Outcome>>,
    requests: Arc<AtomicUsize>,
    is_stream: bool,
}

impl Entry {
    /// Responses that never end have no latency worth showing.
    pub(super) fn is_stream(&self) -> bool {
        self.is_stream
    }

    /// Whether a series may be made.
    pub(super) fn admits(&self, outcome: Outcome) -> bool {
        let outcomes = self.outcomes.lock();
        let mut outcomes = outcomes.unwrap_or_else(PoisonError::into_inner);
        if outcomes.contains(&outcome) {
            return true;
        }
        if self.requests.fetch_add(1, Ordering::Relaxed) >= SERIES_MAX {
            self.requests.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        outcomes.insert(outcome)
    }

    fn block(&self, thread: usize) -> Arc<Block> {
        let blocks = self.blocks.lock();
        let mut blocks = blocks.unwrap_or_else(PoisonError::into_inner);
        if let Some((_, block)) = blocks.iter().find(|(of, _)| *of == thread) {
            return block.clone();
        }
        let block = Arc::new(Block::default());
        blocks.push((thread, block.clone()));
        block
    }
}

/// What a thread finds its numbers by: which objects, not what they say.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    store: u64,
    route: usize,
    service: usize,
    consumer: usize,
}

impl Key {
    /// A place in the table. Addresses are not chosen by clients, so that mixing them is enough.
    fn place(self) -> usize {
        const ODD: usize = 0x9E37_79B9_7F4A_7C15_u64 as usize;
        let mixed = [self.route, self.service, self.consumer]
            .into_iter()
            .fold(0, |sum: usize, it| {
                (sum ^ it).wrapping_mul(ODD).rotate_left(23)
            });
        (mixed ^ mixed >> 32) % REMEMBERED_MAX
    }
}

/// What a thread remembers. The objects are kept, so that no others come to their places.
struct Remembered {
    key: Key,
    _route: Arc<Route>,
    _service: Option<Arc<Service>>,
    _consumer: Option<Arc<Consumer>>,
    entry: Arc<Entry>,
    block: Arc<Block>,
}

thread_local! {
    /// At most one for each place: what comes later replaces what was there, and costs no more.
    static REMEMBERED: RefCell<Vec<Option<Box<Remembered>>>> = const { RefCell::new(Vec::new()) };
    static THREAD: usize = {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        THREADS.fetch_add(1, Ordering::Relaxed)
    };
}

fn address<T>(object: Option<&Arc<T>>) -> usize {
    object.map_or(0, |it| Arc::as_ptr(it).addr())
}

impl Store {
    pub(super) fn new(metrics: &Registry) -> Self {
        static STORES: AtomicU64 = AtomicU64::new(0);
        let help = "Number of errors while metrics were counted";
        Self {
            id: STORES.fetch_add(1, Ordering::Relaxed),
            entries: RwLock::default(),
            requests: Arc::default(),
            errors: metrics.counter("kong_nginx_metric_errors_total", help, &[]),
            metrics: metrics.clone(),
        }
    }

    /// Calls `add` with the numbers of this thread for these labels.
    pub(super) fn count(
        &self,
        route: &Arc<Route>,
        service: Option<&Arc<Service>>,
        caller: Caller<'_>,
        add: impl FnOnce(&Entry, &Block),
    ) {
        let (consumer, subscriber) = match caller {
            Caller::Anonymous => (None, &b""[..]),
            Caller::Known {
                consumer,
                subscriber,
            } => (Some(consumer), subscriber),
        };
        if !subscriber.is_empty() {
            // A client chooses the label: looked up each time, so that nothing grows with its choices.
            if let Some((entry, block)) = self.find(route, service, caller) {
                add(&entry, &block);
            }
            return;
        }
        let key = Key {
            store: self.id,
            route: Arc::as_ptr(route).addr(),
            service: address(service),
            consumer: address(consumer),
        };
        REMEMBERED.with_borrow_mut(|remembered| {
            if remembered.is_empty() {
                remembered.resize_with(REMEMBERED_MAX, || None);
            }
            let Some(place) = remembered.get_mut(key.place()) else {
                return;
            };
            if let Some(known) = place.as_ref().filter(|it| it.key == key) {
                add(&known.entry, &known.block);
                return;
            }
            let Some((entry, block)) = self.find(route, service, caller) else {
                return;
            };
            add(&entry, &block);
            *place = Some(Box::new(Remembered {
                key,
                _route: route.clone(),
                _service: service.cloned(),
                _consumer: consumer.cloned(),
                entry,
                block,
            }));
        });
    }

    /// The numbers of this thread for these labels, made where there is room.
    fn find(
        &self,
        route: &Route,
        service: Option<&Arc<Service>>,
        caller: Caller<'_>,
    ) -> Option<(Arc<Entry>, Arc<Block>)> {
        let labels = Labels::new(route, service, caller);
        let known = {
            let entries = self.entries.read();
            let entries = entries.unwrap_or_else(PoisonError::into_inner);
            entries.get(&labels).cloned()
        };
        let entry = match known {
            Some(entry) => entry,
            None => self.make(labels)?,
        };
        let block = entry.block(THREAD.with(|it| *it));
        Some((entry, block))
    }

    fn make(&self, labels: Labels) -> Option<Arc<Entry>> {
        let entries = self.entries.write();
        let mut entries = entries.unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= SERIES_MAX && !entries.contains_key(&labels) {
            drop(entries);
            self.drop_one("kong_bandwidth_bytes");
            return None;
        }
        let is_stream = labels.route.contains("-sse-");
        let entry = entries.entry(labels).or_insert_with(|| {
            Arc::new(Entry {
                blocks: Mutex::default(),
                outcomes: Mutex::default(),
                requests: self.requests.clone(),
                is_stream,
            })
        });
        Some(entry.clone())
    }

    /// A request was not counted in `metric`, which has too many series.
    pub(super) fn drop_one(&self, metric: &str) {
        let help = "Requests that a metric does not show because it has too many series.";
        let labels = [("metric", metric)];
        let dropped = self
            .metrics
            .counter("o28m_metrics_dropped_total", help, &labels);
        dropped.add(1);
        self.errors.add(1);
    }

    /// Adds up what all threads counted.
    pub(super) fn collect(&self, into: &mut Samples) {
        let entries: Vec<(Labels, Arc<Entry>)> = {
            let entries = self.entries.read();
            let entries = entries.unwrap_or_else(PoisonError::into_inner);
            let pairs = entries.iter();
            pairs
                .map(|(labels, entry)| (labels.clone(), entry.clone()))
                .collect()
        };
        for (labels, entry) in entries {
            let blocks = {
                let blocks = entry.blocks.lock();
                blocks.unwrap_or_else(PoisonError::into_inner).clone()
            };
            let mut sums = Sums::default();
            blocks.iter().for_each(|(_, block)| block.add_to(&mut sums));
            labels.show(&sums, into);
        }
    }
}

impl Labels {
    fn show(&self, sums: &Sums, into: &mut Samples) {
        let (service, route, consumer) = (&*self.service, &*self.route, &*self.consumer);
        for (outcome, count) in &sums.outcomes {
            let labels = [
                ("service", service),
                ("route", route),
                ("code", outcome.status.as_str()),
                (
                    "source",
                    if outcome.from_upstream {
                        "service"
                    } else {
                        "kong"
                    },
                ),
                ("workspace", "default"),
                ("consumer", consumer),
                ("method", outcome.method),
            ];
            let help = "HTTP status codes per consumer/service/route in Kong";
            into.counter("kong_http_requests_total", help, &labels, *count);
        }
        for (direction, bytes) in [("ingress", sums.ingress), ("egress", sums.egress)] {
            if bytes > 0 {
                let labels = [
                    ("service", service),
                    ("route", route),
                    ("direction", direction),
                    ("workspace", "default"),
                    ("consumer", consumer),
                ];
                let help = "Total bandwidth (ingress/egress) throughput in bytes";
                into.counter("kong_bandwidth_bytes", help, &labels, bytes);
            }
        }
        let labels = [
            ("service", service),
            ("route", route),
            ("workspace", "default"),
            ("consumer", consumer),
        ];
        for ((name, help), (counts, sum)) in LATENCIES.into_iter().zip(&sums.latencies) {
            if counts.iter().any(|count| *count > 0) {
                into.histogram(name, help, &labels, &BOUNDS, counts, *sum);
            }
        }
    }
}

/// Names and descriptions of the latency histograms, in the order of [`Sums`].
const LATENCIES: [(&str, &str); 3] = [
    (
        "kong_request_latency_ms",
        "Total latency incurred during requests for each service/route in Kong",
    ),
    (
        "kong_upstream_latency_ms",
        "Latency added by upstream response for each service/route in Kong",
    ),
    (
        "kong_kong_latency_ms",
        "Latency added by Kong and enabled plugins for each service/route in Kong",
    ),
];
