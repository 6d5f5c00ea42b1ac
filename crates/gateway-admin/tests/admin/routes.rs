use serde_json::{Value, json};

use crate::harness::{Admin, on_every_database};

const UNKNOWN: &str = "3fd1eea1-885a-4011-b986-289943ff8177";

async fn service(admin: &Admin, name: &str) -> String {
    let body = json!({"host": "h"});
    let service = admin
        .put(&format!("/services/{name}"), body)
        .await
        .expect(200)
        .value();
    service["id"].as_str().unwrap().to_owned()
}

on_every_database! {
    async fn admin_case_029_and_030_routes_keep_their_service(admin: Admin) {
        let id = service(&admin, "s").await;
        let body = json!({"name": "r", "paths": ["/a"], "service": {"name": "s"}});
        let route = admin.post("/routes", body).await.expect(201).value();
        assert_eq!(route["service"], json!({"id": id}));
        assert_eq!(route["protocols"], json!(["http", "https"]));
        let reply = admin.delete("/services/s").await.expect(400);
        assert_eq!(
            reply.value(),
            json!({
                "code": 4, "name": "foreign key violation",
                "message": "an existing 'routes' entity references this 'services' entity",
                "fields": {"@referenced_by": "routes"},
            })
        );
        let _ = admin.delete("/routes/r").await.expect(204);
        let _ = admin.delete("/services/s").await.expect(204);
    }
}

#[tokio::test]
async fn admin_case_031_to_035_violations_of_routes() {
    let admin = Admin::start().await;
    let body = json!({"paths": ["/a", "/b//c", "/%zz"]});
    let reply = admin.post("/routes", body).await.expect(400);
    assert_eq!(
        reply.value()["fields"]["paths"],
        json!([
            null,
            "must not have empty segments",
            "invalid url-encoded value: '%zz'"
        ])
    );
    let body = json!({"paths": ["/a"], "service": "s"});
    let reply = admin.post("/routes", body).await.expect(400);
    assert_eq!(
        reply.message(),
        "schema violation (service.id: missing primary key)"
    );
    assert_eq!(
        reply.value()["fields"],
        json!({"service": {"id": "missing primary key"}})
    );
}

on_every_database! {
    async fn admin_case_036_and_037_services_must_exist(admin: Admin) {
        let body = json!({"paths": ["/a"], "service": {"id": UNKNOWN}});
        let reply = admin.post("/routes", body).await.expect(400);
        assert_eq!(
            reply.value(),
            json!({
                "code": 4, "name": "foreign key violation",
                "message": format!("the foreign key '{{id=\"{UNKNOWN}\"}}' does not reference an existing 'services' entity."),
                "fields": {"service": {"id": UNKNOWN}},
            })
        );
        let body = json!({"paths": ["bad"], "service": {"name": "zz"}});
        let reply = admin.post("/routes", body).await.expect(400);
        let text = "the foreign key cannot be resolved with '{name=\"zz\"}' for an existing 'services' entity";
        assert_eq!(
            reply.value(),
            json!({
                "code": 13, "name": "foreign keys unresolved",
                "message": format!("foreign key unresolved (service.name: {text})"),
                "fields": {"service": {"name": text}},
            })
        );
    }
}

