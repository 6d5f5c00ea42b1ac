//! The plugin against issuers in memory and on the wire.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use http::{Request, Response};
use o28m_gateway::{Credential, LocalIssuers};
use o28m_jose::{Jwk, JwkSet};
use o28m_net::server::{HeadLimits, Listener, serve};
use o28m_net::{Body, BoxFuture, Connection, HttpService};
use serde_json::json;
use tokio_util::sync::{CancellationToken, DropGuard};

mod consumers;
mod issuers;
mod tokens;

use super::*;
use crate::testing::{
    EC_KEY, ISSUER, NOW_S, TestClock, Token, access, ambient, exchange, key, outcome,
};

/// What an issuer on the wire does.
#[derive(Clone)]
enum Script {
    Publishes(Vec<Jwk>),
    AnswersJwks(Vec<u8>),
    Fails(u16),
    Hangs,
}

struct IssuerService {
    script: Mutex<Script>,
    origin: String,
    discoveries: AtomicUsize,
    key_sets: AtomicUsize,
}

impl HttpService for IssuerService {
    fn call<'a>(
        &'a self,
        request: Request<Body>,
        _: &'a Connection,
    ) -> BoxFuture<'a, Response<Body>> {
        Box::pin(async move {
            let script = self.script.lock().unwrap().clone();
            let is_discovery = request.uri().path().contains("/.well-known/");
            let counter = if is_discovery {
                &self.discoveries
            } else {
                &self.key_sets
            };
            counter.fetch_add(1, Ordering::SeqCst);
            assert_eq!(request.headers()["host"], self.origin["http://".len()..]);
            match script {
                Script::Hangs => std::future::pending().await,
                Script::Fails(status) => {
                    let response = Response::builder().status(status);
                    response.body(Body::full("nothing here")).unwrap()
                }
                _ if is_discovery => {
                    let document = json!({"jwks_uri": format!("{}/certs", self.origin)});
                    Response::new(Body::full(document.to_string()))
                }
                Script::Publishes(keys) => {
                    let document = serde_json::to_vec(&JwkSet { keys }).unwrap();
                    Response::new(Body::full(document))
                }
                Script::AnswersJwks(bytes) => Response::new(Body::full(bytes)),
            }
        })
    }
}

/// An issuer on the wire.
struct WireIssuer {
    service: Arc<IssuerService>,
    _stop: DropGuard,
}

impl WireIssuer {
    fn start(script: Script) -> Self {
        let listener = Listener::bind("issuer", SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let service = Arc::new(IssuerService {
            script: Mutex::new(script),
            origin: format!("http://{}", listener.address()),
            discoveries: AtomicUsize::new(0),
            key_sets: AtomicUsize::new(0),
        });
        let stop = CancellationToken::new();
        let limits = HeadLimits {
            line_bytes_max: limits::HEAD_LINE_BYTES_MAX,
            head_bytes_max: limits::HEAD_BYTES_MAX,
            lines_max: limits::HEADER_LINES_MAX,
        };
        tokio::spawn(serve(
            listener,
            service.clone(),
            Pool::new(),
            limits,
            stop.clone(),
            stop.clone(),
        ));
        Self {
            service,
            _stop: stop.drop_guard(),
        }
    }

    fn publishing(kids: &[&str]) -> Self {
        Self::start(publishes(kids))
    }

    fn iss(&self) -> String {
        format!("{}/auth/realms/default", self.service.origin)
    }

    fn now(&self, script: Script) {
        *self.service.script.lock().unwrap() = script;
    }

    fn fetches(&self) -> usize {
        self.service.discoveries.load(Ordering::SeqCst)
    }

    /// A token of this issuer.
    fn token(&self, kid: &str) -> Token {
        Token::new(kid).claim("iss", self.iss())
    }
}

fn publishes(kids: &[&str]) -> Script {
    Script::Publishes(kids.iter().map(|kid| key(kid).public_jwk()).collect())
}

/// Issuers in memory.
#[derive(Default)]
struct Memory {
    sets: Mutex<HashMap<String, Arc<JwkSet>>>,
    /// Answers only when polled again, as one that reads a database does.
    is_slow: bool,
}

impl Memory {
    fn publish(&self, keys: Vec<Jwk>) {
        let set = Arc::new(JwkSet { keys });
        self.sets.lock().unwrap().insert(ISSUER.to_owned(), set);
    }
}

impl LocalIssuers for Memory {
    fn key_set<'a>(&'a self, issuer: &'a str) -> BoxFuture<'a, Option<Arc<JwkSet>>> {
        Box::pin(async move {
            if self.is_slow {
                tokio::task::yield_now().await;
            }
            self.sets.lock().unwrap().get(issuer).cloned()
        })
    }
}

/// The plugin kind with a clock and issuers of its own.
struct Bench {
    kind: Kind,
    clock: Arc<TestClock>,
    memory: Arc<Memory>,
}

impl Bench {
    fn new() -> Self {
        Self::with(Memory::default(), &[])
    }

    fn with(memory: Memory, blocked: &[&str]) -> Self {
        let (ambient, clock) = ambient();
        let memory = Arc::new(memory);
        memory.publish(vec![key("a").public_jwk(), EC_KEY.public_jwk()]);
        let dependencies = Dependencies {
            blocked_issuers: blocked.iter().map(|&it| it.to_owned()).collect(),
            ..Dependencies::new(ambient, memory.clone())
        };
        let deadlines = Deadlines {
            connect: Duration::from_secs(2),
            read: Duration::from_millis(300),
            total: Duration::from_millis(600),
        };
        Self {
            kind: Kind::with_deadlines(dependencies, deadlines),
            clock,
            memory,
        }
    }

    fn plugin(&self, config: Value) -> Arc<dyn Plugin> {
        self.kind.configure(&config).unwrap()
    }

    /// An instance that allows the issuer in memory, and whatever else `config` says.
    fn local(&self, mut config: Value) -> Arc<dyn Plugin> {
        config["allowed_iss"] = json!([ISSUER]);
        self.plugin(config)
    }

    fn wire(&self, issuer: &WireIssuer) -> Arc<dyn Plugin> {
        self.plugin(json!({"allowed_iss": [issuer.iss()]}))
    }
}

fn bearer(token: &str) -> Exchange {
    let request = Request::get("/").header("authorization", format!("Bearer {token}"));
    exchange(request.body(Body::Empty).unwrap())
}

/// Status (0 passes) and message.
async fn answer(plugin: &Arc<dyn Plugin>, token: &str) -> (u16, String) {
    answered(plugin, &mut bearer(token)).await
}

async fn answered(plugin: &Arc<dyn Plugin>, exchange: &mut Exchange) -> (u16, String) {
    let (status, body) = outcome(plugin.as_ref(), exchange).await;
    if status == 0 {
        return (0, String::new());
    }
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body.as_object().unwrap().len(), 1, "style X has one member");
    (status, body["message"].as_str().unwrap().to_owned())
}

fn refusal(status: u16, message: &str) -> (u16, String) {
    (status, message.to_owned())
}

fn passed() -> (u16, String) {
    (0, String::new())
}
