// Groups, users and roles through @keycloak/keycloak-admin-client.

import assert from "node:assert/strict";
import { names, nobody, realm, refused, signIn } from "./support.mjs";

export async function groups(admin) {
  const top = await admin.groups.create({ name: "top" });
  await refused(admin.groups.create({ name: "top" }), 409);
  const child = await admin.groups.createChildGroup({ id: top.id }, { name: "child" });
  assert.deepEqual(names(await admin.groups.find()), ["top"]);
  assert.equal((await admin.groups.count()).count, 2);
  assert.deepEqual(names(await admin.groups.listSubGroups({ parentId: top.id })), ["child"]);
  await admin.groups.update({ id: child.id }, { name: "kid", attributes: { a: ["1"] } });
  const kid = await admin.groups.findOne({ id: child.id });
  assert.deepEqual([kid.path, kid.attributes], ["/top/kid", { a: ["1"] }]);
  assert.equal((await admin.realms.getGroupByPath({ realm, path: "top/kid" })).id, child.id);

  await admin.roles.create({ name: "group-role" });
  const role = await admin.roles.findOneByName({ name: "group-role" });
  await admin.groups.addRealmRoleMappings({ id: top.id, roles: [role] });
  assert.deepEqual(names(await admin.groups.listRealmRoleMappings({ id: top.id })), ["group-role"]);
  const inherited = await admin.groups.listCompositeRealmRoleMappings({ id: child.id });
  assert.deepEqual(names(inherited), ["group-role"]);
  const available = await admin.groups.listAvailableRealmRoleMappings({ id: top.id });
  assert.ok(!names(available).includes("group-role"));
  assert.deepEqual(
    names((await admin.groups.listRoleMappings({ id: top.id })).realmMappings),
    ["group-role"],
  );
  await admin.groups.delRealmRoleMappings({ id: top.id, roles: [role] });
  assert.deepEqual(await admin.groups.listRealmRoleMappings({ id: top.id }), []);

  const [account] = await admin.clients.find({ clientId: "account" });
  const mapping = { id: top.id, clientUniqueId: account.id };
  const reader = await admin.clients.findRole({ id: account.id, roleName: "view-groups" });
  await admin.groups.addClientRoleMappings({ ...mapping, roles: [reader] });
  assert.deepEqual(names(await admin.groups.listClientRoleMappings(mapping)), ["view-groups"]);
  await admin.groups.delClientRoleMappings({ ...mapping, roles: [reader] });
  assert.deepEqual(await admin.groups.listClientRoleMappings(mapping), []);

  const user = await admin.users.create({ username: "member", groups: ["/top/kid"] });
  assert.deepEqual(names(await admin.groups.listMembers({ id: child.id }), "username"), ["member"]);
  assert.deepEqual(names(await admin.users.listGroups({ id: user.id })), ["kid"]);
  assert.equal((await admin.users.countGroups({ id: user.id })).count, 1);
  await admin.users.delFromGroup({ id: user.id, groupId: child.id });
  await admin.users.addToGroup({ id: user.id, groupId: top.id });
  assert.deepEqual(names(await admin.users.listGroups({ id: user.id })), ["top"]);
  await admin.realms.addDefaultGroup({ realm, id: top.id });
  assert.deepEqual(names(await admin.realms.getDefaultGroups({ realm })), ["top"]);
  await admin.realms.removeDefaultGroup({ realm, id: top.id });
  assert.deepEqual(await admin.realms.getDefaultGroups({ realm }), []);
  await admin.groups.del({ id: top.id });
  await refused(admin.groups.del({ id: top.id }), 404);
  assert.equal(await admin.groups.findOne({ id: child.id }), null);
  assert.deepEqual(await admin.users.listGroups({ id: user.id }), []);
  await admin.users.del({ id: user.id });
  await admin.roles.delByName({ name: "group-role" });
}

export async function users(admin) {
  const anna = {
    username: "anna",
    email: "anna@example.com",
    firstName: "Anna",
    enabled: true,
    attributes: { team: ["red"] },
    credentials: [{ type: "password", value: "secret", temporary: false }],
  };
  const { id } = await admin.users.create(anna);
  await refused(admin.users.create(anna), 409, "User exists with same username");
  await refused(admin.users.create({}), 400, "User name is missing");
  assert.deepEqual(names(await admin.users.find({ search: "ann" }), "id"), [id]);
  assert.equal((await admin.users.find({ q: "team:red" })).length, 1);
  assert.equal((await admin.users.find({ q: "team:blue" })).length, 0);
  assert.equal((await admin.users.find({ username: "ann", exact: true })).length, 0);
  assert.equal((await admin.users.find({ first: 1, max: 10 })).length, 0);
  assert.equal(await admin.users.count({ firstName: "nna" }), 1);
  await admin.users.update({ id }, { lastName: "Last", attributes: { team: ["blue"] } });
  const found = await admin.users.findOne({ id });
  assert.deepEqual([found.firstName, found.lastName, found.attributes], ["Anna", "Last", { team: ["blue"] }]);
  assert.deepEqual(await admin.users.listConsents({ id }), []);
  assert.deepEqual(await admin.users.listFederatedIdentities({ id }), []);
  assert.ok(names((await admin.users.getProfile()).attributes).includes("email"));
  assert.equal(await admin.users.findOne({ id: nobody }), null);
  await refused(admin.users.update({ id: nobody }, { lastName: "x" }), 404);
  await refused(admin.users.del({ id: nobody }), 404);
  return id;
}

