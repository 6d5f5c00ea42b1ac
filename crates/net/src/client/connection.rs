//! One connection to an upstream. No task of its own drives it: whoever waits for the response, or
//! reads its body, polls the connection in place, so a request costs no hop between tasks.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::response::Parts;
use http::{Response, StatusCode};
use http_body::Frame;
use socket2::SockRef;

use super::answer::{Head, HeadReader};
use super::connect::is_loopback;
use super::download::{Download, Pumped};
use super::pool::Pool;
use super::{InvalidResponse, Target, Timeouts, WrittenRequest};
use crate::incoming::{Incoming, Next};
use crate::outgoing::{Outgoing, Stopped};
use crate::timer::Timer;
use crate::transport::Transport;
use crate::tunnel::{Tunnel, TunnelSlot};
use crate::{Body, BodyError};

/// Bytes asked for at once.
const READ_BYTES_MAX: usize = 64 * 1024;
/// Interim responses before the one that counts.
const INTERIM_MAX: u32 = 32;
/// A timer that no limit of a connection is behind yet.
const UNSET: Duration = Duration::from_secs(60);

/// What a connection waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// The upstream takes bytes.
    Write,
    /// The client sends more of its body; its own deadline counts.
    Client,
    /// The upstream sends bytes.
    Read,
}

/// One connection.
pub(super) struct Upstream {
    pub(super) target: Arc<Target>,
    /// The other end.
    pub(super) address: SocketAddr,
    /// It is a loopback address.
    pub(super) loopback: bool,
    transport: Transport,
    upload: Outgoing,
    /// Why the request was not sent whole; a response may still come.
    upload_error: Option<io::Error>,
    /// Read and not used.
    input: BytesMut,
    head: HeadReader,
    incoming: Incoming,
    interim: u32,
    /// The response has no body: it answers `HEAD`.
    bodyless: bool,
    /// The request asks to leave HTTP; a 101 to any other is nothing to follow.
    upgrading: bool,
    /// The request asks for a look at the connection that takes it.
    probes: bool,
    /// The connection may serve another request.
    reusable: bool,
    /// Successful reads.
    reads: u32,
    /// What was waited for when the deadline was set, and the progress until then.
    waited: Option<(Wait, u32)>,
    timer: Timer,
    requests: u32,
    /// The pool's count of sweeps when the connection became idle.
    pub(super) idle_since_sweep: u32,
}

/// Why an exchange gave no response head.
pub(super) enum Failed {
    /// Nothing moved for too long.
    Timeout,
    /// The connection broke; the request, when nothing of it was sent.
    Closed(io::Error, Option<Box<WrittenRequest>>),
    /// The request's body failed.
    Body(BodyError),
    /// What came is no response.
    Invalid(InvalidResponse),
}

impl Upstream {
    pub(super) fn new(transport: Transport, target: &Target, address: SocketAddr) -> Box<Self> {
        Box::new(Self {
            target: Arc::new(target.clone()),
            address,
            loopback: is_loopback(address.ip()),
            transport,
            upload: Outgoing::none(),
            upload_error: None,
            input: BytesMut::new(),
            head: HeadReader::default(),
            incoming: Incoming::Ended,
            interim: 0,
            bodyless: false,
            upgrading: false,
            probes: false,
            reusable: true,
            reads: 0,
            waited: None,
            timer: Timer::new(UNSET),
            requests: 0,
            idle_since_sweep: 0,
        })
    }

    /// Takes a request; [`Upstream::exchange`] sends it.
    pub(super) fn begin(&mut self, request: WrittenRequest) {
        self.requests += 1;
        self.interim = 0;
        self.waited = None;
        self.bodyless = request.bodyless;
        self.upgrading = request.upgrading;
        self.probes = request.probes;
        self.upload = request.message;
    }

