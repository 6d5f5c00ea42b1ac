//! An Admin API on a real listener over a real database, and a client that sends what it is told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use o28m_core::{Ambient, Clock, Rng, Timestamp};
use o28m_gateway_admin::{AdminService, Settings};
use o28m_net::client::Pool;
use o28m_net::server::{self, HeadLimits, Listener};
use o28m_net::{Body, Connection, HttpService};
use o28m_store::{MigrationStep, Store};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Runs a test on SQLite and, where its server programs are found, on PostgreSQL.
macro_rules! on_every_database {
    (async fn $name:ident($admin:ident: Admin) $body:block) => {
        mod $name {
            use super::*;

            async fn run($admin: Admin) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                run(Admin::start().await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                if let Some(url) = o28m_store::testing::postgres_url().await {
                    run(Admin::on(&url).await).await;
                }
            }
        }
    };
}
pub(crate) use on_every_database;

/// A second passes with every look.
pub(crate) struct Ticking(AtomicI64);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

struct System;

impl Rng for System {
    fn fill(&self, bytes: &mut [u8]) {
        aws_lc_rs::rand::fill(bytes).unwrap();
    }
}

pub(crate) fn ambient() -> Ambient {
    Ambient {
        clock: Arc::new(Ticking(AtomicI64::new(1_700_000_000))),
        rng: Arc::new(System),
    }
}

/// Every plugin this build executes.
pub(crate) fn settings() -> Settings {
    Settings {
        enabled_plugins: o28m_kong::plugins()
            .iter()
            .map(|plugin| plugin.name.to_owned())
            .collect(),
        ..Settings::default()
    }
}

/// A store with its tables, and the directory of its file.
pub(crate) async fn store(url: Option<&str>) -> (Store, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let file = format!("sqlite://{}", dir.path().join("test.db").display());
    let settings = o28m_store::Settings {
        url: url.map_or(file, str::to_owned),
        schema: "public".to_owned(),
        pool_max: 8,
        connect_timeout: Duration::from_secs(30),
        poll_interval: Duration::from_secs(1),
    };
    let store = Store::open(&settings).await.unwrap();
    store.migrate(MigrationStep::Bootstrap).await.unwrap();
    (store, dir)
}

/// Serves on a free port until the guard is dropped.
pub(crate) fn serve(service: Arc<dyn HttpService>) -> (SocketAddr, DropGuard) {
    let listener = Listener::bind("admin", SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = listener.address();
    let stop = CancellationToken::new();
    let limits = HeadLimits {
        line_bytes_max: o28m_core::limits::HEAD_LINE_BYTES_MAX,
        head_bytes_max: o28m_core::limits::HEAD_BYTES_MAX,
        lines_max: o28m_core::limits::HEADER_LINES_MAX,
    };
    tokio::spawn(server::serve(
        listener,
        service,
        Pool::new(),
        limits,
        stop.clone(),
        stop.clone(),
    ));
    (address, stop.drop_guard())
}

/// Hands a request over inside the process, as the proxy does.
pub(crate) async fn in_process(
    service: &dyn HttpService,
    request: http::Request<Body>,
) -> http::Response<Body> {
    let local = SocketAddr::from(([127, 0, 0, 1], 8001));
    let connection = Connection {
        in_process: true,
        ..Connection::plain(local, local, Pool::new())
    };
    service.call(request, &connection).await
}

/// A running Admin API.
pub(crate) struct Admin {
    pub(crate) service: Arc<AdminService>,
    pub(crate) store: Store,
    address: SocketAddr,
    _dir: TempDir,
    _stop: DropGuard,
}

impl Admin {
    /// On a new SQLite file, without authentication.
    pub(crate) async fn start() -> Self {
        Self::with(None, settings()).await
    }

    /// On an empty database.
    pub(crate) async fn on(url: &str) -> Self {
        Self::with(Some(url), settings()).await
    }

    pub(crate) async fn with(url: Option<&str>, settings: Settings) -> Self {
        Self::announcing(url, settings, None).await
    }

    /// With a data plane that announces what it applied.
    pub(crate) async fn announcing(
        url: Option<&str>,
        settings: Settings,
        applied: Option<watch::Receiver<i64>>,
    ) -> Self {
        let (store, dir) = store(url).await;
        let service = AdminService::new(store.clone(), settings, applied, ambient());
        let (address, stop) = serve(Arc::clone(&service) as Arc<dyn HttpService>);
        Self {
            service,
            store,
            address,
            _dir: dir,
            _stop: stop,
        }
    }

    /// Sends a request with these header lines and body.
    pub(crate) async fn raw(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        send(self.address, method, path, headers, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.raw("GET", path, &[], b"").await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.raw("DELETE", path, &[], b"").await
    }

    pub(crate) async fn json(&self, method: &str, path: &str, body: Value) -> Reply {
        let headers = [("content-type", "application/json")];
        self.raw(method, path, &headers, body.to_string().as_bytes())
            .await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        self.json("POST", path, body).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Reply {
        self.json("PUT", path, body).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Reply {
        self.json("PATCH", path, body).await
    }

    pub(crate) async fn form(&self, method: &str, path: &str, body: &str) -> Reply {
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        self.raw(method, path, &headers, body.as_bytes()).await
    }
}

/// A request over a connection of its own.
pub(crate) async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Reply {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let is_sized = headers.iter().any(|(name, _)| *name == "content-length");
    if !is_sized && (!body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH")) {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    // A peer that refuses a body may close before it has read it.
    let _unread = stream.write_all(body).await;
    let mut bytes = Vec::new();
    let _reset = stream.read_to_end(&mut bytes).await;
    Reply::parse(&bytes)
}

/// A whole response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Reply {
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("{text}"));
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let headers = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Self {
            status: status.parse().unwrap(),
            headers,
            body: body.to_owned(),
        }
    }

    /// Asserts the status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn value(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The `message` member.
    #[track_caller]
    pub(crate) fn message(&self) -> String {
        self.value()["message"].as_str().unwrap().to_owned()
    }

    /// The header's value; empty when absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut headers = self.headers.iter();
        headers
            .find(|(own, _)| own == name)
            .map_or("", |(_, value)| value.as_str())
    }
}
