// What the scripts of @keycloak/keycloak-admin-client share.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import AdminClient from "@keycloak/keycloak-admin-client";

export const need = (name) => {
  const value = process.env[name];
  assert.ok(value, `${name} is not set`);
  return value;
};
export const baseUrl = need("IRIS_URL");
export const realm = `node-${randomUUID().slice(0, 8)}`;
export const nobody = randomUUID();

// A client of the library; it signs in at a realm, the master realm unless told otherwise.
export async function connect(username, password, at = "master") {
  const client = new AdminClient({ baseUrl, realmName: at });
  await client.auth({ grantType: "password", clientId: "admin-cli", username, password });
  return client;
}

// The library turns an answer that is no success into an error with the response.
export const refused = (promise, status, text = "") =>
  assert.rejects(promise, (error) => {
    assert.equal(error.response?.status, status, error);
    assert.match(JSON.stringify(error.responseData ?? ""), new RegExp(text));
    return true;
  });

export const names = (list, member = "name") => list.map((one) => one[member]).sort();

// An answer of the token endpoint to the client `app`.
export async function token(fields) {
  const url = `${baseUrl}/realms/${realm}/protocol/openid-connect/token`;
  const body = new URLSearchParams({ client_id: "app", client_secret: "s2", ...fields });
  const reply = await fetch(url, { method: "POST", body });
  return { status: reply.status, ...(await reply.json()) };
}
export const signIn = (password) => token({ grant_type: "password", username: "anna", password });
export const claims = (jwt) => JSON.parse(Buffer.from(jwt.split(".")[1], "base64url"));
