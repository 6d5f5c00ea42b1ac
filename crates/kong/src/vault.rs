//! References to secrets, `{vault://env/name}`: their form, and documents with the secrets put in (Kong
//! 3.9.3, spec gateway-admin 6.11). Nothing here reads the environment; the caller looks names up.

use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::declared;
use crate::entity::{Document, Entity, Overlay};
use crate::schema::{Alias, Field, Kind};

/// The vault of this build, and the name under which it is there without an entity.
pub(crate) const ENV: &str = "env";

/// Settings of the vault `env` are variables of this name and, in capitals, that of the setting.
const ENV_PREFIX_VARIABLE: &str = "KONG_VAULT_ENV_PREFIX";

/// Whether the text has the form of a reference; it may still lead nowhere.
#[must_use]
pub fn is_reference(text: &str) -> bool {
    text.starts_with("{vault://") && text.ends_with('}')
}

/// A reference taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Prefix of a vault, or the name of one that needs no entity.
    pub vault: String,
    /// What the vault has the secret under.
    pub resource: String,
    /// Member of the secret, which then is a JSON object.
    pub key: Option<String>,
    /// Put before the resource, instead of what the vault says.
    pub prefix: Option<String>,
    /// 2 is the secret before the present one.
    pub version: Option<i64>,
}

/// Why a reference gives no value. None of these texts contains a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// It has no vault or no path, or the version is no number.
    #[error("is not of the form {{vault://<vault>/<name>}}")]
    Malformed,
    /// No vault has that prefix.
    #[error("names the vault '{0}', which does not exist")]
    UnknownVault(String),
    /// The vault does not have it.
    #[error("names '{0}', which is not set")]
    Absent(String),
    /// The secret is no JSON object with such a text in it.
    #[error("names the member '{0}', which the secret does not have")]
    NoMember(String),
}

impl Reference {
    /// Takes a reference apart.
    ///
    /// # Errors
    /// [`ReferenceError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        Self::read(text).ok_or(ReferenceError::Malformed)
    }

    fn read(text: &str) -> Option<Self> {
        let url = text.strip_prefix("{vault://")?.strip_suffix('}')?;
        let (url, version) = match url.split_once('#') {
            Some((url, version)) => (url, Some(version.parse().ok()?)),
            None => (url, None),
        };
        let (url, query) = url.split_once('?').unwrap_or((url, ""));
        let (vault, path) = url.split_once('/')?;
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let is_directory = path.ends_with('/');
        let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let key = match parts.len() {
            0 => return None,
            1 => None,
            _ if is_directory => None,
            _ => parts.pop().map(decoded),
        };
        let prefix = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("prefix="));
        (!vault.is_empty()).then(|| Self {
            vault: vault.to_owned(),
            resource: decoded(&parts.join("/")),
            key,
            prefix: prefix.map(decoded),
            version,
        })
    }

    /// The secret. `vault` gives the configuration of the vault entity of a prefix, `variable` the value
    /// of an environment variable.
    ///
    /// # Errors
    /// [`ReferenceError`].
    pub fn resolve(&self, sources: &Sources<'_>) -> Result<String, ReferenceError> {
        let of_vault = if self.vault == ENV {
            (sources.variable)(ENV_PREFIX_VARIABLE)
        } else {
            let config = (sources.vault)(&self.vault)
                .ok_or_else(|| ReferenceError::UnknownVault(self.vault.clone()))?;
            let prefix = config.get("prefix").and_then(Value::as_str);
            prefix.map(str::to_owned)
        };
        let prefix = self.prefix.clone().or(of_vault).unwrap_or_default();
        let mut name = format!("{prefix}{}", self.resource).replace('-', "_");
        name.make_ascii_uppercase();
        if self.version == Some(2) {
            name.push_str("_PREVIOUS");
        }
        let secret = (sources.variable)(&name).ok_or(ReferenceError::Absent(name))?;
        let Some(key) = &self.key else {
            return Ok(secret);
        };
        let members: Option<Document> = serde_json::from_str(&secret).ok();
        let member = members.and_then(|it| it.get(key)?.as_str().map(str::to_owned));
        member.ok_or_else(|| ReferenceError::NoMember(key.clone()))
    }
}

/// Where secrets come from.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// The `config` of the vault with that prefix.
    pub vault: &'a dyn Fn(&str) -> Option<Document>,
    /// The environment variable of that name.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
}

impl std::fmt::Debug for Sources<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Sources")
    }
}

