//! One identity provider on free ports, and a client for it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use o28m_core::{Ambient, Clock, Rng, Secret, Timestamp};
use o28m_iris::Iris;
use o28m_iris_http::Settings;
use o28m_net::client::{Pool, Timeouts, parse_url};
use o28m_net::server::{Listener, serve};
use o28m_net::{Body, BoxFuture, Connection, HttpService};
use o28m_store::{MigrationStep, Store};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A clock that moves when told to.
pub(crate) struct Manual(AtomicI64);

impl Clock for Manual {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(self.0.load(Ordering::SeqCst))
    }
}

impl Manual {
    pub(crate) fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

struct Random(SystemRandom);

impl Rng for Random {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.fill(bytes).unwrap();
    }
}

/// A whole response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn header_text(&self, name: &str) -> String {
        self.header(name).to_owned()
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(
            self.status,
            status,
            "body: {}",
            String::from_utf8_lossy(&self.body)
        );
        self
    }

    /// Asserts status, error code and description.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, error: &str, description: &str) {
        let body = self.expect(status).json();
        assert_eq!(
            body,
            json!({"error": error, "error_description": description})
        );
    }

    /// Asserts an error in prose.
    #[track_caller]
    pub(crate) fn prose(self, status: u16, error: &str) {
        assert_eq!(self.expect(status).json(), json!({"error": error}));
    }

    /// Asserts an error of the Admin REST API.
    #[track_caller]
    pub(crate) fn message(self, status: u16, message: &str) {
        assert_eq!(self.expect(status).json(), json!({"errorMessage": message}));
    }

    /// Last segment of the Location header.
    pub(crate) fn id(&self) -> String {
        self.header("location")
            .rsplit('/')
            .next()
            .unwrap()
            .to_owned()
    }
}

/// An HTTP client with headers on every request.
#[derive(Clone)]
pub(crate) struct Client {
    pool: Arc<Pool>,
    headers: HeaderMap,
}

impl Client {
    pub(crate) fn new() -> Self {
        Self {
            pool: Pool::new(),
            headers: HeaderMap::new(),
        }
    }

