//! Sending a request to a provider, and what is said when that fails.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use o28m_net::client::{Pool, SendError, Target, Timeouts};
use o28m_net::{Body, BodyError};
use tokio::sync::oneshot;

/// Longest silence in a body. Transfers as a whole are not limited, but a dead peer must not hold a
/// connection for ever.
const BODY_SILENCE: Duration = Duration::from_secs(3600);

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForwardError {
    #[error(transparent)]
    Send(#[from] SendError),
    #[error("no response head in time")]
    ResponseTimeout,
}

/// Sends `request` and waits for the response's head: at most `response` after the request was
/// sent.
///
/// # Errors
/// [`ForwardError`].
pub(crate) async fn forward(
    pool: &Arc<Pool>,
    target: &Target,
    request: Request<Body>,
    connect: Duration,
    response: Duration,
) -> Result<Response<Body>, ForwardError> {
    let timeouts = Timeouts {
        connect,
        write: BODY_SILENCE,
        read: BODY_SILENCE,
    };
    let (request, uploaded) = watched(request);
    let silence = async {
        // The sender goes away with the body: either way the upload is over.
        uploaded.await.ok();
        tokio::time::sleep(response).await;
    };
    tokio::select! {
        sent = pool.send(target, request, &timeouts) => Ok(sent?),
        () = silence => Err(ForwardError::ResponseTimeout),
    }
}

/// Lets the caller know when the body was sent.
fn watched(request: Request<Body>) -> (Request<Body>, oneshot::Receiver<()>) {
    let (done, uploaded) = oneshot::channel();
    let request = request.map(|body| match body {
        body if http_body::Body::is_end_stream(&body) => Body::Empty,
        Body::Empty | Body::Full(_) => body,
        Body::Stream(_) => Body::Stream(Box::pin(Watched {
            body,
            done: Some(done),
        })),
    });
    (request, uploaded)
}

struct Watched {
    body: Body,
    done: Option<oneshot::Sender<()>>,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            self.done = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The text of a failed attempt, in the words users know from the original where there are any.
pub(crate) fn error_text(error: &SendError) -> String {
    match error {
        SendError::Connect { target, source }
            if source.kind() == std::io::ErrorKind::ConnectionRefused =>
        {
            format!("Connection refused: {target}")
        }
        SendError::ConnectTimeout { target } => format!("connection timed out: {target}"),
        SendError::Closed { .. } => "Connection prematurely closed BEFORE response".to_owned(),
        SendError::Resolve { .. }
        | SendError::Connect { .. }
        | SendError::Tls { .. }
        | SendError::Timeout { .. }
        | SendError::RequestBody { .. }
        | SendError::Invalid { .. } => error.to_string(),
    }
}

/// A status as a constant's name, such as `NOT_FOUND`; empty for unassigned codes.
pub(crate) fn status_name(status: StatusCode) -> String {
    match status.as_u16() {
        413 => "CONTENT_TOO_LARGE".to_owned(),
        418 => "I_AM_A_TEAPOT".to_owned(),
        422 => "UNPROCESSABLE_CONTENT".to_owned(),
        _ => {
            let phrase = status.canonical_reason().unwrap_or_default();
            phrase.to_ascii_uppercase().replace([' ', '-'], "_")
        }
    }
}
