//! `o28m gateway`: the gateway's entities as one declarative configuration, against the configured
//! database.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use o28m_gateway_admin::declarative::{
    self, Action, Change, Declarative, DeclarativeError, Mode, to_yaml,
};
use o28m_store::{MigrationState, Store};
use serde_json::{Map, Value, json};

use super::origin;
use crate::cli::{From, GatewayAction, GatewayCommand, Origin, Output};
use crate::exit::{Failure, Outcome};
use crate::{ambient, platform, terminal};

/// Bytes of a configuration file.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Stands for standard input or output instead of a file.
const STANDARD: &str = "-";

/// Runs the command.
///
/// # Errors
/// An unreachable database or unreadable file; exit 3 for an invalid configuration, and for `diff` when
/// there are differences.
pub async fn run(command: &GatewayCommand) -> Outcome {
    let config = super::load_config(command.config.as_deref(), Default::default())?;
    platform::settle_routes(&config)?;
    if platform::is_db_less(&config) {
        let text =
            "gateway.database is off: the gateway's entities are in gateway.declarative_file";
        return Err(Failure::Usage(anyhow!(text)));
    }
    let store = open(&platform::store_settings(&config)).await?;
    let declarative = platform::declarative(&config, &store, &ambient::system());
    let outcome = match &command.action {
        GatewayAction::Export { out, tags, output } => {
            export(&declarative, out, tags, *output).await
        }
        GatewayAction::Import {
            origin,
            replace,
            output,
        } => import(&declarative, origin, mode(*replace), *output).await,
        GatewayAction::Diff {
            origin,
            replace,
            output,
        } => diff(&declarative, origin, mode(*replace), *output).await,
    };
    store.close().await;
    outcome
}

/// What an origin is called in messages; URLs may hold a password.
fn name(origin: &Origin) -> &Path {
    Path::new(match origin.from {
        From::DeckYaml => origin.source.as_str(),
        From::KongAdminUrl | From::KongPostgres => "what the other Kong has",
    })
}

const fn mode(replace: bool) -> Mode {
    if replace { Mode::Replace } else { Mode::Merge }
}

async fn open(settings: &o28m_store::Settings) -> anyhow::Result<Store> {
    let store = Store::open(settings)
        .await
        .context("cannot open the database")?;
    match store.migration_state().await? {
        MigrationState::Current | MigrationState::Newer | MigrationState::Pending => Ok(store),
        MigrationState::Empty | MigrationState::Outdated => {
            bail!("the database tables are missing or old: run `o28m migrate up`")
        }
    }
}

async fn export(declarative: &Declarative, out: &Path, tags: &[String], output: Output) -> Outcome {
    let document = declarative.export(tags).await?;
    let mut text = match output {
        Output::Text => to_yaml(document),
        Output::Json => serde_json::to_string_pretty(&document)?,
    };
    if out == Path::new(STANDARD) {
        terminal::data(&text);
        return Ok(());
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    write(out, &text).with_context(|| format!("cannot write {}", out.display()))?;
    Ok(())
}

/// Writes a whole file. Configurations hold secrets of plugins and consumers: a new file is for its owner only.
pub(crate) fn write(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = File::options();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

async fn import(declarative: &Declarative, origin: &Origin, mode: Mode, output: Output) -> Outcome {
    let document = origin::document(origin).await?;
    let imported = declarative.import(document, mode).await;
    let imported = imported.map_err(|error| refused(name(origin), error))?;
    match output {
        Output::Text => terminal::progress(&summary(&imported.changes)),
        Output::Json => terminal::json(&json!({
            "version": imported.version,
            "changes": imported.changes.iter().map(described).collect::<Vec<_>>(),
        })),
    }
    Ok(())
}

async fn diff(declarative: &Declarative, origin: &Origin, mode: Mode, output: Output) -> Outcome {
    let document = origin::document(origin).await?;
    let changes = declarative.diff(document, mode).await;
    let changes = changes.map_err(|error| refused(name(origin), error))?;
    match output {
        Output::Text => {
            let lines: String = changes.iter().map(line).collect();
            if !lines.is_empty() {
                terminal::data(&lines);
            }
            terminal::progress(&summary(&changes));
        }
        Output::Json => terminal::json(&json!({
            "changes": changes.iter().map(described).collect::<Vec<_>>(),
        })),
    }
    if changes.is_empty() {
        Ok(())
    } else {
        Err(Failure::State(3))
    }
}

/// The document of a file; `-` is standard input.
pub(crate) fn read(path: &Path) -> Result<Map<String, Value>, Failure> {
    let text = contents(path).with_context(|| format!("cannot read {}", path.display()))?;
    declarative::parse(&text).map_err(|invalid| refused(path, invalid.into()))
}

fn contents(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let bytes = if path == Path::new(STANDARD) {
        std::io::stdin()
            .lock()
            .take(FILE_BYTES_MAX + 1)
            .read_to_string(&mut text)?
    } else {
        File::open(path)?
            .take(FILE_BYTES_MAX + 1)
            .read_to_string(&mut text)?
    };
    if bytes as u64 > FILE_BYTES_MAX {
        bail!("larger than {FILE_BYTES_MAX} bytes");
    }
    Ok(text)
}

/// What is printed of a configuration that is not taken.
pub(crate) fn refused(path: &Path, error: DeclarativeError) -> Failure {
    match error {
        DeclarativeError::Invalid(invalid) => {
            let mut text = format!("{} is no valid configuration", path.display());
            for line in invalid.lines() {
                text.push_str("\n  ");
                text.push_str(&line);
            }
            Failure::CheckFailed(text)
        }
        DeclarativeError::Conflict(text) => {
            let text = format!("{} does not fit the database: {text}", path.display());
            Failure::CheckFailed(text)
        }
        error @ (DeclarativeError::Busy | DeclarativeError::Store(_)) => error.into(),
    }
}

const fn verb(action: Action) -> &'static str {
    match action {
        Action::Create => "create",
        Action::Update => "update",
        Action::Delete => "delete",
    }
}

fn line(change: &Change) -> String {
    let mut text = format!("{} {} {}", verb(change.action), change.entity, change.id);
    if let Some(name) = &change.name {
        text.push_str(&format!(" ({name})"));
    }
    if !change.fields.is_empty() {
        text.push_str(&format!(": {}", change.fields.join(", ")));
    }
    text.push('\n');
    text
}

fn described(change: &Change) -> Value {
    json!({
        "action": verb(change.action),
        "entity": change.entity,
        "id": change.id,
        "name": change.name,
        "fields": change.fields,
    })
}

fn summary(changes: &[Change]) -> String {
    let count = |action| {
        let those = changes.iter().filter(|change| change.action == action);
        those.count()
    };
    format!(
        "create {}, update {}, delete {}",
        count(Action::Create),
        count(Action::Update),
        count(Action::Delete)
    )
}
