//! Many realms and clients, quickly: a few are made through the Admin REST API, and the database
//! multiplies their rows. A realm's keys alone take a tenth of a second to make.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::server::Server;
use crate::scale::node::command;
use crate::scale::table::Table;

/// How much there is: half of the clients are in one realm, which has as many people, too.
#[derive(Clone, Copy)]
pub(super) struct Size {
    pub(super) realms: usize,
    pub(super) clients: usize,
}

impl Size {
    /// Clients, and people, of the large realm.
    pub(super) const fn large(self) -> usize {
        self.clients / 2
    }

    /// Clients of each other realm.
    fn small(self) -> usize {
        (self.clients / 2 / self.realms.max(1)).max(1)
    }
}

/// Realm in which much is.
pub(super) const LARGE: &str = "large";
/// Groups and roles there.
pub(super) const GROUPS: usize = 1000;
pub(super) const ROLES: usize = 1000;
/// Realm that is multiplied, and the start of the names of its copies.
const SEED_REALM: &str = "realm-0";
/// Client, person, group and role that are multiplied.
const SEED: &str = "seed-0";
/// A UUID behind its first group, which tells copies apart.
const TAIL: &str = "(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}";

/// Makes everything on an empty database.
pub(super) fn make(program: &Path, database: &str, size: Size, table: &mut Table) -> Result<()> {
    command(program, database, &["migrate", "up"])?;
    let server = Server::start(program, database)?;
    let mut admin = server.admin()?;
    admin.post("", &small_realm(size))?;
    admin.post("", &large_realm())?;
    drop(server);
    let started = Instant::now();
    let input = [
        "\\set ON_ERROR_STOP on\nSET search_path = o28m;\n".to_owned(),
        // The copies are as consistent as what they are copies of.
        "SET session_replication_role = replica;\nSET synchronous_commit = off;\n".to_owned(),
        realms(size),
        seeds(size),
        "VACUUM ANALYZE;\n".to_owned(),
    ];
    let mut psql = Command::new("psql")
        .args(["--quiet", "--no-psqlrc", database])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("cannot run psql")?;
    let mut stdin = psql.stdin.take().context("no standard input")?;
    stdin.write_all(input.concat().as_bytes())?;
    drop(stdin);
    ensure!(psql.wait()?.success(), "psql failed");
    let what = format!("making {} realms, {} clients", size.realms, size.clients);
    table.seconds(what, None, started.elapsed());
    Ok(())
}

fn client(id: &str) -> Value {
    json!({"clientId": id, "secret": "s", "serviceAccountsEnabled": true})
}

fn small_realm(size: Size) -> Value {
    let clients: Vec<_> = (0..size.small())
        .map(|at| client(&format!("app-{at}")))
        .collect();
    json!({"realm": SEED_REALM, "enabled": true, "clients": clients})
}

fn large_realm() -> Value {
    json!({
        "realm": LARGE, "enabled": true, "eventsEnabled": true, "adminEventsEnabled": true,
        "clients": [client(SEED), client("app")],
        "roles": {"realm": [{"name": SEED}]},
        "groups": [{"name": SEED}],
        "users": [{"username": SEED, "enabled": true, "email": "seed-0@example.com",
            "firstName": "First", "lastName": "Last", "groups": ["/seed-0"]}],
    })
}

/// Copies of the rows of `part`, as often as `copies` says; `renew` makes a column that of copy `n`.
fn copies(renew: impl Fn(&str) -> String, owner: &str, copies: &str) -> String {
    let r = renew;
    let from = |table: &str| {
        format!("FROM part p JOIN {table} o USING (kind, id), generate_series(1, {copies}) n;\n")
    };
    format!(
        "INSERT INTO object SELECT o.kind, {id}, {owner}, o.version, {body} {objects}\
         INSERT INTO object_key SELECT o.kind, {id}, {owner}, o.name, {value}, {folded} {keys}\
         INSERT INTO object_reference SELECT o.kind, {id}, o.field, o.target_kind, {target}, o.cascades {references}",
        id = r("o.id"),
        body = r("o.body"),
        value = r("o.value"),
        folded = r("o.folded"),
        target = r("o.target_id"),
        objects = from("object"),
        keys = from("object_key"),
        references = from("object_reference"),
    )
}

const NEW_ID: &str = "lpad(to_hex(n), 8, '0')";

/// The seed realm as often as needed, with what belongs to it: also the client of the master realm that
/// manages it, and that client's roles.
fn realms(size: Size) -> String {
    let renew = |column: &str| {
        format!(
            "replace(regexp_replace(replace({column}, '{SEED_REALM}', 'realm-' || n), \
             '[0-9a-f]{{8}}({TAIL})', {NEW_ID} || '\\1', 'g'), \
             {NEW_ID} || substr(:'master', 9), :'master')"
        )
    };
    let owner = renew("o.owner");
    let find = |name: &str, variable: &str| {
        format!(
            "SELECT id AS {variable} FROM object_key WHERE kind = 'realm' AND value = '{name}' \\gset\n"
        )
    };
    let part = "CREATE TEMPORARY TABLE part AS SELECT kind, id FROM object \
         WHERE owner = :'seed' OR id = :'seed';\n\
         INSERT INTO part SELECT kind, id FROM object_reference \
         WHERE field = 'manages' AND target_id = :'seed';\n\
         INSERT INTO part SELECT kind, id FROM object_reference WHERE field = 'container' AND target_id IN \
         (SELECT id FROM object_reference WHERE field = 'manages' AND target_id = :'seed');\n";
    let count = (size.realms.saturating_sub(3)).to_string();
    [
        find(SEED_REALM, "seed"),
        find("master", "master"),
        part.to_owned(),
        copies(renew, &owner, &count),
        "DROP TABLE part;\n".to_owned(),
    ]
    .concat()
}

/// Client, service account, person, group and role of the large realm as often as needed. Only their
/// own ids change: people stay in the group and keep the role that they were copied with.
fn seeds(size: Size) -> String {
    let renew = |column: &str| {
        format!(
            "regexp_replace(replace({column}, '{SEED}', 'seed-' || n), \
             '[0-9a-f]{{8}}(' || p.tails || ')', {NEW_ID} || '\\1', 'g')"
        )
    };
    let part = format!(
        "CREATE TEMPORARY TABLE part AS SELECT DISTINCT kind, id, kind IN ('user', 'client') AS many \
         FROM object_key WHERE value LIKE '%{SEED}';\n\
         ALTER TABLE part ADD copies INT, ADD tails TEXT;\n\
         UPDATE part p SET copies = CASE WHEN many THEN {large} WHEN kind = 'group' THEN {GROUPS} ELSE {ROLES} END, \
         tails = (SELECT string_agg(substr(o.id, 9), '|') FROM part o WHERE o.many = p.many);\n",
        large = size.large(),
    );
    [part, copies(renew, "o.owner", "p.copies")].concat()
}
