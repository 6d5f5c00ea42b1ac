//! Configuration of the plugins this build executes, one module each (spec gateway-plugins 4).

mod acl;
mod basic_auth;
mod correlation_id;
mod cors;
mod delivery;
mod file_log;
mod http_log;
mod ip_restriction;
mod jwt_keycloak;
mod key_auth;
mod opentelemetry;
mod prometheus;
mod rate_limiting;
mod rate_limiting_merged;
mod request_size_limiting;
mod request_termination;
mod request_transformer;
mod response_transformer;
mod tcp_log;
mod tracing;
mod udp_log;
mod zipkin;

use serde_json::Value;

use crate::describe;
use crate::schema::{EntityCheck, Field};

/// What a plugin's configuration looks like.
pub struct PluginSchema {
    /// Kong's name of it, such as `acl`.
    pub name: &'static str,
    /// Version of the original it stands in for.
    pub version: &'static str,
    /// Higher runs earlier.
    pub priority: i32,
    /// The fields of the plugin entity that the plugin decides on, `config` among them.
    pub(crate) fields: &'static [Field],
    /// Checks over several fields of the plugin entity.
    pub(crate) checks: &'static [EntityCheck],
}

impl PluginSchema {
    /// The body of `GET /schemas/plugins/<name>`.
    #[must_use]
    pub fn describe(&self) -> Value {
        describe::schema(self.fields, self.checks)
    }
}

static PLUGINS: &[PluginSchema] = &[
    acl::SCHEMA,
    basic_auth::SCHEMA,
    correlation_id::SCHEMA,
    cors::SCHEMA,
    file_log::SCHEMA,
    http_log::SCHEMA,
    ip_restriction::SCHEMA,
    jwt_keycloak::SCHEMA,
    key_auth::SCHEMA,
    opentelemetry::SCHEMA,
    prometheus::SCHEMA,
    rate_limiting::SCHEMA,
    rate_limiting_merged::SCHEMA,
    request_size_limiting::SCHEMA,
    request_termination::SCHEMA,
    request_transformer::SCHEMA,
    response_transformer::SCHEMA,
    tcp_log::SCHEMA,
    udp_log::SCHEMA,
    zipkin::SCHEMA,
];

/// Every plugin whose configuration is declared, by name.
#[must_use]
pub fn plugins() -> &'static [PluginSchema] {
    PLUGINS
}

/// The plugin of that name.
#[must_use]
pub fn plugin(name: &str) -> Option<&'static PluginSchema> {
    PLUGINS.iter().find(|plugin| plugin.name == name)
}

/// Complains when a limit of a longer period is below that of a shorter one; `periods` ascend.
fn periods_in_order(limits: &Value, periods: &[&str]) -> Option<String> {
    let given: Vec<(&str, f64)> = periods
        .iter()
        .filter_map(|period| Some((*period, limits.get(period)?.as_f64()?)))
        .collect();
    given.iter().enumerate().find_map(|(at, (shorter, lower))| {
        let (longer, upper) = given.iter().skip(at).find(|(_, upper)| upper < lower)?;
        Some(format!(
            "The limit for {longer}({upper:.1}) cannot be lower than the limit for {shorter}({lower:.1})"
        ))
    })
}
