//! From the bytes of a sound head to the request that services see.

use bytes::Bytes;
use http::header::HOST;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Request, Uri, Version};

use super::head::{HeadReader, quoted};
use crate::spelling::{ReceivedHead, value_in};

/// Fields that a service may add without growing the map: that costs more than the room.
const ROOM: usize = 4;

/// The request as services see it: origin-form target, names in lower case. `head` is what `reader`
/// found sound of it. `None` when the target is none that can be handed on.
pub(super) fn parts(head: Bytes, reader: &HeadReader) -> Option<Parts> {
    let mut parts = Request::new(()).into_parts().0;
    parts.method = Method::from_bytes(reader.method(&head)?).ok()?;
    let (target, quote) = reader.target(&head)?;
    let target = if quote {
        Bytes::from(quoted(target))
    } else {
        head.slice_ref(target)
    };
    parts.uri = Uri::from_maybe_shared(target).ok()?;
    if !reader.is_version_11() {
        parts.version = Version::HTTP_10;
    }
    let fields = reader.fields(&head);
    parts.headers.reserve(fields.len() + ROOM);
    for field in fields {
        let (name, value) = field?;
        let name = HeaderName::from_bytes(name).ok()?;
        parts.headers.append(name, value_in(&head, value)?);
    }
    if parts.uri.authority().is_some() {
        to_origin_form(&mut parts)?;
    }
    parts.extensions = ReceivedHead::extensions(head);
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
