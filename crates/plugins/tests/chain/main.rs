//! The plugins in a gateway, over real connections: client, gateway, upstream.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "the test harness stops where something is not as it should be"
)]

mod logs;
mod observability;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::{Request, Response};
use o28m_core::{Ambient, Clock, Rng, Timestamp};
use o28m_gateway::{Gateway, LocalIssuers, Settings};
use o28m_jose::{Algorithm, JwkSet, SigningKey, sign};
use o28m_net::client::Pool;
use o28m_net::server::{HeadLimits, Listener, serve};
use o28m_net::{Body, BoxFuture, Connection, HttpService};
use o28m_plugins::{Deliveries, Dependencies, Instrumentations};
use o28m_store::{MigrationStep, Object, Store, Write};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::{CancellationToken, DropGuard};

const NOW_S: i64 = 1_800_000_000;
const ISSUER: &str = "https://iris.example.com/auth/realms/default";

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(NOW_S)
    }
}

impl Rng for Fixed {
    fn fill(&self, bytes: &mut [u8]) {
        static DRAWN: AtomicU64 = AtomicU64::new(1);
        for piece in bytes.chunks_mut(8) {
            let next = DRAWN.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
            piece.copy_from_slice(&next.to_be_bytes()[..piece.len()]);
        }
    }
}

static KEY: LazyLock<SigningKey> = LazyLock::new(|| {
    let der = SigningKey::generate_pkcs8(Algorithm::RS256).unwrap();
    SigningKey::from_pkcs8("a", Algorithm::RS256, &der).unwrap()
});

struct Issuer;

impl LocalIssuers for Issuer {
    fn key_set<'a>(&'a self, issuer: &'a str) -> BoxFuture<'a, Option<Arc<JwkSet>>> {
        let keys = vec![KEY.public_jwk()];
        let set = (issuer == ISSUER).then(|| Arc::new(JwkSet { keys }));
        Box::pin(std::future::ready(set))
    }
}

fn token(azp: &str) -> String {
    let header = json!({"alg": "RS256", "kid": "a"}).to_string();
    let claims = json!({"iss": ISSUER, "exp": NOW_S + 60, "azp": azp}).to_string();
    sign(header.as_bytes(), claims.as_bytes(), &KEY)
}

/// Answers with the request it got.
struct Echo;

impl HttpService for Echo {
    fn call<'a>(
        &'a self,
        request: Request<Body>,
        _: &'a Connection,
    ) -> BoxFuture<'a, Response<Body>> {
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let mut text = format!("{} {}\n", head.method, head.uri);
            for (name, value) in &head.headers {
                text.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
            }
            let body = body.collect(1 << 20).await.unwrap_or_default();
            text.push('\n');
            text.push_str(&String::from_utf8_lossy(&body));
            Response::new(Body::full(text))
        })
    }
}

