//! Client scopes and where they are assigned.

use o28m_store::Write;
use serde_json::{Value, json};

use crate::admin::mappers::{prepare_all, prepare_body, take_list};
use crate::admin::{Others, check_length, merge_texts, taken};
use crate::model::{ClientBody, Fields as _, RealmBody, Rep, ScopeBody, Stored as _, kind};
use crate::{Error, Invalid, Iris, Thing, representation};

/// How a client scope is assigned in its realm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScopeAssignment {
    /// New clients get it as a default client scope.
    Default,
    /// New clients get it as an optional client scope.
    Optional,
    /// Not assigned to new clients.
    None,
}

/// Whose assigned scopes are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScopeHolder<'a> {
    /// What the realm assigns to new clients.
    Realm,
    /// What a client has.
    Client(&'a str),
}

/// Protocols a scope may be of.
const PROTOCOLS: &[&str] = &["openid-connect", "saml"];

fn check(rep: &Rep) -> Result<(), Error> {
    let name = rep.text("name").unwrap_or_default();
    if name.is_empty() {
        return Err(Error::Invalid(Invalid::Required("name")));
    }
    check_length("name", name)?;
    let fits = |it: char| !it.is_whitespace() && !it.is_control() && it != '"' && it != '\\';
    if !name.chars().all(fits) || name == "openid" {
        return Err(Error::Invalid(Invalid::ScopeName(name.to_owned())));
    }
    if !rep
        .text("protocol")
        .is_some_and(|it| PROTOCOLS.contains(&it))
    {
        return Err(Error::Invalid(Invalid::ScopeProtocol));
    }
    Ok(())
}

/// A client scope to make.
pub(crate) fn draft(
    realm_id: &str,
    mut rep: Rep,
    ambient: &o28m_core::Ambient,
) -> Result<ScopeBody, Error> {
    check(&rep)?;
    let name = rep.text("name").unwrap_or_default().to_owned();
    let mappers = prepare_body(take_list(&mut rep).unwrap_or_default(), &[], ambient)?;
    let sent_id = rep
        .text("id")
        .filter(|id| o28m_core::id::is_uuid(id))
        .map(str::to_owned);
    let attributes = rep.shift_remove("attributes").unwrap_or_else(|| json!({}));
    rep.shift_remove("id");
    rep.shift_remove("name");
    rep.insert("attributes".to_owned(), json!({}));
    merge_texts(&mut rep, "attributes", attributes);
    Ok(ScopeBody {
        id: sent_id.unwrap_or_else(|| ambient.uuid()),
        realm: realm_id.to_owned(),
        name,
        rep,
        mappers,
        scope_roles: Vec::new(),
    })
}

pub(crate) fn render(body: ScopeBody) -> Rep {
    let mut rep = body.rep;
    rep.insert("id".to_owned(), json!(body.id));
    rep.insert("name".to_owned(), json!(body.name));
    if !body.mappers.is_empty() {
        rep.insert("protocolMappers".to_owned(), json!(body.mappers));
    }
    representation::CLIENT_SCOPE.arrange(rep)
}

/// The two lists of a realm or client.
struct Lists<'a> {
    default: &'a mut Vec<String>,
    optional: &'a mut Vec<String>,
}

impl Lists<'_> {
    /// Puts a scope into one list and takes it out of the other.
    fn assign(&mut self, id: &str, to: ScopeAssignment) {
        self.default.retain(|it| it != id);
        self.optional.retain(|it| it != id);
        match to {
            ScopeAssignment::Default => self.default.push(id.to_owned()),
            ScopeAssignment::Optional => self.optional.push(id.to_owned()),
            ScopeAssignment::None => {}
        }
    }

    fn list(&self, of: ScopeAssignment) -> &[String] {
        match of {
            ScopeAssignment::Default => self.default,
            ScopeAssignment::Optional => self.optional,
            ScopeAssignment::None => &[],
        }
    }
}

fn realm_lists(realm: &mut RealmBody) -> Lists<'_> {
    Lists {
        default: &mut realm.default_scopes,
        optional: &mut realm.optional_scopes,
    }
}

