//! Certificates from the configuration: shown to clients, shown to upstreams, and trusted.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use o28m_gateway::{BadConfig, Gateway, Plugin, PluginKind, Variables};
use o28m_net::client::Pool;
use o28m_net::server::{HeadLimits, Listener, serve};
use o28m_net::tls::{CertificateSource, Identities, Identity, ListenerSettings, listener_config};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;

use crate::balancing::stored;
use crate::support::*;

/// A certificate with its key.
struct Pair {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
}

impl Pair {
    fn root(name: &str) -> Self {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { params, key, pem }
    }

    fn issue(&self, name: &str) -> Self {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&self.params, &self.key);
        let pem = params.signed_by(&key, &issuer).unwrap().pem();
        Self { params, key, pem }
    }

    fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()
    }

    fn identity(&self) -> Arc<Identity> {
        Identity::from_pem(self.pem.as_bytes(), self.key_pem().as_bytes()).unwrap()
    }

    /// The entity.
    fn stored(&self, name: &str) -> (&'static str, Value) {
        let body = json!({"id": id(name), "cert": self.pem, "key": self.key_pem()});
        ("certificates", body)
    }
}

fn sni(name: &str, certificate: &str) -> (&'static str, Value) {
    let certificate = json!({"id": id(certificate)});
    let body = json!({"id": id(&format!("sni {name}")), "name": name, "certificate": certificate});
    ("snis", body)
}

/// A TLS listener of the gateway that shows `default` for names it does not know.
fn listen(gateway: &Arc<Gateway>, default: &Pair) -> (SocketAddr, tokio_util::sync::DropGuard) {
    let source = gateway.clone() as Arc<dyn CertificateSource>;
    let settings = ListenerSettings::default();
    let mut listener = Listener::bind("proxy-ssl", ([127, 0, 0, 1], 0).into()).unwrap();
    let default: Identities = [default.identity()].into();
    let sources = vec![source, Arc::new(default)];
    listener.tls = Some(listener_config(sources, &settings).unwrap());
    let address = listener.address();
    let stop = CancellationToken::new();
    tokio::spawn(serve(
        listener,
        gateway.clone(),
        Pool::new(),
        HeadLimits::default(),
        stop.clone(),
        stop.clone(),
    ));
    (address, stop.drop_guard())
}

