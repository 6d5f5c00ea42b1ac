//! Connecting: URLs, pools, and where our tables are.

use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::pool::PoolOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _, PgPool, Postgres, Sqlite, SqlitePool,
};

use crate::connection::{Connection, Raw};
use crate::{Error, Settings};

/// Limit for waiting until another writer is done.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// Pages of SQLite's write-ahead log above which a writer moves them into the database itself.
const LOG_PAGES_MAX: &str = "16384";

/// Bytes that the log's file keeps when it is begun anew after a large transaction.
const LOG_BYTES_KEPT: &str = "67108864";

/// SQLite's own memory for pages of the writer: 64 MiB, given in KiB as a negative number. A large
/// transaction with less of it writes the same pages of its indexes again and again.
const WRITER_CACHE: &str = "-65536";

/// Limit for a connection while the database is known to be away: callers learn quickly.
const DOUBTFUL_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a connection may have been idle to be used without asking the server.
const TRUSTED_IDLE_TIME: Duration = Duration::from_millis(500);

/// Every statement of ours is written for an index and nested loops. Without statistics, as after a bulk
/// load, the planner would guess otherwise and read whole tables. So the values do not matter either, and
/// a plan is made once for each statement of a connection.
const PLANNER_SETTINGS: &str = "SET enable_seqscan = off; SET enable_hashjoin = off; \
     SET enable_mergejoin = off; SET enable_bitmapscan = off; SET join_collapse_limit = 1; \
     SET enable_material = off; SET jit = off; SET plan_cache_mode = force_generic_plan";

/// Where the log of changes begins and ends, and what time it is, by the database's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    /// Newest version.
    pub(crate) version: i64,
    /// Changes up to this version are no longer in the log.
    pub(crate) horizon: i64,
    /// Seconds since the Unix epoch.
    pub(crate) now_s: i64,
}

/// The pools of one database and what differs between the two.
pub(crate) struct Database {
    pools: Pools,
    /// What to write before a table's name.
    prefix: Arc<str>,
    /// Name of the PostgreSQL schema.
    pub(crate) schema: String,
    /// Number of our advisory lock, and name of our notifications: both are shared by all schemas of a
    /// database, so they are made of the schema's name.
    lock: i64,
    pub(crate) channel: String,
    pub(crate) connect_timeout: Duration,
}

enum Pools {
    Postgres {
        pool: PgPool,
        options: Box<PgConnectOptions>,
    },
    /// SQLite has one writer at a time: a single connection queues them fairly.
    Sqlite {
        writer: SqlitePool,
        reader: SqlitePool,
        in_memory: bool,
    },
}

impl Database {
    /// Connects and tries the connection.
    pub(crate) async fn open(settings: &Settings) -> Result<Self, Error> {
        let scheme = settings.url.split(':').next().unwrap_or_default();
        let (pools, prefix) = match scheme {
            "sqlite" => (open_sqlite(settings).await?, String::new()),
            "postgres" | "postgresql" => {
                let prefix = format!("{}.", quoted_schema(&settings.schema)?);
                (open_postgres(settings).await?, prefix)
            }
            _ => {
                let text = "it must start with sqlite: or postgres://";
                return Err(Error::Url(text.to_owned()));
            }
        };
        let lock = fnv1a(settings.schema.as_bytes());
        Ok(Self {
            pools,
            prefix: prefix.into(),
            schema: settings.schema.clone(),
            lock,
            channel: format!("o28m_changes_{:016x}", lock.cast_unsigned()),
            connect_timeout: settings.connect_timeout,
        })
    }

    /// A connection for reading; `doubtful` when the database was away a moment ago.
    pub(crate) async fn reader(&self, doubtful: bool) -> Result<Connection, Error> {
        match &self.pools {
            Pools::Postgres { pool, .. } => {
                let raw = self.limited(doubtful, pool.acquire()).await?;
                Ok(self.connection(Raw::Postgres(raw)))
            }
            Pools::Sqlite { reader, .. } => {
                let raw = self.limited(doubtful, reader.acquire()).await?;
                Ok(self.connection(Raw::Sqlite(raw)))
            }
        }
    }

