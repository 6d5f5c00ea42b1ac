//! Expressions of routes, compiled (spec gateway-proxy 3.5).

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;

use o28m_kong::expression::{Expression, Field, Network, Operator, Predicate, Value};
use regex::Regex;

use crate::conditions::Protocols;
use crate::entry::collect_captures;
use crate::host::{Host, Name, canonical};
use crate::index::NAME_BYTES_MAX;
use crate::pattern::{limited, literal_prefix};
use crate::{Problem, RequestHead};

/// An expression and what the index needs of it.
pub(crate) struct Compiled {
    root: Node,
    protocols: Protocols,
    /// Hosts outside of these cannot match.
    pub(crate) hosts: Option<Vec<Name>>,
    /// Paths that begin with none of these cannot match.
    pub(crate) paths: Option<Vec<String>>,
    /// Some regular expression has groups.
    pub(crate) captures: bool,
}

enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Test(Test),
}

struct Test {
    field: Field,
    lower: bool,
    any: bool,
    check: Check,
}

enum Check {
    Text(Comparison, String),
    Regex(Regex),
    Integer(Operator, i64),
    Address { equals: bool, address: IpAddr },
    Network { inside: bool, network: Network },
}

/// How texts are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equals,
    Differs,
    Prefix,
    Suffix,
    Contains,
}

impl Compiled {
    pub(crate) fn compile(text: &str, protocols: &[String]) -> Result<Self, Problem> {
        let expression = Expression::parse(text).map_err(Box::new)?;
        match expression.check(false) {
            // Kong takes such a segment when it loads a route; it has no value.
            Ok(()) | Err(o28m_kong::expression::Invalid::BadSegments) => {}
            Err(invalid) => return Err(invalid.into()),
        }
        let mut captures = false;
        let root = Node::compile(&expression, &mut captures)?;
        Ok(Self {
            hosts: root.keys(&Test::host_key),
            paths: root.keys(&Test::path_key),
            root,
            protocols: Protocols::of(protocols),
            captures,
        })
    }

    /// Bytes of the path to strip when the request matches. Captures are collected when asked for: as in
    /// Kong, from every regular expression that matched on the way, whatever it was part of.
    pub(crate) fn evaluate(
        &self,
        head: &RequestHead<'_>,
        host: &Host<'_>,
        captures: Option<&mut HashMap<String, String>>,
    ) -> Option<usize> {
        let mut trace = Trace {
            length: 0,
            captures,
        };
        let fits = self.root.holds(head, host, &mut trace) && self.protocols.hold(head);
        fits.then_some(trace.length)
    }
}

/// What matched on the way; later matches replace earlier ones.
struct Trace<'a> {
    /// Bytes of the path.
    length: usize,
    captures: Option<&'a mut HashMap<String, String>>,
}

impl Node {
    fn compile(expression: &Expression, captures: &mut bool) -> Result<Self, Problem> {
        let mut list = |parts: &[Expression]| {
            let parts = parts.iter().map(|part| Self::compile(part, captures));
            parts.collect::<Result<Vec<_>, _>>()
        };
        Ok(match expression {
            Expression::All(parts) => Self::All(list(parts)?),
            Expression::Any(parts) => Self::Any(list(parts)?),
            Expression::Not(inner) => Self::Not(Box::new(Self::compile(inner, captures)?)),
            Expression::Predicate(predicate) => {
                let test = Test::compile(predicate)?;
                if let Check::Regex(regex) = &test.check {
                    *captures |= regex.captures_len() > 1;
                }
                Self::Test(test)
            }
        })
    }

    fn holds(&self, head: &RequestHead<'_>, host: &Host<'_>, trace: &mut Trace<'_>) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(head, host, trace)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(head, host, trace)),
            Self::Not(inner) => !inner.holds(head, host, trace),
            Self::Test(test) => test.holds(head, host, trace),
        }
    }

    /// Keys one of which a request must have to match; `None` when it needs none.
    fn keys<K>(&self, key: &impl Fn(&Test) -> Option<K>) -> Option<Vec<K>> {
        match self {
            Self::All(parts) => {
                let sets = parts.iter().filter_map(|part| part.keys(key));
                sets.min_by_key(Vec::len)
            }
            Self::Any(parts) => {
                let sets = parts.iter().map(|part| part.keys(key));
                let sets: Option<Vec<_>> = sets.collect();
                Some(sets?.into_iter().flatten().collect())
            }
            Self::Not(_) => None,
            Self::Test(test) => key(test).map(|it| vec![it]),
        }
    }
}

