// Clients, protocol mappers, client scopes and sessions through @keycloak/keycloak-admin-client.

import assert from "node:assert/strict";
import { claims, names, nobody, realm, refused, signIn, token } from "./support.mjs";

const FIXED = {
  name: "fixed",
  protocol: "openid-connect",
  protocolMapper: "oidc-hardcoded-claim-mapper",
  config: { "claim.name": "fixed", "claim.value": "1", "access.token.claim": "true" },
};
const machine = (scope) => token({ grant_type: "client_credentials", ...(scope && { scope }) });
const fixed = async (scope) => claims((await machine(scope)).access_token).fixed;

export async function clients(admin) {
  const app = {
    clientId: "app",
    serviceAccountsEnabled: true,
    directAccessGrantsEnabled: true,
    fullScopeAllowed: true,
    secret: "s",
  };
  const { id } = await admin.clients.create(app);
  await refused(admin.clients.create(app), 409, "Client app already exists");
  await refused(admin.clients.create({ clientId: "bad", rootUrl: "javascript:x" }), 400, "invalid_input");
  assert.deepEqual(names(await admin.clients.find({ clientId: "app" }), "id"), [id]);
  assert.deepEqual(await admin.clients.find({ clientId: "App" }), []);
  assert.equal((await admin.clients.find({ first: 0, max: 2 })).length, 2);
  assert.equal((await admin.clients.getClientSecret({ id })).value, "s");
  assert.notEqual((await admin.clients.generateNewClientSecret({ id })).value, "s");
  await admin.clients.update({ id }, { clientId: "app", secret: "s2", name: "App" });
  const found = await admin.clients.findOne({ id });
  assert.deepEqual([found.name, found.secret], ["App", "s2"]);
  const service = await admin.clients.getServiceAccountUser({ id });
  assert.equal(service.username, "service-account-app");
  assert.equal(claims((await machine()).access_token).sub, service.id);
  assert.equal(await admin.clients.findOne({ id: nobody }), null);
  await refused(admin.clients.update({ id: nobody }, { clientId: "x" }), 404);
  await refused(admin.clients.del({ id: nobody }), 404);
  return id;
}

export async function mappers(admin, id, userId) {
  await admin.clients.addProtocolMapper({ id }, FIXED);
  await refused(admin.clients.addProtocolMapper({ id }, FIXED), 409);
  const more = [{ ...FIXED, name: "one" }, { ...FIXED, name: "two" }];
  await admin.clients.addMultipleProtocolMappers({ id }, more);
  const found = await admin.clients.listProtocolMappers({ id });
  assert.ok(["fixed", "one", "two"].every((name) => names(found).includes(name)));
  for (const mapper of found.filter((one) => ["one", "two"].includes(one.name))) {
    await admin.clients.delProtocolMapper({ id, mapperId: mapper.id });
  }
  const mapper = found.find((one) => one.name === "fixed");
  const mapperId = mapper.id;
  assert.deepEqual(mapper.config, FIXED.config);
  mapper.config["claim.value"] = "2";
  await admin.clients.updateProtocolMapper({ id, mapperId }, mapper);
  const read = await admin.clients.findProtocolMapperById({ id, mapperId });
  assert.equal(read.config["claim.value"], "2");
  const ours = { id, protocol: "openid-connect" };
  assert.ok(names(await admin.clients.findProtocolMappersByProtocol(ours)).includes("fixed"));
  assert.equal(await fixed(), "2");
  const evaluated = await admin.clients.evaluateListProtocolMapper({ id, scope: "openid" });
  assert.ok(names(evaluated, "mapperName").includes("full name"));
  const request = { id, userId, scope: "openid", audience: "" };
  const access = await admin.clients.evaluateGenerateAccessToken(request);
  assert.deepEqual([access.preferred_username, access.fixed], ["anna", "2"]);
  const idToken = await admin.clients.evaluateGenerateIdToken(request);
  assert.equal(idToken.typ, "ID");
  await admin.clients.delProtocolMapper({ id, mapperId });
  assert.equal(await fixed(), undefined);
  await refused(admin.clients.delProtocolMapper({ id, mapperId }), 404);
}