fn start(service: Arc<dyn HttpService>, stop: &CancellationToken) -> SocketAddr {
    let listener = Listener::bind("test", SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = listener.address();
    let limits = HeadLimits::default();
    tokio::spawn(serve(
        listener,
        service,
        Pool::new(),
        limits,
        stop.clone(),
        stop.clone(),
    ));
    address
}

fn id(number: u32) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

fn object(kind: &'static str, body: Value) -> Write {
    Write::Insert(Object {
        kind,
        id: body["id"].as_str().unwrap().to_owned(),
        owner: String::new(),
        keys: Vec::new(),
        references: Vec::new(),
        tags: Vec::new(),
        body,
    })
}

fn plugin(number: u32, name: &str, on_route: bool, config: Value) -> Write {
    let route = on_route.then(|| json!({"id": id(2)}));
    let body = json!({
        "id": id(number), "name": name, "enabled": true, "config": config, "protocols": ["http"],
        "service": null, "route": route, "consumer": null,
    });
    object("plugins", body)
}

fn configuration(upstream: SocketAddr) -> Vec<Write> {
    let consumer = |number, name| {
        let body = json!({"id": id(number), "username": name, "custom_id": name});
        object("consumers", body)
    };
    vec![
        object(
            "services",
            json!({
                "id": id(1), "name": "s", "enabled": true, "protocol": "http",
                "host": "127.0.0.1", "port": upstream.port(), "path": "/base", "retries": 0,
                "connect_timeout": 5000, "write_timeout": 5000, "read_timeout": 5000,
                "tags": ["a", "ei__telekom__de--environment---playground"],
            }),
        ),
        object(
            "routes",
            json!({
                "id": id(2), "name": "r", "protocols": ["http", "https"], "paths": ["/example"],
                "https_redirect_status_code": 426, "regex_priority": 0, "strip_path": true,
                "preserve_host": false, "request_buffering": true, "response_buffering": true,
                "service": {"id": id(1)},
            }),
        ),
        consumer(3, "rover"),
        consumer(4, "gateway"),
        consumer(5, "stranger"),
        object(
            "acls",
            json!({"id": id(6), "group": "rover", "consumer": {"id": id(3)}}),
        ),
        object(
            "acls",
            json!({"id": id(7), "group": "gateway", "consumer": {"id": id(4)}}),
        ),
        object(
            "acls",
            json!({"id": id(8), "group": "others", "consumer": {"id": id(5)}}),
        ),
        plugin(
            11,
            "request-size-limiting",
            false,
            json!({"allowed_payload_size": 16, "size_unit": "bytes"}),
        ),
        plugin(
            12,
            "jwt-keycloak",
            true,
            json!({
                "allowed_iss": [ISSUER], "consumer_match": true,
                "consumer_match_claim_custom_id": true,
            }),
        ),
        plugin(
            13,
            "acl",
            true,
            json!({"allow": ["rover", "gateway"], "deny": []}),
        ),
        plugin(
            14,
            "request-transformer",
            true,
            json!({
                "remove": {"headers": ["consumer-token"], "querystring": ["secret"]},
                "replace": {"headers": [
                    "realm:default",
                    "Authorization:$(headers['consumer-token'] or headers['Authorization'])",
                ]},
                "add": {"headers": ["realm:default"], "body": ["added:yes"]},
                "append": {"headers": ["remote_api_url:https://host:443/path"]},
            }),
        ),
    ]
}

struct Platform {
    proxy: SocketAddr,
    metrics: o28m_telemetry::metrics::Registry,
    deliveries: Deliveries,
    _stop: DropGuard,
}

impl Platform {
    async fn start() -> Self {
        Self::start_with(Vec::new()).await
    }

    /// With these plugins besides the usual ones.
    async fn start_with(plugins: Vec<Write>) -> Self {
        let stop = CancellationToken::new();
        let upstream = start(Arc::new(Echo), &stop);
        let settings = o28m_store::Settings {
            url: "sqlite::memory:".to_owned(),
            schema: "o28m".to_owned(),
            pool_max: 1,
            connect_timeout: Duration::from_secs(5),
            poll_interval: Duration::from_secs(1),
        };
        let store = Store::open(&settings).await.unwrap();
        store.migrate(MigrationStep::Bootstrap).await.unwrap();
        store.write(configuration(upstream)).await.unwrap();
        if !plugins.is_empty() {
            store.write(plugins).await.unwrap();
        }
        let ambient = Ambient {
            clock: Arc::new(Fixed),
            rng: Arc::new(Fixed),
        };
        let metrics = o28m_telemetry::metrics::Registry::default();
        let deliveries = Deliveries::new(&metrics);
        let kinds = o28m_plugins::kinds(Dependencies {
            deliveries: deliveries.clone(),
            instrumentations: Instrumentations {
                request: true,
                balancer: true,
                sampling_rate: 0.0,
            },
            node_id: "node".to_owned(),
            hostname: "pod".to_owned(),
            ..Dependencies::new(ambient.clone(), Arc::new(Issuer))
        });
        let gateway = Gateway::new(Settings::default(), kinds, Vec::new(), &metrics, ambient);
        let gateway = gateway.unwrap();
        gateway.load(&store).await.unwrap();
        Self {
            proxy: start(gateway, &stop),
            metrics,
            deliveries,
            _stop: stop.drop_guard(),
        }
    }

    /// Sends a request as `azp` and reads the whole answer: head and body.
    async fn send(&self, line: &str, azp: &str, rest: &str) -> (u16, String) {
        let token = token(azp);
        let head = format!("{line} HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n");
        self.exchange(&format!("{head}Authorization: Bearer {token}\r\n{rest}"))
            .await
    }

    async fn exchange(&self, request: &str) -> (u16, String) {
        let mut socket = tokio::net::TcpStream::connect(self.proxy).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(10), socket.read_to_end(&mut answer));
        // A refused body may end in a reset; what came before it counts.
        let _end = read.await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let status = answer.get(9..12).unwrap_or("0").parse().unwrap();
        (status, answer)
    }
}

