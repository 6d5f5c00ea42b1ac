//! How the names of header fields are spelled on HTTP/1. Names are case-insensitive, but people read them
//! and a few programs compare them: what is passed on keeps the letters and the order it came with,
//! what is added has the usual spelling. HTTP/2 has lower case alone.

use std::cell::RefCell;

use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue};

/// The head that a message came with, in its extensions. Values that nobody changed still lie in it,
/// each behind the name it came with, so nothing else has to be kept. Whoever makes a message of
/// another one hands this on; without it, names have the usual spelling.
#[derive(Clone, Debug)]
pub struct ReceivedHead(Bytes);

/// Where a field stands that did not come with the head: behind those that did.
const ADDED: usize = usize::MAX;
/// Extensions that a thread keeps for the next messages.
const SPARE_MAX: usize = 64;

thread_local! {
    /// Empty extensions with their allocations, those used last on top: making new ones for every message
    /// costs more than what is put into them.
    static SPARE: RefCell<Vec<Extensions>> = const { RefCell::new(Vec::new()) };
}

impl ReceivedHead {
    /// The extensions of a message that came with this head.
    pub(crate) fn extensions(head: Bytes) -> Extensions {
        let spare = SPARE.with_borrow_mut(Vec::pop);
        let mut extensions = spare.unwrap_or_default();
        extensions.insert(Self(head));
        extensions
    }

    /// Where a value lies in the head, and the name in front of it. [`ADDED`] when it does not, or stood
    /// behind another name.
    fn find(&self, name: &HeaderName, value: &HeaderValue) -> (usize, Option<&[u8]>) {
        let at = value.as_bytes().as_ptr().addr();
        let place = at.checked_sub(self.0.as_ptr().addr());
        let found = place.and_then(|place| Some((place, Some(self.name(name, place)?))));
        found.unwrap_or((ADDED, None))
    }

    /// The name in front of the value that lies at `place`, unless it is another one.
    fn name(&self, name: &HeaderName, place: usize) -> Option<&[u8]> {
        let line = match self.0.get(..place)? {
            [line @ .., b':', b' '] => line,
            padded => padded.trim_ascii_end().strip_suffix(b":")?,
        };
        let start = line.len().checked_sub(name.as_str().len())?;
        let spelled = line.get(start..)?;
        spelled
            .eq_ignore_ascii_case(name.as_str().as_bytes())
            .then_some(spelled)
    }
}

/// A field's value that lies in `head`: of what is empty, the place is kept as well. `None` when it lies
/// elsewhere, or is no value.
pub(crate) fn value_in(head: &Bytes, value: &[u8]) -> Option<HeaderValue> {
    let place = value.as_ptr().addr().checked_sub(head.as_ptr().addr())?;
    let end = place.checked_add(value.len())?;
    let inside = end <= head.len();
    inside.then(|| HeaderValue::from_maybe_shared(head.slice(place..end)).ok())?
}

/// Takes back the extensions of a message that is through. What they hold is dropped.
pub(crate) fn reclaim(mut extensions: Extensions) {
    if extensions.is_empty() {
        return;
    }
    extensions.clear();
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < SPARE_MAX {
            spare.push(extensions);
        }
    });
}

/// Writes the lines of `headers` that `keeps` says.
pub(crate) fn push_fields(
    out: &mut Vec<u8>,
    headers: &HeaderMap,
    extensions: &Extensions,
    mut keeps: impl FnMut(&HeaderName) -> bool,
) {
    let fields = headers.iter().filter(|(name, _)| keeps(name));
    let Some(received) = extensions.get::<ReceivedHead>() else {
        for (name, value) in fields {
            push_field(out, name, value);
        }
        return;
    };
    let start = out.len();
    let mut last = 0;
    for (name, value) in fields {
        let (place, spelled) = received.find(name, value);
        if place < last {
            // Removing from a map moves its last field to the gap, and fields of one name stand together.
            out.truncate(start);
            push_in_order(out, headers, received, keeps);
            return;
        }
        last = place;
        push_spelled(out, spelled, name, value);
    }
}

