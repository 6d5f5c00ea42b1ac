//! Sessions and other records that expire. They are not part of the change log: nothing is derived
//! from them.

use crate::connection::{Connection, Row};
use crate::filter::{self, Place};
use crate::sql::Sql;
use crate::{Error, Session, SessionQuery};

/// Rows of one statement.
const ROWS_PER_STATEMENT: usize = 200;

/// Sessions deleted by one call of the clean-up.
const EXPIRED_PER_CALL: i64 = 1000;

/// Sessions of one owner that are listed.
const LISTED_MAX: i64 = 1000;

pub(crate) async fn put(connection: &mut Connection, session: &Session) -> Result<(), Error> {
    put_all(connection, std::slice::from_ref(session)).await
}

fn row<'a>(sql: Sql<'a>, session: &'a Session) -> Sql<'a> {
    sql.raw("(")
        .text(&session.owner)
        .raw(", ")
        .text(&session.id)
        .raw(", ")
        .int(session.expires_at_s)
        .raw(", ")
        .body(session.body.to_string())
        .raw(")")
}

pub(crate) async fn put_all(
    connection: &mut Connection,
    sessions: &[Session],
) -> Result<(), Error> {
    for chunk in sessions.chunks(ROWS_PER_STATEMENT) {
        let mut sql = Sql::new("INSERT INTO @session (owner, id, expires_at_s, body) VALUES ");
        for (at, session) in chunk.iter().enumerate() {
            sql = row(sql.raw(if at > 0 { ", " } else { "" }), session);
        }
        let sql = sql.raw(
            " ON CONFLICT (owner, id) DO UPDATE SET \
             expires_at_s = excluded.expires_at_s, body = excluded.body",
        );
        connection.execute(sql).await?;
    }
    Ok(())
}

pub(crate) async fn replace(
    connection: &mut Connection,
    session: &Session,
    old: Option<&serde_json::Value>,
) -> Result<bool, Error> {
    let sql = if let Some(old) = old {
        Sql::new("UPDATE @session SET expires_at_s = ")
            .int(session.expires_at_s)
            .raw(", body = ")
            .body(session.body.to_string())
            .raw(" WHERE owner = ")
            .text(&session.owner)
            .raw(" AND id = ")
            .text(&session.id)
            .raw(" AND body = ")
            .body(old.to_string())
    } else {
        let sql = Sql::new("INSERT INTO @session (owner, id, expires_at_s, body) VALUES ");
        row(sql, session).raw(" ON CONFLICT (owner, id) DO NOTHING")
    };
    Ok(connection.execute(sql).await? > 0)
}

pub(crate) async fn get(
    connection: &mut Connection,
    owner: &str,
    id: &str,
    now_s: i64,
) -> Result<Option<Session>, Error> {
    let sql = Sql::new("SELECT owner, id, expires_at_s, body FROM @session WHERE owner = ")
        .text(owner)
        .raw(" AND id = ")
        .text(id)
        .raw(" AND expires_at_s > ")
        .int(now_s);
    connection.one(sql, read).await
}

pub(crate) async fn of_owner(
    connection: &mut Connection,
    owner: &str,
    now_s: i64,
) -> Result<Vec<Session>, Error> {
    let sql = Sql::new("SELECT owner, id, expires_at_s, body FROM @session WHERE owner = ")
        .text(owner)
        .raw(" AND expires_at_s > ")
        .int(now_s)
        .raw(" ORDER BY id LIMIT ")
        .int(LISTED_MAX);
    connection.all(sql, read).await
}

fn read(row: &Row) -> Result<Session, Error> {
    Ok(Session {
        owner: row.text(0)?,
        id: row.text(1)?,
        expires_at_s: row.int(2)?,
        body: row.json(3)?,
    })
}

pub(crate) async fn delete(
    connection: &mut Connection,
    owner: &str,
    id: &str,
) -> Result<bool, Error> {
    let sql = Sql::new("DELETE FROM @session WHERE owner = ")
        .text(owner)
        .raw(" AND id = ")
        .text(id);
    if sql.is_unstorable() {
        return Ok(false);
    }
    Ok(connection.execute(sql).await? > 0)
}

pub(crate) async fn expire(connection: &mut Connection, now_s: i64) -> Result<u64, Error> {
    let sql = Sql::new(
        "DELETE FROM @session WHERE (owner, id) IN \
         (SELECT owner, id FROM @session WHERE expires_at_s < ",
    )
    .int(now_s)
    .raw(" ORDER BY expires_at_s LIMIT ")
    .int(EXPIRED_PER_CALL)
    .raw(")");
    connection.execute(sql).await
}

