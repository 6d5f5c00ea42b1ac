//! Every setting of the process, declared once: the loader, `config check`, `config explain`,
//! `config schema` and the reference in `docs/configuration.md` are all made from this table.

use super::translate;
pub use super::translate::{Foreign, Translate};

/// What a value must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// `true`/`false`, also `on`/`off` as Kong writes them.
    Boolean,
    /// A whole number in a range, both ends included.
    Integer(i64, i64),
    /// A decimal number from 0 to 1.
    Ratio,
    /// A duration such as `500ms`, `5s` or `2m`; a bare number is seconds.
    Duration,
    /// A duration that is not zero.
    PositiveDuration,
    /// `port:listener`, several separated by commas: what clients know the ports of listeners as.
    PortMaps,
    /// `address:port`, `:port` or `off`, with flags, several separated by commas.
    Listen,
    /// Comma separated texts; an array in the file.
    List,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Comma separated words out of these.
    SomeOf(&'static [&'static str]),
    /// A path in the file system.
    Path,
}

/// One setting.
pub struct Setting {
    /// Dotted path, as in the file.
    pub key: &'static str,
    /// What it accepts.
    pub kind: Kind,
    /// Used when nothing sets it; empty means unset.
    pub default: &'static str,
    /// Environment variables of the replaced products that set it, strongest first.
    pub compat: &'static [&'static str],
    /// Puts their values in our words.
    pub translate: Option<Translate>,
    /// Never printed; `<key>_file` names a file that holds it.
    pub secret: bool,
    /// One or two sentences for `config explain` and the reference.
    pub doc: &'static str,
}

const fn setting(
    key: &'static str,
    kind: Kind,
    default: &'static str,
    doc: &'static str,
) -> Setting {
    Setting {
        key,
        kind,
        default,
        compat: &[],
        translate: None,
        secret: false,
        doc,
    }
}

impl Setting {
    const fn compat(mut self, names: &'static [&'static str]) -> Self {
        self.compat = names;
        self
    }

    const fn translated(mut self, translate: Translate) -> Self {
        self.translate = Some(translate);
        self
    }

    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }
}

/// The roles one process can have.
pub const ROLES: &[&str] = &["proxy", "admin", "jumper", "issuer", "identity"];

/// The plugins this build executes; `plugins.enabled` may list any of them.
pub const PLUGINS: &str = "jwt-keycloak,acl,basic-auth,correlation-id,cors,file-log,http-log,ip-restriction,key-auth,opentelemetry,prometheus,rate-limiting,rate-limiting-merged,request-termination,request-transformer,request-size-limiting,response-transformer,tcp-log,udp-log,zipkin";

/// What Kong can make spans of; here those of requests and of attempts to reach the upstream are made.
const INSTRUMENTATIONS: &[&str] = &[
    "off",
    "all",
    "request",
    "balancer",
    "db_query",
    "dns_query",
    "router",
    "http_client",
    "plugin_rewrite",
    "plugin_access",
    "plugin_header_filter",
];

/// What the gateway adds to responses, as Kong names it.
pub const HEADERS: &[&str] = &[
    "server_tokens",
    "latency_tokens",
    "Server",
    "Via",
    "X-Kong-Proxy-Latency",
    "X-Kong-Response-Latency",
    "X-Kong-Admin-Latency",
    "X-Kong-Upstream-Latency",
    "X-Kong-Upstream-Status",
    "X-Kong-Request-Id",
];

/// Types of records, as Kong names them; LAST is the one that was there last time.
const RECORD_TYPES: &[&str] = &["LAST", "SRV", "A", "AAAA", "CNAME"];

/// What the gateway adds to requests, as Kong names it.
pub const HEADERS_UPSTREAM: &[&str] = &["X-Kong-Request-Id"];

/// Media types of error bodies.
const ERROR_TYPES: &[&str] = &[
    "text/plain",
    "text/html",
    "application/json",
    "application/xml",
];

const LEVELS: &[&str] = &["error", "warn", "info", "debug", "trace"];