fn push_in_order(
    out: &mut Vec<u8>,
    headers: &HeaderMap,
    received: &ReceivedHead,
    mut keeps: impl FnMut(&HeaderName) -> bool,
) {
    let fields = headers.iter().filter(|(name, _)| keeps(name));
    let mut fields: Vec<_> = fields
        .map(|(name, value)| (received.find(name, value), name, value))
        .collect();
    fields.sort_by_key(|((place, _), ..)| *place);
    for ((_, spelled), name, value) in fields {
        push_spelled(out, spelled, name, value);
    }
}

fn push_spelled(out: &mut Vec<u8>, spelled: Option<&[u8]>, name: &HeaderName, value: &HeaderValue) {
    match spelled {
        Some(spelled) => push_line(out, spelled, value.as_bytes()),
        None => push_field(out, name, value),
    }
}

/// Writes a header or trailer line with the usual spelling of its name.
pub(crate) fn push_field(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    push_name(out, name.as_str());
    push_value(out, value.as_bytes());
}

/// Writes a line as it is.
pub(crate) fn push_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    push_value(out, value);
}

fn push_value(out: &mut Vec<u8>, value: &[u8]) {
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Names whose usual spelling is not one capital for each word: those of RFCs, of Kong 3.9.3 and of
/// trace propagation.
const OTHERWISE: &[(&str, &str)] = &[
    ("b3", "b3"),
    ("dnt", "DNT"),
    ("etag", "ETag"),
    ("kong-request-id", "Kong-Request-ID"),
    ("ratelimit-limit", "RateLimit-Limit"),
    ("ratelimit-remaining", "RateLimit-Remaining"),
    ("ratelimit-reset", "RateLimit-Reset"),
    ("sec-websocket-accept", "Sec-WebSocket-Accept"),
    ("sec-websocket-extensions", "Sec-WebSocket-Extensions"),
    ("sec-websocket-key", "Sec-WebSocket-Key"),
    ("sec-websocket-protocol", "Sec-WebSocket-Protocol"),
    ("sec-websocket-version", "Sec-WebSocket-Version"),
    ("te", "TE"),
    ("traceparent", "traceparent"),
    ("tracestate", "tracestate"),
    ("uber-trace-id", "uber-trace-id"),
    ("www-authenticate", "WWW-Authenticate"),
    ("x-b3-parentspanid", "X-B3-ParentSpanId"),
    ("x-b3-spanid", "X-B3-SpanId"),
    ("x-b3-traceid", "X-B3-TraceId"),
    ("x-consumer-custom-id", "X-Consumer-Custom-ID"),
    ("x-consumer-id", "X-Consumer-ID"),
    ("x-real-ip", "X-Real-IP"),
];

/// Names that the gateway adds to most responses: copied, not spelled letter by letter each time.
const OFTEN: &[(&str, &str)] = &[
    ("x-kong-upstream-latency", "X-Kong-Upstream-Latency"),
    ("x-kong-proxy-latency", "X-Kong-Proxy-Latency"),
    ("x-kong-request-id", "X-Kong-Request-Id"),
    ("x-kong-response-latency", "X-Kong-Response-Latency"),
];

/// The start of others, with what is usual for it.
const RATE_LIMIT: (&str, &str) = ("x-ratelimit-", "X-RateLimit-");

/// Writes a name in lower case as it is usually spelled.
fn push_name(out: &mut Vec<u8>, name: &str) {
    // Lengths differ nearly always: that compares numbers where a search of the order would compare text.
    let mut known = OFTEN.iter().chain(OTHERWISE);
    if let Some((_, usual)) = known.find(|(lower, _)| *lower == name) {
        out.extend_from_slice(usual.as_bytes());
        return;
    }
    let mut rest = name;
    if let Some(of_limit) = name.strip_prefix(RATE_LIMIT.0) {
        out.extend_from_slice(RATE_LIMIT.1.as_bytes());
        rest = of_limit;
    } else if name.contains('_') {
        // Whoever names a field like a variable writes it like one.
        out.extend_from_slice(name.as_bytes());
        return;
    }
    let mut begins = true;
    out.extend(rest.bytes().map(|byte| {
        let letter = if begins {
            byte.to_ascii_uppercase()
        } else {
            byte
        };
        begins = byte == b'-';
        letter
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(head: &'static str) -> (HeaderMap, Extensions) {
        let head = Bytes::from_static(head.as_bytes());
        let mut headers = HeaderMap::new();
        for line in head.split(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let Some(colon) = line.iter().position(|byte| *byte == b':') else {
                continue;
            };
            let name = HeaderName::from_bytes(&line[..colon]).unwrap();
            headers.append(
                name,
                value_in(&head, line[colon + 1..].trim_ascii()).unwrap(),
            );
        }
        (headers, ReceivedHead::extensions(head))
    }

    fn written(headers: &HeaderMap, extensions: &Extensions) -> String {
        let mut out = Vec::new();
        push_fields(&mut out, headers, extensions, |_| true);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_came_keeps_its_letters_and_its_order() {
        let head =
            "GET / HTTP/1.1\r\nhOST: a\r\nX-a:1\r\ncookie: \t b\r\nX-A:  2\r\nlast: c \r\n\r\n";
        let (mut headers, extensions) = received(head);
        assert_eq!(
            written(&headers, &extensions),
            "hOST: a\r\nX-a: 1\r\ncookie: b\r\nX-A: 2\r\nlast: c\r\n"
        );
        headers.remove("host");
        headers.insert("x-real-ip", HeaderValue::from_static("::1"));
        assert_eq!(
            written(&headers, &extensions),
            "X-a: 1\r\ncookie: b\r\nX-A: 2\r\nlast: c\r\nX-Real-IP: ::1\r\n"
        );
    }

    #[test]
    fn what_was_changed_or_renamed_has_the_usual_spelling() {
        let (mut headers, extensions) = received("A: b\r\nwWW-authenticate: c\r\nEMPTY:\r\n\r\n");
        let value = headers.remove("a").unwrap();
        headers.insert("x-b", value.clone());
        headers.insert("b", value);
        headers.insert("www-authenticate", HeaderValue::from_static("d"));
        assert_eq!(
            written(&headers, &extensions),
            "EMPTY: \r\nWWW-Authenticate: d\r\nX-B: b\r\nB: b\r\n"
        );
        assert_eq!(
            written(&headers, &Extensions::new()),
            "Empty: \r\nWWW-Authenticate: d\r\nX-B: b\r\nB: b\r\n"
        );
    }

    #[test]
    fn lines_without_a_value_keep_their_letters_and_their_place() {
        let head = "GET / HTTP/1.1\r\nhOST: a\r\nx-NONE:\r\nX-nonesuch: c\r\nX-Blank: \t \r\nLAST: b\r\n\r\n";
        let (mut headers, extensions) = received(head);
        assert_eq!(
            written(&headers, &extensions),
            "hOST: a\r\nx-NONE: \r\nX-nonesuch: c\r\nX-Blank: \r\nLAST: b\r\n"
        );
        headers.remove("host");
        headers.insert("x-nonesuch", HeaderValue::from_static(""));
        headers.insert("new", HeaderValue::from_static(""));
        assert_eq!(
            written(&headers, &extensions),
            "x-NONE: \r\nX-Blank: \r\nLAST: b\r\nX-Nonesuch: \r\nNew: \r\n"
        );
    }

    #[test]
    fn nothing_is_left_in_extensions_that_are_used_again() {
        let (_, mut extensions) = received("A: b\r\n\r\n");
        extensions.insert(7_u8);
        reclaim(extensions);
        let (_, again) = received("C: d\r\n\r\n");
        assert_eq!(again.len(), 1);
        assert_eq!(again.get::<ReceivedHead>().unwrap().0, "C: d\r\n\r\n");
    }

    #[test]
    fn usual_spellings() {
        let mut sorted = OTHERWISE.to_vec();
        sorted.sort_unstable();
        assert_eq!(sorted, OTHERWISE);
        for usual in [
            "Content-Type",
            "ETag",
            "TE",
            "WWW-Authenticate",
            "X-Real-IP",
            "X-Forwarded-For",
            "X-Kong-Request-Id",
            "X-Consumer-Custom-ID",
            "X-RateLimit-Remaining-Minute",
            "RateLimit-Reset",
            "remote_api_url",
            "X",
        ] {
            let mut out = Vec::new();
            push_name(&mut out, &usual.to_ascii_lowercase());
            assert_eq!(String::from_utf8(out).unwrap(), usual);
        }
    }
}