    pub(crate) fn with(&self, name: &str, value: &str) -> Self {
        let mut client = self.clone();
        client.headers.insert(
            name.parse::<HeaderName>().unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
        client
    }

    pub(crate) fn bearer(&self, token: &str) -> Self {
        self.with("authorization", &format!("Bearer {token}"))
    }

    pub(crate) async fn send(&self, method: &str, url: &str, body: impl Into<Bytes>) -> Reply {
        let (target, path) = parse_url(url).unwrap();
        let mut request = Request::new(Body::full(body));
        *request.method_mut() = method.parse().unwrap();
        *request.uri_mut() = path.parse().unwrap();
        *request.headers_mut() = self.headers.clone();
        let host = HeaderValue::from_str(&format!("{}:{}", target.host, target.port)).unwrap();
        request.headers_mut().entry("host").or_insert(host);
        let timeouts = Timeouts {
            connect: PATIENCE,
            write: PATIENCE,
            read: PATIENCE * 3,
        };
        let response = self.pool.send(&target, request, &timeouts).await;
        let (parts, body) = response
            .unwrap_or_else(|error| panic!("{url}: {error:?}"))
            .into_parts();
        let body = body.collect(64 * 1024 * 1024).await.unwrap();
        Reply {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    pub(crate) async fn get(&self, url: &str) -> Reply {
        self.send("GET", url, Bytes::new()).await
    }

    pub(crate) async fn json(&self, method: &str, url: &str, body: Value) -> Reply {
        self.with("content-type", "application/json")
            .send(method, url, body.to_string())
            .await
    }

    pub(crate) async fn form(&self, url: &str, form: &str) -> Reply {
        self.with("content-type", "application/x-www-form-urlencoded")
            .send("POST", url, form.to_owned())
            .await
    }
}

/// A running identity provider.
pub(crate) struct World {
    pub(crate) url: String,
    pub(crate) management: String,
    pub(crate) clock: Arc<Manual>,
    pub(crate) http: Client,
    pub(crate) store: Store,
    pub(crate) iris: Arc<Iris>,
    drain: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.drain.cancel();
    }
}

/// A migrated store.
pub(crate) async fn store(url: &str) -> Store {
    let settings = o28m_store::Settings {
        url: url.to_owned(),
        schema: "o28m".to_owned(),
        pool_max: 10,
        connect_timeout: Duration::from_secs(5),
        poll_interval: Duration::from_millis(200),
    };
    let store = Store::open(&settings).await.unwrap();
    store.migrate(MigrationStep::Up).await.unwrap();
    store
}

impl World {
    /// On a database of its own: in memory, or on the PostgreSQL server of the test process where the
    /// binary is the one for that and the server is installed.
    pub(crate) async fn start() -> Self {
        Self::on(Self::new_store().await).await
    }

    /// An empty database of that kind.
    pub(crate) async fn new_store() -> Store {
        let url = if crate::ON_POSTGRESQL {
            o28m_store::testing::postgres_url().await
        } else {
            None
        };
        store(url.as_deref().unwrap_or("sqlite::memory:")).await
    }

    /// On this store.
    pub(crate) async fn on(store: Store) -> Self {
        let settings = o28m_iris::Settings {
            admin_user: Some("admin".to_owned()),
            admin_password: Some(Secret::new("pw".to_owned())),
            ..o28m_iris::Settings::default()
        };
        Self::with(store, settings).await
    }

    /// On this store, with these settings.
    pub(crate) async fn with(store: Store, settings: o28m_iris::Settings) -> Self {
        Self::at_host(store, settings, None, true).await
    }

    /// With the host name of `KC_HOSTNAME`, and whether forwarding headers are believed.
    pub(crate) async fn at_host(
        store: Store,
        settings: o28m_iris::Settings,
        hostname: Option<&str>,
        proxy_headers: bool,
    ) -> Self {
        let clock = Arc::new(Manual(AtomicI64::new(1_800_000_000)));
        let ambient = Ambient {
            clock: clock.clone(),
            rng: Arc::new(Random(SystemRandom::new())),
        };
        let iris = Iris::open(store.clone(), settings, ambient.clone())
            .await
            .unwrap();
        let surface = Settings {
            relative_path: "/auth".to_owned(),
            hostname: hostname.map(str::to_owned),
            proxy_headers,
            client_auth_metrics: true,
        };
        let metrics = o28m_telemetry::metrics::Registry::default();
        let drain = CancellationToken::new();
        let public = o28m_iris_http::service(iris.clone(), surface.clone(), metrics.clone());
        let management = o28m_iris_http::management(iris.clone(), surface, metrics);
        let listen = |service| {
            let listener = Listener::bind("test", "127.0.0.1:0".parse().unwrap()).unwrap();
            let url = format!("http://{}/auth", listener.address());
            let limits = o28m_iris_http::HEAD_LIMITS;
            tokio::spawn(serve(
                listener,
                service,
                Pool::new(),
                limits,
                drain.clone(),
                drain.clone(),
            ));
            url
        };
        let (url, management) = (listen(public), listen(management));
        Self {
            url,
            management,
            clock,
            http: Client::new(),
            store,
            iris,
            drain,
        }
    }

    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// URL of the Admin REST API, followed by `path`.
    pub(crate) fn admin_url(&self, path: &str) -> String {
        self.at(&format!("/admin/realms{path}"))
    }

    /// URL of a protocol endpoint of a realm.
    pub(crate) fn protocol(&self, realm: &str, endpoint: &str) -> String {
        self.at(&format!(
            "/realms/{realm}/protocol/openid-connect/{endpoint}"
        ))
    }

    /// A request to the token endpoint.
    pub(crate) async fn token(&self, realm: &str, form: &str) -> Reply {
        self.http.form(&self.protocol(realm, "token"), form).await
    }

    /// The administrator's token response.
    pub(crate) async fn login(&self) -> Value {
        let form = "grant_type=password&client_id=admin-cli&username=admin&password=pw";
        self.token("master", form).await.expect(200).json()
    }

    /// A client with an administrator's token.
    pub(crate) async fn admin(&self) -> Client {
        self.http
            .bearer(self.login().await["access_token"].as_str().unwrap())
    }

    /// Makes an enabled realm; gives an administrator.
    pub(crate) async fn realm(&self, name: &str) -> Client {
        let admin = self.admin().await;
        let body = json!({"realm": name, "enabled": true});
        let _ = admin
            .json("POST", &self.admin_url(""), body)
            .await
            .expect(201);
        admin
    }

    /// Makes a client with secret `s` in a realm; gives its id.
    pub(crate) async fn client(&self, admin: &Client, realm: &str, body: Value) -> String {
        let mut client = json!({"secret": "s", "serviceAccountsEnabled": true});
        client
            .as_object_mut()
            .unwrap()
            .extend(body.as_object().unwrap().clone());
        let url = self.admin_url(&format!("/{realm}/clients"));
        admin.json("POST", &url, client).await.expect(201).id()
    }

    /// Form of a client_credentials request with secret `s`.
    pub(crate) async fn service_token(&self, realm: &str, client: &str) -> Value {
        let form = format!("grant_type=client_credentials&client_id={client}&client_secret=s");
        self.token(realm, &form).await.expect(200).json()
    }
}

/// Another server: it keeps what it was sent and answers what it was told to.
pub(crate) struct Other {
    pub(crate) url: String,
    state: Arc<OtherState>,
    drain: CancellationToken,
}

#[derive(Default)]
struct OtherState {
    answer: Mutex<(u16, String)>,
    received: Mutex<Vec<(String, String)>>,
}

impl HttpService for OtherState {
    fn call<'a>(
        &'a self,
        request: Request<Body>,
        _connection: &'a Connection,
    ) -> BoxFuture<'a, http::Response<Body>> {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect(1024 * 1024).await.unwrap();
            let line = format!("{} {}", parts.method, parts.uri);
            let text = String::from_utf8(body.to_vec()).unwrap();
            self.received.lock().unwrap().push((line, text));
            let (status, answer) = self.answer.lock().unwrap().clone();
            let mut response = http::Response::new(Body::full(answer.into_bytes()));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response
        })
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.drain.cancel();
    }
}

