//! A scripted service, a raw client and a raw upstream.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use o28m_net::client::{Pool, Target, Timeouts, TlsPolicy};
use o28m_net::server::{self, Limits, Listener, serve_with};
use o28m_net::{Body, BoxFuture, Connection, HttpService, Rejection, Scheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("gave up waiting for {what}"))
}

type Handler =
    Box<dyn Fn(Request<Body>, Connection) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

pub(crate) struct Service {
    handler: Handler,
    pub(crate) calls: AtomicUsize,
    pub(crate) rejections: Mutex<Vec<(u16, &'static str, Option<String>)>>,
}

impl HttpService for Service {
    fn call<'a>(
        &'a self,
        request: Request<Body>,
        connection: &'a Connection,
    ) -> BoxFuture<'a, Response<Body>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        (self.handler)(request, connection.clone())
    }

    fn reject(&self, rejection: &Rejection, _: &Connection) -> Response<Body> {
        let head = rejection
            .head
            .as_ref()
            .map(|head| format!("{} {} {}", head.method, head.uri, head.headers.len()));
        let seen = (rejection.status.as_u16(), rejection.reason, head);
        self.rejections.lock().unwrap().push(seen);
        let mut response = Response::new(Body::full(rejection.reason));
        *response.status_mut() = rejection.status;
        response
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) service: Arc<Service>,
    pub(crate) drain: CancellationToken,
    pub(crate) stop: CancellationToken,
    pub(crate) serving: Option<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) fn quick() -> Limits {
    Limits {
        timeouts: server::Timeouts {
            head: Duration::from_millis(300),
            idle: Duration::from_millis(300),
            body: Duration::from_millis(300),
            write: Duration::from_millis(300),
            ..server::Timeouts::default()
        },
        ..Limits::default()
    }
}

impl Server {
    pub(crate) fn start<F>(
        handler: impl Fn(Request<Body>, Connection) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::start_with(Limits::default(), None, handler)
    }

    pub(crate) fn start_http2<F>(
        handler: impl Fn(Request<Body>, Connection) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::start_all(Limits::default(), None, true, handler)
    }

    pub(crate) fn start_with<F>(
        limits: Limits,
        tls: Option<Arc<rustls::ServerConfig>>,
        handler: impl Fn(Request<Body>, Connection) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::start_all(limits, tls, false, handler)
    }

    pub(crate) fn start_all<F>(
        limits: Limits,
        tls: Option<Arc<rustls::ServerConfig>>,
        http2: bool,
        handler: impl Fn(Request<Body>, Connection) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let mut listener = Listener::bind("test", ([127, 0, 0, 1], 0).into()).unwrap();
        listener.tls = tls;
        listener.http2 = http2;
        Self::start_on(listener, limits, handler)
    }

    pub(crate) fn start_on<F>(
        listener: Listener,
        limits: Limits,
        handler: impl Fn(Request<Body>, Connection) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let address = listener.address();
        let service = Arc::new(Service {
            handler: Box::new(move |request, connection| Box::pin(handler(request, connection))),
            calls: AtomicUsize::new(0),
            rejections: Mutex::default(),
        });
        let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
        let serving = tokio::spawn(serve_with(
            listener,
            service.clone(),
            Pool::new(),
            limits,
            drain.clone(),
            stop.clone(),
        ));
        Self {
            address,
            service,
            drain,
            stop,
            serving: Some(serving),
        }
    }

    pub(crate) fn calls(&self) -> usize {
        self.service.calls.load(Ordering::SeqCst)
    }

    pub(crate) fn rejections(&self) -> Vec<(u16, &'static str, Option<String>)> {
        self.service.rejections.lock().unwrap().clone()
    }

    pub(crate) fn target(&self) -> Target {
        target(self.address)
    }
}

pub(crate) fn target(address: SocketAddr) -> Target {
    Target {
        scheme: Scheme::Http,
        host: address.ip().to_string().into(),
        port: address.port(),
        tls: TlsPolicy::default(),
    }
}

/// Answers with what arrived: method, target, and the body's length and a checksum.
pub(crate) async fn echo(request: Request<Body>, _: Connection) -> Response<Body> {
    let (parts, body) = request.into_parts();
    match body.collect(64 * 1024 * 1024).await {
        Ok(body) => {
            let text =
                String::from_utf8_lossy(body.get(..body.len().min(64)).unwrap()).into_owned();
            let host = parts
                .headers
                .get("host")
                .map_or("", |h| h.to_str().unwrap());
            Response::new(Body::full(format!(
                "{} {} host={host} body={}:{text}",
                parts.method,
                parts.uri,
                body.len()
            )))
        }
        Err(error) => {
            let mut response = Response::new(Body::full(format!("{error}")));
            *response.status_mut() = http::StatusCode::BAD_REQUEST;
            response
        }
    }
}

/// Sends bytes and reads to the end of the stream.
pub(crate) async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    patiently("an answer", async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        read_all(&mut stream).await
    })
    .await
}

pub(crate) async fn read_all(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads until the text contains `wanted`.
pub(crate) async fn read_until(stream: &mut (impl AsyncReadExt + Unpin), wanted: &str) -> String {
    patiently(wanted, async {
        let mut text = String::new();
        let mut buffer = vec![0; 4096];
        while !text.contains(wanted) {
            let read = stream.read(&mut buffer).await.unwrap();
            assert_ne!(read, 0, "stream ended before {wanted:?}: {text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
        text
    })
    .await
}

/// An upstream of raw sockets: `talk` gets each connection and its number.
pub(crate) struct RawUpstream {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for RawUpstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RawUpstream {
    pub(crate) async fn start<F>(
        talk: impl Fn(TcpStream, usize) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let task = tokio::spawn(async move {
            let mut talks = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let number = count.fetch_add(1, Ordering::SeqCst);
                talks.spawn(talk(stream, number));
            }
        });
        Self {
            address,
            connections,
            task,
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn target(&self) -> Target {
        target(self.address)
    }
}

pub(crate) fn timeouts(milliseconds: u64) -> Timeouts {
    let time = Duration::from_millis(milliseconds);
    Timeouts {
        connect: time,
        write: time,
        read: time,
    }
}

pub(crate) fn patient() -> Timeouts {
    timeouts(20_000)
}

pub(crate) fn get(path: &str) -> Request<Body> {
    request("GET", path, Body::Empty)
}

pub(crate) fn request(method: &str, path: &str, body: Body) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "upstream.example")
        .body(body)
        .unwrap()
}

pub(crate) async fn text(response: Response<Body>) -> String {
    let bytes: Bytes = response
        .into_body()
        .collect(64 * 1024 * 1024)
        .await
        .unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits for a condition.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    patiently(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}
