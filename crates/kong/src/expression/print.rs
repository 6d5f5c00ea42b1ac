//! Printing: what is printed reads as what was printed.

use std::fmt::{self, Display, Formatter, Write as _};

use super::{Expression, Network, Operator, Predicate, Value};

impl Display for Expression {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(parts) => list(formatter, parts, " && ", |part| {
                matches!(part, Self::All(_))
            }),
            Self::Any(parts) => list(formatter, parts, " || ", |part| {
                matches!(part, Self::All(_) | Self::Any(_))
            }),
            Self::Not(inner) => write!(formatter, "!({inner})"),
            Self::Predicate(predicate) => predicate.fmt(formatter),
        }
    }
}

fn list(
    formatter: &mut Formatter<'_>,
    parts: &[Expression],
    separator: &str,
    in_parentheses: impl Fn(&Expression) -> bool,
) -> fmt::Result {
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            formatter.write_str(separator)?;
        }
        if in_parentheses(part) {
            write!(formatter, "({part})")?;
        } else {
            part.fmt(formatter)?;
        }
    }
    Ok(())
}

impl Display for Predicate {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let (open, close) = match (self.any, self.lower) {
            (true, true) => ("any(lower(", "))"),
            (true, false) => ("any(", ")"),
            (false, true) => ("lower(", ")"),
            (false, false) => ("", ""),
        };
        write!(
            formatter,
            "{open}{}{close} {} {}",
            self.field, self.operator, self.value
        )
    }
}

impl Display for Operator {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Equals => "==",
            Self::Differs => "!=",
            Self::Regex => "~",
            Self::Prefix => "^=",
            Self::Suffix => "=^",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::In => "in",
            Self::NotIn => "not in",
            Self::Contains => "contains",
        })
    }
}

impl Display for Value {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => quoted(formatter, text),
            Self::Integer(number) => write!(formatter, "{number}"),
            Self::Address(address) => address_text(formatter, *address),
            Self::Network(network) => network.fmt(formatter),
        }
    }
}

impl Display for Network {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        address_text(formatter, self.address)?;
        write!(formatter, "/{}", self.bits)
    }
}

/// The grammar knows no dots in IPv6 literals, which the usual form of mapped addresses has.
fn address_text(formatter: &mut Formatter<'_>, address: std::net::IpAddr) -> fmt::Result {
    match address {
        std::net::IpAddr::V4(address) => write!(formatter, "{address}"),
        std::net::IpAddr::V6(address) => {
            for (at, part) in address.segments().into_iter().enumerate() {
                if at > 0 {
                    formatter.write_char(':')?;
                }
                write!(formatter, "{part:x}")?;
            }
            Ok(())
        }
    }
}

fn quoted(formatter: &mut Formatter<'_>, text: &str) -> fmt::Result {
    formatter.write_char('"')?;
    for character in text.chars() {
        match character {
            '"' => formatter.write_str("\\\"")?,
            '\\' => formatter.write_str("\\\\")?,
            '\n' => formatter.write_str("\\n")?,
            '\r' => formatter.write_str("\\r")?,
            '\t' => formatter.write_str("\\t")?,
            _ => formatter.write_char(character)?,
        }
    }
    formatter.write_char('"')
}
