//! The functions an expression can call (Lua 5.1 sections 5.1 and 5.4). Those that take Lua patterns are
//! not among them.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use super::eval::{EvalError, Value};
use super::lexer::parse_number;

/// Bytes `string.rep` can make.
const REPEATED_BYTES_MAX: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Type,
    ToString,
    ToNumber,
    Sub,
    Lower,
    Upper,
    Len,
    Rep,
    Reverse,
}

impl Function {
    const ALL: [Self; 9] = [
        Self::Type,
        Self::ToString,
        Self::ToNumber,
        Self::Sub,
        Self::Lower,
        Self::Upper,
        Self::Len,
        Self::Rep,
        Self::Reverse,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::ToString => "tostring",
            Self::ToNumber => "tonumber",
            Self::Sub => "string.sub",
            Self::Lower => "string.lower",
            Self::Upper => "string.upper",
            Self::Len => "string.len",
            Self::Rep => "string.rep",
            Self::Reverse => "string.reverse",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }

    /// How many arguments it takes, a method's object among them.
    pub(super) fn arity(self) -> RangeInclusive<usize> {
        match self {
            Self::Sub => 2..=3,
            Self::Rep => 2..=2,
            Self::Type | Self::ToString | Self::ToNumber => 1..=1,
            Self::Lower | Self::Upper | Self::Len | Self::Reverse => 1..=1,
        }
    }

    pub(super) fn call<'a>(self, arguments: Vec<Value<'a>>) -> Result<Value<'a>, EvalError> {
        let mut arguments = arguments.into_iter();
        let first = arguments.next().unwrap_or(Value::Nil);
        let mut integer = |default: i64| match arguments.next() {
            None | Some(Value::Nil) => Ok(default),
            Some(value) => Ok(value.number().ok_or(EvalError::Argument(self.name()))? as i64),
        };
        match self {
            Self::Type => return Ok(Value::Text(Cow::Borrowed(first.type_name().as_bytes()))),
            Self::ToString => return first.into_text().map(Value::Text),
            Self::ToNumber => return Ok(to_number(&first)),
            Self::Sub | Self::Lower | Self::Upper | Self::Len | Self::Rep | Self::Reverse => {}
        }
        let text = first.text().ok_or(EvalError::Argument(self.name()))?;
        Ok(match self {
            Self::Sub => {
                let (from, to) = (integer(1)?, integer(-1)?);
                Value::Text(Cow::Owned(sub(&text, from, to).to_vec()))
            }
            Self::Rep => {
                let times = usize::try_from(integer(0)?).unwrap_or(0);
                if text.len().saturating_mul(times) > REPEATED_BYTES_MAX {
                    return Err(EvalError::TooLong);
                }
                Value::Text(Cow::Owned(text.repeat(times)))
            }
            Self::Lower => Value::Text(Cow::Owned(text.to_ascii_lowercase())),
            Self::Upper => Value::Text(Cow::Owned(text.to_ascii_uppercase())),
            Self::Reverse => Value::Text(Cow::Owned(text.iter().rev().copied().collect())),
            Self::Len => Value::Number(text.len() as f64),
            Self::Type | Self::ToString | Self::ToNumber => Value::Nil,
        })
    }
}

fn to_number<'a>(value: &Value<'a>) -> Value<'a> {
    let number = match value {
        Value::Number(number) => Some(*number),
        Value::Text(text) => std::str::from_utf8(text).ok().and_then(parse_number),
        Value::Nil | Value::Boolean(_) | Value::Table => None,
    };
    number.map_or(Value::Nil, Value::Number)
}

/// `string.sub`: positions from 1, negative ones from the end.
fn sub(text: &[u8], from: i64, to: i64) -> &[u8] {
    let length = i64::try_from(text.len()).unwrap_or(i64::MAX);
    let absolute = |at: i64| {
        if at < 0 {
            length.saturating_add(at).saturating_add(1)
        } else {
            at
        }
    };
    let from = absolute(from).max(1);
    let to = absolute(to).min(length);
    let bounds = (usize::try_from(from - 1), usize::try_from(to));
    match bounds {
        (Ok(from), Ok(to)) => text.get(from..to).unwrap_or_default(),
        _ => &[],
    }
}
