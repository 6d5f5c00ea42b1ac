//! Settings of the replaced products: `kong.conf` and the environment, with files and vault references
//! in the place of values.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::database::Lookup;
use super::known::{self, Fate};
use super::load::Problem;
use super::table::SETTINGS;
use super::{Note, Severity, Source};

/// Prefixes of environment variables that belong to the replaced products.
const PREFIXES: &[&str] = &["KONG_", "KC_", "KEYCLOAK_", "JUMPER_"];
/// Kong's working directory where nothing sets it.
pub(super) const PREFIX: &str = "/usr/local/kong";

/// What the replaced products are told, by the name of the environment variable.
pub(super) struct Compat {
    values: BTreeMap<String, Value>,
}

struct Value {
    text: String,
    source: Source,
    /// It came from a vault, so it is not for everyone's eyes.
    vaulted: bool,
}

impl Lookup for Compat {
    fn get(&self, name: &str) -> Option<&str> {
        let value = self.values.get(name)?;
        Some(value.text.as_str()).filter(|text| !text.is_empty())
    }
}

impl Compat {
    /// Reads the environment and the file that `KONG_CONF` names.
    pub(super) fn read(
        environment: &BTreeMap<String, String>,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut values = BTreeMap::new();
        if let Some(path) = environment.get("KONG_CONF").filter(|path| !path.is_empty()) {
            match std::fs::read_to_string(path) {
                Ok(text) => conf(Path::new(path), &text, &mut values),
                Err(error) => problems.push(Problem {
                    at: path.clone(),
                    text: format!("cannot be read: {error}"),
                }),
            }
        }
        for (name, text) in environment {
            if is_foreign(name) || is_setting(name) {
                values.insert(
                    name.clone(),
                    Value {
                        text: text.clone(),
                        source: Source::Compat(name.clone()),
                        vaulted: false,
                    },
                );
            }
        }
        let mut compat = Self { values };
        compat.read_files(problems);
        compat.open_vaults(environment, problems);
        compat
    }

    /// The value of a variable with its source.
    pub(super) fn value(&self, name: &str) -> Option<(&str, &Source)> {
        let value = self.values.get(name)?;
        Some((value.text.as_str(), &value.source))
    }

    /// Whether the value came from a vault.
    pub(super) fn is_vaulted(&self, name: &str) -> bool {
        self.values.get(name).is_some_and(|value| value.vaulted)
    }

    /// Kong's working directory.
    pub(super) fn prefix(&self) -> &str {
        self.get("KONG_PREFIX").unwrap_or(PREFIX)
    }

    /// `X_FILE` names a file that holds `X`.
    fn read_files(&mut self, problems: &mut Vec<Problem>) {
        let mut read = Vec::new();
        for (name, value) in &self.values {
            let Some(base) = name.strip_suffix("_FILE") else {
                continue;
            };
            let means_itself = is_setting(name) || is_known(name) && !is_known(base);
            if means_itself || !(is_setting(base) || is_known(base)) || value.text.is_empty() {
                continue;
            }
            if self.get(base).is_some() {
                problems.push(Problem {
                    at: name.clone(),
                    text: format!("both it and {base} are set: keep one"),
                });
                continue;
            }
            match std::fs::read_to_string(&value.text) {
                Ok(text) => {
                    let text = text.trim_end_matches(['\r', '\n']).to_owned();
                    read.push((name.clone(), base.to_owned(), text));
                }
                Err(error) => problems.push(Problem {
                    at: name.clone(),
                    text: format!("cannot read {}: {error}", value.text),
                }),
            }
        }
        for (name, base, text) in read {
            if let Some(Value { source, .. }) = self.values.remove(&name) {
                let vaulted = true;
                self.values.insert(
                    base,
                    Value {
                        text,
                        source,
                        vaulted,
                    },
                );
            }
        }
    }

    /// Replaces `{vault://env/name}` by what it points to.
    fn open_vaults(&mut self, environment: &BTreeMap<String, String>, problems: &mut Vec<Problem>) {
        let prefix = self.get("KONG_VAULT_ENV_PREFIX").unwrap_or_default();
        let prefix = prefix.to_owned();
        for (name, value) in &mut self.values {
            let reference = value.text.trim();
            let reference = reference.strip_prefix("{vault://");
            let Some(reference) = reference.and_then(|rest| rest.strip_suffix('}')) else {
                continue;
            };
            match secret(reference, &prefix, environment) {
                Ok(text) => {
                    value.text = text;
                    value.vaulted = true;
                }
                Err(text) => problems.push(Problem {
                    at: name.clone(),
                    text,
                }),
            }
        }
    }

