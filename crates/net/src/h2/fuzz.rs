//! What must hold for what is decided here of a client's HTTP/2: its heads, and the meter of its frames.

use std::time::Instant;

use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Uri};

use super::head::judge;
use super::meter::{CONTROL_BURST, CREDIT, Meter, PREFACE, RESETS_BURST};
use crate::fuzz::Cuts;
use crate::server::HeadLimits;
use crate::server::fuzz::{NARROW, read_again};

/// The first byte chooses: a head in lines of text (method, scheme, authority, path, then fields), or
/// frames.
///
/// # Panics
/// When a head is taken that HTTP/1 does not read as the same request, a refusal shows more than the
/// path, the cut into reads decides what is a flood, or the meter lets too much or too little pass.
pub fn http2(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else {
        return;
    };
    if choice & 1 == 0 {
        head(rest, choice & 2 != 0);
    } else {
        frames(rest, *choice);
    }
}

fn head(text: &[u8], narrow: bool) {
    let Some(parts) = parts(text) else {
        return;
    };
    let limits = match narrow {
        true => NARROW,
        false => HeadLimits::default(),
    };
    let fields = parts.headers.len();
    let cookies = parts.headers.get_all(COOKIE).iter().count();
    let authority = parts.uri.authority().map(ToString::to_string);
    match judge(parts, &limits) {
        Ok(sound) => {
            let headers = &sound.parts.headers;
            let hosts: Vec<_> = headers.get_all(HOST).iter().collect();
            assert_eq!(hosts.len(), 1, "not one host");
            if let Some(authority) = authority {
                assert_eq!(
                    hosts,
                    [authority.as_str()],
                    "another host than the one asked"
                );
            }
            assert!(headers.get_all(COOKIE).iter().count() <= 1);
            assert!(headers.len() <= fields + 1 && headers.len() + cookies >= fields);
            let lengths: Vec<_> = headers.get_all(CONTENT_LENGTH).iter().collect();
            let length = lengths
                .first()
                .and_then(|it| it.to_str().ok()?.parse().ok());
            assert_eq!(
                (!lengths.is_empty(), length),
                (sound.length.is_some(), sound.length)
            );
            read_again(&sound.parts);
        }
        Err(rejection) => {
            assert!(rejection.status.is_client_error());
            let shown = rejection.head.map(|it| it.uri).unwrap_or_default();
            assert!(
                shown.authority().is_none(),
                "logs see the authority: {shown}"
            );
        }
    }
}

/// A request as the library hands it over; `None` where it would not.
fn parts(text: &[u8]) -> Option<Parts> {
    let mut lines = text.split(|it| *it == b'\n');
    let method = lines.next()?;
    let (scheme, authority, path) = (lines.next()?, lines.next()?, lines.next()?);
    let mut uri = Uri::builder().path_and_query(path);
    if !authority.is_empty() {
        uri = uri.scheme(scheme).authority(authority);
    }
    let request = Request::builder().method(method).uri(uri.build().ok()?);
    let mut parts = request.body(()).ok()?.into_parts().0;
    for line in lines {
        let at = line.iter().position(|it| *it == b':')?;
        let (name, value) = line.split_at(at);
        let name = HeaderName::from_lowercase(name).ok()?;
        let value = HeaderValue::from_bytes(value.get(1..)?).ok()?;
        if is_of_connection(&name, &value) {
            return None;
        }
        parts.headers.append(name, value);
    }
    Some(parts)
}

/// Fields that the library resets a stream for (RFC 9113 section 8.2.2).
fn is_of_connection(name: &HeaderName, value: &HeaderValue) -> bool {
    [CONNECTION, TRANSFER_ENCODING, UPGRADE].contains(name)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
        || (*name == TE && value != "trailers")
}

