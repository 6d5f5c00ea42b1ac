//! Reading objects, tags and changes.
//!
//! A page is always read along an index that is ordered by what the page is ordered by. Tags and
//! references are such indexes: of several the one with the fewest entries leads, and the others are
//! looked up for each of its entries.

use crate::connection::{Connection, Row};
use crate::filter;
use crate::sql::Sql;
use crate::{Change, Changes, Error, Everything, Query, Record, Tagged, Tags};

/// Entries counted at most to find the rarest of several conditions.
const RARITY_SAMPLE: i64 = 2000;

const COLUMNS: &str = "o.kind, o.id, o.owner, o.version, o.body";

fn record(row: &Row) -> Result<Record, Error> {
    Ok(Record {
        kind: row.text(0)?,
        id: row.text(1)?,
        owner: row.text(2)?,
        version: row.int(3)?,
        body: row.json(4)?,
    })
}

pub(crate) async fn get(
    connection: &mut Connection,
    kind: &str,
    id: &str,
) -> Result<Option<Record>, Error> {
    let sql = Sql::new(&format!("SELECT {COLUMNS} FROM @object o WHERE o.kind = "))
        .text(kind)
        .raw(" AND o.id = ")
        .text(id);
    connection.one(sql, record).await
}

pub(crate) async fn get_by_key(
    connection: &mut Connection,
    kind: &str,
    owner: &str,
    key: &str,
    value: &str,
) -> Result<Option<Record>, Error> {
    let sql = Sql::new(&format!(
        "SELECT {COLUMNS} FROM @object_key k CROSS JOIN @object o \
         WHERE o.kind = k.kind AND o.id = k.id AND k.kind = "
    ))
    .text(kind)
    .raw(" AND k.owner = ")
    .text(owner)
    .raw(" AND k.name = ")
    .text(key)
    .raw(" AND k.value = ")
    .text(value);
    connection.one(sql, record).await
}

/// A condition that an index ordered by id answers.
#[derive(Clone, Copy)]
enum Condition<'a> {
    Tag(&'a str),
    Reference { field: &'a str, id: &'a str },
}

impl<'a> Condition<'a> {
    const fn table(self) -> &'static str {
        match self {
            Self::Tag(_) => "object_tag",
            Self::Reference { .. } => "object_reference",
        }
    }

    /// What holds for its rows, which are called `alias`.
    fn holds(self, sql: Sql<'a>, alias: &str) -> Sql<'a> {
        match self {
            Self::Tag(tag) => sql.raw(&format!("{alias}.tag = ")).text(tag),
            Self::Reference { field, id } => sql
                .raw(&format!("{alias}.field = "))
                .text(field)
                .raw(&format!(" AND {alias}.target_id = "))
                .text(id),
        }
    }

    /// An additional condition on the object that `alias` stands for.
    fn exists(self, sql: Sql<'a>, alias: &str) -> Sql<'a> {
        let table = self.table();
        let sql = sql.raw(&format!(
            " AND EXISTS (SELECT 1 FROM @{table} c \
             WHERE c.kind = {alias}.kind AND c.id = {alias}.id AND "
        ));
        self.holds(sql, "c").raw(")")
    }
}

/// Conditions of a query: every one of `all`, and one of `any` when there are some.
struct Conditions<'a> {
    all: Vec<Condition<'a>>,
    any: Option<Vec<Condition<'a>>>,
}

impl<'a> Conditions<'a> {
    fn of(query: &Query<'a>) -> Self {
        let reference = query
            .reference
            .map(|(field, id)| Condition::Reference { field, id });
        let mut all: Vec<_> = reference.into_iter().collect();
        let mut any = None;
        let tag = |tag: &&'a str| Condition::Tag(tag);
        match &query.tags {
            Tags::Any => {}
            Tags::All(tags) => all.extend(tags.iter().map(tag)),
            Tags::OneOf(tags) => any = Some(tags.iter().map(tag).collect()),
        }
        Self { all, any }
    }

    /// Puts the rarest condition first.
    async fn order(mut self, connection: &mut Connection, kind: &'a str) -> Result<Self, Error> {
        if self.any.is_some() || self.all.len() < 2 {
            return Ok(self);
        }
        let mut sql = Sql::new("SELECT ");
        sql = sql.list(&self.all, |sql, condition| {
            let table = condition.table();
            let sql = sql
                .raw(&format!(
                    "(SELECT count(*) FROM (SELECT 1 FROM @{table} c WHERE c.kind = "
                ))
                .text(kind)
                .raw(" AND ");
            condition
                .holds(sql, "c")
                .raw(" LIMIT ")
                .int(RARITY_SAMPLE)
                .raw(") s)")
        });
        let columns = self.all.len();
        let counts = connection.one(sql, |row| (0..columns).map(|at| row.int(at)).collect());
        let counts: Vec<i64> = counts.await?.unwrap_or_default();
        let rarest = counts
            .iter()
            .enumerate()
            .min_by_key(|(_, count)| **count)
            .map_or(0, |(at, _)| at);
        self.all.swap(0, rarest);
        Ok(self)
    }
}

