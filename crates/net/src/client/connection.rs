//! One connection to an upstream. No task of its own drives it: whoever waits for the response, or
//! reads its body, polls the connection in place, so a request costs no hop between tasks.

use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper::rt::ReadBufCursor;
use o28m_core::limits;
use socket2::SockRef;
use tokio::io::AsyncWrite as _;
use tokio::time::{Instant, Sleep};

use super::download::{Download, Pumped};
use super::pool::Pool;
use super::{SendError, Target, Timeouts};
use crate::transport::Transport;
use crate::tunnel::{Tunnel, TunnelSlot};
use crate::{Body, BodyError};

/// What moves on a connection, seen from below hyper.
struct Meter {
    /// Successful reads and writes.
    progress: AtomicU32,
    /// The upstream takes no bytes at the moment.
    write_blocked: AtomicBool,
    /// The request body is handed over whole.
    body_sent: AtomicBool,
    /// Ask the kernel, not the event loop, whether the upstream closed.
    probe: AtomicBool,
}

/// The stream below hyper.
struct Metered {
    transport: Transport,
    meter: Arc<Meter>,
}

impl Metered {
    fn note_write(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let blocked = result.is_pending();
        self.meter.write_blocked.store(blocked, Ordering::Relaxed);
        if !blocked {
            self.meter.progress.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    /// What the kernel knows: `None` when the connection is as quiet as it should be.
    fn probe(&self) -> Option<io::Result<()>> {
        let mut byte = [MaybeUninit::uninit()];
        match SockRef::from(self.transport.socket()).peek(&mut byte) {
            Ok(0) => Some(Ok(())),
            // TLS has messages of its own; what they are shows when they are read.
            Ok(_) if matches!(self.transport, Transport::Tls(_)) => None,
            Ok(_) => Some(Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "upstream sent bytes nobody asked for",
            ))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => Some(Err(error)),
        }
    }
}

impl hyper::rt::Read for Metered {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.meter.probe.load(Ordering::Relaxed) {
            this.meter.probe.store(false, Ordering::Relaxed);
            if let Some(end) = this.probe() {
                return Poll::Ready(end);
            }
        }
        let room = cursor.remaining();
        if room == 0 {
            return Poll::Ready(Ok(()));
        }
        let read = this
            .transport
            .poll_read_with(context, room, |bytes| cursor.put_slice(bytes));
        if read.is_ready() {
            this.meter.progress.fetch_add(1, Ordering::Relaxed);
        }
        read
    }
}

impl hyper::rt::Write for Metered {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.transport).poll_write(context, bytes);
        this.note_write(result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.transport).poll_write_vectored(context, slices);
        this.note_write(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Dropping the stream closes it; an upgraded one lives on.
        Poll::Ready(Ok(()))
    }
}

/// A request body that tells the meter when it is through.
struct Sent {
    body: Body,
    meter: Arc<Meter>,
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.meter.body_sent.store(true, Ordering::Relaxed);
    }
}

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

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
    /// The other end is a loopback address.
    pub(super) loopback: bool,
    sender: SendRequest<Sent>,
    connection: Option<Connection<Metered, Sent>>,
    /// hyper is through with the connection.
    done: bool,
    /// The connection may serve another request.
    reusable: bool,
    meter: Arc<Meter>,
    /// What was waited for when the timer was set, and the progress until then.
    waited: Option<(Wait, u32)>,
    sleep: Pin<Box<Sleep>>,
    requests: u32,
    /// The request asks to leave HTTP; a 101 to any other is nothing to follow.
    upgrading: bool,
    /// The pool's count of sweeps when the connection became idle.
    pub(super) idle_since_sweep: u32,
}

/// Why an exchange gave no response head.
pub(super) enum Failed {
    /// Nothing moved for too long.
    Timeout,
    /// hyper's error, and the request when nothing of it was sent.
    Http(hyper::Error, Option<Box<Request<Body>>>),
}

