//! Tables of another program, read as JSON: what an import starts from. Nothing is written.

use std::collections::BTreeMap;

use futures_util::TryStreamExt as _;
use serde_json::Value;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection, Row as _};

use crate::Error;
use crate::database::{postgres_options, quoted};

/// Rows of tables by the name of the table.
pub type Tables = BTreeMap<String, Vec<Value>>;

/// Reads every row of those of the `wanted` tables that are in the schema, all as of one moment. Rows are
/// objects with a member for each column; times are seconds since the Unix epoch, with their fraction.
///
/// # Errors
/// [`Error::Url`] when it is not one of PostgreSQL, [`Error::Unavailable`], [`Error::Failed`].
pub async fn tables(url: &str, schema: &str, wanted: &[&str]) -> Result<Tables, Error> {
    if !url.starts_with("postgres") {
        return Err(Error::Url("it must start with postgres://".to_owned()));
    }
    let mut connection = postgres_options(url)?.connect().await?;
    // The server refuses whatever would change something.
    connection
        .execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await?;
    let mut tables = Tables::new();
    for table in wanted {
        if let Some(rows) = rows(&mut connection, schema, table).await? {
            tables.insert((*table).to_owned(), rows);
        }
    }
    connection.execute("COMMIT").await?;
    connection.close().await?;
    Ok(tables)
}

/// The rows of one table; `None` when there is none of that name.
async fn rows(
    connection: &mut PgConnection,
    schema: &str,
    table: &str,
) -> Result<Option<Vec<Value>>, Error> {
    let columns = sqlx::query(
        "SELECT column_name::text, data_type::text FROM information_schema.columns \
         WHERE table_schema = $1 AND table_name = $2",
    )
    .bind(schema)
    .bind(table)
    .fetch_all(&mut *connection)
    .await?;
    if columns.is_empty() {
        return Ok(None);
    }
    let mut times = Vec::new();
    for column in &columns {
        let (name, kind): (&str, &str) = (column.try_get(0)?, column.try_get(1)?);
        if kind.starts_with("timestamp") {
            let text = name.replace('\'', "''");
            let column = quoted(name);
            times.push(format!("'{text}', extract(epoch from t.{column})::float8"));
        }
    }
    let sql = format!(
        "SELECT (to_jsonb(t) || jsonb_build_object({}))::text FROM {}.{} t",
        times.join(", "),
        quoted(schema),
        quoted(table),
    );
    let mut found = Vec::new();
    let mut stream = sqlx::query(&sql).fetch(connection);
    while let Some(row) = stream.try_next().await? {
        let text: &str = row.try_get(0)?;
        let row = serde_json::from_str(text);
        found.push(row.map_err(|error| Error::Failed(sqlx::Error::Decode(error.into())))?);
    }
    Ok(Some(found))
}
