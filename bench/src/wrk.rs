//! The load generator: `wrk`, and what it prints.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::subject::LOAD_CORE;

/// One run.
pub(crate) struct Load {
    /// Answered requests.
    pub(crate) requests: u64,
    /// Per second.
    pub(crate) rate: f64,
    /// Median latency.
    pub(crate) p50: Duration,
    /// 99th percentile.
    pub(crate) p99: Duration,
    /// Socket errors and answers other than 2xx and 3xx.
    pub(crate) errors: u64,
}

/// Loads `url` for `duration` over `connections` keep-alive connections.
pub(crate) fn run(
    url: &str,
    headers: &[String],
    duration: Duration,
    connections: u32,
) -> Result<Load> {
    let output = Command::new("taskset")
        .args([
            "--cpu-list",
            &LOAD_CORE.to_string(),
            "wrk",
            "--threads",
            "1",
            "--latency",
        ])
        .args(["--connections", &connections.to_string()])
        .args(
            headers
                .iter()
                .flat_map(|header| ["--header", header.as_str()]),
        )
        .args(["--duration", &format!("{}s", duration.as_secs()), url])
        .output()
        .context("cannot run wrk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "wrk failed: {text}");
    parse(&text).with_context(|| format!("cannot read the output of wrk:\n{text}"))
}

fn parse(text: &str) -> Option<Load> {
    let after = |label: &str| {
        text.lines()
            .find_map(|line| line.trim().strip_prefix(label))
    };
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let requests = text.lines().find(|line| line.contains(" requests in "))?;
    let errors = after("Socket errors:").map_or(0, |line| {
        line.split(|it: char| !it.is_ascii_digit())
            .filter_map(|it| it.parse::<u64>().ok())
            .sum()
    });
    let refused = after("Non-2xx or 3xx responses:")
        .and_then(number)
        .unwrap_or_default();
    Some(Load {
        requests: requests.split_whitespace().next()?.parse().ok()?,
        rate: number(after("Requests/sec:")?)?,
        p50: latency(after("50%")?)?,
        p99: latency(after("99%")?)?,
        errors: errors + refused as u64,
    })
}

fn latency(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|it: char| it.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * unit).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_wrk_prints() {
        let text = "  Latency Distribution\n     50%    1.25ms\n     75%    2.00ms\n     99%  900.00us\n\
                    \x20 123456 requests in 5.00s, 20MB read\n  Socket errors: connect 0, read 3, write 0, \
                    timeout 1\n  Non-2xx or 3xx responses: 2\nRequests/sec:  24691.20\n";
        let load = parse(text).unwrap();
        assert_eq!((load.requests, load.errors), (123_456, 6));
        assert_eq!(load.p50, Duration::from_micros(1250));
        assert_eq!(load.p99, Duration::from_micros(900));
        assert!((load.rate - 24_691.2).abs() < 0.01);
    }
}
