//! The pages: server-made HTML that works without scripts.

use http::StatusCode;
use http::header::{
    CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName,
};
use o28m_iris::{
    ConsentForm, ConsentItem, DeviceForm, LoginForm, LoginProblem, LogoutForm, LogoutFrame,
    NewPasswordProblem, PasswordForm, Realm, Return,
};
use o28m_net::Body;

use super::assets::{self, Script};
use super::html::Html;
use super::texts::{Language, Text};
use super::url_of;
use crate::reply::{self, Reply};

/// What pages may load: our style sheet. The response to a form is not restricted by `form-action`,
/// because browsers apply that to the client the response leads to.
const POLICY: &str =
    "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'self'";
/// The page that posts a response to the client also loads the script that presses its button.
const POSTING_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; \
     base-uri 'none'; frame-ancestors 'self'";

/// Seconds the pages of clients have to load before a logout goes on.
const FRAMES_S: u32 = 4;

/// Where and for whom a page is made.
#[derive(Clone, Copy)]
pub(crate) struct Setting<'a> {
    /// The server's URL, to which paths are appended.
    pub(crate) base: &'a str,
    /// The realm's issuer.
    pub(crate) issuer: &'a str,
    pub(crate) realm: Option<&'a Realm>,
    pub(crate) language: Language,
}

