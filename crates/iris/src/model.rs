//! What is stored, and what it is compiled to for answering requests.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use o28m_core::Secret;
use o28m_store::{Key, Object, OnDelete, Reference};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::keys::{KeyBody, Keys};
use crate::login::consent::consent_key;
use crate::mapper::Mapper;

/// A JSON object in its stored order.
pub type Rep = Map<String, Value>;

/// Kinds of stored objects.
pub(crate) mod kind {
    pub(crate) const REALM: &str = "realm";
    pub(crate) const CLIENT: &str = "client";
    pub(crate) const SCOPE: &str = "client-scope";
    pub(crate) const ROLE: &str = "role";
    pub(crate) const USER: &str = "user";
    pub(crate) const KEY: &str = "realm-key";
    pub(crate) const GROUP: &str = "group";
    pub(crate) const CONSENT: &str = "user-consent";
}

/// A body that is stored under its kind.
pub(crate) trait Stored: Serialize + serde::de::DeserializeOwned + Send {
    const KIND: &'static str;

    /// The object with its keys and references.
    fn object(&self) -> Object;
}

/// Reads of a representation's fields; a field of another type counts as absent.
pub(crate) trait Fields {
    fn text(&self, field: &str) -> Option<&str>;
    fn flag(&self, field: &str) -> bool;
    fn int(&self, field: &str) -> i64;
    fn entry_text(&self, field: &str, name: &str) -> Option<&str>;
    fn texts(&self, field: &str) -> Vec<String>;
    fn has_text(&self, field: &str, text: &str) -> bool;
}

impl Fields for Rep {
    fn text(&self, field: &str) -> Option<&str> {
        self.get(field).and_then(Value::as_str)
    }

    fn flag(&self, field: &str) -> bool {
        self.get(field).and_then(Value::as_bool).unwrap_or_default()
    }

    fn int(&self, field: &str) -> i64 {
        self.get(field).and_then(Value::as_i64).unwrap_or_default()
    }

    fn entry_text(&self, field: &str, name: &str) -> Option<&str> {
        self.get(field)?.as_object()?.get(name)?.as_str()
    }

    fn texts(&self, field: &str) -> Vec<String> {
        let items = self.get(field).and_then(Value::as_array);
        let texts = items.into_iter().flatten().filter_map(Value::as_str);
        texts.map(str::to_owned).collect()
    }