/// All settings, grouped by section.
pub const SETTINGS: &[Setting] = &[
    setting(
        "node.roles",
        Kind::SomeOf(ROLES),
        "proxy,admin,jumper,issuer,identity",
        "Parts of the platform this process runs.",
    ),
    setting("node.zone", Kind::Text, "default", "Name of the zone this gateway belongs to.")
        .compat(&["JUMPER_ZONE_NAME"]),
    setting(
        "node.worker_threads",
        Kind::Integer(0, 1024),
        "0",
        "Threads of the data plane, each with its own listener socket and upstream pool; 0 is one per core.",
    )
    .compat(&["KONG_NGINX_WORKER_PROCESSES", "KONG_NGINX_MAIN_WORKER_PROCESSES"])
    .translated(translate::workers),
    setting(
        "node.prefix",
        Kind::Path,
        "/usr/local/kong",
        "Working directory of the kong command: its process id, and its log when it runs in the background.",
    )
    .compat(&["KONG_PREFIX"]),
    setting(
        "node.shutdown_delay",
        Kind::Duration,
        "0s",
        "After SIGTERM: time during which readiness is already false but connections are still accepted.",
    )
    .compat(&["KONG_SHUTDOWN_DELAY"]),
    setting(
        "node.drain_timeout",
        Kind::Duration,
        "60s",
        "After the shutdown delay: time for requests in flight to finish. After half of it WebSockets are told to end.",
    )
    .compat(&["KONG_SHUTDOWN_TIMEOUT"]),
    setting(
        "node.trusted_certificates",
        Kind::List,
        "system",
        "PEM files of certificates that this process trusts where nothing else is said, such as for identity providers and collectors of traces; system stands for those of the operating system.",
    )
    .compat(&["KONG_LUA_SSL_TRUSTED_CERTIFICATE"]),
    setting("log.level", Kind::OneOf(LEVELS), "info", "Least severe level that is logged.")
        .compat(&["KONG_LOG_LEVEL", "KC_LOG_LEVEL"])
        .translated(translate::level),
    setting(
        "log.format",
        Kind::OneOf(&["auto", "json", "text"]),
        "auto",
        "Log lines on standard error: json, text, or text on a terminal and json elsewhere.",
    ),
    setting(
        "log.access",
        Kind::Path,
        "",
        "Where the proxy's access log goes: a file, /dev/stdout, or unset for none.",
    )
    .compat(&["KONG_PROXY_ACCESS_LOG"])
    .translated(translate::log_path),
    setting(
        "log.access_format",
        Kind::OneOf(&["platform", "kong"]),
        "platform",
        "Lines of the proxy's access log: the platform's JSON, or the combined format with the id of the request, as Kong's kong_log_format.",
    )
    .compat(&["KONG_PROXY_ACCESS_LOG"])
    .translated(translate::log_format),
    setting(
        "database.url",
        Kind::Text,
        "sqlite:///var/lib/o28m/o28m.db",
        "SQLite file (sqlite:///path) or PostgreSQL (postgres://user:password@host:port/database?sslmode=prefer).",
    )
    .secret(),
    setting(
        "database.schema",
        Kind::Text,
        "o28m",
        "PostgreSQL schema of our tables; never public, so that tables of a former Kong or Keycloak stay untouched.",
    ),
    setting("database.pool_max", Kind::Integer(1, 1000), "16", "Database connections at most.")
        .compat(&["KONG_PG_POOL_SIZE", "KC_DB_POOL_MAX_SIZE"]),
    setting("database.connect_timeout", Kind::Duration, "5s", "Limit for getting a connection.")
        .compat(&["KONG_PG_TIMEOUT"])
        .translated(translate::millis),
    setting(
        "database.migrations",
        Kind::OneOf(&["auto", "off"]),
        "auto",
        "auto creates and extends the tables at start; off only checks them.",
    ),
    setting(
        "gateway.database",
        Kind::OneOf(&["on", "postgres", "sqlite", "off"]),
        "on",
        "off keeps the gateway's entities in memory: they come from gateway.declarative_file and POST /config. Anything else keeps them in the database of database.url. postgres and sqlite have to fit that.",
    )
    .compat(&["KONG_DATABASE"]),
    setting(
        "gateway.declarative_file",
        Kind::Path,
        "",
        "With gateway.database off: entities at start, in Kong's declarative format (YAML or JSON).",
    )
    .compat(&["KONG_DECLARATIVE_CONFIG"]),
    setting(
        "gateway.declarative_config",
        Kind::Text,
        "",
        "With gateway.database off: the entities at start themselves, instead of a file.",
    )
    .compat(&["KONG_DECLARATIVE_CONFIG_STRING"])
    .secret(),
    setting(
        "proxy.headers",
        Kind::SomeOf(HEADERS),
        "server_tokens,latency_tokens,X-Kong-Request-Id",
        "What the gateway adds to responses, as Kong names it; empty for nothing.",
    )
    .compat(&["KONG_HEADERS"])
    .translated(translate::headers),
    setting(
        "proxy.headers_upstream",
        Kind::SomeOf(HEADERS_UPSTREAM),
        "X-Kong-Request-Id",
        "What the gateway adds to requests; empty for nothing, and a client's own X-Kong-Request-Id passes.",
    )
    .compat(&["KONG_HEADERS_UPSTREAM"])
    .translated(translate::headers),
    setting(
        "proxy.server_token",
        Kind::Text,
        "kong/3.9.3",
        "Value of Server; many clients recognise Kong by it.",
    ),
    setting(
        "proxy.keep_identity_headers",
        Kind::Boolean,
        "false",
        "Let clients send X-Consumer-*, X-Credential-Identifier and the like upstream where no plugin sets them, as Kong does: upstreams may take them for proof.",
    ),
    setting(
        "sync.poll_interval",
        Kind::Duration,
        "5s",
        "How often a replica looks for changes when no notification arrives.",
    )
    .compat(&["KONG_DB_UPDATE_FREQUENCY"])
    .translated(translate::seconds),
    setting(
        "sync.strict",
        Kind::Boolean,
        "false",
        "Answer an Admin API write only after this node's data plane has applied it.",
    )
    .compat(&["KONG_WORKER_CONSISTENCY"])
    .translated(translate::consistency),
    setting(
        "proxy.listen",
        Kind::Listen,
        "0.0.0.0:8000",
        "Listeners of the proxy: address:port with Kong's flags such as ssl and http2, separated by commas. http2 on one of them means all.",
    )
    .compat(&["KONG_PROXY_LISTEN"]),
    setting(
        "proxy.tls_listen",
        Kind::Listen,
        "off",
        "Further listeners of the proxy, all with TLS; http2 counts as above.",
    ),
    setting(
        "proxy.tls.cert",
        Kind::List,
        "",
        "PEM certificate chain of the TLS listener, a file or the text itself (also in base64); several, such as one for each kind of key, separated by commas. Without it a self-signed one is made at start.",
    )
    .compat(&["KONG_SSL_CERT"]),
    setting("proxy.tls.key", Kind::List, "", "PEM private key of the TLS listener, one for each certificate, in the same ways.")
        .compat(&["KONG_SSL_CERT_KEY"]),
    setting(
        "proxy.tls.session_tickets",
        Kind::Boolean,
        "true",
        "Let clients of all TLS listeners resume sessions with tickets, whose keys change every six hours.",
    )
    .compat(&["KONG_SSL_SESSION_TICKETS"]),
    setting(
        "proxy.tls.strict_host",
        Kind::Boolean,
        "false",
        "Answer 421 to requests over TLS whose Host is not the name of the handshake, where that has one.",
    ),
    setting(
        "proxy.tls.cipher_suite",
        Kind::OneOf(&["modern", "intermediate", "old", "fips", "custom"]),
        "intermediate",
        "Protocols and ciphers of all TLS listeners: a set of this name, or custom for the two settings below.",
    )
    .compat(&["KONG_SSL_CIPHER_SUITE"]),
    setting(
        "proxy.tls.protocols",
        Kind::Text,
        "TLSv1.2 TLSv1.3",
        "With proxy.tls.cipher_suite custom: TLS protocols. Older ones are left out with a warning.",
    )
    .compat(&["KONG_SSL_PROTOCOLS"]),
    setting(
        "proxy.tls.ciphers",
        Kind::Text,
        "",
        "With proxy.tls.cipher_suite custom: ciphers by their OpenSSL names, with colons between. Those that are not supported are left out with a warning.",
    )
    .compat(&["KONG_SSL_CIPHERS"]),
    setting(
        "proxy.head_line_bytes_max",
        Kind::Integer(1024, 1_048_576),
        "8192",
        "Bytes of one request or header line; more are answered with 414 or 400.",
    )
    .compat(&[
        "KONG_NGINX_PROXY_LARGE_CLIENT_HEADER_BUFFERS",
        "KONG_NGINX_HTTP_LARGE_CLIENT_HEADER_BUFFERS",
    ])
    .translated(translate::buffer_line),
    setting(
        "proxy.head_bytes_max",
        Kind::Integer(1024, 16_777_216),
        "32768",
        "Bytes of all lines of a request's head.",
    )
    .compat(&[
        "KONG_NGINX_PROXY_LARGE_CLIENT_HEADER_BUFFERS",
        "KONG_NGINX_HTTP_LARGE_CLIENT_HEADER_BUFFERS",
    ])
    .translated(translate::buffer_total),
    setting(
        "proxy.head_buffer_bytes",
        Kind::Integer(1, 1_048_576),
        "1024",
        "Bytes of the first buffer of a head: a line that fits in is taken even when it has more than proxy.head_line_bytes_max.",
    )
    .compat(&[
        "KONG_NGINX_PROXY_CLIENT_HEADER_BUFFER_SIZE",
        "KONG_NGINX_HTTP_CLIENT_HEADER_BUFFER_SIZE",
    ])
    .translated(translate::size),
    setting(
        "proxy.body_bytes_max",
        Kind::Integer(0, i64::MAX),
        "0",
        "Bytes of a request body; more are answered with 413. 0 is any number.",
    )
    .compat(&[
        "KONG_NGINX_PROXY_CLIENT_MAX_BODY_SIZE",
        "KONG_NGINX_HTTP_CLIENT_MAX_BODY_SIZE",
        "KONG_CLIENT_MAX_BODY_SIZE",
    ])
    .translated(translate::large_size),
    setting(
        "proxy.head_timeout",
        Kind::PositiveDuration,
        "60s",
        "Time for a TLS handshake, for a header of the PROXY protocol, and for the head of a request; then 408.",
    )
    .compat(&[
        "KONG_NGINX_PROXY_CLIENT_HEADER_TIMEOUT",
        "KONG_NGINX_HTTP_CLIENT_HEADER_TIMEOUT",
    ])
    .translated(translate::time),
    setting(
        "proxy.body_timeout",
        Kind::PositiveDuration,
        "60s",
        "Time between two pieces of a request body; then 408.",
    )
    .compat(&[
        "KONG_NGINX_PROXY_CLIENT_BODY_TIMEOUT",
        "KONG_NGINX_HTTP_CLIENT_BODY_TIMEOUT",
    ])
    .translated(translate::time),
    setting(
        "proxy.send_timeout",
        Kind::PositiveDuration,
        "60s",
        "Time in which a client has to take something of its response.",
    )
    .compat(&["KONG_NGINX_PROXY_SEND_TIMEOUT", "KONG_NGINX_HTTP_SEND_TIMEOUT"])
    .translated(translate::time),
    setting(
        "proxy.keepalive_timeout",
        Kind::Duration,
        "75s",
        "Time between two requests of a connection; 0s closes it after each one.",
    )
    .compat(&["KONG_NGINX_PROXY_KEEPALIVE_TIMEOUT", "KONG_NGINX_HTTP_KEEPALIVE_TIMEOUT"])
    .translated(translate::time),
    setting(
        "proxy.keepalive_requests",
        Kind::Integer(0, 1_000_000_000_000),
        "10000",
        "Requests of one connection; it is closed behind the last one. 0 is as 1.",
    )
    .compat(&["KONG_NGINX_PROXY_KEEPALIVE_REQUESTS", "KONG_NGINX_HTTP_KEEPALIVE_REQUESTS"]),
    setting(
        "proxy.keepalive_time",
        Kind::PositiveDuration,
        "1h",
        "Age of a connection that is closed behind its next response.",
    )
    .compat(&["KONG_NGINX_PROXY_KEEPALIVE_TIME", "KONG_NGINX_HTTP_KEEPALIVE_TIME"])
    .translated(translate::time),
    setting(
        "proxy.connections_max",
        Kind::Integer(1, 1_000_000),
        "16384",
        "Connections that each thread of the data plane serves at once on each listener; more wait until others end.",
    )
    .compat(&["KONG_NGINX_EVENTS_WORKER_CONNECTIONS"])
    .translated(translate::connections),
    setting(
        "proxy.connections_per_address_max",
        Kind::Integer(0, 1_000_000),
        "0",
        "Connections of one client address to all proxy listeners of the process; more are closed at once and counted. An IPv6 network of 64 bits counts as one address; on listeners with proxy_protocol it is that of the header. 0 is any number.",
    ),
    setting(
        "proxy.port_maps",
        Kind::PortMaps,
        "",
        "Ports that clients know those of listeners as, such as 443:8443: in X-Forwarded-Port, for the ports of routes and in logs.",
    )
    .compat(&["KONG_PORT_MAPS"]),
    setting(
        "proxy.charset",
        Kind::Text,
        "UTF-8",
        "Charset of responses in text that name none; off for none.",
    )
    .compat(&["KONG_NGINX_PROXY_CHARSET", "KONG_NGINX_HTTP_CHARSET"]),
    setting(
        "proxy.debug_header",
        Kind::Boolean,
        "false",
        "Tell requests with a header Kong-Debug which route and service they met.",
    )
    .compat(&["KONG_ALLOW_DEBUG_HEADER"]),
    setting(
        "proxy.early_hints",
        Kind::Boolean,
        "false",
        "Pass interim responses of upstreams, such as 103, on to clients; Kong drops them.",
    ),
    setting(
        "proxy.websocket_idle_timeout",
        Kind::PositiveDuration,
        "",
        "How long nothing may move on a WebSocket; unset is the read_timeout of its service.",
    ),
    setting(
        "proxy.errors.default_type",
        Kind::OneOf(ERROR_TYPES),
        "text/plain",
        "Form of errors of the server underneath, such as 502, for requests with neither Accept nor Content-Type.",
    )
    .compat(&["KONG_ERROR_DEFAULT_TYPE"]),
    setting(
        "proxy.errors.template_html",
        Kind::Path,
        "",
        "Form of error bodies in HTML: a file with at most two %s, for the message and the id of the request.",
    )
    .compat(&["KONG_ERROR_TEMPLATE_HTML"]),
    setting("proxy.errors.template_json", Kind::Path, "", "The same in JSON.")
        .compat(&["KONG_ERROR_TEMPLATE_JSON"]),
    setting("proxy.errors.template_xml", Kind::Path, "", "The same in XML.")
        .compat(&["KONG_ERROR_TEMPLATE_XML"]),
    setting("proxy.errors.template_plain", Kind::Path, "", "The same in plain text.")
        .compat(&["KONG_ERROR_TEMPLATE_PLAIN"]),
    setting(
        "proxy.errors.detail",
        Kind::OneOf(&["full", "minimal"]),
        "full",
        "minimal leaves hosts and causes out of messages; the log has them.",
    )
    .compat(&["KONG_ERROR_DETAIL"]),
    setting(
        "proxy.body_memory_bytes_max",
        Kind::Integer(4096, 1_073_741_824),
        "1048576",
        "Bytes of a buffered request body kept in memory; the rest of a larger one goes to an unlinked file.",
    )
    .compat(&[
        "KONG_NGINX_HTTP_CLIENT_BODY_BUFFER_SIZE",
        "KONG_NGINX_PROXY_CLIENT_BODY_BUFFER_SIZE",
        "KONG_CLIENT_BODY_BUFFER_SIZE",
    ])
    .translated(translate::size),
    setting(
        "proxy.trusted_ips",
        Kind::List,
        "",
        "Addresses or CIDR blocks whose X-Forwarded-* headers and client address header are believed.",
    )
    .compat(&["KONG_TRUSTED_IPS"]),
    setting(
        "proxy.real_ip_header",
        Kind::Text,
        "X-Real-IP",
        "Header from which a trusted peer's client address is taken; proxy_protocol takes it from the header of that protocol.",
    )
    .compat(&["KONG_REAL_IP_HEADER", "KONG_NGINX_PROXY_REAL_IP_HEADER"]),
    setting(
        "proxy.real_ip_recursive",
        Kind::Boolean,
        "false",
        "Skip trusted addresses from the right when reading that header.",
    )
    .compat(&["KONG_REAL_IP_RECURSIVE", "KONG_NGINX_PROXY_REAL_IP_RECURSIVE"]),
    setting(
        "proxy.router_flavor",
        Kind::OneOf(&["traditional_compatible", "traditional", "expressions"]),
        "traditional_compatible",
        "How routes are matched, and which fields they have: as Kong since 3.0, as Kong before it, or by expressions as well.",
    )
    .compat(&["KONG_ROUTER_FLAVOR"]),
    setting(
        "proxy.route_match_calculation",
        Kind::OneOf(&["original", "strict"]),
        "original",
        "Which of several matching routes wins: as Kong computes it, or as Kong documents it.",
    )
    .compat(&["KONG_ROUTE_MATCH_CALCULATION"]),
    setting(
        "upstream.tls.verify",
        Kind::Boolean,
        "true",
        "Verify upstream certificates of services that do not set tls_verify.",
    )
    .compat(&["KONG_NGINX_PROXY_PROXY_SSL_VERIFY"]),
    setting(
        "upstream.tls.verify_depth",
        Kind::Integer(0, 64),
        "1",
        "Intermediate certificates at most between an upstream's certificate and a trusted one, for services that do not set tls_verify_depth.",
    )
    .compat(&["KONG_NGINX_PROXY_PROXY_SSL_VERIFY_DEPTH"]),
    setting(
        "upstream.tls.ca",
        Kind::Path,
        "",
        "PEM bundle that services without ca_certificates trust instead of the system's roots.",
    )
    .compat(&["KONG_NGINX_PROXY_PROXY_SSL_TRUSTED_CERTIFICATE"]),
    setting(
        "upstream.tls.cert",
        Kind::Path,
        "",
        "PEM certificate chain that services without client_certificate show to upstreams that ask for one.",
    )
    .compat(&["KONG_CLIENT_SSL_CERT"]),
    setting("upstream.tls.key", Kind::Path, "", "PEM private key of that certificate.")
        .compat(&["KONG_CLIENT_SSL_CERT_KEY"]),
    setting(
        "upstream.tls.client",
        Kind::OneOf(&["auto", "on", "off"]),
        "auto",
        "Whether that certificate is shown: on needs one; auto is on when there is one, but not for one of Kong's settings, which need client_ssl=on.",
    )
    .compat(&["KONG_CLIENT_SSL"])
    .translated(translate::switch),
    setting(
        "upstream.keepalive_max",
        Kind::Integer(0, 65_536),
        "512",
        "Idle connections kept for each upstream by each thread of the data plane; 0 uses a new one for each request.",
    )
    .compat(&["KONG_NGINX_HTTP_UPSTREAM_KEEPALIVE", "KONG_UPSTREAM_KEEPALIVE_POOL_SIZE"])
    .translated(translate::keepalive),
    setting(
        "upstream.hash_without_value",
        Kind::OneOf(&["same", "random"]),
        "same",
        "Where requests go that have nothing to hash, such as no header of that name, with consistent hashing: all to the same target, as in Kong, or at random by weight.",
    ),
    setting(
        "upstream.recovery_time",
        Kind::Duration,
        "0s",
        "How long passive health checks keep a target away before requests try it again: the next failure takes it out anew. 0s keeps it away until it is set healthy through the Admin API, as Kong.",
    ),
    setting(
        "dns.servers",
        Kind::List,
        "",
        "Name servers to ask, as address or address:port; without any, those of /etc/resolv.conf, whose search domains and options count in either case.",
    )
    .compat(&["KONG_DNS_RESOLVER", "KONG_RESOLVER_ADDRESS"]),
    setting(
        "dns.hosts_file",
        Kind::Path,
        "/etc/hosts",
        "Names with addresses that no server is asked for; read again when it changes.",
    )
    .compat(&["KONG_DNS_HOSTSFILE", "KONG_RESOLVER_HOSTS_FILE"]),
    setting(
        "dns.family",
        Kind::SomeOf(&["A", "AAAA", "SRV"]),
        "A,AAAA,SRV",
        "What names are asked for: addresses of both families at once, of which the first one is preferred, and services where a name has the form _service._protocol.name.",
    )
    .compat(&["KONG_RESOLVER_FAMILY"])
    .translated(translate::upper),
    setting(
        "dns.order",
        Kind::SomeOf(RECORD_TYPES),
        "",
        "Ask for one type of records after the other, as Kong does, instead of dns.family. With SRV in it every name costs a question for services.",
    )
    .compat(&["KONG_DNS_ORDER"])
    .translated(translate::upper),
    setting(
        "dns.valid_ttl",
        Kind::Duration,
        "",
        "How long answers are used, instead of the time to live of their records.",
    )
    .compat(&["KONG_DNS_VALID_TTL", "KONG_RESOLVER_VALID_TTL"])
    .translated(translate::ttl),
    setting(
        "dns.stale_ttl",
        Kind::Duration,
        "3600s",
        "How long an answer that is out of date is used while servers do not answer.",
    )
    .compat(&["KONG_DNS_STALE_TTL", "KONG_RESOLVER_STALE_TTL"])
    .translated(translate::ttl),
    setting(
        "dns.not_found_ttl",
        Kind::Duration,
        "30s",
        "How long it is remembered that a name is not there, unless its zone says less.",
    )
    .compat(&["KONG_DNS_NOT_FOUND_TTL"])
    .translated(translate::ttl),
    setting(
        "dns.error_ttl",
        Kind::Duration,
        "1s",
        "How long it is remembered that servers could not tell.",
    )
    .compat(&["KONG_DNS_ERROR_TTL", "KONG_RESOLVER_ERROR_TTL"])
    .translated(translate::ttl),
    setting("dns.cache_size", Kind::Integer(1, 1_000_000), "10000", "Names remembered.")
        .compat(&["KONG_DNS_CACHE_SIZE", "KONG_RESOLVER_LRU_CACHE_SIZE"]),
    setting(
        "dns.no_sync",
        Kind::Boolean,
        "false",
        "Let requests for the same name each ask on their own instead of sharing one look-up.",
    )
    .compat(&["KONG_DNS_NO_SYNC"]),
    setting(
        "upstream.keepalive_requests",
        Kind::Integer(0, 4_294_967_295),
        "10000",
        "Requests of one connection to an upstream; 0 is any number.",
    )
    .compat(&["KONG_UPSTREAM_KEEPALIVE_MAX_REQUESTS"]),
    setting(
        "upstream.keepalive_idle_timeout",
        Kind::Duration,
        "60s",
        "How long a connection to an upstream is kept idle; 0s is as long as the upstream does.",
    )
    .compat(&["KONG_UPSTREAM_KEEPALIVE_IDLE_TIMEOUT"])
    .translated(translate::whole_seconds),
    setting(
        "upstream.request_timeout",
        Kind::PositiveDuration,
        "",
        "Limit for all attempts of a request together, until the response head; then 504. Unset is none: retries times read_timeout.",
    ),
    setting(
        "upstream.retry_ratio",
        Kind::Ratio,
        "",
        "Retries as a part of all requests, in the long run: 0.2 affords one for every five requests, with ten in reserve. Unset is any number.",
    ),
    setting(
        "plugins.enabled",
        Kind::List,
        PLUGINS,
        "Plugins that may be configured; bundled stands for all that this build executes, others are left out with a warning.",
    )
    .compat(&["KONG_PLUGINS"])
    .translated(translate::list_or_off),
    setting(
        "tracing.instrumentations",
        Kind::SomeOf(INSTRUMENTATIONS),
        "off",
        "What plugin opentelemetry makes spans of: request and balancer, or all; others are known but have no spans. With off it only passes trace headers on.",
    )
    .compat(&["KONG_TRACING_INSTRUMENTATIONS", "KONG_OPENTELEMETRY_TRACING"]),
    setting(
        "tracing.sampling_rate",
        Kind::Ratio,
        "0.01",
        "Part of all traces that plugin opentelemetry exports, unless an instance has a sampling_rate.",
    )
    .compat(&["KONG_TRACING_SAMPLING_RATE", "KONG_OPENTELEMETRY_TRACING_SAMPLING_RATE"]),
    setting(
        "jwt.blocked_issuers",
        Kind::List,
        "",
        "Issuers whose tokens jwt-keycloak refuses on every route.",
    )
    .compat(&["JWT_KEYCLOAK_BLOCKED_ISSUERS"]),
    setting(
        "jwt.priority",
        Kind::Integer(-1_000_000, 1_000_000),
        "",
        "Overrides the priority 1005 of jwt-keycloak.",
    )
    .compat(&["JWT_KEYCLOAK_PRIORITY"]),
    setting(
        "admin.listen",
        Kind::Listen,
        "127.0.0.1:8001",
        "Listeners of the gateway's Admin API; without admin.htpasswd_file only loopback is accepted.",
    )
    .compat(&["KONG_ADMIN_LISTEN"]),
    setting(
        "admin.tls.cert",
        Kind::List,
        "",
        "PEM certificate chain of the Admin API's ssl listeners; without it a self-signed one is made at start.",
    )
    .compat(&["KONG_ADMIN_SSL_CERT"]),
    setting("admin.tls.key", Kind::List, "", "PEM private key of those listeners.")
        .compat(&["KONG_ADMIN_SSL_CERT_KEY"]),
    setting(
        "admin.access_log",
        Kind::Path,
        "",
        "Where the Admin API's JSON access log goes: a file, /dev/stdout, or unset for none.",
    )
    .compat(&["KONG_ADMIN_ACCESS_LOG"])
    .translated(translate::log_path),
    setting(
        "admin.allow_unauthenticated",
        Kind::Boolean,
        "false",
        "Listen for the Admin API beyond loopback although everyone who reaches it may reconfigure the gateway.",
    ),
    setting(
        "admin.htpasswd_file",
        Kind::Path,
        "",
        "Users of the Admin API (htpasswd format); read again when it changes.",
    ),
    setting(
        "admin.target_post",
        Kind::OneOf(&["idempotent", "always200", "kong39"]),
        "idempotent",
        "POST of an upstream's target: 201 and 200 when it is there already; always 200, which the control plane needs; or 409 when it is there already, as Kong 3.9.",
    ),
    setting(
        "admin.read_only_users",
        Kind::List,
        "",
        "Users of admin.htpasswd_file who may only read; they see no private keys, passwords and other secrets.",
    ),
    setting(
        "admin.audit_log",
        Kind::Path,
        "",
        "Where a JSON line for each change by the Admin API goes, with who made it and what changed, without secrets: a file, /dev/stdout, or unset for none.",
    ),
    setting(
        "admin.gui_url",
        Kind::List,
        "",
        "URLs of pages whose scripts may use the Admin API; without any, every page may, as in Kong.",
    )
    .compat(&["KONG_ADMIN_GUI_URL"]),
    setting(
        "admin.kong_version",
        Kind::Text,
        "3.9.3",
        "Version of Kong that the Admin API claims; clients such as decK choose by it what they use.",
    ),
    setting(
        "admin.body_bytes_max",
        Kind::Integer(1024, 1_073_741_824),
        "10485760",
        "Bytes of a request body on the Admin API.",
    )
    .compat(&["KONG_NGINX_ADMIN_CLIENT_MAX_BODY_SIZE"])
    .translated(translate::size),
    setting(
        "status.ready_needs_database",
        Kind::Boolean,
        "false",
        "Not ready while the database cannot be reached, as Kong; otherwise the configuration in use goes on being served.",
    ),
    setting(
        "status.listen",
        Kind::Listen,
        "0.0.0.0:8100",
        "Listeners of /status and /status/ready.",
    )
    .compat(&["KONG_STATUS_LISTEN"]),
    setting(
        "status.tls.cert",
        Kind::List,
        "",
        "PEM certificate chain of the status listener with ssl; without it a self-signed one is made at start.",
    )
    .compat(&["KONG_STATUS_SSL_CERT"]),
    setting("status.tls.key", Kind::List, "", "PEM private key of that listener.")
        .compat(&["KONG_STATUS_SSL_CERT_KEY"]),
    setting("metrics.listen", Kind::Listen, "0.0.0.0:9542", "Listener of the Prometheus metrics."),
    setting("metrics.path", Kind::Text, "/metrics", "The only path of the metrics listener."),
    setting("jumper.listen", Kind::Listen, "127.0.0.1:8080", "Listener of the token gateway."),
    setting(
        "jumper.issuer_url",
        Kind::Text,
        "http://127.0.0.1:8000/auth/realms",
        "Prefix of the iss claim in gateway tokens, without the realm.",
    )
    .compat(&["JUMPER_ISSUER_URL"]),
    setting(
        "jumper.stargate_url",
        Kind::Text,
        "",
        "Public URL of this gateway, as originStargate names it.",
    )
    .compat(&["STARGATE_URL"]),
    setting(
        "jumper.internet_facing_zones",
        Kind::List,
        "space,canis,aries",
        "Zones whose consumers come from the internet.",
    )
    .compat(&["JUMPER_INTERNET_FACING_ZONES"]),
    setting("jumper.name", Kind::Text, "jumper", "Name of the service in error bodies.")
        .compat(&["JUMPER_NAME"]),
    setting(
        "jumper.certificate_validation",
        Kind::OneOf(&["strict", "insecure"]),
        "strict",
        "strict verifies certificates of providers and identity providers; insecure, the original's default, accepts any.",
    )
    .compat(&["JUMPER_SSL_CERTIFICATE_VALIDATION_MODE"]),
    setting(
        "jumper.plaintext_validation",
        Kind::OneOf(&["insecure", "warn", "strict"]),
        "insecure",
        "Providers without TLS: insecure lets them pass, warn logs and counts, strict answers 502.",
    )
    .compat(&["JUMPER_SSL_PLAINTEXT_VALIDATION_MODE"]),
    setting(
        "jumper.trusted_proxies",
        Kind::Text,
        "",
        "Regular expression over peer addresses whose X-Forwarded-* headers pass; unset is loopback.",
    )
    .compat(&["SPRING_CLOUD_GATEWAY_SERVER_WEBFLUX_TRUSTED_PROXIES"]),
    setting("jumper.connect_timeout", Kind::Duration, "10s", "Limit for connecting to a provider."),
    setting(
        "jumper.response_timeout",
        Kind::Duration,
        "61s",
        "Limit for a provider's response head after the request was sent.",
    ),
    setting(
        "jumper.verbose_errors",
        Kind::Boolean,
        "true",
        "Name the cause of transport errors in error bodies, as the original does.",
    ),
    setting(
        "jumper.publish_event_url",
        Kind::Text,
        "http://producer.stage:8080/v1/events",
        "Where events about listened traffic go.",
    )
    .compat(&["PUBLISH_EVENT_URL"]),
    setting(
        "jumper.zone_health.enabled",
        Kind::Boolean,
        "false",
        "Follow the health of other zones on a Redis channel, for failover.",
    )
    .compat(&["ZONE_HEALTH_ENABLED"]),
    setting(
        "jumper.zone_health.default",
        Kind::Boolean,
        "true",
        "Health of zones that nothing is known about.",
    )
    .compat(&["ZONE_HEALTH_DEFAULT"]),
    setting("jumper.zone_health.host", Kind::Text, "localhost", "Host of that Redis server.")
        .compat(&["ZONE_HEALTH_DATABASE_HOST"]),
    setting("jumper.zone_health.port", Kind::Integer(1, 65_535), "6379", "Its port.")
        .compat(&["ZONE_HEALTH_DATABASE_PORT"]),
    setting("jumper.zone_health.index", Kind::Integer(0, 1_000), "2", "Its database.")
        .compat(&["ZONE_HEALTH_DATABASE_INDEX"]),
    setting("jumper.zone_health.password", Kind::Text, "", "Its password.")
        .compat(&["ZONE_HEALTH_DATABASE_PASSWORD"])
        .secret(),
    setting(
        "jumper.zone_health.channel",
        Kind::Text,
        "stargate-zone-status",
        "Channel of the news about zones.",
    )
    .compat(&["ZONE_HEALTH_KEY_CHANNEL"]),
    setting(
        "jumper.zone_health.connect_timeout_ms",
        Kind::Integer(1, 600_000),
        "500",
        "Milliseconds: limit for connecting to it.",
    )
    .compat(&["ZONE_HEALTH_DATABASE_CONNECTTIMEOUT"]),
    setting(
        "jumper.zone_health.timeout_ms",
        Kind::Integer(1, 600_000),
        "500",
        "Milliseconds: limit for its replies.",
    )
    .compat(&["ZONE_HEALTH_DATABASE_TIMEOUT"]),
    setting(
        "jumper.zone_health.probe_interval_ms",
        Kind::Integer(1, 3_600_000),
        "5000",
        "Milliseconds between two probes of a silent connection to it.",
    )
    .compat(&["ZONE_HEALTH_REQUEST_GET_RATE", "ZONE_HEALTH_REQUEST_RATE"]),
    setting("issuer.listen", Kind::Listen, "127.0.0.1:8081", "Listener of the issuer."),
    setting("issuer.base_path", Kind::Text, "/api/v1", "Path prefix of the issuer's short routes.")
        .compat(&["API_BASE_PATH"]),
    setting(
        "issuer.path_prefix",
        Kind::Text,
        "",
        "Inserted after the host in discovery documents, such as /spacegate.",
    )
    .compat(&["PATH_PREFIX"]),
    setting(
        "issuer.public_url",
        Kind::Text,
        "",
        "Issuer URL without the realm; wins over X-Forwarded-Host, which clients can set.",
    ),
    setting(
        "keys.provider",
        Kind::OneOf(&["database", "directory"]),
        "database",
        "Where the gateway's signing keys live.",
    ),
    setting(
        "keys.dir",
        Kind::Path,
        "",
        "Directory with {next-,,prev-}tls.{crt,key,kid}, as the rotated Kubernetes secret is mounted.",
    )
    .compat(&["CERT_MOUNT_PATH"]),
    setting(
        "keys.rotation_interval",
        Kind::Duration,
        "720h",
        "Age at which signing keys in the database are rotated, by one of all replicas; 0s is never. Keys in a directory are rotated by who writes it.",
    ),
    setting(
        "keys.reload_interval",
        Kind::Duration,
        "10s",
        "How often signing keys are read again.",
    )
    .compat(&["CERT_UPDATE_INTERVAL"]),
    setting("identity.listen", Kind::Listen, "0.0.0.0:8180", "Listener of the identity provider.")
        .compat(&["KC_HTTP_PORT"])
        .translated(translate::port),
    setting(
        "identity.management_listen",
        Kind::Listen,
        "0.0.0.0:9000",
        "Listener of the identity provider's health and metrics; never expose it.",
    )
    .compat(&["KC_HTTP_MANAGEMENT_PORT"])
    .translated(translate::port),
    setting(
        "identity.relative_path",
        Kind::Text,
        "/auth",
        "Path under which the identity provider is served.",
    )
    .compat(&["KC_HTTP_RELATIVE_PATH"]),
    setting(
        "identity.hostname",
        Kind::Text,
        "",
        "Public URL of the identity provider, or only its host name; unset takes it from each request.",
    )
    .compat(&["KC_HOSTNAME"]),
    setting(
        "identity.proxy_headers",
        Kind::OneOf(&["off", "xforwarded"]),
        "off",
        "Believe X-Forwarded-* on the identity provider's listener.",
    )
    .compat(&["KC_PROXY_HEADERS"]),
    setting(
        "identity.client_auth_metrics",
        Kind::Boolean,
        "false",
        "Count how clients authenticate with their secrets, by client, realm and path.",
    )
    .compat(&["CLIENT_AUTH_METHOD_METRICS_ENABLED"]),
    setting(
        "identity.admin_user",
        Kind::Text,
        "",
        "Administrator made in the master realm when there is none yet.",
    )
    .compat(&["KC_BOOTSTRAP_ADMIN_USERNAME", "KEYCLOAK_ADMIN"]),
    setting("identity.admin_password", Kind::Text, "", "Password of that administrator.")
        .compat(&["KC_BOOTSTRAP_ADMIN_PASSWORD", "KEYCLOAK_ADMIN_PASSWORD"])
        .secret(),
    setting(
        "identity.admin_client_id",
        Kind::Text,
        "",
        "Client with the rights of an administrator, made in the master realm as long as nobody is there.",
    )
    .compat(&["KC_BOOTSTRAP_ADMIN_CLIENT_ID"]),
    setting("identity.admin_client_secret", Kind::Text, "", "Secret of that client.")
        .compat(&["KC_BOOTSTRAP_ADMIN_CLIENT_SECRET"])
        .secret(),
    setting(
        "identity.import_dir",
        Kind::Path,
        "",
        "Directory with realms in Keycloak's JSON (`*.json`); those that do not exist yet are made at start. `${NAME}` in a file stands for an environment variable.",
    ),
];

/// The setting of that key.
#[must_use]
pub fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}