impl Setting<'_> {
    fn say(&self, text: Text) -> &'static str {
        text.say(self.language)
    }

    /// A whole page around `content`.
    fn page(&self, status: StatusCode, title: &str, content: impl FnOnce(&mut Html)) -> Reply {
        self.page_with(status, title, POLICY, content)
    }

    fn page_with(
        &self,
        status: StatusCode,
        title: &str,
        policy: &str,
        content: impl FnOnce(&mut Html),
    ) -> Reply {
        let realm = self.realm.map_or("", Realm::display_name);
        let mut html = Html::default();
        html.markup("<!DOCTYPE html>\n<html");
        html.attribute("lang", self.language.tag());
        html.markup(">\n<head>\n<meta charset=\"utf-8\">\n");
        html.markup("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
        html.markup("<meta name=\"robots\" content=\"noindex, nofollow\">\n<title>");
        html.text(title);
        if !realm.is_empty() {
            html.markup(" - ").text(realm);
        }
        html.markup("</title>\n<link rel=\"stylesheet\"");
        html.attribute("href", &assets::style_url(self.base));
        html.markup(">\n");
        if self
            .realm
            .is_some_and(|realm| assets::theme(realm).is_some())
        {
            let url = format!("{}/login-actions/theme.css", self.issuer);
            html.markup("<link rel=\"stylesheet\"");
            html.attribute("href", &url).markup(">\n");
        }
        html.markup("</head>\n<body>\n<main>\n");
        if !realm.is_empty() {
            html.markup("<p class=\"realm\">")
                .text(realm)
                .markup("</p>\n");
        }
        html.markup("<h1 id=\"kc-page-title\">")
            .text(title)
            .markup("</h1>\n");
        content(&mut html);
        html.markup("</main>\n</body>\n</html>\n");
        let mut reply = reply::empty(status);
        *reply.body_mut() = Body::full(html.into_bytes());
        let headers = [
            (CONTENT_TYPE, "text/html;charset=utf-8"),
            (CONTENT_LANGUAGE, self.language.tag()),
            (CONTENT_SECURITY_POLICY, policy),
            (CACHE_CONTROL, "no-store, must-revalidate, max-age=0"),
        ];
        let set = |reply, (name, value)| reply::with(reply, name, value);
        headers.into_iter().fold(reply, set)
    }

    fn action(&self, path: &str, ticket: &str, client_id: &str) -> String {
        let ticket = assets::encode(ticket);
        let client_id = assets::encode(client_id);
        format!(
            "{}/{path}?session_code={ticket}&client_id={client_id}",
            self.issuer
        )
    }

    /// The form for user name and password.
    pub(crate) fn login(&self, form: &LoginForm, by_email: bool) -> Reply {
        let action = self.action("login-actions/authenticate", &form.ticket, &form.client_id);
        let problem = form.problem.map(|problem| match problem {
            LoginProblem::Credentials => self.say(Text::WrongCredentials),
            LoginProblem::Disabled => self.say(Text::AccountDisabled),
        });
        let label = if by_email {
            Text::UsernameOrEmail
        } else {
            Text::Username
        };
        self.page(StatusCode::OK, self.say(Text::SignIn), |html| {
            html.markup("<p>")
                .text(self.say(Text::SignInTo))
                .markup(" <strong>");
            html.text(&form.client_name).markup("</strong></p>\n");
            error(html, problem);
            open_form(html, "kc-form-login", &action);
            field(html, self.say(label), |html| {
                html.markup(" id=\"username\" name=\"username\" type=\"text\"");
                html.markup(" autocomplete=\"username\" autocapitalize=\"none\"");
                html.markup(" spellcheck=\"false\" required");
                html.attribute("value", form.username.as_deref().unwrap_or_default());
                invalid(html, problem.is_some());
                if form.username.is_none() {
                    html.markup(" autofocus");
                }
                "username"
            });
            field(html, self.say(Text::Password), |html| {
                html.markup(" id=\"password\" name=\"password\" type=\"password\"");
                html.markup(" autocomplete=\"current-password\" required");
                invalid(html, problem.is_some());
                if form.username.is_some() {
                    html.markup(" autofocus");
                }
                "password"
            });
            if form.offer_remember {
                html.markup("<div class=\"field choice\"><input type=\"checkbox\"");
                html.markup(" id=\"rememberMe\" name=\"rememberMe\" value=\"on\">");
                html.markup("<label for=\"rememberMe\">");
                html.text(self.say(Text::RememberMe))
                    .markup("</label></div>\n");
            }
            button(html, "kc-login", "login", self.say(Text::SignInButton));
            html.markup("</form>\n");
        })
    }

    /// The form for a new password.
    pub(crate) fn new_password(&self, form: &PasswordForm) -> Reply {
        let path = "login-actions/required-action";
        let action = self.action(path, &form.ticket, &form.client_id);
        let problem = form.problem.as_ref().map(|problem| match problem {
            NewPasswordProblem::Missing => self.say(Text::PasswordMissing),
            NewPasswordProblem::Mismatch => self.say(Text::PasswordMismatch),
            NewPasswordProblem::TooLong => self.say(Text::PasswordTooLong),
            NewPasswordProblem::Unchanged => self.say(Text::PasswordUnchanged),
            NewPasswordProblem::Policy(_) => self.say(Text::PasswordPolicy),
        });
        let rule = match &form.problem {
            Some(NewPasswordProblem::Policy(rule)) => Some(rule.as_str()),
            _ => None,
        };
        self.page(StatusCode::OK, self.say(Text::NewPasswordTitle), |html| {
            html.markup("<p>")
                .text(self.say(Text::NewPasswordHint))
                .markup("</p>\n");
            error(html, problem);
            if let Some(rule) = rule {
                html.markup("<p>").text(rule).markup("</p>\n");
            }
            open_form(html, "kc-passwd-update-form", &action);
            // Tells password stores whose password it is.
            html.markup("<input type=\"text\" hidden readonly autocomplete=\"username\"");
            html.attribute("value", &form.username).markup(">\n");
            field(html, self.say(Text::NewPassword), |html| {
                html.markup(" id=\"password-new\" name=\"password-new\" type=\"password\"");
                html.markup(" autocomplete=\"new-password\" required autofocus");
                invalid(html, problem.is_some());
                "password-new"
            });
            field(html, self.say(Text::RepeatPassword), |html| {
                html.markup(" id=\"password-confirm\" name=\"password-confirm\" type=\"password\"");
                html.markup(" autocomplete=\"new-password\" required");
                invalid(html, problem.is_some());
                "password-confirm"
            });
            button(html, "kc-submit", "submitAction", self.say(Text::Submit));
            html.markup("</form>\n");
        })
    }

    /// An error that there is no client to tell.
    pub(crate) fn error(&self, status: StatusCode, text: Text, what: Option<&str>) -> Reply {
        let title = match text {
            Text::Expired => Text::ExpiredTitle,
            _ => Text::Sorry,
        };
        self.page(status, self.say(title), |html| {
            html.markup("<p id=\"kc-error-message\" role=\"alert\" class=\"error\">");
            html.text(self.say(text));
            if let Some(what) = what {
                html.markup(" ").text(what);
            }
            html.markup("</p>\n");
        })
    }

    /// The question whether to log out.
    pub(crate) fn logout(&self, form: &LogoutForm) -> Reply {
        let ticket = assets::encode(&form.ticket);
        let path = "protocol/openid-connect/logout/logout-confirm";
        let action = format!("{}/{path}?session_code={ticket}", self.issuer);
        self.page(StatusCode::OK, self.say(Text::LogoutTitle), |html| {
            html.markup("<p>")
                .text(self.say(Text::LogoutQuestion))
                .markup("</p>\n");
            open_form(html, "kc-logout-confirm", &action);
            button(
                html,
                "kc-logout",
                "confirmLogout",
                self.say(Text::LogoutButton),
            );
            html.markup("</form>\n");
        })
    }

    /// Something is done.
    pub(crate) fn done(&self, title: Text, text: Text) -> Reply {
        self.page(StatusCode::OK, self.say(title), |html| {
            html.markup("<p role=\"status\">")
                .text(self.say(text))
                .markup("</p>\n");
        })
    }

    /// The form for a device's code.
    pub(crate) fn device_code(&self, wrong: bool) -> Reply {
        let action = format!("{}/device", self.issuer);
        let problem = wrong.then(|| self.say(Text::DeviceCodeWrong));
        self.page(StatusCode::OK, self.say(Text::DeviceTitle), |html| {
            html.markup("<p>")
                .text(self.say(Text::DeviceHint))
                .markup("</p>\n");
            error(html, problem);
            open_form(html, "kc-user-verify-device-user-code-form", &action);
            field(html, self.say(Text::DeviceCode), |html| {
                html.markup(" id=\"device-user-code\" name=\"device_user_code\" type=\"text\"");
                html.markup(" autocomplete=\"off\" autocapitalize=\"characters\"");
                html.markup(" spellcheck=\"false\" required autofocus");
                invalid(html, wrong);
                "device-user-code"
            });
            button(html, "kc-submit", "submit", self.say(Text::Submit));
            html.markup("</form>\n");
        })
    }

    /// The question whether a device may have tokens.
    pub(crate) fn device_question(&self, form: &DeviceForm) -> Reply {
        let action = format!("{}/device", self.issuer);
        self.page(
            StatusCode::OK,
            self.say(Text::DeviceQuestionTitle),
            |html| {
                html.markup("<p>")
                    .text(self.say(Text::DeviceQuestion))
                    .markup(" <strong>");
                html.text(&form.client_name).markup("</strong></p>\n<p>");
                html.text(self.say(Text::DeviceAs)).markup(" <strong>");
                html.text(&form.username).markup("</strong></p>\n<p>");
                html.text(self.say(Text::DeviceWarning)).markup("</p>\n");
                open_form(html, "kc-device-grant", &action);
                html.hidden("session_code", &form.ticket);
                button(html, "kc-login", "accept", self.say(Text::Allow));
                html.markup(
                    "<button type=\"submit\" class=\"second\" id=\"kc-cancel\" name=\"cancel\"",
                );
                html.markup(" value=\"true\">")
                    .text(self.say(Text::Deny))
                    .markup("</button>\n");
                html.markup("</form>\n");
            },
        )
    }

    /// The question what a client may do.
    pub(crate) fn consent(&self, form: &ConsentForm) -> Reply {
        let path = "login-actions/consent";
        let action = self.action(path, &form.ticket, &form.client_id);
        self.page(StatusCode::OK, self.say(Text::ConsentTitle), |html| {
            html.markup("<p><strong>").text(&form.client_name);
            html.markup("</strong> ")
                .text(self.say(Text::ConsentQuestion))
                .markup("</p>\n");
            if !form.items.is_empty() {
                html.markup("<ul id=\"kc-oauth-scopes\">\n");
                for item in &form.items {
                    html.markup("<li>").text(self.consent_text(item));
                    html.markup("</li>\n");
                }
                html.markup("</ul>\n");
            }
            open_form(html, "kc-oauth", &action);
            button(html, "kc-login", "accept", self.say(Text::Allow));
            html.markup(
                "<button type=\"submit\" class=\"second\" id=\"kc-cancel\" name=\"cancel\"",
            );
            html.markup(" value=\"true\">")
                .text(self.say(Text::Deny))
                .markup("</button>\n");
            html.markup("</form>\n");
        })
    }

    /// The text of what a client asks for; keys of translations that are not known give way to the name.
    fn consent_text<'t>(&self, item: &'t ConsentItem) -> &'t str {
        if !item.text.starts_with("${") {
            return &item.text;
        }
        Text::of_key(&item.text).map_or(&item.name, |text| self.say(text))
    }

    /// Lets clients end their sessions in frames, then goes on.
    pub(crate) fn frames(&self, frames: &[LogoutFrame], back: Option<&Return>) -> Reply {
        let mut origins: Vec<String> = frames.iter().filter_map(|it| origin_of(&it.url)).collect();
        origins.sort_unstable();
        origins.dedup();
        let policy = format!(
            "default-src 'none'; style-src 'self'; script-src 'self'; base-uri 'none'; \
             frame-ancestors 'self'; frame-src {}",
            origins.join(" ")
        );
        let next = back.map(url_of);
        let title = self.say(Text::LogoutTitle);
        let status = StatusCode::OK;
        let mut reply = self.page_with(status, title, &policy, |html| {
            html.markup("<p>")
                .text(self.say(Text::LogoutFrames))
                .markup("</p>\n<ul>\n");
            for frame in frames {
                html.markup("<li>").text(&frame.client_name);
                html.markup("<iframe hidden");
                html.attribute("title", &frame.client_name);
                html.attribute("src", &frame.url)
                    .markup("></iframe></li>\n");
            }
            html.markup("</ul>\n");
            if let Some(next) = &next {
                html.markup("<p><a id=\"kc-continue\"")
                    .attribute("href", next);
                html.markup(">").text(self.say(Text::Continue));
                html.markup("</a></p>\n<script");
                let script = assets::script_url(self.base, Script::Logout);
                html.attribute("src", &script).markup("></script>\n");
            } else {
                html.markup("<p role=\"status\">");
                html.text(self.say(Text::LoggedOutTitle)).markup("</p>\n");
            }
        });
        if let Some(next) = next {
            // Without scripts, and when a client's page does not come.
            let text = format!("{FRAMES_S};url={next}");
            reply = reply::with(reply, HeaderName::from_static("refresh"), &text);
        }
        reply
    }

    /// A form that brings a response to the client.
    pub(crate) fn form_post(&self, back: &Return) -> Reply {
        let title = self.say(Text::ContinueTitle);
        self.page_with(StatusCode::OK, title, POSTING_POLICY, |html| {
            open_form(html, "form-post", &back.redirect_uri);
            for (name, value) in &back.parameters {
                html.hidden(name, value);
            }
            // Without a name: the client gets the parameters alone.
            html.markup("<button type=\"submit\">")
                .text(self.say(Text::Continue));
            html.markup("</button>\n</form>\n<script");
            html.attribute("src", &assets::script_url(self.base, Script::FormPost));
            html.markup("></script>\n");
        })
    }
}

