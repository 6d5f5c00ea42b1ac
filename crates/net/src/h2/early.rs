//! Interim responses, on their way from wherever the request is to the stream it came on.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Context;

use futures_util::task::AtomicWaker;
use http::{HeaderMap, Response, StatusCode};

use super::answer::strip_connection;
use crate::Interim;

/// Interim responses of one request that are passed on.
const INTERIM_MAX: u8 = 8;
/// Bytes of their headers.
const INTERIM_BYTES_MAX: usize = 16 * 1024;

/// What is to be sent before the response.
pub(super) struct Early {
    queue: Mutex<Queue>,
    sender: AtomicWaker,
}

struct Queue {
    waiting: VecDeque<Response<()>>,
    /// Those that may still be passed on.
    left: u8,
    bytes_left: usize,
}

impl Early {
    pub(super) fn new() -> Self {
        Self {
            queue: Mutex::new(Queue {
                waiting: VecDeque::new(),
                left: INTERIM_MAX,
                bytes_left: INTERIM_BYTES_MAX,
            }),
            sender: AtomicWaker::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody waits for a body whose client waits for 100.
    pub(super) fn ask_for_body(&self) {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::CONTINUE;
        self.lock().waiting.push_back(response);
        self.sender.wake();
    }

    /// The next one; wakes the task when there is one later.
    pub(super) fn next(&self, context: &Context<'_>) -> Option<Response<()>> {
        self.sender.register(context.waker());
        self.lock().waiting.pop_front()
    }
}

impl Interim for Early {
    fn send(&self, status: StatusCode, headers: &HeaderMap) {
        let bytes: usize = headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        let mut queue = self.lock();
        let Some(bytes_left) = queue.bytes_left.checked_sub(bytes) else {
            return;
        };
        let Some(left) = queue.left.checked_sub(1) else {
            return;
        };
        (queue.left, queue.bytes_left) = (left, bytes_left);
        let mut response = Response::new(());
        *response.status_mut() = status;
        response.headers_mut().clone_from(headers);
        strip_connection(response.headers_mut());
        queue.waiting.push_back(response);
        drop(queue);
        self.sender.wake();
    }
}
