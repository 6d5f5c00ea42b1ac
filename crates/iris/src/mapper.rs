//! Protocol mappers: what each type reads, and how its claim is written (Keycloak 26.5.7).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::model::{Client, Fields as _, Rep, User};

/// Mapper types that can be created; any other is refused.
pub const TYPES: &[&str] = &[
    "oidc-hardcoded-claim-mapper",
    "oidc-usersessionmodel-note-mapper",
    "oidc-audience-mapper",
    "oidc-audience-resolve-mapper",
    "oidc-usermodel-attribute-mapper",
    "oidc-usermodel-property-mapper",
    "oidc-usermodel-realm-role-mapper",
    "oidc-usermodel-client-role-mapper",
    "oidc-full-name-mapper",
    "oidc-sub-mapper",
    "oidc-acr-mapper",
    "oidc-allowed-origins-mapper",
    "oidc-address-mapper",
    "oidc-hardcoded-role-mapper",
    "oidc-role-name-mapper",
    "oidc-group-membership-mapper",
];

/// Claims the token's core sets; a mapper that names one is ignored (Keycloak
/// `OIDCAttributeMapperHelper`).
const PROTECTED: &[&str] = &[
    "exp",
    "iat",
    "nbf",
    "jti",
    "iss",
    "typ",
    "scope",
    "nonce",
    "at_hash",
    "cnf",
    "__proto__",
];

/// Parts of the `address` claim and the user attribute each is read from by default.
const ADDRESS: &[(&str, &str)] = &[
    ("formatted", "formatted"),
    ("street_address", "street"),
    ("locality", "locality"),
    ("region", "region"),
    ("postal_code", "postal_code"),
    ("country", "country"),
];

enum Effect {
    Claim(String),
    Note(String),
    Audience(String),
    AudienceResolve,
    Attribute(String),
    Property(String),
    RealmRoles { prefix: String },
    ClientRoles { client: String, prefix: String },
    FullName,
    Sub,
    Acr,
    AllowedOrigins,
    Address(Vec<(&'static str, String)>),
    Groups { paths: bool },
    AddRole(String),
    RenameRole { from: String, to: String },
    Nothing,
}

/// A compiled protocol mapper.
pub(crate) struct Mapper {
    effect: Effect,
    path: Vec<String>,
    json_type: String,
    multivalued: bool,
    access: bool,
    id: bool,
    userinfo: bool,
    response: bool,
    lightweight: bool,
}

/// What a mapper writes to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Access,
    Lightweight,
    Id,
    UserInfo,
    Response,
}

/// Roles that a token carries, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Granted {
    pub(crate) realm: BTreeSet<String>,
    pub(crate) clients: BTreeMap<String, BTreeSet<String>>,
}

/// What mappers read.
pub(crate) struct Scene<'a> {
    pub(crate) client: &'a Client,
    pub(crate) user: &'a User,
    pub(crate) notes: &'a [(String, String)],
    pub(crate) granted: &'a Granted,
    pub(crate) origins: &'a [String],
}

impl Mapper {
    pub(crate) fn compile(rep: &Rep) -> Self {
        let config = |name: &str| {
            rep.entry_text("config", name)
                .unwrap_or_default()
                .to_owned()
        };
        let on = |name: &str| config(name) == "true";
        Self {
            effect: effect(rep.text("protocolMapper").unwrap_or_default(), &config),
            path: claim_path(&config("claim.name")),
            json_type: config("jsonType.label"),
            multivalued: on("multivalued"),
            access: on("access.token.claim"),
            id: on("id.token.claim"),
            userinfo: on("userinfo.token.claim"),
            response: on("access.tokenResponse.claim"),
            lightweight: on("lightweight.claim"),
        }
    }

    /// Whether it adds anything there.
    pub(crate) fn writes_to(&self, target: Target) -> bool {
        match target {
            Target::Access => self.access,
            Target::Lightweight => self.lightweight,
            Target::Id => self.id,
            Target::UserInfo => self.userinfo,
            Target::Response => self.response && matches!(self.effect, Effect::Claim(_)),
        }
    }

    /// Adds or renames roles; runs before anything reads them.
    pub(crate) fn change_roles(&self, granted: &mut Granted) {
        match &self.effect {
            Effect::AddRole(role) => granted.insert(role),
            Effect::RenameRole { from, to } if granted.remove(from) => granted.insert(to),
            _ => {}
        }
    }

