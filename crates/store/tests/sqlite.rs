//! What only a database in a file can show.
#![cfg(test)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use o28m_store::testing::open_with_short_log;
use o28m_store::{
    Changes, Error, MigrationState, MigrationStep, News, Object, Query, Settings, Store, Write,
};
use serde_json::json;
use tokio::task::JoinSet;

fn settings(path: &Path) -> Settings {
    Settings {
        url: format!("sqlite://{}", path.display()),
        schema: "o28m".to_owned(),
        pool_max: 4,
        connect_timeout: Duration::from_secs(5),
        poll_interval: Duration::from_millis(50),
    }
}

fn object(id: &str) -> Object {
    Object {
        kind: "thing",
        id: id.to_owned(),
        owner: String::new(),
        keys: Vec::new(),
        references: Vec::new(),
        tags: Vec::new(),
        body: json!({"id": id}),
    }
}

#[tokio::test]
async fn everything_survives_closing_and_nobody_else_may_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("o28m ä.db");
    let url = settings(&file).url.replace(' ', "%20");
    let settings = Settings {
        url,
        ..settings(&file)
    };
    let store = Store::open(&settings).await.unwrap();
    store.migrate(MigrationStep::Up).await.unwrap();
    let version = store.write(vec![Write::Insert(object("1"))]).await.unwrap();
    let mut names = 0;
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        names += 1;
    }
    assert!(names >= 2, "the database and its log");
    store.close().await;
    let store = Store::open(&settings).await.unwrap();
    assert_eq!(
        store.migration_state().await.unwrap(),
        MigrationState::Current
    );
    let mut feed = store.subscribe();
    feed.wait_for(|known| *known == version).await.unwrap();
    assert_eq!(store.version().await.unwrap(), version);
    assert!(store.get("thing", "1").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_on_one_file_share_it_and_hear_of_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir.path().join("o28m.db"));
    let mut starting = JoinSet::new();
    for at in 0..4 {
        let settings = settings.clone();
        starting.spawn(async move {
            let store = Store::open(&settings).await.unwrap();
            let state = store.migrate(MigrationStep::Up).await.unwrap();
            assert_eq!(state, MigrationState::Current);
            let steps = vec![Write::Insert(object(&at.to_string()))];
            store.write(steps).await.unwrap();
            store
        });
    }
    for store in starting.join_all().await {
        let mut feed = store.subscribe();
        let heard = feed.wait_for(|known| *known == 4);
        tokio::time::timeout(Duration::from_secs(20), heard)
            .await
            .unwrap()
            .unwrap();
    }
}

#[tokio::test]
async fn the_log_is_bounded_and_says_when_it_no_longer_reaches_back() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir.path().join("o28m.db"));
    let store = open_with_short_log(&settings, 10).await.unwrap();
    store.migrate(MigrationStep::Up).await.unwrap();
    for at in 1..=19 {
        let steps = vec![Write::Upsert(object("1"))];
        assert_eq!(store.write(steps).await.unwrap(), at);
    }
    assert!(matches!(
        store.changes_since(0).await.unwrap(),
        Changes::Since(changes) if changes.len() == 19
    ));
    store.write(vec![Write::Upsert(object("1"))]).await.unwrap();
    for lost in [0, 9] {
        assert_eq!(store.changes_since(lost).await.unwrap(), Changes::Truncated);
    }
    assert!(matches!(
        store.changes_since(10).await.unwrap(),
        Changes::Since(changes) if changes.len() == 10
    ));
    // A batch longer than the log leaves its own end in it.
    let steps = (0..50).map(|at| Write::Upsert(object(&at.to_string())));
    let version = store.write(steps.collect()).await.unwrap();
    assert_eq!(version, 70);
    assert!(matches!(
        store.changes_since(60).await.unwrap(),
        Changes::Since(changes) if changes.len() == 10
    ));
}

#[tokio::test]
async fn young_changes_stay_in_the_log_however_many_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir.path().join("o28m.db"));
    let store = Store::open(&settings).await.unwrap();
    store.migrate(MigrationStep::Up).await.unwrap();
    let steps = (0..100_500).map(|at| Write::Insert(object(&at.to_string())));
    store.write(steps.collect()).await.unwrap();
    store.write(vec![Write::Upsert(object("1"))]).await.unwrap();
    assert!(matches!(
        store.news(0, &["thing"], 200_000).await.unwrap(),
        News::Since { version: 100_501, present, gone } if present.len() == 100_500 && gone.is_empty()
    ));
    // All at once they are too many.
    assert_eq!(store.changes_since(0).await.unwrap(), Changes::Truncated);
    assert!(matches!(
        store.changes_since(100_499).await.unwrap(),
        Changes::Since(changes) if changes.len() == 2
    ));
}

#[tokio::test]
async fn a_directory_that_does_not_exist_is_unavailable() {
    let error = Store::open(&settings(Path::new("/nonexistent/o28m.db"))).await;
    assert!(matches!(error.err().unwrap(), Error::Unavailable(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_go_on_beside_a_writer_and_after_cancelled_readers() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&settings(&dir.path().join("o28m.db")))
        .await
        .unwrap();
    store.migrate(MigrationStep::Up).await.unwrap();
    let steps = (0..2000).map(|at| Write::Insert(object(&at.to_string())));
    store.write(steps.collect()).await.unwrap();
    for _ in 0..20 {
        let reading = store.everything(&["thing"]);
        drop(tokio::time::timeout(Duration::from_micros(200), reading).await);
    }
    let query = Query {
        kind: "thing",
        limit: 1,
        ..Query::default()
    };
    for _ in 0..10 {
        assert_eq!(store.list(&query).await.unwrap().len(), 1);
        assert_eq!(
            store.everything(&["thing"]).await.unwrap().records.len(),
            2000
        );
    }
    store.write(vec![Write::Upsert(object("1"))]).await.unwrap();
}
