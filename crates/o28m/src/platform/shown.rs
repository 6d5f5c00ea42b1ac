//! The settings in use under Kong's names, as `GET /` of the Admin API shows them (spec gateway-admin
//! 12.1). Secrets are masked.

use serde_json::{Map, Value, json};

use crate::config::table;
use crate::config::{Config, Listen};

/// What stands for a secret.
const MASKED: &str = "******";

/// The settings of Kong that are a setting of ours, and ours; shown as texts.
const TEXTS: &[(&str, &str)] = &[
    ("prefix", "node.prefix"),
    ("proxy_access_log", "log.access"),
    ("admin_access_log", "admin.access_log"),
    ("real_ip_header", "proxy.real_ip_header"),
    ("dns_hostsfile", "dns.hosts_file"),
    ("declarative_config", "gateway.declarative_file"),
    ("declarative_config_string", "gateway.declarative_config"),
];
const LISTS: &[(&str, &str)] = &[
    ("trusted_ips", "proxy.trusted_ips"),
    ("headers", "proxy.headers"),
    ("dns_resolver", "dns.servers"),
    ("headers_upstream", "proxy.headers_upstream"),
    ("ssl_cert", "proxy.tls.cert"),
    ("ssl_cert_key", "proxy.tls.key"),
    ("admin_ssl_cert", "admin.tls.cert"),
    ("admin_ssl_cert_key", "admin.tls.key"),
    ("status_ssl_cert", "status.tls.cert"),
    ("status_ssl_cert_key", "status.tls.key"),
    ("admin_gui_url", "admin.gui_url"),
];
const NUMBERS: &[(&str, &str)] = &[
    ("upstream_keepalive_pool_size", "upstream.keepalive_max"),
    ("dns_cache_size", "dns.cache_size"),
];

/// The whole map.
pub(super) fn configuration(config: &Config) -> Map<String, Value> {
    let given = config.kong.iter();
    let mut shown: Map<String, Value> = given
        .map(|(name, text)| (name.clone(), number_or_text(text)))
        .collect();
    fixed(&mut shown);
    for (name, key) in TEXTS {
        let value = config.optional(key);
        let value = value.map_or(Value::Null, |text| masked(config, name, key, text));
        shown.insert((*name).to_owned(), value);
    }
    for (name, key) in LISTS {
        let items = config.list(key);
        let items = items.iter().map(|item| masked(config, name, key, item));
        shown.insert((*name).to_owned(), items.collect());
    }
    for (name, key) in NUMBERS {
        shown.insert((*name).to_owned(), json!(config.integer(key)));
    }
    listeners(config, &mut shown);
    database(config, &mut shown);
    shown.insert("log_level".to_owned(), json!(level(config)));
    shown.insert(
        "real_ip_recursive".to_owned(),
        json!(if config.boolean("proxy.real_ip_recursive") {
            "on"
        } else {
            "off"
        }),
    );
    let seconds = config.duration("sync.poll_interval").as_secs_f64();
    shown.insert("db_update_frequency".to_owned(), json!(seconds));
    let workers = match config.integer("node.worker_threads") {
        0 => json!("auto"),
        number => json!(number.to_string()),
    };
    shown.insert("nginx_worker_processes".to_owned(), workers);
    shown
}

fn number_or_text(text: &str) -> Value {
    match text.parse::<i64>() {
        Ok(number) => json!(number),
        Err(_) => json!(text),
    }
}

/// What is always so, and Kong's defaults of what means nothing here.
fn fixed(shown: &mut Map<String, Value>) {
    let always = json!({
        "role": "traditional",
        "anonymous_reports": false,
        "stream_listen": ["off"],
        "stream_listeners": [],
    });
    let unless_given = json!({
        "db_update_propagation": 0,
        "db_cache_ttl": 0,
        "worker_state_update_frequency": 5,
        "mem_cache_size": "128m",
    });
    if let (Value::Object(always), Value::Object(defaults)) = (always, unless_given) {
        shown.extend(always);
        for (name, value) in defaults {
            shown.entry(name).or_insert(value);
        }
    }
}

/// Kong's word for the level, as it was given where it was Kong's setting.
fn level(config: &Config) -> &str {
    match (config.text("log.level"), config.kong.get("log_level")) {
        ("info", Some(given)) if given == "notice" => "notice",
        ("trace", _) => "debug",
        (level, _) => level,
    }
}

fn masked(config: &Config, name: &str, key: &str, text: &str) -> Value {
    let secret = table::find(key).is_some_and(|setting| setting.secret);
    let vaulted = config
        .resolved(key)
        .is_some_and(|resolved| resolved.vaulted);
    // Kong hides the place of keys as well.
    if secret || vaulted || name.ends_with("_key") {
        json!(MASKED)
    } else {
        json!(text)
    }
}

fn listeners(config: &Config, shown: &mut Map<String, Value>) {
    for (name, keys) in [
        ("proxy", &["proxy.listen", "proxy.tls_listen"][..]),
        ("admin", &["admin.listen"]),
        ("status", &["status.listen"]),
    ] {
        let mut all: Vec<Listen> = Vec::new();
        for key in keys {
            all.extend(config.listeners(key).into_iter().map(|mut listen| {
                listen.ssl |= *key == "proxy.tls_listen";
                listen
            }));
        }
        let texts: Vec<String> = match all.as_slice() {
            [] => vec!["off".to_owned()],
            all => all.iter().map(ToString::to_string).collect(),
        };
        shown.insert(format!("{name}_listen"), json!(texts));
        let described: Vec<Value> = all.iter().map(described).collect();
        shown.insert(format!("{name}_listeners"), json!(described));
        let ssl = all.iter().any(|listen| listen.ssl);
        shown.insert(format!("{name}_ssl_enabled"), json!(ssl));
    }
}

