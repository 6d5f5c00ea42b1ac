// Drives the Admin REST API through @keycloak/keycloak-admin-client, the client library of npm.
//
// How to run, against any identity provider with an administrator of the master realm:
//
//     npm ci
//     IRIS_URL=http://127.0.0.1:8180/auth IRIS_USER=admin IRIS_PASSWORD=... node admin.mjs
//
// It makes one realm, uses it and deletes it again; it exits with 1 at the first thing that is not as
// it should be.

import assert from "node:assert/strict";
import * as applications from "./applications.mjs";
import * as people from "./people.mjs";
import * as site from "./realm.mjs";
import { connect, need, realm, refused } from "./support.mjs";

const admin = await connect(need("IRIS_USER"), need("IRIS_PASSWORD"));

async function step(run, ...more) {
  const made = await run(admin, ...more);
  console.log("ok", run.name);
  return made;
}

await step(site.realms);
admin.setConfig({ realmName: realm });
try {
  await step(people.groups);
  const user = await step(people.users);
  const client = await step(applications.clients);
  await step(people.credentials, user);
  await step(people.realmRoles, user);
  await step(people.clientRoles, client, user);
  await step(applications.mappers, client, user);
  await step(applications.scopes, client);
  await step(applications.sessions, client, user);
  await step(applications.bruteForce, user);
  await step(applications.secretRotation);
  await step(site.permissions);
  await step(site.keys);
  await step(site.events);
  await step(site.transfers);
  await step(site.theRest);
  await admin.clients.del({ id: client });
  await refused(admin.clients.del({ id: client }), 404);
  await admin.users.del({ id: user });
} finally {
  admin.setConfig({ realmName: "master" });
  await admin.realms.del({ realm });
}
assert.equal(await admin.realms.findOne({ realm }), null);
console.log("keycloak-admin-client: ok");