    /// Writes the claim.
    pub(crate) fn apply(
        &self,
        target: Target,
        scene: &Scene<'_>,
        claims: &mut Map<String, Value>,
        audience: &mut BTreeSet<String>,
    ) {
        if !self.writes_to(target) {
            return;
        }
        match &self.effect {
            Effect::Claim(value) => self.write_text(value, claims),
            Effect::Note(name) => {
                let note = scene.notes.iter().find(|(note, _)| note == name);
                if let Some((_, value)) = note {
                    self.write_text(value, claims);
                }
            }
            Effect::Audience(name) => {
                if !name.is_empty() {
                    audience.insert(name.clone());
                }
            }
            Effect::AudienceResolve => {
                let others = scene.granted.clients.keys();
                audience.extend(others.filter(|id| *id != scene.client.client_id()).cloned());
            }
            Effect::Attribute(name) => self.write_attribute(name, scene.user, claims),
            Effect::Property(name) => {
                if let Some(value) = scene.user.property(name) {
                    self.write_text(&plain(&value), claims);
                }
            }
            Effect::RealmRoles { prefix } => {
                self.write_roles(prefix, &scene.granted.realm, &self.path, claims)
            }
            Effect::ClientRoles { client, prefix } => {
                for (id, roles) in &scene.granted.clients {
                    if client.is_empty() || client == id {
                        let named = self
                            .path
                            .iter()
                            .map(|part| part.replace("${client_id}", id));
                        self.write_roles(prefix, roles, &named.collect::<Vec<_>>(), claims);
                    }
                }
            }
            Effect::Groups { paths } => {
                let groups = scene.user.groups.iter();
                let named = groups.map(|group| {
                    let whole = if *paths {
                        &group.path
                    } else {
                        &group.body.name
                    };
                    Value::String(whole.clone())
                });
                let all: Vec<Value> = named.collect();
                if !all.is_empty() {
                    write(claims, &self.path, Value::Array(all));
                }
            }
            Effect::FullName => {
                let part = |name| {
                    scene
                        .user
                        .body
                        .rep
                        .text(name)
                        .unwrap_or_default()
                        .to_owned()
                };
                let name = format!("{} {}", part("firstName"), part("lastName"));
                if !name.trim().is_empty() {
                    claims.insert("name".to_owned(), json!(name.trim()));
                }
            }
            Effect::Sub => {
                claims.insert("sub".to_owned(), json!(scene.user.body.id));
            }
            Effect::Acr => {
                claims.insert("acr".to_owned(), json!("1"));
            }
            Effect::AllowedOrigins => {
                if !scene.origins.is_empty() {
                    claims.insert("allowed-origins".to_owned(), json!(scene.origins));
                }
            }
            Effect::Address(parts) => {
                let value = |name: &String| scene.user.attribute(name)?.first().cloned();
                let read = parts
                    .iter()
                    .filter_map(|(part, from)| Some(((*part).to_owned(), value(from)?)));
                let address: Map<String, Value> = read.collect();
                if !address.is_empty() {
                    claims.insert("address".to_owned(), Value::Object(address));
                }
            }
            Effect::AddRole(_) | Effect::RenameRole { .. } | Effect::Nothing => {}
        }
    }

    fn write_text(&self, text: &str, claims: &mut Map<String, Value>) {
        if let Some(value) = typed(&self.json_type, text) {
            write(claims, &self.path, value);
        }
    }

    fn write_attribute(&self, name: &str, user: &User, claims: &mut Map<String, Value>) {
        if let Some(value) = user.property(name) {
            return self.write_text(&plain(&value), claims);
        }
        let values = user.attribute(name).into_iter().flatten();
        let mut typed = values.filter_map(|value| typed(&self.json_type, &plain(value)));
        if self.multivalued {
            let all: Vec<Value> = typed.collect();
            if !all.is_empty() {
                write(claims, &self.path, Value::Array(all));
            }
        } else if let Some(value) = typed.next() {
            write(claims, &self.path, value);
        }
    }

    fn write_roles(
        &self,
        prefix: &str,
        roles: &BTreeSet<String>,
        path: &[String],
        claims: &mut Map<String, Value>,
    ) {
        let named: Vec<String> = roles.iter().map(|role| format!("{prefix}{role}")).collect();
        if !named.is_empty() {
            write(claims, path, json!(named));
        }
    }
}

