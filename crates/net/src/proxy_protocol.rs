//! The PROXY protocol, versions 1 and 2: what a load balancer says of a connection ahead of its first
//! byte (HAProxy `proxy-protocol.txt`).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// Bytes of a line of version 1, with its end.
const LINE_BYTES_MAX: usize = 107;
/// Bytes of a header of version 2: as many as any network carries in one piece.
const HEADER_BYTES_MAX: usize = 536;
/// What version 1 begins with.
const LINE: &[u8] = b"PROXY ";
/// What version 2 begins with.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of version 2 ahead of the addresses.
const FIXED_BYTES: usize = 16;

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of it; what follows belongs to the connection.
    pub length: usize,
    /// Who connected to the load balancer; `None` when it does not say (`LOCAL`, `UNKNOWN`, a local
    /// socket), and its own address counts.
    pub source: Option<SocketAddr>,
}

/// What arrived is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It begins as neither version does.
    #[error("no PROXY protocol header")]
    Absent,
    /// More than 107 bytes of version 1, or 536 of version 2.
    #[error("PROXY protocol header too long")]
    TooLong,
    /// A line of version 1 that is none.
    #[error("malformed PROXY protocol line")]
    Line,
    /// A header of version 2 that is none.
    #[error("malformed PROXY protocol header")]
    Binary,
}

/// Reads the header that `input` begins with; `None` while there is too little of it.
///
/// # Errors
/// [`Malformed`] as soon as no more bytes can make it one.
pub fn parse(input: &[u8]) -> Result<Option<Header>, Malformed> {
    let begins = |with: &[u8]| {
        let compared = input.len().min(with.len());
        input.get(..compared) == with.get(..compared)
    };
    if begins(LINE) {
        line(input)
    } else if begins(SIGNATURE) {
        binary(input)
    } else {
        Err(Malformed::Absent)
    }
}

fn line(input: &[u8]) -> Result<Option<Header>, Malformed> {
    let window = input.get(..LINE_BYTES_MAX).unwrap_or(input);
    let Some(end) = window.iter().position(|byte| *byte == b'\n') else {
        return if window.len() < LINE_BYTES_MAX {
            Ok(None)
        } else {
            Err(Malformed::TooLong)
        };
    };
    let text = window.get(LINE.len()..end).unwrap_or_default();
    let text = text.strip_suffix(b"\r").ok_or(Malformed::Line)?;
    let text = std::str::from_utf8(text).map_err(|_| Malformed::Line)?;
    Ok(Some(Header {
        length: end + 1,
        source: source(text).ok_or(Malformed::Line)?,
    }))
}

/// The first address of `TCP4 source destination port port` and its like; of `UNKNOWN`, whatever
/// follows, none.
#[expect(
    clippy::option_option,
    reason = "a line without addresses is sound, one that is no line is not"
)]
fn source(text: &str) -> Option<Option<SocketAddr>> {
    let (family, rest) = text.split_once(' ').unwrap_or((text, ""));
    let source = match family {
        "UNKNOWN" => return Some(None),
        "TCP4" => pair::<Ipv4Addr>(rest)?,
        "TCP6" => pair::<Ipv6Addr>(rest)?,
        _ => return None,
    };
    Some(Some(source))
}

fn pair<A: FromStr + Into<IpAddr>>(text: &str) -> Option<SocketAddr> {
    let mut words = text.split(' ');
    let mut address = || words.next()?.parse::<A>().ok();
    let (source, _destination) = (address()?, address()?);
    let mut port = || words.next().and_then(port_of);
    let (source_port, _destination_port) = (port()?, port()?);
    let is_end = words.next().is_none();
    is_end.then(|| SocketAddr::new(source.into(), source_port))
}

/// A port in its only form: no sign, no leading zeros.
fn port_of(text: &str) -> Option<u16> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit())
        && (text.len() == 1 || !text.starts_with('0'));
    canonical.then(|| text.parse().ok()).flatten()
}

