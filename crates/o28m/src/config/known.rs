//! Variables of the replaced products that are no setting of ours: what becomes of each.

/// What becomes of a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// What it asks for is so anyway, or means nothing here.
    Accepted,
    /// `database.url` is made of it.
    Database,
    /// Accepted with one of these values; any other is refused, because leaving it out would be unsafe.
    Only(&'static [&'static str], &'static str),
    /// Accepted with one of these values; any other has no effect, which is said.
    Expected(&'static [&'static str], &'static str),
    /// Accepted when it is a whole number in this range, as Kong checks it; more than it is done anyway.
    Number(u32, u32),
    /// Has no effect, which is said.
    Ignored(&'static str),
}

use Fate::{Accepted, Database, Expected, Ignored, Number, Only};

const OFF: &[&str] = &["off", "OFF", "false", "NONE", ""];
const NO_HYBRID: &str = "control and data plane are one process, or share the database";
const NO_STREAM: &str = "TCP and UDP proxying are not there";
const NO_GUI: &str = "Kong's own graphical interface is not there";

/// Names, of which one that ends in `*` stands for all that begin like it; the first that fits counts.
pub(super) const KNOWN: &[(&str, Fate)] = &[
    ("KONG_CONF", Accepted),
    ("KONG_PG_SCHEMA", Database),
    ("KONG_PG_SSL_VERSION", Accepted),
    (
        "KONG_PG_RO_*",
        Ignored("reads go to the same database as writes"),
    ),
    (
        "KONG_PG_MAX_CONCURRENT_QUERIES",
        Expected(&["0"], "database.pool_max limits them"),
    ),
    ("KONG_PG_SEMAPHORE_TIMEOUT", Accepted),
    ("KONG_PG_KEEPALIVE_TIMEOUT", Accepted),
    ("KONG_PG_BACKLOG", Accepted),
    ("KONG_PG_*", Database),
    ("KONG_CASSANDRA_*", Ignored("Cassandra is not supported")),
    ("KONG_LUA_PACKAGE_PATH", Accepted),
    ("KONG_LUA_PACKAGE_CPATH", Accepted),
    ("KONG_LUA_SOCKET_POOL_SIZE", Accepted),
    (
        "KONG_LUA_SSL_PROTOCOLS",
        Expected(
            &["TLSv1.1 TLSv1.2 TLSv1.3", "TLSv1.2 TLSv1.3"],
            "connections of the process itself speak TLS 1.2 and 1.3",
        ),
    ),
    (
        "KONG_LUA_SSL_VERIFY_DEPTH",
        Ignored("chains of certificates may have any length, except those of upstreams"),
    ),
    ("KONG_LUAROCKS_*", Accepted),
    ("KONG_LUA_MAX_REQ_HEADERS", Number(1, 1000)),
    ("KONG_LUA_MAX_RESP_HEADERS", Number(1, 1000)),
    ("KONG_LUA_MAX_URI_ARGS", Number(1, 1000)),
    ("KONG_LUA_MAX_POST_ARGS", Number(1, 1000)),
    ("KONG_MEM_CACHE_SIZE", Accepted),
    ("KONG_WORKER_STATE_UPDATE_FREQUENCY", Accepted),
    (
        "KONG_DB_UPDATE_PROPAGATION",
        Expected(&["0"], "changes are read from the database that has them"),
    ),
    ("KONG_DB_CACHE_*", Accepted),
    ("KONG_DB_RESURRECT_TTL", Accepted),
    ("KONG_ANONYMOUS_REPORTS", Accepted),
    ("KONG_NGINX_DAEMON", Accepted),
    ("KONG_NGINX_MAIN_DAEMON", Accepted),
    ("KONG_NGINX_USER", Accepted),
    ("KONG_NGINX_MAIN_USER", Accepted),
    ("KONG_NGINX_HTTP_INCLUDE", Accepted),
    ("KONG_NGINX_HTTP_LUA_SHARED_DICT", Accepted),
    ("KONG_NGINX_HTTP_LUA_REGEX_*", Accepted),
    ("KONG_NGINX_EVENTS_*", Accepted),
    ("KONG_NGINX_MAIN_WORKER_RLIMIT_NOFILE", Accepted),
    ("KONG_NGINX_ADMIN_CLIENT_BODY_BUFFER_SIZE", Accepted),
    (
        "KONG_NGINX_*",
        Ignored("there is no nginx that would take the directive"),
    ),
    ("KONG_ROLE", Only(&["traditional"], NO_HYBRID)),
    ("KONG_CLUSTER_*", Ignored(NO_HYBRID)),
    ("KONG_STREAM_LISTEN", Only(OFF, NO_STREAM)),
    ("KONG_PROXY_STREAM_*", Accepted),
    ("KONG_ADMIN_GUI_LISTEN", Expected(OFF, NO_GUI)),
    ("KONG_ADMIN_GUI_*", Ignored(NO_GUI)),
    (
        "KONG_PROXY_ERROR_LOG",
        Expected(LOGS, "log events go to standard error"),
    ),
    (
        "KONG_ADMIN_ERROR_LOG",
        Expected(LOGS, "log events go to standard error"),
    ),
    (
        "KONG_STATUS_ERROR_LOG",
        Expected(LOGS, "log events go to standard error"),
    ),
    (
        "KONG_STATUS_ACCESS_LOG",
        Expected(LOGS, "the status listener writes no access log"),
    ),
    (
        "KONG_PROXY_SERVER*",
        Ignored("there is no proxy for outgoing calls of plugins"),
    ),
    (
        "KONG_WASM*",
        Expected(OFF, "WebAssembly filters are not there"),
    ),
    (
        "KONG_PLUGINSERVER_*",
        Ignored("external plugin servers are not there"),
    ),
    ("KONG_UNTRUSTED_LUA*", Accepted),
    ("KONG_RESOLVER_MEM_CACHE_SIZE", Accepted),
    ("KONG_NEW_DNS_CLIENT", Accepted),
    ("KONG_SSL_PREFER_SERVER_CIPHERS", Accepted),
    ("KONG_SSL_DHPARAM", Accepted),
    (
        "KONG_SSL_SESSION_TIMEOUT",
        Expected(&["1d"], "tickets are good for half a day"),
    ),
    ("KONG_SSL_SESSION_CACHE_SIZE", Accepted),
    ("KONG_VAULT_ENV_PREFIX", Accepted),
    ("KONG_VAULTS", Accepted),
    ("KONG_NODE_ID", Ignored("a node makes its own id")),
    ("KONG_LEGACY_WORKER_EVENTS", Accepted),
    ("KONG_LMDB_*", Accepted),
    (
        "KONG_REQUEST_DEBUG*",
        Ignored("request debugging is not there"),
    ),
    ("KC_DB", Database),
    ("KC_DB_URL*", Database),
    ("KC_DB_USERNAME", Database),
    ("KC_DB_PASSWORD", Database),
    ("KC_DB_SCHEMA", Database),
    ("KC_DB_POOL_MIN_SIZE", Accepted),
    ("KC_DB_POOL_INITIAL_SIZE", Accepted),
    ("KC_CACHE*", Accepted),
    ("KC_HTTP_ENABLED", Accepted),
    ("KC_HEALTH_ENABLED", Accepted),
    ("KC_METRICS_ENABLED", Accepted),
];

