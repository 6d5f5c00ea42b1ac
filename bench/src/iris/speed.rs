//! Tokens per second, beside the machine's own rate of what they cost, in alternating rounds.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::json;

use super::server::{Server, token};
use super::{Options, raw};
use crate::scale::http::Client;
use crate::scale::node::command;
use crate::scale::pause;
use crate::scale::table::{Table, percentile};

/// How often something was done, and what it took.
#[derive(Clone, Copy, Default)]
pub(super) struct Rate {
    pub(super) times: u64,
    pub(super) wall: Duration,
    /// CPU time of the process that did it.
    pub(super) cpu: Duration,
}

impl Rate {
    fn per_second(self) -> f64 {
        self.times as f64 / self.wall.as_secs_f64()
    }

    fn cpu_micros(self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.times.max(1) as f64
    }

    fn add(&mut self, other: Self) {
        self.times += other.times;
        self.wall += other.wall;
        self.cpu += other.cpu;
    }
}

/// A grant and the loop it is measured beside.
struct Grant {
    name: &'static str,
    realm: &'static str,
    form: &'static str,
    /// Name of the loop.
    raw: &'static str,
    /// Share of the loop's rate, in percent, that it should reach.
    percent_min: Option<f64>,
}

const GRANTS: [Grant; 3] = [
    Grant {
        name: "client_credentials RS256",
        realm: "rsa",
        form: "grant_type=client_credentials&client_id=app&client_secret=s",
        raw: "RS256",
        percent_min: Some(80.0),
    },
    Grant {
        name: "client_credentials ES256",
        realm: "ec",
        form: "grant_type=client_credentials&client_id=app&client_secret=s",
        raw: "ES256",
        percent_min: None,
    },
    Grant {
        name: "password",
        realm: "ec",
        form: "grant_type=password&client_id=app&client_secret=s&username=anna&password=password",
        raw: "argon2",
        percent_min: None,
    },
];

/// ES256 tokens per RS256 token that are asked for.
const ES256_FACTOR: f64 = 8.0;

/// Measures every grant.
pub(super) fn measure(
    program: &Path,
    database: &str,
    options: &Options,
    table: &mut Table,
) -> Result<()> {
    command(program, database, &["migrate", "up"])?;
    let server = Server::start(program, database)?;
    for (realm, algorithm) in [("rsa", "RS256"), ("ec", "ES256")] {
        let body = json!({
            "realm": realm, "enabled": true, "defaultSignatureAlgorithm": algorithm,
            "clients": [{"clientId": "app", "secret": "s", "serviceAccountsEnabled": true,
                "directAccessGrantsEnabled": true}],
            "users": [{"username": "anna", "enabled": true,
                "credentials": [{"type": "password", "value": "password"}]}],
        });
        server.admin()?.post("", &body)?;
    }
    let mut served = Vec::new();
    for grant in &GRANTS {
        served.push(one(&server, grant, options, table)?);
    }
    if let [rsa, ec, ..] = served.as_slice() {
        let what = "ES256 tokens per RS256 token";
        let factor = ec.per_second() / rsa.per_second();
        table.at_least(what, "x", ES256_FACTOR, factor);
        let factor = rsa.cpu_micros() / ec.cpu_micros();
        table.add(format!("{what}, by CPU"), "x", None, factor);
    }
    table.mebibytes("memory after it", None, server.process.resident_kib());
    Ok(())
}

fn one(server: &Server, grant: &Grant, options: &Options, table: &mut Table) -> Result<Rate> {
    let name = grant.name;
    let _warm = load(
        server,
        grant,
        Duration::from_millis(500),
        options.connections,
    )?;
    let (mut alone, mut served, mut times) = (Rate::default(), Rate::default(), Vec::new());
    for _ in 0..options.rounds {
        alone.add(raw::measure(grant.raw, options.duration)?);
        let before = server.process.cpu()?;
        let (count, wall, latencies) = load(server, grant, options.duration, options.connections)?;
        served.add(Rate {
            times: count,
            wall,
            cpu: server.process.cpu()?.saturating_sub(before),
        });
        times.extend(latencies);
    }
    table.add(
        format!("{} alone", grant.raw),
        "/s",
        None,
        alone.per_second(),
    );
    table.add(
        format!("{} alone: CPU", grant.raw),
        "us",
        None,
        alone.cpu_micros(),
    );
    table.add(name, "/s", None, served.per_second());
    table.add(format!("{name}: CPU"), "us", None, served.cpu_micros());
    table.millis(format!("{name}: p50"), None, percentile(&mut times, 0.5));
    table.millis(format!("{name}: p99"), None, percentile(&mut times, 0.99));
    let share = |of: f64, all: f64| 100.0 * of / all;
    table.at_least(
        format!("{name}: share of the rate alone"),
        "%",
        grant.percent_min,
        share(served.per_second(), alone.per_second()),
    );
    table.add(
        format!("{name}: {} of its CPU", grant.raw),
        "%",
        None,
        share(alone.cpu_micros(), served.cpu_micros()),
    );
    Ok(served)
}

/// Keeps so many connections busy; gives how many tokens came, how long it took, and each latency.
fn load(
    server: &Server,
    grant: &Grant,
    duration: Duration,
    connections: usize,
) -> Result<(u64, Duration, Vec<Duration>)> {
    let stop = AtomicBool::new(false);
    let port = server.port;
    let started = Instant::now();
    let results: Vec<Result<Vec<Duration>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..connections)
            .map(|_| scope.spawn(|| ask(port, grant, &stop)))
            .collect();
        pause(duration);
        stop.store(true, Ordering::Relaxed);
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread
                .join()
                .unwrap_or_else(|_| Err(anyhow!("a thread panicked")))
        };
        threads.into_iter().map(join).collect()
    });
    let wall = started.elapsed();
    let all: Result<Vec<Vec<Duration>>> = results.into_iter().collect();
    let all: Vec<Duration> = all?.into_iter().flatten().collect();
    ensure!(!all.is_empty(), "no token came");
    Ok((all.len() as u64, wall, all))
}

fn ask(port: u16, grant: &Grant, stop: &AtomicBool) -> Result<Vec<Duration>> {
    let mut client = Client::new(port);
    let mut latencies = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let started = Instant::now();
        let answer = token(&mut client, grant.realm, grant.form)?;
        let _ = answer.expect(200).context(grant.name)?;
        latencies.push(started.elapsed());
    }
    Ok(latencies)
}
