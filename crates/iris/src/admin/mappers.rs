//! Protocol mappers of clients and client scopes.

use o28m_core::Ambient;
use serde_json::{Value, json};

use crate::admin::check_length;
use crate::mapper::TYPES;
use crate::model::{ClientBody, Fields as _, Rep, ScopeBody, Stored, kind};
use crate::{Error, Invalid, Iris, Thing};

/// What mappers belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapperHolder {
    /// A client.
    Client,
    /// A client scope.
    Scope,
}

/// The mapper as it is stored, under the id of `known` when there is one.
pub(crate) fn prepare(rep: Rep, known: Option<&str>, ambient: &Ambient) -> Result<Rep, Error> {
    if rep.contains_key("name") && !is_known(&rep) {
        return Err(Error::Missing(Thing::MapperType));
    }
    prepare_any(rep, known, ambient)
}

fn is_known(rep: &Rep) -> bool {
    TYPES.contains(&rep.text("protocolMapper").unwrap_or_default())
}

fn prepare_any(mut rep: Rep, known: Option<&str>, ambient: &Ambient) -> Result<Rep, Error> {
    let name = rep.text("name").unwrap_or_default().to_owned();
    if name.is_empty() {
        return Err(Error::Invalid(Invalid::Required("name")));
    }
    check_length("name", &name)?;
    check_length(
        "protocolMapper",
        rep.text("protocolMapper").unwrap_or_default(),
    )?;
    if !is_known(&rep) {
        tracing::warn!(
            mapper.name = name,
            mapper.kind = rep.text("protocolMapper"),
            "protocol mapper of an unknown type has no effect"
        );
    }
    let sent = rep
        .text("id")
        .filter(|id| o28m_core::id::is_uuid(id))
        .map(str::to_owned);
    let id = known
        .map(str::to_owned)
        .or(sent)
        .unwrap_or_else(|| ambient.uuid());
    rep.insert("id".to_owned(), json!(id));
    rep.entry("protocol".to_owned())
        .or_insert_with(|| json!("openid-connect"));
    rep.insert("consentRequired".to_owned(), json!(false));
    rep.shift_remove("consentText");
    let config = rep.entry("config".to_owned()).or_insert_with(|| json!({}));
    if let Some(config) = config.as_object_mut() {
        config.retain(|_, value| !value.is_null());
    }
    Ok(crate::representation::MAPPER.arrange(rep))
}

/// Prepares the mappers in the body of a client or client scope: one of a type that is not known is
/// kept, and has no effect on tokens (Keycloak 26.5 `RepresentationToModel`).
pub(crate) fn prepare_body(
    reps: Vec<Rep>,
    known: &[Rep],
    ambient: &Ambient,
) -> Result<Vec<Rep>, Error> {
    prepare_list(reps, known, ambient, prepare_any)
}

/// Prepares a list of mappers; names must differ.
pub(crate) fn prepare_all(
    reps: Vec<Rep>,
    known: &[Rep],
    ambient: &Ambient,
) -> Result<Vec<Rep>, Error> {
    prepare_list(reps, known, ambient, prepare)
}

fn prepare_list(
    reps: Vec<Rep>,
    known: &[Rep],
    ambient: &Ambient,
    prepare: fn(Rep, Option<&str>, &Ambient) -> Result<Rep, Error>,
) -> Result<Vec<Rep>, Error> {
    let mut all: Vec<Rep> = Vec::new();
    for rep in reps {
        let same = known.iter().find(|it| is_same(it, &rep));
        let id = same.and_then(|it| it.text("id"));
        let mapper = prepare(rep, id, ambient)?;
        if all.iter().any(|it| is_same(it, &mapper)) {
            return Err(exists(&mapper));
        }
        all.push(mapper);
    }
    Ok(all)
}

/// Takes the field of a representation that lists mappers.
pub(crate) fn take_list(rep: &mut Rep) -> Option<Vec<Rep>> {
    match rep.shift_remove("protocolMappers")? {
        Value::Array(items) => Some(
            items
                .into_iter()
                .filter_map(|item| item.as_object().cloned())
                .collect(),
        ),
        _ => None,
    }
}

/// Mappers are matched by protocol and name.
fn is_same(one: &Rep, other: &Rep) -> bool {
    let protocol = |rep: &Rep| rep.text("protocol").unwrap_or("openid-connect").to_owned();
    one.text("name") == other.text("name") && protocol(one) == protocol(other)
}

fn exists(mapper: &Rep) -> Error {
    let name = mapper.text("name").unwrap_or_default().to_owned();
    Error::Exists {
        thing: Thing::Mapper,
        name,
        renaming: false,
    }
}

fn has_id(mapper: &Rep, id: &str) -> bool {
    mapper.text("id") == Some(id)
}

trait Mapped: Stored {
    const MISSING: Thing;
    fn mappers(&mut self) -> &mut Vec<Rep>;
}

impl Mapped for ClientBody {
    const MISSING: Thing = Thing::Client;

