//! Headless Chromium, driven through chromedriver (W3C WebDriver).

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use o28m_testkit::{Client, eventually};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// How WebDriver names an element in JSON.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// Folder for a picture of every page that a test asks for; none are made without.
const PICTURES: &str = "O28M_TEST_PICTURES";

/// What a browser is like.
#[derive(Clone, Copy)]
pub(crate) struct Look<'a> {
    /// Languages its owner reads.
    pub(crate) languages: &'a str,
    pub(crate) scripts: bool,
    /// Width and height of its pages.
    pub(crate) size: (u32, u32),
}

impl Default for Look<'_> {
    fn default() -> Self {
        Self {
            languages: "en",
            scripts: true,
            size: (1200, 900),
        }
    }
}

/// A browser with one window; closed when dropped.
/// Drivers started before it is given up.
const ATTEMPTS: u32 = 5;

pub(crate) struct Browser {
    http: Client,
    port: u16,
    session: String,
    _driver: Child,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver closes the browser with the session, not when it is killed.
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
            let request = format!(
                "DELETE /session/{} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
                self.session
            );
            let _sent = stream.write_all(request.as_bytes());
            let _closed = stream.read(&mut [0; 1024]);
        }
    }
}

/// A driver and its port. It ends by itself when another takes the port that it chose.
async fn driver() -> (Child, u16) {
    for _ in 0..ATTEMPTS {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some((_, port)) = line.rsplit_once("successfully on port ") {
                return (driver, port.trim_end_matches('.').parse().unwrap());
            }
        }
    }
    panic!("chromedriver ended {ATTEMPTS} times");
}

impl Browser {
    pub(crate) async fn start(look: Look<'_>) -> Self {
        let (driver, port) = driver().await;
        let (width, height) = look.size;
        let scripts = if look.scripts { 1 } else { 2 };
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {
                // CI runs as root and with little shared memory, where Chromium needs these.
                "args": ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage",
                    "--disable-gpu", format!("--accept-lang={}", look.languages)],
                "prefs": {"profile.managed_default_content_settings.javascript": scripts},
                "mobileEmulation": {"deviceMetrics":
                    {"width": width, "height": height, "pixelRatio": 1.0, "touch": false}},
            },
        }}});
        let http = Client::default();
        let url = format!("http://127.0.0.1:{port}/session");
        let reply = http
            .json("POST", &url, capabilities)
            .await
            .expect(200)
            .json();
        Self {
            http,
            port,
            session: reply["value"]["sessionId"].as_str().unwrap().to_owned(),
            _driver: driver,
        }
    }

    /// A command of WebDriver; its value, or its error.
    async fn ask(&self, method: &str, path: &str, body: Value) -> Result<Value, Value> {
        let url = format!(
            "http://127.0.0.1:{}/session/{}{path}",
            self.port, self.session
        );
        let reply = if method == "GET" {
            self.http.get(&url).await
        } else {
            self.http.json(method, &url, body).await
        };
        let value = reply.json()["value"].take();
        if reply.status == 200 {
            Ok(value)
        } else {
            Err(value)
        }
    }

    async fn tell(&self, method: &str, path: &str, body: Value) -> Value {
        let answer = self.ask(method, path, body).await;
        answer.unwrap_or_else(|error| panic!("{path}: {error:#}"))
    }

    pub(crate) async fn open(&self, url: &str) {
        let _ = self.tell("POST", "/url", json!({"url": url})).await;
    }

    pub(crate) async fn title(&self) -> String {
        let title = self.tell("GET", "/title", Value::Null).await;
        title.as_str().unwrap().to_owned()
    }

    async fn elements(&self, selector: &str) -> Vec<String> {
        let body = json!({"using": "css selector", "value": selector});
        let found = self.tell("POST", "/elements", body).await;
        let ids = found.as_array().unwrap().iter();
        ids.map(|it| it[ELEMENT].as_str().unwrap().to_owned())
            .collect()
    }

    /// Does something with the first element that fits, as soon as there is one.
    async fn with(&self, selector: &str, method: &str, path: &str, body: Value) -> Value {
        eventually(selector, async || {
            let element = self.elements(selector).await.into_iter().next()?;
            let path = format!("/element/{element}{path}");
            // A page that is being left takes its elements along.
            self.ask(method, &path, body.clone()).await.ok()
        })
        .await
    }

    pub(crate) async fn has(&self, selector: &str) -> bool {
        !self.elements(selector).await.is_empty()
    }

    pub(crate) async fn text(&self, selector: &str) -> String {
        let text = self.with(selector, "GET", "/text", Value::Null).await;
        text.as_str().unwrap().to_owned()
    }

    pub(crate) async fn attribute(&self, selector: &str, name: &str) -> String {
        let path = format!("/attribute/{name}");
        let value = self.with(selector, "GET", &path, Value::Null).await;
        value.as_str().unwrap_or_default().to_owned()
    }

    pub(crate) async fn fill(&self, selector: &str, text: &str) {
        let _ = self.with(selector, "POST", "/clear", json!({})).await;
        let body = json!({"text": text});
        let _ = self.with(selector, "POST", "/value", body).await;
    }

    /// Presses what leads to another page, and waits until that page is there.
    pub(crate) async fn click(&self, selector: &str) {
        let page = self.elements("html").await;
        let _ = self.with(selector, "POST", "/click", json!({})).await;
        eventually("another page", async || {
            let current = self.elements("html").await;
            (current.len() == 1 && current != page).then_some(())
        })
        .await;
    }

    /// Presses keys, one after the other, wherever the focus is.
    pub(crate) async fn press(&self, keys: &str) {
        let press = |key: char| {
            let key = key.to_string();
            [
                json!({"type": "keyDown", "value": key}),
                json!({"type": "keyUp", "value": key}),
            ]
        };
        let actions: Vec<Value> = keys.chars().flat_map(press).collect();
        let body = json!({"actions": [{"type": "key", "id": "keys", "actions": actions}]});
        let _ = self.tell("POST", "/actions", body).await;
    }

    /// The id of the element that has the focus.
    pub(crate) async fn focus(&self) -> String {
        let element = self.tell("GET", "/element/active", Value::Null).await;
        let path = format!(
            "/element/{}/attribute/id",
            element[ELEMENT].as_str().unwrap()
        );
        let id = self.tell("GET", &path, Value::Null).await;
        id.as_str().unwrap_or_default().to_owned()
    }

    /// The value of an expression in the page.
    pub(crate) async fn evaluate(&self, expression: &str) -> Value {
        let body = json!({"script": format!("return {expression}"), "args": []});
        self.tell("POST", "/execute/sync", body).await
    }

    /// Errors and warnings of pages since the last call: what the content security policy blocked, and
    /// what could not be loaded.
    pub(crate) async fn complaints(&self) -> Vec<Value> {
        let log = self
            .tell("POST", "/se/log", json!({"type": "browser"}))
            .await;
        let entries = log.as_array().unwrap().iter();
        let bad = entries.filter(|it| it["level"] == "SEVERE" || it["level"] == "WARNING");
        bad.cloned().collect()
    }

    /// Keeps a picture of the page, if somebody wants to look at it.
    pub(crate) async fn picture(&self, name: &str) {
        let Some(folder) = std::env::var_os(PICTURES) else {
            return;
        };
        let picture = self.tell("GET", "/screenshot", Value::Null).await;
        let picture = STANDARD.decode(picture.as_str().unwrap()).unwrap();
        let path = std::path::Path::new(&folder).join(format!("{name}.png"));
        std::fs::write(path, picture).unwrap();
    }
}
