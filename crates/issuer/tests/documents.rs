//! The issuer behind a real listener, and through the gateway's in-process door.
#![expect(
    clippy::unwrap_used,
    reason = "a failed assumption in a test is a failed test"
)]

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use o28m_issuer::{Issuer, Settings};
use o28m_jose::slots::{KeyRing, SharedKeys, Slot, Slots};
use o28m_jose::{Algorithm, JwkSet, SigningKey, VerifyingKey, base64std, base64url, x509};
use o28m_net::client::{Pool, Target, Timeouts};
use o28m_net::server::{HeadLimits, Listener, serve};
use o28m_net::{Body, Connection, HttpService, Scheme};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

const NOT_AN_ENDPOINT: &str =
    "Not a valid endpoint. Please contact gateway support if you are experiencing issues.";
const CERTS: &str = "/api/v1/certs/default";

/// Key material with a year its certificate ends in.
fn make(kid: &str, algorithm: Algorithm, until: i32) -> Slot {
    let der = SigningKey::generate_pkcs8(algorithm).unwrap();
    let made = x509::self_signed(&der, "gateway", &[], until).unwrap();
    Slot {
        kid: kid.to_owned(),
        certificate: made.certificate_pem,
        key: Some(made.key_pem),
    }
}

/// Next, active and previous; made once because RSA keys are slow to make.
fn slots() -> Slots {
    static SLOTS: OnceLock<Slots> = OnceLock::new();
    let make = |kid| Some(make(kid, Algorithm::RS256, 2100));
    let slots = SLOTS.get_or_init(|| Slots {
        next: make("N"),
        active: make("A"),
        previous: make("P"),
    });
    slots.clone()
}

#[derive(Debug)]
struct Reply {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Reply {
    async fn of(response: Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        Self {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: body.collect(1024 * 1024).await.unwrap(),
        }
    }

