//! Groups: the tree, members, inherited roles, default groups and the claim.

use serde_json::{Value, json};

use crate::harness::{World, claims};

fn names(list: &Value) -> Vec<&str> {
    let list = list.as_array().unwrap().iter();
    list.map(|it| it["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn groups_form_a_tree_with_members() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    let at = |path: &str| world.admin_url(&format!("/r{path}"));
    let top = admin
        .json("POST", &at("/groups"), json!({"name": "top"}))
        .await
        .expect(201)
        .id();
    let taken = admin
        .json("POST", &at("/groups"), json!({"name": "top"}))
        .await;
    taken.message(409, "Top level group named 'top' already exists.");
    let nameless = admin.json("POST", &at("/groups"), json!({})).await;
    nameless.message(400, "name is missing or has an unusable value");
    let children = at(&format!("/groups/{top}/children"));
    let made = admin
        .json("POST", &children, json!({"name": "child"}))
        .await
        .expect(201);
    let child = made.id();
    assert_eq!(made.json()["parentId"], json!(top));
    let taken = admin
        .json("POST", &children, json!({"name": "child"}))
        .await;
    taken.message(409, "Sibling group named 'child' already exists.");
    let leaf = admin
        .json(
            "POST",
            &at(&format!("/groups/{child}/children")),
            json!({"name": "Leaf"}),
        )
        .await
        .expect(201)
        .id();
    let list = admin.get(&at("/groups")).await.json();
    assert_eq!(
        (names(&list), &list[0]["subGroupCount"]),
        (vec!["top"], &json!(1))
    );
    let tree = admin.get(&at("/groups?search=lea")).await.json();
    assert_eq!(
        tree[0]["subGroups"][0]["subGroups"][0]["path"],
        "/top/child/Leaf"
    );
    let flat = admin
        .get(&at(
            "/groups?search=leaf&exact=true&populateHierarchy=false",
        ))
        .await
        .json();
    assert_eq!(names(&flat), ["Leaf"]);
    assert_eq!(
        admin.get(&at("/groups/count")).await.json(),
        json!({"count": 3})
    );
    assert_eq!(
        admin.get(&at("/groups/count?top=true")).await.json(),
        json!({"count": 1})
    );
    let found = admin.get(&at("/group-by-path/top/child/Leaf")).await.json();
    assert_eq!(found["id"], json!(leaf));
    let missing = admin.get(&at("/group-by-path/top/nosuch")).await;
    missing.prose(404, "Group path does not exist");
    admin
        .get(&at("/groups/nosuch"))
        .await
        .prose(404, "Could not find group by id");
    let circle = json!({"id": top, "name": "top"});
    let circle = admin
        .json("POST", &at(&format!("/groups/{leaf}/children")), circle)
        .await;
    circle.message(400, "A group cannot be in itself");
    let moved = json!({"id": leaf, "name": "Leaf"});
    let _ = admin.json("POST", &at("/groups"), moved).await.expect(204);
    assert_eq!(
        admin.get(&at(&format!("/groups/{leaf}"))).await.json()["path"],
        "/Leaf"
    );

    let user = admin
        .json("POST", &at("/users"), json!({"username": "u"}))
        .await
        .expect(201)
        .id();
    let membership = at(&format!("/users/{user}/groups/{child}"));
    let _ = admin.send("PUT", &membership, "").await.expect(204);
    let members = admin
        .get(&at(&format!("/groups/{child}/members")))
        .await
        .json();
    assert_eq!(members[0]["username"], "u");
    let _ = admin
        .send("DELETE", &at(&format!("/groups/{top}")), "")
        .await
        .expect(204);
    assert_eq!(
        admin
            .get(&at(&format!("/users/{user}/groups")))
            .await
            .json(),
        json!([])
    );
    let _ = admin.get(&at(&format!("/users/{user}"))).await.expect(200);
    let _ = admin
        .json(
            "PUT",
            &at(&format!("/users/{user}")),
            json!({"firstName": "F"}),
        )
        .await
        .expect(204);
}

#[tokio::test]
async fn members_have_the_roles_of_their_groups_and_the_claim_names_them() {
    let world = World::start().await;
    let admin = world.realm("r").await;
    let at = |path: &str| world.admin_url(&format!("/r{path}"));
    let top = admin
        .json("POST", &at("/groups"), json!({"name": "top"}))
        .await
        .expect(201)
        .id();
    let inner = admin
        .json(
            "POST",
            &at(&format!("/groups/{top}/children")),
            json!({"name": "inner"}),
        )
        .await
        .expect(201)
        .id();
    let _ = admin
        .json("POST", &at("/roles"), json!({"name": "x"}))
        .await
        .expect(201);
    let role = admin.get(&at("/roles/x")).await.json();
    let mapping = at(&format!("/groups/{top}/role-mappings/realm"));
    let _ = admin
        .json("POST", &mapping, json!([role]))
        .await
        .expect(204);
    assert_eq!(names(&admin.get(&mapping).await.json()), ["x"]);
    assert_eq!(
        names(&admin.get(&at("/roles/x/groups")).await.json()),
        ["top"]
    );
    let _ = admin
        .send("PUT", &at(&format!("/default-groups/{inner}")), "")
        .await
        .expect(204);
    assert_eq!(
        names(&admin.get(&at("/default-groups")).await.json()),
        ["inner"]
    );
    let mapper = |name: &str, full: &str| {
        json!({
            "name": name, "protocol": "openid-connect",
            "protocolMapper": "oidc-group-membership-mapper",
            "config": {"claim.name": name, "full.path": full, "access.token.claim": "true"},
        })
    };
    let body = json!({
        "clientId": "c", "directAccessGrantsEnabled": true,
        "protocolMappers": [mapper("paths", "true"), mapper("groups", "false")],
    });
    let _ = world.client(&admin, "r", body).await;
    let user = json!({"username": "u", "enabled": true, "credentials": [{"value": "pw"}]});
    let user = admin
        .json("POST", &at("/users"), user)
        .await
        .expect(201)
        .id();
    let form = "grant_type=password&client_id=c&client_secret=s&username=u&password=pw";
    let token = world.token("r", form).await.expect(200).json();
    let got = claims(&token["access_token"]);
    assert_eq!(
        (&got["paths"], &got["groups"]),
        (&json!(["/top/inner"]), &json!(["inner"]))
    );
    let roles = got["realm_access"]["roles"].as_array().unwrap();
    assert!(roles.contains(&json!("x")), "{got}");
    let composite = at(&format!("/users/{user}/role-mappings/realm/composite"));
    assert!(names(&admin.get(&composite).await.json()).contains(&"x"));
    // A role taken from the group above is gone with the next token.
    let _ = admin
        .json("DELETE", &mapping, json!([role]))
        .await
        .expect(204);
    let token = world.token("r", form).await.expect(200).json();
    let got = claims(&token["access_token"]);
    assert!(
        !got["realm_access"]["roles"]
            .as_array()
            .unwrap()
            .contains(&json!("x"))
    );
    let _ = admin
        .send("DELETE", &at(&format!("/default-groups/{inner}")), "")
        .await
        .expect(204);
    assert_eq!(admin.get(&at("/default-groups")).await.json(), json!([]));
}
