//! `kong config`: declarative configuration files.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use o28m_gateway_admin::declarative::{Mode, to_yaml};
use o28m_store::{MigrationStep, Settings, Store};

use super::cli::{self, Options};
use super::{configuration, migrations, say};
use crate::command::gateway;
use crate::exit::{Failure, Outcome};
use crate::{ambient, platform};

const EXAMPLE: &str = r#"# A declarative configuration. Check it with `kong config parse`, use it without a database by
# KONG_DATABASE=off and KONG_DECLARATIVE_CONFIG, or write it to one with `kong config db_import`.

_format_version: "3.0"
_transform: true

# services:
# - name: example
#   url: http://example.com
#   routes:
#   - name: example
#     paths:
#     - /example
#     plugins:
#     - name: acl
#       config:
#         allow:
#         - partners
#
# consumers:
# - username: someone
#   acls:
#   - group: partners
"#;

pub(super) async fn run(action: &cli::Config, options: &Options) -> Outcome {
    match action {
        cli::Config::Init { file } => init(file),
        cli::Config::Parse { file } => parse(file, options).await,
        cli::Config::DbImport { file } => import(file, options).await,
        cli::Config::DbExport { file } => export(file, options).await,
    }
}

fn unused(file: &Path) -> anyhow::Result<()> {
    if file.exists() {
        let name = file.display();
        anyhow::bail!("{name} already exists in the current directory.\nWill not overwrite it.");
    }
    Ok(())
}

fn init(file: &Path) -> Outcome {
    unused(file)?;
    std::fs::write(file, EXAMPLE).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(())
}

/// As text: which failure it is means nothing to Kong's callers.
fn plain(failure: Failure, what: &str) -> Failure {
    match failure {
        Failure::CheckFailed(text) => anyhow!("{what}:\n{text}").into(),
        other => other,
    }
}

async fn parse(file: &Path, options: &Options) -> Outcome {
    let config = configuration(options)?;
    platform::settle_routes(&config)?;
    let settings = Settings {
        url: "sqlite::memory:".to_owned(),
        ..platform::store_settings(&config)
    };
    let store = Store::open(&settings).await?;
    let _state = store.migrate(MigrationStep::Bootstrap).await?;
    let declarative = platform::declarative(&config, &store, &ambient::system());
    let checked = async {
        let document = gateway::read(file)?;
        let changes = declarative.diff(document, Mode::Replace).await;
        changes.map_err(|error| gateway::refused(file, error))
    };
    let _changes = checked
        .await
        .map_err(|failure| plain(failure, "Failed parsing"))?;
    say(options, "parse successful");
    Ok(())
}

async fn import(file: &Path, options: &Options) -> Outcome {
    let config = configuration(options)?;
    platform::settle_routes(&config)?;
    if platform::is_db_less(&config) {
        let text = "'kong config db_import' only works with a database.\nWhen using database=off, \
                    reload your declarative configuration\nusing the /config endpoint.";
        return Err(anyhow!(text).into());
    }
    let document = gateway::read(file).map_err(|failure| plain(failure, "Failed parsing"))?;
    say(options, "parse successful, beginning import");
    let store = migrations::open(options, &config).await?;
    if let Some(text) = migrations::unusable(store.migration_state().await?) {
        return Err(anyhow!(text).into());
    }
    let declarative = platform::declarative(&config, &store, &ambient::system());
    let imported = declarative.import(document, Mode::Merge).await;
    store.close().await;
    let refused = |error| plain(gateway::refused(file, error), "Failed importing");
    let _imported = imported.map_err(refused)?;
    say(options, "import successful");
    Ok(())
}

async fn export(file: &Path, options: &Options) -> Outcome {
    let config = configuration(options)?;
    platform::settle_routes(&config)?;
    if platform::is_db_less(&config) {
        let text = "'kong config db_export' only works with a database.";
        return Err(anyhow!(text).into());
    }
    unused(file)?;
    let store = migrations::open(options, &config).await?;
    let declarative = platform::declarative(&config, &store, &ambient::system());
    let document = declarative.export(&[]).await;
    store.close().await;
    gateway::write(file, &to_yaml(document?))
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(())
}
