// Drives the Admin REST API through @keycloak/keycloak-admin-client, the client library of npm.
//
// How to run, against any identity provider with an administrator of the master realm:
//
//     npm install @keycloak/keycloak-admin-client@26.7.4
//     IRIS_URL=http://127.0.0.1:8180/auth IRIS_USER=admin IRIS_PASSWORD=... node admin.mjs
//
// It makes one realm, uses it and deletes it again; it exits with 1 at the first thing that is not as
// it should be.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import AdminClient from "@keycloak/keycloak-admin-client";

const realm = `node-${randomUUID().slice(0, 8)}`;
const admin = new AdminClient({
  baseUrl: process.env.IRIS_URL ?? "http://127.0.0.1:8180/auth",
  realmName: "master",
});
const login = () =>
  admin.auth({
    grantType: "password",
    clientId: "admin-cli",
    username: process.env.IRIS_USER ?? "admin",
    password: process.env.IRIS_PASSWORD,
  });
const refused = (promise, status) =>
  assert.rejects(promise, (error) => {
    assert.equal(error.response?.status, status, error);
    return true;
  });
const names = (list) => list.map((one) => one.name);

async function realms() {
  const made = await admin.realms.create({ realm, enabled: true });
  assert.equal(made.realmName, realm);
  await refused(admin.realms.create({ realm }), 409);
  assert.ok((await admin.realms.find()).some((one) => one.realm === realm));
  const found = await admin.realms.findOne({ realm });
  await admin.realms.update({ realm }, { ...found, displayName: "Node" });
  assert.equal((await admin.realms.findOne({ realm })).displayName, "Node");
  assert.equal(await admin.realms.findOne({ realm: "nosuch" }), null);
  assert.match((await admin.serverInfo.find()).systemInfo.version, /^26\./);
}

async function groups() {
  const top = await admin.groups.create({ name: "top" });
  const child = await admin.groups.createChildGroup({ id: top.id }, { name: "child" });
  assert.deepEqual(names(await admin.groups.find()), ["top"]);
  assert.equal((await admin.groups.count()).count, 2);
  assert.deepEqual(names(await admin.groups.listSubGroups({ parentId: top.id })), ["child"]);
  await admin.groups.update({ id: child.id }, { name: "kid", attributes: { a: ["1"] } });
  assert.equal((await admin.groups.findOne({ id: child.id })).path, "/top/kid");
  const role = await admin.roles.create({ name: "group-role" });
  const full = await admin.roles.findOneByName({ name: role.roleName });
  await admin.groups.addRealmRoleMappings({ id: top.id, roles: [full] });
  assert.deepEqual(names(await admin.groups.listRealmRoleMappings({ id: top.id })), ["group-role"]);
  await admin.groups.delRealmRoleMappings({ id: top.id, roles: [full] });
  const user = await admin.users.create({ username: "member", groups: ["/top/kid"] });
  assert.equal((await admin.groups.listMembers({ id: child.id })).length, 1);
  assert.deepEqual(names(await admin.users.listGroups({ id: user.id })), ["kid"]);
  await admin.users.delFromGroup({ id: user.id, groupId: child.id });
  await admin.users.addToGroup({ id: user.id, groupId: top.id });
  await admin.groups.del({ id: top.id });
  assert.deepEqual(await admin.users.listGroups({ id: user.id }), []);
  await admin.users.del({ id: user.id });
}

async function users() {
  const user = await admin.users.create({
    username: "anna",
    email: "anna@example.com",
    firstName: "Anna",
    enabled: true,
    attributes: { team: ["red"] },
    credentials: [{ type: "password", value: "secret", temporary: false }],
  });
  await refused(admin.users.create({ username: "anna" }), 409);
  assert.equal((await admin.users.find({ search: "ann" })).length, 1);
  assert.equal((await admin.users.find({ q: "team:red" })).length, 1);
  assert.equal((await admin.users.find({ q: "team:blue" })).length, 0);
  assert.equal(await admin.users.count({ firstName: "nna" }), 1);
  await admin.users.update({ id: user.id }, { lastName: "Last" });
  assert.equal((await admin.users.findOne({ id: user.id })).lastName, "Last");
  await admin.users.resetPassword({
    id: user.id,
    credential: { type: "password", value: "other", temporary: false },
  });
  const [credential] = await admin.users.getCredentials({ id: user.id });
  await admin.users.updateCredentialLabel(
    { id: user.id, credentialId: credential.id },
    "my password",
  );
  assert.equal((await admin.users.getCredentials({ id: user.id }))[0].userLabel, "my password");
  assert.deepEqual(await admin.users.listConsents({ id: user.id }), []);
  assert.deepEqual(await admin.users.listFederatedIdentities({ id: user.id }), []);
  assert.equal(await admin.users.findOne({ id: randomUUID() }), null);
  return user.id;
}

