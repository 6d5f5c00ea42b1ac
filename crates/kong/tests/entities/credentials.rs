//! Credentials of consumers besides passwords and keys.

use super::material::{ec, rsa};
use super::*;

fn with_owner(mut body: Value) -> Value {
    body["consumer"] = json!({"id": C});
    body
}

#[track_caller]
fn complaint(kind: &str, body: Value) -> String {
    insert(kind, with_owner(body)).unwrap_err().message()
}

#[test]
fn secrets_of_tokens_are_made_up() {
    let made = insert("jwt_secrets", with_owner(json!({}))).unwrap();
    assert_eq!(made["algorithm"], "HS256");
    for field in ["key", "secret"] {
        assert_eq!(made[field].as_str().unwrap().len(), 32);
    }
    assert!(!made.contains_key("updated_at"));
    insert("jwt_secrets", with_owner(json!({"algorithm": "ES256"}))).unwrap();
    let key = json!({"algorithm": "PS512", "rsa_public_key": rsa().public});
    insert("jwt_secrets", with_owner(key)).unwrap();
}

#[test]
fn public_keys_are_asked_for_by_algorithm() {
    let conditional = "failed conditional validation given value of field 'algorithm'";
    for algorithm in ["RS256", "PS384", "EdDSA"] {
        assert_eq!(
            complaint("jwt_secrets", json!({"algorithm": algorithm})),
            format!("2 schema violations ({conditional}; rsa_public_key: required field missing)")
        );
    }
    let bad = json!({"algorithm": "RS512", "rsa_public_key": "x"});
    assert_eq!(
        complaint("jwt_secrets", bad),
        format!("2 schema violations ({conditional}; rsa_public_key: invalid key)")
    );
    let unknown = complaint("jwt_secrets", json!({"algorithm": "none"}));
    assert!(unknown.starts_with("schema violation (algorithm: expected one of: HS256, HS384"));
    let stored = with_owner(json!({"algorithm": "RS256", "rsa_public_key": ec().public}));
    let stored = insert("jwt_secrets", stored).unwrap();
    let gone = update("jwt_secrets", &stored, json!({"rsa_public_key": null}));
    assert!(
        gone.unwrap_err()
            .message()
            .contains("required field missing")
    );
}

#[test]
fn hmac_credentials_have_a_name_and_a_secret() {
    let made = insert("hmacauth_credentials", with_owner(json!({"username": "u"}))).unwrap();
    assert_eq!(made["secret"].as_str().unwrap().len(), 32);
    assert_eq!(
        complaint("hmacauth_credentials", json!({})),
        "schema violation (username: required field missing)"
    );
}

#[test]
fn clients_have_secrets_that_may_be_hashed() {
    let made = insert("oauth2_credentials", with_owner(json!({"name": "app"}))).unwrap();
    assert_eq!(made["client_id"].as_str().unwrap().len(), 32);
    assert_eq!(made["client_secret"].as_str().unwrap().len(), 32);
    assert_eq!(made["client_type"], "confidential");
    assert_eq!(made["hash_secret"], false);
    let is_hashed = |value: &Value| {
        let text = value.as_str().unwrap();
        text.starts_with("$pbkdf2-sha512$i=10000,l=32$") && text.split('$').count() == 5
    };
    let hashed = update("oauth2_credentials", &made, json!({"hash_secret": true})).unwrap();
    assert!(is_hashed(&hashed["client_secret"]), "{hashed:?}");
    let again = json!({"hash_secret": true, "name": "other"});
    let same = update("oauth2_credentials", &hashed, again).unwrap();
    assert_eq!(same["client_secret"], hashed["client_secret"]);
    let changed = update("oauth2_credentials", &hashed, json!({"client_secret": "s"})).unwrap();
    assert!(is_hashed(&changed["client_secret"]));
    assert_ne!(changed["client_secret"], hashed["client_secret"]);
}

#[test]
fn clients_are_sent_back_to_uris_without_fragment() {
    let client = |uris: Value| json!({"name": "app", "redirect_uris": uris});
    insert(
        "oauth2_credentials",
        with_owner(client(json!(["https://a.b/c?d=e", "app://x"]))),
    )
    .unwrap();
    for (uri, message) in [
        ("not a uri", "cannot parse 'not a uri'"),
        ("/only/path", "cannot parse '/only/path'"),
        ("https://a/#f", "fragment not allowed in 'https://a/#f'"),
    ] {
        assert_eq!(
            complaint("oauth2_credentials", client(json!([uri]))),
            format!("schema violation (redirect_uris.1: {message})")
        );
    }
    assert_eq!(
        complaint("oauth2_credentials", json!({"client_type": "x"})),
        "2 schema violations (client_type: expected one of: confidential, public; name: required field missing)"
    );
}

#[test]
fn tokens_belong_to_clients() {
    let token = json!({"credential": {"id": C}, "expires_in": 3600, "ttl": 60});
    let made = insert("oauth2_tokens", token).unwrap();
    assert_eq!(made["token_type"], "bearer");
    assert_eq!(made["access_token"].as_str().unwrap().len(), 32);
    assert_eq!(made["refresh_token"], Value::Null);
    refused(
        "oauth2_tokens",
        json!({"token_type": "mac"}),
        "3 schema violations (credential: required field missing; expires_in: required field missing; token_type: expected one of: bearer)",
    );
}
