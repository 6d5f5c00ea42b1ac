//! Rotation of client secrets by policy (Keycloak 26.5 `ClientSecretRotationExecutor`).

use o28m_core::{Ambient, id};
use serde_json::{Value, json};

use crate::admin::set_text;
use crate::model::{Client, ClientBody, Fields as _, RealmBody, Rep};

/// Characters of a generated secret.
const SECRET_LENGTH: usize = 32;
const CREATED: &str = "client.secret.creation.time";
const EXPIRES: &str = "client.secret.expiration.time";
pub(crate) const ROTATED: &str = "client.secret.rotated";
const ROTATED_CREATED: &str = "client.secret.rotated.creation.time";
const ROTATED_EXPIRES: &str = "client.secret.rotated.expiration.time";

/// Seconds of a rotation policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Periods {
    pub(crate) expiration: i64,
    pub(crate) rotated: i64,
}

/// A new secret: 32 of 62 characters are 190 bits.
pub(crate) fn new_secret(ambient: &Ambient) -> String {
    id::random_alphanumeric(ambient.rng.as_ref(), SECRET_LENGTH)
}

/// The rotated secret while it is accepted.
pub(crate) fn rotated_secret(client: &Client, now_s: i64) -> Option<&str> {
    let until_s = client.attribute_int(ROTATED_EXPIRES)?;
    client.attribute(ROTATED).filter(|_| now_s < until_s)
}

/// Whether the secret's time is over, which refuses the rotated one too.
pub(crate) fn is_expired(client: &Client, now_s: i64) -> bool {
    client
        .attribute_int(EXPIRES)
        .is_some_and(|end_s| end_s > 0 && now_s >= end_s)
}

/// Notes that the secret was set now.
pub(crate) fn stamp(rep: &mut Rep, now_s: i64) {
    set_text(rep, "attributes", CREATED, Some(now_s.to_string()));
}

/// Forgets the rotated secret.
pub(crate) fn forget_rotated(rep: &mut Rep) {
    for name in [ROTATED, ROTATED_CREATED, ROTATED_EXPIRES] {
        set_text(rep, "attributes", name, None);
    }
}

/// Brings a client that was created or updated in line with the policy that applies to it.
pub(crate) fn after_update(client: &mut ClientBody, periods: Option<Periods>, ambient: &Ambient) {
    let now_s = ambient.now().seconds();
    let Some(periods) = periods else {
        set_text(&mut client.rep, "attributes", EXPIRES, None);
        return forget_rotated(&mut client.rep);
    };
    if client.rep.text("secret").is_none() {
        return;
    }
    let ends = client
        .rep
        .entry_text("attributes", EXPIRES)
        .and_then(|end| end.parse::<i64>().ok());
    match ends {
        None | Some(0) => {
            let end = now_s.saturating_add(periods.expiration);
            set_text(
                &mut client.rep,
                "attributes",
                EXPIRES,
                Some(end.to_string()),
            );
        }
        Some(end_s) if now_s >= end_s => rotate(client, Some(periods), ambient),
        Some(_) => {}
    }
}

/// Gives the client a new secret; with a policy the old one is accepted a while longer.
pub(crate) fn rotate(client: &mut ClientBody, periods: Option<Periods>, ambient: &Ambient) {
    let now_s = ambient.now().seconds();
    let old = client.rep.text("secret").map(str::to_owned);
    client
        .rep
        .insert("secret".to_owned(), json!(new_secret(ambient)));
    stamp(&mut client.rep, now_s);
    forget_rotated(&mut client.rep);
    let Some(periods) = periods else {
        return set_text(&mut client.rep, "attributes", EXPIRES, None);
    };
    let end = now_s.saturating_add(periods.expiration);
    set_text(
        &mut client.rep,
        "attributes",
        EXPIRES,
        Some(end.to_string()),
    );
    if let Some(old) = old.filter(|_| periods.rotated > 0) {
        let until = now_s.saturating_add(periods.rotated);
        set_text(&mut client.rep, "attributes", ROTATED, Some(old));
        set_text(
            &mut client.rep,
            "attributes",
            ROTATED_CREATED,
            Some(now_s.to_string()),
        );
        set_text(
            &mut client.rep,
            "attributes",
            ROTATED_EXPIRES,
            Some(until.to_string()),
        );
    }
}

