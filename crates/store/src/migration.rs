//! Versioned tables. A migration either expands, which the previous release tolerates, or contracts,
//! which only may happen when no process of the previous release runs any more.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Error;
use crate::connection::Connection;
use crate::database::Database;
use crate::sql::Sql;

/// Limit for waiting until another process has migrated (Kong's `--lock-timeout`).
pub(crate) const LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// State of the tables compared with this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrationState {
    /// No tables yet.
    Empty,
    /// Fits.
    Current,
    /// Additive changes are due: `up`.
    Outdated,
    /// Contracting changes are due: `finish`.
    Pending,
    /// Written by a newer, still compatible release.
    Newer,
}

/// A step of `o28m migrate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrationStep {
    /// Creates the tables of an empty database; does nothing on a current one.
    Bootstrap,
    /// Applies additive changes (and creates the tables of an empty database).
    Up,
    /// Applies contracting changes.
    Finish,
}

/// What a migration does to the previous release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It keeps working.
    Expand,
    /// It stops working.
    Contract,
}

impl Phase {
    const fn name(self) -> &'static str {
        match self {
            Self::Expand => "expand",
            Self::Contract => "contract",
        }
    }
}

/// One embedded migration. In its SQL `@` is the place of our tables, `{text}` a text column compared
/// byte by byte, `{json}` the type that JSON text is cast to before `->`, and `{clustered}` the option of
/// a table that is its own index.
pub(crate) struct Migration {
    pub(crate) number: i64,
    pub(crate) phase: Phase,
    pub(crate) sql: &'static str,
}

/// Every migration of this release, in order. Numbers are never reused or changed.
pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration {
        number: 1,
        phase: Phase::Expand,
        sql: include_str!("migrations/0001_objects.sql"),
    },
    Migration {
        number: 2,
        phase: Phase::Expand,
        sql: include_str!("migrations/0002_age_of_changes.sql"),
    },
    Migration {
        number: 3,
        phase: Phase::Expand,
        sql: include_str!("migrations/0003_texts_of_keys.sql"),
    },
];

/// The version this program needs.
pub(crate) fn needed() -> i64 {
    newest(MIGRATIONS)
}

fn newest(migrations: &[Migration]) -> i64 {
    migrations.last().map_or(0, |migration| migration.number)
}

/// Compares the tables with `migrations`.
pub(crate) async fn state(
    database: &Database,
    migrations: &[Migration],
) -> Result<MigrationState, Error> {
    let mut connection = database.reader(false).await?;
    state_of(&mut connection, database, migrations).await
}

/// Applies a step; gives the state after it.
pub(crate) async fn apply(
    database: &Database,
    migrations: &[Migration],
    step: MigrationStep,
    lock_timeout: Duration,
) -> Result<MigrationState, Error> {
    let mut connection = database.migrator(lock_timeout).await?;
    let result = apply_locked(&mut connection, database, migrations, step).await;
    match result {
        Ok(()) => connection.commit().await?,
        Err(error) => {
            connection.rollback().await;
            return Err(error);
        }
    }
    state_of(&mut connection, database, migrations).await
}

/// Drops our tables with everything in them; gives whether there were any.
pub(crate) async fn reset(database: &Database, lock_timeout: Duration) -> Result<bool, Error> {
    let mut connection = database.migrator(lock_timeout).await?;
    match drop_all(&mut connection, database).await {
        Ok(dropped) => {
            connection.commit().await?;
            Ok(dropped)
        }
        Err(error) => {
            connection.rollback().await;
            Err(error)
        }
    }
}

async fn drop_all(connection: &mut Connection, database: &Database) -> Result<bool, Error> {
    if is_empty(connection, database).await? {
        return Ok(false);
    }
    // Only tables: a schema may have been made by somebody else, and hold more.
    let names = if connection.is_postgres() {
        Sql::new("SELECT tablename::text FROM pg_catalog.pg_tables WHERE schemaname = ")
            .text(database.schema.as_str())
    } else {
        connection.script("PRAGMA defer_foreign_keys = ON").await?;
        Sql::new(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!'",
        )
    };
    let names = connection.all(names, |row| row.text(0)).await?;
    let cascade = if connection.is_postgres() {
        " CASCADE"
    } else {
        ""
    };
    for name in names {
        let name = name.replace('"', "\"\"");
        let script = format!("DROP TABLE @\"{name}\"{cascade}");
        connection.script(&script).await?;
    }
    Ok(true)
}

async fn apply_locked(
    connection: &mut Connection,
    database: &Database,
    migrations: &[Migration],
    step: MigrationStep,
) -> Result<(), Error> {
    let state = state_of(connection, database, migrations).await?;
    let phase = match (step, state) {
        (MigrationStep::Bootstrap | MigrationStep::Up, MigrationState::Empty) => {
            create_bookkeeping(connection, database).await?;
            // A new database has nothing that an older release could still use.
            None
        }
        (MigrationStep::Up, _) => Some(Phase::Expand),
        (MigrationStep::Finish, MigrationState::Pending) => Some(Phase::Contract),
        (MigrationStep::Bootstrap | MigrationStep::Finish, _) => return Ok(()),
    };
    let applied = applied(connection).await?;
    for migration in migrations {
        let wanted = phase.is_none_or(|phase| phase == migration.phase);
        if wanted && !applied.contains_key(&migration.number) {
            run(connection, migration).await?;
        }
    }
    Ok(())
}

