//! The database URL out of the parts that Kong and Keycloak take (spec deployment 7.3, 7.4).

use std::path::Path;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::Source;
use super::load::Problem;
use super::value;

/// Where systems keep the certificates they trust, as one PEM file: what `system` stands for.
const SYSTEM_BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Variables of which any says that Kong is to use PostgreSQL.
const KONG_PLACE: &[&str] = &[
    "KONG_PG_HOST",
    "KONG_PG_DATABASE",
    "KONG_PG_USER",
    "KONG_PG_PASSWORD",
    "KONG_PG_PORT",
];
/// Variables of which any says that Keycloak is to use PostgreSQL.
const KEYCLOAK_PLACE: &[&str] = &["KC_DB_URL", "KC_DB_URL_HOST", "KC_DB_URL_DATABASE"];
/// JDBC properties with a meaning here, and our names of them.
const PROPERTIES: &[(&str, &str)] = &[
    ("sslmode", "sslmode"),
    ("sslrootcert", "sslrootcert"),
    ("sslcert", "sslcert"),
    ("sslkey", "sslkey"),
    ("ApplicationName", "application_name"),
];

/// A URL and what it was made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Composed {
    pub(super) url: String,
    /// The variable that stands for all of them.
    pub(super) name: &'static str,
    /// JDBC properties without a meaning here.
    pub(super) ignored: Vec<String>,
}

impl Composed {
    pub(super) fn source(&self) -> Source {
        Source::Compat(self.name.to_owned())
    }
}

/// Looks a variable up; empty ones count as unset.
pub(super) trait Lookup {
    /// Its value.
    fn get(&self, name: &str) -> Option<&str>;
}

/// The parts of a URL.
struct Parts<'a> {
    host: &'a str,
    port: &'a str,
    user: &'a str,
    password: Option<&'a str>,
    database: &'a str,
    properties: Vec<(&'a str, String)>,
}

impl Parts<'_> {
    fn url(&self) -> String {
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let mut login = encoded(self.user);
        if let Some(password) = self.password {
            login.push(':');
            login.push_str(&encoded(password));
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        let is_plain = self.host.bytes().all(plain);
        let host = if is_plain { self.host } else { "localhost" };
        let mut properties = Vec::new();
        if !is_plain {
            // IPv6 addresses and directories of sockets have no place in front.
            let host = self.host.trim_start_matches('[').trim_end_matches(']');
            properties.push(format!("host={}", encoded(host)));
        }
        let given = self.properties.iter();
        properties.extend(given.map(|(name, value)| format!("{name}={}", encoded(value))));
        let query = match properties.join("&") {
            none if none.is_empty() => none,
            properties => format!("?{properties}"),
        };
        let (port, database) = (self.port, encoded(self.database));
        format!("postgres://{login}@{host}:{port}/{database}{query}")
    }
}

fn problem(at: &str, text: impl Into<String>) -> Problem {
    Problem {
        at: at.to_owned(),
        text: text.into(),
    }
}

fn port<'a>(from: &'a dyn Lookup, name: &str) -> Result<&'a str, Problem> {
    let text = from.get(name).unwrap_or("5432");
    match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(text),
        _ => Err(problem(name, format!("expected a port, not {text:?}"))),
    }
}

/// The URL of Kong's `pg_*` settings; `None` when none of them says where the database is and it is not
/// `wanted` anyway.
pub(super) fn kong(from: &dyn Lookup, wanted: bool) -> Result<Option<Composed>, Problem> {
    let first = KONG_PLACE.iter().find(|name| from.get(name).is_some());
    let name = match first {
        Some(name) => *name,
        None if wanted => "KONG_DATABASE",
        None => return Ok(None),
    };
    let parts = Parts {
        host: from.get("KONG_PG_HOST").unwrap_or("127.0.0.1"),
        port: port(from, "KONG_PG_PORT")?,
        user: from.get("KONG_PG_USER").unwrap_or("kong"),
        password: from.get("KONG_PG_PASSWORD"),
        database: from.get("KONG_PG_DATABASE").unwrap_or("kong"),
        properties: kong_tls(from)?,
    };
    Ok(Some(Composed {
        url: parts.url(),
        name,
        ignored: Vec::new(),
    }))
}

