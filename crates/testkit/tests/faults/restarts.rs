//! Nodes that stop and come back while requests flow (spec gateway-proxy 15).

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::Response;
use o28m::command::serve::{Hangup, Signals, until_stopped};
use o28m_testkit::{
    Client, Ended, PATIENCE, Platform, RawUpstream, Upstream, Wire, eventually, pattern,
};
use serde_json::json;
use tokio::task::JoinSet;

use crate::{get, platform_to};

const NODE_DIR: &str = "O28M_TESTKIT_FAULTS_DIR";
const NODE_DATABASE: &str = "O28M_TESTKIT_FAULTS_DATABASE";

/// No test: what [`Node`] runs in a process of its own, until a signal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_is_told_to_stop() {
    let (Ok(dir), Ok(url)) = (std::env::var(NODE_DIR), std::env::var(NODE_DATABASE)) else {
        return;
    };
    let mut command = BTreeMap::from([
        ("node.worker_threads".to_owned(), "1".to_owned()),
        ("log.level".to_owned(), "error".to_owned()),
    ]);
    // Without one it keeps its state in a file.
    if !url.is_empty() {
        command.insert("database.url".to_owned(), url);
    }
    let options = o28m::up::Options {
        data_dir: dir.into(),
        ports: o28m::up::Ports::Any,
        zone: "zone1".to_owned(),
        sources: o28m::config::Sources {
            file: None,
            environment: BTreeMap::new(),
            command,
        },
    };
    // Whoever started it holds the other end: without them it has no purpose.
    std::thread::spawn(|| {
        drop(std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        std::process::exit(1);
    });
    let signals = Signals::listen(Hangup::Stops).unwrap();
    let running = o28m::up::start(options, o28m::ambient::system())
        .await
        .unwrap();
    assert!(until_stopped(running.platform, signals).await.is_ok());
}

/// A node in a process of its own.
pub(crate) struct Node {
    child: Child,
    /// What it wrote about itself.
    pub(crate) known: BTreeMap<String, String>,
}

impl Node {
    /// Starts a node and waits until it is ready.
    pub(crate) async fn start(dir: &Path, database_url: &str) -> Self {
        let credentials = dir.join("credentials.env");
        // Its ports are those of the last run until it has written new ones.
        let before = std::fs::read_to_string(&credentials).unwrap_or_default();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "restarts::node_that_is_told_to_stop"])
            .env(NODE_DIR, dir)
            .env(NODE_DATABASE, database_url)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let known = eventually("the node to be ready", async || {
            let text = std::fs::read_to_string(&credentials).ok()?;
            if text == before {
                return None;
            }
            let lines = text.lines().filter_map(|line| line.split_once('='));
            let all: BTreeMap<_, _> = lines.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
            let status = format!("{}/status/ready", all.get("STATUS_URL")?);
            let client = Client::default();
            let asked = client.try_send(http::Method::GET, &status, "").await;
            asked.is_ok_and(|it| it.status == 200).then_some(all)
        });
        let known = known.await;
        Self { child, known }
    }

    pub(crate) fn proxy(&self) -> &str {
        &self.known["GATEWAY_URL"]
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGTERM; how it ended.
    pub(crate) async fn stop(mut self) -> ExitStatus {
        let told = Command::new("kill").arg(self.pid().to_string()).status();
        assert!(told.unwrap().success());
        let held = self.child.stdin.take();
        let status = eventually("the node to end", async || self.child.try_wait().unwrap()).await;
        drop(held);
        status
    }

    /// Without a chance to finish anything.
    fn kill(mut self) {
        self.child.kill().unwrap();
        let _status = self.child.wait().unwrap();
    }
}

/// What became of requests.
#[derive(Default)]
struct Tally {
    answered: AtomicUsize,
    /// Sent again, as HTTP allows.
    repeated: AtomicUsize,
    /// Not answered, and not to be sent again.
    lost: AtomicUsize,
    stop: AtomicBool,
}

