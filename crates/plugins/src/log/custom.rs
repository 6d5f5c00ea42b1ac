//! `custom_fields_by_lua`: members that are added to entries or taken out of them. Of Lua there are
//! `return nil`, literals, the expressions of request-transformer and `kong.request.get_header`.

use std::collections::BTreeMap;

use http::header::HeaderName;
use o28m_gateway::{BadConfig, Exchange};
use serde_json::{Value, json};

use crate::config;
use crate::request_transformer::Expression;

/// Bytes of a value: clients decide about many of them.
const VALUE_BYTES_MAX: usize = 8 * 1024;

/// Changes of entries, by the path of the member.
pub(super) struct Customs(Vec<(Vec<String>, Custom)>);

enum Custom {
    Remove,
    Literal(Value),
    Header(HeaderName),
    Expression(Expression),
}

impl Customs {
    /// # Errors
    /// [`BadConfig`] for Lua that is more than the above.
    pub(super) fn new(fields: &BTreeMap<String, String>) -> Result<Self, BadConfig> {
        let fields = fields.iter().map(|(name, code)| {
            let bad =
                |BadConfig(reason)| BadConfig(format!("custom_fields_by_lua.{name}: {reason}"));
            Ok((path(name), Custom::new(code).map_err(bad)?))
        });
        Ok(Self(fields.collect::<Result<_, _>>()?))
    }

    pub(super) fn apply(&self, exchange: &Exchange, entry: &mut Value) {
        for (path, custom) in &self.0 {
            set(entry, path, custom.value(exchange));
        }
    }
}

/// Dots lead into records; `\.` is a dot of a name.
fn path(name: &str) -> Vec<String> {
    let marked = name.replace("\\.", "\0");
    marked.split('.').map(|it| it.replace('\0', ".")).collect()
}

fn set(entry: &mut Value, path: &[String], value: Value) {
    let Some((last, above)) = path.split_last() else {
        return;
    };
    let mut record = entry;
    for name in above {
        let Value::Object(members) = record else {
            return;
        };
        if value.is_null() && !members.contains_key(name) {
            return;
        }
        record = members.entry(name.clone()).or_insert_with(|| json!({}));
    }
    if let Value::Object(members) = record {
        match value {
            Value::Null => drop(members.shift_remove(last)),
            value => drop(members.insert(last.clone(), value)),
        }
    }
}

impl Custom {
    fn new(code: &str) -> Result<Self, BadConfig> {
        let code = code.trim().trim_end_matches(';').trim_end();
        let returned = code.strip_prefix("return").filter(|it| {
            // Not `returned`, which is another word.
            !it.starts_with(|next: char| next.is_alphanumeric() || next == '_')
        });
        let Some(returned) = returned.map(str::trim) else {
            return Err(BadConfig("only a single return is supported".into()));
        };
        if returned == "nil" {
            return Ok(Self::Remove);
        }
        if let Some(literal) = literal(returned) {
            return Ok(Self::Literal(literal));
        }
        let argument = returned.strip_prefix("kong.request.get_header(");
        let argument = argument.and_then(|it| it.strip_suffix(')'));
        match argument.and_then(|it| literal(it.trim())) {
            Some(Value::String(name)) => Ok(Self::Header(config::header_name(&name)?)),
            _ => Ok(Self::Expression(Expression::compile(returned)?)),
        }
    }

    fn value(&self, exchange: &Exchange) -> Value {
        match self {
            Self::Remove => Value::Null,
            Self::Literal(value) => value.clone(),
            Self::Header(name) => {
                let value = exchange.request.headers.get(name);
                let value = value.map(|it| it.as_bytes());
                let value = value.map(|it| it.get(..VALUE_BYTES_MAX).unwrap_or(it));
                value.map_or(Value::Null, |it| String::from_utf8_lossy(it).into())
            }
            Self::Expression(expression) => {
                let text = expression.text(exchange);
                let text = text.filter(|it| it.len() <= VALUE_BYTES_MAX);
                text.map_or(Value::Null, Value::from)
            }
        }
    }
}

/// A text without escapes, a number or a truth value.
fn literal(text: &str) -> Option<Value> {
    let quoted = |quote: char| {
        let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
        (!inner.contains([quote, '\\'])).then(|| Value::from(inner))
    };
    match text {
        "true" => Some(Value::Bool(true)),
        "false" => Some(Value::Bool(false)),
        _ => quoted('\'').or_else(|| quoted('"')).or_else(|| {
            let fine = text
                .bytes()
                .all(|it| it.is_ascii_digit() || b"-.".contains(&it));
            serde_json::from_str(text).ok().filter(|_| fine)
        }),
    }
}
