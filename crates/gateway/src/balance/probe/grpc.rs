//! gRPC's health checking protocol: `grpc.health.v1.Health/Check`, for the server as a whole.
//!
//! The two messages have one field each, so they are written and read here.

use std::error::Error;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Limited};
use o28m_net::{Body, BodyError};

use crate::balance::Report;
use crate::grpc::{MEDIA_TYPE, STATUS, is_grpc};

const PATH: &str = "/grpc.health.v1.Health/Check";
/// A message that is not compressed and has no field: the service asked for is the empty one.
const QUESTION: &[u8] = &[0; PREFIX_BYTES];
/// Before each message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// Longest answer, with its prefix; one that says what it should has seven bytes.
const ANSWER_BYTES_MAX: usize = 4096;
/// `HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: u64 = 1;
/// Fields that configured ones do not set: they are of the connection, or say what the call is.
const OURS: [HeaderName; 8] = [
    CONNECTION,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Why a server that answers gets no requests.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unwell {
    /// No call is answered with it.
    #[error("it answers with status {0}")]
    Status(StatusCode),
    /// It does not speak gRPC.
    #[error("the answer is not gRPC")]
    MediaType,
    /// The answer broke off.
    #[error("the answer is not whole")]
    Body(#[source] BodyError),
    /// More than any answer has.
    #[error("the answer is longer than {ANSWER_BYTES_MAX} bytes")]
    TooLong,
    /// Nothing says how the call ended.
    #[error("the answer has no grpc-status")]
    NoCode,
    /// The call failed; 12 is a server without this protocol.
    #[error("the call ended with grpc-status {0:?}")]
    Code(HeaderValue),
    /// The answer is not the message it has to be.
    #[error("the message cannot be read")]
    Message,
    /// It says so itself.
    #[error("it says that it does not serve (status {0})")]
    NotServing(u64),
}

impl Unwell {
    /// What it counts as.
    pub(super) fn report(&self) -> Report {
        match self {
            Self::Body(BodyError::Timeout) => Report::Timeout,
            Self::Body(BodyError::Broken(_) | BodyError::TooLarge { .. }) => Report::Tcp,
            Self::Status(_)
            | Self::MediaType
            | Self::TooLong
            | Self::NoCode
            | Self::Code(_)
            | Self::Message
            | Self::NotServing(_) => Report::Http,
        }
    }
}

/// The call, with these fields as its metadata.
pub(super) fn call(mut headers: HeaderMap) -> Request<Body> {
    for name in &OURS {
        headers.remove(name);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    let mut request = Request::new(Body::full(QUESTION));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static(PATH);
    *request.headers_mut() = headers;
    request
}

/// Whether the server says that it serves.
pub(super) async fn judge(response: Response<Body>) -> Result<(), Unwell> {
    let (head, body) = response.into_parts();
    if head.status != StatusCode::OK {
        return Err(Unwell::Status(head.status));
    }
    if !is_grpc(&head.headers) {
        return Err(Unwell::MediaType);
    }
    let (answer, trailers) = collect(body).await?;
    // A call that fails at once may end in its head.
    let last = match trailers {
        None if answer.is_empty() => head.headers,
        trailers => trailers.unwrap_or_default(),
    };
    match last.get(STATUS) {
        None => return Err(Unwell::NoCode),
        Some(code) if code == "0" => {}
        Some(code) => return Err(Unwell::Code(code.clone())),
    }
    match message(&answer).and_then(serving_status) {
        None => Err(Unwell::Message),
        Some(SERVING) => Ok(()),
        Some(other) => Err(Unwell::NotServing(other)),
    }
}

async fn collect(body: Body) -> Result<(Bytes, Option<HeaderMap>), Unwell> {
    match Limited::new(body, ANSWER_BYTES_MAX).collect().await {
        Ok(collected) => {
            let trailers = collected.trailers().cloned();
            Ok((collected.to_bytes(), trailers))
        }
        Err(error) => Err(unreadable(error)),
    }
}

fn unreadable(error: Box<dyn Error + Send + Sync>) -> Unwell {
    match error.downcast::<BodyError>() {
        Ok(error) => Unwell::Body(*error),
        Err(_) => Unwell::TooLong,
    }
}

/// The only message of a body.
fn message(body: &[u8]) -> Option<&[u8]> {
    let ([compressed, length @ ..], message) = body.split_first_chunk::<PREFIX_BYTES>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    (*compressed == 0 && length == message.len()).then_some(message)
}

/// The field `status` of a `HealthCheckResponse`: the last one, or its default. Other fields are those
/// of later versions.
fn serving_status(mut message: &[u8]) -> Option<u64> {
    let mut status = 0;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        match (tag >> 3, tag & 7) {
            (0, _) => return None,
            (1, 0) => status = varint(&mut message)?,
            (_, 0) => {
                varint(&mut message)?;
            }
            (_, 1) => skip(&mut message, 8)?,
            (_, 2) => {
                let length = varint(&mut message)?;
                skip(&mut message, length)?;
            }
            (_, 5) => skip(&mut message, 4)?,
            // Groups, which this message has never had, and what is no type.
            _ => return None,
        }
    }
    Some(status)
}

/// A number in groups of seven bits, the lowest first.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let group = u64::from(byte & 0x7f);
        let shifted = group << shift;
        if shifted >> shift != group {
            return None;
        }
        number |= shifted;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn skip(bytes: &mut &[u8], count: u64) -> Option<()> {
    *bytes = bytes.get(usize::try_from(count).ok()?..)?;
    Some(())
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use proptest::prelude::*;

    use super::*;

    const SERVES: &[u8] = &[0, 0, 0, 0, 2, 8, 1];

    /// A response in these pieces, with trailers if there are some.
    fn answer(
        head: &[(&'static str, &'static str)],
        pieces: &[&[u8]],
        trailers: Option<&[(&'static str, &'static str)]>,
    ) -> Response<Body> {
        let fields = |lines: &[(&'static str, &'static str)]| {
            let lines = lines.iter().map(|(name, value)| {
                let name = HeaderName::from_static(name);
                (name, HeaderValue::from_static(value))
            });
            lines.collect::<HeaderMap>()
        };
        let pieces = pieces
            .iter()
            .map(|it| Ok(Frame::data(Bytes::copy_from_slice(it))));
        let trailers = trailers.map(|it| Ok(Frame::trailers(fields(it))));
        let frames: Vec<Result<_, BodyError>> = pieces.chain(trailers).collect();
        let body = StreamBody::new(stream::iter(frames));
        let mut response = Response::new(Body::Stream(Box::pin(body)));
        *response.headers_mut() = fields(head);
        response
    }

    const GRPC: &[(&str, &str)] = &[("content-type", "application/grpc+proto")];
    const DONE: &[(&str, &str)] = &[("grpc-status", "0")];

    #[tokio::test]
    async fn who_serves_is_well() {
        for pieces in [&[SERVES][..], &[&SERVES[..3], &SERVES[3..]]] {
            assert!(judge(answer(GRPC, pieces, Some(DONE))).await.is_ok());
        }
        // A field that is not known, and the last value of one that is.
        let later = [0, 0, 0, 0, 10, 8, 2, 0x12, 2, b'h', b'i', 0x18, 7, 8, 1];
        assert!(judge(answer(GRPC, &[&later], Some(DONE))).await.is_ok());
    }

    #[tokio::test]
    async fn whatever_else_is_answered_is_a_failure_of_its_kind() {
        let told = async |response| match judge(response).await {
            Ok(()) => panic!("well"),
            Err(unwell) => (unwell.to_string(), unwell.report()),
        };
        let http = |text: &str| (text.to_owned(), Report::Http);
        let mut response = answer(GRPC, &[SERVES], Some(DONE));
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        let text = "it answers with status 503 Service Unavailable";
        assert_eq!(told(response).await, http(text));
        for head in [&[("content-type", "text/html")][..], &[]] {
            let response = answer(head, &[SERVES], Some(DONE));
            assert_eq!(told(response).await, http("the answer is not gRPC"));
        }
        let coded = [("content-type", "application/grpc"), ("grpc-status", "12")];
        let code = http("the call ended with grpc-status \"12\"");
        assert_eq!(told(answer(&coded, &[], None)).await, code);
        let failed = Some(&coded[1..]);
        assert_eq!(told(answer(GRPC, &[], failed)).await, code);
        assert_eq!(told(answer(GRPC, &[SERVES], failed)).await, code);
        let no_code = http("the answer has no grpc-status");
        assert_eq!(told(answer(GRPC, &[SERVES], None)).await, no_code);
        assert_eq!(told(answer(GRPC, &[], Some(&[]))).await, no_code);
        // What the head says does not count once there was a message.
        let early = [("content-type", "application/grpc"), ("grpc-status", "0")];
        assert_eq!(told(answer(&early, &[SERVES], None)).await, no_code);
        let huge = [0; ANSWER_BYTES_MAX];
        let response = answer(GRPC, &[&huge, &huge], Some(DONE));
        assert_eq!(
            told(response).await,
            http("the answer is longer than 4096 bytes")
        );
        for (body, status) in [
            (&[0, 0, 0, 0, 0][..], 0),
            (&[0, 0, 0, 0, 2, 8, 2], 2),
            (&[0, 0, 0, 0, 3, 8, 0x81, 1], 129),
        ] {
            let text = format!("it says that it does not serve (status {status})");
            assert_eq!(told(answer(GRPC, &[body], Some(DONE))).await, http(&text));
        }
        for body in [
            &[][..],
            &[0, 0, 0, 0],
            &[1, 0, 0, 0, 2, 8, 1],
            &[0, 0, 0, 0, 3, 8, 1],
            &[0, 0, 0, 0, 1, 8, 1],
            &[0, 0xff, 0xff, 0xff, 0xff, 8, 1],
            &[0, 0, 0, 0, 2, 8, 1, 0, 0, 0, 0, 2, 8, 1],
            &[0, 0, 0, 0, 1, 8],
            &[0, 0, 0, 0, 2, 0, 1],
            &[0, 0, 0, 0, 2, 0x0b, 1],
            &[0, 0, 0, 0, 3, 0x12, 9, 1],
        ] {
            let response = answer(GRPC, &[body], Some(DONE));
            assert_eq!(
                told(response).await,
                http("the message cannot be read"),
                "{body:?}"
            );
        }
        let broken = |error: BodyError| {
            let mut response = answer(GRPC, &[], None);
            let frames = stream::iter([Err(error)]);
            *response.body_mut() = Body::Stream(Box::pin(StreamBody::new(frames)));
            response
        };
        let text = "the answer is not whole".to_owned();
        let gone = BodyError::Broken(std::io::ErrorKind::ConnectionReset.into());
        assert_eq!(told(broken(gone)).await, (text.clone(), Report::Tcp));
        let silent = broken(BodyError::Timeout);
        assert_eq!(told(silent).await, (text, Report::Timeout));
    }

    #[test]
    fn configured_fields_are_metadata_and_frame_nothing() {
        let lines = [
            ("host", "up"),
            ("authorization", "Bearer x"),
            ("content-type", "text/plain"),
            ("content-length", "9"),
            ("te", "gzip"),
            ("connection", "close"),
            ("transfer-encoding", "chunked"),
        ];
        let lines = lines.map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        let request = call(HeaderMap::from_iter(lines));
        let mut names: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["authorization", "content-type", "host", "te"]);
        assert_eq!(request.headers()["content-type"], "application/grpc");
        assert_eq!(request.headers()["te"], "trailers");
        assert_eq!(
            (request.method(), request.uri().path()),
            (&Method::POST, PATH)
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _read = message(&bytes).and_then(serving_status);
            let _read = serving_status(&bytes);
        }

        #[test]
        fn numbers_are_read_as_they_are_written(number in any::<u64>()) {
            let (mut left, mut bytes) = (number, vec![8]);
            while left > 0x7f {
                bytes.push(left.to_le_bytes()[0] | 0x80);
                left >>= 7;
            }
            bytes.push(left.to_le_bytes()[0]);
            prop_assert_eq!(serving_status(&bytes), Some(number));
        }
    }
}
