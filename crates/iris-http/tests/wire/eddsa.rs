//! Tokens signed with Ed25519 (RFC 8037), made and taken.

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use o28m_jose::{Algorithm, SigningKey, base64std, base64url};
use serde_json::{Value, json};

use crate::harness::{Client, Other, claims, header};
use crate::keys::{key_set, verify};
use crate::visitor::{CALLBACK, Site, Visitor, form};

const NAME: &str = "eddsa-generated";

fn component(config: Value) -> Value {
    json!({"name": NAME, "providerId": NAME, "providerType": "org.keycloak.keys.KeyProvider",
        "config": config})
}

#[tokio::test]
async fn every_token_of_a_realm_is_signed_with_it() {
    let site = Site::start().await;
    let other = Other::start();
    site.change_realm(json!({"defaultSignatureAlgorithm": "EdDSA"}))
        .await;
    let attributes = json!({"backchannel.logout.url": other.url});
    let told = json!({"clientId": "told", "redirectUris": [CALLBACK], "attributes": attributes});
    site.client(told).await;
    let mut anna = Visitor::new(&site.world);
    let code = site.code(&mut anna, "told", &[]).await;
    let tokens = site.redeem("told", &code, &[]).await.expect(200).json();

    let keys = key_set(&site.world, "r").await;
    for name in ["access_token", "id_token"] {
        assert_eq!(header(&tokens[name])["alg"], "EdDSA", "{name}");
        verify(&tokens[name], &keys, Algorithm::EdDSA);
    }
    // The hash is that of Ed25519, whose signatures it goes with.
    let access = tokens["access_token"].as_str().unwrap();
    let hash = digest(&SHA512, access.as_bytes());
    assert_eq!(
        claims(&tokens["id_token"])["at_hash"],
        base64url(&hash.as_ref()[..32])
    );
    let kid = header(&tokens["access_token"])["kid"].clone();
    let reply = site
        .world
        .http
        .get(&site.world.protocol("r", "certs"))
        .await;
    let published = reply.json()["keys"].clone();
    let mut found = published.as_array().unwrap().iter();
    let jwk = found.find(|it| it["kid"] == kid).unwrap();
    let x = jwk["x"].as_str().unwrap();
    assert_eq!(
        *jwk,
        json!({"kid": kid, "kty": "OKP", "alg": "EdDSA", "use": "sig", "crv": "Ed25519", "x": x})
    );

    assert!(site.is_active(&tokens["access_token"]).await);
    let userinfo = site.world.http.bearer(access);
    let shown = userinfo.get(&site.world.protocol("r", "userinfo")).await;
    assert_eq!(shown.expect(200).json()["preferred_username"], "anna");
    let again = site.refresh("told", &tokens).await.expect(200).json();
    verify(&again["access_token"], &keys, Algorithm::EdDSA);
    let fields = form(&[
        ("client_id", "told"),
        ("client_secret", "s"),
        ("refresh_token", again["refresh_token"].as_str().unwrap()),
    ]);
    let logout = site.world.protocol("r", "logout");
    let _ = site.world.http.form(&logout, &fields).await.expect(204);
    let received = other.received();
    let farewell = received[0].1.strip_prefix("logout_token=").unwrap();
    verify(&json!(farewell), &keys, Algorithm::EdDSA);
    assert!(!site.is_active(&again["access_token"]).await);

    let url = site.world.at("/realms/r/.well-known/openid-configuration");
    let discovery = site.world.http.get(&url).await.expect(200).json();
    for list in [
        "id_token_signing_alg_values_supported",
        "token_endpoint_auth_signing_alg_values_supported",
        "introspection_endpoint_auth_signing_alg_values_supported",
        "revocation_endpoint_auth_signing_alg_values_supported",
        "dpop_signing_alg_values_supported",
    ] {
        let names = discovery[list].as_array().unwrap();
        assert!(names.contains(&json!("EdDSA")), "{list}");
    }
}

#[tokio::test]
async fn clients_choose_it_and_others_are_not_confused() {
    let site = Site::start().await;
    let attributes = json!({"access.token.signed.response.alg": "EdDSA"});
    site.client(json!({"clientId": "one", "attributes": attributes}))
        .await;
    let token = site.world.service_token("r", "one").await["access_token"].clone();
    verify(&token, &key_set(&site.world, "r").await, Algorithm::EdDSA);
    let plain = site.world.service_token("r", "web").await["access_token"].clone();
    assert_eq!(header(&plain)["alg"], "RS256");
    // A key of the realm signs with its own algorithm alone.
    let parts: Vec<_> = token.as_str().unwrap().split('.').collect();
    let kid = &header(&token)["kid"];
    for alg in ["HS256", "ES256", "RS256", "none", "Ed25519"] {
        let head = json!({"alg": alg, "typ": "JWT", "kid": kid}).to_string();
        let forged = format!("{}.{}.{}", base64url(head.as_bytes()), parts[1], parts[2]);
        assert!(!site.is_active(&json!(forged)).await, "{alg}");
    }
    let other = SigningKey::generate_pkcs8(Algorithm::EdDSA).unwrap();
    let other = SigningKey::from_pkcs8("", Algorithm::EdDSA, &other).unwrap();
    let head = header(&token).to_string();
    let forged = o28m_jose::sign(
        head.as_bytes(),
        claims(&token).to_string().as_bytes(),
        &other,
    );
    assert!(!site.is_active(&json!(forged)).await);
    assert!(site.is_active(&token).await);
}

