//! Everything the Admin API holds, for comparison.

use std::collections::BTreeMap;

use o28m_testkit::Platform;
use serde_json::{Value, json};

/// Every entity by its path, as it is shown, except for the time of the last write.
pub(crate) async fn of(platform: &Platform) -> BTreeMap<String, Value> {
    let endpoints = get(platform, "/endpoints").await;
    let paths: Vec<String> = serde_json::from_value(endpoints["data"].clone()).unwrap();
    let is_collection = |path: &&String| {
        let single = paths.iter().any(|it| it.starts_with(&format!("{path}/{{")));
        single && path.matches('/').count() == 1
    };
    let mut collections: Vec<String> = paths
        .iter()
        .filter(is_collection)
        .filter(|path| !NO_ENTITIES.contains(&path.as_str()))
        .cloned()
        .collect();
    assert!(collections.contains(&"/services".to_owned()), "{paths:?}");
    let mut state = BTreeMap::new();
    while let Some(path) = collections.pop() {
        for mut entity in all(platform, &path).await {
            let id = entity["id"].as_str().unwrap().to_owned();
            if path == "/upstreams" {
                collections.push(format!("/upstreams/{id}/targets"));
            }
            entity.as_object_mut().unwrap().remove("updated_at");
            state.insert(format!("{path}/{id}"), entity);
        }
    }
    state
}

/// Compares two states; only what differs is shown.
#[track_caller]
pub(crate) fn assert_same(one: &BTreeMap<String, Value>, other: &BTreeMap<String, Value>) {
    let mut differences = String::new();
    for path in one.keys().chain(other.keys()) {
        let (before, after) = (one.get(path), other.get(path));
        if before != after {
            differences.push_str(&format!("{path}\n  {before:?}\n  {after:?}\n"));
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

/// Paths that look like collections and are none.
const NO_ENTITIES: &[&str] = &["/tags", "/cache", "/schemas", "/filter-chains", "/debug"];

/// Every page of a collection.
async fn all(platform: &Platform, path: &str) -> Vec<Value> {
    let mut found = Vec::new();
    let mut next = format!("{path}?size=1000");
    loop {
        let page = get(platform, &next).await;
        found.extend(page["data"].as_array().unwrap().iter().cloned());
        match page["next"].as_str() {
            Some(path) => path.clone_into(&mut next),
            None => return found,
        }
    }
}

async fn get(platform: &Platform, path: &str) -> Value {
    platform
        .admin("GET", path, json!(null))
        .await
        .expect(200)
        .json()
}
