//! TLS as it is configured over the Admin API: certificates by server name, trust and identity towards
//! upstreams; and what is done about stored entities that cannot be used.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{HeaderValue, Request};
use o28m_net::client::{Pool, SendError, Target, Timeouts, TlsPolicy, parse_url};
use o28m_net::server::{HeadLimits, Listener, serve};
use o28m_net::tls::Identity;
use o28m_net::{Body, BoxFuture, Connection, HttpService};
use o28m_store::{Object, Write};
use o28m_testkit::{PATIENCE, Pair, Platform, Upstream, eventually, on_every_database};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Asks the proxy over TLS for `/echo`, trusting `root` alone; the status.
async fn ask(platform: &Platform, name: &str, root: &Pair) -> Result<u16, SendError> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    // A trust of its own: a resumed session shows no certificate.
    let count = COUNT.fetch_add(1, Ordering::SeqCst);
    let trusted = format!("{}# {count}\n", root.pem);
    let (target, _) = parse_url(platform.credential("GATEWAY_TLS_URL")).unwrap();
    let target = Target {
        tls: TlsPolicy {
            verify: true,
            server_name: Some(name.into()),
            ca_pem: Some(trusted.into()),
            ..TlsPolicy::default()
        },
        ..target
    };
    let mut request = Request::new(Body::Empty);
    *request.uri_mut() = "/echo".parse().unwrap();
    let host = HeaderValue::from_str(name).unwrap();
    request.headers_mut().insert("host", host);
    let timeouts = Timeouts {
        connect: PATIENCE,
        write: PATIENCE,
        read: PATIENCE,
    };
    let response = Pool::new().send(&target, request, &timeouts).await?;
    Ok(response.status().as_u16())
}

/// Writes over the Admin API, waits until it counts, and gives the entity.
async fn write(platform: &Platform, method: &str, path: &str, body: Value) -> Value {
    let reply = platform.admin(method, path, body).await;
    assert!(
        reply.status.is_success(),
        "{}: {}",
        reply.status,
        reply.text()
    );
    platform.applied().await;
    match reply.body.is_empty() {
        true => Value::Null,
        false => reply.json(),
    }
}

on_every_database! {
    async fn certificates_are_shown_by_server_name(platform: Platform) {
        let provider = Upstream::ok();
        platform.route("echo", &provider.url(), json!({"paths": ["/echo"]})).await;
        let root = Pair::root("root");
        let shows = async |name: &str, root: &Pair| match ask(&platform, name, root).await {
            Ok(status) => {
                assert_eq!(status, 200);
                true
            }
            Err(SendError::Tls { .. }) => false,
            Err(error) => panic!("{error:?}"),
        };
        assert!(!shows("api.example.com", &root).await);
        let mut body = root.issue("*.example.com").body();
        body["snis"] = json!(["*.example.com"]);
        let certificate = write(&platform, "POST", "/certificates", body).await;
        let path = format!("/certificates/{}", certificate["id"].as_str().unwrap());
        assert!(shows("api.example.com", &root).await);
        assert!(!shows("other.example.org", &root).await);
        // Renewed by another authority.
        let other = Pair::root("other");
        write(&platform, "PATCH", &path, other.issue("*.example.com").body()).await;
        assert!(!shows("api.example.com", &root).await);
        assert!(shows("api.example.com", &other).await);
        // The exact name wins.
        let exact = write(&platform, "POST", "/certificates", root.issue("api.example.com").body()).await;
        let sni = json!({"name": "api.example.com", "certificate": {"id": exact["id"]}});
        write(&platform, "POST", "/snis", sni).await;
        assert!(shows("api.example.com", &root).await);
        assert!(shows("www.example.com", &other).await);
        write(&platform, "DELETE", "/snis/api.example.com", Value::Null).await;
        assert!(shows("api.example.com", &other).await);
        write(&platform, "DELETE", &path, Value::Null).await;
        assert!(!shows("api.example.com", &other).await);
    }
}

struct Answering;

impl HttpService for Answering {
    fn call<'a>(
        &'a self,
        _: Request<Body>,
        _: &'a Connection,
    ) -> BoxFuture<'a, http::Response<Body>> {
        Box::pin(async { http::Response::new(Body::full("secured")) })
    }
}

/// An upstream that talks to nobody who has no certificate of `clients`.
fn demanding(certificate: &Pair, clients: &Pair) -> (SocketAddr, DropGuard) {
    let mut roots = RootCertStore::empty();
    let trusted = CertificateDer::from_pem_slice(clients.pem.as_bytes()).unwrap();
    roots.add(trusted).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    let key = certificate.key.serialize_pem();
    let identity = Identity::from_pem(certificate.pem.as_bytes(), key.as_bytes()).unwrap();
    let shown = rustls::sign::SingleCertAndKey::from(identity.certified().clone());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_cert_resolver(Arc::new(shown));
    let mut listener = Listener::bind("upstream", ([127, 0, 0, 1], 0).into()).unwrap();
    listener.tls = Some(Arc::new(config));
    let address = listener.address();
    let stop = CancellationToken::new();
    tokio::spawn(serve(
        listener,
        Arc::new(Answering),
        Pool::new(),
        HeadLimits::default(),
        stop.clone(),
        stop.clone(),
    ));
    (address, stop.drop_guard())
}

