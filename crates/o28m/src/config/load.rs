//! Merging of the sources: default < file < environment of replaced products < `O28M_` < command.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::table::{self, SETTINGS, Setting};
use super::{Config, Resolved, Source, value};

/// What the configuration is made of. Reading the environment and the command line is the caller's.
#[derive(Default)]
pub struct Sources {
    /// The file; `None` when none was named and none of the default places has one.
    pub file: Option<PathBuf>,
    /// The process environment.
    pub environment: BTreeMap<String, String>,
    /// Values of the command line, by key.
    pub command: BTreeMap<String, String>,
}

/// One thing that is wrong.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, variable or file it is about.
    pub at: String,
    /// What is wrong and what is expected.
    pub text: String,
}

/// Everything that is wrong with the configuration, at once.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("invalid configuration")?;
        for problem in &self.problems {
            write!(formatter, "\n  {}: {}", problem.at, problem.text)?;
        }
        Ok(())
    }
}

/// Prefixes of environment variables that belong to the replaced products.
const COMPAT_PREFIXES: &[&str] = &["KONG_", "KC_", "KEYCLOAK_", "JUMPER_"];

/// Merges and checks all sources.
///
/// # Errors
/// [`ConfigError`] with every problem found.
pub fn load(sources: &Sources) -> Result<Config, ConfigError> {
    let mut loader = Loader {
        values: defaults(),
        problems: Vec::new(),
    };
    if let Some(path) = &sources.file {
        loader.file(path);
    }
    let ignored_environment = loader.environment(&sources.environment);
    for (key, text) in &sources.command {
        loader.set(key, text.clone(), Source::Command, key);
    }
    loader.resolve_indirections(&sources.environment);
    loader.check();
    if loader.problems.is_empty() {
        Ok(Config {
            values: loader.values,
            ignored_environment,
        })
    } else {
        Err(ConfigError {
            problems: loader.problems,
        })
    }
}

fn defaults() -> BTreeMap<&'static str, Resolved> {
    let value = |setting: &Setting| Resolved {
        text: setting.default.to_owned(),
        source: Source::Default,
        overridden: Vec::new(),
    };
    SETTINGS
        .iter()
        .map(|setting| (setting.key, value(setting)))
        .collect()
}

struct Loader {
    values: BTreeMap<&'static str, Resolved>,
    problems: Vec<Problem>,
}

impl Loader {
    fn problem(&mut self, at: impl Into<String>, text: impl Into<String>) {
        self.problems.push(Problem {
            at: at.into(),
            text: text.into(),
        });
    }

    /// Sets `key` unless a stronger source has: callers go from weak to strong. `at` names the place.
    fn set(&mut self, key: &str, text: String, source: Source, at: &str) {
        if let Some(base) = key.strip_suffix("_file")
            && table::find(key).is_none()
            && table::find(base).is_some_and(|setting| setting.secret)
        {
            return self.set(base, format!("file:{text}"), source, at);
        }
        let Some(resolved) = table::find(key).and_then(|it| self.values.get_mut(it.key)) else {
            let hint = nearest(key).map(|near| format!("; did you mean {near}?"));
            return self.problem(at, format!("unknown setting{}", hint.unwrap_or_default()));
        };
        let old_source = std::mem::replace(&mut resolved.source, source);
        let old_text = std::mem::replace(&mut resolved.text, text);
        resolved.overridden.push((old_source, old_text));
    }