pub(crate) async fn list(
    connection: &mut Connection,
    query: &Query<'_>,
) -> Result<Vec<Record>, Error> {
    if query.limit == 0 || matches!(&query.tags, Tags::OneOf(tags) if tags.is_empty()) {
        return Ok(Vec::new());
    }
    let conditions = Conditions::of(query).order(connection, query.kind).await?;
    let select = format!("SELECT {COLUMNS}");
    let postgres = connection.is_postgres();
    let sql = match (query.by_key, &conditions.any) {
        (Some(key), _) => {
            let mut sql = by_key(Sql::new(&select), query, key, &conditions, postgres);
            if let Some(after) = query.after {
                sql = sql.raw(" AND k.value > ").text(after);
            }
            sql.raw(" ORDER BY k.value, k.owner")
        }
        (None, None) => {
            let order = format!(" ORDER BY {}.id", lead(&conditions.all));
            by_id(
                Sql::new(&select),
                query,
                &conditions.all,
                query.after,
                postgres,
            )
            .raw(&order)
        }
        (None, Some(any)) => {
            // Each branch need not give more than the whole page.
            let most = i64::from(query.skip) + i64::from(query.limit);
            let sql = Sql::new(&format!("{select} FROM ("));
            union(sql, query, any, &conditions.all, Some(most), postgres)
                .raw(") m CROSS JOIN @object o WHERE o.id = m.id AND o.kind = ")
                .text(query.kind)
                .raw(" ORDER BY m.id")
        }
    };
    let sql = sql
        .raw(" LIMIT ")
        .int(i64::from(query.limit))
        .raw(" OFFSET ")
        .int(i64::from(query.skip));
    connection.all(sql, record).await
}

pub(crate) async fn count(connection: &mut Connection, query: &Query<'_>) -> Result<u64, Error> {
    if matches!(&query.tags, Tags::OneOf(tags) if tags.is_empty()) {
        return Ok(0);
    }
    let conditions = Conditions::of(query).order(connection, query.kind).await?;
    let sql = Sql::new("SELECT count(*)");
    let postgres = connection.is_postgres();
    let sql = match (query.by_key, &conditions.any) {
        (Some(key), _) => by_key(sql, query, key, &conditions, postgres),
        (None, None) => by_id(sql, query, &conditions.all, None, postgres),
        (None, Some(any)) => union(
            sql.raw(" FROM ("),
            query,
            any,
            &conditions.all,
            None,
            postgres,
        )
        .raw(") m"),
    };
    let count = connection.one(sql, |row| row.int(0)).await?.unwrap_or(0);
    Ok(u64::try_from(count).unwrap_or_default())
}

/// What the rows that lead are called: those of the first condition, or the objects themselves.
const fn lead(all: &[Condition<'_>]) -> &'static str {
    if all.is_empty() { "o" } else { "d" }
}

/// `FROM … WHERE …` along the rows that lead.
fn by_id<'a>(
    sql: Sql<'a>,
    query: &Query<'a>,
    all: &[Condition<'a>],
    after: Option<&'a str>,
    postgres: bool,
) -> Sql<'a> {
    let lead = lead(all);
    let mut sql = match all.split_first() {
        None => sql.raw(" FROM @object o WHERE o.kind = ").text(query.kind),
        Some((first, rest)) => {
            let table = first.table();
            let sql = sql
                .raw(&format!(
                    " FROM @{table} d CROSS JOIN @object o \
                     WHERE o.kind = d.kind AND o.id = d.id AND d.kind = "
                ))
                .text(query.kind)
                .raw(" AND ");
            rest.iter()
                .fold(first.holds(sql, "d"), |sql, other| other.exists(sql, "d"))
        }
    };
    if let Some(owner) = query.owner {
        sql = sql.raw(" AND o.owner = ").text(owner);
    }
    if let Some(after) = after {
        sql = sql.raw(&format!(" AND {lead}.id > ")).text(after);
    }
    filter::hold(sql, &query.filters, "o", postgres)
}

/// The ids that fulfil one of `any` and all of `all`, each once, as a column `id`.
fn union<'a>(
    sql: Sql<'a>,
    query: &Query<'a>,
    any: &[Condition<'a>],
    all: &[Condition<'a>],
    most: Option<i64>,
    postgres: bool,
) -> Sql<'a> {
    let mut sql = sql;
    for (at, one) in any.iter().enumerate() {
        let conditions: Vec<_> = std::iter::once(*one).chain(all.iter().copied()).collect();
        let joint = if at > 0 { " UNION " } else { "" };
        sql = sql.raw(&format!("{joint}SELECT id FROM (SELECT d.id"));
        let after = most.and(query.after);
        sql = by_id(sql, query, &conditions, after, postgres);
        if let Some(most) = most {
            sql = sql.raw(" ORDER BY d.id LIMIT ").int(most);
        }
        sql = sql.raw(&format!(") b{at}"));
    }
    sql
}

/// `FROM … WHERE …` along the values of a key, which are called `k`.
fn by_key<'a>(
    sql: Sql<'a>,
    query: &Query<'a>,
    key: &'a str,
    conditions: &Conditions<'a>,
    postgres: bool,
) -> Sql<'a> {
    let mut sql = sql
        .raw(
            " FROM @object_key k CROSS JOIN @object o \
             WHERE o.kind = k.kind AND o.id = k.id AND k.kind = ",
        )
        .text(query.kind)
        .raw(" AND k.name = ")
        .text(key);
    if let Some(owner) = query.owner {
        sql = sql.raw(" AND k.owner = ").text(owner);
    }
    if let Some(search) = query.search {
        sql = sql
            .raw(" AND k.folded LIKE ")
            .text(contains_pattern(search))
            .raw(" ESCAPE '\\'");
    }
    sql = conditions
        .all
        .iter()
        .fold(sql, |sql, condition| condition.exists(sql, "k"));
    if let Some(any) = &conditions.any {
        let tags: Vec<&str> = any
            .iter()
            .filter_map(|condition| match condition {
                Condition::Tag(tag) => Some(*tag),
                Condition::Reference { .. } => None,
            })
            .collect();
        sql = sql
            .raw(" AND EXISTS (SELECT 1 FROM @object_tag c WHERE c.kind = k.kind AND c.id = k.id AND c.tag IN (")
            .list(&tags, |sql, tag| sql.text(*tag))
            .raw("))");
    }
    filter::hold(sql, &query.filters, "o", postgres)
}

