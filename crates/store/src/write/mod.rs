//! Writing: every step of a batch in one transaction that no other writer runs beside.
//!
//! Statements skip what is taken or missing instead of failing, and count: only when a count is short is
//! the culprit looked up. The database's constraints stand behind that and are never reached.

mod attach;
mod delete;

use std::collections::HashSet;

use crate::connection::Connection;
use crate::database::Position;
use crate::sql::{Column, Sql};
use crate::{Error, Object, Write};

/// Rows of one statement.
const ROWS_PER_STATEMENT: usize = 500;

/// Changes by which the log is longer than it must be before it is cut: rarely enough to cost nothing.
const PRUNE_STEP: i64 = 256;

/// Changes that are cut off at once: few enough not to be felt by who waits for the write.
const PRUNE_MAX: i64 = 1024;

/// What the log keeps: what it is to be cut at is older and further back than both.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention {
    /// Changes.
    pub(crate) changes: i64,
    /// Seconds.
    pub(crate) age_s: i64,
}

struct ChangedObject {
    version: i64,
    kind: String,
    id: String,
    owner: String,
    deleted: bool,
}

struct Batch<'c> {
    connection: &'c mut Connection,
    version: i64,
    changes: Vec<ChangedObject>,
}

/// Runs the steps inside the transaction that `connection` is in; gives the version after them.
pub(crate) async fn run(
    connection: &mut Connection,
    steps: &[Write],
    position: &Position,
    retention: Retention,
    channel: &str,
) -> Result<i64, Error> {
    let mut batch = Batch {
        connection,
        version: position.version,
        changes: Vec::new(),
    };
    let mut left = steps;
    while let Some((step, rest)) = left.split_first() {
        left = rest;
        match step {
            Write::Insert(first) => {
                let group = insertable(first, rest);
                left = rest.get(group.len() - 1..).unwrap_or_default();
                batch.insert(&group).await?;
            }
            Write::Update { object, if_version } => batch.update(object, *if_version).await?,
            Write::Upsert(object) => batch.upsert(object).await?,
            Write::Delete { kind, id } => batch.delete(kind, id).await?,
        }
    }
    if batch.version > position.version {
        batch.record(position, retention, channel).await?;
    }
    Ok(batch.version)
}

/// The insertions from `first` on that can be made together: of one kind, and none points to another
/// one of them, for which the order would count.
fn insertable<'a>(first: &'a Object, rest: &'a [Write]) -> Vec<&'a Object> {
    let mut ids = HashSet::from([first.id.as_str()]);
    let mut group = vec![first];
    for step in rest.iter().take(ROWS_PER_STATEMENT - 1) {
        let Write::Insert(object) = step else {
            break;
        };
        let mut references = object.references.iter();
        let points = references.any(|it| it.kind == object.kind && ids.contains(it.id.as_str()));
        // An object of the group that points to this one must not find it there.
        let is_target = |other: &&Object| {
            let mut references = other.references.iter();
            references.any(|it| it.kind == object.kind && it.id == object.id)
        };
        if object.kind != first.kind || points || group.iter().any(is_target) {
            break;
        }
        ids.insert(&object.id);
        group.push(object);
    }
    group
}

