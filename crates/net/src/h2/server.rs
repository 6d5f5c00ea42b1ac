//! One client connection that speaks HTTP/2: its requests are served side by side in the connection's
//! own task.

use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ::h2::server::{Builder, SendResponse};
use ::h2::{Reason, RecvStream};
use bytes::{Bytes, BytesMut};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, Stream as _};
use http::{Method, Request, Response, StatusCode};
use tokio_util::sync::WaitForCancellationFuture;

use super::answer::{self, Asked, Rest};
use super::early::Early;
use super::head::{self, Sound};
use super::receiving::{Receiving, RequestBody};
use super::sending::{Sending, Stopped};
use super::wire::{Patience, Signals, Wire};
use super::{SEND_BUFFER_BYTES, SMALL_FRAMES_BYTES, STREAMS_MAX};
use crate::server::HeadLimits;
use crate::server::connection::Common;
use crate::server::counts::flooding;
use crate::timer::Timer;
use crate::transport::Transport;
use crate::{Body, BoxFuture, Connection, Rejection};

/// Bytes that a client may send ahead on one stream, and on all of them together.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// Streams that a client resets before they were looked at.
const PENDING_RESETS_MAX: usize = 2 * STREAMS_MAX as usize;
/// What a header list counts besides the bytes of its fields, each (RFC 9113 section 6.5.2).
const FIELD_EXTRA_BYTES: usize = 32;
/// How long a client that is to leave may take to do so.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long the last frames may take.
const CLOSE: Duration = Duration::from_secs(5);

type Library = ::h2::server::Connection<Wire, Bytes>;

/// Serves a connection to its end. `ahead` was read of it already.
pub(crate) async fn serve(
    common: &Common,
    connection: &Connection,
    transport: Transport,
    ahead: BytesMut,
) {
    let signals = Arc::new(Signals::default());
    let patience = Patience {
        head: common.timeouts.head,
        write: common.timeouts.write,
    };
    let wire = Wire::of_client(transport, ahead, patience, signals.clone());
    let handshake = Box::pin(builder(&common.limits).handshake(wire));
    let library = match tokio::time::timeout(common.timeouts.head, handshake).await {
        Ok(Ok(library)) => library,
        Ok(Err(error)) => {
            tracing::debug!(peer = %connection.peer, %error, "HTTP/2 did not begin");
            return;
        }
        Err(_) => {
            tracing::debug!(peer = %connection.peer, "HTTP/2 did not begin in time");
            return;
        }
    };
    let mut http2 = Http2 {
        common,
        connection,
        signals,
        library,
        streams: FuturesUnordered::new(),
        timer: Timer::new(common.timeouts.head),
        idle: true,
        drained: Box::pin(common.drain.begins()),
        watching: false,
        leaving: false,
        closing: false,
        requests: 0,
        born: Instant::now(),
    };
    std::future::poll_fn(|context| http2.poll(context)).await;
}

fn builder(limits: &HeadLimits) -> Builder {
    // Heads that are too large by our own limits get our own answer, so the library takes more.
    let list = limits.head_bytes_max * 2 + limits.lines_max * FIELD_EXTRA_BYTES;
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS_MAX)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_header_list_size(u32::try_from(list).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .data_frame_budget(SMALL_FRAMES_BYTES);
    builder
}

struct Http2<'a> {
    common: &'a Common,
    connection: &'a Connection,
    signals: Arc<Signals>,
    library: Library,
    streams: FuturesUnordered<BoxFuture<'a, ()>>,
    timer: Timer,
    /// No request is served, and the timer tells for how long.
    idle: bool,
    drained: Pin<Box<WaitForCancellationFuture<'a>>>,
    /// The drain wakes this task.
    watching: bool,
    /// The client was asked to leave.
    leaving: bool,
    /// The last frames are on their way.
    closing: bool,
    /// Requests so far.
    requests: u64,
    born: Instant,
}