async fn refused(admin: &Client, method: &str, url: &str, config: Value, text: &str) {
    let reply = admin.json(method, url, component(config)).await;
    let reply = reply.expect(400).json();
    assert!(reply.to_string().contains(text), "{reply}");
}

#[tokio::test]
async fn keys_of_it_are_made_rotated_and_deleted() {
    let site = Site::start().await;
    let (world, admin) = (&site.world, &site.admin);
    let url = world.admin_url("/r/components");
    let made = component(json!({"priority": ["100"], "eddsaEllipticCurveKey": ["Ed25519"]}));
    let first = admin.json("POST", &url, made).await.expect(201).id();
    let shown = admin.get(&format!("{url}/{first}")).await.json();
    assert_eq!(shown["config"]["eddsaEllipticCurveKey"], json!(["Ed25519"]));
    assert!(shown["config"].get("eddsaPrivateKey").is_none());
    // What was read can be written back.
    let put = admin.json("PUT", &format!("{url}/{first}"), shown).await;
    let _ = put.expect(204);

    site.change_realm(json!({"defaultSignatureAlgorithm": "EdDSA"}))
        .await;
    let old = world.service_token("r", "web").await["access_token"].clone();
    let made = component(json!({"priority": ["200"]}));
    let second = admin.json("POST", &url, made).await.expect(201).id();
    let new = world.service_token("r", "web").await["access_token"].clone();
    assert_ne!(header(&old)["kid"], header(&new)["kid"]);
    let keys = key_set(world, "r").await;
    verify(&old, &keys, Algorithm::EdDSA);
    verify(&new, &keys, Algorithm::EdDSA);
    assert!(site.is_active(&old).await && site.is_active(&new).await);
    let listed = admin.get(&world.admin_url("/r/keys")).await.json();
    assert_eq!(listed["active"]["EdDSA"], header(&new)["kid"]);
    let mut all = listed["keys"].as_array().unwrap().iter();
    let entry = all.find(|it| it["kid"] == header(&new)["kid"]).unwrap();
    assert_eq!(
        (&entry["type"], &entry["algorithm"], &entry["use"]),
        (&json!("OKP"), &json!("EdDSA"), &json!("SIG"))
    );
    // 44 bytes: the public key as it is exchanged (RFC 8410).
    assert_eq!(entry["publicKey"].as_str().unwrap().len(), 60);
    let der = base64_bytes(entry["publicKey"].as_str().unwrap());
    assert_eq!(entry["kid"], base64url(digest(&SHA256, &der).as_ref()));

    let passive = json!({"config": {"active": ["false"]}});
    let put = admin.json("PUT", &format!("{url}/{second}"), passive).await;
    let _ = put.expect(204);
    let third = world.service_token("r", "web").await["access_token"].clone();
    assert_eq!(header(&third)["kid"], header(&old)["kid"]);
    assert!(site.is_active(&new).await);
    let delete = admin.send("DELETE", &format!("{url}/{second}"), "").await;
    let _ = delete.expect(204);
    assert!(!site.is_active(&new).await && site.is_active(&old).await);

    let curve = |name: &str| json!({"eddsaEllipticCurveKey": [name]});
    let text = "Ed448 is not supported";
    refused(admin, "POST", &url, curve("Ed448"), text).await;
    let first = format!("{url}/{first}");
    refused(admin, "PUT", &first, curve("Ed448"), text).await;
    let rsa = json!({"algorithm": ["RS256"]});
    refused(admin, "POST", &url, rsa, "does not fit").await;
    let broken = json!({"eddsaPrivateKey": ["AAAA"]});
    refused(admin, "POST", &url, broken, "cannot be used").await;
    let info = admin.get(&world.at("/admin/serverinfo")).await.json();
    assert!(info["providers"]["keys"]["providers"].get(NAME).is_some());
    let algorithms = &info["cryptoInfo"]["clientSignatureAsymmetricAlgorithms"];
    assert!(algorithms.as_array().unwrap().contains(&json!("EdDSA")));
}

fn base64_bytes(text: &str) -> Vec<u8> {
    let plain = text.replace('+', "-").replace('/', "_");
    o28m_jose::from_base64url(plain.trim_end_matches('=')).unwrap()
}

