//! Users and their passwords.

use o28m_core::{Ambient, Secret};
use o28m_store::{Query, Write};
use serde_json::{Map, Value, json};

use crate::admin::clients::service_name;
use crate::admin::{Others, check_length, taken};
use crate::model::{ClientBody, Fields as _, Rep, Stored as _, UserBody, kind};
use crate::{Error, Invalid, Iris, Thing, password, representation};

/// Users a list gives unless it says otherwise (Keycloak 26.5).
const LIST_DEFAULT: u32 = 100;

/// Fields that are derived, or that this version does not take from a user's representation.
const NOT_STORED: &[&str] = &[
    "id",
    "username",
    "credentials",
    "access",
    "self",
    "userProfileMetadata",
    "origin",
    "totp",
    "disableableCredentialTypes",
    "serviceAccountClientId",
    "federationLink",
    "clientConsents",
];
/// Blocks that are refused when a user is made with them: they would otherwise be lost silently.
const BLOCKS: &[&str] = &[
    "realmRoles",
    "clientRoles",
    "groups",
    "federatedIdentities",
    "applicationRoles",
    "socialLinks",
];

/// Which users to list.
#[derive(Clone, Debug, Default)]
pub struct UserFilter {
    /// Only user names that contain this.
    pub search: Option<String>,
    /// Only this user name, or those that contain it unless `exact`.
    pub username: Option<String>,
    /// Only the user with this e-mail address.
    pub email: Option<String>,
    /// Compare whole names.
    pub exact: bool,
    /// Leave out this many first.
    pub first: u32,
    /// At most this many; 100 when absent.
    pub max: Option<u32>,
    /// Without attributes.
    pub brief: bool,
}

/// The representation of a user.
pub(crate) fn render_user(body: UserBody) -> Rep {
    let mut rep = body.rep;
    rep.insert("id".to_owned(), json!(body.id));
    rep.insert("username".to_owned(), json!(body.username));
    rep.entry("emailVerified".to_owned())
        .or_insert(json!(false));
    rep.insert("totp".to_owned(), json!(false));
    rep.insert("disableableCredentialTypes".to_owned(), json!([]));
    rep.entry("requiredActions".to_owned())
        .or_insert_with(|| json!([]));
    rep.entry("notBefore".to_owned()).or_insert(json!(0));
    if rep
        .get("attributes")
        .and_then(Value::as_object)
        .is_some_and(Map::is_empty)
    {
        rep.shift_remove("attributes");
    }
    let access = json!({
        "manageGroupMembership": true, "resetPassword": true, "view": true, "mapRoles": true,
        "impersonate": false, "manage": true,
    });
    rep.insert("access".to_owned(), access);
    representation::USER.arrange(rep)
}

/// The user of a client's service account.
pub(crate) fn service_user(client: &ClientBody, default_role: &str, ambient: &Ambient) -> UserBody {
    let rep = json!({
        "enabled": true, "emailVerified": false, "requiredActions": [],
        "createdTimestamp": ambient.now().millis(), "notBefore": 0,
    });
    UserBody {
        id: ambient.uuid(),
        realm: client.realm.clone(),
        username: service_name(&client.client_id),
        rep: rep.as_object().cloned().unwrap_or_default(),
        roles: vec![default_role.to_owned()],
        client: Some(client.id.clone()),
        password: None,
    }
}

fn apply(user: &mut UserBody, rep: &Rep) -> Result<(), Error> {
    for field in ["username", "email", "firstName", "lastName"] {
        check_length(field, rep.text(field).unwrap_or_default())?;
    }
    for (field, value) in rep {
        if NOT_STORED.contains(&field.as_str()) || BLOCKS.contains(&field.as_str()) {
            continue;
        }
        if field == "email" {
            let lower = value.as_str().unwrap_or_default().to_lowercase();
            if lower.is_empty() {
                user.rep.shift_remove("email");
            } else {
                user.rep.insert(field.clone(), json!(lower));
            }
        } else {
            user.rep.insert(field.clone(), value.clone());
        }
    }
    Ok(())
}

