//! The binary as a library, so that tests start the real thing in their own process: command line,
//! configuration, wiring and lifecycle. Everything the wiring joins lives in the other crates.

pub mod ambient;
pub mod cli;
pub mod command;
pub mod config;
pub mod exit;
pub mod kong;
pub mod platform;
pub mod terminal;
pub mod up;

/// Runs a command on the ordinary multi-thread runtime; the data plane makes its own.
///
/// # Errors
/// Those of the command, or when the operating system refuses threads.
pub fn block_on(command: impl Future<Output = exit::Outcome>) -> exit::Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(command)
}
