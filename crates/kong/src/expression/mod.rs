//! Expressions of Kong's routes (spec gateway-proxy 3.5): read, checked and printed here, compiled by
//! the router.

mod check;
mod parse;
mod print;

pub use check::{Invalid, MAX_PRIORITY};
pub use parse::Error;

use std::net::IpAddr;

/// A condition on requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// Each of them holds.
    All(Vec<Expression>),
    /// One of them holds.
    Any(Vec<Expression>),
    /// It does not hold.
    Not(Box<Expression>),
    /// A comparison.
    Predicate(Predicate),
}

/// A comparison of a field of the request with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predicate {
    /// Name of the field, such as `http.path`.
    pub field: String,
    /// Text is compared in lower case.
    pub lower: bool,
    /// One value of a field with several suffices.
    pub any: bool,
    /// How they are compared.
    pub operator: Operator,
    /// With what.
    pub value: Value,
}

/// How a field is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `==`
    Equals,
    /// `!=`
    Differs,
    /// `~`
    Regex,
    /// `^=`
    Prefix,
    /// `=^`
    Suffix,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `in`
    In,
    /// `not in`
    NotIn,
    /// `contains`
    Contains,
}

/// What a field is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text, or the pattern of a regular expression.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// An address.
    Address(IpAddr),
    /// A block of addresses.
    Network(Network),
}

/// A block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its first address.
    pub address: IpAddr,
    /// Leading bits that all its addresses share; at most 32, or 128.
    pub bits: u8,
}

impl Network {
    /// Whether the address is one of the block's.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let shift = 32_u32.saturating_sub(u32::from(self.bits));
                let cut = |it: u32| it.checked_shr(shift).unwrap_or(0);
                cut(own.to_bits()) == cut(other.to_bits())
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let shift = 128_u32.saturating_sub(u32::from(self.bits));
                let cut = |it: u128| it.checked_shr(shift).unwrap_or(0);
                cut(own.to_bits()) == cut(other.to_bits())
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// A field of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// `net.protocol`
    Protocol,
    /// `tls.sni`
    ServerName,
    /// `http.method`
    Method,
    /// `http.host`, without port
    Host,
    /// `http.path`
    Path,
    /// `http.path.segments.<first>` or `http.path.segments.<first>_<last>`, counted from 0; of a range,
    /// the segments joined by slashes.
    Segments {
        /// The first one.
        first: usize,
        /// The last one.
        last: usize,
    },
    /// `http.path.segments.` and something else: it has no value.
    NoSegment,
    /// `http.path.segments.len`
    SegmentCount,
    /// `http.headers.<name>`, the name in lower case, with dashes
    Header(String),
    /// `http.queries.<name>`
    Query(String),
    /// `net.src.port`
    SourcePort,
    /// `net.dst.port`
    DestinationPort,
    /// `net.src.ip`
    SourceAddress,
    /// `net.dst.ip`
    DestinationAddress,
}

impl Expression {
    /// Reads an expression, as Kong's router engine does.
    ///
    /// # Errors
    /// [`Error`], which shows the place.
    pub fn parse(text: &str) -> Result<Self, Error> {
        parse::parse(text)
    }

    /// Calls `visit` with each comparison, from left to right, until it fails.
    ///
    /// # Errors
    /// That of `visit`.
    pub fn visit<E>(&self, visit: &mut impl FnMut(&Predicate) -> Result<(), E>) -> Result<(), E> {
        match self {
            Self::All(parts) | Self::Any(parts) => {
                parts.iter().try_for_each(|part| part.visit(visit))
            }
            Self::Not(inner) => inner.visit(visit),
            Self::Predicate(predicate) => visit(predicate),
        }
    }
}

#[cfg(test)]
mod tests;
