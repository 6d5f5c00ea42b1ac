//! Tokens bound to keys of clients (RFC 9449).

use aws_lc_rs::digest::{SHA256, digest};
use o28m_jose::{Algorithm, SigningKey, base64url};
use serde_json::{Value, json};

use crate::harness::{Client, Reply, claims};
use crate::visitor::{Site, Visitor, form};

/// A client's key.
struct Key(SigningKey);

impl Key {
    fn new() -> Self {
        Self::of(Algorithm::ES256)
    }

    fn of(algorithm: Algorithm) -> Self {
        let der = SigningKey::generate_pkcs8(algorithm).unwrap();
        Self(SigningKey::from_pkcs8("", algorithm, &der).unwrap())
    }

    /// The members that count, in the order in which the thumbprint takes them.
    fn jwk(&self) -> Value {
        let jwk = self.0.public_jwk();
        match jwk.kty.as_deref() {
            Some("RSA") => json!({"e": jwk.e, "kty": "RSA", "n": jwk.n}),
            Some("EC") => json!({"crv": jwk.crv, "kty": "EC", "x": jwk.x, "y": jwk.y}),
            _ => json!({"crv": jwk.crv, "kty": "OKP", "x": jwk.x}),
        }
    }

    fn thumbprint(&self) -> String {
        base64url(digest(&SHA256, self.jwk().to_string().as_bytes()).as_ref())
    }

    /// A proof for a request, and for a token that comes with it.
    fn proof(&self, site: &Site, method: &str, url: &str, token: Option<&str>) -> String {
        let now_s = o28m_core::Clock::now(site.world.clock.as_ref()).seconds();
        let mut id = [0; 16];
        aws_lc_rs::rand::fill(&mut id).unwrap();
        let mut claims = json!({"jti": base64url(&id), "htm": method, "htu": url, "iat": now_s});
        if let Some(token) = token {
            claims["ath"] = json!(base64url(digest(&SHA256, token.as_bytes()).as_ref()));
        }
        let header =
            json!({"typ": "dpop+jwt", "alg": self.0.algorithm().name(), "jwk": self.jwk()});
        let (header, claims) = (header.to_string(), claims.to_string());
        o28m_jose::sign(header.as_bytes(), claims.as_bytes(), &self.0)
    }
}

async fn send(site: &Site, proof: Option<&str>, pairs: &[(&str, &str)]) -> Reply {
    let http = match proof {
        Some(proof) => site.world.http.with("dpop", proof),
        None => site.world.http.clone(),
    };
    http.form(&site.world.protocol("r", "token"), &form(pairs))
        .await
}

const SERVICE: [(&str, &str); 3] = [
    ("grant_type", "client_credentials"),
    ("client_id", "web"),
    ("client_secret", "s"),
];

#[tokio::test]
async fn a_token_is_bound_to_the_key_that_was_proved() {
    let site = Site::start().await;
    let key = Key::new();
    let url = site.world.protocol("r", "token");
    let proof = key.proof(&site, "POST", &url, None);
    let tokens = send(&site, Some(&proof), &SERVICE).await.expect(200).json();
    assert_eq!(tokens["token_type"], "DPoP");
    let token = claims(&tokens["access_token"]);
    assert_eq!(token["typ"], "DPoP");
    assert_eq!(token["cnf"], json!({"jkt": key.thumbprint()}));
    // The same proof again, and proofs of other requests.
    let refused = |reply: Reply, text: &str| reply.refused(400, "invalid_dpop_proof", text);
    let again = send(&site, Some(&proof), &SERVICE).await;
    refused(again, "DPoP proof has already been used");
    let get = key.proof(&site, "GET", &url, None);
    refused(
        send(&site, Some(&get), &SERVICE).await,
        "DPoP HTTP method mismatch",
    );
    let other = key.proof(&site, "POST", &site.world.protocol("s", "token"), None);
    refused(
        send(&site, Some(&other), &SERVICE).await,
        "DPoP HTTP URL mismatch",
    );
    let old = key.proof(&site, "POST", &url, None);
    site.world.clock.advance(26);
    refused(
        send(&site, Some(&old), &SERVICE).await,
        "DPoP proof is not active",
    );
    refused(
        send(&site, Some("x"), &SERVICE).await,
        "DPoP header verification failure",
    );
    // Without a proof tokens are bearer tokens, unless the client never wants such.
    let plain = send(&site, None, &SERVICE).await.expect(200).json();
    assert_eq!(plain["token_type"], "Bearer");
    let body = json!({"clientId": "strict", "attributes": {"dpop.bound.access.tokens": "true"}});
    site.client(body).await;
    let strict = [SERVICE[0], ("client_id", "strict"), SERVICE[2]];
    refused(send(&site, None, &strict).await, "DPoP proof is missing");
    let proof = key.proof(&site, "POST", &url, None);
    let _ = send(&site, Some(&proof), &strict).await.expect(200);
    // Introspection tells what the token is bound to.
    let fields = form(&[
        SERVICE[1],
        SERVICE[2],
        ("token", tokens["access_token"].as_str().unwrap()),
    ]);
    let url = site.world.protocol("r", "token/introspect");
    let shown = site.world.http.form(&url, &fields).await;
    let shown = shown.expect(200).json();
    assert_eq!(
        (&shown["active"], &shown["token_type"]),
        (&json!(true), &json!("DPoP"))
    );
    assert_eq!(shown["cnf"], token["cnf"]);
}

