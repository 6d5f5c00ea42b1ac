use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{Admin, Reply, on_every_database};

/// A request that demands a state.
async fn demand(
    admin: &Admin,
    method: &str,
    path: &str,
    header: (&str, &str),
    body: Value,
) -> Reply {
    let headers = [("content-type", "application/json"), header];
    admin
        .raw(method, path, &headers, body.to_string().as_bytes())
        .await
}

on_every_database! {
    async fn a_change_can_demand_the_state_it_was_made_from(admin: Admin) {
        let path = "/services/s";
        let made = admin.put(path, json!({"host": "a"})).await.expect(200);
        let first = made.header("etag").to_owned();
        let read = admin.get(path).await.expect(200);
        assert_eq!(read.header("etag"), first);
        assert!(first.starts_with('"') && first.ends_with('"'), "{first}");

        let change = json!({"host": "b"});
        let changed = demand(&admin, "PATCH", path, ("if-match", &first), change).await.expect(200);
        let second = changed.header("etag").to_owned();
        assert_ne!(second, first);
        for (method, body) in [("PATCH", json!({"host": "c"})), ("PUT", json!({"host": "c"})), ("DELETE", json!({}))] {
            let refused = demand(&admin, method, path, ("if-match", &first), body).await.expect(412);
            assert!(refused.message().contains("If-Match"));
        }
        assert_eq!(admin.get(path).await.value()["host"], "b");
        let list = format!("\"0\", {second}");
        let put = demand(&admin, "PUT", path, ("if-match", &list), json!({"host": "d"})).await.expect(200);
        let third = put.header("etag").to_owned();
        // The same content again is the same state.
        let again = demand(&admin, "PUT", path, ("if-match", &third), json!({"host": "d"})).await.expect(200);
        assert_eq!(again.header("etag"), third);
        let any = demand(&admin, "PATCH", path, ("if-match", "*"), json!({"host": "e"})).await.expect(200);
        let last = any.header("etag").to_owned();
        let _ = demand(&admin, "DELETE", path, ("if-match", &last), json!({})).await.expect(204);
        // What is gone is in no state.
        let _ = demand(&admin, "PUT", path, ("if-match", "*"), json!({"host": "f"})).await.expect(412);
        let _ = demand(&admin, "DELETE", path, ("if-match", &last), json!({})).await.expect(412);
        let _ = admin.get(path).await.expect(404);
    }
}

on_every_database! {
    async fn creation_can_demand_that_nothing_is_there(admin: Admin) {
        let none = ("if-none-match", "*");
        let _ = demand(&admin, "PUT", "/services/s", none, json!({"host": "a"})).await.expect(200);
        let _ = demand(&admin, "PUT", "/services/s", none, json!({"host": "b"})).await.expect(412);
        assert_eq!(admin.get("/services/s").await.value()["host"], "a");
        // Readers who have the state already need not get it again.
        let tag = admin.get("/services/s").await.header("etag").to_owned();
        let same = admin.raw("GET", "/services/s", &[("if-none-match", &tag)], b"").await.expect(304);
        assert_eq!((same.body.as_str(), same.header("etag")), ("", tag.as_str()));
        let other = admin.raw("GET", "/services/s", &[("if-none-match", "\"0\"")], b"").await;
        let _ = other.expect(200);
    }
}

on_every_database! {
    async fn of_many_changes_from_one_state_one_wins(admin: Admin) {
        let made = admin.put("/services/s", json!({"host": "h"})).await.expect(200);
        let tag = made.header("etag").to_owned();
        let admin = Arc::new(admin);
        let mut tasks = JoinSet::new();
        for at in 0..20 {
            let (admin, tag) = (Arc::clone(&admin), tag.clone());
            let method = if at % 2 == 0 { "PUT" } else { "PATCH" };
            tasks.spawn(async move {
                let body = json!({"host": format!("h{at}")});
                demand(&admin, method, "/services/s", ("if-match", &tag), body).await.status
            });
        }
        let statuses = tasks.join_all().await;
        let count = |status: u16| statuses.iter().filter(|it| **it == status).count();
        assert_eq!((count(200), count(412)), (1, 19), "{statuses:?}");
    }
}
