//! One plugin for all entities with the same configuration: control planes give the same one to
//! thousands of routes.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash as _, Hasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde_json::Value;

use crate::{BadConfig, Plugin};

/// Two keyed hashes of kind and configuration. Their keys are random and never leave the process, so
/// nobody can make two configurations that meet.
type Fingerprint = (u64, u64);

/// The plugins in use, by what they were made of.
#[derive(Default)]
pub(super) struct Interned {
    keys: (RandomState, RandomState),
    plugins: Mutex<Plugins>,
}

#[derive(Default)]
struct Plugins {
    known: HashMap<Fingerprint, Weak<dyn Plugin>>,
    /// When as many are known, those that nobody has any more are forgotten.
    sweep_at: usize,
}

/// Entries below which nothing is forgotten.
const SWEEP_MIN: usize = 1024;

impl Interned {
    /// The plugin made of this configuration, or a new one.
    pub(super) fn get(
        &self,
        kind: &str,
        config: &Value,
        make: impl FnOnce() -> Result<Arc<dyn Plugin>, BadConfig>,
    ) -> Result<Arc<dyn Plugin>, BadConfig> {
        let fingerprint = self.fingerprint(kind, config);
        let known = self.lock().known.get(&fingerprint).and_then(Weak::upgrade);
        if let Some(plugin) = known {
            return Ok(plugin);
        }
        let plugin = make()?;
        self.lock().insert(fingerprint, &plugin);
        Ok(plugin)
    }

    fn fingerprint(&self, kind: &str, config: &Value) -> Fingerprint {
        let hash = |key: &RandomState| {
            let mut hasher = key.build_hasher();
            kind.hash(&mut hasher);
            feed(config, &mut hasher);
            hasher.finish()
        };
        (hash(&self.keys.0), hash(&self.keys.1))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Plugins> {
        self.plugins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plugins {
    fn insert(&mut self, fingerprint: Fingerprint, plugin: &Arc<dyn Plugin>) {
        if self.known.len() >= self.sweep_at.max(SWEEP_MIN) {
            self.known.retain(|_, plugin| plugin.strong_count() > 0);
            self.sweep_at = self.known.len() * 2;
        }
        self.known.insert(fingerprint, Arc::downgrade(plugin));
    }
}

/// Hashes a document so that no two different ones are the same sequence.
fn feed(value: &Value, hasher: &mut impl Hasher) {
    match value {
        Value::Null => hasher.write_u8(0),
        Value::Bool(value) => hasher.write_u8(1 + u8::from(*value)),
        Value::Number(number) => {
            hasher.write_u8(3);
            number.hash(hasher);
        }
        Value::String(text) => {
            hasher.write_u8(4);
            text.hash(hasher);
        }
        Value::Array(elements) => {
            hasher.write_u8(5);
            hasher.write_usize(elements.len());
            elements.iter().for_each(|it| feed(it, hasher));
        }
        Value::Object(members) => {
            hasher.write_u8(6);
            hasher.write_usize(members.len());
            for (name, value) in members {
                name.hash(hasher);
                feed(value, hasher);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Nothing;

    impl Plugin for Nothing {}

    fn get(interned: &Interned, kind: &str, config: Value) -> Arc<dyn Plugin> {
        interned
            .get(kind, &config, || Ok(Arc::new(Nothing)))
            .unwrap()
    }

    #[test]
    fn equal_configurations_share_a_plugin_for_as_long_as_somebody_has_it() {
        let interned = Interned::default();
        let one = get(&interned, "acl", json!({"allow": ["a", "b"], "x": null}));
        let same = get(&interned, "acl", json!({"allow": ["a", "b"], "x": null}));
        assert!(Arc::ptr_eq(&one, &same));
        let others = [
            get(&interned, "other", json!({"allow": ["a", "b"], "x": null})),
            get(&interned, "acl", json!({"allow": ["a", "b"], "x": 0})),
            get(&interned, "acl", json!({"allow": ["a"], "x": ["b"]})),
            get(&interned, "acl", json!({"allow": ["ab"], "x": null})),
        ];
        assert!(others.iter().all(|other| !Arc::ptr_eq(&one, other)));
        drop((one, same));
        let mut made = false;
        let config = json!({"allow": ["a", "b"], "x": null});
        let _again = interned.get("acl", &config, || {
            made = true;
            Ok(Arc::new(Nothing))
        });
        assert!(made);
    }

    #[test]
    fn what_nobody_has_is_forgotten_and_what_cannot_be_made_is_not_kept() {
        let interned = Interned::default();
        for number in 0..10 * SWEEP_MIN {
            let _dropped = get(&interned, "acl", json!(number));
        }
        assert!(interned.lock().known.len() <= SWEEP_MIN);
        let refused = || Err(BadConfig("no".to_owned()));
        assert!(interned.get("acl", &json!({}), refused).is_err());
        let _made = get(&interned, "acl", json!({}));
    }
}
