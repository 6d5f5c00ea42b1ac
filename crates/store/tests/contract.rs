//! What every database must do, run against SQLite in a file, SQLite in memory and PostgreSQL.
#![cfg(test)]

use std::time::Duration;

use o28m_store::testing::postgres_url;
use o28m_store::{
    Change, Changes, Error, Filter, Key, MigrationState, MigrationStep, News, Object, OnDelete,
    Query, Record, Reference, Session, SessionQuery, Settings, Store, Tagged, Tags, Test, Write,
};
use serde_json::{Value, json};
use tempfile::TempDir;

struct Fixture {
    store: Store,
    settings: Settings,
    _dir: TempDir,
}

fn settings(url: &str) -> Settings {
    Settings {
        url: url.to_owned(),
        schema: "o28m".to_owned(),
        pool_max: 8,
        connect_timeout: Duration::from_secs(10),
        poll_interval: Duration::from_secs(60),
    }
}

async fn fixture(url: Option<String>) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let file = format!("sqlite://{}/test.db", dir.path().display());
    let settings = settings(&url.unwrap_or(file));
    let store = Store::open(&settings).await.unwrap();
    assert_eq!(
        store.migration_state().await.unwrap(),
        MigrationState::Empty
    );
    let state = store.migrate(MigrationStep::Up).await.unwrap();
    assert_eq!(state, MigrationState::Current);
    Fixture {
        store,
        settings,
        _dir: dir,
    }
}

