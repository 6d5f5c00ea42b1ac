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
            ambient,
            local_issuers: memory.clone(),
            blocked_issuers: blocked.iter().map(|&it| it.to_owned()).collect(),
            jwt_keycloak_priority: None,
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

#[tokio::test]
async fn plugins_case_011_no_token() {
    let plugin = Bench::new().local(json!({}));
    let mut exchange = exchange(Request::get("/").body(Body::Empty).unwrap());
    let verdict = access(plugin.as_ref(), &mut exchange).await;
    let Verdict::Respond(response) = verdict else {
        panic!("passes without a token");
    };
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers()["www-authenticate"], "Bearer");
    assert_eq!(
        response.headers()["content-type"],
        "application/json; charset=utf-8"
    );
    let body = response.into_body().collect(1000).await.unwrap();
    assert_eq!(body, r#"{"message":"Unauthorized"}"#);
}

#[tokio::test]
async fn plugins_case_014_algorithms_that_are_never_accepted() {
    let plugin = Bench::new().local(json!({}));
    for name in ["HS256", "HS512", "PS256", "EdDSA"] {
        let mut token = Token::new("a");
        token.header["alg"] = name.into();
        let expected = refusal(401, "Invalid algorithm");
        assert_eq!(answer(&plugin, &token.sign()).await, expected, "{name}");
    }
}

#[tokio::test]
async fn a_public_key_is_no_shared_secret() {
    let plugin = Bench::new().local(json!({}));
    let public = serde_json::to_vec(&key("a").public_jwk()).unwrap();
    let secret = o28m_jose::SigningKey::from_secret("a", o28m_jose::Algorithm::HS256, &public);
    let header = json!({"alg": "HS256", "kid": "a"}).to_string();
    let claims = Token::new("a").claims.to_string();
    let forged = o28m_jose::sign(header.as_bytes(), claims.as_bytes(), &secret.unwrap());
    let expected = refusal(401, "Invalid algorithm");
    assert_eq!(answer(&plugin, &forged).await, expected);
    // The same signature under the name of an algorithm that is accepted.
    let header = json!({"alg": "RS256", "kid": "a"}).to_string();
    let secret = o28m_jose::SigningKey::from_secret("a", o28m_jose::Algorithm::HS256, &public);
    let forged = o28m_jose::sign(header.as_bytes(), claims.as_bytes(), &secret.unwrap());
    let expected = refusal(401, "Invalid token signature");
    assert_eq!(answer(&plugin, &forged).await, expected);
}

#[tokio::test]
async fn plugins_case_015_016_issuers_are_compared_literally_and_before_any_request() {
    let issuer = WireIssuer::publishing(&["a"]);
    let bench = Bench::new();
    for allowed in [
        "https://other.example.com/auth/realms/x".to_owned(),
        issuer.iss().replace('.', "%."),
        issuer.iss().replace("default", "DEFAULT"),
        format!("{}/", issuer.iss()),
        issuer.iss().replace("127.0.0.1", "127x0.0.1"),
    ] {
        let plugin = bench.plugin(json!({"allowed_iss": [allowed]}));
        let expected = refusal(401, "Token issuer not allowed");
        assert_eq!(answer(&plugin, &issuer.token("a").sign()).await, expected);
    }
    let plugin = bench.local(json!({}));
    let nobody = Token::new("a").without("iss").sign();
    assert_eq!(answer(&plugin, &nobody).await.1, "Token issuer not allowed");
    assert_eq!(issuer.fetches(), 0);
}

#[tokio::test]
async fn plugins_case_017_blocked_issuers_are_refused_even_if_allowed() {
    let blocked = format!(" {ISSUER} ");
    let bench = Bench::with(Memory::default(), &["https://a", &blocked]);
    let plugin = bench.local(json!({}));
    let expected = refusal(401, "Token issuer is blocked");
    assert_eq!(answer(&plugin, &Token::new("a").sign()).await, expected);
}

#[tokio::test]
async fn plugins_case_018_fetches_keys_over_the_wire_once() {
    let issuer = WireIssuer::publishing(&["a"]);
    let bench = Bench::new();
    let plugin = bench.wire(&issuer);
    for subject in ["1", "2", "3"] {
        let token = issuer.token("a").claim("sub", subject).sign();
        assert_eq!(answer(&plugin, &token).await, passed());
    }
    assert_eq!(issuer.fetches(), 1);
    let keys = [key("a").public_jwk(), EC_KEY.public_jwk()];
    issuer.now(Script::Publishes(keys.to_vec()));
    let plugin = Bench::new().wire(&issuer);
    let token = Token::ec().claim("iss", issuer.iss()).sign();
    assert_eq!(answer(&plugin, &token).await, passed());
}