export async function scopes(admin, client) {
  const extra = { name: "extra", protocol: "openid-connect" };
  const { id } = await admin.clientScopes.create(extra);
  await refused(admin.clientScopes.create(extra), 409);
  await admin.clientScopes.update({ id }, { ...extra, description: "d" });
  assert.equal((await admin.clientScopes.findOne({ id })).description, "d");
  assert.ok(names(await admin.clientScopes.find()).includes("extra"));
  await admin.clientScopes.addProtocolMapper({ id }, FIXED);
  const [mapper] = await admin.clientScopes.listProtocolMappers({ id });
  const mapperId = mapper.id;
  mapper.config["claim.value"] = "3";
  await admin.clientScopes.updateProtocolMapper({ id, mapperId }, mapper);
  const read = await admin.clientScopes.findProtocolMapper({ id, mapperId });
  assert.equal(read.config["claim.value"], "3");

  const defaults = async () => names(await admin.clientScopes.listDefaultClientScopes());
  const optional = async () => names(await admin.clientScopes.listDefaultOptionalClientScopes());
  await admin.clientScopes.addDefaultClientScope({ id });
  assert.ok((await defaults()).includes("extra"));
  await admin.clientScopes.delDefaultClientScope({ id });
  assert.ok(!(await defaults()).includes("extra"));
  await admin.clientScopes.addDefaultOptionalClientScope({ id });
  assert.ok((await optional()).includes("extra"));
  await admin.clientScopes.delDefaultOptionalClientScope({ id });
  assert.ok(!(await optional()).includes("extra"));

  const assigned = { id: client, clientScopeId: id };
  await admin.clients.addOptionalClientScope(assigned);
  assert.ok(names(await admin.clients.listOptionalClientScopes({ id: client })).includes("extra"));
  assert.deepEqual([await fixed(), await fixed("openid extra")], [undefined, "3"]);
  await admin.clients.delOptionalClientScope(assigned);
  assert.equal((await machine("extra")).error, "invalid_scope");
  await admin.clients.addDefaultClientScope(assigned);
  assert.ok(names(await admin.clients.listDefaultClientScopes({ id: client })).includes("extra"));
  assert.equal(await fixed(), "3");
  await admin.clients.delDefaultClientScope(assigned);

  const inner = await admin.roles.findOneByName({ name: "inner" });
  await admin.clientScopes.addRealmScopeMappings({ id }, [inner]);
  assert.deepEqual(names(await admin.clientScopes.listRealmScopeMappings({ id })), ["inner"]);
  const left = await admin.clientScopes.listAvailableRealmScopeMappings({ id });
  assert.ok(!names(left).includes("inner"));
  await admin.clientScopes.delRealmScopeMappings({ id }, [inner]);
  await admin.clients.addRealmScopeMappings({ id: client }, [inner]);
  assert.deepEqual(names(await admin.clients.listRealmScopeMappings({ id: client })), ["inner"]);
  await admin.clients.delRealmScopeMappings({ id: client }, [inner]);
  const [account] = await admin.clients.find({ clientId: "account" });
  const role = await admin.clients.findRole({ id: account.id, roleName: "view-groups" });
  const mapping = { id, client: account.id };
  await admin.clientScopes.addClientScopeMappings(mapping, [role]);
  assert.deepEqual(names(await admin.clientScopes.listClientScopeMappings(mapping)), ["view-groups"]);
  assert.ok((await admin.clientScopes.listScopeMappings({ id })).clientMappings.account);
  await admin.clientScopes.delClientScopeMappings(mapping, [role]);
  assert.deepEqual(await admin.clientScopes.listClientScopeMappings(mapping), []);

  await admin.clientScopes.delProtocolMapper({ id, mapperId });
  assert.deepEqual(await admin.clientScopes.listProtocolMappers({ id }), []);
  await admin.clientScopes.del({ id });
  assert.equal(await admin.clientScopes.findOne({ id }), null);
  await refused(admin.clientScopes.del({ id }), 404);
}

