//! `scale`: a configuration of 100,000 routes with services and four plugins each, measured against the
//! targets of the specification (gateway-admin 19).
//!
//! Latencies are what a client on the same machine sees, load generator and database server included:
//! run it on an otherwise idle machine. The load average is printed before and after.

pub(crate) mod changes;
pub(crate) mod document;
pub(crate) mod http;
pub(crate) mod load;
pub(crate) mod node;
pub(crate) mod table;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use document::Size;
use http::Client;
use node::{Databases, Node};
use table::{Table, percentile};

/// Routes of the small configuration that the cost of a write is compared with.
const SMALL: usize = 1000;
/// Writes of which percentiles are taken.
const WRITES: usize = 500;
/// Changes after which memory is looked at.
const CHANGES: usize = 1000;
/// Entities of a page.
const PAGE: usize = 1000;

struct Options {
    database: String,
    routes: usize,
}

/// Runs the command.
pub(crate) fn run(arguments: impl Iterator<Item = String>) -> Result<()> {
    let options = options(arguments)?;
    let program = crate::program()?;
    let databases = Databases::named(&options.database)?;
    let dir = tempfile::tempdir()?;
    let mut table = Table::default();
    println!(
        "{} on {}, load average {}",
        options.routes,
        options.database,
        load_average()
    );
    let mut bench = Bench {
        program: &program,
        dir: dir.path(),
        databases: &databases,
        table: &mut table,
    };
    bench.small()?;
    bench.large(options.routes)?;
    table.print();
    println!("load average {}", load_average());
    Ok(())
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options> {
    let mut options = Options {
        database: "sqlite".to_owned(),
        routes: 100_000,
    };
    while let Some(name) = arguments.next() {
        let value = arguments
            .next()
            .with_context(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--database" => options.database = value,
            "--routes" => options.routes = value.parse()?,
            _ => bail!(crate::USAGE),
        }
    }
    Ok(options)
}

/// The three load averages of this machine.
pub(crate) fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

struct Bench<'a> {
    program: &'a Path,
    dir: &'a Path,
    databases: &'a Databases,
    table: &'a mut Table,
}

