//! A browser: it keeps cookies, fills in forms and follows nothing on its own.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use serde_json::{Value, json};

use crate::harness::{Client, Reply, World};

/// Where the test client wants its responses.
pub(crate) const CALLBACK: &str = "https://app.example/cb";
/// A proof key and its S256 challenge.
pub(crate) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

pub(crate) fn challenge() -> String {
    o28m_jose::base64url(digest::digest(&digest::SHA256, VERIFIER.as_bytes()).as_ref())
}

/// A value in a URL or form.
pub(crate) fn encode(value: &str) -> String {
    let plain = |it: u8| it.is_ascii_alphanumeric() || b"-._~".contains(&it);
    let one = |it: u8| {
        if plain(it) {
            char::from(it).to_string()
        } else {
            format!("%{it:02X}")
        }
    };
    value.bytes().map(one).collect()
}

pub(crate) fn form(pairs: &[(&str, &str)]) -> String {
    let one = |(name, value): &(&str, &str)| format!("{name}={}", encode(value));
    pairs.iter().map(one).collect::<Vec<_>>().join("&")
}

/// The parameters of a URL's query or fragment.
pub(crate) fn parameters(url: &str) -> BTreeMap<String, String> {
    let at = url.find(['?', '#']).unwrap_or(url.len() - 1);
    let parsed = o28m_oauth::Form::parse(&url.as_bytes()[at + 1..]).unwrap();
    let names = url[at + 1..]
        .split(['&', '?', '#'])
        .filter_map(|it| it.split_once('='));
    names
        .map(|(name, _)| {
            (
                name.to_owned(),
                parsed.get(name).unwrap_or_default().to_owned(),
            )
        })
        .collect()
}

/// The value of an attribute, decoded, of the first tag that has it after `from`.
pub(crate) fn attribute(html: &str, from: &str, name: &str) -> String {
    let rest = &html[html
        .find(from)
        .unwrap_or_else(|| panic!("no {from} in {html}"))..];
    let start = format!(" {name}=\"");
    let rest = &rest[rest
        .find(&start)
        .unwrap_or_else(|| panic!("no {name} in {rest}"))
        + start.len()..];
    let value = &rest[..rest.find('"').unwrap()];
    value
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#39;", "'")
        .replace("&amp;", "&")
}

pub(crate) fn text(reply: &Reply) -> String {
    String::from_utf8(reply.body.to_vec()).unwrap()
}

/// A browser.
#[derive(Clone)]
pub(crate) struct Visitor {
    pub(crate) http: Client,
    pub(crate) cookies: BTreeMap<String, String>,
}

impl Visitor {
    pub(crate) fn new(world: &World) -> Self {
        Self {
            http: world.http.clone(),
            cookies: BTreeMap::new(),
        }
    }

    fn client(&self) -> Client {
        let pairs: Vec<_> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if pairs.is_empty() {
            return self.http.clone();
        }
        self.http.with("cookie", &pairs.join("; "))
    }

