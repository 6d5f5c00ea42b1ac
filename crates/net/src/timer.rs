//! One timer whose deadline moves often.

use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// A timer for whatever is waited for next. Arming one in the runtime costs more than a small request,
/// so it is left as it is when the deadline moves away, and armed again when it ends too early.
pub(crate) struct Timer {
    sleep: Pin<Box<Sleep>>,
    deadline: Instant,
}

impl Timer {
    pub(crate) fn new(after: Duration) -> Self {
        let deadline = Instant::now() + after;
        Self {
            sleep: Box::pin(tokio::time::sleep_until(deadline)),
            deadline,
        }
    }

    /// Moves the deadline; gives the moment that it is counted from.
    pub(crate) fn set(&mut self, after: Duration) -> Instant {
        let now = Instant::now();
        self.deadline = now + after;
        if self.deadline < self.sleep.deadline() {
            self.sleep.as_mut().reset(self.deadline);
        }
        now
    }

    /// Whether the deadline has passed; wakes the task when that is so.
    pub(crate) fn is_due(&mut self, context: &mut Context<'_>) -> bool {
        while self.sleep.as_mut().poll(context).is_ready() {
            if self.sleep.deadline() >= self.deadline {
                return true;
            }
            self.sleep.as_mut().reset(self.deadline);
        }
        false
    }
}
