//! Merging of the sources: default < file < environment of replaced products < `O28M_` < command.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::compat::{self, Compat};
use super::database::{self, Composed, Lookup as _};
use super::table::{self, Kind, SETTINGS, Setting};
use super::translate::Foreign;
use super::{Config, Note, Resolved, Severity, Source, value};

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

/// Merges and checks all sources.
///
/// # Errors
/// [`ConfigError`] with every problem found.
pub fn load(sources: &Sources) -> Result<Config, ConfigError> {
    load_with(sources, &[])
}

/// As [`load`], with other defaults for some keys.
///
/// # Errors
/// As [`load`].
pub fn load_with(sources: &Sources, defaults: &[(&str, String)]) -> Result<Config, ConfigError> {
    let mut loader = Loader {
        values: table_defaults(),
        problems: Vec::new(),
        notes: Vec::new(),
    };
    for (key, text) in defaults {
        loader.set(key, text.clone(), Source::Default, key);
    }
    if let Some(path) = &sources.file {
        loader.file(path);
    }
    let compat = Compat::read(&sources.environment, &mut loader.problems);
    loader.compat(&compat);
    loader.environment(&sources.environment);
    for (key, text) in &sources.command {
        loader.set(key, text.clone(), Source::Command, key);
    }
    loader.resolve_indirections(&sources.environment);
    loader.check();
    loader.check_database(&compat);
    if loader.problems.is_empty() {
        Ok(Config {
            values: loader.values,
            notes: loader.notes,
            kong: compat.of_kong(),
        })
    } else {
        Err(ConfigError {
            problems: loader.problems,
        })
    }
}

fn table_defaults() -> BTreeMap<&'static str, Resolved> {
    let value = |setting: &Setting| Resolved {
        text: setting.default.to_owned(),
        source: Source::Default,
        overridden: Vec::new(),
        vaulted: false,
    };
    SETTINGS
        .iter()
        .map(|setting| (setting.key, value(setting)))
        .collect()
}

struct Loader {
    values: BTreeMap<&'static str, Resolved>,
    problems: Vec<Problem>,
    notes: Vec<Note>,
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

    /// Applies what the replaced products are told.
    fn compat(&mut self, compat: &Compat) {
        for setting in SETTINGS {
            self.compat_setting(setting, compat);
        }
        match self.database_url(compat) {
            Ok(None) => {}
            Ok(Some((url, source))) => {
                let at = source.to_string();
                self.set("database.url", url, source, &at);
            }
            Err(problem) => self.problems.push(problem),
        }
        let notes = compat.notes(&mut self.problems);
        self.notes.extend(notes);
    }

    /// Sets a setting by the strongest variable that names it.
    fn compat_setting(&mut self, setting: &Setting, compat: &Compat) {
        let mut strongest: Option<(&str, String)> = None;
        for name in setting.compat {
            let Some((text, source)) = compat.value(name) else {
                continue;
            };
            let is_unset = text.is_empty() && !matches!(setting.kind, Kind::List | Kind::Text)
                || text == "NONE" && setting.translate.is_none() && name.starts_with("KONG_");
            if is_unset {
                continue;
            }
            let given = Foreign {
                text,
                prefix: compat.prefix(),
            };
            let translated = match setting.translate {
                None => Ok(text.to_owned()),
                Some(translate) => translate(&given),
            };
            let ours = match translated {
                Ok(ours) => ours,
                Err(_) if compat.is_vaulted(name) => {
                    self.problem(*name, "the value it points to cannot be used");
                    continue;
                }
                Err(wrong) => {
                    self.problem(*name, wrong);
                    continue;
                }
            };
            match &strongest {
                None => {
                    self.set(setting.key, ours.clone(), source.clone(), name);
                    if let Some(resolved) = self.values.get_mut(setting.key) {
                        resolved.vaulted = compat.is_vaulted(name);
                    }
                    strongest = Some((name, ours));
                }
                Some((other, theirs)) => {
                    let of_two = compat::product(other) != compat::product(name);
                    if of_two && *theirs != ours {
                        let text = format!("says something else than {other}: set {}", setting.key);
                        self.problem(*name, text);
                    }
                }
            }
        }
    }

