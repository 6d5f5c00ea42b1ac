//! The harness: gateway, upstream, client, test plugins.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use o28m_core::{Ambient, Clock, Rng, Timestamp};
use o28m_gateway::{Gateway, LocalEngine, PluginKind, Settings};
use o28m_net::client::Pool;
use o28m_net::dns::Resolver;
use o28m_net::server::{HeadLimits, Limits, Listener, serve, serve_with};
use o28m_net::{Body, BoxFuture, Connection, HttpService};
use o28m_store::{MigrationStep, Object, Store, Write};
use o28m_telemetry::metrics::Registry;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("gave up waiting for {what}"))
}

/// Waits until `condition` holds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    patiently(what, wait).await;
}

struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(1_795_503_616)
    }
}

struct CountingRng(AtomicU64);

impl Rng for CountingRng {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let next = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
            let length = chunk.len();
            chunk.copy_from_slice(&next.to_be_bytes()[..length]);
        }
    }
}

pub(crate) fn ambient() -> Ambient {
    Ambient {
        clock: Arc::new(FixedClock),
        rng: Arc::new(CountingRng(AtomicU64::new(1))),
    }
}

/// Ids by name, so that tests read well.
pub(crate) fn id(name: &str) -> String {
    o28m_core::id::uuid_v5("6ba7b810-9dad-11d1-80b4-00c04fd430c8", name.as_bytes()).unwrap()
}

/// A document of defaults with `changes` over it.
fn with(mut document: Value, changes: Value) -> Value {
    for (key, value) in changes.as_object().unwrap() {
        document[key] = value.clone();
    }
    document
}

pub(crate) fn service(name: &str, port: u16, changes: Value) -> Value {
    let document = json!({
        "id": id(name), "name": name, "enabled": true, "protocol": "http", "host": "127.0.0.1", "port": port,
        "path": null, "retries": 5, "connect_timeout": 5000, "write_timeout": 20_000, "read_timeout": 20_000,
        "tls_verify": null, "ca_certificates": null,
    });
    with(document, changes)
}

/// A route, of service `service` where that is not empty.
pub(crate) fn route(name: &str, service: &str, changes: Value) -> Value {
    let reference = if service.is_empty() {
        Value::Null
    } else {
        json!({"id": id(service)})
    };
    let document = json!({
        "id": id(name), "name": name, "protocols": ["http", "https"], "methods": null, "hosts": null,
        "paths": null, "headers": null, "snis": null, "https_redirect_status_code": 426,
        "regex_priority": 0, "strip_path": true, "preserve_host": false, "request_buffering": true,
        "response_buffering": true, "service": reference,
    });
    with(document, changes)
}

pub(crate) fn plugin(id_of: &str, name: &str, config: Value, changes: Value) -> Value {
    let document = json!({
        "id": id(id_of), "name": name, "enabled": true, "config": config, "service": null, "route": null,
        "consumer": null,
    });
    with(document, changes)
}

/// What a gateway is started with.
#[derive(Default)]
pub(crate) struct Setup {
    pub(crate) settings: Settings,
    pub(crate) kinds: Vec<Arc<dyn PluginKind>>,
    pub(crate) engines: Vec<LocalEngine>,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    /// What clients are allowed.
    pub(crate) limits: Limits,
    /// Connections begin with a header of the PROXY protocol.
    pub(crate) proxy_protocol: bool,
    /// A migrated store; without one the gateway gets a SQLite file of its own.
    pub(crate) store: Option<Store>,
}

/// A running gateway.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) store: Store,
    pub(crate) metrics: Registry,
    _directory: tempfile::TempDir,
    _stop: DropGuard,
}

