//! Users and their passwords.

use o28m_core::Ambient;
use o28m_store::{Filter, Query, Test, Write};
use serde_json::{Map, Value, json};

use crate::admin::clients::service_name;
use crate::admin::import::Names;
use crate::admin::{Others, check_length, credentials, taken};
use crate::model::{ClientBody, Fields as _, RealmBody, Rep, Stored as _, UserBody, kind};
use crate::{Caller, Error, Invalid, Iris, Thing, representation};

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
/// Blocks of a user's representation that are read when the user is made, and ignored later.
const BLOCKS: &[&str] = &["realmRoles", "clientRoles", "groups", "applicationRoles"];
/// Blocks that are refused when a user is made with them: they would otherwise be lost silently.
const REFUSED: &[&str] = &["federatedIdentities", "socialLinks"];

/// Which users to list.
#[derive(Clone, Debug, Default)]
pub struct UserFilter {
    /// Words that a user name, e-mail address or name starts with; `*` stands for any text, and words
    /// in quotes are compared whole.
    pub search: Option<String>,
    /// Only user names that contain this.
    pub username: Option<String>,
    /// Only e-mail addresses that contain this.
    pub email: Option<String>,
    /// Only first names that contain this.
    pub first_name: Option<String>,
    /// Only last names that contain this.
    pub last_name: Option<String>,
    /// Compare whole values.
    pub exact: bool,
    /// Only enabled, or disabled, users.
    pub enabled: Option<bool>,
    /// Only users whose e-mail address is verified, or not.
    pub email_verified: Option<bool>,
    /// Only users with these attribute values.
    pub attributes: Vec<(String, String)>,
    /// Only users of an identity provider: nobody.
    pub brokered: bool,
    /// Leave out this many first.
    pub first: u32,
    /// At most this many; 100 when absent.
    pub max: Option<u32>,
    /// Without attributes.
    pub brief: bool,
}

/// A condition that owns its texts.
struct Owned {
    path: Vec<String>,
    test: OwnedTest,
}

enum OwnedTest {
    Fits(String),
    Has(String),
    Flag(bool),
}

impl Owned {
    fn fits(path: &[&str], pattern: String) -> Self {
        Self {
            path: path.iter().map(|name| (*name).to_owned()).collect(),
            test: OwnedTest::Fits(pattern),
        }
    }

    fn borrow(&self) -> Filter<'_> {
        Filter {
            path: self.path.iter().map(String::as_str).collect(),
            test: match &self.test {
                OwnedTest::Fits(pattern) => Test::Fits(pattern),
                OwnedTest::Has(value) => Test::Has(value),
                OwnedTest::Flag(wanted) => Test::Flag(*wanted),
            },
        }
    }
}

/// Where the searched texts are: people are listed by their user names.
const USERNAME: &[&str] = &[];
const EMAIL: &[&str] = &["find", "email"];
const FIRST_NAME: &[&str] = &["find", "firstName"];
const LAST_NAME: &[&str] = &["find", "lastName"];

/// The pattern of one word of a search (Keycloak 26.5 `JpaUserProvider`).
fn word_pattern(word: &str) -> String {
    let word = word.to_lowercase();
    let quoted = word
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    match quoted {
        Some(whole) => whole.to_owned(),
        None if word.ends_with('*') => word,
        None => format!("{word}*"),
    }
}

