//! Writing a whole realm as Keycloak's export does, so that either can import it (Keycloak 26.5
//! `ExportUtils`).

use std::collections::BTreeMap;

use o28m_store::Query;
use serde_json::{Map, Value, json};

use crate::admin::import::MASK;
use crate::admin::keys::{self, KEY_PROVIDER};
use crate::admin::{clients, credentials, realms, scopes};
use crate::keys::KeyBody;
use crate::model::{ClientBody, GroupBody, RealmBody, Rep, RoleBody, ScopeBody, UserBody, kind};
use crate::{Error, Iris, representation};

/// What an export holds besides the settings, the client scopes and the components.
#[derive(Clone, Copy, Debug, Default)]
pub struct Export {
    /// Clients, with their service accounts.
    pub clients: bool,
    /// Groups and roles.
    pub groups_and_roles: bool,
    /// People, with the hashes of their passwords.
    pub users: bool,
    /// Secrets of clients and keys; without, a mask stands for them.
    pub secrets: bool,
}

/// Everything of a realm, with names for ids.
struct Whole {
    realm: RealmBody,
    clients: Vec<ClientBody>,
    scopes: Vec<ScopeBody>,
    roles: Vec<RoleBody>,
    groups: Vec<GroupBody>,
}

/// Names of roles: those of the realm, and those of clients by `clientId`.
type Named = (Vec<String>, BTreeMap<String, Vec<String>>);

impl Whole {
    fn client_id(&self, id: &str) -> Option<&str> {
        let found = self.clients.iter().find(|client| client.id == id);
        found.map(|client| client.client_id.as_str())
    }

    fn names(&self, ids: &[String], roles: &BTreeMap<&str, &RoleBody>) -> Named {
        let mut named = Named::default();
        for role in ids.iter().filter_map(|id| roles.get(id.as_str())) {
            match role.client.as_deref().map(|id| self.client_id(id)) {
                None => named.0.push(role.name.clone()),
                Some(Some(client)) => {
                    let list = named.1.entry(client.to_owned()).or_default();
                    list.push(role.name.clone());
                }
                Some(None) => {}
            }
        }
        named
    }

    fn roles(&self, index: &BTreeMap<&str, &RoleBody>) -> Value {
        let mut realm = Vec::new();
        let mut of_clients: BTreeMap<&str, Vec<Rep>> = BTreeMap::new();
        for client in &self.clients {
            of_clients.entry(&client.client_id).or_default();
        }
        for role in &self.roles {
            let mut rep = crate::admin::roles::render(role, false);
            if !role.composites.is_empty() {
                let (own, clients) = self.names(&role.composites, index);
                let mut composites = Map::new();
                if !own.is_empty() {
                    composites.insert("realm".to_owned(), json!(own));
                }
                if !clients.is_empty() {
                    composites.insert("client".to_owned(), json!(clients));
                }
                rep.insert("composites".to_owned(), Value::Object(composites));
            }
            let rep = representation::ROLE.arrange(rep);
            match role.client.as_deref().map(|id| self.client_id(id)) {
                None => realm.push(rep),
                Some(Some(client)) => of_clients.entry(client).or_default().push(rep),
                Some(None) => {}
            }
        }
        json!({"realm": realm, "client": of_clients})
    }

    fn tree(&self, container: &str, path: &str, index: &BTreeMap<&str, &RoleBody>) -> Vec<Rep> {
        let inside = self.groups.iter().filter(|it| it.container() == container);
        let show = |group: &GroupBody| {
            let path = format!("{path}/{}", group.name);
            let (realm, clients) = self.names(&group.roles, index);
            let mut rep = group.rep.clone();
            rep.entry("attributes".to_owned())
                .or_insert_with(|| json!({}));
            rep.insert("id".to_owned(), json!(group.id));
            rep.insert("name".to_owned(), json!(group.name));
            if let Some(parent) = &group.parent {
                rep.insert("parentId".to_owned(), json!(parent));
            }
            rep.insert("realmRoles".to_owned(), json!(realm));
            rep.insert("clientRoles".to_owned(), json!(clients));
            let below = self.tree(&group.id, &path, index);
            rep.insert("subGroups".to_owned(), json!(below));
            rep.insert("path".to_owned(), json!(path));
            representation::GROUP.arrange(rep)
        };
        inside.map(show).collect()
    }

