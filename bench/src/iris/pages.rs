//! Lists, start and memory with many realms and clients.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::population::{GROUPS, LARGE, ROLES, Size};
use super::server::{Server, token};
use crate::scale::http::Client;
use crate::scale::table::{Table, percentile};

/// Requests of which percentiles are taken.
const REQUESTS: usize = 100;
/// Objects of a page.
const PAGE: usize = 100;
const P99_MS: f64 = 100.0;
const START_S: f64 = 2.0;
const MEMORY_MIB: f64 = 256.0;
/// Tokens are asked for from clients of so many realms.
const TOKEN_REALMS: usize = 2000;

/// Measures everything.
pub(super) fn measure(program: &Path, database: &str, size: Size, table: &mut Table) -> Result<()> {
    let server = Server::start(program, database)?;
    table.seconds("start to ready", START_S, server.start);
    table.mebibytes(
        "memory after start",
        MEMORY_MIB,
        server.process.resident_kib(),
    );
    for list in lists(&server, size)? {
        list.measure(&server, table)?;
    }
    table.mebibytes(
        "memory after the lists",
        MEMORY_MIB,
        server.process.resident_kib(),
    );
    tokens(&server, size, table)?;
    table.mebibytes(
        "memory after tokens of many",
        MEMORY_MIB,
        server.process.resident_kib(),
    );
    table.mebibytes("highest memory", MEMORY_MIB, server.process.peak_kib());
    Ok(())
}

/// A list and how many objects its pages are taken from.
struct List {
    name: String,
    /// Path with query, without `first` and `max`.
    path: String,
    count: usize,
    /// Objects of a page; as many as there are for a list that cannot be paged.
    page: Option<usize>,
}

/// Every kind of list.
fn lists(server: &Server, size: Size) -> Result<Vec<List>> {
    let mut admin = server.admin()?;
    let mut id = |path: &str| -> Result<String> {
        let found = admin.get(path)?.expect(200)?.json()?;
        let first = found.get(0).unwrap_or(&found);
        Ok(first["id"].as_str().context("no id")?.to_owned())
    };
    let in_large = |path: &str| format!("/{LARGE}/{path}");
    let client = id(&in_large("clients?clientId=seed-7"))?;
    let user = id(&in_large("users?username=seed-7&exact=true"))?;
    let group = id(&in_large("groups?search=seed-0&exact=true"))?;
    let large = size.large();
    let paged = |name: &str, path: String, count: usize| List {
        name: name.to_owned(),
        path,
        count,
        page: Some(PAGE),
    };
    let whole = |name: &str, path: String| List {
        name: name.to_owned(),
        path,
        count: 0,
        page: None,
    };
    Ok(vec![
        paged(
            "realms",
            "?briefRepresentation=true".to_owned(),
            size.realms,
        ),
        paged("realms, whole", "?".to_owned(), size.realms),
        paged(
            "realms by name",
            "?briefRepresentation=true&search=realm-77".to_owned(),
            100,
        ),
        paged("clients", in_large("clients?"), large),
        paged(
            "clients by name",
            in_large("clients?clientId=ed-77&search=true"),
            100,
        ),
        whole("client by client id", in_large("clients?clientId=seed-77")),
        whole("clients of a usual realm", "/realm-77/clients".to_owned()),
        paged("users", in_large("users?"), large),
        paged("users by any name", in_large("users?search=seed-77"), 100),
        paged(
            "users by a part of a name",
            in_large("users?search=*eed-77*"),
            100,
        ),
        paged("users by e-mail", in_large("users?email=seed-77"), 100),
        // Conditions that no index answers: the whole realm is looked through where few or none fulfil them.
        paged("enabled users", in_large("users?enabled=true"), large),
        paged("disabled users", in_large("users?enabled=false"), 0),
        paged("users by an attribute", in_large("users?q=team:none"), 0),
        paged(
            "clients by an attribute",
            in_large("clients?q=team:none"),
            0,
        ),
        whole(
            "user by name",
            in_large("users?username=seed-77&exact=true"),
        ),
        whole("count of users", in_large("users/count")),
        whole(
            "groups of a user",
            in_large(&format!("users/{user}/groups")),
        ),
        whole(
            "roles of a user",
            in_large(&format!("users/{user}/role-mappings")),
        ),
        whole(
            "sessions of a user",
            in_large(&format!("users/{user}/sessions")),
        ),
        paged("roles", in_large("roles?"), ROLES),
        paged("roles by name", in_large("roles?search=seed-77"), 10),
        paged(
            "users with a role",
            in_large("roles/default-roles-large/users?"),
            large,
        ),
        whole(
            "roles of a client",
            in_large(&format!("clients/{client}/roles")),
        ),
        whole("roles of a usual realm", "/realm-77/roles".to_owned()),
        paged("groups", in_large("groups?"), GROUPS),
        paged("groups by name", in_large("groups?search=seed-77"), 10),
        whole("count of groups", in_large("groups/count")),
        paged(
            "members of a group",
            in_large(&format!("groups/{group}/members?")),
            large,
        ),
        whole("client scopes", in_large("client-scopes")),
        whole(
            "default client scopes",
            in_large("default-default-client-scopes"),
        ),
        whole(
            "mappers of a client",
            in_large(&format!("clients/{client}/protocol-mappers/models")),
        ),
        whole(
            "service account",
            in_large(&format!("clients/{client}/service-account-user")),
        ),
        paged(
            "sessions of a client",
            in_large(&format!("clients/{client}/user-sessions?")),
            0,
        ),
        whole("sessions by client", in_large("client-session-stats")),
        paged("events", in_large("events?"), 0),
        paged("admin events", in_large("admin-events?"), 0),
        whole("keys", in_large("keys")),
        whole("components", in_large("components")),
    ])
}

