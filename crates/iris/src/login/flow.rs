//! The way of a person through a login: single sign-on, password, required actions, and back.

use std::sync::Arc;

use o28m_core::Secret;
use o28m_oauth::{Code, Form};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::grant::AUTH_TIME;
use crate::login::action::UPDATE_PASSWORD;
use crate::login::request::{Checked, Prompt, Request};
use crate::login::ticket::{Purpose, hash};
use crate::login::{Browser, Identity, LoginError, LoginStep, Outcome, Page};
use crate::model::{Client, Fields as _, Realm, User};
use crate::session::{Login, login_ends};
use crate::token::{Origin, not_before_of};
use crate::{Error, Iris};

/// `typ` of the token in `KEYCLOAK_IDENTITY` (Keycloak 26.5).
const IDENTITY: &str = "Serialized-ID";

/// A page that asks for user name and password.
#[derive(Clone, Debug)]
pub struct LoginForm {
    /// To bring back as `session_code`.
    pub ticket: String,
    /// `clientId`, for the URL.
    pub client_id: String,
    /// What the client is called.
    pub client_name: String,
    /// What to fill in.
    pub username: Option<String>,
    /// The realm offers to remember people.
    pub offer_remember: bool,
    /// What was wrong with the last try.
    pub problem: Option<LoginProblem>,
    /// `ui_locales` of the request.
    pub locales: Option<String>,
}

/// Why a login form is shown again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginProblem {
    /// The user or the password is wrong.
    Credentials,
    /// The account is disabled.
    Disabled,
}

/// That somebody proved who they are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Proof {
    pub(crate) user: String,
    /// The login that goes on, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) login: Option<String>,
    /// When the password was given, in seconds since the epoch.
    pub(crate) auth_s: i64,
    /// No password was given now.
    pub(crate) sso: bool,
    pub(crate) remember: bool,
}

/// Everything a step of a login is made for.
pub(crate) struct Stage<'a> {
    pub(crate) realm: &'a Arc<Realm>,
    pub(crate) origin: Origin<'a>,
    pub(crate) browser: Browser<'a>,
    pub(crate) client: Arc<Client>,
    pub(crate) request: Request,
}

pub(crate) type Step = Result<Outcome<LoginStep>, LoginError>;

