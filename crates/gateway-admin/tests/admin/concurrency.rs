use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{self, Admin, Reply, on_every_database};

/// Sends the same kind of request from many clients at once.
pub(crate) async fn together(
    admin: &Arc<Admin>,
    method: &'static str,
    path: &'static str,
    bodies: impl Iterator<Item = Value>,
) -> Vec<Reply> {
    let mut tasks = JoinSet::new();
    for body in bodies {
        let admin = Arc::clone(admin);
        tasks.spawn(async move { admin.json(method, path, body).await });
    }
    tasks.join_all().await
}

on_every_database! {
    async fn admin_case_074_parallel_puts_of_one_name_make_one_row(admin: Admin) {
        let admin = Arc::new(admin);
        let bodies = (0..50).map(|at| json!({"host": format!("h{at}")}));
        let replies = together(&admin, "PUT", "/services/x", bodies).await;
        let ids: std::collections::BTreeSet<_> = replies
            .into_iter()
            .map(|reply| reply.expect(200).value()["id"].to_string())
            .collect();
        assert_eq!(ids.len(), 1);
        let list = admin.get("/services").await.expect(200).value();
        assert_eq!(list["data"].as_array().unwrap().len(), 1);
        assert!(list["data"][0]["host"].as_str().unwrap().starts_with('h'));
    }
}

on_every_database! {
    async fn parallel_puts_of_one_id_make_one_row(admin: Admin) {
        let admin = Arc::new(admin);
        let path = "/plugins/3fd1eea1-885a-4011-b986-289943ff8177";
        let bodies = (0..20).map(|at| {
            json!({"name": "acl", "config": {"allow": [format!("g{at}")]}, "instance_name": "x"})
        });
        for reply in together(&admin, "PUT", path, bodies).await {
            let _ = reply.expect(200);
        }
        let list = admin.get("/plugins").await.expect(200).value();
        assert_eq!(list["data"].as_array().unwrap().len(), 1);
    }
}

on_every_database! {
    async fn admin_case_075_parallel_posts_of_one_name_make_one_row(admin: Admin) {
        let admin = Arc::new(admin);
        let bodies = (0..50).map(|_| json!({"name": "x", "host": "h"}));
        let replies = together(&admin, "POST", "/services", bodies).await;
        let created = replies.iter().filter(|reply| reply.status == 201).count();
        let refused = replies.iter().filter(|reply| reply.status == 409).count();
        assert_eq!((created, refused), (1, 49));
    }
}

on_every_database! {
    async fn admin_case_076_a_deleted_service_leaves_no_orphans(admin: Admin) {
        let admin = Arc::new(admin);
        let service = admin.put("/services/s", json!({"host": "h"})).await.expect(200).value();
        let mut tasks = JoinSet::new();
        for _ in 0..20 {
            let admin = Arc::clone(&admin);
            let body = json!({"paths": ["/a"], "service": {"id": service["id"]}});
            tasks.spawn(async move { admin.post("/routes", body).await.status });
        }
        let deleting = Arc::clone(&admin);
        tasks.spawn(async move { deleting.delete("/services/s").await.status });
        for status in tasks.join_all().await {
            assert!(matches!(status, 201 | 204 | 400), "{status}");
        }
        let exists = admin.get("/services/s").await.status == 200;
        let routes = admin.get("/routes").await.expect(200).value();
        assert_eq!(exists, !routes["data"].as_array().unwrap().is_empty());
    }
}

on_every_database! {
    async fn parallel_patches_lose_nothing(admin: Admin) {
        let admin = Arc::new(admin);
        let _ = admin.put("/services/s", json!({"host": "h"})).await.expect(200);
        let fields = ["retries", "port", "connect_timeout", "read_timeout", "write_timeout"];
        let bodies = (0..20_usize).map(|at| json!({fields[at % 5]: 100 + at / 5}));
        for reply in together(&admin, "PATCH", "/services/s", bodies).await {
            let _ = reply.expect(200);
        }
        let service = admin.get("/services/s").await.expect(200).value();
        for field in fields {
            assert!((100..104).contains(&service[field].as_i64().unwrap()), "{service}");
        }
    }
}

#[tokio::test]
async fn in_strict_mode_a_write_is_answered_once_it_is_live() {
    let (applied, receiver) = tokio::sync::watch::channel(0);
    let settings = o28m_gateway_admin::Settings {
        strict: true,
        ..harness::settings()
    };
    let admin = Admin::announcing(None, settings, Some(receiver)).await;
    let mut announced = admin.store.subscribe();
    let answer = admin.put("/services/s", json!({"host": "h"}));
    let data_plane = async {
        // The write is there before its answer is.
        let version = *announced.wait_for(|version| *version > 0).await.unwrap();
        assert_eq!(
            admin.get("/config-version").await.expect(200).value()["applied"],
            0
        );
        applied.send(version).unwrap();
        version
    };
    let (reply, version) = tokio::join!(answer, data_plane);
    let _ = reply.expect(200);
    let body = admin.get("/config-version").await.expect(200).value();
    assert_eq!(
        (&body["version"], &body["applied"]),
        (&json!(version), &json!(version))
    );
}
