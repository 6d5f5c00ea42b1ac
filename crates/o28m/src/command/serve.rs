//! `o28m serve`: the configured roles, until a signal.

use std::collections::BTreeMap;

use tokio::signal::unix::{Signal, SignalKind, signal};

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
    let starting = async {
        let platform = Platform::prepare(config, ambient::system(), bound).await?;
        platform.start().await
    };
    let mut signals = Signals::listen()?;
    let platform = signals.unless_stopped(Box::pin(starting)).await??;
    until_stopped(platform, signals).await
}

/// The signals that end the process.
pub struct Signals([Signal; 3]);

impl Signals {
    /// Listens for SIGTERM, SIGQUIT and SIGINT from now on.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn listen() -> std::io::Result<Self> {
        let kinds = [
            SignalKind::terminate(),
            SignalKind::quit(),
            SignalKind::interrupt(),
        ];
        let [terminate, quit, interrupt] = kinds.map(signal);
        Ok(Self([terminate?, quit?, interrupt?]))
    }

    /// Waits for one of them.
    pub async fn next(&mut self) {
        let Self([terminate, quit, interrupt]) = self;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = quit.recv() => {}
            _ = interrupt.recv() => {}
        }
    }

    /// The result of a start, unless one of them comes first: nothing was accepted yet that would have
    /// to be drained.
    ///
    /// # Errors
    /// [`Failure::State`] 130 when a signal came first.
    pub async fn unless_stopped<T>(
        &mut self,
        start: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        tokio::select! {
            started = start => Ok(started),
            () = self.next() => Err(Failure::State(130)),
        }
    }
}

/// Waits for a signal, then drains. A second signal ends the process at once.
///
/// # Errors
/// When requests in flight did not finish within the drain timeout.
pub async fn until_stopped(platform: Platform, mut signals: Signals) -> Outcome {
    signals.next().await;
    terminal::progress("draining");
    tokio::select! {
        drained = platform.shutdown() => match drained {
            true => Ok(()),
            false => Err(anyhow::anyhow!("requests in flight were cut off by the drain timeout").into()),
        },
        () = signals.next() => Err(Failure::State(130)),
    }
}