/// Refuses credentials that are not a password in clear: they would be lost silently.
fn check_credentials(rep: &Rep) -> Result<(), Error> {
    let credentials = rep.get("credentials").and_then(Value::as_array);
    let usable = |it: &Value| {
        let kind = it.get("type").and_then(Value::as_str).unwrap_or("password");
        kind == "password"
            && it
                .get("value")
                .and_then(Value::as_str)
                .is_some_and(|it| !it.is_empty())
    };
    if credentials.is_some_and(|all| !all.iter().all(usable)) {
        return Err(Error::Invalid(Invalid::ImportBlock("credentials")));
    }
    Ok(())
}

/// The password of a `credentials` list, and whether it must be changed at the next login.
fn sent_password(rep: &Rep) -> Option<(Secret<String>, bool)> {
    let credentials = rep.get("credentials").and_then(Value::as_array)?;
    let mut all = credentials.iter().filter_map(Value::as_object);
    let one = all.find(|it| it.text("type").unwrap_or("password") == "password")?;
    let value = one.text("value").filter(|value| !value.is_empty())?;
    Some((Secret::new(value.to_owned()), one.flag("temporary")))
}

/// Adds or removes required action `UPDATE_PASSWORD`.
fn set_temporary(rep: &mut Rep, temporary: bool) {
    let mut actions = rep.texts("requiredActions");
    actions.retain(|action| action != "UPDATE_PASSWORD");
    if temporary {
        actions.push("UPDATE_PASSWORD".to_owned());
    }
    rep.insert("requiredActions".to_owned(), json!(actions));
}

