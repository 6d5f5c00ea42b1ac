//! `o28m gateway` on a database file, and a gateway without a database.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of these tests fail the test"
)]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use o28m::config::Sources;
use o28m::platform::{Bound, Platform};
use serde_json::Value;
use tempfile::TempDir;

const NESTED: &str = r#"
_format_version: "3.0"
services:
- name: s
  url: http://localhost:1
  routes:
  - name: r
    paths: [/x]
    plugins:
    - name: acl
      config: {allow: [g]}
"#;

/// A database file with its tables, and what runs the program on it.
struct Database(TempDir);

impl Database {
    fn new() -> Self {
        let database = Self(tempfile::tempdir().unwrap());
        assert!(database.run(&["migrate", "bootstrap"], "").status.success());
        database
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_o28m"))
            .args(arguments)
            .env_clear()
            .env(
                "O28M_DATABASE__URL",
                format!("sqlite://{}", self.path("test.db")),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        child.wait_with_output().unwrap()
    }

    /// Standard output of `o28m gateway …`, which must end with this code.
    #[track_caller]
    fn gateway(&self, arguments: &[&str], input: &str, code: i32) -> String {
        let mut all = vec!["gateway"];
        all.extend(arguments);
        let output = self.run(&all, input);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
        let printed = if code == 0 || output.stderr.is_empty() || !output.stdout.is_empty() {
            output.stdout
        } else {
            output.stderr
        };
        String::from_utf8_lossy(&printed).into_owned()
    }
}

#[test]
fn deployment_case_050_a_file_is_imported_whole_or_not_at_all() {
    let database = Database::new();
    let file = database.write("kong.yaml", NESTED);
    let changes = database.gateway(&["diff", &file], "", 3);
    assert_eq!(changes.lines().count(), 3, "{changes}");
    assert!(changes.starts_with("create services "), "{changes}");
    database.gateway(&["import", &file], "", 0);
    assert_eq!(database.gateway(&["diff", &file], "", 0), "");
    assert_eq!(database.gateway(&["diff", "--replace", &file], "", 0), "");
    let exported = database.gateway(&["export"], "", 0);
    assert!(
        exported.starts_with("_format_version: \"3.0\"\n"),
        "{exported}"
    );

    for (text, reason) in [
        (
            "services: [",
            "failed parsing declarative configuration: line ",
        ),
        (
            "_format_version: '3.0'\nthings: []",
            "things: unknown field",
        ),
        (
            "_format_version: '3.0'\nservices: [{name: new, host: h}]\nroutes: [{name: a, paths: [/]}, {name: a, paths: [/]}]",
            "routes[1]: uniqueness violation: 'routes' entity with name set to 'a' already declared",
        ),
    ] {
        let bad = database.write("bad.yaml", text);
        let errors = database.gateway(&["import", "--replace", &bad], "", 3);
        assert!(errors.contains(&bad) && errors.contains(reason), "{errors}");
    }
    assert_eq!(database.gateway(&["export"], "", 0), exported);
    let missing = database.path("missing.yaml");
    assert!(
        database
            .gateway(&["import", &missing], "", 1)
            .contains(&missing)
    );
}

#[test]
fn exports_go_to_files_and_imports_come_from_pipes() {
    let database = Database::new();
    let printed = database.gateway(&["import", "-", "-o", "json"], NESTED, 0);
    let printed: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(printed["changes"].as_array().unwrap().len(), 3);
    assert_eq!(printed["changes"][0]["action"], "create");
    let out = database.path("out.json");
    database.gateway(&["export", "--out", &out, "-o", "json"], "", 0);
    let exported = std::fs::read_to_string(&out).unwrap();
    let document: Value = serde_json::from_str(&exported).unwrap();
    assert_eq!(document["services"][0]["name"], "s");

    let other = Database::new();
    other.gateway(&["import", "--replace", &out], "", 0);
    let again = other.gateway(&["export", "-o", "json"], "", 0);
    assert_eq!(serde_json::from_str::<Value>(&again).unwrap(), document);
    let nothing = "_format_version: '3.0'";
    let changes = other.gateway(&["diff", "-", "--replace", "-o", "json"], nothing, 3);
    let changes: Value = serde_json::from_str(&changes).unwrap();
    assert_eq!(changes["changes"].as_array().unwrap().len(), 3);
    other.gateway(&["import", "-", "--replace"], nothing, 0);
    let empty = other.gateway(&["export"], "", 0);
    assert_eq!(empty, "_format_version: \"3.0\"\n_transform: false\n");
}

#[test]
fn a_database_without_tables_is_named() {
    let database = Database(tempfile::tempdir().unwrap());
    let errors = database.gateway(&["export"], "", 1);
    assert!(errors.contains("o28m migrate up"), "{errors}");
}

/// What a gateway is configured with that has no database.
fn sources(file: &Path) -> Sources {
    let environment = [
        ("KONG_DATABASE", "off"),
        ("KONG_DECLARATIVE_CONFIG", file.to_str().unwrap()),
        ("O28M_NODE__ROLES", "proxy,admin"),
        ("O28M_NODE__WORKER_THREADS", "1"),
        ("O28M_PROXY__LISTEN", "127.0.0.1:0"),
        ("O28M_ADMIN__LISTEN", "127.0.0.1:0"),
        ("O28M_STATUS__LISTEN", "off"),
        ("O28M_METRICS__LISTEN", "off"),
        // Nobody may need it.
        ("O28M_DATABASE__URL", "sqlite:///nonexistent/o28m.db"),
    ];
    Sources {
        file: None,
        environment: environment
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        command: BTreeMap::new(),
    }
}

fn request(address: SocketAddr, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    let text = format!(
        "{head} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: text/yaml\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// An upstream that answers one request with this status line.
fn upstream(status: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = [0; 4096];
        let _read = stream.read(&mut bytes).unwrap();
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        stream.write_all(answer.as_bytes()).unwrap();
    });
    address
}

fn routed_to(address: SocketAddr) -> String {
    format!(
        "_format_version: '3.0'\nservices:\n- name: s\n  url: http://{address}\n  routes: [{{name: r, paths: [/x]}}]\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_without_a_database_serves_its_file_and_takes_others() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kong.yaml");
    std::fs::write(&file, routed_to(upstream("201 Created"))).unwrap();
    let config = o28m::config::load(&sources(&file)).unwrap();
    let bound = Bound::bind(&config).unwrap();
    let (proxy, admin) = (
        bound.address("proxy").unwrap(),
        bound.address("admin").unwrap(),
    );
    let platform = Platform::prepare(config, o28m::ambient::system(), bound);
    let platform = platform.await.unwrap().start().await.unwrap();
    let asking = move || {
        let answer = request(proxy, "GET /x", "");
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
        let refused = request(admin, "DELETE /services/s", "");
        assert!(refused.starts_with("HTTP/1.1 405 "), "{refused}");
        let wrong = request(admin, "POST /config", "services: 1");
        assert!(wrong.starts_with("HTTP/1.1 400 "), "{wrong}");
        let loaded = request(admin, "POST /config", &routed_to(upstream("202 Accepted")));
        assert!(loaded.starts_with("HTTP/1.1 201 "), "{loaded}");
    };
    tokio::task::spawn_blocking(asking).await.unwrap();
    platform.applied().await.unwrap();
    let asking = move || request(proxy, "GET /x", "");
    let answer = tokio::task::spawn_blocking(asking).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    platform.shutdown().await;
}

#[tokio::test]
async fn a_wrong_file_ends_the_start_with_every_problem() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kong.yaml");
    std::fs::write(&file, "_format_version: '3.0'\nservices: [{name: a}]\nx: 1").unwrap();
    for roles in ["proxy,admin", "proxy"] {
        let mut sources = sources(&file);
        let own = ("O28M_NODE__ROLES".to_owned(), roles.to_owned());
        sources.environment.extend([own]);
        let config = o28m::config::load(&sources).unwrap();
        let bound = Bound::bind(&config).unwrap();
        let platform = Platform::prepare(config, o28m::ambient::system(), bound);
        let error = format!("{:#}", platform.await.err().unwrap());
        assert!(error.contains("kong.yaml"), "{error}");
        assert!(error.contains("required field missing"), "{error}");
        assert!(error.contains("unknown field"), "{error}");
    }
}

#[tokio::test]
async fn a_declarative_file_beside_a_database_is_an_error() {
    let mut sources = sources(Path::new("/some.yaml"));
    let own = ("KONG_DATABASE".to_owned(), "sqlite".to_owned());
    sources.environment.extend([own]);
    let config = o28m::config::load(&sources).unwrap();
    let bound = Bound::bind(&config).unwrap();
    let platform = Platform::prepare(config, o28m::ambient::system(), bound);
    let error = platform.await.err().unwrap().to_string();
    assert!(error.contains("gateway.declarative_file"), "{error}");
}