fn effect(of: &str, config: &dyn Fn(&str) -> String) -> Effect {
    match of {
        "oidc-hardcoded-claim-mapper" => Effect::Claim(config("claim.value")),
        "oidc-usersessionmodel-note-mapper" => Effect::Note(config("user.session.note")),
        "oidc-audience-mapper" => {
            let client = config("included.client.audience");
            Effect::Audience(if client.is_empty() {
                config("included.custom.audience")
            } else {
                client
            })
        }
        "oidc-audience-resolve-mapper" => Effect::AudienceResolve,
        "oidc-usermodel-attribute-mapper" => Effect::Attribute(config("user.attribute")),
        "oidc-usermodel-property-mapper" => Effect::Property(config("user.attribute")),
        "oidc-usermodel-realm-role-mapper" => Effect::RealmRoles {
            prefix: config("usermodel.realmRoleMapping.rolePrefix"),
        },
        "oidc-usermodel-client-role-mapper" => Effect::ClientRoles {
            client: config("usermodel.clientRoleMapping.clientId"),
            prefix: config("usermodel.clientRoleMapping.rolePrefix"),
        },
        "oidc-full-name-mapper" => Effect::FullName,
        "oidc-sub-mapper" => Effect::Sub,
        "oidc-acr-mapper" => Effect::Acr,
        "oidc-allowed-origins-mapper" => Effect::AllowedOrigins,
        "oidc-address-mapper" => {
            let source = |default: &str| {
                let set = config(&format!("user.attribute.{default}"));
                if set.is_empty() {
                    default.to_owned()
                } else {
                    set
                }
            };
            Effect::Address(
                ADDRESS
                    .iter()
                    .map(|(part, from)| (*part, source(from)))
                    .collect(),
            )
        }
        "oidc-group-membership-mapper" => Effect::Groups {
            paths: config("full.path") == "true",
        },
        "oidc-hardcoded-role-mapper" => Effect::AddRole(config("role")),
        "oidc-role-name-mapper" => Effect::RenameRole {
            from: config("role"),
            to: config("new.role.name"),
        },
        _ => Effect::Nothing,
    }
}

impl Granted {
    fn insert(&mut self, role: &str) {
        match role.split_once('.') {
            Some((client, role)) => {
                self.clients
                    .entry(client.to_owned())
                    .or_default()
                    .insert(role.to_owned());
            }
            None if !role.is_empty() => {
                self.realm.insert(role.to_owned());
            }
            None => {}
        }
    }

    fn remove(&mut self, role: &str) -> bool {
        match role.split_once('.') {
            Some((client, role)) => {
                let Some(roles) = self.clients.get_mut(client) else {
                    return false;
                };
                let removed = roles.remove(role);
                if roles.is_empty() {
                    self.clients.remove(client);
                }
                removed
            }
            None => self.realm.remove(role),
        }
    }
}

/// Splits a claim name at dots; `\.` is a dot inside a part.
fn claim_path(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut escaped = false;
    for character in name.chars() {
        match character {
            '.' if !escaped => parts.push(String::new()),
            '\\' if !escaped => {
                escaped = true;
                continue;
            }
            other => {
                if let Some(part) = parts.last_mut() {
                    part.push(other);
                }
            }
        }
        escaped = false;
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// The text as the JSON type of the mapper; `None` when it does not fit or is empty.
fn typed(json_type: &str, text: &str) -> Option<Value> {
    if text.is_empty() {
        return None;
    }
    match json_type {
        "long" | "int" => text.trim().parse::<i64>().ok().map(Value::from),
        "boolean" => Some(Value::Bool(text.eq_ignore_ascii_case("true"))),
        "JSON" => serde_json::from_str(text).ok(),
        _ => Some(Value::String(text.to_owned())),
    }
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// Writes `value` at `path`, making the objects in between; a scalar in between is replaced.
fn write(claims: &mut Map<String, Value>, path: &[String], value: Value) {
    let Some((name, rest)) = path.split_first() else {
        return;
    };
    if PROTECTED.contains(&name.as_str()) {
        return;
    }
    let mut map = claims;
    let mut name = name;
    for next in rest {
        let entry = map.entry(name.clone()).or_insert_with(|| json!({}));
        if !entry.is_object() {
            *entry = json!({});
        }
        let Some(inner) = entry.as_object_mut() else {
            return;
        };
        map = inner;
        name = next;
    }
    map.insert(name.clone(), value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claim_names_nest_at_dots() {
        assert_eq!(claim_path("a.b\\.c.d"), ["a", "b.c", "d"]);
        let mut claims = Map::new();
        write(&mut claims, &claim_path("a.b"), json!(1));
        write(&mut claims, &claim_path("a.c"), json!(2));
        assert_eq!(Value::Object(claims), json!({"a": {"b": 1, "c": 2}}));
    }

    #[test]
    fn the_core_claims_cannot_be_mapped() {
        let mut claims = Map::new();
        for name in ["iss", "exp", "scope.x", "jti"] {
            write(&mut claims, &claim_path(name), json!("evil"));
        }
        assert!(claims.is_empty());
    }

    #[test]
    fn texts_become_the_declared_type() {
        assert_eq!(typed("String", "7"), Some(json!("7")));
        assert_eq!(typed("long", "7"), Some(json!(7)));
        assert_eq!(typed("long", "x"), None);
        assert_eq!(typed("boolean", "true"), Some(json!(true)));
        assert_eq!(typed("JSON", "{\"a\":[1]}"), Some(json!({"a": [1]})));
        assert_eq!(typed("JSON", "{"), None);
        assert_eq!(typed("String", ""), None);
    }
}