impl UserFilter {
    fn conditions(&self) -> Vec<Vec<Owned>> {
        let mut all = Vec::new();
        for word in self
            .search
            .as_deref()
            .unwrap_or_default()
            .split_whitespace()
        {
            let pattern = word_pattern(word);
            let places = [USERNAME, EMAIL, FIRST_NAME, LAST_NAME];
            all.push(places.map(|path| Owned::fits(path, pattern.clone())).into());
        }
        let fields = [
            (USERNAME, &self.username),
            (EMAIL, &self.email),
            (FIRST_NAME, &self.first_name),
            (LAST_NAME, &self.last_name),
        ];
        for (path, value) in fields {
            let Some(value) = value else { continue };
            let value = value.to_lowercase();
            let pattern = if self.exact {
                value
            } else {
                format!("*{value}*")
            };
            all.push(vec![Owned::fits(path, pattern)]);
        }
        let flags = [
            ("enabled", self.enabled),
            ("emailVerified", self.email_verified),
        ];
        for (field, wanted) in flags {
            if let Some(wanted) = wanted {
                all.push(vec![Owned {
                    path: vec!["rep".to_owned(), field.to_owned()],
                    test: OwnedTest::Flag(wanted),
                }]);
            }
        }
        for (name, value) in &self.attributes {
            all.push(vec![Owned {
                path: vec!["rep".to_owned(), "attributes".to_owned(), name.clone()],
                test: OwnedTest::Has(value.clone()),
            }]);
        }
        if self.brokered {
            all.push(Vec::new());
        }
        all
    }
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
        ..UserBody::default()
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

impl Iris {
    /// People of a realm; service accounts are left out.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn users(&self, realm_id: &str, filter: &UserFilter) -> Result<Vec<Rep>, Error> {
        let conditions = filter.conditions();
        let query = Query {
            filters: borrow(&conditions),
            ..people(realm_id)
        };
        let max = Some(filter.max.unwrap_or(LIST_DEFAULT));
        let key = |user: &UserBody| user.username.clone();
        let bodies = match exact_name(filter) {
            // The one that can be meant is looked up instead of searched for.
            Some(name) => {
                let query = Query { limit: 1, ..query };
                self.person_among(realm_id, &name, query).await?
            }
            None => {
                self.read_by_name(kind::USER, query, filter.first, max, key)
                    .await?
            }
        };
        Ok(render_users(bodies, filter.brief))
    }

    /// The person of that name if a query with further conditions finds anybody of it.
    async fn person_among(
        &self,
        realm_id: &str,
        name: &str,
        query: Query<'_>,
    ) -> Result<Vec<UserBody>, Error> {
        let found = self
            .read_by_key::<UserBody>(kind::USER, realm_id, "person", name)
            .await?;
        if found.is_none() || query.filters.len() < 2 {
            return Ok(found.into_iter().collect());
        }
        let key = |user: &UserBody| user.username.clone();
        self.read_by_name(kind::USER, query, 0, Some(1), key).await
    }

    /// People whose reference points to something.
    pub(crate) async fn users_pointing(
        &self,
        realm_id: &str,
        reference: (&str, &str),
        first: u32,
        max: Option<u32>,
        brief: bool,
    ) -> Result<Vec<Rep>, Error> {
        let query = Query {
            reference: Some(reference),
            ..people(realm_id)
        };
        let max = Some(max.unwrap_or(LIST_DEFAULT));
        let key = |user: &UserBody| user.username.clone();
        let bodies = self
            .read_by_name(kind::USER, query, first, max, key)
            .await?;
        Ok(render_users(bodies, brief))
    }

    /// How many people a filter finds.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn user_count(&self, realm_id: &str, filter: &UserFilter) -> Result<u64, Error> {
        let conditions = filter.conditions();
        let query = Query {
            filters: borrow(&conditions),
            ..people(realm_id)
        };
        Ok(self.store.count(&query).await?)
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

    /// Makes a user with the password, roles and groups sent along; gives the id. `giver` may give the
    /// roles only if they could map them.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Invalid`], [`Error::Forbidden`].
    pub async fn create_user(
        &self,
        realm_id: &str,
        rep: Rep,
        giver: Option<&Caller>,
    ) -> Result<String, Error> {
        let realm = self.realm_body(realm_id).await?;
        let names = Names::of_stored(self, realm_id);
        let user = self.draft_user(&realm, &rep, &names, true).await?;
        if let Some(giver) = giver {
            self.check_gifts(giver, &realm, &user).await?;
        }
        match self
            .write(realm_id, vec![Write::Insert(user.object())])
            .await
        {
            Ok(()) => Ok(user.id),
            Err(error) => Err(taken(error, Thing::User, &user.username, false)),
        }
    }

