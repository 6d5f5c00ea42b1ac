//! State of the platform on PostgreSQL or SQLite: objects with keys, references and tags, the log of
//! their changes, and sessions. The only crate with SQL. It does not know what a route or a realm is.
//!
//! One mechanism serves every kind of object: the declaration of a kind (its unique keys, its
//! references, its tags) is handed in with each write and enforced by the database.

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
    /// See [`Object::body`].
    pub body: Value,
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
    /// The database cannot be reached or refuses service; try again later.
    #[error("database is unavailable")]
    Unavailable(#[source] sqlx::Error),
    /// The tables are missing, incomplete or from a newer version.
    #[error("database schema {found} does not fit this program, which needs {needed}: run `o28m migrate up`")]
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
