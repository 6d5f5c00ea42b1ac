"""Drives the Admin REST API through python-keycloak, the client library of PyPI.

How to run, against any identity provider with an administrator of the master realm:

    pip install python-keycloak==7.1.1
    IRIS_URL=http://127.0.0.1:8180/auth IRIS_USER=admin IRIS_PASSWORD=... python admin.py

It makes one realm, uses it and deletes it again; it exits with 1 at the first thing that is not as it
should be.
"""

import os
import sys
import uuid

from keycloak import KeycloakAdmin, KeycloakOpenID, KeycloakOpenIDConnection
from keycloak.exceptions import (
    KeycloakAuthenticationError,
    KeycloakDeleteError,
    KeycloakError,
    KeycloakGetError,
    KeycloakPostError,
    KeycloakPutError,
)

URL = os.environ.get("IRIS_URL", "http://127.0.0.1:8180/auth").rstrip("/") + "/"
USER = os.environ.get("IRIS_USER", "admin")
PASSWORD = os.environ["IRIS_PASSWORD"]
REALM = f"python-{uuid.uuid4().hex[:8]}"


def connect(realm="master"):
    connection = KeycloakOpenIDConnection(
        server_url=URL, username=USER, password=PASSWORD, realm_name=realm, user_realm_name="master"
    )
    return KeycloakAdmin(connection=connection)


def raises(kind, call, *args, code=None, **kwargs):
    try:
        call(*args, **kwargs)
    except kind as error:
        assert code is None or error.response_code == code, error
        return error
    raise AssertionError(f"{call.__name__} should have failed")


def realms(admin):
    admin.create_realm({"realm": REALM, "enabled": True})
    raises(KeycloakPostError, admin.create_realm, {"realm": REALM}, code=409)
    assert REALM in [realm["realm"] for realm in admin.get_realms()]
    admin.update_realm(REALM, {"displayName": "Python", "loginTheme": "x"})
    admin.change_current_realm(REALM)
    realm = admin.get_realm(REALM)
    assert realm["displayName"] == "Python", realm
    admin.update_realm(REALM, realm)
    error = raises(KeycloakPutError, admin.update_realm, REALM, {"nosuch": 1}, code=400)
    assert "Unrecognized field" in str(error), error
    raises(KeycloakGetError, admin.get_realm, "nosuch", code=404)
    info = admin.get_server_info()
    assert info["systemInfo"]["version"].startswith("26."), info["systemInfo"]


