//! Regular expressions of routes.

use regex::{Regex, RegexBuilder};

/// Bytes a compiled expression may take; what is larger does not compile.
const REGEX_BYTES_MAX: usize = 1024 * 1024;

/// Compiles a pattern within limits.
pub(crate) fn limited(pattern: &str, ignore_case: bool) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern)
        .case_insensitive(ignore_case)
        .size_limit(REGEX_BYTES_MAX)
        .dfa_size_limit(REGEX_BYTES_MAX)
        .build()
}

/// The characters that every match of `pattern` starts with; shorter than possible when in doubt.
pub(crate) fn literal_prefix(pattern: &str) -> &str {
    if alternates(pattern) {
        return "";
    }
    let special = |character: char| r"\.+*?()|[]{}^$".contains(character);
    let end = pattern.find(special).unwrap_or(pattern.len());
    let (literal, rest) = pattern.split_at_checked(end).unwrap_or_default();
    // A quantifier makes the character before it optional.
    match literal.char_indices().next_back() {
        Some((last, _)) if rest.starts_with(['?', '*', '{']) => {
            literal.get(..last).unwrap_or_default()
        }
        _ => literal,
    }
}

/// Whether a `|` stands outside of every group and class.
fn alternates(pattern: &str) -> bool {
    let (mut groups, mut classes) = (0_usize, 0_usize);
    let mut bytes = pattern.bytes().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                let _escaped = bytes.next();
            }
            b'[' => {
                classes += 1;
                bytes.next_if_eq(&b'^');
                // A bracket in the first place is a literal one.
                bytes.next_if_eq(&b']');
            }
            b']' => classes = classes.saturating_sub(1),
            b'(' if classes == 0 => groups += 1,
            b')' if classes == 0 => groups = groups.saturating_sub(1),
            b'|' if classes == 0 && groups == 0 => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::literal_prefix;

    #[test]
    fn literal_prefix_is_never_too_long() {
        for (pattern, expected) in [
            ("/a/(?<id>[a-z]+)/x", "/a/"),
            ("/abc?", "/ab"),
            ("/abc{0,2}", "/ab"),
            ("/abc+", "/abc"),
            ("/a|/b", ""),
            ("/a(b|c)", "/a"),
            ("/a[(]|/b", ""),
            ("/a[]|(]x", "/a"),
            ("(?i)/a", ""),
            (r"/a\.b", "/a"),
            ("/é*", "/"),
        ] {
            assert_eq!(literal_prefix(pattern), expected, "{pattern}");
        }
    }
}
