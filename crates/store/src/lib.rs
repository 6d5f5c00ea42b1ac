//! State of the platform on PostgreSQL or SQLite: objects with keys, references and tags, the log of
//! their changes, and sessions. The only crate with SQL. It does not know what a route or a realm is.
//!
//! One mechanism serves every kind of object: the declaration of a kind (its unique keys, its
//! references, its tags) is handed in with each write and enforced by the database.
//!
//! Text in ids, owners, keys, references and tags may have 1024 bytes and no NUL. Nothing else is
//! stored, so looking for something else finds nothing. Order is by bytes on both databases.

mod connection;
mod database;
mod error;
mod feed;
mod filter;
pub mod foreign;
mod migration;
mod model;
mod query;
mod session;
mod shared;
mod sql;
#[cfg(feature = "testing")]
pub mod testing;
mod write;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::Sender;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub use error::Error;
pub use migration::{MigrationState, MigrationStep};
pub use model::{
    Change, Changes, Everything, Filter, Key, News, Object, OnDelete, Query, Record, Reference,
    Session, SessionQuery, Settings, Stored, Tagged, Tags, Test, Write,
};

use shared::Shared;
use write::Retention;

/// Changes the log keeps, and for how long: whoever lags behind further than both loads everything again
/// (spec gateway-admin 19.2).
const RETENTION: Retention = Retention {
    changes: 100_000,
    age_s: 3600,
};

/// A database connection pool with the change feed. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    running: Arc<Running>,
}