    #[track_caller]
    fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), "application/json");
        serde_json::from_slice(&self.body).unwrap()
    }

    fn text(&self) -> &str {
        assert_eq!(self.header("content-type"), "text/plain; charset=utf-8");
        std::str::from_utf8(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    fn kids(&self) -> Vec<String> {
        let set: JwkSet = serde_json::from_slice(&self.body).unwrap();
        set.keys.into_iter().map(|key| key.kid.unwrap()).collect()
    }
}

struct World {
    issuer: Arc<Issuer>,
    keys: SharedKeys,
    address: SocketAddr,
    pool: Arc<Pool>,
    _stop: DropGuard,
}

impl World {
    fn start() -> Self {
        Self::start_with(slots(), |_| {})
    }

    fn start_with(slots: Slots, change: impl FnOnce(&mut Settings)) -> Self {
        let ring = KeyRing::new(slots, None);
        let keys: SharedKeys = Arc::new(arc_swap::ArcSwap::from_pointee(ring));
        let mut settings = Settings {
            base_path: "/api/v1".to_owned(),
            ..Settings::default()
        };
        change(&mut settings);
        let issuer = Arc::new(Issuer::new(settings, keys.clone()));
        let listener = Listener::bind("issuer", SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.address();
        let limits = HeadLimits {
            line_bytes_max: 16 * 1024,
            head_bytes_max: 32 * 1024,
            lines_max: 1000,
        };
        let stop = CancellationToken::new();
        tokio::spawn(serve(
            listener,
            issuer.clone(),
            Pool::new(),
            limits,
            stop.clone(),
            stop.clone(),
        ));
        Self {
            issuer,
            keys,
            address,
            pool: Pool::new(),
            _stop: stop.drop_guard(),
        }
    }

    fn door(&self) -> Connection {
        Connection {
            in_process: true,
            ..Connection::plain(self.address, self.address, self.pool.clone())
        }
    }

    /// Asks through both doors, which must answer alike.
    async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Reply {
        let request = || {
            let mut request = Request::new(Body::Empty);
            *request.method_mut() = method.clone();
            *request.uri_mut() = path.parse().unwrap();
            let all = [("host", "localhost:8081")];
            for (name, value) in all.iter().chain(headers) {
                let name = HeaderName::try_from(*name).unwrap();
                let value = HeaderValue::from_str(value).unwrap();
                request.headers_mut().insert(name, value);
            }
            request
        };
        let target = Target {
            scheme: Scheme::Http,
            host: "127.0.0.1".into(),
            port: self.address.port(),
            tls: Default::default(),
        };
        let long = Duration::from_secs(30);
        let timeouts = Timeouts {
            connect: long,
            write: long,
            read: long,
        };
        let sent = self.pool.send(&target, request(), &timeouts).await;
        let mut wire = Reply::of(sent.unwrap()).await;
        assert!(wire.headers.remove("date").is_some());
        let door = self.door();
        let local = Reply::of(self.issuer.call(request(), &door).await).await;
        assert_eq!(
            (wire.status, &wire.body, &wire.headers),
            (local.status, &local.body, &local.headers)
        );
        assert_eq!(wire.header("server"), "issuer-service");
        wire
    }

    async fn get(&self, path: &str) -> Reply {
        let host = [("x-forwarded-host", "gw.example.com")];
        self.ask(Method::GET, path, &host).await
    }

    async fn discovery(&self, host: &str) -> Reply {
        let (path, host) = ("/api/v1/discovery/default", [("x-forwarded-host", host)]);
        self.ask(Method::GET, path, &host).await
    }

    fn rotate(&self, slots: Slots) {
        let ring = KeyRing::new(slots, Some(&self.keys.load()));
        self.keys.store(ring.into());
    }
}

#[tokio::test]
async fn issuer_case_001_health() {
    let reply = World::start().get("/health").await.expect(200);
    assert_eq!(reply.text(), "OK");
}

#[tokio::test]
async fn issuer_case_002_three_keys_with_nine_members() {
    let reply = World::start().get(CERTS).await.expect(200);
    assert_eq!(reply.kids(), ["N", "A", "P"]);
    let members = [
        "kid", "kty", "alg", "use", "n", "e", "x5c", "x5t", "x5t#S256",
    ];
    for key in reply.json()["keys"].as_array().unwrap() {
        let names: Vec<&String> = key.as_object().unwrap().keys().collect();
        assert_eq!(names, members);
        for (name, value) in [
            ("kty", "RSA"),
            ("alg", "RS256"),
            ("use", "sig"),
            ("e", "AQAB"),
        ] {
            assert_eq!(key[name], value);
        }
    }
    assert!(!reply.body.ends_with(b"\n"));
}

#[tokio::test]
async fn issuer_case_003_both_route_families_have_the_same_keys() {
    let world = World::start();
    let certs = world.get(CERTS).await.expect(200).body;
    let long = world
        .get("/auth/realms/default/protocol/openid-connect/certs")
        .await;
    assert_eq!(long.expect(200).body, certs);
}

#[tokio::test]
async fn issuer_case_004_every_realm_has_the_same_keys() {
    let world = World::start();
    let certs = world.get(CERTS).await.expect(200).body;
    let other = world.get("/api/v1/certs/whatever").await.expect(200);
    assert_eq!(other.body, certs);
}

#[tokio::test]
async fn issuer_case_005_published_keys_verify_tokens() {
    let reply = World::start().get(CERTS).await;
    let set: JwkSet = serde_json::from_slice(&reply.body).unwrap();
    let key = slots().active.unwrap().signing_key().unwrap();
    let public = |kid| VerifyingKey::from_jwk(set.by_kid(kid).unwrap(), Algorithm::RS256).unwrap();
    let signature = key.sign(b"message");
    public(key.kid()).verify(b"message", &signature).unwrap();
    assert!(public("N").verify(b"message", &signature).is_err());
}

#[tokio::test]
async fn issuer_case_006_thumbprints_are_those_of_the_certificate() {
    use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
    let reply = World::start().get(CERTS).await;
    let key = &reply.json()["keys"][1];
    let der = STANDARD.decode(key["x5c"][0].as_str().unwrap()).unwrap();
    assert_eq!(der, slots().active.unwrap().certificate().unwrap().der());
    let print = |algorithm| base64url(digest(algorithm, &der).as_ref());
    assert_eq!(key["x5t"], print(&SHA1_FOR_LEGACY_USE_ONLY));
    assert_eq!(key["x5t#S256"], print(&SHA256));
}

#[tokio::test]
async fn issuer_case_008_the_active_key_wins_over_next() {
    let mut set = slots();
    set.next.as_mut().unwrap().kid = "A".to_owned();
    let der = set.active.as_ref().unwrap().certificate().unwrap();
    let reply = World::start_with(set, |_| {}).get(CERTS).await;
    assert_eq!(reply.kids(), ["A", "P"]);
    assert_eq!(reply.json()["keys"][0]["x5c"][0], base64std(der.der()));
}

#[tokio::test]
async fn issuer_case_009_three_times_the_same_is_one_key() {
    let active = slots().active;
    let set = Slots {
        next: active.clone(),
        previous: active.clone(),
        active,
    };
    let world = World::start_with(set, |_| {});
    assert_eq!(world.get(CERTS).await.kids(), ["A"]);
}

#[tokio::test]
async fn issuer_case_010_key_ids_are_not_trimmed() {
    let mut set = slots();
    set.active.as_mut().unwrap().kid = "A\n".to_owned();
    let world = World::start_with(set, |_| {});
    assert_eq!(world.get(CERTS).await.kids()[1], "A\n");
}

fn document(issuer: &str) -> String {
    format!(
        r#"{{"issuer":"{issuer}","jwks_uri":"{issuer}/protocol/openid-connect/certs","authorization_endpoint":"{issuer}/protocol/openid-connect/auth","response_types_supported":["none"],"subject_types_supported":["public"],"id_token_signing_alg_values_supported":["RS256"]}}"#
    )
}

#[tokio::test]
async fn issuer_case_011_discovery_has_six_members() {
    let reply = World::start().discovery("gw.example.com").await.expect(200);
    let expected = document("https://gw.example.com/auth/realms/default");
    assert_eq!(reply.body, expected);
    assert_eq!(reply.header("content-type"), "application/json");
}

#[tokio::test]
async fn issuer_case_012_discovery_of_any_realm() {
    let path = "/auth/realms/other-realm/.well-known/openid-configuration";
    let reply = World::start().get(path).await.expect(200);
    let expected = document("https://gw.example.com/auth/realms/other-realm");
    assert_eq!(reply.body, expected);
}

#[tokio::test]
async fn issuer_case_013_the_port_stays() {
    let reply = World::start().discovery("localhost:8080").await.expect(200);
    let issuer = "https://localhost:8080/auth/realms/default";
    assert_eq!(reply.json()["issuer"], issuer);
}

#[tokio::test]
async fn issuer_case_014_the_host_must_be_known() {
    let world = World::start();
    let path = "/api/v1/discovery/default";
    let message = r#"{"code":400,"message":"X-Forwarded-Host header must be set in the request"}"#;
    let reply = world.ask(Method::GET, path, &[]).await.expect(400);
    assert_eq!(reply.body, message);
    assert_eq!(world.discovery("").await.expect(400).body, message);
}

#[tokio::test]
async fn a_fixed_public_url_wins_over_the_header() {
    let world = World::start_with(slots(), |settings| {
        settings.public_url = Some("http://127.0.0.1:8000/auth/realms/".to_owned());
    });
    let expected = document("http://127.0.0.1:8000/auth/realms/default");
    for headers in [&[][..], &[("x-forwarded-host", "evil.example.com")]] {
        let path = "/api/v1/discovery/default";
        let reply = world.ask(Method::GET, path, headers).await.expect(200);
        assert_eq!(reply.body, expected);
    }
}

#[tokio::test]
async fn issuer_case_015_a_prefix_is_part_of_every_url() {
    let world = World::start_with(slots(), |settings| {
        settings.path_prefix = "/spacegate".to_owned();
    });
    let reply = world.discovery("gw.example.com").await.expect(200);
    let issuer = "https://gw.example.com/spacegate/auth/realms/default";
    assert_eq!(reply.body, document(issuer));
}

#[tokio::test]
async fn issuer_case_016_the_first_host_counts() {
    let reply = World::start().discovery("a, b").await.expect(200);
    assert_eq!(reply.json()["issuer"], "https://a/auth/realms/default");
}

#[tokio::test]
async fn issuer_case_017_hosts_are_checked() {
    let reply = World::start().discovery("evil\"/x").await.expect(400);
    let expected = json!({"code": 400, "message": "invalid X-Forwarded-Host header"});
    assert_eq!(reply.json(), expected);
}

fn realm_info(slot: Option<Slot>) -> String {
    let certificate = slot.unwrap().certificate().unwrap();
    let key = base64std(certificate.public_key_der());
    format!(r#"{{"realm":"default","public_key":"{key}"}}"#)
}

#[tokio::test]
async fn issuer_case_018_realm_info_shows_the_active_key() {
    let world = World::start();
    for path in ["/api/v1/issuer/default", "/auth/realms/default"] {
        let reply = world.get(path).await.expect(200);
        assert_eq!(reply.body, realm_info(slots().active), "{path}");
    }
}

#[tokio::test]
async fn issuer_case_019_also_with_a_slash() {
    let reply = World::start().get("/auth/realms/default/").await;
    assert_eq!(reply.expect(200).body, realm_info(slots().active));
}

#[tokio::test]
async fn issuer_case_020_fixed_parts_match_in_any_case() {
    let reply = World::start().get("/API/V1/certs/default").await;
    assert_eq!(reply.expect(200).kids().len(), 3);
}

#[tokio::test]
async fn issuer_case_021_nobody_can_log_in_here() {
    let world = World::start();
    let long = "/auth/realms/default/protocol/openid-connect/auth";
    for start in ["/api/v1/auth", long] {
        for rest in ["", "/test", "/test/test"] {
            let reply = world.get(&format!("{start}{rest}")).await.expect(501);
            assert_eq!(reply.text(), NOT_AN_ENDPOINT);
        }
    }
}

#[tokio::test]
async fn issuer_case_022_unknown_paths() {
    let world = World::start();
    for path in ["/nope", "/"] {
        let reply = world.get(path).await.expect(404);
        assert_eq!(reply.text(), format!("Cannot GET {path}"));
    }
    let reply = world.get("/a&'b?query").await.expect(404);
    assert_eq!(reply.text(), "Cannot GET /a&amp;&#39;b");
}

#[tokio::test]
async fn issuer_case_023_only_get_and_head() {
    let world = World::start();
    let ask = async |method, path| world.ask(method, path, &[]).await;
    let reply = ask(Method::POST, CERTS).await.expect(405);
    assert_eq!(reply.text(), "Method Not Allowed");
    assert_eq!(reply.header("allow"), "GET, HEAD");
    let reply = ask(Method::POST, "/nope").await.expect(404);
    assert_eq!(reply.text(), "Cannot POST /nope");
    let strange = Method::from_bytes(b"BREW").unwrap();
    let reply = ask(strange, "/health").await.expect(400);
    assert_eq!(reply.text(), "Invalid http method");
}

#[tokio::test]
async fn issuer_case_024_head_has_the_length_of_get() {
    let world = World::start();
    let get = world.get(CERTS).await;
    let head = world.ask(Method::HEAD, CERTS, &[]).await.expect(200);
    assert!(head.body.is_empty());
    assert_eq!(head.header("content-length"), get.body.len().to_string());
}

#[tokio::test]
async fn issuer_case_025_there_is_no_token_endpoint() {
    let path = "/auth/realms/default/protocol/openid-connect/token";
    let _ = World::start().get(path).await.expect(404);
}

#[tokio::test]
async fn issuer_case_026_realms_are_not_decoded() {
    let reply = World::start().get("/api/v1/issuer/a%20b").await.expect(200);
    assert_eq!(reply.json()["realm"], "a%20b");
}

#[tokio::test]
async fn issuer_case_027_large_heads_are_fine() {
    let large = "x".repeat(8192);
    let headers = [("authorization", large.as_str())];
    let reply = World::start().ask(Method::GET, CERTS, &headers).await;
    let _ = reply.expect(200);
}

#[tokio::test]
async fn issuer_case_028_a_rotated_set_is_served_at_once() {
    let world = World::start();
    let _ = world.get(CERTS).await;
    let mut set = slots();
    set.previous = set.active.take();
    set.active = set.next.take();
    world.rotate(set);
    assert_eq!(world.get(CERTS).await.kids(), ["N", "A"]);
    let realm = world.get("/auth/realms/default").await;
    assert_eq!(realm.body, realm_info(slots().next));
}

#[tokio::test]
async fn issuer_case_033_next_alone_acts_as_active() {
    let set = Slots {
        next: slots().next,
        ..Slots::default()
    };
    let world = World::start_with(set, |_| {});
    assert_eq!(world.get(CERTS).await.kids(), ["N"]);
    let realm = world.get("/auth/realms/default").await.expect(200);
    assert_eq!(realm.body, realm_info(slots().next));
}

#[tokio::test]
async fn issuer_case_035_unusable_slots_are_left_out() {
    let mut set = slots();
    set.next = Some(make("EC", Algorithm::ES256, 2100));
    set.previous.as_mut().unwrap().certificate = "garbage".to_owned();
    let world = World::start_with(set, |_| {});
    assert_eq!(world.get(CERTS).await.expect(200).kids(), ["A"]);
    let _ = world.get("/health").await.expect(200);
}

#[tokio::test]
async fn issuer_case_036_expired_certificates_are_served() {
    let set = Slots {
        active: Some(make("old", Algorithm::RS256, 2021)),
        ..Slots::default()
    };
    let world = World::start_with(set, |_| {});
    assert_eq!(world.get(CERTS).await.kids(), ["old"]);
}

#[tokio::test]
async fn without_keys_health_fails_and_the_set_is_empty() {
    let world = World::start_with(Slots::default(), |_| {});
    assert_eq!(world.get("/health").await.expect(503).text(), "no keys");
    let reply = world.get(CERTS).await.expect(200);
    assert_eq!(reply.body, r#"{"keys":[]}"#);
    let reply = world.get("/api/v1/issuer/default").await.expect(503);
    let message = r#"{"code":503,"message":"no active signing key available"}"#;
    assert_eq!(reply.body, message);
    world.rotate(slots());
    let _ = world.get("/health").await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn issuer_case_037_every_body_is_of_one_set() {
    let world = World::start();
    let mut turned = slots();
    std::mem::swap(&mut turned.active, &mut turned.previous);
    let sets = [slots(), turned];
    let body = |set: &Slots| serde_json::to_vec(&set.jwk_set()).unwrap();
    let bodies: Vec<Vec<u8>> = sets.iter().map(body).collect();
    let stop = CancellationToken::new();
    let (keys, stopped) = (world.keys.clone(), stop.clone());
    let rings = sets.map(|set| Arc::new(KeyRing::new(set, None)));
    let swapping = tokio::task::spawn_blocking(move || {
        while !stopped.is_cancelled() {
            for ring in &rings {
                keys.store(ring.clone());
            }
        }
    });
    let door = world.door();
    for _ in 0..1000 {
        let mut request = Request::new(Body::Empty);
        *request.uri_mut() = CERTS.parse().unwrap();
        let reply = Reply::of(world.issuer.call(request, &door).await).await;
        assert!(bodies.iter().any(|body| *body == reply.body));
    }
    stop.cancel();
    swapping.await.unwrap();
}
