//! The parser. Its grammar is that of Kong's router engine (atc-router 1.6.2), whose choices are ordered
//! and never taken back; the one surprise in it is that `||` binds tighter than `&&`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Expression, Network, Operator, Predicate, Value};
use crate::formats;

/// Parentheses and functions around each other; it bounds recursion.
const DEPTH_MAX: usize = 64;
/// Comparisons in one expression: each may have a regular expression of its own.
const PREDICATES_MAX: usize = 4096;

/// A text that is no expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    line: usize,
    column: usize,
    source_line: String,
    /// Such as `expected term`.
    reason: String,
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            line,
            column,
            source_line,
            reason,
        } = self;
        let margin = " ".repeat(line.to_string().len());
        let before = " ".repeat(column.saturating_sub(1));
        write!(
            formatter,
            "{margin}--> {line}:{column}\n{margin} |\n{line} | {source_line}\n{margin} | {before}^---\n\
             {margin} |\n{margin} = {reason}"
        )
    }
}

pub(super) fn parse(text: &str) -> Result<Expression, Error> {
    let mut parser = Parser {
        text,
        rest: text,
        predicates: 0,
    };
    let parsed = parser.expression(0).and_then(|expression| {
        parser.skip();
        match parser.rest {
            "" => Ok(expression),
            _ => Err(parser.failed("expected EOI, and_op, or or_op")),
        }
    });
    parsed.map_err(|failure| failure.locate(text))
}

struct Failure {
    /// Byte offset.
    at: usize,
    reason: String,
}

impl Failure {
    fn locate(self, text: &str) -> Error {
        let before = text.get(..self.at).unwrap_or(text);
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = text.get(start..).unwrap_or_default();
        Error {
            line: before.matches('\n').count() + 1,
            column: before.get(start..).unwrap_or_default().chars().count() + 1,
            source_line: line.lines().next().unwrap_or_default().to_owned(),
            reason: self.reason,
        }
    }
}

type Parsed<T> = Result<T, Failure>;

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
    predicates: usize,
}

impl<'a> Parser<'a> {
    fn failed(&self, reason: impl Into<String>) -> Failure {
        Failure {
            at: self.text.len() - self.rest.len(),
            reason: reason.into(),
        }
    }

    fn skip(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
    }

    /// Takes `token` when it comes next.
    fn eat(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Takes the longest run of at most `most` bytes that fit.
    fn run(&mut self, most: usize, fits: impl Fn(u8) -> bool) -> &'a str {
        let bytes = self.rest.bytes().take(most);
        let length = bytes.take_while(|byte| fits(*byte)).count();
        let (run, rest) = self
            .rest
            .split_at_checked(length)
            .unwrap_or((self.rest, ""));
        self.rest = rest;
        run
    }

    /// `term ((&& | ||) term)*`: a conjunction of disjunctions.
    fn expression(&mut self, depth: usize) -> Parsed<Expression> {
        let mut all = Vec::new();
        let mut any = vec![self.term(depth)?];
        loop {
            self.skip();
            if self.eat("||") {
                any.push(self.term(depth)?);
            } else if self.eat("&&") {
                all.push(one_or(any, Expression::Any));
                any = vec![self.term(depth)?];
            } else {
                all.push(one_or(any, Expression::Any));
                return Ok(one_or(all, Expression::All));
            }
        }
    }

    fn term(&mut self, depth: usize) -> Parsed<Expression> {
        self.skip();
        let start = self.rest;
        let negated = self.eat("!");
        self.skip();
        if !self.eat("(") {
            self.rest = start;
            return if negated {
                Err(self.failed("expected term"))
            } else {
                self.predicate().map(Expression::Predicate)
            };
        }
        if depth == DEPTH_MAX {
            self.rest = start;
            return Err(self.failed("nested too deeply"));
        }
        let inner = self.expression(depth + 1)?;
        self.skip();
        if !self.eat(")") {
            return Err(self.failed("expected and_op or or_op"));
        }
        Ok(if negated {
            Expression::Not(Box::new(inner))
        } else {
            inner
        })
    }

