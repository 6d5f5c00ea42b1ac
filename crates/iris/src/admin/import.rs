//! Reading a whole realm: what Keycloak's export of a realm holds, over what a new realm has (Keycloak
//! 26.5 `RepresentationToModel.importRealm`).

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::admin::clients::NewClient;
use crate::admin::keys::{KEY_PROVIDER, imported_key};
use crate::admin::{groups, scopes};
use crate::keys::KeyBody;
use crate::model::{
    ClientBody, Fields as _, GroupBody, RealmBody, Rep, RoleBody, ScopeBody, UserBody, kind,
    role_key,
};
use crate::new_realm::{NewRealm, SERVICE_ACCOUNT};
use crate::{Error, Invalid, Iris};

/// Scope without which tokens have no subject; exports of older versions do not have it.
const BASIC: &str = "basic";
/// What stands for a secret in an export.
pub(crate) const MASK: &str = "**********";
/// Blocks that have no effect here and come back on export.
pub(crate) const KEPT: &[&str] = &[
    "identityProviders",
    "identityProviderMappers",
    "authenticationFlows",
    "authenticatorConfig",
    "requiredActions",
];
/// Blocks that are read.
pub(crate) const READ: &[&str] = &[
    "roles",
    "groups",
    "defaultRoles",
    "defaultRole",
    "defaultGroups",
    "users",
    "scopeMappings",
    "clientScopeMappings",
    "clients",
    "clientScopes",
    "defaultDefaultClientScopes",
    "defaultOptionalClientScopes",
    "components",
];

pub(crate) fn refuse(block: &'static str, text: impl Into<String>) -> Error {
    Error::Invalid(Invalid::Import {
        block,
        text: text.into(),
    })
}

