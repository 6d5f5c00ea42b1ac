//! Pages about the node: `/`, `/status`, `/endpoints`, plugins, schemas, versions.

use http::{Response, StatusCode};
use o28m_kong::{PluginSchema, plugin, plugins};
use o28m_net::Body;
use o28m_store::Store;
use serde_json::{Map, Value, json};

use crate::api::Api;
use crate::endpoints::Page;
use crate::list::Arguments;
use crate::operations::tasks;
use crate::problem::Problem;
use crate::reply;

impl Api {
    /// Answers a page; `parameter` is the name in its path.
    pub(crate) async fn page(
        &self,
        page: Page,
        parameter: &str,
        arguments: &Arguments,
    ) -> Result<Response<Body>, Problem> {
        let body = match page {
            Page::Root => self.root().await?,
            Page::Status => self.status(arguments)?,
            Page::Endpoints => json!({"data": self.table().paths()}),
            Page::EnabledPlugins => json!({"enabled_plugins": self.enabled_plugins().as_ref()}),
            Page::ConfigVersion => self.config_version().await?,
            Page::EntitySchema => o28m_kong::entity_schema(parameter)
                .ok_or_else(|| Problem::Unknown(format!("No entity named '{parameter}'")))?,
            Page::PluginSchema => self.plugin_schema(parameter)?.describe(),
            Page::VaultSchema => o28m_kong::vault_schema(parameter)
                .ok_or_else(|| Problem::Unknown(format!("No vault named '{parameter}'")))?,
            Page::FilterSchema => {
                return Err(Problem::Unknown(format!("Filter '{parameter}' not found")));
            }
            Page::Robots => {
                let text = "User-agent: *\nDisallow: /";
                return Ok(reply::text(StatusCode::OK, "text/plain", text));
            }
        };
        Ok(reply::json(StatusCode::OK, &body))
    }

    fn status(&self, arguments: &Arguments) -> Result<Value, Problem> {
        let mut body = status_body(arguments, Some(self.store()), self.requests())?;
        self.tell_configuration_hash(&mut body);
        Ok(body)
    }

    /// Without a database, puts the hash of the configuration in its place.
    pub(crate) fn tell_configuration_hash(&self, body: &mut Value) {
        if let (Some(loaded), Value::Object(members)) = (self.loaded(), body) {
            members.remove("database");
            members.insert("configuration_hash".to_owned(), json!(loaded.hash()));
        }
    }

    fn plugin_schema(&self, name: &str) -> Result<&'static PluginSchema, Problem> {
        plugin(name)
            .filter(|plugin| self.enabled_plugins().iter().any(|it| it == plugin.name))
            .ok_or_else(|| Problem::Unknown(format!("No plugin named '{name}'")))
    }

    async fn root(&self) -> Result<Value, Problem> {
        let enabled = self.enabled_plugins();
        let available: Map<String, Value> = plugins()
            .iter()
            .filter(|plugin| enabled.iter().any(|name| name == plugin.name))
            .map(|plugin| {
                let about = json!({"version": plugin.version, "priority": plugin.priority});
                (plugin.name.to_owned(), about)
            })
            .collect();
        let loaded: Map<String, Value> = enabled
            .iter()
            .map(|name| (name.clone(), json!(true)))
            .collect();
        Ok(json!({
            "tagline": "Welcome to kong",
            "version": self.version(),
            "edition": "community",
            "o28m_version": env!("CARGO_PKG_VERSION"),
            "hostname": self.hostname(),
            "node_id": self.node_id(),
            "timers": {"running": tasks(), "pending": 0},
            "plugins": {
                "available_on_server": available,
                "enabled_in_cluster": self.configured_plugins().await?,
            },
            "configuration": self.settings(enabled, loaded),
            "pids": {"master": std::process::id(), "workers": [std::process::id()]},
        }))
    }

    /// The node's settings; what the Admin API itself knows better is its own.
    fn settings(&self, enabled: &[String], loaded: Map<String, Value>) -> Map<String, Value> {
        let mut settings = self.configuration().clone();
        // Kong's word between info and warn, which are next to each other here.
        let is_notice = settings.get("log_level").is_some_and(|it| it == "notice");
        let level = match self.log_level().word() {
            word if is_notice && word == "info" => "notice".to_owned(),
            word => word,
        };
        let own = json!({
            "database": if self.loaded().is_some() { "off" } else { "postgres" },
            "pg_password": "******",
            "router_flavor": o28m_kong::router_flavor().name(),
            "worker_consistency": if self.is_strict() { "strict" } else { "eventual" },
            "log_level": level,
            "plugins": enabled,
            "loaded_plugins": loaded,
        });
        if let Value::Object(own) = own {
            settings.extend(own);
        }
        settings
    }

    /// Names of plugins that have at least one instance, found in the index of scopes: its values are
    /// JSON arrays that begin with the name.
    async fn configured_plugins(&self) -> Result<Vec<&'static str>, Problem> {
        let prefixes = plugins().iter().map(|it| format!("[\"{}\",", it.name));
        let prefixes: Vec<_> = prefixes.collect();
        let prefixes: Vec<_> = prefixes.iter().map(String::as_str).collect();
        let found = self
            .store()
            .occurring("plugins", "scope", &prefixes)
            .await?;
        let found = plugins().iter().zip(found).filter(|(_, found)| *found);
        Ok(found.map(|(plugin, _)| plugin.name).collect())
    }
}

/// The body of `/status`.
pub(crate) fn status_body(
    arguments: &Arguments,
    store: Option<&Store>,
    requests: u64,
) -> Result<Value, Problem> {
    let unit = arguments.get("unit").unwrap_or("m");
    let scale: usize = arguments
        .get("scale")
        .and_then(|scale| scale.parse().ok())
        .filter(|scale| *scale <= 16)
        .unwrap_or(2);
    let resident = resident_bytes();
    let memory = match unit {
        "b" | "B" => json!(resident),
        "k" | "K" => json!(scaled(resident, 1024.0, scale, "KiB")),
        "m" | "M" => json!(scaled(resident, 1024.0 * 1024.0, scale, "MiB")),
        "g" | "G" => json!(scaled(resident, 1024.0 * 1024.0 * 1024.0, scale, "GiB")),
        other => {
            return Err(Problem::Bad(format!(
                "invalid unit '{other}' (expected 'k/K', 'm/M', or 'g/G')"
            )));
        }
    };
    let mut body = json!({
        "memory": {
            "lua_shared_dicts": {},
            "workers_lua_vms": [{"pid": std::process::id(), "http_allocated_gc": memory}],
        },
        "server": {"total_requests": requests},
    });
    if let (Some(store), Value::Object(members)) = (store, &mut body) {
        let database = json!({"reachable": store.is_reachable()});
        members.insert("database".to_owned(), database);
    }
    Ok(body)
}

fn scaled(bytes: u64, unit: f64, scale: usize, name: &str) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with a few digits")]
    let value = bytes as f64 / unit;
    format!("{value:.scale$} {name}")
}

/// Memory of this process in bytes; 0 where the system does not tell.
#[must_use]
pub fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line
        .and_then(|line| line.split_whitespace().next())
        .and_then(|number| number.parse::<u64>().ok());
    kilobytes.unwrap_or(0).saturating_mul(1024)
}
