//! Keys of a realm, as Keycloak's components of type `org.keycloak.keys.KeyProvider`.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use o28m_core::Ambient;
use o28m_jose::{Algorithm, SigningKey};
use o28m_store::Write;
use serde_json::{Map, Value, json};

use crate::admin::check_length;
use crate::admin::import::MASK;
use crate::keys::{self, KeyBody, RealmKey, Usage};
use crate::model::{Fields as _, Rep, Stored as _, kind};
use crate::{Error, Invalid, Iris, Thing, representation};

/// The only component type of this version.
pub(crate) const KEY_PROVIDER: &str = "org.keycloak.keys.KeyProvider";
/// Providers that keys can be made with.
const PROVIDERS: &[&str] = &["rsa-generated", "ecdsa-generated", "hmac-generated"];
/// Providers whose keys come from outside.
const IMPORTING: &[&str] = &["rsa", "rsa-enc"];

/// The first value of a configuration entry.
fn setting<'a>(rep: &'a Rep, name: &str) -> Option<&'a str> {
    rep.get("config")?.get(name)?.as_array()?.first()?.as_str()
}

/// Settings that can be changed later.
fn apply(key: &mut KeyBody, rep: &Rep) -> Result<(), Error> {
    if let Some(priority) = setting(rep, "priority") {
        let parsed = priority.trim().parse();
        key.priority = parsed
            .map_err(|_| Error::Invalid(Invalid::Component("'Priority' should be a number")))?;
    }
    if let Some(enabled) = setting(rep, "enabled") {
        key.enabled = enabled == "true";
    }
    if let Some(active) = setting(rep, "active") {
        key.active = active == "true";
    }
    if let Some(name) = rep.text("name").filter(|name| !name.is_empty()) {
        check_length("name", name)?;
        name.clone_into(&mut key.name);
    }
    Ok(())
}

/// The algorithm a new key is for, which must fit its provider.
fn algorithm(provider: &str, rep: &Rep) -> Result<Algorithm, Error> {
    let curve = match setting(rep, "ecdsaEllipticCurveKey") {
        Some("P-384") => "ES384",
        Some("P-521") => "ES512",
        _ => "ES256",
    };
    let (default, of) = match provider {
        "rsa-generated" => ("RS256", "RSA"),
        "ecdsa-generated" => (curve, "EC"),
        _ => ("HS512", "oct"),
    };
    let parsed = setting(rep, "algorithm")
        .unwrap_or(default)
        .parse::<Algorithm>()
        .ok();
    let fits = parsed.filter(|algorithm| algorithm.key_type() == of);
    fits.ok_or(Error::Invalid(Invalid::Component(
        "'Algorithm' does not fit the provider",
    )))
}

fn render(key: &KeyBody) -> Rep {
    let rep = json!({
        "id": key.id, "name": key.name, "providerId": key.provider, "providerType": KEY_PROVIDER,
        "parentId": key.realm,
        "config": {
            "priority": [key.priority.to_string()], "enabled": [key.enabled.to_string()],
            "active": [key.active.to_string()], "algorithm": [key.algorithm],
        },
    });
    representation::COMPONENT.arrange(rep.as_object().cloned().unwrap_or_default())
}

/// The component of a key with its material, or a mask in its place.
pub(crate) fn render_with_material(key: &KeyBody, secrets: bool) -> Rep {
    let mut rep = render(key);
    let Some(config) = rep.get_mut("config").and_then(Value::as_object_mut) else {
        return rep;
    };
    let hidden = |value: String| json!([if secrets { value } else { MASK.to_owned() }]);
    let field = match key.provider.as_str() {
        provider if provider.starts_with("rsa") => "privateKey",
        provider if provider.starts_with("ecdsa") => "ecdsaPrivateKey",
        _ => "secret",
    };
    if field == "secret" {
        let bytes = STANDARD.decode(&key.material).unwrap_or_default();
        config.insert("secret".to_owned(), hidden(URL_SAFE_NO_PAD.encode(bytes)));
        config.insert("kid".to_owned(), json!([key.kid]));
    } else {
        config.insert(field.to_owned(), hidden(key.material.clone()));
    }
    if let Some(certificate) = &key.certificate {
        config.insert("certificate".to_owned(), json!([certificate]));
    }
    rep
}