#[tokio::test]
async fn plugins_case_020_a_rotated_key_is_found_after_the_grace_period() {
    let issuer = WireIssuer::publishing(&["a"]);
    let bench = Bench::new();
    let plugin = bench.wire(&issuer);
    assert_eq!(answer(&plugin, &issuer.token("a").sign()).await, passed());
    issuer.now(publishes(&["b"]));
    bench.clock.advance_s(9);
    let token = issuer.token("b").sign();
    let expected = refusal(401, "Unable to find public key for token kid");
    assert_eq!(answer(&plugin, &token).await, expected);
    assert_eq!(issuer.fetches(), 1);
    bench.clock.advance_s(1);
    assert_eq!(answer(&plugin, &token).await, passed());
    assert_eq!(issuer.fetches(), 2);
    // What the old key verified is forgotten with it.
    assert_eq!(answer(&plugin, &issuer.token("a").sign()).await, expected);
    assert_eq!(issuer.fetches(), 2);
}

#[tokio::test]
async fn plugins_case_021_a_storm_of_unknown_kids_causes_one_fetch_per_grace_period() {
    let issuer = WireIssuer::publishing(&["a"]);
    let bench = Bench::new();
    let plugin = bench.wire(&issuer);
    let storm = |round: usize| {
        let (plugin, issuer) = (&plugin, &issuer);
        join_all((0..200).map(move |number| async move {
            let token = issuer.token("b").kid(&format!("{round}-{number}")).sign();
            answer(plugin, &token).await
        }))
    };
    let expected = refusal(401, "Unable to find public key for token kid");
    for (round, fetches) in [(0, 1), (1, 1)] {
        assert!(storm(round).await.iter().all(|it| *it == expected));
        assert_eq!(issuer.fetches(), fetches);
    }
    bench.clock.advance_s(10);
    assert!(storm(2).await.iter().all(|it| *it == expected));
    assert_eq!(issuer.fetches(), 2);
}

#[tokio::test]
async fn plugins_case_022_keys_that_cannot_be_read() {
    let oversize = vec![b' '; limits::JWKS_BYTES_MAX + 1];
    for script in [
        Script::Fails(500),
        Script::Fails(404),
        Script::Fails(302),
        Script::AnswersJwks(b"<html>".to_vec()),
        Script::AnswersJwks(b"{}".to_vec()),
        Script::AnswersJwks(oversize),
        Script::Hangs,
    ] {
        let issuer = WireIssuer::start(script);
        let bench = Bench::new();
        let plugin = bench.wire(&issuer);
        let expected = refusal(403, "Unable to get public key for issuer");
        let tokens = ["1", "2", "3"].map(|it| issuer.token("a").claim("sub", it).sign());
        let answers = join_all(tokens.iter().map(|token| answer(&plugin, token))).await;
        assert!(answers.iter().all(|it| *it == expected), "{answers:?}");
        assert_eq!(answer(&plugin, &tokens[0]).await, expected);
        assert_eq!(issuer.fetches(), 1, "the failure is remembered");
        bench.clock.advance_s(1);
        issuer.now(publishes(&["a"]));
        assert_eq!(answer(&plugin, &tokens[0]).await, passed());
    }
}

#[tokio::test]
async fn an_issuer_that_is_down_is_no_reason_to_let_anyone_in() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let iss = format!("http://{}/realm", listener.local_addr().unwrap());
    drop(listener);
    let plugin = Bench::new().plugin(json!({"allowed_iss": [iss], "anonymous": "rover"}));
    let token = Token::new("a").claim("iss", iss).sign();
    let expected = refusal(403, "Unable to get public key for issuer");
    assert_eq!(answer(&plugin, &token).await, expected);
}

#[tokio::test]
async fn stale_keys_are_used_while_the_issuer_is_away_for_an_hour() {
    let issuer = WireIssuer::publishing(&["a"]);
    let bench = Bench::new();
    let plugin = bench.wire(&issuer);
    let token = |number: i64| {
        let token = issuer.token("a").claim("exp", NOW_S + 9000);
        token.claim("sub", number.to_string()).sign()
    };
    assert_eq!(answer(&plugin, &token(0)).await, passed());
    issuer.now(Script::Fails(503));
    for (number, seconds) in [(1, 299), (2, 1), (3, 3000)] {
        bench.clock.advance_s(seconds);
        assert_eq!(answer(&plugin, &token(number)).await, passed(), "{number}");
    }
    bench.clock.advance_s(300);
    let expected = refusal(403, "Unable to get public key for issuer");
    assert_eq!(
        answer(&plugin, &token(0)).await,
        expected,
        "verified before"
    );
    assert_eq!(answer(&plugin, &token(4)).await, expected);
}

