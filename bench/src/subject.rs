//! What is measured: nginx, haproxy and `o28m`, each as a reverse proxy with keep-alive to the same
//! backend.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::process::Process;
use crate::scale::document;
use crate::scale::node::{self, Databases, Node};

/// Core of the proxy under test.
pub(crate) const PROXY_CORE: u32 = 0;
/// Core of backend and load generator.
pub(crate) const LOAD_CORE: u32 = 1;
/// How long a process may take to answer.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// What may be added to every port of the `o28m` under test: the first whose ports are free.
const PORT_OFFSETS: std::ops::Range<u16> = 21_000..21_100;
/// Ports that it listens on without an offset: proxy, Admin API, status.
const PORTS: [u16; 3] = [8000, 8001, 8100];

/// Path every subject has a route for; the backend sees `/`.
pub(crate) const PATH: &str = "/bench";
pub(crate) const NGINX: &str = "nginx";
pub(crate) const HAPROXY: &str = "haproxy";
pub(crate) const ONE_ROUTE: &str = "1 route";
pub(crate) const MANY_ROUTES: &str = "10k routes";

/// A proxy under test.
pub(crate) struct Subject {
    /// Name in the report.
    pub(crate) name: &'static str,
    /// The process that does the work.
    pub(crate) process: Process,
    /// Where it listens.
    pub(crate) port: u16,
}

/// The backend both proxies forward to.
pub(crate) struct Backend {
    /// Its port.
    pub(crate) port: u16,
    _process: Process,
}

/// Starts the backend: nginx that answers from memory.
pub(crate) fn backend(dir: &Path) -> Result<Backend> {
    let port = free_port()?;
    let server = format!(
        "server {{ listen 127.0.0.1:{port}; location / {{ default_type application/json; \
         return 200 '{{\"hello\":\"world\"}}'; }} }}"
    );
    let process = nginx(dir, "backend", LOAD_CORE, &server)?;
    wait_for(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        port,
    )?;
    Ok(Backend {
        port,
        _process: process,
    })
}

impl Subject {
    /// What the load generator asks for.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}{PATH}", self.port)
    }

    /// The subject, when it forwards to the backend.
    fn ready(name: &'static str, process: Process, port: u16) -> Result<Self> {
        let request = format!("GET {PATH} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        wait_for(&request, port)?;
        Ok(Self {
            name,
            process,
            port,
        })
    }

    /// nginx with the forwarding headers a gateway sets.
    pub(crate) fn nginx(dir: &Path, backend: u16) -> Result<Self> {
        let port = free_port()?;
        let server = format!(
            "upstream backend {{ server 127.0.0.1:{backend}; keepalive 512; }}\n\
             server {{ listen 127.0.0.1:{port}; location {PATH} {{ proxy_pass http://backend/;\n\
             proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
             proxy_set_header X-Real-IP $remote_addr;\n\
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n\
             proxy_set_header X-Forwarded-Proto $scheme;\n\
             proxy_set_header X-Forwarded-Host $host;\n\
             proxy_set_header X-Forwarded-Port $server_port; }} }}"
        );
        let process = nginx(dir, "nginx", PROXY_CORE, &server)?;
        Self::ready(NGINX, process, port)
    }

    /// haproxy with the same headers; `None` where it is not installed.
    pub(crate) fn haproxy(dir: &Path, backend: u16) -> Result<Option<Self>> {
        let mut version = Command::new("haproxy");
        version.arg("-v").stdout(Stdio::null());
        if version.status().is_err() {
            return Ok(None);
        }
        let port = free_port()?;
        let configuration = format!(
            "global\n  nbthread 1\n  maxconn 4096\n\
             defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  \
             option http-keep-alive\n  http-reuse always\n\
             frontend proxy\n  bind 127.0.0.1:{port}\n  \
             http-request set-header X-Real-IP %[src]\n  option forwardfor\n  \
             http-request set-header X-Forwarded-Proto http\n  \
             http-request set-header X-Forwarded-Host %[req.hdr(host)]\n  \
             http-request set-header X-Forwarded-Port %[dst_port]\n  \
             use_backend bench if {{ path_beg {PATH} }}\n\
             backend bench\n  http-request set-path /\n  server backend 127.0.0.1:{backend}\n"
        );
        let file = dir.join("haproxy.cfg");
        std::fs::write(&file, configuration)?;
        let file = file.display().to_string();
        let process = Process::start(Some(PROXY_CORE), &["haproxy", "-db", "-f", &file], &[])?;
        Self::ready(HAPROXY, process, port).map(Some)
    }

    /// A node of `o28m` with so many routes, one of them to the backend.
    pub(crate) fn routes(
        program: &Path,
        dir: &Path,
        backend: u16,
        name: &'static str,
        routes: usize,
    ) -> Result<Self> {
        let home = dir.join(format!("{routes}-routes"));
        std::fs::create_dir_all(&home)?;
        let file = home.join("configuration.json");
        document::write_plain(&file, routes, PATH, backend)?;
        let url = Databases::Sqlite.create(&home, "database")?;
        node::command(program, &url, &["migrate", "up"])?;
        node::command(
            program,
            &url,
            &["gateway", "import", &file.display().to_string()],
        )?;
        let node = Node::start(Some(PROXY_CORE), program, &url)?;
        Self::ready(name, node.process, node.proxy)
    }

    /// `o28m up`, every role in the process, with one route.
    pub(crate) fn o28m(program: &Path, dir: &Path, backend: u16) -> Result<Self> {
        let data = dir.join("o28m");
        let (program, data_dir) = (program.display().to_string(), data.display().to_string());
        let offset = free_offset()?;
        let [port, admin, status] = PORTS.map(|port| port + offset);
        let offset = offset.to_string();
        let command = [
            program.as_str(),
            "up",
            "--data-dir",
            &data_dir,
            "--port-offset",
            &offset,
        ];
        let environment = [
            ("O28M_NODE__WORKER_THREADS", "1"),
            ("O28M_LOG__LEVEL", "warn"),
        ];
        let process = Process::start(Some(PROXY_CORE), &command, &environment)?;
        let ready = "GET /status/ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        wait_for(ready, status)?;
        let credentials = std::fs::read_to_string(data.join("credentials.env"))?;
        let service = format!(r#"{{"url":"http://127.0.0.1:{backend}/"}}"#);
        put(admin, &credentials, "/services/bench", &service)?;
        put(
            admin,
            &credentials,
            "/services/bench/routes/bench",
            r#"{"paths":["/bench"]}"#,
        )?;
        Self::ready("o28m", process, port)
    }
}

