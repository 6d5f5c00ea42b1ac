//! Deletions with everything that goes along.

use std::collections::HashSet;

use super::{Batch, ROWS_PER_STATEMENT};
use crate::Error;
use crate::sql::{Column, Sql};

impl Batch<'_> {
    pub(super) async fn delete(&mut self, kind: &str, id: &str) -> Result<(), Error> {
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
        let sql =
            Sql::new("SELECT r.kind, r.id, o.owner, r.cascades, r.target_kind, r.target_id FROM (")
                .rows(Doomed::rows(targets))
                .raw(
                    ") v CROSS JOIN @object_reference r CROSS JOIN @object o \
             WHERE r.cascades <> 2 AND r.target_kind = v.column1 AND r.target_id = v.column2 \
             AND o.kind = r.kind AND o.id = r.id ORDER BY r.kind, r.id",
                );
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

    /// Removes the pointers of those that stay without the objects they point to.
    async fn detach_rows(&mut self, objects: &[Doomed]) -> Result<(), Error> {
        for chunk in objects.chunks(ROWS_PER_STATEMENT) {
            let sql = Sql::new(
                "DELETE FROM @object_reference WHERE cascades = 2 \
                 AND (target_kind, target_id) IN (",
            )
            .rows(Doomed::rows(chunk))
            .raw(")");
            self.connection.execute(sql).await?;
        }
        Ok(())
    }

    async fn delete_rows(&mut self, table: &str, objects: &[Doomed]) -> Result<(), Error> {
        for chunk in objects.chunks(ROWS_PER_STATEMENT) {
            let sql = Sql::new(&format!("DELETE FROM @{table} WHERE (kind, id) IN ("))
                .rows(Doomed::rows(chunk))
                .raw(")");
            self.connection.execute(sql).await?;
        }
        Ok(())
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

    fn rows(all: &[Self]) -> [Column<'_>; 2] {
        [
            Column::text(all.iter().map(|it| it.kind.as_str())),
            Column::text(all.iter().map(|it| it.id.as_str())),
        ]
    }
}

/// A stored reference to an object that is about to be deleted.
struct Pointer {
    from: Doomed,
    cascades: bool,
    target_kind: String,
    target_id: String,
}
