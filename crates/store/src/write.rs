//! Writing: every step of a batch in one transaction that no other writer runs beside.
//!
//! Statements skip what is taken or missing instead of failing, and count: only when a count is short is
//! the culprit looked up. The database's constraints stand behind that and are never reached.

use std::collections::HashSet;
use std::hash::Hash;

use crate::connection::Connection;
use crate::sql::Sql;
use crate::{Error, Object, OnDelete, Write};

/// Rows of one statement.
const ROWS_PER_STATEMENT: usize = 200;

/// Changes that are pruned at once: rarely enough to cost nothing, few enough not to be felt.
const PRUNE_STEP: i64 = 256;

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

/// The place of a batch in the log.
pub(crate) struct Written {
    /// Version before it.
    pub(crate) before: i64,
    /// Version after it.
    pub(crate) after: i64,
}

/// Runs the steps inside the transaction that `connection` is in; the log keeps `log_length` changes.
pub(crate) async fn run(
    connection: &mut Connection,
    steps: &[Write],
    log_length: i64,
    channel: &str,
) -> Result<Written, Error> {
    let position = Sql::new("SELECT version, horizon FROM @position");
    let Some((before, horizon)) = connection
        .one(position, |row| Ok((row.int(0)?, row.int(1)?)))
        .await?
    else {
        return Err(Error::invalid("the log has no position"));
    };
    let mut batch = Batch {
        connection,
        version: before,
        changes: Vec::new(),
    };
    for step in steps {
        match step {
            Write::Insert(object) => batch.insert(object).await?,
            Write::Update { object, if_version } => batch.update(object, *if_version).await?,
            Write::Upsert(object) => batch.upsert(object).await?,
            Write::Delete { kind, id } => batch.delete(kind, id).await?,
        }
    }
    if batch.version > before {
        batch.record(horizon, log_length, channel).await?;
    }
    Ok(Written {
        before,
        after: batch.version,
    })
}

