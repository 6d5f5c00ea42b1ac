//! `o28m migrate`.

use o28m_store::{MigrationState, MigrationStep, Store};

use crate::cli::{Migrate, MigrateStep};
use crate::exit::{Failure, Outcome};
use crate::{platform, terminal};

/// Runs the command.
///
/// # Errors
/// An unreachable database, or the state of `list` as an exit code.
pub async fn run(command: &Migrate) -> Outcome {
    let config = super::load_config(command.config.as_deref(), Default::default())?;
    let store = Store::open(&platform::store_settings(&config)).await?;
    let step = match command.step {
        MigrateStep::List => return list(store.migration_state().await?),
        MigrateStep::Bootstrap => MigrationStep::Bootstrap,
        MigrateStep::Up => MigrationStep::Up,
        MigrateStep::Finish => MigrationStep::Finish,
    };
    let state = store.migrate(step).await?;
    terminal::progress(describe(state));
    Ok(())
}

/// Exit codes as `kong migrations list`.
fn list(state: MigrationState) -> Outcome {
    terminal::data(describe(state));
    match state {
        MigrationState::Current | MigrationState::Newer => Ok(()),
        MigrationState::Empty => Err(Failure::State(3)),
        MigrationState::Pending => Err(Failure::State(4)),
        MigrationState::Outdated => Err(Failure::State(5)),
    }
}

const fn describe(state: MigrationState) -> &'static str {
    match state {
        MigrationState::Current => "Database is up-to-date",
        MigrationState::Newer => "Database is one release newer than this program",
        MigrationState::Empty => "Database needs bootstrapping; run 'o28m migrate bootstrap'",
        MigrationState::Pending => {
            "Database has pending migrations; run 'o28m migrate finish' when ready"
        }
        MigrationState::Outdated => "New migrations available; run 'o28m migrate up' to proceed",
    }
}
