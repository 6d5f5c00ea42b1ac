//! Counts what a client sends besides its requests, frame by frame, below the library: what costs us
//! work and moves nothing has a budget (CVE-2019-9512 to 9518, CVE-2023-44487, CVE-2024-27316).

use std::time::{Duration, Instant};

/// Bytes of the connection preface, which is no frame.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADER_BYTES: usize = 9;

/// Points of frames that carry no message, at once and again for each second.
pub(super) const CONTROL_BURST: u32 = 2_000;
const CONTROL_PER_SECOND: u32 = 200;
/// What a frame of content that was sent gives back: a client answers it with updates of two windows
/// and, when it measures the round trip, a ping.
pub(super) const CREDIT: u32 = 4;
/// Streams reset soon after they were opened, at once and again for each second.
pub(super) const RESETS_BURST: u32 = 256;
const RESETS_PER_SECOND: u32 = 64;
/// A reset is soon within one to two of these.
const SOON: Duration = Duration::from_millis(500);

/// The client sends more than is good for us.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flood;

/// A budget that fills up again with time.
struct Budget {
    left: u32,
    burst: u32,
    per_second: u32,
    filled: Instant,
}

impl Budget {
    fn new(burst: u32, per_second: u32, now: Instant) -> Self {
        Self {
            left: burst,
            burst,
            per_second,
            filled: now,
        }
    }

    fn fill(&mut self, now: Instant) {
        let millis = now.saturating_duration_since(self.filled).as_millis();
        let millis = u32::try_from(millis).unwrap_or(u32::MAX);
        let points = millis.saturating_mul(self.per_second) / 1000;
        if points > 0 {
            self.filled = now;
            self.give(points);
        }
    }

    fn give(&mut self, points: u32) {
        self.left = self.left.saturating_add(points).min(self.burst);
    }

    fn spend(&mut self, points: u32) -> Result<(), Flood> {
        self.left = self.left.checked_sub(points).ok_or(Flood)?;
        Ok(())
    }
}

/// Follows the frames of one client.
pub(super) struct Meter {
    /// Bytes of the preface that are still to come.
    preface: usize,
    header: [u8; HEADER_BYTES],
    /// Bytes of `header` that are there.
    held: usize,
    /// Bytes of the frame's payload that are still to come.
    payload: usize,
    /// The frame is part of a header block.
    in_block_frame: bool,
    /// A header block is open: only `CONTINUATION` may follow.
    open_block: bool,
    control: Budget,
    resets: Budget,
    /// Highest stream so far.
    newest: u32,
    /// Highest stream when the present window of time, and when the one before it, began.
    newest_before: (u32, u32),
    window: Instant,
}

impl Meter {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            preface: PREFACE.len(),
            header: [0; HEADER_BYTES],
            held: 0,
            payload: 0,
            in_block_frame: false,
            open_block: false,
            control: Budget::new(CONTROL_BURST, CONTROL_PER_SECOND, now),
            resets: Budget::new(RESETS_BURST, RESETS_PER_SECOND, now),
            newest: 0,
            newest_before: (0, 0),
            window: now,
        }
    }

    /// A header block has begun and is not complete.
    pub(super) fn is_in_head(&self) -> bool {
        self.open_block || (self.in_block_frame && self.payload > 0)
    }

    /// So many frames of content were sent.
    pub(super) fn sent(&mut self, frames: u32) {
        self.control.give(frames.saturating_mul(CREDIT));
    }

    /// Reads on.
    pub(super) fn take(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Flood> {
        self.control.fill(now);
        self.resets.fill(now);
        self.turn(now);
        skip(&mut bytes, &mut self.preface);
        while !bytes.is_empty() {
            if self.payload > 0 {
                skip(&mut bytes, &mut self.payload);
                continue;
            }
            let Some((first, rest)) = bytes.split_first() else {
                break;
            };
            bytes = rest;
            if let Some(place) = self.header.get_mut(self.held) {
                *place = *first;
            }
            self.held += 1;
            if self.held == HEADER_BYTES {
                self.held = 0;
                self.frame()?;
            }
        }
        Ok(())
    }

    /// Moves the window of time in which resets are soon.
    fn turn(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.window);
        if passed < SOON {
            return;
        }
        let (present, _) = self.newest_before;
        let before = if passed < SOON * 2 {
            present
        } else {
            self.newest
        };
        self.newest_before = (self.newest, before);
        self.window = now;
    }

    fn frame(&mut self) -> Result<(), Flood> {
        const END_STREAM: u8 = 1;
        const ACK: u8 = 1;
        const END_HEADERS: u8 = 4;
        let [length @ .., kind, flags, a, b, c, d] = self.header;
        let length = length
            .into_iter()
            .fold(0, |sum, byte| sum << 8 | usize::from(byte));
        let stream = u32::from_be_bytes([a, b, c, d]) & (u32::MAX >> 1);
        let has = |flag: u8| flags & flag != 0;
        self.payload = length;
        self.in_block_frame = matches!(kind, 1 | 9);
        match kind {
            // DATA
            0 if length == 0 && !has(END_STREAM) => self.control.spend(8),
            0 => Ok(()),
            // HEADERS; a stream of its own gives what clients send along with it.
            1 => {
                self.open_block = !has(END_HEADERS);
                if stream > self.newest {
                    self.newest = stream;
                    self.control.give(CREDIT);
                }
                Ok(())
            }
            // RST_STREAM
            3 if stream > self.newest_before.1 => self.resets.spend(1),
            // SETTINGS: the library answers each.
            4 if !has(ACK) => self.control.spend(8),
            // PING: we send hardly any that could be acknowledged.
            6 if has(ACK) => self.control.spend(100),
            // CONTINUATION
            9 => {
                self.open_block &= !has(END_HEADERS);
                self.control.spend(if length == 0 { 100 } else { 1 })
            }
            // PRIORITY, PING, GOAWAY, WINDOW_UPDATE and what extensions define.
            _ => self.control.spend(1),
        }
    }
}

