//! Administration: every command reads and writes the store, never the compiled objects, so that it
//! sees what any replica wrote before.

pub(crate) mod clients;
pub(crate) mod credentials;
pub(crate) mod evaluate;
pub(crate) mod export;
pub(crate) mod files;
pub(crate) mod groups;
pub(crate) mod import;
pub(crate) mod keys;
pub(crate) mod mappers;
pub(crate) mod partial;
pub(crate) mod policies;
pub(crate) mod realms;
pub(crate) mod roles;
pub(crate) mod rotation;
pub(crate) mod scopes;
pub(crate) mod users;

use o28m_store::Write;
use serde_json::{Map, Value};

use crate::model::{RealmBody, Rep, Stored, kind};
use crate::{Error, Invalid, Iris, Thing};

/// Attempts of a read-modify-write that others get in the way of.
const ATTEMPTS: usize = 8;
/// Characters of a name (Keycloak's columns).
pub(crate) const NAME_MAX: usize = 255;

/// What a change makes besides the changed object.
pub(crate) type Others = Vec<Write>;

/// Turns a taken key into the thing that exists.
pub(crate) fn taken(error: o28m_store::Error, thing: Thing, name: &str, renaming: bool) -> Error {
    match error {
        o28m_store::Error::Duplicate { key, .. } if key == "email" => Error::Exists {
            thing: Thing::Email,
            name: name.to_owned(),
            renaming,
        },
        o28m_store::Error::Duplicate { .. } | o28m_store::Error::DuplicateId { .. } => {
            Error::Exists {
                thing,
                name: name.to_owned(),
                renaming,
            }
        }
        error => error.into(),
    }
}

/// Refuses texts that the original's columns cannot hold.
pub(crate) fn check_length(field: &'static str, text: &str) -> Result<(), Error> {
    if text.chars().count() > NAME_MAX {
        return Err(Error::Invalid(Invalid::TooLong(field)));
    }
    Ok(())
}

/// Merges sent entries into a map of texts by name: null and empty remove (Keycloak 26.5
/// `ClientResource.updateClientFromRep`).
pub(crate) fn merge_texts(rep: &mut Rep, field: &str, sent: Value) {
    let Value::Object(sent) = sent else { return };
    let entry = rep
        .entry(field.to_owned())
        .or_insert_with(|| Value::Object(Map::new()));
    let Some(known) = entry.as_object_mut() else {
        return;
    };
    for (name, value) in sent {
        if value.as_str().is_none_or(str::is_empty) {
            known.shift_remove(&name);
        } else {
            known.insert(name, value);
        }
    }
}

/// Sets or removes one entry of a map of texts.
pub(crate) fn set_text(rep: &mut Rep, field: &str, name: &str, value: Option<String>) {
    let one = [(name.to_owned(), value.map_or(Value::Null, Value::String))];
    merge_texts(rep, field, Value::Object(one.into_iter().collect()));
}

impl Iris {
    /// Changes a stored object; another writer in between makes it start anew, so `change` may run
    /// more than once. `change` gives further writes of the same transaction.
    pub(crate) async fn change<T: Stored>(
        &self,
        realm_id: &str,
        id: &str,
        missing: Thing,
        mut change: impl FnMut(&mut T) -> Result<Others, Error> + Send,
    ) -> Result<T, Error> {
        let owner = if T::KIND == kind::REALM { "" } else { realm_id };
        let mut attempt = 0;
        loop {
            attempt += 1;
            let found = self.read::<T>(T::KIND, owner, id).await?;
            let (mut body, version) = found.ok_or(Error::Missing(missing))?;
            let mut steps = change(&mut body)?;
            steps.insert(
                0,
                Write::Update {
                    object: body.object(),
                    if_version: Some(version),
                },
            );
            match self.write(realm_id, steps).await {
                Ok(()) => return Ok(body),
                Err(o28m_store::Error::Conflict { .. }) if attempt < ATTEMPTS => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The realm as it is stored now.
    pub(crate) async fn realm_body(&self, realm_id: &str) -> Result<RealmBody, Error> {
        let found = self.read::<RealmBody>(kind::REALM, "", realm_id).await?;
        found
            .map(|(body, _)| body)
            .ok_or(Error::Missing(Thing::Realm))
    }
}