/// The tasks of a store; the feed ends with the last handle.
struct Running {
    tasks: TaskTracker,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl Store {
    /// Connects, creating a SQLite file that does not exist, and starts listening for changes.
    /// Tables are neither created nor checked.
    ///
    /// # Errors
    /// [`Error::Url`], [`Error::Unavailable`].
    pub async fn open(settings: &Settings) -> Result<Self, Error> {
        Self::open_with(settings, RETENTION).await
    }

    async fn open_with(settings: &Settings, retention: Retention) -> Result<Self, Error> {
        let shared = Arc::new(Shared::open(settings, retention).await?);
        let tasks = TaskTracker::new();
        let stop = CancellationToken::new();
        tasks.spawn(feed::run(
            Arc::clone(&shared),
            settings.poll_interval,
            stop.clone(),
        ));
        if shared.database.has_log_file() {
            tasks.spawn(feed::keep_checkpointed(Arc::clone(&shared), stop.clone()));
        }
        let running = Running {
            tasks,
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
        };
        Ok(Self {
            shared,
            running: Arc::new(running),
        })
    }

    /// Ends the feed and closes every connection.
    pub async fn close(&self) {
        self.running.stop.cancel();
        self.running.tasks.close();
        self.running.tasks.wait().await;
        self.shared.database.close().await;
    }

    /// Compares the tables with this program.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`].
    pub async fn migration_state(&self) -> Result<MigrationState, Error> {
        let state = migration::state(&self.shared.database, migration::MIGRATIONS).await;
        self.shared.observe(state)
    }

    /// Applies a step under a lock that other processes wait for; gives the state after it.
    ///
    /// # Errors
    /// [`Error::Schema`] when the tables are of an incompatible newer version.
    pub async fn migrate(&self, step: MigrationStep) -> Result<MigrationState, Error> {
        self.migrate_within(step, migration::LOCK_TIMEOUT).await
    }

    /// As [`Store::migrate`], waiting no longer than this for other processes.
    ///
    /// # Errors
    /// As [`Store::migrate`]; [`Error::is_lock_timeout`] tells that another process holds the lock.
    pub async fn migrate_within(
        &self,
        step: MigrationStep,
        lock_timeout: Duration,
    ) -> Result<MigrationState, Error> {
        let database = &self.shared.database;
        let migrations = migration::MIGRATIONS;
        let state = migration::apply(database, migrations, step, lock_timeout).await;
        self.shared.observe(state)
    }

    /// Drops our tables with everything in them; gives whether there were any.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`]; [`Error::is_lock_timeout`] tells that another process
    /// holds the lock.
    pub async fn reset(&self, lock_timeout: Duration) -> Result<bool, Error> {
        let dropped = migration::reset(&self.shared.database, lock_timeout).await;
        self.shared.observe(dropped)
    }

    /// Applies all steps in one transaction, or none; gives the version after it.
    ///
    /// # Errors
    /// [`Error::Duplicate`], [`Error::DuplicateId`], [`Error::ReferenceMissing`],
    /// [`Error::Referenced`], [`Error::Conflict`], [`Error::Unavailable`], [`Error::Failed`].
    ///
    /// # Cancel safety
    /// A dropped future leaves all or nothing.
    pub async fn write(&self, steps: Vec<Write>) -> Result<i64, Error> {
        let shared = Arc::clone(&self.shared);
        // As a task it ends, and is announced, even when nobody waits for it any more.
        let writing = self
            .running
            .tasks
            .spawn(async move { shared.write(&steps).await });
        match writing.await {
            Ok(result) => self.shared.observe(result),
            Err(_) => Err(Error::Unavailable(sqlx::Error::WorkerCrashed)),
        }
    }

    /// The object of that id.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`].
    pub async fn get(&self, kind: &str, id: &str) -> Result<Option<Record>, Error> {
        let result = async {
            let mut connection = self.shared.reader().await?;
            query::get(&mut connection, kind, id).await
        };
        self.shared.observe(result.await)
    }

    /// The object of that key value.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`].
    pub async fn get_by_key(
        &self,
        kind: &str,
        owner: &str,
        key: &str,
        value: &str,
    ) -> Result<Option<Record>, Error> {
        let result = async {
            let mut connection = self.shared.reader().await?;
            query::get_by_key(&mut connection, kind, owner, key, value).await
        };
        self.shared.observe(result.await)
    }

    /// A page of objects.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`].
    pub async fn list(&self, query: &Query<'_>) -> Result<Vec<Record>, Error> {
        let result = async {
            let mut connection = self.shared.reader().await?;
            query::list(&mut connection, query).await
        };
        self.shared.observe(result.await)
    }

    /// How many objects [`Store::list`] would give without `after`, `skip` and `limit`.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`].
    pub async fn count(&self, query: &Query<'_>) -> Result<u64, Error> {
        let result = async {
            let mut connection = self.shared.reader().await?;
            query::count(&mut connection, query).await
        };
        self.shared.observe(result.await)
    }

    /// Tagged objects ordered by tag, kind and id: with `tag`, only those of that tag; after the given
    /// triple, exclusive.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`].
    pub async fn tagged(
        &self,
        tag: Option<&str>,
        after: Option<&Tagged>,
        limit: u32,
    ) -> Result<Vec<Tagged>, Error> {
        let result = async {
            let mut connection = self.shared.reader().await?;
            query::tagged(&mut connection, tag, after, limit).await
        };
        self.shared.observe(result.await)
    }

    /// Every object of these kinds, with the version they are consistent with.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`].
    pub async fn everything(&self, kinds: &[&str]) -> Result<Everything, Error> {
        let result = async {
            let mut connection = self.shared.reader().await?;
            query::everything(&mut connection, kinds).await
        };
        self.shared.observe(result.await)
    }

    /// Sends every object in batches, no faster than they are received: first those of the kinds
    /// `first`, then those of `rest`, each in no order. Gives the version they are consistent with.
    /// Ends early when the receiver is gone.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`].
    pub async fn scan(
        &self,
        first: &[&str],
        rest: &[&str],
        into: &Sender<Vec<Stored>>,
    ) -> Result<i64, Error> {
        let result = async {
            let mut connection = self.shared.reader().await?;
            query::scan(&mut connection, first, rest, into).await
        };
        self.shared.observe(result.await)
    }

    /// Which of the prefixes values of a key have, of any owner, in the order given: one look at an
    /// index for each, however many values there are.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`].
    pub async fn occurring(
        &self,
        kind: &str,
        key: &str,
        prefixes: &[&str],
    ) -> Result<Vec<bool>, Error> {
        let result = async {
            let mut connection = self.shared.reader().await?;
            query::occurring(&mut connection, kind, key, prefixes).await
        };
        self.shared.observe(result.await)
    }

    /// The newest version in the database.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`].
    pub async fn version(&self) -> Result<i64, Error> {
        let result = async {
            let mut connection = self.shared.reader().await?;
            query::version(&mut connection).await
        };
        self.shared.observe(result.await)
    }

    /// Everything that changed after `version`.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`].
    pub async fn changes_since(&self, version: i64) -> Result<Changes, Error> {
        let result = async {
            let mut connection = self.shared.reader().await?;
            query::changes_since(&mut connection, version).await
        };
        self.shared.observe(result.await)
    }

    /// What the objects of these kinds that changed after `version` are like now, all seen at one
    /// moment; nothing but that it is too much when there are more than `most` of them.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`].
    pub async fn news(&self, version: i64, kinds: &[&str], most: usize) -> Result<News, Error> {
        let result = async {
            let mut connection = self.shared.reader().await?;
            query::news(&mut connection, version, kinds, most).await
        };
        self.shared.observe(result.await)
    }

    /// Announces the newest version known: by own writes at once, by other processes' writes through
    /// PostgreSQL notifications, and by polling every [`Settings::poll_interval`].
    #[must_use]
    pub fn subscribe(&self) -> tokio::sync::watch::Receiver<i64> {
        self.shared.announced.subscribe()
    }

    /// Whether the last exchange with the database worked; never waits.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        self.shared.is_reachable()
    }

