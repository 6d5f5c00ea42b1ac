//! Sessions. They are not part of the change log: nothing is derived from them.

use crate::connection::{Connection, Row};
use crate::sql::Sql;
use crate::{Error, Session};

/// Sessions deleted by one call of the clean-up.
const EXPIRED_PER_CALL: i64 = 1000;

/// Sessions of one owner that are listed.
const LISTED_MAX: i64 = 1000;

pub(crate) async fn put(connection: &mut Connection, session: &Session) -> Result<(), Error> {
    let sql = Sql::new("INSERT INTO @session (owner, id, expires_at_s, body) VALUES (")
        .text(&session.owner)
        .raw(", ")
        .text(&session.id)
        .raw(", ")
        .int(session.expires_at_s)
        .raw(", ")
        .body(session.body.to_string())
        .raw(
            ") ON CONFLICT (owner, id) DO UPDATE SET \
             expires_at_s = excluded.expires_at_s, body = excluded.body",
        );
    connection.execute(sql).await.map(drop)
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