impl Http2<'_> {
    /// Moves everything on; ready at the end of the connection.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.is_draining(context) {
            self.leave();
        }
        if self.poll_library(context).is_ready() {
            return Poll::Ready(());
        }
        // Each gives what it has for the library, which wakes this task to send it.
        while let Poll::Ready(Some(())) = Pin::new(&mut self.streams).poll_next(context) {}
        self.check_time(context)
    }

    /// Takes requests and has frames written.
    fn poll_library(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.signals.is_flooded() && !self.closing {
                tracing::info!(peer = %self.connection.peer, "HTTP/2 client floods its connection: closed");
                flooding();
                self.close(Reason::ENHANCE_YOUR_CALM);
            }
            match self.library.poll_accept(context) {
                Poll::Ready(Some(Ok((request, respond)))) => self.accept(request, respond),
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(peer = %self.connection.peer, %error, "HTTP/2 connection failed");
                    return Poll::Ready(());
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending if self.signals.is_flooded() && !self.closing => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn accept(&mut self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        self.requests += 1;
        let aged = self.born.elapsed() >= self.common.age_max;
        if self.requests >= self.common.requests_max || aged {
            self.leave();
        }
        let stream = Stream {
            common: self.common,
            connection: self.connection,
            signals: self.signals.clone(),
            respond,
        };
        self.streams.push(Box::pin(stream.serve(request)));
    }

    /// Ends connections that do nothing, and those that do not end by themselves.
    fn check_time(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let idle = self.streams.is_empty() && !self.library.has_streams();
        if !self.closing && idle != self.idle {
            self.idle = idle;
            self.timer.set(self.patience());
        }
        if !(self.idle || self.closing) || !self.timer.is_due(context) {
            return Poll::Pending;
        }
        if self.closing {
            return Poll::Ready(());
        }
        self.close(Reason::NO_ERROR);
        self.poll_library(context)
    }

    /// How long the connection may be without a request.
    fn patience(&self) -> Duration {
        if self.leaving {
            FAREWELL
        } else {
            self.common.timeouts.idle
        }
    }

    /// Takes no more requests than are on their way, and finishes those.
    fn leave(&mut self) {
        if self.leaving || self.closing {
            return;
        }
        self.leaving = true;
        self.library.graceful_shutdown();
        self.timer.set(FAREWELL);
    }

    /// Ends whatever there is.
    fn close(&mut self, reason: Reason) {
        self.closing = true;
        self.timer.set(CLOSE);
        self.streams.clear();
        self.library.abrupt_shutdown(reason);
    }

    fn is_draining(&mut self, context: &mut Context<'_>) -> bool {
        if !self.watching {
            // Registers the task once; whoever is woken then looks at the flag itself.
            self.watching = true;
            let _begun = self.drained.as_mut().poll(context);
        }
        self.common.drain.has_begun()
    }
}

/// One request and its response.
struct Stream<'a> {
    common: &'a Common,
    connection: &'a Connection,
    signals: Arc<Signals>,
    respond: SendResponse<Bytes>,
}

impl Stream<'_> {
    async fn serve(mut self, request: Request<RecvStream>) {
        let (parts, stream) = request.into_parts();
        let mut asked = Asked {
            bodyless: parts.method == Method::HEAD,
            trailers: false,
        };
        let response = match head::judge(parts, &self.common.limits) {
            Ok(sound) => {
                asked.trailers = sound.trailers;
                let call = Box::pin(self.call(sound, stream));
                match call.await {
                    Some(response) => response,
                    // The client took the request back.
                    None => return,
                }
            }
            Err(rejection) => self.refusal(&rejection),
        };
        match answer::begin(response, asked, &mut self.respond) {
            Ok(Some(rest)) => self.send(rest).await,
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(peer = %self.connection.peer, %error, "response not sent");
                self.respond.send_reset(Reason::INTERNAL_ERROR);
            }
        }
    }

    /// Has the service answer.
    async fn call(&mut self, sound: Sound, stream: RecvStream) -> Option<Response<Body>> {
        let early = Arc::new(Early::new());
        let patience = self.common.timeouts.body;
        let body = match Receiving::begin(stream, sound.length, patience) {
            Ok(receiving) => {
                let expected = sound.expects_continue.then(|| early.clone());
                Body::Stream(Box::pin(RequestBody::new(receiving, expected)))
            }
            Err(body) => body,
        };
        let request = Request::from_parts(sound.parts, body);
        let connection = Connection {
            interim: Some(early.clone()),
            ..self.connection.clone()
        };
        let service = &self.common.service;
        let call = async { service.call(request, &connection).await };
        let mut call = pin!(AssertUnwindSafe(call).catch_unwind());
        let respond = &mut self.respond;
        let answer = std::future::poll_fn(|context| {
            if let Poll::Ready(answer) = call.as_mut().poll(context) {
                return Poll::Ready(Some(answer));
            }
            while let Some(response) = early.next(context) {
                // What is wrong with the stream shows at once.
                drop(respond.send_informational(response));
            }
            respond.poll_reset(context).map(|_| None)
        });
        match answer.await? {
            Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                tracing::error!("service switches protocols on HTTP/2");
                Some(self.refusal(&internal("101 on HTTP/2")))
            }
            Ok(response) => Some(response),
            Err(_) => {
                tracing::error!(peer = %self.connection.peer, "service panicked");
                Some(self.refusal(&internal("service panicked")))
            }
        }
    }

    fn refusal(&self, rejection: &Rejection) -> Response<Body> {
        tracing::debug!(
            peer = %self.connection.peer,
            status = rejection.status.as_u16(),
            reason = rejection.reason,
            "request refused"
        );
        self.common.service.reject(rejection, self.connection)
    }

    /// Sends what follows the head.
    async fn send(&mut self, rest: Rest) {
        let patience = self.common.timeouts.write;
        let Rest {
            stream,
            body,
            length,
            trailers,
        } = rest;
        let sending = Sending::new(stream, body, length, trailers, patience);
        let mut sending = sending.count_for(&self.signals);
        let Err(stopped) = std::future::poll_fn(|context| sending.poll(context)).await else {
            return;
        };
        let peer = self.connection.peer;
        match stopped {
            Stopped::Body(error) => {
                tracing::debug!(%peer, %error, "response broken off");
                sending.give_up(Reason::INTERNAL_ERROR);
            }
            Stopped::Timeout => {
                tracing::debug!(%peer, "client took nothing of its response for too long");
                sending.give_up(Reason::CANCEL);
            }
            Stopped::Reset(error) => tracing::debug!(%peer, %error, "client took no more"),
        }
    }
}

fn internal(reason: &'static str) -> Rejection {
    Rejection {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        reason,
        head: None,
    }
}
