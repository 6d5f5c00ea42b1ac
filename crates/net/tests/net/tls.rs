//! TLS on both sides.

use std::sync::Arc;

use http::Response;
use o28m_net::client::{Pool, SendError, Target, TlsPolicy};
use o28m_net::server::Limits;
use o28m_net::{Body, Scheme};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::*;

struct Certificate {
    pem: String,
    config: Arc<rustls::ServerConfig>,
}

fn certificate(names: &[&str]) -> Certificate {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let pem = made.cert.pem();
    let key = made.signing_key.serialize_pem();
    Certificate {
        config: o28m_net::tls::server_config(pem.as_bytes(), key.as_bytes()).unwrap(),
        pem,
    }
}

fn server(certificate: &Certificate) -> Server {
    Server::start_with(
        Limits::default(),
        Some(certificate.config.clone()),
        |request, connection| async move {
            let name = connection
                .server_name
                .as_deref()
                .unwrap_or("none")
                .to_owned();
            let length = request
                .into_body()
                .collect(64 * 1024 * 1024)
                .await
                .unwrap()
                .len();
            Response::new(Body::full(format!(
                "{} {name} {length}",
                connection.scheme.name()
            )))
        },
    )
}

fn https(server: &Server, verify: bool, name: Option<&str>, ca: Option<&str>) -> Target {
    Target {
        scheme: Scheme::Https,
        tls: TlsPolicy {
            verify,
            server_name: name.map(Into::into),
            ca_pem: ca.map(Into::into),
            ..TlsPolicy::default()
        },
        ..server.target()
    }
}

#[tokio::test]
async fn proxy_case_046_verification_is_part_of_the_pool_key() {
    let certificate = certificate(&["up.example"]);
    let other = self::certificate(&["up.example"]);
    let server = server(&certificate);
    let pool = Pool::new();
    let cases = [
        (false, Some("Up.Example"), None, Some("https up.example 0")),
        (false, None, None, Some("https none 0")),
        (false, Some("not_a-name?"), None, Some("https none 0")),
        (true, Some("up.example"), None, None),
        (
            true,
            Some("up.example"),
            Some(&certificate),
            Some("https up.example 0"),
        ),
        (true, Some("other.example"), Some(&certificate), None),
        (true, None, Some(&certificate), None),
        (true, Some("up.example"), Some(&other), None),
    ];
    for round in 0..2 {
        for (verify, name, ca, wanted) in &cases {
            let target = https(&server, *verify, *name, ca.map(|ca| ca.pem.as_str()));
            let result = pool.send(&target, get("/"), &patient()).await;
            match wanted {
                Some(wanted) => assert_eq!(&text(result.unwrap()).await, wanted, "{round}"),
                None => assert!(
                    matches!(result, Err(SendError::Tls { .. })),
                    "{round} {verify} {name:?}: {result:?}"
                ),
            }
        }
    }
    assert_eq!(pool.idle(), 4);
}

#[tokio::test]
async fn addresses_are_verified_as_addresses() {
    let certificate = certificate(&["127.0.0.1"]);
    let server = server(&certificate);
    let target = https(&server, true, None, Some(&certificate.pem));
    let response = Pool::new()
        .send(&target, get("/"), &patient())
        .await
        .unwrap();
    assert_eq!(text(response).await, "https none 0");
}

#[tokio::test]
async fn connections_are_reused_and_large_bodies_pass() {
    let certificate = certificate(&["up.example"]);
    let server = server(&certificate);
    let pool = Pool::new();
    let target = https(&server, false, None, None);
    for length in [0, 1, 100_000, 5_000_000] {
        let post = request("POST", "/", Body::full(vec![7; length]));
        let response = pool.send(&target, post, &patient()).await.unwrap();
        assert_eq!(text(response).await, format!("https none {length}"));
        assert_eq!(pool.idle(), 1);
    }
}

#[tokio::test]
async fn a_bad_bundle_is_an_error() {
    let certificate = certificate(&["up.example"]);
    let server = server(&certificate);
    for bundle in [
        "",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        let target = https(&server, true, None, Some(bundle));
        let error = Pool::new()
            .send(&target, get("/"), &patient())
            .await
            .unwrap_err();
        assert!(matches!(error, SendError::Tls { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn plain_http_on_a_tls_port_gets_400() {
    let certificate = certificate(&["up.example"]);
    let server = server(&certificate);
    let answer = raw(server.address, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(server.rejections()[0].1, "plain HTTP sent to a TLS port");
    assert_eq!(server.calls(), 0);
}

#[tokio::test]
async fn a_plain_answer_is_no_tls_and_a_silent_one_times_out() {
    let plain = Server::start(echo);
    let target = Target {
        scheme: Scheme::Https,
        ..plain.target()
    };
    let error = Pool::new()
        .send(&target, get("/"), &patient())
        .await
        .unwrap_err();
    assert!(matches!(error, SendError::Tls { .. }), "{error:?}");

    let silent = RawUpstream::start(|mut stream, _| async move {
        read_all(&mut stream).await;
    })
    .await;
    let target = Target {
        scheme: Scheme::Https,
        ..silent.target()
    };
    let error = Pool::new()
        .send(&target, get("/"), &timeouts(80))
        .await
        .unwrap_err();
    assert!(
        matches!(error, SendError::ConnectTimeout { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_handshake_that_stalls_is_cut() {
    let certificate = certificate(&["up.example"]);
    let server = Server::start_with(quick(), Some(certificate.config.clone()), echo);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"\x16\x03\x01").await.unwrap();
    assert_eq!(patiently("cut", read_all(&mut stream)).await, "");
}

#[test]
fn certificates_and_keys_that_do_not_fit_are_named() {
    let one = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
    let two = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
    let (pem, key) = (one.cert.pem(), one.signing_key.serialize_pem());
    let cases = [
        ("", key.as_str(), "certificate chain is empty"),
        (pem.as_str(), "", "failed to read private key"),
        (pem.as_str(), pem.as_str(), "failed to read private key"),
        (
            pem.as_str(),
            &two.signing_key.serialize_pem(),
            "certificate and private key cannot be used",
        ),
    ];
    for (pem, key, wanted) in cases {
        let error = o28m_net::tls::server_config(pem.as_bytes(), key.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), wanted);
    }
}
