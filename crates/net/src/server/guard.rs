//! The HTTP/1 framing guard: hyper reads through it, so it sees every byte first. It hands on whole
//! sound heads and the bodies behind them. A request that breaks the rules is replaced by a harmless
//! one that only the adapter knows about, so that hyper answers it in order and closes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use http::StatusCode;
use hyper::rt::ReadBufCursor;
use tokio::io::AsyncWrite as _;
use tokio::time::Instant;

use super::head::{Framing, HeadReader, Refusal, Step, quoted};
use super::shared::{LINES_ON_STACK, Shared};
use crate::Rejection;
use crate::chunked::ChunkReader;
use crate::transport::Transport;

/// Stands in for a refused request.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";
/// Stands in for a refused HEAD request.
const STAND_IN_HEAD: &[u8] = b"HEAD / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";
/// Bytes read ahead behind a request that asks for an upgrade.
const AHEAD_BYTES_MAX: usize = 16 * 1024;

/// Bytes read at once before hyper is there.
const FILL_BYTES_MAX: usize = 8 * 1024;

/// What the next byte belongs to.
enum Place {
    /// A head.
    Head(HeadReader),
    /// A body of known length.
    Length(u64),
    /// A chunked body.
    Chunked(Box<ChunkReader>),
    /// Unknown until the upgrade is answered.
    Upgrade,
    /// A request was refused: nothing is read any more.
    Refused,
    /// A body broke the rules: reading fails from here on.
    Broken,
}

/// A client's byte stream.
pub(super) struct Guard {
    transport: Transport,
    filter: Filter,
    write_blocked: bool,
}

/// What judges the bytes of a client.
struct Filter {
    shared: Arc<Shared>,
    place: Place,
    /// The body being read belongs to a request that asks for an upgrade.
    upgrade: bool,
    /// Bytes read: first those hyper may have, then those still to be judged.
    held: Vec<u8>,
    /// Start of `held`.
    start: usize,
    /// How many bytes from `start` on hyper may have.
    sound: usize,
    /// The next so many bytes to be judged are a sound head whose target must be escaped.
    quote: Option<usize>,
    /// hyper is there with a parser for few header lines.
    narrow: bool,
}

impl Guard {
    pub(super) fn new(transport: Transport, shared: Arc<Shared>) -> Self {
        Self {
            transport,
            filter: Filter {
                shared,
                place: Place::Head(HeadReader::default()),
                upgrade: false,
                held: Vec::new(),
                start: 0,
                sound: 0,
                quote: None,
                narrow: false,
            },
            write_blocked: false,
        }
    }

    /// Refuses whatever comes, before anything is read.
    pub(super) fn refuse_all(&mut self, status: StatusCode, reason: &'static str) {
        self.filter.refuse_all(status, reason);
    }

    /// hyper comes, with a parser for few header lines or for all that are allowed.
    pub(super) fn attach(&mut self, narrow: bool) {
        self.filter.narrow = narrow;
    }

    /// hyper is gone: what waited for that is judged again.
    pub(super) fn detach(&mut self) {
        self.filter.narrow = false;
        self.filter.judge_held();
    }

    /// Reads until hyper has something to do: a whole head, or a refusal. `false` when the client
    /// is gone.
    pub(super) fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        let filter = &mut self.filter;
        loop {
            filter.leave_upgrade();
            filter.watch_head();
            if filter.sound > 0 {
                return Poll::Ready(true);
            }
            if !matches!(filter.place, Place::Head(_)) {
                // Between requests nothing else can be awaited; reading on would have no end.
                return Poll::Ready(false);
            }
            let read = self
                .transport
                .poll_read_with(context, FILL_BYTES_MAX, |bytes| {
                    filter.held.extend_from_slice(bytes);
                    filter.judge_held();
                    !bytes.is_empty()
                });
            match ready!(read) {
                Ok(true) => {}
                Ok(false) | Err(_) => return Poll::Ready(false),
            }
        }
    }

    /// The stream, and the bytes read that hyper did not get.
    pub(super) fn into_parts(self) -> (Transport, Vec<u8>) {
        let mut held = self.filter.held;
        held.drain(..self.filter.start);
        (self.transport, held)
    }

    /// Whether a request was cut: closing at once could destroy the answer on its way.
    pub(super) fn is_mid_message(&self) -> bool {
        !matches!(self.filter.place, Place::Head(_)) || self.filter.held.len() > self.filter.start
    }
}