/// The key of a component with its material; one without is made anew, because an export has hidden
/// it. Takes tenths of a second: call it on a blocking thread.
///
/// # Errors
/// [`Error::Invalid`] for providers and material that cannot be used.
pub(crate) fn imported_key(
    rep: &Rep,
    realm_id: &str,
    realm: &str,
    ambient: &Ambient,
) -> Result<KeyBody, Error> {
    let refuse = |text: &'static str| Error::Invalid(Invalid::Component(text));
    let provider = rep.text("providerId").unwrap_or_default();
    let (field, default) = match provider {
        "rsa" | "rsa-generated" => ("privateKey", "RS256"),
        "rsa-enc" | "rsa-enc-generated" => ("privateKey", "RSA-OAEP"),
        "ecdsa-generated" => {
            let curve = setting(rep, "ecdsaEllipticCurveKey").unwrap_or("P-256");
            let default = match curve {
                "P-384" => "ES384",
                "P-521" => "ES512",
                _ => "ES256",
            };
            ("ecdsaPrivateKey", default)
        }
        "hmac-generated" => ("secret", "HS256"),
        "hmac-generated-hs512" => ("secret", "HS512"),
        "aes-generated" => ("secret", "AES"),
        "java-keystore" => {
            return Err(refuse(
                "Keys in Java key stores are not supported: import them as rsa",
            ));
        }
        _ => return Err(refuse("The key provider is not supported")),
    };
    let algorithm = setting(rep, "algorithm").unwrap_or(default);
    let material = setting(rep, field).filter(|text| *text != MASK && !text.is_empty());
    let mut key = match material {
        None if IMPORTING.contains(&provider) => {
            return Err(refuse("The private key is missing"));
        }
        None => keys::of_provider(provider, algorithm, realm_id, realm, ambient)?
            .ok_or(refuse("'Algorithm' does not fit the provider"))?,
        Some(text) => {
            let mut key = read_material(provider, algorithm, text)
                .ok_or(refuse("The private key or secret cannot be read"))?;
            realm_id.clone_into(&mut key.realm);
            key.created_ms = ambient.now().millis();
            complete(&mut key, rep, realm, ambient)?;
            key
        }
    };
    let sent = rep.text("id").filter(|id| o28m_core::id::is_uuid(id));
    key.id = sent.map_or_else(|| ambient.uuid(), str::to_owned);
    provider.clone_into(&mut key.name);
    apply(&mut key, rep)?;
    RealmKey::compile(key.clone()).map_err(|_| refuse("The key cannot be used"))?;
    Ok(key)
}

/// A key with this material and nothing else; `None` when it is no key of the algorithm.
fn read_material(provider: &str, algorithm: &str, text: &str) -> Option<KeyBody> {
    let lines = text.lines().filter(|line| !line.starts_with("-----"));
    let plain: String = lines
        .flat_map(str::chars)
        .filter(|it| !it.is_whitespace())
        .collect();
    let symmetric = provider.starts_with("hmac") || provider.starts_with("aes");
    let bytes = if symmetric {
        URL_SAFE_NO_PAD.decode(plain.trim_end_matches('=')).ok()?
    } else {
        STANDARD.decode(plain).ok()?
    };
    let usage = if provider.starts_with("rsa-enc") || provider.starts_with("aes") {
        Usage::Enc
    } else {
        Usage::Sig
    };
    let key = KeyBody {
        id: String::new(),
        realm: String::new(),
        name: String::new(),
        provider: provider.to_owned(),
        priority: 0,
        enabled: true,
        active: true,
        algorithm: algorithm.to_owned(),
        usage,
        kid: String::new(),
        created_ms: 0,
        material: STANDARD.encode(bytes),
        certificate: None,
    };
    let fits = match key.key_algorithm().map(Algorithm::key_type) {
        Some("RSA") => provider.starts_with("rsa"),
        Some("EC") => provider.starts_with("ecdsa"),
        Some(_) => provider.starts_with("hmac"),
        None => provider.starts_with("aes") && algorithm == "AES",
    };
    fits.then_some(key)
}

