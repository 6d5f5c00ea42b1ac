//! What a login or logout in a browser reports as events (Keycloak 26.5 `EventType`).

use crate::Iris;
use crate::events::Event;
use crate::login::flow::Stage;
use crate::login::request::Request;
use crate::model::{Realm, User};
use crate::session::Login;
use crate::token::Origin;

/// Longest user name in an event.
const USERNAME_CHARS_MAX: usize = 255;

/// What is told about the request of every login event.
fn details<'a>(request: &'a Request, username: &'a str) -> Vec<(&'static str, &'a str)> {
    let mut details = vec![
        ("auth_method", "openid-connect"),
        ("auth_type", "code"),
        ("username", username),
    ];
    if !request.redirect_uri.is_empty() {
        details.push(("redirect_uri", &request.redirect_uri));
    }
    details
}

impl Iris {
    /// Somebody logged in, by password or by the login the browser had.
    pub(crate) fn report_login(&self, stage: &Stage<'_>, user: &User, login: &Login) {
        let details = details(&stage.request, user.username());
        self.event(
            stage.realm,
            &Event {
                kind: "LOGIN",
                client_id: Some(stage.client.client_id()),
                user_id: Some(&user.body.id),
                session_id: Some(&login.id),
                address: stage.origin.address,
                details: &details,
                ..Event::default()
            },
        );
    }

    /// Somebody failed to log in.
    pub(crate) fn report_refusal(
        &self,
        stage: &Stage<'_>,
        username: &str,
        user: Option<&User>,
        error: &'static str,
    ) {
        let username: String = username.chars().take(USERNAME_CHARS_MAX).collect();
        let details = details(&stage.request, &username);
        self.event(
            stage.realm,
            &Event {
                kind: "LOGIN_ERROR",
                client_id: Some(stage.client.client_id()),
                user_id: user.map(|user| user.body.id.as_str()),
                address: stage.origin.address,
                error: Some(error),
                details: &details,
                ..Event::default()
            },
        );
    }

    /// Somebody chose a new password.
    pub(crate) fn report_new_password(&self, stage: &Stage<'_>, user_id: &str) {
        self.event(
            stage.realm,
            &Event {
                kind: "UPDATE_PASSWORD",
                client_id: Some(stage.client.client_id()),
                user_id: Some(user_id),
                address: stage.origin.address,
                details: &[("custom_required_action", "UPDATE_PASSWORD")],
                ..Event::default()
            },
        );
    }

    /// A login ended.
    pub(crate) fn report_logout(
        &self,
        realm: &Realm,
        origin: Origin<'_>,
        client_id: Option<&str>,
        login: &Login,
    ) {
        self.event(
            realm,
            &Event {
                kind: "LOGOUT",
                client_id,
                user_id: Some(&login.user),
                session_id: Some(&login.id),
                address: origin.address,
                ..Event::default()
            },
        );
    }
}
