"""The code flow with the relying-party library Authlib (PyPI, version 1).

    ISSUER=http://127.0.0.1:8180/auth/realms/r CLIENT_ID=web CLIENT_SECRET=s PERSON=anna \
    PERSON_PASSWORD=secret REDIRECT_URI=https://app.example/cb ALGORITHM=RS256 python relying_party.py

The realm needs that confidential client with that redirect URI, that user and that algorithm.
"""

import html
import os
import re

import requests
from authlib.common.security import generate_token
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.jose import JsonWebKey, jwt
from authlib.oidc.core import CodeIDToken

os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"
issuer, redirect = os.environ["ISSUER"], os.environ["REDIRECT_URI"]
metadata = requests.get(f"{issuer}/.well-known/openid-configuration").json()
browser = requests.Session()


def flow(method="client_secret_basic", **more):
    """The tokens and the verified ID token of one authorization request."""
    client = OAuth2Session(
        os.environ["CLIENT_ID"],
        os.environ["CLIENT_SECRET"],
        scope="openid profile email",
        redirect_uri=redirect,
        code_challenge_method="S256",
        token_endpoint_auth_method=method,
    )
    verifier, nonce = generate_token(48), generate_token()
    url, state = client.create_authorization_url(
        metadata["authorization_endpoint"], code_verifier=verifier, nonce=nonce, **more
    )
    reply = browser.get(url, allow_redirects=False)
    if reply.status_code == 200:
        action = html.unescape(re.search(r'<form[^>]* action="([^"]*)"', reply.text)[1])
        fields = {"username": os.environ["PERSON"], "password": os.environ["PERSON_PASSWORD"]}
        reply = browser.post(action, data=fields, allow_redirects=False)
    assert reply.status_code == 302, reply.text
    back = reply.headers["location"]
    tokens = client.fetch_token(
        metadata["token_endpoint"], authorization_response=back, state=state, code_verifier=verifier
    )
    # Only now: a realm makes a key for an algorithm when it first signs with it.
    keys = JsonWebKey.import_key_set(requests.get(metadata["jwks_uri"]).json())
    claims = jwt.decode(
        tokens["id_token"],
        keys,
        claims_cls=CodeIDToken,
        claims_options={"iss": {"value": issuer}},
        claims_params={"nonce": nonce, "client_id": os.environ["CLIENT_ID"], "access_token": tokens["access_token"]},
    )
    claims.validate(leeway=5)
    assert claims.header["alg"] == os.environ["ALGORITHM"], claims.header
    return client, tokens, claims


client, tokens, claims = flow()
user = client.get(metadata["userinfo_endpoint"]).json()
assert user["sub"] == claims["sub"] and user["preferred_username"] == os.environ["PERSON"]
fresh = client.refresh_token(metadata["token_endpoint"], refresh_token=tokens["refresh_token"])
active = client.introspect_token(metadata["introspection_endpoint"], token=fresh["access_token"])
assert active.json()["active"] is True
_, again, silent = flow(method="client_secret_post", prompt="none")
assert silent["sid"] == claims["sid"]
client.revoke_token(metadata["revocation_endpoint"], token=fresh["refresh_token"])
try:
    client.refresh_token(metadata["token_endpoint"], refresh_token=fresh["refresh_token"])
    raise SystemExit("a revoked refresh token was taken")
except OAuthError as error:
    assert error.error == "invalid_grant", error
print("authlib: code flow, silent login, userinfo, refresh, introspection, revocation: ok")
