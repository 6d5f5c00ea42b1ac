//! Paths: the one normalisation, and the path that is sent upstream.

use std::borrow::Cow;

/// The path cannot be normalised: bad percent escape, NUL, or it climbs above the root.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("path cannot be normalised")]
pub struct BadPath;

/// Kong's path normalisation (spec gateway-proxy 3.2): decodes what is not reserved, removes dot
/// segments, merges slashes. Bytes that are not UTF-8 stay escaped. Borrows when nothing changes.
///
/// # Errors
/// [`BadPath`].
pub fn normalise_path(raw: &str) -> Result<Cow<'_, str>, BadPath> {
    if !raw.starts_with('/') {
        return Err(BadPath);
    }
    if is_normal(raw.as_bytes()) {
        return Ok(Cow::Borrowed(raw));
    }
    let decoded = decode(raw.as_bytes())?;
    let resolved = remove_dots_and_slashes(&decoded)?;
    Ok(Cow::Owned(into_text(resolved)))
}

/// No escape, no NUL, no repeated slash, and no segment that begins with a dot.
fn is_normal(path: &[u8]) -> bool {
    let mut previous = 0;
    path.iter().all(|byte| {
        let normal = !matches!((previous, *byte), (_, 0 | b'%') | (b'/', b'/' | b'.'));
        previous = *byte;
        normal
    })
}

const fn is_reserved(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'*'
            | b'\''
            | b'('
            | b')'
            | b';'
            | b':'
            | b'@'
            | b'&'
            | b'='
            | b'+'
            | b'$'
            | b','
            | b'/'
            | b'?'
            | b'%'
            | b'#'
            | b'['
            | b']'
    )
}

fn decode(path: &[u8]) -> Result<Vec<u8>, BadPath> {
    let digit = |byte: Option<&u8>| byte.and_then(|it| char::from(*it).to_digit(16));
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.iter();
    while let Some(byte) = bytes.next() {
        match *byte {
            0 => return Err(BadPath),
            b'%' => {}
            plain => {
                decoded.push(plain);
                continue;
            }
        }
        let (high, low) = (digit(bytes.next()), digit(bytes.next()));
        let (Some(high), Some(low)) = (high, low) else {
            return Err(BadPath);
        };
        match u8::try_from(high * 16 + low) {
            Ok(0) | Err(_) => return Err(BadPath),
            Ok(byte) if is_reserved(byte) => escape(&mut decoded, byte),
            Ok(byte) => decoded.push(byte),
        }
    }
    Ok(decoded)
}

/// RFC 3986 section 5.2.4, then repeated slashes become one.
fn remove_dots_and_slashes(path: &[u8]) -> Result<Vec<u8>, BadPath> {
    let mut segments: Vec<&[u8]> = Vec::new();
    let mut open = false;
    for segment in path.split(|byte| *byte == b'/').skip(1) {
        open = matches!(segment, b"" | b"." | b"..");
        match segment {
            b"." => {}
            b".." => {
                segments.pop().ok_or(BadPath)?;
            }
            _ => segments.push(segment),
        }
    }
    let mut resolved = Vec::with_capacity(path.len());
    for segment in segments.into_iter().filter(|it| !it.is_empty()) {
        resolved.push(b'/');
        resolved.extend_from_slice(segment);
    }
    if open || resolved.is_empty() {
        resolved.push(b'/');
    }
    Ok(resolved)
}

/// Bytes as text; those that are no UTF-8 are escaped again, so that routes can match around them.
fn into_text(bytes: Vec<u8>) -> String {
    match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let mut text = String::with_capacity(error.as_bytes().len() + 8);
            for chunk in error.as_bytes().utf8_chunks() {
                text.push_str(chunk.valid());
                for byte in chunk.invalid() {
                    push_escape(&mut text, *byte);
                }
            }
            text
        }
    }
}

const UPPER_HEX: &[u8; 16] = b"0123456789ABCDEF";

fn hex_digits(byte: u8) -> [u8; 2] {
    let digit = |nibble: u8| UPPER_HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
    [digit(byte >> 4), digit(byte & 15)]
}

fn escape(into: &mut Vec<u8>, byte: u8) {
    into.push(b'%');
    into.extend_from_slice(&hex_digits(byte));
}

fn push_escape(into: &mut String, byte: u8) {
    into.push('%');
    into.extend(hex_digits(byte).map(char::from));
}

/// The path to send upstream, escaped (spec gateway-proxy 3.2 and 3.7, `path_handling` v0).
#[must_use]
pub fn upstream_path(service_path: Option<&str>, path: &str, matched: &str, strip: bool) -> String {
    let length = service_path.map_or(0, str::len) + path.len() + 1;
    let mut target = String::with_capacity(length);
    write_upstream_path(&mut target, service_path, path, matched, strip);
    target
}

