//! The identity provider as a process, and requests to it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::process::Process;
use crate::scale::http::{Answer, Client};
use crate::scale::node::free_ports;
use crate::scale::pause;
use crate::subject::PROXY_CORE;

/// Limit for a start.
const START_TIMEOUT: Duration = Duration::from_secs(120);
const USER: &str = "admin";
const PASSWORD: &str = "pw";

/// A running identity provider.
pub(super) struct Server {
    pub(super) process: Process,
    pub(super) port: u16,
    /// How long it took until it was ready.
    pub(super) start: Duration,
}

impl Server {
    /// Starts it, with one worker, on its core.
    pub(super) fn start(program: &Path, database: &str) -> Result<Self> {
        let [port, management, status, metrics] = free_ports()?;
        let listen = |port: u16| format!("127.0.0.1:{port}");
        let environment = [
            ("O28M_DATABASE__URL", database.to_owned()),
            ("O28M_NODE__ROLES", "identity".to_owned()),
            ("O28M_NODE__WORKER_THREADS", "1".to_owned()),
            ("O28M_LOG__LEVEL", "error".to_owned()),
            ("O28M_IDENTITY__LISTEN", listen(port)),
            ("O28M_IDENTITY__MANAGEMENT_LISTEN", listen(management)),
            ("O28M_STATUS__LISTEN", listen(status)),
            ("O28M_METRICS__LISTEN", listen(metrics)),
            ("O28M_IDENTITY__ADMIN_USER", USER.to_owned()),
            ("O28M_IDENTITY__ADMIN_PASSWORD", PASSWORD.to_owned()),
        ];
        let environment: Vec<_> = environment.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let started = Instant::now();
        let program = program.display().to_string();
        let process = Process::start(Some(PROXY_CORE), &[&program, "serve"], &environment)?;
        let mut client = Client::new(management);
        while !client
            .get("/auth/health/ready")
            .is_ok_and(|answer| answer.status == 200)
        {
            ensure!(started.elapsed() < START_TIMEOUT, "it is not ready");
            pause(Duration::from_millis(2));
        }
        Ok(Self {
            process,
            port,
            start: started.elapsed(),
        })
    }

    /// An administrator; the token is good for a minute.
    pub(super) fn admin(&self) -> Result<Admin> {
        let mut client = Client::new(self.port);
        let form =
            format!("grant_type=password&client_id=admin-cli&username={USER}&password={PASSWORD}");
        let token = token(&mut client, "master", &form)?.expect(200)?.json()?;
        let token = token["access_token"].as_str().context("no token")?;
        client.header("Authorization", &format!("Bearer {token}"));
        Ok(Admin(client))
    }
}

/// A request to the token endpoint.
pub(super) fn token(client: &mut Client, realm: &str, form: &str) -> Result<Answer> {
    let path = format!("/auth/realms/{realm}/protocol/openid-connect/token");
    client.post_form(&path, form)
}

/// A client with an administrator's token.
pub(super) struct Admin(Client);

impl Admin {
    pub(super) fn get(&mut self, path: &str) -> Result<Answer> {
        self.0.get(&format!("/auth/admin/realms{path}"))
    }

    pub(super) fn post(&mut self, path: &str, body: &Value) -> Result<()> {
        let path = format!("/auth/admin/realms{path}");
        let _ = self.0.post(&path, body)?.expect(201)?;
        Ok(())
    }
}
