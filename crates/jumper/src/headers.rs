//! Names of the control headers and the rule that picks a value when there are several lines.

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue};

/// Headers that steer the token gateway. Only the gateway's own plugins may set them: the gateway
/// has to remove them from what a client sends before its plugins run.
pub const CONTROL_HEADERS: [&str; 10] = [
    "remote_api_url",
    "api_base_path",
    "jumper_config",
    "routing_config",
    "token_endpoint",
    "issuer",
    "client_id",
    "client_secret",
    "access_token_forwarding",
    "scopes",
];

/// What never reaches a provider, besides hop-by-hop headers.
pub(crate) const STRIPPED: [&str; 17] = [
    "remote_api_url",
    "api_base_path",
    "jumper_config",
    "routing_config",
    "token_endpoint",
    "issuer",
    "client_id",
    "client_secret",
    "access_token_forwarding",
    "x-consumer-id",
    "x-consumer-custom-id",
    "x-consumer-groups",
    "x-consumer-username",
    "x-anonymous-consumer",
    "x-anonymous-groups",
    "x-forwarded-prefix",
    "forwarded",
];

/// Headers of one connection (RFC 9110 section 7.6.1), and one that the original drops as well.
pub(crate) const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "te",
    "trailer",
    "proxy-authorization",
    "proxy-authenticate",
    "x-application-context",
    "upgrade",
];

/// A header value as text: UTF-8, otherwise every byte is one character, so that no value is
/// overlooked.
pub(crate) fn text(value: &HeaderValue) -> Cow<'_, str> {
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(value.as_bytes().iter().copied().map(char::from).collect()),
    }
}

/// The value that counts: the last item of the last line that has one. The gateway appends its line
/// after the client's.
pub(crate) fn last<'a>(headers: &'a HeaderMap, name: &str) -> Option<Cow<'a, str>> {
    lines(headers, name).find_map(|line| last_item(line))
}

/// As [`last`], for URLs: a comma separates only when another URL follows.
pub(crate) fn last_url<'a>(headers: &'a HeaderMap, name: &str) -> Option<Cow<'a, str>> {
    lines(headers, name).find_map(|line| {
        let at = line
            .rmatch_indices(',')
            .map(|(at, _)| at + 1)
            .find(|at| is_url(line.get(*at..).unwrap_or_default().trim_start()));
        trimmed(slice(line, at.unwrap_or(0)))
    })
}

/// As [`last`], for base64: a comma never separates.
pub(crate) fn last_line<'a>(headers: &'a HeaderMap, name: &str) -> Option<Cow<'a, str>> {
    lines(headers, name).find_map(trimmed)
}

/// The first line, whole.
pub(crate) fn first<'a>(headers: &'a HeaderMap, name: &str) -> Option<Cow<'a, str>> {
    headers.get(name).map(text)
}

fn lines<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = Cow<'a, str>> {
    headers.get_all(name).into_iter().rev().map(text)
}

fn is_url(text: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| {
        text.get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    })
}

fn slice(line: Cow<'_, str>, from: usize) -> Cow<'_, str> {
    match line {
        Cow::Borrowed(line) => Cow::Borrowed(line.get(from..).unwrap_or_default()),
        Cow::Owned(line) => Cow::Owned(line.get(from..).unwrap_or_default().to_owned()),
    }
}

fn trimmed(line: Cow<'_, str>) -> Option<Cow<'_, str>> {
    let line = match line {
        Cow::Borrowed(line) => Cow::Borrowed(line.trim()),
        Cow::Owned(line) => Cow::Owned(line.trim().to_owned()),
    };
    Some(line).filter(|line| !line.is_empty())
}

fn last_item(line: Cow<'_, str>) -> Option<Cow<'_, str>> {
    if line.contains([',', '"']) {
        items(&line).pop().map(Cow::Owned)
    } else {
        trimmed(line)
    }
}

/// Splits at commas outside of quotes. A quote counts only where an item starts, and white space
/// inside of items vanishes after the first comma: so does the original's splitter.
fn items(line: &str) -> Vec<String> {
    let mut items = Vec::new();
    let mut item = String::new();
    let (mut quoted, mut escaped, mut first) = (false, false, true);
    for character in line.chars() {
        if quoted {
            match character {
                _ if escaped => {
                    item.push(character);
                    escaped = false;
                }
                '\\' => escaped = true,
                '"' => quoted = false,
                _ => item.push(character),
            }
            continue;
        }
        match character {
            '"' if item.trim().is_empty() => {
                item.clear();
                quoted = true;
            }
            ',' => {
                push_item(&mut items, &item);
                item.clear();
                first = false;
            }
            _ if !first && character.is_whitespace() => {}
            _ => item.push(character),
        }
    }
    push_item(&mut items, &item);
    items
}

fn push_item(items: &mut Vec<String>, item: &str) {
    let item = item.trim();
    if !item.is_empty() {
        items.push(item.to_owned());
    }
}

/// Removes hop-by-hop headers and those that `Connection` names.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<String> = headers
        .get_all("connection")
        .into_iter()
        .flat_map(|line| {
            let line = text(line).into_owned();
            let names = line.split(',').map(|name| name.trim().to_owned());
            names.collect::<Vec<_>>()
        })
        .filter(|name| !name.is_empty())
        .collect();
    for name in named {
        headers.remove(name.as_str());
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("h", HeaderValue::from_str(line).unwrap());
        }
        headers
    }

    #[test]
    fn the_last_item_of_the_last_line_counts() {
        for (lines, value) in [
            (&["a", "b"][..], Some("b")),
            (&["a,b , c"], Some("c")),
            (&["a", ""], Some("a")),
            (&["a,b", " , "], Some("b")),
            (&["\"x,y\""], Some("x,y")),
            (&["a, \"x, \\\"y\""], Some("x, \"y")),
            (&["a b"], Some("a b")),
            (&["z, a b"], Some("ab")),
            (&["a\"b"], Some("a\"b")),
            (&[" "], None),
            (&[], None),
        ] {
            assert_eq!(last(&of(lines), "h").as_deref(), value, "{lines:?}");
        }
    }

    #[test]
    fn urls_and_base64_keep_their_commas() {
        let url = |line| last_url(&of(&[line]), "h").map(Cow::into_owned);
        assert_eq!(url("http://h/a,b").as_deref(), Some("http://h/a,b"));
        assert_eq!(
            url("http://h/a,b, https://i/c,d").as_deref(),
            Some("https://i/c,d")
        );
        assert_eq!(last_line(&of(&["a,b", " "]), "h").as_deref(), Some("a,b"));
    }

    #[test]
    fn bytes_that_are_no_text_are_still_a_value() {
        let mut headers = HeaderMap::new();
        headers.append("h", HeaderValue::from_bytes(b"a\xff").unwrap());
        assert_eq!(last(&headers, "h").as_deref(), Some("a\u{ff}"));
    }
}
