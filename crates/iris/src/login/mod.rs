//! Login in a browser, and what needs a person or a signed token instead of a secret: the code flow,
//! logout, the device grant, token exchange and client assertions.
//!
//! Nothing is written before a password was right: what a login must remember travels in a signed
//! ticket that is bound to the browser by a cookie.

mod action;
pub(crate) mod assertion;
pub(crate) mod client_keys;
pub(crate) mod code;
mod confirmation;
pub(crate) mod consent;
pub(crate) mod device;
pub(crate) mod exchange;
pub(crate) mod farewell;
mod flow;
mod logout;
mod pkce;
mod pushed;
mod redirect;
mod report;
mod request;
pub(crate) mod ticket;

use crate::Error;

pub use action::{NewPasswordProblem, PasswordForm};
pub use consent::{ConsentForm, ConsentItem};
pub use device::DeviceAuthorization;
pub use farewell::LogoutFrame;
pub use flow::{LoginForm, LoginProblem};
pub use logout::{LogoutForm, LogoutStep};
pub use pushed::{PushRefused, Pushed};
pub use request::{ResponseMode, Return};

/// The cookies of a browser, as far as it sent them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Browser<'a> {
    /// `AUTH_SESSION_ID`: binds forms to this browser.
    pub session: Option<&'a str>,
    /// `KEYCLOAK_IDENTITY`: the login.
    pub identity: Option<&'a str>,
}

/// A cookie with the login of a browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Keep this.
    Set {
        /// `KEYCLOAK_IDENTITY`.
        token: String,
        /// `KEYCLOAK_SESSION`: what pages may compare the login's id with, its SHA-256 in base64url.
        state: String,
        /// For so many seconds, or until the browser is closed.
        seconds: Option<i64>,
    },
    /// Forget it.
    Clear,
}

/// What a browser is shown or told.
#[derive(Clone, Debug)]
pub struct Outcome<T> {
    /// What comes next.
    pub step: T,
    /// New value of `AUTH_SESSION_ID`.
    pub session: Option<String>,
    /// What becomes of `KEYCLOAK_IDENTITY`.
    pub identity: Option<Identity>,
}

impl<T> Outcome<T> {
    pub(crate) fn plain(step: T) -> Self {
        Self {
            step,
            session: None,
            identity: None,
        }
    }
}

/// What comes next in a login.
#[derive(Clone, Debug)]
pub enum LoginStep {
    /// Back to the client.
    Return(Return),
    /// Ask for user name and password.
    Password(LoginForm),
    /// Ask for a new password.
    NewPassword(PasswordForm),
    /// Ask what the client may do.
    Consent(ConsentForm),
    /// Ask whether the device may have tokens.
    Device(device::DeviceForm),
    /// The device was allowed.
    DeviceAllowed,
    /// The device was refused.
    DeviceDenied,
}

/// An error a person is shown, because there is no client to tell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Page {
    /// A required parameter is missing.
    #[error("parameter {0} is missing")]
    MissingParameter(&'static str),
    /// A parameter has a value that is not acceptable.
    #[error("parameter {0} is invalid")]
    InvalidParameter(&'static str),
    /// There is no such client.
    #[error("client not found")]
    ClientNotFound,
    /// The client is disabled.
    #[error("client is disabled")]
    ClientDisabled,
    /// The client never logs anybody in.
    #[error("client is bearer-only")]
    BearerOnly,
    /// The client is no longer allowed the code flow.
    #[error("code flow is disabled for the client")]
    FlowOff,
    /// The page was open too long, or belongs to another login.
    #[error("login page has expired")]
    Expired,
    /// The browser did not send the cookie that the page came with.
    #[error("cookie is missing")]
    CookieMissing,
    /// The person has to do something first that no page here is for.
    #[error("required action {0:?} is not supported")]
    Action(String),
    /// The person is disabled.
    #[error("user is disabled")]
    UserDisabled,
    /// The address to go to after the logout is not the client's.
    #[error("redirect URI after logout is not registered")]
    LogoutRedirect,
}

/// A browser's request was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// With a page.
    #[error("refused with a page")]
    Page(#[from] Page),
    /// The identity provider itself failed.
    #[error("login failed")]
    Failed(#[from] Error),
}

impl From<o28m_store::Error> for LoginError {
    fn from(error: o28m_store::Error) -> Self {
        Self::Failed(error.into())
    }
}
