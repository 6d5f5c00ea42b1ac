//! What must hold for everything that an upstream may send.

use bytes::BytesMut;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::request;
use http::{Request, Response, StatusCode};

use super::WrittenRequest;
use super::answer::{Head, HeadReader};
use crate::Body;
use crate::fuzz::{Cuts, check_body, lines_of, shared, sorted};
use crate::incoming::{Framing, Incoming};
use crate::server::printed as printed_response;

/// The head of a request without a body, as it is sent.
pub(crate) fn printed(parts: &request::Parts) -> Vec<u8> {
    let request = Request::from_parts(parts.clone(), Body::Empty);
    WrittenRequest::from(request).message.head().to_vec()
}

/// Bytes from an upstream: the first one chooses what was asked and cuts.
///
/// # Panics
/// When the cut into reads decides what is read, another reader reads another response, or what we
/// would hand on is not the same response with one framing.
pub fn response(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else {
        return;
    };
    let bodyless = choice & 1 == 1;
    let whole = read(std::iter::once(bytes), bodyless);
    let (mut cuts, mut left) = (Cuts::new(*choice), bytes);
    let cut = read(std::iter::from_fn(|| cuts.take(&mut left)), bodyless);
    let (head, length) = match (whole, cut) {
        (Ok(Some(whole)), Ok(Some(cut))) => {
            let facts = |(head, length): &(Head, usize)| {
                (
                    head.parts.status,
                    lines_of(&head.parts.headers, &[]),
                    framing(&head.incoming),
                    head.keep_alive,
                    *length,
                )
            };
            assert_eq!(facts(&whole), facts(&cut), "the cut decides");
            whole
        }
        (Ok(None), Ok(None)) | (Err(()), Err(())) => return,
        (whole, cut) => {
            let (whole, cut) = (whole.map(|it| it.is_some()), cut.map(|it| it.is_some()));
            assert_eq!(whole, cut, "the cut decides");
            return;
        }
    };
    let (text, rest) = bytes.split_at(length);
    check_other_reader(text, &head, bodyless);
    check_print(&head, bodyless, choice & 2 == 0);
    check_body(
        Incoming::of_upstream,
        framing(&head.incoming),
        rest,
        *choice,
    );
}

/// The head and its bytes.
fn read<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    bodyless: bool,
) -> Result<Option<(Head, usize)>, ()> {
    let (mut reader, mut input) = (HeadReader::default(), BytesMut::new());
    let mut read = 0;
    for piece in pieces {
        input.extend_from_slice(piece);
        read += piece.len();
        if let Some(head) = reader.read(&mut input, bodyless).map_err(drop)? {
            return Ok(Some((head, read - input.len())));
        }
    }
    Ok(None)
}

fn framing(incoming: &Incoming) -> Framing {
    match incoming {
        Incoming::Length(length) => Framing::Length(*length),
        Incoming::Chunked(_) => Framing::Chunked,
        Incoming::Close => Framing::Close,
        Incoming::Trailers(_) | Incoming::Ended => Framing::Length(0),
    }
}

/// `httparse` reads the same status and lines, to the same end; lengths that lie are left out.
fn check_other_reader(text: &[u8], head: &Head, bodyless: bool) {
    let mut lines = [httparse::EMPTY_HEADER; 1024];
    let mut other = httparse::Response::new(&mut lines);
    let parsed = other.parse(text);
    assert_eq!(parsed, Ok(httparse::Status::Complete(text.len())));
    assert_eq!(other.code, Some(head.parts.status.as_u16()));
    let without = &["content-length"];
    let theirs = other.headers.iter().map(|line| (line.name, line.value));
    let theirs = theirs.filter(|(name, _)| !name.eq_ignore_ascii_case("content-length"));
    assert_eq!(lines_of(&head.parts.headers, without), sorted(theirs));
    let headers = &head.parts.headers;
    let (lengths, codings) = (
        headers.get_all(CONTENT_LENGTH).iter().count(),
        headers.get_all(TRANSFER_ENCODING).iter().count(),
    );
    assert!(lengths + codings <= 1, "two framings are kept");
    let status = head.parts.status;
    let may_have_body = !bodyless
        && !status.is_informational()
        && !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    match framing(&head.incoming) {
        Framing::Chunked => assert!(codings == 1 && may_have_body),
        Framing::Close => assert!(lengths + codings == 0 && may_have_body && !head.keep_alive),
        Framing::Length(length) if may_have_body => {
            let told = headers.get(CONTENT_LENGTH).and_then(|it| it.to_str().ok());
            assert_eq!(told.and_then(|it| it.parse().ok()), Some(length));
        }
        Framing::Length(length) => assert_eq!(length, 0),
    }
}

/// A body that knows its length as that of an upstream does.
struct Coming(http_body::SizeHint);

impl http_body::Body for Coming {
    type Data = bytes::Bytes;
    type Error = crate::BodyError;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, crate::BodyError>>> {
        std::task::Poll::Ready(None)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.0
    }
}

/// What the client gets is one message with the same status, lines and length.
fn check_print(head: &Head, bodyless: bool, version_11: bool) {
    let status = head.parts.status;
    if status.is_informational() {
        return;
    }
    let mut parts = head.parts.clone();
    parts.headers.remove(CONNECTION);
    let hint = match framing(&head.incoming) {
        Framing::Length(length) => http_body::SizeHint::with_exact(length),
        Framing::Chunked | Framing::Close => http_body::SizeHint::default(),
    };
    let body = Body::Stream(Box::pin(Coming(hint)));
    let response = Response::from_parts(parts, body);
    let bytes = printed_response(response, bodyless, version_11);
    let mut lines = [httparse::EMPTY_HEADER; 1024];
    let mut other = httparse::Response::new(&mut lines);
    let parsed = other.parse(&bytes);
    assert_eq!(parsed, Ok(httparse::Status::Complete(bytes.len())));
    assert_eq!(other.code, Some(status.as_u16()));
    assert_eq!(other.version == Some(1), version_11);
    let values = |name: &str| {
        let lines = other.headers.iter();
        let named = lines.filter(|line| line.name.eq_ignore_ascii_case(name));
        named.map(|line| shared(line.value)).collect::<Vec<_>>()
    };
    let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
    let empty = bodyless || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    match framing(&head.incoming) {
        _ if empty => assert!(lengths.len() <= 1 && codings.is_empty()),
        Framing::Length(length) => {
            assert_eq!(lengths, [shared(length.to_string().as_bytes())]);
            assert!(codings.is_empty());
        }
        Framing::Chunked | Framing::Close if version_11 => {
            assert_eq!(codings, ["chunked"]);
            assert!(lengths.is_empty());
        }
        Framing::Chunked | Framing::Close => {
            assert!(lengths.is_empty() && codings.is_empty());
            assert_eq!(values("connection"), ["close"]);
        }
    }
    let ours = ["connection", "content-length", "transfer-encoding", "date"];
    let theirs = other.headers.iter().map(|line| (line.name, line.value));
    let passed = theirs.filter(|(name, _)| !ours.iter().any(|it| name.eq_ignore_ascii_case(it)));
    assert_eq!(lines_of(&head.parts.headers, &ours), sorted(passed));
}
