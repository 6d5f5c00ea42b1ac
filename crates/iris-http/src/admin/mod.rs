//! The Admin REST API: one table says what is served, which permission it needs and what serves it.

mod audit;
mod clients;
mod events;
mod groups;
mod realms;
mod roles;
mod scopes;
mod serverinfo;
mod sessions;
mod statics;
mod users;

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use o28m_iris::schema::Schema;
use o28m_iris::{Caller, Error, Iris, Origin, Permission, Realm, Rep, Thing};
use o28m_net::{Body, BoxFuture};
use o28m_oauth::Form;

use crate::cors;
use crate::errors;
use crate::reply::{self, Reply};
use crate::router::{self, Found, Route};
use crate::service::{Call, read_json};

/// Serves one entry.
type Handler = for<'a> fn(&'a Context<'a>) -> BoxFuture<'a, Result<Reply, Error>>;

/// What an entry expects as body.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    /// Nothing, or something that is ignored.
    Nothing,
    /// JSON, and a content type that says so.
    Json,
}

/// An entry of the table.
pub(crate) struct Entry {
    pattern: &'static str,
    needs: Permission,
    input: Input,
    handler: Handler,
}

/// Declares entries: method, pattern, permission, body, and the expression that serves them.
macro_rules! entries {
    ($($method:ident $pattern:literal $needs:ident $input:ident |$context:ident| $serve:expr;)*) => {
        &[$($crate::router::Route {
            method: http::Method::$method,
            pattern: $pattern,
            serve: $crate::admin::Entry::new(
                $pattern,
                o28m_iris::Permission::$needs,
                $crate::admin::Input::$input,
                |$context| Box::pin(async move { $serve }),
            ),
        }),*]
    };
}
pub(crate) use entries;

impl Entry {
    const fn new(pattern: &'static str, needs: Permission, input: Input, handler: Handler) -> Self {
        Self {
            pattern,
            needs,
            input,
            handler,
        }
    }
}

/// A request to an entry, authorised.
pub(crate) struct Context<'a> {
    pub(crate) iris: &'a Iris,
    /// The target realm's id; empty for calls that have none.
    pub(crate) realm: &'a str,
    /// The target realm's name.
    pub(crate) name: &'a str,
    pub(crate) caller: &'a Caller,
    /// The target realm; none for calls that have none.
    target: Option<&'a Arc<Realm>>,
    /// The issuer of the target realm.
    issuer: String,
    /// Address of the caller.
    address: &'a str,
    /// URL of the Admin REST API, up to and without the realm.
    url: String,
    args: &'a [String],
    query: &'a Form,
    body: &'a Bytes,
}

impl Context<'_> {
    /// A segment of the path after the realm.
    pub(crate) fn arg(&self, at: usize) -> &str {
        self.args.get(at).map_or("", String::as_str)
    }

    /// A query parameter.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.get(name)
    }

    /// Whether a query parameter is `true`.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.truth(name) == Some(true)
    }

    /// Whether a query parameter is something else than `false`.
    pub(crate) fn flag_unless_off(&self, name: &str) -> bool {
        self.truth(name) != Some(false)
    }

    /// A query parameter that is true or false: whatever is not `true`, in any case, is false.
    pub(crate) fn truth(&self, name: &str) -> Option<bool> {
        Some(self.query(name)?.eq_ignore_ascii_case("true"))
    }

    /// Every value of a query parameter.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        self.query.all(name).map(str::to_owned).collect()
    }

    /// A query parameter as a text of its own.
    pub(crate) fn owned(&self, name: &str) -> Option<String> {
        self.query(name).map(str::to_owned)
    }

    /// The compiled target realm.
    pub(crate) fn target(&self) -> Result<&'_ Arc<Realm>, Error> {
        self.target.ok_or(Error::Missing(Thing::Realm))
    }

    /// Where this request came from and went to.
    pub(crate) fn origin(&self) -> Origin<'_> {
        Origin {
            issuer: &self.issuer,
            address: self.address,
            proof: None,
        }
    }

    /// The body as text.
    pub(crate) fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.body)
            .ok()
            .filter(|text| !text.contains('\0'))
    }

    /// A query parameter that is a number.
    pub(crate) fn number(&self, name: &str) -> Option<u32> {
        self.query(name)?.parse().ok()
    }

    /// The body as a representation.
    pub(crate) fn rep(&self, schema: &'static Schema) -> Result<Rep, Error> {
        Ok(schema.parse(self.body)?)
    }

    /// The body as a list of representations.
    pub(crate) fn reps(&self, schema: &'static Schema) -> Result<Vec<Rep>, Error> {
        Ok(schema.parse_list(self.body)?)
    }

    /// 201 with the URL of what was made, given below the target realm (or below `realms`).
    pub(crate) fn created(&self, below: &str) -> Reply {
        let realm = percent(self.name);
        let url = if self.realm.is_empty() {
            format!("{}/{}", self.url, below)
        } else {
            format!("{}/{realm}/{below}", self.url)
        };
        reply::created(&url)
    }
}