impl List {
    /// Pages at the start, in the middle and at the end.
    fn measure(&self, server: &Server, table: &mut Table) -> Result<()> {
        let Some(page) = self.page else {
            return self.one("", &self.path, server, table);
        };
        let mark = if self.path.ends_with('?') { "" } else { "&" };
        let last = self.count.saturating_sub(page);
        let places = [("start", 0), ("middle", last / 2), ("end", last)];
        let places = if last == 0 { &places[..1] } else { &places[..] };
        for (place, first) in places {
            let path = format!("{}{mark}first={first}&max={page}", self.path);
            self.one(&format!(", {place}"), &path, server, table)?;
        }
        Ok(())
    }

    fn one(&self, place: &str, path: &str, server: &Server, table: &mut Table) -> Result<()> {
        let mut admin = server.admin()?;
        let mut times = Vec::with_capacity(REQUESTS);
        let mut found = Value::Null;
        for at in 0..REQUESTS {
            // Long before a token expires, even where every request takes a second.
            if at % 20 == 0 {
                admin = server.admin()?;
            }
            let started = Instant::now();
            let answer = admin
                .get(path)?
                .expect(200)
                .with_context(|| path.to_owned())?;
            times.push(started.elapsed());
            found = answer.json()?;
        }
        let missing = self.page.is_some() && self.count > 0;
        ensure!(!missing || found.get(0).is_some(), "{path} finds nothing");
        let name = format!("{}{place}", self.name);
        table.millis(format!("{name}: p50"), None, percentile(&mut times, 0.5));
        table.millis(format!("{name}: p99"), P99_MS, percentile(&mut times, 0.99));
        Ok(())
    }
}

/// The first token of a client of each of many realms, and of many clients of one.
fn tokens(server: &Server, size: Size, table: &mut Table) -> Result<()> {
    let mut client = Client::new(server.port);
    let mut first = |what: &str, names: &dyn Fn(usize) -> (String, String)| -> Result<()> {
        let mut times: Vec<Duration> = Vec::new();
        for at in 1..=TOKEN_REALMS
            .min(size.realms.saturating_sub(3))
            .min(size.large())
        {
            let (realm, id) = names(at);
            let form = format!("grant_type=client_credentials&client_id={id}&client_secret=s");
            let started = Instant::now();
            let _ = token(&mut client, &realm, &form)?.expect(200)?;
            times.push(started.elapsed());
        }
        table.millis(format!("{what}: p50"), None, percentile(&mut times, 0.5));
        table.millis(format!("{what}: p99"), P99_MS, percentile(&mut times, 0.99));
        Ok(())
    };
    first("first token in a realm", &|at| {
        (format!("realm-{at}"), "app-0".to_owned())
    })?;
    first("first token of a client", &|at| {
        (LARGE.to_owned(), format!("seed-{at}"))
    })
}
