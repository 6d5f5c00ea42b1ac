use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use o28m_telemetry::metrics::Registry;
use serde_json::json;
use tokio::sync::Semaphore;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let outcome = tokio::time::timeout(PATIENCE, wait).await;
    assert!(outcome.is_ok(), "gave up waiting for {what}");
}

/// Takes batches as a script says, each when it is let through.
struct Receiver {
    gate: Semaphore,
    script: Mutex<VecDeque<Again>>,
    taken: Mutex<Vec<Vec<Bytes>>>,
    calls: AtomicUsize,
}

impl Receiver {
    fn new(open: bool, script: impl IntoIterator<Item = Again>) -> Arc<Self> {
        Arc::new(Self {
            gate: Semaphore::new(if open { 1_000_000 } else { 0 }),
            script: Mutex::new(script.into_iter().collect()),
            taken: Mutex::default(),
            calls: AtomicUsize::new(0),
        })
    }

    fn sizes(&self) -> Vec<usize> {
        self.taken.lock().unwrap().iter().map(Vec::len).collect()
    }

    fn entries(&self) -> Vec<String> {
        let taken = self.taken.lock().unwrap();
        let entries = taken.iter().flatten();
        entries
            .map(|it| String::from_utf8(it.to_vec()).unwrap())
            .collect()
    }
}

impl Deliver for Receiver {
    fn deliver<'a>(&'a self, batch: &'a [Bytes]) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            self.calls.fetch_add(1, Ordering::SeqCst);
            self.gate.acquire().await.unwrap().forget();
            let failure = self.script.lock().unwrap().pop_front();
            match failure {
                Some(again) => Err(Failure {
                    reason: "scripted".into(),
                    again,
                }),
                None => {
                    self.taken.lock().unwrap().push(batch.to_vec());
                    Ok(())
                }
            }
        })
    }
}

struct Setup {
    metrics: Registry,
    deliveries: Deliveries,
    receiver: Arc<Receiver>,
    queue: Queue,
}

fn start(receiver: Arc<Receiver>, settings: serde_json::Value) -> Setup {
    let metrics = Registry::default();
    let deliveries = Deliveries::new(&metrics);
    let settings = crate::config::read(&settings).unwrap();
    let queue = Queue::new(&deliveries, "test", "id", settings, receiver.clone());
    Setup {
        metrics,
        deliveries,
        receiver,
        queue,
    }
}

impl Setup {
    fn push(&self, entries: impl IntoIterator<Item = usize>) {
        for number in entries {
            self.queue.push(number.to_string().into());
        }
    }

    fn has(&self, line: &str) -> bool {
        self.metrics.render().lines().any(|it| it == line)
    }
}

#[tokio::test]
async fn batches_go_when_they_are_full_or_old_enough() {
    let setup = start(
        Receiver::new(true, []),
        json!({"max_batch_size": 3, "max_coalescing_delay": 3600}),
    );
    setup.push(0..7);
    eventually("two batches", || setup.receiver.sizes() == [3, 3]).await;
    assert!(setup.has("o28m_queue_length{plugin=\"test\"} 1"));
    assert!(setup.has("o28m_queue_sent_total{plugin=\"test\"} 6"));
    // The end does not wait for the delay.
    setup.deliveries.flush(PATIENCE).await;
    assert_eq!(setup.receiver.sizes(), [3, 3, 1]);
    let setup = start(
        Receiver::new(true, []),
        json!({"max_batch_size": 3, "max_coalescing_delay": 0.01}),
    );
    setup.push(0..2);
    eventually("one batch", || setup.receiver.sizes() == [2]).await;
}

#[tokio::test]
async fn the_oldest_go_when_there_is_no_room() {
    let receiver = Receiver::new(false, []);
    let setup = start(receiver.clone(), json!({"max_entries": 3}));
    setup.push([0]);
    eventually("the first call", || {
        receiver.calls.load(Ordering::SeqCst) == 1
    })
    .await;
    setup.push(1..=5);
    assert!(setup.has("o28m_queue_dropped_total{plugin=\"test\",reason=\"full\"} 2"));
    receiver.gate.add_permits(10);
    eventually("all", || receiver.entries() == ["0", "3", "4", "5"]).await;
}

