//! What must hold for everything that a client may send to a gateway.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::header::HOST;
use o28m_net::fuzz::{Arrived, Ending, read_all};
use o28m_router::normalise_path;

use super::client::{Answers, Script, talk};
use super::recorder::{Record, Seen};
use super::world::{KEY, World};
use crate::request::{bare_host, raw_path};

/// Longest input: what a client can have read from it at once.
const INPUT_BYTES_MAX: usize = 4096;
/// Statuses that a healthy upstream and a healthy gateway have no part in.
const OURS: &[u16] = &[500, 502, 503, 504];

/// What only plugins may say.
const IDENTITY: &[&str] = &[
    "x-consumer-id",
    "x-consumer-custom-id",
    "x-consumer-username",
    "x-consumer-groups",
    "x-credential-identifier",
    "x-anonymous-consumer",
    "x-authenticated-groups",
];

/// Bytes from a client: the first one chooses cuts.
///
/// # Panics
/// When the connection does not end, an answer is missing or is none, the upstream is sent what is no
/// request, or one that the client did not send whole, was not let through with, or that another route
/// is for.
pub fn proxy(data: &[u8]) {
    static WORLD: Mutex<Option<World>> = Mutex::new(None);
    let mut world = WORLD.lock().unwrap_or_else(PoisonError::into_inner);
    if world.is_none() {
        *world = World::new().ok();
    }
    assert!(world.is_some(), "no sockets");
    let (Some(world), Some((choice, bytes))) = (world.as_ref(), data.split_first()) else {
        return;
    };
    let bytes = bytes.get(..INPUT_BYTES_MAX).unwrap_or(bytes);
    let (requests, ending) = read_all(bytes);
    let certain = requests.len() + usize::from(answers_once_more(ending));
    let cut = choice & 1 == 1;
    let script = Script {
        pieces: if cut {
            pieces(bytes, *choice)
        } else {
            vec![bytes]
        },
        methods: requests.iter().map(|it| it.parts.method.as_str()).collect(),
        wanted: certain,
    };
    let answers = world.runtime.block_on(async {
        let answers = talk(world.address, &script).await;
        settle(world).await;
        answers
    });
    assert!(answers.is_ok(), "no connection: {answers:?}");
    let Ok(answers) = answers else {
        return;
    };
    check_answers(&answers, &requests, ending, cut);
    check_record(&world.take_record(), &requests, world);
}

/// What is wrong with the last request is said.
fn answers_once_more(ending: Ending) -> bool {
    match ending {
        Ending::Refused | Ending::BrokenBody => true,
        Ending::Quiet | Ending::Close | Ending::HalfBody => false,
    }
}

fn pieces(mut bytes: &[u8], seed: u8) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut length = usize::from(seed >> 1);
    while !bytes.is_empty() {
        length = length * 7 % 97;
        let (piece, rest) = bytes.split_at((length + 1).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

/// Lets everything that was begun come to its end.
async fn settle(world: &World) {
    let ended = async {
        while world.gateway.requests().1 > 0 {
            tokio::task::yield_now().await;
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(15), ended).await;
    assert!(ended.is_ok(), "a request does not end");
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
}

fn check_answers(answers: &Answers, requests: &[Arrived], ending: Ending, cut: bool) {
    assert!(answers.ended, "the connection does not end: {answers:?}");
    assert_eq!(answers.odd, None, "{answers:?}");
    let count = answers.statuses.len();
    assert!(
        answers.switched || answers.left.is_empty(),
        "half an answer: {answers:?}"
    );
    assert!(count <= requests.len() + 1, "too many answers: {answers:?}");
    // A body that nobody wants and that has not arrived yet ends the connection behind its answer, and
    // so does one whose end a client of HTTP/1.0 could not tell otherwise.
    let old = requests
        .iter()
        .any(|it| it.parts.version == http::Version::HTTP_10);
    let certain = !cut && !answers.switched && !old;
    let wanted = requests.len() + usize::from(answers_once_more(ending));
    assert!(
        !certain || count >= wanted,
        "{count} of {wanted} answers: {answers:?}"
    );
    let ours = answers.statuses.iter().find(|it| OURS.contains(it));
    assert_eq!(ours, None, "{answers:?}");
}

fn check_record(record: &Record, requests: &[Arrived], world: &World) {
    assert!(record.bad.is_empty(), "no request: {:?}", record.bad);
    let mut sent = requests.iter();
    for seen in &record.requests {
        let arrived = sent.find(|arrived| is_of(seen, arrived));
        assert!(arrived.is_some(), "nobody sent {seen:?} in {requests:?}");
        if let Some(arrived) = arrived {
            check_one(seen, arrived, world);
        }
    }
}

/// The upstream's request may be made from the client's.
fn is_of(seen: &Seen, arrived: &Arrived) -> bool {
    let path = normalise_path(raw_path(&arrived.parts.uri));
    let Ok(path) = path else {
        return false;
    };
    let Some((name, _)) = routed(&seen.target) else {
        return false;
    };
    seen.method == arrived.parts.method.as_str()
        && seen.body == arrived.body
        && path.starts_with(&format!("/{name}"))
}

/// The service that a target leads to, and the path behind its own.
fn routed(target: &str) -> Option<(&str, &str)> {
    let path = target.split('?').next().unwrap_or_default();
    let path = path.strip_prefix("/s-")?;
    let names = ["open", "live", "guarded", "host"];
    let name = names.into_iter().find(|name| path.starts_with(name))?;
    let (name, rest) = path.split_at_checked(name.len())?;
    Some((name, rest))
}

fn check_one(seen: &Seen, arrived: &Arrived, world: &World) {
    let Some((name, rest)) = routed(&seen.target) else {
        return;
    };
    for segment in rest.split('/') {
        let segment = segment.to_ascii_lowercase().replace("%2e", ".");
        assert!(segment != "." && segment != "..", "{seen:?} climbs");
    }
    assert!(!rest.contains("//"), "{seen:?} is not normal");
    let query = |target: &str| target.split_once('?').map(|(_, query)| query.to_owned());
    let sent = arrived.parts.uri.path_and_query();
    assert_eq!(query(&seen.target), sent.and_then(|it| query(it.as_str())));
    let host = arrived.parts.headers.get(HOST);
    let host = host.and_then(|it| it.to_str().ok()).unwrap_or_default();
    match name {
        "guarded" => assert_eq!(seen.values(KEY.0).first(), Some(&KEY.1.as_bytes())),
        "host" => assert!(
            bare_host(host).eq_ignore_ascii_case("secret.example"),
            "{seen:?}"
        ),
        _ => {}
    }
    let wanted = if name == "host" {
        host
    } else {
        &world.upstream_host
    };
    assert_eq!(seen.values("host"), [wanted.as_bytes()]);
    for (name, _) in &seen.lines {
        let name = name.replace('_', "-");
        assert!(!IDENTITY.contains(&&*name), "{seen:?} says who it is");
    }
    let chain = seen.values("x-forwarded-for");
    assert!(
        matches!(*chain, [chain] if chain.ends_with(b"127.0.0.1")),
        "{seen:?}"
    );
    assert_eq!(seen.values("x-real-ip"), [b"127.0.0.1"]);
}