impl Iris {
    /// Serves an authorization request.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn begin_login(
        &self,
        realm: &Arc<Realm>,
        form: &Form,
        browser: Browser<'_>,
        origin: Origin<'_>,
    ) -> Result<Outcome<LoginStep>, LoginError> {
        match Box::pin(self.check_request(realm, form, origin)).await? {
            Checked::Refused(back) => Ok(Outcome::plain(LoginStep::Return(back))),
            Checked::Good(client, request, prompt) => {
                let stage = Stage {
                    realm,
                    origin,
                    browser,
                    client,
                    request: *request,
                };
                self.enter(stage, prompt).await
            }
        }
    }

    /// Begins the login that a device waits for.
    pub(crate) async fn enter_for_device(
        &self,
        realm: &Arc<Realm>,
        client: Arc<Client>,
        request: Request,
        browser: Browser<'_>,
        origin: Origin<'_>,
    ) -> Step {
        let stage = Stage {
            realm,
            origin,
            browser,
            client,
            request,
        };
        self.enter(stage, Prompt::default()).await
    }

    async fn enter(&self, stage: Stage<'_>, prompt: Prompt) -> Step {
        let known = self
            .sso(stage.realm, stage.browser.identity, stage.origin)
            .await?;
        let now_s = self.ambient.now().seconds();
        if let Some((login, user)) = &known {
            let auth_s = login.auth_s().unwrap_or(login.started_s);
            let age_s = now_s.saturating_sub(auth_s);
            let is_fresh = prompt.max_age_s.is_none_or(|max| age_s <= max);
            if is_fresh && !prompt.login {
                let proof = Proof {
                    user: user.body.id.clone(),
                    login: Some(login.id.clone()),
                    auth_s,
                    sso: true,
                    remember: login.remember,
                };
                return self.proceed(stage, user, proof, prompt.none).await;
            }
        }
        if prompt.none {
            return Ok(refuse(&stage, Code::LoginRequired));
        }
        let username = known.map(|(_, user)| user.username().to_owned());
        let username = stage.request.login_hint.clone().or(username);
        self.ask_password(stage, username, None).await
    }

    /// The login of a browser and whose it is.
    pub(crate) async fn sso(
        &self,
        realm: &Realm,
        identity: Option<&str>,
        origin: Origin<'_>,
    ) -> Result<Option<(Login, Arc<User>)>, Error> {
        let Some(Ok(claims)) =
            identity.map(|token| self.check_signature(realm, token, origin.issuer))
        else {
            return Ok(None);
        };
        let Some(sid) = claims
            .text("sid")
            .filter(|_| claims.text("typ") == Some(IDENTITY))
        else {
            return Ok(None);
        };
        let Some(login) = self.login(realm.id(), sid).await? else {
            return Ok(None);
        };
        let user = self.user(realm.id(), &login.user).await?;
        let stands = |user: &Arc<User>| {
            let is_same = claims.text("sub") == Some(user.body.id.as_str());
            is_same && user.is_enabled() && login.started_s >= not_before_of(realm, user)
        };
        let user = user.filter(|user| !login.offline && stands(user));
        Ok(user.map(|user| (login, user)))
    }

    async fn ask_password(
        &self,
        stage: Stage<'_>,
        username: Option<String>,
        problem: Option<LoginProblem>,
    ) -> Step {
        let realm = stage.realm;
        let bond = self.bond(stage.browser.session);
        let seconds = realm.body.rep.int("accessCodeLifespanLogin");
        let ticket = self
            .seal(
                realm,
                stage.origin,
                Purpose::Login,
                &bond,
                seconds,
                &stage.request,
            )
            .await?;
        let form = LoginForm {
            ticket,
            client_id: stage.client.client_id().to_owned(),
            client_name: stage.client.display_name().to_owned(),
            username,
            offer_remember: realm.body.rep.flag("rememberMe"),
            problem,
            locales: stage.request.locales,
        };
        Ok(Outcome {
            step: LoginStep::Password(form),
            session: bond.into_new(),
            identity: None,
        })
    }

    /// The login a form belongs to.
    pub(crate) async fn resume<'a>(
        &self,
        realm: &'a Arc<Realm>,
        request: Request,
        browser: Browser<'a>,
        origin: Origin<'a>,
    ) -> Result<Stage<'a>, LoginError> {
        let client = self.browser_client(realm, Some(&request.client)).await?;
        if request.device.is_none() && !client.body.rep.flag("standardFlowEnabled") {
            return Err(Page::FlowOff.into());
        }
        Ok(Stage {
            realm,
            origin,
            browser,
            client,
            request,
        })
    }

    /// Shows the login form of a ticket again.
    ///
    /// # Errors
    /// [`Page::Expired`], [`Page::CookieMissing`].
    pub async fn show_login(
        &self,
        realm: &Arc<Realm>,
        ticket: Option<&str>,
        browser: Browser<'_>,
        origin: Origin<'_>,
    ) -> Result<Outcome<LoginStep>, LoginError> {
        let request: Request =
            self.unseal(realm, origin, Purpose::Login, browser.session, ticket)?;
        let stage = self.resume(realm, request, browser, origin).await?;
        let username = stage.request.login_hint.clone();
        self.ask_password(stage, username, None).await
    }

    /// Serves a filled-in login form: `username`, `password`, `rememberMe`.
    ///
    /// # Errors
    /// [`Page::Expired`], [`Page::CookieMissing`] and others of [`LoginError`].
    pub async fn submit_login(
        &self,
        realm: &Arc<Realm>,
        ticket: Option<&str>,
        form: &Form,
        browser: Browser<'_>,
        origin: Origin<'_>,
    ) -> Result<Outcome<LoginStep>, LoginError> {
        let request: Request =
            self.unseal(realm, origin, Purpose::Login, browser.session, ticket)?;
        let stage = self.resume(realm, request, browser, origin).await?;
        let username = form.get("username").unwrap_or_default().trim().to_owned();
        let password = Secret::new(form.get("password").unwrap_or_default().to_owned());
        let user = self
            .check_person(realm, &username, password, origin.address)
            .await?;
        let problem = match &user {
            None => Some(LoginProblem::Credentials),
            Some(user) if !user.is_enabled() => Some(LoginProblem::Disabled),
            Some(_) => None,
        };
        if let Some(problem) = problem {
            let error = match problem {
                LoginProblem::Credentials => "invalid_user_credentials",
                LoginProblem::Disabled => "user_disabled",
            };
            self.report_refusal(&stage, &username, user.as_deref(), error);
        }
        let Some(user) = user.filter(|_| problem.is_none()) else {
            return self.ask_password(stage, Some(username), problem).await;
        };
        let before = self.sso(realm, browser.identity, origin).await?;
        let login = before
            .filter(|(_, other)| other.body.id == user.body.id)
            .map(|(login, _)| login.id);
        let offered = realm.body.rep.flag("rememberMe");
        let proof = Proof {
            user: user.body.id.clone(),
            login,
            auth_s: self.ambient.now().seconds(),
            sso: false,
            remember: offered && form.get("rememberMe").is_some(),
        };
        self.proceed(stage, &user, proof, false).await
    }

    /// Goes on with somebody who proved who they are.
    pub(crate) async fn proceed(
        &self,
        stage: Stage<'_>,
        user: &Arc<User>,
        proof: Proof,
        silent: bool,
    ) -> Step {
        if let Some(action) = user.body.rep.texts("requiredActions").first() {
            if silent {
                return Ok(refuse(&stage, Code::InteractionRequired));
            }
            if action != UPDATE_PASSWORD {
                return Err(Page::Action(action.clone()).into());
            }
            return self.ask_new_password(stage, &user.body, proof, None).await;
        }
        let mut question = None;
        if stage.request.device.is_none() {
            let (scope, always) = (stage.request.scope.as_deref(), stage.request.consent);
            question = self
                .question(stage.realm, &stage.client, user, scope, always)
                .await?;
        }
        if silent && question.is_some() {
            return Ok(refuse(&stage, Code::ConsentRequired));
        }
        let (login, identity) = self.establish(&stage, user, &proof).await?;
        self.report_login(&stage, user, &login);
        if stage.request.device.is_some() {
            let mut outcome = self
                .ask_device(
                    stage.realm,
                    &stage.client,
                    &stage.request,
                    &login,
                    stage.browser,
                    stage.origin,
                )
                .await?;
            outcome.identity = identity;
            return Ok(outcome);
        }
        let mut outcome = match question {
            Some(question) => {
                self.ask_consent(&stage, &login, proof.sso, question)
                    .await?
            }
            None => self.answer(&stage, &login, proof.sso).await?,
        };
        outcome.identity = identity;
        Ok(outcome)
    }

    /// Sends the browser back to the client with a code.
    pub(crate) async fn answer(&self, stage: &Stage<'_>, login: &Login, sso: bool) -> Step {
        let code = self
            .make_code(stage.realm, &stage.client, &stage.request, login, sso)
            .await?;
        let mut parameters = Vec::new();
        if !stage
            .client
            .attribute_is("exclude.session.state.from.auth.response")
        {
            parameters.push(("session_state", login.id.clone()));
        }
        let mut back =
            stage
                .request
                .answer(&stage.client, stage.origin.issuer, Vec::new(), parameters);
        back.parameters.push(("code", code));
        Ok(Outcome::plain(LoginStep::Return(back)))
    }

    /// The login of somebody who proved who they are: the one that goes on, or a new one, whose id nobody
    /// knew before. Another person's login in this browser ends.
    async fn establish(
        &self,
        stage: &Stage<'_>,
        user: &User,
        proof: &Proof,
    ) -> Result<(Login, Option<Identity>), LoginError> {
        let realm = stage.realm;
        if let Some(id) = &proof.login {
            let now_s = self.ambient.now().seconds();
            let kept = self
                .change_login(realm.id(), id, |login| {
                    login.set_note(AUTH_TIME, proof.auth_s.to_string());
                    login.used_s = now_s;
                    login_ends(realm, login, now_s).next_s()
                })
                .await?;
            if let Some(login) = kept {
                return Ok((login, None));
            }
        }
        if let Some((other, _)) = self
            .sso(realm, stage.browser.identity, stage.origin)
            .await?
        {
            self.log_out(realm, &other, stage.origin).await?;
            self.report_logout(realm, stage.origin, None, &other);
        }
        let mut login = self.new_login(&user.body.id, stage.origin, false);
        login.remember = proof.remember;
        login.set_note(AUTH_TIME, proof.auth_s.to_string());
        let ends = login_ends(realm, &login, login.started_s);
        self.keep_login(realm.id(), &login, ends.next_s()).await?;
        let identity = self.identity(stage, &login).await?;
        Ok((login, Some(identity)))
    }

    async fn identity(&self, stage: &Stage<'_>, login: &Login) -> Result<Identity, Error> {
        let ends = login_ends(stage.realm, login, login.started_s);
        let exp_s = ends.at_most_s.unwrap_or(ends.idle_s);
        let claims = json!({
            "exp": exp_s, "iat": login.started_s, "jti": self.ambient.uuid(),
            "iss": stage.origin.issuer, "sub": login.user, "typ": IDENTITY, "sid": login.id,
        });
        let claims = claims.as_object().cloned().unwrap_or_default();
        let key = self
            .key_for(stage.realm, o28m_jose::Algorithm::HS512)
            .await?;
        let (token, _) = self.sign(key, "JWT", &claims).await?;
        let seconds = exp_s.saturating_sub(login.started_s);
        Ok(Identity::Set {
            token,
            state: hash(&login.id),
            seconds: login.remember.then_some(seconds),
        })
    }
}

fn refuse(stage: &Stage<'_>, error: Code) -> Outcome<LoginStep> {
    if stage.request.device.is_some() {
        return Outcome::plain(LoginStep::DeviceDenied);
    }
    let back = stage
        .request
        .refusal(&stage.client, stage.origin.issuer, error.name(), None);
    Outcome::plain(LoginStep::Return(back))
}
