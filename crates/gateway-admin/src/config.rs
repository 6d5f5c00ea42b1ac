//! `/config` and the mode without a database (spec gateway-admin 14): entities come from one declarative
//! configuration, which is replaced as a whole.

use std::sync::{Arc, Mutex, PoisonError};

use http::{Response, StatusCode};
use md5::{Digest as _, Md5};
use o28m_core::id;
use o28m_kong::Document;
use o28m_kong::declarative::Invalid;
use o28m_net::Body;
use o28m_store::Store;
use serde_json::{Value, json};

use crate::api::Api;
use crate::body::Configuration;
use crate::declarative::{self, Declarative, DeclarativeError, Mode, Rules};
use crate::endpoints::Endpoint;
use crate::list::Arguments;
use crate::object::kinds;
use crate::problem::Problem;
use crate::reply;
use crate::targets::TargetEndpoint;

/// What Kong reports before a configuration was loaded.
const NO_HASH: &str = "00000000000000000000000000000000";

/// The configuration of a gateway without a database.
pub(crate) struct Loaded {
    /// MD5 of the text in use, as hexadecimal digits.
    hash: Mutex<String>,
    /// Held while a configuration replaces another.
    loading: tokio::sync::Mutex<()>,
}

impl Default for Loaded {
    fn default() -> Self {
        Self {
            hash: Mutex::new(NO_HASH.to_owned()),
            loading: tokio::sync::Mutex::default(),
        }
    }
}

