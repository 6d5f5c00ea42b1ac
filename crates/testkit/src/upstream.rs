//! An upstream whose answers a test scripts and whose requests it reads.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use o28m_net::client::Pool;
use o28m_net::server::{HeadLimits, Listener, serve};
use o28m_net::{Body, BoxFuture, Connection, HttpService};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A request that reached the upstream.
pub type Received = Request<Bytes>;

type Script = Box<dyn Fn(&Received) -> Response<Bytes> + Send + Sync>;

/// A running upstream; stops when dropped.
pub struct Upstream {
    address: SocketAddr,
    service: Arc<Service>,
    _stop: DropGuard,
}

struct Service {
    script: Script,
    received: Mutex<Vec<Received>>,
}

impl HttpService for Service {
    fn call<'a>(
        &'a self,
        request: Request<Body>,
        _: &'a Connection,
    ) -> BoxFuture<'a, Response<Body>> {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect(64 * 1024 * 1024).await.unwrap_or_default();
            let request = Request::from_parts(parts, body);
            let response = (self.script)(&request);
            self.received.lock().unwrap().push(request);
            response.map(Body::full)
        })
    }
}

impl Upstream {
    /// Starts an upstream that answers with `script`.
    ///
    /// # Panics
    /// When no port can be bound.
    pub fn start(script: impl Fn(&Received) -> Response<Bytes> + Send + Sync + 'static) -> Self {
        Self::start_tls(None, script)
    }

    /// Starts an upstream that answers with `script`, over TLS where that is configured.
    ///
    /// # Panics
    /// When no port can be bound.
    pub fn start_tls(
        tls: Option<Arc<rustls::ServerConfig>>,
        script: impl Fn(&Received) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut listener = Listener::bind("upstream", loopback).unwrap();
        listener.tls = tls;
        let address = listener.address();
        let service = Arc::new(Service {
            script: Box::new(script),
            received: Mutex::default(),
        });
        let stop = CancellationToken::new();
        let serving = serve(
            listener,
            service.clone(),
            Pool::new(),
            HeadLimits {
                head_bytes_max: 1024 * 1024,
                line_bytes_max: 512 * 1024,
                lines_max: 1000,
            },
            stop.clone(),
            stop.clone(),
        );
        tokio::spawn(serving);
        Self {
            address,
            service,
            _stop: stop.drop_guard(),
        }
    }

    /// An upstream that always answers 200 with an empty body.
    #[must_use]
    pub fn ok() -> Self {
        Self::start(|_| Response::new(Bytes::new()))
    }

    /// Its URL without a path.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every request so far, taken out.
    ///
    /// # Panics
    /// When a script panicked before.
    #[must_use]
    pub fn take(&self) -> Vec<Received> {
        std::mem::take(&mut *self.service.received.lock().unwrap())
    }
}
