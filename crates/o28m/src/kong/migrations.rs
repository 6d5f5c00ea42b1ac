//! `kong migrations`: the texts and exit codes that jobs look at.

use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::{anyhow, bail};
use o28m_store::{Error, MigrationState, MigrationStep, Settings, Store};
use serde_json::json;

use super::cli::{Migrations, Options};
use super::say;
use crate::config::Config;
use crate::exit::{Failure, Outcome};
use crate::{platform, terminal};

const ANOTHER_NODE: &str = "aborted: another node is performing database changes";

/// Runs one step.
pub(super) async fn run(step: Migrations, options: &Options, config: &Config) -> Outcome {
    if platform::is_db_less(config) {
        return without_database(step, options);
    }
    if step == Migrations::Reset && !confirmed(options)? {
        say(options, "cancelled");
        return Ok(());
    }
    let store = open(options, config).await?;
    let outcome = on(&store, step, options).await;
    store.close().await;
    outcome
}

/// The store of a command, waiting as long as its options say.
pub(super) async fn open(options: &Options, config: &Config) -> Result<Store, Failure> {
    let prefix = super::prefix_of(config);
    let in_prefix = format!("sqlite://{}/", prefix.path().display());
    if config.text("database.url").starts_with(&in_prefix) {
        prefix.prepare()?;
    }
    let settings = Settings {
        connect_timeout: Duration::from_secs(options.db_timeout.max(1)),
        ..platform::store_settings(config)
    };
    let deadline = tokio::time::Instant::now() + settings.connect_timeout;
    loop {
        match Store::open(&settings).await {
            // Another node makes the file of a SQLite database at this moment.
            Err(error) if error.is_lock_timeout() && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            outcome => return Ok(outcome?),
        }
    }
}

fn without_database(step: Migrations, options: &Options) -> Outcome {
    match step {
        Migrations::Bootstrap => say(options, "Database already bootstrapped"),
        Migrations::Up => say(options, "Database is already up-to-date"),
        Migrations::Finish => say(options, "No pending migrations to finish"),
        Migrations::List => say(options, "Database is up-to-date"),
        Migrations::Status => status(MigrationState::Current),
        Migrations::Reset => return Err(anyhow!("there is no database").into()),
    }
    Ok(())
}

async fn on(store: &Store, step: Migrations, options: &Options) -> Outcome {
    let state = store.migration_state().await?;
    let done = match step {
        Migrations::Bootstrap => bootstrap(store, state, options).await,
        Migrations::Up => up(store, state, options).await,
        Migrations::Finish => finish(store, state, options).await,
        Migrations::List => return list(state, options),
        Migrations::Status => {
            status(state);
            return Ok(());
        }
        Migrations::Reset => reset(store, state, options).await,
    };
    match done {
        Err(Failure::Error(error))
            if error
                .downcast_ref::<Error>()
                .is_some_and(Error::is_lock_timeout) =>
        {
            say(options, ANOTHER_NODE);
            Ok(())
        }
        done => done,
    }
}

const fn lock_timeout(options: &Options) -> Duration {
    Duration::from_secs(options.lock_timeout)
}

async fn bootstrap(store: &Store, state: MigrationState, options: &Options) -> Outcome {
    if options.force && state != MigrationState::Empty {
        let _dropped = store.reset(lock_timeout(options)).await?;
    } else if state != MigrationState::Empty {
        say(options, "Database already bootstrapped");
        return Ok(());
    }
    say(options, "Bootstrapping database...");
    let step = MigrationStep::Bootstrap;
    let _state = store.migrate_within(step, lock_timeout(options)).await?;
    say(options, "Database is up-to-date");
    Ok(())
}

