//! One connection to an upstream that speaks HTTP/2, shared by its requests. A task of its own drives
//! it; requests and response bodies hold it, and it ends with the last of them.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ::h2::client::{Builder, ResponseFuture, SendRequest};
use ::h2::{Reason, RecvStream};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderValue, Request, Response, Uri, Version};
use http_body::{Body as _, Frame, SizeHint};
use o28m_core::limits;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::receiving::Receiving;
use super::sending::{Sending, Stopped, Wait};
use super::wire::{Patience, Wire};
use super::{SEND_BUFFER_BYTES, SMALL_FRAMES_BYTES, STREAMS_MAX, into_io};
use crate::client::Timeouts;
use crate::timer::Timer;
use crate::transport::Transport;
use crate::{Body, BodyError, Scheme};

/// Bytes that an upstream may send ahead on one stream; on all of them together it is as many for each,
/// so that a client that does not read holds up nobody else.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = STREAM_WINDOW_BYTES * STREAMS_MAX;
/// How often a connection that may idle for ever is looked at.
const IDLE_MAX: Duration = Duration::from_secs(3600);

/// How long a connection lasts.
#[derive(Clone, Copy)]
pub(super) struct Lasts {
    /// How long it may idle; `None` for as long as the upstream keeps it.
    pub(super) idle: Option<Duration>,
    /// Requests it serves.
    pub(super) requests_max: u32,
}

/// Why an exchange gave no response head.
pub(super) enum Failed {
    /// Nothing moved for too long.
    Timeout,
    /// The upstream did not look at the request; its body, when nothing was taken from it.
    Unprocessed(io::Error, Option<Body>),
    /// The connection broke.
    Closed(io::Error),
    /// The request's body failed.
    Body(BodyError),
    /// What came is no response.
    Invalid(io::Error),
    /// The request cannot be sent over HTTP/2.
    Unsendable(io::Error),
}

/// What the users of a connection and its task know of each other.
pub(super) struct State {
    active: AtomicUsize,
    served: AtomicU32,
    closed: AtomicBool,
    /// When the last request ended.
    idle_since: Mutex<Instant>,
    lasts: Lasts,
}

impl State {
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// How long the connection may still be idle; `None` while it serves requests.
    fn idle_left(&self) -> Option<Duration> {
        let idle = self.lasts.idle?;
        if self.active.load(Ordering::Acquire) > 0 {
            return None;
        }
        let since = *self
            .idle_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Some(idle.saturating_sub(since.elapsed()))
    }
}

/// One connection.
pub(super) struct Link {
    /// The other end.
    pub(super) address: SocketAddr,
    pub(super) state: Arc<State>,
    sender: SendRequest<Bytes>,
    driver: AbortHandle,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// The connection of one request, to its end.
pub(super) struct Slot {
    link: Arc<Link>,
    /// The connection served others before.
    pub(super) reused: bool,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let state = &self.link.state;
        if state.active.fetch_sub(1, Ordering::AcqRel) == 1 {
            *state
                .idle_since
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
    }
}

impl Link {
    /// Begins to speak on a connected stream; `ended` is called when that is over.
    pub(super) async fn open(
        transport: Transport,
        address: SocketAddr,
        timeouts: &Timeouts,
        lasts: Lasts,
        ended: impl FnOnce(&Arc<State>) + Send + 'static,
    ) -> io::Result<Arc<Self>> {
        let patience = Patience {
            head: timeouts.read,
            write: timeouts.write,
        };
        let wire = Wire::of_upstream(transport, patience);
        let (sender, mut library) = builder().handshake(wire).await.map_err(into_io)?;
        let state = Arc::new(State {
            active: AtomicUsize::new(0),
            served: AtomicU32::new(0),
            closed: AtomicBool::new(false),
            idle_since: Mutex::new(Instant::now()),
            lasts,
        });
        let of_driver = state.clone();
        let driver = tokio::spawn(async move {
            let idle = lasts.idle.unwrap_or(IDLE_MAX);
            let mut timer = Timer::new(idle);
            let driving = std::future::poll_fn(|context| {
                if let Poll::Ready(outcome) = Pin::new(&mut library).poll(context) {
                    return Poll::Ready(outcome);
                }
                while timer.is_due(context) {
                    match of_driver.idle_left() {
                        Some(Duration::ZERO) => return Poll::Ready(Ok(())),
                        left => {
                            timer.set(left.unwrap_or(idle));
                        }
                    }
                }
                Poll::Pending
            });
            if let Err(error) = driving.await {
                tracing::debug!(%error, "HTTP/2 connection to an upstream failed");
            }
            of_driver.closed.store(true, Ordering::Release);
            ended(&of_driver);
        });
        Ok(Arc::new(Self {
            address,
            state,
            sender,
            driver: driver.abort_handle(),
        }))
    }