    fn predicate(&mut self) -> Parsed<Predicate> {
        self.predicates += 1;
        if self.predicates > PREDICATES_MAX {
            return Err(self.failed("too many comparisons"));
        }
        let mut predicate = Predicate {
            field: String::new(),
            lower: false,
            any: false,
            operator: Operator::Equals,
            value: Value::Integer(0),
        };
        self.left_side(&mut predicate)?;
        self.skip();
        predicate.operator = self.operator()?;
        self.skip();
        let start = self.rest;
        predicate.value = self.value()?;
        if predicate.operator == Operator::Regex {
            let problem = match &predicate.value {
                Value::Text(pattern) => formats::regex_problem(pattern),
                Value::Integer(_) | Value::Address(_) | Value::Network(_) => {
                    Some("regex operator can only be used with String operands".to_owned())
                }
            };
            if let Some(problem) = problem {
                self.rest = start;
                return Err(self.failed(problem));
            }
        }
        Ok(predicate)
    }

    /// A field, or functions around one.
    fn left_side(&mut self, predicate: &mut Predicate) -> Parsed<()> {
        let mut open = 0;
        loop {
            self.skip();
            let start = self.rest;
            let is_first = self.rest.starts_with(|it: char| it.is_ascii_alphabetic());
            let word = self.run(usize::MAX, |it| {
                it.is_ascii_alphanumeric() || it == b'_' || it == b'.'
            });
            if !is_first {
                self.rest = start;
                let expected = if open > 0 { "lhs" } else { "term" };
                return Err(self.failed(format!("expected {expected}")));
            }
            let after = self.rest;
            self.skip();
            if !self.eat("(") {
                self.rest = after;
                predicate.field = word.to_owned();
                break;
            }
            match word {
                "lower" => predicate.lower = true,
                "any" => predicate.any = true,
                _ => {
                    self.rest = start;
                    let reason = format!("unknown transformation function: {word}");
                    return Err(self.failed(reason));
                }
            }
            open += 1;
            if open > DEPTH_MAX {
                self.rest = start;
                return Err(self.failed("nested too deeply"));
            }
        }
        for _ in 0..open {
            self.skip();
            if !self.eat(")") {
                return Err(self.failed("expected \")\""));
            }
        }
        Ok(())
    }

    fn operator(&mut self) -> Parsed<Operator> {
        const TOKENS: &[(&str, Operator)] = &[
            ("==", Operator::Equals),
            ("!=", Operator::Differs),
            ("~", Operator::Regex),
            ("^=", Operator::Prefix),
            ("=^", Operator::Suffix),
            (">=", Operator::GreaterOrEqual),
            (">", Operator::Greater),
            ("<=", Operator::LessOrEqual),
            ("<", Operator::Less),
            ("in", Operator::In),
            ("contains", Operator::Contains),
        ];
        for (token, operator) in TOKENS {
            if self.eat(token) {
                return Ok(*operator);
            }
        }
        let start = self.rest;
        if self.eat("not") {
            self.skip();
            if self.eat("in") {
                return Ok(Operator::NotIn);
            }
        }
        self.rest = start;
        Err(self.failed("expected binary_operator"))
    }

    fn value(&mut self) -> Parsed<Value> {
        if self.rest.starts_with('"') {
            return self.text();
        }
        if let Some(after) = self.rest.strip_prefix("r#\"") {
            let Some((raw, rest)) = after.split_once("\"#") else {
                return Err(self.failed("expected rhs"));
            };
            self.rest = rest;
            return Ok(Value::Text(raw.to_owned()));
        }
        match self.address()? {
            Some(value) => Ok(value),
            None => self.integer(),
        }
    }

    fn text(&mut self) -> Parsed<Value> {
        let start = self.rest;
        let mut text = String::new();
        let mut characters = self.rest.chars();
        characters.next();
        loop {
            let character = characters.next();
            match character {
                Some('"') => break,
                Some('\\') => text.push(match characters.next() {
                    Some(it @ ('"' | '\\')) => it,
                    Some('n') => '\n',
                    Some('r') => '\r',
                    Some('t') => '\t',
                    _ => {
                        self.rest = start;
                        return Err(self.failed("expected rhs"));
                    }
                }),
                Some(it) => text.push(it),
                None => {
                    self.rest = start;
                    return Err(self.failed("expected rhs"));
                }
            }
        }
        self.rest = characters.as_str();
        Ok(Value::Text(text))
    }

