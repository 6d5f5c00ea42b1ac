//! Passwords of users: in clear, as Keycloak's hashes, their policies and their representation.

use o28m_core::Secret;
use serde_json::{Value, json};

use crate::admin::{Others, check_length};
use crate::model::{Fields as _, PasswordCard, RealmBody, Rep, UserBody, kind};
use crate::policy::{self, Policy};
use crate::{Error, Invalid, Iris, Thing, password};

/// A password as it was sent.
pub(crate) enum Sent {
    /// In clear, and whether it must be changed at the next login.
    Clear(Secret<String>, bool),
    /// A hash, and whether it must be changed.
    Hash(String, bool),
}

/// The passwords of a representation.
#[derive(Default)]
pub(crate) struct SentPasswords {
    current: Option<(Sent, PasswordCard)>,
    history: Vec<String>,
}

impl SentPasswords {
    /// One password that its owner chose.
    pub(crate) fn clear(secret: Secret<String>) -> Self {
        Self {
            current: Some((Sent::Clear(secret, false), PasswordCard::default())),
            history: Vec::new(),
        }
    }
}

/// Reads the `credentials` of a user's representation; credentials of other kinds are refused, because
/// leaving a second factor out would make the account weaker.
pub(crate) fn sent(rep: &Rep) -> Result<SentPasswords, Error> {
    let mut all = SentPasswords::default();
    let items = rep.get("credentials").and_then(Value::as_array);
    for item in items.into_iter().flatten().filter_map(Value::as_object) {
        let refused = || Error::Invalid(Invalid::ImportBlock("credentials"));
        let of = item.text("type").unwrap_or("password");
        let hashed = match (item.text("credentialData"), item.text("secretData")) {
            (Some(data), Some(secret)) => Some(
                password::from_documents(data, secret)
                    .ok_or(Error::Invalid(Invalid::PasswordHash))?,
            ),
            _ => None,
        };
        let temporary = item.flag("temporary");
        let card = PasswordCard {
            id: item.text("id").unwrap_or_default().to_owned(),
            created_ms: item.int("createdDate"),
            label: item.text("userLabel").map(str::to_owned),
        };
        match (of, item.text("value").filter(|it| !it.is_empty()), hashed) {
            ("password", Some(value), _) if all.current.is_none() => {
                let clear = Sent::Clear(Secret::new(value.to_owned()), temporary);
                all.current = Some((clear, card));
            }
            ("password", None, Some(hash)) if all.current.is_none() => {
                all.current = Some((Sent::Hash(hash, temporary), card));
            }
            ("password-history", None, Some(hash)) => all.history.push(hash),
            _ => return Err(refused()),
        }
    }
    all.history.truncate(policy::HISTORY_MAX);
    Ok(all)
}

/// A password ready to be stored.
pub(crate) struct Ready {
    hash: String,
    temporary: bool,
    card: PasswordCard,
    history: Vec<String>,
    /// Earlier passwords that are kept.
    kept: usize,
}

impl Ready {
    /// Gives a user the password.
    pub(crate) fn set(&self, user: &mut UserBody) {
        let old = user.password.take();
        user.password_history.splice(0..0, old);
        user.password_history.extend(self.history.iter().cloned());
        user.password_history.truncate(self.kept);
        user.password = Some(self.hash.clone());
        user.password_card = self.card.clone();
        set_temporary(&mut user.rep, self.temporary);
    }
}

/// Adds or removes required action `UPDATE_PASSWORD`.
fn set_temporary(rep: &mut Rep, temporary: bool) {
    let mut actions = rep.texts("requiredActions");
    actions.retain(|action| action != "UPDATE_PASSWORD");
    if temporary {
        actions.push("UPDATE_PASSWORD".to_owned());
    }
    rep.insert("requiredActions".to_owned(), json!(actions));
}

