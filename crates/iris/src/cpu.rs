//! Work that takes more than about 100 microseconds of CPU, kept off the async workers and bounded.

use std::sync::Arc;

use tokio::sync::Semaphore;

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
    /// At most one job per processor at a time and `waiting_max` jobs in all; more are refused so that
    /// callers retry instead of piling up.
    pub(crate) fn new(waiting_max: usize) -> Self {
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            running: Arc::new(Semaphore::new(processors)),
            waiting: Arc::new(Semaphore::new(waiting_max)),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_full_queue_refuses_at_once() {
        let cpu = Arc::new(Cpu::new(1));
        let (release, held) = std::sync::mpsc::channel::<()>();
        let (started, running) = tokio::sync::oneshot::channel();
        let first = tokio::spawn({
            let cpu = Arc::clone(&cpu);
            async move {
                cpu.run(move || {
                    started.send(()).unwrap();
                    held.recv().unwrap_err();
                })
                .await
            }
        });
        running.await.unwrap();
        assert!(cpu.run(|| ()).await.is_err());
        drop(release);
        first.await.unwrap().unwrap();
        assert!(cpu.run(|| ()).await.is_ok());
    }
}
