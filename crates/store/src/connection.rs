//! One connection to either database: the few verbs the rest of the crate needs.
//!
//! The verbs give boxed futures: the compiler cannot prove of the drivers' own futures that they may
//! move between threads once they are nested in others.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, Stream, TryStreamExt as _};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments as _, Executor as _, Postgres, Row as _, Sqlite};
use tokio::sync::mpsc::Sender;

use crate::Error;
use crate::sql::{Argument, Dialect, Sql};

/// Limit for one statement, and for the wait between two rows of a stream.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) enum Raw {
    Postgres(PoolConnection<Postgres>),
    Sqlite(PoolConnection<Sqlite>),
}

/// A pooled connection. Dropped in the middle of a statement or transaction it is closed instead of
/// being handed to the next user.
pub(crate) struct Connection {
    raw: Raw,
    prefix: Arc<str>,
    /// Closing the only connection to a database in memory would lose the data.
    keep: bool,
    busy: bool,
    in_transaction: bool,
}

/// A row of either database.
pub(crate) enum Row {
    Postgres(PgRow),
    Sqlite(SqliteRow),
}

impl Row {
    pub(crate) fn str(&self, column: usize) -> Result<&str, Error> {
        Ok(match self {
            Self::Postgres(row) => row.try_get(column)?,
            Self::Sqlite(row) => row.try_get(column)?,
        })
    }

    pub(crate) fn text(&self, column: usize) -> Result<String, Error> {
        self.str(column).map(str::to_owned)
    }

    pub(crate) fn json(&self, column: usize) -> Result<serde_json::Value, Error> {
        serde_json::from_str(self.str(column)?)
            .map_err(|error| Error::Failed(sqlx::Error::Decode(error.into())))
    }

    /// A number that stands in the statement itself: PostgreSQL thinks that it is a small one.
    pub(crate) fn small(&self, column: usize) -> Result<i32, Error> {
        Ok(match self {
            Self::Postgres(row) => row.try_get(column)?,
            Self::Sqlite(row) => row.try_get(column)?,
        })
    }

    pub(crate) fn int(&self, column: usize) -> Result<i64, Error> {
        Ok(match self {
            Self::Postgres(row) => row.try_get(column)?,
            Self::Sqlite(row) => row.try_get(column)?,
        })
    }
}

impl Connection {
    pub(crate) const fn new(raw: Raw, prefix: Arc<str>, keep: bool) -> Self {
        Self {
            raw,
            prefix,
            keep,
            busy: false,
            in_transaction: false,
        }
    }

    pub(crate) const fn is_postgres(&self) -> bool {
        matches!(self.raw, Raw::Postgres(_))
    }

    const fn dialect(&self) -> Dialect {
        match self.raw {
            Raw::Postgres(_) => Dialect::Postgres,
            Raw::Sqlite(_) => Dialect::Sqlite,
        }
    }

    /// Whether this is the only connection there is.
    pub(crate) const fn is_exclusive(&self) -> bool {
        self.keep
    }

    /// Runs a statement; gives the number of rows it changed.
    pub(crate) fn execute<'a>(&'a mut self, sql: Sql<'a>) -> BoxFuture<'a, Result<u64, Error>> {
        async move {
            if sql.is_unstorable() {
                return Err(Error::invalid("text holds NUL or is too long"));
            }
            let (text, values) = sql.finish(&self.prefix, self.dialect());
            self.busy = true;
            let result = match &mut self.raw {
                Raw::Postgres(connection) => {
                    let query = sqlx::query_with(&text, postgres_arguments(values)?);
                    limited(query.execute(&mut **connection))
                        .await
                        .map(|done| done.rows_affected())
                }
                Raw::Sqlite(connection) => {
                    let query = sqlx::query_with(&text, sqlite_arguments(values)?);
                    limited(query.execute(&mut **connection))
                        .await
                        .map(|done| done.rows_affected())
                }
            };
            self.settle(result)
        }
        .boxed()
    }