    /// Refuses to make a user with roles, or in groups, that the caller may not give.
    pub(crate) async fn check_gifts(
        &self,
        giver: &Caller,
        realm: &RealmBody,
        user: &UserBody,
    ) -> Result<(), Error> {
        let given: Vec<String> = user
            .roles
            .iter()
            .filter(|id| **id != realm.default_role)
            .cloned()
            .collect();
        self.check_may_give(giver, &realm.id, &realm.name, &given)
            .await?;
        for group in &user.groups {
            if !realm.default_groups.contains(group) {
                self.check_may_join(giver, &realm.id, &realm.name, group)
                    .await?;
            }
        }
        Ok(())
    }

    /// A user made of a representation. With `check`, passwords must fit the realm's policy, and the
    /// user gets the realm's default role and groups whatever was sent; an import is taken as it is.
    pub(crate) async fn draft_user(
        &self,
        realm: &RealmBody,
        rep: &Rep,
        names: &Names<'_>,
        check: bool,
    ) -> Result<UserBody, Error> {
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
        if let Some(block) = REFUSED
            .iter()
            .find(|block| rep.get(**block).is_some_and(is_set))
        {
            return Err(Error::Invalid(Invalid::ImportBlock(block)));
        }
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
            realm: realm.id.clone(),
            username,
            rep: base.as_object().cloned().unwrap_or_default(),
            ..UserBody::default()
        };
        apply(&mut user, rep)?;
        self.fill_roles_and_groups(realm, rep, names, check, &mut user)
            .await?;
        let ready = self
            .prepare(realm, &user, credentials::sent(rep)?, check)
            .await;
        let ready = match ready {
            Err(Error::Invalid(Invalid::Password(_))) => {
                return Err(Error::Invalid(Invalid::PolicyNotMet));
            }
            other => other?,
        };
        if let Some(ready) = ready {
            ready.set(&mut user);
        }
        Ok(user)
    }

    async fn fill_roles_and_groups(
        &self,
        realm: &RealmBody,
        rep: &Rep,
        names: &Names<'_>,
        check: bool,
        user: &mut UserBody,
    ) -> Result<(), Error> {
        let explicit = rep.contains_key("realmRoles") || rep.contains_key("clientRoles");
        if check || !explicit {
            user.roles.push(realm.default_role.clone());
        }
        user.roles.extend(
            names
                .roles_of("users", rep, "realmRoles", "clientRoles")
                .await?,
        );
        for path in rep.texts("groups") {
            user.groups.push(names.group("users", &path).await?);
        }
        if check || !rep.contains_key("groups") {
            user.groups.extend(realm.default_groups.iter().cloned());
        }
        for list in [&mut user.roles, &mut user.groups] {
            let mut seen = std::collections::HashSet::new();
            list.retain(|id| seen.insert(id.clone()));
        }
        Ok(())
    }

    /// Changes what was sent.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Exists`], [`Error::Invalid`].
    pub async fn update_user(&self, realm_id: &str, id: &str, rep: Rep) -> Result<(), Error> {
        let realm = self.realm_body(realm_id).await?;
        let mut known = self.user_body(realm_id, id).await?;
        apply(&mut known, &rep)?;
        let ready = self
            .prepare(&realm, &known, credentials::sent(&rep)?, true)
            .await?;
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
            if let Some(ready) = &ready {
                ready.set(user);
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
}

fn people(realm_id: &str) -> Query<'_> {
    Query {
        kind: kind::USER,
        owner: Some(realm_id),
        by_key: Some("person"),
        ..Query::default()
    }
}

fn borrow(conditions: &[Vec<Owned>]) -> Vec<Vec<Filter<'_>>> {
    let lists = conditions.iter();
    lists
        .map(|alternatives| alternatives.iter().map(Owned::borrow).collect())
        .collect()
}

/// The whole user name a filter asks for.
fn exact_name(filter: &UserFilter) -> Option<String> {
    let name = filter.username.as_ref().filter(|_| filter.exact)?;
    Some(name.to_lowercase())
}

fn render_users(bodies: Vec<UserBody>, brief: bool) -> Vec<Rep> {
    let mut reps: Vec<Rep> = bodies.into_iter().map(render_user).collect();
    if brief {
        for rep in &mut reps {
            rep.shift_remove("attributes");
        }
    }
    reps
}
