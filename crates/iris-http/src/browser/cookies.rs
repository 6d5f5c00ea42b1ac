//! The cookies of a login (Keycloak's names).

use http::HeaderMap;
use http::header::{COOKIE, HeaderValue, SET_COOKIE};
use o28m_iris::{Browser, Identity};

use crate::base::Base;
use crate::reply::Reply;

/// Binds forms to the browser.
const SESSION: &str = "AUTH_SESSION_ID";
/// The login.
const IDENTITY: &str = "KEYCLOAK_IDENTITY";
/// What pages may see of the login: whether it is still the one they know.
const STATE: &str = "KEYCLOAK_SESSION";

/// The cookies a browser sent; of several of one name, the first.
pub(crate) fn read(headers: &HeaderMap) -> Browser<'_> {
    let find = |wanted: &str| {
        let lines = headers.get_all(COOKIE).iter();
        lines
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(name, _)| *name == wanted)
            .map(|(_, value)| value)
    };
    Browser {
        session: find(SESSION),
        identity: find(IDENTITY),
    }
}

/// Where the cookies of a realm hold.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    path: String,
    secure: bool,
}

impl Place {
    pub(crate) fn of(base: &Base, realm: &str) -> Self {
        let rest = base.url.split_once("://").map_or("", |(_, rest)| rest);
        let path = rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("");
        Self {
            path: format!("{path}/realms/{realm}/"),
            secure: base.secure || base.url.starts_with("https:"),
        }
    }

    fn set(&self, reply: &mut Reply, name: &str, value: &str, seconds: Option<i64>) {
        let path = &self.path;
        let hidden = if name == STATE { "" } else { "; HttpOnly" };
        let mut text = format!("{name}={value}; Path={path}{hidden}");
        // Clients renew logins in frames of other sites, where only SameSite=None is sent; browsers
        // take that over TLS alone.
        text.push_str(if self.secure {
            "; Secure; SameSite=None"
        } else {
            "; SameSite=Lax"
        });
        if let Some(seconds) = seconds {
            text.push_str(&format!("; Max-Age={seconds}"));
        }
        if let Ok(value) = HeaderValue::from_str(&text) {
            reply.headers_mut().append(SET_COOKIE, value);
        }
    }

    /// Sets what an outcome changes.
    pub(crate) fn apply(
        &self,
        mut reply: Reply,
        session: Option<&str>,
        identity: Option<&Identity>,
    ) -> Reply {
        if let Some(value) = session {
            self.set(&mut reply, SESSION, value, None);
        }
        match identity {
            Some(Identity::Set {
                token,
                state,
                seconds,
            }) => {
                self.set(&mut reply, IDENTITY, token, *seconds);
                self.set(&mut reply, STATE, state, *seconds);
            }
            Some(Identity::Clear) => {
                self.set(&mut reply, IDENTITY, "", Some(0));
                self.set(&mut reply, STATE, "", Some(0));
            }
            None => {}
        }
        reply
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, "a=1; AUTH_SESSION_ID=x=y".parse().unwrap());
        headers.append(
            COOKIE,
            "KEYCLOAK_IDENTITY=t; AUTH_SESSION_ID=z".parse().unwrap(),
        );
        let browser = read(&headers);
        assert_eq!(browser.session, Some("x=y"));
        assert_eq!(browser.identity, Some("t"));
    }

    #[test]
    fn cookies_hold_below_the_realm() {
        let base = |url: &str, secure| Base {
            url: url.to_owned(),
            secure,
            address: String::new(),
        };
        let text = |base: &Base| {
            let place = Place::of(base, "r");
            let reply = place.apply(crate::reply::no_content(), Some("v"), None);
            reply.headers()[SET_COOKIE].to_str().unwrap().to_owned()
        };
        assert_eq!(
            text(&base("https://iris.example/auth", false)),
            "AUTH_SESSION_ID=v; Path=/auth/realms/r/; HttpOnly; Secure; SameSite=None"
        );
        assert_eq!(
            text(&base("http://iris.example", false)),
            "AUTH_SESSION_ID=v; Path=/realms/r/; HttpOnly; SameSite=Lax"
        );
    }
}
