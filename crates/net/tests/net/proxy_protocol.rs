//! Listeners behind a load balancer that speaks the PROXY protocol.

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use o28m_net::Body;
use o28m_net::server::{Admission, Limits, Listener, refused_connections};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::*;

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n";
const V2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f\xc0\0\x02\x07\x0a\0\0\x01\x12\x67\x01\xbb\x04\0\0";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
const UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// A server that answers with whom it was told of.
fn server(limits: Limits, change: impl FnOnce(&mut Listener)) -> Server {
    let mut listener = Listener::bind("test", ([127, 0, 0, 1], 0).into()).unwrap();
    listener.proxy_protocol = true;
    change(&mut listener);
    Server::start_on(listener, limits, |_, connection| async move {
        let announced = connection.announced.map(|it| it.to_string());
        let announced = announced.as_deref().unwrap_or("nobody");
        let (scheme, peer) = (connection.scheme.name(), connection.peer.ip());
        Response::new(Body::full(format!("{scheme} {peer} for {announced}.")))
    })
}

#[tokio::test]
async fn the_client_is_whom_the_header_names() {
    let server = server(Limits::default(), |_| {});
    for (header, client) in [
        (V1, "192.0.2.7:4711"),
        (V2, "192.0.2.7:4711"),
        (LOCAL, "nobody"),
        (UNKNOWN, "nobody"),
    ] {
        let wanted = format!("http 127.0.0.1 for {client}.");
        // In one piece with the request, and byte by byte.
        let answer = raw(server.address, &[header, GET].concat()).await;
        assert!(answer.ends_with(&wanted), "{answer}");
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for byte in [header, GET].concat() {
            stream.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let answer = patiently("answer", read_all(&mut stream)).await;
        assert!(answer.ends_with(&wanted), "{answer}");
    }
    assert_eq!(server.calls(), 8);
}

#[tokio::test]
async fn the_header_comes_before_tls() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let tls = o28m_net::tls::server_config(certificate.as_bytes(), key.as_bytes()).unwrap();
    let server = server(Limits::default(), |listener| listener.tls = Some(tls));
    for header in [V1, V2] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(header).await.unwrap();
        let policy = o28m_net::client::TlsPolicy::default();
        let config = o28m_net::client::tls_config(&policy).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(config);
        let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
        let mut stream = patiently("handshake", connector.connect(name, stream))
            .await
            .unwrap();
        stream.write_all(GET).await.unwrap();
        read_until(&mut stream, "https 127.0.0.1 for 192.0.2.7:4711.").await;
    }
    // TLS without it is no header.
    let before = refused_connections();
    assert_eq!(told(&server, b"\x16\x03\x01\x00\x05").await, b"");
    assert!(refused_connections() > before);
}

/// What the server says to bytes after which nothing comes.
async fn told(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // Closing over unread bytes may reset.
    let _reset = patiently("end", stream.read_to_end(&mut answer)).await;
    answer
}

#[tokio::test]
async fn connections_without_a_header_get_no_answer() {
    let server = server(quick(), |_| {});
    let long = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat();
    let huge = b"\r\n\r\n\0\r\nQUIT\n\x20\0\xff\xff";
    for bytes in [
        GET,
        b"\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PROXY TCP4 999.2.3.4 5.6.7.8 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        &long,
        huge,
        // Begun, and then silence.
        b"",
        b"PROXY TCP4 1.2.3.4",
        &V2[..20],
    ] {
        assert_eq!(told(&server, bytes).await, b"", "{bytes:?}");
    }
    // One that comes in drops is not waited for longer than one that does not come.
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let dripping = tokio::spawn(async move {
        writer.write_all(b"PROXY UNKNOWN ").await.unwrap();
        while writer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut answer = Vec::new();
    let _reset = patiently("end", reader.read_to_end(&mut answer)).await;
    assert_eq!(answer, b"");
    dripping.abort();
    assert_eq!((server.calls(), server.rejections().len()), (0, 0));
    // What follows a header is judged as ever.
    let answer = told(&server, &[V1, b"GET / HTTP/1.1\r\nbad\r\n\r\n"].concat()).await;
    assert!(answer.starts_with(b"HTTP/1.1 400 "));
}

#[tokio::test]
async fn an_address_has_only_so_many_connections() {
    let admission = Admission::new(2);
    let server = server(Limits::default(), |listener| {
        listener.admission = Some(Arc::clone(&admission));
    });
    let open = async |client: &str| {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let header = format!("PROXY TCP4 {client} 10.0.0.1 4711 443\r\n");
        let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let sent = stream.write_all(format!("{header}{get}").as_bytes()).await;
        let mut answer = vec![0; 4096];
        let read = match sent {
            Ok(()) => patiently("answer", stream.read(&mut answer))
                .await
                .unwrap_or(0),
            Err(_) => 0,
        };
        (read > 0).then_some(stream)
    };
    let first = open("192.0.2.1").await;
    let second = open("192.0.2.1").await;
    assert!(first.is_some() && second.is_some());
    let before = refused_connections();
    assert!(open("192.0.2.1").await.is_none());
    assert!(refused_connections() > before);
    assert!(open("192.0.2.2").await.is_some());
    drop(first);
    patiently("room", async {
        while open("192.0.2.1").await.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