/// The policy of a realm.
pub(crate) fn policy_of(realm: &RealmBody) -> Result<Policy, Error> {
    let text = realm.rep.text("passwordPolicy").unwrap_or_default();
    Policy::parse(text).map_err(|text| Error::Invalid(Invalid::PasswordPolicy(text)))
}

fn show(user: &UserBody) -> Option<Rep> {
    let hash = user.password.as_deref()?;
    let (data, _) = password::documents(hash)?;
    let card = &user.password_card;
    // A password of a time before cards still has an id: the user's own.
    let id = if card.id.is_empty() {
        &user.id
    } else {
        &card.id
    };
    let mut rep = Rep::new();
    rep.insert("id".to_owned(), json!(id));
    rep.insert("type".to_owned(), json!("password"));
    if let Some(label) = &card.label {
        rep.insert("userLabel".to_owned(), json!(label));
    }
    rep.insert("createdDate".to_owned(), json!(card.created_ms));
    rep.insert("credentialData".to_owned(), json!(data.to_string()));
    Some(rep)
}

/// The credentials of a user with their hashes, for an export.
pub(crate) fn export(user: &UserBody) -> Vec<Rep> {
    let mut all = Vec::new();
    if let Some(mut rep) = show(user)
        && let Some((_, secret)) = user.password.as_deref().and_then(password::documents)
    {
        rep.insert("secretData".to_owned(), json!(secret.to_string()));
        all.push(rep);
    }
    for hash in &user.password_history {
        if let Some((data, secret)) = password::documents(hash) {
            let rep = json!({
                "type": "password-history", "credentialData": data.to_string(),
                "secretData": secret.to_string(),
            });
            all.extend(rep.as_object().cloned());
        }
    }
    all
}

impl Iris {
    /// Hashes what was sent; with `check`, what does not fit the policy is refused.
    pub(crate) async fn prepare(
        &self,
        realm: &RealmBody,
        user: &UserBody,
        sent: SentPasswords,
        check: bool,
    ) -> Result<Option<Ready>, Error> {
        let Some((current, mut card)) = sent.current else {
            return Ok(None);
        };
        let policy = policy_of(realm)?;
        let (hash, temporary) = match current {
            Sent::Hash(hash, temporary) => (hash, temporary),
            Sent::Clear(secret, temporary) => {
                if check {
                    self.check_policy(&policy, user, &secret).await?;
                }
                (self.hash(secret, &policy).await?, temporary)
            }
        };
        if card.id.is_empty() {
            card.id = self.ambient.uuid();
        }
        if card.created_ms == 0 {
            card.created_ms = self.ambient.now().millis();
        }
        Ok(Some(Ready {
            hash,
            temporary,
            card,
            history: sent.history,
            kept: policy.history.saturating_sub(1),
        }))
    }

    async fn check_policy(
        &self,
        policy: &Policy,
        user: &UserBody,
        secret: &Secret<String>,
    ) -> Result<(), Error> {
        let email = user.rep.text("email").unwrap_or_default();
        policy
            .check(secret.expose(), &user.username, email)
            .map_err(|problem| Error::Invalid(Invalid::Password(problem)))?;
        if policy.history == 0 {
            return Ok(());
        }
        let current = user.password.iter();
        let old: Vec<String> = current
            .chain(&user.password_history)
            .take(policy.history)
            .cloned()
            .collect();
        let sent = secret.clone();
        let used = move || old.iter().any(|hash| password::verify(&sent, Some(hash)));
        if self.hashing.run(used).await? {
            let problem = policy::used_before(policy.history);
            return Err(Error::Invalid(Invalid::Password(problem)));
        }
        Ok(())
    }

    async fn hash(&self, secret: Secret<String>, policy: &Policy) -> Result<String, Error> {
        let (ambient, plan) = (self.ambient.clone(), policy.plan);
        let hash = self
            .hashing
            .run(move || password::hash_with(&secret, plan, &ambient))
            .await?;
        hash.ok_or(Error::Invalid(Invalid::PasswordTooLong))
    }

