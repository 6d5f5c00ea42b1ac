//! The platform's access log: one JSON line for each request (spec gateway-proxy 13.1).
//!
//! A request hands its line to a bounded queue and goes on; a thread writes. A full queue drops
//! lines and counts them: a slow disk must not slow requests down.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::header::HOST;
use o28m_core::Timestamp;
use o28m_telemetry::metrics::Counter;

use crate::{Error, Exchange};

/// Lines that wait for the writer at most.
const QUEUE_LINES_MAX: usize = 16 * 1024;
const BUFFER_BYTES: usize = 64 * 1024;
/// How long the end waits for queued lines; a reader that hangs must not keep the process.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// A running access log; dropping it writes what is queued.
pub(crate) struct AccessLog {
    queue: Option<SyncSender<String>>,
    /// Disconnected by the writer when it has written everything; only waited for at the end.
    written: Mutex<Receiver<()>>,
    dropped: Counter,
}

impl AccessLog {
    pub(crate) fn open(path: &Path, dropped: Counter) -> Result<Self, Error> {
        let failed = |source| Error::AccessLog {
            path: path.to_owned(),
            source,
        };
        let output: Box<dyn Write + Send> = match path.to_str() {
            Some("/dev/stdout") => Box::new(std::io::stdout()),
            Some("/dev/stderr") => Box::new(std::io::stderr()),
            _ => {
                let file = OpenOptions::new().create(true).append(true).open(path);
                Box::new(file.map_err(failed)?)
            }
        };
        let (queue, lines) = sync_channel(QUEUE_LINES_MAX);
        let (writing, written) = sync_channel(0);
        let write = move || {
            write_lines(&lines, output);
            drop(writing);
        };
        let _ends_with_the_queue = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(write)
            .map_err(failed)?;
        Ok(Self {
            queue: Some(queue),
            written: Mutex::new(written),
            dropped,
        })
    }

    /// Queues the line of a finished exchange.
    pub(crate) fn log(&self, exchange: &Exchange, now: Timestamp) {
        let Some(queue) = &self.queue else {
            return;
        };
        match queue.try_send(line(exchange, now)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.dropped.add(1),
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.queue = None;
        let written = self.written.get_mut();
        let written = written.unwrap_or_else(PoisonError::into_inner);
        if written.recv_timeout(FLUSH_TIMEOUT) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("access log lines were lost: the writer is stuck");
        }
    }
}

/// Writes until the queue ends, and flushes whenever it is empty.
fn write_lines(lines: &Receiver<String>, output: Box<dyn Write + Send>) {
    let mut output = BufWriter::with_capacity(BUFFER_BYTES, output);
    let mut healthy = true;
    while let Ok(first) = lines.recv() {
        let mut batch = std::iter::once(first).chain(lines.try_iter());
        let written = batch
            .try_for_each(|line| output.write_all(line.as_bytes()))
            .and_then(|()| output.flush());
        if healthy && let Err(error) = &written {
            tracing::error!(%error, "failed to write access log");
        }
        healthy = written.is_ok();
    }
}

/// The line, with the original's keys, order and spaces.
fn line(exchange: &Exchange, now: Timestamp) -> String {
    let headers = &exchange.request.headers;
    let event = exchange.security_event;
    let header = |name: &str| {
        let value = headers.get(name);
        value.map_or("-".into(), |it| String::from_utf8_lossy(it.as_bytes()))
    };
    let host = headers.get(HOST).and_then(|it| it.to_str().ok());
    let host = host.map(|it| crate::request::bare_host(it).to_ascii_lowercase());
    let status = exchange
        .status
        .map_or("-".to_owned(), |it| it.as_u16().to_string());
    let statuses: Vec<_> = exchange
        .upstream_statuses
        .iter()
        .map(|it| it.as_str())
        .collect();
    let upstream_status = if statuses.is_empty() {
        "-".to_owned()
    } else {
        statuses.join(", ")
    };
    let mut line = String::with_capacity(512);
    line.push_str("{ \"@timestamp\": \"");
    push_iso8601(&mut line, now);
    line.push_str("\", \"@service\": \"proxy\", \"@fields\": { ");
    let fields = [
        ("source", header("x-original-forwarded-for")),
        ("source_internal", header("x-real-ip")),
        ("status", status.into()),
        ("request_method", exchange.request.method.as_str().into()),
        ("request_path", exchange.path.as_str().into()),
        ("hostname_ingress", host.map_or("-".into(), Into::into)),
        ("hostname_upstream", header("remote_api_url")),
        ("X-B3-TraceId", header("x-b3-traceid")),
        ("upstream_status", upstream_status.into()),
        (
            "gateway_consumer",
            exchange
                .gateway_consumer
                .as_deref()
                .unwrap_or_default()
                .into(),
        ),
        ("eventclassid", event.map_or("", |it| it.class_id).into()),
        ("event_details", event.map_or("", |it| it.details).into()),
    ];
    for (at, (key, value)) in fields.into_iter().enumerate() {
        let separator = if at == 0 { "" } else { ", " };
        // nginx escapes in a way that is no JSON; ours is the same for ordinary values.
        let value = serde_json::Value::from(value);
        let _infallible = write!(line, "{separator}\"{key}\": {value}");
    }
    line.push_str(" } }\n");
    line
}

/// `2026-11-24T07:00:00+00:00`.
fn push_iso8601(into: &mut String, time: Timestamp) {
    let seconds = time.seconds();
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
    fn time_stamps_are_iso_8601() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00+00:00"),
            (951_827_696, "2000-02-29T12:34:56+00:00"),
            (1_795_503_616, "2026-11-24T07:00:16+00:00"),
            (4_107_542_399, "2100-02-28T23:59:59+00:00"),
        ] {
            let mut text = String::new();
            push_iso8601(&mut text, Timestamp::from_seconds(seconds));
            assert_eq!(text, expected);
        }
    }
}