impl Bench<'_> {
    /// A new database with a configuration of that size.
    fn loaded(&mut self, name: &str, routes: usize) -> Result<String> {
        let url = self.databases.create(self.dir, name)?;
        let file = self.dir.join(format!("{name}.json"));
        let size = Size::of(routes);
        document::write(&file, size)?;
        node::command(self.program, &url, &["migrate", "up"])?;
        let path = file.display().to_string();
        let spent = node::command(self.program, &url, &["gateway", "import", &path])?;
        std::fs::remove_file(&file)?;
        let what = format!("import of {} entities", size.entities());
        self.table.seconds(&what, None, spent.time);
        let cpu = format!("{what}: CPU of the command");
        self.table.seconds(cpu, None, spent.cpu);
        let peak = format!("{what}: highest memory");
        self.table.mebibytes(peak, None, spent.peak_kib);
        Ok(url)
    }

    fn small(&mut self) -> Result<()> {
        let url = self.loaded("small", SMALL)?;
        let node = Node::start(None, self.program, &url)?;
        self.puts(&node, SMALL)
    }

    fn large(&mut self, routes: usize) -> Result<()> {
        let url = self.loaded("large", routes)?;
        let node = Node::start(None, self.program, &url)?;
        let mut admin = Client::new(node.admin);
        // First of all: nothing has looked at the new rows yet.
        self.tags(&mut admin, routes)?;
        self.start(&node);
        let other = if self.databases.is_shared() {
            let other = Node::start(None, self.program, &url)?;
            self.start(&other);
            Some(other)
        } else {
            None
        };
        self.root(&mut admin)?;
        self.puts(&node, routes)?;
        self.pages(&mut admin, routes)?;
        self.live(&node, other.as_ref(), routes)?;
        self.many_changes(&node, other.as_ref(), routes)?;
        self.dump(&mut admin, routes)
    }

    fn start(&mut self, node: &Node) {
        self.table.seconds("cold start to ready", 10.0, node.start);
        self.table
            .seconds("cold start to ready: CPU", None, node.start_cpu);
        let process = &node.process;
        self.table
            .mebibytes("memory after start", 1024.0, process.resident_kib());
        self.table
            .mebibytes("highest memory until then", None, process.peak_kib());
    }

    /// PUT of one route by name, each time with other content.
    fn puts(&mut self, node: &Node, routes: usize) -> Result<()> {
        let mut admin = Client::new(node.admin);
        let mut times = Vec::with_capacity(WRITES);
        let before = node.process.cpu()?;
        for round in 0..WRITES {
            let at = scattered(round, routes);
            let path = format!("/routes/{}", document::name(at));
            let body = document::route_body(at, &format!("/put/{round}/api-{at}"));
            let started = Instant::now();
            let _ = admin.put(&path, &body)?.expect(200)?;
            times.push(started.elapsed());
        }
        let cpu = node.process.cpu()?.saturating_sub(before) / WRITES as u32;
        self.percentiles(&format!("PUT of a route, {routes} routes"), 5.0, &mut times);
        self.table
            .millis("CPU of it, with the snapshot's update", None, cpu);
        Ok(())
    }

    fn percentiles(&mut self, what: &str, p99: impl Into<Option<f64>>, times: &mut [Duration]) {
        self.table
            .millis(format!("{what}: p50"), None, percentile(times, 0.5));
        self.table
            .millis(format!("{what}: p99"), p99, percentile(times, 0.99));
    }

    /// A plugin by its four tags, one of which nearly everything has.
    fn tags(&mut self, admin: &mut Client, routes: usize) -> Result<()> {
        let mut times = Vec::new();
        for round in 0..100 {
            let tags = document::plugin_tags(scattered(round, routes), "acl").join(",");
            let started = Instant::now();
            let found = admin.get(&format!("/plugins?tags={tags}"))?.expect(200)?;
            times.push(started.elapsed());
            let found = found.json()?;
            ensure!(found["data"].as_array().map(Vec::len) == Some(1), "{found}");
        }
        let first = times.first().copied().unwrap_or_default();
        self.table.millis(
            "GET /plugins?tags= of 4, first after the import",
            10.0,
            first,
        );
        self.percentiles("GET /plugins?tags= of 4", 10.0, &mut times);
        Ok(())
    }

    fn root(&mut self, admin: &mut Client) -> Result<()> {
        let mut times = Vec::new();
        for _ in 0..100 {
            let started = Instant::now();
            let _ = admin.get("/")?.expect(200)?;
            times.push(started.elapsed());
        }
        self.percentiles("GET /", 5.0, &mut times);
        Ok(())
    }

    /// Pages at the start, in the middle and at the end, by ids that are spread evenly.
    fn pages(&mut self, admin: &mut Client, routes: usize) -> Result<()> {
        for (kind, count, target) in [("routes", routes, 30.0), ("plugins", 4 * routes, 100.0)] {
            let share_of_page = PAGE as f64 / count as f64;
            let places = [
                ("start", 0.0),
                ("middle", 0.5),
                ("end", 1.0 - 1.1 * share_of_page),
            ];
            for (place, share) in places {
                let first = (share.clamp(0.0, 1.0) * f64::from(u32::MAX)) as u32;
                let offset = format!("[\"{first:08x}-0000-4000-8000-000000000000\"]");
                let path = format!("/{kind}?size={PAGE}&offset={}", base64(&offset));
                let mut times = Vec::new();
                for _ in 0..20 {
                    let started = Instant::now();
                    let _ = admin.get(&path)?.expect(200)?;
                    times.push(started.elapsed());
                }
                let what = format!("page of {PAGE} {kind} at the {place}: p50");
                self.table.millis(what, target, percentile(&mut times, 0.5));
            }
        }
        Ok(())
    }

    fn dump(&mut self, admin: &mut Client, routes: usize) -> Result<()> {
        let started = Instant::now();
        let mut count = 0;
        for kind in ["services", "routes", "plugins", "consumers", "acls"] {
            let mut path = format!("/{kind}?size={PAGE}");
            loop {
                let page = admin.get(&path)?.expect(200)?.json()?;
                count += page["data"].as_array().map_or(0, Vec::len);
                match page["next"].as_str() {
                    Some(next) => path = next.to_owned(),
                    None => break,
                }
            }
        }
        let all = Size::of(routes).entities();
        ensure!(count >= all, "{count} instead of {all}");
        self.table
            .seconds("dump of all lists", 60.0, started.elapsed());
        Ok(())
    }

    /// How long after its answer a change is live.
    fn live(&mut self, node: &Node, other: Option<&Node>, routes: usize) -> Result<()> {
        let mut times = self.changes_until_live(node, node, routes, "here")?;
        self.percentiles("change live on the node that wrote it", 50.0, &mut times);
        if let Some(other) = other {
            let mut times = self.changes_until_live(node, other, routes, "there")?;
            self.percentiles("change live on the other node", 1000.0, &mut times);
        }
        Ok(())
    }

    fn changes_until_live(
        &self,
        writer: &Node,
        reader: &Node,
        routes: usize,
        place: &str,
    ) -> Result<Vec<Duration>> {
        let mut admin = Client::new(writer.admin);
        let mut proxy = Client::new(reader.proxy);
        let mut times = Vec::new();
        for round in 0..200 {
            let at = scattered(round, routes);
            let path = format!("/live-{place}-{round}");
            let body = document::route_body(at, &path);
            let name = document::name(at);
            let _ = admin.put(&format!("/routes/{name}"), &body)?.expect(200)?;
            let written = Instant::now();
            // The route asks for a token; an unknown path is not found.
            while proxy.get(&path)?.status == 404 {
                ensure!(
                    written.elapsed() < Duration::from_secs(30),
                    "{path} is not live"
                );
                pause(Duration::from_micros(200));
            }
            times.push(written.elapsed());
        }
        Ok(times)
    }

    /// Memory after many changes, and what one of them costs a node that only follows.
    fn many_changes(&mut self, node: &Node, other: Option<&Node>, routes: usize) -> Result<()> {
        let mut admin = Client::new(node.admin);
        let follower = other.unwrap_or(node);
        let before = follower.process.cpu()?;
        for round in 0..CHANGES {
            let at = scattered(round, routes);
            let path = format!("/routes/{}", document::name(at));
            let body = document::route_body(at, &format!("/changed/{round}"));
            let _ = admin.put(&path, &body)?.expect(200)?;
        }
        let last = json!(admin.get("/config-version")?.expect(200)?.json()?["version"]);
        let mut admin = Client::new(follower.admin);
        let started = Instant::now();
        loop {
            let state: Value = admin.get("/config-version")?.expect(200)?.json()?;
            if state["applied"] == last {
                break;
            }
            ensure!(started.elapsed() < Duration::from_secs(30), "{state}");
            pause(Duration::from_millis(5));
        }
        let cpu = follower.process.cpu()?.saturating_sub(before) / CHANGES as u32;
        let what = if other.is_some() {
            "CPU of a change on the node that follows"
        } else {
            "CPU of a change with its PUT"
        };
        self.table.millis(what, 10.0, cpu);
        for node in std::iter::once(node).chain(other) {
            let what = format!("memory after {CHANGES} changes");
            let memory = node.process.resident_kib();
            self.table.mebibytes(what, 1024.0, memory);
        }
        Ok(())
    }
}

/// Waits for as long as that.
pub(crate) fn pause(time: Duration) {
    let end = Instant::now() + time;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        // It may return early.
        std::thread::park_timeout(left);
    }
}

/// A place for each round, spread over everything.
fn scattered(round: usize, count: usize) -> usize {
    round.wrapping_mul(7_919) % count.max(1)
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
}
