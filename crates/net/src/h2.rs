//! HTTP/2 (RFC 9113) on both sides: frames are the `h2` library's, everything else is judged, timed and
//! counted here by the rules that HTTP/1 has.

mod answer;
mod early;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod fuzz;
mod head;
mod link;
pub(crate) mod links;
mod meter;
pub(crate) mod preface;
mod receiving;
mod sending;
pub(crate) mod server;
mod wire;

/// Streams of one connection at once, in either direction.
const STREAMS_MAX: u32 = 128;
/// Bytes of one response or request body that wait in the library for the peer to take them.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// What frames of a few bytes that nobody has read yet may cost in memory, on one connection.
const SMALL_FRAMES_BYTES: usize = 4 * 1024 * 1024;

/// An error of the library as one of a body.
fn broken(error: ::h2::Error) -> crate::BodyError {
    crate::BodyError::Broken(into_io(error))
}

fn into_io(error: ::h2::Error) -> std::io::Error {
    if error.is_io() {
        let kind = error
            .get_io()
            .map_or(std::io::ErrorKind::Other, std::io::Error::kind);
        return error.into_io().unwrap_or_else(|| kind.into());
    }
    std::io::Error::other(error)
}
