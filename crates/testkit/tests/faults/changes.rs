//! The configuration changes while requests flow: each of them sees one state or the other, whole.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::Response;
use o28m_testkit::{Client, Database, PATIENCE, Pair, Platform, Upstream, Wire};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::change;

/// What runs beside a test until it is told to stop.
struct Beside {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicUsize>,
    tasks: JoinSet<()>,
}

impl Beside {
    /// Does `work` over and over, several times at once.
    fn times<F>(count: usize, work: impl Fn() -> F + Clone + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send,
    {
        let (stop, rounds) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let mut tasks = JoinSet::new();
        for _ in 0..count {
            let (stop, rounds, work) = (stop.clone(), rounds.clone(), work.clone());
            tasks.spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    tokio::time::timeout(PATIENCE, work()).await.unwrap();
                    rounds.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        Self {
            stop,
            rounds,
            tasks,
        }
    }

    /// Waits for so many more rounds.
    async fn go_on(&mut self, count: usize) {
        let wanted = self.rounds.load(Ordering::SeqCst) + count;
        while self.rounds.load(Ordering::SeqCst) < wanted {
            if let Some(ended) = self.tasks.try_join_next() {
                ended.unwrap();
            }
            tokio::task::yield_now().await;
        }
    }

    /// Waits for the end of what runs; how many rounds there were.
    async fn finish(mut self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        self.rounds.load(Ordering::SeqCst)
    }
}

/// Accepts whatever is shown; the handshake still proves that the server has the key.
#[derive(Debug)]
struct Anything(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn any_server() -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anything(provider)))
        .with_no_client_auth();
    Arc::new(config)
}

/// A handshake and a request; the certificate that was shown and the status.
async fn shown(address: &str, name: &str) -> io::Result<(Vec<u8>, u16)> {
    let stream = TcpStream::connect(address).await?;
    // A configuration of its own: a resumed session shows no certificate.
    let connector = tokio_rustls::TlsConnector::from(any_server());
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut stream = connector.connect(name, stream).await?;
    let certificates = stream.get_ref().1.peer_certificates();
    let certificate = certificates.and_then(|it| it.first()).unwrap().to_vec();
    let request = b"GET /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split(' ').nth(1).and_then(|it| it.parse().ok());
    Ok((certificate, status.unwrap_or(0)))
}

