//! The `Date` of responses (RFC 9110 section 6.6.1), made once a second.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

thread_local! {
    /// The second that was formatted last, and how it reads.
    static LAST: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
}

/// Writes the header line.
pub(super) fn push(out: &mut Vec<u8>) {
    with(|text| {
        out.extend_from_slice(b"Date: ");
        out.extend_from_slice(text.as_bytes());
        out.extend_from_slice(b"\r\n");
    });
}

/// Hands the field's value on.
#[expect(
    clippy::disallowed_methods,
    reason = "the field tells the time of the machine, whatever clock tokens are checked by"
)]
pub(crate) fn with<T>(take: impl FnOnce(&str) -> T) -> T {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let second = now.unwrap_or(Duration::ZERO).as_secs();
    LAST.with_borrow_mut(|(last, text)| {
        if *last != second {
            *last = second;
            *text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
        }
        take(text)
    })
}
