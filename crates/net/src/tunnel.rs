//! What follows a 101: bytes in both directions until one side ends or nothing moves for too long.

use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite as _;
use tokio::time::Instant;

use crate::transport::Transport;
use crate::websocket::{Frames, GOING_AWAY};

/// Bytes of one direction held at once.
const HELD_BYTES_MAX: usize = 16 * 1024;
/// How long both sides may take to end after the client was told to.
const FAREWELL: Duration = Duration::from_secs(5);

/// An upstream connection that left HTTP, on its way to the server side in a response's extensions.
#[derive(Clone)]
pub(crate) struct TunnelSlot(Arc<Mutex<Option<Tunnel>>>);

/// An upstream connection that left HTTP.
pub(crate) struct Tunnel {
    /// The connection.
    pub(crate) upstream: Transport,
    /// Bytes it sent behind its 101.
    pub(crate) ahead: Vec<u8>,
    /// How long nothing may move.
    pub(crate) idle: Duration,
    /// The bytes are frames of a WebSocket.
    websocket: bool,
}

impl TunnelSlot {
    pub(crate) fn new(tunnel: Tunnel) -> Self {
        Self(Arc::new(Mutex::new(Some(tunnel))))
    }

    pub(crate) fn take(&self) -> Option<Tunnel> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn set_idle(&self, idle: Duration) {
        let mut tunnel = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tunnel) = tunnel.as_mut() {
            tunnel.idle = idle;
        }
    }
}

/// One direction.
struct Way {
    held: Vec<u8>,
    start: usize,
    ended: bool,
    closed: bool,
    /// Where frames begin and end, in the direction of a client that may be told to leave.
    frames: Option<Frames>,
    /// The client was told; what else the upstream sends is dropped.
    told: bool,
}

impl Way {
    fn new(held: Vec<u8>) -> Self {
        Self {
            held,
            start: 0,
            ended: false,
            closed: false,
            frames: None,
            told: false,
        }
    }

    /// Begins to say goodbye when the last frame is through; whether that is so now.
    fn tell(&mut self) -> bool {
        let between = self.frames.as_ref().is_some_and(Frames::is_between);
        let quiet = self.start >= self.held.len() && !self.ended && !self.closed;
        if self.told || !between || !quiet {
            return false;
        }
        self.told = true;
        self.start = 0;
        self.held = GOING_AWAY.to_vec();
        true
    }

    /// Moves bytes until a side blocks; `Ready` when the direction is closed.
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        from: &mut Transport,
        to: &mut Transport,
        moved: &mut bool,
    ) -> Poll<io::Result<()>> {
        while !self.closed {
            if let Some(bytes) = self.held.get(self.start..).filter(|held| !held.is_empty()) {
                let written = ready!(Pin::new(&mut *to).poll_write(context, bytes))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                *moved = true;
                self.start += written;
                continue;
            }
            self.held.clear();
            self.start = 0;
            if self.ended {
                ready!(Pin::new(&mut *to).poll_shutdown(context))?;
                self.closed = true;
                break;
            }
            let (held, frames, told) = (&mut self.held, &mut self.frames, self.told);
            let read = from.poll_read_with(context, HELD_BYTES_MAX, |bytes| {
                if !told {
                    held.extend_from_slice(bytes);
                    if let Some(frames) = frames {
                        frames.pass(bytes);
                    }
                }
                bytes.is_empty()
            });
            match read? {
                Poll::Ready(ended) => {
                    *moved = true;
                    self.ended = ended;
                }
                Poll::Pending => {
                    ready!(Pin::new(&mut *to).poll_flush(context))?;
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Tunnel {
    /// A tunnel of bytes that nothing is known of; `ahead` is what the upstream sent behind its 101.
    pub(crate) fn new(upstream: Transport, ahead: Vec<u8>, idle: Duration) -> Self {
        Self {
            upstream,
            ahead,
            idle,
            websocket: false,
        }
    }

    /// Whether the bytes are frames of a WebSocket.
    pub(crate) fn carrying(mut self, websocket: bool) -> Self {
        self.websocket = websocket;
        self
    }

    /// Joins the client to the upstream until both directions ended, one broke, or nothing moved for
    /// too long. `ahead` is what the client sent behind its request. After `farewell` the client of a
    /// WebSocket is told that we go away (RFC 6455 section 7.4.1, 1001), and has some seconds to end.
    pub(crate) async fn run(
        self,
        mut client: Transport,
        ahead: Vec<u8>,
        farewell: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let mut upstream = self.upstream;
        let (mut way_up, mut way_down) = (Way::new(ahead), Way::new(self.ahead));
        if self.websocket {
            let mut frames = Frames::default();
            frames.pass(&way_down.held);
            way_down.frames = Some(frames);
        }
        let mut sleep = Box::pin(tokio::time::sleep(self.idle));
        let mut farewell = pin!(farewell);
        let mut leaving = !self.websocket;
        let mut due = false;
        std::future::poll_fn(|context| {
            if !leaving && farewell.as_mut().poll(context).is_ready() {
                (leaving, due) = (true, true);
            }
            let mut moved = false;
            let up = way_up.poll(context, &mut client, &mut upstream, &mut moved)?;
            let mut down = way_down.poll(context, &mut upstream, &mut client, &mut moved)?;
            if due && way_down.tell() {
                due = false;
                sleep.as_mut().reset(Instant::now() + FAREWELL);
                down = way_down.poll(context, &mut upstream, &mut client, &mut moved)?;
            }
            if up.is_ready() && down.is_ready() {
                return Poll::Ready(Ok(()));
            }
            if moved && !way_down.told {
                sleep.as_mut().reset(Instant::now() + self.idle);
            }
            sleep
                .as_mut()
                .poll(context)
                .map(|()| Err(io::ErrorKind::TimedOut.into()))
        })
        .await
    }
}
