//! rate-limiting-merged: limits for services and consumers in a chain of gateways (Telekom's variant of
//! Kong's rate-limiting; Kong 3.9.3).
//!
//! What the next gateway announces is merged into the response, and what it refused does not count here.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::StatusCode;
use o28m_core::Ambient;
use o28m_gateway::{Access, BadConfig, Exchange, Plugin, PluginKind};
use o28m_kong::PluginEntity;
use serde::Deserialize;
use serde_json::Value;

use super::local::Local;
use super::shared::{Server, Shared};
use super::window::Limits;
use super::{Counter, Limiter, Policy, Scope, Ticket, smallest, value};
use crate::config;
use crate::redis::Clients;

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PolicyName {
    Local,
    Redis,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Dimension {
    Consumer,
    Service,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default = "local")]
    policy: PolicyName,
    #[serde(default = "yes")]
    fault_tolerant: bool,
    redis_host: Option<String>,
    redis_port: Option<u16>,
    redis_password: Option<String>,
    redis_username: Option<String>,
    #[serde(default)]
    redis_ssl: bool,
    #[serde(default)]
    redis_ssl_verify: bool,
    redis_server_name: Option<String>,
    redis_timeout: Option<f64>,
    redis_database: Option<i64>,
    #[serde(default)]
    hide_client_headers: bool,
    sync_rate: Option<f64>,
    omit_consumer: Option<String>,
    limits: BTreeMap<Dimension, Limits>,
}

fn local() -> PolicyName {
    PolicyName::Local
}

fn yes() -> bool {
    true
}

impl Config {
    fn server(&mut self) -> Server {
        let defaults = Server::default();
        Server {
            host: self.redis_host.take(),
            port: self.redis_port.unwrap_or(defaults.port),
            password: self.redis_password.take(),
            username: self.redis_username.take(),
            ssl: self.redis_ssl,
            ssl_verify: self.redis_ssl_verify,
            server_name: self.redis_server_name.take(),
            timeout: self.redis_timeout.unwrap_or(defaults.timeout),
            database: self.redis_database.unwrap_or(defaults.database),
        }
    }
}

/// Counters and connections live here: they outlast every change of the configuration.
pub(crate) struct Kind {
    local: Arc<Local>,
    clients: Clients,
    ambient: Ambient,
}

impl Kind {
    pub(crate) fn new(ambient: Ambient) -> Self {
        Self {
            local: Arc::default(),
            clients: Clients::default(),
            ambient,
        }
    }

    fn make(&self, config: &Value, scope: Scope) -> Result<Arc<dyn Plugin>, BadConfig> {
        let mut config: Config = config::read(config)?;
        if config.sync_rate.is_some_and(|rate| rate != -1.0) {
            return Err(BadConfig("sync_rate: only -1 is supported".into()));
        }
        let policy = match config.policy {
            PolicyName::Local => Policy::Local(self.local.clone()),
            PolicyName::Redis => Policy::Redis(Shared::new(&self.clients, config.server())),
        };
        Ok(Arc::new(Merged {
            limiter: Limiter {
                scope,
                policy,
                fault_tolerant: config.fault_tolerant,
                hide_client_headers: config.hide_client_headers,
                status: StatusCode::TOO_MANY_REQUESTS,
                message: "API rate limit exceeded".to_owned(),
                ambient: self.ambient.clone(),
            },
            omit_consumer: config.omit_consumer.unwrap_or_else(|| "gateway".to_owned()),
            limits: config.limits.into_iter().collect(),
        }))
    }
}

impl PluginKind for Kind {
    fn name(&self) -> &'static str {
        "rate-limiting-merged"
    }

    fn priority(&self) -> i32 {
        910
    }

    fn configure(&self, config: &Value) -> Result<Arc<dyn Plugin>, BadConfig> {
        self.make(config, Scope::default())
    }

    fn instantiate(&self, entity: &PluginEntity) -> Result<Arc<dyn Plugin>, BadConfig> {
        self.make(&entity.config, Scope::of(entity))
    }
}

struct Merged {
    limiter: Limiter,
    /// Custom id of the consumer that is not limited as one: the other gateways of the mesh.
    omit_consumer: String,
    limits: Vec<(Dimension, Limits)>,
}

impl Merged {
    /// Who is counted in a dimension; nobody when that is not known.
    fn identifier(&self, dimension: Dimension, exchange: &Exchange) -> Option<Arc<str>> {
        match dimension {
            Dimension::Service => {
                let service = exchange.service.as_ref()?;
                Some(Arc::from(service.id.as_str()))
            }
            Dimension::Consumer => {
                let consumer = exchange.consumer.as_ref()?;
                let custom_id = consumer.custom_id.as_deref().unwrap_or_default();
                (custom_id != self.omit_consumer).then(|| Arc::from(consumer.id.as_str()))
            }
        }
    }

    fn counters(&self, exchange: &Exchange) -> Vec<Counter> {
        let mut counters = Vec::with_capacity(6);
        for (dimension, limits) in &self.limits {
            let Some(identifier) = self.identifier(*dimension, exchange) else {
                continue;
            };
            counters.extend(limits.iter().map(|(period, limit)| Counter {
                identifier: identifier.clone(),
                period,
                limit,
            }));
        }
        counters
    }
}

/// The ticket of this plugin.
#[derive(Clone)]
struct Kept(Ticket);

impl Plugin for Merged {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        let counters = self.counters(exchange);
        self.limiter.check(exchange, counters, |exchange, ticket| {
            exchange.request.extensions.insert(Kept(ticket));
        })
    }

    fn header_filter(&self, exchange: &mut Exchange, response: &mut http::response::Parts) {
        let Some(Kept(ticket)) = exchange.request.extensions.remove() else {
            return;
        };
        if response.status == StatusCode::TOO_MANY_REQUESTS {
            self.limiter.release(&ticket.reservation);
            return;
        }
        for (name, own) in ticket.headers {
            let merged = smallest(&response.headers, &name).map_or(own, |other| own.min(other));
            response.headers.insert(name, value(merged));
        }
    }
}

#[cfg(test)]
#[path = "merged_tests.rs"]
mod tests;