    fn has_text(&self, field: &str, text: &str) -> bool {
        let items = self.get(field).and_then(Value::as_array);
        items.is_some_and(|items| items.iter().any(|it| it == text))
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RealmBody {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) rep: Rep,
    pub(crate) default_scopes: Vec<String>,
    pub(crate) optional_scopes: Vec<String>,
    pub(crate) default_role: String,
    /// Groups that new users join.
    #[serde(default)]
    pub(crate) default_groups: Vec<String>,
    /// Blocks of an import that have no effect here and are given back on export.
    #[serde(default)]
    pub(crate) kept: Rep,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ClientBody {
    pub(crate) id: String,
    pub(crate) realm: String,
    pub(crate) client_id: String,
    /// Everything but mappers and scopes.
    pub(crate) rep: Rep,
    pub(crate) mappers: Vec<Rep>,
    pub(crate) default_scopes: Vec<String>,
    pub(crate) optional_scopes: Vec<String>,
    /// Roles scope-mapped to the client.
    pub(crate) scope_roles: Vec<String>,
    pub(crate) service_user: Option<String>,
    /// The realm its roles give rights over, for the `{realm}-realm` clients of the master realm.
    #[serde(default)]
    pub(crate) manages: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ScopeBody {
    pub(crate) id: String,
    pub(crate) realm: String,
    pub(crate) name: String,
    pub(crate) rep: Rep,
    pub(crate) mappers: Vec<Rep>,
    /// Roles scope-mapped to the scope.
    pub(crate) scope_roles: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RoleBody {
    pub(crate) id: String,
    pub(crate) realm: String,
    /// The client's id for a client role.
    pub(crate) client: Option<String>,
    pub(crate) name: String,
    pub(crate) rep: Rep,
    pub(crate) composites: Vec<String>,
    /// Lower-cased name that lists are searched in; made anew with every write.
    #[serde(default)]
    pub(crate) find: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct UserBody {
    pub(crate) id: String,
    pub(crate) realm: String,
    pub(crate) username: String,
    pub(crate) rep: Rep,
    pub(crate) roles: Vec<String>,
    /// The client this is the service account of.
    pub(crate) client: Option<String>,
    /// PHC string of the password's hash.
    pub(crate) password: Option<String>,
    /// The groups the user is a direct member of.
    #[serde(default)]
    pub(crate) groups: Vec<String>,
    /// What is known of the password besides its hash.
    #[serde(default)]
    pub(crate) password_card: PasswordCard,
    /// PHC strings of earlier passwords, newest first.
    #[serde(default)]
    pub(crate) password_history: Vec<String>,
    /// Lower-cased fields that lists are searched in; made anew with every write.
    #[serde(default)]
    pub(crate) find: BTreeMap<String, String>,
}

/// What a credential's representation shows of a password.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct PasswordCard {
    pub(crate) id: String,
    pub(crate) created_ms: i64,
    pub(crate) label: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct GroupBody {
    pub(crate) id: String,
    pub(crate) realm: String,
    /// The group it is in; none for a top-level one.
    pub(crate) parent: Option<String>,
    pub(crate) name: String,
    /// `description` and `attributes`.
    pub(crate) rep: Rep,
    pub(crate) roles: Vec<String>,
    /// Lower-cased name that lists are searched in; made anew with every write.
    #[serde(default)]
    pub(crate) find: String,
}

/// What a person allowed a client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ConsentBody {
    pub(crate) id: String,
    pub(crate) realm: String,
    pub(crate) user: String,
    pub(crate) client: String,
    /// Ids of client scopes, and of the client itself.
    pub(crate) scopes: Vec<String>,
    pub(crate) created_ms: i64,
    pub(crate) updated_ms: i64,
}

fn cascade(field: &'static str, kind: &'static str, id: &str) -> Reference {
    Reference {
        field,
        kind,
        id: id.to_owned(),
        on_delete: OnDelete::Cascade,
    }
}

/// A pointer that is forgotten with what it points to.
fn detach(field: &'static str, kind: &'static str, id: &str) -> Reference {
    Reference {
        on_delete: OnDelete::Detach,
        ..cascade(field, kind, id)
    }
}

fn key(name: &'static str, value: String) -> Key {
    Key { name, value }
}

fn object(
    kind: &'static str,
    id: &str,
    owner: &str,
    keys: Vec<Key>,
    references: Vec<Reference>,
    body: &impl Serialize,
) -> Object {
    // The bodies are plain data with text keys, which always have a JSON form.
    let body = serde_json::to_value(body).unwrap_or_default();
    Object {
        kind,
        id: id.to_owned(),
        owner: owner.to_owned(),
        keys,
        references,
        tags: Vec::new(),
        body,
    }
}

impl Stored for RealmBody {
    const KIND: &'static str = kind::REALM;

    fn object(&self) -> Object {
        let keys = vec![key("name", self.name.clone())];
        object(kind::REALM, &self.id, "", keys, Vec::new(), self)
    }
}

impl Stored for ClientBody {
    const KIND: &'static str = kind::CLIENT;

    fn object(&self) -> Object {
        let keys = vec![key("clientId", self.client_id.clone())];
        let mut references = vec![cascade("realm", kind::REALM, &self.realm)];
        if let Some(realm) = &self.manages {
            references.push(cascade("manages", kind::REALM, realm));
        }
        object(kind::CLIENT, &self.id, &self.realm, keys, references, self)
    }
}

impl Stored for ScopeBody {
    const KIND: &'static str = kind::SCOPE;

    fn object(&self) -> Object {
        let keys = vec![key("name", self.name.clone())];
        let references = vec![cascade("realm", kind::REALM, &self.realm)];
        object(kind::SCOPE, &self.id, &self.realm, keys, references, self)
    }
}

/// The unique key of a role: its container and its name.
pub(crate) fn role_key(container: &str, name: &str) -> String {
    format!("{container}/{name}")
}

impl RoleBody {
    /// The realm or client it belongs to.
    pub(crate) fn container(&self) -> &str {
        self.client.as_deref().unwrap_or(&self.realm)
    }
}

impl Stored for RoleBody {
    const KIND: &'static str = kind::ROLE;

    fn object(&self) -> Object {
        let keys = vec![key("name", role_key(self.container(), &self.name))];
        let reference = match &self.client {
            Some(client) => cascade("container", kind::CLIENT, client),
            None => cascade("container", kind::REALM, &self.realm),
        };
        let mut whole = self.clone();
        whole.find = self.name.to_lowercase();
        object(
            kind::ROLE,
            &self.id,
            &self.realm,
            keys,
            vec![reference],
            &whole,
        )
    }
}

impl Stored for UserBody {
    const KIND: &'static str = kind::USER;

    fn object(&self) -> Object {
        let mut keys = vec![key("username", self.username.clone())];
        if let Some(email) = self.rep.text("email") {
            keys.push(key("email", email.to_lowercase()));
        }
        // People and service accounts are listed apart; a key of their own pages each of them.
        let list = if self.client.is_some() {
            "serviceAccount"
        } else {
            "person"
        };
        keys.push(key(list, self.username.clone()));
        let mut references = vec![cascade("realm", kind::REALM, &self.realm)];
        if let Some(client) = &self.client {
            references.push(cascade("client", kind::CLIENT, client));
        }
        references.extend(
            self.groups
                .iter()
                .map(|id| detach("group", kind::GROUP, id)),
        );
        references.extend(self.roles.iter().map(|id| detach("role", kind::ROLE, id)));
        let mut whole = self.clone();
        whole.find = ["email", "firstName", "lastName"]
            .into_iter()
            .filter_map(|field| Some((field.to_owned(), self.rep.text(field)?.to_lowercase())))
            .collect();
        object(kind::USER, &self.id, &self.realm, keys, references, &whole)
    }
}

impl GroupBody {
    /// The realm or group it is in.
    pub(crate) fn container(&self) -> &str {
        self.parent.as_deref().unwrap_or(&self.realm)
    }
}

impl Stored for GroupBody {
    const KIND: &'static str = kind::GROUP;

    fn object(&self) -> Object {
        let keys = vec![key("name", role_key(self.container(), &self.name))];
        let mut references = vec![match &self.parent {
            Some(parent) => cascade("container", kind::GROUP, parent),
            None => cascade("container", kind::REALM, &self.realm),
        }];
        references.extend(self.roles.iter().map(|id| detach("role", kind::ROLE, id)));
        let mut whole = self.clone();
        whole.find = self.name.to_lowercase();
        object(kind::GROUP, &self.id, &self.realm, keys, references, &whole)
    }
}

impl Stored for ConsentBody {
    const KIND: &'static str = kind::CONSENT;

    fn object(&self) -> Object {
        let keys = vec![key("grant", consent_key(&self.user, &self.client))];
        let references = vec![
            cascade("realm", kind::REALM, &self.realm),
            cascade("user", kind::USER, &self.user),
            cascade("client", kind::CLIENT, &self.client),
        ];
        object(kind::CONSENT, &self.id, &self.realm, keys, references, self)
    }
}

impl Stored for KeyBody {
    const KIND: &'static str = kind::KEY;

    fn object(&self) -> Object {
        // Names of key providers may repeat; a fallback is made once per algorithm.
        let unique = match self.name.strip_prefix("fallback-") {
            Some(_) => self.name.clone(),
            None => format!("{}/{}", self.name, self.id),
        };
        let keys = vec![key("name", unique)];
        let references = vec![cascade("realm", kind::REALM, &self.realm)];
        object(kind::KEY, &self.id, &self.realm, keys, references, self)
    }
}

/// A realm ready for use.
pub struct Realm {
    pub(crate) body: RealmBody,
    pub(crate) scopes: HashMap<String, Arc<Scope>>,
    pub(crate) keys: Keys,
}

impl Realm {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.body.id
    }

    /// Its name, as in URLs.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.body.name
    }

    /// Whether it issues tokens.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.body.rep.flag("enabled")
    }

    /// Tokens issued before this time (seconds since the epoch) are refused.
    #[must_use]
    pub fn not_before_s(&self) -> i64 {
        self.body.rep.int("notBefore")
    }

    /// `external`, `all` or `none`: when plain HTTP is refused.
    #[must_use]
    pub fn ssl_required(&self) -> &str {
        self.body.rep.text("sslRequired").unwrap_or("external")
    }

    /// Whether admin events hold what was sent.
    #[must_use]
    pub fn keeps_admin_details(&self) -> bool {
        let rep = &self.body.rep;
        rep.flag("adminEventsEnabled") && rep.flag("adminEventsDetailsEnabled")
    }

    /// Its keys.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// What it publishes of them.
    #[must_use]
    pub fn jwk_set(&self) -> &o28m_jose::JwkSet {
        &self.keys.jwk_set
    }

    /// What people call it: its display name, else its name.
    #[must_use]
    pub fn display_name(&self) -> &str {
        let named = self.body.rep.text("displayName");
        named.filter(|it| !it.is_empty()).unwrap_or(self.name())
    }

    /// Language of its pages when neither request nor browser says one.
    #[must_use]
    pub fn default_locale(&self) -> Option<&str> {
        self.body.rep.text("defaultLocale")
    }

    /// A realm attribute.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.body.rep.entry_text("attributes", name)
    }

