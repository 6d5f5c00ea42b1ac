//! `o28m serve`: the configured roles, until a signal.

use std::collections::BTreeMap;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::Serve;
use crate::config::Config;
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
    until_told(config, async || Ok(())).await
}

/// Starts the platform of a configuration, says so by `started`, and runs until a signal.
///
/// # Errors
/// As [`run`], and that of `started`.
pub async fn until_told(config: Config, started: impl AsyncFnOnce() -> Outcome) -> Outcome {
    platform::init_logging(&config)?;
    let bound = Bound::bind(&config)?;
    let starting = async {
        let platform = Platform::prepare(config, ambient::system(), bound).await?;
        platform.start().await
    };
    let mut signals = Signals::listen(Hangup::Reloads)?;
    let platform = signals.unless_stopped(Box::pin(starting)).await??;
    started().await?;
    until_stopped(platform, signals).await
}

/// What SIGHUP means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hangup {
    /// The terminal is gone, and so is its user.
    Stops,
    /// As for servers: read again what may change.
    Reloads,
}

/// The signals that end the process, and the one that may not.
pub struct Signals {
    stops: [Signal; 3],
    hangup: Signal,
    meaning: Hangup,
}

/// What a signal asks for.
enum Wish {
    Stop,
    Reload,
}

impl Signals {
    /// Listens for SIGTERM, SIGQUIT, SIGINT and SIGHUP from now on.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn listen(meaning: Hangup) -> std::io::Result<Self> {
        let kinds = [
            SignalKind::terminate(),
            SignalKind::quit(),
            SignalKind::interrupt(),
        ];
        let [terminate, quit, interrupt] = kinds.map(signal);
        Ok(Self {
            stops: [terminate?, quit?, interrupt?],
            hangup: signal(SignalKind::hangup())?,
            meaning,
        })
    }

    async fn wish(&mut self) -> Wish {
        let [terminate, quit, interrupt] = &mut self.stops;
        tokio::select! {
            _ = terminate.recv() => Wish::Stop,
            _ = quit.recv() => Wish::Stop,
            _ = interrupt.recv() => Wish::Stop,
            _ = self.hangup.recv() => match self.meaning {
                Hangup::Stops => Wish::Stop,
                Hangup::Reloads => Wish::Reload,
            },
        }
    }

    /// Waits for one that ends the process.
    pub async fn next(&mut self) {
        while let Wish::Reload = self.wish().await {}
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
    while let Wish::Reload = signals.wish().await {
        platform.reload();
    }
    terminal::progress("draining");
    tokio::select! {
        drained = platform.shutdown() => match drained {
            true => Ok(()),
            false => Err(anyhow::anyhow!("requests in flight were cut off by the drain timeout").into()),
        },
        () = signals.next() => Err(Failure::State(130)),
    }
}