/// One client's frames, again and again, in an instant.
fn frames(bytes: &[u8], choice: u8) {
    let bytes = bytes.repeat(1 + usize::from(choice >> 1));
    let now = Instant::now();
    let started = || {
        let mut meter = Meter::new(now);
        assert_eq!(meter.take(PREFACE, now), Ok(()));
        meter
    };
    let (mut whole, mut cut) = (started(), started());
    let outcome = whole.take(&bytes, now);
    let (mut cuts, mut left) = (Cuts::new(choice), bytes.as_slice());
    let mut in_pieces = Ok(());
    while let Some(piece) = cuts.take(&mut left).filter(|_| in_pieces.is_ok()) {
        in_pieces = cut.take(piece, now);
    }
    assert_eq!(outcome, in_pieces, "the cut decides");
    let seen = Seen::of(&bytes);
    if outcome.is_ok() {
        assert_eq!(whole.is_in_head(), seen.in_head);
        assert_eq!(cut.is_in_head(), seen.in_head);
        assert!(seen.resets <= RESETS_BURST, "{} resets pass", seen.resets);
        let most = CONTROL_BURST + CREDIT * seen.heads;
        assert!(seen.control <= most, "{} frames pass", seen.control);
    } else {
        // The dearest frame costs a hundred.
        let least = seen.control >= CONTROL_BURST / 100 || seen.resets > RESETS_BURST;
        assert!(least, "{} frames are a flood", seen.control);
    }
}

/// What frames there are, read all at once.
#[derive(Default)]
struct Seen {
    /// Those that open streams, and those that say more of them.
    heads: u32,
    /// Those that reset a stream.
    resets: u32,
    /// Those that carry nothing.
    control: u32,
    /// The last header block is not complete.
    in_head: bool,
}

impl Seen {
    fn of(mut bytes: &[u8]) -> Self {
        let mut seen = Self::default();
        while let Some((header, rest)) = bytes.split_first_chunk::<9>() {
            let [a, b, c, kind, flags, stream @ ..] = *header;
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
            let is_whole = rest.len() >= length;
            bytes = rest.get(length..).unwrap_or_default();
            match kind {
                0 => seen.control += u32::from(length == 0 && flags & 1 == 0),
                1 => seen.heads += 1,
                3 if stream > 0 => seen.resets += 1,
                _ => seen.control += 1,
            }
            seen.in_head = match kind {
                1 => flags & 4 == 0 || !is_whole,
                9 => (seen.in_head && flags & 4 == 0) || !is_whole,
                _ => seen.in_head,
            };
            if !is_whole {
                break;
            }
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame that is likely to mean something.
    fn frame() -> impl Strategy<Value = Vec<u8>> {
        let payload = prop::collection::vec(any::<u8>(), 0..12);
        (0_u8..11, any::<u8>(), 0_u32..9, payload).prop_map(|(kind, flags, stream, payload)| {
            let mut bytes = vec![0, 0, u8::try_from(payload.len()).unwrap(), kind, flags];
            bytes.extend(stream.to_be_bytes());
            bytes.extend(payload);
            bytes
        })
    }

    proptest! {
        #[test]
        fn likely_heads_keep_every_promise(
            narrow in any::<bool>(),
            method in "GET|POST|[A-Za-z!~]{1,7}",
            scheme in "https?|ftp",
            authority in "|a|[a-zA-Z0-9.:@%\\[\\]_-]{0,12}",
            path in "|\\*|/[ -~]{0,20}|/[a-z\u{e4}\"<>%{}|]{0,9}",
            fields in prop::collection::vec(
                "(host|cookie|te|expect|content-length|x|[a-z0-9!_-]{1,9}):[ -~\t\u{e4}]{0,12}\
                 |host:a|content-length:[0-9]{1,20}|te:trailers|expect:100-continue",
                0..5,
            ),
        ) {
            let mut lines = vec![method, scheme, authority, path];
            lines.extend(fields);
            let mut input = vec![u8::from(narrow) * 2];
            input.extend(lines.join("\n").bytes());
            http2(&input);
        }

        #[test]
        fn likely_frames_keep_every_promise(
            choice in any::<u8>(),
            frames in prop::collection::vec(frame(), 0..12),
            cut in 0_usize..24,
        ) {
            let mut input = vec![choice | 1];
            input.extend(frames.concat());
            input.truncate(input.len().saturating_sub(cut).max(1));
            http2(&input);
        }
    }
}