    pub(crate) async fn user_body(&self, realm_id: &str, id: &str) -> Result<UserBody, Error> {
        let found = self.read::<UserBody>(kind::USER, realm_id, id).await?;
        found
            .map(|(body, _)| body)
            .ok_or(Error::Missing(Thing::User))
    }

    /// Sets a user's password.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Invalid`] without a password and for one the policy refuses.
    pub async fn reset_password(&self, realm_id: &str, id: &str, rep: &Rep) -> Result<(), Error> {
        let user = self.user_body(realm_id, id).await?;
        let value = rep.text("value").filter(|value| !value.is_empty());
        let value = value.ok_or(Error::Invalid(Invalid::PasswordMissing))?;
        let realm = self.realm_body(realm_id).await?;
        let clear = Sent::Clear(Secret::new(value.to_owned()), rep.flag("temporary"));
        let card = PasswordCard {
            label: rep.text("userLabel").map(str::to_owned),
            ..PasswordCard::default()
        };
        let sent = SentPasswords {
            current: Some((clear, card)),
            history: Vec::new(),
        };
        let Some(ready) = self.prepare(&realm, &user, sent, true).await? else {
            return Ok(());
        };
        let change = |user: &mut UserBody| -> Result<Others, Error> {
            ready.set(user);
            Ok(Vec::new())
        };
        self.change::<UserBody>(realm_id, id, Thing::User, change)
            .await?;
        Ok(())
    }

    /// The credentials of a user, without their secrets.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn credentials(&self, realm_id: &str, id: &str) -> Result<Vec<Rep>, Error> {
        let user = self.user_body(realm_id, id).await?;
        Ok(show(&user).into_iter().collect())
    }

    async fn change_credential(
        &self,
        realm_id: &str,
        id: &str,
        credential: &str,
        apply: impl Fn(&mut UserBody) + Send + Sync,
    ) -> Result<(), Error> {
        let change = |user: &mut UserBody| -> Result<Others, Error> {
            let known = show(user);
            if known.is_none_or(|rep| rep.text("id") != Some(credential)) {
                return Err(Error::Missing(Thing::Credential));
            }
            apply(user);
            Ok(Vec::new())
        };
        self.change::<UserBody>(realm_id, id, Thing::User, change)
            .await?;
        Ok(())
    }

    /// Whether a user has this credential.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn check_credential(
        &self,
        realm_id: &str,
        id: &str,
        credential: &str,
    ) -> Result<(), Error> {
        let all = self.credentials(realm_id, id).await?;
        let known = all.iter().any(|rep| rep.text("id") == Some(credential));
        known.then_some(()).ok_or(Error::Missing(Thing::Credential))
    }

    /// Deletes a credential.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn delete_credential(
        &self,
        realm_id: &str,
        id: &str,
        credential: &str,
    ) -> Result<(), Error> {
        self.change_credential(realm_id, id, credential, |user| {
            user.password = None;
            user.password_card = PasswordCard::default();
        })
        .await
    }

    /// Names a credential.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Invalid`].
    pub async fn label_credential(
        &self,
        realm_id: &str,
        id: &str,
        credential: &str,
        label: &str,
    ) -> Result<(), Error> {
        check_length("userLabel", label)?;
        self.change_credential(realm_id, id, credential, |user| {
            user.password_card.label = Some(label.to_owned());
        })
        .await
    }

    /// Takes the password of a user away, so that they cannot log in with it.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn disable_password(&self, realm_id: &str, id: &str) -> Result<(), Error> {
        let change = |user: &mut UserBody| -> Result<Others, Error> {
            user.password = None;
            user.password_card = PasswordCard::default();
            Ok(Vec::new())
        };
        self.change::<UserBody>(realm_id, id, Thing::User, change)
            .await?;
        Ok(())
    }
}
