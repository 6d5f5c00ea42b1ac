//! Checking passwords with everything a realm asks for: brute force protection, password expiry, and
//! hashes that follow the policy (Keycloak 26.5 `DefaultBruteForceProtector`).

use std::sync::Arc;

use o28m_core::Secret;
use o28m_store::Session;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::admin::Others;
use crate::events::Event;
use crate::model::{Fields as _, Realm, User, UserBody};
use crate::policy::Policy;
use crate::{Error, Iris, Thing, password};

/// Attempts of a change that others get in the way of.
const ATTEMPTS: usize = 16;
/// How long failures of a realm with permanent locks are remembered.
const LONG_S: i64 = 10 * 365 * 86_400;
/// What the ids of failures start with.
const PREFIX: &str = "failures/";

/// Failed logins of one user.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Failures {
    count: i64,
    last_ms: i64,
    address: String,
    /// No login before this, in seconds since the epoch.
    until_s: i64,
    /// How often the user was locked for a time.
    lockouts: i64,
}

/// What a failure led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lock {
    None,
    Temporary,
    Permanent,
}

/// The settings of a realm.
struct Rules<'a> {
    realm: &'a Realm,
}

impl Rules<'_> {
    fn int(&self, field: &str) -> i64 {
        self.realm.body.rep.int(field)
    }

    fn permanent(&self) -> bool {
        self.realm.body.rep.flag("permanentLockout")
    }

    /// Users are locked for good at once, never for a time.
    fn only_permanent(&self) -> bool {
        self.permanent() && self.int("maxTemporaryLockouts") == 0
    }

    /// Counts a failure.
    fn apply(&self, failures: &mut Failures, now_ms: i64, address: &str) -> Lock {
        let since_ms = if failures.last_ms > 0 {
            now_ms.saturating_sub(failures.last_ms)
        } else {
            0
        };
        let first = failures.last_ms == 0;
        failures.last_ms = now_ms;
        address.clone_into(&mut failures.address);
        let reset_ms = self.int("maxDeltaTimeSeconds").saturating_mul(1000);
        if !self.only_permanent() && reset_ms > 0 && since_ms > reset_ms {
            failures.count = 0;
        }
        failures.count = failures.count.saturating_add(1);
        let factor = self.int("failureFactor").max(1);
        if self.only_permanent() {
            if failures.count >= factor {
                return Lock::Permanent;
            }
            return self.quick(failures, now_ms, since_ms, first);
        }
        let increment = self.int("waitIncrementSeconds");
        let linear = self.realm.body.rep.text("bruteForceStrategy") == Some("LINEAR");
        let times = if linear {
            (failures.count - factor + 1).max(0)
        } else {
            failures.count / factor
        };
        let wait_s = increment
            .saturating_mul(times)
            .min(self.int("maxFailureWaitSeconds"));
        if wait_s <= 0 {
            return self.quick(failures, now_ms, since_ms, first);
        }
        failures.until_s = (now_ms / 1000).saturating_add(wait_s);
        failures.lockouts = failures.lockouts.saturating_add(1);
        if self.permanent() && failures.lockouts > self.int("maxTemporaryLockouts") {
            return Lock::Permanent;
        }
        Lock::Temporary
    }

    /// Failures that follow each other faster than people type.
    fn quick(&self, failures: &mut Failures, now_ms: i64, since_ms: i64, first: bool) -> Lock {
        if first || since_ms >= self.int("quickLoginCheckMilliSeconds") {
            return Lock::None;
        }
        let wait_s = self
            .int("minimumQuickLoginWaitSeconds")
            .min(self.int("maxFailureWaitSeconds"));
        if wait_s <= 0 {
            return Lock::None;
        }
        failures.until_s = (now_ms / 1000).saturating_add(wait_s);
        Lock::Temporary
    }

    /// Seconds that failures are remembered.
    fn kept_s(&self) -> i64 {
        if self.permanent() {
            return LONG_S;
        }
        let delta = self.int("maxDeltaTimeSeconds");
        delta.max(self.int("maxFailureWaitSeconds")).max(60)
    }
}

