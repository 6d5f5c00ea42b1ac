use serde_json::json;

use crate::harness::{Admin, on_every_database};

#[tokio::test]
async fn admin_case_042_the_control_planes_empty_username() {
    let admin = Admin::start().await;
    let body = json!({"custom_id": "c1", "username": "", "tags": ["env--t"]});
    let consumer = admin.put("/consumers/c1", body).await.expect(200).value();
    assert_eq!(consumer["username"], "c1");
    assert_eq!(consumer["tags"], json!(["env--t"]));
}

on_every_database! {
    async fn admin_case_043_a_consumer_joins_a_group_once(admin: Admin) {
        let consumer = admin.put("/consumers/c1", json!({})).await.expect(200).value();
        let list = admin.get("/consumers/c1/acls").await.expect(200).value();
        assert_eq!(list, json!({"data": [], "next": null}));
        let acl = admin.post("/consumers/c1/acls", json!({"group": "g"})).await.expect(201).value();
        assert_eq!(acl["consumer"], json!({"id": consumer["id"]}));
        assert!(!acl.as_object().unwrap().contains_key("updated_at"));
        let reply = admin.post("/consumers/c1/acls", json!({"group": "g"})).await.expect(409);
        let id = consumer["id"].as_str().unwrap();
        assert_eq!(
            reply.value(),
            json!({
                "code": 5, "name": "unique constraint violation",
                "message": format!("UNIQUE violation detected on '{{consumer={{id=\"{id}\"}},group=\"g\"}}'"),
                "fields": {"consumer": {"id": id}, "group": "g"},
            })
        );
        assert_eq!(admin.get("/consumers/c1/acls/g").await.expect(200).value(), acl);
        let _ = admin.get("/consumers/c1/acls/h").await.expect(404);
        let made = admin.put("/consumers/c1/acls/h", json!({})).await.expect(200).value();
        assert_eq!(made["group"], "h");
        let again = admin.put("/consumers/c1/acls/h", json!({})).await.expect(200).value();
        assert_eq!(again, made);
        let _ = admin.delete("/consumers/c1/acls/h").await.expect(204);
        let _ = admin.delete("/consumers/c1/acls/h").await.expect(404);

        let _ = admin.delete("/consumers/c1").await.expect(204);
        let list = admin.get("/acls").await.expect(200).value();
        assert_eq!(list["data"], json!([]));
    }
}

#[tokio::test]
async fn admin_case_044_consumers_are_found_by_custom_id() {
    let admin = Admin::start().await;
    let _ = admin
        .put("/consumers/c1", json!({"custom_id": "id 1"}))
        .await
        .expect(200);
    let found = admin
        .get("/consumers?custom_id=id%201")
        .await
        .expect(200)
        .value();
    assert_eq!(found["data"][0]["username"], "c1");
    assert_eq!(found["data"].as_array().unwrap().len(), 1);
    let found = admin
        .get("/consumers?custom_id=other")
        .await
        .expect(200)
        .value();
    assert_eq!(found, json!({"data": [], "next": null}));
    let reply = admin.get("/consumers?custom_id=").await.expect(400);
    assert_eq!(
        reply.body,
        r#"{"message":"custom_id must be an unempty string"}"#
    );
}

#[tokio::test]
async fn admin_case_045_acls_have_no_name_of_their_own() {
    let admin = Admin::start().await;
    let reply = admin.get("/acls/g").await.expect(400);
    assert_eq!(
        reply.value(),
        json!({
            "code": 1, "name": "invalid primary key",
            "message": "invalid primary key: '{id=\"expected a valid UUID\"}'",
            "fields": {"id": "expected a valid UUID"},
        })
    );
}

#[tokio::test]
async fn usernames_are_any_text() {
    let admin = Admin::start().await;
    let _ = admin
        .put("/consumers/a%2Fb%20%2B", json!({}))
        .await
        .expect(200);
    let found = admin.get("/consumers/a%2Fb+%2B").await.expect(200).value();
    assert_eq!(found["username"], "a/b +");
}