impl Iris {
    /// People of a realm; service accounts are left out.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn users(&self, realm_id: &str, filter: &UserFilter) -> Result<Vec<Rep>, Error> {
        let exact = match (&filter.email, &filter.username) {
            (Some(email), _) => Some(("email", email.to_lowercase())),
            (None, Some(name)) if filter.exact => Some(("person", name.to_lowercase())),
            (None, _) => None,
        };
        let bodies = if let Some((key, value)) = exact {
            let found = self
                .read_by_key::<UserBody>(kind::USER, realm_id, key, &value)
                .await?;
            found
                .into_iter()
                .filter(|user| user.client.is_none())
                .collect()
        } else {
            let text = filter.username.as_ref().or(filter.search.as_ref());
            let query = people(realm_id, text.map(String::as_str));
            let max = Some(filter.max.unwrap_or(LIST_DEFAULT));
            let key = |user: &UserBody| user.username.clone();
            self.read_by_name(kind::USER, query, filter.first, max, key)
                .await?
        };
        let mut reps: Vec<Rep> = bodies.into_iter().map(render_user).collect();
        if filter.brief {
            for rep in &mut reps {
                rep.shift_remove("attributes");
            }
        }
        Ok(reps)
    }

    /// How many people a realm has.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn user_count(&self, realm_id: &str, filter: &UserFilter) -> Result<u64, Error> {
        let text = filter.username.as_ref().or(filter.search.as_ref());
        Ok(self
            .store
            .count(&people(realm_id, text.map(String::as_str)))
            .await?)
    }

    /// One user.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn user_representation(&self, realm_id: &str, id: &str) -> Result<Rep, Error> {
        let found = self.read::<UserBody>(kind::USER, realm_id, id).await?;
        found
            .map(|(user, _)| render_user(user))
            .ok_or(Error::Missing(Thing::User))
    }

    /// Makes a user with the password sent along; gives the id.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Invalid`].
    pub async fn create_user(&self, realm_id: &str, rep: Rep) -> Result<String, Error> {
        let username = rep
            .text("username")
            .unwrap_or_default()
            .trim()
            .to_lowercase();
        if username.is_empty() {
            return Err(Error::Invalid(Invalid::UsernameMissing));
        }
        let is_set = |value: &Value| {
            !value.as_array().is_some_and(Vec::is_empty)
                && !value.as_object().is_some_and(Map::is_empty)
        };
        if let Some(block) = BLOCKS
            .iter()
            .find(|block| rep.get(**block).is_some_and(is_set))
        {
            return Err(Error::Invalid(Invalid::ImportBlock(block)));
        }
        check_credentials(&rep)?;
        let realm = self.realm_body(realm_id).await?;
        let base = json!({
            "enabled": false, "emailVerified": false, "requiredActions": [], "notBefore": 0,
            "createdTimestamp": self.ambient.now().millis(),
        });
        let sent_id = rep
            .text("id")
            .filter(|id| o28m_core::id::is_uuid(id))
            .map(str::to_owned);
        let mut user = UserBody {
            id: sent_id.unwrap_or_else(|| self.ambient.uuid()),
            realm: realm_id.to_owned(),
            username,
            rep: base.as_object().cloned().unwrap_or_default(),
            roles: vec![realm.default_role],
            client: None,
            password: None,
        };
        apply(&mut user, &rep)?;
        if let Some((secret, temporary)) = sent_password(&rep) {
            user.password = Some(self.hash(secret).await?);
            set_temporary(&mut user.rep, temporary);
        }
        match self
            .write(realm_id, vec![Write::Insert(user.object())])
            .await
        {
            Ok(()) => Ok(user.id),
            Err(error) => Err(taken(error, Thing::User, &user.username, false)),
        }
    }

    /// Changes what was sent.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Exists`], [`Error::Invalid`].
    pub async fn update_user(&self, realm_id: &str, id: &str, rep: Rep) -> Result<(), Error> {
        check_credentials(&rep)?;
        let realm = self.realm_body(realm_id).await?;
        let hash = match sent_password(&rep) {
            Some((secret, temporary)) => Some((self.hash(secret).await?, temporary)),
            None => None,
        };
        let name = rep
            .text("username")
            .unwrap_or_default()
            .trim()
            .to_lowercase();
        let change = |user: &mut UserBody| -> Result<Others, Error> {
            apply(user, &rep)?;
            let may_rename = realm.rep.flag("editUsernameAllowed") && user.client.is_none();
            if may_rename && !name.is_empty() {
                user.username.clone_from(&name);
            }
            if let Some((hash, temporary)) = &hash {
                user.password = Some(hash.clone());
                set_temporary(&mut user.rep, *temporary);
            }
            Ok(Vec::new())
        };
        match self
            .change::<UserBody>(realm_id, id, Thing::User, change)
            .await
        {
            Ok(_) => Ok(()),
            Err(Error::Store(error)) => Err(taken(error, Thing::User, &name, true)),
            Err(error) => Err(error),
        }
    }

    /// Deletes a user.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn delete_user(&self, realm_id: &str, id: &str) -> Result<(), Error> {
        if self
            .read::<UserBody>(kind::USER, realm_id, id)
            .await?
            .is_none()
        {
            return Err(Error::Missing(Thing::User));
        }
        let step = Write::Delete {
            kind: kind::USER,
            id: id.to_owned(),
        };
        Ok(self.write(realm_id, vec![step]).await?)
    }

    /// Sets a user's password.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Invalid`] without a password.
    pub async fn reset_password(&self, realm_id: &str, id: &str, rep: &Rep) -> Result<(), Error> {
        if self
            .read::<UserBody>(kind::USER, realm_id, id)
            .await?
            .is_none()
        {
            return Err(Error::Missing(Thing::User));
        }
        let value = rep.text("value").filter(|value| !value.is_empty());
        let value = value.ok_or(Error::Invalid(Invalid::PasswordMissing))?;
        let hash = self.hash(Secret::new(value.to_owned())).await?;
        let temporary = rep.flag("temporary");
        let change = |user: &mut UserBody| {
            user.password = Some(hash.clone());
            set_temporary(&mut user.rep, temporary);
            Ok(Vec::new())
        };
        self.change::<UserBody>(realm_id, id, Thing::User, change)
            .await?;
        Ok(())
    }

    pub(crate) async fn hash(&self, secret: Secret<String>) -> Result<String, Error> {
        let ambient = self.ambient.clone();
        let hash = self
            .hashing
            .run(move || password::hash(&secret, &ambient))
            .await?;
        hash.ok_or(Error::Invalid(Invalid::PasswordTooLong))
    }
}

fn people<'a>(realm_id: &'a str, search: Option<&'a str>) -> Query<'a> {
    Query {
        kind: kind::USER,
        owner: Some(realm_id),
        by_key: Some("person"),
        search,
        ..Query::default()
    }
}