/// A reference of a document that gives no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the reference in '{path}' {error}")]
pub struct Unresolved {
    /// Where it stands, such as `config.redis.password`.
    pub path: String,
    /// Why.
    pub error: ReferenceError,
}

impl Entity {
    /// Whether a field of the stored document that may hold a reference does.
    #[must_use]
    pub fn has_references(&self, document: &Document) -> bool {
        let mut found = false;
        if document.values().any(has_reference) {
            self.visit_references(&mut document.clone(), &mut |_, _| found = true);
        }
        found
    }

    /// Replaces the references of a stored document by their secrets, in the fields that may hold some.
    ///
    /// # Errors
    /// Every reference without a value; the document is not usable then.
    pub fn resolve_references(
        &self,
        mut document: Document,
        sources: &Sources<'_>,
    ) -> Result<Document, Vec<Unresolved>> {
        let mut unresolved = Vec::new();
        self.visit_references(
            &mut document,
            &mut |path, text| match Reference::parse(text)
                .and_then(|reference| reference.resolve(sources))
            {
                Ok(secret) => *text = secret,
                Err(error) => unresolved.push(Unresolved {
                    path: path.to_owned(),
                    error,
                }),
            },
        );
        if unresolved.is_empty() {
            Ok(document)
        } else {
            Err(unresolved)
        }
    }

    fn visit_references(&self, document: &mut Document, found: &mut dyn FnMut(&str, &mut String)) {
        let overlay = declared::stored_overlay(self, document);
        members(self.fields, overlay, "", document, found);
    }
}

