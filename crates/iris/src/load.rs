//! Reading stored objects and compiling them.

use std::collections::HashMap;
use std::sync::Arc;

use o28m_store::{Query, Record};
use serde::de::DeserializeOwned;

use crate::admin::roles::MANAGEMENT_CLIENTS;
use crate::cache::{Made, group};
use crate::keys::{KeyBody, Keys};
use crate::model::{
    Client, ClientBody, Fields as _, Group, GroupBody, Realm, RealmBody, Role, RoleBody, Scope,
    ScopeBody, User, UserBody, kind,
};
use crate::{Error, Iris};

/// Objects read from the store at once.
pub(crate) const PAGE: u32 = 500;
/// Roles a user may effectively have.
const ROLES_MAX: usize = 10_000;
/// Groups that groups may be in.
const DEPTH_MAX: usize = 64;

/// The object a record holds.
pub(crate) fn body<T: DeserializeOwned>(kind: &'static str, record: Record) -> Result<T, Error> {
    serde_json::from_value(record.body).map_err(|source| Error::Stored { kind, source })
}

impl Iris {
    /// The object of that kind and id, if it belongs to that realm.
    pub(crate) async fn read<T: DeserializeOwned>(
        &self,
        kind: &'static str,
        realm_id: &str,
        id: &str,
    ) -> Result<Option<(T, i64)>, Error> {
        let record = self.store.get(kind, id).await?;
        let Some(record) = record.filter(|record| record.owner == realm_id) else {
            return Ok(None);
        };
        let version = record.version;
        Ok(Some((body(kind, record)?, version)))
    }

    /// The object of that key value.
    pub(crate) async fn read_by_key<T: DeserializeOwned>(
        &self,
        kind: &'static str,
        realm_id: &str,
        key: &str,
        value: &str,
    ) -> Result<Option<T>, Error> {
        let record = self.store.get_by_key(kind, realm_id, key, value).await?;
        record.map(|record| body(kind, record)).transpose()
    }

