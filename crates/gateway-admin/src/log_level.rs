//! `/debug/node/log-level` and `/debug/cluster/log-level`: the level of the log, for a while
//! (spec gateway-admin 12.5).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::{Response, StatusCode};
use o28m_net::Body;
use o28m_store::Session;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::api::Api;
use crate::body::Members;
use crate::list::Arguments;
use crate::problem::Problem;
use crate::reply;

/// Kong's words and the level of ours each means: the most verbose one that shows nothing less severe.
const LEVELS: &[(&str, &str)] = &[
    ("debug", "debug"),
    ("info", "info"),
    ("notice", "info"),
    ("warn", "warn"),
    ("error", "error"),
    ("crit", "error"),
    ("alert", "error"),
    ("emerg", "error"),
];
/// Seconds until the level before comes back.
const TIMEOUT_S: f64 = 60.0;
/// Seconds that a level may be asked for at most: a year.
const TIMEOUT_S_MAX: f64 = 31_536_000.0;
/// Where the database holds what all nodes are asked for.
const OWNER: &str = "gateway-log-level";
const ID: &str = "cluster";
/// How long nodes can find an order that has no end, in seconds.
const ORDER_S: i64 = 3600;

/// The level that was asked for, as opposed to the configured one.
#[derive(Default)]
pub(crate) struct LogLevel {
    asked: Mutex<Option<Asked>>,
    /// The order of the cluster that was carried out last.
    order: Mutex<Option<Value>>,
}

struct Asked {
    word: &'static str,
    /// What was logged before, in our words.
    before: String,
    until: Option<Instant>,
}

/// A level by Kong's word for it.
fn known(word: &str) -> Option<(&'static str, &'static str)> {
    LEVELS.iter().find(|(known, _)| *known == word).copied()
}

/// What is logged now, in our words.
fn current() -> String {
    o28m_telemetry::level().map_or_else(|| "info".to_owned(), |level| level.to_string())
}

fn set(level: &str) {
    // Levels come from the table above or from the logger itself.
    let _always_known = o28m_telemetry::set_level(level);
}

impl LogLevel {
    /// Kong's word for the level.
    pub(crate) fn word(&self) -> String {
        self.settle();
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        match &*asked {
            Some(asked) => asked.word.to_owned(),
            None => match current().as_str() {
                "trace" => "debug".to_owned(),
                "off" => "emerg".to_owned(),
                level => level.to_owned(),
            },
        }
    }

    /// Logs at this level; without a timeout for good.
    fn change(&self, word: &'static str, level: &str, timeout: Option<Duration>) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let before = asked.take().map_or_else(current, |asked| asked.before);
        set(level);
        tracing::warn!(log.level = word, "log level was changed by the Admin API");
        let until = timeout.map(|timeout| Instant::now() + timeout);
        *asked = Some(Asked {
            word,
            before,
            until,
        });
    }

    /// Returns to the level before when the time is over.
    pub(crate) fn settle(&self) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |asked: &mut Asked| asked.until.is_some_and(|until| until <= Instant::now());
        if let Some(over) = asked.take_if(is_over) {
            set(&over.before);
            tracing::warn!(log.level = %over.before, "log level is back to what it was");
        }
    }
}

impl Api {
    /// `GET /debug/node/log-level`
    pub(crate) fn get_log_level(&self) -> Response<Body> {
        let message = format!("log level: {}", self.log_level().word());
        reply::json(StatusCode::OK, &json!({"message": message}))
    }

    /// `PUT /debug/node/log-level/{level}` and the same for all nodes.
    pub(crate) async fn put_log_level(
        &self,
        word: &str,
        all_nodes: bool,
        arguments: &Arguments,
        members: &Members,
    ) -> Result<Response<Body>, Problem> {
        if self.loaded().is_some() {
            let message = "cannot change log level when not using a database";
            return Err(Problem::NotInThisMode(message));
        }
        let unknown = || Problem::Bad(format!("unknown log level: {word}"));
        let (word, level) = known(word).ok_or_else(unknown)?;
        let timeout_s = timeout_s(arguments, members)?;
        let timeout = (timeout_s > 0.0).then(|| Duration::from_secs_f64(timeout_s));
        if all_nodes {
            self.order(word, timeout_s).await?;
        } else if self.log_level().word() == word {
            let message = format!("log level is already {word}");
            return Ok(reply::json(StatusCode::OK, &json!({"message": message})));
        }
        self.log_level().change(word, level, timeout);
        let body = json!({"message": "log level changed"});
        Ok(reply::json(StatusCode::OK, &body))
    }

    /// Leaves a note for all nodes, which has been carried out here.
    async fn order(&self, word: &str, timeout_s: f64) -> Result<(), Problem> {
        let now = self.ambient().now().seconds();
        #[expect(clippy::cast_possible_truncation, reason = "at most a year")]
        let seconds = if timeout_s > 0.0 {
            timeout_s.ceil() as i64
        } else {
            ORDER_S
        };
        let body = json!({
            "order": self.ambient().uuid(), "level": word,
            "until": (timeout_s > 0.0).then_some(now + seconds),
        });
        let order = Session {
            id: ID.to_owned(),
            owner: OWNER.to_owned(),
            expires_at_s: now + seconds,
            body: body.clone(),
        };
        self.store().put_session(&order).await?;
        self.log_level().remember(body);
        Ok(())
    }

    /// Carries out what another node was told for all, once.
    pub(crate) async fn follow_log_level(&self) -> Result<(), o28m_store::Error> {
        let levels = self.log_level();
        levels.settle();
        let now = self.ambient().now().seconds();
        let Some(order) = self.store().session(OWNER, ID, now).await? else {
            return Ok(());
        };
        if !levels.remember(order.body.clone()) {
            return Ok(());
        }
        let word = order.body.get("level").and_then(Value::as_str);
        let Some((word, level)) = word.and_then(known) else {
            return Ok(());
        };
        let until = order.body.get("until").and_then(Value::as_i64);
        let seconds = until.map(|until| u64::try_from(until - now).unwrap_or(0));
        levels.change(word, level, seconds.map(Duration::from_secs));
        Ok(())
    }
}

impl LogLevel {
    /// Whether the order is a new one.
    fn remember(&self, order: Value) -> bool {
        let mut last = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = last.as_ref() != Some(&order);
        *last = Some(order);
        is_new
    }
}

fn timeout_s(arguments: &Arguments, members: &Members) -> Result<f64, Problem> {
    let text = match members.get("timeout") {
        Some(Value::String(text)) => Some(text.clone()),
        Some(value) => Some(value.to_string()),
        None => arguments.get("timeout").map(str::to_owned),
    };
    // As in Kong, what is no number counts as the default.
    let seconds = text.and_then(|text| text.parse().ok());
    let seconds: f64 = seconds
        .filter(|it: &f64| it.is_finite())
        .unwrap_or(TIMEOUT_S);
    if seconds < 0.0 {
        let message = "timeout must be greater than or equal to 0";
        return Err(Problem::Bad(message.to_owned()));
    }
    Ok(seconds.min(TIMEOUT_S_MAX))
}