export async function sessions(admin, client, userId) {
  const count = async () => (await admin.clients.getSessionCount({ id: client })).count;
  assert.deepEqual([await count(), (await admin.clients.getOfflineSessionCount({ id: client })).count], [0, 0]);
  const { session_state: opened } = await signIn("other");
  assert.deepEqual(names(await admin.users.listSessions({ id: userId }), "id"), [opened]);
  const [session] = await admin.clients.listSessions({ id: client });
  assert.deepEqual([session.id, session.username], [opened, "anna"]);
  const stats = await admin.realms.getClientSessionStats({ realm });
  assert.deepEqual(stats.map((one) => [one.clientId, one.active]), [["app", "1"]]);
  await admin.realms.deleteSession({ realm, session: opened, isOffline: false });
  assert.deepEqual(await admin.users.listSessions({ id: userId }), []);
  await refused(admin.realms.deleteSession({ realm, session: opened, isOffline: false }), 404);
  const { refresh_token } = await signIn("other");
  assert.equal(await count(), 1);
  await admin.users.logout({ id: userId });
  assert.equal(await count(), 0);
  const over = await token({ grant_type: "refresh_token", refresh_token });
  assert.deepEqual([over.status, over.error], [400, "invalid_grant"]);
  await signIn("other");
  await admin.realms.logoutAll({ realm });
  assert.equal(await count(), 0);
}

export async function bruteForce(admin, id) {
  const protection = { bruteForceProtected: true, failureFactor: 2, quickLoginCheckMilliSeconds: 0 };
  await admin.realms.update({ realm }, protection);
  for (let round = 0; round < 2; round += 1) assert.equal((await signIn("wrong")).status, 401);
  assert.equal((await signIn("other")).status, 401);
  const status = await admin.attackDetection.findOne({ id });
  assert.deepEqual([status.disabled, status.numFailures], [true, 2]);
  await admin.attackDetection.del({ id });
  assert.equal((await admin.attackDetection.findOne({ id })).disabled, false);
  assert.equal((await signIn("other")).status, 200);
  assert.equal((await signIn("wrong")).status, 401);
  await admin.attackDetection.delAll();
  assert.equal((await admin.attackDetection.findOne({ id })).numFailures, 0);
  await admin.realms.update({ realm }, { bruteForceProtected: false });
}

export async function secretRotation(admin) {
  const executor = {
    executor: "secret-rotation",
    configuration: {
      "expiration-period": 1000,
      "rotated-expiration-period": 100,
      "remaining-rotation-period": 10,
    },
  };
  const profiles = [{ name: "rotation", executors: [executor] }];
  await admin.clientPolicies.createProfiles({ profiles });
  assert.deepEqual((await admin.clientPolicies.listProfiles({})).profiles[0].executors, [executor]);
  const condition = {
    condition: "client-attributes",
    configuration: { attributes: '[{"key":"rotate","value":"true"}]' },
  };
  const policy = { name: "rotating", enabled: true, conditions: [condition], profiles: ["rotation"] };
  await admin.clientPolicies.updatePolicy({ policies: [policy] });
  const listed = await admin.clientPolicies.listPolicies({});
  assert.deepEqual(names(listed.policies), ["rotating"]);
  const wrong = { ...policy, profiles: ["nosuch"] };
  await refused(admin.clientPolicies.updatePolicy({ policies: [wrong] }), 400);
  const { id } = await admin.clients.create({
    clientId: "rotating",
    serviceAccountsEnabled: true,
    secret: "one",
    attributes: { rotate: "true" },
  });
  const { value } = await admin.clients.generateNewClientSecret({ id });
  const status = async (client_secret) =>
    (await token({ grant_type: "client_credentials", client_id: "rotating", client_secret })).status;
  assert.deepEqual([await status(value), await status("one")], [200, 200]);
  await admin.clients.invalidateSecret({ id });
  assert.deepEqual([await status(value), await status("one")], [200, 401]);
  await admin.clients.del({ id });
  await admin.clientPolicies.updatePolicy({ policies: [] });
  await admin.clientPolicies.createProfiles({ profiles: [] });
}
