//! What the rate limiting plugins share: counters, the decision and the headers that tell of it
//! (spec gateway-plugins 3 and 4.3).

mod local;
pub(crate) mod merged;
mod shared;
pub(crate) mod stock;
mod window;

use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use o28m_core::{Ambient, Timestamp};
use o28m_gateway::{Access, Exchange, Verdict, errors};
use o28m_kong::PluginEntity;
use o28m_net::Body;
use serde_json::json;

use crate::identity;
use local::{Local, Reservation};
use shared::Shared;
use window::Period;

const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

const NO_ID: &str = "00000000-0000-0000-0000-000000000000";

/// What the counters of an instance belong to: the route and the service that the instance is bound to,
/// not those of the request.
struct Scope {
    prefix: String,
}

impl Default for Scope {
    fn default() -> Self {
        Self::new(None, None)
    }
}

impl Scope {
    fn new(route: Option<&str>, service: Option<&str>) -> Self {
        let (route, service) = (route.unwrap_or(NO_ID), service.unwrap_or(NO_ID));
        Self {
            prefix: format!("ratelimit:{route}:{service}:"),
        }
    }

    fn of(entity: &PluginEntity) -> Self {
        let id = |key: &Option<o28m_kong::ForeignKey>| key.as_ref().map(|it| it.id.clone());
        let (route, service) = (id(&entity.route), id(&entity.service));
        Self::new(route.as_deref(), service.as_deref())
    }

    /// The part of the key that does not depend on time.
    fn key(&self, identifier: &str) -> String {
        let mut key = String::with_capacity(self.prefix.len() + identifier.len() + 24);
        key.push_str(&self.prefix);
        key.push_str(identifier);
        key
    }
}

/// A counter that a request is counted in, and its limit.
struct Counter {
    identifier: Arc<str>,
    period: Period,
    limit: f64,
}

/// Whether no counter has reached its limit.
fn admits(counters: &[Counter], used: &[f64]) -> bool {
    counters
        .iter()
        .zip(used)
        .all(|(counter, used)| *used < counter.limit)
}

/// Where counters live.
enum Policy {
    Local(Arc<Local>),
    Redis(Shared),
}

/// The part of an instance that counts and decides.
struct Limiter {
    scope: Scope,
    policy: Policy,
    /// Requests pass while the counters cannot be reached.
    fault_tolerant: bool,
    hide_client_headers: bool,
    status: StatusCode,
    message: String,
    ambient: Ambient,
}

/// What is kept of a request that passed.
#[derive(Clone)]
struct Ticket {
    /// Headers for the response, unless they are hidden.
    headers: Vec<(HeaderName, f64)>,
    reservation: Reservation,
}

impl Limiter {
    /// Counts the request. When it may pass, `keep` gets what the response needs.
    fn check<'a>(
        &'a self,
        exchange: &'a mut Exchange,
        counters: Vec<Counter>,
        keep: fn(&mut Exchange, Ticket),
    ) -> Access<'a> {
        if counters.is_empty() {
            return Access::CONTINUE;
        }
        let now = self.ambient.now();
        match &self.policy {
            Policy::Local(local) => {
                let (used, reservation) = local.take(&self.scope, &counters, now);
                let tally = Tally::new(&counters, &used, now);
                Access::Now(self.decide(exchange, &tally, reservation, keep))
            }
            Policy::Redis(shared) => Access::Later(Box::pin(async move {
                match shared.take(&self.scope, &counters, now).await {
                    Ok(used) => {
                        let tally = Tally::new(&counters, &used, now);
                        self.decide(exchange, &tally, Reservation::default(), keep)
                    }
                    Err(_) if self.fault_tolerant => Verdict::Continue,
                    Err(error) => {
                        tracing::debug!(error = %error, "request is refused: it cannot be counted");
                        let body = json!({"message": "An unexpected error occurred"});
                        Verdict::Respond(errors::exit(StatusCode::INTERNAL_SERVER_ERROR, &body))
                    }
                }
            })),
        }
    }

    fn decide(
        &self,
        exchange: &mut Exchange,
        tally: &Tally,
        reservation: Reservation,
        keep: fn(&mut Exchange, Ticket),
    ) -> Verdict {
        let headers = if self.hide_client_headers {
            Vec::new()
        } else {
            tally.headers()
        };
        if tally.admitted {
            keep(
                exchange,
                Ticket {
                    headers,
                    reservation,
                },
            );
            return Verdict::Continue;
        }
        Verdict::Respond(self.refusal(exchange, headers))
    }

    fn refusal(&self, exchange: &Exchange, told: Vec<(HeaderName, f64)>) -> Response<Body> {
        let mut response = identity::error(exchange, self.status, &self.message);
        let headers = response.headers_mut();
        for (name, number) in told {
            let value = value(number);
            if name == RESET {
                headers.insert(RETRY_AFTER, value.clone());
            }
            headers.insert(name, value);
        }
        response
    }

    /// Takes back what was counted for a request that does not count after all.
    fn release(&self, reservation: &Reservation) {
        if let Policy::Local(local) = &self.policy {
            local.release(reservation);
        }
    }
}