#[tokio::test]
async fn keys_of_every_kind_bind_tokens() {
    let site = Site::start().await;
    let url = site.world.protocol("r", "token");
    for algorithm in [Algorithm::PS256, Algorithm::ES384, Algorithm::EdDSA] {
        let key = Key::of(algorithm);
        let proof = key.proof(&site, "POST", &url, None);
        let tokens = send(&site, Some(&proof), &SERVICE).await.expect(200).json();
        let bound = &claims(&tokens["access_token"])["cnf"]["jkt"];
        assert_eq!(*bound, key.thumbprint(), "{algorithm}");
    }
}

#[tokio::test]
async fn proofs_of_strangers_are_not_remembered() {
    let site = Site::start().await;
    let key = Key::new();
    let proof = key.proof(&site, "POST", &site.world.protocol("r", "token"), None);
    let wrong = [SERVICE[0], SERVICE[1], ("client_secret", "wrong")];
    let _ = send(&site, Some(&proof), &wrong).await.expect(401);
    let tokens = send(&site, Some(&proof), &SERVICE).await.expect(200).json();
    let known = tokens["access_token"].as_str().unwrap();
    let userinfo = site.world.protocol("r", "userinfo");
    let ask = async |token: &str, proof: &str| {
        let authorization = format!("DPoP {token}");
        let http = site.world.http.with("authorization", &authorization);
        http.with("dpop", proof).get(&userinfo).await
    };
    // A proof for a token that is none is checked no further; one for a token in force counts once.
    let proof = key.proof(&site, "GET", &userinfo, Some("junk"));
    for _ in 0..2 {
        let told = ask("junk", &proof).await.expect(401);
        let told = told.headers["www-authenticate"]
            .to_str()
            .unwrap()
            .to_owned();
        assert!(told.contains("Token verification failed"), "{told}");
    }
    let proof = key.proof(&site, "GET", &userinfo, Some(known));
    let _ = ask(known, &proof).await.expect(403);
    let told = ask(known, &proof).await.expect(401);
    let told = told.headers["www-authenticate"].to_str().unwrap();
    assert!(told.contains("already been used"), "{told}");
}

