//! Whole configurations: export, difference and import in one transaction (spec gateway-admin 14, 20).

mod plan;
mod surroundings;

use std::sync::Arc;
use std::time::Duration;

use o28m_core::Ambient;
use o28m_gateway::PluginKind;
use o28m_kong::Document;
use o28m_kong::declarative::{self, Invalid};
use o28m_store::Store;
use serde_json::Value;

use crate::object::kinds;
use plan::Plan;

/// How often an import is tried again that others got in the way of.
const ATTEMPTS_MAX: u32 = 50;
/// Longest pause between two attempts, in milliseconds.
const PAUSE_MS_MAX: u64 = 32;

/// What an import does with entities that the configuration does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They stay.
    Merge,
    /// They are deleted: all of them, or those with the configuration's `select_tags`.
    Replace,
}

/// What an import does to an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is new.
    Create,
    /// Some of its fields change.
    Update,
    /// It goes.
    Delete,
}

/// One difference between a configuration and the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What happens.
    pub action: Action,
    /// Kind of the entity, such as `routes`.
    pub entity: &'static str,
    /// Its id.
    pub id: String,
    /// What people call it, if it has a name.
    pub name: Option<String>,
    /// With `Update`: the fields that change.
    pub fields: Vec<String>,
}

/// An import that took place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// What it changed; nothing when the store was like that already.
    pub changes: Vec<Change>,
    /// A version of the store that contains it.
    pub version: i64,
}

/// Why a configuration was not exported, compared or imported. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum DeclarativeError {
    /// The configuration itself is wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// It is right, and does not fit what is in the store.
    #[error("{0}")]
    Conflict(String),
    /// Others kept changing the configuration at the same time.
    #[error("the configuration is being changed by others, try again")]
    Busy,
    /// The database failed.
    #[error("cannot read or write the gateway's configuration")]
    Store(#[source] o28m_store::Error),
}

impl From<o28m_store::Error> for DeclarativeError {
    fn from(error: o28m_store::Error) -> Self {
        Self::Store(error)
    }
}

/// Declarative configurations over a migrated store.
#[derive(Clone)]
pub struct Declarative {
    store: Store,
    rules: Rules,
}

/// What a configuration is checked with.
#[derive(Clone)]
pub(crate) struct Rules {
    pub(crate) ambient: Ambient,
    pub(crate) enabled_plugins: Arc<[String]>,
    pub(crate) plugin_kinds: Arc<[Arc<dyn PluginKind>]>,
    /// Match entities without id to stored ones of the same name; otherwise ids follow from names alone.
    pub(crate) match_names: bool,
}

impl Declarative {
    /// `enabled_plugins` may be configured; configurations that `plugin_kinds` cannot compile are refused.
    #[must_use]
    pub fn new(
        store: Store,
        ambient: Ambient,
        enabled_plugins: &[String],
        plugin_kinds: &[Arc<dyn PluginKind>],
    ) -> Self {
        let executed = |name: &&String| o28m_kong::plugin(name).is_some();
        let rules = Rules {
            ambient,
            enabled_plugins: enabled_plugins.iter().filter(executed).cloned().collect(),
            plugin_kinds: plugin_kinds.into(),
            match_names: true,
        };
        Self::with(store, rules)
    }

    pub(crate) const fn with(store: Store, rules: Rules) -> Self {
        Self { store, rules }
    }

    /// Every entity, or those that have all of `tags`, as a declarative document ordered by kind and id.
    ///
    /// # Errors
    /// [`DeclarativeError::Store`].
    pub async fn export(&self, tags: &[String]) -> Result<Document, DeclarativeError> {
        let everything = self.store.everything(&kinds()).await?;
        let bodies = everything.records.iter().filter_map(|record| {
            let body = record.body.as_object()?;
            plan::has_tags(body, tags).then_some((record.kind.as_str(), body))
        });
        Ok(declarative::document(bodies, tags))
    }

    /// What importing the document would change.
    ///
    /// # Errors
    /// [`DeclarativeError`].
    pub async fn diff(
        &self,
        document: Document,
        mode: Mode,
    ) -> Result<Vec<Change>, DeclarativeError> {
        let (plan, _) = self.plan(Source::First(document), mode).await?;
        Ok(plan.changes)
    }

    /// Makes the store hold the document's entities, all or nothing. Concurrent imports happen one after
    /// the other.
    ///
    /// # Errors
    /// [`DeclarativeError`]; nothing was changed then.
    pub async fn import(
        &self,
        document: Document,
        mode: Mode,
    ) -> Result<Imported, DeclarativeError> {
        let mut source = Source::First(document);
        for attempt in 0..ATTEMPTS_MAX {
            let (plan, text) = self.plan(source, mode).await?;
            source = Source::Again(text);
            if plan.writes.is_empty() {
                return Ok(Imported {
                    changes: plan.changes,
                    version: plan.version,
                });
            }
            match self.store.write(plan.writes).await {
                Ok(version) => {
                    tracing::info!(
                        config.version = version,
                        config.changes = plan.changes.len(),
                        "configuration imported"
                    );
                    return Ok(Imported {
                        changes: plan.changes,
                        version,
                    });
                }
                Err(error) => {
                    let is_refusal = !matches!(
                        error,
                        o28m_store::Error::Unavailable(_)
                            | o28m_store::Error::Failed(_)
                            | o28m_store::Error::Schema { .. }
                            | o28m_store::Error::Url(_)
                    );
                    if !is_refusal {
                        return Err(error.into());
                    }
                    if self.store.version().await? == plan.version {
                        // Nobody else was there: the plan itself does not fit.
                        return Err(DeclarativeError::Conflict(error.to_string()));
                    }
                    let millis = (u64::from(attempt) + 1).min(PAUSE_MS_MAX);
                    tokio::time::sleep(Duration::from_millis(millis)).await;
                }
            }
        }
        Err(DeclarativeError::Busy)
    }

    /// Large documents hold many regular expressions, so they get a thread of their own.
    async fn plan(
        &self,
        source: Source,
        mode: Mode,
    ) -> Result<(Plan, Arc<[u8]>), DeclarativeError> {
        let mut wanted = kinds();
        wanted.push(plan::LOCK_KIND);
        let everything = self.store.everything(&wanted).await?;
        let rules = self.rules.clone();
        let planning = tokio::task::spawn_blocking(move || {
            let (document, text) = source.read();
            Ok((plan::plan(everything, document, mode, &rules)?, text))
        });
        match planning.await {
            Ok(plan) => plan,
            Err(_) => Err(DeclarativeError::Conflict(
                "the configuration could not be checked".to_owned(),
            )),
        }
    }
}

/// A document for each attempt to import it. Another attempt is rare and the document may be very large:
/// its text takes a tenth of the memory of a copy.
enum Source {
    First(Document),
    Again(Arc<[u8]>),
}

impl Source {
    fn read(self) -> (Document, Arc<[u8]>) {
        match self {
            Self::First(document) => {
                let text = serde_json::to_vec(&document).unwrap_or_default();
                (document, text.into())
            }
            Self::Again(text) => (serde_json::from_slice(&text).unwrap_or_default(), text),
        }
    }
}

/// Reads a configuration in YAML or JSON, without checking more than its syntax.
///
/// # Errors
/// [`Invalid`].
pub fn parse(text: &str) -> Result<Document, Invalid> {
    declarative::parse(text)
}

/// The document in YAML.
#[must_use]
pub fn to_yaml(document: Document) -> String {
    o28m_kong::yaml::write(&Value::Object(document))
}
