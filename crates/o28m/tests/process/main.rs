//! The program itself: start, kill, restart, exit codes, and what a taken port or a bad directory says.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the helpers of these tests fail the test"
)]

mod environment;
mod import;
mod kong;
mod settings;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// How long a start may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

fn o28m() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_o28m"));
    // The program reads the environment; that of the test run is not meant for it.
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    o28m().args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `o28m up` on a range of ports of its own.
struct Up(Child);

impl Up {
    fn start(dir: &Path, offset: u16) -> Self {
        let mut command = o28m();
        command
            .arg("up")
            .arg("--data-dir")
            .arg(dir)
            .args(["--port-offset", &offset.to_string()]);
        command
            .env("O28M_NODE__WORKER_THREADS", "1")
            .env("O28M_LOG__LEVEL", "warn");
        Self(
            command
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        )
    }

    /// Waits for the announcement on standard output; gives everything printed until it ends.
    fn announced(&mut self) -> String {
        let mut lines = BufReader::new(self.0.stdout.as_mut().unwrap());
        let mut announcement = String::new();
        while lines.read_line(&mut announcement).unwrap() > 0 {
            if announcement.ends_with("consumers\n") {
                return announcement;
            }
        }
        let mut errors = String::new();
        let _read = self.0.stderr.as_mut().unwrap().read_to_string(&mut errors);
        panic!("it ended instead of starting: {announcement}{errors}");
    }

    fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    fn exit_code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

/// The ports `up` listens on before the offset is added.
const PORTS: [u16; 9] = [8000, 8443, 8001, 8100, 9542, 8080, 8081, 8180, 9000];

/// An offset under which all of them are free: below the range from which the operating system takes
/// ports for outgoing connections, and another one for each call.
fn free_offset() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(2_000);
    loop {
        let offset = NEXT.fetch_add(53, Ordering::Relaxed);
        assert!(offset < 22_000, "no free range of ports");
        // Asked by connecting: a socket bound to find out could live on for a moment in a child that
        // another test is just starting.
        let free = |port: &u16| TcpStream::connect(("127.0.0.1", port + offset)).is_err();
        if PORTS.iter().all(free) {
            return offset;
        }
    }
}

#[test]
fn a_kill_at_any_moment_leaves_a_directory_that_starts_again() {
    let dir = tempfile::tempdir().unwrap();
    let offset = free_offset();
    for delay_ms in [0, 20, 60, 120, 250, 500] {
        let killed = Up::start(dir.path(), offset);
        std::thread::park_timeout(Duration::from_millis(delay_ms));
        drop(killed);
    }
    let mut up = Up::start(dir.path(), offset);
    let announcement = up.announced();
    assert!(announcement.contains("/auth"), "{announcement}");
    let credentials = std::fs::read_to_string(dir.path().join("credentials.env")).unwrap();
    up.signal("KILL");
    let _code = up.exit_code();
    let mut again = Up::start(dir.path(), offset);
    let _ = again.announced();
    let after = std::fs::read_to_string(dir.path().join("credentials.env")).unwrap();
    assert_eq!(credentials, after, "secrets survive a kill");
    again.signal("TERM");
    assert_eq!(again.exit_code(), Some(0), "a drained stop is a success");
}

#[test]
fn a_taken_port_is_named_and_nothing_starts() {
    let dir = tempfile::tempdir().unwrap();
    let offset = free_offset();
    let _taken = TcpListener::bind(("127.0.0.1", 8001 + offset)).unwrap();
    let output = run(&[
        "up",
        "--data-dir",
        dir.path().to_str().unwrap(),
        "--port-offset",
        &offset.to_string(),
    ]);
    assert_eq!(output.status.code(), Some(1));
    let errors = text(&output.stderr);
    let port = format!("127.0.0.1:{}", 8001 + offset);
    assert!(
        errors.contains("admin") && errors.contains(&port),
        "{errors}"
    );
    assert!(!dir.path().join("o28m.db").exists(), "no database was made");
}

#[test]
fn an_unusable_data_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "not a directory").unwrap();
    let offset = free_offset().to_string();
    let output = run(&[
        "up",
        "--data-dir",
        file.to_str().unwrap(),
        "--port-offset",
        &offset,
    ]);
    assert_eq!(output.status.code(), Some(1));
    let errors = text(&output.stderr);
    assert!(errors.contains("cannot use data directory"), "{errors}");

    let broken = dir.path().join("broken");
    std::fs::create_dir(&broken).unwrap();
    std::fs::write(
        broken.join("o28m.db"),
        "this is no SQLite file, however long it may be",
    )
    .unwrap();
    let output = run(&[
        "up",
        "--data-dir",
        broken.to_str().unwrap(),
        "--port-offset",
        &offset,
    ]);
    assert_eq!(output.status.code(), Some(1));
    let errors = text(&output.stderr);
    assert!(errors.contains("database"), "{errors}");
}

#[test]
fn wrong_usage_and_wrong_configuration_have_their_own_exit_codes() {
    assert_eq!(run(&["nonsense"]).status.code(), Some(2));
    assert_eq!(
        run(&["config", "explain", "no.such.key"]).status.code(),
        Some(2)
    );
    let output = o28m()
        .args(["config", "check"])
        .env("O28M_NO__SUCH", "1")
        .output()
        .unwrap();
    assert_ne!(output.status.code(), Some(0));
    assert!(
        text(&output.stderr).contains("O28M_NO__SUCH"),
        "{}",
        text(&output.stderr)
    );
    let version = run(&["version", "-o", "json"]);
    assert_eq!(version.status.code(), Some(0));
    assert!(text(&version.stdout).contains("\"kong\""));
}

