//! `o28m config`: check, explain, schema.

use std::path::Path;

use anyhow::anyhow;
use serde_json::{Map, Value, json};

use crate::cli::{ConfigAction, ConfigCommand, Output};
use crate::config::table::{self, SETTINGS, Setting};
use crate::config::{self, Config, Resolved};
use crate::exit::{Failure, Outcome};
use crate::{platform, terminal};

/// What stands for a secret.
const MASKED: &str = "***";

/// Runs the command.
///
/// # Errors
/// The configuration's problems, or an unknown key.
pub fn run(command: &ConfigCommand) -> Outcome {
    let file = command.config.as_deref();
    match &command.action {
        ConfigAction::Check { resolved, output } => check(file, *resolved, *output),
        ConfigAction::Explain { key, output } => explain(file, key, *output),
        ConfigAction::Schema { reference: true } => {
            terminal::data(&config::reference());
            Ok(())
        }
        ConfigAction::Schema { reference: false } => {
            terminal::json(&config::json_schema());
            Ok(())
        }
    }
}

fn check(file: Option<&Path>, resolved: bool, output: Output) -> Outcome {
    let config = super::load_config(file, Default::default())?;
    if config.has_role("proxy") {
        platform::check_gateway(&config)?;
    }
    if !resolved {
        terminal::progress("configuration is valid");
    } else if output == Output::Json {
        let entry =
            |setting: &Setting| Some((setting.key.to_owned(), shown(&config, setting)?.into()));
        let values: Map<String, Value> = SETTINGS.iter().filter_map(entry).collect();
        terminal::json(&Value::Object(values));
    } else {
        let line =
            |setting: &Setting| Some(format!("{} = {}\n", setting.key, shown(&config, setting)?));
        terminal::data(&SETTINGS.iter().filter_map(line).collect::<String>());
    }
    Ok(())
}

fn explain(file: Option<&Path>, key: &str, output: Output) -> Outcome {
    let config = super::load_config(file, Default::default())?;
    let unknown = || Failure::Usage(anyhow!("unknown setting {key}"));
    let setting = table::find(key).ok_or_else(unknown)?;
    let resolved = config.resolved(key).ok_or_else(unknown)?;
    let value = if resolved.vaulted {
        MASKED.to_owned()
    } else {
        masked(setting, &resolved.text)
    };
    let weaker = |(source, text): &(config::Source, String)| json!({"source": source.to_string(), "value": masked(setting, text)});
    if output == Output::Json {
        terminal::json(&json!({
            "key": setting.key,
            "value": value,
            "source": resolved.source.to_string(),
            "overridden": resolved.overridden.iter().map(weaker).collect::<Vec<_>>(),
            "meaning": setting.doc,
        }));
    } else {
        terminal::data(&explanation(setting, resolved, &value));
    }
    Ok(())
}

fn explanation(setting: &Setting, resolved: &Resolved, value: &str) -> String {
    let mut text = format!("{} = {value}\n  from {}\n", setting.key, resolved.source);
    for (source, weaker) in resolved.overridden.iter().rev() {
        text.push_str(&format!("  over {} ({source})\n", masked(setting, weaker)));
    }
    text.push_str(&format!("  {}\n", setting.doc));
    text
}

fn shown(config: &Config, setting: &Setting) -> Option<String> {
    let resolved = config.resolved(setting.key)?;
    if resolved.vaulted {
        return Some(MASKED.to_owned());
    }
    Some(masked(setting, &resolved.text))
}

fn masked(setting: &Setting, text: &str) -> String {
    if (setting.secret && !text.is_empty()) || Config::is_key(text) {
        MASKED.to_owned()
    } else {
        text.to_owned()
    }
}
