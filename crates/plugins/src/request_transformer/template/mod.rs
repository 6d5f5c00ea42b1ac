//! Values with `$( expression )` in them. The expressions are a subset of Lua's, without statements,
//! tables or Lua patterns; what is not in the subset does not compile.

mod eval;
mod functions;
mod lexer;
mod parser;

pub(super) use eval::{EvalError, Scope};
pub(super) use parser::SyntaxError;

use std::borrow::Cow;

use parser::Expression;

/// A compiled value.
#[derive(Debug)]
pub(super) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug)]
enum Piece {
    Text(Box<str>),
    Expression(Expression),
}

impl Template {
    /// Compiles `text`. A `$(` without its closing parenthesis is text.
    ///
    /// # Errors
    /// [`SyntaxError`] for an expression outside the subset.
    pub(super) fn compile(text: &str) -> Result<Self, SyntaxError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, expression, after)) = split(rest) {
            if !before.is_empty() {
                pieces.push(Piece::Text(before.into()));
            }
            pieces.push(Piece::Expression(parser::parse(expression)?));
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.into()));
        }
        Ok(Self { pieces })
    }

    /// The text, when there is no expression in it.
    pub(super) fn literal(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The text parts, without what expressions render.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(text) => Some(&**text),
            Piece::Expression(_) => None,
        })
    }

    /// Renders the value.
    ///
    /// # Errors
    /// [`EvalError`] where Lua would raise an error.
    pub(super) fn render<'a>(&'a self, scope: &'a Scope<'a>) -> Result<Cow<'a, [u8]>, EvalError> {
        if let [Piece::Expression(expression)] = self.pieces.as_slice() {
            return expression.text(scope);
        }
        if let Some(text) = self.literal() {
            return Ok(Cow::Borrowed(text.as_bytes()));
        }
        let mut rendered = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => rendered.extend_from_slice(text.as_bytes()),
                Piece::Expression(expression) => {
                    rendered.extend_from_slice(&expression.text(scope)?)
                }
            }
        }
        Ok(Cow::Owned(rendered))
    }
}

/// Text before the first `$(…)`, what its balanced parentheses hold, and the rest.
fn split(text: &str) -> Option<(&str, &str, &str)> {
    text.match_indices("$(").find_map(|(start, _)| {
        let inner = start + 2;
        let end = inner + closing(text.get(inner..)?)?;
        Some((
            text.get(..start)?,
            text.get(inner..end)?,
            text.get(end + 1..)?,
        ))
    })
}

