//! Which certificate is shown, which are accepted, and what connections of others are worth.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use http::Response;
use o28m_net::client::{Pool, SendError, Target, TlsPolicy};
use o28m_net::server::Limits;
use o28m_net::tls::{
    CertificateSource, Identities, Identity, ListenerSettings, Profile, listener_config,
    server_config,
};
use o28m_net::{Body, Scheme};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::support::*;

/// A certificate and what signs with its key.
struct Authority {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
}

fn params(name: &str, is_ca: bool) -> CertificateParams {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    if is_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    params
}

impl Authority {
    fn root(name: &str) -> Self {
        let (params, key) = (params(name, true), KeyPair::generate().unwrap());
        let pem = params.self_signed(&key).unwrap().pem();
        Self { params, key, pem }
    }

    fn issue(&self, name: &str, is_ca: bool) -> Self {
        let (params, key) = (params(name, is_ca), KeyPair::generate().unwrap());
        let issuer = Issuer::from_params(&self.params, &self.key);
        let pem = params.signed_by(&key, &issuer).unwrap().pem();
        Self { params, key, pem }
    }

    fn identity(&self) -> Arc<Identity> {
        Identity::from_pem(self.pem.as_bytes(), self.key.serialize_pem().as_bytes()).unwrap()
    }
}

fn self_signed(name: &str, algorithm: &'static rcgen::SignatureAlgorithm) -> Arc<Identity> {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let pem = params(name, false).self_signed(&key).unwrap().pem();
    Identity::from_pem(pem.as_bytes(), key.serialize_pem().as_bytes()).unwrap()
}

#[derive(Default)]
struct Known(Mutex<HashMap<&'static str, Identities>>);

impl CertificateSource for Known {
    fn find(&self, server_name: Option<&str>) -> Option<Identities> {
        self.0.lock().unwrap().get(server_name?).cloned()
    }
}

/// A source that always has the same.
fn always(identity: &Arc<Identity>) -> Arc<dyn CertificateSource> {
    let identities: Identities = [identity.clone()].into();
    Arc::new(identities)
}

/// What a server shows to a client that asks for `name` and can verify `schemes`.
async fn shown(
    address: std::net::SocketAddr,
    name: Option<&str>,
    schemes: Option<&[SignatureScheme]>,
) -> Option<CertificateDer<'static>> {
    #[derive(Debug)]
    struct Any(Vec<SignatureScheme>);
    use rustls::client::danger::*;
    impl ServerCertVerifier for Any {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: rustls::pki_types::UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.clone()
        }
    }
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let all = provider.signature_verification_algorithms;
    let schemes = schemes.map_or_else(|| all.supported_schemes(), <[_]>::to_vec);
    let config = ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Any(schemes)))
        .with_no_client_auth();
    let name = match name {
        Some(name) => ServerName::try_from(name.to_owned()).unwrap(),
        None => ServerName::from(address.ip()),
    };
    let stream = TcpStream::connect(address).await.unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let stream = stream.await.ok()?;
    let certificates = stream.get_ref().1.peer_certificates()?;
    certificates.first().map(|it| it.clone().into_owned())
}

fn first(identity: &Identity) -> CertificateDer<'static> {
    identity.certified().cert[0].clone()
}

#[tokio::test]
async fn certificates_are_chosen_by_name_and_by_what_the_client_can_verify() {
    let ecdsa = self_signed("both", &rcgen::PKCS_ECDSA_P256_SHA256);
    let rsa = self_signed("both", &rcgen::PKCS_RSA_SHA256);
    let other = self_signed("other", &rcgen::PKCS_ECDSA_P256_SHA256);
    let source = Arc::new(Known::default());
    let both: Arc<[_]> = [rsa.clone(), ecdsa.clone()].into();
    source.0.lock().unwrap().insert("both.example", both);
    let sources = vec![source.clone() as Arc<dyn CertificateSource>, always(&other)];
    let config = listener_config(sources, &ListenerSettings::default());
    let server = Server::start_with(Limits::default(), Some(config.unwrap()), echo);
    let address = server.address;
    let only_rsa: &[_] = &[
        SignatureScheme::RSA_PSS_SHA256,
        SignatureScheme::RSA_PKCS1_SHA256,
    ];
    let only_ecdsa: &[_] = &[SignatureScheme::ECDSA_NISTP256_SHA256];
    let both = Some("Both.Example");
    assert_eq!(
        shown(address, both, Some(only_rsa)).await,
        Some(first(&rsa))
    );
    let found = shown(address, both, Some(only_ecdsa)).await;
    assert_eq!(found, Some(first(&ecdsa)));
    let order = [only_ecdsa, only_rsa].concat();
    assert_eq!(
        shown(address, both, Some(&order)).await,
        Some(first(&ecdsa))
    );
    let order = [only_rsa, only_ecdsa].concat();
    assert_eq!(shown(address, both, Some(&order)).await, Some(first(&rsa)));
    let neither: &[_] = &[SignatureScheme::ED25519];
    assert_eq!(shown(address, both, Some(neither)).await, None);
    for name in [None, Some("unknown.example")] {
        assert_eq!(shown(address, name, None).await, Some(first(&other)));
    }
    // A change counts from the next handshake on.
    let changed: Arc<[_]> = [other.clone()].into();
    source.0.lock().unwrap().insert("both.example", changed);
    assert_eq!(shown(address, both, None).await, Some(first(&other)));
}

