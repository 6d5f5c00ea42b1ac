"""Realms, permissions, keys, events and transfers through python-keycloak."""

from keycloak.exceptions import (
    KeycloakAuthenticationError,
    KeycloakDeleteError,
    KeycloakGetError,
    KeycloakPostError,
    KeycloakPutError,
)

from support import REALM, app, connect, names, raises

KEYS = "org.keycloak.keys.KeyProvider"


def realms(admin):
    admin.create_realm({"realm": REALM, "enabled": True})
    raises(KeycloakPostError, 409, admin.create_realm, {"realm": REALM})
    assert REALM in names(admin.get_realms(), "realm")
    admin.update_realm(REALM, {"displayName": "Python", "loginTheme": "x"})
    admin.change_current_realm(REALM)
    realm = admin.get_realm(REALM)
    assert (realm["displayName"], realm["loginTheme"]) == ("Python", "x"), realm
    admin.update_realm(REALM, realm)
    assert admin.get_realm(REALM) == realm
    error = raises(KeycloakPutError, 400, admin.update_realm, REALM, {"nosuch": 1})
    assert "Unrecognized field" in error, error
    raises(KeycloakGetError, 404, admin.get_realm, "nosuch")
    raises(KeycloakPutError, 404, admin.update_realm, "nosuch", {"displayName": "x"})
    raises(KeycloakDeleteError, 404, admin.delete_realm, "nosuch")
    assert admin.get_server_info()["systemInfo"]["version"].startswith("26.")


def permissions(admin):
    """What those may not do who have some rights, none, or the wrong password."""
    user = admin.create_user(
        {
            "username": "helper",
            "enabled": True,
            "credentials": [{"type": "password", "value": "pw"}],
        }
    )
    helper = connect(REALM, username="helper", password="pw")
    raises(KeycloakGetError, 403, helper.get_users)
    management = admin.get_client_id("realm-management")
    role = admin.get_client_role(management, "view-users")
    admin.assign_client_role(user, management, [role])
    helper = connect(REALM, username="helper", password="pw")
    assert "helper" in names(helper.get_users(), "username")
    raises(KeycloakPostError, 403, helper.create_user, {"username": "more"})
    raises(KeycloakDeleteError, 403, helper.delete_user, user)
    raises(KeycloakGetError, 403, helper.get_clients)
    raises(KeycloakPutError, 403, helper.update_realm, REALM, {"displayName": "x"})
    foreign = connect("master", username="helper", password="pw", user_realm_name=REALM)
    raises(KeycloakAuthenticationError, 401, foreign.get_users)
    wrong = connect(REALM, username="helper", password="wrong")
    raises(KeycloakAuthenticationError, 401, wrong.get_users)
    garbage = connect(REALM, token={"access_token": "garbage", "expires_in": 60})
    raises(KeycloakAuthenticationError, 401, garbage.get_users)
    admin.delete_user(user)


def keys(admin):
    before = admin.get_keys()["active"]["RS256"]
    config = {"priority": ["200"], "algorithm": ["RS256"]}
    provider = {"name": "more", "providerId": "rsa-generated", "providerType": KEYS}
    made = admin.create_component(provider | {"config": config})
    after = admin.get_keys()["active"]["RS256"]
    assert after != before
    token = app().token(grant_type="client_credentials")
    assert after in [key["kid"] for key in app().certs()["keys"]]
    assert app().decode_token(token["access_token"])["azp"] == "app"
    (component,) = admin.get_components({"name": "more", "type": KEYS})
    assert component["id"] == made, component
    component["config"]["active"] = ["false"]
    admin.update_component(made, component)
    assert admin.get_keys()["active"]["RS256"] == before
    assert app().introspect(token["access_token"])["active"]
    admin.delete_component(made)
    assert not app().introspect(token["access_token"])["active"]
    raises(KeycloakGetError, 404, admin.get_component, made)
    raises(KeycloakDeleteError, 404, admin.delete_component, made)
    wrong = provider | {"providerId": "nosuch", "config": {}}
    raises(KeycloakPostError, 400, admin.create_component, wrong)


def events(admin):
    admin.set_events(
        {"eventsEnabled": True, "adminEventsEnabled": True, "eventsListeners": ["jboss-logging"]}
    )
    app().token("anna", "other")
    raises(KeycloakAuthenticationError, 401, app().token, "anna", "wrong")
    (login,) = admin.get_events({"type": "LOGIN"})
    assert (login["clientId"], login["details"]["username"]) == ("app", "anna"), login
    (failure,) = admin.get_events({"type": "LOGIN_ERROR"})
    assert failure["error"] == "invalid_user_credentials", failure
    assert admin.get_events({"type": "LOGIN", "user": "nosuch"}) == []
    admin.create_realm_role({"name": "seen"})
    (event,) = admin.get_admin_events({"resourceTypes": "REALM_ROLE"})
    assert (event["operationType"], event["resourcePath"]) == ("CREATE", "roles/seen"), event
    admin.delete_realm_role("seen")
    assert admin.get_admin_events({"operationTypes": "DELETE"})[0]["resourcePath"] == "roles/seen"


def transfers(admin):
    exported = admin.export_realm(export_clients=True, export_groups_and_role=True)
    assert exported["realm"] == REALM
    blocks = {"roles", "groups", "clients", "clientScopes", "components"}
    assert blocks <= set(exported), exported.keys()
    found = next(client for client in exported["clients"] if client["clientId"] == "app")
    assert found["secret"] == "**********", found
    body = {
        "ifResourceExists": "SKIP",
        "users": [{"username": "anna"}, {"username": "carl", "enabled": True}],
        "roles": {"realm": [{"name": "imported"}]},
    }
    result = admin.partial_import_realm(REALM, body)
    assert (result["added"], result["skipped"]) == (2, 1), result
    failing = body | {"ifResourceExists": "FAIL"}
    raises(KeycloakPostError, 409, admin.partial_import_realm, REALM, failing)

    copy = REALM + "-copy"
    payload = without_ids(exported) | {"realm": copy}
    admin.import_realm(payload)
    try:
        raises(KeycloakPostError, 409, admin.import_realm, payload)
        again = connect(copy)
        assert again.get_client_id("app") is not None
        assert names(again.get_realm_roles()) == names(exported["roles"]["realm"])
        assert names(again.get_client_scopes()) == names(exported["clientScopes"])
    finally:
        admin.delete_realm(copy)


def without_ids(value):
    if isinstance(value, dict):
        skip = ("id", "containerId", "_id")
        return {name: without_ids(inner) for name, inner in value.items() if name not in skip}
    if isinstance(value, list):
        return [without_ids(inner) for inner in value]
    return value


def the_rest(admin):
    assert {"browser", "direct grant"} <= set(names(admin.get_authentication_flows(), "alias"))
    assert "UPDATE_PASSWORD" in names(admin.get_required_actions(), "alias")
    assert admin.get_idps() == []
    admin.clear_keys_cache()
    admin.clear_realm_cache()
    admin.clear_user_cache()
