//! Exchanges, tokens and clocks for tests.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};

use http::Request;
use o28m_core::{Ambient, Clock, Rng, Timestamp};
use o28m_gateway::{Access, Exchange, Plugin, Snapshot, Verdict};
use o28m_jose::{Algorithm, SigningKey, sign};
use o28m_net::client::Pool;
use o28m_net::{Body, Connection};
use serde_json::{Value, json};

/// The time tests start at, in seconds.
pub(crate) const NOW_S: i64 = 1_800_000_000;

/// The `iss` of [`Token`].
pub(crate) const ISSUER: &str = "https://iris.example.com/auth/realms/default";

/// A clock that stands still until it is moved.
pub(crate) struct TestClock(AtomicI64);

impl TestClock {
    pub(crate) fn advance_s(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1000, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

struct Zeros;

impl Rng for Zeros {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

pub(crate) fn ambient() -> (Ambient, Arc<TestClock>) {
    let clock = Arc::new(TestClock(AtomicI64::new(NOW_S * 1000)));
    let ambient = Ambient {
        clock: clock.clone(),
        rng: Arc::new(Zeros),
    };
    (ambient, clock)
}

/// An exchange as the gateway hands it to plugins.
pub(crate) fn exchange(request: Request<Body>) -> Exchange {
    let address = SocketAddr::from(([127, 0, 0, 1], 8000));
    let connection = Connection::plain(address, address, Pool::new());
    let id = "0123456789abcdef0123456789abcdef".to_owned();
    let started = Timestamp::from_seconds(NOW_S);
    Exchange::new(request, connection, consumers(), id, started)
}

/// Consumers `rover` (groups `a` and `b`), `gateway` and `lonely` (no groups), whose custom ids are
/// their names with `-id` (`gateway` has none but its name). `rover` has the password `hunter2` and
/// the keys `rover-key`, `rover-fresh` (for two minutes) and `rover-expired` (for one).
fn consumers() -> Arc<Snapshot> {
    let id = |last: u8| format!("00000000-0000-4000-8000-0000000000{last:02}");
    let consumer = |last, name: &str, custom_id: &str| {
        let body = json!({"id": id(last), "username": name, "custom_id": custom_id});
        ("consumers", body)
    };
    let acl = |last: u8, group: &str| {
        let consumer = json!({"id": id(1)});
        let body = json!({
            "id": id(last), "group": group, "consumer": consumer, "created_at": last,
        });
        ("acls", body)
    };
    let key = |last: u8, key: &str, ttl: Option<i64>| {
        let consumer = json!({"id": id(1)});
        let body = json!({
            "id": id(last), "key": key, "consumer": consumer, "created_at": NOW_S, "ttl": ttl,
        });
        ("keyauth_credentials", body)
    };
    let password = json!({
        "id": id(21), "username": "rover", "consumer": {"id": id(1)},
        "password": "aaf34a73072f89ff8e4a1523761fa7e698b70c42",
    });
    Arc::new(Snapshot::of_documents(vec![
        ("basicauth_credentials", password),
        key(22, "rover-key", None),
        key(23, "rover-fresh", Some(120)),
        key(24, "rover-expired", Some(60)),
        consumer(1, "rover", "rover-id"),
        consumer(2, "gateway", "gateway"),
        consumer(3, "lonely", "lonely-id"),
        acl(11, "a"),
        acl(12, "b"),
    ]))
}

/// Runs the access phase to its end.
pub(crate) async fn access(plugin: &dyn Plugin, exchange: &mut Exchange) -> Verdict {
    match plugin.access(exchange) {
        Access::Now(verdict) => verdict,
        Access::Later(verdict) => verdict.await,
    }
}

/// An answer as text: status and body, or `continue`.
pub(crate) async fn outcome(plugin: &dyn Plugin, exchange: &mut Exchange) -> (u16, String) {
    match access(plugin, exchange).await {
        Verdict::Continue => (0, String::new()),
        Verdict::Respond(response) => {
            let status = response.status().as_u16();
            let body = response.into_body().collect(1 << 20).await.unwrap();
            (status, String::from_utf8(body.to_vec()).unwrap())
        }
    }
}

fn generate(kid: &str, algorithm: Algorithm) -> SigningKey {
    let der = SigningKey::generate_pkcs8(algorithm).unwrap();
    SigningKey::from_pkcs8(kid, algorithm, &der).unwrap()
}

static KEY_A: LazyLock<SigningKey> = LazyLock::new(|| generate("a", Algorithm::RS256));
static KEY_B: LazyLock<SigningKey> = LazyLock::new(|| generate("b", Algorithm::RS256));
/// An ES256 key with the id `ec`.
pub(crate) static EC_KEY: LazyLock<SigningKey> = LazyLock::new(|| generate("ec", Algorithm::ES256));

/// One of the two RS256 keys, `a` or `b`.
pub(crate) fn key(kid: &str) -> &'static SigningKey {
    match kid {
        "a" => &KEY_A,
        _ => &KEY_B,
    }
}

/// A token to be signed.
pub(crate) struct Token {
    key: &'static SigningKey,
    pub(crate) header: Value,
    pub(crate) claims: Value,
}

impl Token {
    /// Signed by the RS256 key of that id, valid for an hour.
    pub(crate) fn new(kid: &str) -> Self {
        Self::with(key(kid))
    }

    /// Signed by the ES256 key.
    pub(crate) fn ec() -> Self {
        Self::with(&EC_KEY)
    }

    fn with(key: &'static SigningKey) -> Self {
        Self {
            key,
            header: json!({"alg": key.algorithm().name(), "kid": key.kid(), "typ": "JWT"}),
            claims: json!({"iss": ISSUER, "exp": NOW_S + 3600, "azp": "app"}),
        }
    }

    pub(crate) fn kid(mut self, kid: &str) -> Self {
        self.header["kid"] = kid.into();
        self
    }

    pub(crate) fn without_kid(mut self) -> Self {
        self.header.as_object_mut().unwrap().remove("kid");
        self
    }

    pub(crate) fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims[name] = value.into();
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.claims.as_object_mut().unwrap().remove(name);
        self
    }

    pub(crate) fn sign(&self) -> String {
        let header = self.header.to_string();
        sign(
            header.as_bytes(),
            self.claims.to_string().as_bytes(),
            self.key,
        )
    }
}
