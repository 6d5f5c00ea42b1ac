//! Trace context in B3 headers, several of them, in and out.

use http::{HeaderMap, HeaderName, HeaderValue};
use o28m_core::Rng;
use o28m_core::id::hex;

const TRACE_ID: HeaderName = HeaderName::from_static("x-b3-traceid");
const SPAN_ID: HeaderName = HeaderName::from_static("x-b3-spanid");
const SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");

/// The trace a request belongs to.
#[derive(Clone)]
pub(crate) struct Trace {
    id: HeaderValue,
    sampled: bool,
}

impl Trace {
    /// The trace the caller began, else a new one.
    pub(crate) fn of(headers: &HeaderMap, rng: &dyn Rng) -> Self {
        let value = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let is_id = |id: &&str| {
            matches!(id.len(), 16 | 32)
                && id.bytes().all(|byte| byte.is_ascii_hexdigit())
                && id.bytes().any(|byte| byte != b'0')
        };
        let span = value(&SPAN_ID).filter(|id| id.len() == 16).filter(is_id);
        let trace = value(&TRACE_ID).filter(is_id).filter(|_| span.is_some());
        let id = match trace {
            Some(trace) => format!("{trace:0>32}").to_ascii_lowercase(),
            None => random_hex::<16>(rng),
        };
        Self {
            id: header_value(id),
            sampled: value(&SAMPLED) != Some("0"),
        }
    }

    /// Writes the context of a new span of this trace.
    pub(crate) fn apply(&self, headers: &mut HeaderMap, rng: &dyn Rng) {
        headers.insert(TRACE_ID, self.id.clone());
        headers.insert(SPAN_ID, header_value(random_hex::<8>(rng)));
        let sampled = if self.sampled { "1" } else { "0" };
        headers.insert(SAMPLED, HeaderValue::from_static(sampled));
    }
}

fn random_hex<const BYTES: usize>(rng: &dyn Rng) -> String {
    let mut bytes = [0; BYTES];
    rng.fill(&mut bytes);
    hex(&bytes)
}

fn header_value(hex: String) -> HeaderValue {
    // Hexadecimal digits are always a header value.
    HeaderValue::try_from(hex).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Ones;

    impl Rng for Ones {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0x11);
        }
    }

    fn out(headers: &[(&str, &str)]) -> (String, String, String) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::try_from(*name).unwrap();
            map.insert(name, HeaderValue::from_str(value).unwrap());
        }
        let trace = Trace::of(&map, &Ones);
        trace.apply(&mut map, &Ones);
        let value = |name| map[name].to_str().unwrap().to_owned();
        (value(TRACE_ID), value(SPAN_ID), value(SAMPLED))
    }

    #[test]
    fn continues_the_callers_trace_or_begins_one() {
        let (ones, span) = ("1".repeat(32), "1".repeat(16));
        let fresh = |sampled: &str| (ones.clone(), span.clone(), sampled.to_owned());
        assert_eq!(out(&[]), fresh("1"));
        assert_eq!(out(&[("x-b3-sampled", "0")]), fresh("0"));
        assert_eq!(out(&[("x-b3-traceid", "ABCDEF0123456789")]), fresh("1"));
        let bad = [("x-b3-traceid", "zz"), ("x-b3-spanid", "00f067aa0ba902b7")];
        assert_eq!(out(&bad), fresh("1"));
        let good = [
            ("x-b3-traceid", "ABCDEF0123456789"),
            ("x-b3-spanid", "00f067aa0ba902b7"),
        ];
        assert_eq!(
            out(&good),
            (
                "0000000000000000abcdef0123456789".to_owned(),
                span,
                "1".to_owned()
            )
        );
    }
}
