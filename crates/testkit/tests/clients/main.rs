//! Clients that others wrote, against the identity provider: two administration libraries, two
//! relying-party libraries and a browser. They need Python, Node.js, Chromium and a package registry;
//! where one is missing, its tests are skipped (see `tools`).

mod browser;
mod site;
mod tools;
mod webdriver;

use o28m_testkit::{Database, Platform, on_every_database};
use serde_json::json;
use tokio::process::Command;

/// Runs a script to its end.
async fn passes(command: &mut Command) {
    let output = command.output().await.unwrap();
    let text = tools::text(&output);
    assert!(output.status.success(), "{text}");
    print!("{text}");
}

/// A script with the address and the administrator of the identity provider in its environment.
fn script(program: &str, folder: &str, file: &str, platform: &Platform) -> Command {
    let mut command = Command::new(program);
    command
        .arg(file)
        .current_dir(folder)
        .env("IRIS_URL", platform.iris(""))
        .env("IRIS_USER", platform.credential("IRIS_ADMIN_USERNAME"))
        .env("IRIS_PASSWORD", platform.credential("IRIS_ADMIN_PASSWORD"))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn python(file: &str, platform: &Platform) -> Option<Command> {
    let python = tools::python()?.display().to_string();
    let folder = format!("{}/python", tools::SCRIPTS);
    Some(script(&python, &folder, file, platform))
}

fn node(file: &str, platform: &Platform) -> Option<Command> {
    let folder = tools::node()?.display().to_string();
    Some(script("node", &folder, file, platform))
}

on_every_database! {
    async fn python_keycloak_administers_a_realm(platform: Platform) {
        if let Some(mut script) = python("admin.py", &platform) {
            passes(&mut script).await;
        }
    }
}

on_every_database! {
    async fn keycloak_admin_client_administers_a_realm(platform: Platform) {
        if let Some(mut script) = node("admin.mjs", &platform) {
            passes(&mut script).await;
        }
    }
}

/// Lets a relying party's script sign `anna` in at a realm that signs with this algorithm.
async fn relies(platform: &Platform, script: Option<Command>, algorithm: &str) {
    let Some(mut script) = script else {
        return;
    };
    let redirect = "https://app.example/cb";
    let admin = site::set_up(platform, &[redirect]).await;
    let realm = platform.iris(&format!("/admin/realms/{}", site::REALM));
    let body = json!({"defaultSignatureAlgorithm": algorithm});
    let _ = admin.json("PUT", &realm, body).await.expect(204);
    let issuer = platform.iris(&format!("/realms/{}", site::REALM));
    script
        .env("ISSUER", issuer)
        .env("REDIRECT_URI", redirect)
        .env("ALGORITHM", algorithm)
        .env("CLIENT_ID", site::CLIENT)
        .env("CLIENT_SECRET", site::SECRET)
        .env("PERSON", site::PERSON)
        .env("PERSON_PASSWORD", site::PASSWORD);
    passes(&mut script).await;
}

on_every_database! {
    async fn openid_client_relies_on_the_code_flow(platform: Platform) {
        let script = node("relying_party.mjs", &platform);
        relies(&platform, script, "RS256").await;
    }
}

on_every_database! {
    async fn authlib_relies_on_the_code_flow(platform: Platform) {
        let script = python("relying_party.py", &platform);
        relies(&platform, script, "RS256").await;
    }
}

#[tokio::test]
async fn openid_client_verifies_eddsa() {
    let platform = Platform::start(Database::Sqlite).await.unwrap();
    let script = node("relying_party.mjs", &platform);
    relies(&platform, script, "EdDSA").await;
}

#[tokio::test]
async fn authlib_verifies_eddsa() {
    let platform = Platform::start(Database::Sqlite).await.unwrap();
    let script = python("relying_party.py", &platform);
    relies(&platform, script, "EdDSA").await;
}

/// What a lock file must not hold: the registry it was made with.
#[test]
fn the_lock_file_names_no_registry() {
    let path = format!("{}/node/package-lock.json", tools::SCRIPTS);
    let lock: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for (name, package) in lock["packages"].as_object().unwrap() {
        assert_eq!(package.get("resolved"), None, "{name}");
        assert!(
            name.is_empty() || package["integrity"] != json!(null),
            "{name}"
        );
    }
}
