//! The life of one client connection: handshake, requests one after the other, drain, the end.

use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::WaitForCancellationFuture;

use super::admission::Admission;
use super::drain::Drain;
use super::head::{HeadReader, Refusal, Sound, Step};
use super::response::Asked;
use super::stream::{RequestBody, SharedStream, Stream, lock};
use super::{HeadLimits, Timeouts, counts, request, response};
use crate::client::Pool;
use crate::h2::preface::{self, Begin};
use crate::incoming::{Framing, Incoming};
use crate::outgoing::{Outgoing, Stopped};
use crate::timer::Timer;
use crate::transport::Transport;
use crate::tunnel::{Tunnel, TunnelSlot};
use crate::{Body, BoxFuture, Connection, HttpService, Rejection, Scheme, proxy_protocol};

/// How long a request that is on its way when the drain begins may take: the first of a connection, and
/// one whose head has begun.
const DRAIN_PATIENCE: Duration = Duration::from_secs(1);
/// Bytes asked for at once while a head is awaited.
const HEAD_READ_BYTES: usize = 16 * 1024;
/// How long unread bytes are taken in after the last answer, so that the client can read it.
const LINGER: Duration = Duration::from_secs(5);
/// Bytes taken in while lingering.
const LINGER_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// What all connections of a listener share.
pub(crate) struct Common {
    pub(crate) service: Arc<dyn HttpService>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) limits: HeadLimits,
    pub(crate) timeouts: Timeouts,
    pub(crate) requests_max: u64,
    pub(crate) age_max: Duration,
    pub(super) proxy_protocol: bool,
    pub(super) admission: Option<Arc<Admission>>,
    pub(crate) tls: Option<tokio_rustls::TlsAcceptor>,
    /// Clients may speak HTTP/2.
    pub(crate) http2: bool,
    pub(crate) drain: Drain,
}

