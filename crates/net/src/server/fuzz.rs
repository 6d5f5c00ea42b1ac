//! What must hold for every head that a client may send.

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::request::Parts;

use super::HeadLimits;
use super::head::{HeadReader, Sound, Step, quoted};
use super::request;
use crate::client::fuzz::printed;
use crate::fuzz::{Cuts, Stop, check_body, content, lines_of, shared, sorted};
use crate::incoming::{Framing, Incoming};

/// Limits that inputs of a few bytes reach.
pub(crate) const NARROW: HeadLimits = HeadLimits {
    line_bytes_max: 40,
    head_bytes_max: 120,
    lines_max: 4,
};
/// For heads that we print ourselves.
const WIDE: HeadLimits = HeadLimits {
    line_bytes_max: 64 * 1024,
    head_bytes_max: 128 * 1024,
    lines_max: 2000,
};

/// Bytes from a client: the first one chooses limits and cuts.
///
/// # Panics
/// When the cut into reads decides what is accepted, another reader reads another request, or what we
/// would print of it is not read as the same request again.
pub fn head(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else {
        return;
    };
    let limits = if choice & 1 == 0 {
        HeadLimits::default()
    } else {
        NARROW
    };
    let mut reader = HeadReader::default();
    let whole = reader.advance(bytes, &limits);
    let cut = in_pieces(bytes, &limits, *choice);
    match (&whole, &cut) {
        // A long or odd line is refused before its end is seen: the reason may differ.
        (Step::Refused(_), Step::Refused(_)) => {}
        _ => assert_eq!(whole, cut, "the cut decides"),
    }
    let Step::Complete(sound) = whole else {
        return;
    };
    let (head, rest) = bytes.split_at(sound.length);
    let parts = request::parts(shared(head), &reader);
    assert!(parts.is_some(), "a sound head makes no request");
    let Some(parts) = parts else {
        return;
    };
    check_other_reader(head, &reader, &sound, &parts);
    check_print(head, &parts);
    check_body(Incoming::of_client, sound.framing, rest, *choice);
}

fn in_pieces(bytes: &[u8], limits: &HeadLimits, seed: u8) -> Step {
    let (mut cuts, mut left) = (Cuts::new(seed), bytes);
    let mut reader = HeadReader::default();
    let mut step = Step::Partial;
    while step == Step::Partial && cuts.take(&mut left).is_some() {
        let read = bytes.len() - left.len();
        step = reader.advance(bytes.get(..read).unwrap_or_default(), limits);
    }
    step
}

/// `httparse` reads the same method, target and lines, and they say what we think they say.
fn check_other_reader(head: &[u8], reader: &HeadReader, sound: &Sound, parts: &Parts) {
    let (target, _) = reader.target(head).unwrap_or_default();
    let start = target.as_ptr().addr() - head.as_ptr().addr();
    let (before, behind) = (head.get(..start), head.get(start + target.len()..));
    let escaped = [
        before.unwrap_or_default(),
        &quoted(target),
        behind.unwrap_or_default(),
    ]
    .concat();
    let mut lines = [httparse::EMPTY_HEADER; 1024];
    let mut other = httparse::Request::new(&mut lines);
    let parsed = other.parse(&escaped);
    assert_eq!(parsed, Ok(httparse::Status::Complete(escaped.len())));
    assert_eq!(other.method, Some(parts.method.as_str()));
    assert_eq!(other.version == Some(1), sound.version_11);
    let target = other.path.unwrap_or_default();
    let absolute = !target.starts_with('/');
    if !absolute {
        let ours = parts.uri.path_and_query().map(|it| it.as_str());
        assert_eq!(ours, Some(target));
    }
    // The authority of an absolute target stands in for `Host`.
    let without: &[&str] = if absolute { &["host"] } else { &[] };
    let theirs = other.headers.iter().map(|line| (line.name, line.value));
    let theirs = theirs.filter(|(name, _)| !(absolute && name.eq_ignore_ascii_case("host")));
    assert_eq!(lines_of(&parts.headers, without), sorted(theirs));
    check_facts(sound, parts);
}

