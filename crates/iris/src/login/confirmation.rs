//! Questions to a person who is logged in: asked on a page, and answered only in the same browser while the
//! same login goes on.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Iris;
use crate::login::ticket::Purpose;
use crate::login::{Browser, LoginError, LoginStep, Outcome, Page};
use crate::model::{Realm, User};
use crate::session::Login;
use crate::token::Origin;

/// What is asked, as the page's ticket keeps it.
pub(crate) trait Confirmation: Serialize + DeserializeOwned + Send + Sync {
    /// Of its tickets.
    const PURPOSE: Purpose;

    /// Id of the login that is asked.
    fn login(&self) -> &str;
}

impl Iris {
    /// Asks on a page, which is made with its ticket and may be answered for `seconds`.
    pub(crate) async fn ask<C: Confirmation>(
        &self,
        realm: &Arc<Realm>,
        asked: &C,
        seconds: i64,
        browser: Browser<'_>,
        origin: Origin<'_>,
        page: impl FnOnce(String) -> LoginStep + Send,
    ) -> Result<Outcome<LoginStep>, LoginError> {
        let bond = self.bond(browser.session);
        let ticket = self
            .seal(realm, origin, C::PURPOSE, &bond, seconds, asked)
            .await?;
        Ok(Outcome {
            step: page(ticket),
            session: bond.into_new(),
            identity: None,
        })
    }

    /// What was asked, and who answers.
    pub(crate) async fn answered<C: Confirmation>(
        &self,
        realm: &Realm,
        ticket: Option<&str>,
        browser: Browser<'_>,
        origin: Origin<'_>,
    ) -> Result<(C, Login, Arc<User>), LoginError> {
        let asked: C = self.unseal(realm, origin, C::PURPOSE, browser.session, ticket)?;
        let current = self.sso(realm, browser.identity, origin).await?;
        let current = current.filter(|(login, _)| login.id == asked.login());
        let (login, user) = current.ok_or(Page::Expired)?;
        Ok((asked, login, user))
    }
}