    /// Whether people may give their e-mail address instead of their user name.
    #[must_use]
    pub fn allows_email_login(&self) -> bool {
        self.body.rep.flag("loginWithEmailAllowed")
    }

    /// Whether devices may ask for tokens (RFC 8628): attribute `deviceFlowEnabled`.
    #[must_use]
    pub fn has_device_flow(&self) -> bool {
        self.attribute("deviceFlowEnabled") == Some("true")
    }

    /// Whether clients may exchange tokens (RFC 8693): attribute `standardTokenExchangeEnabled`.
    #[must_use]
    pub fn has_token_exchange(&self) -> bool {
        self.attribute("standardTokenExchangeEnabled") == Some("true")
    }

    /// Names of its client scopes that a token may name, sorted.
    #[must_use]
    pub fn scope_names(&self) -> Vec<&str> {
        let scopes = self.scopes.values();
        let mut names: Vec<_> = scopes
            .filter(|scope| scope.in_token)
            .map(|it| it.body.name.as_str())
            .collect();
        names.sort_unstable();
        names
    }
}

/// A client scope ready for use.
pub(crate) struct Scope {
    pub(crate) body: ScopeBody,
    /// Its name appears in the `scope` claim.
    pub(crate) in_token: bool,
    pub(crate) mappers: Vec<Mapper>,
}

