//! Whether this process should get traffic.

use std::sync::atomic::{AtomicBool, Ordering};

use o28m_gateway_admin::Readiness;

/// Set by the life cycle, read by the status listener. A lost database changes nothing here: the data
/// plane serves from its snapshot.
#[derive(Default)]
pub(super) struct State {
    started: AtomicBool,
    draining: AtomicBool,
}

impl State {
    /// Every role is loaded and listening.
    pub(super) fn started(&self) {
        self.started.store(true, Ordering::Release);
    }

    /// The process is going down.
    pub(super) fn draining(&self) {
        self.draining.store(true, Ordering::Release);
    }
}

impl Readiness for State {
    fn not_ready(&self) -> Option<String> {
        if self.draining.load(Ordering::Acquire) {
            return Some("draining".to_owned());
        }
        let started = self.started.load(Ordering::Acquire);
        (!started).then(|| "no configuration available (empty configuration present)".to_owned())
    }
}