fn id(user_id: &str) -> String {
    format!("{PREFIX}{user_id}")
}

impl Iris {
    async fn failures(&self, realm_id: &str, user_id: &str) -> Result<Option<Session>, Error> {
        let now_s = self.ambient.now().seconds();
        Ok(self.store.session(realm_id, &id(user_id), now_s).await?)
    }

    /// Whether brute force protection locks this user out for now.
    async fn is_locked(&self, realm: &Realm, user_id: &str) -> Result<bool, Error> {
        let found = self.failures(realm.id(), user_id).await?;
        let now_s = self.ambient.now().seconds();
        Ok(found.is_some_and(|found| read(found.body).until_s > now_s))
    }

    async fn note_failure(
        &self,
        realm: &Realm,
        user: &UserBody,
        address: &str,
    ) -> Result<(), Error> {
        let rules = Rules { realm };
        for _ in 0..ATTEMPTS {
            let old = self.failures(realm.id(), &user.id).await?;
            let old = old.map(|session| session.body);
            let mut failures = old.clone().map(read).unwrap_or_default();
            let now = self.ambient.now();
            let lock = rules.apply(&mut failures, now.millis(), address);
            let session = Session {
                id: id(&user.id),
                owner: realm.id().to_owned(),
                expires_at_s: now.seconds().saturating_add(rules.kept_s()),
                body: serde_json::to_value(&failures).unwrap_or_default(),
            };
            if self.store.replace_session(&session, old.as_ref()).await? {
                return self.lock(realm, user, address, lock).await;
            }
            if old.is_none() {
                // An expired record is in the way until it is swept.
                self.drop_expired(realm.id(), &user.id).await?;
            }
        }
        Ok(())
    }

    async fn drop_expired(&self, realm_id: &str, user_id: &str) -> Result<(), Error> {
        if self.failures(realm_id, user_id).await?.is_none() {
            self.store.delete_session(realm_id, &id(user_id)).await?;
        }
        Ok(())
    }

    async fn lock(
        &self,
        realm: &Realm,
        user: &UserBody,
        address: &str,
        lock: Lock,
    ) -> Result<(), Error> {
        let kind = match lock {
            Lock::None => return Ok(()),
            Lock::Temporary => "USER_DISABLED_BY_TEMPORARY_LOCKOUT",
            Lock::Permanent => {
                let disable = |user: &mut UserBody| -> Result<Others, Error> {
                    user.rep.insert("enabled".to_owned(), json!(false));
                    Ok(Vec::new())
                };
                self.change::<UserBody>(realm.id(), &user.id, Thing::User, disable)
                    .await?;
                "USER_DISABLED_BY_PERMANENT_LOCKOUT"
            }
        };
        self.event(
            realm,
            &Event {
                kind,
                user_id: Some(&user.id),
                address,
                ..Event::default()
            },
        );
        Ok(())
    }

    /// The person of this name or, where the realm allows it, e-mail address, if the password is
    /// theirs and they are not locked out. They may be disabled or have actions to do. Finding nobody
    /// takes as long.
    ///
    /// # Errors
    /// When the store fails or too many passwords are being checked.
    pub(crate) async fn check_person(
        &self,
        realm: &Realm,
        username: &str,
        password: Secret<String>,
        address: &str,
    ) -> Result<Option<Arc<User>>, Error> {
        let found = self.find_person(realm, username).await?;
        let protected = realm.body.rep.flag("bruteForceProtected");
        let locked = match &found {
            Some(user) if protected => self.is_locked(realm, &user.id).await?,
            _ => false,
        };
        let hash = found
            .as_ref()
            .filter(|_| !locked)
            .and_then(|user| user.password.clone());
        let sent = password.clone();
        let check = move || password::verify(&sent, hash.as_deref());
        let fits = self.hashing.run(check).await?;
        let Some(person) = found.filter(|_| !locked) else {
            return Ok(None);
        };
        if !fits {
            if protected {
                self.note_failure(realm, &person, address).await?;
            }
            return Ok(None);
        }
        // Others may have been guessing at the same time: what they did counts for this attempt too.
        if protected && let Some(failures) = self.failures(realm.id(), &person.id).await? {
            if read(failures.body).until_s > self.ambient.now().seconds() {
                return Ok(None);
            }
            self.store
                .delete_session(realm.id(), &id(&person.id))
                .await?;
        }
        self.keep_to_policy(realm, &person, password).await?;
        self.user(realm.id(), &person.id).await
    }

