//! Signed tickets: what a page must bring back, and the login cookie. They are no tokens: their type is
//! one that nothing else accepts.

use std::sync::Arc;

use aws_lc_rs::{constant_time, digest};
use o28m_core::id::random_alphanumeric;
use o28m_jose::{Algorithm, base64url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, json};

use crate::login::{LoginError, Page};
use crate::model::{Fields as _, Realm};
use crate::token::Origin;
use crate::{Error, Iris};

/// Characters of the value that binds tickets to a browser.
const BROWSER_LENGTH: usize = 43;

/// What a ticket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The login form.
    Login,
    /// The form of a required action.
    Action,
    /// The question what a client may do.
    Consent,
    /// The question whether a device may have tokens.
    Device,
    /// The question whether to log out.
    Logout,
}

impl Purpose {
    const fn name(self) -> &'static str {
        match self {
            Self::Login => "Login-Ticket",
            Self::Action => "Action-Ticket",
            Self::Consent => "Consent-Ticket",
            Self::Device => "Device-Ticket",
            Self::Logout => "Logout-Ticket",
        }
    }
}

/// The value that binds tickets to a browser: the one it has, or a new one to set.
pub(crate) struct Bond {
    value: String,
    is_new: bool,
}

impl Bond {
    /// What to set, if anything.
    pub(crate) fn into_new(self) -> Option<String> {
        self.is_new.then_some(self.value)
    }

    fn hash(&self) -> String {
        hash(&self.value)
    }
}

fn is_bond(value: &str) -> bool {
    value.len() == BROWSER_LENGTH && value.bytes().all(|it| it.is_ascii_alphanumeric())
}

/// SHA-256 in base64url.
pub(crate) fn hash(value: &str) -> String {
    base64url(digest::digest(&digest::SHA256, value.as_bytes()).as_ref())
}

impl Iris {
    /// The browser's bond; others' values are replaced.
    pub(crate) fn bond(&self, sent: Option<&str>) -> Bond {
        match sent.filter(|value| is_bond(value)) {
            Some(value) => Bond {
                value: value.to_owned(),
                is_new: false,
            },
            None => Bond {
                value: random_alphanumeric(self.ambient.rng.as_ref(), BROWSER_LENGTH),
                is_new: true,
            },
        }
    }

    /// A ticket that holds for `seconds`.
    pub(crate) async fn seal(
        &self,
        realm: &Arc<Realm>,
        origin: Origin<'_>,
        purpose: Purpose,
        bond: &Bond,
        seconds: i64,
        body: &impl Serialize,
    ) -> Result<String, Error> {
        let exp_s = self.ambient.now().seconds().saturating_add(seconds);
        let mut claims = Map::new();
        claims.insert("exp".to_owned(), json!(exp_s));
        claims.insert("iss".to_owned(), json!(origin.issuer));
        claims.insert("typ".to_owned(), json!(purpose.name()));
        claims.insert("bond".to_owned(), json!(bond.hash()));
        // Plain data with text keys, which always has a JSON form.
        let body = serde_json::to_value(body).unwrap_or_default();
        claims.insert("body".to_owned(), body);
        let key = self.key_for(realm, Algorithm::HS512).await?;
        Ok(self.sign(key, "JWT", &claims).await?.0)
    }

    /// What a ticket holds, if this browser got it and it has not expired.
    pub(crate) fn unseal<T: DeserializeOwned>(
        &self,
        realm: &Realm,
        origin: Origin<'_>,
        purpose: Purpose,
        browser: Option<&str>,
        ticket: Option<&str>,
    ) -> Result<T, LoginError> {
        let expired = || LoginError::from(Page::Expired);
        let ticket = ticket.ok_or_else(expired)?;
        let claims = self.check_signature(realm, ticket, origin.issuer);
        let mut claims = claims.map_err(|_| expired())?;
        if claims.text("typ") != Some(purpose.name()) {
            return Err(expired());
        }
        let browser = browser.ok_or(Page::CookieMissing)?;
        let (sent, kept) = (hash(browser), claims.text("bond").unwrap_or_default());
        if constant_time::verify_slices_are_equal(sent.as_bytes(), kept.as_bytes()).is_err() {
            return Err(expired());
        }
        let body = claims.remove("body").unwrap_or_default();
        serde_json::from_value(body).map_err(|_| expired())
    }
}
