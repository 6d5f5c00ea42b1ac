//! Keys in the database.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::common::ambient;
use arc_swap::ArcSwap;
use o28m_jose::slots::{KeyRing, SharedKeys, Slots};
use o28m_rotator::{database_slots, follow_database, rotate_database, stored_slots};
use o28m_store::testing::postgres_url;
use o28m_store::{MigrationStep, Settings, Store};
use tokio::task::JoinSet;

const DAY: Duration = Duration::from_secs(86_400);

fn settings(url: String) -> Settings {
    Settings {
        url,
        schema: "o28m".to_owned(),
        pool_max: 4,
        connect_timeout: Duration::from_secs(10),
        poll_interval: Duration::from_millis(50),
    }
}

async fn store(url: String) -> Store {
    let store = Store::open(&settings(url)).await.unwrap();
    store.migrate(MigrationStep::Up).await.unwrap();
    store
}

/// Four processes that start at once on the same database.
async fn race(stores: [Store; 4]) {
    let mut racers = JoinSet::new();
    for store in stores.clone() {
        racers.spawn(async move {
            database_slots(&store, &ambient().0, "Stargate")
                .await
                .unwrap()
        });
    }
    let all = racers.join_all().await;
    assert!(all.iter().all(|slots| *slots == all[0]));
    let stored = stored_slots(&stores[0]).await.unwrap();
    assert_eq!(stored.as_ref(), Some(&all[0]));
    assert!(all[0].signing().unwrap().signing_key().is_ok());
    let again = database_slots(&stores[1], &ambient().0, "Other")
        .await
        .unwrap();
    assert_eq!(again, all[0]);

    let (ambient, clock) = ambient();
    clock.0.fetch_add(86_400, Ordering::Relaxed);
    let mut racers = JoinSet::new();
    for store in stores {
        let ambient = ambient.clone();
        racers.spawn(async move {
            rotate_database(&store, &ambient, "Stargate", DAY)
                .await
                .unwrap()
        });
    }
    let rotated = racers.join_all().await;
    assert!(
        rotated.iter().all(|slots| *slots == rotated[0]),
        "one rotation"
    );
    assert_eq!(rotated[0].active, all[0].next);
    assert_ne!(rotated[0].next, all[0].next);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_processes_that_start_at_once_one_makes_the_keys_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/o28m.db", dir.path().display());
    let mut stores = Vec::new();
    for _ in 0..4 {
        stores.push(store(url.clone()).await);
    }
    race(stores.try_into().ok().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_processes_that_start_at_once_one_makes_the_keys_on_postgres() {
    let Some(url) = postgres_url().await else {
        return;
    };
    let mut stores = Vec::new();
    for _ in 0..4 {
        stores.push(store(url.clone()).await);
    }
    race(stores.try_into().ok().unwrap()).await;
}

#[tokio::test]
async fn rotator_case_029_keys_rotate_when_due_and_once_however_late() {
    let store = store("sqlite::memory:".to_owned()).await;
    let (ambient, clock) = ambient();
    let rotate = async || {
        rotate_database(&store, &ambient, "Stargate", 30 * DAY)
            .await
            .unwrap()
    };
    let first = rotate().await;
    assert_eq!(first.next, first.previous, "made, not rotated");
    assert_eq!(rotate().await, first);
    clock.0.fetch_add(30 * 86_400 - 1, Ordering::Relaxed);
    assert_eq!(rotate().await, first);
    clock.0.fetch_add(1, Ordering::Relaxed);
    let second = rotate().await;
    assert_ne!(second.next, first.next);
    assert_eq!(
        (&second.active, &second.previous),
        (&first.next, &first.active)
    );
    clock.0.fetch_add(90 * 86_400, Ordering::Relaxed);
    let third = rotate().await;
    assert_eq!(third.active, second.next);
    assert_eq!(rotate().await, third);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_follows_the_rotations_of_another_one() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/o28m.db", dir.path().display());
    let (here, there) = (store(url.clone()).await, store(url).await);
    let keys: SharedKeys = Arc::new(ArcSwap::from_pointee(KeyRing::default()));
    let following = tokio::spawn({
        let keys = keys.clone();
        async move { follow_database(&here, &keys).await }
    });
    let (ambient, clock) = ambient();
    let made = database_slots(&there, &ambient, "Stargate").await.unwrap();
    until(&keys, &made).await;
    let epoch = keys.load().epoch;
    for _ in 0..2 {
        clock.0.fetch_add(86_400, Ordering::Relaxed);
        let rotated = rotate_database(&there, &ambient, "Stargate", DAY)
            .await
            .unwrap();
        until(&keys, &rotated).await;
    }
    assert!(keys.load().epoch > epoch, "another key signs");
    assert!(keys.load().signing.is_some());
    following.abort();
}

async fn until(keys: &SharedKeys, slots: &Slots) {
    let waiting = async {
        while keys.load().slots != *slots {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .unwrap();
}
