//! Certificates, keys and vaults.

use super::material::{Material, ca, ec, ed25519, expired_ca, other_ec, rsa};
use super::*;

fn certificate(material: &Material) -> Value {
    json!({"cert": material.cert, "key": material.key})
}

#[track_caller]
fn complaint(kind: &str, body: Value) -> String {
    insert(kind, body).unwrap_err().message()
}

#[test]
fn certificates_of_every_kind_of_key_are_taken() {
    for material in [rsa(), ec(), ed25519()] {
        let made = insert("certificates", certificate(material)).unwrap();
        assert_eq!(made["cert_alt"], Value::Null);
        assert_eq!(made["snis"], Value::Null);
    }
    let mut both = certificate(rsa());
    both["cert_alt"] = json!(ec().cert);
    both["key_alt"] = json!(ec().key);
    both["snis"] = json!(["*.example.com"]);
    insert("certificates", both).unwrap();
    let chain = json!({"cert": format!("{}{}", ec().cert, ca().cert), "key": ec().key});
    insert("certificates", chain).unwrap();
}

#[test]
fn keys_in_older_forms_are_taken() {
    let rsa = include_str!("../fixtures/rsa-pkcs1.pem");
    let ec = include_str!("../fixtures/ec-sec1.pem");
    for (key, public) in [
        (rsa, include_str!("../fixtures/rsa-pkcs1-public.pem")),
        (ec, include_str!("../fixtures/ec-public.pem")),
    ] {
        let body = json!({"kid": "k", "pem": {"private_key": key, "public_key": public}});
        insert("keys", body).unwrap();
    }
}

#[test]
fn admin_case_065_a_certificate_must_be_of_its_key() {
    let body = json!({"cert": ec().cert, "key": other_ec().key});
    assert_eq!(
        complaint("certificates", body),
        "schema violation (certificate does not match key)"
    );
    let mut body = certificate(rsa());
    body["cert_alt"] = json!(ec().cert);
    assert_eq!(
        complaint("certificates", body.clone()),
        "schema violation (all or none of these fields must be set: 'cert_alt', 'key_alt')"
    );
    body["key_alt"] = json!(other_ec().key);
    assert_eq!(
        complaint("certificates", body),
        "schema violation (alternative certificate does not match key)"
    );
    let mut same = certificate(ec());
    same["cert_alt"] = json!(other_ec().cert);
    same["key_alt"] = json!(other_ec().key);
    assert_eq!(
        complaint("certificates", same),
        "schema violation (certificate and alternative certificate need to have different type (e.g. RSA and ECDSA), the provided certificates were both of the same type)"
    );
}

#[test]
fn what_is_no_certificate_or_key_is_named() {
    assert_eq!(
        complaint("certificates", json!({})),
        "2 schema violations (cert: required field missing; key: required field missing)"
    );
    assert_eq!(
        complaint("certificates", json!({"cert": "x", "key": "{vault://no"})),
        "2 schema violations (cert: invalid certificate: no block of that kind in PEM format; key: invalid key: no block of that kind in PEM format)"
    );
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    assert_eq!(
        complaint("certificates", json!({"cert": ec().cert, "key": encrypted})),
        "schema violation (key: invalid key: encrypted keys are not supported, remove the passphrase)"
    );
    let weak = include_str!("../fixtures/rsa-1024.pem");
    assert!(
        complaint("certificates", json!({"cert": ec().cert, "key": weak}))
            .contains("not a key of RSA (2048 to 8192 bits)")
    );
    let mut body = certificate(ec());
    body["snis"] = json!(["a.example.com", "1.2.3.4"]);
    assert_eq!(
        complaint("certificates", body),
        "schema violation (snis.2: must not be an IP)"
    );
}

#[test]
fn names_of_certificates_may_have_a_wildcard() {
    let sni = |name: &str| json!({"name": name, "certificate": {"id": C}});
    for fine in ["a.example.com", "*.example.com", "example.*"] {
        insert("snis", sni(fine)).unwrap();
    }
    for (name, message) in [
        (
            "a.*.com",
            "wildcard must be leftmost or rightmost character",
        ),
        ("*.a.*", "only one wildcard must be specified"),
        ("1.2.3.4", "must not be an IP"),
        ("a:80", "must not have a port"),
    ] {
        let expected = format!("schema violation (name: {message})");
        assert_eq!(complaint("snis", sni(name)), expected);
    }
    refused(
        "snis",
        json!({"name": "a"}),
        "schema violation (certificate: required field missing)",
    );
}

