//! What must hold of an expression beyond its grammar: known fields, and values of their types. The
//! messages are those of Kong's router engine.

use super::{Expression, Field, Operator, Predicate, Value};

/// The greatest `priority` of a route with an expression: 2^46 - 1.
pub const MAX_PRIORITY: i64 = (1 << 46) - 1;

/// What is wrong with an expression that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// There is no such field, or not for streams.
    #[error("Unknown LHS field")]
    UnknownField,
    /// The value is of another type than the field.
    #[error("Type mismatch between the LHS and RHS values of predicate")]
    TypeMismatch,
    /// `lower()` around a field that is no text.
    #[error("lower-case transformation function only supported with String type fields")]
    LowerOfNoText,
    /// `~` on a field that is no text.
    #[error("Regex operators only supports string operands")]
    RegexOnNoText,
    /// `^=` or `=^` on a field that is no text.
    #[error("Regex/Prefix/Postfix operators only supports string operands")]
    AffixOnNoText,
    /// An order on a field that is no number.
    #[error("Greater/GreaterOrEqual/Lesser/LesserOrEqual operators only supports integer operands")]
    OrderOnNoInteger,
    /// `in` or `not in` with anything but an address and a block.
    #[error("In/NotIn operators only supports IP in CIDR")]
    InNoNetwork,
    /// `contains` on a field that is no text.
    #[error("Contains operator only supports string operands")]
    ContainsOnNoText,
    /// A segment that is no number, or a range that is none.
    #[error("illformed http.path.segments.* field")]
    BadSegments,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Text,
    Integer,
    Address,
    Network,
}

impl Field {
    /// The field of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "net.protocol" => Self::Protocol,
            "tls.sni" => Self::ServerName,
            "http.method" => Self::Method,
            "http.host" => Self::Host,
            "http.path" => Self::Path,
            "http.path.segments.len" => Self::SegmentCount,
            "net.src.port" => Self::SourcePort,
            // The name before Kong 3.5.
            "net.dst.port" | "net.port" => Self::DestinationPort,
            "net.src.ip" => Self::SourceAddress,
            "net.dst.ip" => Self::DestinationAddress,
            _ => return Self::of_many(name),
        })
    }

    fn of_many(name: &str) -> Option<Self> {
        let below = |prefix| name.strip_prefix(prefix).filter(|it| !it.contains('.'));
        if let Some(name) = below("http.headers.") {
            return Some(Self::Header(name.to_ascii_lowercase().replace('_', "-")));
        }
        if let Some(name) = below("http.queries.") {
            return Some(Self::Query(name.to_owned()));
        }
        below("http.path.segments.").map(|range| segments(range).unwrap_or(Self::NoSegment))
    }

    fn kind(&self) -> Type {
        match self {
            Self::Protocol
            | Self::ServerName
            | Self::Method
            | Self::Host
            | Self::Path
            | Self::Segments { .. }
            | Self::NoSegment
            | Self::Header(_)
            | Self::Query(_) => Type::Text,
            Self::SegmentCount | Self::SourcePort | Self::DestinationPort => Type::Integer,
            Self::SourceAddress | Self::DestinationAddress => Type::Address,
        }
    }
}

/// `n` or `n_m` without leading zeros, and n below m.
fn segments(range: &str) -> Option<Field> {
    let number = |text: &str| {
        let plain = text == "0" || !text.starts_with('0');
        let digits = !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
        (plain && digits).then(|| text.parse().ok()).flatten()
    };
    let (first, last) = match range.split_once('_') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => {
            let only = number(range)?;
            return Some(Field::Segments {
                first: only,
                last: only,
            });
        }
    };
    (first < last).then_some(Field::Segments { first, last })
}

impl Value {
    fn kind(&self) -> Type {
        match self {
            Self::Text(_) => Type::Text,
            Self::Integer(_) => Type::Integer,
            Self::Address(_) => Type::Address,
            Self::Network(_) => Type::Network,
        }
    }
}

impl Expression {
    /// Whether it can be evaluated; `stream` for routes below HTTP, which know fewer fields.
    ///
    /// # Errors
    /// [`Invalid`], the first problem from the left; a bad segment comes after all others.
    pub fn check(&self, stream: bool) -> Result<(), Invalid> {
        let mut outcome = Ok(());
        self.visit(&mut |predicate| {
            let field = predicate.check(stream)?;
            if field == Field::NoSegment {
                outcome = Err(Invalid::BadSegments);
            }
            Ok(())
        })?;
        outcome
    }
}

impl Predicate {
    fn check(&self, stream: bool) -> Result<Field, Invalid> {
        let field =
            Field::named(&self.field).filter(|_| !stream || !self.field.starts_with("http."));
        let field = field.ok_or(Invalid::UnknownField)?;
        let (left, right) = (field.kind(), self.value.kind());
        let typed = !matches!(
            self.operator,
            Operator::Regex | Operator::In | Operator::NotIn
        );
        if typed && left != right {
            return Err(Invalid::TypeMismatch);
        }
        if self.lower && left != Type::Text {
            return Err(Invalid::LowerOfNoText);
        }
        let (fits, otherwise) = match self.operator {
            Operator::Equals | Operator::Differs => (true, Invalid::TypeMismatch),
            Operator::Regex => (left == Type::Text, Invalid::RegexOnNoText),
            Operator::Prefix | Operator::Suffix => (right == Type::Text, Invalid::AffixOnNoText),
            Operator::Greater
            | Operator::GreaterOrEqual
            | Operator::Less
            | Operator::LessOrEqual => (right == Type::Integer, Invalid::OrderOnNoInteger),
            Operator::In | Operator::NotIn => (
                left == Type::Address && right == Type::Network,
                Invalid::InNoNetwork,
            ),
            Operator::Contains => (right == Type::Text, Invalid::ContainsOnNoText),
        };
        if fits { Ok(field) } else { Err(otherwise) }
    }
}
