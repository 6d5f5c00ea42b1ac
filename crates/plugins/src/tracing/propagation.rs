//! Which contexts are read, dropped and written.

use http::header::{HeaderMap, HeaderName};
use o28m_gateway::BadConfig;
use serde::Deserialize;

use super::found::Found;
use super::{Format, Incoming, Outgoing};
use crate::config;

/// What is read unless told otherwise, in this order; the first that is there counts.
const ALL: [Format; 7] = [
    Format::B3,
    Format::W3c,
    Format::Jaeger,
    Format::Ot,
    Format::Datadog,
    Format::Aws,
    Format::Gcp,
];

/// The record `propagation`.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PropagationConfig {
    extract: Option<Vec<Format>>,
    clear: Option<Vec<String>>,
    inject: Option<Vec<String>>,
    default_format: Format,
}

impl Default for PropagationConfig {
    fn default() -> Self {
        Self {
            extract: None,
            clear: None,
            inject: None,
            default_format: Format::B3,
        }
    }
}

/// How trace contexts pass an instance.
pub(crate) struct Propagation {
    extract: Vec<Format>,
    clear: Vec<HeaderName>,
    /// `None` is the format that came in.
    inject: Vec<Option<Format>>,
    default_format: Format,
}

impl Propagation {
    /// `header_type` and `default_header_type` count unless the record says more than its default
    /// format.
    ///
    /// # Errors
    /// [`BadConfig`] for formats and header names that there are not.
    pub(crate) fn new(
        config: PropagationConfig,
        header_type: &str,
        default_header_type: Option<Format>,
    ) -> Result<Self, BadConfig> {
        let PropagationConfig {
            extract,
            clear,
            inject,
            default_format,
        } = config;
        if extract.is_some() || clear.is_some() || inject.is_some() {
            let clear = clear.iter().flatten();
            let inject = inject.iter().flatten();
            return Ok(Self {
                extract: extract.unwrap_or_default(),
                clear: clear
                    .map(|it| config::header_name(it))
                    .collect::<Result<_, _>>()?,
                inject: inject.map(|it| injected(it)).collect::<Result<_, _>>()?,
                default_format,
            });
        }
        let default_format = default_header_type.unwrap_or(default_format);
        let (extract, inject) = match header_type {
            "ignore" => (Vec::new(), vec![Some(default_format)]),
            "preserve" => (ALL.to_vec(), vec![None]),
            format => (ALL.to_vec(), vec![None, injected(format)?]),
        };
        Ok(Self {
            extract,
            clear: Vec::new(),
            inject,
            default_format,
        })
    }

    /// The context that a request came with.
    pub(crate) fn extract(&self, headers: &HeaderMap) -> Option<Incoming> {
        if self.extract.is_empty() {
            return None;
        }
        let found = Found::new(headers);
        if found.is_empty() {
            return None;
        }
        let mut formats = self.extract.iter();
        formats.find_map(|format| Incoming::read(*format, &found))
    }

    /// Sends a context on.
    pub(crate) fn inject(
        &self,
        outgoing: &Outgoing,
        incoming: Option<&Incoming>,
        headers: &mut HeaderMap,
    ) {
        for name in &self.clear {
            headers.remove(name);
        }
        let kept = incoming.map_or(self.default_format, |it| it.format);
        let mut written = None;
        for format in &self.inject {
            let format = format.unwrap_or(kept);
            if written != Some(format) {
                outgoing.write(format, incoming, headers);
                written = Some(format);
            }
        }
    }
}

fn injected(name: &str) -> Result<Option<Format>, BadConfig> {
    if name == "preserve" {
        return Ok(None);
    }
    config::read(&serde_json::Value::from(name)).map(Some)
}
