//! Keys of a realm, as Keycloak's components of type `org.keycloak.keys.KeyProvider`.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use o28m_core::Ambient;
use o28m_jose::{Algorithm, SigningKey};
use o28m_store::Write;
use serde_json::{Map, Value, json};

use crate::admin::check_length;
use crate::admin::import::MASK;
use crate::keys::provider::Provider;
use crate::keys::{self, KeyBody, RealmKey, Usage};
use crate::model::{Fields as _, Rep, Stored as _, kind};
use crate::{Error, Invalid, Iris, Thing, representation};

/// The only component type of this version.
pub(crate) const KEY_PROVIDER: &str = "org.keycloak.keys.KeyProvider";
/// The only size of RSA keys that are made here.
const RSA_BITS: &str = "2048";

/// The first value of a configuration entry.
fn setting<'a>(rep: &'a Rep, name: &str) -> Option<&'a str> {
    rep.get("config")?.get(name)?.as_array()?.first()?.as_str()
}

/// Refuses a component.
fn refusal(text: &'static str) -> Error {
    Error::Invalid(Invalid::Component(text))
}

/// Settings that can be changed later.
fn apply(key: &mut KeyBody, rep: &Rep) -> Result<(), Error> {
    if let Some(priority) = setting(rep, "priority") {
        let parsed = priority.trim().parse();
        key.priority = parsed.map_err(|_| refusal("'Priority' should be a number"))?;
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

/// The algorithm that a component names, by itself or by its curve.
fn algorithm(provider: &Provider, rep: &Rep) -> Result<String, Error> {
    let curve = provider.curve.as_ref();
    let curve = curve.and_then(|curve| setting(rep, curve.name));
    provider
        .algorithm(setting(rep, "algorithm"), curve)
        .map_err(refusal)
}

/// Refuses to make another key of a key: what it signed could not be verified any more.
fn check_algorithm(key: &KeyBody, rep: &Rep) -> Result<(), Error> {
    let Some(provider) = Provider::named(&key.provider) else {
        return Ok(());
    };
    let curve = provider.curve.as_ref();
    let names_curve = curve.is_some_and(|curve| setting(rep, curve.name).is_some());
    if (names_curve || setting(rep, "algorithm").is_some())
        && algorithm(provider, rep)? != key.algorithm
    {
        return Err(refusal(
            "The algorithm of a key cannot be changed: add another key",
        ));
    }
    Ok(())
}

fn render(key: &KeyBody) -> Rep {
    let mut rep = json!({
        "id": key.id, "name": key.name, "providerId": key.provider, "providerType": KEY_PROVIDER,
        "parentId": key.realm,
        "config": {
            "priority": [key.priority.to_string()], "enabled": [key.enabled.to_string()],
            "active": [key.active.to_string()], "algorithm": [key.algorithm],
        },
    });
    let provider = Provider::named(&key.provider);
    if let Some(curve) = provider.and_then(|provider| provider.curve.as_ref())
        && let Some(name) = key.key_algorithm().and_then(Algorithm::curve)
        && let Some(config) = rep.get_mut("config").and_then(Value::as_object_mut)
    {
        config.insert(curve.name.to_owned(), json!([name]));
    }
    representation::COMPONENT.arrange(rep.as_object().cloned().unwrap_or_default())
}

/// The component of a key with its material, or a mask in its place.
pub(crate) fn render_with_material(key: &KeyBody, secrets: bool) -> Rep {
    let mut rep = render(key);
    let (Some(provider), Some(config)) = (
        Provider::named(&key.provider),
        rep.get_mut("config").and_then(Value::as_object_mut),
    ) else {
        return rep;
    };
    let hidden = |value: String| json!([if secrets { value } else { MASK.to_owned() }]);
    let field = provider.material.to_owned();
    if provider.key_type == "oct" {
        let bytes = STANDARD.decode(&key.material).unwrap_or_default();
        config.insert(field, hidden(URL_SAFE_NO_PAD.encode(bytes)));
        config.insert("kid".to_owned(), json!([key.kid]));
    } else {
        config.insert(field, hidden(key.material.clone()));
    }
    // Without it Keycloak makes another key.
    if let Some(curve) = &provider.curve
        && let Ok(compiled) = RealmKey::compile(key.clone())
    {
        config.insert(curve.public.to_owned(), json!([compiled.public_key()]));
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
    let provider = match rep.text("providerId").unwrap_or_default() {
        "java-keystore" => {
            return Err(refusal(
                "Keys in Java key stores are not supported: import them as rsa",
            ));
        }
        id => Provider::named(id).ok_or(refusal("The key provider is not supported"))?,
    };
    let algorithm = algorithm(provider, rep)?;
    let sent = setting(rep, provider.material);
    let mut key = match sent.filter(|text| *text != MASK && !text.is_empty()) {
        None if !provider.generates => return Err(refusal("The private key is missing")),
        None => keys::generate(provider, algorithm, 0, realm_id, realm, ambient)?,
        Some(text) => {
            let mut key = read_material(provider, algorithm, text)
                .ok_or(refusal("The private key or secret cannot be read"))?;
            realm_id.clone_into(&mut key.realm);
            key.created_ms = ambient.now().millis();
            complete(&mut key, rep, realm, ambient)?;
            key
        }
    };
    let sent = rep.text("id").filter(|id| o28m_core::id::is_uuid(id));
    key.id = sent.map_or_else(|| ambient.uuid(), str::to_owned);
    apply(&mut key, rep)?;
    RealmKey::compile(key.clone()).map_err(|_| refusal("The key cannot be used"))?;
    Ok(key)
}

/// A key with this material and nothing else; `None` when that is no base64.
fn read_material(provider: &Provider, algorithm: String, text: &str) -> Option<KeyBody> {
    let lines = text.lines().filter(|line| !line.starts_with("-----"));
    let plain: String = lines
        .flat_map(str::chars)
        .filter(|it| !it.is_whitespace())
        .collect();
    let bytes = if provider.key_type == "oct" {
        URL_SAFE_NO_PAD.decode(plain.trim_end_matches('=')).ok()?
    } else {
        STANDARD.decode(plain).ok()?
    };
    Some(KeyBody {
        id: String::new(),
        realm: String::new(),
        name: provider.id.to_owned(),
        provider: provider.id.to_owned(),
        priority: 0,
        enabled: true,
        active: true,
        algorithm,
        usage: provider.usage,
        kid: String::new(),
        created_ms: 0,
        material: STANDARD.encode(bytes),
        certificate: None,
    })
}

/// Key id and certificate.
fn complete(key: &mut KeyBody, rep: &Rep, realm: &str, ambient: &Ambient) -> Result<(), Error> {
    let sent_kid = setting(rep, "kid").filter(|kid| !kid.is_empty());
    let algorithm = key.key_algorithm().filter(|it| it.key_type() != "oct");
    let Some(algorithm) = algorithm else {
        key.kid = sent_kid.map_or_else(|| ambient.uuid(), str::to_owned);
        return Ok(());
    };
    let der = STANDARD.decode(&key.material).unwrap_or_default();
    let pair = SigningKey::from_pkcs8("", algorithm, &der)
        .map_err(|_| refusal("The private key cannot be used"))?;
    key.kid = sent_kid.map_or_else(|| keys::key_id(&pair.public_der()), str::to_owned);
    if algorithm.key_type() == "RSA" {
        let sent = setting(rep, "certificate").map(|text| {
            let lines = text.lines().filter(|line| !line.starts_with("-----"));
            lines.map(str::trim).collect::<String>()
        });
        key.certificate = Some(match sent.filter(|text| !text.is_empty()) {
            Some(text) if STANDARD.decode(&text).is_ok() => text,
            Some(_) => return Err(refusal("The certificate cannot be read")),
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

    /// Makes or takes a key; gives the component's id. It is published at once, and signs when its
    /// priority is the highest of its algorithm.
    ///
    /// # Errors
    /// [`Error::Invalid`] for anything but a key that can be used.
    pub async fn create_component(&self, realm_id: &str, mut rep: Rep) -> Result<String, Error> {
        if rep.text("providerType") != Some(KEY_PROVIDER) {
            return Err(refusal("Only key providers are supported"));
        }
        let provider = Provider::named(rep.text("providerId").unwrap_or_default());
        let makes_rsa = provider.is_some_and(|it| it.generates && it.key_type == "RSA");
        if makes_rsa && setting(&rep, "keySize").is_some_and(|bits| bits != RSA_BITS) {
            return Err(refusal("'Key size' must be 2048"));
        }
        rep.shift_remove("id");
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
    /// [`Error::Missing`]; [`Error::Invalid`], also for another algorithm or curve.
    pub async fn update_component(&self, realm_id: &str, id: &str, rep: Rep) -> Result<(), Error> {
        let change = |key: &mut KeyBody| {
            check_algorithm(key, &rep)?;
            apply(key, &rep).map(|()| Vec::new())
        };
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