    /// Writes a session, replacing one of the same id.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`].
    pub async fn put_session(&self, session: &Session) -> Result<(), Error> {
        let result = async {
            let mut connection = self.shared.unordered_writer().await?;
            session::put(&mut connection, session).await
        };
        self.shared.observe(result.await)
    }

    /// Writes a session in place of the one whose body is `old`, or where there is none; false when
    /// the stored one is another by now.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`].
    pub async fn replace_session(
        &self,
        session: &Session,
        old: Option<&serde_json::Value>,
    ) -> Result<bool, Error> {
        let result = async {
            let mut connection = self.shared.unordered_writer().await?;
            session::replace(&mut connection, session, old).await
        };
        self.shared.observe(result.await)
    }

    /// A session that has not expired at `now_s`.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`].
    pub async fn session(
        &self,
        owner: &str,
        id: &str,
        now_s: i64,
    ) -> Result<Option<Session>, Error> {
        let result = async {
            let mut connection = self.shared.reader().await?;
            session::get(&mut connection, owner, id, now_s).await
        };
        self.shared.observe(result.await)
    }

    /// Sessions of an owner that have not expired at `now_s`, by id; at most 1000.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`].
    pub async fn owned_sessions(&self, owner: &str, now_s: i64) -> Result<Vec<Session>, Error> {
        let result = async {
            let mut connection = self.shared.reader().await?;
            session::of_owner(&mut connection, owner, now_s).await
        };
        self.shared.observe(result.await)
    }

    /// Deletes a session; true when there was one.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`].
    pub async fn delete_session(&self, owner: &str, id: &str) -> Result<bool, Error> {
        let result = async {
            let mut connection = self.shared.unordered_writer().await?;
            session::delete(&mut connection, owner, id).await
        };
        self.shared.observe(result.await)
    }

    /// Deletes sessions that expired before `now_s`, a bounded number at a time; gives how many.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`].
    pub async fn expire_sessions(&self, now_s: i64) -> Result<u64, Error> {
        let result = async {
            let mut connection = self.shared.unordered_writer().await?;
            session::expire(&mut connection, now_s).await
        };
        self.shared.observe(result.await)
    }

    /// Writes sessions in one statement, replacing those of the same ids.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`].
    pub async fn put_sessions(&self, sessions: &[Session]) -> Result<(), Error> {
        let result = async {
            let mut connection = self.shared.unordered_writer().await?;
            session::put_all(&mut connection, sessions).await
        };
        self.shared.observe(result.await)
    }

    /// A page of sessions in the order of their ids.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`].
    pub async fn sessions(&self, query: &SessionQuery<'_>) -> Result<Vec<Session>, Error> {
        let result = async {
            let mut connection = self.shared.reader().await?;
            session::list(&mut connection, query).await
        };
        self.shared.observe(result.await)
    }

    /// The sessions whose ids follow the prefix in the ids of the sessions that the query finds.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`].
    pub async fn sessions_named(&self, query: &SessionQuery<'_>) -> Result<Vec<Session>, Error> {
        let result = async {
            let mut connection = self.shared.reader().await?;
            session::named(&mut connection, query).await
        };
        self.shared.observe(result.await)
    }

    /// How many sessions [`Store::sessions`] would give without `skip` and `limit`.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`].
    pub async fn count_sessions(&self, query: &SessionQuery<'_>) -> Result<u64, Error> {
        let result = async {
            let mut connection = self.shared.reader().await?;
            session::count(&mut connection, query).await
        };
        self.shared.observe(result.await)
    }

    /// How many sessions the query finds for each text of `length` characters that follows the prefix.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`].
    pub async fn count_sessions_by(
        &self,
        query: &SessionQuery<'_>,
        length: u32,
    ) -> Result<Vec<(String, u64)>, Error> {
        let result = async {
            let mut connection = self.shared.reader().await?;
            session::count_by(&mut connection, query, length).await
        };
        self.shared.observe(result.await)
    }

    /// Deletes sessions by id; gives how many there were.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`].
    pub async fn delete_sessions(&self, owner: &str, ids: &[String]) -> Result<u64, Error> {
        let result = async {
            let mut connection = self.shared.unordered_writer().await?;
            session::delete_all(&mut connection, owner, ids).await
        };
        self.shared.observe(result.await)
    }

    /// Deletes every session of an owner whose id starts with `prefix`; gives how many there were.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`].
    pub async fn clear_sessions(&self, owner: &str, prefix: &str) -> Result<u64, Error> {
        let result = async {
            let mut connection = self.shared.unordered_writer().await?;
            session::clear(&mut connection, owner, prefix).await
        };
        self.shared.observe(result.await)
    }
}
