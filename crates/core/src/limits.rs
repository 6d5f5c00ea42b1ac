//! Every limit of the platform with its default. Crossing one is an error the peer sees.

/// Bytes of one HTTP/1 request line or header line (nginx `large_client_header_buffers`, one buffer).
pub const HEAD_LINE_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a whole HTTP/1 request head (four buffers of 8 KiB).
pub const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Bytes of a request head, and of one of its lines, for the identity provider: tokens of people with
/// many roles are long (Keycloak as the platform runs it).
pub const IDENTITY_HEAD_BYTES_MAX: usize = 64 * 1024;
/// Header lines of one request (Kong 3.9.3).
pub const HEADER_LINES_MAX: usize = 1000;
/// Bytes of an upstream's response head.
pub const RESPONSE_HEAD_BYTES_MAX: usize = 64 * 1024;
/// Seconds a client may take to send a request head.
pub const HEAD_TIMEOUT_S: u64 = 60;
/// Seconds a keep-alive connection from a client may idle between requests.
pub const CLIENT_IDLE_TIMEOUT_S: u64 = 75;
/// Requests of one connection from a client (Kong `nginx_http_keepalive_requests`).
pub const CLIENT_REQUESTS_MAX: u64 = 10_000;
/// Seconds after which a connection from a client is closed behind a response (nginx `keepalive_time`).
pub const CLIENT_AGE_MAX_S: u64 = 3600;
/// Connections one listener serves at once; more wait in the accept queue.
pub const CONNECTIONS_MAX: usize = 16 * 1024;
/// Bytes of a request body on the gateway's Admin API (Kong `nginx_admin_client_max_body_size`).
pub const ADMIN_BODY_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Bytes of a request body on OAuth2 protocol endpoints.
pub const TOKEN_BODY_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of a request body on the identity provider's Admin REST API.
pub const REALM_BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes of a proxied request body held in memory for buffering and replay.
pub const BODY_BUFFER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of a bearer token; longer ones are not looked at.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a fetched discovery document or JWK Set.
pub const JWKS_BYTES_MAX: usize = 1024 * 1024;
/// Idle upstream connections kept per target (Kong `upstream_keepalive_pool_size`).
pub const UPSTREAM_IDLE_MAX: usize = 512;
/// Requests sent over one upstream connection (Kong `upstream_keepalive_max_requests`).
pub const UPSTREAM_REQUESTS_MAX: u32 = 10_000;
/// Seconds an idle upstream connection is kept (Kong `upstream_keepalive_idle_timeout`).
pub const UPSTREAM_IDLE_TIMEOUT_S: u64 = 60;
/// Entries of the verified-token cache.
pub const VERIFIED_TOKENS_MAX: usize = 65_536;
/// Bytes of the signed-token cache.
pub const SIGNED_TOKENS_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Largest page an Admin API list returns.
pub const PAGE_SIZE_MAX: u32 = 1000;
/// Page size of an Admin API list without `size`.
pub const PAGE_SIZE_DEFAULT: u32 = 100;
