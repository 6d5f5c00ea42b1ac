//! From the bytes of a sound head to the request that services see.

use bytes::Bytes;
use http::header::HOST;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Request, Uri, Version};

use super::head::{Sound, quoted};

/// The request as services see it: origin-form target, names in lower case. `None` when the target is
/// none that can be handed on.
pub(super) fn parts(head: Bytes, sound: &Sound) -> Option<Parts> {
    let head = if sound.quote {
        Bytes::from(quoted(&head))
    } else {
        head
    };
    let mut lines = head
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .skip_while(|line| line.is_empty());
    let mut parts = Request::new(()).into_parts().0;
    let mut words = lines.next()?.split(|byte| *byte == b' ');
    parts.method = Method::from_bytes(words.next()?).ok()?;
    parts.uri = Uri::from_maybe_shared(head.slice_ref(words.next()?)).ok()?;
    if !sound.version_11 {
        parts.version = Version::HTTP_10;
    }
    parts.headers.reserve(sound.lines);
    for line in lines.take(sound.lines) {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at_checked(colon)?;
        let value = value.get(1..)?.trim_ascii();
        let name = HeaderName::from_bytes(name).ok()?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(value)).ok()?;
        parts.headers.append(name, value);
    }
    if parts.uri.authority().is_some() {
        to_origin_form(&mut parts)?;
    }
    Some(parts)
}

/// The authority of an absolute-form target replaces `Host` (RFC 9112 section 3.2.2).
fn to_origin_form(parts: &mut Parts) -> Option<()> {
    let authority = HeaderValue::from_str(parts.uri.authority()?.as_str()).ok()?;
    parts.headers.insert(HOST, authority);
    let path = match parts.uri.path_and_query().map_or("/", PathAndQuery::as_str) {
        "" => "/".parse().ok()?,
        path if path.starts_with('/') => path.parse().ok()?,
        query => format!("/{query}").parse().ok()?,
    };
    let mut uri = http::uri::Parts::default();
    uri.path_and_query = Some(path);
    parts.uri = Uri::from_parts(uri).ok()?;
    Some(())
}
