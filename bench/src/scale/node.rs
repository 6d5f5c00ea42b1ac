//! Databases and processes of `o28m` on them.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use o28m_store::testing::Server;

use super::http::Client;
use crate::process::{self, Process};

/// Limit for a start.
const START_TIMEOUT: Duration = Duration::from_secs(180);

/// What a server for production is set to, instead of the short cuts of one for tests.
const SERVER_SETTINGS: &[&str] = &[
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
    "shared_buffers=256MB",
    "max_wal_size=4GB",
];

/// Where databases are made.
pub(crate) enum Databases {
    /// Files in this directory.
    Sqlite,
    /// On a server of our own.
    Postgres(Server),
}

impl Databases {
    pub(crate) fn named(name: &str) -> Result<Self> {
        match name {
            "sqlite" => Ok(Self::Sqlite),
            "postgres" => {
                let server = Server::start_with(SERVER_SETTINGS);
                Ok(Self::Postgres(server.context(
                    "no PostgreSQL server in PATH or /usr/lib/postgresql",
                )?))
            }
            _ => bail!("--database must be sqlite or postgres"),
        }
    }

    pub(crate) const fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// The URL of a new database.
    pub(crate) fn create(&self, dir: &Path, name: &str) -> Result<String> {
        match self {
            Self::Sqlite => Ok(format!("sqlite://{}", dir.join(name).display())),
            Self::Postgres(server) => {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                Ok(runtime.block_on(server.create_database()))
            }
        }
    }
}

/// What a command that ended took.
pub(crate) struct Spent {
    pub(crate) time: Duration,
    pub(crate) cpu: Duration,
    /// Highest resident memory, in KiB.
    pub(crate) peak_kib: u64,
}

/// Runs a command of the program to its end.
pub(crate) fn command(program: &Path, database: &str, arguments: &[&str]) -> Result<Spent> {
    let started = Instant::now();
    let before = process::cpu_of_children();
    let mut child = Command::new(program)
        .args(arguments)
        .env("O28M_DATABASE__URL", database)
        .stdout(Stdio::null())
        .spawn()?;
    let mut peak_kib = 0;
    let status = loop {
        peak_kib = process::peak_kib(child.id()).max(peak_kib);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        super::pause(Duration::from_millis(5));
    };
    ensure!(status.success(), "{arguments:?} failed");
    Ok(Spent {
        time: started.elapsed(),
        cpu: process::cpu_of_children().saturating_sub(before),
        peak_kib,
    })
}

/// A process that serves proxy and Admin API.
pub(crate) struct Node {
    pub(crate) process: Process,
    pub(crate) proxy: u16,
    pub(crate) admin: u16,
    /// How long it took until it was ready.
    pub(crate) start: Duration,
    /// CPU time until then.
    pub(crate) start_cpu: Duration,
}

impl Node {
    /// Starts a node, on `core` only if there is one, and waits until it is ready.
    pub(crate) fn start(core: Option<u32>, program: &Path, database: &str) -> Result<Self> {
        let [proxy, admin, status, metrics] = free_ports()?;
        let listen = |port: u16| format!("127.0.0.1:{port}");
        let environment = [
            ("O28M_DATABASE__URL", database.to_owned()),
            ("O28M_NODE__ROLES", "proxy,admin".to_owned()),
            ("O28M_NODE__WORKER_THREADS", "1".to_owned()),
            ("O28M_LOG__LEVEL", "error".to_owned()),
            ("O28M_PROXY__LISTEN", listen(proxy)),
            ("O28M_ADMIN__LISTEN", listen(admin)),
            ("O28M_STATUS__LISTEN", listen(status)),
            ("O28M_METRICS__LISTEN", listen(metrics)),
        ];
        let environment: Vec<_> = environment.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let started = Instant::now();
        let program = program.display().to_string();
        let process = Process::start(core, &[&program, "serve"], &environment)?;
        let mut client = Client::new(status);
        while !client
            .get("/status/ready")
            .is_ok_and(|answer| answer.status == 200)
        {
            ensure!(started.elapsed() < START_TIMEOUT, "the node is not ready");
            super::pause(Duration::from_millis(2));
        }
        Ok(Self {
            start: started.elapsed(),
            start_cpu: process.cpu()?,
            process,
            proxy,
            admin,
        })
    }
}

pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut ports = [0; N];
    let mut held = Vec::new();
    for port in &mut ports {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}
