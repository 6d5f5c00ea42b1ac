//! Certificates, server names and certificate authorities over the wire.

use serde_json::{Value, json};

use crate::concurrency::together;
use crate::harness::{Admin, on_every_database};
use crate::material::{ca, ec, other_ec, rsa};

fn body(snis: Value) -> Value {
    json!({"cert": ec().cert, "key": ec().key, "snis": snis})
}

async fn names(admin: &Admin) -> Vec<String> {
    let list = admin.get("/snis").await.expect(200).value();
    let names = list["data"].as_array().unwrap().iter();
    let mut names: Vec<_> = names
        .map(|sni| sni["name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

on_every_database! {
    async fn admin_case_065_a_certificate_must_be_of_its_key(admin: Admin) {
        let bad = json!({"cert": ec().cert, "key": other_ec().key});
        let reply = admin.post("/certificates", bad).await.expect(400);
        assert_eq!(
            reply.value(),
            json!({
                "code": 2, "name": "schema violation",
                "message": "schema violation (certificate does not match key)",
                "fields": {"@entity": ["certificate does not match key"]},
            })
        );
    }
}

on_every_database! {
    async fn names_are_written_and_read_with_the_certificate(admin: Admin) {
        let made = admin.post("/certificates", body(json!(["b.test", "a.test"]))).await.expect(201).value();
        assert_eq!(made["snis"], json!(["a.test", "b.test"]));
        let id = made["id"].as_str().unwrap();
        for key in [id, "a.test", "b.test"] {
            let found = admin.get(&format!("/certificates/{key}")).await.expect(200).value();
            assert_eq!(found, made);
        }
        let stored = admin.store.get("certificates", id).await.unwrap().unwrap();
        assert_eq!(stored.body.get("snis"), None);
        let same = admin.put(&format!("/certificates/{id}"), body(json!(["b.test", "a.test"]))).await;
        assert_eq!(same.expect(200).value(), made, "nothing changed");

        let none = admin.post("/certificates", json!({"cert": rsa().cert, "key": rsa().key})).await;
        assert_eq!(none.expect(201).value()["snis"], json!([]));
        let list = admin.get("/certificates").await.expect(200).value();
        let mut shown: Vec<_> = list["data"].as_array().unwrap().iter().map(|it| it["snis"].clone()).collect();
        shown.sort_by_key(ToString::to_string);
        assert_eq!(shown, [json!(["a.test", "b.test"]), json!([])]);

        let path = format!("/certificates/{id}");
        let patched = admin.patch(&path, json!({"tags": ["t"]})).await.expect(200).value();
        assert_eq!(patched["snis"], json!(["a.test", "b.test"]), "what is not named stays");
        let patched = admin.patch(&path, json!({"snis": ["b.test", "c.test"]})).await.expect(200).value();
        assert_eq!(patched["snis"], json!(["b.test", "c.test"]));
        assert_eq!(patched["tags"], json!(["t"]));
        assert_eq!(names(&admin).await, ["b.test", "c.test"]);
        admin.patch("/certificates/c.test", json!({"snis": null})).await.expect(200);
        assert!(names(&admin).await.is_empty());
        admin.patch(&path, json!({"snis": "d.test"})).await.expect(200);
        assert_eq!(names(&admin).await, ["d.test"]);
        let replaced = admin.put(&path, json!({"cert": ec().cert, "key": ec().key})).await.expect(200).value();
        assert_eq!(replaced["snis"], json!([]));
        assert_eq!(replaced["tags"], Value::Null);
    }
}

on_every_database! {
    async fn a_certificate_can_be_addressed_by_a_name(admin: Admin) {
        let reply = admin.get("/certificates/none.test").await.expect(404);
        assert_eq!(reply.body, r#"{"message":"SNI not found"}"#);
        admin.delete("/certificates/none.test").await.expect(404);
        let unknown = "0855b320-0dd2-547d-891d-601e9b38647f";
        let reply = admin.get(&format!("/certificates/{unknown}")).await.expect(404);
        assert_eq!(
            reply.value(),
            json!({
                "code": 6, "name": "not found", "fields": {"id": unknown},
                "message": format!("could not find the entity with primary key '{{id=\"{unknown}\"}}'"),
            })
        );
        let made = admin.put("/certificates/n1.test", body(json!(["n2.test"]))).await.expect(200).value();
        assert_eq!(made["snis"], json!(["n1.test", "n2.test"]));
        let plain = json!({"cert": ec().cert, "key": ec().key});
        let other = admin.put("/certificates/n3.test", plain.clone()).await.expect(200).value();
        assert_eq!(other["snis"], json!(["n3.test"]));
        let again = admin.put("/certificates/n3.test", plain).await.expect(200).value();
        assert_eq!(again, other);
        let form = "tags[]=f&snis[]=n3.test&snis[]=n4.test";
        let formed = admin.form("PATCH", "/certificates/n3.test", form).await.expect(200).value();
        assert_eq!(formed["snis"], json!(["n3.test", "n4.test"]));
        let listed = admin.get("/certificates/n1.test/snis").await.expect(200).value();
        assert_eq!(listed["data"].as_array().unwrap().len(), 2);
        let sni = admin.put("/certificates/n1.test/snis/n5.test", json!({})).await.expect(200).value();
        assert_eq!(sni["certificate"]["id"], made["id"]);
        admin.get("/snis/n5.test").await.expect(200);
        admin.get("/snis/n5.test/certificate").await.expect(404);
        admin.get("/certificates/n3.test/snis/n5.test").await.expect(404);
        admin.delete("/certificates/n1.test").await.expect(204);
        assert_eq!(names(&admin).await, ["n3.test", "n4.test"]);
    }
}

on_every_database! {
    async fn a_name_belongs_to_one_certificate(admin: Admin) {
        let made = admin.post("/certificates", body(json!(["a.test"]))).await.expect(201).value();
        let id = made["id"].as_str().unwrap();
        let taken = format!("schema violation (snis: a.test already associated with existing certificate '{id}')");
        let reply = admin.post("/certificates", body(json!(["a.test"]))).await.expect(400);
        assert_eq!(reply.message(), taken);
        assert_eq!(reply.value()["fields"]["snis"], taken["schema violation (snis: ".len()..taken.len() - 1]);
        let other = admin.post("/certificates", body(json!([]))).await.expect(201).value();
        let path = format!("/certificates/{}", other["id"].as_str().unwrap());
        for method in ["PUT", "PATCH"] {
            let reply = admin.json(method, &path, body(json!(["a.test"]))).await.expect(400);
            assert_eq!(reply.message(), taken);
        }
        let reply = admin.post("/certificates", body(json!(["x.test", "x.test"]))).await.expect(400);
        assert_eq!(reply.message(), "schema violation (snis: x.test is duplicated)");
        let reply = admin.post("/snis", json!({"name": "a.test", "certificate": {"id": id}})).await.expect(409);
        assert_eq!(reply.message(), "UNIQUE violation detected on '{name=\"a.test\"}'");
        let list = admin.get("/certificates").await.value();
        assert_eq!(list["data"].as_array().unwrap().len(), 2, "nothing was half made");
    }
}

on_every_database! {
    async fn certificates_in_use_stay(admin: Admin) {
        let made = admin.post("/certificates", body(json!(["a.test"]))).await.expect(201).value();
        let id = made["id"].as_str().unwrap();
        let path = format!("/certificates/{id}");
        let secure = json!({"name": "s", "url": "https://h", "tls_verify_depth": 3});
        let service = admin.post(&format!("{path}/services"), secure).await.expect(201).value();
        assert_eq!(service["client_certificate"]["id"], made["id"]);
        let listed = admin.get("/certificates/a.test/services").await.expect(200).value();
        assert_eq!(listed["data"], json!([service]));
        let shown = admin.get("/services/s/client_certificate").await.expect(200).value();
        assert_eq!(shown, made);
        let reply = admin.delete(&path).await.expect(400);
        assert_eq!(reply.message(), "an existing 'services' entity references this 'certificates' entity");
        assert_eq!(reply.value()["fields"], json!({"@referenced_by": "services"}));
        assert_eq!(names(&admin).await, ["a.test"]);
        admin.delete("/services/s").await.expect(204);
        admin.put(&format!("{path}/upstreams/u"), json!({})).await.expect(200);
        let reply = admin.delete(&path).await.expect(400);
        assert_eq!(reply.message(), "an existing 'upstreams' entity references this 'certificates' entity");
        admin.patch("/upstreams/u", json!({"client_certificate": null})).await.expect(200);
        admin.delete(&path).await.expect(204);
        let plain = json!({"host": "h", "client_certificate": {"id": id}});
        let reply = admin.post("/services", plain).await.expect(400);
        assert_eq!(
            reply.message(),
            "2 schema violations (failed conditional validation given value of field 'protocol'; client_certificate: value must be null)"
        );
        let secure = json!({"host": "h", "protocol": "https", "client_certificate": {"id": id}});
        let reply = admin.post("/services", secure).await.expect(400);
        let text = format!("the foreign key '{{id=\"{id}\"}}' does not reference an existing 'certificates' entity.");
        assert_eq!(reply.message(), text);
    }
}

on_every_database! {
    async fn listed_authorities_stay(admin: Admin) {
        let made = admin.post("/ca_certificates", json!({"cert": ca().cert})).await.expect(201).value();
        assert_eq!(made["cert_digest"].as_str().unwrap().len(), 64);
        let again = admin.post("/ca_certificates", json!({"cert": ca().cert})).await.expect(409);
        assert_eq!(again.value()["fields"], json!({"cert_digest": made["cert_digest"]}));
        let reply = admin.get("/ca_certificates/name").await.expect(400);
        assert_eq!(reply.message(), "invalid primary key: '{id=\"expected a valid UUID\"}'");
        let id = made["id"].as_str().unwrap();
        // Kong does not look whether they exist when a service is written.
        let unknown = "0855b320-0dd2-547d-891d-601e9b38647f";
        let secure = json!({"name": "s", "url": "https://h", "ca_certificates": [unknown, id]});
        let service = admin.post("/services", secure).await.expect(201).value();
        let path = format!("/ca_certificates/{id}");
        let reply = admin.delete(&path).await.expect(400);
        let by = service["id"].as_str().unwrap();
        assert_eq!(
            reply.value(),
            json!({
                "code": 19, "name": "referenced by others",
                "message": format!("ca certificate {id} is still referenced by services (id = {by})"),
            })
        );
        admin.patch("/services/s", json!({"ca_certificates": [unknown]})).await.expect(200);
        admin.delete(&path).await.expect(204);
        let reply = admin.post("/services", json!({"host": "h", "ca_certificates": ["x"], "protocol": "https"})).await.expect(400);
        assert_eq!(reply.message(), "schema violation (ca_certificates.1: expected a valid UUID)");
    }
}

#[tokio::test]
async fn a_page_of_certificates_finds_the_names_of_all() {
    let admin = Admin::start().await;
    for at in 0..30 {
        let snis: Vec<_> = (0..at % 4)
            .map(|name| format!("n{name}.c{at}.test"))
            .collect();
        let mut body = body(json!(snis));
        body["tags"] = json!([if at % 7 == 0 { "rare" } else { "common" }]);
        admin.post("/certificates", body).await.expect(201);
    }
    let mut path = "/certificates?size=7".to_owned();
    let mut found = 0;
    loop {
        let page = admin.get(&path).await.expect(200).value();
        for certificate in page["data"].as_array().unwrap() {
            let alone = format!("/certificates/{}", certificate["id"].as_str().unwrap());
            assert_eq!(&admin.get(&alone).await.value(), certificate);
            found += certificate["snis"].as_array().unwrap().len();
        }
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut path),
            None => break,
        }
    }
    assert_eq!(found, (0..30).map(|at| at % 4).sum::<usize>());
    let rare = admin
        .get("/certificates?tags=rare")
        .await
        .expect(200)
        .value();
    let counts: usize = rare["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["snis"].as_array().unwrap().len())
        .sum();
    assert_eq!(
        counts,
        [0, 7, 14, 21, 28].map(|at| at % 4).iter().sum::<usize>()
    );
}

#[tokio::test]
async fn files_are_uploaded_in_parts() {
    let admin = Admin::start().await;
    let part = |name: &str, file: &str, content: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n{content}\r\n")
    };
    let body = [
        part("cert", "; filename=\"c.pem\"", &ec().cert),
        part("key", "; filename=\"k.pem\"", &ec().key),
        part("snis[]", "", "a.test"),
        "--b--\r\n".to_owned(),
    ]
    .concat();
    let headers = [("content-type", "multipart/form-data; boundary=b")];
    let reply = admin
        .raw("POST", "/certificates", &headers, body.as_bytes())
        .await;
    let made = reply.expect(201).value();
    assert_eq!(made["snis"], json!(["a.test"]));
    assert_eq!(made["cert"], ec().cert);
}

on_every_database! {
    async fn of_many_that_take_a_name_at_once_one_gets_it(admin: Admin) {
        let admin = std::sync::Arc::new(admin);
        let bodies = (0..8).map(|_| body(json!(["a.test"])));
        let replies = together(&admin, "POST", "/certificates", bodies).await;
        let mut statuses: Vec<_> = replies.iter().map(|reply| reply.status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 400, 400, 400, 400, 400, 400, 400]);
        for reply in replies.iter().filter(|reply| reply.status == 400) {
            assert!(reply.message().contains("already associated"));
        }
        assert_eq!(names(&admin).await, ["a.test"]);
    }
}

on_every_database! {
    async fn of_many_that_replace_a_certificate_one_has_its_names(admin: Admin) {
        let admin = std::sync::Arc::new(admin);
        let path = "/certificates/0855b320-0dd2-547d-891d-601e9b38647f";
        admin.put(path, body(json!([]))).await.expect(200);
        let bodies = (0..8).map(|at| body(json!([format!("a{at}.test"), format!("b{at}.test")])));
        for reply in together(&admin, "PUT", path, bodies).await {
            reply.expect(200);
        }
        let left = names(&admin).await;
        let [a, b] = left.as_slice() else { panic!("{left:?}") };
        assert_eq!(a.strip_prefix('a'), b.strip_prefix('b'));
    }
}
