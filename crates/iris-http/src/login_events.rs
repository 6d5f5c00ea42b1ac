//! Which login event the outcome of a request to a protocol endpoint is.

use o28m_iris::{Event, GrantError, Iris, Realm, Tokens};
use o28m_telemetry::metrics::Registry;

/// Types of events that are counted (the chart's `KC_EVENT_METRICS_USER_EVENTS`).
const COUNTED: &[(&str, &str)] = &[
    ("LOGIN", "login"),
    ("LOGOUT", "logout"),
    ("CLIENT_LOGIN", "client_login"),
];
/// The error whose client id is whatever a stranger sent.
const UNKNOWN_CLIENT: &str = "client_not_found";

/// Counts an event, with the client's id where there is such a client.
pub(crate) fn count(metrics: &Registry, realm: &Realm, event: &Event<'_>) {
    let kind = event.kind.strip_suffix("_ERROR").unwrap_or(event.kind);
    let Some((_, name)) = COUNTED.iter().find(|(counted, _)| *counted == kind) else {
        return;
    };
    let error = event.error.unwrap_or_default();
    let client = event
        .client_id
        .filter(|_| error != UNKNOWN_CLIENT)
        .unwrap_or_default();
    let labels = [
        ("client_id", client),
        ("error", error),
        ("event", *name),
        ("realm", realm.name()),
    ];
    let help = "Logins, logouts and logins of clients.";
    metrics
        .counter("keycloak_user_events_total", help, &labels)
        .add(1);
}

/// The type of a grant's event and of its error (Keycloak 26.5 `EventType`).
const fn kinds(grant: &str) -> Option<(&'static str, &'static str)> {
    match grant.as_bytes() {
        b"client_credentials" => Some(("CLIENT_LOGIN", "CLIENT_LOGIN_ERROR")),
        b"password" => Some(("LOGIN", "LOGIN_ERROR")),
        b"refresh_token" => Some(("REFRESH_TOKEN", "REFRESH_TOKEN_ERROR")),
        b"authorization_code" => Some(("CODE_TO_TOKEN", "CODE_TO_TOKEN_ERROR")),
        b"urn:ietf:params:oauth:grant-type:token-exchange" => {
            Some(("TOKEN_EXCHANGE", "TOKEN_EXCHANGE_ERROR"))
        }
        b"urn:ietf:params:oauth:grant-type:device_code" => Some((
            "OAUTH2_DEVICE_CODE_TO_TOKEN",
            "OAUTH2_DEVICE_CODE_TO_TOKEN_ERROR",
        )),
        _ => None,
    }
}

/// Longest user name in an event.
const USERNAME_CHARS_MAX: usize = 255;

/// A request to the token endpoint.
pub(crate) struct Asked<'a> {
    pub(crate) grant: &'a str,
    pub(crate) client_id: Option<&'a str>,
    pub(crate) username: Option<&'a str>,
    pub(crate) address: &'a str,
}

/// Reports the outcome of a grant.
pub(crate) fn granted(
    iris: &Iris,
    realm: &Realm,
    asked: &Asked<'_>,
    outcome: Result<&Tokens, &GrantError>,
) {
    let Some((success, failure)) = kinds(asked.grant) else {
        return;
    };
    let mut details = vec![("grant_type", asked.grant)];
    let username: Option<String> = asked
        .username
        .map(|name| name.chars().take(USERNAME_CHARS_MAX).collect());
    if let Some(username) = &username {
        details.push(("username", username));
    }
    let base = Event {
        client_id: asked.client_id,
        address: asked.address,
        ..Event::default()
    };
    let event = match outcome {
        Ok(tokens) => {
            details.push(("scope", &tokens.scope));
            Event {
                kind: success,
                user_id: Some(&tokens.user_id),
                session_id: tokens.session_state.as_deref(),
                details: &details,
                ..base
            }
        }
        // What fails on our side says nothing about who asked.
        Err(GrantError::Failed(_)) => return,
        Err(error) => Event {
            kind: failure,
            error: Some(error.event_code()),
            details: &details,
            ..base
        },
    };
    iris.event(realm, &event);
}