    fn mappers(&mut self) -> &mut Vec<Rep> {
        &mut self.mappers
    }
}

impl Mapped for ScopeBody {
    const MISSING: Thing = Thing::ClientScope;

    fn mappers(&mut self) -> &mut Vec<Rep> {
        &mut self.mappers
    }
}

impl Iris {
    /// The mappers of a client or client scope.
    ///
    /// # Errors
    /// [`Error::Missing`] for an unknown holder.
    pub async fn mappers(
        &self,
        realm_id: &str,
        holder: MapperHolder,
        id: &str,
    ) -> Result<Vec<Rep>, Error> {
        match holder {
            MapperHolder::Client => {
                let found = self.read::<ClientBody>(kind::CLIENT, realm_id, id).await?;
                Ok(found.ok_or(Error::Missing(Thing::Client))?.0.mappers)
            }
            MapperHolder::Scope => {
                let found = self.read::<ScopeBody>(kind::SCOPE, realm_id, id).await?;
                Ok(found.ok_or(Error::Missing(Thing::ClientScope))?.0.mappers)
            }
        }
    }

    /// One mapper.
    ///
    /// # Errors
    /// [`Error::Missing`] for an unknown holder or mapper.
    pub async fn mapper(
        &self,
        realm_id: &str,
        holder: MapperHolder,
        id: &str,
        mapper_id: &str,
    ) -> Result<Rep, Error> {
        let mappers = self.mappers(realm_id, holder, id).await?;
        let found = mappers.into_iter().find(|mapper| has_id(mapper, mapper_id));
        found.ok_or(Error::Missing(Thing::Mapper))
    }

    /// Adds mappers, all or none; gives the ids.
    ///
    /// # Errors
    /// [`Error::Exists`] for a taken name, [`Error::Missing`] for an unknown type.
    pub async fn add_mappers(
        &self,
        realm_id: &str,
        holder: MapperHolder,
        id: &str,
        reps: Vec<Rep>,
    ) -> Result<Vec<String>, Error> {
        let prepared = prepare_all(reps, &[], &self.ambient)?;
        let ids = prepared
            .iter()
            .filter_map(|it| it.text("id").map(str::to_owned))
            .collect();
        self.change_mappers(realm_id, holder, id, move |mappers| {
            let clash = |new: &&Rep| {
                let new_id = new.text("id").unwrap_or_default();
                mappers
                    .iter()
                    .any(|old| is_same(old, new) || has_id(old, new_id))
            };
            if let Some(clash) = prepared.iter().find(clash) {
                return Err(exists(clash));
            }
            mappers.extend(prepared.iter().cloned());
            Ok(())
        })
        .await?;
        Ok(ids)
    }

    /// Replaces a mapper.
    ///
    /// # Errors
    /// [`Error::Missing`] for an unknown holder, mapper or type.
    pub async fn update_mapper(
        &self,
        realm_id: &str,
        holder: MapperHolder,
        id: &str,
        mapper_id: &str,
        rep: Rep,
    ) -> Result<(), Error> {
        let prepared = prepare(rep, Some(mapper_id), &self.ambient)?;
        self.change_mappers(realm_id, holder, id, move |mappers| {
            let others = mappers.iter().filter(|it| !has_id(it, mapper_id));
            if others.into_iter().any(|other| is_same(other, &prepared)) {
                return Err(exists(&prepared));
            }
            let found = mappers.iter_mut().find(|it| has_id(it, mapper_id));
            *found.ok_or(Error::Missing(Thing::Mapper))? = prepared.clone();
            Ok(())
        })
        .await
    }

    /// Deletes a mapper.
    ///
    /// # Errors
    /// [`Error::Missing`] for an unknown holder or mapper.
    pub async fn delete_mapper(
        &self,
        realm_id: &str,
        holder: MapperHolder,
        id: &str,
        mapper_id: &str,
    ) -> Result<(), Error> {
        self.change_mappers(realm_id, holder, id, |mappers| {
            let at = mappers.iter().position(|it| has_id(it, mapper_id));
            mappers.remove(at.ok_or(Error::Missing(Thing::Mapper))?);
            Ok(())
        })
        .await
    }

    async fn change_mappers(
        &self,
        realm_id: &str,
        holder: MapperHolder,
        id: &str,
        change: impl FnMut(&mut Vec<Rep>) -> Result<(), Error> + Send,
    ) -> Result<(), Error> {
        match holder {
            MapperHolder::Client => self.change_mapped::<ClientBody>(realm_id, id, change).await,
            MapperHolder::Scope => self.change_mapped::<ScopeBody>(realm_id, id, change).await,
        }
    }

    async fn change_mapped<T: Mapped>(
        &self,
        realm_id: &str,
        id: &str,
        mut change: impl FnMut(&mut Vec<Rep>) -> Result<(), Error> + Send,
    ) -> Result<(), Error> {
        let apply = |body: &mut T| change(body.mappers()).map(|()| Vec::new());
        self.change::<T>(realm_id, id, T::MISSING, apply).await?;
        Ok(())
    }
}
