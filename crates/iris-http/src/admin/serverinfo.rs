//! What the server is and can do, as consoles and provisioning tools ask it.

use o28m_iris::{Error, KEYCLOAK_VERSION, Realms};
use o28m_jose::Algorithm;
use serde_json::{Value, json};

use super::{Context, Entry, entries};
use crate::reply::{Reply, admin_json};
use crate::router::Route;

/// Served at `/admin/serverinfo`.
pub(crate) const ROUTES: &[Route<Entry>] = entries! {
    GET "" SignedIn Nothing |c| info(c);
};

fn info(context: &Context<'_>) -> Result<Reply, Error> {
    if context.caller.realms() == Realms::Named(Vec::new()) {
        return Err(Error::Forbidden);
    }
    Ok(admin_json(&json!({
        "systemInfo": {
            "version": KEYCLOAK_VERSION,
            "serverTime": null,
            "productVersion": env!("CARGO_PKG_VERSION"),
            "osName": std::env::consts::OS,
            "osArchitecture": std::env::consts::ARCH,
            "fileEncoding": "UTF-8",
        },
        "profileInfo": {
            "name": "o28m",
            "disabledFeatures": [],
            "previewFeatures": [],
            "experimentalFeatures": [],
        },
        "features": [
            {"name": "CLIENT_SECRET_ROTATION", "label": "Client Secret Rotation", "type": "PREVIEW",
             "enabled": true, "dependencies": []},
        ],
        "cryptoInfo": {
            "cryptoProvider": "aws-lc-rs",
            "supportedKeystoreTypes": [],
            "clientSignatureSymmetricAlgorithms": algorithms(true),
            "clientSignatureAsymmetricAlgorithms": algorithms(false),
        },
        "themes": {
            "account": [], "admin": [], "email": [], "welcome": [],
            "login": [{"name": "o28m", "locales": ["en", "de"]}],
        },
        "socialProviders": [],
        "identityProviders": [],
        "clientImporters": [],
        "providers": providers(),
        "protocolMapperTypes": {"openid-connect": mapper_types()},
        "builtinProtocolMappers": {"openid-connect": []},
        "clientInstallations": {"openid-connect": []},
        "componentTypes": {
            "org.keycloak.keys.KeyProvider": key_types(),
        },
        "passwordPolicies": password_policies(),
        "enums": {
            "sslRequired": ["ALL", "EXTERNAL", "NONE"],
            "operationType": ["CREATE", "UPDATE", "DELETE", "ACTION"],
        },
    })))
}

fn algorithms(symmetric: bool) -> Vec<&'static str> {
    let wanted = |it: &Algorithm| (it.key_type() == "oct") == symmetric;
    let all = Algorithm::ALL.into_iter().filter(wanted);
    all.map(Algorithm::name).collect()
}

fn providers() -> Value {
    let some = |names: &[&str]| {
        let all: serde_json::Map<String, Value> = names
            .iter()
            .map(|name| ((*name).to_owned(), json!({"order": 0})))
            .collect();
        json!({"internal": false, "providers": all})
    };
    json!({
        "login-protocol": some(&["openid-connect"]),
        "password-hashing": some(&["argon2", "pbkdf2", "pbkdf2-sha256", "pbkdf2-sha512"]),
        "client-authenticator": some(&["client-secret"]),
        "eventsListener": some(&["jboss-logging"]),
        "client-policy-executor": some(&["secret-rotation"]),
        "client-policy-condition": some(&["any-client", "client-attributes", "client-access-type"]),
        "keys": some(&o28m_iris::key_providers().collect::<Vec<_>>()),
    })
}

fn mapper_types() -> Vec<Value> {
    let show = |id: &&str| {
        json!({"id": id, "name": id, "category": "Token mapper", "helpText": "", "priority": 0,
               "properties": []})
    };
    o28m_iris::MAPPER_TYPES.iter().map(show).collect()
}

fn key_types() -> Vec<Value> {
    let show = |id| json!({"id": id, "helpText": "", "properties": [], "metadata": {}});
    o28m_iris::key_providers().map(show).collect()
}

fn password_policies() -> Vec<Value> {
    let policies = [
        ("length", "Minimum Length", "int", "8"),
        ("maxLength", "Maximum Length", "int", "64"),
        ("digits", "Digits", "int", "1"),
        ("lowerCase", "Lowercase Characters", "int", "1"),
        ("upperCase", "Uppercase Characters", "int", "1"),
        ("specialChars", "Special Characters", "int", "1"),
        ("notUsername", "Not Username", "", ""),
        ("notContainsUsername", "Not Contains Username", "", ""),
        ("notEmail", "Not Email", "", ""),
        ("regexPattern", "Regular Expression", "String", ""),
        ("passwordHistory", "Not Recently Used", "int", "3"),
        (
            "forceExpiredPasswordChange",
            "Expire Password",
            "int",
            "365",
        ),
        ("hashAlgorithm", "Hashing Algorithm", "String", "argon2"),
        ("hashIterations", "Hashing Iterations", "int", "-1"),
    ];
    let show = |(id, name, of, default): (&str, &str, &str, &str)| {
        json!({"id": id, "displayName": name, "configType": of, "defaultValue": default,
               "multipleSupported": id == "regexPattern"})
    };
    policies.map(show).into()
}