impl Upstream {
    pub(super) async fn handshake(
        transport: Transport,
        target: &Target,
        loopback: bool,
    ) -> Result<Box<Self>, SendError> {
        let meter = Arc::new(Meter {
            progress: AtomicU32::new(0),
            write_blocked: AtomicBool::new(false),
            body_sent: AtomicBool::new(true),
            probe: AtomicBool::new(false),
        });
        let stream = Metered {
            transport,
            meter: meter.clone(),
        };
        let (sender, connection) = Builder::new()
            .max_buf_size(limits::RESPONSE_HEAD_BYTES_MAX)
            .max_header_size(limits::RESPONSE_HEAD_BYTES_MAX)
            .handshake(stream)
            .await
            .map_err(|source| SendError::Closed {
                target: target.to_string(),
                reused: false,
                unsent: true,
                request: None,
                source,
            })?;
        Ok(Box::new(Self {
            target: Arc::new(target.clone()),
            loopback,
            sender,
            connection: Some(connection),
            done: false,
            reusable: true,
            meter,
            waited: None,
            sleep: Box::pin(tokio::time::sleep(Duration::from_secs(60))),
            requests: 0,
            upgrading: false,
            idle_since_sweep: 0,
        }))
    }

    /// Drives the connection.
    pub(super) fn drive(&mut self, context: &mut Context<'_>) {
        if self.done {
            return;
        }
        if let Some(connection) = &mut self.connection {
            // An error reaches the response or its body, whichever is waited for.
            self.done = Pin::new(connection).poll(context).is_ready();
        }
    }

    /// Whether nothing moved for too long; wakes the task when that is so.
    pub(super) fn is_overdue(&mut self, context: &mut Context<'_>, timeouts: &Timeouts) -> bool {
        let wait = if self.meter.write_blocked.load(Ordering::Relaxed) {
            Wait::Write
        } else if self.meter.body_sent.load(Ordering::Relaxed) {
            Wait::Read
        } else {
            Wait::Client
        };
        let waited = Some((wait, self.meter.progress.load(Ordering::Relaxed)));
        let limit = match wait {
            Wait::Write => timeouts.write,
            Wait::Read => timeouts.read,
            Wait::Client => {
                self.waited = waited;
                return false;
            }
        };
        if self.waited != waited {
            self.waited = waited;
            self.sleep.as_mut().reset(Instant::now() + limit);
        }
        self.sleep.as_mut().poll(context).is_ready()
    }

    /// Whether an idle connection can take a request; `probe` asks the kernel.
    pub(super) fn is_alive(&mut self, probe: bool) -> bool {
        self.meter.probe.store(probe, Ordering::Relaxed);
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.meter.probe.store(false, Ordering::Relaxed);
        !self.done && self.sender.is_ready()
    }

    /// Sends a request and waits for the response head.
    pub(super) async fn exchange(
        mut self: Box<Self>,
        mut request: Request<Body>,
        timeouts: &Timeouts,
        pool: &Arc<Pool>,
    ) -> Result<Response<Body>, Failed> {
        frame(&mut request);
        self.requests += 1;
        self.waited = None;
        self.upgrading = request.headers().contains_key(UPGRADE);
        self.meter.body_sent.store(false, Ordering::Relaxed);
        let meter = self.meter.clone();
        let sending = self
            .sender
            .try_send_request(request.map(|body| Sent { body, meter }));
        // Its waker is not needed: the response comes out of driving the connection right here.
        let mut response = pin!(tokio::task::coop::unconstrained(sending));
        let result = std::future::poll_fn(|context| {
            self.drive(context);
            if self.done {
                // Whoever still waits for an answer is told that there will be none; an upgraded
                // stream is needed until the answer is known.
                if let Poll::Ready(result) = poll_quietly(response.as_mut()) {
                    return Poll::Ready(Ok(result));
                }
                self.connection = None;
            }
            if let Poll::Ready(result) = poll_quietly(response.as_mut()) {
                return Poll::Ready(Ok(result));
            }
            if self.is_overdue(context, timeouts) {
                return Poll::Ready(Err(Failed::Timeout));
            }
            Poll::Pending
        })
        .await?;
        match result {
            Ok(response) => Ok(self.answered(response, timeouts, pool)),
            Err(mut error) => {
                let request = error.take_message();
                let request = request.map(|request| {
                    Box::new(request.map(|mut sent| std::mem::take(&mut sent.body)))
                });
                Err(Failed::Http(error.into_error(), request))
            }
        }
    }