/// The state of one period before the request; of several dimensions the tightest.
struct Usage {
    period: Period,
    limit: f64,
    remaining: f64,
}

/// What the counters say about a request.
struct Tally {
    admitted: bool,
    usages: Vec<Usage>,
    now: Timestamp,
}

impl Tally {
    fn new(counters: &[Counter], used: &[f64], now: Timestamp) -> Self {
        let mut usages: Vec<Usage> = Vec::with_capacity(counters.len());
        for (counter, used) in counters.iter().zip(used) {
            let (limit, remaining) = (counter.limit, counter.limit - used);
            match usages.iter_mut().find(|it| it.period == counter.period) {
                Some(usage) => {
                    usage.limit = usage.limit.min(limit);
                    usage.remaining = usage.remaining.min(remaining);
                }
                None => usages.push(Usage {
                    period: counter.period,
                    limit,
                    remaining,
                }),
            }
        }
        usages.sort_unstable_by_key(|it| it.period);
        Self {
            admitted: admits(counters, used),
            usages,
            now,
        }
    }

    /// The headers that tell of it: the request itself is taken off what remains when it passes.
    fn headers(&self) -> Vec<(HeaderName, f64)> {
        let mut headers = Vec::with_capacity(2 * self.usages.len() + 3);
        let own = if self.admitted { 1.0 } else { 0.0 };
        let mut tightest: Option<(&Usage, f64)> = None;
        for usage in &self.usages {
            let remaining = (usage.remaining - own).max(0.0);
            let (limit_name, remaining_name) = usage.period.headers();
            headers.push((limit_name, usage.limit));
            headers.push((remaining_name, remaining));
            // Of equals the longer window decides, and periods ascend.
            if tightest.is_none_or(|(_, least)| remaining <= least) {
                tightest = Some((usage, remaining));
            }
        }
        if let Some((usage, remaining)) = tightest {
            let passed_s = self.now.millis_since(usage.period.start(self.now)) / 1000;
            headers.push((LIMIT, usage.limit));
            headers.push((REMAINING, remaining));
            headers.push((RESET, (usage.period.length_s() - passed_s).max(1) as f64));
        }
        headers
    }
}

/// A number as Kong prints it: whole ones without a fraction.
fn value(number: f64) -> HeaderValue {
    HeaderValue::try_from(number.to_string()).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

/// The smallest number that the lines of a header say; lines that are no number say nothing.
fn smallest(headers: &HeaderMap, name: &HeaderName) -> Option<f64> {
    let lines = headers.get_all(name).iter();
    lines
        .filter_map(|line| line.to_str().ok()?.trim().parse::<f64>().ok())
        .filter(|number| number.is_finite())
        .reduce(f64::min)
}
