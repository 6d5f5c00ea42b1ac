//! Realms.

use o28m_jose::Algorithm;
use o28m_store::{Query, Write};
use serde_json::{Map, Value, json};

use crate::admin::clients::NewClient;
use crate::admin::{check_length, policies, taken};
use crate::model::{Fields as _, RealmBody, Rep, RoleBody, kind};
use crate::new_realm::NewRealm;
use crate::{Error, Invalid, Iris, MASTER, Thing, representation};

/// Blocks of a realm import that are not settings. They are refused on create unless empty, and
/// ignored on update, as the original ignores them there.
const BLOCKS: &[&str] = &[
    "roles",
    "groups",
    "defaultRoles",
    "defaultGroups",
    "users",
    "federatedUsers",
    "scopeMappings",
    "clientScopeMappings",
    "clientScopes",
    "defaultDefaultClientScopes",
    "defaultOptionalClientScopes",
    "userFederationProviders",
    "userFederationMappers",
    "identityProviders",
    "identityProviderMappers",
    "protocolMappers",
    "components",
    "authenticationFlows",
    "authenticatorConfig",
    "requiredActions",
    "applications",
    "oauthClients",
    "clientTemplates",
    "organizations",
    "socialProviders",
    "applicationScopeMappings",
    "clients",
];

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
    policies::check(realm)
}

/// The representation of a realm.
fn render(body: RealmBody, default_role: Option<&RoleBody>) -> Rep {
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
    /// Every realm.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn realms(&self, brief: bool) -> Result<Vec<Rep>, Error> {
        let query = Query {
            owner: Some(""),
            ..Query::default()
        };
        let bodies = self.read_all::<RealmBody>(kind::REALM, query).await?;
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

    /// Makes a realm with everything a new realm contains, and the clients sent with it; gives its name.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Invalid`].
    pub async fn create_realm(&self, mut rep: Rep) -> Result<String, Error> {
        let name = rep.text("realm").unwrap_or_default().to_owned();
        check_name(&name)?;
        let clients = match rep.shift_remove("clients") {
            Some(Value::Array(items)) => items,
            _ => Vec::new(),
        };
        if let Some(block) = BLOCKS
            .iter()
            .find(|block| rep.get(**block).is_some_and(|it| !is_empty(it)))
        {
            return Err(Error::Invalid(Invalid::ImportBlock(block)));
        }
        let sent_id = rep
            .text("id")
            .filter(|id| !id.is_empty() && id.len() <= 36)
            .map(str::to_owned);
        rep.retain(|field, _| {
            !DERIVED.contains(&field.as_str()) && !BLOCKS.contains(&field.as_str())
        });
        let id = sent_id.unwrap_or_else(|| self.ambient.uuid());
        let new = NewRealm::draft(id, &name, rep, &self.ambient);
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
        let keys = self.new_keys(&new.realm).await?;
        let mut steps = new.steps(&keys);
        for client in clients.into_iter().filter_map(|it| it.as_object().cloned()) {
            let made = NewClient::draft(&new.realm, &new.scopes, client, &self.ambient)?;
            steps.extend(made.steps());
        }
        match self.write(&new.realm.id, steps).await {
            Ok(()) => Ok(name),
            Err(error) => Err(taken(error, Thing::Realm, &name, false)),
        }
    }

    /// Changes the settings that were sent; a new name renames the realm.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Exists`], [`Error::Invalid`].
    pub async fn update_realm(&self, realm_id: &str, rep: Rep) -> Result<(), Error> {
        let new_name = rep.text("realm").unwrap_or_default().to_owned();
        let apply = |realm: &mut RealmBody| {
            if rep.contains_key("realm") && new_name != realm.name {
                if realm.name == MASTER {
                    return Err(Error::Invalid(Invalid::MasterRename));
                }
                check_name(&new_name)?;
                realm.name.clone_from(&new_name);
            }
            for (field, value) in &rep {
                let field = field.as_str();
                if !DERIVED.contains(&field) && !BLOCKS.contains(&field) {
                    set(&mut realm.rep, field, value.clone());
                }
            }
            check_settings(realm).map(|()| Vec::new())
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
        Ok(self.write(realm_id, vec![step]).await?)
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
