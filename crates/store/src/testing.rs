//! A throw-away PostgreSQL server for tests.

/// URL of a new, empty database on a throw-away server that this process starts once (as an
/// unprivileged user when run as root) and that ends with it.
///
/// `None` when the server programs are not installed, unless `O28M_TEST_POSTGRES=required`.
///
/// # Panics
/// When the server is required or installed but does not start.
pub async fn postgres_url() -> Option<String> {
    todo!()
}