impl Test {
    fn compile(predicate: &Predicate) -> Result<Self, Problem> {
        let field = Field::named(&predicate.field);
        let operator = predicate.operator;
        let check = match &predicate.value {
            Value::Text(text) => match comparison(operator) {
                Some(comparison) => Check::Text(comparison, text.clone()),
                None => Check::Regex(limited(text, false)?),
            },
            Value::Integer(number) => Check::Integer(operator, *number),
            Value::Address(address) => Check::Address {
                equals: operator == Operator::Equals,
                address: *address,
            },
            Value::Network(network) => Check::Network {
                inside: operator == Operator::In,
                network: *network,
            },
        };
        Ok(Self {
            field: field.ok_or(o28m_kong::expression::Invalid::UnknownField)?,
            lower: predicate.lower,
            any: predicate.any,
            check,
        })
    }

    fn holds(&self, head: &RequestHead<'_>, host: &Host<'_>, trace: &mut Trace<'_>) -> bool {
        match &self.check {
            Check::Text(..) | Check::Regex(_) => self.text_holds(head, host, trace),
            Check::Integer(operator, wanted) => {
                let value = match self.field {
                    Field::SegmentCount => i64::try_from(segments(head.path).count()).ok(),
                    Field::SourcePort => head.source_port(),
                    Field::DestinationPort => Some(host.port),
                    _ => None,
                };
                value.is_some_and(|value| compare(value, *operator, *wanted))
            }
            Check::Address { equals, address } => {
                let own = self.address(head);
                own.is_some_and(|it| (it == *address) == *equals)
            }
            Check::Network { inside, network } => {
                let own = self.address(head);
                own.is_some_and(|it| network.contains(it) == *inside)
            }
        }
    }

    fn address(&self, head: &RequestHead<'_>) -> Option<IpAddr> {
        match self.field {
            Field::SourceAddress => head.source.map(|it| it.ip()),
            Field::DestinationAddress => head.destination,
            _ => None,
        }
    }

    /// All values must fit, and there must be one; with `any` one suffices.
    fn text_holds(&self, head: &RequestHead<'_>, host: &Host<'_>, trace: &mut Trace<'_>) -> bool {
        let (mut some, mut all) = (false, true);
        each_text(&self.field, head, host, &mut |value| {
            let fits = self.text_fits(value, trace);
            some |= fits;
            all &= fits;
            fits == self.any
        });
        some && (self.any || all)
    }

    fn text_fits(&self, value: &str, trace: &mut Trace<'_>) -> bool {
        let value = if self.lower {
            Cow::Owned(value.to_lowercase())
        } else {
            Cow::Borrowed(value)
        };
        let length = match &self.check {
            Check::Text(comparison, wanted) => {
                let wanted = wanted.as_str();
                let fits = match comparison {
                    Comparison::Equals => value == wanted,
                    Comparison::Differs => return value != wanted,
                    Comparison::Prefix => value.starts_with(wanted),
                    Comparison::Suffix => value.ends_with(wanted),
                    Comparison::Contains => return value.contains(wanted),
                };
                fits.then_some(wanted.len())
            }
            Check::Regex(regex) => {
                let found = regex.find(&value);
                if found.is_some()
                    && let Some(captures) = trace.captures.as_deref_mut()
                {
                    collect_captures(regex, &value, captures);
                }
                found.map(|it| it.len())
            }
            Check::Integer(..) | Check::Address { .. } | Check::Network { .. } => None,
        };
        if let (Some(length), Field::Path) = (length, &self.field) {
            trace.length = length;
        }
        length.is_some()
    }

    /// The name under which hosts that fit are looked up.
    fn host_key(&self) -> Option<Name> {
        let Check::Text(comparison, text) = &self.check else {
            return None;
        };
        if self.field != Field::Host || !text.is_ascii() {
            return None;
        }
        let name = canonical(text).into_owned();
        match comparison {
            // A name that is too long is not looked up.
            Comparison::Equals if name.len() < NAME_BYTES_MAX => Some(Name::Exact(name)),
            Comparison::Suffix if name.starts_with('.') && name.len() > 1 => {
                Some(Name::Suffix(name))
            }
            _ => None,
        }
    }

