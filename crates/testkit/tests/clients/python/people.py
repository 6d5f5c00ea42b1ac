"""Groups, users and roles through python-keycloak."""

from keycloak.exceptions import (
    KeycloakAuthenticationError,
    KeycloakDeleteError,
    KeycloakGetError,
    KeycloakPostError,
    KeycloakPutError,
)

from support import REALM, app, names, raises


def groups(admin):
    top = admin.create_group({"name": "top"})
    child = admin.create_group({"name": "child"}, parent=top)
    last = admin.create_group({"name": "last", "attributes": {"a": ["1"]}}, parent=child)
    raises(KeycloakPostError, 409, admin.create_group, {"name": "top"})
    assert admin.create_group({"name": "top"}, skip_exists=True) is None
    assert names(admin.get_groups()) == ["top"]
    assert names(admin.get_groups(query={"search": "last"})) == ["top"]
    assert admin.groups_count() == {"count": 3}
    assert admin.get_group_by_path("/top/child/last")["id"] == last
    assert admin.get_group(last)["attributes"] == {"a": ["1"]}
    assert names(admin.get_group_children(top)) == ["child"]
    admin.update_group(child, {"name": "kid"})
    assert admin.get_group(last)["path"] == "/top/kid/last"

    user = admin.create_user({"username": "member", "enabled": True})
    admin.group_user_add(user, last)
    assert names(admin.get_group_members(last), "username") == ["member"]
    assert names(admin.get_user_groups(user), "path") == ["/top/kid/last"]

    admin.create_realm_role({"name": "group-role"})
    role = admin.get_realm_role("group-role")
    admin.assign_group_realm_roles(top, [role])
    assert names(admin.get_group_realm_roles(top)) == ["group-role"]
    assert "group-role" in names(admin.get_composite_realm_roles_of_user(user))
    assert names(admin.get_realm_role_groups("group-role"), "id") == [top]
    admin.delete_group_realm_roles(top, [role])
    assert admin.get_group_realm_roles(top) == []

    client = admin.get_client_id("account")
    role = admin.get_client_role(client, "view-groups")
    admin.assign_group_client_roles(last, client, [role])
    assert names(admin.get_group_client_roles(last, client)) == ["view-groups"]
    assert names(admin.get_composite_client_roles_of_group(client, last)) == ["view-groups"]
    assert names(admin.get_client_role_groups(client, "view-groups")) == ["last"]
    admin.delete_group_client_roles(last, client, [role])
    assert admin.get_group_client_roles(last, client) == []

    admin.group_user_remove(user, last)
    assert admin.get_group_members(last) == []
    admin.delete_group(top)
    raises(KeycloakGetError, 404, admin.get_group, last)
    raises(KeycloakDeleteError, 404, admin.delete_group, last)
    admin.delete_user(user)
    admin.delete_realm_role("group-role")


def users(admin):
    first = {
        "username": "anna",
        "email": "Anna@Example.com",
        "firstName": "Anna",
        "lastName": "Özil",
        "enabled": True,
        "attributes": {"team": ["red", "blue"]},
        "credentials": [{"type": "password", "value": "secret"}],
    }
    anna = admin.create_user(first)
    raises(KeycloakPostError, 409, admin.create_user, first, exist_ok=False)
    assert admin.create_user(first, exist_ok=True) == anna
    again = {"username": "other", "email": "anna@example.com"}
    assert "same email" in raises(KeycloakPostError, 409, admin.create_user, again)
    bert = admin.create_user({"username": "bert", "enabled": False, "firstName": "Bert"})

    def found(**query):
        return names(admin.get_users(query), "username")

    assert found() == ["anna", "bert"]
    assert found(search="an") == ["anna"]
    assert found(search="*il") == ["anna"]
    assert found(search="il") == []
    assert found(firstName="ert") == ["bert"]
    assert found(lastName="özil", exact=True) == ["anna"]
    assert found(enabled=False) == ["bert"]
    assert found(q="team:blue") == ["anna"]
    assert found(q="team:green") == []
    assert found(email="anna@") == ["anna"]
    assert found(first=1, max=1) == ["bert"]
    assert admin.users_count() == 2
    assert admin.users_count({"search": "ann"}) == 1
    assert admin.get_user_id("anna") == anna
    assert admin.get_user_id("nosuch") is None

    admin.update_user(anna, {"firstName": "Hanna", "attributes": {"team": ["green"]}})
    user = admin.get_user(anna)
    assert (user["firstName"], user["lastName"]) == ("Hanna", "Özil"), user
    assert user["attributes"] == {"team": ["green"]}, user
    admin.disable_user(anna)
    assert admin.get_user(anna)["enabled"] is False
    admin.enable_all_users()
    assert found(enabled=True) == ["anna", "bert"]
    admin.delete_user(bert)
    raises(KeycloakGetError, 404, admin.get_user, bert)
    raises(KeycloakPutError, 404, admin.update_user, bert, {"firstName": "B"})
    raises(KeycloakDeleteError, 404, admin.delete_user, bert)
    assert admin.get_user_social_logins(anna) == []
    assert admin.user_consents(anna) == []
    return anna