    /// Takes the connection for one more request, if it can serve that.
    pub(super) fn reserve(self: &Arc<Self>) -> Option<Slot> {
        let state = &self.state;
        let streams_max = self.sender.current_max_send_streams();
        let streams_max = streams_max.min(STREAMS_MAX as usize);
        let full = state.active.load(Ordering::Acquire) >= streams_max;
        let served = state.served.load(Ordering::Relaxed);
        if state.is_closed() || full || served >= state.lasts.requests_max {
            return None;
        }
        state.active.fetch_add(1, Ordering::AcqRel);
        state.served.fetch_add(1, Ordering::Relaxed);
        Some(Slot {
            link: self.clone(),
            reused: served > 0,
        })
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    let list = limits::RESPONSE_HEAD_BYTES_MAX;
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_header_list_size(u32::try_from(list).unwrap_or(u32::MAX))
        .data_frame_budget(SMALL_FRAMES_BYTES);
    builder
}

impl Slot {
    /// Sends a request and waits for the response head.
    pub(super) async fn exchange(
        self,
        request: Request<Body>,
        scheme: Scheme,
        timeouts: &Timeouts,
    ) -> Result<Response<Body>, Failed> {
        let (parts, body) = request.into_parts();
        let length = body.size_hint().exact().or_else(|| stated(&parts.headers));
        let ended = body.is_end_stream();
        let head = match head(parts, scheme) {
            Ok(head) => head,
            Err(error) => return Err(Failed::Unsendable(io::Error::other(error))),
        };
        let mut sender = match self.link.sender.clone().ready().await {
            Ok(sender) => sender,
            Err(error) => {
                // It takes no more requests, whatever the reason.
                self.link.state.closed.store(true, Ordering::Release);
                return Err(Failed::Unprocessed(into_io(error), Some(body)));
            }
        };
        let (response, stream) = match sender.send_request(head, ended) {
            Ok(begun) => begun,
            Err(error) if error.get_io().is_some() || error.is_go_away() => {
                return Err(Failed::Unprocessed(into_io(error), Some(body)));
            }
            Err(error) => return Err(Failed::Unsendable(into_io(error))),
        };
        drop(sender);
        let sending = (!ended).then(|| Sending::new(stream, body, length, true, timeouts.write));
        let mut exchange = Exchange {
            slot: self,
            response,
            sending,
            read: timeouts.read,
            timer: None,
        };
        match std::future::poll_fn(|context| exchange.poll(context)).await {
            Ok(response) => Ok(exchange.answered(response)),
            Err(failed) => Err(exchange.failed(failed)),
        }
    }
}

/// The head as HTTP/2 has it: an absolute target, no field of a connection.
fn head(mut parts: http::request::Parts, scheme: Scheme) -> Result<Request<()>, http::Error> {
    let host = parts.headers.remove(HOST);
    let authority = host.as_ref().map_or(&b""[..], HeaderValue::as_bytes);
    let target = parts.uri.path_and_query().map_or("/", |it| it.as_str());
    parts.uri = Uri::builder()
        .scheme(scheme.name())
        .authority(authority)
        .path_and_query(target)
        .build()?;
    parts.version = Version::HTTP_2;
    Ok(Request::from_parts(parts, ()))
}

fn stated(headers: &http::HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A request until its response begins.
struct Exchange {
    slot: Slot,
    response: ResponseFuture,
    /// The body, until it is sent.
    sending: Option<Sending>,
    read: Duration,
    timer: Option<Timer>,
}

/// Why it did not begin.
enum Why {
    Timeout,
    Body(BodyError),
    Error(::h2::Error),
}

impl Exchange {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Response<RecvStream>, Why>> {
        if let Err(why) = self.send(context) {
            return Poll::Ready(Err(why));
        }
        if let Poll::Ready(response) = Pin::new(&mut self.response).poll(context) {
            return Poll::Ready(response.map_err(Why::Error));
        }
        if self.sending.is_some() {
            self.timer = None;
            return Poll::Pending;
        }
        let read = self.read;
        let timer = self.timer.get_or_insert_with(|| Timer::new(read));
        if timer.is_due(context) {
            return Poll::Ready(Err(Why::Timeout));
        }
        Poll::Pending
    }

    /// Moves the request on; an upstream that takes no more of it may still answer.
    fn send(&mut self, context: &mut Context<'_>) -> Result<(), Why> {
        let Some(sending) = &mut self.sending else {
            return Ok(());
        };
        match sending.poll(context) {
            Poll::Pending => return Ok(()),
            // Kept, because its body may be wanted again.
            Poll::Ready(Err(Stopped::Reset(_))) if sending.wait() != Wait::Done => {}
            Poll::Ready(Ok(()) | Err(Stopped::Reset(_))) => self.sending = None,
            Poll::Ready(Err(Stopped::Timeout)) => return Err(Why::Timeout),
            Poll::Ready(Err(Stopped::Body(error))) => {
                sending.give_up(Reason::CANCEL);
                return Err(Why::Body(error));
            }
        }
        Ok(())
    }

    fn failed(self, why: Why) -> Failed {
        let error = match why {
            Why::Timeout => {
                // It may be dead, for all we know: others get a new connection.
                self.slot.link.state.closed.store(true, Ordering::Release);
                return Failed::Timeout;
            }
            Why::Body(error) => return Failed::Body(error),
            Why::Error(error) => error,
        };
        let refused = error.is_remote()
            && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM));
        if error.is_go_away() || error.is_io() {
            self.slot.link.state.closed.store(true, Ordering::Release);
        }
        if refused {
            let body = match self.sending {
                Some(sending) => sending.into_untouched(),
                None => Some(Body::Empty),
            };
            return Failed::Unprocessed(into_io(error), body);
        }
        if error.is_io() {
            Failed::Closed(into_io(error))
        } else {
            Failed::Invalid(into_io(error))
        }
    }