/// Key id and certificate.
fn complete(key: &mut KeyBody, rep: &Rep, realm: &str, ambient: &Ambient) -> Result<(), Error> {
    let refuse = |text: &'static str| Error::Invalid(Invalid::Component(text));
    let sent_kid = setting(rep, "kid").filter(|kid| !kid.is_empty());
    let algorithm = key.key_algorithm().filter(|it| it.key_type() != "oct");
    let Some(algorithm) = algorithm else {
        key.kid = sent_kid.map_or_else(|| ambient.uuid(), str::to_owned);
        return Ok(());
    };
    let der = STANDARD.decode(&key.material).unwrap_or_default();
    let pair = SigningKey::from_pkcs8("", algorithm, &der)
        .map_err(|_| refuse("The private key cannot be used"))?;
    key.kid = sent_kid.map_or_else(|| keys::key_id(&pair.public_der()), str::to_owned);
    if algorithm.key_type() == "RSA" {
        let sent = setting(rep, "certificate").map(|text| {
            let lines = text.lines().filter(|line| !line.starts_with("-----"));
            lines.map(str::trim).collect::<String>()
        });
        key.certificate = Some(match sent.filter(|text| !text.is_empty()) {
            Some(text) if STANDARD.decode(&text).is_ok() => text,
            Some(_) => return Err(refuse("The certificate cannot be read")),
            None => keys::certificate(&der, realm, ambient)?,
        });
    }
    Ok(())
}

/// One entry of the key list.
fn show(body: KeyBody) -> Result<Rep, Error> {
    let status = match (body.enabled, body.active) {
        (false, _) => "DISABLED",
        (true, false) => "PASSIVE",
        (true, true) => "ACTIVE",
    };
    let key = RealmKey::compile(body)?;
    let body = &key.body;
    let of = key
        .jwk()
        .and_then(|jwk| jwk.kty.clone())
        .unwrap_or_else(|| "OCT".to_owned());
    let mut rep = Map::new();
    let mut set = |name: &str, value: Value| {
        if !value.is_null() {
            rep.insert(name.to_owned(), value);
        }
    };
    set("providerId", json!(body.id));
    set("providerPriority", json!(body.priority));
    set("kid", json!(body.kid));
    set("status", json!(status));
    set("type", json!(of));
    set("algorithm", json!(body.algorithm));
    set("publicKey", json!(key.public_key()));
    set("certificate", json!(body.certificate));
    set(
        "use",
        json!(if body.usage == Usage::Sig {
            "SIG"
        } else {
            "ENC"
        }),
    );
    Ok(rep)
}

