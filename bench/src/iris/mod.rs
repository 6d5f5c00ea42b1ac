//! `iris`: tokens per second beside what the machine can sign and hash, and lists, start and memory of
//! an identity provider with many realms and clients.
//!
//! The server has the first core, the load generator the second: run it on an otherwise idle machine.

mod pages;
mod population;
mod raw;
mod server;
mod speed;

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::scale::load_average;
use crate::scale::node::Databases;
use crate::scale::table::Table;
use crate::subject::LOAD_CORE;

/// Set in the process that has moved to the load generator's core.
const MOVED: &str = "BENCH_ON_LOAD_CORE";

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    All,
    Speed,
    Scale,
}

struct Options {
    part: Part,
    database: String,
    rounds: u32,
    duration: Duration,
    connections: usize,
    size: population::Size,
}

/// Runs the command.
pub(crate) fn run(arguments: impl Iterator<Item = String>) -> Result<()> {
    let all: Vec<String> = arguments.collect();
    if let [raw, kind, seconds] = all.as_slice()
        && raw == "raw"
    {
        return raw::run(kind, seconds.parse()?);
    }
    if std::env::var_os(MOVED).is_none() {
        let core = LOAD_CORE.to_string();
        let error = Command::new("taskset")
            .args(["--cpu-list", &core])
            .arg(std::env::current_exe()?)
            .arg("iris")
            .args(&all)
            .env(MOVED, "1")
            .exec();
        return Err(error).context("cannot run taskset");
    }
    let options = options(all.into_iter())?;
    let program = crate::program()?;
    let databases = Databases::named(&options.database)?;
    let dir = tempfile::tempdir()?;
    let mut table = Table::default();
    println!("{}, load average {}", options.database, load_average());
    if options.part != Part::Scale {
        let url = databases.create(dir.path(), "speed")?;
        speed::measure(&program, &url, &options, &mut table)?;
    }
    if options.part != Part::Speed {
        scale(&program, dir.path(), &databases, &options, &mut table)?;
    }
    table.print();
    println!("load average {}", load_average());
    Ok(())
}

fn scale(
    program: &Path,
    dir: &Path,
    databases: &Databases,
    options: &Options,
    table: &mut Table,
) -> Result<()> {
    if !databases.is_shared() {
        bail!("the large population is made on PostgreSQL: --database postgres, or --part speed");
    }
    let url = databases.create(dir, "scale")?;
    population::make(program, &url, options.size, table)?;
    pages::measure(program, &url, options.size, table)
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options> {
    let mut options = Options {
        part: Part::All,
        database: "postgres".to_owned(),
        rounds: 5,
        duration: Duration::from_secs(3),
        connections: 32,
        size: population::Size {
            realms: 10_000,
            clients: 100_000,
        },
    };
    while let Some(name) = arguments.next() {
        let value = arguments
            .next()
            .with_context(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--part" => {
                options.part = match value.as_str() {
                    "speed" => Part::Speed,
                    "scale" => Part::Scale,
                    _ => bail!("--part must be speed or scale"),
                }
            }
            "--database" => options.database = value,
            "--rounds" => options.rounds = value.parse()?,
            "--seconds" => options.duration = Duration::from_secs(value.parse()?),
            "--connections" => options.connections = value.parse()?,
            "--realms" => options.size.realms = value.parse()?,
            "--clients" => options.size.clients = value.parse()?,
            _ => bail!(crate::USAGE),
        }
    }
    Ok(options)
}