impl Filter {
    fn refuse_all(&mut self, status: StatusCode, reason: &'static str) {
        self.refuse(Refusal { status, reason }, None, false);
    }

    /// Judges `bytes`, which begin where the last judged byte ended; gives how many are sound.
    fn judge(&mut self, bytes: &[u8]) -> usize {
        let mut sound = 0;
        while let Some(rest) = bytes.get(sound..).filter(|rest| !rest.is_empty()) {
            match &mut self.place {
                Place::Head(reader) => match reader.advance(rest, &self.shared.limits) {
                    Step::Partial => break,
                    Step::Complete {
                        length,
                        framing,
                        upgrade,
                        quote,
                        lines,
                    } => {
                        if self.must_wait(lines) {
                            break;
                        }
                        self.head_complete(framing, upgrade);
                        if quote {
                            self.quote = Some(length);
                            break;
                        }
                        sound += length;
                    }
                    Step::Refused(refusal) => {
                        let head = reader.sound_parts(rest);
                        let bodyless = HeadReader::is_head_request(rest);
                        self.refuse(refusal, head, bodyless);
                        break;
                    }
                },
                Place::Length(left) => {
                    let available = rest.len();
                    let taken =
                        usize::try_from(*left).map_or(available, |left| left.min(available));
                    *left -= taken as u64;
                    sound += taken;
                    if *left == 0 {
                        self.body_complete();
                    }
                }
                Place::Chunked(reader) => match reader.advance(rest) {
                    Ok((length, complete)) => {
                        sound += length;
                        if complete {
                            self.body_complete();
                        }
                    }
                    Err(_) => self.place = Place::Broken,
                },
                Place::Upgrade | Place::Refused | Place::Broken => break,
            }
        }
        sound
    }

    /// Whether a head of so many lines is too much for the hyper that is there: then it is judged again
    /// once another one has come.
    fn must_wait(&mut self, lines: usize) -> bool {
        if lines <= LINES_ON_STACK {
            return false;
        }
        self.shared.wide.store(true, Ordering::Relaxed);
        if self.narrow {
            self.place = Place::Head(HeadReader::default());
        }
        self.narrow
    }

    /// A head waits for a hyper with a wider parser.
    fn is_waiting(&self) -> bool {
        self.narrow && self.shared.wide.load(Ordering::Relaxed)
    }

    fn head_complete(&mut self, framing: Framing, upgrade: bool) {
        self.shared.head_passed();
        self.upgrade = upgrade;
        match framing {
            Framing::Length(0) => self.body_complete(),
            Framing::Length(length) => self.place = Place::Length(length),
            Framing::Chunked => self.place = Place::Chunked(Box::new(ChunkReader::of_client())),
        }
    }

    fn body_complete(&mut self) {
        self.place = if self.upgrade {
            Place::Upgrade
        } else {
            Place::Head(HeadReader::default())
        };
    }

    fn refuse(&mut self, refusal: Refusal, head: Option<http::request::Parts>, bodyless: bool) {
        let stand_in = if bodyless { STAND_IN_HEAD } else { STAND_IN };
        self.place = Place::Refused;
        self.held.truncate(self.start + self.sound);
        self.held.extend_from_slice(stand_in);
        self.sound += stand_in.len();
        self.shared.refuse(Rejection {
            status: refusal.status,
            reason: refusal.reason,
            head,
        });
    }

    /// Judges what is held and not yet judged.
    fn judge_held(&mut self) {
        loop {
            self.quote_head();
            let held = std::mem::take(&mut self.held);
            let from = self.start + self.sound;
            let sound = self.judge(held.get(from..).unwrap_or_default());
            // A refusal wrote its stand-in to the empty buffer; it belongs behind the sound bytes.
            let stand_in = std::mem::replace(&mut self.held, held);
            if !stand_in.is_empty() {
                self.held.truncate(from + sound);
                self.held.extend_from_slice(&stand_in);
            }
            self.sound += sound;
            if self.quote.is_none() {
                return;
            }
        }
    }

    /// Replaces the head at the first unjudged byte by its escaped form.
    fn quote_head(&mut self) {
        let Some(length) = self.quote.take() else {
            return;
        };
        let from = self.start + self.sound;
        let head = quoted(self.held.get(from..from + length).unwrap_or_default());
        self.sound += head.len();
        self.held.splice(from..from + length, head);
    }

