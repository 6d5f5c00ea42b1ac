//! Measures the proxy beside nginx on this machine: same backend, same load, alternating rounds.
//!
//! Needs `nginx`, `wrk` and `taskset` (Debian: `apt-get install nginx wrk util-linux`) and a release
//! build of `o28m`. The proxy under test has one worker on the first core; load generator and backend
//! share the second. Prints requests per second, CPU time per request as the operating system accounts
//! it, latencies, resident memory, and the ratios to nginx.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::report::{self, Sums};
use crate::subject::{self, Subject};
use crate::{program, wrk};

/// Length of a token as the identity provider makes them.
const BEARER_BYTES: usize = 1024;

/// Command line of the bench: `o28m-bench [--rounds N] [--seconds N] [--connections N]`.
struct Options {
    rounds: u32,
    duration: Duration,
    connections: u32,
}

/// Runs the comparison.
pub(crate) fn run(arguments: impl Iterator<Item = String>) -> Result<()> {
    let options = options(arguments)?;
    let program = program()?;
    let dir = tempfile::tempdir()?;
    let backend = subject::backend(dir.path())?;
    let subjects = [
        Subject::nginx(dir.path(), backend.port)?,
        Subject::o28m(&program, dir.path(), backend.port)?,
    ];
    println!(
        "{} rounds of {} s each, {} keep-alive connections, one proxy worker",
        options.rounds,
        options.duration.as_secs(),
        options.connections
    );
    let idle: Vec<u64> = subjects
        .iter()
        .map(|it| it.process.resident_kib())
        .collect();
    for (scenario, headers) in scenarios() {
        println!("\n== {scenario}");
        let load = |subject: &Subject, duration| {
            wrk::run(&subject.url, &headers, duration, options.connections)
        };
        for subject in &subjects {
            // Warm-up: connections, caches, lazily allocated memory.
            let _warm = load(subject, Duration::from_secs(1))?;
        }
        let mut rounds = [Vec::new(), Vec::new()];
        for round in 1..=options.rounds {
            for (subject, results) in subjects.iter().zip(&mut rounds) {
                let before = subject.process.cpu()?;
                let load = load(subject, options.duration)?;
                let cpu = subject.process.cpu()?.saturating_sub(before);
                if load.errors > 0 {
                    bail!("{}: {} requests failed", subject.name, load.errors);
                }
                println!("{}", report::round(round, subject.name, &load, cpu));
                results.push((load, cpu));
            }
        }
        let [nginx, ours] = &rounds;
        let peak = |at: usize| subjects.get(at).map_or(0, |it| it.process.resident_kib());
        let memory = |at: usize| (idle.get(at).copied().unwrap_or_default(), peak(at));
        let (nginx, ours) = (Sums::of(nginx, memory(0)), Sums::of(ours, memory(1)));
        println!("{}", report::summary(&nginx, &ours));
    }
    Ok(())
}

/// Name and request headers of each load: the smallest request there is, and one like those a gateway
/// of protected APIs sees.
fn scenarios() -> [(&'static str, Vec<String>); 2] {
    let bearer = format!("Authorization: Bearer {}", "x".repeat(BEARER_BYTES));
    let usual = [
        bearer.as_str(),
        "Accept: application/json",
        "User-Agent: client/1.0",
        "X-B3-TraceId: 80f198ee56343ba864fe8b2a57d3eff7",
    ];
    [
        ("plain request", Vec::new()),
        (
            "request with a bearer token of 1 KiB",
            usual.map(str::to_owned).to_vec(),
        ),
    ]
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options> {
    let mut options = Options {
        rounds: 5,
        duration: Duration::from_secs(5),
        connections: 50,
    };
    while let Some(name) = arguments.next() {
        let value = arguments
            .next()
            .with_context(|| format!("{name} needs a value"))?;
        let value: u32 = value
            .parse()
            .with_context(|| format!("{name} needs a number"))?;
        match name.as_str() {
            "--rounds" => options.rounds = value,
            "--seconds" => options.duration = Duration::from_secs(value.into()),
            "--connections" => options.connections = value,
            _ => bail!(crate::USAGE),
        }
    }
    Ok(options)
}
