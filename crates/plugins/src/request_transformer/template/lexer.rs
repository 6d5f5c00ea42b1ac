//! Words of an expression (Lua 5.1 manual section 2.1, the part that is supported).

use super::parser::SyntaxError;

/// One word.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Word {
    /// A name or keyword.
    Name(String),
    Text(Vec<u8>),
    Number(f64),
    /// An operator or bracket.
    Symbol(&'static str),
}

/// Longer ones first.
const SYMBOLS: [&str; 20] = [
    "..", "==", "~=", "<=", ">=", "<", ">", "(", ")", "[", "]", ".", ":", ",", "+", "-", "*", "/",
    "%", "#",
];

/// Splits `text` into words.
///
/// # Errors
/// [`SyntaxError`] at what starts no word.
pub(super) fn words(text: &str) -> Result<Vec<Word>, SyntaxError> {
    let mut rest = text.trim_start();
    let mut words = Vec::new();
    while let Some(first) = rest.chars().next() {
        let (word, after) = if first.is_ascii_alphabetic() || first == '_' {
            name(rest)
        } else if first.is_ascii_digit() {
            number(rest)?
        } else if first == '\'' || first == '"' {
            string(rest, first)?
        } else {
            symbol(rest)?
        };
        words.push(word);
        rest = after.trim_start();
    }
    Ok(words)
}

/// Splits where `belongs` first says no.
fn take(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|character| !belongs(character));
    text.split_at_checked(end.unwrap_or(text.len()))
        .unwrap_or((text, ""))
}

fn name(text: &str) -> (Word, &str) {
    let (name, rest) = take(text, |it| it.is_ascii_alphanumeric() || it == '_');
    (Word::Name(name.to_owned()), rest)
}

fn number(text: &str) -> Result<(Word, &str), SyntaxError> {
    let (mut digits, mut rest) = take(text, |it| it.is_ascii_alphanumeric());
    // A point belongs to a number unless it is the first of a concatenation.
    if rest.starts_with('.') && !rest.starts_with("..") {
        let (_, after) = take(rest.get(1..).unwrap_or_default(), |it| {
            it.is_ascii_alphanumeric()
        });
        digits = text.get(..text.len() - after.len()).unwrap_or_default();
        rest = after;
    }
    if digits.ends_with(['e', 'E']) && rest.starts_with(['+', '-']) {
        let (_, after) = take(rest.get(1..).unwrap_or_default(), |it| it.is_ascii_digit());
        digits = text.get(..text.len() - after.len()).unwrap_or_default();
        rest = after;
    }
    let number = parse_number(digits).ok_or_else(|| SyntaxError::Number(digits.to_owned()))?;
    Ok((Word::Number(number), rest))
}

/// A number as Lua reads it: decimal or hexadecimal, white space around it.
pub(super) fn parse_number(text: &str) -> Option<f64> {
    let text = text.trim();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text),
    };
    let hexadecimal = digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"));
    if let Some(hexadecimal) = hexadecimal {
        let is_plain = hexadecimal.bytes().all(|byte| byte.is_ascii_hexdigit());
        let value = u64::from_str_radix(hexadecimal, 16).ok()?;
        return is_plain.then_some(sign * value as f64);
    }
    // Rust also reads `inf` and `nan`, Lua 5.1 does not.
    if !digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return None;
    }
    digits.parse::<f64>().ok().map(|value| sign * value)
}

fn string(text: &str, quote: char) -> Result<(Word, &str), SyntaxError> {
    let mut bytes = Vec::new();
    let mut rest = text.get(1..).unwrap_or_default();
    loop {
        let mut characters = rest.chars();
        let character = characters.next().ok_or(SyntaxError::Unclosed)?;
        rest = characters.as_str();
        if character == quote {
            return Ok((Word::Text(bytes), rest));
        }
        if character == '\\' {
            rest = escape(rest, &mut bytes)?;
        } else {
            bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
}

fn escape<'a>(text: &'a str, bytes: &mut Vec<u8>) -> Result<&'a str, SyntaxError> {
    let mut characters = text.chars();
    let character = characters.next().ok_or(SyntaxError::Unclosed)?;
    if character.is_ascii_digit() {
        let length = text.bytes().take(3).take_while(u8::is_ascii_digit).count();
        let (digits, rest) = text.split_at_checked(length).ok_or(SyntaxError::Escape)?;
        bytes.push(digits.parse().map_err(|_| SyntaxError::Escape)?);
        return Ok(rest);
    }
    bytes.push(match character {
        'n' => b'\n',
        't' => b'\t',
        'r' => b'\r',
        '\\' => b'\\',
        '\'' => b'\'',
        '"' => b'"',
        _ => return Err(SyntaxError::Escape),
    });
    Ok(characters.as_str())
}

fn symbol(text: &str) -> Result<(Word, &str), SyntaxError> {
    let found = SYMBOLS
        .into_iter()
        .find_map(|symbol| Some((symbol, text.strip_prefix(symbol)?)));
    match found {
        // Lua's comments and long strings start like operators.
        Some(("-", rest)) if rest.starts_with('-') => Err(SyntaxError::Character('-')),
        Some(("[", rest)) if rest.starts_with('[') => Err(SyntaxError::Character('[')),
        Some((symbol, rest)) => Ok((Word::Symbol(symbol), rest)),
        None => Err(SyntaxError::Character(
            text.chars().next().unwrap_or_default(),
        )),
    }
}