async function roles(userId) {
  await admin.roles.create({ name: "outer" });
  await admin.roles.create({ name: "inner" });
  const outer = await admin.roles.findOneByName({ name: "outer" });
  const inner = await admin.roles.findOneByName({ name: "inner" });
  await admin.roles.createComposite({ roleId: outer.id }, [inner]);
  assert.deepEqual(names(await admin.roles.getCompositeRoles({ id: outer.id })), ["inner"]);
  assert.deepEqual(
    names(await admin.roles.getCompositeRolesForRealm({ id: outer.id })),
    ["inner"],
  );
  await admin.users.addRealmRoleMappings({ id: userId, roles: [outer] });
  const composite = await admin.users.listCompositeRealmRoleMappings({ id: userId });
  assert.ok(names(composite).includes("inner"));
  const available = await admin.users.listAvailableRealmRoleMappings({ id: userId });
  assert.ok(names(available).includes("inner") && !names(available).includes("outer"));
  assert.equal((await admin.roles.findUsersWithRole({ name: "outer" })).length, 1);
  await admin.users.delRealmRoleMappings({ id: userId, roles: [outer] });
  await admin.roles.delCompositeRoles({ id: outer.id }, [inner]);
  await admin.roles.updateById({ id: outer.id }, { name: "outer", description: "d" });
  assert.equal((await admin.roles.findOneById({ id: outer.id })).description, "d");
  await admin.roles.delById({ id: outer.id });
  assert.equal(await admin.roles.findOneByName({ name: "outer" }), null);
}

async function clients(userId) {
  const client = await admin.clients.create({
    clientId: "app",
    serviceAccountsEnabled: true,
    directAccessGrantsEnabled: true,
    secret: "s",
  });
  const id = client.id;
  assert.equal((await admin.clients.find({ clientId: "app" })).length, 1);
  assert.equal((await admin.clients.getClientSecret({ id })).value, "s");
  assert.notEqual((await admin.clients.generateNewClientSecret({ id })).value, "s");
  await admin.clients.update({ id }, { clientId: "app", secret: "s2" });
  await admin.clients.createRole({ id, name: "reader" });
  const reader = await admin.clients.findRole({ id, roleName: "reader" });
  await admin.users.addClientRoleMappings({ id: userId, clientUniqueId: id, roles: [reader] });
  const mapped = await admin.users.listClientRoleMappings({ id: userId, clientUniqueId: id });
  assert.deepEqual(names(mapped), ["reader"]);
  assert.equal((await admin.clients.findUsersWithRole({ id, roleName: "reader" })).length, 1);
  const everything = await admin.users.listRoleMappings({ id: userId });
  assert.ok(everything.clientMappings.app);
  await admin.clients.addProtocolMapper(
    { id },
    {
      name: "groups",
      protocol: "openid-connect",
      protocolMapper: "oidc-group-membership-mapper",
      config: { "claim.name": "groups", "access.token.claim": "true" },
    },
  );
  const mappers = await admin.clients.listProtocolMappers({ id });
  const mapper = mappers.find((one) => one.name === "groups");
  await admin.clients.updateProtocolMapper({ id, mapperId: mapper.id }, mapper);
  await admin.clients.delProtocolMapper({ id, mapperId: mapper.id });
  const service = await admin.clients.getServiceAccountUser({ id });
  assert.equal(service.username, "service-account-app");
  const evaluated = await admin.clients.evaluateListProtocolMapper({ id, scope: "openid" });
  assert.ok(evaluated.some((one) => one.mapperName === "full name"));
  const token = await admin.clients.evaluateGenerateAccessToken({
    id,
    userId,
    scope: "openid",
    audience: "",
  });
  assert.equal(token.preferred_username, "anna");
  assert.equal((await admin.clients.getSessionCount({ id })).count, 0);
  assert.equal((await admin.clients.getOfflineSessionCount({ id })).count, 0);
  return id;
}

