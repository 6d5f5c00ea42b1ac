//! What people see: login, logout, required actions and devices.

pub(crate) mod assets;
mod cookies;
pub(crate) mod frames;
mod html;
mod pages;
mod texts;

use std::sync::Arc;

use http::header::LOCATION;
use http::{Method, StatusCode};
use o28m_iris::{
    Browser, LoginError, LoginStep, LogoutStep, Origin, Outcome, Page, Realm, ResponseMode, Return,
};
use o28m_oauth::Form;

use self::cookies::Place;
use self::pages::Setting;
use self::texts::{Language, Text};
use crate::errors;
use crate::reply::{self, Reply};
use crate::service::Call;

/// What a browser asks for, below `/realms/{realm}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// The authorization endpoint.
    Authorize,
    /// The login form.
    Login,
    /// The form of a required action.
    Action,
    /// The answer to what a client may do.
    Consent,
    /// The end-session endpoint.
    Logout,
    /// The answer to whether to log out.
    LogoutConfirm,
    /// Where people enter the code of a device.
    Device,
    /// The realm's own look.
    Theme,
}

/// A browser's request to a realm.
pub(crate) struct Visit<'a> {
    call: &'a Call<'a>,
    realm: Arc<Realm>,
    issuer: String,
    browser: Browser<'a>,
    /// Parameters of the URL.
    query: Form,
    /// Parameters of the body.
    body: Form,
}

/// Serves a browser's request.
pub(crate) async fn answer(call: &Call<'_>, realm: Arc<Realm>, view: View, bytes: &[u8]) -> Reply {
    if view == View::Theme {
        return assets::theme_sheet(&realm);
    }
    if view == View::Device && !realm.has_device_flow() {
        return reply::unknown_path();
    }
    let query = Form::parse(call.query.as_deref().unwrap_or_default().as_bytes());
    let is_form = call.media_type().as_deref() == Some("application/x-www-form-urlencoded");
    let body = if call.method == Method::POST && is_form {
        Form::parse(bytes)
    } else {
        Ok(Form::default())
    };
    let issuer = call.base.issuer(realm.name());
    let well_formed = query.is_ok() && body.is_ok();
    let visit = Visit {
        call,
        realm,
        issuer,
        browser: cookies::read(&call.headers),
        query: query.unwrap_or_default(),
        body: body.unwrap_or_default(),
    };
    let bad = |status, text| visit.setting(None).error(status, text, None);
    if !well_formed {
        return bad(StatusCode::BAD_REQUEST, Text::BadRequest);
    }
    if call.base.refuses_plain(visit.realm.ssl_required()) {
        return bad(StatusCode::BAD_REQUEST, Text::HttpsRequired);
    }
    if !visit.realm.is_enabled() {
        return bad(StatusCode::BAD_REQUEST, Text::RealmDisabled);
    }
    visit.serve(view).await
}