def groups(admin):
    top = admin.create_group({"name": "top"})
    child = admin.create_group({"name": "child"}, parent=top)
    grandchild = admin.create_group({"name": "grandchild", "attributes": {"a": ["1"]}}, parent=child)
    raises(KeycloakPostError, admin.create_group, {"name": "top"}, code=409)
    assert admin.create_group({"name": "top"}, skip_exists=True) is None
    assert [group["name"] for group in admin.get_groups()] == ["top"]
    tree = admin.get_groups(query={"search": "grandchild"})
    assert [group["name"] for group in tree] == ["top"], tree
    assert admin.groups_count() == {"count": 3}
    assert admin.get_group_by_path("/top/child/grandchild")["id"] == grandchild
    assert admin.get_group(grandchild)["attributes"] == {"a": ["1"]}
    assert [group["name"] for group in admin.get_group_children(top)] == ["child"]
    admin.update_group(child, {"name": "kid"})
    assert admin.get_group(grandchild)["path"] == "/top/kid/grandchild"
    user = admin.create_user({"username": "member", "enabled": True})
    admin.group_user_add(user, grandchild)
    assert [one["username"] for one in admin.get_group_members(grandchild)] == ["member"]
    assert [one["path"] for one in admin.get_user_groups(user)] == ["/top/kid/grandchild"]
    admin.create_realm_role({"name": "group-role"})
    role = admin.get_realm_role("group-role")
    admin.assign_group_realm_roles(top, [role])
    assert [one["name"] for one in admin.get_group_realm_roles(top)] == ["group-role"]
    composite = admin.get_composite_realm_roles_of_user(user)
    assert "group-role" in [one["name"] for one in composite], composite
    assert [one["id"] for one in admin.get_realm_role_groups("group-role")] == [top]
    admin.delete_group_realm_roles(top, [role])
    admin.group_user_remove(user, grandchild)
    assert admin.get_group_members(grandchild) == []
    admin.delete_group(top)
    raises(KeycloakGetError, admin.get_group, grandchild, code=404)
    admin.delete_user(user)


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
    raises(KeycloakPostError, admin.create_user, first, exist_ok=False, code=409)
    assert admin.create_user(first, exist_ok=True) == anna
    admin.create_user({"username": "bert", "enabled": False, "firstName": "Bert"})
    names = lambda query: sorted(user["username"] for user in admin.get_users(query))
    assert names({}) == ["anna", "bert"]
    assert names({"search": "an"}) == ["anna"]
    assert names({"search": "*il"}) == ["anna"]
    assert names({"search": "il"}) == []
    assert names({"firstName": "ert"}) == ["bert"]
    assert names({"lastName": "özil", "exact": True}) == ["anna"]
    assert names({"enabled": False}) == ["bert"]
    assert names({"q": "team:blue"}) == ["anna"]
    assert names({"q": "team:green"}) == []
    assert names({"email": "anna@"}) == ["anna"]
    assert names({"first": 1, "max": 1}) == ["bert"]
    assert admin.users_count() == 2
    assert admin.users_count({"search": "ann"}) == 1
    assert admin.get_user_id("anna") == anna
    admin.update_user(anna, {"firstName": "Hanna"})
    assert admin.get_user(anna)["firstName"] == "Hanna"
    admin.disable_user(anna)
    assert admin.get_user(anna)["enabled"] is False
    admin.enable_user(anna)
    admin.set_user_password(anna, "other", temporary=False)
    credentials = admin.get_credentials(anna)
    assert [one["type"] for one in credentials] == ["password"], credentials
    assert "secretData" not in credentials[0]
    assert admin.get_user_social_logins(anna) == []
    raises(KeycloakGetError, admin.get_user, "nosuch", code=404)
    admin.update_realm(REALM, {"passwordPolicy": "length(8) and digits(1)"})
    error = raises(KeycloakPutError, admin.set_user_password, anna, "short", code=400)
    assert "invalidPasswordMinLengthMessage" in str(error), error
    admin.update_realm(REALM, {"passwordPolicy": ""})
    return anna


def roles(admin, anna):
    admin.create_realm_role({"name": "outer", "description": "d"})
    admin.create_realm_role({"name": "inner"})
    raises(KeycloakPostError, admin.create_realm_role, {"name": "outer"}, code=409)
    inner = admin.get_realm_role("inner")
    admin.add_composite_realm_roles_to_role("outer", [inner])
    assert [role["name"] for role in admin.get_composite_realm_roles_of_role("outer")] == ["inner"]
    admin.update_realm_role("outer", {"name": "outer", "description": "e"})
    assert admin.get_realm_role("outer")["description"] == "e"
    admin.assign_realm_roles(anna, [admin.get_realm_role("outer")])
    names = [role["name"] for role in admin.get_realm_roles_of_user(anna)]
    assert "outer" in names and "inner" not in names, names
    names = [role["name"] for role in admin.get_composite_realm_roles_of_user(anna)]
    assert "inner" in names, names
    assert "inner" in [role["name"] for role in admin.get_available_realm_roles_of_user(anna)]
    assert [user["id"] for user in admin.get_realm_role_members("outer")] == [anna]
    found = admin.get_realm_roles(search_text="oute")
    assert [role["name"] for role in found] == ["outer"], found
    admin.delete_realm_roles_of_user(anna, [admin.get_realm_role("outer")])
    admin.remove_composite_realm_roles_to_role("outer", [inner])
    admin.delete_realm_role("outer")
    raises(KeycloakGetError, admin.get_realm_role, "outer", code=404)


