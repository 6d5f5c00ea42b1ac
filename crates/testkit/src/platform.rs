//! The platform as `o28m up` starts it, inside the test process.

use std::collections::BTreeMap;

use o28m::config::Sources;
use o28m::up::{self, Ports, Running};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Client, Reply};

/// Where the platform keeps its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    /// A file in the data directory.
    Sqlite,
    /// A database of its own on a throw-away server.
    Postgres,
}

/// A platform with every role, on free ports; its data goes away with it.
pub struct Platform {
    running: Running,
    /// Data directory.
    pub dir: TempDir,
    /// A client without credentials.
    pub http: Client,
    database_url: Option<String>,
}

impl Platform {
    /// Starts a platform; `None` when the database's server is not installed.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(database: Database) -> Option<Self> {
        let url = match database {
            Database::Sqlite => None,
            Database::Postgres => Some(o28m_store::testing::postgres_url().await?),
        };
        Some(Self::start_with(url, &[]).await)
    }

    /// Starts a platform on a given database with extra settings.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_with(database_url: Option<String>, settings: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::start_in(dir, database_url, settings).await
    }

    /// Starts a platform in an existing data directory.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_in(
        dir: TempDir,
        database_url: Option<String>,
        settings: &[(&str, &str)],
    ) -> Self {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let mut command: BTreeMap<String, String> = settings.iter().map(owned).collect();
        command
            .entry("node.worker_threads".to_owned())
            .or_insert("1".to_owned());
        command
            .entry("log.level".to_owned())
            .or_insert("warn".to_owned());
        if let Some(url) = &database_url {
            command.insert("database.url".to_owned(), url.clone());
        }
        let options = up::Options {
            data_dir: dir.path().to_owned(),
            ports: Ports::Any,
            zone: "zone1".to_owned(),
            sources: Sources {
                file: None,
                environment: BTreeMap::new(),
                command,
            },
        };
        let running = up::start(options, o28m::ambient::system()).await.unwrap();
        Self {
            running,
            dir,
            http: Client::default(),
            database_url,
        }
    }

    /// Stops the platform; `false` when requests in flight had to be cut.
    pub async fn stop(self) -> bool {
        self.running.stop().await
    }

    /// Stops the platform and starts it again on the same data.
    ///
    /// # Panics
    /// When requests in flight do not finish, or it does not start again.
    pub async fn restart(self) -> Self {
        let Self {
            running,
            dir,
            database_url,
            ..
        } = self;
        assert!(running.stop().await);
        Self::start_in(dir, database_url, &[]).await
    }

    /// Requests that the proxy has not ended.
    pub async fn in_flight(&self) -> usize {
        let url = format!("{}/metrics", self.credential("METRICS_URL"));
        let metrics = self.http.get(&url).await.expect(200).text();
        let lines = metrics.lines();
        let writing = lines
            .filter(|line| line.starts_with("kong_nginx_connections_total{"))
            .find(|line| line.contains("state=\"writing\""));
        let count = writing.and_then(|line| line.rsplit_once(' '));
        count.map_or(0, |(_, count)| count.parse().unwrap())
    }

    /// A second process of the same platform: same database and secrets, a data directory of its own.
    ///
    /// # Panics
    /// When it does not start, or the first one runs on a file that cannot be shared.
    pub async fn replica(&self) -> Self {
        let url = self.database_url.clone();
        self.replica_on(url.expect("replicas need a database server"), &[])
            .await
    }

    /// A second process of the same platform that reaches the same database under another URL, with
    /// extra settings.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn replica_on(&self, database_url: String, settings: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let credentials = "credentials.env";
        std::fs::copy(
            self.dir.path().join(credentials),
            dir.path().join(credentials),
        )
        .unwrap();
        Self::start_in(dir, Some(database_url), settings).await
    }

    /// The database of the platform, for what its own programs would never write.
    ///
    /// # Panics
    /// When it cannot be opened.
    pub async fn store(&self) -> o28m_store::Store {
        let file = || format!("sqlite://{}", self.dir.path().join("o28m.db").display());
        let settings = o28m_store::Settings {
            url: self.database_url.clone().unwrap_or_else(file),
            schema: "o28m".to_owned(),
            pool_max: 2,
            connect_timeout: std::time::Duration::from_secs(5),
            poll_interval: std::time::Duration::from_secs(1),
        };
        o28m_store::Store::open(&settings).await.unwrap()
    }

    /// A value of `credentials.env`.
    #[must_use]
    pub fn credential(&self, key: &str) -> &str {
        self.running.credentials.get(key)
    }

    /// The proxy's URL followed by `path`.
    #[must_use]
    pub fn gateway(&self, path: &str) -> String {
        format!("{}{path}", self.credential("GATEWAY_URL"))
    }

    /// The identity provider's URL, with `/auth`, followed by `path`.
    #[must_use]
    pub fn iris(&self, path: &str) -> String {
        format!("{}{path}", self.credential("IRIS_URL"))
    }

    /// A request to the gateway's Admin API with its credentials.
    pub async fn admin(&self, method: &str, path: &str, body: Value) -> Reply {
        let user = self.credential("GATEWAY_ADMIN_USERNAME");
        let client = self
            .http
            .basic(user, self.credential("GATEWAY_ADMIN_PASSWORD"));
        let url = format!("{}{path}", self.credential("GATEWAY_ADMIN_URL"));
        if body.is_null() {
            client.send(method, &url, "").await
        } else {
            client.json(method, &url, body).await
        }
    }

    /// A client with an administrator's token for the identity provider's Admin REST API.
    pub async fn realm_admin(&self) -> Client {
        let fields = [
            ("client_id", "admin-cli"),
            ("grant_type", "password"),
            ("username", self.credential("IRIS_ADMIN_USERNAME")),
            ("password", self.credential("IRIS_ADMIN_PASSWORD")),
        ];
        let url = self.iris("/realms/master/protocol/openid-connect/token");
        let token = self.http.form(&url, &fields).await.expect(200).json();
        self.http.bearer(token["access_token"].as_str().unwrap())
    }

    /// A `client_credentials` token.
    pub async fn token(&self, realm: &str, client_id: &str, secret: &str) -> String {
        let url = self.iris(&format!("/realms/{realm}/protocol/openid-connect/token"));
        let fields = [
            ("client_id", client_id),
            ("client_secret", secret),
            ("grant_type", "client_credentials"),
        ];
        let token = self.http.form(&url, &fields).await.expect(200).json();
        token["access_token"].as_str().unwrap().to_owned()
    }

    /// A token of client `rover`, which may use the Admin API through the proxy.
    pub async fn rover_token(&self) -> String {
        let id = self.credential("ROVER_CLIENT_ID");
        self.token("rover", id, self.credential("ROVER_CLIENT_SECRET"))
            .await
    }

    /// Makes a service and a route of that name to an upstream, and waits until it is live.
    pub async fn route(&self, name: &str, upstream: &str, route: Value) {
        let service = format!("/services/{name}");
        let _ = self
            .admin("PUT", &service, json!({"url": upstream}))
            .await
            .expect(200);
        let _ = self
            .admin("PUT", &format!("{service}/routes/{name}"), route)
            .await
            .expect(200);
        self.applied().await;
    }

    /// Waits until the proxy has applied every change made so far.
    ///
    /// # Panics
    /// When the database cannot be asked.
    pub async fn applied(&self) {
        self.running.platform.applied().await.unwrap();
    }
}
