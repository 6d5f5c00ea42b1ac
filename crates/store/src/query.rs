//! Reading objects, tags and changes.
//!
//! A page is always read along an index that is ordered by what the page is ordered by. Tags and
//! references are such indexes: of several the one with the fewest entries leads, and the others are
//! looked up for each of its entries.

use std::collections::BTreeSet;

use tokio::sync::mpsc::Sender;

use crate::connection::{Connection, Row};
use crate::filter;
use crate::sql::{Column, Sql};
use crate::{Change, Changes, Error, Everything, News, Query, Record, Stored, Tagged, Tags};

/// Entries counted at most to find the rarest of several conditions: one of them is rare mostly.
const RARITY_SAMPLES: [i64; 2] = [50, 2000];

/// Changes listed at once for who wants all of them.
const CHANGES_MAX: i64 = 100_000;

/// Changes looked through at once.
const CHANGES_PER_READ: i64 = 5000;

/// Objects handed on together.
const BATCH: usize = 256;

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
        for sample in RARITY_SAMPLES {
            let counts = self.counts(connection, kind, sample).await?;
            let rarest = counts.iter().enumerate().min_by_key(|(_, count)| **count);
            let Some((at, count)) = rarest else {
                break;
            };
            if *count < sample || Some(&sample) == RARITY_SAMPLES.last() {
                self.all.swap(0, at);
                break;
            }
        }
        Ok(self)
    }

    /// How many entries each has, counted up to `most`.
    async fn counts(
        &self,
        connection: &mut Connection,
        kind: &'a str,
        most: i64,
    ) -> Result<Vec<i64>, Error> {
        let sql = Sql::new("SELECT ").list(&self.all, |sql, condition| {
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
                .int(most)
                .raw(") s)")
        });
        let columns = self.all.len();
        let counts = connection.one(sql, |row| (0..columns).map(|at| row.int(at)).collect());
        Ok(counts.await?.unwrap_or_default())
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
        (Some(key), _) if query.filters.is_empty() => {
            // What is skipped is skipped among the keys: no object of it is looked up.
            let page = Sql::new(&format!(
                "{select} FROM (SELECT k.kind, k.id, k.value, k.owner"
            ));
            let page = after_value(
                keys(page, " FROM @object_key k", query, key, &conditions),
                query,
            );
            let page = limited(page.raw(" ORDER BY k.value, k.owner"), query);
            let page = page.raw(
                ") k CROSS JOIN @object o WHERE o.kind = k.kind AND o.id = k.id \
                 ORDER BY k.value, k.owner",
            );
            return connection.all(page, record).await;
        }
        (Some(key), _) => {
            let sql = by_key(Sql::new(&select), query, key, &conditions, postgres);
            after_value(sql, query).raw(" ORDER BY k.value, k.owner")
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
    connection.all(limited(sql, query), record).await
}

fn after_value<'a>(sql: Sql<'a>, query: &Query<'a>) -> Sql<'a> {
    match query.after {
        Some(after) => sql.raw(" AND k.value > ").text(after),
        None => sql,
    }
}

fn limited<'a>(sql: Sql<'a>, query: &Query<'a>) -> Sql<'a> {
    sql.raw(" LIMIT ")
        .int(i64::from(query.limit))
        .raw(" OFFSET ")
        .int(i64::from(query.skip))
}

pub(crate) async fn count(connection: &mut Connection, query: &Query<'_>) -> Result<u64, Error> {
    if matches!(&query.tags, Tags::OneOf(tags) if tags.is_empty()) {
        return Ok(0);
    }
    let conditions = Conditions::of(query).order(connection, query.kind).await?;
    let sql = Sql::new("SELECT count(*)");
    let postgres = connection.is_postgres();
    let sql = match (query.by_key, &conditions.any) {
        (Some(key), _) if query.filters.is_empty() => {
            keys(sql, " FROM @object_key k", query, key, &conditions)
        }
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
    let from = " FROM @object_key k CROSS JOIN @object o";
    let sql = keys(sql, from, query, key, conditions);
    let sql = sql.raw(" AND o.kind = k.kind AND o.id = k.id");
    filter::hold(sql, &query.filters, "o", postgres)
}

/// The entries of a key for which every condition holds but those on bodies.
fn keys<'a>(
    sql: Sql<'a>,
    from: &str,
    query: &Query<'a>,
    key: &'a str,
    conditions: &Conditions<'a>,
) -> Sql<'a> {
    let mut sql = sql
        .raw(from)
        .raw(" WHERE k.kind = ")
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
    sql
}