#[tokio::test]
async fn bytes_are_limited_too() {
    let receiver = Receiver::new(false, []);
    let setup = start(receiver.clone(), json!({"max_bytes": 4}));
    setup.push([0]);
    eventually("the first call", || {
        receiver.calls.load(Ordering::SeqCst) == 1
    })
    .await;
    setup.push([11, 12345, 22, 3]);
    let dropped =
        |reason| format!("o28m_queue_dropped_total{{plugin=\"test\",reason=\"{reason}\"}} 1");
    assert!(setup.has(&dropped("too_large")) && setup.has(&dropped("full")));
    receiver.gate.add_permits(10);
    eventually("all", || receiver.entries() == ["0", "22", "3"]).await;
}

#[tokio::test]
async fn failed_batches_are_sent_again_until_it_is_too_late() {
    let later = Again::After(None);
    let asked = Again::After(Some(Duration::from_millis(1)));
    let quick = json!({"initial_retry_delay": 0.001, "max_retry_delay": 0.002});
    let setup = start(Receiver::new(true, [later, asked, later]), quick.clone());
    setup.push([0, 1]);
    eventually("both", || setup.receiver.entries() == ["0", "1"]).await;
    assert_eq!(setup.receiver.calls.load(Ordering::SeqCst), 5);

    let setup = start(Receiver::new(true, [Again::Never]), quick);
    setup.push([0, 1]);
    eventually("the second", || setup.receiver.entries() == ["1"]).await;
    assert!(setup.has("o28m_queue_dropped_total{plugin=\"test\",reason=\"refused\"} 1"));

    let short = json!({"initial_retry_delay": 0.001, "max_retry_time": 0});
    let setup = start(Receiver::new(true, [later]), short);
    setup.push([0, 1]);
    eventually("the second", || setup.receiver.entries() == ["1"]).await;
    assert!(setup.has("o28m_queue_dropped_total{plugin=\"test\",reason=\"retries\"} 1"));
}

#[tokio::test]
async fn a_receiver_that_is_away_does_not_keep_the_process() {
    let away = (0..100).map(|_| Again::After(Some(Duration::from_secs(3600))));
    let setup = start(Receiver::new(true, away), json!({"max_retry_delay": 3600}));
    setup.push(0..5);
    eventually("a failure", || {
        setup.receiver.script.lock().unwrap().len() < 100
    })
    .await;
    tokio::time::timeout(PATIENCE, setup.deliveries.flush(PATIENCE * 2))
        .await
        .unwrap();
    assert!(setup.has("o28m_queue_dropped_total{plugin=\"test\",reason=\"shutdown\"} 5"));
    // One that hangs is cut.
    let setup = start(Receiver::new(false, []), json!({}));
    setup.push(0..3);
    let flush = setup.deliveries.flush(Duration::from_millis(20));
    tokio::time::timeout(PATIENCE, flush).await.unwrap();
    assert!(setup.has("o28m_queue_length{plugin=\"test\"} 0"));
}

#[tokio::test]
async fn what_waits_in_a_replaced_instance_is_still_sent() {
    let Setup {
        receiver,
        queue,
        deliveries: _deliveries,
        ..
    } = start(
        Receiver::new(true, []),
        json!({"max_batch_size": 10, "max_coalescing_delay": 3600}),
    );
    queue.push("a".into());
    drop(queue);
    eventually("the entry", || receiver.entries() == ["a"]).await;
}

#[tokio::test]
async fn without_a_limit_deliveries_do_not_wait_for_each_other() {
    let receiver = Receiver::new(false, []);
    let setup = start(receiver.clone(), json!({"concurrency_limit": -1}));
    setup.push(0..200);
    eventually("many calls", || receiver.calls.load(Ordering::SeqCst) == 64).await;
    receiver.gate.add_permits(200);
    eventually("all", || receiver.entries().len() == 200).await;
}
