//! A client that speaks HTTP/2 and an upstream that speaks gRPC, both over the `h2` library alone: what
//! they see is not what the platform's own code thinks it sent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use o28m_net::client::{TlsPolicy, tls_config};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// A message with gRPC's prefix.
///
/// # Panics
/// When it is longer than 4 GiB.
#[must_use]
pub fn message(text: &str) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(text.len()).unwrap());
    bytes.put_slice(text.as_bytes());
    bytes.freeze()
}

/// One connection of an HTTP/2 client.
pub struct Http2Client {
    sender: SendRequest<Bytes>,
    driver: JoinHandle<Result<(), h2::Error>>,
}

/// A whole response with its trailers.
#[derive(Debug)]
pub struct Http2Reply {
    /// Head.
    pub head: http::response::Parts,
    /// Body.
    pub body: Bytes,
    /// Trailers; empty when there were none.
    pub trailers: HeaderMap,
}

impl Http2Reply {
    /// Status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    /// A header's first value as text; empty when absent.
    ///
    /// # Panics
    /// When it is not text.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        text(&self.head.headers, name)
    }

    /// A trailer's first value as text; empty when absent.
    ///
    /// # Panics
    /// When it is not text.
    #[must_use]
    pub fn trailer(&self, name: &str) -> &str {
        text(&self.trailers, name)
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |it| it.to_str().unwrap())
}

impl Http2Client {
    /// Connects with prior knowledge.
    ///
    /// # Panics
    /// When nobody listens.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap()).await
    }

    /// Connects over TLS, whatever certificate is shown; `None` when the server does not choose `h2`.
    ///
    /// # Panics
    /// When the handshake fails.
    pub async fn connect_tls(address: SocketAddr, name: &str) -> Option<Self> {
        let mut config = tls_config(&TlsPolicy::default()).await.unwrap();
        Arc::make_mut(&mut config).alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let name = rustls_pki_types::ServerName::try_from(name.to_owned()).unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let stream = TlsConnector::from(config).connect(name, stream).await;
        let stream = stream.unwrap();
        match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Some(Self::over(stream).await),
            _ => None,
        }
    }

    async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        Self {
            sender: sender.ready().await.unwrap(),
            driver: tokio::spawn(connection),
        }
    }

    /// Begins a request whose body follows.
    ///
    /// # Panics
    /// When the connection takes no more.
    pub async fn begin(&self, request: Request<()>) -> (ResponseFuture, SendStream<Bytes>) {
        let sender = self.sender.clone().ready().await;
        sender.unwrap().send_request(request, false).unwrap()
    }

    /// Sends a request with a body in memory and reads the response.
    ///
    /// # Panics
    /// When the stream is reset.
    pub async fn send(&self, request: Request<()>, body: Bytes) -> Http2Reply {
        let (response, mut stream) = self.begin(request).await;
        stream.send_data(body, true).unwrap();
        read(response.await.unwrap()).await
    }

    /// A gRPC call with these messages, all sent at once.
    ///
    /// # Panics
    /// When the stream is reset.
    pub async fn call(&self, authority: &str, path: &str, messages: &[&str]) -> Http2Reply {
        let body: Vec<_> = messages.iter().map(|it| message(it)).collect();
        self.send(call(authority, path), body.concat().into()).await
    }

    /// Whether the connection takes another request, as far as the server has said.
    pub async fn takes_more(&self) -> bool {
        !self.driver.is_finished() && self.sender.clone().ready().await.is_ok()
    }
}

/// The head of a gRPC call.
///
/// # Panics
/// When authority or path are none.
#[must_use]
pub fn call(authority: &str, path: &str) -> Request<()> {
    let request = Request::post(format!("http://{authority}{path}"));
    let request = request.header("content-type", "application/grpc");
    request.header("te", "trailers").body(()).unwrap()
}

/// Reads a response to its end.
///
/// # Panics
/// When the stream is reset.
pub async fn read(response: Response<RecvStream>) -> Http2Reply {
    let (head, mut stream) = response.into_parts();
    let mut body = BytesMut::new();
    while let Some(data) = next(&mut stream).await {
        body.extend_from_slice(&data);
    }
    Http2Reply {
        head,
        body: body.freeze(),
        trailers: stream.trailers().await.unwrap().unwrap_or_default(),
    }
}

/// The next piece of a body.
///
/// # Panics
/// When the stream is reset.
pub async fn next(stream: &mut RecvStream) -> Option<Bytes> {
    let data = stream.data().await?.unwrap();
    stream.flow_control().release_capacity(data.len()).unwrap();
    Some(data)
}

/// A call that reached the upstream: its head, and the trailers it ended with.
#[derive(Debug)]
pub struct Called {
    /// Head.
    pub head: http::request::Parts,
    /// Trailers.
    pub trailers: HeaderMap,
}

/// What a [`GrpcUpstream`] says when it is asked how it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It serves.
    Serving,
    /// It does not.
    NotServing,
    /// It has no such service: code 12, in a head alone.
    Unimplemented,
    /// It serves, by a message without trailers.
    WithoutTrailers,
    /// It serves, by a body of another media type.
    NotGrpc,
    /// It serves, by a message without end.
    Endless,
    /// The call is reset.
    Reset,
    /// Nothing, ever.
    Silent,
}