    /// Kong's settings as they were given, by Kong's names, without secrets.
    pub(super) fn of_kong(&self) -> BTreeMap<String, String> {
        let shown = |(name, value): (&String, &Value)| {
            let name = name.strip_prefix("KONG_")?.to_ascii_lowercase();
            let secret = [
                "password", "secret", "key", "token", "string", "conf", "server", "license",
            ];
            let secret = value.vaulted || secret.iter().any(|word| name.contains(word));
            let text = if secret {
                "******"
            } else {
                value.text.as_str()
            };
            Some((name, text.to_owned()))
        };
        self.values.iter().filter_map(shown).collect()
    }

    /// What is to be said, or refused, of variables that are no setting of ours.
    pub(super) fn notes(&self, problems: &mut Vec<Problem>) -> Vec<Note> {
        let mut notes = Vec::new();
        let mut note = |severity, at: &str, text: String| {
            let at = at.to_owned();
            notes.push(Note { severity, at, text });
        };
        for (name, value) in &self.values {
            if is_setting(name) {
                continue;
            }
            let text = value.text.trim();
            match known::fate(name) {
                Some(Fate::Accepted | Fate::Database) => {}
                Some(Fate::Expected(values, _) | Fate::Only(values, _))
                    if values.contains(&text) => {}
                Some(Fate::Number(low, high)) => {
                    let number = text.parse::<u32>();
                    if !number.is_ok_and(|number| (low..=high).contains(&number)) {
                        problems.push(Problem {
                            at: name.clone(),
                            text: format!("expected a whole number from {low} to {high}"),
                        });
                    }
                }
                Some(Fate::Expected(_, why) | Fate::Ignored(why)) => {
                    note(Severity::Warning, name, format!("has no effect: {why}"));
                }
                Some(Fate::Only(values, why)) => problems.push(Problem {
                    at: name.clone(),
                    text: format!("only {} is supported: {why}", values.join(", ")),
                }),
                None if name.starts_with("KONG_") => {
                    note(
                        Severity::Info,
                        name,
                        "is unknown and has no effect".to_owned(),
                    );
                }
                None => {
                    note(Severity::Warning, name, "has no effect here".to_owned());
                }
            }
        }
        notes
    }
}

fn is_foreign(name: &str) -> bool {
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn is_setting(name: &str) -> bool {
    SETTINGS
        .iter()
        .any(|setting| setting.compat.contains(&name))
}

fn is_known(name: &str) -> bool {
    known::fate(name).is_some_and(|fate| !matches!(fate, Fate::Ignored(_)))
}

/// `key = value` lines; `#` starts a comment unless a backslash is in front.
fn conf(path: &Path, text: &str, values: &mut BTreeMap<String, Value>) {
    for line in text.lines() {
        let mut line = line.trim().to_owned();
        let comment = line.match_indices('#').map(|(at, _)| at);
        let mut comment =
            comment.filter(|at| *at == 0 || line.as_bytes().get(at - 1) != Some(&b'\\'));
        if let Some(at) = comment.next() {
            line.truncate(at);
        }
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        let name = format!("KONG_{}", key.trim().to_ascii_uppercase());
        let value = Value {
            text: value.trim().replace("\\#", "#"),
            source: Source::File(PathBuf::from(path)),
            vaulted: false,
        };
        values.insert(name, value);
    }
}

/// What `env/name`, `env/name/key` or either with `?prefix=` stands for.
fn secret(
    reference: &str,
    prefix: &str,
    environment: &BTreeMap<String, String>,
) -> Result<String, String> {
    let (path, query) = reference.split_once('?').unwrap_or((reference, ""));
    let own_prefix = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("prefix="));
    let mut parts = path.split('/');
    let (vault, name, key) = (parts.next(), parts.next(), parts.next());
    if vault != Some("env") {
        return Err("settings can only come from the vault env: {vault://env/name}".to_owned());
    }
    let name = name.filter(|name| !name.is_empty());
    let name = name.ok_or("expected {vault://env/name}")?;
    let variable = format!("{}{name}", own_prefix.unwrap_or(prefix));
    let variable = variable.to_ascii_uppercase().replace('-', "_");
    let missing = || format!("environment variable {variable} is not set");
    let text = environment.get(&variable).ok_or_else(missing)?;
    let Some(key) = key.filter(|key| !key.is_empty()) else {
        return Ok(text.clone());
    };
    let members = serde_json::from_str::<serde_json::Value>(text).ok();
    let member = members.as_ref().and_then(|members| members.get(key));
    match member {
        Some(serde_json::Value::String(text)) => Ok(text.clone()),
        Some(value) if value.is_number() || value.is_boolean() => Ok(value.to_string()),
        _ => Err(format!(
            "environment variable {variable} has no member {key:?}"
        )),
    }
}

