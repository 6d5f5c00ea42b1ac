//! Keys of a realm, as Keycloak's components of type `org.keycloak.keys.KeyProvider`.

use o28m_jose::Algorithm;
use o28m_store::Write;
use serde_json::{Map, Value, json};

use crate::admin::check_length;
use crate::keys::{self, KeyBody, RealmKey, Usage};
use crate::model::{Fields as _, Rep, Stored as _, kind};
use crate::{Error, Invalid, Iris, Thing, representation};

/// The only component type of this version.
const KEY_PROVIDER: &str = "org.keycloak.keys.KeyProvider";
/// Providers that keys can be made with.
const PROVIDERS: &[&str] = &["rsa-generated", "ecdsa-generated", "hmac-generated"];

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
        let provider = PROVIDERS
            .iter()
            .copied()
            .find(|provider| *provider == wanted);
        let provider = provider.ok_or(Error::Invalid(Invalid::Component(
            "Only providers rsa-generated, ecdsa-generated and hmac-generated are supported",
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