/// [`upstream_path`] at the end of `target`.
pub fn write_upstream_path(
    target: &mut String,
    service_path: Option<&str>,
    path: &str,
    matched: &str,
    strip: bool,
) {
    let base = service_path.filter(|it| !it.is_empty()).unwrap_or("/");
    let (base, rest) = match (base.strip_suffix('/'), strip) {
        (Some(bare), true) => below_directory(base, bare, path, rest_of(path, matched)),
        (Some(_), false) => (base, without_slash(path)),
        (None, true) => below_file(base, path, rest_of(path, matched)),
        (None, false) if path == "/" => (base, ""),
        (None, false) => (base, path),
    };
    push_escaped(target, base);
    let joint = !base.ends_with('/') && !rest.is_empty() && !rest.starts_with('/');
    if joint {
        target.push('/');
    }
    push_escaped(target, rest);
}

/// The path to send upstream at the end of `target`, under `path_handling` v1 (spec gateway-proxy 3.7):
/// the parts are joined as they are, but for a doubled slash. `matched` is empty for a route without
/// paths.
pub fn write_upstream_path_v1(
    target: &mut String,
    service_path: Option<&str>,
    path: &str,
    matched: &str,
    strip: bool,
) {
    let base = service_path.filter(|it| !it.is_empty()).unwrap_or("/");
    let rest = match matched {
        _ if !strip => without_slash(path),
        "" => without_slash(path),
        matched => rest_of(path, matched),
    };
    let rest = match base.ends_with('/') {
        true if strip => without_slash(rest),
        _ => rest,
    };
    push_escaped(target, base);
    push_escaped(target, rest);
}

/// What follows the matched prefix, without a dot segment that the cut may have laid bare.
fn rest_of<'a>(path: &'a str, matched: &str) -> &'a str {
    let matched = if matched.is_empty() { "/" } else { matched };
    let rest = path.strip_prefix(matched).unwrap_or_default();
    match rest {
        "." | ".." => "",
        _ => rest
            .strip_prefix("./")
            .or_else(|| rest.strip_prefix("../"))
            .unwrap_or(rest),
    }
}

fn without_slash(text: &str) -> &str {
    text.strip_prefix('/').unwrap_or(text)
}

fn below_directory<'a>(
    base: &'a str,
    bare: &'a str,
    path: &str,
    rest: &'a str,
) -> (&'a str, &'a str) {
    if !rest.is_empty() {
        (base, without_slash(rest))
    } else if base == "/" || path.ends_with('/') {
        (base, "")
    } else {
        (bare, "")
    }
}

fn below_file<'a>(base: &'a str, path: &str, rest: &'a str) -> (&'a str, &'a str) {
    match rest {
        "" if path.len() > 1 && path.ends_with('/') => (base, "/"),
        _ => (base, rest),
    }
}

fn push_escaped(target: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| !is_plain(byte)) {
        // An ASCII byte ends a character, and so do all bytes of the one that `at` points to.
        let (plain, from) = rest.split_at_checked(at).unwrap_or((rest, ""));
        target.push_str(plain);
        let mut characters = from.chars();
        if let Some(character) = characters.next() {
            let mut buffer = [0; 4];
            for byte in character.encode_utf8(&mut buffer).bytes() {
                push_escape(target, byte);
            }
        }
        rest = characters.as_str();
    }
    target.push_str(rest);
}

