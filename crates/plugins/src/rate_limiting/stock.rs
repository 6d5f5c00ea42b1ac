//! rate-limiting: limits for consumers, credentials, addresses, services, headers or paths (Kong 3.9.3).

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use http::header::HeaderName;
use o28m_core::Ambient;
use o28m_gateway::{Access, BadConfig, Exchange, Plugin, PluginKind};
use o28m_kong::PluginEntity;
use serde::Deserialize;
use serde_json::Value;

use super::local::Local;
use super::shared::{Server, Shared};
use super::window::Limits;
use super::{Counter, Limiter, Policy, Scope, Ticket, value};
use crate::config;
use crate::redis::Clients;

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PolicyName {
    #[default]
    Local,
    Redis,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LimitBy {
    #[default]
    Consumer,
    Credential,
    Ip,
    Service,
    Header,
    Path,
}

#[derive(Deserialize)]
struct Config {
    #[serde(flatten)]
    limits: Limits,
    #[serde(default)]
    limit_by: LimitBy,
    header_name: Option<String>,
    path: Option<String>,
    #[serde(default)]
    policy: PolicyName,
    fault_tolerant: Option<bool>,
    redis: Option<Server>,
    #[serde(default)]
    hide_client_headers: bool,
    error_code: Option<f64>,
    error_message: Option<String>,
    sync_rate: Option<f64>,
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
        let config: Config = config::read(config)?;
        if config.sync_rate.is_some_and(|rate| rate != -1.0) {
            return Err(BadConfig("sync_rate: only -1 is supported".into()));
        }
        if config.limits.iter().next().is_none() {
            return Err(BadConfig("no limit is set".into()));
        }
        let code = config.error_code.unwrap_or(429.0);
        let status = config::status(code)
            .ok_or_else(|| BadConfig(format!("{code} is no status of a response")))?;
        let message = config.error_message;
        let policy = match config.policy {
            PolicyName::Local => Policy::Local(self.local.clone()),
            PolicyName::Redis => {
                let server = config.redis.unwrap_or_default();
                Policy::Redis(Shared::new(&self.clients, server))
            }
        };
        Ok(Arc::new(RateLimiting {
            limiter: Limiter {
                scope,
                policy,
                fault_tolerant: config.fault_tolerant.unwrap_or(true),
                hide_client_headers: config.hide_client_headers,
                status,
                message: message.unwrap_or_else(|| "API rate limit exceeded".to_owned()),
                ambient: self.ambient.clone(),
            },
            limits: config.limits,
            by: by(config.limit_by, config.header_name, config.path)?,
        }))
    }
}

fn by(
    limit_by: LimitBy,
    header_name: Option<String>,
    path: Option<String>,
) -> Result<By, BadConfig> {
    let missing = |name: &str| BadConfig(format!("{name}: required field missing"));
    Ok(match limit_by {
        LimitBy::Consumer => By::Consumer,
        LimitBy::Credential => By::Credential,
        LimitBy::Ip => By::Ip,
        LimitBy::Service => By::Service,
        LimitBy::Header => {
            let name = header_name.ok_or_else(|| missing("header_name"))?;
            By::Header(config::header_name(&name)?)
        }
        LimitBy::Path => By::Path(path.ok_or_else(|| missing("path"))?),
    })
}

impl PluginKind for Kind {
    fn name(&self) -> &'static str {
        "rate-limiting"
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

/// Who is counted; the client's address where that is not known.
enum By {
    Consumer,
    Credential,
    Ip,
    Service,
    Header(HeaderName),
    Path(String),
}

/// Longest value of a header that names a counter itself; longer ones are named by their SHA-256, so
/// that clients do not decide how much is kept.
const HEADER_BYTES_MAX: usize = 128;

fn short(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) if text.len() <= HEADER_BYTES_MAX => text.to_owned(),
        _ => o28m_jose::base64url(digest(&SHA256, value).as_ref()),
    }
}

struct RateLimiting {
    limiter: Limiter,
    limits: Limits,
    by: By,
}

impl RateLimiting {
    fn identifier(&self, exchange: &Exchange) -> Option<String> {
        let credential = || exchange.credential.as_ref()?.id.clone();
        match &self.by {
            By::Consumer => {
                let consumer = exchange.consumer.as_ref().map(|it| it.id.clone());
                consumer.or_else(credential)
            }
            By::Credential => credential(),
            By::Ip => None,
            By::Service => exchange.service.as_ref().map(|it| it.id.clone()),
            By::Header(name) => {
                let value = exchange.request.headers.get(name)?;
                Some(short(value.as_bytes()))
            }
            By::Path(path) => (exchange.path == *path).then(|| path.clone()),
        }
    }
}

/// The ticket of this plugin.
#[derive(Clone)]
struct Kept(Ticket);

impl Plugin for RateLimiting {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        let identifier = self.identifier(exchange);
        let identifier = identifier.unwrap_or_else(|| exchange.client_ip.to_string());
        let identifier: Arc<str> = Arc::from(identifier);
        let counters = self.limits.iter().map(|(period, limit)| Counter {
            identifier: identifier.clone(),
            period,
            limit,
        });
        let counters = counters.collect();
        self.limiter.check(exchange, counters, |exchange, ticket| {
            exchange.request.extensions.insert(Kept(ticket));
        })
    }

    fn header_filter(&self, exchange: &mut Exchange, response: &mut http::response::Parts) {
        let Some(Kept(ticket)) = exchange.request.extensions.remove() else {
            return;
        };
        for (name, number) in ticket.headers {
            response.headers.insert(name, value(number));
        }
    }
}

#[cfg(test)]
#[path = "stock_tests.rs"]
mod tests;