    /// Turns a head into a response. What is left of the request is sent by a task of its own: a client
    /// may send everything before it reads anything, or wait for what it sent to be answered.
    fn answered(self, response: Response<RecvStream>) -> Response<Body> {
        let (parts, stream) = response.into_parts();
        let length = stated(&parts.headers);
        let receiving = match Receiving::begin(stream, length, self.read) {
            Ok(receiving) => receiving,
            Err(body) => return Response::from_parts(parts, body),
        };
        let body = Body::Stream(Box::pin(Download {
            receiving,
            upload: self.sending.map(Upload::begin),
            slot: Some(self.slot),
        }));
        Response::from_parts(parts, body)
    }
}

/// What is left of a request, sent while its response is read.
struct Upload {
    task: AbortHandle,
    outcome: oneshot::Receiver<Result<(), BodyError>>,
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Upload {
    /// Owned by the response body: ends with it.
    fn begin(mut sending: Sending) -> Self {
        let (sender, outcome) = oneshot::channel();
        let task = tokio::spawn(async move {
            let stopped = std::future::poll_fn(|context| sending.poll(context)).await;
            let outcome = match stopped {
                Ok(()) | Err(Stopped::Reset(_)) => Ok(()),
                Err(Stopped::Timeout) => Err(BodyError::Timeout),
                Err(Stopped::Body(error)) => Err(error),
            };
            if outcome.is_err() {
                sending.give_up(Reason::CANCEL);
            }
            // Nobody waits for it once the response is gone.
            drop(sender.send(outcome));
        });
        Self {
            task: task.abort_handle(),
            outcome,
        }
    }
}

/// The body of a response, and the rest of its request.
struct Download {
    receiving: Receiving,
    upload: Option<Upload>,
    slot: Option<Slot>,
}

impl Download {
    /// Looks after the rest of the request; fails with it.
    fn check_upload(&mut self, context: &mut Context<'_>) -> Result<(), BodyError> {
        let Some(upload) = &mut self.upload else {
            return Ok(());
        };
        match Pin::new(&mut upload.outcome).poll(context) {
            Poll::Pending => Ok(()),
            Poll::Ready(outcome) => {
                self.upload = None;
                outcome.unwrap_or(Ok(()))
            }
        }
    }
}

impl http_body::Body for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let next = this.receiving.poll(context);
        if next.is_ready() {
            if this.receiving.is_end_stream() {
                this.slot = None;
                this.upload = None;
            }
            return next;
        }
        if let Err(error) = this.check_upload(context) {
            return Poll::Ready(Some(Err(error)));
        }
        // While the request goes on, it is the client or the upstream's windows that are waited for.
        if this.upload.is_some() {
            this.receiving.pause();
            return Poll::Pending;
        }
        this.receiving.wait(context)
    }

    fn is_end_stream(&self) -> bool {
        self.receiving.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.receiving.size_hint()
    }
}
