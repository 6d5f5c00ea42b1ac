//! What consistent hashing hashes, and the hash (spec gateway-proxy 10.4).

use http::HeaderValue;
use http::header::COOKIE;
use o28m_kong::Upstream;
use percent_encoding::percent_decode_str;

use crate::flight::Flight;

const PRIME_1: u32 = 0x9E37_79B1;
const PRIME_2: u32 = 0x85EB_CA77;
const PRIME_3: u32 = 0xC2B2_AE3D;
const PRIME_4: u32 = 0x27D4_EB2F;
const PRIME_5: u32 = 0x1656_67B1;

/// xxHash32 with seed 0.
pub(super) fn xxh32(bytes: &[u8]) -> u32 {
    let (blocks, rest) = bytes.as_chunks::<16>();
    let mut hash = if blocks.is_empty() {
        PRIME_5
    } else {
        long(blocks)
    };
    hash = hash.wrapping_add(u32::try_from(bytes.len() & 0xFFFF_FFFF).unwrap_or_default());
    let (words, rest) = rest.as_chunks::<4>();
    for word in words {
        let word = u32::from_le_bytes(*word);
        hash = hash.wrapping_add(word.wrapping_mul(PRIME_3));
        hash = hash.rotate_left(17).wrapping_mul(PRIME_4);
    }
    for byte in rest {
        hash = hash.wrapping_add(u32::from(*byte).wrapping_mul(PRIME_5));
        hash = hash.rotate_left(11).wrapping_mul(PRIME_1);
    }
    hash ^= hash >> 15;
    hash = hash.wrapping_mul(PRIME_2);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(PRIME_3);
    hash ^ (hash >> 16)
}

fn long(blocks: &[[u8; 16]]) -> u32 {
    let mut lanes = [
        PRIME_1.wrapping_add(PRIME_2),
        PRIME_2,
        0,
        0_u32.wrapping_sub(PRIME_1),
    ];
    for block in blocks {
        let (words, _) = block.as_chunks::<4>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            let word = u32::from_le_bytes(*word);
            *lane = lane.wrapping_add(word.wrapping_mul(PRIME_2));
            *lane = lane.rotate_left(13).wrapping_mul(PRIME_1);
        }
    }
    let [a, b, c, d] = lanes;
    a.rotate_left(1)
        .wrapping_add(b.rotate_left(7))
        .wrapping_add(c.rotate_left(12))
        .wrapping_add(d.rotate_left(18))
}

/// What the choice of a target depends on for one request.
#[derive(Default)]
pub(crate) struct Chosen {
    pub(crate) hash: u32,
    /// `Set-Cookie` for a client that had no cookie to hash.
    pub(crate) cookie: Option<HeaderValue>,
}

impl Chosen {
    /// By what the upstream hashes. What the request does not have counts as the empty text, unless it
    /// is to be anything.
    pub(crate) fn new(flight: &Flight, upstream: &Upstream) -> Self {
        if upstream.algorithm != "consistent-hashing" {
            return Self::default();
        }
        let first = Input {
            kind: &upstream.hash_on,
            header: upstream.hash_on_header.as_deref(),
            argument: upstream.hash_on_query_arg.as_deref(),
            capture: upstream.hash_on_uri_capture.as_deref(),
        };
        let second = Input {
            kind: &upstream.hash_fallback,
            header: upstream.hash_fallback_header.as_deref(),
            argument: upstream.hash_fallback_query_arg.as_deref(),
            capture: upstream.hash_fallback_uri_capture.as_deref(),
        };
        let mut chosen = Self::default();
        let mut of = |input: &Input<'_>| match input.kind {
            "cookie" => chosen.of_cookie(flight, upstream),
            _ => input.value(flight),
        };
        let value = of(&first).or_else(|| of(&second));
        if value.is_none() && flight.shared.hash_at_random {
            let mut bytes = [0; 4];
            flight.shared.ambient.rng.fill(&mut bytes);
            chosen.hash = u32::from_be_bytes(bytes);
        } else {
            chosen.hash = xxh32(value.unwrap_or_default().as_bytes());
        }
        chosen
    }

    /// The cookie's value, or a new one that the client is given.
    fn of_cookie(&mut self, flight: &Flight, upstream: &Upstream) -> Option<String> {
        let name = upstream.hash_on_cookie.as_deref()?;
        if let Some(value) = cookie(flight, name) {
            return Some(value);
        }
        let value = flight.shared.ambient.uuid();
        let path = &upstream.hash_on_cookie_path;
        // Kong misspells the attribute; clients that read the header see the same.
        let line = format!("{name}={value}; Path={path}; Same-Site=Lax; HttpOnly");
        self.cookie = HeaderValue::try_from(line).ok();
        Some(value)
    }
}

/// One thing that may be hashed.
struct Input<'a> {
    kind: &'a str,
    header: Option<&'a str>,
    argument: Option<&'a str>,
    capture: Option<&'a str>,
}

impl Input<'_> {
    fn value(&self, flight: &Flight) -> Option<String> {
        let exchange = &flight.exchange;
        match self.kind {
            "consumer" => {
                let consumer = exchange.consumer.as_ref().map(|it| it.id.clone());
                consumer.or_else(|| exchange.credential.as_ref()?.id.clone())
            }
            "ip" => Some(exchange.client_ip.to_string()),
            "header" => {
                let lines = exchange.request.headers.get_all(self.header?);
                let lines: Vec<_> = lines
                    .iter()
                    .map(|it| String::from_utf8_lossy(it.as_bytes()))
                    .collect();
                (!lines.is_empty()).then(|| lines.join(", "))
            }
            "path" => Some(decoded(&exchange.path)),
            "query_arg" => argument(exchange.request.uri.query()?, self.argument?),
            "uri_capture" => {
                let name = self.capture?;
                let captures = exchange.uri_captures.iter();
                let mut values = captures.filter(|(key, _)| key == name);
                values.next().map(|(_, value)| value.clone())
            }
            _ => None,
        }
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// The values of a query argument, sorted; one without value counts as `true`.
fn argument(query: &str, name: &str) -> Option<String> {
    let text = |it: &str| decoded(&it.replace('+', " "));
    let mut values: Vec<String> = query
        .split('&')
        .filter_map(|pair| {
            let (key, value) = match pair.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (pair, None),
            };
            (text(key) == name).then(|| value.map_or_else(|| "true".to_owned(), text))
        })
        .collect();
    values.sort_unstable();
    (!values.is_empty()).then(|| values.join(","))
}

fn cookie(flight: &Flight, name: &str) -> Option<String> {
    let lines = flight.exchange.request.headers.get_all(COOKIE).iter();
    let pairs = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    let mut values = pairs.filter(|(key, value)| *key == name && !value.is_empty());
    values.next().map(|(_, value)| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_xxhash32() {
        for (text, hash) in [
            ("", 0x02CC_5D05),
            ("a", 0x550D_7456),
            ("abc", 0x32D1_53FF),
            ("Nobody inspects the spammish repetition", 0xE229_3B2F),
        ] {
            assert_eq!(xxh32(text.as_bytes()), hash, "{text:?}");
        }
    }

    #[test]
    fn query_arguments_are_sorted_and_joined() {
        assert_eq!(argument("a=2&b=x&a=1", "a").as_deref(), Some("1,2"));
        assert_eq!(argument("a", "a").as_deref(), Some("true"));
        assert_eq!(argument("a%20b=c+d", "a b").as_deref(), Some("c d"));
        assert_eq!(argument("b=1", "a"), None);
    }
}