/// A client that trusts these certificates.
fn client(trusted: &[&Pair]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for pair in trusted {
        roots.add(pair.der()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    // A resumed session shows no certificate.
    config.resumption = rustls::client::Resumption::disabled();
    TlsConnector::from(Arc::new(config))
}

/// The certificate that is shown for a name; an error when the handshake fails.
async fn shown(
    client: &TlsConnector,
    address: SocketAddr,
    name: &str,
) -> std::io::Result<CertificateDer<'static>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut stream = client.connect(name, stream).await?;
    let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{answer:?}");
    Ok(certificate.into_owned())
}

#[tokio::test]
async fn clients_see_the_certificate_of_the_name_they_ask_for() {
    let upstream = Upstream::ok();
    let running = start_for(&upstream, Setup::default()).await;
    let root = Pair::root("root");
    let pairs = ["default.example", "one.example", "*.two.example"].map(|it| root.issue(it));
    let [default, one, two] = &pairs;
    let (address, _stop) = listen(&running.gateway, default);
    let client = client(&[&root]);
    let now = async |name: &str| shown(&client, address, name).await.ok();
    assert_eq!(now("default.example").await, Some(default.der()));
    // Not for this name: the client refuses it.
    assert_eq!(now("one.example").await, None);
    let broken = json!({"id": id("broken"), "cert": one.pem, "key": two.key_pem()});
    let documents = [
        one.stored("one"),
        two.stored("two"),
        sni("one.example", "one"),
        sni("*.two.example", "two"),
        ("certificates", broken),
        sni("broken.two.example", "broken"),
    ];
    running.put(&documents).await;
    assert_eq!(now("one.example").await, Some(one.der()));
    assert_eq!(now("a.two.example").await, Some(two.der()));
    assert_eq!(now("broken.two.example").await, Some(two.der()));
    assert_eq!(now("default.example").await, Some(default.der()));
    let skipped = "o28m_config_skipped_entities{kind=\"certificates\"}";
    assert!(running.metrics.render().contains(&format!("{skipped} 1")));
    // Handshakes need no database.
    running.store.close().await;
    assert_eq!(now("a.two.example").await, Some(two.der()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_replaced_under_load_without_a_failed_handshake() {
    let upstream = Upstream::ok();
    let running = start_for(&upstream, Setup::default()).await;
    let root = Pair::root("root");
    let default = root.issue("default.example");
    let old = root.issue("hot.example");
    running
        .put(&[old.stored("hot"), sni("hot.example", "hot")])
        .await;
    let (address, _stop) = listen(&running.gateway, &default);
    let done = Arc::new(AtomicBool::new(false));
    let handshakes = Arc::new(AtomicUsize::new(0));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (client, done, handshakes) = (client(&[&root]), done.clone(), handshakes.clone());
        clients.spawn(async move {
            while !done.load(Ordering::SeqCst) {
                shown(&client, address, "hot.example").await.unwrap();
                handshakes.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    let observer = client(&[&root]);
    for _ in 0..5 {
        let before = handshakes.load(Ordering::SeqCst);
        eventually("load", || handshakes.load(Ordering::SeqCst) > before).await;
        let new = root.issue("hot.example");
        let version = running.store.write(upserts(&[new.stored("hot")])).await;
        let written = Instant::now();
        while shown(&observer, address, "hot.example").await.unwrap() != new.der() {
            let waited = written.elapsed();
            assert!(
                waited < Duration::from_secs(1),
                "still the old one after {waited:?}"
            );
        }
        running.applied(version.unwrap()).await;
    }
    done.store(true, Ordering::SeqCst);
    clients.join_all().await;
}

/// A TLS upstream that answers with the name of the client's certificate, or with 400 without one.
async fn asking(root: &Pair) -> SocketAddr {
    let leaf = root.issue("up.example");
    let mut roots = RootCertStore::empty();
    roots.add(root.der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
            .allow_unauthenticated()
            .build()
            .unwrap();
    let certified = leaf.identity().certified().clone();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (address, _) = misbehaving(move |stream, _| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                return;
            };
            let peer = stream.get_ref().1.peer_certificates();
            let body = peer.map(|it| String::from_utf8_lossy(&it[0]).into_owned());
            let known = ["client one", "client two", "client three"];
            let known = known
                .into_iter()
                .find(|name| body.as_ref().is_some_and(|it| it.contains(name)));
            let answer = match known {
                Some(name) => format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}",
                    name.len()
                ),
                None => "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_owned(),
            };
            let mut buffer = vec![0; 8192];
            while stream.read(&mut buffer).await.is_ok_and(|it| it > 0) {
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    address
}

/// A service of the asking upstream.
fn secured(port: u16, changes: Value) -> (&'static str, Value) {
    let mut document = service("s", port, json!({"protocol": "https", "retries": 0}));
    for (key, value) in changes.as_object().unwrap() {
        document[key] = value.clone();
    }
    ("services", document)
}

fn everything_to_service() -> (&'static str, Value) {
    ("routes", route("r", "s", json!({"paths": ["/"]})))
}

#[tokio::test]
async fn proxy_case_046_services_trust_their_own_authorities() {
    let (root, other) = (Pair::root("root"), Pair::root("other"));
    let port = asking(&root).await.port();
    let running = start(Setup::default()).await;
    let authority = |name: &str, pair: &Pair| {
        let body = json!({"id": id(name), "cert": pair.pem});
        ("ca_certificates", body)
    };
    let host = |changes: Value| {
        let mut all = json!({"host": "127.0.0.1"});
        for (key, value) in changes.as_object().unwrap() {
            all[key] = value.clone();
        }
        secured(port, all)
    };
    running
        .put(&[everything_to_service(), host(json!({}))])
        .await;
    // The upstream answers 400 to strangers: a connection was made.
    assert_eq!(running.get("/").await.status, 400);
    let verified = json!({"tls_verify": true, "ca_certificates": [id("ca")]});
    running.put(&[host(verified.clone())]).await;
    // The authority is not there: nobody is trusted instead.
    assert_eq!(running.get("/").await.status, 502);
    let name = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}");
    let keeps = json!({"paths": ["/"], "preserve_host": true});
    let keeps = ("routes", route("r", "s", keeps));
    running.put(&[authority("ca", &root), keeps]).await;
    assert_eq!(running.send(&name("up.example")).await.status, 400);
    assert_eq!(running.send(&name("up.example:8443")).await.status, 400);
    // The name of the request is what is verified.
    assert_eq!(running.send(&name("other.example")).await.status, 502);
    running.put(&[authority("ca", &other)]).await;
    assert_eq!(running.send(&name("up.example")).await.status, 502);
    let both = json!({"tls_verify": true, "ca_certificates": [id("ca"), id("second")]});
    running.put(&[host(both), authority("second", &root)]).await;
    assert_eq!(running.send(&name("up.example")).await.status, 400);
    running.delete("ca_certificates", "ca").await;
    assert_eq!(running.send(&name("up.example")).await.status, 400);
    let skipped = "o28m_config_skipped_entities{kind=\"services\"}";
    assert!(running.metrics.render().contains(&format!("{skipped} 1")));
    running.delete("ca_certificates", "second").await;
    assert_eq!(running.send(&name("up.example")).await.status, 502);
    running
        .put(&[authority("ca", &root), authority("second", &other)])
        .await;
    assert_eq!(running.send(&name("up.example")).await.status, 400);
    assert!(running.metrics.render().contains(&format!("{skipped} 0")));
}

#[tokio::test]
async fn the_bundle_of_the_process_is_for_services_without_authorities() {
    let root = Pair::root("root");
    let port = asking(&root).await.port();
    let mut setup = Setup::default();
    setup.settings.upstream_tls_verify = true;
    setup.settings.upstream_tls_ca = Some(Arc::from(root.pem.as_str()));
    setup.settings.upstream_identity = Some(root.issue("client three").identity());
    let running = start(setup).await;
    let keeps = route("r", "s", json!({"paths": ["/"], "preserve_host": true}));
    let none = json!({"ca_certificates": []});
    running.put(&[("routes", keeps), secured(port, none)]).await;
    let reply = running.send("GET / HTTP/1.1\r\nHost: up.example").await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "client three"));
    let reply = running.send("GET / HTTP/1.1\r\nHost: other.example").await;
    assert_eq!(reply.status, 502);
}

#[tokio::test]
async fn proxy_case_047_upstreams_see_the_certificate_of_the_service() {
    let root = Pair::root("root");
    let address = asking(&root).await;
    let running = start(Setup::default()).await;
    let port = address.port();
    let (one, two) = (root.issue("client one"), root.issue("client two"));
    let shows = |name: &str| secured(port, json!({"client_certificate": {"id": id(name)}}));
    running
        .put(&[everything_to_service(), secured(port, json!({}))])
        .await;
    assert_eq!(running.get("/").await.status, 400);
    running.put(&[shows("one")]).await;
    // It is not there: nothing is sent without it.
    assert_eq!(running.get("/").await.status, 502);
    running.put(&[one.stored("one"), two.stored("two")]).await;
    assert_eq!(running.get("/").await.body, "client one");
    running.put(&[shows("two")]).await;
    assert_eq!(running.get("/").await.body, "client two");
    running.put(&[one.stored("two")]).await;
    assert_eq!(running.get("/").await.body, "client one");

    let upstream = |certificate: Value| {
        let body = json!({"id": id("u"), "name": "up", "client_certificate": certificate});
        ("upstreams", stored("upstreams", body))
    };
    let target = json!({
        "id": id("t"), "target": address.to_string(), "weight": 1, "upstream": {"id": id("u")},
    });
    let through = |changes: Value| {
        let mut all = json!({"host": "up"});
        for (key, value) in changes.as_object().unwrap() {
            all[key] = value.clone();
        }
        secured(port, all)
    };
    let documents = [
        upstream(Value::Null),
        ("targets", target),
        through(json!({})),
    ];
    running.put(&documents).await;
    assert_eq!(running.get("/").await.status, 400);
    running.put(&[upstream(json!({"id": id("three")}))]).await;
    assert_eq!(running.get("/").await.status, 502);
    running.put(&[two.stored("three")]).await;
    assert_eq!(running.get("/").await.body, "client two");
    let own = json!({"client_certificate": {"id": id("one")}});
    running.put(&[through(own)]).await;
    assert_eq!(running.get("/").await.body, "client one");
    running.delete("certificates", "one").await;
    assert_eq!(running.get("/").await.status, 502);
}

#[tokio::test]
async fn active_checks_show_the_certificate_of_the_upstream() {
    let root = Pair::root("root");
    let address = asking(&root).await;
    let running = start(Setup::default()).await;
    let one = root.issue("client one");
    let upstream = |certificate: Value| {
        let checks = json!({"active": {
            "type": "https", "https_verify_certificate": false, "timeout": 5,
            "healthy": {"interval": 0.1, "successes": 1, "http_statuses": [200]},
            "unhealthy": {"interval": 0.1, "http_failures": 1, "http_statuses": [400]},
        }});
        let body = json!({
            "id": id("u"), "name": "up", "client_certificate": certificate, "healthchecks": checks,
        });
        ("upstreams", stored("upstreams", body))
    };
    let target = json!({
        "id": id("t"), "target": address.to_string(), "weight": 1, "upstream": {"id": id("u")},
    });
    running
        .put(&[upstream(Value::Null), ("targets", target)])
        .await;
    let healthy = || running.gateway.health_of(&id("u")).unwrap().targets[0].addresses[0].available;
    eventually("an unhealthy target", || !healthy()).await;
    running
        .put(&[one.stored("one"), upstream(json!({"id": id("one")}))])
        .await;
    eventually("a healthy target", healthy).await;
}

#[tokio::test]
async fn values_from_vaults_are_put_in_and_missing_ones_close() {
    let root = Pair::root("root");
    let (one, two) = (root.issue("hot.example"), root.issue("hot.example"));
    let variables = [
        ("CERT", one.pem.clone()),
        ("KEY", one.key_pem()),
        ("NEXT_CERT", two.pem.clone()),
        ("NEXT_KEY", two.key_pem()),
    ];
    let mut setup = Setup::default();
    setup.settings.variables = Variables::new(move |name| {
        let found = variables.iter().find(|(it, _)| *it == name);
        found.map(|(_, value)| value.clone())
    });
    let upstream = Upstream::ok();
    let running = start_for(&upstream, setup).await;
    let default = root.issue("default.example");
    let (address, _stop) = listen(&running.gateway, &default);
    let client = client(&[&root]);
    let now = async || shown(&client, address, "hot.example").await.ok();
    let stored = |vault: &str| {
        let reference = |name: &str| format!("{{vault://{vault}/{name}}}");
        let body = json!({"id": id("hot"), "cert": reference("cert"), "key": reference("key")});
        ("certificates", body)
    };
    let vault = |prefix: &str| {
        let config = json!({"prefix": prefix});
        let body = json!({"id": id("v"), "prefix": "mine", "name": "env", "config": config});
        ("vaults", body)
    };
    running
        .put(&[stored("env"), sni("hot.example", "hot")])
        .await;
    assert_eq!(now().await, Some(one.der()));
    running.put(&[stored("mine")]).await;
    assert_eq!(now().await, None);
    let skipped = "o28m_config_skipped_entities{kind=\"certificates\"}";
    assert!(running.metrics.render().contains(&format!("{skipped} 1")));
    running.put(&[vault("")]).await;
    assert_eq!(now().await, Some(one.der()));
    assert!(running.metrics.render().contains(&format!("{skipped} 0")));
    running.put(&[vault("next_")]).await;
    assert_eq!(now().await, Some(two.der()));
    running.gateway.load(&running.store).await.unwrap();
    assert_eq!(now().await, Some(two.der()));
    running.delete("vaults", "v").await;
    assert_eq!(now().await, None);
}

/// Lets requests pass, and keeps what it was configured with.
struct Keeping(Mutex<Value>);

impl Plugin for Keeping {}

struct Keeper(Arc<Keeping>);

impl PluginKind for Keeper {
    /// One of which it is declared what may be a reference.
    fn name(&self) -> &'static str {
        "rate-limiting"
    }

    fn priority(&self) -> i32 {
        1
    }

    fn configure(&self, config: &Value) -> Result<Arc<dyn Plugin>, BadConfig> {
        *self.0.0.lock().unwrap() = config.clone();
        Ok(self.0.clone())
    }
}

#[tokio::test]
async fn a_plugin_whose_secret_is_missing_closes_its_scope() {
    let kept = Arc::new(Keeping(Mutex::default()));
    let mut setup = Setup {
        kinds: vec![Arc::new(Keeper(kept.clone()))],
        ..Setup::default()
    };
    setup.settings.variables = Variables::new(|name| (name == "SET").then(|| "secret".to_owned()));
    let upstream = Upstream::ok();
    let running = start_for(&upstream, setup).await;
    let limiting = |reference: &str| {
        let config = json!({"redis": {"password": reference}});
        (
            "plugins",
            plugin(
                "p",
                "rate-limiting",
                config,
                json!({"route": {"id": id("r")}}),
            ),
        )
    };
    running.put(&[limiting("{vault://env/not-set}")]).await;
    assert_eq!(running.get("/").await.status, 500);
    let skipped = "o28m_config_skipped_entities{kind=\"plugins\"}";
    assert!(running.metrics.render().contains(&format!("{skipped} 1")));
    running.put(&[limiting("{vault://env/set}")]).await;
    assert_eq!(running.get("/").await.status, 200);
    assert_eq!(kept.0.lock().unwrap()["redis"]["password"], "secret");
    assert!(running.metrics.render().contains(&format!("{skipped} 0")));
}
