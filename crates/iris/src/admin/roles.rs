//! Roles, composites, and the role lists of users, clients and client scopes.

use o28m_store::{Filter, Query, Test, Write};
use serde_json::{Value, json};

use crate::admin::{Others, check_length, taken};
use crate::model::{
    ClientBody, Fields as _, GroupBody, Rep, RoleBody, ScopeBody, Stored, UserBody, kind, role_key,
};
use crate::new_realm::ADMIN_ROLES;
use crate::{Error, Invalid, Iris, MASTER, Thing, representation};

/// Clients whose roles give rights over the realm they are in.
pub(crate) const MANAGEMENT_CLIENTS: &[&str] = &["realm-management", "master-realm"];
/// Roles of the master realm that give rights over the installation.
pub(crate) const MASTER_ROLES: &[&str] = &["admin", "create-realm"];

/// Names of roles that give rights over a realm.
const ADMIN_ROLE_NAMES: [&[&str]; 2] = [ADMIN_ROLES, &["realm-admin"]];

/// Where a role belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleContainer<'a> {
    /// The realm.
    Realm,
    /// A client, by id.
    Client(&'a str),
}

/// What has a list of roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleHolder<'a> {
    /// The roles a user has.
    User(&'a str),
    /// The roles scope-mapped to a client.
    Client(&'a str),
    /// The roles scope-mapped to a client scope.
    Scope(&'a str),
    /// The roles a composite contains.
    Composite(&'a str),
    /// The roles the members of a group have.
    Group(&'a str),
}

/// How many to give and what to leave out.
#[derive(Clone, Debug, Default)]
pub struct RoleFilter {
    /// Only names that contain this text.
    pub search: Option<String>,
    /// Leave out this many first.
    pub first: u32,
    /// At most this many.
    pub max: Option<u32>,
    /// Without attributes.
    pub brief: bool,
}

/// The representation of a role.
pub(crate) fn render(body: &RoleBody, brief: bool) -> Rep {
    let mut rep = body.rep.clone();
    if brief {
        rep.shift_remove("attributes");
    } else {
        rep.entry("attributes".to_owned())
            .or_insert_with(|| json!({}));
    }
    rep.insert("id".to_owned(), json!(body.id));
    rep.insert("name".to_owned(), json!(body.name));
    rep.insert("composite".to_owned(), json!(!body.composites.is_empty()));
    rep.insert("clientRole".to_owned(), json!(body.client.is_some()));
    rep.insert("containerId".to_owned(), json!(body.container()));
    representation::ROLE.arrange(rep)
}

pub(crate) fn is_in(role: &RoleBody, container: RoleContainer<'_>) -> bool {
    match container {
        RoleContainer::Realm => role.client.is_none(),
        RoleContainer::Client(id) => role.client.as_deref() == Some(id),
    }
}

trait HasRoles: Stored {
    const MISSING: Thing;
    fn roles(&mut self) -> &mut Vec<String>;
}

macro_rules! has_roles {
    ($($of:ty: $field:ident, $missing:expr;)*) => {
        $(impl HasRoles for $of {
            const MISSING: Thing = $missing;

            fn roles(&mut self) -> &mut Vec<String> {
                &mut self.$field
            }
        })*
    };
}

has_roles! {
    UserBody: roles, Thing::User;
    ClientBody: scope_roles, Thing::Client;
    ScopeBody: scope_roles, Thing::ClientScope;
    RoleBody: composites, Thing::RoleById;
    GroupBody: roles, Thing::Group;
}

impl Iris {
    async fn container_id(&self, realm_id: &str, of: RoleContainer<'_>) -> Result<String, Error> {
        match of {
            RoleContainer::Realm => Ok(realm_id.to_owned()),
            RoleContainer::Client(id) => Ok(self.client_body(realm_id, id).await?.id),
        }
    }

    /// The roles of a realm or client.
    ///
    /// # Errors
    /// [`Error::Missing`] for an unknown client.
    pub async fn roles(
        &self,
        realm_id: &str,
        container: RoleContainer<'_>,
        filter: &RoleFilter,
    ) -> Result<Vec<Rep>, Error> {
        let id = self.container_id(realm_id, container).await?;
        let pattern = filter.search.as_ref().map(|text| format!("*{text}*"));
        let folded = pattern.as_ref().map(|pattern| pattern.to_lowercase());
        let mut alternatives = Vec::new();
        // The name itself finds roles that were stored before their folded names were.
        for (field, pattern) in [("find", &folded), ("name", &pattern)] {
            if let Some(pattern) = pattern {
                alternatives.push(Filter {
                    path: vec![field],
                    test: Test::Fits(pattern),
                });
            }
        }
        let query = Query {
            kind: kind::ROLE,
            owner: Some(realm_id),
            reference: Some(("container", &id)),
            by_key: Some("name"),
            filters: (!alternatives.is_empty())
                .then_some(alternatives)
                .into_iter()
                .collect(),
            ..Query::default()
        };
        let key = |role: &RoleBody| role_key(role.container(), &role.name);
        let show = |role: &RoleBody| render(role, filter.brief);
        let roles = self
            .read_by_name(kind::ROLE, query, filter.first, filter.max, key)
            .await?;
        Ok(roles.iter().map(show).collect())
    }

    pub(crate) async fn role_body(
        &self,
        realm_id: &str,
        container: RoleContainer<'_>,
        name: &str,
    ) -> Result<RoleBody, Error> {
        let key = role_key(&self.container_id(realm_id, container).await?, name);
        let found = self.read_by_key(kind::ROLE, realm_id, "name", &key).await?;
        found.ok_or(Error::Missing(Thing::Role))
    }

    /// One role by name.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn role_by_name(
        &self,
        realm_id: &str,
        container: RoleContainer<'_>,
        name: &str,
    ) -> Result<Rep, Error> {
        Ok(render(
            &self.role_body(realm_id, container, name).await?,
            false,
        ))
    }

    /// One role by id.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn role_by_id(&self, realm_id: &str, id: &str) -> Result<Rep, Error> {
        let found = self.read::<RoleBody>(kind::ROLE, realm_id, id).await?;
        found
            .map(|(role, _)| render(&role, false))
            .ok_or(Error::Missing(Thing::RoleById))
    }

    /// Makes a role; gives its name.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Invalid`].
    pub async fn create_role(
        &self,
        realm_id: &str,
        container: RoleContainer<'_>,
        mut rep: Rep,
    ) -> Result<String, Error> {
        let name = rep.text("name").unwrap_or_default().to_owned();
        if name.is_empty() {
            return Err(Error::Invalid(Invalid::Required("name")));
        }
        check_length("name", &name)?;
        check_length("description", rep.text("description").unwrap_or_default())?;
        let client = match container {
            RoleContainer::Realm => None,
            RoleContainer::Client(id) => Some(self.client_body(realm_id, id).await?.id),
        };
        rep.retain(|field, _| matches!(field.as_str(), "description" | "attributes"));
        let role = RoleBody {
            id: self.ambient.uuid(),
            realm: realm_id.to_owned(),
            client,
            name,
            rep,
            composites: Vec::new(),
            find: String::new(),
        };
        match self
            .write(realm_id, vec![Write::Insert(role.object())])
            .await
        {
            Ok(()) => Ok(role.name),
            Err(error) => Err(taken(error, Thing::Role, &role.name, false)),
        }
    }

    /// Refuses to rename or delete a role that gives rights over a realm.
    async fn check_not_built_in(&self, realm_id: &str, id: &str) -> Result<(), Error> {
        let role = self
            .role(realm_id, id)
            .await?
            .ok_or(Error::Missing(Thing::RoleById))?;
        let name = role.body.name.as_str();
        let built_in = match role.client_id {
            Some(_) => {
                role.administers && ADMIN_ROLE_NAMES.iter().any(|names| names.contains(&name))
            }
            None => self.realm_body(realm_id).await?.name == MASTER && MASTER_ROLES.contains(&name),
        };
        if built_in {
            return Err(Error::Invalid(Invalid::BuiltInName(name.to_owned())));
        }
        Ok(())
    }

    /// Changes a role by id.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Exists`].
    pub async fn update_role(&self, realm_id: &str, id: &str, rep: Rep) -> Result<(), Error> {
        let name = rep.text("name").unwrap_or_default().to_owned();
        let found = self.read::<RoleBody>(kind::ROLE, realm_id, id).await?;
        let (known, _) = found.ok_or(Error::Missing(Thing::RoleById))?;
        if !name.is_empty() && name != known.name {
            self.check_not_built_in(realm_id, id).await?;
        }
        let change = |role: &mut RoleBody| -> Result<Others, Error> {
            if !name.is_empty() {
                check_length("name", &name)?;
                role.name.clone_from(&name);
            }
            for field in ["description", "attributes"] {
                if let Some(value) = rep.get(field) {
                    role.rep.insert(field.to_owned(), value.clone());
                }
            }
            Ok(Vec::new())
        };
        match self
            .change::<RoleBody>(realm_id, id, Thing::RoleById, change)
            .await
        {
            Ok(_) => Ok(()),
            Err(Error::Store(error)) => Err(taken(error, Thing::Role, &name, true)),
            Err(error) => Err(error),
        }
    }

    /// Deletes a role by id; who has it forgets it by themselves.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Invalid`] for the realm's default role.
    pub async fn delete_role(&self, realm_id: &str, id: &str) -> Result<(), Error> {
        let found = self.read::<RoleBody>(kind::ROLE, realm_id, id).await?;
        let (role, _) = found.ok_or(Error::Missing(Thing::RoleById))?;
        if self.realm_body(realm_id).await?.default_role == role.id {
            return Err(Error::Invalid(Invalid::DefaultRole(role.name)));
        }
        self.check_not_built_in(realm_id, id).await?;
        let step = Write::Delete {
            kind: kind::ROLE,
            id: id.to_owned(),
        };
        Ok(self.write(realm_id, vec![step]).await?)
    }

    async fn held(&self, realm_id: &str, holder: RoleHolder<'_>) -> Result<Vec<String>, Error> {
        match holder {
            RoleHolder::User(id) => self.held_by::<UserBody>(realm_id, id).await,
            RoleHolder::Client(id) => self.held_by::<ClientBody>(realm_id, id).await,
            RoleHolder::Scope(id) => self.held_by::<ScopeBody>(realm_id, id).await,
            RoleHolder::Composite(id) => self.held_by::<RoleBody>(realm_id, id).await,
            RoleHolder::Group(id) => self.held_by::<GroupBody>(realm_id, id).await,
        }
    }

    /// What a user or group has through groups.
    async fn inherited(
        &self,
        realm_id: &str,
        holder: RoleHolder<'_>,
    ) -> Result<Vec<String>, Error> {
        let mut ids = Vec::new();
        let groups = match holder {
            RoleHolder::User(id) => {
                let found = self.read::<UserBody>(kind::USER, realm_id, id).await?;
                found.map(|(user, _)| user.groups).unwrap_or_default()
            }
            RoleHolder::Group(id) => vec![id.to_owned()],
            RoleHolder::Client(_) | RoleHolder::Scope(_) | RoleHolder::Composite(_) => Vec::new(),
        };
        for id in groups {
            if let Some(group) = self.group(realm_id, &id).await? {
                let all = std::iter::once(&group.body).chain(&group.above);
                ids.extend(all.flat_map(|body| body.roles.iter().cloned()));
            }
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    async fn held_by<T: HasRoles>(&self, realm_id: &str, id: &str) -> Result<Vec<String>, Error> {
        let found = self.read::<T>(T::KIND, realm_id, id).await?;
        let (mut body, _) = found.ok_or(Error::Missing(T::MISSING))?;
        Ok(std::mem::take(body.roles()))
    }

    /// The roles a holder has, of one container or of all; with `effective`, those of composites too.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn held_roles(
        &self,
        realm_id: &str,
        holder: RoleHolder<'_>,
        container: Option<RoleContainer<'_>>,
        effective: bool,
    ) -> Result<Vec<Rep>, Error> {
        let mut ids = self.held(realm_id, holder).await?;
        if effective {
            ids.extend(self.inherited(realm_id, holder).await?);
        }
        let mut roles: Vec<RoleBody> = if effective {
            self.expand(realm_id, &ids)
                .await?
                .iter()
                .map(|role| role.body.clone())
                .collect()
        } else {
            let mut direct = Vec::new();
            for id in &ids {
                direct.extend(self.role(realm_id, id).await?.map(|role| role.body.clone()));
            }
            direct
        };
        roles.retain(|role| container.is_none_or(|container| is_in(role, container)));
        roles.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(roles.iter().map(|role| render(role, true)).collect())
    }

    /// The users who have a role themselves.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn users_with_role(
        &self,
        realm_id: &str,
        role: &str,
        first: u32,
        max: Option<u32>,
        brief: bool,
    ) -> Result<Vec<Rep>, Error> {
        let reference = ("role", role);
        self.users_pointing(realm_id, reference, first, max, brief)
            .await
    }

    /// The groups that have a role themselves.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn groups_with_role(
        &self,
        realm_id: &str,
        role: &str,
        first: u32,
        max: Option<u32>,
        brief: bool,
    ) -> Result<Vec<Rep>, Error> {
        let query = Query {
            kind: kind::GROUP,
            owner: Some(realm_id),
            reference: Some(("role", role)),
            by_key: Some("name"),
            ..Query::default()
        };
        let key = |group: &GroupBody| role_key(group.container(), &group.name);
        let groups = self
            .read_by_name(kind::GROUP, query, first, max, key)
            .await?;
        let mut reps = Vec::new();
        for group in groups {
            reps.push(self.render_group(group, brief).await?);
        }
        Ok(reps)
    }

    /// Every role a holder has, grouped as `realmMappings` and `clientMappings`.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn all_held_roles(
        &self,
        realm_id: &str,
        holder: RoleHolder<'_>,
    ) -> Result<Value, Error> {
        let ids = self.held(realm_id, holder).await?;
        let mut realm = Vec::new();
        let mut clients = serde_json::Map::new();
        for id in &ids {
            let Some(role) = self.role(realm_id, id).await? else {
                continue;
            };
            let rep = json!(render(&role.body, true));
            let Some(client) = &role.client_id else {
                realm.push(rep);
                continue;
            };
            let empty = || json!({"id": role.body.client, "client": client, "mappings": []});
            let entry = clients.entry(client.clone()).or_insert_with(empty);
            if let Some(list) = entry.get_mut("mappings").and_then(Value::as_array_mut) {
                list.push(rep);
            }
        }
        let mut all = serde_json::Map::new();
        if !realm.is_empty() {
            all.insert("realmMappings".to_owned(), Value::Array(realm));
        }
        if !clients.is_empty() {
            all.insert("clientMappings".to_owned(), Value::Object(clients));
        }
        Ok(Value::Object(all))
    }

    /// The roles of a container that a holder does not have yet.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn available_roles(
        &self,
        realm_id: &str,
        holder: RoleHolder<'_>,
        container: RoleContainer<'_>,
    ) -> Result<Vec<Rep>, Error> {
        let held = self.held(realm_id, holder).await?;
        let filter = RoleFilter {
            brief: true,
            ..RoleFilter::default()
        };
        let mut roles = self.roles(realm_id, container, &filter).await?;
        roles.retain(|role| !held.iter().any(|id| role.text("id") == Some(id)));
        Ok(roles)
    }

    /// Adds or removes roles, given by id and name.
    ///
    /// # Errors
    /// [`Error::Missing`] for an unknown holder, or a role that is unknown or not of the container.
    pub async fn change_held_roles(
        &self,
        realm_id: &str,
        holder: RoleHolder<'_>,
        container: Option<RoleContainer<'_>>,
        roles: &[Rep],
        add: bool,
    ) -> Result<(), Error> {
        let mut ids = Vec::new();
        for rep in roles {
            let id = rep.text("id").unwrap_or_default();
            let found = self.read::<RoleBody>(kind::ROLE, realm_id, id).await?;
            let fits = |role: &RoleBody| {
                rep.text("name").is_none_or(|name| name == role.name)
                    && container.is_none_or(|container| is_in(role, container))
            };
            let role = found.map(|(role, _)| role).filter(fits);
            ids.push(role.ok_or(Error::Missing(Thing::Role))?.id);
        }
        match holder {
            RoleHolder::User(id) => {
                self.change_roles_of::<UserBody>(realm_id, id, &ids, add)
                    .await
            }
            RoleHolder::Client(id) => {
                self.change_roles_of::<ClientBody>(realm_id, id, &ids, add)
                    .await
            }
            RoleHolder::Scope(id) => {
                self.change_roles_of::<ScopeBody>(realm_id, id, &ids, add)
                    .await
            }
            RoleHolder::Composite(id) => {
                self.change_roles_of::<RoleBody>(realm_id, id, &ids, add)
                    .await
            }
            RoleHolder::Group(id) => {
                self.change_roles_of::<GroupBody>(realm_id, id, &ids, add)
                    .await
            }
        }
    }

    async fn change_roles_of<T: HasRoles>(
        &self,
        realm_id: &str,
        holder: &str,
        ids: &[String],
        add: bool,
    ) -> Result<(), Error> {
        let change = |body: &mut T| {
            let held = body.roles();
            for id in ids {
                held.retain(|it| it != id);
                if add {
                    held.push(id.clone());
                }
            }
            Ok(Vec::new())
        };
        self.change::<T>(realm_id, holder, T::MISSING, change)
            .await?;
        Ok(())
    }
}
