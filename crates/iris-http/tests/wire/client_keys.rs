//! Clients that publish their keys under a URL.

use o28m_jose::{Algorithm, SigningKey};
use serde_json::{Value, json};

use crate::harness::{Other, Reply};
use crate::visitor::{Site, form};

struct Key(SigningKey);

impl Key {
    fn new(kid: &str) -> Self {
        let der = SigningKey::generate_pkcs8(Algorithm::ES256).unwrap();
        Self(SigningKey::from_pkcs8(kid, Algorithm::ES256, &der).unwrap())
    }

    fn set(keys: &[&Self]) -> String {
        let keys: Vec<_> = keys.iter().map(|key| key.0.public_jwk()).collect();
        json!({"keys": keys}).to_string()
    }

    fn assertion(&self, site: &Site) -> String {
        let now_s = o28m_core::Clock::now(site.world.clock.as_ref()).seconds();
        let mut id = [0; 16];
        aws_lc_rs::rand::fill(&mut id).unwrap();
        let header = json!({"alg": "ES256", "kid": self.0.kid()}).to_string();
        let claims: Value = json!({"iss": "signer", "sub": "signer", "aud": site.world.at("/realms/r"),
            "exp": now_s + 60, "jti": o28m_jose::base64url(&id)});
        o28m_jose::sign(header.as_bytes(), claims.to_string().as_bytes(), &self.0)
    }

    async fn ask(&self, site: &Site) -> Reply {
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        let assertion = self.assertion(site);
        let fields = form(&[
            ("grant_type", "client_credentials"),
            ("client_assertion_type", kind),
            ("client_assertion", &assertion),
        ]);
        site.world.token("r", &fields).await
    }
}

#[tokio::test]
async fn published_keys_are_fetched_kept_and_followed() {
    let site = Site::start().await;
    let other = Other::start();
    let url = format!("{}/keys", other.url);
    let id = site
        .client(
            json!({"clientId": "signer", "clientAuthenticatorType": "client-jwt",
            "attributes": {"use.jwks.url": "true", "jwks.url": url}}),
        )
        .await;
    let (old, new) = (Key::new("old"), Key::new("new"));
    other.answer(200, &Key::set(&[&old]));
    for _ in 0..3 {
        let _ = old.ask(&site).await.expect(200);
    }
    assert_eq!(other.received(), [("GET /keys".to_owned(), String::new())]);
    // Rotated: an unknown key id is a reason to look again, though not at once.
    other.answer(200, &Key::set(&[&old, &new]));
    let text = "Unable to load public key";
    new.ask(&site).await.refused(400, "invalid_client", text);
    assert!(other.received().is_empty());
    site.world.clock.advance(10);
    let _ = new.ask(&site).await.expect(200);
    let _ = old.ask(&site).await.expect(200);
    assert_eq!(other.received().len(), 1);
    // The other server is away: known keys go on, others are refused.
    other.answer(500, "");
    site.world.clock.advance(10);
    Key::new("third")
        .ask(&site)
        .await
        .refused(400, "invalid_client", text);
    let _ = new.ask(&site).await.expect(200);
    assert_eq!(other.received().len(), 1);
    // A key id is no key.
    let forged = Key::new("new");
    let invalid = "Signature on JWT token failed validation";
    forged
        .ask(&site)
        .await
        .refused(400, "invalid_client", invalid);
    // What is no key set, or too long, gives no keys.
    for (at, answer) in ["no json", &"x".repeat(1024 * 1024 + 1)]
        .into_iter()
        .enumerate()
    {
        other.answer(200, answer);
        let attributes = json!({"jwks.url": format!("{}/{at}", other.url)});
        site.change_client(&id, json!({"attributes": attributes}))
            .await;
        new.ask(&site).await.refused(400, "invalid_client", text);
    }
    for wrong in ["ftp://x/keys", "http://127.0.0.1:1/keys"] {
        site.change_client(&id, json!({"attributes": {"jwks.url": wrong}}))
            .await;
        new.ask(&site).await.refused(400, "invalid_client", text);
    }
}
