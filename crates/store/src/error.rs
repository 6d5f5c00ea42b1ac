//! Why the store failed, and how the drivers' errors are sorted into that.

use crate::migration;

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

/// SQLSTATE classes and codes after which trying again later may help: connection, resources, operator
/// intervention, system, login, read-only standby, lock wait, missing database, serialisation, deadlock.
const UNAVAILABLE_STATES: &[&str] = &[
    "08", "53", "57", "58", "28", "25006", "55P03", "3D000", "40001", "40P01",
];

/// SQLSTATE codes of a table or schema that is not there.
const MISSING_TABLE_STATES: &[&str] = &["42P01", "3F000"];

/// SQLite primary result codes after which trying again later may help: BUSY, LOCKED, READONLY,
/// IOERR, FULL, CANTOPEN.
const UNAVAILABLE_RESULTS: &[i64] = &[5, 6, 8, 10, 13, 14];

impl Error {
    /// Another process held the lock longer than this one was willing to wait.
    #[must_use]
    pub fn is_lock_timeout(&self) -> bool {
        let (Self::Unavailable(error) | Self::Failed(error)) = self else {
            return false;
        };
        let code = error.as_database_error().and_then(|it| it.code());
        code.is_some_and(|code| {
            // PostgreSQL's lock_not_available; SQLite's BUSY in any of its extended forms.
            code == "55P03" || code.parse::<i64>().is_ok_and(|code| code & 0xff == 5)
        })
    }

    /// Sorts a driver's error.
    pub(crate) fn from_driver(error: sqlx::Error) -> Self {
        use sqlx::Error as Driver;
        let transient = match &error {
            Driver::Database(database) => {
                let code = database.code().unwrap_or_default();
                if is_missing_table(&code, database.message()) {
                    return Self::Schema {
                        found: 0,
                        needed: migration::needed(),
                    };
                }
                is_transient(&code)
            }
            Driver::Io(_)
            | Driver::Tls(_)
            | Driver::PoolTimedOut
            | Driver::PoolClosed
            | Driver::WorkerCrashed
            | Driver::BeginFailed
            // What a connection that breaks in the middle of a message looks like.
            | Driver::Protocol(_) => true,
            _ => false,
        };
        if transient {
            Self::Unavailable(error)
        } else {
            Self::Failed(error)
        }
    }

    /// An operation that took too long.
    pub(crate) fn timed_out() -> Self {
        Self::Unavailable(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))
    }

    /// A value that no database can hold, or a row that holds what we never write.
    pub(crate) fn invalid(what: &str) -> Self {
        Self::Failed(sqlx::Error::InvalidArgument(what.to_owned()))
    }

    /// Whether the transaction lost against another one and may simply be run again.
    pub(crate) fn is_serialisation_failure(&self) -> bool {
        let Self::Unavailable(sqlx::Error::Database(database)) = self else {
            return false;
        };
        matches!(database.code().as_deref(), Some("40001" | "40P01"))
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::from_driver(error)
    }
}

/// SQLSTATE codes have five characters, SQLite's codes are numbers with the primary code in the low byte.
fn is_transient(code: &str) -> bool {
    if code.len() == 5 && !is_sqlite(code) {
        return UNAVAILABLE_STATES
            .iter()
            .any(|state| code.starts_with(state));
    }
    code.parse::<i64>()
        .is_ok_and(|code| UNAVAILABLE_RESULTS.contains(&(code & 0xff)))
}

/// SQLite's extended codes stay below 10000, so none has five digits.
fn is_sqlite(code: &str) -> bool {
    code.len() < 5
}

/// SQLite reports a missing table as the generic code 1; only the message tells.
fn is_missing_table(code: &str, message: &str) -> bool {
    MISSING_TABLE_STATES.contains(&code) || (code == "1" && message.starts_with("no such table"))
}