    /// A connection in a transaction that no other writer, here or elsewhere, runs beside, and where the
    /// log ends.
    pub(crate) async fn writer(&self, doubtful: bool) -> Result<(Connection, Position), Error> {
        let (mut connection, begin) = match &self.pools {
            Pools::Postgres { .. } => {
                let connection = self.reader(doubtful).await?;
                let now = "extract(epoch FROM clock_timestamp())::bigint";
                let begin = self.begin_and_lock(LOCK_TIMEOUT);
                (
                    connection,
                    format!("{begin}; SELECT version, horizon, {now} FROM @position"),
                )
            }
            Pools::Sqlite { writer, .. } => {
                let raw = self.limited(doubtful, writer.acquire()).await?;
                let now = "CAST(strftime('%s', 'now') AS INTEGER)";
                let begin =
                    format!("BEGIN IMMEDIATE; SELECT version, horizon, {now} FROM @position");
                (self.connection(Raw::Sqlite(raw)), begin)
            }
        };
        let position = connection.begin_reading(&begin, |row| {
            Ok(Position {
                version: row.int(0)?,
                horizon: row.int(1)?,
                now_s: row.int(2)?,
            })
        });
        match position.await {
            Ok(Some(position)) => Ok((connection, position)),
            Ok(None) => {
                connection.rollback().await;
                Err(Error::invalid("the log has no position"))
            }
            Err(error) => {
                connection.rollback().await;
                Err(error)
            }
        }
    }

    /// As [`Database::writer`], waiting as long as given for the lock: migrations of others take their
    /// time.
    pub(crate) async fn migrator(&self, lock_timeout: Duration) -> Result<Connection, Error> {
        let deadline = Instant::now() + lock_timeout;
        loop {
            // In slices, because no single statement may take long.
            let left = deadline.saturating_duration_since(Instant::now());
            match self.try_migrator(left.min(LOCK_TIMEOUT)).await {
                Err(error) if error.is_lock_timeout() && Instant::now() < deadline => {}
                outcome => return outcome,
            }
        }
    }

    async fn try_migrator(&self, lock_timeout: Duration) -> Result<Connection, Error> {
        match &self.pools {
            Pools::Postgres { .. } => {
                let mut connection = self.reader(false).await?;
                connection.begin(&self.begin_and_lock(lock_timeout)).await?;
                Ok(connection)
            }
            Pools::Sqlite { writer, .. } => {
                let raw = self.limited(false, writer.acquire()).await?;
                let mut connection = self.connection(Raw::Sqlite(raw));
                connection.script(&busy_timeout(lock_timeout)).await?;
                let begun = connection.begin("BEGIN IMMEDIATE").await;
                if begun.is_err() {
                    connection.rollback().await;
                }
                begun?;
                // For whoever gets the connection next.
                connection.script(&busy_timeout(LOCK_TIMEOUT)).await?;
                Ok(connection)
            }
        }
    }

    /// A connection that may write but takes no lock: for rows that only their owner changes.
    pub(crate) async fn unordered_writer(&self, doubtful: bool) -> Result<Connection, Error> {
        match &self.pools {
            Pools::Postgres { .. } => self.reader(doubtful).await,
            Pools::Sqlite { writer, .. } => {
                let raw = self.limited(doubtful, writer.acquire()).await?;
                Ok(self.connection(Raw::Sqlite(raw)))
            }
        }
    }

    /// Whether committed changes wait in a file of SQLite's until they are moved into the database.
    pub(crate) const fn has_log_file(&self) -> bool {
        matches!(
            self.pools,
            Pools::Sqlite {
                in_memory: false,
                ..
            }
        )
    }

    /// Moves as much of SQLite's write-ahead log into the database as is possible without waiting for
    /// anybody.
    pub(crate) async fn checkpoint(&self) -> Result<(), Error> {
        self.reader(false)
            .await?
            .script("PRAGMA wal_checkpoint(PASSIVE)")
            .await
    }

