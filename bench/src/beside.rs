//! Measures the proxy beside nginx and haproxy on this machine: same backend, same load, alternating
//! rounds.
//!
//! Needs `nginx`, `wrk` and `taskset` (Debian: `apt-get install nginx haproxy wrk util-linux`; without
//! `haproxy` what is compared with it is left out) and a release build of `o28m`. The proxy under test
//! has one worker on the first core; load generator and backend share the second. Prints requests per
//! second, CPU time per request as the operating system accounts it, latencies, resident memory, and
//! the ratios beside their targets.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::process;
use crate::report::{self, Bound, Measure, Sums, Target};
use crate::scale::load::{Load as Steady, Plan};
use crate::subject::{self, Backend, LOAD_CORE, Subject};
use crate::wrk::{self, Load};
use crate::{program, scale};

/// Length of a token as the identity provider makes them.
const BEARER_BYTES: usize = 1024;
/// Connections of the scenario with many.
const MANY_CONNECTIONS: u32 = 512;
/// Routes of the scenario with many.
const MANY_ROUTES: usize = 10_000;
/// Share of the slowest subject's highest rate that is sent at a constant rate.
const STEADY_PERCENT: f64 = 70.0;
/// How long each subject is warmed up: connections, caches, lazily allocated memory.
const WARM_UP: Duration = Duration::from_secs(1);

/// What is measured.
struct Scenario {
    /// How the command line names it.
    name: &'static str,
    /// What is printed above its figures.
    title: &'static str,
    subjects: Subjects,
    load: Kind,
    targets: &'static [Target],
}

/// Who is measured; the last is compared with those before it.
#[derive(Clone, Copy)]
enum Subjects {
    /// nginx, haproxy and `o28m` with one route.
    Proxies,
    /// `o28m` with one route and with many.
    Routes,
}

#[derive(Clone, Copy)]
enum Kind {
    /// As many requests as are answered, by `wrk`.
    Full {
        bearer: bool,
        connections: Option<u32>,
    },
    /// The same constant rate for all.
    Constant,
}

const fn target(measure: Measure, of: &'static str, bound: Bound) -> Target {
    Target { measure, of, bound }
}

const SCENARIOS: [Scenario; 5] = [
    Scenario {
        name: "plain",
        title: "plain request, one route",
        subjects: Subjects::Proxies,
        load: Kind::Full {
            bearer: false,
            connections: None,
        },
        targets: &[
            target(Measure::Rate, subject::NGINX, Bound::AtLeast(0.95)),
            target(Measure::Cpu, subject::NGINX, Bound::AtMost(1.1)),
        ],
    },
    Scenario {
        name: "bearer",
        title: "request with a bearer token of 1 KiB",
        subjects: Subjects::Proxies,
        load: Kind::Full {
            bearer: true,
            connections: None,
        },
        targets: &[],
    },
    Scenario {
        name: "routes",
        title: "plain request, 10,000 routes beside one",
        subjects: Subjects::Routes,
        load: Kind::Full {
            bearer: false,
            connections: None,
        },
        targets: &[target(
            Measure::Rate,
            subject::ONE_ROUTE,
            Bound::AtLeast(0.9),
        )],
    },
    Scenario {
        name: "connections",
        title: "plain request, 512 connections",
        subjects: Subjects::Proxies,
        load: Kind::Full {
            bearer: false,
            connections: Some(MANY_CONNECTIONS),
        },
        targets: &[
            target(Measure::Rate, subject::NGINX, Bound::AtLeast(1.0)),
            target(Measure::P99, subject::NGINX, Bound::AtMost(1.0)),
        ],
    },
    Scenario {
        name: "steady",
        title: "plain request at a constant rate, latency from when each was due",
        subjects: Subjects::Proxies,
        load: Kind::Constant,
        targets: &[target(Measure::P99, subject::HAPROXY, Bound::AtMost(1.0))],
    },
];

struct Options {
    rounds: u32,
    duration: Duration,
    connections: u32,
    /// Requests per second of the constant load; by default they depend on the highest ones.
    rate: Option<u32>,
    /// The only scenario to run.
    only: Option<String>,
}

