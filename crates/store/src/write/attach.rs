//! Keys, references and tags of objects.

use std::collections::HashSet;
use std::hash::Hash;

use super::{Batch, ROWS_PER_STATEMENT, count};
use crate::filter;
use crate::sql::{Column, Sql};
use crate::{Error, Key, Object, OnDelete, Reference};

/// What a row belongs to, and the row.
type Of<'a, T> = (&'a Object, &'a T);

/// What is stored with an object besides its body.
#[derive(Default)]
struct Attached {
    /// Owner, name, value and texts.
    keys: HashSet<[String; 4]>,
    /// Field, kind and id of the target, and whether a deletion of it cascades.
    references: HashSet<[String; 4]>,
    tags: HashSet<String>,
}

impl Batch<'_> {
    /// Writes keys, references and tags of objects that have none yet.
    pub(super) async fn attach(&mut self, objects: &[&Object]) -> Result<(), Error> {
        self.attach_keys(objects).await?;
        self.attach_references(objects).await?;
        self.attach_tags(objects).await
    }

    /// Replaces those of an object that differ from what is stored; most changes are in the body only.
    pub(super) async fn attach_again(&mut self, object: &Object) -> Result<(), Error> {
        let stored = self.attached(object).await?;
        let wanted = Attached::of(object);
        let objects = [object];
        if stored.keys != wanted.keys {
            self.detach("object_key", object).await?;
            self.attach_keys(&objects).await?;
        }
        if stored.references != wanted.references {
            self.detach("object_reference", object).await?;
            self.attach_references(&objects).await?;
        }
        if stored.tags != wanted.tags {
            self.detach("object_tag", object).await?;
            self.attach_tags(&objects).await?;
        }
        Ok(())
    }

    async fn attached(&mut self, object: &Object) -> Result<Attached, Error> {
        let of = |sql: Sql<'static>| {
            sql.raw(" WHERE kind = ")
                .text(object.kind)
                .raw(" AND id = ")
                .text(object.id.clone())
        };
        let sql = Sql::new("SELECT 1, owner, name, value, COALESCE(texts, '') FROM @object_key");
        let sql = of(sql).raw(
            " UNION ALL SELECT 2, field, target_kind, target_id, CAST(cascades AS TEXT) \
             FROM @object_reference",
        );
        // Left alone, SQLite reads the references of all objects of the kind: it takes the primary
        // key, of which one column is given, for cheaper than an index that lacks `cascades`.
        let sql = if self.connection.is_postgres() {
            sql
        } else {
            sql.raw(" INDEXED BY object_reference_by_object")
        };
        let sql = of(sql).raw(" UNION ALL SELECT 3, tag, '', '', '' FROM @object_tag");
        let rows = self.connection.all(of(sql), |row| {
            let columns = [row.text(1)?, row.text(2)?, row.text(3)?, row.text(4)?];
            Ok((row.small(0)?, columns))
        });
        let mut attached = Attached::default();
        for (table, [first, second, third, fourth]) in rows.await? {
            match table {
                1 => _ = attached.keys.insert([first, second, third, fourth]),
                2 => _ = attached.references.insert([first, second, third, fourth]),
                _ => _ = attached.tags.insert(first),
            }
        }
        Ok(attached)
    }

    async fn detach(&mut self, table: &str, object: &Object) -> Result<(), Error> {
        let sql = Sql::new(&format!("DELETE FROM @{table} WHERE kind = "))
            .text(object.kind)
            .raw(" AND id = ")
            .text(&object.id);
        self.connection.execute(sql).await.map(drop)
    }

    async fn attach_keys(&mut self, objects: &[&Object]) -> Result<(), Error> {
        let all = of_each(objects, |object| &object.keys);
        for keys in all.chunks(ROWS_PER_STATEMENT) {
            let all = || keys.iter();
            let sql =
                Sql::new("INSERT INTO @object_key (kind, id, owner, name, value, folded, texts) ")
                    .rows([
                        Column::text(all().map(|(object, _)| object.kind)),
                        Column::text(all().map(|(object, _)| object.id.as_str())),
                        Column::text(all().map(|(object, _)| object.owner.as_str())),
                        Column::text(all().map(|(_, key)| key.name)),
                        Column::text(all().map(|(_, key)| key.value.as_str())),
                        Column::body(all().map(|(_, key)| key.value.to_lowercase())),
                        Column::body(all().map(|(object, _)| texts(object))),
                    ])
                    .raw(" ON CONFLICT DO NOTHING");
            if self.connection.execute(sql).await? < count(keys.len()) {
                return Err(self.duplicate(keys).await?);
            }
        }
        Ok(())
    }

    /// Which of the keys another object has.
    async fn duplicate(&mut self, keys: &[Of<'_, Key>]) -> Result<Error, Error> {
        for (object, key) in keys {
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

    async fn attach_references(&mut self, objects: &[&Object]) -> Result<(), Error> {
        let all = of_each(objects, |object| &object.references);
        for references in all.chunks(ROWS_PER_STATEMENT) {
            let all = || references.iter();
            let cascades = all().map(|(_, it)| i64::from(rule(it.on_delete)));
            let sql = Sql::new(
                "INSERT INTO @object_reference (kind, id, field, target_kind, target_id, cascades) \
                 SELECT v.column1, v.column2, v.column3, o.kind, o.id, v.column6 FROM (",
            )
            .rows([
                Column::text(all().map(|(object, _)| object.kind)),
                Column::text(all().map(|(object, _)| object.id.as_str())),
                Column::text(all().map(|(_, it)| it.field)),
                Column::text(all().map(|(_, it)| it.kind)),
                Column::text(all().map(|(_, it)| it.id.as_str())),
                Column::Int(cascades.collect()),
            ])
            .raw(
                ") v CROSS JOIN @object o WHERE o.kind = v.column4 AND o.id = v.column5 \
                 ON CONFLICT DO NOTHING",
            );
            if self.connection.execute(sql).await? < count(references.len())
                && let Some(error) = self.missing(references).await?
            {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Which of the references leads nowhere; those that may detach are left out then.
    async fn missing(&mut self, references: &[Of<'_, Reference>]) -> Result<Option<Error>, Error> {
        let detaches = |reference: &Reference| reference.on_delete == OnDelete::Detach;
        for (_, reference) in references.iter().filter(|(_, it)| !detaches(it)) {
            let sql = Sql::new("SELECT id FROM @object WHERE kind = ")
                .text(reference.kind)
                .raw(" AND id = ")
                .text(&reference.id);
            if self.connection.one(sql, |row| row.text(0)).await?.is_none() {
                return Ok(Some(Error::ReferenceMissing {
                    field: reference.field.to_owned(),
                    kind: reference.kind.to_owned(),
                    id: reference.id.clone(),
                }));
            }
        }
        if references.iter().any(|(_, it)| detaches(it)) {
            return Ok(None);
        }
        Ok(Some(Error::invalid(
            "a reference was refused but leads somewhere",
        )))
    }

    async fn attach_tags(&mut self, objects: &[&Object]) -> Result<(), Error> {
        let all = of_each(objects, |object| &object.tags);
        for tags in all.chunks(ROWS_PER_STATEMENT) {
            let all = || tags.iter();
            let sql = Sql::new("INSERT INTO @object_tag (tag, kind, id) ").rows([
                Column::text(all().map(|(_, tag)| tag.as_str())),
                Column::text(all().map(|(object, _)| object.kind)),
                Column::text(all().map(|(object, _)| object.id.as_str())),
            ]);
            self.connection.execute(sql).await?;
        }
        Ok(())
    }
}

impl Attached {
    fn of(object: &Object) -> Self {
        let texts = texts(object);
        let key = |key: &Key| {
            let (name, value) = (key.name.to_owned(), key.value.clone());
            [object.owner.clone(), name, value, texts.clone()]
        };
        let reference = |it: &Reference| {
            let cascades = rule(it.on_delete);
            let (field, kind) = (it.field.to_owned(), it.kind.to_owned());
            [field, kind, it.id.clone(), cascades.to_string()]
        };
        Self {
            keys: object.keys.iter().map(key).collect(),
            references: object.references.iter().map(reference).collect(),
            tags: object.tags.iter().cloned().collect(),
        }
    }
}

/// What lists by a key are searched in besides the key, as JSON text.
fn texts(object: &Object) -> String {
    let texts = object.body.get(filter::TEXTS);
    texts.unwrap_or(&serde_json::Value::Null).to_string()
}

/// How a reference is stored.
const fn rule(on_delete: OnDelete) -> u8 {
    match on_delete {
        OnDelete::Restrict => 0,
        OnDelete::Cascade => 1,
        OnDelete::Detach => 2,
    }
}

/// The items of every object; those of one are a set.
fn of_each<'a, T: Eq + Hash>(
    objects: &[&'a Object],
    items: impl Fn(&'a Object) -> &'a [T],
) -> Vec<Of<'a, T>> {
    let mut all = Vec::new();
    for object in objects {
        let mut seen = HashSet::new();
        let items = items(object).iter().filter(|item| seen.insert(*item));
        all.extend(items.map(|item| (*object, item)));
    }
    all
}