#[tokio::test]
async fn admin_case_039_and_040_forms_get_their_types_from_the_schema() {
    let admin = Admin::start().await;
    let id = service(&admin, "s").await;
    let form = format!(
        "paths[]=/f&protocols[]=http&protocols[]=https&service.id={id}&strip_path=false&regex_priority=7"
    );
    let route = admin
        .form("POST", "/routes", &form)
        .await
        .expect(201)
        .value();
    assert_eq!(route["strip_path"], false);
    assert_eq!(route["protocols"], json!(["http", "https"]));
    assert_eq!(route["regex_priority"], 7);
    let reply = admin
        .form("POST", "/routes", "paths=/f&strip_path=maybe")
        .await
        .expect(400);
    assert_eq!(
        reply.message(),
        "schema violation (strip_path: expected a boolean)"
    );
    let headers = [("content-type", "multipart/form-data; boundary=x")];
    let body = "--x\r\nContent-Disposition: form-data; name=\"paths\"\r\n\r\n/m\r\n--x\r\nContent-Disposition: form-data; name=\"strip_path\"\r\n\r\nfalse\r\n--x--\r\n";
    let reply = admin
        .raw("POST", "/routes", &headers, body.as_bytes())
        .await;
    let route = reply.expect(201).value();
    assert_eq!(
        (&route["paths"], &route["strip_path"]),
        (&json!(["/m"]), &json!(false))
    );
    let reply = admin
        .raw("POST", "/routes", &headers, b"broken")
        .await
        .expect(400);
    assert_eq!(reply.message(), "Cannot parse multipart body");
}

#[tokio::test]
async fn admin_case_041_expressions_of_another_dialect_are_refused() {
    let admin = Admin::start().await;
    let reply = admin
        .post("/routes", json!({"paths": ["~/a(?=b)"]}))
        .await
        .expect(400);
    let start = "schema violation (Router Expression failed validation: ";
    assert!(reply.message().starts_with(start));
}

on_every_database! {
    async fn routes_below_a_service_belong_to_it(admin: Admin) {
        let (s, t) = (service(&admin, "s").await, service(&admin, "t").await);
        let body = json!({"paths": ["/a"], "service": {"id": t}});
        let route = admin.put("/services/s/routes/r", body).await.expect(200).value();
        assert_eq!(route["service"]["id"], json!(s));
        let _ = admin.get("/services/s/routes/r").await.expect(200);
        let _ = admin.get("/services/t/routes/r").await.expect(404);
        let _ = admin.patch("/services/t/routes/r", json!({"regex_priority": 1})).await.expect(404);
        let _ = admin.delete("/services/t/routes/r").await.expect(404);
        let _ = admin.get("/services/none/routes").await.expect(404);
        let reply = admin.post("/services/none/routes", json!({"paths": 5})).await.expect(404);
        assert_eq!(reply.body, r#"{"message":"Not found"}"#);
        let list = admin.get("/services/t/routes").await.expect(200).value();
        assert_eq!(list, json!({"data": [], "next": null}));
        let list = admin.get("/services/s/routes").await.expect(200).value();
        assert_eq!(list["data"], json!([route]));

        // A PUT below another parent moves it.
        let moved = admin.put("/services/t/routes/r", json!({"paths": ["/a"]})).await.expect(200).value();
        assert_eq!((&moved["id"], &moved["service"]["id"]), (&route["id"], &json!(t)));
        let body = json!({"service": null});
        let detached = admin.patch("/services/t/routes/r", body).await.expect(200).value();
        assert_eq!(detached["service"], Value::Null);
    }
}

on_every_database! {
    async fn the_service_of_a_route_can_be_read_changed_and_made(admin: Admin) {
        let body = json!({"paths": ["/a"]});
        let _ = admin.put("/routes/r", body).await.expect(200);
        let _ = admin.get("/routes/r/service").await.expect(404);
        let _ = admin.delete("/routes/r/service").await.expect(404);
        let _ = admin.get("/routes/none/service").await.expect(404);
        let made = admin.put("/routes/r/service", json!({"host": "h"})).await.expect(200).value();
        let route = admin.get("/routes/r").await.expect(200).value();
        assert_eq!(route["service"]["id"], made["id"]);
        let changed = admin.patch("/routes/r/service", json!({"retries": 1})).await.expect(200).value();
        assert_eq!((&changed["id"], &changed["retries"]), (&made["id"], &json!(1)));
        let put = admin.put("/routes/r/service", json!({"host": "i"})).await.expect(200).value();
        assert_eq!((&put["id"], &put["retries"]), (&made["id"], &json!(5)));
        let reply = admin.delete("/routes/r/service").await.expect(405);
        assert_eq!(reply.message(), "Method not allowed");
    }
}
