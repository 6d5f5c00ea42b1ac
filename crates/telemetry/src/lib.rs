//! Log format, metric registry and the writer of line streams, such as access and audit logs.

pub mod lines;
pub mod metrics;

use std::io::IsTerminal as _;
use std::str::FromStr as _;
use std::sync::{OnceLock, PoisonError, RwLock};

use tracing::level_filters::LevelFilter;
use tracing::{Dispatch, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Registry, fmt, reload};

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line: `timestamp`, `level`, `target`, `message` and the event's fields.
    Json,
    /// For people.
    Text,
}

/// What is logged at present, and the handle that changes it.
static FILTER: OnceLock<Filter> = OnceLock::new();

/// The filter of the global subscriber.
struct Filter {
    level: RwLock<LevelFilter>,
    handle: reload::Handle<Targets, Registry>,
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
    let filter = filter(level)?;
    let (layer, handle) = reload::Layer::new(targets(filter));
    let dispatch = dispatch(layer, format, colours, std::io::stderr);
    if tracing::dispatcher::set_global_default(dispatch).is_err() {
        tracing::debug!("logging is set up already");
        return Ok(());
    }
    let level = RwLock::new(filter);
    let _first = FILTER.set(Filter { level, handle });
    Ok(())
}

/// The least severe level that is logged now; `None` before [`init`].
#[must_use]
pub fn level() -> Option<LevelFilter> {
    let filter = FILTER.get()?;
    Some(*filter.level.read().unwrap_or_else(PoisonError::into_inner))
}

/// Logs events of at least `level` from now on; false before [`init`].
///
/// # Errors
/// [`UnknownLevel`].
pub fn set_level(level: &str) -> Result<bool, UnknownLevel> {
    let level = filter(level)?;
    let Some(filter) = FILTER.get() else {
        return Ok(false);
    };
    let mut current = filter.level.write().unwrap_or_else(PoisonError::into_inner);
    if filter.handle.reload(targets(level)).is_err() {
        return Ok(false);
    }
    *current = level;
    Ok(true)
}

fn filter(level: &str) -> Result<LevelFilter, UnknownLevel> {
    LevelFilter::from_str(level).map_err(|_| UnknownLevel(level.to_owned()))
}

fn targets(level: LevelFilter) -> Targets {
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("o28m", level)
}

fn dispatch<W>(
    filter: reload::Layer<Targets, Registry>,
    format: Format,
    colours: bool,
    writer: W,
) -> Dispatch
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_writer(writer);
    let registry = Registry::default().with(filter);
    match format {
        Format::Json => dispatched(registry.with(layer.json().flatten_event(true))),
        Format::Text => dispatched(registry.with(layer.with_ansi(colours))),
    }
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
        let (layer, _handle) = reload::Layer::new(targets(filter(level).unwrap()));
        let dispatch = dispatch(layer, format, false, move || writer.clone());
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
        // The first call counted; a later change is one all the same.
        assert_eq!(level(), Some(LevelFilter::INFO));
        assert!(!tracing::enabled!(target: "o28m_net", tracing::Level::DEBUG));
        assert_eq!(set_level("debug"), Ok(true));
        assert_eq!(level(), Some(LevelFilter::DEBUG));
        assert!(tracing::enabled!(target: "o28m_net", tracing::Level::DEBUG));
        assert!(!tracing::enabled!(target: "hyper", tracing::Level::DEBUG));
        assert!(set_level("loud").is_err());
    }
}