fn check_facts(sound: &Sound, parts: &Parts) {
    let values = |name| {
        let values = parts.headers.get_all(name).iter();
        values
            .map(|it| it.to_str().unwrap_or("?"))
            .collect::<Vec<_>>()
    };
    let framing = match (&*values(CONTENT_LENGTH), &*values(TRANSFER_ENCODING)) {
        ([], []) => Some(Framing::Length(0)),
        ([length], []) => length.parse().ok().map(Framing::Length),
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Some(Framing::Chunked),
        _ => None,
    };
    assert_eq!(
        framing,
        Some(sound.framing),
        "the framing is not the only one"
    );
    let hosts = values(HOST).len();
    assert!(hosts <= 1 && (hosts == 1 || !sound.version_11));
}

/// Fields in their order and letters, without those that frame a body.
fn spelled(head: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let mut lines = [httparse::EMPTY_HEADER; 1100];
    let mut other = httparse::Request::new(&mut lines);
    // The target may have bytes that this reader does not take.
    let head = head.strip_prefix(b"\r\n").unwrap_or(head);
    let start = head.windows(2).position(|it| it == b"\r\n")?;
    let text = [b"GET / HTTP/1.1", head.get(start..)?].concat();
    other.parse(&text).ok()?;
    let frames = ["content-length", "transfer-encoding"];
    let fields = other.headers.iter();
    let fields = fields.filter(|it| !frames.iter().any(|name| it.name.eq_ignore_ascii_case(name)));
    Some(
        fields
            .map(|it| (it.name.to_owned(), it.value.to_vec()))
            .collect(),
    )
}

/// What we print is read as the same request again, and is spelled as it was.
fn check_print(head: &[u8], parts: &Parts) {
    if !parts.headers.contains_key(HOST) {
        return;
    }
    let bytes = read_again(parts);
    // The authority of an absolute target takes the place of a field.
    if !head.windows(3).any(|it| it == b"://") {
        assert_eq!(spelled(&bytes), spelled(head), "spelled otherwise");
    }
}

/// What we print of a sound request, which is read as the same request again.
pub(crate) fn read_again(parts: &Parts) -> Vec<u8> {
    let bytes = printed(parts);
    let mut reader = HeadReader::default();
    let step = reader.advance(&bytes, &WIDE);
    let sound = match &step {
        Step::Complete(sound) => Some(*sound),
        Step::Partial | Step::Refused(_) => None,
    };
    assert!(sound.is_some(), "what we print is refused: {step:?}");
    let Some(sound) = sound else {
        return bytes;
    };
    assert_eq!(sound.length, bytes.len(), "what we print is two messages");
    assert_eq!(sound.framing, Framing::Length(0));
    let again = request::parts(shared(&bytes), &reader);
    assert!(again.is_some());
    let Some(again) = again else {
        return bytes;
    };
    assert_eq!(again.method, parts.method);
    assert_eq!(again.uri, parts.uri);
    let without = &["content-length", "transfer-encoding"];
    assert_eq!(
        lines_of(&again.headers, without),
        lines_of(&parts.headers, without)
    );
    bytes
}

/// A request that a client sent whole, as the strict reader reads it.
#[derive(Debug)]
pub struct Arrived {
    /// Its head.
    pub parts: Parts,
    /// Its body.
    pub body: Vec<u8>,
}

/// Why no request follows the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The bytes ended between two requests or within a head.
    Quiet,
    /// The next head is refused.
    Refused,
    /// The last request ends the connection.
    Close,
    /// The bytes ended within the body of another request.
    HalfBody,
    /// The body of another request breaks the rules.
    BrokenBody,
}

/// All requests that a client sends in these bytes, and how it goes on behind them.
#[must_use]
pub fn read_all(mut bytes: &[u8]) -> (Vec<Arrived>, Ending) {
    let mut requests = Vec::new();
    loop {
        let mut reader = HeadReader::default();
        let step = reader.advance(bytes, &HeadLimits::default());
        let sound = match step {
            Step::Partial => return (requests, Ending::Quiet),
            Step::Refused(_) => return (requests, Ending::Refused),
            Step::Complete(sound) => sound,
        };
        let (head, rest) = bytes.split_at(sound.length);
        let Some(parts) = request::parts(shared(head), &reader) else {
            return (requests, Ending::Refused);
        };
        let incoming = Incoming::of_client(sound.framing);
        let (body, stop) = content(incoming, std::iter::once(rest));
        match stop {
            Stop::More => return (requests, Ending::HalfBody),
            Stop::Broken => return (requests, Ending::BrokenBody),
            Stop::End(behind) => bytes = rest.get(rest.len() - behind..).unwrap_or_default(),
        }
        requests.push(Arrived { parts, body });
        if !sound.keep_alive {
            return (requests, Ending::Close);
        }
    }
}
