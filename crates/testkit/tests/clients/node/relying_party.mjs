// The code flow with the relying-party library `openid-client` (npm, version 6).
//
//   ISSUER=http://127.0.0.1:8180/auth/realms/r CLIENT_ID=web CLIENT_SECRET=s PERSON=anna \
//   PERSON_PASSWORD=secret REDIRECT_URI=https://app.example/cb ALGORITHM=RS256 node relying_party.mjs
//
// The realm needs that confidential client with that redirect URI, that user and that algorithm.
import assert from "node:assert/strict";
import * as oidc from "openid-client";
import "./webcrypto.mjs";

const need = (name) => {
  const value = process.env[name];
  assert.ok(value, `${name} is not set`);
  return value;
};
const redirect = need("REDIRECT_URI");
const config = await oidc.discovery(
  new URL(need("ISSUER")),
  need("CLIENT_ID"),
  need("CLIENT_SECRET"),
  undefined,
  // The second: signatures of ID tokens are verified, though they come straight from their issuer.
  { execute: [oidc.allowInsecureRequests, oidc.enableNonRepudiationChecks] },
);

// A browser: cookies by name, no redirects followed.
const cookies = new Map();
async function visit(url, fields) {
  const headers = { cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join("; ") };
  const body = fields && new URLSearchParams(fields);
  const reply = await fetch(url, { method: fields ? "POST" : "GET", headers, body, redirect: "manual" });
  for (const line of reply.headers.getSetCookie()) {
    const [, name, value] = line.match(/^([^=]+)=([^;]*)/);
    if (/Max-Age=0/.test(line)) cookies.delete(name);
    else cookies.set(name, value);
  }
  return reply;
}
const action = (html) => html.match(/<form[^>]* action="([^"]*)"/)[1].replaceAll("&amp;", "&");

async function flow(more) {
  const verifier = oidc.randomPKCECodeVerifier();
  const state = oidc.randomState();
  const nonce = oidc.randomNonce();
  const url = oidc.buildAuthorizationUrl(config, {
    redirect_uri: redirect,
    scope: "openid profile email",
    code_challenge: await oidc.calculatePKCECodeChallenge(verifier),
    code_challenge_method: "S256",
    state,
    nonce,
    ...more,
  });
  let reply = await visit(url);
  if (reply.status === 200) {
    const fields = { username: need("PERSON"), password: need("PERSON_PASSWORD") };
    reply = await visit(action(await reply.text()), fields);
  }
  assert.equal(reply.status, 302);
  const back = new URL(reply.headers.get("location"));
  const checks = { pkceCodeVerifier: verifier, expectedState: state, expectedNonce: nonce };
  return oidc.authorizationCodeGrant(config, back, { ...checks, idTokenExpected: true, maxAge: more?.max_age });
}

const tokens = await flow();
const header = JSON.parse(Buffer.from(tokens.id_token.split(".")[0], "base64url"));
assert.equal(header.alg, need("ALGORITHM"));
const claims = tokens.claims();
const user = await oidc.fetchUserInfo(config, tokens.access_token, claims.sub);
assert.equal(user.preferred_username, need("PERSON"));
const next = await oidc.refreshTokenGrant(config, tokens.refresh_token);
assert.equal((await oidc.tokenIntrospection(config, next.access_token)).active, true);
const again = await flow({ prompt: "none", max_age: 60 });
assert.equal(again.claims().sid, claims.sid);
await oidc.tokenRevocation(config, again.refresh_token);

await assert.rejects(flow({ prompt: "none", scope: "openid nosuch" }), { error: "invalid_scope" });

const fresh = await flow();
const bye = oidc.buildEndSessionUrl(config, {
  id_token_hint: fresh.id_token,
  post_logout_redirect_uri: redirect,
});
const done = await visit(bye);
assert.equal(done.headers.get("location"), redirect);
await assert.rejects(oidc.refreshTokenGrant(config, fresh.refresh_token), { error: "invalid_grant" });
await assert.rejects(flow({ prompt: "none" }), { error: "login_required" });
console.log("openid-client: code flow, silent login, refresh, introspection, revocation, logout: ok");