pub(crate) async fn start(setup: Setup) -> Running {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", directory.path().join("test.db").display());
    let store = match setup.store {
        Some(store) => store,
        None => open_store(url).await,
    };
    let metrics = Registry::default();
    let resolver = setup.settings.resolver.clone();
    let pool = Pool::with_resolver(
        o28m_net::client::PoolSettings::default(),
        resolver.unwrap_or_else(Resolver::shared),
    );
    let gateway = Gateway::new(
        setup.settings,
        setup.kinds,
        setup.engines,
        &metrics,
        ambient(),
    );
    let gateway = gateway.unwrap();
    gateway.load(&store).await.unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(gateway.clone().follow(store.clone(), stop.clone()));
    let mut listener = Listener::bind("proxy", ([127, 0, 0, 1], 0).into()).unwrap();
    listener.tls = setup.tls;
    listener.proxy_protocol = setup.proxy_protocol;
    let address = listener.address();
    tokio::spawn(serve_with(
        listener,
        gateway.clone(),
        pool,
        setup.limits,
        stop.clone(),
        stop.clone(),
    ));
    Running {
        address,
        gateway,
        store,
        metrics,
        _directory: directory,
        _stop: stop.drop_guard(),
    }
}

/// A store with tables.
pub(crate) async fn open_store(url: String) -> Store {
    let store = Store::open(&o28m_store::Settings {
        url,
        schema: "public".to_owned(),
        pool_max: 2,
        connect_timeout: Duration::from_secs(5),
        poll_interval: Duration::from_millis(50),
    })
    .await
    .unwrap();
    store.migrate(MigrationStep::Bootstrap).await.unwrap();
    store
}

/// A gateway with one service and one route for everything to `upstream`.
pub(crate) async fn start_for(upstream: &Upstream, setup: Setup) -> Running {
    let running = start(setup).await;
    let service = service("s", upstream.address.port(), json!({}));
    let route = route("r", "s", json!({"paths": ["/"]}));
    running
        .put(&[("services", service), ("routes", route)])
        .await;
    running
}

/// The steps that write documents.
pub(crate) fn upserts(documents: &[(&'static str, Value)]) -> Vec<Write> {
    let steps = documents.iter().map(|(kind, body)| {
        Write::Upsert(Object {
            kind,
            id: body["id"].as_str().unwrap().to_owned(),
            owner: String::new(),
            keys: Vec::new(),
            references: Vec::new(),
            tags: Vec::new(),
            body: body.clone(),
        })
    });
    steps.collect()
}

impl Running {
    /// Writes documents and waits until the gateway uses them.
    pub(crate) async fn put(&self, documents: &[(&'static str, Value)]) {
        self.write(upserts(documents)).await;
    }

    pub(crate) async fn delete(&self, kind: &'static str, name: &str) {
        let id = id(name);
        self.write(vec![Write::Delete { kind, id }]).await;
    }

    async fn write(&self, steps: Vec<Write>) {
        let version = self.store.write(steps).await.unwrap();
        self.applied(version).await;
    }

    /// Waits until the gateway uses this version.
    pub(crate) async fn applied(&self, version: i64) {
        let mut applied = self.gateway.applied();
        let wait = applied.wait_for(|it| *it >= version);
        patiently("the change", wait).await.unwrap();
    }

    /// Sends a head (without the final empty line) and gives the answer.
    pub(crate) async fn send(&self, head: &str) -> Reply {
        raw(
            self.address,
            format!("{head}\r\nConnection: close\r\n\r\n").as_bytes(),
        )
        .await
    }

    /// `GET` with a host.
    pub(crate) async fn get(&self, target: &str) -> Reply {
        self.send(&format!("GET {target} HTTP/1.1\r\nHost: a.example.com"))
            .await
    }
}

/// An answer as it was on the wire.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Reply {
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = first.split(' ').nth(1).and_then(|it| it.parse().ok());
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let chunked = headers.iter().any(|(name, _)| name == "transfer-encoding");
        Self {
            status: status.unwrap_or_else(|| panic!("no status in {text:?}")),
            headers,
            body: if chunked {
                dechunk(body)
            } else {
                body.to_owned()
            },
        }
    }

    /// Every value of a header, joined.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let values: Vec<_> = self.headers.iter().filter(|(key, _)| key == name).collect();
        let values: Vec<_> = values
            .into_iter()
            .map(|(_, value)| value.as_str())
            .collect();
        (!values.is_empty()).then(|| values.join("|"))
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

fn dechunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            break;
        }
        whole.push_str(&rest[..size]);
        body = &rest[size + 2..];
    }
    whole
}

