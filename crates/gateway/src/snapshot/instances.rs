//! Plugin instances of stored entities; what cannot be used closes its scope.

use std::sync::Arc;

use http::StatusCode;
use o28m_kong::PluginEntity;
use o28m_store::Record;
use serde_json::{Value, json};

use super::plugins::{Ranked, Scope};
use super::skipped::Broken;
use super::{Compiler, Instance, Snapshot};
use crate::{Access, Exchange, Plugin, Verdict, errors};

impl Snapshot {
    /// Without its configuration a plugin cannot do its work, which may be to keep strangers out: what
    /// it would have seen is answered with an error instead of being let through.
    pub(super) fn put_plugin(
        &mut self,
        compiler: &Compiler,
        record: Record,
        previous: Option<&Self>,
        resolved: Result<bool, Broken>,
    ) -> Result<(), Broken> {
        if !is_for_requests(&record.body) {
            return Ok(());
        }
        let secret = matches!(resolved, Ok(true));
        let version = record.version;
        let known = previous.and_then(|it| it.plugins.get(&record.id));
        let known = known.filter(|it| it.version == version && it.is_sound() && !secret);
        if let Some(known) = known {
            self.plugins.put(known.clone());
            return Ok(());
        }
        let scope = Scope::guess(&record.body);
        let (kind, entity) = match kind_of(compiler, record.body, resolved) {
            Ok(found) => found,
            Err(error) => {
                let rank = compiler.kinds.closed_rank();
                let instance = Instance::closed(&record.id, rank, scope, Arc::new(Closed), version);
                self.plugins.put_closed(Arc::new(instance));
                return Err(error);
            }
        };
        let (rank, kind) = kind;
        let (plugin, outcome) = match compiler.kinds.instantiate(kind.as_ref(), &entity) {
            Ok(plugin) => (plugin, Ok(())),
            Err(error) => (
                Arc::new(Closed) as Arc<dyn Plugin>,
                Err(Broken::from(error)),
            ),
        };
        let instance = Instance::new(&entity, rank, kind.name(), plugin, version);
        self.plugins.put(Arc::new(match &outcome {
            Ok(()) => instance,
            Err(_) => instance.unsound(),
        }));
        match secret {
            true => outcome.map_err(Broken::discreet),
            false => outcome,
        }
    }
}

/// Disabled plugins do not exist, and neither do those of protocols below HTTP.
fn is_for_requests(plugin: &Value) -> bool {
    let enabled = plugin.get("enabled") != Some(&Value::Bool(false));
    let protocols = plugin.get("protocols").and_then(Value::as_array);
    let of_streams =
        |it: &Value| matches!(it.as_str(), Some("tcp" | "tls" | "tls_passthrough" | "udp"));
    enabled && protocols.is_none_or(|it| it.is_empty() || !it.iter().all(of_streams))
}

/// The kind of a plugin and what it is configured with.
fn kind_of(
    compiler: &Compiler,
    body: Value,
    resolved: Result<bool, Broken>,
) -> Result<(Ranked<'_>, PluginEntity), Broken> {
    let secret = resolved?;
    let entity = serde_json::from_value::<PluginEntity>(body).map_err(Broken::from);
    let entity = match secret {
        true => entity.map_err(Broken::discreet)?,
        false => entity?,
    };
    match compiler.kinds.find(&entity.name) {
        Some(kind) => Ok((kind, entity)),
        None => Err(Broken::Plugin(entity.name)),
    }
}

/// Stands in for a plugin that cannot be used.
struct Closed;

impl Plugin for Closed {
    fn access<'a>(&'a self, _: &'a mut Exchange) -> Access<'a> {
        let body = json!({"message": "An unexpected error occurred"});
        let response = errors::exit(StatusCode::INTERNAL_SERVER_ERROR, &body);
        Access::Now(Verdict::Respond(response))
    }
}