    /// An address or a block; nothing is taken when neither comes next.
    fn address(&mut self) -> Parsed<Option<Value>> {
        let start = self.rest;
        let word = match self.dotted().or_else(|| self.coloned()) {
            Some(word) => word,
            None => {
                self.rest = start;
                return Ok(None);
            }
        };
        let is_v4 = word.contains('.');
        let address = if is_v4 {
            word.parse::<Ipv4Addr>().map(IpAddr::V4)
        } else {
            word.parse::<Ipv6Addr>().map(IpAddr::V6)
        };
        let after = self.rest;
        if !self.eat("/") {
            return address
                .map(|it| Some(Value::Address(it)))
                .map_err(|error| self.failed_at(start, error.to_string()));
        }
        let digits = self.run(if is_v4 { 2 } else { 3 }, |it| it.is_ascii_digit());
        if digits.is_empty() {
            self.rest = after;
            return Err(self.failed("expected EOI, and_op, or or_op"));
        }
        let address = address.map_err(|_| {
            self.failed_at(
                start,
                "couldn't parse address in network: invalid IP address syntax",
            )
        })?;
        let longest = if is_v4 { 32 } else { 128 };
        let bits = digits.parse::<u8>().ok().filter(|bits| *bits <= longest);
        let Some(bits) = bits else {
            return Err(self.failed_at(
                start,
                "invalid length for network: Network length is too long",
            ));
        };
        let network = Network { address, bits };
        if first_of(network) != address {
            return Err(self.failed_at(start, "host part of address was not zero"));
        }
        Ok(Some(Value::Network(network)))
    }

    fn failed_at(&self, start: &str, reason: impl Into<String>) -> Failure {
        Failure {
            at: self.text.len() - start.len(),
            reason: reason.into(),
        }
    }

    fn dotted(&mut self) -> Option<&'a str> {
        let start = self.rest;
        for part in 0..4 {
            let dot = part == 0 || self.eat(".");
            if !dot || self.run(3, |it| it.is_ascii_digit()).is_empty() {
                self.rest = start;
                return None;
            }
        }
        start.get(..start.len() - self.rest.len())
    }

    fn coloned(&mut self) -> Option<&'a str> {
        let start = self.rest;
        if !self.eat(":") {
            self.run(4, |it| it.is_ascii_hexdigit());
        }
        if start.len() == self.rest.len() || !self.eat(":") {
            self.rest = start;
            return None;
        }
        self.run(usize::MAX, |it| it.is_ascii_hexdigit() || it == b':');
        start.get(..start.len() - self.rest.len())
    }

    /// Decimal, hexadecimal after `0x`, octal after a zero.
    fn integer(&mut self) -> Parsed<Value> {
        let start = self.rest;
        let negative = self.eat("-");
        let after_sign = self.rest;
        let octal = |it: u8| matches!(it, b'0'..=b'7');
        let mut found = ("", 10);
        if self.eat("0") {
            found = (self.run(usize::MAX, octal), 8);
            if found.0.is_empty() && self.eat("x") {
                found = (self.run(usize::MAX, |it| it.is_ascii_hexdigit()), 16);
            }
        }
        if found.0.is_empty() {
            self.rest = after_sign;
            found = (self.run(usize::MAX, |it| it.is_ascii_digit()), 10);
        }
        if found.0.is_empty() {
            self.rest = start;
            return Err(self.failed("expected rhs"));
        }
        match i64::from_str_radix(found.0, found.1) {
            Ok(number) => Ok(Value::Integer(if negative { -number } else { number })),
            Err(error) => Err(self.failed_at(start, error.to_string())),
        }
    }
}

/// The only part, or all of them together.
fn one_or(mut parts: Vec<Expression>, many: fn(Vec<Expression>) -> Expression) -> Expression {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            many(parts)
        }
        None => many(parts),
    }
}

/// The first address of the block that `network` lies in.
fn first_of(network: Network) -> IpAddr {
    match network.address {
        IpAddr::V4(address) => {
            let shift = 32_u32.saturating_sub(u32::from(network.bits));
            let mask = u32::MAX.checked_shl(shift).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
        }
        IpAddr::V6(address) => {
            let shift = 128_u32.saturating_sub(u32::from(network.bits));
            let mask = u128::MAX.checked_shl(shift).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}