/// Which of the prefixes some value of the key has, in the order given.
pub(crate) async fn occurring(
    connection: &mut Connection,
    kind: &str,
    key: &str,
    prefixes: &[&str],
) -> Result<Vec<bool>, Error> {
    if prefixes.is_empty() {
        return Ok(Vec::new());
    }
    // The first value from a prefix on begins with it, or none does. One subquery for all of them is
    // planned once.
    let sql =
        Sql::new("SELECT v.column1, COALESCE((SELECT k.value FROM @object_key k WHERE k.kind = ")
            .text(kind)
            .raw(" AND k.name = ")
            .text(key)
            .raw(" AND k.value >= v.column1 ORDER BY k.value LIMIT 1), '') FROM (")
            .rows([Column::text(prefixes.iter().copied())])
            .raw(") v");
    let rows = connection.all(sql, |row| {
        let (prefix, first) = (row.text(0)?, row.text(1)?);
        Ok((first.starts_with(&prefix), prefix))
    });
    let rows = rows.await?;
    let occurs = |prefix: &&str| rows.iter().any(|(found, it)| *found && it == *prefix);
    Ok(prefixes.iter().map(occurs).collect())
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

/// Sends every object: those of the kinds `first`, then those of `rest`, each in no order; gives the
/// version they are consistent with. Ends early when nobody receives any more.
pub(crate) async fn scan(
    connection: &mut Connection,
    first: &[&str],
    rest: &[&str],
    into: &Sender<Vec<Stored>>,
) -> Result<i64, Error> {
    let position = begin_reading(connection).await?;
    let is_postgres = connection.is_postgres();
    let of_kinds = |plus: &str, kinds: &[&str]| {
        Sql::new(&format!(
            "SELECT o.kind, o.id, o.version, o.body FROM @object o WHERE {plus}o.kind IN ("
        ))
        .list(kinds, |sql, kind| sql.text((*kind).to_owned()))
        .raw(")")
    };
    let mut whole = first.is_empty()
        || connection
            .send(of_kinds("", first), BATCH, document, into)
            .await?;
    if whole && !rest.is_empty() {
        // Nearly everything is wanted, so the table is read from front to back.
        if is_postgres {
            let settings = "SET LOCAL enable_seqscan = on; SET LOCAL enable_indexscan = off";
            connection.script(settings).await?;
        }
        // A plus keeps SQLite from using an index.
        let plus = if is_postgres { "" } else { "+" };
        let sql = of_kinds(plus, rest);
        whole = connection.send(sql, BATCH, document, into).await?;
    }
    // A transaction that ends early is given up with its connection: reading the rest would take longer.
    if whole {
        end_reading(connection).await?;
    }
    Ok(position.0)
}

/// Starts a transaction that sees one state; gives the newest version and the horizon of the log.
async fn begin_reading(connection: &mut Connection) -> Result<(i64, i64), Error> {
    let select = "SELECT version, horizon FROM @position";
    let map = |row: &Row| Ok((row.int(0)?, row.int(1)?));
    let position = if connection.is_exclusive() {
        // Nobody writes beside the only connection, and a transaction on it that is dropped would stay
        // open.
        connection.one(Sql::new(select), map).await?
    } else {
        let begin = if connection.is_postgres() {
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        } else {
            "BEGIN"
        };
        connection
            .begin_reading(&format!("{begin}; {select}"), map)
            .await?
    };
    position.ok_or_else(|| Error::invalid("the log has no position"))
}

async fn end_reading(connection: &mut Connection) -> Result<(), Error> {
    if connection.is_exclusive() {
        return Ok(());
    }
    connection.commit().await
}

/// What happened to objects of these kinds after `version`, seen in one state.
pub(crate) async fn news(
    connection: &mut Connection,
    version: i64,
    kinds: &[&str],
    most: usize,
) -> Result<News, Error> {
    let (newest, horizon) = begin_reading(connection).await?;
    // A version that the database has not reached is that of another database or an older copy.
    if version < horizon || version > newest {
        end_reading(connection).await?;
        return Ok(News::Truncated);
    }
    // The log may be much longer than what changed.
    let mut changed = BTreeSet::new();
    let mut seen = version;
    while seen < newest {
        let sql = Sql::new("SELECT version, kind, id FROM @change WHERE version > ")
            .int(seen)
            .raw(" ORDER BY version LIMIT ")
            .int(CHANGES_PER_READ);
        let changes = connection.all(sql, |row| Ok((row.int(0)?, row.text(1)?, row.text(2)?)));
        let changes = changes.await?;
        seen = changes.last().map_or(newest, |(version, _, _)| *version);
        let relevant = changes.into_iter();
        let relevant = relevant.filter(|(_, kind, _)| kinds.contains(&kind.as_str()));
        changed.extend(relevant.map(|(_, kind, id)| (kind, id)));
        if changed.len() > most {
            end_reading(connection).await?;
            return Ok(News::Truncated);
        }
    }
    let names: Vec<_> = changed
        .iter()
        .map(|(kind, id)| (kind.as_str(), id.as_str()))
        .collect();
    let present = documents(connection, &names).await?;
    end_reading(connection).await?;
    for stored in &present {
        changed.remove(&(stored.kind.clone(), stored.id.clone()));
    }
    Ok(News::Since {
        version: newest,
        present,
        gone: changed.into_iter().collect(),
    })
}

/// Those of the objects that exist, in no order.
async fn documents(
    connection: &mut Connection,
    objects: &[(&str, &str)],
) -> Result<Vec<Stored>, Error> {
    let mut found = Vec::with_capacity(objects.len());
    for objects in objects.chunks(BATCH) {
        let sql = Sql::new("SELECT o.kind, o.id, o.version, o.body FROM (")
            .rows([
                Column::text(objects.iter().map(|(kind, _)| *kind)),
                Column::text(objects.iter().map(|(_, id)| *id)),
            ])
            .raw(") v CROSS JOIN @object o WHERE o.kind = v.column1 AND o.id = v.column2");
        found.extend(connection.all(sql, document).await?);
    }
    Ok(found)
}

fn document(row: &Row) -> Result<Stored, Error> {
    Ok(Stored {
        kind: row.text(0)?,
        id: row.text(1)?,
        version: row.int(2)?,
        body: row.text(3)?,
    })
}

pub(crate) async fn version(connection: &mut Connection) -> Result<i64, Error> {
    let sql = Sql::new("SELECT version FROM @position");
    let version = connection.one(sql, |row| row.int(0)).await?;
    version.ok_or_else(|| Error::invalid("the log has no position"))
}

/// Everything that changed after `version`, unless that is more than can be listed.
pub(crate) async fn changes_since(
    connection: &mut Connection,
    version: i64,
) -> Result<Changes, Error> {
    // The changes first: what is pruned in between moves the horizon, which is read after them.
    let sql = Sql::new("SELECT version, kind, id, owner, deleted FROM @change WHERE version > ")
        .int(version)
        .raw(" ORDER BY version LIMIT ")
        .int(CHANGES_MAX + 1);
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
    let too_many = i64::try_from(changes.len()).unwrap_or(i64::MAX) > CHANGES_MAX;
    if version < horizon || version > newest || too_many {
        return Ok(Changes::Truncated);
    }
    Ok(Changes::Since(changes))
}