/// A text as one segment of a path.
pub(crate) fn percent(segment: &str) -> String {
    percent_encoding::utf8_percent_encode(segment, percent_encoding::NON_ALPHANUMERIC)
        .to_string()
        .replace("%2D", "-")
        .replace("%2E", ".")
        .replace("%5F", "_")
        .replace("%7E", "~")
}

/// The pairs of a query such as `key:value "key two":"value two"`; what is no pair is left out.
pub(crate) fn pairs(text: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) = word(rest);
        let Some(after) = after.strip_prefix(':') else {
            // A word alone: the next one may be a pair again.
            rest = after
                .trim_start_matches(|it: char| !it.is_whitespace())
                .trim_start();
            continue;
        };
        let (value, after) = word(after);
        if !key.is_empty() {
            all.push((key.to_owned(), value.to_owned()));
        }
        rest = after
            .trim_start_matches(|it: char| !it.is_whitespace())
            .trim_start();
    }
    all
}

/// A word up to a colon or space, or whatever is in quotes; and what follows.
fn word(text: &str) -> (&str, &str) {
    if let Some(inside) = text.strip_prefix('"')
        && let Some((word, rest)) = inside.split_once('"')
    {
        return (word, rest);
    }
    let end = text
        .find(|it: char| it == ':' || it.is_whitespace())
        .unwrap_or(text.len());
    text.split_at(end)
}

/// The tables, looked through in order.
fn tables() -> [&'static [Route<Entry>]; 9] {
    [
        clients::ROUTES,
        sessions::ROUTES,
        groups::ROUTES,
        events::ROUTES,
        statics::ROUTES,
        scopes::ROUTES,
        realms::ROUTES,
        roles::ROUTES,
        users::ROUTES,
    ]
}

/// Serves a path below `/admin`.
pub(crate) async fn answer(call: Call<'_>, body: Body, segments: &[String]) -> Reply {
    match segments.split_first() {
        None => reply::redirect(&format!("{}/admin/master/console/", call.base.url)),
        Some((first, rest)) if first == "realms" => realms_answer(call, body, rest).await,
        Some((first, [])) if first == "serverinfo" => {
            serve(call, body, None, serverinfo::ROUTES, &[]).await
        }
        Some(_) => reply::unknown_path(),
    }
}

async fn realms_answer(call: Call<'_>, body: Body, segments: &[String]) -> Reply {
    let Some((name, below)) = segments.split_first() else {
        return serve(call, body, None, realms::TOP, &[]).await;
    };
    // The target realm is resolved before the caller: an unknown one is 404 for everybody.
    let realm = match call.iris.realm(name).await {
        Ok(Some(realm)) => realm,
        Ok(None) => return errors::admin(&Error::Missing(Thing::Realm)),
        Err(error) => return errors::admin(&error),
    };
    let mut allowed = None;
    for table in tables() {
        match router::find(table, &call.method, below) {
            Found::Route(..) => return serve(call, body, Some(realm), table, below).await,
            Found::OtherMethod(methods) => allowed = Some(methods),
            Found::Nothing => {}
        }
    }
    allowed.map_or_else(reply::unknown_path, |methods| other_method(&call, &methods))
}