impl Visit<'_> {
    async fn serve(&self, view: View) -> Reply {
        match view {
            View::Authorize => self.authorize().await,
            View::Login => self.login().await,
            View::Action => self.action().await,
            View::Consent => self.consent().await,
            View::Logout => self.logout().await,
            View::LogoutConfirm => self.confirm_logout().await,
            View::Device => self.device().await,
            View::Theme => reply::unknown_path(),
        }
    }

    fn origin(&self) -> Origin<'_> {
        Origin {
            issuer: &self.issuer,
            address: &self.call.base.address,
            proof: None,
        }
    }

    /// The parameters of the request itself: those of the body when it has one.
    fn form(&self) -> &Form {
        if self.call.method == Method::POST {
            &self.body
        } else {
            &self.query
        }
    }

    fn setting(&self, locales: Option<&str>) -> Setting<'_> {
        let asked = self
            .query
            .get("kc_locale")
            .or(self.form().get("ui_locales"));
        let accept = self.call.header("accept-language");
        Setting {
            base: &self.call.base.url,
            issuer: &self.issuer,
            realm: Some(&self.realm),
            language: Language::choose(asked.or(locales), accept, self.realm.default_locale()),
        }
    }

    fn ticket(&self) -> Option<&str> {
        self.query
            .get("session_code")
            .or(self.body.get("session_code"))
    }

    async fn authorize(&self) -> Reply {
        let iris = self.call.iris;
        let outcome = iris
            .begin_login(&self.realm, self.form(), self.browser, self.origin())
            .await;
        self.show(outcome)
    }

    async fn login(&self) -> Reply {
        let iris = self.call.iris;
        let (realm, ticket) = (&self.realm, self.ticket());
        let outcome = if self.call.method == Method::POST {
            iris.submit_login(realm, ticket, &self.body, self.browser, self.origin())
                .await
        } else {
            iris.show_login(realm, ticket, self.browser, self.origin())
                .await
        };
        self.show(outcome)
    }

    async fn action(&self) -> Reply {
        let (realm, ticket) = (&self.realm, self.ticket());
        let iris = self.call.iris;
        let outcome = iris
            .submit_password(realm, ticket, &self.body, self.browser, self.origin())
            .await;
        self.show(outcome)
    }

    async fn consent(&self) -> Reply {
        let allowed = self.body.get("accept").is_some() && self.body.get("cancel").is_none();
        let (realm, ticket) = (&self.realm, self.ticket());
        let iris = self.call.iris;
        let outcome = iris
            .submit_consent(realm, ticket, allowed, self.browser, self.origin())
            .await;
        self.show(outcome)
    }

    async fn device(&self) -> Reply {
        let iris = self.call.iris;
        if self.call.method == Method::POST && self.body.get("session_code").is_some() {
            let allowed = self.body.get("accept").is_some();
            let ticket = self.body.get("session_code");
            let outcome = iris
                .submit_device(&self.realm, ticket, allowed, self.browser, self.origin())
                .await;
            return self.show(outcome);
        }
        let code = self.body.get("device_user_code");
        let Some(code) = code.or(self.query.get("user_code")) else {
            return self.setting(None).device_code(false);
        };
        let begun = iris
            .begin_device(&self.realm, code, self.browser, self.origin())
            .await;
        match begun {
            Ok(None) => self.setting(None).device_code(true),
            Ok(Some(outcome)) => self.show(Ok(outcome)),
            Err(error) => self.show(Err(error)),
        }
    }

    async fn logout(&self) -> Reply {
        let iris = self.call.iris;
        let outcome = iris
            .begin_logout(&self.realm, self.form(), self.browser, self.origin())
            .await;
        self.leave(outcome)
    }

    async fn confirm_logout(&self) -> Reply {
        let iris = self.call.iris;
        let outcome = iris
            .submit_logout(&self.realm, self.ticket(), self.browser, self.origin())
            .await;
        self.leave(outcome)
    }

    fn show(&self, outcome: Result<Outcome<LoginStep>, LoginError>) -> Reply {
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => return self.refuse(&error),
        };
        let plain = self.setting(None);
        let reply = match &outcome.step {
            LoginStep::Return(back) => plain.bring(back),
            LoginStep::Password(form) => {
                let by_email = self.realm.allows_email_login();
                self.setting(form.locales.as_deref()).login(form, by_email)
            }
            LoginStep::NewPassword(form) => {
                self.setting(form.locales.as_deref()).new_password(form)
            }
            LoginStep::Consent(form) => self.setting(form.locales.as_deref()).consent(form),
            LoginStep::Device(form) => plain.device_question(form),
            LoginStep::DeviceAllowed => plain.done(Text::DeviceAllowedTitle, Text::DeviceAllowed),
            LoginStep::DeviceDenied => plain.done(Text::DeviceDeniedTitle, Text::DeviceDenied),
        };
        self.with_cookies(reply, &outcome)
    }

    fn leave(&self, outcome: Result<Outcome<LogoutStep>, LoginError>) -> Reply {
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => return self.refuse(&error),
        };
        let setting = self.setting(None);
        let reply = match &outcome.step {
            LogoutStep::Confirm(form) => setting.logout(form),
            LogoutStep::Return(back) => setting.bring(back),
            LogoutStep::Done => setting.done(Text::LoggedOutTitle, Text::LoggedOut),
            LogoutStep::Frames(frames, back) => setting.frames(frames, back.as_ref()),
        };
        self.with_cookies(reply, &outcome)
    }

    fn with_cookies<T>(&self, reply: Reply, outcome: &Outcome<T>) -> Reply {
        let place = Place::of(&self.call.base, self.realm.name());
        let reply = place.apply(reply, outcome.session.as_deref(), outcome.identity.as_ref());
        reply::never_stored(reply)
    }

    /// The page of an error.
    fn refuse(&self, error: &LoginError) -> Reply {
        const BAD: StatusCode = StatusCode::BAD_REQUEST;
        let setting = self.setting(None);
        let page = match error {
            LoginError::Page(page) => page,
            LoginError::Failed(error) => {
                let status = errors::page(error);
                let text = if status == StatusCode::SERVICE_UNAVAILABLE {
                    Text::Busy
                } else {
                    Text::Unexpected
                };
                return reply::retry_later(setting.error(status, text, None));
            }
        };
        match page {
            Page::MissingParameter(name) => setting.error(BAD, Text::MissingParameter, Some(name)),
            Page::InvalidParameter(name) => setting.error(BAD, Text::InvalidParameter, Some(name)),
            Page::ClientNotFound => setting.error(BAD, Text::ClientNotFound, None),
            Page::ClientDisabled => setting.error(BAD, Text::ClientDisabled, None),
            Page::BearerOnly => setting.error(StatusCode::FORBIDDEN, Text::BearerOnly, None),
            Page::FlowOff => setting.error(BAD, Text::FlowOff, None),
            Page::Expired => setting.error(BAD, Text::Expired, None),
            Page::CookieMissing => setting.error(BAD, Text::CookieMissing, None),
            Page::Action(name) => setting.error(BAD, Text::ActionUnsupported, Some(name)),
            Page::UserDisabled => setting.error(BAD, Text::AccountDisabled, None),
            Page::LogoutRedirect => setting.error(BAD, Text::LogoutRedirect, None),
        }
    }
}

impl Setting<'_> {
    /// Brings a response to the client.
    fn bring(&self, back: &Return) -> Reply {
        if back.mode == ResponseMode::FormPost {
            return self.form_post(back);
        }
        reply::with(reply::empty(StatusCode::FOUND), LOCATION, &url_of(back))
    }
}

/// The URL that brings a response to the client.
fn url_of(back: &Return) -> String {
    let pairs: Vec<String> = back
        .parameters
        .iter()
        .map(|(name, value)| format!("{name}={}", assets::encode(value)))
        .collect();
    let uri = &back.redirect_uri;
    match back.mode {
        _ if pairs.is_empty() => uri.clone(),
        ResponseMode::Fragment => format!("{uri}#{}", pairs.join("&")),
        ResponseMode::Query | ResponseMode::FormPost => {
            let mark = if uri.contains('?') { '&' } else { '?' };
            format!("{uri}{mark}{}", pairs.join("&"))
        }
    }
}

/// The page for a realm that does not exist.
pub(crate) fn no_realm(call: &Call<'_>) -> Reply {
    let language = Language::choose(None, call.header("accept-language"), None);
    let setting = Setting {
        base: &call.base.url,
        issuer: "",
        realm: None,
        language,
    };
    setting.error(StatusCode::NOT_FOUND, Text::RealmNotFound, None)
}