async fn up(store: &Store, state: MigrationState, options: &Options) -> Outcome {
    match state {
        MigrationState::Empty => {
            let text = "Cannot run migrations: Database needs bootstrapping; run 'kong migrations \
                        bootstrap'";
            return Err(anyhow!(text).into());
        }
        MigrationState::Pending => {
            let text = "Database has pending migrations; run 'kong migrations finish'";
            return Err(anyhow!(text).into());
        }
        MigrationState::Current | MigrationState::Newer => {
            say(options, "Database is already up-to-date");
            return Ok(());
        }
        MigrationState::Outdated => {}
    }
    let step = MigrationStep::Up;
    match store.migrate_within(step, lock_timeout(options)).await? {
        MigrationState::Pending => {
            let text = "Database has pending migrations; run 'kong migrations finish' when ready";
            say(options, text);
        }
        _ => say(options, "Database is up-to-date"),
    }
    Ok(())
}

async fn finish(store: &Store, state: MigrationState, options: &Options) -> Outcome {
    match state {
        MigrationState::Empty => {
            let text = "Cannot run migrations; run 'kong migrations bootstrap' instead";
            return Err(anyhow!(text).into());
        }
        MigrationState::Outdated => {
            say(
                options,
                "New migrations available; run 'kong migrations up' to proceed",
            );
            return Ok(());
        }
        MigrationState::Current | MigrationState::Newer => {
            say(options, "No pending migrations to finish");
            return Ok(());
        }
        MigrationState::Pending => {}
    }
    let step = MigrationStep::Finish;
    let _state = store.migrate_within(step, lock_timeout(options)).await?;
    say(options, "Database is up-to-date");
    Ok(())
}

async fn reset(store: &Store, state: MigrationState, options: &Options) -> Outcome {
    if state == MigrationState::Empty {
        say(options, "Database not bootstrapped, nothing to reset");
        return Err(Failure::State(1));
    }
    say(options, "Resetting database...");
    let _dropped = store.reset(lock_timeout(options)).await?;
    say(options, "Database successfully reset");
    Ok(())
}

fn confirmed(options: &Options) -> anyhow::Result<bool> {
    if options.yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        bail!("not a tty: invoke 'reset' non-interactively with the --yes flag");
    }
    for _ in 0..3 {
        terminal::data("> Are you sure? This operation is irreversible. [Y/n] ");
        let mut answer = String::new();
        let _bytes = std::io::stdin().read_line(&mut answer)?;
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => return Ok(true),
            "n" | "no" => return Ok(false),
            _ => {}
        }
    }
    Ok(false)
}

fn list(state: MigrationState, options: &Options) -> Outcome {
    let (text, code) = match state {
        MigrationState::Current | MigrationState::Newer => ("Database is up-to-date", 0),
        MigrationState::Empty => (
            "Database needs bootstrapping; run 'kong migrations bootstrap'",
            3,
        ),
        MigrationState::Pending => (
            "Database has pending migrations; run 'kong migrations finish'",
            4,
        ),
        MigrationState::Outdated => (
            "New migrations available; run 'kong migrations up' to proceed",
            5,
        ),
    };
    say(options, text);
    match code {
        0 => Ok(()),
        code => Err(Failure::State(code)),
    }
}

fn status(state: MigrationState) {
    terminal::json(&json!({
        "needs_bootstrap": state == MigrationState::Empty,
        "new_migrations": state == MigrationState::Outdated,
        "pending_migrations": state == MigrationState::Pending,
        "up_to_date": matches!(state, MigrationState::Current | MigrationState::Newer),
    }));
}

/// Why a gateway cannot start on tables in this state.
pub(super) fn unusable(state: MigrationState) -> Option<&'static str> {
    match state {
        MigrationState::Current | MigrationState::Newer | MigrationState::Pending => None,
        MigrationState::Empty => Some(
            "Database needs bootstrapping or is older than Kong 1.0.\n\nTo start a new installation \
             from scratch, run 'kong migrations bootstrap'.",
        ),
        MigrationState::Outdated => {
            Some("New migrations available; run 'kong migrations up' to proceed")
        }
    }
}