#[tokio::test]
async fn listeners_speak_what_they_are_set_to() {
    let identity = self_signed("a", &rcgen::PKCS_ECDSA_P256_SHA256);
    let old = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256";
    for (profile, protocols, ciphers, wanted) in [
        (Profile::Modern, "", "", [false, true]),
        (Profile::Intermediate, "", "", [true, true]),
        (Profile::Custom, "TLSv1.2", old, [true, false]),
        (Profile::Custom, "TLSv1.3", old, [false, true]),
    ] {
        let settings = ListenerSettings::new(profile, protocols, ciphers).unwrap();
        let settings = settings.with_session_tickets(false);
        let config = listener_config(vec![always(&identity)], &settings).unwrap();
        let server = Server::start_with(Limits::default(), Some(config), echo);
        for (version, wanted) in [&rustls::version::TLS12, &rustls::version::TLS13]
            .into_iter()
            .zip(wanted)
        {
            let mut roots = RootCertStore::empty();
            roots.add(first(&identity)).unwrap();
            let provider = rustls::crypto::aws_lc_rs::default_provider();
            let mut config = ClientConfig::builder_with_provider(provider.into())
                .with_protocol_versions(&[version])
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            let stream = TcpStream::connect(server.address).await.unwrap();
            let name = ServerName::try_from("a").unwrap();
            let stream = TlsConnector::from(Arc::new(config)).connect(name, stream);
            let stream = stream.await;
            assert_eq!(stream.is_ok(), wanted, "{profile:?} {version:?}");
            if let Ok(stream) = stream {
                assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
            }
        }
    }
    let config = listener_config(Vec::new(), &ListenerSettings::default()).unwrap();
    let server = Server::start_with(Limits::default(), Some(config), echo);
    assert_eq!(shown(server.address, Some("a"), None).await, None);
}

fn https(server: &Server, tls: TlsPolicy) -> Target {
    Target {
        scheme: Scheme::Https,
        tls,
        ..server.target()
    }
}

/// What a new pool makes of a target.
async fn fetch(target: Target) -> Result<Response<Body>, SendError> {
    Pool::new().send(&target, get("/"), &patient()).await
}

/// A server whose certificate has two others between itself and `root`.
fn deep(root: &Authority) -> (Server, [String; 3]) {
    let upper = root.issue("upper", true);
    let lower = upper.issue("lower", true);
    let leaf = lower.issue("up.example", false);
    let chain = format!("{}{}{}", leaf.pem, lower.pem, upper.pem);
    let config = server_config(chain.as_bytes(), leaf.key.serialize_pem().as_bytes()).unwrap();
    let server = Server::start_with(Limits::default(), Some(config), echo);
    (server, [root.pem.clone(), upper.pem, lower.pem])
}