def clients(admin, anna):
    body = {
        "clientId": "app",
        "enabled": True,
        "serviceAccountsEnabled": True,
        "directAccessGrantsEnabled": True,
        "secret": "s",
        "attributes": {"kind": "x"},
    }
    app = admin.create_client(body)
    assert admin.create_client(body, skip_exists=True) == app
    assert admin.get_client_id("app") == app
    assert admin.get_client_secrets(app)["value"] == "s"
    assert admin.generate_client_secrets(app)["value"] != "s"
    admin.update_client(app, {"secret": "s2", "name": "App"})
    assert admin.get_client(app)["name"] == "App"
    service = admin.get_client_service_account_user(app)
    assert service["username"] == "service-account-app"
    admin.create_client_role(app, {"name": "reader"})
    reader = admin.get_client_role(app, "reader")
    admin.assign_client_role(anna, app, [reader])
    assert [role["name"] for role in admin.get_client_roles_of_user(anna, app)] == ["reader"]
    assert [user["id"] for user in admin.get_client_role_members(app, "reader")] == [anna]
    assert admin.get_available_client_roles_of_user(anna, app) == []
    admin.delete_client_roles_of_user(anna, app, [reader])
    mapper = {
        "name": "groups",
        "protocol": "openid-connect",
        "protocolMapper": "oidc-group-membership-mapper",
        "config": {"claim.name": "groups", "full.path": "true", "access.token.claim": "true"},
    }
    admin.add_mapper_to_client(app, mapper)
    found = [one for one in admin.get_mappers_from_client(app) if one["name"] == "groups"]
    admin.update_client_mapper(app, found[0]["id"], found[0] | {"name": "paths"})
    admin.remove_client_mapper(app, found[0]["id"])
    assert admin.get_client_all_sessions(app) == []
    assert admin.get_client_sessions_stats() == []
    raises(KeycloakGetError, admin.get_client, "nosuch", code=404)
    return app


def scopes(admin, app):
    scope = admin.create_client_scope(
        {"name": "extra", "protocol": "openid-connect", "attributes": {"display.on.consent.screen": "true"}}
    )
    admin.add_mapper_to_client_scope(
        scope,
        {
            "name": "fixed",
            "protocol": "openid-connect",
            "protocolMapper": "oidc-hardcoded-claim-mapper",
            "config": {"claim.name": "fixed", "claim.value": "1", "access.token.claim": "true"},
        },
    )
    mappers = admin.get_mappers_from_client_scope(scope)
    admin.update_mapper_in_client_scope(scope, mappers[0]["id"], mappers[0])
    assert admin.get_client_scope_by_name("extra")["id"] == scope
    admin.update_client_scope(scope, {"name": "extra", "description": "d", "protocol": "openid-connect"})
    admin.add_default_default_client_scope(scope)
    assert "extra" in [one["name"] for one in admin.get_default_default_client_scopes()]
    admin.delete_default_default_client_scope(scope)
    admin.add_default_optional_client_scope(scope)
    admin.delete_default_optional_client_scope(scope)
    admin.add_client_default_client_scope(app, scope, {})
    assert "extra" in [one["name"] for one in admin.get_client_default_client_scopes(app)]
    admin.delete_client_default_client_scope(app, scope)
    admin.assign_realm_roles_to_client_scope(app, [admin.get_realm_role("inner")])
    assert [role["name"] for role in admin.get_realm_roles_of_client_scope(app)] == ["inner"]
    admin.delete_realm_roles_of_client_scope(app, [admin.get_realm_role("inner")])
    admin.delete_mapper_from_client_scope(scope, mappers[0]["id"])
    admin.delete_client_scope(scope)


def sessions(admin, app, anna):
    oidc = KeycloakOpenID(server_url=URL, realm_name=REALM, client_id="app", client_secret_key="s2")
    token = oidc.token("anna", "other")
    assert [one["username"] for one in admin.get_sessions(anna)] == ["anna"]
    assert len(admin.get_client_all_sessions(app)) == 1
    stats = admin.get_client_sessions_stats()
    assert [(one["clientId"], one["active"]) for one in stats] == [("app", "1")], stats
    assert oidc.introspect(token["access_token"])["active"]
    admin.user_logout(anna)
    assert admin.get_sessions(anna) == []
    assert not oidc.introspect(token["access_token"])["active"]
    raises(KeycloakPostError, oidc.refresh_token, token["refresh_token"])
    admin.update_realm(REALM, {"bruteForceProtected": True, "failureFactor": 2, "quickLoginCheckMilliSeconds": 0})
    for _ in range(2):
        raises(KeycloakAuthenticationError, oidc.token, "anna", "wrong")
    raises(KeycloakAuthenticationError, oidc.token, "anna", "other")
    status = admin.get_bruteforce_detection_status(anna)
    assert status["disabled"] and status["numFailures"] == 2, status
    admin.clear_bruteforce_attempts_for_user(anna)
    oidc.token("anna", "other")
    admin.clear_all_bruteforce_attempts()


