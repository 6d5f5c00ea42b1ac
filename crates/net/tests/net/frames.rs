//! HTTP/2 by hand: frames as bytes, header blocks without compression.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::support::patiently;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
pub(crate) const PRIORITISED: u8 = 32;

/// Payload of the ping that asks whether the connection still lives.
const ALIVE: &[u8; 8] = b"anyone??";

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header block of literal fields.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let text = |text: &str, bytes: &mut Vec<u8>| {
        match text.len() {
            length @ ..127 => bytes.push(length as u8),
            mut length => {
                bytes.push(127);
                length -= 127;
                while length >= 128 {
                    bytes.push((length % 128 + 128) as u8);
                    length /= 128;
                }
                bytes.push(length as u8);
            }
        }
        bytes.extend(text.as_bytes());
    };
    for (name, value) in fields {
        bytes.push(0);
        text(name, &mut bytes);
        text(value, &mut bytes);
    }
    bytes
}

/// The pseudo header fields of a request, and more.
pub(crate) fn request(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let start = [
        (":method", method),
        (":scheme", "http"),
        (":path", path),
        (":authority", "a"),
    ];
    block(&[&start, more].concat())
}

/// A whole request without body.
pub(crate) fn get(stream: u32) -> Vec<u8> {
    frame(
        HEADERS,
        END_HEADERS | END_STREAM,
        stream,
        request("GET", "/", &[]),
    )
}

pub(crate) fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (key, value) in pairs {
        payload.extend(key.to_be_bytes());
        payload.extend(value.to_be_bytes());
    }
    frame(SETTINGS, 0, 0, payload)
}

pub(crate) fn window_update(stream: u32, bytes: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, bytes.to_be_bytes())
}

pub(crate) fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, 8_u32.to_be_bytes())
}

#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// The status of a response head, its first field.
    pub(crate) fn status(&self) -> u16 {
        let mut block = self.payload.as_slice();
        // The size of the table may come first.
        while let [0x20..=0x3e, rest @ ..] = block {
            block = rest;
        }
        match block {
            [indexed @ 0x88..=0x8e, ..] => {
                [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)]
            }
            [0x48 | 0x08, length, text @ ..] if length & 0x80 == 0 => {
                std::str::from_utf8(&text[..3]).unwrap().parse().unwrap()
            }
            [0x48 | 0x08, _, text @ ..] => digits(text),
            other => panic!("no status in {other:x?}"),
        }
    }

    /// What matters of it, as tests write it.
    fn short(&self) -> Option<String> {
        let stream = self.stream;
        match self.kind {
            HEADERS => Some(format!("{stream}: {}", self.status())),
            RST_STREAM => Some(format!("{stream}: reset {}", self.number(0))),
            GOAWAY => Some(format!("away {}", self.number(4))),
            _ => None,
        }
    }
}

/// Three digits in the code of HPACK.
fn digits(bytes: &[u8]) -> u16 {
    let mut bits = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1));
    let mut value = 0;
    for _ in 0..3 {
        let mut code = 0;
        for _ in 0..5 {
            code = code << 1 | u16::from(bits.next().unwrap());
        }
        let digit = if code < 3 {
            code
        } else {
            (code << 1 | u16::from(bits.next().unwrap())) - 0b01_1001 + 3
        };
        value = value * 10 + digit;
    }
    value
}

/// A client.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
}

impl Peer {
    /// Connects, and sends nothing.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        Self { stream }
    }

    /// Connects and sends the preface and settings.
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let mut peer = Self::connect(address).await;
        peer.send(PREFACE).await;
        peer.send(settings(&[])).await;
        peer
    }

    /// Sends bytes; a server that has enough may have closed.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _closed = self.stream.write_all(bytes.as_ref()).await;
    }

    /// The next frame; nothing at the end.
    pub(crate) async fn read(&mut self) -> Option<Frame> {
        read_frame(&mut self.stream).await
    }

    /// The next frame of a kind.
    pub(crate) async fn wait_for(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.read().await;
            let frame = frame.unwrap_or_else(|| panic!("closed before a frame of kind {kind}"));
            assert!(frame.kind != GOAWAY || kind == GOAWAY, "{frame:?}");
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// What the server says until it closes, or has answered several pings one after the other: by then
    /// it has answered everything that came before.
    pub(crate) async fn outcome(&mut self) -> Vec<String> {
        let mut seen = Vec::new();
        let mut pings = 0;
        self.send(frame(PING, 0, 0, ALIVE)).await;
        while let Some(heard) = self.read().await {
            if heard.kind == PING && heard.flags == ACK && heard.payload == ALIVE {
                pings += 1;
                if pings == 5 {
                    return seen;
                }
                self.send(frame(PING, 0, 0, ALIVE)).await;
            }
            seen.extend(heard.short());
        }
        seen.push("closed".to_owned());
        seen
    }

    /// Reads and writes side by side.
    pub(crate) fn split(self) -> (Reader, Writer) {
        let (read, write) = self.stream.into_split();
        (Reader(read), Writer(write))
    }

    /// What the server says until it closes.
    pub(crate) async fn rest(&mut self) -> Vec<String> {
        read_rest(&mut self.stream).await
    }
}

/// The half of a client that reads.
pub(crate) struct Reader(OwnedReadHalf);

impl Reader {
    /// What the server says until it closes.
    pub(crate) async fn rest(&mut self) -> Vec<String> {
        read_rest(&mut self.0).await
    }
}

/// The half of a client that writes.
pub(crate) struct Writer(OwnedWriteHalf);

impl Writer {
    /// Sends bytes; `false` once the server takes no more.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.0.write_all(bytes.as_ref()).await.is_ok()
    }
}

async fn read_frame(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<Frame> {
    let mut head = [0; 9];
    let reading = async {
        stream.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, flags, id @ ..] = head;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.ok()?;
        Some(Frame {
            kind,
            flags,
            stream: u32::from_be_bytes(id),
            payload,
        })
    };
    patiently("a frame", reading).await
}

async fn read_rest(stream: &mut (impl AsyncReadExt + Unpin)) -> Vec<String> {
    let mut seen = Vec::new();
    while let Some(frame) = read_frame(stream).await {
        seen.extend(frame.short());
    }
    seen
}

/// Writes bytes; a peer that has enough may have closed.
pub(crate) async fn write(stream: &mut TcpStream, bytes: impl AsRef<[u8]>) {
    let _closed = stream.write_all(bytes.as_ref()).await;
}