    /// Whether a new connection can be made right now; without the pool, which would try again and again.
    pub(crate) async fn probe(&self) -> Result<(), Error> {
        let Pools::Postgres { options, .. } = &self.pools else {
            return Ok(());
        };
        let connecting = async { options.connect().await?.close().await };
        within(self.connect_timeout, connecting).await
    }

    /// The schema as an SQL identifier; empty on SQLite.
    pub(crate) fn quoted_schema(&self) -> &str {
        self.prefix.trim_end_matches('.')
    }

    /// How to make connections of one's own to PostgreSQL.
    pub(crate) const fn postgres(&self) -> Option<&PgConnectOptions> {
        match &self.pools {
            Pools::Postgres { options, .. } => Some(options),
            Pools::Sqlite { .. } => None,
        }
    }

    pub(crate) async fn close(&self) {
        match &self.pools {
            Pools::Postgres { pool, .. } => pool.close().await,
            Pools::Sqlite { writer, reader, .. } => {
                reader.close().await;
                writer.close().await;
            }
        }
    }

    fn connection(&self, raw: Raw) -> Connection {
        let in_memory = matches!(
            self.pools,
            Pools::Sqlite {
                in_memory: true,
                ..
            }
        );
        Connection::new(raw, Arc::clone(&self.prefix), in_memory)
    }

    /// The server's own limits end a transaction whose client is gone or stuck, so that the lock is
    /// never held for long.
    fn begin_and_lock(&self, lock_timeout: Duration) -> String {
        format!(
            "BEGIN; SET LOCAL lock_timeout = {}; SET LOCAL statement_timeout = 60000; \
             SET LOCAL idle_in_transaction_session_timeout = 30000; \
             SELECT pg_advisory_xact_lock({})",
            // Zero would wait for ever.
            lock_timeout.as_millis().max(1),
            self.lock
        )
    }