async fn run(connection: &mut Connection, migration: &Migration) -> Result<(), Error> {
    // PostgreSQL compares by the database's language unless told otherwise, and slower.
    let (text, json, clustered) = if connection.is_postgres() {
        ("TEXT COLLATE \"C\"", "JSONB", "")
    } else {
        ("TEXT", "TEXT", "WITHOUT ROWID")
    };
    let script = migration
        .sql
        .replace("{text}", text)
        .replace("{json}", json)
        .replace("{clustered}", clustered);
    connection.script(&script).await?;
    let row = Sql::new("INSERT INTO @migration (number, phase) VALUES (")
        .int(migration.number)
        .raw(", ")
        .text(migration.phase.name())
        .raw(")");
    connection.execute(row).await?;
    tracing::info!(migration.number, "database migrated");
    Ok(())
}

async fn create_bookkeeping(connection: &mut Connection, database: &Database) -> Result<(), Error> {
    // IF NOT EXISTS would ask for the right to create schemas even when there is nothing to create.
    if connection.is_postgres() && !schema_exists(connection, database).await? {
        connection
            .script(&format!("CREATE SCHEMA {}", database.quoted_schema()))
            .await?;
    }
    connection
        .script("CREATE TABLE @migration (number BIGINT PRIMARY KEY, phase TEXT NOT NULL)")
        .await
}

async fn schema_exists(connection: &mut Connection, database: &Database) -> Result<bool, Error> {
    let sql = Sql::new("SELECT 1::bigint FROM pg_catalog.pg_namespace WHERE nspname = ")
        .text(database.schema.as_str());
    Ok(connection.one(sql, |row| row.int(0)).await?.is_some())
}

async fn is_empty(connection: &mut Connection, database: &Database) -> Result<bool, Error> {
    let sql = if connection.is_postgres() {
        Sql::new("SELECT 1::bigint FROM pg_catalog.pg_tables WHERE tablename = 'migration' AND schemaname = ")
            .text(database.schema.as_str())
    } else {
        Sql::new("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'migration'")
    };
    Ok(connection.one(sql, |row| row.int(0)).await?.is_none())
}

async fn applied(connection: &mut Connection) -> Result<BTreeMap<i64, bool>, Error> {
    let rows = connection
        .all(Sql::new("SELECT number, phase FROM @migration"), |row| {
            Ok((row.int(0)?, row.str(1)? == Phase::Expand.name()))
        })
        .await?;
    Ok(rows.into_iter().collect())
}

async fn state_of(
    connection: &mut Connection,
    database: &Database,
    migrations: &[Migration],
) -> Result<MigrationState, Error> {
    if is_empty(connection, database).await? {
        return Ok(MigrationState::Empty);
    }
    let applied = applied(connection).await?;
    compare(&applied, migrations)
}