/// Runs the comparison.
pub(crate) fn run(arguments: impl Iterator<Item = String>) -> Result<()> {
    let options = options(arguments)?;
    let dir = tempfile::tempdir()?;
    let backend = subject::backend(dir.path())?;
    // The constant load comes from threads of this process.
    process::pin_self(LOAD_CORE)?;
    process::fine_timers();
    println!(
        "{} rounds of {} s each, {} keep-alive connections, one proxy worker, load average {}",
        options.rounds,
        options.duration.as_secs(),
        options.connections,
        scale::load_average()
    );
    let mut bench = Bench {
        program: program()?,
        dir: dir.path(),
        backend,
        options: &options,
        proxies: None,
    };
    let mut verdicts = Vec::new();
    for scenario in &SCENARIOS {
        if options.only.as_ref().is_none_or(|it| it == scenario.name) {
            bench.scenario(scenario, &mut verdicts)?;
        }
    }
    if options.only.is_none() {
        println!("\n== all targets");
        for line in verdicts {
            println!("{line}");
        }
    }
    println!("load average {}", scale::load_average());
    Ok(())
}

struct Bench<'a> {
    program: PathBuf,
    dir: &'a Path,
    backend: Backend,
    options: &'a Options,
    /// Kept from one scenario to the next.
    proxies: Option<Vec<Subject>>,
}

impl Bench<'_> {
    fn scenario(&mut self, scenario: &Scenario, verdicts: &mut Vec<String>) -> Result<()> {
        println!("\n== {}: {}", scenario.name, scenario.title);
        let sums = match scenario.subjects {
            Subjects::Proxies => {
                let proxies = match self.proxies.take() {
                    Some(proxies) => proxies,
                    None => self.start_proxies()?,
                };
                let sums = self.measure(scenario, &proxies)?;
                self.proxies = Some(proxies);
                sums
            }
            Subjects::Routes => {
                let start = |name, routes| {
                    Subject::routes(&self.program, self.dir, self.backend.port, name, routes)
                };
                let subjects = [
                    start(subject::ONE_ROUTE, 1)?,
                    start(subject::MANY_ROUTES, MANY_ROUTES)?,
                ];
                self.measure(scenario, &subjects)?
            }
        };
        println!("{}", report::summary(&sums));
        let judged = scenario.targets.iter();
        let judged = judged.map(|target| report::verdict(scenario.name, target, &sums));
        let judged: Vec<_> = judged.collect();
        for line in &judged {
            println!("{line}");
        }
        verdicts.extend(judged);
        Ok(())
    }

    fn start_proxies(&self) -> Result<Vec<Subject>> {
        let mut proxies = vec![Subject::nginx(self.dir, self.backend.port)?];
        match Subject::haproxy(self.dir, self.backend.port)? {
            Some(haproxy) => proxies.push(haproxy),
            None => println!("haproxy is not installed: it is left out"),
        }
        proxies.push(Subject::o28m(&self.program, self.dir, self.backend.port)?);
        Ok(proxies)
    }

    /// The medians of all rounds.
    fn measure(&self, scenario: &Scenario, subjects: &[Subject]) -> Result<Vec<Sums>> {
        let connections = match scenario.load {
            Kind::Full { connections, .. } => connections.unwrap_or(self.options.connections),
            Kind::Constant => self.options.connections,
        };
        let headers = match scenario.load {
            Kind::Full { bearer: true, .. } => usual_headers(),
            _ => Vec::new(),
        };
        let full =
            |subject: &Subject, duration| wrk::run(&subject.url(), &headers, duration, connections);
        let idle: Vec<u64> = subjects
            .iter()
            .map(|it| it.process.resident_kib())
            .collect();
        for subject in subjects {
            let _warm = full(subject, WARM_UP)?;
        }
        let rate = match scenario.load {
            Kind::Full { .. } => None,
            Kind::Constant => Some(self.steady_rate(subjects, full)?),
        };
        let mut rounds: Vec<Vec<(Load, Duration)>> = Vec::new();
        rounds.resize_with(subjects.len(), Vec::new);
        for round in 1..=self.options.rounds {
            for (subject, results) in subjects.iter().zip(&mut rounds) {
                let before = subject.process.cpu()?;
                let load = match rate {
                    None => full(subject, self.options.duration)?,
                    Some(rate) => steady(subject, self.options.duration, connections, rate)?,
                };
                let cpu = subject.process.cpu()?.saturating_sub(before);
                if load.errors > 0 {
                    bail!("{}: {} requests failed", subject.name, load.errors);
                }
                println!("{}", report::round(round, subject.name, &load, cpu));
                results.push((load, cpu));
            }
        }
        let sums = subjects.iter().zip(&rounds).zip(idle);
        let sums = sums.map(|((subject, rounds), idle)| {
            Sums::of(subject.name, rounds, (idle, subject.process.resident_kib()))
        });
        Ok(sums.collect())
    }

    /// Requests per second of the constant load.
    fn steady_rate(
        &self,
        subjects: &[Subject],
        full: impl Fn(&Subject, Duration) -> Result<Load>,
    ) -> Result<u32> {
        if let Some(rate) = self.options.rate {
            return Ok(rate);
        }
        let mut slowest = f64::INFINITY;
        for subject in subjects {
            let load = full(subject, self.options.duration)?;
            println!("highest  {:<10} {:>9.0} req/s", subject.name, load.rate);
            slowest = slowest.min(load.rate);
        }
        let rate = slowest * STEADY_PERCENT / 100.0;
        println!("{rate:.0} req/s for each, {STEADY_PERCENT} % of the slowest");
        Ok(rate as u32)
    }
}