#[test]
fn authorities_are_checked_and_named_by_their_digest() {
    let made = insert(
        "ca_certificates",
        json!({"cert": ca().cert, "cert_digest": "x"}),
    )
    .unwrap();
    let digest = made["cert_digest"].as_str().unwrap().to_owned();
    assert_eq!(digest.len(), 64);
    let untouched = update("ca_certificates", &made, json!({"cert_digest": "y"})).unwrap();
    assert_eq!(untouched["cert_digest"], digest);
    for (cert, message) in [
        (
            format!("{}{}", ca().cert, ca().cert),
            "please submit only one certificate at a time",
        ),
        (
            expired_ca().cert.clone(),
            "certificate expired, \"Not After\" time is in the past",
        ),
        (
            ec().cert.clone(),
            "certificate does not appear to be a CA because it is missing the \"CA\" basic constraint",
        ),
    ] {
        let expected = format!("schema violation ({message})");
        assert_eq!(
            complaint("ca_certificates", json!({"cert": cert})),
            expected
        );
    }
}

#[test]
fn vaults_read_the_environment() {
    let body = json!({"name": "env", "prefix": "my-vault", "config": {"prefix": "A_"}});
    let made = insert("vaults", body).unwrap();
    assert_eq!(made["config"], json!({"prefix": "A_"}));
    let made = insert("vaults", json!({"name": "env", "prefix": "v2"})).unwrap();
    assert_eq!(made["config"], Value::Null);
    for (body, message) in [
        (
            json!({"name": "env", "prefix": "env"}),
            "schema violation (prefix: must not be one of: env)",
        ),
        (
            json!({"name": "hcv", "prefix": "v"}),
            "schema violation (name: vault 'hcv' is not installed)",
        ),
        (
            json!({"name": "env", "prefix": "a-"}),
            "schema violation (prefix: invalid value: a-)",
        ),
        (
            json!({"name": "env", "prefix": "ab", "config": {"prefix": "1", "ttl": 1}}),
            "2 schema violations (config.prefix: invalid value: 1; config.ttl: unknown field)",
        ),
        (
            json!({}),
            "2 schema violations (name: required field missing; prefix: required field missing)",
        ),
    ] {
        assert_eq!(complaint("vaults", body), message);
    }
    let schema = o28m_kong::vault_schema("env").unwrap();
    assert_eq!(schema["fields"][0]["config"]["type"], "record");
    assert_eq!(o28m_kong::vault_schema("aws"), None);
}

fn jwk(members: Value) -> Value {
    json!({"kid": "k", "jwk": members.to_string()})
}

/// RFC 7515 appendix A.3 and RFC 8037 appendix A.
const EC_X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
const EC_Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
const EC_D: &str = "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI";
const OKP_X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
const OKP_D: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";

