//! The program under the name `kong`: the commands that charts, jobs and compose files call, with Kong's
//! texts and exit codes (spec gateway-admin 15).

pub mod cli;
mod declarative;
mod drain;
mod life;
mod migrations;
mod prefix;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser as _;
use cli::{Command, Kong, Options};
use prefix::Prefix;

use crate::command::version::KONG;
use crate::config::{Config, ConfigError};
use crate::exit::{self, Failure, Outcome};
use crate::{command, terminal};

/// Where Kong looks for its file.
const CONF_FILES: &[&str] = &["/etc/kong/kong.conf", "/etc/kong.conf"];
/// The Admin API's users in the platform's image, for which there is no variable.
const HTPASSWD: &str = "/opt/kong/.htpasswd";

/// The arguments after the program's name when it was called as `kong`, or as `o28m kong`.
#[must_use]
pub fn called(arguments: &[OsString]) -> Option<Vec<OsString>> {
    let mut arguments = arguments.iter();
    let name = arguments.next().map(Path::new).and_then(Path::file_name);
    let rest: Vec<OsString> = arguments.cloned().collect();
    if name.is_some_and(|name| name == "kong") {
        return Some(rest);
    }
    let (first, rest) = rest.split_first()?;
    (first == "kong").then(|| rest.to_vec())
}

/// Parses and runs a command line of Kong.
#[must_use]
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let arguments = std::iter::once(OsString::from("kong")).chain(arguments);
    let kong = match Kong::try_parse_from(arguments) {
        Ok(kong) => kong,
        Err(error) => {
            // Help that was asked for is a success, everything else is 1, as with Kong.
            let code = u8::from(error.use_stderr());
            let _closed = error.print();
            return ExitCode::from(code);
        }
    };
    match crate::block_on(Box::pin(run(&kong))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::State(code)) => ExitCode::from(code),
        Err(failure) => {
            let text = exit::text(failure);
            terminal::plain_error(&format!(
                "Error: {text}\n\n  Run with --v (verbose) or --vv (debug) for more details"
            ));
            ExitCode::from(1)
        }
    }
}

async fn run(kong: &Kong) -> Outcome {
    let options = &kong.options;
    match &kong.command {
        Command::Migrations { step } => {
            let config = configuration(options)?;
            migrations::run(*step, options, &config).await
        }
        Command::Start(start) => Box::pin(life::start(start, options)).await,
        Command::Stop => life::stop(options).await,
        Command::Quit { timeout, wait } => life::quit(*timeout, *wait, options).await,
        Command::Drain => drain::drain(options).await,
        Command::Reload => life::reload(options),
        Command::Restart(start) => Box::pin(life::restart(options, start)).await,
        Command::Prepare => Ok(prefix_of(&configuration(options)?).prepare()?),
        Command::Health => life::health(options),
        Command::Version { all } => {
            version(*all);
            Ok(())
        }
        Command::Check { conf } => check(conf.as_deref(), options),
        Command::Config { action } => declarative::run(action, options).await,
    }
}

/// A line of a command's result, unless it is to be quiet.
fn say(options: &Options, text: &str) {
    if !options.quiet {
        terminal::data(text);
    }
}

/// What differs from `o28m serve` where nothing says otherwise: Kong's roles and listeners.
fn defaults() -> Vec<(&'static str, String)> {
    let mut defaults = vec![
        ("node.roles", "proxy,admin".to_owned()),
        ("proxy.listen", "0.0.0.0:8000, 0.0.0.0:8443 ssl".to_owned()),
        (
            "admin.listen",
            "127.0.0.1:8001, 127.0.0.1:8444 ssl".to_owned(),
        ),
        ("status.listen", "127.0.0.1:8007".to_owned()),
    ];
    if Path::new(HTPASSWD).exists() {
        defaults.push(("admin.htpasswd_file", HTPASSWD.to_owned()));
    }
    defaults
}

/// The configuration of a command.
fn configuration(options: &Options) -> Result<Config, ConfigError> {
    let mut sources = command::sources(None, Default::default());
    let environment = &mut sources.environment;
    let is_named = environment.contains_key("KONG_CONF");
    let found = CONF_FILES.iter().find(|path| Path::new(path).exists());
    let found = found.filter(|_| !is_named).map(PathBuf::from);
    if let Some(conf) = options.conf.clone().or(found) {
        environment.insert("KONG_CONF".to_owned(), conf.display().to_string());
    }
    if let Some(prefix) = &options.prefix {
        environment.insert("KONG_PREFIX".to_owned(), prefix.display().to_string());
    }
    crate::config::load_with(&sources, &defaults())
}

fn prefix_of(config: &Config) -> Prefix {
    Prefix::new(PathBuf::from(config.text("node.prefix")))
}

/// The working directory of a command that needs nothing else: a configuration with problems must not
/// keep anybody from stopping the gateway.
fn prefix_alone(options: &Options) -> anyhow::Result<Prefix> {
    if let Some(prefix) = &options.prefix {
        return Ok(Prefix::new(prefix.clone()));
    }
    match (configuration(options), std::env::var_os("KONG_PREFIX")) {
        (Ok(config), _) => Ok(prefix_of(&config)),
        (Err(_), Some(prefix)) => Ok(Prefix::new(PathBuf::from(prefix))),
        (Err(error), None) => Err(error.into()),
    }
}

fn version(all: bool) {
    if all {
        let own = env!("CARGO_PKG_VERSION");
        terminal::data(&format!("Kong: {KONG}\no28m: {own}"));
    } else {
        terminal::data(KONG);
    }
}

fn check(conf: Option<&Path>, options: &Options) -> Outcome {
    let conf = conf.map(Path::to_owned).or_else(|| options.conf.clone());
    let conf = conf.unwrap_or_else(|| PathBuf::from("/etc/kong/kong.conf"));
    let options = Options {
        conf: Some(conf.clone()),
        ..options.clone()
    };
    let _config = configuration(&options)?;
    say(
        &options,
        &format!("configuration at {} is valid", conf.display()),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_or_the_first_argument_says_kong() {
        let called = |line: &str| {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            super::called(&words).map(|rest| rest.len())
        };
        assert_eq!(called("/usr/local/bin/kong migrations up"), Some(2));
        assert_eq!(called("kong"), Some(0));
        assert_eq!(called("/o28m kong quit --timeout 60"), Some(3));
        assert_eq!(called("/o28m serve"), None);
        assert_eq!(called("/o28m"), None);
    }
}
