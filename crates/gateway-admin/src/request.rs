//! What is known of the request that is being served, for whoever writes on its behalf.
//!
//! It belongs to the task that serves the request, so that every write finds it whatever endpoint it
//! came through. The process itself writes without one.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderMap, Method};

use crate::precondition::Preconditions;

tokio::task_local! {
    static CURRENT: Arc<RequestContext>;
}

/// One request.
pub(crate) struct RequestContext {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// Where it comes from.
    pub(crate) source: IpAddr,
    /// The consumer that our own proxy authenticated.
    pub(crate) consumer: Option<String>,
    pub(crate) preconditions: Preconditions,
    /// The user of the htpasswd file, once it is known.
    pub(crate) user: OnceLock<String>,
    /// The pattern of its path, once it is known.
    pub(crate) endpoint: OnceLock<String>,
    /// It changed several objects at once, so that the version does not tell the state of one of them.
    wrote_several: AtomicBool,
}

impl RequestContext {
    /// Headers that name a client are believed of our own proxy alone, which sets them itself.
    pub(crate) fn new(
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        peer: SocketAddr,
        in_process: bool,
    ) -> Self {
        let header = |name: &str| headers.get(name)?.to_str().ok();
        let own = |name: &str| header(name).filter(|_| in_process);
        let consumer = own("x-consumer-custom-id").or_else(|| own("x-consumer-username"));
        let source = own("x-real-ip").and_then(|text| text.parse().ok());
        Self {
            method: method.clone(),
            path: path.to_owned(),
            source: source.unwrap_or(peer.ip()),
            consumer: consumer.map(str::to_owned),
            preconditions: Preconditions::of(headers),
            user: OnceLock::new(),
            endpoint: OnceLock::new(),
            wrote_several: AtomicBool::new(false),
        }
    }

    pub(crate) fn mark_several_writes(&self) {
        self.wrote_several.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_several_writes(&self) -> bool {
        self.wrote_several.load(Ordering::Relaxed)
    }
}

/// Serves `work` as this request.
pub(crate) async fn scope<T>(context: Arc<RequestContext>, work: impl Future<Output = T>) -> T {
    CURRENT.scope(context, work).await
}

/// The request being served; `None` for the process itself.
pub(crate) fn current() -> Option<Arc<RequestContext>> {
    CURRENT.try_with(Arc::clone).ok()
}
