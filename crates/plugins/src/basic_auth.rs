//! basic-auth: knows consumers by user name and password (Kong 3.9.3; RFC 7617).

use std::fmt::Write as _;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHORIZATION};
use o28m_gateway::{
    Access, BadConfig, Credential, Exchange, Plugin, PluginKind, Snapshot, StoredCredential,
    Verdict,
};
use serde::Deserialize;
use serde_json::Value;

use crate::{config, identity};

/// Longest user name and password that are looked at.
const BYTES_MAX: usize = 8 * 1024;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    anonymous: Option<String>,
    hide_credentials: bool,
    realm: Option<String>,
}

pub(crate) struct Kind;

impl PluginKind for Kind {
    fn name(&self) -> &'static str {
        "basic-auth"
    }

    fn priority(&self) -> i32 {
        1100
    }

    fn configure(&self, config: &Value) -> Result<Arc<dyn Plugin>, BadConfig> {
        let config: Config = config::read(config)?;
        let realm = config.realm.as_deref().unwrap_or("service");
        Ok(Arc::new(BasicAuth {
            anonymous: config.anonymous,
            hide_credentials: config.hide_credentials,
            challenge: identity::challenge("Basic", Some(realm))?,
        }))
    }
}

struct BasicAuth {
    anonymous: Option<String>,
    hide_credentials: bool,
    challenge: HeaderValue,
}

/// A user name and a password from a header.
struct Given {
    header: HeaderName,
    username: String,
    password: String,
}

fn given(headers: &HeaderMap, header: HeaderName) -> Option<Given> {
    let value = headers.get(&header)?.to_str().ok()?.trim();
    let scheme = value.get(..5)?;
    let encoded = value.get(5..)?.trim();
    if !scheme.eq_ignore_ascii_case("basic") || encoded.len() > BYTES_MAX {
        return None;
    }
    let decoded = String::from_utf8(identity::base64(encoded)?).ok()?;
    let (username, password) = decoded.split_once(':')?;
    (!username.is_empty()).then(|| Given {
        header,
        username: username.to_owned(),
        password: password.to_owned(),
    })
}

fn find<'a>(snapshot: &'a Snapshot, given: &Given) -> Option<&'a Arc<StoredCredential>> {
    snapshot.credential("basicauth_credentials", &given.username)
}

/// Whether the password is the stored one. Takes as long for nobody's password as for somebody's.
fn is_right(credential: Option<&Arc<StoredCredential>>, password: &str) -> bool {
    let consumer = credential.map_or("", |it| it.consumer_id.as_str());
    let hash = sha1_hex(format!("{password}{consumer}").as_bytes());
    let stored = credential.and_then(|it| it.document.get("password")?.as_str());
    let stored = stored.unwrap_or("none");
    verify_slices_are_equal(hash.as_bytes(), stored.as_bytes()).is_ok()
}

fn sha1_hex(bytes: &[u8]) -> String {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes);
    let mut text = String::with_capacity(40);
    for byte in hash.as_ref() {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
    }
    text
}

impl BasicAuth {
    /// Whether the caller is known now.
    fn authenticate(&self, exchange: &mut Exchange) -> bool {
        let snapshot = exchange.snapshot.clone();
        let headers = &exchange.request.headers;
        let to_proxy =
            given(headers, PROXY_AUTHORIZATION).filter(|it| find(&snapshot, it).is_some());
        let Some(given) = to_proxy.or_else(|| given(headers, AUTHORIZATION)) else {
            return false;
        };
        let credential = find(&snapshot, &given);
        let is_right = is_right(credential, &given.password);
        let Some(credential) = credential.filter(|_| is_right) else {
            return false;
        };
        let Some(consumer) = snapshot.consumer(&credential.consumer_id) else {
            return false;
        };
        if self.hide_credentials {
            exchange.request.headers.remove(&given.header);
        }
        let credential = Credential {
            id: Some(credential.id.clone()),
            identifier: Some(given.username),
        };
        identity::authenticate(exchange, consumer.clone(), Some(credential));
        true
    }
}

