//! State of the platform on PostgreSQL or SQLite: objects with keys, references and tags, the log of
//! their changes, and sessions. The only crate with SQL. It does not know what a route or a realm is.
//!
//! One mechanism serves every kind of object: the declaration of a kind (its unique keys, its
//! references, its tags) is handed in with each write and enforced by the database.

#[cfg(feature = "testing")]
pub mod testing;

use std::time::Duration;

use serde_json::Value;

/// An object as it is written: its body and everything the database must enforce about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// What it is, such as `routes` or `realm`.
    pub kind: &'static str,
    /// Unique within its kind.
    pub id: String,
    /// The object it belongs to for uniqueness and listing, such as a realm id; empty for none.
    pub owner: String,
    /// Values unique per kind, owner and key name.
    pub keys: Vec<Key>,
    /// Other objects it points to.
    pub references: Vec<Reference>,
    /// Tags, as in Kong.
    pub tags: Vec<String>,
    /// The whole object.
    pub body: Value,
}

/// A unique value of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Name of the key, such as `name`; also the field named in conflicts.
    pub name: &'static str,
    /// The value.
    pub value: String,
}

/// A pointer to another object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The field that holds it, such as `service`.
    pub field: &'static str,
    /// Kind of the object pointed to.
    pub kind: &'static str,
    /// Its id.
    pub id: String,
    /// What happens to this object when the other one is deleted.
    pub on_delete: OnDelete,
}

/// What a deletion does to the objects that point to the deleted one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDelete {
    /// The deletion is refused.
    Restrict,
    /// They are deleted too, each with its own change record.
    Cascade,
}

/// An object as it is read.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// See [`Object::kind`].
    pub kind: String,
    /// See [`Object::id`].
    pub id: String,
    /// See [`Object::owner`].
    pub owner: String,
    /// Position in the change log of the write that made this state; for optimistic locking.
    pub version: i64,
    /// See [`Object::body`].
    pub body: Value,
}

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Creates the object; its id and keys must be free.
    Insert(Object),
    /// Replaces an existing object.
    Update {
        /// The new state; kind and id say which object.
        object: Object,
        /// Refuse with [`Error::Conflict`] unless the stored state is of this version.
        if_version: Option<i64>,
    },
    /// Creates or replaces.
    Upsert(Object),
    /// Deletes the object and, by cascade, those that point to it. Deleting nothing is no error.
    Delete {
        /// Kind of the object.
        kind: &'static str,
        /// Its id.
        id: String,
    },
}

/// Which objects to list. Order is by id, or by key value when `by_key` is set.
#[derive(Clone, Debug, Default)]
pub struct Query<'a> {
    /// Kind to list.
    pub kind: &'a str,
    /// Only objects of this owner.
    pub owner: Option<&'a str>,
    /// Only objects whose reference `field` points to `id`.
    pub reference: Option<(&'a str, &'a str)>,
    /// Only objects with these tags.
    pub tags: Tags<'a>,
    /// Order by this key instead of the id.
    pub by_key: Option<&'a str>,
    /// With `by_key`: only values that contain this text, compared case-insensitively.
    pub search: Option<&'a str>,
    /// Only objects after this id (or key value), exclusive.
    pub after: Option<&'a str>,
    /// Leave out this many first; prefer `after`.
    pub skip: u32,
    /// At most this many.
    pub limit: u32,
}

/// A tag filter.
#[derive(Clone, Debug, Default)]
pub enum Tags<'a> {
    /// No filter.
    #[default]
    Any,
    /// Every one of these.
    All(Vec<&'a str>),
    /// At least one of these.
    OneOf(Vec<&'a str>),
}

/// One recorded change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Position in the log; commit order.
    pub version: i64,
    /// Kind of the changed object.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// Its owner.
    pub owner: String,
    /// It no longer exists.
    pub deleted: bool,
}

/// What happened after a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changes {
    /// Every change after it, oldest first.
    Since(Vec<Change>),
    /// The log no longer reaches back that far: load everything.
    Truncated,
}

/// One tagged object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tagged {
    /// Kind of the object.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// The tag.
    pub tag: String,
}

/// A login that tokens refer to.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    /// Opaque id, the `sid` claim.
    pub id: String,
    /// Realm id.
    pub owner: String,
    /// When it may be forgotten, in seconds since the Unix epoch.
    pub expires_at_s: i64,
    /// What the domain keeps in it.
    pub body: Value,
}

/// Where and how to connect.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `sqlite:///path/to/file.db`, `sqlite::memory:` or `postgres://user:password@host:port/database`.
    pub url: String,
    /// PostgreSQL schema that holds our tables; ignored on SQLite.
    pub schema: String,
    /// Connections at most.
    pub pool_max: u32,
    /// Limit for getting a connection.
    pub connect_timeout: Duration,
    /// How often to look for changes when nothing announces them.
    pub poll_interval: Duration,
}