    /// Runs a query and hands each row to `take` as it arrives.
    pub(crate) fn each<'a>(
        &'a mut self,
        sql: Sql<'a>,
        mut take: impl FnMut(&Row) -> Result<(), Error> + Send + 'a,
    ) -> BoxFuture<'a, Result<(), Error>> {
        async move {
            if sql.is_unstorable() {
                return Ok(());
            }
            let (text, values) = sql.finish(&self.prefix, self.dialect());
            self.busy = true;
            let result = match &mut self.raw {
                Raw::Postgres(connection) => {
                    let query = sqlx::query_with(&text, postgres_arguments(values)?);
                    let rows = query.fetch(&mut **connection);
                    drain(rows, |row| take(&Row::Postgres(row))).await
                }
                Raw::Sqlite(connection) => {
                    let query = sqlx::query_with(&text, sqlite_arguments(values)?);
                    let rows = query.fetch(&mut **connection);
                    drain(rows, |row| take(&Row::Sqlite(row))).await
                }
            };
            self.settle(result)
        }
        .boxed()
    }

    /// Runs a query and sends its rows in batches, no faster than they are received; false when nobody
    /// did any more before the end.
    pub(crate) fn send<'a, T: Send + 'a>(
        &'a mut self,
        sql: Sql<'a>,
        batch: usize,
        map: impl Fn(&Row) -> Result<T, Error> + Send + Sync + 'a,
        into: &'a Sender<Vec<T>>,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        async move {
            if sql.is_unstorable() {
                return Ok(true);
            }
            let (text, values) = sql.finish(&self.prefix, self.dialect());
            self.busy = true;
            let result = match &mut self.raw {
                Raw::Postgres(connection) => {
                    let query = sqlx::query_with(&text, postgres_arguments(values)?);
                    let rows = query.fetch(&mut **connection);
                    forward(rows, batch, |row| map(&Row::Postgres(row)), into).await
                }
                Raw::Sqlite(connection) => {
                    let query = sqlx::query_with(&text, sqlite_arguments(values)?);
                    let rows = query.fetch(&mut **connection);
                    forward(rows, batch, |row| map(&Row::Sqlite(row)), into).await
                }
            };
            self.settle(result)
        }
        .boxed()
    }

    /// Runs a query and maps every row.
    pub(crate) async fn all<T: Send>(
        &mut self,
        sql: Sql<'_>,
        map: impl Fn(&Row) -> Result<T, Error> + Send + Sync,
    ) -> Result<Vec<T>, Error> {
        let mut items = Vec::new();
        self.each(sql, |row| {
            items.push(map(row)?);
            Ok(())
        })
        .await?;
        Ok(items)
    }

    /// Runs a query and maps the last of its rows, of which there is one at most.
    pub(crate) async fn one<T: Send>(
        &mut self,
        sql: Sql<'_>,
        map: impl Fn(&Row) -> Result<T, Error> + Send + Sync,
    ) -> Result<Option<T>, Error> {
        Ok(self.all(sql, map).await?.pop())
    }

    /// Runs statements without values, several separated by semicolons.
    pub(crate) fn script<'a>(&'a mut self, text: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        async move {
            let text = text.replace('@', &self.prefix);
            self.busy = true;
            let result = match &mut self.raw {
                Raw::Postgres(connection) => {
                    limited(connection.execute(text.as_str())).await.map(drop)
                }
                Raw::Sqlite(connection) => {
                    limited(connection.execute(text.as_str())).await.map(drop)
                }
            };
            self.settle(result)
        }
        .boxed()
    }

    /// Starts a transaction with `statement`.
    pub(crate) async fn begin(&mut self, statement: &str) -> Result<(), Error> {
        self.in_transaction = true;
        self.script(statement).await
    }

    /// Starts a transaction with statements without values, the last of which is a query: one exchange
    /// with PostgreSQL. Gives the last row.
    pub(crate) fn begin_reading<'a, T: Send>(
        &'a mut self,
        statements: &'a str,
        map: impl Fn(&Row) -> Result<T, Error> + Send + Sync + 'a,
    ) -> BoxFuture<'a, Result<Option<T>, Error>> {
        async move {
            let text = statements.replace('@', &self.prefix);
            self.in_transaction = true;
            self.busy = true;
            let last = match &mut self.raw {
                Raw::Postgres(connection) => {
                    let rows = limited(connection.fetch_all(text.as_str())).await;
                    rows.map(|mut rows| rows.pop().map(Row::Postgres))
                }
                Raw::Sqlite(connection) => {
                    let rows = limited(connection.fetch_all(text.as_str())).await;
                    rows.map(|mut rows| rows.pop().map(Row::Sqlite))
                }
            };
            self.settle(last)?.as_ref().map(map).transpose()
        }
        .boxed()
    }

    /// Commits. After an error of kind unavailable nobody knows whether it happened.
    pub(crate) async fn commit(&mut self) -> Result<(), Error> {
        self.script("COMMIT").await?;
        self.in_transaction = false;
        Ok(())
    }

    /// Rolls back; a connection on which that fails is closed.
    pub(crate) async fn rollback(&mut self) {
        if self.script("ROLLBACK").await.is_ok() {
            self.in_transaction = false;
            self.busy = false;
        }
    }

    /// A connection that failed to answer stays busy, so that it is closed.
    fn settle<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        self.busy = matches!(&result, Err(Error::Unavailable(_)));
        result
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if !(self.busy || self.in_transaction) || self.keep {
            return;
        }
        match &mut self.raw {
            Raw::Postgres(connection) => connection.close_on_drop(),
            Raw::Sqlite(connection) => connection.close_on_drop(),
        }
    }
}