impl Plugin for BasicAuth {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        if self.anonymous.is_some() && exchange.credential.is_some() {
            return Access::CONTINUE;
        }
        let verdict = match (self.authenticate(exchange), &self.anonymous) {
            (true, _) => Verdict::Continue,
            (false, Some(anonymous)) => identity::fall_back(exchange, anonymous),
            (false, None) => {
                let message = "Unauthorized";
                Verdict::Respond(identity::unauthorized(exchange, message, &self.challenge))
            }
        };
        Access::Now(verdict)
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use o28m_net::Body;
    use serde_json::json;

    use super::*;
    use crate::testing::{access, exchange};

    const ROVER: &str = "cm92ZXI6aHVudGVyMg=="; // rover:hunter2
    const WRONG: &str = "cm92ZXI6aHVudGVyMw=="; // rover:hunter3
    const UNKNOWN: &str = "bm9ib2R5Omh1bnRlcjI="; // nobody:hunter2

    /// Status (0 passes), challenge and the exchange afterwards.
    async fn ask(config: Value, headers: &[(&str, &str)]) -> (u16, String, Exchange) {
        let plugin = Kind.configure(&config).unwrap();
        let mut request = Request::get("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut exchange = exchange(request.body(Body::Empty).unwrap());
        match access(plugin.as_ref(), &mut exchange).await {
            Verdict::Continue => (0, String::new(), exchange),
            Verdict::Respond(response) => {
                let challenge = response.headers().get("www-authenticate");
                let challenge = challenge.map_or("", |it| it.to_str().unwrap()).to_owned();
                (response.status().as_u16(), challenge, exchange)
            }
        }
    }

    #[tokio::test]
    async fn plugins_case_073_who_is_not_known_is_refused() {
        let challenge = "Basic realm=\"service\"";
        for value in [
            "",
            "Basic",
            "Basic !!!",
            "Basic cm92ZXI=",
            "Basic Omh1bnRlcjI=",
            "Bearer cm92ZXI6aHVudGVyMg==",
            "\u{e4}",
            &format!("Basic {WRONG}"),
            &format!("Basic {UNKNOWN}"),
        ] {
            let headers = [("authorization", value)];
            let (status, told, exchange) = ask(json!({}), &headers).await;
            assert_eq!((status, told.as_str()), (401, challenge), "{value}");
            assert!(exchange.consumer.is_none());
        }
        let (status, told, _) = ask(json!({"realm": "x"}), &[]).await;
        assert_eq!((status, told.as_str()), (401, "Basic realm=\"x\""));
    }

    #[tokio::test]
    async fn plugins_case_073_who_is_known_passes() {
        for value in ["Basic ", "basic ", "BASIC", " Basic  "] {
            let value = format!("{value}{ROVER}");
            let config = json!({"hide_credentials": true});
            let (status, _, exchange) = ask(config, &[("authorization", &value)]).await;
            assert_eq!(status, 0, "{value}");
            assert_eq!(exchange.header("authorization"), None);
            assert_eq!(exchange.header("x-credential-identifier"), Some("rover"));
            assert_eq!(exchange.header("x-consumer-username"), Some("rover"));
        }
        let value = format!("Basic {ROVER}");
        let (_, _, exchange) = ask(json!({}), &[("authorization", &value)]).await;
        assert_eq!(exchange.header("authorization"), Some(value.as_str()));
    }

    #[tokio::test]
    async fn the_proxys_header_comes_first_when_it_names_somebody() {
        let (rover, wrong) = (format!("Basic {ROVER}"), format!("Basic {WRONG}"));
        let unknown = format!("Basic {UNKNOWN}");
        for (proxy, direct, expected) in [
            (&rover, &wrong, 0),
            (&wrong, &rover, 401),
            (&unknown, &rover, 0),
        ] {
            let headers = [
                ("proxy-authorization", proxy.as_str()),
                ("authorization", direct.as_str()),
            ];
            assert_eq!(ask(json!({}), &headers).await.0, expected);
        }
    }

    #[tokio::test]
    async fn anonymous_callers_may_pass() {
        let (status, _, exchange) = ask(json!({"anonymous": "lonely"}), &[]).await;
        assert_eq!(status, 0);
        assert_eq!(exchange.header("x-anonymous-consumer"), Some("true"));
        assert!(exchange.credential.is_none());
    }
}
