//! TLS on both sides.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use o28m_net::client::{Pool, Target, Timeouts, TlsPolicy};
use o28m_net::{Body, Scheme};
use serde_json::json;

use crate::support::*;

pub(crate) fn certificate() -> Arc<rustls::ServerConfig> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    o28m_net::tls::server_config(certificate.as_bytes(), key.as_bytes()).unwrap()
}

#[tokio::test]
async fn proxy_case_046_verification_is_the_services_choice() {
    let upstream = Upstream::start_tls(Some(certificate()), |_| {
        Response::new(Bytes::from_static(b"hello"))
    });
    let running = start_for(&upstream, Setup::default()).await;
    let port = upstream.address.port();
    let https = |verify: serde_json::Value| {
        service(
            "s",
            port,
            json!({"protocol": "https", "host": "localhost", "tls_verify": verify}),
        )
    };
    for (verify, status) in [(json!(null), 200), (json!(true), 502), (json!(false), 200)] {
        running.put(&[("services", https(verify))]).await;
        assert_eq!(running.get("/").await.status, status);
    }
    assert_eq!(
        header(&upstream.take()[0], "host"),
        Some(format!("localhost:{port}"))
    );
    let mut setup = Setup::default();
    setup.settings.upstream_tls_verify = true;
    let running = start_for(&upstream, setup).await;
    running.put(&[("services", https(json!(null)))]).await;
    assert_eq!(running.get("/").await.status, 502);
}

#[tokio::test]
async fn proxy_case_013_server_names_choose_routes_on_tls() {
    let upstream = Upstream::ok();
    let setup = Setup {
        tls: Some(certificate()),
        ..Setup::default()
    };
    let running = start_for(&upstream, setup).await;
    let only = json!({"protocols": ["https"], "snis": ["s.example.com"], "paths": ["/"]});
    running.put(&[("routes", route("r", "s", only))]).await;
    let pool = Pool::new();
    let timeouts = Timeouts {
        connect: PATIENCE,
        write: PATIENCE,
        read: PATIENCE,
    };
    for (name, status) in [("s.example.com", 200), ("other.example.com", 404)] {
        let target = Target {
            scheme: Scheme::Https,
            host: Arc::from("127.0.0.1"),
            port: running.address.port(),
            tls: TlsPolicy {
                server_name: Some(Arc::from(name)),
                ..TlsPolicy::default()
            },
        };
        let mut request = http::Request::new(Body::Empty);
        request.headers_mut().insert("host", "a".parse().unwrap());
        let response = pool.send(&target, request, &timeouts).await.unwrap();
        assert_eq!(response.status(), status, "{name}");
    }
    assert_eq!(
        header(&upstream.one(), "x-forwarded-proto").as_deref(),
        Some("https")
    );
}