/// The objects of a list.
pub(crate) fn maps(value: Option<Value>) -> Vec<Rep> {
    match value {
        Some(Value::Array(items)) => items
            .into_iter()
            .filter_map(|item| match item {
                Value::Object(map) => Some(map),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// Lists of objects by name, checked against a schema, as the type `Object` does not.
fn maps_by_name(
    value: Option<&Value>,
    schema: &'static crate::schema::Schema,
) -> Result<Vec<(String, Vec<Rep>)>, Error> {
    let mut all = Vec::new();
    for (name, items) in value.and_then(Value::as_object).into_iter().flatten() {
        let mut reps = Vec::new();
        for item in items.as_array().into_iter().flatten() {
            reps.push(schema.check(item)?);
        }
        all.push((name.clone(), reps));
    }
    Ok(all)
}

/// Finds what a body names: in memory first, then, for an existing realm, in the store.
pub(crate) struct Names<'a> {
    iris: &'a Iris,
    realm_id: String,
    stored: bool,
    /// Ids by `clientId`.
    clients: HashMap<String, String>,
    /// Ids by container and name.
    roles: HashMap<String, String>,
    /// Ids by path.
    groups: HashMap<String, String>,
}

impl<'a> Names<'a> {
    /// Of a realm that is in the store.
    pub(crate) fn of_stored(iris: &'a Iris, realm_id: &str) -> Self {
        Self {
            iris,
            realm_id: realm_id.to_owned(),
            stored: true,
            clients: HashMap::new(),
            roles: HashMap::new(),
            groups: HashMap::new(),
        }
    }

    /// Of a realm that is being made.
    fn of_new(iris: &'a Iris, realm_id: &str) -> Self {
        Self {
            stored: false,
            ..Self::of_stored(iris, realm_id)
        }
    }

    pub(crate) fn add_client(&mut self, client: &ClientBody) {
        self.clients
            .insert(client.client_id.clone(), client.id.clone());
    }

    pub(crate) fn add_role(&mut self, role: &RoleBody) {
        self.roles
            .insert(role_key(role.container(), &role.name), role.id.clone());
    }

    pub(crate) fn add_group(&mut self, path: &str, id: &str) {
        self.groups.insert(path.to_owned(), id.to_owned());
    }

    pub(crate) async fn client(&self, client_id: &str) -> Result<Option<String>, Error> {
        if let Some(id) = self.clients.get(client_id) {
            return Ok(Some(id.clone()));
        }
        if !self.stored {
            return Ok(None);
        }
        let found = self
            .iris
            .client_body_by_client_id(&self.realm_id, client_id)
            .await?;
        Ok(found.map(|client| client.id))
    }

    pub(crate) async fn role(
        &self,
        client_id: Option<&str>,
        name: &str,
    ) -> Result<Option<String>, Error> {
        let container = match client_id {
            None => Some(self.realm_id.clone()),
            Some(client_id) => self.client(client_id).await?,
        };
        let Some(container) = container else {
            return Ok(None);
        };
        let key = role_key(&container, name);
        if let Some(id) = self.roles.get(&key) {
            return Ok(Some(id.clone()));
        }
        if !self.stored {
            return Ok(None);
        }
        let found = self
            .iris
            .read_by_key::<RoleBody>(kind::ROLE, &self.realm_id, "name", &key)
            .await?;
        Ok(found.map(|role| role.id))
    }

    async fn existing_role(
        &self,
        block: &'static str,
        client_id: Option<&str>,
        name: &str,
    ) -> Result<String, Error> {
        let found = self.role(client_id, name).await?;
        found.ok_or_else(|| match client_id {
            None => refuse(block, format!("realm role {name} does not exist")),
            Some(client) => refuse(
                block,
                format!("role {name} of client {client} does not exist"),
            ),
        })
    }

    /// The ids of the roles that two fields name.
    pub(crate) async fn roles_of(
        &self,
        block: &'static str,
        rep: &Rep,
        realm: &str,
        client: &str,
    ) -> Result<Vec<String>, Error> {
        let mut ids = Vec::new();
        for name in rep.texts(realm) {
            ids.push(self.existing_role(block, None, &name).await?);
        }
        for (client_id, names) in rep
            .get(client)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            for name in names.as_array().into_iter().flatten() {
                let name = name.as_str().unwrap_or_default();
                ids.push(self.existing_role(block, Some(client_id), name).await?);
            }
        }
        Ok(ids)
    }

    pub(crate) async fn group(&self, block: &'static str, path: &str) -> Result<String, Error> {
        let path = format!("/{}", path.trim_matches('/'));
        let mut found = self.groups.get(&path).cloned();
        if found.is_none() && self.stored {
            found = self.iris.group_at(&self.realm_id, &path).await?;
        }
        found.ok_or_else(|| refuse(block, format!("group {path} does not exist")))
    }
}

/// What an import makes besides a new realm's own objects.
#[derive(Default)]
pub(crate) struct Imported {
    pub(crate) groups: Vec<GroupBody>,
    pub(crate) users: Vec<UserBody>,
    pub(crate) keys: Vec<KeyBody>,
}

/// Draws groups and those in them, with their roles.
pub(crate) async fn draft_groups(
    names: &mut Names<'_>,
    realm_id: &str,
    reps: &[Rep],
    ambient: &o28m_core::Ambient,
) -> Result<Vec<GroupBody>, Error> {
    let mut all: Vec<GroupBody> = Vec::new();
    let mut next: Vec<(Option<String>, String, Rep)> = reps
        .iter()
        .rev()
        .map(|rep| (None, String::new(), rep.clone()))
        .collect();
    while let Some((parent, above, mut rep)) = next.pop() {
        let below = maps(rep.shift_remove("subGroups"));
        let mut group = groups::draft(realm_id, parent, &rep, ambient)?;
        group.roles = names
            .roles_of("groups", &rep, "realmRoles", "clientRoles")
            .await?;
        let path = format!("{above}/{}", group.name);
        names.add_group(&path, &group.id);
        for inner in below.into_iter().rev() {
            next.push((Some(group.id.clone()), path.clone(), inner));
        }
        all.push(group);
    }
    Ok(all)
}

/// Everything that names a role by its id.
fn rename_role(new: &mut NewRealm, old: &str, id: &str) {
    let scopes = new.scopes.iter_mut().map(|it| &mut it.scope_roles);
    let clients = new.clients.iter_mut().map(|it| &mut it.scope_roles);
    let composites = new.roles.iter_mut().map(|it| &mut it.composites);
    for list in scopes.chain(clients).chain(composites) {
        for entry in list.iter_mut().filter(|entry| *entry == old) {
            id.clone_into(entry);
        }
    }
    if new.realm.default_role == old {
        id.clone_into(&mut new.realm.default_role);
    }
}

/// A secret that an export has hidden is made anew.
pub(crate) fn unmask(rep: &mut Rep) {
    if rep.text("secret") == Some(MASK) {
        rep.shift_remove("secret");
    }
}

impl Iris {
    /// Applies the blocks of an import to a new realm.
    pub(crate) async fn import(
        &self,
        new: &mut NewRealm,
        mut blocks: Map<String, Value>,
    ) -> Result<Imported, Error> {
        let mut imported = Imported::default();
        for field in KEPT {
            if let Some(value) = blocks.shift_remove(*field) {
                new.realm.kept.insert((*field).to_owned(), value);
            }
        }
        let basic = self.import_scopes(new, &mut blocks)?;
        let users = maps(blocks.shift_remove("users"));
        let owners: Vec<String> = users
            .iter()
            .filter_map(|user| user.text("serviceAccountClientId").map(str::to_owned))
            .collect();
        self.import_clients(new, &mut blocks, basic.as_deref(), &owners, &mut imported)?;
        let mut names = Names::of_new(self, &new.realm.id);
        for client in &new.clients {
            names.add_client(client);
        }
        self.import_roles(new, &mut blocks, &mut names).await?;
        let reps = maps(blocks.shift_remove("groups"));
        imported.groups = draft_groups(&mut names, &new.realm.id, &reps, &self.ambient).await?;
        for path in blocks.texts("defaultGroups") {
            let id = names.group("defaultGroups", &path).await?;
            new.realm.default_groups.push(id);
        }
        import_mappings(new, &mut blocks, &names).await?;
        self.import_users(new, users, &names, &mut imported).await?;
        self.import_components(new, &mut blocks, &mut imported)
            .await?;
        Ok(imported)
    }

    /// Gives the id of scope `basic` when the import lacks it.
    fn import_scopes(
        &self,
        new: &mut NewRealm,
        blocks: &mut Map<String, Value>,
    ) -> Result<Option<String>, Error> {
        let mut added = None;
        if blocks.contains_key("clientScopes") {
            let mut sent: Vec<ScopeBody> = Vec::new();
            for rep in maps(blocks.shift_remove("clientScopes")) {
                sent.push(scopes::draft(&new.realm.id, rep, &self.ambient)?);
            }
            let has = |name: &str| sent.iter().any(|scope| scope.name == name);
            let needed = [BASIC, SERVICE_ACCOUNT].map(|name| (name, has(name)));
            for scope in std::mem::take(&mut new.scopes) {
                if needed.contains(&(scope.name.as_str(), false)) {
                    if scope.name == BASIC {
                        added = Some(scope.id.clone());
                    }
                    sent.push(scope);
                }
            }
            new.realm.default_scopes.clear();
            new.realm.optional_scopes.clear();
            new.scopes = sent;
        }
        for (field, optional) in [
            ("defaultDefaultClientScopes", false),
            ("defaultOptionalClientScopes", true),
        ] {
            if !blocks.contains_key(field) {
                continue;
            }
            let named = |name: String| {
                let scope = new.scopes.iter().find(|scope| scope.name == name);
                if scope.is_none() {
                    tracing::warn!(scope.name = name, "import names a scope it lacks, ignored");
                }
                scope.map(|scope| scope.id.clone())
            };
            let ids: Vec<String> = blocks.texts(field).into_iter().filter_map(named).collect();
            if optional {
                new.realm.optional_scopes = ids;
            } else {
                new.realm.default_scopes = ids;
            }
        }
        if let Some(basic) = &added
            && !new.realm.default_scopes.contains(basic)
        {
            new.realm.default_scopes.push(basic.clone());
        }
        let saml: Vec<String> = new
            .scopes
            .iter()
            .filter(|scope| scope.rep.text("protocol") == Some("saml"))
            .map(|scope| scope.id.clone())
            .collect();
        let oidc = |ids: &[String]| -> Vec<String> {
            ids.iter()
                .filter(|id| !saml.contains(id))
                .cloned()
                .collect()
        };
        for client in &mut new.clients {
            client.default_scopes = oidc(&new.realm.default_scopes);
            client.optional_scopes = oidc(&new.realm.optional_scopes);
        }
        Ok(added)
    }

    fn import_clients(
        &self,
        new: &mut NewRealm,
        blocks: &mut Map<String, Value>,
        basic: Option<&str>,
        owners: &[String],
        imported: &mut Imported,
    ) -> Result<(), Error> {
        for mut rep in maps(blocks.shift_remove("clients")) {
            let client_id = rep.text("clientId").unwrap_or_default().to_owned();
            let drafted = new.clients.iter().position(|it| it.client_id == client_id);
            let drafted = drafted.map(|at| new.clients.remove(at));
            if let Some(drafted) = &drafted {
                let own = drafted.id.clone();
                rep.entry("id".to_owned()).or_insert(Value::String(own));
            }
            unmask(&mut rep);
            let mut made = NewClient::draft(&new.realm, &new.scopes, rep, &self.ambient)?;
            if let Some(basic) = basic
                && made.client.rep.text("protocol") == Some("openid-connect")
                && !made.client.default_scopes.iter().any(|id| id == basic)
            {
                made.client.default_scopes.push(basic.to_owned());
            }
            if let Some(drafted) = drafted {
                let of_client = |role: &&mut RoleBody| role.client.as_ref() == Some(&drafted.id);
                for role in new.roles.iter_mut().filter(of_client) {
                    role.client = Some(made.client.id.clone());
                }
            }
            // The user of the import is the service account, not a new one.
            if !owners.contains(&client_id) {
                imported.users.extend(made.user);
            }
            new.clients.push(made.client);
        }
        Ok(())
    }

    async fn import_roles(
        &self,
        new: &mut NewRealm,
        blocks: &mut Map<String, Value>,
        names: &mut Names<'_>,
    ) -> Result<(), Error> {
        let roles = blocks.shift_remove("roles").unwrap_or_default();
        let realm_id = new.realm.id.clone();
        let mut sent: Vec<(Option<String>, Rep)> = Vec::new();
        for rep in maps(roles.get("realm").cloned()) {
            sent.push((None, rep));
        }
        for (client_id, reps) in maps_by_name(roles.get("client"), &crate::representation::ROLE)? {
            let Some(client) = names.client(&client_id).await? else {
                let text = format!("client {client_id} does not exist");
                return Err(refuse("roles", text));
            };
            sent.extend(reps.into_iter().map(|rep| (Some(client.clone()), rep)));
        }
        for (client, rep) in &sent {
            let role = draft_role(&realm_id, client.clone(), rep, &self.ambient)?;
            let same = |it: &RoleBody| it.client == role.client && it.name == role.name;
            match new.roles.iter().position(same) {
                None => new.roles.push(role),
                Some(at) => {
                    let old = new.roles.get(at).map(|role| role.id.clone());
                    if let (Some(old), true) = (old, rep.contains_key("id")) {
                        rename_role(new, &old, &role.id);
                        if let Some(known) = new.roles.get_mut(at) {
                            known.id = role.id;
                        }
                    }
                    if let Some(known) = new.roles.get_mut(at) {
                        known.rep = role.rep;
                    }
                }
            }
        }
        self.choose_default_role(new, blocks, &sent)?;
        for role in &new.roles {
            names.add_role(role);
        }
        for (client, rep) in sent {
            let Some(composites) = rep.get("composites").and_then(Value::as_object) else {
                continue;
            };
            let ids = names
                .roles_of("roles", composites, "realm", "client")
                .await?;
            let name = rep.text("name");
            let same = |it: &&mut RoleBody| it.client == client && Some(it.name.as_str()) == name;
            if let Some(role) = new.roles.iter_mut().find(same) {
                role.composites = ids;
            }
        }
        let mut more = Vec::new();
        for name in blocks.texts("defaultRoles") {
            more.push(names.existing_role("defaultRoles", None, &name).await?);
        }
        let default = new.realm.default_role.clone();
        if let Some(role) = new.roles.iter_mut().find(|role| role.id == default) {
            more.retain(|id| !role.composites.contains(id) && *id != default);
            role.composites.extend(more);
        }
        Ok(())
    }

    /// The role that `defaultRole` names, in place of the one the new realm would have had.
    fn choose_default_role(
        &self,
        new: &mut NewRealm,
        blocks: &Map<String, Value>,
        sent: &[(Option<String>, Rep)],
    ) -> Result<(), Error> {
        let wanted = blocks.get("defaultRole").and_then(|role| role.get("name"));
        let Some(wanted) = wanted.and_then(Value::as_str) else {
            return Ok(());
        };
        let drafted = new.realm.default_role.clone();
        let found = |role: &&RoleBody| role.client.is_none() && role.name == wanted;
        let Some(id) = new.roles.iter().find(found).map(|role| role.id.clone()) else {
            // Without the list of roles the name alone is known: the drafted role takes it.
            if let Some(role) = new.roles.iter_mut().find(|role| role.id == drafted) {
                wanted.clone_into(&mut role.name);
            }
            return Ok(());
        };
        if id != drafted {
            let named = new.roles.iter().find(|role| role.id == drafted);
            let name = named.map(|role| role.name.clone()).unwrap_or_default();
            let kept = sent
                .iter()
                .any(|(client, rep)| client.is_none() && rep.text("name") == Some(&name));
            if !kept {
                new.roles.retain(|role| role.id != drafted);
            }
            new.realm.default_role = id;
        }
        Ok(())
    }

    async fn import_users(
        &self,
        new: &mut NewRealm,
        reps: Vec<Rep>,
        names: &Names<'_>,
        imported: &mut Imported,
    ) -> Result<(), Error> {
        // The service accounts made with clients have the default role of before the import.
        for user in &mut imported.users {
            user.roles = vec![new.realm.default_role.clone()];
        }
        for rep in reps {
            let mut user = self.draft_user(&new.realm, &rep, names, false).await?;
            if let Some(owner) = rep.text("serviceAccountClientId") {
                let client = new.clients.iter_mut().find(|it| it.client_id == owner);
                let Some(client) = client else {
                    let text = format!("client {owner} of a service account does not exist");
                    return Err(refuse("users", text));
                };
                client.service_user = Some(user.id.clone());
                user.client = Some(client.id.clone());
            }
            imported.users.push(user);
        }
        Ok(())
    }

    async fn import_components(
        &self,
        new: &mut NewRealm,
        blocks: &mut Map<String, Value>,
        imported: &mut Imported,
    ) -> Result<(), Error> {
        let Some(Value::Object(components)) = blocks.shift_remove("components") else {
            return Ok(());
        };
        let mut kept = Map::new();
        for (of, items) in components {
            match of.as_str() {
                KEY_PROVIDER => {
                    for rep in maps(Some(items)) {
                        let key = self.import_key(&new.realm, rep).await?;
                        imported.keys.push(key);
                    }
                }
                "org.keycloak.storage.UserStorageProvider" if items != Value::Array(Vec::new()) => {
                    return Err(refuse("components", "user federation is not supported"));
                }
                _ => {
                    kept.insert(of, items);
                }
            }
        }
        if !kept.is_empty() {
            new.realm
                .kept
                .insert("components".to_owned(), Value::Object(kept));
        }
        Ok(())
    }

    async fn import_key(&self, realm: &RealmBody, rep: Rep) -> Result<KeyBody, Error> {
        let (id, name, ambient) = (realm.id.clone(), realm.name.clone(), self.ambient.clone());
        self.signing
            .run(move || imported_key(&rep, &id, &name, &ambient))
            .await?
    }
}

/// A role to make, without what it contains.
pub(crate) fn draft_role(
    realm_id: &str,
    client: Option<String>,
    rep: &Rep,
    ambient: &o28m_core::Ambient,
) -> Result<RoleBody, Error> {
    let name = rep.text("name").unwrap_or_default().to_owned();
    if name.is_empty() {
        return Err(Error::Invalid(Invalid::Required("name")));
    }
    crate::admin::check_length("name", &name)?;
    let sent = rep.text("id").filter(|id| o28m_core::id::is_uuid(id));
    let mut kept = rep.clone();
    kept.retain(|field, _| matches!(field.as_str(), "description" | "attributes"));
    Ok(RoleBody {
        id: sent.map_or_else(|| ambient.uuid(), str::to_owned),
        realm: realm_id.to_owned(),
        client,
        name,
        rep: kept,
        composites: Vec::new(),
        find: String::new(),
    })
}

/// Roles scope-mapped to clients and client scopes.
async fn import_mappings(
    new: &mut NewRealm,
    blocks: &mut Map<String, Value>,
    names: &Names<'_>,
) -> Result<(), Error> {
    let mut all: Vec<(Option<String>, Rep)> = maps(blocks.shift_remove("scopeMappings"))
        .into_iter()
        .map(|rep| (None, rep))
        .collect();
    if let Some(Value::Object(clients)) = blocks.shift_remove("clientScopeMappings") {
        for (client, items) in clients {
            let reps = maps(Some(items)).into_iter();
            all.extend(reps.map(|rep| (Some(client.clone()), rep)));
        }
    }
    for (client_id, rep) in all {
        let mut ids = Vec::new();
        for name in rep.texts("roles") {
            let id = names
                .existing_role("scopeMappings", client_id.as_deref(), &name)
                .await?;
            ids.push(id);
        }
        let list = match (rep.text("client"), rep.text("clientScope")) {
            (Some(client), _) => {
                let found = new.clients.iter_mut().find(|it| it.client_id == client);
                found.map(|it| &mut it.scope_roles)
            }
            (None, Some(scope)) => {
                let found = new.scopes.iter_mut().find(|it| it.name == scope);
                found.map(|it| &mut it.scope_roles)
            }
            (None, None) => None,
        };
        let Some(list) = list else {
            return Err(refuse(
                "scopeMappings",
                "the client or client scope does not exist",
            ));
        };
        ids.retain(|id| !list.contains(id));
        list.extend(ids);
    }
    Ok(())
}
