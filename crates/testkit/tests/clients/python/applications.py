"""Clients, protocol mappers, client scopes, tokens and sessions through python-keycloak."""

from keycloak.exceptions import (
    KeycloakAuthenticationError,
    KeycloakDeleteError,
    KeycloakGetError,
    KeycloakPostError,
    KeycloakPutError,
)

from support import REALM, URL, app, names, raises

HARDCODED = {
    "name": "fixed",
    "protocol": "openid-connect",
    "protocolMapper": "oidc-hardcoded-claim-mapper",
    "config": {"claim.name": "fixed", "claim.value": "1", "access.token.claim": "true"},
}


def clients(admin):
    body = {
        "clientId": "app",
        "enabled": True,
        "serviceAccountsEnabled": True,
        "directAccessGrantsEnabled": True,
        "secret": "s",
        "redirectUris": ["https://app.example/*"],
        "attributes": {"kind": "x"},
    }
    made = admin.create_client(body)
    raises(KeycloakPostError, 409, admin.create_client, body)
    assert admin.create_client(body, skip_exists=True) == made
    wrong = {"clientId": "bad", "rootUrl": "javascript:alert(1)"}
    assert "invalid_input" in raises(KeycloakPostError, 400, admin.create_client, wrong)
    assert admin.get_client_id("app") == made
    assert admin.get_client_id("App") is None
    assert "app" in names(admin.get_clients(), "clientId")
    assert admin.get_client_secrets(made)["value"] == "s"
    generated = admin.generate_client_secrets(made)["value"]
    assert generated != "s" and admin.get_client_secrets(made)["value"] == generated
    admin.update_client(made, {"secret": "s2", "name": "App"})
    client = admin.get_client(made)
    assert (client["name"], client["secret"]) == ("App", "s2"), client
    assert client["redirectUris"] == ["https://app.example/*"], client
    assert client["attributes"]["kind"] == "x", client
    service = admin.get_client_service_account_user(made)
    assert service["username"] == "service-account-app"
    unknown = "00000000-0000-4000-8000-000000000000"
    raises(KeycloakGetError, 404, admin.get_client, unknown)
    raises(KeycloakPutError, 404, admin.update_client, unknown, {"name": "x"})
    raises(KeycloakDeleteError, 404, admin.delete_client, unknown)
    return made


def mappers(admin, made):
    admin.add_mapper_to_client(made, HARDCODED)
    raises(KeycloakPostError, 409, admin.add_mapper_to_client, made, HARDCODED)
    unknown = HARDCODED | {"name": "other", "protocolMapper": "nosuch"}
    raises(KeycloakPostError, 404, admin.add_mapper_to_client, made, unknown)
    found = next(one for one in admin.get_mappers_from_client(made) if one["name"] == "fixed")
    assert found["config"] == HARDCODED["config"], found
    changed = found | {"config": found["config"] | {"claim.value": "2"}}
    admin.update_client_mapper(made, found["id"], changed)
    token = app().token(grant_type="client_credentials")
    assert app().decode_token(token["access_token"])["fixed"] == "2"
    admin.remove_client_mapper(made, found["id"])
    assert "fixed" not in names(admin.get_mappers_from_client(made))
    raises(KeycloakDeleteError, 404, admin.remove_client_mapper, made, found["id"])


def scopes(admin, made):
    attributes = {"display.on.consent.screen": "true"}
    extra = {"name": "extra", "protocol": "openid-connect", "attributes": attributes}
    scope = admin.create_client_scope(extra)
    raises(KeycloakPostError, 409, admin.create_client_scope, extra)
    assert admin.create_client_scope(extra, skip_exists=True) == scope
    assert admin.get_client_scope(scope)["attributes"] == attributes
    assert admin.get_client_scope_by_name("extra")["id"] == scope
    assert "extra" in names(admin.get_client_scopes())
    admin.update_client_scope(scope, extra | {"description": "d"})
    assert admin.get_client_scope(scope)["description"] == "d"

    admin.add_mapper_to_client_scope(scope, HARDCODED)
    mapper = admin.get_mappers_from_client_scope(scope)[0]
    changed = mapper | {"config": mapper["config"] | {"claim.value": "3"}}
    admin.update_mapper_in_client_scope(scope, mapper["id"], changed)
    assert admin.get_mappers_from_client_scope(scope)[0]["config"]["claim.value"] == "3"

    admin.add_default_default_client_scope(scope)
    assert "extra" in names(admin.get_default_default_client_scopes())
    admin.delete_default_default_client_scope(scope)
    assert "extra" not in names(admin.get_default_default_client_scopes())
    admin.add_default_optional_client_scope(scope)
    assert "extra" in names(admin.get_default_optional_client_scopes())
    admin.delete_default_optional_client_scope(scope)
    assert "extra" not in names(admin.get_default_optional_client_scopes())

    def fixed(asked):
        token = app().token(grant_type="client_credentials", scope=asked)
        return app().decode_token(token["access_token"]).get("fixed")

    admin.add_client_optional_client_scope(made, scope, {})
    assert "extra" in names(admin.get_client_optional_client_scopes(made))
    assert (fixed("openid"), fixed("openid extra")) == (None, "3")
    admin.delete_client_optional_client_scope(made, scope)
    admin.add_client_default_client_scope(made, scope, {})
    assert "extra" in names(admin.get_client_default_client_scopes(made))
    assert fixed("openid") == "3"
    admin.delete_client_default_client_scope(made, scope)
    refused = raises(KeycloakPostError, 400, fixed, "openid extra")
    assert "invalid_scope" in refused, refused

    inner = admin.get_realm_role("inner")
    admin.assign_realm_roles_to_client_scope(made, [inner])
    assert names(admin.get_realm_roles_of_client_scope(made)) == ["inner"]
    admin.delete_realm_roles_of_client_scope(made, [inner])
    assert admin.get_realm_roles_of_client_scope(made) == []
    account = admin.get_client_id("account")
    role = admin.get_client_role(account, "view-groups")
    admin.assign_client_roles_to_client_scope(made, account, [role])
    assert names(admin.get_client_roles_of_client_scope(made, account)) == ["view-groups"]

    admin.delete_client_roles_of_client_scope(made, account, [role])
    assert admin.get_client_roles_of_client_scope(made, account) == []
    admin.add_client_specific_roles_to_client_scope(scope, account, [role])
    found = admin.get_client_specific_roles_of_client_scope(scope, account)
    assert names(found) == ["view-groups"], found
    found = admin.get_all_roles_of_client_scope(scope)
    assert names(found["clientMappings"]["account"]["mappings"]) == ["view-groups"], found
    admin.remove_client_specific_roles_of_client_scope(scope, account, [role])

    admin.delete_mapper_from_client_scope(scope, mapper["id"])
    assert admin.get_mappers_from_client_scope(scope) == []
    admin.delete_client_scope(scope)
    raises(KeycloakGetError, 404, admin.get_client_scope, scope)
    raises(KeycloakDeleteError, 404, admin.delete_client_scope, scope)


