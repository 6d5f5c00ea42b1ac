//! Client assertions, the device grant and token exchange.

use o28m_jose::{Algorithm, SigningKey};
use serde_json::{Value, json};

use crate::harness::{Reply, claims};
use crate::visitor::{CALLBACK, Site, Visitor, attribute, form, text};

const KIND: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const NOW: i64 = 1_800_000_000;

fn assertion(key: &SigningKey, claims: &Value) -> String {
    let head = json!({"alg": key.algorithm().name(), "kid": key.kid()}).to_string();
    o28m_jose::sign(head.as_bytes(), claims.to_string().as_bytes(), key)
}

async fn ask(site: &Site, client: &str, token: &str) -> Reply {
    let fields = form(&[
        ("grant_type", "client_credentials"),
        ("client_id", client),
        ("client_assertion_type", KIND),
        ("client_assertion", token),
    ]);
    site.world.token("r", &fields).await
}

#[tokio::test]
async fn iris_case_019_clients_authenticate_with_signed_tokens() {
    let site = Site::start().await;
    let issuer = site.world.at("/realms/r");
    let der = SigningKey::generate_pkcs8(Algorithm::ES256).unwrap();
    let key = SigningKey::from_pkcs8("k1", Algorithm::ES256, &der).unwrap();
    let jwks = json!({"keys": [key.public_jwk()]}).to_string();
    let id = site
        .client(
            json!({"clientId": "jwt", "clientAuthenticatorType": "client-jwt",
        "attributes": {"use.jwks.string": "true", "jwks.string": jwks}}),
        )
        .await;
    let body = |jti: &str| {
        json!({"iss": "jwt", "sub": "jwt", "aud": issuer, "jti": jti,
        "iat": NOW, "exp": NOW + 60})
    };
    let good = assertion(&key, &body("1"));
    let _ = ask(&site, "jwt", &good).await.expect(200);
    // Without client_id: the assertion names the client.
    let fields = form(&[
        ("grant_type", "client_credentials"),
        ("client_assertion_type", KIND),
        ("client_assertion", &assertion(&key, &body("2"))),
    ]);
    let tokens = site.world.token("r", &fields).await.expect(200).json();
    assert_eq!(claims(&tokens["access_token"])["azp"], "jwt");
    ask(&site, "jwt", &good)
        .await
        .refused(400, "invalid_client", "Token reuse detected");

    let with = |name: &str, value: Value| {
        let mut changed = body("x");
        changed[name] = value;
        changed
    };
    let other = SigningKey::from_pkcs8(
        "k1",
        Algorithm::ES256,
        &SigningKey::generate_pkcs8(Algorithm::ES256).unwrap(),
    )
    .unwrap();
    let pem = o28m_jose::base64std(&key.public_der());
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{pem}\n-----END PUBLIC KEY-----");
    let confused = SigningKey::from_secret("k1", Algorithm::HS256, pem.as_bytes()).unwrap();
    let none = o28m_jose::encode(
        json!({"alg": "none"}).to_string().as_bytes(),
        body("y").to_string().as_bytes(),
    );
    for (token, problem) in [
        (
            assertion(&key, &with("exp", json!(NOW - 60))),
            "Token is not active",
        ),
        (
            assertion(&key, &with("aud", json!("https://other.example"))),
            "Invalid token audience",
        ),
        (
            assertion(&key, &with("aud", json!([issuer, "https://x.example"]))),
            "Multiple audiences not allowed",
        ),
        (
            assertion(&key, &with("iss", json!("web"))),
            "Token issuer and subject must be the client",
        ),
        (
            assertion(&key, &with("sub", json!("web"))),
            "Token issuer and subject must be the client",
        ),
        (
            assertion(&key, &with("jti", json!(null))),
            "Token jti claim is required",
        ),
        (
            assertion(&other, &body("z")),
            "Signature on JWT token failed validation",
        ),
        (
            assertion(&confused, &body("c")),
            "Invalid signature algorithm",
        ),
        (format!("{none}."), "Invalid signature algorithm"),
        (
            "garbage".to_owned(),
            "Client assertion is not a signed token",
        ),
    ] {
        ask(&site, "jwt", &token)
            .await
            .refused(400, "invalid_client", problem);
    }
    let secret = form(&[
        ("grant_type", "client_credentials"),
        ("client_id", "jwt"),
        ("client_secret", "s"),
    ]);
    let problem = "Parameter client_assertion_type is missing";
    site.world
        .token("r", &secret)
        .await
        .refused(400, "invalid_client", problem);
    // A refused assertion is not used up: its id is claimed last.
    let _ = ask(&site, "jwt", &assertion(&key, &body("x")))
        .await
        .expect(200);

    // The certificate alone, and an algorithm of choice.
    let der = SigningKey::generate_pkcs8(Algorithm::RS256).unwrap();
    let made = o28m_jose::x509::self_signed(&der, "jwt", &[], 2100).unwrap();
    let inside = o28m_jose::base64std(&made.certificate_der);
    site.change_client(
        &id,
        json!({"attributes": {"use.jwks.string": "", "jwks.string": "",
        "jwt.credential.certificate": inside, "token.endpoint.auth.signing.alg": "PS256"}}),
    )
    .await;
    let signer = |algorithm| SigningKey::from_pkcs8("", algorithm, &der).unwrap();
    let token = assertion(&signer(Algorithm::PS256), &body("3"));
    let _ = ask(&site, "jwt", &token).await.expect(200);
    let token = assertion(&signer(Algorithm::RS256), &body("4"));
    ask(&site, "jwt", &token)
        .await
        .refused(400, "invalid_client", "Invalid signature algorithm");

    // With the secret as the key.
    let shared = "a secret of thirty-two characters";
    site.client(
        json!({"clientId": "hmac", "clientAuthenticatorType": "client-secret-jwt",
        "secret": shared}),
    )
    .await;
    let key = SigningKey::from_secret("", Algorithm::HS256, shared.as_bytes()).unwrap();
    let body = |jti: &str| {
        json!({"iss": "hmac", "sub": "hmac", "jti": jti, "exp": NOW + 60,
        "aud": site.world.protocol("r", "token")})
    };
    let _ = ask(&site, "hmac", &assertion(&key, &body("1")))
        .await
        .expect(200);
    let wrong = SigningKey::from_secret("", Algorithm::HS256, b"wrong").unwrap();
    let problem = "Signature on JWT token failed validation";
    ask(&site, "hmac", &assertion(&wrong, &body("2")))
        .await
        .refused(400, "invalid_client", problem);
}