#[tokio::test]
async fn the_curve_of_other_keys_cannot_be_changed_either() {
    let site = Site::start().await;
    let (world, admin) = (&site.world, &site.admin);
    let url = world.admin_url("/r/components");
    let name = "ecdsa-generated";
    let body = |curve: &str| {
        json!({"name": name, "providerId": name, "providerType": "org.keycloak.keys.KeyProvider",
            "config": {"ecdsaEllipticCurveKey": [curve]}})
    };
    let id = admin
        .json("POST", &url, body("P-384"))
        .await
        .expect(201)
        .id();
    let url = format!("{url}/{id}");
    let shown = admin.get(&url).await.json();
    assert_eq!(shown["config"]["ecdsaEllipticCurveKey"], json!(["P-384"]));
    assert_eq!(shown["config"]["algorithm"], json!(["ES384"]));
    let _ = admin.json("PUT", &url, shown).await.expect(204);
    for (curve, text) in [
        ("P-256", "The algorithm of a key cannot be changed"),
        ("secp256k1", "must be P-256, P-384 or P-521"),
    ] {
        let reply = admin.json("PUT", &url, body(curve)).await.expect(400);
        assert!(reply.json().to_string().contains(text), "{curve}");
    }
}

#[tokio::test]
async fn clients_show_who_they_are_with_it() {
    let site = Site::start().await;
    let der = SigningKey::generate_pkcs8(Algorithm::EdDSA).unwrap();
    let key = SigningKey::from_pkcs8("mine", Algorithm::EdDSA, &der).unwrap();
    // Keys that nobody can use are no reason to refuse the others.
    let odd = [
        json!({"kty": 5, "kid": "mine"}),
        json!({"kty": "OKP", "crv": "Ed448", "kid": "mine", "x": "AA"}),
        json!({"kty": "OKP", "crv": "X25519", "kid": "mine", "x": base64url(&[9; 32])}),
        json!({"kty": "oct", "kid": "mine", "k": "AA"}),
        json!("key"),
    ];
    let mut keys = odd.to_vec();
    keys.push(serde_json::to_value(key.public_jwk()).unwrap());
    let jwks = json!({"keys": keys}).to_string();
    let id = site
        .client(
            json!({"clientId": "jwt", "clientAuthenticatorType": "client-jwt",
            "attributes": {"use.jwks.string": "true", "jwks.string": jwks}}),
        )
        .await;
    let issuer = site.world.at("/realms/r");
    let ask = async |signer: &SigningKey, kid: Option<&str>, id: &str| {
        let now_s = o28m_core::Clock::now(site.world.clock.as_ref()).seconds();
        let mut head = json!({"alg": signer.algorithm().name()});
        if let Some(kid) = kid {
            head["kid"] = json!(kid);
        }
        let claims = json!({"iss": "jwt", "sub": "jwt", "aud": issuer, "jti": id,
            "exp": now_s + 60});
        let (head, claims) = (head.to_string(), claims.to_string());
        let token = o28m_jose::sign(head.as_bytes(), claims.as_bytes(), signer);
        let fields = form(&[
            ("grant_type", "client_credentials"),
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ),
            ("client_assertion", &token),
        ]);
        site.world.token("r", &fields).await
    };
    let _ = ask(&key, Some("mine"), "1").await.expect(200);
    let _ = ask(&key, None, "2").await.expect(200);
    let unknown = "Unable to load public key";
    let reply = ask(&key, Some("other"), "3").await;
    reply.refused(400, "invalid_client", unknown);
    let foreign = SigningKey::generate_pkcs8(Algorithm::EdDSA).unwrap();
    let foreign = SigningKey::from_pkcs8("", Algorithm::EdDSA, &foreign).unwrap();
    let invalid = "Signature on JWT token failed validation";
    let reply = ask(&foreign, Some("mine"), "4").await;
    reply.refused(400, "invalid_client", invalid);
    let secret = SigningKey::from_secret("", Algorithm::HS256, &key.public_der()).unwrap();
    let reply = ask(&secret, Some("mine"), "5").await;
    reply.refused(400, "invalid_client", "Invalid signature algorithm");

    // The public key alone, and no other algorithm.
    let attributes = json!({"use.jwks.string": "", "jwks.string": "",
        "token.endpoint.auth.signing.alg": "EdDSA",
        "jwt.credential.public.key": base64std(&key.public_der())});
    site.change_client(&id, json!({"attributes": attributes}))
        .await;
    let _ = ask(&key, None, "6").await.expect(200);
    let ec = SigningKey::generate_pkcs8(Algorithm::ES256).unwrap();
    let ec = SigningKey::from_pkcs8("", Algorithm::ES256, &ec).unwrap();
    let reply = ask(&ec, None, "7").await;
    reply.refused(400, "invalid_client", "Invalid signature algorithm");
}