/// Sends exactly these bytes and reads until the server closes.
pub(crate) async fn raw(address: SocketAddr, bytes: &[u8]) -> Reply {
    let talk = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let _refused_early = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _reset = stream.read_to_end(&mut answer).await;
        Reply::parse(&answer)
    };
    patiently("an answer", talk).await
}

pub(crate) async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let read = async {
        let mut text = Vec::new();
        while !String::from_utf8_lossy(&text).contains(end) {
            let mut byte = [0; 1];
            assert_ne!(
                stream.read(&mut byte).await.unwrap(),
                0,
                "closed before {end:?}"
            );
            text.extend_from_slice(&byte);
        }
        String::from_utf8_lossy(&text).into_owned()
    };
    patiently(end, read).await
}

/// A request that reached an upstream.
pub(crate) type Received = Request<Bytes>;

type Script = Box<dyn Fn(&Received) -> Response<Bytes> + Send + Sync>;

/// A well-behaved upstream whose answers are scripted.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    service: Arc<Scripted>,
    _stop: DropGuard,
}

/// Answers by a script and keeps what it was asked.
pub(crate) struct Scripted {
    script: Script,
    received: Mutex<Vec<Received>>,
}

impl Scripted {
    pub(crate) fn new(
        script: impl Fn(&Received) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            script: Box::new(script),
            received: Mutex::default(),
        })
    }

    pub(crate) fn take(&self) -> Vec<Received> {
        std::mem::take(&mut *self.received.lock().unwrap())
    }
}

impl HttpService for Scripted {
    fn call<'a>(
        &'a self,
        request: Request<Body>,
        _: &'a Connection,
    ) -> BoxFuture<'a, Response<Body>> {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect(64 * 1024 * 1024).await.unwrap_or_default();
            let request = Request::from_parts(parts, body);
            let response = (self.script)(&request);
            self.received.lock().unwrap().push(request);
            response.map(Body::full)
        })
    }
}

impl Upstream {
    pub(crate) fn start(
        script: impl Fn(&Received) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        Self::start_tls(None, script)
    }

    pub(crate) fn start_tls(
        tls: Option<Arc<rustls::ServerConfig>>,
        script: impl Fn(&Received) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        let mut listener = Listener::bind("upstream", ([127, 0, 0, 1], 0).into()).unwrap();
        listener.tls = tls;
        Self::serve(listener, script)
    }

    pub(crate) fn serve(
        listener: Listener,
        script: impl Fn(&Received) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        let address = listener.address();
        let service = Scripted::new(script);
        let stop = CancellationToken::new();
        tokio::spawn(serve(
            listener,
            service.clone(),
            Pool::new(),
            HeadLimits {
                head_bytes_max: 1024 * 1024,
                line_bytes_max: 512 * 1024,
                lines_max: 1000,
            },
            stop.clone(),
            stop.clone(),
        ));
        Self {
            address,
            service,
            _stop: stop.drop_guard(),
        }
    }

    pub(crate) fn ok() -> Self {
        Self::start(|_| Response::new(Bytes::from_static(b"hello")))
    }

    /// Every request so far, taken out.
    pub(crate) fn take(&self) -> Vec<Received> {
        self.service.take()
    }

    /// The only request so far.
    pub(crate) fn one(&self) -> Received {
        let mut received = self.take();
        assert_eq!(received.len(), 1, "{received:?}");
        received.remove(0)
    }
}

/// Every value of a header, joined.
pub(crate) fn header(request: &Received, name: &str) -> Option<String> {
    let values = request.headers().get_all(name).iter();
    let values: Vec<_> = values.map(|it| it.to_str().unwrap()).collect();
    (!values.is_empty()).then(|| values.join("|"))
}

/// An upstream that does what `behave` does with each connection, given its number from 0.
pub(crate) async fn misbehaving<F: Future<Output = ()> + Send + 'static>(
    behave: impl Fn(TcpStream, usize) -> F + Send + 'static,
) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicU64::new(0));
    let counter = count.clone();
    tokio::spawn(async move {
        for number in 0.. {
            let Ok((stream, _)) = listener.accept().await else {
                return;
            };
            counter.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(behave(stream, number));
        }
    });
    (address, count)
}
