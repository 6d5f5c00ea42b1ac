//! Evaluation of an expression against one request.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::HeaderName;

use super::super::arguments::Arguments;
use super::lexer::parse_number;
use super::parser::{Expression, Operator, Variable};

/// Bytes a concatenation can reach.
const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// What expressions see: the request as it was before the plugin changed it.
pub(crate) struct Scope<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) query: &'a Arguments<'a>,
    pub(crate) captures: &'a [(String, String)],
    /// The one member of `shared` that a plugin of this build sets.
    pub(crate) gateway_consumer: Option<&'a str>,
}

/// Where Lua would raise an error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EvalError {
    #[error("attempt to index a {0} value")]
    Index(&'static str),
    #[error("attempt to perform arithmetic on a {0} value")]
    Arithmetic(&'static str),
    #[error("attempt to concatenate a {0} value")]
    Concatenate(&'static str),
    #[error("attempt to get length of a {0} value")]
    Length(&'static str),
    #[error("attempt to compare {0} with {1}")]
    Compare(&'static str, &'static str),
    #[error("bad argument to '{0}'")]
    Argument(&'static str),
    #[error("a table has no text")]
    Table,
    #[error("text is too long")]
    TooLong,
}

/// A Lua value.
#[derive(Debug)]
pub(super) enum Value<'a> {
    Nil,
    Boolean(bool),
    Number(f64),
    Text(Cow<'a, [u8]>),
    /// One of the variables as a whole, which nothing can be done with.
    Table,
}

impl<'a> Value<'a> {
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Boolean(_) => "boolean",
            Self::Number(_) => "number",
            Self::Text(_) => "string",
            Self::Table => "table",
        }
    }

    fn is_true(&self) -> bool {
        !matches!(self, Self::Nil | Self::Boolean(false))
    }

    /// A number, or a string that reads as one.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => parse_number(std::str::from_utf8(text).ok()?),
            Self::Nil | Self::Boolean(_) | Self::Table => None,
        }
    }

    /// A string, or a number in its Lua form.
    pub(super) fn text(self) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::Text(text) => Some(text),
            Self::Number(number) => Some(Cow::Owned(lua_number(number).into_bytes())),
            Self::Nil | Self::Boolean(_) | Self::Table => None,
        }
    }

    /// What `tostring` gives.
    pub(super) fn into_text(self) -> Result<Cow<'a, [u8]>, EvalError> {
        match self {
            Self::Nil => Ok(Cow::Borrowed(b"nil")),
            Self::Boolean(true) => Ok(Cow::Borrowed(b"true")),
            Self::Boolean(false) => Ok(Cow::Borrowed(b"false")),
            Self::Number(_) | Self::Text(_) => self.text().ok_or(EvalError::Table),
            Self::Table => Err(EvalError::Table),
        }
    }
}

impl Expression {
    /// What a template puts in the place of the expression: nothing for nil and false.
    pub(super) fn text<'a>(&'a self, scope: &'a Scope<'a>) -> Result<Cow<'a, [u8]>, EvalError> {
        match self.evaluate(scope)? {
            Value::Nil | Value::Boolean(false) => Ok(Cow::Borrowed(b"")),
            value => value.into_text(),
        }
    }

    fn evaluate<'a>(&'a self, scope: &'a Scope<'a>) -> Result<Value<'a>, EvalError> {
        Ok(match self {
            Self::Nil => Value::Nil,
            Self::Boolean(boolean) => Value::Boolean(*boolean),
            Self::Number(number) => Value::Number(*number),
            Self::Text(text) => Value::Text(Cow::Borrowed(text)),
            Self::Variable(_) => Value::Table,
            Self::Index(of, key) => index(of, key.evaluate(scope)?, scope)?,
            Self::Not(operand) => Value::Boolean(!operand.evaluate(scope)?.is_true()),
            Self::Negate(operand) => Value::Number(-arithmetic(&operand.evaluate(scope)?)?),
            Self::Length(operand) => match operand.evaluate(scope)? {
                Value::Text(text) => Value::Number(text.len() as f64),
                other => return Err(EvalError::Length(other.type_name())),
            },
            Self::Binary(operator, operands) => {
                let (left, right) = operands.as_ref();
                binary(*operator, left.evaluate(scope)?, right, scope)?
            }
            Self::Call(function, arguments) => {
                let arguments = arguments.iter().map(|argument| argument.evaluate(scope));
                function.call(arguments.collect::<Result<_, _>>()?)?
            }
        })
    }
}

fn index<'a>(
    of: &'a Expression,
    key: Value<'_>,
    scope: &'a Scope<'a>,
) -> Result<Value<'a>, EvalError> {
    let Expression::Variable(variable) = of else {
        return Err(EvalError::Index(of.evaluate(scope)?.type_name()));
    };
    let key = key.text().ok_or(EvalError::Argument("index"))?;
    let text = match variable {
        Variable::Headers => return Ok(header(scope.headers, &key)),
        Variable::QueryParams => {
            return Ok(match scope.query.get(&key) {
                None => Value::Nil,
                Some(None) => Value::Boolean(true),
                Some(Some(value)) => Value::Text(Cow::Borrowed(value)),
            });
        }
        Variable::UriCaptures => {
            let mut captures = scope.captures.iter();
            let capture = captures.find(|(name, _)| name.as_bytes() == &*key);
            capture.map(|(_, value)| value.as_str())
        }
        Variable::Shared if *key == *b"gateway_consumer" => scope.gateway_consumer,
        Variable::Shared => None,
    };
    Ok(text.map_or(Value::Nil, |text| {
        Value::Text(Cow::Borrowed(text.as_bytes()))
    }))
}

