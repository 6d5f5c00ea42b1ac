//! http-log, file-log, tcp-log and udp-log: one entry for each request, sent on by a delivery queue
//! (Kong 3.9.3; spec gateway-plugins 5.5).

mod custom;
mod entry;
mod file;
mod http;
mod socket;

pub(crate) use file::kind as file;
pub(crate) use http::kind as http;
pub(crate) use socket::{tcp, udp};

use std::collections::BTreeMap;
use std::sync::Arc;

use o28m_gateway::{Access, BadConfig, Exchange, Needs, Plugin, PluginKind};
use o28m_kong::PluginEntity;
use serde_json::Value;

use crate::delivery::{Deliver, Deliveries, Queue, Settings};
use custom::Customs;

/// What a configuration asks for: who takes entries how, and what is changed in them.
struct Plan {
    settings: Settings,
    deliver: Arc<dyn Deliver>,
    /// Each entry ends with a line break.
    lines: bool,
    customs: BTreeMap<String, String>,
}

/// A kind of log, told apart by where entries go.
pub(crate) struct Kind {
    name: &'static str,
    priority: i32,
    deliveries: Deliveries,
    plan: fn(&Deliveries, &Value) -> Result<Plan, BadConfig>,
}

impl Kind {
    fn make(&self, id: &str, config: &Value) -> Result<Arc<dyn Plugin>, BadConfig> {
        let plan = (self.plan)(&self.deliveries, config)?;
        let queue = Queue::new(&self.deliveries, self.name, id, plan.settings, plan.deliver);
        Ok(Arc::new(Log {
            queue,
            lines: plan.lines,
            customs: Customs::new(&plan.customs)?,
        }))
    }
}

impl PluginKind for Kind {
    fn name(&self) -> &'static str {
        self.name
    }

    fn priority(&self) -> i32 {
        self.priority
    }

    fn configure(&self, config: &Value) -> Result<Arc<dyn Plugin>, BadConfig> {
        self.make("", config)
    }

    fn instantiate(&self, entity: &PluginEntity) -> Result<Arc<dyn Plugin>, BadConfig> {
        self.make(&entity.id, &entity.config)
    }
}

struct Log {
    queue: Queue,
    lines: bool,
    customs: Customs,
}

impl Plugin for Log {
    fn needs(&self) -> Needs {
        Needs {
            traffic: true,
            upstream_health: false,
        }
    }

    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        exchange.observed.closely = true;
        Access::CONTINUE
    }

    fn header_filter(&self, exchange: &mut Exchange, _: &mut ::http::response::Parts) {
        exchange.observed.wants_head = true;
    }

    fn log(&self, exchange: &Exchange) {
        let mut entry = entry::of(exchange);
        self.customs.apply(exchange, &mut entry);
        let mut text = entry.to_string();
        if self.lines {
            text.push('\n');
        }
        self.queue.push(text.into());
    }
}

#[cfg(test)]
mod tests;