    /// What paths that fit begin with.
    fn path_key(&self) -> Option<String> {
        if self.lower {
            return None;
        }
        match (&self.field, &self.check) {
            (Field::Path, Check::Text(Comparison::Equals | Comparison::Prefix, text)) => {
                Some(text.clone())
            }
            (
                Field::Segments { first: 0, .. },
                Check::Text(Comparison::Equals | Comparison::Prefix, text),
            ) => Some(format!("/{text}")),
            (Field::Path, Check::Regex(regex)) => {
                let anchored = regex.as_str().strip_prefix('^')?;
                Some(literal_prefix(anchored).to_owned())
            }
            _ => None,
        }
    }
}

/// How texts are compared by `operator`; `None` by a regular expression.
fn comparison(operator: Operator) -> Option<Comparison> {
    match operator {
        Operator::Equals => Some(Comparison::Equals),
        Operator::Differs => Some(Comparison::Differs),
        Operator::Prefix => Some(Comparison::Prefix),
        Operator::Suffix => Some(Comparison::Suffix),
        Operator::Contains => Some(Comparison::Contains),
        Operator::Regex
        | Operator::Greater
        | Operator::GreaterOrEqual
        | Operator::Less
        | Operator::LessOrEqual
        | Operator::In
        | Operator::NotIn => None,
    }
}

fn compare(value: i64, operator: Operator, wanted: i64) -> bool {
    match operator {
        Operator::Equals => value == wanted,
        Operator::Differs => value != wanted,
        Operator::Greater => value > wanted,
        Operator::GreaterOrEqual => value >= wanted,
        Operator::Less => value < wanted,
        Operator::LessOrEqual => value <= wanted,
        Operator::Regex
        | Operator::Prefix
        | Operator::Suffix
        | Operator::In
        | Operator::NotIn
        | Operator::Contains => false,
    }
}

/// The parts of a normalised path between its slashes.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    let inner = path.strip_prefix('/').unwrap_or(path);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    inner.split('/').filter(move |_| !inner.is_empty())
}

/// Calls `visit` with each value of a text field until it returns true.
fn each_text(
    field: &Field,
    head: &RequestHead<'_>,
    host: &Host<'_>,
    visit: &mut dyn FnMut(&str) -> bool,
) {
    let value = match field {
        Field::Protocol => Some(match head.server_name {
            Some(_) => "https",
            None => "http",
        }),
        Field::ServerName => head.server_name.filter(|it| !it.is_empty()),
        Field::Method => Some(head.method),
        Field::Host => Some(host.raw).filter(|it| !it.is_empty() && it.len() <= NAME_BYTES_MAX),
        Field::Path => Some(head.path),
        Field::Segments { first, last } => {
            let joined = joined_segments(head.path, *first, *last);
            if let Some(joined) = joined {
                visit(joined);
            }
            return;
        }
        Field::Header(name) => {
            head.headers.any(name, visit);
            return;
        }
        Field::Query(name) => {
            each_argument(head.query, name, visit);
            return;
        }
        Field::NoSegment
        | Field::SegmentCount
        | Field::SourcePort
        | Field::DestinationPort
        | Field::SourceAddress
        | Field::DestinationAddress => None,
    };
    if let Some(value) = value {
        visit(value);
    }
}

/// The segments from `first` to `last`, as they stand in the path.
fn joined_segments(path: &str, first: usize, last: usize) -> Option<&str> {
    let start = segments(path).nth(first)?;
    let end = segments(path).nth(last)?;
    let offset = |part: &str| part.as_ptr().addr() - path.as_ptr().addr();
    path.get(offset(start)..offset(end) + end.len())
}

/// The arguments of a query that are called `name`, decoded; one without value is empty.
fn each_argument(query: &str, name: &str, visit: &mut dyn FnMut(&str) -> bool) {
    for argument in query.split('&') {
        let (key, value) = argument.split_once('=').unwrap_or((argument, ""));
        if !key.is_empty() && decoded(key) == name && visit(&decoded(value)) {
            return;
        }
    }
}

/// Escapes and plus signs decoded; what is no escape stays.
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let escaped = match (byte, after) {
            (b'%', [high, low, ..]) => char::from(*high)
                .to_digit(16)
                .zip(char::from(*low).to_digit(16)),
            _ => None,
        };
        match (escaped, byte) {
            (Some((high, low)), _) => {
                bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
                rest = after.get(2..).unwrap_or_default();
            }
            (None, b'+') => bytes.push(b' '),
            (None, byte) => bytes.push(*byte),
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}
