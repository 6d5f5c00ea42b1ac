use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// The drain of one listener. Connections look at it several times for each request, so that is one
/// load; the token is there to wake those that wait.
#[derive(Default)]
pub(crate) struct Drain {
    begun: AtomicBool,
    token: CancellationToken,
}

impl Drain {
    /// Whoever the token wakes already finds [`Drain::has_begun`].
    pub(crate) fn begin(&self) {
        self.begun.store(true, Ordering::Release);
        self.token.cancel();
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    pub(crate) fn begins(&self) -> WaitForCancellationFuture<'_> {
        self.token.cancelled()
    }
}