/// Scheme, host and port of a URL that may stand in a policy.
fn origin_of(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?']).next()?;
    Some(format!("{scheme}://{authority}"))
}

fn open_form(html: &mut Html, id: &'static str, action: &str) {
    html.markup("<form method=\"post\"").attribute("id", id);
    html.attribute("action", action).markup(">\n");
}

/// A labelled input; `attributes` writes its attributes and gives its id.
fn field(html: &mut Html, label: &str, attributes: impl FnOnce(&mut Html) -> &'static str) {
    let mut input = Html::default();
    let id = attributes(&mut input);
    html.markup("<div class=\"field\"><label")
        .attribute("for", id)
        .markup(">");
    html.text(label).markup("</label><input").append(input);
    html.markup("></div>\n");
}

fn invalid(html: &mut Html, is: bool) {
    if is {
        html.markup(" aria-invalid=\"true\" aria-describedby=\"input-error\"");
    }
}

fn error(html: &mut Html, text: Option<&str>) {
    if let Some(text) = text {
        html.markup("<p class=\"error\" id=\"input-error\" role=\"alert\">");
        html.text(text).markup("</p>\n");
    }
}

fn button(html: &mut Html, id: &'static str, name: &'static str, label: &str) {
    html.markup("<button type=\"submit\" value=\"true\"")
        .attribute("id", id);
    html.attribute("name", name)
        .markup(">")
        .text(label)
        .markup("</button>\n");
}
