//! What only a database server can show: several processes on it, and its absence.
#![cfg(test)]

use std::time::{Duration, Instant};

use o28m_store::testing::{Server, postgres_url};
use o28m_store::{
    Changes, Error, Key, MigrationState, MigrationStep, Object, Settings, Store, Write,
};
use serde_json::json;
use tokio::task::JoinSet;

fn settings(url: &str) -> Settings {
    Settings {
        url: url.to_owned(),
        schema: "o28m".to_owned(),
        pool_max: 8,
        connect_timeout: Duration::from_secs(5),
        poll_interval: Duration::from_secs(60),
    }
}

fn named(id: &str, name: &str) -> Object {
    Object {
        kind: "thing",
        id: id.to_owned(),
        owner: String::new(),
        keys: vec![Key {
            name: "name",
            value: name.to_owned(),
        }],
        references: Vec::new(),
        tags: Vec::new(),
        body: json!({"name": name}),
    }
}

async fn migrated(settings: &Settings) -> Store {
    let store = Store::open(settings).await.unwrap();
    store.migrate(MigrationStep::Up).await.unwrap();
    store
}

/// Waits for a condition, at most a minute.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(Instant::now() < deadline, "gave up waiting for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_hear_of_each_other_well_within_a_second() {
    let Some(url) = postgres_url().await else {
        return;
    };
    let one = migrated(&settings(&url)).await;
    let two = migrated(&settings(&url)).await;
    let mut feed = two.subscribe();
    // The first one is heard as soon as the listener stands, which is not what is measured.
    let first = one.write(vec![Write::Insert(named("0", "0"))]).await;
    let first = first.unwrap();
    feed.wait_for(|known| *known == first).await.unwrap();
    for at in 1..20 {
        let steps = vec![Write::Insert(named(&at.to_string(), &at.to_string()))];
        let version = one.write(steps).await.unwrap();
        let heard = feed.wait_for(|known| *known == version);
        let heard = tokio::time::timeout(Duration::from_millis(900), heard).await;
        assert!(heard.is_ok(), "change {version} was not announced");
    }
    let Changes::Since(changes) = two.changes_since(first).await.unwrap() else {
        panic!("truncated");
    };
    assert_eq!(changes.len(), 19);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_eight_clients_that_race_for_a_name_one_wins() {
    let Some(url) = postgres_url().await else {
        return;
    };
    migrated(&settings(&url)).await.close().await;
    for round in 0..5 {
        let mut racers = JoinSet::new();
        for racer in 0..8 {
            let settings = settings(&url);
            racers.spawn(async move {
                let store = Store::open(&settings).await.unwrap();
                let object = named(&format!("{round}-{racer}"), &format!("name-{round}"));
                store.write(vec![Write::Insert(object)]).await
            });
        }
        let results = racers.join_all().await;
        let lost = |result: &&Result<i64, Error>| matches!(result, Err(Error::Duplicate { .. }));
        assert_eq!(results.iter().filter(|it| it.is_ok()).count(), 1);
        assert_eq!(results.iter().filter(lost).count(), 7, "{results:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_start_at_once_migrate_once() {
    let Some(url) = postgres_url().await else {
        return;
    };
    let mut starting = JoinSet::new();
    for _ in 0..8 {
        let settings = settings(&url);
        starting.spawn(async move {
            let store = Store::open(&settings).await.unwrap();
            store.migrate(MigrationStep::Up).await
        });
    }
    for state in starting.join_all().await {
        assert_eq!(state.unwrap(), MigrationState::Current);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schemas_of_one_database_are_separate_and_public_stays_empty() {
    let Some(url) = postgres_url().await else {
        return;
    };
    let here = migrated(&settings(&url)).await;
    let odd = Settings {
        schema: "We\"ird schema".to_owned(),
        ..settings(&url)
    };
    let there = Store::open(&odd).await.unwrap();
    assert_eq!(
        there.migration_state().await.unwrap(),
        MigrationState::Empty
    );
    there.migrate(MigrationStep::Bootstrap).await.unwrap();
    here.write(vec![Write::Insert(named("1", "n"))])
        .await
        .unwrap();
    assert_eq!(there.get("thing", "1").await.unwrap(), None);
    let public = Settings {
        schema: "public".to_owned(),
        ..settings(&url)
    };
    let public = Store::open(&public).await.unwrap();
    assert_eq!(
        public.migration_state().await.unwrap(),
        MigrationState::Empty
    );
    let nowhere = Settings {
        schema: String::new(),
        ..settings(&url)
    };
    assert!(matches!(Store::open(&nowhere).await, Err(Error::Url(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_without_tables_says_what_to_do() {
    let Some(url) = postgres_url().await else {
        return;
    };
    let store = Store::open(&settings(&url)).await.unwrap();
    let error = store.get("thing", "1").await.unwrap_err();
    assert!(error.to_string().contains("o28m migrate up"), "{error}");
    assert!(store.is_reachable());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_goes_away_is_noticed_and_used_again_when_it_returns() {
    let starting = tokio::task::spawn_blocking(Server::start).await.unwrap();
    let Some(mut server) = starting else {
        return;
    };
    let url = server.create_database().await;
    let store = migrated(&settings(&url)).await;
    let version = store.write(vec![Write::Insert(named("1", "a"))]).await;
    let version = version.unwrap();
    let mut feed = store.subscribe();
    feed.wait_for(|known| *known == version).await.unwrap();
    assert!(store.is_reachable());

    let mut server = tokio::task::spawn_blocking(move || {
        server.stop();
        server
    })
    .await
    .unwrap();
    // Nobody asks the store anything: the feed notices by itself.
    eventually("the feed to notice", async || !store.is_reachable()).await;
    let started = Instant::now();
    let read = store.get("thing", "1").await.unwrap_err();
    let written = store.write(vec![Write::Insert(named("2", "b"))]).await;
    let written = written.unwrap_err();
    let opened = Store::open(&settings(&url)).await.err().unwrap();
    for error in [read, written, opened] {
        assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
        let text = format!("{error} {error:?}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "errors come quickly"
    );
    assert!(!store.is_reachable());

    let server = tokio::task::spawn_blocking(move || {
        server.restart();
        server
    })
    .await
    .unwrap();
    eventually("the database to be reachable", async || {
        store.is_reachable()
    })
    .await;
    eventually("reads to work", async || {
        store.get("thing", "1").await.is_ok()
    })
    .await;
    // Another process writes; the feed of this one has caught up with it without a restart.
    let other = Store::open(&settings(&url)).await.unwrap();
    let steps = vec![Write::Insert(named("3", "c"))];
    let newer = other.write(steps).await.unwrap();
    let heard = feed.wait_for(|known| *known == newer);
    let heard = tokio::time::timeout(Duration::from_secs(10), heard).await;
    assert!(heard.is_ok());
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_login_names_no_password() {
    let Some(url) = postgres_url().await else {
        return;
    };
    let missing = url.replace("/test_", "/missing_");
    let error = Store::open(&settings(&missing)).await.err().unwrap();
    assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
    assert!(!format!("{error:?}").contains("hunter2"));
    assert!(!format!("{:?}", settings(&url)).contains("hunter2"));
}

#[tokio::test]
async fn unusable_urls_are_refused_without_repeating_them() {
    for url in [
        "mysql://user:hunter2@localhost/db",
        "postgres://user:hunter2@localhost:port/db",
        "postgres://user:hunter2@localhost/db?sslmode=maybe",
        "sqlite://x.db?mode=hunter",
        "hunter2",
        "",
    ] {
        let error = Store::open(&settings(url)).await.err().unwrap();
        assert!(matches!(error, Error::Url(_)), "{url}: {error:?}");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}
