//! Telling clients that a login ended: by calls from here (OpenID Connect Back-Channel Logout 1.0) and in
//! frames of the browser (OpenID Connect Front-Channel Logout 1.0).

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::login::redirect;
use crate::login::request::base_of;
use crate::model::{Client, ClientBody, Fields as _, Realm, kind};
use crate::session::Login;
use crate::token::Origin;
use crate::{Error, Iris};

/// Member of a logout token that makes it one.
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// Member that asks clients to forget offline tokens, too (Keycloak 26.5).
const REVOKE_OFFLINE: &str = "revoke_offline_access";
/// Seconds a logout token holds (Back-Channel Logout 1.0 section 2.4: at most two minutes).
const LIFE_S: i64 = 120;
/// Calls made at once, for all requests together.
const CALLS_MAX: usize = 32;
/// How long a logout waits for the clients it tells.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest URL that is put into a frame.
const FRAME_BYTES_MAX: usize = 2000;

/// A client to tell, and the token that tells it.
struct Farewell {
    client: String,
    url: String,
    token: String,
}

/// A client's page that ends its own session when a browser loads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogoutFrame {
    /// What the client is called.
    pub client_name: String,
    /// The page.
    pub url: String,
}

/// A bound on calls.
pub(crate) fn lines() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(CALLS_MAX))
}

impl Iris {
    /// Ends a login, and tells the clients that want to know. Whom the call does not reach in time is not
    /// called again.
    pub(crate) async fn log_out(
        &self,
        realm: &Arc<Realm>,
        login: &Login,
        origin: Origin<'_>,
    ) -> Result<(), Error> {
        let farewells = self.farewells(realm, login, origin).await?;
        self.end_login(realm.id(), &login.id).await?;
        self.say(farewells).await;
        Ok(())
    }

    /// Ends these logins and tells their clients.
    pub(crate) async fn log_out_all(
        &self,
        realm: &Arc<Realm>,
        logins: &[Login],
        origin: Origin<'_>,
    ) -> Result<(), Error> {
        let mut farewells = Vec::new();
        for login in logins {
            farewells.extend(self.farewells(realm, login, origin).await?);
            self.end_login(realm.id(), &login.id).await?;
        }
        self.say(farewells).await;
        Ok(())
    }

    /// The clients of a login that are still there.
    async fn clients_of(&self, realm: &Realm, login: &Login) -> Result<Vec<Client>, Error> {
        let mut clients = Vec::new();
        for id in login.clients.keys() {
            let found = self
                .read::<ClientBody>(kind::CLIENT, realm.id(), id)
                .await?;
            let Some((body, _)) = found.filter(|(body, _)| body.rep.flag("enabled")) else {
                continue;
            };
            clients.push(Client::compile(body));
        }
        Ok(clients)
    }

    async fn farewells(
        &self,
        realm: &Arc<Realm>,
        login: &Login,
        origin: Origin<'_>,
    ) -> Result<Vec<Farewell>, Error> {
        let mut farewells = Vec::new();
        for client in self.clients_of(realm, login).await? {
            let Some(url) = own_url(realm, &client, "backchannel.logout.url", origin) else {
                continue;
            };
            let token = self.logout_token(realm, &client, login, origin).await?;
            farewells.push(Farewell {
                client: client.client_id().to_owned(),
                url,
                token,
            });
        }
        Ok(farewells)
    }

