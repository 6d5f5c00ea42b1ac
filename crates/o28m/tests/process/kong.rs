//! The program called as `kong`: what the chart's jobs, hooks and probes and compose files run.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{PATIENCE, free_offset, get, text};

/// A node: its working directory, its environment, and what runs the program in them.
pub(super) struct Node {
    pub(super) dir: TempDir,
    environment: Vec<(String, String)>,
    pub(super) offset: u16,
}

impl Node {
    pub(super) fn new(environment: &[(&str, &str)]) -> Self {
        let offset = free_offset();
        let dir = tempfile::tempdir().unwrap();
        let mut node = Self {
            environment: Vec::new(),
            dir,
            offset,
        };
        let listen = |port: u16| format!("127.0.0.1:{}", port + offset);
        node.set("KONG_PREFIX", &node.path("kong"));
        node.set("KONG_PROXY_LISTEN", &listen(8000));
        node.set("KONG_ADMIN_LISTEN", &listen(8001));
        node.set("KONG_STATUS_LISTEN", &listen(8100));
        node.set("O28M_METRICS__LISTEN", &listen(9542));
        node.set("KONG_NGINX_WORKER_PROCESSES", "1");
        for (name, value) in environment {
            node.set(name, value);
        }
        node
    }

    /// On a database of its own; `None` when its server is not installed.
    pub(super) fn on(database: Database) -> Option<Self> {
        match database {
            Database::Sqlite => Some(Self::new(&[("KONG_DATABASE", "sqlite")])),
            Database::Postgres => {
                let runtime = tokio::runtime::Runtime::new().unwrap();
                let url = runtime.block_on(o28m_store::testing::postgres_url())?;
                let (login, place) = url.strip_prefix("postgres://").unwrap().split_once('@')?;
                let (user, _) = login.split_once(':')?;
                let (address, name) = place.split_once('/')?;
                let (host, port) = address.split_once(':')?;
                Some(Self::new(&[
                    ("KONG_DATABASE", "postgres"),
                    ("KONG_PG_HOST", host),
                    ("KONG_PG_PORT", port),
                    ("KONG_PG_USER", user),
                    ("KONG_PG_PASSWORD", "any p@ss:w/rd?#%"),
                    ("KONG_PG_DATABASE", name),
                    ("KONG_PG_SCHEMA", "public"),
                ]))
            }
        }
    }

    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    pub(super) fn unset(&mut self, name: &str) {
        self.environment.retain(|(known, _)| known != name);
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    pub(super) fn port(&self, port: u16) -> u16 {
        port + self.offset
    }

    pub(super) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_o28m"));
        command
            .arg0("kong")
            .args(line.split_whitespace())
            .env_clear()
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// What it prints, which must end with this code.
    #[track_caller]
    pub(super) fn kong(&self, line: &str, code: i32) -> String {
        let output = self.run(line);
        let printed = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "kong {line}: {printed}");
        printed
    }

    /// Starts it in the foreground and waits until it is healthy.
    pub(super) fn start(&self) -> Foreground {
        let log = std::fs::File::create(self.path("log")).unwrap();
        let mut child = self
            .command("start")
            .env("KONG_NGINX_DAEMON", "off")
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        while !self.run("health").status.success() {
            let log = || std::fs::read_to_string(self.path("log")).unwrap();
            assert!(child.try_wait().unwrap().is_none(), "{}", log());
            assert!(Instant::now() < deadline, "it does not start: {}", log());
        }
        Foreground(child)
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }
}

#[derive(Clone, Copy)]
pub(super) enum Database {
    Sqlite,
    Postgres,
}

pub(super) struct Foreground(Child);