def tokens(anna):
    """What a relying party does with the protocol's endpoints."""
    oidc = app()
    known = oidc.well_known()
    assert known["issuer"] == f"{URL}realms/{REALM}", known
    assert {key["alg"] for key in oidc.certs()["keys"]} >= {"RS256"}
    assert len(oidc.public_key()) > 300
    token = oidc.token("anna", "other", scope="openid email")
    claims = oidc.decode_token(token["access_token"])
    assert (claims["sub"], claims["azp"], claims["iss"]) == (anna, "app", known["issuer"])
    assert oidc.userinfo(token["access_token"])["email"] == "anna@example.com"
    assert oidc.introspect(token["access_token"])["username"] == "anna"
    fresh = oidc.refresh_token(token["refresh_token"])
    assert fresh["session_state"] == token["session_state"]
    oidc.logout(fresh["refresh_token"])
    assert not oidc.introspect(fresh["access_token"])["active"]
    over = raises(KeycloakPostError, 400, oidc.refresh_token, fresh["refresh_token"])
    assert "Session not active" in over, over
    raises(KeycloakAuthenticationError, 401, oidc.userinfo, fresh["access_token"])
    wrong = app()
    wrong.client_secret_key = "wrong"
    raises(KeycloakAuthenticationError, 401, wrong.token, grant_type="client_credentials")
    raises(KeycloakPostError, 400, oidc.token, grant_type="nosuch")
    raises(KeycloakPostError, 400, oidc.exchange_token, token["access_token"], "account")


def sessions(admin, made, anna):
    oidc = app()
    assert admin.get_client_all_sessions(made) == []
    assert admin.get_client_sessions_stats() == []
    token = oidc.token("anna", "other")
    assert names(admin.get_sessions(anna), "username") == ["anna"]
    found = admin.get_client_all_sessions(made)
    assert names(found, "id") == [token["session_state"]], found
    stats = admin.get_client_sessions_stats()
    assert [(one["clientId"], one["active"]) for one in stats] == [("app", "1")], stats
    assert oidc.introspect(token["access_token"])["active"]
    admin.user_logout(anna)
    assert admin.get_sessions(anna) == []
    assert not oidc.introspect(token["access_token"])["active"]
    raises(KeycloakPostError, 400, oidc.refresh_token, token["refresh_token"])


def brute_force(admin, anna):
    oidc = app()
    protection = {
        "bruteForceProtected": True,
        "failureFactor": 2,
        "quickLoginCheckMilliSeconds": 0,
    }
    admin.update_realm(REALM, protection)
    assert admin.get_bruteforce_detection_status(anna)["numFailures"] == 0
    for _ in range(2):
        raises(KeycloakAuthenticationError, 401, oidc.token, "anna", "wrong")
    # The right password, which does not help any more.
    raises(KeycloakAuthenticationError, 401, oidc.token, "anna", "other")
    status = admin.get_bruteforce_detection_status(anna)
    assert status["disabled"] and status["numFailures"] == 2, status
    admin.clear_bruteforce_attempts_for_user(anna)
    assert not admin.get_bruteforce_detection_status(anna)["disabled"]
    assert oidc.token("anna", "other")["access_token"]
    raises(KeycloakAuthenticationError, 401, oidc.token, "anna", "wrong")
    admin.clear_all_bruteforce_attempts()
    assert admin.get_bruteforce_detection_status(anna)["numFailures"] == 0
    admin.update_realm(REALM, {"bruteForceProtected": False})
