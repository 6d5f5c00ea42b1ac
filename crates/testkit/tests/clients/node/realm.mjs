// Realms, permissions, keys, events and transfers through @keycloak/keycloak-admin-client.

import assert from "node:assert/strict";
import { claims, connect, names, nobody, realm, refused, signIn, token } from "./support.mjs";

const KEYS = "org.keycloak.keys.KeyProvider";

export async function realms(admin) {
  const made = await admin.realms.create({ realm, enabled: true });
  assert.equal(made.realmName, realm);
  await refused(admin.realms.create({ realm }), 409, `Realm ${realm} already exists`);
  await refused(admin.realms.create({ realm: "r", nosuch: 1 }), 400, "Unrecognized field");
  assert.ok(names(await admin.realms.find(), "realm").includes(realm));
  const found = await admin.realms.findOne({ realm });
  await admin.realms.update({ realm }, { ...found, displayName: "Node" });
  assert.deepEqual(await admin.realms.findOne({ realm }), { ...found, displayName: "Node" });
  assert.equal(await admin.realms.findOne({ realm: "nosuch" }), null);
  await refused(admin.realms.update({ realm: "nosuch" }, { displayName: "x" }), 404);
  await refused(admin.realms.del({ realm: "nosuch" }), 404, "Realm not found");
  assert.match((await admin.serverInfo.find()).systemInfo.version, /^26\./);
}

export async function permissions(admin) {
  const { id } = await admin.users.create({
    username: "helper",
    enabled: true,
    credentials: [{ type: "password", value: "pw" }],
  });
  await refused((await connect("helper", "pw", realm)).users.find(), 403);
  const [management] = await admin.clients.find({ clientId: "realm-management" });
  const role = await admin.clients.findRole({ id: management.id, roleName: "view-users" });
  await admin.users.addClientRoleMappings({ id, clientUniqueId: management.id, roles: [role] });
  const helper = await connect("helper", "pw", realm);
  assert.ok(names(await helper.users.find(), "username").includes("helper"));
  await refused(helper.users.create({ username: "more" }), 403);
  await refused(helper.users.del({ id }), 403);
  await refused(helper.clients.find(), 403);
  await refused(helper.realms.update({ realm }, { displayName: "x" }), 403);
  helper.setAccessToken("garbage");
  await refused(helper.users.find(), 401);
  await assert.rejects(connect("helper", "wrong", realm), (error) => error.response?.status === 401);
  await admin.users.del({ id });
}

export async function keys(admin) {
  const active = async () => (await admin.realms.getKeys({ realm })).active;
  const before = await active();
  assert.ok(before.RS256 && !before.ES256);
  const provider = { name: "more", providerType: KEYS };
  const { id } = await admin.components.create({
    ...provider,
    providerId: "ecdsa-generated",
    config: { priority: ["100"] },
  });
  assert.ok((await active()).ES256);
  assert.deepEqual(names(await admin.components.find({ name: "more", type: KEYS }), "id"), [id]);
  await admin.realms.update({ realm }, { defaultSignatureAlgorithm: "ES256" });
  const issued = await token({ grant_type: "client_credentials" });
  const header = JSON.parse(Buffer.from(issued.access_token.split(".")[0], "base64url"));
  assert.deepEqual([header.alg, header.kid], ["ES256", (await active()).ES256]);
  assert.equal(claims(issued.access_token).azp, "app");
  await admin.realms.update({ realm }, { defaultSignatureAlgorithm: "RS256" });
  const component = await admin.components.findOne({ id });
  await admin.components.update({ id }, { ...component, config: { ...component.config, active: ["false"] } });
  assert.ok(!(await active()).ES256);
  await admin.components.del({ id });
  assert.equal(await admin.components.findOne({ id }), null);
  await refused(admin.components.del({ id: nobody }), 404);
  await refused(admin.components.create({ ...provider, providerId: "nosuch" }), 400);
}

export async function events(admin) {
  const config = { eventsEnabled: true, adminEventsEnabled: true, adminEventsDetailsEnabled: true };
  await admin.realms.updateConfigEvents({ realm }, config);
  assert.equal((await admin.realms.getConfigEvents({ realm })).eventsEnabled, true);
  await signIn("other");
  await signIn("wrong");
  const find = (type) => admin.realms.findEvents({ realm, type });
  assert.deepEqual((await find("LOGIN")).map((one) => one.clientId), ["app"]);
  assert.deepEqual(names(await find("LOGIN_ERROR"), "error"), ["invalid_user_credentials"]);
  await admin.roles.create({ name: "seen" });
  const made = await admin.realms.findAdminEvents({ realm, operationTypes: ["CREATE"] });
  assert.deepEqual(names(made, "resourcePath"), ["roles/seen"]);
  assert.match(made[0].representation, /seen/);
  await admin.realms.clearEvents({ realm });
  assert.deepEqual(await admin.realms.findEvents({ realm }), []);
  await admin.realms.clearAdminEvents({ realm });
  // All that is left is who cleared them.
  const left = await admin.realms.findAdminEvents({ realm });
  assert.deepEqual(left.map((one) => [one.operationType, one.resourcePath]), [["DELETE", "admin-events"]]);
  await admin.roles.delByName({ name: "seen" });
}

export async function transfers(admin) {
  const exported = await admin.realms.export({ realm, exportClients: true, exportGroupsAndRoles: true });
  const app = exported.clients.find((one) => one.clientId === "app");
  assert.equal(app.secret, "**********");
  const rep = { ifResourceExists: "OVERWRITE", roles: { realm: [{ name: "inner" }] } };
  assert.equal((await admin.realms.partialImport({ realm, rep })).overwritten, 1);
  await refused(admin.realms.partialImport({ realm, rep: { ...rep, ifResourceExists: "FAIL" } }), 409);
  const copy = `${realm}-copy`;
  await admin.realms.create(withoutIds({ ...exported, realm: copy }));
  try {
    const found = await admin.clients.find({ realm: copy });
    assert.deepEqual(names(found, "clientId"), names(exported.clients, "clientId"));
    const roles = await admin.roles.find({ realm: copy });
    assert.deepEqual(names(roles), names(exported.roles.realm));
  } finally {
    await admin.realms.del({ realm: copy });
  }
}

const IDS = ["id", "containerId", "_id"];
const withoutIds = (value) => {
  if (Array.isArray(value)) return value.map(withoutIds);
  if (value === null || typeof value !== "object") return value;
  const kept = Object.entries(value).filter(([name]) => !IDS.includes(name));
  return Object.fromEntries(kept.map(([name, inner]) => [name, withoutIds(inner)]));
};

export async function theRest(admin) {
  const flows = await admin.authenticationManagement.getFlows();
  assert.ok(names(flows, "alias").includes("browser"));
  const actions = await admin.authenticationManagement.getRequiredActions();
  assert.ok(names(actions, "alias").includes("UPDATE_PASSWORD"));
  assert.deepEqual(await admin.identityProviders.find(), []);
  await admin.cache.clearUserCache({ realm });
}