    /// hyper is through: whoever still waits for something is told that it will not come.
    pub(super) fn forget_if_done(&mut self) {
        if self.done {
            self.connection = None;
        }
    }

    /// Turns hyper's response into ours; a connection that is free again goes back to the pool.
    fn answered(
        mut self: Box<Self>,
        response: Response<Incoming>,
        timeouts: &Timeouts,
        pool: &Arc<Pool>,
    ) -> Response<Body> {
        let (mut parts, mut incoming) = response.into_parts();
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            let _ = parts.extensions.remove::<hyper::upgrade::OnUpgrade>();
            if self.upgrading
                && let Some(tunnel) = self.into_tunnel(timeouts.read)
            {
                parts.extensions.insert(TunnelSlot::new(tunnel));
            }
            return Response::from_parts(parts, Body::Empty);
        }
        if let Some(coding) = parts.headers.get(TRANSFER_ENCODING) {
            let chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
            // hyper goes by the coding; the length would be passed on and believed.
            let length = parts.headers.remove(CONTENT_LENGTH);
            if length.is_some() || !chunked || parts.version == Version::HTTP_10 {
                self.reusable = false;
            }
        }
        if incoming.is_end_stream() {
            self.release(pool);
            return Response::from_parts(parts, Body::Empty);
        }
        // A small body came with the head: take it out and free the connection at once.
        let mut first = None;
        if let Poll::Ready(Some(Ok(frame))) = poll_frame_quietly(&mut incoming) {
            match frame.into_data() {
                Ok(bytes) if incoming.is_end_stream() => {
                    self.release(pool);
                    return Response::from_parts(parts, Body::full(bytes));
                }
                Ok(bytes) => first = Some(Frame::data(bytes)),
                Err(frame) => first = Some(frame),
            }
        }
        let uploading = !self.meter.body_sent.load(Ordering::Relaxed);
        let body = Download::new(self, incoming, first, *timeouts, pool.clone());
        let body = if uploading {
            Body::Stream(Box::pin(Pumped::new(body)))
        } else {
            Body::Stream(Box::pin(body))
        };
        Response::from_parts(parts, body)
    }

    fn into_tunnel(mut self: Box<Self>, idle: Duration) -> Option<Tunnel> {
        let parts = self.connection.take()?.into_parts();
        Some(Tunnel {
            upstream: parts.io.transport,
            ahead: parts.read_buf.to_vec(),
            idle,
        })
    }

    /// Gives the connection back to the pool if it can serve another request.
    pub(super) fn release(mut self: Box<Self>, pool: &Arc<Pool>) {
        let used_up = self.requests >= limits::UPSTREAM_REQUESTS_MAX;
        if !self.reusable || used_up || self.done {
            return;
        }
        if !self.sender.is_ready() {
            // hyper asks for the next request when it is polled once more.
            self.drive(&mut Context::from_waker(Waker::noop()));
            if self.done || !self.sender.is_ready() {
                return;
            }
        }
        pool.put(self);
    }
}

fn poll_quietly<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

pub(super) fn poll_frame_quietly(
    incoming: &mut Incoming,
) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
    Pin::new(incoming).poll_frame(&mut Context::from_waker(Waker::noop()))
}

/// Makes the head say what the body is; hyper adds the length or coding that fits.
fn frame(request: &mut Request<Body>) {
    *request.version_mut() = Version::HTTP_11;
    let known = request.body().size_hint().exact();
    let expects_body = matches!(
        *request.method(),
        Method::POST | Method::PUT | Method::PATCH
    );
    let headers = request.headers_mut();
    headers.remove(TRANSFER_ENCODING);
    match known {
        Some(0) => {
            headers.remove(CONTENT_LENGTH);
            if expects_body {
                headers.insert(CONTENT_LENGTH, http::HeaderValue::from_static("0"));
            }
        }
        Some(_) => {
            headers.remove(CONTENT_LENGTH);
        }
        None if headers.contains_key(CONTENT_LENGTH) => {}
        // Said explicitly: hyper would take a GET without it for one without a body.
        None => {
            headers.insert(TRANSFER_ENCODING, http::HeaderValue::from_static("chunked"));
        }
    }
}