impl Foreground {
    pub(super) fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.unwrap().success());
    }

    pub(super) fn exit_code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    fn runs(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

fn migrations_and_health(database: Database) {
    let Some(node) = Node::on(database) else {
        return;
    };
    assert!(
        node.kong("migrations list", 3)
            .contains("needs bootstrapping")
    );
    let first = node.kong("migrations bootstrap", 0);
    assert!(
        first.contains("Bootstrapping database...") && first.contains("Database is up-to-date"),
        "{first}"
    );
    let second = node.kong("migrations bootstrap", 0);
    assert_eq!(second, "Database already bootstrapped\n");
    let up = node.kong("migrations up", 0);
    assert_eq!(up, "Database is already up-to-date\n");
    let finish = node.kong("migrations finish", 0);
    assert_eq!(finish, "No pending migrations to finish\n");
    assert_eq!(node.kong("migrations list -q", 0), "");
    assert!(
        node.kong("migrations status", 0)
            .contains("\"up_to_date\": true")
    );

    node.kong("prepare", 0);
    let stopped = node.kong("health", 1);
    assert!(
        stopped.contains("nginx.......not running") && stopped.contains("Kong is not running at"),
        "{stopped}"
    );
    assert_eq!(node.kong("start", 0), "Kong started\n");
    let healthy = node.kong("health", 0);
    let end = format!("Kong is healthy at {}\n", node.path("kong"));
    assert!(
        healthy.starts_with("nginx.......running\n") && healthy.ends_with(&end),
        "{healthy}"
    );
    assert!(node.kong("start", 1).contains("Kong is already running in"));
    assert!(get(node.port(8100), "/status/ready").starts_with("HTTP/1.1 200"));
    assert!(get(node.port(8001), "/").contains("\"version\":\"3.9.3\""));
    assert_eq!(node.kong("restart", 0), "Kong stopped\nKong started\n");
    assert_eq!(
        node.kong("quit --timeout 60", 0),
        "Kong stopped (gracefully)\n"
    );
    node.kong("health", 1);
    assert!(node.kong("quit", 1).contains("nginx not running in prefix"));

    assert!(node.kong("migrations reset", 1).contains("not a tty"));
    let reset = node.kong("migrations reset -y", 0);
    assert!(reset.contains("Database successfully reset"), "{reset}");
    node.kong("migrations list", 3);
    assert!(
        node.kong("migrations reset -y", 1)
            .contains("nothing to reset")
    );
}

#[test]
fn admin_case_072_migrations_and_health_on_sqlite() {
    migrations_and_health(Database::Sqlite);
}

#[test]
fn admin_case_072_migrations_and_health_on_postgresql() {
    migrations_and_health(Database::Postgres);
}

/// The chart's job runs `kong migrations up || true; kong migrations finish`.
fn upgrade_job(database: Database) {
    let Some(node) = Node::on(database) else {
        return;
    };
    let up = node.kong("migrations up", 1);
    assert!(
        up.starts_with("Error: Cannot run migrations: Database needs bootstrapping"),
        "{up}"
    );
    let finish = node.kong("migrations finish", 1);
    assert!(
        finish.contains("run 'kong migrations bootstrap' instead"),
        "{finish}"
    );
    node.kong("migrations bootstrap", 0);
    node.kong("migrations up", 0);
    node.kong("migrations finish", 0);
}

#[test]
fn the_upgrade_job_fails_cleanly_before_the_bootstrap() {
    upgrade_job(Database::Sqlite);
    upgrade_job(Database::Postgres);
}

/// Also deployment case 48.
fn bootstraps_at_once(database: Database) {
    let Some(node) = Node::on(database) else {
        return;
    };
    let start = || {
        node.command("migrations bootstrap")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let children: Vec<Child> = (0..6).map(|_| start()).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        let printed = text(&output.stdout) + &text(&output.stderr);
        assert!(output.status.success(), "{printed}");
    }
    node.kong("migrations list", 0);
}

#[test]
fn deployment_case_048_nodes_that_bootstrap_at_once_all_succeed() {
    bootstraps_at_once(Database::Sqlite);
    bootstraps_at_once(Database::Postgres);
}

#[test]
fn a_node_that_waits_too_long_for_the_lock_says_so() {
    let node = Node::on(Database::Sqlite).unwrap();
    node.kong("migrations bootstrap", 0);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let path = node.path("kong/o28m.db");
    // As somebody else who changes tables.
    let _held = runtime.block_on(o28m_store::testing::hold_write_lock(&path));
    let begun = Instant::now();
    let printed = node.kong("migrations bootstrap --force --lock-timeout 1", 0);
    assert_eq!(
        printed,
        "aborted: another node is performing database changes\n"
    );
    assert!(begun.elapsed() >= Duration::from_secs(1));
}

#[test]
fn a_start_on_unprepared_tables_is_refused() {
    let Some(node) = Node::on(Database::Postgres) else {
        return;
    };
    let refused = node.kong("start", 1);
    assert!(
        refused.contains("Database needs bootstrapping or is older than Kong 1.0.")
            && refused.contains("kong migrations bootstrap"),
        "{refused}"
    );
    node.kong("start --run-migrations", 0);
    node.kong("stop", 0);
}

#[test]
fn deployment_case_057_unknown_commands_are_wrong_usage() {
    let node = Node::new(&[]);
    assert!(node.kong("health", 1).contains("no such prefix"));
    assert!(node.kong("foo", 1).contains("foo"));
    assert!(node.kong("migrations foo", 1).contains("foo"));
    assert!(node.kong("--help", 0).contains("migrations"));
    assert_eq!(node.kong("version", 0), "3.9.3\n");
    assert!(node.kong("version -a", 0).starts_with("Kong: 3.9.3\n"));
    let own = super::run(&["kong", "version"]);
    assert_eq!(text(&own.stdout), "3.9.3\n");
}

/// A service that answers each request when it is told to.
struct Slow {
    port: u16,
    arrived: Receiver<TcpStream>,
}

impl Slow {
    fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, arrived) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut stream: TcpStream = stream;
                let mut head = [0; 4096];
                let _bytes = stream.read(&mut head);
                if tell.send(stream).is_err() {
                    return;
                }
            }
        });
        Self { port, arrived }
    }

    /// The next request that waits for an answer.
    fn next(&self) -> TcpStream {
        self.arrived.recv_timeout(PATIENCE).unwrap()
    }
}