    /// Hashes a password that just proved right as the policy asks, and asks for another one when it
    /// is too old.
    async fn keep_to_policy(
        &self,
        realm: &Realm,
        person: &UserBody,
        password: Secret<String>,
    ) -> Result<(), Error> {
        let text = realm.body.rep.text("passwordPolicy").unwrap_or_default();
        // A policy is checked before it is stored.
        let Ok(policy) = Policy::parse(text) else {
            return Ok(());
        };
        let old = person.password.as_deref().unwrap_or_default();
        let created_ms = person.password_card.created_ms;
        let age_s = self.ambient.now().millis().saturating_sub(created_ms) / 1000;
        let expired = created_ms > 0 && policy.expires_after_s.is_some_and(|most| age_s > most);
        let asked = person.rep.texts("requiredActions");
        let expires_now = expired && !asked.iter().any(|it| it == "UPDATE_PASSWORD");
        let outdated = password::is_outdated(old, policy.plan);
        if !outdated && !expires_now {
            return Ok(());
        }
        let mut renewed = None;
        if outdated {
            let (ambient, plan) = (self.ambient.clone(), policy.plan);
            let hash = move || password::hash_with(&password, plan, &ambient);
            renewed = self.hashing.run(hash).await?;
        }
        let change = |user: &mut UserBody| -> Result<Others, Error> {
            // The password may have been changed meanwhile.
            if user.password.as_deref() == Some(old) && renewed.is_some() {
                user.password.clone_from(&renewed);
            }
            if expires_now {
                let mut actions = user.rep.texts("requiredActions");
                actions.push("UPDATE_PASSWORD".to_owned());
                user.rep
                    .insert("requiredActions".to_owned(), json!(actions));
            }
            Ok(Vec::new())
        };
        self.change::<UserBody>(realm.id(), &person.id, Thing::User, change)
            .await?;
        Ok(())
    }

    /// What brute force protection knows of a user.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn brute_force_status(&self, realm_id: &str, user_id: &str) -> Result<Value, Error> {
        let found = self
            .read::<UserBody>(crate::model::kind::USER, realm_id, user_id)
            .await?;
        let (user, _) = found.ok_or(Error::Missing(Thing::User))?;
        let stored = self.failures(realm_id, user_id).await?;
        let known = stored.is_some();
        let failures = stored.map(|it| read(it.body)).unwrap_or_default();
        let locked = failures.until_s > self.ambient.now().seconds();
        let disabled = known && (locked || !user.rep.flag("enabled"));
        let address = if known {
            failures.address.as_str()
        } else {
            "n/a"
        };
        Ok(json!({
            "numFailures": failures.count, "numTemporaryLockouts": failures.lockouts,
            "disabled": disabled, "lastIPFailure": address, "lastFailure": failures.last_ms,
            "failedLoginNotBefore": failures.until_s,
        }))
    }

    /// Forgets the failed logins of a user, or of all users of the realm; who was disabled stays so.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn clear_failures(&self, realm_id: &str, user_id: Option<&str>) -> Result<(), Error> {
        match user_id {
            Some(user) => drop(self.store.delete_session(realm_id, &id(user)).await?),
            None => drop(self.store.clear_sessions(realm_id, PREFIX).await?),
        }
        Ok(())
    }
}

fn read(body: Value) -> Failures {
    serde_json::from_value(body).unwrap_or_default()
}
