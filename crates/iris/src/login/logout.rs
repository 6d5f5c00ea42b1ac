//! Logout that a client asks the browser for (OpenID Connect RP-Initiated Logout 1.0).

use std::sync::Arc;

use o28m_oauth::Form;
use serde::{Deserialize, Serialize};

use crate::login::farewell::LogoutFrame;
use crate::login::redirect;
use crate::login::request::base_of;
use crate::login::ticket::Purpose;
use crate::login::{Browser, Identity, LoginError, Outcome, Page};
use crate::model::{Client, Fields as _, Realm, Rep};
use crate::token::Origin;
use crate::{Iris, ResponseMode, Return};

/// Seconds the question whether to log out may be answered (Keycloak's `accessCodeLifespanUserAction`).
const ASK_S: i64 = 300;

/// What comes next in a logout.
#[derive(Clone, Debug)]
pub enum LogoutStep {
    /// Ask whether the person wants it.
    Confirm(LogoutForm),
    /// Back to the client.
    Return(Return),
    /// Say that it is done.
    Done,
    /// Let clients end their own sessions in frames, and then go back or say that it is done.
    Frames(Vec<LogoutFrame>, Option<Return>),
}

/// A page that asks whether to log out.
#[derive(Clone, Debug)]
pub struct LogoutForm {
    /// To bring back as `session_code`.
    pub ticket: String,
}

/// What a confirmed logout does after it.
#[derive(Serialize, Deserialize)]
struct Waiting {
    redirect_uri: Option<String>,
    state: Option<String>,
}

impl Waiting {
    fn step(self, frames: Vec<LogoutFrame>) -> LogoutStep {
        let state = self.state.map(|state| ("state", state));
        let back = self.redirect_uri.map(|redirect_uri| Return {
            redirect_uri,
            mode: ResponseMode::Query,
            parameters: state.into_iter().collect(),
        });
        match back {
            back if !frames.is_empty() => LogoutStep::Frames(frames, back),
            Some(back) => LogoutStep::Return(back),
            None => LogoutStep::Done,
        }
    }
}

type Step = Result<Outcome<LogoutStep>, LoginError>;

impl Iris {
    /// Serves a logout request. An ID token shows that the client may ask; without one the person is
    /// asked.
    ///
    /// # Errors
    /// [`Page`] for parameters that do not fit.
    pub async fn begin_logout(
        &self,
        realm: &Arc<Realm>,
        form: &Form,
        browser: Browser<'_>,
        origin: Origin<'_>,
    ) -> Result<Outcome<LogoutStep>, LoginError> {
        let hint = match form.get("id_token_hint") {
            Some(token) => Some(self.check_hint(realm, token, origin)?),
            None => None,
        };
        let hinted = hint.as_ref().and_then(|claims| claims.text("azp"));
        let named = form.get("client_id");
        if hinted.is_some() && named.is_some() && hinted != named {
            return Err(Page::InvalidParameter("client_id").into());
        }
        let client = match hinted.or(named) {
            Some(id) => self.client(realm.id(), id).await?,
            None => None,
        };
        let has_client = hinted.or(named).is_some();
        let waiting = Waiting {
            redirect_uri: after_logout(realm, client.as_deref(), has_client, form, origin)?,
            state: form.get("state").map(str::to_owned),
        };
        let current = self.sso(realm, browser.identity, origin).await?;
        if let Some(sid) = hint.as_ref().and_then(|claims| claims.text("sid")) {
            let mut frames = Vec::new();
            if let Some(login) = self.login(realm.id(), sid).await? {
                frames = self.frames(realm, &login, origin).await?;
                self.log_out(realm, &login, origin).await?;
                self.report_logout(realm, origin, hinted, &login);
            }
            let is_current = current.is_some_and(|(login, _)| login.id == sid);
            return Ok(Outcome {
                step: waiting.step(frames),
                session: None,
                identity: is_current.then_some(Identity::Clear),
            });
        }
        if current.is_none() {
            return Ok(Outcome::plain(waiting.step(Vec::new())));
        }
        let bond = self.bond(browser.session);
        let ticket = self
            .seal(realm, origin, Purpose::Logout, &bond, ASK_S, &waiting)
            .await?;
        Ok(Outcome {
            step: LogoutStep::Confirm(LogoutForm { ticket }),
            session: bond.into_new(),
            identity: None,
        })
    }

    /// Serves a confirmed logout.
    ///
    /// # Errors
    /// [`Page::Expired`], [`Page::CookieMissing`].
    pub async fn submit_logout(
        &self,
        realm: &Arc<Realm>,
        ticket: Option<&str>,
        browser: Browser<'_>,
        origin: Origin<'_>,
    ) -> Step {
        let waiting: Waiting =
            self.unseal(realm, origin, Purpose::Logout, browser.session, ticket)?;
        let mut frames = Vec::new();
        if let Some((login, _)) = self.sso(realm, browser.identity, origin).await? {
            frames = self.frames(realm, &login, origin).await?;
            self.log_out(realm, &login, origin).await?;
            self.report_logout(realm, origin, None, &login);
        }
        Ok(Outcome {
            step: waiting.step(frames),
            session: None,
            identity: Some(Identity::Clear),
        })
    }

    /// The claims of an ID token of this realm, expired or not.
    fn check_hint(
        &self,
        realm: &Realm,
        token: &str,
        origin: Origin<'_>,
    ) -> Result<Rep, LoginError> {
        let claims = self.signed_claims(realm, token);
        let claims = claims.filter(|claims| {
            claims.text("typ") == Some("ID") && claims.text("iss") == Some(origin.issuer)
        });
        claims.ok_or_else(|| Page::InvalidParameter("id_token_hint").into())
    }
}

/// Where to go after the logout, if the client asked for a place that is its own.
fn after_logout(
    realm: &Realm,
    client: Option<&Client>,
    has_client: bool,
    form: &Form,
    origin: Origin<'_>,
) -> Result<Option<String>, Page> {
    let Some(asked) = form.get("post_logout_redirect_uri") else {
        return Ok(None);
    };
    if !has_client {
        return Err(Page::MissingParameter("id_token_hint"));
    }
    let client = client.ok_or(Page::LogoutRedirect)?;
    let registered = redirect::registered_after_logout(client, base_of(realm, origin.issuer));
    let found = redirect::find(&registered, asked);
    found.map(Some).ok_or(Page::LogoutRedirect)
}