    /// Sends the request that was begun and waits for the response head.
    pub(super) async fn exchange(
        mut self: Box<Self>,
        timeouts: &Timeouts,
        pool: &Arc<Pool>,
        interim: Option<&(dyn Fn(Parts) + Send + Sync)>,
    ) -> Result<Response<Body>, Failed> {
        match std::future::poll_fn(|context| self.poll_head(context, timeouts, interim)).await {
            Ok(head) => Ok(self.answered(head, timeouts, pool)),
            Err(Failed::Closed(source, _)) if !self.upload.has_begun() => {
                // Nothing was taken from it: it is as it was.
                let unsent = WrittenRequest {
                    message: std::mem::replace(&mut self.upload, Outgoing::none()),
                    bodyless: self.bodyless,
                    upgrading: self.upgrading,
                    probes: self.probes,
                };
                Err(Failed::Closed(source, Some(Box::new(unsent))))
            }
            Err(failed) => Err(failed),
        }
    }

    fn poll_head(
        &mut self,
        context: &mut Context<'_>,
        timeouts: &Timeouts,
        interim: Option<&(dyn Fn(Parts) + Send + Sync)>,
    ) -> Poll<Result<Head, Failed>> {
        if let Err(error) = self.send(context) {
            return Poll::Ready(Err(Failed::Body(error)));
        }
        if !self.upload.has_begun()
            && let Some(error) = self.upload_error.take()
        {
            return Poll::Ready(Err(Failed::Closed(error, None)));
        }
        loop {
            let head = self.head.read(&mut self.input, self.bodyless);
            match head.map_err(Failed::Invalid)? {
                Some(head) if is_interim(head.parts.status) => {
                    self.interim += 1;
                    if self.interim > INTERIM_MAX {
                        return Poll::Ready(Err(Failed::Invalid(InvalidResponse::TooLarge)));
                    }
                    if let Some(pass) = interim
                        && head.parts.status != StatusCode::CONTINUE
                    {
                        pass(head.parts);
                    }
                    continue;
                }
                Some(head) => return Poll::Ready(Ok(head)),
                None => {}
            }
            match self.poll_read(context) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => {
                    let ended = io::ErrorKind::UnexpectedEof.into();
                    let cause = self.upload_error.take().unwrap_or(ended);
                    return Poll::Ready(Err(Failed::Closed(cause, None)));
                }
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err(Failed::Closed(error, None)));
                }
                Poll::Pending => break,
            }
        }
        if self.is_overdue(context, timeouts) {
            return Poll::Ready(Err(Failed::Timeout));
        }
        Poll::Pending
    }

    /// Moves the request on; an upstream that takes no more of it may still answer.
    pub(super) fn send(&mut self, context: &mut Context<'_>) -> Result<(), BodyError> {
        if self.upload.is_done() {
            return Ok(());
        }
        match self.upload.poll(context, &mut self.transport) {
            Poll::Pending | Poll::Ready(Ok(())) => Ok(()),
            Poll::Ready(Err(Stopped::Body(error))) => Err(error),
            Poll::Ready(Err(Stopped::Io(error))) => {
                self.reusable = false;
                self.upload_error = Some(error);
                // An answer may follow what was sent.
                if self.upload.has_begun() {
                    self.upload = Outgoing::given_up();
                }
                Ok(())
            }
        }
    }

    /// Reads once; `false` at the end of the stream.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let input = &mut self.input;
        let reading = self
            .transport
            .poll_read_with(context, READ_BYTES_MAX, |bytes| {
                input.extend_from_slice(bytes);
                !bytes.is_empty()
            });
        let more = ready!(reading)?;
        self.reads = self.reads.wrapping_add(1);
        Poll::Ready(Ok(more))
    }

    /// The next part of the response body; `None` at its sound end.
    pub(super) fn poll_body(
        &mut self,
        context: &mut Context<'_>,
        timeouts: &Timeouts,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Err(error) = self.send(context) {
            return Poll::Ready(Some(Err(error)));
        }
        loop {
            match self.incoming.next(&mut self.input) {
                Ok(Next::Frame(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(Next::End) => return Poll::Ready(None),
                Ok(Next::More) => {}
                Err(_) => return Poll::Ready(Some(Err(broken("invalid chunked body")))),
            }
            match self.poll_read(context) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) if self.incoming.may_end() => return Poll::Ready(None),
                Poll::Ready(Ok(false)) => {
                    return Poll::Ready(Some(Err(broken("connection closed within the body"))));
                }
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Some(Err(BodyError::Broken(error))));
                }
                Poll::Pending => break,
            }
        }
        if self.is_overdue(context, timeouts) {
            return Poll::Ready(Some(Err(BodyError::Timeout)));
        }
        Poll::Pending
    }

    /// What is still to come of the response body.
    pub(super) fn incoming(&self) -> &Incoming {
        &self.incoming
    }

    /// Whether nothing moved for too long; wakes the task when that is so.
    fn is_overdue(&mut self, context: &mut Context<'_>, timeouts: &Timeouts) -> bool {
        let (wait, limit) = if self.upload.is_blocked() {
            (Wait::Write, timeouts.write)
        } else if self.upload.waits_for_body() {
            (Wait::Client, Duration::MAX)
        } else {
            (Wait::Read, timeouts.read)
        };
        let waited = Some((wait, self.reads.wrapping_add(self.upload.progress())));
        if wait == Wait::Client {
            self.waited = waited;
            return false;
        }
        if self.waited != waited {
            self.waited = waited;
            let _now = self.timer.set(limit);
        }
        self.timer.is_due(context)
    }

    /// Whether an idle connection can take a request; `probe` asks the kernel, not the event loop.
    pub(super) fn is_alive(&mut self, probe: bool) -> bool {
        if probe && !self.is_quiet() {
            return false;
        }
        let mut context = Context::from_waker(Waker::noop());
        self.transport
            .poll_read_with(&mut context, 1, |_| ())
            .is_pending()
    }

    /// What the kernel knows: neither the end nor bytes nobody asked for. Those of TLS may be its
    /// farewell, which the event loop need not have heard of; there is hardly anything else that a server
    /// sends of its own accord.
    fn is_quiet(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let peeked = SockRef::from(self.transport.socket()).peek(&mut byte);
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Turns a head into a response; a connection that is free again goes back to the pool.
    fn answered(
        mut self: Box<Self>,
        head: Head,
        timeouts: &Timeouts,
        pool: &Arc<Pool>,
    ) -> Response<Body> {
        let mut parts = head.parts;
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            if self.upgrading {
                let tunnel = TunnelSlot::new(self.into_tunnel(timeouts.read));
                parts.extensions.insert(tunnel);
            }
            return Response::from_parts(parts, Body::Empty);
        }
        self.reusable &= head.keep_alive;
        self.incoming = head.incoming;
        let chunked = matches!(self.incoming, Incoming::Chunked(_));
        // A small body came with the head: take it out and free the connection at once. What is
        // wrong with it is found again by whoever reads on.
        let first = match self.incoming.next(&mut self.input) {
            Ok(Next::End) => {
                self.release(pool);
                return Response::from_parts(parts, Body::Empty);
            }
            Ok(Next::Frame(frame)) => Some(frame),
            Ok(Next::More) | Err(_) => None,
        };
        if !chunked && self.incoming.is_ended() {
            self.release(pool);
            let bytes = first.and_then(|frame| frame.into_data().ok());
            let body = Body::full(bytes.unwrap_or_default());
            return Response::from_parts(parts, body);
        }
        let uploading = !self.upload.is_done();
        let body = Download::new(self, first, *timeouts, pool.clone());
        let body = if uploading {
            Body::Stream(Box::pin(Pumped::new(body)))
        } else {
            Body::Stream(Box::pin(body))
        };
        Response::from_parts(parts, body)
    }

    fn into_tunnel(self: Box<Self>, idle: Duration) -> Tunnel {
        Tunnel::new(self.transport, self.input.to_vec(), idle)
    }

    /// Gives the connection back to the pool if it can serve another request.
    pub(super) fn release(mut self: Box<Self>, pool: &Arc<Pool>) {
        let used_up = pool.is_used_up(self.requests);
        let loose = !self.input.is_empty() || !self.upload.is_done();
        if !self.reusable || used_up || loose {
            return;
        }
        // An idle connection holds no buffers.
        self.upload = Outgoing::none();
        self.input = BytesMut::new();
        pool.put(self);
    }
}

/// A response that another follows.
fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}

fn broken(how: &str) -> BodyError {
    BodyError::Broken(io::Error::new(io::ErrorKind::InvalidData, how))
}