async function scopes(client) {
  const made = await admin.clientScopes.create({ name: "extra", protocol: "openid-connect" });
  const id = made.id;
  await admin.clientScopes.addProtocolMapper(
    { id },
    {
      name: "fixed",
      protocol: "openid-connect",
      protocolMapper: "oidc-hardcoded-claim-mapper",
      config: { "claim.name": "fixed", "claim.value": "1", "access.token.claim": "true" },
    },
  );
  assert.equal((await admin.clientScopes.listProtocolMappers({ id })).length, 1);
  await admin.clientScopes.addDefaultClientScope({ id });
  assert.ok(names(await admin.clientScopes.listDefaultClientScopes()).includes("extra"));
  await admin.clientScopes.delDefaultClientScope({ id });
  await admin.clientScopes.addDefaultOptionalClientScope({ id });
  await admin.clientScopes.delDefaultOptionalClientScope({ id });
  await admin.clients.addOptionalClientScope({ id: client, clientScopeId: id });
  assert.ok(names(await admin.clients.listOptionalClientScopes({ id: client })).includes("extra"));
  await admin.clients.delOptionalClientScope({ id: client, clientScopeId: id });
  const role = await admin.roles.findOneByName({ name: "inner" });
  await admin.clientScopes.addRealmScopeMappings({ id }, [role]);
  assert.deepEqual(names(await admin.clientScopes.listRealmScopeMappings({ id })), ["inner"]);
  await admin.clientScopes.delRealmScopeMappings({ id }, [role]);
  await admin.clientScopes.del({ id });
}

async function sessions(userId, client) {
  const url = `${admin.baseUrl}/realms/${realm}/protocol/openid-connect/token`;
  const body = new URLSearchParams({
    grant_type: "password",
    client_id: "app",
    client_secret: "s2",
    username: "anna",
    password: "other",
  });
  const signIn = () => fetch(url, { method: "POST", body });
  assert.equal((await signIn()).status, 200);
  assert.equal((await admin.users.listSessions({ id: userId })).length, 1);
  const [session] = await admin.clients.listSessions({ id: client });
  assert.equal(session.username, "anna");
  const stats = await admin.realms.getClientSessionStats({ realm });
  assert.deepEqual(stats.map((one) => [one.clientId, one.active]), [["app", "1"]]);
  await admin.realms.deleteSession({ realm, session: session.id, isOffline: false });
  assert.equal((await admin.users.listSessions({ id: userId })).length, 0);
  assert.equal((await signIn()).status, 200);
  await admin.users.logout({ id: userId });
  assert.equal((await admin.clients.getSessionCount({ id: client })).count, 0);
  await admin.realms.logoutAll({ realm });
}

async function eventsAndKeys() {
  await admin.realms.updateConfigEvents(
    { realm },
    { eventsEnabled: true, adminEventsEnabled: true, adminEventsDetailsEnabled: true },
  );
  assert.equal((await admin.realms.getConfigEvents({ realm })).eventsEnabled, true);
  await admin.roles.create({ name: "seen" });
  const found = await admin.realms.findAdminEvents({ realm, operationTypes: ["CREATE"] });
  assert.deepEqual(found.map((one) => one.resourcePath), ["roles/seen"]);
  assert.match(found[0].representation, /seen/);
  await admin.realms.clearAdminEvents({ realm });
  await admin.realms.clearEvents({ realm });
  assert.deepEqual(await admin.realms.findEvents({ realm }), []);
  const keys = await admin.realms.getKeys({ realm });
  assert.ok(keys.active.RS256);
  const component = await admin.components.create({
    name: "more",
    providerId: "ecdsa-generated",
    providerType: "org.keycloak.keys.KeyProvider",
    config: { priority: ["100"] },
  });
  assert.ok((await admin.realms.getKeys({ realm })).active.ES256);
  await admin.components.del({ id: component.id });
}

async function transfers() {
  const exported = await admin.realms.export({
    realm,
    exportClients: true,
    exportGroupsAndRoles: true,
  });
  assert.ok(exported.clients.some((one) => one.clientId === "app"));
  const rep = { ifResourceExists: "OVERWRITE", roles: { realm: [{ name: "inner" }] } };
  assert.equal((await admin.realms.partialImport({ realm, rep })).overwritten, 1);
  await refused(
    admin.realms.partialImport({ realm, rep: { ...rep, ifResourceExists: "FAIL" } }),
    409,
  );
  const flows = await admin.authenticationManagement.getFlows();
  assert.ok(flows.some((flow) => flow.alias === "browser"));
  assert.deepEqual(await admin.identityProviders.find(), []);
  assert.deepEqual(await admin.realms.getDefaultGroups({ realm }), []);
  await admin.cache.clearUserCache({ realm });
  await admin.attackDetection.delAll();
}

await login();
await realms();
admin.setConfig({ realmName: realm });
try {
  await groups();
  const user = await users();
  await roles(user);
  const client = await clients(user);
  await scopes(client);
  await sessions(user, client);
  await eventsAndKeys();
  await transfers();
  await admin.clients.del({ id: client });
  await admin.users.del({ id: user });
} finally {
  admin.setConfig({ realmName: "master" });
  await admin.realms.del({ realm });
}
console.log("ok");
