//! What is printed.

use std::time::Duration;

use crate::wrk::Load;

/// Medians over all rounds of one subject.
pub(crate) struct Sums {
    rate: f64,
    cpu_us: f64,
    p50: Duration,
    p99: Duration,
    idle_kib: u64,
    peak_kib: u64,
}

impl Sums {
    /// The medians; memory is idle and after the load.
    pub(crate) fn of(rounds: &[(Load, Duration)], (idle_kib, peak_kib): (u64, u64)) -> Self {
        Self {
            rate: median(rounds.iter().map(|(load, _)| load.rate)),
            cpu_us: median(rounds.iter().map(|(load, cpu)| per_request(load, *cpu))),
            p50: Duration::from_secs_f64(median(rounds.iter().map(|it| it.0.p50.as_secs_f64()))),
            p99: Duration::from_secs_f64(median(rounds.iter().map(|it| it.0.p99.as_secs_f64()))),
            idle_kib,
            peak_kib,
        }
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// CPU microseconds per request.
fn per_request(load: &Load, cpu: Duration) -> f64 {
    cpu.as_secs_f64() * 1e6 / (load.requests.max(1) as f64)
}

/// One line for a round.
pub(crate) fn round(number: u32, name: &str, load: &Load, cpu: Duration) -> String {
    format!(
        "round {number}  {name:<6} {:>9.0} req/s  {:>6.1} us CPU/req  p50 {:>8.2?}  p99 {:>8.2?}",
        load.rate,
        per_request(load, cpu),
        load.p50,
        load.p99
    )
}

/// Medians side by side with their ratios, ours to nginx's.
pub(crate) fn summary(nginx: &Sums, ours: &Sums) -> String {
    let mut text = String::from("\nmedian            nginx        o28m   ratio\n");
    let mut row = |name: &str, nginx: f64, ours: f64, digits: usize| {
        let ratio = if nginx > 0.0 { ours / nginx } else { f64::NAN };
        text.push_str(&format!(
            "{name:<12} {nginx:>10.digits$}  {ours:>10.digits$}  {ratio:>6.2}\n"
        ));
    };
    let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
    row("req/s", nginx.rate, ours.rate, 0);
    row("us CPU/req", nginx.cpu_us, ours.cpu_us, 1);
    row("p50 ms", millis(nginx.p50), millis(ours.p50), 2);
    row("p99 ms", millis(nginx.p99), millis(ours.p99), 2);
    row(
        "RSS MiB idle",
        nginx.idle_kib as f64 / 1024.0,
        ours.idle_kib as f64 / 1024.0,
        1,
    );
    row(
        "RSS MiB load",
        nginx.peak_kib as f64 / 1024.0,
        ours.peak_kib as f64 / 1024.0,
        1,
    );
    text
}
