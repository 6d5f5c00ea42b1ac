//! The platform's own trace id, `x-tardis-traceid`.

use std::sync::atomic::{AtomicU64, Ordering};

use http::header::{HeaderMap, HeaderName, HeaderValue};
use o28m_core::{Ambient, id};

/// Its header, in requests and responses.
const NAME: HeaderName = HeaderName::from_static("x-tardis-traceid");
/// Longest id of a client that is kept.
const DIGITS_MAX: usize = 256;

/// Where ids come from: one for the process.
pub(crate) struct Tardis {
    /// Digits of ten random bytes and of `#`.
    prefix: String,
    requests: AtomicU64,
}

/// The id of one request.
#[derive(Clone, Debug)]
pub(crate) struct TardisId {
    pub(crate) value: HeaderValue,
    /// We made it: the consumer did not.
    pub(crate) is_ours: bool,
}

impl Tardis {
    pub(crate) fn new(ambient: &Ambient) -> Self {
        let mut bytes = [0; 10];
        ambient.rng.fill(&mut bytes);
        Self {
            prefix: format!("{}23", id::hex(&bytes)),
            requests: AtomicU64::new(0),
        }
    }

    /// The client's id when it is hexadecimal, else a new one.
    pub(crate) fn of(&self, headers: &HeaderMap) -> TardisId {
        let given = headers.get(NAME);
        let is_id = |value: &&HeaderValue| {
            let bytes = value.as_bytes();
            (1..=DIGITS_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_hexdigit)
        };
        match given.filter(is_id) {
            Some(value) => TardisId {
                value: value.clone(),
                is_ours: false,
            },
            None => TardisId {
                value: self.next(),
                is_ours: true,
            },
        }
    }

    fn next(&self) -> HeaderValue {
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let number = number.to_string();
        let mut digits = String::with_capacity(self.prefix.len() + 2 * number.len());
        digits.push_str(&self.prefix);
        // The decimal digits in ASCII are 30 to 39.
        for digit in number.chars() {
            digits.push('3');
            digits.push(digit);
        }
        HeaderValue::try_from(digits).unwrap_or(HeaderValue::from_static("0"))
    }
}

impl TardisId {
    /// Sets the header, instead of any other of its name.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        headers.insert(NAME, self.value.clone());
    }

    /// The digits.
    pub(crate) fn text(&self) -> &str {
        self.value.to_str().unwrap_or_default()
    }
}
