// A web site whose visitors sign in through `openid-client`. It writes its URL, of a free port, to its
// output and serves until it is killed.
//
//     ISSUER=http://127.0.0.1:8180/auth/realms/r CLIENT_ID=web CLIENT_SECRET=s node website.mjs
//
// /login passes further parameters on to the authorization request.

import { createServer } from "node:http";
import * as oidc from "openid-client";
import "./webcrypto.mjs";

const { ISSUER, CLIENT_ID, CLIENT_SECRET } = process.env;
const configured = async () =>
  oidc.discovery(new URL(ISSUER), CLIENT_ID, CLIENT_SECRET, undefined, {
    execute: [oidc.allowInsecureRequests],
  });
let config;
// One visitor at a time is enough.
let begun;
let tokens;

const escape = (text) => text.replace(/[&<>"]/g, (it) => `&#${it.charCodeAt(0)};`);
const page = (text) =>
  `<!DOCTYPE html><html lang="en"><title>The Web Site</title><link rel="icon" href="data:,">` +
  `<h1>The Web Site</h1><p id="visitor">${escape(text)}</p>`;

async function login(parameters) {
  const verifier = oidc.randomPKCECodeVerifier();
  begun = { verifier, state: oidc.randomState(), nonce: oidc.randomNonce() };
  return oidc.buildAuthorizationUrl(config, {
    redirect_uri: `${site}/callback`,
    scope: "openid profile email",
    code_challenge: await oidc.calculatePKCECodeChallenge(verifier),
    code_challenge_method: "S256",
    state: begun.state,
    nonce: begun.nonce,
    ...Object.fromEntries(parameters),
  });
}

async function callback(request) {
  const { verifier, state, nonce } = begun;
  const checks = { pkceCodeVerifier: verifier, expectedState: state, expectedNonce: nonce };
  tokens = await oidc.authorizationCodeGrant(config, request, { ...checks, idTokenExpected: true });
  const claims = tokens.claims();
  const user = await oidc.fetchUserInfo(config, tokens.access_token, claims.sub);
  return `${user.preferred_username} <${user.email}>`;
}

function logout(parameters) {
  const hint = parameters.get("hint") === "no" ? {} : { id_token_hint: tokens.id_token };
  const back = { post_logout_redirect_uri: `${site}/` };
  return oidc.buildEndSessionUrl(config, { ...hint, ...back, client_id: CLIENT_ID });
}

async function answer(incoming, response) {
  const url = new URL(incoming.url, site);
  const go = (to) => response.writeHead(302, { location: to.href }).end();
  const show = (text) => response.writeHead(200, { "content-type": "text/html" }).end(page(text));
  config ??= await configured();
  if (url.pathname === "/login") return go(await login(url.searchParams));
  if (url.pathname === "/logout") return go(logout(url.searchParams));
  if (url.pathname !== "/callback") return show("nobody");
  const body = incoming.method === "POST" ? Buffer.concat(await incoming.toArray()) : undefined;
  const headers = { "content-type": incoming.headers["content-type"] ?? "text/plain" };
  const request = body ? new Request(url, { method: "POST", headers, body }) : url;
  return show(await callback(request));
}

const server = createServer((incoming, response) => {
  answer(incoming, response).catch((error) => {
    response.writeHead(200, { "content-type": "text/html" });
    response.end(page(`error: ${error.error ?? error.message}`));
  });
});
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const site = `http://127.0.0.1:${server.address().port}`;
console.log(site);