async fn device(site: &Site, client: &str) -> Value {
    let url = site.world.protocol("r", "auth/device");
    let fields = form(&[("client_id", client), ("scope", "openid")]);
    site.world.http.form(&url, &fields).await.expect(200).json()
}

async fn poll(site: &Site, client: &str, begun: &Value) -> Reply {
    let fields = form(&[
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("client_id", client),
        ("device_code", begun["device_code"].as_str().unwrap()),
    ]);
    site.world.token("r", &fields).await
}

#[tokio::test]
async fn a_device_gets_tokens_when_the_person_allows_it() {
    let site = Site::start().await;
    let url = site.world.protocol("r", "auth/device");
    let _ = site
        .world
        .http
        .form(&url, "client_id=app")
        .await
        .expect(404);
    let _ = site
        .world
        .http
        .get(&site.world.at("/realms/r/device"))
        .await
        .expect(404);
    poll(&site, "app", &json!({"device_code": "x"}))
        .await
        .refused(400, "unsupported_grant_type", "Unsupported grant_type");
    site.change_realm(json!({"attributes": {"deviceFlowEnabled": "true"}}))
        .await;
    let off = site.world.http.form(&url, "client_id=app").await;
    assert_eq!(off.expect(400).json()["error"], "unauthorized_client");
    for name in ["tv", "radio"] {
        site.client(
            json!({"clientId": name, "publicClient": true, "secret": null, "name": "Our TV",
            "serviceAccountsEnabled": false, "standardFlowEnabled": false,
            "attributes": {"oauth2.device.authorization.grant.enabled": "true"}}),
        )
        .await;
    }
    let metadata = site.world.at("/realms/r/.well-known/openid-configuration");
    let document = site.world.http.get(&metadata).await.json();
    assert_eq!(document["device_authorization_endpoint"], url);

    let begun = device(&site, "tv").await;
    assert_eq!(
        (&begun["expires_in"], &begun["interval"]),
        (&json!(600), &json!(5))
    );
    let pending = "The authorization request is still pending";
    poll(&site, "tv", &begun)
        .await
        .refused(400, "authorization_pending", pending);
    poll(&site, "tv", &begun)
        .await
        .refused(400, "slow_down", "Slow down");
    site.world.clock.advance(5);
    poll(&site, "tv", &begun)
        .await
        .refused(400, "authorization_pending", pending);
    poll(&site, "radio", &begun)
        .await
        .refused(400, "invalid_grant", "Device code not valid");

    let mut anna = Visitor::new(&site.world);
    let page = anna
        .get(begun["verification_uri"].as_str().unwrap())
        .await
        .expect(200);
    let wrong = anna
        .submit(&page, &[("device_user_code", "BBBB-BBBB")])
        .await
        .expect(200);
    assert!(text(&wrong).contains("Invalid code"));
    let code = begun["user_code"].as_str().unwrap().to_lowercase();
    let page = anna
        .submit(&page, &[("device_user_code", &code)])
        .await
        .expect(200);
    let fields = [("username", "anna"), ("password", "secret")];
    let page = anna.submit(&page, &fields).await.expect(200);
    assert!(text(&page).contains("Allow this device?") && text(&page).contains("Our TV"));
    // Logged in, but not allowed yet.
    site.world.clock.advance(5);
    poll(&site, "tv", &begun)
        .await
        .refused(400, "authorization_pending", pending);
    let ticket = attribute(&text(&page), "name=\"session_code\"", "value");
    let mut other = Visitor::new(&site.world);
    let answer = [("session_code", ticket.as_str()), ("accept", "true")];
    let _ = other.submit(&page, &answer).await.expect(400);
    let done = anna.submit(&page, &answer).await.expect(200);
    assert!(text(&done).contains("Device login successful"));
    site.world.clock.advance(5);
    let tokens = poll(&site, "tv", &begun).await.expect(200).json();
    assert_eq!(claims(&tokens["id_token"])["aud"], "tv");
    poll(&site, "tv", &begun)
        .await
        .refused(400, "invalid_grant", "Device code not valid");

    // Refused; with a link that holds the code the person is still asked.
    let begun = device(&site, "tv").await;
    let page = anna
        .get(begun["verification_uri_complete"].as_str().unwrap())
        .await
        .expect(200);
    let ticket = attribute(&text(&page), "name=\"session_code\"", "value");
    let _ = anna
        .submit(
            &page,
            &[("session_code", ticket.as_str()), ("cancel", "true")],
        )
        .await
        .expect(200);
    let denied = "The end user denied the authorization request";
    poll(&site, "tv", &begun)
        .await
        .refused(400, "access_denied", denied);
    // Too late.
    let begun = device(&site, "tv").await;
    site.world.clock.advance(601);
    poll(&site, "tv", &begun)
        .await
        .refused(400, "expired_token", "Device code is expired");
    let page = anna
        .get(begun["verification_uri_complete"].as_str().unwrap())
        .await
        .expect(200);
    assert!(text(&page).contains("Invalid code"));
}