    /// The database that Kong's or Keycloak's settings name.
    fn database_url(&mut self, compat: &Compat) -> Result<Option<(String, Source)>, Problem> {
        let url = self.values.get("database.url");
        let is_open = url.is_none_or(|url| url.source == Source::Default);
        let wanted = compat.get("KONG_DATABASE").unwrap_or_default();
        let kong = match wanted {
            "sqlite" => None,
            _ => database::kong(compat, wanted == "postgres" && is_open)?,
        };
        let keycloak = database::keycloak(compat)?;
        for name in keycloak.iter().flat_map(|composed| &composed.ignored) {
            self.notes.push(Note {
                severity: Severity::Warning,
                at: "KC_DB_URL".to_owned(),
                text: format!("property {name:?} has no effect here"),
            });
        }
        if let (Some(one), Some(other)) = (&kong, &keycloak)
            && one.url != other.url
        {
            return Err(Problem {
                at: other.name.to_owned(),
                text: format!(
                    "names another database or login than {}: a process has one, set database.url",
                    one.name
                ),
            });
        }
        let composed = kong.or(keycloak);
        let composed = composed.map(|it: Composed| (it.url.clone(), it.source()));
        // Without a database server, state is kept in Kong's working directory when there is one.
        let in_prefix = || {
            let prefix = compat.get("KONG_PREFIX").filter(|_| is_open)?;
            let url = format!("sqlite://{}/o28m.db", prefix.trim_end_matches('/'));
            Some((url, Source::Compat("KONG_PREFIX".to_owned())))
        };
        Ok(composed.or_else(in_prefix))
    }

    /// Finds settings of the database that contradict each other.
    fn check_database(&mut self, compat: &Compat) {
        let (Some(kind), Some(url), Some(schema)) = (
            self.values.get("gateway.database"),
            self.values.get("database.url"),
            self.values.get("database.schema"),
        ) else {
            return;
        };
        let is_postgres = url.text.starts_with("postgres");
        let mut problems = Vec::new();
        let contradicts = match kind.text.as_str() {
            "postgres" => !is_postgres,
            "sqlite" => is_postgres,
            _ => false,
        };
        if contradicts {
            problems.push(Problem {
                at: kind.source.to_string(),
                text: format!("{} contradicts database.url ({})", kind.text, url.source),
            });
        }
        let mut notes = Vec::new();
        for name in ["KONG_PG_SCHEMA", "KC_DB_SCHEMA"] {
            let Some(theirs) = compat.get(name).filter(|_| is_postgres) else {
                continue;
            };
            if theirs == schema.text {
                problems.push(Problem {
                    at: name.to_owned(),
                    text: format!(
                        "{theirs:?} is also database.schema ({}): our tables never share a schema \
                         with those of the replaced products",
                        schema.source
                    ),
                });
            } else if theirs != "public" && schema.source == Source::Default {
                notes.push(Note {
                    severity: Severity::Warning,
                    at: name.to_owned(),
                    text: format!(
                        "names the schema of the replaced product; ours is {:?}: gateways that \
                         share a database need a database.schema each",
                        schema.text
                    ),
                });
            }
        }
        self.problems.append(&mut problems);
        self.notes.append(&mut notes);
    }