/// The product a variable belongs to.
pub(super) fn product(name: &str) -> &str {
    match name.split('_').next() {
        Some("KEYCLOAK") => "KC",
        Some(product) => product,
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> (Compat, Vec<Problem>) {
        let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
        let mut problems = Vec::new();
        let compat = Compat::read(&pairs.iter().map(owned).collect(), &mut problems);
        (compat, problems)
    }

    #[test]
    fn the_environment_is_stronger_than_kongs_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kong.conf");
        let text = "# comment\npg_host = filehost  # where\npg_password = a\\#b\nlog_level=debug\n";
        std::fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap();
        let (compat, problems) = read(&[("KONG_CONF", path), ("KONG_LOG_LEVEL", "warn")]);
        assert_eq!(problems, []);
        assert_eq!(compat.get("KONG_PG_HOST"), Some("filehost"));
        assert_eq!(compat.get("KONG_PG_PASSWORD"), Some("a#b"));
        assert_eq!(compat.get("KONG_LOG_LEVEL"), Some("warn"));
        let (_, problems) = read(&[("KONG_CONF", "/nowhere/kong.conf")]);
        assert_eq!(problems.len(), 1);
    }

    #[test]
    fn secrets_come_from_files_and_vaults() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, "from file\n").unwrap();
        let path = path.to_str().unwrap();
        let (compat, problems) = read(&[
            ("KONG_PG_PASSWORD_FILE", path),
            ("KONG_PG_USER", "{vault://env/my-user}"),
            ("KONG_PG_HOST", "{vault://env/place/host?prefix=DB_}"),
            ("MY_USER", "someone"),
            ("DB_PLACE", r#"{"host":"db"}"#),
        ]);
        assert_eq!(problems, []);
        assert_eq!(compat.get("KONG_PG_PASSWORD"), Some("from file"));
        assert_eq!(compat.get("KONG_PG_USER"), Some("someone"));
        assert_eq!(compat.get("KONG_PG_HOST"), Some("db"));
        assert!(compat.is_vaulted("KONG_PG_USER") && compat.is_vaulted("KONG_PG_PASSWORD"));

        for (pairs, said) in [
            (
                vec![("KONG_PG_PASSWORD_FILE", path), ("KONG_PG_PASSWORD", "x")],
                "KONG_PG_PASSWORD",
            ),
            (vec![("KONG_PG_PASSWORD_FILE", "/nowhere/x")], "cannot read"),
            (
                vec![("KONG_PG_PASSWORD", "{vault://env/missing}")],
                "MISSING",
            ),
            (vec![("KONG_PG_PASSWORD", "{vault://aws/x}")], "vault env"),
            (
                vec![("KONG_PG_PASSWORD", "{vault://env/x/y}"), ("X", "[1]")],
                "member",
            ),
        ] {
            let (_, problems) = read(&pairs);
            let texts: String = problems.iter().map(|it| format!("{it:?}")).collect();
            assert!(problems.len() == 1 && texts.contains(said), "{texts}");
        }
    }

    #[test]
    fn what_has_no_effect_is_said_and_what_would_be_unsafe_is_refused() {
        let (compat, mut problems) = read(&[
            ("KONG_MEM_CACHE_SIZE", "128m"),
            ("KONG_NGINX_DAEMON", "off"),
            ("KONG_STREAM_LISTEN", "off"),
            ("KONG_NODE_ID", "A"),
            ("KONG_WHATEVER", "1"),
            ("KC_WHATEVER", "1"),
            ("KONG_ROLE", "data_plane"),
            ("KONG_LUA_MAX_REQ_HEADERS", "100"),
            ("KONG_LUA_MAX_URI_ARGS", "many"),
            ("KONG_NGINX_PROXY_GZIP", "on"),
        ]);
        let notes = compat.notes(&mut problems);
        let said: Vec<(Severity, &str)> = notes
            .iter()
            .map(|note| (note.severity, note.at.as_str()))
            .collect();
        assert_eq!(
            said,
            [
                (Severity::Warning, "KC_WHATEVER"),
                (Severity::Warning, "KONG_NGINX_PROXY_GZIP"),
                (Severity::Warning, "KONG_NODE_ID"),
                (Severity::Info, "KONG_WHATEVER"),
            ]
        );
        let refused: Vec<&str> = problems.iter().map(|problem| problem.at.as_str()).collect();
        assert_eq!(refused, ["KONG_LUA_MAX_URI_ARGS", "KONG_ROLE"]);
        let (compat, mut problems) = read(&[("KONG_STREAM_LISTEN", "0.0.0.0:9000")]);
        assert_eq!(compat.notes(&mut problems), []);
        let [problem] = problems.as_slice() else {
            panic!("{problems:?}")
        };
        assert_eq!(problem.at, "KONG_STREAM_LISTEN");
        assert!(problem.text.contains("TCP and UDP"), "{problem:?}");
    }
}