#[tokio::test]
async fn tokens_are_exchanged_within_what_they_allow() {
    let site = Site::start().await;
    let id = site
        .client(json!({"clientId": "api", "redirectUris": [CALLBACK]}))
        .await;
    let audience = |name: &str| {
        json!({"name": format!("aud {name}"), "protocol": "openid-connect",
        "protocolMapper": "oidc-audience-mapper",
        "config": {"included.client.audience": name, "access.token.claim": "true"}})
    };
    site.client(json!({"clientId": "front", "redirectUris": [CALLBACK],
        "protocolMappers": [audience("api")]}))
        .await;
    site.client(json!({"clientId": "target"})).await;
    let mut anna = Visitor::new(&site.world);
    let code = site.code(&mut anna, "front", &[]).await;
    let subject = site.redeem("front", &code, &[]).await.expect(200).json();
    let code = site.code(&mut anna, "web", &[]).await;
    let unrelated = site.redeem("web", &code, &[]).await.expect(200).json();
    let exchange = async |client: &str, token: &Value, more: &[(&str, &str)]| {
        let mut pairs = vec![
            (
                "grant_type",
                "urn:ietf:params:oauth:grant-type:token-exchange",
            ),
            ("client_id", client),
            ("client_secret", "s"),
            ("subject_token", token.as_str().unwrap()),
            (
                "subject_token_type",
                "urn:ietf:params:oauth:token-type:access_token",
            ),
        ];
        pairs.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
        pairs.extend(more.iter().filter(|(_, value)| !value.is_empty()));
        site.world.token("r", &form(&pairs)).await
    };
    let token = &subject["access_token"];
    exchange("api", token, &[]).await.refused(
        400,
        "unsupported_grant_type",
        "Unsupported grant_type",
    );
    site.change_realm(json!({"attributes": {"standardTokenExchangeEnabled": "true"}}))
        .await;
    let off = "Standard token exchange is not enabled for the requested client";
    exchange("api", token, &[])
        .await
        .refused(400, "invalid_request", off);
    site.change_client(
        &id,
        json!({"attributes": {"standard.token.exchange.enabled": "true"},
        "protocolMappers": [audience("target")]}),
    )
    .await;

    let done = exchange("api", token, &[("audience", "target")])
        .await
        .expect(200)
        .json();
    assert_eq!(
        done["issued_token_type"],
        "urn:ietf:params:oauth:token-type:access_token"
    );
    assert!(done.get("refresh_token").is_none());
    let made = claims(&done["access_token"]);
    assert_eq!(
        (&made["azp"], &made["aud"]),
        (&json!("api"), &json!("target"))
    );
    assert_eq!(made["sub"], claims(token)["sub"]);
    let id_type = [(
        "requested_token_type",
        "urn:ietf:params:oauth:token-type:id_token",
    )];
    let done = exchange("api", token, &id_type).await.expect(200).json();
    assert_eq!(
        (&done["token_type"], &claims(&done["access_token"])["typ"]),
        (&json!("N_A"), &json!("ID"))
    );
    for (token, more, status, error, problem) in [
        (
            &unrelated["access_token"],
            &[][..],
            403,
            "access_denied",
            "Client is not within the token audience",
        ),
        (
            &subject["id_token"],
            &[],
            400,
            "invalid_request",
            "Invalid token",
        ),
        (
            &subject["refresh_token"],
            &[],
            400,
            "invalid_request",
            "Invalid token",
        ),
        (
            token,
            &[("subject_token", "")],
            400,
            "invalid_request",
            "Parameter 'subject_token' required for standard token exchange",
        ),
        (
            token,
            &[("subject_token_type", "urn:x")],
            400,
            "invalid_request",
            "Parameter 'subject_token' supports access tokens only",
        ),
        (
            token,
            &[("requested_subject", "bert")],
            400,
            "invalid_request",
            "Parameter 'requested_subject' is not supported for standard token exchange",
        ),
        (
            token,
            &[(
                "requested_token_type",
                "urn:ietf:params:oauth:token-type:refresh_token",
            )],
            400,
            "invalid_request",
            "requested_token_type unsupported",
        ),
        (
            token,
            &[("audience", "nosuch")],
            400,
            "invalid_client",
            "Audience not found",
        ),
        (
            token,
            &[("audience", "web")],
            400,
            "invalid_request",
            "Requested audience not available: web",
        ),
        (
            token,
            &[("scope", "nosuch")],
            400,
            "invalid_scope",
            "Invalid scopes: nosuch",
        ),
        (
            token,
            &[("scope", "offline_access")],
            400,
            "invalid_request",
            "Scope offline_access not allowed for token exchange",
        ),
    ] {
        exchange("api", token, more)
            .await
            .refused(status, error, problem);
    }
    // The login ends, and with it what could be exchanged.
    let hint = subject["id_token"].as_str().unwrap();
    let url = format!(
        "{}?id_token_hint={hint}",
        site.world.protocol("r", "logout")
    );
    let _ = anna.get(&url).await.expect(200);
    exchange("api", token, &[])
        .await
        .refused(400, "invalid_request", "Invalid token");
}