impl Scope {
    pub(crate) fn compile(body: ScopeBody) -> Self {
        let in_token = body.rep.entry_text("attributes", "include.in.token.scope") != Some("false");
        let mappers = body.mappers.iter().map(Mapper::compile).collect();
        Self {
            in_token,
            mappers,
            body,
        }
    }
}

/// A client ready for use.
pub struct Client {
    pub(crate) body: ClientBody,
    pub(crate) mappers: Vec<Mapper>,
    pub(crate) secret: Option<Secret<String>>,
    /// Its web origins; `+` stands for those of its redirect URIs.
    origins: Vec<String>,
}

impl Client {
    pub(crate) fn compile(body: ClientBody) -> Self {
        let secret = body
            .rep
            .text("secret")
            .map(|secret| Secret::new(secret.to_owned()));
        let mappers = body.mappers.iter().map(Mapper::compile).collect();
        Self {
            origins: crate::token::allowed_origins(&body.rep),
            mappers,
            secret,
            body,
        }
    }

    /// Its `clientId`.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.body.client_id
    }

    /// What people call it: its name, else its `clientId`.
    #[must_use]
    pub fn display_name(&self) -> &str {
        // Names of built-in clients are keys of translations.
        let is_name = |text: &&str| !text.is_empty() && !text.starts_with("${");
        let named = self.body.rep.text("name").filter(is_name);
        named.unwrap_or(self.client_id())
    }

    /// Whether it authenticates without a secret.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.body.rep.flag("publicClient")
    }

    /// The origins whose pages may read its responses; `*` stands for any.
    #[must_use]
    pub fn web_origins(&self) -> &[String] {
        &self.origins
    }

    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.body.rep.entry_text("attributes", name)
    }

    pub(crate) fn attribute_is(&self, name: &str) -> bool {
        self.attribute(name) == Some("true")
    }

    pub(crate) fn attribute_int(&self, name: &str) -> Option<i64> {
        self.attribute(name)?.parse().ok()
    }
}

/// A role ready for use.
#[derive(Debug)]
pub(crate) struct Role {
    pub(crate) body: RoleBody,
    /// The `clientId` of its client, for a client role.
    pub(crate) client_id: Option<String>,
    /// It belongs to a client whose roles give rights over a realm.
    pub(crate) administers: bool,
}

/// A group ready for use.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) body: GroupBody,
    /// Names from the top, each after a slash.
    pub(crate) path: String,
    /// The groups it is in, nearest first.
    pub(crate) above: Vec<GroupBody>,
}

/// A user ready for use, with every role they effectively have.
pub struct User {
    pub(crate) body: UserBody,
    pub(crate) roles: Vec<Arc<Role>>,
    /// The groups they are direct members of.
    pub(crate) groups: Vec<Arc<Group>>,
}

impl User {
    /// The user name.
    #[must_use]
    pub fn username(&self) -> &str {
        &self.body.username
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.body.rep.flag("enabled")
    }

    /// A property or attribute, as the attribute mappers name them.
    pub(crate) fn property(&self, name: &str) -> Option<Value> {
        match name {
            "username" => Some(Value::String(self.body.username.clone())),
            "id" => Some(Value::String(self.body.id.clone())),
            "email" | "firstName" | "lastName" => self.body.rep.get(name).cloned(),
            "emailVerified" => Some(Value::Bool(self.body.rep.flag(name))),
            "createdTimestamp" => self.body.rep.get(name).cloned(),
            _ => None,
        }
    }

    /// The values of an attribute.
    pub(crate) fn attribute(&self, name: &str) -> Option<&Vec<Value>> {
        self.body.rep.get("attributes")?.get(name)?.as_array()
    }
}