#[tokio::test]
async fn plugins_case_002_038_054_a_request_passes_all_plugins_in_their_order() {
    let platform = Platform::start().await;
    let client = "realm: x\r\nremote_api_url: http://evil\r\nConsumer-Token: Bearer c\r\n\
        X-Consumer-Groups: forged\r\n\r\n";
    let (status, answer) = platform
        .send("GET /example/a?secret=1&b=2", "rover", client)
        .await;
    assert_eq!(status, 200, "{answer}");
    for line in [
        "GET /base/a?b=2\n",
        "\nrealm: default\n",
        "\nx-consumer-username: rover\n",
        "\nx-consumer-groups: rover\n",
        "\nx-anonymous-consumer: true\n",
        "\nauthorization: Bearer ey",
    ] {
        assert!(answer.contains(line), "{line:?} in {answer}");
    }
    let urls: Vec<_> = answer
        .lines()
        .filter(|it| it.starts_with("remote_api_url"))
        .collect();
    // `append` keeps the client's line and comes after it; a token gateway takes the last one, and one
    // in the same process never sees the client's.
    let both = [
        "remote_api_url: http://evil",
        "remote_api_url: https://host:443/path",
    ];
    assert_eq!(urls, both);
    assert!(
        !answer.contains("consumer-token") && !answer.contains("forged"),
        "{answer}"
    );
    assert_eq!(answer.matches("\nrealm: ").count(), 1);
    let (_, answer) = platform
        .send(
            "GET /example/a",
            "gateway",
            "Consumer-Token: Bearer c\r\n\r\n",
        )
        .await;
    assert!(answer.contains("\nauthorization: Bearer c\n"), "{answer}");
}

#[tokio::test]
async fn plugins_case_007_011_038_refusals_have_their_style() {
    let platform = Platform::start().await;
    let anonymous = "GET /example HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let (status, answer) = platform.exchange(anonymous).await;
    assert_eq!(status, 401);
    assert!(
        answer.ends_with("\r\n\r\n{\"message\":\"Unauthorized\"}"),
        "{answer}"
    );
    let (status, answer) = platform.send("GET /example", "stranger", "\r\n").await;
    assert_eq!(status, 403);
    let json = "{\n  \"message\":\"You cannot consume this service\",\n  \"request_id\":\"";
    assert!(answer.contains(json), "{answer}");
    let (_, answer) = platform
        .send("GET /example", "stranger", "Accept: text/plain\r\n\r\n")
        .await;
    assert!(
        answer.contains("\r\n\r\nYou cannot consume this service\nrequest_id: "),
        "{answer}"
    );
}

#[tokio::test]
async fn plugins_case_006_a_refusal_carries_what_other_plugins_add() {
    let platform = Platform::start_with(vec![
        plugin(21, "cors", false, json!({"origins": ["*"]})),
        plugin(
            22,
            "correlation-id",
            false,
            json!({"echo_downstream": true}),
        ),
    ])
    .await;
    let anonymous = "GET /example HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let (status, answer) = platform.exchange(anonymous).await;
    assert_eq!(status, 401);
    let head = answer.to_ascii_lowercase();
    assert!(
        head.contains("access-control-allow-origin: *\r\n"),
        "{head}"
    );
    assert!(head.contains("\r\nkong-request-id: "), "{head}");
    let preflight = "OPTIONS /example HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\
        Origin: http://a.test\r\nAccess-Control-Request-Method: PUT\r\n\r\n";
    let (status, answer) = platform.exchange(preflight).await;
    assert_eq!(status, 200, "{answer}");
    assert!(
        answer
            .to_ascii_lowercase()
            .contains("content-length: 0\r\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn plugins_case_053_size_limits_over_the_wire() {
    let platform = Platform::start().await;
    let refused = "Request size limit exceeded";
    let post = |body: &str| format!("Content-Length: {}\r\n\r\n{body}", body.len());
    let chunked = |body: &str| {
        let length = body.len();
        format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n")
    };
    let (fits, over) = ("x".repeat(16), "x".repeat(17));
    for rest in [post(&fits), chunked(&fits)] {
        let (status, answer) = platform.send("POST /example", "rover", &rest).await;
        assert_eq!(status, 200, "{answer}");
        assert!(answer.ends_with(&format!("\n\n{fits}")), "{answer}");
    }
    for rest in [post(&over), chunked(&over)] {
        let (status, answer) = platform.send("POST /example", "rover", &rest).await;
        assert_eq!(status, 413, "{answer}");
        assert!(answer.contains(refused), "{answer}");
    }
    let waiting = "Expect: 100-continue\r\nContent-Length: 17\r\n\r\n";
    let (status, answer) = platform.send("POST /example", "rover", waiting).await;
    assert_eq!(status, 417, "{answer}");
    assert!(answer.contains(refused), "{answer}");
}

#[tokio::test]
async fn a_changed_body_arrives_with_its_length() {
    let platform = Platform::start().await;
    let rest = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n\
        7\r\n{\"a\":1}\r\n0\r\n\r\n";
    let (status, answer) = platform.send("POST /example", "rover", rest).await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains("\ncontent-length: 21\n"), "{answer}");
    assert!(
        answer.ends_with("\n\n{\"a\":1,\"added\":\"yes\"}"),
        "{answer}"
    );
    assert!(!answer.contains("transfer-encoding: chunked\n"), "{answer}");
    let rest = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n\
        11\r\n{\"a\":\"1234567890\"\r\n0\r\n\r\n";
    let (status, _) = platform.send("POST /example", "rover", rest).await;
    assert_eq!(status, 413);
}
