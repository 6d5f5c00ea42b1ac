//! From words to an expression; names and calls are resolved here, so that nothing unknown is left for
//! the time of a request.

use super::functions::Function;
use super::lexer::{Word, words};

/// Nesting of parentheses, indexes and unary operators.
const DEPTH_MAX: usize = 32;
/// Operators, calls and indexes of one expression; evaluation recurses over them.
const OPERATIONS_MAX: usize = 200;

/// Why an expression does not compile.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SyntaxError {
    #[error("unexpected character {0:?}")]
    Character(char),
    #[error("malformed number {0:?}")]
    Number(String),
    #[error("unfinished string")]
    Unclosed,
    #[error("invalid escape sequence")]
    Escape,
    #[error("unexpected {0}")]
    Unexpected(String),
    #[error("unknown name {0:?}")]
    UnknownName(String),
    #[error("function {0:?} is not supported")]
    UnknownFunction(String),
    #[error("wrong number of arguments for {0:?}")]
    Arguments(&'static str),
    #[error("{0} is a table, not a value")]
    Table(&'static str),
    #[error("expression is too complex")]
    TooComplex,
}

/// What an expression can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variable {
    Headers,
    QueryParams,
    UriCaptures,
    Shared,
}

impl Variable {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "headers" => Self::Headers,
            "query_params" => Self::QueryParams,
            "uri_captures" => Self::UriCaptures,
            "shared" => Self::Shared,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Headers => "headers",
            Self::QueryParams => "query_params",
            Self::UriCaptures => "uri_captures",
            Self::Shared => "shared",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Or,
    And,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
    Concatenate,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

impl Operator {
    /// The operator and how strongly it binds to the left and to the right (Lua 5.1 section 2.5.6);
    /// a weaker right side makes it right associative.
    fn of(word: &Word) -> Option<(Self, u8, u8)> {
        let symbol = match word {
            Word::Symbol(symbol) => *symbol,
            Word::Name(name) => name.as_str(),
            Word::Text(_) | Word::Number(_) => return None,
        };
        Some(match symbol {
            "or" => (Self::Or, 1, 1),
            "and" => (Self::And, 2, 2),
            "<" => (Self::Less, 3, 3),
            "<=" => (Self::LessOrEqual, 3, 3),
            ">" => (Self::Greater, 3, 3),
            ">=" => (Self::GreaterOrEqual, 3, 3),
            "==" => (Self::Equal, 3, 3),
            "~=" => (Self::NotEqual, 3, 3),
            ".." => (Self::Concatenate, 5, 4),
            "+" => (Self::Add, 6, 6),
            "-" => (Self::Subtract, 6, 6),
            "*" => (Self::Multiply, 7, 7),
            "/" => (Self::Divide, 7, 7),
            "%" => (Self::Modulo, 7, 7),
            _ => return None,
        })
    }
}

const UNARY_BINDS: u8 = 8;

#[derive(Debug)]
pub(super) enum Expression {
    Nil,
    Boolean(bool),
    Number(f64),
    Text(Vec<u8>),
    Variable(Variable),
    Index(Box<Expression>, Box<Expression>),
    Not(Box<Expression>),
    Negate(Box<Expression>),
    Length(Box<Expression>),
    Binary(Operator, Box<(Expression, Expression)>),
    Call(Function, Vec<Expression>),
}

/// Compiles the text between `$(` and `)`.
///
/// # Errors
/// [`SyntaxError`].
pub(super) fn parse(text: &str) -> Result<Expression, SyntaxError> {
    if let Some(name) = whole_parameter(text.trim()) {
        let key = Expression::Text(name.as_bytes().to_vec());
        let variable = Expression::Variable(Variable::QueryParams);
        return Ok(Expression::Index(Box::new(variable), Box::new(key)));
    }
    let mut parser = Parser {
        words: words(text)?.into_iter().peekable(),
        operations: 0,
    };
    let expression = parser.expression(0, 0)?;
    if let Some(word) = parser.words.next() {
        return Err(unexpected(Some(&word)));
    }
    if let Expression::Variable(variable) = expression {
        return Err(SyntaxError::Table(variable.name()));
    }
    Ok(expression)
}

/// `query_params.<name>` with hyphens in the name, which control planes write and Lua would read as a
/// subtraction.
fn whole_parameter(text: &str) -> Option<&str> {
    let name = text.strip_prefix("query_params.")?;
    let belongs = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (!name.is_empty() && name.bytes().all(belongs)).then_some(name)
}

fn unexpected(word: Option<&Word>) -> SyntaxError {
    SyntaxError::Unexpected(match word {
        None => "end of expression".to_owned(),
        Some(Word::Name(name)) => format!("{name:?}"),
        Some(Word::Text(_)) => "string".to_owned(),
        Some(Word::Number(number)) => number.to_string(),
        Some(Word::Symbol(symbol)) => format!("{symbol:?}"),
    })
}

struct Parser {
    words: std::iter::Peekable<std::vec::IntoIter<Word>>,
    operations: usize,
}

impl Parser {
    fn takes(&mut self, symbol: &'static str) -> bool {
        self.words
            .next_if(|word| *word == Word::Symbol(symbol))
            .is_some()
    }

