//! Importing into an existing realm (Keycloak 26.5 `PartialImportManager`): all of it or nothing.

use o28m_store::Write;
use serde_json::{Value, json};

use crate::admin::clients::NewClient;
use crate::admin::import::{Names, draft_groups, draft_role, maps, refuse, unmask};
use crate::admin::taken;
use crate::model::{
    ClientBody, Fields as _, GroupBody, RealmBody, Rep, RoleBody, ScopeBody, Stored as _, UserBody,
    kind, role_key,
};
use crate::new_realm::BUILT_IN_CLIENTS;
use crate::{Caller, Error, Invalid, Iris, Thing};

/// What happens to a resource that exists.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Policy {
    Fail,
    Skip,
    Overwrite,
}

/// The import being put together.
struct Plan<'a> {
    names: Names<'a>,
    policy: Policy,
    deletes: Vec<Write>,
    steps: Vec<Write>,
    results: Vec<Value>,
    counts: [u64; 3],
    /// Roles that somebody gets by it.
    given: Vec<String>,
}

impl Plan<'_> {
    /// Decides about one resource; false when it is left out.
    fn decide(
        &mut self,
        exists: bool,
        resource: &str,
        name: &str,
        id: &str,
    ) -> Result<bool, Error> {
        let (action, count) = match (exists, self.policy) {
            (false, _) => ("ADDED", 0),
            (true, Policy::Skip) => ("SKIPPED", 1),
            (true, Policy::Overwrite) => ("OVERWRITTEN", 2),
            (true, Policy::Fail) => {
                return Err(Error::Exists {
                    thing: Thing::Imported,
                    name: name.to_owned(),
                    renaming: false,
                });
            }
        };
        if let Some(count) = self.counts.get_mut(count) {
            *count += 1;
        }
        self.results.push(json!({
            "action": action, "resourceType": resource, "resourceName": name, "id": id,
        }));
        Ok(action != "SKIPPED")
    }

    fn delete(&mut self, kind: &'static str, id: &str) {
        self.deletes.push(Write::Delete {
            kind,
            id: id.to_owned(),
        });
    }
}

impl Iris {
    /// Imports clients, roles, groups and users into a realm; gives what was done. `giver` may give
    /// administration roles only if they have them.
    ///
    /// # Errors
    /// [`Error::Exists`] under `FAIL`, [`Error::Invalid`], [`Error::Forbidden`].
    pub async fn partial_import(
        &self,
        realm_id: &str,
        mut rep: Rep,
        giver: &Caller,
    ) -> Result<Value, Error> {
        let sent = rep.text("ifResourceExists").or_else(|| rep.text("policy"));
        let policy = match sent {
            None | Some("FAIL") => Policy::Fail,
            Some("SKIP") => Policy::Skip,
            Some("OVERWRITE") => Policy::Overwrite,
            Some(_) => return Err(Error::Invalid(Invalid::ImportPolicy)),
        };
        for block in ["identityProviders", "identityProviderMappers"] {
            let items = rep.get(block).and_then(Value::as_array);
            if items.is_some_and(|items| !items.is_empty()) {
                return Err(Error::Invalid(Invalid::ImportBlock(block)));
            }
        }
        let realm = self.realm_body(realm_id).await?;
        let mut plan = Plan {
            names: Names::of_stored(self, realm_id),
            policy,
            deletes: Vec::new(),
            steps: Vec::new(),
            results: Vec::new(),
            counts: [0; 3],
            given: Vec::new(),
        };
        self.plan_clients(&realm, maps(rep.shift_remove("clients")), &mut plan)
            .await?;
        self.plan_roles(&realm, rep.shift_remove("roles"), &mut plan)
            .await?;
        self.plan_groups(&realm, maps(rep.shift_remove("groups")), &mut plan)
            .await?;
        self.plan_users(&realm, maps(rep.shift_remove("users")), giver, &mut plan)
            .await?;
        self.check_may_give(giver, realm_id, &realm.name, &plan.given)
            .await?;
        let mut steps = plan.deletes;
        steps.extend(plan.steps);
        if let Err(error) = self.write(realm_id, steps).await {
            return Err(match error {
                o28m_store::Error::Duplicate { ref value, .. } => {
                    let name = value.clone();
                    taken(error, Thing::Imported, &name, false)
                }
                error => error.into(),
            });
        }
        let [added, skipped, overwritten] = plan.counts;
        Ok(json!({
            "overwritten": overwritten, "added": added, "skipped": skipped,
            "results": plan.results,
        }))
    }

    async fn plan_clients(
        &self,
        realm: &RealmBody,
        reps: Vec<Rep>,
        plan: &mut Plan<'_>,
    ) -> Result<(), Error> {
        if reps.is_empty() {
            return Ok(());
        }
        let scopes = self.read_owned::<ScopeBody>(kind::SCOPE, &realm.id).await?;
        for mut rep in reps {
            let client_id = rep.text("clientId").unwrap_or_default().to_owned();
            // Every realm has these, and rights hang on them.
            if BUILT_IN_CLIENTS.contains(&client_id.as_str()) {
                continue;
            }
            unmask(&mut rep);
            let known = self.client_body_by_client_id(&realm.id, &client_id).await?;
            let made = NewClient::draft(realm, &scopes, rep, &self.ambient)?;
            let id = known.as_ref().map_or(&made.client.id, |known| &known.id);
            let id = if plan.policy == Policy::Skip {
                id.clone()
            } else {
                made.client.id.clone()
            };
            if !plan.decide(known.is_some(), "CLIENT", &client_id, &id)? {
                continue;
            }
            if let Some(ClientBody { id, manages, .. }) = known {
                if manages.is_some() {
                    return Err(Error::Invalid(Invalid::BuiltInName(client_id)));
                }
                plan.delete(kind::CLIENT, &id);
            }
            plan.names.add_client(&made.client);
            plan.steps.extend(made.steps());
        }
        Ok(())
    }

