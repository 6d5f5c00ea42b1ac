//! Standard token exchange (RFC 8693; Keycloak 26.5 `StandardTokenExchangeProvider`): an access token of
//! one client for one of another, for the same person and within what the other client may do.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::dpop::bound_to;
use crate::error::ExchangeProblem;
use crate::model::{Client, Fields as _, Realm};
use crate::token::{Applied, Issue, Origin, Tokens, apply_scopes};
use crate::{GrantError, Iris};

/// `urn:ietf:params:oauth:token-type:access_token`.
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// `urn:ietf:params:oauth:token-type:id_token`.
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
/// Audiences asked for at once.
const AUDIENCES_MAX: usize = 20;

/// What a token request brings to exchange.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    /// `subject_token`.
    pub subject: Option<String>,
    /// `subject_token_type`.
    pub subject_type: Option<String>,
    /// `requested_token_type`.
    pub requested_type: Option<String>,
    /// Every `audience`.
    pub audience: Vec<String>,
    /// A parameter that standard token exchange has not.
    pub unsupported: Option<&'static str>,
}

impl Iris {
    /// Exchanges a token.
    pub(crate) async fn exchange(
        &self,
        realm: &Arc<Realm>,
        client: &Arc<Client>,
        origin: Origin<'_>,
        sent: &Exchange,
        scope: Option<&str>,
    ) -> Result<Tokens, GrantError> {
        let refuse = GrantError::Exchange;
        let subject = check(client, sent).map_err(refuse)?;
        let wants_id = match sent.requested_type.as_deref() {
            None | Some(ACCESS_TOKEN) => false,
            Some(ID_TOKEN) => true,
            Some(_) => return Err(refuse(ExchangeProblem::RequestedType)),
        };
        let Ok(active) = self.active(realm, subject, origin.issuer).await? else {
            return Err(refuse(ExchangeProblem::Subject));
        };
        if bound_to(&active.claims).is_some_and(|key| origin.proof != Some(key)) {
            return Err(refuse(ExchangeProblem::Subject));
        }
        if client.is_public() {
            return Err(refuse(ExchangeProblem::PublicClient));
        }
        for name in &sent.audience {
            let found = self.client(realm.id(), name).await?;
            let found = found.ok_or_else(|| refuse(ExchangeProblem::AudienceUnknown))?;
            if !found.body.rep.flag("enabled") {
                return Err(refuse(ExchangeProblem::AudienceDisabled));
            }
        }
        let is_own = active.client.body.id == client.body.id;
        if !is_own && !audience(&active.claims).contains(client.client_id()) {
            return Err(refuse(ExchangeProblem::NotInAudience));
        }
        let applied = apply_scopes(realm, client, &active.user, scope)?;
        if applied.offline {
            return Err(refuse(ExchangeProblem::Offline));
        }
        let applied = Applied {
            openid: applied.openid || wants_id,
            ..applied
        };
        let notes = active.login.as_ref().map_or(&[][..], |login| &login.notes);
        let issue = Issue {
            realm,
            client,
            user: &active.user,
            applied: &applied,
            origin,
            notes,
            login: None,
            nonce: None,
            audience: &sent.audience,
            grant: "te",
        };
        let missing = self.missing_audience(&issue).await?;
        if !missing.is_empty() {
            let text = missing.join(", ");
            return Err(refuse(ExchangeProblem::AudienceUnavailable(text)));
        }
        let mut tokens = self.issue(&issue).await?;
        let mut issued = ACCESS_TOKEN;
        if wants_id && let Some(token) = tokens.id_token.take() {
            // RFC 8693 section 2.2.1: whatever was asked for is in `access_token`.
            tokens.access_token = token;
            tokens.token_type = "N_A";
            issued = ID_TOKEN;
        }
        tokens
            .other
            .insert("issued_token_type".to_owned(), issued.into());
        Ok(tokens)
    }
}

fn check<'a>(client: &Client, sent: &'a Exchange) -> Result<&'a str, ExchangeProblem> {
    if let Some(name) = sent.unsupported {
        return Err(ExchangeProblem::Unsupported(name));
    }
    if !client.attribute_is("standard.token.exchange.enabled") {
        return Err(ExchangeProblem::Off);
    }
    let subject = sent.subject.as_deref();
    let subject = subject.ok_or(ExchangeProblem::Required("subject_token"))?;
    match sent.subject_type.as_deref() {
        None => return Err(ExchangeProblem::Required("subject_token_type")),
        Some(ACCESS_TOKEN) => {}
        Some(_) => return Err(ExchangeProblem::SubjectType),
    }
    if sent.audience.len() > AUDIENCES_MAX {
        return Err(ExchangeProblem::AudienceUnknown);
    }
    Ok(subject)
}

/// The audience of a token, one or several.
fn audience(claims: &crate::Rep) -> BTreeSet<String> {
    let mut all: BTreeSet<String> = claims.texts("aud").into_iter().collect();
    all.extend(claims.text("aud").map(str::to_owned));
    all
}