def events(admin):
    admin.set_events({"eventsEnabled": True, "adminEventsEnabled": True, "eventsListeners": ["jboss-logging"]})
    oidc = KeycloakOpenID(server_url=URL, realm_name=REALM, client_id="app", client_secret_key="s2")
    oidc.token("anna", "other")
    kinds = [event["type"] for event in admin.get_events({"type": "LOGIN"})]
    assert kinds == ["LOGIN"], kinds
    admin.create_realm_role({"name": "seen"})
    found = admin.get_admin_events({"resourceTypes": "REALM_ROLE"})
    assert [event["resourcePath"] for event in found] == ["roles/seen"], found


def keys(admin):
    before = admin.get_keys()["active"]["RS256"]
    admin.create_component(
        {
            "name": "more",
            "providerId": "rsa-generated",
            "providerType": "org.keycloak.keys.KeyProvider",
            "config": {"priority": ["200"], "algorithm": ["RS256"]},
        }
    )
    assert admin.get_keys()["active"]["RS256"] != before
    found = admin.get_components({"name": "more", "type": "org.keycloak.keys.KeyProvider"})
    component = found[0]
    component["config"]["active"] = ["false"]
    admin.update_component(component["id"], component)
    assert admin.get_keys()["active"]["RS256"] == before
    admin.delete_component(component["id"])
    raises(KeycloakGetError, admin.get_component, component["id"], code=404)


def transfers(admin):
    exported = admin.export_realm(export_clients=True, export_groups_and_role=True)
    assert exported["realm"] == REALM
    assert {"roles", "groups", "clients", "clientScopes", "components"} <= set(exported), exported.keys()
    found = next(client for client in exported["clients"] if client["clientId"] == "app")
    assert found["secret"] == "**********", found
    result = admin.partial_import_realm(
        REALM,
        {
            "ifResourceExists": "SKIP",
            "users": [{"username": "anna"}, {"username": "carl", "enabled": True}],
            "roles": {"realm": [{"name": "imported"}]},
        },
    )
    assert (result["added"], result["skipped"]) == (2, 1), result
    copy = REALM + "-copy"
    exported["realm"] = copy
    exported.pop("id")
    admin.create_realm(strip_ids(exported))
    try:
        again = connect(copy)
        assert again.get_client_id("app") is not None
        assert "inner" in [role["name"] for role in again.get_realm_roles()]
    finally:
        admin.delete_realm(copy)


def strip_ids(value):
    if isinstance(value, dict):
        skip = ("id", "containerId", "_id")
        return {name: strip_ids(inner) for name, inner in value.items() if name not in skip}
    if isinstance(value, list):
        return [strip_ids(inner) for inner in value]
    return value


def policies(admin):
    profile = {
        "name": "rotation",
        "executors": [
            {
                "executor": "secret-rotation",
                "configuration": {
                    "expiration-period": 1000,
                    "rotated-expiration-period": 100,
                    "remaining-rotation-period": 10,
                },
            }
        ],
    }
    admin.update_client_policies_profiles({"profiles": [profile]}) if hasattr(
        admin, "update_client_policies_profiles"
    ) else None
    flows = [flow["alias"] for flow in admin.get_authentication_flows()]
    assert "browser" in flows and "direct grant" in flows, flows
    assert admin.get_required_actions()
    assert admin.get_idps() == []
    assert admin.get_default_groups() == [] if hasattr(admin, "get_default_groups") else True
    admin.clear_keys_cache()
    admin.clear_realm_cache()
    admin.clear_user_cache()


def main():
    admin = connect()
    realms(admin)
    try:
        groups(admin)
        anna = users(admin)
        roles(admin, anna)
        app = clients(admin, anna)
        scopes(admin, app)
        sessions(admin, app, anna)
        events(admin)
        keys(admin)
        transfers(admin)
        policies(admin)
        admin.delete_client(app)
        raises(KeycloakDeleteError, admin.delete_client, app, code=404)
        admin.delete_user(anna)
    finally:
        admin.change_current_realm("master")
        admin.delete_realm(REALM)
    raises(KeycloakError, admin.get_realm, REALM)
    print("ok")


if __name__ == "__main__":
    sys.exit(main())