    async fn limited<T>(
        &self,
        doubtful: bool,
        acquiring: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, Error> {
        let limit = if doubtful {
            self.connect_timeout.min(DOUBTFUL_CONNECT_TIMEOUT)
        } else {
            self.connect_timeout
        };
        within(limit, acquiring).await
    }
}

fn busy_timeout(limit: Duration) -> String {
    format!("PRAGMA busy_timeout = {}", limit.as_millis().max(1))
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, Error> {
    let done = tokio::time::timeout(limit, work).await;
    Ok(done.map_err(|_| Error::timed_out())??)
}

async fn open_postgres(settings: &Settings) -> Result<Pools, Error> {
    let options = postgres_options(&settings.url)?
        .application_name("o28m")
        .disable_statement_logging();
    // The pool would try until its time is up and then not say why.
    let trying = async { options.connect().await?.close().await };
    within(settings.connect_timeout, trying).await?;
    let pool = PoolOptions::<Postgres>::new()
        .max_connections(settings.pool_max.max(1))
        .acquire_timeout(settings.connect_timeout)
        // A connection that was used a moment ago need not prove that it is alive.
        .test_before_acquire(false)
        .before_acquire(|connection, about| {
            Box::pin(async move {
                let is_fresh = about.idle_for < TRUSTED_IDLE_TIME;
                Ok(is_fresh || connection.ping().await.is_ok())
            })
        })
        .after_connect(|connection, _| {
            Box::pin(async move { connection.execute(PLANNER_SETTINGS).await.map(drop) })
        })
        .connect_lazy_with(options.clone());
    Ok(Pools::Postgres {
        pool,
        options: Box::new(options),
    })
}

/// The options of a URL, in which `sslrootcert` may list several files.
pub(crate) fn postgres_options(url: &str) -> Result<PgConnectOptions, Error> {
    let options = PgConnectOptions::from_str(url).map_err(|error| unusable_url(&error))?;
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let list = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "sslrootcert");
    let Some((_, list)) = list.last().filter(|(_, list)| list.contains(',')) else {
        return Ok(options);
    };
    let mut bundle = Vec::new();
    for path in list.split(',') {
        let path = path.trim();
        let read = std::fs::read(path);
        let read = read.map_err(|error| Error::Url(format!("cannot read {path}: {error}")))?;
        bundle.extend_from_slice(&read);
        bundle.push(b'\n');
    }
    Ok(options.ssl_root_cert_from_pem(bundle))
}

async fn open_sqlite(settings: &Settings) -> Result<Pools, Error> {
    let in_memory = settings
        .url
        .trim_start_matches("sqlite:")
        .trim_start_matches("//")
        == ":memory:";
    let options = if in_memory {
        SqliteConnectOptions::new().in_memory(true)
    } else {
        SqliteConnectOptions::from_str(&settings.url).map_err(|error| unusable_url(&error))?
    };
    // FULL survives a power cut; NORMAL would lose the last commits of a write-ahead log.
    let options = options
        .foreign_keys(true)
        .busy_timeout(LOCK_TIMEOUT)
        .synchronous(SqliteSynchronous::Full)
        .disable_statement_logging();
    if in_memory {
        let writer = sqlite_pool(settings, 1)
            .min_connections(1)
            .connect_with(options)
            .await?;
        return Ok(Pools::Sqlite {
            reader: writer.clone(),
            writer,
            in_memory,
        });
    }
    create_private(options.get_filename()).map_err(|error| Error::Unavailable(error.into()))?;
    let writing = options
        .clone()
        .journal_mode(SqliteJournalMode::Wal)
        .pragma("wal_autocheckpoint", LOG_PAGES_MAX)
        .pragma("journal_size_limit", LOG_BYTES_KEPT)
        .pragma("cache_size", WRITER_CACHE);
    let writer = sqlite_pool(settings, 1).connect_with(writing).await?;
    let reader = sqlite_pool(settings, settings.pool_max.saturating_sub(1).max(1))
        .connect_with(options.pragma("query_only", "ON"))
        .await?;
    Ok(Pools::Sqlite {
        writer,
        reader,
        in_memory,
    })
}

/// Connections to a file do not age; one to memory is the database.
fn sqlite_pool(settings: &Settings, connections: u32) -> PoolOptions<Sqlite> {
    PoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(settings.connect_timeout)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
}

/// Creates a missing file so that nobody else can read it; SQLite's other files take over its mode.
fn create_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let created = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match created {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// The reasons the drivers give name a part of the URL at most, and never its password.
fn unusable_url(error: &sqlx::Error) -> Error {
    let reason = match error {
        sqlx::Error::Configuration(reason) => reason.to_string(),
        other => other.to_string(),
    };
    Error::Url(reason)
}

/// The schema as an SQL identifier. Empty would mean whatever the server's search path says.
fn quoted_schema(schema: &str) -> Result<String, Error> {
    if schema.is_empty() || schema.len() > 63 || schema.contains(['\0', '@']) {
        let text = "the schema's name must have 1 to 63 bytes and neither NUL nor @";
        return Err(Error::Url(text.to_owned()));
    }
    Ok(quoted(schema))
}

/// A name as an SQL identifier.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// FNV-1a, 64 bits: any stable hash would do.
fn fnv1a(bytes: &[u8]) -> i64 {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash.cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trusted_certificates_may_be_in_several_files() {
        let url = |list: &str| format!("postgres://u@h/d?sslmode=verify-full&sslrootcert={list}");
        // One file is read when it is needed, a list at once.
        assert!(postgres_options(&url("%2Fnowhere.pem")).is_ok());
        let error = postgres_options(&url("%2Fnowhere.pem%2C%2Felsewhere.pem")).unwrap_err();
        assert!(error.to_string().contains("/nowhere.pem"), "{error}");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pem");
        std::fs::write(&path, "").unwrap();
        let path = path.display();
        assert!(postgres_options(&url(&format!("{path},{path}"))).is_ok());
    }

    #[test]
    fn a_schema_name_cannot_leave_its_quotes() {
        assert_eq!(quoted_schema("o28m").unwrap(), "\"o28m\"");
        assert_eq!(quoted_schema("a\"; x").unwrap(), "\"a\"\"; x\"");
        assert!(quoted_schema("").is_err());
        assert!(quoted_schema(&"x".repeat(64)).is_err());
    }
}