/// Serves one accepted connection to its end. Its future is most of what an idle connection holds, so
/// nothing is wrapped around it: each wrapper would hold it twice.
pub(super) async fn run(
    common: Arc<Common>,
    mut stream: TcpStream,
    peer: std::net::SocketAddr,
    _open: counts::Open,
) {
    let Ok(local) = stream.local_addr() else {
        return;
    };
    let mut connection = Connection::plain(peer, local, common.pool.clone());
    if common.proxy_protocol {
        // Boxed: its buffer is gone after it.
        let taking = Box::pin(proxy_protocol::take(&mut stream));
        match tokio::time::timeout(common.timeouts.head, taking).await {
            Ok(Ok(header)) => connection.announced = header.source,
            Ok(Err(error)) => {
                tracing::debug!(%peer, %error, "connection without a header of the PROXY protocol");
                return counts::refused();
            }
            Err(_) => {
                tracing::debug!(%peer, "no header of the PROXY protocol in time");
                return counts::refused();
            }
        }
    }
    let client = connection.announced.unwrap_or(peer).ip();
    let admission = common.admission.as_ref();
    let _admitted = match admission.map(|it| it.admit(client)) {
        None => None,
        Some(Some(admitted)) => Some(admitted),
        Some(None) => {
            tracing::debug!(%client, "address has too many connections");
            return counts::refused();
        }
    };
    let mut plain_on_tls = false;
    let mut ahead = BytesMut::new();
    let mut http2 = false;
    let transport = match &common.tls {
        None if common.http2 => {
            let mut transport = Transport::Plain(stream);
            let begins = common.drain.begins();
            match preface::read(&mut transport, common.timeouts.head, begins).await {
                Begin::Gone => return,
                Begin::Http1(read) => ahead = read,
                Begin::Http2(read) => (ahead, http2) = (read, true),
            }
            transport
        }
        None => Transport::Plain(stream),
        Some(acceptor) => {
            connection.scheme = Scheme::Https;
            // Boxed: the state of a handshake is large and gone after it.
            let handshake = Box::pin(accept_tls(acceptor, stream));
            match tokio::time::timeout(common.timeouts.head, handshake).await {
                Ok(Ok(Accepted::Tls(stream))) => {
                    let name = stream.get_ref().1.server_name();
                    connection.server_name = name.map(|name| name.to_ascii_lowercase().into());
                    http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
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
    if http2 {
        // Boxed: what HTTP/1 needs stays small.
        return Box::pin(crate::h2::server::serve(
            &common,
            &connection,
            transport,
            ahead,
        ))
        .await;
    }
    let stream = Stream::new(transport);
    lock(&stream).input = ahead;
    connection.interim = Some(stream.clone());
    let mut http1 = Http1 {
        common: &common,
        connection,
        stream,
        timer: Timer::new(common.timeouts.head),
        born: Instant::now(),
        aged: false,
        drained: Box::pin(common.drain.begins()),
        watching: false,
        calls: 0,
        reader: HeadReader::default(),
        outgoing: Outgoing::none(),
    };
    http1.run(plain_on_tls).await;
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

/// One connection that speaks HTTP/1.
struct Http1<'a> {
    common: &'a Common,
    connection: Connection,
    stream: SharedStream,
    timer: Timer,
    born: Instant,
    /// The connection is too old for another request.
    aged: bool,
    drained: Pin<Box<WaitForCancellationFuture<'a>>>,
    /// The drain wakes this task.
    watching: bool,
    /// Requests so far.
    calls: u64,
    reader: HeadReader,
    /// The response being sent.
    outgoing: Outgoing,
}

/// How far the next request is.
#[derive(Default)]
struct Wait {
    /// Some of it arrived.
    begun: bool,
    /// It has only as long as the drain leaves it.
    hurries: bool,
}

/// What came from the client. Small, as everything that a connection holds beside its service's future:
/// with many of them all of it has to be fetched from far away for each request.
enum Arrival {
    /// A sound head.
    Request(Bytes, Sound),
    /// A head that is not served, and whether its answer has no body.
    Refused(Box<Rejection>, bool),
    /// No request, and there will be none.
    Gone,
}

/// A call of the service, unless it panicked before it waited for anything.
type Begun<'a> = std::thread::Result<BoxFuture<'a, Response<Body>>>;

/// What follows a response.
enum After {
    /// The next request.
    Next,
    /// The end, once the client has read the answer.
    End,
    /// Bytes of another protocol.
    Tunnel(Tunnel),
    /// The end, at once.
    Cut,
}

impl Http1<'_> {
    async fn run(&mut self, plain_on_tls: bool) {
        self.serve(plain_on_tls).await;
        // A body that somebody still holds must not keep the connection open.
        drop(lock(&self.stream).leave());
    }

    async fn serve(&mut self, plain_on_tls: bool) {
        let mut arrival = if plain_on_tls {
            let reason = "plain HTTP sent to a TLS port";
            Arrival::Refused(Box::new(rejection(StatusCode::BAD_REQUEST, reason)), false)
        } else {
            self.next().await
        };
        loop {
            let after = match arrival {
                Arrival::Gone => return,
                // Boxed, as everything that few requests need: what a connection holds while it is idle is
                // the size of the largest of its futures.
                Arrival::Refused(rejection, bodyless) => {
                    Box::pin(self.refuse(*rejection, bodyless)).await
                }
                Arrival::Request(head, sound) => self.exchange(head, &sound).await,
            };
            match after {
                After::Next => {}
                After::End => return Box::pin(self.finish()).await,
                After::Tunnel(tunnel) => return Box::pin(self.tunnel(tunnel)).await,
                After::Cut => return,
            }
            arrival = self.next().await;
        }
    }

    /// Waits for a request.
    async fn next(&mut self) -> Arrival {
        let timeouts = &self.common.timeouts;
        let patience = if self.calls == 0 {
            timeouts.head
        } else {
            timeouts.idle
        };
        let now = self.timer.set(patience);
        self.aged = now.duration_since(self.born) >= self.common.age_max;
        self.reader.renew();
        let mut wait = Wait::default();
        std::future::poll_fn(|context| self.poll_next(context, &mut wait)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>, wait: &mut Wait) -> Poll<Arrival> {
        let draining = self.is_draining(context);
        let mut stream = lock(&self.stream);
        if draining && !wait.hurries {
            wait.hurries = true;
            let _now = self.timer.set(DRAIN_PATIENCE);
        }
        loop {
            if !stream.input.is_empty() {
                match self.reader.advance(&stream.input, &self.common.limits) {
                    Step::Partial => {}
                    Step::Complete(sound) => {
                        let head = stream.input.split_to(sound.length).freeze();
                        return Poll::Ready(Arrival::Request(head, sound));
                    }
                    Step::Refused(refusal) => {
                        return Poll::Ready(refused(&stream.input, &self.reader, refusal));
                    }
                }
                if !wait.begun {
                    wait.begun = true;
                    if !wait.hurries {
                        let _now = self.timer.set(self.common.timeouts.head);
                    }
                }
            }
            match stream.poll_read(context, HEAD_READ_BYTES) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false) | Err(_)) => return Poll::Ready(Arrival::Gone),
                // Between requests; a client that knew would have asked elsewhere.
                Poll::Pending if draining && self.calls > 0 && !wait.begun => {
                    return Poll::Ready(Arrival::Gone);
                }
                Poll::Pending => break,
            }
        }
        if !self.timer.is_due(context) {
            return Poll::Pending;
        }
        if !wait.begun {
            return Poll::Ready(Arrival::Gone);
        }
        let refusal = Refusal {
            status: StatusCode::REQUEST_TIMEOUT,
            reason: "request head not complete in time",
        };
        Poll::Ready(refused(&stream.input, &self.reader, refusal))
    }

    /// Has the service answer a request, and sends what it says.
    async fn exchange(&mut self, head: Bytes, sound: &Sound) -> After {
        self.calls += 1;
        let Some((call, bodyless)) = self.begin_call(head, sound) else {
            let reason = "request target cannot be handed on";
            let refused = rejection(StatusCode::BAD_REQUEST, reason);
            return Box::pin(self.refuse(refused, false)).await;
        };
        let answer = {
            let stream = &self.stream;
            let mut call = pin!(async move { AssertUnwindSafe(call?).catch_unwind().await });
            let answer = std::future::poll_fn(|context| {
                if let Poll::Ready(answer) = call.as_mut().poll(context) {
                    return Poll::Ready(Some(answer));
                }
                lock(stream).poll_gone(context).map(|()| None)
            });
            answer.await
        };
        let Some(answer) = answer else {
            return After::Cut;
        };
        let Ok(mut response) = answer else {
            tracing::error!(peer = %self.connection.peer, "service panicked");
            let panicked = rejection(StatusCode::INTERNAL_SERVER_ERROR, "service panicked");
            return Box::pin(self.refuse(panicked, bodyless)).await;
        };
        let mut tunnel = None;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            // What is left of a body would reach the upstream as bytes of the other protocol.
            let whole = lock(&self.stream).incoming.is_ended();
            let slot = response.extensions_mut().remove::<TunnelSlot>();
            tunnel = slot.filter(|_| whole).and_then(|slot| slot.take());
            if tunnel.is_none() {
                tracing::error!("service answered 101 without an upstream connection");
                let broken = rejection(StatusCode::INTERNAL_SERVER_ERROR, "101 without a tunnel");
                return Box::pin(self.refuse(broken, bodyless)).await;
            }
            let protocol = response.headers().get(UPGRADE);
            let websocket =
                protocol.is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"websocket"));
            tunnel = tunnel.map(|it| it.carrying(websocket));
        }
        let asked = Asked {
            version_11: sound.version_11,
            bodyless,
            keep_alive: sound.keep_alive
                && self.calls < self.common.requests_max
                && !self.aged
                && !self.common.drain.has_begun()
                && !lock(&self.stream).astray,
            trailers: sound.trailers,
        };
        let keep = self.begin_response(response, asked);
        match (self.respond(keep).await, tunnel) {
            (After::Next | After::End, Some(tunnel)) => After::Tunnel(tunnel),
            (after, _) => after,
        }
    }

    /// Makes a request of a sound head and has the service begin to answer it, which may panic; the flag
    /// says that the answer has no body. All of it at once: a request that waited for the call in between
    /// would be moved through the memory of this task. `None` when its target cannot be handed on.
    fn begin_call(&self, head: Bytes, sound: &Sound) -> Option<(Begun<'_>, bool)> {
        let parts = request::parts(head, &self.reader)?;
        let bodyless = parts.method == Method::HEAD;
        let request = Request::from_parts(parts, self.body(sound));
        let begin = || self.common.service.call(request, &self.connection);
        Some((std::panic::catch_unwind(AssertUnwindSafe(begin)), bodyless))
    }

    /// The body of a request: one that came with the head is taken off the stream.
    fn body(&self, sound: &Sound) -> Body {
        let mut stream = lock(&self.stream);
        let whole = match sound.framing {
            Framing::Length(length) => usize::try_from(length)
                .ok()
                .filter(|length| *length <= stream.input.len()),
            Framing::Chunked | Framing::Close => None,
        };
        if let Some(length) = whole {
            stream.begin(Incoming::Ended, false);
            return Body::full(stream.input.split_to(length).freeze());
        }
        let incoming = Incoming::of_client(sound.framing);
        stream.begin(incoming, sound.expects_continue);
        drop(stream);
        let body = RequestBody::new(&self.stream, self.common.timeouts.body);
        Body::Stream(Box::pin(body))
    }

    /// Answers in place of the service and closes.
    async fn refuse(&mut self, rejection: Rejection, bodyless: bool) -> After {
        tracing::debug!(
            peer = %self.connection.peer,
            status = rejection.status.as_u16(),
            reason = rejection.reason,
            "request refused"
        );
        let mut response = self.common.service.reject(&rejection, &self.connection);
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
        let asked = Asked {
            version_11: true,
            bodyless,
            keep_alive: false,
            trailers: false,
        };
        let keep = self.begin_response(response, asked);
        self.respond(keep).await
    }

    /// Begins a response; `true` when the connection may serve another request behind it.
    fn begin_response(&mut self, response: Response<Body>, asked: Asked) -> bool {
        let (outgoing, keep) = response::outgoing(response, asked);
        self.outgoing = outgoing;
        keep
    }

    /// Sends the response that was begun.
    async fn respond(&mut self, keep: bool) -> After {
        let mut progress = None;
        let sending = std::future::poll_fn(|context| self.poll_respond(context, &mut progress));
        match sending.await {
            Ok(true) if keep && lock(&self.stream).discard_body() => After::Next,
            Ok(true) => After::End,
            Ok(false) => After::Cut,
            Err(Stopped::Body(error)) => {
                tracing::debug!(peer = %self.connection.peer, %error, "response broken off");
                if self.outgoing.ends_by_close()
                    && let Ok(transport) = lock(&self.stream).transport()
                {
                    // An end in order would make it look whole. Nothing can be done if that fails.
                    let _reset = transport.socket().set_zero_linger();
                }
                After::Cut
            }
            Err(Stopped::Io(error)) => {
                tracing::debug!(peer = %self.connection.peer, %error, "client connection failed");
                After::Cut
            }
        }
    }

    /// Moves the response on; `true` when the client has all of it, `false` when it takes no more.
    fn poll_respond(
        &mut self,
        context: &mut Context<'_>,
        progress: &mut Option<u32>,
    ) -> Poll<Result<bool, Stopped>> {
        loop {
            let mut stream = lock(&self.stream);
            if stream.has_interim() {
                self.outgoing.precede(&stream.take_interim());
            }
            let transport = stream.answer().map_err(Stopped::Io)?;
            let writing = self.outgoing.poll_write(context, transport);
            if writing.map_err(Stopped::Io)?.is_pending() {
                break;
            }
            // Bodies read from the stream that is locked here.
            drop(stream);
            let done = match self.outgoing.poll_body(context) {
                Poll::Ready(Ok(true)) => continue,
                Poll::Ready(Ok(false)) => true,
                Poll::Ready(Err(stopped)) => return Poll::Ready(Err(stopped)),
                Poll::Pending => false,
            };
            let mut stream = lock(&self.stream);
            let transport = stream.transport().map_err(Stopped::Io)?;
            let flushing = self.outgoing.poll_flush(context, transport);
            if done && flushing.map_err(Stopped::Io)?.is_ready() {
                // What it holds of the body goes with it.
                self.outgoing = Outgoing::none();
                return Poll::Ready(Ok(true));
            }
            break;
        }
        if !self.outgoing.is_blocked() {
            let gone = lock(&self.stream).poll_gone(context);
            return gone.map(|()| Ok(false));
        }
        if progress.replace(self.outgoing.progress()) != Some(self.outgoing.progress()) {
            let _now = self.timer.set(self.common.timeouts.write);
        }
        if self.timer.is_due(context) {
            return Poll::Ready(Ok(false));
        }
        Poll::Pending
    }

    fn is_draining(&mut self, context: &mut Context<'_>) -> bool {
        if !self.watching {
            // Registers the task once; whoever is woken then looks at the flag itself.
            self.watching = true;
            let _begun = self.drained.as_mut().poll(context);
        }
        self.common.drain.has_begun()
    }

    /// Closes so that the client can read the last answer: closing over unread bytes would destroy it.
    async fn finish(&mut self) {
        let (lingers, left) = {
            let mut stream = lock(&self.stream);
            let unread = !stream.input.is_empty() || !stream.incoming.is_ended();
            (unread && !stream.finished, stream.leave())
        };
        let Some((mut transport, _)) = left else {
            return;
        };
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

    async fn tunnel(&mut self, tunnel: Tunnel) {
        let left = lock(&self.stream).leave();
        let Some((transport, ahead)) = left else {
            return;
        };
        let farewell = async {
            self.common.drain.begins().await;
            tokio::time::sleep(self.common.timeouts.farewell).await;
        };
        if let Err(error) = tunnel.run(transport, ahead.to_vec(), farewell).await {
            tracing::debug!(peer = %self.connection.peer, %error, "upgraded connection failed");
        }
    }
}

fn rejection(status: StatusCode, reason: &'static str) -> Rejection {
    Rejection {
        status,
        reason,
        head: None,
    }
}

fn refused(input: &[u8], reader: &HeadReader, refusal: Refusal) -> Arrival {
    let rejection = Rejection {
        status: refusal.status,
        reason: refusal.reason,
        head: reader.sound_parts(input),
    };
    Arrival::Refused(Box::new(rejection), HeadReader::is_head_request(input))
}
