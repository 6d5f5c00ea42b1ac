use serde_json::Value;

use crate::declared::HTTP_PROTOCOLS;
use crate::formats;
use crate::plugins::PluginSchema;
use crate::schema::{Check, Complaint, Field, Kind, Literal};

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "rate-limiting-merged",
    version: "3.9.3",
    priority: 910,
    fields: &[
        HTTP_PROTOCOLS,
        Field::new("config", Kind::Record(CONFIG)).required(),
    ],
    checks: &[],
};

/// Where counters may live. `cluster` is refused as by a Kong without database.
pub(super) const POLICIES: &[Check] = &[Check::LengthMin(0), Check::OneOf(&["local", "redis"])];

const CONFIG: &[Field] = &[
    Field::new("policy", Kind::String)
        .default(Literal::String("local"))
        .checks(POLICIES),
    flag("fault_tolerant", true),
    Field::new("redis_host", Kind::String).checks(&[Check::Text(formats::host)]),
    Field::new("redis_port", Kind::Integer)
        .default(Literal::Integer(6379))
        .checks(&[Check::Between(0, 65535)]),
    Field::new("redis_password", Kind::String).checks(&[Check::LengthMin(0)]),
    Field::new("redis_username", Kind::String),
    flag("redis_ssl", false),
    flag("redis_ssl_verify", false),
    Field::new("redis_server_name", Kind::String).checks(&[Check::Text(formats::server_name)]),
    Field::new("redis_timeout", Kind::Number).default(Literal::Integer(2000)),
    Field::new("redis_database", Kind::Integer).default(Literal::Integer(0)),
    flag("hide_client_headers", false),
    Field::new("sync_rate", Kind::Number)
        .default(Literal::Integer(-1))
        .checks(&[Check::Value(at_once)])
        .required(),
    Field::new("omit_consumer", Kind::String)
        .default(Literal::String("gateway"))
        .required(),
    Field::new(
        "limits",
        Kind::Map {
            keys: &Field::element(Kind::String, &[Check::OneOf(&["service", "consumer"])]),
            values: &Field::element(
                Kind::Record(LIMITS),
                &[Check::Value(ordered), Check::Value(any_limit)],
            )
            .required(),
        },
    )
    .checks(&[Check::LengthMin(1)])
    .required(),
];

const PERIODS: [&str; 3] = ["second", "minute", "hour"];

const LIMITS: &[Field] = &[limit("second"), limit("minute"), limit("hour")];

const fn flag(name: &'static str, default: bool) -> Field {
    Field::new(name, Kind::Boolean)
        .default(Literal::Boolean(default))
        .required()
}

const fn limit(name: &'static str) -> Field {
    Field::new(name, Kind::Number).checks(&[Check::GreaterThan(0)])
}

/// Counters are kept in step with every request; a slower exchange is not offered.
fn at_once(value: &Value) -> Complaint {
    (value.as_f64() != Some(-1.0))
        .then(|| "only -1 is supported: counters are synchronised with every request".into())
}

/// A longer period must not allow less than a shorter one.
fn ordered(limits: &Value) -> Complaint {
    super::periods_in_order(limits, &PERIODS).map(Into::into)
}

fn any_limit(limits: &Value) -> Complaint {
    let set = |period: &str| limits.get(period).is_some_and(|limit| !limit.is_null());
    (!PERIODS.iter().any(|period| set(period))).then(|| {
        "at least one of these fields must be non-empty: 'second', 'minute', 'hour'".into()
    })
}