impl Batch<'_> {
    async fn insert(&mut self, object: &Object) -> Result<(), Error> {
        if !self.try_insert(object).await? {
            return Err(Error::DuplicateId {
                kind: object.kind.to_owned(),
                id: object.id.clone(),
            });
        }
        Ok(())
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
            self.insert(object).await?;
        }
        Ok(())
    }

    /// False when the id is taken.
    async fn try_insert(&mut self, object: &Object) -> Result<bool, Error> {
        let version = self.change(object.kind, &object.id, &object.owner, false);
        let sql = Sql::new("INSERT INTO @object (kind, id, owner, version, body) VALUES (")
            .text(object.kind)
            .raw(", ")
            .text(&object.id)
            .raw(", ")
            .text(&object.owner)
            .raw(", ")
            .int(version)
            .raw(", ")
            .body(object.body.to_string())
            .raw(") ON CONFLICT (kind, id) DO NOTHING");
        if self.connection.execute(sql).await? == 0 {
            return Ok(false);
        }
        self.attach(object).await?;
        Ok(true)
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
        for table in ["object_key", "object_reference", "object_tag"] {
            let sql = Sql::new(&format!("DELETE FROM @{table} WHERE kind = "))
                .text(object.kind)
                .raw(" AND id = ")
                .text(&object.id);
            self.connection.execute(sql).await?;
        }
        self.attach(object).await?;
        Ok(true)
    }

    async fn attach(&mut self, object: &Object) -> Result<(), Error> {
        self.attach_keys(object).await?;
        for reference in unique(&object.references) {
            let target = (reference.kind, reference.id.as_str());
            let cascades = on_delete(reference.on_delete);
            let sql = Sql::new("INSERT INTO @object_reference (kind, id, field, target_kind, target_id, cascades) SELECT ")
                .text(object.kind)
                .raw(", ")
                .text(&object.id)
                .raw(", ")
                .text(reference.field)
                .raw(", kind, id, ")
                .int(cascades)
                .raw(" FROM @object WHERE kind = ")
                .text(target.0)
                .raw(" AND id = ")
                .text(target.1)
                .raw(" ON CONFLICT DO NOTHING");
            let detaches = reference.on_delete == OnDelete::Detach;
            if self.connection.execute(sql).await? == 0 && !detaches {
                return Err(Error::ReferenceMissing {
                    field: reference.field.to_owned(),
                    kind: reference.kind.to_owned(),
                    id: reference.id.clone(),
                });
            }
        }
        for tags in unique(&object.tags).chunks(ROWS_PER_STATEMENT) {
            let sql = Sql::new("INSERT INTO @object_tag (tag, kind, id) VALUES ").list(
                tags,
                |sql, tag| {
                    sql.raw("(")
                        .text(tag.as_str())
                        .raw(", ")
                        .text(object.kind)
                        .raw(", ")
                        .text(&object.id)
                        .raw(")")
                },
            );
            self.connection.execute(sql).await?;
        }
        Ok(())
    }

    async fn attach_keys(&mut self, object: &Object) -> Result<(), Error> {
        let all = unique(&object.keys);
        for keys in all.chunks(ROWS_PER_STATEMENT) {
            let sql =
                Sql::new("INSERT INTO @object_key (kind, id, owner, name, value, folded) VALUES ")
                    .list(keys, |sql, key| {
                        sql.raw("(")
                            .text(object.kind)
                            .raw(", ")
                            .text(&object.id)
                            .raw(", ")
                            .text(&object.owner)
                            .raw(", ")
                            .text(key.name)
                            .raw(", ")
                            .text(&key.value)
                            .raw(", ")
                            .body(key.value.to_lowercase())
                            .raw(")")
                    })
                    .raw(" ON CONFLICT DO NOTHING");
            let attached = self.connection.execute(sql).await?;
            if attached < u64::try_from(keys.len()).unwrap_or(u64::MAX) {
                return Err(self.duplicate(object).await?);
            }
        }
        Ok(())
    }

    /// Which of the object's keys another one has.
    async fn duplicate(&mut self, object: &Object) -> Result<Error, Error> {
        for key in &object.keys {
            let sql = Sql::new("SELECT id FROM @object_key WHERE kind = ")
                .text(object.kind)
                .raw(" AND owner = ")
                .text(&object.owner)
                .raw(" AND name = ")
                .text(key.name)
                .raw(" AND value = ")
                .text(&key.value);
            let holder = self.connection.one(sql, |row| row.text(0)).await?;
            if holder.is_some_and(|holder| holder != object.id) {
                return Ok(Error::Duplicate {
                    kind: object.kind.to_owned(),
                    key: key.name.to_owned(),
                    value: key.value.clone(),
                });
            }
        }
        Ok(Error::invalid("a key was refused but nobody has it"))
    }

    async fn delete(&mut self, kind: &str, id: &str) -> Result<(), Error> {
        let sql = Sql::new("SELECT owner FROM @object WHERE kind = ")
            .text(kind)
            .raw(" AND id = ")
            .text(id);
        let Some(owner) = self.connection.one(sql, |row| row.text(0)).await? else {
            return Ok(());
        };
        let doomed = self.doomed(Doomed::new(kind, id, owner)).await?;
        if doomed.len() > 1 {
            // Without their pointers the objects can go in any order, even around a circle.
            self.delete_rows("object_reference", &doomed).await?;
        }
        self.detach_rows(&doomed).await?;
        self.delete_rows("object", &doomed).await?;
        for object in doomed.iter().rev() {
            self.change(&object.kind, &object.id, &object.owner, true);
        }
        Ok(())
    }

    /// The object and all that goes with it, nearest first; refused when one that stays points to them.
    async fn doomed(&mut self, first: Doomed) -> Result<Vec<Doomed>, Error> {
        let mut known = HashSet::from([(first.kind.clone(), first.id.clone())]);
        let mut all = vec![first];
        let mut restricting = Vec::new();
        let mut at = 0;
        while at < all.len() {
            let level: Vec<Doomed> = all
                .iter()
                .skip(at)
                .take(ROWS_PER_STATEMENT)
                .cloned()
                .collect();
            at += level.len();
            for pointer in self.pointers(&level).await? {
                if !pointer.cascades {
                    restricting.push(pointer);
                } else if known.insert((pointer.from.kind.clone(), pointer.from.id.clone())) {
                    all.push(pointer.from);
                }
            }
        }
        let staying = restricting
            .into_iter()
            .find(|it| !known.contains(&(it.from.kind.clone(), it.from.id.clone())));
        match staying {
            Some(pointer) => Err(Error::Referenced {
                kind: pointer.target_kind,
                id: pointer.target_id,
                by: pointer.from.kind,
            }),
            None => Ok(all),
        }
    }

    async fn pointers(&mut self, targets: &[Doomed]) -> Result<Vec<Pointer>, Error> {
        let sql = Sql::new(
            "SELECT r.kind, r.id, o.owner, r.cascades, r.target_kind, r.target_id \
             FROM @object_reference r JOIN @object o ON o.kind = r.kind AND o.id = r.id \
             WHERE r.cascades <> 2 AND (r.target_kind, r.target_id) IN (VALUES ",
        )
        .list(targets, |sql, target| target.row(sql))
        .raw(") ORDER BY r.kind, r.id");
        self.connection
            .all(sql, |row| {
                Ok(Pointer {
                    from: Doomed::new(row.str(0)?, row.str(1)?, row.text(2)?),
                    cascades: row.int(3)? != 0,
                    target_kind: row.text(4)?,
                    target_id: row.text(5)?,
                })
            })
            .await
    }

    async fn delete_rows(&mut self, table: &str, objects: &[Doomed]) -> Result<(), Error> {
        for chunk in objects.chunks(ROWS_PER_STATEMENT) {
            let sql = Sql::new(&format!(
                "DELETE FROM @{table} WHERE (kind, id) IN (VALUES "
            ))
            .list(chunk, |sql, object| object.row(sql))
            .raw(")");
            self.connection.execute(sql).await?;
        }
        Ok(())
    }

    /// Removes the pointers of those that stay without the objects they point to.
    async fn detach_rows(&mut self, objects: &[Doomed]) -> Result<(), Error> {
        for chunk in objects.chunks(ROWS_PER_STATEMENT) {
            let sql = Sql::new(
                "DELETE FROM @object_reference WHERE cascades = 2 \
                 AND (target_kind, target_id) IN (VALUES ",
            )
            .list(chunk, |sql, object| object.row(sql))
            .raw(")");
            self.connection.execute(sql).await?;
        }
        Ok(())
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
    async fn record(&mut self, horizon: i64, log_length: i64, channel: &str) -> Result<(), Error> {
        for changes in self.changes.chunks(ROWS_PER_STATEMENT) {
            let sql = Sql::new("INSERT INTO @change (version, kind, id, owner, deleted) VALUES ")
                .list(changes, |sql, change| {
                    sql.raw("(")
                        .int(change.version)
                        .raw(", ")
                        .text(change.kind.clone())
                        .raw(", ")
                        .text(change.id.clone())
                        .raw(", ")
                        .text(change.owner.clone())
                        .raw(", ")
                        .int(i64::from(change.deleted))
                        .raw(")")
                });
            self.connection.execute(sql).await?;
        }
        let mut kept_after = horizon;
        if self.version - horizon >= log_length + PRUNE_STEP.min(log_length) {
            kept_after = self.version - log_length;
            let sql = Sql::new("DELETE FROM @change WHERE version <= ").int(kept_after);
            self.connection.execute(sql).await?;
        }
        let sql = Sql::new("UPDATE @position SET version = ")
            .int(self.version)
            .raw(", horizon = ")
            .int(kept_after);
        self.connection.execute(sql).await?;
        if self.connection.is_postgres() {
            let sql = Sql::new("SELECT pg_notify(")
                .text(channel)
                .raw(", ")
                .text(self.version.to_string())
                .raw(")");
            self.connection.execute(sql).await?;
        }
        Ok(())
    }
}

/// How a reference is stored.
const fn on_delete(rule: OnDelete) -> i64 {
    match rule {
        OnDelete::Restrict => 0,
        OnDelete::Cascade => 1,
        OnDelete::Detach => 2,
    }
}

/// An object that is about to be deleted.
#[derive(Clone)]
struct Doomed {
    kind: String,
    id: String,
    owner: String,
}

impl Doomed {
    fn new(kind: &str, id: &str, owner: String) -> Self {
        Self {
            kind: kind.to_owned(),
            id: id.to_owned(),
            owner,
        }
    }

    fn row<'a>(&self, sql: Sql<'a>) -> Sql<'a> {
        sql.raw("(")
            .text(self.kind.clone())
            .raw(", ")
            .text(self.id.clone())
            .raw(")")
    }
}

/// A stored reference to an object that is about to be deleted.
struct Pointer {
    from: Doomed,
    cascades: bool,
    target_kind: String,
    target_id: String,
}

/// The items without those that appeared before: keys, references and tags are sets.
fn unique<T: Eq + Hash>(items: &[T]) -> Vec<&T> {
    let mut seen = HashSet::with_capacity(items.len());
    items.iter().filter(|item| seen.insert(*item)).collect()
}