impl Loaded {
    /// What tells the configuration in use from others.
    pub(crate) fn hash(&self) -> String {
        self.hash
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Why a configuration did not replace the one in use.
pub(crate) enum NotLoaded {
    /// Another one is being loaded.
    Busy,
    Refused(DeclarativeError),
}

impl From<Invalid> for NotLoaded {
    fn from(invalid: Invalid) -> Self {
        Self::Refused(DeclarativeError::Invalid(invalid))
    }
}

impl Api {
    fn declarative(&self) -> Declarative {
        let rules = Rules {
            ambient: self.ambient().clone(),
            enabled_plugins: Arc::clone(self.enabled_plugins()),
            plugin_kinds: self
                .plugin_kinds()
                .get()
                .map_or_else(|| Arc::from([]), |kinds| kinds.as_slice().into()),
            match_names: false,
        };
        Declarative::with(self.store().clone(), rules)
    }

    /// Replaces every entity; nothing is changed on failure. Gives the version that contains it.
    pub(crate) async fn load(
        &self,
        loaded: &Loaded,
        configuration: Configuration,
    ) -> Result<i64, NotLoaded> {
        let Ok(_loading) = loaded.loading.try_lock() else {
            return Err(NotLoaded::Busy);
        };
        let hash = configuration.hash();
        let document = configuration.parse().await?;
        let imported = self.declarative().import(document, Mode::Replace).await;
        let imported = imported.map_err(NotLoaded::Refused)?;
        if let Some(audit) = self.audit() {
            audit.imported(&imported.changes, imported.version, self.ambient().now());
        }
        *loaded.hash.lock().unwrap_or_else(PoisonError::into_inner) = hash;
        Ok(imported.version)
    }

    /// `POST /config`
    pub(crate) async fn post_config(
        &self,
        loaded: &Loaded,
        configuration: Option<Configuration>,
        arguments: &Arguments,
    ) -> Result<Response<Body>, Problem> {
        let nothing = || Problem::Bad("expected a declarative configuration".to_owned());
        let configuration = configuration.ok_or_else(nothing)?;
        if flag(arguments, "check_hash") && configuration.hash() == loaded.hash() {
            return Ok(reply::empty(StatusCode::NOT_MODIFIED));
        }
        let version = match self.load(loaded, configuration).await {
            Ok(version) => version,
            Err(NotLoaded::Busy) => return Err(Problem::Loading),
            Err(NotLoaded::Refused(error)) => {
                return Err(refused(error, flag(arguments, "flatten_errors")));
            }
        };
        self.wait_applied(Some(version)).await;
        let entities = by_kind_and_id(self.store()).await?;
        Ok(reply::json(StatusCode::CREATED, &Value::Object(entities)))
    }

    /// `GET /config`
    pub(crate) async fn get_config(&self) -> Result<Response<Body>, Problem> {
        let document = self.declarative().export(&[]).await;
        let document = document.map_err(|error| refused(error, false))?;
        let yaml = declarative::to_yaml(document);
        Ok(reply::json(StatusCode::OK, &json!({"config": yaml})))
    }
}

impl Configuration {
    /// MD5 of the text, as hexadecimal digits.
    fn hash(&self) -> String {
        let digest = match self {
            Self::Text(text) => Md5::digest(text),
            Self::Document(document) => {
                Md5::digest(serde_json::to_string(document).unwrap_or_default())
            }
        };
        id::hex(&digest)
    }

    /// The document; large texts are parsed on a thread of their own.
    async fn parse(self) -> Result<Document, NotLoaded> {
        match self {
            Self::Document(document) => Ok(document),
            Self::Text(text) => {
                let parsing = tokio::task::spawn_blocking(move || declarative::parse(&text));
                match parsing.await {
                    Ok(parsed) => Ok(parsed?),
                    Err(_) => Err(NotLoaded::Refused(DeclarativeError::Conflict(
                        "the configuration could not be read".to_owned(),
                    ))),
                }
            }
        }
    }
}

async fn by_kind_and_id(store: &Store) -> Result<Document, Problem> {
    let mut entities = Document::new();
    for record in store.everything(&kinds()).await?.records {
        let of_kind = entities.entry(record.kind).or_insert_with(|| json!({}));
        if let Value::Object(of_kind) = of_kind {
            of_kind.insert(record.id, record.body);
        }
    }
    Ok(entities)
}

fn flag(arguments: &Arguments, name: &str) -> bool {
    let value = arguments.get(name).map(str::to_ascii_lowercase);
    value.is_some_and(|value| matches!(value.as_str(), "1" | "true" | "on" | "yes"))
}

fn refused(error: DeclarativeError, flatten: bool) -> Problem {
    match error {
        DeclarativeError::Invalid(invalid) => Problem::Declarative { invalid, flatten },
        DeclarativeError::Conflict(text) => Problem::Bad(text),
        DeclarativeError::Busy => Problem::Busy,
        DeclarativeError::Store(error) => error.into(),
    }
}

/// Refuses what needs a database: every write of entities.
pub(crate) fn without_database(
    endpoint: Endpoint,
    method: &str,
    parameters: &[String],
) -> Result<(), Problem> {
    let (entity, key) = match endpoint {
        Endpoint::Collection(place) => (place.entity.name, None),
        Endpoint::Single(place) => {
            let key = place
                .entity
                .endpoint_key
                .or(place.parent.and(place.entity.nested_key));
            let is_name = parameters.last().is_some_and(|text| !id::is_uuid(text));
            (place.entity.name, key.filter(|_| is_name))
        }
        Endpoint::Target(_, foreign) => (foreign.entity, None),
        Endpoint::Targets(TargetEndpoint::Collection) => ("targets", None),
        Endpoint::Targets(TargetEndpoint::Single) => {
            let is_name = parameters.last().is_some_and(|text| !id::is_uuid(text));
            ("targets", is_name.then_some("target"))
        }
        _ => return Ok(()),
    };
    let verb = match method {
        "POST" => "create",
        "PUT" => "create or update",
        "PATCH" => "update",
        "DELETE" => "remove",
        _ => return Ok(()),
    };
    let by = key.map_or_else(String::new, |key| format!(" by '{key}'"));
    Err(Problem::Unsupported(format!(
        "cannot {verb} '{entity}' entities{by} when not using a database"
    )))
}
