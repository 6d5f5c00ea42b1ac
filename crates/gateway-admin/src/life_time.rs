//! Entities that end some time after their creation: they are not shown any more then, make room for
//! others, and are removed later (spec gateway-admin 11).

use o28m_kong::{Document, Entity, entities, entity};
use o28m_store::{Error, Query, Record, Write};
use serde_json::{Value, json};

use crate::api::Api;
use crate::object::{ENDS, end_s, ends_before, object};
use crate::problem::Problem;

/// Longest life time, in seconds.
const TTL_S_MAX: f64 = 100_000_000.0;
/// Entities removed in one transaction.
const REMOVED_AT_ONCE: u32 = 100;

/// Kong looks at the life time before it validates anything.
pub(crate) fn check(entity: &Entity, input: &Document) -> Result<(), Problem> {
    let ttl = input.get("ttl").filter(|ttl| !ttl.is_null());
    let Some(ttl) = ttl.filter(|_| entity.has_life_time) else {
        return Ok(());
    };
    let is_fine = |ttl: &f64| ttl.fract() == 0.0 && (0.0..=TTL_S_MAX).contains(ttl);
    match ttl.as_f64().filter(is_fine) {
        Some(_) => Ok(()),
        None => Err(Problem::InvalidOption {
            name: "ttl",
            message: format!("must be an integer between 0 and {TTL_S_MAX}"),
        }),
    }
}

/// Whether the entity has ended.
pub(crate) fn is_over(entity: &Entity, body: &Value, now_s: i64) -> bool {
    let end = body.as_object().and_then(|body| end_s(entity, body));
    end.is_some_and(|end| end <= now_s)
}

/// Shows the rest of a life time in the place of the whole.
pub(crate) fn show(entity: &Entity, document: &mut Document, now_s: i64) {
    if let Some(end) = end_s(entity, document) {
        document.insert("ttl".to_owned(), json!((end - now_s).max(0)));
    }
}

impl Api {
    pub(crate) fn now_s(&self) -> i64 {
        self.ambient().now().seconds()
    }

    /// Removes an entity that has ended; `false` when it was changed in between.
    pub(crate) async fn remove(&self, entity: &Entity, record: &Record) -> Result<bool, Error> {
        let Value::Object(body) = &record.body else {
            return Ok(false);
        };
        let writes = vec![
            // A deletion has no condition of its own.
            Write::Update {
                object: object(entity, body),
                if_version: Some(record.version),
            },
            Write::Delete {
                kind: entity.name,
                id: record.id.clone(),
            },
        ];
        match self.store().write(writes).await {
            Ok(_) => Ok(true),
            Err(Error::Conflict { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether a write was refused only because of an entity that has ended, which is gone now.
    pub(crate) async fn makes_room(&self, error: &Error) -> Result<bool, Error> {
        let kind = match error {
            Error::Duplicate { kind, .. } | Error::DuplicateId { kind, .. } => kind,
            _ => return Ok(false),
        };
        let Some(entity) = entity(kind).filter(|it| it.has_life_time) else {
            return Ok(false);
        };
        let holder = match error {
            Error::Duplicate { key, value, .. } => {
                self.store().get_by_key(kind, "", key, value).await?
            }
            Error::DuplicateId { id, .. } => self.store().get(kind, id).await?,
            _ => None,
        };
        match holder.filter(|it| is_over(entity, &it.body, self.now_s())) {
            Some(holder) => self.remove(entity, &holder).await,
            None => Ok(false),
        }
    }

    /// Removes every entity that has ended; gives how many.
    pub(crate) async fn remove_ended(&self) -> Result<usize, Error> {
        let mut removed = 0;
        for entity in entities().iter().filter(|it| it.has_life_time) {
            let end = ends_before(self.now_s());
            loop {
                let query = Query {
                    kind: entity.name,
                    by_key: Some(ENDS),
                    limit: REMOVED_AT_ONCE,
                    ..Query::default()
                };
                let mut ended = self.store().list(&query).await?;
                let is_over = |it: &Record| {
                    let own = it.body.as_object().and_then(|body| end_s(entity, body));
                    own.is_some_and(|own| ends_before(own) <= end)
                };
                ended.retain(is_over);
                let mut progress = 0;
                for record in &ended {
                    progress += usize::from(self.remove(entity, record).await?);
                }
                removed += progress;
                if progress == 0 {
                    break;
                }
            }
        }
        Ok(removed)
    }
}
