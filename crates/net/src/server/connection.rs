//! The life of one client connection: handshake, hyper behind the guard, deadlines, drain, the end.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::drain::Drain;
use super::exchange;
use super::guard::Guard;
use super::shared::{Due, LINES_ON_STACK, Shared};
use super::{HeadLimits, Timeouts};
use crate::client::Pool;
use crate::transport::Transport;
use crate::tunnel::Tunnel;
use crate::{Connection, HttpService, Scheme};

/// hyper wants room for at least this much.
const BUFFER_BYTES_MIN: usize = 64 * 1024;
/// How long unread bytes are taken in after the last answer, so that the client can read it.
const LINGER: Duration = Duration::from_secs(5);
/// Bytes taken in while lingering.
const LINGER_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// What all connections of a listener share.
pub(super) struct Common {
    pub(super) service: Arc<dyn HttpService>,
    pub(super) pool: Arc<Pool>,
    pub(super) limits: HeadLimits,
    pub(super) timeouts: Timeouts,
    pub(super) tls: Option<tokio_rustls::TlsAcceptor>,
    pub(super) drain: Drain,
}

/// Serves one accepted connection to its end.
pub(super) async fn run(common: Arc<Common>, stream: TcpStream, peer: std::net::SocketAddr) {
    let Ok(local) = stream.local_addr() else {
        return;
    };
    let mut connection = Connection {
        peer,
        local,
        scheme: Scheme::Http,
        server_name: None,
        pool: common.pool.clone(),
        in_process: false,
    };
    let mut plain_on_tls = false;
    let transport = match &common.tls {
        None => Transport::Plain(stream),
        Some(acceptor) => {
            connection.scheme = Scheme::Https;
            // Boxed: the state of a handshake is large and gone after it.
            let handshake = Box::pin(accept_tls(acceptor, stream));
            match tokio::time::timeout(common.timeouts.head, handshake).await {
                Ok(Ok(Accepted::Tls(stream))) => {
                    let name = stream.get_ref().1.server_name();
                    connection.server_name = name.map(|name| name.to_ascii_lowercase().into());
                    Transport::Tls(Box::new(tokio_rustls::TlsStream::Server(*stream)))
                }
                Ok(Ok(Accepted::Plain(stream))) => {
                    plain_on_tls = true;
                    Transport::Plain(stream)
                }
                Ok(Err(error)) => {
                    tracing::debug!(%peer, %error, "TLS handshake failed");
                    return;
                }
                Err(_) => {
                    tracing::debug!(%peer, "TLS handshake timed out");
                    return;
                }
            }
        }
    };
    let shared = Shared::new(
        common.service.clone(),
        connection,
        common.limits,
        common.timeouts,
    );
    let mut guard = Guard::new(transport, shared.clone());
    if plain_on_tls {
        guard.refuse_all(StatusCode::BAD_REQUEST, "plain HTTP sent to a TLS port");
    }
    http1(guard, shared, &common.drain).await;
}

enum Accepted {
    Tls(Box<tokio_rustls::server::TlsStream<TcpStream>>),
    Plain(TcpStream),
}

/// Takes the handshake, unless what arrives is plain HTTP: that deserves an answer.
async fn accept_tls(
    acceptor: &tokio_rustls::TlsAcceptor,
    stream: TcpStream,
) -> std::io::Result<Accepted> {
    let mut first = [0];
    let read = stream.peek(&mut first).await?;
    if read == 1 && first.iter().all(u8::is_ascii_uppercase) {
        return Ok(Accepted::Plain(stream));
    }
    let stream = acceptor.accept(stream).await?;
    Ok(Accepted::Tls(Box::new(stream)))
}

/// Serves requests; between them, when they are far apart, only the guard is kept.
async fn http1(mut guard: Guard, shared: Arc<Shared>, drain: &Drain) {
    let mut watch = Watch::new(&shared, drain);
    loop {
        if !wait(&mut guard, &mut watch).await {
            return;
        }
        match Box::pin(exchanges(guard, &mut watch)).await {
            End::Rest(rested) => {
                guard = rested;
                guard.detach();
            }
            End::Done(guard) => return finish(guard, &shared).await,
            End::Cut => return,
        }
    }
}

/// Waits for a request; `false` when there will be none.
async fn wait(guard: &mut Guard, watch: &mut Watch<'_>) -> bool {
    watch.resting = true;
    std::future::poll_fn(|context| {
        loop {
            if watch.is_over() {
                return Poll::Ready(false);
            }
            if let Poll::Ready(something) = guard.poll_fill(context) {
                return Poll::Ready(something);
            }
            match watch.poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Act::Again | Act::Rest) => {}
                Poll::Ready(Act::Cut) => return Poll::Ready(false),
            }
        }
    })
    .await
}