/// The first text after all that start with `prefix`, which is ASCII.
fn end_of(prefix: &str) -> String {
    format!("{prefix}\u{10ffff}")
}

/// ` FROM … WHERE …` of a query, its rows called `i`.
fn matching<'a>(sql: Sql<'a>, query: &SessionQuery<'a>, postgres: bool) -> Sql<'a> {
    let mut sql = sql
        .raw(" FROM @session i WHERE i.owner = ")
        .text(query.owner)
        .raw(" AND i.id >= ")
        .text(query.from.unwrap_or(query.prefix))
        .raw(" AND i.id < ")
        .text(end_of(query.prefix))
        .raw(" AND i.expires_at_s > ")
        .int(query.now_s);
    if let Some(until) = query.until {
        sql = sql.raw(" AND i.id < ").text(until);
    }
    filter::hold(sql, &query.filters, &Place::body("i", None, postgres))
}

fn page<'a>(sql: Sql<'a>, query: &SessionQuery<'a>) -> Sql<'a> {
    sql.raw(if query.newest_first {
        " ORDER BY i.id DESC LIMIT "
    } else {
        " ORDER BY i.id LIMIT "
    })
    .int(i64::from(query.limit))
    .raw(" OFFSET ")
    .int(i64::from(query.skip))
}

pub(crate) async fn list(
    connection: &mut Connection,
    query: &SessionQuery<'_>,
) -> Result<Vec<Session>, Error> {
    let sql = Sql::new("SELECT i.owner, i.id, i.expires_at_s, i.body");
    let sql = page(matching(sql, query, connection.is_postgres()), query);
    connection.all(sql, read).await
}

pub(crate) async fn named(
    connection: &mut Connection,
    query: &SessionQuery<'_>,
) -> Result<Vec<Session>, Error> {
    let length = i64::try_from(query.prefix.len()).unwrap_or(i64::MAX);
    let sql = Sql::new("SELECT s.owner, s.id, s.expires_at_s, s.body FROM (SELECT i.id");
    let sql = page(matching(sql, query, connection.is_postgres()), query)
        .raw(") i JOIN @session s ON s.id = substr(i.id, CAST(")
        .int(length.saturating_add(1))
        .raw(" AS int)) WHERE s.owner = ")
        .text(query.owner)
        .raw(" AND s.expires_at_s > ")
        .int(query.now_s)
        .raw(if query.newest_first {
            " ORDER BY i.id DESC"
        } else {
            " ORDER BY i.id"
        });
    connection.all(sql, read).await
}

pub(crate) async fn count(
    connection: &mut Connection,
    query: &SessionQuery<'_>,
) -> Result<u64, Error> {
    let sql = matching(Sql::new("SELECT count(*)"), query, connection.is_postgres());
    let count = connection.one(sql, |row| row.int(0)).await?.unwrap_or(0);
    Ok(u64::try_from(count).unwrap_or_default())
}

pub(crate) async fn count_by(
    connection: &mut Connection,
    query: &SessionQuery<'_>,
    length: u32,
) -> Result<Vec<(String, u64)>, Error> {
    let start = query.prefix.len().saturating_add(1);
    // Numbers of ours, in the text so that both places are the same expression.
    let part = format!("substr(i.id, {start}, {length})");
    let sql = Sql::new(&format!("SELECT {part}, count(*)"));
    let sql = matching(sql, query, connection.is_postgres())
        .raw(&format!(" GROUP BY {part} ORDER BY {part}"));
    let read = |row: &Row| {
        let count = u64::try_from(row.int(1)?).unwrap_or_default();
        Ok((row.text(0)?, count))
    };
    connection.all(sql, read).await
}

pub(crate) async fn delete_all(
    connection: &mut Connection,
    owner: &str,
    ids: &[String],
) -> Result<u64, Error> {
    let mut deleted = 0;
    for chunk in ids.chunks(ROWS_PER_STATEMENT) {
        let sql = Sql::new("DELETE FROM @session WHERE owner = ")
            .text(owner)
            .raw(" AND id IN (")
            .list(chunk, |sql, id| sql.text(id.clone()))
            .raw(")");
        if !sql.is_unstorable() {
            deleted += connection.execute(sql).await?;
        }
    }
    Ok(deleted)
}

pub(crate) async fn clear(
    connection: &mut Connection,
    owner: &str,
    prefix: &str,
) -> Result<u64, Error> {
    let sql = Sql::new("DELETE FROM @session WHERE owner = ")
        .text(owner)
        .raw(" AND id >= ")
        .text(prefix)
        .raw(" AND id < ")
        .text(end_of(prefix));
    if sql.is_unstorable() {
        return Ok(0);
    }
    connection.execute(sql).await
}