#[tokio::test]
async fn the_depth_counts_certificates_in_between() {
    let root = Authority::root("root");
    let (server, [root, upper, lower]) = deep(&root);
    for (ca, depth, fine) in [
        (&root, None, true),
        (&root, Some(64), true),
        (&root, Some(2), true),
        (&root, Some(1), false),
        (&root, Some(0), false),
        (&upper, Some(1), true),
        (&upper, Some(0), false),
        (&lower, Some(0), true),
        // One of several paths is short enough.
        (&format!("{root}{lower}"), Some(0), true),
    ] {
        let tls = TlsPolicy {
            verify: true,
            server_name: Some("up.example".into()),
            ca_pem: Some(ca.as_str().into()),
            verify_depth: depth,
            ..TlsPolicy::default()
        };
        let sent = fetch(https(&server, tls));
        match sent.await {
            Ok(_) => assert!(fine, "{depth:?}"),
            Err(error) => {
                assert!(!fine, "{depth:?}: {error:?}");
                assert!(format!("{error:?}").contains("TooDeep"), "{error:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_authority_that_serves_itself_is_accepted_when_it_is_trusted() {
    let (own, stranger) = (Authority::root("up.example"), Authority::root("up.example"));
    let key = own.key.serialize_pem();
    let config = server_config(own.pem.as_bytes(), key.as_bytes()).unwrap();
    let server = Server::start_with(Limits::default(), Some(config), echo);
    for (ca, name, fine) in [
        (&own, "up.example", true),
        (&own, "other.example", false),
        (&stranger, "up.example", false),
    ] {
        let tls = TlsPolicy {
            verify: true,
            server_name: Some(name.into()),
            ca_pem: Some(ca.pem.as_str().into()),
            verify_depth: Some(0),
            ..TlsPolicy::default()
        };
        let sent = fetch(https(&server, tls));
        assert_eq!(sent.await.is_ok(), fine, "{name}");
    }
    let mut expired = params("up.example", true);
    expired.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let pem = expired.self_signed(&own.key).unwrap().pem();
    let config = server_config(pem.as_bytes(), key.as_bytes()).unwrap();
    let server = Server::start_with(Limits::default(), Some(config), echo);
    let tls = TlsPolicy {
        verify: true,
        server_name: Some("up.example".into()),
        ca_pem: Some(pem.into()),
        ..TlsPolicy::default()
    };
    let sent = fetch(https(&server, tls));
    assert!(sent.await.is_err());
}

/// An upstream that answers each request with the number of its connection and the subject of the
/// client's certificate.
async fn asking(root: &Authority) -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let leaf = root.issue("up.example", false);
    let identity = leaf.identity();
    let mut roots = RootCertStore::empty();
    roots.add(first(&root.identity())).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
            .allow_unauthenticated()
            .build()
            .unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(
            identity.certified().clone(),
        )));
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, number) = (acceptor.clone(), counter.fetch_add(1, Ordering::SeqCst));
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let shown = stream.get_ref().1.peer_certificates();
                let who = shown.map_or("nobody".to_owned(), |it| format!("{}", it[0].len()));
                let body = format!("{number} {who}");
                let mut buffer = vec![0; 4096];
                while stream.read(&mut buffer).await.is_ok_and(|it| it > 0) {
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, count)
}

#[tokio::test]
async fn connections_of_one_identity_never_serve_another() {
    let root = Authority::root("root");
    let (address, count) = asking(&root).await;
    let (one, two) = (
        root.issue("client one", false).identity(),
        root.issue("client number two", false).identity(),
    );
    let pool = Pool::new();
    let ask = async |identity: Option<&Arc<Identity>>| {
        let target = Target {
            scheme: Scheme::Https,
            tls: TlsPolicy {
                identity: identity.cloned(),
                ..TlsPolicy::default()
            },
            ..target(address)
        };
        text(pool.send(&target, get("/"), &patient()).await.unwrap()).await
    };
    let length = |identity: &Identity| first(identity).len();
    for _ in 0..3 {
        assert_eq!(ask(None).await, "0 nobody");
        assert_eq!(ask(Some(&one)).await, format!("1 {}", length(&one)));
        assert_eq!(ask(Some(&two)).await, format!("2 {}", length(&two)));
    }
    assert_eq!(count.load(Ordering::SeqCst), 3);
    // The same certificate, read again, is the same identity.
    let again = Identity::from_pem(root.pem.as_bytes(), root.key.serialize_pem().as_bytes());
    assert_eq!(*again.unwrap(), *root.identity());
    assert_ne!(*one, *two);
    assert!(!format!("{one:?}").contains("key"));
}

#[tokio::test]
async fn requests_that_must_leave_this_machine_do_not_use_its_loopback() {
    let server = Server::start(|_, _| async { Response::new(Body::full("here")) });
    let pool = Pool::new();
    for host in [
        "127.0.0.1",
        "localhost",
        "x.localhost",
        "::ffff:127.0.0.1",
        "0.0.0.0",
    ] {
        let host: Arc<str> = host.into();
        assert!(pool.leads_to_loopback(&host).await.unwrap(), "{host}");
        let target = Target {
            host,
            ..server.target()
        };
        // Neither over a new connection nor over one that is there.
        for _ in 0..2 {
            let sent = pool
                .send_beyond_loopback(&target, get("/"), &patient())
                .await;
            let error = sent.unwrap_err();
            assert!(matches!(error, SendError::Connect { .. }), "{error:?}");
            let sent = pool.send(&target, get("/"), &patient()).await;
            assert_eq!(text(sent.unwrap()).await, "here");
        }
    }
    assert!(!pool.leads_to_loopback(&"192.0.2.1".into()).await.unwrap());
    assert!(pool.leads_to_loopback(&"no.invalid".into()).await.is_err());
}