fn answer(mut stream: TcpStream) {
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndone")
        .unwrap();
}

/// A node without a database in front of a slow service.
fn in_front_of(slow: &Slow) -> Node {
    let configuration = format!(
        "{{\"_format_version\":\"3.0\",\"services\":[{{\"name\":\"s\",\"url\":\"http://127.0.0.1:{}\",\
         \"routes\":[{{\"name\":\"r\",\"paths\":[\"/\"]}}]}}]}}",
        slow.port
    );
    Node::new(&[
        ("KONG_DATABASE", "off"),
        ("KONG_DECLARATIVE_CONFIG_STRING", &configuration),
    ])
}

#[test]
fn the_hook_before_a_stop_lets_requests_finish() {
    let slow = Slow::listen();
    let node = in_front_of(&slow);
    let mut gateway = node.start();
    let port = node.port(8000);
    let request = std::thread::spawn(move || get(port, "/"));
    let waiting = slow.next();
    let mut hook = node
        .command("quit --timeout 60")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    // It drains once the probe says so; the request is still open then.
    while !get(node.port(8100), "/status/ready").contains("draining")
        && TcpStream::connect(("127.0.0.1", port)).is_ok()
    {
        assert!(Instant::now() < deadline, "it does not drain");
    }
    assert!(gateway.runs() && hook.try_wait().unwrap().is_none());
    answer(waiting);
    let response = request.join().unwrap();
    assert!(
        response.starts_with("HTTP/1.1 200") && response.ends_with("done"),
        "{response}"
    );
    let output = hook.wait_with_output().unwrap();
    assert_eq!(text(&output.stdout), "Kong stopped (gracefully)\n");
    assert_eq!(gateway.exit_code(), Some(0));
}

#[test]
fn a_request_that_does_not_end_is_cut_after_the_timeout() {
    let slow = Slow::listen();
    let node = in_front_of(&slow);
    let mut gateway = node.start();
    let port = node.port(8000);
    let request = std::thread::spawn(move || get(port, "/"));
    let _never_answered = slow.next();
    let printed = node.kong("quit --timeout 1", 0);
    assert_eq!(printed, "Timeout, Kong stopped forcefully\n");
    let _cut = request.join().unwrap();
    assert_eq!(gateway.exit_code(), Some(130));
    node.kong("health", 1);
}

#[test]
fn a_crash_leaves_nothing_that_lies() {
    let node = Node::on(Database::Sqlite).unwrap();
    drop(node.start());
    assert!(Path::new(&node.path("kong/pids/nginx.pid")).exists());
    assert!(node.kong("health", 1).contains("Kong is not running at"));
    let again = node.start();
    node.kong("health", 0);
    drop(again);
}

#[test]
fn files_of_kong_are_read_and_checked() {
    let mut node = Node::new(&[("KONG_DATABASE", "sqlite")]);
    let conf = node.path("kong.conf");
    let level = "log_level = debug # comment\nproxy_listen = 127.0.0.1:1 sssl\n";
    std::fs::write(&conf, level).unwrap();
    node.environment
        .retain(|(name, _)| name != "KONG_PROXY_LISTEN");
    let wrong = node.kong(&format!("check {conf}"), 1);
    assert!(wrong.contains("sssl"), "{wrong}");
    std::fs::write(&conf, "log_level = debug\n").unwrap();
    let right = node.kong(&format!("check {conf}"), 0);
    assert_eq!(right, format!("configuration at {conf} is valid\n"));
    assert!(
        node.kong("check /nowhere/kong.conf", 1)
            .contains("/nowhere/kong.conf")
    );

    let yml = node.path("kong.yml");
    node.kong(&format!("config init {yml}"), 0);
    assert!(
        node.kong(&format!("config init {yml}"), 1)
            .contains("Will not overwrite it")
    );
    assert_eq!(
        node.kong(&format!("config parse {yml}"), 0),
        "parse successful\n"
    );
    node.kong("migrations bootstrap", 0);
    std::fs::write(
        &yml,
        "_format_version: '3.0'\nservices: [{name: s, host: h}]\n",
    )
    .unwrap();
    let imported = node.kong(&format!("config db_import {yml}"), 0);
    assert_eq!(
        imported,
        "parse successful, beginning import\nimport successful\n"
    );
    let out = node.path("out.yml");
    node.kong(&format!("config db_export {out}"), 0);
    assert!(std::fs::read_to_string(&out).unwrap().contains("name: s"));
    std::fs::write(&yml, "_format_version: '3.0'\nthings: []\n").unwrap();
    let wrong = node.kong(&format!("config parse {yml}"), 1);
    assert!(wrong.contains("things: unknown field"), "{wrong}");
}