// Needs the client `app`.
export async function credentials(admin, id) {
  const set = (value, temporary) =>
    admin.users.resetPassword({ id, credential: { type: "password", value, temporary } });
  await set("first", true);
  assert.deepEqual((await admin.users.findOne({ id })).requiredActions, ["UPDATE_PASSWORD"]);
  assert.match((await signIn("first")).error_description, /not fully set up/);
  await set("other", false);
  assert.equal((await signIn("first")).error, "invalid_grant");
  assert.equal((await signIn("other")).status, 200);
  await refused(set("", false), 400, "No password provided");
  const [credential] = await admin.users.getCredentials({ id });
  await admin.users.updateCredentialLabel({ id, credentialId: credential.id }, "my password");
  assert.equal((await admin.users.getCredentials({ id }))[0].userLabel, "my password");
  await admin.users.deleteCredential({ id, credentialId: credential.id });
  assert.deepEqual(await admin.users.getCredentials({ id }), []);
  assert.equal((await signIn("other")).status, 401);
  await set("other", false);
  await admin.users.logout({ id });
}

export async function realmRoles(admin, userId) {
  await admin.roles.create({ name: "outer" });
  await admin.roles.create({ name: "inner" });
  await refused(admin.roles.create({ name: "outer" }), 409, "Role with name outer already exists");
  const outer = await admin.roles.findOneByName({ name: "outer" });
  const inner = await admin.roles.findOneByName({ name: "inner" });
  assert.deepEqual(names(await admin.roles.find({ search: "oute" })), ["outer"]);
  await admin.roles.createComposite({ roleId: outer.id }, [inner]);
  assert.deepEqual(names(await admin.roles.getCompositeRoles({ id: outer.id })), ["inner"]);
  assert.deepEqual(names(await admin.roles.getCompositeRolesForRealm({ id: outer.id })), ["inner"]);
  await admin.users.addRealmRoleMappings({ id: userId, roles: [outer] });
  assert.ok(names(await admin.users.listRealmRoleMappings({ id: userId })).includes("outer"));
  const composite = await admin.users.listCompositeRealmRoleMappings({ id: userId });
  assert.ok(names(composite).includes("inner"));
  const available = names(await admin.users.listAvailableRealmRoleMappings({ id: userId }));
  assert.ok(available.includes("inner") && !available.includes("outer"));
  assert.deepEqual(names(await admin.roles.findUsersWithRole({ name: "outer" }), "id"), [userId]);
  await admin.users.delRealmRoleMappings({ id: userId, roles: [outer] });
  assert.deepEqual(await admin.roles.findUsersWithRole({ name: "outer" }), []);
  await admin.roles.delCompositeRoles({ id: outer.id }, [inner]);
  assert.deepEqual(await admin.roles.getCompositeRoles({ id: outer.id }), []);
  await admin.roles.updateById({ id: outer.id }, { name: "outer", description: "d" });
  assert.equal((await admin.roles.findOneById({ id: outer.id })).description, "d");
  await admin.roles.updateByName({ name: "outer" }, { name: "outer", description: "e" });
  assert.equal((await admin.roles.findOneByName({ name: "outer" })).description, "e");
  // A name with a slash, which the library encodes.
  await admin.roles.create({ name: "team/reader" });
  assert.equal((await admin.roles.findOneByName({ name: "team/reader" })).name, "team/reader");
  await admin.roles.delByName({ name: "team/reader" });
  await admin.roles.delById({ id: outer.id });
  assert.equal(await admin.roles.findOneByName({ name: "outer" }), null);
  await refused(admin.roles.delByName({ name: "outer" }), 404);
}

export async function clientRoles(admin, id, userId) {
  await admin.clients.createRole({ id, name: "reader" });
  await admin.clients.createRole({ id, name: "writer" });
  await refused(admin.clients.createRole({ id, name: "reader" }), 409);
  assert.deepEqual(names(await admin.clients.listRoles({ id })), ["reader", "writer"]);
  await admin.clients.updateRole({ id, roleName: "writer" }, { name: "writer", description: "d" });
  const reader = await admin.clients.findRole({ id, roleName: "reader" });
  const writer = await admin.clients.findRole({ id, roleName: "writer" });
  assert.equal(writer.description, "d");
  await admin.roles.createComposite({ roleId: writer.id }, [reader]);
  const inside = { id: writer.id, clientId: id };
  assert.deepEqual(names(await admin.roles.getCompositeRolesForClient(inside)), ["reader"]);
  const mapping = { id: userId, clientUniqueId: id };
  await admin.users.addClientRoleMappings({ ...mapping, roles: [writer] });
  assert.deepEqual(names(await admin.users.listClientRoleMappings(mapping)), ["writer"]);
  const effective = await admin.users.listCompositeClientRoleMappings(mapping);
  assert.deepEqual(names(effective), ["reader", "writer"]);
  assert.deepEqual(names(await admin.users.listAvailableClientRoleMappings(mapping)), ["reader"]);
  const holders = await admin.clients.findUsersWithRole({ id, roleName: "writer" });
  assert.deepEqual(names(holders, "id"), [userId]);
  assert.ok((await admin.users.listRoleMappings({ id: userId })).clientMappings.app);
  const access = (await signIn("other")).access_token;
  assert.deepEqual(claimedRoles(access), ["reader", "writer"]);
  await admin.users.delClientRoleMappings({ ...mapping, roles: [writer] });
  assert.deepEqual(await admin.users.listClientRoleMappings(mapping), []);
  await admin.clients.delRole({ id, roleName: "writer" });
  assert.equal(await admin.clients.findRole({ id, roleName: "writer" }), null);
  await refused(admin.clients.delRole({ id, roleName: "writer" }), 404);
  await admin.users.logout({ id: userId });
}

const claimedRoles = (jwt) => {
  const payload = JSON.parse(Buffer.from(jwt.split(".")[1], "base64url"));
  return payload.resource_access.app.roles.sort();
};
