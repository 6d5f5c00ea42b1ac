//! Log format and metric registry. Not for access or audit logs: those are streams of their own.

pub mod metrics;

use std::io::IsTerminal as _;
use std::str::FromStr as _;

use tracing::level_filters::LevelFilter;
use tracing::{Dispatch, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Registry, fmt};

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line: `timestamp`, `level`, `target`, `message` and the event's fields.
    Json,
    /// For people.
    Text,
}

/// Logging could not be set up.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownLevel(String);

impl std::fmt::Display for UnknownLevel {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "unknown log level {:?}: use error, warn, info, debug or trace",
            self.0
        )
    }
}

impl std::error::Error for UnknownLevel {}

/// Sends log events of at least `level` to standard error. Libraries below us are heard from `warn`
/// on only: their finer events are many and may show what must not be logged. The first call counts,
/// further ones do nothing.
///
/// # Errors
/// [`UnknownLevel`].
pub fn init(level: &str, format: Format) -> Result<(), UnknownLevel> {
    let colours = std::io::stderr().is_terminal();
    let dispatch = dispatch(level, format, colours, std::io::stderr)?;
    if tracing::dispatcher::set_global_default(dispatch).is_err() {
        tracing::debug!("logging is set up already");
    }
    Ok(())
}

fn dispatch<W>(
    level: &str,
    format: Format,
    colours: bool,
    writer: W,
) -> Result<Dispatch, UnknownLevel>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = LevelFilter::from_str(level).map_err(|_| UnknownLevel(level.to_owned()))?;
    let targets = Targets::new()
        .with_default(filter.min(LevelFilter::WARN))
        .with_target("o28m", filter);
    let layer = fmt::layer().with_writer(writer);
    let registry = Registry::default().with(targets);
    Ok(match format {
        Format::Json => dispatched(registry.with(layer.json().flatten_event(true))),
        Format::Text => dispatched(registry.with(layer.with_ansi(colours))),
    })
}

fn dispatched(subscriber: impl Subscriber + Send + Sync + 'static) -> Dispatch {
    Dispatch::new(subscriber)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: &str, format: Format) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let dispatch = dispatch(level, format, false, move || writer.clone()).unwrap();
        tracing::dispatcher::with_default(&dispatch, || {
            tracing::info!(target: "o28m_net", client = "a\"b", peer.port = 7, "client left");
            tracing::debug!(target: "o28m_net", "detail");
            tracing::info!(target: "sqlx", "noise");
            tracing::warn!(target: "sqlx", "trouble");
        });
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_lines_are_flat() {
        let text = logged("info", Format::Json);
        let line = text.lines().next().unwrap();
        assert!(line.starts_with("{\"timestamp\":\"") && line.ends_with('}'));
        for part in [
            "\"level\":\"INFO\"",
            "\"target\":\"o28m_net\"",
            "\"message\":\"client left\"",
            "\"peer.port\":7",
            "\"client\":\"a\\\"b\"",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }

    #[test]
    fn libraries_are_heard_from_warn_on() {
        for (level, wanted) in [
            ("trace", 3),
            ("debug", 3),
            ("info", 2),
            ("warn", 1),
            ("error", 0),
        ] {
            for format in [Format::Json, Format::Text] {
                let text = logged(level, format);
                assert_eq!(text.lines().count(), wanted, "{level}: {text}");
                assert!(!text.contains("noise"));
            }
        }
    }

    #[test]
    fn init_can_be_called_again_and_knows_its_levels() {
        assert_eq!(init("info", Format::Json), Ok(()));
        assert_eq!(init("debug", Format::Text), Ok(()));
        let error = init("loud", Format::Json).unwrap_err();
        assert!(error.to_string().contains("loud"));
    }
}
