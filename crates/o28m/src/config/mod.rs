//! Process configuration: one table of settings, one file, environment and flags on top of it.

mod compat;
mod database;
mod known;
mod listen;
mod load;
mod schema;
pub mod table;
mod translate;
mod value;

pub use listen::{KeepAlive, Listen};
pub use load::{ConfigError, Problem, Sources, load, load_with};
pub use schema::{json_schema, reference};

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The table's default.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// An environment variable of a replaced product.
    Compat(String),
    /// An `O28M_` environment variable.
    Environment(String),
    /// A flag of the command, or the command itself (`up` brings its own values).
    Command,
}

impl std::fmt::Display for Source {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::File(path) => write!(formatter, "file {}", path.display()),
            Self::Compat(name) | Self::Environment(name) => write!(formatter, "environment {name}"),
            Self::Command => formatter.write_str("command line"),
        }
    }
}

/// A value with its origin. `text` passed the check of its setting's kind.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The value as text; lists are comma separated.
    pub text: String,
    /// What set it.
    pub source: Source,
    /// Weaker sources that also had a value, weakest first.
    pub overridden: Vec<(Source, String)>,
    /// It came from a vault or a file of secrets, so it is not printed.
    pub vaulted: bool,
}

/// How much something matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Good to know.
    Info,
    /// What somebody asked for does not happen.
    Warning,
}

/// Something about the sources that is no error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// How much it matters.
    pub severity: Severity,
    /// The variable it is about.
    pub at: String,
    /// What is to be known of it.
    pub text: String,
}

/// The whole configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    values: BTreeMap<&'static str, Resolved>,
    /// What is to be said about variables of the replaced products.
    pub notes: Vec<Note>,
    /// Kong's settings as they were given, by Kong's names, without secrets.
    pub kong: BTreeMap<String, String>,
}

impl Config {
    /// The value and its origin; `None` only for keys that are not in the table.
    #[must_use]
    pub fn resolved(&self, key: &str) -> Option<&Resolved> {
        self.values.get(key)
    }

    /// The value as text; empty when unset.
    #[must_use]
    pub fn text(&self, key: &str) -> &str {
        self.values
            .get(key)
            .map_or("", |resolved| resolved.text.as_str())
    }

    /// The value as text, `None` when unset or empty.
    #[must_use]
    pub fn optional(&self, key: &str) -> Option<&str> {
        Some(self.text(key)).filter(|text| !text.is_empty())
    }

    /// The value as a path, `None` when unset.
    #[must_use]
    pub fn path(&self, key: &str) -> Option<PathBuf> {
        self.optional(key).map(PathBuf::from)
    }

    /// A boolean setting.
    #[must_use]
    pub fn boolean(&self, key: &str) -> bool {
        value::boolean(self.text(key)).unwrap_or_default()
    }

    /// A whole number.
    #[must_use]
    pub fn integer(&self, key: &str) -> i64 {
        self.text(key).parse().unwrap_or_default()
    }

    /// A duration.
    #[must_use]
    pub fn duration(&self, key: &str) -> Duration {
        value::duration(self.text(key)).unwrap_or_default()
    }

    /// Whether the proxy takes HTTP/2: one of its addresses with the flag means all of them, as in Kong.
    #[must_use]
    pub fn proxy_speaks_http2(&self) -> bool {
        let keys = ["proxy.listen", "proxy.tls_listen"];
        let mut listens = keys.iter().flat_map(|key| self.listeners(key));
        listens.any(|it| it.http2)
    }

    /// A duration that may be unset.
    #[must_use]
    pub fn optional_duration(&self, key: &str) -> Option<Duration> {
        self.optional(key).and_then(value::duration)
    }

    /// Whether a value may be the private key itself, which nobody is shown.
    #[must_use]
    pub fn is_key(text: &str) -> bool {
        value::list(text).any(value::is_pem)
    }

    /// Ports of listeners, each with what clients know it as.
    #[must_use]
    pub fn port_maps(&self, key: &str) -> Vec<(u16, u16)> {
        value::port_maps(self.text(key)).unwrap_or_default()
    }

    /// The addresses of a listener; none when it is off.
    #[must_use]
    pub fn listeners(&self, key: &str) -> Vec<Listen> {
        listen::parse(self.text(key)).unwrap_or_default()
    }

    /// The items of a list.
    #[must_use]
    pub fn list(&self, key: &str) -> Vec<String> {
        value::list(self.text(key)).map(str::to_owned).collect()
    }

    /// Overrides a value with one that the command decided, such as a URL made from a bound port.
    /// Keys that are not in the table are left alone.
    pub fn command(&mut self, key: &str, text: &str) {
        if let Some(resolved) = self.values.get_mut(key) {
            let old_source = std::mem::replace(&mut resolved.source, Source::Command);
            let old_text = std::mem::replace(&mut resolved.text, text.to_owned());
            resolved.overridden.push((old_source, old_text));
        }
    }

    /// Whether this process has the role.
    #[must_use]
    pub fn has_role(&self, role: &str) -> bool {
        value::list(self.text("node.roles")).any(|name| name == role)
    }
}
