"""What the scripts of python-keycloak share: where the identity provider is, and how to fail."""

import os
import uuid

from keycloak import KeycloakAdmin, KeycloakOpenID, KeycloakOpenIDConnection

URL = os.environ["IRIS_URL"].rstrip("/") + "/"
USER = os.environ["IRIS_USER"]
PASSWORD = os.environ["IRIS_PASSWORD"]
REALM = f"python-{uuid.uuid4().hex[:8]}"


def connect(realm="master", **credentials):
    """An administrator of a realm; of the master realm's administrator unless told otherwise."""
    who = credentials or {"username": USER, "password": PASSWORD, "user_realm_name": "master"}
    return KeycloakAdmin(
        connection=KeycloakOpenIDConnection(server_url=URL, realm_name=realm, **who)
    )


def app():
    """The relying party `app` of the realm under test."""
    return KeycloakOpenID(
        server_url=URL, realm_name=REALM, client_id="app", client_secret_key="s2"
    )


def raises(kind, code, call, *args, **kwargs):
    """The error of a call that the library must turn into this exception with this status."""
    try:
        call(*args, **kwargs)
    except kind as error:
        assert error.response_code == code, f"{call.__name__}: {error}"
        return str(error)
    raise AssertionError(f"{call.__name__} should have failed")


def names(found, member="name"):
    return sorted(one[member] for one in found)