/// A client of two nodes, as behind a balancer: keeps a connection until told to close it, and turns to
/// the other node when one does not listen.
struct Caller {
    nodes: Arc<std::sync::Mutex<Vec<String>>>,
    tally: Arc<Tally>,
    number: usize,
    wire: Option<Wire>,
}

impl Caller {
    async fn run(mut self) {
        let mut round = 0;
        while !self.tally.stop.load(Ordering::SeqCst) {
            round += 1;
            let seed = (self.number * 1_000_000 + round) as u64;
            // In one piece, in several, and on disk.
            let size = [20, 20, 100_000, 20, 2_000_000][round % 5];
            let method = ["GET", "PUT", "POST", "DELETE"][round % 4];
            let body = match method {
                "GET" => Vec::new(),
                _ => pattern(seed, size),
            };
            self.ask(method, seed, body).await;
        }
    }

    /// A connection to a node that listens.
    async fn connect(&self) -> Wire {
        let connecting = async {
            loop {
                let nodes = self.nodes.lock().unwrap().clone();
                let first = self.number % nodes.len();
                let (later, sooner) = nodes.split_at(first);
                for node in sooner.iter().chain(later) {
                    if let Ok(wire) = Wire::try_connect(node).await {
                        return wire;
                    }
                }
                tokio::task::yield_now().await;
            }
        };
        let connected = tokio::time::timeout(PATIENCE, connecting).await;
        connected.expect("a node that listens")
    }

