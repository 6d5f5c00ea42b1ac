use http::Uri;

use super::*;

/// A target that passes here and `http::Uri` does not would be answered late,
/// without our body and log.
#[test]
fn every_accepted_target_is_a_uri() {
    for byte in 0..=u8::MAX {
        for (before, after) in [
            (&b"/"[..], &b""[..]),
            (b"/a", b"b"),
            (b"/?", b""),
            (b"/?a", b"b"),
            (b"http://a/", b""),
            (b"http://a?", b""),
            (b"http://a", b"b/"),
            (b"http://a", b"1"),
        ] {
            let target = [before, &[byte], after].concat();
            if check_target(&target).is_err() {
                continue;
            }
            let target = String::from_utf8(quoted(&target)).unwrap();
            assert!(target.parse::<Uri>().is_ok(), "{target:?}");
        }
        let visible = byte > b' ' && byte != 0x7f && byte != b'#';
        assert_eq!(check_target(&[b'/', byte]).is_ok(), visible, "{byte}");
    }
    for target in ["//", "//a", "/:", "/a:b@c", "/[x]", "/?", "/??"] {
        assert!(check_target(target.as_bytes()).is_ok(), "{target}");
        assert!(target.parse::<Uri>().is_ok(), "{target}");
    }
}

#[test]
fn only_the_target_is_quoted() {
    let head = b"GET /a\"<>`\xe9?\"%22 HTTP/1.1\r\nHost: a\r\nX: \"\xe9\"\r\n\r\n";
    let mut reader = HeadReader::default();
    let step = reader.advance(head, &HeadLimits::default());
    assert!(matches!(step, Step::Complete(_)));
    let parts = request::parts(Bytes::from_static(head), &reader).unwrap();
    assert_eq!(parts.uri, "/a%22%3C%3E%60%E9?%22%22");
    assert_eq!(parts.headers["x"], &b"\"\xe9\""[..]);
}

#[test]
fn an_absolute_authority_that_passes_is_an_authority() {
    for authority in [
        "a",
        "a:80",
        "a:",
        "[::1]",
        "[::1]:80",
        "a_b",
        "a~b",
        "a%41",
        "a!$&'()*+,;=",
        "%",
        "*",
    ] {
        let target = format!("http://{authority}/x");
        if check_target(target.as_bytes()).is_ok() {
            let uri = target.parse::<Uri>();
            assert!(uri.is_ok_and(|uri| uri.authority().is_some()), "{target}");
        }
    }
}

/// The slow model: a head read at once and the same head read byte by byte end alike.
#[test]
fn reading_is_the_same_however_it_is_cut() {
    let limits = HeadLimits {
        line_bytes_max: 30,
        head_bytes_max: 90,
        lines_max: 3,
    };
    for head in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\nrest",
        "\r\nPOST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        "GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nC: d\r\nE: f\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nA: bbbbbbbbbbbbbbbbbbbbbb\r\nC: dddddddddddddddddddddd\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "PUT / HTTP/1.1\r\nHost: a\r\nbad\r\n\r\n",
    ] {
        let bytes = head.as_bytes();
        let whole = HeadReader::default().advance(bytes, &limits);
        let mut reader = HeadReader::default();
        let mut pieces = Step::Partial;
        for end in 1..=bytes.len() {
            pieces = reader.advance(bytes.get(..end).unwrap(), &limits);
            if pieces != Step::Partial {
                break;
            }
        }
        assert_eq!(whole, pieces, "{head:?}");
        assert_ne!(whole, Step::Partial, "{head:?}");
    }
}

/// A small deterministic source of mutations.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as usize % sides
    }
}

const SEEDS: &[&str] = &[
    "GET /x?y=z HTTP/1.1\r\nHost: a.example:80\r\nAccept: */*\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\nX: y\r\n\r\n",
    "PUT /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n",
    "GET http://b:81/p HTTP/1.1\r\nHost: [::1]:8\r\nUpgrade: websocket\r\n\r\n",
    "DELETE /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
];