/// Off is `prefer`: servers that insist on TLS are common, and those without it answer as before.
fn kong_tls(from: &dyn Lookup) -> Result<Vec<(&'static str, String)>, Problem> {
    let on = |name: &str| match from.get(name) {
        None => Ok(false),
        Some(text) => value::boolean(text)
            .ok_or_else(|| problem(name, format!("expected on or off, not {text:?}"))),
    };
    let (ssl, verify) = (
        on("KONG_PG_SSL")? || on("KONG_PG_SSL_REQUIRED")?,
        on("KONG_PG_SSL_VERIFY")?,
    );
    if verify && !ssl {
        let text = "nothing is verified unless KONG_PG_SSL is on";
        return Err(problem("KONG_PG_SSL_VERIFY", text));
    }
    let mode = match (ssl, verify) {
        (false, _) => "prefer",
        (true, false) => "require",
        (true, true) => "verify-full",
    };
    let mut properties = vec![("sslmode", mode.to_owned())];
    if verify && let Some(trusted) = from.get("KONG_LUA_SSL_TRUSTED_CERTIFICATE") {
        properties.push(("sslrootcert", bundles(trusted)?));
    }
    for (name, key) in [
        ("KONG_PG_SSL_CERT", "sslcert"),
        ("KONG_PG_SSL_CERT_KEY", "sslkey"),
    ] {
        if let Some(path) = from.get(name) {
            properties.push((key, path.to_owned()));
        }
    }
    Ok(properties)
}

/// The paths of a list in which `system` may stand for the system's own.
fn bundles(trusted: &str) -> Result<String, Problem> {
    let path = |item: &str| match item {
        "system" => {
            let found = SYSTEM_BUNDLES.iter().find(|path| Path::new(path).exists());
            let missing = || {
                let text = "the certificates that the system trusts were not found";
                problem("KONG_LUA_SSL_TRUSTED_CERTIFICATE", text)
            };
            found.map(|path| (*path).to_owned()).ok_or_else(missing)
        }
        path => Ok(path.to_owned()),
    };
    let paths: Result<Vec<String>, Problem> = value::list(trusted).map(path).collect();
    Ok(paths?.join(","))
}

/// The URL of Keycloak's `db-*` settings; `None` when none of them says where the database is.
pub(super) fn keycloak(from: &dyn Lookup) -> Result<Option<Composed>, Problem> {
    let vendor = from.get("KC_DB").unwrap_or_default();
    let vendor_is_ours = match vendor {
        "postgres" => true,
        // Keycloak's own file and memory: a database of ours takes their place.
        "" | "dev-file" | "dev-mem" => false,
        other => {
            let text = format!("expected postgres, dev-file or dev-mem, not {other:?}");
            return Err(problem("KC_DB", text));
        }
    };
    let first = KEYCLOAK_PLACE.iter().find(|name| from.get(name).is_some());
    let name = match first {
        Some(name) => *name,
        None if vendor_is_ours => "KC_DB",
        None => return Ok(None),
    };
    let mut parts = Parts {
        host: from.get("KC_DB_URL_HOST").unwrap_or("localhost"),
        port: port(from, "KC_DB_URL_PORT")?,
        user: from.get("KC_DB_USERNAME").unwrap_or("keycloak"),
        password: from.get("KC_DB_PASSWORD"),
        database: from.get("KC_DB_URL_DATABASE").unwrap_or("keycloak"),
        properties: Vec::new(),
    };
    let mut properties = from.get("KC_DB_URL_PROPERTIES").unwrap_or_default();
    if let Some(url) = from.get("KC_DB_URL") {
        let twins = [
            "KC_DB_URL_HOST",
            "KC_DB_URL_PORT",
            "KC_DB_URL_DATABASE",
            "KC_DB_URL_PROPERTIES",
        ];
        if let Some(twin) = twins.into_iter().find(|name| from.get(name).is_some()) {
            let text = format!("says it all already: set either it or {twin}");
            return Err(problem("KC_DB_URL", text));
        }
        properties = jdbc(url, &mut parts)?;
    }
    let mut ignored = Vec::new();
    let properties = properties.trim_start_matches('?');
    let mut has_mode = false;
    for (name, text) in form_urlencoded::parse(properties.as_bytes()) {
        match PROPERTIES.iter().find(|(theirs, _)| *theirs == name) {
            Some((_, ours)) => {
                has_mode |= *ours == "sslmode";
                parts.properties.push((ours, text.into_owned()));
            }
            None if name == "ssl" && text == "true" => {
                if !properties.contains("sslmode=") {
                    parts.properties.push(("sslmode", "verify-full".to_owned()));
                    has_mode = true;
                }
            }
            None => ignored.push(name.into_owned()),
        }
    }
    if !has_mode {
        parts.properties.push(("sslmode", "prefer".to_owned()));
    }
    Ok(Some(Composed {
        url: parts.url(),
        name,
        ignored,
    }))
}