def credentials(admin, anna):
    """Needs the client `app`."""
    admin.set_user_password(anna, "first", temporary=True)
    assert admin.get_user(anna)["requiredActions"] == ["UPDATE_PASSWORD"]
    pending = raises(KeycloakPostError, 400, app().token, "anna", "first")
    assert "Account is not fully set up" in pending, pending
    admin.set_user_password(anna, "other", temporary=False)
    assert admin.get_user(anna)["requiredActions"] == []
    raises(KeycloakAuthenticationError, 401, app().token, "anna", "first")
    assert app().token("anna", "other")["token_type"] == "Bearer"
    found = admin.get_credentials(anna)
    assert names(found, "type") == ["password"], found
    assert "secretData" not in found[0]

    admin.update_realm(REALM, {"passwordPolicy": "length(8) and digits(1)"})
    short = raises(KeycloakPutError, 400, admin.set_user_password, anna, "short")
    assert "invalidPasswordMinLengthMessage" in short, short
    admin.update_realm(REALM, {"passwordPolicy": ""})

    admin.delete_credential(anna, found[0]["id"])
    assert admin.get_credentials(anna) == []
    raises(KeycloakAuthenticationError, 401, app().token, "anna", "other")
    raises(KeycloakDeleteError, 404, admin.delete_credential, anna, found[0]["id"])
    admin.set_user_password(anna, "other", temporary=False)
    admin.user_logout(anna)


def realm_roles(admin, anna):
    admin.create_realm_role({"name": "outer", "description": "d"})
    admin.create_realm_role({"name": "inner", "attributes": {"a": ["1"]}})
    raises(KeycloakPostError, 409, admin.create_realm_role, {"name": "outer"})
    inner = admin.get_realm_role("inner")
    assert inner["attributes"] == {"a": ["1"]}, inner
    admin.add_composite_realm_roles_to_role("outer", [inner])
    assert names(admin.get_composite_realm_roles_of_role("outer")) == ["inner"]
    admin.update_realm_role("outer", {"name": "outer", "description": "e"})
    outer = admin.get_realm_role("outer")
    assert (outer["description"], outer["composite"]) == ("e", True), outer

    admin.assign_realm_roles(anna, [outer])
    mapped = names(admin.get_realm_roles_of_user(anna))
    assert "outer" in mapped and "inner" not in mapped, mapped
    assert "inner" in names(admin.get_composite_realm_roles_of_user(anna))
    available = names(admin.get_available_realm_roles_of_user(anna))
    assert "inner" in available and "outer" not in available, available
    assert names(admin.get_realm_role_members("outer"), "id") == [anna]
    assert names(admin.get_realm_roles(search_text="oute")) == ["outer"]
    assert "outer" in names(admin.get_all_roles_of_user(anna)["realmMappings"])
    admin.delete_realm_roles_of_user(anna, [outer])
    assert "outer" not in names(admin.get_realm_roles_of_user(anna))

    by_id = admin.get_role_by_id(outer["id"])
    assert by_id["name"] == "outer", by_id
    assert names(admin.get_role_composites_by_id(outer["id"])) == ["inner"]
    admin.update_role_by_id(outer["id"], by_id | {"description": "f"})
    assert admin.get_realm_role_by_id(outer["id"])["description"] == "f"
    admin.remove_composite_realm_roles_to_role("outer", [inner])
    assert admin.get_composite_realm_roles_of_role("outer") == []
    admin.delete_role_by_id(outer["id"])
    raises(KeycloakGetError, 404, admin.get_realm_role, "outer")
    raises(KeycloakDeleteError, 404, admin.delete_realm_role, "outer")

    assert admin.get_default_realm_role_id() is not None
    admin.add_realm_default_roles([inner])
    assert "inner" in names(admin.get_realm_default_roles())
    admin.remove_realm_default_roles([inner])
    assert "inner" not in names(admin.get_realm_default_roles())


def client_roles(admin, app_id, anna):
    admin.create_client_role(app_id, {"name": "reader"})
    raises(KeycloakPostError, 409, admin.create_client_role, app_id, {"name": "reader"})
    assert admin.create_client_role(app_id, {"name": "reader"}, skip_exists=True) == "reader"
    admin.create_client_role(app_id, {"name": "writer", "description": "d"})
    assert names(admin.get_client_roles(app_id)) == ["reader", "writer"]
    admin.update_client_role(app_id, "writer", {"name": "writer", "description": "e"})
    writer = admin.get_client_role(app_id, "writer")
    assert writer["description"] == "e", writer
    reader = admin.get_client_role(app_id, "reader")
    assert admin.get_client_role_id(app_id, "reader") == reader["id"]
    admin.add_composite_client_roles_to_role(app_id, "writer", [reader])
    assert names(admin.get_composite_client_roles_of_role(app_id, "writer")) == ["reader"]
    assert names(admin.get_role_client_level_children(app_id, writer["id"])) == ["reader"]

    admin.assign_client_role(anna, app_id, [writer])
    assert names(admin.get_client_roles_of_user(anna, app_id)) == ["writer"]
    assert names(admin.get_composite_client_roles_of_user(anna, app_id)) == ["reader", "writer"]
    assert names(admin.get_client_role_members(app_id, "writer"), "id") == [anna]
    assert names(admin.get_available_client_roles_of_user(anna, app_id)) == ["reader"]
    admin.delete_client_roles_of_user(anna, app_id, [writer])
    assert admin.get_client_roles_of_user(anna, app_id) == []
    admin.remove_composite_client_roles_from_role(app_id, "writer", [reader])
    assert admin.get_composite_client_roles_of_role(app_id, "writer") == []
    admin.delete_client_role(app_id, "writer")
    raises(KeycloakGetError, 404, admin.get_client_role, app_id, "writer")
    raises(KeycloakDeleteError, 404, admin.delete_client_role, app_id, "writer")