fn mutated(dice: &mut Dice) -> Vec<u8> {
    const BITS: &[&[u8]] = &[
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b":",
        b"\t",
        b"\0",
        b",",
        b"0",
        b"+",
        b"chunked",
        b"\r\n ",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Host: c\r\n",
        b"\xff",
        b"\"",
        b"HTTP/1.0",
        b"#",
        b"@",
        b"[",
        b"%",
    ];
    let mut bytes = SEEDS[dice.roll(SEEDS.len())].as_bytes().to_vec();
    for _ in 0..=dice.roll(3) {
        let at = dice.roll(bytes.len());
        match dice.roll(4) {
            0 => {
                bytes.remove(at);
            }
            1 => bytes[at] = dice.roll(256) as u8,
            2 => {
                let bit = BITS[dice.roll(BITS.len())];
                bytes.splice(at..at, bit.iter().copied());
            }
            _ => {
                let end = at + dice.roll(bytes.len() - at);
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

/// Whatever passes here is a request for the parser behind, of the same length and framing.
#[test]
fn what_passes_is_read_alike_by_the_parser_behind() {
    let limits = HeadLimits::default();
    let mut dice = Dice(7);
    let mut passed = 0;
    for _ in 0..200_000 {
        let bytes = mutated(&mut dice);
        let mut reader = HeadReader::default();
        let Step::Complete(sound) = reader.advance(&bytes, &limits) else {
            continue;
        };
        let Sound {
            length, framing, ..
        } = sound;
        passed += 1;
        let at = reader.target.clone();
        let target = quoted(&bytes[at.clone()]);
        let head = [&bytes[..at.start], &target, &bytes[at.end..length]].concat();
        let mut lines = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut lines);
        let parsed = request.parse(&head).unwrap();
        assert_eq!(parsed, httparse::Status::Complete(head.len()), "{head:?}");
        assert!(request.path.unwrap().parse::<Uri>().is_ok(), "{head:?}");
        let whole = Bytes::copy_from_slice(&bytes[..length]);
        let parts = request::parts(whole, &reader).unwrap();
        assert_eq!(parts.method.as_str(), request.method.unwrap(), "{head:?}");
        let is_absolute = !request.path.unwrap().starts_with('/');
        let named = |name: &str| !(is_absolute && name.eq_ignore_ascii_case("host"));
        let mut own: Vec<_> = parts
            .headers
            .iter()
            .filter(|(name, _)| named(name.as_str()))
            .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
            .collect();
        let mut other: Vec<_> = request
            .headers
            .iter()
            .filter(|line| named(line.name))
            .map(|line| (line.name.to_ascii_lowercase(), line.value.to_vec()))
            .collect();
        own.sort();
        other.sort();
        assert_eq!(own, other, "{head:?}");
        let values = |name: &str| {
            let named = request
                .headers
                .iter()
                .filter(|line| line.name.eq_ignore_ascii_case(name));
            named.map(|line| line.value).collect::<Vec<_>>()
        };
        let wanted = match (
            values("content-length").as_slice(),
            values("transfer-encoding").as_slice(),
        ) {
            ([], []) => Framing::Length(0),
            ([length], []) => {
                Framing::Length(std::str::from_utf8(length).unwrap().parse().unwrap())
            }
            ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Framing::Chunked,
            other => panic!("{other:?} passed in {head:?}"),
        };
        assert_eq!(framing, wanted, "{head:?}");
        assert!(values("host").len() <= 1, "{head:?}");
        assert!(
            request.version == Some(0) || values("host").len() == 1,
            "{head:?}"
        );
    }
    assert!(
        passed > 20_000,
        "only {passed} passed: the mutations are too wild"
    );
}

#[test]
fn mutations_are_judged_the_same_however_they_are_cut() {
    let limits = HeadLimits {
        line_bytes_max: 60,
        head_bytes_max: 120,
        lines_max: 4,
    };
    let mut dice = Dice(11);
    for _ in 0..20_000 {
        let bytes = mutated(&mut dice);
        let whole = HeadReader::default().advance(&bytes, &limits);
        let mut reader = HeadReader::default();
        let mut end = 0;
        let mut pieces = Step::Partial;
        while end < bytes.len() && pieces == Step::Partial {
            end = (end + 1 + dice.roll(20)).min(bytes.len());
            pieces = reader.advance(&bytes[..end], &limits);
        }
        let alike = match (&whole, &pieces) {
            // A long or odd line is refused before its end is seen: the reason may differ.
            (Step::Refused(_), Step::Refused(_)) => true,
            _ => whole == pieces,
        };
        assert!(
            alike,
            "{whole:?} {pieces:?} {:?}",
            String::from_utf8_lossy(&bytes)
        );
    }
}
