use serde_json::Value;

use super::delivery::{CUSTOM_FIELDS, limit, members, queue};
use crate::formats;
use crate::plugins::PluginSchema;
use crate::schema::{Check, Complaint, Field, Kind, Literal};

pub(super) const SCHEMA: PluginSchema = PluginSchema {
    name: "http-log",
    version: "3.9.3",
    priority: 12,
    fields: &[Field::new("config", Kind::Record(CONFIG))
        .checks(&[Check::Value(one_authorization)])
        .required()],
    checks: &[],
};

const CONFIG: &[Field] = &[
    Field::new("http_endpoint", Kind::String)
        .checks(&[Check::Text(endpoint)])
        .referenceable()
        .required(),
    Field::new("method", Kind::String)
        .default(Literal::String("POST"))
        .checks(&[Check::OneOf(&["POST", "PUT", "PATCH"])]),
    Field::new("content_type", Kind::String)
        .default(Literal::String("application/json"))
        .checks(&[Check::OneOf(&[
            "application/json",
            "application/json; charset=utf-8",
        ])]),
    limit("timeout", 10_000),
    limit("keepalive", 60_000),
    Field::new("retry_count", Kind::Integer),
    Field::new("queue_size", Kind::Integer).checks(&[Check::Between(1, 1_000_000)]),
    Field::new("flush_timeout", Kind::Number).checks(&[Check::Between(0, 3600)]),
    Field::new(
        "headers",
        Kind::Map {
            keys: &Field::element(
                Kind::String,
                &[Check::Text(formats::header_name), Check::Text(own_header)],
            ),
            values: &Field::element(Kind::String, &[Check::Text(formats::header_value)])
                .referenceable(),
        },
    ),
    queue(&QUEUE),
    CUSTOM_FIELDS,
];

static QUEUE: [Field; 8] = members(1);

/// A URL, perhaps with a user and a password.
fn endpoint(text: &str) -> Complaint {
    let Some((scheme, rest)) = text.split_once("//") else {
        return formats::url(text);
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let host = rest.split_at_checked(end).and_then(|(authority, _)| {
        let (user, _) = authority.rsplit_once('@')?;
        rest.get(user.len() + 1..)
    });
    formats::url(&format!("{scheme}//{}", host.unwrap_or(rest)))
}

fn own_header(name: &str) -> Complaint {
    const OWN: [&str; 5] = [
        "Host",
        "Content-Length",
        "Content-Type",
        // Kong takes these, and sends what no server understands.
        "Connection",
        "Transfer-Encoding",
    ];
    let own = OWN.iter().find(|it| it.eq_ignore_ascii_case(name));
    own.map(|it| format!("cannot contain '{it}' header").into())
}

fn one_authorization(config: &Value) -> Complaint {
    let endpoint = config.get("http_endpoint")?.as_str()?;
    let headers = config.get("headers")?.as_object()?;
    let has_user = endpoint.contains('@');
    let has_header = headers
        .keys()
        .any(|it| it.eq_ignore_ascii_case("authorization"));
    (has_user && has_header).then(|| {
        "specifying both an 'Authorization' header and user info in 'http_endpoint' is not allowed"
            .into()
    })
}