    fn file(&mut self, path: &Path) {
        let at = path.display().to_string();
        if path
            .extension()
            .is_some_and(|it| it == "yaml" || it == "yml")
        {
            return self.problem(at, "YAML configuration is not supported, write TOML");
        }
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return self.problem(at, format!("cannot be read: {error}")),
        };
        match text.parse::<toml::Table>() {
            Ok(table) => self.section(path, &text, "", &table),
            Err(error) => {
                let line = error.span().map_or(1, |span| line_of(&text, span.start));
                self.problem(format!("{at}:{line}"), error.message());
            }
        }
    }

    fn section(&mut self, path: &Path, text: &str, prefix: &str, table: &toml::Table) {
        for (name, item) in table {
            let key = if prefix.is_empty() {
                name.clone()
            } else {
                format!("{prefix}.{name}")
            };
            let line = line_of_key(text, name);
            let at = format!("{}:{line} {key}", path.display());
            if let toml::Value::Table(section) = item {
                self.section(path, text, &key, section);
            } else if let Some(value) = plain(item) {
                self.set(&key, value, Source::File(path.to_owned()), &at);
            } else {
                self.problem(at, "expected a text, number, boolean or a list of texts");
            }
        }
    }

    /// Applies the environment; returns variables of replaced products that have no meaning here.
    fn environment(&mut self, environment: &BTreeMap<String, String>) -> Vec<String> {
        for setting in SETTINGS {
            let set = setting
                .compat
                .iter()
                .find_map(|name| Some((*name, environment.get(*name)?)));
            if let Some((name, text)) = set {
                self.set(
                    setting.key,
                    text.clone(),
                    Source::Compat(name.to_owned()),
                    name,
                );
            }
        }
        for (name, text) in environment {
            let Some(path) = name.strip_prefix("O28M_") else {
                continue;
            };
            // O28M_CONFIG names the file, O28M_TEST_* belongs to the test harness.
            if path == "CONFIG" || path.starts_with("TEST_") {
                continue;
            }
            let key = path.to_ascii_lowercase().replace("__", ".");
            self.set(&key, text.clone(), Source::Environment(name.clone()), name);
        }
        let known = |name: &str| SETTINGS.iter().any(|it| it.compat.contains(&name));
        let foreign = |name: &str| {
            COMPAT_PREFIXES
                .iter()
                .any(|prefix| name.starts_with(prefix))
        };
        environment
            .keys()
            .filter(|name| foreign(name) && !known(name))
            .cloned()
            .collect()
    }

    /// Replaces `env:NAME` and `file:/path` by what they point to.
    fn resolve_indirections(&mut self, environment: &BTreeMap<String, String>) {
        let mut problems = Vec::new();
        for (key, resolved) in &mut self.values {
            if let Some(name) = resolved.text.strip_prefix("env:") {
                match environment.get(name) {
                    Some(text) => resolved.text = text.clone(),
                    None => {
                        problems.push((*key, format!("environment variable {name} is not set")))
                    }
                }
            } else if let Some(path) = resolved.text.strip_prefix("file:") {
                match std::fs::read_to_string(path) {
                    Ok(text) => resolved.text = text.trim_end_matches(['\r', '\n']).to_owned(),
                    Err(error) => problems.push((*key, format!("cannot read {path}: {error}"))),
                }
            }
        }
        for (key, text) in problems {
            self.problem(key, text);
        }
    }

    fn check(&mut self) {
        let mut problems = Vec::new();
        for setting in SETTINGS {
            let Some(resolved) = self.values.get(setting.key) else {
                continue;
            };
            if resolved.text.is_empty() && setting.default.is_empty() {
                continue;
            }
            if let Some(text) = value::problem(setting.kind, &resolved.text) {
                let shown = if setting.secret {
                    "***"
                } else {
                    resolved.text.as_str()
                };
                let at = match &resolved.source {
                    Source::Environment(name) | Source::Compat(name) => name.clone(),
                    Source::Default | Source::File(_) | Source::Command => setting.key.to_owned(),
                };
                problems.push(Problem {
                    at,
                    text: format!("{text}, not {shown:?}"),
                });
            }
        }
        self.problems.append(&mut problems);
    }
}

