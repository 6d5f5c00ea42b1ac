//! One request: from hyper to the service and back, with its bodies watched.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::{CONNECTION, HOST};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::shared::Shared;
use crate::tunnel::TunnelSlot;
use crate::{Body, BodyError, Rejection};

/// A response body; the request counts as answered when it is dropped.
pub(super) struct Reply {
    body: Body,
    shared: Arc<Shared>,
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.shared.answered();
    }
}

impl http_body::Body for Reply {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A request body whose reads are timed.
struct Upload {
    incoming: Incoming,
    shared: Arc<Shared>,
    waiting: bool,
}

impl Upload {
    /// Tells the driver that bytes are awaited; an error when that took too long.
    fn wait(&mut self, context: &Context<'_>) -> Result<(), BodyError> {
        let mut state = self.shared.lock();
        if state.body_overdue {
            return Err(BodyError::Timeout);
        }
        match &mut state.body_wait {
            Some((_, waker)) if waker.will_wake(context.waker()) => {}
            Some((_, waker)) => waker.clone_from(context.waker()),
            None => state.body_wait = Some((Instant::now(), context.waker().clone())),
        }
        self.waiting = true;
        Ok(())
    }

    fn arrived(&mut self) {
        if self.waiting {
            self.waiting = false;
            self.shared.lock().body_wait = None;
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.arrived();
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.incoming).poll_frame(context) {
            Poll::Ready(frame) => {
                self.arrived();
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Read)))
            }
            Poll::Pending => match self.wait(context) {
                Ok(()) => Poll::Pending,
                Err(error) => {
                    self.arrived();
                    Poll::Ready(Some(Err(error)))
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// Answers one request of a connection.
pub(super) async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Infallible> {
    let response = match shared.call() {
        Some(rejection) => refused(&shared, &rejection),
        None => match for_service(request, &shared) {
            Some(request) => served(&shared, request).await,
            None => refused(
                &shared,
                &rejection(StatusCode::BAD_REQUEST, "request target has no path"),
            ),
        },
    };
    Ok(response.map(|body| Reply { body, shared }))
}

fn rejection(status: StatusCode, reason: &'static str) -> Rejection {
    Rejection {
        status,
        reason,
        head: None,
    }
}

fn refused(shared: &Shared, rejection: &Rejection) -> Response<Body> {
    tracing::debug!(
        peer = %shared.connection.peer,
        status = rejection.status.as_u16(),
        reason = rejection.reason,
        "request refused"
    );
    let mut response = shared.service.reject(rejection, &shared.connection);
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Calls the service; a panic costs this request and its connection.
async fn served(shared: &Shared, request: Request<Body>) -> Response<Body> {
    let call = async { shared.service.call(request, &shared.connection).await };
    let Ok(mut response) = AssertUnwindSafe(call).catch_unwind().await else {
        tracing::error!(peer = %shared.connection.peer, "service panicked");
        return refused(
            shared,
            &rejection(StatusCode::INTERNAL_SERVER_ERROR, "service panicked"),
        );
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let tunnel = response
            .extensions_mut()
            .remove::<TunnelSlot>()
            .and_then(|slot| slot.take());
        if tunnel.is_none() {
            tracing::error!("service answered 101 without an upstream connection");
            return refused(
                shared,
                &rejection(StatusCode::INTERNAL_SERVER_ERROR, "101 without a tunnel"),
            );
        }
        shared.lock().tunnel = tunnel;
    }
    response
}

/// The request as services see it: origin-form target, timed body, nothing of hyper's.
fn for_service(request: Request<Incoming>, shared: &Arc<Shared>) -> Option<Request<Body>> {
    let (mut parts, incoming) = request.into_parts();
    if !parts.extensions.is_empty() {
        let _ = parts.extensions.remove::<hyper::upgrade::OnUpgrade>();
    }
    if parts.uri.authority().is_some() {
        to_origin_form(&mut parts)?;
    }
    let body = if http_body::Body::is_end_stream(&incoming) {
        Body::Empty
    } else {
        Body::Stream(Box::pin(Upload {
            incoming,
            shared: shared.clone(),
            waiting: false,
        }))
    };
    Some(Request::from_parts(parts, body))
}

/// The authority of an absolute-form target replaces `Host` (RFC 9112 section 3.2.2).
fn to_origin_form(parts: &mut http::request::Parts) -> Option<()> {
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