    /// Takes bytes just read: sound ones go to hyper at once as far as it has room.
    fn take(&mut self, bytes: &[u8], cursor: &mut ReadBufCursor<'_>) {
        if self.held.len() > self.start {
            self.held.extend_from_slice(bytes);
            self.judge_held();
            return;
        }
        self.held.clear();
        self.start = 0;
        let sound = self.judge(bytes);
        let (good, rest) = bytes.split_at_checked(sound).unwrap_or_default();
        let (now, later) = good
            .split_at_checked(cursor.remaining())
            .unwrap_or((good, &[]));
        cursor.put_slice(now);
        if !later.is_empty() {
            // A stand-in may be there already; what came before it goes first.
            self.held.splice(0..0, later.iter().copied());
            self.sound += later.len();
        }
        if !matches!(self.place, Place::Refused | Place::Broken) {
            self.held.extend_from_slice(rest);
        }
        if self.quote.is_some() {
            self.judge_held();
        }
    }

    /// Hands sound held bytes to hyper; `false` when there are none.
    fn deliver(&mut self, cursor: &mut ReadBufCursor<'_>) -> bool {
        let length = self.sound.min(cursor.remaining());
        let Some(bytes) = self.held.get(self.start..self.start + length) else {
            return false;
        };
        if bytes.is_empty() {
            return false;
        }
        cursor.put_slice(bytes);
        self.start += length;
        self.sound -= length;
        if self.start == self.held.len() {
            // An idle connection holds no buffer.
            self.held = Vec::new();
            self.start = 0;
        }
        true
    }

    /// Keeps the clock of an incomplete head, and refuses one that is overdue.
    fn watch_head(&mut self) {
        if !matches!(self.place, Place::Head(_)) {
            return;
        }
        let unjudged = self.held.get(self.start + self.sound..);
        if unjudged.is_some_and(|bytes| !bytes.is_empty()) {
            let mut state = self.shared.lock();
            let _ = state.head_since.get_or_insert_with(Instant::now);
        }
        if self.shared.head_overdue.load(Ordering::Relaxed) {
            self.refuse_all(
                StatusCode::REQUEST_TIMEOUT,
                "request head not complete in time",
            );
        }
    }

    /// Goes on behind an upgrade request that was answered without an upgrade.
    fn leave_upgrade(&mut self) {
        if matches!(self.place, Place::Upgrade) && self.shared.is_idle() {
            self.place = Place::Head(HeadReader::default());
            self.judge_held();
        }
    }
}

impl hyper::rt::Read for Guard {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let Self {
            transport, filter, ..
        } = self.get_mut();
        let room = cursor.remaining();
        if room == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            filter.leave_upgrade();
            if filter.deliver(&mut cursor) || cursor.remaining() < room {
                return Poll::Ready(Ok(()));
            }
            filter.watch_head();
            if filter.is_waiting() && filter.sound == 0 {
                return Poll::Pending;
            }
            match filter.place {
                Place::Broken => return Poll::Ready(Err(broken_body())),
                // Whatever else arrives is read when the connection lingers.
                Place::Refused if filter.sound == 0 => return Poll::Pending,
                Place::Refused => continue,
                Place::Upgrade if filter.held.len() - filter.start >= AHEAD_BYTES_MAX => {
                    return Poll::Pending;
                }
                _ => {}
            }
            let finished = ready!(transport.poll_read_with(context, room, |bytes| {
                filter.take(bytes, &mut cursor);
                bytes.is_empty()
            }))?;
            if finished {
                filter.shared.lock().finished = true;
                return Poll::Ready(Ok(()));
            }
        }
    }
}

fn broken_body() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed chunked request body")
}

impl Guard {
    /// Notes since when the peer takes no bytes.
    fn note_write<T>(&mut self, result: Poll<T>) -> Poll<T> {
        if result.is_pending() != self.write_blocked {
            self.write_blocked = result.is_pending();
            self.filter.shared.lock().write_since = self.write_blocked.then(Instant::now);
        }
        result
    }
}

impl hyper::rt::Write for Guard {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.transport).poll_write(context, bytes);
        this.note_write(result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.transport).poll_write_vectored(context, slices);
        this.note_write(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.transport).poll_flush(context);
        this.note_write(result)
    }

    /// The driver closes the stream itself: after an upgrade it lives on, after a refusal it lingers.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