fn der(pem: &str) -> Vec<u8> {
    use rustls::pki_types::pem::PemObject as _;
    CertificateDer::from_pem_slice(pem.as_bytes())
        .unwrap()
        .to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_replaced_under_load() {
    const NAME: &str = "api.example.com";
    let platform = Platform::start(Database::Sqlite).await.unwrap();
    let provider = Upstream::ok();
    platform
        .route("echo", &provider.url(), json!({"paths": ["/echo"]}))
        .await;
    let root = Pair::root("root");
    let generations: Vec<Pair> = (0..5).map(|_| root.issue(NAME)).collect();
    let known: Arc<Vec<Vec<u8>>> = Arc::new(generations.iter().map(|it| der(&it.pem)).collect());
    let mut body = generations[0].body();
    body["snis"] = json!([NAME]);
    let made = change(&platform, "POST", "/certificates", body).await;
    let path = format!("/certificates/{}", made["id"].as_str().unwrap());
    let address = platform.credential("GATEWAY_TLS_URL");
    let address = address.strip_prefix("https://").unwrap().to_owned();
    // The oldest that may still be shown, and the newest that may be shown already.
    let (oldest, newest) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut handshakes = Beside::times(8, {
        let (oldest, newest, known) = (oldest.clone(), newest.clone(), known.clone());
        move || {
            let (oldest, newest, known) = (oldest.clone(), newest.clone(), known.clone());
            let address = address.clone();
            async move {
                let before = oldest.load(Ordering::SeqCst);
                let (certificate, status) = shown(&address, NAME).await.unwrap();
                let after = newest.load(Ordering::SeqCst);
                let which = known.iter().position(|it| *it == certificate).unwrap();
                assert!(
                    (before..=after).contains(&which),
                    "{which} not in {before}..={after}"
                );
                assert_eq!(status, 200);
            }
        }
    });
    for (number, generation) in generations.iter().enumerate().skip(1) {
        handshakes.go_on(60).await;
        newest.store(number, Ordering::SeqCst);
        change(&platform, "PATCH", &path, generation.body()).await;
        oldest.store(number, Ordering::SeqCst);
    }
    handshakes.go_on(60).await;
    assert!(handshakes.finish().await >= 300);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_trust_in_an_upstream_changes_under_load() {
    let (one, two) = (Pair::root("one"), Pair::root("two"));
    let shown = one.issue("localhost");
    let key = shown.key.serialize_pem();
    let tls = o28m_net::tls::server_config(shown.pem.as_bytes(), key.as_bytes()).unwrap();
    let provider = Upstream::start_tls(Some(tls), |_| Response::new("trusted".into()));
    let platform = Platform::start(Database::Sqlite).await.unwrap();
    let mut ids = Vec::new();
    for root in [&one, &two] {
        let made = change(
            &platform,
            "POST",
            "/ca_certificates",
            json!({"cert": root.pem}),
        )
        .await;
        ids.push(made["id"].clone());
    }
    let url = format!("https://localhost:{}", provider.address().port());
    platform
        .route("echo", &url, json!({"paths": ["/echo"]}))
        .await;
    let trust = async |ids: &[&Value]| {
        let change_to = json!({"tls_verify": true, "ca_certificates": ids});
        change(&platform, "PATCH", "/services/echo", change_to).await;
    };
    trust(&[&ids[0]]).await;
    let url = platform.gateway("/echo");
    // While it is trusted all the time nothing fails, however the trust is written.
    let mut requests = Beside::times(4, {
        let (client, url) = (Client::default(), url.clone());
        move || {
            let (client, url) = (client.clone(), url.clone());
            async move {
                let reply = client.get(&url).await.expect(200);
                assert_eq!(reply.body, "trusted");
            }
        }
    });
    for round in 0..12 {
        requests.go_on(20).await;
        match round % 2 {
            0 => trust(&[&ids[0], &ids[1]]).await,
            _ => trust(&[&ids[0]]).await,
        }
    }
    requests.go_on(20).await;
    assert!(requests.finish().await >= 200);
    // When it is no longer trusted nothing passes, on no connection of before.
    let mut requests = Beside::times(4, {
        let (client, url) = (Client::default(), url.clone());
        move || {
            let (client, url) = (client.clone(), url.clone());
            async move {
                let reply = client.get(&url).await;
                assert!(reply.status == 502 || reply.body == "trusted", "{reply:?}");
            }
        }
    });
    for _ in 0..6 {
        requests.go_on(20).await;
        trust(&[&ids[1]]).await;
        for _ in 0..5 {
            let _ = platform.http.get(&url).await.expect(502);
        }
        requests.go_on(20).await;
        trust(&[&ids[0]]).await;
        let _ = platform.http.get(&url).await.expect(200);
    }
    requests.finish().await;
}

/// A service moves, and a plugin of two headers changes: no request sees half of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_routes_and_plugins_change_under_load_as_a_whole() {
    let platform = Platform::start(Database::Sqlite).await.unwrap();
    let say = |name: &'static str| {
        Upstream::start(move |request| {
            let value = |name: &str| {
                let value = request.headers().get(name);
                value.map_or("", |it| it.to_str().unwrap()).to_owned()
            };
            let text = format!("{name} {} {} {}", request.uri(), value("x-a"), value("x-b"));
            Response::new(text.into())
        })
    };
    let (one, two) = (say("one"), say("two"));
    let place = |round: usize| match round % 2 {
        0 => json!({"url": format!("{}/one", one.url())}),
        _ => json!({"url": format!("{}/two", two.url())}),
    };
    let pair = |round: usize| {
        let headers = json!([format!("x-a:{round}"), format!("x-b:{round}")]);
        json!({"name": "request-transformer", "config": {"add": {"headers": headers}}})
    };
    platform
        .route(
            "moving",
            &format!("{}/one", one.url()),
            json!({"paths": ["/moving"]}),
        )
        .await;
    let plugin = "/services/moving/plugins/b864d58b-7183-4889-8b32-0b92d6c4d599";
    change(&platform, "PUT", plugin, pair(0)).await;
    let applied = Arc::new(AtomicUsize::new(0));
    let mut requests = Beside::times(6, {
        let (client, url) = (Client::default(), platform.gateway("/moving/x"));
        let applied = applied.clone();
        move || {
            let (client, url, applied) = (client.clone(), url.clone(), applied.clone());
            async move {
                let before = applied.load(Ordering::SeqCst);
                let reply = client.get(&url).await.expect(200);
                let text = reply.text();
                let words: Vec<_> = text.split(' ').collect();
                assert_eq!(
                    words[1],
                    format!("/{}/x", words[0]),
                    "half a service: {text}"
                );
                assert_eq!(words[2], words[3], "half a plugin: {text}");
                let seen: usize = words[2].parse().unwrap();
                assert!(seen >= before, "{seen} after {before}");
            }
        }
    });
    for round in 1..=20 {
        requests.go_on(10).await;
        change(&platform, "PATCH", "/services/moving", place(round)).await;
        change(&platform, "PUT", plugin, pair(round)).await;
        applied.store(round, Ordering::SeqCst);
        // A route in the way of others, and gone again.
        let path = format!("/moving/x/{round}");
        platform
            .route("passing", &one.url(), json!({"paths": [path]}))
            .await;
        change(&platform, "DELETE", "/routes/passing", Value::Null).await;
    }
    assert!(requests.finish().await >= 200);
}

/// A body that is on its way arrives whole where it was sent, whatever becomes of route and service.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_on_their_way_keep_their_configuration() {
    let platform = Platform::start(Database::Sqlite).await.unwrap();
    let provider = Upstream::start(|request| Response::new(request.body().clone()));
    for (name, buffering) in [("buffered", true), ("live", false)] {
        let route = json!({"paths": [format!("/{name}")], "request_buffering": buffering});
        platform.route(name, &provider.url(), route).await;
    }
    let proxy = platform.credential("GATEWAY_URL").to_owned();
    let mut begun = Vec::new();
    for name in ["buffered", "live"] {
        let mut client = Wire::connect(&proxy).await;
        let head = format!("PUT /{name} HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n");
        assert!(
            client
                .send(format!("{head}Expect: 100-continue\r\n\r\n"))
                .await
        );
        // Its turn to send: the request is past its route.
        let told = client.until("\r\n\r\n").await;
        assert!(told.starts_with("HTTP/1.1 100 "), "{told}");
        assert!(client.send("half").await);
        begun.push(client);
    }
    for name in ["buffered", "live"] {
        change(&platform, "DELETE", &format!("/routes/{name}"), Value::Null).await;
        change(
            &platform,
            "DELETE",
            &format!("/services/{name}"),
            Value::Null,
        )
        .await;
        let _ = platform
            .http
            .get(&platform.gateway(&format!("/{name}")))
            .await
            .expect(404);
    }
    for mut client in begun {
        assert!(client.send("half").await);
        let answer = client.answer("PUT").await.unwrap();
        assert_eq!((answer.status(), &*answer.body), (200, &b"halfhalf"[..]));
    }
}
