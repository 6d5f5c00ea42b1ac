//! The program itself: start, kill, restart, exit codes, and what a taken port or a bad directory says.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the helpers of these tests fail the test"
)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
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

/// An offset that keeps every listener of `up` clear of other tests: each test has its own.
const OFFSETS: [u16; 4] = [31_000, 32_000, 33_000, 34_000];

#[test]
fn a_kill_at_any_moment_leaves_a_directory_that_starts_again() {
    let dir = tempfile::tempdir().unwrap();
    for delay_ms in [0, 20, 60, 120, 250, 500] {
        let killed = Up::start(dir.path(), OFFSETS[0]);
        std::thread::park_timeout(Duration::from_millis(delay_ms));
        drop(killed);
    }
    let mut up = Up::start(dir.path(), OFFSETS[0]);
    let announcement = up.announced();
    assert!(announcement.contains("/auth"), "{announcement}");
    let credentials = std::fs::read_to_string(dir.path().join("credentials.env")).unwrap();
    up.signal("KILL");
    let _code = up.exit_code();
    let mut again = Up::start(dir.path(), OFFSETS[0]);
    let _ = again.announced();
    let after = std::fs::read_to_string(dir.path().join("credentials.env")).unwrap();
    assert_eq!(credentials, after, "secrets survive a kill");
    again.signal("TERM");
    assert_eq!(again.exit_code(), Some(0), "a drained stop is a success");
}

#[test]
fn a_taken_port_is_named_and_nothing_starts() {
    let dir = tempfile::tempdir().unwrap();
    let _taken = TcpListener::bind(("127.0.0.1", 8001 + OFFSETS[1])).unwrap();
    let output = run(&[
        "up",
        "--data-dir",
        dir.path().to_str().unwrap(),
        "--port-offset",
        &OFFSETS[1].to_string(),
    ]);
    assert_eq!(output.status.code(), Some(1));
    let errors = text(&output.stderr);
    let port = format!("127.0.0.1:{}", 8001 + OFFSETS[1]);
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
    let offset = OFFSETS[2].to_string();
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