    async fn logout_token(
        &self,
        realm: &Arc<Realm>,
        client: &Client,
        login: &Login,
        origin: Origin<'_>,
    ) -> Result<String, Error> {
        let now_s = self.ambient.now().seconds();
        let part = login.clients.get(&client.body.id);
        // The issuer the client knows; an administrator may come by another name of this server.
        let issuer = part.map(|part| part.issuer.as_str());
        let issuer = issuer.filter(|it| !it.is_empty()).unwrap_or(origin.issuer);
        let mut events = Map::new();
        events.insert(EVENT.to_owned(), json!({}));
        if client.attribute_is("backchannel.logout.revoke.offline.tokens") {
            events.insert(REVOKE_OFFLINE.to_owned(), json!(true));
        }
        let mut claims = Map::new();
        claims.insert("iat".to_owned(), json!(now_s));
        claims.insert("exp".to_owned(), json!(now_s.saturating_add(LIFE_S)));
        claims.insert("jti".to_owned(), json!(self.ambient.uuid()));
        claims.insert("iss".to_owned(), json!(issuer));
        claims.insert("aud".to_owned(), json!(client.client_id()));
        claims.insert("sub".to_owned(), json!(login.user));
        claims.insert("typ".to_owned(), json!("Logout"));
        if client.attribute_is("backchannel.logout.session.required") {
            claims.insert("sid".to_owned(), json!(login.id));
        }
        claims.insert("events".to_owned(), events.into());
        let key = self
            .signing_key(realm, client, "id.token.signed.response.alg")
            .await?;
        Ok(self.sign(key, "logout+jwt", &claims).await?.0)
    }

    /// Calls the clients side by side, and waits for them a while.
    async fn say(&self, farewells: Vec<Farewell>) {
        let mut calls = JoinSet::new();
        for farewell in farewells {
            let (web, lines) = (self.web(), Arc::clone(&self.lines));
            calls.spawn(async move {
                let Farewell { client, url, token } = farewell;
                // The semaphore is never closed.
                let _line = lines.acquire_owned().await;
                let form = format!("logout_token={token}");
                let sent = match web {
                    Ok(web) => web.post(&url, form).await,
                    Err(off) => Err(off),
                };
                if let Err(error) = sent {
                    tracing::warn!(client.id = client, %error, "client was not told of a logout");
                }
            });
        }
        let all = async { while calls.join_next().await.is_some() {} };
        if tokio::time::timeout(PATIENCE, all).await.is_err() {
            tracing::warn!("clients take too long to hear of a logout");
        }
    }

    /// The pages of the clients of a login that end their sessions in the browser.
    pub(crate) async fn frames(
        &self,
        realm: &Realm,
        login: &Login,
        origin: Origin<'_>,
    ) -> Result<Vec<LogoutFrame>, Error> {
        let mut frames = Vec::new();
        for client in self.clients_of(realm, login).await? {
            if !client.body.rep.flag("frontchannelLogout") {
                continue;
            }
            let Some(url) = own_url(realm, &client, "frontchannel.logout.url", origin) else {
                continue;
            };
            let Some(mut url) = frame_url(url) else {
                continue;
            };
            let name = "frontchannel.logout.session.required";
            if client.attribute(name) != Some("false") {
                let mark = if url.contains('?') { '&' } else { '?' };
                let issuer = redirect::encode(origin.issuer);
                url.push_str(&format!("{mark}iss={issuer}&sid={}", login.id));
            }
            frames.push(LogoutFrame {
                client_name: client.display_name().to_owned(),
                url,
            });
        }
        Ok(frames)
    }
}

/// A URL among a client's attributes, absolute.
fn own_url(realm: &Realm, client: &Client, name: &str, origin: Origin<'_>) -> Option<String> {
    let url = client.attribute(name).map(str::trim)?;
    if url.is_empty() {
        return None;
    }
    let base = base_of(realm, origin.issuer);
    redirect::resolve(client, base, vec![url.to_owned()]).pop()
}

/// A URL that may stand in a frame and in a policy that allows the frame.
fn frame_url(url: String) -> Option<String> {
    let is_web = url.starts_with("https://") || url.starts_with("http://");
    let sound = |it: u8| it.is_ascii_graphic() && !b"\"'<>;,*`\\{}|^#".contains(&it);
    let fits = is_web && url.len() <= FRAME_BYTES_MAX && url.bytes().all(sound);
    fits.then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_hold_plain_urls_alone() {
        let fits = |url: &str| frame_url(url.to_owned()).is_some();
        assert!(fits("https://app.example/out?x=1"));
        for url in [
            "javascript:alert(1)",
            "https://app.example/;script-src *",
            "https://app.example/ x",
            "https://app.example/\"",
            "//app.example/",
        ] {
            assert!(!fits(url), "{url}");
        }
    }
}
