//! What follows a 101: bytes in both directions until one side ends or nothing moves for too long.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite as _;
use tokio::time::Instant;

use crate::transport::Transport;

/// Bytes of one direction held at once.
const HELD_BYTES_MAX: usize = 16 * 1024;

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
}

impl TunnelSlot {
    pub(crate) fn new(tunnel: Tunnel) -> Self {
        Self(Arc::new(Mutex::new(Some(tunnel))))
    }

    pub(crate) fn take(&self) -> Option<Tunnel> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// One direction.
struct Way {
    held: Vec<u8>,
    start: usize,
    ended: bool,
    closed: bool,
}

impl Way {
    fn new(held: Vec<u8>) -> Self {
        Self {
            held,
            start: 0,
            ended: false,
            closed: false,
        }
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
            let held = &mut self.held;
            let read = from.poll_read_with(context, HELD_BYTES_MAX, |bytes| {
                held.extend_from_slice(bytes);
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
    /// Joins the client to the upstream until both directions ended, one broke, or nothing moved for
    /// too long. `ahead` is what the client sent behind its request.
    pub(crate) async fn run(self, mut client: Transport, ahead: Vec<u8>) -> io::Result<()> {
        let mut upstream = self.upstream;
        let (mut up, mut down) = (Way::new(ahead), Way::new(self.ahead));
        let mut sleep = Box::pin(tokio::time::sleep(self.idle));
        std::future::poll_fn(|context| {
            let mut moved = false;
            let up = up.poll(context, &mut client, &mut upstream, &mut moved)?;
            let down = down.poll(context, &mut upstream, &mut client, &mut moved)?;
            if up.is_ready() && down.is_ready() {
                return Poll::Ready(Ok(()));
            }
            if moved {
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
