//! The bare path of a proxied request, for measurements: `relay ADDRESS` answers everything with a
//! small body, `relay ADDRESS UPSTREAM_URL` passes everything on. One thread.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response, StatusCode};
use o28m_net::client::{Pool, Target, Timeouts, parse_url};
use o28m_net::server::{HeadLimits, Listener, serve};
use o28m_net::{Body, BoxFuture, Connection, HttpService};
use tokio_util::sync::CancellationToken;

/// What goes wrong before serving.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("usage: relay ADDRESS [UPSTREAM_URL]")]
    Usage,
    #[error(transparent)]
    Bind(#[from] o28m_net::server::BindError),
    #[error("failed to start the runtime")]
    Runtime(#[from] std::io::Error),
}

struct Relay {
    target: Option<Target>,
    timeouts: Timeouts,
}

impl HttpService for Relay {
    fn call<'a>(
        &'a self,
        mut request: Request<Body>,
        connection: &'a Connection,
    ) -> BoxFuture<'a, Response<Body>> {
        Box::pin(async move {
            let Some(target) = &self.target else {
                return Response::new(Body::full("0123456789abcdef0123456789abcdef"));
            };
            let host = HeaderValue::from_static("upstream.example");
            request.headers_mut().insert(http::header::HOST, host);
            match connection.pool.send(target, request, &self.timeouts).await {
                Ok(response) => response,
                Err(_) => {
                    let mut response = Response::new(Body::Empty);
                    *response.status_mut() = StatusCode::BAD_GATEWAY;
                    response
                }
            }
        })
    }
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments
        .next()
        .and_then(|address| address.parse().ok())
        .ok_or(Failure::Usage)?;
    let target = match arguments.next() {
        Some(url) => Some(parse_url(&url).ok_or(Failure::Usage)?.0),
        None => None,
    };
    let minute = Duration::from_secs(60);
    let relay = Relay {
        target,
        timeouts: Timeouts {
            connect: minute,
            write: minute,
            read: minute,
        },
    };
    let mut limits = HeadLimits::default();
    if let Some(lines) = arguments.next() {
        limits.lines_max = lines.parse().map_err(|_| Failure::Usage)?;
    }
    let listener = Listener::bind("relay", address)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(
        listener,
        Arc::new(relay),
        Pool::new(),
        limits,
        CancellationToken::new(),
        CancellationToken::new(),
    ));
    Ok(())
}
