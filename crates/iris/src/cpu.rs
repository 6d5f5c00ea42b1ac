//! Work that takes more than about 100 microseconds of CPU, kept off the async workers and bounded.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Jobs that may wait for a processor; more are refused so that callers retry instead of piling up.
const WAITING_MAX: usize = 512;

/// A bounded door to the runtime's blocking threads.
pub(crate) struct Cpu {
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// Too much is waiting already, or the process is shutting down.
#[derive(Debug, thiserror::Error)]
#[error("too many jobs are waiting for a processor")]
pub struct Busy;

impl Cpu {
    /// At most one job per processor at a time.
    pub(crate) fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            running: Arc::new(Semaphore::new(processors)),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
        }
    }

    /// Runs `job` on a blocking thread.
    ///
    /// # Errors
    /// [`Busy`] when the queue is full, or the job panicked.
    ///
    /// # Cancel safety
    /// A job that was started runs to its end; its result is dropped.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let _place = self.waiting.try_acquire().map_err(|_| Busy)?;
        let processor = Arc::clone(&self.running)
            .acquire_owned()
            .await
            .map_err(|_| Busy)?;
        let running = tokio::task::spawn_blocking(move || {
            let result = job();
            drop(processor);
            result
        });
        running.await.map_err(|_| Busy)
    }
}