#[test]
fn json_web_keys_must_hold_keys() {
    let rsa: Value = serde_json::from_str(include_str!("../fixtures/rsa.jwk")).unwrap();
    let mut public = rsa.clone();
    for private in ["d", "p", "q", "dp", "dq", "qi"] {
        public.as_object_mut().unwrap().remove(private);
    }
    for fine in [
        rsa.clone(),
        public,
        json!({"kty": "EC", "crv": "P-256", "x": EC_X, "y": EC_Y, "kid": "k"}),
        json!({"kty": "EC", "crv": "P-256", "x": EC_X, "y": EC_Y, "d": EC_D, "kid": "k"}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": OKP_X, "kid": "k"}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": OKP_X, "d": OKP_D, "kid": "k", "use": "sig"}),
    ] {
        insert("keys", jwk(fine)).unwrap();
    }
    let mut wrong = rsa;
    wrong["d"] = json!("AQAB");
    let long = "AQAB".repeat(100_000);
    for bad in [
        wrong,
        json!({"kty": "RSA", "n": long, "e": "AQAB", "kid": "k"}),
        json!({"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "k"}),
        json!({"kid": "k"}),
        json!({"kty": "oct", "k": "AAAA", "kid": "k"}),
        json!({"kty": "EC", "crv": "P-256", "x": EC_Y, "y": EC_X, "kid": "k"}),
        json!({"kty": "EC", "crv": "P-256", "x": EC_X, "y": EC_Y, "d": EC_X, "kid": "k"}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": OKP_D, "d": OKP_D, "kid": "k"}),
    ] {
        assert_eq!(
            complaint("keys", jwk(bad)),
            "schema violation (could not load JWK, likely not a valid key)"
        );
    }
}

#[test]
fn violations_of_keys() {
    let ok = json!({"kty": "OKP", "crv": "Ed25519", "x": OKP_X, "kid": "other", "foo": 1});
    let mut extra = ok.clone();
    extra["kid"] = json!("k");
    for (body, message) in [
        (
            json!({"kid": "k"}),
            "schema violation (at least one of these fields must be non-empty: 'jwk', 'pem')",
        ),
        (
            json!({"kid": "k", "jwk": "{}", "pem": {"public_key": ec().public}}),
            "2 schema violations (only one or none of these fields must be set: 'jwk', 'pem'; kid in jwk.kid must be equal to keys.kid)",
        ),
        (
            json!({"kid": "k", "jwk": "x"}),
            "schema violation (could not json decode jwk string)",
        ),
        (
            jwk(ok),
            "schema violation (kid in jwk.kid must be equal to keys.kid)",
        ),
        (
            jwk(extra),
            "schema violation (schema violation (foo: unknown field))",
        ),
        (
            json!({"kid": "k", "pem": {"public_key": "x"}}),
            "schema violation (pem: could not load public key)",
        ),
        (
            json!({"kid": "k", "pem": {"public_key": ec().public, "private_key": other_ec().key}}),
            "schema violation (pem: public key does not match private key)",
        ),
        (
            json!({"kid": "k", "jwk": {"kty": "RSA"}}),
            "schema violation (jwk: expected a string)",
        ),
    ] {
        assert_eq!(complaint("keys", body), message);
    }
    let missing = complaint("keys", json!({"kid": "k", "pem": {"private_key": "x"}}));
    assert!(
        missing.starts_with("schema violation (pem: could not load private key"),
        "{missing}"
    );
    let empty = insert("keys", json!({"kid": "k", "pem": {}})).unwrap_err();
    assert_eq!(
        empty.fields["pem"]["@entity"],
        json!(["at least one of these fields must be non-empty: 'private_key', 'public_key'"])
    );
    insert(
        "keys",
        json!({"kid": "k", "pem": {"private_key": rsa().key}}),
    )
    .unwrap();
    insert("keys", json!({"kid": "k", "jwk": "{vault://env/jwk}"})).unwrap();
}

#[test]
fn references_stand_where_they_may() {
    let body = json!({"cert": "{vault://env/c}", "key": "{vault://mine/k/key}"});
    let made = insert("certificates", body).unwrap();
    assert_eq!(made["cert"], "{vault://env/c}");
    // Kong looks at the form alone, not at where it leads.
    insert(
        "certificates",
        json!({"cert": "{vault://}", "key": ec().key}),
    )
    .unwrap();
    refused(
        "ca_certificates",
        json!({"cert": "{vault://env/c}"}),
        "schema violation (cert: invalid certificate: no block of that kind in PEM format)",
    );
    refused(
        "services",
        json!({"host": "{vault://env/h}"}),
        "schema violation (host: invalid value: {vault://env/h})",
    );
    let redis = json!({"host": "h", "password": "{vault://env/p}", "username": "{vault://env/u}"});
    let config = json!({"minute": 1, "policy": "redis", "redis": redis});
    let made = insert(
        "plugins",
        json!({"name": "rate-limiting", "config": config}),
    )
    .unwrap();
    assert_eq!(made["config"]["redis"]["password"], "{vault://env/p}");
    assert_eq!(made["config"]["redis_password"], "{vault://env/p}");
    let config =
        json!({"endpoint": "{vault://env/url}", "headers": {"x-token": "{vault://env/t}"}});
    let made = insert(
        "plugins",
        json!({"name": "opentelemetry", "config": config}),
    )
    .unwrap();
    let sources = o28m_kong::vault::Sources {
        vault: &|_| None,
        variable: &|name| {
            let secret = ["URL", "T"].contains(&name);
            secret.then(|| format!("http://{}", name.to_lowercase()))
        },
    };
    let plugins = entity("plugins").unwrap();
    let resolved = plugins.resolve_references(made, &sources).unwrap();
    for field in ["endpoint", "traces_endpoint"] {
        assert_eq!(resolved["config"][field], "http://url");
    }
    assert_eq!(resolved["config"]["headers"]["x-token"], "http://t");
    let schema = entity("certificates").unwrap().describe().to_string();
    assert!(schema.contains(r#""referenceable":true"#), "{schema}");
}

proptest! {
    #[test]
    fn damaged_certificates_and_keys_are_refused_or_taken(
        at in any::<proptest::sample::Index>(),
        with in "[A-Za-z0-9+/=\n-]{1,3}",
        cut in any::<bool>(),
    ) {
        for material in [rsa(), ec(), ed25519(), ca()] {
            let damage = |pem: &str| {
                let at = at.index(pem.len());
                let (before, after) = pem.split_at(at);
                let after = after.get(1..).filter(|_| !cut).unwrap_or_default();
                format!("{before}{with}{after}")
            };
            let body = json!({"cert": damage(&material.cert), "key": damage(&material.key)});
            if let Err(violations) = insert("certificates", body) {
                prop_assert!(!violations.message().contains("PRIVATE KEY-----"));
            }
            let _either = insert("ca_certificates", json!({"cert": damage(&material.cert)}));
            let pem = json!({"public_key": damage(&material.public), "private_key": damage(&material.key)});
            let _either = insert("keys", json!({"kid": "k", "pem": pem}));
            let _either = insert("keys", json!({"kid": "k", "jwk": damage(include_str!("../fixtures/rsa.jwk"))}));
        }
    }
}