#[tokio::test]
async fn a_stolen_bound_token_opens_nothing() {
    let site = Site::start().await;
    let (key, thief) = (Key::new(), Key::new());
    let url = site.world.protocol("r", "token");
    let mut anna = Visitor::new(&site.world);
    let code = site.code(&mut anna, "app", &[]).await;
    let redeem = [
        ("grant_type", "authorization_code"),
        ("client_id", "app"),
        ("redirect_uri", crate::visitor::CALLBACK),
        ("code", code.as_str()),
    ];
    let proof = key.proof(&site, "POST", &url, None);
    let tokens = send(&site, Some(&proof), &redeem).await.expect(200).json();
    let token = tokens["access_token"].as_str().unwrap();

    let userinfo = site.world.protocol("r", "userinfo");
    let ask = async |scheme: &str, proof: Option<String>| {
        let mut http = site
            .world
            .http
            .with("authorization", &format!("{scheme} {token}"));
        if let Some(proof) = proof {
            http = http.with("dpop", &proof);
        }
        http.get(&userinfo).await
    };
    let good = key.proof(&site, "GET", &userinfo, Some(token));
    let claims = ask("DPoP", Some(good.clone())).await.expect(200).json();
    assert_eq!(claims["preferred_username"], "anna");
    for (scheme, proof) in [
        ("Bearer", None),
        (
            "Bearer",
            Some(key.proof(&site, "GET", &userinfo, Some(token))),
        ),
        ("DPoP", None),
        ("DPoP", Some(good)),
        (
            "DPoP",
            Some(thief.proof(&site, "GET", &userinfo, Some(token))),
        ),
        ("DPoP", Some(key.proof(&site, "GET", &userinfo, None))),
        (
            "DPoP",
            Some(key.proof(&site, "GET", &userinfo, Some("other"))),
        ),
        ("DPoP", Some(key.proof(&site, "GET", &url, Some(token)))),
    ] {
        let reply = ask(scheme, proof).await.expect(401);
        assert!(!reply.header("www-authenticate").is_empty());
    }
    // A bearer token is not made a bound one by a proof.
    let plain = send(&site, None, &SERVICE).await.expect(200).json();
    let plain = plain["access_token"].as_str().unwrap();
    let http: Client = site
        .world
        .http
        .with("authorization", &format!("DPoP {plain}"));
    let proof = key.proof(&site, "GET", &userinfo, Some(plain));
    let _ = http.with("dpop", &proof).get(&userinfo).await.expect(401);

    // The refresh token of a public client works with the key alone.
    let refresh = [
        ("grant_type", "refresh_token"),
        ("client_id", "app"),
        ("refresh_token", tokens["refresh_token"].as_str().unwrap()),
    ];
    let text = "DPoP proof and token binding verification failed";
    send(&site, None, &refresh)
        .await
        .refused(400, "invalid_grant", text);
    let proof = thief.proof(&site, "POST", &url, None);
    let reply = send(&site, Some(&proof), &refresh).await;
    reply.refused(400, "invalid_grant", text);
    let proof = key.proof(&site, "POST", &url, None);
    let renewed = send(&site, Some(&proof), &refresh).await.expect(200).json();
    assert_eq!(renewed["token_type"], "DPoP");
}

#[tokio::test]
async fn a_bound_token_is_no_token_of_an_administrator() {
    let site = Site::start().await;
    let key = Key::new();
    let url = site.world.protocol("master", "token");
    let proof = key.proof(&site, "POST", &url, None);
    let pairs = [
        ("grant_type", "password"),
        ("client_id", "admin-cli"),
        ("username", "admin"),
        ("password", "pw"),
    ];
    let reply = site
        .world
        .http
        .with("dpop", &proof)
        .form(&url, &form(&pairs))
        .await;
    let token = reply.expect(200).json()["access_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let users = site.world.admin_url("/r/users");
    for scheme in ["Bearer", "DPoP"] {
        let http = site
            .world
            .http
            .with("authorization", &format!("{scheme} {token}"));
        http.get(&users).await.prose(401, "HTTP 401 Unauthorized");
    }
}

#[tokio::test]
async fn a_code_may_be_bound_before_there_is_a_token() {
    let site = Site::start().await;
    let (key, thief) = (Key::new(), Key::new());
    let url = site.world.protocol("r", "token");
    let mut anna = Visitor::new(&site.world);
    let thumbprint = key.thumbprint();
    for (proof, good) in [
        (None, false),
        (Some(thief.proof(&site, "POST", &url, None)), false),
        (Some(key.proof(&site, "POST", &url, None)), true),
    ] {
        let code = site
            .code(&mut anna, "app", &[("dpop_jkt", &thumbprint)])
            .await;
        let redeem = [
            ("grant_type", "authorization_code"),
            ("client_id", "app"),
            ("redirect_uri", crate::visitor::CALLBACK),
            ("code", code.as_str()),
        ];
        let reply = send(&site, proof.as_deref(), &redeem).await;
        if good {
            let _ = reply.expect(200);
        } else {
            let text = "DPoP Proof public key thumbprint does not match dpop_jkt";
            reply.refused(400, "invalid_grant", text);
        }
    }
}
