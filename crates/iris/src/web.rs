//! What the identity provider asks other servers for: the keys of clients, and that they end logins of
//! theirs. This crate speaks no HTTP: the surface makes the calls.

use std::pin::Pin;
use std::sync::Arc;

use crate::Iris;

/// A call in flight.
pub type WebCall<'a, T> = Pin<Box<dyn Future<Output = Result<T, WebError>> + Send + 'a>>;

/// Other servers, as an identity provider sees them. Calls end by themselves after seconds.
pub trait Web: Send + Sync {
    /// The document at a URL, of at most `bytes_max` bytes.
    fn get<'a>(&'a self, url: &'a str, bytes_max: usize) -> WebCall<'a, Vec<u8>>;

    /// Posts an encoded form; any status below 300 is a success.
    fn post<'a>(&'a self, url: &'a str, form: String) -> WebCall<'a, ()>;
}

/// Why a call came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebError {
    /// Not an absolute `http` or `https` URL.
    #[error("not a URL to call")]
    Url,
    /// Nothing that could be read came back in time.
    #[error("no response")]
    Silent,
    /// It was refused with this status.
    #[error("response has status {0}")]
    Status(u16),
    /// The document is longer than the limit.
    #[error("document is too long")]
    TooLong,
    /// This process calls nobody.
    #[error("calls to other servers are not set up")]
    Off,
}

impl Iris {
    /// Lets the identity provider call other servers; the first one set stays.
    pub fn use_web(&self, web: Arc<dyn Web>) {
        drop(self.web.set(web));
    }

    pub(crate) fn web(&self) -> Result<Arc<dyn Web>, WebError> {
        self.web.get().cloned().ok_or(WebError::Off)
    }
}