impl Iris {
    /// The keys of a realm and which of them signs with which algorithm.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn realm_keys(&self, realm_id: &str) -> Result<Rep, Error> {
        let mut keys = self.read_owned::<KeyBody>(kind::KEY, realm_id).await?;
        keys.sort_by_key(|key| std::cmp::Reverse((key.priority, key.created_ms)));
        let mut active = Map::new();
        for key in keys.iter().filter(|key| key.enabled && key.active) {
            active
                .entry(key.algorithm.clone())
                .or_insert_with(|| json!(key.kid));
        }
        let shown: Vec<Rep> = keys.into_iter().map(show).collect::<Result<_, _>>()?;
        let rep = json!({"active": active, "keys": shown});
        Ok(rep.as_object().cloned().unwrap_or_default())
    }

    /// The components of a realm, of a type and name where given.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn components(
        &self,
        realm_id: &str,
        of: Option<&str>,
        name: Option<&str>,
    ) -> Result<Vec<Rep>, Error> {
        if of.is_some_and(|of| of != KEY_PROVIDER) {
            return Ok(Vec::new());
        }
        let mut keys = self.read_owned::<KeyBody>(kind::KEY, realm_id).await?;
        keys.retain(|key| name.is_none_or(|name| key.name == name));
        Ok(keys.iter().map(render).collect())
    }

    /// One component.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn component(&self, realm_id: &str, id: &str) -> Result<Rep, Error> {
        let found = self.read::<KeyBody>(kind::KEY, realm_id, id).await?;
        found
            .map(|(key, _)| render(&key))
            .ok_or(Error::Missing(Thing::Key))
    }

    /// Makes a key; gives the component's id. It is published at once, and signs when its priority is
    /// the highest of its algorithm.
    ///
    /// # Errors
    /// [`Error::Invalid`] for anything but a generated signing key.
    pub async fn create_component(&self, realm_id: &str, rep: Rep) -> Result<String, Error> {
        if rep.text("providerType") != Some(KEY_PROVIDER) {
            return Err(Error::Invalid(Invalid::Component(
                "Only key providers are supported",
            )));
        }
        let wanted = rep.text("providerId").unwrap_or_default();
        if IMPORTING.contains(&wanted) || wanted == "java-keystore" {
            return self.import_component(realm_id, rep).await;
        }
        let provider = PROVIDERS
            .iter()
            .copied()
            .find(|provider| *provider == wanted);
        let provider = provider.ok_or(Error::Invalid(Invalid::Component(
            "Only providers rsa, rsa-enc, rsa-generated, ecdsa-generated and hmac-generated are \
             supported",
        )))?;
        if setting(&rep, "keySize")
            .is_some_and(|size| provider == "rsa-generated" && size != "2048")
        {
            return Err(Error::Invalid(Invalid::Component(
                "'Key size' must be 2048",
            )));
        }
        let algorithm = algorithm(provider, &rep)?;
        let realm = self.realm_body(realm_id).await?;
        let ambient = self.ambient.clone();
        let make = move || {
            keys::signing(
                provider,
                algorithm,
                provider,
                0,
                &realm.id,
                &realm.name,
                &ambient,
            )
        };
        let mut key = self.signing.run(make).await??;
        apply(&mut key, &rep)?;
        self.write(realm_id, vec![Write::Insert(key.object())])
            .await?;
        Ok(key.id)
    }

    async fn import_component(&self, realm_id: &str, rep: Rep) -> Result<String, Error> {
        let realm = self.realm_body(realm_id).await?;
        let ambient = self.ambient.clone();
        let make = move || imported_key(&rep, &realm.id, &realm.name, &ambient);
        let key = self.signing.run(make).await??;
        self.write(realm_id, vec![Write::Insert(key.object())])
            .await?;
        Ok(key.id)
    }

    /// Changes priority, activity and name of a key.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Invalid`].
    pub async fn update_component(&self, realm_id: &str, id: &str, rep: Rep) -> Result<(), Error> {
        let change = |key: &mut KeyBody| apply(key, &rep).map(|()| Vec::new());
        self.change::<KeyBody>(realm_id, id, Thing::Key, change)
            .await?;
        Ok(())
    }

    /// Deletes a key: what it signed is refused from now on.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn delete_component(&self, realm_id: &str, id: &str) -> Result<(), Error> {
        if self
            .read::<KeyBody>(kind::KEY, realm_id, id)
            .await?
            .is_none()
        {
            return Err(Error::Missing(Thing::Key));
        }
        let step = Write::Delete {
            kind: kind::KEY,
            id: id.to_owned(),
        };
        Ok(self.write(realm_id, vec![step]).await?)
    }
}
