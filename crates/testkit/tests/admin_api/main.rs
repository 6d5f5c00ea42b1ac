//! The platform's Admin API towards the programs that use it today.

mod chart;
mod control_plane;
mod deck;
mod recording;
mod state;

use o28m_testkit::{Database, Platform};

/// A platform with settings of its own; `None` when the database's server is not installed.
async fn platform(database: Database, settings: &[(&str, &str)]) -> Option<Platform> {
    let url = match database {
        Database::Sqlite => None,
        Database::Postgres => Some(o28m_store::testing::postgres_url().await?),
    };
    Some(Platform::start_with(url, settings).await)
}
