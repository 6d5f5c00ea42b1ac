//! Where the frames of a WebSocket begin and end (RFC 6455 section 5.2). Their content is nobody's
//! business here.

/// `Close` from a server, status 1001: it goes away.
pub(crate) const GOING_AWAY: &[u8] = &[0x88, 0x02, 0x03, 0xe9];

/// Bytes of a frame's head ahead of a longer length, and with the longest one.
const HEAD_BYTES_MIN: usize = 2;
const HEAD_BYTES_MAX: usize = 10;
const MASK_BYTES: u64 = 4;

/// Follows the frames in a stream of bytes.
#[derive(Default)]
pub(crate) struct Frames {
    head: [u8; HEAD_BYTES_MAX],
    /// Bytes of the head so far.
    known: usize,
    /// Bytes of the frame behind its head that are still to come.
    left: u64,
}

impl Frames {
    /// Takes notice of bytes that passed.
    pub(crate) fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let length =
                    usize::try_from(self.left).map_or(bytes.len(), |it| it.min(bytes.len()));
                self.left -= length as u64;
                bytes = bytes.get(length..).unwrap_or_default();
                continue;
            }
            let Some((byte, rest)) = bytes.split_first() else {
                return;
            };
            bytes = rest;
            if let Some(place) = self.head.get_mut(self.known) {
                *place = *byte;
            }
            self.known += 1;
            if self.known >= self.wanted() {
                self.left = self.length();
                self.known = 0;
            }
        }
    }

    /// The last frame that began is through.
    pub(crate) fn is_between(&self) -> bool {
        self.known == 0 && self.left == 0
    }

    /// Bytes of this head, as far as that is known.
    fn wanted(&self) -> usize {
        let [_, second, ..] = self.head;
        match second & 0x7f {
            _ if self.known < HEAD_BYTES_MIN => HEAD_BYTES_MIN,
            126 => HEAD_BYTES_MIN + 2,
            127 => HEAD_BYTES_MAX,
            _ => HEAD_BYTES_MIN,
        }
    }

    /// Bytes behind a whole head.
    fn length(&self) -> u64 {
        let [_, second, long @ ..] = self.head;
        let payload = match second & 0x7f {
            126 => {
                let [high, low, ..] = long;
                u64::from(u16::from_be_bytes([high, low]))
            }
            127 => u64::from_be_bytes(long),
            short => u64::from(short),
        };
        let mask = if second & 0x80 == 0 { 0 } else { MASK_BYTES };
        payload.saturating_add(mask)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(payload: &[u8], masked: bool) -> Vec<u8> {
        let mut frame = vec![0x82];
        let mask = if masked { 0x80 } else { 0 };
        match payload.len() {
            length @ ..=125 => frame.push(mask | u8::try_from(length).unwrap()),
            length @ ..=65_535 => {
                frame.push(mask | 126);
                frame.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            length => {
                frame.push(mask | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        if masked {
            frame.extend([1, 2, 3, 4]);
        }
        frame.extend(payload);
        frame
    }

    proptest! {
        #[test]
        fn ends_of_frames_are_found_however_they_are_cut(
            frames in proptest::collection::vec((0..300_usize, any::<bool>()), 1..5),
            large in prop_oneof![Just(0_usize), Just(65_535), Just(65_536)],
            step in 1..700_usize,
        ) {
            let mut stream = Vec::new();
            let mut ends = Vec::new();
            let all = frames.into_iter().chain(std::iter::once((large, false)));
            for (length, masked) in all {
                stream.extend(frame(&vec![0x88; length], masked));
                ends.push(stream.len());
            }
            let mut follower = Frames::default();
            let mut passed = 0;
            for piece in stream.chunks(step) {
                follower.pass(piece);
                passed += piece.len();
                prop_assert_eq!(follower.is_between(), ends.contains(&passed), "{}", passed);
            }
        }
    }
}