/// A LIKE pattern for folded text that contains `search`.
fn contains_pattern(search: &str) -> String {
    let mut pattern = String::from("%");
    for character in search.to_lowercase().chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

pub(crate) async fn tagged(
    connection: &mut Connection,
    tag: Option<&str>,
    after: Option<&Tagged>,
    limit: u32,
) -> Result<Vec<Tagged>, Error> {
    let mut sql = Sql::new("SELECT kind, id, tag FROM @object_tag WHERE 1 = 1");
    if let Some(tag) = tag {
        sql = sql.raw(" AND tag = ").text(tag);
    }
    if let Some(after) = after {
        sql = sql
            .raw(" AND (tag, kind, id) > (")
            .text(&after.tag)
            .raw(", ")
            .text(&after.kind)
            .raw(", ")
            .text(&after.id)
            .raw(")");
    }
    let sql = sql
        .raw(" ORDER BY tag, kind, id LIMIT ")
        .int(i64::from(limit));
    connection
        .all(sql, |row| {
            Ok(Tagged {
                kind: row.text(0)?,
                id: row.text(1)?,
                tag: row.text(2)?,
            })
        })
        .await
}

pub(crate) async fn everything(
    connection: &mut Connection,
    kinds: &[&str],
) -> Result<Everything, Error> {
    // Nobody writes beside the only connection, and a transaction on it that is dropped would stay open.
    let alone = connection.is_exclusive();
    if !alone {
        let begin = if connection.is_postgres() {
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        } else {
            "BEGIN"
        };
        connection.begin(begin).await?;
    }
    let version = version(connection).await?;
    let mut kinds = kinds.to_vec();
    kinds.sort_unstable();
    kinds.dedup();
    let mut records = Vec::new();
    for kind in kinds {
        let sql = Sql::new(&format!("SELECT {COLUMNS} FROM @object o WHERE o.kind = "))
            .text(kind)
            .raw(" ORDER BY o.id");
        connection
            .each(sql, |row| {
                records.push(record(row)?);
                Ok(())
            })
            .await?;
    }
    if !alone {
        connection.commit().await?;
    }
    Ok(Everything { version, records })
}

pub(crate) async fn version(connection: &mut Connection) -> Result<i64, Error> {
    let sql = Sql::new("SELECT version FROM @position");
    let version = connection.one(sql, |row| row.int(0)).await?;
    version.ok_or_else(|| Error::invalid("the log has no position"))
}

pub(crate) async fn changes_since(
    connection: &mut Connection,
    version: i64,
) -> Result<Changes, Error> {
    // The changes first: what is pruned in between moves the horizon, which is read after them.
    let sql = Sql::new("SELECT version, kind, id, owner, deleted FROM @change WHERE version > ")
        .int(version)
        .raw(" ORDER BY version");
    let changes = connection
        .all(sql, |row| {
            Ok(Change {
                version: row.int(0)?,
                kind: row.text(1)?,
                id: row.text(2)?,
                owner: row.text(3)?,
                deleted: row.int(4)? != 0,
            })
        })
        .await?;
    let sql = Sql::new("SELECT version, horizon FROM @position");
    let position = connection.one(sql, |row| Ok((row.int(0)?, row.int(1)?)));
    let (newest, horizon) = position.await?.unwrap_or_default();
    // A version that the database has not reached is that of another database or an older copy.
    if version < horizon || version > newest {
        return Ok(Changes::Truncated);
    }
    Ok(Changes::Since(changes))
}