    /// One request, sent again while HTTP allows it and no answer came.
    async fn ask(&mut self, method: &'static str, seed: u64, body: Vec<u8>) {
        for _ in 0..20 {
            let mut wire = match self.wire.take() {
                Some(wire) => wire,
                None => self.connect().await,
            };
            let head = format!(
                "{method} /echo/{seed} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let mut request = head.into_bytes();
            request.extend_from_slice(&body);
            wire.send(request).await;
            let Some(answer) = wire.answer(method).await else {
                if method == "POST" {
                    self.tally.lost.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                self.tally.repeated.fetch_add(1, Ordering::SeqCst);
                continue;
            };
            assert_eq!(answer.broken, None, "half an answer: {}", answer.head);
            assert_eq!(
                answer.status(),
                200,
                "{}",
                String::from_utf8_lossy(&answer.body)
            );
            let echoed = answer
                .body
                .strip_prefix(format!("{method} {seed} ").as_bytes());
            assert!(echoed == Some(&*body), "other bytes");
            self.tally.answered.fetch_add(1, Ordering::SeqCst);
            if answer.header("connection").as_deref() != Some("close") {
                self.wire = Some(wire);
            }
            return;
        }
        panic!("twenty connections in a row were closed");
    }
}

fn echo() -> Upstream {
    Upstream::start(|request| {
        let seed = request.uri().path().rsplit('/').next().unwrap();
        let head = format!("{} {seed} ", request.method());
        Response::new([head.as_bytes(), request.body()].concat().into())
    })
}

struct Load {
    nodes: Arc<std::sync::Mutex<Vec<String>>>,
    tally: Arc<Tally>,
    callers: JoinSet<()>,
}

impl Load {
    fn on(nodes: &[&Node]) -> Self {
        let nodes: Vec<_> = nodes.iter().map(|it| it.proxy().to_owned()).collect();
        let nodes = Arc::new(std::sync::Mutex::new(nodes));
        let tally = Arc::new(Tally::default());
        let mut callers = JoinSet::new();
        for number in 0..8 {
            let caller = Caller {
                nodes: nodes.clone(),
                tally: tally.clone(),
                number,
                wire: None,
            };
            callers.spawn(caller.run());
        }
        Self {
            nodes,
            tally,
            callers,
        }
    }

    /// Waits for so many more answers.
    async fn go_on(&mut self, count: usize) {
        let wanted = self.tally.answered.load(Ordering::SeqCst) + count;
        eventually("answers", async || {
            if let Some(ended) = self.callers.try_join_next() {
                ended.unwrap();
            }
            (self.tally.answered.load(Ordering::SeqCst) >= wanted).then_some(())
        })
        .await;
    }

    async fn finish(mut self) -> Arc<Tally> {
        self.tally.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.callers.join_next().await {
            ended.unwrap();
        }
        self.tally
    }
}

/// Two nodes on one database, with a route to an upstream that echoes.
struct Pair {
    url: String,
    dirs: [tempfile::TempDir; 2],
    _upstream: Upstream,
}

impl Pair {
    async fn start() -> Option<(Self, Node, Node)> {
        let url = o28m_store::testing::postgres_url().await?;
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let upstream = echo();
        let one = Node::start(dirs[0].path(), &url).await;
        let credentials = "credentials.env";
        let (from, to) = (
            dirs[0].path().join(credentials),
            dirs[1].path().join(credentials),
        );
        std::fs::copy(from, to).unwrap();
        let known = &one.known;
        let admin = Client::default().basic(
            &known["GATEWAY_ADMIN_USERNAME"],
            &known["GATEWAY_ADMIN_PASSWORD"],
        );
        for (path, body) in [
            ("/services/echo", json!({"url": upstream.url()})),
            (
                "/services/echo/routes/echo",
                json!({"paths": ["/echo"], "strip_path": false}),
            ),
        ] {
            let at = format!("{}{path}", known["GATEWAY_ADMIN_URL"]);
            let _ = admin.json("PUT", &at, body).await.expect(200);
        }
        let two = Node::start(dirs[1].path(), &url).await;
        for node in [&one, &two] {
            eventually("the route", async || {
                let mut wire = Wire::connect(node.proxy()).await;
                (wire.ask(&get("/echo/0")).await.status() == 200).then_some(())
            })
            .await;
        }
        let pair = Self {
            url,
            dirs,
            _upstream: upstream,
        };
        Some((pair, one, two))
    }
}

/// Twice, one node after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_loses_no_request_that_may_be_repeated() {
    let Some((pair, one, two)) = Pair::start().await else {
        return;
    };
    let mut load = Load::on(&[&one, &two]);
    let mut nodes = [Some(one), Some(two)];
    for round in 0..4 {
        let at = round % 2;
        load.go_on(100).await;
        let node = nodes[at].take().unwrap();
        let proxy = node.proxy().to_owned();
        let status = node.stop().await;
        assert!(status.success(), "node {at} did not drain: {status}");
        load.go_on(100).await;
        let node = Node::start(pair.dirs[at].path(), &pair.url).await;
        let mut known = load.nodes.lock().unwrap();
        known.retain(|it| *it != proxy);
        known.push(node.proxy().to_owned());
        drop(known);
        nodes[at] = Some(node);
    }
    load.go_on(100).await;
    let tally = load.finish().await;
    let count = |it: &AtomicUsize| it.load(Ordering::SeqCst);
    assert!(count(&tally.answered) > 800);
    // A POST is lost when a node ends the connection while the request is on its way to it: as rare as
    // an end between two requests of a connection.
    let lost = count(&tally.lost);
    assert!(lost <= 8, "{lost} of {} were lost", count(&tally.answered));
    for node in nodes.into_iter().flatten() {
        assert!(node.stop().await.success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_death_of_a_node_concerns_no_other() {
    let Some((_pair, one, two)) = Pair::start().await else {
        return;
    };
    let mut of_both = Load::on(&[&one]);
    let mut of_other = Load::on(&[&two]);
    of_both.nodes.lock().unwrap().push(two.proxy().to_owned());
    of_both.go_on(50).await;
    of_other.go_on(50).await;
    // Clients of the dead node find broken answers and connections; they are not what this is about.
    of_both.tally.stop.store(true, Ordering::SeqCst);
    one.kill();
    of_both.callers.shutdown().await;
    of_other.go_on(300).await;
    let tally = of_other.finish().await;
    let count = |it: &AtomicUsize| it.load(Ordering::SeqCst);
    assert_eq!((count(&tally.repeated), count(&tally.lost)), (0, 0));
    assert!(two.stop().await.success());
}

/// A stream, a WebSocket and an upload are in flight when the platform is told to stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_flight_ends_before_the_platform_does() {
    let gate = Arc::new(tokio::sync::Notify::new());
    let open = gate.clone();
    let upstream = RawUpstream::start(move |mut wire, _| {
        let open = open.clone();
        async move {
            let Some(request) = wire.request().await else {
                return;
            };
            match request.header("upgrade") {
                Some(_) => {
                    let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
                    wire.send(switch).await;
                    while wire.read().await.is_none() {
                        let input = std::mem::take(&mut wire.input);
                        wire.send(input).await;
                    }
                }
                None if request.line().ends_with("/stream") => {
                    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                    wire.send(format!("{head}3\r\none\r\n")).await;
                    open.notified().await;
                    wire.send("3\r\ntwo\r\n0\r\n\r\n").await;
                }
                None => {
                    let length = request.body.len();
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
                    wire.send([head.as_bytes(), &request.body].concat()).await;
                }
            }
        }
    })
    .await;
    let platform = platform_to(&upstream.url(), 0).await;
    let proxy = platform.credential("GATEWAY_URL").to_owned();
    let mut stream = Wire::connect(&proxy).await;
    assert!(stream.send(get("/buffered/stream")).await);
    stream.until("one").await;
    let mut socket = Wire::connect(&proxy).await;
    let upgrade =
        "GET /buffered HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert!(socket.send(upgrade).await);
    assert!(socket.until("\r\n\r\n").await.starts_with("HTTP/1.1 101 "));
    let mut uploads = Vec::new();
    for path in ["/buffered", "/live"] {
        let mut upload = Wire::connect(&proxy).await;
        let head = format!("PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n");
        assert!(
            upload
                .send(format!("{head}Expect: 100-continue\r\n\r\n"))
                .await
        );
        upload.until("\r\n\r\n").await;
        assert!(upload.send("half").await);
        uploads.push(upload);
    }
    let mut idle = Wire::connect(&proxy).await;
    assert_eq!(idle.ask(&with_answer("/buffered")).await.status(), 200);
    // A head that is on its way.
    let mut begun = Wire::connect(&proxy).await;
    assert!(begun.send("GET /buffered HTTP/1.1\r\nHost").await);
    assert_eq!(idle.ask(&with_answer("/live")).await.status(), 200);

    let stopping = tokio::spawn(platform.stop());
    assert_eq!(idle.end().await, Ended::Finished);
    eventually("the end of the listener", async || {
        Wire::try_connect(&proxy).await.err().map(drop)
    })
    .await;
    assert!(begun.send(": a\r\n\r\n").await);
    let answer = begun.answer("GET").await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.header("connection").as_deref(), Some("close"));
    assert!(socket.send("still here").await);
    socket.until("still here").await;
    for upload in &mut uploads {
        assert!(upload.send("half").await);
        let answer = upload.answer("PUT").await.unwrap();
        assert_eq!((answer.status(), &*answer.body), (200, &b"halfhalf"[..]));
        assert_eq!(answer.header("connection").as_deref(), Some("close"));
    }
    assert!(!stopping.is_finished());
    gate.notify_one();
    stream.until("two\r\n0\r\n\r\n").await;
    assert!(!stopping.is_finished());
    drop(socket);
    assert!(stopping.await.unwrap(), "nothing was cut");
}

fn with_answer(path: &str) -> String {
    crate::with_body("PUT", path, "x")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_end_is_cut_when_the_drain_is_over() {
    let upstream = RawUpstream::start(|mut wire, _| async move {
        wire.request().await;
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
            .await;
        wire.end().await;
    })
    .await;
    let settings = [("node.drain_timeout", "200ms")];
    let platform = Platform::start_with(None, &settings).await;
    platform
        .route("slow", &upstream.url(), json!({"paths": ["/slow"]}))
        .await;
    let mut client = Wire::connect(platform.credential("GATEWAY_URL")).await;
    assert!(client.send(get("/slow")).await);
    client.until("half").await;
    assert!(!platform.stop().await, "something was cut");
    client.end().await;
    assert_eq!(client.input, b"");
}
