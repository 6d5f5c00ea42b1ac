//! A realm with people and a relying party, and that party's web site.

use std::process::Stdio;

use o28m_testkit::{Client, Database, Platform};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::tools;
use crate::webdriver::{Browser, Look};

pub(crate) const REALM: &str = "people";
pub(crate) const CLIENT: &str = "web";
pub(crate) const SECRET: &str = "web-secret";
pub(crate) const PERSON: &str = "anna";
pub(crate) const PASSWORD: &str = "a-good-password";

/// Makes the realm, the client and the person; gives an administrator.
pub(crate) async fn set_up(platform: &Platform, redirect_uris: &[&str]) -> Client {
    let admin = platform.realm_admin().await;
    let realm = json!({
        "realm": REALM, "enabled": true, "displayName": "People of Example",
        "attributes": {"deviceFlowEnabled": "true"}, "oauth2DevicePollingInterval": 1,
        "clients": [{
            "clientId": CLIENT, "secret": SECRET, "name": "The Web Site",
            "redirectUris": redirect_uris,
            "attributes": {
                "post.logout.redirect.uris": "+",
                "oauth2.device.authorization.grant.enabled": "true",
            },
        }],
        "users": [{
            "username": PERSON, "enabled": true, "email": "anna@example.com",
            "firstName": "Anna", "lastName": "Example",
            "credentials": [{"type": "password", "value": PASSWORD}],
        }],
    });
    let url = platform.iris("/admin/realms");
    let _ = admin.json("POST", &url, realm).await.expect(201);
    admin
}

/// A person in front of the relying party's web site.
pub(crate) struct Site {
    pub(crate) platform: Platform,
    pub(crate) admin: Client,
    pub(crate) browser: Browser,
    /// URL of the web site.
    pub(crate) url: String,
    _server: Child,
}

impl Site {
    /// A site and a browser that looks like that; `None` where programs are missing.
    pub(crate) async fn open(look: Look<'_>) -> Option<Self> {
        let installed = tokio::task::spawn_blocking(tools::node);
        let folder = installed.await.unwrap()?;
        if !(tools::has("chromedriver") && tools::has("chromium")) {
            return None;
        }
        let platform = Platform::start(Database::Sqlite).await.unwrap();
        let mut server = Command::new("node")
            .arg("website.mjs")
            .current_dir(folder)
            .env("ISSUER", platform.iris(&format!("/realms/{REALM}")))
            .env("CLIENT_ID", CLIENT)
            .env("CLIENT_SECRET", SECRET)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let url = lines.next_line().await.unwrap().unwrap();
        let admin = set_up(&platform, &[&format!("{url}/callback"), &format!("{url}/")]).await;
        Some(Self {
            platform,
            admin,
            browser: Browser::start(look).await,
            url,
            _server: server,
        })
    }

    /// Changes the realm.
    pub(crate) async fn realm(&self, body: Value) {
        let url = self.platform.iris(&format!("/admin/realms/{REALM}"));
        let _ = self.admin.json("PUT", &url, body).await.expect(204);
    }

    /// Changes the person.
    pub(crate) async fn person(&self, body: Value) {
        let users = self.platform.iris(&format!("/admin/realms/{REALM}/users"));
        let found = self.admin.get(&format!("{users}?username={PERSON}")).await;
        let found = found.expect(200).json();
        let url = format!("{users}/{}", found[0]["id"].as_str().unwrap());
        let _ = self.admin.json("PUT", &url, body).await.expect(204);
    }

    /// Changes the client.
    pub(crate) async fn client(&self, body: Value) {
        let clients = self
            .platform
            .iris(&format!("/admin/realms/{REALM}/clients"));
        let found = self
            .admin
            .get(&format!("{clients}?clientId={CLIENT}"))
            .await;
        let found = found.expect(200).json();
        let url = format!("{clients}/{}", found[0]["id"].as_str().unwrap());
        let _ = self.admin.json("PUT", &url, body).await.expect(204);
    }

    /// Begins a login at the web site, with more parameters of the authorization request.
    pub(crate) async fn begin(&self, parameters: &str) {
        self.browser
            .open(&format!("{}/login?{parameters}", self.url))
            .await;
    }

    /// Fills in the login form.
    pub(crate) async fn submit(&self, username: &str, password: &str) {
        self.browser.fill("#username", username).await;
        self.browser.fill("#password", password).await;
        self.browser.click("#kc-login").await;
    }

    /// Whom the web site says is there.
    pub(crate) async fn visitor(&self) -> String {
        self.browser.text("#visitor").await
    }

    /// Nothing was blocked or failed in the pages so far.
    pub(crate) async fn finish(self) {
        let complaints = self.browser.complaints().await;
        assert!(complaints.is_empty(), "{complaints:#?}");
    }
}