/// As go-kong's helper reads it.
fn described(listen: &Listen) -> Value {
    let mut members = Map::new();
    members.insert("ip".to_owned(), json!(listen.address.ip().to_string()));
    members.insert("port".to_owned(), json!(listen.address.port()));
    for (name, set) in listen.flags() {
        members.insert(name.to_owned(), json!(set));
    }
    members.insert("listener".to_owned(), json!(listen.to_string()));
    Value::Object(members)
}

/// Where the database is; nothing of it is taken from what was overridden.
fn database(config: &Config, shown: &mut Map<String, Value>) {
    shown.retain(|name, _| !name.starts_with("pg_") || name == "pg_schema");
    shown.insert("pg_password".to_owned(), json!(MASKED));
    let timeout = config.duration("database.connect_timeout").as_millis();
    let timeout = u64::try_from(timeout).unwrap_or(u64::MAX);
    shown.insert("pg_timeout".to_owned(), json!(timeout));
    let url = config.text("database.url");
    let Some((_, rest)) = url
        .split_once("://")
        .filter(|_| url.starts_with("postgres"))
    else {
        return;
    };
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (login, place) = place.rsplit_once('@').unwrap_or(("", place));
    let (address, name) = place.split_once('/').unwrap_or((place, ""));
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "5432"));
    let user = login.split(':').next().unwrap_or_default();
    let decoded = |text: &str| {
        let text = percent_encoding::percent_decode_str(text);
        text.decode_utf8_lossy().into_owned()
    };
    let property = |wanted: &str| {
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        let found = pairs.find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.into_owned())
    };
    let host = property("host").unwrap_or_else(|| host.to_owned());
    let mode = property("sslmode").unwrap_or_default();
    let values = json!({
        "pg_host": host,
        "pg_port": port.parse::<u16>().unwrap_or(5432),
        "pg_user": decoded(user),
        "pg_database": decoded(name),
        "pg_ssl": matches!(mode.as_str(), "require" | "verify-ca" | "verify-full"),
        "pg_ssl_verify": matches!(mode.as_str(), "verify-ca" | "verify-full"),
    });
    if let Value::Object(values) = values {
        shown.extend(values);
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Sources;

    use super::*;

    fn shown(pairs: &[(&str, &str)]) -> Map<String, Value> {
        let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
        let sources = Sources {
            environment: pairs.iter().map(owned).collect(),
            ..Sources::default()
        };
        configuration(&crate::config::load(&sources).unwrap())
    }

    #[test]
    fn settings_have_kongs_names_and_no_secrets() {
        let shown = shown(&[
            ("KONG_PG_HOST", "db.example.com"),
            ("KONG_PG_PASSWORD", "hunter2"),
            ("KONG_PG_SSL", "on"),
            ("KONG_SSL_CERT", "/tls.crt"),
            ("KONG_SSL_CERT_KEY", "/hunter2.key"),
            (
                "KONG_PROXY_LISTEN",
                "0.0.0.0:8000, 0.0.0.0:8443 ssl backlog=7",
            ),
            ("KONG_ADMIN_LISTEN", "off"),
            ("KONG_LOG_LEVEL", "notice"),
            ("KONG_MEM_CACHE_SIZE", "128m"),
            ("KONG_DB_UPDATE_FREQUENCY", "10"),
            ("KONG_REAL_IP_HEADER", "{vault://env/header}"),
            ("HEADER", "hunter2"),
        ]);
        assert!(!json!(shown).to_string().contains("hunter2"), "{shown:?}");
        for (name, value) in [
            ("pg_host", json!("db.example.com")),
            ("pg_port", json!(5432)),
            ("pg_user", json!("kong")),
            ("pg_password", json!("******")),
            ("pg_ssl", json!(true)),
            ("pg_ssl_verify", json!(false)),
            ("ssl_cert", json!(["/tls.crt"])),
            ("ssl_cert_key", json!(["******"])),
            ("log_level", json!("notice")),
            ("mem_cache_size", json!("128m")),
            ("db_update_frequency", json!(10.0)),
            ("real_ip_header", json!("******")),
            (
                "proxy_listen",
                json!(["0.0.0.0:8000", "0.0.0.0:8443 ssl backlog=7"]),
            ),
            ("admin_listen", json!(["off"])),
            ("admin_listeners", json!([])),
            ("nginx_worker_processes", json!("auto")),
            ("proxy_ssl_enabled", json!(true)),
        ] {
            assert_eq!(shown[name], value, "{name}");
        }
        let listeners = shown["proxy_listeners"].as_array().unwrap();
        assert_eq!(
            listeners[1],
            json!({
                "ip": "0.0.0.0", "port": 8443, "ssl": true, "http2": false, "deferred": false,
                "bind": false, "reuseport": false, "proxy_protocol": false,
                "listener": "0.0.0.0:8443 ssl backlog=7",
            })
        );
    }
}