    /// Applies our own variables.
    fn environment(&mut self, environment: &BTreeMap<String, String>) {
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
                let shown = if setting.secret || resolved.vaulted {
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
        assert_eq!(config.notes, [], "KC_CACHE is known to mean nothing");
    }

    #[test]
    fn every_default_passes_its_own_check() {
        let config = load(&Sources::default()).unwrap();
        assert!(config.has_role("proxy"));
        assert!(!config.has_role("rotator"));
        assert_eq!(config.listeners("proxy.tls_listen"), []);
    }

    #[test]
    fn the_environment_of_the_charts_is_understood() {
        let (sources, _dir) = sources(
            None,
            &[
                ("KONG_DATABASE", "postgres"),
                ("KONG_PG_HOST", "db"),
                ("KONG_PG_PASSWORD", "a b"),
                ("KONG_PG_SCHEMA", "public"),
                ("KONG_PG_TIMEOUT", "7000"),
                ("KONG_PROXY_LISTEN", "0.0.0.0:8000, 0.0.0.0:8443 ssl http2"),
                ("KONG_ADMIN_LISTEN", "off"),
                ("KONG_PROXY_ACCESS_LOG", "/dev/stdout log_json"),
                ("KONG_ADMIN_ACCESS_LOG", "logs/admin.log"),
                ("KONG_PREFIX", "/kong"),
                ("KONG_LOG_LEVEL", "notice"),
                ("KONG_WORKER_CONSISTENCY", "strict"),
                ("KONG_DB_UPDATE_FREQUENCY", "10"),
                ("KONG_NGINX_WORKER_PROCESSES", "auto"),
                ("KONG_NGINX_HTTP_UPSTREAM_KEEPALIVE", "NONE"),
                ("KONG_NGINX_HTTP_CLIENT_BODY_BUFFER_SIZE", "4m"),
                ("KONG_NGINX_PROXY_LARGE_CLIENT_HEADER_BUFFERS", "4 16k"),
                ("KONG_HEADERS", "off"),
                ("KONG_HEADERS_UPSTREAM", "x-kong-request-id"),
                ("KONG_TRUSTED_IPS", "NONE"),
                ("KONG_NGINX_HTTP_CLIENT_MAX_BODY_SIZE", "1k"),
                ("KONG_NGINX_PROXY_CLIENT_MAX_BODY_SIZE", "2g"),
                ("KONG_NGINX_HTTP_KEEPALIVE_TIMEOUT", "75s 60s"),
                ("KONG_NGINX_HTTP_KEEPALIVE_REQUESTS", "100"),
                ("KONG_NGINX_HTTP_CHARSET", "off"),
                ("KONG_UPSTREAM_KEEPALIVE_IDLE_TIMEOUT", "30"),
                ("KONG_UPSTREAM_KEEPALIVE_MAX_REQUESTS", "0"),
                ("KONG_PORT_MAPS", "80:8000, 443:8443"),
                ("KONG_ALLOW_DEBUG_HEADER", "on"),
                ("KONG_ERROR_DEFAULT_TYPE", "application/json"),
                ("KONG_ERROR_TEMPLATE_HTML", "/errors/page.html"),
                ("KONG_CLIENT_SSL", "on"),
                ("KONG_CLIENT_SSL_CERT", "/client.crt"),
                ("KONG_CLIENT_SSL_CERT_KEY", "/client.key"),
                ("KONG_LUA_MAX_REQ_HEADERS", "100"),
                ("KONG_SSL_SESSION_TICKETS", "off"),
                ("KONG_NGINX_EVENTS_WORKER_CONNECTIONS", "auto"),
            ],
        );
        let config = load(&sources).unwrap();
        for (key, text) in [
            (
                "database.url",
                "postgres://kong:a%20b@db:5432/kong?sslmode=prefer",
            ),
            ("database.schema", "o28m"),
            ("database.connect_timeout", "7000ms"),
            ("log.access", "/dev/stdout"),
            ("admin.access_log", "/kong/logs/admin.log"),
            ("log.level", "info"),
            ("sync.strict", "true"),
            ("sync.poll_interval", "10000ms"),
            ("node.worker_threads", "0"),
            ("upstream.keepalive_max", "0"),
            ("proxy.body_memory_bytes_max", "4194304"),
            ("proxy.head_line_bytes_max", "16384"),
            ("proxy.head_bytes_max", "65536"),
            ("proxy.headers", ""),
            ("proxy.headers_upstream", "X-Kong-Request-Id"),
            ("proxy.trusted_ips", ""),
            ("proxy.body_bytes_max", "2147483648"),
            ("proxy.keepalive_timeout", "75000ms"),
            ("proxy.keepalive_requests", "100"),
            ("proxy.charset", "off"),
            ("upstream.keepalive_idle_timeout", "30000ms"),
            ("upstream.keepalive_requests", "0"),
            ("proxy.debug_header", "on"),
            ("proxy.errors.default_type", "application/json"),
            ("proxy.errors.template_html", "/errors/page.html"),
            ("upstream.tls.client", "on"),
            ("upstream.tls.cert", "/client.crt"),
            ("proxy.tls.session_tickets", "off"),
            ("proxy.connections_max", "16384"),
            ("log.access_format", "platform"),
        ] {
            assert_eq!(config.text(key), text, "{key}");
        }
        assert_eq!(config.listeners("proxy.listen").len(), 2);
        assert_eq!(config.listeners("admin.listen"), []);
        assert_eq!(
            config.port_maps("proxy.port_maps"),
            [(8000, 80), (8443, 443)]
        );
        assert_eq!(config.notes, []);
        assert_eq!(config.kong.get("pg_password").unwrap(), "******");
    }

    #[test]
    fn contradictions_name_both_sides() {
        for (pairs, said) in [
            (
                vec![("KONG_PG_HOST", "a"), ("KC_DB_URL_HOST", "b")],
                vec!["KC_DB_URL_HOST", "KONG_PG_HOST", "database.url"],
            ),
            (
                vec![("KONG_LOG_LEVEL", "debug"), ("KC_LOG_LEVEL", "warn")],
                vec!["KC_LOG_LEVEL", "KONG_LOG_LEVEL", "log.level"],
            ),
            (
                vec![
                    ("KONG_DATABASE", "postgres"),
                    ("O28M_DATABASE__URL", "sqlite:///x.db"),
                ],
                vec!["KONG_DATABASE", "O28M_DATABASE__URL"],
            ),
            (
                vec![("KONG_PG_HOST", "a"), ("KONG_PG_SCHEMA", "o28m")],
                vec!["KONG_PG_SCHEMA", "database.schema"],
            ),
            (
                vec![("KONG_PROXY_LISTEN", "0.0.0.0:8000 udp")],
                vec!["KONG_PROXY_LISTEN", "udp is not supported"],
            ),
            (
                vec![("KONG_NGINX_HTTP_CLIENT_HEADER_TIMEOUT", "soon")],
                vec!["KONG_NGINX_HTTP_CLIENT_HEADER_TIMEOUT", "\"soon\""],
            ),
            (
                vec![("KONG_NGINX_HTTP_CLIENT_BODY_TIMEOUT", "0")],
                vec!["KONG_NGINX_HTTP_CLIENT_BODY_TIMEOUT", "more than nothing"],
            ),
            (
                vec![("KONG_PORT_MAPS", "80:8000,81:8000")],
                vec!["KONG_PORT_MAPS", "each listener once"],
            ),
            (
                vec![("KONG_ERROR_DEFAULT_TYPE", "text/css")],
                vec!["KONG_ERROR_DEFAULT_TYPE", "text/plain"],
            ),
        ] {
            let (sources, _dir) = sources(None, &pairs);
            let text = problems(&sources);
            assert!(said.iter().all(|part| text.contains(part)), "{text}");
        }
    }

    #[test]
    fn what_a_vault_holds_is_not_shown_when_it_is_wrong() {
        for name in ["KONG_LOG_LEVEL", "KONG_REAL_IP_RECURSIVE"] {
            let (sources, _dir) = sources(
                None,
                &[(name, "{vault://env/secret}"), ("SECRET", "planted")],
            );
            let text = problems(&sources);
            assert!(text.contains(name) && !text.contains("planted"), "{text}");
        }
    }

    #[test]
    fn sqlite_lives_in_kongs_working_directory() {
        let prefix = ("KONG_PREFIX", "/kong/");
        for (pairs, url) in [
            (vec![prefix], "sqlite:///kong/o28m.db"),
            (
                vec![prefix, ("KONG_DATABASE", "sqlite"), ("KONG_PG_HOST", "db")],
                "sqlite:///kong/o28m.db",
            ),
            (
                vec![prefix, ("KONG_DATABASE", "postgres")],
                "postgres://kong@127.0.0.1:5432/kong?sslmode=prefer",
            ),
            (
                vec![("KONG_DATABASE", "off")],
                "sqlite:///var/lib/o28m/o28m.db",
            ),
        ] {
            let (sources, _dir) = sources(None, &pairs);
            assert_eq!(load(&sources).unwrap().text("database.url"), url);
        }
    }
}