/// Where the parenthesis that is already open closes. Parentheses in strings count, as in the original.
fn closing(text: &str) -> Option<usize> {
    let mut open = 1_usize;
    text.bytes().position(|byte| {
        match byte {
            b'(' => open += 1,
            b')' => open -= 1,
            _ => {}
        }
        open == 0
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::super::arguments::Arguments;
    use super::*;

    fn render(text: &str) -> Result<String, String> {
        let mut headers = HeaderMap::new();
        headers.append("authorization", "Bearer a".parse().unwrap());
        headers.append("x-many", "1".parse().unwrap());
        headers.append("x-many", "2".parse().unwrap());
        headers.append("x-number", "12".parse().unwrap());
        headers.append("user-agent", "curl".parse().unwrap());
        let query = Arguments::decode(b"a=1&b=x%20y&target-url=http%3A%2F%2Fh&flag&a=2");
        let captures = [("0", "/users/7"), ("1", "7"), ("user", "Ada")];
        let captures = captures.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let scope = Scope {
            headers: &headers,
            query: &query,
            captures: &captures,
            gateway_consumer: Some("app"),
        };
        let template = Template::compile(text).map_err(|error| error.to_string())?;
        let rendered = template.render(&scope).map_err(|error| error.to_string())?;
        Ok(String::from_utf8(rendered.into_owned()).unwrap())
    }

    #[test]
    fn renders_what_the_platform_configures() {
        for (text, rendered) in [
            (
                "$(headers['consumer-token'] or headers['Authorization'])",
                "Bearer a",
            ),
            ("$(query_params.target-url)", "http://h"),
            ("$(query_params.a)", "1"),
            ("$(uri_captures.user)", "Ada"),
            ("$(uri_captures[1])/$(uri_captures[0])", "7//users/7"),
            ("$(shared.gateway_consumer)", "app"),
            ("$(shared.unset or 'none')", "none"),
            ("$(headers.user_agent)", "curl"),
            ("$(headers['X-Many'])", "1"),
            ("$(query_params.flag)", "true"),
            ("plain $x # text", "plain $x # text"),
            ("$(query_params.missing)", ""),
            ("", ""),
        ] {
            assert_eq!(render(text).as_deref(), Ok(rendered), "{text}");
        }
    }

    #[test]
    fn plugins_case_059_literal_parentheses_and_defaults() {
        assert_eq!(
            render("$('$(uri_captures.user1)')").unwrap(),
            "$(uri_captures.user1)"
        );
        assert_eq!(
            render("$(uri_captures.user1 or 'default1')").unwrap(),
            "default1"
        );
        assert!(render("$(foo())").unwrap_err().contains("foo"));
        assert_eq!(render("$(query_params.a").unwrap(), "$(query_params.a");
        assert_eq!(
            render("$( $(uri_captures.user").unwrap(),
            "$( $(uri_captures.user"
        );
    }

    #[test]
    fn evaluates_like_lua() {
        for (text, rendered) in [
            ("1 + 2 * 3", "7"),
            ("(1 + 2) * 3", "9"),
            ("7 % 3", "1"),
            ("-7 % 3", "2"),
            ("1 / 4", "0.25"),
            ("10 / 3", "3.3333333333333"),
            ("2 - -1", "3"),
            ("1e15", "1e+15"),
            ("'a' .. 'b' .. 1", "ab1"),
            ("headers['x-number'] + 1", "13"),
            ("#headers['x-number']", "2"),
            ("not nil", "true"),
            ("nil", ""),
            ("false", ""),
            ("1 == 1 and 'y' or 'n'", "y"),
            ("'a' ~= 'a' and 'y' or 'n'", "n"),
            ("1 == '1' and 'y' or 'n'", "n"),
            ("'a' < 'b' and 'y' or 'n'", "y"),
            ("2 >= 3 and 'y' or 'n'", "n"),
            ("type(headers)", "table"),
            ("type(query_params.zzz)", "nil"),
            (
                "tostring(12) .. tostring(true) .. tostring(nil)",
                "12truenil",
            ),
            ("tonumber('0x10') + tonumber(' 5 ')", "21"),
            ("type(tonumber('x'))", "nil"),
            ("string.sub('kong', 2, -2)", "on"),
            ("('Kong'):lower()", "kong"),
            ("uri_captures.user:upper()", "ADA"),
            ("string.len('abc') + ('abc'):len()", "6"),
            ("string.rep('ab', 3)", "ababab"),
            ("'tab\\tquote\\'\\65'", "tab\tquote'A"),
            ("\"double\"", "double"),
        ] {
            let rendered = Ok(rendered.to_owned());
            assert_eq!(render(&format!("$({text})")), rendered, "{text}");
        }
    }

    #[test]
    fn refuses_to_compile_what_is_outside_the_subset() {
        for text in [
            "uri_captures user2",
            "x",
            "headers",
            "{}",
            "{a = 1}",
            "require('os')",
            "os.execute('x')",
            "string.gsub('a', 'b', 'c')",
            "('a'):match('b')",
            "a = 1",
            "while true do end",
            "headers[",
            "'open",
            "1 +",
            "",
            "2 ^ 2",
            "[[long]]",
            "#headers",
            "string",
            "type",
            "headers.x()",
            "type(1, 2)",
            "1 .. ",
            "--1",
        ] {
            let text = format!("$({text})");
            assert!(Template::compile(&text).is_err(), "{text} compiles");
        }
        let deep = format!("$({}1{})", "(".repeat(500), ")".repeat(500));
        assert!(Template::compile(&deep).is_err());
        let long = format!("$(1{})", "+1".repeat(5000));
        assert!(Template::compile(&long).is_err());
    }

    #[test]
    fn fails_where_lua_raises_an_error() {
        for text in [
            "nil .. 'a'",
            "'a' + 1",
            "1 < 'a'",
            "headers.a.b",
            "headers or 'x'",
            "nil + 1",
            "-headers.user_agent",
            "string.rep('x', 1000000000)",
            "headers[nil]",
        ] {
            let text = format!("$({text})");
            assert!(Template::compile(&text).is_ok(), "{text} does not compile");
            assert!(render(&text).is_err(), "{text} renders");
        }
    }
}