fn plain(item: &toml::Value) -> Option<String> {
    match item {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Array(items) => {
            let items: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
            items.map(|items| items.join(","))
        }
        toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes()
        .take(offset)
        .filter(|byte| *byte == b'\n')
        .count()
        + 1
}

/// The first line that assigns `name` or opens its section; 1 when it is not found.
fn line_of_key(text: &str, name: &str) -> usize {
    let assigns = |line: &str| {
        line.trim_start()
            .strip_prefix(name)
            .is_some_and(|rest| rest.trim_start().starts_with('='))
            || line.trim_start().starts_with('[') && line.contains(name)
    };
    text.lines().position(assigns).map_or(1, |at| at + 1)
}

/// The known key that differs least, when it differs little.
fn nearest(key: &str) -> Option<&'static str> {
    let last = key.rsplit('.').next().unwrap_or(key);
    let same_end = |it: &&Setting| it.key.rsplit('.').next() == Some(last);
    let near = |it: &&Setting| {
        let same = it
            .key
            .bytes()
            .zip(key.bytes())
            .take_while(|(a, b)| a == b)
            .count();
        same + 4 >= key.len().max(it.key.len()) && same >= 4
    };
    let found = SETTINGS
        .iter()
        .find(same_end)
        .or_else(|| SETTINGS.iter().find(near));
    found.map(|setting| setting.key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(file: Option<&str>, pairs: &[(&str, &str)]) -> (Sources, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let path = file.map(|text| {
            let path = dir.path().join("o28m.toml");
            std::fs::write(&path, text).unwrap();
            path
        });
        let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
        let environment = pairs.iter().map(owned).collect();
        (
            Sources {
                file: path,
                environment,
                command: BTreeMap::new(),
            },
            dir,
        )
    }

    fn problems(sources: &Sources) -> String {
        load(sources).unwrap_err().to_string()
    }

    #[test]
    fn deployment_case_041_the_strongest_source_wins_and_all_are_known() {
        let file = "[node]\nzone = \"file\"\n";
        let environment = [("JUMPER_ZONE_NAME", "compat"), ("O28M_NODE__ZONE", "own")];
        let (mut sources, _dir) = sources(Some(file), &environment);
        sources
            .command
            .insert("node.zone".to_owned(), "flag".to_owned());
        let config = load(&sources).unwrap();
        let zone = config.resolved("node.zone").unwrap();
        assert_eq!(
            (zone.text.as_str(), &zone.source),
            ("flag", &Source::Command)
        );
        let weaker: Vec<&str> = zone
            .overridden
            .iter()
            .map(|(_, text)| text.as_str())
            .collect();
        assert_eq!(weaker, ["default", "file", "compat", "own"]);
    }

    #[test]
    fn deployment_case_040_problems_name_key_file_line_and_variable() {
        let file = "[proxy]\nlisten = \"0.0.0.0:1\"\nlisteen = \"x\"\n";
        let (unknown, _dir) = sources(Some(file), &[("O28M_DATABASE__POOL_MAX", "abc")]);
        let text = problems(&unknown);
        assert!(
            text.contains("o28m.toml:3 proxy.listeen: unknown setting"),
            "{text}"
        );
        assert!(
            text.contains("O28M_DATABASE__POOL_MAX: expected a whole number"),
            "{text}"
        );
        let (malformed, _dir) = sources(Some("[node]\nzone = \n"), &[]);
        assert!(
            problems(&malformed).contains("o28m.toml:2"),
            "{}",
            problems(&malformed)
        );
    }

    #[test]
    fn secrets_come_from_files_and_are_not_shown() {
        let (mut sources, dir) = sources(None, &[("KC_CACHE", "ispn")]);
        let path = dir.path().join("password");
        std::fs::write(&path, "hunter2\n").unwrap();
        let value = path.display().to_string();
        sources
            .command
            .insert("identity.admin_password_file".to_owned(), value);
        let config = load(&sources).unwrap();
        assert_eq!(config.text("identity.admin_password"), "hunter2");
        assert_eq!(config.ignored_environment, ["KC_CACHE"]);
    }

    #[test]
    fn every_default_passes_its_own_check() {
        let config = load(&Sources::default()).unwrap();
        assert!(config.has_role("proxy"));
        assert!(!config.has_role("rotator"));
        assert_eq!(config.listen("proxy.tls_listen"), None);
    }
}