/// `applied` holds the number of each migration and whether it expanded. Expanding ones we do not know
/// are those of the next release, which we tolerate; after a contracting one our statements would fail.
fn compare(
    applied: &BTreeMap<i64, bool>,
    migrations: &[Migration],
) -> Result<MigrationState, Error> {
    let due = |phase: Phase| {
        migrations
            .iter()
            .any(|it| it.phase == phase && !applied.contains_key(&it.number))
    };
    let mut unknown = applied
        .iter()
        .filter(|(number, _)| !migrations.iter().any(|it| it.number == **number))
        .peekable();
    let newer = unknown.peek().is_some();
    if unknown.any(|(_, expands)| !expands) {
        return Err(Error::Schema {
            found: applied.keys().copied().max().unwrap_or_default(),
            needed: newest(migrations),
        });
    }
    Ok(if due(Phase::Expand) {
        MigrationState::Outdated
    } else if due(Phase::Contract) {
        MigrationState::Pending
    } else if newer {
        MigrationState::Newer
    } else {
        MigrationState::Current
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::postgres_url;
    use crate::{Filter, Query, Settings, Test, query};

    const fn migration(number: i64, phase: Phase, sql: &'static str) -> Migration {
        Migration { number, phase, sql }
    }

    const FIRST: Migration = migration(1, Phase::Expand, "CREATE TABLE @a (x BIGINT)");
    const OLD: &[Migration] = &[FIRST];
    const NEW: &[Migration] = &[
        FIRST,
        migration(2, Phase::Expand, "ALTER TABLE @a ADD COLUMN y BIGINT"),
        migration(3, Phase::Contract, "ALTER TABLE @a DROP COLUMN x"),
    ];

    async fn memory() -> Database {
        open("sqlite::memory:".to_owned()).await
    }

    async fn open(url: String) -> Database {
        let settings = Settings {
            url,
            schema: "o28m".to_owned(),
            pool_max: 1,
            connect_timeout: Duration::from_secs(5),
            poll_interval: Duration::from_secs(60),
        };
        Database::open(&settings).await.unwrap()
    }

    #[tokio::test]
    async fn a_new_release_expands_first_and_contracts_when_told_to() {
        let database = memory().await;
        let step = async |migrations, step| apply(&database, migrations, step, LOCK_TIMEOUT).await;
        for nothing in [MigrationStep::Finish] {
            assert_eq!(step(OLD, nothing).await.unwrap(), MigrationState::Empty);
        }
        let current = MigrationState::Current;
        assert_eq!(step(OLD, MigrationStep::Bootstrap).await.unwrap(), current);
        assert_eq!(
            state(&database, NEW).await.unwrap(),
            MigrationState::Outdated
        );
        for premature in [MigrationStep::Bootstrap, MigrationStep::Finish] {
            let state = step(NEW, premature).await.unwrap();
            assert_eq!(state, MigrationState::Outdated);
        }
        let state_after = step(NEW, MigrationStep::Up).await.unwrap();
        assert_eq!(state_after, MigrationState::Pending);
        // The old release goes on beside it until the new one contracts.
        assert_eq!(state(&database, OLD).await.unwrap(), MigrationState::Newer);
        assert_eq!(
            step(OLD, MigrationStep::Up).await.unwrap(),
            MigrationState::Newer
        );
        assert_eq!(step(NEW, MigrationStep::Finish).await.unwrap(), current);
        for refused in [MigrationStep::Bootstrap, MigrationStep::Up] {
            let error = step(OLD, refused).await.unwrap_err();
            assert!(matches!(
                error,
                Error::Schema {
                    found: 3,
                    needed: 1
                }
            ));
        }
        assert!(state(&database, OLD).await.is_err());
    }

    #[tokio::test]
    async fn an_empty_database_gets_everything_at_once() {
        let database = memory().await;
        let state = apply(&database, NEW, MigrationStep::Up, LOCK_TIMEOUT)
            .await
            .unwrap();
        assert_eq!(state, MigrationState::Current);
    }

    #[tokio::test]
    async fn a_migration_that_fails_leaves_nothing_behind() {
        const BROKEN: &[Migration] = &[FIRST, migration(2, Phase::Expand, "NONSENSE")];
        let database = memory().await;
        assert!(
            apply(&database, BROKEN, MigrationStep::Up, LOCK_TIMEOUT)
                .await
                .is_err()
        );
        assert_eq!(state(&database, OLD).await.unwrap(), MigrationState::Empty);
        let state = apply(&database, OLD, MigrationStep::Up, LOCK_TIMEOUT)
            .await
            .unwrap();
        assert_eq!(state, MigrationState::Current);
    }

    /// A user as the release before texts of keys wrote them.
    fn old_user(id: &str, find: &str) -> String {
        format!(
            "INSERT INTO @object (kind, id, owner, version, body) \
             VALUES ('user', '{id}', 'r', 1, '{{\"find\": {find}}}');
             INSERT INTO @object_key (kind, id, owner, name, value, folded) \
             VALUES ('user', '{id}', 'r', 'person', '{id}', '{id}');"
        )
    }

    #[tokio::test]
    async fn texts_of_users_of_an_older_release_are_found() {
        let mut databases = vec![memory().await];
        if let Some(url) = postgres_url().await {
            databases.push(open(url).await);
        }
        for database in databases {
            let up = async |migrations| {
                let step = apply(&database, migrations, MigrationStep::Up, LOCK_TIMEOUT);
                step.await.unwrap()
            };
            let run = async |script: &str| {
                let mut connection = database.migrator(LOCK_TIMEOUT).await.unwrap();
                connection.script(script).await.unwrap();
                connection.commit().await.unwrap();
            };
            up(&MIGRATIONS[..2]).await;
            run(&old_user("before", "{\"email\": \"anna.example.com\"}")).await;
            assert_eq!(up(MIGRATIONS).await, MigrationState::Current);
            run(&old_user("beside", "{\"email\": \"anna.example.org\"}")).await;
            run(&old_user("another", "{\"email\": \"bert.example.org\"}")).await;
            run(&old_user("none", "{}")).await;
            // The texts are read where they are kept.
            run("UPDATE @object SET body = '{}' WHERE id = 'before'").await;
            let filter = Filter {
                path: vec!["find", "email"],
                test: Test::Fits("anna.*"),
            };
            let query = Query {
                kind: "user",
                owner: Some("r"),
                by_key: Some("person"),
                filters: vec![vec![filter]],
                limit: 10,
                ..Query::default()
            };
            let mut connection = database.reader(false).await.unwrap();
            let found = query::list(&mut connection, &query).await.unwrap();
            let ids: Vec<_> = found.iter().map(|record| record.id.as_str()).collect();
            assert_eq!(ids, ["before", "beside"]);
            assert_eq!(query::count(&mut connection, &query).await.unwrap(), 2);
        }
    }

    #[test]
    fn numbers_rise() {
        assert!(MIGRATIONS.is_sorted_by(|one, other| one.number < other.number));
    }
}