    async fn plan_roles(
        &self,
        realm: &RealmBody,
        roles: Option<Value>,
        plan: &mut Plan<'_>,
    ) -> Result<(), Error> {
        let roles = roles.unwrap_or_default();
        let mut sent: Vec<(Option<String>, Rep)> = Vec::new();
        for rep in maps(roles.get("realm").cloned()) {
            sent.push((None, rep));
        }
        let clients = roles.get("client").and_then(Value::as_object);
        for (client_id, items) in clients.into_iter().flatten() {
            for item in items.as_array().into_iter().flatten() {
                let rep = crate::representation::ROLE.check(item)?;
                sent.push((Some(client_id.clone()), rep));
            }
        }
        let mut drafts: Vec<(RoleBody, Rep, bool)> = Vec::new();
        for (client_id, rep) in sent {
            let client = match &client_id {
                None => None,
                Some(name) => {
                    let found = plan.names.client(name).await?;
                    let text = format!("client {name} does not exist");
                    Some(found.ok_or_else(|| refuse("roles", text))?)
                }
            };
            let mut role = draft_role(&realm.id, client, &rep, &self.ambient)?;
            let key = role_key(role.container(), &role.name);
            let known = self
                .read_by_key::<RoleBody>(kind::ROLE, &realm.id, "name", &key)
                .await?;
            if let Some(known) = &known {
                role.id.clone_from(&known.id);
                role.composites.clone_from(&known.composites);
            }
            let (resource, name) = match &client_id {
                None => ("REALM_ROLE", role.name.clone()),
                Some(client) => ("CLIENT_ROLE", format!("{client}-->{}", role.name)),
            };
            let wanted = plan.decide(known.is_some(), resource, &name, &role.id)?;
            plan.names.add_role(&role);
            if wanted {
                drafts.push((role, rep, known.is_some()));
            }
        }
        for (mut role, rep, exists) in drafts {
            if let Some(composites) = rep.get("composites").and_then(Value::as_object) {
                let names = &plan.names;
                role.composites = names
                    .roles_of("roles", composites, "realm", "client")
                    .await?;
                plan.given.extend(role.composites.iter().cloned());
            }
            plan.steps.push(if exists {
                Write::Update {
                    object: role.object(),
                    if_version: None,
                }
            } else {
                Write::Insert(role.object())
            });
        }
        Ok(())
    }

    async fn plan_groups(
        &self,
        realm: &RealmBody,
        reps: Vec<Rep>,
        plan: &mut Plan<'_>,
    ) -> Result<(), Error> {
        for mut rep in reps {
            let name = rep.text("name").unwrap_or_default().to_owned();
            let key = role_key(&realm.id, &name);
            let known = self
                .read_by_key::<GroupBody>(kind::GROUP, &realm.id, "name", &key)
                .await?;
            if known.is_some() {
                // Members would come back with the id of the group they were taken out of.
                forget_ids(&mut rep);
            }
            let made = draft_groups(&mut plan.names, &realm.id, &[rep], &self.ambient).await?;
            let new_id = made
                .first()
                .map(|group| group.id.clone())
                .unwrap_or_default();
            let skipped = known.as_ref().filter(|_| plan.policy == Policy::Skip);
            let id = skipped.map_or(new_id, |known| known.id.clone());
            let path = format!("/{name}");
            plan.names.add_group(&path, &id);
            if !plan.decide(known.is_some(), "GROUP", &path, &id)? {
                continue;
            }
            if let Some(known) = known {
                plan.delete(kind::GROUP, &known.id);
            }
            for group in made {
                plan.given.extend(group.roles.iter().cloned());
                plan.steps.push(Write::Insert(group.object()));
            }
        }
        Ok(())
    }

    async fn plan_users(
        &self,
        realm: &RealmBody,
        reps: Vec<Rep>,
        giver: &Caller,
        plan: &mut Plan<'_>,
    ) -> Result<(), Error> {
        for rep in reps {
            // Service accounts come with their clients.
            if rep.contains_key("serviceAccountClientId") {
                continue;
            }
            let user = self.draft_user(realm, &rep, &plan.names, false).await?;
            let known = self
                .read_by_key::<UserBody>(kind::USER, &realm.id, "username", &user.username)
                .await?;
            let skipped = known.as_ref().filter(|_| plan.policy == Policy::Skip);
            let id = skipped.map_or_else(|| user.id.clone(), |known| known.id.clone());
            if !plan.decide(known.is_some(), "USER", &user.username, &id)? {
                continue;
            }
            if let Some(known) = known {
                plan.delete(kind::USER, &known.id);
            }
            let given = user.roles.iter().filter(|id| **id != realm.default_role);
            plan.given.extend(given.cloned());
            for group in &user.groups {
                if self.group(&realm.id, group).await?.is_some() {
                    self.check_may_join(giver, &realm.id, &realm.name, group)
                        .await?;
                }
            }
            plan.steps.push(Write::Insert(user.object()));
        }
        Ok(())
    }
}

fn forget_ids(rep: &mut Rep) {
    rep.shift_remove("id");
    if let Some(Value::Array(items)) = rep.get_mut("subGroups") {
        for item in items.iter_mut().filter_map(Value::as_object_mut) {
            forget_ids(item);
        }
    }
}