#[tokio::test]
async fn iris_case_026_ways_of_client_authentication_are_counted() {
    let site = Site::start().await;
    let url = site.world.protocol("r", "token");
    let basic = |pair: &str| {
        let value = format!("Basic {}", o28m_jose::base64std(pair.as_bytes()));
        site.world.http.with("authorization", &value)
    };
    let grant = "grant_type=client_credentials";
    let counters = async || {
        let page = site
            .world
            .http
            .get(&format!("{}/metrics", site.world.management))
            .await;
        let labels =
            "client_id=\"web\",realm=\"r\",path=\"/realms/r/protocol/openid-connect/token\"";
        let read = |method: &str| {
            let start = format!("keycloak_client_auth_method_{method}_total{{{labels}}} ");
            let body = text(&page);
            let line = body.lines().find_map(|line| line.strip_prefix(&start));
            line.map_or(0, |value| value.parse::<u64>().unwrap())
        };
        [read("basic"), read("post"), read("postbasic")]
    };
    let _ = basic("web:s").form(&url, grant).await.expect(200);
    let _ = site
        .world
        .http
        .form(&url, &format!("{grant}&client_id=web&client_secret=s"))
        .await
        .expect(200);
    let _ = basic("web:s")
        .form(&url, &format!("{grant}&client_id=web"))
        .await
        .expect(200);
    assert_eq!(counters().await, [1, 1, 1]);
    let _ = basic("web:wrong").form(&url, grant).await.expect(401);
    let _ = site
        .world
        .http
        .form(&url, &format!("{grant}&client_id=web&client_secret=x"))
        .await
        .expect(401);
    assert_eq!(counters().await, [1, 1, 1]);
}