/// The rotation periods of the first enabled policy that applies to the client.
pub(crate) fn periods(realm: &RealmBody, client: &ClientBody) -> Option<Periods> {
    if client.rep.flag("publicClient") || client.rep.flag("bearerOnly") {
        return None;
    }
    let list = |field: &str, inner: &str| -> Vec<Rep> {
        let items = realm
            .rep
            .get(field)
            .and_then(|it| it.get(inner))
            .and_then(Value::as_array);
        items
            .into_iter()
            .flatten()
            .filter_map(|it| it.as_object().cloned())
            .collect()
    };
    let profiles = list("clientProfiles", "profiles");
    let policies = list("clientPolicies", "policies");
    let applying = policies.iter().filter(|policy| applies(policy, client));
    let names: Vec<String> = applying
        .flat_map(|policy| policy.texts("profiles"))
        .collect();
    let named = names.iter().filter_map(|name| {
        profiles
            .iter()
            .find(|profile| profile.text("name") == Some(name))
    });
    let executors = named.flat_map(|profile| items(profile, "executors"));
    let rotation = executors
        .into_iter()
        .find(|it| it.text("executor") == Some("secret-rotation"))?;
    Some(read_periods(rotation.get("configuration")))
}

/// The periods of an executor's configuration, with the original's defaults.
pub(crate) fn read_periods(configuration: Option<&Value>) -> Periods {
    let read = |name: &str, default: i64| {
        configuration
            .and_then(|it| it.get(name))
            .and_then(number)
            .unwrap_or(default)
    };
    Periods {
        expiration: read("expiration-period", 2_592_000),
        rotated: read("rotated-expiration-period", 172_800),
    }
}

/// An integer, also as text.
pub(crate) fn number(value: &Value) -> Option<i64> {
    value
        .as_i64()
        .or_else(|| value.as_str()?.trim().parse().ok())
}

/// The objects in a list field.
pub(crate) fn items<'a>(rep: &'a Rep, field: &str) -> Vec<&'a Rep> {
    let items = rep.get(field).and_then(Value::as_array);
    items
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .collect()
}

fn applies(policy: &Rep, client: &ClientBody) -> bool {
    policy.flag("enabled")
        && items(policy, "conditions")
            .iter()
            .all(|it| condition_holds(it, client))
}

fn condition_holds(condition: &Rep, client: &ClientBody) -> bool {
    let configuration = condition.get("configuration");
    let setting = |name: &str| configuration.and_then(|it| it.get(name));
    let holds = match condition.text("condition") {
        Some("any-client") => true,
        Some("client-attributes") => {
            let pairs = setting("attributes")
                .and_then(attribute_pairs)
                .unwrap_or_default();
            !pairs.is_empty()
                && pairs
                    .iter()
                    .all(|(name, value)| client.rep.entry_text("attributes", name) == Some(value))
        }
        Some("client-access-type") => {
            let of = if client.rep.flag("bearerOnly") {
                "bearer-only"
            } else if client.rep.flag("publicClient") {
                "public"
            } else {
                "confidential"
            };
            let types = setting("type").and_then(Value::as_array);
            types.is_some_and(|types| types.iter().any(|it| it == of))
        }
        _ => false,
    };
    let negative = setting("is.negative.logic");
    let negative = negative.is_some_and(|it| it.as_bool() == Some(true) || it == "true");
    holds != negative
}

/// The pairs of condition `client-attributes`: text holding a JSON array of `key` and `value`.
pub(crate) fn attribute_pairs(value: &Value) -> Option<Vec<(String, String)>> {
    let list: Vec<Rep> = serde_json::from_str(value.as_str()?).ok()?;
    let pair = |it: &Rep| Some((it.text("key")?.to_owned(), it.text("value")?.to_owned()));
    list.iter().map(pair).collect()
}
