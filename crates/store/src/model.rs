//! What goes into the store and comes out of it.

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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Name of the key, such as `name`; also the field named in conflicts.
    pub name: &'static str,
    /// The value.
    pub value: String,
}

/// A pointer to another object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnDelete {
    /// The deletion is refused.
    Restrict,
    /// They are deleted too, each with its own change record.
    Cascade,
    /// They stay and point to nothing any more; what their bodies say about it is up to the reader.
    /// A pointer to an object that does not exist is left out.
    Detach,
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

/// An object as it is read, with its body as the JSON text it is stored as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// See [`Object::kind`].
    pub kind: String,
    /// See [`Object::id`].
    pub id: String,
    /// See [`Record::version`].
    pub version: i64,
    /// See [`Object::body`].
    pub body: String,
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
    /// Order by this key instead of the id. Without `owner`, equal values of several owners share a
    /// place in the order, so page with `skip` rather than `after` there.
    pub by_key: Option<&'a str>,
    /// With `by_key`: only values that contain this text, compared case-insensitively.
    pub search: Option<&'a str>,
    /// Only objects whose bodies fulfil at least one filter of each list. Read along the order, so they
    /// narrow a listing and replace no key. What a body has in `find` is kept beside the object's keys:
    /// with `by_key`, alternatives that look only there and at the key itself read no body.
    pub filters: Vec<Vec<Filter<'a>>>,
    /// Only objects after this id (or key value), exclusive.
    pub after: Option<&'a str>,
    /// Leave out this many first; prefer `after`.
    pub skip: u32,
    /// At most this many.
    pub limit: u32,
}

/// A condition on a JSON body.
#[derive(Clone, Debug)]
pub struct Filter<'a> {
    /// Member names from the outside in; none for the value of the key of [`Query::by_key`]. A name with
    /// `"` or `\\` finds nothing.
    pub path: Vec<&'a str>,
    /// What holds there.
    pub test: Test<'a>,
}

/// What a value in a body must be.
#[derive(Clone, Debug)]
pub enum Test<'a> {
    /// This text.
    Is(&'a str),
    /// A text that fits the pattern, in which up to 8 `*` stand for any text. Case counts on PostgreSQL;
    /// SQLite takes ASCII letters of either case for the same.
    Fits(&'a str),
    /// A list that contains this text.
    Has(&'a str),
    /// This truth value.
    Flag(bool),
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
    /// The changes after it, oldest first.
    Since(Vec<Change>),
    /// The log no longer reaches back that far, or there are too many to list: load everything.
    Truncated,
}

/// What objects became after a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// All that changed.
    Since {
        /// The version of what was seen.
        version: i64,
        /// Objects that are there.
        present: Vec<Stored>,
        /// Kind and id of those that are not, or not any more.
        gone: Vec<(String, String)>,
    },
    /// The log no longer reaches back that far, or it is too much: load everything.
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

/// Which sessions to list: those of an owner whose ids start with `prefix`.
#[derive(Clone, Debug, Default)]
pub struct SessionQuery<'a> {
    /// Realm id.
    pub owner: &'a str,
    /// What the ids start with, in ASCII.
    pub prefix: &'a str,
    /// Only ids from this one on.
    pub from: Option<&'a str>,
    /// Only ids before this one.
    pub until: Option<&'a str>,
    /// Sessions that expire later than this, in seconds since the Unix epoch.
    pub now_s: i64,
    /// Conditions on the bodies, see [`Query::filters`].
    pub filters: Vec<Vec<Filter<'a>>>,
    /// In falling order of ids.
    pub newest_first: bool,
    /// Leave out this many first.
    pub skip: u32,
    /// At most this many.
    pub limit: u32,
}

/// Where and how to connect. Its `Debug` leaves the URL out: it may hold a password.
#[derive(Clone)]
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

/// Everything of some kinds at one version.
#[derive(Clone, Debug, PartialEq)]
pub struct Everything {
    /// The version it is consistent with.
    pub version: i64,
    /// The objects, ordered by kind and id.
    pub records: Vec<Record>,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Settings")
            .field("schema", &self.schema)
            .field("pool_max", &self.pool_max)
            .field("connect_timeout", &self.connect_timeout)
            .field("poll_interval", &self.poll_interval)
            .finish_non_exhaustive()
    }
}
