//! Client profiles and client policies of a realm.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::admin::rotation::{attribute_pairs, items, number, read_periods};
use crate::model::{Fields as _, RealmBody, Rep};
use crate::{Error, Invalid, Iris, Thing};

fn refuse(text: String) -> Error {
    Error::Invalid(Invalid::Policy(text))
}

/// The names of a list, which must be there and differ.
fn unique_names(list: &[&Rep], what: &str) -> Result<HashSet<String>, Error> {
    let mut names = HashSet::new();
    for item in list {
        let name = item.text("name").filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| refuse(format!("Every client {what} needs a name")))?;
        if !names.insert(name.to_owned()) {
            return Err(refuse(format!("Duplicate client {what} {name}")));
        }
    }
    Ok(names)
}

fn check_executor(executor: &Rep) -> Result<(), Error> {
    let name = executor.text("executor").unwrap_or_default();
    if name != "secret-rotation" {
        return Err(refuse(format!("Executor {name} is not supported")));
    }
    let configuration = executor.get("configuration");
    for field in [
        "expiration-period",
        "rotated-expiration-period",
        "remaining-rotation-period",
    ] {
        let value = configuration
            .and_then(|it| it.get(field))
            .filter(|it| !it.is_null());
        if value.is_some_and(|it| number(it).is_none()) {
            return Err(refuse(format!("{field} is not a number")));
        }
    }
    let periods = read_periods(configuration);
    let remaining = configuration.and_then(|it| it.get("remaining-rotation-period"));
    let remaining = remaining.and_then(number).unwrap_or(864_000);
    if periods.expiration <= 0 || periods.rotated < 0 || remaining < 0 {
        return Err(refuse(
            "Secret rotation periods must be positive".to_owned(),
        ));
    }
    if periods.rotated > periods.expiration || remaining > periods.expiration {
        let text = "Secret rotation periods must not exceed expiration-period";
        return Err(refuse(text.to_owned()));
    }
    Ok(())
}

fn check_condition(condition: &Rep) -> Result<(), Error> {
    let name = condition.text("condition").unwrap_or_default();
    let configuration = condition.get("configuration");
    let fits = match name {
        "any-client" => true,
        "client-attributes" => configuration
            .and_then(|it| it.get("attributes"))
            .and_then(attribute_pairs)
            .is_some(),
        "client-access-type" => configuration
            .and_then(|it| it.get("type"))
            .is_some_and(Value::is_array),
        _ => return Err(refuse(format!("Condition {name} is not supported"))),
    };
    if fits {
        Ok(())
    } else {
        Err(refuse(format!(
            "Configuration of condition {name} is invalid"
        )))
    }
}

/// Built-in profiles and policies: there are none, so a body may only name none.
fn take_globals(rep: &mut Rep, field: &str) -> Result<(), Error> {
    match rep.shift_remove(field) {
        Some(Value::Array(items)) if !items.is_empty() => {
            Err(Error::Invalid(Invalid::GlobalsChanged))
        }
        _ => Ok(()),
    }
}

/// Checks both lists of a realm together.
pub(crate) fn check(realm: &RealmBody) -> Result<(), Error> {
    let object = |field: &str| realm.rep.get(field).and_then(Value::as_object).cloned();
    let profiles = object("clientProfiles").unwrap_or_default();
    let policies = object("clientPolicies").unwrap_or_default();
    let profiles = items(&profiles, "profiles");
    let known = unique_names(&profiles, "profile")?;
    for executor in profiles
        .iter()
        .flat_map(|profile| items(profile, "executors"))
    {
        check_executor(executor)?;
    }
    let policies = items(&policies, "policies");
    unique_names(&policies, "policy")?;
    for policy in policies {
        for condition in items(policy, "conditions") {
            check_condition(condition)?;
        }
        let name = policy.text("name").unwrap_or_default();
        if let Some(missing) = policy
            .texts("profiles")
            .iter()
            .find(|it| !known.contains(*it))
        {
            return Err(refuse(format!(
                "Policy {name} contains invalid profile {missing}"
            )));
        }
    }
    Ok(())
}

impl Iris {
    /// The client profiles; with the built-in ones, of which there are none, when asked for.
    ///
    /// # Errors
    /// [`Error::Missing`] for an unknown realm.
    pub async fn client_profiles(&self, realm_id: &str, global: bool) -> Result<Rep, Error> {
        self.policy_list(
            realm_id,
            "clientProfiles",
            "profiles",
            global.then_some("globalProfiles"),
        )
        .await
    }

    /// The client policies; with the built-in ones, of which there are none, when asked for.
    ///
    /// # Errors
    /// [`Error::Missing`] for an unknown realm.
    pub async fn client_policies(&self, realm_id: &str, global: bool) -> Result<Rep, Error> {
        self.policy_list(
            realm_id,
            "clientPolicies",
            "policies",
            global.then_some("globalPolicies"),
        )
        .await
    }

    async fn policy_list(
        &self,
        realm_id: &str,
        field: &str,
        list: &str,
        global: Option<&str>,
    ) -> Result<Rep, Error> {
        let realm = self.realm_body(realm_id).await?;
        let mut rep = realm
            .rep
            .get(field)
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        rep.entry(list.to_owned()).or_insert_with(|| json!([]));
        if let Some(global) = global {
            rep.insert(global.to_owned(), json!([]));
        }
        Ok(rep)
    }

    /// Replaces the client profiles.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown executor, wrong periods, or changed built-in profiles.
    pub async fn set_client_profiles(&self, realm_id: &str, rep: Rep) -> Result<(), Error> {
        self.set_policy_list(
            realm_id,
            "clientProfiles",
            "profiles",
            "globalProfiles",
            rep,
        )
        .await
    }

    /// Replaces the client policies.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown condition or profile, or changed built-in policies.
    pub async fn set_client_policies(&self, realm_id: &str, rep: Rep) -> Result<(), Error> {
        self.set_policy_list(
            realm_id,
            "clientPolicies",
            "policies",
            "globalPolicies",
            rep,
        )
        .await
    }

    async fn set_policy_list(
        &self,
        realm_id: &str,
        field: &'static str,
        list: &str,
        global: &str,
        mut rep: Rep,
    ) -> Result<(), Error> {
        take_globals(&mut rep, global)?;
        rep.entry(list.to_owned()).or_insert_with(|| json!([]));
        let apply = |realm: &mut RealmBody| {
            realm
                .rep
                .insert(field.to_owned(), Value::Object(rep.clone()));
            check(realm).map(|()| Vec::new())
        };
        self.change::<RealmBody>(realm_id, realm_id, Thing::Realm, apply)
            .await?;
        Ok(())
    }
}
