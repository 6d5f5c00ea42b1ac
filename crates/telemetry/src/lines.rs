//! Streams of lines, such as access and audit logs: a line goes to a bounded queue and a thread
//! writes. A full queue drops lines and counts them: a slow disk must not slow requests down.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::metrics::Counter;

/// Lines that wait for the writer at most.
const QUEUE_LINES_MAX: usize = 16 * 1024;
const BUFFER_BYTES: usize = 64 * 1024;
/// How long the end waits for queued lines; a reader that hangs must not keep the process.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// A running stream; dropping it writes what is queued.
pub struct Lines {
    name: &'static str,
    queue: Option<SyncSender<String>>,
    /// Disconnected by the writer when it has written everything; only waited for at the end.
    written: Mutex<Receiver<()>>,
    dropped: Counter,
}

impl Lines {
    /// Opens a file for appending, or standard output or error by their paths in `/dev`. `name` is for
    /// messages and the thread; `dropped` counts lines that found the queue full.
    ///
    /// # Errors
    /// When the file cannot be opened or the thread not be started.
    pub fn open(name: &'static str, path: &Path, dropped: Counter) -> std::io::Result<Self> {
        let output: Box<dyn Write + Send> = match path.to_str() {
            Some("/dev/stdout") => Box::new(std::io::stdout()),
            Some("/dev/stderr") => Box::new(std::io::stderr()),
            _ => Box::new(OpenOptions::new().create(true).append(true).open(path)?),
        };
        let (queue, lines) = sync_channel(QUEUE_LINES_MAX);
        let (writing, written) = sync_channel(0);
        let write = move || {
            write_lines(name, &lines, output);
            drop(writing);
        };
        let _ends_with_the_queue = std::thread::Builder::new()
            .name(name.replace(' ', "-"))
            .spawn(write)?;
        Ok(Self {
            name,
            queue: Some(queue),
            written: Mutex::new(written),
            dropped,
        })
    }

    /// Queues a line, which ends with a line break; false when it was dropped.
    pub fn write(&self, line: String) -> bool {
        let Some(queue) = &self.queue else {
            return false;
        };
        match queue.try_send(line) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.add(1);
                false
            }
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.queue = None;
        let written = self.written.get_mut();
        let written = written.unwrap_or_else(PoisonError::into_inner);
        if written.recv_timeout(FLUSH_TIMEOUT) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!(
                log.name = self.name,
                "log lines were lost: the writer is stuck"
            );
        }
    }
}

/// Writes until the queue ends, and flushes whenever it is empty.
fn write_lines(name: &str, lines: &Receiver<String>, output: Box<dyn Write + Send>) {
    let mut output = BufWriter::with_capacity(BUFFER_BYTES, output);
    let mut healthy = true;
    while let Ok(first) = lines.recv() {
        let mut batch = std::iter::once(first).chain(lines.try_iter());
        let written = batch
            .try_for_each(|line| output.write_all(line.as_bytes()))
            .and_then(|()| output.flush());
        if healthy && let Err(error) = &written {
            tracing::error!(%error, log.name = name, "failed to write log lines");
        }
        healthy = written.is_ok();
    }
}

/// Appends a time, given in seconds since the Unix epoch, as `2026-11-24T07:00:00+00:00`.
pub fn push_iso8601(into: &mut String, seconds: i64) {
    let (year, month, day) = civil(seconds.div_euclid(86_400));
    let second = seconds.rem_euclid(86_400);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let _infallible = write!(
        into,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}+00:00"
    );
}

/// Year, month and day of a day since the Unix epoch, in the proleptic Gregorian calendar. Years
/// are counted from March so that the leap day is the last one.
fn civil(day: i64) -> (i64, i64, i64) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_arrive_in_order_before_the_end() {
        let path = std::env::temp_dir().join(format!("o28m-lines-{}", std::process::id()));
        let lines = Lines::open("test log", &path, Counter::default()).unwrap();
        for at in 0..100 {
            assert!(lines.write(format!("{at}\n")));
        }
        drop(lines);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let numbers: Vec<usize> = text.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(numbers, (0..100).collect::<Vec<_>>());
        assert!(Lines::open("test log", Path::new("/nowhere/log"), Counter::default()).is_err());
    }

    #[test]
    fn time_stamps_are_iso_8601() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00+00:00"),
            (951_827_696, "2000-02-29T12:34:56+00:00"),
            (1_795_503_616, "2026-11-24T07:00:16+00:00"),
            (4_107_542_399, "2100-02-28T23:59:59+00:00"),
        ] {
            let mut text = String::new();
            push_iso8601(&mut text, seconds);
            assert_eq!(text, expected);
        }
    }
}
