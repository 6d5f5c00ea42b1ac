use std::collections::HashSet;

/// Fields of one form at most; more are refused before anything looks at them.
const FIELDS_MAX: usize = 200;

/// The body is not `application/x-www-form-urlencoded` in UTF-8 without NUL.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed form body")]
pub struct Malformed;

/// A decoded form. Repeated fields are kept, so that they can be refused when it is their turn.
#[derive(Clone, Debug, Default)]
pub struct Form {
    fields: Vec<(String, String)>,
}

impl Form {
    /// Decodes a form body or a query string.
    ///
    /// # Errors
    /// [`Malformed`] for bytes that do not decode to UTF-8, NUL, and more than 200 fields.
    pub fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Vec::new();
        for pair in body.split(|byte| *byte == b'&') {
            if pair.is_empty() {
                continue;
            }
            if fields.len() == FIELDS_MAX {
                return Err(Malformed);
            }
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            let name = decode(halves.next().unwrap_or_default()).ok_or(Malformed)?;
            let value = decode(halves.next().unwrap_or_default()).ok_or(Malformed)?;
            fields.push((name, value));
        }
        Ok(Self { fields })
    }

    /// The first value of a field; empty values count as absent (RFC 6749 section 3.2).
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|(field, _)| field == name);
        let value = found.next().map(|(_, value)| value.as_str());
        value.filter(|value| !value.is_empty())
    }

    /// Every value of a field that is not empty.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let found = self.fields.iter().filter(move |(field, _)| field == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// Whether a field occurs twice (RFC 6749 section 3.2 forbids it).
    #[must_use]
    pub fn has_duplicate(&self) -> bool {
        self.has_duplicate_except("")
    }

    /// Whether a field other than `repeatable` occurs twice.
    #[must_use]
    pub fn has_duplicate_except(&self, repeatable: &str) -> bool {
        let mut seen = HashSet::new();
        let others = self.fields.iter().filter(|(field, _)| field != repeatable);
        others.into_iter().any(|(field, _)| !seen.insert(field))
    }
}

/// Decodes one half of a pair: `+` is a space, `%xx` a byte, the whole UTF-8 without NUL.
pub(crate) fn decode(text: &[u8]) -> Option<String> {
    let spaced: Vec<u8> = text
        .iter()
        .map(|byte| if *byte == b'+' { b' ' } else { *byte })
        .collect();
    let bytes: Vec<u8> = percent_encoding::percent_decode(&spaced).collect();
    let text = String::from_utf8(bytes).ok()?;
    (!text.contains('\0')).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_and_keeps_the_first_value() {
        let form = Form::parse(b"a=1+2&b=%C3%A4&a=3&c=").unwrap();
        assert_eq!(form.get("a"), Some("1 2"));
        assert_eq!(form.get("b"), Some("\u{e4}"));
        assert_eq!(form.get("c"), None);
        assert!(form.has_duplicate());
    }

    #[test]
    fn refuses_what_is_not_text() {
        assert_eq!(Form::parse(b"a=%ff").unwrap_err(), Malformed);
        assert_eq!(Form::parse(b"a=%00").unwrap_err(), Malformed);
        assert_eq!(Form::parse(&b"a=&".repeat(500)).unwrap_err(), Malformed);
    }

    proptest::proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>) {
            drop(Form::parse(&bytes));
        }
    }
}
