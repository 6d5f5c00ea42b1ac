//! Realms.

use o28m_jose::Algorithm;
use o28m_store::{Query, Write};
use serde_json::{Map, Value, json};

use crate::admin::files::{self, ImportError};
use crate::admin::import::{KEPT, READ};
use crate::admin::{check_length, credentials, policies, taken};
use crate::authority::management_client;
use crate::model::{
    ClientBody, Fields as _, RealmBody, Rep, RoleBody, Stored as _, UserBody, kind,
};
use crate::new_realm::{NewRealm, management};
use crate::{Caller, Error, Invalid, Iris, MASTER, Realms, Thing, representation};

/// Blocks of a realm import that this version does not have. They are refused on create unless empty,
/// and ignored on update, as the original ignores all blocks there.
const REFUSED: &[&str] = &[
    "federatedUsers",
    "userFederationProviders",
    "userFederationMappers",
    "protocolMappers",
    "applications",
    "oauthClients",
    "clientTemplates",
    "organizations",
    "socialProviders",
    "applicationScopeMappings",
];

/// Whether a field is no setting but holds other objects.
fn is_block(field: &str) -> bool {
    REFUSED.contains(&field) || READ.contains(&field) || KEPT.contains(&field)
}

/// Fields that are derived on every read, or were dropped by the original long ago.
const DERIVED: &[&str] = &[
    "id",
    "realm",
    "defaultRole",
    "keycloakVersion",
    "privateKey",
    "publicKey",
    "certificate",
    "codeSecret",
    "passwordCredentialGrantAllowed",
    "userCacheEnabled",
    "realmCacheEnabled",
    "social",
    "updateProfileOnInitialSocialLogin",
];

/// Which realms to list.
#[derive(Clone, Debug, Default)]
pub struct RealmFilter {
    /// Only names that contain this.
    pub search: Option<String>,
    /// Leave out this many first.
    pub first: u32,
    /// At most this many; all when absent.
    pub max: Option<u32>,
    /// Only names and whether they are enabled.
    pub brief: bool,
}

/// Characters that a realm name cannot have: it is one segment of a path.
const RESERVED: &str = "/\\:?#[]@!$&'()*+,;=%<>\"{}|^`";

fn check_name(name: &str) -> Result<(), Error> {
    if name.is_empty() {
        return Err(Error::Invalid(Invalid::RealmNameEmpty));
    }
    check_length("realm", name)?;
    let bad = |it: char| it.is_whitespace() || it.is_control() || RESERVED.contains(it);
    if name.contains(bad) || matches!(name, "." | "..") {
        return Err(Error::Invalid(Invalid::RealmName(name.to_owned())));
    }
    Ok(())
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty)
}

/// Settings whose values the token endpoint depends on.
fn check_settings(realm: &RealmBody) -> Result<(), Error> {
    let algorithm = realm
        .rep
        .text("defaultSignatureAlgorithm")
        .unwrap_or("RS256");
    if algorithm.parse::<Algorithm>().is_err() {
        return Err(Error::Invalid(Invalid::Required(
            "defaultSignatureAlgorithm",
        )));
    }
    if !matches!(
        realm.rep.text("sslRequired"),
        None | Some("external" | "all" | "none")
    ) {
        return Err(Error::Invalid(Invalid::Required("sslRequired")));
    }
    credentials::policy_of(realm)?;
    policies::check(realm)
}

/// The representation of a realm.
pub(crate) fn render(body: RealmBody, default_role: Option<&RoleBody>) -> Rep {
    let mut rep = body.rep;
    rep.insert("id".to_owned(), json!(body.id));
    if let Some(role) = default_role {
        let value = json!({
            "id": role.id, "name": role.name, "description": role.rep.text("description"),
            "composite": true, "clientRole": false, "containerId": body.id,
        });
        rep.insert("defaultRole".to_owned(), value);
    }
    rep.insert("realm".to_owned(), json!(body.name));
    representation::REALM.arrange(rep)
}

/// The few fields of a brief representation.
fn render_brief(body: RealmBody) -> Rep {
    let mut brief = Map::new();
    brief.insert("id".to_owned(), json!(body.id));
    brief.insert("realm".to_owned(), json!(body.name));
    for field in ["displayName", "displayNameHtml", "enabled"] {
        if let Some(value) = body.rep.get(field) {
            brief.insert(field.to_owned(), value.clone());
        }
    }
    representation::REALM.arrange(brief)
}