/// Constant load on one subject.
fn steady(subject: &Subject, duration: Duration, connections: u32, rate: u32) -> Result<Load> {
    let ports = [subject.port];
    let load = Steady::start(&Plan {
        ports: &ports,
        path: subject::PATH,
        connections,
        rate,
    });
    scale::pause(duration);
    let seen = load.finish()?;
    Ok(Load {
        requests: seen.sent as u64,
        rate: seen.sent as f64 / duration.as_secs_f64(),
        p50: seen.p50,
        p99: seen.p99,
        errors: seen.failed as u64,
    })
}

/// Headers of a request like those a gateway of protected APIs sees.
fn usual_headers() -> Vec<String> {
    let bearer = format!("Authorization: Bearer {}", "x".repeat(BEARER_BYTES));
    let usual = [
        bearer.as_str(),
        "Accept: application/json",
        "User-Agent: client/1.0",
        "X-B3-TraceId: 80f198ee56343ba864fe8b2a57d3eff7",
    ];
    usual.map(str::to_owned).to_vec()
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options> {
    let mut options = Options {
        rounds: 5,
        duration: Duration::from_secs(3),
        connections: 50,
        rate: None,
        only: None,
    };
    while let Some(name) = arguments.next() {
        let value = arguments
            .next()
            .with_context(|| format!("{name} needs a value"))?;
        let number = || -> Result<u32> {
            let number: u32 = value
                .parse()
                .with_context(|| format!("{name} needs a number"))?;
            ensure!(number > 0, "{name} needs a number above zero");
            Ok(number)
        };
        match name.as_str() {
            "--rounds" => options.rounds = number()?,
            "--seconds" => options.duration = Duration::from_secs(number()?.into()),
            "--connections" => options.connections = number()?,
            "--rate" => options.rate = Some(number()?),
            "--only" => {
                let names = SCENARIOS.map(|it| it.name);
                ensure!(
                    names.contains(&value.as_str()),
                    "--only needs one of {}",
                    names.join(", ")
                );
                options.only = Some(value);
            }
            _ => bail!(crate::USAGE),
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Options> {
        options(words.iter().map(|&word| word.to_owned()))
    }

    #[test]
    fn one_scenario_can_be_chosen_by_its_name() {
        assert_eq!(
            parsed(&["--only", "steady"]).unwrap().only.as_deref(),
            Some("steady")
        );
        assert!(parsed(&["--only", "stead"]).is_err());
        assert!(parsed(&["--rounds", "0"]).is_err());
        assert!(parsed(&["--rounds"]).is_err());
    }
}
