//! How many connections this process was asked for.

use std::sync::atomic::{AtomicU64, Ordering};

static ACCEPTED: AtomicU64 = AtomicU64::new(0);
static ENDED: AtomicU64 = AtomicU64::new(0);

/// Connections to all listeners of this process: those accepted so far, and those that are open.
#[must_use]
pub fn connections() -> (u64, u64) {
    // In this order: what ends meanwhile must not make it less than nothing.
    let ended = ENDED.load(Ordering::Relaxed);
    let accepted = ACCEPTED.load(Ordering::Relaxed);
    (accepted, accepted.saturating_sub(ended))
}

static REFUSED: AtomicU64 = AtomicU64::new(0);

/// Connections that were closed at once because their address has too many, or because they did not
/// begin with a header of the PROXY protocol.
#[must_use]
pub fn refused_connections() -> u64 {
    REFUSED.load(Ordering::Relaxed)
}

pub(super) fn refused() {
    REFUSED.fetch_add(1, Ordering::Relaxed);
}

static FLOODING: AtomicU64 = AtomicU64::new(0);

/// HTTP/2 connections that were closed because their client sent more frames without content, or reset
/// more requests, than it may.
#[must_use]
pub fn flooding_connections() -> u64 {
    FLOODING.load(Ordering::Relaxed)
}

pub(crate) fn flooding() {
    FLOODING.fetch_add(1, Ordering::Relaxed);
}

/// A connection that is counted as open until this is dropped.
pub(super) struct Open;

impl Open {
    pub(super) fn new() -> Self {
        ACCEPTED.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        ENDED.fetch_add(1, Ordering::Relaxed);
    }
}