/// Starts an nginx of one process, so that its accounting is the worker's.
fn nginx(dir: &Path, name: &str, core: u32, server: &str) -> Result<Process> {
    let home = dir.join(name);
    std::fs::create_dir_all(&home)?;
    let configuration = format!(
        "daemon off; master_process off; worker_processes 1; pid {home}/pid; error_log {home}/error.log;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; keepalive_requests 1000000; tcp_nodelay on;\n\
         client_body_temp_path {home}/body; proxy_temp_path {home}/proxy;\n\
         fastcgi_temp_path {home}/fastcgi; uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;\n\
         {server} }}\n",
        home = home.display()
    );
    let file = home.join("nginx.conf");
    std::fs::write(&file, configuration)?;
    let file = file.display().to_string();
    Process::start(Some(core), &["nginx", "-c", &file], &[])
}

/// Asks until the answer is 200.
fn wait_for(request: &str, port: u16) -> Result<()> {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        if let Ok(answer) = ask(request, port)
            && answer.starts_with("HTTP/1.1 200")
        {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!(
                "no answer on port {port} within {} s",
                START_TIMEOUT.as_secs()
            );
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

fn ask(request: &str, port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(START_TIMEOUT))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A `PUT` to the Admin API of the `o28m` under test.
fn put(port: u16, credentials: &str, path: &str, body: &str) -> Result<()> {
    let value = |key: &str| {
        let line = credentials.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|line| line.strip_prefix('='))
            .with_context(|| format!("{key} is not set"))
    };
    let user = value("GATEWAY_ADMIN_USERNAME")?;
    let basic = STANDARD.encode(format!("{user}:{}", value("GATEWAY_ADMIN_PASSWORD")?));
    let request = format!(
        "PUT {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Authorization: Basic {basic}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = ask(&request, port)?;
    if answer.starts_with("HTTP/1.1 200") {
        Ok(())
    } else {
        bail!("PUT {path}: {answer}")
    }
}

/// The ports of a process that is still there would be mistaken for those of the one under test.
fn free_offset() -> Result<u16> {
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let mut offsets = PORT_OFFSETS.step_by(10);
    let free = offsets.find(|offset| PORTS.iter().all(|port| is_free(port + offset)));
    free.context("the ports of o28m are in use")
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