#[tokio::test]
async fn revoked_keys_vanish_in_the_background() {
    let issuer = WireIssuer::publishing(&["a"]);
    let bench = Bench::new();
    let plugin = bench.wire(&issuer);
    let token = issuer.token("a").sign();
    assert_eq!(answer(&plugin, &token).await, passed());
    issuer.now(publishes(&["b"]));
    bench.clock.advance_s(300);
    let expected = refusal(401, "Unable to find public key for token kid");
    // The request that finds the keys old still uses them; the fetch it starts needs a moment.
    let vanished = async {
        while answer(&plugin, &token).await != expected {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), vanished)
        .await
        .unwrap();
    assert_eq!(issuer.fetches(), 2);
}

#[tokio::test]
async fn a_request_that_is_given_up_does_not_end_the_fetch() {
    let issuer = WireIssuer::publishing(&["a"]);
    let plugin = Bench::new().wire(&issuer);
    let token = issuer.token("a").sign();
    let mut given_up = bearer(&token);
    let Access::Later(waiting) = plugin.access(&mut given_up) else {
        panic!("decided without keys");
    };
    assert!(futures_util::FutureExt::now_or_never(waiting).is_none());
    assert_eq!(answer(&plugin, &token).await, passed());
    assert_eq!(issuer.fetches(), 1);
}