/// Declares a test for every database.
macro_rules! on_every_database {
    ($(async fn $name:ident($fixture:ident) $body:block)*) => {$(
        mod $name {
            use super::*;

            async fn run($fixture: Fixture) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                run(fixture(None).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite_in_memory() {
                run(fixture(Some("sqlite::memory:".to_owned())).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                if let Some(url) = postgres_url().await {
                    run(fixture(Some(url)).await).await;
                }
            }
        }
    )*};
}

fn object(kind: &'static str, id: &str) -> Object {
    Object {
        kind,
        id: id.to_owned(),
        owner: String::new(),
        keys: Vec::new(),
        references: Vec::new(),
        tags: Vec::new(),
        body: json!({"id": id}),
    }
}

fn named(kind: &'static str, id: &str, name: &str) -> Object {
    Object {
        keys: vec![key("name", name)],
        body: json!({"id": id, "name": name}),
        ..object(kind, id)
    }
}

fn key(name: &'static str, value: &str) -> Key {
    Key {
        name,
        value: value.to_owned(),
    }
}

fn pointing(
    object: Object,
    field: &'static str,
    to: (&'static str, &str),
    how: OnDelete,
) -> Object {
    let mut object = object;
    object.references.push(Reference {
        field,
        kind: to.0,
        id: to.1.to_owned(),
        on_delete: how,
    });
    object
}

fn tagged(object: Object, tags: &[&str]) -> Object {
    Object {
        tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
        ..object
    }
}

fn delete(kind: &'static str, id: &str) -> Write {
    Write::Delete {
        kind,
        id: id.to_owned(),
    }
}

async fn insert(store: &Store, objects: impl IntoIterator<Item = Object>) -> i64 {
    let steps = objects.into_iter().map(Write::Insert).collect();
    store.write(steps).await.unwrap()
}

fn ids(records: &[Record]) -> Vec<&str> {
    records.iter().map(|record| record.id.as_str()).collect()
}

fn all(kind: &str) -> Query<'_> {
    Query {
        kind,
        limit: 1000,
        ..Query::default()
    }
}

async fn changes(store: &Store, version: i64) -> Vec<Change> {
    match store.changes_since(version).await.unwrap() {
        Changes::Since(changes) => changes,
        Changes::Truncated => panic!("truncated"),
    }
}

on_every_database! {

async fn what_was_written_is_read_back_exactly(it) {
    let body: Value = serde_json::from_str(
        r#"{"z":1,"a":[1.5,-0.25,1e300,12345678901234567890,null,true],"text":"ü\u0000\"\\","b":{}}"#,
    ).unwrap();
    let written = Object { body: body.clone(), owner: "o".to_owned(), ..named("thing", "1", "n") };
    let version = insert(&it.store, [written]).await;
    let read = it.store.get("thing", "1").await.unwrap().unwrap();
    assert_eq!(read.body.to_string(), body.to_string());
    assert_eq!((read.kind.as_str(), read.owner.as_str(), read.version), ("thing", "o", version));
    let by_key = it.store.get_by_key("thing", "o", "name", "n").await.unwrap();
    assert_eq!(by_key, Some(read));
    assert_eq!(it.store.get("thing", "2").await.unwrap(), None);
    assert_eq!(it.store.get("other", "1").await.unwrap(), None);
    assert_eq!(it.store.get_by_key("thing", "", "name", "n").await.unwrap(), None);
}

async fn an_insert_needs_a_free_id_and_free_keys(it) {
    insert(&it.store, [named("thing", "1", "taken")]).await;
    let error = it.store.write(vec![Write::Insert(named("thing", "1", "free"))]).await;
    assert!(matches!(error, Err(Error::DuplicateId { kind, id }) if kind == "thing" && id == "1"));
    let two = Object { keys: vec![key("alias", "free"), key("name", "taken")], ..object("thing", "2") };
    let error = it.store.write(vec![Write::Insert(two)]).await.unwrap_err();
    assert_eq!(error.to_string(), "thing with name \"taken\" exists already");
    assert!(matches!(error, Error::Duplicate { kind, key, value }
        if kind == "thing" && key == "name" && value == "taken"));
    // Another kind, another key name or another owner is another name space.
    let alias = Object { keys: vec![key("alias", "taken")], ..object("thing", "3") };
    let owned = Object { owner: "realm".to_owned(), ..named("thing", "4", "taken") };
    insert(&it.store, [named("other", "1", "taken"), alias, owned]).await;
    let again = Object { owner: "realm".to_owned(), ..named("thing", "5", "taken") };
    let error = it.store.write(vec![Write::Insert(again)]).await;
    assert!(matches!(error, Err(Error::Duplicate { .. })));
}

async fn keys_are_freed_by_update_and_delete(it) {
    insert(&it.store, [named("thing", "1", "a")]).await;
    it.store.write(vec![Write::Update { object: named("thing", "1", "b"), if_version: None }]).await.unwrap();
    insert(&it.store, [named("thing", "2", "a")]).await;
    let error = it.store.write(vec![Write::Upsert(named("thing", "2", "b"))]).await;
    assert!(matches!(error, Err(Error::Duplicate { value, .. }) if value == "b"));
    it.store.write(vec![delete("thing", "1"), Write::Upsert(named("thing", "2", "b"))]).await.unwrap();
    assert_eq!(it.store.get_by_key("thing", "", "name", "a").await.unwrap(), None);
    let found = it.store.get_by_key("thing", "", "name", "b").await.unwrap().unwrap();
    assert_eq!(found.id, "2");
}

async fn keys_references_and_tags_are_sets(it) {
    insert(&it.store, [object("target", "t")]).await;
    let twice = Object {
        keys: vec![key("name", "a"), key("name", "b"), key("name", "a")],
        ..tagged(object("thing", "1"), &["x", "y", "x"])
    };
    let twice = pointing(twice, "f", ("target", "t"), OnDelete::Restrict);
    let twice = pointing(twice, "f", ("target", "t"), OnDelete::Restrict);
    insert(&it.store, [twice]).await;
    assert_eq!(it.store.tagged(None, None, 10).await.unwrap().len(), 2);
    assert!(it.store.get_by_key("thing", "", "name", "b").await.unwrap().is_some());
}

async fn an_update_needs_the_object_in_the_version_it_was_read(it) {
    let update = |name: &str, if_version| {
        vec![Write::Update { object: named("thing", "1", name), if_version }]
    };
    let conflict = |result: Result<i64, Error>| matches!(result, Err(Error::Conflict { kind, id })
        if kind == "thing" && id == "1");
    assert!(conflict(it.store.write(update("a", None)).await));
    let first = insert(&it.store, [named("thing", "1", "a")]).await;
    let second = it.store.write(update("b", Some(first))).await.unwrap();
    assert!(second > first);
    assert!(conflict(it.store.write(update("c", Some(first))).await));
    let read = it.store.get("thing", "1").await.unwrap().unwrap();
    assert_eq!((read.body["name"].as_str(), read.version), (Some("b"), second));
    it.store.write(vec![delete("thing", "1")]).await.unwrap();
    assert!(conflict(it.store.write(update("d", Some(second))).await));
}

async fn an_upsert_creates_or_replaces(it) {
    it.store.write(vec![Write::Upsert(tagged(named("thing", "1", "a"), &["old"]))]).await.unwrap();
    it.store.write(vec![Write::Upsert(tagged(named("thing", "1", "b"), &["new"]))]).await.unwrap();
    assert_eq!(it.store.get("thing", "1").await.unwrap().unwrap().body["name"], "b");
    let tags = it.store.tagged(None, None, 10).await.unwrap();
    assert_eq!(tags.iter().map(|it| it.tag.as_str()).collect::<Vec<_>>(), ["new"]);
}

async fn a_reference_needs_its_target(it) {
    let child = pointing(object("child", "1"), "parent", ("parent", "p"), OnDelete::Restrict);
    let error = it.store.write(vec![Write::Insert(child.clone())]).await.unwrap_err();
    assert!(matches!(error, Error::ReferenceMissing { field, kind, id }
        if field == "parent" && kind == "parent" && id == "p"));
    // The right id of another kind does not help.
    insert(&it.store, [object("other", "p")]).await;
    assert!(it.store.write(vec![Write::Insert(child.clone())]).await.is_err());
    // Within one batch the order counts, and an object may point to itself.
    let own = pointing(object("loop", "l"), "self", ("loop", "l"), OnDelete::Restrict);
    insert(&it.store, [object("parent", "p"), child, own]).await;
    it.store.write(vec![delete("loop", "l")]).await.unwrap();
}

async fn many_objects_are_written_as_one_by_one(it) {
    insert(&it.store, (0..3).map(|at| object("parent", &at.to_string()))).await;
    let child = |at: usize| {
        let name = named("child", &format!("{at:05}"), &format!("n{at}"));
        let to = (at % 3).to_string();
        pointing(tagged(name, &["all", &format!("t{at}")]), "parent", ("parent", &to), OnDelete::Cascade)
    };
    let before = it.store.version().await.unwrap();
    let after = insert(&it.store, (0..1201).map(child)).await;
    assert_eq!(after - before, 1201);
    assert_eq!(it.store.count(&all("child")).await.unwrap(), 1201);
    let last = it.store.get_by_key("child", "", "name", "n1200").await.unwrap().unwrap();
    assert_eq!((last.id.as_str(), last.version), ("01200", after));
    let of_first = Query { reference: Some(("parent", "0")), tags: Tags::All(vec!["t1200", "all"]), ..all("child") };
    assert_eq!(ids(&it.store.list(&of_first).await.unwrap()), ["01200"]);
    let log = changes(&it.store, before).await;
    assert_eq!(log.len(), 1201);
    assert!(log.iter().zip(before + 1..).all(|(change, version)| change.version == version));
    // What is wrong is named, wherever it stands among many.
    let many = |wrong: Object| {
        let mut all: Vec<Object> = (2000..2600).map(child).collect();
        all[555] = wrong;
        all.into_iter().map(Write::Insert).collect::<Vec<_>>()
    };
    let error = it.store.write(many(child(7))).await.unwrap_err();
    assert!(matches!(error, Error::DuplicateId { id, .. } if id == "00007"));
    let error = it.store.write(many(child(2003))).await.unwrap_err();
    assert!(matches!(error, Error::DuplicateId { id, .. } if id == "02003"));
    let error = it.store.write(many(named("child", "x", "n7"))).await.unwrap_err();
    assert!(matches!(error, Error::Duplicate { value, .. } if value == "n7"));
    let error = it.store.write(many(named("child", "x", "n2003"))).await.unwrap_err();
    assert!(matches!(error, Error::Duplicate { value, .. } if value == "n2003"));
    let lost = pointing(object("child", "x"), "parent", ("parent", "none"), OnDelete::Cascade);
    let error = it.store.write(many(lost)).await.unwrap_err();
    assert!(matches!(error, Error::ReferenceMissing { id, .. } if id == "none"));
    assert_eq!(it.store.version().await.unwrap(), after);
}

async fn the_order_of_a_batch_counts_among_many_of_one_kind(it) {
    let to = |id: &str, target: &str| {
        pointing(object("node", id), "next", ("node", target), OnDelete::Restrict)
    };
    let early = it.store.write(vec![Write::Insert(to("a", "b")), Write::Insert(object("node", "b"))]).await;
    assert!(matches!(early, Err(Error::ReferenceMissing { .. })));
    insert(&it.store, [object("node", "b"), to("a", "b"), to("c", "a")]).await;
    assert_eq!(it.store.count(&all("node")).await.unwrap(), 3);
}

async fn an_update_replaces_only_what_differs(it) {
    insert(&it.store, [object("target", "1"), object("target", "2")]).await;
    let thing = |name: &str, tags: &[&str], target: &str, how| {
        pointing(tagged(named("thing", "t", name), tags), "f", ("target", target), how)
    };
    let (restrict, cascade) = (OnDelete::Restrict, OnDelete::Cascade);
    insert(&it.store, [thing("a", &["x", "y"], "1", restrict)]).await;
    let update = async |object| {
        let steps = vec![Write::Update { object, if_version: None }];
        it.store.write(steps).await.unwrap()
    };
    update(thing("a", &["y", "x"], "1", restrict)).await;
    assert_eq!(it.store.tagged(None, None, 10).await.unwrap().len(), 2);
    assert!(it.store.write(vec![delete("target", "1")]).await.is_err());
    update(thing("a", &["y"], "2", restrict)).await;
    assert_eq!(it.store.tagged(None, None, 10).await.unwrap().len(), 1);
    it.store.write(vec![delete("target", "1")]).await.unwrap();
    assert!(it.store.write(vec![delete("target", "2")]).await.is_err());
    // Another owner is another name space for the same key.
    let owned = Object { owner: "o".to_owned(), ..thing("a", &[], "2", cascade) };
    update(owned).await;
    assert!(it.store.get_by_key("thing", "o", "name", "a").await.unwrap().is_some());
    assert_eq!(it.store.get_by_key("thing", "", "name", "a").await.unwrap(), None);
    it.store.write(vec![delete("target", "2")]).await.unwrap();
    assert_eq!(it.store.get("thing", "t").await.unwrap(), None);
}

async fn objects_are_read_as_they_are_stored(it) {
    let version = insert(&it.store, (0..700).map(|at| object("thing", &format!("{at:03}")))).await;
    insert(&it.store, [object("other", "1"), object("ignored", "1")]).await;
    let (into, mut from) = tokio::sync::mpsc::channel(1);
    let newest = it.store.version().await.unwrap();
    let receive = async {
        let mut all = Vec::new();
        while let Some(batch) = from.recv().await {
            all.extend(batch);
        }
        all
    };
    let send = async {
        let version = it.store.scan(&["other"], &["thing", "another"], &into).await;
        drop(into);
        version
    };
    let (sent, mut all) = tokio::join!(send, receive);
    assert_eq!(sent.unwrap(), newest);
    assert_eq!(all.first().map(|it| it.kind.as_str()), Some("other"));
    all.sort_by(|a, b| (&a.kind, &a.id).cmp(&(&b.kind, &b.id)));
    assert_eq!(all.len(), 701);
    let last = all.pop().unwrap();
    assert_eq!((last.kind.as_str(), last.id.as_str(), last.version), ("thing", "699", version));
    assert_eq!(last.body, r#"{"id":"699"}"#);
    // Nobody receives: the connection is free again.
    let (into, from) = tokio::sync::mpsc::channel(1);
    drop(from);
    assert_eq!(it.store.scan(&[], &["thing"], &into).await.unwrap(), newest);
    assert!(it.store.is_reachable());
}

async fn news_are_what_objects_became(it) {
    let before = insert(&it.store, [object("thing", "1"), object("thing", "2"), object("other", "1")]).await;
    let update = |id: &str, name: &str| Write::Update { object: named("thing", id, name), if_version: None };
    it.store.write(vec![update("1", "a"), update("1", "b"), delete("thing", "2")]).await.unwrap();
    let steps = vec![Write::Upsert(object("other", "1")), Write::Insert(object("thing", "3")), delete("thing", "3")];
    let newest = it.store.write(steps).await.unwrap();
    let News::Since { version, present, gone } = it.store.news(before, &["thing"], 3).await.unwrap() else {
        panic!("truncated");
    };
    assert_eq!(version, newest);
    assert_eq!(present.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["1"]);
    assert_eq!(present[0].body, r#"{"id":"1","name":"b"}"#);
    let name = |id: &str| ("thing".to_owned(), id.to_owned());
    assert_eq!(gone, [name("2"), name("3")]);
    assert_eq!(it.store.news(before, &["thing"], 2).await.unwrap(), News::Truncated);
    assert_eq!(it.store.news(newest + 1, &["thing"], 3).await.unwrap(), News::Truncated);
    let nothing = News::Since { version: newest, present: Vec::new(), gone: Vec::new() };
    assert_eq!(it.store.news(newest, &["thing"], 0).await.unwrap(), nothing);
}

async fn prefixes_of_keys_are_found(it) {
    let value = |name: &str| format!("[\"{name}\",\"r\"]");
    let plugin = |at: usize, name: &str| Object {
        keys: vec![key("scope", &value(name))],
        ..object("plugin", &at.to_string())
    };
    let names = ["acl", "acl-x", "zipkin"];
    insert(&it.store, names.into_iter().enumerate().map(|(at, name)| plugin(at, name))).await;
    let prefixes = ["[\"acl\",", "[\"ac\",", "[\"zipkin\",", "[\"zz\","];
    let found = it.store.occurring("plugin", "scope", &prefixes).await.unwrap();
    assert_eq!(found, [true, false, true, false]);
    let none: [bool; 0] = [];
    assert_eq!(it.store.occurring("plugin", "scope", &[]).await.unwrap(), none);
    assert_eq!(it.store.occurring("other", "scope", &["["]).await.unwrap(), [false]);
}

async fn a_restricting_reference_keeps_its_target(it) {
    let child = pointing(object("child", "1"), "parent", ("parent", "p"), OnDelete::Restrict);
    insert(&it.store, [object("parent", "p"), child]).await;
    let error = it.store.write(vec![delete("parent", "p")]).await.unwrap_err();
    assert!(matches!(error, Error::Referenced { kind, id, by }
        if kind == "parent" && id == "p" && by == "child"));
    assert!(it.store.get("parent", "p").await.unwrap().is_some());
    // Without the pointer, or after the child, it may go.
    it.store.write(vec![Write::Upsert(object("child", "1")), delete("parent", "p")]).await.unwrap();
    assert!(it.store.get("child", "1").await.unwrap().is_some());
}

async fn a_cascade_takes_everything_along_and_logs_each(it) {
    let cascade = OnDelete::Cascade;
    let b = pointing(object("b", "1"), "a", ("a", "1"), cascade);
    let c = pointing(object("c", "1"), "b", ("b", "1"), cascade);
    let both = pointing(object("d", "1"), "a", ("a", "1"), cascade);
    let both = pointing(both, "c", ("c", "1"), OnDelete::Restrict);
    let owned = Object { owner: "realm".to_owned(), ..both };
    let bystander = pointing(object("c", "2"), "a", ("a", "2"), cascade);
    let before = insert(&it.store, [object("a", "1"), object("a", "2"), b, c, owned, bystander]).await;
    let after = it.store.write(vec![delete("a", "1")]).await.unwrap();
    assert_eq!(after - before, 4);
    let log = changes(&it.store, before).await;
    assert!(log.iter().all(|change| change.deleted));
    let mut kinds: Vec<&str> = log.iter().map(|change| change.kind.as_str()).collect();
    assert_eq!(kinds.last(), Some(&"a"), "what was asked for comes last: {kinds:?}");
    kinds.sort_unstable();
    assert_eq!(kinds, ["a", "b", "c", "d"]);
    assert!(log.iter().any(|change| change.kind == "d" && change.owner == "realm"));
    for kind in ["b", "d"] {
        assert_eq!(it.store.count(&all(kind)).await.unwrap(), 0);
    }
    assert_eq!(ids(&it.store.list(&all("c")).await.unwrap()), ["2"]);
    // Deleting nothing is no error and no change.
    assert_eq!(it.store.write(vec![delete("a", "1")]).await.unwrap(), after);
}

async fn a_cascade_stops_at_a_restricting_reference(it) {
    let b = pointing(object("b", "1"), "a", ("a", "1"), OnDelete::Cascade);
    let c = pointing(object("c", "1"), "b", ("b", "1"), OnDelete::Restrict);
    insert(&it.store, [object("a", "1"), b, c]).await;
    let error = it.store.write(vec![delete("a", "1")]).await.unwrap_err();
    assert!(matches!(error, Error::Referenced { kind, id, by } if kind == "b" && id == "1" && by == "c"));
    assert_eq!(it.store.count(&all("a")).await.unwrap(), 1);
    assert_eq!(it.store.count(&all("b")).await.unwrap(), 1);
}

async fn a_circle_of_cascades_goes_as_a_whole(it) {
    let a = |to: &str| pointing(object("ring", "a"), "next", ("ring", to), OnDelete::Cascade);
    let b = pointing(object("ring", "b"), "next", ("ring", "a"), OnDelete::Cascade);
    insert(&it.store, [object("ring", "a"), b]).await;
    it.store.write(vec![Write::Upsert(a("b"))]).await.unwrap();
    it.store.write(vec![delete("ring", "a")]).await.unwrap();
    assert_eq!(it.store.count(&all("ring")).await.unwrap(), 0);
}

async fn a_wide_cascade_is_no_problem(it) {
    let children = (0..1000).map(|at| {
        pointing(object("child", &format!("{at:04}")), "parent", ("parent", "p"), OnDelete::Cascade)
    });
    insert(&it.store, std::iter::once(object("parent", "p")).chain(children)).await;
    assert_eq!(it.store.count(&all("child")).await.unwrap(), 1000);
    it.store.write(vec![delete("parent", "p")]).await.unwrap();
    assert_eq!(it.store.count(&all("child")).await.unwrap(), 0);
}

async fn a_batch_is_written_whole_or_not_at_all(it) {
    let before = insert(&it.store, [named("thing", "1", "a")]).await;
    let steps = vec![
        Write::Insert(named("thing", "2", "b")),
        delete("thing", "1"),
        Write::Insert(named("thing", "3", "b")),
    ];
    assert!(matches!(it.store.write(steps).await, Err(Error::Duplicate { .. })));
    assert_eq!(ids(&it.store.list(&all("thing")).await.unwrap()), ["1"]);
    assert_eq!(it.store.version().await.unwrap(), before);
    assert_eq!(changes(&it.store, before).await, []);
    // The store goes on as if nothing had happened.
    insert(&it.store, [named("thing", "3", "b")]).await;
}

async fn pages_follow_the_id(it) {
    insert(&it.store, (0..25).map(|at| object("thing", &format!("{at:02}")))).await;
    insert(&it.store, [object("other", "00")]).await;
    let mut seen: Vec<String> = Vec::new();
    loop {
        let after = seen.last().cloned();
        let query = Query { after: after.as_deref(), limit: 10, ..all("thing") };
        let page = it.store.list(&query).await.unwrap();
        assert!(page.len() <= 10);
        if page.is_empty() {
            break;
        }
        seen.extend(page.into_iter().map(|record| record.id));
    }
    assert_eq!(seen, (0..25).map(|at| format!("{at:02}")).collect::<Vec<_>>());
    let skipped = Query { skip: 20, limit: 3, ..all("thing") };
    assert_eq!(ids(&it.store.list(&skipped).await.unwrap()), ["20", "21", "22"]);
    assert_eq!(it.store.list(&Query { limit: 0, ..all("thing") }).await.unwrap(), []);
    assert_eq!(it.store.count(&skipped).await.unwrap(), 25);
}

async fn pages_follow_a_key_and_search_in_it(it) {
    let user = |owner: &str, id: &str, name: &str| Object {
        owner: owner.to_owned(),
        keys: vec![key("username", name), key("email", &format!("{id}@x"))],
        ..object("user", id)
    };
    insert(&it.store, [
        user("r", "1", "Zoë_Ä"), user("r", "2", "anna"), user("r", "3", "Bernd"),
        user("r", "4", "100%"), user("s", "5", "anna"),
    ]).await;
    let by_name = |query| Query { by_key: Some("username"), owner: Some("r"), ..query };
    let page = it.store.list(&by_name(all("user"))).await.unwrap();
    assert_eq!(ids(&page), ["4", "3", "1", "2"], "by bytes, not by language");
    let after = Query { after: Some("Bernd"), limit: 1, ..by_name(all("user")) };
    assert_eq!(ids(&it.store.list(&after).await.unwrap()), ["1"]);
    for (search, expected) in [
        ("NN", vec!["2"]), ("ä", vec!["1"]), ("_", vec!["1"]), ("%", vec!["4"]), ("x", vec![]),
        ("", vec!["4", "3", "1", "2"]), ("\\", vec![]),
    ] {
        let query = Query { search: Some(search), ..by_name(all("user")) };
        assert_eq!(ids(&it.store.list(&query).await.unwrap()), expected, "{search}");
        assert_eq!(it.store.count(&query).await.unwrap(), expected.len() as u64, "{search}");
    }
    let everywhere = Query { by_key: Some("username"), search: Some("anna"), ..all("user") };
    assert_eq!(ids(&it.store.list(&everywhere).await.unwrap()), ["2", "5"]);
    let skipped = Query { skip: 3, ..by_name(all("user")) };
    assert_eq!(ids(&it.store.list(&skipped).await.unwrap()), ["2"]);
}

async fn lists_are_filtered_by_owner_and_reference(it) {
    let thing = |owner: &str, id: &str, to: &str| {
        let object = Object { owner: owner.to_owned(), ..object("thing", id) };
        pointing(object, "parent", ("parent", to), OnDelete::Cascade)
    };
    insert(&it.store, [object("parent", "p"), object("parent", "q")]).await;
    insert(&it.store, [thing("r", "1", "p"), thing("r", "2", "q"), thing("s", "3", "p"), thing("r", "4", "p")]).await;
    let of = |owner, reference| Query { owner, reference, ..all("thing") };
    for (owner, reference, expected) in [
        (Some("r"), None, vec!["1", "2", "4"]),
        (Some("s"), None, vec!["3"]),
        (Some(""), None, vec![]),
        (None, Some(("parent", "p")), vec!["1", "3", "4"]),
        (Some("r"), Some(("parent", "p")), vec!["1", "4"]),
        (None, Some(("other", "p")), vec![]),
    ] {
        let query = of(owner, reference);
        assert_eq!(ids(&it.store.list(&query).await.unwrap()), expected, "{query:?}");
        assert_eq!(it.store.count(&query).await.unwrap(), expected.len() as u64);
    }
    let page = Query { after: Some("1"), limit: 1, ..of(Some("r"), Some(("parent", "p"))) };
    assert_eq!(ids(&it.store.list(&page).await.unwrap()), ["4"]);
}

async fn lists_are_filtered_by_tags(it) {
    insert(&it.store, [object("parent", "p"), tagged(object("other", "9"), &["a", "b"])]).await;
    let child = |id: &str, tags: &[&str]| {
        let child = Object { keys: vec![key("name", id)], ..tagged(object("thing", id), tags) };
        pointing(child, "parent", ("parent", "p"), OnDelete::Cascade)
    };
    insert(&it.store, [
        child("1", &["a", "b", "c", "d"]), child("2", &["a", "b"]), child("3", &["c"]),
        child("4", &[]), child("5", &["a", "b", "c", "d", "e"]),
    ]).await;
    let cases = [
        (Tags::All(vec![]), vec!["1", "2", "3", "4", "5"]),
        (Tags::All(vec!["a"]), vec!["1", "2", "5"]),
        (Tags::All(vec!["a", "b", "c", "d"]), vec!["1", "5"]),
        (Tags::All(vec!["a", "nope"]), vec![]),
        (Tags::OneOf(vec![]), vec![]),
        (Tags::OneOf(vec!["e", "c"]), vec!["1", "3", "5"]),
        (Tags::OneOf(vec!["nope"]), vec![]),
    ];
    for (tags, expected) in cases {
        let base = Query { tags, ..all("thing") };
        for reference in [None, Some(("parent", "p"))] {
            for by_key in [None, Some("name")] {
                let query = Query { reference, by_key, ..base.clone() };
                assert_eq!(ids(&it.store.list(&query).await.unwrap()), expected, "{query:?}");
                assert_eq!(it.store.count(&query).await.unwrap(), expected.len() as u64, "{query:?}");
                let rest = Query { after: Some("1"), ..query.clone() };
                let later: Vec<&str> = expected.iter().copied().filter(|id| *id > "1").collect();
                assert_eq!(ids(&it.store.list(&rest).await.unwrap()), later, "{rest:?}");
                let page = Query { skip: 1, limit: 1, ..query };
                let second: Vec<&str> = expected.iter().copied().skip(1).take(1).collect();
                assert_eq!(ids(&it.store.list(&page).await.unwrap()), second, "{page:?}");
            }
        }
    }
}

async fn tagged_objects_are_listed_by_tag_kind_and_id(it) {
    insert(&it.store, [
        tagged(object("b", "2"), &["y", "x"]), tagged(object("a", "1"), &["y"]), tagged(object("a", "3"), &["ä", "y"]),
    ]).await;
    let entry = |tag: &str, kind: &str, id: &str| Tagged {
        kind: kind.to_owned(), id: id.to_owned(), tag: tag.to_owned(),
    };
    let expected = [entry("x", "b", "2"), entry("y", "a", "1"), entry("y", "a", "3"), entry("y", "b", "2"), entry("ä", "a", "3")];
    assert_eq!(it.store.tagged(None, None, 10).await.unwrap(), expected);
    assert_eq!(it.store.tagged(None, Some(&expected[1]), 2).await.unwrap(), expected[2..4]);
    assert_eq!(it.store.tagged(Some("y"), None, 10).await.unwrap(), expected[1..4]);
    assert_eq!(it.store.tagged(Some("y"), Some(&expected[1]), 1).await.unwrap(), expected[2..3]);
}

async fn everything_is_one_consistent_state(it) {
    let version = insert(&it.store, [named("b", "2", "n"), object("b", "1"), object("a", "9"), object("c", "1")]).await;
    let everything = it.store.everything(&["b", "a", "none", "b"]).await.unwrap();
    assert_eq!(everything.version, version);
    let found: Vec<(&str, &str)> = everything.records.iter().map(|it| (it.kind.as_str(), it.id.as_str())).collect();
    assert_eq!(found, [("a", "9"), ("b", "1"), ("b", "2")]);
    assert_eq!(it.store.everything(&[]).await.unwrap().version, version);
}

async fn versions_are_the_order_of_commits(it) {
    assert_eq!(it.store.version().await.unwrap(), 0);
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let store = it.store.clone();
        writers.spawn(async move {
            for at in 0..5 {
                let id = format!("{writer}-{at}");
                let version = insert(&store, [object("thing", &id)]).await;
                // Whoever sees a version sees everything before it.
                assert_eq!(changes(&store, 0).await[..version as usize].len(), version as usize);
            }
        });
    }
    writers.join_all().await;
    let versions: Vec<i64> = changes(&it.store, 0).await.iter().map(|it| it.version).collect();
    assert_eq!(versions, (1..=40).collect::<Vec<_>>());
    assert_eq!(it.store.version().await.unwrap(), 40);
}

async fn changes_tell_what_happened_since(it) {
    let first = insert(&it.store, [object("thing", "1")]).await;
    let owned = Object { owner: "r".to_owned(), ..object("thing", "2") };
    it.store.write(vec![Write::Upsert(owned), delete("thing", "1")]).await.unwrap();
    let log = changes(&it.store, first).await;
    let expected = |version, id: &str, owner: &str, deleted| Change {
        version, kind: "thing".to_owned(), id: id.to_owned(), owner: owner.to_owned(), deleted,
    };
    assert_eq!(log, [expected(first + 1, "2", "r", false), expected(first + 2, "1", "", true)]);
    assert_eq!(changes(&it.store, first + 2).await, []);
    // A version from the future is one of another database.
    assert_eq!(it.store.changes_since(first + 3).await.unwrap(), Changes::Truncated);
}

async fn own_writes_are_announced_at_once(it) {
    let mut feed = it.store.subscribe();
    feed.borrow_and_update();
    let version = insert(&it.store, [object("thing", "1")]).await;
    assert_eq!(*feed.borrow_and_update(), version);
    it.store.write(vec![delete("thing", "none")]).await.unwrap();
    assert!(!feed.has_changed().unwrap());
}

async fn a_write_that_nobody_waits_for_is_finished(it) {
    let mut feed = it.store.subscribe();
    drop(tokio::time::timeout(Duration::ZERO, it.store.write(vec![Write::Insert(object("thing", "1"))])).await);
    feed.wait_for(|version| *version == 1).await.unwrap();
    assert!(it.store.get("thing", "1").await.unwrap().is_some());
}

async fn text_that_cannot_be_stored_is_refused_and_never_found(it) {
    let long = "x".repeat(2000);
    for bad in ["a\0b", &long] {
        let error = it.store.write(vec![Write::Insert(named("thing", "1", bad))]).await;
        assert!(matches!(error, Err(Error::Failed(_))), "{error:?}");
        assert_eq!(it.store.get("thing", bad).await.unwrap(), None);
        assert_eq!(it.store.get_by_key("thing", "", "name", bad).await.unwrap(), None);
        let query = Query { by_key: Some("name"), search: Some(bad), ..all("thing") };
        assert_eq!(it.store.list(&query).await.unwrap(), []);
        assert_eq!(it.store.count(&query).await.unwrap(), 0);
        assert_eq!(it.store.tagged(Some(bad), None, 1).await.unwrap(), []);
        assert_eq!(it.store.session("r", bad, 0).await.unwrap(), None);
        assert!(!it.store.delete_session("r", bad).await.unwrap());
    }
    assert!(it.store.is_reachable());
    let longest = "x".repeat(1024);
    insert(&it.store, [tagged(named("thing", &longest, &longest), &[&longest])]).await;
    assert!(it.store.get_by_key("thing", "", "name", &longest).await.unwrap().is_some());
}

async fn sessions_live_until_they_expire(it) {
    let session = |id: &str, expires_at_s| Session {
        id: id.to_owned(), owner: "r".to_owned(), expires_at_s, body: json!({"user": "u"}),
    };
    it.store.put_session(&session("1", 100)).await.unwrap();
    assert_eq!(it.store.session("r", "1", 99).await.unwrap(), Some(session("1", 100)));
    assert_eq!(it.store.session("r", "1", 100).await.unwrap(), None);
    assert_eq!(it.store.session("s", "1", 99).await.unwrap(), None);
    it.store.put_session(&session("1", 200)).await.unwrap();
    assert_eq!(it.store.session("r", "1", 100).await.unwrap(), Some(session("1", 200)));
    assert_eq!(it.store.owned_sessions("r", 100).await.unwrap(), [session("1", 200)]);
    assert_eq!(it.store.owned_sessions("r", 200).await.unwrap(), []);
    assert_eq!(it.store.owned_sessions("s", 100).await.unwrap(), []);
    it.store.put_session(&session("2", 50)).await.unwrap();
    assert_eq!(it.store.expire_sessions(100).await.unwrap(), 1);
    assert_eq!(it.store.expire_sessions(100).await.unwrap(), 0);
    assert!(it.store.session("r", "1", 0).await.unwrap().is_some());
    assert!(it.store.delete_session("r", "1").await.unwrap());
    assert!(!it.store.delete_session("r", "1").await.unwrap());
    assert_eq!(it.store.version().await.unwrap(), 0, "sessions are no configuration");
}

async fn bodies_are_filtered_in_the_listing_and_the_count(it) {
    let bodies = [
        json!({"a": {"n": "anna"}, "on": true, "tags": ["x", "y"]}),
        json!({"a": {"n": "50%_\u{f6}"}, "on": false, "tags": ["y"]}),
        json!({"a": {}, "tags": []}),
        json!({"a": {"n": "a \"quoted\" name"}, "b": "elsewhere"}),
    ];
    for (at, body) in bodies.into_iter().enumerate() {
        let key = Key { name: "name", value: format!("k{at}") };
        let one = Object { keys: vec![key], body, owner: "r".to_owned(), ..object("thing", &at.to_string()) };
        insert(&it.store, [one]).await;
    }
    let name = |test| vec![Filter { path: vec!["a", "n"], test }];
    let found = async |filters: Vec<Vec<Filter<'_>>>| -> Vec<String> {
        let mut lists = Vec::new();
        for by_key in [None, Some("name")] {
            let query = Query {
                kind: "thing", owner: Some("r"), by_key, filters: filters.clone(), limit: 10, ..Query::default()
            };
            let ids: Vec<String> = it.store.list(&query).await.unwrap().into_iter().map(|it| it.id).collect();
            assert_eq!(it.store.count(&query).await.unwrap(), ids.len() as u64);
            lists.push(ids);
        }
        assert_eq!(lists[0], lists[1]);
        lists.remove(0)
    };
    assert_eq!(found(vec![name(Test::Is("anna"))]).await, ["0"]);
    assert_eq!(found(vec![name(Test::Fits("*nn*"))]).await, ["0"]);
    assert_eq!(found(vec![name(Test::Fits("nn"))]).await, [""; 0]);
    assert_eq!(found(vec![name(Test::Fits("50%_*"))]).await, ["1"]);
    assert_eq!(found(vec![name(Test::Fits("%*"))]).await, [""; 0]);
    assert_eq!(found(vec![name(Test::Is("a \"quoted\" name"))]).await, ["3"]);
    assert_eq!(found(vec![name(Test::Fits("*\"quoted\"*"))]).await, ["3"]);
    assert_eq!(found(vec![name(Test::Is("elsewhere"))]).await, [""; 0]);
    let flag = |wanted| vec![Filter { path: vec!["on"], test: Test::Flag(wanted) }];
    assert_eq!(found(vec![flag(true)]).await, ["0"]);
    assert_eq!(found(vec![flag(false)]).await, ["1"]);
    let has = |text| vec![Filter { path: vec!["tags"], test: Test::Has(text) }];
    assert_eq!(found(vec![has("y")]).await, ["0", "1"]);
    assert_eq!(found(vec![has("y"), has("x")]).await, ["0"]);
    let either: Vec<_> = name(Test::Is("anna")).into_iter().chain(flag(false)).collect();
    assert_eq!(found(vec![either]).await, ["0", "1"]);
    assert_eq!(found(vec![Vec::new()]).await, [""; 0], "one of nothing");
    let odd = vec![Filter { path: vec!["a\"b"], test: Test::Is("x") }];
    assert_eq!(found(vec![odd]).await, [""; 0]);
}

async fn a_detached_reference_goes_with_what_it_points_to(it) {
    insert(&it.store, [object("group", "g"), object("group", "h")]).await;
    let reference = |id: &str| Reference {
        field: "group", kind: "group", id: id.to_owned(), on_delete: OnDelete::Detach,
    };
    let user = Object {
        references: vec![reference("g"), reference("h"), reference("nosuch")], ..object("user", "u")
    };
    insert(&it.store, [user.clone()]).await;
    let members = async |id: &'static str| {
        let query = Query { kind: "user", reference: Some(("group", id)), limit: 10, ..Query::default() };
        it.store.list(&query).await.unwrap().len()
    };
    assert_eq!((members("g").await, members("nosuch").await), (1, 0));
    let delete = Write::Delete { kind: "group", id: "g".to_owned() };
    let _version = it.store.write(vec![delete]).await.unwrap();
    assert_eq!((members("g").await, members("h").await), (0, 1));
    assert!(it.store.get("user", "u").await.unwrap().is_some());
    let update = Write::Update { object: user, if_version: None };
    let _version = it.store.write(vec![update]).await.unwrap();
    assert_eq!(members("h").await, 1);
}

async fn sessions_are_listed_by_what_their_ids_start_with(it) {
    let session = |id: &str, expires_at_s, body| Session {
        id: id.to_owned(), owner: "r".to_owned(), expires_at_s, body,
    };
    let all = [
        session("1", 100, json!({"n": 1})), session("2", 10, json!({"n": 2})), session("3", 100, json!({"n": 3})),
        session("of/aa/1", 100, Value::Null), session("of/aa/2", 100, Value::Null),
        session("of/bb/3", 100, Value::Null), session("of/bb/9", 100, Value::Null),
        session("e/10", 100, json!({"type": "x"})), session("e/20", 100, json!({"type": "y"})),
    ];
    it.store.put_sessions(&all).await.unwrap();
    let ids = |list: Vec<Session>| -> Vec<String> { list.into_iter().map(|it| it.id).collect() };
    let query = |prefix| SessionQuery { owner: "r", prefix, now_s: 50, limit: 10, ..SessionQuery::default() };
    assert_eq!(ids(it.store.sessions(&query("of/")).await.unwrap()).len(), 4);
    assert_eq!(ids(it.store.sessions_named(&query("of/aa/")).await.unwrap()), ["1"], "2 has expired");
    assert_eq!(ids(it.store.sessions_named(&query("of/bb/")).await.unwrap()), ["3"], "9 is gone");
    assert_eq!(it.store.count_sessions(&query("of/bb/")).await.unwrap(), 2);
    let counts = it.store.count_sessions_by(&query("of/"), 2).await.unwrap();
    assert_eq!(counts, [("aa".to_owned(), 2), ("bb".to_owned(), 2)]);
    let newest = SessionQuery { newest_first: true, limit: 1, ..query("e/") };
    assert_eq!(ids(it.store.sessions(&newest).await.unwrap()), ["e/20"]);
    let between = SessionQuery { from: Some("e/05"), until: Some("e/15"), ..query("e/") };
    assert_eq!(ids(it.store.sessions(&between).await.unwrap()), ["e/10"]);
    let kind = vec![Filter { path: vec!["type"], test: Test::Is("y") }];
    let filtered = SessionQuery { filters: vec![kind], ..query("e/") };
    assert_eq!(ids(it.store.sessions(&filtered).await.unwrap()), ["e/20"]);
    assert_eq!(it.store.delete_sessions("r", &["1".to_owned(), "x".to_owned()]).await.unwrap(), 1);
    assert_eq!(it.store.clear_sessions("r", "of/").await.unwrap(), 4);
    assert_eq!(it.store.clear_sessions("other", "").await.unwrap(), 0);
    assert_eq!(it.store.clear_sessions("r", "").await.unwrap(), 4);
}

async fn a_session_is_replaced_by_one_of_those_who_read_it(it) {
    let session = |number: i64| Session {
        id: "1".to_owned(), owner: "r".to_owned(), expires_at_s: 100, body: json!({"n": number}),
    };
    let (one, other) = (session(1), session(2));
    let (first, second) = tokio::join!(
        it.store.replace_session(&one, None), it.store.replace_session(&other, None),
    );
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_ne!(first, second);
    let stored = if first { one.body } else { other.body };
    assert!(it.store.replace_session(&session(3), Some(&stored)).await.unwrap());
    assert!(!it.store.replace_session(&session(4), Some(&stored)).await.unwrap());
    assert!(it.store.delete_session("r", "1").await.unwrap());
    assert!(!it.store.replace_session(&session(4), Some(&json!({"n": 3}))).await.unwrap());
    assert_eq!(it.store.session("r", "1", 0).await.unwrap(), None);
}

async fn migrations_can_be_repeated(it) {
    insert(&it.store, [object("thing", "1")]).await;
    for step in [MigrationStep::Bootstrap, MigrationStep::Up, MigrationStep::Finish] {
        assert_eq!(it.store.migrate(step).await.unwrap(), MigrationState::Current);
    }
    assert_eq!(it.store.migration_state().await.unwrap(), MigrationState::Current);
    assert_eq!(it.store.count(&all("thing")).await.unwrap(), 1);
}

async fn a_closed_store_says_so(it) {
    it.store.close().await;
    assert!(matches!(it.store.get("thing", "1").await, Err(Error::Unavailable(_))));
    assert!(matches!(it.store.write(vec![delete("thing", "1")]).await, Err(Error::Unavailable(_))));
    assert!(!it.store.is_reachable());
    assert!(it.settings.pool_max > 0);
}

}