    /// Every object of a kind that a query finds, read in pages.
    pub(crate) async fn read_all<T: DeserializeOwned>(
        &self,
        kind: &'static str,
        query: Query<'_>,
    ) -> Result<Vec<T>, Error> {
        let mut all = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = Query {
                kind,
                after: after.as_deref(),
                limit: PAGE,
                by_key: None,
                ..query.clone()
            };
            let records = self.store.list(&page).await?;
            let last = records.last().map(|record| record.id.clone());
            let full = records.len() == PAGE as usize;
            for record in records {
                all.push(body(kind, record)?);
            }
            if !full || last.is_none() {
                return Ok(all);
            }
            after = last;
        }
    }

    /// Every object of a kind in a realm.
    pub(crate) async fn read_owned<T: DeserializeOwned>(
        &self,
        kind: &'static str,
        realm_id: &str,
    ) -> Result<Vec<T>, Error> {
        self.read_all(
            kind,
            Query {
                owner: Some(realm_id),
                ..Query::default()
            },
        )
        .await
    }

    /// The realm of that name, compiled.
    ///
    /// # Errors
    /// When it is not in memory and the store fails.
    pub async fn realm(&self, name: &str) -> Result<Option<Arc<Realm>>, Error> {
        self.realms.get(name, || self.load_realm(name)).await
    }

    async fn load_realm(&self, name: &str) -> Result<Option<Made<Realm>>, Error> {
        let found = self
            .read_by_key::<RealmBody>(kind::REALM, "", "name", name)
            .await?;
        let Some(body) = found else { return Ok(None) };
        let mut scopes = HashMap::new();
        for scope in self.read_owned::<ScopeBody>(kind::SCOPE, &body.id).await? {
            scopes.insert(scope.id.clone(), Arc::new(Scope::compile(scope)));
        }
        let keys = Keys::compile(self.read_owned::<KeyBody>(kind::KEY, &body.id).await?)?;
        let depends = vec![
            body.id.clone(),
            group(kind::SCOPE, &body.id),
            group(kind::KEY, &body.id),
        ];
        Ok(Some(Made {
            value: Realm { scopes, keys, body },
            depends,
        }))
    }

    /// The client of that `clientId`, compiled.
    pub(crate) async fn client(
        &self,
        realm_id: &str,
        client_id: &str,
    ) -> Result<Option<Arc<Client>>, Error> {
        let key = format!("{realm_id}/{client_id}");
        let load = move || async move {
            let found = self.client_body_by_client_id(realm_id, client_id).await?;
            Ok(found.map(|body| Made {
                depends: vec![body.id.clone(), realm_id.to_owned()],
                value: Client::compile(body),
            }))
        };
        self.clients.get(&key, load).await
    }

    /// The origins whose pages an enabled client runs on; `*` stands for any.
    ///
    /// # Errors
    /// When it is not in memory and the store fails; `Ok(None)` for a client that is not there.
    pub async fn web_origins(
        &self,
        realm: &Realm,
        client_id: &str,
    ) -> Result<Option<Vec<String>>, Error> {
        let client = self.client(realm.id(), client_id).await?;
        let client = client.filter(|client| client.body.rep.flag("enabled"));
        Ok(client.map(|client| client.web_origins().to_vec()))
    }

    pub(crate) async fn client_body_by_client_id(
        &self,
        realm_id: &str,
        client_id: &str,
    ) -> Result<Option<ClientBody>, Error> {
        self.read_by_key(kind::CLIENT, realm_id, "clientId", client_id)
            .await
    }

    /// The user of that id with their effective roles.
    pub(crate) async fn user(&self, realm_id: &str, id: &str) -> Result<Option<Arc<User>>, Error> {
        let load = move || async move {
            let found = self.read::<UserBody>(kind::USER, realm_id, id).await?;
            let Some((body, _)) = found else {
                return Ok(None);
            };
            let mut depends = vec![body.id.clone(), realm_id.to_owned()];
            depends.extend(body.roles.iter().chain(&body.groups).cloned());
            let mut held = body.roles.clone();
            let mut groups = Vec::new();
            for id in &body.groups {
                let Some(group) = self.group(realm_id, id).await? else {
                    continue;
                };
                for body in std::iter::once(&group.body).chain(&group.above) {
                    depends.push(body.id.clone());
                    depends.extend(body.roles.iter().cloned());
                    held.extend(body.roles.iter().cloned());
                }
                groups.push(group);
            }
            held.sort_unstable();
            held.dedup();
            let roles = self.expand(realm_id, &held).await?;
            for role in &roles {
                depends.push(role.body.id.clone());
                depends.extend(role.body.client.clone());
                depends.extend(role.body.composites.iter().cloned());
            }
            depends.sort_unstable();
            depends.dedup();
            Ok(Some(Made {
                value: User {
                    body,
                    roles,
                    groups,
                },
                depends,
            }))
        };
        self.users.get(&format!("{realm_id}/{id}"), load).await
    }

    /// One role, with the `clientId` of its client.
    pub(crate) async fn role(&self, realm_id: &str, id: &str) -> Result<Option<Arc<Role>>, Error> {
        let load = move || async move {
            let found = self.read::<RoleBody>(kind::ROLE, realm_id, id).await?;
            let Some((body, _)) = found else {
                return Ok(None);
            };
            let mut depends = vec![body.id.clone(), realm_id.to_owned()];
            let mut client_id = None;
            let mut administers = false;
            if let Some(client) = &body.client {
                depends.push(client.clone());
                let found = self
                    .read::<ClientBody>(kind::CLIENT, realm_id, client)
                    .await?;
                let Some((client, _)) = found else {
                    return Ok(None);
                };
                administers = client.manages.is_some()
                    || MANAGEMENT_CLIENTS.contains(&client.client_id.as_str());
                client_id = Some(client.client_id);
            }
            Ok(Some(Made {
                value: Role {
                    body,
                    client_id,
                    administers,
                },
                depends,
            }))
        };
        self.roles.get(&format!("{realm_id}/{id}"), load).await
    }

    /// One group with those it is in.
    pub(crate) async fn group(
        &self,
        realm_id: &str,
        id: &str,
    ) -> Result<Option<Arc<Group>>, Error> {
        let load = move || async move {
            let found = self.read::<GroupBody>(kind::GROUP, realm_id, id).await?;
            let Some((body, _)) = found else {
                return Ok(None);
            };
            let mut depends = vec![body.id.clone(), realm_id.to_owned()];
            let mut path = format!("/{}", body.name);
            let mut above: Vec<GroupBody> = Vec::new();
            let mut next = body.parent.clone();
            while let Some(id) = next.filter(|_| above.len() < DEPTH_MAX) {
                let found = self.read::<GroupBody>(kind::GROUP, realm_id, &id).await?;
                let Some((parent, _)) = found else { break };
                path.insert_str(0, &format!("/{}", parent.name));
                depends.push(id);
                next = parent.parent.clone();
                above.push(parent);
            }
            Ok(Some(Made {
                value: Group { body, path, above },
                depends,
            }))
        };
        self.groups.get(&format!("{realm_id}/{id}"), load).await
    }

    /// These roles and, through composites, all they contain; ids that are gone are left out.
    pub(crate) async fn expand(
        &self,
        realm_id: &str,
        ids: &[String],
    ) -> Result<Vec<Arc<Role>>, Error> {
        let mut found: Vec<Arc<Role>> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        // What a user has directly may come from a group as well.
        let first = ids.iter().filter(|id| seen.insert((*id).clone()));
        let mut next: Vec<String> = first.cloned().collect();
        while let Some(id) = next.pop() {
            let Some(role) = self.role(realm_id, &id).await? else {
                continue;
            };
            for inner in &role.body.composites {
                if seen.len() < ROLES_MAX && seen.insert(inner.clone()) {
                    next.push(inner.clone());
                }
            }
            found.push(role);
        }
        Ok(found)
    }
}

impl Iris {
    /// Objects in the order of a key, leaving out `first` and giving at most `max`, read in pages.
    pub(crate) async fn read_by_name<T: DeserializeOwned>(
        &self,
        kind: &'static str,
        query: Query<'_>,
        first: u32,
        max: Option<u32>,
        key: impl Fn(&T) -> String,
    ) -> Result<Vec<T>, Error> {
        let max = max.map_or(usize::MAX, |max| max as usize);
        let mut all: Vec<T> = Vec::new();
        let mut after: Option<String> = None;
        let mut skip = first;
        while all.len() < max {
            let limit = u32::try_from(max - all.len()).unwrap_or(PAGE).min(PAGE);
            let page = Query {
                after: after.as_deref(),
                skip,
                limit,
                ..query.clone()
            };
            let records = self.store.list(&page).await?;
            let full = records.len() == limit as usize;
            for record in records {
                all.push(body(kind, record)?);
            }
            after = all.last().map(&key);
            skip = 0;
            if !full {
                break;
            }
        }
        Ok(all)
    }
}