/// An upstream that speaks gRPC. The last part of a call's path says what it does: `Echo` gives every
/// piece back at once, `Thrice` gives the first one back three times, `Collect` gives everything back
/// at the end, `Fail` refuses with code 5 in a head alone, `Check` says how the upstream is.
pub struct GrpcUpstream {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Seen,
    serving: JoinHandle<()>,
}

/// What an upstream and its connections know of each other.
#[derive(Clone)]
struct Seen {
    calls: Arc<Mutex<Vec<Called>>>,
    health: Arc<Mutex<Health>>,
}

impl Drop for GrpcUpstream {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl GrpcUpstream {
    /// Starts an upstream, with TLS if there is a configuration of it.
    ///
    /// # Panics
    /// When no port can be bound.
    pub async fn start(tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Seen {
            calls: Arc::default(),
            health: Arc::new(Mutex::new(Health::Serving)),
        };
        let of_connections = seen.clone();
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, seen) = (tls.clone(), of_connections.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, seen).await,
                        Some(tls) => {
                            // Whoever does not trust us leaves.
                            let accepted = TlsAcceptor::from(tls).accept(stream).await;
                            let Ok(stream) = accepted else {
                                return;
                            };
                            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
                            serve(stream, seen).await;
                        }
                    }
                });
            }
        });
        Self {
            address,
            seen,
            serving,
        }
    }

    /// Decides what it says of itself from now on.
    ///
    /// # Panics
    /// Never.
    pub fn set_health(&self, health: Health) {
        *self.seen.health.lock().unwrap() = health;
    }

    /// Every call so far, taken out.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn take(&self) -> Vec<Called> {
        std::mem::take(&mut *self.seen.calls.lock().unwrap())
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, seen: Seen) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    let mut calls = JoinSet::new();
    while let Some(Ok((request, respond))) = connection.accept().await {
        calls.spawn(answer(request, respond, seen.clone()));
    }
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    seen: Seen,
) {
    let (head, mut body) = request.into_parts();
    let method = head.uri.path().rsplit('/').next().unwrap().to_owned();
    let mut response = Response::new(());
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    if method == "Fail" {
        headers.insert("grpc-status", HeaderValue::from_static("5"));
        headers.insert("grpc-message", HeaderValue::from_static("nothing here"));
        respond.send_response(response, true).unwrap();
        let trailers = HeaderMap::new();
        seen.calls.lock().unwrap().push(Called { head, trailers });
        return;
    }
    if method == "Check" {
        let health = *seen.health.lock().unwrap();
        while next(&mut body).await.is_some() {}
        let trailers = HeaderMap::new();
        seen.calls.lock().unwrap().push(Called { head, trailers });
        say(health, response, respond).await;
        return;
    }
    let mut out = respond.send_response(response, false).unwrap();
    let mut collected = BytesMut::new();
    let mut pieces = 0;
    while let Some(piece) = next(&mut body).await {
        pieces += 1;
        match method.as_str() {
            "Collect" => collected.extend_from_slice(&piece),
            "Thrice" => {
                for _ in 0..3 {
                    out.send_data(piece.clone(), false).unwrap();
                }
            }
            _ => out.send_data(piece, false).unwrap(),
        }
    }
    let trailers = body.trailers().await.unwrap().unwrap_or_default();
    if !collected.is_empty() {
        out.send_data(collected.freeze(), false).unwrap();
    }
    let mut last = HeaderMap::new();
    last.insert("grpc-status", HeaderValue::from_static("0"));
    last.insert("x-pieces", HeaderValue::from(pieces));
    out.send_trailers(last).unwrap();
    seen.calls.lock().unwrap().push(Called { head, trailers });
}

/// Says how an upstream is. What nobody waits for any more is not sent.
async fn say(
    health: Health,
    mut response: Response<()>,
    mut respond: h2::server::SendResponse<Bytes>,
) {
    let serves = Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1]);
    let code = |code| HeaderMap::from_iter([(STATUS, HeaderValue::from_static(code))]);
    let (message, trailers) = match health {
        Health::Serving => (serves, Some(code("0"))),
        Health::NotServing => (Bytes::from_static(&[0, 0, 0, 0, 2, 8, 2]), Some(code("0"))),
        Health::WithoutTrailers => (serves, None),
        Health::NotGrpc => {
            let html = HeaderValue::from_static("text/html");
            response.headers_mut().insert("content-type", html);
            (serves, Some(code("0")))
        }
        Health::Unimplemented => {
            response.headers_mut().extend(code("12"));
            let _gone = respond.send_response(response, true);
            return;
        }
        Health::Endless => {
            let Ok(mut out) = respond.send_response(response, false) else {
                return;
            };
            while out.send_data(vec![0; 1024].into(), false).is_ok() {
                tokio::task::yield_now().await;
            }
            return;
        }
        Health::Reset => {
            respond.send_reset(h2::Reason::INTERNAL_ERROR);
            return;
        }
        Health::Silent => {
            let _reset = std::future::poll_fn(|context| respond.poll_reset(context)).await;
            return;
        }
    };
    let Ok(mut out) = respond.send_response(response, false) else {
        return;
    };
    let _gone = out.send_data(message, trailers.is_none());
    if let Some(trailers) = trailers {
        let _gone = out.send_trailers(trailers);
    }
}
