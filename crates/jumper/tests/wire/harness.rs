//! A token gateway, its provider, and calls to it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use o28m_core::{Ambient, Clock, Rng, Timestamp};
use o28m_issuer::Issuer;
use o28m_jose::slots::{KeyRing, SharedKeys, Slot, Slots};
use o28m_jose::{Algorithm, CompactJws, JwkSet, SigningKey, VerifyingKey, base64url, x509};
use o28m_jumper::{Jumper, Settings};
use o28m_net::client::{Pool, Target, Timeouts};
use o28m_net::server::{HeadLimits, Listener, serve};
use o28m_net::{Body, BoxFuture, Connection, HttpService, Scheme};
use o28m_telemetry::metrics::Registry;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) const NOW_S: i64 = 1_789_000_000;
pub(crate) const CONSUMER: &str = "eni--local-team--local-app";
pub(crate) const ISSUER_URL: &str = "https://gw.example.com/auth/realms";

pub(crate) struct FakeClock(AtomicI64);

impl FakeClock {
    pub(crate) fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1000, Ordering::Relaxed);
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }
}

struct Random;

impl Rng for Random {
    fn fill(&self, bytes: &mut [u8]) {
        SystemRandom::new().fill(bytes).unwrap();
    }
}

/// Two slots for the whole test process: making RSA keys is slow.
pub(crate) fn slot(at: usize) -> Slot {
    static SLOTS: OnceLock<Vec<Slot>> = OnceLock::new();
    let slots = SLOTS.get_or_init(|| {
        let make = |kid: &str| {
            let der = SigningKey::generate_pkcs8(Algorithm::RS256).unwrap();
            let made = x509::self_signed(&der, "gateway", &[], 2100).unwrap();
            Slot {
                kid: kid.to_owned(),
                certificate: made.certificate_pem,
                key: Some(made.key_pem),
            }
        };
        vec![make("first"), make("second")]
    });
    slots[at].clone()
}

pub(crate) fn ring(active: usize, previous: Option<&KeyRing>) -> KeyRing {
    let slots = Slots {
        active: Some(slot(active)),
        ..Slots::default()
    };
    KeyRing::new(slots, previous)
}

pub(crate) type Received = Request<Bytes>;
type Script = Box<dyn Fn(&Received) -> Response<Bytes> + Send + Sync>;

/// A server that a test scripts and whose requests it reads.
pub(crate) struct Peer {
    address: SocketAddr,
    service: Arc<PeerService>,
    _stop: DropGuard,
}

struct PeerService {
    script: Script,
    received: Mutex<Vec<Received>>,
}

impl HttpService for PeerService {
    fn call<'a>(
        &'a self,
        request: Request<Body>,
        _: &'a Connection,
    ) -> BoxFuture<'a, Response<Body>> {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect(64 * 1024 * 1024).await.unwrap();
            let request = Request::from_parts(parts, body);
            let response = (self.script)(&request);
            self.received.lock().unwrap().push(request);
            response.map(Body::full)
        })
    }
}

fn listen(service: Arc<dyn HttpService>) -> (SocketAddr, DropGuard) {
    listen_at(
        Listener::bind("test", SocketAddr::from(([127, 0, 0, 1], 0))).unwrap(),
        service,
    )
}

fn listen_at(listener: Listener, service: Arc<dyn HttpService>) -> (SocketAddr, DropGuard) {
    let address = listener.address();
    let limits = HeadLimits {
        line_bytes_max: 256 * 1024,
        head_bytes_max: 256 * 1024,
        lines_max: 1000,
    };
    let stop = CancellationToken::new();
    let serving = serve(
        listener,
        service,
        Pool::new(),
        limits,
        stop.clone(),
        stop.clone(),
    );
    tokio::spawn(serving);
    (address, stop.drop_guard())
}

impl Peer {
    pub(crate) fn start(
        script: impl Fn(&Received) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        let service = Arc::new(PeerService {
            script: Box::new(script),
            received: Mutex::default(),
        });
        let (address, stop) = listen(service.clone());
        Self {
            address,
            service,
            _stop: stop,
        }
    }