    fn path(&self, id: &str) -> Option<String> {
        let group = self.groups.iter().find(|group| group.id == id)?;
        let above = match &group.parent {
            Some(parent) => self.path(parent)?,
            None => String::new(),
        };
        Some(format!("{above}/{}", group.name))
    }

    /// `scopeMappings`, and with `clients` `clientScopeMappings`.
    fn mappings(&self, index: &BTreeMap<&str, &RoleBody>, out: &mut Rep, with_clients: bool) {
        let mut realm = Vec::new();
        let mut of_clients: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        let clients = self.clients.iter().filter(|_| with_clients);
        let clients = clients.map(|it| ("client", &it.client_id, &it.scope_roles));
        let scopes = self.scopes.iter();
        let scopes = scopes.map(|it| ("clientScope", &it.name, &it.scope_roles));
        for (field, name, roles) in clients.chain(scopes) {
            let (own, clients) = self.names(roles, index);
            if !own.is_empty() {
                realm.push(json!({field: name, "roles": own}));
            }
            for (client, roles) in clients {
                let list = of_clients.entry(client).or_default();
                list.push(json!({field: name, "roles": roles}));
            }
        }
        out.insert("scopeMappings".to_owned(), json!(realm));
        if with_clients {
            out.insert("clientScopeMappings".to_owned(), json!(of_clients));
        }
    }

    fn user(&self, user: &UserBody, index: &BTreeMap<&str, &RoleBody>) -> Rep {
        let mut rep = user.rep.clone();
        rep.insert("id".to_owned(), json!(user.id));
        rep.insert("username".to_owned(), json!(user.username));
        rep.insert("totp".to_owned(), json!(false));
        rep.insert("disableableCredentialTypes".to_owned(), json!([]));
        rep.insert("credentials".to_owned(), json!(credentials::export(user)));
        if let Some(client) = user.client.as_deref().and_then(|id| self.client_id(id)) {
            rep.insert("serviceAccountClientId".to_owned(), json!(client));
        }
        let (realm, clients) = self.names(&user.roles, index);
        rep.insert("realmRoles".to_owned(), json!(realm));
        if !clients.is_empty() {
            rep.insert("clientRoles".to_owned(), json!(clients));
        }
        let paths: Vec<String> = user.groups.iter().filter_map(|id| self.path(id)).collect();
        rep.insert("groups".to_owned(), json!(paths));
        representation::USER.arrange(rep)
    }
}

fn scope_names(ids: &[String], scopes: &[ScopeBody]) -> Vec<String> {
    let found = ids
        .iter()
        .filter_map(|id| scopes.iter().find(|scope| scope.id == *id));
    found.map(|scope| scope.name.clone()).collect()
}