/// Takes `jdbc:postgresql://host[:port][/database][?properties]` apart; gives the properties.
fn jdbc<'a>(url: &'a str, parts: &mut Parts<'a>) -> Result<&'a str, Problem> {
    let bad = |text: &str| problem("KC_DB_URL", text);
    let rest = url
        .strip_prefix("jdbc:postgresql://")
        .ok_or_else(|| bad("expected jdbc:postgresql://host:port/database"))?;
    let (place, properties) = rest.split_once('?').unwrap_or((rest, ""));
    let (host, database) = place.split_once('/').unwrap_or((place, ""));
    if host.contains(',') {
        return Err(bad("several hosts are not supported"));
    }
    let after_brackets = host.rfind(']').unwrap_or(0);
    match host.rfind(':').filter(|at| *at > after_brackets) {
        Some(at) => {
            let (host, port) = host.split_at_checked(at).unwrap_or((host, ""));
            parts.host = host;
            parts.port = port.trim_start_matches(':');
            if parts.port.parse::<u16>().is_err() {
                return Err(bad("the port is no number from 1 to 65535"));
            }
        }
        None => parts.host = host,
    }
    if !database.is_empty() {
        parts.database = database;
    }
    Ok(properties)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;

    use super::*;

    struct Variables(BTreeMap<String, String>);

    impl Lookup for Variables {
        fn get(&self, name: &str) -> Option<&str> {
            self.0.get(name).map(String::as_str)
        }
    }

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
        Variables(pairs.iter().map(owned).collect())
    }

    fn kong_url(pairs: &[(&str, &str)]) -> String {
        kong(&variables(pairs), false).unwrap().unwrap().url
    }

    fn keycloak_url(pairs: &[(&str, &str)]) -> String {
        keycloak(&variables(pairs)).unwrap().unwrap().url
    }

    #[test]
    fn the_charts_gateway_gets_its_database() {
        let chart = [
            ("KONG_PG_HOST", "gw-postgresql"),
            ("KONG_PG_PORT", "5433"),
            ("KONG_PG_USER", "kong"),
            ("KONG_PG_PASSWORD", "p@ss:w/r?d#%"),
            ("KONG_PG_DATABASE", "kong"),
        ];
        assert_eq!(
            kong_url(&chart),
            "postgres://kong:p%40ss%3Aw%2Fr%3Fd%23%25@gw-postgresql:5433/kong?sslmode=prefer"
        );
        assert_eq!(kong(&variables(&[("KONG_PG_SSL", "on")]), false), Ok(None));
        let defaults = kong(&variables(&[]), true).unwrap().unwrap();
        assert_eq!(
            defaults.url,
            "postgres://kong@127.0.0.1:5432/kong?sslmode=prefer"
        );
    }

    #[test]
    fn tls_follows_the_settings() {
        let host = ("KONG_PG_HOST", "db");
        let (ssl, verify) = (("KONG_PG_SSL", "on"), ("KONG_PG_SSL_VERIFY", "on"));
        let trusted = ("KONG_LUA_SSL_TRUSTED_CERTIFICATE", "/a.pem, /b.pem");
        assert!(kong_url(&[host, ssl, trusted]).ends_with("?sslmode=require"));
        let url = kong_url(&[host, ssl, verify, trusted]);
        let end = "?sslmode=verify%2Dfull&sslrootcert=%2Fa%2Epem%2C%2Fb%2Epem";
        assert!(url.ends_with(end), "{url}");
        assert!(kong_url(&[host, ssl, verify]).ends_with("?sslmode=verify%2Dfull"));
        let error = kong(&variables(&[host, verify]), false).unwrap_err();
        assert_eq!(error.at, "KONG_PG_SSL_VERIFY");
    }

    #[test]
    fn keycloaks_url_is_taken_apart() {
        let login = [("KC_DB_USERNAME", "u"), ("KC_DB_PASSWORD", "p")];
        for (pairs, url) in [
            (
                vec![("KC_DB", "postgres")],
                "postgres://u:p@localhost:5432/keycloak?sslmode=prefer",
            ),
            (
                vec![
                    ("KC_DB_URL_HOST", "db.example.com"),
                    ("KC_DB_URL_PORT", "6000"),
                    ("KC_DB_URL_DATABASE", "iris"),
                    (
                        "KC_DB_URL_PROPERTIES",
                        "?sslmode=require&sslrootcert=/ca.pem",
                    ),
                ],
                "postgres://u:p@db.example.com:6000/iris?sslmode=require&sslrootcert=%2Fca%2Epem",
            ),
            (
                vec![("KC_DB_URL", "jdbc:postgresql://h:1/d?ssl=true&x=y")],
                "postgres://u:p@h:1/d?sslmode=verify%2Dfull",
            ),
            (
                vec![("KC_DB_URL", "jdbc:postgresql://[::1]:7/d")],
                "postgres://u:p@localhost:7/d?host=%3A%3A1&sslmode=prefer",
            ),
        ] {
            let all: Vec<_> = pairs.iter().chain(&login).copied().collect();
            assert_eq!(keycloak_url(&all), url);
        }
        assert_eq!(keycloak(&variables(&[("KC_DB", "dev-file")])), Ok(None));
    }

    #[test]
    fn conflicts_and_other_databases_are_named() {
        for (pairs, at, said) in [
            (vec![("KC_DB", "mariadb")], "KC_DB", "mariadb"),
            (
                vec![
                    ("KC_DB_URL", "jdbc:postgresql://h/d"),
                    ("KC_DB_URL_HOST", "i"),
                ],
                "KC_DB_URL",
                "KC_DB_URL_HOST",
            ),
            (
                vec![("KC_DB_URL", "jdbc:mysql://h/d")],
                "KC_DB_URL",
                "jdbc:postgresql",
            ),
            (
                vec![("KC_DB_URL", "jdbc:postgresql://a,b/d")],
                "KC_DB_URL",
                "several",
            ),
            (
                vec![("KC_DB_URL_HOST", "h"), ("KC_DB_URL_PORT", "x")],
                "KC_DB_URL_PORT",
                "port",
            ),
        ] {
            let error = keycloak(&variables(&pairs)).unwrap_err();
            assert_eq!(error.at, at);
            assert!(error.text.contains(said), "{}", error.text);
        }
    }

    proptest! {
        #[test]
        fn every_character_survives(user in "\\PC{1,20}", password in "\\PC{1,20}", name in "\\PC{1,20}") {
            let url = kong_url(&[
                ("KONG_PG_USER", &user), ("KONG_PG_PASSWORD", &password), ("KONG_PG_DATABASE", &name),
            ]);
            let rest = url.strip_prefix("postgres://").unwrap();
            let (login, place) = rest.split_once('@').unwrap();
            let (user_part, password_part) = login.split_once(':').unwrap();
            let (_, database) = place.split_once('/').unwrap();
            let (database, _) = database.split_once('?').unwrap();
            let decoded = |text: &str| percent_decode_str(text).decode_utf8().unwrap().into_owned();
            prop_assert_eq!(decoded(user_part), user);
            prop_assert_eq!(decoded(password_part), password);
            prop_assert_eq!(decoded(database), name);
        }
    }
}
