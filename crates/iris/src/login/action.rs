//! Required actions: what a person has to do before a login goes on.

use std::sync::Arc;

use o28m_core::Secret;
use o28m_oauth::Form;
use serde::{Deserialize, Serialize};

use crate::admin::credentials::SentPasswords;
use crate::login::flow::{Proof, Stage, Step};
use crate::login::request::Request;
use crate::login::ticket::{Purpose, hash};
use crate::login::{Browser, LoginError, LoginStep, Outcome, Page};
use crate::model::{Fields as _, Realm, UserBody, kind};
use crate::token::Origin;
use crate::{Error, Invalid, Iris, Thing, password};

/// The required action that has a page.
pub(crate) const UPDATE_PASSWORD: &str = "UPDATE_PASSWORD";

/// A page that asks for a new password.
#[derive(Clone, Debug)]
pub struct PasswordForm {
    /// To bring back as `session_code`.
    pub ticket: String,
    /// `clientId`, for the URL.
    pub client_id: String,
    /// Whose password it is, for password stores.
    pub username: String,
    /// What was wrong with the last try.
    pub problem: Option<NewPasswordProblem>,
    /// `ui_locales` of the request.
    pub locales: Option<String>,
}

/// Why a new password is asked for again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewPasswordProblem {
    /// Nothing was sent.
    Missing,
    /// The repetition differs.
    Mismatch,
    /// It is longer than the limit.
    TooLong,
    /// It is the old one.
    Unchanged,
    /// The realm's policy refuses it, for this reason.
    Policy(String),
}

/// A login that waits for a required action.
#[derive(Serialize, Deserialize)]
struct Waiting {
    request: Request,
    proof: Proof,
    /// Tells whether the password is still the same: a ticket changes it once.
    stamp: String,
}

/// Which password a user has, without telling it.
fn stamp(user: &UserBody) -> String {
    hash(user.password.as_deref().unwrap_or_default())
}

impl Iris {
    /// Asks for a new password.
    pub(crate) async fn ask_new_password(
        &self,
        stage: Stage<'_>,
        user: &UserBody,
        proof: Proof,
        problem: Option<NewPasswordProblem>,
    ) -> Step {
        let realm = stage.realm;
        let bond = self.bond(stage.browser.session);
        let seconds = realm.body.rep.int("accessCodeLifespanUserAction");
        let locales = stage.request.locales.clone();
        let waiting = Waiting {
            request: stage.request,
            proof,
            stamp: stamp(user),
        };
        let ticket = self
            .seal(
                realm,
                stage.origin,
                Purpose::Action,
                &bond,
                seconds,
                &waiting,
            )
            .await?;
        let form = PasswordForm {
            ticket,
            client_id: stage.client.client_id().to_owned(),
            username: user.username.clone(),
            problem,
            locales,
        };
        Ok(Outcome {
            step: LoginStep::NewPassword(form),
            session: bond.into_new(),
            identity: None,
        })
    }

    /// Serves a filled-in form for a new password: `password-new`, `password-confirm`.
    ///
    /// # Errors
    /// [`Page::Expired`], [`Page::CookieMissing`] and others of [`LoginError`].
    pub async fn submit_password(
        &self,
        realm: &Arc<Realm>,
        ticket: Option<&str>,
        form: &Form,
        browser: Browser<'_>,
        origin: Origin<'_>,
    ) -> Result<Outcome<LoginStep>, LoginError> {
        let waiting: Waiting =
            self.unseal(realm, origin, Purpose::Action, browser.session, ticket)?;
        let stage = self.resume(realm, waiting.request, browser, origin).await?;
        let proof = waiting.proof;
        let found = self.read::<UserBody>(kind::USER, realm.id(), &proof.user);
        let (user, _) = found.await?.ok_or(Page::Expired)?;
        if !user.rep.flag("enabled") {
            return Err(Page::UserDisabled.into());
        }
        let pending = user.rep.texts("requiredActions");
        if stamp(&user) != waiting.stamp || !pending.iter().any(|it| it == UPDATE_PASSWORD) {
            return Err(Page::Expired.into());
        }
        let new = form.get("password-new").unwrap_or_default();
        let repeated = form.get("password-confirm").unwrap_or_default();
        let problem = if new.is_empty() {
            Some(NewPasswordProblem::Missing)
        } else if new != repeated {
            Some(NewPasswordProblem::Mismatch)
        } else {
            self.change_password(realm, &user, &waiting.stamp, new)
                .await?
        };
        if problem.is_some() {
            return self.ask_new_password(stage, &user, proof, problem).await;
        }
        self.report_new_password(&stage, &proof.user);
        let user = self.user(realm.id(), &proof.user).await?;
        let user = user.ok_or(Page::Expired)?;
        self.proceed(stage, &user, proof, false).await
    }

    /// Gives a user the password they chose and takes the action off them.
    async fn change_password(
        &self,
        realm: &Realm,
        user: &UserBody,
        before: &str,
        new: &str,
    ) -> Result<Option<NewPasswordProblem>, LoginError> {
        let secret = || Secret::new(new.to_owned());
        let (old, sent) = (user.password.clone(), secret());
        let check = move || password::verify(&sent, old.as_deref());
        if self.hashing.run(check).await.map_err(Error::from)? {
            return Ok(Some(NewPasswordProblem::Unchanged));
        }
        let sent = SentPasswords::clear(secret());
        let ready = match self.prepare(&realm.body, user, sent, true).await {
            Ok(ready) => ready,
            Err(Error::Invalid(Invalid::PasswordTooLong)) => {
                return Ok(Some(NewPasswordProblem::TooLong));
            }
            Err(Error::Invalid(Invalid::Password(problem))) => {
                return Ok(Some(NewPasswordProblem::Policy(problem.text)));
            }
            Err(error) => return Err(error.into()),
        };
        let mut is_current = true;
        self.change::<UserBody>(realm.id(), &user.id, Thing::User, |user| {
            is_current = stamp(user) == before;
            if let Some(ready) = ready.as_ref().filter(|_| is_current) {
                ready.set(user);
            }
            Ok(Vec::new())
        })
        .await?;
        if is_current {
            return Ok(None);
        }
        Err(Page::Expired.into())
    }
}
