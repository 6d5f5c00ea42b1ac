//! Constant load: every request has its time, whether or not the one before was answered in time, and
//! its latency counts from then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::http::Client;
use super::table::percentile;

/// Length of the windows that are compared.
const WINDOW: Duration = Duration::from_millis(100);

/// Load that runs until it is asked for its results.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Samples>>,
}

/// What is sent.
pub(crate) struct Plan<'a> {
    pub(crate) ports: &'a [u16],
    pub(crate) path: &'a str,
    /// Connections to each port.
    pub(crate) connections: u32,
    /// Requests per second to each port.
    pub(crate) rate: u32,
}

#[derive(Default)]
struct Samples {
    /// When each request was due, from the start, and its latency.
    times: Vec<(Duration, Duration)>,
    failed: usize,
}

/// What was seen.
pub(crate) struct Seen {
    pub(crate) sent: usize,
    pub(crate) failed: usize,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// 99th percentile of every window, ascending.
    pub(crate) windows: Vec<Duration>,
}

impl Load {
    /// Sends requests at even intervals, in turn over the connections.
    pub(crate) fn start(plan: &Plan<'_>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = Instant::now() + Duration::from_millis(50);
        let interval = Duration::from_secs(1) * plan.connections / plan.rate.max(1);
        let mut threads = Vec::new();
        for port in plan.ports {
            for at in 0..plan.connections {
                let (port, path, stop) = (*port, plan.path.to_owned(), stop.clone());
                let first = interval * at / plan.connections;
                threads.push(std::thread::spawn(move || {
                    send(port, &path, start, first, interval, &stop)
                }));
            }
        }
        Self { stop, threads }
    }

    pub(crate) fn finish(self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Samples::default();
        for thread in self.threads {
            let samples = thread
                .join()
                .map_err(|_| anyhow!("a load thread panicked"))?;
            all.times.extend(samples.times);
            all.failed += samples.failed;
        }
        Ok(Seen::of(all))
    }
}

impl Seen {
    fn of(mut all: Samples) -> Self {
        all.times.sort_unstable();
        let windows = all
            .times
            .chunk_by(|a, b| {
                a.0.as_millis() / WINDOW.as_millis() == b.0.as_millis() / WINDOW.as_millis()
            })
            .map(|window| {
                let mut latencies: Vec<_> = window.iter().map(|(_, latency)| *latency).collect();
                percentile(&mut latencies, 0.99)
            });
        let mut windows: Vec<_> = windows.collect();
        windows.sort_unstable();
        let mut latencies: Vec<_> = all.times.iter().map(|(_, latency)| *latency).collect();
        Self {
            sent: latencies.len(),
            failed: all.failed,
            p50: percentile(&mut latencies, 0.5),
            p99: percentile(&mut latencies, 0.99),
            windows,
        }
    }
}

fn send(
    port: u16,
    path: &str,
    start: Instant,
    first: Duration,
    interval: Duration,
    stop: &AtomicBool,
) -> Samples {
    let mut client = Client::new(port);
    let mut samples = Samples::default();
    let mut due = first;
    while !stop.load(Ordering::Relaxed) {
        let at = start + due;
        super::pause(at.saturating_duration_since(Instant::now()));
        if !client.get(path).is_ok_and(|answer| answer.status == 200) {
            samples.failed += 1;
        }
        samples.times.push((due, at.elapsed()));
        due += interval;
    }
    samples
}
