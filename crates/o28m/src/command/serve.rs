//! `o28m serve`: the configured roles, until a signal.

use std::collections::BTreeMap;

use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Serve;
use crate::exit::{Failure, Outcome};
use crate::platform::{self, Bound, Platform};
use crate::{ambient, terminal};

/// Runs the command.
///
/// # Errors
/// Wrong configuration, a taken port, an unusable database or key set.
pub async fn run(options: &Serve) -> Outcome {
    let roles = options
        .roles
        .iter()
        .map(|roles| ("node.roles".to_owned(), roles.clone()));
    let command: BTreeMap<String, String> = roles.collect();
    let config = super::load_config(options.config.as_deref(), command)?;
    platform::init_logging(&config)?;
    let bound = Bound::bind(&config)?;
    let platform = Platform::prepare(config, ambient::system(), bound)
        .await?
        .start()
        .await?;
    until_stopped(platform).await
}

/// Waits for SIGTERM, SIGQUIT or SIGINT, then drains. A second signal ends the process at once.
///
/// # Errors
/// When requests in flight did not finish within the drain timeout.
pub async fn until_stopped(platform: Platform) -> Outcome {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut stopped = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = quit.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    stopped().await;
    terminal::progress("draining");
    tokio::select! {
        drained = platform.shutdown() => match drained {
            true => Ok(()),
            false => Err(anyhow::anyhow!("requests in flight were cut off by the drain timeout").into()),
        },
        () = stopped() => Err(Failure::State(130)),
    }
}