async fn serve(
    call: Call<'_>,
    body: Body,
    realm: Option<Arc<Realm>>,
    table: &'static [Route<Entry>],
    segments: &[String],
) -> Reply {
    let (entry, args) = match router::find(table, &call.method, segments) {
        Found::Route(entry, args) => (entry, args),
        Found::OtherMethod(methods) => return other_method(&call, &methods),
        Found::Nothing => return reply::unknown_path(),
    };
    let caller = match authorize(&call, realm.as_deref(), entry.needs).await {
        Ok(caller) => caller,
        Err(reply) => return reply,
    };
    let body = match read_json(body).await {
        Ok(body) => body,
        Err(reply) => return reply,
    };
    if entry.input == Input::Json && call.media_type().as_deref() != Some("application/json") {
        return reply::wrong_content_type();
    }
    let Ok(query) = Form::parse(call.query.as_deref().unwrap_or_default().as_bytes()) else {
        let text = "Malformed query parameters";
        return reply::oauth(StatusCode::BAD_REQUEST, "invalid_request", text);
    };
    let issuer = realm
        .as_ref()
        .map_or_else(String::new, |realm| call.base.issuer(realm.name()));
    let context = Context {
        target: realm.as_ref(),
        issuer,
        address: &call.base.address,
        iris: call.iris,
        realm: realm.as_ref().map_or("", |realm| realm.id()),
        name: realm.as_ref().map_or("", |realm| realm.name()),
        caller: &caller,
        url: format!("{}/admin/realms", call.base.url),
        args: &args,
        query: &query,
        body: &body,
    };
    let share = |reply| match call.header("origin") {
        Some(origin) => cors::share_with(reply, origin, caller.web_origins()),
        None => reply,
    };
    let reply = match (entry.handler)(&context).await {
        Ok(reply) => reply,
        Err(error) => return share(errors::admin(&error)),
    };
    let location = reply.headers().get(http::header::LOCATION);
    let location = location.and_then(|value| value.to_str().ok().map(str::to_owned));
    let location = location.as_deref();
    match audit::record(&context, &call.method, entry.pattern, segments, location).await {
        Ok(()) => share(reply),
        Err(error) => share(errors::admin(&error)),
    }
}

/// The response to a method that a path does not serve; browsers ask with one of their own first.
fn other_method(call: &Call<'_>, methods: &str) -> Reply {
    match call.header("origin") {
        Some(origin) if call.method == Method::OPTIONS => cors::preflight(origin, methods),
        _ => reply::wrong_method(methods),
    }
}

/// The caller, if their token is good and they may do this.
async fn authorize(
    call: &Call<'_>,
    realm: Option<&Realm>,
    needs: Permission,
) -> Result<Caller, Reply> {
    let unauthorized = || reply::prose(StatusCode::UNAUTHORIZED, "HTTP 401 Unauthorized");
    let token = call.bearer().ok_or_else(unauthorized)?;
    let found = call
        .iris
        .authorize(token, realm, &call.base.issuer_base())
        .await;
    let caller = found
        .map_err(|error| errors::admin(&error))?
        .map_err(|_| unauthorized())?;
    if caller.may(needs) {
        return Ok(caller);
    }
    Err(reply::prose(StatusCode::FORBIDDEN, "HTTP 403 Forbidden"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_reachable_and_writes_need_more_than_a_look() {
        let all: Vec<_> = tables().into_iter().flatten().chain(realms::TOP).collect();
        for (at, route) in all.iter().enumerate() {
            let twin = all.iter().take(at).any(|it| {
                it.method == route.method && it.pattern == route.pattern && !it.pattern.is_empty()
            });
            assert!(!twin, "{} {}", route.method, route.pattern);
            let writes = route.method != Method::GET;
            let manages = matches!(
                route.serve.needs,
                Permission::ManageRealm
                    | Permission::ManageClients
                    | Permission::ManageUsers
                    | Permission::ManageEvents
                    | Permission::CreateRealm
            );
            assert!(!writes || manages, "{} {}", route.method, route.pattern);
        }
    }

    #[test]
    fn queries_are_read_as_pairs() {
        let own = |one: &str, other: &str| (one.to_owned(), other.to_owned());
        assert_eq!(pairs("a:b c:d"), [own("a", "b"), own("c", "d")]);
        assert_eq!(pairs("\"a b\":\"c:d\" x"), [own("a b", "c:d")]);
        assert_eq!(pairs("x a:b"), [own("a", "b")]);
        assert!(pairs("  :x \"").is_empty());
    }

    #[test]
    fn segments_are_escaped() {
        assert_eq!(percent("a b/c-d.e"), "a%20b%2Fc-d.e");
    }
}