    /// Speaks TLS with a certificate that nobody knows.
    pub(crate) fn tls() -> Self {
        let service = Arc::new(PeerService {
            script: Box::new(|_| Response::new(Bytes::new())),
            received: Mutex::default(),
        });
        let slot = slot(0);
        let (certificate, key) = (slot.certificate, slot.key.unwrap());
        let config = o28m_net::tls::server_config(certificate.as_bytes(), key.as_bytes());
        let mut listener = Listener::bind("test", SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        listener.tls = Some(config.unwrap());
        let (address, stop) = listen_at(listener, service.clone());
        Self {
            address,
            service,
            _stop: stop,
        }
    }

    pub(crate) fn ok() -> Self {
        Self::start(|_| Response::new(Bytes::from_static(b"ok")))
    }

    /// Answers with JSON.
    pub(crate) fn json(status: u16, body: Value) -> Self {
        Self::start(move |_| {
            let mut response = Response::new(Bytes::from(body.to_string()));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert("content-type", json);
            response
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn take(&self) -> Vec<Received> {
        std::mem::take(&mut *self.service.received.lock().unwrap())
    }

    /// The only request since the last look.
    pub(crate) fn only(&self) -> Received {
        let mut received = self.take();
        assert_eq!(received.len(), 1);
        received.remove(0)
    }
}

/// A server that reads a head and then behaves badly.
pub(crate) struct RawPeer {
    pub(crate) address: SocketAddr,
    pub(crate) calls: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl RawPeer {
    /// Closes the connection when `closes`, else says nothing.
    pub(crate) async fn start(closes: bool) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let task = tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut head = [0; 64 * 1024];
                if socket.read(&mut head).await.unwrap_or(0) > 0 {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
                if !closes {
                    open.push(socket);
                }
            }
        });
        Self {
            address,
            calls,
            task,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

impl Drop for RawPeer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A URL nobody listens at.
pub(crate) fn closed_url() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// A request to the token gateway.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

impl Call {
    pub(crate) fn get(target: &str) -> Self {
        Self {
            method: Method::GET,
            target: target.to_owned(),
            headers: vec![("host".to_owned(), "localhost:8080".to_owned())],
            body: Bytes::new(),
        }
    }

    pub(crate) fn at(mut self, target: &str) -> Self {
        self.target = target.to_owned();
        self
    }

    pub(crate) fn post(mut self, content_type: &str, body: &str) -> Self {
        self.method = Method::POST;
        self.body = Bytes::from(body.to_owned());
        self.with("content-type", content_type)
    }

    /// Replaces a header.
    pub(crate) fn with(self, name: &str, value: &str) -> Self {
        self.without(name).and(name, value)
    }

    /// Adds a line.
    pub(crate) fn and(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(other, _)| other != name);
        self
    }

    /// Replaces a header by base64 of JSON.
    pub(crate) fn config(self, value: Value) -> Self {
        self.with("jumper_config", &STANDARD.encode(value.to_string()))
    }

    pub(crate) fn routing(self, value: Value) -> Self {
        let encoded = STANDARD.encode(value.to_string());
        self.without("remote_api_url")
            .without("jumper_config")
            .with("routing_config", &encoded)
    }

    pub(crate) fn token(self, token: &str) -> Self {
        self.with("authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn request(&self) -> Request<Body> {
        let mut request = Request::new(Body::full(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.target.parse().unwrap();
        for (name, value) in &self.headers {
            let name = HeaderName::try_from(name.as_str()).unwrap();
            let value = HeaderValue::from_str(value).unwrap();
            request.headers_mut().append(name, value);
        }
        request
    }
}

/// A response, read.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    async fn of(response: Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        Self {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: body.collect(64 * 1024 * 1024).await.unwrap(),
        }
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn message(&self) -> String {
        self.json()["message"].as_str().unwrap().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        header(&self.headers, name)
    }
}

/// The first value of a header, empty when absent.
pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

pub(crate) fn timeouts() -> Timeouts {
    let long = Duration::from_secs(30);
    Timeouts {
        connect: long,
        write: long,
        read: long,
    }
}

pub(crate) fn target(address: SocketAddr) -> Target {
    Target {
        scheme: Scheme::Http,
        host: address.ip().to_string().into(),
        port: address.port(),
        tls: Default::default(),
    }
}

/// A token gateway and its provider.
pub(crate) struct World {
    pub(crate) jumper: Arc<Jumper>,
    pub(crate) provider: Peer,
    pub(crate) keys: SharedKeys,
    pub(crate) clock: Arc<FakeClock>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) registry: Registry,
    pub(crate) address: SocketAddr,
    _stop: DropGuard,
}

impl World {
    pub(crate) fn start() -> Self {
        Self::start_with(|_| {})
    }

    pub(crate) fn in_zone(zone: &str) -> Self {
        Self::start_with(|settings| settings.zone = zone.to_owned())
    }

    pub(crate) fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        let clock = Arc::new(FakeClock(AtomicI64::new(NOW_S * 1000)));
        let ambient = Ambient {
            clock: clock.clone(),
            rng: Arc::new(Random),
        };
        let keys: SharedKeys = Arc::new(arc_swap::ArcSwap::from_pointee(ring(0, None)));
        let mut settings = Settings {
            issuer_url: ISSUER_URL.to_owned(),
            stargate_url: "https://gw.example.com".to_owned(),
            ..Settings::default()
        };
        change(&mut settings);
        let registry = Registry::default();
        let jumper = Jumper::new(settings, keys.clone(), &registry, ambient);
        let jumper = Arc::new(jumper);
        let (address, stop) = listen(jumper.clone());
        Self {
            jumper,
            provider: Peer::ok(),
            keys,
            clock,
            pool: Pool::new(),
            registry,
            address,
            _stop: stop,
        }
    }

    /// The incoming token, with members changed; null removes one.
    pub(crate) fn token(&self, changes: Value) -> String {
        let mut claims = json!({
            "clientId": CONSUMER, "originZone": "localZone",
            "originStargate": "https://zone.example.com", "sub": "6c0",
            "exp": NOW_S + 300, "iat": NOW_S,
        });
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let claims = claims.as_object_mut().unwrap();
        claims.retain(|_, value| !value.is_null());
        let payload = serde_json::to_vec(claims).unwrap();
        format!("e30.{}.c2ln", base64url(&payload))
    }

    /// The headers of a real route.
    pub(crate) fn real(&self) -> Call {
        Call::get("/proxy/callback")
            .with("remote_api_url", &self.provider.url())
            .with("api_base_path", "/eni/test/v1")
            .with("environment", "localEnv")
            .with("realm", "default")
            .with("access_token_forwarding", "false")
            .with("jumper_config", "e30=")
            .token(&self.token(json!({})))
    }

    pub(crate) async fn call(&self, call: &Call) -> Reply {
        let (target, timeouts) = (target(self.address), timeouts());
        let sent = self.pool.send(&target, call.request(), &timeouts);
        Reply::of(sent.await.unwrap()).await
    }

    /// The connection of the gateway's in-process door.
    pub(crate) fn door(&self) -> Connection {
        Connection {
            scheme: Scheme::Https,
            in_process: true,
            ..Connection::plain(
                SocketAddr::from(([192, 0, 2, 7], 4711)),
                self.address,
                self.pool.clone(),
            )
        }
    }

    pub(crate) async fn call_in_process(&self, call: &Call) -> Reply {
        let door = self.door();
        Reply::of(self.jumper.call(call.request(), &door).await).await
    }

    /// Calls, expects 200 and gives what the provider got.
    pub(crate) async fn forwarded(&self, call: &Call) -> Received {
        let _ = self.call(call).await.expect(200);
        self.provider.only()
    }

    /// Calls and gives the verified claims that the provider got.
    pub(crate) async fn claims(&self, call: &Call) -> Value {
        let received = self.forwarded(call).await;
        self.verified(&received).await
    }

    /// Verifies the token of a request with the issuer's published keys, as a provider does.
    pub(crate) async fn verified(&self, request: &Received) -> Value {
        let token = header(request.headers(), "authorization");
        let jws = CompactJws::parse(token.strip_prefix("Bearer ").unwrap()).unwrap();
        let settings = o28m_issuer::Settings {
            base_path: "/api/v1".to_owned(),
            ..Default::default()
        };
        let issuer = Issuer::new(settings, self.keys.clone());
        let call = Call::get("/api/v1/certs/default").request();
        let door = self.door();
        let reply = Reply::of(issuer.call(call, &door).await).await;
        let keys: JwkSet = serde_json::from_slice(&reply.body).unwrap();
        let header: Value = serde_json::from_slice(&jws.header).unwrap();
        assert_eq!(header["typ"], "JWT");
        let key = keys.by_kid(header["kid"].as_str().unwrap()).unwrap();
        let key = VerifyingKey::from_jwk(key, Algorithm::RS256).unwrap();
        key.verify(jws.signing_input.as_bytes(), &jws.signature)
            .unwrap();
        serde_json::from_slice(&jws.payload).unwrap()
    }

    /// The value of a metric without labels.
    pub(crate) fn metric(&self, name: &str) -> String {
        let text = self.registry.render();
        let line = text
            .lines()
            .find(|line| line.split(['{', ' ']).next() == Some(name));
        line.unwrap_or_default()
            .rsplit(' ')
            .next()
            .unwrap()
            .to_owned()
    }
}
