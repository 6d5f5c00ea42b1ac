//! The settings that requests meet, in the form they meet them: nothing is compared as text any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::HeaderValue;

use crate::errors::Forms;
use crate::{Charset, Error, Settings};

/// What `Server` says unless told otherwise: clients recognise Kong by it.
const SERVER_TOKEN: HeaderValue = HeaderValue::from_static("kong/3.9.3");
/// A retry in the units of the budget.
const RETRY: u32 = 1000;
/// Retries in reserve at most.
const RESERVE_MAX: u32 = 10 * RETRY;

/// Compiled settings.
pub(crate) struct Options {
    /// Bytes of a request body; 0 is any number.
    pub(crate) body_bytes_max: u64,
    /// What is appended to content types without a charset.
    pub(crate) charset: Option<Arc<str>>,
    pub(crate) server_token: HeaderValue,
    /// The client's `X-Kong-Request-Id` goes upstream instead of ours.
    pub(crate) hides_request_id: bool,
    pub(crate) keeps_identity_headers: bool,
    pub(crate) debug_headers: bool,
    pub(crate) strict_host: bool,
    pub(crate) early_hints: bool,
    pub(crate) websocket_idle_timeout: Option<Duration>,
    pub(crate) request_timeout: Option<Duration>,
    pub(crate) forms: Forms,
    retry_budget: Option<RetryBudget>,
    /// Ports of listeners and what clients know them as.
    port_maps: Vec<(u16, u16)>,
}

impl Options {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Error> {
        let Charset(charset) = &settings.charset;
        Ok(Self {
            body_bytes_max: settings.body_bytes_max.unwrap_or(0),
            charset: charset.as_ref().map(|it| format!("; charset={it}").into()),
            server_token: settings.server_token.clone().unwrap_or(SERVER_TOKEN),
            hides_request_id: settings.hides_request_id,
            keeps_identity_headers: settings.keeps_identity_headers,
            debug_headers: settings.debug_headers,
            strict_host: settings.strict_host,
            early_hints: settings.early_hints,
            websocket_idle_timeout: settings.websocket_idle_timeout,
            request_timeout: settings.request_timeout,
            forms: Forms::new(&settings.errors)?,
            retry_budget: settings.retry_permille.map(RetryBudget::new),
            port_maps: settings.port_maps.clone(),
        })
    }

    /// What clients know the port of a listener as, where that is another one.
    pub(crate) fn host_port(&self, port: u16) -> Option<u16> {
        let mut maps = self.port_maps.iter();
        maps.find(|(local, _)| *local == port)
            .map(|(_, host)| *host)
    }

    /// A request is about to be sent for the first time.
    pub(crate) fn count_request(&self) {
        if let Some(budget) = &self.retry_budget {
            budget.deposit();
        }
    }

    /// Whether another retry is affordable; takes it off the budget.
    pub(crate) fn may_retry(&self) -> bool {
        self.retry_budget.as_ref().is_none_or(RetryBudget::withdraw)
    }
}

/// Keeps retries to a part of all requests, so that they do not bury an upstream that is down.
struct RetryBudget {
    permille: u32,
    left: AtomicU32,
}

impl RetryBudget {
    fn new(permille: u32) -> Self {
        Self {
            permille,
            left: AtomicU32::new(RESERVE_MAX),
        }
    }

    fn deposit(&self) {
        let earn = |left: u32| Some(left.saturating_add(self.permille).min(RESERVE_MAX));
        let _always = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, earn);
    }

    fn withdraw(&self) -> bool {
        let spend = |left: u32| left.checked_sub(RETRY);
        let spent = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend);
        spent.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_part_of_requests() {
        let budget = RetryBudget::new(200);
        let afforded = |budget: &RetryBudget| (0..100).filter(|_| budget.withdraw()).count();
        assert_eq!(afforded(&budget), 10, "the reserve");
        for _ in 0..20 {
            budget.deposit();
        }
        assert_eq!(afforded(&budget), 4);
        for _ in 0..1000 {
            budget.deposit();
        }
        assert_eq!(afforded(&budget), 10, "no more than the reserve");
    }
}
