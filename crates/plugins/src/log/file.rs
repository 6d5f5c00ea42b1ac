//! file-log: entries are appended to a file, off the request path.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use o28m_gateway::BadConfig;
use o28m_net::BoxFuture;
use serde::Deserialize;
use serde_json::Value;

use super::{Kind, Plan};
use crate::config;
use crate::delivery::{Deliver, Deliveries, Failure, Settings};

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    path: PathBuf,
    reopen: bool,
    custom_fields_by_lua: BTreeMap<String, String>,
}

/// The kind.
pub(crate) fn kind(deliveries: &Deliveries) -> Kind {
    Kind {
        name: "file-log",
        priority: 9,
        deliveries: deliveries.clone(),
        plan,
    }
}

fn plan(_: &Deliveries, config: &Value) -> Result<Plan, BadConfig> {
    let config: Config = config::read(config)?;
    let output = Output {
        path: config.path,
        reopen: config.reopen,
        file: Mutex::default(),
    };
    Ok(Plan {
        settings: Settings::without_delay(),
        deliver: Arc::new(Appender(Arc::new(output))),
        lines: true,
        customs: config.custom_fields_by_lua,
    })
}

struct Appender(Arc<Output>);

struct Output {
    path: PathBuf,
    /// The file may be moved away at any time.
    reopen: bool,
    /// The open file; used by one batch at a time.
    file: Mutex<Option<File>>,
}

impl Output {
    fn write(&self, lines: &[u8]) -> std::io::Result<()> {
        match self.path.to_str() {
            Some("/dev/stdout") => std::io::stdout().write_all(lines),
            Some("/dev/stderr") => std::io::stderr().write_all(lines),
            _ => self.append(lines),
        }
    }

    fn append(&self, lines: &[u8]) -> std::io::Result<()> {
        let mut slot = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = match slot.take() {
            Some(file) => file,
            None => OpenOptions::new()
                .create(true)
                .append(true)
                .open(&self.path)?,
        };
        file.write_all(lines)?;
        if !self.reopen {
            *slot = Some(file);
        }
        Ok(())
    }
}

impl Deliver for Appender {
    fn deliver<'a>(&'a self, batch: &'a [Bytes]) -> BoxFuture<'a, Result<(), Failure>> {
        let (output, lines) = (self.0.clone(), batch.concat());
        Box::pin(async move {
            let written = tokio::task::spawn_blocking(move || output.write(&lines));
            match written.await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(Failure::passing(error)),
                Err(error) => Err(Failure::passing(error)),
            }
        })
    }
}