impl Iris {
    /// The representation of a realm with everything asked for.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn export_realm(&self, realm_id: &str, what: Export) -> Result<Rep, Error> {
        let mut whole = Whole {
            realm: self.realm_body(realm_id).await?,
            clients: self.read_owned(kind::CLIENT, realm_id).await?,
            scopes: self.read_owned(kind::SCOPE, realm_id).await?,
            roles: self.read_owned(kind::ROLE, realm_id).await?,
            groups: self.read_owned(kind::GROUP, realm_id).await?,
        };
        // The clients that administrate other realms belong to those.
        whole.clients.retain(|client| client.manages.is_none());
        whole
            .clients
            .sort_by(|one, other| one.client_id.cmp(&other.client_id));
        whole.scopes.sort_by(|one, other| one.name.cmp(&other.name));
        whole.roles.sort_by(|one, other| one.name.cmp(&other.name));
        whole.groups.sort_by(|one, other| one.name.cmp(&other.name));
        let index: BTreeMap<&str, &RoleBody> = whole
            .roles
            .iter()
            .map(|role| (role.id.as_str(), role))
            .collect();
        let default_role = index.get(whole.realm.default_role.as_str()).copied();
        let mut rep = realms::render(whole.realm.clone(), default_role);
        for (field, value) in &whole.realm.kept {
            rep.insert(field.clone(), value.clone());
        }
        let mut set = |name: &str, value: Value| rep.insert(name.to_owned(), value);
        if what.groups_and_roles {
            set("roles", whole.roles(&index));
            set("groups", json!(whole.tree(realm_id, "", &index)));
            let defaults = whole.realm.default_groups.iter();
            let paths: Vec<String> = defaults.filter_map(|id| whole.path(id)).collect();
            set("defaultGroups", json!(paths));
        }
        let scopes = whole.scopes.iter().cloned().map(scopes::render);
        set("clientScopes", json!(scopes.collect::<Vec<_>>()));
        let named = |ids: &[String]| json!(scope_names(ids, &whole.scopes));
        set(
            "defaultDefaultClientScopes",
            named(&whole.realm.default_scopes),
        );
        set(
            "defaultOptionalClientScopes",
            named(&whole.realm.optional_scopes),
        );
        set("keycloakVersion", json!(crate::KEYCLOAK_VERSION));
        if what.clients {
            let show = |client: &ClientBody| {
                let mut rep = clients::render(client.clone(), &whole.scopes);
                rep.shift_remove("access");
                if !what.secrets && rep.contains_key("secret") {
                    rep.insert("secret".to_owned(), json!(MASK));
                }
                rep
            };
            set(
                "clients",
                json!(whole.clients.iter().map(show).collect::<Vec<_>>()),
            );
        }
        if what.groups_and_roles {
            whole.mappings(&index, &mut rep, what.clients);
        }
        let users = self.export_users(&whole, &index, what).await?;
        if what.users || !users.is_empty() {
            rep.insert("users".to_owned(), json!(users));
        }
        let components = self.export_components(&whole.realm, what.secrets).await?;
        rep.insert("components".to_owned(), components);
        Ok(representation::REALM.arrange(rep))
    }

    async fn export_users(
        &self,
        whole: &Whole,
        index: &BTreeMap<&str, &RoleBody>,
        what: Export,
    ) -> Result<Vec<Rep>, Error> {
        let mut reps = Vec::new();
        for (wanted, list) in [
            (what.users, "person"),
            (what.clients && what.groups_and_roles, "serviceAccount"),
        ] {
            if !wanted {
                continue;
            }
            let query = Query {
                kind: kind::USER,
                owner: Some(&whole.realm.id),
                by_key: Some(list),
                ..Query::default()
            };
            let key = |user: &UserBody| user.username.clone();
            let users: Vec<UserBody> = self.read_by_name(kind::USER, query, 0, None, key).await?;
            reps.extend(users.iter().map(|user| whole.user(user, index)));
        }
        Ok(reps)
    }

    async fn export_components(&self, realm: &RealmBody, secrets: bool) -> Result<Value, Error> {
        let kept = realm.kept.get("components").and_then(Value::as_object);
        let mut components = kept.cloned().unwrap_or_default();
        let mut all = self.read_owned::<KeyBody>(kind::KEY, &realm.id).await?;
        all.sort_by_key(|key| std::cmp::Reverse((key.priority, key.created_ms)));
        let show = |key: &KeyBody| {
            let mut rep = keys::render_with_material(key, secrets);
            rep.shift_remove("parentId");
            rep.shift_remove("providerType");
            rep.insert("subComponents".to_owned(), json!({}));
            rep
        };
        let shown: Vec<Rep> = all.iter().map(show).collect();
        components.insert(KEY_PROVIDER.to_owned(), json!(shown));
        Ok(Value::Object(components))
    }
}
