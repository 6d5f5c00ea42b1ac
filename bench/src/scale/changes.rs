//! `changes`: configuration changes on two nodes that share PostgreSQL, under constant load on both.
//! The same load without changes runs before, for as long.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;

use super::document::{self, Size};
use super::http::Client;
use super::load::{Load, Plan, Seen};
use super::load_average;
use super::node::{self, Databases, Node};
use super::table::{Table, millis, percentile};

/// Connections to each node.
const CONNECTIONS: u32 = 8;
/// How much slower than the slowest window without changes one with changes may be.
const SPIKE: Duration = Duration::from_millis(5);

struct Options {
    routes: usize,
    changes: usize,
    per_second: u32,
    rate: u32,
}

/// Runs the command.
pub(crate) fn run(arguments: impl Iterator<Item = String>) -> Result<()> {
    let options = options(arguments)?;
    let program = crate::program()?;
    let databases = Databases::named("postgres")?;
    let dir = tempfile::tempdir()?;
    let url = databases.create(dir.path(), "changes")?;
    let file = dir.path().join("configuration.json");
    document::write(&file, Size::of(options.routes))?;
    node::command(&program, &url, &["migrate", "up"])?;
    let path = file.display().to_string();
    node::command(&program, &url, &["gateway", "import", &path])?;
    let nodes = [
        Node::start(None, &program, &url)?,
        Node::start(None, &program, &url)?,
    ];
    serve_backend(&nodes)?;

    let ports = nodes.each_ref().map(|node| node.proxy);
    let changing = Duration::from_secs(1) * u32::try_from(options.changes)? / options.per_second;
    println!(
        "{} routes, {} requests a second to each of two nodes, load average {}",
        options.routes,
        options.rate,
        load_average()
    );
    let plan = Plan {
        ports: &ports,
        path: "/load",
        connections: CONNECTIONS,
        rate: options.rate,
    };
    let warm = Load::start(&plan);
    super::pause(Duration::from_secs(2));
    let _warm = warm.finish()?;
    let load = Load::start(&plan);
    super::pause(changing);
    let quiet = load.finish()?;
    report("without changes", &quiet);
    let load = Load::start(&plan);
    let mut live = change(&nodes, &options)?;
    let busy = load.finish()?;
    report("with changes", &busy);

    let mut table = Table::default();
    println!();
    table.add("requests sent under changes", "", None, busy.sent as f64);
    table.add(
        "requests failed",
        "",
        0.0,
        (quiet.failed + busy.failed) as f64,
    );
    let slowest = quiet.windows.last().copied().unwrap_or_default();
    let spikes = busy.windows.iter().filter(|it| **it > slowest + SPIKE);
    table.add(
        "windows 5 ms slower than the slowest without changes",
        "",
        0.0,
        spikes.count() as f64,
    );
    let difference = (millis(busy.p99) / millis(quiet.p99) - 1.0) * 100.0;
    table.add("p99 with changes above p99 without", "%", 10.0, difference);
    table.millis(
        "change live on the other node: p50",
        None,
        percentile(&mut live, 0.5),
    );
    table.millis(
        "change live on the other node: p99",
        1000.0,
        percentile(&mut live, 0.99),
    );
    table.millis("slowest", 1000.0, percentile(&mut live, 1.0));
    println!("load average {}", load_average());
    Ok(())
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options> {
    let mut options = Options {
        routes: 1000,
        changes: 1000,
        per_second: 10,
        rate: 400,
    };
    while let Some(name) = arguments.next() {
        let value = arguments
            .next()
            .with_context(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--routes" => options.routes = value.parse()?,
            "--changes" => options.changes = value.parse()?,
            "--per-second" => options.per_second = value.parse::<u32>()?.max(1),
            "--rate" => options.rate = value.parse()?,
            _ => bail!(crate::USAGE),
        }
    }
    Ok(options)
}

/// Makes the changes on both nodes in turn; gives how long each took until the other node had it.
fn change(nodes: &[Node; 2], options: &Options) -> Result<Vec<Duration>> {
    let [one, two] = nodes;
    let mut clients = [(one, two), (two, one)]
        .map(|(writer, reader)| (Client::new(writer.admin), Client::new(reader.proxy)));
    let start = Instant::now();
    let interval = Duration::from_secs(1) / options.per_second;
    let mut times = Vec::with_capacity(options.changes);
    for round in 0..options.changes {
        let due = start + interval * u32::try_from(round)?;
        super::pause(due.saturating_duration_since(Instant::now()));
        let Some((admin, proxy)) = clients.get_mut(round % 2) else {
            bail!("there are two nodes");
        };
        let at = round.wrapping_mul(7_919) % options.routes;
        let path = format!("/changed/{round}");
        let body = document::route_body(at, &path);
        let _ = admin
            .put(&format!("/routes/{}", document::name(at)), &body)?
            .expect(200)?;
        let written = Instant::now();
        while proxy.get(&path)?.status == 404 {
            ensure!(
                written.elapsed() < Duration::from_secs(30),
                "{path} is not live"
            );
            super::pause(Duration::from_millis(1));
        }
        times.push(written.elapsed());
    }
    Ok(times)
}

fn report(what: &str, seen: &Seen) {
    let window = |share: f64| {
        let mut windows = seen.windows.clone();
        millis(percentile(&mut windows, share))
    };
    println!(
        "{what:<16} {:>7} requests, {} failed, p50 {:.2} ms, p99 {:.2} ms; p99 of 100 ms windows: \
         median {:.2}, 90% {:.2}, 99% {:.2}, slowest {:.2} ms",
        seen.sent,
        seen.failed,
        millis(seen.p50),
        millis(seen.p99),
        window(0.5),
        window(0.9),
        window(0.99),
        window(1.0)
    );
}

/// A backend in this process, and a route to it on both nodes.
fn serve_backend(nodes: &[Node; 2]) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    // Ends with the process.
    let _accepting = std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _serving = std::thread::spawn(move || answer(stream));
        }
    });
    let [one, two] = nodes;
    let mut admin = Client::new(one.admin);
    let service = json!({"url": format!("http://127.0.0.1:{port}/")});
    let _ = admin.put("/services/load", &service)?.expect(200)?;
    let _ = admin
        .put("/services/load/routes/load", &json!({"paths": ["/load"]}))?
        .expect(200)?;
    for node in [one, two] {
        let mut proxy = Client::new(node.proxy);
        let started = Instant::now();
        while proxy.get("/load")?.status != 200 {
            ensure!(
                started.elapsed() < Duration::from_secs(30),
                "no answer from the backend"
            );
            super::pause(Duration::from_millis(5));
        }
    }
    Ok(())
}

/// Answers every request of a connection; they have no bodies.
fn answer(stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    loop {
        line.clear();
        if reader.by_ref().take(64 * 1024).read_line(&mut line)? == 0 {
            return Ok(());
        }
        if line == "\r\n" {
            reader
                .get_mut()
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
    }
}
