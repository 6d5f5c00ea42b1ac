use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{Admin, on_every_database};

on_every_database! {
    async fn admin_case_056_pages_hold_everything_once(admin: Admin) {
        for at in 0..250 {
            let _ = admin.put(&format!("/services/s{at}"), json!({"host": "h"})).await.expect(200);
        }
        let mut seen = BTreeSet::new();
        let mut sizes = Vec::new();
        let mut path = "/services".to_owned();
        loop {
            let page = admin.get(&path).await.expect(200).value();
            let data = page["data"].as_array().unwrap();
            sizes.push(data.len());
            seen.extend(data.iter().map(|it| it["id"].as_str().unwrap().to_owned()));
            let Some(next) = page["next"].as_str() else {
                assert!(page.get("offset").is_none());
                break;
            };
            assert!(next.starts_with("/services?offset="), "{next}");
            assert!(page["offset"].is_string());
            path = next.to_owned();
        }
        assert_eq!(sizes, [100, 100, 50]);
        assert_eq!(seen.len(), 250);
        // A page that ends exactly with the list has no next.
        let page = admin.get("/services?size=250").await.expect(200).value();
        assert_eq!(page["next"], Value::Null);
        let page = admin.get("/services?size=2&tags=x").await.expect(200).value();
        assert_eq!(page["data"], json!([]));
    }
}

#[tokio::test]
async fn admin_case_057_and_058_sizes_and_offsets_are_checked() {
    let admin = Admin::start().await;
    for (query, code, name, message) in [
        (
            "size=0",
            9,
            "invalid size",
            "size must be an integer between 1 and 1000",
        ),
        (
            "size=1001",
            9,
            "invalid size",
            "size must be an integer between 1 and 1000",
        ),
        ("size=a", 9, "invalid size", "size must be a number"),
        (
            "offset=***",
            7,
            "invalid offset",
            "'***' is not a valid offset: bad base64 encoding",
        ),
        (
            "offset=Zm9v",
            7,
            "invalid offset",
            "'Zm9v' is not a valid offset: bad json encoding",
        ),
    ] {
        let reply = admin
            .get(&format!("/services?{query}"))
            .await
            .expect(400)
            .value();
        assert_eq!(
            (&reply["code"], &reply["name"]),
            (&json!(code), &json!(name))
        );
        assert_eq!(reply["message"], message);
    }
    // ["x"] decodes and is no id.
    let reply = admin.get("/services?offset=WyJ4Il0").await.expect(400);
    assert_eq!(reply.value()["code"], 7);
    let many = "a=b&".repeat(1001);
    let reply = admin.get(&format!("/services?{many}")).await.expect(400);
    assert_eq!(reply.message(), "Too many arguments");
}

on_every_database! {
    async fn admin_case_059_tags_filter_lists(admin: Admin) {
        let _ = admin.put("/consumers/c", json!({})).await.expect(200);
        for (name, tags) in [("a", vec!["env--t", "x"]), ("b", vec!["env--t"]), ("c", vec!["y"])] {
            let body = json!({"host": "h", "tags": tags});
            let _ = admin.put(&format!("/services/{name}"), body).await.expect(200);
        }
        for (filter, expected) in [
            ("env--t,x", vec!["a"]),
            ("env--t", vec!["a", "b"]),
            ("x/y", vec!["a", "c"]),
            ("none", vec![]),
        ] {
            let list = admin.get(&format!("/services?tags={filter}")).await.expect(200).value();
            let mut names: Vec<_> = list["data"].as_array().unwrap().iter()
                .map(|it| it["name"].as_str().unwrap().to_owned()).collect();
            names.sort();
            assert_eq!(names, expected, "{filter}");
        }
        for (filter, message) in [
            ("a,b/c", "invalid option (tags: invalid filter syntax)"),
            ("1,2,3,4,5,6", "invalid option (tags: cannot query more than 5 tags)"),
            ("", "invalid option (tags: cannot be null)"),
        ] {
            let reply = admin.get(&format!("/services?tags={filter}")).await.expect(400).value();
            assert_eq!((&reply["code"], &reply["message"]), (&json!(11), &json!(message)));
            assert!(reply["options"]["tags"].is_string());
        }
        let page = admin.get("/services?tags=env--t&size=1").await.expect(200).value();
        let next = page["next"].as_str().unwrap();
        assert!(next.ends_with("&tags=env--t&size=1"), "{next}");
        let page = admin.get(next).await.expect(200).value();
        assert_eq!(page["data"].as_array().unwrap().len(), 1);
        assert_eq!(page["next"], Value::Null);
    }
}

on_every_database! {
    async fn tags_of_all_entities_are_listed(admin: Admin) {
        let body = json!({"host": "h", "tags": ["t1", "t2"]});
        let service = admin.put("/services/s", body).await.expect(200).value();
        let _ = admin.put("/consumers/c", json!({"tags": ["t1"]})).await.expect(200);
        let all = admin.get("/tags").await.expect(200).value();
        assert_eq!(all["data"].as_array().unwrap().len(), 3);
        let some = admin.get("/tags/t2").await.expect(200).value();
        assert_eq!(
            some["data"],
            json!([{"entity_name": "services", "entity_id": service["id"], "tag": "t2"}])
        );
        let page = admin.get("/tags?size=2").await.expect(200).value();
        let page = admin.get(page["next"].as_str().unwrap()).await.expect(200).value();
        assert_eq!(page["data"].as_array().unwrap().len(), 1);

        let reply = admin.get("/tags/a%2Cb").await.expect(400).value();
        assert_eq!((&reply["code"], &reply["name"]), (&json!(10), &json!("invalid unique tag")));
        let reply = admin.post("/tags", json!({})).await.expect(400);
        assert_eq!(
            reply.message(),
            "schema violation (tags: does not support insert/upsert/update/delete operations)"
        );
    }
}

#[tokio::test]
async fn lists_below_a_parent_are_filtered_and_paged() {
    let admin = Admin::start().await;
    let _ = admin
        .put("/services/s", json!({"host": "h"}))
        .await
        .expect(200);
    for at in 0..3 {
        let tags = if at == 0 { json!(["t"]) } else { json!([]) };
        let body = json!({"paths": ["/a"], "tags": tags});
        let _ = admin
            .put(&format!("/services/s/routes/r{at}"), body)
            .await
            .expect(200);
    }
    let page = admin
        .get("/services/s/routes?size=2")
        .await
        .expect(200)
        .value();
    let next = page["next"].as_str().unwrap();
    assert!(next.starts_with("/services/s/routes?offset="), "{next}");
    assert!(!next.contains("size="), "{next}");
    let page = admin
        .get("/services/s/routes?tags=t")
        .await
        .expect(200)
        .value();
    assert_eq!(page["data"].as_array().unwrap().len(), 1);
}
