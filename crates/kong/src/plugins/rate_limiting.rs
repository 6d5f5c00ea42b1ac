use serde_json::{Value, json};

use crate::declared::HTTP_PROTOCOLS;
use crate::entity::Document;
use crate::formats;
use crate::plugins::PluginSchema;
use crate::schema::{Alias, Check, Complaint, EntityCheck, Field, Kind, Literal};
use crate::walk;

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "rate-limiting",
    version: "3.9.3",
    priority: 910,
    fields: &[
        HTTP_PROTOCOLS,
        Field::new("config", Kind::Record(CONFIG))
            .checks(&[Check::Value(ordered)])
            .aliases(ALIASES)
            .required(),
    ],
    checks: &[
        EntityCheck::AtLeastOneOf(&[
            "config.second",
            "config.minute",
            "config.hour",
            "config.day",
            "config.month",
            "config.year",
        ]),
        EntityCheck::Custom(&["config.policy", "config.redis"], server_for_redis),
        EntityCheck::Custom(&["config.limit_by", "config.header_name"], header_named),
        EntityCheck::Custom(&["config.limit_by", "config.path"], path_named),
        EntityCheck::Custom(&["config.policy", "config.sync_rate"], sync_rate),
    ],
};

const PERIODS: [&str; 6] = ["second", "minute", "hour", "day", "month", "year"];

const LIMIT_BY: &[&str] = &["consumer", "credential", "ip", "service", "header", "path"];

const CONFIG: &[Field] = &[
    limit("second"),
    limit("minute"),
    limit("hour"),
    limit("day"),
    limit("month"),
    limit("year"),
    Field::new("limit_by", Kind::String)
        .default(Literal::String("consumer"))
        .checks(&[Check::OneOf(LIMIT_BY)]),
    Field::new("header_name", Kind::String).checks(&[Check::Text(formats::header_name)]),
    Field::new("path", Kind::String).checks(&[Check::StartsWith("/"), Check::Text(formats::path)]),
    Field::new("policy", Kind::String)
        .default(Literal::String("local"))
        .checks(super::rate_limiting_merged::POLICIES),
    flag("fault_tolerant", true),
    Field::new("redis", Kind::Record(REDIS)).required(),
    flag("hide_client_headers", false),
    Field::new("error_code", Kind::Number)
        .default(Literal::Integer(429))
        // Kong takes any positive number and fails at run time on one that is no status of an error.
        .checks(&[Check::GreaterThan(0), Check::Between(400, 599)]),
    Field::new("error_message", Kind::String).default(Literal::String("API rate limit exceeded")),
    Field::new("sync_rate", Kind::Number)
        .default(Literal::Integer(-1))
        .required(),
];

const REDIS: &[Field] = &[
    Field::new("host", Kind::String).checks(&[Check::Text(formats::host)]),
    Field::new("port", Kind::Integer)
        .default(Literal::Integer(6379))
        .checks(&[Check::Between(0, 65535)]),
    Field::new("timeout", Kind::Integer)
        .default(Literal::Integer(2000))
        .checks(&[Check::Between(0, 2_147_483_646)]),
    Field::new("username", Kind::String).referenceable(),
    Field::new("password", Kind::String)
        .checks(&[Check::LengthMin(0)])
        .referenceable(),
    Field::new("database", Kind::Integer).default(Literal::Integer(0)),
    Field::new("ssl", Kind::Boolean).default(Literal::Boolean(false)),
    Field::new("ssl_verify", Kind::Boolean).default(Literal::Boolean(false)),
    Field::new("server_name", Kind::String).checks(&[Check::Text(formats::server_name)]),
];

const ALIASES: &[Alias] = &[
    alias("redis_host", "host"),
    alias("redis_port", "port"),
    alias("redis_password", "password"),
    alias("redis_username", "username"),
    alias("redis_ssl", "ssl"),
    alias("redis_ssl_verify", "ssl_verify"),
    alias("redis_server_name", "server_name"),
    alias("redis_timeout", "timeout"),
    alias("redis_database", "database"),
];

const fn alias(name: &'static str, member: &'static str) -> Alias {
    Alias {
        name,
        record: "redis",
        member,
    }
}

const fn flag(name: &'static str, default: bool) -> Field {
    Field::new(name, Kind::Boolean)
        .default(Literal::Boolean(default))
        .required()
}

const fn limit(name: &'static str) -> Field {
    Field::new(name, Kind::Number).checks(&[Check::GreaterThan(0)])
}

fn ordered(config: &Value) -> Complaint {
    super::periods_in_order(config, &PERIODS).map(Into::into)
}

/// `field` has a value that asks for another one, which is missing.
fn missing(field: &str, error: Value, messages: &mut Vec<String>, errors: &mut Document) {
    messages.push(format!(
        "failed conditional validation given value of field 'config.{field}'"
    ));
    let config = errors.entry("config").or_insert_with(|| json!({}));
    if let (Value::Object(config), Value::Object(error)) = (config, error) {
        config.extend(error);
    }
}

fn server_for_redis(plugin: &Document, messages: &mut Vec<String>, errors: &mut Document) {
    if walk::at(plugin, "config.policy") == "redis"
        && walk::at(plugin, "config.redis.host").is_null()
    {
        let error = json!({"redis": {"host": "required field missing"}});
        missing("policy", error, messages, errors);
    }
}

fn header_named(plugin: &Document, messages: &mut Vec<String>, errors: &mut Document) {
    named("header", "header_name", plugin, messages, errors);
}

fn path_named(plugin: &Document, messages: &mut Vec<String>, errors: &mut Document) {
    named("path", "path", plugin, messages, errors);
}

fn named(
    limit_by: &str,
    field: &str,
    plugin: &Document,
    messages: &mut Vec<String>,
    errors: &mut Document,
) {
    let value = walk::at(plugin, &format!("config.{field}"));
    if walk::at(plugin, "config.limit_by") == limit_by && value.is_null() {
        let error = json!({field: "required field missing"});
        missing("limit_by", error, messages, errors);
    }
}

fn sync_rate(plugin: &Document, messages: &mut Vec<String>, _: &mut Document) {
    let rate = walk::at(plugin, "config.sync_rate").as_f64();
    let Some(rate) = rate.filter(|rate| *rate != -1.0) else {
        return;
    };
    let message = if walk::at(plugin, "config.policy") != "redis" {
        "sync_rate can only be used with the redis policy"
    } else if rate < 0.02 {
        "sync_rate must be greater than 0.02, or -1 to disable"
    } else {
        "sync_rate other than -1 is not supported: counters are synchronised with every request"
    };
    messages.push(message.to_owned());
}
