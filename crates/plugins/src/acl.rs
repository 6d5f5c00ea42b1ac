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

    fn is_shareable(&self) -> bool {
        true
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

#[cfg(test)]
mod tests {
    use http::Request;
    use o28m_gateway::Credential;
    use o28m_net::Body;
    use serde_json::json;

    use super::*;
    use crate::testing::{exchange, outcome};

    fn caller(name: Option<&str>, with_credential: bool) -> Exchange {
        let request = Request::get("/").header("x-consumer-groups", "forged");
        let mut exchange = exchange(request.body(Body::Empty).unwrap());
        if let Some(name) = name {
            let consumer = exchange.snapshot.consumer_by_username(name).cloned();
            exchange.consumer = Some(consumer.unwrap());
        }
        exchange.credential = with_credential.then_some(Credential {
            id: None,
            identifier: None,
        });
        exchange
    }

    /// Status (0 passes), message and the two group headers.
    async fn run(config: Value, mut exchange: Exchange) -> (u16, String, [Option<String>; 2]) {
        let plugin = Kind.configure(&config).unwrap();
        let (status, body) = outcome(plugin.as_ref(), &mut exchange).await;
        let message = serde_json::from_str::<Value>(&body).unwrap_or_default();
        let message = message["message"].as_str().unwrap_or_default().to_owned();
        let header = |name| exchange.header(name).map(str::to_owned);
        let groups = [
            header("x-consumer-groups"),
            header("x-authenticated-groups"),
        ];
        (status, message, groups)
    }

    fn groups(consumer: &str) -> [Option<String>; 2] {
        [Some(consumer.to_owned()), None]
    }

    const UNAUTHORIZED: (u16, &str) = (401, "Unauthorized");
    const FORBIDDEN: (u16, &str) = (403, "You cannot consume this service");

    async fn refused(config: Value, exchange: Exchange) -> (u16, String) {
        let (status, message, _) = run(config, exchange).await;
        (status, message)
    }

    #[tokio::test]
    async fn plugins_case_038_groups_decide() {
        let allow = || json!({"allow": ["a"], "deny": null, "hide_groups_header": false});
        let (status, _, headers) = run(allow(), caller(Some("rover"), false)).await;
        assert_eq!((status, headers), (0, groups("a, b")));
        let other = json!({"allow": ["z"], "deny": []});
        let answer = refused(other, caller(Some("rover"), false)).await;
        assert_eq!((answer.0, answer.1.as_str()), FORBIDDEN);
        let answer = refused(allow(), caller(Some("lonely"), false)).await;
        assert_eq!((answer.0, answer.1.as_str()), UNAUTHORIZED);
        let answer = refused(allow(), caller(Some("lonely"), true)).await;
        assert_eq!((answer.0, answer.1.as_str()), FORBIDDEN);
    }

    #[tokio::test]
    async fn plugins_case_039_deny_all_refuses_every_grouped_consumer() {
        let config = json!({"allow": ["__deny_all__"], "deny": []});
        let answer = refused(config, caller(Some("rover"), false)).await;
        assert_eq!((answer.0, answer.1.as_str()), FORBIDDEN);
    }

    #[tokio::test]
    async fn nobody_is_unauthorized_unless_a_credential_is_known() {
        let config = || json!({"allow": ["a"]});
        let answer = refused(config(), caller(None, false)).await;
        assert_eq!((answer.0, answer.1.as_str()), UNAUTHORIZED);
        let answer = refused(config(), caller(None, true)).await;
        assert_eq!((answer.0, answer.1.as_str()), FORBIDDEN);
    }

    #[tokio::test]
    async fn denied_groups_are_refused_and_others_pass() {
        let deny = || json!({"deny": ["b"]});
        let answer = refused(deny(), caller(Some("rover"), true)).await;
        assert_eq!((answer.0, answer.1.as_str()), FORBIDDEN);
        let (status, _, headers) = run(deny(), caller(Some("lonely"), false)).await;
        assert_eq!((status, headers), (0, [None, None]));
    }

    #[tokio::test]
    async fn hiding_removes_the_header_of_the_client_too() {
        let config = json!({"allow": ["a"], "hide_groups_header": true});
        let (status, _, headers) = run(config, caller(Some("rover"), false)).await;
        assert_eq!((status, headers), (0, [None, None]));
    }

    #[tokio::test]
    async fn asserted_groups_replace_those_of_a_consumer_without_credential() {
        let asserted = |with_credential| {
            let mut exchange = caller(Some("rover"), with_credential);
            exchange.authenticated_groups = Some(vec!["z".into(), "y".into()]);
            exchange
        };
        let config = |always| json!({"allow": ["z"], "always_use_authenticated_groups": always});
        let (status, _, headers) = run(config(false), asserted(false)).await;
        assert_eq!((status, headers), (0, [None, Some("z, y".into())]));
        assert_eq!(run(config(false), asserted(true)).await.0, 403);
        assert_eq!(run(config(true), asserted(true)).await.0, 0);
    }

    #[test]
    fn plugins_case_037_a_rule_without_groups_is_unusable() {
        assert!(Kind.configure(&json!({"allow": [], "deny": null})).is_err());
    }
}