impl Other {
    pub(crate) fn start() -> Self {
        let state = Arc::new(OtherState::default());
        *state.answer.lock().unwrap() = (200, String::new());
        let listener = Listener::bind("other", "127.0.0.1:0".parse().unwrap()).unwrap();
        let url = format!("http://{}", listener.address());
        let drain = CancellationToken::new();
        tokio::spawn(serve(
            listener,
            state.clone(),
            Pool::new(),
            o28m_iris_http::HEAD_LIMITS,
            drain.clone(),
            drain.clone(),
        ));
        Self { url, state, drain }
    }

    pub(crate) fn answer(&self, status: u16, body: &str) {
        *self.state.answer.lock().unwrap() = (status, body.to_owned());
    }

    /// Request lines and bodies so far, which are forgotten.
    pub(crate) fn received(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.state.received.lock().unwrap())
    }
}

/// The claims of a token member.
pub(crate) fn claims(token: &Value) -> Value {
    part(token, 1)
}

/// The header of a token.
pub(crate) fn header(token: &Value) -> Value {
    part(token, 0)
}

fn part(token: &Value, at: usize) -> Value {
    let text = token.as_str().unwrap().split('.').nth(at).unwrap();
    serde_json::from_slice(&o28m_jose::from_base64url(text).unwrap()).unwrap()
}

/// The words of a scope member.
pub(crate) fn words(value: &Value) -> Vec<String> {
    let mut words: Vec<String> = value
        .as_str()
        .unwrap()
        .split(' ')
        .map(str::to_owned)
        .collect();
    words.sort();
    words
}