fn binary(input: &[u8]) -> Result<Option<Header>, Malformed> {
    let Some((fixed, rest)) = input.split_first_chunk::<FIXED_BYTES>() else {
        return Ok(None);
    };
    let [.., command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if FIXED_BYTES + length > HEADER_BYTES_MAX {
        return Err(Malformed::TooLong);
    }
    let proxied = match command {
        0x20 => false,
        0x21 => true,
        _ => return Err(Malformed::Binary),
    };
    let Some(rest) = rest.get(..length) else {
        return Ok(None);
    };
    let source = if proxied {
        addresses(family, rest)?
    } else {
        None
    };
    Ok(Some(Header {
        length: FIXED_BYTES + length,
        source,
    }))
}

/// The first of the addresses that a header of version 2 goes on with.
fn addresses(family: u8, rest: &[u8]) -> Result<Option<SocketAddr>, Malformed> {
    let is_stream = match family & 0x0f {
        1 => true,
        // Unspecified, and what is no connection.
        0 | 2 => false,
        _ => return Err(Malformed::Binary),
    };
    let (source, extensions) = match family >> 4 {
        0 => return Ok(None),
        1 => {
            let (block, rest) = rest.split_first_chunk::<12>().ok_or(Malformed::Binary)?;
            let [a, b, c, d, _, _, _, _, high, low, ..] = *block;
            let source = IpAddr::from([a, b, c, d]);
            (Some((source, u16::from_be_bytes([high, low]))), rest)
        }
        2 => {
            let (source, rest) = rest.split_first_chunk::<16>().ok_or(Malformed::Binary)?;
            let (_destination, rest) = rest.split_first_chunk::<16>().ok_or(Malformed::Binary)?;
            let (ports, rest) = rest.split_first_chunk::<4>().ok_or(Malformed::Binary)?;
            let [high, low, ..] = *ports;
            let source = IpAddr::from(*source);
            (Some((source, u16::from_be_bytes([high, low]))), rest)
        }
        // Two paths of local sockets.
        3 => (None, rest.get(216..).ok_or(Malformed::Binary)?),
        _ => return Err(Malformed::Binary),
    };
    check_extensions(extensions)?;
    let source = source.filter(|_| is_stream);
    Ok(source.map(|(address, port)| SocketAddr::new(address, port)))
}

/// Type, length and value, one after the other; nothing here needs to know any of them.
fn check_extensions(mut rest: &[u8]) -> Result<(), Malformed> {
    while let Some(([_kind, high, low], after)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        rest = after.get(length..).ok_or(Malformed::Binary)?;
    }
    if rest.is_empty() {
        Ok(())
    } else {
        Err(Malformed::Binary)
    }
}

/// Takes the header off a connection, and not a byte of what follows it: that may be TLS.
///
/// # Errors
/// When the peer fails, or sends something else.
///
/// # Cancel safety
/// Not: what was taken is lost.
pub(crate) async fn take(stream: &mut TcpStream) -> io::Result<Header> {
    let mut seen = [0; HEADER_BYTES_MAX];
    let mut taken = 0;
    loop {
        let room = seen.get_mut(taken..).unwrap_or_default();
        let peeked = stream.peek(room).await?;
        if peeked == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let known = taken + peeked;
        let parsed = parse(seen.get(..known).unwrap_or_default());
        let parsed =
            parsed.map_err(|malformed| io::Error::new(io::ErrorKind::InvalidData, malformed))?;
        // What was looked at is taken even when it is not all: looking again would not wait.
        let end = parsed.map_or(known, |header| header.length);
        let looked_at = seen.get_mut(taken..end).unwrap_or_default();
        let _length = stream.read_exact(looked_at).await?;
        match parsed {
            Some(header) => return Ok(header),
            None => taken = end,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        header.extend([command, family]);
        header.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
        header.extend(rest);
        header
    }

    /// The header of version 2 for a connection from `source`, to an address of the same family.
    fn v2_from(source: SocketAddr, extensions: &[u8]) -> Vec<u8> {
        let mut rest = Vec::new();
        let family = match source.ip() {
            IpAddr::V4(address) => {
                rest.extend(address.octets());
                rest.extend([10, 0, 0, 1]);
                0x11
            }
            IpAddr::V6(address) => {
                rest.extend(address.octets());
                rest.extend([0; 16]);
                0x21
            }
        };
        rest.extend(source.port().to_be_bytes());
        rest.extend(443_u16.to_be_bytes());
        rest.extend(extensions);
        v2(0x21, family, &rest)
    }

    fn v1_from(source: SocketAddr) -> Vec<u8> {
        let (ip, port) = (source.ip(), source.port());
        match ip {
            IpAddr::V4(_) => format!("PROXY TCP4 {ip} 10.0.0.1 {port} 443\r\n"),
            IpAddr::V6(_) => format!("PROXY TCP6 {ip} ::1 {port} 443\r\n"),
        }
        .into_bytes()
    }

    /// The outcome, which must be the same however much follows, and none before it is whole.
    fn outcome(input: &[u8]) -> Result<Option<Header>, Malformed> {
        let outcome = parse(input);
        if let Ok(Some(header)) = outcome {
            for length in 0..header.length {
                assert_eq!(parse(&input[..length]), Ok(None), "{length} of {input:?}");
            }
            let mut longer = input.to_vec();
            longer.extend(b"GET / HTTP/1.1\r\n\r\n");
            assert_eq!(parse(&longer), outcome);
        }
        outcome
    }

    #[test]
    fn both_versions_name_the_source() {
        for source in ["192.0.2.7:4711", "[2001:db8::7]:4711", "1.2.3.4:0"] {
            let source: SocketAddr = source.parse().unwrap();
            for header in [
                v1_from(source),
                v2_from(source, &[]),
                v2_from(source, &[4, 0, 2, 9, 9]),
            ] {
                let length = header.len();
                let source = Some(source);
                assert_eq!(outcome(&header), Ok(Some(Header { length, source })));
            }
        }
    }

    #[test]
    fn what_names_no_source_leaves_the_peer() {
        let inet = [1, 2, 3, 4, 5, 6, 7, 8, 0, 80, 1, 187];
        for header in [
            b"PROXY UNKNOWN\r\n".to_vec(),
            b"PROXY UNKNOWN ffff::1 whatever 1 2\r\n".to_vec(),
            v2(0x20, 0x00, &[]),
            v2(0x20, 0xff, &[1, 2, 3]),
            v2(0x20, 0x11, &inet),
            v2(0x21, 0x00, &[1, 2, 3]),
            v2(0x21, 0x31, &[0; 216]),
            v2(0x21, 0x12, &inet),
        ] {
            let length = header.len();
            let source = None;
            assert_eq!(outcome(&header), Ok(Some(Header { length, source })));
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for line in [
            "PROXY\r\n",
            "PROXY \r\n",
            "PROXY TCP4\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n",
            "PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 x\r\n",
            "PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
            "proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
            "GET / HTTP/1.1\r\n",
            "\r\nGET / HTTP/1.1\r\n",
            "\u{16}\u{3}\u{1}",
        ] {
            assert!(parse(line.as_bytes()).is_err(), "{line:?}");
        }
        let long = format!("PROXY UNKNOWN {}", "x".repeat(200));
        assert_eq!(parse(long.as_bytes()), Err(Malformed::TooLong));
        let inet = [1, 2, 3, 4, 5, 6, 7, 8, 0, 80, 1, 187];
        for (header, why) in [
            (v2(0x11, 0x11, &inet), Malformed::Binary),
            (v2(0x22, 0x11, &inet), Malformed::Binary),
            (v2(0x21, 0x13, &inet), Malformed::Binary),
            (v2(0x21, 0x41, &inet), Malformed::Binary),
            (v2(0x21, 0x11, &inet[..11]), Malformed::Binary),
            (v2(0x21, 0x21, &[0; 35]), Malformed::Binary),
            (v2(0x21, 0x31, &[0; 215]), Malformed::Binary),
            (v2(0x20, 0x00, &[0; 521]), Malformed::TooLong),
            (
                v2_from("1.2.3.4:1".parse().unwrap(), &[4, 0]),
                Malformed::Binary,
            ),
            (
                v2_from("1.2.3.4:1".parse().unwrap(), &[4, 0, 2, 9]),
                Malformed::Binary,
            ),
        ] {
            assert_eq!(parse(&header), Err(why), "{header:?}");
        }
        // As long as it may be.
        assert!(matches!(outcome(&v2(0x20, 0x00, &[0; 520])), Ok(Some(_))));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(ip: IpAddr, port: u16, extension in proptest::collection::vec(any::<u8>(), 0..64)) {
            let source = SocketAddr::new(ip, port);
            let mut extensions = vec![0xe0, 0, u8::try_from(extension.len()).unwrap()];
            extensions.extend(extension);
            for header in [v1_from(source), v2_from(source, &extensions)] {
                let length = header.len();
                let source = Some(source);
                prop_assert_eq!(outcome(&header), Ok(Some(Header { length, source })));
            }
        }

        #[test]
        fn any_bytes_have_one_outcome(bytes in proptest::collection::vec(any::<u8>(), 0..600), as_line: bool) {
            let mut input = if as_line { LINE.to_vec() } else { SIGNATURE.to_vec() };
            input.extend(&bytes);
            for input in [&bytes, &input] {
                if let Ok(Some(header)) = outcome(input) {
                    prop_assert!(header.length <= input.len().min(HEADER_BYTES_MAX));
                }
            }
        }
    }
}