fn client_lists(client: &mut ClientBody) -> Lists<'_> {
    Lists {
        default: &mut client.default_scopes,
        optional: &mut client.optional_scopes,
    }
}

impl Iris {
    /// Every client scope of a realm.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn client_scopes(&self, realm_id: &str) -> Result<Vec<Rep>, Error> {
        let mut bodies = self.read_owned::<ScopeBody>(kind::SCOPE, realm_id).await?;
        bodies.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(bodies.into_iter().map(render).collect())
    }

    /// One client scope.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn client_scope(&self, realm_id: &str, id: &str) -> Result<Rep, Error> {
        let found = self.read::<ScopeBody>(kind::SCOPE, realm_id, id).await?;
        found
            .map(|(body, _)| render(body))
            .ok_or(Error::Missing(Thing::ClientScope))
    }

    /// Makes a client scope with its mappers; gives its id.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Invalid`], [`Error::Missing`] for an unknown mapper type.
    pub async fn create_client_scope(&self, realm_id: &str, rep: Rep) -> Result<String, Error> {
        let body = draft(realm_id, rep, &self.ambient)?;
        match self
            .write(realm_id, vec![Write::Insert(body.object())])
            .await
        {
            Ok(()) => Ok(body.id),
            Err(error) => Err(taken(error, Thing::ClientScope, &body.name, false)),
        }
    }

    /// Changes name, description, protocol and attributes; mappers in the body are ignored, as the
    /// control plane counts on.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Exists`], [`Error::Invalid`].
    pub async fn update_client_scope(
        &self,
        realm_id: &str,
        id: &str,
        rep: Rep,
    ) -> Result<(), Error> {
        let change = |scope: &mut ScopeBody| -> Result<Others, Error> {
            for (field, value) in &rep {
                match field.as_str() {
                    "id" | "name" | "protocolMappers" => {}
                    "attributes" => merge_texts(&mut scope.rep, field, value.clone()),
                    _ => {
                        scope.rep.insert(field.clone(), value.clone());
                    }
                }
            }
            if let Some(name) = rep.text("name") {
                name.clone_into(&mut scope.name);
            }
            let mut whole = scope.rep.clone();
            whole.insert("name".to_owned(), json!(scope.name));
            check(&whole).map(|()| Vec::new())
        };
        match self
            .change::<ScopeBody>(realm_id, id, Thing::ClientScope, change)
            .await
        {
            Ok(_) => Ok(()),
            Err(Error::Store(error)) => Err(taken(
                error,
                Thing::ClientScope,
                rep.text("name").unwrap_or_default(),
                true,
            )),
            Err(error) => Err(error),
        }
    }

    /// Deletes a client scope and takes it out of the realm's lists; clients forget it by themselves,
    /// because what they have is looked up by id.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Invalid`] for the last scope.
    pub async fn delete_client_scope(&self, realm_id: &str, id: &str) -> Result<(), Error> {
        let scopes = self.read_owned::<ScopeBody>(kind::SCOPE, realm_id).await?;
        if !scopes.iter().any(|scope| scope.id == id) {
            return Err(Error::Missing(Thing::ClientScope));
        }
        if scopes.len() == 1 {
            return Err(Error::Invalid(Invalid::LastScope));
        }
        let change = |realm: &mut RealmBody| {
            realm_lists(realm).assign(id, ScopeAssignment::None);
            Ok(vec![Write::Delete {
                kind: kind::SCOPE,
                id: id.to_owned(),
            }])
        };
        self.change::<RealmBody>(realm_id, realm_id, Thing::Realm, change)
            .await?;
        Ok(())
    }

    /// The scopes of a list, as `id`, `name` and, for the realm's, `protocol`.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn assigned_scopes(
        &self,
        realm_id: &str,
        holder: ScopeHolder<'_>,
        of: ScopeAssignment,
    ) -> Result<Vec<Value>, Error> {
        let ids = match holder {
            ScopeHolder::Realm => {
                let mut realm = self.realm_body(realm_id).await?;
                realm_lists(&mut realm).list(of).to_vec()
            }
            ScopeHolder::Client(id) => {
                let mut client = self.client_body(realm_id, id).await?;
                client_lists(&mut client).list(of).to_vec()
            }
        };
        let scopes = self.read_owned::<ScopeBody>(kind::SCOPE, realm_id).await?;
        let found = ids
            .iter()
            .filter_map(|id| scopes.iter().find(|scope| scope.id == *id));
        let show = |scope: &ScopeBody| match holder {
            ScopeHolder::Realm => json!({
                "id": scope.id, "name": scope.name, "protocol": scope.rep.text("protocol"),
            }),
            ScopeHolder::Client(_) => json!({"id": scope.id, "name": scope.name}),
        };
        Ok(found.map(show).collect())
    }

    /// Puts a scope into a list (and out of the other), or out of the list it is in.
    ///
    /// # Errors
    /// [`Error::Missing`]; [`Error::Assigned`] when the realm's list has it already.
    pub async fn assign_scope(
        &self,
        realm_id: &str,
        holder: ScopeHolder<'_>,
        scope_id: &str,
        to: ScopeAssignment,
    ) -> Result<(), Error> {
        let scope = self
            .read::<ScopeBody>(kind::SCOPE, realm_id, scope_id)
            .await?;
        if scope.is_none() {
            return Err(Error::Missing(Thing::AssignableScope));
        }
        match holder {
            ScopeHolder::Realm => {
                let change = |realm: &mut RealmBody| {
                    let mut lists = realm_lists(realm);
                    if to != ScopeAssignment::None
                        && (lists.default.iter().chain(&*lists.optional)).any(|it| it == scope_id)
                    {
                        return Err(Error::Assigned);
                    }
                    lists.assign(scope_id, to);
                    Ok(Vec::new())
                };
                self.change::<RealmBody>(realm_id, realm_id, Thing::Realm, change)
                    .await?;
            }
            ScopeHolder::Client(id) => {
                let change = |client: &mut ClientBody| {
                    client_lists(client).assign(scope_id, to);
                    Ok(Vec::new())
                };
                self.change::<ClientBody>(realm_id, id, Thing::Client, change)
                    .await?;
            }
        }
        Ok(())
    }

    /// Makes a scope or brings its mappers to the given ones, and assigns it.
    pub(crate) async fn put_client_scope(
        &self,
        realm_id: &str,
        mut rep: Rep,
        assignment: ScopeAssignment,
    ) -> Result<(), Error> {
        let name = rep.text("name").unwrap_or_default().to_owned();
        let known = self
            .read_by_key::<ScopeBody>(kind::SCOPE, realm_id, "name", &name)
            .await?;
        let id = match known {
            None => self.create_client_scope(realm_id, rep).await?,
            Some(scope) => {
                let mappers = take_list(&mut rep).unwrap_or_default();
                let wanted = prepare_all(mappers, &scope.mappers, &self.ambient)?;
                if wanted != scope.mappers {
                    let change = |scope: &mut ScopeBody| {
                        scope.mappers.clone_from(&wanted);
                        Ok(Vec::new())
                    };
                    self.change::<ScopeBody>(realm_id, &scope.id, Thing::ClientScope, change)
                        .await?;
                }
                scope.id
            }
        };
        let mut realm = self.realm_body(realm_id).await?;
        let lists = realm_lists(&mut realm);
        let is_default = lists.default.contains(&id);
        let is_optional = lists.optional.contains(&id);
        let fits = match assignment {
            ScopeAssignment::Default => is_default,
            ScopeAssignment::Optional => is_optional,
            ScopeAssignment::None => !is_default && !is_optional,
        };
        if fits {
            return Ok(());
        }
        let change = |realm: &mut RealmBody| {
            realm_lists(realm).assign(&id, assignment);
            Ok(Vec::new())
        };
        self.change::<RealmBody>(realm_id, realm_id, Thing::Realm, change)
            .await?;
        Ok(())
    }
}
