"""Drives the Admin REST API and the protocol through python-keycloak, the client library of PyPI.

How to run, against any identity provider with an administrator of the master realm:

    pip install --require-hashes -r requirements.txt
    IRIS_URL=http://127.0.0.1:8180/auth IRIS_USER=admin IRIS_PASSWORD=... python admin.py

It makes one realm, uses it and deletes it again; it exits with 1 at the first thing that is not as it
should be.
"""

from keycloak.exceptions import KeycloakDeleteError, KeycloakGetError

import applications
import people
import realm
from support import REALM, connect, raises


def step(call, *args):
    made = call(*args)
    print("ok", call.__name__)
    return made


def main():
    admin = connect()
    step(realm.realms, admin)
    try:
        step(people.groups, admin)
        anna = step(people.users, admin)
        app = step(applications.clients, admin)
        step(people.credentials, admin, anna)
        step(people.realm_roles, admin, anna)
        step(people.client_roles, admin, app, anna)
        step(applications.mappers, admin, app)
        step(applications.scopes, admin, app)
        step(applications.tokens, anna)
        step(applications.sessions, admin, app, anna)
        step(applications.brute_force, admin, anna)
        step(realm.permissions, admin)
        step(realm.keys, admin)
        step(realm.events, admin)
        step(realm.transfers, admin)
        step(realm.the_rest, admin)
        admin.delete_client(app)
        raises(KeycloakDeleteError, 404, admin.delete_client, app)
        admin.delete_user(anna)
    finally:
        admin.change_current_realm("master")
        admin.delete_realm(REALM)
    raises(KeycloakGetError, 404, admin.get_realm, REALM)
    print("python-keycloak: ok")


if __name__ == "__main__":
    main()