#[test]
fn an_admin_api_without_users_is_not_bound_where_others_can_reach_it() {
    let dir = tempfile::tempdir().unwrap();
    let output = o28m()
        .args(["serve", "--roles", "admin"])
        .env("O28M_ADMIN__LISTEN", "0.0.0.0:0")
        .env(
            "O28M_DATABASE__URL",
            format!("sqlite://{}/o28m.db", dir.path().display()),
        )
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("admin.htpasswd_file"),
        "{}",
        text(&output.stderr)
    );
}

/// One request without a body over a connection of its own; the whole answer, empty when there is none.
fn get(port: u16, path: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
        return String::new();
    };
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    let _reset = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn serve_runs_only_the_roles_it_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let offset = free_offset();
    let [status, metrics, identity, management] = [8100, 9542, 8180, 9000].map(|it| it + offset);
    let listen = |port: u16| format!("127.0.0.1:{port}");
    let mut command = o28m();
    command.args(["serve", "--roles", "identity"]);
    command.env(
        "O28M_DATABASE__URL",
        format!("sqlite://{}/o28m.db", dir.path().display()),
    );
    command.env("O28M_STATUS__LISTEN", listen(status));
    command.env("O28M_METRICS__LISTEN", listen(metrics));
    command.env("O28M_IDENTITY__LISTEN", listen(identity));
    command.env("O28M_IDENTITY__MANAGEMENT_LISTEN", listen(management));
    command.env("KC_HOSTNAME", "https://iris.example.com/auth");
    let mut serving = Up(command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap());
    let deadline = Instant::now() + PATIENCE;
    while !get(status, "/status/ready").starts_with("HTTP/1.1 200") {
        assert!(Instant::now() < deadline, "it does not become ready");
        std::thread::park_timeout(Duration::from_millis(10));
    }
    let discovery = get(
        identity,
        "/auth/realms/master/.well-known/openid-configuration",
    );
    assert!(
        discovery.contains("\"issuer\":\"https://iris.example.com/auth/realms/master\""),
        "{discovery}"
    );
    assert!(
        get(identity, "/auth/realms/default").starts_with("HTTP/1.1 404"),
        "nothing was created unasked"
    );
    assert!(get(management, "/auth/health/ready").starts_with("HTTP/1.1 200"));
    assert!(get(metrics, "/metrics").contains("http_server_requests_seconds"));
    serving.signal("TERM");
    assert_eq!(serving.exit_code(), Some(0));
}

#[test]
fn signing_keys_in_the_database_are_rotated_when_they_are_old() {
    let dir = tempfile::tempdir().unwrap();
    let offset = free_offset();
    let [status, metrics, issuer] = [8100, 9542, 8081].map(|it| it + offset);
    let listen = |port: u16| format!("127.0.0.1:{port}");
    let mut command = o28m();
    command.args(["serve", "--roles", "issuer"]);
    command.env(
        "O28M_DATABASE__URL",
        format!("sqlite://{}/o28m.db", dir.path().display()),
    );
    command.env("O28M_STATUS__LISTEN", listen(status));
    command.env("O28M_METRICS__LISTEN", listen(metrics));
    command.env("O28M_ISSUER__LISTEN", listen(issuer));
    command.env("O28M_KEYS__ROTATION_INTERVAL", "1s");
    let _serving = Up(command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap());
    let deadline = Instant::now() + PATIENCE;
    // At first one key is in all three slots, after two rotations there is another one in each.
    loop {
        let answer = get(issuer, "/api/v1/certs/default");
        if answer.starts_with("HTTP/1.1 200") && answer.matches("\"kid\"").count() == 3 {
            break;
        }
        assert!(Instant::now() < deadline, "{answer}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn htpasswd_lines_verify_and_keys_rotate() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("htpasswd");
    for scheme in ["bcrypt", "apr1", "sha", "ssha"] {
        let line = run(&["htpasswd", "admin", "hunter2", "--scheme", scheme]);
        assert_eq!(line.status.code(), Some(0), "{scheme}");
        std::fs::write(&file, &line.stdout).unwrap();
        let path = file.to_str().unwrap();
        let right = run(&["htpasswd", "admin", "hunter2", "--verify", path]);
        let wrong = run(&["htpasswd", "admin", "hunter3", "--verify", path]);
        assert_eq!(
            (right.status.code(), wrong.status.code()),
            (Some(0), Some(3)),
            "{scheme}"
        );
    }

    let keys = dir.path().join("keys");
    let keys = keys.to_str().unwrap();
    assert_eq!(
        run(&["keys", "generate", "--cn", "gw", "--out", keys])
            .status
            .code(),
        Some(0)
    );
    assert_eq!(
        run(&["keys", "generate", "--cn", "gw", "--out", keys])
            .status
            .code(),
        Some(4)
    );
    let before = text(&run(&["keys", "show", "--dir", keys, "-o", "json"]).stdout);
    assert_eq!(
        run(&["keys", "rotate", "--dir", keys]).status.code(),
        Some(0)
    );
    let after = text(&run(&["keys", "show", "--dir", keys, "-o", "json"]).stdout);
    assert_ne!(before, after);
    assert_eq!(after.matches("kid").count(), 3, "{after}");
    assert_eq!(
        run(&["keys", "show", "--dir", keys, "--check"])
            .status
            .code(),
        Some(0)
    );
}