/// Drops as many bytes as are `left`.
fn skip(bytes: &mut &[u8], left: &mut usize) {
    let count = bytes.len().min(*left);
    *left -= count;
    *bytes = bytes.get(count..).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, length: usize) -> Vec<u8> {
        let mut bytes = (length as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.resize(HEADER_BYTES + length, 0);
        bytes
    }

    fn started(now: Instant) -> Meter {
        let mut meter = Meter::new(now);
        meter.take(PREFACE, now).unwrap();
        meter
    }

    /// How many of these frames pass in an instant.
    fn passes(meter: &mut Meter, bytes: &[u8], now: Instant) -> u32 {
        (0..100_000)
            .find(|_| meter.take(bytes, now).is_err())
            .unwrap_or(u32::MAX)
    }

    #[test]
    fn what_moves_nothing_is_counted_however_it_is_cut() {
        let now = Instant::now();
        let floods: [(&str, Vec<u8>, u32); 8] = [
            ("ping", frame(6, 0, 0, 8), 2000),
            ("ping that nobody sent", frame(6, 1, 0, 8), 20),
            ("settings", frame(4, 0, 0, 6), 250),
            ("priority", frame(2, 0, 3, 5), 2000),
            ("window update", frame(8, 0, 0, 4), 2000),
            ("empty data", frame(0, 0, 1, 0), 250),
            ("empty continuation", frame(9, 0, 1, 0), 20),
            ("unknown", frame(0xee, 0, 1, 100), 2000),
        ];
        for (name, bytes, wanted) in floods {
            assert_eq!(passes(&mut started(now), &bytes, now), wanted, "{name}");
            let mut meter = started(now);
            let twice = [bytes.as_slice(), &bytes].concat();
            for (at, byte) in twice.iter().enumerate() {
                assert_eq!(meter.take(&[*byte], now), Ok(()), "{name} at {at}");
            }
            let left = passes(&mut meter, &bytes, now);
            assert_eq!(left, wanted - 2, "{name}, cut");
        }
    }

    #[test]
    fn content_and_requests_are_free_and_pay_for_their_company() {
        let now = Instant::now();
        let mut meter = started(now);
        for count in 0..5000 {
            let mut round = frame(1, 4, count * 2 + 1, 10);
            round.extend(frame(0, 1, count * 2 + 1, 0));
            round.extend(frame(8, 0, 0, 4));
            round.extend(frame(6, 0, 0, 8));
            assert_eq!(meter.take(&round, now), Ok(()));
        }
        for _ in 0..5000 {
            meter.sent(1);
            let round = [frame(8, 0, 1, 4), frame(8, 0, 0, 4), frame(6, 0, 0, 8)].concat();
            assert_eq!(meter.take(&round, now), Ok(()));
        }
    }

    #[test]
    fn resets_of_fresh_streams_are_counted_and_late_ones_are_not() {
        let now = Instant::now();
        let open_and_reset = |meter: &mut Meter, stream: u32, now| {
            meter.take(&frame(1, 5, stream, 4), now)?;
            meter.take(&frame(3, 0, stream, 4), now)
        };
        let mut meter = started(now);
        let at_once = (0..10_000).find(|it| open_and_reset(&mut meter, it * 2 + 1, now).is_err());
        assert_eq!(at_once, Some(RESETS_BURST));
        // What is left of the frame that was too much.
        meter.take(&[0; 4], now).unwrap();
        let later = now + Duration::from_secs(1);
        let then =
            (10_000..20_000).find(|it| open_and_reset(&mut meter, it * 2 + 1, later).is_err());
        assert_eq!(then, Some(10_000 + RESETS_PER_SECOND));

        let mut meter = started(now);
        for stream in 0..1000 {
            meter.take(&frame(1, 5, stream * 2 + 1, 4), now).unwrap();
        }
        for half_seconds in 1..4 {
            meter.take(&[], now + SOON * half_seconds).unwrap();
        }
        for stream in 0..1000 {
            let reset = frame(3, 0, stream * 2 + 1, 4);
            assert_eq!(meter.take(&reset, now + SOON * 3), Ok(()), "{stream}");
        }
    }

    #[test]
    fn open_header_blocks_are_known() {
        let now = Instant::now();
        let mut meter = started(now);
        let mut step = |bytes: &[u8]| {
            meter.take(bytes, now).unwrap();
            meter.is_in_head()
        };
        assert!(step(&frame(1, 0, 1, 4)));
        assert!(!step(&frame(9, 4, 1, 4)));
        assert!(step(&frame(1, 4, 3, 4)[..10]));
        assert!(!step(&frame(1, 4, 3, 4)[10..]));
        assert!(!step(&frame(0, 0, 3, 4)[..10]));
    }
}
