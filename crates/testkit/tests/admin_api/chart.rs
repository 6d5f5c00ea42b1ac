//! The gateway chart's script and jobs, run as what they are: shell and curl.

use std::path::Path;

use o28m_testkit::{Platform, on_every_database};
use serde_json::json;
use tokio::process::Command;

use crate::state;

/// Host of the route that the script makes.
const HOST: &str = "gateway.example.com";

/// Runs a script of the test data; gives the lines it prints.
async fn printed(platform: &Platform, script: &str, arguments: &[&str]) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let output = Command::new("sh")
        .arg(folder.join(script))
        .args(arguments)
        .env("ADMIN_URL", platform.credential("GATEWAY_ADMIN_URL"))
        .env("ADMIN_USER", platform.credential("GATEWAY_ADMIN_USERNAME"))
        .env(
            "ADMIN_PASSWORD",
            platform.credential("GATEWAY_ADMIN_PASSWORD"),
        )
        .env("GATEWAY_HOST", HOST)
        .env("ISSUER", platform.iris("/realms/rover"))
        .env("COLLECTOR", "http://127.0.0.1:9")
        .output()
        .await
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Without curl there is nothing to run; every image that tests run in has it.
async fn has_curl() -> bool {
    let version = Command::new("curl").arg("--version").output().await;
    version.is_ok_and(|output| output.status.success())
}

on_every_database! {
    async fn admin_case_055_the_charts_script_leaves_the_same_state_twice(platform: Platform) {
        if !has_curl().await {
            return;
        }
        // The set-up of the platform itself makes the same objects.
        for path in ["/routes/admin-api", "/services/admin-api", "/consumers/rover"] {
            let _ = platform.admin("DELETE", path, json!(null)).await.expect(204);
        }
        platform.applied().await;
        let token = platform.rover_token().await;
        let client = platform.http.bearer(&token).with("host", HOST);
        let url = platform.gateway("/admin-api/consumers");
        let _ = client.get(&url).await.expect(404);

        let script = "chart-configuration.sh";
        assert_eq!(printed(&platform, script, &[]).await, ["200", "200", "200", "200", "200", "201", "200"]);
        let first = state::of(&platform).await;
        assert_eq!(printed(&platform, script, &[]).await, ["200", "200", "200", "200", "200", "409", "200"]);
        state::assert_same(&first, &state::of(&platform).await);

        // The admin route works as in the installation guide, with a token and only with one.
        platform.applied().await;
        let reply = client.get(&url).await.expect(200).json();
        assert_eq!(reply["data"][0]["username"], "rover");
        let _ = platform.http.with("host", HOST).get(&url).await.expect(401);
        let made = client.json("PUT", &platform.gateway("/admin-api/services/by-token"), json!({"host": "h"})).await;
        assert_eq!(made.expect(200).json()["name"], "by-token");
    }
}

on_every_database! {
    async fn the_charts_jobs_leave_the_same_state_twice(platform: Platform) {
        if !has_curl().await {
            return;
        }
        // An installation traces in one of two ways; each removes the other one.
        for tracing in ["zipkin", "opentelemetry"] {
            let jobs = ["prometheus", tracing, "request-size-limiting"];
            let traced = format!("{tracing} 200 200 204");
            let expected = ["prometheus 200 200", &traced, "request-size-limiting 200 200"];
            assert_eq!(printed(&platform, "chart-jobs.sh", &jobs).await, expected);
            let first = state::of(&platform).await;
            assert_eq!(printed(&platform, "chart-jobs.sh", &jobs).await, expected);
            state::assert_same(&first, &state::of(&platform).await);
            let mut global: Vec<&str> = first
                .iter()
                .filter(|(path, it)| path.starts_with("/plugins/") && it["service"].is_null() && it["route"].is_null())
                .map(|(_, it)| it["name"].as_str().unwrap())
                .collect();
            global.sort_unstable();
            let mut wanted = jobs;
            wanted.sort_unstable();
            assert_eq!(global, wanted);
        }
        let migrations = ["migration-prometheus", "migration-zipkin", "migration-opentelemetry"];
        let gone = printed(&platform, "chart-jobs.sh", &migrations).await;
        assert_eq!(gone, migrations.map(|job| format!("{job} 200 204")));
    }
}
