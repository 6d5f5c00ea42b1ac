//! What the parts of one client connection tell each other: the guard that reads, the adapter that
//! calls the service, the bodies, and the driver that watches the clock. All run in one task; the lock
//! is there so that the types stay `Send`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use tokio::time::Instant;

use super::{HeadLimits, Timeouts};
use crate::tunnel::Tunnel;
use crate::{Connection, HttpService, Rejection};

/// One client connection.
pub(super) struct Shared {
    pub(super) service: Arc<dyn HttpService>,
    pub(super) connection: Connection,
    pub(super) limits: HeadLimits,
    pub(super) timeouts: Timeouts,
    /// The driver found the head overdue; the guard refuses it at its next read.
    pub(super) head_overdue: AtomicBool,
    /// A head came with more lines than hyper parses cheaply: from then on its parser is a wide one.
    pub(super) wide: AtomicBool,
    state: Mutex<State>,
}

/// Header lines hyper parses without allocating. More cost it an array of the largest allowed number
/// for every request: a fifth of the instructions of a proxied one.
pub(super) const LINES_ON_STACK: usize = 100;

/// The changing part.
pub(super) struct State {
    /// Heads handed to hyper.
    heads: u64,
    /// Requests hyper handed over.
    calls: u64,
    /// A request is with the service, or its response is not written.
    busy: bool,
    /// Since when nothing happens, while not busy.
    idle_since: Instant,
    /// Since when a head is incomplete.
    pub(super) head_since: Option<Instant>,
    /// Since when the peer does not take bytes.
    pub(super) write_since: Option<Instant>,
    /// Since when the service waits for body bytes, and how to wake it.
    pub(super) body_wait: Option<(Instant, Waker)>,
    /// The wait for body bytes was too long.
    pub(super) body_overdue: bool,
    /// The refused request, and which call stands in for it.
    rejection: Option<(u64, Rejection)>,
    /// Where the bytes go after a 101.
    pub(super) tunnel: Option<Tunnel>,
    /// The peer finished sending.
    pub(super) finished: bool,
}

/// What is due on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nobody sent anything: close.
    Close,
    /// Nobody sent anything for a while: give the buffers back.
    Rest,
    /// A head is overdue: answer 408.
    Head,
    /// A body is overdue: tell the service.
    Body,
    /// The peer does not read: abort.
    Write,
}

impl Shared {
    pub(super) fn new(
        service: Arc<dyn HttpService>,
        connection: Connection,
        limits: HeadLimits,
        timeouts: Timeouts,
    ) -> Arc<Self> {
        Arc::new(Self {
            service,
            connection,
            limits,
            timeouts,
            head_overdue: AtomicBool::new(false),
            wide: AtomicBool::new(false),
            state: Mutex::new(State {
                heads: 0,
                calls: 0,
                busy: false,
                idle_since: Instant::now(),
                head_since: None,
                write_since: None,
                body_wait: None,
                body_overdue: false,
                rejection: None,
                tunnel: None,
                finished: false,
            }),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The guard handed a sound head on.
    pub(super) fn head_passed(&self) {
        let mut state = self.lock();
        state.heads += 1;
        state.head_since = None;
    }

    /// The guard refused a request and put a harmless one in its place.
    pub(super) fn refuse(&self, rejection: Rejection) {
        let mut state = self.lock();
        state.heads += 1;
        state.head_since = None;
        state.rejection = Some((state.heads, rejection));
    }

    /// hyper hands a request over; gives the rejection when it stands in for a refused one.
    pub(super) fn call(&self) -> Option<Rejection> {
        let mut state = self.lock();
        state.calls += 1;
        state.busy = true;
        state.body_overdue = false;
        let calls = state.calls;
        state
            .rejection
            .take_if(|(call, _)| *call == calls)
            .map(|(_, rejection)| rejection)
    }

    /// The response is written, or given up.
    pub(super) fn answered(&self) {
        let mut state = self.lock();
        state.busy = false;
        state.idle_since = Instant::now();
    }

    /// No request is with the service or on its way to it, and every answer is written.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.lock();
        !state.busy && state.heads == state.calls && state.write_since.is_none()
    }

    /// What happens next if nothing else does, and when.
    pub(super) fn due(&self, resting: bool) -> Option<(Instant, Due)> {
        let state = self.lock();
        let timeouts = &self.timeouts;
        if let Some(since) = state.write_since {
            return Some((since + timeouts.write, Due::Write));
        }
        if let Some((since, _)) = &state.body_wait {
            return Some((*since + timeouts.body, Due::Body));
        }
        if state.busy || state.heads != state.calls {
            return None;
        }
        if self.head_overdue.load(Ordering::Relaxed) {
            return None;
        }
        if let Some(since) = state.head_since {
            return Some((since + timeouts.head, Due::Head));
        }
        let first = state.calls == 0;
        let patience = if first { timeouts.head } else { timeouts.idle };
        if !resting && timeouts.rest < patience {
            return Some((state.idle_since + timeouts.rest, Due::Rest));
        }
        Some((state.idle_since + patience, Due::Close))
    }
}
