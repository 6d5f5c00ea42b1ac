//! acl: lets consumers pass by their groups (Kong 3.9.3).

use std::collections::HashSet;
use std::sync::Arc;

use http::StatusCode;
use http::header::{HeaderName, HeaderValue};
use o28m_gateway::{Access, BadConfig, Exchange, Plugin, PluginKind, Verdict};
use serde::Deserialize;
use serde_json::Value;

use crate::{config, identity};

const CONSUMER_GROUPS: HeaderName = HeaderName::from_static("x-consumer-groups");
const AUTHENTICATED_GROUPS: HeaderName = HeaderName::from_static("x-authenticated-groups");

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    allow: Vec<String>,
    deny: Vec<String>,
    hide_groups_header: bool,
    always_use_authenticated_groups: bool,
}

pub(crate) struct Kind;

impl PluginKind for Kind {
    fn name(&self) -> &'static str {
        "acl"
    }

    fn priority(&self) -> i32 {
        950
    }

    fn configure(&self, config: &Value) -> Result<Arc<dyn Plugin>, BadConfig> {
        let config: Config = config::read(config)?;
        let rule = match (config.allow.is_empty(), config.deny.is_empty()) {
            (_, false) => Rule::Deny(config.deny.into_iter().collect()),
            (false, true) => Rule::Allow(config.allow.into_iter().collect()),
            (true, true) => return Err(BadConfig("neither allow nor deny names a group".into())),
        };
        Ok(Arc::new(Acl {
            rule,
            hide_groups_header: config.hide_groups_header,
            always_use_authenticated_groups: config.always_use_authenticated_groups,
        }))
    }
}

enum Rule {
    Allow(HashSet<String>),
    Deny(HashSet<String>),
}

struct Acl {
    rule: Rule,
    hide_groups_header: bool,
    always_use_authenticated_groups: bool,
}

/// Why a request may not pass.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// Nobody is authenticated, or a consumer without credential and without groups.
    Unauthorized,
    /// The caller is known and not allowed.
    Forbidden,
}

impl Rule {
    fn lets_pass<G: AsRef<str>>(&self, groups: &[G]) -> bool {
        let any = |set: &HashSet<String>| groups.iter().any(|group| set.contains(group.as_ref()));
        match self {
            Self::Allow(allowed) => any(allowed),
            Self::Deny(denied) => !any(denied),
        }
    }

    fn check<G: AsRef<str>>(&self, groups: &[G]) -> Result<String, Refusal> {
        if self.lets_pass(groups) {
            Ok(joined(groups))
        } else {
            Err(Refusal::Forbidden)
        }
    }
}

fn joined<G: AsRef<str>>(groups: &[G]) -> String {
    let mut text = String::new();
    for group in groups {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(group.as_ref());
    }
    text
}

impl Acl {
    /// The header that tells the upstream which groups decided, and its value.
    fn decide(&self, exchange: &Exchange) -> Result<(HeaderName, String), Refusal> {
        let with_credential = exchange.credential.is_some();
        let refused = if with_credential {
            Refusal::Forbidden
        } else {
            Refusal::Unauthorized
        };
        let asserted = exchange.authenticated_groups.as_deref();
        let Some(consumer) = &exchange.consumer else {
            let groups = asserted.ok_or(refused)?;
            return Ok((AUTHENTICATED_GROUPS, self.rule.check(groups)?));
        };
        if let Some(groups) = asserted
            && (self.always_use_authenticated_groups || !with_credential)
        {
            return Ok((AUTHENTICATED_GROUPS, self.rule.check(groups)?));
        }
        let groups = exchange.snapshot.groups(&consumer.id);
        if groups.is_empty() && matches!(self.rule, Rule::Allow(_)) {
            return Err(refused);
        }
        Ok((CONSUMER_GROUPS, self.rule.check(groups)?))
    }
}

impl Plugin for Acl {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        let (status, message) = match self.decide(exchange) {
            Ok((header, groups)) => {
                let headers = &mut exchange.request.headers;
                headers.remove(CONSUMER_GROUPS);
                headers.remove(AUTHENTICATED_GROUPS);
                if !self.hide_groups_header
                    && !groups.is_empty()
                    && let Ok(value) = HeaderValue::try_from(groups)
                {
                    headers.insert(header, value);
                }
                return Access::CONTINUE;
            }
            Err(Refusal::Unauthorized) => (StatusCode::UNAUTHORIZED, "Unauthorized"),
            Err(Refusal::Forbidden) => (StatusCode::FORBIDDEN, "You cannot consume this service"),
        };
        Access::Now(Verdict::Respond(identity::error(exchange, status, message)))
    }
}
