//! Which protocol a client on a plain connection speaks (RFC 9113 section 3.3).

use std::task::{Context, Poll};

use bytes::BytesMut;

use super::meter::PREFACE;
use crate::timer::Timer;
use crate::transport::Transport;

/// What no request of HTTP/1 begins with, `PRI * HTTP/2.0`; the library looks at the rest.
const DECISIVE_BYTES: usize = 14;
/// Bytes asked for at once.
const READ_BYTES: usize = 16 * 1024;

/// What a connection begins with, and what was read of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// The preface of HTTP/2.
    Http2(BytesMut),
    /// Something else, which is HTTP/1's to judge.
    Http1(BytesMut),
    /// Nothing came in time, or before the drain.
    Gone,
}

/// Reads the first bytes of a client.
pub(crate) async fn read(
    transport: &mut Transport,
    patience: std::time::Duration,
    drains: impl Future<Output = ()>,
) -> Begin {
    let mut timer = Timer::new(patience);
    let mut drains = std::pin::pin!(drains);
    let mut read = BytesMut::new();
    let mut poll = |context: &mut Context<'_>| {
        loop {
            let reading = transport.poll_read_with(context, READ_BYTES, |bytes| {
                read.extend_from_slice(bytes);
                bytes.is_empty()
            });
            match reading {
                Poll::Ready(Ok(ended)) => {
                    if let Some(begin) = decide(&mut read, ended) {
                        return Poll::Ready(begin);
                    }
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Begin::Gone),
                Poll::Pending => break,
            }
        }
        let over =
            timer.is_due(context) || (read.is_empty() && drains.as_mut().poll(context).is_ready());
        if over {
            Poll::Ready(Begin::Gone)
        } else {
            Poll::Pending
        }
    };
    std::future::poll_fn(&mut poll).await
}

/// What was read so far begins; `None` while it can be either.
fn decide(read: &mut BytesMut, ended: bool) -> Option<Begin> {
    let decisive = PREFACE.get(..DECISIVE_BYTES.min(read.len()))?;
    if !read.starts_with(decisive) {
        return Some(Begin::Http1(std::mem::take(read)));
    }
    if read.len() >= DECISIVE_BYTES {
        return Some(Begin::Http2(std::mem::take(read)));
    }
    ended.then_some(Begin::Gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_decide() {
        let decided = |text: &str, ended| decide(&mut BytesMut::from(text), ended);
        for end in 0..DECISIVE_BYTES {
            let start = std::str::from_utf8(&PREFACE[..end]).unwrap();
            assert_eq!(decided(start, false), None, "{start}");
            assert_eq!(decided(start, true), Some(Begin::Gone), "{start}");
        }
        for two in [
            "PRI * HTTP/2.0",
            "PRI * HTTP/2.0\r\n\r\nXX",
            "PRI * HTTP/2.0x",
        ] {
            assert_eq!(decided(two, false), Some(Begin::Http2(two.into())));
        }
        for one in ["G", "PO", "PRI * HTTP/1", "\r\n", "PRJ"] {
            assert_eq!(decided(one, false), Some(Begin::Http1(one.into())));
        }
    }
}