    fn expect(&mut self, symbol: &'static str) -> Result<(), SyntaxError> {
        match self.words.next() {
            Some(Word::Symbol(found)) if found == symbol => Ok(()),
            other => Err(unexpected(other.as_ref())),
        }
    }

    fn name(&mut self) -> Result<String, SyntaxError> {
        match self.words.next() {
            Some(Word::Name(name)) if !is_keyword(&name) => Ok(name),
            other => Err(unexpected(other.as_ref())),
        }
    }

    fn count(&mut self) -> Result<(), SyntaxError> {
        self.operations += 1;
        if self.operations > OPERATIONS_MAX {
            return Err(SyntaxError::TooComplex);
        }
        Ok(())
    }

    /// Operators that bind more strongly than `floor`, by precedence climbing.
    fn expression(&mut self, floor: u8, depth: usize) -> Result<Expression, SyntaxError> {
        if depth > DEPTH_MAX {
            return Err(SyntaxError::TooComplex);
        }
        let mut left = self.operand(depth)?;
        while let Some((operator, binds_left, binds_right)) =
            self.words.peek().and_then(Operator::of)
        {
            if binds_left <= floor {
                break;
            }
            self.words.next();
            self.count()?;
            let right = self.expression(binds_right, depth + 1)?;
            left = Expression::Binary(operator, Box::new((left, right)));
        }
        Ok(left)
    }

    fn operand(&mut self, depth: usize) -> Result<Expression, SyntaxError> {
        let unary = match self.words.peek() {
            Some(Word::Symbol("-")) => Expression::Negate,
            Some(Word::Symbol("#")) => Expression::Length,
            Some(Word::Name(name)) if name == "not" => Expression::Not,
            _ => return self.suffixed(depth),
        };
        self.words.next();
        self.count()?;
        let operand = self.expression(UNARY_BINDS, depth + 1)?;
        let unary = unary(Box::new(operand));
        if let Expression::Length(operand) = &unary
            && let Expression::Variable(variable) = **operand
        {
            return Err(SyntaxError::Table(variable.name()));
        }
        Ok(unary)
    }

    /// A value with what follows it: indexes and method calls.
    fn suffixed(&mut self, depth: usize) -> Result<Expression, SyntaxError> {
        let mut value = self.value(depth)?;
        loop {
            if self.takes(".") {
                let key = Expression::Text(self.name()?.into_bytes());
                value = Expression::Index(Box::new(value), Box::new(key));
            } else if self.takes("[") {
                let key = self.expression(0, depth + 1)?;
                self.expect("]")?;
                value = Expression::Index(Box::new(value), Box::new(key));
            } else if self.takes(":") {
                let name = self.name()?;
                self.expect("(")?;
                value = self.call(&format!("string.{name}"), vec![value], depth)?;
            } else {
                return Ok(value);
            }
            self.count()?;
        }
    }

    fn value(&mut self, depth: usize) -> Result<Expression, SyntaxError> {
        Ok(match self.words.next() {
            Some(Word::Text(text)) => Expression::Text(text),
            Some(Word::Number(number)) => Expression::Number(number),
            Some(Word::Symbol("(")) => {
                let inner = self.expression(0, depth + 1)?;
                self.expect(")")?;
                inner
            }
            Some(Word::Name(name)) => return self.named(name, depth),
            other => return Err(unexpected(other.as_ref())),
        })
    }

    fn named(&mut self, name: String, depth: usize) -> Result<Expression, SyntaxError> {
        match name.as_str() {
            "nil" => return Ok(Expression::Nil),
            "true" => return Ok(Expression::Boolean(true)),
            "false" => return Ok(Expression::Boolean(false)),
            _ if is_keyword(&name) => return Err(unexpected(Some(&Word::Name(name)))),
            _ => {}
        }
        if let Some(variable) = Variable::named(&name) {
            return Ok(Expression::Variable(variable));
        }
        let mut name = name;
        while self.takes(".") {
            name.push('.');
            name.push_str(&self.name()?);
        }
        if !self.takes("(") {
            return Err(SyntaxError::UnknownName(name));
        }
        self.count()?;
        self.call(&name, Vec::new(), depth)
    }

    /// The arguments after an opening parenthesis.
    fn call(
        &mut self,
        name: &str,
        mut arguments: Vec<Expression>,
        depth: usize,
    ) -> Result<Expression, SyntaxError> {
        let function =
            Function::named(name).ok_or_else(|| SyntaxError::UnknownFunction(name.to_owned()))?;
        while !self.takes(")") {
            arguments.push(self.expression(0, depth + 1)?);
            if !self.takes(",") {
                self.expect(")")?;
                break;
            }
        }
        if !function.arity().contains(&arguments.len()) {
            return Err(SyntaxError::Arguments(function.name()));
        }
        Ok(Expression::Call(function, arguments))
    }
}

fn is_keyword(name: &str) -> bool {
    const KEYWORDS: [&str; 21] = [
        "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in",
        "local", "nil", "not", "or", "repeat", "return", "then", "true", "until", "while",
    ];
    KEYWORDS.contains(&name)
}