/// hyper's part: from one request until the connection ends or rests.
async fn exchanges(mut guard: Guard, watch: &mut Watch<'_>) -> End {
    watch.resting = false;
    let shared = watch.shared;
    let limits = &shared.limits;
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .max_buf_size(limits.head_bytes_max.max(BUFFER_BYTES_MIN))
        .header_read_timeout(None);
    let wide = shared.wide.load(Ordering::Relaxed) && limits.lines_max > LINES_ON_STACK;
    if wide {
        builder.max_headers(limits.lines_max);
    }
    guard.attach(!wide);
    let service = hyper::service::service_fn(|request| exchange::answer(shared.clone(), request));
    let mut conn = builder.serve_connection(guard, service);
    let mut rests = false;
    let result = std::future::poll_fn(|context| {
        if watch.is_over() {
            return Poll::Ready(None);
        }
        if watch.draining() {
            Pin::new(&mut conn).graceful_shutdown();
        }
        loop {
            if let Poll::Ready(result) = Pin::new(&mut conn).poll(context) {
                return Poll::Ready(Some(result));
            }
            let widens = !wide && shared.wide.load(Ordering::Relaxed);
            if widens && !rests && shared.is_idle() {
                rests = true;
                Pin::new(&mut conn).graceful_shutdown();
                continue;
            }
            match watch.poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Act::Again) => {}
                Poll::Ready(Act::Cut) => return Poll::Ready(None),
                Poll::Ready(Act::Rest) => {
                    rests = true;
                    Pin::new(&mut conn).graceful_shutdown();
                }
            }
        }
    })
    .await;
    match result {
        None => End::Cut,
        Some(Ok(())) if rests && shared.is_idle() => End::Rest(conn.into_parts().io),
        Some(Ok(())) => End::Done(conn.into_parts().io),
        Some(Err(error)) => {
            tracing::debug!(peer = %shared.connection.peer, %error, "client connection failed");
            End::Done(conn.into_parts().io)
        }
    }
}

/// How hyper's part of a connection ended.
enum End {
    /// By itself.
    Done(Guard),
    /// For want of requests: the connection is sound and stays.
    Rest(Guard),
    /// By us.
    Cut,
}

/// What the clock asks for.
enum Act {
    /// Poll again: something changed.
    Again,
    /// Give the buffers back.
    Rest,
    /// End the connection.
    Cut,
}

/// What happens to the stream after HTTP.
async fn finish(guard: Guard, shared: &Shared) {
    let (tunnel, finished): (Option<Tunnel>, bool) = {
        let mut state = shared.lock();
        (state.tunnel.take(), state.finished)
    };
    let lingers = guard.is_mid_message() && !finished;
    let (mut transport, ahead) = guard.into_parts();
    if let Some(tunnel) = tunnel {
        if let Err(error) = tunnel.run(transport, ahead).await {
            tracing::debug!(peer = %shared.connection.peer, %error, "upgraded connection failed");
        }
        return;
    }
    let closing = async {
        if transport.shutdown().await.is_err() || !lingers {
            return;
        }
        let mut rest = (&mut transport).take(LINGER_BYTES_MAX);
        // Whatever went wrong, the connection ends here.
        drop(tokio::io::copy(&mut rest, &mut tokio::io::sink()).await);
    };
    drop(tokio::time::timeout(LINGER, closing).await);
}

/// One timer and the drain signal of a connection.
struct Watch<'a> {
    shared: &'a Arc<Shared>,
    /// hyper is not there.
    resting: bool,
    drain: &'a Drain,
    drained: Pin<Box<tokio_util::sync::WaitForCancellationFuture<'a>>>,
    watching: bool,
    sleep: Pin<Box<Sleep>>,
}

impl<'a> Watch<'a> {
    fn new(shared: &'a Arc<Shared>, drain: &'a Drain) -> Self {
        Self {
            shared,
            resting: true,
            drain,
            drained: Box::pin(drain.begins()),
            watching: false,
            sleep: Box::pin(tokio::time::sleep(shared.timeouts.head)),
        }
    }

    fn draining(&self) -> bool {
        self.drain.has_begun()
    }

    /// A drain found nothing to finish.
    fn is_over(&self) -> bool {
        self.draining() && self.shared.is_idle()
    }

    /// Looks at the clock after everything else was polled.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Act> {
        if !self.watching {
            // Registers the task once; whoever is woken then looks at the token itself.
            self.watching = true;
            if self.drained.as_mut().poll(context).is_ready() {
                return Poll::Ready(if self.is_over() { Act::Cut } else { Act::Again });
            }
        }
        loop {
            let due = self.shared.due(self.resting);
            if let Some((at, due)) = due {
                if at <= self.sleep.deadline() && at <= Instant::now() {
                    return Poll::Ready(self.act(due));
                }
                if at < self.sleep.deadline() {
                    self.sleep.as_mut().reset(at);
                }
            }
            if self.sleep.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            let next = due.map_or_else(
                || Instant::now() + self.shared.timeouts.shortest(),
                |(at, _)| at.max(Instant::now() + Duration::from_millis(1)),
            );
            self.sleep.as_mut().reset(next);
        }
    }

    fn act(&self, due: Due) -> Act {
        match due {
            Due::Close | Due::Write => Act::Cut,
            Due::Rest => Act::Rest,
            Due::Head => {
                self.shared.head_overdue.store(true, Ordering::Relaxed);
                Act::Again
            }
            Due::Body => {
                let mut state = self.shared.lock();
                state.body_overdue = true;
                if let Some((_, waker)) = state.body_wait.take() {
                    waker.wake();
                }
                Act::Again
            }
        }
    }
}