const LOGS: &[&str] = &["/dev/stderr", "/dev/stdout", "off", "/dev/stderr notice"];

/// What becomes of the variable; `None` when nobody knows it.
pub(super) fn fate(name: &str) -> Option<Fate> {
    let fits = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    };
    let found = KNOWN.iter().find(|(pattern, _)| fits(pattern));
    found.map(|(_, fate)| *fate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::table::SETTINGS;

    #[test]
    fn every_variable_is_on_the_page_about_kong() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/compat/kong.md");
        let page = std::fs::read_to_string(path).unwrap();
        let settings = SETTINGS.iter().flat_map(|setting| setting.compat);
        let settings = settings.filter(|name| name.starts_with("KONG_"));
        let known = KNOWN.iter().map(|(pattern, _)| pattern);
        let missing: Vec<&&str> = settings
            .chain(known)
            .filter(|name| **name != "KONG_PG_*" && **name != "KC_DB_URL*")
            .filter(|name| !page.contains(&format!("`{name}`")))
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn every_variable_of_the_charts_has_a_fate() {
        for name in [
            "KONG_LUA_PACKAGE_PATH",
            "KONG_MEM_CACHE_SIZE",
            "KONG_WORKER_STATE_UPDATE_FREQUENCY",
            "KONG_DB_UPDATE_PROPAGATION",
            "KONG_ANONYMOUS_REPORTS",
            "KONG_NGINX_HTTP_INCLUDE",
            "KONG_NGINX_HTTP_LUA_SHARED_DICT",
            "KONG_NGINX_DAEMON",
            "KONG_PROXY_ERROR_LOG",
            "KONG_ADMIN_ERROR_LOG",
            "KONG_LUA_SSL_PROTOCOLS",
        ] {
            let fate = fate(name);
            assert!(!matches!(fate, None | Some(Ignored(_))), "{name}: {fate:?}");
        }
        assert_eq!(fate("KONG_PG_HOST"), Some(Database));
        assert!(matches!(fate("KONG_NGINX_HTTP_WHATEVER"), Some(Ignored(_))));
        assert_eq!(fate("KONG_WHATEVER"), None);
    }
}