#[tokio::test]
async fn plugins_case_025_registered_claims() {
    let plugin = Bench::new().local(json!({"claims_to_verify": ["exp", "nbf"]}));
    let token = || Token::new("a").claim("nbf", NOW_S);
    assert_eq!(answer(&plugin, &token().sign()).await, passed());
    for (token, claims) in [
        (token().claim("exp", NOW_S), r#"["exp"]="token expired""#),
        (token().claim("exp", -1), r#"["exp"]="token expired""#),
        (
            token().claim("exp", "soon"),
            r#"["exp"]="must be a number""#,
        ),
        (token().without("exp"), r#"["exp"]="must be a number""#),
        (
            token().claim("nbf", NOW_S + 1),
            r#"["nbf"]="token not valid yet""#,
        ),
        (
            token().without("exp").claim("nbf", NOW_S + 1),
            r#"["exp"]="must be a number",["nbf"]="token not valid yet""#,
        ),
    ] {
        let expected = refusal(401, &format!("Token claims invalid: {claims}"));
        assert_eq!(answer(&plugin, &token.sign()).await, expected);
    }
}

#[tokio::test]
async fn a_remembered_token_expires_all_the_same() {
    let bench = Bench::new();
    let plugin = bench.local(json!({}));
    let token = Token::new("a").sign();
    assert_eq!(answer(&plugin, &token).await, passed());
    bench.clock.advance_s(3599);
    assert_eq!(answer(&plugin, &token).await, passed());
    bench.clock.advance_s(1);
    let expected = refusal(401, r#"Token claims invalid: ["exp"]="token expired""#);
    assert_eq!(answer(&plugin, &token).await, expected);
}

#[tokio::test]
async fn a_remembered_token_goes_with_the_key_that_verified_it() {
    for is_slow in [false, true] {
        let memory = Memory {
            is_slow,
            ..Memory::default()
        };
        let bench = Bench::with(memory, &[]);
        let plugin = bench.local(json!({}));
        let token = Token::new("a").sign();
        assert_eq!(answer(&plugin, &token).await, passed());
        assert!(
            bench
                .kind
                .shared
                .verified
                .get(&fingerprint(&token))
                .is_some()
        );
        assert_eq!(answer(&plugin, &token).await, passed());
        bench.memory.publish(vec![key("b").public_jwk()]);
        let expected = refusal(401, "Unable to find public key for token kid");
        assert_eq!(answer(&plugin, &token).await, expected);
        // Another instance that does not allow the issuer does not profit from the memory either.
        bench.memory.publish(vec![key("a").public_jwk()]);
        assert_eq!(answer(&plugin, &token).await, passed());
        let other = bench.plugin(json!({"allowed_iss": []}));
        assert_eq!(answer(&other, &token).await.1, "Token issuer not allowed");
    }
}

#[tokio::test]
async fn a_remembered_token_is_decided_at_once() {
    let plugin = Bench::new().local(json!({}));
    let token = Token::new("a").sign();
    assert_eq!(answer(&plugin, &token).await, passed());
    let mut exchange = bearer(&token);
    assert!(matches!(
        plugin.access(&mut exchange),
        Access::Now(Verdict::Continue)
    ));
}

#[tokio::test]
async fn a_token_of_another_realm_is_not_verified_by_its_neighbours_keys() {
    let (ours, theirs) = (
        WireIssuer::publishing(&["a"]),
        WireIssuer::publishing(&["b"]),
    );
    let bench = Bench::new();
    let plugin = bench.plugin(json!({"allowed_iss": [ours.iss(), theirs.iss()]}));
    assert_eq!(answer(&plugin, &ours.token("a").sign()).await, passed());
    assert_eq!(answer(&plugin, &theirs.token("b").sign()).await, passed());
    for token in [ours.token("b").kid("a"), theirs.token("a").kid("b")] {
        let expected = refusal(401, "Invalid token signature");
        assert_eq!(answer(&plugin, &token.sign()).await, expected);
    }
}

#[tokio::test]
async fn plugins_case_024_tampered_tokens_are_never_remembered() {
    let bench = Bench::new();
    let plugin = bench.local(json!({}));
    let token = Token::new("a").sign();
    assert_eq!(answer(&plugin, &token).await, passed());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, _) = signed.split_once('.').unwrap();
    let claims = Token::new("a").claim("azp", "admin").claims.to_string();
    let claims = o28m_jose::base64url(claims.as_bytes());
    let tampered = format!("{header}.{claims}.{signature}");
    for _ in 0..2 {
        let expected = refusal(401, "Invalid token signature");
        assert_eq!(answer(&plugin, &tampered).await, expected);
    }
    let empty = format!("{signed}.");
    assert_eq!(answer(&plugin, &empty).await.1, "Invalid token signature");
}

#[tokio::test]
async fn plugins_case_026_maximum_expiration() {
    let plugin = Bench::new().local(json!({"maximum_expiration": 60}));
    let message = r#"Token claims invalid: ["exp"]="exceeds maximum allowed expiration""#;
    let long = Token::new("a").sign();
    assert_eq!(answer(&plugin, &long).await, refusal(403, message));
    let short = Token::new("a").claim("exp", NOW_S + 60).sign();
    assert_eq!(answer(&plugin, &short).await, passed());
    let plugin = Bench::new().local(json!({"maximum_expiration": 60, "claims_to_verify": []}));
    let endless = Token::new("a").without("exp").sign();
    assert_eq!(answer(&plugin, &endless).await, refusal(403, message));
}

#[tokio::test]
async fn plugins_case_027_to_029_scopes_and_roles() {
    let bench = Bench::new();
    let token = || {
        Token::new("a")
            .claim("scope", "email profile")
            .claim("realm_access", json!({"roles": ["offline_access"]}))
            .claim(
                "resource_access",
                json!({"account": {"roles": ["manage-account"]}, "app": {"roles": ["x"]}}),
            )
    };
    let bare = || Token::new("a").without("azp");
    for (config, token, reason) in [
        (json!({"scope": ["profile"]}), token(), ""),
        (json!({"scope": ["nope", "profile"]}), token(), ""),
        (
            json!({"scope": ["admin"]}),
            token(),
            "Missing required scope",
        ),
        (
            json!({"scope": ["prof"]}),
            token(),
            "Missing required scope",
        ),
        (
            json!({"scope": ["profile"]}),
            bare(),
            "Missing required scope claim",
        ),
        (json!({"scope": [], "roles": null}), bare(), ""),
        (json!({"realm_roles": ["offline_access"]}), token(), ""),
        (
            json!({"realm_roles": ["super-admin"]}),
            token(),
            "Missing required realm role",
        ),
        (
            json!({"realm_roles": ["super-admin"]}),
            bare(),
            "Missing required realm_access.roles claim",
        ),
        (
            json!({"client_roles": ["account:manage-account"]}),
            token(),
            "",
        ),
        (
            json!({"client_roles": ["account:super-admin"]}),
            token(),
            "Missing required role",
        ),
        (
            json!({"client_roles": ["account:x"]}),
            bare(),
            "Missing required resource_access claim",
        ),
        (json!({"roles": ["x"]}), token(), ""),
        (json!({"roles": ["y"]}), token(), "Missing required role"),
        (
            json!({"roles": ["x"]}),
            bare(),
            "Missing required azp claim",
        ),
        (
            json!({"scope": ["profile"], "realm_roles": ["super-admin"]}),
            token(),
            "Missing required realm role",
        ),
    ] {
        let expected = match reason {
            "" => passed(),
            reason => refusal(
                403,
                &format!("Access token does not have the required scope/role: {reason}"),
            ),
        };
        let plugin = bench.local(config.clone());
        assert_eq!(answer(&plugin, &token.sign()).await, expected, "{config}");
    }
}

#[tokio::test]
async fn plugins_case_030_consumers_are_matched_by_a_claim() {
    let bench = Bench::new();
    let config = |ignore: bool| {
        bench.local(json!({
            "consumer_match": true, "consumer_match_claim_custom_id": true,
            "consumer_match_ignore_not_found": ignore, "consumer_match_claim": "azp",
        }))
    };
    let mut exchange = bearer(&Token::new("a").claim("azp", "rover-id").sign());
    assert_eq!(answered(&config(false), &mut exchange).await, passed());
    assert_eq!(exchange.header("x-consumer-custom-id"), Some("rover-id"));
    assert_eq!(exchange.header("x-consumer-username"), Some("rover"));
    assert_eq!(exchange.header("x-anonymous-consumer"), Some("true"));
    assert_eq!(exchange.header("x-credential-identifier"), None);
    assert_eq!(exchange.credential, None);
    let consumer = exchange.consumer.clone().unwrap();
    assert_eq!(exchange.header("x-consumer-id"), Some(consumer.id.as_str()));

    let failed = refusal(403, "Consumer match failed");
    for token in [
        Token::new("a").claim("azp", "nobody"),
        Token::new("a").claim("azp", "rover"),
        Token::new("a").without("azp"),
        Token::new("a").claim("azp", 7),
    ] {
        assert_eq!(answer(&config(false), &token.sign()).await, failed);
        let mut exchange = bearer(&token.sign());
        assert_eq!(answered(&config(true), &mut exchange).await, passed());
        assert_eq!(exchange.header("x-consumer-id"), None);
        assert!(exchange.consumer.is_none());
    }
    let by_name = bench.local(json!({"consumer_match": true}));
    for name in ["rover", consumer.id.as_str()] {
        let token = Token::new("a").claim("azp", name).sign();
        assert_eq!(answer(&by_name, &token).await, passed(), "{name}");
    }
}

#[tokio::test]
async fn without_consumer_match_no_consumer_is_set() {
    let plugin = Bench::new().local(json!({}));
    let mut exchange = bearer(&Token::new("a").claim("azp", "rover").sign());
    assert_eq!(answered(&plugin, &mut exchange).await, passed());
    assert!(exchange.consumer.is_none());
    assert_eq!(exchange.header("x-anonymous-consumer"), None);
    assert_eq!(exchange.gateway_consumer.as_deref(), Some("anonymous"));
    assert!(exchange.header("authorization").is_some());
}

#[tokio::test]
async fn the_client_id_is_what_the_access_log_reads() {
    let plugin = Bench::new().local(json!({}));
    let mut exchange = bearer(&Token::new("a").claim("clientId", "app-1").sign());
    assert_eq!(answered(&plugin, &mut exchange).await, passed());
    assert_eq!(exchange.gateway_consumer.as_deref(), Some("app-1"));
    let mut forged = bearer(&Token::new("b").kid("a").claim("clientId", "app-1").sign());
    assert_eq!(answered(&plugin, &mut forged).await.0, 401);
    assert_eq!(forged.gateway_consumer, None);
}

#[tokio::test]
async fn only_the_mesh_consumer_may_bring_a_consumer_token() {
    let bench = Bench::new();
    let plugin = bench.local(json!({
        "consumer_match": true, "consumer_match_claim_custom_id": true,
    }));
    for (azp, is_kept) in [("gateway", true), ("rover-id", false)] {
        let mut exchange = bearer(&Token::new("a").claim("azp", azp).sign());
        let forwarded = http::HeaderValue::from_static("Bearer c");
        exchange.request.headers.insert(CONSUMER_TOKEN, forwarded);
        assert_eq!(answered(&plugin, &mut exchange).await, passed());
        assert_eq!(
            exchange.header("consumer-token").is_some(),
            is_kept,
            "{azp}"
        );
    }
}

#[tokio::test]
async fn plugins_case_033_preflight_requests_can_be_let_through() {
    let bench = Bench::new();
    let preflight = || exchange(Request::options("/").body(Body::Empty).unwrap());
    let lets_through = bench.local(json!({"run_on_preflight": false}));
    assert_eq!(answered(&lets_through, &mut preflight()).await, passed());
    assert_eq!(
        answered(&bench.local(json!({})), &mut preflight()).await.0,
        401
    );
    let mut get = exchange(Request::get("/").body(Body::Empty).unwrap());
    assert_eq!(answered(&lets_through, &mut get).await.0, 401);
}

#[tokio::test]
async fn plugins_case_034_oversize_tokens_are_not_looked_at() {
    let plugin = Bench::new().local(json!({}));
    let token = Token::new("a").claim("padding", "x".repeat(limits::TOKEN_BYTES_MAX));
    let expected = refusal(401, "Bad token; invalid JSON");
    assert_eq!(answer(&plugin, &token.sign()).await, expected);
    assert_eq!(answer(&plugin, &"a.b.c".repeat(200_000)).await, expected);
}

#[test]
fn plugins_case_036_security_events_name_the_check_that_failed() {
    for (failure, event) in [
        (Failure::NoToken, ("ua200", "ua, token not provided")),
        (Failure::Scope("x"), ("ua222", "ua, validate_scope failed")),
        (Failure::Roles("x"), ("ua222", "ua, validate_roles failed")),
        (Failure::LivesTooLong, ("ua202", "ua, token timed out")),
        (
            Failure::UnknownKid,
            ("ua221", "ua, public key for kid not available"),
        ),
    ] {
        assert_eq!(failure.event(), event);
    }
}

#[tokio::test]
async fn an_anonymous_consumer_stands_in_for_failures_but_not_for_bad_signatures() {
    let bench = Bench::new();
    let plugin = bench.local(json!({"anonymous": "lonely"}));
    let mut stranger = exchange(Request::get("/").body(Body::Empty).unwrap());
    assert_eq!(answered(&plugin, &mut stranger).await, passed());
    assert_eq!(stranger.header("x-consumer-username"), Some("lonely"));
    assert_eq!(stranger.header("x-anonymous-consumer"), Some("true"));
    let forged = Token::new("b").kid("a").sign();
    assert_eq!(answer(&plugin, &forged).await.1, "Invalid token signature");

    let mut known = exchange(Request::get("/").body(Body::Empty).unwrap());
    known.credential = Some(Credential {
        id: None,
        identifier: None,
    });
    assert_eq!(answered(&plugin, &mut known).await, passed());
    assert!(known.consumer.is_none());

    let missing = bench.local(json!({"anonymous": "ghost"}));
    let mut stranger = exchange(Request::get("/").body(Body::Empty).unwrap());
    let (status, body) = outcome(missing.as_ref(), &mut stranger).await;
    assert_eq!(status, 500);
    assert!(body.contains("anonymous consumer ghost is configured but doesn't exist"));
}

#[tokio::test]
async fn instances_share_the_keys_of_an_issuer() {
    let issuer = WireIssuer::publishing(&["a"]);
    let bench = Bench::new();
    let first = bench.wire(&issuer);
    assert_eq!(answer(&first, &issuer.token("a").sign()).await, passed());
    let second = bench.wire(&issuer);
    assert_eq!(answer(&second, &issuer.token("a").sign()).await, passed());
    assert_eq!(issuer.fetches(), 1);
}

#[test]
fn the_full_configuration_of_the_admin_api_is_read() {
    let config = json!({
        "uri_param_names": ["jwt"], "cookie_names": [], "header_names": ["authorization"],
        "claims_to_verify": ["exp"], "maximum_expiration": 0, "anonymous": null,
        "run_on_preflight": true, "algorithm": "RS256", "allowed_iss": [ISSUER],
        "iss_key_grace_period": 10, "well_known_template": "%s/.well-known/openid-configuration",
        "scope": null, "roles": null, "realm_roles": null, "client_roles": null,
        "consumer_match": true, "consumer_match_claim": "azp",
        "consumer_match_claim_custom_id": true, "consumer_match_ignore_not_found": false,
        "cafile": "/no/such/file",
    });
    let kind = Bench::new().kind;
    assert!(kind.configure(&config).is_ok());
    assert!(kind.configure(&json!({"allowed_iss": "x"})).is_err());
    assert!(kind.configure(&json!({"leeway": 5})).is_err());
    assert_eq!((kind.name(), kind.priority()), ("jwt-keycloak", 1005));
}