on_every_database! {
    async fn proxy_case_047_services_prove_who_they_are_to_upstreams_they_trust(platform: Platform) {
        let (root, clients) = (Pair::root("root"), Pair::root("clients"));
        let (upstream, _stop) = demanding(&root.issue("localhost"), &clients);
        let url = format!("https://localhost:{}", upstream.port());
        platform.route("secured", &url, json!({"paths": ["/secured"]})).await;
        let status = async || {
            let reply = platform.http.get(&platform.gateway("/secured")).await;
            reply.status.as_u16()
        };
        // Neither is the upstream trusted nor does it accept strangers.
        assert_eq!(status().await, 502);
        let id = |entity: &Value| entity["id"].clone();
        let certificate = write(&platform, "POST", "/certificates", clients.issue("gateway").body()).await;
        let authority = write(&platform, "POST", "/ca_certificates", json!({"cert": root.pem})).await;
        let change = json!({"tls_verify": true, "ca_certificates": [id(&authority)]});
        write(&platform, "PATCH", "/services/secured", change).await;
        assert_eq!(status().await, 502);
        let change = json!({"client_certificate": {"id": id(&certificate)}});
        write(&platform, "PATCH", "/services/secured", change).await;
        assert_eq!(status().await, 200);
        let change = json!({"ca_certificates": null});
        write(&platform, "PATCH", "/services/secured", change).await;
        assert_eq!(status().await, 502);
        let change = json!({"tls_verify": false, "client_certificate": null});
        write(&platform, "PATCH", "/services/secured", change).await;
        assert_eq!(status().await, 502);
        // The certificate of the upstream entity, where the service has none.
        let body = json!({"name": "balanced", "client_certificate": {"id": id(&certificate)}});
        write(&platform, "POST", "/upstreams", body).await;
        let target = json!({"target": format!("127.0.0.1:{}", upstream.port())});
        write(&platform, "POST", "/upstreams/balanced/targets", target).await;
        write(&platform, "PATCH", "/services/secured", json!({"host": "balanced"})).await;
        assert_eq!(status().await, 200);
    }
}

/// The value of the gauge of skipped entities.
async fn skipped(platform: &Platform, kind: &str) -> Option<f64> {
    let url = format!("{}/metrics", platform.credential("METRICS_URL"));
    let metrics = platform.http.get(&url).await.expect(200).text();
    let start = format!("o28m_config_skipped_entities{{kind=\"{kind}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&start))?;
    line.parse().ok()
}

/// Waits until so many entities of a kind are skipped.
async fn wait_for_skipped(platform: &Platform, kind: &str, count: f64) {
    let what = format!("{count} skipped {kind}");
    eventually(&what, async || {
        (skipped(platform, kind).await == Some(count)).then_some(())
    })
    .await;
}

on_every_database! {
    async fn admin_case_080_a_route_that_does_not_compile_is_skipped_and_counted(platform: Platform) {
        let provider = Upstream::ok();
        platform.route("echo", &provider.url(), json!({"paths": ["/echo"]})).await;
        platform.route("broken", &provider.url(), json!({"paths": ["/broken"]})).await;
        let get = async |path: &str| {
            let reply = platform.http.get(&platform.gateway(path)).await;
            reply.status.as_u16()
        };
        assert_eq!(get("/broken").await, 200);
        assert_eq!(skipped(&platform, "routes").await, Some(0.0));
        let route = platform.admin("GET", "/routes/broken", json!(null)).await.expect(200).json();
        let id = route["id"].as_str().unwrap();
        let store = platform.store().await;
        // No Admin API would write it.
        let mut body = store.get("routes", id).await.unwrap().unwrap().body;
        body["paths"] = json!(["~/broken("]);
        let object = Object {
            kind: "routes",
            id: id.to_owned(),
            owner: String::new(),
            keys: Vec::new(),
            references: Vec::new(),
            tags: Vec::new(),
            body,
        };
        store.write(vec![Write::Upsert(object)]).await.unwrap();
        wait_for_skipped(&platform, "routes", 1.0).await;
        assert_eq!(get("/broken").await, 404);
        assert_eq!(get("/echo").await, 200);
        // Changes are applied all the same.
        platform.route("later", &provider.url(), json!({"paths": ["/later"]})).await;
        assert_eq!(get("/later").await, 200);
        write(&platform, "PATCH", &format!("/routes/{id}"), json!({"paths": ["/broken"]})).await;
        assert_eq!(skipped(&platform, "routes").await, Some(0.0));
        assert_eq!(get("/broken").await, 200);
        store.close().await;
    }
}

on_every_database! {
    async fn a_plugin_whose_secret_is_not_there_answers_500(platform: Platform) {
        let provider = Upstream::ok();
        platform.route("echo", &provider.url(), json!({"paths": ["/echo"]})).await;
        let config = json!({
            "minute": 5, "policy": "redis",
            "redis": {"host": "127.0.0.1", "password": "{vault://env/no-such-variable-is-set}"},
        });
        let body = json!({"name": "rate-limiting", "config": config});
        let plugin = write(&platform, "POST", "/routes/echo/plugins", body).await;
        let reference = &plugin["config"]["redis"]["password"];
        assert_eq!(reference, "{vault://env/no-such-variable-is-set}");
        let url = platform.gateway("/echo");
        let _ = platform.http.get(&url).await.expect(500);
        assert!(provider.take().is_empty());
        assert_eq!(skipped(&platform, "plugins").await, Some(1.0));
        let path = format!("/plugins/{}", plugin["id"].as_str().unwrap());
        write(&platform, "DELETE", &path, Value::Null).await;
        let _ = platform.http.get(&url).await.expect(200);
        assert_eq!(skipped(&platform, "plugins").await, Some(0.0));
    }
}