/// The first value of a header. A name that is not there is tried again with hyphens for underscores,
/// because names without quotes cannot have hyphens (Kong 3.9.3).
fn header<'a>(headers: &'a HeaderMap, name: &[u8]) -> Value<'a> {
    let find = |name: &[u8]| headers.get(HeaderName::from_bytes(name).ok()?);
    let value = find(name).or_else(|| {
        let hyphenated: Vec<u8> = name
            .iter()
            .map(|byte| if *byte == b'_' { b'-' } else { *byte })
            .collect();
        find(&hyphenated)
    });
    value.map_or(Value::Nil, |value| {
        Value::Text(Cow::Borrowed(value.as_bytes()))
    })
}

fn arithmetic(value: &Value<'_>) -> Result<f64, EvalError> {
    value
        .number()
        .ok_or_else(|| EvalError::Arithmetic(value.type_name()))
}

fn binary<'a>(
    operator: Operator,
    left: Value<'a>,
    right: &'a Expression,
    scope: &'a Scope<'a>,
) -> Result<Value<'a>, EvalError> {
    // These two do not always look at their right side.
    match (operator, left.is_true()) {
        (Operator::Or, true) | (Operator::And, false) => return Ok(left),
        (Operator::Or | Operator::And, _) => return right.evaluate(scope),
        _ => {}
    }
    let right = right.evaluate(scope)?;
    Ok(match operator {
        Operator::Or | Operator::And => right,
        Operator::Equal => Value::Boolean(equal(&left, &right)),
        Operator::NotEqual => Value::Boolean(!equal(&left, &right)),
        Operator::Less => Value::Boolean(compare(&left, &right)?.is_some_and(|it| it.is_lt())),
        Operator::LessOrEqual => {
            Value::Boolean(compare(&left, &right)?.is_some_and(|it| it.is_le()))
        }
        Operator::Greater => Value::Boolean(compare(&left, &right)?.is_some_and(|it| it.is_gt())),
        Operator::GreaterOrEqual => {
            Value::Boolean(compare(&left, &right)?.is_some_and(|it| it.is_ge()))
        }
        Operator::Concatenate => concatenate(left, right)?,
        Operator::Add => Value::Number(arithmetic(&left)? + arithmetic(&right)?),
        Operator::Subtract => Value::Number(arithmetic(&left)? - arithmetic(&right)?),
        Operator::Multiply => Value::Number(arithmetic(&left)? * arithmetic(&right)?),
        Operator::Divide => Value::Number(arithmetic(&left)? / arithmetic(&right)?),
        Operator::Modulo => {
            let (left, right) = (arithmetic(&left)?, arithmetic(&right)?);
            Value::Number(left - (left / right).floor() * right)
        }
    })
}

fn equal(left: &Value<'_>, right: &Value<'_>) -> bool {
    match (left, right) {
        (Value::Nil, Value::Nil) => true,
        (Value::Boolean(left), Value::Boolean(right)) => left == right,
        (Value::Number(left), Value::Number(right)) => left == right,
        (Value::Text(left), Value::Text(right)) => left == right,
        _ => false,
    }
}

fn compare(left: &Value<'_>, right: &Value<'_>) -> Result<Option<std::cmp::Ordering>, EvalError> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => Ok(left.partial_cmp(right)),
        (Value::Text(left), Value::Text(right)) => Ok(Some(left.cmp(right))),
        _ => Err(EvalError::Compare(left.type_name(), right.type_name())),
    }
}

fn concatenate<'a>(left: Value<'a>, right: Value<'a>) -> Result<Value<'a>, EvalError> {
    let piece = |value: Value<'a>| {
        let name = value.type_name();
        value.text().ok_or(EvalError::Concatenate(name))
    };
    let (left, right) = (piece(left)?, piece(right)?);
    if left.len().saturating_add(right.len()) > TEXT_BYTES_MAX {
        return Err(EvalError::TooLong);
    }
    Ok(Value::Text(Cow::Owned([&*left, &*right].concat())))
}

/// A number as Lua 5.1 prints it: C's `%.14g`.
fn lua_number(number: f64) -> String {
    if !number.is_finite() {
        let text = if number.is_nan() { "nan" } else { "inf" };
        let sign = if number < 0.0 { "-" } else { "" };
        return format!("{sign}{text}");
    }
    let scientific = format!("{number:.13e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..14).contains(&exponent) {
        let decimals = usize::try_from(13 - exponent).unwrap_or(0);
        return without_trailing_zeros(&format!("{number:.decimals$}")).to_owned();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    let digits = without_trailing_zeros(digits);
    format!("{digits}e{sign}{:02}", exponent.abs())
}

fn without_trailing_zeros(digits: &str) -> &str {
    if digits.contains('.') {
        digits.trim_end_matches('0').trim_end_matches('.')
    } else {
        digits
    }
}