    fn keep(&mut self, reply: &Reply) {
        for line in reply.headers.get_all("set-cookie") {
            let line = line.to_str().unwrap();
            let (pair, _) = line.split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if line.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    pub(crate) async fn get(&mut self, url: &str) -> Reply {
        let reply = self.client().get(url).await;
        self.keep(&reply);
        reply
    }

    pub(crate) async fn post(&mut self, url: &str, fields: &[(&str, &str)]) -> Reply {
        let reply = self.client().form(url, &form(fields)).await;
        self.keep(&reply);
        reply
    }

    /// Fills in the form of a page.
    pub(crate) async fn submit(&mut self, page: &Reply, fields: &[(&str, &str)]) -> Reply {
        let action = attribute(&text(page), "<form", "action");
        self.post(&action, fields).await
    }

    /// Goes through the login form; gives what came of it.
    pub(crate) async fn log_in(&mut self, url: &str, name: &str, password: &str) -> Reply {
        let page = self.get(url).await.expect(200);
        self.submit(&page, &[("username", name), ("password", password)])
            .await
    }
}

/// A realm `r` with people and clients.
pub(crate) struct Site {
    pub(crate) world: World,
    pub(crate) admin: Client,
}

impl Site {
    pub(crate) async fn start() -> Self {
        Self::on(World::start().await).await
    }

    /// Clients `app` (public) and `web` (secret `s`) with one callback, and user `anna` with password
    /// `secret`.
    pub(crate) async fn on(world: World) -> Self {
        let admin = world.realm("r").await;
        let site = Self { world, admin };
        let public = json!({"clientId": "app", "publicClient": true, "secret": null,
            "serviceAccountsEnabled": false, "redirectUris": [CALLBACK], "name": "The App",
            "webOrigins": ["+"]});
        site.client(public).await;
        site.client(json!({"clientId": "web", "redirectUris": [CALLBACK]}))
            .await;
        site.user("anna", json!({})).await;
        site
    }

    pub(crate) async fn client(&self, body: Value) -> String {
        self.world.client(&self.admin, "r", body).await
    }

    /// Makes a user with password `secret`; gives the id.
    pub(crate) async fn user(&self, name: &str, more: Value) -> String {
        let mut user = json!({"username": name, "enabled": true,
            "email": format!("{name}@example.com"),
            "credentials": [{"type": "password", "value": "secret"}]});
        let fields = user.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        let url = self.world.admin_url("/r/users");
        self.admin.json("POST", &url, user).await.expect(201).id()
    }

    pub(crate) async fn change_client(&self, id: &str, body: Value) {
        let url = self.world.admin_url(&format!("/r/clients/{id}"));
        let _ = self.admin.json("PUT", &url, body).await.expect(204);
    }

    pub(crate) async fn change_realm(&self, body: Value) {
        let url = self.world.admin_url("/r");
        let _ = self.admin.json("PUT", &url, body).await.expect(204);
    }

    /// An authorization request of a client, with more parameters.
    pub(crate) fn auth_url(&self, client: &str, more: &[(&str, &str)]) -> String {
        let mut pairs = vec![
            ("client_id", client),
            ("response_type", "code"),
            ("redirect_uri", CALLBACK),
            ("scope", "openid"),
        ];
        pairs.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
        pairs.extend(more.iter().filter(|(_, value)| !value.is_empty()));
        format!("{}?{}", self.world.protocol("r", "auth"), form(&pairs))
    }

    /// A code for a client from a browser that logs `anna` in, or has done so.
    pub(crate) async fn code(
        &self,
        visitor: &mut Visitor,
        client: &str,
        more: &[(&str, &str)],
    ) -> String {
        let url = self.auth_url(client, more);
        let mut reply = visitor.get(&url).await;
        if reply.status == 200 {
            reply = visitor
                .submit(&reply, &[("username", "anna"), ("password", "secret")])
                .await;
        }
        let location = reply.expect(302).header_text("location");
        parameters(&location)["code"].clone()
    }

    /// Redeems a code; `more` replaces or adds fields.
    pub(crate) async fn redeem(&self, client: &str, code: &str, more: &[(&str, &str)]) -> Reply {
        let mut pairs = vec![
            ("grant_type", "authorization_code"),
            ("client_id", client),
            ("redirect_uri", CALLBACK),
            ("code", code),
        ];
        if client != "app" {
            pairs.push(("client_secret", "s"));
        }
        pairs.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
        pairs.extend(more.iter().filter(|(_, value)| !value.is_empty()));
        self.world.token("r", &form(&pairs)).await
    }

    pub(crate) async fn refresh(&self, client: &str, tokens: &Value) -> Reply {
        let mut pairs = vec![
            ("grant_type", "refresh_token"),
            ("client_id", client),
            ("refresh_token", tokens["refresh_token"].as_str().unwrap()),
        ];
        if client != "app" {
            pairs.push(("client_secret", "s"));
        }
        self.world.token("r", &form(&pairs)).await
    }

    /// Whether introspection calls a token active.
    pub(crate) async fn is_active(&self, token: &Value) -> bool {
        let fields = form(&[
            ("client_id", "web"),
            ("client_secret", "s"),
            ("token", token.as_str().unwrap()),
        ]);
        let url = self.world.protocol("r", "token/introspect");
        let reply = self.world.http.form(&url, &fields).await.expect(200);
        reply.json()["active"] == true
    }
}
