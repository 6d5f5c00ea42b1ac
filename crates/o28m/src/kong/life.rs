//! `kong start`, `stop`, `quit`, `reload`, `restart` and `health`.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use o28m_store::MigrationStep;
use rustix::process::Signal;

use super::cli::{Options, Start};
use super::prefix::Prefix;
use super::{configuration, migrations, prefix_of, say};
use crate::command::serve;
use crate::config::{Config, Source};
use crate::exit::Outcome;
use crate::platform;

/// How long `stop` waits until it cuts what still runs (Kong 3.9.3).
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a process that was cut may take to end.
const CUT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a gateway in the background may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// Pause between two looks at it.
const PAUSE: Duration = Duration::from_millis(50);
/// Bytes from the end of its log that are shown when it does not start.
const LOG_BYTES: usize = 4096;

pub(super) async fn start(start: &Start, options: &Options) -> Outcome {
    let config = configuration(options)?;
    let prefix = prefix_of(&config);
    if prefix.running().is_some() {
        let path = prefix.path().display();
        return Err(anyhow!("Kong is already running in {path}").into());
    }
    prefix.prepare()?;
    check_tables(start, options, &config).await?;
    let daemon = ["nginx_daemon", "nginx_main_daemon"];
    let daemon = daemon.into_iter().filter_map(|name| config.kong.get(name));
    if daemon.into_iter().any(|value| value == "off") {
        let occupied = prefix.occupy()?;
        return serve::until_told(config, async || Ok(occupied.ready()?)).await;
    }
    in_background(options, &prefix).await?;
    say(options, "Kong started");
    Ok(())
}

/// PostgreSQL tables are made by jobs before; those of SQLite, which has one node, by the start itself.
async fn check_tables(start: &Start, options: &Options, config: &Config) -> Outcome {
    let decided = |it: &crate::config::Resolved| it.source != Source::Default;
    let is_auto = config.text("database.migrations") == "auto"
        && (config.resolved("database.migrations").is_some_and(decided)
            || config.text("database.url").starts_with("sqlite"));
    if platform::is_db_less(config) || is_auto && !start.run_migrations {
        return Ok(());
    }
    let store = migrations::open(options, config).await?;
    if start.run_migrations {
        let timeout = Duration::from_secs(options.lock_timeout);
        let _state = store.migrate_within(MigrationStep::Up, timeout).await?;
    }
    let state = store.migration_state().await?;
    store.close().await;
    match migrations::unusable(state) {
        None => Ok(()),
        Some(text) => Err(anyhow!(text).into()),
    }
}

/// Starts this program again, apart from the terminal, and waits until it has started everything.
async fn in_background(options: &Options, prefix: &Prefix) -> anyhow::Result<()> {
    let path = prefix.log_file();
    let log = File::options().create(true).append(true).open(&path);
    let log = log.with_context(|| format!("cannot write {}", path.display()))?;
    let from = log.metadata()?.len();
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["kong", "start"]);
    if let Some(conf) = &options.conf {
        command.arg("-c").arg(conf);
    }
    if let Some(prefix) = &options.prefix {
        command.arg("-p").arg(prefix);
    }
    command
        .env("KONG_NGINX_DAEMON", "off")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn().context("cannot start the gateway")?;
    let deadline = tokio::time::Instant::now() + START_TIMEOUT;
    while prefix.ready().is_none() {
        if let Some(status) = child.try_wait()? {
            let written = std::fs::read(&path).unwrap_or_default();
            let from = usize::try_from(from).unwrap_or(0);
            let from = from.max(written.len().saturating_sub(LOG_BYTES));
            let last = String::from_utf8_lossy(written.get(from..).unwrap_or_default());
            bail!("the gateway ended with {status}\n{}", last.trim_end());
        }
        if tokio::time::Instant::now() > deadline {
            let _gone = child.kill();
            let _status = child.wait();
            bail!("the gateway does not start, see {}", path.display());
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

pub(super) async fn stop(options: &Options) -> Outcome {
    let prefix = existing(options)?;
    prefix.signal(Signal::TERM)?;
    end(&prefix, STOP_TIMEOUT).await?;
    say(options, "Kong stopped");
    Ok(())
}

pub(super) async fn quit(timeout: u64, wait: u64, options: &Options) -> Outcome {
    let prefix = existing(options)?;
    if wait > 0 && prefix.running().is_some() {
        tokio::time::sleep(Duration::from_secs(wait)).await;
    }
    prefix.signal(Signal::QUIT)?;
    let text = match end(&prefix, Duration::from_secs(timeout.max(1))).await? {
        true => "Kong stopped (gracefully)",
        false => "Timeout, Kong stopped forcefully",
    };
    say(options, text);
    Ok(())
}

/// Waits for the end; a second signal cuts what still runs then. Gives whether it was not needed.
async fn end(prefix: &Prefix, timeout: Duration) -> anyhow::Result<bool> {
    if prefix.until_free(timeout).await {
        return Ok(true);
    }
    // It may be gone by now.
    let _signalled = prefix.signal(Signal::TERM);
    if prefix.until_free(CUT_TIMEOUT).await {
        return Ok(false);
    }
    let _signalled = prefix.signal(Signal::KILL);
    if prefix.until_free(CUT_TIMEOUT).await {
        return Ok(false);
    }
    bail!("the gateway at {} does not end", prefix.path().display())
}

pub(super) fn reload(options: &Options) -> Outcome {
    // As Kong: a configuration that could not be started with is refused here.
    let config = configuration(options)?;
    prefix_of(&config).signal(Signal::HUP)?;
    say(options, "Kong reloaded");
    Ok(())
}

pub(super) async fn restart(options: &Options, again: &Start) -> Outcome {
    let prefix = existing(options)?;
    if prefix.running().is_some() {
        stop(options).await?;
    }
    start(again, options).await
}

pub(super) fn health(options: &Options) -> Outcome {
    let prefix = existing(options)?;
    let path = prefix.path().display();
    let is_ready = prefix.ready().is_some();
    let state = if is_ready { "running" } else { "not running" };
    say(options, &format!("nginx.......{state}\n"));
    if !is_ready {
        return Err(anyhow!("Kong is not running at {path}").into());
    }
    say(options, &format!("Kong is healthy at {path}"));
    Ok(())
}

/// The working directory, which must be there.
fn existing(options: &Options) -> anyhow::Result<Prefix> {
    let prefix = super::prefix_alone(options)?;
    if !prefix.path().exists() {
        bail!("no such prefix: {}", prefix.path().display());
    }
    Ok(prefix)
}
