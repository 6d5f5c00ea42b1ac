//! The subcommands, one module each.

pub mod config;
pub mod gateway;
pub mod htpasswd;
pub mod keys;
pub mod migrate;
mod origin;
pub mod serve;
pub mod version;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::{Config, ConfigError, Sources};

/// Loads the configuration of a command: its `--config`, the default places, the environment, and
/// what the command line decides.
///
/// # Errors
/// [`ConfigError`] with every problem.
pub fn load_config(
    file: Option<&Path>,
    command: BTreeMap<String, String>,
) -> Result<Config, ConfigError> {
    crate::config::load(&sources(file, command))
}

/// What the configuration of a command is made of.
#[must_use]
pub fn sources(file: Option<&Path>, command: BTreeMap<String, String>) -> Sources {
    let environment: BTreeMap<String, String> = std::env::vars().collect();
    let named = file
        .map(Path::to_owned)
        .or_else(|| environment.get("O28M_CONFIG").map(Into::into));
    let found = || {
        let places = ["o28m.toml", "/etc/o28m/o28m.toml"]
            .into_iter()
            .map(PathBuf::from);
        places.into_iter().find(|path| path.exists())
    };
    Sources {
        file: named.or_else(found),
        environment,
        command,
    }
}