impl Iris {
    /// The realms somebody may know of, in the order of their names.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn realms(&self, of: &Realms, filter: &RealmFilter) -> Result<Vec<Rep>, Error> {
        let bodies = match of {
            Realms::All => {
                let query = Query {
                    kind: kind::REALM,
                    owner: Some(""),
                    by_key: Some("name"),
                    search: filter.search.as_deref(),
                    ..Query::default()
                };
                let key = |realm: &RealmBody| realm.name.clone();
                self.read_by_name(kind::REALM, query, filter.first, filter.max, key)
                    .await?
            }
            Realms::Named(names) => {
                let search = filter.search.as_ref().map(|text| text.to_lowercase());
                let fits = |name: &&String| {
                    let name = name.to_lowercase();
                    search.as_ref().is_none_or(|text| name.contains(text))
                };
                let max = filter.max.map_or(usize::MAX, |max| max as usize);
                let page = names.iter().filter(fits).skip(filter.first as usize);
                let mut bodies = Vec::new();
                for name in page.take(max) {
                    let found = self
                        .read_by_key::<RealmBody>(kind::REALM, "", "name", name)
                        .await?;
                    bodies.extend(found);
                }
                bodies
            }
        };
        // What somebody may see of each of several realms is not looked up: the names suffice.
        let brief = filter.brief || matches!(of, Realms::Named(_));
        let render = |body| {
            if brief {
                render_brief(body)
            } else {
                render(body, None)
            }
        };
        Ok(bodies.into_iter().map(render).collect())
    }

    /// The representation of a realm; brief for callers who may not see its settings.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn realm_representation(&self, realm_id: &str, brief: bool) -> Result<Rep, Error> {
        let body = self.realm_body(realm_id).await?;
        if brief {
            return Ok(render_brief(body));
        }
        let role = self
            .read::<RoleBody>(kind::ROLE, realm_id, &body.default_role)
            .await?;
        Ok(render(body, role.as_ref().map(|(role, _)| role)))
    }

    /// Makes a realm with everything a new realm contains and everything sent with it, in one
    /// transaction; gives its name. A creator without every right gets all rights over it.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Invalid`].
    pub async fn create_realm(
        &self,
        mut rep: Rep,
        creator: Option<&Caller>,
    ) -> Result<String, Error> {
        let name = rep.text("realm").unwrap_or_default().to_owned();
        check_name(&name)?;
        let mut blocks = Map::new();
        for block in REFUSED {
            if rep.get(*block).is_some_and(|it| !is_empty(it)) {
                return Err(Error::Invalid(Invalid::ImportBlock(block)));
            }
        }
        for block in READ.iter().chain(KEPT) {
            if let Some(value) = rep.shift_remove(*block) {
                blocks.insert((*block).to_owned(), value);
            }
        }
        let sent_id = rep
            .text("id")
            .filter(|id| !id.is_empty() && id.len() <= 36 && !id.contains('/'))
            .map(str::to_owned);
        rep.retain(|field, _| !DERIVED.contains(&field.as_str()) && !is_block(field));
        let id = sent_id.unwrap_or_else(|| self.ambient.uuid());
        let mut new = NewRealm::draft(id, &name, rep, &self.ambient);
        check_settings(&new.realm)?;
        let exists = self
            .store
            .get_by_key(kind::REALM, "", "name", &name)
            .await?
            .is_some();
        if exists {
            return Err(Error::Exists {
                thing: Thing::Realm,
                name,
                renaming: false,
            });
        }
        // Boxed: its future is large, and callers carry this one in theirs.
        let imported = Box::pin(self.import(&mut new, blocks)).await?;
        let keys = if imported.keys.is_empty() {
            self.new_keys(&new.realm).await?
        } else {
            imported.keys
        };
        let mut steps = new.steps(&keys);
        // Groups come after those they are in.
        let groups = imported.groups.iter().map(|it| Write::Insert(it.object()));
        steps.extend(groups);
        let users = imported.users.iter().map(|it| Write::Insert(it.object()));
        steps.extend(users);
        if name != MASTER {
            self.add_management(&new.realm, creator, &mut steps).await?;
        }
        match self.write(&new.realm.id, steps).await {
            Ok(()) => Ok(name),
            Err(o28m_store::Error::Duplicate { kind, value, .. }) if kind != kind::REALM => {
                Err(clash(&kind, &value))
            }
            Err(o28m_store::Error::DuplicateId { kind, id }) if kind != kind::REALM => {
                Err(clash(&kind, &id))
            }
            Err(error) => Err(taken(error, Thing::Realm, &name, false)),
        }
    }

    /// Adds the client of the master realm whose roles give rights over a new realm.
    async fn add_management(
        &self,
        realm: &RealmBody,
        creator: Option<&Caller>,
        steps: &mut Vec<Write>,
    ) -> Result<(), Error> {
        let master = self.existing_realm(MASTER).await?;
        let (client, roles) = management(master.id(), realm, &self.ambient);
        steps.push(Write::Insert(client.object()));
        steps.extend(roles.iter().map(|role| Write::Insert(role.object())));
        let creator = creator.filter(|it| !it.is_full() && it.realm_id() == master.id());
        if let Some(creator) = creator {
            let found = self
                .read::<UserBody>(kind::USER, master.id(), creator.user_id())
                .await?;
            if let Some((mut user, version)) = found {
                user.roles.extend(roles.iter().map(|role| role.id.clone()));
                steps.push(Write::Update {
                    object: user.object(),
                    if_version: Some(version),
                });
            }
        }
        Ok(())
    }

    /// The client of the master realm whose roles give rights over this realm.
    async fn management_of(&self, realm: &RealmBody) -> Result<Option<ClientBody>, Error> {
        let master = self.existing_realm(MASTER).await?;
        let client_id = management_client(&realm.name, MASTER);
        let found = self
            .client_body_by_client_id(master.id(), &client_id)
            .await?;
        Ok(found.filter(|client| client.manages.as_deref() == Some(&realm.id)))
    }

    /// Changes the settings that were sent; a new name renames the realm.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Exists`], [`Error::Invalid`].
    pub async fn update_realm(&self, realm_id: &str, rep: Rep) -> Result<(), Error> {
        let new_name = rep.text("realm").unwrap_or_default().to_owned();
        let known = self.realm_body(realm_id).await?;
        let management = self.management_of(&known).await?;
        let apply = |realm: &mut RealmBody| {
            let mut others = Vec::new();
            if rep.contains_key("realm") && new_name != realm.name {
                if realm.name == MASTER {
                    return Err(Error::Invalid(Invalid::MasterRename));
                }
                check_name(&new_name)?;
                realm.name.clone_from(&new_name);
                if let Some(client) = &management {
                    let mut client = client.clone();
                    client.client_id = management_client(&new_name, MASTER);
                    let name = json!(format!("{new_name} Realm"));
                    client.rep.insert("name".to_owned(), name);
                    others.push(Write::Update {
                        object: client.object(),
                        if_version: None,
                    });
                }
            }
            for (field, value) in &rep {
                let field = field.as_str();
                if !DERIVED.contains(&field) && !is_block(field) {
                    set(&mut realm.rep, field, value.clone());
                }
            }
            check_settings(realm).map(|()| others)
        };
        let changed = self
            .change::<RealmBody>(realm_id, realm_id, Thing::Realm, apply)
            .await;
        match changed {
            Ok(_) => Ok(()),
            Err(Error::Store(error)) => Err(taken(error, Thing::Realm, &new_name, true)),
            Err(error) => Err(error),
        }
    }

    /// Deletes a realm and everything in it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the master realm.
    pub async fn delete_realm(&self, realm_id: &str) -> Result<(), Error> {
        if self.realm_body(realm_id).await?.name == MASTER {
            return Err(Error::Invalid(Invalid::MasterDelete));
        }
        let step = Write::Delete {
            kind: kind::REALM,
            id: realm_id.to_owned(),
        };
        self.write(realm_id, vec![step]).await?;
        // A realm of the same id, made later, must not find logins and events of this one.
        self.store.clear_sessions(realm_id, "").await?;
        Ok(())
    }

    /// Makes the realms of the files in a directory that do not exist yet. A file holds one
    /// representation or a list of them; `${NAME}` stands for a variable, `${NAME:default}` for one with
    /// a default. Existing realms stay as they are. Gives the names of those made and those skipped.
    ///
    /// # Errors
    /// [`ImportError`] with the file and what is wrong in it; what was made before stays.
    pub async fn import_directory(
        &self,
        directory: &std::path::Path,
        variable: &(dyn Fn(&str) -> Option<String> + Sync),
    ) -> Result<(Vec<String>, Vec<String>), ImportError> {
        let (mut made, mut skipped) = (Vec::new(), Vec::new());
        for path in files::list(directory).await? {
            for rep in files::read(&path, variable).await? {
                let fails = |problem| ImportError::new(&path, problem);
                let name = rep.text("realm").unwrap_or_default().to_owned();
                match Box::pin(self.create_realm(rep, None)).await {
                    Ok(name) => made.push(name),
                    Err(Error::Exists {
                        thing: Thing::Realm,
                        ..
                    }) => skipped.push(name),
                    Err(error) => return Err(fails(files::Problem::Realm(name, error.into()))),
                }
            }
        }
        Ok((made, skipped))
    }
}

/// Something sent with a realm occurs twice, or is that of another realm.
fn clash(kind: &str, name: &str) -> Error {
    Error::Exists {
        thing: Thing::Imported,
        name: format!("{kind} {name}"),
        renaming: false,
    }
}

/// Sets one field; `attributes` are replaced but keep the entries that every realm has.
fn set(rep: &mut Rep, field: &str, value: Value) {
    let Value::Object(mut sent) = value else {
        rep.insert(field.to_owned(), value);
        return;
    };
    sent.retain(|_, value| !value.is_null());
    if field == "attributes" {
        let known = rep
            .get(field)
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        let derived = known
            .into_iter()
            .filter(|(name, _)| is_derived_attribute(name));
        for (name, value) in derived {
            sent.entry(name).or_insert(value);
        }
    }
    rep.insert(field.to_owned(), Value::Object(sent));
}

fn is_derived_attribute(name: &str) -> bool {
    name.starts_with("ciba")
        || name.starts_with("oauth2Device")
        || matches!(name, "parRequestUriLifespan" | "realmReusableOtpCode")
}