/// Whether any text in the value has the form of a reference.
fn has_reference(value: &Value) -> bool {
    match value {
        Value::String(text) => is_reference(text),
        Value::Array(elements) => elements.iter().any(has_reference),
        Value::Object(members) => members.values().any(has_reference),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn members(
    fields: &[Field],
    overlay: Overlay,
    prefix: &str,
    document: &mut Document,
    found: &mut dyn FnMut(&str, &mut String),
) {
    for (name, below) in document.iter_mut() {
        let mut all = overlay.fields.iter().chain(fields);
        let declared = all.find(|field| field.name == name);
        if let Some(field) = declared {
            value(field, &format!("{prefix}{name}"), below, found);
        }
    }
}

/// Whether the member that a deprecated name of a record stands for may hold a reference.
fn is_referenceable(members: &[Field], alias: Alias) -> bool {
    let has = |fields: &[Field]| {
        let mut fields = fields.iter();
        fields.any(|field| field.name == alias.member && field.referenceable)
    };
    if alias.record.is_empty() {
        return has(members);
    }
    let record = members.iter().find(|field| field.name == alias.record);
    match record.map(|record| record.kind) {
        Some(Kind::Record(below)) => has(below),
        _ => false,
    }
}

fn reference(text: &mut Value, path: &str, found: &mut dyn FnMut(&str, &mut String)) {
    if let Value::String(text) = text
        && is_reference(text)
    {
        found(path, text);
    }
}

fn value(field: &Field, path: &str, given: &mut Value, found: &mut dyn FnMut(&str, &mut String)) {
    match (field.kind, &mut *given) {
        (Kind::String, Value::String(_)) if field.referenceable => reference(given, path, found),
        (Kind::Array(element) | Kind::Set(element), Value::Array(elements)) => {
            for (at, below) in elements.iter_mut().enumerate() {
                value(element, &format!("{path}[{at}]"), below, found);
            }
        }
        (Kind::Map { values, .. }, Value::Object(entries)) => {
            for (name, below) in entries.iter_mut() {
                value(values, &format!("{path}.{name}"), below, found);
            }
        }
        (Kind::Record(fields), Value::Object(below)) => {
            members(
                fields,
                Overlay::default(),
                &format!("{path}."),
                below,
                found,
            );
            // A deprecated name repeats what the new one says.
            for alias in field.aliases {
                if is_referenceable(fields, *alias)
                    && let Some(text) = below.get_mut(alias.name)
                {
                    reference(text, &format!("{path}.{}", alias.name), found);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::entity;

    fn parsed(text: &str) -> (String, String, Option<String>) {
        let it = Reference::parse(text).unwrap();
        (it.vault, it.resource, it.key)
    }

    #[test]
    fn references_are_taken_apart_as_kong_does() {
        let text = |text: &str| text.to_owned();
        assert_eq!(
            parsed("{vault://env/my-secret}"),
            (text("env"), text("my-secret"), None)
        );
        assert_eq!(
            parsed("{vault://mine/postgres/password}"),
            (text("mine"), text("postgres"), Some(text("password")))
        );
        assert_eq!(
            parsed("{vault://mine/a/b/}"),
            (text("mine"), text("a/b"), None)
        );
        let whole = Reference::parse("{vault://env/c%20d/k?prefix=SSL_#2}").unwrap();
        assert_eq!(whole.resource, "c d");
        assert_eq!(whole.prefix.as_deref(), Some("SSL_"));
        assert_eq!(whole.version, Some(2));
        for bad in [
            "{vault://env}",
            "{vault://env/}",
            "{vault:///x}",
            "{vault://env/x#one}",
            "{vault://env//}",
            "vault://env/x",
            "{vault://env/x",
        ] {
            assert_eq!(
                Reference::parse(bad),
                Err(ReferenceError::Malformed),
                "{bad}"
            );
        }
    }

    fn resolve(text: &str) -> Result<String, ReferenceError> {
        let vault = |prefix: &str| {
            let config = json!({"prefix": "MINE_"});
            (prefix == "mine").then(|| config.as_object().unwrap().clone())
        };
        let variable = |name: &str| match name {
            "SECRET" => Some("s1".to_owned()),
            "MINE_SECRET" => Some("s2".to_owned()),
            "MY_DB" => Some(r#"{"password": "p", "port": 1}"#.to_owned()),
            "SECRET_PREVIOUS" => Some("s0".to_owned()),
            _ => None,
        };
        let sources = Sources {
            vault: &vault,
            variable: &variable,
        };
        Reference::parse(text)?.resolve(&sources)
    }

    #[test]
    fn secrets_come_from_variables_with_the_prefix_of_the_vault() {
        assert_eq!(resolve("{vault://env/secret}").as_deref(), Ok("s1"));
        assert_eq!(resolve("{vault://mine/secret}").as_deref(), Ok("s2"));
        assert_eq!(
            resolve("{vault://env/secret?prefix=mine-}").as_deref(),
            Ok("s2")
        );
        assert_eq!(resolve("{vault://env/secret#2}").as_deref(), Ok("s0"));
        assert_eq!(resolve("{vault://env/my-db/password}").as_deref(), Ok("p"));
        assert_eq!(
            resolve("{vault://env/my-db/port}"),
            Err(ReferenceError::NoMember("port".to_owned()))
        );
        assert_eq!(
            resolve("{vault://env/none}"),
            Err(ReferenceError::Absent("NONE".to_owned()))
        );
        assert_eq!(
            resolve("{vault://other/x}"),
            Err(ReferenceError::UnknownVault("other".to_owned()))
        );
    }

    proptest! {
        #[test]
        fn any_text_is_a_reference_or_none(
            text in prop_oneof![any::<String>(), "\\{vault://[a-z0-9/?#%=&é-]{0,24}\\}"],
        ) {
            if let Ok(reference) = Reference::parse(&text) {
                prop_assert!(is_reference(&text));
                prop_assert!(!reference.vault.is_empty() && !reference.resource.is_empty());
            }
            let _either = resolve(&text);
        }
    }

    #[test]
    fn only_fields_that_may_hold_references_are_resolved() {
        let plugin = json!({
            "name": "rate-limiting", "instance_name": "{vault://env/secret}",
            "config": {
                "redis": {"password": "{vault://env/secret}", "username": "u"},
                "redis_password": "{vault://env/secret}",
                "error_message": "{vault://env/secret}",
            },
        });
        let Value::Object(plugin) = plugin else {
            panic!("not an object")
        };
        let plugins = entity("plugins").unwrap();
        assert!(plugins.has_references(&plugin));
        let sources = Sources {
            vault: &|_| None,
            variable: &|name| (name == "SECRET").then(|| "s".to_owned()),
        };
        let resolved = plugins
            .resolve_references(plugin.clone(), &sources)
            .unwrap();
        let config = &resolved["config"];
        assert_eq!(config["redis"]["password"], "s");
        assert_eq!(config["redis_password"], "s");
        assert_eq!(config["error_message"], "{vault://env/secret}");
        assert_eq!(resolved["instance_name"], "{vault://env/secret}");
        let nothing = Sources {
            vault: &|_| None,
            variable: &|_| None,
        };
        let unresolved = plugins.resolve_references(plugin, &nothing).unwrap_err();
        assert_eq!(
            unresolved[0].to_string(),
            "the reference in 'config.redis.password' names 'SECRET', which is not set"
        );
    }
}
