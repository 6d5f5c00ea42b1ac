//! Keys in the database, shared by all replicas.

use std::time::Duration;

use o28m_core::Ambient;
use o28m_jose::slots::SharedKeys;
use o28m_jose::slots::{KeyRing, Slot, Slots};
use o28m_store::{Change, Changes, Object, Record, Store, Write};
use serde::{Deserialize, Serialize};

use crate::{Error, generate_slot, initial, rotate};

/// Kind of the one object that holds the key set.
const KIND: &str = "signing-keys";
/// Its id.
const ID: &str = "gateway";
/// Pause before the keys are read again after the database failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The object's body.
#[derive(Serialize, Deserialize)]
struct Stored {
    slots: Slots,
    /// Seconds since the Unix epoch.
    rotated_at_s: i64,
}

impl Stored {
    fn read(record: Record) -> Result<Self, Error> {
        serde_json::from_value(record.body).map_err(Error::Stored)
    }

    fn object(&self) -> Result<Object, Error> {
        Ok(Object {
            kind: KIND,
            id: ID.to_owned(),
            owner: String::new(),
            keys: Vec::new(),
            references: Vec::new(),
            tags: Vec::new(),
            body: serde_json::to_value(self).map_err(Error::Stored)?,
        })
    }
}

/// The slots kept in the database, made on the first call by whichever process comes first: one key in
/// all three slots.
///
/// # Errors
/// When the store or the key generator fails.
pub async fn database_slots(
    store: &Store,
    ambient: &Ambient,
    common_name: &str,
) -> Result<Slots, Error> {
    if let Some(slots) = stored_slots(store).await? {
        return Ok(slots);
    }
    let made = Stored {
        slots: initial(generate(ambient, common_name).await?),
        rotated_at_s: ambient.now().seconds(),
    };
    match store.write(vec![Write::Insert(made.object()?)]).await {
        Ok(_) => Ok(made.slots),
        // Another process was faster: its keys are those of all.
        Err(error @ o28m_store::Error::DuplicateId { .. }) => {
            stored_slots(store).await?.ok_or(Error::Store(error))
        }
        Err(error) => Err(error.into()),
    }
}

/// The slots kept in the database, if there are some.
///
/// # Errors
/// [`Error::Store`], [`Error::Stored`].
pub async fn stored_slots(store: &Store) -> Result<Option<Slots>, Error> {
    match store.get(KIND, ID).await? {
        Some(record) => Ok(Some(Stored::read(record)?.slots)),
        None => Ok(None),
    }
}

/// Rotates the slots in the database unless that happened less than `min_age` ago, and makes them when
/// there are none; gives what holds afterwards. However many processes call it at once, and however
/// long nobody did, there is one rotation.
///
/// # Errors
/// When the store or the key generator fails.
pub async fn rotate_database(
    store: &Store,
    ambient: &Ambient,
    common_name: &str,
    min_age: Duration,
) -> Result<Slots, Error> {
    let Some(record) = store.get(KIND, ID).await? else {
        return database_slots(store, ambient, common_name).await;
    };
    let version = record.version;
    let stored = Stored::read(record)?;
    let now_s = ambient.now().seconds();
    let due_at_s = i64::try_from(min_age.as_secs())
        .ok()
        .and_then(|age_s| stored.rotated_at_s.checked_add(age_s));
    if due_at_s.is_none_or(|due_at_s| now_s < due_at_s) {
        return Ok(stored.slots);
    }
    let rotated = Stored {
        slots: rotate(stored.slots, generate(ambient, common_name).await?),
        rotated_at_s: now_s,
    };
    let step = Write::Update {
        object: rotated.object()?,
        if_version: Some(version),
    };
    match store.write(vec![step]).await {
        Ok(_) => {
            let kid = rotated.slots.active.as_ref().map(|slot| slot.kid.as_str());
            tracing::info!(kid, "signing keys rotated");
            Ok(rotated.slots)
        }
        // Another process rotated first.
        Err(error @ o28m_store::Error::Conflict { .. }) => {
            stored_slots(store).await?.ok_or(Error::Store(error))
        }
        Err(error) => Err(error.into()),
    }
}

/// Keeps `keys` as they are in the database, for as long as it is polled: reads them at once and again
/// with every change. While the database is away the keys stay as they are.
pub async fn follow_database(store: &Store, keys: &SharedKeys) {
    let mut feed = store.subscribe();
    let mut known = None;
    loop {
        feed.borrow_and_update();
        match refresh(store, keys, known).await {
            Ok(version) => {
                known = Some(version);
                if feed.changed().await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot read the signing keys; the ones read last stay in use"
                );
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
        }
    }
}

/// Reads the keys unless nothing changed them since `known`; gives the version looked at.
async fn refresh(store: &Store, keys: &SharedKeys, known: Option<i64>) -> Result<i64, Error> {
    let is_ours = |change: &Change| change.kind == KIND;
    // The version first: what changes in between is only read twice.
    let version = store.version().await?;
    if let Some(known) = known
        && let Changes::Since(changes) = store.changes_since(known).await?
        && !changes.iter().any(is_ours)
    {
        return Ok(version);
    }
    let current = keys.load();
    if let Some(slots) = stored_slots(store).await?
        && slots != current.slots
    {
        keys.store(KeyRing::new(slots, Some(&current)).into());
    }
    Ok(version)
}

/// Generates a key without holding up the runtime.
async fn generate(ambient: &Ambient, common_name: &str) -> Result<Slot, Error> {
    let ambient = ambient.clone();
    let common_name = common_name.to_owned();
    tokio::task::spawn_blocking(move || generate_slot(&ambient, &common_name))
        .await
        .map_err(|_| Error::Interrupted)?
}
