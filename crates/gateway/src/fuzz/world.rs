//! A gateway with a few routes and an upstream that keeps what it is sent, on one thread.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http::{Response, StatusCode};
use o28m_core::{Ambient, Clock, Rng, Timestamp};
use o28m_net::Body;
use o28m_net::client::Pool;
use o28m_net::server::{Limits, Listener, serve_with};
use o28m_telemetry::metrics::Registry;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use super::recorder::{Record, record};
use crate::{Access, BadConfig, Exchange, Gateway, Plugin, PluginKind, Settings, Verdict};

/// Everything an input runs in.
pub(super) struct World {
    pub(super) runtime: Runtime,
    pub(super) gateway: Arc<Gateway>,
    /// The gateway's.
    pub(super) address: SocketAddr,
    /// The upstream's, as `Host` says it.
    pub(super) upstream_host: String,
    /// What the upstream was sent.
    pub(super) record: Arc<Mutex<Record>>,
}

/// What the client must send to be let through to `/guarded`.
pub(super) const KEY: (&str, &str) = ("apikey", "key");

impl World {
    pub(super) fn new() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let socket = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        socket.set_nonblocking(true)?;
        let upstream = socket.local_addr()?;
        let record_of = Arc::new(Mutex::new(Record::default()));
        tokio::spawn(record(TcpListener::from_std(socket)?, record_of.clone()));
        let gateway = Gateway::new(
            Settings::default(),
            vec![Arc::new(Guard)],
            Vec::new(),
            &Registry::default(),
            ambient(),
        );
        let gateway = gateway.map_err(io::Error::other)?;
        gateway.shared.feed.put(documents(upstream.port()));
        let listener = Listener::bind("proxy", ([127, 0, 0, 1], 0).into());
        let listener = listener.map_err(io::Error::other)?;
        let address = listener.address();
        tokio::spawn(serve_with(
            listener,
            gateway.clone(),
            Pool::new(),
            Limits::default(),
            CancellationToken::new(),
            CancellationToken::new(),
        ));
        drop(entered);
        Ok(Self {
            runtime,
            gateway,
            address,
            upstream_host: upstream.to_string(),
            record: record_of,
        })
    }

    /// What the upstream was sent since this was last asked.
    pub(super) fn take_record(&self) -> Record {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *record)
    }
}

fn id(kind: u32, number: usize) -> String {
    format!("0000000{kind}-0000-4000-8000-{number:012}")
}

/// A service and a route of that name each: `/open` and `/live` (whose bodies pass as they come) for
/// everybody, `/guarded` for those with the key, `/host` for one host.
fn documents(port: u16) -> Vec<(&'static str, Value)> {
    let mut documents = Vec::new();
    let routes = ["open", "live", "guarded", "host"];
    for (number, name) in routes.into_iter().enumerate() {
        let hosts = (name == "host").then(|| json!(["secret.example"]));
        documents.push((
            "services",
            json!({
                "id": id(1, number), "name": name, "enabled": true, "protocol": "http",
                "host": "127.0.0.1", "port": port, "path": format!("/s-{name}"), "retries": 0,
                "connect_timeout": 5000, "write_timeout": 5000, "read_timeout": 5000,
                "tls_verify": null, "ca_certificates": null,
            }),
        ));
        documents.push((
            "routes",
            json!({
                "id": id(2, number), "name": name, "protocols": ["http"], "methods": null,
                "hosts": hosts, "paths": [format!("/{name}")], "headers": null, "snis": null,
                "https_redirect_status_code": 426, "regex_priority": 0, "strip_path": true,
                "preserve_host": name == "host", "request_buffering": name != "live",
                "response_buffering": true, "service": {"id": id(1, number)},
            }),
        ));
        if name == "guarded" {
            documents.push((
                "plugins",
                json!({
                    "id": id(3, number), "name": "guard", "enabled": true, "config": {},
                    "service": null, "route": {"id": id(2, number)}, "consumer": null,
                }),
            ));
        }
    }
    documents
}

struct Guard;

impl PluginKind for Guard {
    fn name(&self) -> &'static str {
        "guard"
    }

    fn priority(&self) -> i32 {
        1000
    }

    fn configure(&self, _: &Value) -> Result<Arc<dyn Plugin>, BadConfig> {
        Ok(Arc::new(Self))
    }
}

impl Plugin for Guard {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        if exchange.header(KEY.0) == Some(KEY.1) {
            return Access::CONTINUE;
        }
        let mut response = Response::new(Body::full("no"));
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        Access::Now(Verdict::Respond(response))
    }
}

struct Fixed(AtomicU64);

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(1_700_000_000)
    }
}

impl Rng for Fixed {
    fn fill(&self, bytes: &mut [u8]) {
        let next = self.0.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        for (byte, value) in bytes.iter_mut().zip(next.iter().cycle()) {
            *byte = *value;
        }
    }
}

fn ambient() -> Ambient {
    let fixed = Arc::new(Fixed(AtomicU64::new(1)));
    Ambient {
        clock: fixed.clone(),
        rng: fixed,
    }
}