async fn limited<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Error> {
    let done = tokio::time::timeout(STATEMENT_TIMEOUT, work).await;
    Ok(done.map_err(|_| Error::timed_out())??)
}

/// Rows after which a long stream lets other tasks of its thread run.
const ROWS_PER_TURN: usize = 256;

async fn drain<R>(
    mut rows: impl Stream<Item = Result<R, sqlx::Error>> + Unpin,
    mut take: impl FnMut(R) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut count = 0_usize;
    while let Some(row) = limited(rows.try_next()).await? {
        take(row)?;
        count = count.wrapping_add(1);
        if count.is_multiple_of(ROWS_PER_TURN) {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

async fn forward<R, T>(
    mut rows: impl Stream<Item = Result<R, sqlx::Error>> + Unpin,
    size: usize,
    map: impl Fn(R) -> Result<T, Error>,
    into: &Sender<Vec<T>>,
) -> Result<bool, Error> {
    let mut batch = Vec::with_capacity(size);
    while let Some(row) = limited(rows.try_next()).await? {
        batch.push(map(row)?);
        if batch.len() == size {
            let full = std::mem::replace(&mut batch, Vec::with_capacity(size));
            if into.send(full).await.is_err() {
                return Ok(false);
            }
        }
    }
    Ok(into.send(batch).await.is_ok())
}

fn postgres_arguments(values: Vec<Argument<'_>>) -> Result<PgArguments, Error> {
    let mut arguments = PgArguments::default();
    for value in values {
        match value {
            Argument::Text(text) => arguments.add(text.as_ref()),
            Argument::Int(number) => arguments.add(number),
            Argument::Texts(texts) => {
                let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
                arguments.add(texts)
            }
            Argument::Ints(numbers) => arguments.add(numbers),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

fn sqlite_arguments(values: Vec<Argument<'_>>) -> Result<SqliteArguments<'_>, Error> {
    let mut arguments = SqliteArguments::default();
    for value in values {
        match value {
            Argument::Text(text) => arguments.add(text),
            Argument::Int(number) => arguments.add(number),
            Argument::Texts(_) | Argument::Ints(_) => {
                return Err(Error::invalid("SQLite has no arrays"));
            }
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}