impl Batch<'_> {
    /// Creates objects of one kind.
    async fn insert(&mut self, objects: &[&Object]) -> Result<(), Error> {
        let mut versions = Vec::with_capacity(objects.len());
        for object in objects {
            versions.push(self.change(object.kind, &object.id, &object.owner, false));
        }
        let all = || objects.iter();
        let sql = Sql::new("INSERT INTO @object (kind, id, owner, version, body) ")
            .rows([
                Column::text(all().map(|it| it.kind)),
                Column::text(all().map(|it| it.id.as_str())),
                Column::text(all().map(|it| it.owner.as_str())),
                Column::Int(versions.clone()),
                Column::body(all().map(|it| it.body.to_string())),
            ])
            .raw(" ON CONFLICT (kind, id) DO NOTHING");
        if self.connection.execute(sql).await? < count(objects.len()) {
            return Err(self.duplicate_id(objects, &versions).await?);
        }
        self.attach(objects).await
    }

    /// Which of the objects has an id that another one has: those that were stored have our versions.
    async fn duplicate_id(
        &mut self,
        objects: &[&Object],
        versions: &[i64],
    ) -> Result<Error, Error> {
        for (object, version) in objects.iter().zip(versions) {
            let sql = Sql::new("SELECT version FROM @object WHERE kind = ")
                .text(object.kind)
                .raw(" AND id = ")
                .text(&object.id);
            let stored = self.connection.one(sql, |row| row.int(0)).await?;
            if stored != Some(*version) {
                return Ok(Error::DuplicateId {
                    kind: object.kind.to_owned(),
                    id: object.id.clone(),
                });
            }
        }
        Ok(Error::invalid("an id was refused but nobody has it"))
    }

    async fn update(&mut self, object: &Object, if_version: Option<i64>) -> Result<(), Error> {
        if !self.try_update(object, if_version).await? {
            return Err(Error::Conflict {
                kind: object.kind.to_owned(),
                id: object.id.clone(),
            });
        }
        Ok(())
    }

    async fn upsert(&mut self, object: &Object) -> Result<(), Error> {
        if !self.try_update(object, None).await? {
            self.insert(&[object]).await?;
        }
        Ok(())
    }

    /// False when there is no such object, or not of that version.
    async fn try_update(
        &mut self,
        object: &Object,
        if_version: Option<i64>,
    ) -> Result<bool, Error> {
        let version = self.version + 1;
        let mut sql = Sql::new("UPDATE @object SET owner = ")
            .text(&object.owner)
            .raw(", version = ")
            .int(version)
            .raw(", body = ")
            .body(object.body.to_string())
            .raw(" WHERE kind = ")
            .text(object.kind)
            .raw(" AND id = ")
            .text(&object.id);
        if let Some(expected) = if_version {
            sql = sql.raw(" AND version = ").int(expected);
        }
        if self.connection.execute(sql).await? == 0 {
            return Ok(false);
        }
        self.change(object.kind, &object.id, &object.owner, false);
        self.attach_again(object).await?;
        Ok(true)
    }

    fn change(&mut self, kind: &str, id: &str, owner: &str, deleted: bool) -> i64 {
        self.version += 1;
        self.changes.push(ChangedObject {
            version: self.version,
            kind: kind.to_owned(),
            id: id.to_owned(),
            owner: owner.to_owned(),
            deleted,
        });
        self.version
    }

    /// Writes the changes to the log, cuts its old end off and announces the new version.
    async fn record(
        &mut self,
        position: &Position,
        retention: Retention,
        channel: &str,
    ) -> Result<(), Error> {
        let horizon = self.prune(position, retention).await?;
        let mut chunks = self.changes.chunks(ROWS_PER_STATEMENT);
        let last = chunks.next_back().unwrap_or_default();
        for changes in chunks {
            self.connection.execute(logged(changes, position)).await?;
        }
        let version = self.version;
        let moved = |sql: Sql<'static>| {
            sql.raw("UPDATE @position SET version = ")
                .int(version)
                .raw(", horizon = ")
                .int(horizon)
        };
        if self.connection.is_postgres() {
            let sql = logged_in(Sql::new("WITH logged AS ("), last, position);
            let sql = moved(sql.raw("), moved AS ("))
                .raw(") SELECT pg_notify(")
                .text(channel.to_owned())
                .raw(", ")
                .text(version.to_string())
                .raw(")");
            self.connection.execute(sql).await?;
        } else {
            self.connection.execute(logged(last, position)).await?;
            self.connection.execute(moved(Sql::default())).await?;
        }
        Ok(())
    }

    /// Cuts the old end off when it is long and old enough; gives the version after which all is kept.
    async fn prune(&mut self, position: &Position, retention: Retention) -> Result<i64, Error> {
        let (horizon, newest) = (position.horizon, self.version);
        if newest - horizon < retention.changes + PRUNE_STEP.min(retention.changes) {
            return Ok(horizon);
        }
        // A batch longer than the log has not been written yet: it ends before it.
        let until = newest - retention.changes;
        let until = until.min(horizon + PRUNE_MAX).min(position.version);
        let sql = Sql::new("SELECT at_s FROM @change WHERE version = ").int(until);
        let at_s = self.connection.one(sql, |row| row.int(0)).await?;
        if at_s.is_none_or(|at_s| at_s > position.now_s - retention.age_s) {
            return Ok(horizon);
        }
        let sql = Sql::new("DELETE FROM @change WHERE version <= ").int(until);
        self.connection.execute(sql).await?;
        Ok(until)
    }
}

fn logged(changes: &[ChangedObject], position: &Position) -> Sql<'static> {
    logged_in(Sql::default(), changes, position)
}

/// Appends the insertion of these changes into the log.
fn logged_in(sql: Sql<'static>, changes: &[ChangedObject], position: &Position) -> Sql<'static> {
    let all = || changes.iter();
    sql.raw("INSERT INTO @change (version, kind, id, owner, deleted, at_s) ")
        .rows([
            Column::Int(all().map(|it| it.version).collect()),
            Column::text(all().map(|it| it.kind.clone())),
            Column::text(all().map(|it| it.id.clone())),
            Column::text(all().map(|it| it.owner.clone())),
            Column::Int(all().map(|it| i64::from(it.deleted)).collect()),
            Column::Int(vec![position.now_s; changes.len()]),
        ])
}

/// As the databases count rows.
fn count(rows: usize) -> u64 {
    u64::try_from(rows).unwrap_or(u64::MAX)
}
