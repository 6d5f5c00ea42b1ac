//! Expressions evaluated over the parsed text, value by value.

use o28m_kong::expression::{Expression, Operator, Predicate, Value};

use crate::RequestHead;

pub(super) fn matches(
    expression: &Expression,
    protocols: &[String],
    head: &RequestHead<'_>,
) -> Option<usize> {
    let mut length = 0;
    let scheme = if head.server_name.is_some() {
        "https"
    } else {
        "http"
    };
    let only_tls = protocols.len() == 1 && protocols.first().is_some_and(|it| it == "https");
    let protocol = protocols.is_empty()
        || only_tls
        || protocols
            .iter()
            .any(|it| it.replace("grpcs", "https").replace("grpc", "http") == scheme);
    (evaluate(expression, head, &mut length) && protocol).then_some(length)
}

fn evaluate(expression: &Expression, head: &RequestHead<'_>, length: &mut usize) -> bool {
    match expression {
        Expression::All(parts) => parts.iter().all(|it| evaluate(it, head, length)),
        Expression::Any(parts) => parts.iter().any(|it| evaluate(it, head, length)),
        Expression::Not(inner) => !evaluate(inner, head, length),
        Expression::Predicate(predicate) => compare(predicate, head, length),
    }
}

fn compare(predicate: &Predicate, head: &RequestHead<'_>, length: &mut usize) -> bool {
    let values = values(&predicate.field, head);
    let mut results = Vec::new();
    for mut value in values {
        if predicate.lower
            && let Value::Text(text) = &value
        {
            value = Value::Text(text.to_lowercase());
        }
        let (fits, matched) = one(predicate, &value);
        if fits && predicate.field == "http.path" {
            *length = matched.unwrap_or(*length);
        }
        results.push(fits);
        if fits == predicate.any {
            break;
        }
    }
    if predicate.any {
        results.contains(&true)
    } else {
        !results.is_empty() && !results.contains(&false)
    }
}

/// Whether one value fits, and how many bytes of it matched where that is kept.
fn one(predicate: &Predicate, value: &Value) -> (bool, Option<usize>) {
    let wanted = &predicate.value;
    match (predicate.operator, value, wanted) {
        (Operator::Equals, Value::Text(own), Value::Text(text)) => (own == text, Some(text.len())),
        (Operator::Equals, ..) => (value == wanted, None),
        (Operator::Differs, ..) => (value != wanted, None),
        (Operator::Regex, Value::Text(own), Value::Text(pattern)) => {
            let found = super::regex(pattern.clone());
            let found = found.and_then(|it| it.find(own).map(|it| it.len()));
            (found.is_some(), found)
        }
        (Operator::Prefix, Value::Text(own), Value::Text(text)) => {
            (own.starts_with(text), Some(text.len()))
        }
        (Operator::Suffix, Value::Text(own), Value::Text(text)) => {
            (own.ends_with(text), Some(text.len()))
        }
        (Operator::Contains, Value::Text(own), Value::Text(text)) => (own.contains(text), None),
        (Operator::Greater, Value::Integer(own), Value::Integer(number)) => (own > number, None),
        (Operator::GreaterOrEqual, Value::Integer(own), Value::Integer(number)) => {
            (own >= number, None)
        }
        (Operator::Less, Value::Integer(own), Value::Integer(number)) => (own < number, None),
        (Operator::LessOrEqual, Value::Integer(own), Value::Integer(number)) => {
            (own <= number, None)
        }
        (Operator::In, Value::Address(own), Value::Network(network)) => {
            (network.contains(*own), None)
        }
        (Operator::NotIn, Value::Address(own), Value::Network(network)) => {
            (!network.contains(*own), None)
        }
        _ => (false, None),
    }
}

fn values(field: &str, head: &RequestHead<'_>) -> Vec<Value> {
    let text = |text: &str| Value::Text(text.to_owned());
    let (name, port) = match head.host.split_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|it| it.is_ascii_digit()) => {
            (name, port.parse().unwrap_or(i64::MAX))
        }
        _ => (head.host, i64::from(head.port)),
    };
    let parts: Vec<&str> = head.path.split('/').filter(|it| !it.is_empty()).collect();
    if let Some(name) = field.strip_prefix("http.headers.") {
        let mut found = Vec::new();
        head.headers.any(&name.replace('_', "-"), &mut |value| {
            found.push(text(value));
            false
        });
        return found;
    }
    if let Some(name) = field.strip_prefix("http.queries.") {
        let arguments = form_pairs(head.query);
        let fits = arguments.into_iter().filter(|(key, _)| key == name);
        return fits.map(|(_, value)| Value::Text(value)).collect();
    }
    let one = match field {
        "net.protocol" => Some(text(if head.server_name.is_some() {
            "https"
        } else {
            "http"
        })),
        "tls.sni" => head.server_name.filter(|it| !it.is_empty()).map(text),
        "http.method" => Some(text(head.method)),
        "http.host" => Some(name)
            .filter(|it| !it.is_empty() && it.len() <= 255)
            .map(text),
        "http.path" => Some(text(head.path)),
        "http.path.segments.len" => i64::try_from(parts.len()).ok().map(Value::Integer),
        "net.src.ip" => head.source.map(|it| Value::Address(it.ip())),
        "net.dst.ip" => head.destination.map(Value::Address),
        "net.src.port" => head.source.map(|it| Value::Integer(i64::from(it.port()))),
        "net.dst.port" | "net.port" => Some(Value::Integer(port)),
        _ => field.strip_prefix("http.path.segments.").and_then(|range| {
            let (first, last) = range.split_once('_').unwrap_or((range, range));
            let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
            if range.contains('_') && first >= last {
                return None;
            }
            Some(text(&parts.get(first..=last)?.join("/")))
        }),
    };
    one.into_iter().collect()
}

/// Names and values of a query without escapes.
fn form_pairs(query: &str) -> Vec<(String, String)> {
    let pairs = query
        .split('&')
        .map(|it| it.split_once('=').unwrap_or((it, "")));
    pairs
        .filter(|(key, _)| !key.is_empty())
        .map(|(key, value)| (key.to_owned(), value.replace('+', " ")))
        .collect()
}
