//! Makes, stores and rotates the gateway's signing key set. It signs nothing and serves nothing.

use std::path::Path;

use o28m_core::Ambient;
use o28m_jose::slots::{Slot, Slots};

/// Why keys could not be made, read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {}

/// A new RSA-2048 key with a self-signed certificate of that common name and its key id.
///
/// # Errors
/// When the key generator fails.
pub fn generate_slot(ambient: &Ambient, common_name: &str) -> Result<Slot, Error> {
    let _ = (ambient, common_name);
    todo!()
}

/// Active becomes previous, next becomes active, `new` becomes next.
#[must_use]
pub fn rotate(slots: Slots, new: Slot) -> Slots {
    let _ = (slots, new);
    todo!()
}

/// Reads `{next-,,prev-}tls.{crt,key,kid}`; missing or empty slots are `None`.
///
/// # Errors
/// When the directory or a file cannot be read, or a slot is incomplete.
pub fn load_directory(dir: &Path) -> Result<Slots, Error> {
    let _ = dir;
    todo!()
}

/// Writes the nine files so that a reader sees the old set or the new one, keys with mode 0600.
///
/// # Errors
/// When the directory cannot be written.
pub fn write_directory(dir: &Path, slots: &Slots) -> Result<(), Error> {
    let _ = (dir, slots);
    todo!()
}

/// The slots kept in the database, made on the first call by whichever process comes first.
///
/// # Errors
/// When the store or the key generator fails.
pub async fn database_slots(
    store: &o28m_store::Store,
    ambient: &Ambient,
    common_name: &str,
) -> Result<Slots, Error> {
    let _ = (store, ambient, common_name);
    todo!()
}