const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b'/'
                | b':'
                | b';'
                | b'='
                | b'?'
                | b'@'
                | b'['
                | b']'
                | b'-'
                | b'_'
                | b'.'
                | b'~'
                | b'%'
        )
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;

    use super::{BadPath, normalise_path, upstream_path, write_upstream_path_v1};

    #[test]
    fn proxy_case_014_equivalent_paths_normalise_alike() {
        for raw in [
            "/foo/a/../bar",
            "/foo//bar",
            "/foo/./bar",
            "/foo/b%61r",
            "/foo/%2e/bar",
        ] {
            assert_eq!(normalise_path(raw).unwrap(), "/foo/bar", "{raw}");
        }
    }

    #[test]
    fn proxy_case_015_reserved_bytes_stay_escaped_and_forwarding_escapes_again() {
        let path = normalise_path("/a%2fb%20c%7Cd").unwrap();
        assert_eq!(path, "/a%2Fb c|d");
        assert_eq!(upstream_path(None, &path, "/", false), "/a%2Fb%20c%7Cd");
    }

    #[test]
    fn normal_paths_are_borrowed() {
        for raw in ["/", "/foo/bar", "/foo/", "/a.b/c", "/caf\u{e9}"] {
            assert!(
                matches!(normalise_path(raw), Ok(Cow::Borrowed(it)) if it == raw),
                "{raw}"
            );
        }
    }

    #[test]
    fn refuses_bad_escapes_nul_and_climbing() {
        for raw in [
            "/%",
            "/%2",
            "/%zz",
            "/%00",
            "/..",
            "/a/../..",
            "/%2e%2e/x",
            "*",
            "",
        ] {
            assert_eq!(normalise_path(raw), Err(BadPath), "{raw}");
        }
    }

    #[test]
    fn dot_segments_keep_or_leave_a_slash() {
        for (raw, expected) in [
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/a/..", "/"),
            ("//", "/"),
            ("/a//", "/a/"),
            ("/a//../b", "/a/b"),
            ("/.a/..b", "/.a/..b"),
            ("/a%2F..", "/a%2F.."),
        ] {
            assert_eq!(normalise_path(raw).unwrap(), expected, "{raw}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_stay_escaped() {
        assert_eq!(normalise_path("/caf%e9/%c3%a9").unwrap(), "/caf%E9/é");
        assert_eq!(
            upstream_path(None, "/caf%E9/é", "/", false),
            "/caf%E9/%C3%A9"
        );
    }

    /// Service path, route path, request; then stripped and kept under v0, and under v1. `-` is a route
    /// without paths.
    const PATHS: &[[&str; 7]] = &[
        ["/", "/", "/", "/", "/", "/", "/"],
        ["/", "/r", "/r", "/", "/r", "/", "/r"],
        ["/", "/r", "/r/", "/", "/r/", "/", "/r/"],
        ["/", "/r", "/rq", "/q", "/rq", "/q", "/rq"],
        ["/", "/r/", "/r/q", "/q", "/r/q", "/q", "/r/q"],
        ["/s", "/", "/", "/s", "/s", "/s", "/s"],
        ["/s", "/", "/r", "/s/r", "/s/r", "/sr", "/sr"],
        ["/s", "/", "/r/", "/s/r/", "/s/r/", "/sr/", "/sr/"],
        ["/s", "/r", "/r", "/s", "/s/r", "/s", "/sr"],
        ["/s", "/r", "/r/", "/s/", "/s/r/", "/s/", "/sr/"],
        ["/s", "/r", "/rq", "/s/q", "/s/rq", "/sq", "/srq"],
        ["/s", "/r", "/r/q", "/s/q", "/s/r/q", "/s/q", "/sr/q"],
        ["/s", "/r/", "/r/", "/s/", "/s/r/", "/s", "/sr/"],
        ["/s", "/r/", "/r/q", "/s/q", "/s/r/q", "/sq", "/sr/q"],
        ["/s", "-", "/", "/s", "/s", "/s", "/s"],
        ["/s", "-", "/r", "/s/r", "/s/r", "/sr", "/sr"],
        ["/s/", "/", "/", "/s/", "/s/", "/s/", "/s/"],
        ["/s/", "/", "/r/q", "/s/r/q", "/s/r/q", "/s/r/q", "/s/r/q"],
        ["/s/", "/r", "/r", "/s", "/s/r", "/s/", "/s/r"],
        ["/s/", "/r", "/r/", "/s/", "/s/r/", "/s/", "/s/r/"],
        ["/s/", "/r", "/rq", "/s/q", "/s/rq", "/s/q", "/s/rq"],
        ["/s/", "/r/", "/r/", "/s/", "/s/r/", "/s/", "/s/r/"],
        ["/s/", "-", "/r", "/s/r", "/s/r", "/s/r", "/s/r"],
        ["/s", "/r", "/r./q", "/s/q", "/s/r./q", "/sq", "/sr./q"],
        ["/s", "/r", "/r%2e/q", "/s/q", "/s/r./q", "/sq", "/sr./q"],
        ["/s", "/r", "/r../q", "/s/q", "/s/r../q", "/sq", "/sr../q"],
    ];

    #[test]
    fn proxy_case_016_every_row_of_the_path_table() {
        for row @ [service, route, request, expected @ ..] in PATHS {
            let path = normalise_path(request).unwrap();
            let matched = if *route == "-" { "" } else { route };
            let v0 = |strip| upstream_path(Some(service), &path, matched, strip);
            let v1 = |strip| {
                let mut target = String::new();
                write_upstream_path_v1(&mut target, Some(service), &path, matched, strip);
                target
            };
            assert_eq!(
                [v0(true), v0(false), v1(true), v1(false)],
                *expected,
                "{row:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn normalisation_is_idempotent_and_leaves_nothing_to_climb(raw in "/[a./%2eEfF5-]{0,24}") {
            if let Ok(path) = normalise_path(&raw) {
                prop_assert!(path.starts_with('/'));
                prop_assert!(!path.contains("//"));
                prop_assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
                // `%25` stays escaped, so a second pass sees the same escapes.
                prop_assert_eq!(normalise_path(&path).unwrap(), path.as_ref());
            }
        }

        #[test]
        fn upstream_paths_are_sendable(service in "(/[a-z ]{0,5}){0,2}", raw in "/[a-z /%2]{0,20}", cut in 0_usize..8, strip: bool) {
            if let Ok(path) = normalise_path(&raw) {
                let matched = path.get(..cut.min(path.len())).unwrap_or("/");
                let target = upstream_path(Some(&service), &path, matched, strip);
                prop_assert!(target.starts_with('/'), "{}", target);
                prop_assert!(target.bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
    }
}
