//! The test harness: the real platform inside the test process on free ports, a scripted upstream, an
//! HTTP client and a raw-socket client. The end-to-end tests live beside it in `tests/`.
//!
//! Nothing here sleeps: whoever waits, waits for a condition with a deadline.

mod client;
pub mod grpc;
mod link;
mod pair;
mod platform;
mod raw;
mod upstream;
mod wire;

pub use client::{Client, Reply};
pub use link::Link;
pub use pair::Pair;
pub use platform::{Database, Platform};
pub use raw::raw;
pub use upstream::{Received, Upstream};
pub use wire::{Ended, Message, RawUpstream, Wire, established_to, pattern};

use std::time::Duration;

/// How long a condition may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` gives a value.
///
/// # Panics
/// When it does not within [`PATIENCE`]; `what` names it.
pub async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "gave up waiting for {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Declares a test that runs on SQLite and, where a server is installed, on PostgreSQL.
#[macro_export]
macro_rules! on_every_database {
    ($(#[$doc:meta])* async fn $name:ident($platform:ident: $kind:ty) $body:block) => {
        mod $name {
            use super::*;

            async fn run($platform: $kind) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                run($crate::Platform::start($crate::Database::Sqlite).await.unwrap()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                if let Some(platform) = $crate::Platform::start($crate::Database::Postgres).await {
                    run(platform).await;
                }
            }
        }
    };
}