/// Why the store failed. The message never holds a URL with its password.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another object has this key.
    #[error("{kind} with {key} {value:?} exists already")]
    Duplicate {
        /// Kind of the object.
        kind: String,
        /// Key name.
        key: String,
        /// The value that is taken.
        value: String,
    },
    /// Another object has this id.
    #[error("{kind} with id {id} exists already")]
    DuplicateId {
        /// Kind of the object.
        kind: String,
        /// The id that is taken.
        id: String,
    },
    /// The object pointed to does not exist.
    #[error("{field} points to {kind} {id}, which does not exist")]
    ReferenceMissing {
        /// Field that points.
        field: String,
        /// Kind pointed to.
        kind: String,
        /// Id pointed to.
        id: String,
    },
    /// The object cannot be deleted: others point to it.
    #[error("{kind} {id} is referenced by {by}")]
    Referenced {
        /// Kind of the object.
        kind: String,
        /// Its id.
        id: String,
        /// Kind of an object that points to it.
        by: String,
    },
    /// The object to update does not exist, or was changed since it was read.
    #[error("{kind} {id} was changed or deleted meanwhile")]
    Conflict {
        /// Kind of the object.
        kind: String,
        /// Its id.
        id: String,
    },
    /// The database cannot be reached or refuses service; try again later.
    #[error("database is unavailable")]
    Unavailable(#[source] sqlx::Error),
    /// The tables are missing, incomplete or from a newer version.
    #[error(
        "database schema {found} does not fit this program, which needs {needed}: run `o28m migrate up`"
    )]
    Schema {
        /// What the database has, 0 for nothing.
        found: i64,
        /// What this program needs.
        needed: i64,
    },
    /// The database answered something it should not.
    #[error("database failed")]
    Failed(#[source] sqlx::Error),
    /// The settings are wrong.
    #[error("invalid database URL: {0}")]
    Url(String),
}

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

/// Everything of some kinds at one version.
#[derive(Clone, Debug, PartialEq)]
pub struct Everything {
    /// The version it is consistent with.
    pub version: i64,
    /// The objects, ordered by kind and id.
    pub records: Vec<Record>,
}

/// A database connection pool with the change feed. Cheap to clone.
#[derive(Clone)]
pub struct Store {}

impl Store {
    /// Connects, creating a SQLite file that does not exist, and starts listening for changes.
    /// Tables are neither created nor checked.
    ///
    /// # Errors
    /// [`Error::Url`], [`Error::Unavailable`].
    pub async fn open(settings: &Settings) -> Result<Self, Error> {
        let _ = settings;
        todo!()
    }

    /// Ends the feed and closes every connection.
    pub async fn close(&self) {
        todo!()
    }

    /// Compares the tables with this program.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`].
    pub async fn migration_state(&self) -> Result<MigrationState, Error> {
        todo!()
    }

    /// Applies a step under a lock that other processes wait for; gives the state after it.
    ///
    /// # Errors
    /// [`Error::Schema`] when the tables are of an incompatible newer version.
    pub async fn migrate(&self, step: MigrationStep) -> Result<MigrationState, Error> {
        let _ = step;
        todo!()
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
        let _ = steps;
        todo!()
    }

    /// The object of that id.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`].
    pub async fn get(&self, kind: &str, id: &str) -> Result<Option<Record>, Error> {
        let _ = (kind, id);
        todo!()
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
        let _ = (kind, owner, key, value);
        todo!()
    }

    /// A page of objects.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`].
    pub async fn list(&self, query: &Query<'_>) -> Result<Vec<Record>, Error> {
        let _ = query;
        todo!()
    }

    /// How many objects [`Store::list`] would give without `after`, `skip` and `limit`.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`].
    pub async fn count(&self, query: &Query<'_>) -> Result<u64, Error> {
        let _ = query;
        todo!()
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
        let _ = (tag, after, limit);
        todo!()
    }

    /// Every object of these kinds, with the version they are consistent with.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`].
    pub async fn everything(&self, kinds: &[&str]) -> Result<Everything, Error> {
        let _ = kinds;
        todo!()
    }

    /// The newest version in the database.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`].
    pub async fn version(&self) -> Result<i64, Error> {
        todo!()
    }

    /// What changed after `version`.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`].
    pub async fn changes_since(&self, version: i64) -> Result<Changes, Error> {
        let _ = version;
        todo!()
    }

    /// Announces the newest version known: by own writes at once, by other processes' writes through
    /// PostgreSQL notifications, and by polling every [`Settings::poll_interval`].
    #[must_use]
    pub fn subscribe(&self) -> tokio::sync::watch::Receiver<i64> {
        todo!()
    }

    /// Whether the last exchange with the database worked; never waits.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        todo!()
    }

    /// Writes a session, replacing one of the same id.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`].
    pub async fn put_session(&self, session: &Session) -> Result<(), Error> {
        let _ = session;
        todo!()
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
        let _ = (owner, id, now_s);
        todo!()
    }

    /// Deletes a session; true when there was one.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`].
    pub async fn delete_session(&self, owner: &str, id: &str) -> Result<bool, Error> {
        let _ = (owner, id);
        todo!()
    }

    /// Deletes sessions that expired before `now_s`, a bounded number at a time; gives how many.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Failed`].
    pub async fn expire_sessions(&self, now_s: i64) -> Result<u64, Error> {
        let _ = now_s;
        todo!()
    }
}
